//! Action sets: which actions may be written to one, and in which order they are executed.
//!
//! Spec: OpenFlow 1.5 section 5.6, with OVS's additions.

use super::{Kind, OfAction};

/// How an action set treats a kind of action.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Slot {
    /// The last one counts; executed in this order.
    Single(u8),
    /// All count, in the order in which they were written; executed after the single ones.
    Ordered,
    /// Only one is executed, as the last action: that of the highest number, of several the last.
    Final(u8),
    /// May not be in an action set.
    Invalid,
}

/// What the action set does with actions of a kind.
pub fn slot(kind: Kind) -> Slot {
    match kind {
        Kind::StripVlan => Slot::Single(0),
        Kind::PopMpls => Slot::Single(1),
        Kind::Decap => Slot::Single(2),
        Kind::Encap => Slot::Single(3),
        Kind::PushMpls => Slot::Single(4),
        Kind::PushVlan => Slot::Single(5),
        Kind::DecTtl => Slot::Single(6),
        Kind::DecMplsTtl => Slot::Single(7),
        Kind::DecNshTtl => Slot::Single(8),

        Kind::Ct => Slot::Final(0),
        Kind::CtClear => Slot::Final(1),
        Kind::Resubmit => Slot::Final(2),
        Kind::Output => Slot::Final(3),
        Kind::Group => Slot::Final(4),

        Kind::SetField
        | Kind::RegMove
        | Kind::SetEthDst
        | Kind::SetEthSrc
        | Kind::SetIpDscp
        | Kind::SetIpEcn
        | Kind::SetIpTtl
        | Kind::SetIpv4Dst
        | Kind::SetIpv4Src
        | Kind::SetL4DstPort
        | Kind::SetL4SrcPort
        | Kind::SetMplsLabel
        | Kind::SetMplsTc
        | Kind::SetMplsTtl
        | Kind::SetQueue
        | Kind::SetTunnel
        | Kind::SetVlanPcp
        | Kind::SetVlanVid => Slot::Ordered,

        Kind::Bundle
        | Kind::ClearActions
        | Kind::Clone
        | Kind::Nat
        | Kind::Controller
        | Kind::Enqueue
        | Kind::Exit
        | Kind::UnrollXlate
        | Kind::FinTimeout
        | Kind::GotoTable
        | Kind::Learn
        | Kind::Conjunction
        | Kind::Meter
        | Kind::Multipath
        | Kind::Note
        | Kind::OutputReg
        | Kind::OutputTrunc
        | Kind::PopQueue
        | Kind::Sample
        | Kind::StackPop
        | Kind::StackPush
        | Kind::WriteActions
        | Kind::WriteMetadata
        | Kind::DebugRecirc
        | Kind::DebugSlow
        | Kind::CheckPktLarger
        | Kind::DeleteField => Slot::Invalid,
    }
}

/// The actions that executing the action set `written` means; none without a final action.
pub fn execution_order(written: &[OfAction]) -> Vec<OfAction> {
    let mut single: [Option<&OfAction>; 9] = [None; 9];
    let mut ordered = Vec::new();
    let mut last: Option<(u8, &OfAction)> = None;
    for action in written {
        match slot(action.kind()) {
            Slot::Single(place) => single[usize::from(place)] = Some(action),
            Slot::Ordered => ordered.push(action),
            Slot::Final(rank) if last.is_none_or(|(best, _)| rank >= best) => last = Some((rank, action)),
            Slot::Final(_) | Slot::Invalid => {}
        }
    }
    let Some((_, last)) = last else { return Vec::new() };
    single.into_iter().flatten().chain(ordered).chain([last]).cloned().collect()
}
