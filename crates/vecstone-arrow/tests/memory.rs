//! Small files that stand for much: they are read in bounded memory, or refused.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Int8Array, StructArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field};
use common::{batch, ids, refused, vectors};
use parquet::arrow::ArrowWriter;
use vecstone_arrow::{Columns, DocumentColumns, RowReader};

const ROWS: usize = 100;
const LONG: usize = 1 << 19;

/// How many documents of how many bytes a file has, and the most bytes that were handed on together.
fn read(path: &Path) -> (usize, usize) {
    let columns = Columns { documents: DocumentColumns::Others, ..Columns::default() };
    let (mut rows, mut most) = (0, 0);
    for part in RowReader::open(path, &columns, 1000).unwrap() {
        let documents = part.unwrap().documents.unwrap();
        let bytes: usize = documents.iter().flatten().map(String::len).sum();
        assert!(documents.iter().flatten().all(|document| document.len() > LONG));
        (rows, most) = (rows + documents.len(), most.max(bytes));
    }
    (rows, most)
}

/// One long text that stands in every row: in a list, in a struct, in a dictionary.
fn columns_of_one_text() -> Vec<(&'static str, ArrayRef)> {
    let text = "x".repeat(LONG);
    let mut list = ListBuilder::new(StringBuilder::new());
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    let mut plain = StringBuilder::new();
    for _ in 0..ROWS {
        list.values().append_value(&text);
        list.append(true);
        dictionary.append_value(&text);
        plain.append_value(&text);
    }
    let member = Arc::new(Field::new("text", DataType::Utf8, true));
    let members = StructArray::from(vec![(member, Arc::new(plain.finish()) as ArrayRef)]);
    vec![
        ("list", Arc::new(list.finish()) as ArrayRef),
        ("struct", Arc::new(members)),
        ("dictionary", Arc::new(dictionary.finish())),
    ]
}

#[test]
fn texts_within_lists_structs_and_dictionaries_do_not_become_many() {
    let dir = tempfile::tempdir().unwrap();
    for (name, column) in columns_of_one_text() {
        let rows = batch(vec![("id", ids(ROWS)), ("vector", vectors(ROWS, 2)), (name, column)]);
        let path = dir.path().join(name);
        let mut writer = ArrowWriter::try_new(fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        assert!(fs::metadata(&path).unwrap().len() < 3 * LONG as u64, "{name}: a dictionary");
        let (count, most) = read(&path);
        assert!(count == ROWS && most <= 17 << 20, "{name}: {count} rows, {most} bytes");
        let path = dir.path().join(format!("{name}.arrow"));
        let mut writer = StreamWriter::try_new(fs::File::create(&path).unwrap(), &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        let (count, most) = read(&path);
        assert!(count == ROWS && most <= 17 << 20, "{name}: {count} rows, {most} bytes");
    }
}

/// A batch of zeros, packed to a ten thousandth.
#[test]
fn a_batch_that_unpacks_to_far_more_than_it_is_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zeros.arrow");
    let rows = 300 << 20;
    let zeros: ArrayRef = Arc::new(Int8Array::from(vec![0; rows]));
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let batch = batch(vec![("id", zeros)]);
    let file = fs::File::create(&path).unwrap();
    let mut writer = StreamWriter::try_new_with_options(file, &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    let columns = Columns { vector: None, ..Columns::default() };
    refused(
        RowReader::open(&path, &columns, 10),
        &["unpacks to more than 1000 times", "without compression"],
    );
}

/// A line that does not end is refused once it is longer than any can be; a shorter one is said to be no object.
#[test]
fn a_line_without_an_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("line.jsonl");
    let file = fs::File::create(&path).unwrap();
    fs::write(&path, "{").unwrap();
    file.set_len((512 << 20) + 10).unwrap();
    let mut reader = RowReader::open(&path, &Columns::default(), 10).unwrap();
    refused(reader.next().unwrap(), &["line 1", "more than 536870912 bytes"]);
    assert!(reader.next().is_none());
}
