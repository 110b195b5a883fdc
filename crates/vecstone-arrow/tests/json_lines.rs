//! JSON lines: what is taken, digit for digit, and what is refused by line.

mod common;

use std::path::PathBuf;

use common::refused;
use tempfile::TempDir;
use vecstone::Id;
use vecstone_arrow::{Columns, DocumentColumns, RowReader, Rows};

fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn read(text: impl AsRef<[u8]>, columns: &Columns) -> vecstone_arrow::Result<Vec<Rows>> {
    let (_dir, path) = file(text);
    RowReader::open(&path, columns, 1000)?.collect()
}

fn documents_of(text: &str, documents: DocumentColumns) -> Option<Vec<Option<String>>> {
    read(text, &Columns { documents, ..Columns::default() }).unwrap().remove(0).documents
}

#[test]
fn ids_and_vectors() {
    let text = "\u{feff}{\"id\": \"a\\n\", \"vector\": [1, -2.5e0]}\r\n\n  \n{\"x\": {}, \"vector\":[ 0.1 , 16777217 ],\"id\":\"\"}\n\
                {\"id\": 18446744073709551614, \"vector\": [1e-45, 1e39]}";
    let rows = &read(text, &Columns::default()).unwrap()[0];
    assert_eq!(rows.ids, [Id::from("a\n"), Id::from(""), Id::U64(u64::MAX - 1)]);
    assert_eq!(rows.dim, 2);
    assert_eq!(rows.vectors[..], [1.0, -2.5, 0.1, 16_777_216.0, 1e-45, f32::INFINITY]);
    assert_eq!((&rows.documents, &rows.texts), (&None, &None));
}

#[test]
fn numbers_are_rounded_once() {
    // Halfway between two float32 but for digits that a detour over float64 loses.
    let text = "{\"id\": 1, \"vector\": [1.00000017881393432617187499, 1.00000017881393432617187501]}";
    let rows = &read(text, &Columns::default()).unwrap()[0];
    assert_eq!(rows.vectors.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0x3f80_0001, 0x3f80_0002]);
}

#[test]
fn batches_are_bounded_and_numbered() {
    let text: String = (0..25).map(|row| format!("{{\"id\": {row}, \"vector\": [{row}]}}\n")).collect();
    let (_dir, path) = file(&text);
    let reader = RowReader::open(&path, &Columns::default(), 10).unwrap();
    assert_eq!(reader.rows(), None);
    let rows: Vec<Rows> = reader.map(Result::unwrap).collect();
    let found: Vec<(u64, usize)> = rows.iter().map(|rows| (rows.first, rows.ids.len())).collect();
    assert_eq!(found, [(0, 10), (10, 10), (20, 5)]);
    // Long lines end a batch.
    let long = "x".repeat(9 << 20);
    let text: String =
        (0..3).map(|row| format!("{{\"id\": {row}, \"vector\": [1], \"t\": \"{long}\"}}\n")).collect();
    let found: Vec<usize> =
        read(&text, &Columns::default()).unwrap().iter().map(|rows| rows.ids.len()).collect();
    assert_eq!(found, [2, 1]);
}

#[test]
fn documents_keep_their_digits() {
    let text = "{\"id\": 1, \"a\": 12345678901234567890123, \"vector\": [1], \"document\": {\"x\" :\t[1.50]}, \"b\": \"\\u00e9\"}\n\
                {\"document\": null, \"id\": 2, \"vector\": [2]}\n";
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(documents_of(text, DocumentColumns::None), None);
    assert_eq!(documents_of(text, DocumentColumns::IfThere), Some(vec![some("{\"x\" :\t[1.50]}"), None]));
    assert_eq!(
        documents_of(text, DocumentColumns::Others),
        Some(vec![
            some("{\"a\":12345678901234567890123,\"document\":{\"x\" :\t[1.50]},\"b\":\"\\u00e9\"}"),
            None
        ])
    );
    let named =
        |names: &[&str]| DocumentColumns::Named(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        documents_of(text, named(&["b", "a"])),
        Some(vec![some("{\"b\":\"\\u00e9\",\"a\":12345678901234567890123}"), some("{}")])
    );
    assert_eq!(documents_of(text, named(&["document"])), Some(vec![some("{\"x\" :\t[1.50]}"), None]));
    assert_eq!(documents_of("{\"id\": 1, \"vector\": [1]}", DocumentColumns::IfThere), None);
}

#[test]
fn texts() {
    let columns = Columns { vector: None, text: Some("t".to_owned()), ..Columns::default() };
    let rows = read("{\"id\": 1, \"t\": \"one\\n\"}\n{\"id\": 2, \"t\": null}", &columns).unwrap().remove(0);
    assert_eq!((rows.texts, rows.dim), (Some(vec![Some("one\n".to_owned()), None]), 0));
    refused(read("{\"id\": 1, \"t\": 1}", &columns), &["line 1", "\"t\" is not text"]);
}

#[test]
fn what_is_wrong_is_named_by_line() {
    let good = "{\"id\": 1, \"vector\": [1, 2]}\n\n";
    let deep = format!("{{\"id\": 1, \"vector\": [1, 2], \"x\": {}", "[".repeat(100_000));
    let cases = [
        ("{\"id\": 1, \"vector\": [1]}", "the vector has 1 component where 2 are expected"),
        ("{\"id\": 1, \"vector\": []}", "0 components"),
        ("{\"id\": 1, \"vector\": [1, null]}", "component 1 of the vector is not a number"),
        ("{\"id\": 1, \"vector\": [1, \"2\"]}", "component 1"),
        ("{\"id\": 1, \"vector\": [[1], [2]]}", "component 0"),
        ("{\"id\": 1, \"vector\": [1, true]}", "component 1"),
        ("{\"id\": 1, \"vector\": \"1, 2\"}", "not an array of numbers"),
        ("{\"id\": 1, \"vector\": [1, NaN]}", "not one JSON object: expected value at column"),
        ("{\"id\": 1, \"vektor\": [1, 2]}", "no \"vector\" for the vectors; the keys are \"id\", \"vektor\""),
        ("{\"vector\": [1, 2]}", "no \"id\" for the ids"),
        ("{}", "no \"id\" for the ids; the keys are none"),
        ("{\"id\": -1, \"vector\": [1, 2]}", "the id -1 is not one"),
        ("{\"id\": 1.0, \"vector\": [1, 2]}", "the id 1.0 is not one"),
        ("{\"id\": null, \"vector\": [1, 2]}", "the id null is not one"),
        ("{\"id\": 18446744073709551616, \"vector\": [1, 2]}", "is not one"),
        ("{\"id\": [1], \"vector\": [1, 2]}", "is not one"),
        ("[1, [1, 2]]", "not one JSON object"),
        ("{\"id\": 1, \"vector\": [1, 2]} {}", "trailing characters"),
        ("{\"id\": 1, \"vector\": [1, 2]", "not one JSON object: EOF"),
        (&deep, "not one JSON object"),
    ];
    for (line, message) in cases {
        let error = refused(
            read(format!("{good}{line}\n{good}"), &Columns::default()),
            &["in.jsonl", "line 3", message],
        );
        assert!(error.to_string().len() < 400);
    }
    refused(
        read([good.as_bytes(), b"{\"id\": \"\xff\"}"].concat(), &Columns::default()),
        &["line 3", "UTF-8"],
    );
    let dim = Columns { dim: Some(3), ..Columns::default() };
    refused(read(good, &dim), &["line 1", "2 components where 3 are expected"]);
    let named = Columns { documents: DocumentColumns::Named(vec!["title".to_owned()]), ..Columns::default() };
    refused(read(good, &named), &["line 1", "no \"title\" for the documents"]);
}
