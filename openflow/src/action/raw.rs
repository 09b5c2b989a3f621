//! The wire forms of actions: one table of vendor, versions, number and size.
//!
//! An action that OpenFlow renumbered, or that has a Nicira form in some versions and a standard one in others, has a
//! row for each. Sizes are in bytes and multiples of 8; an `open` row may be longer than its least size.
//! Spec: OpenFlow 1.0 section 5.2.4 to OpenFlow 1.5 section 7.2.6; Nicira extensions of Open vSwitch; ONF extension 320.

use crate::error::OfError;
use crate::header::{NX_VENDOR, ONF_VENDOR};
use crate::version::Version;
use crate::wire::{Put, pad8, set_u16};

/// The type that says "vendor action".
const VENDOR_TYPE: u16 = 0xffff;
/// The longest action.
const MAX_LEN: u16 = 65528;

const OF: u32 = 0;
const NX: u32 = NX_VENDOR;
const ONF: u32 = ONF_VENDOR;

/// A wire form of an action.
#[derive(Debug)]
pub struct Row {
    pub raw: Raw,
    /// As log messages call it.
    pub name: &'static str,
    vendor: u32,
    first: Version,
    last: Version,
    kind: u16,
    /// The size, or the least size if `open`.
    pub min: u16,
    open: bool,
    /// Whether `set_field` has replaced it from OpenFlow 1.2 on.
    retired: bool,
}

macro_rules! raws {
    ($($raw:ident $name:literal [$($vendor:ident $first:ident $last:ident $kind:literal),+] $min:tt $shape:ident;)+) => {
        /// A wire form of an action, whatever its number in a version.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Raw {
            $($raw,)+
        }

        static ROWS: &[Row] = &[$($(Row {
            raw: Raw::$raw,
            name: $name,
            vendor: $vendor,
            first: Version::$first,
            last: Version::$last,
            kind: $kind,
            min: raws!(@min $vendor $min),
            open: raws!(@open $shape),
            retired: raws!(@retired $shape),
        },)+)+];
    };
    // A standard action with an integer argument of at most 4 bytes is 8 bytes long, its Nicira form 16.
    (@min NX 8) => { 16 };
    (@min $vendor:ident $min:tt) => { $min };
    (@open open) => { true };
    (@open $shape:ident) => { false };
    (@retired retired) => { true };
    (@retired $shape:ident) => { false };
}

raws! {
    Output10 "OFPAT_OUTPUT" [OF V10 V10 0] 8 fixed;
    Output11 "OFPAT_OUTPUT" [OF V11 V15 0] 16 fixed;
    SetVlanVid10 "OFPAT_SET_VLAN_VID" [OF V10 V10 1] 8 fixed;
    SetVlanPcp10 "OFPAT_SET_VLAN_PCP" [OF V10 V10 2] 8 fixed;
    SetVlanVid11 "OFPAT_SET_VLAN_VID" [OF V11 V15 1] 8 retired;
    SetVlanPcp11 "OFPAT_SET_VLAN_PCP" [OF V11 V15 2] 8 retired;
    PushVlan "OFPAT_PUSH_VLAN" [OF V11 V15 17] 8 fixed;
    StripVlan10 "OFPAT_STRIP_VLAN" [OF V10 V10 3] 8 fixed;
    PopVlan11 "OFPAT_POP_VLAN" [OF V11 V15 18] 8 fixed;
    SetDlSrc "OFPAT_SET_DL_SRC" [OF V10 V10 4, OF V11 V15 3] 16 retired;
    SetDlDst "OFPAT_SET_DL_DST" [OF V10 V10 5, OF V11 V15 4] 16 retired;
    SetNwSrc "OFPAT_SET_NW_SRC" [OF V10 V10 6, OF V11 V15 5] 8 retired;
    SetNwDst "OFPAT_SET_NW_DST" [OF V10 V10 7, OF V11 V15 6] 8 retired;
    SetNwTos "OFPAT_SET_NW_TOS" [OF V10 V10 8, OF V11 V15 7] 8 retired;
    SetNwEcn "OFPAT_SET_NW_ECN" [OF V11 V15 8] 8 retired;
    SetTpSrc "OFPAT_SET_TP_SRC" [OF V10 V10 9, OF V11 V15 9] 8 retired;
    SetTpDst "OFPAT_SET_TP_DST" [OF V10 V10 10, OF V11 V15 10] 8 retired;
    Enqueue "OFPAT_ENQUEUE" [OF V10 V10 11] 16 fixed;
    SetMplsLabel "OFPAT_SET_MPLS_LABEL" [NX V10 V10 30, OF V11 V15 13] 8 retired;
    SetMplsTc "OFPAT_SET_MPLS_TC" [NX V10 V10 31, OF V11 V15 14] 8 retired;
    SetMplsTtl "OFPAT_SET_MPLS_TTL" [NX V10 V10 25, OF V11 V15 15] 8 retired;
    DecMplsTtl "OFPAT_DEC_MPLS_TTL" [NX V10 V10 26, OF V11 V15 16] 8 fixed;
    PushMpls "OFPAT_PUSH_MPLS" [NX V10 V10 23, OF V11 V15 19] 8 fixed;
    PopMpls "OFPAT_POP_MPLS" [NX V10 V10 24, OF V11 V15 20] 8 fixed;
    SetQueue "OFPAT_SET_QUEUE" [NX V10 V10 4, OF V11 V15 21] 8 fixed;
    Group "OFPAT_GROUP" [NX V10 V10 40, OF V11 V15 22] 8 fixed;
    SetNwTtl "OFPAT_SET_NW_TTL" [OF V11 V15 23] 8 fixed;
    DecNwTtl "OFPAT_DEC_NW_TTL" [NX V10 V10 18, OF V11 V15 24] 8 fixed;
    DecTtlCntIds "NXAST_DEC_TTL_CNT_IDS" [NX V10 V15 21] 16 open;
    SetField12 "OFPAT_SET_FIELD" [OF V12 V14 25] 8 open;
    SetField15 "OFPAT_SET_FIELD" [OF V15 V15 25] 8 open;
    RegLoad "NXAST_REG_LOAD" [NX V10 V14 7] 24 fixed;
    RegLoad2 "NXAST_REG_LOAD2" [NX V10 V14 33] 16 open;
    CopyField15 "OFPAT_COPY_FIELD" [OF V15 V15 28] 16 open;
    CopyField13 "ONFACT_COPY_FIELD" [ONF V13 V14 3200] 24 open;
    RegMove "NXAST_REG_MOVE" [NX V10 V14 6] 16 open;
    Meter15 "OFPAT_METER" [OF V15 V15 29] 8 fixed;
    Resubmit "NXAST_RESUBMIT" [NX V10 V15 1] 16 fixed;
    ResubmitTable "NXAST_RESUBMIT_TABLE" [NX V10 V15 14] 16 fixed;
    ResubmitTableCt "NXAST_RESUBMIT_TABLE_CT" [NX V10 V15 44] 16 fixed;
    SetTunnel "NXAST_SET_TUNNEL" [NX V10 V15 2] 16 fixed;
    SetTunnel64 "NXAST_SET_TUNNEL64" [NX V10 V15 9] 24 fixed;
    PopQueue "NXAST_POP_QUEUE" [NX V10 V15 5] 16 fixed;
    Note "NXAST_NOTE" [NX V10 V15 8] 16 open;
    Multipath "NXAST_MULTIPATH" [NX V10 V15 10] 32 fixed;
    Bundle "NXAST_BUNDLE" [NX V10 V15 12] 32 open;
    BundleLoad "NXAST_BUNDLE_LOAD" [NX V10 V15 13] 32 open;
    OutputReg "NXAST_OUTPUT_REG" [NX V10 V15 15] 24 fixed;
    OutputReg2 "NXAST_OUTPUT_REG2" [NX V10 V15 32] 24 fixed;
    Learn "NXAST_LEARN" [NX V10 V15 16] 32 open;
    Learn2 "NXAST_LEARN2" [NX V10 V15 45] 40 open;
    Exit "NXAST_EXIT" [NX V10 V15 17] 16 fixed;
    FinTimeout "NXAST_FIN_TIMEOUT" [NX V10 V15 19] 16 fixed;
    Controller "NXAST_CONTROLLER" [NX V10 V15 20] 16 fixed;
    Controller2 "NXAST_CONTROLLER2" [NX V10 V15 37] 16 open;
    WriteMetadata "NXAST_WRITE_METADATA" [NX V10 V15 22] 32 fixed;
    StackPush "NXAST_STACK_PUSH" [NX V10 V15 27] 24 fixed;
    StackPop "NXAST_STACK_POP" [NX V10 V15 28] 24 fixed;
    Sample "NXAST_SAMPLE" [NX V10 V15 29] 24 fixed;
    Sample2 "NXAST_SAMPLE2" [NX V10 V15 38] 32 fixed;
    Sample3 "NXAST_SAMPLE3" [NX V10 V15 41] 32 fixed;
    Sample4 "NXAST_SAMPLE4" [NX V10 V15 51] 40 fixed;
    Conjunction "NXAST_CONJUNCTION" [NX V10 V15 34] 16 fixed;
    Ct "NXAST_CT" [NX V10 V15 35] 24 open;
    Nat "NXAST_NAT" [NX V10 V15 36] 16 open;
    OutputTrunc "NXAST_OUTPUT_TRUNC" [NX V10 V15 39] 16 fixed;
    Clone "NXAST_CLONE" [NX V10 V15 42] 16 open;
    CtClear "NXAST_CT_CLEAR" [NX V10 V15 43] 16 fixed;
    Encap "NXAST_ENCAP" [NX V13 V15 46] 16 open;
    Decap "NXAST_DECAP" [NX V13 V15 47] 16 open;
    DecNshTtl "NXAST_DEC_NSH_TTL" [NX V13 V15 48] 16 fixed;
    CheckPktLarger "NXAST_CHECK_PKT_LARGER" [NX V10 V15 49] 24 open;
    DeleteField "NXAST_DELETE_FIELD" [NX V10 V15 50] 24 fixed;
    DebugSlow "NXAST_DEBUG_SLOW" [NX V10 V15 254] 16 fixed;
    DebugRecirc "NXAST_DEBUG_RECIRC" [NX V10 V15 255] 16 fixed;
}

impl Row {
    fn holds(&self, version: Version) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

/// Finds the form of the action at the start of `bytes`, checks its length, and gives its bytes.
pub fn pull(bytes: &[u8], version: Version) -> Result<(&'static Row, &[u8]), OfError> {
    let row = identify(bytes, version)?;
    if row.retired && version >= Version::V12 {
        tracing::info!(
            target: "ofp_actions", rl = "1,5",
            "{} is deprecated in {} (use Set-Field)", row.name, version.name()
        );
    }
    let len = u16::from_be_bytes([bytes[2], bytes[3]]);
    let max = if row.open { MAX_LEN } else { row.min };
    if usize::from(len) > bytes.len() {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "OpenFlow action {} length {len} exceeds action buffer length {}", row.name, bytes.len()
        );
    } else if len < row.min || len > max {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "OpenFlow action {} length {len} not in valid range [{},{max}]", row.name, row.min
        );
    } else if !len.is_multiple_of(8) {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "OpenFlow action {} length {len} is not a multiple of 8", row.name
        );
    } else {
        return Ok((row, &bytes[..usize::from(len)]));
    }
    Err(OfError::BacBadLen)
}

fn identify(bytes: &[u8], version: Version) -> Result<&'static Row, OfError> {
    let &[t0, t1, _, _, v0, v1, v2, v3, ref rest @ ..] = bytes else { return Err(OfError::BacBadLen) };
    let mut kind = u16::from_be_bytes([t0, t1]);
    let mut vendor = OF;
    if kind == VENDOR_TYPE {
        vendor = u32::from_be_bytes([v0, v1, v2, v3]);
        if vendor != NX && vendor != ONF {
            tracing::warn!(
                target: "ofp_actions", rl = "1,5",
                "OpenFlow action has unknown vendor {}", crate::text::alt_hex(vendor.into())
            );
            return Err(OfError::BacBadVendor);
        }
        let &[s0, s1, _, _, _, _, _, _, ..] = rest else { return Err(OfError::BacBadLen) };
        kind = u16::from_be_bytes([s0, s1]);
    }
    let found = ROWS.iter().find(|row| row.vendor == vendor && row.kind == kind && row.holds(version));
    found.ok_or_else(|| {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "unknown {} action for vendor {} and type {kind}",
            version.name(), crate::text::alt_hex(vendor.into())
        );
        if vendor == OF { OfError::BacBadType } else { OfError::BacBadVendorType }
    })
}

/// An action being written; [`Building::end`] must be its last use.
#[must_use]
pub struct Building {
    start: usize,
}

impl Raw {
    fn row(self, version: Version) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.raw == self && row.holds(version))
    }

    /// Writes the header: type and length, for an extension vendor and subtype too (10 bytes), else 4 bytes.
    ///
    /// Nothing is written if the version lacks the form: callers choose forms by version.
    pub fn start(self, version: Version, out: &mut Vec<u8>) -> Building {
        let start = out.len();
        if let Some(row) = self.row(version) {
            if row.vendor == OF {
                out.u16(row.kind).u16(0);
            } else {
                out.u16(VENDOR_TYPE).u16(0).u32(row.vendor).u16(row.kind);
            }
        } else {
            debug_assert!(false, "{self:?} is written in {version}, which lacks it");
        }
        Building { start }
    }

    /// Writes an action without arguments.
    pub fn put(self, version: Version, out: &mut Vec<u8>) {
        let building = self.start(version, out);
        building.end(out);
    }

    /// Writes an action whose only argument is an integer of `width` bytes, which is aligned to its width.
    pub fn put_int(self, version: Version, value: u64, width: usize, out: &mut Vec<u8>) {
        let building = self.start(version, out);
        let pad = (out.len() - building.start).wrapping_neg() % width;
        out.zeros(pad).bytes(&value.to_be_bytes()[8 - width..]);
        building.end(out);
    }
}

impl Row {
    /// The integer argument of `width` bytes of an action that has only one.
    pub fn int(&self, action: &[u8], width: usize) -> u64 {
        let header: usize = if self.vendor == OF { 4 } else { 10 };
        let at = header.next_multiple_of(width);
        action[at..at + width].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
    }
}

impl Building {
    /// Pads the action to a multiple of 8 bytes and sets its length.
    pub fn end(self, out: &mut Vec<u8>) {
        if out.len() > self.start {
            pad8(out, self.start);
            let len = u16::try_from(out.len() - self.start).unwrap_or(MAX_LEN);
            set_u16(out, self.start + 2, len);
        }
    }

    /// Like [`Building::end`], of at least `min` bytes.
    pub fn end_at_least(self, min: usize, out: &mut Vec<u8>) {
        let missing = min.saturating_sub(out.len() - self.start);
        out.zeros(missing);
        self.end(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_in_a_version() {
        for version in Version::ALL {
            for (i, a) in ROWS.iter().enumerate().filter(|(_, row)| row.holds(version)) {
                for b in ROWS[i + 1..].iter().filter(|row| row.holds(version)) {
                    assert!((a.vendor, a.kind) != (b.vendor, b.kind), "{} and {}", a.name, b.name);
                }
            }
        }
    }

    #[test]
    fn integers_are_aligned_to_their_width() {
        for (raw, version, width, bytes) in [
            (Raw::SetQueue, Version::V13, 4, "0015000889abcd01"),
            (Raw::SetQueue, Version::V10, 4, "ffff0010000023200004000089abcd01"),
            (Raw::SetTunnel64, Version::V10, 8, "ffff0018000023200009000000000000"),
            (Raw::SetNwTos, Version::V10, 1, "0008000801000000"),
        ] {
            let mut out = Vec::new();
            raw.put_int(version, 0x89ab_cd01, width, &mut out);
            assert!(crate::text::hex(&out, "").starts_with(bytes), "{}", crate::text::hex(&out, ""));
            let (row, action) = pull(&out, version).expect("it was just written");
            assert_eq!((row.raw, action.len()), (raw, out.len()));
            let mask = if width == 8 { u64::MAX } else { (1 << (8 * width)) - 1 };
            assert_eq!(row.int(action, width), 0x89ab_cd01 & mask);
        }
    }

    #[test]
    fn bad_headers_are_refused() {
        for (hex, error) in [
            ("0000", OfError::BacBadLen),
            ("000000f000000000", OfError::BacBadLen),
            ("0000001000000000 0000000000000000", OfError::BacBadLen),
            ("ffff001000000001 0000000000000000", OfError::BacBadVendor),
            ("ffff001000002320 fff0000000000000", OfError::BacBadVendorType),
            ("00ff000800000000", OfError::BacBadType),
        ] {
            let bytes = crate::text::parse_hex(hex).expect("digits");
            assert_eq!(pull(&bytes, Version::V10).map(|_| ()), Err(error), "{hex}");
        }
    }
}
