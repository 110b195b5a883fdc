//! Effort that is measured with queries of the user's: what counts, what it does, and how long it stays.

use super::approximate::{chance, effort_file, filled, is_fast, orders, recall, some_rows, writer};
use super::{Ask, Filled, create};
use crate::sys::disk::Disk;
use crate::tests::model::{DIR, Random};
use crate::{EffortStats, Error, ErrorKind, Metric, VectorStore};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const DIM: usize = 48;

fn effort(store: &VectorStore) -> Option<EffortStats> {
    store.stats().expect("counted").effort
}

/// What the measurement says, whenever it was.
fn without_time(effort: Option<EffortStats>) -> Option<EffortStats> {
    effort.map(|effort| EffortStats { measured: None, ..effort })
}

/// Rows looked at for the ten nearest and a recall of 0.95.
fn of_ten(effort: &EffortStats) -> u64 {
    let is_it = |at: &&crate::LookedAt| at.k == 10 && at.recall == 0.95;
    effort.looked.iter().find(is_it).expect("measured").rows
}

/// Rows on one side of the origin, and queries far from them: their nearest are in many partitions.
fn one_sided() -> (Filled, Vec<Vec<f32>>) {
    let mut filled = create(Metric::L2, DIM, 1);
    let side = |mut row: Vec<f32>| {
        row[0] = 3.0 + row[0].abs();
        row
    };
    let rows: Vec<Vec<f32>> = some_rows(&mut Random(91), DIM, 3000).into_iter().map(side).collect();
    rows.chunks(500).for_each(|rows| filled.put(rows));
    filled.store.optimize().expect("built");
    let query = |mut row: Vec<f32>| {
        row.iter_mut().for_each(|x| *x *= 3.0);
        row
    };
    (filled, some_rows(&mut Random(92), DIM, 240).into_iter().map(query).collect())
}

#[test]
fn queries_that_are_not_like_the_rows_find_what_is_asked_for() {
    let (filled, queries) = one_sided();
    let (some, others) = queries.split_at(180);
    let by_rows = effort(&filled.store);
    let tuned = filled.store.tune(&some.concat()).expect("measured");
    assert_eq!(effort(&filled.store), if is_fast() { tuned.clone() } else { None });
    let (Some(by_rows), Some(tuned)) = (by_rows, tuned) else { return assert!(!is_fast()) };
    assert_eq!((by_rows.queries, tuned.queries, tuned.rows), (None, Some(180), 3000));
    assert!(of_ten(&tuned) > of_ten(&by_rows), "{tuned:?} {by_rows:?}");
    let orders = orders(&filled, others, &Ask::All);
    for target in [0.9, 0.95] {
        let (found, _) = recall(&filled, (others, &orders), 10, &Ask::All, target);
        assert!(found >= f64::from(target) - chance(10), "{found} of {target}");
    }
}

/// A row that is a query finds itself, which `optimize` leaves out.
#[test]
fn nothing_is_left_out() {
    let (filled, _) = filled(Metric::Cosine, DIM, 1);
    let rows: Vec<f32> = filled.live.iter().take(64).flat_map(|(_, row)| row.clone()).collect();
    let of_one = |effort: Option<EffortStats>| effort.map(|effort| effort.looked[3]);
    let (before, now) = (effort(&filled.store), filled.store.tune(&rows).expect("measured"));
    let (Some(before), Some(now)) = (of_one(before), of_one(now)) else { return assert!(!is_fast()) };
    assert_eq!((before.k, now.recall), (1, 0.99));
    assert!(now.rows * 10 < before.rows, "{now:?} {before:?}");
}

#[test]
fn it_stays_until_there_are_other_queries() {
    let (mut filled, queries) = filled(Metric::L2, DIM, 1);
    if !is_fast() {
        return;
    }
    let tune = |store: &VectorStore, n: usize| store.tune(&queries[..n].concat()).expect("measured");
    let tuned = without_time(tune(&filled.store, 40));
    filled.store.optimize().expect("nothing to do");
    assert_eq!(without_time(effort(&filled.store)), tuned);
    // The rows become three times as many: other centres are found, and this is of none of them.
    let (rows, looked) = (some_rows(&mut Random(93), DIM, 8000), looked_at(&filled, &queries[0]));
    rows.chunks(500).for_each(|rows| filled.put(rows));
    filled.store.optimize().expect("built");
    assert_eq!(without_time(effort(&filled.store)), tuned);
    assert!(looked_at(&filled, &queries[0]) > looked * 2, "more is looked at");
    // Another opening has it, too.
    filled.store.flush().expect("flushed");
    let image = filled.disk.image();
    let reopened = writer(&image);
    assert_eq!(without_time(effort(&reopened)), tuned);
    // Others take its place, with one file as before.
    let other = without_time(tune(&reopened, 50));
    assert_eq!(other.as_ref().map(|effort| (effort.rows, effort.queries)), Some((12_000, Some(50))));
    let of_effort = |store: &VectorStore| {
        let stats = store.stats().expect("counted");
        stats.side.iter().find(|side| side.kind == "effort").map(|side| side.files)
    };
    assert_eq!((without_time(effort(&reopened)), of_effort(&reopened)), (other, Some(1)));
    // Without the file it is measured with rows again.
    let mut without = image.clone();
    without.files.retain(|path, _| !path.to_string_lossy().ends_with(".effort.side"));
    assert_ne!(without.files.len(), image.files.len());
    let store = writer(&without);
    store.optimize().expect("measured");
    assert_eq!(effort(&store).map(|effort| (effort.rows, effort.queries)), Some((12_000, None)));
}

fn looked_at(filled: &Filled, query: &[f32]) -> u64 {
    let options = crate::SearchOptions::new().recall_target(0.9);
    let snapshot = filled.store.snapshot().expect("open");
    snapshot.search_with(query, 10, &options).expect("found").explain().codes_scanned
}

#[test]
fn what_cannot_be_measured_with_is_refused_and_changes_nothing() {
    let (filled, queries) = filled(Metric::Cosine, DIM, 1);
    filled.store.flush().expect("flushed");
    let (before, few) = (filled.disk.image(), queries[..31].concat());
    let mut nan = queries.concat();
    nan[35 * DIM + 7] = f32::NAN;
    for (given, expected) in [
        (&queries.concat()[1..], "dimension 48"),
        (&nan[..], "row 35"),
        (&few[..], "31 queries say"),
        (&few[..DIM], "1 query says"),
        (&[], "0 queries say"),
    ] {
        let error = filled.store.tune(given).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
    }
    assert!(matches!(filled.store.tune(&few), Err(Error::TooFewQueries { found: 31, least: 32 })));
    assert!(filled.disk.image().files == before.files, "nothing was written");
    let door: Arc<dyn Disk> = Arc::new(filled.disk.clone());
    let reader = VectorStore::open_read_only_on(door, Path::new(DIR)).expect("opens");
    assert!(matches!(reader.tune(&queries.concat()), Err(Error::ReadOnly)));
    let broken = filled.store.tune_with(&queries.concat(), |_| ControlFlow::Break(()));
    assert!(matches!(broken, Err(Error::Cancelled)), "{broken:?}");
    assert!(filled.disk.image().files.contains_key(&effort_file()) == is_fast());
}

/// Zero queries of cosine have no direction, and no code: they count for nothing. Nor do searches over a few rows.
#[test]
fn what_has_no_code_is_searched_for_exactly() {
    let (filled, _) = filled(Metric::Cosine, DIM, 1);
    let tuned = filled.store.tune(&vec![0.0; 40 * DIM]).expect("measured");
    if is_fast() {
        assert_eq!(tuned.map(|effort| of_ten(&effort)), Some(4000), "all of them");
    }
    let mut few = create(Metric::L2, DIM, 1);
    few.put(&some_rows(&mut Random(94), DIM, 50));
    assert_eq!(few.store.tune(&vec![0.5; 40 * DIM]).expect("nothing to measure"), None);
}
