//! Devices that take connections' rules by tc-flower.
//!
//! Requests go out in lots, each by one of a few threads with a socket of its own, so that a device that sleeps over an
//! insertion holds up a part of them only.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use datapath::conntrack::conn::{Conn, Dir};
use datapath::user::flows::Megaflow;
use datapath::{Error, PmdId};
use flow::id::Ufid;
use sys::errno::Errno;

use super::gc::{Nic, Reply, Seen, Walked};
use super::rule::{Answer, What};
use super::table::{Name, Request};
use crate::table::{Done, Job, Rules, Table};
use crate::tc::action::TcAction;
use crate::tc::filter::{Filter, Id, cls};
use crate::tc::key::FlowerKey;
use crate::tc::{Hook, On};

/// How cookies of connections' rules begin.
pub const TAG: [u8; 8] = *b"TNOUTCT1";
/// Threads that talk to devices.
const SENDERS: usize = 4;
/// Requests of one lot.
const LOT: usize = 64;

/// A connection's rule.
pub struct Body {
    /// Without handle.
    pub id: Id,
    pub key: FlowerKey,
    pub actions: Vec<TcAction>,
    /// What the rule stands for.
    pub conns: Vec<(Arc<Conn>, Dir)>,
    pub flows: Vec<(Arc<Megaflow>, u32)>,
}

impl Body {
    /// Enough of a rule to delete it.
    pub fn leftover(id: Id) -> Self {
        let key = FlowerKey::default();
        Self { id, key, actions: Vec::new(), conns: Vec::new(), flows: Vec::new() }
    }

    fn id(&self, name: Name) -> Id {
        Id { handle: name.handle, ..self.id }
    }

    fn cookie(&self) -> Option<&[u8]> {
        self.actions.iter().find_map(|action| action.cookie.as_deref())
    }

    /// The flows that its packets would have come by.
    pub fn credits(&self) -> impl Iterator<Item = (PmdId, Ufid)> {
        self.flows.iter().map(|(flow, _)| (flow.pmd, flow.ufid))
    }
}

/// What a result means to a request.
fn answer(what: What, body: &Body, done: Done) -> Answer {
    let error = match done {
        Ok(None) => return if what == What::Read { Answer::Absent } else { Answer::Done },
        Ok(Some(filter)) if what == What::Read && filter.cookie() != body.cookie() => return Answer::Exists,
        Ok(Some(_)) => return Answer::Done,
        Err(error) => error,
    };
    let detail = error.detail().unwrap_or_default();
    let text = if detail.is_empty() { error.to_string() } else { detail.to_owned() };
    let no_discipline = detail.contains("Qdisc");
    match (what, error.errno()) {
        (_, Errno::ENODEV) => Answer::NoDevice,
        // Where rules could hang from is nothing.
        (What::Insert, Errno::EINVAL) if no_discipline => Answer::Refused(text),
        (What::Read | What::Delete, Errno::EINVAL) if no_discipline => Answer::Absent,
        (What::Read | What::Delete, Errno::ENOENT) => Answer::Absent,
        (What::Insert, Errno::EEXIST) => Answer::Exists,
        // Nobody knows what came of it, unless the kernel said why.
        (_, Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Answer::Failed(text),
        (_, Errno::EIO) if detail.is_empty() => Answer::Failed(text),
        // Devices without hardware, and rules that no hardware of this kind has.
        (What::Insert, Errno::EOPNOTSUPP) => Answer::Never(text),
        (What::Insert, _) => Answer::Refused(text),
        (What::Read | What::Delete, _) => Answer::Failed(text),
    }
}

fn submit(table: &dyn Table, lot: &[Request<Body>]) -> Vec<Reply> {
    let job = |request: &'_ Request<Body>| match request.what {
        What::Insert => None,
        What::Read => Some(Job::Get(request.rule.id(request.name))),
        What::Delete => Some(Job::Del(request.rule.id(request.name))),
    };
    let jobs: Vec<Job<'_>> = lot
        .iter()
        .map(|request| {
            job(request).unwrap_or_else(|| Job::Put {
                id: request.rule.id(request.name),
                key: &request.rule.key,
                actions: &request.rule.actions,
                // A rule that the kernel ran, too, would double packets: the datapath sees what the kernel sees.
                flags: cls::SKIP_SW,
                replace: false,
            })
        })
        .collect();
    let results = table.submit(&jobs);
    let lost = || Err(Errno::ENOBUFS.into());
    let results = results.into_iter().chain(std::iter::repeat_with(lost));
    lot.iter()
        .zip(results)
        .map(|(request, done)| (request.ticket, request.name, answer(request.what, &request.rule, done)))
        .collect()
}

struct Thread {
    lots: Option<Sender<Vec<Request<Body>>>>,
    handle: Option<JoinHandle<()>>,
}

/// Devices by their rules in the kernel.
pub struct Tc {
    table: Arc<dyn Table>,
    threads: Vec<Thread>,
    turn: usize,
    pending: Vec<Request<Body>>,
    replies: Receiver<Vec<Reply>>,
    walk: Option<(u32, Box<dyn Rules>)>,
}

impl Tc {
    /// `wake` is called when there are answers.
    ///
    /// # Errors
    /// There are no threads to be had.
    pub fn new(table: Arc<dyn Table>, wake: impl Fn() + Clone + Send + 'static) -> std::io::Result<Self> {
        let (to_us, replies) = channel();
        let threads = (0..SENDERS)
            .map(|n| {
                let (lots, theirs) = channel::<Vec<Request<Body>>>();
                let (table, to_us, wake) = (Arc::clone(&table), to_us.clone(), wake.clone());
                let run = move || {
                    for lot in theirs {
                        // Nobody waits any more when the program ends.
                        if to_us.send(submit(&*table, &lot)).is_err() {
                            return;
                        }
                        wake();
                    }
                };
                let handle = std::thread::Builder::new().name(format!("offload{n}")).spawn(run)?;
                Ok(Thread { lots: Some(lots), handle: Some(handle) })
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { table, threads, turn: 0, pending: Vec::new(), replies, walk: None })
    }

    /// Has a device take rules.
    ///
    /// # Errors
    /// The kernel's: the device is gone, or takes none.
    pub fn attach(&self, ifindex: u32) -> Result<(), Error> {
        self.table.attach(ifindex, Hook::Ingress)
    }

    /// Takes what is left of our rules from a device.
    pub fn detach(&mut self, ifindex: u32) {
        self.walk.take_if(|(port, _)| *port == ifindex);
        if let Err(error) = self.table.detach(ifindex, Hook::Ingress) {
            tracing::info!(target: "dpif_offload", "device {ifindex} keeps what it has: {error}");
        }
    }

    /// Whether a rule is a connection's, of this process or of an earlier one.
    fn is_ours(filter: &Filter) -> bool {
        filter.cookie().is_some_and(|cookie| cookie.starts_with(&TAG))
    }
}

impl Nic for Tc {
    type Rule = Body;

    fn send(&mut self, request: Request<Body>) {
        self.pending.push(request);
        if self.pending.len() >= LOT {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let lot = std::mem::take(&mut self.pending);
        self.turn = (self.turn + 1) % self.threads.len();
        // A thread that is gone answers nothing, and what is not answered is asked for again.
        if let Some(lots) = &self.threads[self.turn].lots {
            let _ = lots.send(lot);
        }
    }

    fn receive(&mut self) -> Vec<Reply> {
        self.replies.try_iter().flatten().collect()
    }

    fn walk(&mut self, port: u32, budget: usize, each: &mut dyn FnMut(Seen<Body>)) -> Walked {
        let mut rules = match self.walk.take() {
            Some((on, rules)) if on == port => rules,
            _ => match self.table.dump(On::Device(port), Hook::Ingress, true) {
                Ok(rules) => rules,
                Err(_) => return Walked::Broken,
            },
        };
        let mut seen = 0;
        while seen < budget {
            let more = rules.next(&mut |filter| {
                seen += 1;
                if Self::is_ours(&filter) {
                    let name = Name { port, handle: filter.id.handle };
                    let (packets, bytes) = (filter.stats.packets, filter.stats.bytes);
                    each(Seen { name, packets, bytes, rule: Body::leftover(filter.id) });
                }
            });
            match more {
                Ok(true) => {}
                Ok(false) => return Walked::End,
                Err(_) => return Walked::Broken,
            }
        }
        self.walk = Some((port, rules));
        Walked::More
    }
}

impl Drop for Tc {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.lots = None;
        }
        for handle in self.threads.iter_mut().filter_map(|thread| thread.handle.take()) {
            // One that panicked has said so.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tc::action::{Control, TcAction};

    fn body(cookie: &[u8]) -> Body {
        let id = Id { on: On::Device(3), hook: Hook::Ingress, chain: 0, prio: 2, protocol: 0x800, handle: 0 };
        let mut action = TcAction::gact(Control::Shot);
        action.cookie = Some(cookie.to_vec());
        Body { actions: vec![action], ..Body::leftover(id) }
    }

    fn told(cookie: &[u8]) -> Done {
        let body = body(cookie);
        let (flags, in_hw_count, stats) = (0, 1, Default::default());
        Ok(Some(Box::new(Filter {
            id: body.id,
            key: body.key,
            flags,
            in_hw_count,
            actions: body.actions,
            stats,
        })))
    }

    #[test]
    fn results_are_answers() {
        let ours = body(b"TNOUTCT1aaaaaaaa");
        let of = |what, done: Done| answer(what, &ours, done);
        let error = |errno: Errno| Done::Err(errno.into());
        assert_eq!(of(What::Insert, Ok(None)), Answer::Done);
        assert_eq!(of(What::Read, Ok(None)), Answer::Absent);
        assert_eq!(of(What::Read, told(b"TNOUTCT1aaaaaaaa")), Answer::Done);
        assert_eq!(of(What::Read, told(b"TNOUTCT1bbbbbbbb")), Answer::Exists);
        assert_eq!(of(What::Delete, error(Errno::ENOENT)), Answer::Absent);
        assert_eq!(of(What::Delete, error(Errno::ENODEV)), Answer::NoDevice);
        assert_eq!(of(What::Insert, error(Errno::EEXIST)), Answer::Exists);
        assert!(matches!(of(What::Insert, error(Errno::EOPNOTSUPP)), Answer::Never(_)));
        assert!(matches!(of(What::Insert, error(Errno::ENOSPC)), Answer::Refused(_)));
        assert!(matches!(of(What::Insert, error(Errno::ENOBUFS)), Answer::Failed(_)));
        assert!(matches!(of(What::Delete, error(Errno::EIO)), Answer::Failed(_)));
    }
}
