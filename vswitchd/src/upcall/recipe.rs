//! Answers that hold for more packets than the one that they were made for ([`Recipes`]).
//!
//! A translation follows from the configuration, from the rules, and from those bits of the packet that decided something
//! ([`Decided`]). So as long as neither of the first two changes, packets that agree in these bits get the same answer, though each
//! has a flow of its own: addresses that actions copy to where nobody looks are in the flows' masks all the same.
//!
//! Flows are to have the masks that OVS gives them. So answers are none whose masks are only one of several right ones.
//!
//! What an answer is made of has the flow that it was given for. A recipe only knows which flow that is, and holds nothing of it:
//! rules that go, and recirculation ids, are not kept from their end by a thread that has nothing to do. Answers that hold
//! something of the packet are none: learned addresses and flows, and what passes through userspace.

use std::sync::{Arc, Weak};

use flow::action::Action;
use flow::mini::Midi;
use flow::recent::Recent;

use crate::reval::{Decided, Kept, Patience, Ukey};
use crate::xlate::{Effect, Output, Snapshot};

/// Recipes that are kept.
const MANY: usize = 8;

/// What translations follow from besides the packet.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub seq: u64,
    pub snapshot: &'a Arc<Snapshot>,
}

struct Recipe {
    seq: u64,
    snapshot: Weak<Snapshot>,
    key: Midi,
    decided: Decided,
    ukey: Weak<Ukey>,
}

impl Recipe {
    fn is_for(&self, reading: Reading<'_>, key: &Midi) -> bool {
        self.seq == reading.seq
            && self.snapshot.as_ptr() == Arc::as_ptr(reading.snapshot)
            && self.decided.agree(&self.key, key)
    }
}

/// An answer.
pub(super) struct Found {
    pub mask: Arc<Midi>,
    pub actions: Arc<[Action]>,
    pub kept: Kept,
}

/// Recipes of one thread.
#[derive(Default)]
pub(super) struct Recipes {
    recipes: Recent<Recipe, MANY>,
    patience: Patience,
    /// Packets that got an answer by one.
    #[cfg(test)]
    pub spared: u64,
}

impl Recipes {
    /// The answer for a packet of this key, if there is a recipe for it.
    pub fn find(&mut self, reading: Reading<'_>, key: &Midi) -> Option<Found> {
        let ukey = self.recipes.find(|recipe| recipe.is_for(reading, key))?.ukey.upgrade()?;
        let state = ukey.try_state()?;
        // What was translated since then is of another time.
        if state.seq != Some(reading.seq) {
            return None;
        }
        self.patience.restore();
        #[cfg(test)]
        {
            self.spared += 1;
        }
        let (mask, actions) = (Arc::clone(&state.mask), Arc::clone(&state.actions));
        Some(Found { mask, actions, kept: state.kept.clone() })
    }

    /// What of a packet's key decided what its translation gave, if that makes a recipe and there shall be one more.
    pub fn consider(&mut self, key: &Midi, result: &Output) -> Option<Decided> {
        if result.alone
            || result.veiled
            || !result.slow.is_empty()
            || result.error.is_some()
            || result.avoid_caching
            || result.effects.iter().any(Effect::is_of_packet)
        {
            return None;
        }
        self.patience
            .try_once_more()
            .then(|| Decided::new(key, |word| result.mask.0.words()[word], &result.free))
    }

    /// Keeps that a flow has the answer for all packets like its own.
    pub fn keep(&mut self, reading: Reading<'_>, decided: Decided, ukey: &Arc<Ukey>) {
        let Reading { seq, snapshot } = reading;
        let (snapshot, key) = (Arc::downgrade(snapshot), ukey.key.clone());
        self.recipes.add(Recipe { seq, snapshot, key, decided, ukey: Arc::downgrade(ukey) });
    }
}
