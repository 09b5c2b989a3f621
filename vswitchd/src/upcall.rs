//! Upcalls: what the datapath asks for a packet that no flow matches, and what actions hand to userspace.

mod memory;
mod recipe;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use datapath::PmdId;
use datapath::upcall::{Answer, Desk, Handler, Install, Kind, Upcall};
use flow::action::{Action, Userspace};
use flow::cookie::{CookieKind, SlowReasons, UserCookie};
use flow::drop::DropReason;
use flow::id::{DpMeter, DpPort, OfPort, RecircId, Ufid};
use flow::key::{Key, Mask};
use flow::mini::Midi;
use flow::odp::Fitness;
use flow::time::Instant;
use flow::wildcards;

use memory::Memory;
use recipe::{Found, Reading};

use crate::backer::{Backer, Note, PacketIn};
use crate::reval::{Decided, Kept, New, raw_key};
use crate::xlate::snapshot::Sampled;
use crate::xlate::trace::Tracer;
use crate::xlate::{Bridge, BridgeId, Input, Output, Past, Room, Snapshot, Stats, effect, translate_again};

/// The action that hands a flow's packets to userspace because of `slow`.
pub(crate) fn slow_path(
    backer: &Backer,
    bridge: &Bridge,
    slow: SlowReasons,
    odp: DpPort,
    ofp: OfPort,
) -> Vec<Action> {
    let cookie =
        UserCookie { in_port: ofp, ofproto: bridge.id.0, kind: CookieKind::SlowPath { reasons: slow } };
    let protocols = SlowReasons::CFM | SlowReasons::BFD | SlowReasons::LACP | SlowReasons::STP;
    let port = if slow.intersects(protocols) { DpPort::NONE } else { odp };
    let userspace = Action::Userspace(Userspace {
        pid: backer.datapath.port_pid(port),
        userdata: Some(cookie.encode().to_vec()),
        egress_tun_port: None,
        actions: false,
    });
    match bridge.slowpath_meter {
        Some(meter) => vec![Action::Sample {
            probability: u32::MAX,
            actions: vec![Action::Meter(DpMeter(meter)), userspace],
        }],
        None => vec![userspace],
    }
}

impl Backer {
    /// Translates a packet that the datapath has.
    pub(crate) fn translate(
        &self,
        snapshot: &Snapshot,
        bridge: &Arc<Bridge>,
        in_port: OfPort,
        key: &Key,
        packet: Option<&[u8]>,
        now: Instant,
    ) -> Output {
        self.translate_in(&mut Room::default(), snapshot, (bridge, in_port), key, packet, now)
    }

    /// Likewise, in memory that is used again.
    fn translate_in(
        &self,
        room: &mut Room,
        snapshot: &Snapshot,
        origin: (&Arc<Bridge>, OfPort),
        key: &Key,
        packet: Option<&[u8]>,
        now: Instant,
    ) -> Output {
        let pid = |port| self.datapath.port_pid(port);
        translate_again(&self.flow_input(snapshot, origin, key, packet, now, &pid), None, room)
    }

    /// Translates a flow's packet of which it is known what the last translation did.
    pub(crate) fn translate_again(
        &self,
        snapshot: &Snapshot,
        origin: (&Arc<Bridge>, OfPort),
        key: &Key,
        past: &Past<'_>,
        now: Instant,
        room: &mut Room,
    ) -> Output {
        let pid = |port| self.datapath.port_pid(port);
        translate_again(&self.flow_input(snapshot, origin, key, None, now, &pid), Some(past), room)
    }

    /// What is translated for a flow of this key.
    fn flow_input<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        (bridge, in_port): (&'a Arc<Bridge>, OfPort),
        key: &'a Key,
        packet: Option<&'a [u8]>,
        now: Instant,
        pid: &'a dyn Fn(DpPort) -> u32,
    ) -> Input<'a> {
        Input {
            snapshot,
            bridge,
            recirc: &self.recirc,
            key,
            in_port,
            packet,
            actions: None,
            rule: None,
            frozen: None,
            pin: None,
            side_effects: packet.is_some(),
            caching: true,
            in_packet_out: false,
            trace: false,
            names: false,
            now,
            depth: 0,
            resubmits: 0,
            pid,
        }
    }

    /// Carries out what a translation does besides its actions.
    pub(crate) fn apply(&self, effects: &[effect::Effect], stats: &Stats) {
        effect::apply_all(effects, stats, &mut |deferred| self.note(Note::Deferred(deferred)));
    }

    /// The answer to a packet of which nobody knows by which port of a bridge it came.
    fn unassociated(&self, upcall: &Upcall<'_>, why: &str) -> Option<Answer> {
        tracing::info!(
            target: "ofproto_dpif_upcall", rl = "1,5",
            "received packet on unassociated datapath port {} ({why})", upcall.in_port
        );
        // What an id of an earlier process stood for is not known, and soon no flow will lead to it.
        if self.recirc.is_reserved(RecircId(upcall.key.recirc_id)) {
            return None;
        }
        let install = Install { mask: Box::new(Mask::exact()), actions: Arc::default() };
        Some(Answer { execute: Arc::default(), install: Some(install) })
    }

    fn miss(&self, upcall: &Upcall<'_>, memory: &mut Memory) -> Option<Answer> {
        let now = self.clock.now();
        let (seq, snapshot) = self.reading();
        let (bridge, in_port) = match self.origin(&snapshot, upcall.key) {
            Ok(origin) => origin,
            Err(why) => return self.unassociated(upcall, &why),
        };
        let reading = Reading { seq, snapshot: &snapshot };
        let key = Midi::new(upcall.key);
        let is_usual = upcall.fitness != Fitness::TooLittle && self.megaflows();
        let found = if is_usual { memory.recipes.find(reading, &key) } else { None };
        let made = match found {
            Some(found) => Made::new(found, memory),
            None => self.make(upcall, memory, reading, (bridge, in_port), (&key, now)),
        };
        let stats = Stats {
            packets: 1,
            bytes: upcall.full_len as u64,
            used: now,
            tcp_flags: upcall.key.tcp_flags.get(),
        };
        let Made { mask, midi, execute, installed, kept, may_install, decided } = made;
        self.apply(&kept.effects, &stats);
        let recirc = RecircId(upcall.key.recirc_id);
        let recirc = if recirc.0 == 0 { None } else { self.recirc.find_ref(recirc) };
        let mut may_install = may_install && self.flows.has_room();
        if may_install {
            let raw = upcall.raw.cloned().unwrap_or_else(|| raw_key(&snapshot, upcall.key, &mask));
            let new = New {
                ufid: upcall.ufid,
                has_ufid: true,
                pmd: upcall.pmd,
                raw,
                raw_mask: None,
                key,
                recirc,
                mask: midi,
                actions: Arc::clone(&installed),
                kept,
                seq: Some(seq),
                created: now,
            };
            // A worker of the userspace datapath asks for a flow only if it has none.
            let ukey = self.flows.enter(new, upcall.raw.is_none());
            may_install = ukey.is_some();
            if let (Some(ukey), Some(decided)) = (ukey, decided.filter(|_| is_usual)) {
                memory.recipes.keep(reading, decided, &ukey);
            }
        }
        if self.is_threaded() && self.seq() != seq {
            self.flows.threads.wake();
        }
        let install = match may_install {
            true => Some(Install { mask, actions: installed }),
            false => {
                memory.room.keep_mask(mask);
                None
            }
        };
        Some(Answer { execute, install })
    }

    /// Translates a packet that matched no flow.
    fn make(
        &self,
        upcall: &Upcall<'_>,
        memory: &mut Memory,
        reading: Reading<'_>,
        origin: (&Arc<Bridge>, OfPort),
        (key, now): (&Midi, Instant),
    ) -> Made {
        let Reading { snapshot, .. } = reading;
        let (bridge, in_port) = origin;
        let packet = Some(upcall.packet);
        let mut result = self.translate_in(&mut memory.room, snapshot, origin, upcall.key, packet, now);
        let decided = memory.recipes.consider(key, &result);
        if upcall.fitness == Fitness::TooLittle {
            result.slow |= SlowReasons::MATCH;
        }
        if let Some(DropReason::RecursionTooDeep | DropReason::TooManyResubmits) = result.error {
            // Long, so one a minute. It is traced only if it is logged.
            let trace = Failed { backer: self, snapshot, bridge, in_port, key: upcall.key, now };
            tracing::warn!(target: "ofproto_dpif_upcall", rate = 1, burst = 1, "{trace}");
        }
        let execute = memory.actions(&mut result.actions);
        let installed = if result.slow.is_empty() {
            Arc::clone(&execute)
        } else {
            memory.actions(&mut slow_path(self, bridge, result.slow, upcall.in_port, in_port))
        };
        memory.room.keep_list(result.actions);
        let mask = if self.megaflows() { result.mask } else { Box::new(exact(upcall.key)) };
        let kept = Kept::new(result.effects, result.recircs, result.counts_rules);
        let (midi, may_install) = (memory.mask(&mask), !result.avoid_caching);
        Made { mask, midi, execute, installed, kept, may_install, decided }
    }

    fn slow(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let now = self.clock.now();
        let snapshot = self.snapshot();
        let (bridge, in_port) = self.origin(&snapshot, upcall.key).ok()?;
        let result = self.translate(&snapshot, bridge, in_port, upcall.key, Some(upcall.packet), now);
        // Counters are the datapath flow's; what packets teach is not known before they come.
        let taught = result.effects.iter().filter(|effect| matches!(effect, effect::Effect::Learn { .. }));
        let stats = Stats { packets: 1, bytes: upcall.full_len as u64, used: now, ..Stats::default() };
        for effect in taught {
            effect.apply(&stats, &mut |deferred| self.note(Note::Deferred(deferred)));
        }
        Some(Answer { execute: result.actions.into(), install: None })
    }

    fn userspace(&self, upcall: &Upcall<'_>, userdata: &[u8], actions: Option<&[Action]>) -> Option<Answer> {
        let Some(cookie) = UserCookie::decode(userdata) else {
            tracing::warn!(
                target: "ofproto_dpif_upcall", rl = "1,5",
                "action upcall cookie has unexpected size {}", userdata.len()
            );
            return None;
        };
        match cookie.kind {
            CookieKind::SlowPath { .. } => return self.slow(upcall),
            CookieKind::Controller { dont_send: true, .. } => {}
            CookieKind::Controller { .. } => self.to_controllers(upcall, &cookie),
            CookieKind::Sflow { vlan_tci, output } => {
                let snapshot = self.snapshot();
                let sampler =
                    snapshot.bridge(BridgeId(cookie.ofproto)).and_then(|bridge| bridge.sflow.as_ref());
                if let Some(sampler) = sampler {
                    let (packet, full_len, key) = (upcall.packet, upcall.full_len, upcall.key);
                    let in_port = upcall.in_port;
                    sampler.sampled(&Sampled { packet, full_len, key, in_port, vlan_tci, output, actions });
                }
            }
            CookieKind::FlowSample { .. } | CookieKind::Ipfix { .. } => {}
        }
        Some(Answer::default())
    }

    fn to_controllers(&self, upcall: &Upcall<'_>, cookie: &UserCookie) {
        let CookieKind::Controller {
            continuation,
            reason,
            recirc_id,
            rule_cookie,
            controller_id,
            max_len,
            ..
        } = cookie.kind
        else {
            return;
        };
        let Some(frozen) = self.recirc.find(RecircId(recirc_id.0)) else { return };
        let mut key = *upcall.key;
        if !frozen.conntracked {
            let metadata = (key.ct_state, key.ct_zone, key.ct_mark);
            if metadata != (0, 0, 0) {
                (key.ct_state, key.ct_zone, key.ct_mark, key.ct_label) = (0, 0, 0, [0; 16]);
            }
            (key.ct_nw_proto, key.ct_tp_src, key.ct_tp_dst) = (0, 0.into(), 0.into());
            (key.ct_nw_src, key.ct_nw_dst) = (0.into(), 0.into());
            (key.ct_ipv6_src, key.ct_ipv6_dst) = ([0; 16], [0; 16]);
        }
        let odp_port = DpPort(key.in_port);
        frozen.metadata.restore(&mut key);
        self.note(Note::PacketIn(Box::new(PacketIn {
            bridge: BridgeId(cookie.ofproto),
            packet: upcall.packet.to_vec(),
            total_len: upcall.full_len,
            key,
            reason: reason as u8,
            table: frozen.table,
            cookie: rule_cookie,
            controller_id,
            max_len,
            userdata: frozen.userdata.clone(),
            continuation: continuation.then(|| Arc::clone(&frozen)),
            odp_port,
        })));
    }
}

/// What becomes of a packet that matched no flow.
struct Made {
    mask: Box<Mask>,
    /// The same.
    midi: Arc<Midi>,
    execute: Arc<[Action]>,
    installed: Arc<[Action]>,
    kept: Kept,
    may_install: bool,
    /// What decided that, if another packet may get the same.
    decided: Option<Decided>,
}

impl Made {
    /// By a recipe.
    fn new(found: Found, memory: &mut Memory) -> Self {
        let Found { mask: midi, actions, kept } = found;
        let mut mask = memory.room.mask();
        midi.expand_to(&mut mask.0);
        let (execute, installed) = (Arc::clone(&actions), actions);
        Self { mask, midi, execute, installed, kept, may_install: true, decided: None }
    }
}

/// A packet whose translation went too deep: its trace is its text.
struct Failed<'a> {
    backer: &'a Backer,
    snapshot: &'a Snapshot,
    bridge: &'a Arc<Bridge>,
    in_port: OfPort,
    key: &'a Key,
    now: Instant,
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tracer = Tracer {
            snapshot: self.snapshot,
            recirc: &self.backer.recirc,
            bridge: self.bridge,
            actions: None,
            ct_states: VecDeque::new(),
            names: false,
            dp_names: BTreeMap::new(),
            now: self.now,
            pid: &|port| self.backer.datapath.port_pid(port),
            execute: &mut |_, _, _| Ok(()),
            act: &mut |_| (),
            see: &mut |_, _| (),
        };
        let key = Key { in_port: self.in_port.0.into(), ..*self.key };
        f.write_str(tracer.run(&key, None).trim_end())
    }
}

/// How many packets a thread has answered without a translation.
#[cfg(test)]
pub(crate) fn spared_of(desk: &Desk) -> u64 {
    let own = desk.own.as_ref().and_then(|own| own.downcast_ref::<Memory>());
    own.map_or(0, |memory| memory.recipes.spared)
}

/// The mask of all that the packet has.
fn exact(key: &Key) -> Mask {
    wildcards::for_packet(key)
}

impl Handler for Backer {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        self.upcall_at(&mut Desk::default(), upcall)
    }

    fn upcall_at(&self, desk: &mut Desk, upcall: &Upcall<'_>) -> Option<Answer> {
        if !self.is_working() {
            return None;
        }
        match upcall.kind {
            Kind::Miss => {
                let mut memory = Memory::take(desk);
                let answer = self.miss(upcall, &mut memory);
                memory.put_back(desk);
                answer
            }
            Kind::Action { userdata, actions, .. } => self.userspace(upcall, userdata, actions),
        }
    }

    fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        self.flows.installed(ufid, pmd, installed);
    }

    fn purged(&self, pmd: PmdId) {
        self.flows.forget_worker(pmd);
    }
}
