//! Approximate searches: what they find of the nearest rows, and that all they give back is right.

use super::{Ask, Filled, create, found, rows};
use crate::query::distance::to_public;
use crate::segment::codes::effort::NEIGHBOURS;
use crate::segment::side;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::kernel;
use crate::tests::model::{DIR, Random, options};
use crate::{Hits, Metric, SearchOptions, SearchPath, VectorStore, WhyExact, reference_distance};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS: usize = 4000;
const QUERIES: usize = 60;

/// What is found of so few queries may be less by that than what is found on average.
pub(super) fn chance(k: usize) -> f64 {
    if k == 1 { 0.15 } else { 0.04 }
}

pub(super) fn effort_file() -> PathBuf {
    Path::new(DIR).join("00000001.effort.side")
}

/// Rows that differ in few directions, so that codes have two parts; or in all.
pub(super) fn some_rows(random: &mut Random, dim: usize, n: usize) -> Vec<Vec<f32>> {
    let isotropic = |random: &mut Random, n| rows(random, "isotropic", n, &[vec![0.0; dim]]);
    if dim < 100 {
        return isotropic(random, n);
    }
    let directions = isotropic(random, 24);
    let row = |mut x: Vec<f32>| {
        x.iter_mut().for_each(|x| *x *= 0.2);
        for direction in &directions {
            let along = random.below(2001) as f32 / 1000.0 - 1.0;
            x.iter_mut().zip(direction).for_each(|(x, d)| *x += along * d);
        }
        x
    };
    isotropic(&mut Random(7), n).into_iter().map(row).collect()
}

/// A store with codes, and queries like its rows.
pub(super) fn filled(metric: Metric, dim: usize, threads: usize) -> (Filled, Vec<Vec<f32>>) {
    let mut random = Random(81 + dim as u64);
    let mut all = some_rows(&mut random, dim, ROWS + QUERIES);
    let queries = all.split_off(ROWS);
    let mut filled = create(metric, dim, threads);
    all.chunks(500).for_each(|rows| filled.put(rows));
    filled.store.optimize().expect("built");
    (filled, queries)
}

pub(super) fn is_fast() -> bool {
    kernel::kernels().has_fast_codes()
}

/// All rows that are asked for, the nearest first, each with its distance.
pub(super) type Order = Vec<(u64, u32)>;

pub(super) fn orders(filled: &Filled, queries: &[Vec<f32>], ask: &Ask) -> Vec<Order> {
    queries.iter().map(|query| filled.expected(query, usize::MAX, ask)).collect()
}

/// How many of the k nearest are there. Checks that everything found is a row that was asked for, with its distance, each
/// once, the nearest first.
fn share(all: &Order, hits: &Hits, k: usize) -> f64 {
    let hits = found(hits);
    assert_eq!(hits.len(), k.min(all.len()), "always as many as there are");
    let place = |hit: &(u64, u32)| all.iter().position(|row| row == hit).expect("a row, and its distance");
    let places: Vec<usize> = hits.iter().map(place).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let nearest = places.iter().filter(|&&place| place < k).count();
    nearest as f64 / hits.len().max(1) as f64
}

/// The mean share of the `k` nearest that is found, one query a call and all in one; and how many rows are looked at.
pub(super) fn recall(
    filled: &Filled,
    (queries, orders): (&[Vec<f32>], &[Order]),
    k: usize,
    ask: &Ask,
    target: f32,
) -> (f64, u64) {
    let (snapshot, options) = (filled.store.snapshot().expect("open"), filled.options(ask));
    let options = options.recall_target(target);
    let many = snapshot.search_many(&queries.concat(), k, &options).expect("found");
    let (mut shares, mut read) = (0.0, 0);
    for ((query, order), many) in queries.iter().zip(orders).zip(&many) {
        let one = snapshot.search_with(query, k, &options).expect("found");
        assert_eq!(found(&one), found(many), "the same answer, asked alone or with others");
        assert_eq!(one.is_exact(), one.explain().path != SearchPath::Approximate);
        shares += share(order, &one, k);
        read += one.explain().codes_scanned;
    }
    (shares / queries.len() as f64, read / queries.len() as u64)
}

#[test]
fn an_approximate_search_finds_the_share_that_is_asked_for() {
    for (n, metric) in Metric::ALL.into_iter().enumerate() {
        for dim in [48, 200] {
            let (filled, queries) = filled(metric, dim, [1, 3][n % 2]);
            let orders = orders(&filled, &queries, &Ask::All);
            let mut looked = Vec::new();
            for target in [0.5, 0.9, 0.95, 0.99] {
                for k in [1, 7, 10] {
                    let (recall, read) = recall(&filled, (&queries, &orders), k, &Ask::All, target);
                    assert!(
                        recall >= f64::from(target) - chance(k),
                        "{metric:?} {dim}: {recall} of {target} for {k}"
                    );
                    looked.push((k, read));
                }
            }
            if is_fast() {
                let of_ten: Vec<u64> =
                    looked.iter().filter(|(k, _)| *k == 10).map(|(_, read)| *read).collect();
                assert!(
                    of_ten.is_sorted() && of_ten[0] < of_ten[3],
                    "more is looked at for more: {of_ten:?}"
                );
                let hits = filled.store.snapshot().expect("open");
                let hits = hits.search_with(&queries[0], 10, &SearchOptions::new().recall_target(0.9));
                let hits = hits.expect("found");
                assert_eq!(hits.explain().path, SearchPath::Approximate);
                assert!(!hits.is_exact(), "it does not say what it does not know");
            }
        }
    }
}

/// What was put is found by the next search, what was deleted is not, whatever has a code.
#[test]
fn fresh_rows_are_found_and_deleted_ones_are_not() {
    let (mut filled, queries) = filled(Metric::L2, 48, 1);
    let options = SearchOptions::new().recall_target(0.9);
    let nearest = |filled: &Filled, query: &[f32]| {
        let hits = filled.store.snapshot().expect("open").search_with(query, 10, &options).expect("found");
        share(&filled.expected(query, usize::MAX, &Ask::All), &hits, 10);
        found(&hits)[0]
    };
    for (n, query) in queries.iter().enumerate().take(12) {
        filled.put(std::slice::from_ref(query));
        let id = filled.next - 1;
        if n % 2 == 0 {
            filled.store.flush().expect("flushed");
        }
        assert_eq!(nearest(&filled, query), (id, 0.0f32.to_bits()));
        filled.delete(&[id]);
        assert_ne!(nearest(&filled, query).0, id);
    }
    // Half of the rows, and then half of these anew.
    let dead: Vec<u64> = (0..ROWS as u64).step_by(2).collect();
    filled.delete(&dead);
    let of_all = |filled: &Filled| {
        let orders = orders(filled, &queries, &Ask::All);
        recall(filled, (&queries, &orders), 10, &Ask::All, 0.95).0
    };
    assert!(of_all(&filled) >= 0.95 - chance(10));
    let again: Vec<Vec<f32>> = some_rows(&mut Random(82), 48, ROWS / 4);
    filled.put_as(&dead[..ROWS / 4], &again);
    filled.store.flush().expect("flushed");
    assert!(of_all(&filled) >= 0.95 - chance(10));
}

#[test]
fn filters_find_as_many_as_there_are() {
    let (filled, queries) = filled(Metric::Cosine, 200, 1);
    for ask in [Ask::Document, Ask::Ids(2), Ask::Ids(10), Ask::Ids(100), Ask::Ids(3001), Ask::Radius(0.5)] {
        let orders = orders(&filled, &queries, &ask);
        for k in [1, 10, 100] {
            let (recall, _) = recall(&filled, (&queries, &orders), k, &ask, 0.95);
            assert!(recall >= 0.95 - chance(k), "{ask:?}, {k}: {recall}");
        }
    }
}

/// What was measured holds for rows of another length: a model may be replaced by one that has longer vectors.
#[test]
fn effort_does_not_depend_on_how_long_vectors_are() {
    for metric in [Metric::L2, Metric::Ip] {
        let measured = [1.0, 64.0].map(|length| {
            let mut filled = create(metric, 48, 1);
            let mut some = some_rows(&mut Random(85), 48, ROWS);
            some.iter_mut().flatten().for_each(|x| *x *= length);
            filled.put(&some);
            filled.store.optimize().expect("measured");
            let snapshot = filled.store.snapshot().expect("open");
            side::measured(snapshot.files()).map(|effort| effort.spent[1][1])
        });
        let [Some(short), Some(long)] = measured else {
            assert!(!is_fast(), "it is measured where codes serve");
            continue;
        };
        // Codes are of a rotation that each store draws; and for ip centres are of other lengths, too.
        let expected = if metric == Metric::Ip { 64.0 * 64.0 } else { 1.0 };
        assert!((0.3..3.0).contains(&(long / short / expected)), "{metric}: {short}, {long}");
    }
}

#[test]
fn what_is_not_measured_is_exact() {
    let (filled, queries) = filled(Metric::L2, 48, 1);
    let path = |filled: &Filled, k, target| {
        let options = SearchOptions::new().recall_target(target);
        let snapshot = filled.store.snapshot().expect("open");
        let hits = snapshot.search_with(&queries[0], k, &options).expect("found");
        assert_eq!(hits.is_exact(), hits.explain().path != SearchPath::Approximate);
        assert_eq!(hits.explain().why_exact.is_some(), hits.is_exact() && target < 1.0);
        (hits.explain().path, hits.explain().why_exact)
    };
    let exact =
        |(path, why): (SearchPath, Option<WhyExact>)| (path != SearchPath::Approximate).then_some(why);
    if is_fast() {
        assert_eq!(path(&filled, 10, 0.99).0, SearchPath::Approximate);
        let of = |k, target| exact(path(&filled, k, target));
        assert_eq!(of(10, 0.991), Some(Some(WhyExact::Recall)), "above what is measured");
        assert_eq!(of(ROWS / 2, 0.9), Some(Some(WhyExact::NoCodes)), "for half of the rows");
        assert_eq!(of(10, 1.0), Some(None), "as it was to be");
        let within = SearchOptions::new().recall_target(0.9).radius(f32::MAX);
        let snapshot = filled.store.snapshot().expect("open");
        let hits = snapshot.search_with(&queries[0], 10, &within).expect("found");
        assert!(hits.is_exact() && hits.len() == 10, "a radius is a bar before there are ten rows");
        assert_eq!(hits.explain().why_exact, Some(WhyExact::Radius));
        assert!(NEIGHBOURS.contains(&100) && path(&filled, 101, 0.9).0 == SearchPath::Approximate);
    }
    let mut plain = create(Metric::L2, 48, 1);
    plain.put(&some_rows(&mut Random(83), 48, 200));
    let scan = (SearchPath::Scan, Some(WhyExact::NoCodes));
    assert_eq!(path(&plain, 10, 0.9), scan, "without codes");
}

pub(super) fn writer(image: &Image) -> VectorStore {
    VectorStore::open_on(Arc::new(SimDisk::new(image)), Path::new(DIR), &options()).expect("opens")
}

/// A damaged file is as good as none: the search is exact, and the next `optimize` measures again.
#[test]
fn damaged_effort_is_measured_again() {
    let (filled, queries) = filled(Metric::L2, 48, 1);
    filled.store.flush().expect("flushed");
    let image = filled.disk.image();
    let len = image.files.get(&effort_file()).map_or(0, Vec::len);
    assert_eq!(len > 0, is_fast(), "it is measured where codes serve");
    let approximate = SearchOptions::new().recall_target(0.9);
    for at in 0..len {
        let mut image = image.clone();
        image.files.get_mut(&effort_file()).expect("there")[at] ^= 1 << (at % 8);
        let store = writer(&image);
        let search =
            || store.snapshot().expect("open").search_with(&queries[0], 10, &approximate).expect("found");
        let hits = search();
        // Behind the checksum of the head there are zeros.
        let is_used = hits.explain().path == SearchPath::Approximate;
        assert!(!is_used || at >= len - 63, "byte {at}: {}", hits.explain());
        if !is_used {
            assert_eq!(found(&hits), filled.expected(&queries[0], 10, &Ask::All), "byte {at}");
            assert_eq!(hits.explain().why_exact, Some(WhyExact::NotMeasured));
            if at % 64 == 0 {
                store.optimize().expect("measured");
                assert_eq!(search().explain().path, SearchPath::Approximate, "byte {at}");
            }
        }
    }
}

/// A forged one, with the right checksum, makes a search look at more or less, and no answer wrong.
#[test]
fn forged_effort_makes_no_answer_wrong() {
    let (filled, queries) = filled(Metric::Ip, 48, 1);
    filled.store.flush().expect("flushed");
    let image = filled.disk.image();
    let Some(bytes) = image.files.get(&effort_file()).cloned() else { return };
    let approximate = SearchOptions::new().recall_target(0.9);
    // The fixed part, three ids, the rows, the queries, what is spent, how many are looked at.
    let (rows, queries_of, spent, looked) = (64, 72, 80 + 4 * 8, 80 + 16 * 8);
    let (none, most, endless) = (0, f64::MAX.to_bits(), f64::INFINITY.to_bits());
    let forged = [(rows, 1), (rows, u64::MAX), (queries_of, u64::MAX), (looked, 0), (looked, u64::MAX)];
    let of_spent = [none, most, endless].map(|number| (spent, number));
    let impossible = [(rows, 0), (spent, f64::NAN.to_bits()), (spent, (-1f64).to_bits())];
    for (at, number) in forged.into_iter().chain(of_spent).chain(impossible) {
        let is_possible = !impossible.contains(&(at, number));
        let (mut image, mut bytes) = (image.clone(), bytes.clone());
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let end = 16 + 48 + 16 + 2 * 96;
        let crc = crate::format::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        image.files.insert(effort_file(), bytes);
        let store = writer(&image);
        for query in &queries[..5] {
            let hits = store.snapshot().expect("open").search_with(query, 10, &approximate).expect("found");
            assert_eq!(hits.len(), 10);
            assert_eq!(hits.explain().path == SearchPath::Approximate, is_possible, "{at} {number}");
            for hit in &hits {
                let id: u64 = hit.id.to_string().parse().expect("a number");
                let row = &filled.live.iter().find(|(live, _)| *live == id).expect("live").1;
                let distance = to_public(Metric::Ip, reference_distance(Metric::Ip, query, row));
                assert_eq!(hit.distance.to_bits(), distance.to_bits());
            }
        }
        assert!(store.verify().expect("read").is_ok() || !is_possible, "{at} {number}");
    }
}
