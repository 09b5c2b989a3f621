//! Traffic control of a device: queueing disciplines, their classes and policers, by rtnetlink (`linux/pkt_sched.h`,
//! `linux/pkt_cls.h`).
//!
//! [`Shaper`] is what a device has of it. It knows the disciplines of ovs-vswitchd.conf.db(5) by their names there; what it
//! finds on the device at first, it adopts: a daemon that was restarted does not touch what is as it should be.
//! A discipline with classes is built as `1:`, with one class `1:fffe` for the whole device and one for queue N, `1:N+1`,
//! within it; packets choose by their priority, and 1:1 is the default.
//!
//! * [`psched`]: the kernel's units. [`root`]: disciplines in general, and their table.
//! * [`htb`], [`hfsc`]: those with classes; [`sfq`], [`codel`], [`fq_codel`], [`netem`]: those without.
//! * [`police`]: limits to what is received, as filters in what [`Hooks`] own.

pub mod psched;
pub mod root;
pub mod htb;
pub mod hfsc;
pub mod sfq;
pub mod codel;
pub mod fq_codel;
pub mod netem;
pub mod police;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flow::attr::{Attr, Attrs, Writer};
use flow::time::Instant;
use sys::errno::Errno;
use sys::link::Links;

use super::hook::{Hooks, User};
use super::rtnl::flag::{CREATE, ECHO, EXCL};
use super::rtnl::{Message, Rtnl};
use crate::Error;
use police::Policing;
use psched::Psched;
use root::{Class, Kind, Root};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTCLASS: u16 = 40;
const RTM_DELTCLASS: u16 = 41;
const RTM_GETTCLASS: u16 = 42;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

const TC_H_ROOT: u32 = u32::MAX;
/// Length of `struct tcmsg`.
const HEADER: usize = 20;

/// The discipline at the root.
const ROOT: u32 = 1 << 16;
/// The class of the whole device.
const WHOLE: u32 = ROOT | 0xfffe;
/// Queues that a discipline with classes can have.
pub const MAX_QUEUES: u32 = 0xf000;

/// Columns of the database that configure something, by key.
pub type Details = BTreeMap<String, String>;

/// Parameters that are in force, in the order in which they are told.
pub type Rows = Vec<(&'static str, u64)>;

/// A number that may be left out; what is none counts as left out.
fn number(details: &Details, key: &str) -> Option<u64> {
    details.get(key)?.trim().parse().ok()
}

/// A number above zero that may be left out; what is none, or is too great, counts as left out.
fn positive(details: &Details, key: &str) -> Option<u32> {
    number(details, key).and_then(|n| u32::try_from(n).ok()).filter(|value| *value > 0)
}

/// The class of a queue.
const fn class_of(queue: u32) -> u32 {
    ROOT | (queue + 1)
}

/// The queue that a class is of.
fn queue_of(class: u32) -> Option<u32> {
    let (major, minor) = (class >> 16, class & 0xffff);
    (major == 1 && (1..=MAX_QUEUES).contains(&minor)).then(|| minor - 1)
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, index), (8, handle), (12, parent), (16, info)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Counters of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct QueueStats {
    pub tx_bytes: u64,
    pub tx_packets: u64,
    /// Packets dropped.
    pub tx_errors: u64,
}

/// What disciplines ask of the device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Facts {
    /// Bytes; `None` if there is none.
    pub mtu: Option<u32>,
    /// Mbit/s; `None` if unknown.
    pub speed: Option<u32>,
}

impl Facts {
    /// The device's speed in bytes a second: 100 Mbit/s if it is not known.
    fn bytes_per_second(self) -> u64 {
        self.speed.map_or(12_500_000, |mbits| u64::from(mbits / 8) * 1_000_000)
    }
}

/// A queue that is there.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Queue {
    class: Class,
    created: Instant,
}

/// What a device is known to have at its root.
struct Installed {
    root: Root,
    queues: BTreeMap<u32, Queue>,
}

/// A class as the kernel tells it.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    pub handle: u32,
    /// `None` for a class of another kind.
    pub class: Option<Class>,
    pub stats: QueueStats,
}

/// Traffic control of one device.
pub struct Shaper {
    name: String,
    hooks: Arc<Hooks>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    rtnl: Option<Rtnl>,
    psched: Option<Psched>,
    /// The device's number when the rest was read: another device of the same name has nothing of it.
    index: u32,
    installed: Option<Installed>,
    /// With the number of the discipline that it is in, if it limits anything.
    policing: Option<(Policing, Option<u64>)>,
}

impl Shaper {
    /// For the device of that name, whether it is there or not. Its filters hang from what `hooks` own.
    pub fn new(name: &str, hooks: Arc<Hooks>) -> Self {
        Self { name: name.to_owned(), hooks, inner: Mutex::default() }
    }

    /// The types that [`Shaper::set_qos`] takes.
    pub fn types() -> impl Iterator<Item = &'static str> {
        root::KINDS.iter().filter(|row| !row.name.is_empty()).map(|row| row.name)
    }

    /// The type of the discipline that the device has, and its parameters. The type is empty for the kernel's default, and
    /// `linux-other` for one that is not among ours.
    pub fn qos(&self, now: Instant) -> Result<(&'static str, Rows), Error> {
        let work = self.begin(now)?;
        let installed = work.installed();
        Ok((installed.root.kind().name(), installed.root.rows()))
    }

    /// Gives the device a discipline; an empty type is the kernel's default. One that is there already is changed where
    /// that can be done, and loses no packets then.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a type that is none of ours, or what the kernel says: `ENOENT` if it lacks the discipline.
    pub fn set_qos(&self, kind: &str, details: &Details, now: Instant) -> Result<(), Error> {
        let kind = Kind::named(kind).ok_or(Errno::EOPNOTSUPP)?;
        if kind == Kind::Noop {
            // Whatever is there stays, and is none of ours.
            self.lock().installed = Some(Installed { root: Root::Default, queues: BTreeMap::new() });
            return Ok(());
        }
        let mut work = self.begin(now)?;
        let wanted = Root::parse(kind, details, &work.facts());
        let result =
            if work.installed().root.kind() == kind { work.change(wanted) } else { work.install(wanted) };
        result.inspect_err(|error| {
            // What is there now, the kernel tells.
            work.inner.installed = None;
            tracing::warn!(target: "netdev_linux", rl = "5,20", "{}: Failed to install new qdisc: {error}", self.name);
        })
    }

    /// The queues that the device has, with their parameters.
    pub fn queues(&self, now: Instant) -> Result<BTreeMap<u32, Rows>, Error> {
        let work = self.begin(now)?;
        Ok(work.installed().queues.iter().map(|(id, queue)| (*id, queue.class.rows())).collect())
    }

    /// Makes or changes a queue.
    ///
    /// # Errors
    /// `EINVAL` if the device's discipline has no queues, or not that many.
    pub fn set_queue(&self, id: u32, details: &Details, now: Instant) -> Result<(), Error> {
        self.begin(now)?.set_queue(id, details, now)
    }

    /// Removes a queue.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn delete_queue(&self, id: u32, now: Instant) -> Result<(), Error> {
        let mut work = self.begin(now)?;
        if !work.installed().queues.contains_key(&id) {
            return Err(Errno::ENOENT.into());
        }
        let head = header(work.index(), class_of(id), 0, 0);
        work.rtnl().execute(RTM_DELTCLASS, 0, &head, |_| {}).inspect_err(|error| {
            let (name, minor) = (&self.name, id + 1);
            tracing::warn!(target: "netdev_linux", rl = "5,20", "delete {name} class 1:{minor} failed ({error})");
        })?;
        work.installed_mut().queues.remove(&id);
        Ok(())
    }

    /// What a queue counted, and since when it is there.
    ///
    /// # Errors
    /// `ENOENT` if there is none.
    pub fn queue_stats(&self, id: u32, now: Instant) -> Result<(QueueStats, Instant), Error> {
        let mut work = self.begin(now)?;
        let created = work.installed().queues.get(&id).ok_or(Errno::ENOENT)?.created;
        let head = header(work.index(), class_of(id), WHOLE, 0);
        let answer = work.rtnl().get(RTM_GETTCLASS, ECHO, &head, |_| {})?;
        let told = parse_class(&answer, Kind::Other, Psched::default()).ok_or(Errno::EPROTO)?;
        Ok((told.stats, created))
    }

    /// What all queues counted, and since when they are there.
    pub fn all_queue_stats(&self, now: Instant) -> Result<BTreeMap<u32, (QueueStats, Instant)>, Error> {
        let mut work = self.begin(now)?;
        if work.installed().queues.is_empty() {
            return Ok(BTreeMap::new());
        }
        let told = work.dump_classes(Kind::Other)?;
        let queues = &work.installed().queues;
        let known = told.into_iter().filter_map(|told| {
            let id = queue_of(told.handle)?;
            Some((id, (told.stats, queues.get(&id)?.created)))
        });
        Ok(known.collect())
    }

    /// Limits what is received; what is set already is left alone.
    pub fn set_policing(&self, wanted: Policing) -> Result<(), Error> {
        let wanted = wanted.completed();
        let mut inner = self.lock();
        let index = Links::new()?.index(&self.name)?;
        inner.notice(index);
        let held = self.hooks.serial(index, User::Policing);
        if inner.policing == Some((wanted, held)) {
            return Ok(());
        }
        inner.policing = None;
        inner.ready()?;
        let Inner { rtnl: Some(rtnl), psched: Some(psched), .. } = &mut *inner else {
            return Err(Errno::EIO.into());
        };
        let held = police::install(rtnl, &self.hooks, (&self.name, index), &wanted, *psched)?;
        inner.policing = Some((wanted, held));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere while the lock was held left a state that the kernel's is compared with on the next change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks the device up, and adopts what it has if that is not known.
    fn begin(&self, now: Instant) -> Result<Work<'_>, Error> {
        let mut inner = self.lock();
        let links = Links::new()?;
        inner.notice(links.index(&self.name)?);
        inner.ready()?;
        let mut work = Work { name: &self.name, links, inner };
        if work.inner.installed.is_none() {
            let installed = work.adopt(now)?;
            work.inner.installed = Some(installed);
        }
        Ok(work)
    }
}

impl Inner {
    fn notice(&mut self, index: u32) {
        if std::mem::replace(&mut self.index, index) != index {
            self.installed = None;
            self.policing = None;
        }
    }

    fn ready(&mut self) -> Result<(), Error> {
        if self.rtnl.is_none() {
            self.rtnl = Some(Rtnl::open()?);
        }
        if self.psched.is_none() {
            self.psched = Some(Psched::read());
        }
        Ok(())
    }
}

/// A device being worked on: it is there, and it is known what it has.
struct Work<'a> {
    name: &'a str,
    links: Links,
    inner: MutexGuard<'a, Inner>,
}

impl Work<'_> {
    fn rtnl(&mut self) -> &mut Rtnl {
        self.inner.rtnl.as_mut().expect("opened when work began")
    }

    fn psched(&self) -> Psched {
        self.inner.psched.unwrap_or_default()
    }

    fn index(&self) -> u32 {
        self.inner.index
    }

    fn installed(&self) -> &Installed {
        self.inner.installed.as_ref().expect("adopted when work began, replaced as a whole")
    }

    fn installed_mut(&mut self) -> &mut Installed {
        self.inner.installed.as_mut().expect("adopted when work began, replaced as a whole")
    }

    fn facts(&self) -> Facts {
        let mtu = self.links.state(self.name).ok().map(|state| state.mtu);
        Facts { mtu, speed: self.links.settings(self.name).ok().and_then(|settings| settings.speed) }
    }

    /// What the device has.
    fn adopt(&mut self, now: Instant) -> Result<Installed, Error> {
        let head = header(self.index(), 0, TC_H_ROOT, 0);
        let psched = self.psched();
        let mut root = match self.rtnl().get(RTM_GETQDISC, ECHO, &head, |_| {}) {
            Ok(answer) => parse_qdisc(&answer, psched).unwrap_or(Root::Other),
            // A built-in discipline is not told of at all.
            Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::EPROTO) => Root::Default,
            Err(error) => {
                let name = self.name;
                tracing::warn!(target: "netdev_linux", rl = "5,20", "query {name} qdisc failed ({error})");
                return Err(error);
            }
        };
        let mut queues = BTreeMap::new();
        if root.kind().has_classes() {
            for told in self.dump_classes(root.kind())? {
                let Some(class) = told.class else { continue };
                if told.handle == WHOLE {
                    root.set_max_rate(class.max_rate());
                }
                if let Some(id) = queue_of(told.handle) {
                    queues.insert(id, Queue { class, created: now });
                }
            }
        }
        Ok(Installed { root, queues })
    }

    fn dump_classes(&mut self, kind: Kind) -> Result<Vec<Told>, Error> {
        let head = header(self.index(), 0, 0, 0);
        let psched = self.psched();
        let decode = |message: &Message<'_>| {
            (message.kind == RTM_NEWTCLASS).then(|| parse_class(message.payload, kind, psched)).flatten()
        };
        self.rtnl().dump(RTM_GETTCLASS, &head, &|_| {}, decode)
    }

    /// Removes what the device has; the kernel puts its default there.
    fn remove(&mut self) -> Result<(), Error> {
        let head = header(self.index(), 0, TC_H_ROOT, 0);
        match self.rtnl().execute(RTM_DELQDISC, 0, &head, |_| {}) {
            Ok(()) => {}
            // It was the default.
            Err(error) if matches!(error.errno(), Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => {
                let name = self.name;
                tracing::warn!(
                    target: "netdev_linux", rl = "5,20", "{name}: Failed to delete existing qdisc: {error}"
                );
                return Err(error);
            }
        }
        *self.installed_mut() = Installed { root: Root::Default, queues: BTreeMap::new() };
        Ok(())
    }

    fn install(&mut self, root: Root) -> Result<(), Error> {
        self.remove()?;
        let Some(kind) = root.kind().linux_name() else { return Ok(()) };
        let (head, psched) = (header(self.index(), ROOT, TC_H_ROOT, 0), self.psched());
        self.rtnl().execute(RTM_NEWQDISC, EXCL | CREATE, &head, |attrs| {
            attrs.put_str(TCA_KIND, kind);
            root.put_options(attrs, psched);
        })?;
        if let Some(class) = root.whole_class() {
            self.put_class(WHOLE, ROOT, &class)?;
        }
        self.installed_mut().root = root;
        Ok(())
    }

    /// Changes the parameters of the discipline that is there.
    fn change(&mut self, wanted: Root) -> Result<(), Error> {
        if wanted == self.installed().root {
            return Ok(());
        }
        let Some(class) = wanted.whole_class() else { return self.install(wanted) };
        self.put_class(WHOLE, ROOT, &class)?;
        self.installed_mut().root = wanted;
        Ok(())
    }

    fn set_queue(&mut self, id: u32, details: &Details, now: Instant) -> Result<(), Error> {
        let facts = self.facts();
        let class = self.installed().root.parse_class(details, &facts);
        let class = class.filter(|_| id < MAX_QUEUES).ok_or(Errno::EINVAL)?;
        if self.installed().queues.get(&id).is_some_and(|queue| queue.class == class) {
            return Ok(());
        }
        self.put_class(class_of(id), WHOLE, &class)?;
        let queues = &mut self.installed_mut().queues;
        queues.entry(id).and_modify(|queue| queue.class = class).or_insert(Queue { class, created: now });
        Ok(())
    }

    fn put_class(&mut self, handle: u32, parent: u32, class: &Class) -> Result<(), Error> {
        let facts = self.facts();
        let mtu = facts.mtu.ok_or(Errno::ENODEV)?;
        let (head, psched) = (header(self.index(), handle, parent, 0), self.psched());
        let name = self.name;
        let made = self.rtnl().execute(RTM_NEWTCLASS, CREATE, &head, |attrs| {
            attrs.put_str(TCA_KIND, class.linux_name());
            attrs.nest(TCA_OPTIONS, |options| class.put_options(options, mtu, psched));
        });
        made.inspect_err(|error| {
            let half = |id: u32| (id >> 16, id & 0xffff);
            let ((major, minor), (parent, child)) = (half(handle), half(parent));
            tracing::warn!(
                target: "netdev_linux", rl = "5,20",
                "failed to replace {name} class {major}:{minor}, parent {parent}:{child}, {} ({error})", class.text()
            );
        })
    }
}

/// What a queueing discipline is, from the payload of an `RTM_NEWQDISC`.
pub fn parse_qdisc(payload: &[u8], psched: Psched) -> Option<Root> {
    let (_, tail) = payload.split_at_checked(HEADER)?;
    let attrs = Attrs::new_at(tail, HEADER);
    let kind = attrs.find(TCA_KIND)?.str().ok().and_then(Kind::of_linux)?;
    match attrs.find(TCA_OPTIONS) {
        Some(options) => Root::decode(kind, &options, psched),
        // A default that somebody chose; its parameters are the kernel's.
        None => None,
    }
}

/// A class, from the payload of an `RTM_NEWTCLASS`, as one of a discipline of `kind`.
pub fn parse_class(payload: &[u8], kind: Kind, psched: Psched) -> Option<Told> {
    let (head, tail) = payload.split_at_checked(HEADER)?;
    let handle = u32::from_ne_bytes(*head.get(8..)?.first_chunk()?);
    let attrs = Attrs::new_at(tail, HEADER);
    let class = attrs.find(TCA_OPTIONS).and_then(|options| Class::decode(kind, &options, psched));
    let stats = attrs.find(TCA_STATS2).and_then(|stats| parse_stats(&stats)).unwrap_or_default();
    Some(Told { handle, class, stats })
}

fn parse_stats(stats: &Attr<'_>) -> Option<QueueStats> {
    let (mut found, mut packets) = (QueueStats::default(), None);
    for attr in stats.nested().map_while(Result::ok) {
        let word = |at: usize| Some(u32::from_ne_bytes(*attr.data.get(at..)?.first_chunk()?));
        match attr.kind {
            TCA_STATS_BASIC => {
                found.tx_bytes = u64::from_ne_bytes(*attr.data.first_chunk()?);
                found.tx_packets = word(8)?.into();
            }
            TCA_STATS_PKT64 => packets = attr.u64().ok(),
            TCA_STATS_QUEUE => found.tx_errors = word(8)?.into(),
            _ => {}
        }
    }
    found.tx_packets = packets.unwrap_or(found.tx_packets);
    Some(found)
}

/// Adds a filter to what is received that does what `action` writes: `kind` and the attribute that takes actions.
fn ingress_filter(
    rtnl: &mut Rtnl,
    head: &[u8; HEADER],
    flags: u16,
    (kind, actions): (&str, u16),
    action: impl FnOnce(&mut Writer),
) -> Result<(), Error> {
    rtnl.execute(RTM_NEWTFILTER, CREATE | flags, head, |attrs| {
        attrs.put_str(TCA_KIND, kind);
        attrs.nest(TCA_OPTIONS, |options| options.nest(actions, action));
    })
}

/// Removes a filter of what is received. None there is no error.
fn remove_ingress_filter(rtnl: &mut Rtnl, head: &[u8; HEADER], kind: &str) -> Result<(), Error> {
    match rtnl.execute(RTM_DELTFILTER, 0, head, |attrs| attrs.put_str(TCA_KIND, kind)) {
        Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::EINVAL) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests;
