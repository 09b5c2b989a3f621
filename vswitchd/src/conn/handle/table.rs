//! Table mods, and what is told of tables.

use flow::id::TableId;
use openflow::error::OfError;
use openflow::header::{Header, Multipart};
use openflow::msg::table::TableMod;
use openflow::msg::table_features::{TableFeatures, TableStats};
use openflow::version::Version;

use super::{Outcome, Request};

impl Request<'_> {
    pub(super) fn table_mod(&mut self, msg: &[u8]) -> Outcome {
        self.not_secondary()?;
        self.switch.table_mod(&TableMod::decode(msg)?)
    }

    pub(super) fn table_stats(&mut self, header: &Header) -> Outcome {
        let (mut replies, version) = (Multipart::reply_to(header)?, header.version()?);
        // Features take long to say; from OpenFlow 1.3 on, they are not said here.
        let alike = self.switch.table_features(TableId(0));
        for told in self.switch.table_stats() {
            let stats = TableStats {
                table_id: told.table,
                active_count: told.active,
                lookup_count: told.lookups,
                matched_count: told.matched,
            };
            if version >= Version::V13 {
                stats.push(&alike, &mut replies);
            } else {
                stats.push(&self.switch.table_features(told.table), &mut replies);
            }
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn table_descs(&mut self, header: &Header) -> Outcome {
        let mut replies = Multipart::reply_to(header)?;
        for table in self.switch.visible_tables() {
            self.switch.table_desc(table).push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }

    pub(super) fn table_features(&mut self, parts: &[Vec<u8>]) -> Outcome {
        let Some(last) = parts.last() else { return Ok(()) };
        let (header, body) = Header::parse(last)?;
        if parts.len() > 1 || !body.is_empty() {
            let mut wanted = Vec::new();
            for part in parts {
                let (mut list, result) = TableFeatures::decode_all(part, false);
                wanted.append(&mut list);
                if let Err(error) = result {
                    self.refuse(part, error);
                    return Ok(());
                }
            }
            if wanted.iter().any(|table| table.table_id == TableId(0xff)) {
                return Err(OfError::TffcBadTable);
            }
            self.switch.change_table_features(&wanted)?;
        }
        let mut replies = Multipart::reply_to(&header)?;
        for features in self.switch.all_table_features() {
            features.push(&mut replies);
        }
        self.replies(replies.finish());
        Ok(())
    }
}
