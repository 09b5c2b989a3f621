//! What userspace writes into `OVS_USERSPACE_ATTR_USERDATA` to know an upcall again: 48 bytes, `struct
//! user_action_cookie` of OVS 3.7, host-endian but for TCI and rule cookie.
//!
//! The ofproto's UUID says which bridge made the action; it is not printed.

use crate::id::{DpPort, OfPort, RecircId};
use std::fmt;

/// Length of an encoded cookie.
pub const LEN: usize = 48;

macro_rules! slow_reasons {
    ($($name:ident = $bit:literal, $text:literal, $explanation:literal;)*) => {
        bitflags::bitflags! {
            /// Why packets of a flow must pass through userspace.
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
            pub struct SlowReasons: u32 {
                $(const $name = 1 << $bit;)*
                const _ = !0;
            }
        }

        impl SlowReasons {
            /// Bit, name and explanation of each known reason.
            pub const ROWS: &[(Self, &'static str, &'static str)] =
                &[$((Self::$name, $text, $explanation)),*];
        }
    };
}

slow_reasons! {
    CFM = 0, "cfm", "Consists of CFM packets";
    BFD = 1, "bfd", "Consists of BFD packets";
    LACP = 2, "lacp", "Consists of LACP packets";
    STP = 3, "stp", "Consists of STP packets";
    LLDP = 4, "lldp", "Consists of LLDP packets";
    ACTION = 5, "action", "Uses action(s) not supported by datapath";
    MATCH = 6, "match", "Datapath can't match specifically enough";
}

/// Where a flow sample was taken, of the OpenFlow `sample` action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleDirection {
    #[default]
    Default,
    Ingress,
    Egress,
}

/// A decoded cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCookie {
    /// OpenFlow port that the packet came in by, or [`OfPort::NONE`].
    pub in_port: OfPort,
    /// UUID of the bridge's ofproto, as four host-endian words of the UUID; zero where it does not matter.
    pub ofproto: [u8; 16],
    pub kind: CookieKind,
}

/// What the upcall is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// Sampled by the bridge's sFlow. `vlan_tci` and `output` describe where the packet goes: `output` as in an sFlow
    /// flow sample.
    Sflow { vlan_tci: u16, output: u32 },
    /// Userspace must do what the flow says.
    SlowPath { reasons: SlowReasons },
    /// Sampled by an OpenFlow `sample` action, for IPFIX.
    FlowSample {
        probability: u16,
        collector_set_id: u32,
        obs_domain_id: u32,
        obs_point_id: u32,
        output_port: DpPort,
        direction: SampleDirection,
    },
    /// Sampled by the bridge's IPFIX.
    Ipfix { output_port: DpPort },
    /// To the controllers.
    Controller {
        dont_send: bool,
        continuation: bool,
        reason: u16,
        recirc_id: RecircId,
        rule_cookie: u64,
        controller_id: u16,
        max_len: u16,
    },
}

mod kind {
    pub const SFLOW: u16 = 1;
    pub const SLOW_PATH: u16 = 2;
    pub const FLOW_SAMPLE: u16 = 3;
    pub const IPFIX: u16 = 4;
    pub const CONTROLLER: u16 = 5;
}

/// Where the part of a kind begins.
const BODY: usize = 24;
/// Where the ofproto's UUID begins.
const UUID: usize = 8;

impl UserCookie {
    /// The cookie in `userdata`; `None` if it is none of ours (another length or type).
    pub fn decode(userdata: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = userdata.try_into().ok()?;
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let kind = match u16_at(0) {
            kind::SFLOW => CookieKind::Sflow {
                vlan_tci: u16::from_be_bytes([bytes[BODY], bytes[BODY + 1]]),
                output: u32_at(BODY + 4),
            },
            kind::SLOW_PATH => {
                CookieKind::SlowPath { reasons: SlowReasons::from_bits_retain(u32_at(BODY + 4)) }
            }
            kind::FLOW_SAMPLE => CookieKind::FlowSample {
                probability: u16_at(BODY),
                collector_set_id: u32_at(BODY + 4),
                obs_domain_id: u32_at(BODY + 8),
                obs_point_id: u32_at(BODY + 12),
                output_port: DpPort(u32_at(BODY + 16)),
                direction: match u32_at(BODY + 20) {
                    1 => SampleDirection::Ingress,
                    2 => SampleDirection::Egress,
                    _ => SampleDirection::Default,
                },
            },
            kind::IPFIX => CookieKind::Ipfix { output_port: DpPort(u32_at(BODY)) },
            kind::CONTROLLER => CookieKind::Controller {
                dont_send: bytes[BODY] != 0,
                continuation: bytes[BODY + 1] != 0,
                reason: u16_at(BODY + 2),
                recirc_id: RecircId(u32_at(BODY + 4)),
                rule_cookie: u64::from_be_bytes(bytes[BODY + 8..BODY + 16].try_into().ok()?),
                controller_id: u16_at(BODY + 16),
                max_len: u16_at(BODY + 18),
            },
            _ => return None,
        };
        let ofproto = bytes[UUID..BODY].try_into().ok()?;
        // A port beyond 16 bits is none that we wrote.
        let in_port = u16::try_from(u32_at(4)).map_or(OfPort::NONE, OfPort);
        Some(Self { in_port, ofproto, kind })
    }

    /// The bytes for `OVS_USERSPACE_ATTR_USERDATA`.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        let number = match self.kind {
            CookieKind::Sflow { vlan_tci, output } => {
                put(BODY, &vlan_tci.to_be_bytes());
                put(BODY + 4, &output.to_ne_bytes());
                kind::SFLOW
            }
            CookieKind::SlowPath { reasons } => {
                put(BODY + 4, &reasons.bits().to_ne_bytes());
                kind::SLOW_PATH
            }
            CookieKind::FlowSample {
                probability,
                collector_set_id,
                obs_domain_id,
                obs_point_id,
                output_port,
                direction,
            } => {
                put(BODY, &probability.to_ne_bytes());
                let words = [collector_set_id, obs_domain_id, obs_point_id, output_port.0, direction as u32];
                for (place, word) in words.iter().enumerate() {
                    put(BODY + 4 + 4 * place, &word.to_ne_bytes());
                }
                kind::FLOW_SAMPLE
            }
            CookieKind::Ipfix { output_port } => {
                put(BODY, &output_port.0.to_ne_bytes());
                kind::IPFIX
            }
            CookieKind::Controller {
                dont_send,
                continuation,
                reason,
                recirc_id,
                rule_cookie,
                controller_id,
                max_len,
            } => {
                put(BODY, &[dont_send.into(), continuation.into()]);
                put(BODY + 2, &reason.to_ne_bytes());
                put(BODY + 4, &recirc_id.0.to_ne_bytes());
                put(BODY + 8, &rule_cookie.to_be_bytes());
                put(BODY + 16, &controller_id.to_ne_bytes());
                put(BODY + 18, &max_len.to_ne_bytes());
                kind::CONTROLLER
            }
        };
        put(0, &number.to_ne_bytes());
        put(4, &u32::from(self.in_port.0).to_ne_bytes());
        put(UUID, &self.ofproto);
        bytes
    }
}

impl fmt::Display for SlowReasons {
    /// Names joined by commas; unknown bits as one hexadecimal number, none as `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::flags(self.bits(), Self::name, ','))
    }
}

impl SlowReasons {
    /// The name of one bit.
    pub fn name(bit: u32) -> Option<&'static str> {
        Self::ROWS.iter().find(|(reason, ..)| reason.bits() == bit).map(|(_, name, _)| *name)
    }

    /// What the lowest reason means, as traces say it.
    pub fn explanation(self) -> &'static str {
        Self::ROWS
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("<unknown>", |(.., explanation)| explanation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cookie(kind: CookieKind) -> UserCookie {
        UserCookie { in_port: OfPort(3), ofproto: *b"0123456789abcdef", kind }
    }

    #[test]
    fn every_kind_survives() {
        let kinds = [
            CookieKind::Sflow { vlan_tci: 0x1005, output: 72 },
            CookieKind::SlowPath { reasons: SlowReasons::LACP | SlowReasons::ACTION },
            CookieKind::FlowSample {
                probability: 1,
                collector_set_id: 2,
                obs_domain_id: 3,
                obs_point_id: 4,
                output_port: DpPort(5),
                direction: SampleDirection::Egress,
            },
            CookieKind::Ipfix { output_port: DpPort(9) },
            CookieKind::Controller {
                dont_send: false,
                continuation: true,
                reason: 7,
                recirc_id: RecircId(8),
                rule_cookie: 0x0102_0304_0506_0708,
                controller_id: 10,
                max_len: 65535,
            },
        ];
        for kind in kinds {
            assert_eq!(UserCookie::decode(&cookie(kind).encode()), Some(cookie(kind)));
        }
    }

    #[test]
    fn reasons_as_text() {
        assert_eq!((SlowReasons::BFD | SlowReasons::MATCH).to_string(), "bfd,match");
        assert_eq!(SlowReasons::empty().to_string(), "0");
        assert_eq!(SlowReasons::ACTION.explanation(), "Uses action(s) not supported by datapath");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 46..50)) {
            UserCookie::decode(&bytes);
        }
    }
}
