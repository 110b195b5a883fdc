//! `get` prints what was stored, exactly; exit code 1 if an id is missing.

mod common;

use common::{Place, bits, npy_f32};

#[test]
fn vectors_round_trip_through_text() {
    let place = Place::new();
    let row = [0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, 1.0e-45, std::f32::consts::PI, 16_777_217.0];
    place.write("in.npy", npy_f32(&row, 7));
    place.run(&["import", "s", "in.npy"]).ok();
    let json = place.run(&["get", "s", "in-000000000", "--json"]).ok().json();
    let found: Vec<f32> = serde_json::from_value(json["vector"].clone()).unwrap();
    assert_eq!(bits(&found), bits(&row));
    let text = place.run(&["get", "s", "in-000000000"]).ok().stdout;
    let (id, numbers) = text.trim_end().split_once('\t').unwrap();
    assert_eq!(id, "in-000000000");
    let found: Vec<f32> = numbers.split(',').map(|x| x.parse().unwrap()).collect();
    assert_eq!(bits(&found), bits(&row));
    // What get prints, search takes.
    let hit = place.run(&["search", "s", "--vector", numbers, "--json"]).ok().json();
    assert_eq!(hit["id"], "in-000000000");
}

#[test]
fn missing_ids_are_named_after_the_others_are_printed() {
    let place = Place::new();
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    let done = place.run(&["get", "s", "x", "in-000000001", "y", "--json"]).fails(1, &["2 of 3", "x, y"]);
    assert_eq!(done.json()["id"], "in-000000001");
    let done = place.run(&["get", "s", "a\nb"]).fails(1, &["a\\nb"]);
    assert_eq!(done.stdout, "");
}
