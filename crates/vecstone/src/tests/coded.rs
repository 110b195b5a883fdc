//! Whole searches over codes against a plain scan by the reference, bit for bit; and what damage to the codes does.

use super::model::{DIR, Random, identity, options, root};
use crate::query::distance::to_public;
use crate::segment::codes;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::SimDisk;
use crate::sys::kernel;
use crate::{
    Document, Filter, Hits, Id, Metric, SearchOptions, SearchPath, VectorStore, WriteBatch,
    reference_distance,
};
use std::path::Path;
use std::sync::Arc;

mod approximate;
mod damage;
mod kept;
mod tuned;

/// A store and what is in it.
struct Filled {
    disk: SimDisk,
    store: VectorStore,
    metric: Metric,
    /// Live rows, the oldest first.
    live: Vec<(u64, Vec<f32>)>,
    next: u64,
}

fn create(metric: Metric, dim: usize, threads: usize) -> Filled {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options =
        options().buffer_bytes(8 << 20).segment_records(300).threads(threads).auto_optimize_rows(100);
    let dim = u32::try_from(dim).expect("small");
    let store =
        VectorStore::create_on(door, Path::new(DIR), dim, metric, identity(), &options).expect("made");
    Filled { disk, store, metric, live: Vec::new(), next: 0 }
}

impl Filled {
    fn put_as(&mut self, ids: &[u64], vectors: &[Vec<f32>]) {
        let documents: Vec<String> = ids.iter().map(|id| format!(r#"{{"part":{}}}"#, id % 10)).collect();
        let documents: Vec<_> = documents.iter().map(|text| Document::Json(text.as_str())).collect();
        let flat = vectors.concat();
        let mut batch = WriteBatch::new();
        self.store.write(batch.put_many_with_documents(ids, &flat, &documents)).expect("stored");
        self.live.retain(|(id, _)| !ids.contains(id));
        self.live.extend(ids.iter().copied().zip(vectors.iter().cloned()));
    }

    fn put(&mut self, vectors: &[Vec<f32>]) {
        let ids: Vec<u64> = (self.next..).take(vectors.len()).collect();
        self.next += vectors.len() as u64;
        self.put_as(&ids, vectors);
    }

    fn delete(&mut self, ids: &[u64]) {
        self.store.delete_many(ids).expect("deleted");
        self.live.retain(|(id, _)| !ids.contains(id));
    }

    /// What a search has to find.
    fn expected(&self, query: &[f32], k: usize, ask: &Ask) -> Vec<(u64, u32)> {
        let is_selected = |id: u64| match ask {
            Ask::All | Ask::Radius(_) => true,
            Ask::Ids(step) => id.is_multiple_of(*step),
            Ask::Document => id % 10 < 5,
        };
        let rows = self.live.iter().filter(|(id, _)| is_selected(*id));
        let mut all: Vec<(f64, u64)> =
            rows.map(|(id, row)| (reference_distance(self.metric, query, row), *id)).collect();
        if let Ask::Radius(radius) = ask {
            all.retain(|(distance, _)| to_public(self.metric, *distance) <= *radius);
        }
        // It is stable: the older first.
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all.truncate(k);
        all.into_iter().map(|(distance, id)| (id, to_public(self.metric, distance).to_bits())).collect()
    }

    fn options(&self, ask: &Ask) -> SearchOptions {
        match ask {
            Ask::All => SearchOptions::new(),
            Ask::Radius(radius) => SearchOptions::new().radius(*radius),
            Ask::Ids(step) => {
                let ids = self.live.iter().map(|(id, _)| *id).filter(|id| id.is_multiple_of(*step));
                SearchOptions::new().filter(Filter::ids(ids.map(Id::U64)))
            }
            Ask::Document => {
                SearchOptions::new().filter(Filter::parse(r#"{"part": {"$lt": 5}}"#).expect("a filter"))
            }
        }
    }

    /// Asks one by one and all at once. Returns the paths taken.
    fn check(&self, queries: &[Vec<f32>], k: usize, ask: &Ask, what: &str) -> Vec<SearchPath> {
        let (snapshot, options) = (self.store.snapshot().expect("open"), self.options(ask));
        let many = snapshot.search_many(&queries.concat(), k, &options).expect("found");
        let mut paths = Vec::new();
        for (query, many) in queries.iter().zip(&many) {
            let expected = self.expected(query, k, ask);
            let one = snapshot.search_with(query, k, &options).expect("found");
            let of = |asked: &str| {
                format!("{what}, {:?}, k {k}, {ask:?}, {asked}: {}", self.metric, one.explain())
            };
            assert_eq!(found(&one), expected, "{}", of("one"));
            assert_eq!(found(many), expected, "{}", of("many"));
            assert!(one.is_exact());
            paths.push(one.explain().path);
        }
        paths
    }
}

/// Which rows are asked for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    All,
    Radius(f32),
    /// Those whose id is a multiple.
    Ids(u64),
    /// Half of them, by their documents.
    Document,
}

fn found(hits: &Hits) -> Vec<(u64, u32)> {
    let id = |id: &Id| if let Id::U64(id) = id { *id } else { panic!("a number") };
    hits.iter().map(|hit| (id(&hit.id), hit.distance.to_bits())).collect()
}

fn unit(random: &mut Random) -> f32 {
    let sum: usize = (0..4).map(|_| random.below(1 << 22)).sum();
    (sum as f32 / (1 << 23) as f32 - 1.0) * 1.7
}

/// Rows of one kind; `centres` are those of the kind that has clusters.
fn rows(random: &mut Random, kind: &str, n: usize, centres: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let dim = centres[0].len();
    let one = |at: usize, random: &mut Random| -> Vec<f32> {
        let x: Vec<f32> = (0..dim).map(|_| unit(random)).collect();
        let centre = &centres[random.below(centres.len())];
        let beside = |by: f32| x.iter().zip(centre).map(|(x, k)| k + x * by).collect();
        let each = |f: &dyn Fn(usize, f32) -> f32| x.iter().enumerate().map(|(n, x)| f(n, *x)).collect();
        match kind {
            "clusters" => beside(0.1),
            "isotropic" => x,
            "shift 3" => each(&|_, x| x + 3.0),
            "shift 30" => each(&|_, x| x + 30.0),
            "shift 1000" => each(&|_, x| x + 1000.0),
            "two outliers" => each(&|n, x| if n < 2 { x.signum() * 10.0 } else { x }),
            "variance" => each(&|n, x| if n < 2 { x * 10.0 } else { x }),
            "equal" => centres[0].clone(),
            "copies" => centre.clone(),
            "equal up to 1e-7" => x.iter().zip(&centres[0]).map(|(x, k)| k + x * 1e-7).collect(),
            "one huge component" => each(&|n, x| if n == 3 { x * 1e6 } else { x }),
            "1e14" => each(&|_, x| x * 1e14),
            "1e-15" => each(&|_, x| x * 1e-15),
            "norms" => {
                let by = 10f32.powf(unit(random));
                each(&|_, x| x * by)
            }
            // Few of them are of no kind that is coded.
            "of every kind" => match at % 40 {
                0 => vec![0.0; dim],
                1 => each(&|_, x| x * 1e30),
                2 => each(&|_, x| x * 1e-41),
                3 => each(&|_, x| x * 1e-30),
                _ => beside(0.3),
            },
            _ => unreachable!("a kind"),
        }
    };
    (0..n).map(|at| one(at, random)).collect()
}

const KINDS: [&str; 15] = [
    "clusters",
    "isotropic",
    "shift 3",
    "shift 30",
    "shift 1000",
    "two outliers",
    "variance",
    "equal",
    "copies",
    "equal up to 1e-7",
    "one huge component",
    "1e14",
    "1e-15",
    "norms",
    "of every kind",
];

fn queries(random: &mut Random, filled: &Filled) -> Vec<Vec<f32>> {
    let some = |random: &mut Random| filled.live[random.below(filled.live.len())].1.clone();
    let scaled = |x: Vec<f32>, by: f32| x.iter().map(|x| x * by).collect::<Vec<f32>>();
    let near = some(random).iter().map(|x| x * 1.000_001 + x.abs() * unit(random) * 1e-6).collect();
    let (a, b) = (some(random), some(random));
    let between = a.iter().zip(&b).map(|(a, b)| a * 0.5 + b * 0.5).collect();
    let mut all =
        vec![near, between, a, scaled(b, -1.0), scaled(some(random), 1e-3), scaled(some(random), 1e3)];
    all.retain(|query: &Vec<f32>| query.iter().all(|x| x.is_finite()));
    all
}

/// How many files of codes there are.
fn files(store: &VectorStore) -> u64 {
    let stats = store.stats().expect("counted");
    stats.side.iter().find(|side| side.kind == "codes").map_or(0, |side| side.files)
}

/// Asks for what is near in each way.
fn check_all(filled: &Filled, random: &mut Random, what: &str) {
    let queries = queries(random, filled);
    let n = filled.live.len();
    for k in [1, 10, n + 5] {
        filled.check(&queries, k, &Ask::All, what);
        filled.check(&queries[..2], k, &Ask::Ids(2), what);
        filled.check(&queries[..2], k, &Ask::Document, what);
    }
    filled.check(&queries[..1], 10, &Ask::Ids(97), what);
    let tenth = filled.expected(&queries[1], 10, &Ask::All).last().map_or(0.0, |hit| f32::from_bits(hit.1));
    for radius in [tenth, tenth.next_up(), tenth.next_down(), 0.0, f32::MAX, -1.0] {
        filled.check(&queries[..3], 40, &Ask::Radius(radius), what);
    }
    filled.check(&[vec![0.0; filled.live[0].1.len()]], 10, &Ask::All, what);
}

/// A life of a store: sealed segments, deletes, rows without a code, a second file of codes, buffered rows.
fn live(kind: &str, metric: Metric, dim: usize, threads: usize, seed: u64) {
    let mut random = Random(seed);
    let centres = rows(&mut random, "isotropic", 12, &[vec![0.0; dim]]);
    let mut filled = create(metric, dim, threads);
    filled.put(&rows(&mut random, kind, 700, &centres));
    let asked = filled.store.optimize().expect("built");
    assert_eq!((asked.rows_covered, files(&filled.store)), (700, 1), "{kind}");
    let some = queries(&mut random, &filled);
    let mut paths = filled.check(&some, 10, &Ask::All, kind);
    let dead: Vec<u64> = (0..700).step_by(13).collect();
    filled.delete(&dead);
    paths.extend(filled.check(&some[..2], 10, &Ask::All, kind));
    filled.put(&rows(&mut random, kind, 60, &centres));
    filled.put_as(&[1, 301, 602, 650], &rows(&mut random, kind, 4, &centres));
    filled.store.flush().expect("flushed");
    paths.extend(filled.check(&some[..2], 10, &Ask::All, kind));
    filled.put(&rows(&mut random, kind, 90, &centres));
    filled.store.flush().expect("flushed");
    filled.store.engine().expect("a writer").build_in_background();
    assert_eq!(files(&filled.store), 2, "{kind}");
    paths.extend(filled.check(&some[..2], 10, &Ask::All, kind));
    filled.put(&rows(&mut random, kind, 40, &centres));
    filled.put_as(&[2, 302, 720, 860], &rows(&mut random, kind, 4, &centres));
    filled.delete(&[3, 303, 730, 861]);
    paths.extend(filled.check(&some, 10, &Ask::All, kind));
    check_all(&filled, &mut random, kind);
    // Some queries of that kind have no code themselves.
    if kernel::kernels().has_fast_codes() && kind != "of every kind" {
        let is_used = |path: &SearchPath| *path != SearchPath::Scan;
        assert!(paths.iter().all(is_used), "{kind} {metric:?}: codes are used: {paths:?}");
        if kind == "clusters" {
            assert!(paths.contains(&SearchPath::Codes), "{metric:?}: {paths:?}");
        }
    }
    filled.store.optimize().expect("merged");
    assert_eq!(files(&filled.store), 1, "{kind}");
    filled.check(&some[..2], 10, &Ask::All, kind);
    let report = filled.store.verify().expect("read");
    assert!(report.is_ok(), "{kind} {metric:?}: {:?}", report.damage);
}

fn live_each(metric: Metric) {
    for (n, kind) in (0..).zip(KINDS) {
        live(kind, metric, [32, 64, 100, 200][n % 4], [1, 3][n % 2], 60 + n as u64);
    }
}

#[test]
fn what_codes_find_is_what_the_reference_says_l2() {
    live_each(Metric::L2);
}

#[test]
fn what_codes_find_is_what_the_reference_says_ip() {
    live_each(Metric::Ip);
}

#[test]
fn what_codes_find_is_what_the_reference_says_cosine() {
    live_each(Metric::Cosine);
}

/// Codes of two parts, as rows have them that differ most in few directions.
#[test]
fn what_codes_in_two_parts_find_is_what_the_reference_says() {
    codes::for_all(|| {
        for (n, kind) in (0..).zip(KINDS) {
            live(kind, Metric::ALL[n % 3], [130, 200, 100, 70][n % 4], [1, 3][n % 2], 90 + n as u64);
        }
        for metric in Metric::ALL {
            live("clusters", metric, 130, 1, 110);
            live("of every kind", metric, 100, 1, 111);
        }
    });
}

/// Some of the queries have their neighbours among rows that are all but equal, and give up, unless these were the last ones
/// to be looked at; the others do not.
#[test]
fn queries_that_share_blocks_have_bars_of_their_own() {
    for (metric, threads) in Metric::ALL.into_iter().flat_map(|metric| [(metric, 1), (metric, 3)]) {
        let mut random = Random(62);
        let centres = rows(&mut random, "isotropic", 20, &[vec![0.0; 64]]);
        let mut filled = create(metric, 64, threads);
        filled.put(&rows(&mut random, "clusters", 1000, &centres[1..]));
        filled.put(&rows(&mut random, "equal up to 1e-7", 1000, &centres));
        filled.store.optimize().expect("built");
        let of_cluster = |n: usize| filled.live[n * 31].1.clone();
        let query = |n: usize| if n % 3 == 1 { centres[0].clone() } else { of_cluster(n) };
        let queries: Vec<Vec<f32>> = (0..31).map(query).collect();
        filled.check(&queries, 10, &Ask::All, "bars");
        let snapshot = filled.store.snapshot().expect("open");
        let many = snapshot.search_many(&queries.concat(), 10, &SearchOptions::new()).expect("found");
        for (n, hits) in many.iter().enumerate().filter(|_| kernel::kernels().has_fast_codes()) {
            let explain = hits.explain();
            let is_hard = explain.path == SearchPath::CodesThenScan || explain.rows_refined >= 1000;
            assert_eq!(is_hard, n % 3 == 1, "{metric:?} {n}: {explain}");
        }
    }
}

/// One row of another size costs itself, and no other row.
#[test]
fn one_huge_row_among_many_changes_little() {
    for metric in Metric::ALL {
        let mut random = Random(61);
        let centres = rows(&mut random, "isotropic", 20, &[vec![0.0; 64]]);
        let all = rows(&mut random, "clusters", 2000, &centres);
        let refined = |with: bool| {
            let mut filled = create(metric, 64, 1);
            filled.put(&all);
            if with {
                filled.put(&[vec![1e30; 64]]);
            } else {
                filled.put(&all[..1]);
            }
            filled.store.optimize().expect("built");
            let queries = &all[5..25];
            let paths = filled.check(queries, 10, &Ask::All, "one huge row");
            let fast = kernel::kernels().has_fast_codes();
            assert!(!fast || paths.iter().all(|path| *path == SearchPath::Codes), "{metric:?} {paths:?}");
            let search =
                |query: &Vec<f32>| filled.store.search(query, 10).expect("found").explain().rows_refined;
            queries.iter().map(search).sum::<u64>()
        };
        let (with, without) = (refined(true), refined(false));
        assert!(with <= without * 2 + 20 * 10, "{metric:?}: {with} {without}");
    }
}
