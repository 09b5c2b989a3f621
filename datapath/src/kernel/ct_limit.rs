//! The `ovs_ct_limit` family: how many connections zones may have (`enum ovs_ct_limit_cmd`, `linux/openvswitch.h`). Limits
//! are the network namespace's, not a datapath's.

use flow::attr::{Attr, Writer};
use flow::id::Zone;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::genl::{Family, Genl, required};
use crate::Error;
use crate::conntrack::{LimitZone, ZoneLimit};
use crate::netlink::Message;

/// Commands (`OVS_CT_LIMIT_CMD_*`).
mod command {
    pub const SET: u8 = 1;
    pub const DEL: u8 = 2;
    pub const GET: u8 = 3;
}

/// `OVS_CT_LIMIT_ATTR_ZONE_LIMIT`: any number of `struct ovs_zone_limit`, one after another.
const ZONE_LIMIT: u16 = 1;
/// `OVS_ZONE_LIMIT_DEFAULT_ZONE`
const DEFAULT_ZONE: i32 = -1;
/// Zones that one request names at most: their structures must fit into one attribute.
const MAX_ZONES: usize = 4096;

/// `struct ovs_zone_limit`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Raw {
    zone: i32,
    limit: u32,
    count: u32,
}

impl Raw {
    fn new(zone: LimitZone, limit: u32) -> Self {
        let zone = match zone {
            LimitZone::Default => DEFAULT_ZONE,
            LimitZone::Zone(Zone(zone)) => zone.into(),
        };
        Self { zone, limit, count: 0 }
    }

    /// `None` for a zone that there cannot be.
    fn read(self) -> Option<ZoneLimit> {
        let zone = match self.zone {
            DEFAULT_ZONE => LimitZone::Default,
            zone => LimitZone::Zone(Zone(u16::try_from(zone).ok()?)),
        };
        Some(ZoneLimit { zone, limit: self.limit, count: self.count })
    }
}

fn put(attrs: &mut Writer, limits: &[Raw]) {
    attrs.put(ZONE_LIMIT, limits.as_bytes());
}

/// Reads the list of a reply; what follows the last whole structure is a later kernel's.
fn read(attr: Attr<'_>) -> Vec<ZoneLimit> {
    let raw = attr.data.chunks_exact(size_of::<Raw>()).filter_map(|bytes| Raw::read_from_bytes(bytes).ok());
    raw.filter_map(Raw::read).collect()
}

/// Reads a reply.
pub(super) fn decode(family: Family, message: &Message<'_>) -> Result<Vec<ZoneLimit>, Error> {
    let (_, _, attrs) = family.open(message)?;
    Ok(read(required(attrs.find(ZONE_LIMIT), ZONE_LIMIT, attrs)?))
}

fn change(genl: &Genl, family: Family, command: u8, limits: &[Raw]) -> Result<(), Error> {
    for limits in limits.chunks(MAX_ZONES) {
        genl.ask(family, (command, 0), 0, |attrs| put(attrs, limits), |_| Ok(()))?;
    }
    Ok(())
}

pub(super) fn set(genl: &Genl, family: Family, limits: &[ZoneLimit]) -> Result<(), Error> {
    let raw: Vec<_> = limits.iter().map(|limit| Raw::new(limit.zone, limit.limit)).collect();
    change(genl, family, command::SET, &raw)
}

pub(super) fn delete(genl: &Genl, family: Family, zones: &[LimitZone]) -> Result<(), Error> {
    let raw: Vec<_> = zones.iter().map(|zone| Raw::new(*zone, 0)).collect();
    change(genl, family, command::DEL, &raw)
}

/// The limits of these zones, or of all that have one, the default first.
pub(super) fn get(genl: &Genl, family: Family, zones: &[LimitZone]) -> Result<Vec<ZoneLimit>, Error> {
    let raw: Vec<_> = zones.iter().map(|zone| Raw::new(*zone, 0)).collect();
    let mut limits = Vec::new();
    let mut ask = |raw: Option<&[Raw]>| {
        let fill = |attrs: &mut Writer| {
            if let Some(raw) = raw {
                put(attrs, raw);
            }
        };
        let found = genl.ask(family, (command::GET, 0), 0, fill, |message| decode(family, message))?;
        limits.extend(found);
        Ok::<_, Error>(())
    };
    if raw.is_empty() {
        ask(None)?;
    }
    for raw in raw.chunks(MAX_ZONES) {
        ask(Some(raw))?;
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::attr::Attrs;
    use proptest::prelude::*;

    #[test]
    fn lists_go_both_ways() {
        let limits = [
            ZoneLimit { zone: LimitZone::Default, limit: 10, count: 0 },
            ZoneLimit { zone: LimitZone::Zone(Zone(u16::MAX)), limit: u32::MAX, count: 0 },
        ];
        let mut attrs = Writer::new();
        put(&mut attrs, &limits.map(|limit| Raw::new(limit.zone, limit.limit)));
        let bytes = attrs.into_bytes();
        assert_eq!(bytes.len(), 4 + 2 * 12);
        assert_eq!(read(Attrs::new(&bytes).next().unwrap().unwrap()), limits);
        assert_eq!(Raw { zone: 65_536, limit: 1, count: 1 }.read(), None);
        assert_eq!(Raw { zone: -2, limit: 1, count: 1 }.read(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut attrs = Writer::new();
            attrs.put(ZONE_LIMIT, &bytes);
            let bytes = attrs.into_bytes();
            for attr in Attrs::new(&bytes).flatten() {
                read(attr);
            }
        }
    }
}
