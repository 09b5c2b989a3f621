//! `parse-actions` and `normalize-actions`: text of actions, by which tests compare what should mean the same.

use super::{Done, Names, Session};
use ::flow::action::{self, Action};
use ::flow::id::DpPort;
use ::flow::key::{Key, Vlan};
use ::flow::odp::format::Style;
use ::flow::odp::{self, Fitness, NoNames};
use ::flow::proto::ethertype;
use ::flow::stack;
use std::fmt::Write;
use sys::errno::Errno;
use zerocopy::IntoBytes;

pub(super) fn parse(session: &mut Session<'_>, args: &[&str]) -> Done {
    for text in args {
        match action::parse::actions(text, &NoNames) {
            Ok(actions) => session.print(action::format::actions(&actions, &NoNames) + "\n"),
            Err(_) => return session.fail(Some(Errno::EINVAL), "odp_actions_from_string"),
        }
    }
    Ok(())
}

/// Prints the actions of a flow sorted: grouped by the tags that the packet has when they are done, outputs in the
/// order of port numbers.
pub(super) fn normalize(session: &mut Session<'_>, args: &[&str]) -> Done {
    let [flow, text, ports @ ..] = args else { return session.fail(Some(Errno::EINVAL), "actions") };
    let mut names = Names::default();
    for port in ports {
        let parsed = port.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        match parsed {
            Some((name, number)) => drop(names.0.insert(DpPort(number), name.to_owned())),
            None => return session.fail(None, format!("{port}: expected NAME=NUMBER")),
        }
    }
    let raw = match odp::parse::flow(flow, &names) {
        Ok((raw, _)) => raw,
        Err(error) => {
            return session.fail(Some(Errno::EINVAL), format!("odp_flow_key_from_string ({error})"));
        }
    };
    let verbose = session.options.verbosity > 0;
    let shown = odp::format::flow(&raw.0, &[], &Style::new(&NoNames, verbose));
    session.print(format!("input flow: {shown}\n"));
    let mut key = match odp::key_to_flow(&raw) {
        Ok((key, Fitness::Perfect)) => key,
        Ok(_) => return session.fail(None, "odp_flow_key_to_flow failed (reason unknown)"),
        Err(error) => return session.fail(None, format!("odp_flow_key_to_flow failed ({error})")),
    };
    let Ok(actions) = action::parse::actions(text, &names) else {
        return session.fail(Some(Errno::EINVAL), "odp_actions_from_string");
    };
    if verbose {
        session.print(format!("input actions: {}\n", action::format::actions(&actions, &NoNames)));
    }
    let mut groups: Vec<(Key, Vec<Action>)> = Vec::new();
    for action in actions {
        match action {
            Action::PopVlan => stack::pop_vlan(&mut key, None),
            Action::PushVlan(vlan) => {
                stack::push_vlan(&mut key, None);
                key.vlans[0] = vlan;
            }
            action => match groups.iter_mut().find(|(group, _)| *group == key) {
                Some((_, list)) => list.push(action),
                None => groups.push((key, vec![action])),
            },
        }
    }
    groups.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    for (key, mut list) in groups {
        sort_outputs(&mut list);
        session.print(tags(&key) + &action::format::actions(&list, &NoNames));
    }
    Ok(())
}

/// The tags of a packet.
fn tags(key: &Key) -> String {
    let mut text = String::new();
    for Vlan { tpid, tci } in key.vlans.iter().take_while(|vlan| vlan.tci.get() != 0) {
        let tpid = tpid.get();
        // Byte order as it has always been printed: that of the packet, read by a little-endian machine.
        let tpid = if tpid == ethertype::VLAN {
            String::new()
        } else {
            format!("tpid=0x{:04x},", tpid.swap_bytes())
        };
        let _ = write!(text, "vlan({tpid}vid={},pcp={}): ", tci.get() & 0xfff, tci.get() >> 13);
    }
    if key.vlans[0].tci.get() == 0 {
        text += "no vlan: ";
    }
    if ethertype::is_mpls(key.dl_type.get()) {
        let lse = key.mpls_lse[0].get();
        let _ = write!(text, "mpls(label={},tc={},ttl={}): ", lse >> 12, lse >> 9 & 7, lse & 0xff);
    } else {
        text += "no mpls: ";
    }
    text
}

/// Sorts each run of outputs.
fn sort_outputs(actions: &mut [Action]) {
    let port = |action: &Action| if let Action::Output(port) = action { Some(*port) } else { None };
    for run in actions.chunk_by_mut(|a, b| port(a).is_some() && port(b).is_some()) {
        run.sort_by_key(port);
    }
}

#[cfg(test)]
mod tests {
    use crate::dpctl::tests::NoDatapaths;
    use crate::dpctl::{Options, run};

    fn dpctl(args: &[&str]) -> (String, bool) {
        let options = Options { program: "ovs-dpctl".to_owned(), ..Options::default() };
        let (pieces, done) = run(&NoDatapaths, options, args);
        (pieces.into_iter().map(|piece| piece.text).collect(), done.is_ok())
    }

    #[test]
    fn normalizes() {
        let flow = "in_port(1),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x1234)";
        assert_eq!(
            dpctl(&["normalize-actions", flow, "p3,2,push_vlan(vid=5,pcp=0),9,8", "p3=3"]),
            (format!("input flow: {flow}\nno vlan: no mpls: 2,3vlan(vid=5,pcp=0): no mpls: 8,9"), true)
        );
    }

    #[test]
    fn refuses() {
        assert_eq!(
            dpctl(&["dump-flows"]),
            (
                "ovs-dpctl: no datapaths exist\novs-dpctl: datapath not found (Invalid argument)\n"
                    .to_owned(),
                false
            )
        );
        assert_eq!(
            dpctl(&["bogus"]),
            ("ovs-dpctl: unknown command 'bogus'; use --help for help\n".to_owned(), false)
        );
        assert_eq!(
            dpctl(&["add-flow"]),
            ("ovs-dpctl: 'add-flow' command requires at least 2 arguments\n".to_owned(), false)
        );
        assert_eq!(
            dpctl(&["parse-actions", "1,2", "nonsense("]),
            ("1,2\novs-dpctl: odp_actions_from_string (Invalid argument)\n".to_owned(), false)
        );
        assert_eq!(
            dpctl(&["show", "foo"]),
            ("ovs-dpctl: opening datapath foo failed (No such device)\n".to_owned(), false)
        );
    }
}
