//! Mapped tunnel options: a bridge's table that gives Geneve options places in the key.
//!
//! A `tun_metadataN` field has no place of its own: [`Table`] says which option (class, type) it is, how long, and where in
//! [`crate::key::Tunnel::opts`] its value lies. `opt_present` says which of them a packet has.
//!
//! Datapaths know nothing of tables: they have options as on the wire (RFC 8926 section 3.5), which [`Table::map`] and
//! [`Table::unmap_mask`] translate. A key with raw options has [`tnl_flags::RAW_OPTS`].

use crate::field::Value;
use crate::key::{Key, Mask, TUN_METADATA_BYTES, Tunnel, tnl_flags};
use crate::mini::FullMatch;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

/// How many `tun_metadata` fields there are.
pub const FIELDS: usize = 64;

/// A stretch of the options area: the first byte, and how many.
type Piece = (u8, u8);

/// One mapped option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The option class.
    pub class: u16,
    /// The option type, with its critical bit.
    pub opt_type: u8,
    /// Bytes of the value: a multiple of 4, at most 124. Zero for an option that is either there or not.
    pub len: u8,
    /// Where the value lies in the options area: in one piece, unless no gap was long enough.
    pieces: SmallVec<[Piece; 1]>,
}

impl Entry {
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.pieces.iter().map(|&(ofs, len)| usize::from(ofs)..usize::from(ofs) + usize::from(len))
    }

    fn read(&self, opts: &[u8; TUN_METADATA_BYTES]) -> Value {
        let mut value = Value::default();
        self.ranges().for_each(|range| value.extend(&opts[range]));
        value
    }

    /// `value` is as long as the option.
    fn write(&self, opts: &mut [u8; TUN_METADATA_BYTES], value: &[u8]) {
        let mut rest = value;
        for range in self.ranges() {
            let (piece, more) = rest.split_at(range.len().min(rest.len()));
            opts[range.start..range.start + piece.len()].copy_from_slice(piece);
            rest = more;
        }
    }
}

/// Which options a bridge maps, by `tun_metadata` index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    entries: [Option<Entry>; FIELDS],
}

/// A table without options.
static EMPTY: Table = Table { entries: [const { None }; FIELDS] };

impl Default for Table {
    fn default() -> Self {
        EMPTY.clone()
    }
}

/// A bridge's table, of which there is nothing to share where the bridge maps no options.
#[derive(Clone, Default, Debug)]
pub struct Shared(Option<Arc<Table>>);

impl From<Arc<Table>> for Shared {
    fn from(table: Arc<Table>) -> Self {
        Self(Some(table))
    }
}

impl Deref for Shared {
    type Target = Table;

    fn deref(&self) -> &Table {
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

/// Why an option cannot be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TlvError {
    /// The length is not a multiple of 4 up to 124.
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
        if len > 124 || !len.is_multiple_of(4) {
            return Err(TlvError::BadLength);
        }
        let taken = |e: &Entry| (e.class, e.opt_type) == (class, opt_type);
        if self.entries.get(index).ok_or(TlvError::BadIndex)?.is_some()
            || self.entries.iter().flatten().any(taken)
        {
            return Err(TlvError::Duplicate);
        }
        let pieces = self.room(len).ok_or(TlvError::Full)?;
        self.entries[index] = Some(Entry { class, opt_type, len, pieces });
        Ok(())
    }

    /// Free pieces that `len` bytes fit in: the first gap that is long enough, or else the longest ones, as many as it takes.
    fn room(&self, len: u8) -> Option<SmallVec<[Piece; 1]>> {
        const WORDS: usize = TUN_METADATA_BYTES / 4;
        let mut used = [false; WORDS];
        for range in self.entries.iter().flatten().flat_map(Entry::ranges) {
            used[range.start / 4..range.end / 4].fill(true);
        }
        let mut pieces = SmallVec::new();
        let mut left = usize::from(len) / 4;
        while left > 0 {
            let gap = |start: usize| used[start..].iter().take(left).take_while(|&&used| !used).count();
            let gaps = (0..WORDS).map(|start| (start, gap(start)));
            // The first of the longest, which is as long as needed if any is.
            let (start, words) = gaps.rev().max_by_key(|&(_, words)| words).filter(|gap| gap.1 > 0)?;
            used[start..start + words].fill(true);
            pieces.push((start as u8 * 4, words as u8 * 4));
            left -= words;
        }
        Some(pieces)
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

    /// Index and entry of an option.
    pub fn find(&self, class: u16, opt_type: u8) -> Option<(usize, &Entry)> {
        self.iter().find(|(_, entry)| (entry.class, entry.opt_type) == (class, opt_type))
    }

    /// A field's value in a key; `None` if the packet lacks the option or nothing is mapped.
    pub fn read(&self, key: &Key, index: usize) -> Option<Value> {
        let entry = self.get(index)?;
        let present = key.tunnel.opt_present >> index & 1 == 1;
        present.then(|| entry.read(&key.tunnel.opts))
    }

    /// Gives a key the option with a value, resized to the option's length.
    pub fn write(&self, key: &mut Key, index: usize, value: &Value) {
        let Some(entry) = self.get(index) else { return };
        key.tunnel.opt_present |= 1 << index;
        let value = Value::resized(value.bytes(), usize::from(entry.len));
        entry.write(&mut key.tunnel.opts, value.bytes());
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

/// The options of a packet cannot be: they are cut short, an option has another length than the bridge maps, or one that
/// must be understood is not mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid Geneve options")]
pub struct BadOptions;

/// Bytes of an option before its value: class, type, and length in words in the low 5 bits.
const OPTION_HEADER: usize = 4;
/// Who does not know an option with this bit of its type must drop the packet.
const CRITICAL: u8 = 0x80;
const LENGTH: u8 = 0x1f;

/// An option on the wire.
struct RawOption {
    class: u16,
    opt_type: u8,
    /// Where its value lies.
    value: std::ops::Range<usize>,
}

/// The options in `bytes`, in order.
fn raw_options(bytes: &[u8]) -> impl Iterator<Item = Result<RawOption, BadOptions>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let option = bytes[at..].first_chunk().and_then(|&[a, b, opt_type, len]: &[u8; OPTION_HEADER]| {
            let start = at + OPTION_HEADER;
            let value = start..start + usize::from(len & LENGTH) * 4;
            (value.end <= bytes.len()).then_some(RawOption {
                class: u16::from_be_bytes([a, b]),
                opt_type,
                value,
            })
        });
        at = option.as_ref().map_or(bytes.len(), |option| option.value.end);
        Some(option.ok_or(BadOptions))
    })
}

/// The raw options of a tunnel.
fn raw_bytes(tunnel: &Tunnel) -> &[u8] {
    &tunnel.opts[..usize::try_from(tunnel.opt_present).unwrap_or(usize::MAX).min(TUN_METADATA_BYTES)]
}

impl Table {
    /// Gives raw options their places. Options that are not mapped go.
    ///
    /// # Errors
    /// If the packet may not be processed so; the tunnel is left as it is.
    pub fn map(&self, tunnel: &mut Tunnel) -> Result<(), BadOptions> {
        let (mut present, mut opts) = (0, [0; TUN_METADATA_BYTES]);
        let raw = raw_bytes(tunnel);
        for option in raw_options(raw) {
            let option = option?;
            match self.find(option.class, option.opt_type) {
                Some((index, entry)) if usize::from(entry.len) == option.value.len() => {
                    present |= 1 << index;
                    entry.write(&mut opts, &raw[option.value]);
                }
                None if option.opt_type & CRITICAL == 0 => {}
                _ => return Err(BadOptions),
            }
        }
        tunnel.flags &= !tnl_flags::RAW_OPTS;
        (tunnel.opt_present, tunnel.opts) = (present, opts);
        Ok(())
    }

    /// Makes the mask of mapped options one of `raw`, the options that the packet came with.
    ///
    /// Which options there are, and in which order, is significant if the mask looks at any.
    pub fn unmap_mask(&self, mask: &mut Tunnel, raw: &Tunnel) {
        if mask.opt_present != 0 {
            let bytes = raw_bytes(raw);
            let mut opts = [0; TUN_METADATA_BYTES];
            for option in raw_options(bytes).map_while(Result::ok) {
                let start = option.value.start;
                opts[start - OPTION_HEADER..start].copy_from_slice(&[0xff, 0xff, 0xff, LENGTH]);
                if let Some((index, entry)) = self.find(option.class, option.opt_type)
                    && mask.opt_present >> index & 1 == 1
                {
                    let bits = entry.read(&mask.opts);
                    let len = bits.len().min(option.value.len());
                    opts[start..start + len].copy_from_slice(&bits.bytes()[..len]);
                }
            }
            mask.opts = opts;
        }
        // Options that merely begin alike are others.
        mask.opt_present = 0xff;
        mask.flags |= tnl_flags::RAW_OPTS;
    }

    /// Mapped options as on the wire, by the number of their fields.
    fn wire(&self, tunnel: &Tunnel) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, entry) in self.iter().filter(|(index, _)| tunnel.opt_present >> index & 1 == 1) {
            bytes.extend_from_slice(&entry.class.to_be_bytes());
            bytes.extend_from_slice(&[entry.opt_type, entry.len / 4]);
            bytes.extend_from_slice(entry.read(&tunnel.opts).bytes());
        }
        bytes
    }
}

/// A tunnel's options as on the wire, whichever form they have.
pub(crate) fn wire_options(tunnel: &Tunnel) -> Vec<u8> {
    if tunnel.flags & tnl_flags::RAW_OPTS != 0 {
        return raw_bytes(tunnel).to_vec();
    }
    with_table(|table| table.wire(tunnel))
}

/// How many bytes a value gets where no bridge says how long it is.
const ROOMY: u8 = 32;

thread_local! {
    /// The table of the bridge whose matches are worked on, if there is one.
    static BRIDGE: RefCell<Option<Shared>> = const { RefCell::new(None) };
    /// Places given where there is no bridge, as fields turn up.
    static PLACES: RefCell<Table> = RefCell::default();
}

/// While it lives, matches of this thread are a bridge's: see [`enter`].
#[derive(Debug)]
#[must_use]
pub struct Scope(Option<Shared>);

/// Lets matches that this thread reads, writes and prints have the values of options where `table` places them.
///
/// A match does not carry its bridge's table, which may be replaced only while no match has options. Without a bridge, as
/// in a client, places are given as needed.
pub fn enter(table: Shared) -> Scope {
    Scope(BRIDGE.replace(Some(table)))
}

/// Lets matches have the values of options where another table places them, as long as the present scope lives.
pub fn replace(table: Shared) {
    BRIDGE.replace(Some(table));
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
    if has_bridge() {
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

/// Bytes of a field where a bridge maps it; `None` if it does not, or there is no bridge.
pub fn length(index: usize) -> Option<usize> {
    BRIDGE.with_borrow(|bridge| Some(bridge.as_ref()?.get(index)?.len.into()))
}

/// Whether a bridge says how long options are.
pub fn has_bridge() -> bool {
    BRIDGE.with_borrow(Option::is_some)
}

/// Gives a key's field a value, if it has a place.
pub(crate) fn put(key: &mut Key, index: usize, value: &Value) {
    with_table(|table| table.write(key, index, value));
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
    if m.key.tunnel.flags & tnl_flags::RAW_OPTS != 0 {
        return Vec::new();
    }
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
        let scope = enter(Arc::new(table).into());
        let mut m = FullMatch::default();
        let field = Field::from_name("tun_metadata1").unwrap();
        field.set_match(&mut m, &Value::from_u64(0xab, 124), &Value::ones(124));
        assert_eq!(m.key.tunnel.opts[..4], [0, 0, 0, 0xab]);
        assert_eq!(m.mask.0.tunnel.opts[..5], [0xff, 0xff, 0xff, 0xff, 0]);
        drop(scope);
        assert!(!has_bridge());
    }

    fn raw(bytes: &[u8]) -> Tunnel {
        let mut tunnel = Key::default().tunnel;
        tunnel.opts[..bytes.len()].copy_from_slice(bytes);
        (tunnel.opt_present, tunnel.flags) = (bytes.len() as u64, tnl_flags::RAW_OPTS | tnl_flags::KEY);
        tunnel
    }

    fn two() -> Table {
        let mut table = Table::default();
        table.add(0, 0xffff, 0, 4).unwrap();
        table.add(7, 0xffff, 1, 8).unwrap();
        table
    }

    #[test]
    fn values_lie_in_gaps_if_no_gap_is_long_enough() {
        let mut table = Table::default();
        for (index, len) in [(0, 4), (1, 8), (2, 124), (3, 4), (4, 112)] {
            table.add(index, 1, index as u8, len).unwrap();
        }
        assert_eq!(table.add(5, 1, 5, 8), Err(TlvError::Full));
        table.remove(3);
        table.add(3, 1, 3, 8).unwrap();
        assert_eq!(table.get(3).unwrap().pieces.as_slice(), [(136, 4), (252, 4)]);
        let mut key = Key::default();
        let value = Value::from_u64(0x1234_5678_90ab_cdef, 8);
        table.write(&mut key, 3, &value);
        assert_eq!(table.read(&key, 3), Some(value));
        assert_eq!((table.read(&key, 2), table.add(6, 1, 6, 4)), (None, Err(TlvError::Full)));
        table.add(6, 1, 6, 0).unwrap();
        table.write(&mut key, 6, &Value::zero(124));
        assert_eq!(table.read(&key, 6), Some(Value::default()));
    }

    #[test]
    fn raw_options_find_their_places_and_back() {
        let table = two();
        let wire = [0xff, 0xff, 0, 1, 0, 0, 0, 0xb, 0xff, 0xff, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut tunnel = raw(&wire);
        assert_eq!(table.map(&mut tunnel), Ok(()));
        assert_eq!((tunnel.opt_present, tunnel.flags), (1 << 7 | 1, tnl_flags::KEY));
        assert_eq!(table.wire(&tunnel), wire);
        // Another order, and one that nobody knows.
        let other = [1, 2, 3, 0, 0xff, 0xff, 0, 1, 0, 0, 0, 0xb];
        let mut tunnel = raw(&other);
        assert_eq!(table.map(&mut tunnel), Ok(()));
        assert_eq!((tunnel.opt_present, table.wire(&tunnel)), (1, wire[..8].to_vec()));
    }

    #[test]
    fn options_that_must_be_understood_are() {
        let table = two();
        for wire in [&[1, 2, 0x83, 0][..], &[0xff, 0xff, 0, 0], &[0xff, 0xff, 0, 1, 0], &[0xff]] {
            assert_eq!(table.map(&mut raw(wire)), Err(BadOptions));
        }
    }

    #[test]
    fn masks_are_of_the_options_that_came() {
        let table = two();
        let tunnel = raw(&[1, 2, 3, 1, 9, 9, 9, 9, 0xff, 0xff, 0, 1, 0, 0, 0, 0xb]);
        let mut mask = Mask::default();
        table.mask(&mut mask, 0, &Value::from_u64(0xf, 4));
        let mut mask = mask.0.tunnel;
        table.unmap_mask(&mut mask, &tunnel);
        assert_eq!(
            mask.opts[..16],
            [0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0, 0xf]
        );
        let mut none = Key::default().tunnel;
        table.unmap_mask(&mut none, &tunnel);
        assert_eq!((none.opts[..16].to_vec(), none.opt_present), (vec![0; 16], 0xff));
    }

    proptest::proptest! {
        #[test]
        fn any_options_can_be_looked_at(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let (table, tunnel) = (two(), raw(&bytes));
            let mut mapped = tunnel;
            let mut mask = Mask::exact().0.tunnel;
            table.unmap_mask(&mut mask, &tunnel);
            if table.map(&mut mapped).is_ok() {
                let mut again = raw(&table.wire(&mapped));
                proptest::prop_assert_eq!(table.map(&mut again), Ok(()));
                proptest::prop_assert!(again == mapped);
            }
        }
    }
}
