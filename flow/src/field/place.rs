//! Where a field lives in a key.

use zerocopy::IntoBytes;

use super::Value;
use crate::id::OfPort;
use crate::key::{Key, VLAN_CFI, Vlan};
use crate::mini::FullMatch;

const VID: u16 = 0xfff;
const PCP: u16 = 0xe000;
/// `dl_vlan=0xffff` asks for no tag at all (OpenFlow 1.0 section 5.2.3).
const OFP10_VLAN_NONE: u64 = 0xffff;
/// OpenFlow 1.1 ports are 32 bits wide; the reserved ones are the 16-bit ones plus this.
const OFPP11_OFFSET: u32 = 0xffff_0000;

/// Where a field lives in a [`Key`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// `mask` bits above `shift` of the integer of `len` bytes at `ofs`, big-endian or native.
    Word { ofs: u16, len: u8, shift: u8, mask: u64, native: bool },
    /// Bytes in network order.
    Bytes { ofs: u16, len: u8 },
    /// Consecutive registers, the first the most significant.
    Regs { first: u8, count: u8 },
    /// A 16-bit port number in a native 32-bit word, seen as OpenFlow 1.1's 32-bit one.
    OxmPort { ofs: u16 },
    /// A part of the outer VLAN tag.
    Vlan(VlanPart),
    /// A tunnel option mapped by the bridge's TLV table; see [`crate::tlv`].
    TunMetadata(u8),
}

/// A part of the outer VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VlanPart {
    Tci,
    /// 12 bits; setting it makes a tag.
    Vid,
    /// 12 bits and the tag-present bit.
    VidCfi,
    /// 3 bits; setting it makes a tag.
    Pcp,
}

impl Place {
    pub(super) const fn word(ofs: usize, len: u8, shift: u8, mask: u64, native: bool) -> Self {
        Self::Word { ofs: ofs as u16, len, shift, mask, native }
    }

    /// The place's first byte in the key and how many bytes it spans, if it is whole bytes in network order.
    pub fn be_bytes(self) -> Option<std::ops::Range<usize>> {
        let (ofs, len) = match self {
            Self::Word { ofs, len, shift: 0, mask: u64::MAX, native: false } | Self::Bytes { ofs, len } => {
                (ofs, len)
            }
            _ => return None,
        };
        Some(usize::from(ofs)..usize::from(ofs) + usize::from(len))
    }

    /// The bits as an integer, if they lie in a word as long as the field's value, of `n_bytes` bytes.
    pub(super) fn get_word(self, key: &Key, n_bytes: usize) -> Option<u64> {
        match self {
            Self::Word { ofs, len, shift, mask, native } if usize::from(len) == n_bytes => {
                Some((read(key, ofs, len, native) >> shift) & mask)
            }
            Self::Regs { first, count: 1 } => Some(key.regs[usize::from(first)].into()),
            _ => None,
        }
    }

    /// Sets those of `bits` from `value` if they lie in such a word; whether they do.
    pub(super) fn put_word(self, key: &mut Key, n_bytes: usize, value: u64, bits: u64) -> bool {
        match self {
            Self::Word { ofs, len, shift, mask, native } if usize::from(len) == n_bytes => {
                let bits = bits & mask;
                let old = read(key, ofs, len, native) & !(bits << shift);
                write(key, ofs, len, native, old | (value & bits) << shift);
            }
            Self::Regs { first, count: 1 } => {
                let reg = &mut key.regs[usize::from(first)];
                *reg = *reg & !bits as u32 | (value & bits) as u32;
            }
            _ => return false,
        }
        true
    }

    pub(super) fn get(self, key: &Key, n_bytes: usize) -> Value {
        match self {
            Self::Word { ofs, len, shift, mask, native } => {
                Value::from_u64((read(key, ofs, len, native) >> shift) & mask, n_bytes)
            }
            Self::Bytes { ofs, len } => {
                Value::from_bytes(&key.as_bytes()[usize::from(ofs)..usize::from(ofs) + usize::from(len)])
            }
            Self::Regs { first, count } => {
                let regs = &key.regs[usize::from(first)..usize::from(first) + usize::from(count)];
                Value::from_u128(regs.iter().fold(0, |v, &reg| (v << 32) | u128::from(reg)), n_bytes)
            }
            Self::OxmPort { ofs } => {
                Value::from_u64(u64::from(port_to_oxm(OfPort(read(key, ofs, 4, true) as u16))), n_bytes)
            }
            Self::Vlan(part) => Value::from_u64(part.get(key.vlans[0].tci.get()), n_bytes),
            Self::TunMetadata(index) => crate::tlv::value(key, index.into())
                .map_or_else(|| Value::zero(n_bytes), |value| Value::resized(value.bytes(), n_bytes)),
        }
    }

    pub(super) fn set(self, key: &mut Key, value: &Value) {
        match self {
            Self::Word { ofs, len, shift, mask, native } => {
                let old = read(key, ofs, len, native) & !(mask << shift);
                write(key, ofs, len, native, old | ((value.u64() & mask) << shift));
            }
            Self::Bytes { ofs, len } => {
                let value = Value::resized(value.bytes(), usize::from(len));
                key.as_mut_bytes()[usize::from(ofs)..usize::from(ofs) + usize::from(len)]
                    .copy_from_slice(value.bytes());
            }
            Self::Regs { first, count } => {
                let bits = value.u128();
                for i in 0..count {
                    key.regs[usize::from(first + i)] = (bits >> (32 * u32::from(count - 1 - i))) as u32;
                }
            }
            Self::OxmPort { ofs } => {
                let port = port_from_oxm(value.u64()).unwrap_or(OfPort::NONE);
                write(key, ofs, 4, true, u64::from(port.0));
            }
            Self::Vlan(part) => {
                let tci = part.put(key.vlans[0].tci.get(), value.u64());
                set_tci(&mut key.vlans[0], tci);
            }
            Self::TunMetadata(index) => crate::tlv::put(key, index.into(), value),
        }
    }
}

/// Gives the tag a TCI; a tag that was absent becomes an 802.1Q one.
fn set_tci(vlan: &mut Vlan, tci: u16) {
    vlan.tci = tci.into();
    if vlan.tpid.get() == 0 && tci != 0 {
        vlan.tpid = 0x8100.into();
    }
}

impl VlanPart {
    /// The bits of a TCI that the part names when a match is asked whether it looks at it.
    pub(super) fn bits(self) -> u16 {
        match self {
            Self::Tci => u16::MAX,
            Self::Vid => VID,
            Self::VidCfi => VID | VLAN_CFI,
            Self::Pcp => PCP,
        }
    }

    fn get(self, tci: u16) -> u64 {
        let part = tci & self.bits();
        u64::from(if self == Self::Pcp { part >> 13 } else { part })
    }

    fn put(self, tci: u16, value: u64) -> u16 {
        match self {
            Self::Tci => value as u16,
            Self::Vid if value == OFP10_VLAN_NONE => 0,
            Self::Vid => (tci & !VID) | VLAN_CFI | (value as u16 & VID),
            Self::VidCfi => (tci & PCP) | (value as u16 & (VID | VLAN_CFI)),
            Self::Pcp => (tci & !PCP) | VLAN_CFI | ((value as u16 & 7) << 13),
        }
    }

    pub(super) fn set_match(self, m: &mut FullMatch, value: &Value, mask: &Value) {
        let (old, old_mask) = (m.key.vlans[0].tci.get(), m.mask.0.vlans[0].tci.get());
        let (tci, mask) = match self {
            Self::Tci => (value.u64() as u16 & mask.u64() as u16, mask.u64() as u16),
            Self::Vid if value.u64() == OFP10_VLAN_NONE => (0, u16::MAX),
            Self::Vid => (self.put(old, value.u64()), old_mask | VID | VLAN_CFI),
            Self::VidCfi => {
                let bits = mask.u64() as u16 & (VID | VLAN_CFI);
                (self.put(old, value.u64() & u64::from(bits)), bits | (old_mask & PCP))
            }
            Self::Pcp => (self.put(old, value.u64()), old_mask | PCP | VLAN_CFI),
        };
        m.key.vlans[0].tci = tci.into();
        m.mask.0.vlans[0].tci = mask.into();
    }

    pub(super) fn set_wild(self, m: &mut FullMatch) {
        let (bits, others) = match self {
            Self::Tci => (u16::MAX, 0),
            Self::Vid | Self::VidCfi => (VID, PCP),
            Self::Pcp => (PCP, VID),
        };
        let keep = if m.mask.0.vlans[0].tci.get() & others != 0 { !bits } else { 0 };
        for tci in [&mut m.key.vlans[0].tci, &mut m.mask.0.vlans[0].tci] {
            *tci = (tci.get() & keep).into();
        }
    }
}

fn read(key: &Key, ofs: u16, len: u8, native: bool) -> u64 {
    let bytes = &key.as_bytes()[usize::from(ofs)..usize::from(ofs) + usize::from(len)];
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return (if native { u32::from_ne_bytes(bytes) } else { u32::from_be_bytes(bytes) }).into();
    }
    let mut word = [0; 8];
    if native && cfg!(target_endian = "little") {
        word[..bytes.len()].copy_from_slice(bytes);
        return u64::from_le_bytes(word);
    }
    word[8 - bytes.len()..].copy_from_slice(bytes);
    u64::from_be_bytes(word)
}

fn write(key: &mut Key, ofs: u16, len: u8, native: bool, value: u64) {
    let bytes = &mut key.as_mut_bytes()[usize::from(ofs)..usize::from(ofs) + usize::from(len)];
    if let Ok(bytes) = <&mut [u8; 4]>::try_from(&mut *bytes) {
        let value = value as u32;
        *bytes = if native { value.to_ne_bytes() } else { value.to_be_bytes() };
        return;
    }
    if native && cfg!(target_endian = "little") {
        bytes.copy_from_slice(&value.to_le_bytes()[..usize::from(len)]);
    } else {
        bytes.copy_from_slice(&value.to_be_bytes()[8 - usize::from(len)..]);
    }
}

/// The OpenFlow 1.1 number of a port.
pub(crate) fn port_to_oxm(port: OfPort) -> u32 {
    if port < OfPort::MAX { u32::from(port.0) } else { u32::from(port.0) + OFPP11_OFFSET }
}

/// The port of an OpenFlow 1.1 number, if the switch can have it.
pub(crate) fn port_from_oxm(port: u64) -> Option<OfPort> {
    match u32::try_from(port).ok()? {
        port if port < u32::from(OfPort::MAX.0) => Some(OfPort(port as u16)),
        port if port >= u32::from(OfPort::MAX.0) + OFPP11_OFFSET => {
            Some(OfPort((port - OFPP11_OFFSET) as u16))
        }
        _ => None,
    }
}
