//! IPFIX statistics of a bridge or of its collector sets. Spec: `NXST_IPFIX_BRIDGE`, `NXST_IPFIX_FLOW`.

use super::{Count, open, w};
use crate::error::OfError;
use crate::header::{Multipart, Raw};
use crate::wire::Put;

/// One exporter's statistics. All ones: not known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IpfixStats {
    pub total_flows: u64,
    pub current_flows: u64,
    pub packets: u64,
    pub ipv4_packets: u64,
    pub ipv6_packets: u64,
    pub error_packets: u64,
    pub ipv4_error_packets: u64,
    pub ipv6_error_packets: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    /// 0 for the bridge.
    pub collector_set_id: u32,
}

impl IpfixStats {
    /// The statistics of a reply; a bridge's has one entry.
    pub fn decode_reply(msg: &[u8]) -> Result<Vec<Self>, OfError> {
        let (_, _, mut body) = open(msg, &[Raw::NxstIpfixBridgeReply, Raw::NxstIpfixFlowReply])?;
        let mut list = Vec::new();
        while !body.is_empty() {
            list.push(Self {
                total_flows: body.u64()?,
                current_flows: body.u64()?,
                packets: body.u64()?,
                ipv4_packets: body.u64()?,
                ipv6_packets: body.u64()?,
                error_packets: body.u64()?,
                ipv4_error_packets: body.u64()?,
                ipv6_error_packets: body.u64()?,
                tx_packets: body.u64()?,
                tx_errors: body.u64()?,
                collector_set_id: body.u32()?,
            });
            body.skip(4)?;
        }
        Ok(list)
    }

    /// Adds the statistics to the replies to a request.
    pub fn push(&self, replies: &mut Multipart) {
        let mut entry = Vec::new();
        entry.u64(self.total_flows).u64(self.current_flows).u64(self.packets).u64(self.ipv4_packets);
        entry.u64(self.ipv6_packets).u64(self.error_packets).u64(self.ipv4_error_packets);
        entry.u64(self.ipv6_error_packets).u64(self.tx_packets).u64(self.tx_errors);
        entry.u32(self.collector_set_id).zeros(4);
        replies.push(&entry);
    }

    fn text(&self, indent: usize, out: &mut String) {
        let (flows, current, pkts) =
            (Count(self.total_flows), Count(self.current_flows), Count(self.packets));
        w!(out, "flows={flows}, current flows={current}, sampled pkts={pkts}, ");
        let (v4, v6, tx) = (Count(self.ipv4_packets), Count(self.ipv6_packets), Count(self.tx_packets));
        w!(out, "ipv4 ok={v4}, ipv6 ok={v6}, tx pkts={tx}\n");
        let (errs, v4, v6) =
            (Count(self.error_packets), Count(self.ipv4_error_packets), Count(self.ipv6_error_packets));
        w!(
            out,
            "{:indent$}pkts errs={errs}, ipv4 errs={v4}, ipv6 errs={v6}, tx errs={}\n",
            "",
            Count(self.tx_errors)
        );
    }

    /// Appends the text of a reply.
    pub fn reply_text(msg: &[u8], raw: Raw, out: &mut String) -> Result<(), OfError> {
        let list = Self::decode_reply(msg)?;
        if raw == Raw::NxstIpfixFlowReply {
            w!(out, " {} ids\n", list.len());
        }
        for stats in list {
            if raw == Raw::NxstIpfixFlowReply {
                w!(out, "  id {:>3}: ", stats.collector_set_id);
                stats.text(10, out);
            } else {
                out.push_str("\n  bridge ipfix: ");
                stats.text(16, out);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn replies_go_both_ways() {
        let stats =
            IpfixStats { total_flows: 1, tx_errors: 10, collector_set_id: 7, ..IpfixStats::default() };
        let mut replies = Multipart::new(Raw::NxstIpfixFlowReply, Version::V13, 1);
        stats.push(&mut replies);
        assert_eq!(IpfixStats::decode_reply(&replies.finish()[0]), Ok(vec![stats]));
    }
}
