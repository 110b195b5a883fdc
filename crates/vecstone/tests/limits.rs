//! A store where the process may have little memory: it is read and written in a process of its own, under a limit.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use vecstone::{Error, Metric, OpenOptions, SearchOptions, VectorStore};

const STORE: &str = "VECSTONE_TEST_LIMITED_STORE";
const SEGMENTS: u64 = 3000;
/// Of `ulimit -v`, in KiB.
const GIGABYTE: u64 = 1_000_000;

/// Runs a test of this file in another process that may have so many KiB of address space.
fn run_limited(test: &str, path: &Path, limit: u64) {
    let script = format!("ulimit -v {limit} && exec \"$0\" --exact {test} --nocapture --include-ignored");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap());
    let done = command.env(STORE, path).env("RUST_TEST_THREADS", "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn three_thousand_segments_fit_into_a_gigabyte() {
    // The rows are few; what takes time is that each is made durable.
    let shared = Path::new("/dev/shm");
    let dir = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let path = dir.path().join("store");
    let options = OpenOptions::new().segment_records(1).auto_optimize_rows(0);
    let store = options.create(&path, 2, Metric::L2).unwrap();
    for id in 0..SEGMENTS {
        store.put(id, &[row(id), 1.0]).unwrap();
        store.flush().unwrap();
    }
    assert!(store.stats().unwrap().segments >= SEGMENTS);
    store.close().unwrap();
    run_limited("many_segments_in_a_limited_process", &path, GIGABYTE);
}

fn row(id: u64) -> f32 {
    f32::from(u16::try_from(id).unwrap())
}

#[test]
#[ignore = "run by another one, in a process of its own"]
fn many_segments_in_a_limited_process() {
    let path = std::env::var_os(STORE).unwrap();
    let check = |store: &VectorStore| {
        let ids: Vec<u64> = (0..SEGMENTS).collect();
        let mut vectors = vec![0.0; ids.len() * 2];
        store.snapshot().unwrap().get_many_into(&ids, &mut vectors, |_| unreachable!()).unwrap();
        for id in ids {
            assert_eq!(store.get(id).unwrap().unwrap(), [row(id), 1.0]);
            assert_eq!(vectors[usize::try_from(id).unwrap() * 2], row(id));
        }
        assert_eq!(store.search(&[row(77), 1.0], 1).unwrap()[0].id, vecstone::Id::U64(77));
    };
    check(&VectorStore::open_read_only(&path).unwrap());
    let store = VectorStore::open(&path).unwrap();
    check(&store);
    assert!(store.verify().unwrap().is_ok());
    store.put(SEGMENTS, &[0.5, 0.5]).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
}

#[test]
fn what_does_not_fit_is_an_error_that_says_how_much() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = VectorStore::create(&path, 1000, Metric::L2).unwrap();
    let ids: Vec<u64> = (0..60_000).collect();
    store.put_many(&ids, &vec![0.5; ids.len() * 1000]).unwrap();
    let document = format!("\"{}\"", "x".repeat(300 << 20));
    store.put_document(7_u64, &document).unwrap();
    store.close().unwrap();
    run_limited("much_in_a_limited_process", &path, 600_000);
}

#[test]
#[ignore = "run by another one, in a process of its own"]
fn much_in_a_limited_process() {
    let store = VectorStore::open_read_only(std::env::var_os(STORE).unwrap()).unwrap();
    let snapshot = store.snapshot().unwrap();
    let (ids, query) = ((0..60_000).collect::<Vec<u64>>(), [0.5; 1000]);
    assert_eq!(snapshot.search(&query, 60_000).unwrap().len(), 60_000);
    let lacking = |outcome: vecstone::Result<usize>| match outcome {
        Err(Error::OutOfMemory { bytes, .. }) => bytes,
        outcome => panic!("{outcome:?}"),
    };
    // Of what is there, a piece at a time.
    assert!(lacking(snapshot.get_many(&ids).map(|all| all.len())) >= 60_000_000);
    let absent: Vec<u64> = (100_000..300_000).collect();
    assert!(snapshot.get_many(&absent).unwrap().iter().all(Option::is_none), "800 MB if they were there");
    let options = SearchOptions::new().with_vectors();
    assert!(lacking(snapshot.search_with(&query, 60_000, &options).map(|hits| hits.len())) >= 240_000_000);
    assert!(lacking(snapshot.get_document(7_u64).map(|text| text.map_or(0, |text| text.len()))) >= 300 << 20);
    let queries = query.repeat(300);
    lacking(snapshot.search_many(&queries, 60_000, &SearchOptions::new()).map(|all| all.len()));
    assert_eq!(snapshot.search(&query, 10).unwrap().len(), 10);
}
