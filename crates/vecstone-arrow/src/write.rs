//! The rows of a snapshot as a file.

use std::io::{self, Write};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use vecstone::{Id, Snapshot};

use crate::error::{Error, Result};
use crate::file::Format;
use crate::out::reader_of;

/// Bytes of vectors in a batch.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of a row group of Parquet: it is in memory until it is written.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Writes the live rows in the order of writing, as [`reader_of`] gives them; in JSON lines UUIDs are text and `document`
/// is the value itself. What [`RowReader`](crate::RowReader) reads with the default columns. Returns the number of rows.
/// Give a buffered `out`. Memory: a few MiB, 64 MiB for Parquet.
///
/// # Errors
///
/// [`Error::Store`] if a row cannot be read, [`Error::Write`] if one cannot be written.
pub fn write(snapshot: &Snapshot, format: Format, out: impl Write + Send) -> Result<u64> {
    let batch_rows = (BATCH_BYTES / (snapshot.dim().max(1) * 4)).max(16);
    let mut batches = reader_of(snapshot.clone(), batch_rows);
    let schema = batches.schema();
    match format {
        Format::JsonLines => write_lines(snapshot, out),
        Format::Parquet => {
            // Neither ids nor vectors repeat, and nobody looks for a vector by its least number.
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_dictionary_enabled(false)
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
                .build();
            let mut writer = ArrowWriter::try_new(out, schema, Some(properties))?;
            let rows = each(&mut batches, |batch| Ok(writer.write(batch)?))?;
            writer.close()?;
            Ok(rows)
        }
        Format::ArrowFile => {
            let mut writer = FileWriter::try_new(out, &schema).map_err(failed)?;
            let rows = each(&mut batches, |batch| writer.write(batch).map_err(failed))?;
            writer.finish().map_err(failed)?;
            Ok(rows)
        }
        Format::ArrowStream => {
            let mut writer = StreamWriter::try_new(out, &schema).map_err(failed)?;
            let rows = each(&mut batches, |batch| writer.write(batch).map_err(failed))?;
            writer.finish().map_err(failed)?;
            Ok(rows)
        }
    }
}

fn each(
    batches: &mut impl RecordBatchReader,
    mut write: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<u64> {
    batches.try_fold(0, |rows, batch| {
        let batch = batch.map_err(failed)?;
        write(&batch).map(|()| rows + batch.num_rows() as u64)
    })
}

fn write_lines(snapshot: &Snapshot, mut out: impl Write) -> Result<u64> {
    let mut rows = 0;
    for row in snapshot.iter_with_documents() {
        let (id, vector, document) = row.map_err(Error::Store)?;
        write_line(&id, &vector, document.as_deref(), &mut out)
            .map_err(|e| Error::Write { why: e.to_string() })?;
        rows += 1;
    }
    Ok(rows)
}

fn write_line(id: &Id, vector: &[f32], document: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"id\":")?;
    match id {
        Id::U64(number) => write!(out, "{number}")?,
        id => serde_json::to_writer(&mut *out, &id.to_string())?,
    }
    out.write_all(b",\"vector\":")?;
    serde_json::to_writer(&mut *out, vector)?;
    if let Some(document) = document {
        // A store gives back JSON on one line.
        write!(out, ",\"document\":{document}")?;
    }
    out.write_all(b"}\n")
}

/// Of what went wrong either the store or the output is to blame.
fn failed(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(error) => match error.downcast() {
            Ok(error) => Error::Store(*error),
            Err(error) => Error::Write { why: error.to_string() },
        },
        ArrowError::IoError(why, _) => Error::Write { why },
        error => Error::Write { why: error.to_string() },
    }
}

impl From<ParquetError> for Error {
    fn from(error: ParquetError) -> Error {
        let why = match error {
            ParquetError::External(error) => error.to_string(),
            error => error.to_string(),
        };
        Error::Write { why }
    }
}
