//! Connection tracking.
//!
//! **Uses** layouts, checksums, the metadata of an earlier `ct`. **Sets** conntrack metadata, and addresses, ports and checksums where
//! they are translated. **Next** the program's next step, usually `recirc`.

use std::sync::Arc;

use flow::action::NatKind;
use flow::extract::Layout;
use flow::packet::{self as edit, SetIpv4, SetIpv6};

use super::set;
use crate::conntrack::conn::{Conn, Dir};
use crate::conntrack::parse::{Inner, parse};
use crate::conntrack::tracker::{Action, Passage, Translation};
use crate::user::batch::Packet;
use crate::user::csum;
use crate::user::program::Set;
use crate::user::worker::Worker;

/// Takes packets through the tracker.
pub fn track(worker: &mut Worker, action: &Action, packets: &mut [Packet], members: &[u16]) {
    let mut passages = std::mem::take(&mut worker.passages);
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let trusted = packet.offload.csum_good || packet.offload.needs_csum;
        let parsed = (packet.meta.packet_type == 0)
            .then(|| parse(packet.frame(&worker.pool), &packet.layout, trusted))
            .flatten();
        let mut passage = Passage::new(packet.meta.ct.take().unwrap_or_default(), parsed);
        passage.first = packet.meta.recirc_id == 0;
        passages.push(passage);
    }
    worker.shared.tracker.track(action, worker.now, &mut passages);
    for (&at, passage) in members.iter().zip(passages.drain(..)) {
        let packet = &mut packets[usize::from(at)];
        if let Some((conn, dir)) = &passage.asks {
            tell(worker, packet, conn, *dir);
        }
        if let Some(translation) = &passage.translation {
            translate(worker, packet, translation);
        }
        packet.meta.ct = Some(passage.tracked);
    }
    worker.passages = passages;
}

/// Forgets what connection tracking said.
pub fn clear(packets: &mut [Packet], members: &[u16]) {
    for &at in members {
        packets[usize::from(at)].meta.ct = None;
    }
}

/// Says what a packet of an established connection looks like, before it is translated.
#[cold]
fn tell(worker: &Worker, packet: &mut Packet, conn: &Arc<Conn>, dir: Dir) {
    if let Some(watch) = worker.shared.tracker.watching().get() {
        watch.established(conn, dir, worker.id, worker.locate(packet));
    }
}

/// Changes a packet as its connection wants it.
fn translate(worker: &mut Worker, packet: &mut Packet, translation: &Translation) {
    let answer = &translation.answer;
    let (src, dst) = match translation.kind {
        NatKind::Src => (Some(answer.dst), None),
        NatKind::Dst => (None, Some(answer.src)),
    };
    set::header(worker, &addresses(answer.v6, src, dst), packet);
    match &translation.inner {
        Some(inner) => {
            let (frame, layout) = (packet.frame_mut(&mut worker.pool), packet.layout);
            // The packet was parsed: its headers are where that said.
            let _ = translate_inner(frame, &layout, inner, translation);
        }
        None if answer.has_ports() => {
            let (src, dst) = (answer.dst_l4 as u16, answer.src_l4 as u16);
            let ports = Set::Ports { protocol: answer.proto, src: (src, u16::MAX), dst: (dst, u16::MAX) };
            set::header(worker, &ports, packet);
        }
        None => {}
    }
}

/// Addresses to set.
fn addresses(v6: bool, src: Option<u128>, dst: Option<u128>) -> Set {
    if v6 {
        let part =
            |addr: Option<u128>| addr.map_or_else(Default::default, |addr| (addr.to_be_bytes(), [0xff; 16]));
        Set::Ipv6(SetIpv6 { src: part(src), dst: part(dst), ..SetIpv6::default() })
    } else {
        let part = |addr: Option<u128>| addr.map_or((0, 0), |addr| (addr as u32, u32::MAX));
        Set::Ipv4(SetIpv4 { src: part(src), dst: part(dst), ..SetIpv4::default() })
    }
}

/// Translates the packet that an ICMP error is about: it went the other way, so its other end changes.
fn translate_inner(
    frame: &mut [u8],
    layout: &Layout,
    inner: &Inner,
    translation: &Translation,
) -> Option<()> {
    let answer = &translation.answer;
    let (l3, l4) = (usize::from(layout.l3?), usize::from(layout.l4?));
    let end = frame.len().checked_sub(usize::from(layout.l2_pad))?;
    let packet = frame.get_mut(..end)?;
    let (src, dst) = match translation.kind {
        NatKind::Src => (None, Some(answer.dst)),
        NatKind::Dst => (Some(answer.src), None),
    };
    let place = Layout { l3: Some(inner.l3), l4: Some(inner.l4), ..Layout::default() };
    let mut quoted = Quoted(packet);
    match addresses(answer.v6, src, dst) {
        Set::Ipv4(new) => edit::set_ipv4(&mut quoted, &place, &new),
        Set::Ipv6(new) => edit::set_ipv6(&mut quoted, &place, &new, answer.proto, false),
        _ => {}
    }
    if answer.has_ports() {
        let (src, dst) = (answer.src_l4 as u16, answer.dst_l4 as u16);
        edit::set_ports(&mut quoted, &place, answer.proto, (src, u16::MAX), (dst, u16::MAX));
    }
    let Quoted(packet) = quoted;
    packet.get_mut(l4 + 2..l4 + 4)?.fill(0);
    let pseudo = if answer.v6 {
        csum::pseudo_header(&packet[l3..], flow::proto::ip::ICMPV6, packet.len() - l4)?
    } else {
        0
    };
    let sum = csum::checksum(&packet[l4..], pseudo);
    packet.get_mut(l4 + 2..l4 + 4)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// A frame without its padding, to be changed in place.
struct Quoted<'a>(&'a mut [u8]);

impl edit::Buffer for Quoted<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0
    }

    fn push_front(&mut self, _n: usize) -> bool {
        false
    }

    fn pull_front(&mut self, _n: usize) {}
}
