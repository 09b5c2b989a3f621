//! Options of tunnel headers: in what a rule matches ([`EncOpts`]), and in what `tunnel_key` sets ([`SetOpts`]).

use flow::attr::{Attr, AttrError, Writer};

/// Kinds of options, in keys and in `tunnel_key` the same.
mod kind {
    pub const GENEVE: u16 = 1;
    pub const VXLAN: u16 = 2;
    pub const ERSPAN: u16 = 3;
    pub const GTP: u16 = 4;
}

mod geneve {
    pub const CLASS: u16 = 1;
    pub const TYPE: u16 = 2;
    pub const DATA: u16 = 3;
}

const VXLAN_GBP: u16 = 1;

mod erspan {
    pub const VER: u16 = 1;
    pub const INDEX: u16 = 2;
    pub const DIR: u16 = 3;
    pub const HWID: u16 = 4;
}

mod gtp {
    pub const PDU_TYPE: u16 = 1;
    pub const QFI: u16 = 2;
}

/// The bits of group-based policy that the kernel knows: "do not learn", "policy applied", and the id.
pub const GBP_BITS: u32 = 0x48_ffff;

/// Bytes of an option's data, at most. The kernel wants four at least.
pub const MAX_GENEVE_DATA: usize = 124;

/// A Geneve option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct GeneveOpt {
    pub class: u16,
    pub kind: u8,
    /// A multiple of four bytes.
    pub data: Vec<u8>,
}

impl GeneveOpt {
    fn encode(&self, out: &mut Writer) {
        out.nest_flagged(kind::GENEVE, |nest| {
            nest.put(geneve::CLASS, &self.class.to_be_bytes());
            nest.put_u8(geneve::TYPE, self.kind);
            nest.put(geneve::DATA, &self.data);
        });
    }

    /// Reads all options. Each is put in a nest of its own; the kernel tells of them one after another in one nest, so that
    /// it is the data that ends an option.
    fn decode_all(list: &Attr<'_>) -> Result<Vec<Self>, AttrError> {
        let mut opts = Vec::new();
        for nest in list.nested() {
            let nest = nest?;
            let mut opt = Self::default();
            for part in nest.nested() {
                let part = part?;
                match part.kind {
                    geneve::CLASS => opt.class = part.be16()?.get(),
                    geneve::TYPE => opt.kind = part.u8()?,
                    geneve::DATA
                        if part.data.len() > MAX_GENEVE_DATA || !part.data.len().is_multiple_of(4) =>
                    {
                        return Err(part.invalid("bad length of an option"));
                    }
                    geneve::DATA => {
                        opt.data = part.data.to_vec();
                        opts.push(std::mem::take(&mut opt));
                    }
                    _ => {}
                }
            }
        }
        Ok(opts)
    }

    /// Options as they are in a Geneve header; `None` if they are none.
    pub fn parse_all(mut raw: &[u8]) -> Option<Vec<Self>> {
        let mut opts = Vec::new();
        while !raw.is_empty() {
            let (head, rest) = raw.split_first_chunk::<4>()?;
            let (data, rest) = rest.split_at_checked(usize::from(head[3] & 0x1f) * 4)?;
            let class = u16::from_be_bytes([head[0], head[1]]);
            opts.push(Self { class, kind: head[2], data: data.to_vec() });
            raw = rest;
        }
        Some(opts)
    }

    /// The option as it is in a Geneve header.
    pub fn write(&self, raw: &mut Vec<u8>) {
        raw.extend(self.class.to_be_bytes());
        raw.extend([self.kind, (self.data.len() / 4) as u8]);
        raw.extend(&self.data);
    }
}

/// ERSPAN metadata, by version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Erspan {
    V1 { index: u32 },
    V2 { dir: u8, hwid: u8 },
}

impl Erspan {
    fn encode(self, out: &mut Writer) {
        out.nest_flagged(kind::ERSPAN, |nest| {
            nest.put_u8(erspan::VER, self.version());
            match self {
                Self::V1 { index } => nest.put(erspan::INDEX, &index.to_be_bytes()),
                Self::V2 { dir, hwid } => {
                    nest.put_u8(erspan::DIR, dir);
                    nest.put_u8(erspan::HWID, hwid);
                }
            }
        });
    }

    const fn version(self) -> u8 {
        match self {
            Self::V1 { .. } => 1,
            Self::V2 { .. } => 2,
        }
    }

    const fn exact(self) -> Self {
        match self {
            Self::V1 { .. } => Self::V1 { index: u32::MAX },
            Self::V2 { .. } => Self::V2 { dir: u8::MAX, hwid: u8::MAX },
        }
    }

    /// A mask over `value`. The kernel reads the parts of one that has the value's version, and tells of others as 255.
    fn decode_mask(attr: &Attr<'_>, value: Self) -> Result<Self, AttrError> {
        match attr.nested().find(erspan::VER).map(|ver| ver.u8()) {
            Some(Ok(u8::MAX)) => Ok(value.exact()),
            _ => Self::decode(attr, Some(value.version())),
        }
    }

    /// The parts that are there; which of them count is told by `version`, or else by the version among them.
    fn decode(attr: &Attr<'_>, version: Option<u8>) -> Result<Self, AttrError> {
        let (mut ver, mut index, mut dir, mut hwid) = (0, 0, 0, 0);
        for part in attr.nested() {
            let part = part?;
            match part.kind {
                erspan::VER => ver = part.u8()?,
                erspan::INDEX => index = part.be32()?.get(),
                erspan::DIR => dir = part.u8()?,
                erspan::HWID => hwid = part.u8()?,
                _ => {}
            }
        }
        match version.unwrap_or(ver) {
            1 => Ok(Self::V1 { index }),
            2 => Ok(Self::V2 { dir, hwid }),
            _ => Err(attr.invalid("unknown version of ERSPAN")),
        }
    }
}

/// Tunnel options that a rule matches: value and mask of each part.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EncOpts {
    /// All options of the header, in order; the mask has data of the same length.
    Geneve(Vec<(GeneveOpt, GeneveOpt)>),
    /// Group-based policy: flags in bits 16 to 23, id in the low 16 bits.
    Vxlan(u32, u32),
    /// Both of the same version.
    Erspan(Erspan, Erspan),
    /// PDU type and QFI.
    Gtp([u8; 2], [u8; 2]),
}

impl EncOpts {
    /// The masks, as values too.
    pub fn shape(&self) -> Self {
        match self {
            Self::Geneve(opts) => {
                Self::Geneve(opts.iter().map(|(_, mask)| (mask.clone(), mask.clone())).collect())
            }
            Self::Vxlan(_, mask) => Self::Vxlan(*mask, *mask),
            Self::Erspan(_, mask) => Self::Erspan(*mask, *mask),
            Self::Gtp(_, mask) => Self::Gtp(*mask, *mask),
        }
    }

    pub(super) fn encode(&self, out: &mut Writer, is_mask: bool) {
        match self {
            Self::Geneve(opts) => {
                opts.iter().for_each(|(value, mask)| if is_mask { mask } else { value }.encode(out));
            }
            Self::Vxlan(value, mask) => out.nest_flagged(kind::VXLAN, |nest| {
                nest.put_u32(VXLAN_GBP, if is_mask { *mask } else { *value });
            }),
            Self::Erspan(value, mask) => {
                if is_mask { mask } else { value }.encode(out);
            }
            Self::Gtp(value, mask) => out.nest_flagged(kind::GTP, |nest| {
                let [pdu_type, qfi] = if is_mask { mask } else { value };
                nest.put_u8(gtp::PDU_TYPE, *pdu_type);
                nest.put_u8(gtp::QFI, *qfi);
            }),
        }
    }

    /// Reads values and masks; without masks, the match is exact. `None` for options of no kind that is known.
    pub(super) fn decode(values: &Attr<'_>, masks: Option<&Attr<'_>>) -> Result<Option<Self>, AttrError> {
        let Some(first) = values.nested().next() else { return Ok(None) };
        let first = first?;
        let mask = masks.and_then(|masks| masks.nested().find(first.kind));
        Ok(Some(match first.kind {
            kind::GENEVE => Self::Geneve(decode_geneve(values, masks)?),
            kind::VXLAN => {
                let part = |attr: &Attr<'_>| attr.nested().find(VXLAN_GBP).map_or(Ok(0), |part| part.u32());
                Self::Vxlan(part(&first)?, mask.map_or(Ok(u32::MAX), |mask| part(&mask))?)
            }
            kind::ERSPAN => {
                let value = Erspan::decode(&first, None)?;
                let mask = mask.map_or(Ok(value.exact()), |mask| Erspan::decode_mask(&mask, value))?;
                Self::Erspan(value, mask)
            }
            kind::GTP => {
                let byte = |attr: &Attr<'_>, kind| {
                    attr.nested().find(kind).map_or(Ok(0), |part: Attr<'_>| part.u8())
                };
                let both = |attr: &Attr<'_>| Ok([byte(attr, gtp::PDU_TYPE)?, byte(attr, gtp::QFI)?]);
                Self::Gtp(both(&first)?, mask.map_or(Ok([u8::MAX; 2]), |mask| both(&mask))?)
            }
            _ => return Ok(None),
        }))
    }
}

fn decode_geneve(
    values: &Attr<'_>,
    masks: Option<&Attr<'_>>,
) -> Result<Vec<(GeneveOpt, GeneveOpt)>, AttrError> {
    let values = GeneveOpt::decode_all(values)?;
    let masks = masks.map(GeneveOpt::decode_all).transpose()?;
    let pairs = values.into_iter().enumerate().map(|(at, value)| {
        let exact = || GeneveOpt { class: u16::MAX, kind: u8::MAX, data: vec![u8::MAX; value.data.len()] };
        let mut mask = match &masks {
            Some(masks) => masks.get(at).cloned().unwrap_or_default(),
            None => exact(),
        };
        mask.data.resize(value.data.len(), 0);
        (value, mask)
    });
    Ok(pairs.collect())
}

/// Tunnel options that `tunnel_key` sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetOpts {
    Geneve(Vec<GeneveOpt>),
    /// As [`EncOpts::Vxlan`].
    Vxlan(u32),
    Erspan(Erspan),
}

impl SetOpts {
    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Geneve(opts) => opts.iter().for_each(|opt| opt.encode(out)),
            Self::Vxlan(gbp) => out.nest_flagged(kind::VXLAN, |nest| nest.put_u32(VXLAN_GBP, *gbp)),
            Self::Erspan(erspan) => erspan.encode(out),
        }
    }

    /// `None` for options of no kind that is known.
    pub(super) fn decode(attr: &Attr<'_>) -> Result<Option<Self>, AttrError> {
        let Some(first) = attr.nested().next() else { return Ok(None) };
        let first = first?;
        Ok(match first.kind {
            kind::GENEVE => Some(Self::Geneve(GeneveOpt::decode_all(attr)?)),
            kind::VXLAN => {
                Some(Self::Vxlan(first.nested().find(VXLAN_GBP).map_or(Ok(0), |part| part.u32())?))
            }
            kind::ERSPAN => Some(Self::Erspan(Erspan::decode(&first, None)?)),
            _ => None,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn geneve(words: usize) -> impl Strategy<Value = GeneveOpt> {
        (any::<u16>(), any::<u8>(), proptest::collection::vec(any::<u8>(), words * 4))
            .prop_map(|(class, kind, data)| GeneveOpt { class, kind, data })
    }

    pub fn any_opts() -> impl Strategy<Value = EncOpts> {
        let pair = (1..4usize).prop_flat_map(|words| (geneve(words), geneve(words)));
        let v1 = any::<u32>().prop_map(|index| Erspan::V1 { index });
        let v2 = any::<(u8, u8)>().prop_map(|(dir, hwid)| Erspan::V2 { dir, hwid });
        prop_oneof![
            proptest::collection::vec(pair, 1..4).prop_map(EncOpts::Geneve),
            any::<(u32, u32)>().prop_map(|(value, mask)| EncOpts::Vxlan(value, mask)),
            (v1.clone(), v1).prop_map(|(value, mask)| EncOpts::Erspan(value, mask)),
            (v2.clone(), v2).prop_map(|(value, mask)| EncOpts::Erspan(value, mask)),
            any::<([u8; 2], [u8; 2])>().prop_map(|(value, mask)| EncOpts::Gtp(value, mask)),
        ]
    }

    /// As the kernel tells of options.
    #[test]
    fn options_in_one_nest_are_several() {
        let mut out = Writer::new();
        out.nest(9, |list| {
            list.nest(kind::GENEVE, |nest| {
                for (class, data) in [(0x102u16, [7u8; 4]), (0x103, [8; 4])] {
                    nest.put(geneve::CLASS, &class.to_be_bytes());
                    nest.put_u8(geneve::TYPE, 5);
                    nest.put(geneve::DATA, &data);
                }
            });
        });
        let list = flow::attr::Attrs::new(out.bytes()).find(9).unwrap();
        let opt = |class, data: u8| GeneveOpt { class, kind: 5, data: vec![data; 4] };
        assert_eq!(SetOpts::decode(&list), Ok(Some(SetOpts::Geneve(vec![opt(0x102, 7), opt(0x103, 8)]))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn options_of_headers_are_read_and_written(opts in proptest::collection::vec((0..6usize).prop_flat_map(geneve), 0..4)) {
            let mut raw = Vec::new();
            opts.iter().for_each(|opt| opt.write(&mut raw));
            prop_assert_eq!(GeneveOpt::parse_all(&raw), Some(opts));
        }

        #[test]
        fn arbitrary_options_do_not_panic(raw in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = GeneveOpt::parse_all(&raw);
        }
    }
}
