//! A batch whose COMMIT contradicts it, or a mark that contradicts the log, with right checksums and chains: the log ends
//! there. One test for each sentence of the format, so that none of the comparisons can go.

use super::hostile::{file, open};
use super::model::{DIM, DIR, identity, options, root};
use crate::format::header::HEADER_LEN;
use crate::format::record::{self, Control, Next, Record};
use crate::fuzzing::fit_log;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Document, Error, Metric, VectorStore, WriteBatch};
use std::path::Path;
use std::sync::Arc;

/// Offsets in the payload of COMMIT, see the format.
const KIND: usize = 1;
const FLAGS: usize = 2;
const SEQ: usize = 8;
const RECORDS: usize = 24;
const ROWS: usize = 28;
const KILLS: usize = 32;
const RESERVED: usize = 36;
const BATCH_LEN: usize = 40;
const ROWS_END: usize = 48;
const DOCS_END: usize = 56;
const DURABLE_SEQ: usize = 64;
const ARRAYS: usize = 92;

const STRIDE: u64 = 4 * DIM as u64;

/// Changes the log of a store; `commit` is where the payload of the last COMMIT starts.
type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>, usize);

/// A name and a change.
type StoreFile = (String, Box<dyn Fn(&mut Vec<u8>, usize)>);

/// The ids that a store shows, with the first component of each vector and the document.
type Shown = Vec<(String, f32, Option<String>)>;

/// A store of three batches, the last of three puts and a delete, whose writer was killed.
fn killed(documents: bool, numbers: bool) -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options());
    let store = store.expect("made");
    // Eight bytes that are no text, nor a UUID.
    let number = |n: u64| u64::MAX - n;
    for (n, batch) in [&["a", "b"][..], &["c"], &["d", "e", "a"]].into_iter().enumerate() {
        let vectors: Vec<f32> = batch.iter().flat_map(|id| [f32::from(id.as_bytes()[0]); 4]).collect();
        let document = [Document::Json("{\"n\":1}"), Document::None, Document::Json("{}")];
        let given = if documents { &document[..batch.len()] } else { &[] };
        let ids: Vec<u64> = batch.iter().map(|id| number(id.as_bytes()[0].into())).collect();
        let stored = if numbers {
            store.write(WriteBatch::new().put_many_with_documents(&ids, &vectors, given))
        } else {
            store.write(WriteBatch::new().put_many_with_documents(batch, &vectors, given))
        };
        stored.expect("stored");
        if n == 1 && numbers {
            store.delete(number(b'b'.into())).expect("deleted");
        } else if n == 1 {
            store.delete("b").expect("deleted");
        }
    }
    disk.kill(store);
    disk.image()
}

fn shown(store: &VectorStore) -> Shown {
    let mut shown: Shown = store
        .snapshot()
        .expect("opened")
        .iter()
        .map(|item| {
            let (id, vector) = item.expect("intact");
            let document = store.get_document(&id).expect("intact");
            (id.to_string(), vector[0], document)
        })
        .collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

/// What a reader and a writer of an image show, or why they do not open it.
fn opened(image: &Image) -> Result<Shown, Error> {
    let reader = VectorStore::open_read_only_on(Arc::new(SimDisk::new(image)), Path::new(DIR));
    let writer = open(&SimDisk::new(image), &options());
    match (reader, writer) {
        (Ok(reader), Ok(writer)) => {
            let both = (shown(&reader), shown(&writer));
            assert_eq!(both.0, both.1, "reader and writer agree");
            Ok(both.0)
        }
        (Err(error), Err(_)) => Err(error),
        (reader, writer) => panic!("only one of them opens: {:?} {:?}", reader.err(), writer.err()),
    }
}

/// The same, with the words of the error.
fn told(image: &Image) -> Result<Shown, String> {
    opened(image).map_err(|error| error.to_string())
}

fn idx() -> std::path::PathBuf {
    file("00000001.idx")
}

/// Where each record of a log starts, and the type of a control record.
fn records(log: &[u8]) -> Vec<(usize, Option<u8>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Next::Record(record, len) = record::next(&log[at..]) {
        let tag = if let Record::Control { payload } = record { Some(payload[0]) } else { None };
        found.push((at, tag));
        at += len;
    }
    assert_eq!(at, log.len(), "a whole log");
    found
}

/// Where the record of the last COMMIT starts.
fn last_commit(log: &[u8]) -> usize {
    let is_commit = |(_, tag): &&(usize, Option<u8>)| *tag == Some(2);
    records(log).iter().rfind(is_commit).expect("batches").0
}

fn spoiled(image: &Image, spoil: Spoil<'_>) -> Image {
    let mut image = image.clone();
    let identity = identity_of(&image);
    let log = image.files.get_mut(&idx()).expect("a log");
    let commit = last_commit(log) + 4;
    spoil(log, commit);
    fit_log(log, &identity);
    image
}

fn identity_of(image: &Image) -> crate::format::Identity {
    let header = &image.files[&file("00000001.dat")][..HEADER_LEN];
    crate::format::header::Header::decode(header).expect("a header").identity
}

/// The same without its last batch.
fn before_last(image: &Image) -> Image {
    let mut image = image.clone();
    let log = image.files.get_mut(&idx()).expect("a log");
    let places = records(log);
    let commits: Vec<usize> = (0..places.len()).filter(|&n| places[n].1 == Some(2)).collect();
    let end = places[commits[commits.len() - 2] + 1].0;
    log.truncate(end);
    image
}

fn get(log: &[u8], at: usize, width: usize) -> u64 {
    log[at..at + width].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn set(log: &mut [u8], at: usize, width: usize, number: u64) {
    log[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
}

fn add(log: &mut [u8], at: usize, width: usize, difference: i64) {
    let number = get(log, at, width).wrapping_add_signed(difference);
    set(log, at, width, number);
}

/// A row more than the batch has puts, with all that COMMIT says of a row.
fn claim_a_row(log: &mut Vec<u8>, commit: usize, documents: bool) {
    let rows = usize::try_from(get(log, commit + ROWS, 4)).expect("small");
    let arrays = commit + ARRAYS;
    if documents {
        log.splice(arrays + 12 * rows..arrays + 12 * rows, [0; 8]);
    }
    log.splice(arrays + 4 * rows..arrays + 4 * rows, [0; 4]);
    add(log, commit - 4, 4, if documents { 12 } else { 4 });
    add(log, commit + ROWS, 4, 1);
}

/// Puts a record in front of the last COMMIT, or of its first put.
fn insert(log: &mut Vec<u8>, at: usize, push: impl FnOnce(&mut Vec<u8>)) {
    let mut record = Vec::new();
    push(&mut record);
    log.splice(at..at, record);
}

/// Where the records of the last batch start.
fn batch_start(log: &[u8]) -> usize {
    let commit = last_commit(log);
    let places = records(log);
    let n = places.iter().position(|(at, _)| *at == commit).expect("there");
    let before = places[..n].iter().rposition(|(_, tag)| tag.is_some()).expect("FILE at least");
    places[before + 1].0
}

#[test]
fn a_commit_that_contradicts_its_batch_ends_the_log() {
    for documents in [false, true] {
        let image = killed(documents, false);
        let (all, before) = (opened(&image).expect("whole"), opened(&before_last(&image)).expect("whole"));
        assert_ne!(all, before);
        assert_eq!(told(&spoiled(&image, &|_, _| {})), Ok(all.clone()), "nothing is changed");
        // Not compared: the epoch, and an older MANIFEST, under which the cross-segment deletes were written.
        for (field, width, difference) in [(4, 4, 1), (16, 8, -1)] {
            let other = spoiled(&image, &|log, at| add(log, at + field, width, difference));
            assert_eq!(told(&other), Ok(all.clone()), "field {field}");
        }
        let mut spoils: Vec<StoreFile> = Vec::new();
        let mut change = |name: &str, spoil| spoils.push((name.to_owned(), spoil));
        for (name, at, width, differences) in [
            ("records", RECORDS, 4, &[-1, 1][..]),
            ("sequence", SEQ, 8, &[-1, 1, 1 << 40]),
            ("length of the batch", BATCH_LEN, 8, &[-1, 1]),
            ("end of the rows", ROWS_END, 8, &[-1, 1, -(STRIDE as i64), STRIDE as i64]),
            ("end of the documents", DOCS_END, 8, &[-1, 1]),
            ("rows without arrays", ROWS, 4, &[-1, 1]),
            ("cross_deletes without an array", KILLS, 4, &[1]),
        ] {
            for &difference in differences {
                change(
                    &format!("{name} {difference:+}"),
                    Box::new(move |log, commit| add(log, commit + at, width, difference)),
                );
            }
        }
        for kind in [2, 3] {
            change(&format!("kind {kind}"), Box::new(move |log, commit| set(log, commit + KIND, 1, kind)));
        }
        change("a row more", Box::new(move |log, commit| claim_a_row(log, commit, documents)));
        change(
            "a record that it does not count",
            Box::new(|log, commit| insert(log, commit - 4, |out| record::push_delete(out, b"z"))),
        );
        change(
            "a put behind a gap in the rows",
            Box::new(|log, _| {
                let put = batch_start(log);
                add(log, put + 5, 8, STRIDE as i64);
            }),
        );
        change(
            "a mark within the batch",
            Box::new(|log, commit| {
                let identity = identity();
                insert(log, commit - 4, |out| record::push_durable(out, 1, 1, &identity));
                let moved = last_commit(log) + 4;
                add(log, moved + BATCH_LEN, 8, (moved - commit) as i64);
            }),
        );
        if documents {
            change(
                "a line without end",
                Box::new(|log, commit| {
                    let line = commit + ARRAYS + 4 * 3;
                    let was = get(log, line, 4);
                    set(log, line, 4, u32::MAX.into());
                    add(log, commit + DOCS_END, 8, i64::from(u32::MAX) - was as i64);
                }),
            );
            change(
                "no documents behind some",
                Box::new(|log, commit| {
                    let rows = usize::try_from(get(log, commit + ROWS, 4)).expect("small");
                    log.drain(commit + ARRAYS + 4 * rows..commit + ARRAYS + 12 * rows);
                    add(log, commit - 4, 4, -8 * rows as i64);
                    set(log, commit + FLAGS, 2, 0);
                    set(log, commit + DOCS_END, 8, 0);
                }),
            );
        }
        // The chain covers each byte of a batch, and is left as it was.
        for at in [0, 4, 5] {
            let mut changed = image.clone();
            let log = changed.files.get_mut(&idx()).expect("a log");
            let put = batch_start(log);
            log[put + at] ^= 1;
            assert_eq!(told(&changed), Ok(before.clone()), "byte {at} of the batch");
        }
        for (name, spoil) in &spoils {
            assert_eq!(told(&spoiled(&image, spoil)), Ok(before.clone()), "{name}, documents {documents}");
        }
    }
}

#[test]
fn ids_that_are_not_of_their_kind_end_the_log() {
    let image = killed(false, true);
    let (all, before) = (opened(&image).expect("whole"), opened(&before_last(&image)).expect("whole"));
    assert_eq!(told(&spoiled(&image, &|_, _| {})), Ok(all));
    for kind in [1, 3] {
        let spoil = |log: &mut Vec<u8>, commit: usize| set(log, commit + KIND, 1, kind);
        assert_eq!(told(&spoiled(&image, &spoil)), Ok(before.clone()), "kind {kind}");
    }
}

#[test]
fn what_only_a_later_release_can_have_written_is_unsupported() {
    let image = killed(true, false);
    for (field, width, number) in
        [(FLAGS, 2, 3), (FLAGS, 2, 1 << 15), (RESERVED, 4, 1), (KIND, 1, 0), (KIND, 1, 4)]
    {
        let spoil = |log: &mut Vec<u8>, commit: usize| set(log, commit + field, width, number);
        let error = opened(&spoiled(&image, &spoil)).expect_err("of a later release");
        assert!(matches!(error, Error::Unsupported { .. }), "{field}: {error}");
    }
}

/// Marks in front of the last batch: what stands behind one that does not hold does not count.
#[test]
fn a_mark_that_contradicts_the_log_ends_it() {
    let image = killed(false, false);
    let (all, before) = (opened(&image).expect("whole"), opened(&before_last(&image)).expect("whole"));
    let log = &image.files[&idx()];
    let commit = last_commit(log) + 4;
    let (seq, rows_end) = (get(log, commit + SEQ, 8) - 1, get(log, commit + ROWS_END, 8) - 3 * STRIDE);
    let mark = |at: fn(&[u8]) -> usize, push: &dyn Fn(&mut Vec<u8>, &crate::format::Identity)| {
        let identity = identity_of(&image);
        told(&spoiled(&image, &|log, _| {
            let at = at(log);
            insert(log, at, |out| push(out, &identity));
        }))
    };
    let behind_file = |log: &[u8]| records(log)[1].0;
    let holds = [
        mark(batch_start, &|out, identity| record::push_durable(out, 1, seq, identity)),
        mark(batch_start, &|out, identity| record::push_durable(out, 1, 0, identity)),
        mark(batch_start, &|out, identity| record::push_close(out, 1, seq, 1, rows_end, identity)),
        mark(behind_file, &|out, identity| record::push_base(out, 0, &[], identity)),
    ];
    for (n, held) in holds.into_iter().enumerate() {
        assert_eq!(held, Ok(all.clone()), "mark {n} holds");
    }
    // It proves the batch behind it, which does not count any more.
    let early = [
        mark(batch_start, &|out, identity| record::push_durable(out, 1, seq + 1, identity)),
        mark(batch_start, &|out, identity| record::push_close(out, 1, seq + 1, 1, rows_end, identity)),
        told(&spoiled(&image, &|log, commit| set(log, commit + DURABLE_SEQ, 8, seq + 1))),
    ];
    for (n, early) in early.into_iter().enumerate() {
        assert!(early.is_err_and(|error| error.contains("00000001.idx")), "mark {n} is early");
    }
    let contradict = [
        mark(batch_start, &|out, identity| record::push_close(out, 1, seq - 1, 1, rows_end, identity)),
        mark(batch_start, &|out, identity| record::push_close(out, 1, seq, 1, rows_end + STRIDE, identity)),
        mark(batch_start, &|out, identity| record::push_base(out, 0, &[], identity)),
    ];
    for (n, contradicted) in contradict.into_iter().enumerate() {
        assert_eq!(contradicted, Ok(before.clone()), "mark {n} contradicts");
    }
}

/// A batch that a later one proves durable cannot be a torn end.
#[test]
fn a_contradiction_in_front_of_what_is_durable_is_damage() {
    let image = killed(false, false);
    let identity = identity_of(&image);
    let mut proven = image.clone();
    let log = proven.files.get_mut(&idx()).expect("a log");
    let seq = get(log, last_commit(log) + 4 + SEQ, 8);
    record::push_durable(log, 1, seq, &identity);
    assert!(opened(&proven).is_ok());
    let spoil = |log: &mut Vec<u8>, commit: usize| add(log, commit + RECORDS, 4, 1);
    let error = opened(&spoiled(&proven, &spoil)).expect_err("acknowledged");
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("00000001.idx"), "{error}");
}

#[test]
fn the_offsets_are_those_of_the_format() {
    let image = killed(true, false);
    let log = &image.files[&idx()];
    let at = last_commit(log);
    let Next::Record(Record::Control { payload }, _) = record::next(&log[at..]) else { panic!("a COMMIT") };
    let Some(Control::Commit(commit, _)) = Control::decode(payload, &identity_of(&image)) else {
        panic!("a COMMIT")
    };
    let found = [(SEQ, 8), (RECORDS, 4), (ROWS, 4), (KILLS, 4), (BATCH_LEN, 8), (ROWS_END, 8), (DOCS_END, 8)];
    let said = [
        commit.seq,
        commit.records.into(),
        commit.rows.into(),
        commit.cross_deletes.into(),
        commit.batch_len,
        commit.rows_end,
        commit.docs_end,
    ];
    assert_eq!(found.map(|(field, width)| get(log, at + 4 + field, width)), said);
}
