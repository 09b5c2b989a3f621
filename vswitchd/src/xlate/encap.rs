//! `encap` and `decap`: headers that are added and taken off.

use flow::cookie::SlowReasons;
use flow::drop::DropReason;
use flow::key::{Key, MAX_MPLS, VLAN_CFI};
use flow::proto::{PT_ETH, PT_NS_ETHERTYPE, ethertype, pt_of_ethertype};
use flow::stack;
use openflow::action::encap::Prop;
use openflow::action::{Decap, Encap};

use super::ctx::Ctx;
use super::report::Kind;

const PT_IPV4: u32 = pt_of_ethertype(ethertype::IPV4);
const PT_IPV6: u32 = pt_of_ethertype(ethertype::IPV6);
const PT_NSH: u32 = pt_of_ethertype(ethertype::NSH);
const PT_MPLS: u32 = pt_of_ethertype(ethertype::MPLS);
const PT_MPLS_MC: u32 = pt_of_ethertype(ethertype::MPLS_MCAST);

/// NSH's "next protocol" numbers with their packet types (RFC 8300 section 11.2.5).
const NSH_NEXT: [(u8, u32); 4] = [(1, PT_IPV4), (2, PT_IPV6), (3, PT_ETH), (4, PT_NSH)];
/// The longest TLVs of MD type 2.
const MAX_TLVS: usize = 248;

impl Ctx<'_> {
    pub(super) fn encap(&mut self, a: &Encap) {
        self.commit();
        let mut data = None;
        match a.packet_type {
            PT_ETH => self.encap_ethernet(),
            PT_NSH => data = self.encap_nsh(a),
            _ => {
                self.encap_mpls(a.packet_type);
                if !self.can(|features| features.add_mpls) {
                    self.slow |= SlowReasons::ACTION;
                }
            }
        }
        if self.error.is_none() {
            self.pending_encap = true;
            self.encap_data = data;
        }
    }

    fn refuse(&mut self, text: String) {
        if self.tree.is_some() {
            self.report(Kind::Action, text);
        } else {
            self.debug(text);
        }
        self.fail(DropReason::UnsupportedPacketType);
    }

    fn encap_ethernet(&mut self) {
        self.wc.0.packet_type = u32::MAX.into();
        let packet_type = self.key.packet_type.get();
        if packet_type >> 16 != PT_NS_ETHERTYPE {
            return self.refuse(
                "Dropping packet as encap(ethernet) is not supported for packet type ethernet.".to_owned(),
            );
        }
        self.key.packet_type = PT_ETH.into();
        (self.key.dl_src, self.key.dl_dst) = ([0; 6], [0; 6]);
        self.key.dl_type = (packet_type as u16).into();
    }

    fn encap_nsh(&mut self, a: &Encap) -> Option<Vec<u8>> {
        let packet_type = self.key.packet_type.get();
        let Some((np, _)) = NSH_NEXT.iter().find(|(_, next)| *next == packet_type) else {
            self.refuse(format!(
                "Dropping packet as encap(nsh) is not supported for packet type ({},0x{:x})",
                packet_type >> 16,
                packet_type as u16
            ));
            return None;
        };
        let (md_type, tlvs) = nsh_props(&a.props);
        self.wc.0.packet_type = u32::MAX.into();
        self.key.words_mut()[Key::SEGMENTS[0]..].fill(0);
        self.key.packet_type = PT_NSH.into();
        self.key.dl_type = ethertype::NSH.into();
        let nsh = &mut self.key.nsh;
        (nsh.ttl, nsh.np, nsh.mdtype, nsh.path_hdr) = (63, *np, md_type, 255.into());
        (md_type == 2 && !tlvs.is_empty() && tlvs.len() <= MAX_TLVS).then_some(tlvs)
    }

    fn encap_mpls(&mut self, packet_type: u32) {
        let count = stack::labels(self.key, Some(&mut self.wc));
        if count >= MAX_MPLS {
            if self.input.packet.is_some() {
                self.error(format_args!(
                    "dropping packet on which an encap MPLS action can't be performed as it would have more MPLS \
                     LSEs than the {MAX_MPLS} supported."
                ));
            }
            return self.fail(DropReason::TooManyMplsLabels);
        }
        self.wc.0.packet_type = u32::MAX.into();
        if self.key.packet_type.get() == PT_ETH && self.key.dl_type.get() == ethertype::MPLS {
            for key in [&mut self.wc.0, self.key, &mut self.base] {
                key.mpls_lse = [0.into(); 4];
            }
        }
        self.key.packet_type = packet_type.into();
        stack::push_label(self.key, count, packet_type as u16, Some(&mut self.wc), true);
        (self.key.dl_src, self.key.dl_dst) = ([0; 6], [0; 6]);
    }

    /// True if the packet must be parsed anew.
    pub(super) fn decap(&mut self, a: &Decap) -> bool {
        self.commit();
        match self.key.packet_type.get() {
            PT_ETH if self.key.vlans[0].tci.get() & VLAN_CFI != 0 => {
                self.refuse("Dropping packet, cannot decap Ethernet if VLAN is present.".to_owned());
                false
            }
            PT_ETH => {
                self.key.packet_type = pt_of_ethertype(self.key.dl_type.get()).into();
                (self.key.dl_src, self.key.dl_dst) = ([0; 6], [0; 6]);
                self.wc.0.dl_type = u16::MAX.into();
                false
            }
            PT_NSH => self.decap_nsh(),
            PT_MPLS | PT_MPLS_MC => self.decap_mpls(a),
            other => {
                self.refuse(format!(
                    "Dropping packet as the decap() does not support packet type ({},0x{:x})",
                    other >> 16,
                    other as u16
                ));
                false
            }
        }
    }

    fn decap_nsh(&mut self) -> bool {
        let np = self.key.nsh.np;
        let Some((_, next)) = NSH_NEXT.iter().find(|(number, _)| *number == np) else {
            self.refuse(format!("Dropping packet as NSH next protocol {np} is not supported"));
            return false;
        };
        self.key.packet_type = (*next).into();
        self.wc.0.nsh.np = u8::MAX;
        self.pending_decap = true;
        true
    }

    fn decap_mpls(&mut self, a: &Decap) -> bool {
        self.key.packet_type = a.packet_type.into();
        let next = match a.packet_type as u16 {
            0 => ethertype::TEB,
            next => next,
        };
        let count = stack::labels(self.key, Some(&mut self.wc));
        if stack::pop_label(self.key, count, next, Some(&mut self.wc)) {
            if !self.can(|features| features.add_mpls) {
                self.slow |= SlowReasons::ACTION;
            }
            self.pending_decap = true;
            return count == 1;
        }
        if count >= MAX_MPLS {
            if self.input.packet.is_some() {
                self.error(format_args!(
                    "dropping packet on which an MPLS decap can't be performed as it has more MPLS LSEs than the \
                     {MAX_MPLS} supported."
                ));
            }
            self.fail(DropReason::TooManyMplsLabels);
            self.odp.clear();
        }
        false
    }
}

/// The metadata type and the TLVs, as they go on the wire.
fn nsh_props(props: &[Prop]) -> (u8, Vec<u8>) {
    let (mut md_type, mut tlvs) = (1, Vec::new());
    for prop in props {
        match prop {
            Prop::NshMdType(of) => md_type = *of,
            Prop::NshTlv { class, kind, data } => {
                tlvs.extend_from_slice(&class.to_be_bytes());
                tlvs.extend_from_slice(&[*kind, data.len() as u8]);
                tlvs.extend_from_slice(data);
                tlvs.resize(tlvs.len().next_multiple_of(4), 0);
            }
        }
    }
    (md_type, tlvs)
}
