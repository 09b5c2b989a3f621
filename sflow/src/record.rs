//! Flow records and counter records: one row a format, fields in the order of the wire.
//!
//! Formats are those of enterprise 0. What is unknown is kept as bytes.

use crate::xdr::{Reader, Writer, XdrError};
use flow::key::EthAddr;
use std::net::{IpAddr, Ipv4Addr};

/// A counter that is not counted.
pub const UNKNOWN: u32 = u32::MAX;
/// A gauge that is not measured.
pub const UNDEFINED: u32 = 0;

/// A field of a record.
trait Field: Sized {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError>;
    fn write(&self, writer: &mut Writer);
}

impl Field for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.u32()
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(*self);
    }
}

impl Field for u64 {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.u64()
    }

    fn write(&self, writer: &mut Writer) {
        writer.u64(*self);
    }
}

impl Field for Ipv4Addr {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.u32().map(Self::from)
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32((*self).into());
    }
}

impl Field for EthAddr {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        let bytes = reader.fixed(6)?;
        bytes.try_into().map_err(|_| reader.invalid("address of another length"))
    }

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self);
    }
}

/// A word of four bytes.
impl Field for [u8; 4] {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.array()
    }

    fn write(&self, writer: &mut Writer) {
        writer.fixed(self);
    }
}

impl Field for String {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.opaque().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn write(&self, writer: &mut Writer) {
        writer.opaque(self.as_bytes());
    }
}

/// Bytes behind their length.
impl Field for Vec<u8> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        reader.opaque().map(<[u8]>::to_vec)
    }

    fn write(&self, writer: &mut Writer) {
        writer.opaque(self);
    }
}

impl Field for Vec<u32> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        let count = reader.u32()? as usize;
        if count > reader.rest().len() / 4 {
            return Err(reader.invalid("list longer than its record"));
        }
        (0..count).map(|_| reader.u32()).collect()
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.len() as u32);
        self.iter().for_each(|value| value.write(writer));
    }
}

/// An address behind its type: 1 is IPv4, 2 is IPv6; an unknown one is 0.0.0.0.
impl Field for IpAddr {
    fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
        match reader.u32()? {
            1 => reader.array::<4>().map(Self::from),
            2 => reader.array::<16>().map(Self::from),
            0 => Ok(Self::V4(Ipv4Addr::UNSPECIFIED)),
            _ => Err(reader.invalid("unknown address type")),
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::V4(ip) => writer.u32(1).fixed(&ip.octets()),
            Self::V6(ip) => writer.u32(2).fixed(&ip.octets()),
        };
    }
}

/// Reads an address behind its type.
pub fn read_address(reader: &mut Reader<'_>) -> Result<IpAddr, XdrError> {
    IpAddr::read(reader)
}

/// Writes an address behind its type.
pub fn write_address(address: &IpAddr, writer: &mut Writer) {
    address.write(writer);
}

macro_rules! records {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$row:meta])* $format:literal $variant:ident($body:ident { $($(#[$fdoc:meta])* $field:ident: $ty:ty),* $(,)? }),)*
    }) => {
        $(
            $(#[$row])*
            #[derive(Clone, Debug, PartialEq, Eq)]
            pub struct $body { $($(#[$fdoc])* pub $field: $ty),* }
        )*

        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$row])* $variant($body),)*
            /// Another format.
            Unknown(u32, Vec<u8>),
        }

        impl $name {
            /// The record's format.
            pub fn format(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $format,)*
                    Self::Unknown(format, _) => *format,
                }
            }

            /// Reads format, length and fields.
            pub fn read(reader: &mut Reader<'_>) -> Result<Self, XdrError> {
                let format = reader.u32()?;
                let mut body = reader.sub()?;
                Ok(match format {
                    $($format => Self::$variant($body { $($field: Field::read(&mut body)?),* }),)*
                    unknown => Self::Unknown(unknown, body.rest().to_vec()),
                })
            }

            /// Writes format, length and fields.
            pub fn write(&self, writer: &mut Writer) {
                let mut body = Writer::new();
                match self {
                    $(Self::$variant(record) => { $(record.$field.write(&mut body);)* })*
                    Self::Unknown(_, bytes) => { body.fixed(bytes); }
                }
                writer.u32(self.format()).opaque(&body.into_bytes());
            }
        }
    };
}

records! {
    /// What a flow sample tells of its packet.
    FlowRecord {
        /// The packet's first bytes.
        1 Header(SampledHeader {
            /// 1 is Ethernet.
            protocol: u32,
            /// The packet's length, its checksum (FCS) included.
            frame_length: u32,
            /// Bytes taken off the end before sampling: the FCS.
            stripped: u32,
            header: Vec<u8>,
        }),
        /// VLAN and priority on the way in and out.
        1001 ExtendedSwitch(ExtendedSwitch {
            src_vlan: u32,
            src_priority: u32,
            dst_vlan: u32,
            dst_priority: u32,
        }),
        /// MPLS labels, as stack entries.
        1006 ExtendedMpls(ExtendedMpls { next_hop: IpAddr, in_stack: Vec<u32>, out_stack: Vec<u32> }),
        /// The tunnel that the packet leaves by.
        1023 Ipv4TunnelEgress(TunnelEgress {
            length: u32,
            protocol: u32,
            src_ip: Ipv4Addr,
            dst_ip: Ipv4Addr,
            src_port: u32,
            dst_port: u32,
            tcp_flags: u32,
            tos: u32,
        }),
        /// The tunnel that the packet came by.
        1024 Ipv4TunnelIngress(TunnelIngress {
            length: u32,
            protocol: u32,
            src_ip: Ipv4Addr,
            dst_ip: Ipv4Addr,
            src_port: u32,
            dst_port: u32,
            tcp_flags: u32,
            tos: u32,
        }),
        /// The virtual network of the tunnel that the packet leaves by.
        1029 VniEgress(VniEgress { vni: u32 }),
        /// The virtual network of the tunnel that the packet came by.
        1030 VniIngress(VniIngress { vni: u32 }),
    }
}

records! {
    /// A group of counters.
    CounterRecord {
        /// Counters of an interface (RFC 2863).
        1 Interface(IfCounters {
            index: u32,
            /// 6 is Ethernet.
            kind: u32,
            /// Bits a second.
            speed: u64,
            /// 0 unknown, 1 full duplex, 2 half duplex.
            direction: u32,
            /// Bit 0: administratively up; bit 1: operationally up.
            status: u32,
            in_octets: u64,
            in_unicast: u32,
            in_multicast: u32,
            in_broadcast: u32,
            in_discards: u32,
            in_errors: u32,
            in_unknown_protocols: u32,
            out_octets: u64,
            out_unicast: u32,
            out_multicast: u32,
            out_broadcast: u32,
            out_discards: u32,
            out_errors: u32,
            promiscuous: u32,
        }),
        /// Counters of an Ethernet interface (RFC 2665).
        2 Ethernet(EthernetCounters {
            alignment_errors: u32,
            fcs_errors: u32,
            single_collisions: u32,
            multiple_collisions: u32,
            sqe_test_errors: u32,
            deferred_transmissions: u32,
            late_collisions: u32,
            excessive_collisions: u32,
            mac_transmit_errors: u32,
            carrier_sense_errors: u32,
            frame_too_longs: u32,
            mac_receive_errors: u32,
            symbol_errors: u32,
        }),
        /// Link aggregation of a port (IEEE 802.1AX).
        7 Lacp(LacpCounters {
            actor_system: EthAddr,
            partner_system: EthAddr,
            attached_aggregate: u32,
            /// State of the actor, administrative and operational, and of the partner.
            port_state: [u8; 4],
            lacpdus_rx: u32,
            marker_pdus_rx: u32,
            marker_responses_rx: u32,
            unknown_rx: u32,
            illegal_rx: u32,
            lacpdus_tx: u32,
            marker_pdus_tx: u32,
            marker_responses_tx: u32,
        }),
        /// Which OpenFlow port this is.
        1004 OpenflowPort(OpenflowPort { datapath_id: u64, port: u32 }),
        1005 PortName(PortName { name: String }),
        /// What the program uses.
        2203 AppResources(AppResources {
            /// Milliseconds.
            user_time: u32,
            /// Milliseconds.
            system_time: u32,
            /// Bytes.
            memory_used: u64,
            memory_max: u64,
            fds_open: u32,
            fds_max: u32,
            connections_open: u32,
            connections_max: u32,
        }),
        /// Counters of all datapaths together.
        2207 OvsDatapath(OvsDatapath { hits: u32, misses: u32, lost: u32, mask_hits: u32, flows: u32, masks: u32 }),
    }
}
