//! Documents: imported in step with the rows, printed as they are stored, refused by line.

mod common;

use common::{Place, bits, npy_f32, vectors};
use serde_json::{Value, json};

/// Four points on a line; the third has no document.
const DOCUMENTS: &str =
    "{\"title\": \"a\", \"n\": 12345678901234567890123}\r\n[1, \"\u{1F980}\\n\"]\nnull\n  \"d\"";

const IMPORT: [&str; 7] = ["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl"];

fn points() -> Place {
    let place = Place::new();
    place.write("in.npy", npy_f32(&[0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 7.0, 0.0], 2));
    place.write("in.ids", "a\nb\nc\nd\n");
    place.write("in.jsonl", DOCUMENTS);
    place
}

fn counts(summary: &Value) -> Value {
    json!([summary["written"], summary["skipped"], summary["replaced"], summary["live"]])
}

#[test]
fn get_prints_them_digit_for_digit() {
    let place = points();
    place.run(&IMPORT).ok();
    let done = place.run(&["get", "s", "a", "b", "d", "--document"]).ok();
    let lines =
        ["a\t{\"title\": \"a\", \"n\": 12345678901234567890123}", "b\t[1, \"\u{1F980}\\n\"]", "d\t\"d\""];
    assert_eq!(done.stdout, lines.join("\n") + "\n");
    assert_eq!(done.stderr, "");
    let done = place.run(&["get", "s", "a", "c", "--document", "--json"]).ok();
    let lines = [
        "{\"id\":\"a\",\"document\":{\"title\": \"a\", \"n\": 12345678901234567890123}}",
        "{\"id\":\"c\",\"document\":null}",
    ];
    assert_eq!(done.stdout, lines.join("\n") + "\n");
    let none = place.run(&["get", "s", "c", "--document"]).ok();
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("c\tnull\n", "id c has no document\n"));
    let done = place.run(&["get", "s", "x", "d", "--document"]).fails(1, &["1 of 2", "x"]);
    assert_eq!(done.stdout, "d\t\"d\"\n");
    // Without the flag it is the vector.
    assert_eq!(place.run(&["get", "s", "b"]).ok().stdout, "b\t1,0\n");
}

#[test]
fn search_adds_them_on_request() {
    let place = points();
    place.run(&[&IMPORT[..], &["--metric", "l2"]].concat()).ok();
    let search = ["search", "s", "--vector", "3,0", "-k", "3"];
    assert_eq!(place.run(&search).ok().stdout, "0.000000  c\n4.000000  b\n9.000000  a\n");
    let done = place.run(&[&search[..], &["--documents"]].concat()).ok();
    let lines = [
        "0.000000  c\tnull",
        "4.000000  b\t[1, \"\u{1F980}\\n\"]",
        "9.000000  a\t{\"title\": \"a\", \"n\": 12345678901234567890123}",
    ];
    assert_eq!(done.stdout, lines.join("\n") + "\n");
    let hits = place.run(&["search", "s", "--id", "c", "-k", "2", "--documents", "--json"]).ok().json_lines();
    assert_eq!(hits[0], json!({ "id": "b", "distance": 4.0, "document": [1, "\u{1F980}\n"] }));
    place.write("queries.npy", npy_f32(&[7.0, 0.0, 3.0, 0.0], 2));
    let search = ["search", "s", "--query", "queries.npy", "-k", "1", "--documents", "--json"];
    let hits = place.run(&search).ok().json_lines();
    assert_eq!(hits[0], json!({ "query": 0, "id": "d", "distance": 0.0, "document": "d" }));
    assert_eq!(hits[1], json!({ "query": 1, "id": "c", "distance": 0.0, "document": null }));
}

#[test]
fn each_row_keeps_its_own() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 1000, 3);
    let documents: Vec<Value> = (0..1000)
        .map(|n| if n % 7 == 0 { json!(null) } else { json!({ "n": n, "text": "x".repeat(n) }) })
        .collect();
    place.write("in.jsonl", documents.iter().map(|line| format!("{line}\n")).collect::<String>());
    for batch in ["7", "1000"] {
        let done = place.run(&[&IMPORT[..], &["--batch-rows", batch, "--overwrite"]].concat()).ok();
        assert!(done.stderr.contains("acknowledged 1000 of 1000 rows"), "{done:#?}");
        let all: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = place.run(&[&["get", "s", "--document", "--json"], &all[..]].concat()).ok().json_lines();
        for (n, found) in found.iter().enumerate() {
            assert_eq!(*found, json!({ "id": ids[n], "document": documents[n] }));
        }
    }
    assert_eq!(bits(&place.exported("s").1), bits(&rows));
    assert!(place.run(&["info", "s", "--json"]).ok().json()["bytes"]["jsonl"].as_u64() > Some(400_000));
    place.run(&["verify", "s"]).ok();
}

#[test]
fn long_documents_end_a_batch() {
    let place = points();
    let long = format!("\"{}\"\n", "x".repeat(9 << 20));
    place.write("in.jsonl", long.repeat(4));
    let done = place.run(&IMPORT).ok();
    assert!(done.stderr.contains("acknowledged 4 of 4 rows"), "{done:#?}");
    let found = place.run(&["get", "s", "d", "--document"]).ok();
    assert_eq!(found.stdout.len(), 2 + long.len());
}

#[test]
fn resume_writes_rows_whose_document_differs() {
    let place = points();
    let resume = [&IMPORT[..], &["--resume", "--json"]].concat();
    assert_eq!(counts(&place.run(&resume).ok().json()), json!([4, 0, 0, 4]));
    let before = place.files("s");
    assert_eq!(counts(&place.run(&resume).ok().json()), json!([0, 4, 0, 4]));
    // Without documents, rows that are the same are left as they are.
    let without = ["import", "s", "in.npy", "--ids", "in.ids", "--resume", "--json"];
    assert_eq!(counts(&place.run(&without).ok().json()), json!([0, 4, 0, 4]));
    assert_eq!(place.files("s"), before);
    place.write("in.jsonl", DOCUMENTS.replace("null", "{}").replace("\"d\"", "null"));
    assert_eq!(counts(&place.run(&resume).ok().json()), json!([1, 3, 1, 4]));
    let found = || place.run(&["get", "s", "c", "d", "--document", "--json"]).ok().json_lines();
    // null is no document that was given: the stored one stays, as it does where there are none at all.
    assert_eq!(found(), [json!({ "id": "c", "document": {} }), json!({ "id": "d", "document": "d" })]);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    assert_eq!(found(), [json!({ "id": "c", "document": {} }), json!({ "id": "d", "document": "d" })]);
    let remove = [&resume[..], &["--remove-documents"]].concat();
    assert_eq!(counts(&place.run(&remove).ok().json()), json!([1, 3, 1, 4]));
    assert_eq!(found(), [json!({ "id": "c", "document": {} }), json!({ "id": "d", "document": null })]);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids", "--remove-documents"]).ok();
    assert_eq!(place.run(&["get", "s", "a", "--document", "--json"]).ok().json()["document"], json!(null));
}

/// JSON lines say what they say: a member that is null or missing keeps the stored document.
#[test]
fn lines_without_a_document_keep_the_stored_one() {
    let place = Place::new();
    let rows = |second: &str| {
        format!("{{\"id\":\"a\",\"vector\":[1,2]}}\n{{\"id\":\"b\",\"vector\":[3,4]{second}}}\n")
    };
    place.write("first.jsonl", rows(",\"document\":{\"n\":1}"));
    place.run(&["import", "s", "first.jsonl"]).ok();
    let document = || place.run(&["get", "s", "b", "--document", "--json"]).ok().json()["document"].clone();
    for second in ["", ",\"document\":null"] {
        place.write("next.jsonl", rows(second));
        place.run(&["import", "s", "next.jsonl"]).ok();
        assert_eq!(document(), json!({ "n": 1 }), "{second}");
    }
    place.run(&["import", "s", "next.jsonl", "--remove-documents"]).ok();
    assert_eq!(document(), json!(null));
}

#[test]
fn wrong_documents_are_named_by_line_and_nothing_is_stored() {
    let place = points();
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    let before = place.files("s");
    let deep = format!("1\n{}\n3\n4\n", "[".repeat(100_000));
    let cases: [(&[u8], &str); 12] = [
        (b"", "0 JSON values for 4 rows"),
        (b"1\n2\n3\n", "3 JSON values for 4 rows"),
        (b"1\n2\n3\n4\n5\n", "5 JSON values for 4 rows"),
        (b"1\n\n3\n4\n", "line 2: the line is empty; put a JSON value, or null for none, there"),
        (b"1\n2\n3\n4\n\n", "line 5: the line is empty"),
        (b"1\n2\n{\"a\": }\n4\n", "line 3: not one JSON value: expected value at column 7"),
        (b"1\n2 2\n3\n4\n", "line 2: not one JSON value: trailing characters at column 3"),
        (b"{\n\"a\": 1}\n3\n4\n", "line 1: not one JSON value: EOF while parsing an object"),
        (b"1\n2\n3\nNaN\n", "line 4: not one JSON value"),
        (b"1\n \n3\n4\n", "line 2: not one JSON value"),
        (b"1\n\"\xff\"\n3\n4\n", "line 2: the JSON value is not UTF-8"),
        (deep.as_bytes(), "line 2: not one JSON value"),
    ];
    for (bytes, message) in cases {
        place.write("in.jsonl", bytes);
        for more in [&[][..], &["--resume"], &["--batch-rows", "1"]] {
            place.run(&[&IMPORT[..], more].concat()).fails(2, &["in.jsonl", message]);
        }
        assert!(place.files("s") == before, "{message}");
        let new = ["import", "new", "in.npy", "--documents", "in.jsonl"];
        place.run(&new).fails(2, &["in.jsonl", message]);
        assert!(!place.path("new").exists(), "{message}");
    }
    place
        .run(&["import", "s", "in.npy", "--documents", "missing.jsonl"])
        .fails(2, &["missing.jsonl", "open"]);
    place
        .run(&["import", "s", "in.npy", "--documents", "."])
        .fails(2, &["regular file", "one JSON value a line"]);
}

#[test]
fn nan_rows_are_named_beside_documents() {
    let place = points();
    let mut rows = vectors(4, 2);
    rows[5] = f32::NAN;
    place.write("in.npy", npy_f32(&rows, 2));
    place.run(&[&IMPORT[..], &["--batch-rows", "1"]].concat()).fails(2, &["row 2, column 1", "before row 2"]);
    let found = place.run(&["get", "s", "b", "--document", "--json"]).ok().json();
    assert_eq!(found["document"], json!([1, "\u{1F980}\n"]));
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let place = points();
    place.write("in.jsonl", "1\n{\"a\":\t\"\u{9b}2J\u{7f}\"}\n3\n4\n");
    place.run(&IMPORT).ok();
    let done = place.run(&["get", "s", "b", "--document"]).ok();
    assert_eq!(done.stdout, "b\t{\"a\": \"\\u009b2J\\u007f\"}\n");
}
