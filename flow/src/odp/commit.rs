//! What makes a packet of one key into a packet of another, as actions.
//!
//! Translation changes a key at will and commits the difference before it outputs. What an action sets becomes
//! significant in the mask: the datapath's action sets whole fields, and which bits were there decides the result.

use super::attrs::*;
use super::rows::{self, Shape};
use super::{convert, tunnel};
use crate::action::Action;
use crate::cookie::SlowReasons;
use crate::key::{Key, Mask};
use crate::proto::{PT_ETH, PT_NS_ETHERTYPE, ethertype, ip, pt_of_ethertype};
use crate::stack;
use smallvec::SmallVec;
use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What translation has decided and only an action can bring about.
#[derive(Clone, Copy, Default)]
pub struct Pending<'a> {
    /// A header was pushed (`encap`).
    pub encap: bool,
    /// A header was popped (`decap`).
    pub decap: bool,
    /// TLVs of a pushed NSH header of MD type 2.
    pub encap_data: Option<&'a [u8]>,
}

/// Appends to `actions` what turns `base` into `key`, and makes `base` so. Returns why the result needs the slow path,
/// if it does: no datapath sets ARP or ICMP fields.
///
/// `masked_set` says whether the datapath can set some bits of an attribute only. Tunnels are not committed here
/// ([`commit_tunnel`]).
pub fn commit(
    key: &Key,
    base: &mut Key,
    mask: &mut Mask,
    actions: &mut Vec<Action>,
    masked_set: bool,
    pending: Pending<'_>,
) -> SlowReasons {
    if !pending.encap && !pending.decap && is_committed(key, base) {
        mask.0.packet_type = U32::MAX_VALUE;
        return SlowReasons::empty();
    }
    Committer { key, base, mask, actions, masked_set }.all(&pending)
}

/// Whether two keys are equal in all that is committed here.
fn is_committed(key: &Key, base: &Key) -> bool {
    let metadata = |key: &Key| (key.packet_type, key.skb_priority, key.pkt_mark);
    let l2 = Key::SEGMENTS[0];
    metadata(key) == metadata(base) && key.words()[l2..] == base.words()[l2..]
}

/// Appends a `set(tunnel(…))` if `key` has a tunnel destination and its tunnel differs from `base`'s, which it then
/// becomes. Only options that fit `kind` are set if it is given.
pub fn commit_tunnel(key: &Key, base: &mut Key, actions: &mut Vec<Action>, kind: Option<&str>) {
    let t = &key.tunnel;
    let has_destination = t.ip_dst.get() != 0 || t.ipv6_dst != [0; 16];
    if has_destination && base.tunnel != *t {
        base.tunnel = *t;
        actions.push(set_tunnel(key, kind));
    }
}

/// The action that sets the tunnel of `key`.
pub fn set_tunnel(key: &Key, kind: Option<&str>) -> Action {
    let attrs: Vec<tunnel::TunnelAttr> = convert::tunnel_to_attrs(&key.tunnel, &key.tunnel, kind);
    Action::Set(KeyAttr::Tunnel(attrs))
}

struct Committer<'a> {
    key: &'a Key,
    base: &'a mut Key,
    mask: &'a mut Mask,
    actions: &'a mut Vec<Action>,
    masked_set: bool,
}

/// A structure of an attribute, as bytes.
trait Fields: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {}
impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Copy> Fields for T {}

/// Where the fields of attribute `code` of `len` bytes lie.
fn spans(code: u16, len: usize) -> SmallVec<[std::ops::Range<usize>; 8]> {
    match rows::find(code).map(|row| row.shape) {
        Some(Shape::Parts(parts)) => parts.iter().map(|part| part.at..part.at + part.codec.width()).collect(),
        _ => std::iter::once(0..len).collect(),
    }
}

fn bitwise<T: Fields>(a: &T, b: &T, op: impl Fn(u8, u8) -> u8) -> T {
    let mut result = *a;
    for (byte, other) in result.as_mut_bytes().iter_mut().zip(b.as_bytes()) {
        *byte = op(*byte, *other);
    }
    result
}

impl Committer<'_> {
    fn all(&mut self, pending: &Pending<'_>) -> SlowReasons {
        self.encap_decap(pending);
        self.ethernet();
        // A packet must be without labels before what is above them can be set.
        let labeled = |key: &Key| ethertype::is_mpls(key.dl_type.get());
        let unlabel = labeled(self.base) && !labeled(self.key);
        if unlabel {
            self.mpls(false);
        }
        self.nsh();
        let mut slow = self.network();
        self.ports();
        slow |= self.icmp();
        if !unlabel {
            self.mpls(false);
        }
        self.vlans();
        self.priority();
        self.mark();
        slow
    }

    /// Sets the attribute that `wrap` makes if `key` differs from `base`. Returns the mask of what is significant by
    /// that; `None` if nothing was set.
    fn set<T: Fields>(
        &mut self,
        wrap: impl Fn(T) -> KeyAttr,
        (key, base, mask): (T, T, T),
        masked_set: bool,
    ) -> Option<T> {
        if key.as_bytes() == base.as_bytes() {
            return None;
        }
        let code = wrap(key).code();
        let mut needed = mask;
        let mut differs = false;
        for span in spans(code, size_of::<T>()) {
            if key.as_bytes()[span.clone()] == base.as_bytes()[span.clone()] {
                needed.as_mut_bytes()[span].fill(0);
            } else {
                differs = true;
            }
        }
        if !differs {
            return None;
        }
        let exact = rows::is_exact(code, needed.as_bytes());
        if masked_set && !exact {
            let value = bitwise(&key, &needed, |value, mask| value & mask);
            self.actions.push(Action::SetMasked(wrap(value), wrap(needed)));
        } else {
            if !exact {
                needed.as_mut_bytes().fill(0xff);
            }
            self.actions.push(Action::Set(wrap(key)));
        }
        Some(needed)
    }

    /// As [`Committer::set`] for fields that `get` and `put` move between keys and structures.
    fn field<T: Fields>(
        &mut self,
        wrap: impl Fn(T) -> KeyAttr,
        get: impl Fn(&Key) -> T,
        put: impl Fn(&T, &mut Key),
        masked_set: bool,
    ) -> bool {
        let (key, original) = (get(self.key), get(&self.mask.0));
        let Some(needed) = self.set(wrap, (key, get(self.base), original), masked_set) else { return false };
        put(&key, self.base);
        put(&bitwise(&needed, &original, |a, b| a | b), &mut self.mask.0);
        true
    }

    fn encap_decap(&mut self, pending: &Pending<'_>) {
        let (key_type, base_type) = (self.key.packet_type.get(), self.base.packet_type.get());
        if pending.encap {
            self.encap(key_type, pending);
        } else if !pending.decap && key_type == PT_ETH && base_type >> 16 == PT_NS_ETHERTYPE {
            // An output took the packet's Ethernet header off, and the next one wants it.
            (self.mask.0.dl_src, self.mask.0.dl_dst) = ([0xff; 6], [0xff; 6]);
            self.push_eth();
        } else if pending.decap || key_type != base_type {
            if key_type >> 16 == PT_NS_ETHERTYPE && base_type == PT_ETH {
                self.actions.push(Action::PopEth);
                self.base.packet_type = self.key.packet_type;
                (self.base.dl_src, self.base.dl_dst) = Default::default();
            } else if base_type == pt_of_ethertype(ethertype::NSH) {
                // What is within needs a new look at the packet: the base stays as it is.
                self.actions.push(Action::PopNsh);
            } else if is_mpls_type(base_type) {
                self.mpls(false);
            }
        }
        self.mask.0.packet_type = U32::MAX_VALUE;
    }

    fn encap(&mut self, key_type: u32, pending: &Pending<'_>) {
        if key_type == PT_ETH {
            self.push_eth();
        } else if key_type == pt_of_ethertype(ethertype::NSH) {
            let mut nsh = convert::nsh(self.key, false);
            if self.key.nsh.mdtype == 2 {
                nsh.md2 = pending.encap_data.filter(|data| !data.is_empty()).map(<[u8]>::to_vec);
            }
            self.actions.push(Action::PushNsh(nsh));
            self.base.packet_type = self.key.packet_type;
            let l2 = Key::SEGMENTS[0];
            self.base.words_mut()[l2..].copy_from_slice(&self.key.words()[l2..]);
        } else if is_mpls_type(key_type) {
            self.mpls(true);
        }
    }

    fn push_eth(&mut self) {
        self.actions.push(Action::PushEth { src: self.key.dl_src, dst: self.key.dl_dst });
        self.base.packet_type = self.key.packet_type;
        (self.base.dl_src, self.base.dl_dst) = (self.key.dl_src, self.key.dl_dst);
    }

    fn ethernet(&mut self) {
        if self.key.packet_type.get() == PT_ETH && self.base.packet_type.get() == PT_ETH {
            self.field(KeyAttr::Ethernet, convert::ethernet, convert::put_ethernet, self.masked_set);
        }
    }

    fn nsh(&mut self) {
        if self.key.dl_type.get() != ethertype::NSH || self.key.nsh.as_bytes() == self.base.nsh.as_bytes() {
            return;
        }
        let mask = self.mask.0.nsh;
        let exact = mask.as_bytes().iter().all(|&byte| byte == 0xff);
        if self.masked_set && !exact {
            self.set_nsh_masked();
        } else {
            self.mask.0.nsh.as_mut_bytes().fill(0xff);
            self.actions.push(Action::Set(KeyAttr::Nsh(convert::nsh(self.key, false))));
        }
        self.base.nsh = self.key.nsh;
    }

    fn set_nsh_masked(&mut self) {
        let (key, mask) = (&self.key.nsh, &self.mask.0.nsh);
        // MD type and next protocol cannot be set.
        let base_mask =
            NshBase { flags: mask.flags, ttl: mask.ttl, mdtype: 0, np: 0, path_hdr: mask.path_hdr };
        let base = NshBase { flags: key.flags, ttl: key.ttl, mdtype: 0, np: 0, path_hdr: key.path_hdr };
        let (mut value, mut masks) = (NshKey::default(), NshKey::default());
        if base_mask != NshBase::default() {
            value.base = Some(bitwise(&base, &base_mask, |value, mask| value & mask));
            masks.base = Some(base_mask);
        }
        if key.mdtype == 1 && mask.context != [U32::ZERO; 4] {
            value.md1 = Some(bitwise(&key.context, &mask.context, |value, mask| value & mask));
            masks.md1 = Some(mask.context);
        }
        self.actions.push(Action::SetMasked(KeyAttr::Nsh(value), KeyAttr::Nsh(masks)));
    }

    fn network(&mut self) -> SlowReasons {
        if self.key.nw_proto == 0 {
            return SlowReasons::empty();
        }
        match self.base.dl_type.get() {
            ethertype::IPV4 => self.ipv4(),
            ethertype::IPV6 => {
                self.ipv6();
                if self.base.nw_proto == ip::ICMPV6 {
                    return self.neighbor_discovery();
                }
            }
            ethertype::ARP => return slow(self.field(KeyAttr::Arp, convert::arp, convert::put_arp, true)),
            _ => {}
        }
        SlowReasons::empty()
    }

    /// Whether the congestion bits are left to the tunnel that the packet came by.
    fn keeps_ecn(&self) -> bool {
        let t = &self.base.tunnel;
        let tunneled = t.ip_dst.get() != 0 || t.ipv6_dst != [0; 16];
        tunneled && (self.base.nw_tos ^ self.key.nw_tos) & 3 == 0
    }

    fn ipv4(&mut self) {
        let (key, original) = (convert::ipv4(self.key, false), convert::ipv4(&self.mask.0, true));
        let mut settable = Ipv4Key { proto: 0, frag: 0, ..original };
        if self.keeps_ecn() {
            settable.tos &= !3;
        }
        let base = convert::ipv4(self.base, false);
        if let Some(needed) = self.set(KeyAttr::Ipv4, (key, base, settable), self.masked_set) {
            convert::put_ipv4(&key, self.base);
            let mask = bitwise(&needed, &original, |a, b| a | b);
            convert::put_ipv4(&mask, &mut self.mask.0);
            self.mask.0.nw_frag = convert::frag_from_odp(mask.frag, true).unwrap_or_default();
        }
    }

    fn ipv6(&mut self) {
        let (key, original) = (convert::ipv6(self.key, false), convert::ipv6(&self.mask.0, true));
        let mut settable = Ipv6Key { proto: 0, frag: 0, ..original };
        settable.label = U32::new(settable.label.get() & 0xf_ffff);
        if self.keeps_ecn() {
            settable.tclass &= !3;
        }
        let base = convert::ipv6(self.base, false);
        if let Some(needed) = self.set(KeyAttr::Ipv6, (key, base, settable), self.masked_set) {
            convert::put_ipv6(&key, self.base);
            let mask = bitwise(&needed, &original, |a, b| a | b);
            convert::put_ipv6(&mask, &mut self.mask.0);
            self.mask.0.nw_frag = convert::frag_from_odp(mask.frag, true).unwrap_or_default();
        }
    }

    fn neighbor_discovery(&mut self) -> SlowReasons {
        let extended = self.field(KeyAttr::NdExt, convert::nd_ext, convert::put_nd_ext, self.masked_set);
        let plain = self.field(KeyAttr::Nd, convert::nd, convert::put_nd, self.masked_set);
        slow(extended || plain)
    }

    fn ports(&mut self) {
        let wrap = match self.key.nw_proto {
            ip::TCP => KeyAttr::Tcp,
            ip::UDP => KeyAttr::Udp,
            ip::SCTP => KeyAttr::Sctp,
            _ => return,
        };
        if ethertype::is_ip(self.base.dl_type.get()) {
            self.field(wrap, convert::ports, convert::put_ports, self.masked_set);
        }
    }

    fn icmp(&mut self) -> SlowReasons {
        let wrap = match (crate::field::dl_type(self.key), self.key.nw_proto) {
            (ethertype::IPV4, ip::ICMP) => KeyAttr::Icmp,
            (ethertype::IPV6, ip::ICMPV6) => KeyAttr::Icmpv6,
            _ => return SlowReasons::empty(),
        };
        slow(self.field(wrap, convert::icmp, convert::put_icmp, false))
    }

    fn mpls(&mut self, pending_encap: bool) {
        let mut base_count = stack::labels(self.base, None);
        let key_count = stack::labels(self.key, None);
        let mut common = stack::common_labels(self.key, key_count, self.base, base_count, None);
        while base_count > common {
            if base_count - 1 == common && key_count > common {
                // One label too many in the base and one missing: the top one is changed in place.
                let lse =
                    key_count.checked_sub(base_count).map_or(U32::ZERO, |place| self.key.mpls_lse[place]);
                self.actions.push(Action::Set(KeyAttr::Mpls(vec![lse])));
                self.base.mpls_lse[0] = lse;
                common += 1;
                continue;
            }
            let dl_type = self.key.dl_type.get();
            let within =
                if !ethertype::is_mpls(dl_type) && base_count > 1 { ethertype::MPLS } else { dl_type };
            self.actions.push(Action::PopMpls(U16::new(within)));
            stack::pop_label(self.base, base_count, dl_type, None);
            base_count -= 1;
        }
        while base_count < key_count {
            let (lse, ethertype) = (self.key.mpls_lse[key_count - base_count - 1], self.key.dl_type);
            self.actions.push(if pending_encap {
                Action::AddMpls { lse, ethertype, flags: 0 }
            } else {
                Action::PushMpls { lse, ethertype }
            });
            stack::push_label(self.base, base_count, ethertype.get(), None, false);
            self.base.mpls_lse[0] = lse;
            base_count += 1;
        }
    }

    fn vlans(&mut self) {
        let (mut base_count, mut key_count) = (stack::vlans(self.base), stack::vlans(self.key));
        while base_count > 0
            && key_count > 0
            && self.base.vlans[base_count - 1] == self.key.vlans[key_count - 1]
        {
            base_count -= 1;
            key_count -= 1;
        }
        for place in (0..base_count).rev() {
            self.actions.push(Action::PopVlan);
            let mask = &mut self.mask.0.vlans[place];
            (mask.tpid, mask.tci) = (U16::MAX_VALUE, U16::MAX_VALUE);
        }
        for place in (0..key_count).rev() {
            self.actions.push(Action::PushVlan(self.key.vlans[place]));
        }
        self.base.vlans = self.key.vlans;
    }

    fn priority(&mut self) {
        let get = |key: &Key| key.skb_priority;
        self.field(KeyAttr::Priority, get, |value, key| key.skb_priority = *value, self.masked_set);
    }

    fn mark(&mut self) {
        self.field(KeyAttr::SkbMark, |key| key.pkt_mark, |value, key| key.pkt_mark = *value, self.masked_set);
    }
}

fn is_mpls_type(packet_type: u32) -> bool {
    packet_type == pt_of_ethertype(ethertype::MPLS) || packet_type == pt_of_ethertype(ethertype::MPLS_MCAST)
}

fn slow(changed: bool) -> SlowReasons {
    if changed { SlowReasons::ACTION } else { SlowReasons::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::MAX_VLANS;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Keys that are as good as equal come to no action, the long way too.
        #[test]
        fn nothing_to_do_is_seen_at_once(
            bytes in prop::collection::vec(any::<u8>(), size_of::<Key>()),
            dl_type in prop::sample::select(vec![0x800, 0x86dd, 0x806, 0x8847, 0x894f, 0x1234_u16]),
            packet_type in prop::sample::select(vec![PT_ETH, 0x1_0800, 0x1_894f]),
            nw_proto in prop::sample::select(vec![0, ip::TCP, ip::UDP, ip::ICMP, ip::ICMPV6]),
            wild in any::<bool>(),
        ) {
            let mut key = Key::read_from_bytes(&bytes).unwrap();
            (key.dl_type, key.packet_type, key.nw_proto) = (dl_type.into(), packet_type.into(), nw_proto);
            key.vlans = [Default::default(); MAX_VLANS];
            let mut base = Key { metadata: 1.into(), in_port: 2, ct_mark: 3, ..key };
            base.regs[7] = 4;
            base.tunnel.tos = 5;
            let wc = if wild { Mask::default() } else { Mask::exact() };
            let (mut short, mut long) = (wc, wc);
            let (mut actions, mut before) = (Vec::new(), base);
            prop_assert!(is_committed(&key, &base));
            let slow = commit(&key, &mut base, &mut short, &mut actions, true, Pending::default());
            let committer =
                &mut Committer { key: &key, base: &mut before, mask: &mut long, actions: &mut actions, masked_set: true };
            prop_assert_eq!(slow, committer.all(&Pending::default()));
            prop_assert!(short == long && base == before && actions.is_empty());
        }
    }
}
