//! `resubmit`: looks the packet up again, in another table or as from another port.

use std::fmt;

use flow::id::{OfPort, TableId};

use super::raw::Raw;
use super::{OfAction, Parse};
use crate::error::OfError;
use crate::names::Names;
use crate::text::{Parsed, refuse};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// Looks the packet up again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Resubmit {
    /// The input port to use; [`OfPort::IN_PORT`] for the packet's own.
    pub in_port: OfPort,
    /// The table; `None` for the current one.
    pub table: Option<TableId>,
    /// Whether to look up with the addresses and ports of the connection's original direction.
    pub with_ct_orig: bool,
    /// Whether the wire form without a table was used.
    pub form1: bool,
}

/// "The current table", on the wire.
const CURRENT: u8 = 255;

fn table(raw: u8) -> Option<TableId> {
    (raw != CURRENT).then_some(TableId(raw))
}

pub(super) fn decode(port: u64) -> Result<OfAction, OfError> {
    let in_port = OfPort(port as u16);
    Ok(OfAction::Resubmit(Resubmit { in_port, table: None, with_ct_orig: false, form1: true }))
}

pub(super) fn decode_table(action: &[u8], with_ct_orig: bool) -> Result<OfAction, OfError> {
    let mut r = Reader::new(&action[10..]);
    let (in_port, raw) = (OfPort(r.u16()?), r.u8()?);
    if r.rest().iter().any(|&byte| byte != 0) {
        return Err(OfError::BacBadArgument);
    }
    Ok(OfAction::Resubmit(Resubmit { in_port, table: table(raw), with_ct_orig, form1: false }))
}

impl Resubmit {
    /// Looks the packet up in `table`.
    pub const fn to_table(table: TableId) -> Self {
        Self { in_port: OfPort::IN_PORT, table: Some(table), with_ct_orig: false, form1: false }
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.table.is_none() && self.form1 {
            Raw::Resubmit.put_int(version, self.in_port.0.into(), 2, out);
            return;
        }
        let raw = if self.with_ct_orig { Raw::ResubmitTableCt } else { Raw::ResubmitTable };
        let action = raw.start(version, out);
        out.u16(self.in_port.0).u8(self.table.map_or(CURRENT, |table| table.0));
        action.end(out);
    }

    pub(super) fn format(&self, f: &mut fmt::Formatter<'_>, names: &Names) -> fmt::Result {
        let own_port = self.in_port == OfPort::IN_PORT;
        if let (None, false) = (self.table, own_port) {
            return write!(f, "resubmit:{}", names.port(self.in_port));
        }
        f.write_str("resubmit(")?;
        if !own_port {
            write!(f, "{}", names.port(self.in_port))?;
        }
        f.write_str(",")?;
        if let Some(table) = self.table {
            write!(f, "{}", names.table(table))?;
        }
        f.write_str(if self.with_ct_orig { ",ct)" } else { ")" })
    }
}

pub(super) fn parse(text: &str, cx: &Parse<'_>) -> Parsed<OfAction> {
    let mut parts = text.split(',');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let in_port = match next() {
        None => OfPort::IN_PORT,
        Some(name) => match cx.names.parse_port(name) {
            Some(port) => port,
            None => refuse!("{name}: resubmit to unknown port"),
        },
    };
    let table = match next() {
        None => None,
        Some(name) => match cx.names.parse_table(name) {
            Some(id) => table(id.0),
            None => refuse!("{name}: resubmit to unknown table"),
        },
    };
    let with_ct_orig = match next() {
        None => false,
        Some("ct") => true,
        Some(other) => refuse!("{other}: unknown parameter"),
    };
    if in_port == OfPort::IN_PORT && table.is_none() {
        refuse!("at least one \"in_port\" or \"table\" must be specified on resubmit");
    }
    Ok(OfAction::Resubmit(Resubmit { in_port, table, with_ct_orig, form1: false }))
}
