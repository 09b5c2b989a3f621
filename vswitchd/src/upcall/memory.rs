//! What a thread remembers from one upcall to the next ([`Memory`]). Flows that are made one after the other mostly look at the
//! same and do the same: such have their masks and actions in common, and each of those is in memory once.

use std::sync::Arc;

use datapath::upcall::Desk;
use flow::action::Action;
use flow::key::Mask;
use flow::mini::Midi;
use flow::recent::Recent;

use super::recipe::Recipes;
use crate::xlate::Room;

/// Masks, and lists of actions, that are remembered.
const RECENT: usize = 8;

/// Memory of one thread. Nothing in it is of a switch's state, so it serves whichever switch answers.
#[derive(Default)]
pub(super) struct Memory {
    /// For translations.
    pub room: Room,
    pub recipes: Recipes,
    masks: Recent<(Box<Mask>, Arc<Midi>), RECENT>,
    actions: Recent<Arc<[Action]>, RECENT>,
}

impl Memory {
    /// Takes it from a desk, and a mask that can be written on; it is to be [put back](Self::put_back).
    pub fn take(desk: &mut Desk) -> Box<Self> {
        let own = desk.own.take().and_then(|own| own.downcast().ok());
        let mut memory: Box<Self> = own.unwrap_or_default();
        if let Some(mask) = desk.masks.pop() {
            memory.room.keep_mask(mask);
        }
        memory
    }

    pub fn put_back(self: Box<Self>, desk: &mut Desk) {
        desk.own = Some(self);
    }

    /// A mask as flows keep it.
    pub fn mask(&mut self, mask: &Mask) -> Arc<Midi> {
        if let Some((_, kept)) = self.masks.find(|(full, _)| full.0.words() == mask.0.words()) {
            return Arc::clone(kept);
        }
        let kept = Arc::new(Midi::new(&mask.0));
        self.masks.add((Box::new(*mask), Arc::clone(&kept)));
        kept
    }

    /// Actions as flows keep them. The list is empty then.
    pub fn actions(&mut self, actions: &mut Vec<Action>) -> Arc<[Action]> {
        if let Some(kept) = self.actions.find(|kept| **kept == **actions) {
            actions.clear();
            return Arc::clone(kept);
        }
        let kept: Arc<[_]> = actions.drain(..).collect();
        self.actions.add(Arc::clone(&kept));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::id::DpPort;

    fn mask(bits: u64) -> Mask {
        let mut mask = Mask::default();
        mask.0.words_mut()[3] = bits;
        mask
    }

    #[test]
    fn equal_masks_and_actions_are_one_as_long_as_they_are_remembered() {
        let mut memory = Memory::default();
        let masks: Vec<_> = (1..=9).map(|bits| memory.mask(&mask(bits))).collect();
        assert!(masks.iter().zip(1..).all(|(midi, bits)| **midi == Midi::new(&mask(bits).0)));
        // The first was forgotten for the ninth, and is forgotten for nothing now but takes the place of the second.
        assert!(
            Arc::ptr_eq(&memory.mask(&mask(9)), &masks[8]) && Arc::ptr_eq(&memory.mask(&mask(2)), &masks[1])
        );
        let again = memory.mask(&mask(1));
        assert!(again == masks[0] && !Arc::ptr_eq(&again, &masks[0]));
        assert!(!Arc::ptr_eq(&memory.mask(&mask(2)), &masks[1]));
        assert!(Arc::ptr_eq(&memory.mask(&mask(1)), &again));

        let mut list = |port: u32| {
            let mut actions = vec![Action::Output(DpPort(port)); port as usize % 3];
            let kept = memory.actions(&mut actions);
            assert!(actions.is_empty());
            assert_eq!(*kept, *vec![Action::Output(DpPort(port)); port as usize % 3]);
            kept
        };
        let (one, two, none) = (list(1), list(2), list(3));
        assert!(Arc::ptr_eq(&one, &list(1)) && Arc::ptr_eq(&two, &list(2)) && Arc::ptr_eq(&none, &list(6)));
    }

    #[test]
    fn a_desk_that_somebody_else_used_is_as_good_as_new() {
        let mut desk = Desk { masks: vec![Mask::boxed()], own: Some(Box::new(5)) };
        let mut memory = Memory::take(&mut desk);
        assert!(desk.masks.is_empty());
        let midi = memory.mask(&mask(1));
        memory.put_back(&mut desk);
        let mut memory = Memory::take(&mut desk);
        assert!(Arc::ptr_eq(&memory.mask(&mask(1)), &midi));
    }
}
