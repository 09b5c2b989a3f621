//! Ranges of bits of a field.

use std::fmt;

use super::{Field, Value};
use crate::key::{Key, Mask};

/// `n_bits` bits of a field from the bit `ofs` on, counted from the least significant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subfield {
    pub field: Field,
    pub ofs: u16,
    pub n_bits: u16,
}

impl Subfield {
    /// The whole field.
    pub fn whole(field: Field) -> Self {
        Self { field, ofs: 0, n_bits: field.n_bits() }
    }

    /// Whether this is all of the field.
    pub fn is_whole(&self) -> bool {
        self.ofs == 0 && self.n_bits == self.field.n_bits()
    }

    /// Parses `NXM_NX_REG0[0..15]`, `reg0[]`, `reg0[3]`, `reg0` at the start of `text`; gives what follows it.
    ///
    /// # Errors
    /// OVS's words for what is wrong.
    pub fn parse_prefix(text: &str) -> Result<(Self, &str), String> {
        let name_len = text.find(['[', '-']).unwrap_or(text.len());
        let (name, rest) = text.split_at(name_len);
        let oxm_name = if name.len() > 2 { name.strip_suffix("_W").unwrap_or(name) } else { name };
        let field = Field::from_oxm_name(oxm_name)
            .or_else(|| Field::from_name(name))
            .ok_or_else(|| format!("{text}: unknown field `{name}'"))?;
        let n_bits = i64::from(field.n_bits());
        let (start, end, rest) = match rest.strip_prefix('[') {
            None => (0, n_bits - 1, rest),
            Some(range) => parse_range(range, n_bits)
                .ok_or_else(|| format!("{text}: syntax error expecting [] or [<bit>] or [<start>..<end>]"))?,
        };
        if start > end {
            return Err(format!("{text}: starting bit {start} is after ending bit {end}"));
        }
        for (what, bit) in [("starting", start), ("ending", end)] {
            if bit >= n_bits {
                return Err(format!(
                    "{text}: {what} bit {bit} is not valid because field is only {n_bits} bits wide"
                ));
            }
        }
        let bit = |v: i64| {
            u16::try_from(v).map_err(|_| format!("{text}: starting bit {start} is after ending bit {end}"))
        };
        Ok((Self { field, ofs: bit(start)?, n_bits: bit(end - start + 1)? }, rest))
    }

    /// Parses all of `text` as a subfield.
    ///
    /// # Errors
    /// OVS's words for what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Self::parse_prefix(text)? {
            (subfield, "") => Ok(subfield),
            _ => Err("unexpected input following field syntax".into()),
        }
    }

    /// The bits, in as many bytes as they need.
    pub fn get(&self, key: &Key) -> Value {
        let n = usize::from(self.n_bits);
        self.field.get(key).bits(usize::from(self.ofs), n, n.div_ceil(8))
    }

    /// The bits as an integer: the low 64 of them.
    pub fn get_u64(&self, key: &Key) -> u64 {
        match self.word_bits().and_then(|bits| Some(self.field.get_word(key)? & bits)) {
            Some(word) => word >> self.ofs,
            None => self.get(key).u64(),
        }
    }

    /// Overwrites the bits with the low bits of `value`.
    pub fn set_u64(&self, key: &mut Key, value: u64) {
        let in_word = self.word_bits().is_some_and(|bits| {
            self.field.put_word(key, value.checked_shl(self.ofs.into()).unwrap_or(0), bits)
        });
        if !in_word {
            self.set(key, &Value::from_u64(value, 8));
        }
    }

    /// Overwrites the bits with those of another subfield of the same width.
    pub fn copy_from(&self, key: &mut Key, src: &Self) {
        if src.n_bits <= 64 {
            self.set_u64(key, src.get_u64(key));
        } else {
            self.set(key, &src.get(key));
        }
    }

    /// The bits' places in an integer of the whole field, if that is no longer than 64 bits.
    fn word_bits(&self) -> Option<u64> {
        let end = u32::from(self.ofs) + u32::from(self.n_bits);
        let ones = u64::MAX.checked_shr(64_u32.checked_sub(u32::from(self.n_bits))?).unwrap_or(0);
        (end <= 64).then(|| ones.checked_shl(self.ofs.into()).unwrap_or(0))
    }

    /// Overwrites the bits with the low bits of `value`.
    pub fn set(&self, key: &mut Key, value: &Value) {
        let mut whole = self.field.get(key);
        whole.copy_bits(usize::from(self.ofs), value, 0, usize::from(self.n_bits));
        self.field.set(key, &whole);
    }

    /// Ones in the bits, as a value of the whole field.
    pub fn mask_value(&self) -> Value {
        let mut mask = Value::zero(self.field.n_bytes());
        mask.one_bits(usize::from(self.ofs), usize::from(self.n_bits));
        mask
    }

    /// Makes the bits significant.
    pub fn mask_bits(&self, mask: &mut Mask) {
        let in_word = self.word_bits().is_some_and(|bits| self.field.put_word(&mut mask.0, bits, bits));
        if !in_word {
            self.field.mask_bits(mask, &self.mask_value());
        }
    }
}

/// The inside of brackets after `[`: first and last bit, and what follows the `]`.
fn parse_range(text: &str, n_bits: i64) -> Option<(i64, i64, &str)> {
    let (inside, rest) = text.split_once(']')?;
    if inside.is_empty() {
        return Some((0, n_bits - 1, rest));
    }
    let number = |s: &str| s.trim_start().parse::<i32>().ok().map(i64::from);
    let (start, end) = match inside.split_once("..") {
        Some((start, end)) => (number(start)?, number(end)?),
        None => (number(inside)?, number(inside)?),
    };
    (start >= 0).then_some((start, end, rest))
}

impl fmt::Display for Subfield {
    /// With the NXM name if there is one: `NXM_NX_REG0[0..15]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.oxm(0).map_or(self.field.name(), |oxm| oxm.name))?;
        match self.n_bits {
            _ if self.is_whole() => f.write_str("[]"),
            1 => write!(f, "[{}]", self.ofs),
            // Of no bits, which a message can say, the last is before the first.
            _ => write!(f, "[{}..{}]", self.ofs, i32::from(self.ofs) + i32::from(self.n_bits) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_both_ways() {
        for (text, out) in [
            ("NXM_NX_REG0[0..15]", "NXM_NX_REG0[0..15]"),
            ("reg0[3]", "NXM_NX_REG0[3]"),
            ("reg0", "NXM_NX_REG0[]"),
            ("nw_src[]", "NXM_OF_IP_SRC[]"),
            ("OXM_OF_VLAN_VID[0..11]", "OXM_OF_VLAN_VID[]"),
            ("NXM_NX_REG1_W[]", "NXM_NX_REG1[]"),
        ] {
            assert_eq!(Subfield::parse(text).map(|s| s.to_string()).as_deref(), Ok(out));
        }
        let none = Subfield { field: Field::Reg0, ofs: 0, n_bits: 0 };
        assert_eq!(none.to_string(), "NXM_NX_REG0[0..-1]");
    }

    #[test]
    fn errors_are_in_ovs_words() {
        for (text, error) in [
            ("nosuch[]", "nosuch[]: unknown field `nosuch'"),
            ("reg0[", "reg0[: syntax error expecting [] or [<bit>] or [<start>..<end>]"),
            ("reg0[5..3]", "reg0[5..3]: starting bit 5 is after ending bit 3"),
            ("reg0[32]", "reg0[32]: starting bit 32 is not valid because field is only 32 bits wide"),
            ("reg0[3..32]", "reg0[3..32]: ending bit 32 is not valid because field is only 32 bits wide"),
            ("reg0[]x", "unexpected input following field syntax"),
        ] {
            assert_eq!(Subfield::parse(text), Err(error.into()));
        }
    }

    #[test]
    fn bits_of_a_key() {
        let mut key = Key::default();
        let sub = Subfield { field: Field::XReg0, ofs: 28, n_bits: 8 };
        sub.set(&mut key, &Value::from_u64(0xab, 1));
        assert_eq!((key.regs[0], key.regs[1]), (0xa, 0xb000_0000));
        assert_eq!(sub.get_u64(&key), 0xab);
    }

    /// By integers and by bytes it is the same, in every field.
    #[test]
    fn words_are_as_values() {
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            noise = noise.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            noise.rotate_left(31)
        };
        for field in Field::ALL.iter().copied().filter(|field| !field.is_tunnel()) {
            for round in 0..64 {
                let n_bits =
                    if round == 0 { field.n_bits() } else { (next() % u64::from(field.n_bits()) + 1) as u16 };
                let ofs = (next() % u64::from(field.n_bits() - n_bits + 1)) as u16;
                let sub = Subfield { field, ofs, n_bits };
                let mut key = Key::default();
                key.words_mut().iter_mut().for_each(|word| *word = next());
                let value = next();
                assert_eq!(sub.get_u64(&key), sub.get(&key).u64(), "{field} {ofs} {n_bits}");
                let (mut by_word, mut by_value) = (key, key);
                sub.set_u64(&mut by_word, value);
                sub.set(&mut by_value, &Value::from_u64(value, 8));
                assert!(by_word == by_value, "{field} {ofs} {n_bits}");
                let (mut by_word, mut by_value) = (Mask(key), Mask(key));
                sub.mask_bits(&mut by_word);
                field.mask_bits(&mut by_value, &sub.mask_value());
                assert!(by_word == by_value, "{field} {ofs} {n_bits}");
            }
        }
    }
}
