//! Samples of packets: the bridge's sFlow, and the `sample` action.

use flow::action::{Action, Userspace};
use flow::cookie::{CookieKind, UserCookie};
use flow::id::{DpMeter, DpPort, OfPort};
use openflow::action::Sample;

use super::ctx::Ctx;

/// "Dropped for unknown reason" as an sFlow output.
const OUTPUT_DROPPED: u32 = 0x4000_0000 | 256;
/// "Several outputs": their number goes into the low bits.
const OUTPUT_MULTIPLE: u32 = 0x8000_0000;

impl Ctx<'_> {
    fn userspace(&self, kind: CookieKind, actions: bool) -> Action {
        let cookie = UserCookie { in_port: self.in_port(), ofproto: self.bridge.id.0, kind };
        Action::Userspace(Userspace {
            pid: (self.input.pid)(self.odp_port(self.in_port())),
            userdata: Some(cookie.encode().to_vec()),
            egress_tun_port: None,
            actions,
        })
    }

    /// Samples the packet for sFlow; gives the place of the action, whose cookie [`Ctx::fix_sflow`] completes.
    pub(super) fn compose_sflow(&mut self) -> Option<usize> {
        let sflow = self.bridge.sflow.as_ref()?;
        let probability = sflow.probability();
        if self.in_port() == OfPort::NONE || probability == 0 {
            return None;
        }
        let at = self.odp.len();
        let action = self.sflow_action(probability, 0, 0);
        self.odp.push(action);
        Some(at)
    }

    fn sflow_action(&self, probability: u32, vlan_tci: u16, output: u32) -> Action {
        let userspace = self.userspace(CookieKind::Sflow { vlan_tci, output }, true);
        let meter = self.input.bridge.slowpath_meter;
        if probability == u32::MAX && meter.is_none() {
            return userspace;
        }
        let mut actions: Vec<Action> = meter.map(|meter| Action::Meter(DpMeter(meter))).into_iter().collect();
        actions.push(userspace);
        Action::Sample { probability, actions }
    }

    /// Fills in what is known of a sampled packet's way only at the end.
    pub(super) fn fix_sflow(&mut self, at: usize) {
        let Some(sflow) = &self.input.bridge.sflow else { return };
        let output = match self.sflow_outputs {
            0 => OUTPUT_DROPPED,
            1 => match sflow.ifindex(self.sflow_port) {
                0 => OUTPUT_MULTIPLE | 1,
                ifindex => ifindex,
            },
            n => OUTPUT_MULTIPLE | n,
        };
        let in_port = std::mem::replace(&mut self.key.in_port, self.input.in_port.0.into());
        let action = self.sflow_action(sflow.probability(), self.base.vlans[0].tci.get(), output);
        self.key.in_port = in_port;
        if let Some(place) = self.odp.get_mut(at) {
            *place = action;
        }
    }

    /// The `sample` action. Without an exporter for its collector set nobody wants the sample, and nothing is done.
    pub(super) fn sample(&mut self, a: &Sample) {
        let Some(exporter) = &self.bridge.flow_samples else { return };
        let output = match a.sampling_port {
            OfPort::NONE => DpPort::NONE,
            port if port == self.in_port() => DpPort::NONE,
            port => match self.odp_port(port) {
                DpPort::NONE => {
                    return self.error(format_args!("can't use unknown port {port} in flow sample action"));
                }
                odp => odp,
            },
        };
        let probability = (u32::from(a.probability) << 16) | u32::from(a.probability);
        let meter = exporter.meter;
        self.commit();
        let kind = CookieKind::FlowSample {
            probability: a.probability,
            collector_set_id: a.collector_set_id,
            obs_domain_id: self.observation_id(&a.obs_domain),
            obs_point_id: self.observation_id(&a.obs_point),
            output_port: output,
            direction: match a.direction {
                openflow::action::sample::Direction::Default => flow::cookie::SampleDirection::Default,
                openflow::action::sample::Direction::Ingress => flow::cookie::SampleDirection::Ingress,
                openflow::action::sample::Direction::Egress => flow::cookie::SampleDirection::Egress,
            },
        };
        let userspace = self.userspace(kind, false);
        if probability == u32::MAX && meter.is_none() {
            return self.odp.push(userspace);
        }
        let mut actions: Vec<Action> = meter.map(|meter| Action::Meter(DpMeter(meter))).into_iter().collect();
        actions.push(userspace);
        self.odp.push(Action::Sample { probability, actions });
    }

    fn observation_id(&mut self, id: &openflow::action::sample::ObsId) -> u32 {
        match id {
            openflow::action::sample::ObsId::Constant(id) => *id,
            openflow::action::sample::ObsId::Field(sub) => {
                sub.mask_bits(&mut self.wc);
                sub.get_u64(self.key) as u32
            }
        }
    }
}
