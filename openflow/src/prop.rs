//! Properties: the type-length-value lists of OpenFlow 1.4 and later (and of some extensions).
//!
//! A property is type (16 bits), length (16 bits, header included, padding not) and value, padded to 8 bytes. Types
//! from a given number on are experimenters': vendor and type, 32 bits each, follow.
//! Spec: OpenFlow 1.4 section 7.1.2.

use crate::error::OfError;
use crate::wire::{Put, Reader, pad8, set_u16};
use std::fmt;

/// The type that announces an experimenter property.
const EXPERIMENTER: u16 = 0xffff;

/// The type of a property.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PropType {
    Standard(u16),
    Experimenter { vendor: u32, kind: u32 },
}

impl fmt::Display for PropType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(kind) => write!(f, "{kind}"),
            Self::Experimenter { vendor, kind } => write!(f, "for exp_id 0x{vendor:x}, exp_type {kind}"),
        }
    }
}

/// One property.
#[derive(Clone, Copy, Debug)]
pub struct Prop<'a> {
    pub kind: PropType,
    /// The first 16 bits: the type itself, or that of experimenters.
    pub raw_kind: u16,
    /// The whole property, without padding.
    pub whole: &'a [u8],
    /// Where the value begins: 4, or 12 for an experimenter's.
    header: usize,
}

/// A list of properties as it is read. Each is padded to a multiple of `align`; types from `experimenters` on are
/// experimenters' (0x10000: none are).
#[derive(Clone, Copy, Debug)]
pub struct Props<'a> {
    rest: &'a [u8],
    align: usize,
    experimenters: u32,
}

impl<'a> Props<'a> {
    /// A list in the common form.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, align: 8, experimenters: u32::from(EXPERIMENTER) }
    }

    /// The same list with experimenter types from `first` on.
    #[must_use]
    pub fn experimenters_from(self, first: u32) -> Self {
        Self { experimenters: first, ..self }
    }

    /// The same list with properties padded to `align` bytes.
    #[must_use]
    pub fn aligned_to(self, align: usize) -> Self {
        Self { align, ..self }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn pull(&mut self) -> Result<Prop<'a>, OfError> {
        let bad_len = |_| OfError::BpcBadLen;
        let mut reader = Reader::new(self.rest);
        let raw_kind = reader.u16().map_err(bad_len)?;
        let len = usize::from(reader.u16().map_err(bad_len)?);
        let whole = self.rest.get(..len).filter(|_| len >= 4).ok_or(OfError::BpcBadLen)?;
        self.rest = self.rest.get(len.next_multiple_of(self.align)..).ok_or(OfError::BpcBadLen)?;
        if u32::from(raw_kind) < self.experimenters {
            return Ok(Prop { kind: PropType::Standard(raw_kind), raw_kind, whole, header: 4 });
        }
        let mut reader = Reader::new(&whole[4..]);
        let vendor = reader.u32().map_err(bad_len)?;
        let kind = reader.u32().map_err(bad_len)?;
        if vendor == 0 {
            return Err(OfError::BpcBadExperimenter);
        }
        Ok(Prop { kind: PropType::Experimenter { vendor, kind }, raw_kind, whole, header: 12 })
    }
}

impl<'a> Iterator for Props<'a> {
    type Item = Result<Prop<'a>, OfError>;

    /// The next property; after an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let prop = self.pull();
        if prop.is_err() {
            self.rest = &[];
        }
        Some(prop)
    }
}

impl<'a> Prop<'a> {
    /// The value, from right behind the header.
    pub fn value(&self) -> &'a [u8] {
        &self.whole[self.header..]
    }

    /// The value, from the next multiple of 8 bytes.
    pub fn aligned_value(&self) -> Result<&'a [u8], OfError> {
        self.whole.get(self.header.next_multiple_of(8)..).ok_or(OfError::BpcBadLen)
    }

    /// The value as exactly `N` bytes.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], OfError> {
        self.value().try_into().map_err(|_| OfError::BpcBadLen)
    }

    pub fn u8(&self) -> Result<u8, OfError> {
        // Padding is forgiven in small values.
        self.value().first().copied().ok_or(OfError::BpcBadLen)
    }

    pub fn u16(&self) -> Result<u16, OfError> {
        self.value().first_chunk().map(|bytes| u16::from_be_bytes(*bytes)).ok_or(OfError::BpcBadLen)
    }

    pub fn u32(&self) -> Result<u32, OfError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&self) -> Result<u64, OfError> {
        let value = self.aligned_value()?;
        value.try_into().map(u64::from_be_bytes).map_err(|_| OfError::BpcBadLen)
    }

    /// Nested properties: they start at a multiple of 8 bytes.
    pub fn nested(&self) -> Result<Props<'a>, OfError> {
        self.aligned_value().map(Props::new)
    }

    /// A property that is not known to the list called `list`: passed over if `loose`, else an error.
    pub fn unknown(&self, loose: bool, list: &str) -> Result<(), OfError> {
        let kind = self.kind;
        macro_rules! tell {
            ($module:literal) => {
                if loose {
                    tracing::debug!(target: $module, rl = "1,5", "unknown {list} property type {kind}");
                } else {
                    tracing::warn!(target: $module, rl = "1,5", "unknown {list} property type {kind}");
                }
            };
        }
        match list.split([' ', '_']).next() {
            Some("async") => tell!("ofp_connection"),
            Some("NX" | "continuation") => tell!("ofp_packet"),
            Some("NXT") => tell!("ofp_ct"),
            Some("table") => tell!("ofp_table"),
            Some("port") => tell!("ofp_port"),
            Some("queue") => tell!("ofp_queue"),
            Some("group") => tell!("ofp_group"),
            _ => tell!("ofp_util"),
        }
        if loose {
            return Ok(());
        }
        Err(match kind {
            PropType::Standard(_) => OfError::BpcBadType,
            PropType::Experimenter { .. } => OfError::BpcBadExpType,
        })
    }
}

/// Appends a property whose value `fill` appends.
pub fn put(msg: &mut Vec<u8>, kind: PropType, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = msg.len();
    match kind {
        PropType::Standard(kind) => msg.u16(kind).u16(0),
        PropType::Experimenter { vendor, kind } => msg.u16(EXPERIMENTER).u16(0).u32(vendor).u32(kind),
    };
    fill(msg);
    let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
    set_u16(msg, start + 2, len);
    pad8(msg, start);
}

/// Appends a standard property.
pub fn put_std(msg: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    put(msg, PropType::Standard(kind), fill);
}

/// Appends a standard property whose value begins at a multiple of 8 bytes.
pub fn put_aligned(msg: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    put_std(msg, kind, |msg| {
        msg.zeros(4);
        fill(msg);
    });
}

/// Appends a standard property with a 32-bit value.
pub fn put_u32(msg: &mut Vec<u8>, kind: u16, value: u32) {
    put_std(msg, kind, |msg| {
        msg.u32(value);
    });
}

/// Appends a standard property with a 16-bit value.
pub fn put_u16(msg: &mut Vec<u8>, kind: u16, value: u16) {
    put_std(msg, kind, |msg| {
        msg.u16(value);
    });
}

/// Appends a standard property with an 8-bit value.
pub fn put_u8(msg: &mut Vec<u8>, kind: u16, value: u8) {
    put_std(msg, kind, |msg| {
        msg.u8(value);
    });
}

/// Appends a standard property with a 64-bit value.
pub fn put_u64(msg: &mut Vec<u8>, kind: u16, value: u64) {
    put_aligned(msg, kind, |msg| {
        msg.u64(value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn properties_go_both_ways() {
        let mut msg = Vec::new();
        put_u16(&mut msg, 1, 500);
        put_u64(&mut msg, 2, 7);
        put(&mut msg, PropType::Experimenter { vendor: 0x2320, kind: 9 }, |msg| {
            msg.u32(3);
        });
        let props: Vec<_> = Props::new(&msg).collect::<Result<_, _>>().expect("they are well-formed");
        assert_eq!(
            props.iter().map(|prop| prop.kind).collect::<Vec<_>>(),
            [
                PropType::Standard(1),
                PropType::Standard(2),
                PropType::Experimenter { vendor: 0x2320, kind: 9 },
            ]
        );
        assert_eq!((props[0].u16(), props[1].u64(), props[2].u32()), (Ok(500), Ok(7), Ok(3)));
        assert_eq!(props[0].u32(), Err(OfError::BpcBadLen));
    }

    #[test]
    fn lengths_are_checked() {
        let first = |bytes: &[u8]| Props::new(bytes).next().map(|prop| prop.map(|prop| prop.kind));
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[0, 1, 0]), Some(Err(OfError::BpcBadLen)));
        assert_eq!(first(&[0, 1, 0, 3, 0, 0, 0, 0]), Some(Err(OfError::BpcBadLen)));
        assert_eq!(first(&[0, 1, 0, 9, 0, 0, 0, 0]), Some(Err(OfError::BpcBadLen)));
        assert_eq!(first(&[0xff, 0xff, 0, 8, 0, 0, 0, 0]), Some(Err(OfError::BpcBadLen)));
        assert_eq!(
            first(&[0xff, 0xff, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Some(Err(OfError::BpcBadExperimenter))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for prop in Props::new(&bytes).flatten() {
                let _ = (prop.u16(), prop.u32(), prop.u64(), prop.nested());
            }
        }
    }
}
