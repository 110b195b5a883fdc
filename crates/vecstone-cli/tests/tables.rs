//! Parquet, Arrow IPC and JSON lines: out of a store and into another, resumed, refused by row or line.
#![cfg(feature = "arrow")]

mod common;

use common::{Place, npy_f32, vectors};
use serde_json::{Value, json};
use vecstone::{Id, IdKind, Metric, Uuid, VectorStore};

const FORMATS: [&str; 5] = ["parquet", "arrow", "feather", "jsonl", "ndjson"];

fn id(kind: IdKind, row: usize) -> Id {
    match kind {
        IdKind::String => Id::from(format!("\u{1F980} {row}\n")),
        IdKind::U64 => Id::from(row as u64),
        IdKind::Uuid => Id::from(Uuid::from_u128(row as u128)),
    }
}

/// 30 rows, two of three with a document.
fn store(place: &Place, name: &str, kind: IdKind) {
    let store = VectorStore::create(place.path(name), 3, Metric::L2).unwrap();
    for (row, vector) in vectors(30, 3).chunks(3).enumerate() {
        match row % 3 {
            0 => store.put(id(kind, row), vector).unwrap(),
            _ => store.put_with_document(id(kind, row), vector, &format!("{{\"row\": {row}.00}}")).unwrap(),
        }
    }
    store.close().unwrap();
}

fn contents(place: &Place, name: &str) -> Vec<(Id, Vec<f32>, Option<String>)> {
    let store = VectorStore::open_read_only(place.path(name)).unwrap();
    store.snapshot().unwrap().iter_with_documents().map(Result::unwrap).collect()
}

fn counts(summary: &Value) -> Value {
    json!([summary["rows"], summary["written"], summary["skipped"], summary["replaced"], summary["live"]])
}

#[test]
fn what_is_exported_imports_as_it_was() {
    for kind in [IdKind::String, IdKind::U64, IdKind::Uuid] {
        let place = Place::new();
        store(&place, "s", kind);
        for format in FORMATS {
            let (file, copy) = (format!("out.{format}"), format!("from-{format}"));
            let done = place.run(&["export", "s", &file, "--json"]).ok().json();
            assert_eq!(done["rows"], 30);
            assert_eq!(done["bytes"], std::fs::metadata(place.path(&file)).unwrap().len());
            // The name says nothing.
            std::fs::rename(place.path(&file), place.path("in.bin")).unwrap();
            let import = ["import", &copy, "in.bin", "--metric", "l2", "--json"];
            // JSON has no UUIDs of its own.
            let more = ["--id-kind", kind.name()];
            let more = if kind == IdKind::Uuid && format.contains("json") { &more[..] } else { &[] };
            let done = place.run(&[&import[..], more].concat()).ok();
            assert_eq!(counts(&done.json()), json!([30, 30, 0, 0, 30]), "{kind:?} {format}");
            assert_eq!(contents(&place, &copy), contents(&place, "s"), "{kind:?} {format}");
        }
    }
}

#[test]
fn progress_tells_the_total_where_it_is_known() {
    let place = Place::new();
    store(&place, "s", IdKind::U64);
    for (file, told) in [
        ("out.parquet", ["acknowledged 7 of 30 rows (", "acknowledged 30 of 30 rows ("]),
        ("out.arrow", ["acknowledged 7 of 30 rows (", "acknowledged 30 of 30 rows ("]),
        ("out.jsonl", ["acknowledged 7 rows (", "acknowledged 30 rows ("]),
    ] {
        place.run(&["export", "s", file]).ok();
        let done = place.run(&["import", file.trim_start_matches("out."), file, "--batch-rows", "7"]).ok();
        assert!(done.stderr.contains(told[1]), "{done:#?}");
        assert!(done.stdout.contains("30 rows written, 0 skipped, 0 replaced"), "{done:#?}");
    }
}

#[test]
fn a_complete_import_has_nothing_to_resume() {
    let place = Place::new();
    store(&place, "s", IdKind::U64);
    for format in FORMATS {
        let (file, copy) = (format!("out.{format}"), format!("from-{format}"));
        place.run(&["export", "s", &file]).ok();
        let resume = ["import", &copy, &file, "--resume", "--json", "--batch-rows", "8"];
        assert_eq!(counts(&place.run(&resume).ok().json()), json!([30, 30, 0, 0, 30]));
        let before = place.files(&copy);
        assert_eq!(counts(&place.run(&resume).ok().json()), json!([30, 0, 30, 0, 30]));
        assert_eq!(place.files(&copy), before, "{format}");
        place.run(&["delete", &copy, "3", "29"]).ok();
        assert_eq!(counts(&place.run(&resume).ok().json()), json!([30, 2, 28, 0, 30]));
        // Without --resume it is an upsert of every row.
        let upsert = ["import", &copy, &file, "--json"];
        assert_eq!(counts(&place.run(&upsert).ok().json()), json!([30, 30, 0, 30, 30]));
    }
}

#[test]
fn of_rows_with_one_id_the_last_wins_and_a_rerun_writes_nothing() {
    let place = Place::new();
    let lines: String = ["a", "b", "a", "c", "b", "a", "d", "d"]
        .iter()
        .enumerate()
        .map(|(row, id)| format!("{{\"id\": \"{id}\", \"vector\": [{row}, 1]}}\n"))
        .collect();
    place.write("in.jsonl", lines);
    for batch in ["1", "3", "100"] {
        std::fs::remove_dir_all(place.path("s")).ok();
        let import = ["import", "s", "in.jsonl", "--json", "--batch-rows", batch];
        assert_eq!(counts(&place.run(&import).ok().json()), json!([8, 8, 0, 4, 4]), "batch {batch}");
        let resume = [&import[..], &["--resume"]].concat();
        assert_eq!(counts(&place.run(&resume).ok().json()), json!([8, 0, 8, 0, 4]), "batch {batch}");
        let found = contents(&place, "s");
        let found: Vec<(String, f32)> =
            found.iter().map(|(id, vector, _)| (id.to_string(), vector[0])).collect();
        assert_eq!(found, [("c", 3.0), ("b", 4.0), ("a", 5.0), ("d", 7.0)].map(|(id, x)| (id.to_owned(), x)));
    }
}

#[test]
fn columns_are_chosen() {
    let place = Place::new();
    place.write(
        "in.jsonl",
        "{\"key\": \"a\", \"emb\": [1, 2], \"title\": \"A\", \"year\": 1999, \"x\": null}\n\
         {\"key\": \"b\", \"emb\": [3, 4], \"title\": \"B\", \"year\": 2.50}\n",
    );
    let import = ["import", "s", "in.jsonl", "--id-column", "key", "--vector-column", "emb"];
    let documents = |more: &[&str]| {
        place.run(&[&import[..], more].concat()).ok();
        contents(&place, "s").into_iter().map(|(_, _, document)| document).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(documents(&[]), [None, None]);
    let named = [some("{\"year\":1999,\"title\":\"A\"}"), some("{\"year\":2.50,\"title\":\"B\"}")];
    assert_eq!(documents(&["--document-columns", "year,title"]), named);
    let all = [some("{\"title\":\"A\",\"year\":1999,\"x\":null}"), some("{\"title\":\"B\",\"year\":2.50}")];
    assert_eq!(documents(&["--document-columns", "*"]), all);
    // Without documents, rows that are the same are left as they are.
    let done = place.run(&[&import[..], &["--resume", "--json"]].concat()).ok().json();
    assert_eq!(counts(&done), json!([2, 0, 2, 0, 2]));
    place
        .run(&["import", "t", "in.jsonl"])
        .fails(2, &["in.jsonl", "line 1", "no \"id\"", "\"key\", \"emb\""]);
    let wrong = [&import[..], &["--document-columns", "title,yaer"]].concat();
    place.run(&wrong).fails(2, &["line 1", "no \"yaer\" for the documents"]);
    store(&place, "u", IdKind::U64);
    for file in ["out.parquet", "out.arrow"] {
        place.run(&["export", "u", file]).ok();
        let wrong = ["import", "t", file, "--vector-column", "emb"];
        place.run(&wrong).fails(2, &[file, "no column \"emb\"", "\"id\", \"vector\", \"document\""]);
    }
    assert!(!place.path("t").exists());
}

#[test]
fn text_is_read_as_the_kind_of_the_store() {
    let place = Place::new();
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    place.write("uuid.jsonl", format!("{{\"id\": \"{uuid}\", \"vector\": [1]}}\n"));
    place.write("text.jsonl", "{\"id\": \"7\", \"vector\": [1]}\n{\"id\": \"x\", \"vector\": [1]}\n");
    place.write("number.jsonl", "{\"id\": 7, \"vector\": [1]}\n");
    place.run(&["import", "uuids", "uuid.jsonl", "--id-kind", "uuid"]).ok();
    place.run(&["import", "uuids", "uuid.jsonl", "--resume"]).ok();
    assert_eq!(contents(&place, "uuids")[0].0, Id::from(Uuid::parse_str(uuid).unwrap()));
    assert_eq!(contents(&place, "uuids").len(), 1);
    place.run(&["import", "numbers", "number.jsonl"]).ok();
    place.run(&["import", "numbers", "text.jsonl"]).fails(2, &["text.jsonl", "row 1", "\"x\"", "kind u64"]);
    place.run(&["import", "texts", "number.jsonl", "--id-kind", "string"]).ok();
    assert_eq!(contents(&place, "texts")[0].0, Id::from("7"));
    // What was not asked for is refused, not made up.
    place.run(&["import", "texts", "number.jsonl"]).fails(2, &["kind string", "kind u64"]);
    place.run(&["import", "texts", "number.jsonl", "--id-kind", "u64"]).fails(2, &["kind string"]);
    place.run(&["import", "uuids", "number.jsonl"]).fails(2, &["kind uuid"]);
}

#[test]
fn what_is_refused_changes_nothing() {
    let place = Place::new();
    store(&place, "s", IdKind::String);
    store(&place, "u", IdKind::U64);
    place.run(&["export", "s", "good.parquet"]).ok();
    place.run(&["export", "s", "good.arrow"]).ok();
    place.run(&["export", "u", "numbers.parquet"]).ok();
    place.write("in.npy", npy_f32(&vectors(3, 3), 3));
    place.write("ids", "a\nb\nc\n");
    let parquet = std::fs::read(place.path("good.parquet")).unwrap();
    let arrow = std::fs::read(place.path("good.arrow")).unwrap();
    place.write("cut.parquet", &parquet[..parquet.len() - 1]);
    place.write("cut.arrow", &arrow[..arrow.len() - 1]);
    place.write("noise.parquet", [b"PAR1", &[0xa5; 500][..], b"PAR1"].concat());
    place.write("other.jsonl", "{\"id\": \"x\", \"vector\": [1, 2]}");
    place.write("cut.jsonl", "{\"id\": \"x\", \"vector\": [1, 2");
    place.write("none.jsonl", "\n{");
    place.write("empty", "");
    place.write("text.csv", "id,vector\n");
    let before = place.files("s");
    let cases: [(&[&str], &[&str]); 17] = [
        (&["cut.parquet"], &["cut.parquet", "cannot be read as Parquet"]),
        (&["cut.arrow"], &["cut.arrow", "cut short"]),
        (&["noise.parquet"], &["noise.parquet", "cannot be read as Parquet"]),
        (&["numbers.parquet"], &["kind string", "kind u64"]),
        (&["other.jsonl"], &["other.jsonl", "dimension 3", "has 2"]),
        (&["cut.jsonl"], &["cut.jsonl", "line 1", "EOF"]),
        (&["none.jsonl"], &["line 2"]),
        (&["empty"], &["empty"]),
        (&["text.csv"], &["text.csv", "not a .npy file"]),
        (&["good.parquet", "--ids", "ids"], &["--ids", "--id-column"]),
        (&["good.parquet", "--id-prefix", "x"], &["--id-prefix"]),
        (&["good.parquet", "--documents", "ids"], &["--documents", "--document-columns"]),
        (&["good.parquet", "--metric", "ip"], &["metric is l2"]),
        (&["in.npy", "--ids", "ids", "--id-column", "x"], &["no columns", "--ids"]),
        (&["in.npy", "--ids", "ids", "--vector-column", "x"], &["no columns"]),
        (&["in.npy", "--ids", "ids", "--document-columns", "x"], &["no columns"]),
        (&["good.parquet", "--id-column", "document"], &["row 0", "null"]),
    ];
    for (args, message) in cases {
        for resume in [&[][..], &["--resume"]] {
            place.run(&[&["import", "s"], args, resume].concat()).fails(2, message);
            assert!(place.files("s") == before, "{args:?} changed the store");
        }
    }
}

#[test]
fn rows_before_a_bad_one_are_stored_and_named() {
    let place = Place::new();
    let line = |row: usize| match row {
        57 => "{\"id\": 57, \"vector\": [1, 1e39]}\n".to_owned(),
        row => format!("{{\"id\": {row}, \"vector\": [{row}, 1]}}\n"),
    };
    place.write("in.jsonl", (0..100).map(line).collect::<String>());
    let import = ["import", "s", "in.jsonl", "--batch-rows", "10"];
    let done =
        place.run(&import).fails(2, &["in.jsonl", "row 57, column 1 is not a finite", "before row 50"]);
    assert!(done.stderr.contains("acknowledged 50 rows"), "{done:#?}");
    assert_eq!(contents(&place, "s").len(), 50);
    place.write("in.jsonl", (0..100).map(|row| line(row).replace("1e39", "\"x\"")).collect::<String>());
    let resume = [&import[..], &["--resume"]].concat();
    place.run(&resume).fails(2, &["in.jsonl", "line 58", "component 1"]);
    place.write("in.jsonl", (0..100).map(|row| line(row).replace("1e39", "1")).collect::<String>());
    place.run(&resume).ok();
    assert_eq!(contents(&place, "s").len(), 100);
}

#[test]
fn tables_without_rows() {
    let place = Place::new();
    place.run(&["create", "s", "--dim", "3"]).ok();
    for format in ["parquet", "arrow"] {
        let file = format!("none.{format}");
        place.run(&["export", "s", &file]).ok();
        let done = place.run(&["import", "s", &file, "--json"]).ok().json();
        assert_eq!(counts(&done), json!([0, 0, 0, 0, 0]));
        place.run(&["import", "new", &file]).fails(2, &[&file, "no rows", "vecstone create"]);
        assert!(!place.path("new").exists());
    }
}

#[test]
fn exports_that_are_refused() {
    let place = Place::new();
    store(&place, "s", IdKind::String);
    std::fs::create_dir(place.path("dir.parquet")).unwrap();
    let before = place.files("s");
    for (args, message) in [
        (&["out.npy"][..], "--ids"),
        (&["out"], ".parquet"),
        (&["out.parquet", "--ids", "out.ids"], "leave --ids out"),
        (&["s/out.parquet"], "inside the store"),
        (&["dir.parquet"], "not a regular file"),
        (&["missing/out.arrow"], "missing"),
    ] {
        place.run(&[&["export", "s"], args].concat()).fails(2, &[message]);
    }
    assert_eq!(place.files("s"), before);
    assert!(!place.path("out.parquet").exists());
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let place = Place::new();
    place.rows("in", 5000, 64);
    place.run(&["import", "s", "in.npy"]).ok();
    for format in ["parquet", "arrow", "jsonl"] {
        let file = format!("out.{format}");
        place.write(&file, "old");
        let done = place.run_limited("ulimit -f 500", &["export", "s", &file, "--force"]);
        done.fails(2, &[&file, "cannot write"]);
        assert_eq!(std::fs::read(place.path(&file)).unwrap(), b"old");
    }
}

#[test]
fn columns_that_are_not_read_are_named_once() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"id\":\"a\",\"vector\":[1,2],\"year\":1999,\"title\":\"x\"}\n");
    place.run(&["import", "s", "rows.jsonl", "--document-columns", "*"]).ok();
    place.run(&["export", "s", "rows.parquet"]).ok();
    let note = |args: &[&str]| place.run(&[&["import"], args].concat()).ok().stderr;
    for args in [&["t", "rows.jsonl"][..], &["u", "rows.parquet", "--vector-column", "vector"]] {
        let said = note(args).matches("not read").count();
        assert_eq!(said, usize::from(args[1] == "rows.jsonl"), "{args:?}");
    }
    let said = note(&["v", "rows.jsonl", "--resume"]);
    assert!(said.contains("rows.jsonl: not read: year, title; --document-columns"), "{said}");
    assert_eq!(said.matches("not read").count(), 1);
    for columns in ["year", "*"] {
        assert!(!note(&[columns, "rows.jsonl", "--document-columns", columns]).contains("not read"));
    }
}
