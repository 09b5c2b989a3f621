//! Dropping a flood before it is read.
//!
//! Reading an upcall costs about a fifth of answering it, be it dropped right then for want of a token ([`super::fair`]). A
//! port that misses a hundred times as often as its handler can answer would leave the handler no time for answers. So
//! the kernel is told to keep but a share of the upcalls of such a port, by chance, when it would put them into the socket: so
//! many that the port's queue stays full. What other ports send is not touched, and finds room in the socket.
//!
//! Every [`PERIOD`], [`Sieve::adjust`] looks at what became of the upcalls that were read: a port of whose upcalls more than half
//! found no token has its share cut; one of whose upcalls nearly all did gets twice the share, until it has all.
//!
//! Nothing here reads a clock or a socket.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flow::id::DpPort;
use flow::odp::attrs::code;
use flow::time::Instant;
use sys::filter::Step;

use super::fair::Fair;
use super::genl::HEADER;
use super::packet::attr;
use crate::netlink;

/// How often shares are looked at.
pub(super) const PERIOD: Duration = Duration::from_millis(20);
/// Ports of which the kernel keeps a share.
const PORTS: usize = 16;
/// A share, in parts of all.
const ALL: u32 = u32::MAX;
/// No share is smaller: a port is heard again within a second after it fell silent.
const LEAST: u32 = ALL >> 16;

/// Upcalls of a port that were read: that found a token, and that found none.
#[derive(Clone, Copy, Default)]
struct Read {
    admitted: u64,
    dropped: u64,
}

/// Which share of whose upcalls the kernel keeps.
#[derive(Default)]
pub(super) struct Sieve {
    shares: BTreeMap<DpPort, u32>,
    /// What was read so far of ports that ever had something dropped.
    read: HashMap<DpPort, Read>,
    dropped: u64,
    looked: Instant,
}

impl Sieve {
    /// Whether the kernel keeps all.
    pub fn is_open(&self) -> bool {
        self.shares.is_empty()
    }

    /// Looks at what was read since the last time, if that is long ago; whether shares have changed.
    pub fn adjust<T>(&mut self, fair: &mut Fair<T>, now: Instant) -> bool {
        if now.since(self.looked) < PERIOD || (self.is_open() && fair.dropped() == self.dropped) {
            return false;
        }
        (self.looked, self.dropped) = (now, fair.dropped());
        let before = std::mem::take(&mut self.read);
        self.read = fair.read().map(|(port, admitted, dropped)| (port, Read { admitted, dropped })).collect();
        let mut shares = Vec::new();
        for (&port, total) in &self.read {
            // Of one that is new here it is not known since when.
            let before = before.get(&port).unwrap_or(total);
            let read = Read {
                admitted: total.admitted.saturating_sub(before.admitted),
                dropped: total.dropped.saturating_sub(before.dropped),
            };
            let share = self.shares.get(&port).copied().unwrap_or(ALL);
            fair.note_sieved(port, sieved(share, read));
            shares.push((next_share(share, read), port));
        }
        shares.retain(|(share, port)| *share != ALL && *port != DpPort::NONE);
        shares.sort();
        let shares = shares.into_iter().take(PORTS).map(|(share, port)| (port, share)).collect();
        let old = std::mem::replace(&mut self.shares, shares);
        old != self.shares
    }

    /// The program for the sockets. The port is looked for where it may be; in messages that are not in one piece only where it
    /// mostly is, for which the kernel puts recirculation id, hash and priority before it, and tunnels. Other messages are kept.
    pub fn program(&self) -> Vec<Step> {
        let key_at = (netlink::HEADER + HEADER) as u32;
        let header = flow::attr::HEADER as u32;
        let port_at = key_at + header + 3 * (header + 4);
        let mut program = vec![
            Step::Number(key_at),
            Step::NumberX(attr::KEY.into()),
            Step::Attribute,
            Step::IfEqual(0, 3, 0),
            Step::NumberX(code::IN_PORT.into()),
            Step::AttributeWithin,
            Step::IfEqual(0, 0, 6),
            Step::Length,
            Step::IfLeast(port_at + header + 4, 0, 2),
            Step::Half(port_at + 2),
            Step::IfEqual(u16::from_be_bytes(code::IN_PORT.to_ne_bytes()).into(), 1, 0),
            Step::Keep,
            Step::Number(port_at),
            Step::ToX,
            Step::WordAtX(header),
        ];
        for (port, share) in &self.shares {
            let port = u32::from_be_bytes(port.0.to_ne_bytes());
            let by_chance = [Step::Random, Step::IfGreater(*share, 0, 1), Step::Drop, Step::Keep];
            program.push(Step::IfEqual(port, 0, by_chance.len() as u8));
            program.extend(by_chance);
        }
        program.push(Step::Keep);
        program
    }
}

/// About how many upcalls the kernel dropped where it kept a share.
fn sieved(share: u32, read: Read) -> u64 {
    let kept = u128::from(read.admitted + read.dropped);
    (kept * u128::from(ALL - share) / u128::from(share.max(1))) as u64
}

/// The share of a port whose upcalls were read like this with `share`.
fn next_share(share: u32, read: Read) -> u32 {
    let Read { admitted, dropped } = read;
    if dropped > admitted {
        // Half as many again as are admitted.
        let next = u128::from(share) * u128::from(admitted + admitted / 2) / u128::from(admitted + dropped);
        return (next as u32).max(share >> 4).max(LEAST);
    }
    if dropped * 8 <= admitted { share.saturating_mul(2) } else { share }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fair::Limits;
    use crate::kernel::testing::message;
    use flow::odp::KeyAttr;
    use std::os::unix::net::UnixDatagram;

    const LIMITS: Limits = Limits { reserved: 2, common: 100, most: 50, ports: 8 };

    /// A period in which `served` upcalls are answered, and each port offers so many.
    fn period(sieve: &mut Sieve, fair: &mut Fair<()>, n: u64, offers: &[(u32, u32)], served: usize) -> bool {
        let now = Instant::from_millis(n * 20);
        for &(port, count) in offers {
            let share = sieve.shares.get(&DpPort(port)).copied().unwrap_or(ALL);
            let kept = u64::from(count) * u64::from(share) / u64::from(ALL);
            (0..kept).for_each(|_| _ = fair.offer(DpPort(port), (), now));
        }
        (0..served).for_each(|_| _ = fair.take(now));
        sieve.adjust(fair, now)
    }

    #[test]
    fn a_flood_is_cut_to_what_is_answered_and_let_go_afterwards() {
        let (mut sieve, mut fair) = (Sieve::default(), Fair::new(LIMITS));
        let flood = [(1, 5000), (2, 3)];
        assert!(!period(&mut sieve, &mut fair, 1, &flood, 20));
        let mut last = 0;
        for n in 2..60 {
            period(&mut sieve, &mut fair, n, &flood, 20);
            let figures = fair.figures();
            let read: u64 = figures.ports.iter().map(|port| port.admitted + port.dropped).sum();
            if n > 30 {
                // The quiet one's three, and up to twice what is answered.
                assert!((20..=40).contains(&(read - last)), "{}", read - last);
            }
            last = read;
        }
        assert_eq!(sieve.shares.keys().collect::<Vec<_>>(), [&DpPort(1)]);
        let figures = fair.figures();
        assert_eq!(
            (figures.ports[1].port, figures.ports[1].dropped, figures.ports[1].sieved),
            (DpPort(2), 0, 0)
        );
        assert!((200_000..400_000).contains(&figures.ports[0].sieved), "{}", figures.ports[0].sieved);
        for n in 60..80 {
            period(&mut sieve, &mut fair, n, &[(2, 3)], 20);
        }
        assert!(sieve.is_open());
    }

    #[test]
    fn nothing_happens_within_a_period_or_without_drops() {
        let (mut sieve, mut fair) = (Sieve::default(), Fair::new(LIMITS));
        assert!(!period(&mut sieve, &mut fair, 1, &[(1, 10)], 20));
        assert!(!period(&mut sieve, &mut fair, 2, &[(1, 500)], 20));
        assert!(period(&mut sieve, &mut fair, 3, &[(1, 500)], 20));
        assert!(!period(&mut sieve, &mut fair, 3, &[(1, 500)], 20));
    }

    #[test]
    fn the_kernel_drops_what_the_program_says() {
        // All of port 7, and none of port 8.
        let sieve = Sieve { shares: [(DpPort(7), 0), (DpPort(8), ALL - 1)].into(), ..Sieve::default() };
        let (from, to) = UnixDatagram::pair().expect("a pair of sockets");
        to.set_nonblocking(true).expect("a socket");
        sys::filter::attach(&to, &sieve.program()).expect("a program");
        let upcall = |attrs: &[KeyAttr]| {
            message(1, 7, |writer| {
                writer.nest(attr::KEY, |nest| attrs.iter().for_each(|attr| attr.encode(nest)));
                writer.put(attr::PACKET, &[0; 60]);
            })
        };
        let usual = |port| {
            let before = [KeyAttr::RecircId(0), KeyAttr::DpHash(0), KeyAttr::Priority(0)];
            upcall(&[&before[..], &[KeyAttr::InPort(DpPort(port)), KeyAttr::SkbMark(0)]].concat())
        };
        let messages =
            [usual(7), usual(8), usual(9), upcall(&[KeyAttr::InPort(DpPort(7))]), upcall(&[]), vec![1, 2, 3]];
        let mut got = Vec::new();
        for (n, message) in messages.iter().enumerate() {
            from.send(message).expect("it is sent");
            got.extend(to.recv(&mut [0; 256]).ok().map(|_| n));
        }
        assert_eq!(got, [1, 2, 4, 5]);
    }
}
