//! Rules as messages: `RTM_NEWTFILTER`, `RTM_DELTFILTER`, `RTM_GETTFILTER` of kind `flower`.

use datapath::netlink::{Batch, flag};
use flow::attr::{Attr, AttrError, Attrs, Writer};

use super::action::{self, ActStats, Spec, TcAction};
use super::key::{FlowerKey, KeyField};
use super::{HEADER, Hook, On, TCA_KIND, TCA_OPTIONS, header};

pub const RTM_NEWTFILTER: u16 = 44;
pub const RTM_DELTFILTER: u16 = 45;
pub const RTM_GETTFILTER: u16 = 46;

const TCA_CHAIN: u16 = 11;
const TCA_DUMP_FLAGS: u16 = 15;
/// Only what tells rules apart, and their counters.
const DUMP_TERSE: u32 = 1;

const FLOWER_ACT: u16 = 3;
const FLOWER_FLAGS: u16 = 22;
const FLOWER_IN_HW_COUNT: u16 = 86;

/// The kind of classifier.
const FLOWER: &str = "flower";

/// Flags of a rule (`TCA_CLS_FLAGS_*`).
pub mod cls {
    pub const SKIP_HW: u32 = 1;
    pub const SKIP_SW: u32 = 2;
    pub const IN_HW: u32 = 4;
    pub const NOT_IN_HW: u32 = 8;
    /// Refusals of hardware are told even if the rule goes into software.
    pub const VERBOSE: u32 = 16;
}

/// What names a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Id {
    pub on: On,
    pub hook: Hook,
    pub chain: u32,
    pub prio: u16,
    /// The EtherType of the packets that are asked; `ETH_P_ALL` for any.
    pub protocol: u16,
    /// Which of the rules of one priority.
    pub handle: u32,
}

impl Id {
    fn header(&self) -> [u8; HEADER] {
        let info = u32::from(self.prio) << 16 | u32::from(self.protocol.to_be());
        header(self.on, self.hook, self.handle, info)
    }
}

/// A rule as the kernel tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    pub id: Id,
    /// Empty in terse dumps.
    pub key: FlowerKey,
    /// Of [`cls`].
    pub flags: u32,
    /// Devices that have it.
    pub in_hw_count: u32,
    /// Without parameters in terse dumps.
    pub actions: Vec<TcAction>,
    /// Of the first action that no other rule shares.
    pub stats: ActStats,
}

impl Filter {
    /// What userspace remembers with the rule.
    pub fn cookie(&self) -> Option<&[u8]> {
        self.actions.iter().find_map(|action| action.cookie.as_deref())
    }
}

/// Appends a request for a new rule, or with `replace` one for another in place of the one that is there.
pub fn push_put(
    batch: &mut Batch,
    id: &Id,
    key: &FlowerKey,
    actions: &[TcAction],
    flags: u32,
    replace: bool,
) {
    let how = if replace { flag::CREATE } else { flag::CREATE | flag::EXCL };
    // What hardware says of a rule that the kernel takes all the same comes with the acknowledgement.
    let heard = if flags & cls::VERBOSE == 0 { 0 } else { flag::ACK };
    batch.push(RTM_NEWTFILTER, how | heard, &id.header(), |attrs| {
        attrs.put_str(TCA_KIND, FLOWER);
        attrs.put_u32(TCA_CHAIN, id.chain);
        attrs.nest_flagged(TCA_OPTIONS, |options| {
            key.encode(options);
            options.put_u32(FLOWER_FLAGS, flags);
            action::encode_all(actions, FLOWER_ACT, options);
        });
    });
}

/// Appends a request to delete a rule; all of a priority if the handle is 0.
pub fn push_del(batch: &mut Batch, id: &Id) {
    batch.push(RTM_DELTFILTER, 0, &id.header(), |attrs| put_name(attrs, id));
}

/// Appends a request to tell a rule.
pub fn push_get(batch: &mut Batch, id: &Id) {
    batch.push(RTM_GETTFILTER, flag::ECHO, &id.header(), |attrs| put_name(attrs, id));
}

fn put_name(attrs: &mut Writer, id: &Id) {
    attrs.put_str(TCA_KIND, FLOWER);
    attrs.put_u32(TCA_CHAIN, id.chain);
}

/// The fixed part of a request to tell all rules.
pub fn dump_header(on: On, hook: Hook) -> [u8; HEADER] {
    header(on, hook, 0, 0)
}

/// Writes the rest of a request to tell all rules.
pub fn put_dump(attrs: &mut Writer, terse: bool) {
    if terse {
        let flags = [DUMP_TERSE.to_ne_bytes(); 2].concat();
        attrs.put(TCA_DUMP_FLAGS, &flags);
    }
}

/// Reads the payload of a `RTM_NEWTFILTER`. `None` if it is no rule: of another kind, or only the head of some.
///
/// # Errors
/// Something is not as `linux/pkt_cls.h` says.
pub fn decode(payload: &[u8]) -> Result<Option<Filter>, AttrError> {
    read_name(payload)?.map(|(id, options)| decode_options(id, &options)).transpose()
}

/// The name of a rule, and the rest of it.
fn read_name(payload: &[u8]) -> Result<Option<(Id, Attr<'_>)>, AttrError> {
    let Some((head, tail)) = payload.split_first_chunk::<HEADER>() else {
        return Err(AttrError::Truncated { at: 0 });
    };
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (mut kind, mut options, mut chain) = ("", None, 0);
    for attr in Attrs::new_at(tail, HEADER) {
        let attr = attr?;
        match attr.kind {
            TCA_KIND => kind = attr.str()?,
            TCA_OPTIONS => options = Some(attr),
            TCA_CHAIN => chain = attr.u32()?,
            _ => {}
        }
    }
    let (handle, info) = (word(8), word(16));
    let Some(options) = options.filter(|_| kind == FLOWER && handle != 0) else { return Ok(None) };
    let (on, hook) = super::place(word(4), word(12));
    let (prio, protocol) = ((info >> 16) as u16, u16::from_be(info as u16));
    Ok(Some((Id { on, hook, chain, prio, protocol, handle }, options)))
}

/// What a terse dump tells of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glance {
    pub id: Id,
    /// Of [`cls`].
    pub flags: u32,
    /// What userspace remembers with the rule, if it is as long as what ours does.
    pub cookie: Option<[u8; action::MAX_COOKIE]>,
    pub stats: ActStats,
}

impl Glance {
    /// What of a rule is told.
    pub fn of(filter: &Filter) -> Self {
        let cookie = filter.cookie().and_then(|cookie| cookie.try_into().ok());
        Self { id: filter.id, flags: filter.flags, cookie, stats: filter.stats }
    }

    /// Reads as [`decode`] does, only what is told, and without memory for it.
    ///
    /// # Errors
    /// As for [`decode`].
    pub fn read(payload: &[u8]) -> Result<Option<Self>, AttrError> {
        let Some((id, options)) = read_name(payload)? else { return Ok(None) };
        let mut glance = Self { id, flags: 0, cookie: None, stats: ActStats::default() };
        for attr in options.nested() {
            let attr = attr?;
            match attr.kind {
                FLOWER_FLAGS => glance.flags = attr.u32()?,
                FLOWER_ACT => {
                    let (mut counts, mut cookie) = (Counts::default(), None);
                    action::glance_all(attr.nested(), &mut |kind, remembered, counted| {
                        cookie = cookie.or(remembered);
                        counts.add(kind != "police", counted);
                    })?;
                    glance.cookie = cookie.and_then(|cookie: &[u8]| cookie.try_into().ok());
                    glance.stats = counts.sum();
                }
                _ => {}
            }
        }
        Ok(Some(glance))
    }
}

fn decode_options(id: Id, options: &Attr<'_>) -> Result<Filter, AttrError> {
    let mut key = FlowerKey::decode(options.nested())?;
    // Of tagged packets the kernel tells the EtherType behind the tags; the one in front is the rule's protocol.
    if key.get(KeyField::VlanEthType).is_some() {
        key.set_exact(KeyField::EthType, id.protocol);
    }
    let mut filter =
        Filter { id, key, flags: 0, in_hw_count: 0, actions: Vec::new(), stats: ActStats::default() };
    for attr in options.nested() {
        let attr = attr?;
        match attr.kind {
            FLOWER_FLAGS => filter.flags = attr.u32()?,
            FLOWER_IN_HW_COUNT => filter.in_hw_count = attr.u32()?,
            FLOWER_ACT => {
                let told = action::decode_all(attr.nested())?;
                filter.stats = sum_of(&told);
                filter.actions = told.into_iter().map(|(action, _)| action).collect();
            }
            _ => {}
        }
    }
    Ok(filter)
}

/// What a rule counted: the most that any of the actions counted that are its own. Not all kinds take up what hardware counts:
/// `tunnel_key` does not.
#[derive(Default)]
struct Counts {
    own: Option<ActStats>,
    first: Option<ActStats>,
}

impl Counts {
    fn add(&mut self, is_own: bool, counted: ActStats) {
        self.first = self.first.or(Some(counted));
        if !is_own {
            return;
        }
        let most = |a: ActStats, b: ActStats| ActStats {
            packets: a.packets.max(b.packets),
            bytes: a.bytes.max(b.bytes),
            hw_packets: a.hw_packets.max(b.hw_packets),
            hw_bytes: a.hw_bytes.max(b.hw_bytes),
            drops: a.drops.max(b.drops),
            idle: a.idle.into_iter().chain(b.idle).min(),
        };
        self.own = Some(self.own.map_or(counted, |own| most(own, counted)));
    }

    fn sum(self) -> ActStats {
        self.own.or(self.first).unwrap_or_default()
    }
}

fn sum_of(told: &[(TcAction, ActStats)]) -> ActStats {
    // Of limits only one that is told with its parameters is known to be the rule's own.
    let is_own = |action: &TcAction| match &action.spec {
        Spec::Police(_) => !action.is_shared(),
        spec => spec.kind() != "police",
    };
    let mut counts = Counts::default();
    told.iter().for_each(|(action, counted)| counts.add(is_own(action), *counted));
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::super::action::tests::any_actions;
    use super::super::key::tests::any_key;
    use super::*;
    use datapath::netlink::Messages;
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::tc::{TcAttribute, TcHandle, TcOption};
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = Id> {
        let on = prop_oneof![(1..u32::MAX).prop_map(On::Device), (1..=u32::MAX).prop_map(On::Block),];
        let hook = prop_oneof![Just(Hook::Ingress), Just(Hook::Egress)];
        (on, hook, any::<u32>(), 1..u16::MAX, any::<u16>(), 1..=u32::MAX).prop_map(
            |(on, hook, chain, prio, protocol, handle)| {
                // A block is of neither direction.
                let hook = if matches!(on, On::Block(_)) { Hook::Ingress } else { hook };
                Id { on, hook, chain, prio, protocol, handle }
            },
        )
    }

    fn put(id: &Id, key: &FlowerKey, actions: &[TcAction], flags: u32) -> Batch {
        let mut batch = Batch::default();
        push_put(&mut batch, id, key, actions, flags, false);
        batch
    }

    #[test]
    fn other_libraries_read_the_same() {
        let id = Id { on: On::Device(7), hook: Hook::Ingress, chain: 3, prio: 9, protocol: 0x800, handle: 5 };
        let mut key = FlowerKey::default();
        key.set_exact(KeyField::EthType, 0x800u16);
        key.set_exact(KeyField::IpProto, 6u8);
        key.set_number(KeyField::Ipv4Dst, 0x0a00_0001, 0xffff_ff00);
        let batch = put(&id, &key, &[], cls::SKIP_HW);
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(batch.bytes()).unwrap();
        let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(tc)) = message.payload else {
            panic!("no filter: {message:?}");
        };
        assert_eq!((tc.header.index, tc.header.handle), (7, TcHandle::from(5)));
        assert_eq!(tc.header.parent, TcHandle::from(0xffff_fff2));
        assert_eq!(tc.header.info, 9 << 16 | u32::from(0x800u16.to_be()));
        assert!(tc.attributes.contains(&TcAttribute::Kind("flower".to_owned())));
        assert!(tc.attributes.contains(&TcAttribute::Chain(3)));
        let options = tc.attributes.iter().find_map(|attr| match attr {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        let text = format!("{:?}", options.unwrap());
        for part in ["EthType(2048)", "IpProto(6)", "Ipv4Dst(10.0.0.0)", "Ipv4DstMask(255.255.255.0)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(options.unwrap().iter().all(|option| matches!(option, TcOption::Flower(_))));
    }

    #[test]
    fn a_rule_counted_what_most_of_its_own_actions_did() {
        use super::super::action::{Control, Spec};
        let told = |spec, packets, idle| {
            let stats = ActStats { packets, bytes: packets * 100, idle, ..ActStats::default() };
            (TcAction { spec, control: Control::Pipe, cookie: None }, stats)
        };
        let police = || Spec::Police(super::super::action::Police::by_index(7));
        let counted = |told: &[_]| {
            let stats = sum_of(told);
            (stats.packets, stats.bytes, stats.idle)
        };
        let rule = [
            told(police(), 99, Some(1)),
            told(Spec::TunnelKey(None), 2, Some(900)),
            told(Spec::Gact, 9, Some(5)),
        ];
        assert_eq!(counted(&rule), (9, 900, Some(5)));
        assert_eq!(counted(&rule[..2]), (2, 200, Some(900)));
        assert_eq!(counted(&rule[..1]), (99, 9900, Some(1)));
        assert_eq!(counted(&[]), (0, 0, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_written_reads_the_same(
            id in id(), mut key in any_key(), actions in any_actions(), flags in any::<u32>(),
        ) {
            // The rule's protocol is the EtherType of the outermost tag.
            if key.get(KeyField::VlanEthType).is_some() {
                key.set_exact(KeyField::EthType, id.protocol);
            }
            let batch = put(&id, &key, &actions, flags);
            let message = Messages::new(batch.bytes()).next().unwrap().unwrap();
            prop_assert_eq!(message.kind, RTM_NEWTFILTER);
            let stats = ActStats::default();
            let filter = Filter { id, key, flags, in_hw_count: 0, actions, stats };
            prop_assert_eq!(Glance::read(message.payload), Ok(Some(Glance::of(&filter))));
            prop_assert_eq!(decode(message.payload), Ok(Some(filter)));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (decode(&bytes), Glance::read(&bytes));
            let mut told = vec![0; HEADER];
            told[8] = 1;
            let mut attrs = Writer::after(told);
            attrs.put_str(TCA_KIND, FLOWER);
            attrs.put(TCA_OPTIONS, &bytes);
            let told = attrs.into_bytes();
            let _ = Glance::read(&told);
            let _ = decode(&told);
        }
    }
}
