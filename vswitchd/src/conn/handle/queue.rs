//! What is told of queues.

use flow::id::OfPort;
use openflow::error::OfError;
use openflow::header::{Header, Multipart};
use openflow::msg::queue::{ALL_QUEUES, ConfigRequest, QueueConfig, QueueStats, StatsRequest};

use super::port::chosen;
use super::{Outcome, Request};

impl Request<'_> {
    /// The queues that a request means.
    fn queues(&self, port: OfPort, queue: u32) -> Result<Vec<QueueStats>, OfError> {
        let ports = chosen(self.switch, port);
        if ports.is_empty() && port != OfPort::NONE {
            return Err(OfError::QofcBadPort);
        }
        let (mut found, mut any) = (Vec::new(), queue == ALL_QUEUES && !ports.is_empty());
        for port in ports {
            let mut queues = self.outside.queues(port.desc.port_no, self.now);
            queues.retain(|stats| queue == ALL_QUEUES || stats.queue == queue);
            any |= !queues.is_empty();
            found.append(&mut queues);
        }
        if any { Ok(found) } else { Err(OfError::QofcBadQueue) }
    }

    pub(super) fn queue_stats(&mut self, msg: &[u8], header: &Header) -> Outcome {
        let StatsRequest { port, queue } = StatsRequest::decode(msg)?;
        let mut replies = Multipart::reply_to(header)?;
        for stats in self.queues(port, queue)? {
            stats.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn queue_config(&mut self, msg: &[u8]) -> Outcome {
        let ConfigRequest { port, queue } = ConfigRequest::decode(msg)?;
        let queues = self.queues(port, queue)?;
        let config = |stats: &QueueStats| QueueConfig {
            port: stats.port,
            queue: stats.queue,
            min_rate: None,
            max_rate: None,
        };
        let replies = QueueConfig::encode_reply(&queues.iter().map(config).collect::<Vec<_>>(), msg)?;
        self.replies(replies);
        Ok(())
    }
}
