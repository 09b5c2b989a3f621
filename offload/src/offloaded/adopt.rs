//! Rules that an earlier process left on devices: what can be told to be a flow's goes on as it is, for whoever looks after
//! flows to keep or to delete; the rest goes, for it would take packets that nobody knows of.

use datapath::Error;
use datapath::flow::FlowStats;
use flow::id::{DpPort, Ufid};
use std::sync::atomic::Ordering;
use sys::errno::Errno;

use super::{Shared, hook_of};
use crate::place::{Hard, Place};
use crate::room::Pace;
use crate::rule::Device;
use crate::table::Job;
use crate::tc::On;
use crate::tc::action::Control;
use crate::tc::filter::{Filter, cls};

impl Shared {
    /// Takes over the rules of a device that has just become one of ours.
    pub(super) fn adopt(&self, name: &str, device: &Device) {
        match self.adopt_all(device) {
            Ok((0, 0)) => {}
            Ok((adopted, removed)) => tracing::info!(
                target: "dpif_offload_tc",
                "{name}: adopted {adopted} rules of an earlier process and removed {removed}"
            ),
            Err(error) => tracing::info!(target: "dpif_offload_tc", "{name}: looking for rules: {error}"),
        }
    }

    /// How many were adopted and removed.
    fn adopt_all(&self, device: &Device) -> Result<(usize, usize), Error> {
        let mut left = Vec::new();
        let mut rules = self.table.dump(On::of(device.ifindex, device.block), device.hook, false)?;
        while rules.next(&mut |filter| left.push(filter))? {}
        drop(rules);
        let removed: Vec<_> = left.iter().filter(|filter| !self.adopt_one(filter, device)).collect();
        let jobs: Vec<_> = removed.iter().map(|filter| Job::Del(filter.id)).collect();
        if jobs.is_empty() {
            return Ok((left.len(), 0));
        }
        for (filter, done) in removed.iter().zip(self.table.submit(&jobs)) {
            if let Err(error) = done
                && error.errno() != Errno::ENOENT
            {
                tracing::warn!(
                    target: "dpif_offload_tc", rl = "60,5",
                    "deleting rule {:#x} of an earlier process failed: {error}", filter.id.handle
                );
            }
        }
        Ok((left.len() - removed.len(), removed.len()))
    }

    /// Whether a rule can go on as a flow of ours.
    fn adopt_one(&self, filter: &Filter, device: &Device) -> bool {
        if self.adopt_floor(filter) {
            return true;
        }
        let Some(ufid) = filter.cookie().and_then(|cookie| cookie.try_into().ok()).map(Ufid) else {
            return false;
        };
        let place = cls::SKIP_SW | cls::SKIP_HW;
        if filter.flags & place != self.flags_on(device) & place || self.places.get(ufid).is_some() {
            return false;
        }
        // Of whom its samples were is not known.
        let samples = filter.actions.iter().any(|action| action.spec.kind() == "sample");
        let id = filter.id;
        if samples || !self.priorities.adopt(id.protocol, &filter.key, id.prio) {
            return false;
        }
        self.handle.fetch_max(id.handle, Ordering::Relaxed);
        let goto = filter.actions.iter().find_map(|action| match action.control {
            Control::Goto(chain) => Some(chain),
            _ => None,
        });
        let (stats, since, pace) = (FlowStats::default(), self.clock.now(), Pace::default());
        let hard = Hard { id, goto, group: None, loose: false, base: (0, 0), stats, since, pace };
        self.lead(&hard);
        self.places.insert(ufid, Place::Hard(hard));
        true
    }

    /// Takes the rules that an earlier process left on a port that is to have none.
    pub(super) fn disown(&self, number: DpPort, name: &str, kind: &str) {
        let Some(ifindex) = self.index_of(number, name) else { return };
        if let Err(error) = self.table.detach(ifindex, hook_of(kind)) {
            tracing::debug!(target: "dpif_offload_tc", "{name}: removing old rules: {error}");
        }
    }
}
