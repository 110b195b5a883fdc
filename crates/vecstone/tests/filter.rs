//! Filters, radius and several queries at once, beside plain loops over everything.
#![allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

mod helpers;

use helpers::{Dice, deadline, files, number, temp};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vecstone::{
    Document, Durability, Error, Filter, Hits, Id, MAX_BATCH_RECORDS, Metric, OpenOptions, SearchOptions,
    SearchPath, Snapshot, VectorStore, WriteBatch, reference_distance,
};

const DIM: usize = 5;

fn filter(text: &str) -> Filter {
    Filter::parse(text).expect("a filter")
}

fn document(n: u64) -> String {
    format!(r#"{{"n": {n}, "tag": "{}", "in": {{"n": {}}}}}"#, ["a", "b", "c"][n as usize % 3], n % 7)
}

/// What a store should hold, by the age of the last write of each id: id, vector, number in the document.
#[derive(Default)]
struct Model {
    rows: BTreeMap<u64, (u64, Vec<f32>, Option<u64>)>,
    ages: BTreeMap<u64, u64>,
    age: u64,
}

impl Model {
    fn put(&mut self, id: u64, vector: Vec<f32>, document: Option<u64>) {
        // What is not given is kept.
        let before = self.ages.get(&id).and_then(|age| self.rows[age].2);
        let document = document.or(before);
        self.delete(id);
        self.age += 1;
        self.ages.insert(id, self.age);
        self.rows.insert(self.age, (id, vector, document));
    }

    fn delete(&mut self, id: u64) -> bool {
        self.ages.remove(&id).is_some_and(|age| self.rows.remove(&age).is_some())
    }

    /// Ids and distances to a query, nearest first, of the rows that match.
    fn nearest(
        &self,
        metric: Metric,
        query: &[f32],
        matches: impl Fn(u64, Option<u64>) -> bool,
    ) -> Vec<(u64, f64)> {
        let rows = self.rows.values().filter(|(id, _, document)| matches(*id, *document));
        let mut rows: Vec<_> =
            rows.map(|(id, row, _)| (*id, reference_distance(metric, query, row))).collect();
        // Stable: the older first.
        rows.sort_by(|a, b| a.1.total_cmp(&b.1));
        rows
    }
}

fn vector(dice: &mut Dice) -> Vec<f32> {
    // Few values, so that distances are often equal.
    (0..DIM).map(|_| dice.below(3) as f32 - 1.0).collect()
}

fn ids(hits: &Hits) -> Vec<u64> {
    hits.iter().map(|hit| number(&hit.id)).collect()
}

fn write_some(store: &VectorStore, model: &mut Model, dice: &mut Dice) {
    for _ in 0..dice.below(40) {
        let id = dice.below(120);
        if dice.one_in(4) {
            assert_eq!(store.delete(id).expect("deleted"), model.delete(id));
            continue;
        }
        let (vector, document) = (vector(dice), (!dice.one_in(3)).then(|| dice.below(1000)));
        match document {
            Some(n) => store.put_with_document(id, &vector, &self::document(n)).expect("stored"),
            None => store.put(id, &vector).expect("stored"),
        }
        model.put(id, vector, document);
    }
    match dice.below(6) {
        0 => store.flush().expect("flushed"),
        1 => _ = store.compact().expect("compacted"),
        _ => {}
    }
}

type Matches = Box<dyn Fn(u64, Option<u64>) -> bool>;

/// Filters and what they are to match.
fn filters(dice: &mut Dice) -> Vec<(Filter, Matches)> {
    let (n, some) = (dice.below(1000), (0..dice.below(150)).map(|_| dice.below(200)).collect::<Vec<u64>>());
    let named = Filter::ids(some.iter().map(|&id| Id::from(id)));
    let both = named.clone().and(filter(r#"{"in.n": {"$lt": 4}}"#));
    let others = some.clone();
    vec![
        (filter("{}"), Box::new(|_, _| true)),
        (filter(r#"{"tag": "b"}"#), Box::new(|_, n| n.is_some_and(|n| n % 3 == 1))),
        (filter(&format!(r#"{{"n": {{"$lt": {n}}}}}"#)), Box::new(move |_, m| m.is_some_and(|m| m < n))),
        (
            filter(r#"{"in.n": {"$nin": [1, 2]}}"#),
            Box::new(|_, n| !n.is_some_and(|n| [1, 2].contains(&(n % 7)))),
        ),
        (filter(r#"{"n": -1}"#), Box::new(|_, _| false)),
        (named, Box::new(move |id, _| some.contains(&id))),
        (both, Box::new(move |id, n| others.contains(&id) && n.is_some_and(|n| n % 7 < 4))),
        (Filter::ids([Id::from("no number")]), Box::new(|_, _| false)),
    ]
}

fn check(snapshot: &Snapshot, model: &Model, dice: &mut Dice) {
    let metric = snapshot.metric();
    for (filter, matches) in filters(dice) {
        let (query, k) = (vector(dice), dice.below(30) as usize + 1);
        let expected = model.nearest(metric, &query, &matches);
        let options = SearchOptions::new().filter(filter.clone());
        let found = snapshot.search_with(&query, k, &options).expect("found");
        let nearest: Vec<u64> = expected.iter().take(k).map(|(id, _)| *id).collect();
        assert_eq!(ids(&found), nearest, "{filter:?}");
        assert_eq!((found.is_exact(), found.rows_read()), (true, expected.len() as u64));
        let in_order = model.rows.values().filter(|(id, _, n)| matches(*id, *n)).map(|(id, ..)| *id);
        let there: Vec<u64> = snapshot.ids_where(&filter).expect("found").iter().map(number).collect();
        assert!(in_order.eq(there), "{filter:?}");
        // What a hit's distance says is what the radius compares.
        if let Some(edge) = found.as_slice().last() {
            let options = options.radius(edge.distance);
            let near = snapshot.search_with(&query, usize::MAX, &options).expect("found");
            let inside = found.rows_read() as usize;
            assert!(near.iter().all(|hit| hit.distance <= edge.distance) && near.len() <= inside);
            assert_eq!(near.as_slice()[..found.len()], found.as_slice()[..]);
            let expected = expected.iter().filter(|(_, distance)| *distance as f32 <= edge.distance);
            assert!(expected.map(|(id, _)| *id).eq(ids(&near)));
        }
    }
}

#[test]
fn full_k_with_dead_and_buffered_rows_in_many_segments() {
    for (seed, metric) in (0..).zip([Metric::L2, Metric::Ip, Metric::Cosine, Metric::L2]) {
        let (_dir, path) = temp();
        let mut dice = Dice(seed);
        let options = OpenOptions::new().segment_records(60).without_background().threads(seed as usize);
        let store = options.create(&path, DIM as u32, metric).expect("a new store");
        let mut model = Model::default();
        for _ in 0..25 {
            write_some(&store, &mut model, &mut dice);
            check(&store.snapshot().expect("readable"), &model, &mut dice);
            let n = dice.below(1000);
            if dice.one_in(5) {
                let filter = filter(&format!(r#"{{"n": {{"$gte": {n}, "$lt": {}}}}}"#, n + 200));
                let gone: Vec<u64> = model
                    .rows
                    .values()
                    .filter_map(|(id, _, m)| m.is_some_and(|m| (n..n + 200).contains(&m)).then_some(*id))
                    .collect();
                assert_eq!(store.delete_where(&filter).expect("deleted"), gone.len());
                assert!(gone.into_iter().all(|id| model.delete(id)));
                check(&store.snapshot().expect("readable"), &model, &mut dice);
            }
        }
        store.close().expect("closed");
        let reader = OpenOptions::new().threads(2).open_read_only(&path).expect("opens");
        check(&reader.snapshot().expect("readable"), &model, &mut dice);
    }
}

/// More rows than a thread looks at in a turn, and documents of very different sizes.
#[test]
fn many_rows_and_long_documents() {
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(25_000).threads(4);
    let store = options.create(&path, 1, Metric::L2).expect("a new store");
    let long = "x".repeat(700_000);
    let documents: Vec<Option<String>> = (0..30_000u64)
        .map(|n| match n % 5_000 {
            17 => Some(format!(r#"{{"long": "{long}", "n": {n}}}"#)),
            18 | 19 => None,
            _ => Some(document(n)),
        })
        .collect();
    let vectors: Vec<f32> = (0..30_000u16).map(f32::from).collect();
    for part in (0..30_000usize).step_by(2_000) {
        let ids: Vec<u64> = (part as u64..part as u64 + 2_000).collect();
        let documents: Vec<_> =
            documents[part..part + 2_000].iter().map(|text| Document::given(text.as_deref())).collect();
        store
            .write(WriteBatch::new().put_many_with_documents(&ids, &vectors[part..part + 2_000], &documents))
            .expect("stored");
    }
    for round in 0..2 {
        let ids = |text: &str| {
            store
                .snapshot()
                .and_then(|snapshot| snapshot.ids_where(&filter(text)))
                .expect("found")
                .iter()
                .map(number)
                .collect::<Vec<_>>()
        };
        assert!(ids(r#"{"long": {"$exists": true}}"#).into_iter().eq((17..30_000).step_by(5_000)));
        assert!(
            ids(r#"{"n": {"$exists": false}}"#)
                .into_iter()
                .eq((0..6).flat_map(|n| [n * 5_000 + 18, n * 5_000 + 19]))
        );
        let found = store
            .snapshot()
            .and_then(|snapshot| {
                snapshot.search_with(
                    &[0.0],
                    50,
                    &SearchOptions::new().filter(filter(r#"{"n": {"$gt": 29000}}"#)),
                )
            })
            .expect("found");
        assert!(self::ids(&found).into_iter().eq(29_001..29_051));
        assert_eq!(found.rows_read(), 999);
        if round == 0 {
            store.flush().expect("flushed");
        }
    }
}

#[test]
fn several_queries_are_as_many_searches() {
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        let (_dir, path) = temp();
        let dim = 67;
        let options = OpenOptions::new().segment_records(700).threads(3);
        let store = options.create(&path, dim as u32, metric).expect("a new store");
        let mut dice = Dice(5);
        let mut random =
            |n: usize| (0..n * dim).map(|_| dice.below(2000) as f32 / 99.0 - 10.0).collect::<Vec<f32>>();
        for n in 0..3u64 {
            let ids: Vec<u64> = (n * 400..n * 400 + 800).collect();
            let documents: Vec<String> = ids.iter().map(|&id| document(id)).collect();
            let documents: Vec<_> = documents.iter().map(|text| Document::Json(text.as_str())).collect();
            store
                .write(WriteBatch::new().put_many_with_documents(&ids, &random(800), &documents))
                .expect("stored");
        }
        let queries = random(40);
        for options in [
            SearchOptions::new(),
            SearchOptions::new().with_vectors().with_documents().filter(filter(r#"{"tag": "a"}"#)),
            SearchOptions::new().radius(if metric == Metric::L2 { 4000.0 } else { 0.9 }),
        ] {
            for k in [0, 1, 7, 5000] {
                let many = store
                    .snapshot()
                    .and_then(|snapshot| snapshot.search_many(&queries, k, &options))
                    .expect("found");
                let single: Vec<Hits> = queries
                    .chunks_exact(dim)
                    .map(|query| {
                        store
                            .snapshot()
                            .and_then(|snapshot| snapshot.search_with(query, k, &options))
                            .expect("found")
                    })
                    .collect();
                assert_eq!(many, single);
                let bits = |hits: &[Hits]| -> Vec<u32> {
                    hits.iter().flatten().map(|hit| hit.distance.to_bits()).collect()
                };
                assert_eq!(bits(&many), bits(&single));
            }
        }
        assert_eq!(
            store
                .snapshot()
                .and_then(|snapshot| snapshot.search_many(&[], 3, &SearchOptions::new()))
                .expect("nothing asked"),
            []
        );
        let error = store
            .snapshot()
            .and_then(|snapshot| snapshot.search_many(&queries[1..], 3, &SearchOptions::new()))
            .expect_err("cut");
        assert!(matches!(error, Error::DimensionMismatch { expected: 67, found: 66, .. }), "{error}");
        let mut bad = queries.clone();
        bad[3 * dim + 5] = f32::NAN;
        let error = store
            .snapshot()
            .and_then(|snapshot| snapshot.search_many(&bad, 3, &SearchOptions::new()))
            .expect_err("NaN");
        assert!(matches!(error, Error::NonFinite { row: 3, component: 5, .. }), "{error}");
    }
}

#[test]
fn a_search_says_how_it_came_to_its_answer() {
    let (_dir, path) = temp();
    let store = OpenOptions::new().segment_records(8).create(&path, 2, Metric::L2).expect("a new store");
    let vectors: Vec<f32> = (0..40).map(|n| n as f32).collect();
    store.put_many(&(0u64..20).collect::<Vec<_>>(), &vectors).and_then(|()| store.flush()).expect("stored");
    store.delete_many(&[0u64, 1]).expect("deleted");
    store.put(99u64, &[1.0, 1.0]).expect("stored");
    let snapshot = store.snapshot().expect("taken");
    let few = SearchOptions::new().filter(Filter::ids([Id::from(3), Id::from(99), Id::from(1)]));
    for (options, rows) in [(SearchOptions::new(), 19), (few, 2)] {
        let hits = snapshot.search_with(&[0.0, 0.0], 2, &options).expect("found");
        let explain = hits.explain();
        assert_eq!((explain.path, explain.queries), (SearchPath::Scan, 1));
        assert_eq!((explain.rows_scanned, hits.rows_read()), (rows, rows));
        assert!((2..=rows).contains(&explain.rows_refined), "{explain:?}");
        assert_eq!(
            (explain.codes_scanned, explain.partitions_visited, explain.partitions_skipped),
            (0, 0, 0)
        );
        assert!(explain.to_string().contains(&format!("{rows} read")), "{explain}");
        let many = snapshot.search_many(&[0.0, 0.0, 50.0, 50.0], 2, &options).expect("found");
        assert_eq!(many[0], hits, "the same answer, however it was found");
        let shared = |hits: &Hits| (hits.explain().queries, hits.explain().scan, hits.explain().fetch);
        assert_eq!(shared(&many[0]), shared(&many[1]));
        assert_eq!(many[1].explain().queries, 2);
        assert_eq!(many[1].explain().rows_scanned, rows);
    }
    let nothing = snapshot.search(&[0.0, 0.0], 0).expect("nothing asked");
    assert_eq!((nothing.explain().queries, nothing.is_exact()), (0, true));
}

/// Without codes every search is exact and says so.
#[test]
fn a_search_is_exact_unless_it_is_told_otherwise() {
    let (_dir, path) = temp();
    for bad in [0.0, 1.5, f32::NAN] {
        let options = OpenOptions::new().recall_target(bad);
        for refused in
            [options.create(&path, 1, Metric::L2), options.open(&path), options.open_read_only(&path)]
        {
            assert!(matches!(refused, Err(Error::InvalidRecallTarget { .. })), "{bad}: {refused:?}");
        }
        assert!(!path.exists(), "something was made");
    }
    let options = OpenOptions::new().recall_target(0.9).auto_optimize_rows(7);
    let store = options.create(&path, 1, Metric::L2).expect("a new store");
    store.put_many(&[0u64, 1, 2], &[0.0, 1.0, 2.0]).and_then(|()| store.flush()).expect("stored");
    let reader = options.open_read_only(&path).expect("opens");
    for snapshot in [store.snapshot(), reader.snapshot()].map(|snapshot| snapshot.expect("taken")) {
        let new = SearchOptions::new;
        for options in [new(), new().exact(true), new().exact(false), new().recall_target(0.5)] {
            let hits = snapshot.search_with(&[0.0], 2, &options).expect("found");
            assert!(hits.is_exact() && hits.len() == 2);
        }
        for (k, options) in [(0, new().recall_target(2.0)), (3, new().recall_target(f32::NAN))] {
            let refused = snapshot.search_with(&[0.0], k, &options);
            assert!(matches!(refused, Err(Error::InvalidRecallTarget { .. })), "{refused:?}");
        }
        let refused = snapshot.search_many(&[0.0], 3, &new().exact(true).recall_target(0.5));
        assert!(matches!(refused, Err(Error::ExactWithRecallTarget { .. })), "{refused:?}");
    }
    let refused = OpenOptions::new().auto_optimize_rows(8).open_read_only(&path);
    assert!(matches!(refused, Err(Error::OptionMismatch { expected: 7, found: 8, .. })), "{refused:?}");
}

#[test]
fn a_radius_is_inclusive_and_a_number() {
    let (_dir, path) = temp();
    let store = VectorStore::create(&path, 1, Metric::Ip).expect("a new store");
    store.put_many(&[0u64, 1, 2, 3], &[0.0, 1.0, 2.0, 0.1]).expect("stored");
    let within = |radius: f32| {
        ids(&store
            .snapshot()
            .and_then(|snapshot| snapshot.search_with(&[1.0], 9, &SearchOptions::new().radius(radius)))
            .expect("found"))
    };
    assert_eq!(within(0.0), [2, 1]);
    assert_eq!(within(0.0f32.next_down()), [2]);
    assert_eq!(within(-1.0), [2]);
    assert_eq!(within(-1.5), [0u64; 0]);
    assert_eq!(within(f32::INFINITY), [2, 1, 3, 0]);
    assert_eq!(within(f32::NEG_INFINITY), [0u64; 0]);
    // As it is given back: 1 - 0.1f32 in f64 is not a float.
    let distance = store.search(&[1.0], 3).expect("found")[2].distance;
    assert_eq!((within(distance), within(distance.next_down())), (vec![2, 1, 3], vec![2, 1]));
    let error = store
        .snapshot()
        .and_then(|snapshot| snapshot.search_with(&[1.0], 9, &SearchOptions::new().radius(f32::NAN)))
        .expect_err("NaN");
    assert!(matches!(error, Error::InvalidRadius), "{error}");
}

fn made(path: &Path) -> VectorStore {
    let store = VectorStore::create(path, 1, Metric::L2).expect("a new store");
    for n in 0..10u8 {
        store.put_with_document(u64::from(n), &[f32::from(n)], &document(n.into())).expect("stored");
    }
    store
}

#[test]
fn deleting_what_a_filter_selects() {
    let (_dir, path) = temp();
    let store = made(&path);
    let left = |store: &VectorStore| -> Vec<u64> {
        store.snapshot().expect("readable").iter().map(|item| number(&item.expect("readable").0)).collect()
    };
    let low = filter(r#"{"n": {"$lt": 3}}"#);
    let before = store.snapshot().expect("readable");
    assert_eq!(store.delete_where_with(&low, Some(Durability::Sync)).expect("deleted"), 3);
    assert_eq!((left(&store), before.len()), ((3..10).collect(), 10));
    store.flush().expect("flushed");
    let written = files(&path);
    assert_eq!(store.delete_where_with(&low, Some(Durability::Sync)).expect("nothing to delete"), 0);
    assert_eq!(store.delete_where(&Filter::ids([Id::from("x"), Id::from(2)])).expect("nothing"), 0);
    assert_eq!(files(&path), written, "deleting nothing writes nothing");
    let some = Filter::ids([3, 4, 5].map(Id::from)).and(filter(r#"{"n": {"$gt": 3}}"#));
    assert_eq!(store.delete_where(&some).expect("deleted"), 2);
    assert_eq!(store.delete_where(&Filter::ids([Id::from(9)])).expect("deleted"), 1);
    store.close().expect("closed");
    let reader = VectorStore::open_read_only(&path).expect("opens");
    assert_eq!(left(&reader), [3, 6, 7, 8]);
    assert!(matches!(reader.delete_where(&low), Err(Error::ReadOnly)));
    drop(reader);
    let store = VectorStore::open(&path).expect("opens");
    assert_eq!(store.delete_where(&filter("{}")).expect("deleted"), 4);
    assert!(store.is_empty().expect("readable"));
    assert_eq!(store.delete_where(&filter("{}")).expect("nothing"), 0);
}

/// More ids than one batch may hold become consecutive ones, and nothing is left.
#[test]
fn a_filter_may_select_more_than_a_batch_holds() {
    let (_dir, path) = temp();
    let options = OpenOptions::new().compact_at(2.0);
    let store = options.create(&path, 1, Metric::L2).expect("a new store");
    let ids: Vec<u64> = (0..MAX_BATCH_RECORDS as u64 + 10).collect();
    for ids in ids.chunks(MAX_BATCH_RECORDS) {
        store.put_many(ids, &vec![1.0; ids.len()]).expect("stored");
    }
    store.put_with_document(5u64, &[1.0], "{}").expect("stored");
    store.put_with_document(6u64, &[1.0], r#"{"kept": true}"#).expect("stored");
    let gone = filter(r#"{"kept": {"$exists": false}}"#);
    assert_eq!(store.delete_where_with(&gone, Some(Durability::Sync)).expect("deleted"), ids.len() - 1);
    assert_eq!(
        store.snapshot().and_then(|snapshot| snapshot.ids_where(&filter("{}"))).expect("readable"),
        [Id::from(6)]
    );
    drop(store);
    let store = options.open(&path).expect("opens");
    assert_eq!(store.len().expect("readable"), 1);
    assert!(store.contains(6u64).expect("readable"));
}

/// An id is deleted only while its document says so: never on account of one that it had before.
#[test]
fn a_row_replaced_meanwhile_is_not_deleted_for_what_it_was() {
    let _deadline = deadline("delete_where beside writers");
    let (_dir, path) = temp();
    let options = OpenOptions::new().segment_records(300).buffer_bytes(64 << 10).compact_at(0.3);
    let store = options.create(&path, 2, Metric::L2).expect("a new store");
    let (ended, deleted) = (AtomicBool::new(false), AtomicU64::new(0));
    let gone = filter(r#"{"keep": false}"#);
    let write = |thread: u64| {
        let mut dice = Dice(thread);
        for round in 0..1500u64 {
            let id = thread * 100 + dice.below(20);
            let document = |keep: bool| format!(r#"{{"keep": {keep}, "round": {round}}}"#);
            store.put_with_document(id, &[1.0, 2.0], &document(false)).expect("stored");
            if dice.one_in(3) {
                std::thread::yield_now();
            }
            if dice.one_in(9) {
                continue;
            }
            let durability = if dice.one_in(40) { Durability::Sync } else { Durability::Buffered };
            let kept = document(true);
            let mut batch = WriteBatch::new();
            batch.put_with_document(id, &[3.0, 4.0], &kept).durability(durability);
            store.write(&batch).expect("stored");
            for _ in 0..dice.below(6) {
                let found = store.get_document(id).expect("readable");
                assert_eq!(found.as_deref(), Some(kept.as_str()), "id {id} was to be kept");
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let count = store.delete_where(&gone).expect("deleted");
                deleted.fetch_add(count as u64, Ordering::SeqCst);
            }
        });
        let writers: Vec<_> = (0..3).map(|thread| scope.spawn(move || write(thread))).collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        ended.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.expect("no writer failed"));
    });
    assert!(deleted.load(Ordering::SeqCst) > 0);
    store.delete_where(&gone).expect("deleted");
    let kept = store
        .snapshot()
        .and_then(|snapshot| snapshot.ids_where(&filter(r#"{"keep": true}"#)))
        .expect("found");
    assert_eq!(kept.len(), store.len().expect("readable"));
    assert!(store.verify().expect("readable").is_ok());
}

#[test]
fn a_damaged_document_is_an_error_and_never_unmatched() {
    let (_dir, path) = temp();
    let store = made(&path);
    store.delete(5u64).expect("deleted");
    store.close().expect("closed");
    let jsonl = path.join("00000001.jsonl");
    let good = std::fs::read(&jsonl).expect("readable");
    let starts: Vec<usize> = std::iter::once(0)
        .chain(good.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1))
        .collect();
    for (row, from) in starts[..10].iter().enumerate() {
        for at in [*from + 7, starts[row + 1] - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&jsonl, &bad).expect("written");
            let store = VectorStore::open_read_only(&path).expect("opens");
            let all = filter(r#"{"n": {"$exists": true}}"#);
            let found = store.snapshot().and_then(|snapshot| {
                snapshot.search_with(&[0.0], 3, &SearchOptions::new().filter(all.clone()))
            });
            match row {
                5 => assert_eq!(found.expect("that row is dead").rows_read(), 9),
                _ => {
                    let error = found.expect_err("damaged");
                    assert!(
                        matches!(&error, Error::Corrupt { path, offset, .. } if *path == jsonl && *offset == *from as u64),
                        "{error}"
                    );
                    assert!(
                        store
                            .snapshot()
                            .and_then(|snapshot| snapshot.ids_where(&all))
                            .expect_err("damaged")
                            .is_corrupt()
                    );
                }
            }
            // Ids need no document.
            let one = Filter::ids([Id::from(1)]);
            assert_eq!(
                store.snapshot().and_then(|snapshot| snapshot.ids_where(&one)).expect("found"),
                [Id::from(1)]
            );
        }
    }
    std::fs::write(&jsonl, &good[..good.len() - 1]).expect("written");
    let opened = VectorStore::open_read_only(&path);
    assert!(
        opened
            .and_then(|store| store
                .snapshot()
                .and_then(|snapshot| snapshot.ids_where(&filter(r#"{"n": 1}"#))))
            .expect_err("cut")
            .is_corrupt()
    );
}

#[test]
fn an_empty_store_has_nothing_to_select() {
    let (_dir, path) = temp();
    let store = VectorStore::create(&path, 1, Metric::L2).expect("a new store");
    let all = filter("{}");
    assert!(store.snapshot().and_then(|snapshot| snapshot.ids_where(&all)).expect("found").is_empty());
    assert_eq!(store.delete_where_with(&all, Some(Durability::Sync)).expect("nothing"), 0);
    let options = SearchOptions::new().filter(all.and(Filter::ids([Id::from(1)])));
    let found =
        store.snapshot().and_then(|snapshot| snapshot.search_with(&[0.0], 3, &options)).expect("found");
    assert_eq!((found.len(), found.is_exact(), found.rows_read()), (0, true, 0));
}
