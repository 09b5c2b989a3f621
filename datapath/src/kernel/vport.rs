//! `ovs_vport`: ports of datapaths (`linux/openvswitch.h`).

use flow::attr::{Attr, AttrError, Writer};
use flow::id::DpPort;

use super::dp::words;
use super::genl::{Family, Genl, collect, required};
use crate::Error;
use crate::netlink::Message;

pub(super) mod cmd {
    pub const NEW: u8 = 1;
    pub const DEL: u8 = 2;
    pub const GET: u8 = 3;
    pub const SET: u8 = 4;
}

pub(super) mod attr {
    pub const PORT_NO: u16 = 1;
    pub const TYPE: u16 = 2;
    pub const NAME: u16 = 3;
    pub const OPTIONS: u16 = 4;
    pub const UPCALL_PID: u16 = 5;
    pub const STATS: u16 = 6;
    pub const IFINDEX: u16 = 8;
    pub const NETNSID: u16 = 9;
    pub const UPCALL_STATS: u16 = 10;
    /// One more than the last that is read.
    pub const N: usize = 11;
}

/// Within the options of a tunnel.
mod tunnel {
    pub const DST_PORT: u16 = 1;
    pub const EXTENSION: u16 = 2;
}

/// Within the counters of upcalls; the first of them is 0.
mod upcall {
    pub const SUCCESS: u16 = 0;
    pub const FAIL: u16 = 1;
}

macro_rules! kinds {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// What a port is (`OVS_VPORT_TYPE_*`).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Kind {
            $($name,)*
            Unknown(u32),
        }

        impl Kind {
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$name => $number,)*
                    Self::Unknown(number) => number,
                }
            }

            pub const fn of_number(number: u32) -> Self {
                match number {
                    $($number => Self::$name,)*
                    number => Self::Unknown(number),
                }
            }

            /// The type of interface that it is; `system` may be a tap, too.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(_) => "unknown",
                }
            }

            /// What carries an interface of type `text` in the datapath.
            pub fn of_text(text: &str) -> Option<Self> {
                match text {
                    "tap" => Some(Self::Netdev),
                    $($text => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Netdev = 1, "system";
    Internal = 2, "internal";
    Gre = 3, "gre";
    Vxlan = 4, "vxlan";
    Geneve = 5, "geneve";
    Erspan = 107, "erspan";
    Ip6Erspan = 108, "ip6erspan";
    Ip6Gre = 109, "ip6gre";
    Gtpu = 110, "gtpu";
    Bareudp = 111, "bareudp";
    Srv6 = 112, "srv6";
}

/// What a tunnel port is made with where the module makes the device itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TunnelOptions {
    /// UDP port, 0 for a protocol without ports.
    pub dst_port: u16,
    /// Bits by number of the extension (`OVS_VXLAN_EXT_GBP` is 1).
    pub extensions: u32,
}

/// Counters of a port (`struct ovs_vport_stats`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub rx_packets: u64,
    pub tx_packets: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub rx_errors: u64,
    pub tx_errors: u64,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

/// A port as the kernel tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vport {
    /// The datapath's interface index.
    pub dp: u32,
    pub number: DpPort,
    pub kind: Kind,
    pub name: String,
    /// Sockets for upcalls.
    pub pids: Vec<u32>,
    pub stats: Stats,
    /// Upcalls that reached userspace and that did not; since Linux 6.3.
    pub upcalls: Option<(u64, u64)>,
    pub ifindex: Option<u32>,
    /// Our number for the network namespace that the device went to; `None` for our own.
    pub namespace: Option<i32>,
    pub options: TunnelOptions,
}

/// Which port is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which<'a> {
    Number(DpPort),
    Name(&'a str),
}

impl Which<'_> {
    fn write(self, attrs: &mut Writer) {
        match self {
            Self::Number(number) => attrs.put_u32(attr::PORT_NO, number.0),
            Self::Name(name) => attrs.put_str(attr::NAME, name),
        }
    }
}

/// A port to add.
#[derive(Clone, Copy, Debug)]
pub struct Add<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// `None` lets the kernel choose.
    pub number: Option<DpPort>,
    /// The socket for upcalls, 0 for none.
    pub pid: u32,
    pub options: Option<TunnelOptions>,
}

/// Adds a port.
///
/// # Errors
/// `EBUSY` if the number is taken or the device is a port already, `EEXIST` if an internal device's name is taken,
/// `EAFNOSUPPORT` for a kind that the kernel lacks.
pub fn add(genl: &Genl, dp: u32, port: &Add<'_>) -> Result<Vport, Error> {
    ask(genl, cmd::NEW, dp, |attrs| {
        if let Some(number) = port.number {
            attrs.put_u32(attr::PORT_NO, number.0);
        }
        attrs.put_u32(attr::TYPE, port.kind.number());
        attrs.put_str(attr::NAME, port.name);
        attrs.put_u32(attr::UPCALL_PID, port.pid);
        if let Some(options) = port.options {
            attrs.nest(attr::OPTIONS, |nest| write_options(options, nest));
        }
    })
}

/// Removes a port.
pub fn delete(genl: &Genl, dp: u32, number: DpPort) -> Result<(), Error> {
    ask(genl, cmd::DEL, dp, |attrs| Which::Number(number).write(attrs)).map(|_| ())
}

/// # Errors
/// `ENODEV` if there is no such port; by name, one of another datapath is none.
pub fn get(genl: &Genl, dp: u32, which: Which<'_>) -> Result<Vport, Error> {
    let port = ask(genl, cmd::GET, dp, |attrs| which.write(attrs))?;
    if dp == 0 || port.dp == dp { Ok(port) } else { Err(sys::errno::Errno::ENODEV.into()) }
}

/// Says where upcalls for packets of a port go.
pub fn set_pid(genl: &Genl, dp: u32, number: DpPort, pid: u32) -> Result<(), Error> {
    let fill = |attrs: &mut Writer| {
        Which::Number(number).write(attrs);
        attrs.put_u32(attr::UPCALL_PID, pid);
    };
    ask(genl, cmd::SET, dp, fill).map(|_| ())
}

/// All ports of a datapath, as the kernel orders them.
pub fn dump(genl: &Genl, dp: u32) -> Result<Vec<Vport>, Error> {
    let family = genl.families.vport;
    genl.dump(family, (cmd::GET, dp), &|_| {}, &|message| decode(family, message))
}

fn ask(genl: &Genl, command: u8, dp: u32, fill: impl FnOnce(&mut Writer)) -> Result<Vport, Error> {
    let family = genl.families.vport;
    genl.ask(family, (command, dp), 0, fill, |message| decode(family, message))
}

fn write_options(options: TunnelOptions, nest: &mut Writer) {
    if options.dst_port != 0 {
        nest.put_u16(tunnel::DST_PORT, options.dst_port);
    }
    if options.extensions != 0 {
        nest.nest(tunnel::EXTENSION, |nest| {
            for bit in (0..32).filter(|bit| options.extensions & 1 << bit != 0) {
                nest.put_flag(bit);
            }
        });
    }
}

fn read_options(attr: &Attr<'_>) -> Result<TunnelOptions, AttrError> {
    let [_, dst_port, extension] = collect::<3>(attr.nested())?;
    let mut options = TunnelOptions::default();
    if let Some(port) = dst_port {
        options.dst_port = port.u16()?;
    }
    for bit in extension.iter().flat_map(Attr::nested) {
        let bit = bit?;
        options.extensions |=
            1u32.checked_shl(u32::from(bit.kind)).ok_or_else(|| bit.invalid("no extension"))?;
    }
    Ok(options)
}

fn read_stats(attr: &Attr<'_>) -> Result<Stats, AttrError> {
    let [rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped] =
        words(attr)?;
    Ok(Stats { rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped })
}

fn read_upcalls(attr: &Attr<'_>) -> Result<(u64, u64), AttrError> {
    let found = collect::<2>(attr.nested())?;
    let count = |kind: u16| found[usize::from(kind)].map_or(Ok(0), |attr| attr.u64());
    Ok((count(upcall::SUCCESS)?, count(upcall::FAIL)?))
}

/// Reads a port.
pub fn decode(family: Family, message: &Message<'_>) -> Result<Vport, Error> {
    let (_, dp, attrs) = family.open(message)?;
    let found = collect::<{ attr::N }>(attrs)?;
    let at = |kind: u16| found[usize::from(kind)];
    let need = |kind: u16| required(at(kind), kind, attrs);
    let pids = at(attr::UPCALL_PID).map_or(&[][..], |attr| attr.data);
    Ok(Vport {
        dp,
        number: DpPort(need(attr::PORT_NO)?.u32()?),
        kind: Kind::of_number(need(attr::TYPE)?.u32()?),
        name: need(attr::NAME)?.str()?.to_owned(),
        pids: pids.as_chunks().0.iter().map(|pid| u32::from_ne_bytes(*pid)).collect(),
        stats: at(attr::STATS).map_or(Ok(Stats::default()), |attr| read_stats(&attr))?,
        upcalls: at(attr::UPCALL_STATS).map(|attr| read_upcalls(&attr)).transpose()?,
        ifindex: at(attr::IFINDEX).map(|attr| attr.u32()).transpose()?,
        namespace: at(attr::NETNSID).map(|attr| attr.u32().map(u32::cast_signed)).transpose()?,
        options: at(attr::OPTIONS).map_or(Ok(TunnelOptions::default()), |attr| read_options(&attr))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{FAMILY, message, put_raw};
    use crate::netlink::Messages;
    use proptest::prelude::*;

    fn read(datagram: &[u8]) -> Result<Vport, Error> {
        decode(FAMILY, &Messages::new(datagram).next().unwrap().unwrap())
    }

    #[test]
    fn a_port_is_read() {
        let options = TunnelOptions { dst_port: 4789, extensions: 1 << 1 };
        let datagram = message(cmd::NEW, 7, |attrs| {
            attrs.put_u32(attr::PORT_NO, 3);
            attrs.put_u32(attr::TYPE, 4);
            attrs.put_str(attr::NAME, "vxlan_sys_4789");
            attrs.put(attr::UPCALL_PID, &[1, 0, 0, 0, 2, 0, 0, 0]);
            attrs.put(attr::STATS, &(1u64..=8).flat_map(u64::to_ne_bytes).collect::<Vec<_>>());
            attrs.put_u32(attr::IFINDEX, 9);
            attrs.put_u32(attr::NETNSID, 5);
            attrs.nest(attr::UPCALL_STATS, |nest| {
                nest.put_u64(upcall::SUCCESS, 11);
                nest.put_u64(upcall::FAIL, 12);
            });
            attrs.nest(attr::OPTIONS, |nest| write_options(options, nest));
        });
        let stats = Stats {
            rx_packets: 1,
            tx_packets: 2,
            rx_bytes: 3,
            tx_bytes: 4,
            rx_errors: 5,
            tx_errors: 6,
            rx_dropped: 7,
            tx_dropped: 8,
        };
        let expected = Vport {
            dp: 7,
            number: DpPort(3),
            kind: Kind::Vxlan,
            name: "vxlan_sys_4789".to_owned(),
            pids: vec![1, 2],
            stats,
            upcalls: Some((11, 12)),
            ifindex: Some(9),
            namespace: Some(5),
            options,
        };
        assert_eq!(read(&datagram), Ok(expected));
    }

    #[test]
    fn bad_ports_are_refused() {
        let detail = |fill: &dyn Fn(&mut Writer)| {
            read(&message(cmd::NEW, 7, |attrs| fill(attrs))).unwrap_err().detail().unwrap().to_owned()
        };
        let named = |attrs: &mut Writer| {
            attrs.put_u32(attr::PORT_NO, 3);
            attrs.put_u32(attr::TYPE, 1);
            attrs.put_str(attr::NAME, "a");
        };
        assert_eq!(detail(&|_| {}), "attribute 1 is missing in the attribute at offset 24");
        let twice = |attrs: &mut Writer| {
            named(attrs);
            attrs.put_u32(attr::PORT_NO, 4);
        };
        assert_eq!(detail(&twice), "attribute 1 at offset 48 is invalid: present twice");
        let extension = |attrs: &mut Writer| {
            named(attrs);
            attrs.nest(attr::OPTIONS, |nest| nest.nest(tunnel::EXTENSION, |nest| nest.put_flag(32)));
        };
        assert_eq!(detail(&extension), "attribute 32 at offset 56 is invalid: no extension");
        let wide = |attrs: &mut Writer| attrs.put_u64(attr::PORT_NO, 3);
        assert_eq!(detail(&wide), "attribute 1 at offset 24 has 8 bytes of payload instead of 4");
    }

    #[test]
    fn kinds_have_names_both_ways() {
        assert_eq!(Kind::of_text("tap"), Some(Kind::Netdev));
        assert_eq!(Kind::of_text("ip6gre").map(Kind::number), Some(109));
        assert_eq!(Kind::of_number(109).text(), "ip6gre");
        assert_eq!((Kind::of_number(99), Kind::of_number(99).text()), (Kind::Unknown(99), "unknown"));
        assert_eq!(Kind::of_text("patch"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn arbitrary_attributes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let datagram = message(cmd::NEW, 7, |attrs| {
                attrs.put_u32(attr::PORT_NO, 3);
                attrs.put_u32(attr::TYPE, 1);
                attrs.put_str(attr::NAME, "a");
                put_raw(attrs, &bytes);
            });
            let _ = read(&datagram);
        }

        #[test]
        fn arbitrary_payloads_do_not_panic(
            kind in 1..11u16,
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = read(&message(cmd::NEW, 7, |attrs| attrs.put(kind, &bytes)));
        }
    }
}
