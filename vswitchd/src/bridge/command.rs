//! The commands on bridges: what they do; the table of commands calls it.

use std::fmt::Write;

use datapath::Features;
use flow::id::DpPort;
use flow::time::Instant;
use serde_json::{Map, Value, json};

use super::{Believed, Bridge, Bridges, Iface};

/// What a datapath can or cannot do, or how much of it.
enum Feature {
    Flag(fn(&mut Features) -> &mut bool),
    Size(fn(&mut Features) -> &mut usize),
    Number(fn(&mut Features) -> &mut u32),
}

use Feature::{Flag, Number, Size};

macro_rules! features {
    ($($kind:ident $name:ident $title:literal;)*) => {
        /// Name, title and place of each feature, in the order in which they are shown.
        static FEATURES: &[(&str, &str, Feature)] =
            &[$((stringify!($name), $title, $kind(|features| &mut features.$name))),*];
    };
}

features! {
    Flag masked_set_action "Masked set action";
    Flag tnl_push_pop "Tunnel push pop";
    Flag ufid "Ufid";
    Flag trunc "Truncate action";
    Flag clone "Clone action";
    Size sample_nesting "Sample nesting";
    Flag ct_eventmask "Conntrack eventmask";
    Flag ct_clear "Conntrack clear";
    Number max_hash_alg "Max dp_hash algorithm";
    Flag check_pkt_len "Check pkt length action";
    Flag ct_timeout "Conntrack timeout policy";
    Flag explicit_drop_action "Explicit Drop action";
    Flag lb_output_action "Optimized Balance TCP mode";
    Flag ct_zero_snat "Conntrack all-zero IP SNAT";
    Flag add_mpls "MPLS Label add";
    Flag psample "psample action";
    Size max_vlan_headers "Max VLAN headers";
    Size max_mpls_depth "Max MPLS depth";
    Flag recirc "Recirc";
    Flag ct_state "CT state";
    Flag ct_zone "CT zone";
    Flag ct_mark "CT mark";
    Flag ct_label "CT label";
    Flag ct_state_nat "CT state NAT";
    Flag ct_orig_tuple "CT orig tuple";
    Flag ct_orig_tuple6 "CT orig tuple for IPv6";
    Flag nd_ext "IPv6 ND Extension";
}

impl Feature {
    fn show(&self, features: &Features, [yes, no]: [&str; 2]) -> String {
        let mut features = features.clone();
        match self {
            Flag(place) => if *place(&mut features) { yes } else { no }.to_owned(),
            Size(place) => place(&mut features).to_string(),
            Number(place) => place(&mut features).to_string(),
        }
    }

    /// Changes the feature in `now`, to no more than it is in `boot`; an error is the answer to the user.
    fn set(&self, now: &mut Features, boot: &Features, text: &str, force: bool) -> Result<(), &'static str> {
        let mut boot = boot.clone();
        match self {
            Flag(place) => set_flag(place(now), *place(&mut boot), text, force),
            Size(place) => {
                *place(now) = size(text, *place(&mut boot))?;
                Ok(())
            }
            Number(place) => {
                let most = usize::try_from(*place(&mut boot)).unwrap_or(usize::MAX);
                *place(now) = u32::try_from(size(text, most)?).unwrap_or(u32::MAX);
                Ok(())
            }
        }
    }
}

fn set_flag(flag: &mut bool, supported: bool, text: &str, force: bool) -> Result<(), &'static str> {
    let wanted = match () {
        () if text.eq_ignore_ascii_case("true") => true,
        () if text.eq_ignore_ascii_case("false") => false,
        () => return Err("Boolean value expected"),
    };
    if wanted && !supported && !force {
        return Err("Can not enable features not supported by the datapath");
    }
    if wanted && force {
        tracing::warn!(target: "ofproto_dpif", "Enabling an unsupported feature is very dangerous");
    }
    *flag = wanted;
    Ok(())
}

fn size(text: &str, most: usize) -> Result<usize, &'static str> {
    let number: i32 = text.parse().map_err(|_| "Integer number expected")?;
    let number = usize::try_from(number).map_err(|_| "Negative number not expected")?;
    if number > most { Err("Can not set value beyond the datapath capability") } else { Ok(number) }
}

/// What the database is told of a datapath: the `capabilities` column.
pub(super) fn capabilities(features: &Features) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let words = ["true", "false"];
    let shown = FEATURES.iter().map(move |(name, _, feature)| match *name {
        // How deep samples nest is not told, only whether they do.
        "sample_nesting" => (*name, (features.sample_nesting > 0).to_string()),
        name => (name, feature.show(features, words)),
    });
    // Flushing by partial tuples needs nothing of a datapath.
    shown.chain([("ct_flush", "true".to_owned())])
}

impl Bridges {
    fn named(&self, name: &str, error: &str) -> Result<&Bridge, String> {
        self.get(name).ok_or_else(|| error.to_owned())
    }

    /// `bridge/dump-flows [--offload-stats] BRIDGE`: every flow, hidden ones too.
    ///
    /// # Errors
    ///
    /// If there is no such bridge.
    pub fn dump_flows(&self, args: &[String], now: Instant) -> Result<String, String> {
        let (name, options) = args.split_last().ok_or("Unknown bridge")?;
        let bridge = self.named(name, "Unknown bridge")?;
        let offload = options.iter().any(|option| option == "--offload-stats");
        Ok(bridge.ofproto.dump_flows(offload, now))
    }

    /// `dpif/dump-dps`: types and names of bridges, a line each.
    pub fn full_names(&self) -> String {
        self.iter().fold(String::new(), |text, bridge| text + &bridge.kind + "@" + &bridge.name + "\n")
    }

    /// `ofproto/list`: the names of bridges, a line each.
    pub fn names(&self) -> String {
        self.iter().fold(String::new(), |text, bridge| text + &bridge.name + "\n")
    }

    /// The types of datapath that bridges have, by the datapath's name, with a bridge each.
    fn datapaths(&self) -> Vec<&Bridge> {
        let mut each: Vec<&Bridge> = Vec::new();
        for bridge in self.iter() {
            if !each.iter().any(|other| other.kind == bridge.kind) {
                each.push(bridge);
            }
        }
        each.sort_by(|a, b| a.datapath.name().cmp(b.datapath.name()));
        each
    }

    /// `dpif/show`: datapaths, their bridges, and their ports by both numbers.
    pub fn dpif_show(&self) -> String {
        let mut out = String::new();
        for one in self.datapaths() {
            let (stats, kind, name) = (one.datapath.stats(), one.datapath.kind(), one.datapath.name());
            let _ = writeln!(out, "{kind}@{name}: hit:{} missed:{}", stats.hits, stats.misses);
            for bridge in self.iter().filter(|bridge| bridge.kind == one.kind) {
                let _ = writeln!(out, "  {}:", bridge.name);
                for iface in bridge.ifaces_by_name() {
                    let _ = writeln!(out, "    {}", shown_port(iface));
                }
            }
        }
        out
    }

    /// [`Self::dpif_show`] as JSON.
    pub fn dpif_show_json(&self) -> Value {
        let mut all = Map::new();
        for one in self.datapaths() {
            let stats = one.datapath.stats();
            let bridges = self.iter().filter(|bridge| bridge.kind == one.kind);
            let bridges: Map<String, Value> = bridges
                .map(|bridge| {
                    let ports = bridge
                        .ifaces_by_name()
                        .into_iter()
                        .map(|iface| (iface.name.clone(), port_json(iface)));
                    (bridge.name.clone(), Value::Object(ports.collect()))
                })
                .collect();
            all.insert(
                format!("{}@{}", one.datapath.kind(), one.datapath.name()),
                json!({
                    "stats": {"hit": stats.hits.to_string(), "missed": stats.misses.to_string()},
                    "bridges": bridges,
                }),
            );
        }
        Value::Object(all)
    }

    fn believed(&self, bridge: &str) -> Result<&Believed, String> {
        let bridge = self.named(bridge, "no such bridge")?;
        self.features.get(&bridge.kind).ok_or_else(|| "no such bridge".to_owned())
    }

    /// `dpif/show-dp-features BRIDGE`.
    ///
    /// # Errors
    ///
    /// If there is no such bridge.
    pub fn show_dp_features(&self, bridge: &str) -> Result<String, String> {
        let features = &self.believed(bridge)?.boot;
        let line = |(_, title, feature): &(&str, &str, Feature)| {
            format!("{title}: {}\n", feature.show(features, ["Yes", "No"]))
        };
        Ok(FEATURES.iter().map(line).collect())
    }

    /// `dpif/set-dp-features [--force] BRIDGE [FEATURE [VALUE]]`: shows or changes what translation believes that the
    /// datapath can do.
    ///
    /// # Errors
    ///
    /// If there is no such bridge.
    pub fn set_dp_features(&mut self, args: &[String]) -> Result<String, String> {
        let force = args.len() > 1 && args[0] == "--force";
        let mut args = args[usize::from(force)..].iter().map(String::as_str);
        let bridge = args.next().unwrap_or_default();
        let Believed { boot, now } = self.believed(bridge)?;
        let show = |(name, title, feature): &(&str, &str, Feature)| {
            let [now, boot] = [now, boot].map(|features| feature.show(features, ["true", "false"]));
            format!("{name} ({title}) : [run time]:{now}, [boot time]:{boot}\n")
        };
        let Some(wanted) = args.next() else { return Ok(FEATURES.iter().map(show).collect()) };
        let Some(row) = FEATURES.iter().find(|(name, ..)| *name == wanted) else {
            return Ok("Unexpected support field".to_owned());
        };
        let Some(value) = args.next() else { return Ok(show(row)) };
        let mut changed = now.clone();
        if let Err(text) = row.2.set(&mut changed, boot, value, force) {
            return Ok(text.to_owned());
        }
        let kind = self.named(bridge, "no such bridge")?.kind.clone();
        if let Some(believed) = self.features.get_mut(&kind) {
            believed.now = changed;
            self.republish = true;
        }
        Ok(String::new())
    }
}

impl Bridge {
    fn ifaces_by_name(&self) -> Vec<&Iface> {
        let there = |iface: &&Iface| self.ofproto.port(iface.ofp).is_some();
        let mut all: Vec<&Iface> = self.ifaces().filter(there).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

fn number(port: DpPort) -> String {
    if port == DpPort::NONE { "none".to_owned() } else { port.to_string() }
}

fn shown_port(iface: &Iface) -> String {
    let config: Vec<String> =
        iface.device.config().iter().map(|(key, value)| format!(" {key}={value}")).collect();
    let colon = if config.is_empty() { "" } else { ":" };
    let (name, ofp, odp, kind) = (&iface.name, iface.ofp, number(iface.odp), iface.device.kind());
    format!("{name} {ofp}/{odp}: ({kind}{colon}{})", config.join(","))
}

fn port_json(iface: &Iface) -> Value {
    let mut port = json!({
        "ofport": iface.ofp.to_string(),
        "port_no": number(iface.odp),
        "type": iface.device.kind(),
    });
    let config = iface.device.config();
    if !config.is_empty() {
        port["config"] = json!(config);
    }
    port
}
