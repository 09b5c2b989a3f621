//! OpenFlow protocol versions, as the `version` byte of a message header numbers them.

use std::fmt;

/// An OpenFlow version. Ordered: later versions are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Version {
    V10 = 1,
    V11 = 2,
    V12 = 3,
    V13 = 4,
    V14 = 5,
    V15 = 6,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 6] = [Self::V10, Self::V11, Self::V12, Self::V13, Self::V14, Self::V15];

    /// The version that a header's `version` byte names.
    pub fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// The header's `version` byte, 1 to 6.
    pub const fn wire(self) -> u8 {
        self as u8
    }

    /// `OpenFlow10` to `OpenFlow15`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V10 => "OpenFlow10",
            Self::V11 => "OpenFlow11",
            Self::V12 => "OpenFlow12",
            Self::V13 => "OpenFlow13",
            Self::V14 => "OpenFlow14",
            Self::V15 => "OpenFlow15",
        }
    }

    /// The version of that name, in either of its two spellings (`OpenFlow13`, `OpenFlow1.3`), whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| {
            let dotted = format!("OpenFlow1.{}", version.wire() - 1);
            version.name().eq_ignore_ascii_case(name) || dotted.eq_ignore_ascii_case(name)
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn names_and_wire_numbers_go_both_ways() {
        for version in Version::ALL {
            assert_eq!(Version::from_wire(version.wire()), Some(version));
            assert_eq!(Version::from_name(version.name()), Some(version));
        }
        assert_eq!(Version::from_name("openflow1.3"), Some(Version::V13));
        assert_eq!(Version::from_wire(0), None);
        assert_eq!(Version::from_wire(7), None);
    }
}
