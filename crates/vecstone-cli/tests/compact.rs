//! `compact` gives the space of dead rows back and keeps everything else; `optimize` builds side files and changes nothing.

mod common;

use common::{Place, bits};
use serde_json::json;
use std::fs;
use vecstone::{OpenOptions, VectorStore};

#[test]
fn dead_rows_go_and_the_others_stay() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 1000, 8);
    let documents: String = (0..1000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    place.write("in.jsonl", documents);
    let import = ["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl"];
    place.run(&import).ok();
    place.run(&import).ok();
    let dead: Vec<&str> = ids[..100].iter().map(String::as_str).collect();
    place.run(&[&["delete", "s"], &dead[..]].concat()).ok();
    let before = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&before["live"], &before["dead"]), (&json!(900), &json!(1100)));
    let order = place.exported("s");

    let report = place.run(&["compact", "s", "--json"]).ok().json();
    assert_eq!((&report["rows_dropped"], &report["live"]), (&json!(1100), &json!(900)));
    assert!(report["bytes_freed"].as_u64() >= Some(1100 * 32), "{report}");
    let after = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&after["live"], &after["dead"]), (&json!(900), &json!(0)));
    assert!(after["bytes"]["dat"].as_u64() < Some(1000 * 32));
    assert!(after["bytes"]["jsonl"].as_u64() < before["bytes"]["jsonl"].as_u64());
    let (found_ids, found) = place.exported("s");
    assert_eq!((&found_ids, bits(&found)), (&order.0, bits(&order.1)));
    assert_eq!(bits(&found), bits(&rows[800..]));
    let document = place.run(&["get", "s", &ids[500], "--document", "--json"]).ok().json();
    assert_eq!(document["document"], json!({ "n": 500 }));
    place.run(&["verify", "s"]).ok();

    let again = place.files("s");
    let text = place.run(&["compact", "s"]).ok().stdout;
    assert!(text.starts_with("nothing to compact in s") && text.lines().count() == 1, "{text}");
    assert_eq!(place.files("s"), again, "compacting what is compact changes nothing");
    place.run(&import).ok();
    // A segment without live rows may be gone by now.
    place.run(&["compact", "s"]).ok();
    let after = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&after["live"], &after["dead"]), (&json!(1000), &json!(0)));
}

#[test]
fn what_is_left_is_said() {
    let place = Place::new();
    place.rows("in", 1000, 8);
    place.run(&["import", "s", "in.npy"]).ok();
    place.run(&["delete", "s", "in-000000000", "in-000000001"]).ok();
    let before = place.files("s");
    let text = place.run(&["compact", "s"]).ok().stdout;
    assert!(text.starts_with("nothing compacted in s, which holds 998 rows"), "{text}");
    assert!(
        text.contains("2 dead rows are left in 1 segment, a share below 0.01 of each; --min-dead 0"),
        "{text}"
    );
    assert_eq!(place.files("s"), before, "nothing was changed");
    let report = place.run(&["compact", "s", "--json"]).ok().json();
    assert_eq!((&report["segments_left"], &report["rows_left"]), (&json!(1), &json!(2)));
    place.run(&["compact", "s", "--min-dead", "2"]).fails(2, &["share of dead rows 2 is not 0 to 1"]);
    let report = place.run(&["compact", "s", "--min-dead", "0", "--json"]).ok().json();
    assert_eq!((&report["rows_dropped"], &report["rows_left"]), (&json!(2), &json!(0)));
    place.run(&["verify", "s"]).ok();
}

#[test]
fn wrong_stores_are_refused() {
    let place = Place::new();
    place.run(&["compact", "missing"]).fails(2, &["missing", "no store there"]);
    place.run(&["compact"]).fails(2, &["STORE"]);
    place.write("file", "not a store");
    place.run(&["compact", "file"]).fails(2, &["not a vecstone store"]);
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let store = VectorStore::open(place.path("s")).unwrap();
    place.run(&["compact", "s"]).fails(2, &["locked by process"]);
    store.close().unwrap();
}

#[test]
fn a_damaged_row_is_named_and_nothing_is_lost() {
    let place = Place::new();
    place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy"]).ok();
    place.run(&["delete", "s", "in-000000000"]).ok();
    let dat = place.path("s/00000001.dat");
    let mut bytes = fs::read(&dat).unwrap();
    bytes[256 + 50 * 32] ^= 1;
    fs::write(&dat, &bytes).unwrap();
    place.run(&["compact", "s", "--json"]).fails(2, &["00000001.dat", "byte 1856", "checksum"]);
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], 99);
    bytes[256 + 50 * 32] ^= 1;
    fs::write(&dat, &bytes).unwrap();
    place.run(&["compact", "s"]).ok();
    place.run(&["verify", "s"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["dead"], 0);
}

#[test]
fn optimize_builds_side_files() {
    let place = Place::new();
    place.run(&["create", "s", "--dim", "8", "--auto-optimize-rows", "7"]).ok();
    place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy"]).ok();
    let info = || place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!(info()["auto_optimize_rows"], 7);
    let store = OpenOptions::new().without_background().segment_records(10).open(place.path("s")).unwrap();
    store.put("one more", &[1.0; 8]).and_then(|()| store.flush()).unwrap();
    store.put("another", &[1.0; 8]).unwrap();
    store.close().unwrap();
    fs::remove_file(place.path("s/00000001.ids")).unwrap();
    let sealed = info()["per_segment"][0]["rows"].as_u64().unwrap();
    assert!(sealed >= 100 && info()["segments"] == 2);
    let report = place.run(&["optimize", "s", "--json"]).ok().json();
    assert_eq!((&report["store"], &report["rows"]), (&json!("s"), &json!(102)));
    let ids = &info()["side"][0];
    assert_eq!((&ids["kind"], &ids["rows"]), (&json!("ids"), &json!(sealed)));
    assert!(place.path("s/00000001.ids").exists() && ids["bytes"] == report["bytes"]);
    let text = place.run(&["optimize", "s"]).ok().stdout;
    assert!(text.starts_with("side files of s are up to date: ") && text.contains("of 102 rows"), "{text}");
    let text = place.run(&["info", "s"]).ok().stdout;
    assert!(text.contains(&format!("side       ids: {sealed} of 102 rows, 1 file, ")), "{text}");
    place.rows("long", 300, 32);
    place.run(&["import", "t", "long.npy"]).ok();
    place.run(&["optimize", "t"]).ok();
    let text = place.run(&["info", "t"]).ok().stdout;
    assert!(text.contains("side       centres: 1 file, "), "{text}");
    assert!(text.contains("side       codes: 300 of 300 rows, 1 file, "), "{text}");
    assert!(text.contains(", made ") && text.contains(" ago"), "{text}");
    let measured = |with: &str| {
        let line = format!("rows looked at by recall of the 10 nearest, measured {with}300 rows ");
        let text = place.run(&["info", "t"]).ok().stdout;
        assert!(text.contains(&line) || !text.contains("effort"), "{text}");
    };
    measured("on ");
    let text = place.run(&["tune", "t", "long.npy"]).ok().stdout;
    assert!(text.contains(" 0.99: ") || text.starts_with("every search is exact"), "{text}");
    measured("with 300 queries of yours on ");
    place.run(&["optimize", "missing"]).fails(2, &["missing", "no store there"]);
}
