//! The door for documents.

use super::fit_checksums;
use crate::format::header::{HEADER_LEN, Header};
use crate::format::record::{self, COMMIT_START, FILE_BYTES, Next, Record};
use crate::pair::rows::NULL_LINE;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Document, Error, Id, Metric, OpenOptions, VectorStore, WriteBatch};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const DIR: &str = "/s";
const ROWS: usize = 6;

/// Where a COMMIT says how long `.jsonl` is, within its record.
const DOCS_END_AT: usize = 4 + 56;

/// The lengths of six lines, each behind a byte that says whether its checksum is right, then any bytes as `.jsonl`, in a
/// store whose log says so with right checksums. Every document is what its line says, or damage that names the file.
pub fn jsonl(input: &[u8]) {
    let Some((said, bytes)) = input.split_at_checked(3 * ROWS) else { return };
    let mut image = store().clone();
    let dat = image.files[Path::new("/s/00000001.dat")].clone();
    let header = Header::decode(&dat[..HEADER_LEN]).expect("a header");
    let (mut lines, mut at) = (Vec::new(), 0usize);
    for (row, said) in (0u64..).zip(said.chunks_exact(3)) {
        let len = usize::from(u16::from_le_bytes([said[1], said[2]]));
        let line = bytes.get(at..at + len);
        let right = header.identity.line_crc(row, line.unwrap_or_default());
        let crc = if said[0] & 1 == 0 { right } else { !right };
        lines.push((len, crc, line.filter(|_| said[0] & 1 == 0)));
        at += len;
    }
    let log = image.files.get_mut(Path::new("/s/00000001.idx")).expect("a log");
    let commit = commit_in(log);
    log[commit + DOCS_END_AT..][..8].copy_from_slice(&(at as u64).to_le_bytes());
    let array = commit + COMMIT_START + 4 * ROWS;
    for (place, (len, crc, _)) in log[array..array + 8 * ROWS].chunks_exact_mut(8).zip(&lines) {
        place[..4].copy_from_slice(&u32::try_from(*len).expect("two bytes").to_le_bytes());
        place[4..].copy_from_slice(&crc.to_le_bytes());
    }
    fit_checksums(&mut dat.clone(), log, &mut Vec::new());
    image.files.insert("/s/00000001.jsonl".into(), bytes.to_vec());
    let fits = at <= bytes.len();
    let options = OpenOptions::new().lock_wait(Duration::ZERO).without_background();
    let reader = VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new(DIR));
    let writer = VectorStore::open_on(Arc::new(SimDisk::new(&image)), Path::new(DIR), &options);
    for store in [reader, writer] {
        match store {
            Ok(store) => {
                assert!(fits, "the file is shorter than its lines");
                read(&store, &lines);
            }
            Err(error) => assert!(!fits && is_of_file(&error), "{error}"),
        }
    }
}

fn is_of_file(error: &Error) -> bool {
    matches!(error, Error::Corrupt { path, .. } if path.extension().is_some_and(|suffix| suffix == "jsonl"))
}

/// A line: its length, checksum and, if that is right, its bytes.
type Line<'a> = (usize, u32, Option<&'a [u8]>);

fn read(store: &VectorStore, lines: &[Line<'_>]) {
    let mut all = true;
    for (row, (len, _, line)) in lines.iter().enumerate() {
        let found = store.get_document(Id::from(row as u64));
        let expected = match line {
            _ if *len == 0 => Ok(None),
            Some(line) if *line == NULL_LINE => Ok(None),
            Some(line) => {
                let text = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line));
                text.map(|text| Some(text.to_owned())).map_err(|_| ())
            }
            None => Err(()),
        };
        all &= expected.is_ok();
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "row {row}"),
            (Err(error), Err(())) => assert!(is_of_file(&error), "row {row}: {error}"),
            (found, expected) => panic!("row {row}: {found:?}, not {expected:?}"),
        }
    }
    let report = store.verify().expect("the simulated disk reads");
    assert!(all || !report.is_ok(), "verify misses a damaged document");
    // What is read at once is what is read one by one.
    let filter = crate::Filter::parse(r#"{"a": {"$exists": true}}"#).expect("a filter");
    match store.snapshot().and_then(|snapshot| snapshot.ids_where(&filter)) {
        Ok(ids) => assert!(all && ids.len() <= ROWS, "a filter passes a damaged document"),
        Err(error) => assert!(is_of_file(&error), "{error}"),
    }
}

/// Where the record of the only COMMIT begins.
fn commit_in(log: &[u8]) -> usize {
    let mut at = FILE_BYTES;
    while let Next::Record(record, len) = record::next(&log[at..]) {
        if matches!(record, Record::Control { .. }) {
            return at;
        }
        at += len;
    }
    panic!("no COMMIT")
}

/// Six rows with documents, closed.
fn store() -> &'static Image {
    static STORE: OnceLock<Image> = OnceLock::new();
    STORE.get_or_init(|| {
        let disk = SimDisk::new(&Image { dirs: ["/".into()].into(), ..Image::default() });
        let identity = crate::format::Identity { uuid: [7; 16], segment: 1, salt: [9; 16] };
        let options = OpenOptions::new().lock_wait(Duration::ZERO).without_background();
        let store =
            VectorStore::create_on(Arc::new(disk.clone()), Path::new(DIR), 1, Metric::L2, identity, &options);
        let store = store.expect("made");
        let ids: Vec<u64> = (0..ROWS as u64).collect();
        let documents = vec![Document::Json("{}"); ROWS];
        store
            .write(WriteBatch::new().put_many_with_documents(&ids, &[1.0; ROWS], &documents))
            .expect("stored");
        store.close().expect("closed");
        disk.image()
    })
}
