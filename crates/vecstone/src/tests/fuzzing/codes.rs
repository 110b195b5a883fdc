//! The door for files of centres and codes.

use super::forged::Forged;
use crate::query::distance::to_public;
use crate::segment::codes::frame::split_mix;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Id, Metric, OpenOptions, SearchOptions, VectorStore, reference_distance};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const DIR: &str = "/s";
/// Enough for codes of two parts.
const ROWS: usize = 1100;
const DIM: usize = 128;
/// Bytes of an edit: where, and the four bytes that are there afterwards.
const EDIT: usize = 8;

/// A store with codes, and its rows.
struct Base {
    image: Image,
    rows: Vec<Vec<f32>>,
    metric: Metric,
}

/// Of each metric a store with codes of one part and one with codes of two.
fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| {
        let each = Metric::ALL.into_iter().flat_map(|metric| [64, 20].map(|of| (metric, of)));
        each.map(|(metric, of)| Base::new(metric, of)).collect()
    })
}

impl Base {
    /// Rows that differ most in so many directions.
    fn new(metric: Metric, directions: usize) -> Base {
        let mut random = 5;
        let mut number = || (split_mix(&mut random) >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        let mut vector = |by: f32| -> Vec<f32> { (0..DIM).map(|_| number() * by).collect() };
        let directions: Vec<Vec<f32>> = (0..directions).map(|_| vector(1.0)).collect();
        let row = |_| {
            let (mut row, along) = (vector(0.05), vector(1.0));
            for (direction, along) in directions.iter().zip(along) {
                row.iter_mut().zip(direction).for_each(|(x, d)| *x += along * d);
            }
            row
        };
        let rows: Vec<Vec<f32>> = (0..ROWS).map(row).collect();
        let image = Image { dirs: ["/".into()].into(), ..Image::default() };
        let disk = SimDisk::new(&image);
        let identity = crate::format::Identity { uuid: [7; 16], segment: 1, salt: [9; 16] };
        let dim = u32::try_from(DIM).expect("small");
        let options = OpenOptions::new().lock_wait(Duration::ZERO).without_background();
        let store =
            VectorStore::create_on(Arc::new(disk.clone()), Path::new(DIR), dim, metric, identity, &options);
        let store = store.expect("made");
        let ids: Vec<u64> = (0..ROWS as u64).collect();
        store.put_many(&ids, &rows.concat()).expect("stored");
        store.optimize().expect("built");
        drop(store);
        Base { image: disk.image(), rows, metric }
    }
}

/// A first byte names a store and one of its files, the others are edits of what the file has behind its checksums, which
/// are made to fit: a search returns rows that are there, each once, with its distance; and `verify` reads on.
pub fn codes(input: &[u8]) {
    let Some((&mode, edits)) = input.split_first() else { return };
    let base = &bases()[usize::from(mode / 2) % bases().len()];
    let name = if mode.is_multiple_of(2) { "00000001.codes.side" } else { "00000001.centres.side" };
    let path = Path::new(DIR).join(name);
    let mut image = base.image.clone();
    let mut file = Forged::of(&image.files[&path]);
    for edit in edits.as_chunks::<EDIT>().0 {
        let [a, b, c, d, now @ ..] = *edit;
        let at = u32::from_le_bytes([a, b, c, d]) as usize;
        // Behind the uuid; an odd place is in the fields.
        let bytes = if at % 2 == 1 { &mut file.fields[16..] } else { &mut file.data[..] };
        let len = bytes.len().saturating_sub(3);
        if len > 0 {
            let at = at / 2 % len;
            bytes[at..at + 4].copy_from_slice(&now);
        }
    }
    image.files.insert(path, file.sealed());
    let store = VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new(DIR));
    let store = store.expect("side files are never needed");
    let snapshot = store.snapshot().expect("taken");
    let ways = [SearchOptions::new(), SearchOptions::new().recall_target(0.9)];
    for (query, options) in [3, 1000].iter().flat_map(|&at| ways.each_ref().map(|way| (&base.rows[at], way)))
    {
        let hits = snapshot.search_with(query, 10, options).expect("found");
        let mut seen = BTreeSet::new();
        for hit in hits.iter() {
            let Id::U64(id) = hit.id else { panic!("a number") };
            assert!(seen.insert(id), "a row twice");
            let row = &base.rows[usize::try_from(id).expect("small")];
            let right = to_public(base.metric, reference_distance(base.metric, query, row));
            assert_eq!(hit.distance.to_bits(), right.to_bits());
        }
    }
    store.verify().expect("the simulated disk reads");
}
