//! Ports as OpenFlow sees them: their numbers, configuration and state.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flow::id::OfPort;
use flow::time::Instant;
use openflow::error::OfError;
use openflow::msg::port::{PhyPort, PortConfig, PortMod, PortReason, PortState};

use super::event::{Event, Requester};
use super::switch::Ofproto;

/// Numbers that the switch gives by itself are below this.
const FIRST_UNGIVEN: u16 = 32768;
/// A number unused for so long is as good as one never used.
const STALE: Duration = Duration::from_secs(60 * 60);

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    pub desc: PhyPort,
    pub created: Instant,
    /// Whether the port may carry traffic if its link is up: bonds and failure detection say so.
    pub may_enable: bool,
}

/// The ports of a bridge.
#[derive(Default)]
pub(super) struct Ports {
    by_number: BTreeMap<OfPort, Port>,
    numbers: Numbers,
}

/// Who gives OpenFlow port numbers.
#[derive(Default)]
struct Numbers {
    /// The number that each interface was asked to have.
    requests: HashMap<String, u16>,
    last_given: u16,
    /// When a number was last in use; [`Instant::NEVER`] if it is.
    used: HashMap<u16, Instant>,
}

impl Numbers {
    /// A number for the interface `name`: the one requested if it is free, else the next that was never used, or not
    /// for an hour, or else the one that has been free for longest. `None` if all are in use.
    fn give(&mut self, name: &str, now: Instant) -> Option<OfPort> {
        let requested = self.requests.get(name).copied().unwrap_or(0);
        let free = |number: u16| self.used.get(&number) != Some(&Instant::NEVER);
        let number = match requested {
            number if (1..OfPort::MAX.0).contains(&number) && free(number) => number,
            _ => self.next(now)?,
        };
        self.used.insert(number, Instant::NEVER);
        Some(OfPort(number))
    }

    fn next(&mut self, now: Instant) -> Option<u16> {
        let mut oldest: Option<(Instant, u16)> = None;
        for _ in 1..=FIRST_UNGIVEN {
            self.last_given = if self.last_given + 1 >= FIRST_UNGIVEN { 1 } else { self.last_given + 1 };
            match self.used.get(&self.last_given) {
                None => return Some(self.last_given),
                Some(&Instant::NEVER) => {}
                Some(&used) if now.since(used) > STALE => return Some(self.last_given),
                Some(&used) => {
                    if oldest.is_none_or(|(oldest, _)| used < oldest) {
                        oldest = Some((used, self.last_given));
                    }
                }
            }
        }
        oldest.map(|(_, number)| number)
    }

    fn take_back(&mut self, number: OfPort, now: Instant) {
        if number < OfPort::MAX {
            self.used.insert(number.0, now);
        }
    }
}

impl Ofproto {
    /// Asks that an interface have a number when it comes; `None` takes the wish back.
    pub fn request_port_number(&mut self, name: &str, number: Option<OfPort>) {
        match number {
            Some(number) => _ = self.ports.numbers.requests.insert(name.to_owned(), number.0),
            None => _ = self.ports.numbers.requests.remove(name),
        }
    }

    /// A number for a port that comes: [`OfPort::LOCAL`] for the bridge's own. `None` if all are in use.
    pub fn give_port_number(&mut self, name: &str, now: Instant) -> Option<OfPort> {
        if name == self.name() {
            return Some(OfPort::LOCAL);
        }
        self.ports.numbers.give(name, now)
    }

    /// Adds a port, whose number was [given](Self::give_port_number).
    pub fn add_port(&mut self, desc: PhyPort, now: Instant) {
        let number = desc.port_no;
        let mut port = Port { desc, created: now, may_enable: false };
        port.normalize();
        let told = port.desc.clone();
        self.ports.by_number.insert(number, port);
        self.tell(Event::PortStatus { reason: PortReason::Add, old: None, port: told, by: None });
    }

    /// Removes a port. Its number stays reserved for a while.
    pub fn remove_port(&mut self, number: OfPort, now: Instant) {
        if let Some(port) = self.ports.by_number.remove(&number) {
            self.ports.numbers.take_back(number, now);
            let reason = PortReason::Delete;
            self.tell(Event::PortStatus { reason, old: None, port: port.desc, by: None });
        }
    }

    /// Takes over what the device says of itself: everything but number, configuration and what STP or liveness add to
    /// the state.
    pub fn update_port(&mut self, number: OfPort, device: &PhyPort) {
        let Some(port) = self.ports.by_number.get(&number) else { return };
        let mut desc = PhyPort { port_no: number, ..device.clone() };
        desc.config =
            port.desc.config.difference(PortConfig::PORT_DOWN) | device.config & PortConfig::PORT_DOWN;
        desc.state = port.desc.state.difference(PortState::LINK_DOWN) | device.state & PortState::LINK_DOWN;
        self.change_port(number, None, |port| port.desc = desc);
    }

    /// Says whether bonds and failure detection let the port carry traffic.
    pub fn set_port_enabled(&mut self, number: OfPort, enabled: bool) {
        self.change_port(number, None, |port| port.may_enable = enabled);
    }

    /// Sets the port's state, but for liveness, which follows from the rest.
    pub fn set_port_state(&mut self, number: OfPort, state: PortState) {
        self.change_port(number, None, |port| port.desc.state = state);
    }

    /// Changes a port, and tells of it if anything is different afterwards.
    fn change_port(&mut self, number: OfPort, by: Option<Requester>, change: impl FnOnce(&mut Port)) {
        let Some(port) = self.ports.by_number.get_mut(&number) else { return };
        let old = port.desc.clone();
        change(port);
        port.normalize();
        if port.desc != old {
            let port = port.desc.clone();
            self.tell(Event::PortStatus { reason: PortReason::Modify, old: Some(old), port, by });
        }
    }

    /// Whether a port mod names a port that is there, by its right address.
    ///
    /// # Errors
    ///
    /// What is wrong.
    pub fn check_port_mod(&self, request: &PortMod) -> Result<(), OfError> {
        let port = self.port(request.port_no).ok_or(OfError::PmfcBadPort)?;
        if port.desc.hw_addr == request.hw_addr { Ok(()) } else { Err(OfError::PmfcBadHwAddr) }
    }

    /// Carries a port mod out that was [checked](Self::check_port_mod). The device's being up, and what it
    /// advertises, are the caller's to set.
    pub fn finish_port_mod(&mut self, request: &PortMod, by: Option<Requester>) {
        self.change_port(request.port_no, by, |port| {
            let toggled = (request.config ^ port.desc.config) & request.mask;
            port.desc.config ^= toggled;
        });
    }

    /// The port of that number.
    pub fn port(&self, number: OfPort) -> Option<&Port> {
        self.ports.by_number.get(&number)
    }

    /// The port of that name.
    pub fn port_named(&self, name: &str) -> Option<&Port> {
        self.ports().find(|port| port.desc.name == name)
    }

    /// Every port, by number.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.by_number.values()
    }
}

impl Port {
    /// A port is live if it is up, has a link and may be enabled.
    fn normalize(&mut self) {
        let down = self.desc.config.contains(PortConfig::PORT_DOWN)
            || self.desc.state.contains(PortState::LINK_DOWN)
            || !self.may_enable;
        self.desc.state.set(PortState::LIVE, !down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn numbers_are_requested_or_the_next_unused() {
        let mut numbers = Numbers::default();
        numbers.requests.insert("p9".into(), 9);
        numbers.requests.insert("q9".into(), 9);
        assert_eq!(numbers.give("p9", at(0)), Some(OfPort(9)));
        assert_eq!(numbers.give("a", at(0)), Some(OfPort(1)));
        assert_eq!(numbers.give("q9", at(0)), Some(OfPort(2)));
        numbers.take_back(OfPort(1), at(1));
        assert_eq!(numbers.give("b", at(2)), Some(OfPort(3)));
    }

    #[test]
    fn a_number_comes_back_when_it_is_stale_or_the_oldest() {
        let mut numbers = Numbers::default();
        for number in 1..FIRST_UNGIVEN {
            assert_eq!(numbers.give("x", at(0)), Some(OfPort(number)));
        }
        assert_eq!(numbers.give("x", at(0)), None);
        numbers.take_back(OfPort(7), at(20));
        numbers.take_back(OfPort(5), at(30));
        assert_eq!(numbers.give("x", at(40)), Some(OfPort(7)));
        numbers.take_back(OfPort(7), at(50));
        assert_eq!(numbers.give("x", at(3700)), Some(OfPort(5)));
    }
}
