//! Flows of one class: what translating one of them again gave is what it gives for all.
//!
//! A translation follows from the configuration, from the rules that it meets, and from those bits of the packet that decided
//! something: the bits of its mask, but for what actions only copied to registers at which nobody looked
//! ([`crate::ofproto::classifier::Looked`]). Lookups that it took over from the last one ([`crate::xlate::past`]) follow from that
//! one's effects. So flows that have the same effects, mask and actions, of which as many effects stand, and whose packets agree
//! in the bits that decided, get the same verdict. The last few verdicts are kept for those that come next, as long as a pass
//! lasts: a rule that many flows met is mostly met by packets that differ in an address that nobody looks at any more.
//!
//! A translation of its own may look at other bits, which exclude the same rules. So a flow may stay with a mask that one would
//! find too wide: it is right all the same, for the packets of the class that it has are those that the verdict holds for.
//!
//! Some of what decides is in no mask, for attributes of a packet are there or not whatever a mask says (`SHAPE`). Verdicts that
//! hold something of the packet are not kept: learned addresses and flows, and masks made anew.

use std::sync::{Arc, LazyLock};

use flow::action::Action;
use flow::key::Mask;
use flow::mini::Midi;
use flow::recent::Recent;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use super::look::{Look, Renewed, Verdict};
use super::news::Concern;
use super::ukey::{Kept, State, Ukey};
use crate::ofproto::Rule;
use crate::ofproto::classifier::Free;
use crate::xlate::Room;

/// Verdicts that are kept.
const MANY: usize = 16;
/// Results that may be kept in vain before few are.
const PATIENCE: u32 = 32;
/// One of so many is kept then.
const RARELY: u32 = 32;

/// Whether it is worth while to keep results for those that come next.
#[derive(Default)]
pub(crate) struct Patience {
    in_vain: u32,
}

impl Patience {
    /// Whether one more result shall be kept.
    pub fn try_once_more(&mut self) -> bool {
        self.in_vain = self.in_vain.wrapping_add(1);
        self.in_vain <= PATIENCE || self.in_vain.is_multiple_of(RARELY)
    }

    /// One that was kept served another.
    pub fn restore(&mut self) {
        self.in_vain = 0;
    }
}

/// Bits that decide whether they are in a mask or not: which attributes a packet has.
static SHAPE: LazyLock<Box<Mask>> = LazyLock::new(|| {
    let mut shape = Mask::boxed();
    let m = &mut shape.0;
    m.tunnel.as_mut_bytes().fill(u8::MAX);
    m.vlans.as_mut_bytes().fill(u8::MAX);
    m.mpls_lse.as_mut_bytes().fill(u8::MAX);
    m.nsh.as_mut_bytes().fill(u8::MAX);
    (m.skb_priority, m.pkt_mark, m.in_port, m.recirc_id) = (u32::MAX, u32::MAX, u32::MAX, u32::MAX);
    (m.ct_state, m.ct_nw_proto) = (u8::MAX, u8::MAX);
    (m.packet_type, m.dl_type) = (u32::MAX.into(), u16::MAX.into());
    (m.nw_frag, m.nw_proto) = (u8::MAX, u8::MAX);
    shape
});

/// Which bits of a flow's key decided what its translation gave: for each word of the compressed key.
pub(crate) struct Decided(SmallVec<[u64; 8]>);

impl Decided {
    /// Those of a translation with a mask of these words, some of which was only copied.
    pub fn new(key: &Midi, mask: impl Fn(usize) -> u64, free: &Free) -> Self {
        let shape = SHAPE.0.words();
        let mut bits: SmallVec<[u64; 8]> = key.indices().map(|index| mask(index) | shape[index]).collect();
        for (at, free) in free {
            let place = key.indices().position(|index| index == *at);
            if let Some(bits) = place.and_then(|place| bits.get_mut(place)) {
                *bits &= !free;
            }
        }
        Self(bits)
    }

    /// Whether another key agrees with that of the translation in them.
    pub fn agree(&self, key: &Midi, other: &Midi) -> bool {
        key.is_like(other, &self.0)
    }

    /// Those of two translations.
    pub fn and(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(bits, more)| *bits |= more);
        self
    }
}

/// What is translated again: from where on, and the rule that is met there where another one was.
#[derive(Clone, Copy)]
pub(super) struct Again<'a> {
    pub stands: usize,
    pub heir: Option<&'a Arc<Rule>>,
}

impl<'a> Again<'a> {
    pub const START: Self = Self { stands: 0, heir: None };

    pub fn new(concern: &Concern<'a>) -> Self {
        match *concern {
            Concern::After(stands, heir) => Self { stands, heir },
            _ => Self::START,
        }
    }
}

/// A verdict for all flows of a class.
struct Class {
    key: Midi,
    decided: Decided,
    stands: usize,
    heir: Option<Arc<Rule>>,
    mask: Arc<Midi>,
    actions: Arc<[Action]>,
    kept: Kept,
    verdict: Shared,
}

/// A verdict that says nothing of one packet alone: what changes, if anything does.
struct Shared(Option<(Option<Arc<[Action]>>, Renewed)>);

/// The classes that a thread met last in a pass.
#[derive(Default)]
pub(super) struct Classes {
    /// The pass's number.
    pass: u64,
    classes: Recent<Class, MANY>,
    patience: Patience,
}

impl Classes {
    /// What translation makes of a flow now.
    pub fn verdict<'v>(
        &mut self,
        look: &Look<'_>,
        ukey: &Ukey,
        state: &State,
        concern: Concern<'_>,
        room: &mut Room,
    ) -> Verdict<'v> {
        if self.pass != look.pass {
            *self = Self { pass: look.pass, ..Self::default() };
        }
        let again = Again::new(&concern);
        if !state.teaching
            && let Some(class) = self.classes.find(|class| class.has(ukey, state, again))
        {
            self.patience.restore();
            return class.verdict.verdict();
        }
        let (verdict, decided) = look.translate_again(ukey, state, again, room);
        if let Some(decided) = decided
            && let Some(verdict) = Shared::new(&verdict)
        {
            self.keep(ukey, state, again, decided, verdict);
        }
        verdict
    }

    fn keep(&mut self, ukey: &Ukey, state: &State, again: Again<'_>, decided: Decided, verdict: Shared) {
        if !self.patience.try_once_more() || state.teaching {
            return;
        }
        self.classes.add(Class {
            key: ukey.key.clone(),
            decided,
            stands: again.stands,
            heir: again.heir.cloned(),
            mask: Arc::clone(&state.mask),
            actions: Arc::clone(&state.actions),
            kept: state.kept.clone(),
            verdict,
        });
    }
}

impl Class {
    fn has(&self, ukey: &Ukey, state: &State, again: Again<'_>) -> bool {
        let heir = |heir: Option<&Arc<Rule>>| heir.map(Arc::as_ptr);
        let same_actions = || Arc::ptr_eq(&self.actions, &state.actions) || *self.actions == *state.actions;
        self.stands == again.stands
            && heir(self.heir.as_ref()) == heir(again.heir)
            && self.decided.agree(&self.key, &ukey.key)
            && (Arc::ptr_eq(&self.mask, &state.mask) || self.mask == state.mask)
            && self.kept.is_same(&state.kept)
            && same_actions()
    }
}

impl Shared {
    fn new(verdict: &Verdict<'_>) -> Option<Self> {
        match verdict {
            Verdict::Keep => Some(Self(None)),
            Verdict::Change(actions, renewed) if !renewed.is_of_packet() => {
                Some(Self(Some((actions.clone(), renewed.clone()))))
            }
            Verdict::Change(..) | Verdict::Inherit(_) | Verdict::Replace(..) | Verdict::Delete => None,
        }
    }

    fn verdict<'v>(&self) -> Verdict<'v> {
        match &self.0 {
            None => Verdict::Keep,
            Some((actions, renewed)) => Verdict::Change(actions.clone(), renewed.clone()),
        }
    }
}
