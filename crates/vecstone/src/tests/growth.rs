//! What a store of many segments, or of few dead rows, costs: bounds that are not times.

use super::model::{DIM, DIR, identity, root};
use crate::engine::Engine;
use crate::sys::disk::sim::SimDisk;
use crate::types::error::Error;
use crate::{CompactOptions, CompactReport, Metric, OpenOptions, VectorStore};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

fn made(disk: &SimDisk, options: &OpenOptions) -> VectorStore {
    let door = Arc::new(disk.clone());
    VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options).expect("made")
}

fn opened(disk: &SimDisk, options: &OpenOptions) -> VectorStore {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), options).expect("opens")
}

fn engine(store: &VectorStore) -> Arc<Engine> {
    store.engine().expect("a writer").clone()
}

fn id(n: usize) -> String {
    format!("{n:06}")
}

/// Writes rows, one batch for each `step` of them, so that segments end where they are to.
fn put(store: &VectorStore, rows: std::ops::Range<usize>, step: usize) {
    for start in rows.clone().step_by(step) {
        let ids: Vec<String> = (start..rows.end.min(start + step)).map(id).collect();
        let vectors: Vec<f32> =
            ids.iter().flat_map(|id| [id.parse().expect("a number"); DIM as usize]).collect();
        store.put_many(&ids, &vectors).expect("stored");
        store.flush().expect("flushed");
    }
}

fn check(store: &VectorStore, live: impl Iterator<Item = usize>) {
    let mut rows = 0;
    for n in live {
        let expected = Some(vec![f32::from(u16::try_from(n).expect("small")); DIM as usize]);
        assert_eq!(store.get(id(n)).expect("readable"), expected, "{n}");
        rows += 1;
    }
    assert_eq!(store.len().expect("known"), rows);
    assert!(store.verify().expect("readable").is_ok());
}

/// Names of the files that segments have on the disk.
fn files(disk: &SimDisk) -> Vec<String> {
    let files = disk.image().files.into_keys();
    let names = files.map(|path| path.file_name().expect("a file").to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('0')).collect()
}

/// Bytes of the rows.
fn bytes(disk: &SimDisk) -> u64 {
    let files = disk.image().files.into_iter();
    files
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "dat"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum()
}

fn compact(store: &VectorStore, min_dead: f64) -> CompactReport {
    let options = CompactOptions::new().min_dead(min_dead);
    store.compact_with(&options, |_| ControlFlow::Continue(())).expect("compacted")
}

#[test]
fn a_segment_with_few_dead_rows_is_not_rewritten_and_the_report_says_so() {
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(200);
    let store = made(&disk, &options);
    put(&store, 0..2000, 100);
    // One of 200 in each segment but the last, which has two: that share is enough.
    for n in (0..9).map(|segment| segment * 200).chain([1800, 1801]) {
        assert!(store.delete(id(n)).expect("deleted"));
    }
    store.flush().expect("flushed");
    let before = files(&disk);
    let report = store.compact().expect("compacted");
    assert_eq!((report.segments, report.rows_dropped), (1, 2), "{report:?}");
    assert_eq!((report.segments_left, report.rows_left), (9, 9), "{report:?}");
    let stayed = files(&disk).iter().filter(|name| before.contains(name)).count();
    assert!(stayed >= 9 * 2, "{before:?}, then {:?}", files(&disk));
    let image = disk.image();
    let report = store.compact().expect("compacted");
    assert_eq!((report.segments, report.bytes_freed, report.rows_left), (0, 0, 9));
    assert!(disk.image().files == image.files, "there was nothing to do");
    // As many as the caller says: 0.5 of a hundred are one of 200.
    let report = compact(&store, 0.006);
    assert_eq!((report.segments, report.rows_left), (0, 9));
    let report = compact(&store, 0.005);
    assert_eq!((report.segments, report.rows_dropped, report.rows_left), (9, 9, 0));
    let report = compact(&store, 0.0);
    assert_eq!((report.segments, report.segments_left), (0, 0));
    check(&store, (0..2000).filter(|n| n % 200 > 0 && *n != 1801));
    store.close().expect("closed");
}

#[test]
fn what_is_merged_loses_its_dead_rows_whatever_their_share() {
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(200);
    let store = made(&disk, &options);
    put(&store, 0..600, 100);
    store.close().expect("closed");
    let store = opened(&disk, &options.segment_records(2000));
    assert!(store.delete(id(0)).expect("deleted"));
    let report = compact(&store, 1.0);
    assert_eq!((report.rows_dropped, report.rows_left), (1, 0), "{report:?}");
    check(&store, 1..600);
}

#[test]
fn a_share_of_dead_rows_is_from_0_to_1() {
    let disk = SimDisk::new(&root());
    let store = made(&disk, &OpenOptions::new().without_background());
    put(&store, 0..10, 10);
    for share in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
        let options = CompactOptions::new().min_dead(share);
        let refused = store.compact_with(&options, |_| ControlFlow::Continue(())).expect_err("no share");
        let Error::InvalidMinDead { share: found } = refused else { panic!("{refused:?}") };
        assert!(found.to_bits() == share.to_bits(), "{found}");
        assert!(refused.to_string().contains("0.01 is usual"), "{refused}");
    }
    assert_eq!(compact(&store, 1.0), CompactReport::default());
}

/// Segments whose rows are all dead, and one that has nothing but deletes, go without anybody asking, with their files.
#[test]
fn a_sealed_segment_without_live_rows_goes_in_the_background() {
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(100);
    let store = made(&disk, &options);
    put(&store, 0..500, 100);
    let dead: Vec<String> = (100..300).map(id).collect();
    // A hundred deletes fill a segment, a hundred the next one.
    dead.chunks(100).for_each(|ids| assert_eq!(store.delete_many(ids).expect("deleted"), 100));
    put(&store, 500..550, 50);
    let stats = store.stats().expect("known");
    assert!(stats.per_segment.iter().filter(|part| part.live == 0).count() >= 4, "{stats:?}");
    let small: u64 = stats.per_segment.iter().map(|part| part.rows - part.live).sum();
    assert!(small * u64::from(DIM) * 4 < 256 << 10, "below what else is due");
    engine(&store).compact_in_background();
    let stats = store.stats().expect("known");
    assert!(stats.per_segment.iter().all(|part| part.live > 0), "{:?}", stats.per_segment);
    assert_eq!((stats.dead, stats.compaction_error), (0, None));
    let named: Vec<String> = stats.per_segment.iter().map(|part| format!("{:08}", part.number)).collect();
    assert!(
        files(&disk).iter().all(|file| named.iter().any(|name| file.starts_with(name))),
        "{:?}",
        files(&disk)
    );
    let image = disk.image();
    engine(&store).compact_in_background();
    assert!(disk.image().files == image.files, "there was nothing left to do");
    let live = || (0..100).chain(300..550);
    check(&store, live());
    disk.kill(store);
    check(&opened(&SimDisk::new(&disk.image()), &options), live());
}

/// Asked for, they go whatever share of dead rows is asked for, and no row is copied; `compact_at` above 1 keeps them in
/// the background.
#[test]
fn a_sealed_segment_without_live_rows_goes_at_each_compaction() {
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(100).compact_at(2.0);
    let store = made(&disk, &options);
    put(&store, 0..300, 100);
    let dead: Vec<String> = (100..200).map(id).collect();
    assert_eq!(store.delete_many(&dead).expect("deleted"), 100);
    put(&store, 300..310, 10);
    let (before, segments) = (bytes(&disk), store.stats().expect("known").segments);
    engine(&store).compact_in_background();
    assert_eq!(store.stats().expect("known").segments, segments);
    let mut copied = 0;
    let report = store.compact_with(&CompactOptions::new().min_dead(1.0), |step| {
        copied = step.rows;
        ControlFlow::Continue(())
    });
    let report = report.expect("compacted");
    assert_eq!((copied, report.segments, report.rows_dropped), (0, 2, 100), "{report:?}");
    assert!(bytes(&disk) <= before - 100 * u64::from(DIM) * 4);
    check(&store, (0..100).chain(200..310));
}

/// A reader that looked for ids before there was an `.ids` has a table in memory, until it refreshes and there is one.
#[test]
fn a_reader_lets_go_of_a_table_when_there_is_an_ids() {
    const ROWS: usize = 2000;
    let disk = SimDisk::new(&root());
    let options = OpenOptions::new().without_background().segment_records(ROWS as u64);
    let store = made(&disk, &options);
    put(&store, 0..ROWS + 10, ROWS);
    let read_only = || {
        let opened = VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR));
        opened.expect("opens")
    };
    let reader = read_only();
    let has = |reader: &VectorStore| {
        for n in [0, 7, ROWS - 1, ROWS + 9] {
            assert!(reader.get(id(n)).expect("readable").is_some(), "{n}");
        }
        assert!(!reader.contains("none").expect("readable"));
        reader.stats().expect("known").memory.index
    };
    let table = has(&reader);
    assert!(table > 10 * ROWS as u64, "{table} bytes");
    let held = reader.snapshot().expect("known");
    assert!(!reader.refresh().expect("read on"), "nothing was written");
    assert_eq!(has(&reader), table, "there is no file yet");
    store.optimize().expect("built");
    for round in 0..2 {
        if round > 0 {
            put(&store, ROWS + 10..ROWS + 20, 10);
        }
        assert_eq!(reader.refresh().expect("read on"), round > 0);
        let fresh = has(&read_only());
        let now = has(&reader);
        assert!(now <= fresh + 1024 && now < table / 2, "{now}, a fresh handle has {fresh}");
    }
    assert!(held.get(id(3)).expect("readable").is_some());
    let sealed =
        |place: usize| disk.image().files.contains_key(&Path::new(DIR).join(format!("{place:08}.ids")));
    assert!(sealed(1));
}
