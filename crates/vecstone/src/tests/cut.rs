//! Documents that are cut, changed, removed or replaced beside an `.ids` of the active segment: what is damaged is said to
//! be, is never another document nor none, and hurts nothing else.

use super::hostile::{file, vector};
use super::model::{DIM, DIR, identity, options, root};
use super::repair::{changed, lists, names, repaired, without_ids};
use crate::maintain::verify::verify_directory;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Disk, Open, open_file};
use crate::types::error::{Error, Result};
use crate::{Filter, Id, Metric, OpenOptions, SearchOptions, VectorStore};
use std::path::Path;
use std::sync::Arc;

type Outcome<T = ()> = std::result::Result<T, String>;

/// The documents of the active segment.
const JSONL: &str = "00000002.jsonl";

/// Ids and the documents that they have now.
type Documents = [(&'static str, Option<&'static str>); 9];

const DOCUMENTS: Documents = [
    ("a", Some("{\"v\":11}")),
    ("b", Some("{\"v\":2}")),
    ("c", None),
    ("d", Some("{\"v\":4}")),
    ("e", Some("{\"v\":5}")),
    ("f", Some("{\"v\":6,\"w\":\"x\"}")),
    ("g", None),
    ("h", Some("{\"v\":8}")),
    ("i", Some("{\"v\":9}")),
];

/// The rows of the active segment, in their order: the first is dead, others replace rows of the sealed one.
const ACTIVE: [&str; 6] = ["f", "g", "h", "i", "a", "f"];

fn small() -> OpenOptions {
    options().segment_records(6)
}

/// A store that was closed, with an `.ids` of both of its segments.
fn closed() -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let made = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &small());
    let store = made.expect("made");
    let put = |id: &str, document: Option<&str>| match document {
        Some(text) => store.put_with_document(id, &vector(id), text).expect("stored"),
        None => store.put(id, &vector(id)).expect("stored"),
    };
    let document = |id: &str| DOCUMENTS.iter().find(|(of, _)| *of == id).expect("one of them").1;
    ["b", "c", "d", "e"].iter().for_each(|id| put(id, document(id)));
    ["a", "i", "f"].iter().for_each(|id| put(id, Some("{\"v\":1}")));
    ACTIVE[1..].iter().for_each(|id| put(id, document(id)));
    store.engine().expect("a writer").build_side_files(false);
    store.close().expect("closed");
    let image = disk.image();
    assert_eq!(names(&image, ".ids"), ["00000001.ids", "00000002.ids"]);
    assert_eq!(names(&image, ".jsonl"), ["00000001.jsonl", JSONL]);
    image
}

/// The ids of the active segment whose lines do not lie within the first `len` bytes.
fn behind(image: &Image, len: usize) -> Vec<&'static str> {
    let bytes = &image.files[&file(JSONL)];
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let mut behind: Vec<_> =
        ACTIVE.iter().zip(ends).skip(1).filter(|(_, end)| *end > len).map(|(id, _)| *id).collect();
    behind.sort_unstable();
    behind
}

fn open(disk: &SimDisk, writable: bool) -> Result<VectorStore> {
    open_with(disk, writable, &small())
}

fn open_with(disk: &SimDisk, writable: bool, options: &OpenOptions) -> Result<VectorStore> {
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    match writable {
        true => VectorStore::open_on(door, Path::new(DIR), options),
        false => VectorStore::open_read_only_on(door, Path::new(DIR)),
    }
}

/// Whether damage is said, and of that file.
fn is_told(error: &Error) -> bool {
    matches!(error, Error::Corrupt { path, .. } if *path == file(JSONL))
}

fn verify_names_it(image: &Image) -> bool {
    let door: Arc<dyn Disk> = Arc::new(SimDisk::new(image));
    let report = verify_directory(&door, Path::new(DIR)).expect("damage is no error");
    report.damage.iter().any(|damage| damage.path == file(JSONL))
}

/// All vectors are there, and each document that is not said to be damaged; the ids of those that are.
fn told(store: &VectorStore, now: &Documents) -> Outcome<Vec<&'static str>> {
    let snapshot = store.snapshot().expect("there");
    let mut told = Vec::new();
    for (id, document) in *now {
        match store.get(id) {
            Ok(Some(row)) if row == vector(id) => {}
            other => return Err(format!("the vector of {id} is {other:?}")),
        }
        for read in [store.get_document(id), snapshot.get_document(id)] {
            match read {
                Err(error) if is_told(&error) => told.push(id),
                Ok(read) if read.as_deref() == document => {}
                other => return Err(format!("the document of {id} is {other:?}, not {document:?}")),
            }
        }
    }
    told.dedup();
    let with_documents = now.iter().filter(|(_, document)| document.is_some()).count();
    let options = SearchOptions::new().with_documents();
    let filter = Filter::parse(r#"{"v": {"$gte": 0}}"#).expect("a filter");
    let asked = [
        (
            store
                .snapshot()
                .and_then(|snapshot| snapshot.search_with(&[0.0; DIM as usize], 9, &options))
                .map(|hits| hits.len()),
            9,
        ),
        (
            store.snapshot().and_then(|snapshot| snapshot.ids_where(&filter)).map(|ids| ids.len()),
            with_documents,
        ),
    ];
    for (found, all) in asked {
        match found {
            Ok(found) if found == all && told.is_empty() => {}
            Err(error) if is_told(&error) && !told.is_empty() => {}
            other => return Err(format!("{told:?} are damaged, a search or filter says {other:?}")),
        }
    }
    Ok(told)
}

/// Repair keeps all vectors, and all documents but those, which it lists.
fn check_repair(image: &Image, damaged: &[&str]) -> Outcome {
    let (report, content) = repaired(image).map_err(|e| e.to_string())?;
    for (id, document) in DOCUMENTS {
        let is_damaged = damaged.contains(&id);
        let expected = document.filter(|_| !is_damaged);
        let bits: Vec<u32> = vector(id).iter().map(|x| x.to_bits()).collect();
        let found = content.get(&Id::from(id));
        let same = found.is_some_and(|(row, text)| *row == bits && text.as_deref() == expected);
        if !same || lists(&report, id) != is_damaged {
            return Err(format!("{id} is {found:?} after repair: {report:?}"));
        }
    }
    Ok(())
}

/// Where documents that were durable are missing at the end, nobody opens the store: with the `.ids` of the active segment
/// as without it. Nothing is written then, and repair saves the rest.
pub(super) fn cut_documents_are_told() -> Outcome {
    let whole = closed();
    let len = whole.files[&file(JSONL)].len();
    for cut in 0..=len {
        let mut image = changed(&whole, JSONL, |bytes| bytes.truncate(cut));
        if cut == len {
            image.files.remove(&file(JSONL));
        }
        let gone = behind(&whole, if cut == len { 0 } else { cut });
        for image in [&image, &without_ids(&image)] {
            for writable in [false, true] {
                let disk = SimDisk::new(image);
                match open(&disk, writable) {
                    Err(error) if is_told(&error) => {}
                    other => return Err(format!("cut to {cut}, to be written {writable}: {other:?}")),
                }
                let after = disk.image().files;
                let same = image
                    .files
                    .iter()
                    .all(|(path, bytes)| path.ends_with("LOCK") || after.get(path) == Some(bytes));
                assert!(same, "cut to {cut}: what was refused was written to");
            }
            assert!(verify_names_it(image), "cut to {cut}: verify does not say so");
            check_repair(image, &gone).map_err(|why| format!("cut to {cut}: {why}"))?;
        }
    }
    Ok(())
}

/// Reads in every way, writes all rows anew with the documents kept, compacts, closes and opens.
fn go_through(image: &Image, expected: Option<&[&'static str]>) -> Outcome {
    let damaged = told(&open(&SimDisk::new(image), false).map_err(|e| e.to_string())?, &DOCUMENTS)?;
    if expected.is_some_and(|expected| expected != damaged) {
        return Err(format!("{damaged:?} are said to be damaged, not {expected:?}"));
    }
    check_repair(image, &damaged)?;
    let disk = SimDisk::new(image);
    let store = open(&disk, true).map_err(|e| e.to_string())?;
    for _ in 0..2 {
        if told(&store, &DOCUMENTS)? != damaged {
            return Err("a writer says something else than a reader".to_owned());
        }
        match store.compact() {
            Ok(_) if damaged.is_empty() => {}
            Err(error) if is_told(&error) && !damaged.is_empty() => {}
            other => return Err(format!("{damaged:?} are damaged, compaction says {other:?}")),
        }
    }
    store.close().map_err(|e| e.to_string())?;
    let store = open(&disk, true).map_err(|e| e.to_string())?;
    if told(&store, &DOCUMENTS)? != damaged {
        return Err("after a compaction and closing it is another damage".to_owned());
    }
    let rows: Vec<f32> = DOCUMENTS.iter().flat_map(|(id, _)| vector(id)).collect();
    let ids = DOCUMENTS.map(|(id, _)| id);
    store.put_many(&ids, &rows).and_then(|()| store.flush()).map_err(|e| e.to_string())?;
    let lost = store.stats().expect("known").lost_documents;
    // What the log says to be none needs no reading.
    let kept = DOCUMENTS.iter().filter(|(id, document)| document.is_some() && damaged.contains(id)).count();
    if lost != kept as u64 {
        return Err(format!("{damaged:?} could not be kept, {lost} are counted"));
    }
    let now = DOCUMENTS.map(|(id, document)| (id, document.filter(|_| !damaged.contains(&id))));
    let told_now = told(&store, &now)?;
    store.compact().and_then(|_| store.close()).map_err(|e| e.to_string())?;
    let again = told(&open(&disk, false).map_err(|e| e.to_string())?, &now)?;
    if told_now.is_empty() && again.is_empty() {
        return Ok(());
    }
    Err(format!("what was written anew is damaged: {told_now:?}, {again:?}"))
}

#[test]
fn documents_missing_at_the_end_are_told_with_ids_and_without() {
    cut_documents_are_told().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_changed_byte_hurts_one_document_and_is_told() {
    let whole = closed();
    for at in 0..whole.files[&file(JSONL)].len() {
        let old = whole.files[&file(JSONL)][at];
        for new in [old ^ 1, b'\n', 0].into_iter().filter(|new| *new != old) {
            let image = changed(&whole, JSONL, |bytes| bytes[at] = new);
            let line = whole.files[&file(JSONL)][..at].iter().filter(|byte| **byte == b'\n').count();
            // The first row is dead.
            let hurt = if line == 0 { &[] } else { &ACTIVE[line..=line] };
            assert!(verify_names_it(&image), "byte {at}: verify does not say so");
            for image in [&image, &without_ids(&image)] {
                go_through(image, Some(hurt)).unwrap_or_else(|why| panic!("byte {at} is {new}: {why}"));
            }
        }
    }
}

#[test]
fn documents_of_others_are_told() {
    let whole = closed();
    let (len, mut all) = (whole.files[&file(JSONL)].len(), ACTIVE[1..].to_vec());
    all.sort_unstable();
    let sealed = whole.files[&file("00000001.jsonl")].clone();
    let of_sealed = |bytes: &mut Vec<u8>| {
        bytes.clone_from(&sealed);
        bytes.resize(len.max(sealed.len()), b'\n');
    };
    let cases: [(&str, Image, Option<&[&'static str]>); 5] = [
        ("of the sealed segment", changed(&whole, JSONL, of_sealed), None),
        ("zeros", changed(&whole, JSONL, |bytes| bytes.fill(0)), Some(&all)),
        ("empty lines", changed(&whole, JSONL, |bytes| bytes.fill(b'\n')), Some(&all)),
        ("other places", changed(&whole, JSONL, |bytes| bytes.rotate_left(16)), None),
        ("more behind", changed(&whole, JSONL, |bytes| bytes.extend(b"{\"v\":7}\nnull\n")), Some(&[])),
    ];
    for (what, image, expected) in cases {
        for image in [&image, &without_ids(&image)] {
            go_through(image, expected).unwrap_or_else(|why| panic!("{what}: {why}"));
        }
    }
}

/// Cut while a reader and a writer have it open, which then goes on writing.
#[test]
fn documents_cut_under_open_handles_are_told() {
    let (whole, roomy) = (closed(), options());
    for cut in 0..whole.files[&file(JSONL)].len() {
        let disk = SimDisk::new(&whole);
        let stores = [open(&disk, false).expect("opens"), open_with(&disk, true, &roomy).expect("opens")];
        let jsonl = open_file(disk.clone(), &file(JSONL), Open::ReadWrite).expect("there");
        jsonl.set_len(cut as u64).expect("cut");
        let gone = behind(&whole, cut);
        for store in &stores {
            let told = told(store, &DOCUMENTS).unwrap_or_else(|why| panic!("cut to {cut}: {why}"));
            assert_eq!(told, gone, "cut to {cut}");
        }
        let [reader, writer] = stores;
        writer.put_with_document("z", &[9.0; 4], "{\"z\":1}").and_then(|()| writer.flush()).expect("stored");
        reader.refresh().expect("refreshed");
        for store in [&reader, &writer] {
            assert_eq!(
                store.get_document("z").expect("readable").as_deref(),
                Some("{\"z\":1}"),
                "cut to {cut}"
            );
            let now = store.get_document("h");
            let is_gone = gone.contains(&"h");
            assert_eq!(now.is_err_and(|error| is_told(&error)), is_gone, "cut to {cut}");
        }
        writer.close().expect("closed");
        let store = open_with(&disk, true, &roomy).expect("opens");
        store.delete("z").and_then(|_| store.flush()).expect("deleted");
        let told = told(&store, &DOCUMENTS).unwrap_or_else(|why| panic!("cut to {cut}, reopened: {why}"));
        assert_eq!(told, gone, "cut to {cut}, reopened");
    }
}
