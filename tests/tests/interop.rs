//! Real clients on our daemons, our clients on real daemons: the same session must read the same.

use std::path::Path;

use tests::compare::differences;
use tests::kit::Kit;
use tests::scenario::{Scenario, Step};

fn play(clients: &Kit, daemons: &Kit) -> Vec<Step> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/commands.scn");
    Scenario::read(&path).play(clients, daemons)
}

#[test]
fn their_clients_on_our_daemons() {
    let (peer, ours) = (Kit::peer(), Kit::ours());
    let text = differences("their clients, our daemons", &play(&peer, &peer), &play(&peer, &ours));
    assert!(text.is_empty(), "{text}");
}

#[test]
fn our_clients_on_their_daemons() {
    let (peer, ours) = (Kit::peer(), Kit::ours());
    let text = differences("our clients, their daemons", &play(&peer, &peer), &play(&ours, &peer));
    assert!(text.is_empty(), "{text}");
}

#[test]
fn our_clients_on_our_daemons() {
    let (peer, ours) = (Kit::peer(), Kit::ours());
    let text = differences("our clients, our daemons", &play(&peer, &peer), &play(&ours, &ours));
    assert!(text.is_empty(), "{text}");
}
