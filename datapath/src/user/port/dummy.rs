//! Dummy devices, for tests: fed by `netdev-dummy/receive` and by streams; what is sent goes to files and streams.
//!
//! `dummy` and `dummy-internal` ports are polled by the main thread, `dummy-pmd` ports by workers. A receive gives one
//! frame at most, so that what tests see does not depend on how frames happened to be batched.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{SystemTime, UNIX_EPOCH};

use flow::key::EthAddr;
use flow::time::WallTime;
use sys::errno::Errno;
use sys::poll::Bell;

use super::pcap::Writer;
use super::stream::{Deliver, Streams};
use super::{Io, Rx, TxFrame};
use crate::Error;
use crate::netdev::{Address, Counters, Flags, Netdev, Netdevs, TxOffloads};
use crate::user::batch::Offload;

/// Frames that wait in one receive queue.
const MAX_QUEUE: usize = 100;
/// Queues of one port.
const MAX_QUEUES: usize = 128;
const MIN_MTU: u16 = 68;
const ETH_HEADER: usize = 14;

/// A dummy device.
pub struct Dummy {
    name: String,
    kind: &'static str,
    shared: Arc<Shared>,
    seq: AtomicU64,
}

/// What the device and its packet side share.
struct Shared {
    state: Mutex<State>,
    pmd: bool,
    /// Readable while a worker's queue may have frames.
    bell: Bell,
}

#[derive(Default)]
struct State {
    mac: EthAddr,
    mtu: u16,
    flags: Flags,
    ifindex: Option<u32>,
    addresses: Vec<Address>,
    rx: Vec<VecDeque<Vec<u8>>>,
    n_txq: usize,
    numa: u32,
    rx_pcap: Option<Writer>,
    tx_pcap: Option<Writer>,
    /// The file that both directions share.
    pcap: Option<Writer>,
    streams: Option<Arc<Streams>>,
    rx_stats: Vec<(u64, u64)>,
    tx_stats: Vec<(u64, u64)>,
    waker: Option<Waker>,
}

/// Whether a `netdev-dummy/conn-state` is told and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnState {
    Connected,
    Disconnected,
    /// There is no active stream.
    Unknown,
}

impl Dummy {
    /// Makes a device; `kind` says which of the three.
    pub fn open(netdevs: &Netdevs, name: &str, kind: &'static str) -> Result<Arc<dyn Netdev>, Error> {
        let [a, b, c, d] = netdevs.dummy_serial().to_be_bytes();
        let state = State {
            mac: [0xaa, 0x55, a, b, c, d],
            mtu: 1500,
            flags: Flags::UP,
            rx: vec![VecDeque::new()],
            n_txq: 1,
            rx_stats: vec![(0, 0)],
            tx_stats: vec![(0, 0)],
            ..State::default()
        };
        let shared = Shared { state: Mutex::new(state), pmd: kind == "dummy-pmd", bell: Bell::new()? };
        Ok(Arc::new(Self { name: name.to_owned(), kind, shared: Arc::new(shared), seq: AtomicU64::new(1) }))
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
    }

    /// Receive queues that there are.
    pub fn rx_queues(&self) -> usize {
        self.shared.lock().rx.len()
    }

    /// Queues a frame as if it had come in by receive queue `queue`.
    pub fn inject(&self, queue: usize, frame: &[u8]) {
        self.shared.inject(queue, frame);
    }

    /// Adds an address (`netdev-dummy/ip4addr`, `ip6addr`).
    pub fn add_address(&self, address: Address) {
        let mut state = self.shared.lock();
        state.addresses.retain(|known| known.ip != address.ip);
        state.addresses.push(address);
        drop(state);
        self.changed();
    }

    /// How the active stream does.
    pub fn conn_state(&self) -> ConnState {
        match self.shared.lock().streams.as_ref().filter(|streams| streams.is_active()) {
            Some(streams) if streams.is_connected() => ConnState::Connected,
            Some(_) => ConnState::Disconnected,
            None => ConnState::Unknown,
        }
    }

    fn open_streams(&self, options: &BTreeMap<String, String>) {
        let (active, passive) = (options.get("stream"), options.get("pstream"));
        if let (Some(active), Some(passive)) = (active, passive) {
            tracing::warn!(target: "netdev_dummy", "Open failed: both {passive} and {active} are configured");
            return;
        }
        let target = active.or(passive);
        let current = self.shared.lock().streams.as_ref().map(|streams| streams.target.clone());
        if target == current.as_ref() {
            return;
        }
        let shared = Arc::downgrade(&self.shared);
        let deliver: Deliver = Arc::new(move |frame: &[u8]| {
            if let Some(shared) = shared.upgrade() {
                shared.inject(0, frame);
            }
        });
        let opened = match target {
            None => Ok(None),
            Some(target) if active.is_some() => Streams::connect(target, deliver).map(Some),
            Some(target) => Streams::listen(target, deliver).map(Some),
        };
        let streams = opened.unwrap_or_else(|error| {
            let target = target.map_or("", String::as_str);
            tracing::warn!(target: "netdev_dummy", "{target}: open failed ({})", Errno::from(error));
            None
        });
        self.shared.lock().streams = streams.map(Arc::new);
    }

    fn open_files(&self, options: &BTreeMap<String, String>) {
        let open = |key: &str| {
            let path = options.get(key)?;
            match Writer::append(Path::new(path)) {
                Ok(writer) => Some(writer),
                Err(error) => {
                    let error = Errno::from(error);
                    tracing::warn!(target: "pcap", "{path}: failed to open pcap file for appending ({error})");
                    None
                }
            }
        };
        let mut state = self.shared.lock();
        (state.rx_pcap, state.tx_pcap) = (None, None);
        state.pcap = open("pcap");
        if !options.contains_key("pcap") {
            (state.rx_pcap, state.tx_pcap) = (open("rxq_pcap"), open("tx_pcap"));
        }
    }

    fn set_queues(&self, options: &BTreeMap<String, String>) {
        let number = |key: &str, default: usize| {
            options.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let (rx, tx) = (number("n_rxq", 1).max(1), number("n_txq", 1).max(1));
        if rx > MAX_QUEUES || tx > MAX_QUEUES {
            tracing::warn!(
                target: "netdev_dummy",
                "The one or both of interface {} queues(rxq: {rx}, txq: {tx}) exceed {MAX_QUEUES}. Sets it {MAX_QUEUES}.\n",
                self.name
            );
        }
        let (rx, tx) = (rx.min(MAX_QUEUES), tx.min(MAX_QUEUES));
        let mut state = self.shared.lock();
        state.rx.resize_with(rx, VecDeque::new);
        state.rx_stats.resize(rx, (0, 0));
        state.tx_stats.resize(tx, (0, 0));
        state.n_txq = tx;
        state.numa = u32::try_from(number("numa_id", 0)).unwrap_or(0);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inject(&self, queue: usize, frame: &[u8]) {
        let mut state = self.lock();
        state.record(frame, true);
        if let Some(queue) = state.rx.get_mut(queue).filter(|queue| queue.len() < MAX_QUEUE) {
            queue.push_back(frame.to_vec());
        }
        let waker = state.waker.clone();
        drop(state);
        self.bell.ring();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    /// Writes a frame to the file of its direction.
    fn record(&mut self, frame: &[u8], received: bool) {
        let own = if received { &mut self.rx_pcap } else { &mut self.tx_pcap };
        if let Some(writer) = own.as_mut().or(self.pcap.as_mut()) {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if let Err(error) = writer.write(frame, WallTime(wall.as_millis() as u64)) {
                tracing::warn!(target: "pcap", "failed to write pcap file ({})", Errno::from(error));
            }
        }
    }

    /// The answer to an ARP request for one of our addresses.
    fn arp_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let request = frame.get(12..42)?;
        if request[..10] != [8, 6, 0, 1, 8, 0, 6, 4, 0, 1] {
            return None;
        }
        let (sender, target) = (&frame[22..32], &frame[38..42]);
        let ours = |address: &&Address| matches!(address.ip, IpAddr::V4(ip) if ip.octets() == *target);
        self.addresses.iter().find(ours)?;
        let header = [0, 1, 8, 0, 6, 4, 0, 2];
        Some([&sender[..6], &self.mac, &[8, 6], &header, &self.mac, target, sender].concat())
    }

    fn fits(&self, frame: &[u8]) -> bool {
        let tag = if frame.get(12..14) == Some(&[0x81, 0]) { 4 } else { 0 };
        frame.len() >= ETH_HEADER && frame.len() <= usize::from(self.mtu) + ETH_HEADER + tag
    }
}

impl Netdev for Dummy {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        self.shared.pmd
    }

    fn config(&self) -> BTreeMap<String, String> {
        let state = self.shared.lock();
        let mut config = BTreeMap::new();
        if let Some(ifindex) = state.ifindex {
            config.insert("ifindex".to_owned(), ifindex.to_string());
        }
        if let Some(streams) = &state.streams {
            let key = if streams.is_active() { "stream" } else { "pstream" };
            config.insert(key.to_owned(), streams.target.clone());
        }
        if self.shared.pmd {
            config.insert("n_rxq".to_owned(), state.rx.len().to_string());
            config.insert("n_txq".to_owned(), state.n_txq.to_string());
            config.insert("numa_id".to_owned(), state.numa.to_string());
        }
        config
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), Error> {
        self.shared.lock().ifindex = options.get("ifindex").and_then(|text| text.parse().ok());
        self.open_streams(options);
        self.open_files(options);
        if self.shared.pmd {
            self.set_queues(options);
        }
        self.changed();
        Ok(())
    }

    fn mac(&self) -> Result<EthAddr, Error> {
        Ok(self.shared.lock().mac)
    }

    fn set_mac(&self, mac: EthAddr) -> Result<(), Error> {
        let old = std::mem::replace(&mut self.shared.lock().mac, mac);
        if old != mac {
            self.changed();
        }
        Ok(())
    }

    fn mtu(&self) -> Result<u16, Error> {
        Ok(self.shared.lock().mtu)
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        if mtu < MIN_MTU {
            return Err(Errno::EINVAL.into());
        }
        let old = std::mem::replace(&mut self.shared.lock().mtu, mtu);
        if old != mtu {
            self.changed();
        }
        Ok(())
    }

    fn ifindex(&self) -> Option<u32> {
        self.shared.lock().ifindex
    }

    fn flags(&self) -> Result<Flags, Error> {
        Ok(self.shared.lock().flags)
    }

    fn update_flags(&self, off: Flags, on: Flags) -> Result<(), Error> {
        if (off | on).intersects(Flags::LOOPBACK) {
            return Err(Errno::EINVAL.into());
        }
        let mut state = self.shared.lock();
        let old = state.flags;
        state.flags = (old | on) - off;
        let changed = state.flags != old;
        drop(state);
        if changed {
            self.changed();
        }
        Ok(())
    }

    fn counters(&self) -> Result<Counters, Error> {
        let state = self.shared.lock();
        let total = |of: &[(u64, u64)]| of.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let ((rx_packets, rx_bytes), (tx_packets, tx_bytes)) =
            (total(&state.rx_stats), total(&state.tx_stats));
        Ok(Counters {
            rx_packets: Some(rx_packets),
            rx_bytes: Some(rx_bytes),
            tx_packets: Some(tx_packets),
            tx_bytes: Some(tx_bytes),
            ..Counters::default()
        })
    }

    fn tx_offloads(&self) -> Option<TxOffloads> {
        Some(TxOffloads::default())
    }

    fn custom_counters(&self) -> Vec<(String, u64)> {
        let state = self.shared.lock();
        let received: u64 = state.rx_stats.iter().map(|queue| queue.0).sum();
        let mut rows =
            vec![("rx_custom_packets_1".to_owned(), received), ("rx_custom_packets_2".to_owned(), received)];
        for (way, queues) in [("rx", &state.rx_stats), ("tx", &state.tx_stats)] {
            for (n, (packets, bytes)) in queues.iter().enumerate() {
                rows.push((format!("{way}_q{n}_bytes"), *bytes));
                rows.push((format!("{way}_q{n}_packets"), *packets));
            }
        }
        rows
    }

    fn addresses(&self) -> Vec<Address> {
        self.shared.lock().addresses.clone()
    }

    fn io(&self) -> Result<Arc<dyn Io>, Error> {
        Ok(Arc::new(DummyIo(Arc::clone(&self.shared))))
    }

    fn as_dummy(&self) -> Option<&Dummy> {
        Some(self)
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

/// The packet side of a dummy device.
struct DummyIo(Arc<Shared>);

impl Io for DummyIo {
    fn rx_queues(&self) -> usize {
        self.0.lock().rx.len()
    }

    fn tx_queues(&self) -> usize {
        self.0.lock().n_txq
    }

    fn numa(&self) -> u32 {
        self.0.lock().numa
    }

    fn is_pmd(&self) -> bool {
        self.0.pmd
    }

    fn wake_by(&self, waker: &Waker) {
        self.0.lock().waker = Some(waker.clone());
    }

    fn readable(&self, _queue: usize) -> Option<RawFd> {
        Some(self.0.bell.as_raw_fd())
    }

    fn receive(&self, queue: usize, _max: usize, rx: &mut Rx<'_>) -> usize {
        let mut state = self.0.lock();
        let Some(frame) = state.rx.get_mut(queue).and_then(VecDeque::pop_front) else {
            drop(state);
            if self.0.bell.hear() && self.0.lock().rx.iter().any(|queue| !queue.is_empty()) {
                // Another queue's frames rang too; they must be found.
                self.0.bell.ring();
            }
            return 0;
        };
        if let Some(stats) = state.rx_stats.get_mut(queue) {
            stats.0 += 1;
            stats.1 += frame.len() as u64;
        }
        drop(state);
        rx.push(&frame, Offload::default());
        1
    }

    fn send(&self, queue: usize, frames: &[TxFrame<'_>]) -> usize {
        for (sent, frame) in frames.iter().enumerate() {
            let mut state = self.0.lock();
            if !state.fits(frame.bytes) {
                return frames.len() - sent;
            }
            let queue = queue % state.tx_stats.len().max(1);
            if let Some(stats) = state.tx_stats.get_mut(queue) {
                stats.0 += 1;
                stats.1 += frame.bytes.len() as u64;
            }
            state.record(frame.bytes, false);
            let (reply, streams) = (state.arp_reply(frame.bytes), state.streams.clone());
            drop(state);
            if let Some(streams) = streams {
                streams.send(frame.bytes);
            }
            if let Some(reply) = reply {
                self.0.inject(0, &reply);
            }
        }
        0
    }
}
