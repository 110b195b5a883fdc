//! The heap that a store reports is what the allocator saw.
#![allow(clippy::disallowed_methods, reason = "the threads of this process are in a directory")]

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
#[cfg(target_os = "linux")]
use std::fs;
use vecstone::{Metric, OpenOptions, VectorStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes allocated and not given back.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// Waits for threads of stores closed before: they end, and give their memory back, a moment later.
fn alone() {
    #[cfg(target_os = "linux")]
    while fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 2) {
        std::thread::yield_now();
    }
}

#[test]
fn reported_heap_is_what_the_allocator_saw() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let mut wrong = Vec::new();
    let mut check = |what: &str, before: isize, store: &VectorStore| {
        let seen = (held() - before) as f64;
        let memory = store.stats().expect("known").memory;
        let reported = memory.heap as f64;
        assert_eq!(memory.heap, memory.buffer + memory.index + memory.deletions + memory.other);
        // What a handle itself takes is an estimate: paths are longer or shorter, threads come and go.
        if (reported - seen).abs() > (0.05 * seen).max(2048.0) {
            wrong.push(format!("{what}: allocated {seen}, reported {memory:?}"));
        }
    };
    // Each write and flush in its place, and no other thread allocates.
    let options = OpenOptions::new().without_background().segment_records(50_000);
    // What a process allocates once is not a store's.
    let other = options.create(path.with_extension("other"), 8, Metric::L2).expect("made");
    other.put("a", &[0.0; 8]).and_then(|()| other.close()).expect("closed");
    alone();
    let before = held();
    let store = options.create(&path, 8, Metric::L2).expect("made");
    check("empty", before, &store);
    for batch in 0..120usize {
        let ids: Vec<String> = (0..1000).map(|n| format!("id-{}", batch * 1000 + n)).collect();
        store.put_many(&ids, &vec![batch as f32; 8000]).expect("stored");
        drop(ids);
        if batch % 40 == 0 {
            check("buffered", before, &store);
            store.flush().expect("flushed");
            check("flushed", before, &store);
        }
    }
    store.flush().expect("flushed");
    check("in several segments", before, &store);
    // Every third, so that the lists of dead rows do not stay small.
    let ids: Vec<String> = (0..120_000).step_by(3).map(|n| format!("id-{n}")).collect();
    store.delete_many(&ids).expect("deleted");
    drop(ids);
    check("deletes buffered", before, &store);
    store.flush().expect("flushed");
    check("deleted", before, &store);
    store.close().expect("closed");
    for read_only in [true, false] {
        alone();
        let before = held();
        let store = if read_only { VectorStore::open_read_only(&path) } else { options.open(&path) };
        let store = store.expect("opens");
        check(if read_only { "opened to read" } else { "opened to write" }, before, &store);
        if !read_only {
            store.compact().expect("compacted");
            check("compacted", before, &store);
        }
    }
    // Documents take twelve bytes more for each row.
    alone();
    let before = held();
    let path = dir.path().join("documents");
    let store = options.create(&path, 8, Metric::L2).expect("made");
    let mut bytes_a_row = Vec::new();
    for (from, document) in [(0, None), (20_000, Some("7"))] {
        for id in from..from + 20_000u64 {
            let put = match document {
                Some(document) => store.put_with_document(id, &[0.5; 8], document),
                None => store.put(id, &[0.5; 8]),
            };
            put.expect("stored");
        }
        store.flush().expect("flushed");
        check(if document.is_some() { "with documents" } else { "single rows" }, before, &store);
        bytes_a_row.push(store.stats().expect("known").memory.index as f64 / (from + 20_000) as f64);
    }
    assert!(bytes_a_row[0] <= 32.0 && bytes_a_row[1] <= 32.0 + 12.0, "{bytes_a_row:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
