//! Actions that change fields.

use flow::drop::DropReason;
use flow::field::{Field, Subfield, Value};
use flow::key::{MAX_MPLS, VLAN_CFI, frag};
use flow::proto::{ethertype, pt_of_ethertype};
use flow::stack;
use openflow::action::{OfAction, RegMove, SetField, WriteMetadata};

use super::ctx::Ctx;

/// The action that does to `metadata` what the instruction does.
pub(super) fn set_field_of_metadata(a: &WriteMetadata) -> OfAction {
    let mut set = SetField::whole(Field::Metadata, Value::from_u64(a.metadata, 8));
    set.mask = Value::from_u64(a.mask, 8);
    OfAction::SetField(Box::new(set))
}

impl Ctx<'_> {
    pub(super) fn set_field(&mut self, a: &SetField) {
        if !a.field.prereqs_ok_masking(self.key, &mut self.wc) {
            return self.warn(format_args!("unmet prerequisites for {}, set_field ignored", a.field));
        }
        self.mask_l3(a.field);
        self.wc.set(a.field, &a.mask);
        a.field.set_masked(self.key, &a.value, &a.mask);
    }

    /// Datapaths set L3 headers of known protocols only.
    fn mask_l3(&mut self, field: Field) {
        let ip = matches!(
            field,
            Field::Ipv4Src
                | Field::Ipv4Dst
                | Field::Ipv6Src
                | Field::Ipv6Dst
                | Field::Ipv6Label
                | Field::IpDscp
                | Field::IpEcn
                | Field::IpTtl
        );
        let arp =
            matches!(field, Field::ArpOp | Field::ArpSha | Field::ArpTha | Field::ArpSpa | Field::ArpTpa);
        if (ip && self.is_ip()) || (arp && self.key.dl_type.get() == ethertype::ARP) {
            self.wc.0.nw_proto = 0xff;
        }
    }

    pub(super) fn set_vlan(&mut self, bits: u16, mask: u16, push: bool) {
        let seen = self.wc.0.vlans[0].tci.get() | mask | VLAN_CFI;
        self.wc.0.vlans[0].tci = seen.into();
        let vlan = &mut self.key.vlans[0];
        if vlan.tci.get() & VLAN_CFI != 0 || push {
            if vlan.tpid.get() == 0 {
                vlan.tpid = ethertype::VLAN.into();
            }
            vlan.tci = ((vlan.tci.get() & !mask) | bits | VLAN_CFI).into();
        }
    }

    pub(super) fn set_ipv4(&mut self, field: Field, ip: u32) {
        if self.key.dl_type.get() == ethertype::IPV4 {
            self.mask(field);
            self.wc.0.nw_proto = 0xff;
            field.set(self.key, &Value::from_u64(ip.into(), 4));
        }
    }

    pub(super) fn set_ip(&mut self, field: Field, value: u8) {
        if self.is_ip() {
            self.wc.0.nw_proto = 0xff;
            self.mask(field);
            field.set(self.key, &Value::from_u64(value.into(), 1));
        }
    }

    pub(super) fn set_port(&mut self, field: Field, port: u16) {
        if self.is_ip() && self.key.nw_frag & frag::LATER == 0 {
            self.wc.0.nw_proto = 0xff;
            self.mask(field);
            field.set(self.key, &Value::from_u64(port.into(), 2));
        }
    }

    pub(super) fn reg_move(&mut self, a: &RegMove) {
        let (src, dst) = (&a.src, &a.dst);
        let ok = dst.field.prereqs_ok_masking(self.key, &mut self.wc)
            && src.field.prereqs_ok_masking(self.key, &mut self.wc);
        if ok {
            self.wc.copy(src, dst);
            dst.copy_from(self.key, src);
        }
        self.report_subfield(dst);
    }

    /// Writes a subfield as if it had been read too.
    pub(super) fn load(&mut self, dst: &Subfield, value: u64) {
        dst.set_u64(self.key, value);
        dst.mask_bits(&mut self.wc);
    }

    pub(super) fn stack_push(&mut self, sub: &Subfield) {
        sub.mask_bits(&mut self.wc);
        self.stack.push(sub.get(self.key));
    }

    pub(super) fn stack_pop(&mut self, sub: &Subfield) {
        let Some(value) = self.stack.pop() else {
            return self.error("stack underflow");
        };
        self.wc.write(sub);
        let wide = Value::resized(value.bytes(), value.len().max(usize::from(sub.n_bits).div_ceil(8)));
        sub.set(self.key, &wide);
        self.report_subfield(sub);
    }

    pub(super) fn set_mpls(&mut self, bits: u32, mask: u32) {
        if ethertype::is_mpls(self.key.dl_type.get()) {
            self.wc.0.mpls_lse[0] |= mask;
            self.key.mpls_lse[0] = ((self.key.mpls_lse[0].get() & !mask) | (bits & mask)).into();
        }
    }

    pub(super) fn push_mpls(&mut self, dl_type: u16) {
        let count = stack::labels(self.key, Some(&mut self.wc));
        if count == 0 {
            self.commit();
        } else if count >= MAX_MPLS {
            if self.input.packet.is_some() {
                self.error(format_args!(
                    "dropping packet on which an MPLS push action can't be performed as it would have more MPLS LSEs \
                     than the {MAX_MPLS} supported."
                ));
            }
            return self.fail(DropReason::TooManyMplsLabels);
        }
        stack::push_label(self.key, count, dl_type, Some(&mut self.wc), true);
    }

    pub(super) fn pop_mpls(&mut self, dl_type: u16) {
        let count = stack::labels(self.key, Some(&mut self.wc));
        if stack::pop_label(self.key, count, dl_type, Some(&mut self.wc)) {
            if !ethertype::is_mpls(dl_type) && self.can(|features| features.recirc) {
                self.was_mpls = true;
            }
        } else if count >= MAX_MPLS {
            if self.input.packet.is_some() {
                self.error(format_args!(
                    "dropping packet on which an MPLS pop action can't be performed as it has more MPLS LSEs than \
                     the {MAX_MPLS} supported."
                ));
            }
            self.fail(DropReason::TooManyMplsLabels);
            self.odp.clear();
        }
    }

    /// Whether the packet is, or carries, an NSH header.
    pub(super) fn has_nsh(&self) -> bool {
        self.key.packet_type.get() == pt_of_ethertype(ethertype::NSH)
            || self.key.dl_type.get() == ethertype::NSH
    }
}
