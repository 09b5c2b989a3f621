//! Going on in a table: resubmit, goto.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flow::describe::match_to_string;
use flow::drop::DropReason;
use flow::id::{OfPort, TableId};
use flow::key::{Key, Mask, frag};
use flow::proto::ethertype;
use openflow::action::Resubmit;
use openflow::msg::port::PortConfig;
use smallvec::SmallVec;

use super::asked::Asked;
use super::ctx::Ctx;
use super::effect::Effect;
use super::report::{Kind, Place};
use super::{MAX_DEPTH, MAX_RESUBMITS};
use crate::ofproto::Rule;
use crate::ofproto::table::{INTERNAL, Landing, Start};

/// How to go on in a table.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub may_packet_in: bool,
    pub honor_table_miss: bool,
    /// Look up with the addresses of the connection's original direction.
    pub with_ct_orig: bool,
    /// The rule's actions work on a copy of the packet.
    pub copied: bool,
}

impl How {
    pub const GOTO: Self =
        Self { may_packet_in: true, honor_table_miss: true, with_ct_orig: false, copied: false };
    /// Into another bridge.
    pub const PATCH: Self = Self { copied: true, ..Self::GOTO };
}

impl Ctx<'_> {
    pub(super) fn resubmit(&mut self, a: &Resubmit, last: bool) {
        let internal = self.rule.as_ref().is_some_and(|rule| rule.table == INTERNAL);
        let how = How {
            may_packet_in: internal,
            honor_table_miss: internal,
            with_ct_orig: a.with_ct_orig,
            copied: false,
        };
        let in_port = if a.in_port == OfPort::IN_PORT { self.in_port() } else { a.in_port };
        let table = a.table.filter(|table| table.0 != 255).unwrap_or(self.table);
        self.table_action(in_port, table, how, last);
    }

    /// Whether the translation may go on deeper; reports why not.
    pub(super) fn may_recurse(&mut self) -> bool {
        if self.depth >= MAX_DEPTH {
            self.error(format_args!("over max translation depth {MAX_DEPTH}"));
            self.fail(DropReason::RecursionTooDeep);
        } else if self.resubmits >= MAX_RESUBMITS {
            self.error(format_args!("over {MAX_RESUBMITS} resubmit actions"));
            self.fail(DropReason::TooManyResubmits);
        } else if self.odp_len() > 65535 {
            self.error("resubmits yielded over 64 kB of actions");
            self.exit = true;
        } else if self.stack.iter().map(|value| value.len() + 1).sum::<usize>() >= 65536 {
            self.error("resubmits yielded over 64 kB of stack");
            self.fail(DropReason::StackTooDeep);
        } else {
            return true;
        }
        false
    }

    pub(super) fn table_action(&mut self, in_port: OfPort, table: TableId, how: How, last: bool) {
        if self.was_mpls {
            self.trigger_freeze();
            return;
        }
        if !self.may_recurse() {
            return;
        }
        let old_table = std::mem::replace(&mut self.table, table);
        if how.with_ct_orig {
            if self.key.ct_nw_proto == 0 || !self.is_ip() {
                self.error("resubmit(ct) with non-tracked or non-IP packet!");
                self.table = old_table;
                return;
            }
            // What was copied is not where it was for this look-up.
            self.wc.unite();
            swap_tuples(self.key, &mut self.wc);
        }
        let landing = self.lookup(in_port, table, how);
        if how.with_ct_orig {
            swap_tuples(self.key, &mut self.wc);
        }
        if let Some(landing) = landing {
            self.table = landing.table;
            let outer = self.place;
            self.place = self.report_table(&landing, table);
            let deeper = usize::from(table <= old_table);
            self.rule_actions(&landing.rule, deeper, how.copied, last);
            self.place = outer;
        }
        self.table = old_table;
    }

    /// Does a rule's actions within those of another.
    fn rule_actions(&mut self, rule: &Arc<Rule>, deeper: usize, copied: bool, last: bool) {
        let old_rule = self.rule.replace(Arc::clone(rule));
        let old_cookie = std::mem::replace(&mut self.cookie, rule.cookie);
        self.resubmits += 1;
        self.depth += deeper;
        if copied {
            self.clone_actions(&rule.actions, last);
        } else {
            self.actions(&rule.actions, last, false);
        }
        self.depth -= deeper;
        (self.rule, self.cookie) = (old_rule, old_cookie);
    }

    /// The rule that the packet meets from `table` on.
    pub(super) fn lookup(&mut self, in_port: OfPort, table: TableId, how: How) -> Option<Found> {
        if let Some(rule) = self.met_before(table) {
            return Some(Found { rule, table, conjunctive: Vec::new() });
        }
        let bridge = self.bridge;
        let version = self.version();
        let asked = Asked::new(self.input.key, self.key, in_port, how.with_ct_orig);
        let is_plain = self.key.nw_frag & frag::ANY == 0 && self.key.in_port == u32::from(in_port.0);
        let missed = is_plain && self.tree.is_none();
        // Mostly the first table has a rule, and that is all.
        if missed && let Some(rule) = bridge.tables.lookup(version, table, self.key, Some(&mut self.wc)) {
            self.met(&rule, table, asked);
            return Some(Found { rule, table, conjunctive: Vec::new() });
        }
        let (mut in_vain, mut met) = (SmallVec::<[TableId; 4]>::new(), None);
        let mut conjunctive = self.tree.is_some().then(Vec::new);
        let start = Start {
            version,
            table,
            in_port,
            may_packet_in: how.may_packet_in,
            honor_table_miss: how.honor_table_miss,
            missed,
            packet_in_on_miss: &|| bridge.packet_in_on_miss.load(Ordering::Relaxed),
            port_sends_misses: &|port| {
                bridge.ports.get(&port).is_some_and(|port| !port.config.contains(PortConfig::NO_PACKET_IN))
            },
            visited: &mut |table, matched| match matched {
                true => met = Some(table),
                false => in_vain.push(table),
            },
        };
        let landing = bridge.tables.lookup_from(start, self.key, Some(&mut self.wc), conjunctive.as_mut());
        for table in in_vain {
            self.effect(Effect::Missed { tables: Arc::clone(&bridge.tables), table, asked });
        }
        let Landing { rule, table } = landing?;
        match met {
            Some(table) => self.met(&rule, table, asked),
            None => self.effect(Effect::Rule(Arc::clone(&rule))),
        }
        Some(Found { rule, table, conjunctive: conjunctive.unwrap_or_default() })
    }

    /// Tells a trace of the rule that was found from `table` on; gives the place under it.
    pub(super) fn report_table(&mut self, found: &Found, table: TableId) -> Place {
        if self.tree.is_none() {
            return self.place;
        }
        // The rules for misses of a bridge behind a patch port are told as any others.
        let tables = &self.input.bridge.tables;
        let rule = &found.rule;
        let ports = self.port_names();
        let text = if tables.is_miss_rule(rule) {
            "No match, and a \"packet-in\" is called for.".to_owned()
        } else if tables.is_drop_fragments_rule(rule) {
            "Packets are IP fragments and the fragment handling mode is \"drop\".".to_owned()
        } else if tables.is_special(rule) {
            "No match.".to_owned()
        } else {
            let mut text = match_to_string(&rule.matching.expand(), None, &ports);
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&format!("priority {}", rule.priority));
            if rule.cookie != 0 {
                text.push_str(&format!(", cookie {:#x}", rule.cookie));
            }
            text
        };
        let place = self.report(Kind::Table, format_args!("{:2}. {text}", table.0));
        let outer = std::mem::replace(&mut self.place, place);
        for part in &found.conjunctive {
            let text = rule_text(part, &ports);
            self.detail(format_args!("conj. {text}"));
        }
        self.place = outer;
        place
    }

    /// Port names for keys' text, if the trace wants them.
    pub(super) fn port_names(&self) -> super::trace::KeyNames {
        super::trace::KeyNames::new(self.input.names.then_some(self.bridge))
    }
}

/// The rule that a lookup found, and where.
pub(super) struct Found {
    pub rule: Arc<Rule>,
    pub table: TableId,
    /// The flows of conjunctions that led to it.
    pub conjunctive: Vec<Arc<Rule>>,
}

fn rule_text(rule: &Rule, ports: &dyn flow::field::PortNames) -> String {
    let priority = u16::try_from(rule.priority).ok();
    match_to_string(&rule.matching.expand(), priority, ports)
}

/// Exchanges the packet's addresses and ports with those of its connection.
fn swap_tuples(key: &mut Key, mask: &mut Mask) {
    let ipv4 = key.dl_type.get() == ethertype::IPV4;
    for key in [key, &mut mask.0] {
        std::mem::swap(&mut key.nw_proto, &mut key.ct_nw_proto);
        if ipv4 {
            std::mem::swap(&mut key.nw_src, &mut key.ct_nw_src);
            std::mem::swap(&mut key.nw_dst, &mut key.ct_nw_dst);
        } else {
            std::mem::swap(&mut key.ipv6_src, &mut key.ct_ipv6_src);
            std::mem::swap(&mut key.ipv6_dst, &mut key.ct_ipv6_dst);
        }
        std::mem::swap(&mut key.tp_src, &mut key.ct_tp_src);
        std::mem::swap(&mut key.tp_dst, &mut key.ct_tp_dst);
    }
}
