//! The text of a string atom.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// The longest text that is held in place.
const SHORT: usize = 22;

/// Immutable text, held in place if it is short, else shared.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    /// So many of the bytes; the others are zero.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

const _: () = assert!(size_of::<Text>() == 24);

impl Text {
    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Short(len, bytes) => &bytes[..usize::from(*len)],
            Repr::Long(text) => text.as_bytes(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Short(..) => std::str::from_utf8(self.as_bytes()).expect("it was made from a str"),
            Repr::Long(text) => text,
        }
    }
}

impl Default for Text {
    fn default() -> Self {
        Self(Repr::Short(0, [0; SHORT]))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text.len() > SHORT {
            return Self(Repr::Long(text.into()));
        }
        let mut bytes = [0; SHORT];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(Repr::Short(u8::try_from(text.len()).expect("no more than 22"), bytes))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By bytes, which is what `str` does too.
impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Long(a), Repr::Long(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_texts_are_texts() {
        let longest = "e".repeat(SHORT);
        for text in ["", "a", "é", &longest, &format!("{longest}f"), &"x".repeat(1000)] {
            let held = Text::from(text);
            assert_eq!(&*held, text);
            assert_eq!(held, held.clone());
            assert_eq!(held.to_string(), text);
        }
        assert!(Text::from(&*longest) < Text::from(&*format!("{longest}\0")));
        assert!(Text::from("b") > Text::from(&*"a".repeat(40)));
    }
}
