//! Random sequences of calls, crashes and faults beside a plain map: what the store, its readers, snapshots and backups
//! show is what the map says. A failure prints the shortest sequence that was found to fail.

use super::ask::{self, DELETES};
use super::model::{Content, DIM, DIR, Model, Random, Row, content, identity, options, root, row};
use crate::query::distance::to_public;
use crate::sys::disk::Disk;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::SimDisk;
use crate::types::error::{Error, Result};
use crate::types::options::Durability;
use crate::{
    CompactOptions, Document, Filter, Metric, OpenOptions, SearchOptions, Snapshot, VectorStore, WriteBatch,
    reference_distance,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SNAPSHOTS: usize = 3;

/// A call that fails, counted from the opening of a handle, and its error.
type Failing = Option<(usize, i32)>;

/// A store's options and metric, whether it is made with a dimension, the fault of its first opening, and what is done
/// with it.
type Case = (OpenOptions, Metric, Failing, Vec<Step>);

/// The random numbers of a power cut; without them the process dies, and what it wrote stays in the page cache.
type Power = Option<u64>;

/// The durability that a call asks for.
type Wish = Option<Durability>;

#[derive(Debug, Clone)]
enum Step {
    /// Ids by number, each with what becomes of its document; with a durability of its own, or the store's.
    Put(Vec<(usize, Document<()>)>, Wish),
    /// Documents of ids by number, without vectors; merged or replaced.
    Change(Vec<(usize, Document<()>)>, bool, Wish),
    /// By which entry point.
    Delete(Vec<usize>, usize, Wish),
    /// Those with a document whose version is one of the last so many.
    DeleteWhere(u16, Wish),
    Flush,
    Clear,
    /// To the number of the call, or to nothing.
    SetAttributes(bool),
    /// With a put and a delete in the middle; broken off there, or not.
    Compact(Vec<usize>, Vec<usize>, bool),
    /// Then it is opened again.
    Close(Failing),
    Die(Power, Failing),
    /// Someone moves the store aside, and back when the writer has met it.
    Move,
    /// At a changing call to come.
    DieLater(usize, Power),
    /// What the writer shows is the last state; with a search.
    SearchNow([i8; 4], usize),
    Verify,
    Read(Failing),
    Refresh,
    DropReader,
    /// Holds a snapshot: of the reader, or of the writer.
    Hold(bool),
    CheckHeld,
    DropHeld(usize),
    /// By the reader, or by the writer.
    Backup(bool),
}

fn failing() -> impl Strategy<Value = Failing> {
    let code = prop_oneof![Just(5), Just(28)];
    prop_oneof![2 => Just(None), 1 => (0..150usize, code).prop_map(Some)]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Durability::Buffered)), 2 => Just(Some(Durability::Sync))]
}

fn step() -> impl Strategy<Value = Step> {
    let few = || vec(0..IDS.len(), 0..3);
    let power = || prop::option::of(any::<u64>());
    let document =
        || prop_oneof![3 => Just(Document::Keep), 1 => Just(Document::None), 3 => Just(Document::Json(()))];
    let query = [-2..7i8, -1..2i8, -2..7i8, -1..2i8];
    prop_oneof![
        12 => (vec((0..IDS.len(), document()), 0..=4), wish()).prop_map(|(ids, wish)| Step::Put(ids, wish)),
        3 => (vec((0..IDS.len(), document()), 0..=3), any::<bool>(), wish())
            .prop_map(|(ids, merge, wish)| Step::Change(ids, merge, wish)),
        5 => (vec(0..IDS.len(), 0..=3), 0..DELETES.len(), wish())
            .prop_map(|(ids, way, wish)| Step::Delete(ids, way, wish)),
        3 => (0..8u16, wish()).prop_map(|(newest, wish)| Step::DeleteWhere(newest, wish)),
        4 => Just(Step::Flush),
        1 => Just(Step::Clear),
        2 => any::<bool>().prop_map(Step::SetAttributes),
        4 => (few(), few(), prop::bool::weighted(0.2)).prop_map(|(put, del, stop)| Step::Compact(put, del, stop)),
        2 => failing().prop_map(Step::Close),
        3 => (power(), failing()).prop_map(|(power, fault)| Step::Die(power, fault)),
        1 => Just(Step::Move),
        2 => (0..40usize, power()).prop_map(|(after, power)| Step::DieLater(after, power)),
        4 => (query, 0..8usize).prop_map(|(query, k)| Step::SearchNow(query, k)),
        1 => Just(Step::Verify),
        2 => failing().prop_map(Step::Read),
        4 => Just(Step::Refresh),
        1 => Just(Step::DropReader),
        3 => any::<bool>().prop_map(Step::Hold),
        3 => Just(Step::CheckHeld),
        1 => (0..SNAPSHOTS).prop_map(Step::DropHeld),
        1 => any::<bool>().prop_map(Step::Backup),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let records = prop_oneof![4 => 1..=5u64, 1 => Just(1_000_000)];
    let buffer = prop_oneof![Just(0), Just(1 << 20)];
    // With room for two rows a compaction cuts what one batch of four wrote.
    let rows = prop_oneof![3 => Just(None), 1 => Just(Some(2u64))];
    let options = (records, rows, buffer).prop_map(|(records, rows, bytes)| {
        let mut options = options().segment_records(records).buffer_bytes(bytes);
        if let Some(rows) = rows {
            options.settings.limits.dat = 256 + rows * u64::from(DIM) * 4;
        }
        options
    });
    let metric = prop_oneof![Just(Metric::L2), Just(Metric::Ip), Just(Metric::Cosine)];
    (options, metric, failing(), vec(step(), 1..40))
}

type Outcome<T = ()> = std::result::Result<T, TestCaseError>;

fn fail(what: &str) -> impl Fn(Error) -> TestCaseError {
    move |error| TestCaseError::fail(format!("{what}: {error}"))
}

/// An error needs a fault, and is not called damage.
fn excused(what: &str, failed: Option<&str>, error: &Error) -> Outcome {
    prop_assert!(failed.is_some() && !error.is_corrupt(), "{} at {:?}: {}", what, failed, error);
    Ok(())
}

/// How a call that changes something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Went {
    Well,
    /// What was to be written is accepted, and the store goes on.
    Kept,
    /// Nothing happened, and the store goes on.
    Refused,
    /// Nobody knows: writing stopped, or the process died.
    Stopped,
}

/// A process: its disk, which may fail at one call.
#[derive(Clone)]
struct Door {
    disk: FaultDisk,
    call: Option<usize>,
}

impl Door {
    fn new(disk: &SimDisk, fault: Failing) -> Door {
        let plan = fault.map(|(call, code)| Plan { call, fault: Fault::Os(code), for_ever: false });
        Door { disk: FaultDisk::new(Arc::new(disk.clone()), plan), call: fault.map(|(call, _)| call) }
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn calls(&self) -> usize {
        self.disk.seen().len()
    }

    /// The call that failed since there were so many, if it did.
    fn failed_since(&self, calls: usize) -> Option<&'static str> {
        let call = self.call.filter(|&call| call >= calls)?;
        self.disk.seen().get(call).copied()
    }

    /// Reads; a second time if the first met the fault.
    fn read<T>(&self, what: &str, read: impl Fn() -> Result<T>) -> Outcome<T> {
        let before = self.calls();
        let first = read();
        let again = first.is_err() && self.failed_since(before).is_some();
        if again { read() } else { first }.map_err(fail(what))
    }
}

/// Another process, that only reads.
struct Beside {
    door: Door,
    store: VectorStore,
    shows: Content,
    /// The first state that this can be.
    at: usize,
}

/// A snapshot and what it has to show for ever.
struct Held {
    door: Door,
    snapshot: Snapshot,
    content: Content,
    of_reader: bool,
}

#[derive(Default)]
struct Machine {
    disk: SimDisk,
    door: Option<Door>,
    options: OpenOptions,
    model: Model,
    store: Option<VectorStore>,
    version: u16,
    beside: Option<Beside>,
    held: Vec<Held>,
    backups: Vec<(PathBuf, Content)>,
    /// Backups begun, for the name of the next one.
    tries: usize,
    /// The changing call at which the process dies.
    death: Option<(usize, Power)>,
    /// The last state that the log says is durable. A writer that cannot write that says so with its next batch.
    durable_at: usize,
    /// A mark may be missing; with it, whether there was a batch since.
    unnoted: Option<bool>,
}

/// Small vectors, so that distances are often equal; the second component tells the age, and from all others.
fn vector(id: usize, version: u16) -> [f32; 4] {
    [f32::from(version % 3), f32::from(version), f32::from(IDS[id].as_bytes()[0] % 4), -1.0]
}

/// What a put says of a document, with the number of the put in it.
fn versioned(document: Document<()>, version: u16) -> Document<String> {
    match document {
        Document::Keep => Document::Keep,
        Document::None => Document::None,
        Document::Json(()) => Document::Json(format!("{{\"v\":{version}}}")),
    }
}

/// What a put leaves of a document.
fn left(before: Option<String>, document: &Document<String>) -> Option<String> {
    if *document == Document::Keep { before } else { document.clone().json() }
}

/// The ids nearest to `query` with their distances, nearest first, the older first where they are equal.
fn nearest(content: &Content, metric: Metric, query: &[f32], k: usize) -> Vec<(String, f32, Vec<f32>)> {
    let rows = content.iter().map(|(id, row)| {
        let vector: Vec<f32> = row.0.iter().map(|&bits| f32::from_bits(bits)).collect();
        (reference_distance(metric, query, &vector), age(row), id.clone(), vector)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    rows.into_iter().take(k).map(|(distance, _, id, row)| (id, to_public(metric, distance), row)).collect()
}

/// A filter for the documents of versions after this one.
fn newer_than(version: u16) -> Result<Filter> {
    Filter::parse(&format!(r#"{{"v": {{"$gt": {version}}}}}"#))
}

/// What that filter is to find.
fn has_document_after((_, document): &Row, version: u16) -> bool {
    version_of(document) > version
}

/// The number in a document; 0 without one.
fn version_of(document: &Option<String>) -> u16 {
    let v = |document: &String| document.strip_prefix("{\"v\":")?.strip_suffix('}')?.parse().ok();
    document.as_ref().and_then(v).unwrap_or(0)
}

/// The number of the call that wrote a row: a document that changed alone is newer than its vector.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a version")]
fn age((bits, document): &Row) -> u16 {
    version_of(document).max(f32::from_bits(bits[1]) as u16)
}

/// A filtered search and the ids of the filter, oldest first, beside the map.
fn check_filtered(snapshot: &Snapshot, content: &Content, query: &[f32], k: usize) -> Result<Outcome> {
    let before = content.values().map(age).max().unwrap_or(0) / 2;
    let filter = newer_than(before)?;
    let mut matching = content.clone();
    matching.retain(|_, row| has_document_after(row, before));
    let ids = snapshot.ids_where(&filter)?;
    let found = snapshot.search_with(query, k, &SearchOptions::new().with_vectors().filter(filter))?;
    let mut by_age: Vec<_> = matching.iter().map(|(id, row)| (age(row), id)).collect();
    by_age.sort_unstable();
    Ok((|| {
        prop_assert!(
            ids.iter().map(ToString::to_string).eq(by_age.iter().map(|(_, id)| (*id).clone())),
            "{:?}",
            ids
        );
        let read = if k == 0 { 0 } else { matching.len() as u64 };
        prop_assert_eq!((found.is_exact(), found.rows_read()), (true, read));
        let found: Vec<_> =
            found.into_iter().map(|n| (n.id.to_string(), n.distance, n.vector.unwrap_or_default())).collect();
        prop_assert_eq!(found, nearest(&matching, snapshot.metric(), query, k), "of those after {}", before);
        Ok(())
    })())
}

/// Everything that a snapshot says of itself, and a search beside one of the map.
fn check_snapshot(snapshot: &Snapshot, content: &Content, query: &[f32], k: usize) -> Result<Outcome> {
    let mut seen = Content::new();
    seen.attributes = snapshot.attributes().map(str::to_owned);
    seen.embed_name = snapshot.files().sections.embed_name();
    let (mut ages, mut gets) = (Vec::new(), seen.clone());
    for item in snapshot.iter() {
        let (id, vector) = item?;
        let row = (row(&vector).0, snapshot.get_document(&id)?);
        ages.push(age(&row));
        seen.insert(id.to_string(), row);
    }
    for id in IDS {
        if let Some(vector) = snapshot.get(id)? {
            gets.insert(id.to_owned(), (row(&vector).0, snapshot.get_document(id)?));
        }
    }
    let found = snapshot.search_with(query, k, &SearchOptions::new().with_vectors().with_documents())?;
    let filtered = check_filtered(snapshot, content, query, k)?;
    let said: Vec<_> = found.iter().map(|found| found.document.clone()).collect();
    let found: Vec<_> =
        found.into_iter().map(|n| (n.id.to_string(), n.distance, n.vector.unwrap_or_default())).collect();
    Ok((|| {
        prop_assert_eq!(&seen, content, "rows of a snapshot");
        prop_assert_eq!(&gets, content, "ids of a snapshot");
        prop_assert_eq!(snapshot.len(), content.len());
        prop_assert!(ages.is_sorted(), "not in the order of writing: {:?}", ages);
        let expected = nearest(content, snapshot.metric(), query, k);
        let documents: Vec<_> = expected.iter().map(|(id, ..)| content[id].1.clone()).collect();
        prop_assert_eq!(found, expected, "the {} nearest to {:?}", k, query);
        prop_assert_eq!(said, documents, "documents of a search");
        filtered
    })())
}

/// Some search for where it does not matter which.
const QUERY: [f32; 4] = [1.0, 0.0, 2.0, 1.0];

impl Machine {
    fn new((options, metric, fault, _): &Case) -> Outcome<Machine> {
        crate::pair::files::seed_random(1);
        let disk = SimDisk::new(&root());
        let door = Door::new(&disk, None);
        let (disk_seen, dir) = (door.disk(), Path::new(DIR));
        let store = VectorStore::create_on(disk_seen, dir, DIM, *metric, identity(), options);
        store.and_then(VectorStore::close).map_err(fail("create"))?;
        let options = options.clone();
        let mut machine = Machine { disk, door: Some(door), options, ..Machine::default() };
        machine.model = Model::new();
        machine.open(*fault)?;
        Ok(machine)
    }

    fn store(&self) -> &VectorStore {
        self.store.as_ref().expect("open between steps")
    }

    fn door(&self) -> &Door {
        self.door.as_ref().expect("there from the start")
    }

    fn last(&self) -> &Content {
        self.model.states.last().expect("never empty")
    }

    fn is_dead(&self) -> bool {
        self.death.is_some_and(|(at, _)| self.disk.steps() >= at)
    }

    /// Tells how a call went that began when there were so many calls of the disk; an error needs its fault.
    fn judge<T>(&mut self, what: &str, outcome: &Result<T>, calls: usize) -> Outcome<Went> {
        let failed = self.door().failed_since(calls);
        if failed == Some("write_at") {
            self.unnoted = Some(false);
        }
        let Err(error) = outcome else { return Ok(Went::Well) };
        if self.is_dead() {
            return Ok(Went::Stopped);
        }
        excused(what, failed, error)?;
        Ok(match error {
            error if error.stops_writing() => Went::Stopped,
            error if ask::is_kept(error) => Went::Kept,
            _ => Went::Refused,
        })
    }

    /// As [`judge`](Self::judge), for a call that makes durable what was accepted before.
    fn judge_sync<T>(&mut self, what: &str, outcome: &Result<T>, calls: usize) -> Outcome<Went> {
        let went = self.judge(what, outcome, calls)?;
        if went == Went::Well {
            self.acknowledged();
        }
        Ok(went)
    }

    /// Everything accepted until now is acknowledged.
    fn acknowledged(&mut self) {
        self.model.acked = self.model.states.len() - 1;
        if self.unnoted != Some(false) {
            (self.durable_at, self.unnoted) = (self.model.acked, None);
        }
    }

    /// How a batch went that leads to the last state.
    fn finish_write<T>(
        &mut self,
        what: &str,
        outcome: &Result<T>,
        calls: usize,
        written: bool,
        wish: Wish,
    ) -> Outcome<Went> {
        let went = self.judge(what, outcome, calls)?;
        match went {
            Went::Well | Went::Kept if written && self.unnoted.is_some() => self.unnoted = Some(true),
            Went::Refused => _ = self.model.states.pop(),
            Went::Well | Went::Kept | Went::Stopped => {}
        }
        if went == Went::Well && wish == Some(Durability::Sync) {
            // With all that was accepted before it, if it changed nothing too.
            self.acknowledged();
        }
        Ok(went)
    }

    fn put(&mut self, store: &VectorStore, ids: &[(usize, Document<()>)], wish: Wish) -> Outcome<Went> {
        let mut content = self.last().clone();
        let (mut names, mut rows, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        for &(id, document) in ids {
            self.version += 1;
            let vector = vector(id, self.version);
            let document = versioned(document, self.version);
            let before = content.get(IDS[id]).and_then(|(_, document)| document.clone());
            content.insert(IDS[id].to_owned(), (row(&vector).0, left(before, &document)));
            names.push(IDS[id]);
            rows.extend(vector);
            documents.push(document);
        }
        self.model.states.push(content);
        let documents: Vec<_> = documents.iter().map(Document::as_deref).collect();
        let calls = self.door().calls();
        let outcome = {
            let mut batch = WriteBatch::new();
            batch.put_many_with_documents(&names, &rows, &documents);
            store.write(batch.durability(wish.unwrap_or_default()))
        };
        self.finish_write("put", &outcome, calls, !ids.is_empty(), wish)
    }

    fn change(
        &mut self,
        store: &VectorStore,
        ids: &[(usize, Document<()>)],
        merge: bool,
        wish: Wish,
    ) -> Outcome<Went> {
        let (mut content, mut unknown) = (self.last().clone(), false);
        let (mut names, mut documents) = (Vec::new(), Vec::new());
        for &(id, document) in ids {
            // Rows that say the same would not tell which of them is older.
            if names.contains(&IDS[id]) || document == Document::None {
                continue;
            }
            self.version += 1;
            let document = versioned(document, self.version);
            match content.get_mut(IDS[id]) {
                Some((_, stored)) => *stored = left(stored.take(), &document),
                None => unknown = true,
            }
            names.push(IDS[id]);
            documents.push(document);
        }
        let documents: Vec<_> = documents.iter().map(Document::as_deref).collect();
        let calls = self.door().calls();
        let outcome = if merge {
            store.change_documents(&names, &documents, true, wish)
        } else {
            store.change_documents(&names, &documents, false, wish)
        };
        if unknown {
            if matches!(outcome, Err(Error::UnknownIds { .. })) {
                return Ok(Went::Well);
            }
            prop_assert!(outcome.is_err(), "an id that is not there");
            return self.judge("change documents", &outcome, calls);
        }
        self.model.states.push(content);
        let written = documents.iter().any(|document| *document != Document::Keep);
        self.finish_write("change documents", &outcome, calls, written, wish)
    }

    fn delete(&mut self, store: &VectorStore, ids: &[usize], way: usize, wish: Wish) -> Outcome<Went> {
        let names: Vec<&str> = ids.iter().map(|&id| IDS[id]).collect();
        let mut content = self.last().clone();
        content.retain(|id, _| !names.contains(&id.as_str()));
        let there = self.last().len() - content.len();
        self.model.states.push(content);
        let calls = self.door().calls();
        let outcome = ask::delete(store, &names, way, wish);
        if let Ok(deleted) = outcome {
            prop_assert_eq!(deleted, there, "deleted by {}", DELETES[way].0);
        }
        // Nothing is written for ids that are not there, but by who writes deletes.
        let written = there > 0 || (DELETES[way].0 == "write" && !ids.is_empty());
        self.finish_write("delete", &outcome, calls, written, wish)
    }

    fn delete_where(&mut self, store: &VectorStore, newest: u16, wish: Wish) -> Outcome<Went> {
        let before = self.version.saturating_sub(newest);
        let filter = newer_than(before).map_err(fail("filter"))?;
        let mut content = self.last().clone();
        content.retain(|_, row| !has_document_after(row, before));
        let there = self.last().len() - content.len();
        self.model.states.push(content);
        let calls = self.door().calls();
        let outcome = store.delete_where_with(&filter, wish);
        if let Ok(deleted) = outcome {
            prop_assert_eq!(deleted, there, "deleted where {:?}", filter);
        }
        self.finish_write("delete_where", &outcome, calls, there > 0, wish)
    }

    fn clear(&mut self, store: &VectorStore) -> Outcome<Went> {
        self.model.states.push(self.last().cleared());
        let calls = self.door().calls();
        let outcome = store.clear();
        self.finish_write("clear", &outcome, calls, false, Some(Durability::Sync))
    }

    fn set_attributes(&mut self, store: &VectorStore, remove: bool) -> Outcome<Went> {
        if store.dim() == 0 {
            // They come with a dimension.
            prop_assert!(store.set_attributes(None).is_err());
            return Ok(Went::Well);
        }
        self.version += 1;
        let mut content = self.last().clone();
        content.attributes = (!remove).then(|| format!("{{\"v\":{}}}", self.version));
        let attributes = content.attributes.clone();
        self.model.states.push(content);
        let calls = self.door().calls();
        let outcome = store.set_attributes(attributes.as_deref());
        let went = self.finish_write("set attributes", &outcome, calls, false, Some(Durability::Sync))?;
        if went == Went::Kept {
            // What was accepted before is kept, these are not.
            self.model.states.pop();
        }
        Ok(went)
    }

    /// Compacts, with a put and a delete in the middle.
    fn compact(&mut self, store: &VectorStore, put: &[usize], delete: &[usize], stop: bool) -> Outcome<Went> {
        let put: Vec<_> = put.iter().map(|&id| (id, Document::Keep)).collect();
        let (mut beside, mut busy) = (Ok(Went::Well), false);
        let calls = self.door().calls();
        let compacted = store.compact_with(&CompactOptions::new(), |_| {
            if !std::mem::replace(&mut busy, true) {
                beside = self.put(store, &put, None).and_then(|went| match went {
                    Went::Stopped => Ok(went),
                    _ => self.delete(store, delete, delete.len() % DELETES.len(), None),
                });
            }
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let beside = beside?;
        if matches!(compacted, Err(Error::Cancelled)) && stop {
            return Ok(beside);
        }
        self.judge_sync("compact", &compacted, calls)
    }

    /// A flush of a store that is elsewhere: nothing is acknowledged, and what was accepted is durable where it
    /// is, as far as its segment has room.
    fn moved(&mut self, store: &VectorStore) -> Outcome<Went> {
        let aside = Path::new("/aside");
        self.disk.move_dir(Path::new(DIR), aside);
        let calls = self.door().calls();
        let outcome = store.flush();
        self.disk.move_dir(aside, Path::new(DIR));
        if self.is_dead() || self.door().failed_since(calls).is_some() {
            return self.judge("flush of a moved store", &outcome, calls);
        }
        prop_assert!(matches!(outcome, Err(Error::StoreMoved { .. })), "of a moved store: {:?}", outcome);
        // What needs a new segment, and so a new MANIFEST, is not written any more.
        let limits = &self.options.settings.limits;
        if limits.records > 1000 && limits.dat == options().settings.limits.dat {
            self.model.acked = self.model.states.len() - 1;
        }
        Ok(Went::Stopped)
    }

    fn step(&mut self, step: &Step) -> Outcome {
        // Taken, so that a callback can have both.
        let store = self.store.take().expect("open between steps");
        let calls = self.door().calls();
        let went = match step {
            Step::Put(ids, wish) => self.put(&store, ids, *wish)?,
            Step::Change(ids, merge, wish) => self.change(&store, ids, *merge, *wish)?,
            Step::Delete(ids, way, wish) => self.delete(&store, ids, *way, *wish)?,
            Step::DeleteWhere(newest, wish) => self.delete_where(&store, *newest, *wish)?,
            Step::Compact(put, delete, cancel) => self.compact(&store, put, delete, *cancel)?,
            Step::Flush => self.judge_sync("flush", &store.flush(), calls)?,
            Step::Clear => self.clear(&store)?,
            Step::SetAttributes(remove) => self.set_attributes(&store, *remove)?,
            Step::Move => self.moved(&store)?,
            Step::Close(fault) => {
                self.judge_sync("close", &store.close(), calls)?;
                return if self.is_dead() { Ok(()) } else { self.open(*fault) };
            }
            _ => Went::Well,
        };
        self.store = Some(store);
        match step {
            _ if went == Went::Stopped && !self.is_dead() => return self.stopped(),
            Step::Die(power, fault) => return self.die(*power, *fault),
            Step::DieLater(after, power) => {
                let at = self.disk.steps() + after;
                self.disk.power_off_at(at);
                self.death = Some((at, *power));
            }
            Step::SearchNow(query, k) => return self.look(&query.map(f32::from), *k),
            Step::Verify => {
                let before = self.door().calls();
                let verify = || self.door().read("verify", || self.store().verify());
                let mut report = verify()?;
                // It lists what the disk could not read, and goes on.
                if !report.is_ok() && self.door().failed_since(before).is_some() {
                    report = verify()?;
                }
                prop_assert!(report.is_ok(), "verify: {:?}", report.damage);
            }
            Step::Read(fault) => return self.read_beside(*fault),
            Step::Refresh => return self.refresh(),
            Step::DropReader => self.beside = None,
            Step::Hold(of_reader) => return self.hold(*of_reader),
            Step::CheckHeld => return self.check_held(),
            Step::DropHeld(at) if *at < self.held.len() => _ = self.held.remove(*at),
            Step::Backup(of_reader) => return self.backup(*of_reader),
            _ => {}
        }
        Ok(())
    }

    /// What the writer shows, in every way it can be asked.
    fn look(&self, query: &[f32], k: usize) -> Outcome {
        let seen = self.door().read("look", || content(self.store()))?;
        prop_assert_eq!(&seen, self.last(), "what the writer shows");
        for id in IDS {
            let found = self.door().read("get", || ask::get(self.store(), id))?;
            prop_assert_eq!(found.is_some(), seen.contains_key(id), "{}", id);
        }
        self.door().read("search", || check_snapshot(&self.store().snapshot()?, self.last(), query, k))?
    }

    /// Opens for writing. What is found is the only truth from then on, and durable.
    fn open(&mut self, fault: Failing) -> Outcome {
        self.door = Some(Door::new(&self.disk, fault));
        let store = match VectorStore::open_on(self.door().disk(), Path::new(DIR), &self.options) {
            Ok(store) => store,
            Err(_) if self.is_dead() => return Ok(()),
            Err(error) => {
                excused("open", self.door().failed_since(0), &error)?;
                return self.open(None);
            }
        };
        let missing = self.door().failed_since(0) == Some("write_at");
        if self.is_dead() {
            self.store = Some(store);
            return Ok(());
        }
        let seen = self.door().read("look after opening", || content(&store))?;
        let at = self.model.place(&seen);
        let Some(at) = at else { return self.first_like("a writer", &seen, self.model.acked).map(drop) };
        self.model.states.truncate(at + 1);
        self.model.acked = at;
        self.unnoted = missing.then_some(false);
        if !missing {
            self.durable_at = at;
        }
        self.store = Some(store);
        self.look(&QUERY, 3)
    }

    /// The process dies, perhaps with the power, and the store is opened again.
    fn die(&mut self, power: Power, fault: Failing) -> Outcome {
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.held.drain(..).partition(|held| held.of_reader && power.is_none());
        self.held = kept;
        let beside = if power.is_some() { self.beside.take() } else { None };
        self.disk.kill((self.store.take(), gone, beside));
        if power.is_some() || self.is_dead() {
            self.death = None;
            self.disk.power_on();
        }
        match power {
            Some(seed) => {
                self.disk = SimDisk::new(&self.cut(seed));
                // The marks that say so need not be durable; opening writes one again.
                self.durable_at = 0;
                self.check_backups(false)?;
            }
            None => {
                self.disk.evict();
                // With no writer there, a reader shows all that holds. The next writer has to keep it, unless the power
                // goes before.
                let acked = self.model.acked;
                self.refresh()?;
                if matches!(self.death, Some((_, Some(_)))) {
                    self.model.acked = acked;
                }
            }
        }
        self.open(fault)
    }

    fn cut(&self, seed: u64) -> crate::sys::disk::sim::Image {
        let crash = self.disk.crash();
        let mut random = Random(seed);
        let kind = random.below(4);
        let choose = |&options: &usize| match kind {
            0 => 0,
            1 => options - 1,
            2 => random.below(options),
            _ => (options - 1) * random.below(2),
        };
        let choice: Vec<usize> = crash.options().iter().map(choose).collect();
        crash.image(&choice)
    }

    /// After a failure of unknown outcome: reads show what is durable, writes say why not, and a reopen goes on.
    fn stopped(&mut self) -> Outcome {
        let seen = self.door().read("read after a stop", || content(self.store()))?;
        self.model.acked = self.first_like("after a stop", &seen, self.model.acked)?;
        let outcomes = [
            self.store().put("a", &[0.0; 4]),
            self.store().flush(),
            self.store().compact().map(drop),
            self.store().clear(),
            self.store().set_attributes(None),
        ];
        let deletes = (0..DELETES.len()).map(|way| ask::delete(self.store(), &["a"], way, None).map(drop));
        for outcome in outcomes.into_iter().chain(deletes) {
            prop_assert!(matches!(outcome, Err(Error::Poisoned { .. })), "after a stop: {:?}", outcome);
        }
        self.store = None;
        self.open(None)
    }

    /// The first state from `from` on with this content.
    fn first_like(&self, who: &str, content: &Content, from: usize) -> Outcome<usize> {
        let states = &self.model.states[from..];
        let at = states.iter().position(|state| state == content);
        prop_assert!(at.is_some(), "{} shows {:?}, which is none of {:?}", who, content, states);
        Ok(from + at.unwrap_or(0))
    }

    fn read_beside(&mut self, fault: Failing) -> Outcome {
        let door = Door::new(&self.disk, fault);
        match VectorStore::open_read_only_on(door.disk(), Path::new(DIR)) {
            Ok(store) => self.shown(Beside { door, store, shows: Content::new(), at: 0 }),
            Err(error) => excused("open read-only", door.failed_since(0), &error),
        }
    }

    fn refresh(&mut self) -> Outcome {
        let Some(beside) = self.beside.take() else { return Ok(()) };
        let before = beside.door.read("read beside", || content(&beside.store))?;
        prop_assert_eq!(&before, &beside.shows, "a reader that was not refreshed");
        let calls = beside.door.calls();
        if let Err(error) = beside.store.refresh() {
            excused("refresh", beside.door.failed_since(calls), &error)?;
            let after = beside.door.read("read beside", || content(&beside.store))?;
            prop_assert_eq!(&after, &beside.shows, "after a refresh that failed");
            self.beside = Some(beside);
            return Ok(());
        }
        self.shown(beside)
    }

    /// A reader shows what is durable_at as durable or more, and never goes back; what it shows must stay.
    fn shown(&mut self, mut beside: Beside) -> Outcome {
        let seen = beside.door.read("read beside", || content(&beside.store))?;
        let at = self.first_like("a reader", &seen, beside.at.max(self.durable_at))?;
        self.model.acked = self.model.acked.max(at);
        (beside.at, beside.shows) = (at, seen);
        let check = || check_snapshot(&beside.store.snapshot()?, &beside.shows, &QUERY, 3);
        beside.door.read("a reader's snapshot", check)??;
        self.beside = Some(beside);
        Ok(())
    }

    /// The reader if it is asked for and there is one, else the writer: with what it shows.
    fn either(&self, reader: bool) -> (&VectorStore, &Door, &Content, bool) {
        match &self.beside {
            Some(beside) if reader => (&beside.store, &beside.door, &beside.shows, true),
            _ => (self.store(), self.door(), self.last(), false),
        }
    }

    fn hold(&mut self, of_reader: bool) -> Outcome {
        let (store, door, content, of_reader) = self.either(of_reader);
        let snapshot = door.read("snapshot", || store.snapshot())?;
        let (door, content) = (door.clone(), content.clone());
        self.held.push(Held { door, snapshot, content, of_reader });
        self.held.drain(..self.held.len().saturating_sub(SNAPSHOTS));
        Ok(())
    }

    fn check_held(&self) -> Outcome {
        self.held.iter().try_for_each(|Held { door, snapshot, content, .. }| {
            door.read("a held snapshot", || check_snapshot(snapshot, content, &QUERY, 9))?
        })
    }

    fn backup(&mut self, of_reader: bool) -> Outcome {
        self.tries += 1;
        let to = PathBuf::from(format!("/backup{}", self.tries));
        let (store, door, shows, of_reader) = self.either(of_reader);
        let (shows, calls) = (shows.clone(), door.calls());
        let mut outcome = store.backup(&to);
        if let Err(error) = &outcome
            && !self.is_dead()
        {
            excused("backup", door.failed_since(calls), error)?;
            if !of_reader && matches!(store.flush(), Err(Error::Poisoned { .. })) {
                return self.stopped();
            }
            // What was copied is removed.
            outcome = store.backup(&to);
        }
        if self.is_dead() && outcome.is_err() {
            return Ok(());
        }
        prop_assert!(outcome.is_ok(), "backup again: {:?}", outcome);
        if !of_reader {
            self.judge_sync("backup", &outcome, calls)?;
        }
        self.backups.push((to, shows));
        if self.is_dead() { Ok(()) } else { self.check_backups(false) }
    }

    /// Backups are stores of their own: what is done to them is not done to the store.
    fn check_backups(&self, write: bool) -> Outcome {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        for (path, expected) in &self.backups {
            let opened = VectorStore::open_read_only_on(disk.clone(), path);
            let seen = opened.and_then(|store| Ok((content(&store)?, store.verify()?.damage)));
            prop_assert_eq!(seen.map_err(fail("a backup"))?, (expected.clone(), Vec::new()), "at {:?}", path);
            if !write {
                continue;
            }
            let opened = VectorStore::open_on(disk.clone(), path, &self.options);
            let written = opened.and_then(|store| {
                store.put("new", &vector(0, u16::MAX))?;
                store.compact()?;
                store.delete("new")?;
                Ok((content(&store)?, store.close()?).0)
            });
            prop_assert_eq!(&written.map_err(fail("write to a backup"))?, expected, "at {:?}", path);
        }
        Ok(())
    }

    /// One step, and what it may have led to.
    fn go(&mut self, step: &Step) -> Outcome {
        let done = self.step(step);
        if self.is_dead() {
            // What a dead process saw counts for nothing.
            let power = self.death.and_then(|(_, power)| power);
            return self.die(power, None);
        }
        done
    }
}

fn run(case: &Case) -> Outcome {
    let mut machine = Machine::new(case)?;
    case.3.iter().try_for_each(|step| machine.go(step))?;
    machine.death = None;
    machine.disk.power_on();
    let look = || Step::SearchNow([0, 1, 2, 0], 4);
    let ends = [Step::Refresh, Step::CheckHeld, look(), Step::Die(None, None), Step::Verify];
    ends.iter().try_for_each(|step| machine.go(step))?;
    machine.check_backups(true)?;
    [Step::CheckHeld, look(), Step::Verify].iter().try_for_each(|step| machine.go(step))
}

/// `VECSTONE_CASES` sequences, 400 without it; `PROPTEST_RNG_SEED` chooses others.
#[test]
fn any_sequence_of_calls_shows_what_the_model_says() {
    let cases = std::env::var("VECSTONE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    let mut config =
        Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let seed = config.rng_seed;
    match TestRunner::new(config).run(&case(), |case| run(&case)) {
        Ok(()) => println!("{cases} sequences"),
        Err(TestError::Fail(why, case)) => panic!("{why}\n{seed:?}, shrunk to {case:?}"),
        Err(error) => panic!("{error}"),
    }
}
