//! Hash functions: MurmurHash3's 32-bit step and Bob Jenkins's lookup3, and the hashes of flows built on them.
//!
//! Both algorithms are published (Appleby 2011, Jenkins 2006). Which fields go in, and in what order, is OVS's choice: the bucket of
//! a `select` group and the port of a `bundle` follow from these numbers.

use crate::key::{Key, MAX_VLANS, Mask, VLAN_CFI, frag};
use crate::proto::{self, ethertype, ip};
use zerocopy::IntoBytes;

/// One murmur step: mixes `data` into `hash`.
pub const fn add(hash: u32, data: u32) -> u32 {
    let data = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ data).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Two steps: the low half of `data`, then the high one.
pub const fn add64(hash: u32, data: u64) -> u32 {
    add(add(hash, data as u32), (data >> 32) as u32)
}

/// The last step: `last` is usually the number of bytes hashed.
pub const fn finish(hash: u32, last: u32) -> u32 {
    let hash = hash ^ last;
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Hashes 64-bit words.
pub fn words(words: impl IntoIterator<Item = u64>, basis: u32) -> u32 {
    let (hash, n) =
        words.into_iter().fold((basis, 0u32), |(hash, n), word| (add64(hash, word), n.wrapping_add(8)));
    finish(hash, n)
}

/// Hashes two 32-bit numbers.
pub const fn two(a: u32, b: u32) -> u32 {
    finish(add(add(a, 0), b), 8)
}

/// Hashes one number.
pub const fn int(x: u32, basis: u32) -> u32 {
    two(x, basis)
}

/// Hashes bytes, with the last word padded with zeros.
pub fn bytes(bytes: &[u8], basis: u32) -> u32 {
    let hash = bytes.chunks(4).fold(basis, |hash, chunk| add(hash, word(chunk)));
    finish(hash, bytes.len() as u32)
}

/// Up to four bytes in memory order, zero-padded.
fn word(chunk: &[u8]) -> u32 {
    let mut word = [0; 4];
    word[..chunk.len()].copy_from_slice(chunk);
    u32::from_ne_bytes(word)
}

/// Jenkins's lookup3 over bytes.
pub fn jhash(bytes: &[u8], basis: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32).wrapping_add(basis);
    let (mut a, mut b, mut c) = (start, start, start);
    for chunk in bytes.chunks(12) {
        let mut block = [0; 12];
        block[..chunk.len()].copy_from_slice(chunk);
        a = a.wrapping_add(word(&block[..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..]));
        (a, b, c) = if chunk.len() == 12 { jmix(a, b, c) } else { jfinal(a, b, c) };
    }
    c
}

fn jmix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for (r, s, t) in [(4, 6, 8), (16, 19, 4)] {
        a = a.wrapping_sub(c) ^ c.rotate_left(r);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(s);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(t);
        b = b.wrapping_add(a);
    }
    (a, b, c)
}

fn jfinal(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    let step = |x: u32, y: u32, r: u32| (x ^ y).wrapping_sub(y.rotate_left(r));
    c = step(c, b, 14);
    a = step(a, c, 11);
    b = step(b, a, 25);
    c = step(c, b, 16);
    a = step(a, c, 4);
    b = step(b, a, 14);
    c = step(c, b, 24);
    (a, b, c)
}

/// What a hash of a flow looks at (`NX_HASH_FIELDS_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum HashFields {
    EthSrc = 0,
    SymmetricL4 = 1,
    SymmetricL3L4 = 2,
    SymmetricL3L4Udp = 3,
    NwSrc = 4,
    NwDst = 5,
    SymmetricL3 = 6,
}

impl HashFields {
    /// Number and name of each.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::EthSrc, "eth_src"),
        (Self::SymmetricL4, "symmetric_l4"),
        (Self::SymmetricL3L4, "symmetric_l3l4"),
        (Self::SymmetricL3L4Udp, "symmetric_l3l4+udp"),
        (Self::NwSrc, "nw_src"),
        (Self::NwDst, "nw_dst"),
        (Self::SymmetricL3, "symmetric_l3"),
    ];

    /// The one with that number on the wire.
    pub fn from_wire(number: u16) -> Option<Self> {
        Self::ALL.iter().map(|row| row.0).find(|&fields| fields as u16 == number)
    }

    /// The one with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The name in action text.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Hashes the fields of `key`.
    pub fn hash(self, key: &Key, basis: u32) -> u32 {
        match (self, key.dl_type.get()) {
            (Self::EthSrc, _) => jhash(&key.dl_src, basis),
            (Self::SymmetricL4, _) => symmetric_l4(key, basis),
            (Self::SymmetricL3L4, _) => symmetric_l3l4(key, basis, false),
            (Self::SymmetricL3L4Udp, _) => symmetric_l3l4(key, basis, true),
            (Self::NwSrc, ethertype::IPV4) => jhash(key.nw_src.as_bytes(), basis),
            (Self::NwDst, ethertype::IPV4) => jhash(key.nw_dst.as_bytes(), basis),
            (Self::NwSrc, ethertype::IPV6) => jhash(&key.ipv6_src, basis),
            (Self::NwDst, ethertype::IPV6) => jhash(&key.ipv6_dst, basis),
            (Self::NwSrc | Self::NwDst, _) => basis,
            (Self::SymmetricL3, _) => symmetric_l3(key, basis),
        }
    }

    /// Makes what [`HashFields::hash`] looks at significant.
    pub fn mask(self, key: &Key, mask: &mut Mask) {
        let m = &mut mask.0;
        let dl_type = key.dl_type.get();
        let ports = |m: &mut Key| (m.tp_src, m.tp_dst) = (u16::MAX.into(), u16::MAX.into());
        let whole = key.nw_frag & frag::MASK == 0;
        match self {
            Self::EthSrc => m.dl_src = [0xff; 6],
            Self::SymmetricL4 => {
                (m.dl_src, m.dl_dst) = ([0xff; 6], [0xff; 6]);
                mask_addresses(dl_type, m);
                if ethertype::is_ip(crate::field::dl_type(key)) {
                    m.nw_proto = 0xff;
                    if key.nw_proto != ip::UDP {
                        unwildcard_ports(key, mask);
                    }
                }
                for vlan in &mut mask.0.vlans {
                    vlan.tci = (vlan.tci.get() | 0xfff | VLAN_CFI).into();
                }
            }
            Self::SymmetricL3L4 | Self::SymmetricL3L4Udp => {
                if !ethertype::is_ip(dl_type) {
                    return;
                }
                mask_addresses(dl_type, m);
                m.nw_proto = 0xff;
                let udp = self == Self::SymmetricL3L4Udp && key.nw_proto == ip::UDP;
                if whole && (matches!(key.nw_proto, ip::TCP | ip::SCTP) || udp) {
                    ports(m);
                }
            }
            Self::NwSrc if dl_type == ethertype::IPV4 => m.nw_src = u32::MAX.into(),
            Self::NwDst if dl_type == ethertype::IPV4 => m.nw_dst = u32::MAX.into(),
            Self::NwSrc if dl_type == ethertype::IPV6 => m.ipv6_src = [0xff; 16],
            Self::NwDst if dl_type == ethertype::IPV6 => m.ipv6_dst = [0xff; 16],
            Self::NwSrc | Self::NwDst => {}
            Self::SymmetricL3 => mask_addresses(dl_type, m),
        }
    }
}

fn mask_addresses(dl_type: u16, m: &mut Key) {
    match dl_type {
        ethertype::IPV4 => (m.nw_src, m.nw_dst) = (u32::MAX.into(), u32::MAX.into()),
        ethertype::IPV6 => (m.ipv6_src, m.ipv6_dst) = ([0xff; 16], [0xff; 16]),
        _ => {}
    }
}

/// Makes the transport ports significant; of an ICMPv4 type and code, the 8 bits that there are.
pub fn unwildcard_ports(key: &Key, mask: &mut Mask) {
    let bits = if key.nw_proto == ip::ICMP { 0xff } else { u16::MAX };
    (mask.0.tp_src, mask.0.tp_dst) = (bits.into(), bits.into());
}

fn xor<const N: usize>(a: [u8; N], b: [u8; N]) -> [u8; N] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

fn addresses_xor(key: &Key) -> [u8; 16] {
    let mut address = [0; 16];
    match key.dl_type.get() {
        ethertype::IPV4 => address[..4].copy_from_slice((key.nw_src ^ key.nw_dst).as_bytes()),
        ethertype::IPV6 => address = xor(key.ipv6_src, key.ipv6_dst),
        _ => {}
    }
    address
}

fn vids_xor(key: &Key) -> [u8; 2] {
    let vid = |i: usize| key.vlans[i].tci.get() & 0xfff;
    (0..MAX_VLANS).fold(0, |all, i| all ^ vid(i)).to_be_bytes()
}

/// Equal for both directions of a connection. UDP ports are left out: many protocols over it are not symmetric.
pub fn symmetric_l4(key: &Key, basis: u32) -> u32 {
    let mut fields = [0u8; 32];
    fields[..16].copy_from_slice(&addresses_xor(key));
    fields[16..18].copy_from_slice(key.dl_type.as_bytes());
    fields[18..20].copy_from_slice(&vids_xor(key));
    fields[22..28].copy_from_slice(&xor(key.dl_src, key.dl_dst));
    if ethertype::is_ip(key.dl_type.get()) {
        fields[28] = key.nw_proto;
        if matches!(key.nw_proto, ip::TCP | ip::SCTP) {
            fields[20..22].copy_from_slice((key.tp_src ^ key.tp_dst).as_bytes());
        }
    }
    jhash(&fields, basis)
}

fn symmetric_l3(key: &Key, basis: u32) -> u32 {
    let mut fields = [0u8; 20];
    fields[..16].copy_from_slice(&addresses_xor(key));
    fields[16..18].copy_from_slice(key.dl_type.as_bytes());
    jhash(&fields, basis)
}

/// Equal for both directions of an Ethernet conversation.
pub fn symmetric_l2(key: &Key, basis: u32) -> u32 {
    if key.packet_type.get() != proto::PT_ETH {
        return 0;
    }
    let mut fields = [0u8; 12];
    fields[..2].copy_from_slice(key.dl_type.as_bytes());
    fields[2..4].copy_from_slice(&vids_xor(key));
    fields[4..10].copy_from_slice(&xor(key.dl_src, key.dl_dst));
    finish(fields.chunks(4).fold(basis, |hash, chunk| add(hash, word(chunk))), basis)
}

/// Equal for both directions of a connection, from addresses, protocol and ports alone.
pub fn symmetric_l3l4(key: &Key, basis: u32, udp: bool) -> u32 {
    let address = addresses_xor(key);
    let mut hash = match key.dl_type.get() {
        ethertype::IPV4 => add(basis, word(&address[..4])),
        ethertype::IPV6 => address.chunks(4).fold(basis, |hash, chunk| add(hash, word(chunk))),
        _ => return symmetric_l2(key, basis),
    };
    hash = add(hash, u32::from(key.nw_proto));
    let ported = matches!(key.nw_proto, ip::TCP | ip::SCTP) || (udp && key.nw_proto == ip::UDP);
    if key.nw_frag & frag::MASK == 0 && ported {
        hash = add(hash, word((key.tp_src ^ key.tp_dst).as_bytes()));
    }
    finish(hash, basis)
}

/// What a datapath's `hash` action with this algorithm makes of packets with a key. 0 would say that there is no hash.
pub fn datapath(key: &Key, algorithm: u32, basis: u32) -> u32 {
    let hash = match algorithm {
        crate::action::hash_alg::SYM_L4 => symmetric_l3l4(key, basis, false),
        _ => five_tuple(key, basis),
    };
    hash.max(1)
}

/// A hash of the addresses, protocol and ports (`flow_hash_5tuple`); what the `dp_hash` of the datapath begins from.
pub fn five_tuple(key: &Key, basis: u32) -> u32 {
    let mut hash = basis;
    match key.dl_type.get() {
        ethertype::IPV6 => {
            for chunk in [key.ipv6_src, key.ipv6_dst].as_flattened().chunks(4) {
                hash = add(hash, word(chunk));
            }
        }
        ethertype::IPV4 | ethertype::ARP => {
            hash = add(hash, word(key.nw_src.as_bytes()));
            hash = add(hash, word(key.nw_dst.as_bytes()));
        }
        _ => return finish(hash, 42),
    }
    hash = add(hash, u32::from(key.nw_proto));
    if matches!(key.nw_proto, ip::TCP | ip::UDP | ip::SCTP | ip::ICMP | ip::ICMPV6) {
        hash = add(hash, word([key.tp_src, key.tp_dst].as_bytes()));
    }
    finish(hash, 42)
}

/// Hashes the significant bits of `key`.
pub fn in_mask(key: &Key, mask: &Mask, basis: u32) -> u32 {
    words(key.words().iter().zip(mask.0.words()).map(|(word, mask)| word & mask), basis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        // MurmurHash3_x86_32 of "test" with seed 0 (one whole word, so no tail differs).
        assert_eq!(bytes(b"test", 0), 0xba6b_d213);
        // lookup3 hashlittle("Four score and seven years ago", 30, 0) and with 1, from Jenkins's driver5.
        assert_eq!(jhash(b"Four score and seven years ago", 0), 0x1777_0551);
        assert_eq!(jhash(b"Four score and seven years ago", 1), 0xcd62_8161);
    }

    #[test]
    fn symmetric_hashes_are_symmetric() {
        let mut key = Key { nw_proto: ip::TCP, dl_src: [1; 6], dl_dst: [2; 6], ..Key::default() };
        key.dl_type = ethertype::IPV4.into();
        (key.nw_src, key.nw_dst) = (1.into(), 2.into());
        (key.tp_src, key.tp_dst) = (3.into(), 4.into());
        let mut back = key;
        (back.dl_src, back.dl_dst, back.nw_src, back.nw_dst) =
            (key.dl_dst, key.dl_src, key.nw_dst, key.nw_src);
        (back.tp_src, back.tp_dst) = (key.tp_dst, key.tp_src);
        for fields in [HashFields::SymmetricL4, HashFields::SymmetricL3L4, HashFields::SymmetricL3] {
            assert_eq!(fields.hash(&key, 7), fields.hash(&back, 7));
            assert_eq!(HashFields::from_name(fields.name()), Some(fields));
        }
    }
}
