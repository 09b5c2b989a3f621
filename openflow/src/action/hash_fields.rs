//! Which parts of a flow `bundle` and `multipath` hash.

/// Parts of a flow to hash, numbered as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum HashFields {
    EthSrc = 0,
    SymmetricL4 = 1,
    SymmetricL3L4 = 2,
    SymmetricL3L4Udp = 3,
    NwSrc = 4,
    NwDst = 5,
    SymmetricL3 = 6,
}

const NAMES: [(HashFields, &str); 7] = [
    (HashFields::EthSrc, "eth_src"),
    (HashFields::SymmetricL4, "symmetric_l4"),
    (HashFields::SymmetricL3L4, "symmetric_l3l4"),
    (HashFields::SymmetricL3L4Udp, "symmetric_l3l4+udp"),
    (HashFields::NwSrc, "nw_src"),
    (HashFields::NwDst, "nw_dst"),
    (HashFields::SymmetricL3, "symmetric_l3"),
];

impl HashFields {
    /// The parts of a wire number.
    pub fn from_wire(wire: u16) -> Option<Self> {
        NAMES.get(usize::from(wire)).map(|(fields, _)| *fields)
    }

    /// The parts of a name, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(fields, _)| *fields)
    }

    /// The name in text.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }
}
