//! `search` prints the nearest ids, nearest first; `--id` leaves itself out.

mod common;

use common::{Place, debian, npy, npy_f32};
use serde_json::{Value, json};

/// Four points on a line, so that distances are known.
fn points() -> Place {
    let place = Place::new();
    place.write("in.npy", npy_f32(&[0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 7.0, 0.0], 2));
    place.write("in.ids", "a\nb\nc\nd\n");
    place.run(&["import", "s", "in.npy", "--ids", "in.ids", "--metric", "l2"]).ok();
    place
}

fn ids(hits: &[Value]) -> Vec<&str> {
    hits.iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

#[test]
fn by_id_leaves_the_id_out() {
    let place = points();
    let hits = place.run(&["search", "s", "--id", "b", "-k", "2", "--json"]).ok().json_lines();
    assert_eq!(hits, [json!({ "id": "a", "distance": 1.0 }), json!({ "id": "c", "distance": 4.0 })]);
    let hits = place.run(&["search", "s", "--id", "b", "-k", "2", "--with-self", "--json"]).ok().json_lines();
    assert_eq!(ids(&hits), ["b", "a"]);
    for k in ["10", "18446744073709551615"] {
        let hits = place.run(&["search", "s", "--id", "b", "-k", k, "--json"]).ok().json_lines();
        assert_eq!(ids(&hits), ["a", "c", "d"]);
    }
}

#[test]
fn twins_do_not_push_the_id_in() {
    let place = Place::new();
    place.write("in.npy", npy_f32(&[1.0; 12], 3));
    place.write("in.ids", "a\nb\nc\nd\n");
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    let hits = place.run(&["search", "s", "--id", "d", "-k", "2", "--json"]).ok().json_lines();
    assert_eq!(ids(&hits), ["a", "b"]);
}

#[test]
fn by_numbers() {
    let place = points();
    let done = place.run(&["search", "s", "--vector", "6, 0", "-k", "1"]).ok();
    assert_eq!(done.stdout, "1.000000  d\n");
    let hits = place.run(&["search", "s", "--vector", "-1,0", "--json"]).ok().json_lines();
    assert_eq!(ids(&hits), ["a", "b", "c", "d"]);
}

#[test]
fn by_file_one_or_many() {
    let place = points();
    place.write("one.npy", npy("'<f4'", false, "(2,)", &[0; 8]));
    place.write("row.npy", npy_f32(&[0.0, 0.0], 2));
    for query in ["one.npy", "row.npy"] {
        let hits = place.run(&["search", "s", "--query", query, "-k", "1", "--json"]).ok().json_lines();
        assert_eq!(hits, [json!({ "id": "a", "distance": 0.0 })]);
    }
    place.write("many.npy", npy_f32(&[8.0, 0.0, 1.0, 0.0, 0.0, 0.0], 2));
    let hits = place.run(&["search", "s", "--query", "many.npy", "-k", "1", "--json"]).ok().json_lines();
    let found: Vec<_> =
        hits.iter().map(|hit| (hit["query"].as_u64().unwrap(), hit["id"].as_str().unwrap())).collect();
    assert_eq!(found, [(0, "d"), (1, "b"), (2, "a")]);
    let done = place.run(&["search", "s", "--query", "many.npy", "-k", "1"]).ok();
    assert_eq!(done.stdout, "query 0:\n1.000000  d\nquery 1:\n0.000000  b\nquery 2:\n0.000000  a\n");
}

#[test]
fn refused_queries() {
    let place = points();
    place.run(&["search", "s", "--id", "nobody"]).fails(1, &["nobody", "not stored"]);
    place.write("wide.npy", npy_f32(&[0.0; 3], 3));
    place.run(&["search", "s", "--query", "wide.npy"]).fails(2, &["wide.npy", "dimension 2"]);
    place.write("nan.npy", npy_f32(&[0.0, 0.0, 0.0, f32::NAN], 2));
    place.run(&["search", "s", "--query", "nan.npy"]).fails(2, &["nan.npy", "row 1, column 1"]);
}

#[test]
fn empty_store_has_no_neighbours() {
    let place = Place::new();
    place.run(&["create", "s", "--dim", "2"]).ok();
    let done = place.run(&["search", "s", "--vector", "1,2", "--json"]).ok();
    assert_eq!(done.stdout, "");
}

#[test]
fn browsers_are_near_browsers() {
    let (npy, ids_file) = debian();
    let place = Place::new();
    place.run(&["import", "s", npy.to_str().unwrap(), "--ids", ids_file.to_str().unwrap()]).ok();
    let hits = place.run(&["search", "s", "--id", "firefox-esr", "-k", "3", "--json"]).ok().json_lines();
    assert_eq!(ids(&hits), ["firefox-esr-mobile-config", "esbuild", "chromium"]);
    let distances: Vec<f64> = hits.iter().map(|hit| hit["distance"].as_f64().unwrap()).collect();
    assert!(distances.is_sorted() && (0.3..0.5).contains(&distances[0]), "{distances:?}");
}

#[test]
fn filtered_and_within_a_radius() {
    let place = Place::new();
    place.write("in.npy", npy_f32(&[0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 7.0, 0.0], 2));
    place.write("in.ids", "a\nb\nc\nd\n");
    place.write("in.jsonl", "{\"year\": 2019}\n{\"year\": 2020}\nnull\n{\"year\": 2021}\n");
    let import = ["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl", "--metric", "l2"];
    place.run(&import).ok();
    let found = |more: &[&str]| {
        let search = [&["search", "s", "--vector", "0,0", "--json"], more].concat();
        let hits = place.run(&search).ok().json_lines();
        ids(&hits).concat()
    };
    let recent = r#"{"year": {"$gte": 2020}}"#;
    assert_eq!(found(&["--filter", recent]), "bd");
    assert_eq!(found(&["--filter", recent, "-k", "1"]), "b");
    assert_eq!(found(&["--radius", "9"]), "abc");
    place.run(&["search", "s", "--vector", "0,0", "--radius", "-1"]).fails(2, &["no l2 distance is below 0"]);
    assert_eq!(found(&["--filter", recent, "--radius", "9"]), "b");
    let done = place.run(&["search", "s", "--id", "b", "--filter", recent]).ok();
    assert_eq!(done.stdout, "36.000000  d\n");
    place.write("many.npy", npy_f32(&[8.0, 0.0, 1.0, 0.0], 2));
    let done = place.run(&["search", "s", "--query", "many.npy", "-k", "1", "--filter", recent]).ok();
    assert_eq!(done.stdout, "query 0:\n1.000000  d\nquery 1:\n0.000000  b\n");
    let refused = ["search", "s", "--vector", "0,0", "--filter", r#"{"year": {"$after": 1}}"#];
    place.run(&refused).fails(2, &["$after", "year", "$gte"]);
    place.run(&["search", "s", "--vector", "0,0", "--radius", "nan"]).fails(2, &["radius"]);
}

/// After the hits of each query, in text and in JSON.
#[test]
fn a_search_explains_itself() {
    let place = points();
    let done = place.run(&["search", "s", "--vector", "6,0", "-k", "1", "--explain", "--recall", "0.9"]).ok();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["1.000000  d", "exact  yes", "path   scan of every row; exact, as there are no codes to go by"]
    );
    assert!(lines[3].starts_with("rows   4 read, ") && lines[4].starts_with("time   "), "{lines:?}");
    assert_eq!(lines.len(), 5);
    place.write("many.npy", npy_f32(&[8.0, 0.0, 1.0, 0.0], 2));
    let search = ["search", "s", "--query", "many.npy", "-k", "1", "--explain", "--json"];
    let lines = place.run(&search).ok().json_lines();
    assert_eq!(lines.len(), 4);
    for (query, told) in lines[1..].iter().step_by(2).enumerate() {
        assert_eq!((&told["query"], &told["explain"]["exact"]), (&json!(query), &json!(true)));
        assert_eq!((&told["explain"]["path"], &told["explain"]["queries"]), (&json!("scan"), &json!(2)));
    }
}
