//! Mirrors: copies of packets for those who watch.

use std::sync::Arc;

use flow::key::VLAN_CFI;

use super::ctx::Ctx;
use super::effect::Effect;
use super::snapshot::{Bundle, BundleId, Mirror};
use super::vlan::Tags;

impl Ctx<'_> {
    /// Mirrors a packet that came in.
    pub(super) fn mirror_ingress(&mut self) {
        if self.bridge.mirrors.is_empty() {
            return;
        }
        if let Some(bundle) = self.ingress().and_then(|ingress| ingress.bundle) {
            self.mirror(bundle, |mirror| &mirror.sources);
        }
    }

    /// Mirrors a packet that goes out.
    pub(super) fn mirror_egress(&mut self, bundle: &Bundle) {
        if !self.bridge.mirrors.is_empty() {
            self.mirror(bundle, |mirror| &mirror.destinations);
        }
    }

    /// To every mirror that selects `bundle` among `selected` and does not have the packet yet.
    fn mirror(&mut self, bundle: &Bundle, selected: fn(&Mirror) -> &Vec<BundleId>) {
        let outside = Tags::of(self.key);
        if !self.input_vid_ok(outside.0[0].vid, Some(bundle)) {
            return;
        }
        let tags = outside.inward(Some(bundle));
        let bridge = self.bridge;
        for (i, mirror) in bridge.mirrors.iter().enumerate() {
            let bit = 1u32.checked_shl(i as u32).unwrap_or(0);
            if bit == 0 || self.mirrors & bit != 0 || !selected(mirror).contains(&bundle.id) {
                continue;
            }
            if !self.mirror_selects(mirror, tags.0[0].vid) {
                continue;
            }
            self.mirrors |= bit | same_output(&bridge.mirrors, mirror);
            self.mirror_snaplen = mirror.snaplen;
            self.mirror_to(mirror, &tags);
            self.mirror_snaplen = 0;
            self.effect(Effect::Patch { tx: Some(Arc::clone(&mirror.counters)), rx: None });
        }
    }

    fn mirror_selects(&mut self, mirror: &Mirror, vid: u16) -> bool {
        if let Some(vlans) = &mirror.vlans {
            let tci = &mut self.wc.0.vlans[0].tci;
            *tci = (tci.get() | 0xfff | VLAN_CFI).into();
            if !vlans.contains(vid) {
                return false;
            }
        }
        let Some(filter) = &mirror.filter else { return true };
        self.wc.add(&flow::key::Mask(filter.mask.expand()));
        filter.matches(self.key)
    }

    fn mirror_to(&mut self, mirror: &Mirror, tags: &Tags) {
        let bridge = self.bridge;
        if let Some(bundle) = mirror.output.and_then(|id| bridge.bundle(id)) {
            self.output_normal(bundle, tags);
            return;
        }
        let reserved = self.key.dl_dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && self.key.dl_dst[5] & 0xf0 == 0;
        if let Some(vlan) = mirror.output_vlan.filter(|&vlan| vlan != tags.0[0].vid && !reserved) {
            let mut tags = *tags;
            tags.0[0].vid = vlan;
            for bundle in &bridge.bundles {
                if bundle.includes(&tags) && !bridge.is_mirror_output(bundle.id) {
                    self.output_normal(bundle, &tags);
                }
            }
        }
    }
}

/// Mirrors that would send to the same place.
fn same_output(mirrors: &[Mirror], mirror: &Mirror) -> u32 {
    let same = |other: &Mirror| (other.output, other.output_vlan) == (mirror.output, mirror.output_vlan);
    mirrors.iter().enumerate().filter(|(i, other)| *i < 32 && same(other)).map(|(i, _)| 1 << i).sum()
}
