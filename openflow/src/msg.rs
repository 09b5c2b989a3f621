//! OpenFlow messages: each has a version-independent form, its wire format in every version, and its text.
//!
//! A message's `decode` takes the whole message, header included; `encode` makes a whole message; `text` appends
//! what `ovs-ofctl ofp-print` shows after the header line's colon.

pub mod hello;
pub mod switch;
pub mod port;
pub mod port_stats;
pub mod queue;
pub mod meter;
pub mod role;
pub mod async_config;
pub mod nicira;
pub mod tlv;
pub mod ct_flush;
pub mod ipfix;
pub mod table;
pub mod table_features;
mod oxs;
pub mod flow_mod;
pub mod flow_stats;
pub mod flow_removed;
pub mod monitor;
pub mod group;
pub mod packet_in;
pub mod packet_out;
pub mod bundle;
pub mod request_forward;

use crate::error::OfError;
use crate::header::{Header, Raw};
use crate::names::{port_from_wire32, port_to_wire32};
use crate::version::Version;
use crate::wire::{Put, Reader};
use flow::id::OfPort;

/// Appends formatted text to a string, which cannot fail.
macro_rules! w {
    ($out:expr, $($arg:tt)*) => {
        let _ = ::std::fmt::Write::write_fmt($out, format_args!($($arg)*));
    };
}
pub(crate) use w;

/// Seconds and nanoseconds since something was made, as messages carry them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Age {
    pub sec: u32,
    pub nsec: u32,
}

impl Age {
    /// Not known: all ones on the wire.
    pub const UNKNOWN: Self = Self { sec: u32::MAX, nsec: u32::MAX };

    /// The age of `duration`; past 136 years it stays there.
    pub fn new(duration: std::time::Duration) -> Self {
        Self { sec: u32::try_from(duration.as_secs()).unwrap_or(u32::MAX), nsec: duration.subsec_nanos() }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        Ok(Self { sec: reader.u32()?, nsec: reader.u32()? })
    }

    fn put(self, msg: &mut Vec<u8>) {
        msg.u32(self.sec).u32(self.nsec);
    }
}

impl std::fmt::Display for Age {
    /// `4.200s`: no decimals for whole seconds, three for whole milliseconds, else as many as are needed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sec, nsec } = *self;
        if nsec == 0 {
            write!(f, "{sec}s")
        } else if nsec.is_multiple_of(1_000_000) {
            write!(f, "{sec}.{:03}s", nsec / 1_000_000)
        } else {
            write!(f, "{sec}.{}s", format!("{nsec:09}").trim_end_matches('0'))
        }
    }
}

/// A counter that all ones say is unknown: printed `?`.
#[derive(Clone, Copy)]
struct Count(u64);

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("?"),
            known => write!(f, "{known}"),
        }
    }
}

/// Appends the names of the set bits of `bits`, and in hexadecimal those without a name; `0` if none is set.
pub(crate) fn bit_names(out: &mut String, bits: u32, names: &[(u32, &str)], separator: char) {
    if bits == 0 {
        out.push('0');
        return;
    }
    let mut rest = bits;
    let mut first = true;
    for bit in (0..32).map(|n| 1 << n).filter(|bit| bits & bit != 0) {
        let Some((_, name)) = names.iter().find(|(named, _)| *named == bit) else { continue };
        if !std::mem::take(&mut first) {
            out.push(separator);
        }
        out.push_str(name);
        rest &= !bit;
    }
    if rest != 0 {
        if !first {
            out.push(separator);
        }
        w!(out, "0x{rest:x}");
    }
}

/// Bits of action types in features replies, with their names in OVS's order: OpenFlow 1.1's, and since which version
/// and until which one a bit has that meaning.
const ACTION_BITS: [(u32, &str, Version, Version); 31] = [
    (0, "output", Version::V10, Version::V15),
    (22, "group", Version::V11, Version::V15),
    (11, "enqueue", Version::V10, Version::V10),
    (25, "set_field", Version::V12, Version::V15),
    (1, "set_vlan_vid", Version::V10, Version::V11),
    (2, "set_vlan_pcp", Version::V10, Version::V11),
    (3, "strip_vlan", Version::V10, Version::V10),
    (18, "strip_vlan", Version::V11, Version::V15),
    (17, "push_vlan", Version::V11, Version::V15),
    (4, "mod_dl_src", Version::V10, Version::V10),
    (3, "mod_dl_src", Version::V11, Version::V11),
    (5, "mod_dl_dst", Version::V10, Version::V10),
    (4, "mod_dl_dst", Version::V11, Version::V11),
    (6, "mod_nw_src", Version::V10, Version::V10),
    (5, "mod_nw_src", Version::V11, Version::V11),
    (7, "mod_nw_dst", Version::V10, Version::V10),
    (6, "mod_nw_dst", Version::V11, Version::V11),
    (8, "mod_nw_tos", Version::V10, Version::V10),
    (7, "mod_nw_tos", Version::V11, Version::V11),
    (8, "mod_nw_ecn", Version::V11, Version::V11),
    (23, "mod_nw_ttl", Version::V11, Version::V15),
    (9, "mod_tp_src", Version::V10, Version::V10),
    (9, "mod_tp_src", Version::V11, Version::V11),
    (10, "mod_tp_dst", Version::V10, Version::V10),
    (10, "mod_tp_dst", Version::V11, Version::V11),
    (24, "dec_ttl", Version::V11, Version::V15),
    (15, "set_mpls_ttl", Version::V11, Version::V15),
    (16, "dec_mpls_ttl", Version::V11, Version::V15),
    (19, "push_mpls", Version::V11, Version::V15),
    (20, "pop_mpls", Version::V11, Version::V15),
    (21, "set_queue", Version::V11, Version::V15),
];

/// The set of rows of [`ACTION_BITS`] (bit N: row N) that a version's bitmap of action types means.
pub(crate) fn actions_from_bits(bits: u32, version: Version) -> u32 {
    let rows = ACTION_BITS.iter().enumerate();
    let known = rows
        .filter(|(_, (bit, _, first, last))| bits & (1 << bit) != 0 && (*first..=*last).contains(&version));
    known.fold(0, |set, (row, _)| set | 1 << row)
}

/// The version's bitmap of action types for a set of rows.
pub(crate) fn actions_to_bits(set: u32, version: Version) -> u32 {
    let rows = ACTION_BITS.iter().enumerate();
    let known = rows
        .filter(|(row, (_, _, first, last))| set & (1 << row) != 0 && (*first..=*last).contains(&version));
    known.fold(0, |bits, (_, (bit, ..))| bits | 1 << bit)
}

/// Every row: what our switch's tables can do.
pub fn all_actions() -> u32 {
    (1 << ACTION_BITS.len()) - 1
}

/// The bitmap of every action type that the version has.
pub fn all_action_bits(version: Version) -> u32 {
    actions_to_bits(all_actions(), version)
}

/// The names of a set of rows, or `(none)`.
pub(crate) fn action_row_names(set: u32) -> String {
    let rows = ACTION_BITS.iter().enumerate().filter(|(row, _)| set & (1 << row) != 0);
    let names: Vec<_> = rows.map(|(_, (_, name, ..))| *name).collect();
    if names.is_empty() { "(none)".to_owned() } else { names.join(" ") }
}

/// The names of the action types in a version's bitmap, or `(none)`.
pub(crate) fn action_names(bits: u32, version: Version) -> String {
    action_row_names(actions_from_bits(bits, version))
}

/// Reads a port number as OpenFlow 1.1 and later have it.
pub(crate) fn read_port32(reader: &mut Reader<'_>) -> Result<OfPort, OfError> {
    let number = reader.u32()?;
    port_from_wire32(number).ok_or_else(|| {
        tracing::warn!(
            target: "ofp_port",
            "port {number} is outside the supported range 0 through 65279 or 0xffffff00 through 0xffffffff"
        );
        OfError::BrcBadPort
    })
}

/// Appends a port number as OpenFlow 1.1 and later have it.
pub(crate) fn put_port32(msg: &mut Vec<u8>, port: OfPort) {
    msg.u32(port_to_wire32(port));
}

/// The headers and body of a message that must be of one of the formats `raws`.
fn open<'a>(msg: &'a [u8], raws: &[Raw]) -> Result<(Header, Version, Reader<'a>), OfError> {
    let (header, body) = Header::parse(msg)?;
    if raws.contains(&header.raw) { Ok((header, header.version()?, body)) } else { Err(OfError::BrcBadType) }
}

/// Appends bytes as OVS dumps them: 16 a line, with offsets, and with the printable ASCII if `ascii`.
pub fn hex_dump(out: &mut String, bytes: &[u8], ascii: bool) {
    for (line, chunk) in bytes.chunks(16).enumerate() {
        w!(out, "{:08x} ", line * 16);
        for (column, byte) in chunk.iter().enumerate() {
            w!(out, "{}{byte:02x}", if column == 8 { '-' } else { ' ' });
        }
        if chunk.len() == 8 {
            out.push('-');
        } else if ascii {
            out.push(' ');
        }
        if ascii {
            let shown: String = chunk
                .iter()
                .map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' })
                .collect();
            w!(out, "{:1$}|{shown:<16}|", "", (16 - chunk.len()) * 3);
        }
        out.push('\n');
    }
}
