//! The TLV table: which Geneve option is which `tun_metadata` field. Spec: `NXT_TLV_TABLE_*`.

use super::{open, w};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::version::Version;
use crate::wire::{Put, Reader};

/// `tun_metadata` fields.
pub const MAX_FIELDS: u16 = 64;
/// The longest option, in bytes.
const MAX_OPTION: u8 = 124;

/// One mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TlvMap {
    pub class: u16,
    pub kind: u8,
    /// Bytes, a multiple of 4 up to 124.
    pub len: u8,
    /// The number of the `tun_metadata` field.
    pub index: u16,
}

impl TlvMap {
    fn read_all(reader: &mut Reader<'_>, max_fields: u16) -> Result<Vec<Self>, OfError> {
        let mut maps = Vec::new();
        while !reader.is_empty() {
            let map =
                Self { class: reader.u16()?, kind: reader.u8()?, len: reader.u8()?, index: reader.u16()? };
            reader.skip(2)?;
            if !map.len.is_multiple_of(4) || map.len > MAX_OPTION {
                let len = map.len;
                tracing::warn!(target: "ofp_match", "tlv table option length ({len}) is not a valid option size");
                return Err(OfError::TtmfcBadOptLen);
            }
            if map.index >= max_fields {
                let (index, max) = (map.index, i32::from(max_fields) - 1);
                tracing::warn!(target: "ofp_match", "tlv table field index ({index}) is too large (max {max})");
                return Err(OfError::TtmfcBadFieldIdx);
            }
            maps.push(map);
        }
        Ok(maps)
    }

    fn put_all(maps: &[Self], msg: &mut Vec<u8>) {
        for map in maps {
            msg.u16(map.class).u8(map.kind).u8(map.len).u16(map.index).zeros(2);
        }
    }

    fn text_all(maps: &[Self], out: &mut String) {
        out.push_str(
            " mapping table:\n  class  type  length  match field\n ------  ----  ------  --------------",
        );
        for map in maps {
            let (class, kind) = (alternate_hex(map.class.into()), alternate_hex(map.kind.into()));
            w!(out, "\n {class:>6}  {kind:>4}  {:>6}  tun_metadata{}", map.len, map.index);
        }
    }
}

/// As C's `%#x`: zero has no prefix.
fn alternate_hex(number: u32) -> String {
    if number == 0 { "0".to_owned() } else { format!("{number:#x}") }
}

/// What a modification does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum TlvCommand {
    Add = 0,
    Delete = 1,
    Clear = 2,
}

/// `NXT_TLV_TABLE_MOD`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvTableMod {
    pub command: TlvCommand,
    pub maps: Vec<TlvMap>,
}

impl TlvTableMod {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::NxtTlvTableMod])?;
        let command = match body.u16()? {
            0 => TlvCommand::Add,
            1 => TlvCommand::Delete,
            2 => TlvCommand::Clear,
            other => {
                tracing::warn!(target: "ofp_match", "tlv table mod command ({other}) is out of range");
                return Err(OfError::TtmfcBadCommand);
            }
        };
        body.skip(6)?;
        Ok(Self { command, maps: TlvMap::read_all(&mut body, MAX_FIELDS)? })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::NxtTlvTableMod, version, xid);
        msg.u16(self.command as u16).zeros(6);
        TlvMap::put_all(&self.maps, &mut msg);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        out.push_str(match self.command {
            TlvCommand::Add => "\n ADD",
            TlvCommand::Delete => "\n DEL",
            TlvCommand::Clear => "\n CLEAR",
        });
        if self.command != TlvCommand::Clear {
            TlvMap::text_all(&self.maps, out);
        }
    }
}

/// `NXT_TLV_TABLE_REPLY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlvTableReply {
    /// Bytes of all options together.
    pub max_option_space: u32,
    pub max_fields: u16,
    pub maps: Vec<TlvMap>,
}

impl TlvTableReply {
    pub fn decode(msg: &[u8]) -> Result<Self, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::NxtTlvTableReply])?;
        let max_option_space = body.u32()?;
        let max_fields = body.u16()?;
        body.skip(10)?;
        Ok(Self { max_option_space, max_fields, maps: TlvMap::read_all(&mut body, max_fields)? })
    }

    pub fn encode(&self, version: Version, xid: u32) -> Vec<u8> {
        let mut msg = header::start(Raw::NxtTlvTableReply, version, xid);
        msg.u32(self.max_option_space).u16(self.max_fields).zeros(10);
        TlvMap::put_all(&self.maps, &mut msg);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, out: &mut String) {
        let used: u32 = self.maps.iter().map(|map| u32::from(map.len)).sum();
        w!(out, "\n max option space={} max fields={}\n", self.max_option_space, self.max_fields);
        w!(out, " allocated option space={used}\n\n");
        TlvMap::text_all(&self.maps, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: TlvMap = TlvMap { class: 0xffff, kind: 0, len: 4, index: 0 };

    #[test]
    fn modifications_go_both_ways_and_are_checked() {
        let mut sent = TlvTableMod { command: TlvCommand::Add, maps: vec![MAP] };
        assert_eq!(TlvTableMod::decode(&sent.encode(Version::V10, 1)), Ok(sent.clone()));
        sent.maps[0].len = 5;
        assert_eq!(TlvTableMod::decode(&sent.encode(Version::V10, 1)), Err(OfError::TtmfcBadOptLen));
        sent.maps[0] = TlvMap { index: 64, ..MAP };
        assert_eq!(TlvTableMod::decode(&sent.encode(Version::V10, 1)), Err(OfError::TtmfcBadFieldIdx));
    }

    #[test]
    fn replies_go_both_ways_and_have_a_table() {
        let sent = TlvTableReply { max_option_space: 256, max_fields: 64, maps: vec![MAP] };
        assert_eq!(TlvTableReply::decode(&sent.encode(Version::V15, 1)), Ok(sent.clone()));
        let mut out = String::new();
        sent.text(&mut out);
        assert_eq!(
            out,
            "\n max option space=256 max fields=64\n allocated option space=4\n\n mapping table:\n  \
             class  type  length  match field\n ------  ----  ------  --------------\n \
             0xffff     0       4  tun_metadata0"
        );
    }
}
