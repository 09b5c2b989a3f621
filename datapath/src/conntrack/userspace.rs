//! The userspace tracker as a [`Conntrack`]: dumps, flushes, settings.

use super::conn::Dir;
use super::entry::{Entry, Expectation, Tuple};
use super::key::Key;
use super::tracker::{SHARDS, Tracker};
use super::{Conntrack, Walk};
use crate::Error;
use ::flow::id::Zone;
use std::sync::atomic::Ordering;
use sys::errno::Errno;

impl Tracker {
    /// The live connections of a shard.
    fn entries(&self, shard: u8, zone: Option<Zone>) -> Vec<Entry> {
        let now = self.clock.now();
        let wanted = |key: &Key| zone.is_none_or(|zone| zone.0 == key.zone);
        self.table(shard)
            .iter()
            .filter(|(conn, dir)| *dir == Dir::Orig && wanted(&conn.orig) && conn.is_live(now))
            .map(|(conn, _)| conn.entry(now))
            .collect()
    }
}

impl Conntrack for Tracker {
    fn dump(&self, zone: Option<Zone>) -> Result<Walk<'_, Entry>, Error> {
        Ok(Box::new((0..=u8::MAX).flat_map(move |shard| self.entries(shard, zone)).map(Ok)))
    }

    /// There are no helpers here, so nothing is expected.
    fn expectations(&self, _zone: Option<Zone>) -> Result<Walk<'_, Expectation>, Error> {
        Ok(Box::new(std::iter::empty()))
    }

    fn flush(&self, zone: Option<Zone>) -> Result<(), Error> {
        debug_assert_eq!(SHARDS, usize::from(u8::MAX) + 1);
        for shard in 0..=u8::MAX {
            self.table(shard).sweep(0, usize::MAX, |conn, _| {
                let goes = zone.is_none_or(|zone| zone.0 == conn.orig.zone);
                if goes {
                    self.kill(conn);
                }
                goes
            });
        }
        Ok(())
    }

    fn flush_tuple(&self, zone: Zone, tuple: &Tuple) -> Result<(), Error> {
        let now = self.clock.now();
        let found = Key::of(zone, tuple).and_then(|key| {
            let place = key.place(&self.seeds);
            let table = self.table(place.shard);
            let (conn, _) = table.find(place.hash, &key).filter(|(conn, _)| conn.is_live(now))?;
            self.kill(conn);
            Some(conn.clone())
        });
        let Some(conn) = found else {
            tracing::warn!(target: "conntrack", "Tuple not found");
            return Err(Errno::ENOENT.into());
        };
        for dir in [Dir::Orig, Dir::Reply] {
            let place = conn.key(dir).place(&self.seeds);
            self.table(place.shard).remove(place.hash, dir, &conn);
        }
        Ok(())
    }

    /// As OVS has it since it keeps connections in one map.
    fn buckets(&self) -> Option<u32> {
        Some(1)
    }

    fn max_connections(&self) -> Result<u32, Error> {
        Ok(self.max.load(Ordering::Relaxed))
    }

    fn set_max_connections(&self, max: u32) -> Result<(), Error> {
        self.max.store(max, Ordering::Relaxed);
        Ok(())
    }

    fn connections(&self) -> Result<u32, Error> {
        Ok(self.count())
    }

    fn tcp_seq_check(&self) -> Result<bool, Error> {
        Ok(self.strict.load(Ordering::Relaxed))
    }

    fn set_tcp_seq_check(&self, on: bool) -> Result<(), Error> {
        self.strict.store(on, Ordering::Relaxed);
        Ok(())
    }

    fn sweep_interval(&self) -> Result<u32, Error> {
        Ok(self.sweep_ms.load(Ordering::Relaxed))
    }

    fn set_sweep_interval(&self, ms: u32) -> Result<(), Error> {
        self.sweep_ms.store(ms, Ordering::Relaxed);
        Ok(())
    }
}
