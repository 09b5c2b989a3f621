//! Names for rows that do not have a UUID yet: `named-uuid` in a transaction, `@name` on a command line.

use std::collections::BTreeMap;
use std::fmt;

use crate::types::{BaseType, RefType};
use crate::value::Uuid;

/// Where new UUIDs come from.
pub type NewUuid = dyn FnMut() -> Uuid + Send;

/// One name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol {
    /// The UUID that it stands for.
    pub uuid: Uuid,
    /// An insertion has used it.
    pub created: bool,
    /// A strong reference uses it.
    pub strong_ref: bool,
    /// A weak reference uses it.
    pub weak_ref: bool,
}

/// The names seen so far.
pub struct Symbols {
    names: BTreeMap<String, Symbol>,
    new_uuid: Box<NewUuid>,
}

impl Symbols {
    /// No names yet; `new_uuid` gives the UUID for each.
    pub fn new(new_uuid: impl FnMut() -> Uuid + Send + 'static) -> Self {
        Self { names: BTreeMap::new(), new_uuid: Box::new(new_uuid) }
    }

    /// The symbol of `name`, made if it is new.
    pub fn entry(&mut self, name: &str) -> &mut Symbol {
        if !self.names.contains_key(name) {
            let uuid = (self.new_uuid)();
            let symbol = Symbol { uuid, created: false, strong_ref: false, weak_ref: false };
            self.names.insert(name.to_owned(), symbol);
        }
        self.names.get_mut(name).expect("inserted just above")
    }

    /// The UUID of `name`, noting what kind of reference `base` is.
    pub fn refer(&mut self, name: &str, base: &BaseType) -> Uuid {
        let symbol = self.entry(name);
        if let Some(reference) = base.reference() {
            match reference.kind {
                RefType::Strong => symbol.strong_ref = true,
                RefType::Weak => symbol.weak_ref = true,
            }
        }
        symbol.uuid
    }

    /// The symbol of `name`, if it was seen.
    pub fn get(&self, name: &str) -> Option<&Symbol> {
        self.names.get(name)
    }

    /// All names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.names.iter().map(|(name, symbol)| (name.as_str(), symbol))
    }

    /// A UUID that no name stands for.
    pub fn fresh(&mut self) -> Uuid {
        (self.new_uuid)()
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.names).finish()
    }
}
