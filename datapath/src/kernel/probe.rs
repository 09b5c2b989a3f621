//! What the kernel's datapath can do, found out by trying it.
//!
//! A feature of keys or actions is there if a flow with it can be put and found again; what shows when it runs only is tried
//! on a packet. The flows match what no traffic is, and are removed at once. The log says what was found, in OVS's words.

use flow::action::{Action, Ct, hash_alg};
use flow::compose::{Payload, compose};
use flow::drop::DropReason;
use flow::id::DpPort;
use flow::key::{Key, MAX_MPLS, MAX_VLANS, VLAN_CFI, Vlan};
use flow::odp::{EthernetKey, KeyAttr, NdExtKey, OdpSupport, Params, RawKey, key_from_flow};
use flow::proto::{ct, ethertype, ip};
use flow::stack::MPLS_BOS;
use sys::errno::Errno;

use super::requests::Requests;
use crate::flow::{Execute, FlowDel, FlowGet, FlowPut, PutFlags};
use crate::{Features, PmdId};

/// Samples within samples that are tried.
const MAX_SAMPLE_NESTING: usize = 10;
/// Samples within samples that every kernel runs.
const MIN_SAMPLE_NESTING: usize = 3;
/// An Ethernet type that no traffic has.
const BOGUS: u16 = 0x1234;
/// Bytes of the longest cookie of `psample`.
const PSAMPLE_COOKIE: usize = 16;
/// `EOVERFLOW`, which says that actions are too long.
const EOVERFLOW: Errno = Errno(75);

/// A datapath that matches nothing but what every datapath does.
const NOTHING: OdpSupport = OdpSupport {
    max_vlan_headers: 0,
    max_mpls_depth: 0,
    recirc: false,
    ct_state: false,
    ct_zone: false,
    ct_mark: false,
    ct_label: false,
    ct_state_nat: false,
    ct_orig_tuple: false,
    ct_orig_tuple6: false,
    nd_ext: false,
};

/// Tries everything, in the order in which OVS does.
pub(super) fn features(requests: &Requests) -> Features {
    let probe = Probe { requests };
    let recirc = probe.recirc();
    let max_vlan_headers = probe.vlans();
    let max_mpls_depth = probe.mpls();
    let masked_set_action = probe.masked_set();
    let trunc = probe.told("truncate action", probe.runs(&[Action::Trunc(15), Action::Output(DpPort(1))]));
    let ufid = probe.ufid();
    let clone = probe.told("clone action", probe.runs(&[Action::Clone(Vec::new())]));
    let sample_nesting = probe.samples();
    let eventmask = Ct { eventmask: Some(u32::MAX), ..Ct::default() };
    let ct_eventmask = probe.told("eventmask in conntrack action", probe.tracks(eventmask));
    let ct_clear = probe.acts("ct_clear", 0, Action::CtClear);
    let max_hash_alg = probe.hashes();
    let length = Action::CheckPktLen { len: 100, greater: Vec::new(), less_equal: Vec::new() };
    let check_pkt_len = probe.acts("check_pkt_len", 0, length);
    let timeout = Ct { timeout: Some("ovs_test_tp".to_owned()), ..Ct::default() };
    let ct_timeout = probe.told("timeout policy in conntrack action", probe.tracks(timeout));
    let dropped = probe.installs("drop", &probe.bogus(), &[Action::Drop(DropReason::Pipeline)], None);
    probe.say(&format!("{} explicit drop action", verb(dropped)));
    // The kernel's connection tracker has it since long.
    probe.say("supports ct_zero_snat");
    let mpls = Action::AddMpls { lse: 0.into(), ethertype: ethertype::MPLS.into(), flags: 0 };
    let add_mpls = probe.acts("add_mpls", 0, mpls);
    let psample = Action::Psample { group: 10, cookie: vec![0x5a; PSAMPLE_COOKIE] };
    let psample = probe.acts("psample", BOGUS, psample);
    let fields = probe.fields();
    let [ct_state, ct_zone, ct_mark, ct_label, ct_state_nat, ct_orig_tuple, ct_orig_tuple6] = fields;
    let nd_ext = probe.nd_extensions();
    Features {
        masked_set_action,
        tnl_push_pop: false,
        ufid,
        trunc,
        clone,
        sample_nesting,
        ct_eventmask,
        ct_clear,
        max_hash_alg,
        check_pkt_len,
        ct_timeout,
        explicit_drop_action: dropped,
        lb_output_action: false,
        ct_zero_snat: true,
        add_mpls,
        psample,
        max_vlan_headers,
        max_mpls_depth,
        recirc,
        ct_state,
        ct_zone,
        ct_mark,
        ct_label,
        ct_state_nat,
        ct_orig_tuple,
        ct_orig_tuple6,
        nd_ext,
        conntrack: ct_state,
        meters: false,
    }
}

fn verb(supported: bool) -> &'static str {
    if supported { "supports" } else { "does not support" }
}

fn key_of(key: &Key, support: OdpSupport) -> RawKey {
    let support = OdpSupport { max_vlan_headers: usize::MAX, max_mpls_depth: usize::MAX, ..support };
    key_from_flow(&Params::new(key, &support))
}

struct Probe<'a> {
    requests: &'a Requests,
}

impl Probe<'_> {
    fn say(&self, what: &str) {
        tracing::info!(target: "ofproto_dpif", "system@{}: Datapath {what}", self.requests.name);
    }

    /// Says whether the datapath has a feature; gives it back.
    fn told(&self, feature: &str, supported: bool) -> bool {
        self.say(&format!("{} {feature}", verb(supported)));
        supported
    }

    fn empty(&self) -> RawKey {
        key_of(&Key::default(), NOTHING)
    }

    fn bogus(&self) -> RawKey {
        key_of(&Key { dl_type: BOGUS.into(), ..Key::default() }, NOTHING)
    }

    /// Whether a flow can be put and found again. `MODIFY` is for one that a daemon left that was killed just now.
    fn installs(
        &self,
        feature: &str,
        key: &RawKey,
        actions: &[Action],
        ufid: Option<flow::id::Ufid>,
    ) -> bool {
        let name = &self.requests.name;
        let put = FlowPut {
            flags: PutFlags::CREATE | PutFlags::MODIFY | PutFlags::PROBE,
            key,
            mask: None,
            ufid,
            pmd: PmdId::NONE,
            actions,
        };
        if let Err(error) = self.requests.put(&put, false) {
            if !matches!(error.errno(), Errno::EINVAL | EOVERFLOW) {
                tracing::warn!(target: "dpif", "system@{name}: {feature} flow probe failed ({error})");
            }
            return false;
        }
        let found = self.requests.get(&FlowGet { key, ufid, pmd: PmdId::NONE });
        let fits = found.is_ok_and(|flow| ufid.is_none_or(|ufid| flow.ufid_present && flow.ufid == ufid));
        let del = FlowDel { key, ufid, pmd: PmdId::NONE, terse: false };
        if let Err(error) = self.requests.del(&del) {
            tracing::warn!(
                target: "dpif",
                "system@{name}: failed to delete {feature} feature probe flow ({error})"
            );
        }
        fits
    }

    /// Whether a flow with an action can be put; says so.
    fn acts(&self, feature: &str, dl_type: u16, action: Action) -> bool {
        let key = key_of(&Key { dl_type: dl_type.into(), ..Key::default() }, NOTHING);
        let supported = self.installs(feature, &key, &[action], None);
        self.told(&format!("{feature} action"), supported)
    }

    /// Whether actions can be run on a packet.
    fn runs(&self, actions: &[Action]) -> bool {
        let mut packet = [0; 14];
        packet[12..].copy_from_slice(&BOGUS.to_be_bytes());
        self.runs_on(&packet, actions)
    }

    fn runs_on(&self, packet: &[u8], actions: &[Action]) -> bool {
        let key = Key::default();
        let execute = Execute { packet, key: &key, actions, probe: true, mtu: 0, hash: 0 };
        self.requests.execute(&execute).is_ok()
    }

    /// Whether a kind of connection tracking is run. The addresses are those of no real connection; nothing is committed.
    fn tracks(&self, action: Ct) -> bool {
        let key = Key {
            dl_type: ethertype::IPV4.into(),
            nw_proto: ip::UDP,
            nw_ttl: 64,
            nw_src: 0x7fff_ffff.into(),
            nw_dst: 0x7fff_ffff.into(),
            ..Key::default()
        };
        self.runs_on(&compose(&key, Payload::Len(64)), &[Action::Ct(action)])
    }

    fn recirc(&self) -> bool {
        let key = Key { recirc_id: 1, dp_hash: 1, ..Key::default() };
        let raw = key_of(&key, OdpSupport { recirc: true, ..NOTHING });
        self.told("recirculation", self.installs("recirculation", &raw, &[], None))
    }

    fn ufid(&self) -> bool {
        let raw = self.bogus();
        let supported = self.installs("UFID", &raw, &[], Some(crate::ufid_of(&raw.0)));
        self.told("unique flow ids", supported)
    }

    fn vlans(&self) -> usize {
        let mut key = Key { dl_type: ethertype::IPV4.into(), ..Key::default() };
        let n = (0..MAX_VLANS)
            .take_while(|depth| {
                key.vlans[*depth] = Vlan { tpid: ethertype::VLAN.into(), tci: (1 | VLAN_CFI).into() };
                self.installs("VLAN", &key_of(&key, NOTHING), &[], None)
            })
            .count();
        tracing::info!(
            target: "ofproto_dpif",
            "system@{}: VLAN header stack length probed as {n}", self.requests.name
        );
        n
    }

    fn mpls(&self) -> usize {
        let n = (0..MAX_MPLS)
            .take_while(|depth| {
                let mut key = Key { dl_type: ethertype::MPLS.into(), ..Key::default() };
                key.mpls_lse[*depth] = MPLS_BOS.into();
                self.installs("MPLS", &key_of(&key, NOTHING), &[], None)
            })
            .count();
        tracing::info!(
            target: "ofproto_dpif",
            "system@{}: MPLS label stack length probed as {n}", self.requests.name
        );
        n
    }

    fn masked_set(&self) -> bool {
        let filled = |byte| EthernetKey { src: [byte; 6], dst: [byte; 6] };
        let (value, mask) = (filled(0x53), filled(0x7f));
        let set = Action::SetMasked(KeyAttr::Ethernet(value), KeyAttr::Ethernet(mask));
        let supported = self.runs(&[set]);
        if !supported {
            tracing::info!(
                target: "ofproto_dpif",
                "system@{}: datapath does not support masked set action feature.", self.requests.name
            );
        }
        supported
    }

    fn nd_extensions(&self) -> bool {
        let filled = |byte| NdExtKey {
            reserved: u32::from_ne_bytes([byte; 4]).into(),
            options_type: byte,
            pad: [byte; 3],
        };
        let (value, mask) = (filled(0x53), filled(0x7f));
        let set = Action::SetMasked(KeyAttr::NdExt(value), KeyAttr::NdExt(mask));
        self.told("IPv6 ND Extensions", self.runs(&[set]))
    }

    fn samples(&self) -> usize {
        let key = self.empty();
        let nested = |depth: usize| {
            (0..depth).fold(Action::Output(DpPort(1)), |inner, _| Action::Sample {
                probability: u32::MAX,
                actions: vec![inner],
            })
        };
        let more = (MIN_SAMPLE_NESTING..MAX_SAMPLE_NESTING)
            .take_while(|depth| self.installs("Sample action nesting", &key, &[nested(*depth)], None))
            .count();
        let n = MIN_SAMPLE_NESTING + more;
        tracing::info!(
            target: "ofproto_dpif",
            "system@{}: Max sample nesting level probed as {n}", self.requests.name
        );
        n
    }

    fn hashes(&self) -> u32 {
        let hash = Action::Hash { alg: hash_alg::SYM_L4, basis: 0 };
        let supported = self.installs("Max dp_hash algorithm", &self.empty(), &[hash], None);
        let max = if supported { hash_alg::SYM_L4 } else { hash_alg::L4 };
        tracing::info!(
            target: "ofproto_dpif",
            "system@{}: Max dp_hash algorithm probed to be {max}", self.requests.name
        );
        max
    }

    /// Which fields of connection tracking flows can match.
    fn fields(&self) -> [bool; 7] {
        let v4 = Key { dl_type: ethertype::IPV4.into(), ..Key::default() };
        let v6 = Key { dl_type: ethertype::IPV6.into(), ..Key::default() };
        let mut label = [0; 16];
        label[15] = 1;
        let state = OdpSupport { ct_state: true, ..NOTHING };
        let rows = [
            ("ct_state", Key { ct_state: 1, ..v4 }, state),
            ("ct_zone", Key { ct_zone: 1, ..v4 }, OdpSupport { ct_zone: true, ..NOTHING }),
            ("ct_mark", Key { ct_mark: 1, ..v4 }, OdpSupport { ct_mark: true, ..NOTHING }),
            ("ct_label", Key { ct_label: label, ..v4 }, OdpSupport { ct_label: true, ..NOTHING }),
            ("ct_state_nat", Key { ct_state: ct::TRACKED | ct::SRC_NAT, ..v4 }, state),
            ("ct_orig_tuple", Key { ct_nw_proto: 1, ..v4 }, OdpSupport { ct_orig_tuple: true, ..NOTHING }),
            ("ct_orig_tuple6", Key { ct_nw_proto: 1, ..v6 }, OdpSupport { ct_orig_tuple6: true, ..NOTHING }),
        ];
        rows.map(|(name, key, support)| {
            self.told(name, self.installs(name, &key_of(&key, support), &[], None))
        })
    }
}
