//! Requests to netfilter over netlink (`linux/netfilter/nfnetlink.h`), by the `neli` crate's sockets and messages.
//!
//! What comes back is walked by [`crate::netlink::Messages`], which holds every length against what is there: `neli`'s own
//! reader trusts them. A request is worked on inside `send`, and a dump goes on inside `recv`, so nothing here ever waits:
//! when nothing is there to be read, nothing will come.

use std::io::Cursor;

use flow::attr::{Attrs, Writer};
use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::consts::socket::{Msg, NlFamily};
use neli::nl::{NlPayload, Nlmsghdr, NlmsghdrBuilder};
use neli::socket::NlSocket;
use neli::types::Buffer;
use neli::utils::Groups;
use sys::errno::Errno;

use crate::Error;
use crate::netlink::{Malformed, Message, Messages, flag};

/// Subsystems (`NFNL_SUBSYS_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Subsystem {
    Conntrack = 1,
    Expectations = 2,
    Timeouts = 8,
}

/// Address families as `struct nfgenmsg` names them.
pub mod family {
    pub const UNSPEC: u8 = 0;
    pub const INET: u8 = 2;
    pub const INET6: u8 = 10;
}

/// Bytes of `struct nfgenmsg`: family, version, and a big-endian resource.
const HEAD: usize = 4;
/// `NFNETLINK_V0`
const VERSION: u8 = 0;
/// Bytes that one `recv` takes; the kernel puts no more than 32 KiB of a dump into one datagram.
const DATAGRAM: usize = 64 << 10;
/// The message types of netlink itself end here.
const MIN_TYPE: u16 = 16;

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    pub subsystem: Subsystem,
    pub command: u8,
    pub flags: NlmF,
    pub family: u8,
    pub attrs: Writer,
}

impl Request {
    pub fn new(subsystem: Subsystem, command: u8) -> Self {
        Self { subsystem, command, flags: NlmF::empty(), family: family::UNSPEC, attrs: Writer::new() }
    }

    /// The whole message.
    fn encode(&self, flags: NlmF, seq: u32, pid: u32) -> Result<Vec<u8>, Error> {
        let mut payload = vec![self.family, VERSION, 0, 0];
        payload.extend(self.attrs.bytes());
        let message: Nlmsghdr<u16, Buffer> = NlmsghdrBuilder::default()
            .nl_type(u16::from(self.subsystem as u8) << 8 | u16::from(self.command))
            .nl_flags(self.flags | flags | NlmF::REQUEST)
            .nl_seq(seq)
            .nl_pid(pid)
            .nl_payload(NlPayload::Payload(Buffer::from(payload)))
            .build()
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut bytes = Cursor::new(Vec::new());
        message.to_bytes(&mut bytes).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(bytes.into_inner())
    }
}

/// What an answer says: command, family and attributes.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub command: u8,
    pub family: u8,
    pub attrs: Attrs<'a>,
}

/// Opens a message of a subsystem.
pub fn open<'a>(message: &Message<'a>, subsystem: Subsystem) -> Result<Answer<'a>, Malformed> {
    let [high, command] = message.kind.to_be_bytes();
    let (head, tail) = message.payload.split_first_chunk::<HEAD>().ok_or_else(|| message.short(HEAD))?;
    let &[family, version, _, _] = head;
    if high != subsystem as u8 || version != VERSION {
        return Err(Malformed::Unexpected { at: message.at, kind: message.kind, command });
    }
    let at = message.at + crate::netlink::HEADER + HEAD;
    Ok(Answer { command, family, attrs: Attrs::new_at(tail, at) })
}

/// A socket for requests, one at a time.
pub struct Client {
    socket: NlSocket,
    pid: u32,
    seq: u32,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect() -> Result<Self, Error> {
        let socket = NlSocket::connect(NlFamily::Netfilter, None, Groups::empty())?;
        socket.nonblock()?;
        // Kernels before 4.12 have no extended acknowledgements; plain ones serve.
        let _ = socket.enable_ext_ack(true);
        Ok(Self { pid: socket.pid()?, socket, seq: 0, buffer: vec![0; DATAGRAM] })
    }

    fn send(&mut self, request: &Request, flags: NlmF) -> Result<u32, Error> {
        self.seq = self.seq.wrapping_add(1);
        let bytes = request.encode(flags, self.seq, self.pid)?;
        match self.socket.send(&bytes, Msg::empty())? {
            sent if sent == bytes.len() => Ok(self.seq),
            _ => Err(Errno::EMSGSIZE.into()),
        }
    }

    /// The next datagram.
    fn receive(&mut self) -> Result<&[u8], Error> {
        match self.socket.recv(&mut self.buffer[..], Msg::empty()).map_err(Errno::from) {
            Ok((len, _)) => Ok(&self.buffer[..len.min(DATAGRAM)]),
            Err(Errno::EAGAIN) => Err(Errno::EPROTO.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a request; `reply` is given what comes back before the acknowledgement.
    ///
    /// # Errors
    /// What the kernel said, or what `reply` did.
    pub fn transact(
        &mut self,
        request: &Request,
        reply: &mut dyn FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let seq = self.send(request, NlmF::ACK)?;
        loop {
            for message in Messages::new(self.receive()?) {
                let message = message?;
                if message.seq != seq {
                    continue;
                }
                match message.verdict() {
                    Some(verdict) => return Ok(verdict?),
                    None if message.kind >= MIN_TYPE => reply(message)?,
                    None => {}
                }
            }
        }
    }

    /// As [`Client::transact`], for a request that has no reply.
    pub fn command(&mut self, request: &Request) -> Result<(), Error> {
        self.transact(request, &mut |_| Ok(()))
    }

    /// Begins a dump, which `decode` makes into items; what it makes nothing of is left out.
    pub fn dump<T, F>(mut self, request: &Request, decode: F) -> Result<Dump<T, F>, Error>
    where
        F: FnMut(Message<'_>) -> Option<T>,
    {
        let seq = self.send(request, NlmF::DUMP)?;
        Ok(Dump { client: self, seq, decode, ready: Vec::new().into_iter(), over: false })
    }
}

/// A dump, as an iterator.
pub struct Dump<T, F> {
    client: Client,
    seq: u32,
    decode: F,
    ready: std::vec::IntoIter<T>,
    over: bool,
}

impl<T, F: FnMut(Message<'_>) -> Option<T>> Dump<T, F> {
    /// Reads one more datagram.
    fn fill(&mut self) -> Result<(), Error> {
        let (seq, decode) = (self.seq, &mut self.decode);
        let (items, over) = read_dump(self.client.receive()?, seq, decode)?;
        self.ready = items.into_iter();
        self.over = over;
        Ok(())
    }
}

/// The items of a datagram, and whether it ends the dump.
fn read_dump<T>(
    datagram: &[u8],
    seq: u32,
    decode: &mut dyn FnMut(Message<'_>) -> Option<T>,
) -> Result<(Vec<T>, bool), Error> {
    let mut items = Vec::new();
    for message in Messages::new(datagram) {
        let message = message?;
        if message.seq != seq {
            continue;
        }
        if message.flags & flag::DUMP_INTR != 0 {
            tracing::debug!(target: "netlink_conntrack", rl = "60,600", "dump was interrupted by changes");
        }
        match message.verdict() {
            Some(verdict) => return verdict.map(|()| (items, true)).map_err(Error::from),
            None if message.kind >= MIN_TYPE => items.extend(decode(message)),
            None => {}
        }
    }
    Ok((items, false))
}

impl<T, F: FnMut(Message<'_>) -> Option<T>> Iterator for Dump<T, F> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.next() {
                return Some(Ok(item));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.fill() {
                self.over = true;
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_netlink_messages() {
        let mut request = Request::new(Subsystem::Timeouts, 2);
        request.family = family::INET;
        request.attrs.put_u8(3, 17);
        let bytes = request.encode(NlmF::ACK, 7, 9).unwrap();
        let message = Messages::new(&bytes).next().unwrap().unwrap();
        assert_eq!((message.kind, message.flags, message.seq, message.pid), (0x802, 5, 7, 9));
        assert_eq!(message.payload, [2, 0, 0, 0, 5, 0, 3, 0, 17, 0, 0, 0]);
        let answer = open(&message, Subsystem::Timeouts).unwrap();
        assert_eq!((answer.command, answer.family), (2, family::INET));
        assert_eq!(answer.attrs.find(3).unwrap().u8(), Ok(17));
        let wrong = open(&message, Subsystem::Conntrack).unwrap_err();
        assert_eq!(wrong, Malformed::Unexpected { at: 0, kind: 0x802, command: 2 });
    }

    #[test]
    fn dumps_end_or_fail() {
        let item = |seq| Request::new(Subsystem::Conntrack, 0).encode(NlmF::MULTI, seq, 1).unwrap();
        let done = |code: i32| {
            let mut bytes: Vec<u8> = [20u32, 3, 1, 1].iter().flat_map(|word| word.to_ne_bytes()).collect();
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        let mut count = |_: Message<'_>| Some(());
        let more = [item(1), item(2), item(1)].concat();
        assert_eq!(read_dump(&more, 1, &mut count), Ok((vec![(); 2], false)));
        assert_eq!(read_dump(&[item(1), done(0)].concat(), 1, &mut count), Ok((vec![()], true)));
        assert_eq!(read_dump(&done(-1), 1, &mut count), Err(Error::Os(Errno::EPERM)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = read_dump(&bytes, 0, &mut |message| open(&message, Subsystem::Conntrack).ok().map(|_| ()));
        }
    }
}
