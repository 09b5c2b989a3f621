//! The fields of a match, one at a time: `nw_dst=10.0.0.0/8`, `tcp`, `reg0[0..3]=5`.

use flow::field::{Field, Subfield, Value};
use flow::key::Key;
use flow::mini::FullMatch;
use flow::proto::{self, ethertype};
use zerocopy::big_endian::{U16, U32};

use crate::action::learn::require;
use crate::names::{Names, tell_of_port};
use crate::protocol::{Protocols, usable_with_mask};
use crate::text::{Pairs, Parsed, refuse, scan_number};

/// An abbreviation of an Ethernet type and an IP protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abbreviation {
    pub name: &'static str,
    pub dl_type: u16,
    /// 0 for any.
    pub nw_proto: u8,
}

const fn row(name: &'static str, dl_type: u16, nw_proto: u8) -> Abbreviation {
    Abbreviation { name, dl_type, nw_proto }
}

const ABBREVIATIONS: [Abbreviation; 17] = [
    row("ip", ethertype::IPV4, 0),
    row("ipv4", ethertype::IPV4, 0),
    row("ip4", ethertype::IPV4, 0),
    row("arp", ethertype::ARP, 0),
    row("icmp", ethertype::IPV4, proto::ip::ICMP),
    row("tcp", ethertype::IPV4, proto::ip::TCP),
    row("udp", ethertype::IPV4, proto::ip::UDP),
    row("sctp", ethertype::IPV4, proto::ip::SCTP),
    row("ipv6", ethertype::IPV6, 0),
    row("ip6", ethertype::IPV6, 0),
    row("icmp6", ethertype::IPV6, proto::ip::ICMPV6),
    row("tcp6", ethertype::IPV6, proto::ip::TCP),
    row("udp6", ethertype::IPV6, proto::ip::UDP),
    row("sctp6", ethertype::IPV6, proto::ip::SCTP),
    row("rarp", ethertype::RARP, 0),
    row("mpls", ethertype::MPLS, 0),
    row("mplsm", ethertype::MPLS_MCAST, 0),
];

impl Abbreviation {
    /// The abbreviation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        ABBREVIATIONS.into_iter().find(|row| row.name == name)
    }
}

/// A match that grows as text is parsed.
#[derive(Clone)]
pub struct Builder<'a> {
    pub flow: FullMatch,
    /// The formats that can express it.
    pub usable: Protocols,
    pub names: &'a Names,
    /// Bytes of the tunnel options that are required.
    options: usize,
}

impl<'a> Builder<'a> {
    /// A match of everything.
    pub fn new(names: &'a Names) -> Self {
        Self { flow: FullMatch::default(), usable: Protocols::ANY, names, options: 0 }
    }

    /// Takes a key that stands for part of a match, with its value; `None` if it stands for none.
    pub fn take(&mut self, name: &str, value: &str) -> Option<Parsed<()>> {
        if let Some(abbreviation) = Abbreviation::from_name(name) {
            self.abbreviation(abbreviation);
            self.default_packet_type();
        } else if name == "eth" {
            self.packet_type(proto::PT_ETH);
        } else if let Some(field) = Field::from_name(name) {
            return Some(self.field(field, value));
        } else if name.contains('[') {
            return Some(self.subfield(name, value));
        } else {
            return None;
        }
        Some(Ok(()))
    }

    /// Requires an Ethernet type and an IP protocol, whatever the packet type.
    pub fn abbreviation(&mut self, abbreviation: Abbreviation) {
        let FullMatch { key, mask } = &mut self.flow;
        key.dl_type = U16::new(abbreviation.dl_type);
        mask.0.dl_type = U16::new(0xffff);
        if abbreviation.nw_proto != 0 {
            key.nw_proto = abbreviation.nw_proto;
            mask.0.nw_proto = 0xff;
        }
    }

    /// Requires what the text of a field's value says.
    pub fn field(&mut self, field: Field, text: &str) -> Parsed<()> {
        // A field alone asks only that it be there, which its prerequisites say.
        let text = if text.is_empty() { "0/0" } else { text };
        tell_of_port(field, text);
        let (value, mask) = field.parse(text, self.names)?;
        if field.is_tun_metadata() && !flow::tlv::has_bridge() {
            self.make_room(field, &value, &mask)?;
        }
        self.require(field, &value, &mask);
        Ok(())
    }

    /// Refuses a tunnel option that is required already, or that no key has room for.
    fn make_room(&mut self, field: Field, value: &Value, mask: &Value) -> Parsed<()> {
        let len = |value: &Value| value.len() - value.bytes().iter().take_while(|&&byte| byte == 0).count();
        self.options += if mask.is_ones() { len(value) } else { len(value).max(len(mask)) };
        let (used, max) = (self.options, flow::key::TUN_METADATA_BYTES);
        if used > max {
            refuse!("field {field} exceeds maximum size for tunnel metadata (used {used}, max {max})");
        }
        if !field.is_wild(&self.flow.mask) {
            refuse!("field {field} set multiple times");
        }
        Ok(())
    }

    fn require(&mut self, field: Field, value: &Value, mask: &Value) {
        self.usable &= usable_with_mask(field, mask);
        field.set_match(&mut self.flow, value, mask);
        self.add_prerequisite(field);
    }

    fn subfield(&mut self, name: &str, text: &str) -> Parsed<()> {
        let dst = Subfield::parse(name)?;
        let Some((value, "")) = scan_number(text, dst.field.n_bytes()) else {
            refuse!("{name}: cannot parse integer value: {text}");
        };
        if (usize::from(dst.n_bits)..value.len() * 8).any(|bit| value.bit(bit)) {
            let value = dst.field.value_text(&value);
            refuse!("{name}: value {value} does not fit into {} bits", dst.n_bits);
        }
        require(&mut self.flow, &dst, &value);
        self.usable &= usable_with_mask(dst.field, &dst.field.get(&self.flow.mask.0));
        self.add_prerequisite(dst.field);
        Ok(())
    }

    /// Fields of Ethernet packets make the match one of Ethernet packets.
    fn add_prerequisite(&mut self, field: Field) {
        if field.info().prereq != flow::field::Prereq::Always {
            self.default_packet_type();
        }
    }

    fn default_packet_type(&mut self) {
        if self.flow.mask.0.packet_type.get() == 0 {
            self.packet_type(proto::PT_ETH);
        }
    }

    /// Requires a packet type.
    pub fn packet_type(&mut self, packet_type: u32) {
        self.flow.key.packet_type = U32::new(packet_type);
        self.flow.mask.0.packet_type = U32::new(u32::MAX);
    }

    /// Ends the match: what follows from combinations of fields.
    pub fn finish(&mut self) {
        let FullMatch { key, mask } = &mut self.flow;
        let packet_type = key.packet_type.get();
        if mask.0.packet_type.get() == u32::MAX && packet_type >> 16 == proto::PT_NS_ETHERTYPE {
            key.dl_type = U16::new(packet_type as u16);
        }
        // OpenFlow 1.0 and 1.1 cannot match what is inside IPv6.
        let mask = &mask.0;
        let inside =
            mask.nw_proto != 0 || mask.nw_tos != 0 || mask.tp_src.get() != 0 || mask.tp_dst.get() != 0;
        if key.dl_type.get() == ethertype::IPV6 && inside {
            self.usable &= Protocols::NXM_OXM_ANY;
        }
    }
}

/// Parses a flow whose every field is given exactly, as `ofproto/trace` takes it; `mask` gets the fields given.
///
/// # Errors
/// OVS's words.
pub fn exact_key(text: &str, names: &Names) -> Parsed<FullMatch> {
    let mut flow = FullMatch::default();
    for (name, value) in Pairs::new(text) {
        match Abbreviation::from_name(name) {
            Some(abbreviation) => exact_abbreviation(text, abbreviation, &mut flow)?,
            None => exact_field(text, name, value, names, &mut flow)?,
        }
    }
    if flow.key.in_port == 0 {
        flow.key.in_port = flow::id::OfPort::NONE.0.into();
    }
    Ok(flow)
}

fn exact_abbreviation(text: &str, abbreviation: Abbreviation, flow: &mut FullMatch) -> Parsed<()> {
    let Key { dl_type, nw_proto, .. } = &mut flow.key;
    if dl_type.get() != 0 {
        refuse!("{text}: Ethernet type set multiple times");
    }
    *dl_type = U16::new(abbreviation.dl_type);
    flow.mask.0.dl_type = U16::new(0xffff);
    if abbreviation.nw_proto != 0 {
        if *nw_proto != 0 {
            refuse!("{text}: network protocol set multiple times");
        }
        *nw_proto = abbreviation.nw_proto;
        flow.mask.0.nw_proto = 0xff;
    }
    Ok(())
}

fn exact_field(text: &str, name: &str, value: &str, names: &Names, flow: &mut FullMatch) -> Parsed<()> {
    let Some(field) = Field::from_name(name) else { refuse!("{text}: unknown field {name}") };
    if !field.prereqs_ok(&flow.key) {
        refuse!("{text}: prerequisites not met for setting {name}");
    }
    if field.is_set(&flow.key) {
        refuse!("{text}: field {name} set multiple times");
    }
    match field.parse_value(value, names) {
        Ok(value) => field.set(&mut flow.key, &value),
        Err(error) => refuse!("{text}: bad value for {name} ({error})"),
    }
    field.mask_exact(&mut flow.mask);
    Ok(())
}
