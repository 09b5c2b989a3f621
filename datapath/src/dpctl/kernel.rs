//! The kernel's datapaths without a switch: what `ovs-dpctl` works on.

use super::Env;
use crate::kernel::{Kernel, Setup};
use crate::netdev::{Netdev, Netdevs};
use crate::{Datapath, Error};
use ::flow::time::{Clock, Instant};
use std::cell::RefCell;
use std::sync::Arc;
use sys::errno::Errno;

/// The kernel's datapaths, and devices of the kernel.
pub struct KernelDatapaths {
    netdevs: Arc<Netdevs>,
    clock: Arc<dyn Clock>,
    /// Why they could not be listed.
    failure: RefCell<Option<Error>>,
}

impl KernelDatapaths {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { netdevs: Arc::new(Netdevs::new()), clock, failure: RefCell::default() }
    }

    fn open_or_create(&self, kind: &str, name: &str, create: bool) -> Result<Arc<Kernel>, Error> {
        if kind != "system" {
            tracing::warn!(
                target: "dpif", rl = "60,5",
                "could not create datapath {name} of unknown type {kind}"
            );
            return Err(Errno::EAFNOSUPPORT.into());
        }
        let (clock, netdevs) = (Arc::clone(&self.clock), Arc::clone(&self.netdevs));
        let setup = Setup { name: name.to_owned(), create, serve: false, clock, netdevs };
        Kernel::open(&setup).map(Arc::new)
    }
}

impl Env for KernelDatapaths {
    fn datapaths(&self) -> Vec<(String, String)> {
        match Kernel::enumerate() {
            Ok(names) => names.into_iter().map(|name| ("system".to_owned(), name)).collect(),
            Err(error) => {
                tracing::warn!(target: "dpif", rl = "60,5", "failed to enumerate system datapaths: {error}");
                *self.failure.borrow_mut() = Some(error);
                Vec::new()
            }
        }
    }

    fn open(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        Ok(self.open_or_create(kind, name, false)?)
    }

    fn create(&self, kind: &str, name: &str) -> Result<Arc<dyn Datapath>, Error> {
        if kind == "system" && Kernel::enumerate()?.iter().any(|known| known == name) {
            return Err(Errno::EEXIST.into());
        }
        Ok(self.open_or_create(kind, name, true)?)
    }

    fn delete(&self, kind: &str, name: &str) -> Result<(), Error> {
        self.open_or_create(kind, name, false)?.destroy()
    }

    fn open_device(&self, name: &str, kind: &str) -> Result<Arc<dyn Netdev>, Error> {
        self.netdevs.open(name, kind)
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn listing_error(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }
}
