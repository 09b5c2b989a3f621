//! What tracking said of a packet, as the packet carries it on.

use super::conn::Conn;
use super::key::{Key, number};
use ::flow::id::Zone;
use ::flow::key::Key as FlowKey;
use ::flow::proto::ct;
use std::net::IpAddr;
use std::sync::Arc;

/// Bits of `ct_state` that say that the packet was translated.
pub const NATTED: u8 = ct::SRC_NAT | ct::DST_NAT;

/// What flows match of tracking. Without bits in `state` nothing else means anything.
#[derive(Clone, Default, Debug)]
pub struct Tracked {
    /// Bits of [`ct`].
    pub state: u8,
    pub zone: Zone,
    pub mark: u32,
    /// Big-endian.
    pub label: u128,
    /// The original direction of the connection, or the packet's own key while there is none.
    pub orig: Option<Key>,
    /// The connection, for another `ct` in the same zone: that one does not count the packet again.
    pub known: Option<Known>,
}

/// A connection that a packet was found to belong to.
#[derive(Clone, Debug)]
pub struct Known {
    pub conn: Arc<Conn>,
    pub reply: bool,
    /// The packet is an error about one of the connection.
    pub related: bool,
}

impl Tracked {
    /// A packet without connection.
    pub fn unknown(state: u8, zone: Zone, own: Option<Key>) -> Self {
        Self { state: state | ct::TRACKED, zone, orig: own, ..Self::default() }
    }

    /// What a key says; `None` if nothing.
    pub fn of_key(key: &FlowKey) -> Option<Self> {
        if key.ct_state == 0 {
            return None;
        }
        let v6 = key.ct_ipv6_src != [0; 16] || key.ct_ipv6_dst != [0; 16];
        let (src, dst): (IpAddr, IpAddr) = if v6 {
            (key.ct_ipv6_src.into(), key.ct_ipv6_dst.into())
        } else {
            (key.ct_nw_src.get().to_be_bytes().into(), key.ct_nw_dst.get().to_be_bytes().into())
        };
        let mut orig = Key {
            src: number(src),
            dst: number(dst),
            src_l4: key.ct_tp_src.get().into(),
            dst_l4: key.ct_tp_dst.get().into(),
            zone: key.ct_zone,
            proto: key.ct_nw_proto,
            v6,
        };
        if orig.is_icmp() {
            // The id is nothing that flows match.
            let (kind, code) = (orig.src_l4 as u8, orig.dst_l4 as u8);
            (orig.src_l4, orig.dst_l4) = super::key::icmp_ends(v6, 0, kind, code).unwrap_or_default();
        }
        Some(Self {
            state: key.ct_state,
            zone: Zone(key.ct_zone),
            mark: key.ct_mark,
            label: u128::from_be_bytes(key.ct_label),
            orig: (orig.proto != 0).then_some(orig),
            known: None,
        })
    }

    /// Puts it into a key.
    pub fn write(&self, key: &mut FlowKey) {
        if self.state == 0 {
            return;
        }
        (key.ct_state, key.ct_zone, key.ct_mark) = (self.state, self.zone.0, self.mark);
        key.ct_label = self.label.to_be_bytes();
        let Some(orig) = &self.orig else { return };
        if orig.v6 {
            (key.ct_ipv6_src, key.ct_ipv6_dst) = (orig.src.to_be_bytes(), orig.dst.to_be_bytes());
        } else {
            (key.ct_nw_src, key.ct_nw_dst) = ((orig.src as u32).into(), (orig.dst as u32).into());
        }
        let (src, dst) = orig.matchable_l4();
        (key.ct_nw_proto, key.ct_tp_src, key.ct_tp_dst) = (orig.proto, src.into(), dst.into());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::frames::key;
    use super::*;

    #[test]
    fn keys_keep_it() {
        for orig in [key("10.0.0.1", 1, "", 2, 6), key("fc00::1", 1, "", 2, 17)] {
            let mut tracked = Tracked::unknown(ct::NEW, Zone(7), Some(Key { zone: 7, ..orig }));
            (tracked.mark, tracked.label) = (5, 1 << 100);
            let mut flow = FlowKey::default();
            tracked.write(&mut flow);
            let back = Tracked::of_key(&flow).unwrap();
            let metadata = ::flow::extract::Metadata::from_key(&flow);
            let six = matches!(metadata.ct_tuple, Some(::flow::extract::CtTuple::V6 { .. }));
            assert_eq!(six, orig.v6);
            assert_eq!((back.state, back.zone, back.mark), (ct::NEW | ct::TRACKED, Zone(7), 5));
            assert_eq!((back.label, back.orig), (tracked.label, tracked.orig));
        }
        assert!(Tracked::of_key(&FlowKey::default()).is_none());
    }
}
