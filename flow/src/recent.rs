//! The last few of something ([`Recent`]), for what comes in runs.

/// The last `N` that were added, at most.
#[derive(Debug)]
pub struct Recent<T, const N: usize> {
    items: Vec<T>,
    /// The one that was found or added last.
    last: usize,
    /// The oldest, once there are `N`.
    oldest: usize,
}

impl<T, const N: usize> Default for Recent<T, N> {
    fn default() -> Self {
        Self { items: Vec::new(), last: 0, oldest: 0 }
    }
}

impl<T, const N: usize> Recent<T, N> {
    /// One that is it. The one that was found or added last is asked first.
    pub fn find(&mut self, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        if !self.items.get(self.last).is_some_and(&is_it) {
            self.last = self.items.iter().position(is_it)?;
        }
        self.items.get(self.last)
    }

    /// Adds one, in the place of the oldest if there are `N`.
    pub fn add(&mut self, item: T) {
        if self.items.len() < N {
            self.last = self.items.len();
            return self.items.push(item);
        }
        self.last = self.oldest;
        self.items[self.oldest] = item;
        self.oldest = (self.oldest + 1) % N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_way_and_the_last_is_asked_first() {
        let mut recent = Recent::<_, 3>::default();
        assert_eq!(recent.find(|_| true), None);
        (1..=3).for_each(|n| recent.add(n));
        assert_eq!(recent.find(|_| true), Some(&3));
        assert_eq!(recent.find(|&n| n < 3), Some(&1));
        assert_eq!(recent.find(|&n| n < 3), Some(&1));
        recent.add(4);
        assert_eq!(recent.find(|&n| n == 1), None);
        assert_eq!(recent.find(|_| true), Some(&4));
        recent.add(5);
        assert_eq!([2, 3, 4, 5].map(|n| recent.find(|&it| it == n).is_some()), [false, true, true, true]);
    }
}
