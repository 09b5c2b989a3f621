//! Identifiers, each its own type, so that the four port numberings and the rest cannot be mixed up.
//!
//! Nothing here converts silently: crossing from one numbering to another is a look-up somewhere, never a cast.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$int> for $name {
            fn from(raw: $int) -> Self {
                Self(raw)
            }
        }
    };
}

id! {
    /// An OpenFlow port number, in OpenFlow 1.0's 16-bit space as OVS keeps it (`OFPP_*`, OpenFlow 1.0 section 5.2.1).
    OfPort(u16)
}
id! {
    /// A datapath port number (`odp_port_t`): 0 to 65534 in practice, `u32::MAX` for none.
    DpPort(u32)
}
id! {
    /// A Linux interface index; 0 for none.
    Ifindex(u32)
}
id! {
    /// An OpenFlow table, 0 to 254; 255 means all tables or none.
    TableId(u8)
}
id! {
    /// A connection-tracking zone.
    Zone(u16)
}
id! {
    /// A recirculation id; 0 means that the packet was not recirculated.
    RecircId(u32)
}
id! {
    /// A meter as the datapath numbers it.
    DpMeter(u32)
}
id! {
    /// A group, OpenFlow numbering: 0 to 0xffffff00, then the reserved ones.
    GroupId(u32)
}

impl OfPort {
    /// No port. Not a wire value.
    pub const UNSET: Self = Self(0xfff7);
    /// The first reserved port number; numbers below it are physical or virtual ports.
    pub const MAX: Self = Self(0xff00);
    /// Send the packet out the input port.
    pub const IN_PORT: Self = Self(0xfff8);
    /// Submit the packet to the first flow table (packet-out only).
    pub const TABLE: Self = Self(0xfff9);
    /// Process with normal L2 switching.
    pub const NORMAL: Self = Self(0xfffa);
    /// All ports except the input port and those with `no_flood`.
    pub const FLOOD: Self = Self(0xfffb);
    /// All ports except the input port.
    pub const ALL: Self = Self(0xfffc);
    /// Send to the controllers.
    pub const CONTROLLER: Self = Self(0xfffd);
    /// The bridge's own port.
    pub const LOCAL: Self = Self(0xfffe);
    /// Wildcard in requests; "no port" elsewhere.
    pub const NONE: Self = Self(0xffff);
}

impl DpPort {
    /// No port (`ODPP_NONE`).
    pub const NONE: Self = Self(u32::MAX);
    /// The datapath's own port, numbered 0 and named as the datapath.
    pub const LOCAL: Self = Self(0);
}

/// A flow's 128-bit unique identifier (`OVS_FLOW_ATTR_UFID`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ufid(pub [u8; 16]);

impl fmt::Display for Ufid {
    /// As UUIDs are written: 8-4-4-4-12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ufid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ufid:{self}")
    }
}
