//! OpenFlow actions and instructions, independent of version: one enum, and for each family of actions a file with
//! its payload, its wire forms both ways, its text both ways and its consistency check.
//!
//! A list of actions and instructions is a `Vec<OfAction>`: apply-actions are in it directly, the other instructions
//! (`meter`, `clear_actions`, `write_actions`, `write_metadata`, `goto_table`) are variants, in the order in which
//! OpenFlow executes them. Where text or wire know two spellings of one action (`set_field` and `load`, `pop_vlan` and
//! `strip_vlan`), the payload remembers which it was, so that it goes out as it came in.
//!
//! Three layers of checking: decoding and parsing check each action by itself, [`verify::verify`] checks nesting and
//! the order of instructions, [`check::check`] checks actions against the match of their flow.
//!
//! Spec: OpenFlow 1.5 sections 5.5 to 5.8 and 7.2.5 and 7.2.6, ovs-actions(7). What the actions do is not here.

pub mod raw;
pub mod verify;
pub mod check;
pub mod set;

pub mod output;
pub mod controller;
pub mod bundle;
pub mod set_field;
pub mod vlan;
pub mod header;
pub mod reg_move;
pub mod stack;
pub mod ttl;
pub mod mpls;
pub mod delete_field;
pub mod encap;
pub mod tunnel;
pub mod fin_timeout;
pub mod resubmit;
pub mod learn;
pub mod conjunction;
pub mod multipath;
pub mod note;
pub mod sample;
pub mod ct;
pub mod nat;
pub mod clone;
pub mod check_pkt_larger;
pub mod write;

mod codec;
mod hash_fields;

use std::fmt;
use std::net::Ipv4Addr;

use flow::field::{Field, Subfield};
use flow::id::{GroupId, OfPort, TableId};
use flow::key::EthAddr;

use crate::error::OfError;
use crate::names::Names;
use crate::oxm::TlvLengths;
use crate::protocol::Protocols;
use crate::text::{Pairs, Parsed, refuse};
use crate::version::Version;

pub use bundle::Bundle;
pub use check_pkt_larger::CheckPktLarger;
pub use conjunction::Conjunction;
pub use controller::Controller;
pub use ct::Ct;
pub use encap::{Decap, Encap};
pub use fin_timeout::FinTimeout;
pub use hash_fields::HashFields;
pub use header::SetL4Port;
pub use learn::Learn;
pub use multipath::Multipath;
pub use nat::Nat;
pub use output::{Enqueue, Output, OutputReg, OutputTrunc};
pub use reg_move::RegMove;
pub use resubmit::Resubmit;
pub use sample::Sample;
pub use set_field::SetField;
pub use ttl::DecTtl;
pub use tunnel::SetTunnel;
pub use vlan::{SetVlanPcp, SetVlanVid, StripVlan};
pub use write::{UnrollXlate, WriteMetadata};

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident $(($payload:ty))? $name:literal;)+) => {
        /// An action or instruction.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum OfAction {
            $($(#[$doc])* $variant $(($payload))?,)+
        }

        /// What kind of action an [`OfAction`] is, in OVS's order.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Kind {
            $($variant,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The kind's name in text and messages.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl OfAction {
            /// The kind of the action.
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant { .. } => Kind::$variant,)+
                }
            }
        }
    };
}

actions! {
    Output(Output) "output";
    Group(GroupId) "group";
    Controller(Box<Controller>) "controller";
    Enqueue(Enqueue) "enqueue";
    OutputReg(OutputReg) "output_reg";
    Bundle(Box<Bundle>) "bundle";

    SetField(Box<SetField>) "set_field";
    SetVlanVid(SetVlanVid) "set_vlan_vid";
    SetVlanPcp(SetVlanPcp) "set_vlan_pcp";
    StripVlan(StripVlan) "strip_vlan";
    /// The EtherType of the new tag.
    PushVlan(u16) "push_vlan";
    SetEthSrc(EthAddr) "mod_dl_src";
    SetEthDst(EthAddr) "mod_dl_dst";
    SetIpv4Src(Ipv4Addr) "mod_nw_src";
    SetIpv4Dst(Ipv4Addr) "mod_nw_dst";
    /// The DSCP in the high 6 bits.
    SetIpDscp(u8) "mod_nw_tos";
    /// The ECN in the low 2 bits.
    SetIpEcn(u8) "mod_nw_ecn";
    SetIpTtl(u8) "mod_nw_ttl";
    SetL4SrcPort(SetL4Port) "mod_tp_src";
    SetL4DstPort(SetL4Port) "mod_tp_dst";
    RegMove(RegMove) "move";
    StackPush(Subfield) "push";
    StackPop(Subfield) "pop";
    DecTtl(DecTtl) "dec_ttl";
    SetMplsLabel(u32) "set_mpls_label";
    SetMplsTc(u8) "set_mpls_tc";
    SetMplsTtl(u8) "set_mpls_ttl";
    DecMplsTtl "dec_mpls_ttl";
    /// The EtherType afterwards.
    PushMpls(u16) "push_mpls";
    /// The EtherType afterwards.
    PopMpls(u16) "pop_mpls";
    DecNshTtl "dec_nsh_ttl";
    DeleteField(Field) "delete_field";

    Encap(Box<Encap>) "encap";
    Decap(Decap) "decap";

    SetTunnel(SetTunnel) "set_tunnel";
    SetQueue(u32) "set_queue";
    PopQueue "pop_queue";
    FinTimeout(FinTimeout) "fin_timeout";

    Resubmit(Resubmit) "resubmit";
    Learn(Box<Learn>) "learn";
    Conjunction(Conjunction) "conjunction";

    Multipath(Box<Multipath>) "multipath";

    Note(Vec<u8>) "note";
    Exit "exit";
    Sample(Box<Sample>) "sample";
    /// Made by the translation only; no wire form.
    UnrollXlate(UnrollXlate) "unroll_xlate";
    Ct(Box<Ct>) "ct";
    CtClear "ct_clear";
    Nat(Box<Nat>) "nat";
    OutputTrunc(OutputTrunc) "output_trunc";
    Clone(Vec<OfAction>) "clone";
    CheckPktLarger(CheckPktLarger) "check_pkt_larger";

    /// For OVS's own tests; accepted on the wire only where dummy datapaths are enabled.
    DebugRecirc "debug_recirc";
    /// For OVS's own tests; accepted on the wire only where dummy datapaths are enabled.
    DebugSlow "debug_slow";

    /// An instruction in OpenFlow 1.3 and 1.4, an action in 1.5. The meter's OpenFlow number.
    Meter(u32) "meter";
    ClearActions "clear_actions";
    WriteActions(Vec<OfAction>) "write_actions";
    WriteMetadata(WriteMetadata) "write_metadata";
    GotoTable(TableId) "goto_table";
}

impl Kind {
    /// The kind of that name, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// What decoding needs to know, and what it learns.
#[derive(Clone, Debug)]
pub struct Decode<'a> {
    pub version: Version,
    /// Lengths of mapped tunnel options; without them every option may be used at full length.
    pub lengths: Option<&'a TlvLengths>,
    /// Whether debugging actions are accepted.
    pub debug: bool,
    /// Bit N: an action decoded with `lengths` uses `tun_metadata` N.
    pub tlvs_used: u64,
}

impl<'a> Decode<'a> {
    /// For messages of `version`, with tunnel options at full length.
    pub fn new(version: Version) -> Self {
        Self { version, lengths: None, debug: false, tlvs_used: 0 }
    }

    /// For messages of `version` that are only to be read by people: debugging actions are accepted, too.
    pub fn for_text(version: Version) -> Self {
        Self { debug: true, ..Self::new(version) }
    }

    /// For messages of `version` to a bridge that maps tunnel options.
    pub fn with_lengths(version: Version, lengths: &'a TlvLengths) -> Self {
        Self { lengths: Some(lengths), ..Self::new(version) }
    }

    /// Notes that a field is used.
    pub(crate) fn uses(&mut self, field: Field) -> Field {
        if let (Some(index), Some(_)) = (crate::oxm::tlv_index(field), self.lengths) {
            self.tlvs_used |= 1 << index;
        }
        field
    }
}

/// What parsing of text needs to know, and what it learns.
#[derive(Clone, Debug)]
pub struct Parse<'a> {
    pub names: &'a Names,
    /// The flow formats that can express what was parsed.
    pub usable: Protocols,
    depth: u32,
}

/// How deeply actions may nest in text.
const MAX_PARSE_DEPTH: u32 = 100;
/// The most bytes that a list of actions may have on the wire.
const MAX_LIST_LEN: usize = 65535;

impl<'a> Parse<'a> {
    /// With these names for ports and tables.
    pub fn new(names: &'a Names) -> Self {
        Self { names, usable: Protocols::ANY, depth: 0 }
    }
}

/// Decodes a list of actions that is not a flow's (packet-outs, buckets): only apply-actions and `meter` may occur.
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn decode_list(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    codec::decode_verified(bytes, cx, verify::Allowed::ACTIONS, None)
}

/// Decodes the actions of an OpenFlow 1.0 flow, among which Nicira actions stand for instructions.
pub(crate) fn decode_flow_actions(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    codec::decode_verified(bytes, cx, verify::Allowed::ALL, None)
}

/// Decodes actions without looking at how they go together.
pub(crate) fn decode_unverified(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    codec::decode(bytes, cx)
}

/// Appends the list's wire form; instructions in it are left out or take their place as actions, as OVS does.
pub fn encode_list(actions: &[OfAction], version: Version, out: &mut Vec<u8>) {
    for action in actions {
        action.encode(version, out);
    }
}

/// The list as text: `drop` if empty.
pub fn text<'a>(actions: &'a [OfAction], names: &'a Names) -> ListText<'a> {
    ListText { actions, names }
}

/// A list of actions as text.
#[derive(Clone, Copy)]
pub struct ListText<'a> {
    actions: &'a [OfAction],
    names: &'a Names,
}

impl fmt::Display for ListText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.actions.is_empty() {
            return f.write_str("drop");
        }
        for (i, action) in self.actions.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            action.format(f, self.names)?;
        }
        Ok(())
    }
}

/// Parses a list of actions that is not a flow's: no instruction but `meter` may occur.
///
/// # Errors
/// OVS's words.
pub fn parse_list(text: &str, cx: &mut Parse<'_>) -> Parsed<Vec<OfAction>> {
    parse_nested(text, cx, false, None)
}

/// Parses the actions and instructions of a flow.
///
/// # Errors
/// OVS's words.
pub fn parse_instructions(text: &str, cx: &mut Parse<'_>) -> Parsed<Vec<OfAction>> {
    parse_nested(text, cx, true, None)
}

/// Parses actions inside `outer`, if any.
fn parse_nested(
    text: &str,
    cx: &mut Parse<'_>,
    instructions: bool,
    outer: Option<Kind>,
) -> Parsed<Vec<OfAction>> {
    if cx.depth >= MAX_PARSE_DEPTH {
        return Err("Action nested too deeply".into());
    }
    cx.depth += 1;
    let actions = parse_pairs(text, cx, instructions, outer);
    cx.depth -= 1;
    actions
}

fn parse_pairs(
    text: &str,
    cx: &mut Parse<'_>,
    instructions: bool,
    outer: Option<Kind>,
) -> Parsed<Vec<OfAction>> {
    let mut actions = Vec::new();
    let mut drop = false;
    let mut scratch = Vec::new();
    for (key, value) in Pairs::new(text) {
        if key.eq_ignore_ascii_case("drop") {
            drop = true;
            continue;
        }
        let action = codec::parse_one(key, value, cx)?;
        if action.kind() == Kind::Meter && !instructions {
            // Where no instruction may stand, only OpenFlow 1.5's meter action can be meant.
            cx.usable &= Protocols::OF15_UP;
        }
        action.encode(Version::V15, &mut scratch);
        if scratch.len() > MAX_LIST_LEN {
            return Err("input too big".into());
        }
        actions.push(action);
    }
    if drop && !actions.is_empty() {
        refuse!("\"drop\" must not be accompanied by any other action or instruction");
    }
    let allowed = if instructions { verify::Allowed::ALL } else { verify::Allowed::ACTIONS };
    verify::verify(&actions, Version::V11, allowed, outer).map_err(|refusal| refusal.message)?;
    Ok(actions)
}

impl OfAction {
    /// The actions inside the action.
    pub fn nested(&self) -> &[Self] {
        match self {
            Self::Clone(actions) | Self::WriteActions(actions) => actions,
            Self::Ct(ct) => &ct.actions,
            _ => &[],
        }
    }

    /// The actions inside the action, to change.
    pub fn nested_mut(&mut self) -> &mut [Self] {
        match self {
            Self::Clone(actions) | Self::WriteActions(actions) => actions,
            Self::Ct(ct) => &mut ct.actions,
            _ => &mut [],
        }
    }

    /// The field that the action writes, if it is a `set_field`, `load` or `move`.
    pub fn destination(&self) -> Option<Field> {
        match self {
            Self::SetField(set) => Some(set.field),
            Self::RegMove(copy) => Some(copy.dst.field),
            _ => None,
        }
    }
}

/// The actions and those inside them, in order, an outer one before its inner ones.
pub fn flattened(actions: &[OfAction]) -> impl Iterator<Item = &OfAction> {
    let mut stack: Vec<&OfAction> = actions.iter().rev().collect();
    std::iter::from_fn(move || {
        let next = stack.pop()?;
        stack.extend(next.nested().iter().rev());
        Some(next)
    })
}

/// Whether an action, or one in it, outputs to `port` by number.
pub fn outputs_to(actions: &[OfAction], port: OfPort) -> bool {
    flattened(actions).any(|action| match action {
        OfAction::Output(output) => output.port == port,
        OfAction::Enqueue(enqueue) => enqueue.port == port,
        OfAction::Controller(_) => port == OfPort::CONTROLLER,
        _ => false,
    })
}

/// Whether an action, or one in it, is a `group` action to `group`.
pub fn outputs_to_group(actions: &[OfAction], group: GroupId) -> bool {
    flattened(actions).any(|action| matches!(action, OfAction::Group(id) if *id == group))
}

/// The number of the flow's `meter` instruction, which is the first if there is one.
pub fn meter(actions: &[OfAction]) -> Option<u32> {
    match actions.first() {
        Some(OfAction::Meter(id)) => Some(*id),
        _ => None,
    }
}

/// The range of bits that 16 bits on the wire give a field: offset in the high 10, width less one in the low 6.
fn ranged(field: Field, range: u16) -> Subfield {
    Subfield { field, ofs: range >> 6, n_bits: (range & 0x3f) + 1 }
}

/// A subfield's range as [`ranged`] reads it.
fn range(subfield: &Subfield) -> u16 {
    subfield.ofs << 6 | subfield.n_bits.saturating_sub(1)
}

/// Padding that a later version of an action might use.
fn must_be_zero(bytes: &[u8]) -> Result<(), OfError> {
    if bytes.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(OfError::BrcMustBeZero) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Parsed<Vec<OfAction>> {
        parse_instructions(text, &mut Parse::new(&Names::default()))
    }

    fn print(actions: &[OfAction]) -> String {
        text(actions, &Names::default()).to_string()
    }

    fn through_wire(actions: &[OfAction], version: Version) -> Result<Vec<OfAction>, OfError> {
        let mut wire = Vec::new();
        crate::instruction::encode(actions, version, &mut wire);
        crate::instruction::decode(&wire, &mut Decode::new(version))
    }

    /// Text that prints as it was written and survives the wire of OpenFlow 1.0, 1.3 and 1.5.
    const EVERYWHERE: &[&str] = &[
        "drop",
        "LOCAL",
        "output:7,NORMAL,CONTROLLER:128,IN_PORT",
        "output:NXM_NX_REG3[4..19]",
        "output:NXOXM_ET_REG17[0..15]",
        "output(port=3,max_len=64)",
        "controller(reason=invalid_ttl,max_len=99,id=2,userdata=0a.0b.0c,pause,meter_id=5)",
        "group:77",
        "bundle(symmetric_l3l4+udp,5,hrw,ofport,members:1,2,LOCAL)",
        "bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG5[0..15],members:9)",
        "multipath(nw_dst,50,iter_hash,8,3,NXM_NX_REG4[0..2])",
        "move:NXM_OF_ETH_SRC[0..31]->NXM_NX_REG2[]",
        "push:NXM_NX_REG0[1..9],pop:NXM_NX_XXREG1[100..127]",
        "dec_ttl,dec_ttl(1,2,3)",
        "push_mpls:0x8847,dec_mpls_ttl,set_mpls_ttl(9),pop_mpls:0x0800",
        "delete_field:tun_metadata3",
        "set_queue:5,output:1,pop_queue",
        "fin_timeout(idle_timeout=3)",
        "resubmit:4,resubmit(,7),resubmit(2,7,ct)",
        "learn(table=3,idle_timeout=5,fin_hard_timeout=2,priority=9,send_flow_rem,delete_learned,cookie=0x7,limit=4,\
         result_dst=NXM_NX_REG0[1],eth_type=0x800,NXM_OF_VLAN_TCI[0..11],NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],\
         NXM_NX_REG1[3..5]=0x2,load:0xffff->NXM_NX_REG2[0..15],load:NXM_OF_IN_PORT[]->NXM_NX_REG3[8..23],\
         output:NXM_OF_IN_PORT[])",
        "note:00.01.02.03.04.05",
        "conjunction(9,2/3),note:01.02.03.04.05.06",
        "exit",
        "sample(probability=1,collector_set_id=2,obs_domain_id=3,obs_point_id=4)",
        "sample(probability=1,collector_set_id=2,obs_domain_id=3,obs_point_id=4,sampling_port=5)",
        "sample(probability=1,collector_set_id=2,obs_domain_id=3,obs_point_id=4,sampling_port=5,egress)",
        "sample(probability=1,collector_set_id=2,obs_domain_id=NXM_NX_REG1[],obs_point_id=4,ingress)",
        "ct(),ct(table=4,zone=NXM_NX_REG0[0..15]),ct(commit,force,zone=5,alg=tftp)",
        "ct(commit,nat(src=10.0.0.1-10.0.0.9:5-70,persistent,hash))",
        "ct(commit,nat(dst=[fd00::1]-[fd00::7]:80,random)),ct(nat),ct(commit,nat(src))",
        "ct_clear,clone(output:1,output:2)",
        "check_pkt_larger(1400)->NXM_NX_REG0[5]",
        "write_metadata:0x5/0xff",
    ];

    #[test]
    fn text_survives_text_and_wire() {
        for &text in EVERYWHERE {
            let actions = parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(print(&actions), text);
            for version in [Version::V10, Version::V13, Version::V15] {
                let decoded = through_wire(&actions, version);
                let decoded = decoded.unwrap_or_else(|error| panic!("{text} in {version}: {}", error.name()));
                assert_eq!(print(&decoded), text, "{version}");
            }
        }
    }

    #[test]
    fn actions_of_later_versions_survive_their_wire() {
        for text in [
            "meter:5,output:1,clear_actions,write_actions(set_field:0x7->reg0,output:2),goto_table:9",
            "set_field:0x1/0x3->reg4",
            "push_vlan:0x88a8,set_field:4106->vlan_vid,pop_vlan",
            "encap(nsh(md_type=2,tlv(0x1000,10,0x12345678))),dec_nsh_ttl,decap()",
            "encap(ethernet),decap(packet_type(ns=0,type=0xfffe))",
        ] {
            let actions = parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let decoded = through_wire(&actions, Version::V15).expect(text);
            let expected = text.replace("decap(packet_type(ns=0,type=0xfffe))", "decap()");
            assert_eq!(print(&decoded), expected);
        }
    }

    #[test]
    fn older_actions_change_their_form_with_the_version() {
        for (text, v10, v11, v13) in [
            (
                "mod_vlan_vid:5",
                "mod_vlan_vid:5",
                "push_vlan:0x8100,set_vlan_vid:5",
                "push_vlan:0x8100,set_field:4101->vlan_vid",
            ),
            ("mod_nw_tos:48", "mod_nw_tos:48", "mod_nw_tos:48", "set_field:12->ip_dscp"),
            ("mod_nw_ecn:2", "load:0x2->NXM_NX_IP_ECN[]", "mod_nw_ecn:2", "set_field:2->nw_ecn"),
            ("mod_nw_ttl:9", "load:0x9->NXM_NX_IP_TTL[]", "mod_nw_ttl:9", "mod_nw_ttl:9"),
            (
                "set_field:1.2.3.4->nw_src",
                "mod_nw_src:1.2.3.4",
                "mod_nw_src:1.2.3.4",
                "set_field:1.2.3.4->ip_src",
            ),
            (
                "set_field:0x5->reg0",
                "load:0x5->NXM_NX_REG0[]",
                "load:0x5->NXM_NX_REG0[]",
                "set_field:0x5->reg0",
            ),
            (
                "set_field:0x5/0xf->reg0",
                "load:0x5->NXM_NX_REG0[0..3]",
                "load:0x5->NXM_NX_REG0[0..3]",
                "load:0x5->NXM_NX_REG0[0..3]",
            ),
            (
                "enqueue:1:2",
                "enqueue:1:2",
                "set_queue:2,output:1,pop_queue",
                "set_queue:2,output:1,pop_queue",
            ),
            ("set_tunnel:0x9", "set_tunnel:0x9", "set_tunnel:0x9", "set_field:0x9->tun_id"),
            ("goto_table:3", "resubmit(,3)", "goto_table:3", "goto_table:3"),
            ("strip_vlan", "strip_vlan", "pop_vlan", "pop_vlan"),
        ] {
            let actions = parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            for (version, expected) in [(Version::V10, v10), (Version::V11, v11), (Version::V13, v13)] {
                assert_eq!(
                    print(&through_wire(&actions, version).expect(text)),
                    expected,
                    "{text} in {version}"
                );
            }
        }
    }

    #[test]
    fn text_is_refused_in_the_words_of_ovs() {
        for (text, error) in [
            ("nosuch", "unknown action nosuch"),
            ("drop,1", "\"drop\" must not be accompanied by any other action or instruction"),
            ("load:0x10->reg0[0..3]", "0x10->reg0[0..3]: value 0x10 does not fit into 4 bits"),
            ("set_field:5->nosuch", "nosuch is not a valid OXM field name"),
            ("ct(force)", "\"force\" flag requires \"commit\" flag."),
            ("nat", "Cannot have NAT action outside of \"ct\" action"),
            (
                "goto_table:1,output:2",
                "invalid instruction ordering: apply_actions must appear before goto_table, for OpenFlow 1.1+ compatibility",
            ),
            ("write_actions(write_actions(1))", "write_actions instruction not allowed here"),
        ] {
            assert_eq!(parsed(text).map_err(String::from), Err(error.to_owned()), "{text}");
        }
        let nested = "clone(".repeat(101);
        assert_eq!(parsed(&nested).map_err(String::from), Err("Action nested too deeply".to_owned()));
    }

    #[test]
    fn kinds_have_distinct_names() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn decoders_never_panic(
            head in prop_oneof![Just(vec![0xff, 0xff]), Just(vec![0, 25]), proptest::collection::vec(any::<u8>(), 2)],
            subtype in 0_u8..60,
            body in proptest::collection::vec(any::<u8>(), 0..9_usize),
            units in 1_u16..8,
        ) {
            let mut bytes = head;
            bytes.extend_from_slice(&(units * 8).to_be_bytes());
            bytes.extend_from_slice(&[0, 0, 0x23, 0x20, 0, subtype]);
            while bytes.len() < usize::from(units) * 8 {
                bytes.extend_from_slice(&body);
                bytes.push(0);
            }
            bytes.truncate(usize::from(units) * 8);
            for version in Version::ALL {
                if let Ok(actions) = decode_list(&bytes, &mut Decode::new(version)) {
                    let _ = print(&actions);
                    encode_list(&actions, version, &mut Vec::new());
                }
            }
        }

        #[test]
        fn parsers_never_panic(name in 0..Kind::ALL.len(), argument in "\\PC{0,40}") {
            let name = Kind::ALL[name].name();
            let _ = parsed(&format!("{name}({argument})"));
            let _ = parsed(&format!("{name}:{argument}"));
        }
    }
}
