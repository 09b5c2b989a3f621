//! Port mods, and what is told of ports.

use flow::hash;
use flow::id::OfPort;
use openflow::header::{Header, Multipart};
use openflow::msg::Age;
use openflow::msg::port::{self, PortMod};
use openflow::msg::port_stats::{self, PortStats, Rfc2819};

use super::{Outcome, Request};
use crate::ofproto::Ofproto;
use crate::ofproto::port::Port;

impl Request<'_> {
    pub(super) fn port_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let request = PortMod::decode(msg, false)?;
        self.switch.check_port_mod(&request)?;
        let by = self.requester(msg);
        self.switch.finish_port_mod(&request, by);
        Ok(())
    }

    pub(super) fn port_stats(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = port_stats::decode_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for port in chosen(self.switch, wanted) {
            let (counters, custom) = self.outside.counters(port.desc.port_no);
            let age = Age::new(std::time::Duration::from_millis(
                self.now.millis().saturating_sub(port.created.millis()),
            ));
            let rfc2819 = Rfc2819::UNKNOWN;
            PortStats { port_no: port.desc.port_no, counters, rfc2819, custom, age }.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn port_descs(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = port::decode_desc_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for port in chosen(self.switch, wanted) {
            port::push_desc(&mut replies, &port.desc);
        }
        self.replies(replies.finish());
        Ok(())
    }
}

/// The port of that number, or all for [`OfPort::NONE`].
pub(super) fn chosen(switch: &Ofproto, wanted: OfPort) -> Vec<&Port> {
    match wanted {
        OfPort::NONE => hashed(switch),
        wanted => switch.port(wanted).into_iter().collect(),
    }
}

/// The ports in the order in which OVS tells of them: that of its hash table.
pub(super) fn hashed(switch: &Ofproto) -> Vec<&Port> {
    let mut all: Vec<_> = switch.ports().collect();
    let mut mask = all.len() / 2;
    for shift in [1, 2, 4, 8, 16] {
        mask |= mask >> shift;
    }
    mask |= (mask & 1) << 1;
    all.reverse();
    all.sort_by_key(|port| hash::int(port.desc.port_no.0.into(), 0) as usize & mask);
    all
}
