//! What the userspace datapath says, in OVS's words.

use flow::action::Action;
use flow::key::{Key, MAX_VLANS, Mask};
use flow::odp::{OdpSupport, Params, format, key_from_flow, mask_from_flow};

use flow::time::Instant;
use sys::errno::Errno;

use super::batch::Meta;
use crate::Error;
use crate::dpctl::flows::stats_text;
use crate::flow::{Execute, Flow, FlowDel, FlowPut, FlowStats, PutFlags};

/// Tells of a packet handed up, at debug level.
pub fn upcall(datapath: &str, kind: &str, key: &Key, frame: &[u8]) {
    if !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    let raw = key_from_flow(&params(key));
    let text = format::flow(&raw.0, &[], &format::Style::new(&flow::odp::NoNames, true));
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    tracing::debug!(target: "dpif_netdev", "{datapath}: {kind} upcall:\n{text}\n{hex}");
}

/// How the keys of this datapath are written.
pub fn params(key: &Key) -> Params<'_> {
    Params { key, mask: None, support: &OdpSupport::ALL, vlan_limit: MAX_VLANS, packet_type: true }
}

/// Tells of a flow that came or changed, at debug level.
pub fn flow_change(what: &str, key: &Key, mask: &Mask, actions: &[Action]) {
    if !tracing::enabled!(target: "dpif_netdev", tracing::Level::DEBUG) {
        return;
    }
    let params = Params { mask: Some(mask), ..params(key) };
    let (raw, raw_mask) = (key_from_flow(&params), mask_from_flow(&params, mask));
    let text = format::flow(&raw.0, &raw_mask.0, &format::Style::PLAIN);
    let actions = flow::action::format::actions(actions, &flow::odp::NoNames);
    let ufid = |key: &Key| crate::ufid_of(zerocopy::IntoBytes::as_bytes(key));
    let (ufid, mega) = (ufid(key), ufid(&mask.apply(key)));
    tracing::debug!(target: "dpif_netdev", "{what}: ufid:{ufid} mega_ufid:{mega} {text}, actions:{actions}");
}

/// Tells why actions were not done.
pub fn refused(actions: &[Action], error: &Error) {
    let what = error.detail().unwrap_or_default();
    tracing::debug!(target: "dpif_netdev", "refused {} actions: {error} {what}", actions.len());
}

/// Whether the result of a request is told of, and whether as a warning. A flow that exists already is no reason for one.
fn level<T>(result: &Result<T, Error>) -> Option<bool> {
    let warn = result.as_ref().err().is_some_and(|error| error.errno() != Errno::EEXIST);
    (warn || tracing::enabled!(target: "dpif", tracing::Level::DEBUG)).then_some(warn)
}

fn say(warn: bool, text: &str) {
    if warn {
        tracing::warn!(target: "dpif", rl = "60,5", "{text}");
    } else {
        tracing::debug!(target: "dpif", rl = "600,600", "{text}");
    }
}

/// "put" or "failed to put", and why.
fn verb<T>(what: &str, result: &Result<T, Error>) -> String {
    match result {
        Ok(_) => what.to_owned(),
        Err(error) => format!("failed to {what} ({error})"),
    }
}

const VERBOSE: format::Style<'static> =
    format::Style { names: &flow::odp::NoNames, verbose: true, skip_no_mask: false };

/// Tells of a put.
pub fn put(datapath: &str, put: &FlowPut<'_>, result: &Result<Option<FlowStats>, Error>) {
    let Some(warn) = level(result).filter(|_| !put.flags.contains(PutFlags::PROBE)) else { return };
    let flags =
        [(PutFlags::CREATE, "[create]"), (PutFlags::MODIFY, "[modify]"), (PutFlags::ZERO_STATS, "[zero]")];
    let flags: String =
        flags.iter().filter(|(flag, _)| put.flags.contains(*flag)).map(|(_, text)| *text).collect();
    let ufid = put.ufid.map(|ufid| format!("ufid:{ufid} ")).unwrap_or_default();
    let mask = put.mask.map(|mask| &mask.0[..]).unwrap_or_default();
    let flow = format::flow(&put.key.0, mask, &VERBOSE);
    let actions = flow::action::format::actions(put.actions, &flow::odp::NoNames);
    say(
        warn,
        &format!("{datapath}: {} {ufid}{flow}, actions:{actions}", verb(&format!("put{flags}"), result)),
    );
}

/// Tells of a removal.
pub fn del(datapath: &str, del: &FlowDel<'_>, result: &Result<FlowStats, Error>, now: Instant) {
    let Some(warn) = level(result) else { return };
    let ufid = del.ufid.map(|ufid| format!("ufid:{ufid} ")).unwrap_or_default();
    let flow = format::flow(&del.key.0, &[], &VERBOSE);
    let stats = result.as_ref().map(|stats| format!(", {}", stats_text(stats, now))).unwrap_or_default();
    say(warn, &format!("{datapath}: {} {ufid}{flow}{stats}", verb("flow_del", result)));
}

/// Tells of dumped flows.
pub fn dumped(datapath: &str, flows: &[Flow], now: Instant) {
    if !tracing::enabled!(target: "dpif", tracing::Level::DEBUG) {
        return;
    }
    if flows.is_empty() {
        say(false, &format!("{datapath}: dumped all flows"));
    }
    for flow in flows {
        let text = format::flow(&flow.key.0, &flow.mask.0, &VERBOSE);
        let actions = flow::action::format::actions(&flow.actions, &flow::odp::NoNames);
        let stats = stats_text(&flow.stats, now);
        say(false, &format!("{datapath}: flow_dump ufid:{} {text}, {stats}, actions:{actions}", flow.ufid));
    }
}

/// Tells of a packet that was executed.
pub fn execute(datapath: &str, execute: &Execute<'_>, result: &Result<(), Error>) {
    let Some(warn) = level(result).filter(|_| !execute.probe) else { return };
    let actions = flow::action::format::actions(execute.actions, &flow::odp::NoNames);
    let failed = result.as_ref().err().map(|error| format!(" failed ({error})")).unwrap_or_default();
    let hex: String = execute.packet.iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = Meta::from_key(execute.key).to_key();
    let meta = format::flow(&key_from_flow(&params(&meta)).0, &[], &VERBOSE);
    say(
        warn,
        &format!(
            "{datapath}: execute {actions}{failed} on packet {hex} with metadata {meta} mtu {}",
            execute.mtu
        ),
    );
}
