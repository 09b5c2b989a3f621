//! What the kernel says of rules, and flows on their way to rules and back.

use datapath::netlink::{Batch, Messages};
use flow::action::Action;
use flow::attr::Attrs;
use flow::id::DpPort;
use flow::odp::{self, RawKey, RawMask};
use offload::lower::lower;
use offload::raise::raise;
use offload::rule::{Device, Support, Surroundings};
use offload::tc::action::{self, ActStats};
use offload::tc::filter::{self, Filter, Id, cls};
use offload::tc::key::FlowerKey;
use offload::tc::{Hook, On};

use super::packets::{action_lists, raw_flows};
use super::{Target, choice, none};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new(
        "tc-filter",
        "payloads of RTM_NEWTFILTER, and the flows that they are",
        filters,
        filter_seeds,
        none,
    ),
    Target::new(
        "tc-flower",
        "attributes of a flower rule, or with a first byte that is odd, its actions",
        parts,
        part_seeds,
        none,
    ),
    Target::new(
        "offload",
        "a flow by three lengths: key, mask, actions; lowered, raised and lowered again",
        flows,
        flow_seeds,
        none,
    ),
];

/// Every port is an interface.
struct Everything;

impl Surroundings for Everything {
    fn device(&self, port: DpPort) -> Option<Device> {
        Some(Device { ifindex: port.0, block: None, hook: Hook::Ingress, tunnel: false })
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        Some(DpPort(ifindex))
    }
}

fn filters(data: &[u8]) {
    let Ok(Some(filter)) = filter::decode(data) else { return };
    let Ok(raised) = raise(&filter, DpPort(1), &Everything) else { return };
    let _ = lower((&raised.key, &raised.mask), &raised.actions, &Everything, &Support::default());
}

fn parts(data: &[u8]) {
    let Some((which, rest)) = choice(data) else { return };
    if which % 2 == 0 {
        let _ = FlowerKey::decode(Attrs::new(rest)).map(|key| key.shape());
    } else {
        let _ = action::decode_all(Attrs::new(rest));
    }
}

/// Key, mask and actions, each behind a byte that is its length in units of four.
fn split(data: &[u8]) -> Option<(RawKey, RawMask, Vec<Action>)> {
    let part = |data: &mut &[u8]| {
        let (len, rest) = data.split_first()?;
        let (part, rest) = rest.split_at_checked(usize::from(*len) * 4)?;
        *data = rest;
        Some(part.to_vec())
    };
    let mut rest = data;
    let (key, mask) = (part(&mut rest)?, part(&mut rest)?);
    let actions = Action::decode_all(&part(&mut rest)?).ok()?;
    Some((RawKey(key.into()), RawMask(mask.into()), actions))
}

fn flows(data: &[u8]) {
    let Some((key, mask, actions)) = split(data) else { return };
    let Ok((key, _)) = odp::key_to_flow(&key) else { return };
    let Ok((mask, _)) = odp::mask_to_flow(&mask, &key) else { return };
    let support = Support { enc_flags: true, ..Support::default() };
    let Ok(rule) = lower((&key, &mask), &actions, &Everything, &support) else { return };
    let filter = Filter {
        id: Id {
            on: On::Device(1),
            hook: Hook::Ingress,
            chain: rule.chain,
            prio: 1,
            protocol: rule.protocol,
            handle: 1,
        },
        key: rule.key.clone(),
        flags: 0,
        in_hw_count: 0,
        actions: rule.actions.clone(),
        stats: ActStats::default(),
    };
    let mut batch = Batch::default();
    filter::push_put(&mut batch, &filter.id, &filter.key, &filter.actions, cls::SKIP_HW, false);
    let message = Messages::new(batch.bytes()).next().and_then(Result::ok).expect("a request was written");
    let read = filter::decode(message.payload).expect("what is written reads").expect("it is a rule");
    assert_eq!(Filter { flags: 0, ..read }.key, filter.key);
    let _ = raise(&filter, DpPort(key.in_port), &Everything);
}

fn flow_seeds() -> Vec<Vec<u8>> {
    let lists = action_lists();
    let rows = raw_flows().into_iter().zip(lists.iter().cycle());
    let seed = |((key, mask), actions): ((RawKey, RawMask), &Vec<Action>)| {
        let actions = Action::encode_all(actions);
        let parts = [&key.0[..], &mask.0[..], &actions[..]];
        let fits = parts.iter().all(|part| part.len() % 4 == 0 && part.len() / 4 < 256);
        fits.then(|| {
            let part = |part: &&[u8]| [&[(part.len() / 4) as u8], *part].concat();
            parts.iter().flat_map(part).collect()
        })
    };
    rows.filter_map(seed).collect()
}

/// Requests that stand for what the kernel says.
fn requests() -> Vec<Vec<u8>> {
    let lowered = flow_seeds().into_iter().filter_map(|seed| {
        let (key, mask, _) = split(&seed)?;
        let (key, _) = odp::key_to_flow(&key).ok()?;
        let (mask, _) = odp::mask_to_flow(&mask, &key).ok()?;
        lower((&key, &mask), &[Action::Output(DpPort(2))], &Everything, &Support::default()).ok()
    });
    let id = Id { on: On::Device(1), hook: Hook::Ingress, chain: 0, prio: 1, protocol: 0x800, handle: 1 };
    let written = lowered.map(|rule| {
        let mut batch = Batch::default();
        filter::push_put(&mut batch, &id, &rule.key, &rule.actions, cls::SKIP_HW, false);
        batch.bytes().to_vec()
    });
    written.collect()
}

fn filter_seeds() -> Vec<Vec<u8>> {
    requests().into_iter().map(|request| request[datapath::netlink::HEADER..].to_vec()).collect()
}

fn part_seeds() -> Vec<Vec<u8>> {
    let options = |payload: &Vec<u8>| {
        let attrs = Attrs::new(payload.get(offload::tc::HEADER..)?);
        Some(attrs.find(2)?.data.to_vec())
    };
    let keys = filter_seeds().iter().filter_map(options).collect::<Vec<_>>();
    let actions =
        keys.iter().filter_map(|key| Some(Attrs::new(key).find(3)?.data.to_vec())).collect::<Vec<_>>();
    [super::chosen(0, keys), super::chosen(1, actions)].concat()
}
