//! Text of datapath flows as attributes: what [`super::format`] prints, and shorter forms.
//!
//! What an attribute's text does not mention is left to chance: its mask is zero.

use super::attrs::{KeyAttr, NshBase, NshKey, code};
use super::format::{ct_state_name, tunnel_flag_name};
use super::rows::{self, Codec, Len, Part, Row, Shape};
use super::tunnel::{ErspanOpts, TunnelAttr};
use super::{PortNames, RawKey, RawMask};
use crate::attr::{MAX_DEPTH, Writer};
use crate::id::Ufid;
use crate::key::{VLAN_CFI, tnl_flags};
use crate::text::{Scan, tcp_flag};
use thiserror::Error;
use zerocopy::big_endian::{U16, U32, U64};

/// Text that is no flow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("syntax error at {rest}")]
pub struct ParseFlowError {
    /// The text from where it could not be read.
    pub rest: String,
    /// It could be read, but no attribute can hold it.
    pub too_long: bool,
}

/// Reads a flow. A UFID in front of it is skipped.
pub fn flow(text: &str, names: &dyn PortNames) -> Result<(RawKey, RawMask), ParseFlowError> {
    let (mut key, mut mask) = (Writer::new(), Writer::new());
    let mut scan = Scan::new(text);
    loop {
        scan.skip_delimiters();
        if scan.is_empty() {
            return Ok((RawKey(key.into_bytes().into()), RawMask(mask.into_bytes().into())));
        }
        let error = ParseFlowError { rest: scan.rest().to_owned(), too_long: false };
        if scan.rest().starts_with("ufid:") {
            ufid(&mut scan).ok_or_else(|| error.clone())?;
            scan.eat(" ");
            scan.skip_delimiters();
        }
        let mut parser = Parser { names, key: &mut key, mask: &mut mask };
        parser.attr(&mut scan, 0).ok_or_else(|| error.clone())?;
        let long = |writer: &Writer| writer.is_cut() || writer.len() > usize::from(u16::MAX);
        if long(&key) || long(&mask) {
            return Err(ParseFlowError { too_long: true, ..error });
        }
    }
}

/// Reads `ufid:` and the number.
pub fn ufid(scan: &mut Scan<'_>) -> Option<Ufid> {
    let mut ahead = *scan;
    ahead.want("ufid:")?;
    let text = ahead.take_while(|c| c.is_ascii_hexdigit() || c == '-');
    let groups: Vec<_> = text.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] {
        return None;
    }
    let number = u128::from_str_radix(&text.replace('-', ""), 16).ok()?;
    *scan = ahead;
    Some(Ufid(number.to_be_bytes()))
}

/// Reads one attribute and its mask, as within `set(…)`.
pub(crate) fn attribute(scan: &mut Scan<'_>, names: &dyn PortNames) -> Option<(Writer, Writer)> {
    let (mut key, mut mask) = (Writer::new(), Writer::new());
    Parser { names, key: &mut key, mask: &mut mask }.attr(scan, 0)?;
    Some((key, mask))
}

struct Parser<'a> {
    names: &'a dyn PortNames,
    key: &'a mut Writer,
    mask: &'a mut Writer,
}

/// A value, and its mask.
type Pair<T> = (T, T);

/// `VALUE` or `VALUE/MASK`, where a missing mask is `full`.
fn masked<'a, T: Copy>(
    scan: &mut Scan<'a>,
    full: T,
    read: impl Fn(&mut Scan<'a>) -> Option<T>,
) -> Option<Pair<T>> {
    let value = read(scan)?;
    let mut ahead = *scan;
    if ahead.eat("/")
        && let Some(mask) = read(&mut ahead)
    {
        *scan = ahead;
        return Some((value, mask));
    }
    Some((value, full))
}

fn byte(scan: &mut Scan<'_>) -> Option<Pair<u8>> {
    masked(scan, u8::MAX, Scan::fit::<u8>)
}

fn short(scan: &mut Scan<'_>) -> Option<Pair<u16>> {
    masked(scan, u16::MAX, Scan::fit::<u16>)
}

fn word(scan: &mut Scan<'_>) -> Option<Pair<u32>> {
    masked(scan, u32::MAX, Scan::fit::<u32>)
}

/// Runs `field` for each element up to the closing parenthesis; it says whether it knows the element.
fn elements(scan: &mut Scan<'_>, mut field: impl FnMut(&mut Scan<'_>) -> Option<bool>) -> Option<()> {
    loop {
        let known = field(scan)?;
        if scan.eat(")") {
            return Some(());
        }
        if !known {
            return None;
        }
        scan.want(",")?;
    }
}

fn scalar(codec: Codec, scan: &mut Scan<'_>) -> Option<Pair<Vec<u8>>> {
    fn bytes<const N: usize>(pair: Pair<[u8; N]>) -> Pair<Vec<u8>> {
        (pair.0.to_vec(), pair.1.to_vec())
    }
    Some(match codec {
        Codec::Eth => bytes(masked(scan, [0xff; 6], Scan::eth)?),
        Codec::Ipv4 => bytes(masked(scan, [0xff; 4], Scan::ipv4)?),
        Codec::Ipv6 => bytes(masked(scan, [0xff; 16], Scan::ipv6)?),
        Codec::Label => {
            let label = |scan: &mut Scan<'_>| scan.fit::<u32>().filter(|&label| label <= 0xf_ffff);
            let (value, mask) = masked(scan, 0xf_ffff, label)?;
            bytes((value.to_be_bytes(), mask.to_be_bytes()))
        }
        Codec::Hex32 => {
            let (value, mask) = word(scan)?;
            bytes((value.to_be_bytes(), mask.to_be_bytes()))
        }
        Codec::Hex8 | Codec::Dec8 => {
            let (value, mask) = byte(scan)?;
            bytes(([value], [mask]))
        }
        Codec::Dec16 => {
            let (value, mask) = short(scan)?;
            bytes((value.to_be_bytes(), mask.to_be_bytes()))
        }
        Codec::Frag => {
            let kind = match scan.take_while(|c| c.is_ascii_lowercase()) {
                "no" => 0,
                "first" => 1,
                "later" => 2,
                _ => return None,
            };
            bytes(([kind], [u8::MAX]))
        }
    })
}

/// Reads `value[/mask]` into `bits` of a word, from bit `shift` on.
fn bit_field(scan: &mut Scan<'_>, pair: &mut Pair<u32>, bits: u32, shift: u32) -> Option<()> {
    let full = (1 << bits) - 1;
    let (value, mask) = masked(scan, full, |scan| scan.fit::<u32>().filter(|&value| value <= full))?;
    pair.0 = pair.0 & !(full << shift) | value << shift;
    pair.1 = pair.1 & !(full << shift) | mask << shift;
    Some(())
}

impl Parser<'_> {
    fn put(&mut self, code: u16, (key, mask): (&[u8], &[u8])) {
        self.key.put(code, key);
        self.mask.put(code, mask);
    }

    fn attr(&mut self, scan: &mut Scan<'_>, depth: usize) -> Option<()> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut ahead = *scan;
        let name = ahead.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        ahead.want("(")?;
        let row = rows::ROWS.iter().find(|row| row.name == name)?;
        self.shape(row, &mut ahead, depth)?;
        *scan = ahead;
        Some(())
    }

    fn shape(&mut self, row: &Row, scan: &mut Scan<'_>, depth: usize) -> Option<()> {
        let code = row.code;
        let words = |pair: Pair<u32>| (pair.0.to_ne_bytes(), pair.1.to_ne_bytes());
        match row.shape {
            Shape::Parts(parts) => return self.parts(row, parts, scan),
            Shape::Tunnel => return self.tunnel(scan),
            Shape::Encap => return self.encap(scan, depth),
            Shape::Vlan => return self.vlan(scan),
            Shape::Mpls => return self.mpls(scan),
            Shape::PacketType => return self.packet_type(scan),
            Shape::Nsh => return self.nsh(scan),
            Shape::Opaque => return None,
            Shape::Word | Shape::CtMark => {
                let (key, mask) = words(word(scan)?);
                self.put(code, (&key, &mask));
            }
            Shape::ExactWord => {
                let key = scan.fit::<u32>()?;
                self.put(code, (&key.to_ne_bytes(), &[0xff; 4]));
            }
            Shape::InPort => {
                let (key, mask) = words(self.port(scan)?);
                self.put(code, (&key, &mask));
            }
            Shape::CtState => {
                let (key, mask) = words(scan.flags(0xff, ct_state_name)?);
                self.put(code, (&key, &mask));
            }
            Shape::CtZone => {
                let (key, mask) = short(scan)?;
                self.put(code, (&key.to_ne_bytes(), &mask.to_ne_bytes()));
            }
            Shape::CtLabel => {
                let (key, mask) = label(scan)?;
                self.put(code, (&key, &mask));
            }
            Shape::Ethertype => {
                let (key, mask) = short(scan)?;
                self.put(code, (&key.to_be_bytes(), &mask.to_be_bytes()));
            }
            Shape::TcpFlags => {
                let (key, mask) = scan.flags(0xfff, tcp_flag)?;
                self.put(code, (&(key as u16).to_be_bytes(), &(mask as u16).to_be_bytes()));
            }
        }
        scan.want(")")
    }

    fn port(&self, scan: &mut Scan<'_>) -> Option<Pair<u32>> {
        if let Some(port) = word(scan) {
            return Some(port);
        }
        let port = self.names.port(scan.take_while(|c| c != ')'))?;
        Some((port.0, u32::MAX))
    }

    fn parts(&mut self, row: &Row, parts: &[Part], scan: &mut Scan<'_>) -> Option<()> {
        let Len::Exact(len) = row.len else { return None };
        let (mut key, mut mask) = (vec![0; len], vec![0; len]);
        elements(scan, |scan| {
            for part in parts {
                for name in [Some(part.name), part.alias].into_iter().flatten() {
                    let mut ahead = *scan;
                    if ahead.eat(name) && ahead.eat("=") {
                        let (value, bits) = scalar(part.codec, &mut ahead)?;
                        key[part.at..part.at + value.len()].copy_from_slice(&value);
                        mask[part.at..part.at + bits.len()].copy_from_slice(&bits);
                        *scan = ahead;
                        return Some(true);
                    }
                }
            }
            Some(false)
        })?;
        self.put(row.code, (&key, &mask));
        Some(())
    }

    fn vlan(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        let mut tci = (u32::from(VLAN_CFI), u32::from(VLAN_CFI));
        elements(scan, |scan| {
            for (name, bits, shift) in [("vid=", 12, 0), ("pcp=", 3, 13), ("cfi=", 1, 12)] {
                if scan.eat(name) {
                    return bit_field(scan, &mut tci, bits, shift).map(|()| true);
                }
            }
            Some(false)
        })?;
        self.put(code::VLAN, (&(tci.0 as u16).to_be_bytes(), &(tci.1 as u16).to_be_bytes()));
        Some(())
    }

    fn mpls(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        const FIELDS: [(&str, u32, u32); 4] =
            [("label=", 20, 12), ("tc=", 3, 9), ("ttl=", 8, 0), ("bos=", 1, 8)];
        let mut entries = vec![(0, 0)];
        let mut seen = 0;
        elements(scan, |scan| {
            for (place, (name, bits, shift)) in FIELDS.into_iter().enumerate() {
                if scan.eat(name) {
                    // A field seen before begins the next label.
                    if seen & 1 << place != 0 {
                        seen = 0;
                        entries.push((0, 0));
                    }
                    seen |= 1 << place;
                    return bit_field(scan, entries.last_mut()?, bits, shift).map(|()| true);
                }
            }
            Some(false)
        })?;
        if entries.len() > crate::key::MAX_MPLS {
            return None;
        }
        let key: Vec<u8> = entries.iter().flat_map(|entry| entry.0.to_be_bytes()).collect();
        let mask: Vec<u8> = entries.iter().flat_map(|entry| entry.1.to_be_bytes()).collect();
        self.put(code::MPLS, (&key, &mask));
        Some(())
    }

    fn packet_type(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        let (mut key, mut mask) = ([0; 4], [0; 4]);
        elements(scan, |scan| {
            for (name, at) in [("ns=", 0), ("id=", 2)] {
                if scan.eat(name) {
                    let (value, bits) = short(scan)?;
                    key[at..at + 2].copy_from_slice(&value.to_be_bytes());
                    mask[at..at + 2].copy_from_slice(&bits.to_be_bytes());
                    return Some(true);
                }
            }
            Some(false)
        })?;
        self.put(code::PACKET_TYPE, (&key, &mask));
        Some(())
    }

    fn nsh(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        let (mut base, mut context) = ([(0, 0); 4], [(0, 0); 4]);
        let (mut spi, mut si) = ((0, 0), (0, 0));
        elements(scan, |scan| {
            for (place, name) in ["flags=", "ttl=", "mdtype=", "np="].into_iter().enumerate() {
                if scan.eat(name) {
                    base[place] = byte(scan)?;
                    return Some(true);
                }
            }
            for (place, name) in ["c1=", "c2=", "c3=", "c4="].into_iter().enumerate() {
                if scan.eat(name) {
                    context[place] = word(scan)?;
                    return Some(true);
                }
            }
            if scan.eat("spi=") {
                spi = word(scan)?;
            } else if scan.eat("si=") {
                si = byte(scan)?;
            } else {
                return Some(false);
            }
            Some(true)
        })?;
        let make = |is_mask: bool| {
            let byte = |pair: Pair<u8>| if is_mask { pair.1 } else { pair.0 };
            let word = |pair: Pair<u32>| if is_mask { pair.1 } else { pair.0 };
            let [flags, ttl, mdtype, np] = base.map(byte);
            let path_hdr = U32::new(word(spi) << 8 | u32::from(byte(si)));
            let md1 = (is_mask || mdtype == 1).then(|| context.map(|pair| U32::new(word(pair))));
            NshKey { base: Some(NshBase { flags, ttl, mdtype, np, path_hdr }), md1, md2: None }
        };
        KeyAttr::Nsh(make(false)).encode(self.key);
        KeyAttr::Nsh(make(true)).encode(self.mask);
        Some(())
    }

    fn encap(&mut self, scan: &mut Scan<'_>, depth: usize) -> Option<()> {
        let (mut key, mut mask) = (Writer::new(), Writer::new());
        loop {
            scan.skip_delimiters();
            if scan.eat(")") {
                break;
            }
            Parser { names: self.names, key: &mut key, mask: &mut mask }.attr(scan, depth + 1)?;
        }
        if key.is_cut() || mask.is_cut() {
            return None;
        }
        self.put(code::ENCAP, (key.bytes(), mask.bytes()));
        Some(())
    }

    fn tunnel(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        let (mut key, mut mask) = (Vec::new(), Vec::new());
        elements(scan, |scan| {
            let Some((value, bits)) = tunnel_element(scan)? else { return Some(false) };
            key.extend(value);
            mask.extend(bits);
            Some(true)
        })?;
        KeyAttr::Tunnel(key).encode(self.key);
        KeyAttr::Tunnel(mask).encode(self.mask);
        Some(())
    }
}

/// A 128-bit label in the kernel's byte order.
pub(crate) fn label(scan: &mut Scan<'_>) -> Option<Pair<[u8; 16]>> {
    let (value, mask) = masked(scan, [0xff; 16], Scan::wide::<16>)?;
    let order = |bytes| u128::from_be_bytes(bytes).to_ne_bytes();
    Some((order(value), order(mask)))
}

type TunnelPair = Pair<Vec<TunnelAttr>>;

fn both<T>(pair: Pair<T>, wrap: impl Fn(T) -> TunnelAttr) -> TunnelPair {
    (vec![wrap(pair.0)], vec![wrap(pair.1)])
}

/// One element of a tunnel; `Some(None)` if it is none that we know.
fn tunnel_element(scan: &mut Scan<'_>) -> Option<Option<TunnelPair>> {
    let ip4 = |scan: &mut Scan<'_>| masked(scan, [0xff; 4], Scan::ipv4);
    let ip6 = |scan: &mut Scan<'_>| masked(scan, [0xff; 16], Scan::ipv6);
    let mut ahead = *scan;
    let name = ahead.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
    let Some(open) = ahead.peek().filter(|&c| c == '=' || c == '(') else { return Some(None) };
    ahead.eat(if open == '=' { "=" } else { "(" });
    let pair = match (name, open) {
        ("tun_id", '=') => both(masked(&mut ahead, u64::MAX, Scan::int)?, |id| TunnelAttr::Id(U64::new(id))),
        ("src", '=') => both(ip4(&mut ahead)?, |ip| TunnelAttr::Ipv4Src(U32::from_bytes(ip))),
        ("dst", '=') => both(ip4(&mut ahead)?, |ip| TunnelAttr::Ipv4Dst(U32::from_bytes(ip))),
        ("ipv6_src", '=') => both(ip6(&mut ahead)?, TunnelAttr::Ipv6Src),
        ("ipv6_dst", '=') => both(ip6(&mut ahead)?, TunnelAttr::Ipv6Dst),
        ("tos", '=') => both(byte(&mut ahead)?, TunnelAttr::Tos),
        ("ttl", '=') => both(byte(&mut ahead)?, TunnelAttr::Ttl),
        ("tp_src", '=') => both(short(&mut ahead)?, |port| TunnelAttr::TpSrc(U16::new(port))),
        ("tp_dst", '=') => both(short(&mut ahead)?, |port| TunnelAttr::TpDst(U16::new(port))),
        ("erspan", '(') => both(erspan(&mut ahead)?, TunnelAttr::Erspan),
        ("gtpu", '(') => both(gtpu(&mut ahead)?, TunnelAttr::Gtpu),
        ("geneve", '(') => {
            let (opts, mask) = geneve(&mut ahead)?;
            (vec![TunnelAttr::Geneve(opts)], vec![TunnelAttr::Geneve(mask)])
        }
        ("vxlan", '(') => {
            let (value, mask) = vxlan_gbp(&mut ahead)?;
            let some = |raw| if raw == 0 { vec![] } else { vec![TunnelAttr::VxlanGbp(raw)] };
            (some(value), some(mask))
        }
        ("flags", '(') => {
            let all = tnl_flags::ALL.into();
            let (value, mask) = ahead.flags(all, tunnel_flag_name)?;
            ahead.want(")")?;
            (tunnel_flags(value), tunnel_flags(mask))
        }
        _ => return Some(None),
    };
    *scan = ahead;
    Some(Some(pair))
}

/// Flags as attributes; the key's flag is told by the tunnel's id.
fn tunnel_flags(bits: u32) -> Vec<TunnelAttr> {
    let rows = [
        (tnl_flags::DONT_FRAGMENT, TunnelAttr::DontFragment),
        (tnl_flags::CSUM, TunnelAttr::Csum),
        (tnl_flags::OAM, TunnelAttr::Oam),
    ];
    rows.into_iter().filter(|(flag, _)| bits & u32::from(*flag) != 0).map(|(_, attr)| attr).collect()
}

fn vxlan_gbp(scan: &mut Scan<'_>) -> Option<Pair<u32>> {
    scan.want("gbp(")?;
    let (mut id, mut flags) = ((0, 0), (0, 0));
    if scan.eat("id=") {
        id = short(scan)?;
    }
    scan.eat(",");
    if scan.eat("flags=") {
        flags = byte(scan)?;
    }
    scan.want("))")?;
    let join = |flags: u8, id: u16| u32::from(flags) << 16 | u32::from(id);
    Some((join(flags.0, id.0), join(flags.1, id.1)))
}

fn gtpu(scan: &mut Scan<'_>) -> Option<Pair<[u8; 2]>> {
    let (mut flags, mut kind) = ((0, 0), (0, 0));
    if scan.eat("flags=") {
        flags = byte(scan)?;
    }
    scan.eat(",");
    if scan.eat("msgtype=") {
        kind = byte(scan)?;
    }
    scan.want(")")?;
    Some(([flags.0, kind.0], [flags.1, kind.1]))
}

fn erspan(scan: &mut Scan<'_>) -> Option<Pair<ErspanOpts>> {
    let (mut version, mut data) = ((0, 0), ([0; 8], [0; 8]));
    if scan.eat("ver=") {
        version = byte(scan)?;
    }
    scan.eat(",");
    match version.0 {
        1 => {
            if scan.eat("idx=") {
                let (value, mask) = word(scan)?;
                data.0[..4].copy_from_slice(&value.to_be_bytes());
                data.1[..4].copy_from_slice(&mask.to_be_bytes());
            }
        }
        2 => {
            let (mut dir, mut hwid) = ((0, 0), (0, 0));
            if scan.eat("dir=") {
                dir = byte(scan)?;
            }
            scan.eat(",");
            if scan.eat("hwid=") {
                hwid = byte(scan)?;
            }
            data.0[7] = hwid.0 << 4 | (dir.0 & 1) << 3;
            data.1[7] = hwid.1 << 4 | (dir.1 & 1) << 3;
            data.0[6] = hwid.0 >> 4 & 3;
            data.1[6] = hwid.1 >> 4 & 3;
        }
        _ => return None,
    }
    scan.want(")")?;
    let opts = |version: u8, data| ErspanOpts { version: version.into(), data };
    let mask_version = if version.1 == u8::MAX { u32::MAX } else { version.1.into() };
    Some((opts(version.0, data.0), ErspanOpts { version: mask_version, data: data.1 }))
}

/// Options in braces up to and including the closing parenthesis, as on the wire.
pub(crate) fn geneve(scan: &mut Scan<'_>) -> Option<Pair<Vec<u8>>> {
    let (mut opts, mut masks) = (Vec::new(), Vec::new());
    while scan.eat("{") {
        let (mut class, mut kind, mut len) = ((0, 0), (0, 0), (0, 0));
        if scan.eat("class=") {
            class = short(scan)?;
        }
        scan.eat(",");
        if scan.eat("type=") {
            kind = byte(scan)?;
        }
        scan.eat(",");
        if scan.eat("len=") {
            len = byte(scan)?;
        }
        let body_len = usize::from(len.0);
        if body_len > 124 || body_len % 4 != 0 || opts.len() + 4 + body_len > crate::key::TUN_METADATA_BYTES {
            return None;
        }
        let (mut body, mut body_mask) = (vec![0; body_len], vec![0; body_len]);
        if scan.eat(",") {
            body = scan.wide_bytes(body_len)?;
            body_mask = vec![0xff; body_len];
        }
        if scan.eat("/") {
            body_mask = scan.wide_bytes(body_len)?;
        }
        scan.want("}")?;
        opts.extend(class.0.to_be_bytes());
        opts.extend([kind.0, len.0 / 4]);
        opts.extend(body);
        masks.extend(class.1.to_be_bytes());
        masks.extend([kind.1, len.1 & 0x1f]);
        masks.extend(body_mask);
    }
    scan.want(")")?;
    Some((opts, masks))
}
