//! An import killed anywhere loses nothing it acknowledged, and `--resume` writes only what is missing.

mod common;

use common::{Place, bits, kill_after};
use std::io::{BufRead, BufReader};
use std::process::Command;
use vecstone::VectorStore;

#[track_caller]
fn assert_rows(store: &VectorStore, ids: &[String], vectors: &[f32], rows: usize) {
    for (row, vector) in vectors.chunks_exact(store.dim()).enumerate().take(rows) {
        let stored =
            store.get(&ids[row]).unwrap().unwrap_or_else(|| panic!("row {row} of {rows} is missing"));
        assert_eq!(bits(&stored), bits(vector), "row {row}");
    }
}

#[test]
fn every_acknowledged_row_survives_sigkill() {
    let import = ["import", "s", "in.npy", "--ids", "in.ids"];
    for kill_at in [1, 16, 100, 333, 500, 777, 1000, 1500, 1999] {
        let place = Place::new();
        let (ids, vectors) = place.rows("in", 2000, 96);
        let child = place.start(&[&import[..], &["--batch-rows", "16"]].concat());
        let acknowledged = kill_after(child, kill_at);
        assert!(acknowledged >= kill_at);
        let recovered = {
            let store = VectorStore::open(place.path("s")).unwrap();
            let rows = store.len().unwrap();
            assert!(rows >= acknowledged);
            assert_eq!(rows % 16, 0, "whole batches only");
            assert_rows(&store, &ids, &vectors, rows);
            rows
        };
        let resumed = place.run(&[&import[..], &["--resume", "--json"]].concat()).ok().json();
        assert_eq!(resumed["skipped"], recovered);
        assert_eq!(resumed["written"], 2000 - recovered);
        let (found_ids, found) = place.exported("s");
        assert_eq!(found_ids, ids);
        assert_eq!(bits(&found), bits(&vectors));
    }
}

/// A second Ctrl-C would end it at once; the first lets it say what is stored.
#[cfg(unix)]
#[test]
fn ctrl_c_says_what_is_stored_and_how_to_go_on() {
    let import = ["import", "s", "in.npy", "--batch-rows", "4"];
    let place = Place::new();
    let (_, vectors) = place.rows("in", 20_000, 32);
    let mut child = place.start(&import);
    let (mut said, mut pressed) = (String::new(), false);
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said = line.unwrap();
        if said.starts_with("acknowledged ") && !pressed {
            let pid = child.id();
            assert!(Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().unwrap().success());
            pressed = true;
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(130), "{said}");
    let rows = VectorStore::open(place.path("s")).unwrap().len().unwrap();
    let go_on = "run the same import again with --resume to go on";
    assert_eq!(said, format!("vecstone: interrupted; {rows} of 20000 rows are stored; {go_on}"));
    place.run(&["import", "s", "in.npy", "--resume"]).ok();
    assert_eq!(bits(&place.exported("s").1), bits(&vectors));
}

#[test]
fn resume_alone_recovers_too() {
    let import = ["import", "s", "in.npy", "--batch-rows", "16"];
    let place = Place::new();
    let (_, vectors) = place.rows("in", 1000, 32);
    for kill_at in [1, 200, 500] {
        let child = place.start(&[&import[..], &["--resume"]].concat());
        kill_after(child, kill_at);
    }
    place.run(&[&import[..], &["--resume"]].concat()).ok();
    assert_eq!(bits(&place.exported("s").1), bits(&vectors));
}

#[test]
fn ten_thousand_saved_ten_thousand_recovered() {
    let place = Place::new();
    let (ids, vectors) = place.rows("in", 10_000, 768);
    let child = place.start(&["import", "s", "in.npy", "--ids", "in.ids"]);
    assert_eq!(kill_after(child, 10_000), 10_000);
    let store = VectorStore::open(place.path("s")).unwrap();
    assert_eq!(store.len().unwrap(), 10_000);
    assert_rows(&store, &ids, &vectors, 10_000);
}
