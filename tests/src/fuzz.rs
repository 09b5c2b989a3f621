//! Every parser of the workspace as a function of bytes: the targets of `scripts/fuzz`, and of the test that runs what was
//! found once.
//!
//! A target takes any bytes and must come back. Where there is a property it asserts it: what decodes encodes to what
//! decodes to the same, text that is printed reads as what was printed.
//!
//! In the order to read it, by what the bytes are:
//!
//! * [`packets`]: frames, keys, masks and actions of the datapath, wire and text.
//! * [`kernel`]: what the openvswitch module says, family by family, and upcalls.
//! * [`network`]: what the rest of the kernel says: connections, links, routes, queueing disciplines.
//! * [`hardware`]: what it says of rules, and flows on their way there.
//! * [`controller`]: OpenFlow, wire and text.
//! * [`database`]: JSON, schemas, transactions, journals, and both sides of a session.
//! * [`programs`]: command lines, control sockets, files, sFlow.

pub mod packets;
pub mod kernel;
pub mod network;
pub mod hardware;
pub mod controller;
pub mod database;
pub mod programs;

/// What is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// As `scripts/fuzz` calls it.
    pub name: &'static str,
    /// What the bytes are.
    pub about: &'static str,
    pub run: fn(&[u8]),
    /// Inputs to begin with, by our own encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that inputs are made of.
    pub words: fn() -> Vec<String>,
}

impl Target {
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&[u8]),
        seeds: fn() -> Vec<Vec<u8>>,
        words: fn() -> Vec<String>,
    ) -> Self {
        Self { name, about, run, seeds, words }
    }
}

/// Binary inputs have no words.
fn none() -> Vec<String> {
    Vec::new()
}

/// All targets.
pub static TARGETS: &[&[Target]] = &[
    packets::TARGETS,
    kernel::TARGETS,
    network::TARGETS,
    hardware::TARGETS,
    controller::TARGETS,
    database::TARGETS,
    programs::TARGETS,
];

/// All targets, one after another.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().copied().flatten()
}

/// The target of a name.
pub fn named(name: &str) -> Option<&'static Target> {
    targets().find(|target| target.name == name)
}

/// The words as a dictionary of libFuzzer's.
pub fn dictionary(target: &Target) -> String {
    let escape = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        0x20..0x7f => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    let line = |word: String| format!("\"{}\"\n", word.bytes().map(escape).collect::<String>());
    (target.words)().into_iter().filter(|word| !word.is_empty()).map(line).collect()
}

/// The first byte, by which a target chooses what it does, and the rest.
fn choice(data: &[u8]) -> Option<(usize, &[u8])> {
    data.split_first().map(|(first, rest)| (usize::from(*first), rest))
}

/// The first byte as a choice, the rest as text.
fn text_choice(data: &[u8]) -> Option<(usize, &str)> {
    let (first, rest) = choice(data)?;
    Some((first, std::str::from_utf8(rest).ok()?))
}

/// `words` after each of the choices `from..to`.
fn chosen<T: AsRef<[u8]>>(choice: usize, inputs: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    inputs.into_iter().map(|input| [&[choice as u8], input.as_ref()].concat()).collect()
}
