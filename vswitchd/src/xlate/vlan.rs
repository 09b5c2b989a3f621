//! VLAN tags as bundles see them: what a packet's VLAN is inside the bridge, and with what tags it leaves.

use flow::key::{Key, MAX_VLANS, VLAN_CFI};
use flow::proto::ethertype;

use super::ctx::Ctx;
use super::snapshot::{Bundle, PriorityTags, VlanMode};

const PCP: u16 = 0xe000;

/// One tag: all zero for none. The priority is in the high bits, as in a TCI.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tag {
    pub tpid: u16,
    pub vid: u16,
    pub pcp: u16,
}

/// A packet's tags, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tags(pub [Tag; MAX_VLANS]);

impl Tags {
    /// The tags of a key.
    pub fn of(key: &Key) -> Self {
        let mut tags = Self::default();
        for (tag, vlan) in tags.0.iter_mut().zip(&key.vlans) {
            let (tpid, tci) = (vlan.tpid.get(), vlan.tci.get());
            if !ethertype::is_vlan(tpid) || tci & VLAN_CFI == 0 {
                break;
            }
            *tag = Tag { tpid, vid: tci & 0xfff, pcp: tci & PCP };
        }
        tags
    }

    /// Gives a key these tags.
    pub fn put(&self, key: &mut Key, priority: PriorityTags) {
        for (tag, vlan) in self.0.iter().zip(&mut key.vlans) {
            let mut tci = tag.vid | (tag.pcp & PCP);
            if tci != 0 || (priority == PriorityTags::Always && tag.tpid != 0) {
                tci |= VLAN_CFI;
                vlan.tpid = if tag.tpid != 0 { tag.tpid } else { ethertype::VLAN }.into();
            }
            vlan.tci = tci.into();
        }
    }

    fn pop(&mut self) {
        self.0.copy_within(1.., 0);
        self.0[MAX_VLANS - 1] = Tag::default();
    }

    fn push(&mut self, tag: Tag) {
        self.0.copy_within(..MAX_VLANS - 1, 1);
        self.0[0] = tag;
    }

    /// The tags inside the bridge of a packet that came in by `bundle`.
    pub fn inward(&self, bundle: Option<&Bundle>) -> Self {
        let Some(bundle) = bundle else { return *self };
        let first = self.0[0];
        let vid = bundle.vlan.unwrap_or(0);
        let tagged =
            Tag { tpid: if first.tpid != 0 { first.tpid } else { ethertype::VLAN }, vid, pcp: first.pcp };
        let mut tags = *self;
        match bundle.mode {
            VlanMode::Access => tags = Self([tagged, Tag::default()]),
            VlanMode::NativeTagged | VlanMode::NativeUntagged if first.vid == 0 => tags.0[0] = tagged,
            VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => {}
            VlanMode::Dot1qTunnel => tags.push(Tag { tpid: bundle.qinq_ethtype, vid, pcp: 0 }),
        }
        tags
    }

    /// The tags with which a packet leaves by `bundle`.
    pub fn outward(&self, bundle: &Bundle) -> Self {
        let mut tags = *self;
        match bundle.mode {
            VlanMode::Access => tags = Self::default(),
            VlanMode::Trunk | VlanMode::NativeTagged => {}
            VlanMode::NativeUntagged if Some(self.0[0].vid) == bundle.vlan => tags.pop(),
            VlanMode::NativeUntagged => {}
            VlanMode::Dot1qTunnel => tags.pop(),
        }
        tags
    }
}

impl Bundle {
    fn trunks_vlan(&self, vid: u16) -> bool {
        self.mode != VlanMode::Access && self.trunks.as_ref().is_none_or(|set| set.contains(vid))
    }

    fn allows_cvlan(&self, vid: u16) -> bool {
        self.cvlans.as_ref().is_none_or(|set| set.contains(vid))
    }

    /// Whether packets with these tags inside the bridge are for the bundle.
    pub(super) fn includes(&self, tags: &Tags) -> bool {
        let [outer, inner] = tags.0;
        match self.mode {
            VlanMode::Access => self.vlan == Some(outer.vid) && inner.vid == 0,
            VlanMode::Trunk | VlanMode::NativeTagged | VlanMode::NativeUntagged => {
                self.trunks_vlan(outer.vid)
            }
            VlanMode::Dot1qTunnel => self.vlan == Some(outer.vid) && self.allows_cvlan(inner.vid),
        }
    }
}

impl Ctx<'_> {
    /// Whether a packet may come in by `bundle` with the outer VLAN `vid`.
    pub(super) fn input_vid_ok(&mut self, vid: u16, bundle: Option<&Bundle>) -> bool {
        let Some(bundle) = bundle else { return true };
        let name = &bundle.name;
        match bundle.mode {
            VlanMode::Access if vid != 0 => {
                let vlan = bundle.vlan.unwrap_or(0);
                self.error(format_args!(
                    "dropping VLAN {vid} tagged packet received on port {name} configured as VLAN {vlan} access port"
                ));
                false
            }
            VlanMode::Access => true,
            VlanMode::NativeTagged | VlanMode::NativeUntagged if vid == 0 => true,
            VlanMode::NativeTagged | VlanMode::NativeUntagged | VlanMode::Trunk => {
                let ok = bundle.trunks_vlan(vid);
                if !ok {
                    self.error(format_args!(
                        "dropping VLAN {vid} packet received on port {name} not configured for trunking VLAN {vid}"
                    ));
                }
                ok
            }
            VlanMode::Dot1qTunnel => {
                let ok = bundle.allows_cvlan(vid);
                if !ok {
                    self.error(format_args!(
                        "dropping VLAN {vid} packet received on dot1q-tunnel port {name} that excludes this VLAN"
                    ));
                }
                ok
            }
        }
    }
}
