//! What a rule does as what a flow does.

use std::net::IpAddr;

use flow::action::{self, Action, Nat, NatKind, NatRange};
use flow::id::{DpMeter, RecircId, Zone};
use flow::key::{VLAN_CFI, Vlan};
use flow::odp::attrs::code;
use flow::odp::tunnel::ErspanOpts;
use flow::odp::{KeyAttr, TunnelAttr};
use zerocopy::big_endian::U32;

use super::Foreign;
use crate::lower::set::{self, PLACES, gather};
use crate::rule::Surroundings;
use crate::tc::action::ct::NatSide;
use crate::tc::action::mpls::Parts;
use crate::tc::action::police::Exceed;
use crate::tc::action::vlan::Tag;
use crate::tc::action::{
    Control, Ct, Header, Mirred, Mpls, PACKET_HOST, PeditKey, Police, Skbedit, Spec, TcAction, TunnelSet,
    Vlan as TcVlan,
};
use crate::tc::options::{Erspan, SetOpts};

type Raised<T> = Result<T, Foreign>;

fn foreign(what: &str) -> Foreign {
    Foreign::Action(what.to_owned())
}

/// Raises a list.
///
/// # Errors
/// The first thing found that flows do not do.
pub fn raise(actions: &[TcAction], around: &dyn Surroundings) -> Raised<Vec<Action>> {
    let mut out = Vec::new();
    list(actions, 0, actions.len(), around, &mut out)?;
    Ok(out)
}

/// Raises what is from `from` up to `to`, of the whole list, for jumps count from its start.
fn list(
    all: &[TcAction],
    from: usize,
    to: usize,
    around: &dyn Surroundings,
    out: &mut Vec<Action>,
) -> Raised<()> {
    let mut at = from;
    while at < to {
        at = match length_of(&all[at]) {
            Some((mtu, skip)) => check_length(all, (at, to), (mtu, skip), around, out)?,
            None => {
                one(&all[at], around, out)?;
                at + 1
            }
        };
    }
    Ok(())
}

/// The length that an action tells packets apart by, and where longer ones go on.
fn length_of(action: &TcAction) -> Option<(u32, usize)> {
    match &action.spec {
        Spec::Police(Police {
            mtu,
            exceed: Some(Exceed(Control::Jump(skip))),
            bytes: None,
            packets: None,
            ..
        }) => Some((*mtu, *skip as usize)),
        _ => None,
    }
}

/// The action at `from` of a list that ends at `to` tells lengths apart; where the list goes on.
fn check_length(
    all: &[TcAction],
    (from, to): (usize, usize),
    (mtu, skip): (u32, usize),
    around: &dyn Surroundings,
    out: &mut Vec<Action>,
) -> Raised<usize> {
    let len = u16::try_from(mtu).map_err(|_| foreign("a length beyond 16 bits"))?;
    if skip <= from || skip > to {
        return Err(foreign("a jump"));
    }
    let bridge = skip - 1;
    // More follows if packets that are not longer skip what longer ones have done to them.
    let end = match all[bridge].control {
        Control::Jump(end) if bridge > from => Some(end as usize),
        _ => None,
    };
    if end.is_some_and(|end| end < skip || end > to) {
        return Err(foreign("a jump"));
    }
    let alone = end.is_some() && all[bridge].spec == Spec::Gact;
    let (mut greater, mut less_equal) = (Vec::new(), Vec::new());
    list(all, from + 1, if alone { bridge } else { skip }, around, &mut less_equal)?;
    list(all, skip, end.unwrap_or(to), around, &mut greater)?;
    if end.is_some() {
        // Changes back to what the packet was are none of the flow.
        [&mut greater, &mut less_equal].into_iter().for_each(trim);
    }
    out.push(Action::CheckPktLen { len, greater, less_equal });
    Ok(end.unwrap_or(to))
}

/// Takes changes from the end of a list.
fn trim(actions: &mut Vec<Action>) {
    while matches!(actions.last(), Some(Action::Set(_) | Action::SetMasked(..))) {
        actions.pop();
    }
}

fn one(action: &TcAction, around: &dyn Surroundings, out: &mut Vec<Action>) -> Raised<()> {
    match &action.spec {
        Spec::Gact => match action.control {
            Control::Goto(chain) => out.push(Action::Recirc(RecircId(chain))),
            // A flow without actions drops, and so do those that do not output.
            Control::Shot => {}
            control => return Err(foreign(&format!("{control:?}"))),
        },
        Spec::Mirred(Mirred { ifindex, .. }) => {
            out.push(Action::Output(around.port(*ifindex).ok_or(Foreign::Device(*ifindex))?));
        }
        Spec::Vlan(vlan) => self::vlan(*vlan, out)?,
        Spec::Mpls(mpls) => out.push(self::mpls(*mpls)?),
        Spec::Pedit(keys) => pedit(keys, out)?,
        // Part of what changed the packet.
        Spec::Csum(_) | Spec::TunnelKey(None) => {}
        Spec::TunnelKey(Some(set)) => out.push(Action::Set(KeyAttr::Tunnel(tunnel(set)))),
        Spec::Ct(ct) => out.push(conntrack(ct)),
        Spec::Skbedit(edit) => skbedit(edit, out)?,
        Spec::Sample(sample) => {
            let probability = u32::MAX.checked_div(sample.rate).unwrap_or(u32::MAX);
            let psample = || Action::Psample { group: sample.group, cookie: Vec::new() };
            out.push(match around.sample_action(sample.group) {
                Some(action) => action,
                None if probability == u32::MAX => psample(),
                None => Action::Sample { probability, actions: vec![psample()] },
            });
        }
        Spec::Police(police) => {
            let meter = around.meter(police.index).unwrap_or(DpMeter(police.index));
            out.push(Action::Meter(meter));
        }
        Spec::Unknown(kind, _) => return Err(foreign(kind)),
    }
    Ok(())
}

fn pushed(tag: Tag) -> Action {
    let tci = tag.id & 0xfff | u16::from(tag.priority.unwrap_or(0)) << 13 | VLAN_CFI;
    let tpid = tag.tpid.unwrap_or(flow::proto::ethertype::VLAN);
    Action::PushVlan(Vlan { tpid: tpid.into(), tci: tci.into() })
}

fn vlan(vlan: TcVlan, out: &mut Vec<Action>) -> Raised<()> {
    match vlan {
        TcVlan::Pop => out.push(Action::PopVlan),
        TcVlan::Push(tag) => out.push(pushed(tag)),
        TcVlan::Modify(tag) => out.extend([Action::PopVlan, pushed(tag)]),
        TcVlan::PopEth | TcVlan::PushEth { .. } => return Err(foreign("vlan of Ethernet headers")),
    }
    Ok(())
}

fn lse(parts: Parts) -> u32 {
    let (label, tc) = (parts.label.unwrap_or(0), u32::from(parts.tc.unwrap_or(0)));
    label << 12 | tc << 9 | u32::from(parts.bos.unwrap_or(0)) << 8 | u32::from(parts.ttl.unwrap_or(0))
}

fn mpls(mpls: Mpls) -> Raised<Action> {
    Ok(match mpls {
        Mpls::Pop(ethertype) => Action::PopMpls(ethertype.into()),
        Mpls::Push(ethertype, parts) => {
            Action::PushMpls { lse: lse(parts).into(), ethertype: ethertype.into() }
        }
        Mpls::MacPush(ethertype, parts) => {
            Action::AddMpls { lse: lse(parts).into(), ethertype: ethertype.into(), flags: 0 }
        }
        Mpls::Modify(parts) => {
            let bits = [
                (parts.label.is_some(), 0xffff_f000),
                (parts.tc.is_some(), 0xe00),
                (parts.bos.is_some(), 0x100),
                (parts.ttl.is_some(), 0xff),
            ];
            let mask = bits.iter().filter(|(there, _)| *there).fold(0, |mask, (_, bits)| mask | bits);
            let value = KeyAttr::Mpls(vec![U32::new(lse(parts))]);
            match mask {
                u32::MAX => Action::Set(value),
                mask => Action::SetMasked(value, KeyAttr::Mpls(vec![U32::new(mask)])),
            }
        }
        Mpls::DecTtl => return Err(foreign("mpls dec_ttl")),
    })
}

/// The attribute that holds the fields of a header.
fn attr_of(header: Header) -> Option<u16> {
    Some(match header {
        Header::Network => code::ARP,
        Header::Eth => code::ETHERNET,
        Header::Ipv4 => code::IPV4,
        Header::Ipv6 => code::IPV6,
        Header::Tcp => code::TCP,
        Header::Udp => code::UDP,
    })
}

fn pedit(keys: &[PeditKey], out: &mut Vec<Action>) -> Raised<()> {
    let mut headers: Vec<Header> = Vec::new();
    for key in keys {
        if key.add || !key.at.is_multiple_of(4) {
            return Err(foreign("pedit that adds"));
        }
        if !headers.contains(&key.header) {
            headers.push(key.header);
        }
    }
    for header in headers {
        let attr = attr_of(header).ok_or_else(|| foreign("pedit"))?;
        let keys: Vec<_> = keys.iter().filter(|key| key.header == header).collect();
        let byte = |of: fn(&PeditKey) -> [u8; 4]| {
            let keys = &keys;
            move |at: usize| {
                keys.iter().find(|key| key.at as usize == at & !3).map_or(0, |key| of(key)[at & 3])
            }
        };
        let len = match attr {
            code::ETHERNET | code::IPV4 => 12,
            code::IPV6 => 40,
            code::ARP => 24,
            _ => 4,
        };
        let (mut value, mut mask) = (vec![0; len], vec![0; len]);
        for place in PLACES.iter().filter(|place| place.attr == attr) {
            let range = place.from..place.from + place.len;
            value[range.clone()].copy_from_slice(&gather(place, byte(|key| key.value)));
            mask[range].copy_from_slice(&gather(place, byte(|key| key.mask)));
        }
        if attr == code::IPV6 {
            // The bits beside the label are those of the traffic class.
            (value[33], mask[33]) = (value[33] & 0xf, mask[33] & 0xf);
        }
        value.iter_mut().zip(&mask).for_each(|(value, mask)| *value &= mask);
        out.push(Action::SetMasked(typed(attr, &value)?, typed(attr, &mask)?));
    }
    Ok(())
}

fn typed(attr: u16, payload: &[u8]) -> Raised<KeyAttr> {
    set::typed(attr, payload).ok_or_else(|| foreign("pedit"))
}

fn tunnel(set: &TunnelSet) -> Vec<TunnelAttr> {
    let mut attrs = Vec::new();
    attrs.extend(set.id.map(|id| TunnelAttr::Id(u64::from(id).into())));
    attrs.extend(set.src.map(|addr| match addr {
        IpAddr::V4(addr) => TunnelAttr::Ipv4Src(u32::from(addr).into()),
        IpAddr::V6(addr) => TunnelAttr::Ipv6Src(addr.octets()),
    }));
    attrs.extend(set.dst.map(|addr| match addr {
        IpAddr::V4(addr) => TunnelAttr::Ipv4Dst(u32::from(addr).into()),
        IpAddr::V6(addr) => TunnelAttr::Ipv6Dst(addr.octets()),
    }));
    attrs.extend(set.tos.map(TunnelAttr::Tos));
    attrs.extend(set.ttl.map(TunnelAttr::Ttl));
    attrs.extend(set.no_frag.then_some(TunnelAttr::DontFragment));
    attrs.extend((!set.no_csum).then_some(TunnelAttr::Csum));
    attrs.extend(set.dst_port.map(|port| TunnelAttr::TpDst(port.into())));
    attrs.extend(set.opts.as_ref().map(|opts| match opts {
        SetOpts::Geneve(opts) => {
            let mut raw = Vec::new();
            opts.iter().for_each(|opt| opt.write(&mut raw));
            TunnelAttr::Geneve(raw)
        }
        SetOpts::Vxlan(gbp) => TunnelAttr::VxlanGbp(*gbp),
        SetOpts::Erspan(Erspan::V1 { index }) => {
            let mut data = [0; 8];
            data[..4].copy_from_slice(&index.to_be_bytes());
            TunnelAttr::Erspan(ErspanOpts { version: 1, data })
        }
        SetOpts::Erspan(Erspan::V2 { dir, hwid }) => {
            let mut data = [0; 8];
            data[6] = hwid >> 4 & 3;
            data[7] = hwid << 4 | (dir & 1) << 3;
            TunnelAttr::Erspan(ErspanOpts { version: 2, data })
        }
    }));
    attrs
}

fn conntrack(ct: &Ct) -> Action {
    if ct.clear {
        return Action::CtClear;
    }
    let nat = ct.nat.map(|nat| {
        let kind = match nat.side {
            NatSide::Existing => None,
            NatSide::Src => Some(NatKind::Src),
            NatSide::Dst => Some(NatKind::Dst),
        };
        // A greatest that equals the least is not told.
        let range = NatRange {
            ip_min: nat.addrs.map(|addrs| addrs.0),
            ip_max: nat.addrs.filter(|(min, max)| min != max).map(|addrs| addrs.1),
            proto_min: nat.ports.map(|ports| ports.0),
            proto_max: nat.ports.filter(|(min, max)| min != max).map(|ports| ports.1),
        };
        Nat { kind, range, ..Nat::default() }
    });
    Action::Ct(action::Ct {
        commit: ct.commit && !ct.force,
        force: ct.force,
        zone: ct.zone.filter(|zone| *zone != 0).map(Zone),
        mark: ct.mark.filter(|(_, mask)| *mask != 0),
        labels: ct.labels.filter(|(_, mask)| *mask != [0; 16]),
        nat,
        ..action::Ct::default()
    })
}

fn skbedit(edit: &Skbedit, out: &mut Vec<Action>) -> Raised<()> {
    // What an internal port receives is for its host.
    if edit.queue.is_some() || edit.packet_type.is_some_and(|kind| kind != PACKET_HOST) {
        return Err(foreign("skbedit of a queue or type"));
    }
    out.extend(edit.priority.map(|priority| Action::Set(KeyAttr::Priority(priority))));
    out.extend(edit.mark.map(|(mark, mask)| match mask {
        u32::MAX => Action::Set(KeyAttr::SkbMark(mark)),
        mask => Action::SetMasked(KeyAttr::SkbMark(mark & mask), KeyAttr::SkbMark(mask)),
    }));
    Ok(())
}
