//! `export` writes files that NumPy reads, or nothing at all.

mod common;

use common::{Place, bits};
use std::fs;
use vecstone::VectorStore;

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn header_is_as_numpy_writes_it() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    place.run(&["export", "s", "out.npy", "--ids", "out.ids"]).ok();
    let npy = fs::read(place.path("out.npy")).unwrap();
    assert_eq!(&npy[..8], b"\x93NUMPY\x01\x00");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
    assert_eq!(&npy[10..10 + header.len()], header.as_bytes());
    assert_eq!((npy.len() - 24) % 64, 0, "data begins at a multiple of 64");
    assert_eq!(bits(&common::f32_of(&npy)), bits(&rows));
    assert_eq!(fs::read_to_string(place.path("out.ids")).unwrap(), ids.join("\n") + "\n");
    assert_eq!(npy, fs::read(place.path("in.npy")).unwrap());
}

#[test]
fn what_is_exported_imports_as_it_was() {
    let place = Place::new();
    place.rows("in", 50, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    place.run(&["delete", "s", "in-000000007"]).ok();
    place.run(&["export", "s", "a.npy", "--ids", "a.ids"]).ok();
    place.run(&["import", "t", "a.npy", "--ids", "a.ids"]).ok();
    place.run(&["export", "t", "b.npy", "--ids", "b.ids"]).ok();
    for end in ["npy", "ids"] {
        let read = |name: &str| fs::read(place.path(&format!("{name}.{end}"))).unwrap();
        assert!(read("a") == read("b"), "{end}");
    }
}

#[test]
fn line_break_in_an_id_leaves_nothing_behind() {
    for id in ["a\nb", "a\rb", "a\r"] {
        let place = Place::new();
        let store = VectorStore::create(place.path("s"), 1, vecstone::Metric::L2).unwrap();
        store.put("fine", &[1.0]).unwrap();
        store.put(id, &[2.0]).unwrap();
        store.close().unwrap();
        let before = names(&place);
        let named = id.escape_debug().to_string();
        place
            .run(&["export", "s", "out.npy", "--ids", "out.ids"])
            .fails(2, &[&named, "line break", "export to .parquet or .jsonl"]);
        assert_eq!(names(&place), before);
    }
}

#[test]
fn what_is_there_is_replaced_only_with_force() {
    let place = Place::new();
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    for (there, args) in [
        ("out.npy", &["out.npy", "--ids", "out.ids"][..]),
        ("out.ids", &["out.npy", "--ids", "out.ids"]),
        ("out.parquet", &["out.parquet"]),
        ("out.jsonl", &["out.jsonl"]),
    ] {
        place.write(there, "old");
        let args = [&["export", "s"], args].concat();
        let before = names(&place);
        place.run(&args).fails(2, &[there, "already there", "--force"]);
        assert_eq!((names(&place), fs::read(place.path(there)).unwrap()), (before, b"old".to_vec()));
        place.run(&[&args, &["--force"][..]].concat()).ok();
        assert_ne!(fs::read(place.path(there)).unwrap(), b"old");
        for name in ["out.npy", "out.ids"] {
            _ = fs::remove_file(place.path(name));
        }
    }
}

#[test]
fn an_unknown_ending_is_no_npy() {
    let place = Place::new();
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    let before = names(&place);
    for out in ["out.csv", "out", "out.npz", "out.json", "out.npy.gz", ".npy"] {
        place.run(&["export", "s", out, "--ids", "out.ids"]).fails(2, &[out, ".parquet", ".jsonl"]);
        place.run(&["export", "s", out, "--force"]).fails(2, &[out, ".parquet", ".jsonl"]);
        assert_eq!(names(&place), before);
    }
    place.run(&["export", "s", "OUT.NPY", "--ids", "out.ids"]).ok();
    place.run(&["export", "s", "OUT.JSONL"]).ok();
    assert!(fs::read_to_string(place.path("OUT.JSONL")).unwrap().starts_with("{\"id\""));
}

#[test]
fn refused_targets_stay_as_they_were() {
    let place = Place::new();
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    fs::create_dir(place.path("dir")).unwrap();
    let before = names(&place);
    let store = place.files("s");
    let cases = [
        ("out.npy", "out.npy", "two different files"),
        ("out.npy", "./out.npy", "two different files"),
        ("dir", "out.ids", "not a regular file"),
        ("out.npy", "dir", "not a regular file"),
        ("s/out.npy", "out.ids", "inside the store"),
        ("out.npy", "dir/../s/00000001.idx", "inside the store"),
        ("missing/out.npy", "out.ids", "missing"),
        ("..", "out.ids", "not the name of a file"),
    ];
    for (out, ids, message) in cases {
        place.run(&["export", "s", out, "--ids", ids]).fails(2, &[message]);
        assert_eq!(names(&place), before, "{out} {ids}");
    }
    assert_eq!(place.files("s"), store);
}

#[cfg(unix)]
#[test]
fn full_disk_leaves_the_old_files() {
    let place = Place::new();
    place.rows("in", 5000, 64);
    place.run(&["import", "s", "in.npy"]).ok();
    place.write("out.npy", "old");
    let before = names(&place);
    let done = place.run_limited("ulimit -f 500", &["export", "s", "out.npy", "--ids", "out.ids", "--force"]);
    done.fails(2, &["out.npy", "cannot write"]);
    assert_eq!(names(&place), before);
    assert_eq!(fs::read(place.path("out.npy")).unwrap(), b"old");
}
