//! Packets on their way through a worker.
//!
//! A [`Packet`] is one cache line of what is known of a frame besides its bytes; the bytes lie in the worker's [`Pool`].
//! Its offsets are kept true by whoever pushes or pops headers.

use crate::conntrack::tracked::Tracked;
use flow::extract::Layout;
use flow::key::Key;
use flow::packet::Buffer as Bytes;
use sys::packet::VNET_HDR;
use sys::pool::{Buffer, HEADROOM, Pool};

/// Packets of one vector.
pub const VECTOR: usize = 64;

/// What is left undone on a frame: a partial checksum, segmentation (`struct virtio_net_hdr`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Offload {
    /// The checksum at `csum_start + csum_offset` holds only the pseudo-header's sum.
    pub needs_csum: bool,
    /// The frame's checksums were found right by whoever gave it to us.
    pub csum_good: bool,
    /// `VIRTIO_NET_HDR_GSO_*`, with the ECN bit; 0 for none.
    pub gso: u8,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Where the checksum begins, from the frame's start.
    pub csum_start: u16,
    pub csum_offset: u16,
}

/// Values of [`Offload::gso`].
pub mod gso {
    pub const TCP4: u8 = 1;
    pub const UDP: u8 = 3;
    pub const TCP6: u8 = 4;
    pub const UDP_L4: u8 = 5;
    pub const ECN: u8 = 0x80;
}

impl Offload {
    const NEEDS_CSUM: u8 = 1;
    const DATA_VALID: u8 = 2;

    /// From a virtio-net header as the kernel wrote it.
    pub fn from_vnet(vnet: &[u8; VNET_HDR]) -> Self {
        let half = |at: usize| u16::from_ne_bytes([vnet[at], vnet[at + 1]]);
        Self {
            needs_csum: vnet[0] & Self::NEEDS_CSUM != 0,
            csum_good: vnet[0] & (Self::NEEDS_CSUM | Self::DATA_VALID) != 0,
            gso: vnet[1],
            gso_size: half(4),
            csum_start: half(6),
            csum_offset: half(8),
        }
    }

    /// As a virtio-net header for a frame whose L4 payload begins at `header_len`.
    pub fn to_vnet(self, header_len: u16) -> [u8; VNET_HDR] {
        let mut vnet = [0; VNET_HDR];
        if self.needs_csum {
            vnet[0] = Self::NEEDS_CSUM;
            vnet[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
            vnet[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        }
        if self.gso != 0 {
            vnet[1] = self.gso;
            vnet[2..4].copy_from_slice(&header_len.to_ne_bytes());
            vnet[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        }
        vnet
    }

    /// Whether the frame can go out as it is, by any port.
    pub const fn is_done(self) -> bool {
        !self.needs_csum && self.gso == 0
    }
}

/// Metadata that survives recirculation.
#[derive(Clone, Default)]
pub struct Meta {
    pub in_port: u32,
    pub recirc_id: u32,
    pub dp_hash: u32,
    pub skb_priority: u32,
    pub pkt_mark: u32,
    /// Namespace in the high, type in the low 16 bits; 0 is Ethernet.
    pub packet_type: u32,
    /// Receive hash, 0 for none.
    pub hash: u32,
    /// A key with the tunnel's fields; `None` while all of them are zero.
    pub more: Option<Box<Key>>,
    /// What connection tracking said; `None` for nothing.
    pub ct: Option<Box<Tracked>>,
}

impl Meta {
    /// Metadata of a packet that just came in.
    pub fn received(in_port: u32) -> Self {
        Self { in_port, ..Self::default() }
    }

    /// The metadata fields of a key.
    pub fn from_key(key: &Key) -> Self {
        let more = Key { tunnel: key.tunnel, ..Key::default() };
        Self {
            in_port: key.in_port,
            recirc_id: key.recirc_id,
            dp_hash: key.dp_hash,
            skb_priority: key.skb_priority,
            pkt_mark: key.pkt_mark,
            packet_type: key.packet_type.get(),
            hash: 0,
            more: (more != Key::default()).then(|| Box::new(more)),
            ct: Tracked::of_key(key).map(Box::new),
        }
    }

    /// A key with these metadata fields and nothing else.
    pub fn to_key(&self) -> Key {
        let mut key = self.more.as_deref().copied().unwrap_or_default();
        key.in_port = self.in_port;
        key.recirc_id = self.recirc_id;
        key.dp_hash = self.dp_hash;
        key.skb_priority = self.skb_priority;
        key.pkt_mark = self.pkt_mark;
        key.packet_type = self.packet_type.into();
        if let Some(ct) = &self.ct {
            ct.write(&mut key);
        }
        key
    }

    /// Whether nothing is set but the port and the recirculation id.
    #[inline]
    pub fn is_plain(&self) -> bool {
        (self.dp_hash | self.skb_priority | self.pkt_mark | self.packet_type) == 0
            && self.more.is_none()
            && self.ct.is_none()
    }
}

/// A packet. Its buffer goes back to the pool by [`Packet::free`].
pub struct Packet {
    pub buffer: Buffer,
    pub start: u32,
    pub len: u32,
    /// Bytes that `trunc` will take off the next copy that leaves.
    pub cut: u32,
    /// Where its headers begin.
    pub layout: Layout,
    pub offload: Offload,
    pub meta: Meta,
}

impl Packet {
    /// A packet with a copy of `frame`; `None` if the pool has no room for it.
    #[inline]
    pub fn new(pool: &mut Pool, frame: &[u8], offload: Offload, meta: Meta) -> Option<Self> {
        let buffer = pool.alloc(frame.len())?;
        pool.bytes_mut(&buffer)[HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        Some(Self::of(buffer, frame.len() as u32, offload, meta))
    }

    /// A packet whose `len` bytes are in `buffer` behind its headroom.
    pub fn of(buffer: Buffer, len: u32, offload: Offload, meta: Meta) -> Self {
        Self { buffer, start: HEADROOM as u32, len, cut: 0, layout: Layout::default(), offload, meta }
    }

    /// A second packet with the same bytes and metadata.
    pub fn duplicate(&self, pool: &mut Pool) -> Option<Self> {
        let (start, len) = (self.start as usize, self.len as usize);
        // The copy keeps its distance from the buffer's start, so headers can be pushed onto it alike.
        let buffer = pool.alloc((start + len).saturating_sub(HEADROOM).max(len))?;
        let mut copy = Self {
            buffer,
            start: self.start,
            len: self.len,
            cut: self.cut,
            layout: self.layout,
            offload: self.offload,
            meta: self.meta.clone(),
        };
        if start + len > pool.bytes(&copy.buffer).len() {
            copy.start = HEADROOM as u32;
        }
        pool.copy(&self.buffer, start..start + len, &copy.buffer, copy.start as usize);
        Some(copy)
    }

    /// Gives the buffer back.
    #[inline]
    pub fn free(self, pool: &mut Pool) {
        pool.free(self.buffer);
    }

    /// The frame.
    #[inline]
    pub fn frame<'a>(&self, pool: &'a Pool) -> &'a [u8] {
        &pool.bytes(&self.buffer)[self.start as usize..(self.start + self.len) as usize]
    }

    /// The frame, to change in place.
    #[inline]
    pub fn frame_mut<'a>(&self, pool: &'a mut Pool) -> &'a mut [u8] {
        &mut pool.bytes_mut(&self.buffer)[self.start as usize..(self.start + self.len) as usize]
    }

    /// Makes room for `n` bytes in front of offset `at`, moving the first `at` bytes forward. Whether there was room.
    pub fn push(&mut self, pool: &mut Pool, at: usize, n: usize) -> bool {
        let frame_end = (self.start + self.len) as usize;
        if at > self.len as usize {
            return false;
        }
        if (self.start as usize) < n && !self.make_headroom(pool, frame_end, n) {
            return false;
        }
        let old = self.start as usize;
        self.start -= n as u32;
        self.len += n as u32;
        pool.bytes_mut(&self.buffer).copy_within(old..old + at, old - n);
        self.shift(n as i32);
        true
    }

    /// Takes out `n` bytes at offset `at`, moving the first `at` bytes backward. Whether there were so many.
    pub fn pull(&mut self, pool: &mut Pool, at: usize, n: usize) -> bool {
        if at + n > self.len as usize {
            return false;
        }
        let old = self.start as usize;
        pool.bytes_mut(&self.buffer).copy_within(old..old + at, old + n);
        self.start += n as u32;
        self.len -= n as u32;
        self.shift(-(n as i32));
        true
    }

    /// Moves the frame into a buffer with headroom again.
    #[cold]
    fn make_headroom(&mut self, pool: &mut Pool, frame_end: usize, n: usize) -> bool {
        if n > HEADROOM {
            return false;
        }
        let Some(buffer) = pool.alloc(self.len as usize) else { return false };
        pool.copy(&self.buffer, self.start as usize..frame_end, &buffer, HEADROOM);
        pool.free(std::mem::replace(&mut self.buffer, buffer));
        self.start = HEADROOM as u32;
        true
    }

    /// Takes the frame out, leaving an empty packet behind; `None` if the pool has no buffer for that.
    pub fn take(&mut self, pool: &mut Pool) -> Option<Self> {
        let empty = pool.alloc(0)?;
        let start = std::mem::replace(&mut self.start, HEADROOM as u32);
        let len = std::mem::take(&mut self.len);
        Some(Self {
            buffer: std::mem::replace(&mut self.buffer, empty),
            start,
            len,
            cut: std::mem::take(&mut self.cut),
            layout: self.layout,
            offload: self.offload,
            meta: self.meta.clone(),
        })
    }

    /// Corrects the offset of a partial checksum for `by` bytes more (or less) in front.
    fn shift(&mut self, by: i32) {
        if self.offload.needs_csum || self.offload.gso != 0 {
            self.offload.csum_start = u16::try_from(i32::from(self.offload.csum_start) + by).unwrap_or(0);
        }
    }

    /// Bytes that leave now: the frame, less what `trunc` takes off.
    #[inline]
    pub fn outgoing<'a>(&self, pool: &'a Pool) -> &'a [u8] {
        let frame = self.frame(pool);
        &frame[..frame.len() - self.cut as usize]
    }
}

/// A packet with its pool, for the edits of [`flow::packet`].
pub struct Edit<'a> {
    pub pool: &'a mut Pool,
    pub packet: &'a mut Packet,
}

impl Bytes for Edit<'_> {
    fn bytes(&self) -> &[u8] {
        self.packet.frame(self.pool)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.packet.frame_mut(self.pool)
    }

    fn push_front(&mut self, n: usize) -> bool {
        self.packet.push(self.pool, 0, n)
    }

    fn pull_front(&mut self, n: usize) {
        let n = n.min(self.packet.len as usize);
        self.packet.pull(self.pool, 0, n);
    }
}

/// Frees all packets of `packets`.
pub fn free_all(pool: &mut Pool, packets: &mut Vec<Packet>) {
    for packet in packets.drain(..) {
        packet.free(pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_and_go() {
        let mut pool = Pool::new(4);
        let frame: Vec<u8> = (0..60).collect();
        let mut packet = Packet::new(&mut pool, &frame, Offload::default(), Meta::received(1)).unwrap();
        assert!(packet.push(&mut pool, 12, 4));
        packet.frame_mut(&mut pool)[12..16].copy_from_slice(&[0x81, 0, 0, 5]);
        let expected: Vec<u8> = (0..12).chain([0x81, 0, 0, 5]).chain(12..60).collect();
        assert_eq!(packet.frame(&pool), &expected[..]);
        let copy = packet.duplicate(&mut pool).unwrap();
        assert!(packet.pull(&mut pool, 12, 4));
        assert_eq!(packet.frame(&pool), &frame[..]);
        assert_eq!(copy.frame(&pool), &expected[..]);
        for _ in 0..40 {
            assert!(packet.push(&mut pool, 0, 4));
        }
        assert_eq!((packet.len, &packet.frame(&pool)[160..]), (220, &frame[..]));
        assert!(!packet.push(&mut pool, 0, 129));
        packet.free(&mut pool);
        copy.free(&mut pool);
        assert_eq!(pool.available(), 4);
    }

    #[test]
    fn vnet_headers_survive() {
        let offload = Offload {
            needs_csum: true,
            csum_good: true,
            gso: 1,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(Offload::from_vnet(&offload.to_vnet(66)), offload);
        assert!(Offload::from_vnet(&Offload::default().to_vnet(0)).is_done());
    }
}
