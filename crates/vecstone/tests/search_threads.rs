//! How many threads searches use, all of them together. Alone in its process: the bound is the process's.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::cast_precision_loss, reason = "a test may look into /proc")]

mod helpers;

use helpers::{deadline, temp};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use vecstone::{Metric, OpenOptions, VectorStore};

const DIM: usize = 64;
const CHILD: &str = "VECSTONE_TEST_CHILD";

/// Threads of searches that this process has now, beside their callers.
fn extra() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.expect("an entry").path().join("comm")).unwrap_or_default()
    };
    tasks.map(name).filter(|name| name.trim() == "vecstone-search").count()
}

/// The most extra threads seen while four threads search at once.
fn most(store: &VectorStore) -> usize {
    let ended = AtomicBool::new(false);
    let query = [0.5; DIM];
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut most = 0;
            while !ended.load(Ordering::SeqCst) {
                most = most.max(extra());
            }
            most
        });
        let search = || (0..25).for_each(|_| assert_eq!(store.search(&query, 3).expect("found").len(), 3));
        let searches: Vec<_> = (0..4).map(|_| scope.spawn(search)).collect();
        searches.into_iter().for_each(|search| search.join().expect("found"));
        ended.store(true, Ordering::SeqCst);
        look.join().expect("looked")
    })
}

#[test]
fn searches_share_the_bound() {
    let _deadline = deadline("searches that share threads");
    let Ok(bound) = std::env::var(CHILD) else {
        for (variable, asked, bound) in [("3", 0, 3), ("3", 1, 1), ("no number", 2, 2), ("1", 0, 1)] {
            let status = Command::new(std::env::current_exe().expect("known"))
                .args(["--exact", "searches_share_the_bound"])
                .env("VECSTONE_THREADS", variable)
                .env(CHILD, format!("{asked} {bound}"))
                .status();
            assert!(status.expect("started").success(), "{variable}, {asked}, {bound}");
        }
        return;
    };
    let (asked, bound) = bound.split_once(' ').expect("two numbers");
    let (asked, bound): (usize, usize) = (asked.parse().expect("a number"), bound.parse().expect("a number"));
    let (_dir, path) = temp();
    let rows: Vec<f32> = (0..40_000 * DIM).map(|n| (n % 1013) as f32).collect();
    let ids: Vec<u64> = (0..40_000).collect();
    let options = OpenOptions::new().threads(asked);
    let store = VectorStore::create_with(&path, 64, Metric::L2, &options).expect("a new store");
    store.put_many(&ids, &rows).and_then(|()| store.flush()).expect("stored");
    let most = most(&store);
    assert!(most < bound.max(1), "{most} beside their callers, the bound is {bound}");
    assert!(bound == 1 || most > 0, "nobody helped");
    assert_eq!(extra(), 0, "they end with the search");
}
