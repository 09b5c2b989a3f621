//! `check_pkt_larger`: the rest of the actions twice, for longer and for shorter packets.

use flow::action::Action;
use flow::cookie::SlowReasons;
use flow::field::Value;
use openflow::action::{CheckPktLarger, OfAction};

use super::ctx::Ctx;

impl Ctx<'_> {
    /// True if `rest`, the actions after this one, has been done.
    pub(super) fn check_pkt_larger(&mut self, a: &CheckPktLarger, rest: &[OfAction]) -> bool {
        if !self.can(|features| features.check_pkt_len) {
            let longer = self.input.packet.is_some_and(|packet| packet.len() > usize::from(a.pkt_len));
            a.dst.set(self.key, &Value::from_u64(longer.into(), 1));
            self.slow |= SlowReasons::ACTION;
            return false;
        }
        self.commit();
        let retained = self.retain();
        let (stack, action_set) = retained.copies();
        (self.stack, self.action_set) = (stack.clone(), action_set.clone());
        let (base, was_mpls, conntracked) = (*self.base, self.was_mpls, self.conntracked);
        a.dst.set(self.key, &Value::from_u64(1, 1));
        let greater = self.nested(|ctx| ctx.actions_and_set(rest, true));
        *self.key = *retained.key();
        (*self.base, self.was_mpls, self.conntracked) = (base, was_mpls, conntracked);
        (self.stack, self.action_set) = (stack, action_set);
        let exit = std::mem::replace(&mut self.exit, false);
        a.dst.set(self.key, &Value::from_u64(0, 1));
        let less_equal = self.nested(|ctx| ctx.actions_and_set(rest, true));
        self.odp.push(Action::CheckPktLen { len: a.pkt_len, greater, less_equal });
        (*self.base, self.was_mpls, self.conntracked, self.exit) = (base, was_mpls, conntracked, exit);
        self.restore(retained);
        true
    }
}
