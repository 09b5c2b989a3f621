//! TLV-table mods: `{class=0xffff,type=0,len=4}->tun_metadata0`.

use crate::msg::tlv::{TlvCommand, TlvMap, TlvTableMod};
use crate::text::{Parsed, scan_int};

/// Parses the mappings to add or delete.
///
/// # Errors
/// OVS's words.
pub fn tlv_table_mod(text: &str, command: TlvCommand) -> Parsed<TlvTableMod> {
    let mut maps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (map, tail) = scan_map(rest.strip_prefix(',').unwrap_or(rest)).ok_or("invalid tlv mapping")?;
        maps.push(map);
        rest = tail;
    }
    Ok(TlvTableMod { command, maps })
}

fn scan_map(text: &str) -> Option<(TlvMap, &str)> {
    let (_, class, rest) = scan_int(text.strip_prefix("{class=")?, 0)?;
    let (_, kind, rest) = scan_int(rest.strip_prefix(",type=")?, 0)?;
    let (_, len, rest) = scan_int(rest.strip_prefix(",len=")?, 0)?;
    let (_, index, rest) = scan_int(rest.strip_prefix("}->tun_metadata")?, 0)?;
    let map = TlvMap {
        class: u16::try_from(class).ok()?,
        kind: u8::try_from(kind).ok()?,
        len: u8::try_from(len).ok()?,
        index: u16::try_from(index).ok()?,
    };
    Some((map, rest))
}
