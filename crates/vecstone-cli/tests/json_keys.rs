//! `--json` on everything that reports, with keys that stay.

mod common;

use common::Place;
use serde_json::Value;

#[track_caller]
fn assert_keys(value: &Value, expected: &[&str]) {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = expected.to_vec();
    keys.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys, expected);
}

#[test]
fn keys_of_every_command() {
    let place = Place::new();
    place.rows("in", 20, 3);
    let created = place.run(&["create", "s", "--dim", "3", "--json"]).ok().json();
    assert_keys(&created, &["store", "dim", "metric"]);
    assert_eq!(created["metric"], "cosine");
    let imported = place.run(&["import", "s", "in.npy", "--json"]).ok().json();
    let keys =
        ["store", "file", "created", "rows", "written", "skipped", "replaced", "live", "bytes", "seconds"];
    assert_keys(&imported, &keys);
    let row = place.run(&["get", "s", "in-000000000", "--json"]).ok().json();
    assert_keys(&row, &["id", "vector"]);
    for hit in place.run(&["search", "s", "--id", "in-000000000", "--json"]).ok().json_lines() {
        assert_keys(&hit, &["id", "distance"]);
    }
    for hit in place.run(&["search", "s", "--query", "in.npy", "--json"]).ok().json_lines() {
        assert_keys(&hit, &["query", "id", "distance"]);
    }
    let verified = place.run(&["verify", "s", "--json"]).ok().json();
    assert_keys(&verified, &["store", "ok", "bytes", "tail_bytes", "damage"]);
    let exported = place.run(&["export", "s", "o.npy", "--ids", "o.ids", "--json"]).ok().json();
    assert_keys(&exported, &["rows", "dim", "npy", "ids", "bytes"]);
    let deleted = place.run(&["delete", "s", "in-000000000", "--json"]).ok().json();
    assert_keys(&deleted, &["deleted", "missing", "live"]);
    let info = place.run(&["info", "s", "--json"]).ok().json();
    let keys =
        ["rows", "live", "dead", "dim", "metric", "element", "segments", "bytes", "overhead", "memory"];
    assert_keys(&info, &[&keys[..], &["path", "clean"]].concat());
    assert_keys(&info["bytes"], &["dat", "idx", "side", "total", "allocated"]);
    assert_keys(&info["memory"], &["heap", "mapped", "resident"]);
    let overhead = info["bytes"]["total"].as_f64().unwrap() / (19.0 * 3.0 * 4.0);
    assert!((info["overhead"].as_f64().unwrap() - overhead).abs() < 1e-9);
    assert_eq!(info["clean"], true);
    let mut old = [&b"OMEN"[..], &1u32.to_le_bytes(), &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    old.resize(256, 0);
    place.write("old.dat", old);
    place.write("old.idx", "");
    let migrated = place.run(&["migrate", "old", "new", "--json"]).ok().json();
    assert_keys(&migrated, &["not_taken", "store", "taken", "reasons", "header_rows", "file_rows", "dim"]);
}

#[test]
fn every_command_has_a_help_with_an_example() {
    let place = Place::new();
    let commands =
        ["create", "import", "get", "search", "delete", "info", "verify", "export", "migrate", "demo"];
    for command in commands {
        let help = place.run(&[command, "--help"]).ok().stdout;
        assert!(
            help.contains(&format!("Example: vecstone {command} "))
                || help.contains("Example: vecstone demo")
        );
        assert!(help.contains("--json"), "{command}");
    }
}
