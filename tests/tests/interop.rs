//! Real clients on our daemons, our clients on real daemons: the same session must read the same.

use std::path::Path;

use tests::compare::Known;
use tests::kit::Kit;
use tests::scenario::{Scenario, Step};

fn play(clients: &Kit, daemons: &Kit) -> Vec<Step> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/commands.scn");
    Scenario::read(&path).play(clients, daemons)
}

/// The peer with itself, held against the session of these two.
fn check(suite: &str, clients: &Kit, daemons: &Kit) {
    let (peer, known) = (Kit::peer(), Known::of(suite));
    let text = known.differences(suite, &play(&peer, &peer), &play(clients, daemons));
    assert!(text.is_empty(), "{text}");
    assert!(known.unused().is_empty(), "{}", known.unused());
}

#[test]
fn their_clients_on_our_daemons() {
    check("their-clients", &Kit::peer(), &Kit::ours());
}

#[test]
fn our_clients_on_their_daemons() {
    check("our-clients", &Kit::ours(), &Kit::peer());
}

#[test]
fn our_clients_on_our_daemons() {
    check("ours", &Kit::ours(), &Kit::ours());
}
