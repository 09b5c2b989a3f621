//! TCP as a bystander sees it: the state of both ends and the sequence numbers that each may use.
//!
//! The window rules are Guido van Rooij's ("Real Stateful TCP Packet Filtering in IP Filter", 2001), with the allowances
//! that firewalls have made since: a connection may be picked up in its midst, and oddities are let pass while it opens and closes
//! as long as they stay near the window. States and timeouts are those that OVS's userspace tracker shows.

use super::entry::{TcpPeer, TcpState};
use super::timeout::Timeout;
use super::verdict::Verdict;

/// TCP flags.
pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// The largest window scale (RFC 7323 section 2.3).
const MAX_SCALE: u8 = 14;
/// How far an acknowledgement, or an oddity, may be off: the largest unscaled window and a packet.
const SLACK: i32 = 0xffff + 1500;

/// What is known of an end's window scale.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Scale {
    /// Its SYN had none.
    #[default]
    None,
    Known(u8),
    /// The connection was picked up after its SYN.
    Unknown,
}

impl Scale {
    /// The scale that a segment's options announce.
    pub fn of_options(mut options: &[u8]) -> Self {
        let mut found = Self::None;
        while let [kind, len, value, ..] = *options {
            let step = match kind {
                0 => break,
                1 => 1,
                3 => {
                    found = Self::Known(value.min(MAX_SCALE));
                    usize::from(len.max(2))
                }
                _ => usize::from(len.max(2)),
            };
            options = options.get(step..).unwrap_or_default();
        }
        found
    }

    const fn shift(self) -> u8 {
        if let Self::Known(shift) = self { shift } else { 0 }
    }

    const fn is_known(self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// What tracking needs of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Segment {
    /// Bits of [`flag`].
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub window: u16,
    /// What the options say; only looked at in a SYN.
    pub scale: Scale,
    /// Payload bytes.
    pub len: u32,
}

impl Segment {
    const fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether no TCP sends such flags.
    pub const fn is_nonsense(&self) -> bool {
        let alone = self.has(flag::SYN) && self.has(flag::RST | flag::FIN);
        let empty = !self.has(flag::SYN) && !self.has(flag::ACK | flag::RST);
        let unacked = !self.has(flag::ACK) && self.has(flag::FIN | flag::PSH | flag::URG);
        alone || empty || unacked
    }

    /// Whether a connection may begin, or be picked up, here.
    pub const fn may_begin(&self) -> bool {
        !self.is_nonsense() && self.flags & (flag::SYN | flag::ACK) != flag::SYN | flag::ACK
    }

    /// The sequence number after it; SYN and FIN count.
    const fn end(&self) -> u32 {
        let flags = self.has(flag::SYN) as u32 + self.has(flag::FIN) as u32;
        self.seq.wrapping_add(self.len).wrapping_add(flags)
    }
}

/// How far `a` is ahead of `b`; negative behind.
const fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// One end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Peer {
    state: TcpState,
    scale: Scale,
    /// The largest window it offered, not scaled.
    window: u16,
    /// The highest sequence number that it sent.
    sent: u32,
    /// The highest that it may send.
    limit: u32,
}

impl Peer {
    fn offered(&self, shift: u8) -> u32 {
        u32::from(self.window) << shift
    }

    fn info(&self) -> TcpPeer {
        const WINDOW_SCALE: u8 = 1;
        const BE_LIBERAL: u8 = 8;
        let flags = match self.scale {
            Scale::None => 0,
            Scale::Known(_) => WINDOW_SCALE,
            Scale::Unknown => BE_LIBERAL,
        };
        TcpPeer { state: self.state, wscale: self.scale.shift(), flags }
    }
}

/// A window divided by its scale, rounded up.
fn unscaled(window: u16, shift: u8) -> u16 {
    u32::from(window).div_ceil(1 << shift) as u16
}

/// Both ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp {
    peers: [Peer; 2],
}

/// A segment on its way, with the numbers that its end of the connection makes of it.
struct Passing<'a> {
    src: &'a mut Peer,
    dst: &'a mut Peer,
    segment: &'a Segment,
    /// The shifts of both windows.
    src_shift: u8,
    dst_shift: u8,
    window: u16,
    seq: u32,
    end: u32,
    ack: u32,
    /// Whether the acknowledgement is held against what was sent.
    skew: bool,
}

impl Tcp {
    /// The connection that a segment begins.
    pub fn begin(segment: &Segment) -> Self {
        let syn = segment.has(flag::SYN);
        let scale = if syn { segment.scale } else { Scale::Unknown };
        let mut window = segment.window.max(1);
        if let Scale::Known(shift @ 1..) = scale {
            window = unscaled(window, shift);
        }
        let src = Peer {
            state: TcpState::SynSent,
            scale,
            window,
            sent: segment.seq,
            limit: segment.end().wrapping_add(1),
        };
        let scale = if syn { Scale::None } else { Scale::Unknown };
        let dst = Peer { state: TcpState::Closed, scale, window: 1, sent: 0, limit: 1 };
        Self { peers: [src, dst] }
    }

    /// What is known of both ends, the one that began first.
    pub fn info(&self) -> [TcpPeer; 2] {
        self.peers.map(|peer| peer.info())
    }

    /// Takes a segment; `strict` unless sequence numbers shall not matter.
    pub fn update(&mut self, segment: &Segment, reply: bool, strict: bool) -> Verdict {
        if segment.is_nonsense() {
            return Verdict::Invalid;
        }
        let [first, second] = &mut self.peers;
        let (src, dst) = if reply { (second, first) } else { (first, second) };
        if segment.flags & (flag::SYN | flag::ACK) == flag::SYN {
            if src.state >= TcpState::FinWait2 && dst.state >= TcpState::FinWait2 {
                (src.state, dst.state) = (TcpState::Closed, TcpState::Closed);
                return Verdict::Renewed;
            }
            if src.state <= TcpState::SynSent {
                src.state = TcpState::SynSent;
                return Verdict::StillNew(Timeout::TcpSynSent);
            }
        }
        let mut passing = Passing::new(src, dst, segment);
        if !strict || passing.fits() {
            passing.advance();
            passing.progress();
            Verdict::Established(Some(passing.lasting()))
        } else if passing.is_tolerable() {
            passing.advance();
            passing.progress_oddly();
            Verdict::Established(None)
        } else {
            Verdict::Invalid
        }
    }
}

impl<'a> Passing<'a> {
    fn new(src: &'a mut Peer, dst: &'a mut Peer, segment: &'a Segment) -> Self {
        let (src_shift, dst_shift) = match (src.scale, dst.scale) {
            _ if segment.has(flag::SYN) => (0, 0),
            (Scale::Known(src), Scale::Known(dst)) => (src, dst),
            (Scale::Unknown, Scale::Unknown) => (MAX_SCALE, MAX_SCALE),
            _ => (0, 0),
        };
        let (seq, end, window) = (segment.seq, segment.end(), segment.window);
        let mut this =
            Self { src, dst, segment, src_shift, dst_shift, window, seq, end, ack: segment.ack, skew: true };
        if this.src.state < TcpState::SynSent {
            this.introduce();
        }
        let unset = segment.ack == 0 && segment.flags & (flag::ACK | flag::RST) == flag::ACK | flag::RST;
        if !segment.has(flag::ACK) || unset {
            // Nothing is acknowledged; some systems reset with ACK and no number.
            this.ack = this.dst.sent;
        }
        if this.seq == this.end {
            // Without data the sequence number matters less.
            (this.seq, this.end) = (this.src.sent, this.src.sent);
        }
        this
    }

    /// The first segment from this end.
    fn introduce(&mut self) {
        if self.segment.has(flag::SYN) && self.dst.scale.is_known() {
            self.src.scale = self.segment.scale;
            if let Scale::Known(shift) = self.src.scale {
                (self.src_shift, self.dst_shift) = (shift, self.dst.scale.shift());
                self.window = unscaled(self.window, shift);
            } else {
                // Scaling needs both ends: what the other end offered was meant as it was.
                let offered = self.dst.offered(self.dst.scale.shift());
                self.dst.window = u16::try_from(offered).unwrap_or(u16::MAX);
                self.dst.scale = Scale::None;
            }
        }
        self.src.sent = self.seq;
        self.src.state = TcpState::SynSent;
        let limit = self.end.wrapping_add(self.dst.offered(self.dst_shift).max(1));
        if self.src.limit == 1 || ahead(limit, self.src.limit) >= 0 {
            self.src.limit = limit;
            self.skew = false;
        }
        self.src.window = self.src.window.max(self.window);
    }

    /// Whether the segment lies within the windows.
    fn fits(&self) -> bool {
        let oldest = self.src.sent.wrapping_sub(self.dst.offered(self.dst_shift));
        let skew = if self.skew { ahead(self.dst.sent, self.ack) } else { 0 };
        // Not more than one fragment back, and not more than one window ahead.
        let acks = (-SLACK..=SLACK << self.src_shift).contains(&skew);
        let exact = (-1..=1).contains(&ahead(self.segment.seq, self.src.sent));
        ahead(self.src.limit, self.end) >= 0
            && ahead(self.seq, oldest) >= 0
            && acks
            && (!self.segment.has(flag::RST) || exact)
    }

    /// Whether the segment, though outside of the windows, may be of a connection that opens, closes, or was picked up.
    fn is_tolerable(&self) -> bool {
        let loose = self.dst.state < TcpState::SynSent
            || self.dst.state >= TcpState::FinWait2
            || self.src.state >= TcpState::FinWait2;
        let latest = self.src.limit.wrapping_add(SLACK as u32);
        let oldest = self.src.sent.wrapping_sub(SLACK as u32);
        loose && ahead(latest, self.end) >= 0 && ahead(self.seq, oldest) >= 0
    }

    /// Moves windows and sequence numbers on.
    fn advance(&mut self) {
        self.src.window = self.src.window.max(self.window);
        if ahead(self.end, self.src.sent) > 0 {
            self.src.sent = self.end;
        }
        let window = u32::from(self.window) << self.src_shift;
        if ahead(self.ack.wrapping_add(window), self.dst.limit) >= 0 {
            self.dst.limit = self.ack.wrapping_add(window.max(1));
        }
    }

    fn progress(&mut self) {
        if self.segment.has(flag::FIN) {
            self.src.state = self.src.state.max(TcpState::Closing);
        }
        if self.segment.has(flag::ACK) {
            match self.dst.state {
                TcpState::SynSent => self.dst.state = TcpState::Established,
                TcpState::Closing => self.dst.state = TcpState::FinWait2,
                _ => {}
            }
        }
        self.reset();
    }

    fn progress_oddly(&mut self) {
        if self.segment.has(flag::FIN) {
            self.src.state = self.src.state.max(TcpState::Closing);
        }
        self.reset();
    }

    fn reset(&mut self) {
        if self.segment.has(flag::RST) {
            (self.src.state, self.dst.state) = (TcpState::TimeWait, TcpState::TimeWait);
        }
    }

    /// How long the connection lasts as it is now.
    fn lasting(&self) -> Timeout {
        let (less, more) = (self.src.state.min(self.dst.state), self.src.state.max(self.dst.state));
        if less >= TcpState::FinWait2 {
            Timeout::TcpClose
        } else if less >= TcpState::Closing {
            Timeout::TcpTimeWait
        } else if less < TcpState::Established {
            Timeout::TcpSynRecv
        } else if more >= TcpState::Closing {
            Timeout::TcpFinWait
        } else {
            Timeout::TcpEstablished
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, seq: u32, ack: u32, len: u32) -> Segment {
        Segment { flags, seq, ack, window: 1000, scale: Scale::None, len }
    }

    fn states(tcp: &Tcp) -> [TcpState; 2] {
        tcp.info().map(|peer| peer.state)
    }

    /// A connection after its handshake; the client's next number is 101, the server's 501.
    fn established() -> Tcp {
        let mut tcp = Tcp::begin(&segment(flag::SYN, 100, 0, 0));
        let answer = segment(flag::SYN | flag::ACK, 500, 101, 0);
        assert_eq!(tcp.update(&answer, true, true), Verdict::Established(Some(Timeout::TcpSynRecv)));
        let last = segment(flag::ACK, 101, 501, 0);
        assert_eq!(tcp.update(&last, false, true), Verdict::Established(Some(Timeout::TcpEstablished)));
        assert_eq!(states(&tcp), [TcpState::Established; 2]);
        tcp
    }

    #[test]
    fn a_connection_opens_and_closes() {
        let mut tcp = established();
        let fin = flag::FIN | flag::ACK;
        assert_eq!(
            tcp.update(&segment(fin, 101, 501, 10), false, true),
            Verdict::Established(Some(Timeout::TcpFinWait))
        );
        assert_eq!(
            tcp.update(&segment(fin, 501, 112, 0), true, true),
            Verdict::Established(Some(Timeout::TcpTimeWait))
        );
        assert_eq!(
            tcp.update(&segment(flag::ACK, 112, 502, 0), false, true),
            Verdict::Established(Some(Timeout::TcpClose))
        );
        assert_eq!(states(&tcp), [TcpState::FinWait2; 2]);
        assert_eq!(tcp.update(&segment(flag::SYN, 9000, 0, 0), false, true), Verdict::Renewed);
    }

    #[test]
    fn sequence_numbers_must_fit() {
        let mut tcp = established();
        let far = segment(flag::ACK, 101 + 70_000, 501, 10);
        assert_eq!(tcp.update(&far, false, true), Verdict::Invalid);
        assert_eq!(tcp.update(&far, false, false), Verdict::Established(Some(Timeout::TcpEstablished)));
        let mut tcp = established();
        assert_eq!(tcp.update(&segment(flag::RST, 150, 0, 0), false, true), Verdict::Invalid);
        assert_eq!(
            tcp.update(&segment(flag::RST, 101, 0, 0), false, true),
            Verdict::Established(Some(Timeout::TcpClose))
        );
        assert_eq!(states(&tcp), [TcpState::TimeWait; 2]);
    }

    #[test]
    fn flags_that_no_tcp_sends() {
        for flags in
            [0, flag::SYN | flag::FIN, flag::SYN | flag::RST, flag::FIN, flag::PSH | flag::RST, flag::URG]
        {
            assert!(segment(flags, 1, 1, 0).is_nonsense(), "{flags:#x}");
        }
        for flags in [flag::SYN, flag::RST, flag::ACK, flag::SYN | flag::ACK, flag::FIN | flag::ACK] {
            assert!(!segment(flags, 1, 1, 0).is_nonsense(), "{flags:#x}");
        }
        assert!(!segment(flag::SYN | flag::ACK, 1, 1, 0).may_begin());
        assert!(segment(flag::ACK, 1, 1, 0).may_begin());
    }

    #[test]
    fn scales_are_read_and_agreed_on() {
        assert_eq!(Scale::of_options(&[2, 4, 5, 0xb4, 1, 3, 3, 7]), Scale::Known(7));
        assert_eq!(Scale::of_options(&[1, 3, 3, 99, 0]), Scale::Known(14));
        assert_eq!(Scale::of_options(&[0, 3, 3, 7]), Scale::None);
        assert_eq!(Scale::of_options(&[5, 0, 3, 3]), Scale::None);
        let syn = Segment { scale: Scale::Known(7), window: 64_240, ..segment(flag::SYN, 1, 0, 0) };
        let mut tcp = Tcp::begin(&syn);
        assert_eq!(tcp.peers[0].window, 502);
        let answer = Segment { window: 5000, ..segment(flag::SYN | flag::ACK, 9, 2, 0) };
        tcp.update(&answer, true, true);
        assert_eq!((tcp.peers[0].window, tcp.peers[0].scale), (64_256, Scale::None));
        let answer = Segment { scale: Scale::Known(2), ..answer };
        let mut tcp = Tcp::begin(&syn);
        tcp.update(&answer, true, true);
        assert_eq!(tcp.info().map(|peer| (peer.wscale, peer.flags)), [(7, 1), (2, 1)]);
    }

    #[test]
    fn picked_up_in_its_midst() {
        let mut tcp = Tcp::begin(&segment(flag::ACK, 7000, 9000, 100));
        assert_eq!(tcp.info().map(|peer| peer.flags), [8, 8]);
        assert_eq!(
            tcp.update(&segment(flag::ACK, 9000, 7100, 50), true, true),
            Verdict::Established(Some(Timeout::TcpSynRecv))
        );
        assert_eq!(
            tcp.update(&segment(flag::ACK, 7100, 9050, 50), false, true),
            Verdict::Established(Some(Timeout::TcpEstablished))
        );
    }
}
