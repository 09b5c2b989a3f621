//! What commands do with a switch: find it, choose a flow format, ask and print, send and look for errors.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use openflow::header::{self, Header, Raw, Type};
use openflow::msg::nicira;
use openflow::msg::port::{self, PhyPort};
use openflow::msg::switch::Features;
use openflow::msg::table_features::{TableFeatures, TableStats};
use openflow::names::Names;
use openflow::print;
use openflow::protocol::Protocols;
use openflow::version::Version;

use flow::id::OfPort;

use super::vconn::{Vconn, VconnError};
use super::{Context, Fatal, Outcome, die, say};

/// Names of ports and tables, by switch.
#[derive(Default)]
pub struct Known(HashMap<String, Learned>);

#[derive(Default)]
struct Learned {
    names: Rc<Names>,
    /// Whether the tables' names are among them.
    tables: bool,
}

/// Which of a bridge's sockets to speak to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    Management,
    Snoop,
}

/// Ends the command with a text and the system's reason.
pub fn failed<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Fatal {
    move |error| Fatal::Text(format!("{what} ({error})"))
}

impl Context {
    /// Connects to a bridge by name, a socket's file or a `METHOD:ADDRESS`.
    pub fn open(&self, name: &str) -> Outcome<Vconn> {
        self.open_socket(name, Socket::Management)
    }

    /// Like [`Context::open`], to one of a bridge's sockets.
    pub fn open_socket(&self, name: &str, socket: Socket) -> Outcome<Vconn> {
        let mut vconn = if name.contains(':') {
            Vconn::open(name, &self.options, &self.xids).map_err(|error| {
                Fatal::Text(format!("connecting to {name} ({})", daemon::error_text(&error)))
            })?
        } else {
            self.open_bridge(name, socket)?
        };
        tracing::debug!(target: "ofctl", "connecting to {}", vconn.name());
        vconn
            .negotiate(self.options.versions)
            .map_err(failed(format!("{name}: failed to connect to socket")))?;
        Ok(vconn)
    }

    fn open_bridge(&self, name: &str, socket: Socket) -> Outcome<Vconn> {
        let suffix = if socket == Socket::Management { "mgmt" } else { "snoop" };
        // A name may carry the datapath's type in front: TYPE@NAME.
        let bare = name.split_once('@').map_or(name, |(_, bare)| bare);
        let run = &self.options.dirs.run;
        let paths = [name.into(), run.join(format!("{name}.{suffix}")), run.join(format!("{bare}.{suffix}"))];
        for path in paths {
            match Vconn::open(&format!("unix:{}", path.display()), &self.options, &self.xids) {
                Ok(vconn) => return Ok(vconn),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let path = path.display();
                    die!("{path}: failed to open socket ({})", daemon::error_text(&error));
                }
            }
        }
        die!("{name} is not a bridge or a socket")
    }

    /// The names that arguments may use for a switch's ports and tables.
    pub fn accept(&mut self, switch: &str) -> Outcome<Rc<Names>> {
        if self.options.accepts_names() { self.names_of(switch, true) } else { Ok(Rc::default()) }
    }

    /// Like [`Context::accept`], where only ports can be named.
    pub fn accept_ports(&mut self, switch: &str) -> Outcome<Rc<Names>> {
        if self.options.accepts_names() { self.names_of(switch, false) } else { Ok(Rc::default()) }
    }

    /// The names that output uses for a switch's ports and tables.
    pub fn show(&mut self, switch: &str) -> Outcome<Rc<Names>> {
        if self.options.shows_names() { self.names_of(switch, true) } else { Ok(Rc::default()) }
    }

    fn names_of(&mut self, switch: &str, tables: bool) -> Outcome<Rc<Names>> {
        let passive =
            switch.contains(':') && matches!(switch.split(':').next(), Some("punix" | "ptcp" | "pssl"));
        // To wait for a switch that may never connect to us is not worth a name.
        if passive {
            return Ok(Rc::default());
        }
        let (mut names, had_tables) = match self.known.0.get(switch) {
            Some(Learned { names, tables: had }) if *had || !tables => return Ok(Rc::clone(names)),
            Some(Learned { names, tables }) => (Names::clone(names), *tables),
            None => {
                let mut names = Names::default();
                for port in self.ports_of(switch)? {
                    names.ports.insert(port.port_no.0.into(), &port.name);
                }
                (names, false)
            }
        };
        if tables && !had_tables {
            for (table, name) in self.tables_of(switch)? {
                names.tables.insert(table.into(), &name);
            }
        }
        let names = Rc::new(names);
        let tables = tables || had_tables;
        self.known.0.insert(switch.to_owned(), Learned { names: Rc::clone(&names), tables });
        Ok(names)
    }

    /// The ports of a switch.
    pub fn ports_of(&self, switch: &str) -> Outcome<Vec<PhyPort>> {
        let mut vconn = self.open(switch)?;
        let version = vconn.version();
        if version < Version::V13 {
            let features = fetch_features(&mut vconn)?;
            if has_all_ports(&features, version) {
                return match Features::decode(&features) {
                    Ok(features) => Ok(features.ports),
                    Err(error) => {
                        die!("{}: failed to decode features reply ({})", vconn.name(), error.name())
                    }
                };
            }
        }
        let xid = vconn.next_xid();
        let request = port::desc_request(version, xid, OfPort::NONE);
        let mut ports = Vec::new();
        for reply in self.replies(&mut vconn, &request, Type::PortDescStatsReply)? {
            match port::decode_desc_reply(&reply) {
                Ok(mut more) => ports.append(&mut more),
                Err(_) => return Err(self.bad_reply(&reply)),
            }
        }
        Ok(ports)
    }

    /// The tables of a switch that have names.
    fn tables_of(&self, switch: &str) -> Outcome<Vec<(u8, String)>> {
        let mut vconn = self.open(switch)?;
        let version = vconn.version();
        let xid = vconn.next_xid();
        let (raw, reply) = if version < Version::V13 {
            (Raw::OfpstTableRequest, Type::TableStatsReply)
        } else {
            (Raw::Ofpst13TableFeaturesRequest, Type::TableFeaturesStatsReply)
        };
        let request = header::bare(raw, version, xid);
        let replies = self.replies(&mut vconn, &request, reply)?;
        let mut names = Vec::new();
        for reply in replies {
            let list = if version < Version::V13 {
                let (list, result) = TableStats::decode_reply(&reply);
                let named = list.into_iter().map(|(_, features)| (features.table_id, features.name));
                result.map(|()| named.collect())
            } else {
                TableFeatures::names(&reply)
            };
            let Ok(list) = list else { return Err(self.bad_reply(&reply)) };
            names
                .extend(list.into_iter().filter(|(_, name)| !name.is_empty()).map(|(id, name)| (id.0, name)));
        }
        Ok(names)
    }

    /// Sends a statistics request and collects its replies, which must be of one kind.
    pub fn replies(&self, vconn: &mut Vconn, request: &[u8], kind: Type) -> Outcome<Vec<Vec<u8>>> {
        let xid = header::xid(request);
        vconn.send(request).map_err(failed("failed to send packet to switch"))?;
        let mut replies = Vec::new();
        loop {
            let reply = vconn.receive_xid(xid).map_err(failed("OpenFlow receive failed"))?;
            let header = Header::peek(&reply).ok().filter(|header| header.kind() == kind);
            let Some(header) = header else { return Err(self.bad_reply(&reply)) };
            replies.push(reply);
            if header.flags & header::MORE == 0 {
                return Ok(replies);
            }
        }
    }

    fn bad_reply(&self, reply: &[u8]) -> Fatal {
        let text = print::to_string(reply, &Names::default(), self.options.verbosity + 1);
        Fatal::Text(format!("received bad reply: {text}"))
    }

    /// Sends a request and prints what comes back, to the last part.
    pub fn dump(&mut self, vconn: &mut Vconn, request: &[u8]) -> Outcome {
        let names = self.show(vconn.name())?;
        let verbosity = self.options.verbosity + 1;
        let asked = Header::peek(request).map_err(|error| Fatal::Text(error.name().to_owned()))?;
        let Some(expected) = asked.raw.stat_reply(vconn.version()) else {
            let reply = self.transact(vconn, request)?;
            say!("{}", print::to_string(&reply, &names, verbosity));
            return Ok(());
        };
        vconn.send(request).map_err(failed("failed to send packet to switch"))?;
        loop {
            let reply = vconn.receive_xid(asked.xid).map_err(failed("OpenFlow packet receive failed"))?;
            say!("{}", self.options.painted(print::to_string(&reply, &names, verbosity)));
            let header = Header::peek(&reply).ok();
            match header.map(|header| (header.raw, header.kind(), header.flags)) {
                Some((_, Type::Error, _)) => return Ok(()),
                Some((raw, _, flags)) if raw == expected => {
                    if flags & header::MORE == 0 {
                        return Ok(());
                    }
                }
                _ => {
                    let text = print::to_string(&reply, &names, verbosity);
                    die!("received bad reply: {text}");
                }
            }
        }
    }

    /// Connects, sends a request without a body and prints what comes back.
    pub fn dump_trivial(&mut self, switch: &str, raw: Raw) -> Outcome {
        let mut vconn = self.open(switch)?;
        let xid = vconn.next_xid();
        let request = header::bare(raw, vconn.version(), xid);
        self.dump(&mut vconn, &request)
    }

    /// Sends a request and waits for its reply.
    pub fn transact(&self, vconn: &mut Vconn, request: &[u8]) -> Outcome<Vec<u8>> {
        let name = vconn.name().to_owned();
        vconn.transact(request).map_err(failed(format!("talking to {name}")))
    }

    /// Sends requests that are answered only by errors; prints the first error and ends with status 1.
    pub fn transact_all(&mut self, vconn: &mut Vconn, requests: &[Vec<u8>]) -> Outcome {
        for request in requests {
            let name = vconn.name().to_owned();
            let answer = vconn.transact_noreply(request).map_err(failed(format!("talking to {name}")))?;
            if let Some(error) = answer {
                let names = self.show(&name)?;
                eprint!("{}", print::to_string(&error, &names, self.options.verbosity + 2));
                return Err(Fatal::Exit(1));
            }
        }
        Ok(())
    }

    /// Sends a request that is answered by table features or an error.
    pub fn transact_features(&mut self, vconn: &mut Vconn, request: &[u8]) -> Outcome {
        let reply = self.transact(vconn, request)?;
        if Header::peek(&reply).is_ok_and(|header| header.kind() == Type::Error) {
            eprint!("{}", print::to_string(&reply, &Names::default(), self.options.verbosity + 2));
            return Err(Fatal::Exit(1));
        }
        Ok(())
    }

    /// Sends one request that is answered only by an error.
    pub fn transact_one(&mut self, vconn: &mut Vconn, request: Vec<u8>) -> Outcome {
        self.transact_all(vconn, &[request])
    }

    /// The port that an argument names.
    pub fn port(&mut self, switch: &str, name: &str) -> Outcome<OfPort> {
        if let Some(port) = Names::default().parse_port(name) {
            return Ok(port);
        }
        match self.accept_ports(switch)?.parse_port(name) {
            Some(port) => Ok(port),
            None => die!("{switch}: unknown port `{name}'"),
        }
    }

    /// Connects for changing flows, with a format that is both usable and allowed.
    pub fn open_for_mods(&self, switch: &str, usable: Protocols) -> Outcome<(Vconn, Protocols)> {
        let wanted = usable & self.options.protocols;
        if wanted.is_empty() {
            return Err(self.none_allowed(usable));
        }
        let mut vconn = self.open(switch)?;
        let mut current = Protocols::initial(vconn.version());
        if wanted.contains(current) {
            return Ok((vconn, current));
        }
        for format in Protocols::SINGLE.into_iter().filter(|format| wanted.contains(*format)) {
            if set_format(&mut vconn, format, &mut current)? {
                return Ok((vconn, format));
            }
        }
        die!("switch does not support any of the usable flow formats ({usable})")
    }

    /// Chooses a format for dumping flows.
    pub fn set_dump_format(&self, vconn: &mut Vconn, usable: Protocols) -> Outcome<Protocols> {
        let mut current = Protocols::initial(vconn.version());
        let wanted = usable & self.options.protocols;
        for format in Protocols::DUMP.into_iter().filter(|format| wanted.contains(*format)) {
            if set_format(vconn, format, &mut current)? {
                return Ok(format);
            }
        }
        if wanted.is_empty() {
            return Err(self.none_allowed(usable));
        }
        die!("switch does not support any of the usable flow formats ({usable})")
    }

    /// Says that what could be used may not be.
    pub fn none_allowed(&self, usable: Protocols) -> Fatal {
        let allowed = self.options.protocols;
        Fatal::Text(format!(
            "none of the usable flow formats ({usable}) is among the allowed flow formats ({allowed})"
        ))
    }
}

/// The features reply of a switch.
pub fn fetch_features(vconn: &mut Vconn) -> Outcome<Vec<u8>> {
    let xid = vconn.next_xid();
    let request = header::bare(Raw::OfptFeaturesRequest, vconn.version(), xid);
    let name = vconn.name().to_owned();
    let reply = vconn.transact(&request).map_err(failed(format!("talking to {name}")))?;
    if Header::peek(&reply).map(|header| header.kind()).ok() != Some(Type::FeaturesReply) {
        die!("{name}: received bad features reply");
    }
    Ok(reply)
}

/// Whether a features reply tells all ports: it does before OpenFlow 1.3, unless it is as long as a message can be.
pub fn has_all_ports(reply: &[u8], version: Version) -> bool {
    const PORT10: usize = 48;
    const PORT11: usize = 64;
    let port = if version == Version::V10 { PORT10 } else { PORT11 };
    version < Version::V13 && reply.len() + port <= usize::from(u16::MAX)
}

/// Makes a connection use a format; whether it does.
fn set_format(vconn: &mut Vconn, wanted: Protocols, current: &mut Protocols) -> Outcome<bool> {
    let version = vconn.version();
    loop {
        let (request, next) = if wanted == *current {
            return Ok(true);
        } else if wanted.version() != Some(version) {
            return Ok(false);
        } else if current.base() != wanted.base() {
            let next = current.with_base(wanted.base());
            (nicira::set_flow_format(vconn.next_xid(), wanted.base() == Protocols::OF10_NXM), next)
        } else {
            let on = wanted.intersects(Protocols::TID);
            (nicira::flow_mod_table_id(version, vconn.next_xid(), on), current.with_table_id(on))
        };
        let name = vconn.name().to_owned();
        let answer: Option<Vec<u8>> = vconn
            .transact_noreply(&request)
            .map_err(|error: VconnError| Fatal::Text(format!("talking to {name} ({error})")))?;
        if let Some(error) = answer {
            let text = print::to_string(&error, &Names::default(), 2);
            tracing::debug!(target: "ofctl", "{name}: failed to set protocol, switch replied: {text}");
            return Ok(false);
        }
        *current = next;
    }
}
