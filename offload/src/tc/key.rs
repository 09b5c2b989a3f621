//! What a flower rule matches (`TCA_FLOWER_KEY_*` of `linux/pkt_cls.h`), both ways.
//!
//! Fields that are a value and a mask of fixed width are rows of one table; the rest has a type of its own: label stack
//! entries ([`Lse`]) and tunnel options ([`EncOpts`]).

use flow::attr::{Attr, AttrError, Attrs, Writer};

use super::options::EncOpts;

/// In whose byte order the kernel has a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// As in packets.
    Net,
    /// The machine's.
    Host,
}

/// What is known of a field.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// As `tc` writes it.
    pub name: &'static str,
    /// Bytes.
    pub width: usize,
    pub order: Order,
    /// The attribute of the value.
    pub value: u16,
    /// The attribute of the mask; 0 for fields that match exactly or not at all.
    pub mask: u16,
}

macro_rules! key_fields {
    ($($(#[$doc:meta])* $id:ident $name:literal $width:literal $order:ident $value:literal $mask:literal;)+) => {
        /// A field that a flower rule can match.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum KeyField { $($(#[$doc])* $id),+ }

        impl KeyField {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$id),+];
        }

        static ROWS: [Row; KeyField::ALL.len()] = [
            $(Row { name: $name, width: $width, order: Order::$order, value: $value, mask: $mask }),+
        ];
    };
}

key_fields! {
    EthDst "dst_mac" 6 Net 4 5;
    EthSrc "src_mac" 6 Net 6 7;
    EthType "eth_type" 2 Net 8 0;
    VlanId "vlan_id" 2 Host 23 0;
    VlanPrio "vlan_prio" 1 Net 24 0;
    VlanEthType "vlan_ethtype" 2 Net 25 0;
    CvlanId "cvlan_id" 2 Host 77 0;
    CvlanPrio "cvlan_prio" 1 Net 78 0;
    CvlanEthType "cvlan_ethtype" 2 Net 79 0;
    NumOfVlans "num_of_vlans" 1 Net 102 0;
    IpProto "ip_proto" 1 Net 9 0;
    IpTos "ip_tos" 1 Net 73 74;
    IpTtl "ip_ttl" 1 Net 75 76;
    /// Bits of [`flags`].
    Flags "ip_flags" 4 Net 47 48;
    Ipv4Src "src_ip" 4 Net 10 11;
    Ipv4Dst "dst_ip" 4 Net 12 13;
    Ipv6Src "src_ip" 16 Net 14 15;
    Ipv6Dst "dst_ip" 16 Net 16 17;
    TcpSrc "src_port" 2 Net 18 35;
    TcpDst "dst_port" 2 Net 19 36;
    TcpFlags "tcp_flags" 2 Net 71 72;
    UdpSrc "src_port" 2 Net 20 37;
    UdpDst "dst_port" 2 Net 21 38;
    SctpSrc "src_port" 2 Net 41 39;
    SctpDst "dst_port" 2 Net 42 40;
    Icmpv4Type "type" 1 Net 51 52;
    Icmpv4Code "code" 1 Net 49 50;
    Icmpv6Type "type" 1 Net 55 56;
    Icmpv6Code "code" 1 Net 53 54;
    ArpSip "arp_sip" 4 Net 57 58;
    ArpTip "arp_tip" 4 Net 59 60;
    ArpOp "arp_op" 1 Net 61 62;
    ArpSha "arp_sha" 6 Net 63 64;
    ArpTha "arp_tha" 6 Net 65 66;
    /// Bits of [`ct_flags`].
    CtState "ct_state" 2 Host 91 92;
    CtZone "ct_zone" 2 Host 93 94;
    CtMark "ct_mark" 4 Host 95 96;
    CtLabels "ct_label" 16 Host 97 98;
    EncKeyId "enc_key_id" 4 Net 26 0;
    EncIpv4Src "enc_src_ip" 4 Net 27 28;
    EncIpv4Dst "enc_dst_ip" 4 Net 29 30;
    EncIpv6Src "enc_src_ip" 16 Net 31 32;
    EncIpv6Dst "enc_dst_ip" 16 Net 33 34;
    EncUdpSrc "enc_src_port" 2 Net 43 44;
    EncUdpDst "enc_dst_port" 2 Net 45 46;
    EncTos "enc_tos" 1 Net 80 81;
    EncTtl "enc_ttl" 1 Net 82 83;
    /// Bits of [`enc_flags`]; since Linux 6.13.
    EncFlags "enc_flags" 4 Net 110 111;
    Hash "hash" 4 Host 100 101;
}

/// Bits of [`KeyField::Flags`].
pub mod flags {
    pub const FRAGMENT: u32 = 1;
    pub const FIRST_FRAGMENT: u32 = 2;
}

/// Bits of [`KeyField::EncFlags`].
pub mod enc_flags {
    pub const CSUM: u32 = 1 << 2;
    pub const DONT_FRAGMENT: u32 = 1 << 3;
    pub const OAM: u32 = 1 << 4;
}

/// Bits of [`KeyField::CtState`].
pub mod ct_flags {
    pub const NEW: u16 = 1;
    pub const ESTABLISHED: u16 = 2;
    pub const RELATED: u16 = 4;
    pub const TRACKED: u16 = 8;
    pub const INVALID: u16 = 16;
    pub const REPLY: u16 = 32;
}

const MPLS_TTL: u16 = 67;
const MPLS_BOS: u16 = 68;
const MPLS_TC: u16 = 69;
const MPLS_LABEL: u16 = 70;
const ENC_OPTS: u16 = 84;
const ENC_OPTS_MASK: u16 = 85;
const MPLS_OPTS: u16 = 99;
const MPLS_OPTS_LSE: u16 = 1;
/// Attributes within [`MPLS_OPTS_LSE`].
mod lse {
    pub const DEPTH: u16 = 1;
    pub const TTL: u16 = 2;
    pub const BOS: u16 = 3;
    pub const TC: u16 = 4;
    pub const LABEL: u16 = 5;
}

/// Label stack entries that the kernel looks at.
pub const MAX_LSES: usize = 7;

impl KeyField {
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The field of an attribute, and whether the attribute is its mask.
    fn of(attr: u16) -> Option<(Self, bool)> {
        const NONE: Option<(KeyField, bool)> = None;
        static INDEX: std::sync::LazyLock<[Option<(KeyField, bool)>; 128]> = std::sync::LazyLock::new(|| {
            let mut index = [NONE; 128];
            for &field in KeyField::ALL {
                let row = field.row();
                index[usize::from(row.value)] = Some((field, false));
                if row.mask != 0 {
                    index[usize::from(row.mask)] = Some((field, true));
                }
            }
            index
        });
        INDEX.get(usize::from(attr)).copied().flatten()
    }
}

/// A value or a mask: the first bytes, as many as the field is wide, as in its attribute.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Bits(pub [u8; 16]);

impl Bits {
    pub const ONES: Self = Self([0xff; 16]);

    /// Of bytes as they are; what is beyond 16 is left out.
    pub fn of(bytes: &[u8]) -> Self {
        let mut bits = [0; 16];
        let len = bytes.len().min(16);
        bits[..len].copy_from_slice(&bytes[..len]);
        Self(bits)
    }

    /// The low bytes of a number, as many as `row` is wide and as it orders them.
    pub fn number(row: &Row, number: u128) -> Self {
        let mut bytes = number.to_be_bytes();
        let low = &mut bytes[16 - row.width..];
        if row.order == Order::Host && cfg!(target_endian = "little") {
            low.reverse();
        }
        Self::of(low)
    }

    /// As a number, the field being that of `row`.
    pub fn to_number(self, row: &Row) -> u128 {
        let mut bytes = self.0;
        let low = &mut bytes[..row.width];
        if row.order == Order::Host && cfg!(target_endian = "little") {
            low.reverse();
        }
        low.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    fn truncated(self, width: usize) -> Self {
        Self::of(&self.0[..width])
    }

    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

/// A field with its value and mask. Bits outside of the mask are zero in the value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Entry {
    pub field: KeyField,
    pub value: Bits,
    pub mask: Bits,
}

/// A label stack entry; parts that do not matter are `None`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Lse {
    /// 1 is the outermost.
    pub depth: u8,
    /// 20 bits.
    pub label: Option<u32>,
    /// 3 bits.
    pub tc: Option<u8>,
    /// 1 bit.
    pub bos: Option<u8>,
    pub ttl: Option<u8>,
}

/// What a rule matches. Fields are sorted, each there at most once.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct FlowerKey {
    fields: Vec<Entry>,
    /// By depth.
    pub lses: Vec<Lse>,
    pub opts: Option<EncOpts>,
}

impl FlowerKey {
    /// The fields that matter, in order.
    pub fn fields(&self) -> &[Entry] {
        &self.fields
    }

    /// Has the rule match a field. A mask of zero leaves it out; fields that match exactly only have a full mask.
    pub fn set(&mut self, field: KeyField, value: Bits, mask: Bits) {
        let row = field.row();
        let mask = if row.mask == 0 { Bits::ONES } else { mask }.truncated(row.width);
        let entry = Entry { field, value: value.and(mask), mask };
        let place = self.fields.binary_search_by_key(&field, |entry| entry.field);
        match (place, mask.is_zero()) {
            (Ok(at), true) => _ = self.fields.remove(at),
            (Ok(at), false) => self.fields[at] = entry,
            (Err(_), true) => {}
            (Err(at), false) => self.fields.insert(at, entry),
        }
    }

    /// As [`FlowerKey::set`], of numbers.
    pub fn set_number(&mut self, field: KeyField, value: u128, mask: u128) {
        let row = field.row();
        self.set(field, Bits::number(row, value), Bits::number(row, mask));
    }

    /// Has the rule match a number exactly.
    pub fn set_exact(&mut self, field: KeyField, value: impl Into<u128>) {
        self.set_number(field, value.into(), u128::MAX);
    }

    pub fn get(&self, field: KeyField) -> Option<&Entry> {
        let at = self.fields.binary_search_by_key(&field, |entry| entry.field).ok()?;
        self.fields.get(at)
    }

    /// Value and mask of a field as numbers, if it matters.
    pub fn number(&self, field: KeyField) -> Option<(u128, u128)> {
        let entry = self.get(field)?;
        Some((entry.value.to_number(field.row()), entry.mask.to_number(field.row())))
    }

    /// What rules of one priority have in common, where the kernel wants one mask each: which bits matter.
    pub fn shape(&self) -> Self {
        let fields = self.fields.iter().map(|entry| Entry { value: entry.mask, ..*entry }).collect();
        let ones = |lse: &Lse| Lse {
            depth: lse.depth,
            label: lse.label.map(|_| 0xf_ffff),
            tc: lse.tc.map(|_| 7),
            bos: lse.bos.map(|_| 1),
            ttl: lse.ttl.map(|_| 0xff),
        };
        Self {
            fields,
            lses: self.lses.iter().map(ones).collect(),
            opts: self.opts.as_ref().map(EncOpts::shape),
        }
    }

    pub fn encode(&self, out: &mut Writer) {
        for entry in &self.fields {
            let row = entry.field.row();
            out.put(row.value, &entry.value.0[..row.width]);
            if row.mask != 0 {
                out.put(row.mask, &entry.mask.0[..row.width]);
            }
        }
        self.encode_lses(out);
        if let Some(opts) = &self.opts {
            out.nest_flagged(ENC_OPTS, |nest| opts.encode(nest, false));
            out.nest_flagged(ENC_OPTS_MASK, |nest| opts.encode(nest, true));
        }
    }

    /// The outermost entry alone is told by attributes older than the rest.
    fn encode_lses(&self, out: &mut Writer) {
        let numbers = |lse: &Lse, out: &mut Writer, [ttl, bos, tc, label]: [u16; 4]| {
            for (attr, value) in [(ttl, lse.ttl), (bos, lse.bos), (tc, lse.tc)] {
                value.into_iter().for_each(|value| out.put_u8(attr, value));
            }
            lse.label.into_iter().for_each(|value| out.put_u32(label, value));
        };
        match &*self.lses {
            [] => {}
            [lse] if lse.depth == 1 => numbers(lse, out, [MPLS_TTL, MPLS_BOS, MPLS_TC, MPLS_LABEL]),
            lses => out.nest_flagged(MPLS_OPTS, |nest| {
                for lse in lses {
                    nest.nest_flagged(MPLS_OPTS_LSE, |nest| {
                        nest.put_u8(lse::DEPTH, lse.depth);
                        numbers(lse, nest, [lse::TTL, lse::BOS, lse::TC, lse::LABEL]);
                    });
                }
            }),
        }
    }

    /// Reads the attributes of a rule; those that are no key are passed over.
    ///
    /// # Errors
    /// A known attribute has another size, or another content than it can have.
    pub fn decode(attrs: Attrs<'_>) -> Result<Self, AttrError> {
        let mut key = Self::default();
        let mut masks = Vec::new();
        let mut outermost = Lse { depth: 1, ..Lse::default() };
        let (mut opts, mut opts_mask) = (None, None);
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                MPLS_TTL => outermost.ttl = Some(attr.u8()?),
                MPLS_BOS => outermost.bos = Some(narrow(&attr, 1)?),
                MPLS_TC => outermost.tc = Some(narrow(&attr, 7)?),
                MPLS_LABEL => outermost.label = Some(label(&attr)?),
                MPLS_OPTS => key.lses = decode_lses(&attr)?,
                ENC_OPTS => opts = Some(attr),
                ENC_OPTS_MASK => opts_mask = Some(attr),
                kind => match KeyField::of(kind) {
                    Some((field, _)) if attr.data.len() != field.row().width => {
                        return Err(attr.wrong_size(field.row().width));
                    }
                    Some((field, true)) => masks.push((field, Bits::of(attr.data))),
                    Some((field, false)) => key.set(field, Bits::of(attr.data), Bits::ONES),
                    None => {}
                },
            }
        }
        for (field, mask) in masks {
            let value = key.get(field).map_or_else(Bits::default, |entry| entry.value);
            key.set(field, value, mask);
        }
        if outermost != (Lse { depth: 1, ..Lse::default() }) {
            key.lses = vec![outermost];
        }
        if let Some(opts) = opts {
            key.opts = EncOpts::decode(&opts, opts_mask.as_ref())?;
        }
        Ok(key)
    }
}

fn narrow(attr: &Attr<'_>, most: u8) -> Result<u8, AttrError> {
    let value = attr.u8()?;
    if value > most { Err(attr.invalid("beyond its bits")) } else { Ok(value) }
}

fn label(attr: &Attr<'_>) -> Result<u32, AttrError> {
    let value = attr.u32()?;
    if value > 0xf_ffff { Err(attr.invalid("beyond its bits")) } else { Ok(value) }
}

fn decode_lses(attr: &Attr<'_>) -> Result<Vec<Lse>, AttrError> {
    let mut lses: Vec<Lse> = Vec::new();
    for nest in attr.nested() {
        let nest = nest?;
        if nest.kind != MPLS_OPTS_LSE {
            continue;
        }
        let mut lse = Lse::default();
        for part in nest.nested() {
            let part = part?;
            match part.kind {
                lse::DEPTH => lse.depth = part.u8()?,
                lse::TTL => lse.ttl = Some(part.u8()?),
                lse::BOS => lse.bos = Some(narrow(&part, 1)?),
                lse::TC => lse.tc = Some(narrow(&part, 7)?),
                lse::LABEL => lse.label = Some(label(&part)?),
                _ => {}
            }
        }
        let above = lses.last().map_or(0, |lse| lse.depth);
        if lse.depth <= above || usize::from(lse.depth) > MAX_LSES {
            return Err(nest.invalid("depths out of order"));
        }
        lses.push(lse);
    }
    Ok(lses)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn lse() -> impl Strategy<Value = Lse> {
        let part = |most: u8| proptest::option::of(0..=most);
        (proptest::option::of(0..0x10_0000u32), part(7), part(1), part(255))
            .prop_map(|(label, tc, bos, ttl)| Lse { depth: 0, label, tc, bos, ttl })
    }

    fn numbered(mut lses: Vec<Lse>) -> Vec<Lse> {
        // An outermost entry alone without parts cannot be told.
        if let [lse] = &mut *lses {
            lse.ttl = lse.ttl.or(Some(64));
        }
        for (depth, lse) in lses.iter_mut().enumerate() {
            lse.depth = depth as u8 + 1;
        }
        lses
    }

    /// Any key.
    pub fn any_key() -> impl Strategy<Value = FlowerKey> {
        let fields = proptest::collection::vec(
            (proptest::sample::select(KeyField::ALL), any::<[u8; 16]>(), any::<[u8; 16]>()),
            0..12,
        );
        let lses = proptest::collection::vec(lse(), 0..4).prop_map(numbered);
        let opts = proptest::option::of(super::super::options::tests::any_opts());
        (fields, lses, opts).prop_map(|(fields, lses, opts)| {
            let mut key = FlowerKey { lses, opts, ..FlowerKey::default() };
            for (field, value, mask) in fields {
                key.set(field, Bits(value), Bits(mask));
            }
            key
        })
    }

    #[test]
    fn attributes_are_of_one_field_each() {
        for &field in KeyField::ALL {
            let row = field.row();
            assert_eq!(KeyField::of(row.value), Some((field, false)), "{}", row.name);
            if row.mask != 0 {
                assert_eq!(KeyField::of(row.mask), Some((field, true)), "{}", row.name);
            }
            assert!((1..=16).contains(&row.width), "{}", row.name);
        }
        assert_eq!((KeyField::of(0), KeyField::of(84), KeyField::of(u16::MAX)), (None, None, None));
    }

    #[test]
    fn numbers_are_in_the_order_of_their_field() {
        let mut key = FlowerKey::default();
        key.set_exact(KeyField::TcpDst, 80u16);
        key.set_number(KeyField::CtMark, 0x1234, 0xffff);
        let mut out = Writer::new();
        key.encode(&mut out);
        let attrs = Attrs::new(out.bytes());
        assert_eq!(attrs.find(19).unwrap().be16().unwrap().get(), 80);
        assert_eq!(attrs.find(36).unwrap().be16().unwrap().get(), 0xffff);
        assert_eq!((attrs.find(95).unwrap().u32(), attrs.find(96).unwrap().u32()), (Ok(0x1234), Ok(0xffff)));
        assert_eq!(key.number(KeyField::CtMark), Some((0x1234, 0xffff)));
        assert_eq!(key.number(KeyField::UdpDst), None);
    }

    #[test]
    fn a_shape_forgets_values_alone() {
        let key = |port: u16, mask: u128| {
            let mut key = FlowerKey::default();
            key.set_number(KeyField::UdpSrc, port.into(), mask);
            key
        };
        assert_eq!(key(1, 0xff).shape(), key(2, 0xff).shape());
        assert_ne!(key(1, 0xff).shape(), key(1, 0xfff).shape());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_written_reads_the_same(key in any_key()) {
            let mut out = Writer::new();
            key.encode(&mut out);
            prop_assert_eq!(FlowerKey::decode(Attrs::new(out.bytes())), Ok(key));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = FlowerKey::decode(Attrs::new(&bytes));
        }
    }
}
