//! Many threads at one store: what each of them sees is what the writes before it say, whatever the buffer, the segments
//! and compaction do meanwhile.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

mod helpers;

use helpers::{Dice, content, deadline, number, row, temp, version_in, version_of};
use std::future::Future;
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;
use vecstone::{
    CompactOptions, Durability, Error, Id, Metric, OpenOptions, SearchOptions, Snapshot, VectorStore,
    WriteBatch, reference_distance,
};

const WRITERS: u64 = 8;
const READERS: u64 = 4;
const IDS: u64 = 300;
/// Ids that are always written together, all in the same version.
const FAMILY: std::ops::Range<u64> = 1000..1016;

/// Long enough that nothing is flushed but by a call.
const NEVER: Duration = Duration::from_secs(3600);

/// What is known of an id. Its versions count up; each version that 7 divides is a delete.
#[derive(Default)]
struct Known {
    /// Held by whoever writes it: the last version that was begun.
    turn: Mutex<u64>,
    begun: AtomicU64,
    /// The last version whose write has returned.
    done: AtomicU64,
}

fn is_delete(version: u64) -> bool {
    version.is_multiple_of(7)
}

struct Model {
    dim: usize,
    ids: Vec<Known>,
    family: Known,
}

impl Model {
    fn new(dim: usize) -> Model {
        Model { dim, ids: (0..IDS).map(|_| Known::default()).collect(), family: Known::default() }
    }

    fn bounds(&self) -> Vec<u64> {
        self.ids.iter().chain([&self.family]).map(|known| known.done.load(Ordering::SeqCst)).collect()
    }

    fn begun(&self, id: u64) -> u64 {
        self.ids.get(id as usize).unwrap_or(&self.family).begun.load(Ordering::SeqCst)
    }

    /// What was read of an id must be a version from `least` on that was begun by now.
    fn check(&self, id: u64, least: u64, found: Option<u64>) {
        let most = self.begun(id);
        match found {
            Some(version) => {
                assert!(!is_delete(version), "a version that is no put");
                assert!((least..=most).contains(&version), "{id}: {version} is not in {least}..={most}");
            }
            None => assert!((least..=most).any(is_delete), "{id} is not there; it is in {least}..={most}"),
        }
    }

    /// A snapshot that was taken when all versions in `least` were written.
    fn check_snapshot(&self, least: &[u64], snapshot: &Snapshot) {
        let mut rows = content(snapshot);
        rows.sort_unstable();
        let find = |id: u64| Some(rows[rows.binary_search_by_key(&id, |row| row.0).ok()?].1);
        for (id, &least) in (0..IDS).zip(least) {
            self.check(id, least, find(id));
            assert_eq!(version_of(snapshot, id), find(id));
            assert_eq!(snapshot.contains(id).expect("readable"), find(id).is_some());
        }
        let family: Vec<Option<u64>> = FAMILY.map(find).collect();
        assert!(family.iter().all(|version| *version == family[0]), "half of a batch: {family:?}");
        if let Some(version) = family[0] {
            assert!((least[IDS as usize]..=self.begun(IDS)).contains(&version));
        } else {
            assert_eq!(least[IDS as usize], 0);
        }
    }

    /// What is there when nobody writes any more.
    fn check_end(&self, store: &VectorStore) {
        self.check_snapshot(&self.bounds(), &store.snapshot().expect("readable"));
        let mut len = 0;
        for (id, known) in (0..).zip(&self.ids) {
            let version = known.done.load(Ordering::SeqCst);
            assert_eq!(version, known.begun.load(Ordering::SeqCst));
            let expected = (!is_delete(version)).then(|| row(self.dim, id, version));
            assert_eq!(store.get(id).expect("readable"), expected);
            len += usize::from(expected.is_some());
        }
        assert_eq!(store.len().expect("readable"), len + FAMILY.count());
    }

    /// One write, of one to `most` ids.
    fn write(&self, store: &VectorStore, dice: &mut Dice, most: u64) {
        let durability = if dice.one_in(4) { Durability::Sync } else { Durability::Buffered };
        let mut batch = WriteBatch::new();
        batch.durability(durability);
        if dice.one_in(6) {
            let mut turn = self.family.turn.lock().expect("not poisoned");
            *turn += 1;
            self.family.begun.store(*turn, Ordering::SeqCst);
            let (ids, rows): (Vec<u64>, Vec<Vec<f32>>) =
                FAMILY.map(|id| (id, row(self.dim, id, *turn))).unzip();
            let rows = rows.concat();
            store.write(batch.put_many(&ids, &rows)).expect("stored");
            self.family.done.store(*turn, Ordering::SeqCst);
            return;
        }
        let many = if dice.one_in(3) { 1 } else { 1 + dice.below(most) };
        let mut ids: Vec<u64> = (0..many).map(|_| dice.below(IDS)).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut turns: Vec<MutexGuard<'_, u64>> =
            ids.iter().map(|&id| self.ids[id as usize].turn.lock().expect("not poisoned")).collect();
        let mut versions = Vec::new();
        for (&id, turn) in ids.iter().zip(&mut turns) {
            **turn += 1;
            versions.push(**turn);
            self.ids[id as usize].begun.store(**turn, Ordering::SeqCst);
        }
        let rows: Vec<Vec<f32>> =
            ids.iter().zip(&versions).map(|(&id, &version)| row(self.dim, id, version)).collect();
        let puts = versions.iter().filter(|version| !is_delete(**version)).count();
        match (ids.as_slice(), durability) {
            ([id], Durability::Buffered) if puts == 1 => store.put(*id, &rows[0]).expect("stored"),
            // The version before a delete is a put: it is there.
            ([id], Durability::Buffered) => assert!(store.delete(*id).expect("deleted"), "{id} was there"),
            ([id], _) if puts == 1 => store.write(batch.put(*id, &rows[0])).expect("stored"),
            _ if puts == 0 => {
                assert_eq!(store.delete_many_with(&ids, Some(durability)).expect("deleted"), ids.len());
            }
            _ if puts == ids.len() => {
                let rows = rows.concat();
                store.write(batch.put_many(&ids, &rows)).expect("stored");
            }
            _ => {
                for ((&id, row), &version) in ids.iter().zip(&rows).zip(&versions) {
                    if is_delete(version) {
                        batch.delete(id)
                    } else {
                        batch.put(id, row)
                    };
                }
                store.write(&batch).expect("stored");
            }
        }
        for (&id, &version) in ids.iter().zip(&versions) {
            self.ids[id as usize].done.store(version, Ordering::SeqCst);
        }
    }

    /// One look, in one of several ways.
    fn read(&self, store: &VectorStore, dice: &mut Dice) {
        let id = dice.below(IDS);
        let least = self.bounds();
        match dice.below(8) {
            0 => self.check_snapshot(&least, &store.snapshot().expect("readable")),
            1 => {
                let snapshot = store.snapshot().expect("readable");
                let version = version_of(&snapshot, id);
                self.check(id, least[id as usize], version);
                let query = row(self.dim, id, version.unwrap_or(1));
                check_search(&snapshot, &query);
            }
            2 => {
                let options = SearchOptions::new().with_vectors();
                for found in store
                    .snapshot()
                    .and_then(|snapshot| snapshot.search_with(&row(self.dim, id, 1), 8, &options))
                    .expect("found")
                {
                    let (id, vector) = (number(&found.id), found.vector.expect("asked for"));
                    let version = version_in(&vector, id);
                    if id < IDS {
                        self.check(id, least[id as usize], Some(version));
                    } else {
                        assert!((least[IDS as usize]..=self.begun(id)).contains(&version));
                    }
                }
            }
            3 => {
                let ids: Vec<u64> = (0..20).map(|_| dice.below(IDS)).collect();
                for (&id, vector) in ids
                    .iter()
                    .zip(store.snapshot().and_then(|snapshot| snapshot.get_many(&ids)).expect("readable"))
                {
                    self.check(id, least[id as usize], vector.map(|vector| version_in(&vector, id)));
                }
            }
            _ => {
                let vector = store.get(id).expect("readable");
                self.check(id, least[id as usize], vector.map(|vector| version_in(&vector, id)));
            }
        }
    }
}

/// A search finds what looking at every row finds.
fn check_search(snapshot: &Snapshot, query: &[f32]) {
    let found = snapshot.search_with(query, 10, &SearchOptions::new().with_vectors()).expect("found");
    let mut expected: Vec<(f64, u64)> = snapshot
        .iter()
        .map(|item| {
            let (id, vector) = item.expect("readable");
            (reference_distance(snapshot.metric(), query, &vector), number(&id))
        })
        .collect();
    // Stable: of two at the same distance the older comes first.
    expected.sort_by(|a, b| a.0.total_cmp(&b.0));
    expected.truncate(10);
    let found: Vec<(f32, u64)> = found
        .into_iter()
        .map(|found| {
            version_in(&found.vector.expect("asked for"), number(&found.id));
            (found.distance, number(&found.id))
        })
        .collect();
    let expected: Vec<(f32, u64)> =
        expected.into_iter().map(|(distance, id)| (distance.max(0.0) as f32, id)).collect();
    assert_eq!(found, expected);
}

/// Writers and readers at work; `beside` runs beside them until its argument says that they are done.
fn at_work(
    path: &Path,
    options: &OpenOptions,
    dim: usize,
    rounds: u64,
    beside: impl Fn(&VectorStore, &AtomicBool) + Sync,
) {
    let store = options.create(path, dim as u32, Metric::L2).expect("a new store");
    let (model, done, left) = (Model::new(dim), AtomicBool::new(false), AtomicU64::new(WRITERS));
    thread::scope(|scope| {
        let (store, model, done, left) = (&store, &model, &done, &left);
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut dice = Dice(writer);
                for round in 0..rounds {
                    model.write(store, &mut dice, 40);
                    if round % 50 == writer {
                        store.flush().expect("flushed");
                    }
                }
                if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    done.store(true, Ordering::SeqCst);
                }
            });
        }
        for reader in 0..READERS {
            scope.spawn(move || {
                let mut dice = Dice(100 + reader);
                while !done.load(Ordering::SeqCst) {
                    model.read(store, &mut dice);
                }
            });
        }
        beside(store, done);
    });
    // Nobody has written the family if the dice fell so: not with so many throws.
    model.check_end(&store);
    store.flush().expect("flushed");
    model.check_end(&store);
    assert!(store.verify().expect("readable").is_ok());
    let reader = VectorStore::open_read_only(path).expect("opens beside the writer");
    model.check_end(&reader);
    store.close().expect("closed");
    model.check_end(&reader);
    let store = options.open(path).expect("opens");
    assert!(store.recovery().clean);
    model.check_end(&store);
    store.compact().expect("compacted");
    model.check_end(&store);
    assert!(store.verify().expect("readable").is_ok());
    assert_eq!(store.stats().expect("known").dead, 0);
    reader.refresh().expect("readable");
    model.check_end(&reader);
}

#[test]
fn what_many_threads_see_is_what_was_written() {
    let _guard = deadline("what_many_threads_see_is_what_was_written");
    let (_dir, path) = temp();
    at_work(&path, &OpenOptions::new(), 16, 400, |_, _| {});
}

/// 64 KiB for 8 threads that write up to 20 KiB at a time: they wait for room, and the larger batches go past it.
#[test]
fn writers_wait_for_room() {
    let _guard = deadline("writers_wait_for_room");
    let (_dir, path) = temp();
    at_work(&path, &OpenOptions::new().buffer_bytes(64 << 10), 128, 300, |_, _| {});
}

#[test]
fn writers_wait_for_room_that_only_a_full_buffer_makes() {
    let _guard = deadline("writers_wait_for_room_that_only_a_full_buffer_makes");
    let (_dir, path) = temp();
    let options = OpenOptions::new().buffer_bytes(64 << 10).flush_interval(NEVER);
    let store = options.create(&path, 128, Metric::L2).expect("a new store");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for n in 0..1000 {
                    let id = writer * 1000 + n;
                    store.put(id, &row(128, id, n)).expect("stored");
                }
            });
        }
    });
    assert_eq!(content(&store.snapshot().expect("readable")).len(), 8000);
    let stats = store.stats().expect("known");
    assert!(stats.rows > 7000 && stats.buffered * 128 * 4 <= 64 << 10, "{stats:?}");
}

/// Batches that do not fit behind each other in a segment begin a new one, however they come to the files.
#[test]
fn a_batch_that_does_not_fit_begins_a_segment() {
    let _guard = deadline("a_batch_that_does_not_fit_begins_a_segment");
    for buffer_bytes in [64 << 10, 64 << 20] {
        let (_dir, path) = temp();
        let options = OpenOptions::new()
            .segment_records(500)
            .buffer_bytes(buffer_bytes)
            .flush_interval(NEVER)
            .compact_at(2.0);
        let store = options.create(&path, 32, Metric::L2).expect("a new store");
        for first in [0, 1000, 2000, 3000] {
            let ids: Vec<u64> = (first..first + 300).collect();
            let rows: Vec<f32> = ids.iter().flat_map(|&id| row(32, id, 1)).collect();
            store.put_many(&ids, &rows).expect("stored");
            if buffer_bytes > 1 << 20 {
                // Else all four are one group.
                store.flush().expect("flushed");
            }
        }
        // Larger than any segment is to be.
        let ids: Vec<u64> = (0..1300).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|&id| row(32, id, 2)).collect();
        store.write(WriteBatch::new().put_many(&ids, &rows).durability(Durability::Sync)).expect("stored");
        let there = content(&store.snapshot().expect("readable"));
        assert_eq!(there.len(), 600 + 1300);
        assert!(there.iter().all(|&(id, version)| version == if id < 1300 { 2 } else { 1 }));
        assert_eq!(store.stats().expect("known").segments, 5);
    }
}

/// Two batches that are committed together must be as readable as each alone.
#[test]
fn small_batches_together_are_not_too_large_to_read() {
    let _guard = deadline("small_batches_together_are_not_too_large_to_read");
    let (_dir, path) = temp();
    let options = OpenOptions::new().buffer_bytes(1 << 30).segment_records(100_000_000).flush_interval(NEVER);
    let store = options.create(&path, 1, Metric::L2).expect("a new store");
    store.put("before", &[1.0]).expect("stored");
    let mut batch = WriteBatch::new();
    for _ in 0..=vecstone::MAX_BATCH_RECORDS / 2 {
        batch.delete("-");
    }
    store.write(&batch).expect("stored");
    store.write(&batch).expect("stored");
    store.put("behind", &[1.0]).expect("stored");
    store.close().expect("closed");
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!(
        store.snapshot().and_then(|snapshot| snapshot.get_many(&["before", "behind"])).expect("readable"),
        [Some(vec![1.0]), Some(vec![1.0])]
    );
}

/// A snapshot with all that was in it when it was taken.
struct Held {
    snapshot: Snapshot,
    rows: Vec<(Id, Vec<f32>)>,
}

impl Held {
    fn new(store: &VectorStore) -> Held {
        let snapshot = store.snapshot().expect("readable");
        content(&snapshot);
        let rows = snapshot.iter().collect::<Result<_, _>>().expect("readable");
        Held { snapshot, rows }
    }

    fn check(&self, dice: &mut Dice) {
        let now: Vec<(Id, Vec<f32>)> = self.snapshot.iter().collect::<Result<_, _>>().expect("readable");
        assert!(now == self.rows, "an old snapshot changed");
        assert_eq!(self.snapshot.len(), now.len());
        for _ in 0..20 {
            let id = dice.below(IDS);
            let expected =
                now.iter().find(|(other, _)| *other == Id::from(id)).map(|(_, row)| row.as_slice());
            assert_eq!(self.snapshot.get(id).expect("readable").as_deref(), expected);
            assert_eq!(self.snapshot.get_ref(id).expect("readable"), expected);
        }
        check_search(&self.snapshot, &row(self.snapshot.dim(), dice.below(IDS), dice.below(50)));
    }
}

/// Looking up many ids takes longer than others leave the store unchanged.
#[test]
fn a_large_delete_comes_to_its_end_beside_writers() {
    let _guard = deadline("a_large_delete_comes_to_its_end_beside_writers");
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(100_000);
    let store = options.create(&path, 8, Metric::L2).expect("a new store");
    let ids: Vec<u64> = (100..400_100).collect();
    let rows: Vec<f32> = ids.iter().flat_map(|&id| row(8, id, 1)).collect();
    store.put_many(&ids, &rows).expect("stored");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for id in 0..8 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for version in 1.. {
                    store
                        .write(WriteBatch::new().put(id, &row(8, id, version)).durability(Durability::Sync))
                        .expect("stored");
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
        }
        // Twice the same: the second finds nothing.
        let wanted: Vec<u64> = ids.iter().chain(&ids).copied().collect();
        let deleted = [store.delete_many(&wanted), store.delete_many(&wanted)];
        done.store(true, Ordering::SeqCst);
        assert_eq!(deleted.map(|deleted| deleted.expect("deleted")), [400_000, 0]);
    });
    assert_eq!(store.len().expect("known"), 8);
    store.close().expect("closed");
    assert_eq!(VectorStore::open(&path).expect("opens").len().expect("known"), 8);
}

#[test]
fn compaction_changes_no_snapshot() {
    let _guard = deadline("compaction_changes_no_snapshot");
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(500).buffer_bytes(64 << 10);
    let held = Mutex::new(Vec::new());
    at_work(&path, &options, 48, 300, |store, done| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut dice, mut compacted, mut cancelled) = (Dice(7), 0, 0);
                while !done.load(Ordering::SeqCst) || compacted == 0 || cancelled == 0 {
                    let mut steps = if dice.one_in(3) { dice.below(4) } else { u64::MAX };
                    let mut last = 0;
                    let outcome = store.compact_with(&CompactOptions::new(), |progress| {
                        assert!(last < progress.rows && progress.rows <= progress.total, "{progress:?}");
                        last = progress.rows;
                        steps = steps.saturating_sub(1);
                        if steps == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    match outcome {
                        Ok(report) => compacted += report.segments,
                        Err(Error::Cancelled) => cancelled += 1,
                        Err(error) => panic!("{error}"),
                    }
                    if done.load(Ordering::SeqCst) {
                        // Something to do for the last rounds.
                        store.put(2000u64, &row(48, 2000, 1)).expect("stored");
                        store.put(2000u64, &row(48, 2000, 2)).expect("stored");
                        store.delete(2000u64).expect("deleted");
                    }
                }
            });
            for reader in 0..2 {
                let held = &held;
                scope.spawn(move || {
                    let (mut dice, mut mine) = (Dice(reader), Vec::new());
                    while !done.load(Ordering::SeqCst) {
                        mine.push(Held::new(store));
                        let one = &mine[dice.below(mine.len() as u64) as usize];
                        one.check(&mut dice);
                        if mine.len() > 12 {
                            mine.remove(dice.below(12) as usize);
                        }
                    }
                    held.lock().expect("not poisoned").append(&mut mine);
                });
            }
        });
    });
    // The store is closed and compacted, its files are gone; the snapshots are not.
    let mut dice = Dice(1);
    for one in held.into_inner().expect("not poisoned") {
        one.check(&mut dice);
    }
}

/// Runs a future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut future, mut context) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn never_flushed(path: &Path) -> VectorStore {
    let options = OpenOptions::new().flush_interval(NEVER);
    options.create(path, 16, Metric::L2).expect("a new store")
}

#[test]
fn a_flush_can_be_awaited_without_a_runtime() {
    let _guard = deadline("a_flush_can_be_awaited_without_a_runtime");
    let (_dir, path) = temp();
    let store = never_flushed(&path);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, path) = (&store, &path);
            scope.spawn(move || {
                let reader = VectorStore::open_read_only(path).expect("opens");
                for version in 1..20 {
                    store.put(writer, &row(16, writer, version)).expect("stored");
                    block_on(store.flush_async()).expect("flushed");
                    reader.refresh().expect("readable");
                    assert_eq!(version_of(&reader.snapshot().expect("readable"), writer), Some(version));
                }
            });
        }
    });
    // Nothing to wait for: at once.
    let mut flush = pin!(store.flush_async());
    assert!(matches!(poll_once(flush.as_mut()), Poll::Ready(Ok(()))));
}

#[test]
fn a_flush_goes_on_without_its_future() {
    let _guard = deadline("a_flush_goes_on_without_its_future");
    let (_dir, path) = temp();
    let store = never_flushed(&path);
    let reader = VectorStore::open_read_only(&path).expect("opens");
    store.put(1u64, &row(16, 1, 1)).expect("stored");
    {
        let mut flush = pin!(store.flush_async());
        _ = poll_once(flush.as_mut());
    }
    while !reader.refresh().expect("readable") {
        thread::yield_now();
    }
    assert_eq!(version_of(&reader.snapshot().expect("readable"), 1u64), Some(1));
}

/// A future may be polled by one task and then by another: the last one is woken.
#[test]
fn a_flush_may_change_hands() {
    let _guard = deadline("a_flush_may_change_hands");
    let (_dir, path) = temp();
    let store = never_flushed(&path);
    for version in 1..50 {
        store.put(1u64, &row(16, 1, version)).expect("stored");
        let mut flush = store.flush_async();
        if poll_once(Pin::new(&mut flush)).is_pending() {
            thread::spawn(|| block_on(flush)).join().expect("no panic").expect("flushed");
        }
    }
}

#[test]
fn a_flush_outlives_its_store() {
    let _guard = deadline("a_flush_outlives_its_store");
    let (_dir, path) = temp();
    never_flushed(&path).close().expect("closed");
    for version in 1..=200 {
        let store = OpenOptions::new().flush_interval(NEVER).open(&path).expect("opens");
        store.put(1u64, &row(16, 1, version)).expect("stored");
        let (flush, later) = (store.flush_async(), store.flush_async());
        let start = Arc::new(Barrier::new(2));
        let waiting = thread::spawn({
            let start = start.clone();
            move || {
                start.wait();
                block_on(flush)
            }
        });
        start.wait();
        if version % 2 == 0 {
            store.close().expect("closed")
        } else {
            drop(store)
        }
        waiting.join().expect("no panic").expect("closing flushes");
        block_on(later).expect("closing has flushed");
        let reader = VectorStore::open_read_only(&path).expect("opens");
        assert_eq!(version_of(&reader.snapshot().expect("readable"), 1u64), Some(version));
    }
}

#[test]
fn tokio_awaits_flushes() {
    let _guard = deadline("tokio_awaits_flushes");
    let (_dir, path) = temp();
    let store = Arc::new(never_flushed(&path));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..30u64)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for version in 1..10 {
                        store.put(task, &row(16, task, version)).expect("stored");
                        if version % 3 == 0 {
                            let (a, b) = tokio::join!(store.flush_async(), store.flush_async());
                            a.and(b).expect("flushed");
                        } else {
                            store.flush_async().await.expect("flushed");
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
    let reader = VectorStore::open_read_only(&path).expect("opens");
    let there = content(&reader.snapshot().expect("readable"));
    assert_eq!(there.len(), 30);
    assert!(there.iter().all(|&(_, version)| version == 9));
}

/// The background is there for those who wait for each of their writes, too.
#[test]
fn a_store_that_is_only_written_durably_is_tidied() {
    let _guard = deadline("a_store_that_is_only_written_durably_is_tidied");
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(1000).durability(Durability::Sync);
    let store = options.create(&path, 128, Metric::L2).expect("a new store");
    let ids: Vec<u64> = (0..1000).collect();
    for version in 1..=3 {
        let rows: Vec<f32> = ids.iter().flat_map(|&id| row(128, id, version)).collect();
        store.put_many(&ids, &rows).expect("stored");
    }
    // Two of three segments are of dead rows only.
    while store.stats().expect("known").dead > 0 {
        thread::yield_now();
    }
    assert!(content(&store.snapshot().expect("readable")).iter().all(|&(_, version)| version == 3));
    store.put_many(&(1000..2000).collect::<Vec<u64>>(), &vec![0.5; 128 * 1000]).expect("stored");
    while store.stats().expect("known").bytes.ids == 0 {
        thread::yield_now();
    }
}

#[test]
fn dropping_a_store_keeps_what_was_accepted() {
    let _guard = deadline("dropping_a_store_keeps_what_was_accepted");
    let (_dir, path) = temp();
    let store = never_flushed(&path);
    for id in 0..1000u64 {
        store.put(id, &row(16, id, 1)).expect("stored");
    }
    store.delete(7u64).expect("deleted");
    store.put_with_document(8u64, &row(16, 8, 2), "{\"a\":1}").expect("stored");
    assert!(VectorStore::open_read_only(&path).expect("opens").is_empty().expect("readable"));
    drop(store);
    let store = VectorStore::open(&path).expect("opens");
    assert!(store.recovery().clean, "{}", store.recovery());
    let mut there = content(&store.snapshot().expect("readable"));
    there.sort_unstable();
    let expected: Vec<(u64, u64)> =
        (0..1000).filter(|id| *id != 7).map(|id| (id, if id == 8 { 2 } else { 1 })).collect();
    assert_eq!(there, expected);
    assert_eq!(store.get_document(8u64).expect("readable").as_deref(), Some("{\"a\":1}"));
}

#[test]
fn closing_an_unused_or_a_read_only_store_changes_nothing() {
    let (_dir, path) = temp();
    never_flushed(&path).close().expect("closed");
    VectorStore::open(&path).expect("opens").close().expect("closed");
    let before = helpers::files(&path);
    let reader = VectorStore::open_read_only(&path).expect("opens");
    assert!(matches!(reader.put(1u64, &row(16, 1, 1)), Err(Error::ReadOnly)));
    assert!(matches!(reader.delete(1u64), Err(Error::ReadOnly)));
    assert!(matches!(reader.flush(), Err(Error::ReadOnly)));
    assert!(matches!(reader.compact(), Err(Error::ReadOnly)));
    assert!(matches!(block_on(reader.flush_async()), Err(Error::ReadOnly)));
    reader.close().expect("closed");
    assert_eq!(helpers::files(&path), before);
}

#[test]
fn handles_go_from_thread_to_thread() {
    fn assert_free<T: Send + Sync + 'static>() {}
    assert_free::<VectorStore>();
    assert_free::<Snapshot>();
    assert_free::<vecstone::Iter>();
    assert_free::<vecstone::Flush>();
    assert_free::<Error>();
}
