use super::*;
use crate::buffer;
use crate::query::distance::reference_distance;
use crate::segment::version::Version;
use crate::sys::disk::sim::SimDisk;
use crate::sys::disk::{Dir, Disk};
use crate::sys::kernel::Family;
use crate::tests::model::Random;
use crate::types::element::Element;
use crate::types::schema::Schema;
use std::path::Path;
use std::sync::Arc;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

/// What a search through these rows finds by blocks, one by one, and side by side, in each family of kernels.
fn found(rows: &[Vec<f32>], request: &SearchRequest<'_>) -> Vec<Vec<Vec<Candidate>>> {
    let numbered = numbered(rows);
    let searches = || request.queries.chunks_exact(request.dim).map(|query| Search::new(request, query));
    let sorted = |search: Search<'_>| search.best.into_sorted_vec();
    let mut all = Vec::new();
    for kernels in Family::available() {
        let mut blocks: Vec<_> = searches().collect();
        for tile in numbered.chunks(17) {
            offer_tile(kernels, 3, tile, &mut blocks);
        }
        all.push(blocks.into_iter().map(sorted).collect());
        for len in [1, STREAMS + 1, 2 * STREAMS, rows.len()] {
            let single = |mut search: Search<'_>| {
                numbered.chunks(len).for_each(|tile| search.offer(kernels, 3, tile));
                sorted(search)
            };
            all.push(searches().map(single).collect());
        }
    }
    all
}

fn numbered(rows: &[Vec<f32>]) -> Vec<Row<'_>> {
    (0..).zip(rows.iter().map(Cow::from)).collect()
}

/// The same by `reference_distance` alone.
fn expected(rows: &[Vec<f32>], request: &SearchRequest<'_>) -> Vec<Vec<Candidate>> {
    let nearest = |query: &[f32]| {
        let within = |distance: &f64| {
            request
                .radius
                .is_none_or(|radius| crate::query::distance::to_public(request.metric, *distance) <= radius)
        };
        let distances = rows.iter().map(|row| reference_distance(request.metric, query, row));
        let candidates = (0..).zip(distances).filter(|(_, distance)| within(distance));
        let mut all: Vec<_> =
            candidates.map(|(row, distance)| Candidate { distance, segment: 3, row }).collect();
        all.sort_unstable();
        all.truncate(request.k);
        all
    };
    request.queries.chunks_exact(request.dim).map(nearest).collect()
}

/// As they are ordered and reported: NaN equals NaN here.
fn bits(found: &[Vec<Candidate>]) -> Vec<Vec<(u64, u64)>> {
    let one = |candidate: &Candidate| (candidate.distance.to_bits(), candidate.row);
    found.iter().map(|found| found.iter().map(one).collect()).collect()
}

fn check(rows: &[Vec<f32>], queries: &[Vec<f32>], what: &str) {
    let (dim, flat) = (rows[0].len(), queries.concat());
    for metric in METRICS {
        let request = |k, radius| SearchRequest { metric, dim, queries: &flat, k, radius, recall: 1.0 };
        let third = expected(rows, &request(3, None))[0].last().map_or(0.0, |third| third.distance);
        let radius = Some(crate::query::distance::to_public(metric, third));
        let near = |by: fn(f32) -> f32| radius.map(by);
        let bounds = [None, radius, near(f32::next_up), near(f32::next_down), Some(f32::MAX), Some(-1.0)];
        for request in [1, 10, rows.len()].into_iter().flat_map(|k| bounds.map(|radius| request(k, radius))) {
            let expected = bits(&expected(rows, &request));
            for found in found(rows, &request) {
                assert_eq!(
                    bits(&found),
                    expected,
                    "{what}, {metric:?}, k {}, {:?}",
                    request.k,
                    request.radius
                );
            }
        }
    }
}

fn random_rows(random: &mut Random, n: usize, dim: usize, scale: f32, shift: f32) -> Vec<Vec<f32>> {
    let mut one = || (random.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0) * scale + shift;
    (0..n).map(|_| (0..dim).map(|_| one()).collect()).collect()
}

#[test]
fn what_is_found_is_what_the_reference_says() {
    let mut random = Random(21);
    for dim in [1, 2, 3, 8, 17, 64, 100] {
        for (scale, shift) in
            [(1.0, 0.0), (1e-7, 1.0), (1e-3, 3.0), (1e19, 0.0), (1e-25, 0.0), (1e-42, 0.0), (3e38, 0.0)]
        {
            let rows = random_rows(&mut random, 90, dim, scale, shift);
            let queries = random_rows(&mut random, 6, dim, scale, shift);
            check(&rows, &queries, &format!("{dim} components, scale {scale:e}, shift {shift}"));
            check(&rows, &rows[..5], "queries that are rows");
        }
    }
}

#[test]
fn rows_that_are_alike_are_found_by_age() {
    let mut random = Random(22);
    for dim in [1, 5, 32] {
        let few = random_rows(&mut random, 4, dim, 1.0, 0.0);
        let rows: Vec<_> = (0..60).map(|_| few[random.below(4)].clone()).collect();
        check(&rows, &few, "copies");
        check(&vec![vec![0.0; dim]; 30], &few, "zeros");
        check(&few, &[vec![0.0; dim]], "a zero query");
    }
}

#[test]
fn rows_of_every_kind_beside_each_other() {
    let mut random = Random(23);
    let mut rows = random_rows(&mut random, 80, 12, 1.0, 0.0);
    rows[7] = vec![0.0; 12];
    rows[11] = vec![1e30; 12];
    rows[12] = vec![-f32::MAX; 12];
    rows[13] = vec![f32::from_bits(1); 12];
    rows[40] = rows[41].iter().map(|x| x * 1e-30).collect();
    let queries = [rows[3].clone(), rows[11].clone(), rows[13].clone(), vec![f32::MAX; 12]];
    check(&rows, &queries, "kinds");
    // Only a damaged row has such numbers. It is found last.
    (rows[5][2], rows[6][0], rows[50][3]) = (f32::NAN, f32::INFINITY, f32::NAN);
    check(&rows, &queries, "damage");
}

/// Rows are refined until the heap is full, then those that their bound does not exclude.
#[test]
fn refined_rows_are_counted() {
    let rows: Vec<Vec<f32>> = (0..100u8).map(|n| vec![f32::from(n), 0.0]).collect();
    let request =
        SearchRequest { metric: Metric::L2, dim: 2, queries: &[0.0; 2], k: 5, radius: None, recall: 1.0 };
    for kernels in Family::available() {
        let mut search = Search::new(&request, request.queries);
        numbered(&rows).chunks(1).for_each(|tile| search.offer(kernels, 0, tile));
        assert_eq!(search.explain.rows_refined, 5, "the nearest come first");
        let mut search = Search::new(&request, request.queries);
        numbered(&rows).rchunks(1).for_each(|tile| search.offer(kernels, 0, tile));
        assert_eq!(search.explain.rows_refined, 100, "the nearest come last");
    }
}

#[test]
fn a_search_through_nothing_finds_nothing() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
    let schema = Schema { uuid: [1; 16], dim: 2, element: Element::F32, metric: Metric::L2 };
    let nothing = Version::empty(schema, Dir::open(&disk, Path::new("/")).expect("the root"));
    let (version, buffered) = (Arc::new(nothing), buffer::BufferSnapshot::default());
    let rows = Rows { live: version.live(), version, buffered: &buffered, puts: Vec::new() };
    let request =
        SearchRequest { metric: Metric::L2, dim: 2, queries: &[0.0; 4], k: 3, radius: None, recall: 1.0 };
    let found = nearest(&rows, &request, 4).expect("no row");
    assert!(
        found.len() == 2
            && found.iter().all(|found| found.rows.is_empty() && found.explain.rows_refined == 0)
    );
}
