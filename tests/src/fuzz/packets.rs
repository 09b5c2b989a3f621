//! Frames, keys, masks and actions of the datapath, wire and text.

use std::collections::BTreeMap;

use datapath::conntrack::parse as conntrack;
use flow::action::{self, Action, Userspace};
use flow::attr::{Attrs, Writer};
use flow::cookie::{CookieKind, SlowReasons, UserCookie};
use flow::ct::CtMatch;
use flow::describe::key_to_string;
use flow::exact;
use flow::extract::{Metadata, extract};
use flow::field::{self, Field, NoNames as NoFieldNames, Subfield};
use flow::id::{DpPort, OfPort, RecircId};
use flow::key::{Key, VLAN_CFI};
use flow::odp::format::{self, Style};
use flow::odp::{
    Fitness, KeyAttr, NoNames, OdpSupport, Params, RawKey, RawMask, key_from_flow, key_to_flow,
    mask_from_flow, mask_to_flow, parse,
};
use flow::proto::{PT_ETH, ethertype};
use flow::stack;
use flow::wildcards;

use super::{Target, choice, none, text_choice};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new("frame", "a packet type and a frame", frame, frame_seeds, none),
    Target::new("odp-key", "attributes of a datapath flow's key and mask", key, key_seeds, none),
    Target::new("odp-actions", "attributes of datapath actions", actions, action_seeds, none),
    Target::new("odp-text", "a datapath flow as text", flow_text, flow_text_seeds, odp_words),
    Target::new("action-text", "datapath actions as text", action_text, action_text_seeds, action_words),
    Target::new("field-text", "a field and its text", field, field_seeds, field_words),
    Target::new("exact-text", "one flow, field by field, as text", exact_text, exact_seeds, field_words),
    Target::new("ct-text", "which tracked connections are meant, as text", ct_text, ct_seeds, ct_words),
];

/// Some packets, by their datapath keys: what the other seeds are made from.
pub fn flows() -> Vec<&'static str> {
    vec![
        "in_port(1),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x0800),\
         ipv4(src=10.0.0.2,dst=10.0.0.1,proto=6,tos=0,ttl=64,frag=no),tcp(src=8,dst=9),tcp_flags(0x2)",
        "recirc_id(0x1),dp_hash(0x5),skb_priority(0x2),skb_mark(0x3),in_port(2),ct_state(+trk+est),ct_zone(0x7),\
         ct_mark(0x8),ct_label(0x9),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x8100),\
         vlan(vid=99,pcp=7),encap(eth_type(0x86dd),ipv6(src=::1,dst=::2,label=0x5,proto=58,tclass=0,hlimit=128,\
         frag=no),icmpv6(type=135,code=0),nd(target=::3,sll=00:05:06:07:08:09))",
        "tunnel(tun_id=0x7f10354,src=10.10.10.10,dst=20.20.20.20,tos=0x0,ttl=64,\
         geneve({class=0xffff,type=0x80,len=4,0xa}),flags(csum|key)),in_port(3),\
         eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x0806),\
         arp(sip=1.2.3.4,tip=5.6.7.8,op=1,sha=00:0f:10:11:12:13,tha=00:14:15:16:17:18)",
        "in_port(1),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x8847),\
         mpls(label=100,tc=7,ttl=64,bos=1)",
        "in_port(1),eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x0800),\
         ipv4(src=35.8.2.41,dst=172.16.0.20,proto=17,tos=0,ttl=128,frag=later)",
        "tunnel(tun_id=0x1,src=1.1.1.1,dst=1.1.1.2,ttl=64,erspan(ver=2,dir=1,hwid=0x7),flags(df|key)),in_port(4),\
         eth(src=50:54:00:00:00:09,dst=50:54:00:00:00:0a),eth_type(0x894f),\
         nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x123456,si=255,c1=0x1,c2=0x2,c3=0x3,c4=0x4)",
    ]
}

/// Those packets' attributes: key and mask.
pub fn raw_flows() -> Vec<(RawKey, RawMask)> {
    flows().iter().filter_map(|text| parse::flow(text, &NoNames).ok()).collect()
}

/// Those packets' frames.
pub fn frames() -> Vec<Vec<u8>> {
    let key = |(raw, _): &(RawKey, RawMask)| key_to_flow(raw).ok().map(|(key, _)| key);
    let frame = |key: Key| flow::compose::compose(&key, flow::compose::Payload::Len(64));
    raw_flows().iter().filter_map(key).map(frame).collect()
}

/// Datapath actions as text.
pub fn action_texts() -> Vec<&'static str> {
    vec![
        "1,2,userspace(pid=555666777,userdata(0102030405060708),tunnel_out_port=10)",
        "userspace(pid=6633,sFlow(vid=9,pcp=7,output=10),tunnel_out_port=10),userspace(pid=9765,slow_path(0x3))",
        "userspace(pid=1234567,flow_sample(probability=123,collector_set_id=1234,obs_domain_id=2345,\
         obs_point_id=3456,output_port=10,egress))",
        "userspace(pid=6633,ipfix(output_port=10)),userspace(pid=0,controller(reason=1,dont_send=0,\
         continuation=1,recirc_id=4444,rule_cookie=0x1f,controller_id=0,max_len=65535))",
        "set(tunnel(tun_id=0xabcdef1234567890,src=1.1.1.1,dst=2.2.2.2,ttl=64,geneve({class=0,type=0x40,len=4,\
         0x7}),flags(df|csum|key))),set(eth(src=00:01:02:03:04:05/ff:ff:ff:ff:ff:ff)),set(ipv4(ttl=3/0xff))",
        "push_vlan(vid=12,pcp=0),push_vlan(tpid=0x9100,vid=13,pcp=5,cfi=0),pop_vlan,\
         push_mpls(label=100,tc=7,ttl=64,bos=1,eth_type=0x8847),pop_mpls(eth_type=0x800)",
        "sample(sample=9.7%,actions(1,2,userspace(pid=3))),clone(1,clone(push_vlan(vid=12,pcp=0),2)),recirc(0x7)",
        "ct(commit,force,zone=5,mark=0xa/0xff,label=0x1/0xf,helper=ftp,nat(src=10.0.0.240-10.0.0.254:32768-\
         65535,persistent,hash)),ct(nat),ct_clear,hash(sym_l4(0)),trunc(100)",
        "tnl_push(tnl_port(4),header(size=50,type=4,eth(dst=f8:bc:12:44:34:b6,src=f8:bc:12:46:58:e0,\
         dl_type=0x0800),ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,\
         csum=0x0),vxlan(flags=0x8000000,vni=0x1c7)),out_port(1))",
        "tnl_pop(4),check_pkt_len(size=200,gt(drop),le(5,recirc(0x2))),meter(3),lb_output(1),\
         push_eth(src=00:01:02:03:04:05,dst=06:07:08:09:0a:0b),pop_eth",
        "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x1,si=255,md2=0x00010305aabbcc),pop_nsh(),dec_ttl(le_1(1)),\
         add_mpls(label=200,tc=7,ttl=64,bos=1,eth_type=0x8847),psample(group=12,cookie=0x0102),drop",
    ]
}

/// Those actions.
pub fn action_lists() -> Vec<Vec<Action>> {
    action_texts().iter().filter_map(|text| action::parse::actions(text, &NoNames).ok()).collect()
}

fn frame(data: &[u8]) {
    let Some((&[mode, high, low], bytes)) = data.split_first_chunk::<3>() else { return };
    let ethertype = u32::from(high) << 8 | u32::from(low);
    let packet_type = if mode & 1 == 0 { PT_ETH } else { 1 << 16 | ethertype };
    let meta = Metadata { packet_type, vlan_limit: mode >> 1 & 3, ..Metadata::from_port(3) };
    let mut key = Key::default();
    let layout = extract(bytes, &meta, &mut key);
    let ends = [layout.l2_5, layout.l3, layout.l4].into_iter().flatten().map(usize::from);
    ends.for_each(|at| assert!(at <= bytes.len(), "a layer begins at {at} of {}", bytes.len()));
    assert!(usize::from(layout.l2_pad) <= bytes.len());
    let _ = key_to_string(&key, &NoFieldNames);
    keys_agree(&key);
    for trusted in [false, true] {
        if let Some(tracked) = conntrack::parse(bytes, &layout, trusted) {
            assert!(tracked.inner.is_some() || tracked.key.proto == key.nw_proto);
        }
    }
}

/// Whether OVS's attributes cannot tell this key: of a frame that ends before its first MPLS label, whose attribute of no
/// labels is one that it refuses itself, or within a VLAN tag; of a tag without the bit that says that there is one; of
/// ARP's operation 255, which stands for all; of ERSPAN of another version.
fn is_untold(key: &Key) -> bool {
    let arp = matches!(key.dl_type.get(), ethertype::ARP | ethertype::RARP);
    ethertype::is_mpls(key.dl_type.get()) && stack::labels(key, None) == 0
        || ethertype::is_vlan(key.dl_type.get())
        || key.vlans.iter().any(|vlan| vlan.tci.get() != 0 && vlan.tci.get() & VLAN_CFI == 0)
        || arp && key.nw_proto == u8::MAX
        || !matches!(key.tunnel.erspan_ver, 0..=2)
}

/// A key that a packet can have survives its attributes.
fn keys_agree(key: &Key) {
    if is_untold(key) {
        return;
    }
    let raw = key_from_flow(&Params::new(key, &OdpSupport::ALL));
    let Ok((again, fitness)) = key_to_flow(&raw) else {
        panic!("attributes of our own are malformed: {:02x?}", raw.0);
    };
    // A packet that is cut has fields without their neighbours, which attributes cannot tell.
    if fitness == Fitness::Perfect {
        let twice = key_from_flow(&Params::new(&again, &OdpSupport::ALL));
        assert_eq!(raw.0, twice.0);
    }
    let mask = wildcards::for_packet(key);
    let params = Params { mask: Some(&mask), ..Params::new(key, &OdpSupport::ALL) };
    let raw_mask = mask_from_flow(&params, &mask);
    let _ = mask_to_flow(&raw_mask, &again);
    format::flow(&raw.0, &raw_mask.0, &Style::new(&NoNames, true));
}

fn frame_seeds() -> Vec<Vec<u8>> {
    frames().into_iter().map(|frame| [&[2, 0, 0][..], &frame].concat()).collect()
}

fn key(data: &[u8]) {
    let Some((parts, bytes)) = choice(data) else { return };
    let (raw, mask) = bytes.split_at((parts * 4).min(bytes.len()));
    attributes_agree(raw);
    let (raw, mask) = (RawKey(raw.into()), RawMask(mask.into()));
    for verbose in [false, true] {
        format::flow(&raw.0, &mask.0, &Style::new(&NoNames, verbose));
    }
    let Ok((key, fitness)) = key_to_flow(&raw) else { return };
    let _ = mask_to_flow(&mask, &key);
    let _ = key_to_string(&key, &NoFieldNames);
    if fitness == Fitness::Perfect {
        keys_agree(&key);
    }
}

fn attributes_agree(raw: &[u8]) {
    let Ok(attrs) = KeyAttr::decode_all(Attrs::new(raw)) else { return };
    let mut writer = Writer::new();
    attrs.iter().for_each(|attr| attr.encode(&mut writer));
    if !writer.is_cut() {
        assert_eq!(KeyAttr::decode_all(Attrs::new(writer.bytes())), Ok(attrs));
    }
}

fn key_seeds() -> Vec<Vec<u8>> {
    let seed = |(key, mask): (RawKey, RawMask)| [&[(key.0.len() / 4) as u8], &*key.0, &*mask.0].concat();
    raw_flows().into_iter().map(seed).collect()
}

fn actions(data: &[u8]) {
    let Ok(list) = Action::decode_all(data) else { return };
    action::format::actions(&list, &NoNames);
    if Action::fit(&list) {
        assert_eq!(Action::decode_all(&Action::encode_all(&list)).as_ref(), Ok(&list));
    }
    for one in &list {
        if let Action::Userspace(Userspace { userdata: Some(userdata), .. }) = one
            && let Some(cookie) = UserCookie::decode(userdata)
        {
            assert_eq!(UserCookie::decode(&cookie.encode()), Some(cookie));
        }
    }
}

fn action_seeds() -> Vec<Vec<u8>> {
    let mut lists = action_lists();
    let kind = CookieKind::SlowPath { reasons: SlowReasons::from_bits_retain(3) };
    let cookie = UserCookie { in_port: OfPort(1), ofproto: [7; 16], kind };
    let userdata = Some(cookie.encode().to_vec());
    lists.push(vec![
        Action::Userspace(Userspace { pid: 1, userdata, egress_tun_port: Some(DpPort(2)), actions: true }),
        Action::Recirc(RecircId(5)),
    ]);
    lists.iter().map(|list| Action::encode_all(list)).collect()
}

/// Two ports with names.
fn port_names() -> BTreeMap<DpPort, String> {
    [(DpPort(1), "p1".to_owned()), (DpPort(2), "br0".to_owned())].into()
}

fn flow_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names = port_names();
    let Ok((key, mask)) = parse::flow(text, &names) else { return };
    if let Ok((flow, _)) = key_to_flow(&key) {
        let _ = mask_to_flow(&mask, &flow);
    }
    format::flow(&key.0, &mask.0, &Style::new(&names, false));
    let printed = format::flow(&key.0, &mask.0, &Style::new(&NoNames, true));
    // An attribute that is there twice has the mask of the first.
    let kinds: Vec<u16> = key.attrs().flatten().map(|attr| attr.kind).collect();
    if kinds.is_empty() || kinds.iter().enumerate().any(|(at, kind)| kinds[..at].contains(kind)) {
        return;
    }
    let Ok((key, mask)) = parse::flow(&printed, &NoNames) else {
        panic!("what was printed cannot be read: {printed}");
    };
    assert_eq!(format::flow(&key.0, &mask.0, &Style::new(&NoNames, true)), printed);
}

fn flow_text_seeds() -> Vec<Vec<u8>> {
    let more = [
        "in_port(p1),eth(src=50:54:00:00:00:09/ff:ff:ff:00:00:00),eth_type(0x0800/0xff00),ipv4(src=1.2.3.4/255.255.0.0,\
         proto=17/0xf0,frag=no),udp(src=81/0xff00)",
        "ufid:00000000-0000-0001-0000-000000000002 recirc_id(0),in_port(br0),packet_type(ns=1,id=0x800),eth_type(0x0800)",
        "in_port(1),ct_tuple4(src=10.1.1.1,dst=10.1.1.2,proto=6,tp_src=1,tp_dst=2),ct_state(0x21/0x3f),\
         tunnel(tun_id=0x1/0xff,vxlan(gbp(id=10,flags=0xb)),flags(+df-csum+key)),nd_ext(nd_reserved=0x1,nd_options_type=1)",
    ];
    flows().into_iter().chain(more).map(|text| text.as_bytes().to_vec()).collect()
}

fn odp_words() -> Vec<String> {
    let rows = (0..64).filter_map(flow::odp::rows::find);
    let names = rows.map(|row| format!("{}(", row.name));
    let more = "+ - | / = , ) )) 0x src= dst= proto= tos= ttl= frag= vid= pcp= cfi= tpid= label= tc= bos= encap( flags( geneve( \
                {class= type= len= } vxlan(gbp(id= erspan(ver= idx= dir= hwid= gtpu( ns= id= no first later ufid: key csum df \
                oam crit trk new est rel rpl inv snat dnat sip= tip= op= sha= tha= target= sll= tll= tun_id= tun_flags= \
                ipv6_src= ipv6_dst= tclass= hlimit= mdtype= np= spi= si= c1= c2= c3= c4= md2= 255.255.255.0 ff:ff:ff:ff:ff:ff \
                ::1 /::ffff recirc_id(0)";
    names.chain(more.split(' ').map(str::to_owned)).collect()
}

fn action_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(list) = action::parse::actions(text, &port_names()) else { return };
    if Action::fit(&list) {
        let coded = Action::decode_all(&Action::encode_all(&list));
        assert!(coded.is_ok(), "actions that were read cannot be decoded: {coded:?} {list:?}");
    }
    let printed = action::format::actions(&list, &NoNames);
    // As OVS's, the text of these bytes loses the zeroes at their beginning, down to an odd number of digits.
    if printed.contains("cookie=0") || printed.contains("md2=0") {
        return;
    }
    let Ok(list) = action::parse::actions(&printed, &NoNames) else {
        panic!("what was printed cannot be read: {printed}");
    };
    assert_eq!(action::format::actions(&list, &NoNames), printed);
}

fn action_text_seeds() -> Vec<Vec<u8>> {
    action_texts().into_iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn action_words() -> Vec<String> {
    let names = action_texts().join(",");
    let words = names.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned);
    let words = words.filter(|word| word.chars().next().is_some_and(|first| first.is_ascii_alphabetic()));
    let mut all: Vec<String> = odp_words().into_iter().chain(words).collect();
    all.sort();
    all.dedup();
    all
}

fn field(data: &[u8]) {
    let Some((pick, text)) = text_choice(data) else { return };
    if let Ok(subfield) = Subfield::parse(text) {
        assert_eq!(Subfield::parse(&subfield.to_string()), Ok(subfield));
    }
    let _ = field::parse_port(text, &NoFieldNames);
    let _ = field::parse_mac(text);
    let _ = field::parse_ipv4(text);
    let _ = field::parse_ipv6(text);
    let field = Field::ALL[pick % Field::ALL.len()];
    let _ = field.parse_value(text, &NoFieldNames);
    let Ok((value, mask)) = field.parse(text, &NoFieldNames) else { return };
    let mut printed = String::new();
    field.format(&value, Some(&mask), &NoFieldNames, &mut printed);
    // Wildcarded altogether, a field prints as such; flags without a name cannot be named.
    if printed == "*" || mask.is_zero() || printed.contains("Unknown") {
        return;
    }
    let again = field.parse(&printed, &NoFieldNames).map(|(again, mask)| (again.and(&mask), mask));
    assert_eq!(again, Ok((value.and(&mask), mask)), "{field} {text} {printed}");
}

fn field_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "10",
        "0x1/0xff",
        "1.2.3.4/16",
        "fe80::1/64",
        "50:54:00:00:00:09/ff:00:00:00:00:00",
        "LOCAL",
        "+trk-new",
    ];
    let one = |(at, _): (usize, &Field)| super::chosen(at, texts);
    let mut seeds: Vec<Vec<u8>> = Field::ALL.iter().enumerate().step_by(7).flat_map(one).collect();
    seeds.extend(super::chosen(0, ["NXM_NX_REG0[0..15]", "reg1[]", "OXM_OF_METADATA[63]", "eth_src[3..9]"]));
    seeds
}

/// Names of fields, by both their names.
pub fn field_words() -> Vec<String> {
    let names = Field::ALL.iter().map(|field| format!("{field}="));
    let more = "tcp udp icmp arp ip ipv6 sctp icmp6 rarp mpls LOCAL ANY CONTROLLER IN_PORT / 0x ::1 1.2.3.4 no yes first later \
                not_later +trk -est [0..15] NXM_NX_REG0 0xffff (1,0x800)";
    names.chain(more.split(' ').map(str::to_owned)).collect()
}

fn exact_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((key, _)) = exact::parse(text, &NoFieldNames) {
        let _ = key_to_string(&key, &NoFieldNames);
        flow::compose::compose(&key, flow::compose::Payload::Len(20));
        keys_agree(&key);
    }
}

fn exact_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "in_port=1,dl_src=50:54:00:00:00:05,dl_dst=50:54:00:00:00:07,tcp,nw_src=1.2.3.4,nw_dst=5.6.7.8,tp_src=1,tp_dst=2",
        "in_port=LOCAL,vlan_tci=0x1123,icmp6,ipv6_src=::1,ipv6_dst=::2,icmpv6_type=135,nd_target=::3,nd_sll=00:00:00:00:00:01",
        "arp,arp_op=1,arp_spa=1.2.3.4,arp_tpa=4.3.2.1,reg0=7,metadata=0x5,ct_state=trk,tun_id=3,tun_src=1.1.1.1",
        "mpls,mpls_label=5,mpls_tc=1,mpls_bos=1,mpls_ttl=3",
        "packet_type=(1,0x800),nw_frag=later,sctp,nw_ttl=1,nw_ecn=2",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn ct_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let args: Vec<&str> = text.split(' ').collect();
    let Ok((which, _)) = CtMatch::parse(&args) else { return };
    let _ = (which.to_string(), which.is_zero(), which.is_five_tuple());
}

fn ct_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "zone=5 mark=1/0xff labels=0x5/0xf ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=17,ct_tp_src=2,ct_tp_dst=1",
        "ct_ipv6_src=fc00::1,ct_ipv6_dst=fc00::2,ct_nw_proto=58,icmp_id=1,icmp_type=129,icmp_code=0 ct_nw_proto=58",
        "zone=9",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn ct_words() -> Vec<String> {
    let words = "zone= mark= labels= ct_nw_src= ct_nw_dst= ct_ipv6_src= ct_ipv6_dst= ct_nw_proto= ct_tp_src= ct_tp_dst= \
                 icmp_id= icmp_type= icmp_code= , / 0x 17 6 1 58 132";
    words.split(' ').map(str::to_owned).collect()
}
