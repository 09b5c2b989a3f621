//! Statistics of flows. Dumps of many flows are sent piece by piece, as the peer takes them.

use std::sync::Arc;

use openflow::error::OfError;
use openflow::header::{Header, Multipart};
use openflow::msg::flow_stats::{AggregateStats, FlowStatsRequest};

use super::{Outcome, Request, decode};
use crate::ofproto::Rule;
use crate::ofproto::stats::aggregate;

/// Flows that are told in one go.
const PIECE: usize = 1000;

/// A dump of flows under way.
pub struct Dump {
    rules: std::vec::IntoIter<Arc<Rule>>,
    replies: Multipart,
}

impl Request<'_> {
    fn selected(&self, msg: &[u8], header: &Header) -> Result<Vec<Arc<Rule>>, OfError> {
        let lengths = self.lengths();
        let request = FlowStatsRequest::decode(msg, &mut decode(header, &lengths, self.debug)?)?;
        self.switch.requested_flows(&request)
    }

    pub(super) fn flow_stats(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let rules = self.selected(msg, header)?.into_iter();
        let replies = Multipart::reply_to(header)?;
        self.peer()?.dump = Some(Box::new(Dump { rules, replies }));
        Ok(())
    }

    pub(super) fn aggregate_stats(&mut self, msg: &[u8]) -> Outcome {
        let sum = aggregate(&self.selected(msg, &Header::peek(msg)?)?);
        let stats =
            AggregateStats { packet_count: sum.packets, byte_count: sum.bytes, flow_count: sum.flows };
        let reply = stats.encode_reply(msg)?;
        self.reply(reply);
        Ok(())
    }

    /// Goes on with a long answer. Gives whether there is none, or none any more.
    pub fn go_on(&mut self) -> bool {
        let now = self.now;
        let _matches = flow::tlv::enter(self.switch.tables().tlvs());
        loop {
            let link = self.link();
            let dead = link.rconn.vconn.as_ref().is_none_or(|vconn| vconn.is_ended());
            let Some(peer) = link.peer.as_deref_mut() else { return true };
            if dead {
                peer.dump = None;
            }
            let Some(mut dump) = peer.dump.take() else { return true };
            for rule in dump.rules.by_ref().take(PIECE) {
                rule.flow_stats(now).push(&mut dump.replies);
            }
            if dump.rules.len() == 0 {
                self.replies(dump.replies.finish());
                return true;
            }
            let full = dump.replies.take_full();
            peer.dump = Some(dump);
            self.replies(full);
            if !self.link().may_send() {
                return false;
            }
        }
    }
}
