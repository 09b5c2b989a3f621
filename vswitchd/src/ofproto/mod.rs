//! One bridge as an OpenFlow switch: its tables, groups, meters and ports. Sans I/O: requests go in, events come out.
//!
//! In the order to read it:
//!
//! * [`version`]: how readers see a consistent table while the writer works.
//! * [`classifier`]: which rule a packet meets, and which of its bits decided that.
//! * [`rule`], [`group`]: what tables hold, and its counters.
//! * [`journal`]: what changed lately, and which packets that can concern.
//! * [`table`]: the tables as readers see them; translation begins here.
//! * [`switch`]: the one writer's side, [`Ofproto`]; [`book`] and [`evict`]: what it alone knows of a table.
//! * [`select`]: which rules a request means.
//! * [`flow_mod`], [`group_mod`], [`meter`], [`table_mod`], [`tlv`], [`bundle`], [`learn`]: changes.
//! * [`port`]: ports as OpenFlow numbers and describes them.
//! * [`stats`], [`monitor`], [`identity`], [`features`], [`answer`]: what requests are answered with.
//! * [`event`]: what controllers are told.

pub mod version;
pub mod classifier;
pub mod rule;
pub mod group;
pub mod journal;
pub mod table;
pub mod switch;
pub mod book;
pub mod evict;
pub mod select;
pub mod flow_mod;
pub mod group_mod;
pub mod meter;
pub mod table_mod;
pub mod tlv;
pub mod bundle;
pub mod learn;
pub mod port;
pub mod stats;
pub mod monitor;
pub mod identity;
pub mod features;
pub mod answer;
pub mod event;

pub use group::Group;
pub use rule::Rule;
pub use switch::Ofproto;
pub use switch::TableConfig;
pub use table::Tables;
pub use version::{Pin, Version};

#[cfg(test)]
mod tests;
