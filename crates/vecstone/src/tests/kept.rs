//! Documents that puts keep: found in the order of writing, wherever the row that had them is by then.

use super::model::{DIM, DIR, Run, identity, options, root};
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::SimDisk;
use crate::sys::planted::{Bug, with};
use crate::{
    AsId, CompactOptions, Document, Error, Filter, Metric, Op, OpenOptions, Result, SearchOptions, Snapshot,
    VectorStore, WriteBatch,
};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROW: [f32; DIM as usize] = [1.0, 2.0, 3.0, 4.0];

fn create(disk: &SimDisk, options: &OpenOptions) -> VectorStore {
    let disk = Arc::new(disk.clone());
    VectorStore::create_on(disk, Path::new(DIR), DIM, Metric::L2, identity(), options).expect("made")
}

fn buffered() -> OpenOptions {
    options().buffer_bytes(1 << 20)
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).expect("a filter")
}

/// The last batch in the files.
fn seq(store: &VectorStore) -> u64 {
    store.engine().expect("writable").published.load().seq
}

/// What every way to ask says of the document of an id that is there.
fn asked(snapshot: &Snapshot, id: &str) -> Option<String> {
    let document = snapshot.get_document(id).expect("readable");
    let listed = snapshot.iter_with_documents().map(|row| row.expect("readable"));
    let listed: Vec<_> = listed.filter(|(of, ..)| of.as_str() == Some(id)).map(|row| row.2).collect();
    assert_eq!(listed, std::slice::from_ref(&document), "listed and asked for");
    let options = SearchOptions::new().with_documents().filter(Filter::ids([id.as_id().to_id()]));
    let found = snapshot.search_with(&ROW, 9, &options).expect("searched");
    let found: Vec<_> = found.into_iter().map(|hit| hit.document).collect();
    assert_eq!(found, std::slice::from_ref(&document), "found and asked for");
    let selected = snapshot.ids_where(&filter(r#"{"v": {"$exists": true}}"#)).expect("filtered");
    let has_v = document.as_ref().is_some_and(|document| document.contains("\"v\""));
    assert_eq!(selected.iter().any(|of| of.as_str() == Some(id)), has_v, "selected by the document");
    document
}

/// Checks documents in the buffer, in the files, and after the next opening; a snapshot of each moment stays.
fn check(disk: &SimDisk, store: VectorStore, expected: &[(&str, Option<&str>)]) {
    let look = |snapshot: &Snapshot, when: &str| {
        for (id, document) in expected {
            assert_eq!(asked(snapshot, id).as_deref(), *document, "{id} {when}");
        }
    };
    for (id, document) in expected {
        assert_eq!(store.get_document(*id).expect("readable").as_deref(), *document, "{id} at once");
    }
    let before = store.snapshot().expect("a snapshot");
    look(&before, "in the buffer");
    store.flush().expect("flushed");
    let after = store.snapshot().expect("a snapshot");
    look(&after, "in the files");
    store.compact().expect("compacted");
    look(&store.snapshot().expect("a snapshot"), "compacted");
    look(&before, "in a snapshot of the buffer");
    look(&after, "in a snapshot of the files");
    drop((before, after));
    store.close().expect("closed");
    let store = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options()).expect("opened");
    look(&store.snapshot().expect("a snapshot"), "opened again");
    assert!(store.verify().expect("verified").is_ok());
}

#[derive(Clone, Copy, Debug)]
enum Do {
    Give,
    Keep,
    Remove,
    Delete,
}

/// Each order of three changes, then a put that keeps, to an id that has a document or none: in one batch, each alone,
/// and in two batches; in one group, and in several.
#[test]
fn every_order_of_changes() {
    let all = [Do::Give, Do::Keep, Do::Remove, Do::Delete];
    for n in 0..64 {
        let order = [all[n % 4], all[n / 4 % 4], all[n / 16]];
        for has_document in [false, true] {
            let disk = SimDisk::new(&root());
            let store = create(&disk, &buffered().segment_records([1_000_000, 2][n % 2]));
            let first = has_document.then_some("{\"v\":0}");
            let documents = [Document::whole(first), Document::Json("{\"v\":9}")];
            store
                .write(WriteBatch::new().put_many_with_documents(
                    &["a", "z"],
                    &[ROW, ROW].concat(),
                    &documents,
                ))
                .expect("stored");
            store.flush().expect("flushed");
            let texts = [1, 2, 3, 4].map(|v| format!("{{\"v\":{v}}}"));
            let mut ops = Vec::new();
            let mut left = first.map(str::to_owned);
            for (what, text) in order.iter().chain([&Do::Keep]).zip(&texts) {
                let document = match what {
                    Do::Give => Document::Json(text.as_str()),
                    Do::Remove | Do::Delete => Document::None,
                    Do::Keep => Document::Keep,
                };
                if document != Document::Keep {
                    left = document.json().map(str::to_owned);
                }
                ops.push(match what {
                    Do::Delete => Op::delete("a"),
                    _ => Op::Put { id: "a".as_id(), vector: &ROW, document },
                });
            }
            for batch in ops.chunks([4, 1, 2][n % 3]) {
                let mut written = WriteBatch::new();
                for op in batch {
                    match *op {
                        Op::Put { id, vector, document } => written.put_with_document(id, vector, document),
                        Op::Delete { id } => written.delete(id),
                    };
                }
                store.write(&written).expect("stored");
            }
            check(&disk, store, &[("a", left.as_deref()), ("z", Some("{\"v\":9}"))]);
        }
    }
}

/// Of an id that comes twice the document that the last one gives or keeps counts; a batch past the buffer does the same.
#[test]
fn an_id_twice_in_one_batch() {
    for options in [options(), buffered()] {
        let disk = SimDisk::new(&root());
        let store = create(&disk, &options);
        store.put_with_document("a", &ROW, "{\"v\":1}").expect("stored");
        let (json, rows) = ("{\"v\":2}", [ROW; 5].concat());
        let documents =
            [Document::Keep, Document::Json(json), Document::Keep, Document::Json(json), Document::None];
        store
            .write(WriteBatch::new().put_many_with_documents(&["a", "b", "b", "c", "c"], &rows, &documents))
            .expect("stored");
        check(&disk, store, &[("a", Some("{\"v\":1}")), ("b", Some(json)), ("c", None)]);
    }
}

/// What is kept is found where the group is formed: after a seal, a compaction, a delete by filter or a clear.
#[test]
fn what_comes_between_acceptance_and_writing() {
    let disk = SimDisk::new(&root());
    let store = create(&disk, &buffered().segment_records(3));
    for (id, json) in [("a", "{\"v\":1}"), ("b", "{\"v\":2}"), ("c", "{\"v\":3}"), ("d", "{\"v\":4}")] {
        store.put_with_document(id, &ROW, json).expect("stored");
        store.put(id, &ROW).expect("stored");
    }
    store.flush().expect("flushed");
    store.delete("d").expect("deleted");
    let mut busy = false;
    let compacted = store.compact_with(&CompactOptions::new(), |_| {
        if !std::mem::replace(&mut busy, true) {
            // Their rows move while these wait in the buffer.
            store.put_many(&["a", "b"], &[ROW, ROW].concat()).expect("stored");
        }
        ControlFlow::Continue(())
    });
    compacted.expect("compacted");
    assert!(busy);
    store.put("c", &ROW).expect("stored");
    let deleted = store.delete_where(&filter(r#"{"v": {"$gte": 3}}"#)).expect("deleted");
    assert_eq!(deleted, 1, "a put in the buffer has its document");
    store.put("c", &ROW).expect("stored");
    for (id, document) in [("a", Some("{\"v\":1}")), ("b", Some("{\"v\":2}")), ("c", None)] {
        assert_eq!(store.get_document(id).expect("readable").as_deref(), document, "{id}");
    }
    store.put("a", &ROW).expect("stored");
    store.clear().expect("cleared");
    store.put("a", &ROW).expect("stored");
    check(&disk, store, &[("a", None)]);
}

#[test]
fn stores_without_documents_have_no_file_of_them() {
    let disk = SimDisk::new(&root());
    let store = create(&disk, &options().segment_records(2));
    for _ in 0..3 {
        store.put_many(&["a", "b"], &[ROW, ROW].concat()).expect("stored");
    }
    store.put_document("a", Document::None).expect("stored");
    store.close().expect("closed");
    assert!(disk.image().files.keys().all(|path| path.extension().is_none_or(|kind| kind != "jsonl")));
}

/// Documents that are longer than a piece that is copied, and together than a group.
#[test]
fn long_documents_are_copied_in_pieces_and_cut_groups() {
    let disk = SimDisk::new(&root());
    let store = create(&disk, &buffered().buffer_bytes(64 << 20));
    let ids: Vec<String> = (0..6).map(|n| format!("id {n}")).collect();
    let long = |n: usize| format!("\"{}\"", "x".repeat((2 << 20) + n * 333_333));
    for (n, id) in ids.iter().enumerate() {
        store.put_with_document(id, &ROW, &long(n)).expect("stored");
    }
    store.flush().expect("flushed");
    let before = seq(&store);
    ids.iter().for_each(|id| store.put(id, &ROW).expect("stored"));
    store.flush().expect("flushed");
    assert!(seq(&store) >= before + 2, "six small puts with 17 MiB of documents became one commit");
    let before = seq(&store);
    store.put_many(&ids, &[ROW; 6].concat()).expect("stored");
    store.flush().expect("flushed");
    assert_eq!(seq(&store), before + 1, "a batch is one commit, whatever it keeps");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(store.get_document(id).expect("readable"), Some(long(n)));
    }
    assert!(store.verify().expect("verified").is_ok());
}

/// A batch that would keep more documents than a segment may have begins the next one.
#[test]
fn kept_documents_count_for_the_limit_of_a_segment() {
    let disk = SimDisk::new(&root());
    let mut options = options();
    options.settings.limits.jsonl = 1000;
    let store = create(&disk, &options);
    let json = format!("\"{}\"", "x".repeat(300));
    store.put_with_document("a", &ROW, &json).expect("stored");
    for _ in 0..8 {
        store.put_many(&["a", "b"], &[ROW, ROW].concat()).expect("stored");
    }
    let image = disk.image();
    let lines = image.files.iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "jsonl"));
    let lens: Vec<usize> = lines.map(|(_, bytes)| bytes.len()).collect();
    assert!(lens.len() > 2 && lens.iter().all(|&len| len <= 1000), "{lens:?}");
    assert_eq!(store.get_document("a").expect("readable"), Some(json));
}

/// A store of two rows with documents, of which the first is damaged.
fn with_rot(len: usize) -> (SimDisk, FaultDisk, VectorStore) {
    let disk = SimDisk::new(&root());
    let store = create(&disk, &options());
    let json = format!("{{\"v\":\"{}\"}}", "x".repeat(len));
    store.put_with_document("a", &ROW, &json).expect("stored");
    store.put_with_document("b", &ROW, "{\"v\":7}").expect("stored");
    store.close().expect("closed");
    let mut image = disk.image();
    let path = PathBuf::from(DIR).join("00000001.jsonl");
    image.files.get_mut(&path).expect("documents")[len / 2 + 6] ^= 1;
    let disk = SimDisk::new(&image);
    let faulty = FaultDisk::new(Arc::new(disk.clone()), None);
    let options = buffered().segment_records(2);
    let store = VectorStore::open_on(Arc::new(faulty.clone()), Path::new(DIR), &options).expect("opened");
    (disk, faulty, store)
}

fn check_rot(len: usize) -> Result<()> {
    let (_, _, store) = with_rot(len);
    assert!(store.get_document("a").is_err_and(|error| error.is_corrupt()));
    store.put_many(&["a", "b"], &[ROW; 2].concat())?;
    store.flush()?;
    let stats = store.stats()?;
    assert_eq!(stats.lost_documents, 1, "{len}");
    assert!(stats.document_error.is_some_and(|error| error.contains("00000001.jsonl")));
    store.put("a", &ROW)?;
    store.flush()?;
    assert_eq!(store.stats()?.lost_documents, 1, "it is told once");
    assert_eq!(store.get_document("a")?, None);
    assert_eq!(store.get_document("b")?.as_deref(), Some("{\"v\":7}"));
    Ok(())
}

#[test]
fn a_rotted_document_is_written_as_none_and_counted_once() {
    for len in [1, 100, 5 << 20] {
        check_rot(len).expect("written");
    }
}

/// Whether that would be noticed with a bug planted.
pub(super) fn rot_is_kept(bug: Bug) -> bool {
    let outcome = std::panic::catch_unwind(|| with(bug, || check_rot(100)));
    !matches!(outcome, Ok(Ok(())))
}

/// A document that cannot be read now is no reason to lose it: the group is tried again. What is damaged counts once,
/// however often its group was tried.
#[test]
fn an_unreadable_document_is_tried_again() {
    let mut refused = 0;
    for code in [5, 28] {
        for call in 0..20 {
            let (disk, faulty, store) = with_rot(100);
            store.put_many(&["a", "b"], &[ROW; 2].concat()).expect("accepted");
            faulty.plan(Plan { call, fault: Fault::Os(code), for_ever: false });
            let outcome = store.flush();
            faulty.heal();
            match outcome {
                Ok(()) => {}
                Err(error) if error.stops_writing() => continue,
                Err(_) => refused += 1,
            }
            store.flush().expect("tried again");
            assert_eq!(store.stats().expect("stats").lost_documents, 1);
            let expected = [("a", None), ("b", Some("{\"v\":7}"))];
            for (id, document) in expected {
                assert_eq!(store.get_document(id).expect("readable").as_deref(), document);
            }
            drop(store);
            let store = VectorStore::open_on(Arc::new(disk), Path::new(DIR), &options()).expect("opened");
            assert_eq!(store.get_document("b").expect("readable").as_deref(), Some("{\"v\":7}"));
        }
    }
    assert!(refused > 5, "only {refused} faults were met before the sync");
}

/// Which ids are unknown is told as a whole, and nothing is written then.
#[test]
fn documents_change_without_vectors() {
    let disk = SimDisk::new(&root());
    let store = create(&disk, &buffered().segment_records(3));
    let other = [4.0, 3.0, 2.0, 1.0];
    store.put("a", &ROW).expect("stored");
    store.put("b", &other).expect("stored");
    store.put_document("a", Document::Json("{\"v\": 1}")).expect("changed");
    let both = [Document::Json("{\"w\":{\"x\":1}}"), Document::Json("{\"w\":{\"y\":2},\"v\":null}")];
    store.update_documents(&["a", "a"], &both).expect("merged");
    store.update_documents(&["b"], &both[1..]).expect("merged");
    let merged = Some("{\"w\":{\"x\":1,\"y\":2}}");
    assert_eq!(store.get_document("a").expect("readable").as_deref(), merged);
    assert_eq!(store.get_document("b").expect("readable").as_deref(), Some("{\"w\":{\"y\":2}}"));
    let before = seq(&store);
    let error = store.put_documents(&["x", "a", "y", "x"], &[Document::Json("1"); 4]).expect_err("unknown");
    let Error::UnknownIds { ids } = &error else { panic!("{error}") };
    assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), ["x", "y"]);
    assert!(error.to_string().contains("x, y"), "{error}");
    store.put_documents(&["a", "b"], &[Document::Keep, Document::Json("null")]).expect("nothing to do");
    assert_eq!(seq(&store), before, "nothing was written");
    store.put_document("b", Document::Json("[1]")).expect("changed");
    let error = store.update_documents(&["a", "b"], &[Document::Json("{\"v\":9}"); 2]).expect_err("an array");
    assert!(matches!(&error, Error::NotAnObject { id } if id.as_str() == Some("b")), "{error}");
    store.update_documents(&["b"], &[Document::Json("[2]")]).expect("replaced, as the RFC has it");
    let error = store.put_documents(&["a"], &[Document::Json("{")]).expect_err("no JSON");
    assert!(matches!(error, Error::InvalidDocument { row: 0, .. }));
    assert!(matches!(store.put_document(7u64, Document::None), Err(Error::IdKindMismatch { .. })));
    assert_eq!(store.get("b").expect("readable"), Some(other.to_vec()));
    check(&disk, store, &[("a", merged), ("b", Some("[2]"))]);
}

/// A rotted row is not written again under a right checksum.
#[test]
fn a_rotted_row_keeps_its_document_from_changing() {
    let mut run = Run::new(SimDisk::new(&root()));
    run.create().and_then(|()| run.put(&["a", "b"])).and_then(|()| run.close()).expect("closed");
    let mut image = run.disk.image();
    let path = PathBuf::from(DIR).join("00000001.dat");
    image.files.get_mut(&path).expect("rows")[256 + 16 + 3] ^= 1;
    let disk = SimDisk::new(&image);
    let store = VectorStore::open_on(Arc::new(disk), Path::new(DIR), &options()).expect("opened");
    let error = store.put_documents(&["a", "b"], &[Document::Json("1"); 2]).expect_err("rot");
    assert!(error.is_corrupt(), "{error}");
    assert_eq!(store.get_document("a").expect("readable"), None, "nothing of the batch was written");
    store.put_document("a", Document::Json("1")).expect("the other one");
}
