//! What a flow does as what a rule does.
//!
//! Rules have one packet: the last output redirects it, the ones before it mirror. A list that does not end with the packet
//! being taken ends with a drop, for otherwise the datapath would see the packet, too.
//!
//! * `length`: what depends on how long a packet is.

mod length;

use std::net::IpAddr;

use flow::action::{self, Action, NatKind, Userspace};
use flow::cookie::{CookieKind, UserCookie};
use flow::id::DpPort;
use flow::key::{Key, Mask, VLAN_CFI, Vlan};
use flow::odp::{KeyAttr, TunnelAttr};

use super::set;
use crate::rule::{Support, Surroundings, Unsupported};
use crate::sample::Site;
use crate::tc::Hook;
use crate::tc::action::ct::{CtNat, NatSide};
use crate::tc::action::mpls::Parts;
use crate::tc::action::vlan::Tag;
use crate::tc::action::{
    self as tc, Control, Ct, MAX_ACTIONS, MAX_VALUE, Mirred, Mpls, PACKET_HOST, Police, Sample, Skbedit,
    Spec, TcAction, TunnelSet, csum,
};
use crate::tc::options::{Erspan, GeneveOpt, SetOpts};

pub(super) struct Lowering<'a> {
    pub key: &'a Key,
    pub mask: &'a Mask,
    around: &'a dyn Surroundings,
    support: &'a Support,
    out: Vec<TcAction>,
    /// Packets still know the tunnel that they came out of.
    tunneled: bool,
    /// They did, and forgot it.
    released: bool,
    goto: Option<u32>,
    /// The flow's actions.
    all: &'a [Action],
    /// Packets are sampled for userspace.
    sampled: bool,
    tags: Tags,
}

/// Tags of the packet on its way.
#[derive(Clone, Copy, Default)]
struct Tags {
    /// That it came with, behind the outermost one.
    inner: usize,
    /// That it was given.
    pushed: usize,
}

impl Tags {
    fn of(key: &Key) -> Self {
        let count = key.vlans.iter().take_while(|vlan| vlan.tci.get() & VLAN_CFI != 0).count();
        Self { inner: count.saturating_sub(1), pushed: 0 }
    }

    /// Of packets that came one way or the other: what may be in front of headers.
    fn or(self, other: Self) -> Self {
        Self { inner: self.inner.max(other.inner), pushed: self.pushed.max(other.pushed) }
    }

    fn pop(&mut self) {
        match self.pushed.checked_sub(1) {
            Some(rest) => self.pushed = rest,
            None => self.inner = self.inner.saturating_sub(1),
        }
    }
}

type Lowered<T = ()> = Result<T, Unsupported>;

/// The rule's actions, and the chain that it goes on to.
pub fn lower(
    (key, mask): (&Key, &Mask),
    actions: &[Action],
    tunneled: bool,
    around: &dyn Surroundings,
    support: &Support,
) -> Lowered<(Vec<TcAction>, Option<u32>)> {
    let (released, goto, out) = (false, None, Vec::new());
    let (all, sampled) = (actions, false);
    let tags = Tags::of(key);
    let mut lowering =
        Lowering { key, mask, around, support, out, tunneled, released, goto, all, sampled, tags };
    lowering.list(actions, true)?;
    if lowering.out.len() > MAX_ACTIONS {
        return Err(Unsupported::Length);
    }
    Ok((lowering.out, lowering.goto))
}

/// What a label stack entry says.
fn parts(lse: u32) -> Parts {
    Parts {
        label: Some(lse >> 12),
        tc: Some((lse >> 9 & 7) as u8),
        bos: Some((lse >> 8 & 1) as u8),
        ttl: Some(lse as u8),
    }
}

fn tag(vlan: Vlan) -> Tag {
    let tci = vlan.tci.get();
    Tag { tpid: Some(vlan.tpid.get()), id: tci & 0xfff, priority: Some((tci >> 13) as u8) }
}

impl Lowering<'_> {
    fn push(&mut self, spec: Spec) -> Lowered {
        self.add(TcAction::pipe(spec))
    }

    fn add(&mut self, action: TcAction) -> Lowered {
        if self.out.len() >= MAX_ACTIONS {
            return Err(Unsupported::Length);
        }
        self.out.push(action);
        Ok(())
    }

    /// Lowers a list. With `ends`, nothing follows it.
    fn list(&mut self, actions: &[Action], ends: bool) -> Lowered {
        let mut at = 0;
        let mut taken = false;
        while let Some(action) = actions.get(at) {
            if taken {
                return Err(Unsupported::After("one that takes the packet"));
            }
            let sets = actions[at..].iter().take_while(|action| set::is_pedit(action)).count();
            if sets > 0 {
                let (keys, sums) = set::lower(self, &actions[at..at + sets])?;
                // The kernel takes an inner tag for where the network header begins, and would write over it.
                if self.tags.inner > 0 && keys.iter().any(|key| key.header != tc::Header::Eth) {
                    return Err(Unsupported::Set("headers behind two tags"));
                }
                self.push(Spec::Pedit(keys))?;
                if sums != 0 {
                    self.push(Spec::Csum(sums))?;
                }
                at += sets;
                continue;
            }
            at += 1;
            taken = self.one(action, ends && at == actions.len())?;
        }
        if ends && !taken {
            self.add(TcAction::gact(Control::Shot))?;
        }
        Ok(())
    }

    /// Lowers an action; whether it takes the packet.
    fn one(&mut self, action: &Action, last: bool) -> Lowered<bool> {
        let spec = match action {
            Action::Output(port) => return self.output(*port, last),
            Action::Recirc(id) => return self.recirc(id.0, last),
            Action::CheckPktLen { len, greater, less_equal } => {
                return self.check_length(*len, greater, less_equal, last);
            }
            Action::Clone(inner) => return self.clone(inner, last),
            Action::Drop(_) => {
                self.add(TcAction::gact(Control::Shot))?;
                return Ok(true);
            }
            Action::Set(KeyAttr::Tunnel(attrs)) => {
                self.release()?;
                Spec::TunnelKey(Some(Box::new(self.tunnel(attrs)?)))
            }
            Action::Set(KeyAttr::Mpls(lses)) => set::mpls(lses, None)?,
            Action::SetMasked(KeyAttr::Mpls(lses), KeyAttr::Mpls(masks)) => set::mpls(lses, Some(masks))?,
            Action::Set(KeyAttr::SkbMark(mark)) => mark_of(*mark, u32::MAX),
            Action::SetMasked(KeyAttr::SkbMark(mark), KeyAttr::SkbMark(mask)) => mark_of(*mark, *mask),
            Action::Set(KeyAttr::Priority(priority))
            | Action::SetMasked(KeyAttr::Priority(priority), KeyAttr::Priority(u32::MAX)) => {
                Spec::Skbedit(Skbedit { priority: Some(*priority), ..Skbedit::default() })
            }
            Action::Set(attr) | Action::SetMasked(attr, _) => return Err(Unsupported::Set(set::name(attr))),
            Action::PushVlan(vlan) => {
                self.tags.pushed += 1;
                Spec::Vlan(tc::Vlan::Push(tag(*vlan)))
            }
            Action::PopVlan => {
                self.tags.pop();
                Spec::Vlan(tc::Vlan::Pop)
            }
            Action::PushMpls { lse, ethertype } => Spec::Mpls(Mpls::Push(ethertype.get(), parts(lse.get()))),
            Action::PopMpls(ethertype) => Spec::Mpls(Mpls::Pop(ethertype.get())),
            Action::AddMpls { lse, ethertype, flags } => {
                let parts = parts(lse.get());
                let l3 = flags & 1 != 0;
                Spec::Mpls(if l3 { Mpls::Push } else { Mpls::MacPush }(ethertype.get(), parts))
            }
            Action::Ct(ct) => Spec::Ct(Box::new(conntrack(ct)?)),
            Action::CtClear => Spec::Ct(Box::new(Ct { clear: true, ..Ct::default() })),
            Action::Meter(meter) => {
                let index = self.around.police(*meter).ok_or(Unsupported::Meter(*meter))?;
                Spec::Police(Police::by_index(index))
            }
            Action::Sample { probability, actions } => self.sample(action, *probability, actions)?,
            Action::Psample { .. } | Action::Userspace(_) => {
                self.sample(action, u32::MAX, std::slice::from_ref(action))?
            }
            Action::Hash { .. } => return Err(Unsupported::Action("hash")),
            Action::Trunc(_) => return Err(Unsupported::Action("trunc")),
            Action::PushEth { .. } => return Err(Unsupported::Action("push_eth")),
            Action::PopEth => return Err(Unsupported::Action("pop_eth")),
            Action::PushNsh(_) => return Err(Unsupported::Action("push_nsh")),
            Action::PopNsh => return Err(Unsupported::Action("pop_nsh")),
            Action::DecTtl(_) => return Err(Unsupported::Action("dec_ttl")),
            Action::TunnelPush(_) => return Err(Unsupported::Action("tnl_push")),
            Action::TunnelPop(_) => return Err(Unsupported::Action("tnl_pop")),
            Action::LbOutput(_) => return Err(Unsupported::Action("lb_output")),
            Action::Unknown(..) => return Err(Unsupported::Action("of an unknown number")),
        };
        self.push(spec)?;
        Ok(false)
    }

    /// Lets the packet forget the tunnel that it came out of, before it goes anywhere else.
    fn release(&mut self) -> Lowered {
        if std::mem::take(&mut self.tunneled) {
            self.released = true;
            self.push(Spec::TunnelKey(None))?;
        }
        Ok(())
    }

    fn output(&mut self, port: DpPort, last: bool) -> Lowered<bool> {
        let device = self.around.device(port).ok_or(Unsupported::Port(port))?;
        self.release()?;
        // What a host receives by an internal port goes into it, not out of it.
        let ingress = device.hook == Hook::Egress;
        if ingress {
            // It is addressed to that host, whomever the device took it to be for that it came in by.
            self.push(Spec::Skbedit(Skbedit { packet_type: Some(PACKET_HOST), ..Skbedit::default() }))?;
        }
        let mirred = Mirred { ifindex: device.ifindex, ingress, mirror: !last };
        let control = if last { Control::Stolen } else { Control::Pipe };
        self.add(TcAction { spec: Spec::Mirred(mirred), control, cookie: None })?;
        Ok(last)
    }

    fn recirc(&mut self, id: u32, last: bool) -> Lowered<bool> {
        if !last {
            return Err(Unsupported::After("recirc"));
        }
        if id == 0 || id > MAX_VALUE {
            return Err(Unsupported::Chain(id));
        }
        if !self.support.chains && !can_begin_anew(self.all) {
            return Err(Unsupported::Part("recirc", "a kernel that does not share recirculation ids"));
        }
        if self.released {
            return Err(Unsupported::Part("recirc", "a tunnel that was left"));
        }
        self.goto = Some(id);
        self.add(TcAction::gact(Control::Goto(id)))?;
        Ok(true)
    }

    /// A copy that changes nothing is as good as the packet; the last one is the packet.
    fn clone(&mut self, inner: &[Action], last: bool) -> Lowered<bool> {
        if last {
            self.list(inner, true)?;
            return Ok(true);
        }
        if !inner.iter().all(|action| matches!(action, Action::Output(_))) {
            return Err(Unsupported::Part("clone", "changes"));
        }
        self.list(inner, false)?;
        Ok(false)
    }

    fn sample(&mut self, action: &Action, probability: u32, actions: &[Action]) -> Lowered<Spec> {
        let group = match actions {
            [Action::Psample { group, cookie }] if cookie.is_empty() => *group,
            [Action::Userspace(userspace)] => self.sample_group(action, userspace)?,
            [Action::Meter(_), ..] => return Err(Unsupported::Part("sample", "a meter")),
            _ => return Err(Unsupported::Action("sample")),
        };
        // One in a whole number, as sFlow asks for, rounded up or down.
        let all = u64::from(u32::MAX);
        let asked = u64::from(probability);
        let rate =
            (all + asked / 2).checked_div(asked).and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0);
        if rate == 0 || asked.saturating_sub(u64::from(u32::MAX / rate)) > 1 {
            return Err(Unsupported::Part("sample", "a probability that is no fraction"));
        }
        Ok(Spec::Sample(Sample { rate, group, trunc: None }))
    }

    /// The group for packets that the switch is to see but not to answer for: what sFlow samples.
    fn sample_group(&mut self, action: &Action, userspace: &Userspace) -> Lowered<u32> {
        let cookie = userspace.userdata.as_deref().and_then(UserCookie::decode);
        if !cookie.is_some_and(|cookie| matches!(cookie.kind, CookieKind::Sflow { .. })) {
            return Err(match action {
                Action::Userspace(_) => Unsupported::Action("userspace"),
                _ => Unsupported::Part("sample", "userspace that is not sFlow"),
            });
        }
        if userspace.egress_tun_port.is_some() {
            return Err(Unsupported::Part("userspace", "a tunnel's output"));
        }
        if std::mem::replace(&mut self.sampled, true) {
            return Err(Unsupported::Part("sample", "another sample"));
        }
        let site = Site {
            in_port: DpPort(self.key.in_port),
            tunnel: super::is_tunneled(self.key).then(|| Box::new(self.key.tunnel)),
            action: action.clone(),
            userspace: userspace.clone(),
            actions: self.all.into(),
        };
        self.around.sample_group(site).ok_or(Unsupported::Groups)
    }

    fn tunnel(&self, attrs: &[TunnelAttr]) -> Lowered<TunnelSet> {
        let mut set = TunnelSet::default();
        let part = |name| Unsupported::Part("set(tunnel)", name);
        for attr in attrs {
            match attr {
                TunnelAttr::Id(id) => set.id = Some(u32::try_from(id.get()).map_err(|_| part("a wide id"))?),
                TunnelAttr::Ipv4Src(addr) => set.src = Some(IpAddr::from(addr.get().to_be_bytes())),
                TunnelAttr::Ipv4Dst(addr) => set.dst = Some(IpAddr::from(addr.get().to_be_bytes())),
                TunnelAttr::Ipv6Src(addr) => set.src = Some(IpAddr::from(*addr)),
                TunnelAttr::Ipv6Dst(addr) => set.dst = Some(IpAddr::from(*addr)),
                TunnelAttr::Tos(tos) => set.tos = Some(*tos),
                TunnelAttr::Ttl(ttl) => set.ttl = Some(*ttl),
                TunnelAttr::DontFragment => set.no_frag = self.support.enc_flags,
                TunnelAttr::Csum => set.no_csum = false,
                TunnelAttr::TpDst(port) => set.dst_port = Some(port.get()),
                TunnelAttr::Geneve(raw) => {
                    let opts = GeneveOpt::parse_all(raw).ok_or_else(|| part("malformed options"))?;
                    if opts.iter().any(|opt| opt.data.is_empty()) {
                        return Err(part("options without data"));
                    }
                    set.opts = (!opts.is_empty()).then_some(SetOpts::Geneve(opts));
                }
                TunnelAttr::VxlanGbp(gbp) => set.opts = Some(SetOpts::Vxlan(*gbp)),
                TunnelAttr::Erspan(opts) => {
                    let erspan = match (opts.version, opts.data) {
                        (1, [a, b, c, d, ..]) => Erspan::V1 { index: u32::from_be_bytes([a, b, c, d]) },
                        (2, [.., high, low]) => {
                            Erspan::V2 { dir: low >> 3 & 1, hwid: (high & 3) << 4 | low >> 4 }
                        }
                        _ => return Err(part("an unknown version of ERSPAN")),
                    };
                    set.opts = Some(SetOpts::Erspan(erspan));
                }
                TunnelAttr::Pad(_) => {}
                TunnelAttr::TpSrc(_) => return Err(part("a source port")),
                TunnelAttr::Oam => return Err(part("oam")),
                TunnelAttr::Gtpu(_) => return Err(part("gtpu")),
                TunnelAttr::Unknown(..) => return Err(part("an unknown attribute")),
            }
        }
        if set.dst.is_none()
            || set.src.is_some_and(|src| Some(src.is_ipv4()) != set.dst.map(|dst| dst.is_ipv4()))
        {
            return Err(part("no destination"));
        }
        Ok(set)
    }
}

fn mark_of(mark: u32, mask: u32) -> Spec {
    Spec::Skbedit(Skbedit { mark: Some((mark, mask)), ..Skbedit::default() })
}

/// Whether nothing is done to packets before they are recirculated but that they are tracked, so that they can begin anew.
fn can_begin_anew(actions: &[Action]) -> bool {
    let (Some(Action::Recirc(_)), before) = (actions.last(), &actions[..actions.len().saturating_sub(1)])
    else {
        return false;
    };
    before.iter().all(|action| match action {
        Action::Ct(ct) => ct.nat.is_none() && !ct.force,
        action => *action == Action::CtClear,
    })
}

fn conntrack(ct: &action::Ct) -> Lowered<Ct> {
    let part = |name| Unsupported::Part("ct", name);
    if ct.helper.is_some() {
        return Err(part("a helper"));
    }
    if ct.timeout.is_some() {
        return Err(part("a timeout policy"));
    }
    // Which events are told is of no consequence for packets.
    let nat = ct.nat.as_ref().map(|nat| {
        if nat.persistent || nat.proto_hash || nat.proto_random {
            return Err(part("nat flags"));
        }
        let side = match nat.kind {
            None => NatSide::Existing,
            Some(NatKind::Src) => NatSide::Src,
            Some(NatKind::Dst) => NatSide::Dst,
        };
        let range = &nat.range;
        let addrs = range.ip_min.map(|min| (min, range.ip_max.unwrap_or(min)));
        let ports = range.proto_min.map(|min| (min, range.proto_max.unwrap_or(min)));
        Ok(CtNat { side, addrs, ports })
    });
    Ok(Ct {
        commit: ct.commit || ct.force,
        force: ct.force,
        clear: false,
        zone: Some(ct.zone.map_or(0, |zone| zone.0)),
        mark: ct.mark,
        labels: ct.labels,
        nat: nat.transpose()?,
    })
}

/// The checksums that a packet of the flow has in front of its payload, if its addresses or ports change.
pub(super) fn transport_sum(lowering: &Lowering<'_>, what: &'static str) -> Lowered<u32> {
    use flow::proto::ip;
    let (key, mask) = (lowering.key, &lowering.mask.0);
    if key.nw_frag != 0 {
        return Err(Unsupported::Fragment(what));
    }
    if mask.nw_proto != u8::MAX {
        return Err(Unsupported::Protocol(what));
    }
    Ok(match key.nw_proto {
        ip::TCP => csum::TCP,
        ip::UDP => csum::UDP,
        ip::UDPLITE => csum::UDPLITE,
        ip::ICMPV6 if key.dl_type.get() == flow::proto::ethertype::IPV6 => csum::ICMP,
        // Their checksums do not cover addresses.
        _ => 0,
    })
}
