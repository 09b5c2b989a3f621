//! What passes ask of nearly every flow, in rows that lie in the order in which passes ask ([`Ledger`]).
//!
//! Nearly every flow of nearly every pass is as the pass before left it. Its row tells so: as of when the flow is right, and how
//! many packets were counted. Who lets go of a ukey's lock leaves it there; who reads it takes no lock. Nor does he look for the row:
//! a datapath shows its flows in about the same order each time, so each row names the one whose turn came after it the last
//! time, and a [`Walk`] finds most flows where it expects them; those that there is something to do about, too, for beside each row
//! stands whose it is. Rows are given out as passes first see flows, hence those that are
//! asked one after the other are neighbours in memory.
//!
//! A row that is vacated is unsure before it gets another name, and is sure of that flow only when all else is said of it. A walk that
//! meets a row at that very time may leave a flow to the next pass, no more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};

use datapath::PmdId;
use flow::id::Ufid;
use flow::time::Instant;

/// Rows that are made together.
const ROWS: usize = 256;
/// No row.
const NONE: u32 = u32::MAX;
/// [`Row::sure`] where it is not known.
pub const UNSURE: u64 = u64::MAX;

/// What a flow's state comes to. It fills a line of the cache.
#[repr(align(64))]
pub struct Row {
    /// The flow's identifier, in halves.
    ufid: [AtomicU64; 2],
    pmd: AtomicU32,
    /// The row that was asked after this one.
    next: AtomicU32,
    /// As of which [`crate::backer::Backer::seq`] nothing is to be done with the flow; [`UNSURE`] if that is not known.
    sure: AtomicU64,
    /// Packets that were counted.
    packets: AtomicU64,
    /// The pass in which the datapath last showed it.
    seen: AtomicU64,
    /// When the flow was made, in nanoseconds.
    created: AtomicU64,
    taken: AtomicBool,
}

fn halves(Ufid(ufid): Ufid) -> [u64; 2] {
    zerocopy::transmute!(ufid)
}

impl Row {
    fn new() -> Self {
        Self {
            ufid: [const { AtomicU64::new(0) }; 2],
            pmd: AtomicU32::new(0),
            next: AtomicU32::new(NONE),
            sure: AtomicU64::new(UNSURE),
            packets: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            created: AtomicU64::new(0),
            taken: AtomicBool::new(false),
        }
    }

    fn is_of(&self, [a, b]: [u64; 2], PmdId(pmd): PmdId) -> bool {
        self.ufid[0].load(Ordering::Relaxed) == a
            && self.ufid[1].load(Ordering::Relaxed) == b
            && self.pmd.load(Ordering::Relaxed) == pmd
    }

    /// Says what the flow's state comes to.
    pub fn leave(&self, sure: u64, packets: u64) {
        self.packets.store(packets, Ordering::Relaxed);
        self.sure.store(sure, Ordering::Release);
    }

    /// Whether the flow is right as of `seq` and in the datapath. It may be so without this saying so.
    pub fn is_sure(&self, seq: u64) -> bool {
        seq != UNSURE && self.sure.load(Ordering::Acquire) == seq
    }

    /// Packets that were counted.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// The pass in which the datapath last showed it.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Says that a pass saw it.
    pub fn see(&self, pass: u64) {
        self.seen.store(pass, Ordering::Relaxed);
    }

    /// When the flow was made.
    pub fn created(&self) -> Instant {
        Instant::from_nanos(self.created.load(Ordering::Relaxed))
    }
}

struct Leaf<T> {
    /// The number of its first row.
    first: u32,
    rows: [Row; ROWS],
    /// Whose the rows are.
    owners: [Mutex<Weak<T>>; ROWS],
}

impl<T> Leaf<T> {
    fn new(first: u32) -> Self {
        let owners = std::array::from_fn(|_| Mutex::new(Weak::new()));
        Self { first, rows: std::array::from_fn(|_| Row::new()), owners }
    }

    fn owner(&self, at: usize) -> MutexGuard<'_, Weak<T>> {
        self.owners[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A flow's row, until it is dropped. `T` is what flows are.
pub struct Place<T> {
    leaf: Arc<Leaf<T>>,
    at: usize,
    vacant: Arc<AtomicUsize>,
}

impl<T> Place<T> {
    pub fn row(&self) -> &Row {
        &self.leaf.rows[self.at]
    }

    fn number(&self) -> u32 {
        self.leaf.first + self.at as u32
    }

    /// Says that the flow is not one of those that are asked for any more.
    pub fn leave(&self) {
        *self.leaf.owner(self.at) = Weak::new();
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.leave();
        let row = self.row();
        row.sure.store(UNSURE, Ordering::Release);
        row.taken.store(false, Ordering::Release);
        self.vacant.fetch_add(1, Ordering::Relaxed);
    }
}

/// The rows of all flows that passes have seen.
pub struct Ledger<T> {
    leaves: RwLock<Vec<Arc<Leaf<T>>>>,
    /// Leaf and row where a vacant one is looked for.
    from: Mutex<(usize, usize)>,
    vacant: Arc<AtomicUsize>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Self { leaves: RwLock::default(), from: Mutex::default(), vacant: Arc::default() }
    }
}

impl<T> Ledger<T> {
    /// Gives a flow a row, which is not sure of anything.
    pub fn place(&self, ufid: Ufid, PmdId(pmd): PmdId, created: Instant, owner: &Arc<T>) -> Place<T> {
        let (leaf, at) = self.vacancy();
        *leaf.owner(at) = Arc::downgrade(owner);
        let row = &leaf.rows[at];
        for (to, half) in row.ufid.iter().zip(halves(ufid)) {
            to.store(half, Ordering::Relaxed);
        }
        row.pmd.store(pmd, Ordering::Relaxed);
        row.created.store(created.nanos(), Ordering::Relaxed);
        row.packets.store(0, Ordering::Relaxed);
        row.seen.store(0, Ordering::Relaxed);
        Place { leaf, at, vacant: Arc::clone(&self.vacant) }
    }

    /// Takes the next row that is vacant. There are more rows as soon as fewer than a quarter are.
    fn vacancy(&self) -> (Arc<Leaf<T>>, usize) {
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let leaf = self.walk().leaves.get(from.0).cloned();
            if let Some(leaf) = leaf {
                let rows = leaf.rows.iter().enumerate().skip(from.1);
                if let Some((at, row)) = rows.into_iter().find(|(_, row)| !row.taken.load(Ordering::Acquire))
                {
                    row.taken.store(true, Ordering::Relaxed);
                    self.vacant.fetch_sub(1, Ordering::Relaxed);
                    from.1 = at + 1;
                    return (leaf, at);
                }
            }
            *from = (self.leaf_after(from.0), 0);
        }
    }

    /// The leaf to look for vacant rows after this one, where there are none left.
    fn leaf_after(&self, leaf: usize) -> usize {
        let mut leaves = self.leaves.write().unwrap_or_else(PoisonError::into_inner);
        let rows = leaves.len() * ROWS;
        if rows != 0 && self.vacant.load(Ordering::Relaxed) >= rows / 4 {
            return (leaf + 1) % leaves.len();
        }
        leaves.push(Arc::new(Leaf::new(rows as u32)));
        self.vacant.fetch_add(ROWS, Ordering::Relaxed);
        leaves.len() - 1
    }

    /// Begins to walk along rows. No row can be given out meanwhile.
    pub fn walk(&self) -> Walk<'_, T> {
        let leaves = self.leaves.read().unwrap_or_else(PoisonError::into_inner);
        Walk { leaves, at: NONE, next: NONE }
    }
}

/// What a walk finds of a flow.
pub enum Found<T> {
    /// It is as it should be.
    Right,
    /// It is not.
    Other(Arc<T>),
    /// It is not where it is expected.
    Nothing,
}

/// A walk along rows.
pub struct Walk<'a, T> {
    leaves: RwLockReadGuard<'a, Vec<Arc<Leaf<T>>>>,
    /// Where it is, and the row that is expected next.
    at: u32,
    next: u32,
}

impl<T> Walk<'_, T> {
    fn leaf(&self, number: u32) -> Option<(&Leaf<T>, usize)> {
        let number = number as usize;
        Some((self.leaves.get(number / ROWS)?, number % ROWS))
    }

    /// Goes to the row of a flow, if it is the one that is expected.
    pub fn advance(&mut self, ufid: Ufid, pmd: PmdId, is_right: impl FnOnce(&Row) -> bool) -> Found<T> {
        let Some((leaf, at)) = self.leaf(self.next) else { return Found::Nothing };
        let row = &leaf.rows[at];
        if !row.is_of(halves(ufid), pmd) {
            return Found::Nothing;
        }
        let found = match is_right(row) {
            true => Found::Right,
            false => leaf.owner(at).upgrade().map_or(Found::Nothing, Found::Other),
        };
        if !matches!(found, Found::Nothing) {
            let next = row.next.load(Ordering::Relaxed);
            self.at = std::mem::replace(&mut self.next, next);
        }
        found
    }

    /// Goes to a flow's row, which is the one to expect here from now on.
    pub fn turn(&mut self, to: &Place<T>) {
        let number = to.number();
        if let Some((leaf, at)) = self.leaf(self.at) {
            leaf.rows[at].next.store(number, Ordering::Relaxed);
        }
        (self.at, self.next) = (number, to.row().next.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::OnceLock;

    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    fn name(n: u32) -> Ufid {
        let mut ufid = [7; 16];
        ufid[..4].copy_from_slice(&n.to_ne_bytes());
        Ufid(ufid)
    }

    /// A flow that has a row.
    struct Owner {
        number: u32,
        place: OnceLock<Place<Self>>,
    }

    impl Owner {
        fn of(&self) -> &Place<Self> {
            self.place.get().expect("it has one")
        }
    }

    fn owner(ledger: &Ledger<Owner>, number: u32, pmd: PmdId) -> Arc<Owner> {
        let owner = Arc::new(Owner { number, place: OnceLock::new() });
        let created = Instant::from_millis(number.into());
        owner.place.get_or_init(|| ledger.place(name(number), pmd, created, &owner));
        owner.of().row().leave(1, number.into());
        owner
    }

    fn place(ledger: &Ledger<Owner>, n: u32) -> Arc<Owner> {
        owner(ledger, n, PmdId::NONE)
    }

    /// How many flows a walk finds where it expects them, of those that a pass shows in this order.
    fn expected(ledger: &Ledger<Owner>, places: &[Option<Arc<Owner>>], order: &[u32]) -> usize {
        let mut walk = ledger.walk();
        let mut count = 0;
        for &n in order {
            let as_left = |row: &Row| {
                assert_eq!((row.is_sure(1), row.packets()), (true, n.into()));
                assert_eq!(row.created(), Instant::from_millis(n.into()));
                true
            };
            if matches!(walk.advance(name(n), PmdId::NONE, as_left), Found::Right) {
                count += 1;
            } else if let Some(Some(owner)) = places.get(n as usize) {
                walk.turn(owner.of());
            }
        }
        count
    }

    #[test]
    fn a_row_is_a_line_of_the_cache() {
        assert_eq!((size_of::<Row>(), align_of::<Row>()), (64, 64));
    }

    #[test]
    fn flows_are_found_where_they_were_the_last_time() {
        let ledger = Ledger::default();
        let mut places: Vec<_> = (0..1000).map(|n| Some(place(&ledger, n))).collect();
        let order: Vec<_> = (0..1000).map(|n| n * 7 % 1000).collect();
        assert_eq!(expected(&ledger, &places, &order), 0);
        assert_eq!(expected(&ledger, &places, &order), 999);
        // One that went, and one that came in another place: each is missed once, and so is who is after it.
        places[order[500] as usize] = None;
        let order: Vec<_> = [&order[..500], &order[501..]].concat();
        assert_eq!(expected(&ledger, &places, &order), 997);
        assert_eq!(expected(&ledger, &places, &order), 998);
        places.push(Some(place(&ledger, 1000)));
        let order = [&order[..300], &[1000], &order[300..]].concat();
        assert_eq!(expected(&ledger, &places, &order), 997);
        assert_eq!(expected(&ledger, &places, &order), 999);
    }

    #[test]
    fn another_worker_s_flow_is_another() {
        let ledger = Ledger::default();
        let owners = [1, 2].map(|pmd| owner(&ledger, 5, PmdId(pmd)));
        let mut walk = ledger.walk();
        walk.turn(owners[0].of());
        walk.turn(owners[1].of());
        walk.turn(owners[0].of());
        assert!(matches!(walk.advance(name(5), PmdId(1), |_| true), Found::Nothing));
        assert!(matches!(walk.advance(name(5), PmdId(2), |_| true), Found::Right));
    }

    #[test]
    fn who_is_not_as_he_should_be_is_found_until_he_leaves() {
        let ledger = Ledger::default();
        let owners = [1, 2, 3].map(|n| place(&ledger, n));
        let mut walk = ledger.walk();
        let mut found = |numbers: [u32; 2]| {
            owners.iter().chain(&owners[..1]).for_each(|owner| walk.turn(owner.of()));
            numbers.map(|number| match walk.advance(name(number), PmdId::NONE, |_| false) {
                Found::Other(owner) => owner.number,
                Found::Right | Found::Nothing => 0,
            })
        };
        assert_eq!(found([2, 3]), [2, 3]);
        // Nobody is found who was not expected.
        assert_eq!(found([3, 2]), [0, 2]);
        owners[2].of().leave();
        assert_eq!(found([2, 3]), [2, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever comes and goes, rows are of one flow each, and there are not many more of them than flows.
        #[test]
        fn rows_are_given_to_one_flow_at_a_time(steps in vec((any::<bool>(), any::<u16>()), 1..3000)) {
            let ledger = Ledger::default();
            let (mut places, mut most) = (Vec::new(), 0);
            for (n, (come, which)) in steps.into_iter().enumerate() {
                if come || places.is_empty() {
                    places.push(place(&ledger, n as u32));
                } else {
                    places.swap_remove(usize::from(which) % places.len());
                }
                most = most.max(places.len());
            }
            let mut numbers: Vec<_> = places.iter().map(|owner| owner.of().number()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), places.len());
            let rows = ledger.walk().leaves.len() * ROWS;
            prop_assert!(rows <= most * 4 / 3 + 2 * ROWS, "{} rows for {} flows", rows, most);
            prop_assert_eq!(rows - places.len(), ledger.vacant.load(Ordering::Relaxed));
        }
    }
}
