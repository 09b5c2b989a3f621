use proptest::prelude::*;

use super::*;
use crate::ofproto::version::Span;

struct TestRule {
    mask: Mask,
    key: Key,
    priority: i32,
    span: Span,
    conjunctions: Vec<Conjunction>,
    place: AtomicU64,
}

impl Entry for TestRule {
    fn match_words(&self) -> (Box<[MaskWord]>, Key) {
        (words_of(&self.mask), self.key)
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn is_visible(&self, version: Version) -> bool {
        self.span.contains(version)
    }

    fn is_ending(&self) -> bool {
        self.span.is_ending()
    }

    fn conjunctions(&self) -> &[Conjunction] {
        &self.conjunctions
    }

    fn place(&self) -> &AtomicU64 {
        &self.place
    }
}

fn words_of(mask: &Mask) -> Box<[MaskWord]> {
    let words = mask.0.words().iter().zip(0u16..);
    words.filter(|&(&bits, _)| bits != 0).map(|(&bits, index)| MaskWord { index, bits }).collect()
}

fn rule(priority: i32, set: impl Fn(&mut Key, &mut Key)) -> TestRule {
    let (mut key, mut mask) = (Key::default(), Mask::default());
    set(&mut key, &mut mask.0);
    TestRule {
        key: mask.apply(&key),
        mask,
        priority,
        span: Span::since(Version::MIN),
        conjunctions: Vec::new(),
        place: AtomicU64::new(0),
    }
}

fn ip_dst(priority: i32, address: [u8; 4], len: u32) -> TestRule {
    rule(priority, |key, mask| {
        (key.dl_type, mask.dl_type) = (0x0800.into(), u16::MAX.into());
        key.nw_dst = u32::from_be_bytes(address).into();
        mask.nw_dst = (u32::MAX << (32 - len)).into();
    })
}

fn packet(address: [u8; 4]) -> Key {
    Key { dl_type: 0x0800.into(), nw_dst: u32::from_be_bytes(address).into(), ..Key::default() }
}

fn with(rules: Vec<TestRule>) -> (Classifier<TestRule>, Vec<Arc<TestRule>>) {
    let classifier = Classifier::default();
    let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
    for rule in &rules {
        classifier.insert(Arc::clone(rule));
    }
    classifier.publish();
    (classifier, rules)
}

fn look(classifier: &Classifier<TestRule>, key: &Key) -> (Option<i32>, Mask) {
    let mut wildcards = Looked::default();
    let found = classifier.lookup(Version::MIN, key, Some(&mut wildcards), None);
    (found.map(|rule| rule.priority), *wildcards.into_mask())
}

#[test]
fn tries_widen_the_mask() {
    let tcp = |priority, address, port: u16| {
        let mut rule = ip_dst(priority, address, 32);
        (rule.key.tp_dst, rule.mask.0.tp_dst) = (port.into(), u16::MAX.into());
        rule
    };
    let rules = vec![
        ip_dst(16, [10, 1, 0, 0], 16),
        ip_dst(32, [10, 1, 2, 15], 32),
        tcp(33, [10, 1, 2, 15], 80),
        rule(0, |_, _| ()),
    ];
    let (classifier, _) = with(rules);

    let (won, mask) = look(&classifier, &packet([11, 1, 2, 15]));
    assert_eq!((won, mask.0.nw_dst.get(), mask.0.tp_dst.get()), (Some(0), 0xff00_0000, 0));
    let (won, mask) = look(&classifier, &Key { tp_dst: 79.into(), ..packet([10, 1, 2, 15]) });
    assert_eq!((won, mask.0.nw_dst.get(), mask.0.tp_dst.get()), (Some(32), 0xffff_ffff, 0xfff0));

    assert!(classifier.set_prefixes(&[]));
    let (won, mask) = look(&classifier, &packet([11, 1, 2, 15]));
    assert_eq!((won, mask.0.nw_dst.get(), mask.0.tp_dst.get()), (Some(0), 0xffff_ffff, 0));
}

#[test]
fn conjunctions_fall_back_to_lower_priorities() {
    let src = |priority, last: u8, conjunctions: &[(u32, u8, u8)]| {
        let mut rule = rule(priority, |key, mask| {
            key.nw_src = u32::from_be_bytes([10, 0, 0, last]).into();
            mask.nw_src = u32::MAX.into();
        });
        rule.conjunctions = conjunction_list(conjunctions);
        rule
    };
    let dst = |priority, last: u8, conjunctions: &[(u32, u8, u8)]| {
        let mut rule = ip_dst(priority, [10, 0, 0, last], 32);
        rule.conjunctions = conjunction_list(conjunctions);
        rule
    };
    let by_id = |priority, id| rule(priority, move |key, mask| (key.conj_id, mask.conj_id) = (id, u32::MAX));
    let rules = vec![
        by_id(100, 1),
        by_id(99, 3),
        src(5, 1, &[(1, 0, 2)]),
        dst(5, 2, &[(1, 1, 2)]),
        src(3, 1, &[(3, 0, 2)]),
        dst(3, 4, &[(3, 1, 2)]),
        dst(2, 1, &[]),
        rule(0, |_, _| ()),
    ];
    let (classifier, _) = with(rules);
    let won = |from: u8, to: u8| {
        let key = Key { nw_src: u32::from_be_bytes([10, 0, 0, from]).into(), ..packet([10, 0, 0, to]) };
        let mut flows = Vec::new();
        let rule = classifier.lookup(Version::MIN, &key, None, Some(&mut flows)).map(|rule| rule.priority);
        (rule, flows.len())
    };
    assert_eq!(won(1, 2), (Some(100), 2));
    assert_eq!(won(1, 4), (Some(99), 2));
    assert_eq!(won(1, 1), (Some(2), 0));
    assert_eq!(won(2, 2), (Some(0), 0));
}

fn conjunction_list(rows: &[(u32, u8, u8)]) -> Vec<Conjunction> {
    rows.iter().map(|&(id, clause, n_clauses)| Conjunction { id, clause, n_clauses }).collect()
}

#[test]
fn versions_hide_and_show() {
    let (classifier, rules) = with(vec![ip_dst(1, [10, 0, 0, 0], 8)]);
    let new = Arc::new(TestRule { span: Span::since(Version(2)), ..ip_dst(1, [10, 0, 0, 0], 8) });
    rules[0].span.end(Version(2));
    classifier.insert(Arc::clone(&new));
    classifier.publish();
    let key = packet([10, 9, 9, 9]);
    let at = |version| classifier.lookup(version, &key, None, None).expect("a rule");
    assert!(Arc::ptr_eq(&at(Version(1)), &rules[0]));
    assert!(Arc::ptr_eq(&at(Version(2)), &new));
    assert!(classifier.remove(&rules[0]) && !classifier.remove(&rules[0]));
    assert!(Arc::ptr_eq(&at(Version(2)), &new));
    assert!(classifier.remove(&new));
    assert_eq!((classifier.len(), classifier.n_subtables()), (0, 0));
}

#[test]
fn overlaps_and_looser_matches() {
    let (classifier, _) = with(vec![ip_dst(5, [10, 0, 0, 0], 8), ip_dst(6, [10, 1, 0, 0], 16)]);
    let ask = ip_dst(5, [10, 1, 0, 0], 16);
    let mask = words_of(&ask.mask);
    assert!(classifier.overlaps(&mask, &ask.key, 5, Version::MIN));
    assert!(!classifier.overlaps(&mask, &ask.key, 4, Version::MIN));
    let found = |mask: &[MaskWord], key: &Key| -> Vec<i32> {
        classifier.matching(mask, key, Version::MIN).iter().map(|rule| rule.priority).collect()
    };
    assert_eq!(found(&mask, &ask.key), [6]);
    assert_eq!(found(&[], &Key::default()), [6, 5]);
    assert!(classifier.find_exactly(&mask, &ask.key, 6, Version::MIN).is_some());
    assert!(classifier.find_exactly(&mask, &ask.key, 5, Version::MIN).is_none());
}

/// A rule of a small world of matches: few values a field, so that rules meet.
#[derive(Clone, Debug)]
struct RuleSeed {
    reg: Option<u32>,
    mac: Option<u8>,
    ip: Option<(bool, u8, u32)>,
    port: Option<(u16, u32)>,
    priority: i32,
}

fn any_rule() -> impl Strategy<Value = RuleSeed> {
    let ip = (prop::bool::weighted(0.2), 0u8..=4, 0u32..16);
    let parts = (
        prop::option::of(0u32..3),
        prop::option::weighted(0.3, 0u8..3),
        prop::option::weighted(0.8, ip),
        prop::option::of((0u16..4, 14u32..=16)),
        0i32..6,
    );
    parts.prop_map(|(reg, mac, ip, port, priority)| RuleSeed { reg, mac, ip, port, priority })
}

impl RuleSeed {
    fn rule(self) -> TestRule {
        rule(self.priority, |key, mask| {
            if let Some(value) = self.reg {
                (key.regs[0], mask.regs[0]) = (value, u32::MAX);
            }
            if let Some(value) = self.mac {
                (key.dl_src[5], mask.dl_src) = (value, [0xff; 6]);
            }
            let Some((ipv6, len, address)) = self.ip else { return };
            key.dl_type = if ipv6 { 0x86dd } else { 0x0800 }.into();
            mask.dl_type = u16::MAX.into();
            (key.nw_dst, mask.nw_dst) = ((address << 28).into(), prefix(len.into()).into());
            if let Some((port, bits)) = self.port {
                (key.tp_dst, mask.tp_dst) = ((port << 14).into(), (u16::MAX << (16 - bits)).into());
            }
        })
    }
}

fn prefix(len: u32) -> u32 {
    u32::MAX.checked_shl(32 - len).unwrap_or(0)
}

type PacketSeed = (u32, u8, bool, u32, u16);

fn any_packet() -> impl Strategy<Value = PacketSeed> {
    (0u32..3, 0u8..3, any::<bool>(), 0u32..16, 0u16..4)
}

fn seeded((reg, mac, ipv6, address, port): PacketSeed) -> Key {
    let mut key = packet([0; 4]);
    key.regs[0] = reg;
    key.dl_src[5] = mac;
    key.nw_dst = (address << 28).into();
    key.tp_dst = (port << 14).into();
    if ipv6 {
        key.dl_type = 0x86dd.into();
    }
    key
}

/// The oracle: tries every rule.
fn linear(rules: &[Arc<TestRule>], key: &Key) -> Option<i32> {
    rules.iter().filter(|rule| rule.mask.apply(key) == rule.key).map(|rule| rule.priority).max()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn wins_as_a_list_does_and_the_mask_is_sound(
        rules in prop::collection::vec(any_rule(), 0..24),
        drop_some in any::<u32>(),
        packets in prop::collection::vec((any_packet(), any_packet()), 1..8),
    ) {
        let (classifier, mut rules) = with(rules.into_iter().map(RuleSeed::rule).collect());
        let mut i = 0;
        rules.retain(|rule| {
            i += 1;
            let keep = drop_some >> (i % 32) & 1 == 0;
            if !keep {
                assert!(classifier.remove(rule));
            }
            keep
        });
        classifier.publish();
        for (key, noise) in packets {
            let (key, noise) = (seeded(key), seeded(noise));
            let (won, mask) = look(&classifier, &key);
            prop_assert_eq!(won, linear(&rules, &key));
            prop_assert_eq!(won, classifier.lookup(Version::MIN, &key, None, None).map(|rule| rule.priority));
            // Ethertype counts as looked at always, for it is what the tries depend on.
            let mut flipped = key;
            for ((word, mask), noise) in
                flipped.words_mut().iter_mut().zip(mask.0.words()).zip(noise.words())
            {
                *word = *word & mask | noise & !mask;
            }
            flipped.dl_type = key.dl_type;
            prop_assert!(look(&classifier, &flipped) == (won, mask));
        }
    }
}
