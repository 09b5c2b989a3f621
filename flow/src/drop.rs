//! Why packets are dropped: one row a reason.
//!
//! [`DropReason`] travels in the `drop` action (OVS's `enum xlate_error`): 0 says that the pipeline had no action
//! left, the others that translation failed. [`DatapathDrop`] are the userspace datapath's own reasons. Both have the
//! name of the counter that `coverage/show` prints.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $coverage:literal, $text:literal;)*) => {
        /// Why translation made a `drop` action.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[$doc])* $name,)*
            /// A number that OVS 3.7 does not have.
            Unknown(u32),
        }

        impl DropReason {
            /// Every known reason, in the order of numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub fn code(self) -> u32 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Unknown(code) => code,
                }
            }

            /// The reason of number `code`.
            pub fn from_code(code: u32) -> Self {
                match code {
                    $($code => Self::$name,)*
                    unknown => Self::Unknown(unknown),
                }
            }

            /// The counter's name; an unknown reason has none.
            pub fn coverage(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($coverage),)*
                    Self::Unknown(_) => None,
                }
            }

            /// What traces and logs say.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(_) => "Unknown error",
                }
            }
        }
    };
}

drop_reasons! {
    /// No error: the pipeline decided to drop.
    Pipeline = 0, "drop_action_of_pipeline", "OK";
    BridgeNotFound = 1, "drop_action_bridge_not_found", "Bridge not found";
    RecursionTooDeep = 2, "drop_action_recursion_too_deep", "Recursion too deep";
    TooManyResubmits = 3, "drop_action_too_many_resubmit", "Too many resubmits";
    StackTooDeep = 4, "drop_action_stack_too_deep", "Stack too deep";
    NoRecirculationContext = 5, "drop_action_no_recirculation_context", "No recirculation context";
    RecirculationConflict = 6, "drop_action_recirculation_conflict", "Recirculation conflict";
    TooManyMplsLabels = 7, "drop_action_too_many_mpls_labels", "Too many MPLS labels";
    InvalidTunnelMetadata = 8, "drop_action_invalid_tunnel_metadata", "Invalid tunnel metadata";
    UnsupportedPacketType = 9, "drop_action_unsupported_packet_type", "Unsupported packet type";
    Congestion = 10, "drop_action_congestion", "Congestion Drop";
    ForwardingDisabled = 11, "drop_action_forwarding_disabled", "Forwarding is disabled";
    TunnelRoutingFailed = 12, "drop_action_tunnel_routing_failed", "Native tunnel routing failed";
    TunnelOutputNoEthernet = 13, "drop_action_tunnel_output_no_ethernet",
        "Tunnel output device lacks Ethernet address";
    TunnelNeighCacheMiss = 14, "drop_action_tunnel_neigh_cache_miss", "Tunnel neighbor cache miss";
    TunnelHeaderBuildFailed = 15, "drop_action_tunnel_header_build_failed", "Native tunnel header build failed";
}

macro_rules! datapath_drops {
    ($($(#[$doc:meta])* $name:ident, $coverage:literal;)*) => {
        /// Why the userspace datapath dropped a packet by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DatapathDrop { $($(#[$doc])* $name,)* }

        impl DatapathDrop {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The counter's name.
            pub fn coverage(self) -> &'static str {
                match self { $(Self::$name => $coverage,)* }
            }
        }
    };
}

datapath_drops! {
    /// A meter's band.
    Meter, "datapath_drop_meter";
    /// Userspace failed to answer a miss.
    UpcallError, "datapath_drop_upcall_error";
    /// The table was being changed.
    LockError, "datapath_drop_lock_error";
    /// Userspace refused an action's upcall.
    UserspaceActionError, "datapath_drop_userspace_action_error";
    TunnelPushError, "datapath_drop_tunnel_push_error";
    TunnelPopError, "datapath_drop_tunnel_pop_error";
    RecircError, "datapath_drop_recirc_error";
    InvalidPort, "datapath_drop_invalid_port";
    InvalidBond, "datapath_drop_invalid_bond";
    InvalidTunnelPort, "datapath_drop_invalid_tnl_port";
    /// The frame could not be parsed at reception.
    RxInvalidPacket, "datapath_drop_rx_invalid_packet";
    SampleError, "datapath_drop_sample_error";
    NshDecapError, "datapath_drop_nsh_decap_error";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places() {
        for (place, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.code() as usize, place);
            assert_eq!(DropReason::from_code(reason.code()), *reason);
        }
        assert_eq!(DropReason::from_code(99), DropReason::Unknown(99));
        assert_eq!(DropReason::from_code(99).code(), 99);
    }

    #[test]
    fn counters_are_distinct() {
        let mut names: Vec<_> = DropReason::ALL.iter().filter_map(|reason| reason.coverage()).collect();
        names.extend(DatapathDrop::ALL.iter().map(|drop| drop.coverage()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
