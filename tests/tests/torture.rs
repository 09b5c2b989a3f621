//! A short torture of `ovsdb-server`; `scripts/torture` is the long one.

use ovsdb::storage::Kind;
use tests::kit::Kit;
use tests::torture::{kill, power};

fn short(kind: Kind) {
    let kit = Kit::ours();
    let root = std::env::temp_dir();
    let killed = kill::run(&kit, &root, kind, 40, |_| {}).unwrap();
    assert!(killed.kills == 40 && killed.acknowledged > 0, "{killed:?}");
    if !power::is_available() {
        println!("without strace there are no power cuts");
        return;
    }
    let cut = power::run(&kit, &root, kind, 12).unwrap();
    assert!(cut.syncs > 12 && cut.disks > cut.syncs, "{cut:?}");
}

#[test]
fn a_journal_survives() {
    short(Kind::Journal);
}

#[test]
fn a_sqlite_file_survives() {
    short(Kind::Sqlite);
}
