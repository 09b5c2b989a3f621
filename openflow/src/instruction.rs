//! OpenFlow 1.1 instructions: the frame around actions in flow-mods and flow statistics.
//!
//! In memory instructions are [`OfAction`]s in execution order; here is their wire form. OpenFlow 1.0 has no
//! instructions: there the list is one of actions, and Nicira actions stand in for `write_metadata` and `goto_table`.
//! Spec: OpenFlow 1.1 section A.2.4 to OpenFlow 1.5 section 7.2.5.

use crate::action::verify::{Allowed, verify};
use crate::action::{Decode, Kind, OfAction, WriteMetadata, set};
use crate::error::OfError;
use crate::version::Version;
use crate::wire::{Put, set_u16};

/// The instructions in execution order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Instruction {
    Meter,
    ApplyActions,
    ClearActions,
    WriteActions,
    WriteMetadata,
    GotoTable,
}

/// The type of an experimenter's instruction.
const EXPERIMENTER: u16 = 0xffff;

/// Name, wire type, size (the least one where actions follow).
const ROWS: [(&str, u16, usize); 6] = [
    ("meter", 6, 8),
    ("apply_actions", 4, 8),
    ("clear_actions", 5, 8),
    ("write_actions", 3, 8),
    ("write_metadata", 2, 24),
    ("goto_table", 1, 8),
];

impl Instruction {
    /// Every instruction, in execution order.
    pub const ALL: [Self; 6] = [
        Self::Meter,
        Self::ApplyActions,
        Self::ClearActions,
        Self::WriteActions,
        Self::WriteMetadata,
        Self::GotoTable,
    ];

    /// The name in text and messages.
    pub const fn name(self) -> &'static str {
        ROWS[self as usize].0
    }

    /// The type on the wire.
    pub const fn wire(self) -> u16 {
        ROWS[self as usize].1
    }

    /// The instruction of a name, whatever the case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|instruction| instruction.name().eq_ignore_ascii_case(name))
    }

    /// Whether a version has the instruction: `meter` is one in OpenFlow 1.3 and 1.4 only.
    pub fn exists_in(self, version: Version) -> bool {
        version > Version::V10 && (self != Self::Meter || matches!(version, Version::V13 | Version::V14))
    }

    /// The instruction that an action is, or is part of.
    pub fn of(kind: Kind, version: Version) -> Self {
        match kind {
            Kind::Meter if version < Version::V15 => Self::Meter,
            Kind::ClearActions => Self::ClearActions,
            Kind::WriteActions => Self::WriteActions,
            Kind::WriteMetadata => Self::WriteMetadata,
            Kind::GotoTable => Self::GotoTable,
            _ => Self::ApplyActions,
        }
    }

    fn of_wire(wire: u16) -> Result<Self, OfError> {
        if wire == EXPERIMENTER {
            return Err(OfError::BicBadExperimenter);
        }
        let found = Self::ALL.into_iter().find(|instruction| instruction.wire() == wire);
        found.ok_or(OfError::BicUnknownInst)
    }

    fn has_actions(self) -> bool {
        matches!(self, Self::ApplyActions | Self::WriteActions)
    }

    /// Writes the header and gives the place of the length.
    pub(crate) fn start(self, out: &mut Vec<u8>) -> usize {
        let at = out.len();
        out.u16(self.wire()).u16(ROWS[self as usize].2 as u16);
        at
    }
}

/// The bodies of the instructions in `bytes`, without their headers, by instruction.
fn split(bytes: &[u8], version: Version) -> Result<[Option<&[u8]>; 6], OfError> {
    let mut bodies = [None; 6];
    let mut rest = bytes;
    while let &[t0, t1, l0, l1, ..] = rest {
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if !len.is_multiple_of(8) || len < 8 || len > rest.len() {
            break;
        }
        let instruction = Instruction::of_wire(u16::from_be_bytes([t0, t1]))?;
        let size = ROWS[instruction as usize].2;
        if len != size && !(instruction.has_actions() && len > size) {
            return Err(OfError::BicBadLen);
        }
        if instruction == Instruction::Meter && version >= Version::V15 {
            return Err(OfError::BicUnknownInst);
        }
        let body = &mut bodies[instruction as usize];
        if body.is_some() {
            return Err(OfError::BicDupInst);
        }
        *body = Some(&rest[4..len]);
        rest = &rest[len..];
    }
    if !rest.is_empty() {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "bad instruction format at offset {}", bytes.len() - rest.len()
        );
        return Err(OfError::BicBadLen);
    }
    Ok(bodies)
}

/// Decodes the instructions of a flow (in OpenFlow 1.0, its actions).
///
/// # Errors
/// What OpenFlow calls the first thing that is wrong.
pub fn decode(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    if cx.version == Version::V10 {
        return crate::action::decode_flow_actions(bytes, cx);
    }
    if !bytes.len().is_multiple_of(8) {
        tracing::warn!(
            target: "ofp_actions", rl = "1,5",
            "OpenFlow message instructions length {} is not a multiple of 8", bytes.len()
        );
        return Err(OfError::BicBadLen);
    }
    let [meter, apply, clear, write, metadata, goto] = split(bytes, cx.version)?;
    let mut list = Vec::new();
    if let Some(&[a, b, c, d]) = meter {
        list.push(OfAction::Meter(u32::from_be_bytes([a, b, c, d])));
    }
    if let Some(body) = apply {
        list.append(&mut crate::action::decode_unverified(&body[4..], cx)?);
    }
    if clear.is_some() {
        list.push(OfAction::ClearActions);
    }
    if let Some(body) = write {
        list.push(OfAction::WriteActions(decode_action_set(&body[4..], cx)?));
    }
    if let Some(body) = metadata {
        let word = |at: usize| body[at..at + 8].iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
        list.push(OfAction::WriteMetadata(WriteMetadata { metadata: word(4), mask: word(12) }));
    }
    if let Some(&[table, ..]) = goto {
        list.push(OfAction::GotoTable(table.into()));
    }
    verify(&list, cx.version, Allowed::ALL, None).map_err(|refusal| {
        tracing::warn!(target: "ofp_actions", "{}", refusal.message);
        refusal.error
    })?;
    Ok(list)
}

fn decode_action_set(bytes: &[u8], cx: &mut Decode<'_>) -> Result<Vec<OfAction>, OfError> {
    let actions = crate::action::decode_unverified(bytes, cx)?;
    if actions.iter().any(|action| set::slot(action.kind()) == set::Slot::Invalid) {
        tracing::warn!(target: "ofp_actions", rl = "1,5", "disallowed action in action set");
        return Err(OfError::BacBadType);
    }
    Ok(actions)
}

/// Appends the wire form of a flow's actions and instructions.
pub fn encode(list: &[OfAction], version: Version, out: &mut Vec<u8>) {
    if version == Version::V10 {
        crate::action::encode_list(list, version, out);
        return;
    }
    let of = |action: &OfAction| Instruction::of(action.kind(), version);
    for group in
        list.chunk_by(|a, b| of(a) == Instruction::ApplyActions && of(b) == Instruction::ApplyActions)
    {
        if group.first().map(of) == Some(Instruction::ApplyActions) {
            encode_actions(Instruction::ApplyActions, group, version, out);
        } else {
            crate::action::encode_list(group, version, out);
        }
    }
}

/// Appends an instruction that has actions; nothing if they come to nothing in this version.
pub(crate) fn encode_actions(
    instruction: Instruction,
    actions: &[OfAction],
    version: Version,
    out: &mut Vec<u8>,
) {
    let at = instruction.start(out);
    out.zeros(4);
    crate::action::encode_list(actions, version, out);
    let len = out.len() - at;
    if len > 8 {
        set_u16(out, at + 2, u16::try_from(len).unwrap_or(u16::MAX));
    } else {
        out.truncate(at);
    }
}
