//! Forgetting connections: all, those of a zone, one by its tuple, or those that fit a partial match.

use super::entry::{L4, Tuple};
use super::{Conntrack, Entry};
use crate::{Datapath, Error};
use ::flow::ct::{CtMatch, CtTuple, L3, is_icmp};
use ::flow::id::Zone;
use ::flow::key::Ipv6;
use std::net::{IpAddr, Ipv6Addr};

/// Forgets the connections of `zone` that fit `which`; all connections where one of them is not given. A full tuple
/// without zone means zone 0.
pub fn flush(datapath: &dyn Datapath, zone: Option<Zone>, which: Option<&CtMatch>) -> Result<(), Error> {
    let name = format!("{}@{}", datapath.kind(), datapath.name());
    let which = which.filter(|which| !which.is_zero());
    match (which, zone) {
        (Some(which), _) => {
            tracing::debug!(target: "ct_dpif", "{name}: ct_flush: zone={} {which}", zone.unwrap_or_default());
        }
        (None, Some(zone)) => tracing::debug!(target: "ct_dpif", "{name}: ct_flush: zone {zone}"),
        (None, None) => tracing::debug!(target: "ct_dpif", "{name}: ct_flush: <all>"),
    }
    let conntrack = datapath.conntrack().ok_or(Error::Unsupported("conntrack"))?;
    match which {
        Some(which) => flush_matching(conntrack, zone, which),
        None => conntrack.flush(zone),
    }
}

fn flush_matching(conntrack: &dyn Conntrack, zone: Option<Zone>, which: &CtMatch) -> Result<(), Error> {
    if which.is_five_tuple() {
        let tuple = full_tuple(which).ok_or(Error::Unsupported("conntrack flush of this address family"))?;
        return conntrack.flush_tuple(zone.unwrap_or_default(), &tuple);
    }
    for entry in conntrack.dump(zone)? {
        let entry = entry?;
        if zone.is_none_or(|zone| zone == entry.zone) && matches(&entry, which) {
            conntrack.flush_tuple(entry.zone, &entry.orig)?;
        }
    }
    Ok(())
}

fn address(mapped: &Ipv6, l3: L3) -> Option<IpAddr> {
    let v6 = Ipv6Addr::from(*mapped);
    match l3 {
        L3::V4 => v6.to_ipv4_mapped().map(IpAddr::V4),
        L3::V6 => Some(IpAddr::V6(v6)),
    }
}

/// The original direction of a match that gives all of it.
fn full_tuple(which: &CtMatch) -> Option<Tuple> {
    let (l3, orig) = (which.l3?, &which.orig);
    let l4 = if is_icmp(which.ip_proto) {
        L4::Icmp { id: orig.src_port, kind: orig.icmp_type, code: orig.icmp_code }
    } else {
        L4::Ports { src: orig.src_port, dst: orig.dst_port }
    };
    Some(Tuple { src: address(&orig.src, l3)?, dst: address(&orig.dst, l3)?, ip_proto: which.ip_proto, l4 })
}

/// Whether a connection fits.
fn matches(entry: &Entry, which: &CtMatch) -> bool {
    let family = match which.l3 {
        Some(L3::V4) => entry.orig.src.is_ipv4(),
        Some(L3::V6) => entry.orig.src.is_ipv6(),
        None => true,
    };
    family
        && (which.ip_proto == 0 || which.ip_proto == entry.orig.ip_proto)
        && tuple_matches(&entry.orig, &which.orig, which)
        && tuple_matches(&entry.reply, &which.reply, which)
        && (entry.mark ^ which.mark) & which.mark_mask == 0
        && (entry.labels ^ which.labels) & which.labels_mask == 0
}

fn tuple_matches(tuple: &Tuple, partial: &CtTuple, which: &CtMatch) -> bool {
    let addr = |addr: IpAddr, wanted: &Ipv6| {
        *wanted == [0; 16] || which.l3.and_then(|l3| address(wanted, l3)) == Some(addr)
    };
    let port = |port: u16, wanted: u16| wanted == 0 || wanted == port;
    let l4 = match tuple.l4 {
        // As in OVS, zeroes are no wildcards once the match says that it is about ICMP.
        L4::Icmp { id, kind, code } if is_icmp(which.ip_proto) => {
            (id, kind, code) == (partial.src_port, partial.icmp_type, partial.icmp_code)
        }
        L4::Ports { src, dst } => port(src, partial.src_port) && port(dst, partial.dst_port),
        L4::Icmp { .. } => partial.src_port == 0 && partial.dst_port == 0,
    };
    addr(tuple.src, &partial.src) && addr(tuple.dst, &partial.dst) && l4
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{ports, tuple};
    use super::*;

    fn entries() -> Vec<Entry> {
        let mut udp = Entry::new(
            tuple("10.1.1.1", "10.1.1.2", 17, ports(1, 2)),
            tuple("10.1.1.2", "10.1.1.1", 17, ports(2, 1)),
        );
        (udp.mark, udp.labels) = (0x17, 0x17);
        let tcp = Entry::new(
            tuple("fc00::1", "fc00::2", 6, ports(3, 80)),
            tuple("fc00::2", "fc00::9", 6, ports(80, 3)),
        );
        let icmp = |kind| L4::Icmp { id: 5, kind, code: 0 };
        let icmp =
            Entry::new(tuple("10.1.1.1", "10.1.1.2", 1, icmp(8)), tuple("10.1.1.2", "10.1.1.1", 1, icmp(0)));
        vec![udp, tcp, icmp]
    }

    #[test]
    fn partial_matches() {
        for (args, matched) in [
            (&["ct_nw_src=10.1.1.1"][..], [true, false, true]),
            (&["ct_nw_src=10.1.1.1,ct_nw_proto=17"], [true, false, false]),
            (&["ct_nw_src=10.1.1.2"], [false; 3]),
            (&["ct_nw_proto=17,ct_tp_dst=2"], [true, false, false]),
            (&["", "ct_ipv6_dst=fc00::9"], [false, true, false]),
            (&["", "ct_ipv6_dst=fc00::9,ct_nw_proto=6,ct_tp_src=81"], [false; 3]),
            (&["mark=0x7/0xf"], [true, false, false]),
            (&["labels=0x10/0x10"], [true, false, false]),
            (&["mark=0"], [false, true, true]),
            (&["ct_nw_proto=1,icmp_id=5,icmp_type=8", "icmp_id=5"], [false, false, true]),
            (&["ct_nw_proto=1,icmp_id=5,icmp_type=8"], [false; 3]),
        ] {
            let (which, _) = CtMatch::parse(args).unwrap();
            let got: Vec<_> = entries().iter().map(|entry| matches(entry, &which)).collect();
            assert_eq!(got, matched, "{args:?}");
        }
    }

    #[test]
    fn full_tuples() {
        let (which, _) = CtMatch::parse(&[
            "ct_ipv6_src=fc00::1,ct_ipv6_dst=fc00::2,ct_nw_proto=58,icmp_type=128,icmp_id=7",
        ])
        .unwrap();
        let l4 = L4::Icmp { id: 7, kind: 128, code: 0 };
        assert_eq!(full_tuple(&which), Some(tuple("fc00::1", "fc00::2", 58, l4)));
    }
}
