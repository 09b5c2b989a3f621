//! Commands that test text and wire, without a switch. They read lines from standard input where they take no
//! argument.

use std::io::{BufRead, Read};

use flow::id::TableId;
use flow::key::VLAN_CFI;
use flow::mini::FullMatch;
use openflow::action::check::{Check, check_consistency};
use openflow::action::{self, Decode, OfAction};
use openflow::error::OfError;
use openflow::instruction;
use openflow::matching;
use openflow::msg::flow_mod::{FlowCommand, FlowMod};
use openflow::msg::group::GroupCommand;
use openflow::msg::hello::{Hello, Versions};
use openflow::names::Names;
use openflow::oxm;
use openflow::parse::flow::{Purpose, flow_mod, flow_mods, stats_request};
use openflow::parse::group::group_mod;
use openflow::print;
use openflow::protocol::Protocols;
use openflow::text::{Pairs, atoi, hex_lines, parse_hex, scan_int};
use openflow::version::Version;
use openflow::wire::{Put, Reader};

use super::{Context, Outcome, die, flows, say, sayln};

/// Lines of standard input without comments and without blank ones.
fn lines() -> impl Iterator<Item = String> {
    let text = std::io::stdin().lock().lines().map_while(Result::ok);
    text.filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default().to_owned();
        (!line.trim().is_empty()).then_some(line)
    })
}

/// Like [`lines`], but comments and blank lines go to standard output.
fn test_lines() -> impl Iterator<Item = String> {
    let text = std::io::stdin().lock().lines().map_while(Result::ok);
    text.filter_map(|line| {
        if line.starts_with('#') {
            sayln!("{line}");
            return None;
        }
        let line = line.split('#').next().unwrap_or_default().to_owned();
        if line.trim().is_empty() {
            sayln!("");
            return None;
        }
        Some(line)
    })
}

/// The first format that is usable and allowed.
fn choose(context: &Context, usable: Protocols) -> Outcome<Protocols> {
    sayln!("usable protocols: {usable}");
    let chosen = (usable & context.options.protocols).lowest();
    if chosen.is_empty() {
        die!("no usable protocol");
    }
    Ok(chosen)
}

fn show_flows(context: &Context, mods: &[FlowMod], usable: Protocols) -> Outcome {
    let protocol = choose(context, usable)?;
    sayln!("chosen protocol: {}", protocol.name().unwrap_or_default());
    for (xid, fm) in (1..).zip(mods) {
        let message = fm.encode(protocol, xid);
        say!("{}", print::to_string(&message, &Names::default(), context.options.verbosity));
    }
    Ok(())
}

pub(super) fn parse_flow(context: &mut Context) -> Outcome {
    let names = Names::default();
    let (fm, usable) = flow_mod(context.arg(1), Purpose::Mod(FlowCommand::Add), &names)?;
    show_flows(context, &[fm], usable)
}

pub(super) fn parse_flows(context: &mut Context) -> Outcome {
    let file = context.arg(1);
    let text = flows::read_file(file)?;
    let (mods, usable) = flow_mods(&text, file, Purpose::Mod(FlowCommand::Add), &Names::default())?;
    show_flows(context, &mods, usable)
}

pub(super) fn parse_group(context: &mut Context) -> Outcome {
    let (gm, usable) = group_mod(context.arg(1), Some(GroupCommand::Add), &Names::default())?;
    let protocol = choose(context, usable)?;
    let version = protocol.version().unwrap_or(Version::V10);
    sayln!("chosen version: {version}");
    let message = gm.encode(version, 2).unwrap_or_default();
    say!("{}", print::to_string(&message, &Names::default(), context.options.verbosity));
    Ok(())
}

/// A match with its cookie and mask.
type WithCookie = (FullMatch, u64, u64);

/// Reads entries back, as a list in NXM or as a match in OXM.
fn read_entries(entries: &[u8], version: Option<Version>, strict: bool) -> Result<WithCookie, OfError> {
    let mut cx = Decode::new(version.unwrap_or(Version::V10));
    if version.is_some() {
        let read = matching::read_raw_oxm(entries, !strict, &mut cx)?;
        return Ok((read, 0, 0));
    }
    let mut padded = entries.to_vec();
    padded.zeros(entries.len().wrapping_neg() % 8);
    matching::read_nxm(&mut Reader::new(&padded), entries.len(), !strict, &mut cx)
}

fn parse_entries(context: &Context, version: Option<Version>) -> Outcome {
    for line in test_lines() {
        let entries = oxm::parse_list(line.trim_end())?;
        let read = read_entries(&entries, version, context.options.strict);
        let (flow, cookie, cookie_mask) = match read {
            Ok(read) => read,
            Err(error) => {
                sayln!("nx_pull_match() returned error {}", error.name());
                continue;
            }
        };
        let mut out = Vec::new();
        let entries = match version {
            Some(version) => {
                matching::put_oxm(&flow, version, &mut out);
                let len = usize::from(u16::from_be_bytes([out[2], out[3]]));
                4..len
            }
            None => 0..matching::put_nxm(&flow, cookie, cookie_mask, &mut out),
        };
        sayln!("{}", oxm::list_text(&out[entries]));
        if context.options.verbosity > 0 {
            say!("{}", hex_lines(&out));
        }
    }
    Ok(())
}

pub(super) fn parse_nxm(context: &mut Context) -> Outcome {
    parse_entries(context, None)
}

pub(super) fn parse_oxm(context: &mut Context) -> Outcome {
    let name = context.arg(1);
    match Version::from_name(name) {
        Some(version) if version >= Version::V12 => parse_entries(context, Some(version)),
        _ => die!("{name}: not a valid version for OXM"),
    }
}

/// Says byte by byte where two pieces of wire differ.
fn print_differences(prefix: &str, a: &[u8], b: &[u8]) {
    for i in 0..a.len().max(b.len()) {
        let text = |bytes: &[u8]| bytes.get(i).map_or("(none)".to_owned(), |byte| format!("{byte:02x}"));
        if a.get(i) != b.get(i) {
            sayln!("{prefix}{i:2}: {} -> {}", text(a), text(b));
        }
    }
}

fn hex_or_die(text: &str) -> Outcome<Vec<u8>> {
    match parse_hex(text) {
        Some(bytes) => Ok(bytes),
        None => die!("Trailing garbage in hex data"),
    }
}

fn decode_actions(
    bytes: &[u8],
    version: Version,
    instructions: bool,
    table: u8,
) -> Result<Vec<OfAction>, OfError> {
    let mut cx = Decode::new(version);
    if !instructions {
        return action::decode_list(bytes, &mut cx);
    }
    let mut actions = instruction::decode(bytes, &mut cx)?;
    let mut consistency = Check { table: Some(TableId(table)), ..Check::new(&FullMatch::default()) };
    check_consistency(&mut actions, Protocols::of_version(version), &mut consistency)?;
    Ok(actions)
}

fn parse_wire_actions(context: &Context, instructions: bool) -> Outcome {
    let name = context.arg(1);
    let Some(version) = Version::from_name(name) else { die!("{name}: not a valid OpenFlow version") };
    for line in lines() {
        // A table may stand in front.
        let (table, digits) = match line.split_once(',') {
            Some((table, digits)) => (atoi(table) as u8, digits),
            None => (0, line.as_str()),
        };
        let bytes = hex_or_die(digits)?;
        let actions = match decode_actions(&bytes, version, instructions, table) {
            Ok(actions) => actions,
            Err(error) => {
                let what = if instructions { "instructions" } else { "actions" };
                sayln!("bad {name} {what}: {}\n", error.name());
                continue;
            }
        };
        sayln!("actions={}", action::text(&actions, &Names::default()));
        let mut out = Vec::new();
        if instructions {
            instruction::encode(&actions, version, &mut out);
        } else {
            action::encode_list(&actions, version, &mut out);
        }
        print_differences("", &bytes, &out);
        sayln!("");
    }
    Ok(())
}

pub(super) fn parse_actions(context: &mut Context) -> Outcome {
    parse_wire_actions(context, false)
}

pub(super) fn parse_instructions(context: &mut Context) -> Outcome {
    parse_wire_actions(context, true)
}

fn match_text(flow: &FullMatch) -> String {
    matching::text(flow, DEFAULT_PRIORITY, &Names::default())
}

const DEFAULT_PRIORITY: i32 = 0x8000;
/// Lengths of the fixed matches.
const MATCH10: usize = 40;
const MATCH11: usize = 88;

fn sized(bytes: Vec<u8>, len: usize) -> Outcome<Vec<u8>> {
    if bytes.len() != len {
        die!("Input is {} bytes, expected {len}", bytes.len());
    }
    Ok(bytes)
}

/// An `x` is a digit that does not matter: any on input, zero on output.
pub(super) fn parse_ofp10_match(_: &mut Context) -> Outcome {
    let mut digits = "0123456789abcdef".chars().cycle();
    for line in lines() {
        let expected = sized(hex_or_die(&line.replace('x', "0"))?, MATCH10)?;
        let any = |c: char| if c == 'x' { digits.next().unwrap_or('0') } else { c };
        let input = sized(hex_or_die(&line.chars().map(any).collect::<String>())?, MATCH10)?;
        let mut flow = match matching::read10(&mut Reader::new(&input)) {
            Ok(flow) => flow,
            Err(error) => die!("{}", error.name()),
        };
        sayln!("{}", match_text(&flow));
        let mut out = Vec::new();
        matching::put10(&flow, &mut out);
        print_differences("", &expected, &out);
        matching::normalize(&mut flow);
        let mut normal = Vec::new();
        matching::put10(&flow, &mut normal);
        print_differences("normal: ", &out, &normal);
        sayln!("");
    }
    Ok(())
}

pub(super) fn parse_ofp11_match(_: &mut Context) -> Outcome {
    for line in lines() {
        let input = sized(hex_or_die(&line)?, MATCH11)?;
        match matching::read11(&mut Reader::new(&input), &mut Decode::new(Version::V11)) {
            Err(error) => sayln!("bad ofp11_match: {}\n", error.name()),
            Ok(flow) => {
                sayln!("{}", match_text(&flow));
                let mut out = Vec::new();
                matching::put11(&flow, Version::V11, &mut out);
                print_differences("", &input, &out);
                sayln!("");
            }
        }
    }
    Ok(())
}

/// A VLAN TCI and its mask.
fn tci(flow: &FullMatch) -> (u16, u16) {
    (flow.key.vlans[0].tci.get(), flow.mask.0.vlans[0].tci.get())
}

pub(super) fn check_vlan(context: &mut Context) -> Outcome {
    let number = |text: &str| scan_int(text, 16).map_or(0, |(_, number, _)| number as u64);
    let mut flow = FullMatch::default();
    flow.key.vlans[0].tci.set(number(context.arg(1)) as u16);
    flow.mask.0.vlans[0].tci.set(number(context.arg(2)) as u16);

    let text = match_text(&flow);
    let (request, _) = stats_request(&text, false, &Names::default())?;
    let (value, mask) = tci(&request.matching.expand());
    sayln!("{text} -> {value:04x}/{mask:04x}");

    let mut nxm = Vec::new();
    let len = matching::put_nxm(&flow, 0, 0, &mut nxm);
    let back = read_entries(&nxm[..len], None, true).map(|(flow, ..)| tci(&flow));
    match back {
        Ok((value, mask)) => sayln!("NXM: {} -> {value:04x}/{mask:04x}", oxm::list_text(&nxm[..len])),
        Err(error) => sayln!("NXM: {} -> {}", oxm::list_text(&nxm[..len]), error.name()),
    }
    check_vlan_oxm(&flow);
    check_vlan_fixed(&flow)
}

fn check_vlan_oxm(flow: &FullMatch) {
    let mut entries = Vec::new();
    matching::put_raw(flow, Version::V12, &mut entries);
    let text = oxm::list_text(&entries);
    match read_entries(&entries, Some(Version::V12), true) {
        Err(error) => sayln!("OXM: {text} -> {}", error.name()),
        Ok((back, ..)) => {
            let (value, mask) = tci(&back);
            let (vid, vid_mask) = (value & (VLAN_CFI | 0xfff), mask & (VLAN_CFI | 0xfff));
            let pcp =
                if vid != 0 && mask >> 13 != 0 { format!("{:02}", value >> 13) } else { "--".to_owned() };
            sayln!("OXM: {text} -> {vid:04x}/{vid_mask:04x},{pcp}");
        }
    }
}

/// Where the VLAN id and priority stand in the fixed matches, and their wildcard bits.
struct Fixed {
    name: &'static str,
    wildcards: usize,
    vlan: usize,
    pcp: usize,
    vlan_bit: u32,
    pcp_bit: u32,
}

const FIXED: [Fixed; 2] = [
    Fixed { name: "OF1.0", wildcards: 0, vlan: 18, pcp: 20, vlan_bit: 1 << 1, pcp_bit: 1 << 20 },
    Fixed { name: "OF1.1", wildcards: 8, vlan: 36, pcp: 38, vlan_bit: 1 << 1, pcp_bit: 1 << 2 },
];

fn check_vlan_fixed(flow: &FullMatch) -> Outcome {
    for Fixed { name, wildcards, vlan, pcp, vlan_bit, pcp_bit } in FIXED {
        let mut raw = Vec::new();
        let back = if name == "OF1.0" {
            matching::put10(flow, &mut raw);
            matching::read10(&mut Reader::new(&raw))
        } else {
            matching::put11(flow, Version::V11, &mut raw);
            matching::read11(&mut Reader::new(&raw), &mut Decode::new(Version::V11))
        };
        let wild = raw[wildcards..wildcards + 4].iter().fold(0, |bits, &byte| bits << 8 | u32::from(byte));
        let vid = u16::from_be_bytes([raw[vlan], raw[vlan + 1]]);
        let (value, mask) = match back {
            Ok(back) => tci(&back),
            Err(error) => die!("{}", error.name()),
        };
        sayln!(
            "{name}: {vid:04x}/{},{:02x}/{} -> {value:04x}/{mask:04x}",
            u8::from(wild & vlan_bit != 0),
            raw[pcp],
            u8::from(wild & pcp_bit != 0)
        );
    }
    Ok(())
}

fn error_of(name: &str) -> Outcome<OfError> {
    match OfError::from_name(name) {
        Some(error) => Ok(error),
        None => die!("unknown error \"{name}\""),
    }
}

pub(super) fn print_error(context: &mut Context) -> Outcome {
    let error = error_of(context.arg(1))?;
    for version in Version::ALL {
        if let Some((vendor, kind, code)) = error.wire(version) {
            let name = version.name().replace("OpenFlow1", "OpenFlow 1.");
            let vendor = openflow::text::alt_hex(vendor.into());
            sayln!("{name}: vendor {vendor}, type {kind}, code {code}");
        }
    }
    Ok(())
}

pub(super) fn encode_error_reply(context: &mut Context) -> Outcome {
    const HEADER: usize = 8;
    let error = error_of(context.arg(1))?;
    let request = hex_or_die(context.arg(2))?;
    if request.len() < HEADER {
        die!("Request too short");
    }
    if request.len() != openflow::header::stated_len(&request) {
        die!("Request size inconsistent");
    }
    say!("{}", hex_lines(&error.reply_to(&request)));
    Ok(())
}

pub(super) fn ofp_print(context: &mut Context) -> Outcome {
    let verbosity = context.optional(2).map_or(2, atoi);
    let mut message = Vec::new();
    let digits = match (context.arg(1), context.options.raw) {
        ("-", true) => {
            if let Err(error) = std::io::stdin().read_to_end(&mut message) {
                die!("failed to read standard input ({})", daemon::error_text(&error));
            }
            String::new()
        }
        ("-", false) => match std::io::stdin().lock().lines().next() {
            Some(Ok(line)) => line,
            _ => return Err(super::Fatal::Log("ofctl", "Failed to read stdin".to_owned())),
        },
        (digits, _) => digits.to_owned(),
    };
    match parse_hex(&digits) {
        Some(mut bytes) => message.append(&mut bytes),
        None => die!("trailing garbage following hex bytes"),
    }
    say!("{}", print::to_string(&message, &Names::default(), verbosity));
    Ok(())
}

pub(super) fn encode_hello(context: &mut Context) -> Outcome {
    let bits = scan_int(context.arg(1), 0).map_or(0, |(_, bits, _)| bits as u32);
    let hello = Hello::encode(Versions(bits), 1);
    say!("{}", hex_lines(&hello));
    say!("{}", print::to_string(&hello, &Names::default(), context.options.verbosity));
    Ok(())
}

pub(super) fn parse_key_value(context: &mut Context) -> Outcome {
    for argument in &context.args[1..] {
        let pairs = Pairs::new(argument).map(|(key, value)| match value {
            "" => key.to_owned(),
            value => format!("{key}={value}"),
        });
        sayln!("{}", pairs.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
