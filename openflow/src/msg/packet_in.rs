//! Packet-ins: packets that the switch gives to a controller, and (`NXT_RESUME`) gets back to go on with.
//! Spec: OpenFlow 1.0 section 5.4.1 to OpenFlow 1.5 section 7.4.1; `NXT_PACKET_IN`, `NXT_PACKET_IN2`.

use super::flow_mod::{DEFAULT_PRIORITY, NO_BUFFER};
use super::nicira::PacketInFormat;
use super::{hex_dump, open, put_port32, read_port32, w};
use crate::action::{self, Decode, OfAction, UnrollXlate};
use crate::error::OfError;
use crate::header::{self, Raw};
use crate::matching;
use crate::names::Names;
use crate::prop::{self, Prop, PropType, Props};
use crate::version::Version;
use crate::wire::{Put, Reader, set_u16};
use flow::extract::{self, Metadata};
use flow::field::{Field, Value};
use flow::id::{DpPort, OfPort, TableId};
use flow::key::Key;
use flow::mini::FullMatch;
use flow::proto::ip;

/// Why a packet is given (`OFPR_*`; the last two are OVS's own).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PacketInReason {
    NoMatch = 0,
    /// An output action; from OpenFlow 1.4 on, one that is applied.
    Action = 1,
    InvalidTtl = 2,
    ActionSet = 3,
    Group = 4,
    PacketOut = 5,
    /// A flow for misses sent it.
    ExplicitMiss = 6,
    /// No flow matched.
    ImplicitMiss = 7,
}

impl PacketInReason {
    /// As `version` has it on the wire.
    pub fn wire(self, version: Version) -> u8 {
        let seen = match self {
            Self::ActionSet | Self::Group | Self::PacketOut if version < Version::V14 => Self::Action,
            Self::ExplicitMiss if version < Version::V13 => Self::Action,
            Self::ExplicitMiss | Self::ImplicitMiss => Self::NoMatch,
            other => other,
        };
        seen as u8
    }
}

/// The name of a reason's number; empty for OVS's own, the number if it has no meaning.
fn reason_text(reason: u8) -> String {
    match reason {
        0 => "no_match",
        1 => "action",
        2 => "invalid_ttl",
        3 => "action_set",
        4 => "group",
        5 => "packet_out",
        6 | 7 => "",
        other => return other.to_string(),
    }
    .to_owned()
}

/// A packet-in message, as a controller sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct PacketIn {
    /// The packet, or its beginning.
    pub packet: Vec<u8>,
    /// How long the packet was.
    pub total_len: usize,
    pub buffer_id: u32,
    /// The reason's number.
    pub reason: u8,
    pub table_id: TableId,
    /// All ones: none.
    pub cookie: u64,
    /// Metadata of the packet: fields outside its bytes.
    pub metadata: FullMatch,
    pub userdata: Vec<u8>,
    pub continuation: Continuation,
}

/// What a translation that was paused needs to go on; private to the switch.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Continuation {
    /// The bridge's UUID, in the order in which it is written; zero for none.
    pub bridge: [u8; 16],
    /// Values on the stack, top first.
    pub stack: Vec<Vec<u8>>,
    pub mirrors: u32,
    pub conntracked: bool,
    pub actions: Vec<OfAction>,
    pub action_set: Vec<OfAction>,
    pub odp_port: DpPort,
}

mod nxpint {
    pub const PACKET: u16 = 0;
    pub const FULL_LEN: u16 = 1;
    pub const BUFFER_ID: u16 = 2;
    pub const TABLE_ID: u16 = 3;
    pub const COOKIE: u16 = 4;
    pub const REASON: u16 = 5;
    pub const METADATA: u16 = 6;
    pub const USERDATA: u16 = 7;
    pub const CONTINUATION: u16 = 8;
}

mod nxcpt {
    pub const BRIDGE: u16 = 0x8000;
    pub const STACK: u16 = 0x8001;
    pub const MIRRORS: u16 = 0x8002;
    pub const CONNTRACKED: u16 = 0x8003;
    pub const TABLE_ID: u16 = 0x8004;
    pub const COOKIE: u16 = 0x8005;
    pub const ACTIONS: u16 = 0x8006;
    pub const ACTION_SET: u16 = 0x8007;
    pub const ODP_PORT: u16 = 0x8008;
}

/// The longest value that a stack holds.
const MAX_STACK_VALUE: usize = 128;

impl PacketIn {
    fn blank() -> Self {
        Self {
            packet: Vec::new(),
            total_len: 0,
            buffer_id: NO_BUFFER,
            reason: 0,
            table_id: TableId(0),
            cookie: u64::MAX,
            metadata: FullMatch::default(),
            userdata: Vec::new(),
            continuation: Continuation::default(),
        }
    }

    /// Decodes a packet-in or a resume message; unknown properties are an error unless `loose`.
    pub fn decode(msg: &[u8], loose: bool, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        const RAWS: &[Raw] = &[
            Raw::Ofpt10PacketIn,
            Raw::Ofpt11PacketIn,
            Raw::Ofpt12PacketIn,
            Raw::Ofpt13PacketIn,
            Raw::NxtPacketIn,
            Raw::NxtPacketIn2,
            Raw::NxtResume,
        ];
        let (header, _, mut body) = open(msg, RAWS)?;
        match header.raw {
            Raw::Ofpt10PacketIn => Self::read10(&mut body),
            Raw::Ofpt11PacketIn => Self::read11(&mut body),
            Raw::NxtPacketIn => Self::read_nx(&mut body, cx),
            Raw::NxtPacketIn2 | Raw::NxtResume => Self::read_nx2(body.rest(), loose, cx),
            raw => Self::read12(&mut body, raw == Raw::Ofpt13PacketIn, cx),
        }
    }

    fn set_in_port(&mut self, port: OfPort) {
        Field::InPort.set_match(&mut self.metadata, &Value::from_u64(port.0.into(), 2), &Value::ones(2));
    }

    fn read10(body: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut this = Self { buffer_id: body.u32()?, ..Self::blank() };
        this.total_len = body.u16()?.into();
        this.set_in_port(OfPort(body.u16()?));
        this.reason = body.u8()?;
        body.skip(1)?;
        this.packet = body.rest().to_vec();
        Ok(this)
    }

    fn read11(body: &mut Reader<'_>) -> Result<Self, OfError> {
        let mut this = Self { buffer_id: body.u32()?, ..Self::blank() };
        this.set_in_port(read_port32(body)?);
        body.skip(4)?;
        this.total_len = body.u16()?.into();
        (this.reason, this.table_id) = (body.u8()?, TableId(body.u8()?));
        this.packet = body.rest().to_vec();
        Ok(this)
    }

    fn read12(body: &mut Reader<'_>, cookie: bool, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { buffer_id: body.u32()?, ..Self::blank() };
        this.total_len = body.u16()?.into();
        (this.reason, this.table_id) = (body.u8()?, TableId(body.u8()?));
        if cookie {
            this.cookie = body.u64()?;
        }
        this.metadata = matching::read11_loose(body, cx)?;
        body.skip(2)?;
        this.packet = body.rest().to_vec();
        Ok(this)
    }

    fn read_nx(body: &mut Reader<'_>, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self { buffer_id: body.u32()?, ..Self::blank() };
        this.total_len = body.u16()?.into();
        (this.reason, this.table_id, this.cookie) = (body.u8()?, TableId(body.u8()?), body.u64()?);
        let match_len = usize::from(body.u16()?);
        body.skip(6)?;
        this.metadata = matching::read_nxm(body, match_len, true, cx)?.0;
        body.skip(2)?;
        this.packet = body.rest().to_vec();
        Ok(this)
    }

    fn read_nx2(bytes: &[u8], loose: bool, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self::blank();
        for prop in Props::new(bytes) {
            this.read_prop(&prop?, loose, cx)?;
        }
        let refuse = |why: &str| {
            tracing::warn!(target: "ofp_packet", "NXT_PACKET_IN2 {why}");
            Err(OfError::BrcBadLen)
        };
        if this.packet.is_empty() {
            return refuse("lacks packet");
        }
        if this.total_len == 0 {
            this.total_len = this.packet.len();
        } else if this.total_len < this.packet.len() {
            return refuse("claimed full_len < len");
        }
        Ok(this)
    }

    fn read_prop(&mut self, prop: &Prop<'_>, loose: bool, cx: &mut Decode<'_>) -> Result<(), OfError> {
        match prop.kind {
            PropType::Standard(nxpint::PACKET) => self.packet = prop.value().to_vec(),
            PropType::Standard(nxpint::FULL_LEN) => self.total_len = prop.u32()? as usize,
            PropType::Standard(nxpint::BUFFER_ID) => self.buffer_id = prop.u32()?,
            PropType::Standard(nxpint::TABLE_ID) => self.table_id = TableId(prop.u8()?),
            PropType::Standard(nxpint::COOKIE) => self.cookie = prop.u64()?,
            PropType::Standard(nxpint::REASON) => self.reason = prop.u8()?,
            PropType::Standard(nxpint::METADATA) => {
                self.metadata = matching::read_raw_oxm(prop.value(), loose, cx)?;
            }
            PropType::Standard(nxpint::USERDATA) => self.userdata = prop.value().to_vec(),
            PropType::Standard(nxpint::CONTINUATION) => {
                self.continuation = Continuation::read(prop.nested()?, loose, cx)?;
            }
            _ => prop.unknown(loose, "NX_PACKET_IN2")?,
        }
        Ok(())
    }

    /// The message in a format of a version; a packet longer than fits is cut.
    pub fn encode(&self, version: Version, format: PacketInFormat, reason: PacketInReason) -> Vec<u8> {
        let reason = reason.wire(version);
        let total_len = u16::try_from(self.total_len).unwrap_or(u16::MAX);
        let mut msg;
        match (format, version) {
            (PacketInFormat::Nxt2, _) => return self.encode_nx2(Raw::NxtPacketIn2, version, reason),
            (PacketInFormat::Nxt, _) => {
                msg = header::start(Raw::NxtPacketIn, version, 0);
                msg.u32(NO_BUFFER).u16(total_len).u8(reason).u8(self.table_id.0).u64(self.cookie);
                let len_at = msg.len();
                msg.zeros(8);
                let len = matching::put_nxm(&self.metadata, 0, 0, &mut msg);
                set_u16(&mut msg, len_at, u16::try_from(len).unwrap_or(u16::MAX));
                msg.zeros(2);
            }
            (_, Version::V10) => {
                msg = header::start(Raw::Ofpt10PacketIn, version, 0);
                msg.u32(NO_BUFFER).u16(total_len).u16(self.metadata.key.in_port as u16).u8(reason).zeros(1);
            }
            (_, Version::V11) => {
                msg = header::start(Raw::Ofpt11PacketIn, version, 0);
                msg.u32(NO_BUFFER);
                let port = OfPort(self.metadata.key.in_port as u16);
                put_port32(&mut msg, port);
                put_port32(&mut msg, port);
                msg.u16(total_len).u8(reason).u8(self.table_id.0);
            }
            _ => {
                let v12 = version == Version::V12;
                msg = header::start(if v12 { Raw::Ofpt12PacketIn } else { Raw::Ofpt13PacketIn }, version, 0);
                msg.u32(NO_BUFFER).u16(total_len).u8(reason).u8(self.table_id.0);
                if !v12 {
                    msg.u64(self.cookie);
                }
                matching::put_oxm(&self.metadata, version, &mut msg);
                msg.zeros(2);
            }
        }
        let room = usize::from(u16::MAX) - msg.len();
        msg.bytes(&self.packet[..self.packet.len().min(room)]);
        header::finish(&mut msg);
        msg
    }

    /// A message that resumes the translation which paused with this packet-in.
    pub fn encode_resume(&self, version: Version) -> Vec<u8> {
        self.encode_nx2(Raw::NxtResume, version, self.reason)
    }

    fn encode_nx2(&self, raw: Raw, version: Version, reason: u8) -> Vec<u8> {
        let mut msg = header::start(raw, version, 0);
        let mut rest = Vec::new();
        prop::put_u8(&mut rest, nxpint::TABLE_ID, self.table_id.0);
        if self.cookie != u64::MAX {
            prop::put_u64(&mut rest, nxpint::COOKIE, self.cookie);
        }
        prop::put_u8(&mut rest, nxpint::REASON, reason);
        prop::put_std(&mut rest, nxpint::METADATA, |msg| matching::put_raw(&self.metadata, version, msg));
        self.continuation.put(version, &mut rest);
        if raw == Raw::NxtPacketIn2 && !self.userdata.is_empty() {
            prop::put_std(&mut rest, nxpint::USERDATA, |msg| {
                msg.bytes(&self.userdata);
            });
        }
        let room = usize::from(u16::MAX).saturating_sub(msg.len() + rest.len() + 24);
        let packet = &self.packet[..self.packet.len().min(room)];
        prop::put_std(&mut msg, nxpint::PACKET, |msg| {
            msg.bytes(packet);
        });
        if packet.len() != self.total_len {
            prop::put_u32(&mut msg, nxpint::FULL_LEN, u32::try_from(self.total_len).unwrap_or(u32::MAX));
        }
        msg.bytes(&rest);
        header::finish(&mut msg);
        msg
    }

    pub fn text(&self, names: &Names, verbosity: i32, out: &mut String) {
        if self.table_id.0 != 0 || names.tables.name(0).is_some() {
            w!(out, " table_id={}", names.table(self.table_id));
        }
        if self.cookie != u64::MAX {
            w!(out, " cookie=0x{:x}", self.cookie);
        }
        w!(out, " total_len={} ", self.total_len);
        out.push_str(&matching::text(&self.metadata, DEFAULT_PRIORITY.into(), names));
        w!(out, " (via {}) data_len={}", reason_text(self.reason), self.packet.len());
        if self.buffer_id == NO_BUFFER {
            out.push_str(" (unbuffered)");
            if self.total_len != self.packet.len() {
                out.push_str(" (***total_len != data_len***)");
            }
        } else {
            w!(out, " buffer=0x{:08x}", self.buffer_id);
            if self.total_len < self.packet.len() {
                out.push_str(" (***total_len < data_len***)");
            }
        }
        out.push('\n');
        if !self.userdata.is_empty() {
            let bytes: Vec<_> = self.userdata.iter().map(|byte| format!("{byte:02x}")).collect();
            w!(out, " userdata={}\n", bytes.join("."));
        }
        self.continuation.text(names, out);
        if verbosity > 0 {
            out.push_str(&packet_text(&self.packet, self.metadata.key.packet_type.get()));
        }
        if verbosity > 2 {
            hex_dump(out, &self.packet, false);
        }
    }
}

/// A UUID is four 32-bit numbers of the host in memory; that is what goes over the wire.
fn swap_uuid(uuid: [u8; 16]) -> [u8; 16] {
    let mut out = uuid;
    for word in out.as_chunks_mut::<4>().0 {
        *word = u32::from_be_bytes(*word).to_ne_bytes();
    }
    out
}

impl Continuation {
    fn read(props: Props<'_>, loose: bool, cx: &mut Decode<'_>) -> Result<Self, OfError> {
        let mut this = Self::default();
        let (mut table, mut cookie) = (TableId(0), 0);
        for prop in props {
            let prop = prop?;
            match prop.kind {
                PropType::Standard(nxcpt::BRIDGE) => this.bridge = swap_uuid(prop.array()?),
                PropType::Standard(nxcpt::STACK) => {
                    let value = prop.value();
                    if value.len() > MAX_STACK_VALUE {
                        let len = value.len();
                        tracing::warn!(target: "ofp_packet", "NXCPT_STACK property has bad length {len}");
                        return Err(OfError::BpcBadLen);
                    }
                    this.stack.push(value.to_vec());
                }
                PropType::Standard(nxcpt::MIRRORS) => this.mirrors = prop.u32()?,
                PropType::Standard(nxcpt::CONNTRACKED) => this.conntracked = true,
                PropType::Standard(nxcpt::TABLE_ID) => table = TableId(prop.u8()?),
                PropType::Standard(nxcpt::COOKIE) => cookie = prop.u64()?,
                PropType::Standard(nxcpt::ACTIONS) => {
                    this.actions.push(OfAction::UnrollXlate(UnrollXlate { table, cookie }));
                    this.actions.append(&mut action::decode_list(prop.aligned_value()?, cx)?);
                }
                PropType::Standard(nxcpt::ACTION_SET) => {
                    this.action_set = action::decode_list(prop.aligned_value()?, cx)?;
                }
                PropType::Standard(nxcpt::ODP_PORT) => this.odp_port = DpPort(prop.u32()?),
                _ => prop.unknown(loose, "continuation")?,
            }
        }
        Ok(this)
    }

    fn put(&self, version: Version, msg: &mut Vec<u8>) {
        let mut inner = Vec::new();
        if self.bridge != [0; 16] {
            prop::put_std(&mut inner, nxcpt::BRIDGE, |msg| {
                msg.bytes(&swap_uuid(self.bridge));
            });
        }
        for value in &self.stack {
            prop::put_std(&mut inner, nxcpt::STACK, |msg| {
                msg.bytes(value);
            });
        }
        if self.mirrors != 0 {
            prop::put_u32(&mut inner, nxcpt::MIRRORS, self.mirrors);
        }
        if self.conntracked {
            prop::put_std(&mut inner, nxcpt::CONNTRACKED, |_| ());
        }
        self.put_actions(version, &mut inner);
        if !self.action_set.is_empty() {
            prop::put_aligned(&mut inner, nxcpt::ACTION_SET, |msg| {
                action::encode_list(&self.action_set, version, msg);
            });
        }
        if self.odp_port != DpPort(0) {
            prop::put_u32(&mut inner, nxcpt::ODP_PORT, self.odp_port.0);
        }
        if !inner.is_empty() {
            prop::put_aligned(msg, nxpint::CONTINUATION, |msg| {
                msg.bytes(&inner);
            });
        }
    }

    /// Appends the actions in groups, each with the table and cookie of its flow if they differ from the last ones.
    fn put_actions(&self, version: Version, msg: &mut Vec<u8>) {
        let (mut table, mut cookie) = (TableId(0), 0);
        let starts = |action: &OfAction| matches!(action, OfAction::UnrollXlate(_));
        for group in self.actions.chunk_by(|_, next| !starts(next)) {
            let actions = match group {
                [OfAction::UnrollXlate(unroll), rest @ ..] => {
                    if unroll.table != table {
                        prop::put_u8(msg, nxcpt::TABLE_ID, unroll.table.0);
                        table = unroll.table;
                    }
                    if unroll.cookie != cookie {
                        prop::put_u64(msg, nxcpt::COOKIE, unroll.cookie);
                        cookie = unroll.cookie;
                    }
                    rest
                }
                all => all,
            };
            if !actions.is_empty() {
                prop::put_aligned(msg, nxcpt::ACTIONS, |msg| action::encode_list(actions, version, msg));
            }
        }
    }

    fn text(&self, names: &Names, out: &mut String) {
        if self.bridge != [0; 16] {
            w!(out, " continuation.bridge={}\n", flow::id::Ufid(self.bridge));
        }
        if !self.stack.is_empty() {
            out.push_str(" continuation.stack=(top)");
            for value in &self.stack {
                w!(out, " {}", stack_value(value));
            }
            out.push_str(" (bottom)\n");
        }
        if self.mirrors != 0 {
            w!(out, " continuation.mirrors=0x{:x}\n", self.mirrors);
        }
        if self.conntracked {
            out.push_str(" continuation.conntracked=true\n");
        }
        if !self.actions.is_empty() {
            w!(out, " continuation.actions={}\n", action::text(&self.actions, names));
        }
        if !self.action_set.is_empty() {
            w!(out, " continuation.action_set={}\n", action::text(&self.action_set, names));
        }
        if self.odp_port != DpPort(0) {
            w!(out, " continuation.odp_port={}\n", self.odp_port);
        }
    }
}

/// Hexadecimal without leading zeros.
fn stack_value(value: &[u8]) -> String {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let short = hex.trim_start_matches('0');
    format!("0x{}", if short.is_empty() { "0" } else { short })
}

/// A packet on a line: its fields, and the checksum of its transport header.
pub fn packet_text(packet: &[u8], packet_type: u32) -> String {
    let mut key = Key::default();
    let meta = Metadata { packet_type, ..Metadata::default() };
    let layout = extract::extract(packet, &meta, &mut key);
    let mut out = flow::describe::key_to_string(&key, &flow::field::NoNames);
    let end = packet.len().saturating_sub(layout.l2_pad.into());
    let l4 = layout.l4.and_then(|at| packet.get(usize::from(at)..end)).unwrap_or(&[]);
    let (name, at, header, wide) = match key.nw_proto {
        ip::TCP => ("tcp_csum", 16, 20, false),
        ip::UDP => ("udp_csum", 6, 8, false),
        ip::SCTP => ("sctp_csum", 8, 12, true),
        ip::ICMP => ("icmp_csum", 2, 8, false),
        ip::ICMPV6 => ("icmp6_csum", 2, 4, false),
        _ => ("", 0, usize::MAX, false),
    };
    if l4.len() >= header {
        let mut reader = Reader::new(&l4[at..]);
        let sum = if wide { reader.u32() } else { reader.u16().map(u32::from) };
        w!(&mut out, " {name}:{:x}", sum.unwrap_or(0));
    }
    out.push('\n');
    out
}
