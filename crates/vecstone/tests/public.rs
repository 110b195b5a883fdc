//! The public interface, each call once, as a program outside this crate makes it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::ops::ControlFlow;
use std::time::Duration;
use vecstone::{
    AsId, CompactOptions, Document, Durability, Error, ErrorKind, Filter, Hits, Id, IdKind, IdRef, LogEntry,
    Metric, Op, OpenOptions, SearchOptions, Snapshot, Uuid, VectorStorage, VectorStore, WriteBatch,
    reference_distance,
};

fn made(options: &OpenOptions) -> (tempfile::TempDir, VectorStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = options.create(dir.path().join("store"), 2, Metric::L2).unwrap();
    (dir, store)
}

fn content(store: &VectorStore) -> Vec<(String, Vec<f32>, Option<String>)> {
    let rows = store.snapshot().unwrap().iter_with_documents();
    rows.map(|row| row.map(|(id, vector, document)| (id.to_string(), vector, document)).unwrap()).collect()
}

#[test]
fn options_end_in_a_store() {
    let all = OpenOptions::new()
        .strict(true)
        .lock_wait(Duration::ZERO)
        .durability(Durability::Sync)
        .flush_interval(Duration::from_millis(10))
        .buffer_bytes(1 << 20)
        .compact_at(0.5)
        .compact_speed(1 << 20)
        .segment_records(1000)
        .threads(1);
    let (dir, store) = made(&all);
    let path = store.path().to_owned();
    assert_eq!(all.create(&path, 2, Metric::L2).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(matches!(all.open(&path), Err(Error::Locked { .. })));
    store.close().unwrap();
    all.open(&path).unwrap().close().unwrap();
    let reader = all.open_read_only(&path).unwrap();
    assert_eq!(reader.put("a", &[1.0, 2.0]).unwrap_err().kind(), ErrorKind::WrongHandle);
    assert!(reader.recovery().clean);
    drop(reader);
    // The short forms.
    VectorStore::open(&path).unwrap().close().unwrap();
    VectorStore::open_read_only(&path).unwrap();
    VectorStore::create(dir.path().join("other"), 2, Metric::Ip).unwrap();
}

#[test]
fn a_batch_of_everything_counts_in_its_order() {
    let (_dir, store) = made(&OpenOptions::new());
    store.put("gone", &[9.0, 9.0]).unwrap();
    let (rows, more) = ([1.0, 1.0, 2.0, 2.0], [5.0, 5.0]);
    let (ids, name) = (["a", "b"], String::from("own"));
    let documents = [Document::Json("1"), Document::Keep];
    let mut batch = WriteBatch::new();
    assert!(batch.is_empty());
    batch
        .put("b", &more)
        .put_with_document("c", &more, r#"{"n": 3}"#)
        .put_many_with_documents(&ids, &rows, &documents)
        .delete("gone")
        .put(&name, &more)
        .put_many(&["c"], &rows[..2])
        .delete("a")
        .durability(Durability::Sync);
    assert_eq!((batch.len(), batch.is_empty()), (8, false));
    store.write(&batch).unwrap();
    let expected = [
        ("b".to_owned(), vec![2.0, 2.0], None),
        ("own".to_owned(), vec![5.0, 5.0], None),
        ("c".to_owned(), vec![1.0, 1.0], Some(r#"{"n": 3}"#.to_owned())),
    ];
    assert_eq!(content(&store), expected);
    let reader = VectorStore::open_read_only(store.path()).unwrap();
    assert_eq!(content(&reader), expected, "durable");

    // A document may also be kept or removed, and comes with rows one each.
    store.write(WriteBatch::new().put_with_document("c", &more, Document::None)).unwrap();
    assert_eq!(store.snapshot().unwrap().get_document("c").unwrap(), None);
    let before = content(&store);
    for (bad, kind) in [
        (WriteBatch::new().put_many(&ids, &rows[..3]), ErrorKind::InvalidInput),
        (WriteBatch::new().put_many_with_documents(&ids, &rows, &documents[..1]), ErrorKind::InvalidInput),
        (WriteBatch::new().delete("b").put_many(&ids, &rows[..2]), ErrorKind::InvalidInput),
        (WriteBatch::new().delete("b").put("x", &rows), ErrorKind::InvalidInput),
        (WriteBatch::new().delete("b").delete(7u64), ErrorKind::InvalidInput),
        (WriteBatch::new().delete("b").put_with_document("x", &more, "{"), ErrorKind::InvalidInput),
    ] {
        assert_eq!(store.write(bad).unwrap_err().kind(), kind);
    }
    assert_eq!(content(&store), before, "all or nothing");
    store.write(&WriteBatch::new()).unwrap();
}

#[test]
fn every_kind_of_id_goes_into_a_batch() {
    let uuid = Uuid::from_bytes(*b"0123456789abcdef");
    let ids: [Id; 3] = ["text".into(), 7.into(), uuid.into()];
    for id in &ids {
        let (_dir, store) = made(&OpenOptions::new());
        store.write(WriteBatch::new().put(id, &[1.0, 2.0])).unwrap();
        assert_eq!((store.kind(), store.contains(id).unwrap()), (Some(id.kind()), true));
        let same: IdRef<'_> = id.as_id();
        store.write(WriteBatch::new().delete(same)).unwrap();
        assert!(store.is_empty().unwrap());
    }
    let (_dir, store) = made(&OpenOptions::new());
    store.write(WriteBatch::new().put(uuid, &[1.0, 2.0]).delete(uuid)).unwrap();
    assert_eq!(store.kind(), Some(IdKind::Uuid));
}

#[test]
fn writing_in_short() {
    let (_dir, store) = made(&OpenOptions::new());
    store.put("a", &[1.0, 0.0]).unwrap();
    store.put_many(&["b", "c"], &[2.0, 0.0, 3.0, 0.0]).unwrap();
    store.put_with_document("d", &[4.0, 0.0], r#"{"n": 4}"#).unwrap();
    store.put_document("a", r#"{"n": 1}"#).unwrap();
    store.put_documents(&["b", "c"], &[Document::Json(r#"{"n": 2}"#), Document::Keep]).unwrap();
    store.update_document("a", r#"{"m": 1}"#).unwrap();
    store.update_documents(&["b"], &[Document::Json(r#"{"n": null}"#)]).unwrap();
    assert_eq!(store.put_document("x", "1").unwrap_err().kind(), ErrorKind::NotFound);
    let documents: Vec<_> = content(&store).into_iter().map(|(_, _, document)| document).collect();
    let json = |text: &str| Some(text.to_owned());
    // A changed document is written anew, with its row.
    assert_eq!(documents, [None, json(r#"{"n": 4}"#), json(r#"{"n":1,"m":1}"#), json("{}")]);
    assert!(store.delete("c").unwrap());
    assert_eq!(store.delete_many(&["c", "b"]).unwrap(), 1);
    assert_eq!(store.delete_where(&Filter::parse(r#"{"n": {"$gt": 3}}"#).unwrap()).unwrap(), 1);
    store.flush().unwrap();
    drop(store.flush_async());
    store.set_attributes(Some(r#"{"model": "x"}"#)).unwrap();
    assert_eq!(store.attributes().unwrap().as_deref(), Some(r#"{"model": "x"}"#));
    store.compact().unwrap();
    store.compact_with(&CompactOptions::new(), |_| ControlFlow::Continue(())).unwrap();
    store.clear().unwrap();
    assert_eq!(store.len().unwrap(), 0);
    store.close().unwrap();
}

#[test]
fn reading_is_the_snapshots() {
    let (dir, store) = made(&OpenOptions::new());
    store.put_many(&[1u64, 2, 3], &[1.0, 0.0, 2.0, 0.0, 3.0, 0.0]).unwrap();
    store.put_document(3u64, "[3]").unwrap();
    store.flush().unwrap();
    let snapshot: Snapshot = store.snapshot().unwrap();
    store.delete(2u64).unwrap();
    // What stays the store's.
    assert_eq!(store.get(1u64).unwrap(), Some(vec![1.0, 0.0]));
    assert_eq!((store.contains(2u64).unwrap(), store.len().unwrap()), (false, 2));
    assert_eq!(store.search(&[0.0, 0.0], 9).unwrap().len(), 2);
    assert_eq!((store.dim(), store.metric(), store.kind()), (2, Metric::L2, Some(IdKind::U64)));
    assert!(!store.refresh().unwrap());
    assert_eq!(store.stats().unwrap().live, 2);
    assert!(store.verify().unwrap().is_ok());
    store.backup(dir.path().join("copy")).unwrap();
    assert!(VectorStore::verify_path(dir.path().join("copy")).unwrap().is_ok());
    store.close().unwrap();
    VectorStore::repair(dir.path().join("copy"), dir.path().join("repaired")).unwrap();

    assert_eq!((snapshot.len(), snapshot.is_empty(), snapshot.dim()), (3, false, 2));
    assert_eq!(
        (snapshot.metric(), snapshot.kind(), snapshot.attributes()),
        (Metric::L2, Some(IdKind::U64), None)
    );
    assert_eq!(snapshot.get(2u64).unwrap(), Some(vec![2.0, 0.0]));
    assert_eq!(snapshot.get_many(&[3u64, 4]).unwrap(), [Some(vec![3.0, 0.0]), None]);
    let mut out = [0.0; 4];
    assert!(snapshot.get_into(1u64, &mut out[..2]).unwrap());
    snapshot.get_many_into(&[3u64, 2], &mut out, |_| unreachable!()).unwrap();
    assert_eq!(out, [3.0, 0.0, 2.0, 0.0]);
    assert_eq!(snapshot.get_ref(1u64).unwrap(), Some(&[1.0f32, 0.0][..]));
    assert_eq!(snapshot.get_document(3u64).unwrap().as_deref(), Some("[3]"));
    assert!(snapshot.contains(1u64).unwrap());
    assert_eq!(snapshot.iter().map(|row| row.unwrap().0).collect::<Vec<_>>(), [1, 2, 3].map(Id::from));
    assert_eq!(snapshot.ids().count(), 3);
    assert_eq!(snapshot.iter_with_documents().count(), 3);
    let live: Vec<bool> = snapshot.segments().unwrap().iter().flat_map(|segment| segment.live()).collect();
    assert_eq!(live.iter().filter(|live| **live).count(), 3);
    assert_eq!(snapshot.search(&[0.0, 0.0], 1).unwrap()[0].id, Id::from(1));
    let some = Filter::ids([2, 3].map(Id::from));
    let options = SearchOptions::new().filter(some.clone()).radius(5.0).with_vectors().with_documents();
    let hits: Hits = snapshot.search_with(&[0.0, 0.0], 9, &options).unwrap();
    assert_eq!((hits.len(), hits.is_empty(), hits.is_exact(), hits.rows_read()), (1, false, true, 2));
    assert_eq!(hits.first(), Some(&hits[0]));
    assert_eq!(hits.iter().as_slice(), hits.as_slice());
    let distance = reference_distance(Metric::L2, &[0.0, 0.0], &[2.0, 0.0]);
    assert_eq!(f64::from(hits[0].distance), distance);
    assert_eq!((&hits).into_iter().count(), hits.clone().into_iter().count());
    assert_eq!(hits.into_vec()[0].vector.as_deref(), Some(&[2.0f32, 0.0][..]));
    assert_eq!(snapshot.search_many(&out, 1, &SearchOptions::new()).unwrap().len(), 2);
    assert_eq!(snapshot.ids_where(&some).unwrap(), [2, 3].map(Id::from));
}

#[test]
fn a_pair_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = VectorStorage::create(dir.path().join("pair"), 2).unwrap();
    pair.append(&[Op::put("a", &[1.0, 2.0]), Op::delete("b")]).unwrap();
    pair.commit().unwrap();
    let log: Vec<LogEntry> = pair.log().collect::<Result<_, _>>().unwrap();
    assert_eq!((pair.row(0).unwrap(), log.len()), (&[1.0f32, 2.0][..], 2));
}
