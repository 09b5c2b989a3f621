//! Netlink coding of datapath actions.
//!
//! `OVS_ACTION_ATTR_SAMPLE` and `OVS_ACTION_ATTR_CLONE` decode from two forms: the one on the wire, and the one that the
//! kernel stores and that memory dumps show, where a structure of the kernel's own (`OVS_SAMPLE_ATTR_ARG`) stands first
//! and nested actions follow it directly. They encode in the form on the wire.

use super::push::HEADER_SIZE;
use super::{Action, Ct, Nat, NatKind, TunnelPush, Userspace, code, ct};
use crate::attr::{Attr, AttrError, Attrs, MAX_DEPTH, Writer};
use crate::drop::DropReason;
use crate::id::{DpMeter, DpPort, RecircId, Zone};
use crate::key::Vlan;
use crate::odp::attrs::{EthernetKey, NshBase, nsh_code};
use crate::odp::{KeyAttr, NshKey, attrs};
use std::net::IpAddr;
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod sample {
    pub const PROBABILITY: u16 = 1;
    pub const ACTIONS: u16 = 2;
    /// Kernel-internal: one byte, three of padding, probability.
    pub const ARG: u16 = 4;
}

mod userspace {
    pub const PID: u16 = 1;
    pub const USERDATA: u16 = 2;
    pub const EGRESS_TUN_PORT: u16 = 3;
    pub const ACTIONS: u16 = 4;
}

mod check_len {
    pub const LEN: u16 = 1;
    pub const GREATER: u16 = 2;
    pub const LESS_EQUAL: u16 = 3;
}

mod psample {
    pub const GROUP: u16 = 1;
    pub const COOKIE: u16 = 2;
}

const DEC_TTL_ACTION: u16 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PushVlanWire {
    tpid: U16,
    tci: U16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MplsWire {
    lse: U32,
    ethertype: U16,
    flags: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct HashWire {
    alg: u32,
    basis: u32,
}

/// What stands before a tunnel header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TunnelPushWire {
    tnl_port: u32,
    out_port: u32,
    header_len: u32,
    tnl_type: u32,
}

impl Action {
    /// Decodes a list of actions.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, AttrError> {
        decode_list(Attrs::new(bytes), 0)
    }

    /// Encodes a list of actions.
    pub fn encode_all(actions: &[Self]) -> Vec<u8> {
        let mut writer = Writer::new();
        encode_list(actions, &mut writer);
        writer.into_bytes()
    }

    /// Whether attributes can hold what the actions hold.
    pub fn fit(actions: &[Self]) -> bool {
        let mut writer = Writer::new();
        encode_list(actions, &mut writer);
        !writer.is_cut()
    }

    /// Decodes one action.
    pub fn decode(attr: &Attr<'_>) -> Result<Self, AttrError> {
        decode(attr, 0)
    }

    /// Appends the action.
    pub fn encode(&self, writer: &mut Writer) {
        encode(self, writer);
    }
}

fn decode_list(attrs: Attrs<'_>, depth: usize) -> Result<Vec<Action>, AttrError> {
    if depth > MAX_DEPTH {
        return Err(AttrError::TooDeep { at: attrs.offset() });
    }
    attrs.map(|attr| decode(&attr?, depth)).collect()
}

fn decode(attr: &Attr<'_>, depth: usize) -> Result<Action, AttrError> {
    Ok(match attr.kind {
        code::OUTPUT => Action::Output(DpPort(attr.u32()?)),
        code::USERSPACE => Action::Userspace(decode_userspace(attr)?),
        code::SET => Action::Set(KeyAttr::decode(&only(attr)?)?),
        code::PUSH_VLAN => {
            let wire: PushVlanWire = attr.read()?;
            Action::PushVlan(Vlan { tpid: wire.tpid, tci: wire.tci })
        }
        code::POP_VLAN => attr.flag().map(|()| Action::PopVlan)?,
        code::SAMPLE => decode_sample(attr, depth)?,
        code::RECIRC => Action::Recirc(RecircId(attr.u32()?)),
        code::HASH => {
            let HashWire { alg, basis } = attr.read()?;
            Action::Hash { alg, basis }
        }
        code::PUSH_MPLS => {
            let MplsWire { lse, ethertype, .. } = attr.read()?;
            Action::PushMpls { lse, ethertype }
        }
        code::POP_MPLS => Action::PopMpls(attr.be16()?),
        code::SET_MASKED => decode_set_masked(attr)?,
        code::CT => Action::Ct(decode_ct(attr)?),
        code::TRUNC => Action::Trunc(attr.u32()?),
        code::PUSH_ETH => {
            let EthernetKey { src, dst } = attr.read()?;
            Action::PushEth { src, dst }
        }
        code::POP_ETH => attr.flag().map(|()| Action::PopEth)?,
        code::CT_CLEAR => attr.flag().map(|()| Action::CtClear)?,
        code::PUSH_NSH => decode_push_nsh(attr)?,
        code::POP_NSH => attr.flag().map(|()| Action::PopNsh)?,
        code::METER => Action::Meter(DpMeter(attr.u32()?)),
        code::CLONE => Action::Clone(decode_list(clone_actions(attr), depth + 1)?),
        code::CHECK_PKT_LEN => decode_check_len(attr, depth)?,
        code::ADD_MPLS => {
            let MplsWire { lse, ethertype, flags } = attr.read()?;
            Action::AddMpls { lse, ethertype, flags }
        }
        code::DEC_TTL => decode_dec_ttl(attr, depth)?,
        code::DROP => Action::Drop(DropReason::from_code(attr.u32()?)),
        code::PSAMPLE => decode_psample(attr)?,
        code::TUNNEL_PUSH => decode_tunnel_push(attr)?,
        code::TUNNEL_POP => Action::TunnelPop(DpPort(attr.u32()?)),
        code::LB_OUTPUT => Action::LbOutput(attr.u32()?),
        unknown => Action::Unknown(unknown, attr.data.to_vec()),
    })
}

/// The one attribute within `attr`.
fn only<'a>(attr: &Attr<'a>) -> Result<Attr<'a>, AttrError> {
    let mut inner = attr.nested();
    let first = inner.next().ok_or_else(|| attr.invalid("empty"))??;
    if inner.next().is_some() { Err(attr.invalid("more than one attribute")) } else { Ok(first) }
}

fn missing(attr: &Attr<'_>, kind: u16) -> AttrError {
    AttrError::Missing { at: attr.at, kind }
}

fn decode_userspace(attr: &Attr<'_>) -> Result<Userspace, AttrError> {
    let mut pid = None;
    let mut decoded = Userspace::default();
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            userspace::PID => pid = Some(inner.u32()?),
            userspace::USERDATA => decoded.userdata = Some(inner.data.to_vec()),
            userspace::EGRESS_TUN_PORT => decoded.egress_tun_port = Some(DpPort(inner.u32()?)),
            userspace::ACTIONS => decoded.actions = true,
            _ => return Err(inner.invalid("unknown attribute of userspace")),
        }
    }
    decoded.pid = pid.ok_or_else(|| missing(attr, userspace::PID))?;
    Ok(decoded)
}

fn decode_sample(attr: &Attr<'_>, depth: usize) -> Result<Action, AttrError> {
    let mut attrs = attr.nested();
    if let Some(Ok(arg)) = attrs.clone().next()
        && arg.kind == sample::ARG
    {
        attrs.next();
        let [_, _, _, _, probability @ ..] = arg.array::<8>()?;
        let actions = decode_list(attrs, depth + 1)?;
        return Ok(Action::Sample { probability: u32::from_ne_bytes(probability), actions });
    }
    let (mut probability, mut actions) = (None, None);
    for inner in attrs {
        let inner = inner?;
        match inner.kind {
            sample::PROBABILITY => probability = Some(inner.u32()?),
            sample::ACTIONS => actions = Some(decode_list(inner.nested(), depth + 1)?),
            _ => return Err(inner.invalid("unknown attribute of sample")),
        }
    }
    Ok(Action::Sample {
        probability: probability.ok_or_else(|| missing(attr, sample::PROBABILITY))?,
        actions: actions.ok_or_else(|| missing(attr, sample::ACTIONS))?,
    })
}

/// The kernel stores clones behind a one-word attribute of type 0 that says whether it must copy.
fn clone_actions<'a>(attr: &Attr<'a>) -> Attrs<'a> {
    let mut attrs = attr.nested();
    let mut ahead = attrs;
    if matches!(ahead.next(), Some(Ok(exec)) if exec.kind == 0 && exec.data.len() == 4) {
        attrs = ahead;
    }
    attrs
}

fn decode_set_masked(attr: &Attr<'_>) -> Result<Action, AttrError> {
    let inner = only(attr)?;
    if inner.kind == attrs::code::NSH {
        let (value, mask) = decode_nsh_masked(&inner)?;
        return Ok(Action::SetMasked(KeyAttr::Nsh(value), KeyAttr::Nsh(mask)));
    }
    if inner.data.len() % 2 != 0 {
        return Err(inner.invalid("value and mask differ in length"));
    }
    let (value, mask) = inner.data.split_at(inner.data.len() / 2);
    Ok(Action::SetMasked(
        KeyAttr::decode(&Attr { data: value, ..inner })?,
        KeyAttr::decode(&Attr { data: mask, ..inner })?,
    ))
}

/// Masked NSH keeps value and mask together in each nested attribute.
fn decode_nsh_masked(attr: &Attr<'_>) -> Result<(NshKey, NshKey), AttrError> {
    let (mut value, mut mask) = (NshKey::default(), NshKey::default());
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            nsh_code::BASE => {
                let [first, second]: [NshBase; 2] = inner.read()?;
                (value.base, mask.base) = (Some(first), Some(second));
            }
            nsh_code::MD1 => {
                let [first, second]: [[U32; 4]; 2] = inner.read()?;
                (value.md1, mask.md1) = (Some(first), Some(second));
            }
            _ => return Err(inner.invalid("NSH attribute that cannot be set")),
        }
    }
    Ok((value, mask))
}

fn decode_push_nsh(attr: &Attr<'_>) -> Result<Action, AttrError> {
    let inner = only(attr)?;
    if inner.kind != attrs::code::NSH {
        return Err(inner.invalid("not an NSH key"));
    }
    Ok(Action::PushNsh(NshKey::decode(inner.nested())?))
}

fn decode_check_len(attr: &Attr<'_>, depth: usize) -> Result<Action, AttrError> {
    let (mut len, mut greater, mut less_equal) = (None, None, None);
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            check_len::LEN => len = Some(inner.u16()?),
            check_len::GREATER => greater = Some(decode_list(inner.nested(), depth + 1)?),
            check_len::LESS_EQUAL => less_equal = Some(decode_list(inner.nested(), depth + 1)?),
            _ => return Err(inner.invalid("unknown attribute of check_pkt_len")),
        }
    }
    Ok(Action::CheckPktLen {
        len: len.ok_or_else(|| missing(attr, check_len::LEN))?,
        greater: greater.ok_or_else(|| missing(attr, check_len::GREATER))?,
        less_equal: less_equal.ok_or_else(|| missing(attr, check_len::LESS_EQUAL))?,
    })
}

fn decode_dec_ttl(attr: &Attr<'_>, depth: usize) -> Result<Action, AttrError> {
    for inner in attr.nested() {
        let inner = inner?;
        if inner.kind == DEC_TTL_ACTION {
            return Ok(Action::DecTtl(decode_list(inner.nested(), depth + 1)?));
        }
    }
    Ok(Action::DecTtl(Vec::new()))
}

fn decode_psample(attr: &Attr<'_>) -> Result<Action, AttrError> {
    let (mut group, mut cookie) = (None, Vec::new());
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            psample::GROUP => group = Some(inner.u32()?),
            psample::COOKIE => cookie = inner.data.to_vec(),
            _ => return Err(inner.invalid("unknown attribute of psample")),
        }
    }
    Ok(Action::Psample { group: group.ok_or_else(|| missing(attr, psample::GROUP))?, cookie })
}

fn decode_tunnel_push(attr: &Attr<'_>) -> Result<Action, AttrError> {
    let Ok((wire, room)) = TunnelPushWire::read_from_prefix(attr.data) else {
        return Err(attr.wrong_size(size_of::<TunnelPushWire>()));
    };
    let len = wire.header_len as usize;
    let header =
        room.get(..len).filter(|_| len <= HEADER_SIZE).ok_or_else(|| attr.invalid("header too long"))?;
    Ok(Action::TunnelPush(Box::new(TunnelPush {
        tnl_port: DpPort(wire.tnl_port),
        out_port: DpPort(wire.out_port),
        tnl_type: wire.tnl_type,
        header: header.to_vec(),
    })))
}

fn decode_ct(attr: &Attr<'_>) -> Result<Ct, AttrError> {
    let mut decoded = Ct::default();
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            ct::code::COMMIT => decoded.commit = true,
            ct::code::FORCE_COMMIT => decoded.force = true,
            ct::code::ZONE => decoded.zone = Some(Zone(inner.u16()?)),
            ct::code::MARK => {
                let [value, mask]: [u32; 2] = inner.read()?;
                decoded.mark = Some((value, mask));
            }
            ct::code::LABELS => {
                let [value, mask]: [[u8; 16]; 2] = inner.read()?;
                decoded.labels = Some((value, mask));
            }
            ct::code::HELPER => decoded.helper = Some(inner.str()?.to_owned()),
            ct::code::EVENTMASK => decoded.eventmask = Some(inner.u32()?),
            ct::code::TIMEOUT => decoded.timeout = Some(inner.str()?.to_owned()),
            ct::code::NAT => decoded.nat = Some(decode_nat(&inner)?),
            _ => return Err(inner.invalid("unknown attribute of ct")),
        }
    }
    Ok(decoded)
}

fn decode_nat(attr: &Attr<'_>) -> Result<Nat, AttrError> {
    let mut nat = Nat::default();
    for inner in attr.nested() {
        let inner = inner?;
        match inner.kind {
            ct::nat_code::SRC | ct::nat_code::DST if nat.kind.is_some() => {
                return Err(inner.invalid("both src and dst"));
            }
            ct::nat_code::SRC => nat.kind = Some(NatKind::Src),
            ct::nat_code::DST => nat.kind = Some(NatKind::Dst),
            ct::nat_code::IP_MIN => nat.range.ip_min = Some(address(&inner)?),
            ct::nat_code::IP_MAX => nat.range.ip_max = Some(address(&inner)?),
            ct::nat_code::PROTO_MIN => nat.range.proto_min = Some(inner.u16()?),
            ct::nat_code::PROTO_MAX => nat.range.proto_max = Some(inner.u16()?),
            ct::nat_code::PERSISTENT => nat.persistent = true,
            ct::nat_code::PROTO_HASH => nat.proto_hash = true,
            ct::nat_code::PROTO_RANDOM => nat.proto_random = true,
            _ => return Err(inner.invalid("unknown attribute of nat")),
        }
    }
    Ok(nat)
}

fn address(attr: &Attr<'_>) -> Result<IpAddr, AttrError> {
    match attr.data.len() {
        16 => attr.array::<16>().map(IpAddr::from),
        _ => attr.array::<4>().map(IpAddr::from),
    }
}

fn encode_list(actions: &[Action], writer: &mut Writer) {
    for action in actions {
        encode(action, writer);
    }
}

fn encode(action: &Action, writer: &mut Writer) {
    match action {
        Action::Output(port) => writer.put_u32(code::OUTPUT, port.0),
        Action::Userspace(userspace) => encode_userspace(userspace, writer),
        Action::Set(key) => writer.nest(code::SET, |nest| key.encode(nest)),
        Action::SetMasked(value, mask) => {
            writer.nest(code::SET_MASKED, |nest| encode_masked(value, mask, nest))
        }
        Action::PushVlan(Vlan { tpid, tci }) => {
            writer.put_struct(code::PUSH_VLAN, &PushVlanWire { tpid: *tpid, tci: *tci });
        }
        Action::PopVlan => writer.put_flag(code::POP_VLAN),
        Action::Sample { probability, actions } => writer.nest(code::SAMPLE, |nest| {
            nest.put_u32(sample::PROBABILITY, *probability);
            nest.nest(sample::ACTIONS, |nest| encode_list(actions, nest));
        }),
        Action::Recirc(id) => writer.put_u32(code::RECIRC, id.0),
        Action::Hash { alg, basis } => writer.put_struct(code::HASH, &HashWire { alg: *alg, basis: *basis }),
        Action::PushMpls { lse, ethertype } => {
            writer.put_struct(code::PUSH_MPLS, &MplsWire { lse: *lse, ethertype: *ethertype, flags: 0 });
        }
        Action::PopMpls(ethertype) => writer.put_struct(code::POP_MPLS, ethertype),
        Action::Ct(ct) => writer.nest(code::CT, |nest| encode_ct(ct, nest)),
        Action::Trunc(len) => writer.put_u32(code::TRUNC, *len),
        Action::PushEth { src, dst } => {
            writer.put_struct(code::PUSH_ETH, &EthernetKey { src: *src, dst: *dst });
        }
        Action::PopEth => writer.put_flag(code::POP_ETH),
        Action::CtClear => writer.put_flag(code::CT_CLEAR),
        Action::PushNsh(nsh) => {
            writer.nest(code::PUSH_NSH, |nest| nest.nest(attrs::code::NSH, |nest| nsh.encode(nest)));
        }
        Action::PopNsh => writer.put_flag(code::POP_NSH),
        Action::Meter(meter) => writer.put_u32(code::METER, meter.0),
        Action::Clone(actions) => writer.nest(code::CLONE, |nest| encode_list(actions, nest)),
        Action::CheckPktLen { len, greater, less_equal } => writer.nest(code::CHECK_PKT_LEN, |nest| {
            nest.put_u16(check_len::LEN, *len);
            nest.nest(check_len::GREATER, |nest| encode_list(greater, nest));
            nest.nest(check_len::LESS_EQUAL, |nest| encode_list(less_equal, nest));
        }),
        Action::AddMpls { lse, ethertype, flags } => {
            writer.put_struct(code::ADD_MPLS, &MplsWire { lse: *lse, ethertype: *ethertype, flags: *flags });
        }
        Action::DecTtl(actions) => writer.nest(code::DEC_TTL, |nest| {
            nest.nest(DEC_TTL_ACTION, |nest| encode_list(actions, nest));
        }),
        Action::Drop(reason) => writer.put_u32(code::DROP, reason.code()),
        Action::Psample { group, cookie } => writer.nest_flagged(code::PSAMPLE, |nest| {
            nest.put_u32(psample::GROUP, *group);
            if !cookie.is_empty() {
                nest.put(psample::COOKIE, cookie);
            }
        }),
        Action::TunnelPush(push) => encode_tunnel_push(push, writer),
        Action::TunnelPop(port) => writer.put_u32(code::TUNNEL_POP, port.0),
        Action::LbOutput(bond) => writer.put_u32(code::LB_OUTPUT, *bond),
        Action::Unknown(code, bytes) => writer.put(*code, bytes),
    }
}

fn encode_userspace(action: &Userspace, writer: &mut Writer) {
    writer.nest(code::USERSPACE, |nest| {
        nest.put_u32(userspace::PID, action.pid);
        if let Some(userdata) = &action.userdata {
            nest.put(userspace::USERDATA, userdata);
        }
        if let Some(port) = action.egress_tun_port {
            nest.put_u32(userspace::EGRESS_TUN_PORT, port.0);
        }
        if action.actions {
            nest.put_flag(userspace::ACTIONS);
        }
    });
}

fn encode_masked(value: &KeyAttr, mask: &KeyAttr, writer: &mut Writer) {
    if let (KeyAttr::Nsh(value), KeyAttr::Nsh(mask)) = (value, mask) {
        return writer.nest(attrs::code::NSH, |nest| {
            if let (Some(value), Some(mask)) = (value.base, mask.base) {
                nest.put_struct(nsh_code::BASE, &[value, mask]);
            }
            if let (Some(value), Some(mask)) = (value.md1, mask.md1) {
                nest.put_struct(nsh_code::MD1, &[value, mask]);
            }
        });
    }
    let mut both = value.payload();
    both.extend(mask.payload());
    writer.put(value.code(), &both);
}

fn encode_ct(action: &Ct, writer: &mut Writer) {
    if action.commit {
        writer.put_flag(ct::code::COMMIT);
    }
    if action.force {
        writer.put_flag(ct::code::FORCE_COMMIT);
    }
    if let Some(zone) = action.zone {
        writer.put_u16(ct::code::ZONE, zone.0);
    }
    if let Some((value, mask)) = action.mark {
        writer.put_struct(ct::code::MARK, &[value, mask]);
    }
    if let Some((value, mask)) = action.labels {
        writer.put_struct(ct::code::LABELS, &[value, mask]);
    }
    if let Some(helper) = &action.helper {
        writer.put_str(ct::code::HELPER, helper);
    }
    if let Some(events) = action.eventmask {
        writer.put_u32(ct::code::EVENTMASK, events);
    }
    if let Some(timeout) = &action.timeout {
        writer.put_str(ct::code::TIMEOUT, timeout);
    }
    if let Some(nat) = &action.nat {
        writer.nest(ct::code::NAT, |nest| encode_nat(nat, nest));
    }
}

fn encode_nat(nat: &Nat, writer: &mut Writer) {
    match nat.kind {
        Some(NatKind::Src) => writer.put_flag(ct::nat_code::SRC),
        Some(NatKind::Dst) => writer.put_flag(ct::nat_code::DST),
        None => return,
    }
    for (kind, ip) in [(ct::nat_code::IP_MIN, nat.range.ip_min), (ct::nat_code::IP_MAX, nat.range.ip_max)] {
        match ip {
            Some(IpAddr::V4(ip)) => writer.put(kind, &ip.octets()),
            Some(IpAddr::V6(ip)) => writer.put(kind, &ip.octets()),
            None => {}
        }
    }
    if let Some(port) = nat.range.proto_min {
        writer.put_u16(ct::nat_code::PROTO_MIN, port);
    }
    if let Some(port) = nat.range.proto_max {
        writer.put_u16(ct::nat_code::PROTO_MAX, port);
    }
    let flags = [
        (nat.persistent, ct::nat_code::PERSISTENT),
        (nat.proto_hash, ct::nat_code::PROTO_HASH),
        (nat.proto_random, ct::nat_code::PROTO_RANDOM),
    ];
    for (_, kind) in flags.iter().filter(|(set, _)| *set) {
        writer.put_flag(*kind);
    }
}

fn encode_tunnel_push(push: &TunnelPush, writer: &mut Writer) {
    let header = &push.header[..push.header.len().min(HEADER_SIZE)];
    let wire = TunnelPushWire {
        tnl_port: push.tnl_port.0,
        out_port: push.out_port.0,
        header_len: header.len() as u32,
        tnl_type: push.tnl_type,
    };
    let mut payload = wire.as_bytes().to_vec();
    payload.extend(header);
    writer.put(code::TUNNEL_PUSH, &payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::format;
    use crate::odp::NoNames;
    use std::collections::BTreeMap;

    /// Actions of one sampled flow as the kernel held them.
    const STORED: &str = "54000600 0c000400 01582593 99999919 44000200 08000100 09d107aa 34000200 01000000 03000000 \
        02f2cd6b e54cf699 303863bf 2e63ebd1 00000000 48000000 00000000 00000000 00000000 00000000 04000400 08000100 \
        05000000";

    fn stored() -> Vec<u8> {
        let digits: String = STORED.chars().filter(char::is_ascii_hexdigit).collect();
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn stored_sample_decodes_and_prints() {
        let actions = Action::decode_all(&stored()).unwrap();
        let names: BTreeMap<_, _> = [(DpPort(5), "enp4s0f0_1".to_owned())].into();
        assert_eq!(
            format::actions(&actions, &names),
            "sample(sample=10.0%,actions(userspace(pid=2852638985,sFlow(vid=0,pcp=0,output=72),actions))),enp4s0f0_1"
        );
        let wire = Action::encode_all(&actions);
        assert_eq!(Action::decode_all(&wire).unwrap(), actions);
        assert_eq!(&wire[..16], [0x54, 0, 6, 0, 8, 0, 1, 0, 0x99, 0x99, 0x99, 0x19, 0x48, 0, 2, 0]);
        assert_eq!(wire[16..20], [0x44, 0, 2, 0]);
    }

    #[test]
    fn unknown_actions_survive() {
        let unknown = vec![Action::Unknown(77, vec![1, 2, 3]), Action::Unknown(78, vec![])];
        let wire = Action::encode_all(&unknown);
        assert_eq!(Action::decode_all(&wire).unwrap(), unknown);
        assert_eq!(format::actions(&unknown, &NoNames), "action77(01 02 03),action78");
    }
}
