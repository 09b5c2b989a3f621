//! Priorities of rules. The kernel looks at packets of one EtherType priority by priority, and all rules of one have the same mask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::tc::key::FlowerKey;

/// The first priority that is given out. Policers have the lowest, and OVS keeps some.
const FIRST: u16 = 5;

/// Which priority rules of a shape have. They are never given back: masks recur.
#[derive(Default)]
pub struct Priorities(Mutex<HashMap<(u16, FlowerKey), u16>>);

impl Priorities {
    /// The priority of rules of this EtherType and shape; `None` if there are no more.
    pub fn of(&self, protocol: u16, key: &FlowerKey) -> Option<u16> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = FIRST.checked_add(u16::try_from(known.len()).ok()?)?;
        Some(*known.entry((protocol, key.shape())).or_insert(next))
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
    }
}
