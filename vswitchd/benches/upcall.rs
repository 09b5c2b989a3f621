//! What answering a packet that the kernel hands up costs: from the bytes of the upcall to those of the requests that install a
//! flow and send the packet on. `scripts/bench upcall` runs it with the `dist` profile; under `valgrind --tool=callgrind` it
//! tells where instructions go.
//!
//!     upcall [PACKETS]    each is of a flow of its own (100000)

mod shelf;

use std::sync::Arc;

use datapath::kernel::told::Upcalls;
use datapath::netlink::Batch;
use flow::odp::OdpSupport;
use vswitchd::backer::Backer;

const PACKETS: u32 = 100_000;

/// Attributes of `ovs_packet`.
const PACKET: u16 = 1;
const KEY: u16 = 2;
const MISS: u8 = 1;

/// An Ethernet frame with a short UDP datagram.
fn frame(n: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 32, 17, 0, 0];
    frame.extend((0x0a00_0000 | n).to_be_bytes());
    frame.extend([11, 0, 0, 1, 4, 0, 0, 9, 0, 26, 0, 0]);
    frame.resize(60, 0);
    frame
}

fn main() {
    let packets = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(PACKETS);
    let shelf::Bench { backer, clock, .. } = shelf::switch(2 * packets as usize);
    let families = shelf::families();
    let upcalls = Upcalls { families, dp: 3, support: OdpSupport::ALL, vlan_limit: 1, clock };
    let mut batch = Batch::default();
    let datagrams = (0..packets).map(|n| {
        batch.clear();
        batch.push(families.packet.id, 0, &families.packet.header(MISS, 3), |attrs| {
            attrs.put(PACKET, &frame(n));
            attrs.nest(KEY, |nest| shelf::put_key(nest, n));
        });
        batch.bytes().to_vec()
    });
    let datagrams = datagrams.collect::<Vec<_>>();
    let began = std::time::Instant::now();
    answer(&upcalls, &backer, &datagrams);
    let each = began.elapsed().as_secs_f64() * 1e6 / f64::from(packets);
    println!("upcall answered {each:6.2} us");
}

#[inline(never)]
fn answer(upcalls: &Upcalls, backer: &Arc<Backer>, datagrams: &[Vec<u8>]) {
    let mut requests = Batch::default();
    for datagram in datagrams {
        requests.clear();
        upcalls.answer_to(&**backer, datagram, &mut requests).expect("it is well formed");
        assert_eq!(requests.len(), 2, "a put and an execution");
    }
}
