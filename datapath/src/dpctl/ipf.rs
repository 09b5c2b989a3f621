//! `ipf-*`: a tracker's own reassembly of fragments.

use super::ct::tracker;
use super::{Done, Session, leading_number};
use crate::conntrack::{FragmentStatus, IpVersion, Reassembly, ReassemblyStatus};
use crate::{Datapath, Error};
use std::fmt::Write;
use sys::errno::Errno;

fn reassembly(datapath: &dyn Datapath) -> Result<&dyn Reassembly, Error> {
    tracker(datapath)?.reassembly().ok_or(Error::Unsupported("reassembly of fragments"))
}

/// What `text` begins with.
fn version(text: &str) -> Option<IpVersion> {
    match text.trim_start() {
        text if text.starts_with("v4") => Some(IpVersion::V4),
        text if text.starts_with("v6") => Some(IpVersion::V6),
        _ => None,
    }
}

/// Says `done` or `failed` (with the error).
fn outcome(session: &mut Session<'_>, result: Result<(), Error>, done: &str, failed: &str) -> Done {
    match result {
        Ok(()) => session.print(done),
        Err(error) => return session.fail(Some(error.errno()), failed),
    }
    Ok(())
}

fn switch(session: &mut Session<'_>, args: &[&str], on: bool) -> Done {
    let datapath = session.open(args, 4)?;
    let Some(version) = args.last().and_then(|text| version(text)) else {
        return session.fail(Some(Errno::EINVAL), "parameter missing: 'v4' for IPv4 or 'v6' for IPv6");
    };
    let what = format!("{} fragmentation reassembly", if on { "enabling" } else { "disabling" });
    let result = reassembly(&*datapath).and_then(|reassembly| reassembly.set_enabled(version, on));
    outcome(session, result, &format!("{what} successful"), &format!("{what} failed"))
}

pub(super) fn enable(session: &mut Session<'_>, args: &[&str]) -> Done {
    switch(session, args, true)
}

pub(super) fn disable(session: &mut Session<'_>, args: &[&str]) -> Done {
    switch(session, args, false)
}

pub(super) fn set_min_size(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 4)?;
    let [.., version_text, size] = args else {
        return session.fail(Some(Errno::EINVAL), "parameter missing for minimum fragment size");
    };
    let Some(version) = version(version_text) else {
        return session.fail(Some(Errno::EINVAL), "parameter missing: v4 for IPv4 or v6 for IPv6");
    };
    let Some(size) = leading_number(size) else {
        return session.fail(Some(Errno::EINVAL), "parameter missing for minimum fragment size");
    };
    let result = reassembly(&*datapath).and_then(|reassembly| reassembly.set_min_size(version, size));
    let failed = "requested minimum fragment size too small; see documentation";
    outcome(session, result, "setting minimum fragment size successful", failed)
}

pub(super) fn set_max_fragments(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 3)?;
    let Some(max) = args.last().and_then(|text| leading_number(text)) else {
        return session.fail(Some(Errno::EINVAL), "parameter missing for maximum fragments");
    };
    let result = reassembly(&*datapath).and_then(|reassembly| reassembly.set_max_fragments(max));
    outcome(session, result, "setting maximum fragments successful", "setting maximum fragments failed")
}

pub(super) fn status(session: &mut Session<'_>, args: &[&str]) -> Done {
    let datapath = session.open(args, 2)?;
    let (status, lists) = match reassembly(&*datapath) {
        Ok(reassembly) => (reassembly.status(), reassembly.lists()),
        Err(error) => return session.fail(Some(error.errno()), "ipf status could not be retrieved"),
    };
    session.print(status_text(&status));
    if session.options.verbosity > 0 {
        session.print("\n        Fragment Lists:\n\n");
        for list in lists {
            session.print(list + "\n");
        }
    }
    Ok(())
}

fn status_text(status: &ReassemblyStatus) -> String {
    let mut text = String::from("        Fragmentation Module Status\n        ---------------------------\n");
    let mut line = |name: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "        {name}: {value}");
    };
    line("v4 enabled", status.v4.enabled.into());
    line("v6 enabled", status.v6.enabled.into());
    line("max num frags (v4/v6)", status.max_fragments.into());
    line("num frag", status.fragments.into());
    for (version, status) in [("v4", &status.v4), ("v6", &status.v6)] {
        let FragmentStatus {
            enabled: _,
            min_size,
            accepted,
            completed,
            expired,
            too_small,
            overlapped,
            purged,
        } = *status;
        line(&format!("min {version} frag size"), min_size.into());
        for (what, value) in [
            ("accepted", accepted),
            ("completed", completed),
            ("expired", expired),
            ("too small", too_small),
            ("overlapped", overlapped),
            ("purged", purged),
        ] {
            line(&format!("{version} frags {what}"), value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_as_text() {
        let v4 = FragmentStatus { enabled: true, min_size: 1200, accepted: 1, ..FragmentStatus::default() };
        let v6 = FragmentStatus { min_size: 1280, purged: 2, ..FragmentStatus::default() };
        let status = ReassemblyStatus { v4, v6, fragments: 3, max_fragments: 1000 };
        let lines = [
            "Fragmentation Module Status",
            "---------------------------",
            "v4 enabled: 1",
            "v6 enabled: 0",
            "max num frags (v4/v6): 1000",
            "num frag: 3",
            "min v4 frag size: 1200",
            "v4 frags accepted: 1",
            "v4 frags completed: 0",
            "v4 frags expired: 0",
            "v4 frags too small: 0",
            "v4 frags overlapped: 0",
            "v4 frags purged: 0",
            "min v6 frag size: 1280",
            "v6 frags accepted: 0",
            "v6 frags completed: 0",
            "v6 frags expired: 0",
            "v6 frags too small: 0",
            "v6 frags overlapped: 0",
            "v6 frags purged: 2",
        ];
        let expected: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        assert_eq!(status_text(&status), expected);
    }
}
