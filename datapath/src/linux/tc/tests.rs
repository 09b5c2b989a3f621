use super::*;
use proptest::prelude::*;

/// As kernels on 64-bit machines count.
const USUAL: Psched = Psched { ticks_per_second: 15_625_000.0, buffer_hz: 1_000_000_000 };
const FACTS: Facts = Facts { mtu: Some(1500), speed: Some(10_000) };

fn details<const N: usize>(rows: [(&str, &str); N]) -> Details {
    rows.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The attribute that `fill` writes.
fn options(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut attrs = Writer::new();
    fill(&mut attrs);
    attrs.into_bytes()
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn classes_are_queues_and_back() {
    assert_eq!([0, 1, 0xefff].map(class_of), [0x1_0001, 0x1_0002, 0x1_f000]);
    assert_eq!([0x1_0001, 0x1_f000].map(queue_of), [Some(0), Some(0xefff)]);
    assert_eq!([0x1_0000, 0x1_f001, 0x1_fffe, 0x2_0001].map(queue_of), [None; 4]);
}

#[test]
fn the_header_of_a_request() {
    let mut expected = vec![0; 4];
    expected.extend([5, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 9, 0, 0, 0]);
    assert_eq!(header(5, ROOT, TC_H_ROOT, 9).to_vec(), expected);
}

#[test]
fn htb_as_bytes() {
    let root = Root::parse(Kind::Htb, &details([("max-rate", "8000000")]), &FACTS);
    assert_eq!(root, Root::Htb(htb::Htb { max_rate: 1_000_000 }));
    let bytes = options(|attrs| root.put_options(attrs, USUAL));
    assert_eq!(words(&bytes), [28 | 2 << 16, 24 | 2 << 16, 3, 10, 1, 0, 0]);
    let class = root.parse_class(&details([("min-rate", "800000"), ("priority", "5")]), &FACTS).unwrap();
    let bytes = options(|attrs| attrs.nest(TCA_OPTIONS, |options| class.put_options(options, 1500, USUAL)));
    assert_eq!(bytes.len(), 4 + 48 + 2 * 1028);
    let parms = words(&bytes[4..52]);
    let (spec, mpu) = (3, 60 << 16);
    let buffers = [100_000u64, 1_000_000].map(|rate| (1564 * 15_625_000 / rate) as u32);
    let expected = [48 | 1 << 16, spec, mpu, 100_000, spec, mpu, 1_000_000, buffers[0], buffers[1], 0, 0, 5];
    assert_eq!(parms, expected);
    let attr = Attrs::new(&bytes).next().unwrap().unwrap();
    assert_eq!(Class::decode(Kind::Htb, &attr, USUAL), Some(class));
    let rows = [("min-rate", 800_000), ("max-rate", 8_000_000), ("burst", 12_512), ("priority", 5)];
    assert_eq!(class.rows(), rows);
}

#[test]
fn htb_beyond_32_bits_of_bytes_a_second() {
    let root = Root::parse(Kind::Htb, &details([("max-rate", "80000000000")]), &FACTS);
    let class = root.whole_class().unwrap();
    let bytes = options(|attrs| attrs.nest(TCA_OPTIONS, |options| class.put_options(options, 1500, USUAL)));
    let inner = Attrs::new(&bytes).next().unwrap().unwrap();
    assert_eq!(inner.nested().find(6).unwrap().u64(), Ok(10_000_000_000));
    assert_eq!(inner.nested().find(7).unwrap().u64(), Ok(10_000_000_000));
    let read = Class::decode(Kind::Htb, &inner, USUAL).unwrap();
    assert_eq!(read.max_rate(), 10_000_000_000);
}

#[test]
fn what_is_left_out_follows_from_the_device() {
    let none = Details::new();
    assert_eq!(Root::parse(Kind::Htb, &none, &FACTS), Root::Htb(htb::Htb { max_rate: 1_250_000_000 }));
    let unknown = Facts::default();
    assert_eq!(Root::parse(Kind::Htb, &none, &unknown), Root::Htb(htb::Htb { max_rate: 12_500_000 }));
    assert_eq!(Root::parse(Kind::Hfsc, &none, &FACTS), Root::Hfsc(hfsc::Hfsc { max_rate: 1_250_000_000 }));
    assert_eq!(Root::parse(Kind::Sfq, &none, &FACTS), Root::Sfq(sfq::Sfq { quantum: 1500, perturb: 10 }));
    let htb = Root::parse(Kind::Htb, &details([("max-rate", "1600")]), &FACTS);
    let class = htb.parse_class(&details([("max-rate", "99999999")]), &FACTS).unwrap();
    assert_eq!(class.rows(), [("min-rate", 1600), ("burst", 12_512)], "no more than the device");
}

#[test]
fn hfsc_as_bytes() {
    let root = Root::parse(Kind::Hfsc, &details([("max-rate", "8000000")]), &FACTS);
    assert_eq!(options(|attrs| root.put_options(attrs, USUAL)), [6, 0, 2, 0, 1, 0, 0, 0]);
    let class = root.parse_class(&details([("min-rate", "800")]), &FACTS).unwrap();
    let bytes = options(|attrs| attrs.nest(TCA_OPTIONS, |options| class.put_options(options, 1500, USUAL)));
    let curve = |kind: u32, rate: u32| [16 | kind << 16, 0, 0, rate];
    let expected = [&[52 | 2 << 16][..], &curve(1, 100), &curve(2, 100), &curve(3, 1_000_000)].concat();
    assert_eq!(words(&bytes), expected);
    let attr = Attrs::new(&bytes).next().unwrap().unwrap();
    assert_eq!(Class::decode(Kind::Hfsc, &attr, USUAL), Some(class));
}

#[test]
fn disciplines_without_classes_read_back() {
    let given = details([
        ("target", "7"),
        ("limit", "8"),
        ("interval", "9"),
        ("flows", "10"),
        ("quantum", "11"),
        ("perturb", "12"),
        ("latency", "1000"),
        ("loss", "20"),
        ("jitter", "500"),
    ]);
    for kind in [Kind::Sfq, Kind::Codel, Kind::FqCodel, Kind::Netem] {
        let root = Root::parse(kind, &given, &FACTS);
        let mut message = header(1, ROOT, TC_H_ROOT, 0).to_vec();
        message.extend(options(|attrs| {
            attrs.put_str(TCA_KIND, kind.linux_name().unwrap());
            root.put_options(attrs, USUAL);
        }));
        assert_eq!(parse_qdisc(&message, USUAL), Some(root), "{kind:?}");
        assert!(root.rows().iter().all(|(key, value)| number(&given, key) == Some(*value)));
        assert_eq!(root.parse_class(&given, &FACTS), None);
    }
    let netem = Root::parse(Kind::Netem, &given, &FACTS);
    let bytes = options(|attrs| netem.put_options(attrs, USUAL));
    assert_eq!(words(&bytes), [28 | 2 << 16, 15_625, 8, 858_993_459, 0, 0, 7812]);
    let codel = options(|attrs| Root::parse(Kind::Codel, &Details::new(), &FACTS).put_options(attrs, USUAL));
    assert_eq!(words(&codel), [28 | 2 << 16, 8 | 1 << 16, 5000, 8 | 2 << 16, 10240, 8 | 3 << 16, 100_000]);
}

#[test]
fn policing_as_bytes() {
    let policing = Policing { kbits_rate: 1000, ..Policing::default() }.completed();
    assert_eq!(policing, Policing { kbits_rate: 1000, kbits_burst: 8000, kpkts_rate: 0, kpkts_burst: 0 });
    let bytes = options(|attrs| policing.put_action(attrs, USUAL));
    let action = Attrs::new(&bytes).next().unwrap().unwrap();
    assert_eq!(action.nested().find(1).unwrap().str(), Ok("police"));
    let inner = action.nested().find(2).unwrap();
    let kinds: Vec<u16> = inner.nested().map(|attr| attr.unwrap().kind).collect();
    assert_eq!(kinds, [2, 1, 5]);
    let parms = words(inner.nested().find(1).unwrap().data);
    let burst = 8000 * 1024 / 8 * 125;
    let expected = [0, 2, 0, burst, 65535, 9, 60 << 16, 125_000, 0, 0, 0, 0, 0, 0];
    assert_eq!(parms, expected);
    let packets = Policing { kpkts_rate: 2, ..Policing::default() }.completed();
    let bytes = options(|attrs| packets.put_action(attrs, USUAL));
    let inner = Attrs::new(&bytes).next().unwrap().unwrap().nested().find(2).unwrap();
    assert_eq!(inner.nested().find(10).unwrap().u64(), Ok(2000));
    assert_eq!(inner.nested().find(11).unwrap().u64(), Ok(16_000 * 15_625_000 / 2000));
    let fast = Policing { kbits_rate: 80_000_000, ..Policing::default() }.completed();
    let bytes = options(|attrs| fast.put_action(attrs, USUAL));
    let inner = Attrs::new(&bytes).next().unwrap().unwrap().nested().find(2).unwrap();
    assert_eq!(inner.nested().find(8).unwrap().u64(), Ok(10_000_000_000));
}

#[test]
fn statistics_of_a_class() {
    let mut message = header(1, class_of(3), WHOLE, 0).to_vec();
    message.extend(options(|attrs| {
        attrs.put_str(TCA_KIND, "htb");
        attrs.nest(TCA_STATS2, |stats| {
            stats.put(TCA_STATS_BASIC, &[[100, 0].map(u32::to_ne_bytes).concat(), vec![7, 0, 0, 0]].concat());
            stats.put(TCA_STATS_QUEUE, &[1, 2, 3, 4, 5].map(u32::to_ne_bytes).concat());
        });
    }));
    let told = parse_class(&message, Kind::Htb, USUAL).unwrap();
    assert_eq!(queue_of(told.handle), Some(3));
    assert_eq!(told.stats, QueueStats { tx_bytes: 100, tx_packets: 7, tx_errors: 3 });
    assert_eq!(told.class, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn never_panics(
        kind in 0usize..KINDS_LEN,
        name in 0usize..KINDS_LEN,
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
    ) {
        let kind = root::KINDS[kind].kind;
        let mut message = header(1, class_of(1), WHOLE, 0).to_vec();
        if let Some(name) = root::KINDS[name].linux {
            message.extend(options(|attrs| attrs.put_str(TCA_KIND, name)));
        }
        message.extend(options(|attrs| attrs.put(TCA_OPTIONS, &bytes)));
        message.extend(options(|attrs| attrs.put(TCA_STATS2, &bytes)));
        let _ = (parse_qdisc(&message, USUAL), parse_class(&message, kind, USUAL).is_some());
        let _ = (parse_qdisc(&bytes, USUAL), parse_class(&bytes, kind, USUAL).is_some());
    }

    #[test]
    fn parameters_never_panic(values in proptest::collection::vec("[0-9]{0,21}|-1|x", 10)) {
        let keys = ["max-rate", "min-rate", "burst", "priority", "target", "limit", "quantum", "latency", "loss", "jitter"];
        let details: Details = keys.iter().map(|key| (*key).to_owned()).zip(values).collect();
        for row in &root::KINDS {
            let root = Root::parse(row.kind, &details, &FACTS);
            let mut attrs = Writer::new();
            root.put_options(&mut attrs, USUAL);
            for class in root.parse_class(&details, &FACTS).into_iter().chain(root.whole_class()) {
                class.put_options(&mut attrs, 1500, USUAL);
                let _ = (class.rows(), class.text());
            }
            let _ = root.rows();
        }
    }
}

const KINDS_LEN: usize = root::KINDS.len();
