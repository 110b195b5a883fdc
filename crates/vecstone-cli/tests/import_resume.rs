//! `--resume` skips what is there, whatever the store held before; the summary counts what was done.

mod common;

use common::{Place, bits, npy_f32, vectors};
use serde_json::{Value, json};

fn counts(summary: &Value) -> Value {
    json!([summary["written"], summary["skipped"], summary["replaced"], summary["live"]])
}

#[test]
fn complete_import_has_nothing_to_resume() {
    let place = Place::new();
    place.rows("in", 100, 4);
    for ids in [&["--ids", "in.ids"][..], &[]] {
        let import = [&["import", "s", "in.npy", "--json", "--batch-rows", "7"], ids].concat();
        let resume = [&import[..], &["--resume"]].concat();
        let first = place.run(&import).ok().json();
        assert_eq!((&first["written"], &first["replaced"]), (&json!(100), &json!(0)));
        let before = place.files("s");
        let again = place.run(&resume).ok().json();
        assert_eq!(
            (&again["written"], &again["skipped"], &again["replaced"]),
            (&json!(0), &json!(100), &json!(0))
        );
        assert_eq!(place.files("s"), before);
    }
}

#[test]
fn duplicate_ids_last_wins_and_rerun_writes_nothing() {
    let place = Place::new();
    let rows = vectors(8, 2);
    place.write("in.npy", npy_f32(&rows, 2));
    place.write("in.ids", "a\nb\na\nc\nb\na\nd\nd\n");
    for batch in ["1", "3", "100"] {
        std::fs::remove_dir_all(place.path("s")).ok();
        let import = ["import", "s", "in.npy", "--ids", "in.ids", "--json", "--batch-rows", batch];
        let resume = [&import[..], &["--resume"]].concat();
        assert_eq!(counts(&place.run(&import).ok().json()), json!([8, 0, 4, 4]), "batch {batch}");
        assert_eq!(counts(&place.run(&resume).ok().json()), json!([0, 8, 0, 4]), "batch {batch}");
        for (id, row) in [("a", 5), ("b", 4), ("c", 3), ("d", 7)] {
            let found = place.run(&["get", "s", id, "--json"]).ok().json();
            assert_eq!(found["vector"], json!(rows[row * 2..][..2]), "{id}");
        }
        // Without --resume it is an upsert of every row.
        assert_eq!(counts(&place.run(&import).ok().json()), json!([8, 0, 8, 4]), "batch {batch}");
    }
}

#[test]
fn rows_that_differ_are_written() {
    let place = Place::new();
    let mut rows = vectors(10, 3);
    rows[0] = 0.0;
    place.write("in.npy", npy_f32(&rows, 3));
    place.run(&["import", "s", "in.npy"]).ok();
    rows[0] = -0.0; // equal as a number, but other bytes
    rows[29] += 1.0;
    place.write("in.npy", npy_f32(&rows, 3));
    let done = place.run(&["import", "s", "in.npy", "--resume", "--json"]).ok().json();
    assert_eq!(counts(&done), json!([2, 8, 2, 10]));
    assert_eq!(place.run(&["get", "s", "in-000000000", "--json"]).ok().json()["vector"][0], json!(-0.0));
}

#[test]
fn numbered_rows_replace_only_on_request() {
    let place = Place::new();
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let before = place.files("s");
    place.run(&["import", "s", "in.npy"]).fails(2, &["in-000000000", "--resume", "--overwrite"]);
    assert_eq!(place.files("s"), before);
    let done = place.run(&["import", "s", "in.npy", "--overwrite", "--json"]).ok().json();
    assert_eq!(counts(&done), json!([10, 0, 10, 10]));
    let done = place.run(&["import", "s", "in.npy", "--id-prefix", "other", "--json"]).ok().json();
    assert_eq!(counts(&done), json!([10, 0, 0, 20]));
    // One stored name in the middle is enough to refuse.
    place.run(&["delete", "s", "in-000000000", "in-000000001"]).ok();
    place.run(&["import", "s", "in.npy"]).fails(2, &["in-000000002"]);
}

#[test]
fn half_made_store_is_started_over() {
    let place = Place::new();
    let (_, rows) = place.rows("in", 10, 3);
    std::fs::create_dir(place.path("s")).unwrap();
    place.write("s/LOCK", "");
    place.run(&["import", "s", "in.npy"]).fails(2, &["interrupted", "--resume"]);
    place.run(&["import", "s", "in.npy", "--resume"]).ok();
    assert_eq!(bits(&place.exported("s").1), bits(&rows));
}

#[test]
fn resume_without_a_store_starts_one() {
    let place = Place::new();
    place.rows("in", 10, 3);
    let done = place.run(&["import", "s", "in.npy", "--resume", "--json"]).ok().json();
    assert_eq!(counts(&done), json!([10, 0, 0, 10]));
}
