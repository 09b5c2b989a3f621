//! A tracked connection.

use super::entry::Entry;
use super::key::Key;
use super::verdict::Proto;
use ::flow::action::NatKind;
use ::flow::id::Zone;
use ::flow::time::Instant;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sys::cpu;

/// A direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dir {
    /// As its first packet went.
    Orig,
    Reply,
}

/// What of a connection changes with packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub proto: Proto,
    pub mark: u32,
    /// Big-endian.
    pub label: u128,
}

/// A tracked connection. Its keys never change; its state has a lock of its own, for its two entries may be in two shards.
#[derive(Debug)]
pub struct Conn {
    pub orig: Key,
    /// What answers look like: the reverse of `orig`, unless addresses are translated.
    pub reply: Key,
    /// Which end of packets in the original direction is translated.
    pub nat: Option<NatKind>,
    /// Milliseconds of the clock at which it ends.
    expires: AtomicU64,
    /// It is over: forgotten, though entries may still be there.
    dead: AtomicBool,
    /// What has to do with hardware ([`super::watch`]).
    pub(super) hardware: AtomicU8,
    state: Mutex<State>,
}

impl Conn {
    pub fn new(orig: Key, reply: Key, nat: Option<NatKind>, state: State, expires: Instant) -> Self {
        Self {
            orig,
            reply,
            nat,
            expires: AtomicU64::new(expires.millis()),
            dead: AtomicBool::new(false),
            hardware: AtomicU8::new(0),
            state: Mutex::new(state),
        }
    }

    pub const fn key(&self, dir: Dir) -> &Key {
        match dir {
            Dir::Orig => &self.orig,
            Dir::Reply => &self.reply,
        }
    }

    #[inline]
    pub fn prefetch(&self, dir: Dir) {
        cpu::prefetch(self.key(dir));
        cpu::prefetch(&self.state);
    }

    #[inline]
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is still there at `now`.
    #[inline]
    pub fn is_live(&self, now: Instant) -> bool {
        !self.is_dead() && now.millis() < self.expires.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends it. Whether it was not over before.
    pub fn kill(&self) -> bool {
        !self.dead.swap(true, Ordering::Relaxed)
    }

    /// Lets it last until then.
    #[inline]
    pub fn lasts(&self, until: Instant) {
        self.expires.store(until.millis(), Ordering::Relaxed);
    }

    /// How long it lasts from `now`.
    pub fn left(&self, now: Instant) -> Duration {
        Instant::from_millis(self.expires.load(Ordering::Relaxed)).since(now)
    }

    /// As it is shown.
    pub fn entry(&self, now: Instant) -> Entry {
        let state = self.state();
        let mut entry = Entry::new(self.orig.tuple(), self.reply.tuple());
        entry.zone = Zone(self.orig.zone);
        (entry.mark, entry.labels) = (state.mark, state.label);
        entry.proto = state.proto.info();
        entry.timeout = u32::try_from(self.left(now).as_secs()).unwrap_or(u32::MAX);
        entry
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::verdict::Other;
    use super::*;

    pub(crate) fn conn(orig: Key) -> Conn {
        let state = State { proto: Proto::Other(Other::First), mark: 0, label: 0 };
        Conn::new(orig, orig.reversed(), None, state, Instant::from_millis(1000))
    }

    #[test]
    fn a_connection_ends_once() {
        let conn = conn(Key { zone: 3, proto: 17, ..Key::default() });
        assert!(conn.is_live(Instant::from_millis(999)) && !conn.is_live(Instant::from_millis(1000)));
        conn.lasts(Instant::from_millis(3500));
        assert!(conn.is_live(Instant::from_millis(1000)));
        let text = conn.entry(Instant::from_millis(1000)).text(false, true);
        let end = "src=0.0.0.0,dst=0.0.0.0,sport=0,dport=0";
        assert_eq!(text, format!("udp,orig=({end}),reply=({end}),zone=3,timeout=2"));
        assert!(conn.kill() && !conn.kill() && !conn.is_live(Instant::ZERO));
    }
}
