//! A device as an OpenFlow port, and the addresses that bridges take from their devices.

use datapath::netdev::{Flags, Link, LinkModes, Netdev};
use flow::field::parse_mac;
use flow::id::OfPort;
use flow::key::EthAddr;
use openflow::msg::port::{LinkFeatures, PhyPort, PortConfig, PortState};
use ovsdb::value::Uuid;

/// What OpenFlow says of a device.
pub fn describe(device: &dyn Netdev, number: OfPort) -> PhyPort {
    let up = device.flags().is_ok_and(|flags| flags.contains(Flags::UP));
    let link = device.link().unwrap_or_default();
    let features = |modes: LinkModes| LinkFeatures::from_bits_truncate(modes.bits());
    let Link { speed, max_speed, .. } = link;
    PhyPort {
        port_no: number,
        hw_addr: device.mac().unwrap_or_default(),
        name: device.name().to_owned(),
        config: if up { PortConfig::empty() } else { PortConfig::PORT_DOWN },
        state: if has_carrier(device) { PortState::empty() } else { PortState::LINK_DOWN },
        curr: features(link.current),
        advertised: features(link.advertised),
        supported: features(link.supported),
        peer: features(link.peer),
        curr_speed: speed.saturating_mul(1000),
        max_speed: max_speed.saturating_mul(1000),
    }
}

/// Whether a device is on and has a link.
pub fn has_carrier(device: &dyn Netdev) -> bool {
    device.flags().is_ok_and(|flags| flags.contains(Flags::UP)) && device.carrier()
}

/// Turns a device on or off.
pub fn set_up(device: &dyn Netdev, up: bool) {
    let (off, on) = if up { (Flags::empty(), Flags::UP) } else { (Flags::UP, Flags::empty()) };
    if let Err(error) = device.update_flags(off, on) {
        tracing::warn!(
            target: "ofproto", rl = "1,5",
            "{}: could not turn the device {} ({error})", device.name(), if up { "on" } else { "off" }
        );
    }
}

/// Whether an address is for a group of stations.
pub fn is_multicast(mac: EthAddr) -> bool {
    mac[0] & 1 != 0
}

/// Whether a bridge may take a device's address for its own: one that its maker gave, and that means one station.
pub fn is_universal(mac: EthAddr) -> bool {
    let reserved = mac[..5] == [0x01, 0x80, 0xc2, 0x00, 0x00];
    mac[0] & 3 == 0 && mac != [0; 6] && !reserved
}

/// The address of a bridge that finds none: of its UUID, marked as made up.
pub fn default_mac(uuid: Uuid) -> EthAddr {
    let [a, b] = [uuid.0 >> 96, uuid.0 >> 64].map(|part| u32::try_from(part & 0xffff_ffff).expect("32 bits"));
    let ([a0, a1, a2, a3], [b0, b1, ..]) = (a.to_le_bytes(), b.to_le_bytes());
    [a0 & !1 | 2, a1, a2, a3, b0, b1]
}

/// A bridge's address from `other_config:hwaddr`, if that is one that it can have.
pub fn configured_mac(bridge: &str, text: Option<&str>) -> Option<EthAddr> {
    let mac = parse_mac(text?)?;
    if is_multicast(mac) {
        let text = flow::text::eth(&mac);
        tracing::error!(target: "bridge", "bridge {bridge}: cannot set MAC address to multicast address {text}");
        None
    } else if mac == [0; 6] {
        tracing::error!(target: "bridge", "bridge {bridge}: cannot set MAC address to zero");
        None
    } else {
        Some(mac)
    }
}

/// An address as the number that a datapath id is.
pub fn as_number(mac: EthAddr) -> u64 {
    mac.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_addresses_are_local() {
        let uuid: Uuid = "11223344-5566-7788-99aa-bbccddeeff00".parse().expect("a UUID");
        assert_eq!(default_mac(uuid), [0x46, 0x33, 0x22, 0x11, 0x88, 0x77]);
        assert_eq!(as_number([0, 0, 0, 0, 1, 2]), 0x102);
        assert!(is_universal([0, 1, 2, 3, 4, 5]) && !is_universal([2, 1, 2, 3, 4, 5]));
    }
}
