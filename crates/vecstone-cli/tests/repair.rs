//! `repair` makes a new store of what checks out and lists everything else.

mod common;

use common::{Place, bits};
use serde_json::json;
use std::fs;

#[test]
fn a_sound_store_is_taken_whole() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    place.run(&["delete", "s", &ids[0]]).ok();
    let before = place.files("s");
    let report = place.run(&["repair", "s", "new", "--json"]).ok().json();
    assert_eq!((&report["rows"], &report["dropped"]), (&json!(99), &json!([])));
    assert_eq!(place.files("s"), before, "the old store changed");
    place.run(&["verify", "new"]).ok();
    let (found_ids, found) = place.exported("new");
    assert_eq!(found_ids, ids[1..]);
    assert_eq!(bits(&found), bits(&rows[8..]));
    let text = place.run(&["repair", "s", "again"]).ok().stdout;
    assert!(text.ends_with("repaired into again: 99 rows, nothing was dropped\n"), "{text}");
}

#[test]
fn damaged_rows_are_listed_and_left_out() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    let dat = place.path("s/00000001.dat");
    let mut bytes = fs::read(&dat).unwrap();
    bytes[256 + 50 * 32] ^= 1;
    bytes[256 + 70 * 32 + 31] ^= 1;
    fs::write(&dat, &bytes).unwrap();
    place.run(&["get", "s", &ids[50]]).fails(2, &["00000001.dat"]);
    let before = place.files("s");
    let done = place.run(&["repair", "s", "new", "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let report = done.json();
    assert_eq!(report["rows"], 98);
    let dropped: Vec<_> = report["dropped"].as_array().unwrap().iter().map(|d| d["id"].clone()).collect();
    assert_eq!(dropped, [json!(ids[50]), json!(ids[70])], "{report}");
    assert_eq!(place.files("s"), before, "the old store changed");
    place.run(&["verify", "new"]).ok();
    assert_eq!(bits(&place.exported("new").1), bits(&[&rows[..400], &rows[408..560], &rows[568..]].concat()));
    let done = place.run(&["repair", "s", "again"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    for id in [&ids[50], &ids[70]] {
        let named = done
            .stdout
            .lines()
            .filter(|line| line.starts_with("dropped: ") && line.ends_with(&format!("(id {id})")))
            .count();
        assert_eq!(named, 1, "{done:#?}");
    }
    assert!(done.stdout.ends_with("98 rows are kept; 2 things were dropped\n"), "{done:#?}");
}

#[test]
fn what_was_lost_as_a_whole_is_told() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 100, 8);
    place.write("in.jsonl", (0..100).map(|n| format!("\"{n:03}\"\n")).collect::<String>());
    place
        .run(&["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl", "--metric", "l2"])
        .ok();
    place.write("s/MANIFEST", "gone");
    place.run(&["info", "s"]).fails(2, &["MANIFEST"]);
    let done = place.run(&["repair", "s", "new", "--json"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let report = done.json();
    assert_eq!((&report["rows"], &report["dropped"]), (&json!(100), &json!([])));
    assert_eq!((&report["whole"], &report["possibly_deleted_total"]), (&json!(false), &json!(100)));
    let notes = report["notes"].as_array().unwrap();
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("MANIFEST")), "{report}");
    assert_eq!(place.exported("new").0, ids);
    assert_eq!(bits(&place.exported("new").1), bits(&rows));
    let done = place.run(&["repair", "s", "again"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let text = done.stdout;
    assert!(
        text.ends_with("100 of them may have been deleted or be older; 0 things were dropped\n"),
        "{text}"
    );
    for note in notes {
        assert!(text.lines().any(|line| line == note), "{note} is not in {text}");
    }
    // A document that is damaged is dropped alone.
    let path = place.path("new/00000001.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70 * 6 + 2] ^= 1;
    fs::write(&path, bytes).unwrap();
    let done = place.run(&["repair", "new", "third"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let dropped: Vec<&str> = done.stdout.lines().filter(|line| line.starts_with("dropped: ")).collect();
    assert!(dropped.len() == 1 && dropped[0].contains("00000001.jsonl: byte 420: "), "{done:#?}");
    assert!(dropped[0].ends_with(&format!("(id {})", ids[70])), "{done:#?}");
}

#[test]
fn wrong_places_are_refused() {
    let place = Place::new();
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    place.run(&["import", "t", "in.npy"]).ok();
    fs::create_dir(place.path("other")).unwrap();
    place.write("other/notes.txt", "mine");
    let before = [place.files("s"), place.files("t"), place.files("other")];
    for (from, to, message) in
        [("missing", "new", "missing"), ("s", "t", "t"), ("s", "s", "s"), ("s", "other", "other")]
    {
        place.run(&["repair", from, to]).fails(2, &[message]);
        assert!(!place.path("new").exists());
    }
    place.run(&["repair", "s"]).fails(2, &["NEW"]);
    assert_eq!([place.files("s"), place.files("t"), place.files("other")], before);
}

#[test]
fn a_lost_log_is_told_of() {
    let place = Place::new();
    let (ids, _) = place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    place.run(&["compact", "s"]).ok();
    place.run(&["delete", "s", &ids[0]]).ok();
    place.rows("in", 1, 8);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    let is_log = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "idx");
    let logs: Vec<_> = place.files("s").into_keys().filter(is_log).collect();
    for path in logs {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let new = format!("new-{}", path.file_stem().unwrap().display());
        let done = place.run(&["repair", "s", &new]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""), "{done:#?}");
        assert!(!done.stdout.contains("nothing was dropped"), "{done:#?}");
        fs::write(&path, bytes).unwrap();
    }
    place.run(&["repair", "s", "whole"]).ok();
}
