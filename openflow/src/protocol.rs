//! Flow formats: an OpenFlow version together with the way that matches and tables are told in flow messages.
//!
//! OpenFlow 1.0 has four (`ofp10_match` or NXM, each with or without the Nicira `flow_mod_table_id` extension), each
//! later version has one. Text and actions narrow down the set of formats that can express a flow.

use std::fmt;

use flow::field::{Field, Usable, Value};

use crate::version::Version;

bitflags::bitflags! {
    /// A set of flow formats.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Protocols: u16 {
        const OF10_STD = 1 << 0;
        const OF10_STD_TID = 1 << 1;
        const OF10_NXM = 1 << 2;
        const OF10_NXM_TID = 1 << 3;
        const OF11_STD = 1 << 4;
        const OF12_OXM = 1 << 5;
        const OF13_OXM = 1 << 6;
        const OF14_OXM = 1 << 7;
        const OF15_OXM = 1 << 8;

        const OF10_STD_ANY = Self::OF10_STD.bits() | Self::OF10_STD_TID.bits();
        const OF10_NXM_ANY = Self::OF10_NXM.bits() | Self::OF10_NXM_TID.bits();
        const OF10_ANY = Self::OF10_STD_ANY.bits() | Self::OF10_NXM_ANY.bits();
        const OF15_UP = Self::OF15_OXM.bits();
        const OF14_UP = Self::OF14_OXM.bits() | Self::OF15_UP.bits();
        const OF13_UP = Self::OF13_OXM.bits() | Self::OF14_UP.bits();
        const OF12_UP = Self::OF12_OXM.bits() | Self::OF13_UP.bits();
        const OF11_UP = Self::OF11_STD.bits() | Self::OF12_UP.bits();
        /// Every format with OpenFlow extensible matches.
        const OXM_ANY = Self::OF12_UP.bits();
        const NXM_OXM_ANY = Self::OF10_NXM_ANY.bits() | Self::OXM_ANY.bits();
        const NXM_OF11_UP = Self::OF10_NXM_ANY.bits() | Self::OF11_UP.bits();
        /// Formats whose flow mods name a table.
        const TID = Self::OF10_STD_TID.bits() | Self::OF10_NXM_TID.bits() | Self::OF11_UP.bits();
        const ANY = (1 << 9) - 1;
    }
}

/// Names of sets, tried before the names of single formats when printing.
const ABBREVIATIONS: [(Protocols, &str); 4] = [
    (Protocols::ANY, "any"),
    (Protocols::OF10_STD_ANY, "OpenFlow10"),
    (Protocols::OF10_NXM_ANY, "NXM"),
    (Protocols::OXM_ANY, "OXM"),
];

/// Names of single formats, by bit.
const SINGLES: [(Protocols, &str); 9] = [
    (Protocols::OF10_STD, "OpenFlow10-table_id"),
    (Protocols::OF10_STD_TID, "OpenFlow10+table_id"),
    (Protocols::OF10_NXM, "NXM-table_id"),
    (Protocols::OF10_NXM_TID, "NXM+table_id"),
    (Protocols::OF11_STD, "OpenFlow11"),
    (Protocols::OF12_OXM, "OXM-OpenFlow12"),
    (Protocols::OF13_OXM, "OXM-OpenFlow13"),
    (Protocols::OF14_OXM, "OXM-OpenFlow14"),
    (Protocols::OF15_OXM, "OXM-OpenFlow15"),
];

impl Protocols {
    /// The formats to dump flows with, the most expressive first.
    pub const DUMP: [Self; 7] = [
        Self::OF15_OXM,
        Self::OF14_OXM,
        Self::OF13_OXM,
        Self::OF12_OXM,
        Self::OF11_STD,
        Self::OF10_NXM,
        Self::OF10_STD,
    ];

    /// Every format, one by one.
    pub const SINGLE: [Self; 9] = [
        Self::OF10_STD,
        Self::OF10_STD_TID,
        Self::OF10_NXM,
        Self::OF10_NXM_TID,
        Self::OF11_STD,
        Self::OF12_OXM,
        Self::OF13_OXM,
        Self::OF14_OXM,
        Self::OF15_OXM,
    ];

    /// The formats of one version.
    pub const fn of_version(version: Version) -> Self {
        match version {
            Version::V10 => Self::OF10_ANY,
            Version::V11 => Self::OF11_STD,
            Version::V12 => Self::OF12_OXM,
            Version::V13 => Self::OF13_OXM,
            Version::V14 => Self::OF14_OXM,
            Version::V15 => Self::OF15_OXM,
        }
    }

    /// The format in effect when a connection begins.
    pub fn initial(version: Version) -> Self {
        Self::of_version(version).lowest()
    }

    /// The first format of the set, or the empty set.
    pub fn lowest(self) -> Self {
        self.iter_names_of_singles().next().map_or(Self::empty(), |(single, _)| single)
    }

    /// The version of a set with one format (of the lowest format otherwise); `None` for the empty set.
    pub fn version(self) -> Option<Version> {
        Version::ALL.into_iter().find(|&version| self.lowest().intersects(Self::of_version(version)))
    }

    /// The versions that have a format in the set.
    pub fn versions(self) -> impl Iterator<Item = Version> {
        Version::ALL.into_iter().filter(move |&version| self.intersects(Self::of_version(version)))
    }

    /// Whether this is one format.
    pub fn is_single(self) -> bool {
        self.bits().count_ones() == 1
    }

    /// This format with the `flow_mod_table_id` extension on or off; unchanged where there is no such choice.
    #[must_use]
    pub fn with_table_id(self, enable: bool) -> Self {
        match (self, enable) {
            (Self::OF10_STD | Self::OF10_STD_TID, true) => Self::OF10_STD_TID,
            (Self::OF10_STD | Self::OF10_STD_TID, false) => Self::OF10_STD,
            (Self::OF10_NXM | Self::OF10_NXM_TID, true) => Self::OF10_NXM_TID,
            (Self::OF10_NXM | Self::OF10_NXM_TID, false) => Self::OF10_NXM,
            (other, _) => other,
        }
    }

    /// The format without extensions.
    #[must_use]
    pub fn base(self) -> Self {
        self.with_table_id(false)
    }

    /// `base` with this format's extensions.
    #[must_use]
    pub fn with_base(self, base: Self) -> Self {
        base.with_table_id(self.intersects(Self::TID))
    }

    /// The name, if the set is one format or has an abbreviation.
    pub fn name(self) -> Option<&'static str> {
        SINGLES.iter().chain(&ABBREVIATIONS).find(|(set, _)| *set == self).map(|(_, name)| *name)
    }

    /// The set that one name (a format's or an abbreviation, whatever the case) stands for.
    pub fn from_one_name(name: &str) -> Option<Self> {
        let named = |(_, row): &&(Self, &str)| row.eq_ignore_ascii_case(name);
        SINGLES.iter().chain(&ABBREVIATIONS).find(named).map(|(set, _)| *set)
    }

    /// The set that a comma-separated list of names stands for.
    ///
    /// # Errors
    /// What `ovs-ofctl` says of an unknown name or of an empty list.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut set = Self::empty();
        for name in list.split(',').filter(|name| !name.is_empty()) {
            set |= Self::from_one_name(name).ok_or_else(|| format!("{name}: unknown flow protocol"))?;
        }
        if set.is_empty() {
            return Err(format!("{list}: no flow protocol specified"));
        }
        Ok(set)
    }

    fn iter_names_of_singles(self) -> impl Iterator<Item = (Self, &'static str)> {
        SINGLES.into_iter().filter(move |(single, _)| self.contains(*single))
    }
}

impl fmt::Display for Protocols {
    /// A comma-separated list with abbreviations where they fit, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut rest = *self;
        let mut separator = "";
        while !rest.is_empty() {
            let fits = |(set, _): &&(Self, &str)| rest.contains(*set);
            let Some((set, name)) = ABBREVIATIONS.iter().chain(&SINGLES).find(fits) else { break };
            write!(f, "{separator}{name}")?;
            rest -= *set;
            separator = ",";
        }
        Ok(())
    }
}

impl From<Usable> for Protocols {
    fn from(usable: Usable) -> Self {
        match usable {
            Usable::Never => Self::empty(),
            Usable::NxmOxm => Self::NXM_OXM_ANY,
            Usable::NxmOf11 => Self::NXM_OF11_UP,
            Usable::Any => Self::ANY,
        }
    }
}

/// The formats that can match on all of a field.
pub fn usable_exact(field: Field) -> Protocols {
    field.info().usable[0].into()
}

/// The formats that can match on a field under this mask.
pub fn usable_with_mask(field: Field, mask: &Value) -> Protocols {
    let [exact, cidr, bitwise] = field.info().usable;
    let ones = mask.bytes().iter().map(|byte| byte.count_ones()).sum::<u32>();
    let leading = mask.bytes().iter().take_while(|&&byte| byte == 0xff).count();
    let partial = mask.bytes().get(leading).map_or(0, |byte| byte.leading_ones());
    let prefix = leading as u32 * 8 + partial;
    match mask {
        mask if mask.is_ones() => exact.into(),
        // That an option is there can be asked for without asking for its value.
        mask if mask.is_zero() && !field.is_tun_metadata() => Protocols::ANY,
        _ if matches!(mask.len(), 4 | 16) && ones == prefix => cidr.into(),
        _ => bitwise.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_print_with_the_fewest_names() {
        for (set, text) in [
            (Protocols::ANY, "any"),
            (Protocols::empty(), "none"),
            (Protocols::NXM_OXM_ANY, "NXM,OXM"),
            (Protocols::OF10_ANY, "OpenFlow10,NXM"),
            (Protocols::OF10_STD | Protocols::OF13_OXM, "OpenFlow10-table_id,OXM-OpenFlow13"),
            (Protocols::NXM_OF11_UP, "NXM,OXM,OpenFlow11"),
        ] {
            assert_eq!(set.to_string(), text);
        }
    }

    #[test]
    fn lists_of_names_parse() {
        assert_eq!(Protocols::parse("nxm,OXM"), Ok(Protocols::NXM_OXM_ANY));
        assert_eq!(Protocols::parse("x"), Err("x: unknown flow protocol".to_owned()));
        assert_eq!(Protocols::parse(","), Err(",: no flow protocol specified".to_owned()));
    }

    #[test]
    fn formats_know_their_version_and_extension() {
        assert_eq!(Protocols::initial(Version::V10), Protocols::OF10_STD);
        assert_eq!(Protocols::OF10_NXM.with_table_id(true).base(), Protocols::OF10_NXM);
        assert_eq!(Protocols::OF14_OXM.version(), Some(Version::V14));
        assert_eq!(Protocols::OF10_STD_TID.with_base(Protocols::OF10_NXM), Protocols::OF10_NXM_TID);
    }
}
