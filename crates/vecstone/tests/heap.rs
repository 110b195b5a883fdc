//! The heap that a store reports is what the allocator saw.

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use vecstone::{Metric, VectorStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes allocated and not given back.
fn held() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

#[test]
fn reported_heap_is_what_the_allocator_saw() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let check = |what: &str, before: isize, store: &VectorStore| {
        let seen = (held() - before) as f64;
        let reported = store.stats().expect("known").memory.heap as f64;
        // Half a kilobyte is the length of a few paths.
        let close = (reported - seen).abs() <= (0.05 * seen).max(512.0);
        assert!(close, "{what}: reported {reported}, allocated {seen}");
    };
    let before = held();
    let store = VectorStore::create(&path, 8, Metric::L2).expect("made");
    check("empty", before, &store);
    for batch in 0..120usize {
        let ids: Vec<String> = (0..1000).map(|n| format!("id-{}", batch * 1000 + n)).collect();
        store.put_many(&ids, &vec![batch as f32; 8000]).expect("stored");
        if batch % 40 == 0 {
            drop(ids);
            check("growing", before, &store);
        }
    }
    store.flush().expect("flushed");
    check("grown", before, &store);
    store.close().expect("closed");
    for read_only in [true, false] {
        let before = held();
        let store = if read_only { VectorStore::open_read_only(&path) } else { VectorStore::open(&path) };
        check("reopened", before, &store.expect("opens"));
    }
}
