//! Flows as rules of traffic control, in the kernel's own software (`tc-policy=skip_hw`).

use std::sync::Arc;

use flow::action;
use flow::id::DpPort;
use flow::odp::{self, NoNames};
use offload::lower::lower;
use offload::raise::raise;
use offload::rule::{Device, Support, Surroundings};
use offload::table::{Job, Netlink, Table};
use offload::tc::filter::{Filter, Id, cls};
use offload::tc::{Hook, On};

use crate::Test;
use crate::world::{World, ip};

pub const TESTS: &[Test] = &[
    Test::bare("offload::rules_read_back", rules_read_back),
    Test::new("offload::forwards", forwards),
    Test::new("offload::changes", changes),
    Test::new("offload::tracks", tracks),
    Test::new("offload::says_why", says_why),
];

/// Two hosts at a switch that offloads.
fn two_hosts(world: &World) {
    world.sh("ovs-vsctl set open_vswitch . other_config:tc-policy=skip_hw other_config:hw-offload=true");
    world.bridge("br0");
    world.host("a", "br0", 1);
    world.host("b", "br0", 2);
}

/// Rules of a device as `tc` shows them.
fn rules(world: &World, device: &str) -> String {
    world.sh(&format!("tc -s filter show dev {device} ingress"))
}

fn forwards(world: &World) {
    two_hosts(world);
    world.ping("a", &ip(2));
    world.tcp("a", &ip(2), "b");
    let shown = world.placed("tc");
    assert!(
        shown.contains("in_port(p-a)") && shown.contains("actions:p-b, placement:tc"),
        "{}",
        world.placed("all")
    );
    assert!(rules(world, "p-a").contains("action order 1: mirred (Egress Redirect to device p-b)"));
    // Rules count what went through, and flows of OpenFlow what rules counted.
    world.sh("ovs-ofctl del-flows br0; ovs-ofctl add-flow br0 priority=1,actions=normal");
    world.sh(&format!("ovs-ofctl add-flow br0 'priority=9,icmp,nw_dst={},actions=normal'", ip(2)));
    world.settle();
    world.at("a", &format!("ping -q -c 20 -i 0.02 -W 3 {}", ip(2)));
    world.counts("br0", &format!("icmp,nw_dst={}", ip(2)), 20);
    // Nobody uses them any more.
    world.until("idle rules go", || !world.placed("tc").contains("icmp"));
    world.sh("ovs-vsctl del-port br0 p-a");
    assert_eq!(world.sh("tc qdisc show dev p-a ingress"), "");
    let shown = world.sh("ovs-appctl dpif/offload/show");
    assert!(shown.starts_with("Globally enabled: true\nDatapaths:\nsystem@ovs-system:\n  tc\n"), "{shown}");
    assert!(shown.contains("  - p-b: port_no: ") && !shown.contains("p-a"), "{shown}");
    world.check_end();
}

fn changes(world: &World) {
    two_hosts(world);
    world.sh(&format!(
        "ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,ip,nw_dst=10.1.0.99,actions=mod_nw_dst:{b},dec_ttl,output:2'
         ovs-ofctl add-flow br0 'in_port=2,ip,nw_src={b},actions=mod_nw_src:10.1.0.99,output:1'
         ip -n a neigh add 10.1.0.99 lladdr 0e:00:00:00:00:02 dev eth0
         ip -n b neigh add {a} lladdr 0e:00:00:00:00:01 dev eth0",
        a = ip(1),
        b = ip(2)
    ));
    world.ping("a", "10.1.0.99");
    world.tcp("a", "10.1.0.99", "b");
    let shown = rules(world, "p-a");
    assert!(
        shown.contains("pedit action pipe") && shown.contains("csum (iph, tcp)"),
        "{shown}{}",
        world.placed("all")
    );
    let shown = world.placed("tc");
    assert!(shown.contains(&format!("set(ipv4(dst={}", ip(2))), "{shown}");
    world.check_end();
}

fn tracks(world: &World) {
    two_hosts(world);
    // Flows are looked at some time after their last packet.
    world.sh("ovs-vsctl set open_vswitch . other_config:max-idle=600000
         ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 arp,actions=normal
         ovs-ofctl add-flow br0 'ip,ct_state=-trk,actions=ct(table=0,zone=7)'
         ovs-ofctl add-flow br0 'ip,in_port=1,ct_state=+trk+new,actions=ct(commit,zone=7),output:2'
         ovs-ofctl add-flow br0 'ip,in_port=1,ct_state=+trk+est,actions=output:2'
         ovs-ofctl add-flow br0 'ip,in_port=2,ct_state=+trk+est,actions=output:1'");
    world.ping("a", &ip(2));
    world.tcp("a", &ip(2), "b");
    // A kernel that does not share recirculation ids has no chains: then flows say so.
    let (rules_shown, shown) = (world.placed("tc"), world.placed("ovs"));
    let refused = "why:no action recirc with a kernel that does not share recirculation ids";
    if shown.contains(refused) {
        assert!(!rules_shown.contains("recirc("), "{rules_shown}");
    } else {
        assert!(rules_shown.contains("ct(zone=7),recirc("), "{rules_shown}");
        assert!(rules(world, "p-a").contains("ct_state +trk+est"), "{}", rules(world, "p-a"));
    }
    world.check_end();
}

fn says_why(world: &World) {
    two_hosts(world);
    world.sh("ovs-ofctl del-flows br0
         ovs-ofctl add-flow br0 'in_port=1,actions=set_field:5->pkt_mark,resubmit(,1)'
         ovs-ofctl add-flow br0 'table=1,actions=output(port=2,max_len=1400)'
         ovs-ofctl add-flow br0 'in_port=2,actions=output:1'");
    world.ping("a", &ip(2));
    let shown = world.placed("ovs");
    assert!(shown.contains("placement:software, why:no action trunc"), "{shown}");
    let placed = world.placed("all");
    assert!(placed.contains(", placement:tc, why:tc-policy is skip_hw"), "{placed}");
    let shown = world.sh("ovs-appctl offload/reasons");
    assert!(shown.starts_with("rules: ") && shown.contains(" no action trunc\n"), "{shown}");
    world.check_end();
}

/// Flows whose rules the kernel takes, and tells as they were put.
const ROWS: &[(&str, &str)] = &[
    ("eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),ipv4(frag=no)", "2"),
    ("eth(dst=02:00:00:00:00:00/ff:00:00:00:00:00),eth_type(0x0806)", "drop"),
    ("eth(),eth_type(0x0806),arp(sip=10.0.0.1,tip=10.0.0.0/255.255.255.0,op=1,sha=02:00:00:00:00:01)", "2,3"),
    ("eth(),eth_type(0x8100),vlan(vid=5,pcp=3),encap(eth_type(0x0800),ipv4(frag=no))", "pop_vlan,2"),
    (
        "eth(),eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=1),encap(eth_type(0x86dd),ipv6(frag=no)))",
        "2",
    ),
    ("eth(),eth_type(0x8847),mpls(label=100,tc=3,ttl=64,bos=1)", "pop_mpls(eth_type=0x800),2"),
    (
        "eth(),eth_type(0x8847),mpls(label=100/0xfffff,tc=0/0,ttl=0/0x0,bos=0/0,label=100,tc=0,ttl=64,bos=1)",
        "2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.0/255.0.0.0,proto=6,tos=0x10/0xfc,ttl=64,frag=no),tcp(src=80,dst=1024/0xfc00),tcp_flags(syn|ack)",
        "2",
    ),
    ("eth(),eth_type(0x0800),ipv4(proto=17,frag=first),udp(src=1,dst=2)", "2"),
    ("eth(),eth_type(0x0800),ipv4(proto=17,frag=later)", "2"),
    ("eth(),eth_type(0x0800),ipv4(proto=1,frag=no),icmp(type=8,code=0)", "2"),
    (
        "eth(),eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::/ffff::,proto=58,tclass=0x4,hlimit=255,frag=no),icmpv6(type=135)",
        "2",
    ),
    ("eth(),eth_type(0x86dd),ipv6(proto=132,frag=no),sctp(src=7,dst=8)", "2"),
    (
        "ct_state(+est+trk),ct_zone(5),ct_mark(0x1/0xff),ct_label(0x3/0xf),eth(),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    ("eth(),eth_type(0x0800),ipv4(frag=no)", "ct(commit,zone=5,mark=0x1/0xff,label=0x1/0x3),2"),
    ("eth(),eth_type(0x0800),ipv4(frag=no)", "ct(zone=9,nat),recirc(0x7)"),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "ct(force_commit,zone=9,nat(src=10.0.0.1-10.0.0.9:5-6)),ct_clear,recirc(0x7)",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "push_vlan(vid=5,pcp=1),2,pop_vlan,push_vlan(tpid=0x88a8,vid=6,pcp=0),3",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "push_mpls(label=5,tc=1,ttl=64,bos=1,eth_type=0x8847),set(mpls(label=7,tc=1,ttl=63,bos=1)),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(proto=6,frag=no)",
        "set(eth(src=02:00:00:00:00:01)),set(ipv4(src=10.0.0.1,ttl=9)),set(tcp(dst=80)),2",
    ),
    ("eth(),eth_type(0x0800),ipv4(frag=no)", "set(ipv4(tos=0x4/0xfc)),2"),
    (
        "eth(),eth_type(0x86dd),ipv6(proto=17,frag=no)",
        "set(ipv6(dst=fe80::5,label=0x12345,tclass=0x21/0x3f)),set(udp(src=7)),2",
    ),
    ("eth(),eth_type(0x0806),arp(op=1)", "set(arp(sip=1.2.3.4,op=2,tha=02:00:00:00:00:09)),2"),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,tos=0x2,ttl=64,tp_dst=4789,flags(csum|key))),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x7}),flags(key))),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,dst=2.2.2.2,ttl=64,tp_dst=4789,flags(key))),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64,vxlan(gbp(id=5,flags=0x8)),flags(key))),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(tunnel(tun_id=0x7,ipv6_src=fe80::1,ipv6_dst=fe80::2,ttl=64,erspan(ver=2,dir=1,hwid=0x7),flags(key))),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "set(skb_mark(0x5)),set(skb_mark(0x1/0xf)),set(skb_priority(0x3)),2",
    ),
    (
        "eth(),eth_type(0x0800),ipv4(frag=no)",
        "check_pkt_len(size=200,gt(drop),le(set(eth(dst=02:00:00:00:00:01)),2))",
    ),
    ("eth(),eth_type(0x0800),ipv4(frag=no)", "sample(sample=50.0%,actions(psample(group=7))),2"),
    (
        "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,tos=0x4/0xff,ttl=64,tp_src=5/0xff,tp_dst=4789,flags(+key)),eth(),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    (
        "tunnel(tun_id=0x7,ipv6_src=fe80::1,ipv6_dst=fe80::/ffff::,ttl=64/0,tp_dst=4789,vxlan(gbp(id=5,flags=8)),flags(+key)),eth(),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    (
        "tunnel(tun_id=0x7,src=1.1.1.1,dst=2.2.2.2,ttl=64/0,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x7/0xff}{class=0x103,type=0x1,len=8,0x100000007}),flags(+key)),eth(),eth_type(0x0800),ipv4(frag=no)",
        "2",
    ),
    ("eth(),eth_type(0x1234)", "2"),
];

/// Ports 1 to 3 are the devices of these interfaces.
struct Devices([u32; 3]);

impl Surroundings for Devices {
    fn device(&self, port: DpPort) -> Option<Device> {
        let ifindex = *self.0.get((port.0 as usize).checked_sub(1)?)?;
        Some(Device { ifindex, block: None, hook: Hook::Ingress, tunnel: false })
    }

    fn port(&self, ifindex: u32) -> Option<DpPort> {
        self.0.iter().position(|known| *known == ifindex).map(|at| DpPort(at as u32 + 1))
    }
}

/// Puts the rule of each row on a device of this namespace and reads it back; what came out differently.
fn read_back(devices: &Devices) -> Vec<String> {
    let table = Netlink::new(Arc::default());
    table.attach(devices.0[0], Hook::Ingress).expect("a device takes rules");
    let mut wrong = Vec::new();
    for (at, (flow, actions)) in ROWS.iter().enumerate() {
        let (raw, raw_mask) = odp::parse::flow(&format!("in_port(1),{flow}"), &NoNames).expect("a flow");
        let (key, _) = odp::key_to_flow(&raw).expect("a key");
        let (mask, _) = odp::mask_to_flow(&raw_mask, &key).expect("a mask");
        let actions = action::parse::actions(actions, &NoNames).expect("actions");
        let rule = lower((&key, &mask), &actions, devices, &Support::default()).expect(flow);
        let (on, hook, prio) = (On::Device(devices.0[0]), Hook::Ingress, at as u16 + 5);
        let id = Id { on, hook, chain: rule.chain, prio, protocol: rule.protocol, handle: at as u32 + 1 };
        let put =
            Job::Put { id, key: &rule.key, actions: &rule.actions, flags: cls::SKIP_HW, replace: false };
        let told = |filter: &Filter| {
            raise(filter, DpPort(1), devices).map(|raised| action::format::actions(&raised.actions, &NoNames))
        };
        match &*table.submit(&[put, Job::Get(id)]) {
            [Ok(_), Ok(Some(there))] => {
                let same = there.id == id && there.key == rule.key;
                let wanted = Filter { actions: rule.actions.clone(), ..(**there).clone() };
                if !same || told(there) != told(&wanted) {
                    wrong.push(format!("{flow}: put {:?} {:?}, got {there:?}", rule.key, rule.actions));
                }
            }
            [Err(error), _] => wrong.push(format!("{flow} {actions:?}: {error} {:?}", error.detail())),
            other => wrong.push(format!("{flow}: {other:?}")),
        }
    }
    wrong
}

fn rules_read_back(world: &World) {
    world.sh("for n in 1 2 3; do ip link add p$n type veth peer name q$n; ip link set p$n up; done");
    let links = sys::link::Links::new().expect("a socket");
    let devices = Devices(["p1", "p2", "p3"].map(|name| links.index(name).expect("it was just made")));
    let wrong = read_back(&devices);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Another program reads them, too.
    let shown = world.sh("tc filter show dev p1 ingress");
    assert_eq!(shown.matches("handle 0x").count(), ROWS.len(), "{shown}");
    // A test ends with a look at its daemons.
    world.switch.start_database();
    world.switch.start_switch(&[]);
}
