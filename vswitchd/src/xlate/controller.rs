//! Sending packets to controllers.

use flow::action::{Action, Userspace};
use flow::cookie::{CookieKind, UserCookie};
use flow::id::RecircId;
use flow::id::{DpMeter, OfPort};

use super::ctx::Ctx;

/// Why a packet goes to a controller (`OFPR_*` of OpenFlow 1.5).
pub mod reason {
    /// No matching flow (a table-miss flow says so by itself in later versions).
    pub const NO_MATCH: u8 = 0;
    pub const ACTION: u8 = 1;
    pub const INVALID_TTL: u8 = 2;
    pub const ACTION_SET: u8 = 3;
    pub const GROUP: u8 = 4;
    pub const PACKET_OUT: u8 = 5;
    /// By a table-miss flow: not on the wire before OpenFlow 1.3.
    pub const EXPLICIT_MISS: u8 = 6;
    /// A miss in OpenFlow 1.3's sense, by the switch's own rule.
    pub const IMPLICIT_MISS: u8 = 7;
}

impl Ctx<'_> {
    /// Sends the packet as it is now to the controllers of connection id `id`; `meter` of 0 is the controller meter.
    pub(super) fn controller(&mut self, max_len: u16, why: u8, id: u16, meter: u32, userdata: &[u8]) {
        self.commit();
        let explicit = why == reason::ACTION && self.rule.as_ref().is_some_and(|rule| rule.is_table_miss());
        let why = if explicit { reason::EXPLICIT_MISS } else { why };
        self.wc.unite();
        let frozen = self.frozen(self.table, Vec::new(), Vec::new(), userdata);
        let recirc = self.input.recirc.intern(frozen);
        let number = recirc.id();
        self.recircs.push(recirc);
        let dont_send = !self.input.side_effects && !self.input.caching;
        self.put_controller(dont_send, false, number, max_len, why, meter, id);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one cookie")]
    pub(super) fn put_controller(
        &mut self,
        dont_send: bool,
        continuation: bool,
        recirc_id: RecircId,
        max_len: u16,
        why: u8,
        meter: u32,
        controller_id: u16,
    ) {
        let cookie = UserCookie {
            in_port: OfPort::NONE,
            ofproto: self.bridge.id.0,
            kind: CookieKind::Controller {
                dont_send,
                continuation,
                reason: why.into(),
                recirc_id,
                rule_cookie: self.cookie,
                controller_id,
                max_len,
            },
        };
        let userspace = Action::Userspace(Userspace {
            pid: (self.input.pid)(self.odp_port(self.in_port())),
            userdata: Some(cookie.encode().to_vec()),
            egress_tun_port: None,
            actions: false,
        });
        let own = if meter == 0 { None } else { self.bridge.tables.meter(meter).map(|meter| meter.0) };
        match own.or(self.bridge.controller_meter) {
            Some(meter) => self.odp.push(Action::Sample {
                probability: u32::MAX,
                actions: vec![Action::Meter(DpMeter(meter)), userspace],
            }),
            None => self.odp.push(userspace),
        }
    }
}
