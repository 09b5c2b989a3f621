//! What a flow's actions do to a packet, as far as sFlow tells it: the tunnel it leaves by, and its labels.
//!
//! Told only for packets with one output, and of one tunnel; a packet that is encapsulated twice, or decapsulated, is
//! not told of.

use flow::action::{Action, TunnelPush, push};
use flow::id::DpPort;
use flow::key::{Key, MAX_MPLS, Tunnel};
use flow::odp::{KeyAttr, TunnelAttr};
use flow::proto::ethertype;
use flow::stack::MPLS_BOS;
use zerocopy::FromZeros;

/// What actions do to a packet.
#[derive(Clone)]
pub struct Outputs {
    /// The port of the last output.
    pub port: Option<DpPort>,
    /// Headers that are put in front.
    encaps: u32,
    tunnel: Tunnel,
    /// IP protocol of the tunnel, 0 for unknown.
    tunnel_proto: u8,
    tunnel_error: bool,
    /// Label stack entries, innermost first.
    labels: Vec<u32>,
    labels_error: bool,
}

/// An IPv4 tunnel as a flow record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutTunnel {
    pub proto: u8,
    pub src: u32,
    pub dst: u32,
    pub src_port: u16,
    pub dst_port: u16,
    pub tos: u8,
    /// 0 for none.
    pub id: u64,
}

impl Outputs {
    /// What `actions` do to a packet of `key`.
    pub fn of(key: &Key, actions: &[Action]) -> Self {
        let mut outputs = Self {
            port: None,
            encaps: 0,
            tunnel: Tunnel::new_zeroed(),
            tunnel_proto: 0,
            tunnel_error: false,
            labels: Vec::new(),
            labels_error: false,
        };
        if !actions.is_empty() {
            outputs.seed_labels(key);
            outputs.read(actions);
        }
        outputs
    }

    /// The tunnel that the packet leaves by; its protocol, where it is unknown, is what `proto_of` says of the port.
    pub fn tunnel(&self, proto_of: impl FnOnce(DpPort) -> u8) -> Option<OutTunnel> {
        if self.encaps != 1 || self.tunnel_error {
            return None;
        }
        let t = &self.tunnel;
        let proto = match (self.tunnel_proto, self.port) {
            (0, Some(port)) => proto_of(port),
            (proto, _) => proto,
        };
        Some(OutTunnel {
            proto,
            src: t.ip_src.get(),
            dst: t.ip_dst.get(),
            src_port: t.tp_src.get(),
            dst_port: t.tp_dst.get(),
            tos: t.tos,
            id: t.id.get(),
        })
    }

    /// The label stack that the packet leaves with, outermost entry first.
    pub fn labels(&self) -> Option<Vec<u32>> {
        if self.labels.is_empty() || self.labels_error {
            return None;
        }
        let mut labels: Vec<_> = self.labels.iter().rev().map(|lse| lse & !MPLS_BOS).collect();
        if let Some(last) = labels.last_mut() {
            *last |= MPLS_BOS;
        }
        Some(labels)
    }

    fn seed_labels(&mut self, key: &Key) {
        if ethertype::is_mpls(key.dl_type.get()) {
            let bottom = key.mpls_lse[..MAX_MPLS].iter().position(|lse| lse.get() & MPLS_BOS != 0);
            let depth = bottom.map_or(MAX_MPLS, |place| place + 1);
            self.labels = key.mpls_lse[..depth].iter().rev().map(|lse| lse.get()).collect();
        }
    }

    #[expect(
        clippy::match_same_arms,
        reason = "actions that do nothing here are named, so that a new one is seen"
    )]
    fn read(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Output(port) => self.port = Some(*port),
                // Whether the tunnel that the packet came by counts is not known.
                Action::TunnelPop(_) => self.tunnel_error = true,
                Action::TunnelPush(push) => {
                    if self.encap() {
                        self.read_push(push);
                    }
                }
                Action::Set(attr) => self.read_set(attr),
                Action::PushMpls { lse, .. } if self.labels.len() < MAX_MPLS => self.labels.push(lse.get()),
                Action::PushMpls { .. } => self.labels_error = true,
                Action::PopMpls(_) => self.labels_error |= self.labels.pop().is_none(),
                Action::Clone(actions) => self.read(actions),
                Action::Userspace(_) | Action::SetMasked(..) | Action::PushVlan(_) | Action::PopVlan => {}
                Action::Sample { .. } | Action::Recirc(_) | Action::Hash { .. } | Action::Ct(_) => {}
                Action::Trunc(_) | Action::PushEth { .. } | Action::PopEth | Action::CtClear => {}
                Action::PushNsh(_) | Action::PopNsh | Action::Meter(_) | Action::CheckPktLen { .. } => {}
                Action::AddMpls { .. } | Action::DecTtl(_) | Action::Drop(_) | Action::Psample { .. } => {}
                Action::LbOutput(_) | Action::Unknown(..) => {}
            }
        }
    }

    /// Counts a header put in front; only of one there is something to tell.
    fn encap(&mut self) -> bool {
        self.encaps += 1;
        self.tunnel_error |= self.encaps > 1;
        self.encaps == 1
    }

    fn read_set(&mut self, attr: &KeyAttr) {
        match attr {
            KeyAttr::Tunnel(attrs) if self.encap() => {
                attrs.iter().for_each(|attr| self.read_tunnel_attr(attr));
            }
            KeyAttr::Mpls(labels) if labels.len() > MAX_MPLS => self.labels_error = true,
            KeyAttr::Mpls(labels) => self.labels = labels.iter().rev().map(|lse| lse.get()).collect(),
            KeyAttr::Ipv4(ip) if self.encaps == 1 => {
                let t = &mut self.tunnel;
                replace(&mut t.ip_src, ip.src);
                replace(&mut t.ip_dst, ip.dst);
                replace(&mut self.tunnel_proto, ip.proto);
                replace(&mut t.tos, ip.tos);
                replace(&mut t.ttl, ip.ttl);
            }
            KeyAttr::Tcp(ports) | KeyAttr::Udp(ports) | KeyAttr::Sctp(ports) if self.encaps == 1 => {
                replace(&mut self.tunnel.tp_src, ports.src);
                replace(&mut self.tunnel.tp_dst, ports.dst);
            }
            _ => {}
        }
    }

    fn read_tunnel_attr(&mut self, attr: &TunnelAttr) {
        let t = &mut self.tunnel;
        match attr {
            TunnelAttr::Id(id) => t.id = *id,
            TunnelAttr::Ipv4Src(ip) => t.ip_src = *ip,
            TunnelAttr::Ipv4Dst(ip) => t.ip_dst = *ip,
            TunnelAttr::Tos(tos) => t.tos = *tos,
            TunnelAttr::Ttl(ttl) => t.ttl = *ttl,
            TunnelAttr::TpSrc(port) => t.tp_src = *port,
            TunnelAttr::TpDst(port) => t.tp_dst = *port,
            _ => {}
        }
    }

    /// Reads an IPv4 header and what follows it.
    fn read_push(&mut self, push: &TunnelPush) {
        self.port = Some(push.out_port);
        let word = |at: usize| {
            let bytes = push.header.get(at..at + 4).and_then(|bytes| bytes.first_chunk().copied());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let byte = |at: usize| push.header.get(at).copied().unwrap_or_default();
        let (ip, l4) = (14, 34);
        let t = &mut self.tunnel;
        (t.tos, t.ttl, self.tunnel_proto) = (byte(ip + 1), byte(ip + 8), byte(ip + 9));
        (t.ip_src, t.ip_dst) = (word(ip + 12).into(), word(ip + 16).into());
        match push.tnl_type {
            push::vport::VXLAN | push::vport::GENEVE => {
                let ports = word(l4);
                (t.tp_src, t.tp_dst) = (((ports >> 16) as u16).into(), (ports as u16).into());
                t.id = u64::from(word(l4 + 8 + 4) >> 8).into();
            }
            push::vport::GRE => {
                let flags = (word(l4) >> 16) as u16;
                if flags & push::gre::KEY != 0 {
                    let at = if flags & push::gre::CSUM != 0 { l4 + 8 } else { l4 + 4 };
                    t.id = u64::from(word(at)).into();
                }
            }
            _ => {}
        }
    }
}

/// Replaces what is set: zero means "not set".
fn replace<T: PartialEq + Default>(old: &mut T, new: T) {
    if new != T::default() {
        *old = new;
    }
}
