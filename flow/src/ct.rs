//! Which tracked connections are meant: what flushing them names, by OpenFlow (`NXT_CT_FLUSH`) and by `dpctl`.

use crate::id::Zone;
use crate::key::Ipv6;
use crate::proto::ip;
use crate::text::{Pairs, Scan, hex_bytes};
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, Ipv6Addr};

/// One direction's addresses and ports; zero matches anything.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtTuple {
    /// IPv4 addresses are mapped into IPv6.
    pub src: Ipv6,
    pub dst: Ipv6,
    /// Port, or ICMP id.
    pub src_port: u16,
    pub dst_port: u16,
    pub icmp_type: u8,
    pub icmp_code: u8,
}

/// Which family the addresses of a match are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L3 {
    V4,
    V6,
}

/// Which connections are meant, beside their zone.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CtMatch {
    pub ip_proto: u8,
    pub l3: Option<L3>,
    pub orig: CtTuple,
    pub reply: CtTuple,
    pub mark: u32,
    pub mark_mask: u32,
    pub labels: u128,
    pub labels_mask: u128,
}

/// Whether the tuples of this protocol have an ICMP id instead of ports.
pub fn is_icmp(ip_proto: u8) -> bool {
    matches!(ip_proto, ip::ICMP | ip::ICMPV6)
}

impl CtTuple {
    fn is_zero(&self, ip_proto: u8) -> bool {
        let ports = !is_icmp(ip_proto) && (self.src_port != 0 || self.dst_port != 0);
        self.src == [0; 16] && self.dst == [0; 16] && !ports
    }

    fn is_full(&self, ip_proto: u8) -> bool {
        let ports = is_icmp(ip_proto) || (self.src_port != 0 && self.dst_port != 0);
        self.src != [0; 16] && self.dst != [0; 16] && ports
    }

    fn fmt(&self, ip_proto: u8, l3: Option<L3>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if l3 == Some(L3::V4) { "ct_nw" } else { "ct_ipv6" };
        write!(f, "{prefix}_src={},{prefix}_dst={},", addr_text(self.src), addr_text(self.dst))?;
        if is_icmp(ip_proto) {
            let (id, kind, code) = (self.src_port, self.icmp_type, self.icmp_code);
            write!(f, "icmp_id={id},icmp_type={kind},icmp_code={code}")
        } else {
            write!(f, "ct_tp_src={},ct_tp_dst={}", self.src_port, self.dst_port)
        }
    }
}

/// An address, as IPv4 if it is a mapped one.
fn addr_text(addr: Ipv6) -> String {
    let addr = Ipv6Addr::from(addr);
    addr.to_ipv4_mapped().map_or_else(|| addr.to_string(), |v4| v4.to_string())
}

/// As OVS logs and prints it: `mark=0xab/0xcd labels=0x1 'ORIG,ct_nw_proto=6' 'REPLY'`.
impl Display for CtMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mark_mask != 0 {
            write_masked(f, "mark", &self.mark.to_be_bytes(), &self.mark_mask.to_be_bytes())?;
        }
        if self.labels_mask != 0 {
            write_masked(f, "labels", &self.labels.to_be_bytes(), &self.labels_mask.to_be_bytes())?;
        }
        f.write_str("'")?;
        self.orig.fmt(self.ip_proto, self.l3, f)?;
        write!(f, ",ct_nw_proto={}' '", self.ip_proto)?;
        self.reply.fmt(self.ip_proto, self.l3, f)?;
        f.write_str("'")
    }
}

fn write_masked(f: &mut fmt::Formatter<'_>, name: &str, value: &[u8], mask: &[u8]) -> fmt::Result {
    write!(f, "{name}={}", hex_bytes(value))?;
    if mask.iter().any(|&byte| byte != 0xff) {
        write!(f, "/{}", hex_bytes(mask))?;
    }
    f.write_str(" ")
}

impl CtMatch {
    /// Whether it matches everything.
    pub fn is_zero(&self) -> bool {
        let tuples = self.orig.is_zero(self.ip_proto) && self.reply.is_zero(self.ip_proto);
        self.ip_proto == 0 && self.l3.is_none() && tuples && self.mark_mask == 0 && self.labels_mask == 0
    }

    /// Whether it names one connection by its original direction alone.
    pub fn is_five_tuple(&self) -> bool {
        let tuples = self.orig.is_full(self.ip_proto) && self.reply.is_zero(self.ip_proto);
        tuples && self.mark_mask == 0 && self.labels_mask == 0
    }

    /// Reads `[zone=N] [mark=X[/M]] [labels=Y[/N]] [ORIG [REPLY]]`; the zone apart.
    ///
    /// # Errors
    /// What is wrong, in OVS's words.
    pub fn parse<S: AsRef<str>>(args: &[S]) -> Result<(Self, Option<Zone>), String> {
        let mut args = args.iter().map(AsRef::as_ref).peekable();
        let mut this = Self::default();
        let mut zone = None;
        if let Some(text) = args.next_if(|text| text.starts_with("zone=")) {
            zone = Some(leading_zone(&text[5..]).ok_or("failed to parse zone")?);
        }
        if let Some(text) = args.next_if(|text| text.starts_with("mark=")) {
            let (mark, mask) = parse_masked(&text[5..]).ok_or("failed to parse mark")?;
            (this.mark, this.mark_mask) = (u32::from_be_bytes(mark), u32::from_be_bytes(mask));
        }
        if let Some(text) = args.next_if(|text| text.starts_with("labels=")) {
            let (labels, mask) = parse_masked(&text[7..]).ok_or("failed to parse labels")?;
            (this.labels, this.labels_mask) = (u128::from_be_bytes(labels), u128::from_be_bytes(mask));
        }
        for reply in [false, true] {
            let Some(text) = args.next() else { break };
            this.parse_tuple(text, reply)?;
        }
        if args.next().is_some() {
            return Err("invalid arguments".to_owned());
        }
        Ok((this, zone))
    }

    fn parse_tuple(&mut self, text: &str, reply: bool) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        for (key, value) in Pairs::new(text) {
            if value.is_empty() {
                return Err(format!("field {key} missing value"));
            }
            self.set(reply, key, value)?;
        }
        let tuple = if reply { &self.reply } else { &self.orig };
        if self.ip_proto == 0 && (tuple.src_port != 0 || tuple.dst_port != 0) {
            return Err("port is set without protocol".to_owned());
        }
        Ok(())
    }

    fn set(&mut self, reply: bool, key: &str, value: &str) -> Result<(), String> {
        let failed = || format!("failed to parse field {key}");
        let tuple = if reply { &mut self.reply } else { &mut self.orig };
        match key {
            "ct_nw_src" | "ct_nw_dst" | "ct_ipv6_src" | "ct_ipv6_dst" => {
                return self.set_address(reply, key, value);
            }
            "ct_nw_proto" => self.ip_proto = number(value).ok_or_else(failed)?,
            "ct_tp_src" => tuple.src_port = number(value).ok_or_else(failed)?,
            "ct_tp_dst" => tuple.dst_port = number(value).ok_or_else(failed)?,
            "icmp_type" | "icmp_code" | "icmp_id" if !is_icmp(self.ip_proto) => {
                return Err("invalid L4 fields".to_owned());
            }
            "icmp_type" => tuple.icmp_type = number(value).ok_or_else(failed)?,
            "icmp_code" => tuple.icmp_code = number(value).ok_or_else(failed)?,
            "icmp_id" => tuple.src_port = number(value).ok_or_else(failed)?,
            _ => return Err(format!("invalid conntrack tuple field: {key}")),
        }
        Ok(())
    }

    fn set_address(&mut self, reply: bool, key: &str, value: &str) -> Result<(), String> {
        let family = if key.starts_with("ct_nw") { L3::V4 } else { L3::V6 };
        if self.l3.is_some_and(|known| known != family) {
            return Err(format!("the L3 protocol does not match {value}"));
        }
        let tuple = if reply { &mut self.reply } else { &mut self.orig };
        let place = if key.ends_with("src") { &mut tuple.src } else { &mut tuple.dst };
        if *place != [0; 16] {
            return Err(format!("{key} is set multiple times"));
        }
        let address = match family {
            L3::V4 => value.parse().ok().map(|v4: Ipv4Addr| v4.to_ipv6_mapped()),
            L3::V6 => value.parse().ok(),
        };
        *place = address.ok_or_else(|| format!("failed to parse field {key}"))?.octets();
        self.l3 = Some(family);
        Ok(())
    }
}

/// The zone at the start of `text`, decimal; what follows does not matter.
pub fn leading_zone(text: &str) -> Option<Zone> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok().map(Zone)
}

/// A whole number in any base that C reads.
fn number<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let mut scan = Scan::new(text);
    scan.fit().filter(|_| scan.is_empty() && !text.contains('-'))
}

/// A number and its mask, which is all ones if there is none that can be read.
fn parse_masked<const N: usize>(text: &str) -> Option<([u8; N], [u8; N])> {
    let mut scan = Scan::new(text);
    let value = scan.wide()?;
    let mask = scan.eat("/").then(|| scan.wide()).flatten();
    Some((value, mask.unwrap_or([0xff; N])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes_of_matches() {
        let args = [
            "zone=5",
            "mark=0xab/0xcd",
            "labels=1",
            "ct_nw_src=10.10.0.1,ct_nw_dst=10.10.0.2,ct_nw_proto=17,ct_tp_src=2,ct_tp_dst=1",
            "ct_nw_src=10.10.0.2",
        ];
        let (this, zone) = CtMatch::parse(&args).unwrap();
        assert_eq!(zone, Some(Zone(5)));
        assert_eq!(
            this.to_string(),
            "mark=0xab/0xcd labels=0x1 'ct_nw_src=10.10.0.1,ct_nw_dst=10.10.0.2,ct_tp_src=2,ct_tp_dst=1,\
             ct_nw_proto=17' 'ct_nw_src=10.10.0.2,ct_nw_dst=::,ct_tp_src=0,ct_tp_dst=0'"
        );
        assert!(!this.is_zero() && !this.is_five_tuple());
        let (icmp, zone) = CtMatch::parse(&[
            "ct_ipv6_src=fc00::1,ct_ipv6_dst=fc00::2,ct_nw_proto=58,icmp_type=128,icmp_id=7",
        ])
        .unwrap();
        assert_eq!(zone, None);
        assert!(icmp.is_five_tuple());
        assert_eq!(
            icmp.to_string(),
            "'ct_ipv6_src=fc00::1,ct_ipv6_dst=fc00::2,icmp_id=7,icmp_type=128,icmp_code=0,ct_nw_proto=58' \
             'ct_ipv6_src=::,ct_ipv6_dst=::,icmp_id=0,icmp_type=0,icmp_code=0'"
        );
        assert_eq!(CtMatch::parse::<&str>(&[]), Ok((CtMatch::default(), None)));
        assert!(CtMatch::default().is_zero());
    }

    #[test]
    fn says_what_is_wrong() {
        for (args, error) in [
            (&["zone=x"][..], "failed to parse zone"),
            (&["mark=x"], "failed to parse mark"),
            (&["labels=x"], "failed to parse labels"),
            (&["ct_nw_src="], "field ct_nw_src missing value"),
            (&["ct_nw_src=1.2.3"], "failed to parse field ct_nw_src"),
            (&["ct_nw_src=1.2.3.4,ct_nw_src=1.2.3.4"], "ct_nw_src is set multiple times"),
            (&["ct_nw_src=1.2.3.4,ct_ipv6_dst=::1"], "the L3 protocol does not match ::1"),
            (&["ct_tp_src=80"], "port is set without protocol"),
            (&["icmp_id=80"], "invalid L4 fields"),
            (&["ct_nw_proto=256"], "failed to parse field ct_nw_proto"),
            (&["foo=1"], "invalid conntrack tuple field: foo"),
            (&["", "", ""], "invalid arguments"),
        ] {
            assert_eq!(CtMatch::parse(args), Err(error.to_owned()), "{args:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(args in proptest::collection::vec("(mark=|labels=|zone=|ct_nw_proto=)?\\PC{0,12}", 0..4)) {
            let _ = CtMatch::parse(&args);
        }
    }
}
