//! Ingress policing: what comes in faster than a rate is dropped (tc-police(8), `linux/pkt_cls.h`).

use flow::attr::Writer;
use sys::errno::Errno;

use super::psched::{Psched, rate_spec};
use super::{ECHO, EXCL, HEADER, header, ingress_filter, remove_ingress_filter};
use crate::Error;
use crate::linux::hook::{Hook, Hooks, User};
use crate::linux::rtnl::Rtnl;

const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_POLICE_TBF: u16 = 1;
const TCA_POLICE_RATE: u16 = 2;
const TCA_POLICE_RESULT: u16 = 5;
const TCA_POLICE_RATE64: u16 = 8;
const TCA_POLICE_PKTRATE64: u16 = 10;
const TCA_POLICE_PKTBURST64: u16 = 11;
const TCA_MATCHALL_ACT: u16 = 2;
const TCA_BASIC_ACT: u16 = 3;
/// Drop what exceeds.
const TC_POLICE_SHOT: u32 = 2;
/// Go on with what conforms (`TC_ACT_UNSPEC`).
const TC_ACT_UNSPEC: u32 = u32::MAX;
/// Where filters of received packets hang (`TC_H_CLSACT`, `TC_H_MIN_INGRESS`).
const INGRESS_PARENT: u32 = 0xffff_fff2;
/// The priority of the policer among filters, which offload keeps free.
const PRIORITY: u32 = 1;
/// That of a policer by the `basic` classifier.
const BASIC_PRIORITY: u32 = 49;
/// All protocols (`ETH_P_ALL`), big-endian.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;
/// The longest packet.
const MTU: u32 = 65535;

/// Kilobits and kilopackets, and those a second; 0 for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Policing {
    pub kbits_rate: u32,
    pub kbits_burst: u32,
    pub kpkts_rate: u32,
    pub kpkts_burst: u32,
}

impl Policing {
    /// Whether anything is limited.
    pub const fn limits(&self) -> bool {
        self.kbits_rate > 0 || self.kpkts_rate > 0
    }

    /// With bursts of 8000 kilobits and 16 kilopackets where none are given, and none where there is no rate.
    pub fn completed(self) -> Self {
        let burst = |rate, burst, default| match (rate, burst) {
            (0, _) => 0,
            (_, 0) => default,
            (_, burst) => burst,
        };
        Self {
            kbits_burst: burst(self.kbits_rate, self.kbits_burst, 8000),
            kpkts_burst: burst(self.kpkts_rate, self.kpkts_burst, 16),
            ..self
        }
    }

    /// Writes the action into a list of actions.
    pub fn put_action(&self, actions: &mut Writer, psched: Psched) {
        actions.nest(1, |action| {
            action.put_str(TCA_ACT_KIND, "police");
            action.nest(TCA_ACT_OPTIONS, |options| self.put_options(options, psched));
        });
    }

    fn put_options(&self, options: &mut Writer, psched: Psched) {
        let rate = u64::from(self.kbits_rate) * 1000 / 8;
        if rate > 0 {
            psched.put_table(options, TCA_POLICE_RATE, u64::from(self.kbits_rate) / 8 * 1000, MTU);
        }
        if rate > u32::MAX.into() {
            options.put_u64(TCA_POLICE_RATE64, rate);
        }
        if self.kpkts_rate > 0 {
            let [rate, burst] = [self.kpkts_rate, self.kpkts_burst].map(|kpkts| u64::from(kpkts) * 1000);
            options.put_u64(TCA_POLICE_PKTRATE64, rate);
            options.put_u64(TCA_POLICE_PKTBURST64, psched.ticks(rate, burst).into());
        }
        options.put(TCA_POLICE_TBF, &self.parms(rate, psched));
        options.put_u32(TCA_POLICE_RESULT, TC_ACT_UNSPEC);
    }

    /// `struct tc_police`. A kilobit of burst is 1024 bits, for so tc(8) reads it.
    fn parms(&self, rate: u64, psched: Psched) -> Vec<u8> {
        let told = rate.min(u32::MAX.into());
        let burst = psched.ticks(told, u64::from(self.kbits_burst) * 1024 / 8);
        let mut parms = [0, TC_POLICE_SHOT, 0, burst, MTU].map(u32::to_ne_bytes).concat();
        parms.extend(rate_spec(rate, MTU));
        // The peak rate, the kernel's counts of references, and its capabilities.
        parms.extend([0; 12 + 4 + 4 + 4]);
        parms
    }
}

/// Takes away what limits the device's input, and limits it anew. The number of the discipline that the limit is in.
pub(super) fn install(
    rtnl: &mut Rtnl,
    hooks: &Hooks,
    (name, index): (&str, u32),
    policing: &Policing,
    psched: Psched,
) -> Result<Option<u64>, Error> {
    let failed = |what: &str, error: &Error| {
        tracing::warn!(target: "netdev_linux", rl = "5,20", "{name}: {what} failed: {error}");
    };
    remove(rtnl, hooks, index).inspect_err(|error| failed("removing policing", error))?;
    if !policing.limits() {
        return Ok(None);
    }
    let held = hooks.hold(rtnl, index, User::Policing, Hook::Ingress);
    let held = held.inspect_err(|error| failed("adding policing qdisc", error))?;
    let action = |actions: &mut Writer| policing.put_action(actions, psched);
    match ingress_filter(rtnl, &matchall(index), ECHO, ("matchall", TCA_MATCHALL_ACT), action) {
        // There is no such classifier in this kernel.
        Err(error) if error.errno() == Errno::ENOENT => {}
        done => {
            done.inspect_err(|error| failed("adding cls_matchall policing action", error))?;
            return Ok(Some(held));
        }
    }
    ingress_filter(rtnl, &basic(index), EXCL, ("basic", TCA_BASIC_ACT), action)
        .inspect_err(|error| failed("adding cls_basic policing action", error))?;
    Ok(Some(held))
}

/// The name of the policer by each classifier.
fn matchall(index: u32) -> [u8; HEADER] {
    header(index, 1, INGRESS_PARENT, PRIORITY << 16 | ALL_PROTOCOLS)
}

fn basic(index: u32) -> [u8; HEADER] {
    header(index, 0, 0xffff_0000, BASIC_PRIORITY << 16 | ALL_PROTOCOLS)
}

/// Takes away what limits the device's input, of an earlier process, too.
fn remove(rtnl: &mut Rtnl, hooks: &Hooks, index: u32) -> Result<(), Error> {
    if hooks.release(rtnl, index, User::Policing, Hook::Ingress)? {
        return Ok(());
    }
    remove_ingress_filter(rtnl, &matchall(index), "matchall")?;
    remove_ingress_filter(rtnl, &basic(index), "basic")
}
