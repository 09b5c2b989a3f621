//! The slow twin of the tracker: connections in a list that is looked through from its front, no hashes, no shards, no locks,
//! and rules written down one after the other. What it cannot know, which free address and port a translation takes, it is told, and
//! holds against what is allowed.

use crate::conntrack::key::{Key, number};
use ::flow::action::{Ct, Nat, NatKind};
use ::flow::proto::ip;

pub(super) const NEW: u8 = 1;
const EST: u8 = 2;
const REL: u8 = 4;
const RPL: u8 = 8;
const INV: u8 = 16;
const TRK: u8 = 32;
const SNAT: u8 = 64;
const DNAT: u8 = 128;

/// What a packet is, beside its key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Body {
    Tcp {
        flags: u8,
        seq: u32,
        ack: u32,
        win: u16,
        scale: Option<u8>,
        len: u32,
    },
    Echo {
        request: bool,
    },
    /// An ICMP error; the key is that of the packet that it is about, turned round.
    Error,
    Datagram,
    Broken,
}

/// What tracking said.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Meta {
    pub(super) state: u8,
    pub(super) zone: u16,
    pub(super) mark: u32,
    pub(super) label: u128,
    pub(super) orig: Option<Key>,
    /// Connection, reply, related.
    pub(super) known: Option<(u64, bool, bool)>,
}

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) key: Key,
    pub(super) body: Body,
    pub(super) meta: Meta,
}

/// TCP's states in their order.
const CLOSED: u8 = 0;
const SYN_SENT: u8 = 2;
const ESTABLISHED: u8 = 4;
const CLOSING: u8 = 7;
const FIN_WAIT_2: u8 = 9;
const TIME_WAIT: u8 = 10;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct End {
    pub(super) state: u8,
    /// `None`: no scaling; `Some(None)`: not known.
    pub(super) scale: Option<Option<u8>>,
    win: u32,
    lo: u32,
    hi: u32,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Inside {
    Tcp([End; 2]),
    Echo { answered: bool },
    Other { packets: u32, answered: bool },
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Conn {
    id: u64,
    pub(super) fwd: Key,
    pub(super) rev: Key,
    /// Its answers were another connection's when it was made.
    hidden: bool,
    nat: Option<NatKind>,
    pub(super) inside: Inside,
    pub(super) mark: u32,
    pub(super) label: u128,
    /// Milliseconds.
    pub(super) ends: u64,
}

/// The list.
#[derive(Default)]
pub(super) struct Twin {
    pub(super) conns: Vec<Conn>,
    pub(super) lax: bool,
    next: u64,
}

/// What a packet does to its connection.
enum Effect {
    Invalid,
    Old { lasts: Option<u64> },
    Young { lasts: u64 },
    Over,
}

impl Twin {
    /// Forgets what is over.
    pub(super) fn expire(&mut self, now: u64) {
        self.conns.retain(|conn| now < conn.ends);
    }

    pub(super) fn find(&self, key: &Key) -> Option<(usize, bool)> {
        self.conns.iter().enumerate().find_map(|(at, conn)| {
            if conn.fwd == *key {
                Some((at, false))
            } else if conn.rev == *key && !conn.hidden {
                Some((at, true))
            } else {
                None
            }
        })
    }

    /// Takes a packet; `chosen` is the answers' key that a new translated connection got.
    pub(super) fn track(&mut self, action: &Ct, now: u64, packet: &mut Packet, chosen: Option<Key>) {
        let zone = action.zone.unwrap_or_default().0;
        let known = packet.meta.known.filter(|(id, ..)| {
            !action.force && self.conns.iter().any(|conn| conn.id == *id && conn.fwd.zone == zone)
        });
        if let Some((id, reply, related)) = known {
            let at = self.conns.iter().position(|conn| conn.id == id).unwrap();
            self.write(action, packet, at);
            packet.meta.known = Some((id, reply, related));
            if action.nat.is_some() {
                packet.meta.known = None;
                self.translate(packet, at, reply);
            }
            return;
        }
        if packet.meta.zone != zone {
            packet.meta.state = 0;
        }
        packet.meta.known = None;
        if packet.body == Body::Broken {
            packet.meta = Meta { state: INV | TRK, zone, ..Meta::default() };
            return;
        }
        let key = Key { zone, ..packet.key };
        let natted = packet.meta.state & (SNAT | DNAT) != 0;
        let found =
            if natted { self.find(&key.reversed()).map(|(at, reply)| (at, !reply)) } else { self.find(&key) };
        let origin = packet.meta.orig.filter(|_| natted && found.is_none() && action.nat.is_none());
        let found = found.or_else(|| self.find(&Key { zone, ..origin? }).map(|(at, _)| (at, false)));
        if let Some((at, reply)) = found {
            if action.force && reply && origin.is_none() {
                self.conns.remove(at);
            } else if self.belongs(action, now, packet, at, reply) {
                return;
            } else {
                self.conns.remove(at);
            }
        }
        self.stranger(action, now, packet, key, natted, chosen);
    }

    /// A packet of a connection; false if the connection is over with it.
    fn belongs(&mut self, action: &Ct, now: u64, packet: &mut Packet, at: usize, reply: bool) -> bool {
        let lax = self.lax;
        let conn = &mut self.conns[at];
        let related = packet.body == Body::Error;
        let rpl = if reply { RPL } else { 0 };
        if related {
            packet.meta.state |= REL | rpl;
        } else {
            let (state, lasts) = match effect(&mut conn.inside, &packet.body, reply, lax) {
                Effect::Invalid => (INV, None),
                Effect::Old { lasts } => (packet.meta.state & !NEW | EST | rpl, lasts),
                Effect::Young { lasts } => (packet.meta.state | NEW, Some(lasts)),
                Effect::Over => return false,
            };
            packet.meta.state = state;
            if let Some(seconds) = lasts {
                conn.ends = now + seconds * 1000;
            }
        }
        let id = conn.id;
        self.write(action, packet, at);
        if action.nat.is_some() {
            self.translate(packet, at, reply);
        } else {
            packet.meta.known = Some((id, reply, related));
        }
        true
    }

    fn write(&mut self, action: &Ct, packet: &mut Packet, at: usize) {
        let conn = &mut self.conns[at];
        if let Some((value, mask)) = action.mark {
            conn.mark = conn.mark & !mask | value;
        }
        if let Some((value, mask)) = action.labels {
            let (value, mask) = (u128::from_ne_bytes(value), u128::from_ne_bytes(mask));
            conn.label = conn.label & !mask | value;
        }
        packet.meta.state |= TRK;
        packet.meta.zone = conn.fwd.zone;
        (packet.meta.mark, packet.meta.label) = (conn.mark, conn.label);
        packet.meta.orig = Some(conn.fwd);
    }

    fn translate(&self, packet: &mut Packet, at: usize, reply: bool) {
        let conn = &self.conns[at];
        let Some(kind) = conn.nat else { return };
        if packet.meta.state & (SNAT | DNAT) != 0 {
            return;
        }
        let source = (kind == NatKind::Src) != reply;
        packet.meta.state |= if source { SNAT } else { DNAT };
        // On the wire the packet now is what its receiver answers to.
        let other = if reply { conn.fwd } else { conn.rev };
        packet.key = Key { zone: packet.key.zone, ..other.reversed() };
    }

    fn stranger(
        &mut self,
        action: &Ct,
        now: u64,
        packet: &mut Packet,
        key: Key,
        natted: bool,
        chosen: Option<Key>,
    ) {
        let zone = key.zone;
        let mut meta = Meta { state: TRK, zone, orig: Some(key), ..Meta::default() };
        if natted && self.find(&key).is_some() {
            meta.state |= packet.meta.state;
            packet.meta = meta;
            return;
        }
        let inside = match packet.body {
            Body::Tcp { .. } => begin(&packet.body),
            Body::Echo { request: true } => Some((Inside::Echo { answered: false }, 60)),
            Body::Datagram => Some((Inside::Other { packets: 1, answered: false }, 60)),
            Body::Echo { request: false } | Body::Error | Body::Broken => None,
        };
        let Some((inside, lasts)) = inside else {
            meta.state |= INV;
            packet.meta = meta;
            return;
        };
        meta.state |= NEW;
        packet.meta = meta;
        if !(action.commit || action.force) {
            return;
        }
        let nat = action.nat.as_ref().and_then(|nat| nat.kind.map(|kind| (nat, kind)));
        let (rev, hidden) = match nat {
            None => (key.reversed(), self.find(&key.reversed()).is_some()),
            Some((nat, kind)) => {
                let Some(rev) = chosen.map(|rev| Key { zone, ..rev }) else {
                    assert!(self.may_be_exhausted(nat, kind, &key), "{key:?}: there was a free translation");
                    return;
                };
                self.check_choice(nat, kind, &key, &rev);
                (rev, false)
            }
        };
        self.next += 1;
        let (id, ends) = (self.next, now + lasts * 1000);
        let nat = nat.map(|(_, kind)| kind);
        self.conns.push(Conn { id, fwd: key, rev, hidden, nat, inside, mark: 0, label: 0, ends });
        let at = self.conns.len() - 1;
        self.write(action, packet, at);
        if action.nat.is_some() {
            self.translate(packet, at, false);
        } else {
            packet.meta.known = Some((id, false, false));
        }
    }

    fn is_taken(&self, rev: &Key) -> bool {
        self.find(rev).is_some()
    }

    /// Whether a choice is among those that the action allows, and free.
    fn check_choice(&self, nat: &Nat, kind: NatKind, fwd: &Key, rev: &Key) {
        assert!(!self.is_taken(rev), "{rev:?} was taken");
        let ((addr, port), (same_addr, same_port)) = match kind {
            NatKind::Src => ((rev.dst, rev.dst_l4), (rev.src, rev.src_l4)),
            NatKind::Dst => ((rev.src, rev.src_l4), (rev.dst, rev.dst_l4)),
        };
        let ((was_addr, was_port), (kept_addr, kept_port)) = match kind {
            NatKind::Src => ((fwd.src, fwd.src_l4), (fwd.dst, fwd.dst_l4)),
            NatKind::Dst => ((fwd.dst, fwd.dst_l4), (fwd.src, fwd.src_l4)),
        };
        let (min, max) = addresses(nat, was_addr);
        assert!((min..=max).contains(&addr), "{addr:x} is not in the range");
        assert_eq!(same_addr, kept_addr);
        let ports = nat.range.proto_min.map(|min| (min, nat.range.proto_max.unwrap_or(min)));
        match (kind, ports) {
            _ if !has_ports(fwd) => assert_eq!((port, same_port), (was_port, kept_port)),
            (NatKind::Src, Some((min, max))) => {
                assert!((u32::from(min)..=max.into()).contains(&port), "port {port}");
                assert_eq!(same_port, kept_port);
            }
            (NatKind::Src, None) => {
                assert!(port == was_port || alike(port, was_port), "port {port} for {was_port}");
                let kept = Key { dst_l4: was_port, ..*rev };
                assert!(port == was_port || self.is_taken(&kept), "needlessly port {port}");
            }
            (NatKind::Dst, ports) => {
                let (min, max) = ports.map_or((was_port, was_port), |(min, max)| (min.into(), max.into()));
                assert!((min..=max).contains(&port), "port {port}");
                assert!(same_port == kept_port || alike(same_port, kept_port));
            }
        }
    }

    /// Whether at some address of the range nothing is free.
    fn may_be_exhausted(&self, nat: &Nat, kind: NatKind, fwd: &Key) -> bool {
        let was = if kind == NatKind::Src { fwd.src } else { fwd.dst };
        let (min, max) = addresses(nat, was);
        (min..=max).any(|addr| {
            let mut rev = fwd.reversed();
            *(if kind == NatKind::Src { &mut rev.dst } else { &mut rev.src }) = addr;
            match (kind, nat.range.proto_min) {
                _ if !has_ports(fwd) => self.is_taken(&rev),
                (NatKind::Src, Some(min)) => (min..=nat.range.proto_max.unwrap_or(min))
                    .all(|port| self.is_taken(&Key { dst_l4: port.into(), ..rev })),
                // There are more source ports than tests make connections.
                _ => false,
            }
        })
    }
}

fn addresses(nat: &Nat, was: u128) -> (u128, u128) {
    let min = nat.range.ip_min.map_or(was, number);
    (min, nat.range.ip_max.map_or(min, number))
}

fn has_ports(key: &Key) -> bool {
    [ip::TCP, ip::UDP, ip::SCTP].contains(&key.proto)
}

/// Whether one source port may stand for another.
fn alike(new: u32, old: u32) -> bool {
    if old < 512 {
        (1..512).contains(&new)
    } else if old < 1024 {
        (600..1024).contains(&new)
    } else {
        (1024..65536).contains(&new)
    }
}

fn effect(inside: &mut Inside, body: &Body, reply: bool, lax: bool) -> Effect {
    match inside {
        Inside::Tcp(ends) => segment(ends, body, reply, lax),
        Inside::Echo { answered } => {
            *answered = *answered || reply;
            if *answered { Effect::Old { lasts: Some(30) } } else { Effect::Young { lasts: 60 } }
        }
        Inside::Other { packets, answered } => {
            *packets += 1;
            *answered = *answered || reply;
            if *answered { Effect::Old { lasts: Some(30) } } else { Effect::Young { lasts: 60 } }
        }
    }
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;

fn bad_flags(flags: u8) -> bool {
    if flags & SYN != 0 && flags & (RST | FIN) != 0 {
        return true;
    }
    if flags & (SYN | ACK | RST) == 0 {
        return true;
    }
    flags & ACK == 0 && flags & (FIN | PSH | URG) != 0
}

fn begin(body: &Body) -> Option<(Inside, u64)> {
    let Body::Tcp { flags, seq, win, scale, len, .. } = *body else { return None };
    if bad_flags(flags) || flags & (SYN | ACK) == SYN | ACK {
        return None;
    }
    let mut hi = seq.wrapping_add(len).wrapping_add(1);
    let mut first = u32::from(win).max(1);
    let mut scales = (Some(None), Some(None));
    if flags & SYN != 0 {
        hi = hi.wrapping_add(1);
        scales = (scale.map(Some), None);
        if let Some(scale) = scale {
            first = first.div_ceil(1 << scale);
        }
    }
    if flags & FIN != 0 {
        hi = hi.wrapping_add(1);
    }
    let a = End { state: SYN_SENT, scale: scales.0, win: first, lo: seq, hi };
    let b = End { state: CLOSED, scale: scales.1, win: 1, lo: 0, hi: 1 };
    Some((Inside::Tcp([a, b]), 30))
}

/// How far `a` is from `b` on the circle of sequence numbers.
fn distance(a: u32, b: u32) -> i64 {
    let forward = i64::from(a) - i64::from(b);
    let circle = 1 << 32;
    (forward + circle / 2).rem_euclid(circle) - circle / 2
}

#[expect(clippy::too_many_lines, reason = "the rules one after the other, to be read beside the tracker's")]
fn segment(ends: &mut [End; 2], body: &Body, reply: bool, lax: bool) -> Effect {
    const FUDGE: i64 = 65535 + 1500;
    let Body::Tcp { flags, seq, ack, win, scale, len } = *body else { return Effect::Invalid };
    let [mut src, mut dst] = if reply { [ends[1], ends[0]] } else { *ends };
    let has = |flag| flags & flag != 0;
    if bad_flags(flags) {
        return Effect::Invalid;
    }
    if has(SYN) && !has(ACK) {
        if src.state >= FIN_WAIT_2 && dst.state >= FIN_WAIT_2 {
            return Effect::Over;
        }
        if src.state <= SYN_SENT {
            src.state = SYN_SENT;
            *ends = if reply { [dst, src] } else { [src, dst] };
            return Effect::Young { lasts: 30 };
        }
    }
    let mut end = seq.wrapping_add(len);
    for flag in [SYN, FIN] {
        end = end.wrapping_add(has(flag).into());
    }
    let (mut my_shift, mut their_shift, mut win) = (0, 0, u32::from(win));
    if !has(SYN) {
        (my_shift, their_shift) = match (src.scale, dst.scale) {
            (Some(Some(a)), Some(Some(b))) => (a, b),
            (Some(None), Some(None)) => (14, 14),
            _ => (0, 0),
        };
    }
    let mut skewed = true;
    if src.state < SYN_SENT {
        if let (true, Some(Some(theirs))) = (has(SYN), dst.scale) {
            src.scale = scale.map(Some);
            match scale {
                Some(mine) => {
                    (my_shift, their_shift) = (mine, theirs);
                    win = win.div_ceil(1 << mine);
                }
                None => {
                    dst.win = (dst.win << theirs).min(65535);
                    dst.scale = None;
                }
            }
        }
        (src.lo, src.state) = (seq, SYN_SENT);
        let hi = end.wrapping_add((dst.win << their_shift).max(1));
        if src.hi == 1 || distance(hi, src.hi) >= 0 {
            (src.hi, skewed) = (hi, false);
        }
        src.win = src.win.max(win);
    }
    let acked = if !has(ACK) || (ack == 0 && has(RST)) { dst.lo } else { ack };
    let (mut from, mut to) = (seq, end);
    if from == to {
        (from, to) = (src.lo, src.lo);
    }
    let skew = if skewed { distance(dst.lo, acked) } else { 0 };
    let oldest = src.lo.wrapping_sub(dst.win << their_shift);
    let within = distance(src.hi, to) >= 0
        && distance(from, oldest) >= 0
        && skew >= -FUDGE
        && skew <= FUDGE << my_shift
        && (!has(RST) || distance(seq, src.lo).abs() <= 1);
    let about = (dst.state < SYN_SENT || dst.state >= FIN_WAIT_2 || src.state >= FIN_WAIT_2)
        && distance(src.hi.wrapping_add(FUDGE as u32), to) >= 0
        && distance(from, src.lo.wrapping_sub(FUDGE as u32)) >= 0;
    let fits = within || lax;
    let mut lasts = None;
    let valid = fits || about;
    if valid {
        src.win = src.win.max(win);
        if distance(to, src.lo) > 0 {
            src.lo = to;
        }
        let open = win << my_shift;
        if distance(acked.wrapping_add(open), dst.hi) >= 0 {
            dst.hi = acked.wrapping_add(open.max(1));
        }
        if has(FIN) && src.state < CLOSING {
            src.state = CLOSING;
        }
        if fits && has(ACK) && dst.state == SYN_SENT {
            dst.state = ESTABLISHED;
        } else if fits && has(ACK) && dst.state == CLOSING {
            dst.state = FIN_WAIT_2;
        }
        if has(RST) {
            (src.state, dst.state) = (TIME_WAIT, TIME_WAIT);
        }
    }
    if fits {
        let both = |least| src.state >= least && dst.state >= least;
        lasts = Some(if both(FIN_WAIT_2) {
            30
        } else if both(CLOSING) {
            45
        } else if !both(ESTABLISHED) {
            30
        } else if src.state >= CLOSING || dst.state >= CLOSING {
            900
        } else {
            86400
        });
    }
    // What does not belong may still have been the first that was seen of its end.
    *ends = if reply { [dst, src] } else { [src, dst] };
    if valid { Effect::Old { lasts } } else { Effect::Invalid }
}
