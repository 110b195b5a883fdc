//! Every entry point that gives the vector of an id, and every one that deletes ids: where a test asks one of them it asks
//! all, or draws one.

use super::model::{DIM, DIR, identity, look, options, root};
use crate::buffer::batch::Op;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::SimDisk;
use crate::types::error::{Error, Result};
use crate::types::id::{AsId, Id, IdRef};
use crate::types::options::Durability;
use crate::{Filter, Metric, OpenOptions, Snapshot, VectorStore, WriteBatch};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The vector of an id; `None` if it is not there.
type Get = fn(&VectorStore, IdRef<'_>) -> Result<Option<Vec<f32>>>;

/// Deletes ids in one batch; how many were there.
type Delete = fn(&VectorStore, &[IdRef<'_>], Option<Durability>) -> Result<usize>;

/// What stands in memory of the caller before a call: the same after it if the id is not there.
const UNTOUCHED: f32 = 1e30;

fn into(store: &VectorStore, get: impl FnOnce(&mut [f32]) -> Result<bool>) -> Result<Option<Vec<f32>>> {
    let mut row = vec![UNTOUCHED; store.dim()];
    let found = get(&mut row)?;
    assert!(found || row.iter().all(|x| *x == UNTOUCHED), "an id that is not there leaves {row:?}");
    Ok(found.then_some(row))
}

fn many(get: impl FnOnce(&mut usize) -> Result<()>) -> Result<bool> {
    let mut missing = 0;
    get(&mut missing)?;
    Ok(missing == 0)
}

pub(super) const GETS: [(&str, Get); 10] = [
    ("get", |store, id| store.get(id)),
    ("get_into", |store, id| into(store, |row| store.get_into(id, row))),
    ("get_many", |store, id| Ok(store.snapshot().and_then(|snapshot| snapshot.get_many(&[id]))?.remove(0))),
    ("get_many_into", |store, id| {
        into(store, |row| many(|missing| store.get_many_into(&[id], row, |_| *missing += 1)))
    }),
    // Where it does not answer, nobody is the wiser.
    ("try_get_into", |store, id| {
        let mut row = vec![UNTOUCHED; store.dim()];
        match store.try_get_into(id, &mut row)? {
            Some(found) => Ok(found.then_some(row)),
            None => store.get(id),
        }
    }),
    ("contains", |store, id| {
        let there = store.contains(id)?;
        let row = store.get(id)?;
        Ok(if there { row } else { None })
    }),
    ("snapshot, get", |store, id| store.snapshot()?.get(id)),
    ("snapshot, get_into", |store, id| {
        let snapshot = store.snapshot()?;
        into(store, |row| snapshot.get_into(id, row))
    }),
    ("snapshot, get_many_into", |store, id| {
        let snapshot = store.snapshot()?;
        into(store, |row| many(|missing| snapshot.get_many_into(&[id], row, |_| *missing += 1)))
    }),
    ("snapshot, get_ref", |store, id| Ok(store.snapshot()?.get_ref(id)?.map(<[f32]>::to_vec))),
];

pub(super) const DELETES: [(&str, Delete); 4] = [
    ("delete_many", |store, ids, durability| store.delete_many_with(ids, durability)),
    ("delete_where", |store, ids, durability| store.delete_where_with(&filter(ids)?, durability)),
    ("delete_in_turn", |store, ids, durability| {
        let engine = store.engine()?;
        let different: BTreeSet<&[u8]> = ids.iter().map(IdRef::as_bytes).collect();
        let first = |bytes: &&[u8]| ids.iter().find(|id| id.as_bytes() == *bytes).map(Op::delete);
        let ops: Vec<Op<'_>> = different.iter().filter_map(first).collect();
        engine.delete_in_turn(&ops, durability.unwrap_or(engine.settings.durability))
    }),
    ("write", |store, ids, durability| {
        let mut there = BTreeSet::new();
        for id in ids {
            if store.contains(*id)? {
                there.insert(id.as_bytes());
            }
        }
        let ops: Vec<Op<'_>> = ids.iter().map(Op::delete).collect();
        let buffered = durability.is_none_or(|durability| durability == Durability::Buffered);
        match ops[..] {
            [op] if buffered && store.try_write(&op)?.is_some() => {}
            _ => {
                let mut batch = WriteBatch::new();
                for id in ids {
                    batch.delete(*id);
                }
                store.write(batch.durability(durability.unwrap_or_default()))?;
            }
        }
        Ok(there.len())
    }),
];

fn filter(ids: &[IdRef<'_>]) -> Result<Filter> {
    let owned = |id: &IdRef<'_>| Id::from_bytes(id.kind(), id.as_bytes());
    Ok(Filter::ids(ids.iter().filter_map(owned)))
}

/// The vector of an id, by every entry point: they have to agree while nobody writes.
pub(super) fn get(store: &VectorStore, id: impl AsId) -> Result<Option<Vec<f32>>> {
    let (id, mut first) = (id.as_id(), None);
    for (name, get) in GETS {
        let found = get(store, id)?;
        let first = first.get_or_insert_with(|| found.clone());
        assert!(same(first, &found), "{name} gives {found:?} for {id:?}, others {first:?}");
    }
    Ok(first.flatten())
}

/// The same by two of the entry points, others each time: for enumerations, which ask hundreds of thousands of times. One
/// that is repeated by its line asks all.
pub(super) fn get_by_some(store: &VectorStore, id: impl AsId) -> Result<Option<Vec<f32>>> {
    thread_local!(static NEXT: Cell<usize> = const { Cell::new(0) });
    if std::env::var_os("VECSTONE_CRASH").is_some() {
        return get(store, id);
    }
    let (id, next) = (id.as_id(), NEXT.get());
    NEXT.set(next + 1);
    let [(_, first), (name, second)] = [next, next + 3].map(|way| GETS[way % GETS.len()]);
    let (first, found) = (first(store, id)?, second(store, id)?);
    assert!(same(&first, &found), "{name} gives {found:?} for {id:?}, others {first:?}");
    Ok(first)
}

fn same(a: &Option<Vec<f32>>, b: &Option<Vec<f32>>) -> bool {
    let bits = |row: &Option<Vec<f32>>| row.as_ref().map(|row| row.iter().map(|x| x.to_bits()).collect());
    let (a, b): (Option<Vec<u32>>, Option<Vec<u32>>) = (bits(a), bits(b));
    a == b
}

/// Deletes ids by the entry point of that number.
pub(super) fn delete(
    store: &VectorStore,
    ids: &[&str],
    way: usize,
    durability: Option<Durability>,
) -> Result<usize> {
    let ids: Vec<IdRef<'_>> = ids.iter().map(AsId::as_id).collect();
    DELETES[way % DELETES.len()].1(store, &ids, durability)
}

/// Whether what a call that failed was to write is accepted all the same.
pub(super) fn is_kept(error: &Error) -> bool {
    matches!(error, Error::NoSpace { kept: true, .. } | Error::Io { kept: true, .. })
}

// ---- what holds for each of them ----

type Outcome = std::result::Result<(), String>;

fn made(sim: &SimDisk, options: &OpenOptions) -> (FaultDisk, VectorStore) {
    let faulty = FaultDisk::new(Arc::new(sim.clone()), None);
    let door = Arc::new(faulty.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
    (faulty, store.expect("made"))
}

fn buffered() -> OpenOptions {
    options().buffer_bytes(1 << 20).segment_records(3)
}

fn put(store: &VectorStore, ids: &[&str]) {
    let rows = vec![1.5; ids.len() * DIM as usize];
    store.put_many(ids, &rows).expect("stored");
}

/// What is in sealed segments, in the active one and in the buffer, by each entry point.
pub(super) fn what_is_there_is_deleted() -> Outcome {
    for (way, (name, _)) in DELETES.iter().enumerate() {
        for wish in [Durability::Buffered, Durability::Sync] {
            let (_, store) = made(&SimDisk::new(&root()), &buffered());
            put(&store, &["sealed", "stays", "replaced"]);
            store.flush().expect("flushed");
            put(&store, &["active", "replaced"]);
            store.flush().expect("flushed");
            put(&store, &["buffered", "stays too"]);
            let ids = ["sealed", "active", "absent", "buffered", "replaced", "sealed"];
            let deleted = delete(&store, &ids, way, Some(wish)).map_err(|e| e.to_string())?;
            let left: Vec<&str> =
                ids.into_iter().filter(|id| get(&store, *id).expect("reads").is_some()).collect();
            let len = store.len().expect("known");
            if (deleted, len, left.len()) != (4, 2, 0) {
                return Err(format!("{name}, {wish:?}: {deleted} deleted, {len} stay, {left:?} are there"));
            }
        }
    }
    Ok(())
}

/// A durable delete that finds nothing returns when what made it nothing is durable, whatever is deleted and however.
pub(super) fn nothing_found_is_waited_for() -> Outcome {
    type Again = (&'static str, fn(&VectorStore) -> Result<usize>);
    const SYNC: Option<Durability> = Some(Durability::Sync);
    let again: [Again; 9] = [
        ("delete_many", |store| delete(store, &["a"], 0, SYNC)),
        ("delete_where", |store| delete(store, &["a"], 1, SYNC)),
        ("delete_in_turn", |store| delete(store, &["a"], 2, SYNC)),
        ("write", |store| delete(store, &["a"], 3, SYNC)),
        ("delete_where of documents", |store| store.delete_where_with(&Filter::parse(r#"{"v": 1}"#)?, SYNC)),
        ("ids of another kind", |store| store.delete_many_with(&[7u64], SYNC)),
        ("no id", |store| store.delete_many_with(&[] as &[&str], SYNC)),
        ("no change", |store| store.write(WriteBatch::new().durability(Durability::Sync)).map(|()| 0)),
        ("no row", |store| {
            let batch = &mut WriteBatch::new();
            store.write(batch.put_many(&[] as &[&str], &[]).durability(Durability::Sync)).map(|()| 0)
        }),
    ];
    for (name, again) in again {
        for full in [false, true] {
            let sim = SimDisk::new(&root());
            let (faulty, store) = made(&sim, &buffered());
            store
                .put_with_document("a", &[1.0; 4], r#"{"v": 1}"#)
                .and_then(|()| store.flush())
                .expect("stored");
            if full {
                faulty.plan(Plan { call: 0, fault: Fault::Os(28), for_ever: true });
                for call in [|store: &VectorStore| delete(store, &["a"], 0, SYNC), again] {
                    match call(&store) {
                        Err(Error::NoSpace { source, .. }) if source.raw_os_error() == Some(28) => {}
                        other => return Err(format!("{name} on a full disk: {other:?}")),
                    }
                }
                faulty.heal();
            } else {
                store.delete("a").expect("deleted");
            }
            let found = again(&store).map_err(|e| e.to_string())?;
            let (_, content) =
                look(&SimDisk::new(&sim.crash().image(&[])), true).expect("opens").expect("there");
            if found > 0 || !content.is_empty() {
                return Err(format!(
                    "{name}, full {full}: {found} found, then {content:?} after a power cut"
                ));
            }
        }
    }
    Ok(())
}

/// What leaves the buffer between two looks of one call is found, by each entry point.
pub(super) fn what_moves_meanwhile_is_found() -> Outcome {
    for (name, ask) in GETS {
        for seals in [false, true] {
            let (_, store) = made(&SimDisk::new(&root()), &buffered());
            put(&store, &["old"]);
            store.flush().expect("flushed");
            put(&store, if seals { &["a", "b", "c", "d"] } else { &["a"] });
            let engine = store.engine().expect("a writer").clone();
            let moves = Arc::downgrade(&engine);
            engine.hooks.plant("asked", move || {
                moves.upgrade().expect("open").drain().expect("written");
            });
            let found = ask(&store, "a".as_id()).map_err(|e| e.to_string())?;
            if found.is_none() || engine.hooks.is_planted() {
                return Err(format!("{name} gives {found:?} for what moves"));
            }
        }
    }
    Ok(())
}

/// More than one batch of deletes, each number of rows around its limit, with others between them.
pub(super) fn a_filter_deletes_more_than_a_batch() -> Outcome {
    for at_once in [1, 2, 3, 4] {
        for rows in 0..10usize {
            let mut options = buffered();
            options.settings.delete_batch_records = at_once;
            let sim = SimDisk::new(&root());
            let (_, store) = made(&sim, &options);
            for n in 0..rows {
                store.put_with_document(format!("{n}"), &[1.0; 4], r#"{"v": 1}"#).expect("stored");
                put(&store, &[&format!("stays {n}")]);
            }
            let filter = Filter::parse(r#"{"v": 1}"#).expect("a filter");
            let deleted =
                store.delete_where_with(&filter, Some(Durability::Sync)).map_err(|e| e.to_string())?;
            let (_, content) =
                look(&SimDisk::new(&sim.crash().image(&[])), true).expect("opens").expect("there");
            if (deleted, content.len()) != (rows, rows) || content.keys().any(|id| !id.starts_with("stays")) {
                return Err(format!("{deleted} of {rows} deleted, {at_once} at once: {content:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn each_entry_point_deletes_what_is_there() {
    what_is_there_is_deleted().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_durable_delete_of_nothing_waits() {
    nothing_found_is_waited_for().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn nothing_is_missing_that_moves_between_two_looks() {
    what_moves_meanwhile_is_found().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn delete_where_goes_on_behind_a_full_batch() {
    a_filter_deletes_more_than_a_batch().unwrap_or_else(|why| panic!("{why}"));
}

/// The call that never waits has an answer wherever the files were looked at before, and of what is in the buffer.
#[test]
fn the_call_that_never_waits_answers_on_a_simulated_disk() {
    let (_, store) = made(&SimDisk::new(&root()), &buffered());
    put(&store, &["a", "b", "c"]);
    store.flush().expect("flushed");
    put(&store, &["d"]);
    store.flush().expect("flushed");
    put(&store, &["e"]);
    let mut row = [0.0; 4];
    for (id, there) in [("a", true), ("d", true), ("e", true), ("f", false)] {
        get(&store, id).expect("reads");
        assert_eq!(store.try_get_into(id, &mut row).expect("reads"), Some(there), "{id}");
    }
}

/// Where few rows have codes: searches find what a look at every row does.
pub(super) fn search_by_codes(store: &VectorStore) -> std::result::Result<(), String> {
    if !crate::segment::codes::are_for_all() {
        return Ok(());
    }
    search_all_by_codes(&store.snapshot().map_err(|error| error.to_string())?)
}

/// The same of a moment of the store.
pub(super) fn search_all_by_codes(snapshot: &Snapshot) -> std::result::Result<(), String> {
    let error = |error: Error| error.to_string();
    let metric = snapshot.metric();
    let rows = snapshot.iter().collect::<Result<Vec<_>>>().map_err(error)?;
    for (_, query) in rows.iter().take(2) {
        let distance = |row: &[f32]| crate::reference_distance(metric, query, row);
        let mut right: Vec<f64> = rows.iter().map(|(_, row)| distance(row)).collect();
        right.sort_unstable_by(f64::total_cmp);
        let hits = snapshot.search(query, 2).map_err(error)?;
        let found: Vec<f32> = hits.iter().map(|hit| hit.distance).collect();
        let right: Vec<f32> = right
            .iter()
            .take(2)
            .map(|&distance| crate::query::distance::to_public(metric, distance))
            .collect();
        if found != right {
            return Err(format!("a search found {found:?}, not {right:?}: {}", hits.explain()));
        }
    }
    Ok(())
}
