//! Flow mods.

use flow::id::OfPort;
use openflow::error::OfError;
use openflow::header::Header;
use openflow::msg::flow_mod::{FlowMod, Limits};

use super::{Outcome, Request, decode};

/// What flow mods may name.
const LIMITS: Limits = Limits { max_ports: OfPort::MAX, n_tables: 255 };

impl Request<'_> {
    /// Decodes a flow mod as the peer's flow format has it.
    pub(super) fn read_flow_mod(&mut self, msg: &[u8]) -> Result<FlowMod, OfError> {
        let protocol = self.peer()?.protocol;
        let lengths = self.lengths();
        FlowMod::decode(msg, protocol, LIMITS, &mut decode(&Header::peek(msg)?, &lengths, self.debug)?)
    }

    pub(super) fn flow_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        let request = self.read_flow_mod(msg)?;
        let by = self.requester(msg);
        self.switch.flow_mod(&request, by, self.now)?;
        let now = self.now;
        self.peer()?.mods.count(request.command, now);
        Ok(())
    }
}
