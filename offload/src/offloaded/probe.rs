//! Asks devices what they can do, on a thread of its own: a NIC may be slow to answer.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use sys::errno::Errno;

use super::Shared;
use super::kernel::Tried;
use crate::capability::{Capabilities, PROBES};
use crate::ports::Port;
use crate::rule::{Device, Rule};
use crate::tc::Hook;
use crate::tc::filter::cls;

#[derive(Default)]
struct Inner {
    known: BTreeMap<u32, Capabilities>,
    /// To the thread that asks.
    asks: Option<Sender<Port>>,
}

/// What is known of devices.
#[derive(Default)]
pub(super) struct Probed(Mutex<Inner>);

impl Probed {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, ifindex: u32) -> Option<Capabilities> {
        self.lock().known.get(&ifindex).cloned()
    }

    /// Whether rules of a device are in hardware at all; `None` as long as it was not asked.
    pub(super) fn hardware(&self, ifindex: u32) -> Option<bool> {
        self.lock().known.get(&ifindex).map(|known| known.hardware)
    }

    pub(super) fn all(&self) -> Vec<Capabilities> {
        let mut all: Vec<_> = self.lock().known.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn know(&self, told: Capabilities) {
        self.lock().known.insert(told.ifindex, told);
    }

    pub(super) fn forget(&self, ifindex: u32) {
        self.lock().known.remove(&ifindex);
    }
}

impl Shared {
    /// Has a device asked what it can do, if rules are to be in hardware at all.
    pub(super) fn probe(&self, port: &Port) {
        if self.flags.load(Ordering::Relaxed) & cls::SKIP_HW != 0 {
            return;
        }
        let mut probed = self.probed.lock();
        let asks = probed.asks.get_or_insert_with(|| {
            let (to, from) = channel::<Port>();
            let own = Weak::clone(&self.own);
            let thread = std::thread::Builder::new().name("offload".to_owned());
            let started = thread.spawn(move || {
                for port in from {
                    let Some(shared) = own.upgrade() else { return };
                    shared.ask(&port);
                }
            });
            if let Err(error) = started {
                tracing::info!(target: "dpif_offload_tc", "nobody asks what devices can do: {error}");
            }
            to
        });
        // Without the thread nothing is known.
        let _ = asks.send(port.clone());
    }

    /// Asks a device everything.
    fn ask(&self, port: &Port) {
        let device = port.device;
        let others = self.ports.all();
        // What goes to internal ports has more actions than the one that is asked for.
        let fits =
            |other: &Device| other.ifindex != device.ifindex && !other.tunnel && other.hook == Hook::Ingress;
        let other = others.iter().map(|(_, port)| port.device).find(fits).unwrap_or(device);
        let rules: Vec<_> = PROBES
            .iter()
            .filter_map(|probe| Some((probe, probe.rule(device, other, self.support())?)))
            .collect();
        let answers: Vec<_> =
            rules.iter().enumerate().map(|(at, (_, rule))| self.refusal(&device, at, rule)).collect();
        if answers.iter().any(|answer| matches!(answer, Err(Errno::ENODEV))) {
            return;
        }
        let answers = answers.into_iter().map(|answer| answer.unwrap_or(None));
        let answers = rules.iter().zip(answers).map(|((probe, rule), answer)| (*probe, rule, answer));
        let told = Capabilities::of(&port.name, device.ifindex, answers);
        let lacks: Vec<_> = told.missing.iter().map(|lack| lack.name).collect();
        if told.hardware {
            tracing::info!(
                target: "dpif_offload_tc",
                "{}: {} keys and {} actions in hardware; missing: {}",
                told.name, told.keys.len(), told.actions.len(), lacks.join(" ")
            );
        }
        self.probed.know(told);
    }

    /// Why a device refuses a rule; nothing if it takes it.
    fn refusal(&self, device: &Device, at: usize, rule: &Rule) -> Result<Option<String>, Errno> {
        let flags = if device.tunnel { cls::VERBOSE } else { cls::SKIP_SW };
        Ok(match self.try_out(device, at as u16, rule, flags) {
            Err(error) if error.errno() == Errno::ENODEV => return Err(Errno::ENODEV),
            Err(error) => Some(match error.detail() {
                Some(text) => text.to_owned(),
                None => error.to_string(),
            }),
            Ok(Tried { shown: Some(there), words }) if there.flags & cls::IN_HW == 0 => {
                Some(words.map_or_else(|| "not in hardware".to_owned(), Into::into))
            }
            // The NIC took it; what it says of it is another matter.
            Ok(_) => None,
        })
    }
}
