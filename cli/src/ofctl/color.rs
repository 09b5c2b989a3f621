//! Colours in the text of flows (`--color`, `OVS_COLORS`): names, parentheses, values and the like, as terminals show them.
//!
//! The text of flows is made without colours; what a word is can be told by what it is followed by.

/// What can have a colour, by its name in `OVS_COLORS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Actions,
    Drop,
    Learn,
    Param,
    Paren,
    Special,
    Value,
}

/// Name and default SGR codes of each part, in the order of [`Part`].
const DEFAULTS: [(&str, &str); 7] =
    [("ac", "1;31"), ("dr", "34"), ("le", "31"), ("pm", "36"), ("pr", "35"), ("sp", "33"), ("vl", "32")];

const END: &str = "\x1b[m\x1b[K";

/// Words before `=` or `:` that name no plain parameter.
const SPECIAL: &[&str] =
    &["priority", "table", "output", "group", "set_field", "load", "resubmit", "CONTROLLER"];

/// Words by themselves that are neither numbers nor names.
const VALUES: &[&str] = &[
    "strip_vlan",
    "pop_vlan",
    "dec_mpls_ttl",
    "pop_queue",
    "debug_recirc",
    "debug_slow",
    "commit",
    "force",
    "ct_clear",
    "persistent",
    "hash",
    "random",
    "clear_actions",
    "pause",
    "send_flow_rem",
    "check_overlap",
    "reset_counts",
    "no_packet_counts",
    "no_byte_counts",
    "delete_learned",
    "eth",
    "ip",
    "ipv6",
    "icmp",
    "icmp6",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "sctp",
    "sctp6",
    "arp",
    "rarp",
    "mpls",
    "mplsm",
    "nsh",
];

/// Paints text.
pub struct Painter([Option<String>; 7]);

impl Painter {
    /// With the default colours, but for those that `colors` (`OVS_COLORS`: `ac=1;31:dr=34`) sets. What is set to nothing,
    /// or to anything but digits and `;`, has no colour.
    pub fn new(colors: Option<&str>) -> Self {
        let mut codes = DEFAULTS.map(|(_, codes)| Some(codes.to_owned()));
        for (name, value) in colors.unwrap_or_default().split(':').filter_map(|pair| pair.split_once('=')) {
            let Some(part) = DEFAULTS.iter().position(|(known, _)| *known == name) else { continue };
            let valid = !value.is_empty() && value.bytes().all(|byte| byte == b';' || byte.is_ascii_digit());
            codes[part] = valid.then(|| value.to_owned());
        }
        Self(codes)
    }

    fn put(&self, part: Part, text: &str, out: &mut String) {
        match &self.0[part as usize] {
            Some(codes) => out.extend(["\x1b[", codes, "m\x1b[K", text, END]),
            None => out.push_str(text),
        }
    }

    /// The text of a flow, painted.
    pub fn paint(&self, flow: &str) -> String {
        let mut out = String::with_capacity(flow.len() * 3);
        let mut rest = flow;
        let mut open = Vec::new();
        let mut in_actions = false;
        // What comes next is the value of a parameter, or part of one.
        let mut value = false;
        while let Some(first) = rest.chars().next() {
            if rest.starts_with("->") {
                self.put(Part::Special, "->", &mut out);
                (rest, value) = (&rest[2..], false);
            } else if first == ')' {
                self.put(open.pop().unwrap_or(Part::Paren), ")", &mut out);
                (rest, value) = (&rest[1..], false);
            } else if !is_word(first) {
                out.push(first);
                (rest, value) =
                    (&rest[first.len_utf8()..], matches!(first, '=' | ':' | '/' | '"' | '[' | '-'));
            } else {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                let mark = after.bytes().next().unwrap_or_default();
                let names = mark == b'=' || (mark == b':' && in_actions);
                if mark == b'(' || (names && !value) {
                    let part = part_before(word, mark);
                    self.put(part, &rest[..=end], &mut out);
                    in_actions |= part == Part::Actions;
                    if mark == b'(' {
                        open.push(part);
                    }
                    (rest, value) = (&after[1..], mark != b'(' && part != Part::Actions);
                } else {
                    self.word(word, value, &mut out);
                    (rest, value) = (after, false);
                }
            }
        }
        out
    }

    /// A word that is followed by nothing that says what it is.
    fn word(&self, word: &str, value: bool, out: &mut String) {
        match word {
            _ if value => out.push_str(word),
            "drop" => self.put(Part::Drop, word, out),
            "exit" | "dec_nsh_ttl" => self.put(Part::Special, word, out),
            "dec_ttl" => self.put(Part::Paren, word, out),
            _ if VALUES.contains(&word) => self.put(Part::Value, word, out),
            _ => out.push_str(word),
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// What a word and the mark after it are.
fn part_before(word: &str, mark: u8) -> Part {
    match (word, mark) {
        ("actions", b'=') => Part::Actions,
        ("learn", b'(') => Part::Learn,
        (_, b'(') => Part::Paren,
        (word, _) if SPECIAL.contains(&word) => Part::Special,
        _ => Part::Param,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `<pm:…>` for what has a colour.
    fn shown(flow: &str) -> String {
        let mut text = Painter::new(None).paint(flow).replace(END, ">");
        for (name, codes) in DEFAULTS {
            text = text.replace(&format!("\x1b[{codes}m\x1b[K"), &format!("<{name}:"));
        }
        text
    }

    #[test]
    fn parts_have_their_colours() {
        for (flow, painted) in [
            ("ip,nw_src=1.1.1.1 actions=drop", "<vl:ip>,<pm:nw_src=>1.1.1.1 <ac:actions=><dr:drop>"),
            (
                " cookie=0x0, duration=1.5s, table=3, priority=5,in_port=1,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 \
                 actions=NORMAL",
                " <pm:cookie=>0x0, <pm:duration=>1.5s, <sp:table=>3, <sp:priority=>5,<pm:in_port=>1,\
                 <pm:dl_dst=>01:00:00:00:00:00/01:00:00:00:00:00 <ac:actions=>NORMAL",
            ),
            (
                "ct_state=+trk,tcp actions=ct(commit,zone=5,nat(src=1.1.1.1)),resubmit(,4)",
                "<pm:ct_state=>+trk,<vl:tcp> <ac:actions=><pr:ct(><vl:commit>,<pm:zone=>5,<pr:nat(><pm:src=>1.1.1.1\
                 <pr:)><pr:)>,<pr:resubmit(>,4<pr:)>",
            ),
            (
                "actions=set_field:5->reg0,mod_dl_src:00:00:00:00:00:01,output:2,strip_vlan,dec_ttl",
                "<ac:actions=><sp:set_field:>5<sp:->>reg0,<pm:mod_dl_src:>00:00:00:00:00:01,<sp:output:>2,\
                 <vl:strip_vlan>,<pr:dec_ttl>",
            ),
            (
                "actions=learn(table=5,output:NXM_OF_IN_PORT[])",
                "<ac:actions=><le:learn(><sp:table=>5,<sp:output:>NXM_OF_IN_PORT[]<le:)>",
            ),
        ] {
            assert_eq!(shown(flow), painted);
        }
    }

    #[test]
    fn colours_can_be_chosen() {
        let painter = Painter::new(Some("dr=1:pm=:ac=x:zz=3"));
        assert_eq!(
            painter.paint("in_port=1 actions=drop"),
            format!("in_port=1 actions=\x1b[1m\x1b[Kdrop{END}")
        );
    }
}
