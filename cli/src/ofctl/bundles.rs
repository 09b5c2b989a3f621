//! Bundles: several changes that happen together or not at all.

use openflow::error::OfError;
use openflow::header::{self, Header, Type};
use openflow::msg::bundle::{ATOMIC, BundleAdd, BundleCommand, BundleControl, ORDERED};
use openflow::msg::flow_mod::FlowMod;
use openflow::msg::group::GroupMod;
use openflow::msg::packet_out::PacketOut;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mod, lines};
use openflow::parse::{group, packet_out};
use openflow::print;
use openflow::protocol::Protocols;
use openflow::text::ParseError;

use super::options::protocols_of;
use super::vconn::{Vconn, VconnError, barrier_raw};
use super::{Context, Fatal, Outcome, flows};

/// Errors that came back, in order.
type Errors = Vec<Vec<u8>>;

/// Sends requests as one bundle; prints what the switch says against them and fails if it says anything.
pub fn transact(context: &mut Context, vconn: &mut Vconn, requests: &[Vec<u8>]) -> Outcome {
    let mut errors = Errors::new();
    let result = exchange(vconn, requests, &mut errors);
    let name = vconn.name().to_owned();
    let names = context.show(&name)?;
    let mut rest = requests.iter();
    for error in &errors {
        let Some((kind, payload)) = OfError::decode(error) else {
            eprint!("***decode error***");
            continue;
        };
        // The whole message that failed, if it is found; errors come in the order of requests.
        let xid = header::xid(error);
        let failed = rest.find(|request| header::xid(request) == xid).map_or(payload, Vec::as_slice);
        eprint!("Error {} for: ", kind.name());
        eprint!("{}", print::to_string(failed, &names, context.options.verbosity + 1));
    }
    result.map_err(|error| Fatal::Text(format!("talking to {name} ({error})")))
}

fn exchange(vconn: &mut Vconn, requests: &[Vec<u8>], errors: &mut Errors) -> Result<(), VconnError> {
    control(vconn, BundleCommand::OpenRequest, BundleCommand::OpenReply, errors)?;
    for request in requests {
        let add = BundleAdd { bundle_id: 0, flags: ATOMIC | ORDERED, msg: request };
        let message = add.encode(vconn.version()).ok_or(VconnError::Protocol)?;
        vconn.send(&message)?;
    }
    // A message that fails is only not added: ask before committing whether all were.
    let xid = vconn.next_xid();
    let barrier = header::bare(barrier_raw(vconn.version()), vconn.version(), xid);
    vconn.send(&barrier)?;
    wait(vconn, xid, errors)?;
    if errors.is_empty() {
        return control(vconn, BundleCommand::CommitRequest, BundleCommand::CommitReply, errors);
    }
    control(vconn, BundleCommand::DiscardRequest, BundleCommand::DiscardReply, errors)?;
    Err(VconnError::Protocol)
}

/// Waits for the message of a transaction id and collects the errors of others.
fn wait(vconn: &mut Vconn, xid: u32, errors: &mut Errors) -> Result<Vec<u8>, VconnError> {
    loop {
        let message = vconn.receive()?;
        if header::xid(&message) == xid {
            return Ok(message);
        }
        if Header::peek(&message).is_ok_and(|header| header.kind() == Type::Error) {
            errors.push(message);
        }
    }
}

fn control(
    vconn: &mut Vconn,
    command: BundleCommand,
    expected: BundleCommand,
    errors: &mut Errors,
) -> Result<(), VconnError> {
    let xid = vconn.next_xid();
    let control = BundleControl { bundle_id: 0, command: command as u16, flags: ATOMIC | ORDERED };
    let request = control.encode(vconn.version(), xid).ok_or(VconnError::Protocol)?;
    vconn.send(&request)?;
    let reply = wait(vconn, xid, errors)?;
    match BundleControl::decode(&reply) {
        Ok(reply) if reply.command == expected as u16 => Ok(()),
        Ok(_) => Err(VconnError::Protocol),
        Err(_) => {
            errors.push(reply);
            Err(VconnError::Protocol)
        }
    }
}

/// A line of a bundle's file.
enum Change {
    Flow(Box<FlowMod>),
    Group(Box<GroupMod>),
    PacketOut(Box<PacketOut>),
}

impl Change {
    fn encode(&self, protocol: Protocols, xid: u32) -> Option<Vec<u8>> {
        let version = protocol.version()?;
        match self {
            Self::Flow(fm) => Some(fm.encode(protocol, xid)),
            Self::Group(gm) => gm.encode(version, xid),
            Self::PacketOut(po) => Some(po.encode(version, xid)),
        }
    }
}

/// A line: `flow …`, `group …`, `packet-out …`, or a flow.
fn parse_line(line: &str, names: &Names) -> Result<(Change, Protocols), ParseError> {
    let line = line.trim_start();
    let word = line.split([' ', '\t']).next().unwrap_or_default();
    let rest = &line[word.len()..];
    match word {
        "flow" => {
            flow_mod(rest, Purpose::ModByWord, names).map(|(fm, usable)| (Change::Flow(Box::new(fm)), usable))
        }
        "group" => {
            group::group_mod(rest, None, names).map(|(gm, usable)| (Change::Group(Box::new(gm)), usable))
        }
        "packet-out" => {
            packet_out::packet_out(rest, names).map(|(po, usable)| (Change::PacketOut(Box::new(po)), usable))
        }
        _ => Err(ParseError(format!("Unsupported bundle message type: {word}"))),
    }
}

pub(super) fn bundle(context: &mut Context) -> Outcome {
    let (switch, file) = (context.arg(1).to_owned(), context.arg(2).to_owned());
    let names = context.accept(&switch)?;
    let text = flows::read_file(&file)?;
    let mut usable = Protocols::OF13_UP;
    let mut changes = Vec::new();
    for (number, line) in lines(&text) {
        let (change, formats) =
            parse_line(&line, &names).map_err(|error| Fatal::Text(format!("{file}:{number}: {error}")))?;
        usable &= formats;
        changes.push(change);
    }
    context.options.allow_bundles();
    context.options.protocols = protocols_of(context.options.versions);
    let (mut vconn, protocol) = context.open_for_mods(&switch, usable)?;
    let mut requests = Vec::new();
    for change in changes {
        let xid = vconn.next_xid();
        requests.extend(change.encode(protocol, xid));
    }
    transact(context, &mut vconn, &requests)
}
