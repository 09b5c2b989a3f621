//! Hello and echo: what every version has. Spec: OpenFlow 1.3.1 section 7.5.1.

use super::{hex_dump, w};
use crate::header::{self, LEN, Raw};
use crate::version::Version;
use crate::wire::{Put, Reader};

const OFPHET_VERSIONBITMAP: u16 = 1;

/// A set of versions: bit N for the version whose byte is N.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Versions(pub u32);

impl Versions {
    /// Every version that we know.
    pub const ALL: Self = Self(0x7e);

    /// Every version up to and with the one of that byte.
    pub fn up_to(byte: u8) -> Self {
        Self(if byte < 31 { (1 << (byte + 1)) - 2 } else { 0xffff_fffe })
    }

    /// The greatest of the set, if we know it.
    pub fn greatest(self) -> Option<Version> {
        let top = 31_u32.checked_sub(self.0.leading_zeros())?;
        u8::try_from(top).ok().and_then(Version::from_wire)
    }

    pub fn contains(self, version: Version) -> bool {
        self.0 & (1 << version.wire()) != 0
    }

    /// `0x01, 0x04`.
    pub fn text(self) -> String {
        let numbers = (0..32).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| format!("0x{bit:02x}"));
        numbers.collect::<Vec<_>>().join(", ")
    }

    /// `OpenFlow10, OpenFlow13`.
    pub fn names(self) -> String {
        let names = Version::ALL.into_iter().filter(|&version| self.contains(version)).map(Version::name);
        names.collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<Version> for Versions {
    fn from_iter<T: IntoIterator<Item = Version>>(versions: T) -> Self {
        Self(versions.into_iter().fold(0, |set, version| set | 1 << version.wire()))
    }
}

/// A hello: which versions the sender speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello {
    pub versions: Versions,
    /// Whether everything in the message was understood.
    pub understood: bool,
}

impl Hello {
    /// Decodes a hello, which is always possible. `msg` is at least a header long.
    pub fn decode(msg: &[u8]) -> Self {
        let mut hello =
            Self { versions: Versions::up_to(msg.first().copied().unwrap_or(0)), understood: true };
        let mut reader = Reader::new(msg.get(LEN..).unwrap_or(&[]));
        while !reader.is_empty() {
            let Some((kind, value)) = element(&mut reader) else {
                hello.understood = false;
                break;
            };
            match bitmap(value).filter(|_| kind == OFPHET_VERSIONBITMAP) {
                Some(versions) => hello.versions = versions,
                None => hello.understood = false,
            }
        }
        hello
    }

    /// A hello for the versions of a set that is not empty.
    pub fn encode(versions: Versions, xid: u32) -> Vec<u8> {
        let version = versions.greatest().unwrap_or(Version::V10);
        let mut msg = header::start(Raw::OfptHello, version, xid);
        if versions != Versions::up_to(version.wire()) {
            msg.u16(OFPHET_VERSIONBITMAP).u16(8).u32(versions.0);
        }
        header::finish(&mut msg);
        msg
    }

    /// The text of a hello message.
    pub fn text(msg: &[u8], out: &mut String) {
        let hello = Self::decode(msg);
        w!(out, "\n version bitmap: {}", hello.versions.text());
        if !hello.understood {
            out.push_str("\n unknown data in hello:\n");
            hex_dump(out, msg, true);
        }
    }
}

/// The next element: its type and value, without the padding.
fn element<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let whole = reader.rest();
    let kind = reader.u16().ok()?;
    let len = usize::from(reader.u16().ok()?);
    reader.skip(len.checked_sub(4)?.checked_add(len.wrapping_neg() % 8)?).ok()?;
    Some((kind, &whole[4..len]))
}

/// The versions of a bitmap: its first 32 bits count.
fn bitmap(value: &[u8]) -> Option<Versions> {
    if !value.len().is_multiple_of(4) {
        return None;
    }
    let mut versions = u32::from_be_bytes(*value.first_chunk()?);
    if versions & 1 != 0 {
        tracing::warn!(target: "ofp_util", "peer claims to support invalid OpenFlow version 0x00");
        versions &= !1;
    }
    if versions == 0 {
        tracing::warn!(
            target: "ofp_util",
            "peer does not support any OpenFlow version (between 0x01 and 0x1f)"
        );
        return None;
    }
    Some(Versions(versions))
}

/// An echo request without payload.
pub fn echo_request(version: Version, xid: u32) -> Vec<u8> {
    header::bare(Raw::OfptEchoRequest, version, xid)
}

/// The reply to an echo request: its payload comes back.
pub fn echo_reply(version: Version, request: &[u8]) -> Vec<u8> {
    let mut msg = header::start(Raw::OfptEchoReply, version, header::xid(request));
    msg.bytes(request.get(LEN..).unwrap_or(&[]));
    header::finish(&mut msg);
    msg
}

/// The text of an echo request or reply.
pub fn echo_text(msg: &[u8], verbosity: i32, out: &mut String) {
    let payload = msg.get(LEN..).unwrap_or(&[]);
    w!(out, " {} bytes of payload\n", payload.len());
    if verbosity > 1 {
        hex_dump(out, payload, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_is_sent_only_if_versions_are_missing() {
        assert_eq!(Hello::encode(Versions::ALL, 1), [6, 0, 0, 8, 0, 0, 0, 1]);
        let some: Versions = [Version::V10, Version::V13].into_iter().collect();
        let msg = Hello::encode(some, 1);
        assert_eq!(msg, [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x12]);
        assert_eq!(Hello::decode(&msg), Hello { versions: some, understood: true });
    }

    #[test]
    fn text_tells_versions_and_rubbish() {
        let mut out = String::new();
        Hello::text(&[1, 0, 0, 0x13, 0, 0, 0, 0, 0x65, 0x78, 0x74, 0x72, 0x61], &mut out);
        assert_eq!(
            out,
            "\n version bitmap: 0x01\n unknown data in hello:\n\
             00000000  01 00 00 13 00 00 00 00-65 78 74 72 61          |........extra   |\n"
        );
    }
}
