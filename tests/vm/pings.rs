//! A thousand packets a second from one host to another, where each is answered, and each answer told by its number.
//!
//! `ping` does one thing after the other, and on an emulated processor comes to a few hundred a second. The kernel that answers
//! it discards echo replies when some hundred are under way. So both ends are ours, processes of their own in the hosts'
//! namespaces: [`send`], with a thread for each direction, which makes up for what it is late, and [`answer`]. They speak UDP.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, Socket, Type};

use crate::world::{Running, World, ip};

/// Requests a second.
const RATE: u64 = 1000;
/// Requests sent at once when they are late.
const BURST: u64 = 32;
/// Replies that are there before anything is done to the switch.
const WARM: u64 = 500;
/// How long replies may take after the last request.
const TAIL: Duration = Duration::from_secs(5);
/// Where requests are answered: `echo` of RFC 862.
const PORT: u16 = 7;
/// `MSG_CONFIRM` of `<linux/socket.h>`: packets come, so that the neighbour need not be asked whether it is there.
const MSG_CONFIRM: i32 = 0x800;
/// The line that says that replies come.
const READY: &str = "replies come";

/// Requests from one host to another, under way.
pub struct Pings {
    sender: Running,
    _peer: Running,
    began: Instant,
}

/// What became of them.
#[derive(Debug)]
struct Sum {
    sent: u64,
    received: u64,
    millis: u64,
    rest: String,
}

impl Pings {
    /// From host a to host b.
    pub fn start(world: &World) -> Self {
        Self::between(world, "a", "b")
    }

    /// Begins, when `to`, the second host, can be reached; returns when replies come.
    pub fn between(world: &World, from: &str, to: &str) -> Self {
        let (a, b, to) = (from, to, ip(2));
        world.ping(a, &to);
        let me = std::env::current_exe().expect("a program knows its own path");
        // Ahead of daemons that are busy: what counts is what the kernel does with packets.
        let at = |host: &str| format!("ip netns exec {host} chrt -f 10 {}", me.display());
        let peer = world.spawn(&format!("{} --answers", at(b)), "answers.txt");
        world.until("the peer listens", || world.at(b, "ss -uln").contains(&format!(":{PORT} ")));
        let sender = world.spawn_with(&format!("{} --pings {to}", at(a)), "pings.txt", Stdio::piped());
        world.until(READY, || world.read("pings.txt").contains(READY));
        Self { sender, _peer: peer, began: Instant::now() }
    }

    /// Notes in the test's output what happens now.
    pub fn note(&self, what: &str) {
        eprintln!("{} {:6.2} s  {what}", clock_of(SystemTime::now()), self.began.elapsed().as_secs_f32());
    }

    /// Ends them; every one was answered, and there were a thousand a second.
    pub fn none_lost(self, world: &World) {
        let lost = self.end(world);
        assert!(lost == 0, "lost packets\n{}\n-- the log:\n{}", evidence(world), world.switch.log());
    }

    /// Ends them, of which there were a thousand a second, and tells how many were not answered.
    pub fn end(mut self, world: &World) -> u64 {
        std::thread::sleep(Duration::from_secs(2));
        // The sender reads its input to the end.
        drop(self.sender.0.stdin.take());
        world.until("the sender ends", || matches!(self.sender.0.try_wait(), Ok(Some(_))));
        let text = world.read("pings.txt");
        let sum = Sum::parse(&text).unwrap_or_else(|| panic!("the sender does not sum up: {text}"));
        let rate = sum.sent * 1000 / sum.millis.max(1);
        let lost = sum.sent - sum.received;
        let told =
            format!("{} sent in {} ms ({rate}/s), {lost} lost; {}", sum.sent, sum.millis, sum.rest.trim());
        // The one is shown if the test holds, the other if not.
        println!("{told}");
        eprintln!("{told}");
        assert!(rate >= RATE * 95 / 100, "too few packets");
        lost
    }
}

/// Where packets may have been lost: what hosts and datapath counted.
fn evidence(world: &World) -> String {
    let look = "for host in a b; do ip netns exec $host nstat -az | grep -v ' 0 '; ip netns exec $host ip -s neigh; done
        cat /proc/net/softnet_stat; ip -s link; dmesg | tail -n 5; ovs-appctl dpctl/show -s; ovs-appctl coverage/show";
    world.try_sh(look).text()
}

impl Sum {
    fn parse(text: &str) -> Option<Self> {
        let (_, text) = text.split_once("sum: ")?;
        let (first, rest) = text.split_once('\n')?;
        let numbers: Option<Vec<u64>> = first.split(' ').map(|number| number.parse().ok()).collect();
        let [sent, received, millis] = numbers?.try_into().ok()?;
        Some(Self { sent, received, millis, rest: rest.to_owned() })
    }
}

/// What sender and receiver share.
#[derive(Default)]
struct Shared {
    /// Standard input is at its end: no more requests.
    over: AtomicBool,
    /// Nothing is waited for any more.
    closed: AtomicBool,
    replies: AtomicU64,
    /// Replies came since the last request.
    confirmed: AtomicBool,
}

/// The sender's life: sends until standard input ends, then sums up on standard output.
pub fn send(to: Ipv4Addr) -> Result<(), std::io::Error> {
    let socket = roomy()?;
    socket.connect(&SocketAddr::from((to, PORT)).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let shared = Shared::default();
    let (began, civil) = (Instant::now(), SystemTime::now());
    let (sent, replies) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&socket, &shared));
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            shared.over.store(true, Ordering::Relaxed);
        });
        let sent = requests(&socket, &shared, began);
        let end = Instant::now();
        while shared.replies.load(Ordering::Relaxed) < sent.len() as u64 && end.elapsed() < TAIL {
            std::thread::sleep(Duration::from_millis(10));
        }
        shared.closed.store(true, Ordering::Relaxed);
        (sent, receiver.join().expect("the receiver does not panic"))
    });
    std::io::stdout().write_all(sum_up(&sent, &replies, began, civil).as_bytes())
}

/// The peer's life: answers whoever was the first to ask.
pub fn answer() -> Result<(), std::io::Error> {
    let socket = roomy()?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    let socket = UdpSocket::from(socket);
    let (_, asker) = socket.peek_from(&mut [0; 8])?;
    socket.connect(asker)?;
    let mut socket = Socket::from(socket);
    let mut packet = [0; 256];
    loop {
        let n = socket.read(&mut packet)?;
        socket.send_with_flags(&packet[..n], MSG_CONFIRM)?;
    }
}

/// A socket with room for all that may come while nobody reads.
fn roomy() -> Result<Socket, std::io::Error> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel cuts it to what is allowed.
    socket.set_recv_buffer_size(1 << 24)?;
    Ok(socket)
}

/// Sends requests at their times; gives when each was sent.
fn requests(socket: &Socket, shared: &Shared, began: Instant) -> Vec<Instant> {
    let mut sent: Vec<Instant> = Vec::new();
    let mut warm = false;
    while !shared.over.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() as u64 * RATE / 1000;
        let late = due.saturating_sub(sent.len() as u64);
        for _ in 0..late.min(BURST) {
            let flags = if shared.confirmed.swap(false, Ordering::Relaxed) { MSG_CONFIRM } else { 0 };
            let request = (sent.len() as u64).to_be_bytes();
            sent.push(Instant::now());
            // One that could not be sent is one that is lost.
            if let Err(error) = socket.send_with_flags(&request, flags) {
                eprintln!("request {}: {error}", sent.len() - 1);
            }
        }
        if !warm && shared.replies.load(Ordering::Relaxed) >= WARM {
            warm = true;
            println!("{READY}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// Takes replies until nothing is waited for; gives each with its time.
fn receive(socket: &Socket, shared: &Shared) -> Vec<(u64, Instant)> {
    let mut replies = Vec::new();
    let mut packet = [0; 256];
    let mut socket = socket;
    while !shared.closed.load(Ordering::Relaxed) {
        // A time-out is no end.
        let Ok(n) = socket.read(&mut packet) else { continue };
        if let Ok(number) = packet[..n].try_into() {
            replies.push((u64::from_be_bytes(number), Instant::now()));
            shared.confirmed.store(true, Ordering::Relaxed);
            shared.replies.fetch_add(1, Ordering::Relaxed);
        }
    }
    replies
}

/// Numbers for [`Sum`], then for people: the longest that a request was late and a reply took, and what is missing.
fn sum_up(sent: &[Instant], replies: &[(u64, Instant)], began: Instant, civil: SystemTime) -> String {
    let mut answered = vec![None; sent.len()];
    for (number, when) in replies {
        if let Some(place) = usize::try_from(*number).ok().and_then(|number| answered.get_mut(number)) {
            place.get_or_insert(*when);
        }
    }
    let millis = sent.last().map_or(0, |last| (*last - began).as_millis());
    let pause = sent.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    let trips =
        sent.iter().zip(&answered).filter_map(|(sent, when)| Some(when.as_ref()?.duration_since(*sent)));
    let received = answered.iter().flatten().count();
    let mut text = format!(
        "sum: {} {received} {millis}\nlongest pause {} ms, longest trip {} ms, {} dropped by the socket\n",
        sent.len(),
        pause.as_millis(),
        trips.max().unwrap_or_default().as_millis(),
        dropped(),
    );
    let mut missing = (0..sent.len()).filter(|n| answered[*n].is_none()).peekable();
    while let Some(first) = missing.next() {
        let mut last = first;
        while let Some(next) = missing.next_if(|next| *next == last + 1) {
            last = next;
        }
        let at = |n: usize| clock_of(civil + (sent[n] - began));
        text.push_str(&format!("missing {first} to {last}, sent from {} to {}\n", at(first), at(last)));
    }
    text
}

/// Replies that came, but found the socket full.
fn dropped() -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default();
    table.lines().filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum()
}

/// The time of day in UTC, as logs have it.
fn clock_of(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let secs = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", secs / 3600, secs / 60 % 60, secs % 60, since.subsec_millis())
}
