//! The options of a tunnel, both ways.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sys::errno::Errno;

use super::{Config, Csum, DEFAULT_TTL, Endpoint, Exts, FlowLabel, Kind, Layers, Or, Packets, TunnelKey};

const DSCP: i64 = 0xfc;
const ERSPAN_INDEX: i64 = 0xf_ffff;
const ERSPAN_HARDWARE: i64 = 0x3f;
const SRV6_SEGMENTS: usize = 6;
const MPLS: u16 = 0x8847;
const IPV4: u16 = 0x0800;

/// The configuration that options ask for, and what is wrong with them. What only warns leaves a configuration.
pub(super) fn read(
    kind: &Kind,
    name: &str,
    options: &BTreeMap<String, String>,
) -> (Result<Config, Errno>, Vec<String>) {
    let config = Config { csum: Csum::Default, ..Config::empty(kind) };
    let mut reader = Reader { kind, name, config, local: None, remote: None, faults: Vec::new() };
    let result = reader.all(options);
    (result.map(|()| reader.config), reader.faults)
}

/// The options cannot be obeyed; the fault is among the faults.
struct Fatal;

struct Reader<'a> {
    kind: &'a Kind,
    name: &'a str,
    config: Config,
    /// The addresses that were given.
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn all(&mut self, options: &BTreeMap<String, String>) -> Result<(), Errno> {
        self.each(options).and_then(|()| self.whole(options)).map_err(|Fatal| Errno::EINVAL)
    }

    fn warn(&mut self, text: impl std::fmt::Display) {
        self.faults.push(format!("{}: {text}", self.name));
    }

    fn refuse<T>(&mut self, text: impl std::fmt::Display) -> Result<T, Fatal> {
        self.warn(text);
        Err(Fatal)
    }

    fn each(&mut self, options: &BTreeMap<String, String>) -> Result<(), Fatal> {
        for (key, value) in options {
            if key.starts_with("erspan_") {
                self.erspan(key, value)?;
            } else {
                self.one(key, value)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, key: &str, value: &str) -> Result<(), Fatal> {
        let config = &mut self.config;
        match key {
            "remote_ip" => self.remote_ip(value)?,
            "local_ip" => match endpoint(value) {
                Some((endpoint, ip)) => (config.local, self.local) = (endpoint, ip),
                None => self.bad(key),
            },
            "tos" => self.tos(value),
            "ttl" if value == "inherit" => config.ttl = Or::Other,
            "ttl" => config.ttl = Or::Fixed(atoi(value) as u8),
            "dst_port" if self.kind.default_port.is_some() => config.dst_port = atoi(value) as u16,
            "csum" if self.kind.csum.is_some() => match value {
                "true" => config.csum = Csum::Enabled,
                "false" => config.csum = Csum::Disabled,
                _ => {}
            },
            "seq" if self.kind.seq => config.seq |= value == "true",
            "df_default" => config.dont_fragment &= value != "false",
            "exts" if self.kind.name == "vxlan" => self.exts(value),
            "egress_pkt_mark" => config.egress_mark = Some(integer(value, 10).0 as u32),
            "srv6_segs" => match segments(value) {
                Some(segments) => config.srv6_segments = segments,
                None => self.warn(format_args!("bad {value} 'srv6_segs'")),
            },
            "srv6_flowlabel" => {
                config.srv6_flow_label = match value {
                    "zero" => FlowLabel::Zero,
                    "compute" => FlowLabel::Compute,
                    _ => FlowLabel::Copy,
                }
            }
            "payload_type" => self.payload_type(value)?,
            // All options together decide over these.
            "key" | "in_key" | "out_key" | "packet_type" => {}
            // Those of who encrypts tunnels.
            "remote_cert" | "remote_name" | "psk" => {}
            _ if key.starts_with("ipsec_") => {}
            _ => self.unknown(key),
        }
        Ok(())
    }

    fn unknown(&mut self, key: &str) {
        self.warn(format_args!("unknown {} argument '{key}'", self.kind.name));
    }

    fn bad(&mut self, key: &str) {
        self.warn(format_args!("bad {} '{key}'", self.kind.name));
    }

    fn remote_ip(&mut self, value: &str) -> Result<(), Fatal> {
        match endpoint(value) {
            None => self.bad("remote_ip"),
            Some((_, Some(ip))) if ip.is_multicast() => {
                return self.refuse(format_args!("multicast remote_ip={value} not allowed"));
            }
            Some((endpoint, ip)) => (self.config.remote, self.remote) = (endpoint, ip),
        }
        Ok(())
    }

    fn tos(&mut self, value: &str) {
        if value == "inherit" {
            self.config.tos = Or::Other;
            return;
        }
        match integer(value, 0) {
            (tos, "") if tos & DSCP == tos => self.config.tos = Or::Fixed(tos as u8),
            _ => self.warn(format_args!("invalid TOS {value}")),
        }
    }

    fn exts(&mut self, value: &str) {
        for ext in value.split(',').filter(|ext| !ext.is_empty()) {
            match ext {
                "gbp" => self.config.exts |= Exts::GBP,
                "gpe" => self.config.exts |= Exts::GPE,
                _ => self.warn(format_args!("unknown extension '{ext}'")),
            }
        }
    }

    fn payload_type(&mut self, value: &str) -> Result<(), Fatal> {
        self.config.payload_ethertype = match value {
            "mpls" => MPLS,
            "ip" => IPV4,
            _ => match integer(value, 0) {
                (number, "") if (0..=0xffff).contains(&number) && !value.is_empty() => number as u16,
                _ => return self.refuse(format_args!("bad {value} 'payload_type'")),
            },
        };
        if matches!(value, "mpls" | "ip") {
            self.config.exts |= Exts::MULTIPROTO;
        }
        Ok(())
    }

    fn erspan(&mut self, key: &str, value: &str) -> Result<(), Fatal> {
        let by_flow = value == "flow";
        let config = &mut self.config;
        match key {
            "erspan_idx" if by_flow => config.erspan_index = Or::Other,
            "erspan_idx" => match integer(value, 16).0 {
                index if index & ERSPAN_INDEX == index => config.erspan_index = Or::Fixed(index as u32),
                _ => return self.refuse(format_args!("invalid erspan index: {value}")),
            },
            "erspan_ver" if by_flow => {
                config.erspan_version = Or::Other;
                config.erspan_index = Or::Other;
                (config.erspan_direction, config.erspan_hardware) = (Or::Other, Or::Other);
            }
            "erspan_ver" => match atoi(value) {
                version @ (1 | 2) => config.erspan_version = Or::Fixed(version as u8),
                _ => return self.refuse(format_args!("invalid erspan version: {value}")),
            },
            "erspan_dir" if by_flow => config.erspan_direction = Or::Other,
            "erspan_dir" => match atoi(value) {
                direction @ (0 | 1) => config.erspan_direction = Or::Fixed(direction as u8),
                _ => return self.refuse(format_args!("invalid erspan direction: {value}")),
            },
            "erspan_hwid" if by_flow => config.erspan_hardware = Or::Other,
            "erspan_hwid" => match integer(value, 16).0 {
                id if id & ERSPAN_HARDWARE == id => config.erspan_hardware = Or::Fixed(id as u8),
                _ => return self.refuse(format_args!("invalid erspan hardware ID: {value}")),
            },
            _ => self.unknown(key),
        }
        Ok(())
    }

    /// What several options decide together.
    fn whole(&mut self, options: &BTreeMap<String, String>) -> Result<(), Fatal> {
        if self.config.csum == Csum::Default {
            self.config.csum = self.kind.csum.unwrap_or(Csum::Off);
        }
        self.packet_type(options.get("packet_type").map(String::as_str))?;
        let kind = self.kind.name;
        if matches!(self.config.remote, Endpoint::Any | Endpoint::Fixed(Ipv6Addr::UNSPECIFIED)) {
            return self.refuse(format_args!("{kind} type requires valid 'remote_ip' argument"));
        }
        if self.config.local == Endpoint::Flow && self.config.remote != Endpoint::Flow {
            return self.refuse(format_args!("{kind} type requires 'remote_ip=flow' with 'local_ip=flow'"));
        }
        if let (Some(local), Some(remote)) = (self.local, self.remote)
            && local.is_ipv4() != remote.is_ipv4()
        {
            return self.refuse("'remote_ip' and 'local_ip' has to be of the same address family");
        }
        if self.config.ttl == Or::Fixed(0) {
            self.config.ttl = Or::Fixed(DEFAULT_TTL);
        }
        let key = |name: &str| tunnel_key(options.get(name).or_else(|| options.get("key")));
        (self.config.in_key, self.config.out_key) = (key("in_key"), key("out_key"));
        Ok(())
    }

    fn packet_type(&mut self, wanted: Option<&str>) -> Result<(), Fatal> {
        let exts = self.config.exts;
        let layers = self.kind.layers(exts);
        let kind = match self.kind.name {
            "vxlan" if exts.contains(Exts::GPE) => "VXLAN-GPE",
            "vxlan" => "VXLAN (without GPE)",
            kind => kind,
        };
        let carries =
            |mode, layer| format!("{mode} configured on {kind} tunnel that cannot carry {layer} traffic");
        self.config.packets = match wanted {
            None => self.kind.usual_packets(exts),
            Some("legacy_l2") if layers == Layers::L3 => return self.refuse(carries("legacy_l2", "L2")),
            Some("legacy_l2") => Packets::LegacyL2,
            Some("legacy_l3") if layers == Layers::L2 => return self.refuse(carries("legacy_l3", "L3")),
            Some("legacy_l3") => Packets::LegacyL3,
            Some("ptap") => Packets::Aware,
            Some(other) => return self.refuse(format_args!("unknown packet_type '{other}'")),
        };
        Ok(())
    }
}

fn tunnel_key(value: Option<&String>) -> TunnelKey {
    match value.map(String::as_str) {
        None => TunnelKey::Absent,
        Some("flow") => TunnelKey::Flow,
        Some(number) => TunnelKey::Fixed(unsigned(number)),
    }
}

/// What an address option says; `None` if it is no address.
fn endpoint(value: &str) -> Option<(Endpoint, Option<IpAddr>)> {
    if value == "flow" {
        return Some((Endpoint::Flow, None));
    }
    if value.contains(':') {
        let Ok(ip) = value.parse::<Ipv6Addr>() else {
            tracing::error!(target: "socket_util", rl = "1,5", "\"{value}\" is not a valid IPv6 address");
            return None;
        };
        return Some((Endpoint::Fixed(ip), Some(ip.into())));
    }
    let Ok(ip) = value.parse::<Ipv4Addr>() else {
        tracing::error!(target: "socket_util", rl = "1,5", "\"{value}\" is not a valid IP address");
        return None;
    };
    Some((Endpoint::Fixed(ip.to_ipv6_mapped()), Some(ip.into())))
}

fn segments(value: &str) -> Option<Vec<Ipv6Addr>> {
    let words = value.split(',').filter(|word| !word.is_empty());
    let segments = words.map(|word| word.parse().ok()).collect::<Option<Vec<_>>>()?;
    (segments.len() <= SRV6_SEGMENTS).then_some(segments)
}

/// As C's `strtol`: the number that a text begins with, and the rest. Base 0 looks for `0x` and `0`.
fn integer(text: &str, base: u32) -> (i64, &str) {
    let trimmed = text.trim_start();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
        .filter(|rest| matches!(base, 0 | 16) && rest.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (base, digits) = match hexadecimal {
        Some(rest) => (16, rest),
        None if base == 0 && digits.starts_with('0') => (8, digits),
        None => (if base == 0 { 10 } else { base }, digits),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    if end == 0 {
        return (0, text);
    }
    let number = digits[..end]
        .chars()
        .filter_map(|c| c.to_digit(base))
        .fold(0_i64, |number, digit| number.saturating_mul(base.into()).saturating_add(digit.into()));
    (if negative { -number } else { number }, &digits[end..])
}

/// As C's `strtoull` with base 0.
fn unsigned(text: &str) -> u64 {
    let trimmed = text.trim_start();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    let (number, _) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(rest) => (u64_of(rest, 16), ()),
        None if digits.starts_with('0') => (u64_of(digits, 8), ()),
        None => (u64_of(digits, 10), ()),
    };
    if trimmed.starts_with('-') { number.wrapping_neg() } else { number }
}

fn u64_of(text: &str, base: u32) -> u64 {
    let digits = text.chars().map_while(|c| c.to_digit(base));
    digits.fold(0_u64, |number, digit| number.saturating_mul(base.into()).saturating_add(digit.into()))
}

/// As C's `atoi`.
fn atoi(text: &str) -> i64 {
    integer(text, 10).0
}

/// The options that differ from what a tunnel has without them, as OVS shows them.
pub(super) fn write(kind: &Kind, config: &Config) -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    let mut put = |key: &str, value: String| _ = rows.insert(key.to_owned(), value);
    let flow = || "flow".to_owned();
    for (key, endpoint) in [("remote_ip", config.remote), ("local_ip", config.local)] {
        match endpoint {
            Endpoint::Any => {}
            Endpoint::Flow => put(key, flow()),
            Endpoint::Fixed(ip) => put(key, ip.to_canonical().to_string()),
        }
    }
    if config.in_key == config.out_key {
        put_key("key", config.in_key, &mut put);
    } else {
        put_key("in_key", config.in_key, &mut put);
        put_key("out_key", config.out_key, &mut put);
    }
    match config.ttl {
        Or::Other => put("ttl", "inherit".to_owned()),
        Or::Fixed(DEFAULT_TTL) => {}
        Or::Fixed(ttl) => put("ttl", ttl.to_string()),
    }
    match config.tos {
        Or::Other => put("tos", "inherit".to_owned()),
        Or::Fixed(0) => {}
        Or::Fixed(tos) => put("tos", format!("{tos:#x}")),
    }
    if kind.default_port.is_some_and(|usual| config.dst_port != usual && config.dst_port != 0) {
        put("dst_port", config.dst_port.to_string());
    }
    match config.csum {
        Csum::Enabled => put("csum", "true".to_owned()),
        Csum::Disabled => put("csum", "false".to_owned()),
        Csum::Default | Csum::Off => {}
    }
    if config.seq {
        put("seq", "true".to_owned());
    }
    if config.packets != kind.usual_packets(config.exts) {
        let mode = match config.packets {
            Packets::LegacyL2 => "legacy_l2",
            Packets::LegacyL3 => "legacy_l3",
            Packets::Aware => "ptap",
        };
        put("packet_type", mode.to_owned());
    }
    if !config.dont_fragment {
        put("df_default", "false".to_owned());
    }
    if let Some(mark) = config.egress_mark {
        put("egress_pkt_mark", mark.to_string());
    }
    if matches!(kind.name, "erspan" | "ip6erspan") {
        write_erspan(config, &mut put);
    }
    rows
}

fn put_key(name: &str, key: TunnelKey, put: &mut impl FnMut(&str, String)) {
    match key {
        TunnelKey::Absent => {}
        TunnelKey::Flow => put(name, "flow".to_owned()),
        TunnelKey::Fixed(number) => put(name, number.to_string()),
    }
}

fn write_erspan(config: &Config, put: &mut impl FnMut(&str, String)) {
    let flow = || "flow".to_owned();
    let Or::Fixed(version) = config.erspan_version else {
        // What there is depends on the version.
        for key in ["erspan_ver", "erspan_idx", "erspan_dir", "erspan_hwid"] {
            put(key, flow());
        }
        return;
    };
    put("erspan_ver", version.to_string());
    if version == 1 {
        put(
            "erspan_idx",
            if let Or::Fixed(index) = config.erspan_index { format!("{index:#x}") } else { flow() },
        );
    }
    if version == 2 {
        let direction = config.erspan_direction;
        put("erspan_dir", if let Or::Fixed(direction) = direction { direction.to_string() } else { flow() });
        put(
            "erspan_hwid",
            if let Or::Fixed(id) = config.erspan_hardware { format!("{id:#x}") } else { flow() },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netdev::tunnel::kind;
    use proptest::prelude::*;

    fn options(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// What comes back of options, and the faults.
    fn shown(name: &str, text: &str) -> (Option<String>, Vec<String>) {
        let kind = kind(name).unwrap();
        let (config, faults) = read(kind, "t", &options(text));
        let rows = config.ok().map(|config| write(kind, &config));
        let text =
            rows.map(|rows| rows.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "));
        (text, faults)
    }

    #[test]
    fn options_come_back() {
        for (kind, text) in [
            ("gre", "remote_ip=1.1.1.1"),
            ("gre", "csum=true df_default=false key=5 local_ip=2.2.2.3 remote_ip=1.1.1.1 ttl=1"),
            ("gre", "in_key=2 out_key=3 remote_ip=1.1.1.1"),
            ("gre", "out_key=5 packet_type=legacy_l3 remote_ip=1.1.1.1 seq=true"),
            ("gre", "key=flow remote_ip=1.1.1.1 tos=inherit ttl=inherit"),
            ("vxlan", "dst_port=8472 local_ip=flow remote_ip=flow tos=0x10"),
            ("vxlan", "egress_pkt_mark=1234 remote_ip=2001:cafe::1"),
            ("bareudp", "dst_port=6635 remote_ip=1.1.1.1"),
            ("erspan", "erspan_idx=0x7 erspan_ver=1 key=1 remote_ip=1.1.1.1"),
            ("erspan", "erspan_dir=1 erspan_hwid=0x7 erspan_ver=2 key=2 remote_ip=1.1.1.1"),
        ] {
            assert_eq!(shown(kind, text), (Some(text.to_owned()), Vec::new()));
        }
        assert_eq!(
            shown("geneve", "remote_ip=1.1.1.1 dst_port=6081 ttl=64 tos=0").0.unwrap(),
            "remote_ip=1.1.1.1"
        );
    }

    #[test]
    fn refusals_are_in_ovs_words() {
        for (kind, text, fault) in [
            ("gre", "", "t: gre type requires valid 'remote_ip' argument"),
            ("gre", "remote_ip=224.0.0.1", "t: multicast remote_ip=224.0.0.1 not allowed"),
            (
                "gre",
                "remote_ip=1.1.1.1 local_ip=flow",
                "t: gre type requires 'remote_ip=flow' with 'local_ip=flow'",
            ),
            (
                "vxlan",
                "remote_ip=1.1.1.1 local_ip=::1",
                "t: 'remote_ip' and 'local_ip' has to be of the same address family",
            ),
            ("gre", "remote_ip=1.1.1.1 packet_type=x", "t: unknown packet_type 'x'"),
            (
                "vxlan",
                "remote_ip=1.1.1.1 packet_type=legacy_l3",
                "t: legacy_l3 configured on VXLAN (without GPE) tunnel that cannot carry L3 traffic",
            ),
            (
                "gtpu",
                "remote_ip=1.1.1.1 packet_type=legacy_l2",
                "t: legacy_l2 configured on gtpu tunnel that cannot carry L2 traffic",
            ),
            ("erspan", "remote_ip=1.1.1.1 erspan_ver=3", "t: invalid erspan version: 3"),
            ("erspan", "remote_ip=1.1.1.1 erspan_idx=100000", "t: invalid erspan index: 100000"),
            ("bareudp", "remote_ip=1.1.1.1 payload_type=x", "t: bad x 'payload_type'"),
        ] {
            assert_eq!(shown(kind, text), (None, vec![fault.to_owned()]));
        }
    }

    #[test]
    fn warnings_leave_a_tunnel() {
        for (kind, text, fault) in [
            ("gre", "remote_ip=1.1.1.1 foo=1", "t: unknown gre argument 'foo'"),
            ("gre", "remote_ip=1.1.1.1 dst_port=1", "t: unknown gre argument 'dst_port'"),
            ("gre", "remote_ip=1.1.1.1 tos=3", "t: invalid TOS 3"),
            ("gre", "remote_ip=1.1.1.1 local_ip=x", "t: bad gre 'local_ip'"),
            ("vxlan", "remote_ip=1.1.1.1 exts=foo", "t: unknown extension 'foo'"),
        ] {
            assert_eq!(shown(kind, text), (Some("remote_ip=1.1.1.1".to_owned()), vec![fault.to_owned()]));
        }
    }

    #[test]
    fn extensions_decide_what_is_carried() {
        assert_eq!(
            shown("vxlan", "exts=gpe packet_type=ptap remote_ip=1.1.1.1").0.unwrap(),
            "packet_type=ptap remote_ip=1.1.1.1"
        );
        let (config, _) = read(kind("vxlan").unwrap(), "t", &options("exts=gbp,gpe remote_ip=1.1.1.1"));
        assert_eq!(config.unwrap().exts, Exts::GBP | Exts::GPE);
    }

    proptest! {
        #[test]
        fn nothing_panics(pairs in proptest::collection::btree_map("[a-z_]{1,12}|remote_ip|ttl|tos|key|erspan_(ver|idx|hwid)", ".{0,12}", 0..5)) {
            for kind in super::super::KINDS {
                let _ = read(kind, "t", &pairs);
            }
        }
    }
}
