//! Action programs: a list of datapath actions, checked and compiled once, when its flow is installed.
//!
//! Every action is matched here; those that this datapath cannot do are refused by name, at install and not at the packet.

use std::sync::Arc;

use flow::action::{Action, Ct, Userspace};
use flow::attr::Writer;
use flow::drop::DropReason;
use flow::id::{DpMeter, DpPort, RecircId};
use flow::key::{EthAddr, Key};
use flow::odp::convert::label_from_odp;
use flow::odp::{KeyAttr, NshKey, RawKey, key_to_flow};
use flow::packet::{SetArp, SetIpv4, SetIpv6, SetNd, nsh_header};

use crate::Error;
use crate::conntrack::nat::Nat;
use crate::conntrack::tracker::Action as CtAction;

/// Actions within actions, at most so deep.
const MAX_NESTING: usize = 16;

/// A compiled list of actions.
#[derive(Debug)]
pub struct Program {
    pub ops: Box<[Op]>,
    /// Running it changes the packet or its metadata.
    pub writes: bool,
    /// The actions of the flow that this is, or is part of, the program of.
    pub actions: Arc<[Action]>,
}

/// One step of a program.
#[derive(Debug)]
pub enum Op {
    Output(DpPort),
    LbOutput(u32),
    Userspace(Box<Userspace>),
    Set(Box<Set>),
    PushVlan {
        tpid: u16,
        tci: u16,
    },
    PopVlan,
    PushMpls {
        lse: u32,
        ethertype: u16,
        l2: bool,
    },
    PopMpls(u16),
    PushEth {
        src: EthAddr,
        dst: EthAddr,
    },
    PopEth,
    PushNsh(Box<[u8]>),
    PopNsh,
    Trunc(u32),
    Recirc(RecircId),
    Hash {
        alg: u32,
        basis: u32,
    },
    Meter(DpMeter),
    Sample {
        probability: u32,
        program: Program,
    },
    Clone(Program),
    CheckPktLen {
        len: u16,
        greater: Program,
        less_equal: Program,
    },
    /// What to do with packets whose TTL has run out.
    DecTtl(Program),
    Ct(Box<CtAction>),
    CtClear,
    Drop(DropReason),
}

/// A header field or metadata to set: values and masks.
#[derive(Debug)]
pub enum Set {
    Priority(u32, u32),
    Mark(u32, u32),
    DpHash(u32, u32),
    Ethernet {
        src: (EthAddr, EthAddr),
        dst: (EthAddr, EthAddr),
    },
    Vlan {
        tci: u16,
        mask: u16,
    },
    Mpls {
        lse: u32,
        mask: u32,
    },
    Ipv4(SetIpv4),
    Ipv6(SetIpv6),
    /// Protocol, source and destination.
    Ports {
        protocol: u8,
        src: (u16, u16),
        dst: (u16, u16),
    },
    Icmp {
        kind: (u8, u8),
        code: (u8, u8),
    },
    Arp(SetArp),
    Nd(SetNd),
    NdExt {
        reserved: (u32, u32),
        option: (u8, u8),
    },
    /// A key whose tunnel fields are to be copied.
    Tunnel(Key2),
}

/// A key that does not print itself.
pub struct Key2(pub Box<Key>);

impl std::fmt::Debug for Key2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Program {
    /// Checks and compiles actions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] names an action that this datapath cannot do.
    pub fn compile(actions: &[Action]) -> Result<Self, Error> {
        Self::compile_at(actions, 0, &Arc::from(actions))
    }

    fn compile_at(actions: &[Action], depth: usize, all: &Arc<[Action]>) -> Result<Self, Error> {
        if depth > MAX_NESTING {
            return Err(Error::Unsupported("actions nested so deep"));
        }
        let ops = actions.iter().map(|action| op(action, depth + 1, all)).collect::<Result<Vec<_>, _>>()?;
        let writes = ops.iter().any(Op::writes);
        Ok(Self { ops: ops.into(), writes, actions: Arc::clone(all) })
    }
}

impl Op {
    fn writes(&self) -> bool {
        match self {
            Self::Output(_)
            | Self::LbOutput(_)
            | Self::Userspace(_)
            | Self::Sample { .. }
            | Self::Clone(_)
            | Self::Drop(_) => false,
            Self::CheckPktLen { greater, less_equal, .. } => greater.writes || less_equal.writes,
            // A meter takes packets out of the list.
            Self::Meter(_)
            | Self::Set(_)
            | Self::PushVlan { .. }
            | Self::PopVlan
            | Self::PushMpls { .. }
            | Self::PopMpls(_)
            | Self::PushEth { .. }
            | Self::PopEth
            | Self::PushNsh(_)
            | Self::PopNsh
            | Self::Trunc(_)
            | Self::Recirc(_)
            | Self::Hash { .. }
            | Self::DecTtl(_)
            | Self::Ct(_)
            | Self::CtClear => true,
        }
    }
}

fn op(action: &Action, depth: usize, all: &Arc<[Action]>) -> Result<Op, Error> {
    let nested = |actions: &[Action]| Program::compile_at(actions, depth, all);
    Ok(match action {
        Action::Output(port) => Op::Output(*port),
        Action::LbOutput(bond) => Op::LbOutput(*bond),
        Action::Userspace(userspace) => Op::Userspace(Box::new(userspace.clone())),
        Action::Set(attr) => Op::Set(Box::new(set(attr, None)?)),
        Action::SetMasked(attr, mask) => Op::Set(Box::new(set(attr, Some(mask))?)),
        Action::PushVlan(vlan) => Op::PushVlan { tpid: vlan.tpid.get(), tci: vlan.tci.get() },
        Action::PopVlan => Op::PopVlan,
        Action::Sample { probability, actions } => {
            Op::Sample { probability: *probability, program: nested(actions)? }
        }
        Action::Recirc(id) => Op::Recirc(*id),
        Action::Hash { alg, basis } => Op::Hash { alg: *alg, basis: *basis },
        Action::PushMpls { lse, ethertype } => {
            Op::PushMpls { lse: lse.get(), ethertype: ethertype.get(), l2: true }
        }
        Action::AddMpls { lse, ethertype, flags } => {
            Op::PushMpls { lse: lse.get(), ethertype: ethertype.get(), l2: flags & 1 != 0 }
        }
        Action::PopMpls(ethertype) => Op::PopMpls(ethertype.get()),
        Action::Trunc(len) => Op::Trunc(*len),
        Action::PushEth { src, dst } => Op::PushEth { src: *src, dst: *dst },
        Action::PopEth => Op::PopEth,
        Action::PushNsh(nsh) => Op::PushNsh(nsh_bytes(nsh)?),
        Action::PopNsh => Op::PopNsh,
        Action::Meter(meter) => Op::Meter(*meter),
        Action::Clone(actions) => Op::Clone(nested(actions)?),
        Action::CheckPktLen { len, greater, less_equal } => {
            Op::CheckPktLen { len: *len, greater: nested(greater)?, less_equal: nested(less_equal)? }
        }
        Action::DecTtl(actions) => Op::DecTtl(nested(actions)?),
        Action::CtClear => Op::CtClear,
        Action::Drop(reason) => Op::Drop(*reason),
        Action::Ct(action) => Op::Ct(Box::new(ct(action)?)),
        Action::Psample { .. } => return Err(Error::Unsupported("psample")),
        Action::TunnelPush(_) => return Err(Error::Unsupported("tnl_push")),
        Action::TunnelPop(_) => return Err(Error::Unsupported("tnl_pop")),
        Action::Unknown(..) => return Err(Error::Unsupported("an unknown action")),
    })
}

fn ct(action: &Ct) -> Result<CtAction, Error> {
    if action.helper.is_some() {
        return Err(Error::Unsupported("ct() with a helper"));
    }
    if action.timeout.is_some() {
        return Err(Error::Unsupported("ct() with a timeout policy"));
    }
    let commit = action.commit || action.force;
    if !commit && action.nat.as_ref().is_some_and(|nat| nat.kind.is_some()) {
        tracing::warn!(target: "dpif_netdev", rl = "5,5", "NAT specified without commit.");
    }
    let label = |label: [u8; 16]| u128::from_be_bytes(label_from_odp(label));
    // The event mask is for listeners, which there are none of here.
    Ok(CtAction {
        zone: action.zone.unwrap_or_default(),
        commit,
        force: action.force,
        mark: action.mark,
        label: action.labels.map(|(value, mask)| (label(value), label(mask))),
        nat: action.nat.as_ref().map(Nat::new),
    })
}

fn nsh_bytes(nsh: &NshKey) -> Result<Box<[u8]>, Error> {
    let base = nsh.base.as_ref().ok_or(Error::Unsupported("push_nsh without a base header"))?;
    let metadata = match (&nsh.md1, &nsh.md2) {
        (Some(md1), _) => md1.iter().flat_map(|word| word.get().to_be_bytes()).collect(),
        (None, Some(md2)) => md2.clone(),
        (None, None) => Vec::new(),
    };
    let path = base.path_hdr.get();
    Ok(nsh_header(base.flags, base.ttl, base.mdtype, base.np, path, &metadata).into())
}

/// A mask attribute of the same type as `value` with all bits set.
pub fn all_ones(value: &KeyAttr) -> KeyAttr {
    let ones = vec![0xff; value.payload().len()];
    let mut writer = Writer::new();
    writer.put(value.code(), &ones);
    flow::attr::Attrs::new(&writer.into_bytes())
        .next()
        .and_then(Result::ok)
        .and_then(|attr| KeyAttr::decode(&attr).ok())
        .unwrap_or_else(|| value.clone())
}

/// Bits of the IPv6 label that there are.
const LABEL: u32 = 0xf_ffff;

fn set(value: &KeyAttr, mask: Option<&KeyAttr>) -> Result<Set, Error> {
    use KeyAttr as K;
    let ones;
    let mask = match mask {
        Some(mask) => mask,
        None => {
            ones = all_ones(value);
            &ones
        }
    };
    Ok(match (value, mask) {
        (K::Priority(value), K::Priority(mask)) => Set::Priority(*value, *mask),
        (K::SkbMark(value), K::SkbMark(mask)) => Set::Mark(*value, *mask),
        (K::DpHash(value), K::DpHash(mask)) => Set::DpHash(*value, *mask),
        (K::Ethernet(v), K::Ethernet(m)) => Set::Ethernet { src: (v.src, m.src), dst: (v.dst, m.dst) },
        (K::Vlan(v), K::Vlan(m)) => Set::Vlan { tci: v.get(), mask: m.get() },
        (K::Mpls(v), K::Mpls(m)) => match (v.first(), m.first()) {
            (Some(v), Some(m)) => Set::Mpls { lse: v.get(), mask: m.get() },
            _ => return Err(Error::Unsupported("set(mpls()) without a label")),
        },
        (K::Ipv4(v), K::Ipv4(m)) => Set::Ipv4(SetIpv4 {
            src: (v.src.get(), m.src.get()),
            dst: (v.dst.get(), m.dst.get()),
            tos: (v.tos, m.tos),
            ttl: (v.ttl, m.ttl),
        }),
        (K::Ipv6(v), K::Ipv6(m)) => Set::Ipv6(SetIpv6 {
            src: (v.src, m.src),
            dst: (v.dst, m.dst),
            label: (v.label.get(), m.label.get() & LABEL),
            tclass: (v.tclass, m.tclass),
            hlimit: (v.hlimit, m.hlimit),
        }),
        (K::Tcp(v), K::Tcp(m)) => ports(6, v, m),
        (K::Udp(v), K::Udp(m)) => ports(17, v, m),
        (K::Sctp(v), K::Sctp(m)) => ports(132, v, m),
        (K::Icmp(v), K::Icmp(m)) | (K::Icmpv6(v), K::Icmpv6(m)) => {
            Set::Icmp { kind: (v.kind, m.kind), code: (v.code, m.code) }
        }
        (K::Arp(v), K::Arp(m)) => Set::Arp(SetArp {
            op: (v.op.get(), m.op.get()),
            spa: (v.sip.get(), m.sip.get()),
            tpa: (v.tip.get(), m.tip.get()),
            sha: (v.sha, m.sha),
            tha: (v.tha, m.tha),
        }),
        (K::Nd(v), K::Nd(m)) => Set::Nd(SetNd {
            target: (v.target, m.target),
            sll: (v.sll, m.sll),
            tll: (v.tll, m.tll),
            ..SetNd::default()
        }),
        (K::NdExt(v), K::NdExt(m)) => Set::NdExt {
            reserved: (v.reserved.get(), m.reserved.get()),
            option: (v.options_type, m.options_type),
        },
        (K::Tunnel(_), _) => Set::Tunnel(Key2(Box::new(tunnel(value)?))),
        _ => return Err(Error::Unsupported("set() of this field")),
    })
}

fn ports(protocol: u8, value: &flow::odp::PortsKey, mask: &flow::odp::PortsKey) -> Set {
    Set::Ports { protocol, src: (value.src.get(), mask.src.get()), dst: (value.dst.get(), mask.dst.get()) }
}

/// The key that a tunnel attribute makes.
fn tunnel(value: &KeyAttr) -> Result<Key, Error> {
    let mut writer = Writer::new();
    value.encode(&mut writer);
    let raw = RawKey(writer.into_bytes().into());
    key_to_flow(&raw).map(|(key, _)| key).map_err(|error| Error::Invalid(error.to_string()))
}
