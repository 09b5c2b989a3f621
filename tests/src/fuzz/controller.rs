//! OpenFlow, wire and text.

use flow::id::OfPort;
use flow::mini::FullMatch;
use openflow::action::{self, Decode, OfAction, Parse};
use openflow::error::OfError;
use openflow::header::{self, Header, Raw, Type};
use openflow::instruction;
use openflow::matching;
use openflow::msg::async_config::AsyncConfig;
use openflow::msg::bundle::{BundleAdd, BundleControl};
use openflow::msg::flow_mod::{FlowMod, Limits};
use openflow::msg::group::GroupMod;
use openflow::msg::hello::{Hello, Versions};
use openflow::msg::meter::{MeterCommand, MeterMod};
use openflow::msg::packet_in::PacketIn;
use openflow::msg::packet_out::PacketOut;
use openflow::msg::port::PortMod;
use openflow::msg::table::TableMod;
use openflow::msg::table_features::TableFeatures;
use openflow::msg::tlv::{TlvCommand, TlvTableMod};
use openflow::names::Names;
use openflow::oxm;
use openflow::parse::flow::{Purpose, flow_mod, lines, stats_request};
use openflow::parse::group::group_mod;
use openflow::parse::matching::exact_key;
use openflow::parse::meter::meter_mod;
use openflow::parse::monitor::monitor_request;
use openflow::parse::packet_out::packet_out;
use openflow::parse::table::table_mod;
use openflow::parse::tlv::tlv_table_mod;
use openflow::print;
use openflow::protocol::Protocols;
use openflow::version::Version;
use openflow::wire::Reader;

use super::packets::field_words;
use super::{Target, choice, none, text_choice};

/// What is here.
pub static TARGETS: &[Target] = &[
    Target::new("of-message", "one OpenFlow message of any version", message, message_seeds, none),
    Target::new("of-actions", "actions and instructions", actions, action_seeds, none),
    Target::new("of-match", "matches: OXM, NXM, OpenFlow 1.0 and 1.1", matches, match_seeds, none),
    Target::new("ofctl-text", "what people write for ovs-ofctl", text, text_seeds, words),
    Target::new("of-action-text", "actions as text", action_text, action_text_seeds, words),
];

fn version(choice: usize) -> Version {
    Version::ALL[choice % Version::ALL.len()]
}

/// What a message's header says is its length, is.
fn message(data: &[u8]) {
    let names = Names::default();
    let _ = print::to_string(data, &names, 2);
    let mut msg = data.to_vec();
    if msg.len() < header::LEN {
        return;
    }
    header::finish(&mut msg);
    let _ = print::to_string(&msg, &names, 3);
    let _ = OfError::decode(&msg);
    let _ = Hello::decode(&msg);
    let Ok(header) = Header::peek(&msg) else { return };
    if let Ok(version) = header.version() {
        changes_agree(&msg, header.kind(), version);
    }
}

const LIMITS: Limits = Limits { max_ports: OfPort::MAX, n_tables: 255 };

fn read_flow_mod(msg: &[u8], version: Version) -> Result<FlowMod, OfError> {
    FlowMod::decode(msg, Protocols::initial(version), LIMITS, &mut Decode::new(version))
}

/// What a switch reads of a message and would write again, reads as the same.
fn changes_agree(msg: &[u8], kind: Type, version: Version) {
    let cx = || Decode::new(version);
    match kind {
        Type::FlowMod => {
            let Ok(read) = read_flow_mod(msg, version) else { return };
            let _ = read.encode(Protocols::initial(version), 1);
        }
        Type::PacketOut => {
            let Ok(read) = PacketOut::decode(msg, &mut cx()) else { return };
            assert_eq!(PacketOut::decode(&read.encode(version, 1), &mut cx()).as_ref(), Ok(&read));
        }
        Type::GroupMod => {
            let Ok(read) = GroupMod::decode(msg) else { return };
            if let Some(written) = read.encode(version, 1) {
                assert_eq!(GroupMod::decode(&written).as_ref(), Ok(&read));
            }
        }
        Type::MeterMod => {
            let Ok(read) = MeterMod::decode(msg) else { return };
            assert_eq!(MeterMod::decode(&read.encode(version, 1)).as_ref(), Ok(&read));
        }
        Type::PortMod => {
            let _ = PortMod::decode(msg, true);
            let Ok(read) = PortMod::decode(msg, false) else { return };
            assert_eq!(PortMod::decode(&read.encode(version, 1), false), Ok(read));
        }
        Type::TableMod => {
            let Ok(read) = TableMod::decode(msg) else { return };
            if let Some(written) = read.encode(version, 1) {
                assert_eq!(TableMod::decode(&written), Ok(read));
            }
        }
        Type::NxtTlvTableMod => {
            let Ok(read) = TlvTableMod::decode(msg) else { return };
            assert_eq!(TlvTableMod::decode(&read.encode(version, 1)).as_ref(), Ok(&read));
        }
        Type::BundleControl => {
            let Ok(read) = BundleControl::decode(msg) else { return };
            if let Some(written) = read.encode(version, 1) {
                assert_eq!(BundleControl::decode(&written), Ok(read));
            }
        }
        Type::BundleAddMessage => {
            let Ok(read) = BundleAdd::decode(msg) else { return };
            if let Some(written) = read.encode(version) {
                assert_eq!(BundleAdd::decode(&written), Ok(read));
            }
        }
        Type::TableFeaturesStatsRequest => _ = TableFeatures::decode_all(msg, false),
        Type::SetAsyncConfig => _ = AsyncConfig::decode(msg, false, &AsyncConfig::default()),
        Type::PacketIn | Type::NxtResume => {
            let Ok(read) = PacketIn::decode(msg, false, &mut cx()) else { return };
            let _ = read.encode_resume(version);
        }
        _ => {}
    }
}

/// Flow-mods, groups and the like from text, in every version that can express them.
fn coded() -> Vec<Vec<u8>> {
    let names = Names::default();
    let mut messages = Vec::new();
    for text in FLOW_TEXTS {
        let Ok((flow_mod, usable)) = flow_mod(text, Purpose::ModByWord, &names) else { continue };
        let single = Protocols::SINGLE.into_iter().filter(|one| usable.intersects(*one));
        messages.extend(single.map(|one| flow_mod.encode(one, 1)));
    }
    for text in GROUP_TEXTS {
        let Ok((group_mod, usable)) = group_mod(text, None, &names) else { continue };
        messages.extend(usable.versions().filter_map(|version| group_mod.encode(version, 1)));
    }
    for text in METER_TEXTS {
        let Ok(meter_mod) = meter_mod(text, MeterCommand::Add) else { continue };
        messages.push(meter_mod.encode(Version::V13, 1));
    }
    for text in PACKET_TEXTS {
        let Ok((packet_out, usable)) = packet_out(text, &names) else { continue };
        messages.extend(usable.versions().map(|version| packet_out.encode(version, 1)));
    }
    for text in MONITOR_TEXTS {
        let Ok((request, usable)) = monitor_request(text, 1, &names) else { continue };
        messages.extend(usable.versions().map(|version| request.encode(version, 1)));
    }
    if let Ok(tlv) = tlv_table_mod(TLV_TEXT, TlvCommand::Add) {
        messages.push(tlv.encode(Version::V13, 1));
    }
    messages.push(Hello::encode(Versions(0x7e), 1));
    messages.push(OfError::BrcBadLen.encode(Version::V13, 1, &[1; 64]));
    messages
}

fn message_seeds() -> Vec<Vec<u8>> {
    let mut seeds = coded();
    // One of every other format, with a body of zeroes that is long enough for most.
    for raw in Raw::ALL {
        for version in Version::ALL.into_iter().filter(|version| raw.exists_in(*version)) {
            let mut msg = header::start(*raw, version, 1);
            msg.extend([0; 64]);
            header::finish(&mut msg);
            seeds.push(msg);
        }
    }
    seeds
}

/// From this choice on, there are instructions.
const INSTRUCTIONS: u8 = 128;

fn actions(data: &[u8]) {
    let Some((pick, bytes)) = choice(data) else { return };
    let version = version(pick);
    let names = Names::default();
    let cx = || Decode::for_text(version);
    let framed = pick >= usize::from(INSTRUCTIONS);
    let read = |bytes: &[u8]| {
        if framed { instruction::decode(bytes, &mut cx()) } else { action::decode_list(bytes, &mut cx()) }
    };
    let write = |list: &[OfAction]| {
        let mut out = Vec::new();
        if framed {
            instruction::encode(list, version, &mut out);
        } else {
            action::encode_list(list, version, &mut out);
        }
        out
    };
    let Ok(list) = read(bytes) else { return };
    let written = write(&list);
    // Not everything that can be read may be said: an MPLS label of 32 bits.
    if let Ok(again) = read(&written) {
        assert_eq!(write(&again), written, "{version} {}", texts(&list));
    }
    let printed = action::text(&list, &names).to_string();
    let _ = action::parse_instructions(&printed, &mut Parse::new(&names));
}

fn texts(list: &[OfAction]) -> String {
    action::text(list, &Names::default()).to_string()
}

fn action_seeds() -> Vec<Vec<u8>> {
    let names = Names::default();
    let mut seeds = Vec::new();
    for text in ACTION_TEXTS {
        let Ok(list) = action::parse_instructions(text, &mut Parse::new(&names)) else { continue };
        for (pick, version) in Version::ALL.into_iter().enumerate() {
            let framing = (INSTRUCTIONS..u8::MAX).find(|at| usize::from(*at) % Version::ALL.len() == pick);
            let (mut plain, mut framed) = (vec![pick as u8], vec![framing.unwrap_or_default()]);
            action::encode_list(&list, version, &mut plain);
            instruction::encode(&list, version, &mut framed);
            seeds.extend([plain, framed]);
        }
    }
    seeds
}

fn matches(data: &[u8]) {
    let Some((pick, bytes)) = choice(data) else { return };
    let version = version(pick);
    let cx = || Decode::new(version);
    let text = |full: &FullMatch| matching::text(full, 1, &Names::default());
    match pick / 6 % 4 {
        0 => {
            let _ = matching::read_raw_oxm(bytes, true, &mut cx());
            let Ok(full) = matching::read_raw_oxm(bytes, false, &mut cx()) else { return };
            let mut out = Vec::new();
            matching::put_raw(&full, version, &mut out);
            // A VLAN's priority without its bit of presence is what NXM can say and OXM cannot.
            if let Ok(again) = matching::read_raw_oxm(&out, false, &mut cx()) {
                assert_eq!(text(&again), text(&full));
            }
        }
        1 => {
            let _ = matching::read11_loose(&mut Reader::new(bytes), &mut cx()).map(|full| text(&full));
            let Ok(full) = matching::read11(&mut Reader::new(bytes), &mut cx()) else { return };
            // OpenFlow 1.1's own match and fields of OXM are read in any version, and neither can say all that the other can.
            if version == Version::V11 || bytes.starts_with(&[0, 0]) {
                return;
            }
            let mut out = Vec::new();
            matching::put11(&full, version, &mut out);
            let again = matching::read11(&mut Reader::new(&out), &mut cx());
            assert_eq!(again.map(|again| text(&again)), Ok(text(&full)), "{version}");
        }
        2 => {
            let Ok(mut full) = matching::read10(&mut Reader::new(bytes)) else { return };
            matching::normalize(&mut full);
            let mut out = Vec::new();
            matching::put10(&full, &mut out);
            let again = matching::read10(&mut Reader::new(&out));
            assert_eq!(again.map(|again| text(&again)), Ok(text(&full)));
        }
        _ => {
            let _ = matching::nxm_text(bytes);
            let _ = openflow::oxm::Header::read(&mut Reader::new(bytes));
            let _ = matching::read_oxm_pipeline(&mut Reader::new(bytes), &mut cx());
            let _ = matching::read_nxm(&mut Reader::new(bytes), bytes.len(), false, &mut cx());
        }
    }
}

fn match_seeds() -> Vec<Vec<u8>> {
    let names = Names::default();
    let mut seeds = Vec::new();
    for text in FLOW_TEXTS {
        let Ok((flow_mod, _)) = flow_mod(text, Purpose::ModByWord, &names) else { continue };
        let full = flow_mod.matching.expand();
        for (pick, version) in Version::ALL.into_iter().enumerate() {
            let mut raw = vec![pick as u8];
            matching::put_raw(&full, version, &mut raw);
            seeds.push([&[raw[0] + 18], &raw[1..]].concat());
            seeds.push(raw);
            let mut whole = Vec::new();
            if version > Version::V10 {
                matching::put11(&full, version, &mut whole);
                seeds.push([&[pick as u8 + 6], &whole[..]].concat());
            } else {
                matching::put10(&full, &mut whole);
                seeds.push([&[pick as u8 + 12], &whole[..]].concat());
            }
        }
    }
    seeds
}

fn text(data: &[u8]) {
    let Some((pick, text)) = text_choice(data) else { return };
    let names = Names::default();
    match pick % 9 {
        0 => flow_text(text, &names),
        1 => {
            let _ = stats_request(text, pick > 8, &names);
            let _ = exact_key(text, &names);
            lines(text).for_each(|(number, line)| assert!(number > 0 && line.len() <= text.len()));
        }
        2 => {
            let Ok((read, usable)) = group_mod(text, None, &names) else { return };
            for version in usable.versions() {
                let Some(written) = read.encode(version, 1) else { continue };
                let _ = print::to_string(&written, &names, 1);
            }
        }
        3 => {
            let Ok(read) = meter_mod(text, MeterCommand::Add) else { return };
            let again = MeterMod::decode(&read.encode(Version::V13, 1));
            assert!(again.is_ok(), "a switch refuses what was written: {again:?} {text}");
        }
        4 => {
            let Ok((read, usable)) = packet_out(text, &names) else { return };
            for version in usable.versions() {
                let _ = PacketOut::decode(&read.encode(version, 1), &mut Decode::new(version));
            }
        }
        5 => {
            let Ok((read, usable)) = monitor_request(text, 1, &names) else { return };
            for version in usable.versions() {
                let _ = print::to_string(&read.encode(version, 1), &names, 1);
            }
        }
        6 => {
            let Ok(read) = tlv_table_mod(text, TlvCommand::Add) else { return };
            // Lengths that cannot be are for the switch to refuse.
            if let Ok(again) = TlvTableMod::decode(&read.encode(Version::V13, 1)) {
                assert_eq!(again, read);
            }
        }
        7 => {
            let (table, setting) = text.split_once(' ').unwrap_or((text, ""));
            let _ = table_mod(table, setting, &names);
            let _ = Protocols::parse(text);
            let _ = openflow::parse::packet_out::parse_packet(text);
        }
        _ => {
            if let Ok(list) = oxm::parse_list(text) {
                let _ = matching::nxm_text(&list);
            }
        }
    }
}

/// What people can write, the switch can read, in every format that is said to express it.
fn flow_text(text: &str, names: &Names) {
    let _ = flow_mod(text, Purpose::Stats, names);
    let Ok((read, usable)) = flow_mod(text, Purpose::ModByWord, names) else { return };
    for one in Protocols::SINGLE.into_iter().filter(|one| usable.intersects(*one)) {
        let written = read.encode(one, 1);
        let _ = print::to_string(&written, names, 1);
        let version = one.version().unwrap_or(Version::V10);
        let _ = FlowMod::decode(&written, one, LIMITS, &mut Decode::new(version));
    }
}

fn text_seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::chosen(0, FLOW_TEXTS);
    seeds.extend(super::chosen(
        1,
        FLOW_TEXTS.iter().map(|text| text.split("actions").next().unwrap_or_default()),
    ));
    seeds.extend(super::chosen(2, GROUP_TEXTS));
    seeds.extend(super::chosen(3, METER_TEXTS));
    seeds.extend(super::chosen(4, PACKET_TEXTS));
    seeds.extend(super::chosen(5, MONITOR_TEXTS));
    seeds.extend(super::chosen(6, [TLV_TEXT]));
    seeds.extend(super::chosen(7, ["1 continue", "all evict", "2 vacancy:20,80", "3 name:x", "0x7 noevict"]));
    seeds.extend(super::chosen(
        8,
        ["NXM_OF_IN_PORT(0001), NXM_OF_ETH_TYPE(0800)", "OXM_OF_VLAN_VID_W(1123/1fff)"],
    ));
    seeds
}

fn action_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let names = Names::default();
    let _ = action::parse_list(text, &mut Parse::new(&names));
    let Ok(list) = action::parse_instructions(text, &mut Parse::new(&names)) else { return };
    let printed = texts(&list);
    // As OVS's, the text of these bytes loses the zeroes at their beginning, or all of them, and that of no bits names none.
    if printed.contains("tlv(") || printed.contains("set_field:ANY->") {
        return;
    }
    let again = action::parse_instructions(&printed, &mut Parse::new(&names));
    match again {
        Ok(again) => assert_eq!(texts(&again), printed),
        Err(error) => panic!("what was printed cannot be read: {printed}: {error}"),
    }
}

fn action_text_seeds() -> Vec<Vec<u8>> {
    ACTION_TEXTS.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn words() -> Vec<String> {
    let texts =
        [FLOW_TEXTS, GROUP_TEXTS, METER_TEXTS, PACKET_TEXTS, MONITOR_TEXTS, ACTION_TEXTS].concat().join(",");
    let words = texts.split(|c: char| !c.is_ascii_alphanumeric() && !"_[]=:".contains(c)).map(str::to_owned);
    let mut all: Vec<String> = field_words().into_iter().chain(words.filter(|word| word.len() > 2)).collect();
    all.sort();
    all.dedup();
    all
}

const FLOW_TEXTS: &[&str] = &[
    "add priority=7,in_port=1,dl_vlan=5,tcp,nw_src=10.0.0.0/8,tp_dst=80/0xfff0,actions=strip_vlan,output:2",
    "table=3,cookie=0x5,idle_timeout=10,send_flow_rem,icmp6,ipv6_src=fe80::/64,icmp_type=135,nd_target=::1,actions=drop",
    "delete cookie=0x1/0xff,out_port=3,arp,arp_spa=1.2.3.4",
    "modify_strict check_overlap reset_counts no_packet_counts mpls,mpls_label=5,actions=pop_mpls:0x800,goto_table:5",
    "reg0=0x1/0xf,xreg1=5,metadata=0x7,ct_state=+trk+est,ct_zone=3,ct_mark=1,ct_label=0x5,ip,actions=ct(commit,table=1)",
    "tun_id=5,tun_src=1.1.1.1,tun_metadata0=0x12/0xff,tun_flags=oam,nsh,nsh_spi=5,actions=NORMAL",
    "vlan_vid=0x1005/0x1fff,vlan_pcp=3,dl_src=00:11:22:33:44:55/ff:ff:00:00:00:00,importance=5,actions=FLOOD",
    "packet_type=(1,0x800),nw_frag=later,nw_ecn=1,ip_dscp=3,nw_ttl=64,actions=IN_PORT",
];

const GROUP_TEXTS: &[&str] = &[
    "group_id=1,type=select,selection_method=hash,fields(ip_src,tcp_dst),bucket=weight:5,output:1,\
     bucket=bucket_id:7,weight:3,watch_port:2,set_field:1.2.3.4->ip_dst,output:2",
    "add group_id=2,type=ff,bucket=watch_group:1,actions=output:3",
    "group_id=3,type=indirect,bucket=drop",
    "delete group_id=4",
    "insert_bucket group_id=5,command_bucket_id=last,bucket=actions=1",
];

const METER_TEXTS: &[&str] = &[
    "meter=1,kbps,burst,stats,bands=type=drop,rate=5,burst_size=6,type=dscp_remark,rate=7,burst_size=8,prec_level=1",
    "meter=controller,pktps,bands=type=drop rate=1",
];

const PACKET_TEXTS: &[&str] = &[
    "in_port=controller,packet=50540000000a50540000000908004500,actions=output:1,resubmit(,5)",
    "in_port=1,metadata=0x5,tun_id=3,packet=tcp(),actions=NORMAL",
];

const MONITOR_TEXTS: &[&str] = &["!initial,!add,out_port=3,table=5,tcp", "!own,actions,in_port=1"];

const TLV_TEXT: &str =
    "{class=0xffff,type=0,len=4}->tun_metadata0,{class=0xffff,type=1,len=8}->tun_metadata1";

const ACTION_TEXTS: &[&str] = &[
    "output:1,LOCAL,controller(max_len=5,reason=action,id=7,userdata=01.02,pause),enqueue:1:2,output(port=1,max_len=100)",
    "output:reg1[0..15],mod_vlan_vid:5,mod_vlan_pcp:3,strip_vlan,push_vlan:0x8100,mod_dl_src:00:11:22:33:44:55",
    "mod_nw_dst:1.2.3.4,mod_nw_tos:8,mod_tp_src:80,dec_ttl,dec_ttl(1,2),set_mpls_label(5),push_mpls:0x8847,dec_mpls_ttl",
    "set_field:0x5/0xf->reg0,set_field:1.2.3.4->ip_src,load:5->NXM_NX_REG1[3..9],move:reg0[0..7]->reg1[8..15]",
    "push:reg0[],pop:reg1[0..5],set_tunnel:5,set_tunnel64:0x123456789,set_queue:3,pop_queue,resubmit:3,resubmit(1,2,ct)",
    "learn(table=1,idle_timeout=5,hard_timeout=6,priority=7,cookie=0x8,delete_learned,limit=9,NXM_OF_ETH_DST[]=\
     NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],output:NXM_OF_IN_PORT[])",
    "multipath(eth_src,50,modulo_n,1,0,reg0[]),bundle(eth_src,0,hrw,ofport,members:1,2,3),bundle_load(symmetric_l4,60,\
     active_backup,ofport,reg0[0..15],members:2,3)",
    "ct(commit,force,zone=5,table=3,alg=ftp,nat(src=1.2.3.4-1.2.3.9:5-9,random,persistent),exec(set_field:5->ct_mark)),ct_clear",
    "clone(push_vlan:0x8100,output:1),check_pkt_larger(100)->reg0[0],note:00.01.02,exit,conjunction(5,1/2),fin_timeout(idle_timeout=5)",
    "sample(probability=5,collector_set_id=1,obs_domain_id=2,obs_point_id=3,sampling_port=1,egress),encap(nsh(md_type=2,\
     tlv(0x1000,10,0x12345678))),decap(packet_type(ns=0,type=0)),delete_field:tun_metadata0,dec_nsh_ttl",
    "write_actions(set_field:5->reg0,output:1),write_metadata:0x5/0xff,meter:3,clear_actions,goto_table:7",
    "drop",
];
