//! Flows that answers to upcalls install.

use std::sync::Mutex;

use datapath::PmdId;
use datapath::upcall::{Answer, Handler, Install, Kind, Offer, Upcall};
use flow::odp::Fitness;

use super::*;

/// Installs one flow for every packet.
struct Installs(Mutex<Vec<bool>>);

impl Handler for Installs {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let mut mask = Mask::default();
        let bits = &mut mask.0;
        (bits.in_port, bits.recirc_id, bits.nw_frag) = (u32::MAX, u32::MAX, flow::key::frag::MASK);
        bits.dl_type = u16::MAX.into();
        bits.pkt_mark = if upcall.key.pkt_mark == 0 { 0 } else { u32::MAX };
        let actions: Arc<[Action]> = Arc::new([Action::Output(DpPort(2))]);
        let install = Some(Install { mask: Box::new(mask), actions: actions.clone() });
        Some(Answer { execute: actions, install })
    }

    fn installed(&self, _: Ufid, _: PmdId, installed: bool) {
        self.0.lock().unwrap().push(installed);
    }
}

/// Who answers, and whom the inner datapath asks.
fn hooked() -> (Fixture, Arc<Installs>, Arc<dyn Handler>) {
    let it = Fixture::new();
    let handler = Arc::new(Installs(Mutex::default()));
    it.datapath.set_handler(Some(handler.clone()));
    let inner = it.inner.handler.lock().unwrap().clone().unwrap();
    (it, handler, inner)
}

/// A packet of one of the flows that [`Installs`] installs.
fn marked(mark: u32) -> String {
    format!(
        "skb_mark({mark:#x}),in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)"
    )
}

/// Has a packet answered, and `take` take what the answer installs.
fn offered<T>(handler: &dyn Handler, packet: &str, take: impl FnOnce(Offer<'_>) -> T) -> T {
    let (raw, _) = parsed(packet);
    let (key, fitness) = odp::key_to_flow(&raw).unwrap();
    let upcall = Upcall {
        kind: Kind::Miss,
        packet: &[],
        full_len: 0,
        key: &key,
        raw: Some(&raw),
        fitness,
        ufid: ufid_of(&raw.0),
        pmd: PmdId::NONE,
        in_port: DpPort(key.in_port),
        hash: 0,
        mru: 0,
    };
    assert_eq!(fitness.max(Fitness::Perfect), fitness);
    let install = handler.upcall(&upcall).unwrap().install.unwrap();
    let Install { mask, actions } = &install;
    take(Offer { ufid: upcall.ufid, pmd: PmdId::NONE, key: &key, mask, actions })
}

#[test]
fn flows_of_upcalls_are_rules_too() {
    let (it, handler, inner) = hooked();
    let ask = |flow: &str| offered(&*inner, flow, |offer| inner.take(&[offer, offer]));
    // The device has it: there is nothing left to install.
    assert_eq!(ask(&marked(0)), [true; 2]);
    assert_eq!((it.nic.rules().len(), &**handler.0.lock().unwrap()), (1, &[true; 2][..]));
    assert_eq!(ask(&marked(0)), [true; 2]);
    assert_eq!(*it.nic.lots.lock().unwrap(), [1]);
    // It does not: the datapath installs it, and says so itself.
    assert_eq!(ask(&marked(7)), [false; 2]);
    assert_eq!((it.nic.rules().len(), it.datapath.tally().1.len()), (1, 1));
    inner.installed(ufid_of(&parsed(&marked(7)).0.0), PmdId::NONE, false);
    assert_eq!(it.datapath.tally().1.len(), 0);
    // Another packet of a flow whose rule is there is no flow of its own, in software neither.
    handler.0.lock().unwrap().clear();
    it.refuse(Some(Errno::EEXIST.into()));
    let twin = marked(0).replace("src=1.1.1.1", "src=1.1.1.3");
    assert_eq!(ask(&twin), [true; 2]);
    assert_eq!(&**handler.0.lock().unwrap(), &[false; 2]);
    assert_eq!((it.nic.rules().len(), it.datapath.tally()), (1, (1, BTreeMap::new())));
    assert_eq!(it.put(PutFlags::CREATE, FLOW, "2"), Err(Errno::EEXIST.into()));
}

#[test]
fn flows_can_be_offered_while_others_become_rules() {
    let (it, handler, inner) = hooked();
    let begin = |flow: &str| offered(&*inner, flow, |offer| inner.begin(&[offer, offer]).unwrap());
    let first = begin(&marked(0));
    let soft = begin(&marked(7));
    // What is not known to be a rule yet is asked for again, and the kernel says that it is one.
    it.refuse(Some(Errno::EEXIST.into()));
    let again = begin(&marked(0));
    it.refuse(None);
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[][..], 0));
    assert_eq!(first.end(), [true; 2]);
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[true; 2][..], 1));
    assert_eq!((soft.end(), again.end()), (vec![false; 2], vec![true; 2]));
    assert_eq!((&**handler.0.lock().unwrap(), it.datapath.tally().0), (&[true; 4][..], 1));
    // The lots had one request each, but for what is no rule.
    assert_eq!(*it.nic.lots.lock().unwrap(), [1, 1]);
}

#[test]
fn a_tag_at_which_a_flow_does_not_look_is_there_all_the_same() {
    let (it, _, inner) = hooked();
    let ip = "eth_type(0x0800),ipv4(src=1.1.1.1,dst=2.2.2.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
    let (plain, tag) = (marked(0), format!("eth_type(0x8100),vlan(vid=5,pcp=3),encap({ip})"));
    let tagged = plain.replace(ip, &tag);
    for packet in [&plain, &tagged] {
        assert_eq!(offered(&*inner, packet, |offer| inner.take(&[offer])), [true]);
    }
    let looks = "eth_type(0x8100),vlan(),encap(eth_type(0x0800),ipv4(frag=no))";
    let tagged = FLOW.replace("eth_type(0x0800),ipv4(frag=no)", looks);
    assert_eq!(it.dump(false), [format!("tc 0 {FLOW} 2"), format!("tc 0 {tagged} 2")]);
}
