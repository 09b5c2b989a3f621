use super::super::gc::{Gc, Nic, Reply, Seen, Source, Walked, pump};
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 20
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn one_in_1000(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// What goes wrong, in 1000, and how late answers are.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    refused: u64,
    /// Deletions that the device says were done, and were not.
    lost_deletes: u64,
    /// Requests that are not answered, done or not.
    unanswered: u64,
    /// Requests that fail, done or not.
    failed: u64,
    late_ms: u64,
    /// Walks that are cut short.
    broken_walks: u64,
}

/// A device: what it has by name, each for a key that no two rules may have.
struct Fake {
    rules: BTreeMap<Name, (u64, u64)>,
    keys: HashMap<(u32, u64), Name>,
    gone: Option<u32>,
    faults: Faults,
    random: Random,
    now: Instant,
    /// When they are told.
    answers: VecDeque<(Instant, Reply)>,
    walk: Option<(u32, u32)>,
    /// Packets by each rule and step.
    traffic: u64,
}

impl Fake {
    fn new(seed: u64, faults: Faults) -> Self {
        let (rules, keys, answers) = Default::default();
        let (now, random) = (Instant::ZERO, Random(seed | 1));
        Self { rules, keys, gone: None, faults, random, now, answers, walk: None, traffic: 1 }
    }

    fn remove(&mut self, name: Name) -> bool {
        let Some((key, _)) = self.rules.remove(&name) else { return false };
        self.keys.remove(&(name.port, key));
        true
    }

    fn execute(&mut self, request: &Request<u64>) -> Answer {
        let (name, key) = (request.name, *request.rule);
        if self.gone == Some(name.port) {
            return Answer::NoDevice;
        }
        match request.what {
            What::Insert if self.random.one_in_1000(self.faults.refused) => Answer::Refused("busy".into()),
            What::Insert if self.rules.contains_key(&name) => Answer::Exists,
            What::Insert if self.keys.contains_key(&(name.port, key)) => Answer::Exists,
            What::Insert => {
                self.rules.insert(name, (key, 0));
                self.keys.insert((name.port, key), name);
                Answer::Done
            }
            What::Read if self.rules.contains_key(&name) => Answer::Done,
            What::Read => Answer::Absent,
            What::Delete if self.random.one_in_1000(self.faults.lost_deletes) => Answer::Done,
            What::Delete => {
                if self.remove(name) {
                    Answer::Done
                } else {
                    Answer::Absent
                }
            }
        }
    }

    fn vanish(&mut self, port: u32) {
        self.rules.retain(|name, _| name.port != port);
        self.keys.retain(|(on, _), _| *on != port);
        self.gone = Some(port);
    }
}

impl Nic for Fake {
    type Rule = u64;

    fn send(&mut self, request: Request<u64>) {
        let fails = self.random.one_in_1000(self.faults.failed);
        let silent = self.random.one_in_1000(self.faults.unanswered);
        let mut answer = Answer::Failed("no buffers".into());
        if !(fails || silent) || self.random.below(2) == 0 {
            let done = self.execute(&request);
            if !fails {
                answer = done;
            }
        }
        if !silent {
            let at = self.now + Duration::from_millis(self.random.below(self.faults.late_ms + 1));
            self.answers.push_back((at, (request.ticket, request.name, answer)));
        }
    }

    fn flush(&mut self) {}

    fn receive(&mut self) -> Vec<Reply> {
        let now = self.now;
        let (due, rest) = self.answers.drain(..).partition::<VecDeque<_>, _>(|(at, _)| *at <= now);
        self.answers = rest;
        due.into_iter().map(|(_, reply)| reply).collect()
    }

    fn walk(&mut self, port: u32, budget: usize, each: &mut dyn FnMut(Seen<u64>)) -> Walked {
        if self.gone == Some(port) || self.random.one_in_1000(self.faults.broken_walks) {
            self.walk = None;
            return Walked::Broken;
        }
        let from = self.walk.filter(|(on, _)| *on == port).map_or(0, |(_, from)| from);
        let range = Name { port, handle: from }..=Name { port, handle: u32::MAX };
        let mut last = None;
        for (name, (key, packets)) in self.rules.range_mut(range).take(budget) {
            *packets += self.traffic;
            each(Seen { name: *name, packets: *packets, bytes: *packets * 100, rule: *key });
            last = Some(name.handle);
        }
        self.walk = last.and_then(|last| Some((port, last.checked_add(1)?)));
        let more = self.walk.is_some_and(|(_, from)| {
            let range = Name { port, handle: from }..=Name { port, handle: u32::MAX };
            self.rules.range(range).next().is_some()
        });
        if more {
            Walked::More
        } else {
            self.walk = None;
            Walked::End
        }
    }
}

/// Connections that are numbers. What is freed is looked for in the device by who plays.
#[derive(Default)]
struct Numbers {
    freed: Vec<(u64, Cause)>,
    rested: Vec<(u64, usize)>,
    dead: std::collections::HashSet<u64>,
    counted: u64,
}

impl Source for Numbers {
    type Conn = u64;
    type Rule = u64;

    fn cause(&self, connection: &Connection<u64, u64>) -> Option<Cause> {
        connection.token.filter(|token| self.dead.contains(token)).map(|_| Cause::Flushed)
    }

    fn grown(&mut self, grown: Grown<u64, u64>) {
        self.counted += grown.packets;
    }

    fn freed(&mut self, conn: u64, cause: Cause) {
        self.freed.push((conn, cause));
    }

    fn rested(&mut self, conn: u64, dir: usize) {
        self.rested.push((conn, dir));
    }
}

struct Play {
    table: Table<u64, u64>,
    nic: Fake,
    source: Numbers,
    gc: Gc,
    now: Instant,
    /// The slow twin: which connections were taken and are not freed.
    wanted: BTreeSet<u64>,
    /// The device may have what the table does not know: a deletion was lost, or somebody was here before.
    strangers: bool,
}

const PORTS: [u32; 2] = [7, 9];
const IDLE: Duration = Duration::from_secs(30);

/// What rules of a connection match: two connections may have the same.
fn key(conn: u64, dir: usize) -> u64 {
    conn % 512 * 2 + dir as u64
}

impl Play {
    fn new(seed: u64, faults: Faults) -> Self {
        let now = Instant::from_millis(1000);
        Self {
            table: Table::new(seed as u32),
            nic: Fake::new(seed, faults),
            source: Numbers::default(),
            gc: Gc::new(now),
            now,
            wanted: BTreeSet::new(),
            strangers: faults.lost_deletes > 0,
        }
    }

    fn offer(&mut self, conn: u64, dir: usize) {
        let wish = Wish {
            zone: (conn % 3) as u16,
            dir,
            port: PORTS[dir],
            rule: Arc::new(key(conn, dir)),
            idle: IDLE,
        };
        if self.table.offer(&conn, wish, self.now).is_ok() {
            self.wanted.insert(conn);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.nic.now = self.now;
        if self.now >= self.gc.due() {
            self.gc.step(&mut self.table, &mut self.nic, &mut self.source, &PORTS, self.now);
        }
        pump(&mut self.table, &mut self.nic, &mut self.source, self.now);
        self.check();
    }

    /// What was freed has nothing in the device but what the device denies to have.
    fn check(&mut self) {
        for (conn, _) in self.source.freed.drain(..) {
            assert!(self.wanted.remove(&conn), "{conn} was freed twice");
        }
        assert!(self.table.in_flight() <= MAX_IN_FLIGHT);
        if !self.strangers {
            for name in self.nic.rules.keys() {
                assert!(self.table.by_name.contains_key(name), "{name:?} is nobody's");
            }
        }
    }

    /// The table's own books agree with each other, and with the twin.
    fn audit(&self) {
        let mut names = std::collections::HashSet::new();
        let mut out = 0;
        for connection in self.table.connections() {
            for rule in connection.rules.iter().flatten() {
                assert!(names.insert(rule.name), "{:?} is two rules'", rule.name);
                out += usize::from(rule.progress.ticket().is_some());
            }
            if let Some(token) = connection.token {
                assert!(self.wanted.contains(&token));
            }
        }
        assert_eq!((names.len(), out), (self.table.rules(), self.table.in_flight()));
        let tokens = self.table.connections().filter(|connection| connection.token.is_some()).count();
        // What is freed is told with the next pass.
        assert_eq!(tokens + self.table.freed.len(), self.wanted.len());
    }

    /// Everything ends; then the device is empty, and so is the table.
    fn finish(&mut self) {
        self.nic.traffic = 0;
        self.table.end_where(self.now, |_| Some(Cause::Asked));
        let mut quiet = 0;
        for _ in 0..2000 {
            self.pass(500);
            let empty = self.table.is_empty() && self.nic.rules.is_empty() && self.nic.answers.is_empty();
            quiet = if empty { quiet + 1 } else { 0 };
            if quiet > 3 {
                break;
            }
        }
        self.audit();
        assert_eq!((self.nic.rules.len(), self.table.rules(), self.table.len()), (0, 0, 0));
        assert_eq!((self.wanted.len(), self.table.in_flight()), (0, 0));
    }

    fn act(&mut self, random: &mut Random) {
        let conn = random.below(2000);
        match random.below(12) {
            0..6 => {
                self.offer(conn, 0);
                self.offer(conn, 1);
            }
            6 => self.offer(conn, random.below(2) as usize),
            7 => {
                self.table.end(&conn, Cause::Closed, self.now);
            }
            8 => {
                self.source.dead.insert(conn);
            }
            9 if random.below(40) == 0 => {
                let zone = random.below(3) as u16;
                self.table
                    .end_where(self.now, |connection| (connection.zone == zone).then_some(Cause::Flushed));
            }
            10 => {
                let mut taken = self.nic.rules.keys().copied().nth(random.below(50) as usize);
                // Somebody else deletes a rule.
                taken.take_if(|name| self.nic.remove(*name));
            }
            _ => self.pass(random.below(700)),
        }
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    let permille = |worst| prop_oneof![Just(0), 0..worst];
    (permille(300u64), permille(100u64), permille(100u64), permille(200u64), 0..9000u64, permille(300u64))
        .prop_map(|(refused, lost_deletes, unanswered, failed, late_ms, broken_walks)| Faults {
            refused,
            lost_deletes,
            unanswered,
            failed,
            late_ms,
            broken_walks,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_leaks(seed: u64, faults in faults(), steps in 10..600usize, vanishes: bool) {
        let mut play = Play::new(seed, faults);
        let mut random = Random(seed.rotate_left(9) | 1);
        for step in 0..steps {
            play.act(&mut random);
            if step % 16 == 0 {
                play.audit();
            }
            if vanishes && step == steps / 2 {
                play.nic.vanish(PORTS[1]);
                play.table.end_where(play.now, |connection| {
                    let uses = connection.rules.iter().flatten().any(|rule| rule.name.port == PORTS[1]);
                    uses.then_some(Cause::Port)
                });
            }
        }
        play.finish();
    }

    #[test]
    fn leftovers_of_a_predecessor_go(seed: u64, faults in faults(), n in 0..300u32) {
        let mut play = Play::new(seed, faults);
        play.strangers = true;
        for handle in 1..=n {
            // Some have names that new rules would be given.
            let handle = if handle % 2 == 0 { handle } else { (seed as u32).wrapping_add(handle) };
            let name = Name { port: PORTS[0], handle };
            let key = 1_000_000 + u64::from(handle);
            play.nic.rules.insert(name, (key, 5));
            play.nic.keys.insert((name.port, key), name);
        }
        play.gc.step(&mut play.table, &mut play.nic, &mut play.source, &PORTS, play.now);
        let mut random = Random(seed | 1);
        (0..50).for_each(|_| play.act(&mut random));
        play.finish();
    }
}

#[test]
fn a_hundred_thousand_connections() {
    let faults =
        Faults { refused: 100, lost_deletes: 10, unanswered: 1, failed: 5, late_ms: 40, broken_walks: 0 };
    let mut play = Play::new(77, faults);
    for conn in 0..100_000u64 {
        for (dir, port) in PORTS.into_iter().enumerate() {
            let rule = Arc::new(conn * 2 + dir as u64);
            let wish = Wish { zone: 1, dir, port, rule, idle: IDLE };
            play.table.offer(&conn, wish, play.now).unwrap();
        }
        play.wanted.insert(conn);
    }
    let mut passes = 0;
    while play.table.totals.pushed + play.table.totals.gave_up < 200_000 && passes < 20_000 {
        play.now = play.now + Duration::from_millis(20);
        play.nic.now = play.now;
        pump(&mut play.table, &mut play.nic, &mut play.source, play.now);
        passes += 1;
    }
    let totals = play.table.totals.clone();
    assert!(totals.pushed >= 199_900 && totals.refused > 15_000, "{totals:?} after {passes}");
    play.audit();
    play.finish();
    assert!(play.table.totals.deleted >= totals.pushed);
    assert!(play.table.totals.ended.contains_key(&Cause::Leftover), "{:?}", play.table.totals);
}

#[test]
fn counters_keep_connections_alive() {
    let mut play = Play::new(5, Faults::default());
    play.offer(1, 0);
    play.offer(1, 1);
    for _ in 0..60 {
        play.pass(1000);
    }
    assert_eq!(play.table.stages(), BTreeMap::from([(Stage::InHardware, 1)]));
    assert!(play.source.counted > 100, "{}", play.source.counted);
    play.nic.traffic = 0;
    for _ in 0..40 {
        play.pass(1000);
    }
    assert!(play.table.is_empty() && play.nic.rules.is_empty());
    assert_eq!(play.table.totals.ended, BTreeMap::from([(Cause::Idle, 1)]));
}

#[test]
fn counters_that_go_back_count_nothing() {
    let mut play = Play::new(5, Faults::default());
    play.offer(1, 0);
    play.pass(10);
    let name = *play.nic.rules.keys().next().unwrap();
    let mut grown = |packets| play.table.count(name, packets, 0, play.now).map(|grown| grown.packets);
    assert_eq!([5, 3, 5, 9].map(&mut grown), [Some(5), None, None, Some(4)]);
}

#[test]
fn refused_connections_rest_and_are_freed() {
    let mut play = Play::new(5, Faults { refused: 1000, ..Faults::default() });
    play.offer(1, 0);
    for _ in 0..20 {
        play.pass(1000);
    }
    assert_eq!(play.table.stages(), BTreeMap::from([(Stage::Software, 1)]));
    let wish = Wish { zone: 0, dir: 0, port: 7, rule: Arc::new(2), idle: IDLE };
    assert_eq!(play.table.offer(&1, wish, play.now), Err(Full::Refused));
    for _ in 0..40 {
        play.pass(1000);
    }
    assert!(play.table.is_empty());
    assert_eq!(play.table.totals.ended, BTreeMap::from([(Cause::Refused, 1)]));
}

#[test]
fn directions_rest_for_themselves() {
    let mut play = Play::new(6, Faults::default());
    play.offer(1, 0);
    (0..5).for_each(|_| play.pass(1000));
    play.table.refuse(&1, (0, 0), "has a rule".into(), play.now);
    play.table.refuse(&1, (0, 1), "no such action".into(), play.now);
    let why = |play: &Play| {
        let there = play.table.connections().next().unwrap();
        there.software.each_ref().map(|software| software.as_ref().map(|(why, _)| why.clone()))
    };
    assert_eq!(why(&play), [None, Some("no such action".to_owned())]);
    assert_eq!(play.table.stages(), BTreeMap::from([(Stage::InHardware, 1)]));
    let wish = |rule| Wish { zone: 0, dir: 1, port: 7, rule: Arc::new(rule), idle: IDLE };
    assert_eq!(play.table.offer(&1, wish(2), play.now), Err(Full::Refused));
    let until = play.now + COOL_DOWN;
    while play.now <= until {
        // It is used, so that it stays.
        play.table.touch(&1, play.now);
        play.pass(1000);
    }
    assert_eq!(why(&play), [None, None]);
    assert_eq!(play.source.rested, [(1, 1)]);
    assert_eq!(play.table.offer(&1, wish(3), play.now), Ok(()));
    (0..5).for_each(|_| play.pass(1000));
    assert_eq!((play.table.rules(), play.table.totals.pushed, play.table.totals.ended.len()), (2, 2, 0));
}
