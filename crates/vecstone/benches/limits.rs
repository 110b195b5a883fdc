//! Speed as a ratio to what the machine can do, both measured in one run, in turns.
//!
//! `make bench` runs it: one line per figure with limit, ours and ratio (medians); exit code 1 if a ratio is below its
//! target. A harness of its own, because no benchmark library interleaves two sides of one ratio.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vecstone::{Metric, VectorStore};

const ROWS: usize = 100_000;
const DIM: usize = 768;
const TURNS: usize = 7;

fn main() {
    // `cargo test --benches` runs this too, without `--bench`: nothing to do there.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let ids: Vec<String> = (0..ROWS).map(|n| format!("vec_{n:07}")).collect();
    let vectors: Vec<f32> = (0..ROWS * DIM).map(|n| (n % 8191) as f32 * 0.001 - 4.0).collect();
    let mut good = true;
    println!("{:<44} {:>12} {:>12} {:>7} {:>7}", "figure", "limit", "ours", "ratio", "target");
    good &= bulk(dir.path(), "bulk put_many, one batch, until durable", 0.8, &vectors, |path| {
        let store = VectorStore::create(path, DIM as u32, Metric::Cosine).expect("made");
        store.put_many(&ids, &vectors).expect("stored");
        store.flush().expect("flushed");
        store
    });
    good &= bulk(dir.path(), "bulk put_many, 5,000 rows a batch, one flush", 0.8, &vectors, |path| {
        let store = VectorStore::create(path, DIM as u32, Metric::Cosine).expect("made");
        for (ids, vectors) in ids.chunks(5000).zip(vectors.chunks(5000 * DIM)) {
            store.put_many(ids, vectors).expect("stored");
        }
        store.flush().expect("flushed");
        store
    });
    std::process::exit(if good { 0 } else { 1 });
}

/// Writes the same bytes raw and through a store, in turns.
fn bulk(dir: &Path, name: &str, target: f64, vectors: &[f32], ours: impl Fn(&Path) -> VectorStore) -> bool {
    let bytes: &[u8] = bytemuck::cast_slice(vectors);
    let (mut raw_times, mut our_times) = (Vec::new(), Vec::new());
    for turn in 0..=TURNS {
        let path = dir.join("raw");
        let start = Instant::now();
        let file = File::create(&path).expect("made");
        for (piece, data) in bytes.chunks(1 << 20).enumerate() {
            file.write_all_at(data, (piece << 20) as u64).expect("written");
        }
        file.sync_data().expect("synced");
        let raw = start.elapsed();
        drop(file);
        fs::remove_file(&path).expect("removed");

        let path = dir.join("store");
        let start = Instant::now();
        let store = ours(&path);
        let our = start.elapsed();
        drop(store);
        fs::remove_dir_all(&path).expect("removed");
        // The first turn warms up.
        if turn > 0 {
            raw_times.push(raw);
            our_times.push(our);
        }
    }
    let speed = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        bytes.len() as f64 / times[times.len() / 2].as_secs_f64() / 1e6
    };
    let (limit, ours) = (speed(&mut raw_times), speed(&mut our_times));
    println!("{name:<44} {limit:>7.0} MB/s {ours:>7.0} MB/s {:>7.2} {target:>7.2}", ours / limit);
    ours / limit >= target
}
