//! The rows of a snapshot as Arrow batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchReader,
    UInt64Array,
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use vecstone::{Id, IdKind, Snapshot, check_memory};

/// Bytes after which a batch ends early, so that long rows do not fill the memory.
const BATCH_BYTES: usize = 8 << 20;

/// The live rows of a snapshot in the order of writing, at most `batch_rows` a batch:
///
/// | column | type |
/// |---|---|
/// | `id` | by the kind of the ids: Utf8, UInt64, or FixedSizeBinary(16) of the extension type `arrow.uuid`; Utf8 if there is none yet |
/// | `vector` | FixedSizeList of `dim` Float32 |
/// | `document` | Utf8, JSON text; null where there is none |
///
/// Its errors are [`ArrowError::ExternalError`] with the [`vecstone::Error`] in it, and [`ArrowError::MemoryError`]; after
/// one it ends. Memory: one batch.
pub fn reader_of(snapshot: Snapshot, batch_rows: usize) -> SnapshotReader {
    let (kind, dim) = (snapshot.kind().unwrap_or(IdKind::String), snapshot.dim());
    reader(kind, dim, Box::new(snapshot.iter_with_documents()), batch_rows)
}

/// No rows, of the same columns: ids are text, and vectors have no components.
pub fn empty_reader() -> SnapshotReader {
    reader(IdKind::String, 0, Box::new(std::iter::empty()), 1)
}

fn reader(kind: IdKind, dim: usize, rows: RowIter, batch_rows: usize) -> SnapshotReader {
    let component = Arc::new(Field::new_list_field(DataType::Float32, true));
    // At most MAX_DIM.
    let dim = i32::try_from(dim).unwrap_or(i32::MAX);
    let schema = Schema::new(vec![
        id_field(kind),
        Field::new("vector", DataType::FixedSizeList(component.clone(), dim), false),
        Field::new("document", DataType::Utf8, true),
    ]);
    SnapshotReader {
        rows,
        schema: Arc::new(schema),
        component,
        kind,
        dim,
        batch_rows: batch_rows.max(1),
        ended: false,
    }
}

fn id_field(kind: IdKind) -> Field {
    match kind {
        IdKind::String => Field::new("id", DataType::Utf8, false),
        IdKind::U64 => Field::new("id", DataType::UInt64, false),
        IdKind::Uuid => {
            let extension = [("ARROW:extension:name", "arrow.uuid"), ("ARROW:extension:metadata", "")];
            let extension = extension.map(|(key, value)| (key.to_owned(), value.to_owned()));
            Field::new("id", DataType::FixedSizeBinary(16), false).with_metadata(HashMap::from(extension))
        }
    }
}

type Row = (Id, Vec<f32>, Option<String>);
type RowIter = Box<dyn Iterator<Item = vecstone::Result<Row>> + Send>;

/// Batches of the rows of a snapshot. Made by [`reader_of`].
pub struct SnapshotReader {
    rows: RowIter,
    schema: SchemaRef,
    component: FieldRef,
    kind: IdKind,
    dim: i32,
    batch_rows: usize,
    ended: bool,
}

impl SnapshotReader {
    fn read(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let mut ids = Ids::new(self.kind);
        let mut vectors = Vec::new();
        let mut documents = StringBuilder::new();
        let (mut rows, mut bytes) = (0, 0);
        let external = |e| match e {
            // What has a word of Arrow's keeps its meaning where only a number is handed on.
            e @ vecstone::Error::OutOfMemory { .. } => ArrowError::MemoryError(e.to_string()),
            e => ArrowError::ExternalError(Box::new(e)),
        };
        // Of vectors and documents, each of which grows into a new place.
        check_memory(4 * BATCH_BYTES as u64).map_err(external)?;
        while rows < self.batch_rows && bytes < BATCH_BYTES {
            let Some(row) = self.rows.next() else { break };
            let (id, vector, document) = row.map_err(external)?;
            check_memory(2 * document.as_ref().map_or(0, String::len) as u64).map_err(external)?;
            bytes += id.as_str().map_or(0, str::len) + document.as_ref().map_or(0, String::len);
            bytes += vector.len() * size_of::<f32>();
            rows += 1;
            ids.push(id);
            vectors.extend(vector);
            documents.append_option(document);
        }
        if rows == 0 {
            return Ok(None);
        }
        let vectors = Arc::new(Float32Array::from(vectors));
        let vectors = FixedSizeListArray::try_new(self.component.clone(), self.dim, vectors, None)?;
        let columns: Vec<ArrayRef> = vec![ids.finish()?, Arc::new(vectors), Arc::new(documents.finish())];
        RecordBatch::try_new(self.schema.clone(), columns).map(Some)
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let batch = self.read().transpose();
        self.ended = !matches!(batch, Some(Ok(_)));
        batch
    }
}

impl RecordBatchReader for SnapshotReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// A column of ids as it grows.
enum Ids {
    Strings(StringBuilder),
    Numbers(Vec<u64>),
    Uuids(Vec<u8>),
}

impl Ids {
    fn new(kind: IdKind) -> Ids {
        match kind {
            IdKind::String => Ids::Strings(StringBuilder::new()),
            IdKind::U64 => Ids::Numbers(Vec::new()),
            IdKind::Uuid => Ids::Uuids(Vec::new()),
        }
    }

    /// All ids of a store are of one kind; another one would be missing in the column, which is then refused.
    fn push(&mut self, id: Id) {
        match (self, id) {
            (Ids::Strings(column), Id::String(text)) => column.append_value(text),
            (Ids::Numbers(column), Id::U64(number)) => column.push(number),
            (Ids::Uuids(column), Id::Uuid(uuid)) => column.extend(uuid.as_bytes()),
            _ => {}
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Ids::Strings(mut column) => Arc::new(column.finish()),
            Ids::Numbers(column) => Arc::new(UInt64Array::from(column)),
            Ids::Uuids(column) => Arc::new(FixedSizeBinaryArray::try_new(16, column.into(), None)?),
        })
    }
}
