//! A vector of packets and what the lookup nodes find out about them, array by array.

use flow::key::Key;

use super::batch::Packet;

/// What tells one packet's flow from another's, for the commonest packets: no more than one cache line.
///
/// Equal fast keys mean equal full keys. Packets that do not fit (other protocols, fragments, extension headers, metadata other
/// than port and recirculation id) have none.
///
/// Words: 0 in_port (16), recirc_id (32), VLAN TCI (16); 1 shape (8), TOS (8), TTL (8), protocol (8), IPv6 label (20),
/// TCP flags (12); 2 and 3 Ethernet addresses, transport ports; 4 to 7 addresses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C, align(64))]
pub struct FastKey(pub [u64; 8]);

impl FastKey {
    /// A hash of all words: pairs multiplied to 128 bits and folded, which mixes every bit into every other.
    #[inline]
    pub fn hash(&self) -> u32 {
        const SEEDS: [u64; 8] = [
            0xa076_1d64_78bd_642f,
            0xe703_7ed1_a0b4_28db,
            0x8ebc_6af0_9c88_c6e3,
            0x5899_65cc_7537_4cc3,
            0x1d8e_4e27_c47d_124f,
            0xeb44_acca_b455_d165,
            0x9e37_79b9_7f4a_7c15,
            0xc2b2_ae3d_27d4_eb4f,
        ];
        let w = &self.0;
        let mix = |a: usize| {
            let product = u128::from(w[a] ^ SEEDS[a]) * u128::from(w[a + 1] ^ SEEDS[a + 1]);
            (product as u64) ^ (product >> 64) as u64
        };
        let all = mix(0) ^ mix(2).rotate_left(17) ^ mix(4).rotate_left(31) ^ mix(6).rotate_left(47);
        let folded = u128::from(all) * 0x9fb2_1c65_1e98_df25;
        ((folded >> 64) as u64 ^ folded as u64) as u32
    }
}

/// [`Vector::found`] of a packet whose flow is not known yet.
pub const UNKNOWN: u32 = u32::MAX;
/// [`Vector::found`] of a packet that is dealt with: dropped, or its answer was executed.
pub const DONE: u32 = u32::MAX - 1;

/// A vector of packets.
#[derive(Default)]
pub struct Vector {
    pub packets: Vec<Packet>,
    /// By packet.
    pub keys: Vec<FastKey>,
    /// By packet; 0 says that it has no fast key.
    pub hashes: Vec<u32>,
    /// By packet: the slot of its flow, [`UNKNOWN`] or [`DONE`].
    pub found: Vec<u32>,
    /// TCP flags by packet, for the flow's statistics.
    pub tcp_flags: Vec<u16>,
    /// Packets that the cache did not know.
    pub missed: Vec<u16>,
    /// Full keys of the packets in `missed`, in its order.
    pub wide: Vec<Key>,
}

impl Vector {
    /// Makes the arrays as long as there are packets.
    pub fn prepare(&mut self) {
        let n = self.packets.len();
        self.keys.resize(n.max(self.keys.len()), FastKey::default());
        self.hashes.resize(n.max(self.hashes.len()), 0);
        self.tcp_flags.resize(n.max(self.tcp_flags.len()), 0);
        self.found.clear();
        self.found.resize(n, UNKNOWN);
        self.missed.clear();
        self.wide.clear();
    }
}
