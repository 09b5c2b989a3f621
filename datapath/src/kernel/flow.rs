//! `ovs_flow`: flows of a datapath (`linux/openvswitch.h`).
//!
//! Flows go by UFID where they have one. The kernel counts time as we do, in milliseconds since boot. What only userspace
//! knows of a key (`OVS_KEY_ATTR_PACKET_TYPE`) is left out of what the kernel gets.

use std::ops::Range;
use std::sync::Arc;

use flow::action::Action;
use flow::attr::{Attr, AttrError, Attrs, Writer};
use flow::id::Ufid;
use flow::odp::attrs::code;
use flow::odp::{RawKey, RawMask};
use flow::time::Instant;
use sys::errno::Errno;

use super::dp::words;
use super::genl::{Family, Genl, HEADER, collect};
use crate::flow::{Dump, Flow, FlowAttrs, FlowDel, FlowGet, FlowPut, FlowStats, PutFlags, Sighting};
use crate::netlink::{Batch, Client, DumpState, Malformed, Message, flag};
use crate::{Error, PmdId};

pub(super) mod cmd {
    pub const NEW: u8 = 1;
    pub const DEL: u8 = 2;
    pub const GET: u8 = 3;
    pub const SET: u8 = 4;
}

pub(super) mod attr {
    pub const KEY: u16 = 1;
    pub const ACTIONS: u16 = 2;
    pub const STATS: u16 = 3;
    pub const TCP_FLAGS: u16 = 4;
    pub const USED: u16 = 5;
    pub const CLEAR: u16 = 6;
    pub const MASK: u16 = 7;
    pub const PROBE: u16 = 8;
    pub const UFID: u16 = 9;
    pub const UFID_FLAGS: u16 = 10;
    /// One more than the last that is read.
    pub const N: usize = 11;
}

/// Leave key, mask and actions out of answers (`OVS_UFID_F_OMIT_*`).
const TERSE: u32 = 1 << 0 | 1 << 1 | 1 << 2;

/// Bytes of a request beside key, mask and actions, at most.
const OVERHEAD: usize = 96;

/// The UFID as the kernel keeps it: four host-endian words, where ours are the bytes that are printed.
fn swapped(ufid: [u8; 16]) -> [u8; 16] {
    let mut swapped = [0; 16];
    for (to, from) in swapped.as_chunks_mut::<4>().0.iter_mut().zip(ufid.as_chunks::<4>().0) {
        *to = u32::from_be_bytes(*from).to_ne_bytes();
    }
    swapped
}

/// An attribute with a key or a mask, without what only userspace knows.
pub(super) fn put_key(attrs: &mut Writer, kind: u16, key: &[u8]) {
    attrs.nest(kind, |nest| match Attrs::new(key).span(code::PACKET_TYPE) {
        Some(userspace) => {
            nest.put_coded(&key[..userspace.start]);
            nest.put_coded(&key[userspace.end..]);
        }
        None => nest.put_coded(key),
    });
}

fn put_ufid(attrs: &mut Writer, ufid: Option<Ufid>) {
    if let Some(ufid) = ufid {
        attrs.put_array(attr::UFID, swapped(ufid.0));
    }
}

pub(super) fn put_actions(attrs: &mut Writer, kind: u16, actions: &[Action]) {
    attrs.nest(kind, |nest| actions.iter().for_each(|action| action.encode(nest)));
}

/// What of a batch's puts was written last: the next ones may have the same.
#[derive(Default)]
pub(super) struct Written<'a> {
    mask: Option<(&'a [u8], Range<usize>)>,
    actions: Option<(&'a [Action], Range<usize>)>,
}

/// Appends what `fill` writes of `of`, or copies it if the very same was written last.
fn once<'a, T>(
    attrs: &mut Writer,
    last: &mut Option<(&'a [T], Range<usize>)>,
    of: &'a [T],
    fill: impl FnOnce(&mut Writer, &[T]),
) {
    match last {
        Some((written, place)) if std::ptr::eq(*written, of) => attrs.put_again(place.clone()),
        _ => {
            let start = attrs.len();
            fill(attrs, of);
            *last = Some((of, start..attrs.len()));
        }
    }
}

/// How much room a put takes in a batch, about.
pub(super) fn put_size(put: &FlowPut<'_>) -> usize {
    OVERHEAD + put.key.0.len() + put.mask.map_or(0, |mask| mask.0.len()) + 16 * put.actions.len()
}

/// Appends a put. With `echo`, the kernel tells of the flow as it was before.
pub(super) fn push_put<'a>(
    batch: &mut Batch,
    (family, dp): (Family, u32),
    put: &FlowPut<'a>,
    echo: bool,
    written: &mut Written<'a>,
) {
    let command = if put.flags.contains(PutFlags::CREATE) { cmd::NEW } else { cmd::SET };
    let mut flags = if put.flags.contains(PutFlags::MODIFY) { 0 } else { flag::CREATE };
    if echo {
        flags |= flag::ECHO;
    }
    batch.push(family.id, flags, &family.header(command, dp), |attrs| {
        put_ufid(attrs, put.ufid);
        put_key(attrs, attr::KEY, &put.key.0);
        if let Some(mask) = put.mask.filter(|mask| !mask.0.is_empty()) {
            once(attrs, &mut written.mask, &mask.0, |attrs, mask| put_key(attrs, attr::MASK, mask));
        }
        once(attrs, &mut written.actions, put.actions, |attrs, list| put_actions(attrs, attr::ACTIONS, list));
        if put.flags.contains(PutFlags::ZERO_STATS) {
            attrs.put_flag(attr::CLEAR);
        }
        if put.flags.contains(PutFlags::PROBE) {
            attrs.put_flag(attr::PROBE);
        }
    });
}

/// Appends a removal, of which the kernel tells the last counters.
pub(super) fn push_del(batch: &mut Batch, family: Family, dp: u32, del: &FlowDel<'_>) {
    batch.push(family.id, flag::ECHO, &family.header(cmd::DEL, dp), |attrs| {
        put_ufid(attrs, del.ufid);
        if del.terse {
            attrs.put_u32(attr::UFID_FLAGS, TERSE);
        }
        if !del.terse || del.ufid.is_none() {
            put_key(attrs, attr::KEY, &del.key.0);
        }
    });
}

/// Appends a question.
pub(super) fn push_get(batch: &mut Batch, family: Family, dp: u32, get: &FlowGet<'_>) {
    batch.push(family.id, 0, &family.header(cmd::GET, dp), |attrs| {
        put_ufid(attrs, get.ufid);
        if !get.key.0.is_empty() {
            put_key(attrs, attr::KEY, &get.key.0);
        }
    });
}

/// Removes all flows.
pub(super) fn flush(genl: &Genl, dp: u32) -> Result<(), Error> {
    genl.transact(genl.families.flow, (cmd::DEL, dp), 0, |_| {}, |_| Ok(())).map(|_| ())
}

fn read_stats(found: &[Option<Attr<'_>>; attr::N]) -> Result<FlowStats, AttrError> {
    let at = |kind: u16| found[usize::from(kind)];
    let [packets, bytes] = at(attr::STATS).map_or(Ok([0; 2]), |attr| words(&attr))?;
    let used = at(attr::USED).map(|attr| attr.u64()).transpose()?.filter(|used| *used != 0);
    let tcp_flags = at(attr::TCP_FLAGS).map_or(Ok(0), |attr| attr.u8())?;
    Ok(FlowStats { packets, bytes, used: used.map(Instant::from_millis), tcp_flags: u16::from(tcp_flags) })
}

/// Reads the counters of a flow alone.
pub(super) fn decode_stats(family: Family, message: &Message<'_>) -> Result<FlowStats, Error> {
    let (_, _, attrs) = family.open(message)?;
    Ok(read_stats(&collect(attrs)?)?)
}

/// The payload of an attribute if it comes next and has `N` bytes, of which the last are padding if `len` is less.
#[inline]
fn part<'a, const N: usize>(rest: &mut &'a [u8], kind: u16, len: u16) -> Option<&'a [u8; N]> {
    let ([a, b, c, d], tail) = rest.split_first_chunk()?;
    let (payload, tail) = tail.split_first_chunk()?;
    let head = (u16::from_ne_bytes([*a, *b]), u16::from_ne_bytes([*c, *d]));
    if head != (flow::attr::HEADER as u16 + len, kind) {
        return None;
    }
    *rest = tail;
    Some(payload)
}

/// The name and the counters of a flow of a terse dump, if it is told of in the way that kernels have. Passes over all flows
/// spend their time here.
#[inline]
fn sight(family: Family, message: &Message<'_>) -> Option<Sighting> {
    let (_, mut rest) =
        message.payload.split_first_chunk::<HEADER>().filter(|_| message.kind == family.id)?;
    let ufid: &[u8; 16] = part(&mut rest, attr::UFID, 16)?;
    let used = part(&mut rest, attr::USED, 8).map_or(0, |used| u64::from_ne_bytes(*used));
    let stats: Option<&[u8; 16]> = part(&mut rest, attr::STATS, 16);
    let [packets, bytes] = stats.map_or([0; 2], |stats| zerocopy::transmute!(*stats));
    let [tcp_flags, ..] = part::<4>(&mut rest, attr::TCP_FLAGS, 1).copied().unwrap_or_default();
    let used = (used != 0).then(|| Instant::from_millis(used));
    let stats = FlowStats { packets, bytes, used, tcp_flags: tcp_flags.into() };
    rest.is_empty().then(|| Sighting { ufid: Ufid(swapped(*ufid)), pmd: PmdId::NONE, stats })
}

/// Reads a message of a terse dump.
#[inline]
pub(super) fn take(
    family: Family,
    message: &Message<'_>,
    sightings: &mut Vec<Sighting>,
    to: &mut Vec<Flow>,
) -> Result<(), Error> {
    match sight(family, message) {
        Some(sighting) => sightings.push(sighting),
        None => to.push(decode(family, message)?.0),
    }
    Ok(())
}

/// A flow, and whether its actions were among what was told.
pub(super) fn decode(family: Family, message: &Message<'_>) -> Result<(Flow, bool), Error> {
    let (_, _, attrs) = family.open(message)?;
    let found = collect::<{ attr::N }>(attrs)?;
    let at = |kind: u16| found[usize::from(kind)];
    let key = at(attr::KEY).map_or_else(RawKey::default, |attr| RawKey(attr.data.into()));
    let ufid = at(attr::UFID).map(|attr| attr.array::<16>()).transpose()?;
    if ufid.is_none() && at(attr::KEY).is_none() {
        return Err(AttrError::Missing { at: attrs.offset(), kind: attr::KEY }.into());
    }
    let actions = match at(attr::ACTIONS) {
        Some(attr) => {
            Action::decode_all(attr.data).map_err(|error| Malformed::Attribute(shifted(error, &attr)))?.into()
        }
        None => Arc::default(),
    };
    let flow = Flow {
        ufid: ufid.map_or_else(|| crate::ufid_of(&key.0), |ufid| Ufid(swapped(ufid))),
        ufid_present: ufid.is_some(),
        key,
        mask: at(attr::MASK).map_or_else(RawMask::default, |attr| RawMask(attr.data.into())),
        actions,
        stats: read_stats(&found)?,
        attrs: FlowAttrs::default(),
        pmd: PmdId::NONE,
    };
    Ok((flow, at(attr::ACTIONS).is_some()))
}

/// An error whose offset counts from the start of an attribute's payload, as one that counts from the message.
fn shifted(error: AttrError, within: &Attr<'_>) -> AttrError {
    let by = within.at + flow::attr::HEADER;
    match error {
        AttrError::Truncated { at } => AttrError::Truncated { at: at + by },
        AttrError::BadLength { at, len } => AttrError::BadLength { at: at + by, len },
        AttrError::WrongSize { at, kind, want, got } => AttrError::WrongSize { at: at + by, kind, want, got },
        AttrError::Invalid { at, kind, what } => AttrError::Invalid { at: at + by, kind, what },
        AttrError::Missing { at, kind } => AttrError::Missing { at: at + by, kind },
        AttrError::TooDeep { at } => AttrError::TooDeep { at: at + by },
    }
}

/// A walk over the kernel's flows. Its socket is its own until it ends.
pub(super) struct FlowDump {
    genl: Arc<Genl>,
    dp: u32,
    terse: bool,
    walk: Option<(Client, DumpState)>,
    /// Why it could not begin.
    failed: Option<Error>,
}

impl FlowDump {
    pub(super) fn new(genl: Arc<Genl>, dp: u32, terse: bool) -> Self {
        let started = Self::start(&genl, dp, terse);
        let (walk, failed) = match started {
            Ok(walk) => (Some(walk), None),
            Err(error) => (None, Some(error)),
        };
        Self { genl, dp, terse, walk, failed }
    }

    fn start(genl: &Genl, dp: u32, terse: bool) -> Result<(Client, DumpState), Error> {
        let family = genl.families.flow;
        let mut client = genl.client()?;
        let state = client.dump_start(family.id, &family.header(cmd::GET, dp), |attrs| {
            if terse {
                attrs.put_u32(attr::UFID_FLAGS, TERSE);
            }
        })?;
        Ok((client, state))
    }

    /// Reads until there are flows, or the walk is over.
    fn read(&mut self, to: &mut Vec<Flow>) -> Result<(), Error> {
        let (family, terse, before) = (self.genl.families.flow, self.terse, to.len());
        while self.walk.is_some() && to.len() == before {
            let mut lacking = Vec::new();
            self.step(|message| {
                let (flow, with_actions) = decode(family, &message)?;
                if terse || with_actions {
                    to.push(flow)
                } else {
                    lacking.push(flow)
                }
                Ok(())
            })?;
            for flow in lacking {
                self.complete(&flow, to)?;
            }
        }
        Ok(())
    }

    /// Reads what the kernel gives at once.
    fn step(&mut self, each: impl FnMut(Message<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let Some((client, state)) = &mut self.walk else { return Ok(()) };
        match client.dump_next(state, each) {
            Ok(true) => {}
            Ok(false) => {
                if let Some((client, state)) = self.walk.take() {
                    self.genl.give_back(client);
                    // Flows may have been passed over.
                    if state.interrupted {
                        return Err(Errno::EINTR.into());
                    }
                }
            }
            Err(error) => {
                self.walk = None;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Asks for a flow again, whose actions did not fit beside its key.
    fn complete(&mut self, flow: &Flow, to: &mut Vec<Flow>) -> Result<(), Error> {
        let get =
            FlowGet { key: &flow.key, ufid: Some(flow.ufid).filter(|_| flow.ufid_present), pmd: PmdId::NONE };
        match get_one(&self.genl, self.dp, &get) {
            Ok(flow) => to.push(flow),
            Err(error) if error.errno() == Errno::ENOENT => {
                tracing::debug!(target: "dpif_netlink", "dumped flow disappeared on get");
            }
            Err(error) => {
                tracing::warn!(target: "dpif_netlink", "error fetching dumped flow: {error}");
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Dump for FlowDump {
    fn next(&mut self, _max: usize, to: &mut Vec<Flow>) -> Result<bool, Error> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // What the kernel gives at once, which is not much.
        self.read(to)?;
        Ok(self.walk.is_some())
    }

    fn sight(
        &mut self,
        max: usize,
        sightings: &mut Vec<Sighting>,
        to: &mut Vec<Flow>,
    ) -> Result<bool, Error> {
        if !self.terse || self.failed.is_some() {
            return self.next(max, to);
        }
        let family = self.genl.families.flow;
        self.step(|message| take(family, &message, sightings, to))?;
        Ok(self.walk.is_some())
    }
}

/// Looks one flow up.
pub(super) fn get_one(genl: &Genl, dp: u32, get: &FlowGet<'_>) -> Result<Flow, Error> {
    let family = genl.families.flow;
    let mut batch = Batch::default();
    push_get(&mut batch, family, dp, get);
    one(genl, &mut batch, &mut |message| decode(family, message).map(|(flow, _)| flow))?
        .ok_or(Errno::EPROTO.into())
}

/// Sends a batch of one request; what `read` makes of its answer, if there is one.
pub(super) fn one<T>(
    genl: &Genl,
    batch: &mut Batch,
    read: &mut dyn FnMut(&Message<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    use crate::netlink::Outcome;
    let mut result = Ok(None);
    genl.with(|client| {
        client.transact_batch(batch, &mut |_, outcome| {
            result = match outcome {
                Outcome::Done | Outcome::Warned(_) => Ok(None),
                Outcome::Reply(message) => read(&message).map(Some),
                Outcome::Refused(refusal) => Err(refusal.into()),
                Outcome::Unknown => Err(Errno::ENOBUFS.into()),
            };
        })
    })?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{FAMILY, message, put_raw};
    use crate::netlink::Messages;
    use flow::id::DpPort;
    use flow::odp::KeyAttr;
    use proptest::prelude::*;

    fn read(datagram: &[u8]) -> Result<(Flow, bool), Error> {
        decode(FAMILY, &Messages::new(datagram).next().unwrap().unwrap())
    }

    fn raw(attrs: &[KeyAttr]) -> Box<[u8]> {
        let mut writer = Writer::new();
        attrs.iter().for_each(|attr| attr.encode(&mut writer));
        writer.into_bytes().into()
    }

    const UFID: Ufid = Ufid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);

    #[test]
    fn a_put_is_written_as_the_kernel_wants_it() {
        let key = RawKey(
            raw(&[KeyAttr::Priority(1), KeyAttr::PacketType(0.into()), KeyAttr::InPort(DpPort(2))]).into(),
        );
        let mask = RawMask(raw(&[KeyAttr::PacketType(0.into()), KeyAttr::InPort(DpPort::NONE)]).into());
        let put = FlowPut {
            flags: PutFlags::CREATE | PutFlags::PROBE,
            key: &key,
            mask: Some(&mask),
            ufid: Some(UFID),
            pmd: PmdId::NONE,
            actions: &[Action::Output(DpPort(5))],
        };
        let mut batch = Batch::default();
        push_put(&mut batch, (FAMILY, 7), &put, false, &mut Written::default());
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let head = |kind: u16, len: u32| len | u32::from(kind) << 16;
        let flags = u32::from(flag::REQUEST | flag::CREATE) << 16;
        let mut expected = words(&[88 + 4, u32::from(FAMILY.id) | flags, 0, 0]);
        expected.extend([cmd::NEW, FAMILY.version, 0, 0]);
        expected.extend(words(&[7]));
        expected.extend(words(&[head(9, 20), 0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f]));
        expected.extend(words(&[head(1, 20), head(2, 8), 1, head(3, 8), 2]));
        expected.extend(words(&[head(7, 12), head(3, 8), u32::MAX]));
        expected.extend(words(&[head(2, 12), head(1, 8), 5]));
        expected.extend(words(&[head(8, 4)]));
        assert_eq!(batch.bytes(), expected);
    }

    #[test]
    fn what_puts_share_is_written_in_each() {
        let key = RawKey(raw(&[KeyAttr::Priority(1)]).into());
        let masks = [1, 1, 2]
            .map(|bits| RawMask(raw(&[KeyAttr::PacketType(0.into()), KeyAttr::Priority(bits)]).into()));
        let lists = [5, 6].map(|port| [Action::Trunc(64), Action::Output(DpPort(port))]);
        let put = |mask: Option<usize>, list: usize| FlowPut {
            flags: PutFlags::CREATE,
            key: &key,
            mask: mask.map(|mask| &masks[mask]),
            ufid: Some(UFID),
            pmd: PmdId::NONE,
            actions: &lists[list],
        };
        let none = FlowPut { actions: &[], ..put(Some(0), 0) };
        let puts = [
            put(Some(0), 0),
            put(Some(0), 0),
            put(Some(1), 0),
            put(None, 1),
            put(Some(1), 1),
            none,
            put(Some(2), 0),
            put(Some(2), 0),
        ];
        let (mut together, mut written) = (Batch::default(), Written::default());
        let mut apart = Vec::new();
        for put in &puts {
            push_put(&mut together, (FAMILY, 7), put, false, &mut written);
            let mut alone = Batch::default();
            push_put(&mut alone, (FAMILY, 7), put, false, &mut Written::default());
            apart.extend_from_slice(alone.bytes());
        }
        assert_eq!(together.bytes(), apart);
    }

    #[test]
    fn removals_are_terse_where_they_can_be() {
        let key = RawKey(raw(&[KeyAttr::Priority(1)]).into());
        let kinds = |ufid, terse| {
            let mut batch = Batch::default();
            push_del(&mut batch, FAMILY, 7, &FlowDel { key: &key, ufid, pmd: PmdId::NONE, terse });
            let message = Messages::new(batch.bytes()).next().unwrap().unwrap();
            assert_eq!(message.flags, flag::REQUEST | flag::ECHO);
            let (command, _, attrs) = FAMILY.open(&message).unwrap();
            assert_eq!(command, cmd::DEL);
            attrs.map(|attr| attr.unwrap().kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(Some(UFID), true), [attr::UFID, attr::UFID_FLAGS]);
        assert_eq!(kinds(Some(UFID), false), [attr::UFID, attr::KEY]);
        assert_eq!(kinds(None, true), [attr::UFID_FLAGS, attr::KEY]);
    }

    #[test]
    fn a_flow_is_read() {
        let key = raw(&[KeyAttr::Priority(1), KeyAttr::InPort(DpPort(2))]);
        let mask = raw(&[KeyAttr::InPort(DpPort::NONE)]);
        let datagram = message(cmd::NEW, 7, |attrs| {
            attrs.put(attr::KEY, &key);
            attrs.put(attr::MASK, &mask);
            attrs.put(attr::STATS, &[3u64, 180].map(u64::to_ne_bytes).concat());
            attrs.put_u8(attr::TCP_FLAGS, 0x12);
            attrs.put_u64(attr::USED, 5000);
            put_ufid(attrs, Some(UFID));
            put_actions(attrs, attr::ACTIONS, &[Action::Output(DpPort(4))]);
        });
        let (flow, with_actions) = read(&datagram).unwrap();
        assert!(with_actions && flow.ufid_present);
        assert_eq!((flow.ufid, &*flow.key.0, &*flow.mask.0), (UFID, &*key, &*mask));
        assert_eq!(*flow.actions, [Action::Output(DpPort(4))]);
        let stats =
            FlowStats { packets: 3, bytes: 180, used: Some(Instant::from_millis(5000)), tcp_flags: 0x12 };
        assert_eq!((flow.stats, flow.attrs), (stats, FlowAttrs::default()));
        let terse = message(cmd::NEW, 7, |attrs| put_ufid(attrs, Some(UFID)));
        let (flow, with_actions) = read(&terse).unwrap();
        assert!(!with_actions && flow.key.0.is_empty() && flow.stats == FlowStats::default());
    }

    fn sighted(datagram: &[u8]) -> Result<(Vec<Sighting>, Vec<Flow>), Error> {
        let (mut sightings, mut flows) = (Vec::new(), Vec::new());
        take(FAMILY, &Messages::new(datagram).next().unwrap().unwrap(), &mut sightings, &mut flows)?;
        Ok((sightings, flows))
    }

    #[test]
    fn a_flow_is_sighted_if_no_more_is_told() {
        let told = |key: bool| {
            message(cmd::NEW, 7, |attrs| {
                put_ufid(attrs, Some(UFID));
                if key {
                    attrs.put(attr::KEY, &raw(&[KeyAttr::Priority(1)]));
                }
                attrs.put_u64(attr::USED, 5000);
                attrs.put(attr::STATS, &[3u64, 180].map(u64::to_ne_bytes).concat());
                attrs.put_u8(attr::TCP_FLAGS, 0x12);
            })
        };
        let stats =
            FlowStats { packets: 3, bytes: 180, used: Some(Instant::from_millis(5000)), tcp_flags: 0x12 };
        let (sightings, flows) = sighted(&told(false)).unwrap();
        assert_eq!(sightings, [Sighting { ufid: UFID, pmd: PmdId::NONE, stats }]);
        assert!(flows.is_empty());
        let (sightings, flows) = sighted(&told(true)).unwrap();
        assert!(sightings.is_empty() && flows.len() == 1 && flows[0].stats == stats);
    }

    #[test]
    fn bad_flows_are_refused() {
        let detail = |fill: &dyn Fn(&mut Writer)| {
            read(&message(cmd::NEW, 7, |attrs| fill(attrs))).unwrap_err().detail().unwrap().to_owned()
        };
        assert_eq!(detail(&|_| {}), "attribute 1 is missing in the attribute at offset 24");
        let ufid = |attrs: &mut Writer| attrs.put(attr::UFID, &[0; 15]);
        assert_eq!(detail(&ufid), "attribute 9 at offset 24 has 15 bytes of payload instead of 16");
        let action = |attrs: &mut Writer| {
            attrs.put(attr::KEY, &[]);
            attrs.nest(attr::ACTIONS, |nest| nest.put_u16(1, 9));
        };
        assert_eq!(detail(&action), "attribute 1 at offset 32 has 2 bytes of payload instead of 4");
        let stats = |attrs: &mut Writer| {
            attrs.put(attr::KEY, &[]);
            attrs.put_u64(attr::STATS, 9);
        };
        assert_eq!(detail(&stats), "attribute 3 at offset 28 has 8 bytes of payload instead of 16");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn arbitrary_attributes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read(&message(cmd::NEW, 7, |attrs| put_raw(attrs, &bytes)));
        }

        /// What is sighted is what reading the whole flow gives.
        #[test]
        fn sightings_are_flows(
            usual in proptest::collection::vec(any::<bool>(), 4),
            (used, counters, tcp_flags) in (any::<u64>(), any::<[u64; 2]>(), any::<u8>()),
            parts in proptest::collection::vec((0..12_u16, proptest::collection::vec(any::<u8>(), 0..20)), 0..2),
        ) {
            let datagram = message(cmd::NEW, 7, |attrs| {
                put_ufid(attrs, usual[0].then_some(UFID));
                if usual[1] {
                    attrs.put_u64(attr::USED, used);
                }
                if usual[2] {
                    attrs.put(attr::STATS, &counters.map(u64::to_ne_bytes).concat());
                }
                if usual[3] {
                    attrs.put_u8(attr::TCP_FLAGS, tcp_flags);
                }
                parts.iter().for_each(|(kind, data)| attrs.put(*kind, data));
            });
            match (sighted(&datagram), read(&datagram)) {
                (Ok((sightings, flows)), Ok((flow, _))) => {
                    let seen = sightings.iter().map(|seen| (seen.ufid, seen.pmd, seen.stats));
                    let seen = seen.chain(flows.iter().map(|flow| (flow.ufid, flow.pmd, flow.stats)));
                    prop_assert_eq!(seen.collect::<Vec<_>>(), [(flow.ufid, flow.pmd, flow.stats)]);
                    let bare = flow.ufid_present && flow.key.0.is_empty() && flow.actions.is_empty();
                    prop_assert!(sightings.is_empty() || bare);
                    prop_assert!(!sightings.is_empty() || !parts.is_empty() || !usual[0]);
                }
                (Err(_), Err(_)) => {}
                _ => prop_assert!(false, "one is refused and not the other"),
            }
        }

        #[test]
        fn arbitrary_actions_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read(&message(cmd::NEW, 7, |attrs| {
                attrs.put(attr::KEY, &bytes);
                attrs.put(attr::ACTIONS, &bytes);
            }));
        }
    }
}
