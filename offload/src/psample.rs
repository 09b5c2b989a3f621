//! Packets that rules sampled, as the kernel tells them (generic netlink family `psample`, `linux/psample.h`).

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use datapath::Error;
use datapath::kernel::genl;
use datapath::netlink::{Client, Message, Messages};
use flow::attr::{AttrError, Attrs};
use sys::errno::Errno;
use sys::netlink::{MAX_SLOTS, Mailbox, NETLINK_GENERIC, Socket};
use sys::poll::{Bell, Epoll};

const FAMILY: &str = "psample";
/// The multicast group of packets.
const PACKETS: &str = "packets";
const VERSION: u8 = 1;
const CMD_SAMPLE: u8 = 0;
/// Bytes of `struct genlmsghdr`.
const HEADER: usize = 4;

const IIFINDEX: u16 = 0;
const ORIGSIZE: u16 = 2;
const SAMPLE_GROUP: u16 = 3;
const GROUP_SEQ: u16 = 4;
const SAMPLE_RATE: u16 = 5;
const DATA: u16 = 6;

/// Bytes of the socket's buffer: samples come in bursts.
const BUFFER: usize = 8 << 20;

/// A sampled packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample<'a> {
    pub group: u32,
    /// Which of its group; one that is left out was lost.
    pub seq: u32,
    /// One in so many packets.
    pub rate: u32,
    /// Bytes that the packet had; there may be fewer.
    pub full_len: usize,
    /// The device that it came in by, as hardware says; 0 if it does not.
    pub ifindex: u32,
    pub packet: &'a [u8],
}

/// Reads the payload of a message; `None` if it is about something else.
///
/// # Errors
/// Something is not as `linux/psample.h` says.
pub fn decode(payload: &[u8]) -> Result<Option<Sample<'_>>, AttrError> {
    let Some((head, tail)) = payload.split_first_chunk::<HEADER>() else {
        return Err(AttrError::Truncated { at: 0 });
    };
    if head[0] != CMD_SAMPLE {
        return Ok(None);
    }
    let attrs = Attrs::new_at(tail, HEADER);
    let mut sample = Sample { group: 0, seq: 0, rate: 0, full_len: 0, ifindex: 0, packet: &[] };
    for attr in attrs {
        let attr = attr?;
        match attr.kind {
            // Two bytes in most kernels.
            IIFINDEX if attr.data.len() == 2 => sample.ifindex = attr.u16()?.into(),
            IIFINDEX => sample.ifindex = attr.u32()?,
            ORIGSIZE => sample.full_len = attr.u32()? as usize,
            SAMPLE_GROUP => sample.group = attr.u32()?,
            GROUP_SEQ => sample.seq = attr.u32()?,
            SAMPLE_RATE => sample.rate = attr.u32()?,
            DATA => sample.packet = attr.data,
            _ => {}
        }
    }
    Ok((!sample.packet.is_empty()).then_some(sample))
}

struct Ear {
    epoll: Epoll,
    bell: Bell,
    socket: Socket,
    stop: AtomicBool,
}

/// Hears sampled packets, on a thread of its own, as long as it lives.
pub struct Listener {
    ear: Arc<Ear>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to give sampled packets to `each`.
    ///
    /// # Errors
    /// The kernel's: `ENOENT` as long as no rule samples and the module is not there.
    pub fn start(each: impl Fn(&Sample<'_>) + Send + 'static) -> Result<Self, Error> {
        let (_, group) = genl::family(&mut Client::open(NETLINK_GENERIC)?, FAMILY, PACKETS, VERSION)?;
        let group = group.ok_or(Errno::ENOENT)?;
        let (epoll, bell, socket) = (Epoll::new()?, Bell::new()?, Socket::open(NETLINK_GENERIC)?);
        socket.set_receive_buffer(BUFFER);
        socket.join(group)?;
        epoll.add(bell.as_raw_fd(), 0)?;
        epoll.add(socket.as_raw_fd(), 1)?;
        let ear = Arc::new(Ear { epoll, bell, socket, stop: AtomicBool::new(false) });
        let heard = Arc::clone(&ear);
        let thread = std::thread::Builder::new().name("psample".to_owned());
        let thread = thread.spawn(move || listen(&heard, &each))?;
        Ok(Self { ear, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ear.stop.store(true, Ordering::Release);
        self.ear.bell.ring();
        // It may be the listener itself that lets go of the last of what it gives to.
        let own = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| !own(thread)) {
            let _ = thread.join();
        }
    }
}

fn listen(ear: &Ear, each: &impl Fn(&Sample<'_>)) {
    let mut mailbox = Mailbox::new(MAX_SLOTS);
    let mut ready = Vec::new();
    while !ear.stop.load(Ordering::Acquire) {
        ear.epoll.wait(None, &mut ready);
        ear.bell.hear();
        loop {
            match mailbox.receive(&ear.socket) {
                Ok(0) => break,
                // What is missing shows in the sequence numbers.
                Err(Errno::ENOBUFS) => {}
                Err(errno) => {
                    tracing::debug!(target: "dpif_offload_tc", rl = "1,5", "psample: recv failed ({errno})");
                    break;
                }
                Ok(_) => mailbox.iter().for_each(|datagram| read(datagram, each)),
            }
        }
    }
}

fn read(datagram: &[u8], each: &impl Fn(&Sample<'_>)) {
    let read = |message: Message<'_>| match decode(message.payload) {
        Ok(sample) => sample.iter().for_each(each),
        Err(error) => tracing::debug!(target: "dpif_offload_tc", rl = "1,5", "psample: {error}"),
    };
    Messages::new(datagram).map_while(Result::ok).for_each(read);
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::attr::Writer;
    use proptest::prelude::*;

    #[test]
    fn a_sample_as_the_kernel_tells_it() {
        let mut attrs = Writer::after(vec![CMD_SAMPLE, VERSION, 0, 0]);
        attrs.put(IIFINDEX, &7u16.to_ne_bytes());
        attrs.put_u32(SAMPLE_RATE, 64);
        attrs.put_u32(ORIGSIZE, 1500);
        attrs.put_u32(SAMPLE_GROUP, 9);
        attrs.put_u32(GROUP_SEQ, 3);
        attrs.put(DATA, &[1, 2, 3]);
        let sample = Sample { group: 9, seq: 3, rate: 64, full_len: 1500, ifindex: 7, packet: &[1, 2, 3] };
        assert_eq!(decode(attrs.bytes()), Ok(Some(sample)));
        // A group was made: nothing for us.
        assert_eq!(decode(&[2, VERSION, 0, 0]), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            let _ = decode(&bytes);
            read(&bytes, &|_: &Sample<'_>| {});
        }
    }
}
