//! Compaction has bounds: in extra space on the disk, in speed, in how long somebody waits for it, and in what damage
//! stops.

use super::ask::{self, DELETES};
use super::model::{DIM, DIR, identity, root};
use crate::engine::Engine;
use crate::segment::ids::reseal;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::error::Error;
use crate::types::options::Limits;
use crate::{CompactOptions, CompactReport, Metric, OpenOptions, VectorStore};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

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
            self.store.put_with_document(id, &vector, &document).expect("stored");
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
        let report = self.store.compact_with(&CompactOptions::new(), |_| {
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
fn each_limit_seals_a_segment() {
    let wide = Limits { records: 1000, dat: 1 << 20, idx: 1 << 20, jsonl: 1 << 20 };
    let row = u64::from(DIM) * 4;
    let cases = [
        ("records", Limits { records: 10, ..wide }, 8, 0),
        ("dat", Limits { dat: 256 + 10 * row, ..wide }, 8, 0),
        ("idx", Limits { idx: 4000, ..wide }, 300, 0),
        ("jsonl", Limits { jsonl: 4000, ..wide }, 8, 400),
    ];
    for (what, limits, id, document) in cases {
        let options = OpenOptions::new().limits(limits).without_background();
        let mut case = Case::new(&options);
        for n in 0..40 {
            case.put(&format!("{n:0id$}"), document);
            case.store.flush().expect("flushed");
        }
        case.check();
        let segments = case.store.stats().expect("known").segments;
        assert!((4..=10).contains(&segments), "{what}: {segments} segments");
        // The batch that reaches a limit of the log or the documents is the last one of its segment.
        assert!(case.longest("dat") <= limits.dat, "{what}");
        assert!(
            case.longest("idx") <= limits.idx + 1000 && case.longest("jsonl") <= limits.jsonl + 500,
            "{what}"
        );
    }
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

/// One batch is cut into several outputs; at each step of the copy each row dies, deleted by each entry point or replaced.
pub(super) fn what_dies_meanwhile_stays_dead() -> Result<(), String> {
    let limits = Limits { dat: 256 + 2 * u64::from(DIM) * 4, ..LIMITS };
    let options = OpenOptions::new().without_background().limits(limits).buffer_bytes(0);
    let ids: Vec<String> = (0..8).map(|n| format!("{n}")).collect();
    for step in 0..5 {
        for way in 0..=DELETES.len() {
            let Case { disk, store, .. } = Case::new(&options);
            let rows = vec![1.0; ids.len() * DIM as usize];
            store.put_many(&ids, &rows).expect("stored");
            store.delete("0").and_then(|_| store.flush()).expect("deleted");
            let mut steps = 0;
            let (first, second) = (["1", "4", "6"], ["3", "7"]);
            let compacted = store.compact_with(&CompactOptions::new(), |_| {
                if steps == step {
                    for ids in [&first[..], &second[..]] {
                        match way {
                            way if way < DELETES.len() => {
                                _ = ask::delete(&store, ids, way, None).expect("deleted")
                            }
                            _ => ids.iter().for_each(|id| store.put(*id, &[2.0; 4]).expect("replaced")),
                        }
                    }
                }
                steps += 1;
                ControlFlow::Continue(())
            });
            compacted.map_err(|error| error.to_string())?;
            if steps < 4 {
                return Err(format!("{steps} steps: too few outputs"));
            }
            let died = step < steps;
            let expected: BTreeMap<&str, f32> = ids[1..]
                .iter()
                .filter_map(|id| match first.iter().chain(&second).any(|dies| dies == id) {
                    true if died => (way == DELETES.len()).then_some((id.as_str(), 2.0)),
                    _ => Some((id.as_str(), 1.0)),
                })
                .collect();
            store.flush().expect("flushed");
            disk.kill(store);
            let again =
                VectorStore::open_on(Arc::new(disk.killed()), Path::new(DIR), &options).expect("opens");
            for id in &ids {
                let found = ask::get(&again, id.as_str()).map_err(|error| error.to_string())?;
                if found.as_ref().map(|row| row[0]) != expected.get(id.as_str()).copied() {
                    return Err(format!("step {step}, way {way}: {id} is {found:?}"));
                }
            }
            let len = again.len().expect("known");
            if len != expected.len() || !again.verify().expect("readable").is_ok() {
                return Err(format!("step {step}, way {way}: {len} rows, not {}", expected.len()));
            }
        }
    }
    Ok(())
}

#[test]
fn what_dies_while_it_is_copied_dies_in_each_output() {
    what_dies_meanwhile_stays_dead().unwrap_or_else(|why| panic!("{why}"));
}

/// The engine of a store that has a dimension.
fn engine(store: &VectorStore) -> Arc<Engine> {
    store.engine().expect("a writer").clone()
}

/// Rows of 8 KiB: 33 dead ones are worth a compaction.
const WIDE: u32 = 2048;
const DEAD: usize = 33;

fn made(disk: &SimDisk, dim: u32, options: &OpenOptions) -> VectorStore {
    let door = Arc::new(disk.clone());
    VectorStore::create_on(door, Path::new(DIR), dim, Metric::L2, identity(), options).expect("made")
}

fn opened(image: &Image, options: &OpenOptions) -> (SimDisk, VectorStore) {
    let disk = SimDisk::new(image);
    let store = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens");
    (disk, store)
}

fn wide(n: usize) -> Vec<f32> {
    (0..WIDE as usize).map(|at| f32::from(u16::try_from(n * 31 + at).expect("small"))).collect()
}

/// Some rows that die and some that stay, each with a document of so many bytes.
fn fill(store: &VectorStore, stay: usize, document: usize) {
    let document = format!("\"{}\"", "x".repeat(document));
    for n in 0..DEAD {
        store.put(format!("dies {n}"), &wide(n)).expect("stored");
    }
    for n in 0..stay {
        store.put_with_document(format!("stays {n}"), &wide(n), &document).expect("stored");
    }
    store.flush().expect("flushed");
    for n in 0..DEAD {
        store.delete(format!("dies {n}")).expect("deleted");
    }
    store.flush().expect("flushed");
}

/// Runs `work` and fails where it does not come back.
pub(super) fn soon<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || _ = done.send(work()));
    wait.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what} does not come back"))
}

pub(super) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn the_background_copies_no_faster_than_it_may() {
    let speed = 400_000;
    let options = OpenOptions::new().without_background().compact_speed(speed);
    let store = made(&SimDisk::new(&root()), WIDE, &options);
    fill(&store, 10, 20_000);
    let (engine, start) = (engine(&store), Instant::now());
    engine.compact_in_background();
    let (rows, documents) = (10 * u64::from(WIDE) * 4, 10 * 20_000);
    let least = Duration::from_millis((rows + documents) * 1000 / speed);
    assert!(start.elapsed() >= least, "{:?} of {least:?}", start.elapsed());
    let stats = store.stats().expect("known");
    assert_eq!((stats.dead, stats.compaction_error), (0, None));
    // And `.ids` of what it made: that and the log that it is made from.
    let start = Instant::now();
    engine.build_in_background();
    let bytes = store.stats().expect("known").bytes;
    let least = Duration::from_millis(bytes.ids * 1000 / speed);
    assert!(bytes.ids > 0 && start.elapsed() >= least, "{:?} of {least:?}", start.elapsed());
}

/// The background sleeps for as long as its speed asks for, which is days here.
#[test]
fn a_caller_does_not_wait_for_the_pace_of_the_background() {
    let options = OpenOptions::new().compact_speed(1).flush_interval(Duration::from_millis(1));
    let store = Arc::new(made(&SimDisk::new(&root()), WIDE, &options));
    fill(&store, 5, 100);
    let background = engine(&store);
    until("the background copies", || background.maintenance.copying.load(Ordering::Relaxed) > 0);
    let caller = store.clone();
    let report = soon("compact", move || caller.compact()).expect("compacted");
    assert_eq!((report.rows_dropped, store.stats().expect("known").dead), (DEAD as u64, 0));
    // What gave way is looked at again, if the caller did not do it. The next sleep is that after `.ids`.
    fill(&store, 5, 100);
    until("the background copies", || background.maintenance.copying.load(Ordering::Relaxed) > 0);
    let caller = store.clone();
    let stopped =
        soon("compact", move || caller.compact_with(&CompactOptions::new(), |_| ControlFlow::Break(())));
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    let sealed = || background.published.get().segments.clone();
    until("`.ids` is written", || sealed().iter().rev().skip(1).all(|part| part.segment.has_ids()));
    drop(background);
    let store = Arc::into_inner(store).expect("nobody else has it");
    soon("close", move || store.close()).expect("closed");
}

#[test]
fn closing_does_not_wait_for_the_pace_of_the_background() {
    let options = OpenOptions::new().compact_speed(1).flush_interval(Duration::from_millis(1));
    let disk = SimDisk::new(&root());
    let store = made(&disk, WIDE, &options);
    fill(&store, 5, 100);
    let background = engine(&store);
    until("the background copies", || background.maintenance.copying.load(Ordering::Relaxed) > 0);
    drop(background);
    soon("close", move || store.close()).expect("closed");
    let (_, store) = opened(&disk.image(), &OpenOptions::new().without_background());
    assert_eq!((store.len().expect("known"), store.stats().expect("known").dead), (5, DEAD as u64));
    assert!(store.verify().expect("readable").is_ok());
}

/// A closed store of two segments with dead rows, of which one row has rotted.
fn rotted() -> (Image, u64) {
    let options = OpenOptions::new().without_background().compact_at(2.0).segment_records(100);
    let disk = SimDisk::new(&root());
    let store = made(&disk, WIDE, &options);
    for n in 0..200 {
        store.put(format!("{n}"), &wide(n)).expect("stored");
    }
    store.flush().expect("flushed");
    (0..DEAD + 1).for_each(|n| assert!(store.delete(format!("{n}")).expect("deleted")));
    store.close().expect("closed");
    let mut image = disk.image();
    let at = 256 + 50 * u64::from(WIDE) * 4;
    let dat = image.files.get_mut(&PathBuf::from("/s/00000001.dat")).expect("the first segment");
    dat[usize::try_from(at).expect("small")] ^= 1;
    (image, at)
}

#[test]
fn a_rotted_row_stops_only_the_compaction_of_its_segment() {
    let (image, at) = rotted();
    let options = OpenOptions::new().without_background().segment_records(100);
    let (_, store) = opened(&image, &options);
    let engine = engine(&store);
    let error = || store.stats().expect("known").compaction_error;
    engine.compact_in_background();
    let said = error().expect("a setback");
    assert!(said.contains("00000001.dat") && said.contains(&at.to_string()), "{said}");
    // Not tried again as long as the segment is as it was, whatever else happens.
    let tried = engine.next_segment_number();
    engine.compact_in_background();
    store.put("other", &wide(7)).expect("writes go on");
    store.flush().expect("flushed");
    engine.compact_in_background();
    assert_eq!(engine.next_segment_number(), tried, "it was tried again");
    assert_eq!(error(), Some(said.clone()));
    assert_eq!(store.get("51").expect("reads go on"), Some(wide(51)));
    assert!(store.get("50").expect_err("rotted").is_corrupt());
    // Another segment is compacted meanwhile.
    (100..101 + DEAD).for_each(|n| assert!(store.delete(format!("{n}")).expect("deleted")));
    store.flush().expect("flushed");
    engine.compact_in_background();
    let dead = |number: u64| {
        let parts = store.stats().expect("known").per_segment;
        parts.iter().find(|part| part.number == number).map(|part| part.rows - part.live)
    };
    assert_eq!((dead(1), dead(2)), (Some(DEAD as u64 + 1), None));
    assert_eq!(error(), Some(said.clone()));
    // It changes: tried again, in vain.
    let tried = engine.next_segment_number();
    store.delete("60").expect("deleted");
    store.flush().expect("flushed");
    engine.compact_in_background();
    assert!(engine.next_segment_number() > tried, "it was not tried again");
    assert_eq!(error(), Some(said));
    assert!(store.compact().expect_err("whoever asks is told").is_corrupt());
    // The row is replaced: nothing that lives is damaged.
    store.put("50", &wide(50)).expect("stored");
    store.flush().expect("flushed");
    engine.compact_in_background();
    assert_eq!((dead(1), error()), (None, None));
    assert_eq!(store.get("50").expect("readable"), Some(wide(50)));
}

#[test]
fn the_setback_goes_with_the_segment() {
    let options = OpenOptions::new().without_background().segment_records(100);
    for cleared in [false, true] {
        let (_, store) = opened(&rotted().0, &options);
        engine(&store).compact_in_background();
        assert!(store.stats().expect("known").compaction_error.is_some());
        if cleared {
            store.clear().expect("cleared");
        } else {
            store.delete("50").expect("deleted");
            store.compact().expect("compacted");
        }
        assert_eq!(store.stats().expect("known").compaction_error, None, "cleared: {cleared}");
    }
}

/// The threads of the store do the same by themselves.
#[test]
fn the_background_reports_a_rotted_row() {
    let (image, at) = rotted();
    let (_, store) = opened(&image, &OpenOptions::new().segment_records(100));
    store.put("other", &wide(7)).expect("stored");
    let error = || store.stats().expect("known").compaction_error;
    until("a setback", || error().is_some());
    let said = error().expect("it stays");
    assert!(said.contains("00000001.dat") && said.contains(&at.to_string()), "{said}");
    store.put("50", &wide(50)).expect("stored");
    until("it is made good", || error().is_none());
    store.close().expect("closed");
}

/// A closed store of two sealed segments of 600 rows and an active one of 300, all with documents.
fn indexed() -> Image {
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(600).ids_after(2);
    let store = made(&disk, DIM, &options);
    for n in 0..15u16 {
        for n in n * 100..(n + 1) * 100 {
            store
                .put_with_document(format!("{n}"), &[f32::from(n); DIM as usize], "{\"a\": 1}")
                .expect("stored");
        }
        store.flush().expect("flushed");
    }
    store.close().expect("closed");
    disk.image()
}

fn read_all(store: &VectorStore) {
    for n in 0..1500u16 {
        assert_eq!(
            store.get(format!("{n}")).expect("readable"),
            Some(vec![f32::from(n); DIM as usize]),
            "{n}"
        );
        assert!(store.get_document(format!("{n}")).expect("readable").is_some());
    }
    let found = store.search(&[77.0; DIM as usize], 1).expect("searched");
    assert_eq!(found[0].id, "77");
}

fn ids_of(segment: u64) -> PathBuf {
    Path::new(DIR).join(format!("{segment:08}.ids"))
}

/// Each page of `.ids` is damaged, of a sealed segment and of the active one: whoever meets it goes on, and closing makes
/// it whole, in a session that writes and in one that only reads. (The last page of a sealed one is its list of dead rows:
/// nobody reads it, MANIFEST has that.)
#[test]
fn a_damaged_page_of_ids_is_written_anew() {
    let whole = indexed();
    let options = OpenOptions::new().without_background().segment_records(600).ids_after(2);
    for segment in [1, 3] {
        let pages = whole.files[&ids_of(segment)].len() / 4096 - usize::from(segment == 1);
        for (page, writes) in (1..pages).flat_map(|page| [(page, false), (page, true)]) {
            let mut image = whole.clone();
            image.files.get_mut(&ids_of(segment)).expect("there")[page * 4096 + 9] ^= 4;
            let (disk, store) = opened(&image, &options);
            assert!(!store.verify().expect("readable").is_ok(), "{segment}, page {page}: not seen");
            read_all(&store);
            if writes {
                store.put("3", &[3.0; DIM as usize]).expect("stored");
                store.put_with_document("3", &[3.0; DIM as usize], "3").expect("stored");
                store.delete("new").expect("deleted");
            }
            store.close().expect("closed");
            let what = format!("{segment}, page {page} of {pages}, writes: {writes}");
            let (disk, store) = opened(&disk.image(), &options);
            let report = store.verify().expect("readable");
            assert!(report.is_ok(), "{what}: {:?}", report.damage);
            read_all(&store);
            store.close().expect("closed");
            assert!(disk.image().files.contains_key(&ids_of(segment)), "{what}");
        }
    }
}

#[test]
fn the_background_writes_damaged_ids_anew() {
    let mut image = indexed();
    let ids = image.files.get_mut(&ids_of(1)).expect("there");
    (1..ids.len() / 4096).for_each(|page| ids[page * 4096 + 9] ^= 4);
    let (_, store) = opened(&image, &OpenOptions::new().segment_records(600));
    // Its threads start; they have nothing to do by the time that the damage is met.
    store.put("new", &[1.0; DIM as usize]).expect("stored");
    store.flush().expect("flushed");
    std::thread::sleep(Duration::from_millis(100));
    read_all(&store);
    until("`.ids` is whole", || store.verify().expect("readable").is_ok());
    let version = engine(&store).published.get();
    until("its table is gone", || {
        engine(&store).published.load().segments[0].segment.has_ids() || version.segments.is_empty()
    });
    read_all(&store);
    store.close().expect("closed");
}

/// A rotted row is the row's fault: `.ids` goes on being used, and no table of the segment is made.
#[test]
fn a_rotted_row_costs_no_table() {
    let mut image = indexed();
    let dat = image.files.get_mut(&PathBuf::from("/s/00000001.dat")).expect("there");
    dat[256 + 5 * 16] ^= 1;
    let (_, store) = opened(&image, &OpenOptions::new().without_background().segment_records(600));
    assert!(store.get("6").expect("readable").is_some());
    let before = store.stats().expect("known").memory.index;
    assert!(store.get("5").expect_err("rotted").is_corrupt());
    assert!(store.search(&[5.0; DIM as usize], 1).expect_err("rotted").is_corrupt());
    assert_eq!(store.stats().expect("known").memory.index, before);
    assert!(engine(&store).published.load().segments[0].segment.has_ids());
}

/// `.ids` repeats what the log says. Where its checksum of a row is another one, under a right checksum of the page, the
/// log decides, and `.ids` is written anew.
#[test]
fn a_wrong_checksum_in_ids_alone_is_no_damage() {
    let mut image = indexed();
    let (_, store) = opened(&image, &OpenOptions::new().without_background());
    let crcs: Vec<[u8; 4]> = {
        let version = engine(&store).published.get();
        let crc = |row| version.segments[0].segment.entry(row).expect("known").crc.to_le_bytes();
        [0, 5, 150, 599].map(crc).to_vec()
    };
    drop(store);
    let ids = image.files.get_mut(&ids_of(1)).expect("there");
    for crc in crcs {
        let at: Vec<usize> = (4096..ids.len() - 4).filter(|&at| ids[at..at + 4] == crc).collect();
        assert_eq!(at.len(), 1, "a checksum of four bytes that is there once");
        ids[at[0]] ^= 1;
    }
    reseal(&identity(), ids);
    let (disk, store) = opened(&image, &OpenOptions::new().without_background());
    read_all(&store);
    let before = store.stats().expect("known").memory.index;
    assert!(before < 16 << 10, "{before} bytes: a table was made");
    store.close().expect("closed");
    let (_, store) = opened(&disk.image(), &OpenOptions::new().without_background());
    read_all(&store);
    assert!(engine(&store).published.load().segments[0].segment.has_ids(), "it was not written anew");
}
