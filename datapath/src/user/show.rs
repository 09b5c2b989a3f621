//! What commands show of the engine: typed, as text and as JSON.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::engine::Engine;
use super::graph::Step;
use super::worker::{Stats, Worker};
use crate::PmdId;

/// The one way of looking up in a subtable.
pub const LOOKUP: &str = "generic";
/// Seconds of an interval over which cycles are told, and of all intervals.
const INTERVAL: u32 = 5;
const INTERVALS: u32 = 60;

/// One worker, as headings name it.
#[derive(Clone, Serialize)]
pub struct Who {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_id: Option<u32>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.numa_id, self.core_id) {
            (Some(numa), Some(core)) => write!(f, "pmd thread numa_id {numa} core_id {core}"),
            _ => f.write_str("main thread"),
        }
    }
}

/// Asks each worker, the main thread's first, or only the one of a core.
fn ask<R: Send + 'static>(
    engine: &Engine,
    core: Option<u32>,
    question: impl Fn(&mut Worker) -> R + Clone + Send + 'static,
) -> Vec<(Who, R)> {
    let pmds = engine.pmds();
    let numa = |id: PmdId| pmds.iter().find(|pmd| pmd.id() == id).map(|pmd| pmd.numa);
    let cells = engine.cells().into_iter().filter(|cell| core.is_none_or(|core| cell.id.0 == core));
    let asked = cells.filter_map(|cell| {
        let question = question.clone();
        let answer = cell.call(move |worker| question(worker)).ok()?;
        let core_id = (cell.id != PmdId::MAIN).then_some(cell.id.0);
        Some((Who { numa_id: numa(cell.id), core_id }, answer))
    });
    asked.collect()
}

/// `a / b`, 0 where there is no `b`.
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn percent(a: u64, b: u64) -> f64 {
    ratio(a, b) * 100.0
}

/// Counters of one worker.
#[derive(Serialize)]
pub struct WorkerStats {
    #[serde(flatten)]
    pub who: Who,
    pub packets_received: u64,
    pub packet_recirculations: u64,
    pub emc_hits: u64,
    pub megaflow_hits: u64,
    pub subtable_lookups: u64,
    pub upcalls: u64,
    pub upcalls_failed: u64,
    pub packets_sent: u64,
    pub batches_sent: u64,
    pub tx_dropped: u64,
    pub no_memory: u64,
    pub idle_cycles: u64,
    pub busy_cycles: u64,
}

impl WorkerStats {
    fn new(who: Who, stats: &Stats) -> Self {
        Self {
            who,
            packets_received: stats.received,
            packet_recirculations: stats.recirculated,
            emc_hits: stats.cache_hits,
            megaflow_hits: stats.masked_hits,
            subtable_lookups: stats.masked_lookups,
            upcalls: stats.missed,
            upcalls_failed: stats.lost,
            packets_sent: stats.sent_packets,
            batches_sent: stats.sent_batches,
            tx_dropped: stats.tx_dropped,
            no_memory: stats.no_memory,
            idle_cycles: stats.idle_cycles,
            busy_cycles: stats.busy_cycles,
        }
    }
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (received, recirculated) = (self.packets_received, self.packet_recirculations);
        writeln!(f, "{}:", self.who)?;
        writeln!(f, "  packets received: {received}")?;
        writeln!(f, "  packet recirculations: {recirculated}")?;
        writeln!(f, "  avg. datapath passes per packet: {:.2}", ratio(received + recirculated, received))?;
        writeln!(f, "  phwol hits: 0")?;
        writeln!(f, "  mfex opt hits: 0")?;
        writeln!(f, "  simple match hits: 0")?;
        writeln!(f, "  emc hits: {}", self.emc_hits)?;
        writeln!(f, "  smc hits: 0")?;
        writeln!(f, "  megaflow hits: {}", self.megaflow_hits)?;
        let lookups = ratio(self.subtable_lookups, self.megaflow_hits);
        writeln!(f, "  avg. subtable lookups per megaflow hit: {lookups:.2}")?;
        writeln!(f, "  miss with success upcall: {}", self.upcalls)?;
        writeln!(f, "  miss with failed upcall: {}", self.upcalls_failed)?;
        writeln!(f, "  avg. packets per output batch: {:.2}", ratio(self.packets_sent, self.batches_sent))?;
        let (idle, busy) = (self.idle_cycles, self.busy_cycles);
        let total = idle + busy;
        if total == 0 {
            return Ok(());
        }
        writeln!(f, "  idle cycles: {idle} ({:.2}%)", percent(idle, total))?;
        writeln!(f, "  processing cycles: {busy} ({:.2}%)", percent(busy, total))?;
        if received == 0 {
            return Ok(());
        }
        writeln!(f, "  avg cycles per packet: {:.2} ({total}/{received})", ratio(total, received))?;
        writeln!(f, "  avg processing cycles per packet: {:.2} ({busy}/{received})", ratio(busy, received))
    }
}

/// `dpif-netdev/pmd-stats-show`.
#[derive(Serialize)]
pub struct PmdStats(pub Vec<WorkerStats>);

impl PmdStats {
    /// Asks the workers, or the one of a core.
    pub fn of(engine: &Engine, core: Option<u32>) -> Self {
        let asked = ask(engine, core, |worker| worker.stats.clone());
        Self(asked.into_iter().map(|(who, stats)| WorkerStats::new(who, &stats)).collect())
    }
}

impl fmt::Display for PmdStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|worker| worker.fmt(f))
    }
}

/// `dpif-netdev/pmd-perf-show`: the overall figures of the worker threads.
#[derive(Serialize)]
pub struct PmdPerf {
    pub workers: Vec<WorkerStats>,
}

impl PmdPerf {
    /// Asks the workers, or the one of a core.
    pub fn of(engine: &Engine, core: Option<u32>) -> Self {
        let mut workers = PmdStats::of(engine, core).0;
        workers.retain(|worker| worker.who.core_id.is_some());
        Self { workers }
    }
}

impl fmt::Display for PmdPerf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for worker in &self.workers {
            let passes = worker.packets_received + worker.packet_recirculations;
            let (idle, busy) = (worker.idle_cycles, worker.busy_cycles);
            writeln!(f, "\n{}:\n", worker.who)?;
            writeln!(f, "  - Used TSC cycles:  {:12}", idle + busy)?;
            writeln!(
                f,
                "  - idle cycles:      {idle:12}  ({:5.1} % of used cycles)",
                percent(idle, idle + busy)
            )?;
            writeln!(
                f,
                "  - busy cycles:      {busy:12}  ({:5.1} % of used cycles)",
                percent(busy, idle + busy)
            )?;
            let per_packet = ratio(busy, worker.packets_received);
            writeln!(
                f,
                "  Rx packets:         {:12}  ({per_packet:.0} cycles/pkt)",
                worker.packets_received
            )?;
            let per = ratio(passes, worker.packets_received);
            writeln!(f, "  Datapath passes:    {passes:12}  ({per:.2} passes/pkt)")?;
            writeln!(f, "  - PHWOL hits:       {:12}  ({:5.1} %)", 0, 0.0)?;
            writeln!(f, "  - MFEX Opt hits:    {:12}  ({:5.1} %)", 0, 0.0)?;
            writeln!(f, "  - Simple Match hits:{:12}  ({:5.1} %)", 0, 0.0)?;
            writeln!(
                f,
                "  - EMC hits:         {:12}  ({:5.1} %)",
                worker.emc_hits,
                percent(worker.emc_hits, passes)
            )?;
            writeln!(f, "  - SMC hits:         {:12}  ({:5.1} %)", 0, 0.0)?;
            let (hits, lookups) =
                (worker.megaflow_hits, ratio(worker.subtable_lookups, worker.megaflow_hits));
            writeln!(
                f,
                "  - Megaflow hits:    {hits:12}  ({:5.1} %, {lookups:.2} subtbl lookups/hit)",
                percent(hits, passes)
            )?;
            writeln!(
                f,
                "  - Upcalls:          {:12}  ({:5.1} %)",
                worker.upcalls,
                percent(worker.upcalls, passes)
            )?;
            let failed = worker.upcalls_failed;
            writeln!(f, "  - Lost upcalls:     {failed:12}  ({:5.1} %)", percent(failed, passes))?;
            writeln!(f, "  Tx packets:         {:12}", worker.packets_sent)?;
            let per_batch = ratio(worker.packets_sent, worker.batches_sent);
            writeln!(f, "  Tx batches:         {:12}  ({per_batch:.2} pkts/batch)", worker.batches_sent)?;
        }
        Ok(())
    }
}

/// A receive queue of a worker.
#[derive(Serialize)]
pub struct Rxq {
    pub port: String,
    pub queue: usize,
    /// Percent of the worker's cycles; `None` if it has not run.
    pub usage: Option<f64>,
}

/// The receive queues of a worker.
#[derive(Serialize)]
pub struct WorkerRxqs {
    #[serde(flatten)]
    pub who: Who,
    pub isolated: bool,
    pub rxqs: Vec<Rxq>,
}

/// `dpif-netdev/pmd-rxq-show`.
#[derive(Serialize)]
pub struct PmdRxqs {
    pub seconds: u32,
    pub workers: Vec<WorkerRxqs>,
}

impl PmdRxqs {
    /// Asks the worker threads, or the one of a core.
    pub fn of(engine: &Engine, core: Option<u32>, seconds: Option<u32>) -> Self {
        let seconds = match seconds {
            Some(seconds @ 1..=INTERVALS) => seconds.next_multiple_of(INTERVAL),
            _ => INTERVALS,
        };
        let pmds = engine.pmds();
        let workers = pmds.iter().filter(|pmd| core.is_none_or(|core| pmd.core == core)).map(|pmd| {
            let stats = pmd.cell.call(|worker| worker.stats.clone()).unwrap_or_default();
            let total = stats.idle_cycles + stats.busy_cycles;
            let queues = pmd.queues.load();
            let rxqs = queues.iter().map(|queue| Rxq {
                port: queue.port.device.name().to_owned(),
                queue: queue.queue,
                usage: (stats.received > 0).then(|| percent(queue.cycles.load(Ordering::Relaxed), total)),
            });
            let mut rxqs: Vec<Rxq> = rxqs.collect();
            rxqs.sort_by(|a, b| (&a.port, a.queue).cmp(&(&b.port, b.queue)));
            let who = Who { numa_id: Some(pmd.numa), core_id: Some(pmd.core) };
            WorkerRxqs { who, isolated: engine.is_isolated(pmd.core), rxqs }
        });
        Self { seconds, workers: workers.collect() }
    }
}

impl fmt::Display for PmdRxqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Displaying last {} seconds pmd usage %", self.seconds)?;
        for worker in &self.workers {
            writeln!(f, "{}:\n  isolated : {}", worker.who, worker.isolated)?;
            for rxq in &worker.rxqs {
                write!(f, "  port: {:<16}  queue-id: {:2} (enabled)   pmd usage: ", rxq.port, rxq.queue)?;
                match rxq.usage {
                    Some(usage) => writeln!(f, "{usage:2.0} %")?,
                    None => writeln!(f, "NOT AVAIL")?,
                }
            }
            let known: Vec<f64> = worker.rxqs.iter().filter_map(|rxq| rxq.usage).collect();
            match (worker.rxqs.is_empty(), known.is_empty()) {
                (true, _) => {}
                (false, true) => writeln!(f, "  overhead: NOT AVAIL")?,
                (false, false) => writeln!(f, "  overhead: {:2.0} %", 0.0)?,
            }
        }
        Ok(())
    }
}

/// `dpif-netdev/subtable-lookup-info-get`.
#[derive(Serialize)]
pub struct SubtableLookup {
    pub name: &'static str,
    /// Subtables that there are.
    pub use_count: usize,
    pub priority: u8,
}

impl SubtableLookup {
    /// Counts the subtables of all datapaths.
    pub fn of(engines: &[Arc<Engine>]) -> Self {
        let masks = |engine: &Arc<Engine>| ask(engine, None, |worker| worker.flows.masks());
        let use_count = engines.iter().flat_map(masks).map(|(_, masks)| masks).sum();
        Self { name: LOOKUP, use_count, priority: 1 }
    }
}

impl fmt::Display for SubtableLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Available dpcls implementations:")?;
        writeln!(f, "  {} (Use count: {}, Priority: {})", self.name, self.use_count, self.priority)
    }
}

/// One node of a worker's graph.
#[derive(Serialize)]
pub struct NodeRow {
    pub node: &'static str,
    pub next: Vec<&'static str>,
    pub calls: u64,
    pub packets: u64,
    pub clocks: u64,
}

/// A worker's graph.
#[derive(Serialize)]
pub struct WorkerGraph {
    #[serde(flatten)]
    pub who: Who,
    pub nodes: Vec<NodeRow>,
}

/// `engine/graph`.
#[derive(Serialize)]
pub struct Graphs(pub Vec<WorkerGraph>);

impl Graphs {
    /// Asks all workers.
    pub fn of(engine: &Engine) -> Self {
        let asked = ask(engine, None, |worker| worker.graph.stats().collect::<Vec<_>>());
        let graph = |(who, nodes): (Who, Vec<_>)| {
            let row = |(node, stats): (super::graph::NodeId, super::graph::NodeStats)| NodeRow {
                node: node.name(),
                next: node.next().iter().map(|next| next.name()).collect(),
                calls: stats.calls,
                packets: stats.packets,
                clocks: stats.clocks,
            };
            WorkerGraph { who, nodes: nodes.into_iter().map(row).collect() }
        };
        Self(asked.into_iter().map(graph).collect())
    }
}

impl fmt::Display for Graphs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for worker in &self.0 {
            writeln!(f, "{}:", worker.who)?;
            writeln!(
                f,
                "  {:<10} {:>12} {:>12} {:>14} {:>13}",
                "node", "vectors", "packets", "packets/vector", "clocks/packet"
            )?;
            for row in worker.nodes.iter().filter(|row| row.calls > 0) {
                let (per_vector, clocks) = (ratio(row.packets, row.calls), ratio(row.clocks, row.packets));
                writeln!(
                    f,
                    "  {:<10} {:>12} {:>12} {per_vector:>14.2} {clocks:>13.1}",
                    row.node, row.calls, row.packets
                )?;
            }
        }
        Ok(())
    }
}

/// One mask of a classifier.
#[derive(Serialize)]
pub struct SubtableRow {
    /// Words that the mask looks at.
    pub words: usize,
    pub flows: usize,
    /// Hits, those of the past counting less.
    pub hits: u64,
}

/// A worker's classifier of one port.
#[derive(Serialize)]
pub struct ClassifierRow {
    #[serde(flatten)]
    pub who: Who,
    pub in_port: u32,
    /// In the order of look-up.
    pub subtables: Vec<SubtableRow>,
}

/// `engine/classifier`.
#[derive(Serialize)]
pub struct Classifiers(pub Vec<ClassifierRow>);

impl Classifiers {
    /// Asks all workers.
    pub fn of(engine: &Engine) -> Self {
        let asked = ask(engine, None, |worker| {
            let rows = worker
                .flows
                .classifiers()
                .map(|(port, classifier)| (port, classifier.subtables().collect::<Vec<_>>()));
            let mut rows: Vec<_> = rows.collect();
            rows.sort_by_key(|(port, _)| *port);
            rows
        });
        let rows = asked.into_iter().flat_map(|(who, ports)| {
            ports.into_iter().map(move |(in_port, subtables)| ClassifierRow {
                who: who.clone(),
                in_port,
                subtables: subtables
                    .into_iter()
                    .map(|(words, flows, hits)| SubtableRow { words, flows, hits })
                    .collect(),
            })
        });
        Self(rows.collect())
    }
}

impl fmt::Display for Classifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.0 {
            writeln!(f, "{}, in_port {}:", row.who, row.in_port)?;
            for (n, table) in row.subtables.iter().enumerate() {
                writeln!(f, "  {n}: {} words, {} flows, {} hits", table.words, table.flows, table.hits)?;
            }
        }
        Ok(())
    }
}

/// A worker's trace.
#[derive(Serialize)]
pub struct WorkerTrace {
    #[serde(flatten)]
    pub who: Who,
    pub steps: Vec<Step>,
}

/// `engine/trace-show`.
#[derive(Serialize)]
pub struct Traces(pub Vec<WorkerTrace>);

impl Traces {
    /// Asks all workers.
    pub fn of(engine: &Engine) -> Self {
        let asked = ask(engine, None, |worker| worker.graph.traced().to_vec());
        Self(asked.into_iter().map(|(who, steps)| WorkerTrace { who, steps }).collect())
    }
}

impl fmt::Display for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for worker in &self.0 {
            writeln!(f, "{}:", worker.who)?;
            for step in &worker.steps {
                let Step { node, packet, len, in_port, recirc_id } = step;
                writeln!(
                    f,
                    "  {node}: packet {packet}, {len} bytes, in_port {in_port}, recirc_id {recirc_id}"
                )?;
            }
        }
        Ok(())
    }
}
