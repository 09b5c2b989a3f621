//! Opening a datapath: it is made if it is not there, and both sides say what they can do.

use sys::errno::Errno;

use super::dp::{self, UserFeatures};
use super::genl::Genl;
use crate::Error;

/// Opens or makes a datapath, and tells the kernel what we can do. Per-CPU dispatch is preferred; a kernel that accepts what
/// no kernel knows does not check, and gets only what every kernel has.
pub(super) fn open(genl: &Genl, name: &str, create: bool) -> Result<dp::Dp, Error> {
    let made = if create { negotiate(genl, name, true) } else { Err(Errno::EEXIST.into()) };
    match made {
        Err(error) if matches!(error.errno(), Errno::EEXIST | Errno::EBUSY) => {
            let opened = negotiate(genl, name, false);
            if let (true, Err(error)) = (create, &opened) {
                tracing::warn!(
                    target: "dpif",
                    "datapath {name} already exists but cannot be opened: {error}"
                );
            }
            opened
        }
        Err(error) => {
            tracing::warn!(target: "dpif", "failed to create datapath {name}: {error}");
            Err(error)
        }
        Ok(dp) => Ok(dp),
    }
}

fn negotiate(genl: &Genl, name: &str, create: bool) -> Result<dp::Dp, Error> {
    let request = dp::Request { name: Some(name), upcall_pid: Some(0), ..dp::Request::default() };
    let mut known = UserFeatures::empty();
    if !create {
        known = dp::get(genl, &request)?.features;
    }
    let ask = |features| {
        let request = dp::Request { features: Some(features), ..request };
        if create { dp::create(genl, &request) } else { dp::set(genl, &request) }
    };
    let common = known | UserFeatures::UNALIGNED;
    let per_port = common | UserFeatures::VPORT_PIDS;
    let result = match ask(per_port | UserFeatures::UNSUPPORTED) {
        Ok(_) => {
            tracing::info!(
                target: "dpif_netlink",
                "Kernel does not correctly support feature negotiation. Using standard features."
            );
            let standard = UserFeatures::UNALIGNED | UserFeatures::VPORT_PIDS;
            dp::set(genl, &dp::Request { features: Some(standard), ..request })?
        }
        Err(_) => {
            let per_cpu = common.difference(UserFeatures::VPORT_PIDS) | UserFeatures::UPCALL_PER_CPU;
            let found = match ask(per_cpu) {
                Err(error) if error.errno() == Errno::EOPNOTSUPP => {
                    ask(per_port.difference(UserFeatures::UPCALL_PER_CPU))?
                }
                found => found?,
            };
            share_recirculation(genl, found)
        }
    };
    if create {
        let per_cpu = result.features.contains(UserFeatures::UPCALL_PER_CPU);
        tracing::info!(
            target: "dpif_netlink",
            "Datapath dispatch mode: {}", if per_cpu { "per-cpu" } else { "per-vport" }
        );
    }
    Ok(result)
}

/// Lets tc and the datapath continue each other's packets, if the kernel can.
fn share_recirculation(genl: &Genl, found: dp::Dp) -> dp::Dp {
    let request = dp::Request {
        ifindex: found.ifindex,
        name: Some(&found.name),
        features: Some(found.features | UserFeatures::TC_RECIRC_SHARING),
        ..dp::Request::default()
    };
    dp::set(genl, &request).unwrap_or(found)
}
