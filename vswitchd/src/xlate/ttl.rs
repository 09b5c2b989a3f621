//! Actions that count a packet's hops down.

use openflow::action::DecTtl;

use super::controller::reason;
use super::ctx::Ctx;
use flow::proto::ethertype;

impl Ctx<'_> {
    /// True if the packet may not go on in this list of actions.
    pub(super) fn dec_ttl(&mut self, a: &DecTtl) -> bool {
        (self.wc.0.nw_ttl, self.wc.0.nw_proto) = (0xff, 0xff);
        if !self.is_ip() {
            return false;
        }
        if self.key.nw_ttl > 1 {
            self.key.nw_ttl -= 1;
            return false;
        }
        for &id in &a.ids {
            self.controller(u16::MAX, reason::INVALID_TTL, id, 0, &[]);
        }
        let version = if self.key.dl_type.get() == ethertype::IPV4 { 4 } else { 6 };
        self.warn(format_args!("IPv{version} decrement TTL exception"));
        true
    }

    /// True if the packet may not go on in this list of actions.
    pub(super) fn dec_mpls_ttl(&mut self) -> bool {
        if ethertype::is_mpls(self.key.dl_type.get()) {
            self.wc.0.mpls_lse[0] |= 0xff;
            let lse = self.key.mpls_lse[0].get();
            if lse & 0xff > 1 {
                self.key.mpls_lse[0] = (lse - 1).into();
                return false;
            }
            self.controller(u16::MAX, reason::INVALID_TTL, 0, 0, &[]);
        }
        self.warn("MPLS decrement TTL exception");
        true
    }

    /// True if the packet may not go on in this list of actions.
    pub(super) fn dec_nsh_ttl(&mut self) -> bool {
        if self.has_nsh() {
            self.wc.0.nsh.ttl = 0xff;
            if self.key.nsh.ttl > 1 {
                self.key.nsh.ttl -= 1;
                return false;
            }
            self.controller(u16::MAX, reason::INVALID_TTL, 0, 0, &[]);
        }
        self.warn("NSH decrement TTL exception");
        true
    }
}
