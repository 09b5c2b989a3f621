//! Datapath actions as text, as `ovs-dpctl dump-flows` prints them.

use super::{Action, Ct, Nat, NatKind, TunnelPush, Userspace, hash_alg, push};
use crate::cookie::{CookieKind, SampleDirection, UserCookie};
use crate::id::DpPort;
use crate::odp::format::{self as odp_text, NshFields};
use crate::odp::{KeyAttr, NshKey, PortNames};
use crate::text::{eth, hex, hex_bytes, hex_dump};
use std::net::IpAddr;
use zerocopy::IntoBytes;

/// A list of actions; an empty one is `drop`.
pub fn actions(actions: &[Action], names: &dyn PortNames) -> String {
    if actions.is_empty() {
        return "drop".to_owned();
    }
    actions.iter().map(|one| action(one, names)).collect::<Vec<_>>().join(",")
}

fn port(port: DpPort, names: &dyn PortNames) -> String {
    names.name(port).unwrap_or_else(|| port.to_string())
}

/// One action.
pub fn action(action: &Action, names: &dyn PortNames) -> String {
    let list = |inner: &[Action]| actions(inner, names);
    match action {
        Action::Output(to) => port(*to, names),
        Action::Userspace(action) => userspace(action, names),
        Action::Set(key) => format!("set({})", odp_text::attribute(key.code(), &key.payload(), None, true)),
        Action::SetMasked(value, mask) => set_masked(value, mask),
        Action::PushVlan(vlan) => {
            let tpid = vlan.tpid.get();
            let tpid = if tpid == 0x8100 { String::new() } else { format!("tpid=0x{tpid:04x},") };
            format!("push_vlan({tpid}{})", odp_text::vlan(vlan.tci.get(), u16::MAX, false))
        }
        Action::PopVlan => "pop_vlan".to_owned(),
        Action::Sample { probability, actions } => {
            let percent = 100.0 * f64::from(*probability) / f64::from(u32::MAX);
            format!("sample(sample={percent:.1}%,actions({}))", list(actions))
        }
        Action::Recirc(id) => format!("recirc({})", hex(id.0.into())),
        Action::Hash { alg, basis } => match *alg {
            hash_alg::L4 => format!("hash(l4({basis}))"),
            hash_alg::SYM_L4 => format!("hash(sym_l4({basis}))"),
            alg => format!("hash(Unknown hash algorithm({alg}))"),
        },
        Action::PushMpls { lse, ethertype } => {
            format!("push_mpls({},eth_type=0x{:x})", odp_text::mpls_lse(lse.get()), ethertype.get())
        }
        Action::PopMpls(ethertype) => format!("pop_mpls(eth_type=0x{:x})", ethertype.get()),
        Action::Ct(action) => ct(action),
        Action::Trunc(len) => format!("trunc({len})"),
        Action::PushEth { src, dst } => format!("push_eth(src={},dst={})", eth(src), eth(dst)),
        Action::PopEth => "pop_eth".to_owned(),
        Action::CtClear => "ct_clear".to_owned(),
        Action::PushNsh(nsh) => push_nsh(nsh),
        Action::PopNsh => "pop_nsh()".to_owned(),
        Action::Meter(meter) => format!("meter({meter})"),
        Action::Clone(actions) => format!("clone({})", list(actions)),
        Action::CheckPktLen { len, greater, less_equal } => {
            format!("check_pkt_len(size={len},gt({}),le({}))", list(greater), list(less_equal))
        }
        Action::AddMpls { lse, ethertype, .. } => {
            format!("add_mpls({},eth_type=0x{:x})", odp_text::mpls_lse(lse.get()), ethertype.get())
        }
        Action::DecTtl(actions) => format!("dec_ttl(le_1({}))", list(actions)),
        Action::Drop(_) => "drop".to_owned(),
        Action::Psample { group, cookie } if cookie.is_empty() => format!("psample(group={group})"),
        Action::Psample { group, cookie } => format!("psample(group={group},cookie={})", hex_bytes(cookie)),
        Action::TunnelPush(push) => format!(
            "tnl_push(tnl_port({}),{},out_port({}))",
            port(push.tnl_port, names),
            tunnel_header(push),
            port(push.out_port, names)
        ),
        Action::TunnelPop(from) => format!("tnl_pop({})", port(*from, names)),
        Action::LbOutput(bond) => format!("lb_output({bond})"),
        Action::Unknown(code, bytes) if bytes.is_empty() => format!("action{code}"),
        Action::Unknown(code, bytes) => format!("action{code}({})", hex_dump(bytes, " ")),
    }
}

fn set_masked(value: &KeyAttr, mask: &KeyAttr) -> String {
    if let (KeyAttr::Nsh(value), KeyAttr::Nsh(mask)) = (value, mask) {
        return format!("set(nsh({}))", odp_text::nsh_masked(&nsh_fields(value), &nsh_fields(mask)));
    }
    let (value_bytes, mask_bytes) = (value.payload(), mask.payload());
    format!("set({})", odp_text::attribute(value.code(), &value_bytes, Some(&mask_bytes), false))
}

fn nsh_fields(nsh: &NshKey) -> NshFields {
    let mut fields = NshFields::default();
    if let Some(base) = &nsh.base {
        fields.base.copy_from_slice(base.as_bytes());
    }
    if let Some(md1) = &nsh.md1 {
        fields.context.copy_from_slice(md1.as_bytes());
    }
    fields
}

fn push_nsh(nsh: &NshKey) -> String {
    let fields = nsh_fields(nsh);
    let mut text = odp_text::nsh_exact(&fields);
    match fields.base[2] {
        1 => {}
        2 => text += &format!(",md2={}", hex_bytes(nsh.md2.as_deref().unwrap_or_default())),
        _ => text += ",<error: unknown mdtype>",
    }
    format!("push_nsh({text})")
}

fn userspace(action: &Userspace, names: &dyn PortNames) -> String {
    let mut text = format!("userspace(pid={}", action.pid);
    if let Some(userdata) = &action.userdata {
        text += ",";
        text += &match UserCookie::decode(userdata) {
            Some(cookie) => cookie_text(&cookie.kind, names),
            None => format!("userdata({})", hex_dump(userdata, "")),
        };
    }
    if action.actions {
        text += ",actions";
    }
    if let Some(egress) = action.egress_tun_port {
        text += &format!(",tunnel_out_port={}", port(egress, names));
    }
    text + ")"
}

fn cookie_text(kind: &CookieKind, names: &dyn PortNames) -> String {
    match *kind {
        CookieKind::Sflow { vlan_tci, output } => {
            format!("sFlow(vid={},pcp={},output={output})", vlan_tci & 0xfff, vlan_tci >> 13)
        }
        CookieKind::SlowPath { reasons } => format!("slow_path({reasons})"),
        CookieKind::FlowSample {
            probability,
            collector_set_id,
            obs_domain_id,
            obs_point_id,
            output_port,
            direction,
        } => {
            let direction = match direction {
                SampleDirection::Default => "",
                SampleDirection::Ingress => ",ingress",
                SampleDirection::Egress => ",egress",
            };
            format!(
                "flow_sample(probability={probability},collector_set_id={collector_set_id},\
                 obs_domain_id={obs_domain_id},obs_point_id={obs_point_id},output_port={}{direction})",
                port(output_port, names)
            )
        }
        CookieKind::Ipfix { output_port } => format!("ipfix(output_port={})", port(output_port, names)),
        CookieKind::Controller {
            dont_send,
            continuation,
            reason,
            recirc_id,
            rule_cookie,
            controller_id,
            max_len,
        } => format!(
            "controller(reason={reason},dont_send={},continuation={},recirc_id={recirc_id},rule_cookie={},\
             controller_id={controller_id},max_len={max_len})",
            u8::from(dont_send),
            u8::from(continuation),
            hex(rule_cookie)
        ),
    }
}

fn ct(action: &Ct) -> String {
    let mut parts = Vec::new();
    if action.commit {
        parts.push("commit".to_owned());
    }
    if action.force {
        parts.push("force_commit".to_owned());
    }
    if let Some(zone) = action.zone.filter(|zone| zone.0 != 0) {
        parts.push(format!("zone={zone}"));
    }
    if let Some((value, mask)) = action.mark {
        parts.push(format!("mark={}/{}", hex(value.into()), hex(mask.into())));
    }
    if let Some((value, mask)) = action.labels {
        let partial =
            if mask == [0xff; 16] { String::new() } else { format!("/{}", odp_text::u128_text(&mask)) };
        parts.push(format!("label={}{partial}", odp_text::u128_text(&value)));
    }
    parts.extend(action.helper.iter().map(|helper| format!("helper={helper}")));
    parts.extend(action.timeout.iter().map(|timeout| format!("timeout={timeout}")));
    parts.extend(action.nat.iter().map(nat));
    if parts.is_empty() { "ct".to_owned() } else { format!("ct({})", parts.join(",")) }
}

/// What is wrong with a NAT, in the words of the peer's text.
fn nat_error(nat: &Nat) -> Option<&'static str> {
    let range = &nat.range;
    let any = range.ip_min.is_some()
        || range.ip_max.is_some()
        || range.proto_min.is_some()
        || range.proto_max.is_some()
        || nat.persistent
        || nat.proto_hash
        || nat.proto_random;
    let families_differ =
        matches!((range.ip_min, range.ip_max), (Some(min), Some(max)) if min.is_ipv4() != max.is_ipv4());
    let unordered = matches!((range.ip_min, range.ip_max), (Some(min), Some(max)) if !max.is_unspecified() && min > max)
        || matches!((range.proto_min, range.proto_max), (Some(min), Some(max)) if max != 0 && min > max);
    if nat.kind.is_none() && any {
        Some("error: options allowed only with \"src\" or \"dst\"")
    } else if range.ip_min.is_none() && range.proto_min.is_some() {
        Some("error: proto but no IP.")
    } else if range.ip_min.is_none() && range.ip_max.is_some()
        || range.proto_min.is_none() && range.proto_max.is_some()
    {
        Some("error: range max without min.")
    } else if families_differ {
        Some("error: IP address sizes do not match")
    } else {
        unordered.then_some("range error")
    }
}

fn nat(nat: &Nat) -> String {
    if let Some(error) = nat_error(nat) {
        return format!("nat({error})");
    }
    let Some(kind) = nat.kind else { return "nat".to_owned() };
    let range = &nat.range;
    let ports = range.proto_min.filter(|&min| min != 0);
    let address = |ip: IpAddr| match ip {
        IpAddr::V6(ip) if ports.is_some() => format!("[{}]", crate::text::ipv6(&ip.octets())),
        IpAddr::V6(ip) => crate::text::ipv6(&ip.octets()),
        IpAddr::V4(ip) => ip.to_string(),
    };
    let mut text = match kind {
        NatKind::Src => "src".to_owned(),
        NatKind::Dst => "dst".to_owned(),
    };
    if let Some(min) = range.ip_min {
        text += &format!("={}", address(min));
        if let Some(max) = range.ip_max.filter(|&max| !max.is_unspecified() && max != min) {
            text += &format!("-{}", address(max));
        }
        if let Some(min) = ports {
            text += &format!(":{min}");
            if let Some(max) = range.proto_max.filter(|&max| max != 0 && max != min) {
                text += &format!("-{max}");
            }
        }
    }
    let flags = [(nat.persistent, ",persistent"), (nat.proto_hash, ",hash"), (nat.proto_random, ",random")];
    flags.iter().filter(|(set, _)| *set).for_each(|(_, name)| text += name);
    format!("nat({text})")
}

/// Reads a header front to back; what is missing reads as zeros.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_at(N.min(self.0.len()));
        self.0 = tail;
        let mut taken = [0; N];
        taken[..head.len()].copy_from_slice(head);
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn ip(&mut self) -> String {
        IpAddr::from(self.take::<4>()).to_string()
    }

    fn ip6(&mut self) -> String {
        crate::text::ipv6(&self.take())
    }
}

fn tunnel_header(push: &TunnelPush) -> String {
    let mut at = Cursor(&push.header);
    let (dst, src, dl_type) = (at.take(), at.take(), at.u16());
    let mut text = format!(
        "header(size={},type={},eth(dst={},src={},dl_type=0x{dl_type:04x}),",
        push.header.len(),
        push.tnl_type,
        eth(&dst),
        eth(&src)
    );
    text += &if dl_type == 0x0800 { ipv4_header(&mut at) } else { ipv6_header(&mut at) };
    text += &match push.tnl_type {
        push::vport::VXLAN => {
            let udp = udp_header(&mut at);
            format!("{udp}vxlan(flags=0x{:x},vni=0x{:x})", at.u32(), at.u32() >> 8)
        }
        push::vport::GENEVE => udp_header(&mut at) + &geneve_header(&mut at),
        push::vport::SRV6 => srv6_header(&mut at),
        push::vport::GRE | push::vport::IP6GRE => gre_header(&mut at),
        push::vport::ERSPAN | push::vport::IP6ERSPAN => erspan_header(&mut at),
        push::vport::GTPU => {
            let udp = udp_header(&mut at);
            let (flags, kind, _len) = (at.u8(), at.u8(), at.u16());
            format!("{udp}gtpu(flags=0x{flags:x},msgtype={kind},teid=0x{:x})", at.u32())
        }
        _ => String::new(),
    };
    text + ")"
}

fn ipv4_header(at: &mut Cursor<'_>) -> String {
    let (_version, tos, _len, _id, frag) = (at.u8(), at.u8(), at.u16(), at.u16(), at.u16());
    let (ttl, proto, _csum, src, dst) = (at.u8(), at.u8(), at.u16(), at.ip(), at.ip());
    format!("ipv4(src={src},dst={dst},proto={proto},tos={},ttl={ttl},frag=0x{frag:x}),", hex(tos.into()))
}

fn ipv6_header(at: &mut Cursor<'_>) -> String {
    let (flow, _len, proto, hlimit, src, dst) = (at.u32(), at.u16(), at.u8(), at.u8(), at.ip6(), at.ip6());
    format!(
        "ipv6(src={src},dst={dst},label={},proto={proto},tclass=0x{:x},hlimit={hlimit}),",
        flow & 0xf_ffff,
        flow >> 20 & 0xff
    )
}

fn udp_header(at: &mut Cursor<'_>) -> String {
    let (src, dst, _len, csum) = (at.u16(), at.u16(), at.u16(), at.u16());
    format!("udp(src={src},dst={dst},csum=0x{csum:x}),")
}

fn geneve_header(at: &mut Cursor<'_>) -> String {
    let (len, flags, _proto, vni) = (usize::from(at.u8() & 0x3f) * 4, at.u8(), at.u16(), at.u32() >> 8);
    let oam = if flags & 0x80 == 0 { "" } else { "oam," };
    let critical = if flags & 0x40 == 0 { "" } else { "crit," };
    let options = at.0.get(..len).unwrap_or(at.0);
    let options = if len == 0 {
        String::new()
    } else {
        format!(",options({})", odp_text::geneve_options(options, None, false))
    };
    format!("geneve({oam}{critical}vni=0x{vni:x}{options})")
}

fn srv6_header(at: &mut Cursor<'_>) -> String {
    let (_next, _len, _kind, left, last) = (at.u8(), at.u8(), at.u8(), at.u8(), at.u8());
    at.take::<3>();
    let count = (usize::from(last) + 1).min(at.0.len() / 16);
    let mut segments: Vec<_> = (0..count).map(|_| at.ip6()).collect();
    segments.reverse();
    format!("srv6(segments_left={left},segs({}))", segments.join(","))
}

fn gre_header(at: &mut Cursor<'_>) -> String {
    let (flags, proto) = (at.u16(), at.u16());
    let mut text = format!("gre((flags=0x{flags:x},proto=0x{proto:x})");
    if flags & push::gre::CSUM != 0 {
        text += &format!(",csum=0x{:x}", at.u32() >> 16);
    }
    if flags & push::gre::KEY != 0 {
        text += &format!(",key=0x{:x}", at.u32());
    }
    if flags & push::gre::SEQ != 0 {
        text += &format!(",seq=0x{:x}", at.u32());
    }
    text + ")"
}

fn erspan_header(at: &mut Cursor<'_>) -> String {
    at.take::<8>();
    let base = at.u32();
    let (version, sid) = (base >> 28, base & 0x3ff);
    match version {
        1 => format!("erspan(ver=1,sid=0x{sid:x},idx=0x{:x})", at.u32()),
        2 => {
            at.take::<6>();
            let bits = at.u16();
            let hwid = (bits >> 8 & 3) << 4 | bits >> 4 & 0xf;
            format!("erspan(ver=2,sid=0x{sid:x},dir={},hwid=0x{hwid:x})", bits >> 3 & 1)
        }
        _ => String::new(),
    }
}
