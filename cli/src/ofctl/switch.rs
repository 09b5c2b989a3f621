//! The switch as a whole, its ports and queues, and connections to it.

use std::time::Instant;

use flow::ct::CtMatch;
use flow::id::{OfPort, Zone};
use openflow::header::{self, Header, Raw, Type};
use openflow::msg::ct_flush;
use openflow::msg::hello;
use openflow::msg::port::{self, PortConfig, PortMod};
use openflow::msg::queue::{ALL_QUEUES, ConfigRequest, StatsRequest};
use openflow::msg::switch::{Config, FragHandling};
use openflow::msg::tlv::TlvCommand;
use openflow::msg::{nicira, port_stats};
use openflow::names::Names;
use openflow::parse::tlv::tlv_table_mod;
use openflow::print;
use openflow::protocol::Protocols;
use openflow::text::{atoi, parse_u16};
use openflow::version::Version;

use super::remote::{fetch_features, has_all_ports};
use super::vconn::Vconn;
use super::{Context, Outcome, die, say, sayln};

pub(super) fn show(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let mut vconn = context.open(&switch)?;
    let reply = fetch_features(&mut vconn)?;
    say!("{}", print::to_string(&reply, &Names::default(), context.options.verbosity + 1));
    if !has_all_ports(&reply, vconn.version()) {
        let xid = vconn.next_xid();
        let request = port::desc_request(vconn.version(), xid, OfPort::NONE);
        context.dump(&mut vconn, &request)?;
    }
    context.dump_trivial(&switch, Raw::OfptGetConfigRequest)
}

pub(super) fn dump_desc(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    context.dump_trivial(&switch, Raw::OfpstDescRequest)
}

pub(super) fn dump_ipfix_bridge(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    context.dump_trivial(&switch, Raw::NxstIpfixBridgeRequest)
}

pub(super) fn dump_ipfix_flow(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    context.dump_trivial(&switch, Raw::NxstIpfixFlowRequest)
}

pub(super) fn dump_tlv_map(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    context.dump_trivial(&switch, Raw::NxtTlvTableRequest)
}

/// The port of an optional argument; any if it is left out or (for queues) `all`.
fn port_argument(context: &mut Context, n: usize) -> Outcome<OfPort> {
    let (switch, name) = (context.arg(1).to_owned(), context.arg(n).to_owned());
    if name.is_empty() { Ok(OfPort::NONE) } else { context.port(&switch, &name) }
}

fn queue_argument(context: &Context, n: usize) -> u32 {
    match context.arg(n) {
        "" => ALL_QUEUES,
        all if all.eq_ignore_ascii_case("all") => ALL_QUEUES,
        queue => atoi(queue) as u32,
    }
}

pub(super) fn queue_stats(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let mut vconn = context.open(&switch)?;
    let any = context.arg(2).eq_ignore_ascii_case("all");
    let port = if any { OfPort::NONE } else { port_argument(context, 2)? };
    let request = StatsRequest { port, queue: queue_argument(context, 3) };
    let xid = vconn.next_xid();
    let request = request.encode(vconn.version(), xid);
    context.dump(&mut vconn, &request)
}

pub(super) fn queue_get_config(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let port = port_argument(context, 2)?;
    let queue = queue_argument(context, 3);
    let mut vconn = context.open(&switch)?;
    let version = vconn.version();
    // OpenFlow 1.0 asks for one port at a time.
    let ports = if port == OfPort::NONE && version == Version::V10 {
        let all = context.ports_of(&switch)?;
        all.into_iter().map(|port| port.port_no).filter(|port| port.0 < OfPort::MAX.0).collect()
    } else {
        vec![port]
    };
    for port in ports {
        let xid = vconn.next_xid();
        let request = ConfigRequest { port, queue }.encode(version, xid);
        context.dump(&mut vconn, &request)?;
    }
    Ok(())
}

pub(super) fn dump_ports(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let port = port_argument(context, 2)?;
    let xid = vconn.next_xid();
    let request = port_stats::request(vconn.version(), xid, port);
    context.dump(&mut vconn, &request)
}

pub(super) fn dump_ports_desc(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let port = port_argument(context, 2)?;
    let xid = vconn.next_xid();
    let request = port::desc_request(vconn.version(), xid, port);
    context.dump(&mut vconn, &request)
}

/// What `mod-port` may change: a name, a bit, and whether the name means the bit set.
const PORT_FLAGS: [(&str, PortConfig, bool); 8] = [
    ("up", PortConfig::PORT_DOWN, false),
    ("down", PortConfig::PORT_DOWN, true),
    ("stp", PortConfig::NO_STP, false),
    ("receive", PortConfig::NO_RECV, false),
    ("receive-stp", PortConfig::NO_RECV_STP, false),
    ("flood", PortConfig::NO_FLOOD, false),
    ("forward", PortConfig::NO_FWD, false),
    ("packet-in", PortConfig::NO_PACKET_IN, false),
];

pub(super) fn mod_port(context: &mut Context) -> Outcome {
    let (switch, name) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let number = openflow::text::parse_uint_radix(&name, 10).map(|number| OfPort(number as u16));
    let port = context.ports_of(&switch)?.into_iter().find(|port| match number {
        Some(number) => port.port_no == number,
        None => port.name == name,
    });
    let Some(port) = port else { die!("{switch}: couldn't find port `{name}'") };
    let action = context.arg(3).to_ascii_lowercase();
    let negated = action.strip_prefix("no-").or_else(|| action.strip_prefix("no"));
    let known = PORT_FLAGS.iter().find(|(name, ..)| *name == negated.unwrap_or(&action));
    let Some((_, bit, on)) = known else { die!("unknown mod-port command '{}'", context.arg(3)) };
    let config = if *on != negated.is_some() { *bit } else { PortConfig::empty() };
    let request = PortMod {
        port_no: port.port_no,
        hw_addr: port.hw_addr,
        config,
        mask: *bit,
        advertise: Default::default(),
    };
    let mut vconn = context.open(&switch)?;
    let xid = vconn.next_xid();
    let request = request.encode(vconn.version(), xid);
    context.transact_one(&mut vconn, request)
}

/// The configuration of a switch.
pub fn fetch_config(context: &Context, vconn: &mut Vconn) -> Outcome<Config> {
    let xid = vconn.next_xid();
    let request = header::bare(Raw::OfptGetConfigRequest, vconn.version(), xid);
    let reply = context.transact(vconn, &request)?;
    match Config::decode(&reply) {
        Ok(config) if is_a(&reply, Type::GetConfigReply) => Ok(config),
        _ => die!("{}: bad reply to config request", vconn.name()),
    }
}

fn is_a(message: &[u8], kind: Type) -> bool {
    Header::peek(message).is_ok_and(|header| header.kind() == kind)
}

/// Gives a switch a configuration.
pub fn set_config(context: &mut Context, vconn: &mut Vconn, config: &Config) -> Outcome {
    let xid = vconn.next_xid();
    let request = config.encode(Raw::OfptSetConfig, vconn.version(), xid);
    context.transact_one(vconn, request)
}

pub(super) fn get_frags(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let config = fetch_config(context, &mut vconn)?;
    sayln!("{}", config.frag.name());
    Ok(())
}

pub(super) fn set_frags(context: &mut Context) -> Outcome {
    let mode = context.arg(2);
    let Some(frag) = FragHandling::from_name(mode) else { die!("{mode}: unknown fragment handling mode") };
    let mut vconn = context.open(context.arg(1))?;
    let config = fetch_config(context, &mut vconn)?;
    if config.frag == frag {
        return Ok(());
    }
    set_config(context, &mut vconn, &Config { frag, ..config })?;
    // Switches differ in whether they report a mode that they do not know: look.
    if fetch_config(context, &mut vconn)?.frag != frag {
        die!(
            "{}: setting fragment handling mode failed (this switch probably doesn't support mode \"{}\")",
            context.arg(1),
            frag.name()
        );
    }
    Ok(())
}

pub(super) fn probe(context: &mut Context) -> Outcome {
    let mut vconn = context.open(context.arg(1))?;
    let xid = vconn.next_xid();
    let request = hello::echo_request(vconn.version(), xid);
    let reply = context.transact(&mut vconn, &request)?;
    if reply.len() != header::LEN {
        die!("reply does not match request");
    }
    Ok(())
}

/// An echo request with a body.
fn echo(vconn: &mut Vconn, payload: usize) -> Vec<u8> {
    let xid = vconn.next_xid();
    let mut request = header::start(Raw::OfptEchoRequest, vconn.version(), xid);
    request.extend((0..payload).map(|i| (i * 31 + 7) as u8));
    header::finish(&mut request);
    request
}

/// The longest body of an echo request.
const MAX_PAYLOAD: usize = 65535 - header::LEN;

fn payload_argument(text: Option<&str>) -> Outcome<usize> {
    let payload = text.map_or(64, |text| atoi(text) as u32 as usize);
    if payload > MAX_PAYLOAD {
        die!("payload must be between 0 and {MAX_PAYLOAD} bytes");
    }
    Ok(payload)
}

pub(super) fn ping(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let payload = payload_argument(context.optional(2))?;
    let verbosity = context.options.verbosity + 2;
    let mut vconn = context.open(&switch)?;
    for _ in 0..10 {
        let request = echo(&mut vconn, payload);
        let start = Instant::now();
        let reply = vconn.transact(&request).map_err(super::remote::failed("transact"))?;
        let time = start.elapsed().as_secs_f64() * 1000.0;
        if !is_a(&reply, Type::EchoReply) || reply[header::LEN..] != request[header::LEN..] {
            sayln!("Reply does not match request.  Request:");
            say!("{}", print::to_string(&request, &Names::default(), verbosity));
            sayln!("Reply:");
            say!("{}", print::to_string(&reply, &Names::default(), verbosity));
        }
        let (len, xid) = (reply.len() - header::LEN, header::xid(&reply));
        sayln!("{len} bytes from {switch}: xid={xid:08x} time={time:.1} ms");
    }
    Ok(())
}

pub(super) fn benchmark(context: &mut Context) -> Outcome {
    let payload = payload_argument(context.optional(2))?;
    let count = atoi(context.arg(3));
    let size = payload + header::LEN;
    let total = i64::from(count) * size as i64;
    sayln!("Sending {count} packets * {size} bytes (with header) = {total} bytes total");
    let mut vconn = context.open(context.arg(1))?;
    let start = Instant::now();
    for _ in 0..count {
        let request = echo(&mut vconn, payload);
        vconn.transact(&request).map_err(super::remote::failed("transact"))?;
    }
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    let (packets, bytes) = (f64::from(count) / (ms / 1000.0), total as f64 / (ms / 1000.0));
    sayln!("Finished in {ms:.1} ms ({packets:.0} packets/s) ({bytes:.0} bytes/s)");
    Ok(())
}

pub(super) fn ct_flush_zone(context: &mut Context) -> Outcome {
    let zone = Zone(parse_u16(context.arg(2), "zone_id")?);
    let mut vconn = context.open(context.arg(1))?;
    let xid = vconn.next_xid();
    let request = nicira::ct_flush_zone(vconn.version(), xid, zone);
    context.transact_one(&mut vconn, request)
}

pub(super) fn ct_flush(context: &mut Context) -> Outcome {
    let (matching, zone) = match CtMatch::parse(&context.args[2..]) {
        Ok(parsed) => parsed,
        Err(error) => die!("Failed to parse CT match: {error}"),
    };
    let mut vconn = context.open(context.arg(1))?;
    let xid = vconn.next_xid();
    let request = ct_flush::encode(&matching, zone, vconn.version(), xid);
    context.transact_one(&mut vconn, request)
}

fn tlv_mod(context: &mut Context, command: TlvCommand) -> Outcome {
    let request = tlv_table_mod(context.arg(2), command)?;
    let (mut vconn, _) = context.open_for_mods(context.arg(1), Protocols::NXM_OXM_ANY)?;
    let xid = vconn.next_xid();
    let request = request.encode(vconn.version(), xid);
    context.transact_one(&mut vconn, request)
}

pub(super) fn add_tlv_map(context: &mut Context) -> Outcome {
    tlv_mod(context, TlvCommand::Add)
}

pub(super) fn del_tlv_map(context: &mut Context) -> Outcome {
    let all = context.optional(2).is_none();
    tlv_mod(context, if all { TlvCommand::Clear } else { TlvCommand::Delete })
}
