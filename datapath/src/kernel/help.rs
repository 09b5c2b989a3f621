//! Actions that the kernel refuses, done here: its `set()` knows no ARP, ICMP or neighbor discovery.
//!
//! A packet whose actions have such a `set()` is executed in parts. What comes before it, as far as anybody sees it, the kernel
//! does; then the packet is changed here, and the kernel goes on with the changed one. A flow cannot be helped: translation
//! sends it through the slow path.

use flow::action::Action;
use flow::extract::{Layout, Metadata, extract};
use flow::key::Key;
use flow::odp::KeyAttr;
use flow::packet::{self as edit, Buffer, Frame};
use flow::proto::{PT_ETH, pt_of_ethertype};

use crate::Error;
use crate::flow::Execute;
use crate::user::node::set::ipv6_transport;
use crate::user::program::{Op, Program, Set};

/// One part of an execution that the kernel can do.
#[derive(Debug)]
pub(super) struct Part {
    packet: Frame,
    key: Key,
    actions: Vec<Action>,
}

impl Part {
    pub(super) fn execute<'a>(&'a self, whole: &Execute<'_>) -> Execute<'a> {
        Execute {
            packet: self.packet.bytes(),
            key: &self.key,
            actions: &self.actions,
            probe: whole.probe,
            mtu: whole.mtu,
            hash: whole.hash,
        }
    }
}

/// Whether the kernel refuses `actions` for the sake of a field that it does not set.
pub(super) fn is_needed(actions: &[Action]) -> bool {
    actions.iter().any(|action| match action {
        Action::Set(attr) | Action::SetMasked(attr, _) => is_refused(attr),
        Action::Clone(actions) | Action::Sample { actions, .. } | Action::DecTtl(actions) => {
            is_needed(actions)
        }
        Action::CheckPktLen { greater, less_equal, .. } => is_needed(greater) || is_needed(less_equal),
        _ => false,
    })
}

fn is_refused(attr: &KeyAttr) -> bool {
    matches!(
        attr,
        KeyAttr::Arp(_) | KeyAttr::Icmp(_) | KeyAttr::Icmpv6(_) | KeyAttr::Nd(_) | KeyAttr::NdExt(_)
    )
}

/// The parts of an execution, in order.
///
/// # Errors
/// [`Error::Unsupported`] names actions that help cannot be given in or behind.
pub(super) fn parts(whole: &Execute<'_>) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    let start = Walk { packet: Frame::new(whole.packet), key: *whole.key, lead: Vec::new() };
    start.run(whole.actions, &mut parts)?;
    Ok(parts)
}

/// A packet on its way through a list of actions.
#[derive(Clone)]
struct Walk {
    packet: Frame,
    key: Key,
    /// What changes no bytes, from before: the next part begins with it.
    lead: Vec<Action>,
}

impl Walk {
    fn run(mut self, actions: &[Action], parts: &mut Vec<Part>) -> Result<(), Error> {
        let mut rest = actions;
        while let Some(place) = rest.iter().position(|action| is_needed(std::slice::from_ref(action))) {
            let (before, [helped, after @ ..]) = rest.split_at(place) else { break };
            self.clone().hand_over(before, parts);
            for action in before {
                self.pass(action)?;
            }
            self.help(helped, parts)?;
            rest = after;
        }
        self.hand_over(rest, parts);
        Ok(())
    }

    /// Makes a part of `actions`, as far as anybody sees them.
    fn hand_over(mut self, actions: &[Action], parts: &mut Vec<Part>) {
        let Some(last) = actions.iter().rposition(is_seen) else { return };
        self.lead.extend_from_slice(&actions[..=last]);
        parts.push(Part { packet: self.packet, key: self.key, actions: self.lead });
    }

    /// Does what the kernel would refuse.
    fn help(&mut self, action: &Action, parts: &mut Vec<Part>) -> Result<(), Error> {
        match action {
            Action::Clone(actions) | Action::Sample { probability: u32::MAX, actions } => {
                self.clone().run(actions, parts)
            }
            Action::CheckPktLen { len, greater, less_equal } => {
                let long = self.packet.bytes().len() > usize::from(*len);
                self.clone().run(if long { greater } else { less_equal }, parts)
            }
            Action::Sample { .. } => Err(Error::Unsupported("sample() of a set() that the kernel refuses")),
            Action::DecTtl(_) => Err(Error::Unsupported("dec_ttl() of a set() that the kernel refuses")),
            _ => self.change(action),
        }
    }

    /// Does what an action that the kernel has seen means for the actions behind it.
    fn pass(&mut self, action: &Action) -> Result<(), Error> {
        match action {
            Action::Set(attr) | Action::SetMasked(attr, _) if is_metadata(attr) => {
                self.lead.push(action.clone());
                Ok(())
            }
            Action::Hash { .. } | Action::CtClear => {
                self.lead.push(action.clone());
                Ok(())
            }
            Action::Ct(_) => Err(Error::Unsupported("ct() before a set() that the kernel refuses")),
            Action::Meter(_) => Err(Error::Unsupported("meter() before a set() that the kernel refuses")),
            action if is_seen(action) || matches!(action, Action::Trunc(_)) => Ok(()),
            action => self.change(action),
        }
    }

    /// Changes the packet's bytes.
    fn change(&mut self, action: &Action) -> Result<(), Error> {
        let mut seen = Key::default();
        let mut layout = extract(self.packet.bytes(), &Metadata::from_key(&self.key), &mut seen);
        let program = Program::compile(std::slice::from_ref(action))?;
        let ethertype = self.key.packet_type.get() as u16;
        let b = &mut self.packet;
        let mut packet_type = None;
        match program.ops.first() {
            Some(Op::Set(field)) => set(b, &layout, field),
            Some(Op::PushVlan { tpid, tci }) => edit::push_vlan(b, &mut layout, *tpid, *tci),
            Some(Op::PopVlan) => edit::pop_vlan(b, &mut layout),
            Some(Op::PushMpls { lse, ethertype, l2 }) => {
                edit::push_mpls(b, &mut layout, *ethertype, *lse, *l2);
                packet_type = (!l2).then(|| pt_of_ethertype(*ethertype));
            }
            Some(Op::PopMpls(ethertype)) => {
                edit::pop_mpls(b, &mut layout, *ethertype);
                packet_type = (self.key.packet_type.get() != PT_ETH).then(|| pt_of_ethertype(*ethertype));
            }
            Some(Op::PushEth { src, dst }) => {
                edit::push_eth(b, &mut layout, *dst, *src, ethertype);
                packet_type = Some(PT_ETH);
            }
            Some(Op::PopEth) => packet_type = edit::pop_eth(b, &mut layout),
            Some(Op::PushNsh(header)) => packet_type = edit::push_nsh(b, &mut layout, header),
            Some(Op::PopNsh) => packet_type = edit::pop_nsh(b),
            _ => {}
        }
        if let Some(packet_type) = packet_type {
            self.key.packet_type = packet_type.into();
        }
        Ok(())
    }
}

/// Whether anybody but the actions behind it sees what an action does.
fn is_seen(action: &Action) -> bool {
    matches!(
        action,
        Action::Output(_)
            | Action::Userspace(_)
            | Action::Sample { .. }
            | Action::Recirc(_)
            | Action::Ct(_)
            | Action::Meter(_)
            | Action::Clone(_)
            | Action::CheckPktLen { .. }
            | Action::DecTtl(_)
            | Action::Drop(_)
            | Action::Psample { .. }
            | Action::TunnelPush(_)
            | Action::TunnelPop(_)
            | Action::LbOutput(_)
            | Action::Unknown(..)
    )
}

fn is_metadata(attr: &KeyAttr) -> bool {
    matches!(
        attr,
        KeyAttr::Priority(_)
            | KeyAttr::SkbMark(_)
            | KeyAttr::Tunnel(_)
            | KeyAttr::CtMark(_)
            | KeyAttr::CtLabels(_)
            | KeyAttr::DpHash(_)
    )
}

fn set(b: &mut Frame, layout: &Layout, field: &Set) {
    match field {
        Set::Ethernet { src, dst } => edit::set_ethernet(b, *src, *dst),
        Set::Vlan { tci, mask } => edit::set_vlan(b, *tci, *mask),
        Set::Mpls { lse, mask } => edit::set_mpls(b, layout, *lse, *mask),
        Set::Ipv4(new) => edit::set_ipv4(b, layout, new),
        Set::Ipv6(new) => {
            let (protocol, routed) = ipv6_transport(b.bytes(), layout);
            edit::set_ipv6(b, layout, new, protocol, routed);
        }
        Set::Ports { protocol, src, dst } => edit::set_ports(b, layout, *protocol, *src, *dst),
        Set::Icmp { kind, code } => edit::set_icmp(b, layout, *kind, *code),
        Set::Arp(new) => edit::set_arp(b, layout, new),
        Set::Nd(new) => edit::set_nd(b, layout, new),
        Set::NdExt { reserved, option } => {
            let new = edit::SetNd { reserved: *reserved, option: *option, ..edit::SetNd::default() };
            edit::set_nd(b, layout, &new);
        }
        // Metadata, which the kernel sets.
        Set::Priority(..) | Set::Mark(..) | Set::DpHash(..) | Set::Tunnel(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::id::DpPort;
    use flow::odp::{ArpKey, EthernetKey, IcmpKey};

    /// Who has 10.1.1.243, tell 10.1.1.2.
    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 4, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 4,
        10, 1, 1, 2, 0, 0, 0, 0, 0, 0, 10, 1, 1, 243,
    ];

    const ASKING: [u8; 6] = [2, 0, 0, 0, 0, 4];
    const ASKED: [u8; 6] = [0x80, 0x88, 0x88, 0x88, 0x88, 0x88];

    fn answer() -> Action {
        Action::Set(KeyAttr::Arp(ArpKey {
            sip: 0x0a01_01f3.into(),
            tip: 0x0a01_0102.into(),
            op: 2.into(),
            sha: ASKED,
            tha: ASKING,
            ..ArpKey::default()
        }))
    }

    type Seen = (Vec<u8>, Vec<Action>);

    /// Packet and actions of each part.
    fn run(packet: &[u8], actions: &[Action]) -> Result<Vec<Seen>, Error> {
        let key = Key::default();
        let whole = Execute { packet, key: &key, actions, probe: false, mtu: 0, hash: 0 };
        let parts = parts(&whole)?;
        Ok(parts
            .iter()
            .map(|part| part.execute(&whole))
            .map(|e| (e.packet.to_vec(), e.actions.to_vec()))
            .collect())
    }

    /// The answer to [`REQUEST`], with `to` and `from` as Ethernet addresses.
    fn answered(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let arp = [&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2][..], &ASKED, &[10, 1, 1, 243], &ASKING, &[10, 1, 1, 2]];
        [&to[..], &from, &arp.concat()].concat()
    }

    #[test]
    fn a_packet_is_changed_here_and_sent_by_the_kernel() {
        let addresses = Action::Set(KeyAttr::Ethernet(EthernetKey { src: ASKED, dst: ASKING }));
        let priority = Action::Set(KeyAttr::Priority(7));
        let out = |port| Action::Output(DpPort(port));
        let actions = [out(1), priority.clone(), addresses, answer(), out(3)];
        assert!(is_needed(&actions) && !is_needed(&actions[..3]));
        let expected =
            vec![(REQUEST.to_vec(), vec![out(1)]), (answered(ASKING, ASKED), vec![priority, out(3)])];
        // Nothing that the kernel is told before an output shows.
        assert_eq!(run(&REQUEST, &actions).unwrap(), expected);
    }

    #[test]
    fn copies_do_not_change_the_packet() {
        let out = |port| Action::Output(DpPort(port));
        let actions = [Action::Clone(vec![answer(), out(3)]), out(4)];
        let changed = answered([0xff; 6], ASKING);
        let expected = vec![(changed, vec![out(3)]), (REQUEST.to_vec(), vec![out(4)])];
        assert_eq!(run(&REQUEST, &actions).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_known_here_is_refused() {
        let icmp = Action::Set(KeyAttr::Icmp(IcmpKey { kind: 8, code: 0 }));
        let actions = [Action::Meter(flow::id::DpMeter(1)), icmp, Action::Output(DpPort(1))];
        let error = run(&REQUEST, &actions).unwrap_err();
        assert_eq!(
            error.to_string(),
            Error::Unsupported("meter() before a set() that the kernel refuses").to_string()
        );
    }
}
