//! Any message as text, as `ovs-ofctl ofp-print` and `ovs-ofctl monitor` show it.

use crate::action::Decode;
use crate::error::OfError;
use crate::header::{self, Header, MORE, Raw, Type};
use crate::msg::async_config::AsyncConfig;
use crate::msg::bundle::{BundleAdd, BundleControl};
use crate::msg::ct_flush;
use crate::msg::flow_mod::FlowMod;
use crate::msg::flow_removed::FlowRemoved;
use crate::msg::flow_stats::{AggregateStats, FlowStats, FlowStatsRequest};
use crate::msg::group::{self, GroupDesc, GroupFeatures, GroupMod, GroupStats};
use crate::msg::hello::{self, Hello};
use crate::msg::ipfix::IpfixStats;
use crate::msg::meter::{self, MeterConfig, MeterFeatures, MeterMod, MeterStats};
use crate::msg::monitor::{self, FlowUpdate, MonitorRequest};
use crate::msg::packet_in::PacketIn;
use crate::msg::packet_out::PacketOut;
use crate::msg::port::{self, PhyPort, PortMod, PortStatus};
use crate::msg::queue::{self, QueueConfig, QueueStats};
use crate::msg::request_forward::RequestForward;
use crate::msg::role::{RoleMsg, RoleStatus};
use crate::msg::switch::{Config, Desc, Features};
use crate::msg::table::{TableDesc, TableMod, TableStatus};
use crate::msg::tlv::{TlvTableMod, TlvTableReply};
use crate::msg::{hex_dump, nicira, port_stats, table_features, w};
use crate::names::Names;
use crate::version::Version;

/// The text of `bytes`, one message (or a part of one, or rubbish). `verbosity`: 0 to 5, 1 is common.
pub fn to_string(bytes: &[u8], names: &Names, verbosity: i32) -> String {
    let mut out = String::new();
    let (len, stated) = (bytes.len(), header::stated_len(bytes));
    if len == 0 {
        return "OpenFlow message is empty\n".to_owned();
    }
    if len < header::LEN {
        w!(&mut out, "OpenFlow packet too short (only {len} bytes):\n");
    } else if stated > len {
        if let Ok(header) = Header::peek(bytes) {
            header_text(&header, &mut out);
            out.push('\n');
        }
        w!(&mut out, "(***truncated to {len} bytes from {stated}***)\n");
    } else if stated < len {
        w!(&mut out, "(***only uses {stated} bytes out of {len}***)\n");
    } else {
        whole_text(bytes, names, verbosity, &mut out);
        return out;
    }
    hex_dump(&mut out, bytes, true);
    out
}

fn whole_text(bytes: &[u8], names: &Names, verbosity: i32, out: &mut String) {
    let mut failed = true;
    match Header::parse(bytes) {
        Err(error) => error_text(error, out),
        Ok((header, _)) => {
            header_text(&header, out);
            let head = out.len();
            match body_text(bytes, &header, names, verbosity, out) {
                Ok(()) => {
                    failed = false;
                    chomp_space(out);
                }
                Err(error) if out.len() > head => {
                    chomp_space(out);
                    end_line(out);
                    error_text(error, out);
                }
                Err(error) => {
                    out.push(' ');
                    error_text(error, out);
                }
            }
        }
    }
    if verbosity >= 5 || failed {
        end_line(out);
        hex_dump(out, bytes, true);
    }
    end_line(out);
}

/// `OFPST_FLOW reply (OF1.3) (xid=0x2):`
fn header_text(header: &Header, out: &mut String) {
    out.push_str(header.raw.name());
    match Version::from_wire(header.version) {
        Some(Version::V10) => {}
        Some(version) => {
            w!(out, " (OF1.{})", version.wire() - 1);
        }
        None => {
            w!(out, " (OF 0x{:02x})", header.version);
        }
    }
    w!(out, " (xid=0x{:x}):", header.xid);
}

fn error_text(error: OfError, out: &mut String) {
    w!(out, "***decode error: {error}***\n");
}

fn chomp_space(out: &mut String) {
    if out.ends_with(' ') {
        out.pop();
    }
}

fn end_line(out: &mut String) {
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
}

fn flags_text(header: &Header, out: &mut String) {
    if header.flags == 0 {
        return;
    }
    out.push_str(" flags=");
    let more = header.raw.is_stat_reply() || header.version >= Version::V13.wire();
    let mut rest = header.flags;
    if more && rest & MORE != 0 {
        out.push_str("[more]");
        rest &= !MORE;
    }
    if rest != 0 {
        w!(out, "[***unknown flags 0x{rest:04x}***]");
    }
}

#[expect(clippy::too_many_lines, reason = "one flat match, a few lines a kind of message")]
fn body_text(
    msg: &[u8],
    header: &Header,
    names: &Names,
    verbosity: i32,
    out: &mut String,
) -> Result<(), OfError> {
    if header.raw.is_stat() {
        flags_text(header, out);
    }
    // Hello, error and echo are readable in versions that we do not know.
    match header.kind() {
        Type::Hello => {
            Hello::text(msg, out);
            return Ok(());
        }
        Type::Error => return error_msg_text(msg, names, out),
        Type::EchoRequest | Type::EchoReply => {
            hello::echo_text(msg, verbosity, out);
            return Ok(());
        }
        _ => {}
    }
    let version = header.version()?;
    let cx = &mut Decode::for_text(version);
    match header.kind() {
        Type::Hello | Type::Error | Type::EchoRequest | Type::EchoReply => {}
        Type::FeaturesRequest
        | Type::GetConfigRequest
        | Type::BarrierRequest
        | Type::BarrierReply
        | Type::GetAsyncRequest
        | Type::DescStatsRequest
        | Type::TableStatsRequest
        | Type::GroupFeaturesStatsRequest
        | Type::MeterFeaturesStatsRequest
        | Type::FlowMonitorPaused
        | Type::FlowMonitorResumed
        | Type::FlowAge
        | Type::NxtTlvTableRequest
        | Type::IpfixBridgeStatsRequest
        | Type::IpfixFlowStatsRequest => {}
        Type::FeaturesReply => Features::decode(msg)?.text(out),
        Type::GetConfigReply | Type::SetConfig => Config::decode(msg)?.text(out),
        Type::PacketIn | Type::NxtResume => PacketIn::decode(msg, true, cx)?.text(names, verbosity, out),
        Type::FlowRemoved => FlowRemoved::decode(msg, cx)?.text(names, out),
        Type::PortStatus => PortStatus::decode(msg)?.text(out),
        Type::PacketOut => PacketOut::decode(msg, cx)?.text(names, verbosity, out),
        Type::FlowMod => return FlowMod::msg_text(msg, names, verbosity, out),
        Type::GroupMod => GroupMod::decode(msg)?.text(version, names, out),
        Type::PortMod => PortMod::decode(msg, true)?.text(names, out),
        Type::TableMod => TableMod::decode(msg)?.text(names, out),
        Type::QueueGetConfigRequest => queue::ConfigRequest::decode(msg)?.text(names, out),
        Type::QueueGetConfigReply => return QueueConfig::reply_text(msg, names, out),
        Type::RoleRequest | Type::RoleReply => RoleMsg::decode(msg)?.text(out),
        Type::RoleStatus => RoleStatus::decode(msg)?.text(out),
        Type::GetAsyncReply => AsyncConfig::decode(msg, true, &AsyncConfig::default())?.text(out),
        Type::SetAsyncConfig => AsyncConfig::decode(msg, false, &AsyncConfig::default())?.text(out),
        Type::MeterMod => MeterMod::decode(msg)?.text(out),
        Type::RequestForward => RequestForward::decode(msg)?.text(version, names, out),
        Type::TableStatus => TableStatus::decode(msg)?.text(names, out),
        Type::BundleControl => BundleControl::decode(msg)?.text(out),
        Type::BundleAddMessage => {
            let add = BundleAdd::decode(msg)?;
            add.text(out);
            out.push_str(&to_string(add.msg, names, verbosity));
        }
        Type::DescStatsReply => Desc::decode(msg)?.text(out),
        Type::FlowStatsRequest | Type::AggregateStatsRequest => {
            FlowStatsRequest::decode(msg, cx)?.text(names, out)
        }
        Type::FlowStatsReply => return FlowStats::reply_text(msg, names, out),
        Type::AggregateStatsReply => AggregateStats::decode(msg)?.text(out),
        Type::TableStatsReply => return table_features::stats_text(msg, out),
        Type::TableFeaturesStatsRequest | Type::TableFeaturesStatsReply => {
            return table_features::features_text(msg, out);
        }
        Type::TableDescRequest | Type::TableDescReply => {
            let (list, result) = TableDesc::decode_reply(msg);
            list.iter().for_each(|desc| desc.text(names, out));
            return result;
        }
        Type::PortStatsRequest => {
            w!(out, " port_no={}", names.port(port_stats::decode_request(msg)?));
        }
        Type::PortStatsReply => return port_stats::reply_text(msg, names, verbosity, out),
        Type::PortDescStatsRequest => {
            w!(out, " port={}", names.port(port::decode_desc_request(msg)?));
        }
        Type::PortDescStatsReply => {
            out.push('\n');
            PhyPort::text_all(&port::decode_desc_reply(msg)?, out);
        }
        Type::QueueStatsRequest => queue::StatsRequest::decode(msg)?.text(names, out),
        Type::QueueStatsReply => return QueueStats::reply_text(msg, names, verbosity, out),
        Type::GroupStatsRequest | Type::GroupDescStatsRequest => {
            w!(out, " group_id={}", group::group_name(group::decode_request(msg)?));
        }
        Type::GroupStatsReply => return GroupStats::reply_text(msg, out),
        Type::GroupDescStatsReply => {
            let (list, result) = GroupDesc::decode_reply(msg);
            for desc in &list {
                out.push_str("\n ");
                desc.text(version, names, out);
            }
            return result;
        }
        Type::GroupFeaturesStatsReply => GroupFeatures::decode(msg)?.text(version, out),
        Type::MeterStatsRequest | Type::MeterConfigStatsRequest => {
            w!(out, " {}", meter::id_text(meter::decode_request(msg)?, '='));
        }
        Type::MeterStatsReply => {
            let (list, result) = MeterStats::decode_reply(msg);
            for stats in &list {
                out.push('\n');
                stats.text(out);
            }
            return result;
        }
        Type::MeterConfigStatsReply => {
            let (list, result) = MeterConfig::decode_reply(msg);
            for config in &list {
                out.push('\n');
                config.text(out);
            }
            return result;
        }
        Type::MeterFeaturesStatsReply => MeterFeatures::decode(msg)?.text(out),
        Type::FlowMonitorStatsRequest => {
            MonitorRequest::decode_all(msg)?.iter().for_each(|request| request.text(names, out));
        }
        Type::FlowMonitorStatsReply => {
            let (list, result) = FlowUpdate::decode_reply(msg);
            list.iter().for_each(|update| update.text(names, out));
            return result;
        }
        Type::FlowMonitorCancel => {
            w!(out, " id={}", monitor::decode_cancel(msg)?);
        }
        Type::SetFlowFormat
        | Type::FlowModTableId
        | Type::SetPacketInFormat
        | Type::SetControllerId
        | Type::CtFlushZone => return nicira::text(msg, header.raw, out),
        Type::NxtTlvTableMod => TlvTableMod::decode(msg)?.text(out),
        Type::NxtTlvTableReply => TlvTableReply::decode(msg)?.text(out),
        Type::CtFlush => return ct_flush::text(msg, out),
        Type::IpfixBridgeStatsReply | Type::IpfixFlowStatsReply => {
            return IpfixStats::reply_text(msg, header.raw, out);
        }
    }
    Ok(())
}

fn error_msg_text(msg: &[u8], names: &Names, out: &mut String) -> Result<(), OfError> {
    let (error, payload) = OfError::decode(msg).ok_or(OfError::BrcBadLen)?;
    w!(out, " {error}\n");
    if matches!(error, OfError::HfcIncompatible | OfError::HfcEperm) {
        printable(payload, out);
    } else {
        out.push_str(&to_string(payload, names, 1));
    }
    Ok(())
}

/// Appends text of a peer, with what is not printable as escapes.
fn printable(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if (0x20..0x7f).contains(&byte) && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            w!(out, "\\{byte:03o}");
        }
    }
}

/// The name of a format, for log messages.
pub fn name(raw: Raw) -> &'static str {
    raw.name()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_print_with_header_and_body() {
        let text = |bytes: &[u8]| to_string(bytes, &Names::default(), 1);
        assert_eq!(text(&[]), "OpenFlow message is empty\n");
        assert_eq!(
            text(&[0xaa, 0xbb]),
            "OpenFlow packet too short (only 2 bytes):\n00000000  aa bb                                           |..              |\n"
        );
        assert_eq!(text(&[2, 20, 0, 8, 0, 0, 0, 1]), "OFPT_BARRIER_REQUEST (OF1.1) (xid=0x1):\n");
        assert_eq!(
            text(&[1, 8, 0, 12, 0, 0, 0, 3, 0, 2, 0, 255]),
            "OFPT_GET_CONFIG_REPLY (xid=0x3): frags=reassemble miss_send_len=255\n"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_do_no_harm(
            version in 1_u8..=6,
            pick in any::<prop::sample::Index>(),
            body in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let version = Version::from_wire(version).expect("it is in range");
            let raws: Vec<_> = Raw::ALL.iter().copied().filter(|raw| raw.exists_in(version)).collect();
            let mut msg = header::start(raws[pick.index(raws.len())], version, 1);
            msg.extend(body);
            header::finish(&mut msg);
            let _ = to_string(&msg, &Names::default(), 3);
        }
    }
}
