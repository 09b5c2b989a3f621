//! `learn`: flows that packets make. And `fin_timeout`, which lets them end with their connection.

use std::fmt::Write;
use std::sync::Arc;

use flow::describe::match_to_string;
use flow::field::{NoNames, Place};
use flow::id::OfPort;
use flow::mini::{FullMatch, Match};
use openflow::action::learn::{Destination, Source, require};
use openflow::action::{FinTimeout, Learn, OfAction, Output, SetField};
use openflow::msg::flow_mod::{FlowCommand, FlowFlags, FlowMod};

use super::actions::plain_text;
use super::ctx::Ctx;
use super::effect::Effect;

impl Ctx<'_> {
    pub(super) fn learn(&mut self, a: &Learn) {
        for spec in &a.specs {
            if let Source::Field(sub) = &spec.src {
                sub.mask_bits(&mut self.wc);
            }
        }
        if !self.input.side_effects && !self.input.caching {
            return self.warn("suppressing side effects, so learn action ignored");
        }
        let request = self.learned_flow(a);
        if self.tree.is_some() {
            let text = request_text(&request);
            self.detail(text);
        }
        self.counts_rules |= a.limit != 0;
        let there = a.limit != 0 && self.bridge.tables.has_flow(&request);
        if a.limit != 0 && !there && !self.input.side_effects {
            // Whether there is room is known only when a packet asks again.
            self.avoid_caching = true;
        }
        let success = !self.input.side_effects || a.limit == 0 || there || self.room_for(a);
        if let Some(dst) = &a.result_dst {
            self.load(dst, success.into());
            self.report_subfield(dst);
        }
        if !success {
            self.detail("Limit exceeded, learn failed");
            return;
        }
        let bridge = self.bridge.id;
        self.effect(Effect::Learn { bridge, request: Arc::new(request), limit: a.limit });
    }

    /// Whether the table has fewer flows of the cookie than the limit.
    fn room_for(&self, a: &Learn) -> bool {
        self.bridge.tables.count_cookie(a.table, a.cookie, self.version()) < a.limit as usize
    }

    /// The flow that the action asks for, for this packet.
    fn learned_flow(&self, a: &Learn) -> FlowMod {
        let mut matching = FullMatch::default();
        let mut actions = Vec::new();
        // Options of tunnels that the actions use.
        let mut options = 0;
        if (a.fin_idle_timeout, a.fin_hard_timeout) != (0, 0) {
            actions.push(OfAction::FinTimeout(FinTimeout {
                idle: a.fin_idle_timeout,
                hard: a.fin_hard_timeout,
            }));
        }
        for spec in &a.specs {
            let bits = spec.src.bits(self.key);
            match &spec.dst {
                Destination::Match(sub) => {
                    require(&mut matching, sub, &bits);
                    if sub.field.info().prereq != flow::field::Prereq::Always
                        && matching.mask.0.packet_type.get() == 0
                    {
                        matching.mask.0.packet_type = u32::MAX.into();
                    }
                }
                Destination::Load(sub) => {
                    if let Place::TunMetadata(index) = sub.field.info().place {
                        options |= 1 << index;
                    }
                    actions.push(OfAction::SetField(Box::new(SetField::load(sub, &bits))))
                }
                Destination::Output => {
                    let port = OfPort(bits.u64() as u16);
                    let usable = port < OfPort::MAX
                        || matches!(port, OfPort::IN_PORT | OfPort::FLOOD | OfPort::LOCAL | OfPort::ALL);
                    if bits.u64() <= u16::MAX.into() && usable {
                        actions.push(OfAction::Output(Output { port, max_len: 0 }));
                    }
                }
            }
        }
        FlowMod {
            tlvs_used: options,
            command: FlowCommand::ModifyStrict,
            table_id: a.table,
            priority: a.priority,
            matching: Match::new(&matching),
            new_cookie: a.cookie,
            modify_cookie: a.cookie != u64::MAX,
            idle_timeout: a.idle_timeout,
            hard_timeout: a.hard_timeout,
            flags: if a.send_flow_rem { FlowFlags::SEND_FLOW_REM } else { FlowFlags::empty() },
            actions: actions.into(),
            ..FlowMod::default()
        }
    }

    pub(super) fn fin_timeout(&mut self, a: &FinTimeout) {
        self.wc.0.nw_proto = 0xff;
        if let Some(rule) = self.rule.clone() {
            let bridge = self.bridge.id;
            self.effect(Effect::FinTimeout { bridge, rule, idle: a.idle, hard: a.hard });
        }
    }
}

/// A learned flow as a trace tells of it.
fn request_text(request: &FlowMod) -> String {
    let mut text = format!("table={} ", request.table_id);
    text.push_str(&match_to_string(&request.matching.expand(), None, &NoNames));
    let mut text = text.trim_end_matches(' ').to_owned();
    let _ = write!(text, " priority={}", request.priority);
    if request.new_cookie != 0 {
        let _ = write!(text, " cookie={:#x}", request.new_cookie);
    }
    if request.idle_timeout != 0 {
        let _ = write!(text, " idle={}", request.idle_timeout);
    }
    if request.hard_timeout != 0 {
        let _ = write!(text, " hard={}", request.hard_timeout);
    }
    if request.flags.contains(FlowFlags::SEND_FLOW_REM) {
        text.push_str(" send_flow_rem");
    }
    let _ = write!(text, " actions={}", plain_text(&request.actions));
    text
}
