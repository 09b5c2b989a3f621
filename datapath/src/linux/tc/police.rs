//! Ingress policing: what comes in faster than a rate is dropped (tc-police(8), `linux/pkt_cls.h`).

use flow::attr::Writer;
use sys::errno::Errno;

use super::psched::{Psched, rate_spec};
use super::{ECHO, EXCL, header, ingress, ingress_filter};
use crate::Error;
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

/// Takes away what limits the device's input, and limits it anew.
pub(super) fn install(
    rtnl: &mut Rtnl,
    name: &str,
    index: u32,
    policing: &Policing,
    psched: Psched,
) -> Result<(), Error> {
    let failed = |what: &str, error: &Error| {
        tracing::warn!(target: "netdev_linux", rl = "5,20", "{name}: {what} failed: {error}");
    };
    ingress(rtnl, index, false).inspect_err(|error| failed("removing policing", error))?;
    if !policing.limits() {
        return Ok(());
    }
    ingress(rtnl, index, true).inspect_err(|error| failed("adding policing qdisc", error))?;
    let head = header(index, 1, INGRESS_PARENT, PRIORITY << 16 | ALL_PROTOCOLS);
    let action = |actions: &mut Writer| policing.put_action(actions, psched);
    match ingress_filter(rtnl, &head, ECHO, ("matchall", TCA_MATCHALL_ACT), action) {
        // There is no such classifier in this kernel.
        Err(error) if error.errno() == Errno::ENOENT => {}
        done => {
            return done.inspect_err(|error| failed("adding cls_matchall policing action", error));
        }
    }
    let head = header(index, 0, 0xffff_0000, BASIC_PRIORITY << 16 | ALL_PROTOCOLS);
    ingress_filter(rtnl, &head, EXCL, ("basic", TCA_BASIC_ACT), action)
        .inspect_err(|error| failed("adding cls_basic policing action", error))
}
