//! The commands on bridges: `bridge/dump-flows`. What they do; the table of commands calls it.

use flow::time::Instant;

use super::Bridges;

impl Bridges {
    /// `bridge/dump-flows [--offload-stats] BRIDGE`: every flow, hidden ones too.
    ///
    /// # Errors
    ///
    /// If there is no such bridge.
    pub fn dump_flows(&self, args: &[String], now: Instant) -> Result<String, String> {
        let (name, options) = args.split_last().ok_or("Unknown bridge")?;
        let bridge = self.get(name).ok_or("Unknown bridge")?;
        let offload = options.iter().any(|option| option == "--offload-stats");
        Ok(bridge.ofproto.dump_flows(offload, now))
    }
}
