//! What the kernel's rules can be, which differs between kernels: asked once, of the first device, by rules that stay there
//! for as long as the question takes and that no hardware hears of.

use datapath::Error;
use flow::odp::attrs::ct_state;
use flow::proto::ethertype;
use sys::errno::Errno;

use super::Shared;
use crate::lower::matching::CT_STATES;
use crate::prio;
use crate::rule::{Device, Rule, Support};
use crate::table::Job;
use crate::tc::On;
use crate::tc::filter::{Filter, Id, cls};
use crate::tc::key::{FlowerKey, KeyField, enc_flags};
use crate::tc::options::{EncOpts, GBP_BITS};

/// Bits of `ct_state` that every kernel has that tracks connections by rules.
const OLDEST: u32 = ct_state::NEW | ct_state::ESTABLISHED | ct_state::RELATED | ct_state::TRACKED;

/// A rule that was taken for as long as a question took.
pub(super) struct Tried {
    /// As the kernel shows it, if it does.
    pub(super) shown: Option<Box<Filter>>,
    /// Why hardware has it not, if that was said.
    pub(super) words: Option<Box<str>>,
}

/// A packet out of a tunnel.
fn tunneled() -> FlowerKey {
    let mut key = FlowerKey::default();
    key.set_exact(KeyField::EthType, ethertype::IPV4);
    key.set_exact(KeyField::EncIpv4Src, 0x0101_0101_u32);
    key.set_exact(KeyField::EncIpv4Dst, 0x0101_0102_u32);
    key.set_exact(KeyField::EncUdpDst, 46354_u16);
    key
}

impl Shared {
    /// What lowering may use.
    pub(super) fn support(&self) -> &Support {
        self.kernel.get().unwrap_or(&self.support)
    }

    /// Asks the kernel, unless that was done.
    pub(super) fn ask_kernel(&self, device: &Device) {
        self.kernel.get_or_init(|| {
            let mut told = self.support;
            told.ct_state = self.ct_states(device);
            told.gbp = self.has_gbp(device);
            told.enc_flags = self.has_enc_flags(device);
            told
        });
    }

    fn ct_states(&self, device: &Device) -> u8 {
        let has = |bits: u32| {
            let state = CT_STATES.iter().filter(|row| bits & row.0 != 0).fold(0, |state, row| state | row.1);
            let mut key = FlowerKey::default();
            key.set_exact(KeyField::EthType, ethertype::IPV4);
            key.set_number(KeyField::CtState, state.into(), state.into());
            let wanted = key.number(KeyField::CtState);
            self.takes(device, &key, |there| there.number(KeyField::CtState) == wanted)
        };
        let newer = [
            (ct_state::INVALID, ct_state::TRACKED | ct_state::INVALID),
            (ct_state::REPLY_DIR, ct_state::TRACKED | ct_state::ESTABLISHED | ct_state::REPLY_DIR),
        ];
        let mut bits = 0;
        if has(ct_state::NEW | ct_state::TRACKED) {
            bits = newer.iter().filter(|row| has(row.1)).fold(OLDEST, |bits, row| bits | row.0);
        }
        tracing::info!(target: "dpif_offload_tc_netdev", "probe tc: supported ovs ct_state bits: {bits:#x}");
        bits as u8
    }

    fn has_gbp(&self, device: &Device) -> bool {
        let mut key = tunneled();
        key.opts = Some(EncOpts::Vxlan(512, GBP_BITS));
        let has = self.takes(device, &key, |there| there.opts == key.opts);
        if has {
            tracing::info!(target: "dpif_offload_tc_netdev", "probe tc: vxlan gbp is supported.");
        }
        has
    }

    fn has_enc_flags(&self, device: &Device) -> bool {
        let mut key = tunneled();
        let flag = u128::from(enc_flags::DONT_FRAGMENT);
        key.set_number(KeyField::EncFlags, flag, flag);
        let wanted = key.number(KeyField::EncFlags);
        // Kernels pass over attributes that they do not know.
        let has = self.takes(device, &key, |there| there.number(KeyField::EncFlags) == wanted);
        if has {
            tracing::info!(target: "dpif_offload_tc_netdev", "probe tc: enc flags are supported.");
        }
        has
    }

    /// Whether the kernel takes a rule and shows of it what matters.
    fn takes(&self, device: &Device, key: &FlowerKey, shows: impl FnOnce(&FlowerKey) -> bool) -> bool {
        let (key, protocol) = (key.clone(), ethertype::IPV4);
        let rule = Rule { chain: 0, protocol, key, actions: Vec::new(), goto: None };
        let tried = self.try_out(device, 0, &rule, cls::SKIP_HW);
        tried.is_ok_and(|tried| tried.shown.is_some_and(|there| shows(&there.key)))
    }

    /// Puts a rule behind all others, question `at` of those that are asked at a time, and takes it away again.
    ///
    /// # Errors
    /// It was refused.
    pub(super) fn try_out(&self, device: &Device, at: u16, rule: &Rule, flags: u32) -> Result<Tried, Error> {
        let on = On::of(device.ifindex, device.block);
        let (prio, protocol) = (prio::LAST + 1 + at, rule.protocol);
        let id = Id { on, hook: device.hook, chain: 0, prio, protocol, handle: 1 };
        let put = Job::Put { id, key: &rule.key, actions: &rule.actions, flags, replace: false };
        let mut done = self.table.submit(&[put, Job::Get(id)]).into_iter();
        done.next().unwrap_or(Err(Errno::EIO.into()))?;
        let shown = done.next().and_then(Result::ok).flatten();
        let words = self.table.words(&id);
        // What is not deleted now goes with the device's last rule.
        self.table.submit(&[Job::Del(id)]);
        Ok(Tried { shown, words })
    }
}
