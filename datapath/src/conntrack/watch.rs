//! Telling of established connections to who takes them to hardware.
//!
//! A worker says of a packet of an established connection what it looked like, once a direction; who watches answers by
//! [`Conn::forget_asked`] if it is to be told again. Of connections that are watched it is told when they change or end.

use super::conn::{Conn, Dir};
use super::tracker::Tracker;
use super::verdict::{Other, Proto, default_seconds};
use super::{entry::TcpState, timeout::Timeout};
use crate::PmdId;
use ::flow::key::Key;
use ::flow::time::Instant;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Why a watched connection is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// It is closing: FIN, RST.
    Closing,
    /// It is forgotten.
    Forgotten,
    /// Its mark or label is another.
    Marked,
}

/// Who watches. Workers call with shards locked: nothing here may wait.
pub trait Watch: Send + Sync {
    /// A packet of an established connection came in, with this key.
    fn established(&self, conn: &Arc<Conn>, dir: Dir, pmd: PmdId, key: Box<Key>);

    /// A watched connection has news; it is not watched any more.
    fn news(&self, conn: &Arc<Conn>, news: News);

    /// A flow that is watched has other actions, or is gone.
    fn flow_changed(&self);
}

/// The place for who watches.
pub type Watching = Arc<OnceLock<Arc<dyn Watch>>>;

/// Bits of a connection that have to do with hardware.
mod bit {
    pub const ASKED_ORIG: u8 = 1;
    pub const ASKED_REPLY: u8 = 2;
    pub const WATCHED: u8 = 4;
    /// Packets may have passed that the tracker did not see.
    pub const AWAY: u8 = 8;
}

const fn asked(dir: Dir) -> u8 {
    match dir {
        Dir::Orig => bit::ASKED_ORIG,
        Dir::Reply => bit::ASKED_REPLY,
    }
}

impl Conn {
    /// Whether nobody was told of this direction. From now on somebody was.
    #[inline]
    pub(super) fn ask(&self, dir: Dir) -> bool {
        let bit = asked(dir);
        self.hardware.load(Ordering::Relaxed) & bit == 0
            && self.hardware.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Has packets of a direction be told of again.
    pub fn forget_asked(&self, dir: Dir) {
        self.hardware.fetch_and(!asked(dir), Ordering::Relaxed);
    }

    /// Has news be told of, and lets packets pass unseen from now on.
    pub fn watch(&self) {
        self.hardware.fetch_or(bit::WATCHED | bit::AWAY, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.hardware.load(Ordering::Relaxed) & bit::WATCHED != 0
    }

    /// Ends that news are told. Whether they were.
    pub fn unwatch(&self) -> bool {
        self.hardware.fetch_and(!bit::WATCHED, Ordering::Relaxed) & bit::WATCHED != 0
    }

    /// Whether packets may have passed unseen, so that sequence numbers say nothing.
    #[inline]
    pub(super) fn was_away(&self) -> bool {
        self.hardware.load(Ordering::Relaxed) & bit::AWAY != 0
    }

    /// Whether packets of both ends were seen and none that ends it.
    pub fn is_steady(&self) -> bool {
        self.state().proto.is_steady()
    }

    /// How long it lasts after a packet.
    pub fn patience(&self) -> Duration {
        let timeout = match self.state().proto {
            Proto::Tcp(_) => Timeout::TcpEstablished,
            Proto::Icmp { .. } => Timeout::IcmpReply,
            Proto::Other(_) => Timeout::UdpMultiple,
        };
        Duration::from_secs(default_seconds(timeout).into())
    }

    /// A packet passed at `now` that nobody saw.
    pub fn refresh(&self, now: Instant) {
        self.lasts(now + self.patience());
    }
}

impl Proto {
    /// Whether packets of both ends were seen and none that ends the connection.
    pub fn is_steady(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.info().iter().all(|peer| peer.state == TcpState::Established),
            Self::Icmp { .. } => false,
            Self::Other(state) => *state == Other::Both,
        }
    }
}

impl Tracker {
    /// Tells `watch` of established connections from now on. There can be one; whether this is it.
    pub fn watch(&self, watch: Arc<dyn Watch>) -> bool {
        self.watching.set(watch).is_ok()
    }

    /// The place for who watches.
    pub fn watching(&self) -> &Watching {
        &self.watching
    }

    pub(super) fn tell(&self, conn: &Arc<Conn>, news: News) {
        if conn.unwatch()
            && let Some(watch) = self.watching.get()
        {
            watch.news(conn, news);
        }
    }

    /// The live connection that a key belongs to.
    pub fn find_live(&self, key: &super::key::Key, now: Instant) -> Option<(Arc<Conn>, Dir)> {
        let place = key.place(&self.seeds);
        let table = self.table(place.shard);
        let (conn, dir) = table.find(place.hash, key).filter(|(conn, _)| conn.is_live(now))?;
        Some((Arc::clone(conn), dir))
    }
}
