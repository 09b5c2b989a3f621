//! Flows that answers to upcalls install: rules where a device takes them; the inner datapath is told to install the rest.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Weak};

use datapath::flow::FlowStats;
use datapath::upcall::{Answer, Handler, Offer, Upcall};
use datapath::{Error, PmdId};
use flow::id::Ufid;
use sys::errno::Errno;

use super::operate::failed;
use super::{Prepared, Shared};
use crate::place::{Place, Reason};

/// Between the inner datapath and who answers its upcalls.
pub(super) struct Hook {
    handler: Arc<dyn Handler>,
    shared: Weak<Shared>,
}

impl Hook {
    pub(super) fn over(handler: Arc<dyn Handler>, shared: &Arc<Shared>) -> Arc<dyn Handler> {
        Arc::new(Self { handler, shared: Arc::downgrade(shared) })
    }
}

impl Handler for Hook {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        self.handler.upcall(upcall)
    }

    fn take(&self, offers: &[Offer<'_>]) -> Vec<bool> {
        let Some(shared) = self.shared.upgrade().filter(|shared| shared.is_on()) else {
            return self.handler.take(offers);
        };
        let taken = shared.take(offers);
        for (offer, taken) in offers.iter().zip(&taken).filter(|(_, taken)| **taken != Taken::Not) {
            self.handler.installed(offer.ufid, offer.pmd, *taken == Taken::Rule);
        }
        taken.iter().map(|taken| *taken != Taken::Not).collect()
    }

    fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        if let Some(shared) = self.shared.upgrade().filter(|_| !installed)
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

impl Shared {
    /// Which of the flows that answers install are rules now. One that is there already stays as it is.
    fn take(&self, offers: &[Offer<'_>]) -> Vec<Taken> {
        let mut places = HashMap::new();
        let mut offered = Vec::with_capacity(offers.len());
        for (at, offer) in offers.iter().enumerate() {
            offered.push(match places.entry(offer.ufid) {
                Entry::Occupied(first) => Offered::As(*first.get()),
                Entry::Vacant(place) => {
                    place.insert(at);
                    self.consider(offer)
                }
            });
        }
        let ready = |offered: &'_ Offered| matches!(offered, Offered::Ready(_));
        let jobs = offered.iter().filter_map(|offered| match offered {
            Offered::Ready(prepared) => Some(self.put_job(prepared)),
            Offered::Settled(_) | Offered::As(_) => None,
        });
        let jobs: Vec<_> = jobs.collect();
        let done = if jobs.is_empty() { Vec::new() } else { self.table.submit(&jobs) };
        drop(jobs);
        let mut done = done.into_iter();
        let mut taken = Vec::with_capacity(offers.len());
        for (offer, offered) in offers.iter().zip(&offered) {
            let done = if ready(offered) { done.next() } else { None };
            taken.push(match offered {
                Offered::Settled(taken) => *taken,
                Offered::As(at) => taken[*at],
                Offered::Ready(prepared) => self.taken(offer.ufid, prepared, failed(done)),
            });
        }
        taken
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
