//! `check_pkt_len`: a limit without a rate tells lengths apart. What exceeds it skips to behind what does not.
//!
//! If more actions follow, what does not exceed it ends by skipping to them. Those see the packet as it was before:
//! what either side changed is changed back, which takes that the flow says what it was.

use flow::action::Action;
use flow::attr::{Attr, Attrs};
use flow::odp::{self, OdpSupport, Params};

use super::{Lowered, Lowering};
use crate::lower::set;
use crate::rule::Unsupported;
use crate::tc::action::police::Exceed;
use crate::tc::action::{Control, Police, Spec, TcAction};

const NAME: &str = "check_pkt_len";

impl Lowering<'_> {
    /// Lowers the action; whether it takes the packet.
    pub(super) fn check_length(
        &mut self,
        len: u16,
        greater: &[Action],
        less_equal: &[Action],
        last: bool,
    ) -> Lowered<bool> {
        if self.goto.is_some() {
            return Err(Unsupported::Part(NAME, NAME));
        }
        // Whether the packet is as the flow matches it. What a side changes back counts no more.
        let clean = !self.out.iter().any(|action| matches!(action.spec, Spec::Pedit(_)));
        let at = self.out.len();
        self.push(Spec::Gact)?;
        let before = (self.tunneled, self.released, self.tags);
        self.side(less_equal, last, clean)?;
        let bridge = if last { None } else { Some(self.bridge(at, less_equal)?) };
        let goto = self.goto.take();
        let after = (self.tunneled, self.released, self.tags);
        (self.tunneled, self.released, self.tags) = before;
        let skip = self.out.len() as u32;
        self.side(greater, last, clean)?;
        self.tunneled |= after.0;
        self.released |= after.1;
        self.tags = self.tags.or(after.2);
        if let Some(bridge) = bridge {
            self.out[bridge].control = Control::Jump(self.out.len() as u32);
        }
        if goto.is_some() && self.goto.is_some() && goto != self.goto {
            return Err(Unsupported::Part(NAME, "two recircs"));
        }
        self.goto = self.goto.or(goto);
        let exceed = Some(Exceed(Control::Jump(skip)));
        self.out[at].spec = Spec::Police(Police { mtu: len.into(), exceed, ..Police::default() });
        Ok(last)
    }

    /// What packets of some length have done to them.
    fn side(&mut self, actions: &[Action], last: bool, clean: bool) -> Lowered {
        if last {
            return self.list(actions, true);
        }
        for action in actions {
            match action {
                Action::Output(_) | Action::CheckPktLen { .. } => {}
                Action::Sample { .. } | Action::Psample { .. } | Action::Userspace(_) => {}
                action if set::is_pedit(action) => {}
                _ => return Err(Unsupported::After("check_pkt_len with more than outputs and sets")),
            }
        }
        self.list(actions, false)?;
        let back = self.back(actions)?;
        if back.is_empty() {
            return Ok(());
        }
        if !clean {
            return Err(Unsupported::After("check_pkt_len with sets after others"));
        }
        self.list(&back, false)
    }

    /// The last action of a side, from which packets are to skip the other one. Where several ways lead to the end,
    /// or there is no action, it is one of its own.
    fn bridge(&mut self, check: usize, actions: &[Action]) -> Lowered<usize> {
        let nested = matches!(actions.last(), Some(Action::CheckPktLen { .. }));
        if nested || self.out.len() == check + 1 {
            self.add(TcAction::gact(Control::Pipe))?;
        }
        Ok(self.out.len() - 1)
    }

    /// What undoes the changes among some actions.
    fn back(&self, actions: &[Action]) -> Lowered<Vec<Action>> {
        let sets: Vec<_> = actions.iter().filter(|action| set::is_pedit(action)).collect();
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        let params = Params { mask: Some(self.mask), ..Params::new(self.key, &OdpSupport::ALL) };
        let (key, mask) = (odp::key_from_flow(&params), odp::mask_from_flow(&params, self.mask));
        let undone = sets.into_iter().map(|action| undo(action, key.attrs(), mask.attrs()));
        undone
            .collect::<Option<_>>()
            .ok_or(Unsupported::After("check_pkt_len with sets of what is not matched"))
    }
}

/// The change back to what the flow matches.
fn undo(action: &Action, mut key: Attrs<'_>, mut mask: Attrs<'_>) -> Option<Action> {
    let (new, bits) = match action {
        Action::Set(new) => (new, None),
        Action::SetMasked(new, bits) => (new, Some(bits.payload())),
        _ => return None,
    };
    let is_that = |attr: &Attr<'_>| attr.kind == new.code();
    let old = key.find_map(|attr| attr.ok().filter(is_that))?;
    let known = mask.find_map(|attr| attr.ok().filter(is_that))?;
    let bits = bits.unwrap_or_else(|| vec![u8::MAX; new.payload().len()]);
    if known.data.len() != bits.len() || bits.iter().zip(known.data).any(|(bit, known)| bit & !known != 0) {
        return None;
    }
    let old: Vec<_> = old.data.iter().zip(&bits).map(|(old, bit)| old & bit).collect();
    Some(Action::SetMasked(set::typed(new.code(), &old)?, set::typed(new.code(), &bits)?))
}
