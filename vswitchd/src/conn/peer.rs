//! What the switch knows of one connected peer: its role, what it asked to be told and in which format, its bundles and
//! flow monitors.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::time::Instant;
use openflow::msg::async_config::{AsyncConfig, AsyncType};
use openflow::msg::flow_mod::FlowCommand;
use openflow::msg::nicira::PacketInFormat;
use openflow::msg::role::Role;
use openflow::protocol::Protocols;
use openflow::version::Version;

use super::assemble::Assembler;
use super::handle::bundle::Bundle;
use super::handle::flow_stats::Dump;
use super::monitor::Monitors;
use super::pinsched::Scheduler;
use crate::bridge::remote::{Remote, RemoteKind};

/// Bytes of a packet that peers want unless they say otherwise.
const DEFAULT_MISS_SEND_LEN: u16 = 128;
/// The reasons of packet-ins that older versions call "action", as bits.
const ACTION_REASONS: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5;
const ACTION: u32 = 1 << 1;

/// A connected peer.
pub struct Peer {
    pub kind: RemoteKind,
    pub role: Role,
    /// The flow format in effect; empty before versions are agreed on.
    pub protocol: Protocols,
    pub packet_in_format: PacketInFormat,
    /// The connection id that packets for controllers name.
    pub controller_id: u16,
    pub miss_send_len: u16,
    async_config: Option<AsyncConfig>,
    /// Whether asynchronous messages are sent before the peer asks for them.
    async_messages: bool,
    pub assembler: Assembler,
    pub bundles: BTreeMap<u32, Bundle>,
    pub monitors: Monitors,
    /// Limits of packet-ins: for those by action, and for misses.
    pub schedulers: Option<[Scheduler; 2]>,
    /// The most packet-ins that wait to be sent.
    pub queue_size: usize,
    pub mods: ModLog,
    /// A long answer under way.
    pub dump: Option<Box<Dump>>,
}

impl Peer {
    /// A peer of a remote, just connected.
    pub fn new(remote: &Remote, now: Instant) -> Self {
        let mut this = Self {
            kind: remote.kind,
            role: Role::Equal,
            protocol: Protocols::empty(),
            packet_in_format: PacketInFormat::Standard,
            controller_id: 0,
            miss_send_len: if remote.kind == RemoteKind::Primary { DEFAULT_MISS_SEND_LEN } else { 0 },
            async_config: None,
            async_messages: remote.async_messages,
            assembler: Assembler::default(),
            bundles: BTreeMap::new(),
            monitors: Monitors::default(),
            schedulers: None,
            queue_size: remote.queue_size,
            mods: ModLog::default(),
            dump: None,
        };
        this.set(remote, now);
        this
    }

    /// Takes over the settings of the remote that may change while connected.
    pub fn set(&mut self, remote: &Remote, now: Instant) {
        self.async_messages = remote.async_messages;
        self.queue_size = remote.queue_size;
        let (rate, burst) = (remote.rate_limit, remote.burst_limit);
        if rate == 0 {
            self.schedulers = None;
        } else if let Some(schedulers) = &mut self.schedulers {
            schedulers.iter_mut().for_each(|scheduler| scheduler.set_limits(rate, burst));
        } else {
            self.schedulers = Some([Scheduler::new(rate, burst, now), Scheduler::new(rate, burst, now)]);
        }
    }

    /// The version spoken, once agreed on.
    pub fn version(&self) -> Option<Version> {
        self.protocol.version()
    }

    /// What the peer wants to be told.
    pub fn async_config(&self) -> AsyncConfig {
        match (self.async_config, self.version()) {
            (Some(config), _) => config,
            (None, Some(version)) if self.async_messages => AsyncConfig::for_version(version),
            (None, _) => AsyncConfig::default(),
        }
    }

    /// Changes what the peer wants to be told.
    pub fn set_async_config(&mut self, mut config: AsyncConfig) {
        if self.version().is_none_or(|version| version < Version::V14) {
            for masks in [&mut config.primary, &mut config.secondary] {
                let packet_in = &mut masks[AsyncType::PacketIn as usize];
                if *packet_in & ACTION != 0 {
                    *packet_in |= ACTION_REASONS;
                }
            }
        }
        self.async_config = Some(config);
    }

    /// A service that asks for what it is to be told wants to be told it.
    pub fn expect_async(&mut self) {
        if self.kind == RemoteKind::Service && self.miss_send_len == 0 {
            self.miss_send_len = DEFAULT_MISS_SEND_LEN;
        }
    }

    /// Whether the peer is to be told of something.
    pub fn wants(&self, kind: AsyncType, reason: u8) -> bool {
        self.version().is_some()
            && (self.kind == RemoteKind::Primary || self.miss_send_len != 0)
            && self.async_config().wants(kind, reason, self.role == Role::Secondary)
    }

    /// Whether the peer gets packets that no flow of a table matches, unless the table says otherwise.
    pub fn wants_misses(&self) -> bool {
        self.controller_id == 0 && self.version().is_none_or(|version| version < Version::V13)
    }
}

/// Flow mods that were carried out, to be told in the log now and then.
#[derive(Default)]
pub struct ModLog {
    adds: u32,
    deletes: u32,
    modifies: u32,
    first: Instant,
    last: Instant,
    due: Option<Instant>,
    /// The next report comes no sooner.
    not_before: Instant,
}

/// How long after the first flow mod they are told, and how long it then takes at least.
const REPORT_AFTER: Duration = Duration::from_secs(10);
const REPORT_PAUSE: Duration = Duration::from_secs(60);

impl ModLog {
    /// Counts a flow mod.
    pub fn count(&mut self, command: FlowCommand, now: Instant) {
        match command {
            FlowCommand::Add => self.adds += 1,
            FlowCommand::Modify | FlowCommand::ModifyStrict => self.modifies += 1,
            FlowCommand::Delete | FlowCommand::DeleteStrict => self.deletes += 1,
        }
        if self.due.is_none() {
            self.first = now;
            let due = (now + REPORT_AFTER).max(self.not_before);
            self.due = Some(due);
            self.not_before = due + REPORT_PAUSE;
        }
        self.last = now;
    }

    /// When [`Self::report`] is due.
    pub fn deadline(&self) -> Instant {
        self.due.unwrap_or(Instant::NEVER)
    }

    /// What is to be told, if there was anything.
    pub fn report(&mut self, now: Instant) -> Option<String> {
        self.due = None;
        let total = self.adds + self.deletes + self.modifies;
        if total == 0 {
            return None;
        }
        let secs = |until: Instant| until.since(self.first).as_secs();
        let (ago, interval) = (secs(now), secs(self.last));
        let when = match interval {
            _ if interval == ago => format!("in the last {ago} s"),
            0 => format!("{ago} s ago"),
            _ => format!("in the {interval} s starting {ago} s ago"),
        };
        let counts = [(self.adds, "adds"), (self.deletes, "deletes"), (self.modifies, "modifications")];
        let counts: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (self.adds, self.deletes, self.modifies) = (0, 0, 0);
        Some(format!("{total} flow_mods {when} ({})", counts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn flow_mods_are_told_now_and_then() {
        let mut log = ModLog::default();
        log.count(FlowCommand::Add, at(100));
        log.count(FlowCommand::DeleteStrict, at(103));
        assert_eq!(log.deadline(), at(110));
        assert_eq!(
            log.report(at(110)).as_deref(),
            Some("2 flow_mods in the 3 s starting 10 s ago (1 adds, 1 deletes)")
        );
        log.count(FlowCommand::Modify, at(120));
        assert_eq!(log.deadline(), at(170));
        assert_eq!(log.report(at(121)).as_deref(), Some("1 flow_mods 1 s ago (1 modifications)"));
        assert_eq!((log.report(at(122)), log.deadline()), (None, Instant::NEVER));
    }
}
