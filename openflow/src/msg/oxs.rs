//! Statistics as type-length-values, OpenFlow 1.5's way. Spec: OpenFlow 1.5 section 7.2.4.

use super::Age;
use crate::error::OfError;
use crate::wire::{Put, Reader, pad8, set_u16};

const CLASS: u16 = 0x8002;
const DURATION: u8 = 0;
const IDLE_TIME: u8 = 1;
const FLOW_COUNT: u8 = 3;
const PACKET_COUNT: u8 = 4;
const BYTE_COUNT: u8 = 5;

/// The statistics that a message may tell; `None` for those that it does not.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Stats {
    pub age: Option<Age>,
    /// Seconds.
    pub idle: Option<u32>,
    pub packets: Option<u64>,
    pub bytes: Option<u64>,
    pub flows: Option<u32>,
}

impl Stats {
    /// Reads the list and its padding.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, OfError> {
        let bad_len = |_| OfError::BmcBadLen;
        let mut stats = Self::default();
        reader.skip(2).map_err(bad_len)?;
        let len = usize::from(reader.u16().map_err(bad_len)?).checked_sub(4).ok_or(OfError::BmcBadLen)?;
        let whole = reader.bytes((len + 4).next_multiple_of(8) - 4).map_err(bad_len)?;
        let mut list = Reader::new(&whole[..len]);
        while !list.is_empty() {
            stats.read_one(&mut list).map_err(bad_len)?;
        }
        Ok(stats)
    }

    fn read_one(&mut self, list: &mut Reader<'_>) -> Result<(), OfError> {
        let (class, field, len) = (list.u16()?, list.u8()? >> 1, list.u8()?);
        let mut value = list.sub(usize::from(len))?;
        match (class, field) {
            (CLASS, DURATION) => self.age = Some(Age::read(&mut value)?),
            (CLASS, IDLE_TIME) => self.idle = Some(value.u32()?),
            (CLASS, FLOW_COUNT) => self.flows = Some(value.u32()?),
            (CLASS, PACKET_COUNT) => self.packets = Some(value.u64()?),
            (CLASS, BYTE_COUNT) => self.bytes = Some(value.u64()?),
            _ => tracing::debug!(target: "ox_stat", "OXS list has unknown field {field} of class {class:#x}"),
        }
        Ok(())
    }

    /// Appends the list and its padding.
    pub fn put(&self, msg: &mut Vec<u8>) {
        let start = msg.len();
        let head = |msg: &mut Vec<u8>, field: u8, len: u8| {
            msg.u16(CLASS).u8(field << 1).u8(len);
        };
        msg.zeros(4);
        if let Some(age) = self.age {
            head(msg, DURATION, 8);
            age.put(msg);
        }
        if let Some(idle) = self.idle {
            head(msg, IDLE_TIME, 8);
            msg.u32(idle).u32(0);
        }
        if let Some(packets) = self.packets {
            head(msg, PACKET_COUNT, 8);
            msg.u64(packets);
        }
        if let Some(bytes) = self.bytes {
            head(msg, BYTE_COUNT, 8);
            msg.u64(bytes);
        }
        if let Some(flows) = self.flows {
            head(msg, FLOW_COUNT, 4);
            msg.u32(flows);
        }
        let len = u16::try_from(msg.len() - start).unwrap_or(u16::MAX);
        set_u16(msg, start + 2, len);
        pad8(msg, start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statistics_go_both_ways() {
        let stats = Stats { packets: Some(2), bytes: Some(128), flows: Some(3), ..Stats::default() };
        let mut msg = Vec::new();
        stats.put(&mut msg);
        assert_eq!(msg.len() % 8, 0);
        assert_eq!(Stats::read(&mut Reader::new(&msg)), Ok(stats));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(msg in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Stats::read(&mut Reader::new(&msg));
        }
    }
}
