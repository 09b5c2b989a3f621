//! Requests to rtnetlink and their answers (rtnetlink(7)): [`crate::netlink::Client`] on its protocol.
//!
//! [`Rtnl`] is for one request at a time; several threads have one each.

use flow::attr::Writer;
use sys::netlink::NETLINK_ROUTE;

use crate::Error;
use crate::netlink::Client;
pub use crate::netlink::{Message, Messages, flag};

/// Adds behind what is there (`NLM_F_APPEND`).
pub const NLM_F_APPEND: u16 = 0x800;

/// A client of rtnetlink.
pub struct Rtnl(Client);

impl Rtnl {
    /// # Errors
    /// What the kernel says: there are no file descriptors left, or a sandbox has no netlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Client::open(NETLINK_ROUTE)?))
    }

    /// Has the kernel do something: `head` is the fixed part of the request, `fill` writes its attributes.
    ///
    /// # Errors
    /// The kernel's, in its words. `ENOBUFS` leaves open whether it was done.
    pub fn execute(
        &mut self,
        kind: u16,
        flags: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        self.0.transact(kind, flags | flag::ACK, head, fill).map(|_| ())
    }

    /// Asks for one object; gives the payload of the answer. Some kinds are only told to who asks for an echo of them
    /// (`flags`).
    ///
    /// # Errors
    /// The kernel's, or `EPROTO` if it did not answer.
    pub fn get(
        &mut self,
        kind: u16,
        flags: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, Error> {
        let answer = self.0.transact(kind, flags, head, fill)?;
        answer.ok_or(Error::Os(sys::errno::Errno::EPROTO))
    }

    /// Asks for all objects; those for which `decode` gives nothing are left out. A dump that was interrupted by changes
    /// is begun again, a few times.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        head: &[u8],
        fill: &dyn Fn(&mut Writer),
        decode: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let found = std::cell::RefCell::new(Vec::new());
        self.0.dump(kind, head, fill, &mut || found.borrow_mut().clear(), &mut |message| {
            found.borrow_mut().extend(decode(&message));
            Ok(())
        })?;
        Ok(found.into_inner())
    }
}
