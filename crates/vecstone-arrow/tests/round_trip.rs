//! Out of a store and into another one, by every format and kind of id.

mod common;

use std::sync::Arc;

use arrow_array::ffi_stream::{FFI_ArrowArrayStream, RecordBatchStreamReader};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::DataType;
use common::{files, row_of};
use vecstone::{Id, IdKind, Metric, Snapshot, Uuid, VectorStore, WriteBatch};
use vecstone_arrow::{Columns, RowReader, SnapshotReader, reader_of, rows_of};

const ROWS: usize = 30;

fn id(kind: IdKind, row: usize) -> Id {
    match kind {
        IdKind::String => Id::from(format!("\u{1F980} {row}")),
        IdKind::U64 => Id::from(vecstone::MAX_ID_NUMBER - row as u64),
        IdKind::Uuid => Id::from(Uuid::from_u128(row as u128)),
    }
}

fn document(row: usize) -> Option<String> {
    (!row.is_multiple_of(3)).then(|| format!("{{\"row\": {row}}}"))
}

/// A store of which some rows are in files, some replaced, some deleted, some still in the buffer.
fn store(dir: &tempfile::TempDir, kind: IdKind) -> VectorStore {
    let store = VectorStore::create(dir.path().join(kind.name()), 3, Metric::L2).unwrap();
    let put = |row: usize| match document(row) {
        Some(document) => store.put_with_document(id(kind, row), &row_of(row, 3), &document).unwrap(),
        None => store.put(id(kind, row), &row_of(row, 3)).unwrap(),
    };
    store.put(id(kind, 1), &[9.0; 3]).unwrap();
    (0..ROWS / 2).for_each(put);
    store.put(id(kind, 1000), &[9.0; 3]).unwrap();
    store.flush().unwrap();
    assert!(store.delete(id(kind, 1000)).unwrap());
    (ROWS / 2..ROWS).for_each(put);
    store
}

fn contents(snapshot: &Snapshot) -> Vec<(Id, Vec<f32>, Option<String>)> {
    snapshot.iter_with_documents().map(Result::unwrap).collect()
}

#[test]
fn iterating_gives_each_row_its_document() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = store(&dir, IdKind::U64).snapshot().unwrap();
    let rows = contents(&snapshot);
    assert_eq!(rows.len(), ROWS);
    for (at, (id, vector)) in snapshot.iter().map(Result::unwrap).enumerate() {
        assert_eq!((&id, &vector), (&rows[at].0, &rows[at].1));
        assert_eq!(snapshot.get_document(&id).unwrap(), rows[at].2);
        assert_eq!(rows[at].2, document(at));
    }
}

#[test]
fn every_kind_and_format() {
    for kind in [IdKind::String, IdKind::U64, IdKind::Uuid] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir, kind);
        let expected = contents(&store.snapshot().unwrap());
        let batches: Vec<RecordBatch> = reader_of(store.snapshot().unwrap(), 7).map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [7, 7, 7, 7, 2]);
        for (n, file) in files(&dir, &batches).into_iter().enumerate() {
            let copy = VectorStore::create(dir.path().join(format!("copy-{n}")), 3, Metric::L2).unwrap();
            for rows in RowReader::open(&file, &Columns::default(), 1000).unwrap() {
                let rows = rows.unwrap();
                copy.write(WriteBatch::new().put_many_with_documents(
                    &rows.ids,
                    &rows.vectors,
                    &rows.document_refs(),
                ))
                .unwrap();
            }
            assert_eq!(contents(&copy.snapshot().unwrap()), expected, "{}", file.display());
            assert_eq!(copy.kind(), Some(kind));
        }
    }
}

#[test]
fn schema_says_what_ids_are() {
    let dir = tempfile::tempdir().unwrap();
    let id_of = |reader: &SnapshotReader| reader.schema().field(0).clone();
    let string = reader_of(store(&dir, IdKind::String).snapshot().unwrap(), 7);
    assert_eq!((id_of(&string).name().as_str(), id_of(&string).data_type()), ("id", &DataType::Utf8));
    let number = reader_of(store(&dir, IdKind::U64).snapshot().unwrap(), 7);
    assert_eq!(id_of(&number).data_type(), &DataType::UInt64);
    let uuid = id_of(&reader_of(store(&dir, IdKind::Uuid).snapshot().unwrap(), 7));
    assert_eq!(uuid.data_type(), &DataType::FixedSizeBinary(16));
    assert_eq!(uuid.metadata().get("ARROW:extension:name").map(String::as_str), Some("arrow.uuid"));
    let empty = VectorStore::create(dir.path().join("empty"), 3, Metric::L2).unwrap();
    let mut reader = reader_of(empty.snapshot().unwrap(), 7);
    let schema = reader.schema();
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!((types[0], types[2]), (&DataType::Utf8, &DataType::Utf8));
    assert!(matches!(types[1], DataType::FixedSizeList(_, 3)));
    assert!(reader.next().is_none());
}

#[test]
fn through_the_c_interface() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir, IdKind::Uuid);
    let expected = contents(&store.snapshot().unwrap());
    let reader: Box<dyn RecordBatchReader + Send> = Box::new(reader_of(store.snapshot().unwrap(), 7));
    let stream = RecordBatchStreamReader::try_new(FFI_ArrowArrayStream::new(reader)).unwrap();
    let mut found = Vec::new();
    for batch in stream {
        let rows = rows_of(&Arc::new(batch.unwrap()), &Columns::default(), found.len() as u64).unwrap();
        let vectors = rows.vectors.chunks(3).map(<[f32]>::to_vec);
        found.extend(
            rows.ids.into_iter().zip(vectors).zip(rows.documents.unwrap()).map(|((id, v), d)| (id, v, d)),
        );
    }
    assert_eq!(found, expected);
}

#[test]
fn damage_is_an_error_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    store(&dir, IdKind::U64).close().unwrap();
    let path = dir.path().join("u64");
    let mut dat = std::fs::read(path.join("00000001.dat")).unwrap();
    let at = dat.len() - 20;
    dat[at] ^= 1;
    std::fs::write(path.join("00000001.dat"), dat).unwrap();
    let mut reader = reader_of(VectorStore::open_read_only(&path).unwrap().snapshot().unwrap(), 7);
    let error = reader.find_map(Result::err).unwrap();
    assert!(error.to_string().contains("00000001.dat"), "{error}");
    assert!(reader.next().is_none());
}
