//! How actions go together: what may stand inside what, and the order of instructions.
//!
//! OVS holds every version to the rules of OpenFlow 1.1: `meter`, then actions, then `clear_actions`, `write_actions`,
//! `write_metadata` and `goto_table`, each instruction once.

use flow::field::Field;

use super::{Kind, OfAction};
use crate::error::OfError;
use crate::instruction::Instruction;
use crate::text::ParseError;
use crate::version::Version;

/// Which instructions may occur.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed(u8);

impl Allowed {
    /// Every instruction: the actions of a flow.
    pub const ALL: Self = Self(0x3f);
    /// Actions and `meter`, which OpenFlow 1.5 counts among them.
    pub const ACTIONS: Self = Self(1 << Instruction::ApplyActions as u8 | 1 << Instruction::Meter as u8);
    /// Actions only.
    pub const APPLY: Self = Self(1 << Instruction::ApplyActions as u8);

    fn contains(self, instruction: Instruction) -> bool {
        self.0 & 1 << instruction as u8 != 0
    }
}

/// Why a list is refused: as OpenFlow calls it and in OVS's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub error: OfError,
    pub message: ParseError,
}

fn refuse(error: OfError, message: String) -> Result<(), Refusal> {
    Err(Refusal { error, message: ParseError(message) })
}

/// Checks the order and nesting of `actions`, which stand inside `outer` if given.
pub fn verify(
    actions: &[OfAction],
    version: Version,
    allowed: Allowed,
    outer: Option<Kind>,
) -> Result<(), Refusal> {
    let mut before: Option<Instruction> = None;
    for action in actions {
        if action.kind() == Kind::Conjunction {
            return verify_conjunction(actions);
        }
        verify_nesting(action, outer)?;
        let next = Instruction::of(action.kind(), version);
        if let Some(before) = before {
            verify_order(before, next)?;
        }
        if !allowed.contains(next) {
            return refuse(OfError::BicUnsupInst, format!("{} instruction not allowed here", next.name()));
        }
        before = Some(next);
    }
    Ok(())
}

fn verify_order(before: Instruction, next: Instruction) -> Result<(), Refusal> {
    if next > before || next == before && before == Instruction::ApplyActions {
        return Ok(());
    }
    let (name, next_name) = (before.name(), next.name());
    let message = if next == before {
        format!("duplicate {name} instruction not allowed, for OpenFlow 1.1+ compatibility")
    } else {
        format!(
            "invalid instruction ordering: {next_name} must appear before {name}, for OpenFlow 1.1+ compatibility"
        )
    };
    refuse(OfError::BacUnsupportedOrder, message)
}

fn verify_conjunction(actions: &[OfAction]) -> Result<(), Refusal> {
    let other =
        actions.iter().map(OfAction::kind).find(|kind| !matches!(kind, Kind::Conjunction | Kind::Note));
    let Some(other) = other else { return Ok(()) };
    let message = format!(
        "\"conjunction\" actions may be used along with \"note\" but not any other kind of action \
         (such as the \"{}\" action used here)",
        other.name()
    );
    refuse(OfError::BacBadConjunction, message)
}

fn verify_nesting(action: &OfAction, outer: Option<Kind>) -> Result<(), Refusal> {
    let destination = action.destination();
    let sets_ct = destination.is_some_and(|field| matches!(field, Field::CtMark | Field::CtLabel));
    let in_ct = outer == Some(Kind::Ct);
    if sets_ct && !in_ct {
        return refuse(OfError::BacBadSetArgument, "cannot set CT fields outside of ct action".to_owned());
    }
    if action.kind() == Kind::Nat {
        if !in_ct {
            let message = "Cannot have NAT action outside of \"ct\" action".to_owned();
            return refuse(OfError::BacBadSetArgument, message);
        }
        return Ok(());
    }
    let Some(outer) = outer else { return Ok(()) };
    if let (Some(field), true, false) = (destination, in_ct, sets_ct) {
        let message = format!("ct action doesn't support nested modification of {}", field.name());
        return refuse(OfError::BacBadArgument, message);
    }
    if in_ct && destination.is_none() || action.kind() == Kind::Meter {
        let message =
            format!("{} action doesn't support nested action {}", outer.name(), action.kind().name());
        return refuse(OfError::BacBadArgument, message);
    }
    Ok(())
}
