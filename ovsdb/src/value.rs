//! Atoms and data (RFC 7047 section 5.1): what a column holds, and its JSON.
//!
//! Invariant: the elements of a [`Datum`] are sorted and free of duplicates (map keys likewise), so that equality is
//! plain comparison and lookups are binary searches. The text forms are in [`crate::text`].
//!
//! A large database is mostly data, so these are small: 24 bytes each. A datum of one atom holds it in place, an atom
//! short text in place; what does not fit is shared, so that a clone copies no element.

mod uuid;
mod text;
mod atom;
mod datum;

pub use atom::{Atom, is_id};
pub use datum::{Datum, Elements};
pub(crate) use datum::{sorted_map, sorted_set};
pub use text::Text;
pub use uuid::{BadUuid, Uuid};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::types::Type;

    fn type_of(value: Value) -> Type {
        Type::from_json(&value).unwrap()
    }

    fn error(kind: Value, value: Value) -> String {
        Datum::from_json(&type_of(kind), &value, None).unwrap_err().to_string()
    }

    #[test]
    fn uuid_text_round_trips() {
        let text = "9b66f380-1a56-4a63-9d2f-0e0f0ab4c1de";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(uuid.prefix(), 0x9b66_f380);
        assert_eq!(uuid.row_name(), "row9b66f380_1a56_4a63_9d2f_0e0f0ab4c1de");
        assert_eq!("9b66f380-1a56-4a63-9d2f-0e0f0ab4c1d".parse::<Uuid>(), Err(BadUuid));
        assert_eq!("9b66f380-1a56-4a63-9d2f_0e0f0ab4c1de".parse::<Uuid>(), Err(BadUuid));
        assert_eq!(Uuid::from_random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn json_of_sets_and_maps() {
        let ints = type_of(json!({"key": "integer", "min": 0, "max": "unlimited"}));
        let datum = Datum::from_json(&ints, &json!(["set", [3, 1, 2.0]]), None).unwrap();
        assert_eq!(datum, Datum::set([1, 2, 3]));
        assert_eq!(datum.to_json(), json!(["set", [1, 2, 3]]));
        assert_eq!(Datum::from_json(&ints, &json!(7), None).unwrap().to_json(), json!(7));
        let map = type_of(json!({"key": "string", "value": "uuid", "min": 0, "max": 2}));
        let text = json!(["map", [["a", ["uuid", "550e8400-e29b-41d4-a716-446655440000"]]]]);
        assert_eq!(Datum::from_json(&map, &text, None).unwrap().to_json(), text);
    }

    #[test]
    fn errors_name_the_json() {
        let set = json!({"key": "integer", "min": 0, "max": 2});
        assert_eq!(error(set.clone(), json!("x")), "syntax \"\"x\"\": syntax error: expected integer");
        assert_eq!(
            error(set.clone(), json!(["set", [1, 2, 3]])),
            "syntax \"[\"set\",[1,2,3]]\": syntax error: set must have 0 to 2 members but 3 are present"
        );
        assert_eq!(error(set, json!(["set", [1, 1]])), "ovsdb error: set contains duplicate");
        assert_eq!(
            error(json!("string"), json!(["set", []])),
            "syntax \"[\"set\",[]]\": syntax error: set must have exactly one member but 0 are present"
        );
        assert_eq!(
            error(json!("uuid"), json!(["uuid", "x"])),
            "syntax \"[\"uuid\",\"x\"]\": syntax error: \"x\" is not a valid UUID"
        );
        assert_eq!(
            error(json!("uuid"), json!(5)),
            "syntax \"5\": syntax error: expected [\"uuid\", <string>]"
        );
        assert_eq!(
            error(json!({"key": "string", "value": "string"}), json!(["map", [["a"]]])),
            "syntax \"[\"a\"]\": syntax error: expected 2-element array"
        );
    }

    #[test]
    fn order_is_by_size_first() {
        assert!(Datum::set([9]) < Datum::set([1, 2]));
        assert!(Datum::set([1, 3]) > Datum::set([1, 2]));
        assert!(Datum::map([("a", "x"), ("c", "a")]) > Datum::map([("a", "y"), ("b", "z")]));
    }

    fn any_set() -> impl Strategy<Value = Datum> {
        proptest::collection::vec(0_i64..8, 0..8).prop_map(Datum::set)
    }

    fn any_map() -> impl Strategy<Value = Datum> {
        proptest::collection::vec((0_i64..6, 0_i64..3), 0..6).prop_map(Datum::map)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn set_operations_agree_with_a_slow_twin(a in any_set(), b in any_set()) {
            let (keys_a, keys_b): (Vec<_>, Vec<_>) = (a.keys().cloned().collect(), b.keys().cloned().collect());
            let mut union = a.clone();
            union.union(&b, false);
            prop_assert_eq!(&union, &Datum::set(keys_a.iter().chain(&keys_b).cloned()));
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert_eq!(rest, Datum::set(keys_a.iter().filter(|k| !keys_b.contains(k)).cloned()));
            prop_assert_eq!(a.includes_all(&b), keys_b.iter().all(|k| keys_a.contains(k)));
            prop_assert_eq!(a.excludes_all(&b), !keys_b.iter().any(|k| keys_a.contains(k)));
            prop_assert_eq!(a.patched(&a.diff(&b)), b);
        }

        #[test]
        fn map_differences_apply(a in any_map(), b in any_map()) {
            prop_assert_eq!(a.patched(&a.diff(&b)), b.clone());
            let mut union = a.clone();
            union.union(&b, true);
            for (key, value) in union.pairs() {
                prop_assert_eq!(b.value(key).or_else(|| a.value(key)), Some(value));
            }
        }
    }
}
