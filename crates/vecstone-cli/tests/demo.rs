//! `demo` does what it says, and leaves nothing behind unless asked to.

mod common;

use common::{Place, debian};
use std::fs;

#[test]
fn demo_runs_from_end_to_end() {
    let place = Place::new();
    let text = place.run(&["demo", "kept"]).ok().stdout;
    for step in ["1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. ", "nearest to firefox-esr", "byte for byte"] {
        assert!(text.contains(step), "{step:?} is not in {text}");
    }
    let info = place.run(&["info", "kept/packages", "--json"]).ok().json();
    assert_eq!(info["live"], 256);
    place.run(&["demo", "kept"]).fails(2, &["kept"]);
}

/// What `make demo` runs.
#[test]
fn demo_takes_files_of_vectors_and_ids() {
    let place = Place::new();
    let (npy, ids) = debian();
    let (npy, ids) = (npy.to_str().unwrap(), ids.to_str().unwrap());
    let summary = place.run(&["demo", "kept", "--json", "--vectors", npy, "--ids", ids]).ok().json();
    assert_eq!(summary["rows"], 4096);
    assert_eq!(place.run(&["info", "kept/packages", "--json"]).ok().json()["live"], 4096);
    assert_eq!(summary["searches"][1]["neighbors"][0][0], "vlc-plugin-video-splitter");
}

#[test]
fn demo_refuses_files_that_do_not_fit_before_it_makes_a_directory() {
    let place = Place::new();
    let (npy, _) = debian();
    let npy = npy.to_str().unwrap();
    place.run(&["demo", "kept", "--vectors", npy]).fails(2, &["--ids"]);
    place.run(&["demo", "kept", "--vectors", "none.npy", "--ids", "none"]).fails(2, &["none.npy"]);
    fs::write(place.path("few"), "a\nb\n").unwrap();
    place.run(&["demo", "kept", "--vectors", npy, "--ids", "few"]).fails(2, &["2 ids", "4096 rows"]);
    let twice: String = (0..4096).map(|row| format!("{}\n", row % 4000)).collect();
    fs::write(place.path("twice"), twice).unwrap();
    place.run(&["demo", "kept", "--vectors", npy, "--ids", "twice"]).fails(2, &["the id 0 comes twice"]);
    assert!(!place.path("kept").exists());
}

/// The bundled rows are rows of the repository's file, as float16, and show the same neighbours.
#[test]
fn bundled_rows_are_of_the_real_ones() {
    let place = Place::new();
    let found = |args: &[&str]| place.run(args).ok().json()["searches"].clone();
    let (npy, ids) = debian();
    let (few, all) = (
        found(&["demo", "--json"]),
        found(&["demo", "--json", "--vectors", npy.to_str().unwrap(), "--ids", ids.to_str().unwrap()]),
    );
    for (few, all) in few.as_array().unwrap().iter().zip(all.as_array().unwrap()) {
        let (few, all) = (few["neighbors"].as_array().unwrap(), all["neighbors"].as_array().unwrap());
        for (few, all) in few.iter().zip(all) {
            assert_eq!(few[0], all[0]);
            assert!((few[1].as_f64().unwrap() - all[1].as_f64().unwrap()).abs() < 2e-3, "{few} {all}");
        }
    }
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
    assert_eq!(summary["rows"], 256);
    assert!(summary["recovered"].as_u64() >= summary["acknowledged"].as_u64());
    assert_eq!(
        summary["resumed"]["written"].as_u64().unwrap() + summary["resumed"]["skipped"].as_u64().unwrap(),
        256
    );
    assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}
