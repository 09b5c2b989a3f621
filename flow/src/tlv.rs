//! Mapped tunnel options: a bridge's table that gives Geneve options places in the key.
//!
//! A `tun_metadataN` field has no place of its own: [`Table`] says which option (class, type) it is, how long, and where in
//! [`crate::key::Tunnel::opts`] its value lies. `opt_present` says which of them a packet has.

use crate::field::Value;
use crate::key::{Key, Mask, TUN_METADATA_BYTES};
use crate::mini::FullMatch;
use std::cell::RefCell;
use std::sync::Arc;

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

/// How many bytes a value gets where no bridge says how long it is.
const ROOMY: u8 = 32;

thread_local! {
    /// The table of the bridge whose matches are worked on, if there is one.
    static BRIDGE: RefCell<Option<Arc<Table>>> = const { RefCell::new(None) };
    /// Places given where there is no bridge, as fields turn up.
    static PLACES: RefCell<Table> = RefCell::default();
}

/// While it lives, matches of this thread are a bridge's: see [`enter`].
#[derive(Debug)]
#[must_use]
pub struct Scope(Option<Arc<Table>>);

/// Lets matches that this thread reads, writes and prints have the values of options where `table` places them.
///
/// A match does not carry its bridge's table, which may be replaced only while no match has options. Without a bridge, as
/// in a client, places are given as needed.
pub fn enter(table: Arc<Table>) -> Scope {
    Scope(BRIDGE.replace(Some(table)))
}

impl Drop for Scope {
    fn drop(&mut self) {
        BRIDGE.replace(self.0.take());
    }
}

/// Calls `f` with the table that is in force.
fn with_table<T>(f: impl FnOnce(&Table) -> T) -> T {
    BRIDGE.with_borrow(|bridge| match bridge {
        Some(table) => f(table),
        None => PLACES.with_borrow(f),
    })
}

/// Sees to it that a field has a place for so many bytes if there is no bridge.
fn make_place(index: usize, len: usize) {
    if BRIDGE.with_borrow(Option::is_some) {
        return;
    }
    PLACES.with_borrow_mut(|places| {
        if places.get(index).is_some_and(|entry| usize::from(entry.len) >= len) {
            return;
        }
        places.remove(index);
        let least = u8::try_from(len.max(4).next_multiple_of(4)).unwrap_or(124).min(124);
        let class = index as u16;
        if places.add(index, class, 0, least.max(ROOMY)).is_err() {
            // Too many fields at once for room; if even this fails, the field matches by presence.
            let _ = places.add(index, class, 0, least);
        }
    });
}

/// A field's value in a match's key or mask, as long as its option; `None` if it is not there.
pub fn value(key: &Key, index: usize) -> Option<Value> {
    with_table(|table| table.read(key, index))
}

/// Makes a match require that an option be there, with the bits of `value` that are 1 in `mask`.
pub(crate) fn set_match(m: &mut FullMatch, index: usize, value: &Value, mask: &Value) {
    let bytes = if mask.is_ones() { value.bytes() } else { mask.bytes() };
    make_place(index, bytes.len() - bytes.iter().take_while(|&&byte| byte == 0).count());
    let bit = 1 << index;
    m.key.tunnel.opt_present |= bit;
    m.mask.0.tunnel.opt_present |= bit;
    with_table(|table| {
        table.write(&mut m.key, index, &value.and_right(mask));
        table.write(&mut m.mask.0, index, mask);
    });
}

/// Name and value text (none: only that it is there) of each option that a match looks at.
pub(crate) fn option_texts(m: &FullMatch) -> Vec<(String, Option<String>)> {
    let bits = m.mask.0.tunnel.opt_present;
    let text = |i: usize| {
        if m.key.tunnel.opt_present >> i & 1 == 0 {
            return Some("NP".to_owned());
        }
        let mask = value(&m.mask.0, i).filter(|mask| !mask.is_zero())?;
        let value = value(&m.key, i)?.hex();
        Some(if mask.is_ones() { value } else { format!("{value}/{}", mask.hex()) })
    };
    (0..FIELDS).filter(|i| bits >> i & 1 == 1).map(|i| (format!("tun_metadata{i}"), text(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;

    fn texts(m: &FullMatch) -> Vec<(String, Option<String>)> {
        option_texts(m)
    }

    #[test]
    fn matches_without_a_bridge_have_room() {
        let mut m = FullMatch::default();
        let field = Field::from_name("tun_metadata3").unwrap();
        field.set_match(&mut m, &Value::from_u64(0xab, 124), &Value::ones(124));
        assert_eq!(texts(&m), [("tun_metadata3".to_owned(), Some("0xab".to_owned()))]);
        field.set_match(&mut m, &Value::from_u64(0xff, 124), &Value::from_u64(0xf, 124));
        assert_eq!(texts(&m), [("tun_metadata3".to_owned(), Some("0xf/0xf".to_owned()))]);
        field.set_match(&mut m, &Value::zero(124), &Value::zero(124));
        assert_eq!(texts(&m), [("tun_metadata3".to_owned(), None)]);
    }

    #[test]
    fn a_bridge_places_values() {
        let mut table = Table::default();
        table.add(1, 0xffff, 0, 4).unwrap();
        let scope = enter(Arc::new(table));
        let mut m = FullMatch::default();
        let field = Field::from_name("tun_metadata1").unwrap();
        field.set_match(&mut m, &Value::from_u64(0xab, 124), &Value::ones(124));
        assert_eq!(m.key.tunnel.opts[..4], [0, 0, 0, 0xab]);
        assert_eq!(m.mask.0.tunnel.opts[..5], [0xff, 0xff, 0xff, 0xff, 0]);
        drop(scope);
        assert!(!BRIDGE.with_borrow(Option::is_some));
    }
}
