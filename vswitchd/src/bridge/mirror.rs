//! Mirrors: rows of the `Mirror` table as translation reads them.

use std::sync::Arc;

use flow::mini::Match;
use openflow::names::Names;
use ovsdb::idl::{Idl, Record};

use super::Bridge;
use crate::xlate::BundleId;
use crate::xlate::snapshot::{Mirror, VlanSet};

/// The most mirrors that a bridge has.
const MAX_MIRRORS: usize = 32;

impl Bridge {
    pub(super) fn configure_mirrors(&mut self, idl: &Idl, row: Record<'_>) {
        let rows = row.get("mirrors").uuids().filter_map(|uuid| idl.row("Mirror", uuid));
        let mirrors: Vec<Mirror> = rows.filter_map(|row| self.mirror(idl, row)).collect();
        if mirrors.len() > MAX_MIRRORS {
            tracing::warn!(
                target: "ofproto_dpif_mirror",
                "bridge {}: maximum of {MAX_MIRRORS} port mirrors reached, cannot create {}",
                self.name, mirrors[MAX_MIRRORS].name
            );
        }
        self.mirrors = mirrors.into_iter().take(MAX_MIRRORS).collect();
        self.ofproto.tables().note_change();
    }

    fn mirror(&self, idl: &Idl, row: Record<'_>) -> Option<Mirror> {
        let (bridge, name) = (&self.name, row.str("name").unwrap_or_default());
        let error = |text: &str| tracing::error!(target: "bridge", "bridge {bridge}: mirror {name} {text}");
        let output_vlan = row.integer("output_vlan").and_then(|vlan| u16::try_from(vlan).ok());
        let output = match row.reference("output_port") {
            Some(port) => {
                let port = idl.row("Port", port).and_then(|port| port.str("name"));
                let Some(bundle) = port.and_then(|port| self.bundle_named(port)) else {
                    error("outputs to port not on bridge");
                    return None;
                };
                if output_vlan.is_some() {
                    error("specifies both output port and output vlan; ignoring output vlan");
                }
                Some(bundle)
            }
            None if output_vlan.is_some() => None,
            None => {
                error("does not specify output; ignoring");
                return None;
            }
        };
        let all = || self.ports.iter().map(|port| port.bundle.id).collect::<Vec<_>>();
        let (sources, destinations) = if row.bool("select_all") == Some(true) {
            (all(), all())
        } else {
            (self.selected(idl, row, "select_src_port"), self.selected(idl, row, "select_dst_port"))
        };
        let vlans: Vec<u16> =
            row.get("select_vlan").integers().filter_map(|vlan| u16::try_from(vlan).ok()).collect();
        let counters = self.mirrors.iter().find(|mirror| mirror.name == name);
        Some(Mirror {
            name: name.to_owned(),
            sources,
            destinations,
            vlans: (!vlans.is_empty()).then(|| vlans.into_iter().collect::<VlanSet>()),
            filter: self.filter(name, row)?,
            output_vlan: output_vlan.filter(|_| output.is_none()),
            output,
            snaplen: row.integer("snaplen").and_then(|len| u16::try_from(len).ok()).unwrap_or(0),
            counters: counters.map(|mirror| Arc::clone(&mirror.counters)).unwrap_or_default(),
        })
    }

    /// `None` if the filter cannot be read, so that the mirror does not take more than was asked for.
    fn filter(&self, name: &str, row: Record<'_>) -> Option<Option<Match>> {
        let Some(text) = row.str("filter") else { return Some(None) };
        match openflow::parse::matching::exact_key(text, &Names::default()) {
            Ok(matching) => Some(Some(Match::new(&matching))),
            Err(error) => {
                tracing::warn!(
                    target: "ofproto_dpif_mirror",
                    "filter is invalid: {error}"
                );
                tracing::error!(
                    target: "bridge",
                    "bridge {}: mirror {name} configuration is invalid", self.name
                );
                None
            }
        }
    }

    fn selected(&self, idl: &Idl, row: Record<'_>, column: &str) -> Vec<BundleId> {
        let names = row.get(column).uuids().filter_map(|uuid| idl.row("Port", uuid)?.str("name"));
        let bundle = |port: &str| {
            let found = self.bundle_named(port);
            if found.is_none() {
                tracing::warn!(
                    target: "bridge",
                    "bridge {}: mirror {} cannot match on nonexistent port {port}",
                    self.name, row.str("name").unwrap_or_default()
                );
            }
            found
        };
        names.filter_map(bundle).collect()
    }
}
