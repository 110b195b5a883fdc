//! What a forked child may do with a store that its parent has open, and that it does not disturb its parent.
//!
//! Each fork happens in a process of its own, far from the test harness; a child ends by `_exit`. A thread of the test
//! itself must not start or end beside a fork: each thread of the child would wait for a lock of the standard library.
#![cfg(unix)]
#![allow(unsafe_code, reason = "forking is not safe, which is why there are tests for it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

mod helpers;

use helpers::{Other, content, deadline, files, row, say, temp, version_in, version_of};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use vecstone::{
    CompactOptions, Durability, Error, Filter, IdKind, Metric, OpenOptions, SearchOptions, VectorStore,
    WriteBatch,
};

const DIM: usize = 64;
/// So many that a search uses several threads.
const ROWS: u64 = 12_000;
const DOCUMENT: &str = "{\"kept\":true}";

fn never_flushed() -> OpenOptions {
    OpenOptions::new().flush_interval(Duration::from_secs(3600))
}

/// Waits for the end of a child; its status.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = -1;
    // SAFETY: a child of this process, waited for once; `status` is there for its status.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    status
}

/// Runs `life` in a forked child, which ends with it or after a minute. Its number.
fn fork(life: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child never returns from here.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: a call that takes a number.
        unsafe { libc::alarm(60) };
        let status = i32::from(catch_unwind(AssertUnwindSafe(life)).is_err());
        // SAFETY: ends the process at once, without what the test harness would do.
        unsafe { libc::_exit(status) };
    }
    assert!(pid > 0, "{}", std::io::Error::last_os_error());
    pid
}

/// A store for the rest of the process, which a child may drop all the same.
struct Leaked(*mut VectorStore);

impl Leaked {
    fn new(store: VectorStore) -> Leaked {
        Leaked(Box::into_raw(Box::new(store)))
    }

    fn get(&self) -> &'static VectorStore {
        // SAFETY: freed in a child only, and not used there any more.
        unsafe { &*self.0 }
    }

    /// In a child, or where no other thread uses it any more.
    fn take(&self) -> VectorStore {
        // SAFETY: made by `Box::into_raw`; the other threads that use it are the parent's.
        *unsafe { Box::from_raw(self.0) }
    }
}

/// `ROWS` rows and a document, flushed.
fn filled(path: &Path, options: &OpenOptions) -> Leaked {
    let store = options.create(path, DIM as u32, Metric::L2).expect("a new store");
    for first in (0..ROWS).step_by(1000) {
        let ids: Vec<u64> = (first..first + 1000).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|&id| row(DIM, id, 1)).collect();
        store.put_many(&ids, &rows).expect("stored");
    }
    store.put_with_document(5u64, &row(DIM, 5, 2), DOCUMENT).expect("stored");
    store.flush().expect("flushed");
    check_rows(&store);
    Leaked::new(store)
}

/// What `filled` left is there, and whatever else is there is intact.
fn check_rows(store: &VectorStore) {
    let mut there = content(&store.snapshot().expect("readable"));
    there.sort_unstable();
    let first = &there[..ROWS as usize];
    assert!((0..).zip(first).all(|(n, &(id, version))| (id, version) == (n, if n == 5 { 2 } else { 1 })));
    assert_eq!(store.len().expect("readable"), there.len());
    assert_eq!(store.snapshot().expect("readable").iter().count(), there.len());
    assert!(!store.is_empty().expect("readable"));
    assert_eq!(store.kind(), Some(IdKind::U64));
    for id in [0, 5, 4096, ROWS - 1] {
        let vector = store.get(id).expect("readable").expect("there");
        assert_eq!(version_in(&vector, id), if id == 5 { 2 } else { 1 });
        let found = store
            .snapshot()
            .and_then(|snapshot| snapshot.search_with(&vector, 3, &SearchOptions::new().with_vectors()))
            .expect("found");
        assert_eq!(found[0].vector.as_ref(), Some(&vector));
        assert_eq!((found.len(), found[0].distance, &found[0].id), (3, 0.0, &id.into()));
    }
    assert!(store.contains(0u64).expect("readable") && !store.contains(ROWS + 5).expect("readable"));
    assert_eq!(
        store.snapshot().and_then(|snapshot| snapshot.get_many(&[1u64, ROWS + 5])).expect("readable"),
        [Some(row(DIM, 1, 1)), None]
    );
    assert_eq!(store.get_document(5u64).expect("readable").as_deref(), Some(DOCUMENT));
    assert!(store.stats().expect("known").live >= ROWS);
}

/// In a child: what it must not do, and gets told so.
fn check_refused(store: &VectorStore) {
    let vector = row(DIM, 1, 3);
    let forked = |outcome: Result<(), Error>| assert!(matches!(outcome, Err(Error::Forked)), "{outcome:?}");
    forked(store.put(1u64, &vector));
    forked(store.write(WriteBatch::new().put(1u64, &vector).durability(Durability::Sync)));
    forked(store.put_with_document(1u64, &vector, "1"));
    forked(store.put_many(&[1u64], &vector));
    forked(store.write(WriteBatch::new().put(1u64, &vector).delete(2u64)));
    forked(store.delete(1u64).map(drop));
    forked(store.delete_many(&[1u64, 2]).map(drop));
    forked(store.flush());
    forked(store.clear());
    forked(store.delete_where(&Filter::ids([1u64.into()])).map(drop));
    forked(store.backup(std::env::temp_dir().join("vecstone-never-made")).map(drop));
    forked(store.compact().map(drop));
    forked(store.compact_with(&CompactOptions::new(), |_| ControlFlow::Break(())).map(drop));
    forked(store.optimize().map(drop));
    let flushed = pin!(store.flush_async()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Err(Error::Forked))), "{flushed:?}");
    assert!(!store.refresh().expect("nothing to do"));
}

fn is_locked_by(path: &Path, pid: u32) {
    let options = OpenOptions::new().lock_wait(Duration::ZERO);
    match options.open(path) {
        Err(Error::Locked { pid: found, .. }) => assert_eq!(found, Some(pid)),
        other => panic!("{other:?}"),
    }
}

/// A child reads, is refused everything else, and drops its handle: nothing changes, and the parent goes on.
fn quiet(path: &Path) {
    let leaked = filled(path, &never_flushed());
    let store = leaked.get();
    store.put(ROWS + 1, &row(DIM, ROWS + 1, 1)).expect("accepted");
    let snapshot = store.snapshot().expect("readable");
    let reader = VectorStore::open_read_only(path).expect("opens");
    let (before, parent) = (files(path), std::process::id());
    for closes in [false, true] {
        let child = fork(|| {
            check_refused(store);
            check_rows(store);
            assert_eq!(store.get(ROWS + 1).expect("readable"), None, "accepted only, not in the files");
            // A snapshot from before the fork.
            assert_eq!(snapshot.len() as u64, ROWS + 1);
            assert_eq!(version_of(&snapshot, ROWS + 1), Some(1));
            assert!(store.verify().expect("readable").is_ok());
            is_locked_by(path, parent);
            check_rows(&VectorStore::open_read_only(path).expect("opens"));
            // A handle that only reads, too, belongs to the process that opened it.
            assert!(matches!(reader.refresh(), Err(Error::Forked)));
            assert!(matches!(reader.backup(path.with_extension("copy")), Err(Error::Forked)));
            check_rows(&reader);
            let mine = leaked.take();
            if closes {
                mine.close().expect("nothing to close")
            } else {
                drop(mine)
            }
            is_locked_by(path, parent);
        });
        assert_eq!(wait(child), 0);
        assert_eq!(files(path), before);
    }
    is_locked_by(path, parent);
    store.flush().expect("flushed");
    store.put(ROWS + 2, &row(DIM, ROWS + 2, 1)).expect("stored");
    leaked.take().close().expect("closed");
    let store = VectorStore::open(path).expect("opens");
    assert_eq!(store.len().expect("readable") as u64, ROWS + 2);
    check_rows(&store);
}

/// Tells other threads to end, also after a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Children are made while other threads write, compact and look.
fn busy(path: &Path) {
    let options = OpenOptions::new().segment_records(5000).flush_interval(Duration::from_millis(1));
    let leaked = filled(path, &options);
    let (store, done, durable) = (leaked.get(), &AtomicBool::new(false), &AtomicU64::new(0));
    let (parent, start) = (std::process::id(), Barrier::new(5));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for n in 1.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let ids: Vec<u64> = (0..1 + n % 40).map(|i| 20_000 + (n * 7 + i) % 500).collect();
                let rows: Vec<f32> = ids.iter().flat_map(|&id| row(DIM, id, n)).collect();
                // Now and then it waits, or the children would have more and more to read.
                let durability = if n % 4 == 0 { Durability::Sync } else { Durability::Buffered };
                store.write(WriteBatch::new().put_many(&ids, &rows).durability(durability)).expect("stored");
                store.delete(20_000 + n % 500).expect("deleted");
            }
        });
        scope.spawn(|| {
            start.wait();
            for n in 1.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                store
                    .write(
                        WriteBatch::new().put(30_000u64, &row(DIM, 30_000, n)).durability(Durability::Sync),
                    )
                    .expect("stored");
                durable.store(n, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            start.wait();
            while !done.load(Ordering::SeqCst) {
                store.compact().expect("compacted");
            }
        });
        scope.spawn(|| {
            start.wait();
            while !done.load(Ordering::SeqCst) {
                assert!(store.len().expect("readable") as u64 >= ROWS);
                store.search(&row(DIM, 5, 2), 3).expect("found");
            }
        });
        let _ends = Ends(done);
        start.wait();
        for n in 0..40 {
            let least = durable.load(Ordering::SeqCst);
            let child = fork(|| {
                check_rows(store);
                check_refused(store);
                let solo = version_of(&store.snapshot().expect("readable"), 30_000u64).unwrap_or(0);
                assert!(solo >= least, "{least} was durable, {solo} is there");
                if n % 3 == 0 {
                    is_locked_by(path, parent);
                    check_rows(&VectorStore::open_read_only(path).expect("opens"));
                }
                drop(leaked.take());
            });
            assert_eq!(wait(child), 0, "child {n}");
        }
    });
    check_rows(store);
    leaked.take().close().expect("closed");
    let store = VectorStore::open(path).expect("opens");
    check_rows(&store);
    assert!(store.verify().expect("readable").is_ok());
}

/// Children drop their handle while the only thread that knows of it writes; there is none in the background.
fn dropped(path: &Path) {
    let leaked = Leaked::new(VectorStore::create(path, DIM as u32, Metric::L2).expect("a new store"));
    let (store, done, start) = (leaked.get(), &AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for n in 1.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let ids: Vec<u64> = (n * 10..n * 10 + 200).collect();
                let rows: Vec<f32> = ids.iter().flat_map(|&id| row(DIM, id, 1)).collect();
                store
                    .write(WriteBatch::new().put_many(&ids, &rows).durability(Durability::Sync))
                    .expect("stored");
            }
        });
        let _ends = Ends(done);
        start.wait();
        for n in 0..300 {
            let child = fork(|| drop(leaked.take()));
            assert_eq!(wait(child), 0, "child {n}");
        }
    });
    leaked.take().close().expect("closed");
    assert!(VectorStore::verify_path(path).expect("readable").is_ok());
}

/// Forks while another thread opens the first store of the process: the children open stores of their own all the same.
fn first(path: &Path) {
    let new = |name: String| {
        let store =
            VectorStore::create(path.with_extension(name), DIM as u32, Metric::L2).expect("a new store");
        store.put(1u64, &row(DIM, 1, 1)).expect("stored");
        store.close().expect("closed");
    };
    let (start, end, opened) = (Barrier::new(2), Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            new("parent".to_owned());
            opened.store(true, Ordering::SeqCst);
            end.wait();
        });
        start.wait();
        let mut children = Vec::new();
        while !opened.load(Ordering::SeqCst) && children.len() < 100 {
            let name = children.len().to_string();
            children.push(fork(|| new(name)));
        }
        end.wait();
        for (n, child) in children.into_iter().enumerate() {
            assert_eq!(wait(child), 0, "child {n}");
        }
    });
}

/// A child that outlives its parent: says so, and answers when asked, until nobody can ask any more.
fn survivor(path: &Path, closes: bool) {
    let leaked = filled(path, &never_flushed());
    let store = leaked.get();
    static START: Barrier = Barrier::new(2);
    static END: Barrier = Barrier::new(2);
    let writing = thread::spawn(move || {
        START.wait();
        for n in 1..200 {
            store.put(ROWS + 100, &row(DIM, ROWS + 100, n)).expect("stored");
        }
        END.wait();
    });
    START.wait();
    fork(|| {
        let mut out = std::io::stdout();
        loop {
            out.write_all(b"\n@child\n").and_then(|()| out.flush()).expect("somebody listens");
            if std::io::stdin().read(&mut [0; 16]).expect("readable") == 0 {
                break;
            }
            check_refused(store);
            check_rows(store);
        }
        drop(leaked.take());
    });
    END.wait();
    writing.join().expect("no panic");
    if closes {
        leaked.take().close().expect("closed");
    } else {
        // Until it is killed.
        loop {
            thread::park();
        }
    }
}

/// What the other processes run; nothing in the first one.
#[test]
fn other() {
    let Some((role, path, number)) = helpers::role() else { return };
    let _guard = deadline("another process");
    match role.as_str() {
        "quiet" => quiet(&path),
        "busy" => busy(&path),
        "dropped" => dropped(&path),
        "first" => first(&path),
        "survivor" => survivor(&path, number == 1),
        role => panic!("no such role: {role}"),
    }
    say("done");
}

fn run(role: &str) {
    let (_dir, path) = temp();
    let mut process = Other::start("other", role, &path, 0);
    process.expect("done");
    process.end();
}

#[test]
fn a_child_reads_and_changes_nothing() {
    let _guard = deadline("a_child_reads_and_changes_nothing");
    run("quiet");
}

#[test]
fn a_child_reads_whatever_its_parent_was_doing() {
    let _guard = deadline("a_child_reads_whatever_its_parent_was_doing");
    run("busy");
}

#[test]
fn a_child_drops_its_handle_whatever_its_parent_was_doing() {
    let _guard = deadline("a_child_drops_its_handle_whatever_its_parent_was_doing");
    run("dropped");
}

#[test]
fn a_child_made_beside_the_first_opening_opens_stores() {
    let _guard = deadline("a_child_made_beside_the_first_opening_opens_stores");
    (0..12).for_each(|_| run("first"));
}

#[test]
fn a_child_that_outlives_its_parent_holds_no_lock() {
    let _guard = deadline("a_child_that_outlives_its_parent_holds_no_lock");
    for closes in [false, true] {
        let (_dir, path) = temp();
        let mut process = Other::start("other", "survivor", &path, u64::from(closes));
        if closes {
            let mut both = [process.hear(), process.hear()].map(|line| line.expect("it lives"));
            both.sort_unstable();
            assert_eq!(both, ["child", "done"]);
        } else {
            process.expect("child");
            process.kill();
        }
        // The child lives, and is not in the way.
        let store = OpenOptions::new().lock_wait(Duration::ZERO).open(&path).expect("opens");
        check_rows(&store);
        assert!(process.tell("go on"));
        process.expect("child");
        // What the new writer does is nothing to it.
        store.delete_many(&(0..ROWS).collect::<Vec<u64>>()).expect("deleted");
        store.compact().expect("compacted");
        assert!(process.tell("go on"));
        process.expect("child");
        is_locked_by(&path, std::process::id());
        drop(process.to.take());
        // Nobody says anything any more: the child is gone.
        assert_eq!(process.hear(), None);
        is_locked_by(&path, std::process::id());
        assert!(store.verify().expect("readable").is_ok());
        store.close().expect("closed");
    }
}
