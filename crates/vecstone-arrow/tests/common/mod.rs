//! Batches and files made with the Arrow crates.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use vecstone_arrow::{Columns, Error, Result, Rows, rows_of};

/// A batch of these columns.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

pub(crate) fn ids(rows: usize) -> ArrayRef {
    Arc::new(StringArray::from((0..rows).map(|row| format!("id-{row}")).collect::<Vec<_>>()))
}

/// Row `n` is `n, n + 0.5, ...`.
pub(crate) fn vectors(rows: usize, dim: usize) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), i32::try_from(dim).unwrap());
    for row in 0..rows {
        for x in row_of(row, dim) {
            builder.values().append_value(x);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(crate) fn row_of(row: usize, dim: usize) -> Vec<f32> {
    let at = |n: usize| f32::from(u16::try_from(n).unwrap());
    (0..dim).map(|component| at(row) + at(component) / 2.0).collect()
}

pub(crate) fn all_rows(rows: usize, dim: usize) -> Vec<f32> {
    (0..rows).flat_map(|row| row_of(row, dim)).collect()
}

/// Rows of a batch by the default columns.
pub(crate) fn rows(batch: &RecordBatch) -> Result<Rows> {
    rows_of(batch, &Columns::default(), 0)
}

/// The message of an error, which must hold each of `parts`.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T>, parts: &[&str]) -> Error {
    let Err(error) = result else { panic!("taken, though {parts:?} was expected") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert!(!message.contains('\n'), "{message:?}");
    error
}

/// Writes batches in every format and compression, and says what is what.
pub(crate) fn files(dir: &TempDir, batches: &[RecordBatch]) -> Vec<PathBuf> {
    let path = |name: &str| dir.path().join(name);
    let mut files = Vec::new();
    for (name, compression) in [
        ("plain.parquet", Compression::UNCOMPRESSED),
        ("snappy.parquet", Compression::SNAPPY),
        ("zstd.parquet", Compression::ZSTD(ZstdLevel::default())),
        ("lz4.parquet", Compression::LZ4_RAW),
        ("gzip.parquet", Compression::GZIP(GzipLevel::default())),
        ("brotli.parquet", Compression::BROTLI(BrotliLevel::default())),
    ] {
        parquet(&path(name), batches, compression);
        files.push(path(name));
    }
    for (name, compression) in
        [("plain", None), ("lz4", Some(CompressionType::LZ4_FRAME)), ("zstd", Some(CompressionType::ZSTD))]
    {
        let options = || IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let (file, stream) = (path(&format!("{name}.arrow")), path(&format!("{name}.arrows")));
        let mut writer =
            FileWriter::try_new_with_options(File::create(&file).unwrap(), &batches[0].schema(), options())
                .unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        let mut writer = StreamWriter::try_new_with_options(
            File::create(&stream).unwrap(),
            &batches[0].schema(),
            options(),
        )
        .unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        files.extend([file, stream]);
    }
    files
}

pub(crate) fn parquet(path: &Path, batches: &[RecordBatch], compression: Compression) {
    let properties =
        WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(7)).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}
