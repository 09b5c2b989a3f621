//! Walks over all flows: rules device by device, then the inner datapath's flows with the reason why they are there.

use std::collections::VecDeque;
use std::sync::Arc;

use datapath::flow::{Dump, Flow, FlowAttrs, FlowStats, Sighting};
use datapath::{Error, PmdId};
use flow::attr::{Attrs, Writer};
use flow::id::{DpPort, Ufid};
use flow::odp::attrs::code;
use flow::odp::{Params, RawKey, RawMask, key_from_flow, mask_from_flow};
use sys::errno::Errno;

use super::Shared;
use crate::place::Reason;
use crate::provider::TC;
use crate::raise::raise;
use crate::table::{Job, Rules};
use crate::tc::filter::{Filter, Glance, Id, cls};
use crate::tc::{Hook, On};

/// A walk.
pub(super) struct Walk {
    shared: Arc<Shared>,
    terse: bool,
    devices: VecDeque<(On, Hook)>,
    rules: Option<Box<dyn Rules>>,
    /// Told and not yet given.
    ready: VecDeque<Flow>,
    inner: Box<dyn Dump>,
}

impl Walk {
    pub(super) fn begin(shared: &Arc<Shared>, terse: bool) -> Self {
        let ports = if shared.is_on() { shared.ports.all() } else { Vec::new() };
        let mut devices: VecDeque<_> = ports
            .into_iter()
            .map(|(_, port)| (On::of(port.device.ifindex, port.device.block), port.device.hook))
            .collect();
        // A block is one place, however many devices share it.
        let mut seen = std::collections::HashSet::new();
        devices.retain(|place| seen.insert(*place));
        let inner = shared.inner.flow_dump(terse);
        Self { shared: Arc::clone(shared), terse, devices, rules: None, ready: VecDeque::new(), inner }
    }

    /// Makes some rules ready; whether there may be more.
    fn fetch(&mut self) -> bool {
        let Self { shared, terse, devices, rules, ready, .. } = self;
        if rules.is_none() {
            let Some((on, hook)) = devices.pop_front() else { return false };
            match shared.table.dump(on, hook, *terse) {
                Ok(begun) => *rules = Some(begun),
                // A device that is gone has no flows; its port is about to go, too.
                Err(error) => tracing::debug!(target: "dpif_offload_tc", "rules of {on:?}: {error}"),
            }
        }
        let Some(walk) = rules else { return true };
        let mut unread = Vec::new();
        let more = if *terse {
            walk.glance(&mut |glance| ready.extend(shared.sighted(glance)))
        } else {
            walk.next(&mut |filter| match shared.flow(&filter) {
                Ok(flow) => ready.extend(flow),
                Err(ufid) => unread.push((ufid, filter.id)),
            })
        };
        unread.into_iter().for_each(|(ufid, id)| shared.abandon(ufid, id));
        if let Err(error) = &more {
            tracing::debug!(target: "dpif_offload_tc", "rules: {error}");
        }
        if !matches!(more, Ok(true)) {
            *rules = None;
        }
        true
    }

    /// Takes up what flows of the inner datapath counted, and adds what their rules counted and did not tell.
    fn see<'a>(&self, flows: impl Iterator<Item = (Ufid, &'a mut FlowStats)>) {
        if self.shared.places.is_following() {
            let now = self.shared.clock.now();
            flows.for_each(|(ufid, stats)| self.shared.places.see(ufid, stats, now));
        }
    }

    /// Appends rules as flows; whether there were any.
    fn rules(&mut self, max: usize, to: &mut Vec<Flow>) -> bool {
        let before = to.len();
        while to.len() - before < max {
            if let Some(flow) = self.ready.pop_front() {
                to.push(flow);
            } else if !self.fetch() {
                break;
            }
        }
        to.len() > before
    }
}

impl Dump for Walk {
    fn next(&mut self, max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        if self.rules(max, to) {
            return Ok(true);
        }
        let before = to.len();
        let more = self.inner.next(max, to)?;
        if self.shared.is_on() {
            for flow in &mut to[before..] {
                flow.attrs.why = Some(self.shared.places.why(flow.ufid).to_string().into());
            }
            self.see(to[before..].iter_mut().map(|flow| (flow.ufid, &mut flow.stats)));
            if !more {
                self.shared.retry();
            }
        }
        Ok(more)
    }

    fn sight(
        &mut self,
        max: usize,
        sightings: &mut Vec<Sighting>,
        to: &mut Vec<Flow>,
    ) -> Result<bool, Error> {
        if self.rules(max, to) {
            return Ok(true);
        }
        let (seen, told) = (sightings.len(), to.len());
        let more = self.inner.sight(max, sightings, to)?;
        if self.shared.is_on() {
            self.see(sightings[seen..].iter_mut().map(|sighting| (sighting.ufid, &mut sighting.stats)));
            self.see(to[told..].iter_mut().map(|flow| (flow.ufid, &mut flow.stats)));
            if !more {
                self.shared.retry();
            }
        }
        Ok(more)
    }
}

/// Attributes without the one that no kernel knows.
fn for_kernel(raw: &[u8]) -> Box<[u8]> {
    let mut out = Writer::new();
    for attr in Attrs::new(raw).map_while(Result::ok).filter(|attr| attr.kind != code::PACKET_TYPE) {
        out.put(attr.kind, attr.data);
    }
    out.into_bytes().into()
}

impl Shared {
    /// The flow that a rule is of, without key, mask and actions; `None` if it is none of ours.
    fn sighted(&self, glance: &Glance) -> Option<Flow> {
        let ufid = Ufid(glance.cookie?);
        let stats = self.places.count(ufid, &glance.id, &glance.stats, self.clock.now())?;
        let in_hw = glance.flags & cls::IN_HW != 0;
        let attrs = FlowAttrs { offloaded: in_hw.then_some("yes"), layer: TC, ..FlowAttrs::default() };
        Some(Flow { attrs, ..Sighting { ufid, pmd: PmdId::NONE, stats }.into() })
    }

    /// A rule as a flow; `None` if it is none of ours.
    ///
    /// # Errors
    /// The flow whose rule cannot be read back: ports or limits that an earlier process knew are no more.
    pub(super) fn flow(&self, filter: &Filter) -> Result<Option<Flow>, Ufid> {
        let Some(mut flow) = self.sighted(&Glance::of(filter)) else { return Ok(None) };
        let ufid = flow.ufid;
        let port = self.ports.of(filter.id.on, filter.id.hook).ok_or(ufid)?;
        let mut raised = raise(filter, port, self)
            .inspect_err(|why| tracing::debug!(target: "dpif_offload_tc", "rule of {ufid}: {why}"))
            .map_err(|_| ufid)?;
        if self.places.hard(ufid).is_some_and(|hard| hard.loose) {
            (raised.key.vlans[1], raised.mask.0.vlans[1]) = Default::default();
        }
        let support = self.inner.features().odp_support();
        let params = Params { mask: Some(&raised.mask), ..Params::new(&raised.key, &support) };
        flow.key = RawKey(for_kernel(&key_from_flow(&params).0).into());
        flow.mask = RawMask(for_kernel(&mask_from_flow(&params, &raised.mask).0).into());
        flow.actions = raised.actions.into();
        flow.attrs.why =
            flow.attrs.offloaded.is_none().then(|| self.why_in_kernel(filter, port).to_string().into());
        Ok(Some(flow))
    }

    /// Why a rule is in the kernel and not in hardware.
    fn why_in_kernel(&self, filter: &Filter, port: DpPort) -> Reason {
        if filter.flags & cls::SKIP_HW != 0 {
            return Reason::Policy;
        }
        if let Some(words) = self.table.words(&filter.id) {
            return Reason::Declined(words);
        }
        match self.ports.get(port) {
            Some(port) if self.probed.hardware(port.device.ifindex) != Some(true) => {
                Reason::NoHardware(port.name)
            }
            _ => Reason::Unsaid,
        }
    }

    /// Removes a rule that nobody could look after, and its flow.
    pub(super) fn abandon(&self, ufid: Ufid, id: Id) {
        if let Some(Err(error)) = self.table.submit(&[Job::Del(id)]).pop()
            && !matches!(error.errno(), Errno::ENOENT | Errno::ENODEV)
        {
            tracing::warn!(target: "dpif_offload_tc", rl = "60,5", "deleting the rule of {ufid} failed: {error}");
            return;
        }
        if let Some(place) = self.places.remove(ufid) {
            self.unlead(&place);
        }
    }
}
