//! Flows that answers to upcalls install: rules where a device takes them; the inner datapath is told to install the rest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use datapath::flow::FlowStats;
use datapath::upcall::{Answer, Desk, Handler, Installing, Offer, Upcall};
use datapath::{Error, PmdId};
use flow::id::Ufid;
use sys::errno::Errno;

use super::operate::failed;
use super::{Prepared, Shared};
use crate::place::{Place, Reason};
use crate::table::{Begun, Done, Job};

/// Between the inner datapath and who answers its upcalls.
pub(super) struct Hook {
    handler: Arc<dyn Handler>,
    shared: Weak<Shared>,
}

impl Hook {
    pub(super) fn over(handler: Arc<dyn Handler>, shared: &Arc<Shared>) -> Arc<dyn Handler> {
        Arc::new(Self { handler, shared: Arc::downgrade(shared) })
    }

    /// `None` if nothing is offloaded.
    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade().filter(|shared| shared.is_on())
    }
}

impl Handler for Hook {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        self.handler.upcall(upcall)
    }

    fn upcall_at(&self, desk: &mut Desk, upcall: &Upcall<'_>) -> Option<Answer> {
        self.handler.upcall_at(desk, upcall)
    }

    fn take(&self, offers: &[Offer<'_>]) -> Vec<bool> {
        let Some(shared) = self.shared() else { return self.handler.take(offers) };
        let lot = shared.consider_all(offers);
        let done = shared.table.submit(&lot.jobs(&shared));
        lot.end(&shared, &*self.handler, done)
    }

    fn begin(&self, offers: &[Offer<'_>]) -> Option<Box<dyn Installing>> {
        let Some(shared) = self.shared() else { return self.handler.begin(offers) };
        let lot = shared.consider_all(offers);
        let begun = shared.table.begin(&lot.jobs(&shared));
        Some(Box::new(UnderWay { handler: Arc::clone(&self.handler), shared, lot, begun }))
    }

    fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        if !installed
            && let Some(shared) = self.shared.upgrade()
            && matches!(shared.places.get(ufid), Some(Place::Soft(_)))
        {
            shared.places.remove(ufid);
        }
        self.handler.installed(ufid, pmd, installed);
    }

    fn purged(&self, pmd: PmdId) {
        self.handler.purged(pmd);
    }
}

/// What became of an offered flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It is a rule.
    Rule,
    /// The same rule is there under another name: another packet of the flow came first, and what the flow does is done.
    Twin,
    /// The inner datapath is to have it.
    Not,
}

/// What an offered flow is by now.
enum Offered {
    Settled(Taken),
    Ready(Box<Prepared>),
    /// It is as the one at this place.
    As(usize),
}

/// Offered flows, in order.
struct Lot(Vec<(Ufid, PmdId, Offered)>);

impl Lot {
    /// What devices are asked for.
    fn jobs<'a>(&'a self, shared: &Shared) -> Vec<Job<'a>> {
        let ready = self.0.iter().filter_map(|(_, _, offered)| match offered {
            Offered::Ready(prepared) => Some(shared.put_job(prepared)),
            Offered::Settled(_) | Offered::As(_) => None,
        });
        ready.collect()
    }

    /// Takes up what became of that: whether each flow is installed.
    fn end(&self, shared: &Shared, handler: &dyn Handler, done: Vec<Done>) -> Vec<bool> {
        let mut done = done.into_iter();
        let mut all = Vec::with_capacity(self.0.len());
        for (ufid, pmd, offered) in &self.0 {
            let taken = match offered {
                Offered::Settled(taken) => *taken,
                Offered::As(at) => all[*at],
                Offered::Ready(prepared) => shared.taken(*ufid, prepared, failed(done.next())),
            };
            if taken != Taken::Not {
                handler.installed(*ufid, *pmd, taken == Taken::Rule);
            }
            all.push(taken);
        }
        all.into_iter().map(|taken| taken != Taken::Not).collect()
    }
}

/// Offered flows that devices are being asked to take.
struct UnderWay {
    handler: Arc<dyn Handler>,
    shared: Arc<Shared>,
    lot: Lot,
    begun: Begun,
}

impl Installing for UnderWay {
    fn end(self: Box<Self>) -> Vec<bool> {
        let Self { handler, shared, lot, begun } = *self;
        let done = shared.table.end(begun, &lot.jobs(&shared));
        lot.end(&shared, &*handler, done)
    }
}

impl Shared {
    /// What offered flows can be. One that is there already stays as it is.
    fn consider_all(&self, offers: &[Offer<'_>]) -> Lot {
        let mut places = HashMap::with_capacity(offers.len());
        let mut lot = Vec::with_capacity(offers.len());
        for (at, offer) in offers.iter().enumerate() {
            let offered = match places.entry(offer.ufid) {
                Entry::Occupied(first) => Offered::As(*first.get()),
                Entry::Vacant(place) => {
                    place.insert(at);
                    self.consider(offer)
                }
            };
            lot.push((offer.ufid, offer.pmd, offered));
        }
        Lot(lot)
    }

    fn consider(&self, offer: &Offer<'_>) -> Offered {
        if self.places.hard(offer.ufid).is_some() {
            return Offered::Settled(Taken::Rule);
        }
        match self.prepare_parsed(offer.ufid, offer.key, *offer.mask, offer.actions) {
            Ok(prepared) => Offered::Ready(Box::new(prepared)),
            Err(why) => {
                self.keep_why(offer.ufid, why, 0);
                Offered::Settled(Taken::Not)
            }
        }
    }

    /// A device took the rule of a new flow, or refused it.
    fn taken(&self, ufid: Ufid, prepared: &Prepared, error: Option<Error>) -> Taken {
        match &error {
            None => {
                self.installed(ufid, prepared, FlowStats::default());
                Taken::Rule
            }
            Some(error) if self.is_twin(ufid, error) => Taken::Twin,
            // It was offered again before it was there.
            Some(error) if error.errno() == Errno::EEXIST && self.places.hard(ufid).is_some() => Taken::Rule,
            Some(error) => {
                self.keep_why(ufid, Reason::from(error), 0);
                Taken::Not
            }
        }
    }

    /// Whether a new flow was refused because its rule is there, as another flow's: then there is nothing to be had.
    pub(super) fn is_twin(&self, ufid: Ufid, error: &Error) -> bool {
        error.errno() == Errno::EEXIST && self.places.get(ufid).is_none()
    }
}
