//! Datapath flows as text, from attributes.
//!
//! Presence and order of attributes are kept. Without `verbose`, what the mask leaves to chance is not printed.

use super::attrs::code;
use super::rows::{self, Codec, Len, Part, Row, Shape};
use super::{PortNames, tunnel};
use crate::attr::{Attr, Attrs};
use crate::id::DpPort;
use crate::key::{VLAN_CFI, tnl_flags};
use crate::text::{self, hex, hex_bytes, hex_dump};
use std::net::Ipv4Addr;

/// How flows are printed.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    pub names: &'a dyn PortNames,
    /// Also what the mask leaves to chance, and numbers for flags.
    pub verbose: bool,
    /// Leave out attributes that the mask lacks, even if verbose (flows of a hardware table).
    pub skip_no_mask: bool,
}

impl<'a> Style<'a> {
    /// Port numbers, and only what matters.
    pub const PLAIN: Style<'static> = Style { names: &super::NoNames, verbose: false, skip_no_mask: false };

    pub fn new(names: &'a dyn PortNames, verbose: bool) -> Self {
        Self { names, verbose, skip_no_mask: false }
    }
}

/// A key, and a mask that may be empty, as text.
pub fn flow(key: &[u8], mask: &[u8], style: &Style<'_>) -> String {
    let mut printer = Printer { out: String::new(), style: *style };
    printer.flow(key, mask);
    printer.out
}

/// One attribute, as within `set(…)`.
pub fn attribute(kind: u16, key: &[u8], mask: Option<&[u8]>, verbose: bool) -> String {
    let style = Style { verbose, ..Style::PLAIN };
    let mut printer = Printer { out: String::new(), style };
    let attr = Attr { kind, at: 0, data: key };
    if printer.length_ok(&attr, mask, Table::Key, false) {
        printer.attr(&attr, mask);
    }
    printer.out
}

/// Which attributes a length belongs to.
#[derive(Clone, Copy)]
enum Table {
    Key,
    Tunnel,
    VxlanExt,
    Nsh,
}

impl Table {
    /// The length that `kind` has by the specification, if it is one number.
    fn exact_len(self, kind: u16) -> Option<usize> {
        match self {
            Self::Key => match rows::find(kind)?.len {
                Len::Exact(len) => Some(len),
                Len::Variable | Len::Nested => None,
            },
            Self::Tunnel => match kind {
                tunnel::code::ID => Some(8),
                tunnel::code::IPV4_SRC | tunnel::code::IPV4_DST => Some(4),
                tunnel::code::TOS | tunnel::code::TTL => Some(1),
                tunnel::code::DONT_FRAGMENT | tunnel::code::CSUM | tunnel::code::OAM | tunnel::code::PAD => {
                    Some(0)
                }
                tunnel::code::TP_SRC | tunnel::code::TP_DST => Some(2),
                tunnel::code::IPV6_SRC | tunnel::code::IPV6_DST => Some(16),
                _ => None,
            },
            Self::VxlanExt => (kind == tunnel::code::VXLAN_EXT_GBP).then_some(4),
            Self::Nsh => match kind {
                super::attrs::nsh_code::BASE => Some(8),
                super::attrs::nsh_code::MD1 => Some(16),
                _ => None,
            },
        }
    }
}

struct Printer<'a> {
    out: String,
    style: Style<'a>,
}

/// The mask's bytes of a part; `None` for "exact".
fn slice<'m>(mask: Option<&'m [u8]>, part: &Part) -> Option<&'m [u8]> {
    mask.and_then(|mask| mask.get(part.at..part.at + part.codec.width()))
}

fn all(mask: Option<&[u8]>, byte: u8) -> bool {
    mask.is_some_and(|mask| mask.iter().all(|&part| part == byte))
}

fn be16(bytes: &[u8]) -> u16 {
    bytes.iter().take(2).fold(0, |value, &byte| value << 8 | u16::from(byte))
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn ne32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

impl Printer<'_> {
    fn put(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
    }

    fn chomp(&mut self) {
        if self.out.ends_with(',') {
            self.out.pop();
        }
    }

    fn flow(&mut self, key: &[u8], mask: &[u8]) {
        if key.is_empty() {
            return self.put("<empty>");
        }
        let masks = (!mask.is_empty()).then(|| Attrs::new(mask));
        let (mut has_ethertype, mut has_packet_type, mut first) = (false, false, true);
        let mut attrs = Attrs::new(key);
        let mut rest;
        loop {
            rest = attrs.rest();
            let Some(Ok(attr)) = attrs.next() else { break };
            let found = masks.and_then(|masks| masks.find(attr.kind)).map(|mask| mask.data);
            if !self.length_ok(&attr, found, Table::Key, false) || self.style.skip_no_mask && found.is_none()
            {
                continue;
            }
            has_ethertype |= attr.kind == code::ETHERTYPE;
            has_packet_type |= attr.kind == code::PACKET_TYPE;
            let wildcard = masks.is_some() && found.is_none_or(|mask| rows::is_wildcard(attr.kind, mask));
            let nested = matches!(rows::find(attr.kind), Some(Row { len: Len::Nested, .. }));
            if self.style.verbose || !wildcard || nested {
                self.separate(&mut first);
                let zeros = vec![0; if nested { 0 } else { attr.data.len() }];
                self.attr(&attr, if wildcard { found.or(Some(&zeros)) } else { found });
            } else if attr.kind == code::ETHERNET && !has_packet_type {
                // An Ethernet attribute says that the packet is an Ethernet frame, where no packet type says so.
                self.separate(&mut first);
                self.put("eth()");
            } else if attr.kind == code::PACKET_TYPE {
                has_packet_type = false;
            }
        }
        self.leftover(rest, key.len());
        if let Some(mask) = masks.and_then(|masks| masks.find(code::ETHERTYPE)).filter(|_| !has_ethertype) {
            self.put(format!(",eth_type(0/0x{:04x})", be16(mask.data)));
        }
    }

    fn separate(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.put(",");
        }
    }

    fn leftover(&mut self, rest: &[u8], whole: usize) {
        if rest.is_empty() {
            return;
        }
        if rest.len() == whole {
            self.put("<empty>");
        }
        self.put(format!(",***{} leftover bytes*** ({})", rest.len(), hex_dump(rest, "")));
    }

    fn length_ok(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>, table: Table, with_key: bool) -> bool {
        let Some(want) = table.exact_len(attr.kind) else { return true };
        let bad_key = attr.data.len() != want;
        let bad_mask = mask.is_some_and(|mask| mask.len() != want);
        if !bad_key && !bad_mask {
            return true;
        }
        if with_key {
            self.put(format!("key{}", attr.kind));
        }
        if bad_key {
            self.put(format!("(bad key length {}, expected {want})(", attr.data.len()));
        }
        self.put(hex_dump(attr.data, " "));
        if let Some(mask) = mask {
            self.put("/");
            if bad_mask {
                self.put(format!("(bad mask length {}, expected {want})(", mask.len()));
            }
            self.put(hex_dump(mask, " "));
        }
        self.put(")");
        false
    }

    fn attr(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let row = rows::find(attr.kind);
        match row {
            Some(row) => self.put(row.name),
            None => self.put(format!("key{}", attr.kind)),
        }
        self.put("(");
        match row {
            Some(row) => self.shape(row.shape, attr, mask),
            None => self.opaque(attr, mask),
        }
        self.put(")");
    }

    fn shape(&mut self, shape: Shape, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let data = attr.data;
        let partial = mask.filter(|mask| !rows::is_exact(attr.kind, mask));
        let shown = self.style.verbose || mask.is_some_and(|mask| !all(Some(mask), 0));
        match shape {
            Shape::Parts(parts) => self.parts(parts, data, mask),
            Shape::Word | Shape::ExactWord => self.word(data, partial),
            Shape::InPort => self.in_port(data, partial),
            Shape::CtState => self.ct_state(data, partial),
            Shape::CtMark if shown => self.word(data, partial),
            Shape::CtZone if shown => self.zone(data, partial),
            Shape::CtMark | Shape::CtZone => {}
            Shape::CtLabel => self.label(data, mask),
            Shape::Tunnel => self.tunnel(attr, mask),
            Shape::Encap => {
                if !data.is_empty() {
                    self.encap(data, mask.unwrap_or_default());
                }
            }
            Shape::Vlan => {
                let text = vlan(be16(data), mask.map_or(u16::MAX, be16), self.style.verbose);
                self.put(text);
            }
            Shape::Ethertype => {
                self.put(format!("0x{:04x}", be16(data)));
                if let Some(mask) = partial {
                    self.put(format!("/0x{:04x}", be16(mask)));
                }
            }
            Shape::Mpls => self.mpls(data, partial),
            Shape::TcpFlags => {
                let bits = u32::from(be16(data));
                let mask = partial.map_or(0xfff, |mask| u32::from(be16(mask)) & 0xfff);
                self.put(text::flags_masked(bits, mask, 0xfff, text::tcp_flag));
            }
            Shape::PacketType => self.packet_type(data, mask),
            Shape::Nsh => self.nsh(attr, mask),
            Shape::Opaque => self.opaque(attr, mask),
        }
    }

    fn opaque(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        self.put(hex_dump(attr.data, " "));
        if let Some(mask) = mask {
            self.put("/");
            self.put(hex_dump(mask, " "));
        }
    }

    fn encap(&mut self, key: &[u8], mask: &[u8]) {
        let names = self.style.names;
        self.style.names = &super::NoNames;
        self.flow(key, mask);
        self.style.names = names;
    }

    fn word(&mut self, data: &[u8], partial: Option<&[u8]>) {
        self.put(hex(ne32(data).into()));
        if let Some(mask) = partial {
            self.put("/");
            self.put(hex(ne32(mask).into()));
        }
    }

    fn zone(&mut self, data: &[u8], partial: Option<&[u8]>) {
        let ne16 = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes));
        self.put(hex(ne16(data).into()));
        if let Some(mask) = partial {
            self.put("/");
            self.put(hex(ne16(mask).into()));
        }
    }

    fn in_port(&mut self, data: &[u8], partial: Option<&[u8]>) {
        let port = DpPort(ne32(data));
        match partial {
            Some(mask) => self.put(format!("{port}/{}", hex(ne32(mask).into()))),
            None => self.put(self.style.names.name(port).unwrap_or_else(|| port.to_string())),
        }
    }

    fn ct_state(&mut self, data: &[u8], partial: Option<&[u8]>) {
        let state = ne32(data);
        match partial {
            _ if self.style.verbose => self.word(data, partial),
            Some(mask) => self.put(text::flags_masked(state, ne32(mask), u32::MAX, ct_state_name)),
            None => self.put(text::flags(state, ct_state_name, '|')),
        }
    }

    fn label(&mut self, data: &[u8], mask: Option<&[u8]>) {
        if !self.style.verbose && mask.is_none_or(|mask| all(Some(mask), 0)) {
            return;
        }
        self.put(u128_text(data));
        if let Some(mask) = mask.filter(|mask| !all(Some(mask), 0xff)) {
            self.put("/");
            self.put(u128_text(mask));
        }
    }

    fn parts(&mut self, parts: &[Part], data: &[u8], mask: Option<&[u8]>) {
        for part in parts {
            let Some(value) = data.get(part.at..part.at + part.codec.width()) else { continue };
            self.part(part.name, part.codec, value, slice(mask, part));
        }
        self.chomp();
    }

    /// `name=value/mask,`
    fn part(&mut self, name: &str, codec: Codec, value: &[u8], mask: Option<&[u8]>) {
        let empty = all(mask, 0);
        let partial = mask.filter(|mask| !mask.iter().all(|&byte| byte == 0xff));
        match codec {
            Codec::Frag => return self.frag(name, value, partial, empty),
            Codec::Hex32 => return self.put(format!("{name}=0x{:x},", be32(value))),
            _ if empty && !self.style.verbose => return,
            _ => {}
        }
        let partial = partial.filter(|mask| codec != Codec::Label || be32(mask) & 0xf_ffff != 0xf_ffff);
        self.put(name);
        self.put("=");
        self.put(scalar(codec, value));
        if let Some(mask) = partial {
            self.put("/");
            self.put(scalar_mask(codec, mask));
        }
        self.put(",");
    }

    fn frag(&mut self, name: &str, value: &[u8], partial: Option<&[u8]>, empty: bool) {
        match partial {
            _ if empty => {}
            Some(mask) => {
                self.put(format!("error: partial mask not supported for frag ({}),", hex(mask[0].into())));
            }
            None => {
                let kind = match value[0] {
                    0 => "no",
                    1 => "first",
                    2 => "later",
                    _ => "<error>",
                };
                self.put(format!("{name}={kind},"));
            }
        }
    }

    fn mpls(&mut self, data: &[u8], partial: Option<&[u8]>) {
        if data.is_empty() || !data.len().is_multiple_of(4) {
            return self.put(format!("(bad key length {})", data.len()));
        }
        if let Some(mask) = partial.filter(|mask| mask.len() != data.len()) {
            return self.put(format!("(key length {} != mask length {})", data.len(), mask.len()));
        }
        for (place, lse) in data.chunks_exact(4).enumerate() {
            match partial {
                None => self.put(mpls_lse(be32(lse))),
                Some(mask) => {
                    let (key, mask) = (lse_fields(be32(lse)), lse_fields(be32(&mask[4 * place..])));
                    self.put(format!(
                        "label={}/0x{:x},tc={}/{:x},ttl={}/0x{:x},bos={}/{:x}",
                        key.0, mask.0, key.1, mask.1, key.2, mask.2, key.3, mask.3
                    ));
                }
            }
            self.put(",");
        }
        self.chomp();
    }

    fn packet_type(&mut self, data: &[u8], mask: Option<&[u8]>) {
        let mask = mask.unwrap_or(&[0xff; 4]);
        self.part("ns", Codec::Dec16, &data[..2], mask.get(..2));
        let (id, id_mask) = (be16(&data[2..]), be16(mask.get(2..).unwrap_or_default()));
        if self.style.verbose || id_mask != 0 {
            self.put(format!("id={}", hex(id.into())));
            if id_mask != u16::MAX {
                self.put(format!("/{}", hex(id_mask.into())));
            }
        }
        self.chomp();
    }

    fn nsh(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let mut fields = NshFields::default();
        let mut masks = NshFields { base: [0xff; 8], context: [0xff; 16] };
        let mask_attrs = mask.map(Attrs::new);
        for inner in attr.nested().map_while(Result::ok) {
            let found = mask_attrs.and_then(|attrs| attrs.find(inner.kind)).map(|mask| mask.data);
            if !self.length_ok(&inner, found, Table::Nsh, true) {
                continue;
            }
            fields.store(inner.kind, inner.data);
            if let Some(found) = found {
                masks.store(inner.kind, found);
            }
        }
        self.put(if mask.is_some() { nsh_masked(&fields, &masks) } else { nsh_exact(&fields) });
    }

    fn tunnel(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let masks = mask.map(Attrs::new);
        let (mut bits, mut bits_mask) = (0, 0);
        for inner in attr.nested().map_while(Result::ok) {
            let found = masks.map(|masks| masks.find(inner.kind).map(|mask| mask.data));
            let zeros;
            let found = match found {
                None => None,
                Some(Some(found)) => Some(found),
                Some(None) => {
                    let nested = inner.kind == tunnel::code::VXLAN_OPTS;
                    zeros = vec![0; if nested { 0 } else { inner.data.len() }];
                    Some(&zeros[..])
                }
            };
            if !self.length_ok(&inner, found, Table::Tunnel, true) {
                continue;
            }
            bits |= tunnel_flag(inner.kind);
            if inner.kind == tunnel::code::ID && found.is_some() {
                bits_mask |= tnl_flags::KEY;
            }
            self.tunnel_attr(&inner, found);
        }
        for inner in masks.into_iter().flatten().map_while(Result::ok) {
            if inner.kind != tunnel::code::ID {
                bits_mask |= tunnel_flag(inner.kind);
            }
        }
        if self.style.verbose || masks.is_none() || bits_mask != 0 {
            let text = match masks {
                Some(_) => {
                    text::flags_masked(bits.into(), bits_mask.into(), tnl_flags::ALL.into(), tunnel_flag_name)
                }
                None => text::flags(bits.into(), tunnel_flag_name, '|'),
            };
            self.put(format!("flags({text})"));
        }
        self.chomp();
    }

    fn tunnel_attr(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let data = attr.data;
        match attr.kind {
            tunnel::code::ID => {
                let wide =
                    |bytes: &[u8]| bytes.iter().take(8).fold(0, |value, &byte| value << 8 | u64::from(byte));
                if self.style.verbose || mask.is_some_and(|mask| wide(mask) != 0) {
                    self.put(format!("tun_id=0x{:x}", wide(data)));
                    if let Some(mask) = mask.filter(|mask| wide(mask) != u64::MAX) {
                        self.put(format!("/{}", hex(wide(mask))));
                    }
                    self.put(",");
                }
            }
            tunnel::code::IPV4_SRC => self.part("src", Codec::Ipv4, data, mask),
            tunnel::code::IPV4_DST => self.part("dst", Codec::Ipv4, data, mask),
            tunnel::code::IPV6_SRC => self.part("ipv6_src", Codec::Ipv6, data, mask),
            tunnel::code::IPV6_DST => self.part("ipv6_dst", Codec::Ipv6, data, mask),
            tunnel::code::TOS => self.part("tos", Codec::Hex8, data, mask),
            tunnel::code::TTL => self.part("ttl", Codec::Dec8, data, mask),
            tunnel::code::TP_SRC => self.part("tp_src", Codec::Dec16, data, mask),
            tunnel::code::TP_DST => self.part("tp_dst", Codec::Dec16, data, mask),
            tunnel::code::VXLAN_OPTS => self.group("vxlan", |printer| printer.vxlan(attr, mask)),
            tunnel::code::GENEVE_OPTS => self.group("geneve", |printer| printer.geneve(data, mask)),
            tunnel::code::ERSPAN_OPTS => self.group("erspan", |printer| printer.erspan(data, mask)),
            tunnel::code::GTPU_OPTS => self.group("gtpu", |printer| printer.gtpu(data, mask)),
            tunnel::code::DONT_FRAGMENT | tunnel::code::CSUM | tunnel::code::OAM | tunnel::code::PAD => {}
            _ => self.unknown(attr, mask),
        }
    }

    fn group(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.put(name);
        self.put("(");
        content(self);
        self.put("),");
    }

    fn unknown(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        self.put(format!("key{}({}", attr.kind, hex_dump(attr.data, " ")));
        if let Some(mask) = mask.filter(|mask| !all(Some(mask), 0xff)) {
            self.put(format!("/{}", hex_dump(mask, " ")));
        }
        self.put("),");
    }

    fn vxlan(&mut self, attr: &Attr<'_>, mask: Option<&[u8]>) {
        let masks = mask.map(Attrs::new);
        for inner in attr.nested().map_while(Result::ok) {
            let zeros = vec![0; inner.data.len()];
            let found = masks.map(|masks| masks.find(inner.kind).map_or(&zeros[..], |mask| mask.data));
            if !self.length_ok(&inner, found, Table::VxlanExt, true) {
                continue;
            }
            if inner.kind != tunnel::code::VXLAN_EXT_GBP {
                self.unknown(&inner, found);
                continue;
            }
            let split = |bytes: &[u8]| ((ne32(bytes) as u16).to_be_bytes(), [(ne32(bytes) >> 16) as u8]);
            let ((id, flags), found) = (split(inner.data), found.map(split));
            self.group("gbp", |printer| {
                printer.part("id", Codec::Dec16, &id, found.as_ref().map(|mask| &mask.0[..]));
                printer.part("flags", Codec::Hex8, &flags, found.as_ref().map(|mask| &mask.1[..]));
                printer.chomp();
            });
        }
        self.chomp();
    }

    fn erspan(&mut self, data: &[u8], mask: Option<&[u8]>) {
        let version = ne32(data);
        self.part(
            "ver",
            Codec::Dec8,
            &[version as u8],
            mask.map(|mask| [ne32(mask) as u8]).as_ref().map(|m| &m[..]),
        );
        let Some(body) = data.get(4..12) else { return self.chomp() };
        let mask_body = mask.map(|mask| mask.get(4..12).unwrap_or(&[0; 8]));
        match version {
            1 => {
                self.put(format!("idx={}", hex(be32(body).into())));
                if let Some(mask) = mask_body {
                    self.put(format!("/{}", hex(be32(mask).into())));
                }
                self.put(",");
            }
            2 => {
                let dir = |body: &[u8]| [body[7] >> 3 & 1];
                let hwid = |body: &[u8]| [body[7] >> 4];
                self.part("dir", Codec::Dec8, &dir(body), mask_body.map(dir).as_ref().map(|mask| &mask[..]));
                self.part(
                    "hwid",
                    Codec::Hex8,
                    &hwid(body),
                    mask_body.map(hwid).as_ref().map(|mask| &mask[..]),
                );
            }
            _ => {}
        }
        self.chomp();
    }

    fn gtpu(&mut self, data: &[u8], mask: Option<&[u8]>) {
        let [flags, kind, ..] = data else { return };
        self.part("flags", Codec::Hex8, &[*flags], mask.and_then(|mask| mask.get(..1)));
        self.part("msgtype", Codec::Dec8, &[*kind], mask.and_then(|mask| mask.get(1..2)));
        self.chomp();
    }

    fn geneve(&mut self, data: &[u8], mask: Option<&[u8]>) {
        if let Some(mask) = mask.filter(|mask| mask.len() != data.len()) {
            return self.put(format!("value len {} different from mask len {}", data.len(), mask.len()));
        }
        let text = geneve_options(data, mask, self.style.verbose);
        self.put(text);
    }
}

/// Geneve options as on the wire, as text; `mask` has the same length.
pub fn geneve_options(mut data: &[u8], mut mask: Option<&[u8]>, verbose: bool) -> String {
    let mut printer = Printer { out: String::new(), style: Style { verbose, ..Style::PLAIN } };
    while !data.is_empty() {
        if data.len() < 4 {
            printer.put(format!("opt len {} less than minimum 4", data.len()));
            break;
        }
        let body_len = usize::from(data[3] & 0x1f) * 4;
        let len = 4 + body_len;
        if len > data.len() {
            printer.put(format!("opt len {len} greater than remaining {}", data.len()));
            break;
        }
        let len_mask = mask.map(|mask| if mask[3] & 0x1f == 0x1f { [0xff] } else { [mask[3] & 0x1f] });
        printer.put("{");
        let class_mask = mask.map(be16);
        if verbose || class_mask != Some(0) {
            printer.put(format!("class={}", hex(be16(data).into())));
            if let Some(mask) = class_mask.filter(|&mask| mask != u16::MAX) {
                printer.put(format!("/{}", hex(mask.into())));
            }
            printer.put(",");
        }
        printer.part("type", Codec::Hex8, &data[2..3], mask.map(|mask| &mask[2..3]));
        printer.part("len", Codec::Dec8, &[body_len as u8], len_mask.as_ref().map(|mask| &mask[..]));
        let body_mask = mask.map(|mask| &mask[4..len]);
        if body_len > 0 && (verbose || !all(body_mask, 0)) {
            printer.put(hex_bytes(&data[4..len]));
            if let Some(mask) = body_mask.filter(|mask| !all(Some(mask), 0xff)) {
                printer.put("/");
                printer.put(hex_bytes(mask));
            }
        } else {
            printer.chomp();
        }
        printer.put("}");
        data = &data[len..];
        mask = mask.map(|mask| &mask[len..]);
    }
    printer.out
}

/// A 128-bit value in the kernel's byte order.
pub(crate) fn u128_text(bytes: &[u8]) -> String {
    let value = bytes.first_chunk().map_or(0, |bytes| u128::from_ne_bytes(*bytes));
    hex_bytes(&value.to_be_bytes())
}

fn scalar(codec: Codec, value: &[u8]) -> String {
    match codec {
        Codec::Eth => hex_dump(value, ":"),
        Codec::Ipv4 => Ipv4Addr::from(be32(value)).to_string(),
        Codec::Ipv6 => value.first_chunk().map(text::ipv6).unwrap_or_default(),
        Codec::Label | Codec::Hex32 => hex(be32(value).into()),
        Codec::Hex8 => hex(value[0].into()),
        Codec::Dec8 | Codec::Frag => value[0].to_string(),
        Codec::Dec16 => be16(value).to_string(),
    }
}

/// Masks of numbers are hexadecimal.
fn scalar_mask(codec: Codec, mask: &[u8]) -> String {
    match codec {
        Codec::Dec8 => hex(mask[0].into()),
        Codec::Dec16 => hex(be16(mask).into()),
        Codec::Eth | Codec::Ipv4 | Codec::Ipv6 | Codec::Label | Codec::Hex32 | Codec::Hex8 | Codec::Frag => {
            scalar(codec, mask)
        }
    }
}

/// A TCI's text: VLAN id, priority, and the CFI bit if it is missing.
pub fn vlan(tci: u16, mask: u16, verbose: bool) -> String {
    let (vid, pcp) = (|tci: u16| tci & 0xfff, |tci: u16| tci >> 13);
    let mut parts = Vec::new();
    if verbose || vid(tci) != 0 || vid(mask) != 0 {
        let partial = if vid(mask) == 0xfff { String::new() } else { format!("/0x{:x}", vid(mask)) };
        parts.push(format!("vid={}{partial}", vid(tci)));
    }
    if verbose || pcp(tci) != 0 || pcp(mask) != 0 {
        let partial = if pcp(mask) == 7 { String::new() } else { format!("/0x{:x}", pcp(mask)) };
        parts.push(format!("pcp={}{partial}", pcp(tci)));
    }
    if tci & VLAN_CFI == 0 {
        parts.push("cfi=0".to_owned());
    }
    parts.join(",")
}

/// Label, traffic class, TTL and bottom-of-stack of a label stack entry.
fn lse_fields(lse: u32) -> (u32, u32, u32, u32) {
    (lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1)
}

/// A label stack entry's text.
pub fn mpls_lse(lse: u32) -> String {
    let (label, tc, ttl, bos) = lse_fields(lse);
    format!("label={label},tc={tc},ttl={ttl},bos={bos}")
}

/// The name of a bit of `OVS_KEY_ATTR_CT_STATE`.
pub fn ct_state_name(bit: u32) -> Option<&'static str> {
    const NAMES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];
    NAMES.get(bit.trailing_zeros() as usize).copied()
}

/// The name of a bit of [`tnl_flags`].
pub fn tunnel_flag_name(bit: u32) -> Option<&'static str> {
    const NAMES: [&str; 4] = ["oam", "df", "csum", "key"];
    NAMES.get(bit.trailing_zeros() as usize).copied()
}

/// The flag that a tunnel attribute's presence stands for.
fn tunnel_flag(kind: u16) -> u16 {
    match kind {
        tunnel::code::ID => tnl_flags::KEY,
        tunnel::code::DONT_FRAGMENT => tnl_flags::DONT_FRAGMENT,
        tunnel::code::CSUM => tnl_flags::CSUM,
        tunnel::code::OAM => tnl_flags::OAM,
        _ => 0,
    }
}

/// The bytes of NSH's base header (flags, ttl, mdtype, np, path header) and MD type 1 context.
#[derive(Clone, Copy, Default)]
pub(crate) struct NshFields {
    pub base: [u8; 8],
    pub context: [u8; 16],
}

impl NshFields {
    fn store(&mut self, kind: u16, data: &[u8]) {
        match kind {
            super::attrs::nsh_code::BASE if data.len() == 8 => self.base.copy_from_slice(data),
            super::attrs::nsh_code::MD1 if data.len() == 16 => self.context.copy_from_slice(data),
            _ => {}
        }
    }

    fn path(&self) -> (u32, u8) {
        let path = be32(&self.base[4..]);
        (path >> 8, path as u8)
    }
}

/// NSH without a mask.
pub(crate) fn nsh_exact(fields: &NshFields) -> String {
    let [flags, ttl, mdtype, np, ..] = fields.base;
    let (spi, si) = fields.path();
    let mut text = format!("flags={flags},ttl={ttl},mdtype={mdtype},np={np},spi=0x{spi:x},si={si}");
    if mdtype == 1 {
        for (place, word) in fields.context.chunks(4).enumerate() {
            text += &format!(",c{}=0x{:x}", place + 1, be32(word));
        }
    }
    text
}

/// NSH with a mask: what the mask leaves out is not there.
pub(crate) fn nsh_masked(fields: &NshFields, masks: &NshFields) -> String {
    let byte = |name: &str, value: u8, mask: u8| match mask {
        0 => None,
        0xff => Some(format!("{name}={value}")),
        mask => Some(format!("{name}=0x{value:02x}/0x{mask:02x}")),
    };
    let word = |name: &str, value: u32, mask: u32| match mask {
        0 => None,
        u32::MAX => Some(format!("{name}=0x{value:x}")),
        mask => Some(format!("{name}=0x{value:x}/0x{mask:08x}")),
    };
    let ((spi, si), (spi_mask, si_mask)) = (fields.path(), masks.path());
    let spi_mask = if spi_mask == 0xff_ffff { u32::MAX } else { spi_mask };
    let mut parts: Vec<_> = ["flags", "ttl", "mdtype", "np"]
        .iter()
        .enumerate()
        .map(|(place, name)| byte(name, fields.base[place], masks.base[place]))
        .collect();
    parts.push(word("spi", spi, spi_mask));
    parts.push(byte("si", si, si_mask));
    for (place, name) in ["c1", "c2", "c3", "c4"].iter().enumerate() {
        parts.push(word(name, be32(&fields.context[4 * place..]), be32(&masks.context[4 * place..])));
    }
    parts.into_iter().flatten().collect::<Vec<_>>().join(",")
}
