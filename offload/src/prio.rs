//! Priorities of rules. The kernel looks at packets of one EtherType priority by priority, and all rules of one have the same mask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::tc::key::FlowerKey;

/// The first priority that is given out. Policers have the lowest, and OVS keeps some.
const FIRST: u16 = 5;
/// The last one. Those behind it are for questions to hardware.
pub const LAST: u16 = 64_999;
/// That of the rule behind all others of a chain.
pub const FLOOR: u16 = 65_535;

/// Which priority rules of a shape have. They are never given back: masks recur.
#[derive(Default)]
pub struct Priorities(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_shape: HashMap<(u16, FlowerKey), u16>,
    /// The highest that was given out.
    last: Option<u16>,
}

impl Priorities {
    /// The priority of rules of this EtherType and shape; `None` if there are no more.
    pub fn of(&self, protocol: u16, key: &FlowerKey) -> Option<u16> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = (protocol, key.shape());
        if let Some(prio) = known.by_shape.get(&shape) {
            return Some(*prio);
        }
        let next = known.last.map_or(FIRST, |last| last + 1);
        if next > LAST {
            return None;
        }
        known.last = Some(next);
        known.by_shape.insert(shape, next);
        Some(next)
    }

    /// Takes up the priority of a rule that is there already. Whether rules of its shape may have it.
    pub fn adopt(&self, protocol: u16, key: &FlowerKey, prio: u16) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shape = (protocol, key.shape());
        if let Some(there) = known.by_shape.get(&shape) {
            return *there == prio;
        }
        if !(FIRST..=LAST).contains(&prio) || known.by_shape.values().any(|there| *there == prio) {
            return false;
        }
        known.last = known.last.max(Some(prio));
        known.by_shape.insert(shape, prio);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tc::key::KeyField;

    #[test]
    fn rules_of_one_shape_have_one_priority() {
        let priorities = Priorities::default();
        let key = |field, value: u16| {
            let mut key = FlowerKey::default();
            key.set_exact(field, value);
            key
        };
        let of = |protocol, key| priorities.of(protocol, &key).unwrap();
        assert_eq!(of(0x800, key(KeyField::TcpDst, 1)), 5);
        assert_eq!(of(0x800, key(KeyField::TcpDst, 2)), 5);
        assert_eq!(of(0x800, key(KeyField::TcpSrc, 1)), 6);
        assert_eq!(of(0x86dd, key(KeyField::TcpDst, 1)), 7);
        assert_eq!(of(0x800, key(KeyField::TcpDst, 3)), 5);
        // A rule that was there before has its own, if no other shape has it.
        let adopt = |field, prio| priorities.adopt(0x800, &key(field, 9), prio);
        assert_eq!([4, 5, 9].map(|prio| adopt(KeyField::UdpDst, prio)), [false, false, true]);
        assert_eq!([5, 6].map(|prio| adopt(KeyField::TcpSrc, prio)), [false, true]);
        assert_eq!([KeyField::UdpDst, KeyField::UdpSrc].map(|field| of(0x800, key(field, 1))), [9, 10]);
    }
}
