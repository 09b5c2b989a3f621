//! Checks of actions against the match of the flow that they belong to, in a switch of given size.
//!
//! OpenFlow 1.1 and later want the match to guarantee what an action needs (`dec_ttl` needs IP); OpenFlow 1.0 does
//! not. So an inconsistency takes the later formats away from those usable, or is an error where one is needed.
//! The check follows what actions do to the Ethernet type, VLAN tags and packet type, on a copy of the key, and notes
//! in some actions what later encoding needs to know of the match.

use flow::field::{Field, Subfield, dl_type};
use flow::id::{OfPort, TableId};
use flow::key::{VLAN_CFI, frag};
use flow::mini::FullMatch;
use flow::proto::{self, ethertype};
use zerocopy::big_endian::{U16, U32};

use super::{Kind, OfAction, SetField};
use crate::error::OfError;
use crate::protocol::Protocols;

/// What is known of the flow and the switch, and what remains usable.
#[derive(Clone)]
pub struct Check {
    /// What the packets are known to be; changed while the actions are followed.
    pub flow: FullMatch,
    /// Ports are numbered below this.
    pub max_ports: u16,
    /// The table of the flow, if it is in one.
    pub table: Option<TableId>,
    /// How many tables there are; 255 if unknown.
    pub n_tables: u8,
    /// The formats that can express match and actions together.
    pub usable: Protocols,
}

impl Check {
    /// For actions of a flow with this match, whose ports and tables are not limited.
    pub fn new(flow: &FullMatch) -> Self {
        Self { flow: *flow, max_ports: OfPort::MAX.0, table: None, n_tables: 255, usable: Protocols::ANY }
    }

    fn inconsistent(&mut self) {
        self.usable &= Protocols::OF10_ANY;
    }

    fn expect(&mut self, holds: bool) -> Result<(), OfError> {
        if !holds {
            self.inconsistent();
        }
        Ok(())
    }

    fn dl_type(&self) -> u16 {
        dl_type(&self.flow.key)
    }

    fn is_ip(&self) -> bool {
        ethertype::is_ip(self.dl_type())
    }

    fn has_vlan(&self) -> bool {
        self.flow.key.vlans[0].tci.get() & VLAN_CFI != 0
    }

    fn mark_vlan(&mut self) {
        let tci = &mut self.flow.key.vlans[0].tci;
        *tci = U16::new(tci.get() | VLAN_CFI);
    }
}

/// Checks actions and instructions; `cx.usable` becomes the formats that can express them with the match.
///
/// # Errors
/// What no format allows.
pub fn check(actions: &mut [OfAction], cx: &mut Check) -> Result<(), OfError> {
    let before = cx.flow;
    cx.usable = Protocols::ANY;
    let result = actions.iter_mut().try_for_each(|action| check_one(action, cx));
    cx.flow = before;
    result
}

/// Like [`check`], but an inconsistency is an error unless one of `needed` is left.
///
/// # Errors
/// `OFPBAC_MATCH_INCONSISTENT`, or what no format allows.
pub fn check_consistency(actions: &mut [OfAction], needed: Protocols, cx: &mut Check) -> Result<(), OfError> {
    check(actions, cx)?;
    if cx.usable.contains(needed) { Ok(()) } else { Err(OfError::BacMatchInconsistent) }
}

/// Checks an output port of a switch whose ports are numbered below `max_ports`.
pub fn check_output_port(port: OfPort, max_ports: u16) -> Result<(), OfError> {
    match port {
        OfPort::IN_PORT
        | OfPort::TABLE
        | OfPort::NORMAL
        | OfPort::FLOOD
        | OfPort::ALL
        | OfPort::CONTROLLER
        | OfPort::LOCAL => Ok(()),
        port if port != OfPort::NONE && port.0 < max_ports => Ok(()),
        _ => Err(OfError::BacBadOutPort),
    }
}

/// Checks a subfield to read, of a field with `n_bits` bits, against its range and the prerequisites.
pub fn check_source(subfield: &Subfield, n_bits: u16, flow: Option<&FullMatch>) -> Result<(), OfError> {
    check_subfield(subfield, n_bits, flow, "source")
}

/// Like [`check_source`] for a subfield to write.
pub fn check_destination(subfield: &Subfield, n_bits: u16, flow: Option<&FullMatch>) -> Result<(), OfError> {
    check_subfield(subfield, n_bits, flow, "destination")?;
    if subfield.field.info().writable {
        return Ok(());
    }
    let name = subfield.field.name();
    tracing::warn!(target: "meta_flow", rl = "1,5", "destination field {name} is not writable");
    Err(OfError::BacBadSetArgument)
}

fn check_subfield(
    subfield: &Subfield,
    total: u16,
    flow: Option<&FullMatch>,
    kind: &str,
) -> Result<(), OfError> {
    let Subfield { field, ofs, n_bits } = *subfield;
    let name = field.name();
    if n_bits == 0 {
        tracing::warn!(target: "meta_flow", rl = "1,5", "zero bit {kind} field {name}");
    } else if ofs >= total {
        tracing::warn!(
            target: "meta_flow", rl = "1,5",
            "bit offset {ofs} exceeds {total}-bit width of {kind} field {name}"
        );
    } else if u32::from(ofs) + u32::from(n_bits) > u32::from(total) {
        tracing::warn!(
            target: "meta_flow", rl = "1,5",
            "bit offset {ofs} and width {n_bits} exceeds {total}-bit width of {kind} field {name}"
        );
    } else if flow.is_some_and(|flow| !field.match_prereqs_ok(flow)) {
        tracing::warn!(target: "meta_flow", rl = "1,5", "{kind} field {name} lacks correct prerequisites");
        return Err(OfError::BacMatchInconsistent);
    } else {
        return Ok(());
    }
    Err(OfError::BacBadSetLen)
}

fn source(subfield: &Subfield, cx: &Check) -> Result<(), OfError> {
    check_source(subfield, subfield.field.n_bits(), Some(&cx.flow))
}

fn destination(subfield: &Subfield, cx: &Check) -> Result<(), OfError> {
    check_destination(subfield, subfield.field.n_bits(), Some(&cx.flow))
}

#[expect(clippy::too_many_lines, reason = "one line a kind, for most kinds")]
fn check_one(action: &mut OfAction, cx: &mut Check) -> Result<(), OfError> {
    match action {
        OfAction::Output(output) => check_output_port(output.port, cx.max_ports),
        OfAction::OutputTrunc(output) => check_output_port(output.port, cx.max_ports),
        OfAction::Enqueue(a) => match a.port {
            OfPort::IN_PORT | OfPort::LOCAL => Ok(()),
            port if port.0 < cx.max_ports => Ok(()),
            _ => Err(OfError::BacBadOutPort),
        },
        OfAction::OutputReg(output) => source(&output.src, cx),
        OfAction::Bundle(bundle) => bundle.check(cx.max_ports, Some(&cx.flow)),
        OfAction::SetField(set) => check_set_field(set, cx),
        OfAction::SetVlanVid(set) => {
            set.flow_has_vlan = cx.has_vlan();
            let consistent = set.flow_has_vlan || set.push_if_needed;
            cx.mark_vlan();
            cx.expect(consistent)
        }
        OfAction::SetVlanPcp(set) => {
            set.flow_has_vlan = cx.has_vlan();
            let consistent = set.flow_has_vlan || set.push_if_needed;
            cx.mark_vlan();
            cx.expect(consistent)
        }
        OfAction::StripVlan(_) => {
            let consistent = cx.has_vlan();
            let vlans = &mut cx.flow.key.vlans;
            vlans.rotate_left(1);
            vlans[flow::key::MAX_VLANS - 1] = Default::default();
            cx.expect(consistent)
        }
        OfAction::PushVlan(_) => check_push_vlan(cx),
        OfAction::SetIpv4Src(_) | OfAction::SetIpv4Dst(_) => cx.expect(cx.dl_type() == ethertype::IPV4),
        OfAction::SetIpDscp(_) | OfAction::SetIpEcn(_) | OfAction::SetIpTtl(_) | OfAction::DecTtl(_) => {
            cx.expect(cx.is_ip())
        }
        OfAction::SetL4SrcPort(set) | OfAction::SetL4DstPort(set) => {
            let key = &cx.flow.key;
            set.flow_ip_proto = key.nw_proto;
            let ported = matches!(key.nw_proto, proto::ip::TCP | proto::ip::UDP | proto::ip::SCTP);
            cx.expect(cx.is_ip() && key.nw_frag & frag::LATER == 0 && ported)
        }
        OfAction::RegMove(copy) => source(&copy.src, cx).and_then(|()| destination(&copy.dst, cx)),
        OfAction::StackPush(subfield) => source(subfield, cx),
        OfAction::StackPop(subfield) => destination(subfield, cx),
        OfAction::SetMplsLabel(_)
        | OfAction::SetMplsTc(_)
        | OfAction::SetMplsTtl(_)
        | OfAction::DecMplsTtl => cx.expect(ethertype::is_mpls(cx.dl_type())),
        OfAction::PushMpls(ethertype) => {
            let consistent = cx.flow.key.packet_type.get() == proto::PT_ETH;
            cx.flow.key.dl_type = U16::new(*ethertype);
            // The payload is opaque from here on.
            cx.flow.key.nw_proto = 0;
            cx.expect(consistent)
        }
        OfAction::PopMpls(ethertype) => {
            let is_mpls = ethertype::is_mpls(cx.dl_type());
            let consistent = cx.flow.key.packet_type.get() == proto::PT_ETH && is_mpls;
            cx.flow.key.dl_type = U16::new(*ethertype);
            cx.expect(consistent)
        }
        OfAction::DecNshTtl => {
            let key = &cx.flow.key;
            let nsh = proto::pt_of_ethertype(ethertype::NSH);
            cx.expect(key.packet_type.get() == nsh || key.dl_type.get() == ethertype::NSH)
        }
        OfAction::DeleteField(field) if !field.is_tun_metadata() => Err(OfError::BacBadArgument),
        OfAction::Encap(encap) => check_encap(encap.packet_type, cx),
        OfAction::Decap(_) => check_decap(cx),
        OfAction::FinTimeout(_) => cx.expect(cx.flow.key.nw_proto == proto::ip::TCP),
        OfAction::Resubmit(resubmit) if resubmit.with_ct_orig => {
            let mut mask = cx.flow.mask;
            let tracked = Field::CtNwProto.prereqs_ok_masking(&cx.flow.key, &mut mask);
            if tracked { Ok(()) } else { Err(OfError::BacMatchInconsistent) }
        }
        OfAction::Learn(learn) => learn.check(Some(&cx.flow)),
        OfAction::Multipath(multipath) => destination(&multipath.dst, cx),
        OfAction::UnrollXlate(_) => Err(OfError::BacBadType),
        OfAction::Ct(ct) => ct.check(cx),
        OfAction::Nat(nat) => {
            let dl_type = cx.dl_type();
            if nat.fits(dl_type) { Ok(()) } else { Err(OfError::BacMatchInconsistent) }
        }
        OfAction::Clone(actions) => check_nested(actions, cx),
        OfAction::Meter(0 | 0xffff_0001..) => Err(OfError::MmfcInvalidMeter),
        OfAction::WriteActions(actions) => check(actions, &mut cx.clone()),
        OfAction::GotoTable(table) => {
            let backward = cx.table.is_some_and(|own| *table <= own);
            let missing = cx.n_tables != 255 && table.0 >= cx.n_tables;
            if backward || missing { Err(OfError::BicBadTableId) } else { Ok(()) }
        }
        OfAction::Group(_)
        | OfAction::Controller(_)
        | OfAction::SetEthSrc(_)
        | OfAction::SetEthDst(_)
        | OfAction::DeleteField(_)
        | OfAction::SetTunnel(_)
        | OfAction::SetQueue(_)
        | OfAction::PopQueue
        | OfAction::Resubmit(_)
        | OfAction::Conjunction(_)
        | OfAction::Note(_)
        | OfAction::Exit
        | OfAction::Sample(_)
        | OfAction::CtClear
        | OfAction::CheckPktLarger(_)
        | OfAction::DebugRecirc
        | OfAction::DebugSlow
        | OfAction::Meter(_)
        | OfAction::ClearActions
        | OfAction::WriteMetadata(_) => Ok(()),
    }
}

/// Checks actions inside another one, which see the flow as it is there.
pub(super) fn check_nested(actions: &mut [OfAction], cx: &mut Check) -> Result<(), OfError> {
    let mut inner = cx.clone();
    let result = check(actions, &mut inner);
    cx.usable &= inner.usable;
    result
}

fn check_set_field(set: &mut SetField, cx: &mut Check) -> Result<(), OfError> {
    let has_vlan = cx.has_vlan();
    if !set.field.prereqs_ok(&cx.flow.key) || set.field == Field::VlanVid && !has_vlan {
        let name = set.field.name();
        tracing::warn!(target: "ofp_actions", rl = "1,5", "set_field {name} lacks correct prerequisites");
        return Err(OfError::BacMatchInconsistent);
    }
    set.flow_has_vlan = has_vlan;
    if set.field == Field::VlanTci {
        cx.flow.key.vlans[0].tci = U16::new(set.value.u64() as u16);
    }
    Ok(())
}

fn check_push_vlan(cx: &mut Check) -> Result<(), OfError> {
    let vlans = &mut cx.flow.key.vlans;
    if vlans[flow::key::MAX_VLANS - 1].tci.get() & VLAN_CFI != 0 {
        return Err(OfError::BacBadTag);
    }
    vlans.rotate_right(1);
    vlans[0] = Default::default();
    cx.mark_vlan();
    Ok(())
}

fn check_encap(packet_type: u32, cx: &mut Check) -> Result<(), OfError> {
    cx.flow.key.packet_type = U32::new(packet_type);
    if packet_type >> 16 == proto::PT_NS_ETHERTYPE {
        cx.flow.key.dl_type = U16::new(packet_type as u16);
    }
    if !cx.is_ip() {
        cx.flow.key.nw_proto = 0;
    }
    Ok(())
}

fn check_decap(cx: &mut Check) -> Result<(), OfError> {
    let key = &mut cx.flow.key;
    if key.packet_type.get() == proto::PT_ETH {
        key.packet_type = U32::new(proto::pt_of_ethertype(key.dl_type.get()));
    } else {
        // What comes out is known only when a packet does: allow nothing that depends on headers.
        key.packet_type = U32::new(super::encap::PT_UNKNOWN);
        key.dl_type = U16::new(0xffff);
    }
    Ok(())
}

/// Whether a kind is an action of a flow's apply-actions in every version.
pub fn is_apply(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Meter | Kind::ClearActions | Kind::WriteActions | Kind::WriteMetadata | Kind::GotoTable
    )
}
