//! Recirculation: packets go through look-up again, with another id.
//!
//! **Sets** `recirc_id`. **Next** `parse`, at once: what follows in the program comes after all that recirculation does.

use flow::id::RecircId;

use crate::user::batch::Packet;
use crate::user::worker::Worker;

/// Sends packets through look-up again: as they are where nothing follows in the program (`last`), else copies of them.
pub fn recirculate(worker: &mut Worker, id: RecircId, last: bool, packets: &mut [Packet], members: &[u16]) {
    let mut vector = worker.vector();
    for &at in members {
        let packet = &mut packets[usize::from(at)];
        let copy = if last { packet.take(&mut worker.pool) } else { packet.duplicate(&mut worker.pool) };
        match copy {
            Some(mut packet) => {
                packet.meta.recirc_id = id.0;
                vector.packets.push(packet);
            }
            None => worker.stats.no_memory += 1,
        }
    }
    worker.recirculate(vector);
}
