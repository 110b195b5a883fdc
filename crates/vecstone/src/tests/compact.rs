//! Compaction has bounds: in extra space on the disk, in speed, in how long somebody waits for it, and in what damage
//! stops.

use super::model::{DIM, DIR, identity, root};
use crate::disk::sim::SimDisk;
use crate::settings::Limits;
use crate::{CompactReport, Metric, OpenOptions, VectorStore};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const LIMITS: Limits = Limits { records: 1000, dat: 64 << 10, idx: 16 << 10, jsonl: 64 << 10 };

/// A store on a simulated disk, and what is in it.
struct Case {
    disk: SimDisk,
    store: VectorStore,
    now: BTreeMap<String, String>,
}

impl Case {
    fn new(options: &OpenOptions) -> Case {
        let disk = SimDisk::new(&root());
        let door = Arc::new(disk.clone());
        let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
        Case { disk, store: store.expect("made"), now: BTreeMap::new() }
    }

    /// One batch of one row, whose document has about `len` bytes; none if 0.
    fn put(&mut self, id: &str, len: usize) {
        let document = format!("\"{}\"", "x".repeat(len));
        let vector = [1.0; DIM as usize];
        if len == 0 {
            self.store.put(id, &vector).expect("stored");
            self.now.insert(id.into(), String::new());
        } else {
            self.store.put_document(id, &vector, &document).expect("stored");
            self.now.insert(id.into(), document);
        }
    }

    fn delete(&mut self, id: &str) {
        self.store.delete(id).expect("deleted");
        self.now.remove(id);
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.disk.image().files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Compacts; the report, and how many bytes there were at most.
    fn compact(&self) -> (CompactReport, u64) {
        let mut peak = 0;
        let report = self.store.compact_with(|_| {
            peak = peak.max(self.bytes());
            ControlFlow::Continue(())
        });
        (report.expect("compacted"), peak)
    }

    fn check(&self) {
        assert_eq!(self.store.len().expect("known"), self.now.len());
        for (id, document) in &self.now {
            let found = self.store.get_document(id).expect("readable").unwrap_or_default();
            assert!(found == *document && self.store.contains(id).expect("readable"), "{id}");
        }
        let report = self.store.verify().expect("readable");
        assert!(report.is_ok(), "{:?}", report.damage);
    }

    /// The longest file of a kind.
    fn longest(&self, suffix: &str) -> u64 {
        let image = self.disk.image();
        let files = image.files.iter().filter(|(path, _)| path.extension().is_some_and(|it| it == suffix));
        files.map(|(_, bytes)| bytes.len() as u64).max().unwrap_or(0)
    }
}

/// Segments of few rows, each with a long id and a document of such a length (none: 0), of which those that `dies` names
/// are dead.
fn bounded(id: usize, document: impl Fn(usize) -> usize, dies: impl Fn(usize) -> bool) -> Case {
    let mut case = Case::new(&OpenOptions::new().without_background().limits(LIMITS).buffer_bytes(0));
    let name = |n: usize| format!("{n:0id$}");
    (0..200).for_each(|n| case.put(&name(n), document(n)));
    (0..200).filter(|&n| dies(n)).for_each(|n| case.delete(&name(n)));
    case.store.flush().expect("flushed");
    let (before, segments) = (case.bytes(), case.store.stats().expect("known").segments);
    let (report, peak) = case.compact();
    assert!(report.segments >= segments / 2, "{report:?} of {segments}");
    // `.ids` and MANIFEST come on top.
    let most = LIMITS.dat + LIMITS.idx + LIMITS.jsonl + (16 << 10);
    assert!(peak <= before + most, "{before} bytes, then {peak}");
    for (suffix, limit) in [("dat", LIMITS.dat), ("idx", LIMITS.idx), ("jsonl", LIMITS.jsonl)] {
        assert!(case.longest(suffix) <= limit, "{suffix}: {}", case.longest(suffix));
    }
    case.check();
    case
}

#[test]
fn a_run_of_large_documents_needs_no_more_room_than_a_segment() {
    let mut case = bounded(8, |_| 6000, |n| n % 10 == 3);
    assert_eq!(case.compact().0.segments, 0, "there is nothing left to do");
    // What became short is merged: the limits hold for what is live.
    for n in (0..200).filter(|n| n % 10 > 3) {
        case.delete(&format!("{n:08}"));
    }
    case.compact();
    let left: usize = case.now.values().map(String::len).sum();
    let segments = case.store.stats().expect("known").segments;
    assert!(segments <= 2 * left as u64 / LIMITS.jsonl + 2, "{segments} segments of {left} bytes");
    case.check();
}

#[test]
fn a_run_of_long_ids_needs_no_more_room_than_a_segment() {
    bounded(1500, |_| 0, |n| n % 7 == 3);
}

/// Where most rows are dead and the few that live have most of the bytes, the share of dead rows tells nothing.
#[test]
fn what_is_live_is_counted_row_by_row() {
    bounded(8, |n| if n % 10 == 0 { 60_000 } else { 200 }, |n| n % 10 > 1);
    bounded(400, |n| if n % 3 == 0 { 2000 } else { 0 }, |n| n % 4 == 1);
}

/// A row that is longer than any segment has one of its own.
#[test]
fn a_row_beyond_the_limits_is_copied_too() {
    let mut case = Case::new(&OpenOptions::new().without_background().limits(LIMITS).buffer_bytes(0));
    for n in 0..6 {
        case.put(&format!("{n}"), if n % 2 == 0 { 100_000 } else { 10 });
        case.put("again", 20);
    }
    case.compact();
    case.check();
}
