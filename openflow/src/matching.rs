//! The wire forms of matches: OpenFlow 1.0's and 1.1's fixed structures, and the entry lists of NXM and OXM.
//!
//! Spec: OpenFlow 1.0 section 5.2.3, 1.1 section A.2.3, 1.5 section 7.2.3; `nx_match` of `nicira-ext.h`.

mod fixed;
mod list;

pub use fixed::{WILDCARDS10, put10, put11_standard, read10, text10};
pub use list::{nxm_text, put_nxm, put_oxm, put_raw, read_nxm, read_oxm_pipeline, read_raw_oxm};

use crate::action::Decode;
use crate::error::OfError;
use crate::names::Names;
use crate::version::Version;
use crate::wire::Reader;
use flow::key::Mask;
use flow::mini::FullMatch;
use flow::proto::{self, ethertype, icmp6, ip};

/// Type of OpenFlow 1.1's structure, and of an OXM list, in a match's header.
const OFPMT_STANDARD: u16 = 0;
const OFPMT_OXM: u16 = 1;

/// Reads a match as OpenFlow 1.1 and later have it, with header and padding.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn read11(reader: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<FullMatch, OfError> {
    let mut head = *reader;
    let (Ok(kind), Ok(len)) = (head.u16(), head.u16()) else { return Err(OfError::BmcBadLen) };
    match kind {
        OFPMT_STANDARD => fixed::read11_standard(reader, len.into()),
        OFPMT_OXM => list::read_oxm(reader, true, false, cx),
        _ => Err(OfError::BmcBadType),
    }
}

/// Like [`read11`], for a list that may have fields unknown to us: they are passed over.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn read11_loose(reader: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<FullMatch, OfError> {
    list::read_oxm(reader, false, false, cx)
}

/// Appends a match as `version` (1.1 or later) has it in flow-mods, with header and padding.
pub fn put11(full: &FullMatch, version: Version, out: &mut Vec<u8>) {
    if version == Version::V11 { put11_standard(full, out) } else { put_oxm(full, version, out) }
}

/// The match as text, with its priority unless that is the default.
pub fn text(full: &FullMatch, priority: i32, names: &Names) -> String {
    flow::describe::match_to_string(full, u16::try_from(priority).ok(), names)
}

/// Makes the match require an Ethernet packet, unless it requires a packet type already.
pub(crate) fn require_ethernet(full: &mut FullMatch) {
    if full.mask.0.packet_type.get() == 0 {
        full.key.packet_type = proto::PT_ETH.into();
        full.mask.0.packet_type = u32::MAX.into();
    }
}

/// Whether the match requires an Ethernet packet.
pub(crate) fn requires_ethernet(full: &FullMatch) -> bool {
    full.mask.0.packet_type.get() == u32::MAX && full.key.packet_type.get() == proto::PT_ETH
}

/// Drops what a match requires of fields that packets of its kind do not have, and logs if that changes anything.
pub fn normalize(full: &mut FullMatch) {
    let mut mask = full.mask;
    drop_absent(full, &mut mask);
    if mask == full.mask {
        return;
    }
    let before = *full;
    full.mask = mask;
    full.normalize();
    let names = Names::default();
    tracing::info!(target: "ofp_match", rate = 1, burst = 5, "normalization changed ofp_match, details:");
    tracing::info!(target: "ofp_match", rate = 1, burst = 5, " pre: {}", text(&before, 0x8000, &names));
    tracing::info!(target: "ofp_match", rate = 1, burst = 5, "post: {}", text(full, 0x8000, &names));
}

fn drop_absent(full: &FullMatch, mask: &mut Mask) {
    let key = &full.key;
    let any_type = full.mask.0.packet_type.get() == 0;
    let ethernet = any_type || requires_ethernet(full);
    let dl_type = if ethernet {
        key.dl_type.get()
    } else if full.mask.0.packet_type.get() == u32::MAX {
        flow::field::dl_type(key)
    } else {
        0
    };
    let m = &mut mask.0;
    let (v4, v6) = (dl_type == ethertype::IPV4, dl_type == ethertype::IPV6);
    let arp = matches!(dl_type, ethertype::ARP | ethertype::RARP);
    let ports = matches!(key.nw_proto, ip::TCP | ip::UDP | ip::SCTP);
    let icmp = (v4 && key.nw_proto == ip::ICMP) || (v6 && key.nw_proto == ip::ICMPV6);
    let icmp6_type = if v6 && key.nw_proto == ip::ICMPV6 { key.tp_src.get() } else { 0 };
    let solicit = icmp6_type == icmp6::NEIGHBOR_SOLICIT;
    let advert = icmp6_type == icmp6::NEIGHBOR_ADVERT;
    if !ethernet {
        (m.dl_src, m.dl_dst) = ([0; 6], [0; 6]);
    }
    if !(v4 || arp) {
        (m.nw_src, m.nw_dst) = (0.into(), 0.into());
    }
    if !((v4 || v6) && ports || icmp) {
        (m.tp_src, m.tp_dst) = (0.into(), 0.into());
    }
    if !(v4 || v6 || arp) {
        m.nw_proto = 0;
    }
    if !(v4 || v6) {
        (m.nw_tos, m.nw_ttl) = (0, 0);
    }
    if !(arp || solicit) {
        m.arp_sha = [0; 6];
    }
    if !(arp || advert) {
        m.arp_tha = [0; 6];
    }
    if !v6 {
        (m.ipv6_src, m.ipv6_dst, m.ipv6_label) = ([0; 16], [0; 16], 0.into());
    }
    if !(solicit || advert) {
        m.nd_target = [0; 16];
    }
    if !ethertype::is_mpls(dl_type) {
        m.mpls_lse = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::field::{Field, Value};
    use proptest::prelude::*;

    /// A match on what every version can tell.
    fn common() -> FullMatch {
        let mut full = FullMatch::default();
        for (field, value) in [
            (Field::InPort, 3),
            (Field::EthSrc, 0x5054_0000_0005),
            (Field::EthType, 0x0800),
            (Field::IpProto, 6),
            (Field::Ipv4Src, 0xc0a8_0001),
            (Field::TcpDst, 80),
        ] {
            let n = field.n_bytes();
            field.set_match(&mut full, &Value::from_u64(value, n), &Value::ones(n));
        }
        full.key.vlans[0].tci = 0x1009.into();
        full.mask.0.vlans[0].tci = 0x1fff.into();
        require_ethernet(&mut full);
        full
    }

    #[test]
    fn matches_go_both_ways_in_every_form() {
        let full = common();
        let mut out = Vec::new();
        put10(&full, &mut out);
        assert_eq!(read10(&mut Reader::new(&out)), Ok(full));
        for version in &Version::ALL[1..] {
            let mut out = Vec::new();
            put11(&full, *version, &mut out);
            assert_eq!(out.len() % 8, 0);
            assert_eq!(read11(&mut Reader::new(&out), &mut Decode::new(*version)), Ok(full), "{version}");
        }
        let mut out = Vec::new();
        let len = put_nxm(&full, 5, 7, &mut out);
        let cx = &mut Decode::new(Version::V10);
        assert_eq!(read_nxm(&mut Reader::new(&out), len, false, cx), Ok((full, 5, 7)));
    }

    #[test]
    fn normalizing_drops_what_packets_do_not_have() {
        let mut full = common();
        full.key.dl_type = 0x0806.into();
        normalize(&mut full);
        assert_eq!(
            text(&full, 0x8000, &Names::default()),
            "arp,in_port=3,dl_vlan=9,dl_src=50:54:00:00:00:05,arp_spa=192.168.0.1,arp_op=6"
        );
    }

    #[test]
    fn repeated_and_unknown_fields_are_errors() {
        let read = |bytes: &[u8]| read_raw_oxm(bytes, false, &mut Decode::new(Version::V13)).map(|_| ());
        assert_eq!(read(&[0x80, 0, 0x0a, 2, 8, 0]), Ok(()));
        assert_eq!(read(&[0x80, 0, 0x0a, 2, 8, 0, 0x80, 0, 0x0a, 2, 8, 0]), Err(OfError::BmcDupField));
        assert_eq!(read(&[0x80, 0, 0x14, 1, 6]), Err(OfError::BmcBadPrereq));
        assert_eq!(read(&[0x12, 0x34, 0x14, 1, 6]), Err(OfError::BmcBadField));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            for version in Version::ALL {
                let cx = &mut Decode::new(version);
                let _ = read11(&mut Reader::new(&bytes), cx);
                let _ = read_nxm(&mut Reader::new(&bytes), bytes.len(), true, cx);
                let _ = nxm_text(&bytes);
                let _ = text10(&bytes, &Names::default(), 3);
            }
            let _ = read10(&mut Reader::new(&bytes)).map(|mut full| normalize(&mut full));
        }
    }
}
