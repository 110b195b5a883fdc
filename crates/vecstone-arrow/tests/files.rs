//! Files in every format and compression: read as they are, refused if they are damaged; never a panic.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use arrow_array::{ArrayRef, Int64Array, LargeStringArray, RecordBatchReader, StringArray};
use arrow_schema::ArrowError;
use common::{all_rows, batch, files, ids, parquet, refused, vectors};
use vecstone::Id;
use vecstone_arrow::{Columns, DocumentColumns, Error, Format, JsonLines, RowReader, open};

const ROWS: usize = 40;

/// A file in each format with three batches, 40 rows of dim 4 in all, and columns that nobody asks for.
fn written() -> (tempfile::TempDir, Vec<std::path::PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let titles: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|row| format!("title {row}"))));
    let years: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| i64::try_from(row).unwrap())));
    let all =
        batch(vec![("title", titles), ("vector", vectors(ROWS, 4)), ("year", years), ("id", ids(ROWS))]);
    let batches = [all.slice(0, 11), all.slice(11, 0), all.slice(11, 9), all.slice(20, 20)];
    let files = files(&dir, &batches);
    (dir, files)
}

#[test]
fn every_format_is_read_as_it_is() {
    let (_dir, files) = written();
    let documents = DocumentColumns::Named(vec!["year".to_owned()]);
    let columns = Columns { documents, ..Columns::default() };
    for file in files {
        for batch_rows in [1, 6, 11, 1000] {
            let reader = RowReader::open(&file, &columns, batch_rows).unwrap();
            assert_eq!(reader.rows(), Some(ROWS as u64), "{}", file.display());
            let (mut ids, mut vectors, mut documents) = (Vec::new(), Vec::new(), Vec::new());
            for rows in reader {
                let rows = rows.unwrap();
                assert_eq!((rows.first, rows.dim), (ids.len() as u64, 4));
                assert!((1..=batch_rows).contains(&rows.ids.len()));
                documents.extend(rows.documents.unwrap());
                ids.extend(rows.ids);
                vectors.extend_from_slice(&rows.vectors);
            }
            assert_eq!(ids, (0..ROWS).map(|row| Id::from(format!("id-{row}"))).collect::<Vec<_>>());
            assert_eq!(vectors, all_rows(ROWS, 4));
            assert_eq!(documents[39].as_deref(), Some(r#"{"year":39}"#));
        }
    }
}

#[test]
fn only_the_columns_that_are_needed() {
    let (_dir, files) = written();
    for file in files {
        let reader = open(&file, &Columns::default(), 10).unwrap();
        let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["vector", "id"]);
        assert_eq!(reader.rows(), ROWS as u64);
        assert!(reader.unread().iter().any(|name| name == "title"), "{:?}", reader.unread());
        assert!(!reader.unread().iter().any(|name| names.contains(name)));
        let all = Columns { documents: DocumentColumns::Others, ..Columns::default() };
        assert!(open(&file, &all, 10).unwrap().unread().is_empty());
        let ids = Columns { vector: None, ..Columns::default() };
        for rows in RowReader::open(&file, &ids, 1000).unwrap() {
            let rows = rows.unwrap();
            assert_eq!((rows.dim, rows.vectors.len()), (0, 0));
        }
    }
}

#[test]
fn formats_are_told_by_content_and_errors_name_the_file() {
    let (dir, files) = written();
    for file in files {
        let other = dir.path().join("other.bin");
        fs::copy(&file, &other).unwrap();
        let format = Format::of(&other).unwrap();
        assert_eq!(format == Format::Parquet, file.extension().unwrap() == "parquet");
        let columns = Columns { id: "key".to_owned(), ..Columns::default() };
        refused(
            RowReader::open(&other, &columns, 9),
            &["other.bin", "no column \"key\"", "\"title\", \"vector\""],
        );
        let columns = Columns { dim: Some(5), ..Columns::default() };
        refused(
            RowReader::open(&other, &columns, 9).unwrap().next().unwrap(),
            &["other.bin", "row 0", "5 are"],
        );
        refused(JsonLines::open(&other, &columns, 9).map(|_| ()), &["other.bin", "not JSON lines"]);
    }
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty", b"", "it is empty"),
        ("npy", b"\x93NUMPY\x01\0", ".npy"),
        ("text", b"hello", "nor Parquet"),
        ("array", b"[{\"id\": 1}]", "one object a line"),
    ];
    for (name, bytes, message) in cases {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        refused(RowReader::open(&path, &Columns::default(), 9), &[name, message]);
    }
    refused(RowReader::open(dir.path(), &Columns::default(), 9), &["not a regular file"]);
    refused(RowReader::open(dir.path().join("missing"), &Columns::default(), 9), &["missing", "cannot open"]);
    let lines = dir.path().join("lines");
    fs::write(&lines, b"{}").unwrap();
    refused(open(&lines, &Columns::default(), 9).map(|_| ()), &["JSON lines"]);
}

/// Reads all of it; only the end matters.
fn outcome(path: &Path) -> Result<u64, Error> {
    let columns = Columns { documents: DocumentColumns::Others, ..Columns::default() };
    RowReader::open(path, &columns, 16)?.try_fold(0, |sum, rows| Ok(sum + rows?.ids.len() as u64))
}

#[test]
fn truncated_files_are_errors() {
    let (dir, files) = written();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let cut = dir.path().join("cut");
        let is_stream = file.extension().unwrap() == "arrows";
        for len in (0..bytes.len()).step_by(7).chain(bytes.len() - 9..bytes.len()) {
            fs::write(&cut, &bytes[..len]).unwrap();
            let outcome = outcome(&cut);
            // A stream may end after any of its messages.
            assert!(
                outcome.is_err() || (is_stream && outcome.unwrap() <= ROWS as u64),
                "{} {len}",
                file.display()
            );
        }
    }
}

/// Lengths in a file are claims: what a decoder would allocate is bounded before it does.
#[test]
fn compressed_buffers_may_not_claim_too_much() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = || Arc::new(Int64Array::from(vec![0; 1_001])) as ArrayRef;
    let names = ["a", "b", "c", "d", "e"].map(|name| (name, zeros()));
    let all = batch([vec![("id", ids(1_001)), ("vector", vectors(1_001, 2))], names.to_vec()].concat());
    for file in files(&dir, &[all]) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(".arrow") || name.starts_with("plain") {
            continue;
        }
        let good = fs::read(&file).unwrap();
        let claims: Vec<usize> = (0..good.len() - 8)
            .filter(|&at| good[at..at + 8] == 8_008_i64.to_le_bytes())
            .filter(|at| at % 8 == 0)
            .collect();
        let claim = |claimed: i64, count: usize| {
            let mut bad = good.clone();
            let last = claims.len() - count;
            claims[last..].iter().for_each(|&at| bad[at..at + 8].copy_from_slice(&claimed.to_le_bytes()));
            fs::write(&file, bad).unwrap();
            outcome(&file)
        };
        assert!(claims.len() >= 5, "{name}: {claims:?}");
        refused(claim(1 << 30, 5), &[&name, "unpacks to more than 4 GiB"]);
        refused(claim((1 << 30) + 1, 1), &[&name, "no length that can be"]);
        refused(claim(-2, 1), &[&name, "no length that can be"]);
        assert!(claim(8_016, 1).is_err(), "a smaller lie is found when it is unpacked");
        assert_eq!(claim(8_008, 1).unwrap(), 1_001);
        for len in [good.len() / 3, good.len() / 2] {
            fs::write(&file, &good[..len]).unwrap();
            refused(outcome(&file), &[&name, "cut short"]);
        }
    }
}

#[test]
fn damaged_files_are_never_a_panic() {
    let (dir, files) = written();
    let mut state = 0x2545_F491_u32;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for file in files {
        let good = fs::read(&file).unwrap();
        let bad = dir.path().join("bad");
        for _ in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..=next(8) {
                let at = next(bytes.len());
                bytes[at] = u8::try_from(next(256)).unwrap();
            }
            fs::write(&bad, &bytes).unwrap();
            let _ = outcome(&bad);
        }
        // Beginning and end are right, all between is not.
        for _ in 0..150 {
            let mut bytes = good.clone();
            let keep = next(64);
            let end = bytes.len() - next(64).min(bytes.len() - keep);
            bytes[keep..end].iter_mut().for_each(|byte| *byte = u8::try_from(next(256)).unwrap());
            fs::write(&bad, &bytes).unwrap();
            let _ = outcome(&bad);
        }
    }
}

#[test]
fn a_reader_ends_after_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.parquet");
    let texts = StringArray::from_iter((0..20).map(|row| (row != 13).then(|| format!("{row}"))));
    parquet(&path, &[batch(vec![("id", Arc::new(texts)), ("vector", vectors(20, 2))])], Compression::SNAPPY);
    let mut reader = RowReader::open(&path, &Columns::default(), 5).unwrap();
    assert!(reader.next().unwrap().is_ok() && reader.next().unwrap().is_ok());
    refused(reader.next().unwrap(), &["in.parquet", "row 13", "null"]);
    assert!(reader.next().is_none());
    // As an Arrow reader it says what it said.
    let bytes = fs::read(&path).unwrap();
    let mut bad = bytes.clone();
    bad[4..60].fill(0xff);
    fs::write(&path, bad).unwrap();
    let mut reader = open(&path, &Columns::default(), 5).unwrap();
    let error = reader.find_map(Result::err).unwrap();
    let ArrowError::ExternalError(error) = error else { panic!("{error}") };
    refused(Err::<(), _>(*error.downcast::<Error>().unwrap()), &["in.parquet", "cannot be read as Parquet"]);
    assert!(reader.next().is_none());
}

#[test]
fn vectors_of_two_dimensions_are_refused_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let list = |rows: usize, dim: usize| {
        let mut builder = arrow_array::builder::ListBuilder::new(arrow_array::builder::Float64Builder::new());
        (0..rows).for_each(|_| builder.append_value(vec![Some(1.5); dim]));
        Arc::new(builder.finish()) as ArrayRef
    };
    let batches =
        [(10, 2), (10, 3)].map(|(rows, dim)| batch(vec![("id", ids(rows)), ("vector", list(rows, dim))]));
    for file in files(&dir, &batches) {
        let error = RowReader::open(&file, &Columns::default(), 5).unwrap().find_map(Result::err).unwrap();
        refused(Err::<(), _>(error), &["row 10", "3 components where 2 are expected"]);
    }
}

#[test]
fn no_rows_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let empty = [batch(vec![("id", ids(0)), ("vector", vectors(0, 3))])];
    for file in files(&dir, &empty) {
        let mut reader = RowReader::open(&file, &Columns::default(), 5).unwrap();
        assert_eq!(reader.rows(), Some(0));
        assert!(reader.next().is_none());
    }
}

/// One long text that a dictionary has once stands in every row.
#[test]
fn few_long_texts_do_not_become_many() {
    const ROWS: usize = 100;
    const LONG: usize = 1 << 19;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let text = format!("\"{}\"", "x".repeat(LONG));
    let texts: Vec<Option<&str>> = (0..ROWS).map(|row| (row != 7).then_some(text.as_str())).collect();
    for texts in
        [Arc::new(StringArray::from(texts.clone())) as ArrayRef, Arc::new(LargeStringArray::from(texts))]
    {
        let batch = batch(vec![("id", ids(ROWS)), ("vector", vectors(ROWS, 2)), ("document", texts)]);
        let mut writer =
            ArrowWriter::try_new(fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 2 * LONG as u64, "a dictionary");
        let mut rows = 0;
        for part in RowReader::open(&path, &Columns::default(), 1000).unwrap() {
            let part = part.unwrap();
            let documents = part.documents.unwrap();
            let bytes: usize = documents.iter().flatten().map(String::len).sum();
            assert!(bytes <= 16 << 20, "{bytes}");
            assert_eq!(part.first, rows as u64);
            for document in documents {
                assert_eq!(document.as_deref(), (rows != 7).then_some(text.as_str()));
                rows += 1;
            }
        }
        assert_eq!(rows, ROWS);
    }
}
