//! Routing rules: which tables are asked for a packet, and in which order (`RTM_*RULE`, `linux/fib_rules.h`).

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use sys::errno::Errno;

use super::rtnl::{Message, Rtnl};
use crate::Error;

pub const RTM_NEWRULE: u16 = 32;
pub const RTM_DELRULE: u16 = 33;
pub const RTM_GETRULE: u16 = 34;
/// The multicast groups of rules, IPv4 and IPv6.
pub const RTNLGRP_RULE: [u32; 2] = [8, 19];

/// A rule that looks at nothing but where a packet is from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rule {
    /// Lower ones are asked first.
    pub priority: u32,
    /// Packets from elsewhere match.
    pub invert: bool,
    pub v4: bool,
    /// The network that packets are from; `None` for all. Never with a prefix of 0.
    pub from: Option<(IpAddr, u8)>,
    /// The table that is asked.
    pub table: u32,
}

impl Rule {
    /// From an `RTM_NEWRULE` or `RTM_DELRULE`; nothing for a rule that looks at more than we can tell, that does something
    /// else, or that is malformed.
    pub fn decode(message: &Message<'_>) -> Option<Self> {
        if !matches!(message.kind, RTM_NEWRULE | RTM_DELRULE) {
            return None;
        }
        let parsed = RuleMessage::parse(message.payload).ok()?;
        let head = &parsed.header;
        let v4 = match head.family {
            AddressFamily::Inet => true,
            AddressFamily::Inet6 => false,
            _ => return None,
        };
        if head.action != RuleAction::ToTable || head.tos != 0 || head.dst_len != 0 {
            return None;
        }
        let (mut priority, mut table, mut from) = (0, None, None);
        for attribute in &parsed.attributes {
            match attribute {
                RuleAttribute::Priority(value) => priority = *value,
                RuleAttribute::Table(value) => table = Some(*value),
                RuleAttribute::Source(ip) => from = Some((*ip, head.src_len)),
                RuleAttribute::SuppressPrefixLen(_) | RuleAttribute::Protocol(_) => {}
                _ => return None,
            }
        }
        let from = from.filter(|_| head.src_len > 0);
        let invert = head.flags.contains(RuleFlags::Invert);
        // Not from everywhere: matches nothing.
        if invert && from.is_none() {
            return None;
        }
        Some(Self { priority, invert, v4, from, table: table? })
    }
}

/// The rules that we can tell, in the kernel's order, IPv4 first.
pub fn list(rtnl: &mut Rtnl) -> Result<Vec<Rule>, Error> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut body = [0; 12];
        body[0] = u8::from(family);
        match rtnl.dump(RTM_GETRULE, &body, &|_| {}, Rule::decode) {
            Ok(rules) => all.extend(rules),
            // A kernel without this family, or without policy routing.
            Err(error) if matches!(error.errno(), Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::attr::Writer;
    use proptest::prelude::*;

    fn decode(body: &[u8]) -> Option<Rule> {
        Rule::decode(&Message { kind: RTM_NEWRULE, flags: 0, seq: 0, pid: 0, at: 0, payload: body })
    }

    fn header(src_len: u8, flags: u32) -> Vec<u8> {
        let mut bytes = vec![2, 0, src_len, 0, 42, 0, 0, 1];
        bytes.extend(flags.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_rule_by_source() {
        let mut body = Writer::after(header(32, 2));
        body.put_u32(15, 42);
        body.put_u32(14, u32::MAX);
        body.put_u32(6, 100);
        body.put_u8(21, 3);
        body.put(2, &[10, 0, 0, 1]);
        let from = Some(("10.0.0.1".parse().unwrap(), 32));
        assert_eq!(
            decode(body.bytes()),
            Some(Rule { priority: 100, invert: true, v4: true, from, table: 42 })
        );
    }

    #[test]
    fn a_rule_that_looks_at_more_is_none() {
        for kind in [10, 12, 3, 17, 22, 31] {
            let mut body = Writer::after(header(0, 0));
            body.put_u32(15, 42);
            body.put(kind, &[0; 8]);
            assert_eq!(decode(body.bytes()), None, "attribute {kind}");
        }
        let mut body = Writer::after(header(0, 2));
        body.put_u32(15, 42);
        assert_eq!(decode(body.bytes()), None, "not from all");
        assert_eq!(decode(&header(0, 0)), None, "no table");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn never_panics(rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut body = header(32, 0);
            body.extend(&rest);
            let _ = decode(&body);
            let _ = decode(&rest);
        }
    }
}
