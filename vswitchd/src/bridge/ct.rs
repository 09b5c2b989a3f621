//! Connection-tracking zones: rows of `CT_Zone` and `CT_Timeout_Policy`, and what the `Datapath` rows are told.
//!
//! Zones with equal timeouts share one policy of the datapath. A policy that no zone uses any more is deleted as soon as
//! the datapath lets go of it, which may take as long as flows name it; so are those that an earlier process left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datapath::conntrack::timeout::Timeout;
use datapath::conntrack::{Conntrack, LimitZone, TimeoutPolicy, ZoneLimit};
use flow::id::Zone;
use flow::time::Instant;
use ovsdb::idl::{Idl, Record, Txn};
use ovsdb::value::{Atom, Datum};

use super::{Bridges, Outside, command};
use crate::xlate::snapshot::ZonePolicies;

/// How long after a policy could not be deleted it is tried again.
const CLEANUP_INTERVAL: Duration = Duration::from_mins(5);

type Timeouts = BTreeMap<Timeout, u32>;

/// What the database says of a type of datapath.
#[derive(Default)]
struct Wanted {
    /// Zones with a policy that is not empty.
    timeouts: BTreeMap<Zone, Timeouts>,
    limits: BTreeMap<LimitZone, u32>,
}

impl Wanted {
    fn read(idl: &Idl, row: Record<'_>) -> Self {
        let mut wanted = Self::default();
        let limit = |value: Option<i64>| value.and_then(|limit| u32::try_from(limit).ok());
        if let Some(limit) = limit(row.integer("ct_zone_default_limit")) {
            wanted.limits.insert(LimitZone::Default, limit);
        }
        for (id, zone) in row.get("ct_zones").pairs() {
            let id = id.as_integer().and_then(|id| u16::try_from(id).ok()).map(Zone);
            let row = zone.as_uuid().and_then(|uuid| idl.row("CT_Zone", uuid));
            let (Some(id), Some(row)) = (id, row) else { continue };
            if let Some(limit) = limit(row.integer("limit")) {
                wanted.limits.insert(LimitZone::Zone(id), limit);
            }
            let policy = row.reference("timeout_policy").and_then(|uuid| idl.row("CT_Timeout_Policy", uuid));
            let timeouts = policy.map(|policy| timeouts(policy.get("timeouts"))).unwrap_or_default();
            if !timeouts.is_empty() {
                wanted.timeouts.insert(id, timeouts);
            }
        }
        wanted
    }
}

fn timeouts(map: &Datum) -> Timeouts {
    let pair = |(name, seconds): &(Atom, Atom)| {
        let seconds = seconds.as_integer().and_then(|seconds| u32::try_from(seconds).ok())?;
        Some((Timeout::from_name(name.as_str()?)?, seconds))
    };
    map.pairs().iter().filter_map(pair).collect()
}

/// What a datapath was told.
pub(super) struct Tracking {
    /// Policies by their numbers.
    policies: BTreeMap<u32, Timeouts>,
    /// Policies that are to go, and when that is tried.
    doomed: BTreeSet<u32>,
    sweep_at: Instant,
    /// Which policy a zone has.
    zones: BTreeMap<Zone, u32>,
    limits: BTreeMap<LimitZone, u32>,
}

impl Tracking {
    /// Begins with what the datapath has.
    pub(super) fn new(conntrack: &dyn Conntrack) -> Self {
        let found = conntrack.timeout_policies().unwrap_or_default();
        Self {
            policies: BTreeMap::new(),
            doomed: found.into_iter().map(|policy| policy.id).collect(),
            sweep_at: Instant::ZERO,
            zones: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }

    fn apply(&mut self, conntrack: &dyn Conntrack, wanted: &Wanted) {
        self.zones = wanted
            .timeouts
            .iter()
            .filter_map(|(zone, timeouts)| Some((*zone, self.policy(conntrack, timeouts)?)))
            .collect();
        let used: BTreeSet<u32> = self.zones.values().copied().collect();
        for (id, _) in self.policies.extract_if(.., |id, _| !used.contains(id)) {
            self.doomed.insert(id);
            self.sweep_at = Instant::ZERO;
        }
        self.apply_limits(conntrack, &wanted.limits);
    }

    /// The policy with these timeouts, made if there is none.
    fn policy(&mut self, conntrack: &dyn Conntrack, timeouts: &Timeouts) -> Option<u32> {
        if let Some((id, _)) = self.policies.iter().find(|(_, known)| *known == timeouts) {
            return Some(*id);
        }
        let id = (1..).find(|id| !self.policies.contains_key(id) && !self.doomed.contains(id))?;
        let policy = TimeoutPolicy { id, timeouts: timeouts.clone() };
        if let Err(error) = conntrack.set_timeout_policy(&policy) {
            tracing::error!(target: "ofproto_dpif", rl = "1,5", "failed to set timeout policy {id} ({error})");
        }
        self.policies.insert(id, policy.timeouts);
        Some(id)
    }

    fn apply_limits(&mut self, conntrack: &dyn Conntrack, wanted: &BTreeMap<LimitZone, u32>) {
        let new = wanted.iter().filter(|(zone, limit)| self.limits.get(zone) != Some(*limit));
        let new: Vec<_> =
            new.map(|(zone, limit)| ZoneLimit { zone: *zone, limit: *limit, count: 0 }).collect();
        let gone: Vec<_> = self.limits.keys().filter(|zone| !wanted.contains_key(zone)).copied().collect();
        let say = |what: &str, result: Result<(), datapath::Error>| {
            if let Err(error) = result {
                tracing::info!(target: "ofproto_dpif", rl = "1,5", "failed to {what} conntrack limits ({error})");
            }
        };
        if !new.is_empty() {
            say("set", conntrack.set_limits(&new));
        }
        if !gone.is_empty() {
            say("delete", conntrack.del_limits(&gone));
        }
        self.limits.clone_from(wanted);
    }

    /// Deletes what is to go, if it is time. When to come again.
    fn sweep(&mut self, conntrack: &dyn Conntrack, now: Instant) -> Instant {
        if self.doomed.is_empty() {
            return Instant::NEVER;
        }
        if now >= self.sweep_at {
            self.doomed.retain(|id| conntrack.del_timeout_policy(*id).is_err());
            self.sweep_at = now + CLEANUP_INTERVAL;
        }
        if self.doomed.is_empty() { Instant::NEVER } else { self.sweep_at }
    }
}

/// The rows of types of datapath.
fn datapath_rows<'a>(idl: &'a Idl, root: Record<'a>) -> BTreeMap<&'a str, Record<'a>> {
    let rows = root.get("datapaths").pairs().iter();
    rows.filter_map(|(kind, uuid)| Some((kind.as_str()?, idl.row("Datapath", uuid.as_uuid()?)?))).collect()
}

impl Bridges {
    /// Brings zones in line with the database, for every datapath that is open; tells the database what they can do.
    pub(super) fn configure_datapaths(&mut self, idl: &Idl, txn: &mut Txn, outside: &mut dyn Outside) {
        let rows = idl.first("Open_vSwitch").map(|root| datapath_rows(idl, root)).unwrap_or_default();
        for (kind, believed) in &self.features {
            let row = rows.get(kind.as_str());
            let wanted = row.map(|row| Wanted::read(idl, *row)).unwrap_or_default();
            outside.protect_limits(kind, !wanted.limits.is_empty());
            if let Some(row) = row {
                let mut capabilities = row.get("capabilities").clone();
                for (name, value) in command::capabilities(&believed.boot) {
                    capabilities.put(name.into(), value.into());
                }
                if capabilities != *row.get("capabilities") {
                    txn.set("Datapath", row.uuid(), "capabilities", capabilities);
                }
            }
            let Some(bridge) = self.bridges.values().find(|bridge| bridge.kind == *kind) else { continue };
            let Some(conntrack) = bridge.datapath.conntrack() else { continue };
            let tracking = self.tracking.entry(kind.clone()).or_insert_with(|| Tracking::new(conntrack));
            tracking.apply(conntrack, &wanted);
        }
        self.tracking.retain(|kind, _| self.features.contains_key(kind));
    }

    /// What translation for a type of datapath is to know of zones.
    pub(super) fn zone_policies(&self, kind: &str) -> Option<Arc<ZonePolicies>> {
        let zones = &self.tracking.get(kind).filter(|tracking| !tracking.zones.is_empty())?.zones;
        let bridge = self.bridges.values().find(|bridge| bridge.kind == kind)?;
        Some(Arc::new(ZonePolicies { zones: zones.clone(), datapath: Arc::clone(&bridge.datapath) }))
    }

    /// Deletes timeout policies that nobody uses any more. When to come again.
    pub(super) fn sweep_policies(&mut self, now: Instant) -> Instant {
        let mut next = Instant::NEVER;
        for (kind, tracking) in &mut self.tracking {
            let bridge = self.bridges.values().find(|bridge| bridge.kind == *kind);
            if let Some(conntrack) = bridge.and_then(|bridge| bridge.datapath.conntrack()) {
                next = next.min(tracking.sweep(conntrack, now));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::Error;
    use datapath::conntrack::{Entry, Tuple, Walk};
    use std::sync::Mutex;
    use sys::errno::Errno;

    /// A tracker that writes down what it is told; policy 1 is always in use.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn say(&self, text: String) {
            self.0.lock().unwrap().push(text);
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl Conntrack for Told {
        fn dump(&self, _: Option<Zone>) -> Result<Walk<'_, Entry>, Error> {
            Ok(Box::new(std::iter::empty()))
        }

        fn flush(&self, _: Option<Zone>) -> Result<(), Error> {
            Ok(())
        }

        fn flush_tuple(&self, _: Zone, _: &Tuple) -> Result<(), Error> {
            Ok(())
        }

        fn set_limits(&self, limits: &[ZoneLimit]) -> Result<(), Error> {
            self.say(format!("limits {:?}", limits.iter().map(|l| (l.zone, l.limit)).collect::<Vec<_>>()));
            Ok(())
        }

        fn del_limits(&self, zones: &[LimitZone]) -> Result<(), Error> {
            self.say(format!("no limits {zones:?}"));
            Ok(())
        }

        fn set_timeout_policy(&self, policy: &TimeoutPolicy) -> Result<(), Error> {
            self.say(format!("policy {} {:?}", policy.id, policy.timeouts));
            Ok(())
        }

        fn del_timeout_policy(&self, id: u32) -> Result<(), Error> {
            self.say(format!("no policy {id}"));
            if id == 1 { Err(Errno::EBUSY.into()) } else { Ok(()) }
        }

        fn timeout_policies(&self) -> Result<Vec<TimeoutPolicy>, Error> {
            Ok(vec![TimeoutPolicy { id: 2, ..TimeoutPolicy::default() }])
        }
    }

    fn wanted(zones: &[(u16, u32)], limits: &[(LimitZone, u32)]) -> Wanted {
        let timeouts = |seconds: u32| Timeouts::from([(Timeout::UdpSingle, seconds)]);
        Wanted {
            timeouts: zones.iter().map(|(zone, seconds)| (Zone(*zone), timeouts(*seconds))).collect(),
            limits: limits.iter().copied().collect(),
        }
    }

    #[test]
    fn zones_share_policies_that_go_when_unused() {
        let told = Told::default();
        let mut tracking = Tracking::new(&told);
        let at = |secs: u64| Instant::from_millis(secs * 1000);
        tracking.apply(&told, &wanted(&[(1, 5), (2, 5), (3, 6)], &[]));
        assert_eq!(told.take(), ["policy 1 {UdpSingle: 5}", "policy 3 {UdpSingle: 6}"]);
        let zones = BTreeMap::from([(Zone(1), 1), (Zone(2), 1), (Zone(3), 3)]);
        assert_eq!(tracking.zones, zones);
        // What an earlier process left goes at once.
        assert_eq!(tracking.sweep(&told, at(1)), Instant::NEVER);
        assert_eq!(told.take(), ["no policy 2"]);
        tracking.apply(&told, &wanted(&[(2, 6)], &[]));
        assert_eq!(tracking.sweep(&told, at(2)), at(302));
        assert_eq!(told.take(), ["no policy 1"]);
        assert_eq!(tracking.sweep(&told, at(3)), at(302));
        // A policy that could not go keeps its number.
        tracking.apply(&told, &wanted(&[(2, 7)], &[]));
        assert_eq!(told.take(), ["policy 2 {UdpSingle: 7}"]);
        assert_eq!(tracking.sweep(&told, at(4)), at(304));
        assert_eq!(told.take(), ["no policy 1", "no policy 3"]);
    }

    #[test]
    fn limits_follow_the_database() {
        let told = Told::default();
        let mut tracking = Tracking::new(&told);
        let zone = |zone| LimitZone::Zone(Zone(zone));
        tracking.apply(&told, &wanted(&[], &[(LimitZone::Default, 10), (zone(1), 5)]));
        assert_eq!(told.take(), ["limits [(Default, 10), (Zone(Zone(1)), 5)]"]);
        tracking.apply(&told, &wanted(&[], &[(LimitZone::Default, 10), (zone(2), 5)]));
        assert_eq!(told.take(), ["limits [(Zone(Zone(2)), 5)]", "no limits [Zone(Zone(1))]"]);
        tracking.apply(&told, &wanted(&[], &[(LimitZone::Default, 10), (zone(2), 5)]));
        assert_eq!(told.take(), Vec::<String>::new());
    }
}
