//! Upcalls: what a datapath asks for a packet that no flow matches, or that an action hands to userspace.
//!
//! The answer's two halves differ on purpose. What is *executed* is done to this packet now; what is *installed* is
//! what later packets get. A slow-path flow executes the translated actions but installs a userspace action; a full
//! flow table executes and installs nothing; `upcall/disable-megaflows` installs an exact mask.

use std::any::Any;
use std::sync::Arc;

use flow::action::Action;
use flow::id::{DpPort, Ufid};
use flow::key::{Key, Mask, Tunnel};
use flow::odp::{Fitness, RawKey};

use crate::PmdId;

/// Why the packet is handed up.
#[derive(Clone, Copy)]
pub enum Kind<'a> {
    /// It matched no flow.
    Miss,
    /// A `userspace` action sent it.
    Action {
        /// The opaque bytes of the action.
        userdata: &'a [u8],
        /// Actions of the flow, if the action asked for them (`OVS_USERSPACE_ATTR_ACTIONS`).
        actions: Option<&'a [Action]>,
        /// What the tunnel header to the action's egress tunnel port will be (`OVS_USERSPACE_ATTR_EGRESS_TUN_PORT`).
        egress_tunnel: Option<&'a Tunnel>,
    },
}

/// A packet handed up.
#[derive(Clone, Copy)]
pub struct Upcall<'a> {
    pub kind: Kind<'a>,
    /// The Ethernet frame as it is at this point of its way.
    pub packet: &'a [u8],
    /// Bytes that the frame had before an action cut it (`trunc`); `packet.len()` if none did.
    pub full_len: usize,
    /// What the datapath knows of the packet; `in_port` is a datapath port. All bits exact.
    pub key: &'a Key,
    /// The key's attributes as the kernel sent them. `None` from userspace: [`flow::odp::key_from_flow`] gives them.
    pub raw: Option<&'a RawKey>,
    /// How well `key` stands for those attributes.
    pub fitness: Fitness,
    /// The flow's identifier that an installed flow will have.
    pub ufid: Ufid,
    /// The worker that asks, and that will own the flow.
    pub pmd: PmdId,
    /// The port by which the packet came in.
    pub in_port: DpPort,
    /// The receive hash (`OVS_PACKET_ATTR_HASH`), 0 for none.
    pub hash: u64,
    /// The maximum size of a received unit, for refragmentation (`OVS_PACKET_ATTR_MRU`), 0 for none.
    pub mru: u16,
}

/// A flow to install.
#[derive(Clone)]
pub struct Install {
    /// Every bit that translation looked at.
    pub mask: Box<Mask>,
    /// What later packets get.
    pub actions: Arc<[Action]>,
}

/// What to do with a packet handed up.
#[derive(Clone, Default)]
pub struct Answer {
    /// Done to this packet now; empty drops it.
    pub execute: Arc<[Action]>,
    pub install: Option<Install>,
}

/// A flow that an answer asks for, before the datapath installs it.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    pub ufid: Ufid,
    pub pmd: PmdId,
    pub key: &'a Key,
    pub mask: &'a Mask,
    pub actions: &'a [Action],
}

/// Flows that somebody installs elsewhere, and is not done with.
pub trait Installing: Send {
    /// Waits until it is done: what [`Handler::take`] would have said.
    fn end(self: Box<Self>) -> Vec<bool>;
}

/// What a thread that hands up packets keeps from one to the next for who answers them, whoever that is: memory that is used
/// again, and what may be worth to be remembered.
#[derive(Default)]
pub struct Desk {
    /// Masks of earlier answers that nobody needs any more.
    pub masks: Vec<Box<Mask>>,
    /// The handler's own. It may be another one's.
    pub own: Option<Box<dyn Any + Send>>,
}

/// What answers upcalls. Given by the switch; called from workers and from the main thread, so it must not wait.
pub trait Handler: Send + Sync {
    /// Answers one upcall; `None` if it cannot be processed (the packet is then lost and counted so).
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer>;

    /// As [`Self::upcall`], for a thread that has a desk.
    fn upcall_at(&self, _desk: &mut Desk, upcall: &Upcall<'_>) -> Option<Answer> {
        self.upcall(upcall)
    }

    /// Installs flows elsewhere than in the datapath that asks, all at once: whether it did, for each in order. What it says
    /// nothing of, the datapath installs.
    fn take(&self, _offers: &[Offer<'_>]) -> Vec<bool> {
        Vec::new()
    }

    /// Begins to do what [`Self::take`] does, for who has other work until it is done; `None` if that asks for nothing.
    fn begin(&self, _offers: &[Offer<'_>]) -> Option<Box<dyn Installing>> {
        None
    }

    /// A flow that an earlier answer asked for was installed, or, with `false`, was not.
    fn installed(&self, _ufid: Ufid, _pmd: PmdId, _installed: bool) {}

    /// All flows of a worker are gone (its ports moved, or it ended); forget them.
    fn purged(&self, _pmd: PmdId) {}
}
