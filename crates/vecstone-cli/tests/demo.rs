//! `demo` does what it says, and leaves nothing behind unless asked to.

mod common;

use common::Place;
use std::fs;

#[test]
fn demo_runs_from_end_to_end() {
    let place = Place::new();
    let text = place.run(&["demo", "kept"]).ok().stdout;
    for step in ["1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. ", "nearest to firefox-esr", "byte for byte"] {
        assert!(text.contains(step), "{step:?} is not in {text}");
    }
    let info = place.run(&["info", "kept/packages", "--json"]).ok().json();
    assert_eq!(info["live"], 4096);
    place.run(&["demo", "kept"]).fails(2, &["kept"]);
}

#[test]
fn demo_in_a_directory_of_its_own_is_removed() {
    let place = Place::new();
    fs::create_dir(place.path("tmp")).unwrap();
    let output = std::process::Command::new(common::BIN)
        .args(["demo", "--json"])
        .env("TMPDIR", place.path("tmp"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["rows"], 4096);
    assert!(summary["recovered"].as_u64() >= summary["acknowledged"].as_u64());
    assert_eq!(
        summary["resumed"]["written"].as_u64().unwrap() + summary["resumed"]["skipped"].as_u64().unwrap(),
        4096
    );
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}
