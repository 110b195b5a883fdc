//! Speed and size as a ratio to what the machine can do, or to a limit that the project has set itself, both measured in
//! one run, in turns.
//!
//! `make bench` runs it: one line per figure with limit, ours and ratio (medians); exit code 1 if a ratio is below its
//! target. `make bench FIGURES="put open"` runs the groups whose names are given. A harness of its own, because no
//! benchmark library interleaves the two sides of one ratio.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "seen from outside: a bench may look at the files, and its numbers are small"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use vecstone::{Durability, Metric, OpenOptions, VectorStore, WriteBatch};

const ROWS: usize = 100_000;
const DIM: usize = 768;
const TURNS: usize = 7;
/// Set in the child that leaves a store as a killed process does.
const KILLED: &str = "VECSTONE_BENCH_KILLED";

fn main() {
    if let Some(path) = std::env::var_os(KILLED) {
        leave_unclosed(Path::new(&path));
    }
    // `cargo test --benches` runs this too, without `--bench`: nothing to do there.
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let wanted: Vec<&str> = args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    println!("{:<58} {:>14} {:>14} {:>7} {:>7}", "figure", "limit", "ours", "ratio", "target");
    let groups: [(&str, Group); 9] = [
        ("bulk", bulk),
        ("sync", sync),
        ("buffered", buffered),
        ("read", read),
        ("search", search),
        ("open", open),
        ("killed", killed),
        ("size", size),
        ("ingest", ingest),
    ];
    let mut good = true;
    for (name, group) in groups {
        if wanted.is_empty() || wanted.contains(&name) {
            let place = dir.path().join(name);
            fs::create_dir(&place).expect("made");
            good &= group(&place);
            fs::remove_dir_all(&place).expect("removed");
        }
    }
    std::process::exit(if good { 0 } else { 1 });
}

/// Some figures; false if one is below its target.
type Group = fn(&Path) -> bool;

/// Prints a figure of which more is better.
fn more(name: &str, unit: &str, limit: f64, ours: f64, target: f64) -> bool {
    let show =
        |value: f64| if value < 100.0 { format!("{value:.3} {unit}") } else { format!("{value:.0} {unit}") };
    let ratio = ours / limit;
    println!("{name:<58} {:>14} {:>14} {ratio:>7.2} {target:>7.2}", show(limit), show(ours));
    ratio >= target
}

/// Prints a figure without a target.
fn information(name: &str, unit: &str, limit: f64, ours: f64) {
    let show = |value: f64| format!("{value:.0} {unit}");
    println!("{name:<58} {:>14} {:>14} {:>7.2} {:>7}", show(limit), show(ours), ours / limit, "-");
}

/// Prints a figure of which at most `limit` is good: the ratio is limit to ours.
fn at_most(name: &str, unit: &str, limit: f64, ours: f64) -> bool {
    let show =
        |value: f64| if value < 100.0 { format!("{value:.4} {unit}") } else { format!("{value:.0} {unit}") };
    let ratio = limit / ours.max(f64::MIN_POSITIVE);
    println!("{name:<58} {:>14} {:>14} {ratio:>7.2} {:>7.2}", show(limit), show(ours), 1.0);
    ratio >= 1.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("vec_{n:07}")).collect()
}

fn vectors(rows: usize, dim: usize) -> Vec<f32> {
    (0..rows * dim).map(|n| (n % 8191) as f32 * 0.001 - 4.0).collect()
}

fn create(path: &Path, dim: usize) -> VectorStore {
    VectorStore::create(path, dim as u32, Metric::Cosine).expect("made")
}

/// Seconds that a raw write of these bytes takes: 1 MiB at a time, one sync.
fn raw_write(path: &Path, vectors: &[f32], times: usize) -> f64 {
    let bytes: &[u8] = bytemuck::cast_slice(vectors);
    let start = Instant::now();
    let file = File::create(path).expect("made");
    let mut at = 0;
    for _ in 0..times {
        for data in bytes.chunks(1 << 20) {
            file.write_all_at(data, at).expect("written");
            at += data.len() as u64;
        }
    }
    file.sync_data().expect("synced");
    let took = seconds(start);
    drop(file);
    fs::remove_file(path).expect("removed");
    took
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).expect("removed");
}

// ---- writing ----

fn bulk(dir: &Path) -> bool {
    let (ids, vectors) = (ids(0..ROWS), vectors(ROWS, DIM));
    let bytes = (ROWS * DIM * 4) as f64 / 1e6;
    let run = |name: &str, target: f64, rows: usize| {
        let (mut limit, mut ours) = (Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            let raw = raw_write(&dir.join("raw"), &vectors, 1);
            let path = dir.join("store");
            let start = Instant::now();
            let store = create(&path, DIM);
            for (ids, vectors) in ids.chunks(rows).zip(vectors.chunks(rows * DIM)) {
                store.put_many(ids, vectors).expect("stored");
            }
            store.flush().expect("flushed");
            let our = seconds(start);
            drop(store);
            remove(&path);
            // The first turn warms up.
            if turn > 0 {
                limit.push(bytes / raw);
                ours.push(bytes / our);
            }
        }
        more(name, "MB/s", median(limit), median(ours), target)
    };
    let one = run("bulk put_many 100,000 x 768, one batch, until durable", 0.9, ROWS);
    // These are copied to the buffer first: a batch above a quarter of it would not be.
    run("the same in batches of 5,000, one flush", 0.7, 5000) & one
}

fn sync(dir: &Path) -> bool {
    const OPS: usize = 150;
    let file = File::create(dir.join("raw")).expect("made");
    let store = create(&dir.join("store"), DIM);
    let page = vec![7u8; 4096];
    let vector = vectors(1, DIM);
    let (mut limit, mut one, mut many, mut at, mut next) = (Vec::new(), Vec::new(), Vec::new(), 0u64, 0u64);
    for turn in 0..=TURNS {
        let start = Instant::now();
        for _ in 0..OPS {
            file.write_all_at(&page, at).expect("written");
            file.sync_data().expect("synced");
            at += 4096;
        }
        let raw = OPS as f64 / seconds(start);
        let start = Instant::now();
        for n in 0..OPS as u64 {
            store
                .write(
                    WriteBatch::new()
                        .put(&format!("one_{:07}", next + n), &vector)
                        .durability(Durability::Sync),
                )
                .expect("stored");
        }
        let single = OPS as f64 / seconds(start);
        next += OPS as u64;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (store, vector) = (&store, &vector);
                scope.spawn(move || {
                    for n in 0..OPS as u64 {
                        let id = format!("t{thread}_{:07}", next + n);
                        store
                            .write(WriteBatch::new().put(&id, vector).durability(Durability::Sync))
                            .expect("stored");
                    }
                });
            }
        });
        let threads = 16.0 * OPS as f64 / seconds(start);
        next += OPS as u64;
        if turn > 0 {
            limit.push(raw);
            one.push(single);
            many.push(threads);
        }
    }
    let limit = median(limit);
    let single =
        more("put, Durability::Sync, one thread (4 KiB append + fdatasync)", "/s", limit, median(one), 0.6);
    more("the same, 16 threads", "/s", limit, median(many), 5.0) & single
}

fn buffered(dir: &Path) -> bool {
    let vectors = vectors(15_000, DIM);
    let ids = ids(0..200_000);
    let store = create(&dir.join("bursts"), DIM);
    let mut rates = Vec::new();
    // New ids each time: replaced rows would be compacted on the other core during the next bursts.
    for (turn, ids) in ids.chunks_exact(15_000).take(TURNS + 1).enumerate() {
        let start = Instant::now();
        for (id, vector) in ids.iter().zip(vectors.chunks(DIM)) {
            store.put(id, vector).expect("stored");
        }
        rates.push(15_000.0 / seconds(start));
        store.flush().expect("flushed");
        if turn == 0 {
            rates.clear();
        }
    }
    drop(store);
    remove(&dir.join("bursts"));
    let bursts = more("buffered put, bursts of 15,000 into an empty buffer", "/s", 1e6, median(rates), 1.0);
    let (mut limit, mut ours) = (Vec::new(), Vec::new());
    let bytes = (200_000 * DIM * 4) as f64 / 1e6;
    for turn in 0..=3 {
        let first = 10_000 * DIM;
        let raw = raw_write(&dir.join("raw"), &vectors[..first], 20);
        let path = dir.join("store");
        let start = Instant::now();
        let store = create(&path, DIM);
        for (n, id) in ids.iter().enumerate() {
            let row = n % 15_000 * DIM;
            store.put(id, &vectors[row..row + DIM]).expect("stored");
        }
        store.flush().expect("flushed");
        let our = seconds(start);
        drop(store);
        remove(&path);
        if turn > 0 {
            limit.push(bytes / raw);
            ours.push(bytes / our);
        }
    }
    more("buffered put of 200,000 rows until durable (raw write)", "MB/s", median(limit), median(ours), 0.7)
        & bursts
}

// ---- reading ----

fn read(dir: &Path) -> bool {
    let path = dir.join("store");
    let (ids, vectors) = (ids(0..ROWS), vectors(ROWS, DIM));
    let store = create(&path, DIM);
    store.put_many(&ids, &vectors).expect("stored");
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    let written: Vec<String> = ids.clone();
    // A stride that visits every row once, in no order: each row comes from memory, not from a cache.
    let scattered: Vec<String> = (0..ROWS).map(|n| ids[n * 7919 % ROWS].clone()).collect();
    drop(ids);
    let mut good = true;
    for (name, order, get_limit, view_limit) in
        [("in the order of writing", written, 700e3, 5e6), ("in no order", scattered, 700e3, 5e6)]
    {
        let (mut gets, mut views) = (Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            let start = Instant::now();
            for id in &order {
                assert!(store.get(id).expect("readable").is_some());
            }
            let get = ROWS as f64 / seconds(start);
            let snapshot = store.snapshot().expect("readable");
            let start = Instant::now();
            let mut sum = 0.0;
            for id in &order {
                sum += snapshot.get_ref(id).expect("readable").expect("there")[0];
            }
            let view = ROWS as f64 / seconds(start);
            assert!(sum.is_finite());
            if turn > 0 {
                gets.push(get);
                views.push(view);
            }
        }
        good &= more(&format!("get, checked, 100,000 rows, {name}"), "/s", get_limit, median(gets), 1.0);
        good &= more(&format!("view, unchecked, zero-copy, {name}"), "/s", view_limit, median(views), 1.0);
    }
    good
}

// ---- searching ----

/// Rows that differ enough for their distances to differ.
fn noise(rows: usize, dim: usize) -> Vec<f32> {
    let mut state = 88_172_645_463_325_252u64;
    let mut one = || {
        // Xorshift (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..rows * dim).map(|_| one()).collect()
}

/// Seconds that a loop takes which only reads these bytes.
fn read_loop(bytes: &[u8]) -> f64 {
    let start = Instant::now();
    let mut sums = [0u64; 32];
    for words in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(words.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    std::hint::black_box(sums);
    seconds(start)
}

fn search(dir: &Path) -> bool {
    const QUERIES: usize = 256;
    let (ids, vectors) = (ids(0..ROWS), noise(ROWS, DIM));
    let mut good = true;
    for metric in [Metric::Cosine, Metric::L2] {
        let name = format!("{metric:?}").to_lowercase();
        let path = dir.join(&name);
        let options = OpenOptions::new().threads(1);
        let store = options.create(&path, DIM as u32, metric).expect("made");
        store.put_many(&ids, &vectors).expect("stored");
        store.flush().expect("flushed");
        let rows: &[u8] = bytemuck::cast_slice(&vectors);
        let (mut limit, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            let raw = 1.0 / read_loop(rows);
            let query = &vectors[turn * 1000 * DIM..][..DIM];
            let start = Instant::now();
            assert_eq!(store.search(query, 10).expect("found").len(), 10);
            let our = 1.0 / seconds(start);
            if turn > 0 {
                limit.push(raw);
                one.push(our);
            }
        }
        for turn in 0..=2 {
            let queries = &vectors[turn * 1000 * DIM..][..QUERIES * DIM];
            let start = Instant::now();
            let found = store
                .snapshot()
                .and_then(|snapshot| snapshot.search_many(queries, 10, &Default::default()))
                .expect("found");
            assert_eq!(found.len(), QUERIES);
            many.push(QUERIES as f64 / seconds(start));
        }
        let (limit, one) = (median(limit), median(one));
        let figure = format!("search {name} 100,000 x 768, one thread (reading the rows)");
        good &= more(&figure, "/s", limit, one, 0.75);
        information("the same, 256 queries at once (one by one)", "/s", one, median(many));
        drop(store);
        remove(&path);
    }
    good
}

fn open_to_first_get(path: &Path, id: &str) -> f64 {
    let mut times = Vec::new();
    for _ in 0..TURNS * 3 {
        let start = Instant::now();
        let store = VectorStore::open(path).expect("opens");
        assert!(store.get(id).expect("readable").is_some());
        times.push(seconds(start) * 1e3);
        store.close().expect("closed");
    }
    median(times)
}

/// Fills a store with rows of `dim` components in batches of `batch` and waits for the background.
fn fill(store: &VectorStore, from: usize, to: usize, dim: usize, batch: usize) {
    let vectors = vectors(batch, dim);
    for first in (from..to).step_by(batch) {
        let ids = ids(first..(first + batch).min(to));
        store.put_many(&ids, &vectors[..ids.len() * dim]).expect("stored");
    }
    store.flush().expect("flushed");
}

/// Waits until each sealed segment has its index.
fn settle(store: &VectorStore, path: &Path) {
    let indexes = || {
        let names = fs::read_dir(path)
            .expect("listed")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(".ids")).count() as u64
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while indexes() + 1 < store.stats().expect("readable").segments && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn open(dir: &Path) -> bool {
    let path = dir.join("small");
    let store = create(&path, DIM);
    store.put_many(&ids(0..ROWS), &vectors(ROWS, DIM)).expect("stored");
    store.close().expect("closed");
    let small =
        at_most("open to first get, clean, 100,000 rows", "ms", 0.5, open_to_first_get(&path, "vec_0077777"));
    remove(&path);
    let path = dir.join("large");
    let store = create(&path, 8);
    fill(&store, 0, 10_000_000, 8, 10_000);
    settle(&store, &path);
    store.close().expect("closed");
    let large = open_to_first_get(&path, "vec_7777777");
    let large = at_most("open to first get, clean, 10 M rows, dim 8", "ms", 2.0, large);
    small & large
}

/// A million rows in batches of a thousand, the last 8 MiB not synced, and no close.
fn leave_unclosed(path: &Path) -> ! {
    let options = OpenOptions::new().without_background().buffer_bytes(0);
    let store = options.create(path, 8, Metric::L2).expect("made");
    let vectors = vectors(1000, 8);
    for first in (0..1_000_000).step_by(1000) {
        store.put_many(&ids(first..first + 1000), &vectors).expect("stored");
        // 1,000 rows take 59 KB in both files: what follows this flush is below 8 MiB.
        if first == 870_000 {
            store.flush().expect("flushed");
        }
    }
    // No destructor runs: the process is gone as if it had been killed.
    std::process::exit(0);
}

fn killed(dir: &Path) -> bool {
    let mut times = Vec::new();
    for turn in 0..TURNS {
        let path = dir.join(format!("store{turn}"));
        let me = std::env::current_exe().expect("known");
        let left = Command::new(me).env(KILLED, &path).status().expect("started");
        assert!(left.success());
        let start = Instant::now();
        let store = VectorStore::open(&path).expect("opens");
        times.push(seconds(start) * 1e3);
        assert_eq!(store.len().expect("readable"), 1_000_000);
        if turn == 0 {
            times.clear();
        }
        drop(store);
        remove(&path);
    }
    at_most("open after a kill, 1 M active rows, 8 MiB unproven", "ms", 150.0, median(times))
}

// ---- sizes ----

fn bytes_of(path: &Path, suffix: &str) -> f64 {
    let files: Vec<PathBuf> =
        fs::read_dir(path).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    let ours = files.iter().filter(|path| path.extension().is_some_and(|found| found == suffix));
    ours.map(|path| fs::metadata(path).expect("there").len() as f64).sum()
}

fn size(dir: &Path) -> bool {
    let path = dir.join("wide");
    let store = create(&path, DIM);
    fill(&store, 0, ROWS, DIM, 1000);
    store.close().expect("closed");
    let raw = (ROWS * DIM * 4) as f64;
    let pair = (bytes_of(&path, "dat") + bytes_of(&path, "idx")) / raw;
    let mut good = at_most(".dat + .idx of raw, dim 768, batches of 1,000", "x", 1.012, pair);
    good &= at_most(".ids of raw", "x", 0.007, bytes_of(&path, "ids") / raw);
    let store = OpenOptions::new().compact_at(2.0).open(&path).expect("opens");
    let dead: Vec<String> = (0..ROWS).step_by(3).map(|n| format!("vec_{n:07}")).collect();
    store.put_many(&dead, &vectors(dead.len(), DIM)).expect("stored");
    store.delete_many(&ids(0..1000)).expect("deleted");
    // A small limit seals what is there at the next write.
    drop(store);
    let options = OpenOptions::new().compact_at(2.0).segment_records(1000);
    let store = options.open(&path).expect("opens");
    store.put("one more", &vectors(1, DIM)).expect("stored");
    store.flush().expect("flushed");
    good &= at_most(".del of raw, a third replaced in no order", "x", 0.001, bytes_of(&path, "del") / raw);
    store.compact().expect("compacted");
    let live = store.len().expect("readable") as f64 * (DIM * 4) as f64;
    let pair = (bytes_of(&path, "dat") + bytes_of(&path, "idx")) / live;
    good &= at_most(".dat + .idx of live, compacted", "x", 1.012, pair);
    drop(store);
    remove(&path);
    let path = dir.join("narrow");
    let store = create(&path, 8);
    fill(&store, 0, 900_000, 8, 1000);
    let stats = store.stats().expect("readable");
    let per_row = stats.memory.index as f64 / 900_000.0;
    good &= at_most("heap of an active segment, bytes a row", "B", 32.0, per_row);
    fill(&store, 900_000, 1_000_100, 8, 1000);
    settle(&store, &path);
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert!(store.get("vec_0500000").expect("readable").is_some());
    let heap = store.stats().expect("readable").memory.heap as f64 / f64::from(1 << 20);
    good & at_most("heap after opening 1 M sealed rows", "MiB", 1.0, heap)
}

// ---- many rows ----

/// Rows a second of new rows, ours and as a raw write of the same bytes, in windows that take turns: medians of both
/// and of the ratio. What memory and disk do to a write of that moment is in both.
fn ingest_window(store: &VectorStore, raw: &File, rows: std::ops::Range<usize>) -> (f64, f64, f64) {
    const WINDOW: usize = 20_000;
    const BATCH: usize = 10_000;
    let vectors = vectors(BATCH, INGEST_DIM);
    let bytes: &[u8] = bytemuck::cast_slice(&vectors);
    let (mut ours, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for (turn, from) in rows.step_by(WINDOW).enumerate() {
        let our = || {
            let ids = ids(from..from + WINDOW);
            let start = Instant::now();
            for ids in ids.chunks(BATCH) {
                store.put_many(ids, &vectors).expect("stored");
            }
            store.flush().expect("flushed");
            WINDOW as f64 / seconds(start)
        };
        let limit = || {
            let mut at = raw.metadata().expect("known").len();
            let start = Instant::now();
            for _ in 0..WINDOW / BATCH {
                for data in bytes.chunks(1 << 20) {
                    raw.write_all_at(data, at).expect("written");
                    at += data.len() as u64;
                }
            }
            raw.sync_data().expect("synced");
            WINDOW as f64 / seconds(start)
        };
        // Neither is always the first.
        let (our, limit) = if turn % 2 == 0 {
            let limit = limit();
            (our(), limit)
        } else {
            (our(), limit())
        };
        ours.push(our);
        limits.push(limit);
        ratios.push(our / limit);
    }
    (median(ours), median(limits), median(ratios))
}

const INGEST_DIM: usize = 256;

fn ingest(dir: &Path) -> bool {
    let path = dir.join("store");
    let store = create(&path, INGEST_DIM);
    let raw = File::create(dir.join("raw")).expect("made");
    let mut windows = Vec::new();
    let mut there = 0;
    for (from, to) in [(100_000, 200_000), (9_900_000, 10_000_000)] {
        fill(&store, there, from, INGEST_DIM, 10_000);
        settle(&store, &path);
        windows.push(ingest_window(&store, &raw, from..to));
        there = to;
    }
    let [(early, early_raw, early_ratio), (late, late_raw, late_ratio)] = windows[..] else { return false };
    // A guest's memory that was never touched, and a disk that has written for long, slow both down: no targets here.
    information("ingest of new ids, dim 256, rows 0.1 to 0.2 M (raw write)", "/s", early_raw, early);
    information("the same, rows 9.9 to 10 M (raw write)", "/s", late_raw, late);
    information("ours late (ours early)", "/s", early, late);
    information("raw write late (raw write early)", "/s", early_raw, late_raw);
    more("ingest of new ids, share of the raw write: late (early)", "x", early_ratio, late_ratio, 0.75)
}
