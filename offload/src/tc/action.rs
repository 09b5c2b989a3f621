//! Actions of rules (`TCA_ACT_*`, `linux/tc_act/*.h`), both ways.
//!
//! An action has a kind with parameters ([`Spec`]) and says what happens after it ([`Control`]). One file a kind where there
//! is more to it than a number or two.

pub mod ct;
pub mod mpls;
pub mod pedit;
pub mod police;
pub mod tunnel_key;
pub mod vlan;

use flow::attr::{Attr, AttrError, Attrs, Writer};

pub use ct::Ct;
pub use mpls::Mpls;
pub use pedit::{Header, PeditKey};
pub use police::Police;
pub use tunnel_key::TunnelSet;
pub use vlan::Vlan;

const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const ACT_STATS: u16 = 4;
const ACT_COOKIE: u16 = 6;
const ACT_FLAGS: u16 = 7;
/// The action's counters are not kept by CPU, which makes it cheap to insert.
const FLAG_NO_PERCPU_STATS: u32 = 1;

/// Actions of a rule, at most (`TCA_ACT_MAX_PRIO`).
pub const MAX_ACTIONS: usize = 32;
/// Bytes of a cookie, at most.
pub const MAX_COOKIE: usize = 16;

/// What happens after an action (`TC_ACT_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Control {
    /// The next action.
    Pipe,
    /// No more actions; the packet goes on.
    Ok,
    /// The packet is dropped.
    Shot,
    /// The packet is taken.
    Stolen,
    Reclassify,
    /// The rule's own verdict.
    Unspec,
    /// To the CPU.
    Trap,
    /// On with the rules of a chain.
    Goto(u32),
    /// Skips as many actions.
    Jump(u32),
    /// Anything else.
    Other(i32),
}

/// Where the values of codes that carry one begin.
const JUMP: i32 = 1 << 28;
const GOTO: i32 = 2 << 28;
/// The most that a code can carry: chains and jumps above it do not exist.
pub const MAX_VALUE: u32 = (1 << 28) - 1;

impl Control {
    pub fn code(self) -> i32 {
        match self {
            Self::Unspec => -1,
            Self::Ok => 0,
            Self::Reclassify => 1,
            Self::Shot => 2,
            Self::Pipe => 3,
            Self::Stolen => 4,
            Self::Trap => 8,
            Self::Goto(chain) => GOTO | (chain & MAX_VALUE) as i32,
            Self::Jump(count) => JUMP | (count & MAX_VALUE) as i32,
            Self::Other(code) => code,
        }
    }

    pub fn of(code: i32) -> Self {
        let value = code as u32 & MAX_VALUE;
        match code {
            -1 => Self::Unspec,
            0 => Self::Ok,
            1 => Self::Reclassify,
            2 => Self::Shot,
            3 => Self::Pipe,
            4 => Self::Stolen,
            8 => Self::Trap,
            code if code >> 28 == 1 => Self::Jump(value),
            code if code >> 28 == 2 => Self::Goto(value),
            code => Self::Other(code),
        }
    }
}

/// Where `mirred` sends to (`TCA_{E,IN}GRESS_{REDIR,MIRROR}`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mirred {
    pub ifindex: u32,
    /// As if the device had received it, not out of it.
    pub ingress: bool,
    /// A copy.
    pub mirror: bool,
}

/// The type of packets for this host.
pub const PACKET_HOST: u16 = 0;

/// What `skbedit` sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Skbedit {
    pub priority: Option<u32>,
    pub queue: Option<u16>,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    pub packet_type: Option<u16>,
}

/// One packet in `rate` goes to `psample`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sample {
    pub rate: u32,
    pub group: u32,
    /// Bytes of it, at most.
    pub trunc: Option<u32>,
}

/// Bits of [`Spec::Csum`].
pub mod csum {
    pub const IPV4: u32 = 1;
    pub const ICMP: u32 = 2;
    pub const IGMP: u32 = 4;
    pub const TCP: u32 = 8;
    pub const UDP: u32 = 16;
    pub const UDPLITE: u32 = 32;
    pub const SCTP: u32 = 64;
}

/// A kind of action with its parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spec {
    /// Nothing but what happens after it.
    Gact,
    Mirred(Mirred),
    Vlan(Vlan),
    Mpls(Mpls),
    Pedit(Vec<PeditKey>),
    /// Computes checksums anew: bits of [`csum`].
    Csum(u32),
    /// What the packet will be encapsulated by; `None` forgets it.
    TunnelKey(Option<Box<TunnelSet>>),
    Ct(Box<Ct>),
    Skbedit(Skbedit),
    Sample(Sample),
    Police(Police),
    /// Of another kind, or told without parameters.
    Unknown(String, Vec<u8>),
}

/// An action of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcAction {
    pub spec: Spec,
    pub control: Control,
    /// What userspace remembers with it, at most [`MAX_COOKIE`] bytes.
    pub cookie: Option<Vec<u8>>,
}

impl TcAction {
    /// An action after which the next one comes.
    pub fn pipe(spec: Spec) -> Self {
        Self { spec, control: Control::Pipe, cookie: None }
    }

    /// Only what happens after it.
    pub fn gact(control: Control) -> Self {
        Self { spec: Spec::Gact, control, cookie: None }
    }

    /// Whether other rules share it, and its counters. What tells lengths apart is a rule's own.
    pub fn is_shared(&self) -> bool {
        let own = |police: &Police| matches!(police.exceed, Some(police::Exceed(Control::Jump(_))));
        matches!(&self.spec, Spec::Police(police) if !own(police))
    }
}

/// What all kinds begin their parameters with (`tc_gen`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Gen {
    pub index: u32,
    pub code: i32,
}

/// Bytes of `tc_gen`.
const GEN: usize = 20;

impl Gen {
    fn after(control: Control) -> Self {
        Self { index: 0, code: control.code() }
    }

    /// The bytes, and `more` behind them.
    pub(super) fn bytes(self, more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; GEN];
        bytes[..4].copy_from_slice(&self.index.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_ne_bytes());
        bytes.extend(more);
        bytes
    }

    /// Reads it, and what is behind it.
    pub(super) fn read<'a>(attr: &Attr<'a>) -> Result<(Self, &'a [u8]), AttrError> {
        let (head, rest) = attr.data.split_first_chunk::<GEN>().ok_or_else(|| attr.wrong_size(GEN))?;
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        Ok((Self { index: u32::from_ne_bytes(word(0)), code: i32::from_ne_bytes(word(8)) }, rest))
    }
}

/// Four bytes at `at`, behind [`Gen`], as the machine orders them.
pub(super) fn word(attr: &Attr<'_>, rest: &[u8], at: usize) -> Result<u32, AttrError> {
    let bytes = rest.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(|| attr.wrong_size(GEN + at + 4))?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// The attribute of parameters, and that of times, by kind.
const fn places(kind: &str) -> Option<(u16, u16)> {
    match kind.as_bytes() {
        b"gact" | b"mirred" | b"vlan" | b"mpls" | b"pedit" | b"tunnel_key" | b"skbedit" | b"sample" => {
            Some((2, 1))
        }
        b"csum" | b"ct" => Some((1, 2)),
        b"police" => Some((1, 6)),
        _ => None,
    }
}

mod skbedit {
    pub const PRIORITY: u16 = 3;
    pub const QUEUE: u16 = 4;
    pub const MARK: u16 = 5;
    pub const PTYPE: u16 = 7;
    pub const MASK: u16 = 8;
}

mod sample {
    pub const RATE: u16 = 3;
    pub const TRUNC: u16 = 4;
    pub const GROUP: u16 = 5;
}

impl Spec {
    /// As the kernel calls it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Gact => "gact",
            Self::Mirred(_) => "mirred",
            Self::Vlan(_) => "vlan",
            Self::Mpls(_) => "mpls",
            Self::Pedit(_) => "pedit",
            Self::Csum(_) => "csum",
            Self::TunnelKey(_) => "tunnel_key",
            Self::Ct(_) => "ct",
            Self::Skbedit(_) => "skbedit",
            Self::Sample(_) => "sample",
            Self::Police(_) => "police",
            Self::Unknown(kind, _) => kind,
        }
    }

    fn encode(&self, control: Control, out: &mut Writer) {
        let generic = Gen::after(control);
        let parms = places(self.kind()).map_or(0, |places| places.0);
        match self {
            Self::Gact => out.put(parms, &generic.bytes(&[])),
            Self::Mirred(mirred) => {
                let how = 1 + u32::from(mirred.mirror) + 2 * u32::from(mirred.ingress);
                let more = [how.to_ne_bytes(), mirred.ifindex.to_ne_bytes()].concat();
                out.put(parms, &generic.bytes(&more));
            }
            Self::Vlan(vlan) => vlan.encode(generic, out),
            Self::Mpls(mpls) => mpls.encode(generic, out),
            Self::Pedit(keys) => pedit::encode(keys, generic, out),
            Self::Csum(what) => out.put(parms, &generic.bytes(&what.to_ne_bytes())),
            Self::TunnelKey(set) => tunnel_key::encode(set.as_deref(), generic, out),
            Self::Ct(ct) => ct.encode(generic, out),
            Self::Skbedit(edit) => {
                out.put(parms, &generic.bytes(&[]));
                edit.priority.into_iter().for_each(|priority| out.put_u32(skbedit::PRIORITY, priority));
                edit.queue.into_iter().for_each(|queue| out.put_u16(skbedit::QUEUE, queue));
                if let Some((mark, mask)) = edit.mark {
                    out.put_u32(skbedit::MARK, mark);
                    out.put_u32(skbedit::MASK, mask);
                }
                edit.packet_type.into_iter().for_each(|kind| out.put_u16(skbedit::PTYPE, kind));
            }
            Self::Sample(sampled) => {
                out.put(parms, &generic.bytes(&[]));
                out.put_u32(sample::RATE, sampled.rate);
                sampled.trunc.into_iter().for_each(|trunc| out.put_u32(sample::TRUNC, trunc));
                out.put_u32(sample::GROUP, sampled.group);
            }
            Self::Police(police) => police.encode(control, out),
            Self::Unknown(_, options) => out.put_coded(options),
        }
    }

    fn decode(kind: &str, options: &Attr<'_>) -> Result<(Self, Control), AttrError> {
        let unknown = || (Self::Unknown(kind.to_owned(), options.data.to_vec()), Control::Pipe);
        let Some((parms, _)) = places(kind) else { return Ok(unknown()) };
        // Changes of headers by their type are told by an attribute of their own.
        let extended = if kind == "pedit" { options.nested().find(pedit::PARMS_EX) } else { None };
        let Some(parms) = extended.or_else(|| options.nested().find(parms)) else { return Ok(unknown()) };
        if kind == "police" {
            let (police, control) = Police::decode(options, &parms)?;
            return Ok((Self::Police(police), control));
        }
        let (generic, rest) = Gen::read(&parms)?;
        let spec = match kind {
            "gact" => Self::Gact,
            "mirred" => {
                let (how, ifindex) = (word(&parms, rest, 0)?, word(&parms, rest, 4)?);
                if !(1..=4).contains(&how) {
                    return Err(parms.invalid("no direction of mirred"));
                }
                Self::Mirred(Mirred { ifindex, ingress: how > 2, mirror: how.is_multiple_of(2) })
            }
            "vlan" => Self::Vlan(Vlan::decode(options, &parms, rest)?),
            "mpls" => Self::Mpls(Mpls::decode(options, &parms, rest)?),
            "pedit" => Self::Pedit(pedit::decode(options, &parms, rest)?),
            "csum" => Self::Csum(word(&parms, rest, 0)?),
            "tunnel_key" => Self::TunnelKey(tunnel_key::decode(options, &parms, rest)?),
            "ct" => Self::Ct(Box::new(Ct::decode(options)?)),
            "skbedit" => Self::Skbedit(decode_skbedit(options)?),
            "sample" => Self::Sample(decode_sample(options)?),
            _ => return Ok(unknown()),
        };
        Ok((spec, Control::of(generic.code)))
    }
}

fn decode_skbedit(options: &Attr<'_>) -> Result<Skbedit, AttrError> {
    let mut edit = Skbedit::default();
    let mut mask = u32::MAX;
    for attr in options.nested() {
        let attr = attr?;
        match attr.kind {
            skbedit::PRIORITY => edit.priority = Some(attr.u32()?),
            skbedit::QUEUE => edit.queue = Some(attr.u16()?),
            skbedit::MARK => edit.mark = Some((attr.u32()?, mask)),
            skbedit::MASK => mask = attr.u32()?,
            skbedit::PTYPE => edit.packet_type = Some(attr.u16()?),
            _ => {}
        }
    }
    edit.mark = edit.mark.map(|(mark, _)| (mark, mask));
    Ok(edit)
}

fn decode_sample(options: &Attr<'_>) -> Result<Sample, AttrError> {
    let mut sampled = Sample { rate: 0, group: 0, trunc: None };
    for attr in options.nested() {
        let attr = attr?;
        match attr.kind {
            sample::RATE => sampled.rate = attr.u32()?,
            sample::TRUNC => sampled.trunc = Some(attr.u32()?),
            sample::GROUP => sampled.group = attr.u32()?,
            _ => {}
        }
    }
    Ok(sampled)
}

/// Counters of an action.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ActStats {
    pub packets: u64,
    pub bytes: u64,
    /// Those of them that hardware counted.
    pub hw_packets: u64,
    pub hw_bytes: u64,
    /// Packets that the action dropped.
    pub drops: u64,
    /// Hundredths of a second since it was last used, where that is told.
    pub idle: Option<u64>,
}

mod stats {
    pub const BASIC: u16 = 1;
    pub const QUEUE: u16 = 3;
    pub const BASIC_HW: u16 = 7;
    pub const PKT64: u16 = 8;
}

fn decode_stats(attr: &Attr<'_>) -> Result<ActStats, AttrError> {
    let mut found = ActStats::default();
    let mut packets = None;
    for part in attr.nested() {
        let part = part?;
        let basic = || {
            let bytes = part.data.first_chunk::<12>().ok_or_else(|| part.wrong_size(12))?;
            let (bytes, packets) = bytes.split_first_chunk::<8>().expect("twelve bytes begin with eight");
            let packets = packets.first_chunk().map_or(0, |packets| u32::from_ne_bytes(*packets));
            Ok((u64::from_ne_bytes(*bytes), u64::from(packets)))
        };
        match part.kind {
            stats::BASIC => (found.bytes, found.packets) = basic()?,
            stats::BASIC_HW => (found.hw_bytes, found.hw_packets) = basic()?,
            stats::QUEUE => found.drops = word(&part, part.data, 8)?.into(),
            // The rest of what comes before it: counts of 64 bits.
            stats::PKT64 => packets = Some(part.u64()?),
            _ => {}
        }
    }
    // It follows the counters that it completes, those of hardware last.
    if let Some(packets) = packets {
        found.packets = found.packets.max(packets);
    }
    Ok(found)
}

/// Appends the actions as the attribute `kind`. Those at places in the list that nothing else shares do without counters
/// by CPU.
pub fn encode_all(actions: &[TcAction], kind: u16, out: &mut Writer) {
    out.nest_flagged(kind, |list| {
        for (place, action) in actions.iter().enumerate() {
            list.nest_flagged(place as u16 + 1, |nest| {
                nest.put_str(ACT_KIND, action.spec.kind());
                if let Some(cookie) = &action.cookie {
                    nest.put(ACT_COOKIE, cookie);
                }
                nest.nest_flagged(ACT_OPTIONS, |options| action.spec.encode(action.control, options));
                if !action.is_shared() {
                    let flags = [FLAG_NO_PERCPU_STATS.to_ne_bytes(); 2].concat();
                    nest.put(ACT_FLAGS, &flags);
                }
            });
        }
    });
}

/// Reads a list of actions, with their counters.
///
/// # Errors
/// Something is not as `linux/tc_act/*.h` say.
pub fn decode_all(list: Attrs<'_>) -> Result<Vec<(TcAction, ActStats)>, AttrError> {
    let mut actions = Vec::new();
    for attr in list {
        let attr = attr?;
        if actions.len() >= MAX_ACTIONS {
            return Err(attr.invalid("more actions than there can be"));
        }
        actions.push(decode(&attr)?);
    }
    Ok(actions)
}

/// Reads of each action of a list its kind, what userspace remembers with it, and what it counted.
///
/// # Errors
/// As for [`decode_all`].
pub fn glance_all<'a>(
    list: Attrs<'a>,
    each: &mut dyn FnMut(&'a str, Option<&'a [u8]>, ActStats),
) -> Result<(), AttrError> {
    for (place, attr) in list.enumerate() {
        let attr = attr?;
        if place >= MAX_ACTIONS {
            return Err(attr.invalid("more actions than there can be"));
        }
        let (mut kind, mut cookie, mut counted) = ("", None, ActStats::default());
        for part in attr.nested() {
            let part = part?;
            match part.kind {
                ACT_KIND => kind = part.str()?,
                ACT_COOKIE if part.data.len() > MAX_COOKIE => return Err(part.invalid("cookie too long")),
                ACT_COOKIE => cookie = Some(part.data),
                ACT_STATS => counted = decode_stats(&part)?,
                _ => {}
            }
        }
        each(kind, cookie, counted);
    }
    Ok(())
}

fn decode(attr: &Attr<'_>) -> Result<(TcAction, ActStats), AttrError> {
    let (mut kind, mut options, mut cookie, mut counted) = ("", None, None, ActStats::default());
    for part in attr.nested() {
        let part = part?;
        match part.kind {
            ACT_KIND => kind = part.str()?,
            ACT_OPTIONS => options = Some(part),
            ACT_COOKIE if part.data.len() > MAX_COOKIE => return Err(part.invalid("cookie too long")),
            ACT_COOKIE => cookie = Some(part.data.to_vec()),
            ACT_STATS => counted = decode_stats(&part)?,
            _ => {}
        }
    }
    let (spec, control) = match &options {
        Some(options) => Spec::decode(kind, options)?,
        // Terse dumps leave parameters out.
        None => (Spec::Unknown(kind.to_owned(), Vec::new()), Control::Pipe),
    };
    if let (Some(options), Some((_, times))) = (&options, places(kind))
        && let Some(times) = options.nested().find(times)
    {
        counted.idle = times.data.get(8..16).and_then(<[u8]>::first_chunk).map(|at| u64::from_ne_bytes(*at));
    }
    Ok((TcAction { spec, control, cookie }, counted))
}

#[cfg(test)]
pub(crate) mod tests;
