//! Raising: a rule as the datapath flow that it stands for.
//!
//! What lowering left out (masks of padding, masks that other matches imply) is not there; else raising undoes lowering:
//! a raised flow lowers to the rule that it was raised from.
//!
//! * [`actions`]: the other half.

pub mod actions;

use flow::action::Action;
use flow::field::{Field, Value};
use flow::id::DpPort;
use flow::key::{Key, MAX_MPLS, Mask, VLAN_CFI, frag, tnl_flags};
use flow::proto::ethertype;

use crate::fields::{self, ROWS};
use crate::lower::is_tunneled;
use crate::lower::matching::{CT_STATES, ENC_FLAGS};
use crate::rule::Surroundings;
use crate::tc::filter::Filter;
use crate::tc::key::{FlowerKey, KeyField, Lse, flags};
use crate::tc::options::{EncOpts, Erspan, GBP_BITS, GeneveOpt};

/// Why a rule is no flow of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Foreign {
    /// It matches what flows do not.
    #[error("matches {0}")]
    Match(&'static str),
    /// It does what flows do not.
    #[error("does {0}")]
    Action(String),
    /// It sends to a device that is no port.
    #[error("sends to interface {0}")]
    Device(u32),
}

/// A rule as key, mask and actions.
#[derive(Clone)]
pub struct Raised {
    pub key: Key,
    pub mask: Mask,
    pub actions: Vec<Action>,
}

/// Raises a rule of packets that come in by `port`.
///
/// # Errors
/// It is not one that flows are lowered to.
pub fn raise(filter: &Filter, port: DpPort, around: &dyn Surroundings) -> Result<Raised, Foreign> {
    let (key, mask) = raise_match(&filter.key, port, filter.id.chain)?;
    let actions = actions::raise(&filter.actions, around)?;
    Ok(Raised { key, mask, actions })
}

struct Raising<'a> {
    from: &'a FlowerKey,
    key: Key,
    mask: Mask,
}

fn raise_match(from: &FlowerKey, port: DpPort, chain: u32) -> Result<(Key, Mask), Foreign> {
    for field in [KeyField::Hash, KeyField::NumOfVlans] {
        if from.get(field).is_some() {
            return Err(Foreign::Match(field.row().name));
        }
    }
    let mut raising = Raising { from, key: Key::default(), mask: Mask::default() };
    (raising.key.in_port, raising.mask.0.in_port) = (port.0, u32::MAX);
    (raising.key.recirc_id, raising.mask.0.recirc_id) = (chain, u32::MAX);
    raising.mask.0.packet_type = u32::MAX.into();
    raising.link();
    raising.network();
    raising.rows();
    raising.tunnel()?;
    Ok((raising.key, raising.mask))
}

impl Raising<'_> {
    fn exact(&self, field: KeyField) -> Option<u16> {
        self.from.number(field).map(|(value, _)| value as u16)
    }

    fn link(&mut self) {
        let Some(mut dl_type) = self.exact(KeyField::EthType) else { return };
        let fields = [
            (KeyField::VlanId, KeyField::VlanPrio, KeyField::VlanEthType),
            (KeyField::CvlanId, KeyField::CvlanPrio, KeyField::CvlanEthType),
        ];
        for (at, (id, prio, inner)) in fields.into_iter().enumerate() {
            let Some(inner) = self.exact(inner).filter(|_| ethertype::is_vlan(dl_type)) else { break };
            let (mut tci, mut tci_mask) = (VLAN_CFI, VLAN_CFI);
            if let Some(id) = self.exact(id) {
                (tci, tci_mask) = (tci | id & 0xfff, tci_mask | 0xfff);
            }
            if let Some(prio) = self.exact(prio) {
                (tci, tci_mask) = (tci | prio << 13, tci_mask | 0xe000);
            }
            let (key, mask) = (&mut self.key.vlans[at], &mut self.mask.0.vlans[at]);
            (key.tpid, key.tci) = (dl_type.into(), tci.into());
            (mask.tpid, mask.tci) = (u16::MAX.into(), tci_mask.into());
            dl_type = inner;
        }
        (self.key.dl_type, self.mask.0.dl_type) = (dl_type.into(), u16::MAX.into());
        for lse in &self.from.lses {
            self.label(lse);
        }
    }

    fn label(&mut self, lse: &Lse) {
        let at = usize::from(lse.depth).wrapping_sub(1);
        if at >= MAX_MPLS {
            return;
        }
        let parts = [
            (lse.label, 0xffff_f000, 12),
            (lse.tc.map(u32::from), 0xe00, 9),
            (lse.bos.map(u32::from), 0x100, 8),
            (lse.ttl.map(u32::from), 0xff, 0),
        ];
        for (value, bits, shift) in parts {
            let Some(value) = value else { continue };
            let (key, mask) = (&mut self.key.mpls_lse[at], &mut self.mask.0.mpls_lse[at]);
            *key = (key.get() | (value << shift) & bits).into();
            *mask = (mask.get() | bits).into();
        }
    }

    fn network(&mut self) {
        let (key, mask) = (&mut self.key, &mut self.mask.0);
        if let Some((value, bits)) = self.from.number(KeyField::ArpOp) {
            (key.nw_proto, mask.nw_proto) = (value as u8, bits as u8);
        }
        if let Some((value, bits)) = self.from.number(KeyField::IpProto) {
            (key.nw_proto, mask.nw_proto) = (value as u8, bits as u8);
        }
        if let Some((value, bits)) = self.from.number(KeyField::IpTos) {
            (key.nw_tos, mask.nw_tos) = (value as u8, bits as u8);
        }
        if let Some((value, bits)) = self.from.number(KeyField::Flags) {
            let (value, bits) = (value as u32, bits as u32);
            if bits & flags::FRAGMENT != 0 {
                // What is no fragment is no later one.
                mask.nw_frag = frag::MASK;
                key.nw_frag = if value & flags::FRAGMENT != 0 { frag::ANY } else { 0 };
            }
            if bits & flags::FIRST_FRAGMENT != 0 && value & flags::FIRST_FRAGMENT == 0 {
                key.nw_frag |= frag::LATER;
            }
        }
        if let Some((value, bits)) = self.from.number(KeyField::CtState) {
            let from_rule = |bits: u16| {
                let set = CT_STATES.iter().filter(|row| bits & row.1 != 0);
                set.fold(0, |bits, row| bits | row.0) as u8
            };
            (key.ct_state, mask.ct_state) = (from_rule(value as u16), from_rule(bits as u16));
        }
    }

    fn rows(&mut self) {
        for &(field, key_field) in ROWS {
            let Some(entry) = self.from.get(key_field) else { continue };
            if !field.prereqs_ok(&self.key) {
                continue;
            }
            field.set(&mut self.key, &fields::value(key_field, entry.value));
            let mut bits = fields::value(key_field, entry.mask);
            if matches!(field, Field::Icmpv4Type | Field::Icmpv4Code | Field::Icmpv6Type | Field::Icmpv6Code)
                && bits.is_ones()
            {
                bits = Value::ones(2);
            }
            field.mask_bits(&mut self.mask, &bits);
        }
    }

    fn tunnel(&mut self) -> Result<(), Foreign> {
        if let Some((id, _)) = self.from.number(KeyField::EncKeyId) {
            (self.key.tunnel.id, self.mask.0.tunnel.id) = ((id as u64).into(), u64::MAX.into());
            self.key.tunnel.flags |= tnl_flags::KEY;
            self.mask.0.tunnel.flags |= tnl_flags::KEY;
        }
        if !is_tunneled(&self.key) {
            return Ok(());
        }
        let (key, mask) = (&mut self.key.tunnel, &mut self.mask.0.tunnel);
        if let Some((value, bits)) = self.from.number(KeyField::EncUdpSrc) {
            (key.tp_src, mask.tp_src) = ((value as u16).into(), (bits as u16).into());
        }
        if let Some((value, bits)) = self.from.number(KeyField::EncUdpDst) {
            (key.tp_dst, mask.tp_dst) = ((value as u16).into(), (bits as u16).into());
        }
        if let Some((value, bits)) = self.from.number(KeyField::EncFlags) {
            let from_rule = |bits: u128| {
                let set = ENC_FLAGS.iter().filter(|row| bits & u128::from(row.1) != 0);
                set.fold(0, |bits, row| bits | row.0)
            };
            key.flags |= from_rule(value);
            mask.flags |= from_rule(bits);
        }
        self.options()
    }

    fn options(&mut self) -> Result<(), Foreign> {
        let (key, mask) = (&mut self.key.tunnel, &mut self.mask.0.tunnel);
        match &self.from.opts {
            None => {}
            Some(EncOpts::Vxlan(value, bits)) => {
                (key.gbp_flags, key.gbp_id) = ((value >> 16) as u8, (*value as u16).into());
                // All flags that there are say as much as all bits.
                let all = (GBP_BITS >> 16) as u8;
                let flags = (bits >> 16) as u8;
                mask.gbp_flags = if flags == all { u8::MAX } else { flags };
                mask.gbp_id = (*bits as u16).into();
            }
            Some(EncOpts::Erspan(value, bits)) => {
                mask.erspan_ver = u8::MAX;
                match value {
                    Erspan::V1 { index } => (key.erspan_ver, key.erspan_idx) = (1, *index),
                    Erspan::V2 { dir, hwid } => {
                        (key.erspan_ver, key.erspan_dir, key.erspan_hwid) = (2, *dir, *hwid);
                    }
                }
                match bits {
                    Erspan::V1 { index } => mask.erspan_idx = *index,
                    Erspan::V2 { dir, hwid } => (mask.erspan_dir, mask.erspan_hwid) = (*dir, *hwid),
                }
            }
            Some(EncOpts::Geneve(opts)) => {
                let (mut raw, mut raw_mask) = (Vec::new(), Vec::new());
                for (value, bits) in opts {
                    value.write(&mut raw);
                    let at = raw_mask.len();
                    GeneveOpt::write(bits, &mut raw_mask);
                    // The number and lengths of options are always matched.
                    raw_mask[at + 3] = u8::MAX;
                }
                let (Some(to), Some(to_mask)) =
                    (key.opts.get_mut(..raw.len()), mask.opts.get_mut(..raw.len()))
                else {
                    return Err(Foreign::Match("more tunnel options than there can be"));
                };
                to.copy_from_slice(&raw);
                to_mask.copy_from_slice(&raw_mask);
                key.flags |= tnl_flags::RAW_OPTS;
                mask.flags |= tnl_flags::RAW_OPTS;
                (key.opt_present, mask.opt_present) = (raw.len() as u64, u64::MAX);
            }
            Some(EncOpts::Gtp(..)) => return Err(Foreign::Match("GTP options")),
        }
        Ok(())
    }
}
