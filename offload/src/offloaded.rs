//! A datapath over another one, some of whose flows are rules of devices.
//!
//! A flow that is put is lowered; if a device takes the rule, the flow is there and not in the inner datapath, else it is in the
//! inner one and the [`Reason`] is kept. Who looks after flows sees all of them: dumps show rules as the flows that they
//! are, with counters that never go back, and a flow has one place at a time, but for the moment in which it moves: then it
//! is in both, for the rule takes its packets.
//!
//! * `operate`: operations in batches, pipelined to the kernel.
//! * `hook`: flows that answers to upcalls install.
//! * `dump`: walks.
//! * `meters`: meters as limits that rules share.
//! * `again`: flows that wait for hardware. `adopt`: rules that an earlier process left. `floors`: the last rule of a chain, where
//!   kernels need one.
//! * `sampling`: packets that rules sampled. `probe`: what devices can do.
//! * `delegate`: everything else is the inner datapath's.

mod operate;
mod hook;
mod dump;
mod meters;
mod again;
mod adopt;
mod floors;
mod sampling;
mod kernel;
mod probe;
mod delegate;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use datapath::flow::{FlowStats, PutFlags};
use datapath::netdev::tunnel::kind_of_port;
use datapath::{Datapath, Error, MeterConfig};
use flow::action::Action;
use flow::id::{DpMeter, DpPort, Ufid};
use flow::key::{Key, Mask, VLAN_CFI};
use flow::odp;
use flow::time::Clock;
use sys::errno::Errno;
use sys::link::Links;

use crate::capability::Capabilities;
use crate::lower::lower;
use crate::place::{Hard, Place, Places, Reason};
use crate::ports::{Port, Ports};
use crate::prio::Priorities;
use crate::provider::{self, Dummies, Member, TC};
use crate::room::Pace;
use crate::rule::{Device, Rule, Support, Surroundings};
use crate::sample::{Samples, Site, Tally};
use crate::table::{Job, Table};
use crate::tc::action::Spec;
use crate::tc::filter::{Id, cls};
use crate::tc::{Hook, On};

/// A chain of a device: those of others have nothing to do with it.
type Chain = (On, Hook, u32);

/// Where rules may be (`tc-policy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// In hardware if it takes them, and in the kernel.
    None,
    /// In hardware only.
    SkipSw,
    /// In the kernel only.
    SkipHw,
}

impl Policy {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "skip_sw" => Some(Self::SkipSw),
            "skip_hw" => Some(Self::SkipHw),
            _ => None,
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::None => 0,
            Self::SkipSw => cls::SKIP_SW,
            Self::SkipHw => cls::SKIP_HW,
        }
    }
}

/// What the parts of [`Offloaded`] share.
struct Shared {
    own: Weak<Shared>,
    inner: Arc<dyn Datapath>,
    table: Box<dyn Table>,
    clock: Arc<dyn Clock>,
    /// Flags of new rules.
    flags: AtomicU32,
    /// As told, and once it was asked as the kernel said.
    support: Support,
    kernel: OnceLock<Support>,
    ports: Ports,
    places: Places,
    priorities: Priorities,
    /// What meters were configured to.
    meters: Mutex<BTreeMap<DpMeter, MeterConfig>>,
    /// How many rules lead to each chain.
    chains: Mutex<HashMap<Chain, u32>>,
    floors: floors::Floors,
    /// The last handle that was given out.
    handle: AtomicU32,
    on: AtomicBool,
    /// Providers, in the order in which a port's are asked.
    order: Vec<&'static str>,
    dummies: Dummies,
    waiting: again::Waiting,
    samples: Samples,
    sampling: sampling::Sampling,
    probed: probe::Probed,
}

/// A datapath whose flows go to devices that take them.
pub struct Offloaded {
    shared: Arc<Shared>,
}

/// A flow that is ready to be a rule.
struct Prepared {
    rule: Rule,
    id: Id,
    /// What the flow is now, if it has a rule.
    old: Option<Hard>,
    /// Flags of the rule.
    flags: u32,
    /// See [`Hard::loose`].
    loose: bool,
}

/// Whether packets have an inner tag at which the flow does not look; at its EtherType it may look.
///
/// A switch that looks at one tag only (`vlan-limit`) takes the second one's EtherType for that of the packets. The rule is
/// told of the EtherType behind it, too, and the mask says so then.
fn is_loose(key: &Key, mask: &mut Mask) -> bool {
    let bits = &mut mask.0.vlans[1];
    if key.vlans[1].tci.get() & VLAN_CFI == 0 || bits.tci.get() != 0 {
        return false;
    }
    let tpid = bits.tpid.get();
    if tpid == u16::MAX && mask.0.dl_type.get() == 0 {
        mask.0.dl_type = u16::MAX.into();
        return true;
    }
    tpid == 0
}

impl Offloaded {
    /// Nothing is offloaded before [`Datapath::configure`] says so. Providers are asked in the order of the list.
    pub fn new(
        inner: Arc<dyn Datapath>,
        table: Box<dyn Table>,
        clock: Arc<dyn Clock>,
        support: Support,
        priority: &str,
    ) -> Self {
        let order = provider::ordered(inner.kind(), priority);
        let dummies = Dummies::default();
        for port in inner.ports() {
            dummies.add(port.number, &port.name, &port.kind, &order);
        }
        let shared = Shared {
            own: Weak::new(),
            inner,
            table,
            clock,
            flags: AtomicU32::new(Policy::None.flags()),
            support,
            kernel: OnceLock::new(),
            ports: Ports::default(),
            places: Places::default(),
            priorities: Priorities::default(),
            meters: Mutex::default(),
            chains: Mutex::default(),
            floors: floors::Floors::default(),
            handle: AtomicU32::new(0),
            on: AtomicBool::new(false),
            order,
            dummies,
            waiting: again::Waiting::default(),
            samples: Samples::default(),
            sampling: sampling::Sampling::default(),
            probed: probe::Probed::default(),
        };
        let shared = Arc::new_cyclic(|own| Shared { own: own.clone(), ..shared });
        Self { shared }
    }

    /// Whether flows are offloaded.
    pub fn is_on(&self) -> bool {
        self.shared.is_on()
    }

    /// The datapath under this one.
    pub fn inner(&self) -> &Arc<dyn Datapath> {
        &self.shared.inner
    }

    /// Providers in the order in which they are asked, and their ports.
    pub fn providers(&self) -> Vec<(&'static str, Vec<Member>)> {
        let Shared { ports, dummies, order, .. } = &*self.shared;
        let of = |provider| match provider {
            TC => {
                let ports = ports.all().into_iter();
                ports.map(|(n, port)| Member::new(n, port.name, Some(port.device.ifindex))).collect()
            }
            dummy => {
                let ports = dummies.ports(dummy).into_iter();
                ports.map(|(n, name)| Member::new(n, name, None)).collect()
            }
        };
        order.iter().map(|provider| (*provider, of(*provider))).collect()
    }

    /// Flows that have a rule, and those that have none by reason.
    pub fn tally(&self) -> (usize, BTreeMap<String, usize>) {
        self.shared.places.tally()
    }

    /// Flows that gave way to busier ones so far.
    pub fn displaced(&self) -> u64 {
        self.shared.waiting.displaced()
    }

    /// What became of packets that rules sampled.
    pub fn sampled(&self) -> Tally {
        self.shared.samples.tally()
    }

    /// What hardware can do, as far as it was asked, by name.
    pub fn capabilities(&self) -> Vec<Capabilities> {
        self.shared.probed.all()
    }

    /// What would become of a flow, for those who ask: the port whose device would have the rule, and the rule. What leads
    /// to its chain is not asked for.
    ///
    /// # Errors
    /// Why it would be in software.
    pub fn explain(&self, key: &Key, mask: &Mask, actions: &[Action]) -> Result<(Port, Rule), Reason> {
        let number = DpPort(key.in_port);
        let rule = lower((key, mask), actions, &*self.shared, self.shared.support())?;
        let port = self.shared.ports.get(number).ok_or(Reason::Port(number))?;
        let known = self.shared.probed.of(port.device.ifindex);
        match known.as_ref().and_then(|known| known.stops(&rule)) {
            Some(lack) => Err(Reason::Lacks(lack.name, lack.why.clone())),
            None => Ok((port, rule)),
        }
    }
}

/// Where packets of a port of that type come into the switch.
fn hook_of(kind: &str) -> Hook {
    if kind == "internal" { Hook::Egress } else { Hook::Ingress }
}

impl Surroundings for Shared {
    fn device(&self, port: DpPort) -> Option<Device> {
        self.ports.device(port)
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        self.ports.port(ifindex)
    }

    fn police(&self, meter: DpMeter) -> Option<u32> {
        self.ports.police(meter)
    }

    fn meter(&self, index: u32) -> Option<DpMeter> {
        self.ports.meter(index)
    }

    fn sample_group(&self, site: Site) -> Option<u32> {
        self.samples.group(site)
    }

    fn sample_action(&self, group: u32) -> Option<Action> {
        self.samples.site(group).map(|site| site.action.clone())
    }
}

impl Shared {
    fn is_on(&self) -> bool {
        self.has_rules() && self.on.load(Ordering::Relaxed)
    }

    /// Whether flows can be rules here.
    fn has_rules(&self) -> bool {
        self.order.contains(&TC)
    }

    /// Begins to offload: devices of ports that are there are given rules from now on. Where rules may be stays as it is.
    fn turn_on(&self, policy: Option<&String>) {
        if self.is_on() || !self.has_rules() {
            return;
        }
        let text = policy.map_or("none", String::as_str);
        match Policy::parse(text) {
            Some(policy) => {
                self.flags.store(policy.flags(), Ordering::Relaxed);
                tracing::info!(target: "tc", "tc: Using policy '{text}'");
            }
            None => tracing::warn!(target: "tc", "tc: Invalid policy '{text}'"),
        }
        self.on.store(true, Ordering::Release);
        self.limit_all();
        for port in self.inner.ports() {
            self.attach(port.number, &port.name, &port.kind);
        }
    }

    /// The interface index of a port that may have rules.
    fn index_of(&self, number: DpPort, name: &str) -> Option<u32> {
        // The datapath's own port is no way in.
        if number == DpPort::LOCAL || name == self.inner.name() {
            return None;
        }
        Links::new().ok()?.index(name).ok()
    }

    /// Lets a port have rules, if it is a device that can.
    fn attach(&self, number: DpPort, name: &str, kind: &str) {
        if let Some(ifindex) = self.index_of(number, name) {
            self.attach_device(number, name, kind, ifindex);
        }
    }

    fn attach_device(&self, number: DpPort, name: &str, kind: &str, ifindex: u32) {
        let hook = hook_of(kind);
        match self.ports.device(number) {
            // Ports of an earlier process are there before they are asked for.
            Some(there) if (there.ifindex, there.hook) == (ifindex, hook) => return,
            Some(_) => self.detach(number),
            None => {}
        }
        match self.table.attach(ifindex, hook) {
            Ok(()) => {
                let tunnel = kind_of_port(name).is_some();
                let device = Device { ifindex, block: None, hook, tunnel };
                let port = Port { name: name.to_owned(), device, switch: self.table.switch(name) };
                // In this order: rules that are there now are an earlier process's.
                self.adopt(name, &device);
                self.ask_kernel(&device);
                self.ports.insert(number, port.clone());
                self.probe(&port);
            }
            Err(error) => {
                let detail = error.detail().unwrap_or_default();
                tracing::info!(target: "dpif_offload_tc", "{name}: no rules can be had: {error} {detail}");
            }
        }
    }

    /// Takes the rules of a port that goes, and forgets its flows.
    fn detach(&self, number: DpPort) {
        let Some(port) = self.ports.remove(number) else { return };
        self.probed.forget(port.device.ifindex);
        let on = On::of(port.device.ifindex, port.device.block);
        if let Err(error) = self.table.detach(port.device.ifindex, port.device.hook) {
            tracing::info!(target: "dpif_offload_tc", "{}: rules remain: {error}", port.name);
        }
        let gone = self.places.take(|place| matches!(place, Place::Hard(hard) if hard.id.on == on));
        for (_, place) in gone {
            self.unlead(&place);
        }
        self.forget_floors(on);
    }

    /// The chains that rules lead to.
    fn chains(&self) -> std::sync::MutexGuard<'_, HashMap<Chain, u32>> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rule leads to where it leads, and samples for whom it samples.
    fn lead(&self, hard: &Hard) {
        if let Some(chain) = hard.leads_to() {
            *self.chains().entry(chain).or_default() += 1;
        }
        hard.group.into_iter().for_each(|group| self.samples.hold(group));
    }

    /// A flow's rule does so no longer.
    fn unlead(&self, place: &Place) {
        let Place::Hard(hard) = place else { return };
        hard.group.into_iter().for_each(|group| self.samples.release(group));
        let Some(chain) = hard.leads_to() else { return };
        let mut chains = self.chains();
        if let Some(count) = chains.get_mut(&chain) {
            *count -= 1;
            if *count == 0 {
                chains.remove(&chain);
            }
        }
    }

    fn lowered(&self, key: &Key, mask: &Mask, actions: &[Action]) -> Result<Rule, Reason> {
        let port = DpPort(key.in_port);
        let device = self.device(port).ok_or(Reason::Port(port))?;
        let rule = lower((key, mask), actions, self, self.support())?;
        // Without the rule before it, packets of the chain come into the datapath.
        let chain = (On::of(device.ifindex, device.block), device.hook, rule.chain);
        if rule.chain != 0 && !self.chains().contains_key(&chain) {
            return Err(Reason::Chain(rule.chain));
        }
        Ok(rule)
    }

    /// Makes a flow ready to be a rule.
    fn prepare(
        &self,
        ufid: Ufid,
        raw: &odp::RawKey,
        raw_mask: Option<&odp::RawMask>,
        actions: &[Action],
    ) -> Result<Prepared, Reason> {
        let (key, _) = odp::key_to_flow(raw).map_err(|error| Reason::Key(error.to_string()))?;
        let mask = match raw_mask {
            Some(raw_mask) => {
                odp::mask_to_flow(raw_mask, &key).map_err(|error| Reason::Key(error.to_string()))?.0
            }
            None => Mask::exact(),
        };
        self.prepare_parsed(ufid, &key, mask, actions)
    }

    fn prepare_parsed(
        &self,
        ufid: Ufid,
        key: &Key,
        mut mask: Mask,
        actions: &[Action],
    ) -> Result<Prepared, Reason> {
        let loose = is_loose(key, &mut mask);
        let mut rule = self.lowered(key, &mask, actions)?;
        let own = rule.actions.iter_mut().find(|action| !action.is_shared());
        own.into_iter().for_each(|action| action.cookie = Some(ufid.0.to_vec()));
        let port = DpPort(key.in_port);
        let device = self.device(port).ok_or(Reason::Port(port))?;
        let prio = self.priorities.of(rule.protocol, &rule.key).ok_or(Reason::Priorities)?;
        let on = On::of(device.ifindex, device.block);
        let mut id =
            Id { on, hook: device.hook, chain: rule.chain, prio, protocol: rule.protocol, handle: 0 };
        self.lay_floor(&id, &rule)?;
        let old = self.places.hard(ufid);
        id.handle = match old {
            // The rule takes the place of the one that is there.
            Some(old) if Id { handle: 0, ..old.id } == id => old.id.handle,
            _ => self.new_handle(),
        };
        Ok(Prepared { rule, id, old, flags: self.flags_on(&device), loose })
    }

    /// Flags of new rules of a device.
    fn flags_on(&self, device: &Device) -> u32 {
        let flags = self.flags.load(Ordering::Relaxed);
        let flags = if device.tunnel { flags & !cls::SKIP_SW } else { flags };
        let may_refuse =
            flags & (cls::SKIP_SW | cls::SKIP_HW) == 0 && self.probed.hardware(device.ifindex) != Some(false);
        if may_refuse { flags | cls::VERBOSE } else { flags }
    }

    fn new_handle(&self) -> u32 {
        loop {
            let handle = self.handle.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if handle != 0 {
                return handle;
            }
        }
    }

    /// Keeps why a flow is in software. With `retried`, it was tried before.
    fn keep_why(&self, ufid: Ufid, why: Reason, tries: u32) {
        let again = why.again_after(tries).map(|after| self.clock.now() + after);
        self.places.keep_why(ufid, why, tries, again);
    }

    fn put_job<'a>(&self, prepared: &'a Prepared) -> Job<'a> {
        Job::Put {
            id: prepared.id,
            key: &prepared.rule.key,
            actions: &prepared.rule.actions,
            flags: prepared.flags,
            replace: prepared.old.is_some_and(|old| old.id == prepared.id),
        }
    }

    /// A flow's rule is there. `before` is what was counted of the flow until now.
    fn installed(&self, ufid: Ufid, prepared: &Prepared, before: FlowStats) {
        let group = prepared.rule.actions.iter().find_map(|action| match action.spec {
            Spec::Sample(sample) => Some(sample.group),
            _ => None,
        });
        let base = (before.packets, before.bytes);
        let (id, goto, loose) = (prepared.id, prepared.rule.goto, prepared.loose);
        let (since, pace) = (self.clock.now(), Pace::default());
        let hard = Hard { id, goto, group, loose, base, stats: before, since, pace };
        self.lead(&hard);
        if group.is_some() {
            self.listen();
        }
        if let Some(old) = self.places.insert(ufid, Place::Hard(hard)) {
            self.unlead(&old);
        }
    }

    /// A flow that has a rule now leaves the inner datapath. It counts from the beginning, as who looks after flows takes a
    /// flow that comes from another layer to do, but it is not older than it was there.
    fn leave_inner(&self, ufid: Ufid, key: &odp::RawKey) {
        let pmd = datapath::PmdId::NONE;
        let del = datapath::flow::FlowDel { key, ufid: Some(ufid), pmd, terse: true };
        let Ok(before) = self.inner.flow_del(&del) else { return };
        if let Some(mut hard) = self.places.hard(ufid) {
            hard.stats.used = hard.stats.used.max(before.used);
            self.places.insert(ufid, Place::Hard(hard));
        }
    }

    /// Whether a put may find a flow that is there, or one that is not.
    fn check(flags: PutFlags, there: bool) -> Result<(), Error> {
        match there {
            true if !flags.contains(PutFlags::MODIFY) => Err(Errno::EEXIST.into()),
            false if !flags.contains(PutFlags::CREATE) => Err(Errno::ENOENT.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
