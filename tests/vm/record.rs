//! What a switch asks of the kernel's datapath, as recorded by an `nlmon` device: captured by tcpdump, decoded by the codec
//! of `flow`, one line a request, without what differs from run to run.
//!
//! Attribute and command numbers are those of `linux/openvswitch.h`.

use std::collections::HashMap;

use flow::action::{self, Action};
use flow::attr::Attrs;
use flow::odp::NoNames;
use flow::odp::format::{Style, flow as flow_text};

/// One thing of the record.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Whoever recorded set the alias of a device: a new step begins.
    Step(String),
    /// A request that changes something, as text.
    Request(String),
}

const NETLINK_ROUTE: u16 = 0;
const NETLINK_GENERIC: u16 = 16;
const NLM_F_REQUEST: u16 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
const IFLA_IFALIAS: u16 = 20;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_NEWFAMILY: u8 = 1;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// The commands of a family that change something, by number.
type Commands = &'static [(u8, &'static str)];

const FAMILIES: &[(&str, Commands)] = &[
    ("ovs_datapath", &[(1, "new"), (2, "del"), (4, "set")]),
    ("ovs_vport", &[(1, "new"), (2, "del"), (4, "set")]),
    ("ovs_flow", &[(1, "new"), (2, "del"), (4, "set")]),
    ("ovs_packet", &[(3, "execute")]),
    ("ovs_meter", &[(2, "set"), (3, "del")]),
    ("ovs_ct_limit", &[(1, "set"), (2, "del")]),
];

/// Flags of requests: those that say how to make something mean nothing else here.
const FLAGS: &[(u16, &str)] =
    &[(4, "ack"), (8, "echo"), (0x100, "replace"), (0x200, "excl"), (0x400, "create"), (0x800, "append")];

/// Reads a capture in the classic format, of link type `LINKTYPE_NETLINK`.
pub fn read(pcap: &[u8]) -> Vec<Entry> {
    let word = |at: usize| -> Option<usize> {
        Some(u32::from_ne_bytes(pcap.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    assert_eq!(word(0), Some(0xa1b2_c3d4), "a capture of this machine's byte order");
    assert_eq!(word(20), Some(253), "captured from an nlmon device");
    let mut reader = Reader::default();
    let mut at = 24;
    while let Some(length) = word(at + 8) {
        let Some(packet) = pcap.get(at + 16..at + 16 + length) else { break };
        reader.packet(packet);
        at += 16 + length;
    }
    reader.entries
}

#[derive(Default)]
struct Reader {
    families: HashMap<u16, &'static (&'static str, Commands)>,
    entries: Vec<Entry>,
}

impl Reader {
    /// One captured packet: a header of 16 bytes that ends with the protocol, then netlink messages.
    fn packet(&mut self, packet: &[u8]) {
        let Some((header, mut rest)) = packet.split_at_checked(16) else { return };
        let protocol = u16::from_be_bytes([header[14], header[15]]);
        while rest.len() >= 16 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < 16 || length > rest.len() {
                return;
            }
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            let flags = u16::from_ne_bytes([rest[6], rest[7]]);
            self.message(protocol, kind, flags, &rest[16..length]);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn message(&mut self, protocol: u16, kind: u16, flags: u16, body: &[u8]) {
        let request = flags & NLM_F_REQUEST != 0;
        match (protocol, kind) {
            (NETLINK_ROUTE, RTM_NEWLINK | RTM_SETLINK) if request && body.len() >= 16 => {
                if let Some(alias) = Attrs::new(&body[16..]).find(IFLA_IFALIAS) {
                    let text = String::from_utf8_lossy(alias.data).trim_end_matches('\0').to_owned();
                    self.entries.push(Entry::Step(text));
                }
            }
            (NETLINK_GENERIC, GENL_ID_CTRL) if body.first() == Some(&CTRL_CMD_NEWFAMILY) => {
                self.family(&body[4..]);
            }
            (NETLINK_GENERIC, _) if request && body.len() >= 8 => {
                if let Some((name, commands)) = self.families.get(&kind) {
                    let command = commands.iter().find(|(number, _)| *number == body[0]);
                    if let Some((_, command)) = command
                        && let Some(text) = request_text(name, command, flags, &body[8..])
                    {
                        self.entries.push(Entry::Request(text));
                    }
                }
            }
            _ => {}
        }
    }

    fn family(&mut self, body: &[u8]) {
        let attrs = Attrs::new(body);
        let (Some(id), Some(name)) = (attrs.find(CTRL_ATTR_FAMILY_ID), attrs.find(CTRL_ATTR_FAMILY_NAME))
        else {
            return;
        };
        let known = FAMILIES.iter().find(|(known, _)| name.str() == Ok(known));
        if let (Ok(id), Some(known)) = (id.u16(), known) {
            self.families.insert(id, known);
        }
    }
}

/// The request as a line; `None` for probes of what the kernel can.
fn request_text(family: &str, command: &str, flags: u16, body: &[u8]) -> Option<String> {
    let attrs = Attrs::new(body);
    let get = |kind: u16| attrs.find(kind);
    let bytes = |kind: u16| get(kind).map(|attr| attr.data).unwrap_or_default();
    let mut set: Vec<&str> =
        FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    set.sort_unstable();
    let rest = match family {
        "ovs_flow" => {
            if get(8).is_some() {
                return None;
            }
            let key = flow_text(bytes(1), bytes(7), &Style::new(&NoNames, true));
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let ufid = get(9).map_or(String::new(), |attr| format!(" ufid:{}", hex(attr.data)));
            let ufid_flags =
                get(10).and_then(|attr| attr.u32().ok()).map_or(String::new(), |f| format!("/{f:x}"));
            let clear = if get(6).is_some() { " clear" } else { "" };
            let actions = get(2).map_or(String::new(), |attr| format!(" actions:{}", actions(attr.data)));
            format!("{key}{ufid}{ufid_flags}{clear}{actions}")
        }
        "ovs_packet" => {
            if get(8).is_some() {
                return None;
            }
            let key = flow_text(bytes(2), &[], &Style::new(&NoNames, true));
            let more: Vec<String> = [(9, "mru"), (11, "hash")]
                .iter()
                .filter(|(kind, _)| get(*kind).is_some())
                .map(|(_, name)| format!(" {name}"))
                .collect();
            format!("{} bytes {key}{} actions:{}", bytes(1).len(), more.concat(), actions(bytes(3)))
        }
        "ovs_vport" => vport(&attrs),
        _ => {
            let names: Vec<String> = attrs.flatten().map(|attr| attr.kind.to_string()).collect();
            format!("attributes {}", names.join(" "))
        }
    };
    Some(format!("{} {command} [{}] {rest}", family.trim_start_matches("ovs_"), set.join(",")))
}

fn vport(attrs: &Attrs<'_>) -> String {
    let mut text = String::new();
    for attr in attrs.flatten() {
        let part = match attr.kind {
            1 => format!("port {}", attr.u32().unwrap_or_default()),
            2 => format!("type {}", attr.u32().unwrap_or_default()),
            3 => format!("name {}", attr.str().unwrap_or_default()),
            4 => format!("options {:02x?}", attr.data),
            5 => "pid".to_owned(),
            other => format!("attribute {other}"),
        };
        text.push_str(&part);
        text.push(' ');
    }
    text.trim_end().to_owned()
}

fn actions(bytes: &[u8]) -> String {
    match Action::decode_all(bytes) {
        Ok(list) => without_pids(&action::format::actions(&list, &NoNames)),
        Err(error) => format!("undecodable ({error})"),
    }
}

/// The text with the number behind each `pid=` taken out.
fn without_pids(text: &str) -> String {
    let mut parts = text.split("pid=");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("pid=*");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::attr::Writer;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).expect("a short message");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([7; 8]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn packet(protocol: u16, messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 14];
        bytes.extend(protocol.to_be_bytes());
        bytes.extend(messages.concat());
        bytes
    }

    fn capture(packets: &[Vec<u8>]) -> Vec<u8> {
        let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 253];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        for packet in packets {
            let length = u32::try_from(packet.len()).expect("a short packet");
            for word in [0, 0, length, length] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(packet);
        }
        bytes
    }

    fn body(head: &[u8], fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::after(head.to_vec());
        fill(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn requests_are_told_and_probes_are_not() {
        let family = body(&[CTRL_CMD_NEWFAMILY, 2, 0, 0], |writer| {
            writer.put_u16(CTRL_ATTR_FAMILY_ID, 30);
            writer.put_str(CTRL_ATTR_FAMILY_NAME, "ovs_flow");
        });
        let key = |writer: &mut Writer| {
            writer.nest(1, |key| key.put_u32(3, 2));
            writer.nest(7, |mask| mask.put_u32(3, u32::MAX));
        };
        let actions = |writer: &mut Writer| writer.nest(2, |actions| actions.put_u32(1, 5));
        let head = [1, 1, 0, 0, 9, 0, 0, 0];
        let put = body(&head, |writer| {
            key(writer);
            writer.put(9, &[1; 16]);
            actions(writer);
        });
        let probe = body(&head, |writer| {
            key(writer);
            writer.put_flag(8);
        });
        let step = body(&[0; 16], |writer| writer.put_str(IFLA_IFALIAS, "step one"));
        let pcap = capture(&[
            packet(NETLINK_GENERIC, &[message(GENL_ID_CTRL, 0, &family)]),
            packet(NETLINK_GENERIC, &[message(30, 0x401, &probe)]),
            packet(NETLINK_ROUTE, &[message(RTM_SETLINK, 1, &step)]),
            packet(NETLINK_GENERIC, &[message(30, 0x401, &put), message(30, 0, &put), message(31, 1, &put)]),
        ]);
        assert_eq!(
            read(&pcap),
            [
                Entry::Step("step one".into()),
                Entry::Request(format!("flow new [create] in_port(2) ufid:{} actions:5", "01".repeat(16))),
            ]
        );
        // Cut short, it gives what is whole.
        for length in 24..pcap.len() {
            read(&pcap[..length]);
        }
    }

    #[test]
    fn pids_are_left_out() {
        assert_eq!(without_pids("userspace(pid=42,x),pid=7"), "userspace(pid=*,x),pid=*");
    }
}
