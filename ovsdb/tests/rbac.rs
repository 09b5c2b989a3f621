//! What clients with roles may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use ovsdb::database::Database;
use ovsdb::rbac::Client;
use ovsdb::schema::DatabaseSchema;
use ovsdb::transact::{self, Context, Outcome};
use serde_json::{Value, json};

fn run(db: &mut Database, client: Client<'_>, operations: &[Value]) -> Value {
    let locks = BTreeSet::new();
    let context = Context {
        locks: &locks,
        read_only: false,
        client,
        elapsed_ms: 0,
        can_wait: false,
        new_uuid: transact::random_uuid,
    };
    let params: Vec<Value> = std::iter::once(json!("Db")).chain(operations.iter().cloned()).collect();
    let Outcome::Done { results, commit } = transact::execute(db, &params.into(), &context) else {
        panic!("nothing waits")
    };
    if let Some(commit) = commit {
        db.apply(&commit.changes);
    }
    serde_json::from_str(&results.into_text()).expect("results are JSON")
}

fn database() -> Database {
    let schema = json!({
        "name": "Db",
        "tables": {
            "RBAC_Role": {"isRoot": true, "columns": {
                "name": {"type": "string"},
                "permissions": {"type": {"key": "string", "value":
                    {"type": "uuid", "refTable": "RBAC_Permission", "refType": "weak"}, "min": 0, "max": "unlimited"}}
            }},
            "RBAC_Permission": {"isRoot": true, "columns": {
                "authorization": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
                "insert_delete": {"type": "boolean"},
                "update": {"type": {"key": "string", "min": 0, "max": "unlimited"}}
            }},
            "Own": {"isRoot": true, "columns": {
                "owner": {"type": "string"}, "value": {"type": "integer"}, "fixed": {"type": "integer"}
            }},
            "Keyed": {"isRoot": true, "columns": {
                "ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
                "value": {"type": "integer"}
            }},
            "Shared": {"isRoot": true, "columns": {"value": {"type": "integer"}}},
            "Closed": {"isRoot": true, "columns": {"value": {"type": "integer"}}}
        }
    });
    let mut db = Database::new(Arc::new(DatabaseSchema::from_json(&schema).unwrap()));
    let permission = |name: &str, authorization: Value, insert_delete: bool| {
        json!({"op": "insert", "table": "RBAC_Permission", "uuid-name": name, "row": {
            "authorization": authorization, "insert_delete": insert_delete, "update": "value"}})
    };
    let role = json!({"op": "insert", "table": "RBAC_Role", "row": {"name": "role", "permissions": ["map", [
        ["Own", ["named-uuid", "own"]], ["Keyed", ["named-uuid", "keyed"]], ["Shared", ["named-uuid", "shared"]]]]}});
    let operations = [
        permission("own", json!("owner"), true),
        permission("keyed", json!("ids:client"), true),
        permission("shared", json!(""), false),
        role,
        json!({"op": "insert", "table": "Own", "row": {"owner": "b"}}),
        json!({"op": "insert", "table": "Shared", "row": {}}),
    ];
    let results = run(&mut db, Client::default(), &operations);
    assert!(results.as_array().unwrap().iter().all(|result| result.get("error").is_none()), "{results}");
    db
}

const A: Client<'_> = Client { role: "role", id: Some("a") };

/// The error of a single operation of client `a`, if any.
fn error(db: &mut Database, operation: Value) -> Option<String> {
    let results = run(db, A, &[operation]);
    let error = results[0].get("error")?;
    assert_eq!(error, "permission error", "{results}");
    results[0]["details"].as_str().map(str::to_owned)
}

fn refusal(deed: &str, table: &str) -> Option<String> {
    Some(format!("RBAC rules for client \"a\" role \"role\" prohibit {deed} table \"{table}\"."))
}

#[test]
fn rows_are_their_owners() {
    let mut db = database();
    let insert = |owner: &str| json!({"op": "insert", "table": "Own", "row": {"owner": owner}});
    assert_eq!(error(&mut db, insert("a")), None);
    assert_eq!(error(&mut db, insert("b")), refusal("row insertion into", "Own"));
    let of = |owner: &str| json!([["owner", "==", owner]]);
    let update =
        |owner, column: &str| json!({"op": "update", "table": "Own", "where": of(owner), "row": {column: 1}});
    assert_eq!(error(&mut db, update("a", "value")), None);
    assert_eq!(error(&mut db, update("a", "fixed")), refusal("modification of", "Own"));
    assert_eq!(error(&mut db, update("b", "value")), refusal("modification of", "Own"));
    let mutate = |owner| json!({"op": "mutate", "table": "Own", "where": of(owner), "mutations": [["value", "+=", 1]]});
    assert_eq!(error(&mut db, mutate("a")), None);
    assert_eq!(error(&mut db, mutate("b")), refusal("mutate operation on", "Own"));
    let delete = |condition: Value| json!({"op": "delete", "table": "Own", "where": condition});
    assert_eq!(error(&mut db, delete(json!([]))), refusal("row deletion from", "Own"));
    assert_eq!(error(&mut db, delete(of("a"))), None);
}

#[test]
fn a_key_of_a_map_can_name_the_owner() {
    let mut db = database();
    let insert = |client: &str| json!({"op": "insert", "table": "Keyed", "row": {"ids": ["map", [["client", client], ["other", "a"]]]}});
    assert_eq!(error(&mut db, insert("a")), None);
    assert_eq!(error(&mut db, insert("b")), refusal("row insertion into", "Keyed"));
}

#[test]
fn tables_are_shared_or_closed() {
    let mut db = database();
    let update = |table: &str| json!({"op": "update", "table": table, "where": [], "row": {"value": 3}});
    assert_eq!(error(&mut db, update("Shared")), None);
    assert_eq!(error(&mut db, update("Closed")), refusal("modification of", "Closed"));
    let insert = json!({"op": "insert", "table": "Shared", "row": {}});
    assert_eq!(error(&mut db, insert.clone()), refusal("row insertion into", "Shared"));
    let nobody = Client { role: "role", id: None };
    let results = run(&mut db, nobody, std::slice::from_ref(&insert));
    assert_eq!(
        results[0]["details"],
        "RBAC rules for client \"(null)\" role \"role\" prohibit row insertion into table \"Shared\"."
    );
    let stranger = Client { role: "unknown", id: Some("a") };
    assert_eq!(run(&mut db, stranger, std::slice::from_ref(&insert))[0]["error"], "permission error");
    assert!(run(&mut db, Client { role: "", id: Some("a") }, &[insert])[0].get("error").is_none());
    let select = json!({"op": "select", "table": "Closed", "where": []});
    assert!(run(&mut db, A, &[select])[0].get("error").is_none());
    let convert = A.check_convert("Db").unwrap_err();
    assert!(convert.details.unwrap().contains("prohibit \"convert\" of database Db"));
}
