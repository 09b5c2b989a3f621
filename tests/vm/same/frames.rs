//! Random frames, and flows for them that every place can have.
//!
//! What rules cannot match or set is left out: labels of IPv6, addresses in ARP, ports of SCTP, layer 4 of fragments, copies that
//! change, headers behind two tags, where the kernel's own rules would do harm. So are tunnels, whose outer ports are whoever's hash
//! it is, and recirculation, which rules of this kernel do not share.

use super::Dice;

/// How source addresses begin. The rest is the flow's number.
pub const SOURCE: &str = "02:5a:00:00:";

/// What is in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Udp,
    Tcp,
    Sctp,
    Icmp,
    /// Of a protocol without ports.
    Plain,
    /// Not the first part of a datagram.
    Later,
    /// The first one, and not the last.
    First,
    Arp,
    /// A UDP datagram behind a label.
    Mpls,
    /// An EtherType that nobody looks into.
    Other,
}

#[derive(Clone, Debug)]
pub struct Frame {
    number: u16,
    kind: Kind,
    v6: bool,
    dst: [u8; 6],
    /// TPID and TCI of tags, the outer one first.
    tags: Vec<(u16, u16)>,
    /// The last bytes of IP addresses.
    addrs: [u8; 2],
    tos: u8,
    ttl: u8,
    ports: [u16; 2],
    tcp_flags: u8,
    /// Label, traffic class, TTL.
    label: (u32, u8, u8),
    op: u8,
    /// Words of options in an IPv4 header.
    options: u8,
    no_sum: bool,
    payload: u8,
}

/// The sum of the internet checksum.
fn sum(data: &[u8]) -> u32 {
    data.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The checksum of SCTP, CRC-32C, as it stands in the header.
fn crc32c(data: &[u8]) -> [u8; 4] {
    let step = |crc: u32, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0x82f6_3b78 };
    let crc = data.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step));
    (!crc).to_le_bytes()
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl Frame {
    pub fn random(number: u16, dice: &mut Dice) -> Self {
        use Kind::{Arp, First, Icmp, Later, Mpls, Other, Plain, Sctp, Tcp, Udp};
        let kinds = [
            &Udp, &Udp, &Udp, &Udp, &Tcp, &Tcp, &Tcp, &Icmp, &Icmp, &Sctp, &Plain, &Later, &First, &Arp,
            &Mpls, &Mpls, &Other,
        ];
        let kind = *dice.one(&kinds);
        let v6 = matches!(kind, Udp | Tcp | Icmp | Sctp) && dice.once_in(3);
        let inner = (0x8100, (dice.below(8) << 13 | (dice.below(4094) + 1)) as u16);
        let tags = match dice.below(12) {
            0..8 => Vec::new(),
            8..11 => vec![inner],
            _ => vec![(0x88a8, (dice.below(8) << 13 | (dice.below(4094) + 1)) as u16), inner],
        };
        let byte = |dice: &mut Dice| dice.below(254) as u8 + 1;
        Self {
            number,
            kind,
            v6,
            dst: [2, 0xdd, 0, byte(dice), 0, byte(dice)],
            tags: if kind == Mpls { Vec::new() } else { tags },
            addrs: [byte(dice), byte(dice)],
            tos: dice.below(256) as u8,
            ttl: *dice.one(&[&64, &64, &64, &255, &128, &2]),
            ports: [dice.below(65535) as u16 + 1, dice.below(65535) as u16 + 1],
            tcp_flags: *dice.one(&[&2, &0x12, &0x10, &0x18, &0x11, &4]),
            label: (dice.below(1 << 20) as u32, dice.below(8) as u8, *dice.one(&[&64, &255, &7])),
            op: dice.below(2) as u8 + 1,
            options: if dice.once_in(8) { dice.below(4) as u8 } else { 0 },
            no_sum: !v6 && dice.once_in(6),
            payload: 40 + dice.below(120) as u8,
        }
    }

    /// A frame that differs from this one in something.
    pub fn other(&self, dice: &mut Dice) -> Self {
        let mut other = self.clone();
        let bit = |dice: &mut Dice| 1u8 << dice.below(8);
        match dice.below(10) {
            0 => other.dst[5] ^= bit(dice),
            1 => other.addrs[0] ^= bit(dice),
            2 => other.addrs[1] ^= bit(dice),
            3 => other.ttl = self.other_ttl(),
            4 => other.tos ^= bit(dice),
            5 => other.ports[0] ^= u16::from(bit(dice)),
            6 => other.ports[1] ^= 0x100,
            7 => other.tcp_flags ^= bit(dice) & 0x3f,
            8 => match other.tags.first_mut() {
                Some(tag) => tag.1 ^= u16::from(bit(dice)),
                None if other.kind != Kind::Mpls => other.tags = vec![(0x8100, 0x2007)],
                None => other.label.0 ^= 1,
            },
            _ => other.op ^= 3,
        }
        other
    }

    /// How often both this frame and [`Frame::other`] can be routed on.
    fn hops(&self) -> u8 {
        self.ttl.min(self.other_ttl()) - 1
    }

    fn other_ttl(&self) -> u8 {
        self.ttl.wrapping_add(3).max(1)
    }

    fn src(&self) -> [u8; 6] {
        let [high, low] = self.number.to_be_bytes();
        [2, 0x5a, 0, 0, high, low]
    }

    fn ip4(&self, side: usize) -> [u8; 4] {
        [10, 7 + side as u8, 0, self.addrs[side]]
    }

    fn ip6(&self, side: usize) -> [u8; 16] {
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&[0xfd, 7, 0, side as u8]);
        addr[15] = self.addrs[side];
        addr
    }

    fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Tcp => 6,
            Kind::Icmp if self.v6 => 58,
            Kind::Icmp => 1,
            Kind::Sctp => 132,
            Kind::Plain => 89,
            _ => 17,
        }
    }

    /// The sum that IP addresses, protocol and length add to what layer 4 sums up.
    fn pseudo(&self, len: usize) -> u32 {
        let addrs = if self.v6 {
            sum(&self.ip6(0)) + sum(&self.ip6(1))
        } else {
            sum(&self.ip4(0)) + sum(&self.ip4(1))
        };
        addrs + u32::from(self.protocol()) + len as u32
    }

    fn layer4(&self, payload: &[u8]) -> Vec<u8> {
        let [src, dst] = self.ports.map(u16::to_be_bytes);
        let mut out = [src, dst].concat();
        let at = match self.kind {
            Kind::Tcp => {
                out.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x50, self.tcp_flags, 0x10, 0, 0, 0, 0, 0]);
                Some(16)
            }
            Kind::Sctp => {
                // One chunk of data.
                out.extend([0; 8]);
                let len = (16 + payload.len()) as u16;
                out.extend([0, 3, (len >> 8) as u8, len as u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
                None
            }
            Kind::Icmp => {
                out = vec![if self.v6 { 127 } else { 7 } + self.op, 0, 0, 0, src[0], src[1], dst[0], dst[1]];
                Some(2)
            }
            Kind::Plain | Kind::Later => {
                out.clear();
                None
            }
            _ => {
                // A first fragment is of more than there is.
                let more = if self.kind == Kind::First { 800 } else { 0 };
                let len = (8 + payload.len() + more) as u16;
                out.extend([(len >> 8) as u8, len as u8, 0, 0]);
                (!self.no_sum).then_some(6)
            }
        };
        out.extend(payload);
        if let Some(at) = at {
            let pseudo = if self.kind == Kind::Icmp && !self.v6 { 0 } else { self.pseudo(out.len()) };
            let check = match fold(pseudo + sum(&out)) {
                // Of UDP this is no sum at all.
                [0, 0] => [0xff; 2],
                check => check,
            };
            out[at..at + 2].copy_from_slice(&check);
        } else if self.kind == Kind::Sctp {
            let check = crc32c(&out);
            out[8..12].copy_from_slice(&check);
        }
        out
    }

    fn layer3(&self, payload: &[u8]) -> Vec<u8> {
        let data = self.layer4(payload);
        if self.v6 {
            let [high, low] = (data.len() as u16).to_be_bytes();
            let head = [0x60 | self.tos >> 4, self.tos << 4, 0, 0, high, low, self.protocol(), self.ttl];
            return [&head[..], &self.ip6(0), &self.ip6(1), &data].concat();
        }
        let options = vec![1; usize::from(self.options) * 4];
        let [high, low] = ((20 + options.len() + data.len()) as u16).to_be_bytes();
        let [id_high, id_low] = self.number.to_be_bytes();
        let fragment = match self.kind {
            Kind::First => [0x20, 0],
            Kind::Later => [0, 100],
            _ => [0x40, 0],
        };
        let version = 0x45 + self.options;
        let mut head = vec![version, self.tos, high, low, id_high, id_low];
        head.extend([fragment[0], fragment[1], self.ttl, self.protocol(), 0, 0]);
        head.extend([self.ip4(0), self.ip4(1)].concat());
        head.extend(options);
        let check = fold(sum(&head));
        head[10..12].copy_from_slice(&check);
        [head, data].concat()
    }

    /// The frame, with a mark in it.
    pub fn bytes(&self, mark: &str) -> Vec<u8> {
        let mut payload = mark.as_bytes().to_vec();
        payload.resize(usize::from(self.payload), b'.');
        let mut out = [self.dst, self.src()].concat();
        for (tpid, tci) in &self.tags {
            out.extend([tpid.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        match self.kind {
            Kind::Arp => {
                out.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, self.op]);
                out.extend([&self.src()[..], &self.ip4(0), &[0; 6], &self.ip4(1)].concat());
                out.extend(payload);
            }
            Kind::Other => {
                out.extend([0x88, 0xb5]);
                out.extend(payload);
            }
            Kind::Mpls => {
                let (label, class, ttl) = self.label;
                let entry = label << 12 | u32::from(class) << 9 | 1 << 8 | u32::from(ttl);
                out.extend([0x88, 0x47]);
                out.extend(entry.to_be_bytes());
                out.extend(self.layer3(&payload));
            }
            _ => {
                out.extend(if self.v6 { [0x86, 0xdd] } else { [8, 0] });
                out.extend(self.layer3(&payload));
            }
        }
        out
    }

    fn is_ip(&self) -> bool {
        !matches!(self.kind, Kind::Arp | Kind::Other | Kind::Mpls)
    }

    fn is_part(&self) -> bool {
        matches!(self.kind, Kind::Later | Kind::First)
    }

    /// A flow for this frame: what it matches, what it does.
    pub fn flow(&self, dice: &mut Dice) -> (String, String) {
        // How far up the flow looks.
        let layer = if dice.once_in(6) { 2 } else { 3 + dice.below(2) };
        let mut terms = vec![format!("in_port=1,dl_src={}", text(self.src()))];
        self.match_l2(dice, &mut terms);
        let tagged = !self.tags.is_empty() && terms.iter().any(|term| term.starts_with("dl_vlan="));
        if layer > 2 {
            self.match_l3(dice, layer, &mut terms);
        }
        let mut changes: Vec<_> =
            (0..dice.below(4)).filter_map(|_| self.change(dice, layer, tagged)).collect();
        // One hop more, and the packet would go to a controller.
        let mut hops = self.hops();
        changes.retain(|change| {
            let hop = u8::from(change == "dec_ttl");
            let fits = hop <= hops;
            hops -= if fits { hop } else { 0 };
            fits
        });
        // The kernel's datapath pushes no label in front of a tag.
        let labels = layer > 2 && self.is_ip() && terms.iter().any(|term| term == "vlan_tci=0");
        (terms.join(","), self.actions(dice, layer, (tagged, labels), changes))
    }

    fn match_l2(&self, dice: &mut Dice, terms: &mut Vec<String>) {
        match dice.below(4) {
            0 => terms.push(format!("dl_dst={}", text(self.dst))),
            1 => terms.push("dl_dst=02:dd:00:00:00:00/ff:ff:00:00:00:00".to_owned()),
            _ => {}
        }
        match self.tags.first() {
            Some((_, tci)) => {
                if !dice.once_in(4) {
                    terms.push(format!("dl_vlan={}", tci & 0xfff));
                    terms.extend(dice.once_in(2).then(|| format!("dl_vlan_pcp={}", tci >> 13)));
                }
            }
            None => terms.extend(dice.once_in(2).then(|| "vlan_tci=0".to_owned())),
        }
    }

    fn match_l3(&self, dice: &mut Dice, layer: u64, terms: &mut Vec<String>) {
        let mut some = |term: String| terms.extend(dice.once_in(3).then_some(term));
        match self.kind {
            Kind::Arp => {
                let [a, b, c, d] = self.ip4(1);
                some(format!("arp_op={}", self.op));
                some(format!("arp_tpa={a}.{b}.{c}.{d}"));
                some(format!("arp_sha={}", text(self.src())));
                terms.insert(0, "arp".to_owned());
            }
            Kind::Other => terms.insert(0, "dl_type=0x88b5".to_owned()),
            Kind::Mpls => {
                some(format!("mpls_label={}", self.label.0));
                some(format!("mpls_tc={}", self.label.1));
                some("mpls_bos=1".to_owned());
                terms.insert(0, "mpls".to_owned());
            }
            _ => self.match_ip(dice, layer, terms),
        }
    }

    fn match_ip(&self, dice: &mut Dice, layer: u64, terms: &mut Vec<String>) {
        let name = match (self.kind, layer) {
            (Kind::Udp | Kind::First | Kind::Later, 4) => "udp",
            (Kind::Tcp, 4) => "tcp",
            (Kind::Sctp, 4) => "sctp",
            (Kind::Icmp, 4) => "icmp",
            _ => "ip",
        };
        let six = match (self.v6, name) {
            (false, _) => "",
            (true, "ip") => "v6",
            (true, _) => "6",
        };
        let mut some = |term: String| terms.extend(dice.once_in(4).then_some(term));
        for (side, v4, v6) in [(0, "nw_src", "ipv6_src"), (1, "nw_dst", "ipv6_dst")] {
            let [a, b, c, d] = self.ip4(side);
            some(match self.v6 {
                true => format!("{v6}={}", std::net::Ipv6Addr::from(self.ip6(side))),
                false => format!("{v4}={a}.{b}.{c}.{d}"),
            });
            some(match self.v6 {
                true => format!("{v6}=fd07::/24"),
                false => format!("{v4}={a}.{b}.0.0/16"),
            });
        }
        some(format!("ip_dscp={}", self.tos >> 2));
        some(format!("nw_ttl={}", self.ttl));
        if name == "ip" {
            some(format!("nw_proto={}", self.protocol()));
        }
        if matches!(name, "udp" | "tcp" | "sctp") && !self.is_part() {
            some(format!("tp_src={}", self.ports[0]));
            some(format!("tp_dst={:#x}/0xff00", self.ports[1] & 0xff00));
        }
        if name == "tcp" {
            some(format!("tcp_flags={:#x}/{:#x}", self.tcp_flags & 0x17, 0x17));
        }
        if name == "icmp" {
            let (name, base) = if self.v6 { ("icmpv6_type", 127) } else { ("icmp_type", 7) };
            some(format!("{name}={}", base + self.op));
        }
        if !self.v6 {
            some(format!(
                "ip_frag={}",
                match self.kind {
                    Kind::First => "first",
                    Kind::Later => "later",
                    _ => "no",
                }
            ));
        }
        // The last term about a field is the one that counts: not two.
        let mut seen = std::collections::BTreeSet::new();
        terms.retain(|term| seen.insert(term.split('=').next().unwrap_or_default().to_owned()));
        terms.insert(0, format!("{name}{six}"));
    }

    /// A change that a flow that looks up to `layer` may make.
    fn change(&self, dice: &mut Dice, layer: u64, tagged: bool) -> Option<String> {
        let n = dice.below(200) + 1;
        let l3 = layer > 2 && self.is_ip() && self.tags.len() < 2;
        // Addresses are part of sums of layer 4, which only whole datagrams have.
        let addrs = l3 && !self.is_part();
        let ports = addrs && layer > 3 && matches!(self.kind, Kind::Udp | Kind::Tcp);
        Some(match dice.below(10) {
            0 => format!("mod_dl_src:02:00:00:00:01:{n:02x}"),
            1 => format!("mod_dl_dst:02:00:00:00:02:{n:02x}"),
            2 => format!("set_field:06:00:00:00:00:{n:02x}/0e:00:00:00:00:ff->eth_dst"),
            3 if l3 => "dec_ttl".to_owned(),
            4 if l3 => format!("mod_nw_tos:{}", n / 4 * 4),
            5 if addrs && self.v6 => format!("set_field:fd0a::{n:x}->ipv6_src"),
            5 if addrs => format!("mod_nw_src:10.2.0.{n}"),
            6 if addrs && self.v6 => format!("set_field:fd0b::{n:x}->ipv6_dst"),
            6 if addrs => format!("set_field:10.3.{n}.0/255.255.255.0->ip_dst"),
            7 if ports => format!("mod_tp_src:{}", 3000 + n),
            8 if ports => format!("mod_tp_dst:{}", 4000 + n),
            7 | 8 if tagged => format!("mod_vlan_pcp:{}", n % 8),
            9 if tagged => format!("set_field:{}->vlan_vid", 4096 + n),
            9 if self.kind == Kind::Mpls && layer > 2 => format!("set_mpls_label:{}", 1000 + n),
            8 if self.kind == Kind::Mpls && layer > 2 => "dec_mpls_ttl".to_owned(),
            _ => return None,
        })
    }

    fn actions(
        &self,
        dice: &mut Dice,
        layer: u64,
        (tagged, labels): (bool, bool),
        mut changes: Vec<String>,
    ) -> String {
        if dice.once_in(20) {
            return "drop".to_owned();
        }
        let n = dice.below(200) + 1;
        // What changes which headers there are comes last.
        match dice.below(6) {
            0 if tagged => changes.push("strip_vlan".to_owned()),
            0 | 1 if self.tags.len() < 2 && self.kind != Kind::Mpls => {
                changes.push(format!("push_vlan:0x8100,set_field:{}->vlan_vid", 4096 + n));
            }
            2 | 3 if labels && !self.is_part() => {
                changes.push(format!("push_mpls:0x8847,set_field:{}->mpls_label", 2000 + n));
            }
            0..3 if self.kind == Kind::Mpls && layer > 2 => changes.push("pop_mpls:0x800".to_owned()),
            _ => {}
        }
        let ports = [
            "output:2",
            "output:3",
            "output:4",
            "in_port",
            "output:2,output:3",
            "output:4,output:2,output:3",
        ];
        changes.push(dice.one(&ports).to_owned());
        // A copy of what is there somewhere on the way.
        if dice.once_in(3) {
            let at = dice.below(changes.len() as u64) as usize;
            changes.insert(at, dice.one(&["output:2", "output:4"]).to_owned());
        }
        if dice.once_in(10) {
            changes.insert(0, "meter:1".to_owned());
        }
        changes.join(",")
    }
}
