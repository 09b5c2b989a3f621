//! The queueing discipline that rules hang from: `ingress`, or `clsact` where packets that leave are looked at, too.

use datapath::Error;
use datapath::linux::rtnl::{Rtnl, flag};
use sys::errno::Errno;

use super::{CLSACT, HANDLE, HEADER, Hook, On, TCA_KIND, TCA_OPTIONS};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;

fn header(ifindex: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (at, word) in [(4, ifindex), (8, HANDLE), (12, CLSACT)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

const fn kind(hook: Hook) -> &'static str {
    match hook {
        Hook::Ingress => "ingress",
        Hook::Egress => "clsact",
    }
}

/// Gives a device a discipline, with the rules of a block if one is named. One that is there already stays; `false` then.
///
/// # Errors
/// The kernel's: the device is gone, it takes no such block.
pub fn add(rtnl: &mut Rtnl, ifindex: u32, hook: Hook, block: Option<u32>) -> Result<bool, Error> {
    let added = rtnl.execute(RTM_NEWQDISC, flag::EXCL | flag::CREATE, &header(ifindex), |attrs| {
        attrs.put_str(TCA_KIND, kind(hook));
        attrs.put(TCA_OPTIONS, &[]);
        let attr = if hook == Hook::Ingress { TCA_INGRESS_BLOCK } else { TCA_EGRESS_BLOCK };
        block.into_iter().for_each(|block| attrs.put_u32(attr, block));
    });
    match added {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Errno::EEXIST => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes a device's discipline, and with it all rules. None there is no error.
///
/// # Errors
/// The kernel's.
pub fn remove(rtnl: &mut Rtnl, ifindex: u32, hook: Hook) -> Result<(), Error> {
    let removed =
        rtnl.execute(RTM_DELQDISC, 0, &header(ifindex), |attrs| attrs.put_str(TCA_KIND, kind(hook)));
    match removed {
        Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::EINVAL | Errno::ENODEV) => Ok(()),
        removed => removed,
    }
}

/// Where the rules of a device are: on it, or in the block that it shares.
pub const fn place(ifindex: u32, block: Option<u32>) -> On {
    match block {
        Some(block) => On::Block(block),
        None => On::Device(ifindex),
    }
}
