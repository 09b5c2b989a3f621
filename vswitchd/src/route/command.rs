//! `ovs/route/*`: what is known of routes, as text and JSON, and routes and rules that users enter.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::linux::route::table::{DEFAULT, LOCAL, MAIN};
use datapath::netdev::Netdevs;
use serde_json::{Value, json};

use super::table::Table;
use super::{Origin, Route, Router, Rule, Wanted};

fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::Cached => "Cached",
        Origin::User => "User",
    }
}

/// A number after `label`; what follows it is not looked at.
fn number_after(text: &str, label: &str) -> Option<u32> {
    let digits = text.strip_prefix(label)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// `IP`, `IP/BITS`, or for IPv4 `IP/MASK`.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
    if let Ok(ip) = ip.parse::<Ipv4Addr>() {
        let prefix = match bits {
            None => 32,
            Some(bits) => match bits.parse::<Ipv4Addr>() {
                Ok(mask) => {
                    let mask = mask.to_bits();
                    let ones = mask.leading_ones();
                    u8::try_from(ones)
                        .ok()
                        .filter(|_| mask == u32::MAX.checked_shl(32 - ones).unwrap_or(0))?
                }
                Err(_) => bits.parse().ok()?,
            },
        };
        return (prefix <= 32).then_some((ip.into(), prefix));
    }
    let ip = ip.parse::<Ipv6Addr>().ok()?;
    let prefix = bits.map_or(Some(128), |bits| bits.parse().ok())?;
    (prefix <= 128).then_some((ip.into(), prefix))
}

/// An address of the family of `like`.
fn address(text: &str, like: IpAddr) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == like.is_ipv4())
}

fn is_standard(table: u32) -> bool {
    matches!(table, LOCAL | MAIN | DEFAULT)
}

/// `ovs/route/add IP/PLEN DEV [GW] [pkt_mark=MARK] [src=IP] [table=ID]`.
pub fn add(router: &mut Router, netdevs: &Netdevs, args: &[&str]) -> Result<String, String> {
    let [to, device, rest @ ..] = args else { return Err("Invalid 'ip/plen' parameter".into()) };
    let (dst, prefix) = network(to).ok_or("Invalid 'ip/plen' parameter")?;
    let mut table = MAIN;
    let mut wanted = Wanted { mark: 0, dst, prefix, device, gateway: None, source: None };
    for arg in rest {
        if let Some(mark) = number_after(arg, "pkt_mark=") {
            wanted.mark = mark;
        } else if let Some(ip) = arg.strip_prefix("src=").and_then(|text| address(text, dst)) {
            wanted.source = Some(ip);
        } else if let Some(ip) = address(arg, dst) {
            wanted.gateway = Some(ip);
        } else if let Some(id) = number_after(arg, "table=") {
            table = id;
        } else if arg.starts_with("table=") {
            return Err("Invalid table format".into());
        } else {
            return Err("Invalid pkt_mark, IP gateway or src_ip".into());
        }
    }
    wanted.gateway = wanted.gateway.filter(|ip| !ip.is_unspecified());
    wanted.source = wanted.source.filter(|ip| !ip.is_unspecified());
    let route = wanted.resolve(netdevs).ok_or("Error while inserting route.")?;
    router.add(table, route);
    Ok("OK".into())
}

/// `ovs/route/del IP/PLEN [pkt_mark=MARK] [table=ID]`.
pub fn del(router: &mut Router, args: &[&str]) -> Result<String, String> {
    let [to, rest @ ..] = args else { return Err("Invalid parameters".into()) };
    let (dst, prefix) = network(to).ok_or("Invalid parameters")?;
    let (mut mark, mut table) = (0, MAIN);
    for arg in rest {
        if let Some(value) = number_after(arg, "pkt_mark=") {
            mark = value;
        } else if let Some(id) = number_after(arg, "table=") {
            router.table(id).ok_or_else(|| format!("Table {arg} not found"))?;
            table = id;
        } else if arg.starts_with("table=") {
            return Err("Invalid table format".into());
        } else {
            return Err("Invalid pkt_mark or table".into());
        }
    }
    router.table(table).ok_or("Table not found")?;
    if router.remove(table, mark, dst, prefix) { Ok("OK".into()) } else { Err("Not found".into()) }
}

/// Tables that a list shows.
enum Shown<'a> {
    /// Those that there always are.
    Standard,
    All,
    One(u32, &'a Table),
}

fn shown<'a>(router: &'a Router, args: &[&str]) -> Result<Shown<'a>, String> {
    let Some(arg) = args.first() else { return Ok(Shown::Standard) };
    if *arg == "table=all" {
        return Ok(Shown::All);
    }
    match number_after(arg, "table=").ok_or("Invalid table format")? {
        0 => Ok(Shown::Standard),
        id => {
            let table = router.table(id).ok_or_else(|| format!("Table '{arg}' not found"))?;
            Ok(Shown::One(id, table))
        }
    }
}

/// `ovs/route/show [table=all|ID]`.
pub fn show(router: &Router, args: &[&str]) -> Result<String, String> {
    let mut text = String::new();
    match shown(router, args)? {
        Shown::All => router.tables().for_each(|(id, table)| list(&mut text, id, table, true)),
        Shown::Standard => {
            text.push_str("Route Table:\n");
            for id in [LOCAL, MAIN, DEFAULT] {
                router.table(id).into_iter().for_each(|table| list(&mut text, id, table, false));
            }
        }
        Shown::One(id, table) => {
            let number = if is_standard(id) { String::new() } else { format!(" #{id}") };
            let _ = writeln!(text, "Route Table{number}:");
            list(&mut text, id, table, false);
        }
    }
    Ok(text)
}

fn list(text: &mut String, id: u32, table: &Table, name_table: bool) {
    for route in table.list() {
        let _ = write!(text, "{}: {}/{}", origin_text(route.origin), route.dst, route.prefix);
        if route.mark != 0 {
            let _ = write!(text, " MARK {}", route.mark);
        }
        let _ = write!(text, " dev {}", route.device);
        if let Some(gateway) = route.gateway {
            let _ = write!(text, " GW {gateway}");
        }
        let _ = write!(text, " SRC {}", route.source);
        if is_local(id, route) {
            text.push_str(" local");
        }
        if name_table && !is_standard(id) {
            let _ = write!(text, " table {id}");
        }
        text.push('\n');
    }
}

fn is_local(table: u32, route: &Route) -> bool {
    table == LOCAL && route.origin == Origin::Cached
}

/// `ovs/route/show` as JSON.
pub fn show_json(router: &Router, args: &[&str]) -> Result<Value, String> {
    let tables: Vec<(u32, &Table)> = match shown(router, args)? {
        Shown::All => router.tables().collect(),
        Shown::Standard => {
            [LOCAL, MAIN, DEFAULT].into_iter().filter_map(|id| Some((id, router.table(id)?))).collect()
        }
        Shown::One(id, table) => vec![(id, table)],
    };
    let routes = tables
        .into_iter()
        .flat_map(|(id, table)| table.list().into_iter().map(move |route| route_json(id, route)));
    Ok(Value::Array(routes.collect()))
}

fn route_json(table: u32, route: &Route) -> Value {
    let mut hop = json!({ "dev": &*route.device });
    if let Some(gateway) = route.gateway {
        hop["gateway"] = json!(gateway);
    }
    let mut shown = json!({
        "table": table,
        "user": route.origin == Origin::User,
        "local": is_local(table, route),
        "prefix": route.prefix,
        "dst": route.dst,
        "prefsrc": route.source,
        "nexthops": [hop],
    });
    if route.mark != 0 {
        shown["mark"] = json!(route.mark);
    }
    shown
}

/// `ovs/route/lookup IP [pkt_mark=MARK] [src=IP]`.
pub fn lookup(router: &Router, args: &[&str]) -> Result<String, String> {
    let invalid = "Invalid 'ip/plen' parameter";
    let [to, rest @ ..] = args else { return Err(invalid.into()) };
    let (dst, prefix) = network(to).ok_or(invalid)?;
    if prefix != if dst.is_ipv4() { 32 } else { 128 } {
        return Err(invalid.into());
    }
    let (mut mark, mut source) = (0, None);
    for arg in rest {
        if let Some(value) = number_after(arg, "pkt_mark=") {
            mark = value;
        } else if let Some(ip) = arg.strip_prefix("src=").and_then(|text| address(text, dst)) {
            source = Some(ip);
        } else {
            return Err("Invalid pkt_mark or src".into());
        }
    }
    let route = router.lookup(mark, dst, source).ok_or("Not found")?;
    let gateway = route.gateway.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    Ok(format!("src {}\ngateway {gateway}\ndev {}\n", route.source, route.device))
}

/// `ovs/route/rule/show [-6]`.
pub fn rule_show(router: &Router, args: &[&str]) -> String {
    let mut text = String::new();
    for rule in rules_of(router, args) {
        let not = if rule.invert { "not " } else { "" };
        let _ = write!(text, "{}: {}: {not}from ", origin_text(rule.origin), rule.priority);
        match rule.from {
            None => text.push_str("all"),
            Some((ip, prefix)) if prefix == if ip.is_ipv4() { 32 } else { 128 } => {
                let _ = write!(text, "{ip}");
            }
            Some((ip, prefix)) => {
                let _ = write!(text, "{ip}/{prefix} ");
            }
        }
        let _ = match rule.table {
            LOCAL => writeln!(text, " lookup local"),
            MAIN => writeln!(text, " lookup main"),
            DEFAULT => writeln!(text, " lookup default"),
            id => writeln!(text, " lookup {id}"),
        };
    }
    text
}

fn rules_of<'a>(router: &'a Router, args: &[&str]) -> impl Iterator<Item = &'a Rule> {
    let v6 = args.first().is_some_and(|arg| arg.starts_with("-6"));
    router.rules().iter().filter(move |rule| rule.v4 != v6)
}

/// `ovs/route/rule/show` as JSON.
pub fn rule_show_json(router: &Router, args: &[&str]) -> Value {
    let shown = rules_of(router, args).map(|rule| {
        json!({
            "priority": rule.priority,
            "user": rule.origin == Origin::User,
            "invert": rule.invert,
            "ipv4": rule.v4,
            "src-prefix": rule.from.map_or(0, |(_, prefix)| prefix),
            "lookup": rule.table,
            "from": rule.from.map_or_else(|| "all".to_owned(), |(ip, _)| ip.to_string()),
        })
    });
    Value::Array(shown.collect())
}

/// `[-6] [not] from=all|IP/PLEN [prio=NUM] table=local|main|default|ID`; the priority is 0 if none is given.
fn parse_rule(args: &[&str]) -> Result<Rule, String> {
    let mut rest = args.iter().copied().peekable();
    let v6 = rest.next_if(|arg| arg.starts_with("-6")).is_some();
    let invert = rest.next_if(|arg| arg.starts_with("not")).is_some();
    let from = rest.next().and_then(|arg| arg.strip_prefix("from=")).ok_or("Invalid 'from' parameter")?;
    let (v4, from) = if from.starts_with("all") {
        (!v6, None)
    } else {
        let (ip, prefix) = network(from).ok_or("Invalid from=ip/plen")?;
        (ip.is_ipv4(), (prefix > 0).then_some((ip, prefix)))
    };
    let enough = "Not enough arguments";
    let priority = number_after(rest.peek().ok_or(enough)?, "prio=");
    if priority.is_some() {
        rest.next();
    }
    let table = rest.next().ok_or(enough)?.strip_prefix("table=").and_then(|table| match table {
        "local" => Some(LOCAL),
        "main" => Some(MAIN),
        "default" => Some(DEFAULT),
        id => number_after(id, ""),
    });
    let table = table.ok_or("Invalid 'table' format")?;
    Ok(Rule { priority: priority.unwrap_or(0), invert, v4, from, table, origin: Origin::User })
}

/// `ovs/route/rule/add`.
pub fn rule_add(router: &mut Router, args: &[&str]) -> Result<String, String> {
    let mut rule = parse_rule(args)?;
    if rule.priority == 0 {
        rule.priority = router.free_priority();
    }
    router.add_rule(rule);
    Ok("OK".into())
}

/// `ovs/route/rule/del`.
pub fn rule_del(router: &mut Router, args: &[&str]) -> Result<String, String> {
    let rule = parse_rule(args)?;
    if router.remove_rule(&rule) {
        Ok("OK".into())
    } else {
        Err("Failed to delete router rule: -2 (Unknown error -2)".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::netdev::{Address, DummyLevel};
    use proptest::prelude::*;

    fn switch() -> (Router, Netdevs, std::sync::Arc<dyn datapath::netdev::Netdev>) {
        let netdevs = Netdevs::new();
        netdevs.enable_dummy(DummyLevel::Plain);
        let device = netdevs.open("br0", "dummy").expect("a device");
        let address = Address { ip: "192.0.2.1".parse().expect("an address"), prefix: 24 };
        device.as_dummy().expect("a dummy").add_address(address);
        let mut router = Router::default();
        router.add_address("br0", &address);
        (router, netdevs, device)
    }

    #[test]
    fn routes_are_added_shown_and_looked_up() {
        let (mut router, netdevs, _device) = switch();
        let ok = Ok("OK".to_owned());
        assert_eq!(add(&mut router, &netdevs, &["198.51.100.0/24", "br0", "192.0.2.254"]), ok);
        assert_eq!(add(&mut router, &netdevs, &["192.0.2.1/24", "br0", "pkt_mark=123"]), ok);
        assert_eq!(add(&mut router, &netdevs, &["10.1.0.0/16", "br0", "192.0.2.9", "table=7"]), ok);
        let error = add(&mut router, &netdevs, &["1.1.3.0/24", "br0", "pkt_mark=3"]);
        assert_eq!(error, Err("Error while inserting route.".to_owned()));
        let text = "Route Table:\n\
            Cached: 192.0.2.1/32 dev br0 SRC 192.0.2.1 local\n\
            Cached: 192.0.2.0/24 dev br0 SRC 192.0.2.1\n\
            User: 198.51.100.0/24 dev br0 GW 192.0.2.254 SRC 192.0.2.1\n\
            User: 192.0.2.0/24 MARK 123 dev br0 SRC 192.0.2.1\n";
        assert_eq!(show(&router, &[]).as_deref(), Ok(text));
        let text = "Route Table #7:\nUser: 10.1.0.0/16 dev br0 GW 192.0.2.9 SRC 192.0.2.1\n";
        assert_eq!(show(&router, &["table=7"]).as_deref(), Ok(text));
        assert_eq!(show(&router, &["table=8"]), Err("Table 'table=8' not found".to_owned()));
        let found = lookup(&router, &["198.51.100.1"]);
        assert_eq!(found.as_deref(), Ok("src 192.0.2.1\ngateway 192.0.2.254\ndev br0\n"));
        assert_eq!(del(&mut router, &["10.1.0.0/16", "table=7"]), ok);
        assert_eq!(del(&mut router, &["10.1.0.0/16", "table=7"]), Err("Not found".to_owned()));
        assert_eq!(del(&mut router, &["10.1.0.0/16", "table=9"]), Err("Table table=9 not found".to_owned()));
    }

    #[test]
    fn rules_get_room_before_the_standard_ones() {
        let mut router = Router::default();
        rule_add(&mut router, &["from=192.0.2.10/32", "table=11"]).expect("added");
        rule_add(&mut router, &["not", "from=10.0.0.0/8", "table=main"]).expect("added");
        let text = "Cached: 0: from all lookup local\n\
            User: 32764: not from 10.0.0.0/8  lookup main\n\
            User: 32765: from 192.0.2.10 lookup 11\n\
            Cached: 32766: from all lookup main\n\
            Cached: 32767: from all lookup default\n";
        assert_eq!(rule_show(&router, &[]), text);
        let six = "Cached: 0: from all lookup local\nCached: 32766: from all lookup main\n";
        assert_eq!(rule_show(&router, &["-6"]), six);
        assert_eq!(
            rule_del(&mut router, &["from=192.0.2.10", "prio=32765", "table=11"]),
            Ok("OK".to_owned())
        );
        let error = "Failed to delete router rule: -2 (Unknown error -2)";
        assert_eq!(rule_del(&mut router, &["from=192.0.2.10", "table=11"]), Err(error.to_owned()));
    }

    #[test]
    fn networks_in_their_spellings() {
        let net = |text| network(text).map(|(ip, prefix)| format!("{ip}/{prefix}"));
        assert_eq!(net("10.0.0.1").as_deref(), Some("10.0.0.1/32"));
        assert_eq!(net("10.0.0.1/255.255.0.0").as_deref(), Some("10.0.0.1/16"));
        assert_eq!(net("10.0.0.1/0.0.0.0").as_deref(), Some("10.0.0.1/0"));
        assert_eq!(net("::/0").as_deref(), Some("::/0"));
        assert_eq!(
            [net("10.0.0.1/33"), net("10.0.0.1/255.0.255.0"), net("::/129"), net("x/1")],
            [None, None, None, None]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_panics(words in proptest::collection::vec("[-a-z0-9=:./ü]{0,14}", 0..6)) {
            let (mut router, netdevs, _device) = switch();
            let args: Vec<&str> = words.iter().map(String::as_str).collect();
            let _ = (add(&mut router, &netdevs, &args), del(&mut router, &args), show(&router, &args));
            let _ = (lookup(&router, &args), rule_add(&mut router, &args), rule_del(&mut router, &args));
        }
    }
}
