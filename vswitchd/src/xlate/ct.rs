//! `ct`: connection tracking, and where the tracked packet goes on.

use std::net::IpAddr;

use flow::action::{Action, Ct as CtAction, Nat as NatAction, NatKind, NatRange};
use flow::id::{TableId, Zone};
use flow::odp::convert::label_to_odp;
use openflow::action::ct::ZoneSource;
use openflow::action::{Ct, Nat, nat};

use super::ctx::Ctx;

/// The events that connection tracking is asked to tell: new, related, destroyed, and changes of what listeners show.
const EVENTMASK: u32 = 0x0000_0487;

impl Ctx<'_> {
    pub(super) fn conntrack(&mut self, a: &Ct, last: bool) {
        let zone = match &a.zone {
            ZoneSource::Constant(zone) => *zone,
            ZoneSource::Field(sub) => {
                let thawed = self.input.frozen.is_some() || self.input.key.recirc_id != 0;
                // What a frozen translation kept is part of its recirculation id.
                if thawed && super::freeze::is_kept(sub.field) {
                    // Some of it may be of the packet all the same.
                    self.wc.unite();
                } else {
                    sub.mask_bits(&mut self.wc);
                }
                Zone(sub.get_u64(self.key) as u16)
            }
        };
        let (mark_mask, label_mask) = (self.wc.0.ct_mark, self.wc.0.ct_label);
        self.commit();
        self.nat = None;
        (self.wc.0.ct_mark, self.wc.0.ct_label) = (0, [0; 16]);
        self.actions_of_ct(a, last);
        let action = CtAction {
            commit: a.commit && !a.force,
            force: a.commit && a.force,
            zone: Some(zone),
            mark: (self.wc.0.ct_mark != 0)
                .then_some((self.key.ct_mark & self.wc.0.ct_mark, self.wc.0.ct_mark)),
            labels: self.label(),
            helper: self.helper(a.alg),
            eventmask: (a.commit && self.can(|features| features.ct_eventmask)).then_some(EVENTMASK),
            timeout: if a.commit { self.timeout_policy(zone) } else { None },
            nat: self.nat.as_ref().map(nat_action),
        };
        self.odp.push(Action::Ct(action));
        (self.wc.0.ct_mark, self.wc.0.ct_label) = (mark_mask, label_mask);
        if let Some(table) = a.table {
            self.conntracked = true;
            self.fork(table, zone);
        }
        self.nat = None;
        super::ctx::clear_conntrack(self.key);
        self.detail("Sets the packet to an untracked state, and clears all the conntrack fields.");
        self.conntracked = false;
    }

    /// The timeout policy of a zone for packets like this one.
    fn timeout_policy(&mut self, zone: Zone) -> Option<String> {
        if !self.is_ip() || !self.can(|features| features.ct_timeout) {
            return None;
        }
        let dl_type = flow::field::dl_type(self.key);
        let policy = self.input.snapshot.zone_policies.as_ref()?.name(zone, dl_type, self.key.nw_proto)?;
        if !policy.generic {
            // Policies are of an EtherType, which flows always match, and of a protocol.
            self.wc.0.nw_proto = u8::MAX;
        }
        Some(policy.name)
    }

    fn actions_of_ct(&mut self, a: &Ct, last: bool) {
        // An empty list here means nothing to set, not that the packet is dropped; a trace says so all the same.
        self.actions(&a.actions, last, false);
    }

    fn label(&self) -> Option<([u8; 16], [u8; 16])> {
        let mask = self.wc.0.ct_label;
        let value: [u8; 16] = std::array::from_fn(|i| self.key.ct_label[i] & mask[i]);
        (mask != [0; 16]).then(|| (label_to_odp(value), label_to_odp(mask)))
    }

    fn helper(&mut self, alg: u16) -> Option<String> {
        match alg {
            0 => None,
            21 => Some("ftp".to_owned()),
            69 => Some("tftp".to_owned()),
            alg => {
                self.error(format_args!("cannot serialize ct_helper {alg}"));
                None
            }
        }
    }

    pub(super) fn ct_clear(&mut self) {
        self.clear_conntrack();
        if self.can(|features| features.ct_clear) {
            self.odp.push(Action::CtClear);
        }
    }

    /// A copy of the packet goes on in `table` when its connection is known.
    fn fork(&mut self, table: TableId, zone: Zone) {
        self.freezing = true;
        let nat = self.nat;
        let Some(id) = self.recirculate(table) else { return };
        if self.tree.is_some() {
            let packet = self.input.packet.map(<[u8]>::to_vec);
            self.recirculations.push(super::trace::Recirculation::conntrack(self.key, id, zone, nat, packet));
            self.detail(format_args!(
                "A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table {table}."
            ));
        }
    }
}

fn nat_action(nat: &Nat) -> NatAction {
    let range = |min: IpAddr, max: IpAddr| (Some(min), (max > min).then_some(max));
    let (ip_min, ip_max) = match nat.range {
        nat::Range::None => (None, None),
        nat::Range::V4 { min, max } => range(min.into(), max.into()),
        nat::Range::V6 { min, max } => range(min.into(), max.into()),
    };
    let Some(side) = nat.side else { return NatAction::default() };
    let ports = ip_min.is_some() && nat.min_port != 0;
    NatAction {
        kind: Some(if side == nat::Side::Src { NatKind::Src } else { NatKind::Dst }),
        range: NatRange {
            ip_min,
            ip_max,
            proto_min: ports.then_some(nat.min_port),
            proto_max: (ports && nat.max_port > nat.min_port).then_some(nat.max_port),
        },
        persistent: nat.persistent,
        proto_hash: nat.hash,
        proto_random: nat.random && !nat.hash,
    }
}
