//! The interfaces that carry tunnels' packets: virtual links of the kernel in "metadata mode", whose outer headers go with
//! the packets as keys and `set(tunnel(…))` actions (`linux/if_link.h`, `linux/if_tunnel.h`).
//!
//! A link is made before it becomes a port, and looked at afterwards: kernels ignore attributes that they do not know. Where
//! there is no such link, the datapath may still know the kind of port by itself, with [`extensions`].

use std::sync::Arc;

use flow::attr::{Attrs, Writer};
use sys::errno::Errno;

use crate::Error;
use crate::linux::link::{self, Link, NewLink};
use crate::linux::rtnl::Rtnl;
use crate::netdev::Netdev;
use crate::netdev::tunnel::{Config, Exts, Packets};

/// The largest MTU that every kind takes for the largest; what routes allow is theirs to say.
const MTU: u32 = 65_000;
/// For devices that take no more.
const SMALL_MTU: u32 = 1450;
/// Source ports of bareudp are from here on.
const FIRST_SOURCE_PORT: u16 = 49_153;

mod vxlan {
    pub const LEARNING: u16 = 7;
    pub const PORT: u16 = 15;
    pub const UDP_ZERO_CSUM6_RX: u16 = 20;
    pub const GBP: u16 = 23;
    pub const COLLECT_METADATA: u16 = 25;
    pub const GPE: u16 = 27;
}

mod gre {
    pub const COLLECT_METADATA: u16 = 18;
}

mod geneve {
    pub const PORT: u16 = 5;
    pub const COLLECT_METADATA: u16 = 6;
    pub const UDP_ZERO_CSUM6_RX: u16 = 10;
}

mod bareudp {
    pub const PORT: u16 = 1;
    pub const ETHERTYPE: u16 = 2;
    pub const SRCPORT_MIN: u16 = 3;
    pub const MULTIPROTO_MODE: u16 = 4;
}

/// What a link is asked for, and must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// The attribute is there.
    Flag,
    U8(u8),
    Be16(u16),
    /// Written, but not told again by every kernel.
    Unread(u16),
}

/// A kind of link with its attributes.
#[derive(PartialEq, Eq, Debug)]
struct Wanted {
    kind: &'static str,
    attrs: Vec<(u16, Want)>,
}

impl Wanted {
    /// The link that carries tunnels with this configuration; `None` if the kernel has no such links.
    fn of(kind: &str, config: &Config) -> Option<Self> {
        let has = |ext, attr| config.exts.contains(ext).then_some((attr, Want::Flag));
        let metadata = vec![(gre::COLLECT_METADATA, Want::Flag)];
        let (kind, attrs) = match (kind, config.packets) {
            ("vxlan", _) => {
                let mut attrs = vec![
                    (vxlan::LEARNING, Want::U8(0)),
                    (vxlan::COLLECT_METADATA, Want::U8(1)),
                    (vxlan::UDP_ZERO_CSUM6_RX, Want::U8(1)),
                ];
                attrs.extend(has(Exts::GBP, vxlan::GBP));
                attrs.extend(has(Exts::GPE, vxlan::GPE));
                attrs.push((vxlan::PORT, Want::Be16(config.dst_port)));
                ("vxlan", attrs)
            }
            ("geneve", _) => {
                let attrs = vec![
                    (geneve::COLLECT_METADATA, Want::Flag),
                    (geneve::UDP_ZERO_CSUM6_RX, Want::U8(1)),
                    (geneve::PORT, Want::Be16(config.dst_port)),
                ];
                ("geneve", attrs)
            }
            ("gre", Packets::LegacyL2) => ("gretap", metadata),
            ("gre", Packets::LegacyL3) => ("gre", metadata),
            ("ip6gre", Packets::LegacyL2) => ("ip6gretap", metadata),
            ("erspan", _) => ("erspan", metadata),
            ("ip6erspan", _) => ("ip6erspan", metadata),
            ("bareudp", _) => {
                let mut attrs = vec![
                    (bareudp::ETHERTYPE, Want::Be16(config.payload_ethertype)),
                    (bareudp::SRCPORT_MIN, Want::Unread(FIRST_SOURCE_PORT)),
                    (bareudp::PORT, Want::Be16(config.dst_port)),
                ];
                attrs.extend(has(Exts::MULTIPROTO, bareudp::MULTIPROTO_MODE));
                ("bareudp", attrs)
            }
            _ => return None,
        };
        Some(Self { kind, attrs })
    }

    fn write(&self, data: &mut Writer) {
        for &(attr, want) in &self.attrs {
            match want {
                Want::Flag => data.put_flag(attr),
                Want::U8(value) => data.put_u8(attr, value),
                Want::Be16(value) => data.put(attr, &value.to_be_bytes()),
                Want::Unread(value) => data.put_u16(attr, value),
            }
        }
    }

    /// Whether a link is what was asked for.
    fn is(&self, link: &Link) -> bool {
        link.kind.as_deref() == Some(self.kind)
            && self.attrs.iter().all(|(attr, want)| has(link, *attr, *want))
    }
}

fn has(link: &Link, wanted: u16, want: Want) -> bool {
    let found = Attrs::new(&link.data).filter_map(Result::ok).find(|attr| attr.kind == wanted);
    match want {
        Want::Flag => found.is_some(),
        Want::U8(value) => found.is_some_and(|attr| attr.u8() == Ok(value)),
        Want::Be16(value) => found.is_some_and(|attr| attr.be16().is_ok_and(|found| found.get() == value)),
        Want::Unread(_) => true,
    }
}

fn wanted(device: &dyn Netdev) -> Result<(String, Wanted), Error> {
    let unsupported = Error::Unsupported("tunnels of this kind as links");
    let config: Option<Arc<Config>> = device.tunnel();
    let wanted = config.and_then(|config| Wanted::of(device.kind(), &config));
    Ok((device.datapath_port(), wanted.ok_or(unsupported)?))
}

/// Makes the link of a tunnel's port, or finds it. A link of the same name that is another goes.
///
/// # Errors
/// `EOPNOTSUPP` if the kernel has no such links, or what it says.
pub fn make(device: &dyn Netdev) -> Result<(), Error> {
    let (name, wanted) = wanted(device)?;
    let mut rtnl = Rtnl::open()?;
    match add(&mut rtnl, &name, &wanted) {
        Err(error) if error.errno() == Errno::EEXIST => {
            if check(&mut rtnl, &name, &wanted).is_ok() {
                return Ok(());
            }
            link::delete(&mut rtnl, &name).inspect_err(|error| {
                tracing::warn!(
                    target: "dpif_netlink_rtnl", rl = "1,5",
                    "RTNL device {name} exists and cannot be deleted: {error}"
                );
            })?;
            add(&mut rtnl, &name, &wanted)?;
        }
        result => result?,
    }
    check(&mut rtnl, &name, &wanted).inspect_err(|_| {
        if let Err(error) = link::delete(&mut rtnl, &name) {
            tracing::warn!(
                target: "dpif_netlink_rtnl", rl = "1,5",
                "Failed to delete device {name} during rtnl port creation: {error}"
            );
        }
    })
}

/// Whether the link of a tunnel's port is there and as it must be.
pub fn is_made(device: &dyn Netdev) -> bool {
    wanted(device).is_ok_and(|(name, wanted)| {
        Rtnl::open().is_ok_and(|mut rtnl| check(&mut rtnl, &name, &wanted).is_ok())
    })
}

/// Deletes the link of a port.
///
/// # Errors
/// What the kernel says; that it is not there any more is none.
pub fn delete(port: &str) -> Result<(), Error> {
    match link::delete(&mut Rtnl::open()?, port) {
        Err(error) if error.errno() != Errno::ENODEV => Err(error),
        _ => Ok(()),
    }
}

/// What the datapath wants to know of extensions if it makes the port by itself: bits by number.
pub fn extensions(kind: &str, config: &Config) -> u32 {
    let numbers: &[(Exts, u32)] = match kind {
        "vxlan" => &[(Exts::GBP, 1), (Exts::GPE, 2)],
        "bareudp" => &[(Exts::MULTIPROTO, 1)],
        _ => &[],
    };
    numbers.iter().filter(|(ext, _)| config.exts.contains(*ext)).map(|(_, number)| 1 << number).sum()
}

fn add(rtnl: &mut Rtnl, name: &str, wanted: &Wanted) -> Result<(), Error> {
    let new = NewLink { name, kind: wanted.kind, mtu: Some(MTU), mac: None, up: true };
    link::add(rtnl, &new, |data| wanted.write(data))?;
    // These ignore the MTU that they are made with.
    if matches!(wanted.kind, "gre" | "gretap" | "ip6gre" | "ip6gretap")
        && link::set_mtu(rtnl, name, MTU).is_err()
        && let Err(error) = link::set_mtu(rtnl, name, SMALL_MTU)
    {
        tracing::warn!(
            target: "dpif_netlink_rtnl", rl = "1,5",
            "setting MTU of tunnel {name} failed ({error})"
        );
    }
    Ok(())
}

fn check(rtnl: &mut Rtnl, name: &str, wanted: &Wanted) -> Result<(), Error> {
    if wanted.is(&link::get(rtnl, name)?) { Ok(()) } else { Err(Errno::EINVAL.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netdev::Netdevs;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn device(kind: &str, options: &[(&str, &str)]) -> Arc<dyn Netdev> {
        let device = Netdevs::new().open("t", kind).unwrap();
        let all = options.iter().chain(&[("remote_ip", "1.1.1.1")]);
        let all: BTreeMap<String, String> = all.map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        device.set_config(&all).unwrap();
        device
    }

    fn link_of(kind: &str, options: &[(&str, &str)]) -> Option<(Wanted, Link)> {
        let device = device(kind, options);
        let wanted = Wanted::of(kind, &device.tunnel().unwrap())?;
        let mut data = Writer::new();
        wanted.write(&mut data);
        let link = Link { kind: Some(wanted.kind.to_owned()), data: data.into_bytes(), ..Link::default() };
        Some((wanted, link))
    }

    #[test]
    fn links_are_what_they_were_asked_to_be() {
        for (kind, options, link_kind) in [
            ("vxlan", &[][..], "vxlan"),
            ("vxlan", &[("exts", "gbp"), ("dst_port", "8472")], "vxlan"),
            ("vxlan", &[("exts", "gpe"), ("packet_type", "ptap")], "vxlan"),
            ("geneve", &[], "geneve"),
            ("gre", &[], "gretap"),
            ("gre", &[("packet_type", "legacy_l3")], "gre"),
            ("ip6gre", &[], "ip6gretap"),
            ("erspan", &[("erspan_ver", "1")], "erspan"),
            ("ip6erspan", &[("erspan_ver", "2")], "ip6erspan"),
            ("bareudp", &[("dst_port", "6635"), ("payload_type", "mpls")], "bareudp"),
        ] {
            let (wanted, mut link) = link_of(kind, options).unwrap();
            assert_eq!(wanted.kind, link_kind);
            assert!(wanted.is(&link), "{kind}");
            link.data.clear();
            assert!(!wanted.is(&link), "{kind}");
        }
    }

    #[test]
    fn kinds_without_links_are_said_to_be() {
        for (kind, options) in [("gtpu", &[][..]), ("srv6", &[]), ("gre", &[("packet_type", "ptap")])] {
            assert_eq!(link_of(kind, options), None);
            assert_eq!(make(&*device(kind, options)).unwrap_err().errno(), Errno::EOPNOTSUPP);
        }
    }

    #[test]
    fn another_port_or_extension_is_another_link() {
        let (plain, _) = link_of("vxlan", &[]).unwrap();
        let (gbp, link) = link_of("vxlan", &[("exts", "gbp")]).unwrap();
        assert!(gbp.is(&link) && plain.is(&link));
        let (_, link) = link_of("vxlan", &[]).unwrap();
        assert!(!gbp.is(&link));
        let (other, _) = link_of("vxlan", &[("dst_port", "8472")]).unwrap();
        assert!(!other.is(&link));
    }

    #[test]
    fn a_vxlan_link_has_these_attributes() {
        let (_, link) = link_of("vxlan", &[("exts", "gbp")]).unwrap();
        let attrs: Vec<(u16, Vec<u8>)> = Attrs::new(&link.data)
            .map(|attr| attr.map(|attr| (attr.kind, attr.data.to_vec())).unwrap())
            .collect();
        let expected = [(7, vec![0]), (25, vec![1]), (20, vec![1]), (23, vec![]), (15, vec![0x12, 0xb5])];
        assert_eq!(attrs, expected);
    }

    #[test]
    fn extensions_have_the_datapaths_numbers() {
        let number = |kind, options| extensions(kind, &device(kind, options).tunnel().unwrap());
        assert_eq!(number("vxlan", &[("exts", "gbp")]), 2);
        assert_eq!(number("vxlan", &[("exts", "gbp,gpe")]), 6);
        assert_eq!(number("geneve", &[]), 0);
    }

    proptest! {
        #[test]
        fn any_attributes_can_be_looked_at(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (wanted, link) = link_of("vxlan", &[]).unwrap();
            wanted.is(&Link { data, ..link });
        }
    }
}
