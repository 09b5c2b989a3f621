//! What a flow matches as what a rule matches.
//!
//! Each step takes what it lowered out of a copy of the mask; what stays in it at the end cannot be matched.

use flow::field::{Field, Value};
use flow::key::{Key, MAX_MPLS, MAX_VLANS, Mask, VLAN_CFI, frag, tnl_flags};
use flow::odp::attrs::ct_state;
use flow::proto::{ethertype, ip};
use zerocopy::big_endian::U32;

use super::is_tunneled;
use crate::fields::{self, ROWS};
use crate::rule::{Support, Unsupported};
use crate::tc::ETH_P_ALL;
use crate::tc::key::{FlowerKey, KeyField, Lse, ct_flags, enc_flags, flags};
use crate::tc::options::{EncOpts, Erspan, GBP_BITS, GeneveOpt};

/// Bits of `ct_state` as the datapath and as rules have them.
pub(crate) const CT_STATES: [(u32, u16); 6] = [
    (ct_state::NEW, ct_flags::NEW),
    (ct_state::ESTABLISHED, ct_flags::ESTABLISHED),
    (ct_state::RELATED, ct_flags::RELATED),
    (ct_state::REPLY_DIR, ct_flags::REPLY),
    (ct_state::INVALID, ct_flags::INVALID),
    (ct_state::TRACKED, ct_flags::TRACKED),
];

/// Flags of tunnels as keys and as rules have them.
pub(crate) const ENC_FLAGS: [(u16, u32); 3] = [
    (tnl_flags::OAM, enc_flags::OAM),
    (tnl_flags::DONT_FRAGMENT, enc_flags::DONT_FRAGMENT),
    (tnl_flags::CSUM, enc_flags::CSUM),
];

struct Matching<'a> {
    key: &'a Key,
    mask: &'a Mask,
    /// What is not lowered yet.
    rest: Mask,
    out: FlowerKey,
    support: &'a Support,
}

/// The EtherType that packets are looked at by, and the rest of the match.
pub fn lower(key: &Key, mask: &Mask, support: &Support) -> Result<(u16, FlowerKey), Unsupported> {
    let mut matching = Matching { key, mask, rest: *mask, out: FlowerKey::default(), support };
    matching.metadata();
    matching.tunnel()?;
    let protocol = matching.link()?;
    matching.network()?;
    matching.rows();
    matching.conntrack()?;
    match leftover(&matching.rest) {
        Some(name) => Err(Unsupported::Match(name)),
        None => Ok((protocol, matching.out)),
    }
}

/// What a mask still asks for.
fn leftover(rest: &Mask) -> Option<&'static str> {
    if rest.is_catch_all() {
        return None;
    }
    let tunnel = &rest.0.tunnel;
    let nameless = [
        (tunnel.tp_src.get() != 0 || tunnel.tp_dst.get() != 0, "tunnel ports"),
        (tunnel.flags != 0, "tun_flags"),
        (tunnel.opts.iter().any(|byte| *byte != 0) || tunnel.opt_present != 0, "tunnel options"),
    ];
    let field = Field::ALL.iter().find(|field| !field.is_tun_metadata() && !field.is_wild(rest));
    let named = field.map(|field| field.name());
    named
        .or_else(|| nameless.iter().find(|(there, _)| *there).map(|(_, name)| *name))
        .or(Some("other fields"))
}

/// Whether all bits, or none, of a part of a field matter.
fn whole(mask: u32, part: u32, name: &'static str) -> Result<bool, Unsupported> {
    match mask & part {
        0 => Ok(false),
        bits if bits == part => Ok(true),
        _ => Err(Unsupported::Partial(name)),
    }
}

impl Matching<'_> {
    /// Where the packet came in and in which chain is known from where the rule is.
    fn metadata(&mut self) {
        let rest = &mut self.rest.0;
        (rest.in_port, rest.recirc_id) = (0, 0);
        if self.key.packet_type.get() == 0 {
            rest.packet_type = U32::ZERO;
        }
        // Marks are of use to those who set them, and who does not is not to pay for that.
        if self.key.pkt_mark == 0 && self.mask.0.pkt_mark == u32::MAX {
            rest.pkt_mark = 0;
        }
    }

    fn tunnel(&mut self) -> Result<(), Unsupported> {
        if !is_tunneled(self.key) {
            // Ports that are no tunnels have no packets out of tunnels.
            self.rest.0.tunnel = Key::default().tunnel;
            return Ok(());
        }
        let (key, mask) = (&self.key.tunnel, &self.mask.0.tunnel);
        if key.flags & tnl_flags::KEY != 0 && mask.id.get() != 0 {
            let id = u32::try_from(key.id.get()).map_err(|_| Unsupported::Partial("tun_id"))?;
            if mask.id.get() != u64::MAX {
                return Err(Unsupported::Partial("tun_id"));
            }
            self.out.set_exact(KeyField::EncKeyId, id);
        }
        self.out.set_number(KeyField::EncUdpSrc, key.tp_src.get().into(), mask.tp_src.get().into());
        // Drivers refuse a port that is not matched exactly. Packets of one tunnel port have one port only.
        if key.tp_dst.get() != 0 {
            self.out.set_exact(KeyField::EncUdpDst, key.tp_dst.get());
        }
        let rest = &mut self.rest.0.tunnel;
        (rest.id, rest.tp_src, rest.tp_dst) = Default::default();
        rest.flags &= !tnl_flags::KEY;
        self.tunnel_flags();
        self.tunnel_options()
    }

    fn tunnel_flags(&mut self) {
        let rest = &mut self.rest.0.tunnel;
        if !self.support.enc_flags {
            rest.flags &= !(tnl_flags::DONT_FRAGMENT | tnl_flags::CSUM);
            return;
        }
        let to_rule =
            |flags: u16| ENC_FLAGS.iter().filter(|row| flags & row.0 != 0).fold(0, |bits, row| bits | row.1);
        let (value, mask) = (to_rule(self.key.tunnel.flags), to_rule(self.mask.0.tunnel.flags));
        self.out.set_number(KeyField::EncFlags, value.into(), mask.into());
        rest.flags &= !ENC_FLAGS.iter().fold(0, |bits, row| bits | row.0);
    }

    fn tunnel_options(&mut self) -> Result<(), Unsupported> {
        let (key, mask) = (&self.key.tunnel, &self.mask.0.tunnel);
        let gbp = |flags: u8, id: u16| u32::from(flags) << 16 | u32::from(id);
        // No packet has the other bits.
        let gbp_mask = gbp(mask.gbp_flags, mask.gbp_id.get()) & GBP_BITS;
        if mask.gbp_flags != 0 || mask.gbp_id.get() != 0 {
            if !self.support.gbp {
                return Err(Unsupported::Match("tun_gbp_id"));
            }
            let value = gbp(key.gbp_flags, key.gbp_id.get()) & gbp_mask;
            self.out.opts = Some(EncOpts::Vxlan(value, gbp_mask));
            (self.rest.0.tunnel.gbp_flags, self.rest.0.tunnel.gbp_id) = Default::default();
        }
        if mask.erspan_ver != 0 {
            let erspan = |tunnel: &flow::key::Tunnel| match key.erspan_ver {
                1 => Some(Erspan::V1 { index: tunnel.erspan_idx }),
                2 => Some(Erspan::V2 { dir: tunnel.erspan_dir, hwid: tunnel.erspan_hwid }),
                _ => None,
            };
            let (Some(value), Some(bits)) = (erspan(key), erspan(mask)) else {
                return Err(Unsupported::Match("tun_erspan_ver"));
            };
            self.out.opts = Some(EncOpts::Erspan(value, bits));
            let rest = &mut self.rest.0.tunnel;
            (rest.erspan_ver, rest.erspan_idx, rest.erspan_dir, rest.erspan_hwid) = Default::default();
        }
        self.geneve()
    }

    /// The number and lengths of options are always matched, types and data as the mask says.
    fn geneve(&mut self) -> Result<(), Unsupported> {
        let (key, mask) = (&self.key.tunnel, &self.mask.0.tunnel);
        let bad = || Unsupported::Match("tunnel options");
        if key.flags & tnl_flags::RAW_OPTS == 0 {
            if key.opt_present != 0 {
                return Err(bad());
            }
            self.rest.0.tunnel.opt_present = 0;
            self.rest.0.tunnel.flags &= !tnl_flags::RAW_OPTS;
            return Ok(());
        }
        let len = usize::try_from(key.opt_present).map_err(|_| bad())?;
        let raw = key.opts.get(..len).ok_or_else(bad)?;
        let mut raw_mask = mask.opts[..len].to_vec();
        let values = GeneveOpt::parse_all(raw).ok_or_else(bad)?;
        if values.iter().any(|opt| opt.data.is_empty()) {
            return Err(Unsupported::Match("tunnel options without data"));
        }
        let mut at = 0;
        for value in &values {
            raw_mask[at + 3] = (value.data.len() / 4) as u8;
            at += 4 + value.data.len();
        }
        let masks = GeneveOpt::parse_all(&raw_mask).ok_or_else(bad)?;
        let and = |value: &GeneveOpt, mask: &GeneveOpt| GeneveOpt {
            class: value.class & mask.class,
            kind: value.kind & mask.kind,
            data: value.data.iter().zip(&mask.data).map(|(value, mask)| value & mask).collect(),
        };
        if !values.is_empty() {
            let pairs = values.iter().zip(masks).map(|(value, mask)| (and(value, &mask), mask)).collect();
            self.out.opts = Some(EncOpts::Geneve(pairs));
        }
        let rest = &mut self.rest.0.tunnel;
        rest.opts[..len].fill(0);
        rest.opt_present = 0;
        rest.flags &= !tnl_flags::RAW_OPTS;
        Ok(())
    }

    /// EtherType, tags and labels; the outermost EtherType.
    fn link(&mut self) -> Result<u16, Unsupported> {
        let (key, mask) = (self.key, &self.mask.0);
        match mask.dl_type.get() {
            u16::MAX => {}
            0 => {
                let tags = mask.vlans.iter().any(|vlan| vlan.tci.get() != 0 || vlan.tpid.get() != 0);
                return if tags { Err(Unsupported::Match("vlan_tci")) } else { Ok(ETH_P_ALL) };
            }
            _ => return Err(Unsupported::Partial("eth_type")),
        }
        let dl_type = key.dl_type.get();
        if dl_type == ethertype::NONE || dl_type < ethertype::MIN {
            return Err(Unsupported::Match("frames without EtherType"));
        }
        let mut protocol = dl_type;
        let fields = [
            (KeyField::VlanId, KeyField::VlanPrio, KeyField::VlanEthType),
            (KeyField::CvlanId, KeyField::CvlanPrio, KeyField::CvlanEthType),
        ];
        for at in (0..MAX_VLANS).rev() {
            let (vlan, bits) = (key.vlans[at], mask.vlans[at]);
            if vlan.tci.get() & VLAN_CFI == 0 {
                // Another EtherType says that there is no tag.
                continue;
            }
            // Of a tag that nobody looks at there is the EtherType only: rules are told of each tag that there is. Packets without
            // it are another flow's, for the kernel's keys tell which tags there are.
            let (id, prio, inner) = fields[at];
            let (tci, tci_mask) = (u32::from(vlan.tci.get()), u32::from(bits.tci.get()));
            if whole(tci_mask, 0xfff, "vlan_vid")? {
                self.out.set_exact(id, tci & 0xfff);
            }
            if whole(tci_mask, 0xe000, "vlan_pcp")? {
                self.out.set_exact(prio, tci >> 13);
            }
            self.out.set_exact(inner, protocol);
            protocol = vlan.tpid.get();
        }
        self.out.set_exact(KeyField::EthType, protocol);
        self.labels()?;
        self.rest.0.vlans = Default::default();
        self.rest.0.dl_type = Default::default();
        Ok(protocol)
    }

    fn labels(&mut self) -> Result<(), Unsupported> {
        if !ethertype::is_mpls(self.key.dl_type.get()) {
            return Ok(());
        }
        for depth in 0..MAX_MPLS {
            let (lse, mask) = (self.key.mpls_lse[depth].get(), self.mask.0.mpls_lse[depth].get());
            if mask == 0 {
                continue;
            }
            let entry = Lse {
                depth: depth as u8 + 1,
                label: whole(mask, 0xffff_f000, "mpls_label")?.then_some(lse >> 12),
                tc: whole(mask, 0xe00, "mpls_tc")?.then_some((lse >> 9 & 7) as u8),
                bos: whole(mask, 0x100, "mpls_bos")?.then_some((lse >> 8 & 1) as u8),
                ttl: whole(mask, 0xff, "mpls_ttl")?.then_some(lse as u8),
            };
            self.out.lses.push(entry);
        }
        self.rest.0.mpls_lse = Default::default();
        Ok(())
    }

    fn network(&mut self) -> Result<(), Unsupported> {
        let (key, mask) = (self.key, &self.mask.0);
        if mask.dl_type.get() != u16::MAX {
            return Ok(());
        }
        match key.dl_type.get() {
            ethertype::ARP => {
                self.out.set_number(KeyField::ArpOp, key.nw_proto.into(), mask.nw_proto.into());
                self.rest.0.nw_proto = 0;
            }
            ethertype::IPV4 | ethertype::IPV6 => self.ip()?,
            _ => {}
        }
        Ok(())
    }

    fn ip(&mut self) -> Result<(), Unsupported> {
        let (key, mask) = (self.key, &self.mask.0);
        let v6 = key.dl_type.get() == ethertype::IPV6;
        if v6 && key.nw_frag & frag::ANY != 0 && mask.nw_frag & frag::ANY != 0 {
            return Err(Unsupported::Match("fragments of IPv6"));
        }
        if whole(mask.nw_proto.into(), 0xff, "nw_proto")? {
            self.out.set_exact(KeyField::IpProto, key.nw_proto);
        }
        self.out.set_number(KeyField::IpTos, key.nw_tos.into(), mask.nw_tos.into());
        if mask.nw_frag & frag::ANY != 0 {
            let is_fragment = key.nw_frag & frag::ANY != 0;
            let (mut bits, mut bits_mask) = (u32::from(is_fragment) * flags::FRAGMENT, flags::FRAGMENT);
            if is_fragment && mask.nw_frag & frag::LATER != 0 {
                bits_mask |= flags::FIRST_FRAGMENT;
                bits |= if key.nw_frag & frag::LATER == 0 { flags::FIRST_FRAGMENT } else { 0 };
            }
            self.out.set_number(KeyField::Flags, bits.into(), bits_mask.into());
            self.rest.0.nw_frag = 0;
        }
        let rest = &mut self.rest.0;
        (rest.nw_proto, rest.nw_tos) = (0, 0);
        let l4 = mask.tp_src.get() != 0 || mask.tp_dst.get() != 0 || mask.tcp_flags.get() != 0;
        if l4 && mask.nw_proto != u8::MAX {
            return Err(Unsupported::Match("ports without nw_proto"));
        }
        if matches!(key.nw_proto, ip::ICMP | ip::ICMPV6) && mask.nw_proto == u8::MAX {
            // Types and codes have 8 bits, which rows take.
            for half in [&mut rest.tp_src, &mut rest.tp_dst] {
                *half = (half.get() & 0xff).into();
            }
        }
        Ok(())
    }

    /// What needs no more than another name.
    fn rows(&mut self) {
        for &(field, key_field) in ROWS {
            let mask = field.get(&self.rest.0);
            if mask.is_zero() || !field.prereqs_ok(self.key) {
                continue;
            }
            let (value, bits) = (field.get(self.key), fields::bits(key_field, &mask));
            self.out.set(key_field, fields::bits(key_field, &value), bits);
            field.set(&mut self.rest.0, &Value::zero(field.n_bytes()));
        }
    }

    fn conntrack(&mut self) -> Result<(), Unsupported> {
        let (state, mask) = (self.key.ct_state, self.mask.0.ct_state);
        if mask == 0 {
            return Ok(());
        }
        if mask & !self.support.ct_state != 0 {
            return Err(Unsupported::Match("ct_state"));
        }
        let to_rule = |bits: u8| {
            let set = CT_STATES.iter().filter(|row| u32::from(bits) & row.0 != 0);
            set.fold(0, |bits, row| bits | row.1)
        };
        let (mut value, mut bits) = (to_rule(state & mask), to_rule(mask));
        // The kernel wants no other state beside these, and knows that they exclude each other.
        if value & ct_flags::ESTABLISHED != 0 {
            value &= !ct_flags::NEW;
            bits &= !ct_flags::NEW;
        }
        if value != 0 {
            value |= ct_flags::TRACKED;
            bits |= ct_flags::TRACKED;
        }
        self.out.set_number(KeyField::CtState, value.into(), bits.into());
        self.rest.0.ct_state = 0;
        Ok(())
    }
}
