//! Files of codes and centres that are damaged, or say what is not so with right checksums.

use super::{Ask, Filled, check_all, create, files, found, rows};
use crate::fuzzing::forged::Forged;
use crate::query::distance::to_public;
use crate::segment::codes;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::kernel;
use crate::tests::model::{DIR, Random, options};
use crate::{Metric, SearchOptions, SearchPath, VectorStore, VerifyReport, reference_distance};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// With codes of one part, and of two.
const DIMS: [usize; 2] = [32, 130];
const ROWS: usize = 330;

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn codes_file() -> PathBuf {
    path("00000001.codes.side")
}

fn centres_file() -> PathBuf {
    path("00000001.centres.side")
}

/// A small store with codes, closed, and one of its rows without one.
fn small(metric: Metric, dim: usize) -> (Image, Filled) {
    codes::for_all(|| {
        let mut random = Random(71);
        let of = rows(&mut random, "isotropic", 5, &[vec![0.0; dim]]);
        let mut filled = create(metric, dim, 1);
        let mut all = rows(&mut random, "clusters", ROWS, &of);
        all[17] = vec![1e30; dim];
        filled.put(&all);
        filled.store.optimize().expect("built");
        filled.delete(&[5, 200]);
        filled.store.flush().expect("flushed");
        (filled.disk.image(), filled)
    })
}

fn reader(image: &Image) -> VectorStore {
    let disk = Arc::new(SimDisk::new(image));
    VectorStore::open_read_only_on(disk, Path::new(DIR)).expect("opens")
}

fn queries(filled: &Filled) -> Vec<Vec<f32>> {
    [3, 100].map(|at| filled.live[at].1.iter().map(|x| x * 1.01).collect()).into()
}

fn is_side(damage: &crate::Damage) -> bool {
    damage.consequence.starts_with("nothing is lost")
        && (damage.path == codes_file() || damage.path == centres_file())
}

#[test]
fn damage_changes_no_answer() {
    DIMS.into_iter().for_each(damage_changes_no_answer_of);
}

fn damage_changes_no_answer_of(dim: usize) {
    let (image, filled) = small(Metric::L2, dim);
    let queries = queries(&filled);
    let expected: Vec<_> = queries.iter().map(|query| filled.expected(query, 10, &Ask::All)).collect();
    let fast = kernel::kernels().has_fast_codes();
    let intact = reader(&image).search(&queries[0], 10).expect("found");
    assert!(!fast || intact.explain().path == SearchPath::Codes, "{}", intact.explain());
    for (path, stride) in [(codes_file(), 23 * dim / 32), (centres_file(), 17 * dim / 32)] {
        let len = image.files[&path].len();
        for (n, at) in (0..300).chain((300..len).step_by(stride)).enumerate() {
            let mut image = image.clone();
            image.files.get_mut(&path).expect("there")[at] ^= 1 << (n % 8);
            let store = reader(&image);
            let what = format!("{} at {at}", path.display());
            for (query, expected) in queries.iter().zip(&expected) {
                let hits = store.search(query, 10).expect("found");
                assert_eq!(found(&hits), *expected, "{what}");
                // What a search has not touched does not count.
                assert!(hits.explain().path == SearchPath::Scan || dim > 32, "{what}");
            }
            if n % 5 == 0 {
                let report = store.verify().expect("read");
                assert!(!report.is_ok() && report.damage.iter().all(is_side), "{what}: {:?}", report.damage);
            }
            if n % 60 == 0 {
                drop(store);
                is_built_anew(&image, &queries, &expected, &what);
            }
        }
    }
}

/// A search finds the damage; the next `optimize` makes it good.
fn is_built_anew(image: &Image, queries: &[Vec<f32>], expected: &[Vec<(u64, u32)>], what: &str) {
    let store = VectorStore::open_on(Arc::new(SimDisk::new(image)), Path::new(DIR), &options());
    let store = store.expect("opens");
    let fast = kernel::kernels().has_fast_codes();
    for query in queries {
        store.search(query, 10).expect("found");
    }
    if fast {
        store.optimize().expect("built");
    }
    let hits = store.search(&queries[1], 10).expect("found");
    assert_eq!(found(&hits), expected[1], "{what}");
    assert!(!fast || hits.explain().path == SearchPath::Codes, "{what}: {}", hits.explain());
    let report = store.verify().expect("read");
    assert!(!fast || report.is_ok(), "{what}: {:?}", report.damage);
}

/// Each length to which a file is cut, and each file that is gone.
#[test]
fn what_is_cut_or_gone_changes_no_answer() {
    let (image, filled) = small(Metric::Cosine, DIMS[1]);
    let queries = queries(&filled);
    for path in [codes_file(), centres_file()] {
        let len = image.files[&path].len();
        for cut in (0..len).step_by(len / 60).map(Some).chain([None]) {
            let mut image = image.clone();
            match cut {
                Some(cut) => image.files.get_mut(&path).expect("there").truncate(cut),
                None => _ = image.files.remove(&path),
            }
            let hits = reader(&image).search(&queries[0], 10).expect("found");
            assert_eq!(found(&hits), filled.expected(&queries[0], 10, &Ask::All), "{cut:?}");
            assert_eq!(hits.explain().path, SearchPath::Scan, "{cut:?}");
        }
    }
}

// ---- files with right checksums ----

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"))
}

/// Where things are in a file of codes with one table.
struct Places {
    table: usize,
    partitions: usize,
    plain: usize,
    /// Components of each part.
    of: [usize; 2],
}

const ENTRY: usize = 56;

impl Places {
    /// `None` if the file says that it has more than there is.
    fn of(parts: &Forged) -> Option<Places> {
        let [dim, partitions, plain] = [60, 64, 68].map(|at| u32_at(&parts.fields, at) as usize);
        let (first, width) = (u32_at(&parts.fields, 76) as usize, dim.checked_next_multiple_of(64)?);
        let of = if first == 0 { [width, 0] } else { [first, width.checked_sub(first)?] };
        let tail = (partitions * ENTRY).next_multiple_of(64) + plain * 4;
        Some(Places { table: parts.data.len().checked_sub(tail)?, partitions, plain, of })
    }

    /// Where signs, front, front of copies and back of a partition start, and its rows.
    fn starts(&self, parts: &Forged, partition: usize) -> ([usize; 4], usize) {
        let entry = self.table + partition * ENTRY;
        let starts = [8, 16, 24, 32].map(|at| u32_at(&parts.data, entry + at) as usize);
        (starts, u32_at(&parts.data, entry + 4) as usize)
    }

    fn copies(&self, parts: &Forged, partition: usize) -> usize {
        u32_at(&parts.data, self.table + partition * ENTRY + 52) as usize
    }

    /// The numbers that a row has.
    fn arrays(&self) -> &'static [usize] {
        if self.of[1] > 0 { &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] } else { &[0, 1, 2, 3, 8, 9, 10] }
    }

    /// Where a number of a row is: 0 is a, then h, e, the ordinal, what is beyond; a, h and e of the second part, then of
    /// the signs.
    fn of_row(&self, parts: &Forged, partition: usize, array: usize, row: usize) -> usize {
        let ([signs, front, ..], rows) = self.starts(parts, partition);
        let numbers = self.record() - 4;
        let record = self.record_of(parts, partition, row);
        match array {
            3 => record + numbers,
            5..=7 => record + numbers - 12 + (array - 5) * 4,
            8..=10 => signs + rows.next_multiple_of(32) * self.of[0] / 8 + ((array - 8) * rows + row) * 4,
            _ => front + rows * self.of[0] / 2 + (array.min(3) * rows + row) * 4,
        }
    }

    /// Where the record of a row is, or of a copy behind the rows.
    fn record_of(&self, parts: &Forged, partition: usize, row: usize) -> usize {
        self.starts(parts, partition).0[3] + row * self.record()
    }

    fn copy_ordinal(&self, parts: &Forged, partition: usize, copy: usize) -> usize {
        let rows = self.starts(parts, partition).1;
        self.record_of(parts, partition, rows + copy) + self.record() - 4
    }

    fn record(&self) -> usize {
        4 + if self.of[1] > 0 { self.of[1] / 2 + 12 } else { 0 }
    }

    /// Where e of a copy is.
    fn e_of_copy(&self, parts: &Forged, partition: usize, copy: usize) -> usize {
        let ([_, _, front, _], _) = self.starts(parts, partition);
        let copies = self.copies(parts, partition);
        front + copies * self.of[0] / 2 + (2 * copies + copy) * 4
    }
}

fn metrics_and_dims() -> impl Iterator<Item = (Metric, usize)> {
    Metric::ALL.into_iter().flat_map(|metric| DIMS.map(|dim| (metric, dim)))
}

fn float(parts: &mut Forged, at: usize, change: impl Fn(f32) -> f32) {
    let was = f32::from_bits(u32_at(&parts.data, at));
    parts.data[at..at + 4].copy_from_slice(&change(was).to_le_bytes());
}

fn forged(image: &Image, path: &Path, forge: impl FnOnce(&mut Forged)) -> Image {
    let mut parts = Forged::of(&image.files[path]);
    forge(&mut parts);
    let mut image = image.clone();
    image.files.insert(path.to_owned(), parts.sealed());
    image
}

/// Each row that is found is live, there once, and as far as is said.
fn is_sane(store: &VectorStore, filled: &Filled, query: &[f32], k: usize, what: &str) {
    for options in [SearchOptions::new(), SearchOptions::new().recall_target(0.9)] {
        let hits = store.snapshot().and_then(|snapshot| snapshot.search_with(query, k, &options));
        let hits = found(&hits.expect("found"));
        let ids: BTreeSet<u64> = hits.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), hits.len(), "{what}: a row twice");
        for (id, distance) in hits {
            let (_, row) =
                filled.live.iter().find(|(live, _)| *live == id).unwrap_or_else(|| panic!("{what}: {id}"));
            let right = to_public(filled.metric, reference_distance(filled.metric, query, row));
            assert_eq!(distance, right.to_bits(), "{what}: {id}");
        }
    }
}

fn verified(image: &Image) -> VerifyReport {
    reader(image).verify().expect("read")
}

#[test]
fn what_is_sealed_again_is_the_same() {
    let (image, _) = small(Metric::L2, DIMS[1]);
    for path in [codes_file(), centres_file()] {
        assert!(forged(&image, &path, |_| ()) == image, "{}", path.display());
    }
    assert!(verified(&image).is_ok());
}

/// A number in the place of one.
fn other(random: &mut Random, was: u32) -> u32 {
    let bits = u32::try_from(random.below(1 << 32)).expect("32 bits");
    let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -1.0, 1e30, 1e-40, f32::MAX];
    match random.below(8) {
        0 => bits,
        1 => was.wrapping_add(1),
        2 => was.wrapping_sub(1),
        3 => [0, 1, u32::MAX, 1 << 31, 329, 330, 331, 64][random.below(8)],
        4 => was ^ 1 << random.below(32),
        _ => floats[random.below(floats.len())].to_bits(),
    }
}

/// Whatever numbers the files have: no panic, no row that is not there.
#[test]
fn hostile_files_do_no_harm() {
    let mut random = Random(72);
    for (metric, dim) in metrics_and_dims() {
        let (image, filled) = small(metric, dim);
        let queries = queries(&filled);
        for round in 0..130 {
            let path = if round % 3 == 0 { centres_file() } else { codes_file() };
            let forge = |parts: &mut Forged| {
                for _ in 0..=random.below(3) {
                    let places = Some(&*parts).filter(|_| path == codes_file()).and_then(Places::of);
                    let (bytes, at) = match (random.below(5), places) {
                        // Not the uuid of the store.
                        (0, _) => (&mut parts.fields, 16),
                        (1 | 2, Some(places)) if places.table < parts.data.len() => {
                            (&mut parts.data, places.table)
                        }
                        (3, Some(places)) if places.partitions > 0 && places.table > 0 => {
                            let partition = random.below(places.partitions);
                            let array = places.arrays()[random.below(places.arrays().len())];
                            let at = places.of_row(parts, partition, array, 0).min(parts.data.len());
                            (&mut parts.data, at)
                        }
                        _ => (&mut parts.data, 0),
                    };
                    if at + 4 > bytes.len() {
                        continue;
                    }
                    let at = at + random.below((bytes.len() - at) / 4) * 4;
                    let now = other(&mut random, u32_at(bytes, at));
                    bytes[at..at + 4].copy_from_slice(&now.to_le_bytes());
                    if random.below(12) == 0 {
                        let len = parts.data.len();
                        parts.data.truncate(random.below(len + 1));
                    }
                }
            };
            let image = forged(&image, &path, forge);
            let (what, store) = (format!("{metric:?} {round}"), reader(&image));
            for (query, k) in queries.iter().flat_map(|query| [1, 10, 20].map(|k| (query, k))) {
                is_sane(&store, &filled, query, k, &what);
            }
            _ = store.verify().expect("read");
            if round % 10 == 0 {
                drop(store);
                let disk = Arc::new(SimDisk::new(&image));
                let store = VectorStore::open_on(disk, Path::new(DIR), &options()).expect("opens");
                store.optimize().expect("built");
                is_sane(&store, &filled, &queries[0], 10, &what);
            }
        }
    }
}

/// Another first part, or a centre that is not there: a build that meets them first leaves the file out, and ends.
#[test]
fn a_build_leaves_out_codes_of_another_frame() {
    type Lie = fn(&mut Forged, &Places);
    let lies: [Lie; 2] = [
        |parts, _| parts.fields[76..80].copy_from_slice(&0u32.to_le_bytes()),
        |parts, places| {
            let last = places.table + (places.partitions - 1) * ENTRY;
            parts.data[last..last + 4].copy_from_slice(&1_000_000u32.to_le_bytes());
        },
    ];
    for lie in lies {
        let (image, mut filled) = small(Metric::L2, DIMS[1]);
        let lying = forged(&image, &codes_file(), |parts| {
            let places = Places::of(parts).expect("a table");
            lie(parts, &places);
        });
        let store = VectorStore::open_on(Arc::new(SimDisk::new(&lying)), Path::new(DIR), &options());
        filled.store = store.expect("opens");
        filled.put(&[vec![2.0; DIMS[1]]]);
        filled.store.optimize().expect("built");
        is_sane(&filled.store, &filled, &filled.live[7].1, 10, "another frame");
        assert!(filled.store.verify().expect("read").is_ok());
    }
}

/// Groups that do not start at the first centre: the centres are found anew.
#[test]
fn a_build_leaves_out_centres_without_order() {
    let (image, mut filled) = small(Metric::L2, DIMS[0]);
    let lying = forged(&image, &centres_file(), |parts| {
        let groups = u32_at(&parts.fields, 40) as usize;
        let starts = (DIMS[0] * 4).next_multiple_of(64) + groups * 64 * 4;
        assert_eq!(u32_at(&parts.data, starts), 0);
        parts.data[starts] = 1;
    });
    let store = VectorStore::open_on(Arc::new(SimDisk::new(&lying)), Path::new(DIR), &options());
    filled.store = store.expect("opens");
    filled.put(&[vec![2.0; DIMS[0]]]);
    filled.store.optimize().expect("built");
    is_sane(&filled.store, &filled, &filled.live[7].1, 10, "no order");
}

/// A bound that does not hold, and rows that are there twice or not at all.
#[test]
fn verify_names_bounds_that_do_not_hold() {
    type Lie = (&'static str, fn(&mut Forged, &Places));
    let lies: [Lie; 16] = [
        ("e is too small", |parts, places| {
            let at = places.of_row(parts, 0, 2, 1);
            float(parts, at, |e| e * 0.999);
        }),
        ("e is none", |parts, places| {
            let at = places.of_row(parts, 0, 2, 1);
            float(parts, at, |_| f32::NAN);
        }),
        ("h is another", |parts, places| {
            let at = places.of_row(parts, 0, 1, 1);
            float(parts, at, |h| h * 1.0001 + 1e-6);
        }),
        ("a is another", |parts, places| {
            let at = places.of_row(parts, 0, 0, 1);
            float(parts, at, |a| a * 1.0001);
        }),
        ("a code is another", |parts, places| {
            let ([_, start, ..], _) = places.starts(parts, 0);
            parts.data[start + 3] ^= 0x88;
        }),
        ("a sign is another", |parts, places| {
            let ([start, ..], _) = places.starts(parts, 0);
            parts.data[start + 1] ^= 4;
        }),
        ("a of the signs is another", |parts, places| {
            let at = places.of_row(parts, 0, 8, 1);
            float(parts, at, |a| a * 1.0001);
        }),
        ("h of the signs is another", |parts, places| {
            let at = places.of_row(parts, 0, 9, 1);
            float(parts, at, |h| h * 1.0001 + 1e-5);
        }),
        ("e of the signs is too small", |parts, places| {
            let at = places.of_row(parts, 0, 10, 1);
            float(parts, at, |e| e * 0.999);
        }),
        ("the greatest radius is too small", |parts, places| {
            float(parts, places.table + 44, |radius| radius * 0.999);
        }),
        ("the least radius is too large", |parts, places| {
            float(parts, places.table + 40, |radius| radius * 1.001 + 1e-6);
        }),
        ("the greatest norm is too small", |parts, places| {
            float(parts, places.table + 48, |norm| norm * 0.999);
        }),
        ("a radius is none", |parts, places| float(parts, places.table + 44, |_| f32::NAN)),
        ("two rows are exchanged", |parts, places| {
            let [a, b] = [0, 1].map(|row| places.of_row(parts, 0, 3, row));
            for n in 0..4 {
                parts.data.swap(a + n, b + n);
            }
        }),
        ("a row is there twice", |parts, places| {
            let [a, b] = [0, 1].map(|row| places.of_row(parts, 0, 3, row));
            parts.data.copy_within(a..a + 4, b);
        }),
        ("a row without a code is another", |parts, places| {
            assert_eq!(places.plain, 1);
            let end = parts.data.len();
            parts.data[end - 4] ^= 1;
        }),
    ];
    let of_second: [Lie; 6] = [
        ("what is beyond is too small", |parts, places| {
            let at = places.of_row(parts, 0, 4, 1);
            float(parts, at, |beyond| beyond * 0.999);
        }),
        ("what is beyond is none", |parts, places| {
            let at = places.of_row(parts, 0, 4, 1);
            float(parts, at, |_| f32::NAN);
        }),
        ("a of the second part is another", |parts, places| {
            let at = places.of_row(parts, 0, 5, 1);
            float(parts, at, |a| a * 1.0001);
        }),
        ("h of the second part is another", |parts, places| {
            let at = places.of_row(parts, 0, 6, 1);
            float(parts, at, |h| h * 1.0001 + 1e-5);
        }),
        ("e of both parts is too small", |parts, places| {
            let at = places.of_row(parts, 0, 7, 1);
            float(parts, at, |e| e * 0.999);
        }),
        ("the second code is another", |parts, places| {
            let at = places.of_row(parts, 0, 5, 0);
            parts.data[at - 3] ^= 0x88;
        }),
    ];
    for (metric, dim) in metrics_and_dims() {
        let (image, filled) = small(metric, dim);
        let of_second: &[Lie] = if dim > 64 { &of_second } else { &[] };
        for (what, lie) in lies.iter().chain(of_second) {
            let lying = forged(&image, &codes_file(), |parts| {
                let places = Places::of(parts).expect("a table");
                lie(parts, &places);
            });
            let report = verified(&lying);
            assert!(
                !report.is_ok() && report.damage.iter().all(is_side),
                "{metric:?} {what}: {:?}",
                report.damage
            );
            is_sane(&reader(&lying), &filled, &filled.live[7].1, 10, what);
        }
    }
}

/// Copies are checked as rows are, and a row has one at most.
#[test]
fn verify_names_copies_that_are_wrong() {
    type Lie = (&'static str, fn(&mut Forged, &Places, usize));
    let lies: [Lie; 3] = [
        ("a copy is of another row", |parts, places, partition| {
            let ordinal = places.of_row(parts, partition, 3, 0);
            let copy = places.copy_ordinal(parts, partition, 0);
            parts.data.copy_within(ordinal..ordinal + 4, copy);
        }),
        ("a copy is there twice", |parts, places, partition| {
            let [a, b] = [0, 1].map(|copy| places.copy_ordinal(parts, partition, copy));
            parts.data.copy_within(a..a + 4, b);
        }),
        ("e of a copy is too small", |parts, places, partition| {
            let at = places.e_of_copy(parts, partition, 1);
            float(parts, at, |e| e * 0.999);
        }),
    ];
    for (metric, dim) in metrics_and_dims() {
        let (image, filled) = codes::for_all(|| {
            let mut filled = create(metric, dim, 1);
            filled.put(&rows(&mut Random(73), "isotropic", 3 * ROWS, &[vec![0.0; dim]]));
            filled.store.optimize().expect("built");
            assert!(filled.store.verify().expect("read").is_ok());
            (filled.disk.image(), filled)
        });
        for (what, lie) in lies {
            let lying = forged(&image, &codes_file(), |parts| {
                let places = Places::of(parts).expect("a table");
                let partition = (0..places.partitions).find(|&n| places.copies(parts, n) > 1);
                lie(parts, &places, partition.expect("rows between centres have copies"));
            });
            let report = verified(&lying);
            assert!(!report.is_ok() && report.damage.iter().all(is_side), "{metric:?} {what}");
            is_sane(&reader(&lying), &filled, &filled.live[7].1, 10, what);
        }
    }
}

/// a and what goes with it are changed together: |y - a l| ≤ e still holds, and what is orthogonal is not.
#[test]
fn verify_names_a_scale_that_is_not_the_right_one() {
    let (image, _) = small(Metric::Ip, DIMS[0]);
    let lying = forged(&image, &codes_file(), |parts| {
        let places = Places::of(parts).expect("a table");
        let [a, e] = [0, 2].map(|array| places.of_row(parts, 0, array, 1));
        float(parts, a, |a| a * 1.001);
        float(parts, e, |e| e * 2.0);
    });
    assert!(!verified(&lying).is_ok());
}

/// The store of these tests by itself, in each way.
#[test]
fn the_store_that_is_damaged_is_right_before() {
    for (metric, dim) in metrics_and_dims() {
        let (_, filled) = small(metric, dim);
        assert_eq!(files(&filled.store), 1);
        check_all(&filled, &mut Random(73), "before");
    }
}
