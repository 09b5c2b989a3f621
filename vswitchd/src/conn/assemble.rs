//! Requests in several messages: statistics requests whose parts come one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::time::Instant;
use openflow::error::OfError;
use openflow::header::{Header, MORE, Raw};
use openflow::version::Version;

/// Parts of a request, in the order in which they came.
struct Partial {
    raw: Raw,
    parts: Vec<Vec<u8>>,
    size: usize,
    deadline: Instant,
}

/// How long the next part may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest that a request may be.
const MAX_SIZE: usize = 4 * 1024 * 1024;

/// Requests of which some parts have come.
#[derive(Default)]
pub struct Assembler(BTreeMap<u32, Partial>);

impl Assembler {
    /// Takes a message. Gives a whole request: a message that is one by itself, or the last of several with those
    /// before it.
    ///
    /// # Errors
    ///
    /// What is wrong with the message.
    pub fn take(&mut self, msg: Vec<u8>, now: Instant) -> Result<Option<Vec<Vec<u8>>>, OfError> {
        let header = match Header::peek(&msg) {
            Ok(header) if header.raw.is_stat() && !header.raw.is_stat_reply() => header,
            _ => return Ok(Some(vec![msg])),
        };
        // An empty part is fine anywhere.
        if msg.len() > header.len {
            Header::parse(&msg)?;
        }
        let more = header.version >= Version::V13.wire() && header.flags & MORE != 0;
        if !more && self.0.is_empty() {
            return Ok(Some(vec![msg]));
        }
        self.add(&header, msg, now)?;
        if more {
            return Ok(None);
        }
        let whole = self.0.remove(&header.xid).map(|partial| partial.parts).unwrap_or_default();
        Ok(Some(without_empty(whole)))
    }

    fn add(&mut self, header: &Header, msg: Vec<u8>, now: Instant) -> Result<(), OfError> {
        let partial = self.0.entry(header.xid).or_insert_with(|| Partial {
            raw: header.raw,
            parts: Vec::new(),
            size: 0,
            deadline: now,
        });
        partial.deadline = now + PATIENCE;
        let error = if partial.raw != header.raw {
            Some(OfError::BrcBadStat)
        } else {
            partial.size += msg.len();
            (partial.size > MAX_SIZE).then_some(OfError::BrcMultipartBufferOverflow)
        };
        if let Some(error) = error {
            self.0.remove(&header.xid);
            return Err(error);
        }
        partial.parts.push(msg);
        Ok(())
    }

    /// A request whose next part did not come in time, if there is one: its last part, to answer with an error.
    pub fn overdue(&mut self, now: Instant) -> Option<Vec<u8>> {
        let xid = self.0.iter().find(|(_, partial)| now >= partial.deadline).map(|(&xid, _)| xid)?;
        self.0.remove(&xid)?.parts.pop()
    }

    /// When [`Self::overdue`] has something to give.
    pub fn deadline(&self) -> Instant {
        self.0.values().map(|partial| partial.deadline).min().unwrap_or(Instant::NEVER)
    }
}

/// The parts that have a body, or one if none has.
fn without_empty(mut parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let is_empty = |msg: &Vec<u8>| Header::peek(msg).is_ok_and(|header| header.len >= msg.len());
    if parts.iter().all(is_empty) {
        parts.truncate(1);
    } else {
        parts.retain(|msg| !is_empty(msg));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use openflow::header::{finish, start};
    use openflow::wire::{Put, set_u16};

    fn part(xid: u32, more: bool, body: usize) -> Vec<u8> {
        let mut msg = start(Raw::Ofpst13TableFeaturesRequest, Version::V13, xid);
        msg.zeros(body);
        finish(&mut msg);
        set_u16(&mut msg, 10, u16::from(more));
        msg
    }

    #[test]
    fn parts_become_a_request() {
        let mut assembler = Assembler::default();
        let (now, one, two) = (Instant::ZERO, part(1, true, 64), part(1, false, 64));
        assert_eq!(assembler.take(one.clone(), now), Ok(None));
        assert_eq!(assembler.take(part(2, false, 0), now), Ok(Some(vec![part(2, false, 0)])));
        assert_eq!(assembler.take(two.clone(), now), Ok(Some(vec![one, two])));
        assert_eq!(assembler.deadline(), Instant::NEVER);
    }

    #[test]
    fn a_late_part_is_an_error() {
        let mut assembler = Assembler::default();
        let one = part(1, true, 64);
        assert_eq!(assembler.take(one.clone(), Instant::ZERO), Ok(None));
        assert_eq!(assembler.overdue(Instant::from_millis(999)), None);
        assert_eq!(assembler.overdue(Instant::from_millis(1000)), Some(one));
    }

    #[test]
    fn a_request_cannot_grow_for_ever() {
        let mut assembler = Assembler::default();
        let long = part(1, true, 64_000);
        for _ in 0..65 {
            assert_eq!(assembler.take(long.clone(), Instant::ZERO), Ok(None));
        }
        assert_eq!(assembler.take(long, Instant::ZERO), Err(OfError::BrcMultipartBufferOverflow));
    }
}
