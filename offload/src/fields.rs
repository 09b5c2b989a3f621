//! Which flower field a field of the registry is: one row a pair. Where values differ in more than byte order, as tags,
//! fragments and tunnels do, [`crate::lower`] and [`crate::raise`] have the rest.

use flow::field::{Field, Value};

use crate::tc::key::{Bits, KeyField, Order};

/// The pairs. A field counts where its prerequisites hold.
pub static ROWS: &[(Field, KeyField)] = &[
    (Field::EthSrc, KeyField::EthSrc),
    (Field::EthDst, KeyField::EthDst),
    (Field::ArpSpa, KeyField::ArpSip),
    (Field::ArpTpa, KeyField::ArpTip),
    (Field::ArpSha, KeyField::ArpSha),
    (Field::ArpTha, KeyField::ArpTha),
    (Field::Ipv4Src, KeyField::Ipv4Src),
    (Field::Ipv4Dst, KeyField::Ipv4Dst),
    (Field::Ipv6Src, KeyField::Ipv6Src),
    (Field::Ipv6Dst, KeyField::Ipv6Dst),
    (Field::IpTtl, KeyField::IpTtl),
    (Field::TcpSrc, KeyField::TcpSrc),
    (Field::TcpDst, KeyField::TcpDst),
    (Field::TcpFlags, KeyField::TcpFlags),
    (Field::UdpSrc, KeyField::UdpSrc),
    (Field::UdpDst, KeyField::UdpDst),
    (Field::SctpSrc, KeyField::SctpSrc),
    (Field::SctpDst, KeyField::SctpDst),
    (Field::Icmpv4Type, KeyField::Icmpv4Type),
    (Field::Icmpv4Code, KeyField::Icmpv4Code),
    (Field::Icmpv6Type, KeyField::Icmpv6Type),
    (Field::Icmpv6Code, KeyField::Icmpv6Code),
    (Field::CtZone, KeyField::CtZone),
    (Field::CtMark, KeyField::CtMark),
    (Field::CtLabel, KeyField::CtLabels),
    (Field::TunSrc, KeyField::EncIpv4Src),
    (Field::TunDst, KeyField::EncIpv4Dst),
    (Field::TunIpv6Src, KeyField::EncIpv6Src),
    (Field::TunIpv6Dst, KeyField::EncIpv6Dst),
    (Field::TunTos, KeyField::EncTos),
    (Field::TunTtl, KeyField::EncTtl),
];

/// A value of the registry as a rule has it.
pub fn bits(field: KeyField, value: &Value) -> Bits {
    let row = field.row();
    match row.order {
        Order::Net => Bits::of(value.bytes()),
        Order::Host => Bits::number(row, value.u128()),
    }
}

/// The reverse of [`bits`].
pub fn value(field: KeyField, bits: Bits) -> Value {
    Value::from_u128(bits.to_number(field.row()), field.row().width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_equally_wide_and_each_there_once() {
        for (place, &(field, key_field)) in ROWS.iter().enumerate() {
            assert_eq!(field.n_bytes(), key_field.row().width, "{}", field.name());
            let twice = ROWS[..place].iter().any(|row| row.0 == field || row.1 == key_field);
            assert!(!twice, "{}", field.name());
        }
    }

    #[test]
    fn values_go_both_ways() {
        for &(field, key_field) in ROWS {
            let some = Value::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, field.n_bytes());
            assert_eq!(value(key_field, bits(key_field, &some)), some, "{}", field.name());
        }
    }
}
