//! What passes ask of nearly every flow, in rows that lie in the order in which passes ask ([`Ledger`]).
//!
//! Nearly every flow of nearly every pass is as the pass before left it. Its row tells so: as of when the flow is right, and how
//! many packets were counted. Who lets go of a ukey's lock leaves it there; who reads it takes no lock. Nor does he look for the row:
//! a datapath shows its flows in about the same order each time, so each row names the one whose turn came after it the last
//! time, and a [`Walk`] finds most flows where it expects them. Rows are given out as passes first see flows, hence those that are
//! asked one after the other are neighbours in memory.
//!
//! A row that is vacated is unsure before it gets another name, and is sure of that flow only when all else is said of it. A walk that
//! meets a row at that very time may leave a flow to the next pass, no more.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

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

struct Leaf {
    /// The number of its first row.
    first: u32,
    rows: [Row; ROWS],
}

/// A flow's row, until it is dropped.
pub struct Place {
    leaf: Arc<Leaf>,
    at: usize,
    vacant: Arc<AtomicUsize>,
}

impl Place {
    pub fn row(&self) -> &Row {
        &self.leaf.rows[self.at]
    }

    fn number(&self) -> u32 {
        self.leaf.first + self.at as u32
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let row = self.row();
        row.sure.store(UNSURE, Ordering::Release);
        row.taken.store(false, Ordering::Release);
        self.vacant.fetch_add(1, Ordering::Relaxed);
    }
}

/// The rows of all flows that passes have seen.
#[derive(Default)]
pub struct Ledger {
    leaves: RwLock<Vec<Arc<Leaf>>>,
    /// Leaf and row where a vacant one is looked for.
    from: Mutex<(usize, usize)>,
    vacant: Arc<AtomicUsize>,
}

impl Ledger {
    /// Gives a flow a row, which is not sure of anything.
    pub fn place(&self, ufid: Ufid, PmdId(pmd): PmdId, created: Instant) -> Place {
        let (leaf, at) = self.vacancy();
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
    fn vacancy(&self) -> (Arc<Leaf>, usize) {
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
        leaves.push(Arc::new(Leaf { first: rows as u32, rows: std::array::from_fn(|_| Row::new()) }));
        self.vacant.fetch_add(ROWS, Ordering::Relaxed);
        leaves.len() - 1
    }

    /// Begins to walk along rows. No row can be given out meanwhile.
    pub fn walk(&self) -> Walk<'_> {
        let leaves = self.leaves.read().unwrap_or_else(PoisonError::into_inner);
        Walk { leaves, at: NONE, next: NONE }
    }
}

/// A walk along rows.
pub struct Walk<'a> {
    leaves: RwLockReadGuard<'a, Vec<Arc<Leaf>>>,
    /// Where it is, and the row that is expected next.
    at: u32,
    next: u32,
}

impl Walk<'_> {
    fn row(&self, number: u32) -> Option<&Row> {
        let number = number as usize;
        self.leaves.get(number / ROWS).map(|leaf| &leaf.rows[number % ROWS])
    }

    /// Goes to the row of a flow, if it is the one that is expected and is as it should be. Whether it did.
    pub fn advance(&mut self, ufid: Ufid, pmd: PmdId, is_right: impl FnOnce(&Row) -> bool) -> bool {
        let Some(row) = self.row(self.next) else { return false };
        if !row.is_of(halves(ufid), pmd) || !is_right(row) {
            return false;
        }
        let next = row.next.load(Ordering::Relaxed);
        self.at = std::mem::replace(&mut self.next, next);
        true
    }

    /// Goes to a flow's row, which is the one to expect here from now on.
    pub fn turn(&mut self, to: &Place) {
        let number = to.number();
        if let Some(row) = self.row(self.at) {
            row.next.store(number, Ordering::Relaxed);
        }
        (self.at, self.next) = (number, to.row().next.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

    fn name(n: u32) -> Ufid {
        let mut ufid = [7; 16];
        ufid[..4].copy_from_slice(&n.to_ne_bytes());
        Ufid(ufid)
    }

    fn place(ledger: &Ledger, n: u32) -> Place {
        let place = ledger.place(name(n), PmdId::NONE, Instant::from_millis(n.into()));
        place.row().leave(1, n.into());
        place
    }

    /// How many flows a walk finds where it expects them, of those that a pass shows in this order.
    fn expected(ledger: &Ledger, places: &[Option<Place>], order: &[u32]) -> usize {
        let mut walk = ledger.walk();
        let mut count = 0;
        for &n in order {
            let as_left = |row: &Row| {
                assert_eq!((row.is_sure(1), row.packets()), (true, n.into()));
                assert_eq!(row.created(), Instant::from_millis(n.into()));
                true
            };
            if walk.advance(name(n), PmdId::NONE, as_left) {
                count += 1;
            } else if let Some(Some(place)) = places.get(n as usize) {
                walk.turn(place);
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
        let places = [1, 2].map(|pmd| ledger.place(name(5), PmdId(pmd), Instant::ZERO));
        let mut walk = ledger.walk();
        walk.turn(&places[0]);
        walk.turn(&places[1]);
        walk.turn(&places[0]);
        assert!(!walk.advance(name(5), PmdId(1), |_| true));
        assert!(!walk.advance(name(5), PmdId(2), |_| false));
        assert!(walk.advance(name(5), PmdId(2), |_| true));
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
                    places.push(Some(place(&ledger, n as u32)));
                } else {
                    places.swap_remove(usize::from(which) % places.len());
                }
                most = most.max(places.len());
            }
            let mut numbers: Vec<_> = places.iter().flatten().map(Place::number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), places.len());
            let rows = ledger.walk().leaves.len() * ROWS;
            prop_assert!(rows <= most * 4 / 3 + 2 * ROWS, "{} rows for {} flows", rows, most);
            prop_assert_eq!(rows - places.len(), ledger.vacant.load(Ordering::Relaxed));
        }
    }
}
