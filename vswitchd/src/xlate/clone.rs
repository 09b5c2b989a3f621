//! Actions on a copy of the packet.

use flow::action::Action;
use openflow::action::OfAction;

use super::ctx::Ctx;

/// Whether what actions do to the packet can be undone by other actions, so that the datapath needs no copy.
fn are_reversible(actions: &[OfAction]) -> bool {
    !actions.iter().any(|action| {
        matches!(
            action,
            OfAction::Ct(_)
                | OfAction::Meter(_)
                | OfAction::Nat(_)
                | OfAction::OutputTrunc(_)
                | OfAction::Encap(_)
                | OfAction::Decap(_)
                | OfAction::DecNshTtl
        )
    })
}

impl Ctx<'_> {
    pub(super) fn clone_actions(&mut self, actions: &[OfAction], last: bool) {
        let retained = self.retain();
        if are_reversible(actions) || last {
            self.actions_and_set(actions, last);
            return self.restore(retained);
        }
        self.commit();
        let (base, was_mpls, conntracked) = (*self.base, self.was_mpls, self.conntracked);
        if self.can(|features| features.clone) {
            let inside = self.nested(|ctx| ctx.actions_and_set(actions, true));
            if !inside.is_empty() {
                self.odp.push(Action::Clone(inside));
            }
        } else if self.can(|features| features.sample_nesting > 3) {
            let actions = self.nested(|ctx| ctx.actions_and_set(actions, true));
            if !actions.is_empty() {
                self.odp.push(Action::Sample { probability: u32::MAX, actions });
            }
        } else {
            self.error("Failed to compose clone action");
        }
        (*self.base, self.was_mpls, self.conntracked) = (base, was_mpls, conntracked);
        self.restore(retained);
    }

    /// Does actions and then the action set, and recirculates if they froze the translation.
    pub(super) fn actions_and_set(&mut self, actions: &[OfAction], last: bool) {
        self.actions(actions, last, false);
        if !self.freezing {
            self.execute_action_set();
        }
        if self.freezing {
            self.finish_freezing();
        }
    }
}
