//! [`Offloaded`] as a datapath: what has to do with flows and ports is looked at, the rest is the inner datapath's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use datapath::conntrack::Conntrack;
use datapath::flow::{Dump, Execute, Flow, FlowDel, FlowGet, FlowPut, FlowStats, Op, OpResult};
use datapath::netdev::Netdev;
use datapath::{
    Cache, Datapath, DpStats, Error, Features, MeterConfig, MeterFeatures, MeterStats, PortChanges, PortInfo,
    kernel, upcall, user,
};
use flow::id::{DpMeter, DpPort};

use super::Offloaded;
use super::dump::Walk;
use super::hook::Hook;
use crate::provider::{TC, choose};

impl Datapath for Offloaded {
    fn name(&self) -> &str {
        self.shared.inner.name()
    }

    fn kind(&self) -> &str {
        self.shared.inner.kind()
    }

    fn version(&self) -> String {
        self.shared.inner.version()
    }

    fn features(&self) -> &Features {
        self.shared.inner.features()
    }

    fn offloaded_flows(&self) -> usize {
        self.shared.places.hard_count()
    }

    fn as_engine(&self) -> Option<&user::Engine> {
        self.shared.inner.as_engine()
    }

    fn stats(&self) -> DpStats {
        self.shared.inner.stats()
    }

    fn run(&self) -> bool {
        self.shared.inner.run()
    }

    fn wake_by(&self, waker: &Waker) {
        self.shared.inner.wake_by(waker);
    }

    fn set_handler(&self, handler: Option<Arc<dyn upcall::Handler>>) {
        self.shared.sampling.set_handler(handler.clone());
        self.shared.inner.set_handler(handler.map(|handler| Hook::over(handler, &self.shared)));
    }

    fn set_handlers(&self, n: usize) -> Result<(), Error> {
        self.shared.inner.set_handlers(n)
    }

    fn handlers_required(&self) -> Option<usize> {
        self.shared.inner.handlers_required()
    }

    fn set_receiving(&self, on: bool) -> Result<(), Error> {
        self.shared.inner.set_receiving(on)
    }

    fn fairness(&self) -> Vec<kernel::fair::Figures> {
        self.shared.inner.fairness()
    }

    fn configure(&self, config: &BTreeMap<String, String>) -> Result<(), Error> {
        if !self.shared.has_rules() {
            // Once it is on, it stays on.
            let on = config.get("hw-offload").is_some_and(|text| text.eq_ignore_ascii_case("true"));
            self.shared.on.fetch_or(on, Ordering::Relaxed);
            return self.shared.inner.configure(config);
        }
        let rebalances =
            config.get("offload-rebalance").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        self.shared.waiting.set_rebalancing(rebalances);
        if config.get("hw-offload").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            self.shared.turn_on(config.get("tc-policy"));
        }
        self.shared.inner.configure(config)
    }

    fn port_open_type<'a>(&self, kind: &'a str) -> &'a str {
        self.shared.inner.port_open_type(kind)
    }

    fn port_add(&self, device: &Arc<dyn Netdev>, requested: Option<DpPort>) -> Result<DpPort, Error> {
        let number = self.shared.inner.port_add(device, requested)?;
        if !self.shared.has_rules() {
            self.shared.dummies.add(number, device.name(), device.kind(), &self.shared.order);
        } else if self.shared.is_on() {
            self.shared.attach(number, &device.datapath_port(), device.kind());
        } else {
            self.shared.disown(number, &device.datapath_port(), device.kind());
        }
        Ok(number)
    }

    fn port_del(&self, port: DpPort) -> Result<(), Error> {
        self.shared.dummies.remove(port);
        self.shared.detach(port);
        self.shared.inner.port_del(port)
    }

    fn port_configure(&self, port: DpPort, config: &BTreeMap<String, String>) -> Result<(), Error> {
        let own = config.get("hw-offload-priority").map(String::as_str);
        self.shared.dummies.settle(port, own, &self.shared.order);
        if choose(&self.shared.order, own, |provider| provider == TC).is_none() {
            self.shared.detach(port);
        }
        self.shared.inner.port_configure(port, config)
    }

    fn port_by_number(&self, port: DpPort) -> Result<PortInfo, Error> {
        self.shared.inner.port_by_number(port)
    }

    fn port_by_name(&self, name: &str) -> Result<PortInfo, Error> {
        self.shared.inner.port_by_name(name)
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.shared.inner.ports()
    }

    fn port_device(&self, port: DpPort) -> Result<Arc<dyn Netdev>, Error> {
        self.shared.inner.port_device(port)
    }

    fn take_leftovers(&self) -> Vec<PortInfo> {
        self.shared.inner.take_leftovers()
    }

    fn outlives_us(&self) -> bool {
        self.shared.inner.outlives_us()
    }

    fn destroy(&self) -> Result<(), Error> {
        for (number, _) in self.shared.ports.all() {
            self.shared.detach(number);
        }
        self.shared.inner.destroy()
    }

    fn port_upcalls(&self, port: DpPort) -> Option<(u64, u64)> {
        self.shared.inner.port_upcalls(port)
    }

    fn port_changes(&self) -> PortChanges {
        self.shared.inner.port_changes()
    }

    fn port_lost(&self, port: DpPort) {
        self.shared.detach(port);
        self.shared.inner.port_lost(port);
    }

    fn port_pid(&self, port: DpPort) -> u32 {
        self.shared.inner.port_pid(port)
    }

    fn flow_put(&self, put: &FlowPut<'_>) -> Result<Option<FlowStats>, Error> {
        if self.is_on() { self.shared.put_one(put) } else { self.shared.inner.flow_put(put) }
    }

    fn flow_del(&self, del: &FlowDel<'_>) -> Result<FlowStats, Error> {
        if self.is_on() { self.shared.del_one(del) } else { self.shared.inner.flow_del(del) }
    }

    fn flow_get(&self, get: &FlowGet<'_>) -> Result<Flow, Error> {
        if self.is_on() { self.shared.get_one(get) } else { self.shared.inner.flow_get(get) }
    }

    fn flow_dump(&self, terse: bool) -> Box<dyn Dump> {
        Box::new(Walk::begin(&self.shared, terse))
    }

    fn flow_flush(&self) -> Result<(), Error> {
        self.shared.flush()
    }

    fn execute(&self, execute: &Execute<'_>) -> Result<(), Error> {
        self.shared.inner.execute(execute)
    }

    fn operate(&self, ops: &[Op<'_>]) -> Vec<OpResult> {
        self.shared.operate(ops)
    }

    fn conntrack(&self) -> Option<&dyn Conntrack> {
        self.shared.inner.conntrack()
    }

    fn offload_stats(&self) -> Vec<(String, Vec<(&'static str, u64)>)> {
        let on = self.shared.on.load(Ordering::Relaxed);
        let dummies = self.shared.order.iter().filter(|provider| on && **provider != TC);
        let counted = |provider: &&'static str| {
            let label = format!("{provider}[{}@{}]", self.kind(), self.name());
            (label, vec![("Offloaded port count", self.shared.dummies.ports(provider).len() as u64)])
        };
        dummies.map(counted).collect()
    }

    fn caches(&self) -> Vec<Cache> {
        self.shared.inner.caches()
    }

    fn set_cache_size(&self, level: usize, size: u32) -> Result<u32, Error> {
        self.shared.inner.set_cache_size(level, size)
    }

    fn meter_features(&self) -> MeterFeatures {
        self.shared.inner.meter_features()
    }

    fn meter_set(&self, meter: DpMeter, config: &MeterConfig) -> Result<(), Error> {
        self.shared.inner.meter_set(meter, config)?;
        self.shared.meter_set(meter, config);
        Ok(())
    }

    fn meter_get(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        self.shared.inner.meter_get(meter).map(|stats| self.shared.meter_get(meter, stats))
    }

    fn meter_del(&self, meter: DpMeter) -> Result<MeterStats, Error> {
        let stats = self.shared.inner.meter_del(meter)?;
        Ok(self.shared.meter_del(meter, stats))
    }

    fn bond_set(&self, bond: u32, members: &[DpPort; 256]) -> Result<(), Error> {
        self.shared.inner.bond_set(bond, members)
    }

    fn bond_del(&self, bond: u32) -> Result<(), Error> {
        self.shared.inner.bond_del(bond)
    }

    fn bond_bytes(&self, bond: u32) -> Result<[u64; 256], Error> {
        self.shared.inner.bond_bytes(bond)
    }
}
