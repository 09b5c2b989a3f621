//! Who has room in the NIC: rules outlive the switch that made them, and busy flows get the room of idle ones.

use std::time::Duration;

use crate::Test;
use crate::hardware::{bridge, settles};
use crate::pings::Pings;
use crate::restart::kill;
use crate::simnic::{FILES, counter};
use crate::world::{World, ip};

pub const TESTS: &[Test] =
    &[Test::offloading("room::adopted", adopted), Test::offloading("room::busy", busy)];

/// Nobody but who is asked to sends anything.
fn quiet(world: &World, hosts: &[&str]) {
    for host in hosts {
        world.sh(&format!("ip netns exec {host} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'"));
    }
    world.sh("echo 1 > /proc/sys/net/ipv6/conf/br0/disable_ipv6");
}

/// Waits until the NIC alone forwards what is sent now.
fn forwards_alone(world: &World, name: &str) {
    world.until("the NIC forwards a thousand packets a second there and back", || {
        let before = counter(world, name, "forwarded");
        std::thread::sleep(Duration::from_secs(1));
        counter(world, name, "forwarded") > before + 1500
    });
}

fn adopted(world: &World) {
    bridge(world, "hwk", 2, "skip_sw");
    quiet(world, &["h1", "h2"]);
    settles(world, "hwk", "h1", &ip(2));
    let pings = Pings::between(world, "h1", "h2");
    forwards_alone(world, "hwk");
    kill(world);
    pings.note("killed");
    // Nobody looks after flows, and the NIC goes on.
    forwards_alone(world, "hwk");
    world.sh("tc filter add dev hwk_0 ingress prio 60000 handle 0x7777 protocol ip flower skip_sw dst_ip 10.9.9.9 action drop");
    world.switch.start_switch(&[]);
    pings.note("started");
    world.settle();
    world.until("the rule that nobody wants goes", || {
        !world.sh("tc filter show dev hwk_0 ingress").contains("10.9.9.9")
    });
    let log = world.switch.log();
    let adopted = log.lines().find(|line| line.contains("hwk_0: adopted "));
    assert!(adopted.is_some_and(|line| line.ends_with("and removed 1")), "{log}");
    forwards_alone(world, "hwk");
    world.placed("all");
    pings.none_lost(world);
    // What was adopted is a flow's, and goes with it.
    world.sh("ovs-ofctl del-flows br0");
    world.until("rules go with their flows", || counter(world, "hwk", "rules") == 0);
}

fn busy(world: &World) {
    bridge(world, "hwl", 4, "skip_sw");
    quiet(world, &["h1", "h2", "h3", "h4"]);
    world.sh("ovs-vsctl set open_vswitch . other_config:offload-rebalance=true; ovs-ofctl del-flows br0");
    for (from, to) in [(1, 2), (2, 1), (3, 4), (4, 3)] {
        world.sh(&format!("ovs-ofctl add-flow br0 in_port={from},ip,actions=output:{to}"));
    }
    // Two idle flows have all the room there is.
    let _idle = world.spawn(&format!("ip netns exec h3 ping -i 2 {}", ip(4)), "idle.txt");
    world.until("the idle flows are rules", || world.placed("offloaded").matches("actions:").count() == 2);
    world.sh(&format!("echo 2 > {FILES}/hwl/max_rules"));
    let pings = Pings::between(world, "h1", "h2");
    forwards_alone(world, "hwl");
    pings.none_lost(world);
    let (hard, soft) = (world.placed("offloaded"), world.placed("ovs"));
    assert!(hard.contains("in_port(hwl_0)") && hard.contains("in_port(hwl_1)"), "{hard}");
    assert!(soft.contains("in_port(hwl_2)") && soft.contains("in_port(hwl_3)"), "{soft}");
    let limits = world.sh("ovs-appctl offload/limits");
    assert!(limits.ends_with("displaced so far: 2\n"), "{limits}");
    // Which the other two are told of, and have it back when the busy ones are gone.
    let why = [", why:a busier flow has its room in hardware", ", why:refused: simnic: the table is full"];
    // The bridge's own port may have sent something before it was quiet.
    let of_hosts = |line: &&str| line.contains("in_port(hwl_");
    assert!(soft.lines().filter(of_hosts).all(|line| why.iter().any(|why| line.contains(why))), "{soft}");
    world.until("the idle flows are rules again", || {
        let hard = world.placed("offloaded");
        hard.contains("in_port(hwl_2)") && hard.contains("in_port(hwl_3)")
    });
    world.placed("all");
}
