//! What the openvswitch module says over generic netlink, family by family.
//!
//! The first byte chooses a command; the rest are attributes behind headers that are as they should be, for what is wrong
//! with headers is `netlink`'s to find. A command of 255 takes the rest for the datagram.

use std::sync::Arc;
use std::task::Waker;

use datapath::kernel::genl::{Families, Family};
use datapath::kernel::told::{self, Upcalls};
use datapath::kernel::vport;
use datapath::netlink::{Batch, Message, Messages, settle};
use datapath::upcall::{Answer, Handler, Install, Kind, Upcall};
use flow::action::Action;
use flow::attr::{Attrs, Writer};
use flow::key::Mask;
use flow::odp::attrs::code;
use flow::odp::{OdpSupport, RawKey};
use flow::time::{Clock, Instant, WallTime};
use flow::wildcards;
use genetlink::message::RawGenlMessage;
use netlink_packet_core::NetlinkMessage;

use super::packets::{action_lists, frames, raw_flows};
use super::{Target, choice, none};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new("netlink", "datagrams: headers, verdicts, replies to a batch", netlink, netlink_seeds, none),
    Target::new(
        "genl-controller",
        "what generic netlink says of a family",
        controller,
        controller_seeds,
        none,
    ),
    Target::new("ovs-datapath", "replies of family ovs_datapath", datapath, datapath_seeds, none),
    Target::new("ovs-vport", "replies and events of family ovs_vport", ports, port_seeds, none),
    Target::new("ovs-flow", "replies of family ovs_flow", flows, flow_seeds, none),
    Target::new(
        "ovs-packet",
        "upcalls, of family ovs_packet, and what is answered",
        upcalls,
        upcall_seeds,
        none,
    ),
    Target::new("ovs-meter", "replies of family ovs_meter", meters, meter_seeds, none),
    Target::new("ovs-ct-limit", "replies of family ovs_ct_limit", limits, limit_seeds, none),
];

const FAMILY: Family = Family { id: 28, version: 1 };
const DP: u32 = 7;

const fn families() -> Families {
    Families {
        datapath: FAMILY,
        vport: FAMILY,
        flow: FAMILY,
        packet: FAMILY,
        meter: Some(FAMILY),
        ct_limit: Some(FAMILY),
        vport_group: 1,
    }
}

/// A datagram of the family by a choice and attributes; `None` for no bytes.
fn datagram(data: &[u8]) -> Option<Vec<u8>> {
    let (command, attrs) = choice(data)?;
    if command == 255 {
        return Some(attrs.to_vec());
    }
    let mut batch = Batch::default();
    batch.push(FAMILY.id, 0, &FAMILY.header(command as u8, DP), |writer| writer.put_coded(attrs));
    Some(batch.bytes().to_vec())
}

fn each(data: &[u8], mut read: impl FnMut(&Message<'_>)) {
    let Some(datagram) = datagram(data) else { return };
    Messages::new(&datagram).map_while(Result::ok).for_each(|message| read(&message));
}

/// A seed: a command and the attributes that `fill` writes.
fn seed(command: u8, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    fill(&mut writer);
    [&[command], writer.bytes()].concat()
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn netlink(data: &[u8]) {
    let mut settled = [false; 64];
    settle(data, 1, &mut settled, &mut |place, _| assert!(place < 64));
    for message in Messages::new(data).map_while(Result::ok) {
        let _ = message.verdict();
        let _ = FAMILY.open(&message);
    }
}

fn netlink_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, errno, flags) in [(2u16, 0i32, 0u16), (2, -22, 0x200), (2, -17, 0x300), (3, 0, 2), (4, 0, 0)] {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(errno.to_ne_bytes());
        bytes.extend(20u32.to_ne_bytes());
        bytes.extend([0; 12]);
        let mut writer = Writer::after(bytes);
        writer.put_str(1, "no such thing");
        writer.put_u32(2, 24);
        let mut bytes = writer.into_bytes();
        let len = (bytes.len() as u32).to_ne_bytes();
        bytes[..4].copy_from_slice(&len);
        seeds.push(bytes);
    }
    seeds.push(seeds.concat());
    seeds
}

/// The first byte of 254 makes the rest a datagram for the crate that hears events.
fn controller(data: &[u8]) {
    let Some((command, attrs)) = choice(data) else { return };
    if command == 254 {
        let _ = NetlinkMessage::<RawGenlMessage>::deserialize(attrs);
        return;
    }
    let mut batch = Batch::default();
    batch.push(16, 0, &[command as u8, 2, 0, 0], |writer| writer.put_coded(attrs));
    for message in Messages::new(batch.bytes()).map_while(Result::ok) {
        let _ = told::family(&message, "ovs_vport");
        let _ = told::family(&Message { payload: attrs, ..message }, "ovs_vport");
    }
}

fn controller_seeds() -> Vec<Vec<u8>> {
    vec![seed(1, |attrs| {
        attrs.put_u16(1, 28);
        attrs.put_str(2, "ovs_vport");
        attrs.put_u32(3, 1);
        attrs.put_u32(4, 4);
        attrs.put_u32(5, 11);
        attrs.nest_flagged(6, |ops| {
            ops.nest_flagged(1, |op| {
                op.put_u32(1, 3);
                op.put_u32(2, 0xe);
            });
        });
        attrs.nest_flagged(7, |groups| {
            groups.nest_flagged(1, |group| {
                group.put_u32(2, 5);
                group.put_str(1, "ovs_vport");
            });
        });
    })]
}

fn datapath(data: &[u8]) {
    each(data, |message| _ = told::datapath(FAMILY, message));
}

fn datapath_seeds() -> Vec<Vec<u8>> {
    vec![seed(1, |attrs| {
        attrs.put_str(1, "ovs-system");
        attrs.put(3, &words(&[1, 2, 3, 4]));
        attrs.put(4, &words(&[5, 6, 7, 0]));
        attrs.put_u32(5, 1 << 3 | 1);
        attrs.put_u32(7, 256);
        attrs.put(8, &[1, 0, 0, 0, 2, 0, 0, 0]);
    })]
}

fn ports(data: &[u8]) {
    each(data, |message| {
        let _ = vport::decode(FAMILY, message);
        if let Some((&[command, ..], payload)) = message.payload.split_first_chunk::<4>() {
            let _ = told::changed_port(DP, command, payload);
        }
    });
}

fn port_seeds() -> Vec<Vec<u8>> {
    vec![seed(1, |attrs| {
        attrs.put_u32(1, 3);
        attrs.put_u32(2, 4);
        attrs.put_str(3, "vxlan_sys_4789");
        attrs.nest(4, |options| {
            options.put_u16(1, 4789);
            options.nest(2, |exts| exts.put_flag(1));
        });
        attrs.put(5, &[1, 0, 0, 0, 2, 0, 0, 0]);
        attrs.put(6, &words(&[1, 2, 3, 4, 5, 6, 7, 8]));
        attrs.put_u32(8, 9);
        attrs.put_u32(9, 5);
        attrs.nest(10, |upcalls| {
            upcalls.put_u64(0, 11);
            upcalls.put_u64(1, 12);
        });
    })]
}

fn flows(data: &[u8]) {
    each(data, |message| {
        let _ = told::flow_stats(FAMILY, message);
        let Ok((flow, _)) = told::flow(FAMILY, message) else { return };
        let Ok((key, _)) = flow::odp::key_to_flow(&flow.key) else { return };
        let _ = flow::odp::mask_to_flow(&flow.mask, &key);
    });
}

fn flow_seeds() -> Vec<Vec<u8>> {
    let lists = action_lists();
    let pairs = raw_flows().into_iter().zip(lists.iter().cycle());
    pairs
        .map(|((key, mask), actions)| {
            seed(1, |attrs| {
                attrs.put(9, &[7; 16]);
                attrs.put(1, &key.0);
                attrs.put(7, &mask.0);
                attrs.put(2, &Action::encode_all(actions));
                attrs.put(3, &words(&[1, 60]));
                attrs.put_u8(4, 0x12);
                attrs.put_u64(5, 1000);
            })
        })
        .collect()
}

/// Time does not pass.
struct Still;

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn wall(&self) -> WallTime {
        WallTime(0)
    }

    fn wait(&self, _: Instant, _: &Waker) {}
}

/// Installs and executes what the upcall brings along.
struct Echo;

impl Handler for Echo {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let (actions, mask) = match upcall.kind {
            Kind::Miss => (vec![Action::Output(upcall.in_port)], wildcards::for_packet(upcall.key)),
            Kind::Action { actions, .. } => (actions?.to_vec(), Mask::exact()),
        };
        let actions: Arc<[_]> = actions.into();
        let install = Some(Install { mask: Box::new(mask), actions: Arc::clone(&actions) });
        Some(Answer { execute: actions, install })
    }
}

fn upcalls(data: &[u8]) {
    let Some(datagram) = datagram(data) else { return };
    let _ = told::upcall_port(&datagram);
    let here = Upcalls {
        families: families(),
        dp: DP,
        support: OdpSupport::ALL,
        vlan_limit: 1,
        clock: Arc::new(Still),
    };
    let Ok(requests) = here.answer(&Echo, &datagram) else { return };
    // What is put is a flow as the kernel tells of flows. Its key is what the kernel sent.
    let Some(put) = Messages::new(requests.bytes()).map_while(Result::ok).next() else { return };
    if let Ok((flow, _)) = told::flow(FAMILY, &put)
        && let Some(Ok(message)) = Messages::new(&datagram).next()
        && let Ok((_, _, attrs)) = FAMILY.open(&message)
        && let Some(key) = attrs.find(2)
        && key.nested().find(code::PACKET_TYPE).is_none()
        && key.data.len().is_multiple_of(4)
    {
        assert_eq!(flow.key, RawKey(key.data.into()));
    }
}

fn upcall_seeds() -> Vec<Vec<u8>> {
    let lists = action_lists();
    let rows = raw_flows().into_iter().zip(frames()).zip(lists.iter().cycle());
    let whole = |command| {
        move |(((key, _), frame), actions): (((RawKey, _), Vec<u8>), &Vec<Action>)| {
            seed(command, |attrs| {
                attrs.put(2, &key.0);
                if command == 2 {
                    attrs.put(4, &[1, 2, 3]);
                    if let Some(tunnel) = Attrs::new(&key.0).find(code::TUNNEL) {
                        attrs.put(5, tunnel.data);
                    }
                    attrs.put(3, &Action::encode_all(actions));
                    attrs.put_u16(9, 1400);
                    attrs.put_u32(10, 1500);
                }
                attrs.put_u64(11, 5);
                attrs.put(1, &frame);
            })
        }
    };
    rows.clone().map(whole(1)).chain(rows.map(whole(2))).collect()
}

fn meters(data: &[u8]) {
    each(data, |message| {
        let _ = told::meter(FAMILY, message);
        let _ = told::meter_features(FAMILY, message);
    });
}

fn meter_seeds() -> Vec<Vec<u8>> {
    let stats = seed(4, |attrs| {
        attrs.put_u32(1, 3);
        attrs.put(3, &words(&[1, 2]));
        attrs.nest(4, |bands| {
            bands.nest(0, |band| band.put(4, &words(&[3, 4])));
            bands.nest(0, |_| {});
        });
    });
    let features = seed(1, |attrs| {
        attrs.put_u32(7, 200_000);
        attrs.put_u32(8, 1);
    });
    vec![stats, features]
}

fn limits(data: &[u8]) {
    each(data, |message| _ = told::limits(FAMILY, message));
}

fn limit_seeds() -> Vec<Vec<u8>> {
    let row = |zone: i32| [zone.to_ne_bytes(), 10u32.to_ne_bytes(), 3u32.to_ne_bytes()].concat();
    vec![seed(3, |attrs| attrs.put(1, &[row(-1), row(0), row(65535), row(65536)].concat()))]
}
