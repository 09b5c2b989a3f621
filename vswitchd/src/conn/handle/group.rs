//! Group mods, and what is told of groups.

use openflow::header::{Header, Multipart};
use openflow::msg::all_action_bits;
use openflow::msg::group::{self, GroupFeatures, GroupMod};

use super::{Outcome, Request};

impl Request<'_> {
    pub(super) fn group_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let request = GroupMod::decode(msg)?;
        let by = self.requester(msg);
        self.switch.group_mod(request, by, self.now)
    }

    pub(super) fn group_stats(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = group::decode_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for stats in self.switch.group_stats(wanted, self.now) {
            stats.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn group_descs(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let wanted = group::decode_request(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for desc in self.switch.group_descs(wanted) {
            desc.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn group_features(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let actions = [all_action_bits(header.version()?); 4];
        let reply = GroupFeatures { actions, ..self.switch.group_features() }.encode_reply(msg)?;
        self.reply(reply);
        Ok(())
    }
}
