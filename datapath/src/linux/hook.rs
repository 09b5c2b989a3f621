//! The discipline that filters of a device's packets hang from: `ingress`, or `clsact` where packets that leave are looked
//! at, too (`linux/pkt_sched.h`).
//!
//! A device has one such discipline at most, and who has filters there did not make it alone: [`Hooks`] owns it. It is made
//! for the first of its [`User`]s and taken when the last one lets go, with whatever is in it then. Each user adds and removes
//! filters of its own only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use flow::attr::Attrs;
use sys::errno::Errno;

use super::rtnl::Rtnl;
use super::rtnl::flag::{CREATE, ECHO, EXCL};
use crate::Error;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;
/// Its parent (`TC_H_CLSACT`), and its handle.
const CLSACT: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;

/// Which packets of a device are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Hook {
    /// Those that it received.
    Ingress,
    /// Those that it is about to send: what a host sends by an internal port comes into the switch so.
    Egress,
}

impl Hook {
    /// The discipline that has it.
    const fn discipline(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "clsact",
        }
    }
}

/// Who has filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum User {
    /// Limits of what is received.
    Policing = 1,
    /// Flows of a datapath.
    Rules = 2,
}

/// A device's discipline.
#[derive(Clone, Copy)]
struct Held {
    /// Bits of [`User`].
    users: u8,
    hook: Hook,
    serial: u64,
}

#[derive(Default)]
struct Inner {
    by_ifindex: HashMap<u32, Held>,
    serial: u64,
}

/// The disciplines of this network namespace's devices, by interface index.
#[derive(Default)]
pub struct Hooks(Mutex<Inner>);

fn header(ifindex: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, ifindex), (8, HANDLE), (12, CLSACT)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn add(rtnl: &mut Rtnl, ifindex: u32, hook: Hook) -> Result<(), Error> {
    rtnl.execute(RTM_NEWQDISC, EXCL | CREATE, &header(ifindex), |attrs| {
        attrs.put_str(TCA_KIND, hook.discipline());
        attrs.put(TCA_OPTIONS, &[]);
    })
}

/// None there is no error, nor is one of another kind: it is somebody else's.
fn remove(rtnl: &mut Rtnl, ifindex: u32, hook: Hook) -> Result<(), Error> {
    let head = header(ifindex);
    match rtnl.execute(RTM_DELQDISC, 0, &head, |attrs| attrs.put_str(TCA_KIND, hook.discipline())) {
        Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::EINVAL | Errno::ENODEV) => Ok(()),
        removed => removed,
    }
}

/// Whether a device's discipline looks at packets that leave.
fn is_clsact(rtnl: &mut Rtnl, ifindex: u32) -> Result<bool, Error> {
    let told = rtnl.get(RTM_GETQDISC, ECHO, &header(ifindex), |_| {})?;
    let kind = told.get(HEADER..).and_then(|attrs| Attrs::new_at(attrs, HEADER).find(TCA_KIND));
    Ok(kind.is_some_and(|kind| kind.str() == Ok("clsact")))
}

impl Hooks {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets `user` have filters on a device; gives the discipline's serial number. A discipline that is there stays with what
    /// is in it, unless it does not look at the packets that are asked for: then another takes its place, with another
    /// number, and is empty.
    ///
    /// # Errors
    /// The kernel's: the device is gone, or has no such disciplines.
    pub fn hold(&self, rtnl: &mut Rtnl, ifindex: u32, user: User, hook: Hook) -> Result<u64, Error> {
        let mut inner = self.lock();
        let known = inner.by_ifindex.get(&ifindex).copied();
        let hook = known.map_or(hook, |known| known.hook.max(hook));
        let added = match add(rtnl, ifindex, hook) {
            Ok(()) => true,
            Err(error) if error.errno() != Errno::EEXIST => return Err(error),
            Err(_) if hook == Hook::Ingress || is_clsact(rtnl, ifindex)? => false,
            Err(_) => {
                remove(rtnl, ifindex, Hook::Ingress)?;
                add(rtnl, ifindex, hook)?;
                true
            }
        };
        inner.serial += u64::from(added || known.is_none());
        let serial = match known {
            Some(known) if !added => known.serial,
            _ => inner.serial,
        };
        let users = known.map_or(0, |known| known.users) | user as u8;
        inner.by_ifindex.insert(ifindex, Held { users, hook, serial });
        Ok(serial)
    }

    /// `user` has no filters on a device any more, or wants to have none. Whether the discipline is gone; if not, `user`'s
    /// filters are for itself to remove. A discipline with `hook` goes, too, if nobody was known to hold it: an earlier process
    /// left it.
    ///
    /// # Errors
    /// The kernel's. A device that is gone is no error.
    pub fn release(&self, rtnl: &mut Rtnl, ifindex: u32, user: User, hook: Hook) -> Result<bool, Error> {
        let mut inner = self.lock();
        let hook = match inner.by_ifindex.get_mut(&ifindex) {
            Some(held) if held.users & !(user as u8) != 0 => {
                held.users &= !(user as u8);
                return Ok(false);
            }
            Some(held) => held.hook,
            None => hook,
        };
        inner.by_ifindex.remove(&ifindex);
        remove(rtnl, ifindex, hook).map(|()| true)
    }

    /// The serial number of a device's discipline as long as `user` holds it.
    pub fn serial(&self, ifindex: u32, user: User) -> Option<u64> {
        let inner = self.lock();
        inner.by_ifindex.get(&ifindex).filter(|held| held.users & user as u8 != 0).map(|held| held.serial)
    }
}
