//! Flows that answers to upcalls install: rules where a device takes them; the inner datapath is told to install the rest.

use std::sync::{Arc, Weak};

use datapath::PmdId;
use datapath::flow::FlowStats;
use datapath::upcall::{Answer, Handler, Install, Upcall};
use flow::id::Ufid;
use sys::errno::Errno;

use super::Shared;
use crate::place::{Place, Reason};

/// Between the inner datapath and who answers its upcalls.
pub(super) struct Hook {
    handler: Arc<dyn Handler>,
    shared: Weak<Shared>,
}

impl Hook {
    pub(super) fn over(handler: Arc<dyn Handler>, shared: &Arc<Shared>) -> Arc<dyn Handler> {
        Arc::new(Self { handler, shared: Arc::downgrade(shared) })
    }
}

impl Handler for Hook {
    fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
        let mut answer = self.handler.upcall(upcall)?;
        let shared = self.shared.upgrade().filter(|shared| shared.is_on());
        if let (Some(install), Some(shared)) = (&answer.install, shared)
            && shared.takes(upcall, install)
        {
            answer.install = None;
            self.handler.installed(upcall.ufid, upcall.pmd, true);
        }
        Some(answer)
    }

    fn installed(&self, ufid: Ufid, pmd: PmdId, installed: bool) {
        if let Some(shared) = self.shared.upgrade().filter(|_| !installed)
            && matches!(shared.places.get(ufid), Some(Place::Soft(_)))
        {
            shared.places.remove(ufid);
        }
        self.handler.installed(ufid, pmd, installed);
    }

    fn purged(&self, pmd: PmdId) {
        self.handler.purged(pmd);
    }
}

impl Shared {
    /// Whether a flow that an answer installs is a rule now. One that is there already stays as it is.
    fn takes(&self, upcall: &Upcall<'_>, install: &Install) -> bool {
        let ufid = upcall.ufid;
        if self.places.hard(ufid).is_some() {
            return true;
        }
        let done =
            self.prepare_parsed(ufid, upcall.key, &install.mask, &install.actions).and_then(|prepared| {
                let done =
                    self.table.submit(&[self.put_job(&prepared)]).pop().unwrap_or(Err(Errno::EIO.into()));
                done.map(|_| prepared).map_err(|error| Reason::from(&error))
            });
        match done {
            Ok(prepared) => {
                self.installed(ufid, &prepared, FlowStats::default());
                true
            }
            Err(why) => {
                self.keep_why(ufid, why, 0);
                false
            }
        }
    }
}
