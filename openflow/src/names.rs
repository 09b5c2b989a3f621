//! Names of ports and tables: the reserved ports, and maps that a program may have learned from a switch.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use flow::field::{Decoding, Field, PortNames};
use flow::id::{OfPort, TableId};

/// Names of numbers, where both are unique; what has two names, or a name of two numbers, counts as nameless.
#[derive(Clone, Debug, Default)]
pub struct NameMap {
    by_name: HashMap<String, u32>,
    by_number: HashMap<u32, Named>,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    ambiguous: bool,
}

impl NameMap {
    /// Adds a pair; the first pair of a name or number wins, a second one that differs makes the first ambiguous.
    pub fn insert(&mut self, number: u32, name: &str) {
        if let Some(&first) = self.by_name.get(name) {
            if first != number {
                self.mark_ambiguous(first);
            }
        } else if self.by_number.contains_key(&number) {
            self.mark_ambiguous(number);
        } else {
            self.by_name.insert(name.to_owned(), number);
            self.by_number.insert(number, Named { name: name.to_owned(), ambiguous: false });
        }
    }

    /// The number of a name.
    pub fn number(&self, name: &str) -> Option<u32> {
        let number = *self.by_name.get(name)?;
        self.name(number).map(|_| number)
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> Option<&str> {
        let named = self.by_number.get(&number)?;
        (!named.ambiguous).then_some(named.name.as_str())
    }

    /// Whether nothing has been added.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    fn mark_ambiguous(&mut self, number: u32) {
        if let Some(named) = self.by_number.get_mut(&number) {
            named.ambiguous = true;
        }
    }
}

/// What text may call ports and tables beside their numbers. The default knows reserved names only.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub ports: NameMap,
    pub tables: NameMap,
}

/// Reserved ports by name; text may also write `NONE` for `ANY`.
const RESERVED: [(OfPort, &str); 9] = [
    (OfPort::IN_PORT, "IN_PORT"),
    (OfPort::TABLE, "TABLE"),
    (OfPort::NORMAL, "NORMAL"),
    (OfPort::FLOOD, "FLOOD"),
    (OfPort::ALL, "ALL"),
    (OfPort::CONTROLLER, "CONTROLLER"),
    (OfPort::LOCAL, "LOCAL"),
    (OfPort::UNSET, "UNSET"),
    (OfPort::NONE, "ANY"),
];

/// How far OpenFlow 1.1's reserved ports lie above OpenFlow 1.0's.
const OF11_OFFSET: u32 = 0xffff_ff00 - 0xff00;

/// A port as OpenFlow 1.1 and later number it.
pub fn port_to_wire32(port: OfPort) -> u32 {
    let port16 = u32::from(port.0);
    if port.0 < OfPort::MAX.0 { port16 } else { port16 + OF11_OFFSET }
}

/// The port of OpenFlow 1.1's number; `None` for those between the two ranges, which have no 16-bit form.
pub fn port_from_wire32(port: u32) -> Option<OfPort> {
    let port16 = if port < u32::from(OfPort::MAX.0) { port } else { port.checked_sub(OF11_OFFSET)? };
    u16::try_from(port16).ok().filter(|&p| port < 0xff00 || p >= 0xff00).map(OfPort)
}

impl Names {
    /// The port that a number, a reserved name (whatever the case) or a known name stands for.
    pub fn parse_port(&self, text: &str) -> Option<OfPort> {
        if text.starts_with('-') {
            tracing::warn!(target: "ofp_port", "Negative value {text} is not a valid port number.");
            return None;
        }
        if let Some(number) = crate::text::parse_uint_radix(text, 10) {
            return parse_port_number(u32::try_from(number).ok()?);
        }
        let reserved = RESERVED
            .iter()
            .chain([&(OfPort::NONE, "NONE")])
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        if let Some((port, _)) = reserved {
            return Some(*port);
        }
        let number = match unquote(text) {
            Some(name) => self.ports.number(&name?),
            None => self.ports.number(text),
        };
        u16::try_from(number?).ok().map(OfPort)
    }

    /// The table of a number or a known name.
    pub fn parse_table(&self, text: &str) -> Option<TableId> {
        if text.starts_with('-') {
            tracing::warn!(target: "ofp_table", "Negative value {text} is not a valid table number.");
            return None;
        }
        if let Some(number) = crate::text::parse_uint_radix(text, 10) {
            let table = u8::try_from(number).ok().map(TableId);
            if table.is_none() {
                tracing::warn!(
                    target: "ofp_table", "table {number} is outside the supported range 0 through 255"
                );
            }
            return table;
        }
        let number = match unquote(text) {
            Some(name) => self.tables.number(&name?),
            None => self.tables.number(text),
        };
        u8::try_from(number?).ok().map(TableId)
    }

    /// The port as text.
    pub fn port(&self, port: OfPort) -> PortText<'_> {
        PortText { names: self, port }
    }

    /// The table as text.
    pub fn table(&self, table: TableId) -> TableText<'_> {
        TableText { names: self, table }
    }
}

impl PortNames for Names {
    fn name(&self, port: OfPort) -> Option<Cow<'_, str>> {
        self.ports.name(port.0.into()).map(Cow::Borrowed)
    }

    fn port(&self, name: &str) -> Option<OfPort> {
        u16::try_from(self.ports.number(name)?).ok().map(OfPort)
    }
}

/// Tells what is to be told of a port number in the text of a field's value.
pub fn tell_of_port(field: Field, text: &str) {
    if matches!(field.info().decoding, Decoding::OfpPort | Decoding::OfpPortOxm) {
        // The text is parsed, with names, by the field.
        let _ = Names::default().parse_port(text);
    }
}

fn parse_port_number(number: u32) -> Option<OfPort> {
    let max = u32::from(OfPort::MAX.0);
    let first_reserved = u32::from(OfPort::UNSET.0);
    if number >= max && number < first_reserved {
        let later = number + OF11_OFFSET;
        tracing::warn!(
            target: "ofp_port",
            "port {number} is a reserved OF1.0 port number that will be translated to {later} \
             when talking to an OF1.1 or later controller"
        );
    } else if number >= first_reserved && number <= 0xffff {
        let port = OfPort(u16::try_from(number).ok()?);
        tracing::warn!(
            target: "ofp_port",
            "referring to port {} as {number} is deprecated for compatibility with OpenFlow 1.1 and later",
            Names::default().port(port)
        );
    } else if number > 0xffff && number < 0xffff_ff00 {
        tracing::warn!(
            target: "ofp_port",
            "port {number} is outside the supported range 0 through ffff or 0xffffff00 through 0xffffffff"
        );
        return None;
    } else if number >= 0xffff_ff00 {
        return u16::try_from(number - OF11_OFFSET).ok().map(OfPort);
    }
    u16::try_from(number).ok().map(OfPort)
}

/// `Some(None)` for a malformed quoted name, `None` for a name without quotes.
fn unquote(text: &str) -> Option<Option<String>> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok())
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let bare = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if bare { f.write_str(name) } else { write!(f, "{}", serde_json::Value::from(name)) }
}

/// A port's reserved name, known name or number.
pub struct PortText<'a> {
    names: &'a Names,
    port: OfPort,
}

impl fmt::Display for PortText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((_, name)) = RESERVED.iter().find(|(port, _)| *port == self.port) {
            return f.write_str(name);
        }
        match self.names.ports.name(self.port.0.into()) {
            Some(name) => write_name(f, name),
            None => write!(f, "{}", self.port),
        }
    }
}

/// A table's known name or number.
pub struct TableText<'a> {
    names: &'a Names,
    table: TableId,
}

impl fmt::Display for TableText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.tables.name(self.table.0.into()) {
            Some(name) => write_name(f, name),
            None => write!(f, "{}", self.table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_reserved_names_and_two_numberings() {
        let names = Names::default();
        assert_eq!(names.parse_port("local"), Some(OfPort::LOCAL));
        assert_eq!(names.parse_port("4294967294"), Some(OfPort::LOCAL));
        assert_eq!(names.parse_port("17"), Some(OfPort(17)));
        assert_eq!(names.parse_port("70000"), None);
        assert_eq!(names.parse_port("eth0"), None);
        assert_eq!(names.port(OfPort::NONE).to_string(), "ANY");
        assert_eq!(port_from_wire32(0xffff_fffe), Some(OfPort::LOCAL));
        assert_eq!(port_from_wire32(0xff00), None);
        assert_eq!(port_to_wire32(OfPort::CONTROLLER), 0xffff_fffd);
    }

    #[test]
    fn ambiguous_names_are_no_names() {
        let mut names = Names::default();
        names.ports.insert(1, "p1");
        names.ports.insert(2, "a-b");
        names.ports.insert(3, "twice");
        names.ports.insert(4, "twice");
        assert_eq!(names.parse_port("p1"), Some(OfPort(1)));
        assert_eq!(names.parse_port("\"a-b\""), Some(OfPort(2)));
        assert_eq!(names.port(OfPort(2)).to_string(), "\"a-b\"");
        assert_eq!(names.parse_port("twice"), None);
        assert_eq!(names.port(OfPort(3)).to_string(), "3");
    }
}
