//! What the database is told: numbers and errors of ports, status and statistics of devices, controllers, types.

use std::sync::atomic::Ordering;
use std::time::Duration;

use datapath::Datapath;
use datapath::netdev::{Flags, TxOffloads};
use flow::id::OfPort;
use flow::time::Instant;
use ovsdb::idl::{Idl, Record, Txn};
use ovsdb::value::{Datum, Uuid};

use super::{Bridge, Bridges, Iface, Outside, STATS_INTERVAL};

/// Columns that nobody here reads.
const UNREAD: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["external_ids", "ovs_version", "db_version", "system_type", "system_version"]),
    ("Bridge", &["external_ids"]),
    ("Port", &["external_ids"]),
    ("Interface", &["external_ids"]),
    ("Controller", &["external_ids"]),
    ("QoS", &["external_ids"]),
    ("Queue", &["external_ids"]),
    ("Mirror", &["external_ids"]),
    ("NetFlow", &["external_ids"]),
    ("sFlow", &["external_ids"]),
    ("IPFIX", &["external_ids"]),
    ("Flow_Sample_Collector_Set", &["external_ids"]),
    ("Manager", &["external_ids", "inactivity_probe", "is_connected", "max_backoff", "status"]),
    ("SSL", &["external_ids"]),
    ("Datapath", &["external_ids", "datapath_version"]),
    ("CT_Zone", &["external_ids"]),
    ("CT_Timeout_Policy", &["external_ids"]),
];

/// Columns that we write; that they change is no news.
const WRITTEN: &[(&str, &[&str])] = &[
    (
        "Open_vSwitch",
        &["cur_cfg", "statistics", "datapath_types", "iface_types", "dpdk_version", "dpdk_initialized"],
    ),
    ("Bridge", &["datapath_id", "datapath_version", "status", "rstp_status"]),
    ("Port", &["status", "rstp_status", "rstp_statistics", "statistics", "bond_active_slave"]),
    (
        "Interface",
        &[
            "admin_state",
            "duplex",
            "link_speed",
            "link_state",
            "link_resets",
            "mac_in_use",
            "ifindex",
            "mtu",
            "ofport",
            "statistics",
            "status",
            "cfm_fault",
            "cfm_fault_status",
            "cfm_remote_mpids",
            "cfm_flap_count",
            "cfm_health",
            "cfm_remote_opstate",
            "bfd_status",
            "lacp_current",
            "error",
        ],
    ),
    ("Controller", &["is_connected", "role", "status"]),
    ("Mirror", &["statistics"]),
    ("Datapath", &["capabilities"]),
];

fn listed(list: &[(&str, &[&str])], table: &str, column: &str) -> bool {
    list.iter().any(|(name, columns)| *name == table && columns.contains(&column))
}

/// Asks for what bridges read and write.
pub(super) fn watch(idl: &mut Idl) {
    let schema = idl.schema().clone();
    for table in schema.tables.values() {
        for (_, column) in table.own_columns() {
            if listed(UNREAD, &table.name, &column.name) {
                continue;
            }
            idl.monitor(&table.name, &column.name);
            if listed(WRITTEN, &table.name, &column.name) {
                idl.omit_alert(&table.name, &column.name);
            }
        }
    }
}

fn none() -> Datum {
    Datum::empty_set()
}

fn nothing() -> Datum {
    Datum::empty_map()
}

/// The database is in force as of `next_cfg`.
pub(super) fn configured(txn: &mut Txn, root: Record<'_>, datapaths: &[String], interfaces: &[&str]) {
    let table = "Open_vSwitch";
    txn.set(table, root.uuid(), "cur_cfg", root.integer("next_cfg").unwrap_or(0));
    txn.set(table, root.uuid(), "datapath_types", Datum::set(datapaths.iter().map(String::as_str)));
    txn.set(table, root.uuid(), "iface_types", Datum::set(interfaces.iter().copied()));
}

/// An interface has its number and no error.
pub(super) fn numbered(txn: &mut Txn, iface: &Iface) {
    if let Some(uuid) = iface.uuid {
        txn.set("Interface", uuid, "ofport", i64::from(iface.ofp.0));
        txn.set("Interface", uuid, "error", none());
    }
}

/// An interface could not be made.
pub(super) fn failed_iface(txn: &mut Txn, uuid: Uuid, error: &str) {
    let table = "Interface";
    txn.set(table, uuid, "ofport", -1i64);
    txn.set(table, uuid, "error", if error.is_empty() { none() } else { Datum::one(error) });
    for column in ["status", "statistics"] {
        txn.set(table, uuid, column, nothing());
    }
    for column in [
        "admin_state",
        "duplex",
        "link_speed",
        "link_state",
        "mac_in_use",
        "mtu",
        "cfm_fault",
        "cfm_fault_status",
        "cfm_remote_mpids",
        "lacp_current",
        "ifindex",
    ] {
        txn.set(table, uuid, column, none());
    }
}

/// What a device says of itself.
pub(super) fn device(txn: &mut Txn, iface: &Iface, datapath_kind: &str) {
    let Some(uuid) = iface.uuid else { return };
    let device = &iface.device;
    let mut set = |column: &str, datum: Datum| txn.set("Interface", uuid, column, datum);
    let word = |word: Option<&str>| word.map_or_else(none, Datum::one);
    let number = |number: Option<i64>| number.map_or_else(none, Datum::one);
    let status = device.status().map(|mut status| {
        // The kernel's datapath does not send by the device, but is it.
        let offloads = device.tx_offloads().filter(|_| datapath_kind != "system");
        status.extend(offloads.into_iter().flat_map(TxOffloads::rows));
        status
    });
    set("status", status.map_or_else(|_| nothing(), Datum::map));
    let up = device.flags().ok().map(|flags| if flags.contains(Flags::UP) { "up" } else { "down" });
    set("admin_state", word(up));
    set("link_state", word(Some(if super::device::has_carrier(&**device) { "up" } else { "down" })));
    set("link_resets", number(i64::try_from(device.carrier_resets()).ok()));
    let link = device.link().unwrap_or_default();
    set("duplex", word(link.full_duplex.map(|full| if full { "full" } else { "half" })));
    set("link_speed", number((link.speed > 0).then(|| i64::from(link.speed) * 1_000_000)));
    set("mtu", number(device.mtu().ok().map(i64::from)));
    let mac = device.mac().ok().map(|mac| flow::text::eth(&mac));
    set("mac_in_use", word(mac.as_deref()));
    set("ifindex", number(Some(device.ifindex().map_or(0, i64::from))));
}

/// A device's counters.
pub(super) fn statistics(txn: &mut Txn, datapath: &dyn Datapath, iface: &Iface) {
    let Some(uuid) = iface.uuid else { return };
    let mut counters = iface.device.counters().unwrap_or_default();
    if let Some((packets, errors)) = datapath.port_upcalls(iface.odp) {
        (counters.upcall_packets, counters.upcall_errors) = (Some(packets), Some(errors));
    }
    let own = counters.rows().map(|(key, value)| (key.to_owned(), value));
    let all = own.chain(iface.device.custom_counters());
    let rows = all.map(|(key, value)| (key, i64::try_from(value).unwrap_or(i64::MAX)));
    txn.set("Interface", uuid, "statistics", Datum::map(rows));
}

impl Bridges {
    /// Writes status when it changed, and statistics when they are due.
    pub(super) fn write_status(&mut self, idl: &mut Idl, outside: &mut dyn Outside, now: Instant) {
        if self.in_flight() {
            return;
        }
        let all = std::mem::take(&mut self.status_due);
        if std::mem::take(&mut self.devices_moved) || all {
            let mut txn = Txn::new();
            for bridge in self.bridges.values_mut() {
                txn.set("Bridge", bridge.uuid, "datapath_version", bridge.datapath.version());
                let kind = bridge.kind.clone();
                for iface in bridge.ifaces_mut() {
                    let seq = iface.device.change_seq();
                    // What a tunnel says depends on routes, too.
                    if std::mem::replace(&mut iface.told, seq) != seq || all || iface.tunnel.is_some() {
                        device(&mut txn, iface, &kind);
                    }
                }
            }
            self.take_off(idl, &txn, false);
        }
        let interval = stats_interval(idl);
        if std::mem::replace(&mut self.stats_interval, interval) != interval {
            self.stats_at = now;
        }
        if now >= self.stats_at {
            self.stats_at = now + interval;
            let mut txn = Txn::new();
            for bridge in self.bridges.values() {
                bridge.ifaces().for_each(|iface| statistics(&mut txn, &*bridge.datapath, iface));
                bridge.mirror_statistics(idl, &mut txn);
                bridge.controller_status(idl, &mut txn, outside);
            }
            self.take_off(idl, &txn, false);
        }
    }
}

fn stats_interval(idl: &Idl) -> Duration {
    let root = idl.first("Open_vSwitch");
    let text = root.and_then(|root| root.key("other_config", "stats-update-interval"));
    let wanted = text.and_then(|text| text.parse().ok()).map(Duration::from_millis);
    wanted.unwrap_or_default().max(STATS_INTERVAL)
}

impl Bridge {
    fn mirror_statistics(&self, idl: &Idl, txn: &mut Txn) {
        let Some(row) = idl.row("Bridge", self.uuid) else { return };
        for row in row.get("mirrors").uuids().filter_map(|uuid| idl.row("Mirror", uuid)) {
            let Some(mirror) = self.mirrors.iter().find(|m| Some(m.name.as_str()) == row.str("name")) else {
                continue;
            };
            let count = |value: &std::sync::atomic::AtomicU64| {
                i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
            };
            let counters = &mirror.counters;
            let rows = [("tx_packets", count(&counters.tx_packets)), ("tx_bytes", count(&counters.tx_bytes))];
            txn.set("Mirror", row.uuid(), "statistics", Datum::map(rows));
        }
    }

    fn controller_status(&self, idl: &Idl, txn: &mut Txn, outside: &dyn Outside) {
        let Some(row) = idl.row("Bridge", self.uuid) else { return };
        let known = outside.controllers(&self.name);
        for row in row.get("controller").uuids().filter_map(|uuid| idl.row("Controller", uuid)) {
            let status = row.str("target").and_then(|target| known.get(target)).cloned().unwrap_or_default();
            let role = status.role.map_or_else(none, Datum::one);
            txn.set("Controller", row.uuid(), "is_connected", status.connected);
            txn.set("Controller", row.uuid(), "role", role);
            txn.set("Controller", row.uuid(), "status", Datum::map(status.status));
        }
    }
}

/// The port number as the `ofport` column tells it.
pub fn column_number(port: OfPort) -> i64 {
    if port == OfPort::NONE { -1 } else { port.0.into() }
}
