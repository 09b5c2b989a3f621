//! One OpenFlow action after the other.

use flow::cookie::SlowReasons;
use flow::field::Field;
use flow::key::{VLAN_CFI, frag};
use flow::proto::ethertype;
use flow::stack;
use openflow::action::{OfAction, Resubmit};
use openflow::names::Names;

use super::ctx::Ctx;
use super::report::Kind;
use super::set::set_field_of_metadata;
use flow::id::OfPort;

/// How a list of actions goes on after one of them.
enum Then {
    Next,
    /// As [`Then::Next`], but what froze the translation has kept what is to be done again.
    NextAfterTable,
    /// The translation froze; the next action is the first to do after thawing.
    FreezeAfter,
    /// The rest of the list is not done.
    Return,
    /// The rest has been done.
    Done,
}

impl Ctx<'_> {
    /// Does a list of actions. `last`: nothing comes after it; `bucket`: it is a group bucket's.
    pub(super) fn actions(&mut self, actions: &[OfAction], last: bool, bucket: bool) {
        if actions.is_empty() {
            self.report(Kind::Action, "drop");
            return;
        }
        let mut done = false;
        for (i, action) in actions.iter().enumerate() {
            if self.error.is_some() {
                return;
            }
            self.recirculate_for_mpls(action);
            if self.exit || done {
                if self.freezing {
                    self.unroll(&actions[i..]);
                }
                return;
            }
            self.reset_mirrors(action);
            if self.tree.is_some() {
                let text = openflow::action::text(std::slice::from_ref(action), &self.names()).to_string();
                self.report(Kind::Action, text);
            }
            let last = last && i + 1 == actions.len() && self.action_set.is_empty();
            let resume = match self.action(action, &actions[i + 1..], last, bucket) {
                Then::Next => i,
                Then::NextAfterTable => continue,
                Then::FreezeAfter => i + 1,
                Then::Return => return,
                Then::Done => {
                    done = true;
                    continue;
                }
            };
            if self.error.is_none() && self.exit && self.freezing && self.frozen_actions.is_empty() {
                self.unroll(&actions[resume..]);
                return;
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm an action")]
    fn action(&mut self, action: &OfAction, rest: &[OfAction], last: bool, bucket: bool) -> Then {
        match action {
            OfAction::Output(a) => self.output(a.port, a.max_len, true, last, false, bucket),
            OfAction::Group(id) => {
                if !self.group(*id, last) {
                    return Then::Return;
                }
            }
            OfAction::Controller(a) if a.pause => {
                self.pause = Some((**a).clone());
                self.trigger_freeze();
                return Then::FreezeAfter;
            }
            OfAction::Controller(a) => self.controller(a.max_len, a.reason, a.id, a.meter, &a.userdata),
            OfAction::Enqueue(a) => self.enqueue(a, last, bucket),
            OfAction::OutputReg(a) => self.output_reg(a, last, bucket),
            OfAction::OutputTrunc(a) => self.output_trunc(a, last, bucket),
            OfAction::Bundle(a) => self.bundle(a, last, bucket),
            OfAction::SetField(a) => self.set_field(a),
            OfAction::SetVlanVid(a) => self.set_vlan(a.vid, 0xfff, a.push_if_needed),
            OfAction::SetVlanPcp(a) => self.set_vlan(u16::from(a.pcp) << 13, 0xe000, a.push_if_needed),
            OfAction::StripVlan(_) => stack::pop_vlan(self.key, Some(&mut self.wc)),
            OfAction::PushVlan(tpid) => {
                stack::push_vlan(self.key, Some(&mut self.wc));
                let vlan = &mut self.key.vlans[0];
                (vlan.tpid, vlan.tci) = ((*tpid).into(), VLAN_CFI.into());
            }
            OfAction::SetEthSrc(mac) => {
                self.mask(Field::EthSrc);
                self.key.dl_src = *mac;
            }
            OfAction::SetEthDst(mac) => {
                self.mask(Field::EthDst);
                self.key.dl_dst = *mac;
            }
            OfAction::SetIpv4Src(ip) => self.set_ipv4(Field::Ipv4Src, (*ip).into()),
            OfAction::SetIpv4Dst(ip) => self.set_ipv4(Field::Ipv4Dst, (*ip).into()),
            OfAction::SetIpDscp(tos) => self.set_ip(Field::IpDscp, *tos),
            OfAction::SetIpEcn(ecn) => self.set_ip(Field::IpEcn, *ecn),
            OfAction::SetIpTtl(ttl) => self.set_ip(Field::IpTtl, *ttl),
            OfAction::SetL4SrcPort(a) => self.set_port(Field::TcpSrc, a.port),
            OfAction::SetL4DstPort(a) => self.set_port(Field::TcpDst, a.port),
            OfAction::RegMove(a) => self.reg_move(a),
            OfAction::StackPush(sub) => self.stack_push(sub),
            OfAction::StackPop(sub) => self.stack_pop(sub),
            OfAction::DecTtl(a) => {
                if self.dec_ttl(a) {
                    return Then::Return;
                }
            }
            OfAction::SetMplsLabel(label) => self.set_mpls(label << 12, 0xffff_f000),
            OfAction::SetMplsTc(tc) => self.set_mpls(u32::from(*tc) << 9, 0xe00),
            OfAction::SetMplsTtl(ttl) => self.set_mpls((*ttl).into(), 0xff),
            OfAction::DecMplsTtl => {
                if self.dec_mpls_ttl() {
                    return Then::Return;
                }
            }
            OfAction::PushMpls(dl_type) => self.push_mpls(*dl_type),
            OfAction::PopMpls(dl_type) => self.pop_mpls(*dl_type),
            OfAction::DecNshTtl => {
                if self.dec_nsh_ttl() {
                    return Then::Return;
                }
            }
            OfAction::DeleteField(field) => {
                if let flow::field::Place::TunMetadata(index) = field.info().place {
                    self.key.tunnel.opt_present &= !(1 << index);
                }
                self.detail(format_args!("delete {field}"));
            }
            OfAction::Encap(a) => self.encap(a),
            OfAction::Decap(a) => {
                if self.decap(a) && self.error.is_none() {
                    self.trigger_freeze();
                    return Then::FreezeAfter;
                }
            }
            OfAction::SetTunnel(a) => self.key.tunnel.id = a.id.into(),
            OfAction::SetQueue(queue) => self.set_queue(*queue),
            OfAction::PopQueue => self.pop_queue(),
            OfAction::FinTimeout(a) => self.fin_timeout(a),
            OfAction::Resubmit(a) => {
                self.resubmit(a, last);
                return Then::NextAfterTable;
            }
            OfAction::GotoTable(table) => {
                let in_port = self.in_port();
                self.table_action(in_port, *table, super::table::How::GOTO, last);
                return Then::NextAfterTable;
            }
            OfAction::Learn(a) => self.learn(a),
            OfAction::Conjunction(_) => self.error("executing no-op conjunction action"),
            OfAction::Multipath(a) => self.multipath(a),
            OfAction::Note(_) => {}
            OfAction::Exit => self.exit = true,
            OfAction::Sample(a) => self.sample(a),
            OfAction::UnrollXlate(a) => {
                (self.table, self.cookie) = (a.table, a.cookie);
                let cookie = super::trace::alt_hex(a.cookie.swap_bytes());
                self.report(Kind::Thaw, format_args!("restored state: table={}, cookie={cookie}", a.table));
            }
            OfAction::Ct(a) => self.conntrack(a, last),
            OfAction::CtClear if self.conntracked => self.ct_clear(),
            OfAction::CtClear => {}
            OfAction::Nat(a) => self.nat = Some(**a),
            OfAction::Clone(inside) => self.clone_actions(inside, last),
            OfAction::CheckPktLarger(a) => {
                if self.check_pkt_larger(a, rest) {
                    return Then::Done;
                }
            }
            OfAction::DebugRecirc => {
                self.trigger_freeze();
                return Then::FreezeAfter;
            }
            OfAction::DebugSlow => self.slow |= SlowReasons::ACTION,
            OfAction::Meter(id) => self.meter(*id),
            OfAction::ClearActions => {
                self.report_action_set("was");
                self.action_set.clear();
                self.key.actset_output = OfPort::UNSET.0.into();
                self.action_set_has_group = false;
            }
            OfAction::WriteActions(inside) => {
                self.write_actions(inside);
                self.report_action_set("is");
            }
            OfAction::WriteMetadata(a) => {
                let metadata = self.key.metadata.get();
                self.key.metadata = ((metadata & !a.mask) | (a.metadata & a.mask)).into();
            }
        }
        Then::Next
    }

    fn meter(&mut self, id: u32) {
        if let Some(meter) = self.bridge.tables.meter(id) {
            self.odp.push(flow::action::Action::Meter(meter));
        }
    }

    /// Adds to the action set, and keeps `actset_output` what it says.
    pub(super) fn write_actions(&mut self, actions: &[OfAction]) {
        if !self.action_set_has_group {
            for action in actions {
                match action {
                    OfAction::Output(output) => self.key.actset_output = output.port.0.into(),
                    OfAction::Group(_) => {
                        self.key.actset_output = OfPort::UNSET.0.into();
                        self.action_set_has_group = true;
                        break;
                    }
                    _ => {}
                }
            }
        }
        self.action_set.extend_from_slice(actions);
    }

    /// Does what the action set holds, and empties it.
    pub(super) fn execute_action_set(&mut self) {
        let list = openflow::action::set::execution_order(&self.action_set);
        self.action_set.clear();
        if list.is_empty() {
            return;
        }
        self.in_action_set = true;
        let outer = self.place;
        self.place = self.report(Kind::Table, "--. Executing action set:");
        self.actions(&list, true, false);
        self.place = outer;
        self.in_action_set = false;
    }

    /// A packet whose last label was popped must be parsed anew before an action can look at what is under it.
    fn recirculate_for_mpls(&mut self, action: &OfAction) {
        if self.exit || !self.was_mpls {
            return;
        }
        let harmless = match action {
            OfAction::Output(_)
            | OfAction::OutputTrunc(_)
            | OfAction::Enqueue(_)
            | OfAction::OutputReg(_)
            | OfAction::SetVlanVid(_)
            | OfAction::SetVlanPcp(_)
            | OfAction::SetEthSrc(_)
            | OfAction::SetEthDst(_)
            | OfAction::SetTunnel(_)
            | OfAction::SetQueue(_)
            | OfAction::Group(_) => true,
            OfAction::SetField(a) => a.field < Field::Ipv4Src,
            _ => false,
        };
        if !harmless {
            self.trigger_freeze();
        }
    }

    /// A changed packet is mirrored again.
    fn reset_mirrors(&mut self, action: &OfAction) {
        if self.mirrors == 0 {
            return;
        }
        let key = &*self.key;
        let changes = match action {
            OfAction::StripVlan(_)
            | OfAction::PushVlan(_)
            | OfAction::SetEthSrc(_)
            | OfAction::SetEthDst(_)
            | OfAction::PushMpls(_)
            | OfAction::PopMpls(_)
            | OfAction::SetMplsLabel(_)
            | OfAction::SetMplsTc(_)
            | OfAction::SetMplsTtl(_)
            | OfAction::DecMplsTtl
            | OfAction::DecNshTtl
            | OfAction::DecTtl(_)
            | OfAction::SetVlanVid(_)
            | OfAction::SetVlanPcp(_)
            | OfAction::Encap(_)
            | OfAction::Decap(_)
            | OfAction::Nat(_) => true,
            OfAction::SetField(a) => a.field >= Field::EthSrc && a.field.prereqs_ok(key),
            OfAction::SetIpv4Src(_) | OfAction::SetIpv4Dst(_) => key.dl_type.get() == ethertype::IPV4,
            OfAction::SetIpDscp(_) | OfAction::SetIpEcn(_) | OfAction::SetIpTtl(_) => self.is_ip(),
            OfAction::SetL4SrcPort(_) | OfAction::SetL4DstPort(_) => {
                self.is_ip() && key.nw_frag & frag::LATER == 0
            }
            _ => false,
        };
        if changes {
            self.mirrors = 0;
        }
    }

    /// Keeps actions for after thawing.
    fn unroll(&mut self, actions: &[OfAction]) {
        for action in actions {
            let kept = match action {
                OfAction::OutputReg(_)
                | OfAction::OutputTrunc(_)
                | OfAction::Group(_)
                | OfAction::Output(_)
                | OfAction::Controller(_)
                | OfAction::DecMplsTtl
                | OfAction::DecNshTtl
                | OfAction::DecTtl(_) => {
                    self.put_unroll();
                    action.clone()
                }
                OfAction::Resubmit(a) => {
                    if a.table.is_none() {
                        self.put_unroll();
                    }
                    action.clone()
                }
                // Instructions have no place among frozen actions: these actions do the same.
                OfAction::GotoTable(table) => OfAction::Resubmit(Resubmit {
                    in_port: OfPort::IN_PORT,
                    table: Some(*table),
                    with_ct_orig: false,
                    form1: false,
                }),
                OfAction::WriteMetadata(a) => set_field_of_metadata(a),
                OfAction::Note(_) | OfAction::Conjunction(_) => continue,
                _ => action.clone(),
            };
            self.frozen_actions.push(kept);
        }
    }

    /// Remembers table and cookie for what may become a packet-in after thawing.
    fn put_unroll(&mut self) {
        if self.unrolled != Some((self.table, self.cookie)) {
            self.unrolled = Some((self.table, self.cookie));
            let unroll = openflow::action::UnrollXlate { table: self.table, cookie: self.cookie };
            self.frozen_actions.push(OfAction::UnrollXlate(unroll));
        }
    }
}

/// The text of actions without port names.
pub(super) fn plain_text(actions: &[OfAction]) -> String {
    openflow::action::text(actions, &Names::default()).to_string()
}
