//! Recirculation: packets go through look-up again, with another id.
//!
//! **Sets** `recirc_id`. **Next** `parse`, at once: what follows in the program comes after all that recirculation does.

use flow::id::RecircId;

use crate::user::batch::Packet;
use crate::user::worker::Worker;

/// Sends packets through look-up again. They leave the program: `recirc` is the last of a flow's actions, or in a `clone` of its own.
pub fn recirculate(worker: &mut Worker, id: RecircId, packets: &mut [Packet], members: &[u16]) {
    let mut vector = worker.vector();
    for &at in members {
        match packets[usize::from(at)].duplicate(&mut worker.pool) {
            Some(mut packet) => {
                packet.meta.recirc_id = id.0;
                vector.packets.push(packet);
            }
            None => worker.stats.no_memory += 1,
        }
    }
    worker.recirculate(vector);
}
