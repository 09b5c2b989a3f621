//! Commands on the userspace datapath and its dummy devices: arguments in, text out.
//!
//! The switch's command table calls these. `args` are the command's arguments without its name.

use std::net::IpAddr;
use std::sync::Arc;

use flow::compose::{Payload, compose, compose_with};
use flow::odp::{NoNames, key_to_flow, parse};
use flow::proto::PT_ETH;

use super::engine::Engine;
use super::port::dummy::ConnState;
use super::show;
use crate::netdev::{Address, Flags, Netdev, Netdevs};

/// Shortest frame that `--len` may ask for: headers of Ethernet and 46 bytes.
const MIN_LEN: usize = 60;
/// Payload of a frame made from a flow without `--len`.
const PAYLOAD: usize = 64;

fn is_dummy(device: &Arc<dyn Netdev>) -> bool {
    device.as_dummy().is_some()
}

/// `netdev-dummy/receive NAME [--qid QUEUE] PACKET|FLOW [--len LEN]...`: queues frames on a dummy device.
pub fn receive(devices: &Netdevs, args: &[&str]) -> Result<(), String> {
    let [name, rest @ ..] = args else { return Err("no such dummy netdev".into()) };
    let device = devices.find(name).filter(is_dummy).ok_or("no such dummy netdev")?;
    let dummy = device.as_dummy().ok_or("no such dummy netdev")?;
    let (mut rest, mut queue) = (rest, 0);
    if let ["--qid", number, after @ ..] = rest {
        queue = number.parse().ok().filter(|&queue| queue < dummy.rx_queues()).ok_or("bad rx queue id.")?;
        rest = after;
    }
    while let [text, after @ ..] = rest {
        rest = after;
        let frame = match hex(text) {
            Some(frame) => frame,
            None => {
                let mut len = None;
                if let ["--len", number, after @ ..] = rest {
                    let wanted = number.parse().ok().filter(|&len| len >= MIN_LEN);
                    len = Some(wanted.ok_or("too small packet len")?);
                    rest = after;
                }
                from_flow(text, len)?
            }
        };
        dummy.inject(queue, &frame);
    }
    Ok(())
}

/// A frame in hexadecimal; `None` if it is not one.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let frame: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    (rest.is_empty() && frame.len() >= 14).then_some(frame)
}

/// A frame of a flow in the datapath's text.
fn from_flow(text: &str, len: Option<usize>) -> Result<Vec<u8>, String> {
    let (raw, _) = parse::flow(text, &NoNames).map_err(|error| error.to_string())?;
    let (mut key, _) = key_to_flow(&raw).map_err(|error| error.to_string())?;
    // What a device receives is an Ethernet frame, also if the text has no addresses.
    key.packet_type = PT_ETH.into();
    let Some(len) = len else { return Ok(compose(&key, Payload::Len(PAYLOAD))) };
    let frame = compose_with(&key, Payload::Len(0), len, false);
    if frame.len() > len {
        Err(format!("too small packet len: the headers take {}", frame.len()))
    } else {
        Ok(frame)
    }
}

/// `netdev-dummy/set-admin-state [NAME] up|down`.
pub fn set_admin_state(devices: &Netdevs, args: &[&str]) -> Result<String, String> {
    let (state, name) = match args {
        [state] => (state, None),
        [name, state] => (state, Some(name)),
        _ => return Err("Invalid Admin State".into()),
    };
    let (off, on) = match state.to_ascii_lowercase().as_str() {
        "up" => (Flags::empty(), Flags::UP),
        "down" => (Flags::UP, Flags::empty()),
        _ => return Err("Invalid Admin State".into()),
    };
    let chosen = match name {
        Some(name) => vec![devices.find(name).filter(is_dummy).ok_or("Unknown Dummy Interface")?],
        None => devices.all().into_iter().filter(is_dummy).collect(),
    };
    for device in chosen {
        device.update_flags(off, on).map_err(|error| error.to_string())?;
    }
    Ok("OK".into())
}

/// `netdev-dummy/conn-state [NAME]`.
pub fn conn_state(devices: &Netdevs, args: &[&str]) -> String {
    let line = |name: &str, state: ConnState| {
        let state = match state {
            ConnState::Connected => "connected",
            ConnState::Disconnected => "disconnected",
            ConnState::Unknown => "unknown",
        };
        format!("{name}: {state}\n")
    };
    let state_of =
        |device: &Arc<dyn Netdev>| device.as_dummy().map_or(ConnState::Unknown, |dummy| dummy.conn_state());
    if let [name, ..] = args {
        return line(name, devices.find(name).as_ref().map_or(ConnState::Unknown, state_of));
    }
    let all = devices.all();
    let known = all
        .iter()
        .map(|device| (device.name(), state_of(device)))
        .filter(|(_, state)| *state != ConnState::Unknown);
    known.map(|(name, state)| line(name, state)).collect()
}

/// An address that a command gave a device; the caller enters the routes to it.
pub struct NewAddress {
    pub device: String,
    pub address: Address,
}

/// `netdev-dummy/ip4addr NAME ADDRESS/PREFIX` and `netdev-dummy/ip6addr`. The reply is `OK`.
pub fn add_address(devices: &Netdevs, args: &[&str], v6: bool) -> Result<NewAddress, String> {
    let [name, text] = args else { return Err("Unknown Dummy Interface".into()) };
    let device = devices.find(name).filter(is_dummy).ok_or("Unknown Dummy Interface")?;
    let address = if v6 { cidr6(text)? } else { cidr4(text)? };
    if let Some(dummy) = device.as_dummy() {
        dummy.add_address(address);
    }
    Ok(NewAddress { device: (*name).to_owned(), address })
}

fn cidr4(text: &str) -> Result<Address, String> {
    let invalid = || format!("{text}: invalid IP address");
    let (ip, prefix) = match text.split_once('/') {
        None => (text, 32),
        Some((ip, mask)) => match mask.parse::<std::net::Ipv4Addr>() {
            Ok(mask) => {
                let mask = mask.to_bits();
                if mask.leading_ones() + mask.trailing_zeros() != 32 {
                    return Err(format!("{text}: CIDR network required"));
                }
                (ip, mask.leading_ones())
            }
            Err(_) => (ip, mask.parse().map_err(|_| invalid())?),
        },
    };
    if prefix > 32 {
        return Err(format!("{text}: IPv4 network prefix bits not between 0 and 32, inclusive"));
    }
    let ip = ip.parse().map_err(|_| invalid())?;
    Ok(Address { ip: IpAddr::V4(ip), prefix: prefix as u8 })
}

fn cidr6(text: &str) -> Result<Address, String> {
    let invalid = || format!("{text}: invalid IPv6 address");
    let (ip, prefix) = text.split_once('/').unwrap_or((text, "128"));
    let prefix: u32 = prefix.parse().map_err(|_| invalid())?;
    if prefix > 128 {
        return Err(format!("{text}: IPv6 network prefix bits not between 0 and 128, inclusive"));
    }
    let ip = ip.parse().map_err(|_| invalid())?;
    Ok(Address { ip: IpAddr::V6(ip), prefix: prefix as u8 })
}

/// The kernel has news of a link. Ports whose device was made anew under the same name go on with the new one.
pub fn link_changed(engines: &[Arc<Engine>], name: &str, index: Option<u32>) {
    for engine in engines {
        if let Err(error) = engine.link_changed(name, index) {
            tracing::warn!(target: "dpif_netdev", rl = "5,20", "{name}: the device came back but cannot be used ({error})");
        }
    }
}

/// The userspace datapath that a command's last argument names, or the only one.
fn engine<'a>(engines: &'a [Arc<Engine>], name: Option<&str>) -> Result<&'a Engine, String> {
    use crate::Datapath;
    let named = name.and_then(|name| engines.iter().find(|engine| engine.name() == name));
    match (named, engines) {
        (Some(engine), _) | (None, [engine]) => Ok(engine),
        _ => Err("please specify an existing datapath".into()),
    }
}

/// Options of the `pmd-*` commands.
struct PmdArgs<'a> {
    core: Option<u32>,
    seconds: Option<u32>,
    datapath: Option<&'a str>,
}

fn pmd_args<'a>(mut args: &[&'a str]) -> PmdArgs<'a> {
    let mut parsed = PmdArgs { core: None, seconds: None, datapath: None };
    loop {
        match args {
            ["-pmd", core, rest @ ..] => {
                parsed.core = core.parse().ok();
                args = rest;
            }
            ["-secs", seconds, rest @ ..] => {
                parsed.seconds = seconds.parse().ok();
                args = rest;
            }
            // Lengths of histories that this engine does not keep: shown as none.
            ["-nh", rest @ ..] | ["-it" | "-ms", _, rest @ ..] => args = rest,
            [name, rest @ ..] => {
                parsed.datapath = Some(name);
                args = rest;
            }
            [] => return parsed,
        }
    }
}

/// `dpif-netdev/pmd-stats-show [-pmd core] [dp]`.
pub fn pmd_stats_show(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::PmdStats, String> {
    let args = pmd_args(args);
    Ok(show::PmdStats::of(engine(engines, args.datapath)?, args.core))
}

/// The counters of all workers of one datapath.
pub fn pmd_stats_show_of(engine: &Engine) -> show::PmdStats {
    show::PmdStats::of(engine, None)
}

/// `dpif-netdev/pmd-stats-clear [-pmd core] [dp]`.
pub fn pmd_stats_clear(engines: &[Arc<Engine>], args: &[&str]) -> Result<(), String> {
    let args = pmd_args(args);
    for cell in engine(engines, args.datapath)?.cells() {
        if args.core.is_none_or(|core| cell.id.0 == core) {
            cell.call(|worker| {
                worker.stats = Default::default();
                worker.graph.clear();
            })
            .map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// `dpif-netdev/pmd-perf-show [-nh] [-it n] [-ms n] [-pmd core] [dp]`.
pub fn pmd_perf_show(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::PmdPerf, String> {
    let args = pmd_args(args);
    Ok(show::PmdPerf::of(engine(engines, args.datapath)?, args.core))
}

/// `dpif-netdev/pmd-rxq-show [-pmd core] [-secs secs] [dp]`.
pub fn pmd_rxq_show(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::PmdRxqs, String> {
    let args = pmd_args(args);
    Ok(show::PmdRxqs::of(engine(engines, args.datapath)?, args.core, args.seconds))
}

/// `dpif-netdev/pmd-rxq-rebalance [dp]`.
pub fn pmd_rxq_rebalance(engines: &[Arc<Engine>], args: &[&str]) -> Result<String, String> {
    engine(engines, args.first().copied())?.rebalance();
    Ok("pmd rxq rebalance requested.\n".into())
}

/// `dpif-netdev/subtable-lookup-info-get`, `dpif-netdev/subtable-lookup-prio-get`.
pub fn subtable_lookup(engines: &[Arc<Engine>]) -> show::SubtableLookup {
    show::SubtableLookup::of(engines)
}

/// `dpif-netdev/subtable-lookup-prio-set NAME PRIORITY`: there is one implementation, whose priority changes nothing.
pub fn subtable_lookup_set(args: &[&str]) -> Result<String, String> {
    let [name, priority] = args else { return Err("error, subtable lookup function not found\n".into()) };
    if priority.parse::<u8>().is_err() {
        return Err("error converting priority, use integer in range 0-255\n".into());
    }
    if *name != show::LOOKUP {
        return Err("error, subtable lookup function not found\n".into());
    }
    Ok("Lookup priority change affected 0 dpcls ports and 0 subtables.\n".into())
}

/// `engine/graph [dp]`: calls, packets and clocks of every node of every worker.
pub fn graph(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::Graphs, String> {
    Ok(show::Graphs::of(engine(engines, args.first().copied())?))
}

/// `engine/classifier [dp]`: the subtables of every worker and port.
pub fn classifier(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::Classifiers, String> {
    Ok(show::Classifiers::of(engine(engines, args.first().copied())?))
}

/// `engine/trace-start N [dp]`: begins to record the next steps of packets on every worker.
pub fn trace_start(engines: &[Arc<Engine>], args: &[&str]) -> Result<(), String> {
    let steps = args.first().and_then(|text| text.parse().ok()).ok_or("bad number of steps")?;
    for cell in engine(engines, args.get(1).copied())?.cells() {
        cell.call(move |worker| worker.graph.trace(steps)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// `engine/trace-show [dp]`: the steps recorded.
pub fn trace_show(engines: &[Arc<Engine>], args: &[&str]) -> Result<show::Traces, String> {
    Ok(show::Traces::of(engine(engines, args.first().copied())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netdev::DummyLevel;

    #[test]
    fn dummies_by_command() {
        let devices = Netdevs::new();
        devices.enable_dummy(DummyLevel::Plain);
        let device = devices.open("p1", "dummy").unwrap();
        assert_eq!(device.mac().unwrap(), [0xaa, 0x55, 0xaa, 0x55, 0, 0]);
        assert_eq!(receive(&devices, &["p2", "00"]), Err("no such dummy netdev".into()));
        let flow = "in_port(1),eth(src=50:54:00:00:00:05,dst=50:54:00:00:00:07),eth_type(0x0800),ipv4(src=192.168.0.1,dst=192.168.0.2,proto=1,tos=0,ttl=64,frag=no),icmp(type=8,code=0)";
        assert_eq!(
            receive(&devices, &["p1", flow, "--len", "100", "000000000001000000000002080045"]),
            Ok(())
        );
        assert_eq!(receive(&devices, &["p1", flow, "--len", "10"]), Err("too small packet len".into()));
        assert_eq!(set_admin_state(&devices, &["p1", "down"]), Ok("OK".into()));
        assert_eq!(device.flags().unwrap(), Flags::empty());
        assert_eq!(set_admin_state(&devices, &["sideways"]), Err("Invalid Admin State".into()));
        assert_eq!(conn_state(&devices, &["p1"]), "p1: unknown\n");
        let added = add_address(&devices, &["p1", "10.0.0.1/255.255.255.0"], false).unwrap();
        assert_eq!(added.address, Address { ip: "10.0.0.1".parse().unwrap(), prefix: 24 });
        let error = add_address(&devices, &["p1", "10.0.0.1/255.0.255.0"], false).err();
        assert_eq!(error, Some("10.0.0.1/255.0.255.0: CIDR network required".into()));
    }
}
