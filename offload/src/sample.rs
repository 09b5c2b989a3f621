//! What sampled packets are sampled for: by the group of `psample` that a rule names.
//!
//! Hardware samples without knowing for whom. A [`Site`] is what the sample was in the flow, and has a group as long as a
//! rule has it. [`Samples::answer`] puts a sampled packet together with it, as the datapath would have handed it up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapath::upcall::{Handler, Kind, Upcall};
use datapath::{PmdId, ufid_of};
use flow::action::{Action, Userspace};
use flow::extract::{Metadata, extract};
use flow::id::DpPort;
use flow::key::{Key, Tunnel};
use flow::odp::Fitness;
use serde::Serialize;
use zerocopy::IntoBytes;

use crate::psample::Sample;

/// Groups that there may be. Beyond them, flows that sample stay in software.
pub const MAX_GROUPS: usize = 16_384;
/// Groups that no rule has, but that were asked for so recently that one is about to.
const RECENT: u64 = 1024;
/// The number of the first group; lower ones are for those who choose by hand.
const FIRST: u32 = 1 << 16;

/// A sample as a flow has it.
#[derive(Clone, PartialEq)]
pub struct Site {
    pub in_port: DpPort,
    /// The tunnel that packets come out of.
    pub tunnel: Option<Box<Tunnel>>,
    /// The action that samples.
    pub action: Action,
    /// To whom packets go.
    pub userspace: Userspace,
    /// The flow's actions.
    pub actions: Arc<[Action]>,
}

impl Site {
    /// What tells sites apart.
    fn name(&self) -> Vec<u8> {
        let mut name = self.in_port.0.to_ne_bytes().to_vec();
        let tunnel = self.tunnel.as_deref().map_or(&[][..], IntoBytes::as_bytes);
        name.extend((tunnel.len() as u64).to_ne_bytes());
        name.extend(tunnel);
        name.extend(Action::encode_all(std::slice::from_ref(&self.action)));
        name.extend(Action::encode_all(&self.actions));
        name
    }
}

struct Group {
    site: Arc<Site>,
    name: Vec<u8>,
    /// Rules that have it.
    rules: usize,
    /// When it was asked for, in askings.
    asked: u64,
    /// Sequence number of the next packet, once there was one.
    next: Option<u32>,
}

/// What became of sampled packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Tally {
    pub groups: usize,
    /// Packets that were handed up.
    pub packets: u64,
    /// Packets of groups that are none of ours, or not any more.
    pub unknown: u64,
    /// Packets that the kernel had no room for.
    pub lost: u64,
}

#[derive(Default)]
struct Inner {
    by_number: HashMap<u32, Group>,
    by_name: HashMap<Vec<u8>, u32>,
    last: u32,
    askings: u64,
    tally: Tally,
}

/// The groups.
#[derive(Default)]
pub struct Samples(Mutex<Inner>);

impl Inner {
    /// Forgets groups that no rule has.
    fn clean(&mut self) {
        let (by_name, old) = (&mut self.by_name, self.askings.saturating_sub(RECENT));
        self.by_number.retain(|_, group| {
            let kept = group.rules > 0 || group.asked >= old;
            if !kept {
                by_name.remove(&group.name);
            }
            kept
        });
    }

    fn new_number(&mut self) -> u32 {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(FIRST).max(FIRST);
            if !self.by_number.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

impl Samples {
    /// Locks; nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a site; `None` if there are too many.
    pub fn group(&self, site: Site) -> Option<u32> {
        let mut inner = self.lock();
        inner.askings += 1;
        let asked = inner.askings;
        let name = site.name();
        if let Some(number) = inner.by_name.get(&name).copied() {
            inner.by_number.entry(number).and_modify(|group| group.asked = asked);
            return Some(number);
        }
        if inner.by_number.len() >= MAX_GROUPS {
            inner.clean();
        }
        if inner.by_number.len() >= MAX_GROUPS {
            return None;
        }
        let number = inner.new_number();
        inner.by_name.insert(name.clone(), number);
        let group = Group { site: Arc::new(site), name, rules: 0, asked, next: None };
        inner.by_number.insert(number, group);
        Some(number)
    }

    /// A rule has the group now.
    pub fn hold(&self, number: u32) {
        if let Some(group) = self.lock().by_number.get_mut(&number) {
            group.rules += 1;
        }
    }

    /// A rule less has the group.
    pub fn release(&self, number: u32) {
        if let Some(group) = self.lock().by_number.get_mut(&number) {
            group.rules = group.rules.saturating_sub(1);
        }
    }

    /// The reverse of [`Samples::group`].
    pub fn site(&self, number: u32) -> Option<Arc<Site>> {
        self.lock().by_number.get(&number).map(|group| Arc::clone(&group.site))
    }

    pub fn tally(&self) -> Tally {
        let inner = self.lock();
        Tally { groups: inner.by_number.values().filter(|group| group.rules > 0).count(), ..inner.tally }
    }

    /// Counts a sampled packet, and finds its site.
    fn count(&self, sample: &Sample<'_>) -> Option<Arc<Site>> {
        let mut inner = self.lock();
        let Inner { by_number, tally, .. } = &mut *inner;
        let Some(group) = by_number.get_mut(&sample.group) else {
            tally.unknown += 1;
            return None;
        };
        let gap = group.next.map_or(0, |next| sample.seq.wrapping_sub(next));
        // A group that was made anew counts from 0 again.
        if gap <= u32::MAX / 2 {
            tally.lost += u64::from(gap);
        }
        group.next = Some(sample.seq.wrapping_add(1));
        tally.packets += 1;
        Some(Arc::clone(&group.site))
    }

    /// Hands a sampled packet to who answers upcalls.
    pub fn answer(&self, sample: &Sample<'_>, handler: &dyn Handler) {
        let Some(site) = self.count(sample) else { return };
        let meta = Metadata { in_port: site.in_port.0, tunnel: site.tunnel.clone(), ..Metadata::default() };
        let mut key = Key::default();
        extract(sample.packet, &meta, &mut key);
        let actions = site.userspace.actions.then_some(&*site.actions);
        let userdata = site.userspace.userdata.as_deref().unwrap_or_default();
        handler.upcall(&Upcall {
            kind: Kind::Action { userdata, actions, egress_tunnel: None },
            packet: sample.packet,
            full_len: sample.full_len.max(sample.packet.len()),
            key: &key,
            raw: None,
            fitness: Fitness::Perfect,
            ufid: ufid_of(&[]),
            pmd: PmdId::NONE,
            in_port: site.in_port,
            hash: 0,
            mru: 0,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::upcall::Answer;
    use flow::action::parse;
    use flow::odp::NoNames;

    fn site(port: u32) -> Site {
        let userspace =
            Userspace { pid: 7, userdata: Some(vec![1; 8]), egress_tun_port: None, actions: true };
        let action =
            Action::Sample { probability: 1 << 26, actions: vec![Action::Userspace(userspace.clone())] };
        let actions = parse::actions("2,3", &NoNames).unwrap().into();
        Site { in_port: DpPort(port), tunnel: None, action, userspace, actions }
    }

    #[test]
    fn equal_sites_have_one_group_as_long_as_rules_have_it() {
        let samples = Samples::default();
        let first = samples.group(site(1)).unwrap();
        assert_eq!((samples.group(site(1)), samples.group(site(2))), (Some(first), Some(first + 1)));
        assert!(samples.site(first).as_deref() == Some(&site(1)));
        samples.hold(first);
        for port in 2..=MAX_GROUPS as u32 {
            assert!(samples.group(site(port)).is_some());
        }
        // There is room again, for nobody took most of those; the one that a rule has stays.
        assert!(samples.group(site(0)).is_some());
        assert!(samples.site(first).is_some() && samples.site(first + 1).is_none());
        assert_eq!(samples.tally().groups, 1);
        samples.release(first);
        assert_eq!(samples.tally().groups, 0);
    }

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Handler for Heard {
        fn upcall(&self, upcall: &Upcall<'_>) -> Option<Answer> {
            let Kind::Action { userdata, actions, .. } = upcall.kind else { panic!("a miss") };
            let key = upcall.key;
            let text = format!(
                "{} {} {:04x} {} {userdata:?} {}",
                upcall.in_port,
                key.in_port,
                key.dl_type.get(),
                upcall.full_len,
                flow::action::format::actions(actions.unwrap(), &NoNames)
            );
            self.0.lock().unwrap().push(text);
            None
        }
    }

    #[test]
    fn a_sampled_packet_is_handed_up_as_by_the_datapath() {
        let (samples, heard) = (Samples::default(), Heard::default());
        let group = samples.group(site(5)).unwrap();
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        let told = |group, seq| Sample { group, seq, rate: 64, full_len: 1500, ifindex: 9, packet: &frame };
        samples.answer(&told(group, 7), &heard);
        samples.answer(&told(group + 1, 8), &heard);
        samples.answer(&told(group, 10), &heard);
        samples.answer(&told(group, 0), &heard);
        let line = "5 5 86dd 1500 [1, 1, 1, 1, 1, 1, 1, 1] 2,3";
        assert_eq!(*heard.0.lock().unwrap(), [line; 3]);
        assert_eq!(samples.tally(), Tally { groups: 0, packets: 3, unknown: 1, lost: 2 });
    }
}
