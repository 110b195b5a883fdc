//! Paths that are no store: what is said fits the path and the command.

mod common;

use common::Place;

#[test]
fn what_is_no_path_of_a_store_is_said() {
    let place = Place::new();
    place.rows("in", 2, 2);
    for (path, says) in [
        (":memory:", "a store is a directory; for one that goes away"),
        ("s3://bucket/docs", "a store is a directory of this machine; copy it there"),
        ("gs://bucket", "a store is a directory of this machine"),
        ("file:///tmp/docs", "leave file:// out"),
        ("~/docs", "makes the home directory of ~; write that out"),
    ] {
        let commands: [&[&str]; 7] = [
            &["create", path, "--dim", "2"],
            &["import", path, "in.npy"],
            &["search", path, "--vector", "1,2"],
            &["get", path, "a"],
            &["info", path],
            &["verify", path],
            &["compact", path],
        ];
        for args in commands {
            place.run(args).fails(2, &[says]);
        }
    }
    place.run(&["import", "s", "in.npy"]).ok();
    for path in [":memory:", "s3://bucket/copy", "~/copy"] {
        place.run(&["backup", "s", path]).fails(2, &["no path of a store"]);
        place.run(&["repair", "s", path]).fails(2, &["no path of a store"]);
    }
    let there = std::fs::read_dir(place.path(".")).unwrap().count();
    assert_eq!(there, 3, "the rows, their ids, and one store");
}

#[test]
fn a_missing_parent_is_to_be_made() {
    let place = Place::new();
    place.rows("in", 2, 2);
    place.run(&["import", "s", "in.npy"]).ok();
    let commands: [&[&str]; 4] = [
        &["create", "no/store", "--dim", "2"],
        &["import", "no/store", "in.npy"],
        &["backup", "s", "no/copy"],
        &["repair", "s", "no/repaired"],
    ];
    for args in commands {
        place.run(args).fails(2, &["no/", "in a directory that is missing; make that first"]);
    }
    place.run(&["search", "no/store", "--vector", "1,2"]).fails(2, &["no/store: no store there"]);
}

#[test]
fn a_wrong_path_is_told_which_one_is_right() {
    let place = Place::new();
    place.rows("in", 2, 2);
    place.run(&["import", "docs", "in.npy"]).ok();
    for (path, says) in [
        (".", "docs is one"),
        ("docs/MANIFEST", "it is a file of the store docs"),
        ("docs/00000001.dat", "it is a file of the store docs"),
        ("in.npy", "in.npy: not a vecstone store: it is a file, a store is a directory"),
    ] {
        let commands: [&[&str]; 4] = [
            &["search", path, "--vector", "1,2"],
            &["info", path],
            &["verify", path],
            &["export", path, "out.parquet"],
        ];
        for args in commands {
            let done = place.run(args).fails(2, &[says]);
            assert!(!done.stderr.contains("new"), "nothing is to be made: {done:?}");
        }
    }
    place.run(&["create", ".", "--dim", "2"]).fails(2, &["give a new or empty directory"]);
    place.run(&["import", "in.npy", "docs"]).fails(2, &["docs: a store; give the store first"]);
}
