//! `delete` is durable, deletes what is there, and tells by exit code 1 that an id was not.

mod common;

use common::Place;
use serde_json::json;

#[test]
fn deleted_ids_stay_deleted() {
    let place = Place::new();
    place.rows("in", 5, 2);
    place.run(&["import", "s", "in.npy", "--id-prefix", "p"]).ok();
    let done = place.run(&["delete", "s", "p-000000001", "p-000000003", "p-000000001", "--json"]).ok();
    assert_eq!(done.json(), json!({ "deleted": 2, "missing": [], "live": 3 }));
    place.run(&["get", "s", "p-000000001"]).fails(1, &["p-000000001"]);
    let info = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&info["live"], &info["dead"], &info["rows"]), (&json!(3), &json!(2), &json!(5)));
    let (ids, _) = place.exported("s");
    assert_eq!(ids, ["p-000000000", "p-000000002", "p-000000004"]);
}

#[test]
fn missing_ids_do_not_keep_the_others() {
    let place = Place::new();
    place.rows("in", 5, 2);
    place.run(&["import", "s", "in.npy", "--id-prefix", "p"]).ok();
    let done = place.run(&["delete", "s", "nope", "p-000000000", "--json"]).fails(1, &["1 of 2", "nope"]);
    assert_eq!(done.json(), json!({ "deleted": 1, "missing": ["nope"], "live": 4 }));
    let before = place.files("s");
    place.run(&["delete", "s", "nope"]).fails(1, &["nope"]);
    assert_eq!(place.files("s"), before, "deleting nothing writes nothing");
}

#[test]
fn what_a_filter_selects() {
    let place = Place::new();
    place.rows("in", 4, 2);
    place.write("in.jsonl", "{\"lang\": \"en\"}\n{\"lang\": \"de\"}\nnull\n{\"lang\": \"en\"}\n");
    place.run(&["import", "s", "in.npy", "--id-prefix", "p", "--documents", "in.jsonl"]).ok();
    let done = place.run(&["delete", "s", "--where", r#"{"lang": "en"}"#, "--json"]).ok();
    assert_eq!(done.json(), json!({ "deleted": 2, "missing": [], "live": 2 }));
    let done = place.run(&["delete", "s", "--where", r#"{"lang": "en"}"#]).ok();
    assert_eq!(done.stdout, "deleted 0 ids; 2 are left\n");
    let (ids, _) = place.exported("s");
    assert_eq!(ids, ["p-000000001", "p-000000002"]);
    place.run(&["delete", "s", "--where", "lang=en"]).fails(2, &["not JSON"]);
    place.run(&["delete", "s", "--where", "{}", "p-000000001"]).fails(2, &["--where"]);
    place.run(&["delete", "s"]).fails(2, &["--where"]);
}
