//! The way of a connection's packets through the userspace datapath, as one match and one list of actions.
//!
//! A packet of an established connection meets a flow, is tracked, perhaps translated, recirculated, and meets another
//! flow. [`follow`] goes that way with a key instead of a packet, on the worker that has the flows. What it finds is true of
//! every packet that agrees with the key in the bits that the flows look at, as long as the flows and
//! connections are as they are: whoever uses a [`Path`] keeps an eye on both.

use std::sync::Arc;

use datapath::conntrack::conn::{Conn, Dir};
use datapath::conntrack::key::Key as CtKey;
use datapath::conntrack::tracked::{NATTED, Tracked};
use datapath::conntrack::tracker::Tracker;
use datapath::user::flows::Megaflow;
use datapath::user::worker::{MAX_DEPTH, Worker};
use flow::action::{Action, Ct, NatKind};
use flow::id::Zone;
use flow::key::{Key, MAX_VLANS, Mask, Vlan};
use flow::odp::convert::label_from_odp;
use flow::odp::{Ipv4Key, Ipv6Key, KeyAttr, PortsKey};
use flow::proto::{ct, ethertype, ip};
use flow::time::Instant;

use super::change::{Change, change, hides};

/// FIN, SYN and RST: what begins or ends a connection is the tracker's to see.
const TURNS: u16 = 7;

/// A way, and on what it depends.
#[derive(Clone)]
pub struct Path {
    pub key: Key,
    pub mask: Mask,
    pub actions: Vec<Action>,
    /// Connections in the order in which packets are tracked.
    pub conns: Vec<(Arc<Conn>, Dir)>,
    /// Flows, and the version of each.
    pub flows: Vec<(Arc<Megaflow>, u32)>,
}

/// Why there is no way, or none in hardware.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum Detour {
    /// There may be one soon.
    #[error("no flow yet")]
    NoFlow,
    #[error("no connection in a zone")]
    NoConnection,
    #[error("a connection that is not established")]
    Unsteady,
    #[error("protocol is neither TCP nor UDP")]
    Protocol,
    #[error("a fragment")]
    Fragment,
    #[error("packet begins or ends the connection")]
    Turn,
    #[error("ct() would change mark or label")]
    Mark,
    #[error("ct(force) in the reply direction")]
    Force,
    #[error("tracked twice in a zone with translation")]
    Again,
    #[error("ct() with {0}")]
    CtPart(&'static str),
    #[error("packets are changed before they are tracked")]
    Changed,
    #[error("action {0} before recirculation")]
    Action(&'static str),
    #[error("tracking or recirculation of a copy")]
    Hidden,
    #[error("recirculation before the end of the actions")]
    Recirculation,
    #[error("recirculated too often")]
    Depth,
    #[error("actions are not tracked")]
    Untracked,
}

/// The key of packets for a tracker.
fn tuple(key: &Key, zone: u16) -> CtKey {
    let v6 = key.dl_type.get() == ethertype::IPV6;
    let (src, dst) = if v6 {
        (u128::from_be_bytes(key.ipv6_src), u128::from_be_bytes(key.ipv6_dst))
    } else {
        (key.nw_src.get().into(), key.nw_dst.get().into())
    };
    let (src_l4, dst_l4) = (key.tp_src.get().into(), key.tp_dst.get().into());
    CtKey { src, dst, src_l4, dst_l4, zone, proto: key.nw_proto, v6 }
}

struct Following<'a> {
    tracker: &'a Tracker,
    now: Instant,
    /// What packets look like by now.
    key: Key,
    /// They are not what they came as.
    changed: bool,
    tracked: Tracked,
    path: Path,
}

/// What follows a flow's actions.
enum Next {
    Recirculated,
    End,
}

/// Follows packets with a key.
///
/// # Errors
/// There is no way, or none that hardware can go.
pub fn follow(worker: &mut Worker, key: &Key, now: Instant) -> Result<Path, Detour> {
    if !matches!(key.nw_proto, ip::TCP | ip::UDP) {
        return Err(Detour::Protocol);
    }
    if key.nw_frag != 0 {
        return Err(Detour::Fragment);
    }
    if key.nw_proto == ip::TCP && key.tcp_flags.get() & TURNS != 0 {
        return Err(Detour::Turn);
    }
    let (actions, conns, flows) = (Vec::new(), Vec::new(), Vec::new());
    let path = Path { key: *key, mask: Mask::default(), actions, conns, flows };
    let tracker = Arc::clone(&worker.shared.tracker);
    let (changed, tracked) = (false, Tracked::default());
    let mut following = Following { tracker: &tracker, now, key: *key, changed, tracked, path };
    for _ in 0..=MAX_DEPTH {
        let flow = worker.flows.by_key(&following.key).ok_or(Detour::NoFlow)?;
        // The mark to be told of changes is made before the actions are read.
        let version = flow.watch();
        let actions = flow.actions();
        following.path.mask.add(&Mask(flow.mask.expand()));
        following.path.flows.push((flow, version));
        if let Next::End = following.actions(&actions)? {
            return following.finish();
        }
    }
    Err(Detour::Depth)
}

impl Following<'_> {
    fn actions(&mut self, actions: &[Action]) -> Result<Next, Detour> {
        let recirculates = actions.iter().any(|action| matches!(action, Action::Recirc(_)));
        for (at, action) in actions.iter().enumerate() {
            match action {
                // Who asks knows packets as they are when they are tracked first.
                Action::Ct(_) if self.changed && self.path.conns.is_empty() => return Err(Detour::Changed),
                Action::Ct(ct) => self.track(ct)?,
                Action::CtClear => {
                    self.tracked = Tracked::default();
                    self.remember();
                }
                Action::Recirc(id) if at + 1 == actions.len() => {
                    self.key.recirc_id = id.0;
                    return Ok(Next::Recirculated);
                }
                Action::Recirc(_) => return Err(Detour::Recirculation),
                action if hides(action) => return Err(Detour::Hidden),
                action => self.act(action, recirculates)?,
            }
        }
        Ok(Next::End)
    }

    /// Takes an action that does not track. What packets look like after it has to be known if they are looked at again.
    fn act(&mut self, action: &Action, looked_at: bool) -> Result<(), Detour> {
        match change(action, &mut self.key) {
            Ok(Change::Metadata) => return Ok(()),
            Ok(Change::Tags) => {
                // Later flows look at other tags than the packet came with: these are to be the same.
                self.path.mask.0.vlans = [Vlan { tpid: u16::MAX.into(), tci: u16::MAX.into() }; MAX_VLANS];
                self.changed = true;
            }
            Ok(Change::Headers) => self.changed = true,
            Ok(Change::None) => {}
            Err(name) if looked_at => return Err(Detour::Action(name)),
            Err(_) => self.changed = true,
        }
        self.path.actions.push(action.clone());
        Ok(())
    }

    /// Puts what tracking says into the key.
    fn remember(&mut self) {
        let key = &mut self.key;
        let none = Key::default();
        (key.ct_state, key.ct_zone, key.ct_mark) = (none.ct_state, none.ct_zone, none.ct_mark);
        (key.ct_label, key.ct_nw_proto) = (none.ct_label, none.ct_nw_proto);
        (key.ct_nw_src, key.ct_nw_dst) = (none.ct_nw_src, none.ct_nw_dst);
        (key.ct_ipv6_src, key.ct_ipv6_dst) = (none.ct_ipv6_src, none.ct_ipv6_dst);
        (key.ct_tp_src, key.ct_tp_dst) = (none.ct_tp_src, none.ct_tp_dst);
        self.tracked.write(key);
    }

    fn track(&mut self, action: &Ct) -> Result<(), Detour> {
        if action.helper.is_some() || action.timeout.is_some() {
            return Err(Detour::CtPart("a helper or timeout policy"));
        }
        let zone = action.zone.unwrap_or_default();
        if self.tracked.zone != zone {
            self.tracked.state = 0;
        }
        let again = self.tracked.state != 0;
        let (conn, dir) = match self.path.conns.last() {
            Some((conn, dir)) if again => (Arc::clone(conn), *dir),
            _ if again => return Err(Detour::Again),
            _ => self.find(zone)?,
        };
        if action.force && (dir == Dir::Reply || again) {
            return Err(Detour::Force);
        }
        let state = {
            let state = conn.state();
            if !state.proto.is_steady() {
                return Err(Detour::Unsteady);
            }
            let label = |label| u128::from_be_bytes(label_from_odp(label));
            let marks = action.mark.is_none_or(|(value, mask)| value | state.mark & !mask == state.mark);
            let labels = action
                .labels
                .is_none_or(|(value, mask)| label(value) | state.label & !label(mask) == state.label);
            if !marks || !labels {
                return Err(Detour::Mark);
            }
            (state.mark, state.label)
        };
        if !again {
            self.path.conns.push((Arc::clone(&conn), dir));
            let reply = if dir == Dir::Reply { ct::REPLY_DIR } else { 0 };
            self.tracked = Tracked::unknown(ct::ESTABLISHED | reply, zone, Some(conn.orig));
        }
        (self.tracked.mark, self.tracked.label) = state;
        if action.nat.is_some() {
            self.translate(&conn, dir);
        }
        self.remember();
        Ok(())
    }

    fn find(&self, zone: Zone) -> Result<(Arc<Conn>, Dir), Detour> {
        self.tracker.find_live(&tuple(&self.key, zone.0), self.now).ok_or(Detour::NoConnection)
    }

    /// Translates as the connection wants it, unless that is done.
    fn translate(&mut self, conn: &Conn, dir: Dir) {
        let Some(kind) = conn.nat.filter(|_| self.tracked.state & NATTED == 0) else { return };
        let (kind, answer) = match (kind, dir) {
            (kind, Dir::Orig) => (kind, conn.reply),
            (NatKind::Src, Dir::Reply) => (NatKind::Dst, conn.orig),
            (NatKind::Dst, Dir::Reply) => (NatKind::Src, conn.orig),
        };
        self.tracked.state |= match kind {
            NatKind::Src => ct::SRC_NAT,
            NatKind::Dst => ct::DST_NAT,
        };
        // The packet becomes what it is the answer to.
        let (src, dst) = match kind {
            NatKind::Src => (Some(answer.dst), None),
            NatKind::Dst => (None, Some(answer.src)),
        };
        self.set_addresses(src, dst);
        self.set_ports(answer.dst_l4 as u16, answer.src_l4 as u16);
    }

    fn set_addresses(&mut self, src: Option<u128>, dst: Option<u128>) {
        let (value, mask) = if self.key.dl_type.get() == ethertype::IPV6 {
            let part =
                |addr: Option<u128>| addr.map_or_else(Default::default, |a| (a.to_be_bytes(), [0xff; 16]));
            let [(src, src_mask), (dst, dst_mask)] = [part(src), part(dst)];
            let of = |src, dst| KeyAttr::Ipv6(Ipv6Key { src, dst, ..Ipv6Key::default() });
            (of(src, dst), of(src_mask, dst_mask))
        } else {
            let part = |addr: Option<u128>| addr.map_or((0, 0), |addr| (addr as u32, u32::MAX));
            let [(src, src_mask), (dst, dst_mask)] = [part(src), part(dst)];
            let of = |src: u32, dst: u32| {
                KeyAttr::Ipv4(Ipv4Key { src: src.into(), dst: dst.into(), ..Ipv4Key::default() })
            };
            (of(src, dst), of(src_mask, dst_mask))
        };
        self.set(value, mask);
    }

    fn set_ports(&mut self, src: u16, dst: u16) {
        let change = |old: u16, new: u16| if old == new { (0, 0) } else { (new, u16::MAX) };
        let (src, src_mask) = change(self.key.tp_src.get(), src);
        let (dst, dst_mask) = change(self.key.tp_dst.get(), dst);
        if src_mask | dst_mask == 0 {
            return;
        }
        let of = |src: u16, dst: u16| PortsKey { src: src.into(), dst: dst.into() };
        let (value, mask) = (of(src, dst), of(src_mask, dst_mask));
        let attr = if self.key.nw_proto == ip::TCP { KeyAttr::Tcp } else { KeyAttr::Udp };
        self.set(attr(value), attr(mask));
    }

    /// Sets addresses or ports of packets. They are changed in the view of flows only: who tracks knows of translations.
    fn set(&mut self, value: KeyAttr, mask: KeyAttr) {
        let action = Action::SetMasked(value, mask);
        // Every key of TCP or UDP over IP has what translations set.
        let _ = change(&action, &mut self.key);
        self.path.actions.push(action);
    }

    /// Makes a match of the masks: the tuple wholly, and nothing of what tracking and recirculation added.
    fn finish(mut self) -> Result<Path, Detour> {
        if self.path.conns.is_empty() {
            return Err(Detour::Untracked);
        }
        let key = &mut self.path.key;
        let mask = &mut self.path.mask.0;
        mask.in_port = u32::MAX;
        mask.dl_type = u16::MAX.into();
        (mask.nw_proto, mask.nw_frag) = (u8::MAX, flow::key::frag::MASK);
        (mask.tp_src, mask.tp_dst) = (u16::MAX.into(), u16::MAX.into());
        if key.dl_type.get() == ethertype::IPV6 {
            (mask.ipv6_src, mask.ipv6_dst) = ([0xff; 16], [0xff; 16]);
        } else {
            (mask.nw_src, mask.nw_dst) = (u32::MAX.into(), u32::MAX.into());
        }
        // Packets come in without metadata, and their hash is made of what is matched.
        for (field, of_mask) in [
            (key.skb_priority, &mut mask.skb_priority),
            (key.pkt_mark, &mut mask.pkt_mark),
            (key.dp_hash, &mut mask.dp_hash),
        ] {
            *of_mask = if field == 0 { 0 } else { *of_mask };
        }
        if key.nw_proto == ip::TCP {
            mask.tcp_flags = (mask.tcp_flags.get() | TURNS).into();
        }
        (mask.recirc_id, mask.ct_state, mask.ct_zone, mask.ct_mark) = (0, 0, 0, 0);
        (mask.ct_label, mask.ct_nw_proto) = ([0; 16], 0);
        (mask.ct_nw_src, mask.ct_nw_dst) = Default::default();
        (mask.ct_ipv6_src, mask.ct_ipv6_dst) = Default::default();
        (mask.ct_tp_src, mask.ct_tp_dst) = Default::default();
        *key = self.path.mask.apply(key);
        Ok(self.path)
    }
}
