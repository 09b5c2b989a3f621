//! Text of datapath actions as actions: what [`super::format`] prints.

use super::push::{gre, vport};
use super::{Action, Ct, Nat, NatKind, NatRange, TunnelPush, Userspace, hash_alg};
use crate::attr::{Attrs, MAX_DEPTH};
use crate::cookie::{self, CookieKind, SampleDirection, SlowReasons, UserCookie};
use crate::drop::DropReason;
use crate::id::{DpMeter, DpPort, OfPort, RecircId, Zone};
use crate::key::{VLAN_CFI, Vlan};
use crate::odp::attrs::{NshBase, NshKey};
use crate::odp::{KeyAttr, PortNames, parse as odp_parse};
use crate::proto::{ethertype, ip};
use crate::text::Scan;
use std::net::IpAddr;
use thiserror::Error;
use zerocopy::big_endian::{U16, U32};

/// Text that is no list of actions.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("syntax error at {rest}")]
pub struct ParseActionsError {
    /// The text from where it could not be read.
    pub rest: String,
}

/// Reads a list of actions; `drop` alone is an explicit drop.
pub fn actions(text: &str, names: &dyn PortNames) -> Result<Vec<Action>, ParseActionsError> {
    if text.eq_ignore_ascii_case("drop") {
        return Ok(vec![Action::Drop(DropReason::Pipeline)]);
    }
    let mut scan = Scan::new(text);
    let mut actions = Vec::new();
    loop {
        scan.skip_delimiters();
        if scan.is_empty() {
            return Ok(actions);
        }
        let begin = actions.len();
        let error = || ParseActionsError { rest: scan.rest().to_owned() };
        let mut ahead = scan;
        let action = Parser { names, depth: 0 }.action(&mut ahead).ok_or_else(error)?;
        if ahead.peek().is_some_and(|c| !", \t\r\n".contains(c)) {
            return Err(error());
        }
        actions.push(action);
        if !Action::fit(&actions[begin..]) {
            return Err(error());
        }
        scan = ahead;
    }
}

#[derive(Clone, Copy)]
struct Parser<'a> {
    names: &'a dyn PortNames,
    depth: usize,
}

impl Parser<'_> {
    fn action(self, scan: &mut Scan<'_>) -> Option<Action> {
        if self.depth >= MAX_DEPTH {
            return None;
        }
        if let Some(port) = scan.fit::<u32>() {
            return Some(Action::Output(DpPort(port)));
        }
        let mut ahead = *scan;
        if let Some(port) = self.names.port(ahead.take_while(|c| !", \t\r\n)".contains(c))) {
            *scan = ahead;
            return Some(Action::Output(port));
        }
        let mut ahead = *scan;
        let name = ahead.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        if let Some(plain) = plain(name) {
            *scan = ahead;
            return Some(plain);
        }
        if name == "ct" && ahead.peek() != Some('(') {
            *scan = ahead;
            return Some(Action::Ct(Ct::default()));
        }
        ahead.want("(")?;
        let action = self.with_arguments(name, &mut ahead)?;
        *scan = ahead;
        Some(action)
    }

    /// An action from behind its opening parenthesis to its closing one.
    fn with_arguments(self, name: &str, scan: &mut Scan<'_>) -> Option<Action> {
        let action = match name {
            "userspace" => Action::Userspace(self.userspace(scan)?),
            "set" => set(scan, self.names)?,
            "sample" => self.sample(scan)?,
            "ct" => Action::Ct(ct(scan)?),
            "push_nsh" => push_nsh(scan)?,
            "psample" => psample(scan)?,
            "tnl_push" => self.tunnel_push(scan)?,
            "check_pkt_len" => self.check_len(scan)?,
            "dec_ttl" => {
                scan.want("le_1(")?;
                Action::DecTtl(self.list(scan)?)
            }
            "clone" => return Some(Action::Clone(self.list(scan)?)),
            "pop_nsh" => Action::PopNsh,
            "lb_output" => Action::LbOutput(scan.fit()?),
            "trunc" => Action::Trunc(scan.fit()?),
            "recirc" => Action::Recirc(RecircId(scan.fit()?)),
            "meter" => Action::Meter(DpMeter(scan.fit()?)),
            "tnl_pop" => Action::TunnelPop(self.port(scan)?),
            "hash" => hash(scan)?,
            "push_vlan" => push_vlan(scan)?,
            "push_eth" => push_eth(scan)?,
            "push_mpls" => {
                let (lse, ethertype) = mpls(scan)?;
                Action::PushMpls { lse, ethertype }
            }
            "add_mpls" => {
                let (lse, ethertype) = mpls(scan)?;
                Action::AddMpls { lse, ethertype, flags: 0 }
            }
            "pop_mpls" => {
                scan.want("eth_type=")?;
                Action::PopMpls(U16::new(scan.fit()?))
            }
            _ => return None,
        };
        scan.want(")")?;
        Some(action)
    }

    /// Actions up to and including a closing parenthesis; `drop` there is no action.
    fn list(self, scan: &mut Scan<'_>) -> Option<Vec<Action>> {
        let inner = Self { depth: self.depth + 1, ..self };
        let mut actions = Vec::new();
        if scan.eat("drop)") {
            return Some(actions);
        }
        loop {
            scan.skip_delimiters();
            if scan.eat(")") {
                return Some(actions);
            }
            actions.push(inner.action(scan)?);
        }
    }

    fn port(self, scan: &mut Scan<'_>) -> Option<DpPort> {
        match scan.fit() {
            Some(number) => Some(DpPort(number)),
            None => self.names.port(scan.take_while(|c| !",)".contains(c))),
        }
    }

    fn sample(self, scan: &mut Scan<'_>) -> Option<Action> {
        scan.want("sample=")?;
        let percent: f64 = scan.take_while(|c| c.is_ascii_digit() || ".eE+-".contains(c)).parse().ok()?;
        scan.want("%,actions(")?;
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // The cast saturates; the sum is rounded to the nearest.
        let probability = (f64::from(u32::MAX) * (percent / 100.0) + 0.5).floor() as u32;
        Some(Action::Sample { probability, actions: self.list(scan)? })
    }

    fn check_len(self, scan: &mut Scan<'_>) -> Option<Action> {
        scan.want("size=")?;
        let len = scan.fit()?;
        scan.want(",gt(")?;
        let greater = self.list(scan)?;
        scan.want(",le(")?;
        Some(Action::CheckPktLen { len, greater, less_equal: self.list(scan)? })
    }

    fn userspace(self, scan: &mut Scan<'_>) -> Option<Userspace> {
        scan.want("pid=")?;
        let pid = scan.fit()?;
        let userdata = self.userdata(scan)?;
        let actions = scan.eat(",actions");
        let egress_tun_port = if scan.eat(",tunnel_out_port=") { Some(self.port(scan)?) } else { None };
        Some(Userspace { pid, userdata: Some(userdata), egress_tun_port, actions })
    }

    /// Cookie or bytes; without any, an empty cookie.
    fn userdata(self, scan: &mut Scan<'_>) -> Option<Vec<u8>> {
        let mut ahead = *scan;
        if !ahead.eat(",") || ["actions", "tunnel_out"].iter().any(|next| ahead.rest().starts_with(next)) {
            return Some(vec![0; cookie::LEN]);
        }
        let name = ahead.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        ahead.want("(")?;
        let kind = match name {
            "userdata" => {
                let bytes = ahead.hex_pairs();
                ahead.want(")")?;
                *scan = ahead;
                return Some(bytes);
            }
            "sFlow" => sflow(&mut ahead)?,
            "slow_path" => {
                let known = SlowReasons::ROWS.iter().fold(0, |bits, (reason, ..)| bits | reason.bits());
                let (bits, _) = ahead.flags(known, SlowReasons::name)?;
                CookieKind::SlowPath { reasons: SlowReasons::from_bits_retain(bits) }
            }
            "flow_sample" => self.flow_sample(&mut ahead)?,
            "ipfix" => {
                ahead.want("output_port=")?;
                CookieKind::Ipfix { output_port: self.port(&mut ahead)? }
            }
            "controller" => controller(&mut ahead)?,
            _ => return None,
        };
        ahead.want(")")?;
        *scan = ahead;
        Some(UserCookie { in_port: OfPort::NONE, ofproto: [0; 16], kind }.encode().to_vec())
    }

    fn flow_sample(self, scan: &mut Scan<'_>) -> Option<CookieKind> {
        let [probability, collector_set_id, obs_domain_id, obs_point_id] =
            named(scan, ["probability=", ",collector_set_id=", ",obs_domain_id=", ",obs_point_id="])?;
        scan.want(",output_port=")?;
        let output_port = self.port(scan)?;
        let direction = if scan.eat(",ingress") {
            SampleDirection::Ingress
        } else if scan.eat(",egress") {
            SampleDirection::Egress
        } else {
            SampleDirection::Default
        };
        Some(CookieKind::FlowSample {
            probability: probability as u16,
            collector_set_id: u32::try_from(collector_set_id).ok()?,
            obs_domain_id: u32::try_from(obs_domain_id).ok()?,
            obs_point_id: u32::try_from(obs_point_id).ok()?,
            output_port,
            direction,
        })
    }

    fn tunnel_push(self, scan: &mut Scan<'_>) -> Option<Action> {
        scan.want("tnl_port(")?;
        let tnl_port = self.port(scan)?;
        scan.want("),header(")?;
        let [size, tnl_type] = named(scan, ["size=", ",type="])?;
        scan.want(",eth(dst=")?;
        let dst = scan.eth()?;
        scan.want(",src=")?;
        let src = scan.eth()?;
        scan.want(",dl_type=")?;
        let dl_type = u16::try_from(scan.hex_int()?).ok()?;
        scan.want("),")?;
        let mut header = [&dst[..], &src, &dl_type.to_be_bytes()].concat();
        let kind = tunnel_header(scan, dl_type, &mut header)?;
        if tnl_type != u64::from(kind) || size != header.len() as u64 {
            return None;
        }
        scan.want("),out_port(")?;
        let out_port = self.port(scan)?;
        scan.want(")")?;
        Some(Action::TunnelPush(Box::new(TunnelPush { tnl_port, out_port, tnl_type: kind, header })))
    }
}

/// Actions that are a word.
fn plain(name: &str) -> Option<Action> {
    Some(match name {
        "pop_vlan" => Action::PopVlan,
        "pop_eth" => Action::PopEth,
        "ct_clear" => Action::CtClear,
        "drop" => Action::Drop(DropReason::Pipeline),
        _ => return None,
    })
}

/// Integers, each behind its name.
fn named<const N: usize>(scan: &mut Scan<'_>, names: [&str; N]) -> Option<[u64; N]> {
    let mut values = [0; N];
    for (value, name) in values.iter_mut().zip(names) {
        scan.want(name)?;
        *value = scan.int()?;
    }
    Some(values)
}

fn sflow(scan: &mut Scan<'_>) -> Option<CookieKind> {
    let [vid, pcp, output] = named(scan, ["vid=", ",pcp=", ",output="])?;
    let tci = (vid | pcp << 13) as u16;
    let vlan_tci = if tci == 0 { 0 } else { tci | VLAN_CFI };
    Some(CookieKind::Sflow { vlan_tci, output: u32::try_from(output).ok()? })
}

fn controller(scan: &mut Scan<'_>) -> Option<CookieKind> {
    let [reason, dont_send, continuation, recirc_id] =
        named(scan, ["reason=", ",dont_send=", ",continuation=", ",recirc_id="])?;
    scan.want(",rule_cookie=")?;
    let rule_cookie = scan.hex_int()?;
    let [controller_id, max_len] = named(scan, [",controller_id=", ",max_len="])?;
    Some(CookieKind::Controller {
        dont_send: dont_send != 0,
        continuation: continuation != 0,
        reason: u16::try_from(reason).ok()?,
        recirc_id: RecircId(u32::try_from(recirc_id).ok()?),
        rule_cookie,
        controller_id: u16::try_from(controller_id).ok()?,
        max_len: u16::try_from(max_len).ok()?,
    })
}

fn set(scan: &mut Scan<'_>, names: &dyn PortNames) -> Option<Action> {
    let (key, mask) = odp_parse::attribute(scan, names)?;
    let decode = |bytes: &[u8]| Attrs::new(bytes).next()?.ok().and_then(|attr| KeyAttr::decode(&attr).ok());
    let (mut value, mut mask) = (decode(key.bytes())?, decode(mask.bytes())?);
    if let (KeyAttr::Nsh(value), KeyAttr::Nsh(mask)) = (&mut value, &mut mask)
        && (value.md1.is_none() || mask.md1 == Some([U32::ZERO; 4]))
    {
        // A context that is not set is not told.
        (value.md1, mask.md1) = (None, None);
    }
    let bits = mask.payload();
    let exact = match &mask {
        KeyAttr::Nsh(nsh) => nsh_is_exact(nsh),
        KeyAttr::Tunnel(_) => true,
        _ => bits.iter().all(|&byte| byte == 0xff),
    };
    let comparable = bits.len() == value.payload().len() || matches!(mask, KeyAttr::Nsh(_));
    Some(if exact || !comparable { Action::Set(value) } else { Action::SetMasked(value, mask) })
}

fn nsh_is_exact(mask: &NshKey) -> bool {
    let base = NshBase { flags: 0xff, ttl: 0xff, mdtype: 0xff, np: 0xff, path_hdr: U32::MAX_VALUE };
    mask.base == Some(base) && mask.md1 == Some([U32::MAX_VALUE; 4])
}

fn hash(scan: &mut Scan<'_>) -> Option<Action> {
    let alg = if scan.eat("sym_l4(") {
        hash_alg::SYM_L4
    } else {
        scan.want("l4(")?;
        hash_alg::L4
    };
    let basis = scan.fit()?;
    scan.want(")")?;
    Some(Action::Hash { alg, basis })
}

fn push_vlan(scan: &mut Scan<'_>) -> Option<Action> {
    let mut tpid = ethertype::VLAN;
    if scan.eat("tpid=") {
        tpid = scan.fit()?;
        scan.want(",")?;
    }
    let [vid, pcp] = named(scan, ["vid=", ",pcp="])?;
    let cfi = if scan.eat(",cfi=") { scan.int()? } else { 1 };
    if vid > 0xfff || pcp > 7 {
        return None;
    }
    let tci = vid as u16 | (pcp as u16) << 13 | if cfi == 0 { 0 } else { VLAN_CFI };
    Some(Action::PushVlan(Vlan { tpid: U16::new(tpid), tci: U16::new(tci) }))
}

fn push_eth(scan: &mut Scan<'_>) -> Option<Action> {
    scan.want("src=")?;
    let src = scan.eth()?;
    scan.want(",dst=")?;
    Some(Action::PushEth { src, dst: scan.eth()? })
}

fn mpls(scan: &mut Scan<'_>) -> Option<(U32, U16)> {
    let [label, class, ttl, bottom] = named(scan, ["label=", ",tc=", ",ttl=", ",bos="])?;
    scan.want(",eth_type=")?;
    let ethertype = u16::try_from(scan.hex_int()?).ok()?;
    if label > 0xf_ffff || class > 7 || ttl > 0xff || bottom > 1 {
        return None;
    }
    Some((U32::new((label << 12 | class << 9 | bottom << 8 | ttl) as u32), U16::new(ethertype)))
}

fn push_nsh(scan: &mut Scan<'_>) -> Option<Action> {
    let mut base = NshBase { flags: 0, ttl: 63, mdtype: 1, np: 3, path_hdr: U32::ZERO };
    let (mut spi, mut si) = (0, 255);
    let (mut context, mut md2) = ([U32::ZERO; 4], None);
    loop {
        scan.skip_delimiters();
        if scan.peek() == Some(')') {
            break;
        }
        let name = scan.take_while(|c| c.is_ascii_alphanumeric());
        scan.want("=")?;
        match name {
            "flags" => base.flags = scan.fit()?,
            "ttl" => base.ttl = scan.fit()?,
            "mdtype" => base.mdtype = scan.fit::<u8>().filter(|kind| matches!(kind, 1 | 2))?,
            "np" => base.np = scan.fit()?,
            "spi" => spi = u32::try_from(scan.hex_int()?).ok()?,
            "si" => si = scan.fit::<u8>()?,
            "c1" | "c2" | "c3" | "c4" if base.mdtype == 1 => {
                let place = usize::from(name.as_bytes()[1] - b'1');
                context[place] = U32::new(u32::try_from(scan.hex_int()?).ok()?);
            }
            "md2" if base.mdtype == 2 => {
                scan.want("0x")?;
                let mut bytes = scan.hex_pairs();
                bytes.resize(crate::attr::align(bytes.len()), 0);
                md2 = Some(bytes).filter(|bytes| bytes.len() <= 244);
                md2.as_ref()?;
            }
            _ => return None,
        }
    }
    base.path_hdr = U32::new((spi & 0xff_ffff) << 8 | u32::from(si));
    let md1 = (base.mdtype == 1).then_some(context);
    Some(Action::PushNsh(NshKey { base: Some(base), md1, md2 }))
}

fn psample(scan: &mut Scan<'_>) -> Option<Action> {
    let (mut group, mut cookie) = (None, Vec::new());
    while scan.peek() != Some(')') {
        scan.skip_delimiters();
        if group.is_none() && scan.eat("group=") {
            group = Some(scan.fit()?);
        } else if cookie.is_empty() && scan.eat("cookie=0x") {
            let digits = scan.take_while(|c| c.is_ascii_hexdigit());
            if digits.is_empty() || digits.len() > 32 {
                return None;
            }
            cookie = Scan::new(digits).hex_pairs();
        } else {
            return None;
        }
    }
    Some(Action::Psample { group: group?, cookie })
}

fn ct(scan: &mut Scan<'_>) -> Option<Ct> {
    let mut ct = Ct::default();
    let word = |scan: &mut Scan<'_>, longest: usize| {
        let word = scan.take_while(|c| !", \t\r\n)".contains(c));
        (1..=longest).contains(&word.len()).then(|| word.to_owned())
    };
    loop {
        scan.skip_delimiters();
        if scan.peek()? == ')' {
            break;
        }
        if scan.eat("commit") {
            ct.commit = true;
        } else if scan.eat("force_commit") {
            ct.force = true;
        } else if scan.eat("zone=") {
            ct.zone = Some(Zone(scan.fit()?)).filter(|zone| zone.0 != 0);
        } else if scan.eat("mark=") {
            let value = u32::try_from(scan.hex_int()?).ok()?;
            let mask = if scan.eat("/") { u32::try_from(scan.hex_int()?).ok()? } else { u32::MAX };
            ct.mark = Some((value, mask)).filter(|_| mask != 0);
        } else if scan.eat("label=") {
            ct.labels = Some(odp_parse::label(scan)?).filter(|(_, mask)| *mask != [0; 16]);
        } else if scan.eat("helper=") {
            ct.helper = Some(word(scan, 15)?);
        } else if scan.eat("timeout=") {
            ct.timeout = Some(word(scan, 31)?);
        } else {
            scan.want("nat")?;
            ct.nat = Some(nat(scan)?);
        }
    }
    (!(ct.commit && ct.force)).then_some(ct)
}

fn nat(scan: &mut Scan<'_>) -> Option<Nat> {
    let mut nat = Nat::default();
    if !scan.eat("(") {
        return Some(nat);
    }
    loop {
        scan.skip_delimiters();
        if scan.eat(")") {
            break;
        }
        let kind = match scan.take_while(|c| c.is_ascii_lowercase()) {
            "src" => NatKind::Src,
            "dst" => NatKind::Dst,
            flag => {
                match flag {
                    "persistent" => nat.persistent = true,
                    "hash" => nat.proto_hash = true,
                    "random" => nat.proto_random = true,
                    _ => return None,
                }
                continue;
            }
        };
        if nat.kind.is_some_and(|other| other != kind) {
            return None;
        }
        nat.kind = Some(kind);
        if scan.eat("=") {
            nat.range = nat_range(scan)?;
        }
    }
    if nat.proto_hash && nat.proto_random {
        return None;
    }
    // Flags say how to choose from a range: without one, they are not told.
    if nat.kind.is_none() || nat.range.ip_min.is_none() {
        (nat.persistent, nat.proto_hash, nat.proto_random) = (false, false, false);
    }
    Some(nat)
}

fn nat_range(scan: &mut Scan<'_>) -> Option<NatRange> {
    let min = address(scan)?;
    let mut range = NatRange { ip_min: Some(min), ..NatRange::default() };
    if scan.eat("-") {
        let max = address(scan)?;
        if max < min || max.is_ipv4() != min.is_ipv4() {
            return None;
        }
        range.ip_max = Some(max).filter(|&max| max != min);
    }
    if scan.eat(":") {
        let min: u16 = scan.fit()?;
        range.proto_min = Some(min).filter(|&min| min != 0);
        if scan.eat("-") {
            let max: u16 = scan.fit()?;
            if max < min {
                return None;
            }
            range.proto_max = Some(max).filter(|&max| max != min && min != 0);
        }
    }
    Some(range)
}

fn address(scan: &mut Scan<'_>) -> Option<IpAddr> {
    if let Some(ip) = scan.ipv4() {
        return Some(ip.into());
    }
    let bracketed = scan.eat("[");
    let ip = scan.ipv6()?;
    if bracketed {
        scan.want("]")?;
    }
    Some(ip.into())
}

/// The outer headers behind Ethernet. Returns the kind of tunnel that they are of.
fn tunnel_header(scan: &mut Scan<'_>, dl_type: u16, header: &mut Vec<u8>) -> Option<u32> {
    let v4 = dl_type == ethertype::IPV4;
    if v4 {
        ipv4_header(scan, header)?
    } else {
        ipv6_header(scan, header)?
    }
    let l4 = header.len();
    if scan.eat("udp(") {
        return udp_tunnel(scan, header);
    }
    if scan.eat("gre((flags=") {
        gre_header(scan, header)?;
        return Some(if v4 { vport::GRE } else { vport::IP6GRE });
    }
    if scan.eat("erspan(ver=") {
        erspan_header(scan, header)?;
        return Some(if v4 { vport::ERSPAN } else { vport::IP6ERSPAN });
    }
    scan.want("srv6(segments_left=")?;
    if v4 {
        return None;
    }
    header[l4 - 40 + 6] = ip::ROUTING;
    srv6_header(scan, header)?;
    Some(vport::SRV6)
}

fn ipv4_header(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<()> {
    scan.want("ipv4(src=")?;
    let src = scan.ipv4()?;
    scan.want(",dst=")?;
    let dst = scan.ipv4()?;
    let [proto, tos, ttl] = named(scan, [",proto=", ",tos=", ",ttl="])?;
    scan.want(",frag=")?;
    let frag = u16::try_from(scan.hex_int()?).ok()?;
    scan.want("),")?;
    let mut ip = [0; 20];
    (ip[0], ip[1]) = (0x45, u8::try_from(tos).ok()?);
    ip[6..8].copy_from_slice(&frag.to_be_bytes());
    (ip[8], ip[9]) = (u8::try_from(ttl).ok()?, u8::try_from(proto).ok()?);
    ip[12..16].copy_from_slice(&src);
    ip[16..].copy_from_slice(&dst);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let sum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(ip);
    Some(())
}

fn ipv6_header(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<()> {
    scan.want("ipv6(src=")?;
    let src = scan.ipv6()?;
    scan.want(",dst=")?;
    let dst = scan.ipv6()?;
    let [label, proto] = named(scan, [",label=", ",proto="])?;
    scan.want(",tclass=")?;
    let class = scan.hex_int()?;
    let [hlimit] = named(scan, [",hlimit="])?;
    scan.want("),")?;
    if label > 0xf_ffff || class > 0xff {
        return None;
    }
    header.extend((6 << 28 | (class as u32) << 20 | label as u32).to_be_bytes());
    header.extend([0, 0, u8::try_from(proto).ok()?, u8::try_from(hlimit).ok()?]);
    header.extend(src);
    header.extend(dst);
    Some(())
}

fn udp_tunnel(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<u32> {
    let [src, dst] = named(scan, ["src=", ",dst="])?;
    scan.want(",csum=")?;
    let csum = u16::try_from(scan.hex_int()?).ok()?;
    scan.want("),")?;
    for part in [u16::try_from(src).ok()?, u16::try_from(dst).ok()?, 0, csum] {
        header.extend(part.to_be_bytes());
    }
    let vni = |scan: &mut Scan<'_>| scan.fit::<u32>().filter(|&vni| vni <= 0xff_ffff);
    if scan.eat("vxlan(flags=") {
        let flags = u32::try_from(scan.hex_int()?).ok()?;
        scan.want(",vni=")?;
        let vni = vni(scan)?;
        scan.want(")")?;
        header.extend(flags.to_be_bytes());
        header.extend((vni << 8).to_be_bytes());
        return Some(vport::VXLAN);
    }
    if scan.eat("gtpu(flags=") {
        let flags: u8 = scan.fit()?;
        let [kind] = named(scan, [",msgtype="])?;
        scan.want(",teid=")?;
        let teid = u32::try_from(scan.hex_int()?).ok()?;
        scan.want(")")?;
        header.extend([flags, u8::try_from(kind).ok()?, 0, 0]);
        header.extend(teid.to_be_bytes());
        return Some(vport::GTPU);
    }
    scan.want("geneve(")?;
    let oam = if scan.eat("oam,") { 0x80 } else { 0 };
    let critical = if scan.eat("crit,") { 0x40 } else { 0 };
    scan.want("vni=")?;
    let vni = vni(scan)?;
    let options = if scan.eat(",options(") { odp_parse::geneve(scan)?.0 } else { Vec::new() };
    scan.want(")")?;
    header.extend([(options.len() / 4) as u8, oam | critical]);
    header.extend(ethertype::TEB.to_be_bytes());
    header.extend((vni << 8).to_be_bytes());
    header.extend(options);
    Some(vport::GENEVE)
}

fn gre_header(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<()> {
    let flags = u16::try_from(scan.hex_int()?).ok()?;
    scan.want(",proto=")?;
    let proto = u16::try_from(scan.hex_int()?).ok()?;
    scan.want(")")?;
    header.extend(flags.to_be_bytes());
    header.extend(proto.to_be_bytes());
    for (flag, name) in [(gre::CSUM, ",csum="), (gre::KEY, ",key="), (gre::SEQ, ",seq=")] {
        if flags & flag != 0 {
            scan.want(name)?;
            let value = u32::try_from(scan.hex_int()?).ok()?;
            let value = if flag == gre::CSUM { u32::from(u16::try_from(value).ok()?) << 16 } else { value };
            header.extend(value.to_be_bytes());
        }
    }
    scan.want(")")
}

fn erspan_header(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<()> {
    let version: u8 = scan.fit()?;
    scan.want(",sid=")?;
    let sid = u32::try_from(scan.hex_int()?).ok().filter(|&sid| sid <= 0x3ff)?;
    let proto = if version == 1 { ethertype::ERSPAN1 } else { ethertype::ERSPAN2 };
    header.extend(gre::SEQ.to_be_bytes());
    header.extend(proto.to_be_bytes());
    header.extend([0; 4]);
    header.extend((u32::from(version) << 28 | sid).to_be_bytes());
    match version {
        1 => {
            scan.want(",idx=")?;
            header.extend(u32::try_from(scan.hex_int()?).ok()?.to_be_bytes());
        }
        2 => {
            let [dir] = named(scan, [",dir="])?;
            scan.want(",hwid=")?;
            let hwid = u8::try_from(scan.hex_int()?).ok()?;
            header.extend([0; 6]);
            header.extend([hwid >> 4 & 3, hwid << 4 | (dir as u8 & 1) << 3]);
        }
        _ => return None,
    }
    scan.want(")")
}

fn srv6_header(scan: &mut Scan<'_>, header: &mut Vec<u8>) -> Option<()> {
    /// As many segments as a header has room for.
    const MAX_SEGMENTS: u8 = 6;
    let left: u8 = scan.fit().filter(|&left| left < MAX_SEGMENTS)?;
    scan.want(",segs(")?;
    let mut segments = Vec::new();
    while let Some(segment) = scan.ipv6() {
        segments.push(segment);
        scan.eat(",");
    }
    scan.want("))")?;
    if segments.len() != usize::from(left) + 1 {
        return None;
    }
    header.extend([0, 2 * (left + 1), 4, left, left, 0, 0, 0]);
    segments.iter().rev().for_each(|segment| header.extend(segment));
    Some(())
}
