//! Netlink attributes: the 4-byte aligned type-length-value coding of `linux/netlink.h`.
//!
//! [`Attrs`] walks untrusted bytes and reports the first violation with its offset from the start of the outermost
//! slice; [`Writer`] builds attributes, nests included. Integers of the kernel's own making are host-endian, fields
//! of packets are big-endian; the accessor's name says which.

use thiserror::Error;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of an attribute's header: length and type, 16 bits each.
pub const HEADER: usize = 4;
/// The type bit of an attribute that contains attributes.
pub const NLA_F_NESTED: u16 = 1 << 15;
/// The type bit of an attribute whose payload is big-endian.
pub const NLA_F_NET_BYTEORDER: u16 = 1 << 14;
const TYPE_MASK: u16 = !(NLA_F_NESTED | NLA_F_NET_BYTEORDER);

/// What is wrong with an attribute; `at` is the offset of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AttrError {
    /// Fewer than four bytes are left, and they are not padding.
    #[error("attribute header truncated at offset {at}")]
    Truncated { at: usize },
    /// The length is below four or beyond the end.
    #[error("attribute at offset {at} has bad length {len}")]
    BadLength { at: usize, len: usize },
    /// The payload has not the size that its type asks for.
    #[error("attribute {kind} at offset {at} has {got} bytes of payload instead of {want}")]
    WrongSize { at: usize, kind: u16, want: usize, got: usize },
    /// The payload's content is impossible.
    #[error("attribute {kind} at offset {at} is invalid: {what}")]
    Invalid { at: usize, kind: u16, what: &'static str },
    /// An attribute that must be there is not.
    #[error("attribute {kind} is missing in the attribute at offset {at}")]
    Missing { at: usize, kind: u16 },
    /// Nests deeper than [`MAX_DEPTH`].
    #[error("attributes nested too deeply at offset {at}")]
    TooDeep { at: usize },
}

/// Actions and keys nested deeper than this are refused.
pub const MAX_DEPTH: usize = 32;

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr<'a> {
    /// The type without its flag bits.
    pub kind: u16,
    /// Offset of the header from the start of the outermost slice.
    pub at: usize,
    /// The payload, without padding.
    pub data: &'a [u8],
}

impl<'a> Attr<'a> {
    /// The payload as `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&self) -> Result<[u8; N], AttrError> {
        self.data.try_into().map_err(|_| self.wrong_size(N))
    }

    /// The payload as a structure of exactly its size.
    pub fn read<T: FromBytes + Immutable + KnownLayout>(&self) -> Result<T, AttrError> {
        T::read_from_bytes(self.data).map_err(|_| self.wrong_size(size_of::<T>()))
    }

    pub fn u8(&self) -> Result<u8, AttrError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A host-endian 16-bit integer.
    pub fn u16(&self) -> Result<u16, AttrError> {
        self.array().map(u16::from_ne_bytes)
    }

    /// A host-endian 32-bit integer.
    pub fn u32(&self) -> Result<u32, AttrError> {
        self.array().map(u32::from_ne_bytes)
    }

    /// A host-endian 64-bit integer.
    pub fn u64(&self) -> Result<u64, AttrError> {
        self.array().map(u64::from_ne_bytes)
    }

    pub fn be16(&self) -> Result<U16, AttrError> {
        self.array().map(U16::from_bytes)
    }

    pub fn be32(&self) -> Result<U32, AttrError> {
        self.array().map(U32::from_bytes)
    }

    pub fn be64(&self) -> Result<U64, AttrError> {
        self.array().map(U64::from_bytes)
    }

    /// An attribute that is there or not, without payload.
    pub fn flag(&self) -> Result<(), AttrError> {
        self.array::<0>().map(|_| ())
    }

    /// A string that ends at its first zero byte.
    pub fn str(&self) -> Result<&'a str, AttrError> {
        let text = self.data.split(|&byte| byte == 0).next().unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| self.invalid("not UTF-8"))
    }

    /// The attributes within.
    pub fn nested(&self) -> Attrs<'a> {
        Attrs { data: self.data, at: self.at + HEADER }
    }

    /// An error about this attribute's content.
    pub fn invalid(&self, what: &'static str) -> AttrError {
        AttrError::Invalid { at: self.at, kind: self.kind, what }
    }

    /// An error about this attribute's size.
    pub fn wrong_size(&self, want: usize) -> AttrError {
        AttrError::WrongSize { at: self.at, kind: self.kind, want, got: self.data.len() }
    }
}

/// Iterates over attributes; ends after the first error.
#[derive(Clone, Copy, Debug)]
pub struct Attrs<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Attrs<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// The attributes in `data`, which starts `at` bytes into what offsets count from.
    pub fn new_at(data: &'a [u8], at: usize) -> Self {
        Self { data, at }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.data
    }

    /// Offset of what is not read yet.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// The first attribute of type `kind`, of those before anything malformed.
    pub fn find(self, kind: u16) -> Option<Attr<'a>> {
        self.map_while(Result::ok).find(|attr| attr.kind == kind)
    }

    /// The place of the first attribute of type `kind`, as [`Attrs::find`] finds it, and of what follows it.
    pub fn span(self, kind: u16) -> Option<std::ops::Range<usize>> {
        // Mostly there is none, which is quickly seen of all words together.
        let ([a, b], [c, d]) = (kind.to_ne_bytes(), TYPE_MASK.to_ne_bytes());
        let (wanted, mask) = (u32::from_ne_bytes([0, 0, a, b]), u32::from_ne_bytes([0, 0, c, d]));
        let words = self.data.as_chunks::<HEADER>().0;
        if words.iter().map(|word| u32::from(u32::from_ne_bytes(*word) & mask == wanted)).sum::<u32>() == 0 {
            return None;
        }
        let mut rest = self.data;
        while let Some((&[len0, len1, kind0, kind1], _)) = rest.split_first_chunk() {
            let len = usize::from(u16::from_ne_bytes([len0, len1]));
            if !(HEADER..=rest.len()).contains(&len) {
                return None;
            }
            if u16::from_ne_bytes([kind0, kind1]) & TYPE_MASK == kind {
                let start = self.data.len() - rest.len();
                return Some(start..(start + align(len)).min(self.data.len()));
            }
            rest = rest.get(align(len)..).unwrap_or_default();
        }
        None
    }

    /// Skips bytes that are not attributes (a fixed structure before them).
    #[inline]
    pub fn skip(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.data.split_at_checked(len)?;
        self.data = tail;
        self.at += len;
        Some(head)
    }

    #[inline]
    fn step(&mut self) -> Result<Attr<'a>, AttrError> {
        let at = self.at;
        let Some((&[len0, len1, kind0, kind1], _)) = self.data.split_first_chunk() else {
            return Err(AttrError::Truncated { at });
        };
        let len = usize::from(u16::from_ne_bytes([len0, len1]));
        let kind = u16::from_ne_bytes([kind0, kind1]) & TYPE_MASK;
        let data = self.data.get(HEADER..len).ok_or(AttrError::BadLength { at, len })?;
        let whole = align(len).min(self.data.len());
        self.skip(whole);
        Ok(Attr { kind, at, data })
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Result<Attr<'a>, AttrError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.data.is_empty() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.data = &[];
        }
        Some(step)
    }
}

/// `len` rounded up to the alignment of attributes.
pub const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// Builds attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
    cut: bool,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), cut: false }
    }

    /// Continues after `bytes`, whose length is a multiple of four.
    pub fn after(bytes: Vec<u8>) -> Self {
        Self { bytes, cut: false }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether something was cut because an attribute cannot be so long.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Appends an attribute. Payloads beyond 65531 bytes cannot be told; they are cut ([`Writer::is_cut`]).
    pub fn put(&mut self, kind: u16, payload: &[u8]) {
        let room = usize::from(u16::MAX) - HEADER;
        self.cut |= payload.len() > room;
        let payload = &payload[..payload.len().min(room)];
        let len = payload.len() + HEADER;
        self.bytes.reserve(align(len));
        self.bytes.extend_from_slice(&header(len as u16, kind));
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    pub fn put_flag(&mut self, kind: u16) {
        self.put(kind, &[]);
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) {
        self.put_word(kind, 1, [value, 0, 0, 0]);
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) {
        let [a, b] = value.to_ne_bytes();
        self.put_word(kind, 2, [a, b, 0, 0]);
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) {
        self.put_word(kind, 4, value.to_ne_bytes());
    }

    pub fn put_u64(&mut self, kind: u16, value: u64) {
        self.put_array(kind, value.to_ne_bytes());
    }

    /// Appends an attribute of `len` bytes, which are the first of `word`; the others are padding.
    fn put_word(&mut self, kind: u16, len: usize, word: [u8; HEADER]) {
        let ([a, b, c, d], [e, f, g, h]) = (header((HEADER + len) as u16, kind), word);
        // At once, for most attributes are so short.
        self.bytes.extend_from_slice(&[a, b, c, d, e, f, g, h]);
    }

    /// Appends an attribute whose size the type says.
    pub fn put_array<const N: usize>(&mut self, kind: u16, payload: [u8; N]) {
        const { assert!(N < 1024, "it is never cut") };
        self.put_known(kind, &payload);
    }

    /// As [`Writer::put`], of a payload that is short, and whose length is known where this is called.
    #[inline(always)]
    fn put_known(&mut self, kind: u16, payload: &[u8]) {
        let len = payload.len() + HEADER;
        self.bytes.reserve(align(len));
        self.bytes.extend_from_slice(&header(len as u16, kind));
        self.bytes.extend_from_slice(payload);
        self.bytes.extend_from_slice(&[0; 3][..align(len) - len]);
    }

    /// A structure, or a big-endian integer.
    pub fn put_struct<T: IntoBytes + Immutable>(&mut self, kind: u16, value: &T) {
        const { assert!(size_of::<T>() < 1024, "it is never cut") };
        self.put_known(kind, value.as_bytes());
    }

    /// A string with its closing zero.
    pub fn put_str(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// Appends attributes that are coded already, as they are.
    pub fn put_coded(&mut self, attrs: &[u8]) {
        self.bytes.extend_from_slice(attrs);
        self.pad();
    }

    /// Appends attributes again that were written before, at `place`.
    pub fn put_again(&mut self, place: std::ops::Range<usize>) {
        self.bytes.extend_from_within(place);
    }

    /// An attribute that holds what `fill` writes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.nest_typed(kind, fill);
    }

    /// As [`Writer::nest`], with the flag that newer netlink families ask for.
    pub fn nest_flagged(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.nest_typed(kind | NLA_F_NESTED, fill);
    }

    fn nest_typed(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(self);
        let len = (self.bytes.len() - start).min(usize::from(u16::MAX) & !3);
        self.cut |= len < self.bytes.len() - start;
        self.bytes.truncate(start + len);
        self.bytes[start..start + HEADER].copy_from_slice(&header(len as u16, kind));
        self.pad();
    }

    fn pad(&mut self) {
        let len = self.bytes.len();
        if !len.is_multiple_of(4) {
            self.bytes.resize(align(len), 0);
        }
    }
}

fn header(len: u16, kind: u16) -> [u8; HEADER] {
    let ([a, b], [c, d]) = (len.to_ne_bytes(), kind.to_ne_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_and_reads_nests_and_padding() {
        let mut writer = Writer::new();
        writer.put_u32(3, 7);
        writer.nest(6, |nest| {
            nest.put_u8(1, 9);
            nest.put_flag(2);
        });
        writer.put_str(5, "ab");
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 8 + 4 + 8 + 4 + 8);
        let attrs: Vec<_> = Attrs::new(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!(attrs.iter().map(|attr| attr.kind).collect::<Vec<_>>(), [3, 6, 5]);
        assert_eq!(attrs[0].u32(), Ok(7));
        assert_eq!(attrs[1].nested().find(1).unwrap().u8(), Ok(9));
        assert_eq!(attrs[1].nested().find(2).unwrap().at, 20);
        assert_eq!(attrs[2].str(), Ok("ab"));
        assert_eq!(attrs[0].u16(), Err(AttrError::WrongSize { at: 0, kind: 3, want: 2, got: 4 }));
    }

    #[test]
    fn payloads_of_known_size_are_as_others() {
        let (mut known, mut other) = (Writer::new(), Writer::new());
        known.put_array(1, [1]);
        known.put_array(2, [1, 2, 3, 4, 5, 6]);
        known.put_struct(3, &U32::new(7));
        known.put_u8(4, 9);
        known.put_u16(5, 0x102);
        known.put_u32(6, 0x1020304);
        other.put(1, &[1]);
        other.put(2, &[1, 2, 3, 4, 5, 6]);
        other.put(3, &[0, 0, 0, 7]);
        other.put(4, &[9]);
        other.put(5, &0x102_u16.to_ne_bytes());
        other.put(6, &0x1020304_u32.to_ne_bytes());
        assert_eq!(known, other);
    }

    #[test]
    fn names_the_violation() {
        let errors = |bytes: &[u8]| Attrs::new(bytes).find_map(Result::err);
        assert_eq!(errors(&[1, 2]), Some(AttrError::Truncated { at: 0 }));
        assert_eq!(errors(&[3, 0, 1, 0]), Some(AttrError::BadLength { at: 0, len: 3 }));
        assert_eq!(errors(&[4, 0, 1, 0, 9, 0, 1, 0]), Some(AttrError::BadLength { at: 4, len: 9 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for attr in Attrs::new(&bytes).flatten() {
                for inner in attr.nested() {
                    let _ = inner.map(|inner| inner.str());
                }
            }
        }

        #[test]
        fn a_span_is_where_it_is_found(
            attrs in proptest::collection::vec((0_u16..4, proptest::collection::vec(any::<u8>(), 0..6)), 0..4),
            cut in proptest::option::of(0..40_usize),
        ) {
            let mut writer = Writer::new();
            attrs.iter().for_each(|(kind, payload)| writer.put(*kind, payload));
            let mut bytes = writer.into_bytes();
            bytes.truncate(cut.unwrap_or(usize::MAX));
            let attrs = Attrs::new(&bytes);
            let end = |attr: &Attr<'_>| (attr.at + align(HEADER + attr.data.len())).min(bytes.len());
            prop_assert_eq!(attrs.span(1), attrs.find(1).map(|attr| attr.at..end(&attr)));
        }
    }
}
