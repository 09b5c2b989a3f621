//! Packets: sent out of a switch, read from captures, composed from flows; and streams of OpenFlow messages.

use std::collections::HashMap;
use std::io::{IsTerminal, Read, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flow::compose::{Payload, compose_with};
use flow::describe::key_to_string;
use flow::extract::{Layout, Metadata, extract};
use flow::id::OfPort;
use flow::key::Key;
use flow::proto::{ethertype, ip, tcp};
use openflow::action::{self, Parse};
use openflow::header;
use openflow::names::Names;
use openflow::parse::matching::exact_key;
use openflow::parse::packet_out::{self, parse_packet as packet_from_hex};
use openflow::print;
use openflow::text::{hex_lines, parse_hex, scan_hex};

use super::pcap::{self, Frames, PcapError};
use super::remote::failed;
use super::{Context, Fatal, Outcome, die, say, sayln, timestamp};

pub(super) fn packet_out(context: &mut Context) -> Outcome {
    match context.args.len() {
        0..=3 => packet_out_flow(context),
        // Neither form has so many arguments.
        n @ 4 => die!("Too many arguments ({n})"),
        _ => packet_out_words(context),
    }
}

fn packet_out_flow(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let names = context.accept(&switch)?;
    let (po, usable) = packet_out::packet_out(context.arg(2), &names)?;
    let (mut vconn, protocol) = context.open_for_mods(&switch, usable)?;
    let xid = vconn.next_xid();
    let version = protocol.version().unwrap_or(vconn.version());
    let request = po.encode(version, xid);
    context.transact_one(&mut vconn, request)
}

/// `SWITCH IN_PORT ACTIONS PACKET...`.
fn packet_out_words(context: &mut Context) -> Outcome {
    let switch = context.arg(1).to_owned();
    let names = context.accept(&switch)?;
    let mut cx = Parse::new(&names);
    let actions = action::parse_list(context.arg(3), &mut cx)?;
    let usable = cx.usable;
    let in_port = context.arg(2).to_owned();
    let in_port = context.port(&switch, &in_port)?;
    let (mut vconn, protocol) = context.open_for_mods(&switch, usable)?;
    let version = protocol.version().unwrap_or(vconn.version());
    for hex in context.args.split_off(4) {
        let packet = packet_from_hex(&hex)?;
        let po = packet_out::from_port(packet, in_port, actions.clone());
        let xid = vconn.next_xid();
        let request = po.encode(version, xid);
        context.transact_one(&mut vconn, request)?;
    }
    Ok(())
}

/// Reads all of a buffer, or as much as there is; whether it was all or nothing.
fn read_full(source: &mut dyn Read, name: &str, buffer: &mut [u8], may_end: bool) -> Outcome<bool> {
    let mut have = 0;
    while have < buffer.len() {
        match source.read(&mut buffer[have..]) {
            Ok(0) if have == 0 && may_end => return Ok(false),
            Ok(0) => die!("{name}: unexpected end of file mid-message"),
            Ok(n) => have += n,
            Err(error) => die!("error reading {name} ({})", daemon::error_text(&error)),
        }
    }
    Ok(true)
}

/// Prints the messages of a file, one behind the other.
pub(super) fn ofp_parse(context: &mut Context) -> Outcome {
    let name = context.arg(1).to_owned();
    let mut source: Box<dyn Read> = if name == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(&name);
        Box::new(file.map_err(|error| failed(format!("{name}: open"))(daemon::error_text(&error)))?)
    };
    let mut message = vec![0; header::LEN];
    while read_full(&mut *source, &name, &mut message[..header::LEN], true)? {
        let len = header::stated_len(&message);
        if len < header::LEN {
            die!("{name}: {len}-byte message is too short for OpenFlow");
        }
        message.resize(len, 0);
        read_full(&mut *source, &name, &mut message[header::LEN..], false)?;
        say!("{}", print::to_string(&message, &Names::default(), context.options.verbosity + 2));
        message.truncate(header::LEN);
    }
    Ok(())
}

fn open_capture(name: &str) -> Outcome<Frames> {
    Frames::open(name).map_err(|error| match error {
        PcapError::Open(reason) | PcapError::Read(reason) => {
            Fatal::Text(format!("{name}: open failed ({reason})"))
        }
    })
}

/// The key of a frame, as if it came from nowhere, and where its layers are.
fn key_of(frame: &[u8]) -> (Key, Layout) {
    let mut key = Key::default();
    let layout = extract(frame, &Metadata::from_port(OfPort::NONE.0.into()), &mut key);
    (key, layout)
}

pub(super) fn parse_pcap(context: &mut Context) -> Outcome {
    for name in &context.args[1..] {
        for frame in open_capture(name)? {
            match frame {
                Ok(frame) => sayln!("{}", key_to_string(&key_of(&frame.bytes).0, &Names::default())),
                Err(PcapError::Open(reason) | PcapError::Read(reason)) => {
                    die!("{name}: read failed ({reason})")
                }
            }
        }
    }
    Ok(())
}

/// One direction of a TCP connection.
type Stream = ([u8; 4], [u8; 4], u16, u16);

/// What came in order on streams and has not been taken yet, with the number of the byte that comes next.
#[derive(Default)]
struct Reassembly(HashMap<Stream, (u32, Vec<u8>)>);

impl Reassembly {
    /// Takes a segment; gives what has come in order, unless the segment brings nothing.
    fn take(&mut self, stream: Stream, flags: u16, seq: u32, payload: &[u8]) -> Option<&mut Vec<u8>> {
        if flags & (tcp::FIN | tcp::RST) != 0 {
            self.0.remove(&stream);
            return None;
        }
        if flags & tcp::SYN != 0 {
            self.0.insert(stream, (seq.wrapping_add(1), Vec::new()));
            return None;
        }
        let (next, data) = self.0.entry(stream).or_insert_with(|| (seq, Vec::new()));
        if *next != seq || payload.is_empty() {
            return None;
        }
        *next = next.wrapping_add(payload.len() as u32);
        data.extend(payload);
        Some(data)
    }
}

fn is_openflow_port(port: u16, ports: &[String]) -> bool {
    if ports.is_empty() { port == 6633 || port == 6653 } else { ports.iter().any(|p| p.parse() == Ok(port)) }
}

/// The TCP segment of a frame: its stream, flags, number and data.
fn segment<'a>(frame: &'a [u8], key: &Key, layout: &Layout) -> Option<(Stream, u32, &'a [u8])> {
    let l4 = usize::from(layout.l4?);
    let seq = u32::from_be_bytes(*frame.get(l4 + 4..)?.first_chunk()?);
    let data = l4 + usize::from(frame.get(l4 + 12)? >> 4) * 4;
    // The frame may be padded.
    let l3 = usize::from(layout.l3?);
    let len = u16::from_be_bytes(*frame.get(l3 + 2..)?.first_chunk()?);
    let end = (l3 + usize::from(len)).min(frame.len());
    let (src, dst) = (key.nw_src.get().to_be_bytes(), key.nw_dst.get().to_be_bytes());
    Some(((src, dst, key.tp_src.get(), key.tp_dst.get()), seq, frame.get(data..end)?))
}

pub(super) fn ofp_parse_pcap(context: &mut Context) -> Outcome {
    let ports = context.args[2..].to_vec();
    let mut streams = Reassembly::default();
    let mut first = true;
    for frame in open_capture(context.arg(1))?.map_while(Result::ok) {
        let (key, layout) = key_of(&frame.bytes);
        let (from, to) = (key.tp_src.get(), key.tp_dst.get());
        if key.dl_type.get() != ethertype::IPV4
            || key.nw_proto != ip::TCP
            || !(is_openflow_port(from, &ports) || is_openflow_port(to, &ports))
        {
            continue;
        }
        let Some((stream, seq, payload)) = segment(&frame.bytes, &key, &layout) else { continue };
        let Some(data) = streams.take(stream, key.tcp_flags.get(), seq, payload) else { continue };
        while data.len() >= header::LEN {
            let len = header::stated_len(data);
            if len == 0 || data.len() < len {
                break;
            }
            if !std::mem::take(&mut first) {
                sayln!("");
            }
            if context.options.timestamp {
                say!("{} ", timestamp(frame.millis, false));
            }
            let (src, dst) = (std::net::Ipv4Addr::from(stream.0), std::net::Ipv4Addr::from(stream.1));
            sayln!("{src}.{from} > {dst}.{to}:");
            let message: Vec<u8> = data.drain(..len).collect();
            say!("{}", print::to_string(&message, &Names::default(), context.options.verbosity + 1));
        }
    }
    Ok(())
}

/// How much payload a packet gets if none is said.
const PAYLOAD: usize = 64;

pub(super) fn compose_packet(context: &mut Context) -> Outcome {
    let (as_pcap, bare) = (context.options.pcap, context.options.bare);
    if as_pcap && bare {
        die!("--bare and --pcap are mutually exclusive");
    }
    if as_pcap && std::io::stdout().is_terminal() {
        die!("not writing pcap data to stdout; redirect to a file or pipe to tcpdump instead");
    }
    let wanted = exact_key(context.arg(1), &Names::default())?.key;
    let payload = match context.optional(2) {
        None => None,
        Some(hex) => match parse_hex(hex) {
            Some(bytes) => Some(bytes),
            None => die!("{hex}: trailing garbage in packet data"),
        },
    };
    let payload = payload.as_deref().map_or(Payload::Len(PAYLOAD), Payload::Bytes);
    let frame = compose_with(&wanted, payload, 0, context.options.bad_csum);
    if as_pcap {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut stdout = std::io::stdout();
        let written = stdout.write_all(&pcap::file_of(&frame, now)).and_then(|()| stdout.flush());
        written.map_err(failed("write failed"))?;
    } else if bare {
        say!("{}", openflow::text::hex(&frame, ""));
    } else {
        say!("{}", hex_lines(&frame));
    }
    let got = key_of(&frame).0;
    if got != wanted {
        let (wanted, got) =
            (key_to_string(&wanted, &Names::default()), key_to_string(&got, &Names::default()));
        eprint!("specified and extracted flows differ:\nspecified: {wanted}\nextracted: {got}");
        return Err(Fatal::Exit(1));
    }
    Ok(())
}

/// The longest packet that is looked at.
const MAX_PACKET: usize = 65535;

pub(super) fn parse_packet(_: &mut Context) -> Outcome {
    let mut packet = vec![0; MAX_PACKET];
    let mut have = 0;
    loop {
        match std::io::stdin().read(&mut packet[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) => die!("failed to read packet from stdin ({})", daemon::error_text(&error)),
        }
    }
    sayln!("{}", key_to_string(&key_of(&packet[..have]).0, &Names::default()));
    Ok(())
}

/// A message from hexadecimal digits.
///
/// # Errors
/// OVS's words.
pub(super) fn message_from_hex(hex: &str) -> Result<Vec<u8>, &'static str> {
    match scan_hex(hex) {
        Some((_, rest)) if !rest.is_empty() => Err("Trailing garbage in hex data"),
        None => Err("Trailing garbage in hex data"),
        Some((bytes, _)) if bytes.len() < header::LEN => Err("Message too short for OpenFlow"),
        Some((bytes, _)) if bytes.len() != header::stated_len(&bytes) => {
            Err("Message size does not match length in OpenFlow header")
        }
        Some((bytes, _)) => Ok(bytes),
    }
}
