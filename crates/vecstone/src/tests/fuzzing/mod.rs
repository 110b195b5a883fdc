//! Doors for the fuzz targets in `fuzz/`: any bytes as a store, on the simulated disk, or as one of its files.

mod codes;
mod del;
mod filter;
pub(crate) mod forged;
mod ids;
mod jsonl;
mod manifest;
pub(crate) mod plain;
#[cfg(test)]
mod tests;

pub use codes::codes;
pub use del::del;
pub use filter::filter;
pub use ids::ids;
pub use jsonl::jsonl;
pub use manifest::manifest;

use crate::format::header::{HEADER_LEN, Header};
use crate::format::record::{self, Next, Record};
use crate::format::{Chain, Identity, crc32c};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Error, Id, OpenOptions, VectorStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The three files of a small store, in one input: two lengths (u16), then `.dat`, `.idx`, MANIFEST. A first byte that
/// is odd asks for checksums that fit, so that what lies behind them is reached.
pub fn open_bytes(input: &[u8]) {
    let Some((&[mode, d0, d1, i0, i1], rest)) = input.split_first_chunk::<5>() else { return };
    let (dat, rest) = rest.split_at(rest.len().min(u16::from_le_bytes([d0, d1]).into()));
    let (idx, manifest) = rest.split_at(rest.len().min(u16::from_le_bytes([i0, i1]).into()));
    let (mut dat, mut idx, mut manifest) = (dat.to_vec(), idx.to_vec(), manifest.to_vec());
    if mode & 1 == 1 {
        fit_checksums(&mut dat, &mut idx, &mut manifest);
    }
    let mut image = Image { dirs: ["/".into(), "/s".into()].into(), ..Image::default() };
    for (name, bytes) in [("/s/00000001.dat", dat), ("/s/00000001.idx", idx), ("/s/MANIFEST", manifest)] {
        image.files.insert(name.into(), bytes);
    }
    let reader = VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new("/s"));
    let options = OpenOptions::new().lock_wait(Duration::ZERO);
    let writer = VectorStore::open_on(Arc::new(SimDisk::new(&image)), Path::new("/s"), &options);
    match (&reader, &writer) {
        (Ok(reader), Ok(writer)) => {
            let seen = use_it(reader);
            assert_eq!(seen, use_it(writer), "a reader and a writer see different rows");
            let row = vec![1.0; writer.dim()];
            writer.put("fuzz", &row).and_then(|()| writer.flush()).expect("a recovered store takes a row");
            assert_eq!(writer.get("fuzz").expect("readable"), Some(row));
        }
        (Err(_), Err(_)) => {}
        _ => panic!("only one of them opens: {reader:?} {writer:?}"),
    }
}

/// Reads, searches and verifies; the ids and the bits of their vectors, `None` for damaged rows.
fn use_it(store: &VectorStore) -> Vec<(Id, Option<Vec<u32>>)> {
    let report = store.verify().expect("the simulated disk reads");
    let mut found = Vec::new();
    let mut damaged = false;
    for item in store.snapshot().expect("nothing is buffered").iter() {
        match item {
            Ok((id, vector)) => {
                assert_eq!(store.get(&id).expect("just read").as_ref(), Some(&vector));
                found.push((id, Some(vector.iter().map(|x| x.to_bits()).collect())));
            }
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                damaged = true;
                found.push((Id::from(""), None));
            }
        }
    }
    assert!(!damaged || !report.is_ok(), "verify misses a damaged row");
    if let Ok(neighbors) = store.search(&vec![0.5; store.dim()], 10) {
        assert_eq!(neighbors.len(), store.len().expect("nothing is buffered").min(10));
        assert!(neighbors.iter().all(|n| !n.distance.is_nan()));
    }
    found
}

/// Makes the checksums of all three files, and the chain of the log, fit what is there.
fn fit_checksums(dat: &mut [u8], idx: &mut [u8], manifest: &mut [u8]) {
    for file in [dat.get_mut(..HEADER_LEN), Some(manifest)].into_iter().flatten() {
        if let Some((covered, crc)) = file.split_last_chunk_mut::<4>() {
            *crc = crc32c(covered).to_le_bytes();
        }
    }
    if let Ok(header) = Header::decode(dat) {
        fit_log(idx, &header.identity);
    }
}

/// A COMMIT in a log: where its record begins and ends, and its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fitted {
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) chain: Chain,
}

pub(crate) use record::FIRST_CHAIN;

/// Makes the checksums and the chain of a log fit what is there.
pub(crate) fn fit_log(idx: &mut [u8], identity: &Identity) -> Vec<Fitted> {
    let mut chain = idx.get(FIRST_CHAIN).and_then(|chain| chain.try_into().ok()).unwrap_or_default();
    let mut commits = Vec::new();
    let (mut at, mut since) = (0, 0);
    while let Next::Record(record, len) = record::next(&idx[at..]) {
        if let Record::Control { payload } = record {
            let (start, end) = (at + 4, at + 4 + payload.len());
            if record::fit_control(&mut idx[..at + len], since, start..end, &mut chain, identity) {
                since = at + len;
                commits.push(Fitted { at, end: since, chain });
            }
        }
        at += len;
    }
    commits
}

/// An id or payload and its offset, `None` for a delete.
pub type IdAndOffset = (Vec<u8>, Option<u64>);

/// The records at the start of `bytes`: their ids or payloads and offsets, and where the first bad one starts.
pub fn records(bytes: &[u8]) -> (Vec<IdAndOffset>, usize) {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Next::Record(record, len) = record::next(&bytes[at..]) {
        found.push(match record {
            Record::Put { id, offset } => (id.to_vec(), Some(offset)),
            Record::Delete { id } => (id.to_vec(), None),
            Record::Control { payload } => (payload.to_vec(), Some(u64::MAX - 1)),
        });
        at += len;
    }
    // Decoders take anything without panicking.
    let identity = Identity { uuid: [0; 16], segment: 1, salt: [0; 16] };
    _ = record::Control::decode(bytes, &identity);
    _ = record::FileRecord::decode(bytes);
    _ = record::strongest_proof(bytes, &identity);
    _ = Header::decode(bytes);
    _ = crate::format::manifest::Manifest::decode(bytes);
    (found, at)
}
