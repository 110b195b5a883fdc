//! A store between processes: one that writes and is killed again and again, four that read all the time, and others
//! that want to write too.
//!
//! The writer counts epochs. Each is one batch, and what is in the store after it follows from its number alone, so
//! that a reader can tell whether all it sees is the state after one batch.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

mod helpers;

use helpers::{Dice, Other, content, deadline, files, row, say, temp, version_in, version_of};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use vecstone::{Durability, Error, Metric, OpenOptions, Snapshot, VectorStore, WriteBatch};

const DIM: usize = 16;
/// Written in each epoch.
const FIXED: u64 = 20;
/// Put and deleted, some in each epoch.
const OTHERS: u64 = 200;
/// Written by threads of their own, one id each, version after version.
const SOLO: [u64; 2] = [5000, 5001];

/// The places among the others that an epoch changes: a few, or in some epochs all of them.
fn touched(epoch: u64, place: u64) -> bool {
    epoch.is_multiple_of(17) || (place + OTHERS * 1000 - epoch * 13) % OTHERS < 10
}

fn other_id(place: u64) -> u64 {
    1000 + place
}

fn is_put(epoch: u64, place: u64) -> bool {
    !(epoch + place).is_multiple_of(3)
}

/// What is there after an epoch, but for the solo ids.
fn state(epoch: u64) -> BTreeMap<u64, u64> {
    let mut state: BTreeMap<u64, u64> = (0..FIXED).filter(|_| epoch > 0).map(|id| (id, epoch)).collect();
    for place in 0..OTHERS {
        let last = (1..=epoch).rev().find(|&epoch| touched(epoch, place));
        if let Some(last) = last.filter(|&last| is_put(last, place)) {
            state.insert(other_id(place), last);
        }
    }
    state
}

/// Checks that a snapshot is the state after one epoch; returns that, and the versions of the solo ids.
fn check(snapshot: &Snapshot) -> [u64; 3] {
    let mut there: BTreeMap<u64, u64> = content(snapshot).into_iter().collect();
    let solo = SOLO.map(|id| there.remove(&id).unwrap_or(0));
    let epoch = there.get(&0).copied().unwrap_or(0);
    assert_eq!(there, state(epoch), "not the state after epoch {epoch}");
    assert_eq!(version_of(snapshot, FIXED - 1).unwrap_or(0), epoch);
    let options = vecstone::SearchOptions::new().with_vectors();
    let found = snapshot.search_with(&row(DIM, 3, epoch), 5, &options).expect("found");
    assert_eq!(found.len(), snapshot.len().min(5));
    for found in found {
        version_in(&found.vector.expect("asked for"), helpers::number(&found.id));
    }
    [epoch, solo[0], solo[1]]
}

fn writes(store: &VectorStore, epoch: u64) {
    let is_synced = epoch.is_multiple_of(3);
    let fixed: Vec<u64> = (0..FIXED).collect();
    let changed: Vec<u64> = (0..OTHERS).filter(|&place| touched(epoch, place)).collect();
    let ids: Vec<u64> = fixed.iter().copied().chain(changed.iter().map(|&place| other_id(place))).collect();
    let rows: Vec<Vec<f32>> = ids.iter().map(|&id| row(DIM, id, epoch)).collect();
    let mut batch = WriteBatch::new();
    for (&id, row) in ids.iter().zip(&rows) {
        if id < FIXED || is_put(epoch, id - 1000) {
            batch.put(id, row)
        } else {
            batch.delete(id)
        };
    }
    if is_synced {
        batch.durability(Durability::Sync);
    }
    store.write(&batch).expect("stored");
    if !is_synced && epoch.is_multiple_of(2) {
        store.flush().expect("flushed");
    }
    if is_synced || epoch.is_multiple_of(2) {
        say(&format!("ack 0 {epoch}"));
    }
}

/// Opens the store, writes epoch after epoch, says which are acknowledged. With a number: closes after as many.
fn writer(path: &Path, epochs: u64) {
    let options = OpenOptions::new()
        .segment_records(500)
        .buffer_bytes(64 << 10)
        .flush_interval(Duration::from_millis(5))
        // Readers look at LOCK all the time.
        .lock_wait(Duration::from_secs(60));
    let store = options.open(path).expect("opens");
    let at = check(&store.snapshot().expect("readable"));
    say(&format!("open {} {} {}", at[0], at[1], at[2]));
    let last = if epochs == 0 { u64::MAX } else { at[0] + epochs };
    let at_epoch = AtomicU64::new(at[0]);
    let running = || at_epoch.load(Ordering::SeqCst) < last;
    thread::scope(|scope| {
        let (store, running) = (&store, &running);
        for solo in [1, 2] {
            scope.spawn(move || {
                let mut version = at[solo];
                while running() {
                    version += 1;
                    let id = SOLO[solo - 1];
                    store
                        .write(WriteBatch::new().put(id, &row(DIM, id, version)).durability(Durability::Sync))
                        .expect("stored");
                    say(&format!("ack {solo} {version}"));
                }
            });
        }
        scope.spawn(move || {
            while running() {
                store.compact().expect("compacted");
            }
        });
        while running() {
            let epoch = at_epoch.load(Ordering::SeqCst) + 1;
            writes(store, epoch);
            at_epoch.store(epoch, Ordering::SeqCst);
        }
    });
    store.close().expect("closed");
    say("closed");
}

/// Refreshes and checks until nobody talks to it any more. What it is told must be there at the next refresh.
fn reader(path: &Path) {
    let floor: [AtomicU64; 3] = Default::default();
    let ended = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for line in std::io::stdin().lock().lines() {
                let line = line.expect("readable");
                let (which, version) = line.split_once(' ').expect("two words");
                let which: usize = which.parse().expect("a number");
                floor[which].fetch_max(version.parse().expect("a number"), Ordering::SeqCst);
            }
            ended.store(1, Ordering::SeqCst);
        });
        let floors = || floor.each_ref().map(|floor| floor.load(Ordering::SeqCst));
        let mut store = VectorStore::open_read_only(path).expect("opens");
        let (mut rounds, mut moves, mut last) = (0u64, 0, [0; 3]);
        loop {
            let over = ended.load(Ordering::SeqCst) == 1;
            let least = floors();
            if rounds % 50 == 49 {
                // A new handle beside a writer shows what is proven durable, which may be less than a former one saw
                // when there was none.
                store = VectorStore::open_read_only(path).expect("opens");
                last = least;
            } else {
                moves += u64::from(store.refresh().expect("readable"));
            }
            let snapshot = store.snapshot().expect("readable");
            let now = check(&snapshot);
            for ((now, least), last) in now.iter().zip(least).zip(last) {
                assert!(*now >= least, "{now:?} is there, {least} was acknowledged");
                assert!(*now >= last, "{last} was there, now {now}");
            }
            last = now;
            rounds += 1;
            if over {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert!(moves > 0 && rounds > 20, "{rounds} rounds, {moves} moves");
        say(&format!("end {} {} {}", last[0], last[1], last[2]));
    });
}

/// Tries to become the writer, again and again, until nobody talks to it any more.
fn thief(path: &Path) {
    let over = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            _ = std::io::stdin().lock().lines().count();
            over.store(1, Ordering::SeqCst);
        });
        let options = OpenOptions::new().lock_wait(Duration::ZERO);
        let (mut refused, mut taken) = (0u64, 0u64);
        while over.load(Ordering::SeqCst) == 0 {
            match options.open(path) {
                Err(Error::Locked { .. }) => refused += 1,
                Ok(store) => {
                    check(&store.snapshot().expect("readable"));
                    taken += 1;
                }
                Err(error) => panic!("{error}"),
            }
            thread::sleep(Duration::from_micros(700));
        }
        say(&format!("end {refused} {taken}"));
    });
}

/// What the other processes run; nothing in the first one.
#[test]
fn other() {
    let Some((role, path, number)) = helpers::role() else { return };
    let _guard = deadline("another process");
    match role.as_str() {
        "writer" => writer(&path, number),
        "reader" => reader(&path),
        "thief" => thief(&path),
        #[cfg(unix)]
        "full" => unix::full(&path),
        #[cfg(unix)]
        "nobody" => unix::nobody(&path),
        role => panic!("no such role: {role}"),
    }
}

/// The numbers in a line after its first word.
fn numbers<const N: usize>(line: &str, word: &str) -> Option<[u64; N]> {
    let rest = line.strip_prefix(word)?;
    let numbers: Vec<u64> = rest.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    numbers.try_into().ok()
}

const ROUNDS: u64 = 80;

#[test]
fn a_writer_is_killed_while_others_read() {
    let _guard = deadline("a_writer_is_killed_while_others_read");
    let (_dir, path) = temp();
    VectorStore::create(&path, DIM as u32, Metric::L2).expect("a new store").close().expect("closed");
    let mut readers: Vec<Other> = (0..4).map(|n| Other::start("other", "reader", &path, n)).collect();
    let mut thief = Other::start("other", "thief", &path, 0);
    let (mut dice, mut acked, mut kills) = (Dice(2024), [0u64; 3], 0);
    let mut hear = |line: &str, acked: &mut [u64; 3]| {
        let Some([which, version]) = numbers(line, "ack ") else { return false };
        let which = which as usize;
        assert_eq!(version.max(acked[which]), version, "in order");
        acked[which] = version;
        for reader in &mut readers {
            assert!(reader.tell(&format!("{which} {version}")), "a reader is gone");
        }
        true
    };
    for round in 0..ROUNDS {
        let orderly = round % 8 == 7;
        let mut writer = Other::start("other", "writer", &path, if orderly { 30 } else { 0 });
        let line = writer.hear().expect("a writer that opens");
        let found: [u64; 3] = numbers(&line, "open ").expect("three numbers");
        for (found, acked) in found.iter().zip(acked) {
            assert!(*found >= acked, "{found} was recovered, {acked} was acknowledged");
        }
        if !orderly {
            // It lives until we kill it.
            let options = OpenOptions::new().lock_wait(Duration::ZERO);
            match options.open(&path) {
                Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(writer.pid())),
                other => panic!("{other:?}"),
            }
            let again = VectorStore::create(&path, DIM as u32, Metric::L2).map(drop);
            assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
            // At any moment, also before it has written anything.
            for _ in 0..dice.below(100) {
                let line = writer.hear().expect("it goes on");
                assert!(hear(&line, &mut acked), "{line}");
            }
            thread::sleep(Duration::from_micros(dice.below(3000)));
            writer.kill();
            kills += 1;
        }
        let mut closed = false;
        while let Some(line) = writer.hear() {
            closed = line == "closed";
            // What it said before it died counts. The last line may be half a line.
            assert!(hear(&line, &mut acked) || closed || !orderly, "{line}");
        }
        assert_eq!(closed, orderly);
    }
    assert!(kills >= 30);
    assert!(acked.iter().all(|&acked| acked > 100), "{acked:?}");
    drop(thief.to.take());
    let line = thief.hear().expect("it lives");
    let [refused, taken] = numbers(&line, "end ").expect("two numbers");
    assert!(refused > ROUNDS, "{refused} times refused, {taken} times let in");
    thief.end();

    let store = OpenOptions::new().lock_wait(Duration::from_secs(60)).open(&path).expect("opens");
    let end = check(&store.snapshot().expect("readable"));
    assert!(end.iter().zip(acked).all(|(end, acked)| *end >= acked));
    assert!(store.verify().expect("readable").is_ok());
    store.close().expect("closed");
    for mut reader in readers {
        drop(reader.to.take());
        reader.expect(&format!("end {} {} {}", end[0], end[1], end[2]));
        reader.end();
    }
    assert!(VectorStore::verify_path(&path).expect("readable").is_ok());
    // Compacted and opened once more, nothing is left of all that was replaced or given up.
    let store = VectorStore::open(&path).expect("opens");
    store.compact().expect("compacted");
    let stats = store.stats().expect("known");
    assert_eq!((stats.dead, stats.live as usize), (0, store.len().expect("readable")));
    store.close().expect("closed");
    drop(VectorStore::open(&path).expect("opens"));
    let logs =
        files(&path).iter().filter(|file| file.0.extension().is_some_and(|suffix| suffix == "idx")).count();
    assert_eq!(logs as u64, stats.segments);
    assert!(files(&path).iter().all(|file| !file.0.to_string_lossy().contains("new")));
}

/// A reader may have read MANIFEST just before a segment was sealed and indexed. Here it is a copy that begins with
/// MANIFEST: the same, but not left to chance.
#[test]
fn a_segment_that_is_sealed_meanwhile_is_read_as_manifest_says() {
    let _guard = deadline("a_segment_that_is_sealed_meanwhile_is_read_as_manifest_says");
    let (dir, path) = temp();
    let options = OpenOptions::new().segment_records(100);
    let store = options.create(&path, DIM as u32, Metric::L2).expect("a new store");
    let put = |ids: std::ops::Range<u64>, version: u64| {
        let ids: Vec<u64> = ids.collect();
        let rows: Vec<f32> = ids.iter().flat_map(|&id| row(DIM, id, version)).collect();
        store.write(WriteBatch::new().put_many(&ids, &rows).durability(Durability::Sync)).expect("stored");
    };
    put(0..90, 1);
    // In the next segment, rows of both die.
    put(0..40, 2);
    put(20..60, 3);
    store.delete_many_with(&[1u64, 30, 50], Some(Durability::Sync)).expect("deleted");
    let expected = content(&store.snapshot().expect("readable"));
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).expect("made");
    std::fs::copy(path.join("MANIFEST"), copy.join("MANIFEST")).expect("copied");
    put(100..190, 4);
    while !path.join("00000002.ids").exists() {
        // Something new makes the background look again.
        store.put(300u64, &row(DIM, 300, 5)).expect("stored");
        thread::yield_now();
    }
    for file in std::fs::read_dir(&path).expect("a directory") {
        let file = file.expect("an entry");
        let name = file.file_name();
        if ["00000001.", "00000002."].iter().any(|segment| name.to_string_lossy().starts_with(segment)) {
            std::fs::copy(file.path(), copy.join(file.file_name())).expect("copied");
        }
    }
    let reader = VectorStore::open_read_only(&copy).expect("opens");
    assert_eq!(content(&reader.snapshot().expect("readable")), expected);
    drop(reader);
    let writer = VectorStore::open(&copy).expect("opens");
    assert_eq!(content(&writer.snapshot().expect("readable")), expected);
}

#[cfg(unix)]
mod unix {
    #![allow(unsafe_code, reason = "limits and users of a process are the system's")]

    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// Lets no file of this process grow beyond `bytes`; a write that would is an error, not a signal.
    fn limit_files(bytes: libc::rlim_t) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: system calls on a struct of our own, in a process of our own.
        let failed = unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit);
            limit.rlim_cur = bytes.min(limit.rlim_max);
            libc::setrlimit(libc::RLIMIT_FSIZE, &limit)
        };
        assert_eq!(failed, 0);
    }

    pub(super) fn full(path: &Path) {
        let never = OpenOptions::new().flush_interval(Duration::from_secs(3600));
        let put = |store: &VectorStore, ids: std::ops::Range<u64>, version: u64| {
            for id in ids {
                store.put(id, &row(DIM, id, version)).expect("accepted");
            }
        };
        let store = never.create(path, DIM as u32, Metric::L2).expect("a new store");
        put(&store, 0..100, 1);
        store.flush().expect("flushed");
        limit_files(16 << 10);
        put(&store, 50..5000, 2);
        let full = store.flush().expect_err("no room");
        assert!(matches!(full, Error::NoSpace { kept: true, .. }), "{full:?}");
        assert_eq!(full.errno(), Some(libc::EFBIG));
        // Accepted is accepted: there is room again.
        limit_files(libc::RLIM_INFINITY);
        store.flush().expect("flushed");
        let reader = VectorStore::open_read_only(path).expect("opens");
        let versions = |store: &VectorStore| {
            let mut there = content(&store.snapshot().expect("readable"));
            there.sort_unstable();
            there
        };
        let expected: Vec<(u64, u64)> = (0..5000).map(|id| (id, if id < 50 { 1 } else { 2 })).collect();
        assert_eq!(versions(&reader), expected);
        assert_eq!(versions(&store), expected);
        // A background that meets the full disk says so at the next write, and goes on when there is room.
        store.close().expect("closed");
        let soon = OpenOptions::new().flush_interval(Duration::from_millis(1));
        let store = soon.open(path).expect("opens");
        limit_files(16 << 10);
        let mut accepted = 0;
        let refused = loop {
            match store.put(10_000 + accepted, &row(DIM, 10_000 + accepted, 1)) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
            thread::yield_now();
        };
        assert!(matches!(refused, Error::NoSpace { kept: false, .. }), "{refused:?}");
        limit_files(libc::RLIM_INFINITY);
        store.flush().expect("flushed");
        store.put(9999u64, &row(DIM, 9999, 1)).expect("stored");
        let expected: Vec<(u64, u64)> =
            expected.into_iter().chain((9999..10_000 + accepted).map(|id| (id, 1))).collect();
        assert_eq!(versions(&store), expected);
        store.close().expect("closed");
        // Closing reports that what was accepted did not get there; what was flushed did.
        let store = never.open(path).expect("opens");
        limit_files(16 << 10);
        put(&store, 20_000..20_100, 1);
        let full = store.close().expect_err("no room");
        assert!(matches!(full, Error::NoSpace { kept: false, .. }), "{full:?}");
        limit_files(libc::RLIM_INFINITY);
        let store = VectorStore::open(path).expect("the lock is free");
        assert_eq!(versions(&store), expected);
    }

    #[test]
    fn a_full_disk_is_reported_and_loses_nothing() {
        let _guard = deadline("a_full_disk_is_reported_and_loses_nothing");
        let (_dir, path) = temp();
        Other::start("other", "full", &path, 0).end();
    }

    const NOBODY: libc::uid_t = 65_534;

    /// Reads what it must not write.
    pub(super) fn nobody(path: &Path) {
        // SAFETY: system calls that take numbers; the process is there for this only.
        let bound = unsafe {
            libc::geteuid() != 0
                || (libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(NOBODY) == 0
                    && libc::setuid(NOBODY) == 0)
        };
        let before = files(path);
        let store = VectorStore::open_read_only(path).expect("opens");
        let epoch = check(&store.snapshot().expect("readable"))[0];
        assert!(!store.refresh().expect("readable"));
        assert_eq!(version_of(&store.snapshot().expect("readable"), 1u64), Some(epoch));
        assert!(store.stats().expect("known").live > 0);
        assert!(store.verify().expect("readable").is_ok());
        assert!(VectorStore::verify_path(path).expect("readable").is_ok());
        store.close().expect("closed");
        if bound {
            let refused = VectorStore::open(path).map(drop).expect_err("may not be written");
            assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
        }
        assert_eq!(files(path), before);
        println!("permissions bind: {bound}");
    }

    /// Every file of a store: read only, in a directory that is.
    fn protect(path: &Path, protected: bool) {
        let (of_files, of_dir) = if protected { (0o444, 0o555) } else { (0o644, 0o755) };
        for file in fs::read_dir(path).expect("a directory") {
            let file = file.expect("an entry").path();
            fs::set_permissions(file, Permissions::from_mode(of_files)).expect("ours");
        }
        fs::set_permissions(path, Permissions::from_mode(of_dir)).expect("ours");
    }

    /// Stores with several segments: one closed, one whose writer died, one with no LOCK, as a copy may be.
    fn some_stores(dir: &Path) -> Vec<PathBuf> {
        let paths = ["closed", "killed", "copied"].map(|name| dir.join(name));
        for path in &paths {
            VectorStore::create(path, DIM as u32, Metric::L2).expect("a new store").close().expect("closed");
            let killed = path.ends_with("killed");
            let mut writer = Other::start("other", "writer", path, if killed { 0 } else { 40 });
            while let Some(line) = writer.hear() {
                if killed && numbers(&line, "ack 0").is_some_and(|[epoch]| epoch > 30) {
                    writer.kill();
                }
            }
        }
        fs::remove_file(paths[2].join("LOCK")).expect("there");
        paths.into()
    }

    #[test]
    fn reading_needs_no_permission_to_write() {
        let _guard = deadline("reading_needs_no_permission_to_write");
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("ours");
        for path in some_stores(dir.path()) {
            protect(&path, true);
            // As whoever runs the tests: root may write, and must not all the same.
            let before = files(&path);
            let store = VectorStore::open_read_only(&path).expect("opens");
            check(&store.snapshot().expect("readable"));
            assert!(store.verify().expect("readable").is_ok());
            drop(store);
            assert_eq!(files(&path), before);
            Other::start("other", "nobody", &path, 0).end();
            assert_eq!(files(&path), before);
            protect(&path, false);
        }
    }
}
