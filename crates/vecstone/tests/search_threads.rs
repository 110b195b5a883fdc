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

/// Threads that search at once, and what they are called.
const CALLERS: usize = 4;
const CALLER: &str = "caller";

/// The name of a thread of this process, unless it is ending: it may still be listed after who waited for it went on.
fn name_of(task: &std::path::Path) -> Option<String> {
    const EXITING: u64 = 4;
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let flags: u64 = rest.split_whitespace().nth(6)?.parse().ok()?;
    (flags & EXITING == 0).then(|| name.to_owned())
}

/// Threads of searches that this process has now, beside their callers. Until its first turn, which on a single core it
/// may get late, a thread is called as the one that started it.
fn extra() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there");
    let names: Vec<String> = tasks.filter_map(|task| name_of(&task.expect("an entry").path())).collect();
    let called = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    called("vecstone-search") + called(CALLER).saturating_sub(CALLERS)
}

/// The most extra threads seen while several threads search at once.
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
        let caller = || std::thread::Builder::new().name(CALLER.into());
        let start = |_| caller().spawn_scoped(scope, search).expect("started");
        let searches: Vec<_> = (0..CALLERS).map(start).collect();
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
    let store = options.create(&path, 64, Metric::L2).expect("a new store");
    store.put_many(&ids, &rows).and_then(|()| store.flush()).expect("stored");
    // A machine with much else to do may not let anybody look while somebody helps: then once more, up to the deadline.
    loop {
        let most = most(&store);
        assert!(most < bound.max(1), "{most} beside their callers, the bound is {bound}");
        if bound == 1 || most > 0 {
            break;
        }
    }
    assert_eq!(extra(), 0, "they end with the search");
}
