//! Ids of every kind: given as text, kept as what they are, and refused where they are not of the store's kind.

mod common;

use common::{Place, bits, npy_f32, vectors};
use serde_json::json;

const UUIDS: [&str; 3] = [
    "00000000-0000-0000-0000-000000000000",
    "67e55044-10b1-426f-9247-bb680e5fe0c8",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
];
const NUMBERS: [&str; 3] = ["0", "42", "18446744073709551614"];

/// A store of three rows with these ids.
fn store(kind: &str, ids: &str) -> (Place, Vec<f32>) {
    let place = Place::new();
    let rows = vectors(3, 2);
    place.write("in.npy", npy_f32(&rows, 2));
    place.write("in.ids", ids);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids", "--id-kind", kind, "--metric", "l2"]).ok();
    (place, rows)
}

#[test]
fn every_kind_round_trips() {
    for (kind, ids) in [("u64", NUMBERS), ("uuid", UUIDS), ("string", NUMBERS), ("string", UUIDS)] {
        let (place, rows) = store(kind, &ids.join("\n"));
        let info = place.run(&["info", "s", "--json"]).ok().json();
        assert_eq!((&info["id_kind"], &info["live"]), (&json!(kind), &json!(3)));
        let text = place.run(&["info", "s"]).ok().stdout;
        assert!(text.lines().any(|line| line == format!("ids        {kind}")), "{text}");
        for (row, id) in ids.iter().enumerate() {
            let found = place.run(&["get", "s", id, "--json"]).ok().json();
            assert_eq!(found, json!({ "id": id, "vector": rows[row * 2..][..2] }));
            let nearest =
                place.run(&["search", "s", "--id", id, "--with-self", "-k", "1", "--json"]).ok().json();
            assert_eq!(nearest["id"], *id);
            let others = place.run(&["search", "s", "--id", id, "--json"]).ok().json_lines();
            assert!(others.len() == 2 && others.iter().all(|hit| hit["id"] != *id), "{others:?}");
        }
        let (found_ids, found) = place.exported("s");
        assert_eq!(found_ids, ids);
        assert_eq!(bits(&found), bits(&rows));
        let deleted = place.run(&["delete", "s", ids[1], ids[1], "--json"]).ok().json();
        assert_eq!(deleted, json!({ "deleted": 1, "missing": [], "live": 2 }));
        place.run(&["get", "s", ids[1]]).fails(1, &["1 of 1", ids[1]]);
    }
}

#[test]
fn other_spellings_are_the_same_id() {
    let (place, _) = store("u64", "007\n8\r\n9\n");
    assert_eq!(place.run(&["get", "s", "0007", "--json"]).ok().json()["id"], "7");
    let deleted = place.run(&["delete", "s", "7", "07", "--json"]).ok().json();
    assert_eq!(deleted, json!({ "deleted": 1, "missing": [], "live": 2 }));

    let upper = UUIDS[1].to_uppercase();
    let (place, _) = store("uuid", &format!("{{{}}}\n{}\n{upper}\n", UUIDS[0], UUIDS[1].replace('-', "")));
    assert_eq!(place.exported("s").0, UUIDS[..2]);
    assert_eq!(place.run(&["get", "s", &upper, "--json"]).ok().json()["id"], UUIDS[1]);
    // A rerun knows that the second row is superseded by the third.
    let import = ["import", "s", "in.npy", "--ids", "in.ids", "--resume", "--json"];
    let again = place.run(&import).ok().json();
    assert_eq!((&again["written"], &again["skipped"]), (&json!(0), &json!(3)));
}

#[test]
fn the_kind_of_a_store_needs_not_be_given_again() {
    let (place, _) = store("u64", &NUMBERS.join("\n"));
    place.write("more.ids", "1\n2\n0\n");
    let more = place.run(&["import", "s", "in.npy", "--ids", "more.ids", "--json"]).ok().json();
    assert_eq!((&more["written"], &more["replaced"], &more["live"]), (&json!(3), &json!(1), &json!(5)));
    let before = place.files("s");
    let import = ["import", "s", "in.npy", "--ids", "more.ids", "--id-kind"];
    for kind in ["string", "uuid"] {
        place.run(&[&import[..], &[kind]].concat()).fails(2, &["of kind u64", kind, "leave --id-kind out"]);
    }
    assert_eq!(place.files("s"), before);
}

#[test]
fn rows_without_ids_are_counted() {
    let place = Place::new();
    place.rows("in", 5, 2);
    place.run(&["import", "s", "in.npy", "--id-kind", "u64"]).ok();
    assert_eq!(place.exported("s").0, ["0", "1", "2", "3", "4"]);
    place.run(&["delete", "s", "0", "1"]).ok();
    let before = place.files("s");
    place.run(&["import", "s", "in.npy"]).fails(2, &["id 2 is already stored", "--resume", "--overwrite"]);
    assert_eq!(place.files("s"), before);
    let done = place.run(&["import", "s", "in.npy", "--resume", "--json"]).ok().json();
    assert_eq!((&done["written"], &done["skipped"]), (&json!(2), &json!(3)));
    for args in [&["--id-kind", "uuid"][..], &["--id-kind", "u64", "--id-prefix", "p"]] {
        place.run(&[&["import", "new", "in.npy"], args].concat()).fails(2, &["--ids"]);
        assert!(!place.path("new").exists());
    }
}

#[test]
fn ids_of_another_kind_are_refused() {
    let place = Place::new();
    place.rows("in", 3, 2);
    let cases = [
        ("u64", "1\n-2\n3\n", "line 2: \"-2\" is not an id of kind u64"),
        ("u64", "1\n2\n18446744073709551616\n", "line 3: \"18446744073709551616\" is not"),
        ("u64", "1\n2 \n3\n", "line 2: \"2 \" is not"),
        ("u64", "one\n2\n3\n", "line 1: \"one\" is not an id of kind u64; give a number from 0"),
        ("u64", "1\n\n3\n", "line 2: the line is empty"),
        ("uuid", "1\n2\n3\n", "line 1: \"1\" is not an id of kind uuid; give 32 hexadecimal digits"),
    ];
    for (kind, ids, message) in cases {
        place.write("in.ids", ids);
        let import = ["import", "new", "in.npy", "--ids", "in.ids", "--id-kind", kind];
        place.run(&import).fails(2, &["in.ids", message]);
        assert!(!place.path("new").exists());
    }
    place.run(&["import", "new", "in.npy", "--id-kind", "int"]).fails(2, &["--id-kind", "u64"]);

    for (kind, ids) in [("u64", NUMBERS), ("uuid", UUIDS)] {
        let (place, _) = store(kind, &ids.join("\n"));
        let before = place.files("s");
        let message = format!("\"x\" is not an id of kind {kind}");
        for args in
            [&["get", "s", ids[0], "x"][..], &["delete", "s", ids[0], "x"], &["search", "s", "--id", "x"]]
        {
            let done = place.run(args).fails(2, &[&message]);
            assert_eq!(done.stdout, "");
        }
        assert_eq!(place.files("s"), before, "one wrong id, and nothing is deleted");
    }
}

#[test]
fn a_store_without_rows_has_no_kind() {
    let place = Place::new();
    place.run(&["create", "s", "--dim", "2"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["id_kind"], json!(null));
    assert!(place.run(&["info", "s"]).ok().stdout.contains("ids        none yet\n"));
    place.run(&["get", "s", "x"]).fails(1, &["1 of 1", "x"]);
    place.run(&["search", "s", "--id", "x"]).fails(1, &["x", "not stored"]);
    place.run(&["delete", "s", "x"]).fails(1, &["1 of 1", "x"]);
    place.rows("in", 3, 2);
    place.run(&["import", "s", "in.npy", "--id-kind", "u64"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["id_kind"], "u64");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let place = Place::new();
    place.write("in.npy", npy_f32(&vectors(3, 2), 2));
    place.write("in.ids", "\u{feff}a\nb\n\u{feff}c\n");
    place.write("in.jsonl", "\u{feff}{\"n\":1}\nnull\n3\n");
    place.run(&["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl"]).ok();
    assert_eq!(place.run(&["get", "s", "a", "--document"]).ok().stdout, "a\t{\"n\":1}\n");
    assert_eq!(place.exported("s").0, ["a", "b", "\u{feff}c"]);
    let longest = format!("\u{feff}{}\r\nb\nc\n", "x".repeat(65_536));
    place.write("long.ids", &longest);
    place.run(&["import", "t", "in.npy", "--ids", "long.ids"]).ok();
    place.write("long.ids", longest.replacen('x', "xx", 1));
    place.run(&["import", "u", "in.npy", "--ids", "long.ids"]).fails(2, &["line 1", "more than 65536 bytes"]);
    place.write("numbers.ids", "\u{feff}1\n2\n3\n");
    place.run(&["import", "v", "in.npy", "--ids", "numbers.ids", "--id-kind", "u64"]).ok();
    assert_eq!(place.exported("v").0, ["1", "2", "3"]);
}

#[test]
fn the_largest_number_is_the_same_everywhere() {
    let (place, _) = store("u64", "1\n2\n18446744073709551614\n");
    let above = "18446744073709551615";
    for args in [&["get", "s", above][..], &["delete", "s", above], &["search", "s", "--id", above]] {
        place.run(args).fails(2, &[above, "from 0 to 18446744073709551614"]);
    }
    place.write("above.ids", format!("1\n2\n{above}\n"));
    let import = ["import", "t", "in.npy", "--ids", "above.ids", "--id-kind", "u64"];
    place.run(&import).fails(2, &["line 3", above]);
    place.write("rows.jsonl", format!("{{\"id\":{above},\"vector\":[1,2]}}\n"));
    place.run(&["import", "u", "rows.jsonl"]).fails(2, &["line 1", above, "2^64 - 2"]);
    assert!(!place.path("t").exists() && !place.path("u").exists());
}
