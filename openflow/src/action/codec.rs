//! The three exhaustive matches: an action's text, its wire form, and the way back from a name or a wire form.

use std::fmt;

use super::raw::{self, Raw};
use super::verify::{Allowed, verify};
use super::{Decode, Kind, OfAction, Parse};
use super::{
    bundle, check_pkt_larger, clone, conjunction, controller, ct, delete_field, encap, fin_timeout, header,
    learn, mpls, multipath, nat, note, output, reg_move, resubmit, sample, set_field, stack, ttl, tunnel,
    vlan, write,
};
use crate::error::OfError;
use crate::names::Names;
use crate::text::{Parsed, refuse};
use crate::version::Version;

/// Decodes and verifies the actions of `bytes`, which are inside `outer` if given.
pub(super) fn decode_verified(
    bytes: &[u8],
    cx: &mut Decode<'_>,
    allowed: Allowed,
    outer: Option<Kind>,
) -> Result<Vec<OfAction>, OfError> {
    if !bytes.len().is_multiple_of(8) {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "OpenFlow message actions length {} is not a multiple of 8", bytes.len()
        );
        return Err(OfError::BrcBadLen);
    }
    let actions = decode(bytes, cx)?;
    verify(&actions, cx.version, allowed, outer).map_err(|refusal| {
        tracing::warn!(target: "ofp_actions", "{}", refusal.message);
        refusal.error
    })?;
    Ok(actions)
}

/// Decodes the actions of `bytes` without looking at how they go together.
pub(super) fn decode(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    let mut actions = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match decode_one(&bytes[at..], cx) {
            Ok((action, len)) => {
                actions.push(action);
                at += len;
            }
            Err(error) => {
                tracing::warn!(
                    target: "ofp_actions", rl = "1,5",
                    "bad action at offset {at} ({}):\n{}", error.name(), crate::text::hex_dump(bytes).trim_end()
                );
                return Err(error);
            }
        }
    }
    Ok(actions)
}

fn decode_one(bytes: &[u8], cx: &mut Decode<'_>) -> Result<(OfAction, usize), OfError> {
    let (row, action) = raw::pull(bytes, cx.version)?;
    decode_raw(row, action, cx).map(|decoded| (decoded, action.len()))
}

#[expect(clippy::too_many_lines, reason = "one line a wire form")]
fn decode_raw(row: &raw::Row, a: &[u8], cx: &mut Decode<'_>) -> Result<OfAction, OfError> {
    match row.raw {
        Raw::Output10 => output::decode10(a),
        Raw::Output11 => output::decode11(a),
        Raw::SetVlanVid10 => vlan::decode_vid(row.int(a, 2), true),
        Raw::SetVlanVid11 => vlan::decode_vid(row.int(a, 2), false),
        Raw::SetVlanPcp10 => vlan::decode_pcp(row.int(a, 1), true),
        Raw::SetVlanPcp11 => vlan::decode_pcp(row.int(a, 1), false),
        Raw::PushVlan => vlan::decode_push(row.int(a, 2)),
        Raw::StripVlan10 => Ok(OfAction::StripVlan(vlan::StripVlan { pop: false })),
        Raw::PopVlan11 => Ok(OfAction::StripVlan(vlan::StripVlan { pop: true })),
        Raw::SetDlSrc => header::decode_mac(a).map(OfAction::SetEthSrc),
        Raw::SetDlDst => header::decode_mac(a).map(OfAction::SetEthDst),
        Raw::SetNwSrc => Ok(OfAction::SetIpv4Src((row.int(a, 4) as u32).into())),
        Raw::SetNwDst => Ok(OfAction::SetIpv4Dst((row.int(a, 4) as u32).into())),
        Raw::SetNwTos => header::decode_dscp(row.int(a, 1)),
        Raw::SetNwEcn => header::decode_ecn(row.int(a, 1)),
        Raw::SetTpSrc => Ok(OfAction::SetL4SrcPort(header::SetL4Port::new(row.int(a, 2) as u16))),
        Raw::SetTpDst => Ok(OfAction::SetL4DstPort(header::SetL4Port::new(row.int(a, 2) as u16))),
        Raw::Enqueue => output::decode_enqueue(a),
        Raw::SetMplsLabel => Ok(OfAction::SetMplsLabel(row.int(a, 4) as u32)),
        Raw::SetMplsTc => Ok(OfAction::SetMplsTc(row.int(a, 1) as u8)),
        Raw::SetMplsTtl => Ok(OfAction::SetMplsTtl(row.int(a, 1) as u8)),
        Raw::DecMplsTtl => Ok(OfAction::DecMplsTtl),
        Raw::PushMpls => mpls::decode_push(row.int(a, 2)),
        Raw::PopMpls => Ok(OfAction::PopMpls(row.int(a, 2) as u16)),
        Raw::SetQueue => Ok(OfAction::SetQueue(row.int(a, 4) as u32)),
        Raw::Group => Ok(OfAction::Group((row.int(a, 4) as u32).into())),
        Raw::SetNwTtl => Ok(OfAction::SetIpTtl(row.int(a, 1) as u8)),
        Raw::DecNwTtl => Ok(OfAction::DecTtl(ttl::DecTtl::plain())),
        Raw::DecTtlCntIds => ttl::decode_ids(a),
        Raw::SetField12 => set_field::decode(a, false, cx),
        Raw::SetField15 => set_field::decode(a, true, cx),
        Raw::RegLoad => set_field::decode_load(a, cx),
        Raw::RegLoad2 => set_field::decode_load2(a, cx),
        Raw::CopyField15 => reg_move::decode_copy_field(a, 4, cx),
        Raw::CopyField13 => reg_move::decode_copy_field(a, 12, cx),
        Raw::RegMove => reg_move::decode(a, cx),
        Raw::Meter15 => Ok(OfAction::Meter(row.int(a, 4) as u32)),
        Raw::Resubmit => resubmit::decode(row.int(a, 2)),
        Raw::ResubmitTable => resubmit::decode_table(a, false),
        Raw::ResubmitTableCt => resubmit::decode_table(a, true),
        Raw::SetTunnel => Ok(tunnel::decode(row.int(a, 4), false)),
        Raw::SetTunnel64 => Ok(tunnel::decode(row.int(a, 8), true)),
        Raw::PopQueue => Ok(OfAction::PopQueue),
        Raw::Note => Ok(note::decode(a)),
        Raw::Multipath => multipath::decode(a, cx),
        Raw::Bundle => bundle::decode(a, false, cx),
        Raw::BundleLoad => bundle::decode(a, true, cx),
        Raw::OutputReg => output::decode_reg(a, cx),
        Raw::OutputReg2 => output::decode_reg2(a, cx),
        Raw::Learn => learn::decode(a, false, cx),
        Raw::Learn2 => learn::decode(a, true, cx),
        Raw::Exit => Ok(OfAction::Exit),
        Raw::FinTimeout => fin_timeout::decode(a),
        Raw::Controller => controller::decode(a),
        Raw::Controller2 => controller::decode2(a),
        Raw::WriteMetadata => write::decode_metadata(a),
        Raw::StackPush => stack::decode(a, true, cx),
        Raw::StackPop => stack::decode(a, false, cx),
        Raw::Sample => sample::decode(a),
        Raw::Sample2 => sample::decode2(a, false),
        Raw::Sample3 => sample::decode2(a, true),
        Raw::Sample4 => sample::decode4(a, cx),
        Raw::Conjunction => conjunction::decode(a),
        Raw::Ct => ct::decode(a, cx),
        Raw::Nat => nat::decode(a),
        Raw::OutputTrunc => output::decode_trunc(a),
        Raw::Clone => clone::decode(a, cx),
        Raw::CtClear => Ok(OfAction::CtClear),
        Raw::Encap => encap::decode(a),
        Raw::Decap => encap::decode_decap(a),
        Raw::DecNshTtl => Ok(OfAction::DecNshTtl),
        Raw::CheckPktLarger => check_pkt_larger::decode(a, cx),
        Raw::DeleteField => delete_field::decode(a, cx),
        Raw::DebugSlow if cx.debug => Ok(OfAction::DebugSlow),
        Raw::DebugRecirc if cx.debug => Ok(OfAction::DebugRecirc),
        Raw::DebugSlow | Raw::DebugRecirc => Err(OfError::BacBadVendorType),
    }
}

impl OfAction {
    /// Appends the action's wire form in `version`: more than one action, or none, where the version lacks it.
    pub fn encode(&self, v: Version, out: &mut Vec<u8>) {
        match self {
            Self::Output(a) => a.encode(v, out),
            Self::Group(id) => Raw::Group.put_int(v, id.0.into(), 4, out),
            Self::Controller(a) => a.encode(v, out),
            Self::Enqueue(a) => a.encode(v, out),
            Self::OutputReg(a) => a.encode(v, out),
            Self::Bundle(a) => a.encode(v, out),
            Self::SetField(a) => a.encode(v, out),
            Self::SetVlanVid(a) => a.encode(v, out),
            Self::SetVlanPcp(a) => a.encode(v, out),
            Self::StripVlan(a) => a.encode(v, out),
            Self::PushVlan(ethertype) => vlan::encode_push(*ethertype, v, out),
            Self::SetEthSrc(mac) => header::encode_mac(mac, Raw::SetDlSrc, v, out),
            Self::SetEthDst(mac) => header::encode_mac(mac, Raw::SetDlDst, v, out),
            Self::SetIpv4Src(ip) => header::encode_ipv4(*ip, Raw::SetNwSrc, v, out),
            Self::SetIpv4Dst(ip) => header::encode_ipv4(*ip, Raw::SetNwDst, v, out),
            Self::SetIpDscp(dscp) => header::encode_dscp(*dscp, v, out),
            Self::SetIpEcn(ecn) => header::encode_ecn(*ecn, v, out),
            Self::SetIpTtl(ttl) => header::encode_ttl(*ttl, v, out),
            Self::SetL4SrcPort(a) => a.encode(Raw::SetTpSrc, v, out),
            Self::SetL4DstPort(a) => a.encode(Raw::SetTpDst, v, out),
            Self::RegMove(a) => a.encode(v, out),
            Self::StackPush(subfield) => stack::encode(subfield, Raw::StackPush, v, out),
            Self::StackPop(subfield) => stack::encode(subfield, Raw::StackPop, v, out),
            Self::DecTtl(a) => a.encode(v, out),
            Self::SetMplsLabel(label) => mpls::encode_label(*label, v, out),
            Self::SetMplsTc(tc) => mpls::encode_tc(*tc, v, out),
            Self::SetMplsTtl(ttl) => Raw::SetMplsTtl.put_int(v, (*ttl).into(), 1, out),
            Self::DecMplsTtl => Raw::DecMplsTtl.put(v, out),
            Self::PushMpls(ethertype) => Raw::PushMpls.put_int(v, (*ethertype).into(), 2, out),
            Self::PopMpls(ethertype) => Raw::PopMpls.put_int(v, (*ethertype).into(), 2, out),
            Self::DecNshTtl => encap::encode_dec_ttl(v, out),
            Self::DeleteField(field) => delete_field::encode(*field, v, out),
            Self::Encap(a) => a.encode(v, out),
            Self::Decap(a) => a.encode(v, out),
            Self::SetTunnel(a) => a.encode(v, out),
            Self::SetQueue(queue) => Raw::SetQueue.put_int(v, (*queue).into(), 4, out),
            Self::PopQueue => Raw::PopQueue.put(v, out),
            Self::FinTimeout(a) => a.encode(v, out),
            Self::Resubmit(a) => a.encode(v, out),
            Self::Learn(a) => a.encode(v, out),
            Self::Conjunction(a) => a.encode(v, out),
            Self::Multipath(a) => a.encode(v, out),
            Self::Note(data) => note::encode(data, v, out),
            Self::Exit => Raw::Exit.put(v, out),
            Self::Sample(a) => a.encode(v, out),
            Self::UnrollXlate(_) => debug_assert!(false, "unroll_xlate has no wire form"),
            Self::Ct(a) => a.encode(v, out),
            Self::CtClear => Raw::CtClear.put(v, out),
            Self::Nat(a) => a.encode(v, out),
            Self::OutputTrunc(a) => a.encode(v, out),
            Self::Clone(actions) => clone::encode(actions, v, out),
            Self::CheckPktLarger(a) => a.encode(v, out),
            Self::DebugRecirc => Raw::DebugRecirc.put(v, out),
            Self::DebugSlow => Raw::DebugSlow.put(v, out),
            Self::Meter(id) => write::encode_meter(*id, v, out),
            Self::ClearActions => write::encode_clear(v, out),
            Self::WriteActions(actions) => write::encode_actions(actions, v, out),
            Self::WriteMetadata(a) => a.encode(v, out),
            Self::GotoTable(table) => write::encode_goto(*table, v, out),
        }
    }

    /// The action as text, with names for ports and tables.
    pub fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        match self {
            Self::Output(a) => a.format(f, names),
            Self::Group(id) => write!(f, "group:{id}"),
            Self::Controller(a) => a.format(f),
            Self::Enqueue(a) => write!(f, "enqueue:{}:{}", names.port(a.port), a.queue),
            Self::OutputReg(a) => write!(f, "output:{}", a.src),
            Self::Bundle(a) => a.format(f, names),
            Self::SetField(a) => a.format(f, names),
            Self::SetVlanVid(a) => a.format(f),
            Self::SetVlanPcp(a) => a.format(f),
            Self::StripVlan(a) => f.write_str(if a.pop { "pop_vlan" } else { "strip_vlan" }),
            Self::PushVlan(ethertype) => write!(f, "push_vlan:{ethertype:#x}"),
            Self::SetEthSrc(mac) => write!(f, "mod_dl_src:{}", crate::text::hex(mac, ":")),
            Self::SetEthDst(mac) => write!(f, "mod_dl_dst:{}", crate::text::hex(mac, ":")),
            Self::SetIpv4Src(ip) => write!(f, "mod_nw_src:{ip}"),
            Self::SetIpv4Dst(ip) => write!(f, "mod_nw_dst:{ip}"),
            Self::SetIpDscp(dscp) => write!(f, "mod_nw_tos:{dscp}"),
            Self::SetIpEcn(ecn) => write!(f, "mod_nw_ecn:{ecn}"),
            Self::SetIpTtl(ttl) => write!(f, "mod_nw_ttl:{ttl}"),
            Self::SetL4SrcPort(a) => write!(f, "mod_tp_src:{}", a.port),
            Self::SetL4DstPort(a) => write!(f, "mod_tp_dst:{}", a.port),
            Self::RegMove(a) => write!(f, "move:{}->{}", a.src, a.dst),
            Self::StackPush(subfield) => write!(f, "push:{subfield}"),
            Self::StackPop(subfield) => write!(f, "pop:{subfield}"),
            Self::DecTtl(a) => a.format(f),
            Self::SetMplsLabel(label) => write!(f, "set_mpls_label({label})"),
            Self::SetMplsTc(tc) => write!(f, "set_mpls_tc({tc})"),
            Self::SetMplsTtl(ttl) => write!(f, "set_mpls_ttl({ttl})"),
            Self::PushMpls(ethertype) => write!(f, "push_mpls:{ethertype:#06x}"),
            Self::PopMpls(ethertype) => write!(f, "pop_mpls:{ethertype:#06x}"),
            Self::DeleteField(field) => write!(f, "delete_field:{}", field.name()),
            Self::Encap(a) => a.format(f),
            Self::Decap(a) => a.format(f),
            Self::SetTunnel(a) => a.format(f),
            Self::SetQueue(queue) => write!(f, "set_queue:{queue}"),
            Self::FinTimeout(a) => a.format(f),
            Self::Resubmit(a) => a.format(f, names),
            Self::Learn(a) => a.format(f, names),
            Self::Conjunction(a) => a.format(f),
            Self::Multipath(a) => a.format(f),
            Self::Note(data) => write!(f, "note:{}", crate::text::hex(data, ".")),
            Self::Sample(a) => a.format(f, names),
            Self::UnrollXlate(a) => a.format(f, names),
            Self::Ct(a) => a.format(f, names),
            Self::Nat(a) => a.format(f),
            Self::OutputTrunc(a) => write!(f, "output(port={},max_len={})", names.port(a.port), a.max_len),
            Self::Clone(actions) => write!(f, "clone({})", super::text(actions, names)),
            Self::CheckPktLarger(a) => write!(f, "check_pkt_larger({})->{}", a.pkt_len, a.dst),
            Self::Meter(id) => write!(f, "meter:{id}"),
            Self::WriteActions(actions) => write!(f, "write_actions({})", super::text(actions, names)),
            Self::WriteMetadata(a) => a.format(f),
            Self::GotoTable(table) => write!(f, "goto_table:{}", names.table(*table)),
            Self::DecMplsTtl
            | Self::DecNshTtl
            | Self::PopQueue
            | Self::Exit
            | Self::CtClear
            | Self::DebugRecirc
            | Self::DebugSlow
            | Self::ClearActions => f.write_str(self.kind().name()),
        }
    }
}

/// Parses the action that text calls `key`, with the argument `value`.
pub(super) fn parse_one(key: &str, value: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    if let Some(kind) = Kind::from_name(key) {
        return parse_kind(kind, value, cx);
    }
    match key.to_ascii_lowercase().as_str() {
        "mod_vlan_vid" => vlan::parse_vid(value, true),
        "mod_vlan_pcp" => vlan::parse_pcp(value, true),
        "set_nw_ttl" => header::parse_ttl(value),
        "pop_vlan" => Ok(OfAction::StripVlan(vlan::StripVlan { pop: true })),
        "set_tunnel64" => tunnel::parse(value, true),
        "load" => set_field::parse_load(value),
        "bundle_load" => bundle::parse(value, true, cx),
        "apply_actions" => Err("apply_actions is the default instruction".into()),
        _ => match cx.names.parse_port(key) {
            Some(port) => Ok(OfAction::Output(output::Output { port, max_len: 0 })),
            None => refuse!("unknown action {key}"),
        },
    }
}
fn parse_kind(kind: Kind, value: &str, cx: &mut Parse<'_>) -> Parsed<OfAction> {
    match kind {
        Kind::Output | Kind::OutputReg => output::parse(value, cx),
        Kind::Group => crate::text::parse_u32(value).map(|id| OfAction::Group(id.into())),
        Kind::Controller => controller::parse(value),
        Kind::Enqueue => output::parse_enqueue(value, cx),
        Kind::Bundle => bundle::parse(value, false, cx),
        Kind::SetField => set_field::parse(value, cx),
        Kind::SetVlanVid => vlan::parse_vid(value, false),
        Kind::SetVlanPcp => vlan::parse_pcp(value, false),
        Kind::StripVlan => Ok(OfAction::StripVlan(vlan::StripVlan { pop: false })),
        Kind::PushVlan => vlan::parse_push(value, cx),
        Kind::SetEthSrc => crate::text::parse_mac(value).map(OfAction::SetEthSrc),
        Kind::SetEthDst => crate::text::parse_mac(value).map(OfAction::SetEthDst),
        Kind::SetIpv4Src => crate::text::parse_ip(value).map(OfAction::SetIpv4Src),
        Kind::SetIpv4Dst => crate::text::parse_ip(value).map(OfAction::SetIpv4Dst),
        Kind::SetIpDscp => header::parse_dscp(value),
        Kind::SetIpEcn => header::parse_ecn(value),
        Kind::SetIpTtl => header::parse_ttl(value),
        Kind::SetL4SrcPort => header::parse_port(value, "source port").map(OfAction::SetL4SrcPort),
        Kind::SetL4DstPort => header::parse_port(value, "destination port").map(OfAction::SetL4DstPort),
        Kind::RegMove => reg_move::parse(value).map(OfAction::RegMove),
        Kind::StackPush => stack::parse(value).map(OfAction::StackPush),
        Kind::StackPop => stack::parse(value).map(OfAction::StackPop),
        Kind::DecTtl => ttl::parse(value),
        Kind::SetMplsLabel => mpls::parse_label(value),
        Kind::SetMplsTc => mpls::parse_tc(value),
        Kind::SetMplsTtl => mpls::parse_ttl(value),
        Kind::DecMplsTtl => Ok(OfAction::DecMplsTtl),
        Kind::PushMpls => crate::text::parse_u16(value, "push_mpls").map(OfAction::PushMpls),
        Kind::PopMpls => crate::text::parse_u16(value, "pop_mpls").map(OfAction::PopMpls),
        Kind::DecNshTtl => Ok(OfAction::DecNshTtl),
        Kind::DeleteField => delete_field::parse(value),
        Kind::Encap => encap::parse(value, cx),
        Kind::Decap => encap::parse_decap(value),
        Kind::SetTunnel => tunnel::parse(value, false),
        Kind::SetQueue => crate::text::parse_u32(value).map(OfAction::SetQueue),
        Kind::PopQueue => Ok(OfAction::PopQueue),
        Kind::FinTimeout => fin_timeout::parse(value),
        Kind::Resubmit => resubmit::parse(value, cx),
        Kind::Learn => learn::parse(value, cx),
        Kind::Conjunction => conjunction::parse(value),
        Kind::Multipath => multipath::parse(value),
        Kind::Note => note::parse(value),
        Kind::Exit => Ok(OfAction::Exit),
        Kind::Sample => sample::parse(value, cx),
        Kind::UnrollXlate => Err("UNROLL is an internal action that shouldn't be used via OpenFlow".into()),
        Kind::Ct => ct::parse(value, cx),
        Kind::CtClear => Ok(OfAction::CtClear),
        Kind::Nat => nat::parse(value),
        // The text form is `output(port=…,max_len=…)`.
        Kind::OutputTrunc => refuse!("unknown action {value}"),
        Kind::Clone => clone::parse(value, cx),
        Kind::CheckPktLarger => check_pkt_larger::parse(value),
        Kind::DebugRecirc => Ok(OfAction::DebugRecirc),
        Kind::DebugSlow => Ok(OfAction::DebugSlow),
        Kind::Meter => write::parse_meter(value, cx),
        Kind::ClearActions => Ok(OfAction::ClearActions),
        Kind::WriteActions => write::parse_actions(value, cx),
        Kind::WriteMetadata => write::parse_metadata(value, cx),
        Kind::GotoTable => write::parse_goto(value, cx),
    }
}
