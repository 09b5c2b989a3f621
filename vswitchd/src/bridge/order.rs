//! The order in which OVS goes over things that it keeps by name: that of its hash tables.
//!
//! Which port gets which number, and in which order a flood goes out, follows from it where several ports come in one
//! transaction; scripts have come to rely on the result.

use flow::hash;

/// Things in the order of OVS's hash table: chains of equal hash bits, the latest first in each.
pub struct Chains<T> {
    /// Always a power of two of chains, at least one.
    chains: Vec<Vec<(u32, T)>>,
    len: usize,
}

impl<T> Default for Chains<T> {
    fn default() -> Self {
        Self { chains: vec![Vec::new()], len: 0 }
    }
}

impl<T> Chains<T> {
    /// Adds `value`.
    pub fn insert(&mut self, hash: u32, value: T) {
        self.link((hash, value));
        self.len += 1;
        if self.len / 2 > self.chains.len() - 1 {
            self.grow();
        }
    }

    fn link(&mut self, entry: (u32, T)) {
        let chain = self.chain_of(entry.0);
        self.chains[chain].insert(0, entry);
    }

    fn chain_of(&self, hash: u32) -> usize {
        hash as usize & (self.chains.len() - 1)
    }

    fn grow(&mut self) {
        let mut mask = self.len / 2;
        for shift in [1, 2, 4, 8, 16] {
            mask |= mask >> shift;
        }
        mask |= (mask & 1) << 1;
        let chains = std::mem::replace(&mut self.chains, (0..=mask).map(|_| Vec::new()).collect());
        for entry in chains.into_iter().flatten() {
            self.link(entry);
        }
    }

    /// Everything, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chains.iter().flatten().map(|(_, value)| value)
    }
}

/// Things by name, in that order.
pub struct ByHash<T>(Chains<(String, T)>);

impl<T> Default for ByHash<T> {
    fn default() -> Self {
        Self(Chains::default())
    }
}

impl<T> ByHash<T> {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` under a name that is not there.
    pub fn insert(&mut self, name: &str, value: T) {
        self.0.insert(hash::bytes(name.as_bytes(), 0), (name.to_owned(), value));
    }

    fn chain_of(&self, name: &str) -> usize {
        self.0.chain_of(hash::bytes(name.as_bytes(), 0))
    }

    /// Takes out what has that name.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let chain = self.chain_of(name);
        let chain = &mut self.0.chains[chain];
        let at = chain.iter().position(|(_, (had, _))| had == name)?;
        self.0.len -= 1;
        Some(chain.remove(at).1.1)
    }

    /// What has that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        let chain = &self.0.chains[self.chain_of(name)];
        chain.iter().find(|(_, (had, _))| had == name).map(|(_, (_, value))| value)
    }

    /// What has that name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let chain = self.chain_of(name);
        self.0.chains[chain].iter_mut().find(|(_, (had, _))| had == name).map(|(_, (_, value))| value)
    }

    /// Everything, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Everything, in order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.chains.iter_mut().flatten().map(|(_, (_, value))| value)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_and_goes_again() {
        let mut all = ByHash::new();
        for i in 0..100 {
            all.insert(&format!("p{i}"), i);
        }
        assert_eq!((all.len(), all.get("p42").copied(), all.iter().count()), (100, Some(42), 100));
        let names: Vec<String> = all.names().map(str::to_owned).collect();
        for name in &names {
            assert!(all.remove(name).is_some());
        }
        assert!(all.is_empty() && all.get("p42").is_none());
    }
}
