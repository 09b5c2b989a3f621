//! Mapped tunnel options: a bridge's table that gives Geneve options places in the key.
//!
//! A `tun_metadataN` field has no place of its own: [`Table`] says which option (class, type) it is, how long, and where in
//! [`crate::key::Tunnel::opts`] its value lies. `opt_present` says which of them a packet has.

use crate::field::Value;
use crate::key::{Key, Mask, TUN_METADATA_BYTES};
use crate::mini::FullMatch;

/// How many `tun_metadata` fields there are.
pub const FIELDS: usize = 64;

/// One mapped option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The option class.
    pub class: u16,
    /// The option type, with its critical bit.
    pub opt_type: u8,
    /// Bytes of the value: a multiple of 4, at most 124.
    pub len: u8,
    /// Where the value lies in the options area.
    pub ofs: u8,
}

/// Which options a bridge maps, by `tun_metadata` index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    entries: [Option<Entry>; FIELDS],
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: [None; FIELDS] }
    }
}

/// Why an option cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlvError {
    /// The length is not a multiple of 4 from 4 to 124.
    #[error("bad option length")]
    BadLength,
    /// There is no such field.
    #[error("bad field index")]
    BadIndex,
    /// The field is mapped, or the option is.
    #[error("duplicate mapping")]
    Duplicate,
    /// The options area is full.
    #[error("table full")]
    Full,
}

impl Table {
    /// Maps an option to `tun_metadata<index>`.
    ///
    /// # Errors
    /// [`TlvError`] says what does not fit.
    pub fn add(&mut self, index: usize, class: u16, opt_type: u8, len: u8) -> Result<(), TlvError> {
        if len == 0 || len > 124 || !len.is_multiple_of(4) {
            return Err(TlvError::BadLength);
        }
        let taken = |e: &Entry| (e.class, e.opt_type) == (class, opt_type);
        if self.entries.get(index).ok_or(TlvError::BadIndex)?.is_some()
            || self.entries.iter().flatten().any(taken)
        {
            return Err(TlvError::Duplicate);
        }
        let free = |ofs: usize| {
            let end = ofs + usize::from(len);
            let apart =
                |e: &Entry| end <= usize::from(e.ofs) || ofs >= usize::from(e.ofs) + usize::from(e.len);
            end <= TUN_METADATA_BYTES && self.entries.iter().flatten().all(apart)
        };
        let ofs = (0..TUN_METADATA_BYTES).step_by(4).find(|&ofs| free(ofs)).ok_or(TlvError::Full)?;
        self.entries[index] = Some(Entry { class, opt_type, len, ofs: ofs as u8 });
        Ok(())
    }

    /// Unmaps a field.
    pub fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = None;
        }
    }

    /// The option of `tun_metadata<index>`.
    pub fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)?.as_ref()
    }

    /// Index and option of each mapped field.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter_map(|(i, entry)| Some((i, entry.as_ref()?)))
    }

    /// A field's value in a key; `None` if the packet lacks the option or nothing is mapped.
    pub fn read(&self, key: &Key, index: usize) -> Option<Value> {
        let entry = self.get(index)?;
        let present = key.tunnel.opt_present >> index & 1 == 1;
        let range = usize::from(entry.ofs)..usize::from(entry.ofs) + usize::from(entry.len);
        present.then(|| Value::from_bytes(&key.tunnel.opts[range]))
    }

    /// Gives a key the option with a value, resized to the option's length.
    pub fn write(&self, key: &mut Key, index: usize, value: &Value) {
        let Some(entry) = self.get(index) else { return };
        let range = usize::from(entry.ofs)..usize::from(entry.ofs) + usize::from(entry.len);
        key.tunnel.opt_present |= 1 << index;
        key.tunnel.opts[range].copy_from_slice(Value::resized(value.bytes(), usize::from(entry.len)).bytes());
    }

    /// Makes bits of a field, and that the option is there, significant.
    pub fn mask(&self, mask: &mut Mask, index: usize, bits: &Value) {
        let old = self.read(&mask.0, index);
        let Some(entry) = self.get(index) else { return };
        let bits = Value::resized(bits.bytes(), usize::from(entry.len));
        let all = old.map_or(bits.clone(), |old| old.or(&bits));
        self.write(&mut mask.0, index, &all);
    }
}

/// Name and value text (none: only that it is there) of each option that a match looks at.
///
/// A match does not carry the table: the places of values are those that a table gives that maps fields in ascending order of
/// index, so options print by presence, and their values by the bridge that owns the table.
pub(crate) fn option_texts(m: &FullMatch) -> Vec<(String, Option<String>)> {
    let bits = m.mask.0.tunnel.opt_present;
    (0..FIELDS)
        .filter(|i| bits >> i & 1 == 1)
        .map(|i| {
            let present = m.key.tunnel.opt_present >> i & 1 == 1;
            (format!("tun_metadata{i}"), (!present).then(|| "NP".to_string()))
        })
        .collect()
}
