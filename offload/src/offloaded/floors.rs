//! Floors of chains, for kernels that do not say to the datapath at which chain a packet left the rules.
//!
//! There, what no rule of a chain takes begins anew. That is no harm to packets that were tracked and not changed, once they
//! forget what tracking said: the floor of a chain, a rule behind all others in the kernel's software, has them do so. Hardware
//! needs none: what no rule there takes comes up as it came in.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flow::time::Instant;
use sys::errno::Errno;

use super::operate::failed;
use super::{Chain, Shared};
use crate::place::Reason;
use crate::prio;
use crate::rule::Rule;
use crate::table::Job;
use crate::tc::On;
use crate::tc::action::{Control, Ct, Spec, TcAction};
use crate::tc::filter::{Filter, Id, cls};
use crate::tc::key::FlowerKey;

/// How cookies of floors begin. They have another length than those of flows.
const COOKIE: &[u8] = b"TNOUTFLR";
/// `ETH_P_ALL`.
const ALL_PROTOCOLS: u16 = 3;
/// How long a floor that nothing leads to stays.
const LINGER: Duration = Duration::from_secs(30);

/// Where floors are, and when something was to lead there for the last time.
#[derive(Default)]
pub(super) struct Floors(Mutex<HashMap<Chain, Instant>>);

impl Floors {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, HashMap<Chain, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn floor((on, hook, chain): Chain) -> Id {
    Id { on, hook, chain, prio: prio::FLOOR, protocol: ALL_PROTOCOLS, handle: 1 }
}

impl Shared {
    /// Sees to it that the chain that a rule leads to has a floor, if it needs one.
    pub(super) fn lay_floor(&self, id: &Id, rule: &Rule) -> Result<(), Reason> {
        let Some(chain) = rule.goto.filter(|_| !self.support.chains) else { return Ok(()) };
        let (place, now) = ((id.on, id.hook, chain), self.clock.now());
        let mut floors = self.floors.lock();
        if let Some(used) = floors.get_mut(&place) {
            *used = now;
            return Ok(());
        }
        let forget = Spec::Ct(Box::new(Ct { clear: true, ..Ct::default() }));
        let mut actions = [TcAction::pipe(forget), TcAction::gact(Control::Ok)];
        actions[0].cookie = Some(COOKIE.to_vec());
        let key = FlowerKey::default();
        let put =
            Job::Put { id: floor(place), key: &key, actions: &actions, flags: cls::SKIP_HW, replace: false };
        // One that an earlier process left is as good.
        match failed(self.table.submit(&[put]).pop()).filter(|error| error.errno() != Errno::EEXIST) {
            None => {
                floors.insert(place, now);
                Ok(())
            }
            Some(error) => Err(Reason::from(&error)),
        }
    }

    /// Takes up a floor that an earlier process left. Whether it is one.
    pub(super) fn adopt_floor(&self, filter: &Filter) -> bool {
        let Id { on, hook, chain, .. } = filter.id;
        let is_floor = filter.cookie() == Some(COOKIE) && filter.id == floor((on, hook, chain));
        if is_floor && !self.support.chains {
            self.floors.lock().insert((on, hook, chain), self.clock.now());
        }
        is_floor && !self.support.chains
    }

    /// Takes floors away to which nothing leads any more.
    pub(super) fn lift_floors(&self) {
        let mut floors = self.floors.lock();
        let (chains, now) = (self.chains(), self.clock.now());
        let idle: Vec<_> = floors
            .extract_if(|chain, used| {
                if chains.contains_key(chain) {
                    *used = now;
                }
                now.since(*used) >= LINGER
            })
            .collect();
        drop(chains);
        let jobs: Vec<_> = idle.iter().map(|(place, _)| Job::Del(floor(*place))).collect();
        if jobs.is_empty() {
            return;
        }
        for error in self.table.submit(&jobs).into_iter().filter_map(Result::err) {
            tracing::debug!(target: "dpif_offload_tc", "a floor stays: {error}");
        }
    }

    /// Forgets the floors of a device whose rules are gone.
    pub(super) fn forget_floors(&self, gone: On) {
        self.floors.lock().retain(|(on, ..), _| *on != gone);
    }
}
