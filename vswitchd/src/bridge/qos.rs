//! Quality of service: rows of `QoS` and `Queue`, and the policing columns of `Interface`, brought to devices that can
//! shape traffic; and what these then have, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use datapath::linux::tc::police::Policing;
use datapath::linux::tc::{Details, Rows, Shaper};
use flow::time::Instant;
use ovsdb::idl::{Idl, Record};
use sys::errno::Errno;

use super::order::ByHash;
use super::reconfigure::pairs;
use super::{Bridges, Iface};

/// What the database wants of a device.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Wanted {
    /// Empty for the kernel's default.
    kind: String,
    details: Details,
    queues: BTreeMap<u32, Details>,
    policing: Policing,
}

impl Wanted {
    /// From the rows of a port and one of its interfaces.
    pub(super) fn read(idl: &Idl, port: Option<Record<'_>>, iface: Option<Record<'_>>) -> Self {
        let column = |name: &str| {
            let value = iface.and_then(|row| row.integer(name)).unwrap_or(0);
            u32::try_from(value.max(0)).unwrap_or(u32::MAX)
        };
        let mut wanted = Self {
            policing: Policing {
                kbits_rate: column("ingress_policing_rate"),
                kbits_burst: column("ingress_policing_burst"),
                kpkts_rate: column("ingress_policing_kpkts_rate"),
                kpkts_burst: column("ingress_policing_kpkts_burst"),
            },
            ..Self::default()
        };
        let qos = port.and_then(|port| port.reference("qos")).and_then(|uuid| idl.row("QoS", uuid));
        let Some(qos) = qos.filter(|qos| qos.str("type").is_some_and(|kind| !kind.is_empty())) else {
            return wanted;
        };
        wanted.kind = qos.str("type").unwrap_or_default().to_owned();
        wanted.details = pairs(qos.get("other_config"));
        // Packets that choose no queue go to this one.
        wanted.queues.insert(0, Details::new());
        for (id, row) in qos.get("queues").pairs() {
            let row = row.as_uuid().and_then(|uuid| idl.row("Queue", uuid));
            if let (Some(id), Some(row)) = (id.as_integer().and_then(|id| u32::try_from(id).ok()), row) {
                wanted.queues.insert(id, pairs(row.get("other_config")));
            }
        }
        wanted
    }
}

impl Iface {
    /// Brings a device in line with what the database wants of it, if that is news to it.
    pub(super) fn shape(&mut self, wanted: Wanted, now: Instant) {
        let Some(shaper) = self.device.shaper() else { return };
        let news = (wanted, self.device.ifindex());
        if self.shaped.as_ref() == Some(&news) || news.1.is_none() {
            return;
        }
        let wanted = &news.0;
        match shaper.set_qos(&wanted.kind, &wanted.details, now) {
            Ok(()) => set_queues(shaper, wanted, now),
            Err(error) if error.errno() == Errno::EOPNOTSUPP => {
                let (name, kind) = (&self.name, &wanted.kind);
                tracing::info!(
                    target: "bridge", rl = "1,5", "interface {name}: there is no QoS type \"{kind}\""
                );
            }
            // The device said why.
            Err(_) => {}
        }
        // As above.
        let _ = shaper.set_policing(wanted.policing);
        self.shaped = Some(news);
    }
}

/// What fails was told of by the device.
fn set_queues(shaper: &Shaper, wanted: &Wanted, now: Instant) {
    let there = shaper.queues(now).unwrap_or_default();
    for id in there.keys().filter(|id| !wanted.queues.contains_key(id)) {
        let _ = shaper.delete_queue(*id, now);
    }
    for (id, details) in &wanted.queues {
        let _ = shaper.set_queue(*id, details, now);
    }
}

/// In the order in which OVS goes over maps.
fn write_rows(text: &mut String, rows: Rows, indent: &str) {
    let mut ordered = ByHash::new();
    for (key, value) in rows {
        ordered.insert(key, (key, value));
    }
    for (key, value) in ordered.iter() {
        let _ = writeln!(text, "{indent}{key}: {value}");
    }
}

impl Bridges {
    fn known_iface(&self, name: &str) -> Result<&Iface, String> {
        self.iter().find_map(|bridge| bridge.iface(name)).ok_or_else(|| "no such interface".to_owned())
    }

    /// `qos/show-types INTERFACE`.
    pub fn qos_show_types(&self, name: &str) -> Result<String, String> {
        if self.known_iface(name)?.device.shaper().is_none() {
            return Ok(format!("No QoS types supported for interface: {name}\n"));
        }
        let mut types = ByHash::new();
        Shaper::types().for_each(|kind| types.insert(kind, kind));
        Ok(types.iter().map(|kind| format!("QoS type: {kind}\n")).collect())
    }

    /// `qos/show INTERFACE`.
    pub fn qos_show(&self, name: &str, now: Instant) -> Result<String, String> {
        let none = || Ok(format!("QoS not configured on {name}\n"));
        let Some(shaper) = self.known_iface(name)?.device.shaper() else { return none() };
        let (kind, rows) = shaper
            .qos(now)
            .map_err(|error| format!("{name}: failed to retrieve QOS configuration ({error})\n"))?;
        if kind.is_empty() {
            return none();
        }
        let mut text = format!("QoS: {name} {kind}\n");
        write_rows(&mut text, rows, "");
        for (id, rows) in shaper.queues(now).unwrap_or_default() {
            text.push('\n');
            let _ = if id == 0 { writeln!(text, "Default:") } else { writeln!(text, "Queue {id}:") };
            write_rows(&mut text, rows, "  ");
            let _ = match shaper.queue_stats(id, now) {
                Ok((stats, _)) => writeln!(
                    text,
                    "  tx_packets: {}\n  tx_bytes: {}\n  tx_errors: {}",
                    stats.tx_packets, stats.tx_bytes, stats.tx_errors
                ),
                Err(error) => write!(text, "  Failed to get statistics for queue {id}: {error}"),
            };
        }
        Ok(text)
    }
}
