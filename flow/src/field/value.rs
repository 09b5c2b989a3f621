//! Values of fields: big-endian bytes.

use std::fmt;

use smallvec::SmallVec;

/// A field's value or mask: big-endian bytes, as many as the field has. Up to 16 bytes stay inline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Value(SmallVec<[u8; 16]>);

impl Value {
    /// The longest value, in bytes.
    pub const MAX_LEN: usize = 128;

    /// `n` zero bytes.
    pub fn zero(n: usize) -> Self {
        Self(SmallVec::from_elem(0, n))
    }

    /// `n` bytes of ones.
    pub fn ones(n: usize) -> Self {
        Self(SmallVec::from_elem(0xff, n))
    }

    /// The low `n` bytes of `v`, zero-extended if `n` is more than 8.
    pub fn from_u64(v: u64, n: usize) -> Self {
        Self::from_u128(u128::from(v), n)
    }

    /// The low `n` bytes of `v`, zero-extended if `n` is more than 16.
    pub fn from_u128(v: u128, n: usize) -> Self {
        Self::resized(&v.to_be_bytes(), n)
    }

    /// These bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// The low `n` bytes of `bytes`, or `bytes` behind zeros.
    pub fn resized(bytes: &[u8], n: usize) -> Self {
        if n <= bytes.len() {
            return Self::from_bytes(&bytes[bytes.len() - n..]);
        }
        let mut value = Self::zero(n - bytes.len());
        value.0.extend_from_slice(bytes);
        value
    }

    /// Appends bytes.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The low 64 bits.
    pub fn u64(&self) -> u64 {
        match <[u8; 4]>::try_from(self.bytes()) {
            Ok(bytes) => u32::from_be_bytes(bytes).into(),
            Err(_) => self.0.iter().fold(0, |v, &byte| (v << 8) | u64::from(byte)),
        }
    }

    /// The low 128 bits.
    pub fn u128(&self) -> u128 {
        self.0.iter().fold(0, |v, &byte| (v << 8) | u128::from(byte))
    }

    /// Whether every bit is 0.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    /// Whether every bit is 1.
    pub fn is_ones(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0xff)
    }

    /// The bitwise and of two values of the same length.
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    /// The bitwise or of two values of the same length.
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    /// `value` where `mask` is 1, `self` elsewhere; all of the same length.
    pub fn merge(&self, value: &Self, mask: &Self) -> Self {
        Self(self.0.iter().zip(&value.0).zip(&mask.0).map(|((a, b), m)| (a & !m) | (b & m)).collect())
    }

    /// Like [`Value::and`], with the shorter of the two taken as if zeros stood before it.
    pub(crate) fn and_right(&self, mask: &Self) -> Self {
        let n = self.len().max(mask.len());
        Self::resized(&self.0, n).and(&Self::resized(&mask.0, n))
    }

    /// The bit `index`, counted from the least significant.
    pub fn bit(&self, index: usize) -> bool {
        let byte = self.0.len().checked_sub(1 + index / 8).map(|at| self.0[at]);
        byte.is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// Sets the bit `index`, counted from the least significant; nothing if there is none.
    pub fn set_bit(&mut self, index: usize, on: bool) {
        if let Some(at) = self.0.len().checked_sub(1 + index / 8) {
            let bit = 1 << (index % 8);
            self.0[at] = if on { self.0[at] | bit } else { self.0[at] & !bit };
        }
    }

    /// `n` bits from bit `ofs` on, as a value of `len` bytes.
    pub fn bits(&self, ofs: usize, n: usize, len: usize) -> Self {
        let mut out = Self::zero(len);
        out.copy_bits(0, self, ofs, n);
        out
    }

    /// Overwrites `n` bits from `ofs` on with the `n` bits of `from` from `from_ofs` on.
    pub fn copy_bits(&mut self, ofs: usize, from: &Self, from_ofs: usize, n: usize) {
        if self.len() <= 16 && from.len() <= 16 && n > 0 {
            let ones = u128::MAX >> (128 - n.min(128));
            let moved = (from.u128() >> from_ofs.min(127)) & ones;
            let shifted = if ofs < 128 { moved << ofs } else { 0 };
            let hole = if ofs < 128 { ones << ofs } else { 0 };
            *self = Self::from_u128((self.u128() & !hole) | shifted, self.len());
            return;
        }
        for i in 0..n {
            self.set_bit(ofs + i, from.bit(from_ofs + i));
        }
    }

    /// Sets `n` bits from `ofs` on to 1.
    pub fn one_bits(&mut self, ofs: usize, n: usize) {
        if self.len() <= 16 && n > 0 && ofs < 128 {
            let ones = u128::MAX >> (128 - n.min(128)) << ofs;
            *self = Self::from_u128(self.u128() | ones, self.len());
            return;
        }
        for i in 0..n {
            self.set_bit(ofs + i, true);
        }
    }

    /// The value as OVS writes hexadecimal: `0x` and no leading zeros, or just `0`.
    pub fn hex(&self) -> String {
        let digits: String =
            self.0.iter().skip_while(|&&byte| byte == 0).map(|byte| format!("{byte:02x}")).collect();
        match digits.trim_start_matches('0') {
            "" => "0".into(),
            digits => format!("0x{digits}"),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({}:{})", self.len(), self.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copying_bits_equals_copying_them_one_by_one(
            a in proptest::collection::vec(any::<u8>(), 1..24),
            b in proptest::collection::vec(any::<u8>(), 1..24),
            x in 0usize..200, y in 0usize..200, n in 0usize..200,
        ) {
            let (x, y) = (x % (a.len() * 8), y % (b.len() * 8));
            let n = n.min(a.len() * 8 - x).min(b.len() * 8 - y);
            let mut fast = Value::from_bytes(&a);
            let from = Value::from_bytes(&b);
            let mut slow = fast.clone();
            fast.copy_bits(x, &from, y, n);
            for i in 0..n {
                slow.set_bit(x + i, from.bit(y + i));
            }
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn hex_has_no_leading_zeros() {
        assert_eq!(Value::from_u64(0x0a0b, 8).hex(), "0xa0b");
        assert_eq!(Value::zero(4).hex(), "0");
    }
}
