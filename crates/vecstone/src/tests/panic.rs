//! A panic inside the store, at each of its places and in each thread: writing stops with its message, nobody waits for
//! ever, reads go on with what is durable. A panic of the caller's own code goes through and stops nothing.

use super::ask;
use super::compact::{soon, until};
use super::fault;
use super::model::{DIM, DIR, Run, identity, look, options, root};
use crate::buffer::batch::RowSource;
use crate::engine::Engine;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::SimDisk;
use crate::sys::sync::{caught, unpoisoned};
use crate::types::error::{Error, Result};
use crate::types::id::AsId;
use crate::types::options::Durability::{Buffered, Sync};
use crate::{CompactOptions, Metric, OpenOptions, VectorStore, WriteBatch};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const ROW: [f32; 4] = [1.0, 2.0, 3.0, 4.0];

/// A place, and what leads there.
type Place = (&'static str, fn(&VectorStore) -> Result<()>);

fn write_and_flush(store: &VectorStore) -> Result<()> {
    store.put("x", &ROW)?;
    store.flush()
}

/// More than a segment holds.
fn fill(store: &VectorStore) -> Result<()> {
    for n in 0..12 {
        store.put(format!("fill {n}"), &ROW)?;
    }
    store.flush()
}

fn compact(store: &VectorStore) -> Result<()> {
    store.delete("a")?;
    store.compact().map(drop)
}

const CALLS: [Place; 12] = [
    ("accept", |store| store.put("x", &ROW)),
    ("write", write_and_flush),
    ("publish", write_and_flush),
    ("sync", |store| store.write(WriteBatch::new().put("x", &ROW).durability(Sync))),
    ("durable", write_and_flush),
    ("seal", fill),
    ("replace", fill),
    ("replace", VectorStore::clear),
    ("copy", compact),
    ("swap", compact),
    ("index", compact),
    ("close", |store| crate::engine::close::close(engine(store).as_ref())),
];

const THREADS: [Place; 3] = [
    ("write thread", |store| (0..40).try_for_each(|n| store.put(format!("{n}"), &ROW))),
    ("flush thread", |store| {
        until("the flush thread fails", || store.put("x", &ROW).is_err());
        store.flush()
    }),
    ("tidy thread", |store| {
        fill(store)?;
        until("the tidy thread fails", || store.flush().is_err());
        store.flush()
    }),
];

fn engine(store: &VectorStore) -> Arc<Engine> {
    store.engine().expect("a writer").clone()
}

fn made(sim: &SimDisk, options: &OpenOptions) -> Arc<VectorStore> {
    let door = Arc::new(sim.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
    Arc::new(store.expect("made"))
}

/// Segments of a few rows.
fn few(buffer: u64) -> OpenOptions {
    options().buffer_bytes(buffer).segment_records(5)
}

fn background(buffer: u64) -> OpenOptions {
    let mut options = few(buffer).flush_interval(Duration::from_millis(5));
    options.settings.background = true;
    options
}

/// Waits until a flush by the background, as a future.
fn flush_async(store: &VectorStore) -> Result<()> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut flush = std::pin::pin!(store.flush_async());
    loop {
        match flush.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park_timeout(Duration::from_secs(60)),
        }
    }
}

/// Every call that changes something, each from a thread of its own: it comes back, with the message of the panic.
fn all_are_told(store: &Arc<VectorStore>, place: &'static str) {
    type Call = fn(&VectorStore) -> Result<()>;
    let calls: [(&str, Call); 12] = [
        ("put", |store| store.put("y", &ROW)),
        ("put, Sync", |store| store.write(WriteBatch::new().put("y", &ROW).durability(Sync))),
        ("put_many", |store| store.put_many(&["y", "z"], &[ROW, ROW].concat())),
        ("nothing, Sync", |store| store.write(WriteBatch::new().durability(Sync))),
        ("delete", |store| store.delete("b").map(drop)),
        ("delete_where", |store| store.delete_where(&crate::Filter::parse("{}")?).map(drop)),
        ("flush", VectorStore::flush),
        ("flush_async", flush_async),
        ("compact", |store| store.compact().map(drop)),
        ("clear", VectorStore::clear),
        ("backup", |store| store.backup("/backup").map(drop)),
        ("seal", |store| engine(store).with_sync_permit(|permit, writer| engine(store).seal(permit, writer))),
    ];
    for (call, run) in calls {
        let other = store.clone();
        let outcome = soon(call, move || run(&other));
        let told = matches!(&outcome, Err(Error::Poisoned { first }) if is_from(first, place));
        assert!(told, "{call} after a panic at {place}: {outcome:?}");
    }
}

fn is_from(error: &Error, place: &str) -> bool {
    matches!(error, Error::Panicked { message } if message.contains(place))
}

/// Callers who wait when it happens: writers until they are refused, with what was acknowledged.
fn waiters(store: &Arc<VectorStore>) -> Vec<std::thread::JoinHandle<Vec<String>>> {
    let writer = |name: &'static str, by: fn(&VectorStore, &str) -> Result<()>| {
        let store = store.clone();
        std::thread::spawn(move || {
            let ids = (0..).map(|n| format!("{name} {n}"));
            ids.take_while(|id| by(&store, id).is_ok()).collect()
        })
    };
    vec![
        writer("sync", |store, id| store.write(WriteBatch::new().put(id, &ROW).durability(Sync))),
        writer("future", |store, id| store.put(id, &ROW).and_then(|()| flush_async(store))),
        writer("flush", |store, id| store.put(id, &ROW).and_then(|()| store.flush())),
    ]
}

fn one_panic(options: &OpenOptions, (place, call): Place, with_waiters: bool) {
    let sim = SimDisk::new(&root());
    let store = made(&sim, options);
    store.put_many(&["a", "b"], &[ROW, ROW].concat()).and_then(|()| store.flush()).expect("stored");
    let waiting = if with_waiters { waiters(&store) } else { Vec::new() };
    engine(&store).hooks.plant(place, move || panic!("planted: {place}"));
    let caller = store.clone();
    let outcome = soon(place, move || call(&caller));
    until(place, || store.flush().is_err());
    assert!(!engine(&store).hooks.is_planted(), "{place} was never reached: {outcome:?}");
    let acknowledged: Vec<String> = soon("those who wait", move || {
        waiting.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    all_are_told(&store, place);
    // What is shown is what is durable: all that was acknowledged, but for what was deleted.
    assert!(ask::get(&store, "b").expect("reads go on").is_some() || place == "replace", "{place}");
    for id in &acknowledged {
        let there = ask::get(&store, id.as_str()).expect("reads go on").is_some();
        assert!(there || place == "replace", "{id} at {place}");
    }
    let store = Arc::into_inner(store).expect("nobody else has it");
    let closed = soon("close", move || store.close());
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "{place}: {closed:?}");
    let (again, _) = look(&sim.killed(), true).expect("opens").expect("a store");
    for id in &acknowledged {
        assert!(again.contains(id.as_str()).expect("reads") || place == "replace", "{id} at {place}");
    }
    again.put("later", &ROW).and_then(|()| again.close()).expect("goes on after opening again");
}

#[test]
fn a_panic_of_a_caller_in_the_store_stops_writing() {
    for place in CALLS {
        for buffer in [0, 1 << 20] {
            // Past the buffer nothing is accepted.
            if buffer > 0 || place.0 != "accept" {
                one_panic(&few(buffer), place, false);
            }
        }
    }
}

#[test]
fn a_panic_beside_others_leaves_nobody_waiting() {
    for place in CALLS {
        one_panic(&background(1 << 20), place, true);
    }
}

#[test]
fn a_panic_of_a_thread_in_the_background_stops_writing() {
    for place in THREADS {
        let buffer = if place.0 == "write thread" { 400 } else { 1 << 20 };
        one_panic(&background(buffer), place, false);
        if place.0 != "write thread" {
            one_panic(&background(buffer), place, true);
        }
    }
}

/// Whatever call of the disk panics, and in whatever the store was doing.
#[test]
fn a_panic_at_each_call_of_the_disk_loses_nothing() {
    let (mut cases, mut stopped) = (0, 0);
    for (name, workload) in fault::workloads() {
        let calls = {
            let counter = FaultDisk::new(Arc::new(SimDisk::new(&root())), None);
            let mut run = Run::new(SimDisk::new(&root()));
            run.door = Arc::new(counter.clone());
            workload(&mut run).expect("no fault");
            counter.seen().len()
        };
        for call in 0..calls {
            let sim = SimDisk::new(&root());
            let plan = Plan { call, fault: Fault::Panic, for_ever: false };
            let faulty = FaultDisk::new(Arc::new(sim.clone()), Some(plan));
            let mut run = Run::new(sim.clone());
            run.door = Arc::new(faulty.clone());
            // Where a test's own thread reads, the panic is its own.
            let outcome = caught(|| workload(&mut run));
            // The salts of another run may need a look-up less: the call to panic comes no more.
            faulty.heal();
            cases += 1;
            if let (Ok(Err(error)), Some(store)) = (&outcome, &run.store) {
                assert!(error.stops_writing(), "{name}, call {call}: {error}");
                let again = store.put("later", &ROW).and_then(|()| store.flush());
                assert!(matches!(again, Err(Error::Poisoned { .. })), "{name}, call {call}: {again:?}");
                stopped += 1;
            }
            sim.kill(run.store.take());
            fault::after_crash(&sim, &run.model).unwrap_or_else(|why| panic!("{name}, call {call}: {why}"));
        }
    }
    println!("{cases} panics, {stopped} of which stopped writing");
    assert!(stopped > cases / 4 && cases > 100);
}

/// Rows that panic from the n-th look at them on.
#[derive(Debug)]
struct DecodeError(AtomicUsize);

impl RowSource for DecodeError {
    fn copy_rows(&self, _: usize, out: &mut [f32]) {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(left.is_ok(), "the caller's own");
        out.fill(1.0);
    }
}

#[test]
fn a_panic_of_the_callers_rows_is_the_callers() {
    let names: Vec<String> = (0..30).map(|n| format!("{n}")).collect();
    let ids: Vec<_> = names.iter().map(AsId::as_id).collect();
    // Past the buffer they are looked at twice: to be checked, and to be written.
    for (buffer, looks) in [(0, 0), (0, 1), (1 << 20, 0)] {
        let store = made(&SimDisk::new(&root()), &few(buffer));
        store.put("a", &ROW).expect("stored");
        let bad = DecodeError(looks.into());
        let put = caught(|| store.put_rows(&ids, &bad, DIM as usize, &[], None));
        let panic = put.expect_err("it goes on where the caller is");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the caller's own"), "{buffer}, {looks}");
        assert_eq!(store.len().expect("reads"), 1, "all or nothing");
        goes_on(&store);
    }
}

#[test]
fn a_panic_of_the_callers_progress_is_the_callers() {
    let store = made(&SimDisk::new(&root()), &few(1 << 20));
    fill(&store).expect("stored");
    store.delete("fill 0").expect("deleted");
    let compacted = caught(|| store.compact_with(&CompactOptions::new(), |_| panic!("the caller's own")));
    assert_eq!(compacted.expect_err("goes on").downcast_ref::<&str>(), Some(&"the caller's own"));
    goes_on(&store);
}

#[test]
fn a_panic_of_a_waker_is_the_callers() {
    struct DecodeError;
    impl Wake for DecodeError {
        fn wake(self: Arc<Self>) {
            panic!("the caller's own");
        }
    }
    let store = made(&SimDisk::new(&root()), &background(1 << 20).flush_interval(Duration::from_secs(3600)));
    store.put("a", &ROW).expect("stored");
    let waker = Waker::from(Arc::new(DecodeError));
    let mut flush = std::pin::pin!(store.flush_async());
    until("the flush ends", || {
        // Only the first look leaves a waker behind.
        flush.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    });
    goes_on(&store);
}

fn goes_on(store: &Arc<VectorStore>) {
    let other = store.clone();
    soon("going on", move || {
        other.write(WriteBatch::new().put("later", &ROW).durability(Sync))?;
        fill(&other)?;
        other.delete_many_with(&["later"], Some(Buffered))?;
        other.compact()?;
        other.clear()?;
        crate::engine::close::close(engine(&other).as_ref())
    })
    .expect("the store goes on");
}

/// Threads of a search: its caller gets the panic, and the count of threads is right again.
#[test]
fn a_panic_of_a_thread_of_a_search_is_its_callers() {
    let turn = Mutex::new(0);
    let work = || {
        let mut turn = unpoisoned(turn.lock());
        *turn += 1;
        assert!(*turn < 2, "planted");
    };
    for _ in 0..50 {
        *unpoisoned(turn.lock()) = 0;
        let done = caught(|| crate::sys::parallel::run(2, 1 << 20, work));
        assert!(done.is_err(), "nobody was told");
    }
    assert!(crate::sys::parallel::run(3, 1 << 20, || ()).len() > 1, "threads were not given back");
}
