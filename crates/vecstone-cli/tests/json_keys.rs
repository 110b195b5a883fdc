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
    let row = place.run(&["get", "s", "in-000000000", "--document", "--json"]).ok().json();
    assert_keys(&row, &["id", "document"]);
    for hit in place.run(&["search", "s", "--id", "in-000000000", "--json"]).ok().json_lines() {
        assert_keys(&hit, &["id", "distance"]);
    }
    let search = ["search", "s", "--id", "in-000000000", "-k", "1", "--explain", "--json"];
    let told = place.run(&search).ok().json_lines();
    assert_keys(&told[1], &["explain"]);
    let rows = ["rows_read", "rows_scanned", "rows_refined", "codes_scanned"];
    let others =
        ["exact", "path", "why_exact", "queries", "partitions_visited", "partitions_skipped", "seconds"];
    assert_keys(&told[1]["explain"], &[rows.as_slice(), &others].concat());
    assert_keys(&told[1]["explain"]["seconds"], &["select", "rank", "scan", "refine", "fetch"]);
    for hit in place.run(&["search", "s", "--query", "in.npy", "--json"]).ok().json_lines() {
        assert_keys(&hit, &["query", "id", "distance"]);
    }
    for hit in place.run(&["search", "s", "--vector", "1,2,3", "--documents", "--json"]).ok().json_lines() {
        assert_keys(&hit, &["id", "distance", "document"]);
    }
    let verified = place.run(&["verify", "s", "--json"]).ok().json();
    assert_keys(&verified, &["store", "ok", "bytes", "tail_bytes", "damage", "unlisted"]);
    let exported = place.run(&["export", "s", "o.npy", "--ids", "o.ids", "--json"]).ok().json();
    assert_keys(&exported, &["rows", "dim", "npy", "ids", "bytes"]);
    let deleted = place.run(&["delete", "s", "in-000000000", "--json"]).ok().json();
    assert_keys(&deleted, &["deleted", "missing", "live"]);
    let info = place.run(&["info", "s", "--json"]).ok().json();
    let counts = ["rows", "live", "dead", "buffered", "segments", "per_segment", "side", "bytes", "memory"];
    let counts = [&counts[..], &["effort"]].concat();
    assert_keys(&info["side"][0], &["kind", "files", "rows", "bytes", "modified"]);
    let ratios = [
        "overhead",
        "overhead_without_side",
        "compaction_error",
        "lost_documents",
        "document_error",
        "ids_error",
    ];
    let schema = [
        "path",
        "clean",
        "id_kind",
        "dim",
        "metric",
        "element",
        "attributes",
        "auto_optimize_rows",
        "embed_name",
    ];
    assert_keys(&info, &[&counts[..], &ratios, &schema].concat());
    assert_keys(
        &info["bytes"],
        &["dat", "idx", "ids", "del", "jsonl", "side", "other", "total", "allocated"],
    );
    assert_keys(&info["memory"], &["heap", "buffer", "index", "deletions", "other", "mapped", "resident"]);
    let overhead = info["bytes"]["total"].as_f64().unwrap() / (19.0 * 3.0 * 4.0);
    assert!((info["overhead"].as_f64().unwrap() - overhead).abs() < 1e-9);
    assert_eq!(info["clean"], true);
    let compacted = place.run(&["compact", "s", "--json"]).ok().json();
    assert_keys(
        &compacted,
        &["store", "segments", "rows_dropped", "bytes_freed", "segments_left", "rows_left", "live"],
    );
    let optimized = place.run(&["optimize", "s", "--json"]).ok().json();
    assert_keys(&optimized, &["store", "rows_covered", "rows", "bytes"]);
    place.rows("queries", 40, 3);
    let tuned = place.run(&["tune", "s", "queries.npy", "--json"]).ok().json();
    assert_keys(&tuned, &["store", "effort"]);
    place.rows("long", 300, 32);
    place.run(&["import", "t", "long.npy"]).ok();
    let tuned = place.run(&["tune", "t", "long.npy", "--json"]).ok().json();
    assert_eq!(tuned["effort"], place.run(&["info", "t", "--json"]).ok().json()["effort"]);
    if !tuned["effort"].is_null() {
        assert_keys(&tuned["effort"], &["rows", "queries", "measured", "looked"]);
        assert_keys(&tuned["effort"]["looked"][0], &["k", "recall", "rows"]);
    }
    let copied = place.run(&["backup", "s", "copy", "--json"]).ok().json();
    assert_keys(&copied, &["store", "backup", "files", "bytes", "linked"]);
    let repaired = place.run(&["repair", "s", "repaired", "--json"]).ok().json();
    let totals = ["whole", "dropped_total", "possibly_deleted_total"];
    let lists = ["store", "new", "rows", "dropped", "possibly_deleted", "notes"];
    assert_keys(&repaired, &[&lists[..], &totals].concat());
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
    let all = place.run(&["--help"]).ok().stdout;
    let listed =
        all.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Where a line of text goes on, it begins with more spaces.
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    for command in ["create", "import", "search", "compact", "optimize", "backup", "repair", "demo"] {
        assert!(commands.contains(&command), "{commands:?}");
    }
    for command in commands.into_iter().filter(|command| *command != "help") {
        let help = place.run(&[command, "--help"]).ok().stdout;
        assert!(help.contains(&format!("Example: vecstone {command}")), "{command}");
        assert!(help.contains("--json"), "{command}");
    }
}
