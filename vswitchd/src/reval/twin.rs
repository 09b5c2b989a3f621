//! The slow twin of `news` and of translating again: whatever flow is spared or stays, each of its packets translates as the
//! flow says; and what a translation that looks up less says is what one says that looks everything up.

use std::cell::Cell;
use std::sync::Arc;

use datapath::PmdId;
use datapath::upcall::{Answer, Desk, Handler, Kind, Upcall};
use flow::action::Action;
use flow::id::{DpPort, TableId, Ufid};
use flow::key::{Key, VLAN_CFI, Vlan, frag};
use flow::mini::Midi;
use flow::odp::Fitness;
use openflow::msg::flow_mod::FlowCommand;
use openflow::names::Names;
use openflow::parse::flow::{Purpose, flow_mod};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, TestCaseError, any, prop_assert, proptest};

use super::classes::{Again, Classes};
use super::look::{Batch, Look, Verdict};
use super::news::{Concern, News};
use super::tests::Setting;
use super::ukey::{Kept, Life, State, Ukey};
use crate::backer::Backer;
use crate::upcall::{slow_path, spared_of};
use crate::xlate::effect::Effect;
use crate::xlate::{Room, Snapshot};

/// Choices, from random bytes; the first when there are no more.
struct Dice<'a>(Cell<&'a [u8]>);

impl Dice<'_> {
    fn below(&self, n: usize) -> usize {
        match self.0.get() {
            [first, rest @ ..] => {
                self.0.set(rest);
                usize::from(*first) % n
            }
            [] => 0,
        }
    }

    fn of<'b>(&self, from: &[&'b str]) -> &'b str {
        from[self.below(from.len())]
    }

    fn some(&self, from: &[&str], most: usize) -> Vec<String> {
        (0..self.below(most + 1)).map(|_| self.of(from).to_owned()).collect()
    }
}

const TABLES: usize = 4;

/// Table and match of a rule.
fn matching(dice: &Dice<'_>) -> String {
    let l3 = dice.of(&[
        "",
        "ip",
        "tcp",
        "udp",
        "tcp",
        "udp",
        "arp",
        "ipv6",
        "ip,nw_frag=first",
        "udp,ct_state=+est+trk",
    ]);
    let mut parts = vec![l3.to_owned()];
    let anyhow = [
        "in_port=1",
        "in_port=2",
        "metadata=0",
        "metadata=1",
        "metadata=1/1",
        "reg0=0",
        "reg0=0xa000001",
        "reg1=0/0xff",
        "reg2=2/2",
        "reg1=1",
        "dl_dst=02:00:00:00:00:02",
        "dl_src=02:00:00:00:00:01",
        "dl_vlan=5",
        "vlan_tci=0",
        "ct_state=-trk",
        "conj_id=7",
        "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
    ];
    parts.extend(dice.some(&anyhow, 2));
    let ip = [
        "nw_src=10.0.0.1",
        "nw_src=10.0.0.2/31",
        "nw_src=11.0.0.0/8",
        "nw_dst=10.0.0.1",
        "nw_dst=11.0.0.0/9",
        "nw_tos=4",
    ];
    if ["ip", "tcp", "udp"].contains(&l3) {
        parts.extend(dice.some(&ip, 2));
    }
    if ["tcp", "udp"].contains(&l3) {
        parts.extend(dice.some(&["tp_dst=1", "tp_dst=2", "tp_src=1", "tp_src=0/1", "tp_dst=0"], 2));
    }
    parts.retain(|part| !part.is_empty());
    // A field comes once.
    let name = |part: &String| part.split('=').next().unwrap_or_default().to_owned();
    parts.sort_by_key(name);
    parts.dedup_by_key(|part| name(part));
    format!("table={},{}", dice.below(TABLES), parts.join(","))
}

fn actions(dice: &Dice<'_>) -> String {
    let one = || {
        let table = dice.below(TABLES);
        let to = match dice.below(36) {
            0 => "output:1",
            1 => "output:2",
            2 => "set_field:10.0.0.1->ip_dst",
            3 => "set_field:02:00:00:00:00:02->eth_dst",
            4 => "set_field:1->reg0",
            5 => "set_field:1->metadata",
            6 => "move:NXM_OF_IP_SRC[]->NXM_NX_REG0[]",
            7 => "move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[]",
            8 => "move:NXM_OF_UDP_DST[0..7]->NXM_NX_REG1[0..7]",
            9 => "push:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[]",
            10 => "dec_ttl",
            11 => "strip_vlan",
            12 => "mod_vlan_vid:5",
            13 => "move:NXM_OF_IN_PORT[]->OXM_OF_METADATA[0..15]",
            14 => return format!("resubmit(1,{table})"),
            15 => return format!("ct(table={table})"),
            16 => return format!("clone(set_field:1->reg1,resubmit(,{table}))"),
            17 => {
                return format!(
                    "learn(table={table},idle_timeout=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"
                );
            }
            18 => "set_field:2->udp_dst",
            20 => "fin_timeout(idle_timeout=5)",
            21 => "move:NXM_OF_IP_DST[]->NXM_NX_REG1[]",
            22 => {
                "move:NXM_NX_REG0[0..15]->NXM_NX_REG2[16..31],move:NXM_OF_IP_SRC[0..15]->NXM_NX_REG0[4..19]"
            }
            23 => "move:NXM_NX_REG1[]->NXM_OF_IP_DST[]",
            24 => "output:NXM_NX_REG1[0..15]",
            25 => "move:NXM_OF_TCP_SRC[]->NXM_NX_REG2[0..15]",
            26 => "multipath(symmetric_l4,0,modulo_n,2,0,NXM_NX_REG0[0..3])",
            27 => "ct(commit,zone=NXM_NX_REG2[0..15])",
            28 => "set_field:5/15->reg0",
            29 => "move:NXM_OF_ETH_DST[]->NXM_NX_XXREG1[8..55]",
            30 => "push:NXM_NX_REG2[],pop:NXM_NX_REG0[]",
            19 => return format!("ct(commit),resubmit(,{table},ct)").replace("ct(commit),", ""),
            _ => return format!("resubmit(,{})", (table + 1) % TABLES),
        };
        to.to_owned()
    };
    let all: Vec<_> = (0..1 + dice.below(3)).map(|_| one()).collect();
    all.join(",")
}

/// What makes a rule, without its priority.
type Rule = fn(&Dice<'_>) -> (String, String);

fn rule(dice: &Dice<'_>) -> (String, String) {
    let conjunction = ["conjunction(7,1/2)", "conjunction(7,2/2)"];
    let matching = matching(dice);
    match dice.below(6) {
        0 => (matching, dice.of(&conjunction).to_owned()),
        _ => (matching, actions(dice)),
    }
}

/// What puts something of a packet into registers.
const COPIES: [&str; 8] = [
    "move:NXM_OF_IP_SRC[]->NXM_NX_REG0[]",
    "move:NXM_OF_IP_DST[]->NXM_NX_REG1[]",
    "move:NXM_OF_IP_SRC[0..15]->NXM_NX_REG2[4..19]",
    "move:NXM_NX_REG0[]->NXM_NX_REG1[]",
    "move:NXM_OF_UDP_SRC[]->NXM_NX_REG2[0..15]",
    "move:NXM_OF_ETH_DST[]->NXM_NX_XXREG0[8..55]",
    "move:NXM_OF_IP_DST[0..7]->NXM_NX_REG0[0..7],move:NXM_NX_REG0[4..11]->NXM_NX_REG2[0..7]",
    "set_field:1->reg1",
];

/// A rule that is about registers and what was copied to them.
fn copying_rule(dice: &Dice<'_>) -> (String, String) {
    let table = 1 + dice.below(3);
    let matches = [
        "reg0=0xa000001",
        "reg1=0xb000001",
        "reg1=1/0xff",
        "reg2=1/3",
        "reg0=2/2",
        "nw_src=10.0.0.1",
        "nw_src=10.0.0.2/31",
        "nw_dst=11.0.0.0/9",
        "tp_dst=1",
    ];
    let mut matching = dice.some(&matches, 2);
    matching.sort();
    matching.dedup_by_key(|part| part.split('=').next().unwrap_or_default().to_owned());
    matching.insert(0, format!("table={table},udp"));
    let action = match dice.below(24) {
        n @ 0..8 => COPIES[n].to_owned(),
        8 => "move:NXM_NX_REG0[]->NXM_OF_IP_DST[]".to_owned(),
        9 => "set_field:10.0.0.9->ip_dst".to_owned(),
        10 => "set_field:10.0.0.9->ip_src".to_owned(),
        11 => "output:NXM_NX_REG2[0..15]".to_owned(),
        12 => "ct(commit,zone=NXM_NX_REG1[0..15])".to_owned(),
        13 => format!("ct(table={table})"),
        14 => "push:NXM_NX_REG0[],pop:NXM_NX_REG2[]".to_owned(),
        15 => "multipath(symmetric_l4,0,modulo_n,2,0,NXM_NX_REG0[0..3])".to_owned(),
        16 => "controller(max_len=10)".to_owned(),
        17 => "set_field:5/15->reg0".to_owned(),
        18 => format!("clone(move:NXM_OF_IP_DST[]->NXM_NX_REG0[],resubmit(,{}))", table + 1),
        19 => "learn(table=7,idle_timeout=5,NXM_OF_IP_DST[]=NXM_NX_REG0[],load:NXM_NX_REG1[]->NXM_NX_REG3[])"
            .to_owned(),
        20 => "move:NXM_NX_REG2[]->OXM_OF_METADATA[0..31]".to_owned(),
        _ => "output:1".to_owned(),
    };
    let last = ["output:2".to_owned(), format!("resubmit(,{})", table + 1)];
    (matching.join(","), format!("{action},{}", last[dice.below(5).min(1)]))
}

/// One of packets that are much alike.
fn udp_packet(dice: &Dice<'_>) -> Key {
    let mut key = Key { dl_src: [2, 0, 0, 0, 0, 1], in_port: 1, nw_proto: 17, nw_ttl: 64, ..Key::default() };
    key.dl_dst = [2, 0, 0, 0, 0, 1 + dice.below(2) as u8];
    key.dl_type = 0x800.into();
    let addresses = [0x0a00_0001_u32, 0x0a00_0002, 0x0a00_0003, 0x0b00_0001, 0x0b80_0001];
    (key.nw_src, key.nw_dst) = (addresses[dice.below(5)].into(), addresses[dice.below(5)].into());
    (key.tp_src, key.tp_dst) = ((dice.below(3) as u16).into(), (dice.below(3) as u16).into());
    key
}

fn packet(dice: &Dice<'_>, recirc: u32) -> Key {
    let mut key = Key { dl_src: [2, 0, 0, 0, 0, 1], recirc_id: recirc, ..Key::default() };
    key.in_port = 1 + dice.below(2) as u32;
    key.dl_dst = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], [3, 0, 0, 0, 0, 1]][dice.below(3)];
    if dice.below(4) == 0 {
        key.vlans[0] = Vlan { tpid: 0x8100.into(), tci: (VLAN_CFI | 5).into() };
    }
    key.dl_type = [0x800, 0x800, 0x800, 0x806, 0x86dd][dice.below(5)].into();
    (key.nw_proto, key.nw_ttl) = ([17, 6, 1][dice.below(3)], 64);
    if key.dl_type.get() == 0x800 {
        let addresses = [0x0a00_0001_u32, 0x0a00_0002, 0x0a00_0003, 0x0b00_0001, 0x0b80_0001];
        (key.nw_src, key.nw_dst) = (addresses[dice.below(5)].into(), addresses[dice.below(5)].into());
        key.nw_frag = [0, 0, 0, 0, frag::ANY, frag::MASK][dice.below(6)];
        if recirc != 0 {
            key.ct_state = [0, 0x22, 0x21][dice.below(3)];
            if key.ct_state != 0 {
                (key.ct_nw_src, key.ct_nw_dst, key.ct_nw_proto) =
                    (key.nw_src, addresses[dice.below(5)].into(), key.nw_proto);
            }
        }
    }
    if key.dl_type.get() == 0x806 {
        (key.nw_proto, key.nw_ttl) = (1, 0);
    } else if key.nw_frag & frag::LATER == 0 {
        (key.tp_src, key.tp_dst) = ((dice.below(3) as u16).into(), (dice.below(3) as u16).into());
    }
    key
}

fn change(setting: &mut Setting, command: FlowCommand, text: &str) {
    let parsed = flow_mod(text, Purpose::Mod(command), &Names::default());
    // Some actions are not for what is matched.
    let plain = || format!("{} actions=output:1", text.split(" actions=").next().unwrap_or_default());
    let (request, _) =
        parsed.or_else(|_| flow_mod(&plain(), Purpose::Mod(command), &Names::default())).expect(text);
    let _ = setting.ofproto.flow_mod(&request, None, setting.backer.clock.now());
}

fn miss(backer: &Backer, n: usize, key: &Key) {
    miss_at(backer, &mut Desk::default(), n, key);
}

fn miss_at(backer: &Backer, desk: &mut Desk, n: usize, key: &Key) -> Option<Answer> {
    let snapshot = backer.snapshot();
    let raw = super::raw_key(&snapshot, key, &flow::key::Mask::exact());
    let mut ufid = [0; 16];
    ufid[..8].copy_from_slice(&n.to_ne_bytes());
    let upcall = Upcall {
        kind: Kind::Miss,
        packet: &[0; 60],
        full_len: 60,
        key,
        raw: Some(&raw),
        fitness: Fitness::Perfect,
        ufid: Ufid(ufid),
        pmd: PmdId::NONE,
        in_port: DpPort(key.in_port),
        hash: 0,
        mru: 0,
    };
    backer.upcall_at(desk, &upcall)
}

/// Lets a thread answer packets one after the other, and others each one of them: whether what they say and keep is the same.
fn answers_agree(backer: &Backer, keys: &[Key]) -> Result<(), String> {
    let mut desk = Desk::default();
    for (n, key) in keys.iter().enumerate() {
        // Answering changes what is known of where addresses are: not so the second time.
        let before = backer.seq();
        let texts = [(&mut desk, n), (&mut Desk::default(), n + 1000)].map(|(desk, n)| {
            let answer = miss_at(backer, desk, n, key);
            let text = answer.map(|Answer { execute, install }| {
                let install = install.map(|install| (Midi::new(&install.mask.0), install.actions));
                format!("{execute:?}, then {install:?}")
            });
            let ukey = ukeys(backer).into_iter().find(|ukey| ukey.ufid.0[..8] == n.to_ne_bytes());
            let kept = ukey.map(|ukey| {
                let state = ukey.state();
                let State { mask, actions, kept, teaching, seq, .. } = &*state;
                let ids: Vec<_> = kept.recircs.iter().map(|recirc| recirc.id().0).collect();
                let kept = (way(kept), ids, kept.counts_rules);
                let text = format!("{mask:?} {actions:?} {kept:?} {teaching} {}", *seq == Some(before));
                drop(state);
                (text, ukey)
            });
            (text, kept)
        });
        // Recirculation ids that no flow has are given out anew.
        let [(one, Some((one_kept, _))), (other, Some((other_kept, ukey)))] = texts else { continue };
        if before == backer.seq() && (&one, &one_kept) != (&other, &other_kept) {
            return Err(format!("{n}: {one:?} {one_kept}, but {other:?} {other_kept}"));
        }
        backer.flows.ukeys.remove(&ukey);
    }
    Ok(())
}

/// What a packet's flow should be; `None` if there is to be none.
fn translated(backer: &Backer, key: &Key) -> Option<(Vec<Action>, Kept)> {
    let snapshot = backer.snapshot();
    let (bridge, in_port) = backer.origin(&snapshot, key).ok()?;
    let result = backer.translate(&snapshot, bridge, in_port, key, None, backer.clock.now());
    let actions = match result.slow.is_empty() {
        true => result.actions,
        false => slow_path(backer, bridge, result.slow, DpPort(key.in_port), in_port),
    };
    let kept = Kept::new(result.effects, result.recircs, result.counts_rules);
    (!result.avoid_caching).then_some((actions, kept))
}

/// By which rules and tables a flow's packets go, and what else they do.
fn way(kept: &Kept) -> Vec<String> {
    let step = |effect: &Effect| match effect {
        Effect::Rule(rule) => format!("rule {}", rule.serial),
        Effect::Met { rule, table, .. } => format!("table {table} rule {}", rule.serial),
        Effect::Missed { table, .. } => format!("table {table}"),
        Effect::Learn { request, .. } => format!("{request:?}"),
        Effect::FinTimeout { rule, idle, .. } => format!("rule {} goes in {idle}", rule.serial),
        _ => "more".to_owned(),
    };
    kept.effects.iter().map(step).collect()
}

fn look<'a>(backer: &'a Backer, snapshot: &'a Snapshot, news: &'a News) -> Look<'a> {
    Look {
        backer,
        snapshot,
        seq: backer.seq(),
        news,
        pass: 0,
        now: backer.clock.now(),
        max_idle: u64::MAX,
        kill_all: false,
        sparse: None,
        late: std::time::Duration::ZERO,
    }
}

/// Actions of a flow after a verdict, and what it keeps; `None` if it is to go.
fn after(verdict: Verdict<'_>, state: &State) -> Option<(Vec<Action>, Kept)> {
    let mut kept = Kept::new(state.kept.effects.clone(), state.kept.recircs.clone(), state.kept.counts_rules);
    let actions = match verdict {
        Verdict::Keep => None,
        Verdict::Inherit(heirs) => {
            heirs.into_iter().for_each(|(place, heir)| kept.inherit(place, heir));
            None
        }
        Verdict::Change(actions, renewed) => {
            renewed.renew(&mut kept);
            actions
        }
        Verdict::Replace(_, actions, renewed) => {
            renewed.renew(&mut kept);
            Some(actions)
        }
        Verdict::Delete => return None,
    };
    Some((actions.unwrap_or_else(|| Arc::clone(&state.actions)).to_vec(), kept))
}

/// What the shortest translation and the whole one make of a flow, if they are not the same.
fn divided(look: &Look<'_>, ukey: &Ukey) -> Option<String> {
    let state = ukey.state();
    let concern = look.concern(ukey, &state);
    let room = &mut Room::default();
    let again = Again::new(&concern);
    let (how, short) = match concern {
        Concern::After(stands, heir) => {
            let how = format!("{stands} stand, then {:?}", heir.map(|rule| rule.serial));
            (how, look.translate_again(ukey, &state, again, room).0)
        }
        Concern::Heirs(heirs) => {
            let how = heirs.iter().map(|(place, heir)| format!("{place} is {}", heir.serial));
            (how.collect(), Verdict::Inherit(heirs))
        }
        Concern::None | Concern::Unknown => return None,
    };
    let short = after(short, &state);
    // A mask may be as wide as it was and not as wide as it would be.
    let whole = after(look.translate_again(ukey, &state, Again::START, room).0, &state)?;
    let text = |(actions, kept): &(_, Kept)| format!("{actions:?} by {:?}", way(kept));
    let (short, whole) = (short.as_ref().map(text), text(&whole));
    (short.as_ref() != Some(&whole)).then(|| format!("{:?}, {how}: {short:?}, but {whole}", way(&state.kept)))
}

/// What a flow's class and its own translation make of it, if they are not the same.
fn differs_from_class(look: &Look<'_>, ukey: &Ukey, classes: &mut Classes) -> Option<String> {
    let state = ukey.state();
    let room = &mut Room::default();
    let concern = || look.concern(ukey, &state);
    if matches!(concern(), Concern::None | Concern::Heirs(_)) {
        return None;
    }
    let of_class = after(classes.verdict(look, ukey, &state, concern(), room), &state);
    let own = after(look.translate_again(ukey, &state, Again::new(&concern()), room).0, &state);
    // Where other bits exclude the rules that it does not meet, its own mask may not be within the one that it has.
    let own = own?;
    // Ids are compared while both are there, for those of equal states are equal as long as one of them is in use.
    let text = |(actions, kept): &(_, Kept)| {
        let ids: Vec<_> = kept.recircs.iter().map(|recirc| recirc.id().0).collect();
        format!("{actions:?} by {:?} to {ids:?}, {}", way(kept), kept.counts_rules)
    };
    let (of_class, own) = (of_class.as_ref().map(text), text(&own));
    (of_class.as_ref() != Some(&own)).then(|| format!("{:?}: {of_class:?}, but {own:?}", way(&state.kept)))
}

fn ukeys(backer: &Backer) -> Vec<Arc<Ukey>> {
    backer.flows.ukeys.part(0, 1, |_| true).flatten().collect()
}

#[test]
fn who_cannot_meet_a_changed_rule_is_spared() {
    let rules = [
        "table=0,priority=9,udp,in_port=1 actions=set_field:1->reg1,resubmit(,1)",
        "table=1,priority=9,ip,nw_dst=11.0.0.0/8 actions=output:2",
    ];
    let mut setting = Setting::new(&rules, |_| ());
    let mut key = packet(&Dice(Cell::new(&[])), 0);
    (key.nw_src, key.nw_dst, key.tp_dst) = (0x0a00_0001.into(), 0x0b00_0001.into(), 9.into());
    let backer = Arc::clone(&setting.backer);
    miss(&backer, 1, &key);
    let ukey = ukeys(&backer).remove(0);
    let mut seq = backer.seq();
    backer.flows.history.begin(backer.moment());
    let mut is_spared = |command, text: &str| {
        change(&mut setting, command, text);
        assert!(backer.seq() > seq, "{text}: there is a pass");
        seq = backer.seq();
        let before = ukey.state().seq.unwrap();
        let news = backer.flows.history.begin(backer.moment());
        let spared = matches!(news.concern(before, &ukey, &ukey.state()), Concern::None);
        ukey.state().seq = Some(seq);
        spared
    };
    use FlowCommand::{Add, DeleteStrict, ModifyStrict};
    assert!(is_spared(Add, "table=1,priority=10,tcp,tp_dst=9 actions=drop"));
    assert!(is_spared(ModifyStrict, "table=1,priority=10,tcp,tp_dst=9 actions=output:1"));
    assert!(is_spared(DeleteStrict, "table=1,priority=10,tcp,tp_dst=9"));
    assert!(is_spared(Add, "table=2,priority=10 actions=drop"));
    assert!(is_spared(Add, "table=1,priority=10,in_port=2,reg1=1 actions=drop"));
    assert!(is_spared(Add, "table=1,priority=10,metadata=1 actions=drop"));
    assert!(is_spared(Add, "table=0,priority=1,ip,nw_proto=6 actions=drop"));
    // What the mask lacks, and what an action wrote.
    assert!(!is_spared(Add, "table=1,priority=10,udp,tp_dst=10 actions=drop"));
    assert!(!is_spared(Add, "table=1,priority=10,reg1=2 actions=drop"));
    // Its own rules, by equal ones too.
    assert!(!is_spared(Add, &rules[1].replace("output:2", "output:1")));
    assert!(!is_spared(Add, rules[0]));
    assert!(!is_spared(DeleteStrict, "table=1,priority=9,ip,nw_dst=11.0.0.0/8"));
    backer.changed();
    assert!(!is_spared(Add, "table=2,priority=9 actions=drop"));
    assert!(is_spared(Add, "table=2,priority=8 actions=drop"));
}

#[test]
fn flows_of_one_class_share_a_verdict() {
    let first = "table=0,priority=9,udp,in_port=1 actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],resubmit(,1)";
    let last = "table=1,priority=9,udp,tp_dst=1 actions=set_field:10.0.0.9->ip_dst,output:2";
    let mut setting = Setting::new(&[first, last], |_| ());
    let backer = Arc::clone(&setting.backer);
    let dice = Dice(Cell::new(&[]));
    let keys = [(1, 1, 1), (2, 1, 1), (3, 1, 1), (2, 2, 1), (2, 1, 2)].map(|(nw_src, tp_src, tp_dst)| {
        let mut key = Key { nw_src: (0x0a00_0000 + nw_src).into(), ..packet(&dice, 0) };
        (key.tp_src, key.tp_dst) = (tp_src.into(), tp_dst.into());
        key
    });
    keys.iter().enumerate().for_each(|(n, key)| miss(&backer, n, key));
    backer.flows.history.begin(backer.moment());
    // For each flow, the first whose actions are the same list after rules came.
    let mut lists = |rules: &[&str]| {
        rules.iter().for_each(|text| change(&mut setting, FlowCommand::Add, text));
        let news = backer.flows.history.begin(backer.moment());
        let snapshot = backer.snapshot();
        let look = look(&backer, &snapshot, &news);
        let mut batch = Batch::default();
        let mut all = ukeys(&backer);
        all.sort_by_key(|ukey| ukey.ufid.0);
        for ukey in &all {
            let state = &mut *ukey.state();
            look.decide(&backer.flows, ukey, state, state.stats, &mut batch);
        }
        let actions: Vec<_> = all.iter().map(|ukey| Arc::clone(&ukey.state().actions)).collect();
        let first = |list: &Arc<[Action]>| actions.iter().position(|other| Arc::ptr_eq(other, list));
        actions.iter().map(|list| first(list).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(lists(&[]), [0, 1, 2, 3, 4]);
    // Nobody looks at the address that was copied, nor at the port from which packets are; the fifth flow meets no rule.
    assert_eq!(lists(&[&last.replace("output:2", "output:LOCAL")]), [0, 0, 0, 0, 4]);
    // Somebody looks at the copy, or at the address.
    assert_eq!(
        lists(&[&last
            .replace("set_field:10.0.0.9", "move:NXM_NX_REG0[]")
            .replace("ip_dst", "NXM_OF_IP_DST[]")]),
        [0, 1, 2, 1, 4]
    );
}

#[test]
fn packets_that_agree_in_what_decided_get_one_answer() {
    let first = "table=0,priority=9,udp,in_port=1 actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],resubmit(,1)";
    let last = "table=1,priority=9,udp,tp_dst=1 actions=output:2";
    let mut setting = Setting::new(&[first, last], |_| ());
    let backer = Arc::clone(&setting.backer);
    let dice = Dice(Cell::new(&[]));
    let key = |nw_src: u32, tp_dst: u16| Key {
        nw_src: (0x0a00_0000 + nw_src).into(),
        tp_dst: tp_dst.into(),
        ..packet(&dice, 0)
    };
    let mut desk = Desk::default();
    // Who is answered without a translation; afterwards, the packets that rules have counted.
    let mut spared = |setting: &Setting, from: usize, keys: &[Key]| {
        let spared = keys.iter().enumerate().map(|(n, key)| {
            let before = spared_of(&desk);
            assert!(miss_at(&backer, &mut desk, from + n, key).is_some());
            spared_of(&desk) - before
        });
        let spared: Vec<_> = spared.collect();
        let mut rules = [0, 1].map(|table| setting.ofproto.rules(TableId(table))).concat();
        rules.sort_by_key(|rule| rule.table);
        (spared, rules.iter().map(|rule| rule.usage().packets).collect::<Vec<_>>())
    };
    let keys = [key(1, 1), key(2, 1), key(3, 1), key(3, 2), key(4, 1), key(5, 2)];
    assert_eq!(spared(&setting, 0, &keys), (vec![0, 1, 1, 0, 1, 1], vec![6, 4]));
    assert_eq!(backer.flows.len(), 6);
    // All of them have masks that tell them apart, and nobody is asked for again what is there.
    let all = ukeys(&backer);
    assert!(all.iter().all(|ukey| ukey.state().mask.get(core::mem::offset_of!(Key, nw_src) / 8) != 0));
    // After a change, recipes are new; so they are if the flows are gone that they are of.
    change(&mut setting, FlowCommand::Add, "table=1,priority=9,udp,tp_dst=2 actions=output:2");
    assert_eq!(spared(&setting, 10, &[key(6, 1), key(7, 1)]).0, [0, 1]);
    for ukey in ukeys(&backer) {
        backer.flows.ukeys.remove(&ukey);
    }
    drop(all);
    assert_eq!(spared(&setting, 20, &[key(6, 1), key(7, 1)]).0, [0, 1]);
    // Somebody looks at the copy.
    change(&mut setting, FlowCommand::Add, "table=1,priority=10,udp,reg0=0xa000008 actions=drop");
    assert_eq!(spared(&setting, 30, &[key(8, 1), key(9, 1), key(8, 1)]).0, [0, 0, 1]);
}

#[test]
fn an_equal_rule_takes_the_place_of_a_met_one() {
    let first = "table=0,priority=9,tcp,in_port=1 actions=set_field:1->reg1,resubmit(,1)";
    let last = "table=1,priority=9,tcp,nw_dst=11.0.0.0/8 actions=fin_timeout(idle_timeout=5),output:2";
    let mut setting = Setting::new(&[first, last], |_| ());
    let mut key = packet(&Dice(Cell::new(&[])), 0);
    (key.nw_dst, key.nw_proto) = (0x0b00_0001.into(), 6);
    let backer = Arc::clone(&setting.backer);
    miss(&backer, 1, &key);
    let ukey = ukeys(&backer).remove(0);
    backer.flows.history.begin(backer.moment());
    // In how many places another rule is met that does the same, the requests for the flow, and whether it is by the present rules.
    let mut turn = |rules: &[&str]| {
        rules.iter().for_each(|text| change(&mut setting, FlowCommand::Add, text));
        let news = backer.flows.history.begin(backer.moment());
        let snapshot = backer.snapshot();
        let look = look(&backer, &snapshot, &news);
        let state = &mut *ukey.state();
        let concern = look.concern(&ukey, state);
        let heirs = if let Concern::Heirs(heirs) = &concern { heirs.len() } else { 0 };
        assert_eq!(heirs == 0, matches!(concern, Concern::After(..)));
        let mut batch = Batch::default();
        look.decide(&backer.flows, &ukey, state, state.stats, &mut batch);
        assert_eq!(state.seq, Some(backer.seq()));
        let rules = [0, 1].map(|table| setting.ofproto.rules(TableId(table)));
        let [a, b] = rules.map(|rules| rules.iter().find(|rule| rule.priority == 9).unwrap().serial);
        let present =
            [format!("table 0 rule {a}"), format!("table 1 rule {b}"), format!("rule {b} goes in 5")];
        (heirs, batch.len(), way(&state.kept) == present)
    };
    assert_eq!(turn(&[last]), (1, 0, true));
    assert_eq!(turn(&[first]), (1, 0, true));
    assert_eq!(turn(&[first, last]), (2, 0, true));
    assert_eq!(turn(&[last, first, last]), (2, 0, true));
    // Another cookie, which packets to controllers would have.
    assert_eq!(turn(&[&format!("cookie=5,{last}")]), (0, 0, true));
    assert_eq!(turn(&[first, last]), (0, 0, true));
    let other = last.replace("output:2", "output:LOCAL");
    assert_eq!(turn(&[&other]), (0, 1, true));
    assert_eq!(turn(&[first, &other]), (2, 0, true));
    // One that may be met before it.
    assert_eq!(turn(&[last, "table=1,priority=10,tcp,reg1=2 actions=drop"]), (0, 1, true));
}

/// Changes a rule of these (match and actions), or adds one that `rule` makes.
fn change_one(
    setting: &mut Setting,
    there: &mut Vec<(String, String)>,
    rule: Rule,
    dice: &Dice<'_>,
    n: usize,
) {
    let mut which = dice.below(there.len());
    let (matching, actions) = rule(dice);
    let (command, cookie) = match dice.below(8) {
        0 => return change(setting, FlowCommand::DeleteStrict, &there[which].0),
        1 => {
            there[which].1 = actions;
            (FlowCommand::ModifyStrict, "")
        }
        // The same again.
        2 | 3 => (FlowCommand::Add, ""),
        4 => (FlowCommand::ModifyStrict, ""),
        5 => (FlowCommand::Add, "cookie=9,"),
        _ => {
            which = there.len();
            there.push((format!("{matching},priority={}", dice.below(24) * 10 + 10 + n), actions));
            (FlowCommand::Add, "")
        }
    };
    let (matching, actions) = &there[which];
    change(setting, command, &format!("{cookie}{matching} actions={actions}"));
}

/// Changes rules of these in rounds, and holds the flows that stay against what each of these packets translates to.
fn hold(
    setting: &mut Setting,
    there: &mut Vec<(String, String)>,
    rule: Rule,
    keys: &[Key],
    rounds: &[Vec<Vec<u8>>],
) -> Result<(), TestCaseError> {
    let backer = Arc::clone(&setting.backer);
    backer.flows.history.begin(backer.moment());
    let mut right = ukeys(&backer);
    right.iter().for_each(|ukey| ukey.state().seq = Some(backer.seq()));
    let mut next = 0;
    for changes in rounds {
        for bytes in changes {
            next += 1;
            change_one(setting, there, rule, &Dice(Cell::new(bytes)), next);
        }
        let news = backer.flows.history.begin(backer.moment());
        let snapshot = backer.snapshot();
        let look = look(&backer, &snapshot, &news);
        let classes = &mut Classes::default();
        for ukey in &right {
            let divided = divided(&look, ukey).or_else(|| differs_from_class(&look, ukey, classes));
            prop_assert!(divided.is_none(), "{there:#?}\n{divided:?}");
            let state = &mut *ukey.state();
            look.decide(&backer.flows, ukey, state, state.stats, &mut Batch::default());
        }
        right.retain(|ukey| ukey.state().life != Life::Gone);
        for ukey in &right {
            let state = ukey.state();
            let own = ukey.key.expand();
            // That there is no tag is in the datapath's Ethernet type, and not in the mask.
            let tagged = |key: &Key| key.vlans[0].tci.get() & VLAN_CFI != 0;
            let is_its = |key: &&Key| state.mask.agree(key, &own) && tagged(key) == tagged(&own);
            let all = keys.iter().filter(is_its).chain([&own]);
            for key in all {
                let now = translated(&backer, key);
                prop_assert!(now.is_some(), "{there:#?}");
                let (actions, kept) = now.unwrap();
                let (now, then) = (way(&kept), way(&state.kept));
                let same = *actions == *state.actions && now == then && kept.recircs == state.kept.recircs;
                prop_assert!(
                    same,
                    "{there:#?}\n{}\n{:?} by {then:?}\n{actions:?} by {now:?}",
                    flow::describe::key_to_string(key, &flow::field::NoNames),
                    state.actions
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn who_is_spared_or_stays_is_right(
        ways in vec(any::<u8>(), 3),
        rules in vec(vec(any::<u8>(), 24), 4..24),
        packets in vec(vec(any::<u8>(), 16), 40),
        rounds in vec(vec(vec(any::<u8>(), 28), 1..4), 1..5),
    ) {
        let mut setting = Setting::new(&[], |_| ());
        // Priorities are all different: which of two equal ones wins is nobody's promise.
        let mut there = Vec::new();
        let through = [
            "resubmit",
            "set_field:1->reg0,resubmit",
            "set_field:1->metadata,resubmit",
            "move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],resubmit",
            "set_field:02:00:00:00:00:02->eth_dst,resubmit",
            "push:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],resubmit",
            "strip_vlan,resubmit",
            "mod_vlan_vid:5,resubmit",
            "ct",
        ];
        for (table, action) in ways.iter().enumerate() {
            let action = through[usize::from(*action) % through.len()];
            let to = if action == "ct" { "table=" } else { "," };
            let protocol = if action.contains("IP_SRC") || action == "ct" { "ip," } else { "" };
            let text = format!("table={table},{protocol}priority=1 actions={action}({to}{})", table + 1);
            change(&mut setting, FlowCommand::Add, &text);
        }
        for (n, bytes) in rules.iter().enumerate() {
            let (matching, actions) = rule(&Dice(Cell::new(bytes)));
            there.push((format!("{matching},priority={}", n * 7 % 24 * 10 + 10), actions));
            change(&mut setting, FlowCommand::Add, &format!("{} actions={}", there[n].0, there[n].1));
        }
        let backer = Arc::clone(&setting.backer);
        let mut keys: Vec<_> = packets[..24].iter().map(|bytes| packet(&Dice(Cell::new(bytes)), 0)).collect();
        let agreed = answers_agree(&backer, &keys);
        prop_assert!(agreed.is_ok(), "{there:#?}\n{agreed:?}");
        let ids: Vec<_> = ukeys(&backer).iter().flat_map(|ukey| ukey.state().kept.recircs.clone()).collect();
        let again = packets[24..].iter().enumerate().filter_map(|(n, bytes)| {
            ids.get(n % ids.len().max(1)).map(|id| packet(&Dice(Cell::new(bytes)), id.id().0))
        });
        keys.extend(again);
        (24..keys.len()).for_each(|n| miss(&backer, n, &keys[n]));
        hold(&mut setting, &mut there, rule, &keys, &rounds)?;
    }

    #[test]
    fn what_a_class_shares_is_right(
        ways in vec(any::<u8>(), 3),
        rules in vec(vec(any::<u8>(), 12), 0..6),
        packets in vec(vec(any::<u8>(), 5), 24),
        rounds in vec(vec(vec(any::<u8>(), 14), 1..4), 1..5),
    ) {
        let mut setting = Setting::new(&[], |_| ());
        for (table, way) in ways.iter().enumerate() {
            let way = COPIES[usize::from(*way) % COPIES.len()];
            let text = format!("table={table},udp,priority=1 actions={way},resubmit(,{})", table + 1);
            change(&mut setting, FlowCommand::Add, &text);
        }
        let mut there = vec![("table=3,udp,priority=2".to_owned(), "output:2".to_owned())];
        for (n, bytes) in rules.iter().enumerate() {
            let (matching, actions) = copying_rule(&Dice(Cell::new(bytes)));
            there.push((format!("{matching},priority={}", n * 7 % 24 * 10 + 10), actions));
        }
        for (matching, actions) in &there {
            change(&mut setting, FlowCommand::Add, &format!("{matching} actions={actions}"));
        }
        let keys: Vec<_> = packets.iter().map(|bytes| udp_packet(&Dice(Cell::new(bytes)))).collect();
        let agreed = answers_agree(&setting.backer, &keys);
        prop_assert!(agreed.is_ok(), "{there:#?}\n{agreed:?}");
        hold(&mut setting, &mut there, copying_rule, &keys, &rounds)?;
    }
}
