//! Handler threads: packets handed up by the kernel, answered in batches.
//!
//! A handler empties its sockets into a [`Fair`] queue, takes some upcalls from it, lets the switch answer each, and sends all
//! puts and executions of the answers as one batch; then it empties its sockets again. A put goes before the execution of
//! the same upcall, so that the packets after it find the flow. Where flows are installed elsewhere, which takes its time, and
//! more upcalls wait, those are answered meanwhile: of two batches at a time, one is answered and one being installed.
//!
//! Since Linux 5.15 the kernel puts upcalls into the socket of the CPU that they happen on, and there is a handler for each
//! CPU (per-CPU dispatch). Before, every port has a socket of its own, and a handler serves some of the ports.
//!
//! Memory of upcalls is used again; what is allocated for an upcall is what becomes part of the flow that is kept. What answers
//! them keeps such memory, too, on a [`Desk`] that each thread has for it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flow::action::Action;
use flow::id::{DpPort, Ufid};
use flow::key::Key;
use flow::odp::{Masks, OdpSupport, Params, RawKey, RawMask, Shape, mask_from_flow};
use flow::time::{Clock, Instant};
use smallvec::SmallVec;
use sys::errno::Errno;
use sys::filter;
use sys::netlink::{MAX_SLOTS, Mailbox, NETLINK_GENERIC, Socket};
use sys::poll::{Bell, Epoll};
use zerocopy::FromZeros;

use super::fair::{Fair, Figures};
use super::genl::Families;
use super::operate::Operator;
use super::packet;
use super::sieve::{self, Sieve};
use crate::flow::{Execute, FlowPut, Op, OpResult, PutFlags};
use crate::netlink::{Client, Messages};
use crate::upcall::{Answer, Desk, Handler, Install, Installing, Kind, Offer, Upcall};
use crate::user::log;
use crate::{Error, PmdId};

/// Upcalls that are answered with one batch.
const BATCH: usize = 64;

/// Messages that are read from one socket before anything is answered.
const READ_BUDGET: usize = 4096;

/// Messages for which there is room at the first read of a socket: making room costs, and mostly one waits.
const FEW: usize = 4;

/// Buffers that wait to be used again, and the bytes that such a one may have.
const MAX_SPARE: usize = 2 * BATCH;
const SPARE_BYTES: usize = 16 << 10;

/// The number by which a handler's bell is waited for.
const BELL: u64 = u64::MAX;

/// What a batch comes to; mostly one upcall waits.
type Few<T> = SmallVec<[T; 4]>;

/// What handlers know of their datapath.
pub(super) struct Context {
    pub name: String,
    pub families: Families,
    /// The datapath's interface index.
    pub dp: u32,
    pub clock: Arc<dyn Clock>,
    pub support: OdpSupport,
    /// VLAN tags that the switch looks at.
    pub vlan_limit: AtomicUsize,
    pub handler: Mutex<Option<Arc<dyn Handler>>>,
    /// What was read wrong or could not be answered.
    pub malformed: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket for upcalls.
struct Channel {
    socket: Socket,
    /// Whose, where each port has one.
    port: Option<DpPort>,
    /// When it was last read, in milliseconds; 0 for never.
    polled: AtomicU64,
}

impl Channel {
    fn open(port: Option<DpPort>) -> Result<Arc<Self>, Errno> {
        let socket = Socket::open(NETLINK_GENERIC)?;
        Ok(Arc::new(Self { socket, port, polled: AtomicU64::new(0) }))
    }
}

/// What others see of a handler thread.
struct Seat {
    number: usize,
    epoll: Epoll,
    bell: Bell,
    stop: AtomicBool,
    channels: Mutex<BTreeMap<u64, Arc<Channel>>>,
    fair: Mutex<Fair<Vec<u8>>>,
    /// Ports that are gone, for the thread to forget.
    lost: AtomicU64,
}

impl Seat {
    fn add(&self, number: u64, channel: Arc<Channel>) -> Result<(), Errno> {
        self.epoll.add(channel.socket.as_raw_fd(), number)?;
        lock(&self.channels).insert(number, channel);
        Ok(())
    }
}

/// The handler threads of a datapath.
pub(super) struct Handlers {
    context: Arc<Context>,
    seats: Vec<Arc<Seat>>,
    threads: Vec<JoinHandle<()>>,
    per_cpu: bool,
}

impl Handlers {
    /// Sockets for `n` handlers, which do not run yet. With `per_cpu`, each has one.
    pub(super) fn new(context: &Arc<Context>, n: usize, per_cpu: bool) -> Result<Self, Error> {
        let seats = (0..n.max(1)).map(|number| seat(number, per_cpu)).collect::<Result<_, Errno>>()?;
        Ok(Self { context: Arc::clone(context), seats, threads: Vec::new(), per_cpu })
    }

    /// Starts the threads.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        for seat in &self.seats {
            let (seat, context) = (Arc::clone(seat), Arc::clone(&self.context));
            let name = format!("handler{}", seat.number + 1);
            let thread =
                std::thread::Builder::new().name(name).spawn(move || Thread::run(&seat, &context))?;
            self.threads.push(thread);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// The port ids of the handlers' sockets, with per-CPU dispatch.
    pub(super) fn pids(&self) -> Vec<u32> {
        let pid = |seat: &Arc<Seat>| lock(&seat.channels).get(&0).map_or(0, |channel| channel.socket.pid());
        self.seats.iter().map(pid).collect()
    }

    fn seat_of(&self, port: DpPort) -> &Seat {
        &self.seats[port.0 as usize % self.seats.len()]
    }

    /// The port id of a port's own socket; 0 if it has none. What belongs to no port goes to the datapath's own one.
    pub(super) fn port_pid(&self, port: DpPort) -> u32 {
        let find = |port: DpPort| {
            lock(&self.seat_of(port).channels).get(&u64::from(port.0)).map(|channel| channel.socket.pid())
        };
        find(port).or_else(|| find(DpPort::LOCAL)).unwrap_or(0)
    }

    /// Makes a socket for a port, without per-CPU dispatch; its port id. A port that has one keeps it.
    pub(super) fn add_port(&self, port: DpPort) -> Result<u32, Error> {
        if self.per_cpu {
            return Ok(0);
        }
        let seat = self.seat_of(port);
        let number = u64::from(port.0);
        if let Some(channel) = lock(&seat.channels).get(&number) {
            return Ok(channel.socket.pid());
        }
        let channel = Channel::open(Some(port))?;
        let pid = channel.socket.pid();
        seat.add(number, channel)?;
        Ok(pid)
    }

    /// Forgets a port, with the upcalls of it that wait.
    pub(super) fn remove_port(&self, port: DpPort) {
        for seat in &self.seats {
            lock(&seat.fair).forget(port);
            if !self.per_cpu {
                lock(&seat.channels).remove(&u64::from(port.0));
            }
        }
    }

    pub(super) fn figures(&self) -> Vec<Figures> {
        self.seats.iter().map(|seat| lock(&seat.fair).figures()).collect()
    }

    /// Times that the kernel found a socket full, by handler.
    pub(super) fn losses(&self) -> Vec<u64> {
        self.seats.iter().map(|seat| seat.lost.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for seat in &self.seats {
            seat.stop.store(true, Ordering::Release);
            seat.bell.ring();
        }
        for thread in self.threads.drain(..) {
            // A handler that drops the last of the datapath does not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn seat(number: usize, per_cpu: bool) -> Result<Arc<Seat>, Errno> {
    let (epoll, bell) = (Epoll::new()?, Bell::new()?);
    epoll.add(bell.as_raw_fd(), BELL)?;
    let seat = Seat {
        number,
        epoll,
        bell,
        stop: AtomicBool::new(false),
        channels: Mutex::default(),
        fair: Mutex::default(),
        lost: AtomicU64::new(0),
    };
    if per_cpu {
        seat.add(0, Channel::open(None)?)?;
    }
    Ok(Arc::new(seat))
}

/// A running handler.
struct Thread<'a> {
    seat: &'a Seat,
    context: &'a Context,
    mailbox: Mailbox,
    client: Client,
    operator: Operator,
    results: Vec<OpResult>,
    spare: Spare,
    taken: Vec<Vec<u8>>,
    /// Lists without an entry.
    lists: Vec<Vec<Answered>>,
    /// Answered, and being installed.
    under_way: Option<Lot>,
    /// `None` where the kernel lets no program run.
    sieve: Option<Sieve>,
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Spare {
    buffers: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "keys are long, and go and come as they are")]
    keys: Vec<Box<Key>>,
    masks: Masks<[u64; Key::WORDS]>,
    desk: Desk,
}

impl Spare {
    fn keep(&mut self, bytes: Vec<u8>) {
        if self.buffers.len() < MAX_SPARE && bytes.capacity() <= SPARE_BYTES {
            self.buffers.push(bytes);
        }
    }

    fn keep_of(&mut self, job: Job) {
        if self.keys.len() < MAX_SPARE {
            self.keys.push(job.key);
        }
        if let Some((_, Install { mask, .. })) = job.install
            && self.desk.masks.len() < MAX_SPARE
        {
            self.desk.masks.push(mask);
        }
    }

    fn empty_key(&mut self) -> Box<Key> {
        let Some(mut key) = self.keys.pop() else { return Key::boxed() };
        key.zero();
        key
    }
}

/// What the answer to an upcall comes to.
pub(super) struct Job {
    /// Where in the upcall the packet is.
    packet: Range<usize>,
    mru: u16,
    hash: u64,
    key: Box<Key>,
    raw: RawKey,
    ufid: Ufid,
    execute: Arc<[Action]>,
    /// Without a raw mask, every bit counts that the key has.
    install: Option<(Option<RawMask>, Install)>,
}

/// An upcall that was answered.
struct Answered {
    bytes: Vec<u8>,
    job: Job,
}

/// Upcalls that were answered together, and by whom.
struct Lot {
    handler: Arc<dyn Handler>,
    jobs: Vec<Answered>,
    installing: Box<dyn Installing>,
}

impl<'a> Thread<'a> {
    fn run(seat: &'a Seat, context: &'a Context) {
        let client = match Client::open(NETLINK_GENERIC) {
            Ok(client) => client,
            Err(errno) => {
                tracing::error!(target: "dpif_netlink", "{}: handler without socket ({errno})", context.name);
                return;
            }
        };
        let mut thread = Self {
            seat,
            context,
            mailbox: Mailbox::new(MAX_SLOTS),
            client,
            operator: Operator::default(),
            results: Vec::new(),
            spare: Spare::default(),
            taken: Vec::with_capacity(BATCH),
            lists: Vec::new(),
            under_way: None,
            sieve: Some(Sieve::default()),
        };
        let mut ready = Vec::new();
        let mut waiting = false;
        while !seat.stop.load(Ordering::Acquire) {
            // What the kernel drops wakes nobody, so somebody has to look whether it still should.
            let sieving = thread.sieve.as_ref().is_some_and(|sieve| !sieve.is_open());
            let limit = if waiting { Some(Duration::ZERO) } else { sieving.then_some(sieve::PERIOD) };
            seat.epoll.wait(limit, &mut ready);
            let now = context.clock.now();
            for &number in &ready {
                thread.hear(number, now);
            }
            thread.sift(now);
            waiting = thread.answer();
        }
        thread.end();
    }

    fn hear(&mut self, number: u64, now: Instant) {
        if number == BELL {
            self.seat.bell.hear();
            return;
        }
        let channel = lock(&self.seat.channels).get(&number).cloned();
        if let Some(channel) = channel {
            self.read(&channel, now);
        }
    }

    /// Empties a socket into the queue.
    fn read(&mut self, channel: &Channel, now: Instant) {
        let (mut asked, mut left) = (FEW, READ_BUDGET);
        while left > 0 {
            match self.mailbox.receive_some(&channel.socket, asked) {
                Ok(n) => {
                    self.queue(now);
                    // It was empty then.
                    if n < asked {
                        break;
                    }
                    left = left.saturating_sub(n);
                    asked = MAX_SLOTS;
                }
                Err(Errno::ENOBUFS) => {
                    self.report_loss(channel, now);
                    left -= 1;
                }
                Err(errno) => {
                    tracing::warn!(
                        target: "dpif_netlink", rl = "1,5",
                        "{}: recv failed ({errno})", self.context.name
                    );
                    break;
                }
            }
        }
        channel.polled.store(now.millis(), Ordering::Relaxed);
    }

    fn queue(&mut self, now: Instant) {
        let mut fair = lock(&self.seat.fair);
        for datagram in self.mailbox.iter() {
            let port = packet::peek_port(datagram).unwrap_or(DpPort::NONE);
            let mut bytes = self.spare.buffers.pop().unwrap_or_default();
            bytes.clear();
            bytes.extend_from_slice(datagram);
            if let Err(bytes) = fair.offer(port, bytes, now) {
                self.spare.keep(bytes);
            }
        }
    }

    /// Has the kernel drop what would be read in vain.
    fn sift(&mut self, now: Instant) {
        let Some(sieve) = &mut self.sieve else { return };
        if !sieve.adjust(&mut lock(&self.seat.fair), now) {
            return;
        }
        let program = (!sieve.is_open()).then(|| sieve.program());
        for channel in lock(&self.seat.channels).values() {
            match &program {
                None => filter::detach(&channel.socket),
                Some(program) => {
                    if let Err(errno) = filter::attach(&channel.socket, program) {
                        tracing::info!(
                            target: "dpif_netlink",
                            "{}: the kernel does not filter upcalls ({errno})", self.context.name
                        );
                        self.sieve = None;
                        return;
                    }
                }
            }
        }
    }

    /// The kernel found the socket full and dropped packets.
    fn report_loss(&self, channel: &Channel, now: Instant) {
        self.seat.lost.fetch_add(1, Ordering::Relaxed);
        let (name, handler) = (&self.context.name, self.seat.number);
        match channel.port {
            None => tracing::warn!(
                target: "dpif_netlink", rl = "5,5",
                "system@{name}: lost packet on handler {handler}"
            ),
            Some(port) => {
                let polled = channel.polled.load(Ordering::Relaxed);
                let ago = match polled {
                    0 => String::new(),
                    polled => format!(" (last polled {} ms ago)", now.millis().saturating_sub(polled)),
                };
                tracing::warn!(
                    target: "dpif_netlink", rl = "5,5",
                    "system@{name}: lost packet on port channel {port} of handler {handler}{ago}"
                );
            }
        }
    }

    /// Answers some of the upcalls that wait. Whether there is more to do.
    fn answer(&mut self) -> bool {
        let now = self.context.clock.now();
        let waiting = {
            let mut fair = lock(&self.seat.fair);
            while self.taken.len() < BATCH
                && let Some((_, bytes)) = fair.take(now)
            {
                self.taken.push(bytes);
            }
            !fair.is_empty()
        };
        let handler = lock(&self.context.handler).clone();
        let Some(handler) = handler.filter(|_| !self.taken.is_empty()) else {
            self.end();
            self.taken.drain(..).for_each(|bytes| self.spare.keep(bytes));
            return waiting;
        };
        let mut taken = std::mem::take(&mut self.taken);
        let mut jobs = self.lists.pop().unwrap_or_default();
        for bytes in taken.drain(..) {
            match self.translate(&*handler, &bytes) {
                Some(job) => jobs.push(Answered { bytes, job }),
                None => self.spare.keep(bytes),
            }
        }
        self.taken = taken;
        let installing = if waiting { begin(&*handler, &jobs) } else { None };
        self.end();
        match installing {
            Some(installing) => self.under_way = Some(Lot { handler, jobs, installing }),
            None => {
                offer(&*handler, &mut jobs);
                self.carry_out(&*handler, jobs);
            }
        }
        waiting
    }

    /// Ends what is under way.
    fn end(&mut self) {
        let Some(Lot { handler, mut jobs, installing }) = self.under_way.take() else { return };
        strike_out(&mut jobs, installing.end());
        self.carry_out(&*handler, jobs);
    }

    /// Lets the switch answer one upcall.
    fn translate(&mut self, handler: &dyn Handler, bytes: &[u8]) -> Option<Job> {
        let context = self.context;
        match answer(context, handler, &mut self.spare, bytes) {
            Ok(job) => job,
            Err(error) => {
                context.malformed.fetch_add(1, Ordering::Relaxed);
                let detail = error.detail().unwrap_or_default();
                tracing::debug!(
                    target: "dpif_netlink", rl = "5,5",
                    "system@{}: bad upcall: {error} {detail}", context.name
                );
                None
            }
        }
    }

    /// Installs and executes.
    fn carry_out(&mut self, handler: &dyn Handler, mut jobs: Vec<Answered>) {
        let mut ops: Few<Op<'_>> = Few::new();
        for Answered { bytes, job } in &jobs {
            ops.extend(job.put().map(Op::Put));
            ops.extend(job.execution(bytes).map(Op::Execute));
        }
        let on = (&self.context.families, self.context.dp);
        self.operator.operate(&mut self.client, on, &ops, false, &mut self.results);
        let debugging = is_debugging();
        for (op, result) in ops.iter().zip(self.results.drain(..)) {
            if debugging || result.is_err() {
                report(&self.context.name, op, &result);
            }
            if let Op::Put(put) = op
                && let Some(ufid) = put.ufid
            {
                handler.installed(ufid, put.pmd, result.is_ok());
            }
        }
        drop(ops);
        for Answered { bytes, job } in jobs.drain(..) {
            self.spare.keep(bytes);
            self.spare.keep_of(job);
        }
        self.lists.push(jobs);
    }
}

/// Whether the log wants to know of what succeeded. It costs something to ask.
pub(super) fn is_debugging() -> bool {
    tracing::enabled!(target: "dpif", tracing::Level::DEBUG)
}

/// Tells the log what became of an operation, in OVS's words.
pub(super) fn report(name: &str, op: &Op<'_>, result: &OpResult) {
    let name = format!("system@{name}");
    match op {
        Op::Put(put) => log::put(&name, put, &result.as_ref().map(|_| None).map_err(Clone::clone)),
        Op::Execute(execute) => {
            log::execute(&name, execute, &result.as_ref().map(|_| ()).map_err(Clone::clone))
        }
        Op::Del(_) | Op::Get(_) => {}
    }
}

/// Lets the handler have flows that it wants to install itself.
fn offer(handler: &dyn Handler, jobs: &mut [Answered]) {
    let offers: Few<_> = jobs.iter().filter_map(|answered| answered.job.offer()).collect();
    if !offers.is_empty() {
        let taken = handler.take(&offers);
        drop(offers);
        strike_out(jobs, taken);
    }
}

/// Likewise, without waiting for it.
fn begin(handler: &dyn Handler, jobs: &[Answered]) -> Option<Box<dyn Installing>> {
    let offers: Few<_> = jobs.iter().filter_map(|answered| answered.job.offer()).collect();
    if offers.is_empty() { None } else { handler.begin(&offers) }
}

/// What the handler took, the datapath need not install.
fn strike_out(jobs: &mut [Answered], taken: Vec<bool>) {
    let jobs = jobs.iter_mut().map(|answered| &mut answered.job);
    let offered = jobs.filter(|job| job.install.is_some());
    for (job, _) in offered.zip(taken).filter(|(_, taken)| *taken) {
        job.install = None;
    }
}

/// Reads an upcall and lets the switch answer it; `None` if there is nothing to do.
pub(super) fn answer(
    context: &Context,
    handler: &dyn Handler,
    spare: &mut Spare,
    whole: &[u8],
) -> Result<Option<Job>, Error> {
    let Some(message) = Messages::new(whole).next() else { return Ok(None) };
    let incoming = packet::decode(context.families.packet, &message?)?;
    if incoming.dp != context.dp {
        return Ok(None);
    }
    let raw = RawKey(incoming.key.into());
    let vlan_limit = context.vlan_limit.load(Ordering::Relaxed);
    let mut key = spare.empty_key();
    let fitness = packet::read_key(incoming.key, incoming.packet, vlan_limit, &mut key)?;
    let actions = incoming.actions.map(Action::decode_all).transpose()?;
    let egress_tunnel = incoming.egress_tunnel.and_then(packet::read_tunnel);
    let kind = match incoming.userdata {
        _ if !incoming.action => Kind::Miss,
        userdata => Kind::Action {
            userdata: userdata.unwrap_or_default(),
            actions: actions.as_deref(),
            egress_tunnel: egress_tunnel.as_ref(),
        },
    };
    let ufid = crate::ufid_of(&raw.0);
    let upcall = Upcall {
        kind,
        packet: incoming.packet,
        full_len: incoming.len.map_or(incoming.packet.len(), |len| len as usize),
        key: &key,
        raw: Some(&raw),
        fitness,
        ufid,
        pmd: PmdId::NONE,
        in_port: DpPort(key.in_port),
        hash: incoming.hash,
        mru: incoming.mru,
    };
    let Some(Answer { execute, install }) = handler.upcall_at(&mut spare.desk, &upcall) else {
        return Ok(None);
    };
    let install = install.map(|install| {
        let (mask, support) = (Some(&*install.mask), &context.support);
        let params = Params { key: &key, mask, support, vlan_limit, packet_type: false };
        let is_exact = install.mask.0.words().iter().all(|word| *word == u64::MAX);
        let shape = Shape::of(&key, vlan_limit);
        let make = || mask_from_flow(&params, &install.mask);
        let mask = (!is_exact).then(|| spare.masks.find(&shape, install.mask.0.words(), make));
        (mask, install)
    });
    let at = incoming.packet.as_ptr().addr() - whole.as_ptr().addr();
    let (packet, mru, hash) = (at..at + incoming.packet.len(), incoming.mru, incoming.hash);
    Ok(Some(Job { packet, mru, hash, key, raw, ufid, execute, install }))
}

impl Job {
    fn offer(&self) -> Option<Offer<'_>> {
        let (_, Install { mask, actions }) = self.install.as_ref()?;
        Some(Offer { ufid: self.ufid, pmd: PmdId::NONE, key: &self.key, mask, actions })
    }

    pub(super) fn put(&self) -> Option<FlowPut<'_>> {
        let (mask, Install { actions, .. }) = self.install.as_ref()?;
        Some(FlowPut {
            flags: PutFlags::CREATE,
            key: &self.raw,
            mask: mask.as_ref(),
            ufid: Some(self.ufid),
            pmd: PmdId::NONE,
            actions,
        })
    }

    /// What is done to the packet of the upcall of these bytes.
    pub(super) fn execution<'a>(&'a self, upcall: &'a [u8]) -> Option<Execute<'a>> {
        (!self.execute.is_empty()).then_some(Execute {
            packet: &upcall[self.packet.clone()],
            key: &self.key,
            actions: &self.execute,
            probe: false,
            mtu: self.mru,
            hash: self.hash,
        })
    }
}
