//! Requests for flow monitors.

use std::collections::HashMap;
use std::sync::Arc;

use openflow::error::OfError;
use openflow::header::{Header, Multipart};
use openflow::msg::monitor::{self, MonitorCommand, MonitorFlags, MonitorRequest, UpdateEvent, reply_raw};

use super::{Outcome, Request};
use crate::conn::monitor::{Monitor, full_update};
use crate::conn::vconn::Kind;
use crate::ofproto::Rule;
use crate::ofproto::monitor::Refresh;

/// Flows to tell of, in order, each once.
#[derive(Default)]
struct Told {
    flows: Vec<(Arc<Rule>, UpdateEvent, bool)>,
    index: HashMap<u64, usize>,
}

impl Told {
    fn add(&mut self, rule: Arc<Rule>, event: UpdateEvent, actions: bool) {
        if let Some(&at) = self.index.get(&rule.serial) {
            self.flows[at].2 |= actions;
        } else {
            self.index.insert(rule.serial, self.flows.len());
            self.flows.push((rule, event, actions));
        }
    }

    fn put(&self, replies: &mut Multipart) {
        for (rule, event, actions) in &self.flows {
            full_update(rule, *event, 0, *actions).push(replies);
        }
    }
}

impl Request<'_> {
    pub(super) fn flow_monitors(&mut self, parts: &[Vec<u8>]) -> Outcome {
        let mut added = Vec::new();
        for part in parts {
            let changed = MonitorRequest::decode_all(part).and_then(|list| {
                list.into_iter().try_for_each(|request| self.change_monitor(request, &mut added))
            });
            if let Err(error) = changed {
                for id in added {
                    self.peer()?.monitors.remove(id);
                }
                self.refuse(part, error);
                return Ok(());
            }
        }
        let Some(last) = parts.last() else { return Ok(()) };
        let mut told = Told::default();
        for id in added {
            let Some(monitor) = self.peer()?.monitors.get(id).cloned() else { continue };
            if monitor.flags.contains(MonitorFlags::INITIAL) {
                let actions = monitor.flags.contains(MonitorFlags::INSTRUCTIONS);
                for (rule, _) in self.switch.refresh(&monitor.watched, None)? {
                    told.add(rule, UpdateEvent::Initial, actions);
                }
            }
        }
        let mut replies = Multipart::reply_to(&Header::peek(last)?)?;
        told.put(&mut replies);
        self.replies(replies.finish());
        Ok(())
    }

    fn change_monitor(&mut self, request: MonitorRequest, added: &mut Vec<u32>) -> Outcome {
        let id = request.id;
        let monitors = &mut self.peer()?.monitors;
        match request.command {
            MonitorCommand::Add if monitors.get(id).is_some() => return Err(OfError::MofcMonitorExists),
            MonitorCommand::Modify | MonitorCommand::Delete if !monitors.remove(id) => {
                return Err(OfError::MofcUnknownMonitor);
            }
            MonitorCommand::Delete => return Ok(()),
            MonitorCommand::Add | MonitorCommand::Modify => {}
        }
        monitors.insert(id, Monitor::new(request));
        added.push(id);
        Ok(())
    }

    pub(super) fn cancel_monitor(&mut self, msg: &[u8]) -> Outcome {
        let id = monitor::decode_cancel(msg)?;
        if self.peer()?.monitors.remove(id) { Ok(()) } else { Err(OfError::MofcUnknownMonitor) }
    }

    /// Tells what a paused peer missed, once it has taken everything.
    pub(super) fn resume_monitors(&mut self) {
        let link = self.link();
        let drained =
            link.rconn.vconn.as_ref().is_some_and(|vconn| vconn.backlog(Kind::Monitor).messages == 0);
        let Some(peer) = link.peer.as_deref_mut().filter(|_| drained) else { return };
        let (Some(since), Some(version)) = (peer.monitors.paused.take(), peer.version()) else { return };
        let monitors: Vec<_> = peer.monitors.iter().cloned().collect();
        let mut told = Told::default();
        for monitor in monitors {
            let actions = monitor.flags.contains(MonitorFlags::INSTRUCTIONS);
            for (rule, refresh) in self.switch.refresh(&monitor.watched, Some(since)).unwrap_or_default() {
                let (wanted, event) = match refresh {
                    Refresh::Modified => (MonitorFlags::MODIFY, UpdateEvent::Modified),
                    Refresh::Added | Refresh::Initial => {
                        (MonitorFlags::ADD | MonitorFlags::MODIFY, UpdateEvent::Added)
                    }
                };
                if monitor.flags.intersects(wanted) {
                    told.add(rule, event, actions);
                }
            }
        }
        if !told.flows.is_empty() {
            let mut replies = Multipart::new(reply_raw(version), version, 0);
            told.put(&mut replies);
            self.replies(replies.finish());
        }
        self.reply(monitor::pause(false, version));
    }
}
