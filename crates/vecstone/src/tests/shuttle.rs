//! Interleavings: threads of a store under a scheduler that decides, at each lock, each swap and each change to the disk,
//! who goes on. `VECSTONE_SCHEDULES` says how many schedules each test tries, half of them at random, half with few
//! preemptions at random places (PCT). A failure prints its schedule; `shuttle::replay` runs it again.

use super::ask::{self, DELETES, GETS};
use super::model::{DIM, DIR, identity, look, options, root};
use crate::engine::close::close;
use crate::query::coded::effort;
use crate::query::snapshot::Snapshot;
use crate::segment::codes;
use crate::segment::side::Optimize;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, Lie, SimDisk};
use crate::sys::sync::unpoisoned;
use crate::types::error::{Error, Result};
use crate::types::id::AsId;
use crate::types::options::Durability::{Buffered, Sync};
use crate::{Metric, OpenOptions, VectorStore, WriteBatch};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn check(test: fn()) {
    let schedules: usize = std::env::var("VECSTONE_SCHEDULES").map_or(2000, |n| n.parse().expect("a number"));
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    Runner::new(RandomScheduler::new(schedules.div_ceil(2)), config.clone()).run(test);
    Runner::new(PctScheduler::new(4, schedules.div_ceil(2)), config).run(test);
}

/// A store, what it lies on, and what threads found.
#[derive(Clone)]
struct Shared {
    sim: SimDisk,
    faulty: FaultDisk,
    store: Arc<VectorStore>,
    /// Ids that were acknowledged as durable, and what a power cut just then would have left at the least.
    acked: Arc<Mutex<Vec<(String, Image)>>>,
}

fn below(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

fn any_durability() -> crate::Durability {
    [Buffered, Sync][below(2)]
}

/// Options with the threads in the background and no timer.
fn background() -> OpenOptions {
    let mut options = options().buffer_bytes(1 << 20).flush_interval(Duration::from_secs(3600));
    options.settings.background = true;
    options
}

impl Shared {
    fn new(options: &OpenOptions) -> Shared {
        crate::pair::files::seed_random(1);
        let sim = SimDisk::new(&root());
        let faulty = FaultDisk::new(Arc::new(sim.clone()), None);
        let door = Arc::new(faulty.clone());
        let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
        let store = Arc::new(store.expect("made"));
        Shared { sim, faulty, store, acked: Arc::default() }
    }

    fn spawn<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> JoinHandle<T> {
        let shared = self.clone();
        thread::spawn(move || work(&shared))
    }

    fn put(&self, id: &str, version: u8, durability: crate::Durability) -> Result<()> {
        self.store.write(WriteBatch::new().put(id, &vector(version)).durability(durability))
    }

    /// The vector of an id, by any of the entry points.
    fn get(&self, id: &str) -> Option<Vec<f32>> {
        let (name, get) = GETS[below(GETS.len())];
        get(&self.store, id.as_id()).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Deletes an id, by any of the entry points.
    fn delete(&self, id: &str, durability: crate::Durability) -> Result<usize> {
        ask::delete(&self.store, &[id], below(DELETES.len()), Some(durability))
    }

    /// What a power cut now leaves with everything lost that may be lost.
    fn durable(&self) -> Image {
        self.sim.crash().image(&[])
    }

    /// The files that stand at the store's path.
    fn there(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.sim.image().files;
        files.retain(|path, _| path.starts_with(DIR));
        files
    }

    /// Remembers that `id` is durable now, if it is.
    fn ack(&self, id: &str, outcome: Result<()>) -> Result<()> {
        if outcome.is_ok() {
            let image = self.durable();
            unpoisoned(self.acked.lock()).push((id.to_owned(), image));
        }
        outcome
    }

    /// Each acknowledged id is in what a power cut left then, and in what one leaves now.
    fn check_acked(&self) {
        let acked = std::mem::take(&mut *unpoisoned(self.acked.lock()));
        let last = self.durable();
        for (id, then) in &acked {
            for image in [then, &last] {
                let (_, content) = look(&SimDisk::new(image), true).expect("opens").expect("a store");
                assert!(content.contains_key(id), "{id} was acknowledged, and is not durable: {content:?}");
            }
        }
    }

    /// The store goes on: what is written now becomes durable, after a while if the background had a setback.
    fn check_goes_on(&self) {
        for _ in 0..100 {
            if self.ack("later", self.put("later", 9, Sync)).is_ok() {
                return;
            }
            thread::yield_now();
        }
        panic!("the store refuses for ever: {:?}", self.put("later", 9, Sync));
    }
}

/// What each thread gives, after all of them were started: an iterator that starts them would run them one after the other.
fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    let threads: Vec<_> = threads.into_iter().collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

fn vector(version: u8) -> [f32; 4] {
    let x = f32::from(version);
    [x, -x, 1.0, 0.5 * x]
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made from a u8")]
fn version(row: &[f32]) -> u8 {
    let version = row[0] as u8;
    assert_eq!(row, vector(version));
    version
}

const BATCH: [&str; 3] = ["a", "b", "c"];

fn put_batch(store: &VectorStore, version: u8) {
    store.put_many(&BATCH, &[vector(version); 3].concat()).expect("put");
}

/// The version of the ids that are only ever put together; everything else in a snapshot agrees with it.
fn look_at(snapshot: &Snapshot) -> u8 {
    let mut rows: Vec<(String, u8)> = Vec::new();
    for item in snapshot.iter() {
        let (id, row) = item.expect("reads");
        rows.push((id.to_string(), version(&row)));
    }
    rows.sort();
    let batch: Vec<_> = rows.iter().filter(|(id, _)| BATCH.contains(&id.as_str())).collect();
    assert_eq!(batch.len(), 3, "{rows:?}");
    assert!(batch.iter().all(|row| row.1 == batch[0].1), "a batch in parts: {rows:?}");
    assert_eq!(snapshot.len(), rows.len());
    let mut found: Vec<_> = snapshot
        .search_with(&[0.0; 4], 10, &crate::SearchOptions::new().with_vectors())
        .expect("search")
        .into_iter()
        .map(|found| (found.id.to_string(), version(&found.vector.expect("asked for"))))
        .collect();
    found.sort();
    assert_eq!(found, rows, "search and iter differ");
    for (id, version_there) in &rows {
        let row = snapshot.get(id.as_str()).expect("get").unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(version(&row), *version_there, "get and iter differ for {id}");
    }
    batch[0].1
}

/// Ids that are there all the time, while they are replaced and what holds them moves.
fn publish_and_read(options: &OpenOptions) {
    let shared = Shared::new(options);
    put_batch(&shared.store, 1);
    let batches = shared.spawn(|shared| {
        for version_now in 2..6 {
            put_batch(&shared.store, version_now);
            for id in BATCH {
                let row = shared.get(id).expect("there");
                assert_eq!(version(&row), version_now, "own writes are read");
            }
        }
    });
    let deletes = shared.spawn(|shared| {
        for version_now in 1..4 {
            shared.put("d", version_now, any_durability()).expect("put");
            let row = shared.get("d").expect("there");
            assert_eq!(version(&row), version_now, "own writes are read");
            assert_eq!(shared.delete("d", any_durability()).expect("delete"), 1, "own writes are deleted");
            assert!(shared.get("d").is_none(), "own deletes are read");
            assert!(!shared.store.contains("d").expect("contains"), "own deletes are read");
        }
    });
    let gets = shared.spawn(|shared| {
        let mut last = [0; 3];
        for at in [0, 1, 2, 1, 0, 2] {
            let row = shared.get(BATCH[at]);
            let now = version(&row.unwrap_or_else(|| panic!("{} is missing", BATCH[at])));
            assert!(now >= last[at], "{now} after {}", last[at]);
            last[at] = now;
        }
    });
    let snapshots = shared.spawn(|shared| {
        let mut last = 0;
        for _ in 0..3 {
            let now = look_at(&shared.store.snapshot().expect("snapshot"));
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    });
    let moves = shared.spawn(|shared| {
        let engine = shared.store.engine().expect("writable");
        for _ in 0..4 {
            match below(4) {
                0 => engine.drain().expect("drain"),
                1 => engine.flush().expect("flush"),
                2 => engine.build_side_files(false),
                _ => _ = shared.store.compact().expect("compact"),
            }
        }
    });
    join([batches, deletes, gets, snapshots, moves]);
    assert_eq!(look_at(&shared.store.snapshot().expect("snapshot")), 5);
    assert_eq!(shared.store.len().expect("len"), 3);
    close(shared.store.engine().expect("writable")).expect("close");
    let (store, content) = look(&SimDisk::new(&shared.durable()), true).expect("opens").expect("a store");
    assert_eq!(content.len(), 3);
    assert_eq!(look_at(&store.snapshot().expect("snapshot")), 5);
}

#[test]
fn nothing_is_missing_while_it_moves() {
    check(|| publish_and_read(&options().buffer_bytes(1 << 20).segment_records(5)));
}

#[test]
fn nothing_is_missing_beside_the_background() {
    check(|| {
        let options = background().flush_interval(Duration::from_millis(10)).buffer_bytes(800);
        publish_and_read(&options.segment_records(5));
    });
}

/// Callers of `Sync`, `flush` and `flush_async`: each with what it was told.
fn group_commit(shared: &Shared, threads: bool) -> Vec<Result<()>> {
    let mut callers: Vec<JoinHandle<Vec<Result<()>>>> = Vec::new();
    for id in ["s", "t", "u"] {
        callers.push(shared.spawn(move |shared| {
            let again = format!("{id}{id}");
            vec![shared.ack(id, shared.put(id, 1, Sync)), shared.ack(&again, shared.put(&again, 2, Sync))]
        }));
    }
    callers.push(shared.spawn(|shared| {
        let put = shared.put("f", 1, Buffered);
        vec![put.and_then(|()| shared.ack("f", shared.store.flush()))]
    }));
    // What is written while a sync is under way is not covered by it.
    callers.push(shared.spawn(|shared| {
        let engine = shared.store.engine().expect("writable");
        vec![engine.drain(), engine.drain()]
    }));
    // Attributes come after everything that was accepted before.
    callers.push(shared.spawn(|shared| {
        let put = shared.put("a", 1, Buffered);
        vec![put.and_then(|()| shared.ack("a", shared.store.set_attributes(Some("{}"))))]
    }));
    if threads {
        callers.push(shared.spawn(|shared| {
            let put = shared.put("w", 1, Buffered);
            vec![put.and_then(|()| shared.ack("w", block_on(shared.store.flush_async())))]
        }));
    }
    join(callers).concat()
}

#[test]
fn each_caller_returns_after_a_sync_that_covers_it() {
    check(|| {
        let threads = below(2) == 0;
        let base = if threads { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        for outcome in group_commit(&shared, threads) {
            outcome.expect("no fault");
        }
        shared.check_goes_on();
        shared.check_acked();
    });
}

#[test]
fn a_durable_delete_is_durable_whoever_deletes_what_it_does_not_find() {
    check(|| {
        let base = if below(2) == 0 { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        put_batch(&shared.store, 1);
        let deletes = |_| {
            shared.spawn(|shared| {
                let mut gone: Vec<(&str, Image)> = Vec::new();
                for id in BATCH {
                    let durability = any_durability();
                    shared.delete(id, durability).expect("no fault");
                    if durability == Sync {
                        gone.push((id, shared.durable()));
                    }
                }
                gone
            })
        };
        for (id, image) in join((0..3).map(deletes)).concat() {
            let (_, content) = look(&SimDisk::new(&image), true).expect("opens").expect("a store");
            assert!(!content.contains_key(id), "{id} was deleted durably: {content:?}");
        }
    });
}

/// A store is moved aside and another one put in its place beside its writers.
#[test]
fn a_store_that_moves_loses_nothing_that_was_acknowledged() {
    const ASIDE: &str = "/aside";
    check(|| {
        let threads = below(2) == 0;
        let base = if threads { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        let (door, other) = (Arc::new(shared.sim.clone()), Path::new("/other"));
        let theirs = VectorStore::create_on(door, other, DIM, Metric::L2, identity(), &options());
        theirs.and_then(VectorStore::close).expect("made");
        let moves = shared.spawn(move |shared| {
            shared.sim.move_dir(Path::new(DIR), Path::new(ASIDE));
            shared.sim.move_dir(other, Path::new(DIR));
            shared.there()
        });
        for outcome in group_commit(&shared, threads) {
            let moved = |error: &Error| matches!(error, Error::StoreMoved { .. } | Error::Poisoned { .. });
            assert!(outcome.as_ref().map_or_else(moved, |()| true), "{outcome:?}");
        }
        let theirs = moves.join().expect("no panic");
        let stopped = shared.store.flush().expect_err("it is elsewhere");
        assert!(matches!(stopped, Error::StoreMoved { .. } | Error::Poisoned { .. }), "{stopped}");
        close(shared.store.engine().expect("writable")).expect_err("it is elsewhere");
        let acked = std::mem::take(&mut *unpoisoned(shared.acked.lock()));
        let last = shared.durable();
        for (id, then) in &acked {
            for image in [then, &last] {
                let place = if image.dirs.contains(Path::new(ASIDE)) { ASIDE } else { DIR };
                let door = Arc::new(SimDisk::new(image));
                let store = VectorStore::open_read_only_on(door, Path::new(place)).expect("opens");
                assert!(
                    store.contains(id.as_str()).expect("read"),
                    "{id} was acknowledged, and is not durable"
                );
            }
        }
        assert_eq!(shared.there(), theirs, "what stands at the path has changed");
    });
}

#[test]
fn a_panic_reaches_each_caller() {
    check(|| {
        let threads = below(2) == 0;
        let base = if threads { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        let engine = shared.store.engine().expect("writable").clone();
        let place = ["accept", "write", "publish", "sync", "durable", "seal", "replace"][below(7)];
        engine.hooks.plant(place, || panic!("planted"));
        group_commit(&shared, threads);
        if !engine.hooks.is_planted() {
            assert!(matches!(shared.put("later", 1, Sync), Err(Error::Poisoned { .. })));
            assert!(matches!(shared.store.flush(), Err(Error::Poisoned { .. })));
            assert!(matches!(close(&engine), Err(Error::Poisoned { .. })));
        }
        shared.check_acked();
        shared.store.snapshot().expect("iter").iter().for_each(|row| _ = row.expect("reads"));
    });
}

#[test]
fn a_failed_sync_reaches_each_caller() {
    check(|| {
        let threads = below(2) == 0;
        let base = if threads { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        let lie = [Lie::Kept, Lie::Dropped, Lie::Reverted][below(3)];
        let nth = shared.sim.syncs() + below(6);
        shared.sim.fail_sync_at(nth, lie);
        let outcomes = group_commit(&shared, threads);
        let stops = |error: &Error| error.stops_writing() || matches!(error, Error::Poisoned { .. });
        if outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).any(stops) {
            assert!(matches!(shared.put("later", 1, Sync), Err(Error::Poisoned { .. })));
            assert!(matches!(shared.store.flush(), Err(Error::Poisoned { .. })));
        } else if shared.sim.syncs() > nth {
            // It was the sync of a new segment's file, which nothing names: sealing is tried again.
            shared.check_goes_on();
        }
        shared.check_acked();
        // Reads show what is durable, or more that was acknowledged.
        shared.store.snapshot().expect("iter").iter().for_each(|row| _ = row.expect("reads"));
    });
}

#[test]
fn a_full_disk_is_a_setback_only() {
    check(|| {
        let threads = below(2) == 0;
        let base = if threads { background() } else { options().buffer_bytes(1 << 20) };
        let shared = Shared::new(&base.segment_records([4, 1000][below(2)]));
        shared.faulty.plan(Plan { call: below(10), fault: Fault::Os(28), for_ever: false });
        let outcomes = group_commit(&shared, threads);
        shared.faulty.heal();
        let stopped = outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).any(Error::stops_writing);
        // A sync that failed for want of space stops writing, as any failed sync.
        if !stopped && shared.store.flush().is_ok() {
            shared.check_goes_on();
        }
        shared.check_acked();
    });
}

#[test]
fn a_setback_of_the_background_ends() {
    check(|| {
        // Either the background tries again, or somebody flushes.
        let alone = below(2) == 0;
        let interval = if alone { Duration::from_millis(10) } else { Duration::from_secs(3600) };
        let shared = Shared::new(&background().flush_interval(interval));
        shared.faulty.plan(Plan { call: below(6), fault: Fault::Os(28), for_ever: false });
        let waits = shared.spawn(|shared| {
            if shared.put("w", 1, Buffered).is_ok() {
                _ = shared.ack("w", block_on(shared.store.flush_async()));
            }
        });
        let writes = shared.spawn(|shared| {
            if shared.ack("s", shared.put("s", 1, Sync)).is_err() && below(2) == 0 {
                _ = block_on(shared.store.flush_async());
            }
        });
        join([waits, writes]);
        shared.faulty.heal();
        let engine = shared.store.engine().expect("writable");
        let outcome = if alone { engine.buffer.lock().check_writable() } else { engine.flush() };
        if !outcome.is_err_and(|error| error.stops_writing()) {
            shared.check_goes_on();
        }
        shared.check_acked();
    });
}

#[test]
fn what_is_held_stays_while_segments_are_replaced() {
    check(|| {
        let shared = Shared::new(&options().buffer_bytes(1 << 20).segment_records(4));
        for version in 1..4 {
            put_batch(&shared.store, version);
            shared.store.flush().expect("flush");
        }
        let reader = |shared: &Shared| {
            let mut last = 0;
            for _ in 0..2 {
                let held = shared.store.snapshot().expect("snapshot");
                let rows = held.iter();
                let (first, len) = (look_at(&held), held.len());
                assert!(first >= last, "{first} after {last}");
                thread::yield_now();
                assert_eq!((look_at(&held), held.len()), (first, len), "what is held changed");
                drop(held);
                let rows: Vec<_> = rows.map(|row| row.expect("reads")).collect();
                assert_eq!(rows.len(), len, "an iterator holds its rows");
                last = first;
            }
        };
        let threads = [
            shared.spawn(reader),
            shared.spawn(|shared| _ = shared.store.compact().expect("compact")),
            shared.spawn(|shared| {
                shared.store.engine().expect("writable").build_side_files(false);
                _ = shared.store.compact().expect("compact");
            }),
            shared.spawn(|shared| {
                for version in 4..6 {
                    put_batch(&shared.store, version);
                    shared.put("e", version, Buffered).expect("put");
                    shared.store.flush().expect("flush");
                    assert_eq!(shared.delete("e", any_durability()).expect("delete"), 1);
                }
            }),
        ];
        join(threads);
        shared.store.compact().expect("compact");
        assert_eq!(look_at(&shared.store.snapshot().expect("snapshot")), 5);
        assert!(shared.store.verify().expect("verify").damage.is_empty());
    });
}

/// Codes are made, merged, carried and dropped while others search, write and compact.
#[test]
fn searches_find_all_while_codes_are_made() {
    check(|| {
        codes::for_all(|| {
            let shared = Shared::new(&options().buffer_bytes(1 << 20).segment_records(4));
            put_batch(&shared.store, 1);
            shared.store.flush().expect("flush");
            let encode = |shared: &Shared, merge| {
                let optimize = Optimize { merge, ..Optimize::now(1, effort::measure) };
                let engine = shared.store.engine().expect("writable");
                engine.build_while(optimize, &mut |_| ControlFlow::Continue(())).1.expect("built");
            };
            encode(&shared, true);
            let threads = [
                shared.spawn(|shared| {
                    for _ in 0..2 {
                        let held = shared.store.snapshot().expect("snapshot");
                        ask::search_all_by_codes(&held).expect("all of it");
                        thread::yield_now();
                        ask::search_all_by_codes(&held).expect("the same");
                    }
                }),
                shared.spawn(move |shared| encode(shared, below(2) == 0)),
                shared.spawn(|shared| _ = shared.store.compact().expect("compact")),
                shared.spawn(|shared| {
                    put_batch(&shared.store, 2);
                    shared.put("e", 3, Buffered).expect("put");
                    shared.store.flush().expect("flush");
                    assert_eq!(shared.delete("e", any_durability()).expect("delete"), 1);
                }),
            ];
            join(threads);
            ask::search_by_codes(&shared.store).expect("all of it");
            shared.store.optimize().expect("built");
            ask::search_by_codes(&shared.store).expect("all of it");
            assert!(shared.store.verify().expect("verify").damage.is_empty());
        });
    });
}

/// The number in the document of an id.
fn number(document: Option<String>) -> u8 {
    let document = document.expect("a vector took the document away");
    document.trim_start_matches("{\"v\":").trim_end_matches('}').parse().expect("a number")
}

/// One thread changes a document, others only put vectors: nobody ever sees an older one, or none.
#[test]
fn a_kept_document_is_always_the_newest() {
    check(|| {
        let buffer = [220, 1 << 20][below(2)];
        let shared = Shared::new(&options().buffer_bytes(buffer).segment_records(4));
        shared.store.put_with_document("a", &vector(1), "{\"v\":0}").expect("put");
        let gives = shared.spawn(|shared| {
            for n in 1..4u8 {
                let text = format!("{{\"v\":{n}}}");
                match below(2) {
                    0 => shared.store.put_with_document("a", &vector(n), &text).expect("put"),
                    _ => shared.store.put_document("a", &text).expect("changed"),
                }
                let now = number(shared.store.get_document("a").expect("get"));
                assert_eq!(now, n, "own documents are read");
            }
        });
        let keeps = shared.spawn(|shared| {
            for n in 4..7 {
                shared.put("a", n, Buffered).expect("put");
                shared.put("b", n, Buffered).expect("put");
                assert_eq!(shared.store.get_document("b").expect("get"), None);
            }
        });
        let reads = shared.spawn(|shared| {
            let mut last = 0;
            for _ in 0..3 {
                let now = number(shared.store.get_document("a").expect("get"));
                assert!(now >= last, "{now} after {last}");
                let snapshot = shared.store.snapshot().expect("snapshot");
                let rows = snapshot.iter_with_documents().map(|row| row.expect("reads"));
                let listed = rows.filter(|(id, ..)| id.as_str() == Some("a")).map(|row| number(row.2));
                let listed: Vec<u8> = listed.collect();
                assert!(matches!(listed[..], [one] if one >= now), "{listed:?} after {now}");
                assert_eq!(number(snapshot.get_document("a").expect("get")), listed[0]);
                last = listed[0];
            }
        });
        let moves = shared.spawn(|shared| {
            let engine = shared.store.engine().expect("writable");
            for _ in 0..3 {
                match below(3) {
                    0 => engine.drain().expect("drain"),
                    1 => engine.flush().expect("flush"),
                    _ => _ = shared.store.compact().expect("compact"),
                }
            }
        });
        join([gives, keeps, reads, moves]);
        assert_eq!(number(shared.store.get_document("a").expect("get")), 3);
        close(shared.store.engine().expect("writable")).expect("close");
        let (store, _) = look(&SimDisk::new(&shared.durable()), true).expect("opens").expect("a store");
        assert_eq!(number(store.get_document("a").expect("get")), 3);
    });
}

#[test]
fn a_clear_is_seen_at_one_moment() {
    check(|| {
        let buffer = [220, 1 << 20][below(2)];
        let shared = Shared::new(&background().buffer_bytes(buffer).segment_records(4));
        put_batch(&shared.store, 1);
        // After the clear the first of them fixes the kind of the ids.
        let finish_write = |outcome: Result<()>| match outcome {
            Ok(()) | Err(Error::IdKindMismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        };
        let writes = shared.spawn(move |shared| {
            for id in ["w", "x", "y", "z"] {
                finish_write(shared.put(id, 1, [Buffered, Sync][below(2)]));
            }
        });
        // Past the buffer, if that is small.
        let large = shared.spawn(move |shared| {
            finish_write(shared.store.put_many(&[7u64, 8, 9], &[vector(3); 3].concat()));
        });
        let compacts = shared.spawn(|shared| _ = shared.store.compact().expect("compact"));
        let reads = shared.spawn(|shared| {
            let snapshot = shared.store.snapshot().expect("snapshot");
            let there: Vec<_> = snapshot.iter().map(|row| row.expect("reads").0).collect();
            let batch = there.iter().filter(|id| id.as_str().is_some_and(|id| BATCH.contains(&id))).count();
            assert!([0, 3].contains(&batch), "a clear in parts: {there:?}");
            assert_eq!((snapshot.len(), there.len()), (there.len(), snapshot.iter().count()));
        });
        shared.store.clear().expect("clear");
        assert_eq!(shared.get("a"), None);
        join([writes, large, compacts, reads]);
        assert_eq!(shared.get("a"), None, "it came back");
        let rows = shared.store.len().expect("len");
        close(shared.store.engine().expect("writable")).expect("close");
        let (store, _) = look(&SimDisk::new(&shared.durable()), true).expect("opens").expect("a store");
        assert_eq!(store.len().expect("len"), rows);
        assert!(store.verify().expect("verify").damage.is_empty());
    });
}

#[test]
fn a_full_buffer_lets_writers_go_on() {
    check(|| {
        let shared = Shared::new(&background().buffer_bytes(220).segment_records(7));
        let writer = |name: &'static str| {
            shared.spawn(move |shared| {
                for n in 0..5 {
                    shared.put(&format!("{name}{n}"), n, Buffered).expect("put");
                }
            })
        };
        let large = shared.spawn(|shared| {
            put_batch(&shared.store, 1); // past the buffer
            shared.put("a", 2, Buffered).expect("put");
        });
        join([writer("x"), writer("y"), writer("z"), large]);
        assert_eq!(shared.store.len().expect("len"), 18);
        assert_eq!(version(&shared.get("a").expect("there")), 2);
        shared.ack("z4", shared.store.flush()).expect("flush");
        shared.check_acked();
    });
}

#[test]
fn closing_leaves_nobody_waiting() {
    check(|| {
        let shared = Shared::new(&background().buffer_bytes(220).segment_records(7));
        if below(2) == 0 {
            shared.sim.fail_sync_at(shared.sim.syncs() + below(6), Lie::Kept);
        }
        let writer = |name: &'static str| {
            shared.spawn(move |shared| {
                let mut kept = Vec::new();
                for n in 0..5 {
                    let id = format!("{name}{n}");
                    match shared.put(&id, n, Buffered) {
                        Ok(()) => kept.push(id),
                        Err(_) => break,
                    }
                }
                kept
            })
        };
        let writers = [writer("x"), writer("y")];
        let waits = [
            shared.spawn(|shared| _ = shared.ack("s", shared.put("s", 1, Sync))),
            shared.spawn(|shared| _ = shared.store.flush()),
            shared.spawn(|shared| {
                if shared.put("w", 1, Buffered).is_ok() {
                    _ = shared.ack("w", block_on(shared.store.flush_async()));
                }
            }),
            shared.spawn(|shared| _ = shared.store.compact()),
        ];
        let closed = close(shared.store.engine().expect("writable"));
        for id in join(writers).concat() {
            // What was accepted before the store closed is durable after it.
            _ = shared.ack(&id, closed.clone());
        }
        join(waits);
        assert!(shared.put("later", 1, Buffered).is_err());
        shared.check_acked();
    });
}
