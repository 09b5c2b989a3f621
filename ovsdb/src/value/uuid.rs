//! UUIDs and their text.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

/// A UUID, ordered by its bytes. Its alignment is that of a pointer, for it lies in atoms beside pointers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(Rust, packed(8))]
pub struct Uuid(pub u128);

/// The text of the bytes in the order of the text: where in it each byte's two digits stand.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl Uuid {
    /// All bits zero: what an empty uuid column holds.
    pub const ZERO: Self = Self(0);

    /// A version 4 UUID from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(bytes);
        Self(bits & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48))
    }

    /// The first 32 bits, which is what people's abbreviations show.
    pub fn prefix(self) -> u32 {
        u32::try_from(self.0 >> 96).expect("96 of 128 bits are shifted out")
    }

    /// True for [`Uuid::ZERO`].
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The name that a row inserted under this UUID gets in a transaction: `row` and the UUID with underscores.
    pub fn row_name(self) -> String {
        format!("row{self}").replace('-', "_")
    }

    /// `["uuid", "…"]`.
    pub fn to_json(self) -> Value {
        json!(["uuid", self.to_string()])
    }

    /// Appends its text.
    pub fn write(self, out: &mut String) {
        let mut text = [b'-'; 36];
        for (byte, at) in self.0.to_be_bytes().into_iter().zip(PLACES) {
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
        }
        out.push_str(std::str::from_utf8(&text).expect("digits and dashes are ASCII"));
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(36);
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a UUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a UUID")]
pub struct BadUuid;

fn digit(byte: u8) -> Result<u8, BadUuid> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(BadUuid),
    }
}

impl FromStr for Uuid {
    type Err = BadUuid;

    fn from_str(s: &str) -> Result<Self, BadUuid> {
        let text: &[u8; 36] = s.as_bytes().try_into().map_err(|_| BadUuid)?;
        if [text[8], text[13], text[18], text[23]] != [b'-'; 4] {
            return Err(BadUuid);
        }
        let mut bytes = [0; 16];
        for (byte, at) in bytes.iter_mut().zip(PLACES) {
            *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        }
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}
