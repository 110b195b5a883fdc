//! Numbers of one are singular, whatever is printed.

mod common;

use common::Place;

/// Words that stand behind a number where something is counted.
const PLURALS: [&str; 14] = [
    "rows",
    "ids",
    "segments",
    "files",
    "bytes",
    "things",
    "places",
    "documents",
    "batches",
    "components",
    "queries",
    "are",
    "were",
    "vectors",
];

#[track_caller]
fn check(said: &str) {
    let words: Vec<&str> = said.split_whitespace().collect();
    for at in 0..words.len() {
        let number = words[at].trim_start_matches('(');
        let next = |by: usize| {
            words.get(at + by).map_or("", |word| word.trim_end_matches(|c: char| !c.is_alphabetic()))
        };
        // "9 of 1 rows" and "1 dead rows", too.
        let is_dead = words.get(at + 1) == Some(&"dead");
        let plural = PLURALS.contains(&next(1)) || (is_dead && PLURALS.contains(&next(2)));
        assert!(number != "1" || !plural, "{:?} in {said}", words[at..].iter().take(3).collect::<Vec<_>>());
    }
}

#[test]
fn one_row_is_a_row() {
    let place = Place::new();
    place.rows("in", 1, 1);
    place.rows("two", 2, 1);
    std::fs::write(place.path("three.ids"), "a\nb\nc\n").unwrap();
    std::fs::write(place.path("one.ids"), "a\n").unwrap();
    std::fs::write(
        place.path("bad.jsonl"),
        "{\"id\": \"a\", \"vector\": [1, 2]}\n{\"id\": \"b\", \"vector\": [1]}\n",
    )
    .unwrap();
    let commands: [&[&str]; 22] = [
        &["import", "s", "in.npy"],
        &["import", "s", "in.npy", "--resume"],
        &["import", "s", "in.npy", "--overwrite"],
        &["import", "t", "in.npy", "--ids", "three.ids"],
        &["import", "t", "two.npy", "--ids", "one.ids"],
        &["import", "t", "bad.jsonl", "--batch-rows", "1"],
        &["info", "s"],
        &["get", "s", "missing"],
        &["get", "s", "0"],
        &["search", "s", "--vector", "1,2"],
        &["search", "s", "--vector", "1", "--explain"],
        &["compact", "s"],
        &["optimize", "s"],
        &["backup", "s", "copy"],
        &["repair", "s", "repaired"],
        &["export", "s", "out.npy", "--ids", "out.ids"],
        &["export", "s", "out.parquet"],
        &["verify", "s"],
        &["delete", "s", "missing"],
        &["delete", "s", "--where", "{\"a\": 1}"],
        &["delete", "s", "0", "missing"],
        &["delete", "t", "a"],
    ];
    for args in commands {
        let done = place.run(args);
        check(&done.stdout);
        check(&done.stderr);
    }
    // One byte of one row is damaged.
    place.run(&["import", "u", "in.npy"]).ok();
    let dat = place.path("u/00000001.dat");
    let mut bytes = std::fs::read(&dat).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&dat, bytes).unwrap();
    for args in [&["verify", "u"][..], &["repair", "u", "again"]] {
        let done = place.run(args);
        check(&done.stdout);
        check(&done.stderr);
    }
}
