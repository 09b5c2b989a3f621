//! Mapped tunnel options: which Geneve option each `tun_metadata` field of the bridge is.

use flow::key::TUN_METADATA_BYTES;
use flow::tlv::{FIELDS, Table, TlvError};
use openflow::error::OfError;
use openflow::msg::tlv::{MAX_FIELDS, TlvCommand, TlvMap, TlvTableMod, TlvTableReply};
use openflow::oxm::TlvLengths;

use super::rule::Rule;
use super::switch::Ofproto;

/// How many rules use each field.
pub(super) struct TlvUses([u32; FIELDS]);

impl Default for TlvUses {
    fn default() -> Self {
        Self([0; FIELDS])
    }
}

impl TlvUses {
    /// Counts a rule that came.
    pub fn came(&mut self, rule: &Rule) {
        self.each(rule, |uses| uses.saturating_add(1));
    }

    /// Takes a rule that went off the count.
    pub fn went(&mut self, rule: &Rule) {
        self.each(rule, |uses| uses.saturating_sub(1));
    }

    fn each(&mut self, rule: &Rule, change: fn(u32) -> u32) {
        if rule.tlvs == 0 {
            return;
        }
        for (index, uses) in self.0.iter_mut().enumerate() {
            if rule.tlvs >> index & 1 != 0 {
                *uses = change(*uses);
            }
        }
    }

    fn any(&self, indices: impl IntoIterator<Item = usize>) -> bool {
        indices.into_iter().any(|index| self.0.get(index).is_some_and(|&uses| uses > 0))
    }
}

impl Ofproto {
    /// Maps and unmaps tunnel options.
    ///
    /// # Errors
    ///
    /// What does not fit, or that a field which is to be unmapped is used by a flow; nothing is changed then.
    pub fn tlv_mod(&mut self, request: &TlvTableMod) -> Result<(), OfError> {
        let mut table = Table::clone(&self.tables().tlvs.load());
        let indices = || request.maps.iter().map(|map| usize::from(map.index));
        match request.command {
            TlvCommand::Add => request.maps.iter().try_for_each(|map| add(&mut table, map))?,
            TlvCommand::Delete if self.index.tlv_uses.any(indices()) => {
                return Err(OfError::TtmfcInvalidTlvDel);
            }
            TlvCommand::Delete => indices().for_each(|index| table.remove(index)),
            TlvCommand::Clear if self.index.tlv_uses.any(0..FIELDS) => {
                return Err(OfError::TtmfcInvalidTlvDel);
            }
            TlvCommand::Clear => table = Table::default(),
        }
        self.tables().set_tlvs(table);
        self.tables().note_change();
        Ok(())
    }

    /// What is mapped.
    pub fn tlv_table(&self) -> TlvTableReply {
        let table = self.tables().tlvs.load();
        let map = |(index, entry): (usize, &flow::tlv::Entry)| TlvMap {
            class: entry.class,
            kind: entry.opt_type,
            len: entry.len,
            index: u16::try_from(index).expect("there are 64 fields"),
        };
        TlvTableReply {
            max_option_space: u32::try_from(TUN_METADATA_BYTES).expect("a key is short"),
            max_fields: MAX_FIELDS,
            maps: table.iter().map(map).collect(),
        }
    }

    /// The length of each field, for decoding matches and actions.
    pub fn tlv_lengths(&self) -> TlvLengths {
        let mut lengths = [None; FIELDS];
        for (index, entry) in self.tables().tlvs.load().iter() {
            lengths[index] = Some(entry.len);
        }
        TlvLengths(lengths)
    }
}

fn add(table: &mut Table, map: &TlvMap) -> Result<(), OfError> {
    let index = usize::from(map.index);
    if table.get(index).is_some() {
        return Err(OfError::TtmfcAlreadyMapped);
    }
    table.add(index, map.class, map.kind, map.len).map_err(|error| match error {
        TlvError::BadLength => OfError::TtmfcBadOptLen,
        TlvError::BadIndex => OfError::TtmfcBadFieldIdx,
        TlvError::Duplicate => OfError::TtmfcDupEntry,
        TlvError::Full => OfError::TtmfcTableFull,
    })
}
