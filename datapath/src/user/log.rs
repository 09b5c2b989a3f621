//! What the userspace datapath says, in OVS's words.

use flow::action::Action;
use flow::key::{Key, MAX_VLANS, Mask};
use flow::odp::{OdpSupport, Params, format, key_from_flow, mask_from_flow};

use crate::Error;

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
    Params { key, mask: None, support: &OdpSupport::ALL, vlan_limit: MAX_VLANS }
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
    tracing::debug!(
        target: "dpif_netdev",
        "{what}: ufid:{} {text}, actions:{actions}",
        crate::ufid_of(zerocopy::IntoBytes::as_bytes(key))
    );
}

/// Tells why actions were not done.
pub fn refused(actions: &[Action], error: &Error) {
    let what = match error {
        Error::Unsupported(what) => what,
        Error::Os(_) | Error::Invalid(_) => "",
    };
    tracing::debug!(target: "dpif_netdev", "refused {} actions: {error} {what}", actions.len());
}
