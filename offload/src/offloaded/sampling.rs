//! Packets that rules sampled go to who answers upcalls, as those that the datapath samples.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapath::upcall::Handler;

use super::Shared;
use crate::psample::Listener;

#[derive(Default)]
struct Inner {
    handler: Option<Arc<dyn Handler>>,
    /// From the first rule on that samples: there is nothing to listen to before.
    listener: Option<Listener>,
}

/// Who answers, and who listens.
#[derive(Default)]
pub(super) struct Sampling(Mutex<Inner>);

impl Sampling {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_handler(&self, handler: Option<Arc<dyn Handler>>) {
        self.lock().handler = handler;
    }

    fn handler(&self) -> Option<Arc<dyn Handler>> {
        self.lock().handler.clone()
    }
}

impl Shared {
    /// Listens to what rules sample from now on.
    pub(super) fn listen(&self) {
        let mut sampling = self.sampling.lock();
        if sampling.listener.is_some() {
            return;
        }
        let shared = self.own.clone();
        let listener = Listener::start(move |sample| {
            if let Some(shared) = shared.upgrade()
                && let Some(handler) = shared.sampling.handler()
            {
                shared.samples.answer(sample, &*handler);
            }
        });
        match listener {
            Ok(listener) => sampling.listener = Some(listener),
            Err(error) => tracing::info!(
                target: "dpif_offload_tc", rl = "1,5", "sampled packets cannot be listened to: {error}"
            ),
        }
    }
}
