//! Random transactions against a slow twin that knows nothing of reference counts, overlays or indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ovsdb::database::Database;
use ovsdb::schema::DatabaseSchema;
use ovsdb::transact::{self, Context, Outcome};
use ovsdb::value::Uuid;
use proptest::prelude::*;
use serde_json::{Value, json};

fn schema() -> Arc<DatabaseSchema> {
    let refs = |table: &str, kind: &str, max: Value| json!({"type": {"key": {"type": "uuid", "refTable": table, "refType": kind}, "min": 0, "max": max}});
    let schema = json!({
        "name": "Db",
        "tables": {
            "Root": {
                "isRoot": true,
                "columns": {
                    "strong": refs("Node", "strong", "unlimited".into()),
                    "weak": refs("Node", "weak", "unlimited".into())
                }
            },
            "Node": {"columns": {"next": refs("Node", "strong", 1.into())}}
        }
    });
    Arc::new(DatabaseSchema::from_json(&schema).unwrap())
}

#[derive(Clone, Debug)]
enum Op {
    InsertRoot(u8, BTreeSet<u8>, BTreeSet<u8>),
    InsertNode(u8, Option<u8>),
    SetRoot(u8, BTreeSet<u8>, BTreeSet<u8>),
    SetNode(u8, Option<u8>),
    DeleteRoot(u8),
    DeleteNode(u8),
}

fn any_op() -> impl Strategy<Value = Op> {
    let root = 0_u8..3;
    let node = 10_u8..15;
    let some = || proptest::collection::btree_set(10_u8..15, 0..3);
    prop_oneof![
        3 => (root.clone(), some(), some()).prop_map(|(id, strong, weak)| Op::InsertRoot(id, strong, weak)),
        4 => (node.clone(), proptest::option::of(10_u8..15)).prop_map(|(id, next)| Op::InsertNode(id, next)),
        3 => (root.clone(), some(), some()).prop_map(|(id, strong, weak)| Op::SetRoot(id, strong, weak)),
        3 => (node.clone(), proptest::option::of(10_u8..15)).prop_map(|(id, next)| Op::SetNode(id, next)),
        1 => root.prop_map(Op::DeleteRoot),
        2 => node.prop_map(Op::DeleteNode),
    ]
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Twin {
    roots: BTreeMap<u8, (BTreeSet<u8>, BTreeSet<u8>)>,
    nodes: BTreeMap<u8, Option<u8>>,
}

impl Twin {
    /// The state after a transaction; nothing if it must fail.
    fn after(&self, ops: &[Op]) -> Option<Self> {
        let mut new = self.clone();
        for op in ops {
            match op.clone() {
                Op::InsertRoot(id, ..) if self.roots.contains_key(&id) || new.roots.contains_key(&id) => {
                    return None;
                }
                Op::InsertNode(id, _) if self.nodes.contains_key(&id) || new.nodes.contains_key(&id) => {
                    return None;
                }
                Op::InsertRoot(id, strong, weak) => {
                    new.roots.insert(id, (strong, weak));
                }
                Op::InsertNode(id, next) => {
                    new.nodes.insert(id, next);
                }
                Op::SetRoot(id, strong, weak) => {
                    new.roots.entry(id).and_modify(|row| *row = (strong, weak));
                }
                Op::SetNode(id, next) => {
                    new.nodes.entry(id).and_modify(|row| *row = next);
                }
                Op::DeleteRoot(id) => {
                    new.roots.remove(&id);
                }
                Op::DeleteNode(id) => {
                    new.nodes.remove(&id);
                }
            }
        }
        let strong = new.roots.values().flat_map(|(strong, _)| strong).chain(new.nodes.values().flatten());
        if strong.clone().any(|target| !new.nodes.contains_key(target)) {
            return None;
        }
        loop {
            let wanted = |id: u8| {
                new.roots.values().any(|(strong, _)| strong.contains(&id))
                    || new.nodes.iter().any(|(&other, &next)| other != id && next == Some(id))
            };
            let Some(garbage) = new.nodes.keys().copied().find(|&id| !wanted(id)) else { break };
            new.nodes.remove(&garbage);
        }
        for (_, weak) in new.roots.values_mut() {
            weak.retain(|id| new.nodes.contains_key(id));
        }
        Some(new)
    }
}

fn uuid(id: u8) -> Uuid {
    Uuid(u128::from(id))
}

fn set(ids: impl IntoIterator<Item = u8>) -> Value {
    json!(["set", ids.into_iter().map(|id| uuid(id).to_json()).collect::<Vec<_>>()])
}

fn operation(op: &Op) -> Value {
    let this = |id: u8| json!([["_uuid", "==", uuid(id).to_json()]]);
    match op.clone() {
        Op::InsertRoot(id, strong, weak) => {
            json!({"op": "insert", "table": "Root", "uuid": uuid(id).to_string(),
            "row": {"strong": set(strong), "weak": set(weak)}})
        }
        Op::InsertNode(id, next) => {
            json!({"op": "insert", "table": "Node", "uuid": uuid(id).to_string(), "row": {"next": set(next)}})
        }
        Op::SetRoot(id, strong, weak) => json!({"op": "update", "table": "Root", "where": this(id),
            "row": {"strong": set(strong), "weak": set(weak)}}),
        Op::SetNode(id, next) => {
            json!({"op": "update", "table": "Node", "where": this(id), "row": {"next": set(next)}})
        }
        Op::DeleteRoot(id) => json!({"op": "delete", "table": "Root", "where": this(id)}),
        Op::DeleteNode(id) => json!({"op": "delete", "table": "Node", "where": this(id)}),
    }
}

fn content(db: &Database) -> Twin {
    let id = |uuid: Uuid| u8::try_from(uuid.0).unwrap();
    let mut twin = Twin::default();
    let (root, node) = (db.table_named("Root").unwrap(), db.table_named("Node").unwrap());
    let (strong, weak) = (root.schema().column("strong").unwrap(), root.schema().column("weak").unwrap());
    for row in root.rows() {
        let ids = |at: usize| row.get(at).uuids().map(id).collect();
        twin.roots.insert(id(row.uuid()), (ids(strong), ids(weak)));
    }
    let next = node.schema().column("next").unwrap();
    for row in node.rows() {
        twin.nodes.insert(id(row.uuid()), row.get(next).as_uuid().map(id));
    }
    twin
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn transactions_agree_with_a_slow_twin(
        script in proptest::collection::vec(proptest::collection::vec(any_op(), 1..5), 1..12),
    ) {
        let mut db = Database::new(schema());
        let mut twin = Twin::default();
        let locks = BTreeSet::new();
        let context = Context {
            locks: &locks, read_only: false,
            client: Default::default(), elapsed_ms: 0, can_wait: false, new_uuid: transact::random_uuid,
        };
        for ops in script {
            let mut params = vec![json!("Db")];
            params.extend(ops.iter().map(operation));
            let Outcome::Done { results, commit } = transact::execute(&db, &params.into(), &context) else {
                panic!("nothing waits")
            };
            let expected = twin.after(&ops);
            prop_assert_eq!(commit.is_some(), expected.is_some(), "{:?}", results);
            if let (Some(commit), Some(expected)) = (commit, expected) {
                let before = content(&db);
                db.apply(&commit.changes);
                prop_assert_eq!(content(&db), expected.clone());
                db.undo(&commit.changes);
                prop_assert_eq!(content(&db), before);
                db.apply(&commit.changes);
                twin = expected;
            }
        }
    }
}
