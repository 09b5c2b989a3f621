//! Text of one flow, each field exactly: `in_port=1,tcp,nw_src=10.0.0.1,tp_dst=80`, as `ofproto/trace` and the filters
//! of flow dumps take it.

use crate::field::{Field, PortNames};
use crate::id::OfPort;
use crate::key::{Key, Mask};
use crate::proto::{ethertype, ip};

/// Words that stand for an Ethernet type, and perhaps an IP protocol.
const PROTOCOLS: &[(&str, u16, u8)] = &[
    ("ip", ethertype::IPV4, 0),
    ("ipv4", ethertype::IPV4, 0),
    ("ip4", ethertype::IPV4, 0),
    ("arp", ethertype::ARP, 0),
    ("icmp", ethertype::IPV4, ip::ICMP),
    ("tcp", ethertype::IPV4, ip::TCP),
    ("udp", ethertype::IPV4, ip::UDP),
    ("sctp", ethertype::IPV4, ip::SCTP),
    ("ipv6", ethertype::IPV6, 0),
    ("ip6", ethertype::IPV6, 0),
    ("icmp6", ethertype::IPV6, ip::ICMPV6),
    ("tcp6", ethertype::IPV6, ip::TCP),
    ("udp6", ethertype::IPV6, ip::UDP),
    ("sctp6", ethertype::IPV6, ip::SCTP),
    ("rarp", ethertype::RARP, 0),
    ("mpls", ethertype::MPLS, 0),
    ("mplsm", ethertype::MPLS_MCAST, 0),
];

/// The protocol that `word` stands for: Ethernet type, and IP protocol or 0.
pub fn protocol(word: &str) -> Option<(u16, u8)> {
    PROTOCOLS.iter().find(|(name, ..)| *name == word).map(|&(_, dl_type, nw_proto)| (dl_type, nw_proto))
}

/// The next `key=value`, `key(value)` or `key` of `rest`, which it is taken from.
fn next_pair<'a>(rest: &mut &'a str) -> Option<(&'a str, &'a str)> {
    let text = rest.trim_start_matches([',', ' ', '\t', '\r', '\n']);
    let key_len = text.find([',', ' ', '\t', '\r', '\n', '=', ':', '(']).unwrap_or(text.len());
    let (key, tail) = text.split_at(key_len);
    if text.is_empty() {
        return None;
    }
    let parenthesized = tail.starts_with('(');
    let value = if tail.starts_with(['=', ':', '(']) { &tail[1..] } else { "" };
    let mut depth = usize::from(parenthesized);
    let mut end = value.len();
    for (at, c) in value.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && parenthesized {
                    end = at;
                    break;
                }
            }
            ',' | ' ' | '\t' | '\r' | '\n' if depth == 0 => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    *rest = value[end..].strip_prefix(')').filter(|_| parenthesized).unwrap_or(&value[end..]);
    if !tail.starts_with(['=', ':', '(']) {
        *rest = tail;
    }
    Some((key, &value[..end]))
}

/// Reads a flow. Fields that are not mentioned are zero, with no bit in the mask; a missing `in_port` is
/// [`OfPort::NONE`].
///
/// # Errors
/// What is wrong, in OVS's words.
pub fn parse(text: &str, names: &dyn PortNames) -> Result<(Key, Mask), String> {
    let (mut key, mut mask) = (Key::default(), Mask::default());
    let mut rest = text;
    while let Some((name, value)) = next_pair(&mut rest) {
        if let Some((dl_type, nw_proto)) = protocol(name) {
            if key.dl_type.get() != 0 {
                return Err(format!("{text}: Ethernet type set multiple times"));
            }
            key.dl_type = dl_type.into();
            mask.0.dl_type = u16::MAX.into();
            if nw_proto != 0 {
                if key.nw_proto != 0 {
                    return Err(format!("{text}: network protocol set multiple times"));
                }
                key.nw_proto = nw_proto;
                mask.0.nw_proto = u8::MAX;
            }
            continue;
        }
        let field = Field::from_name(name).ok_or_else(|| format!("{text}: unknown field {name}"))?;
        if !field.info().prereq.holds(&key, None) {
            return Err(format!("{text}: prerequisites not met for setting {name}"));
        }
        if field.is_set(&key) {
            return Err(format!("{text}: field {name} set multiple times"));
        }
        let value = field
            .parse_value(value, names)
            .map_err(|error| format!("{text}: bad value for {name} ({error})"))?;
        field.set(&mut key, &value);
        field.mask_exact(&mut mask);
    }
    if key.in_port == 0 {
        key.in_port = OfPort::NONE.0.into();
    }
    Ok((key, mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::NoNames;

    #[test]
    fn reads_protocols_and_fields() {
        let (key, mask) = parse("in_port=3, tcp,nw_src=10.0.0.1,tp_dst=80", &NoNames).unwrap();
        assert_eq!((key.in_port, key.dl_type.get(), key.nw_proto, key.tp_dst.get()), (3, 0x0800, 6, 80));
        assert_eq!((mask.0.nw_src.get(), mask.0.nw_dst.get(), mask.0.tp_dst.get()), (u32::MAX, 0, 0xffff));
        assert_eq!(parse("", &NoNames).unwrap().0.in_port, 0xffff);
    }

    #[test]
    fn names_what_is_wrong() {
        let error = |text: &str| parse(text, &NoNames).unwrap_err();
        assert_eq!(error("ip,arp"), "ip,arp: Ethernet type set multiple times");
        assert_eq!(error("foo=1"), "foo=1: unknown field foo");
        assert_eq!(error("tp_src=1"), "tp_src=1: prerequisites not met for setting tp_src");
        assert_eq!(error("in_port=1,in_port=2"), "in_port=1,in_port=2: field in_port set multiple times");
    }
}
