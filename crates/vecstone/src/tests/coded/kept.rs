//! Codes that outlive what happens to a store: compaction, growth, readers, backups.

use super::super::model::{DIR, Random};
use super::{Ask, Filled, create, files, rows};
use crate::sys::disk::Disk;
use crate::sys::kernel;
use crate::{CompactOptions, Metric, SearchPath, VectorStore};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Rows that have codes, as `stats` says.
fn coded(store: &VectorStore) -> u64 {
    let stats = store.stats().expect("counted");
    stats.side.iter().find(|side| side.kind == "codes").expect("a kind").rows
}

fn clusters(random: &mut Random, n: usize) -> Vec<Vec<f32>> {
    let centres = rows(&mut Random(5), "isotropic", 12, &[vec![0.0; 64]]);
    rows(random, "clusters", n, &centres)
}

fn is_over_codes(filled: &Filled, what: &str) {
    let queries: Vec<Vec<f32>> = filled.live.iter().step_by(97).map(|(_, row)| row.clone()).collect();
    let paths = filled.check(&queries, 10, &Ask::All, what);
    assert!(
        !kernel::kernels().has_fast_codes() || paths.iter().all(|path| *path == SearchPath::Codes),
        "{what}: {paths:?}"
    );
}

#[test]
fn a_compaction_carries_codes_without_a_look_at_the_rows() {
    let mut random = Random(71);
    let mut filled = create(Metric::Cosine, 64, 1);
    filled.put(&clusters(&mut random, 900));
    filled.store.optimize().expect("built");
    let dead: Vec<u64> = (0..900).step_by(3).collect();
    filled.delete(&dead);
    filled.store.flush().expect("flushed");
    filled.store.compact().expect("compacted");
    assert_eq!((coded(&filled.store), filled.live.len()), (600, 600), "all of them");
    is_over_codes(&filled, "compacted");
    let report = filled.store.verify().expect("read");
    assert!(report.is_ok(), "{:?}", report.damage);
    // What was written since is carried, too, and stays without a code.
    filled.put(&clusters(&mut random, 80));
    filled.delete(&[1, 4, 7, 400]);
    filled.store.flush().expect("flushed");
    let all = CompactOptions::new().min_dead(0.0);
    filled.store.compact_with(&all, |_| ControlFlow::Continue(())).expect("compacted");
    assert_eq!(coded(&filled.store), 596);
    is_over_codes(&filled, "compacted again");
    assert!(filled.store.verify().expect("read").is_ok());
}

#[test]
fn a_store_that_grows_has_few_files_and_hot_rows() {
    let mut random = Random(72);
    let mut filled = create(Metric::L2, 64, 1);
    for step in 0..14 {
        filled.put(&clusters(&mut random, 110));
        filled.store.flush().expect("flushed");
        filled.store.engine().expect("a writer").build_in_background();
        let rows = filled.live.len() as u64;
        if rows >= 256 {
            assert_eq!(coded(&filled.store), rows, "step {step}");
            assert!((1..=4).contains(&files(&filled.store)), "step {step}: {}", files(&filled.store));
        }
    }
    is_over_codes(&filled, "grown");
    assert!(filled.store.verify().expect("read").is_ok());
}

#[test]
fn a_reader_sees_codes_that_are_made_later_and_a_backup_has_them() {
    let mut random = Random(73);
    let mut filled = create(Metric::Ip, 64, 1);
    filled.put(&clusters(&mut random, 600));
    filled.store.flush().expect("flushed");
    let door: Arc<dyn Disk> = Arc::new(filled.disk.clone());
    let reader = VectorStore::open_read_only_on(door.clone(), Path::new(DIR)).expect("opens");
    let query = filled.live[7].1.clone();
    let path = |store: &VectorStore| store.search(&query, 10).expect("found").explain().path;
    assert_eq!(path(&reader), SearchPath::Scan);
    filled.store.optimize().expect("built");
    assert!(!reader.refresh().expect("read"), "it shows the same");
    let fast = kernel::kernels().has_fast_codes();
    assert!(!fast || path(&reader) == SearchPath::Codes);
    assert_eq!(reader.search(&query, 10).expect("found"), filled.store.search(&query, 10).expect("found"));
    filled.store.backup("/copy").expect("copied");
    let copy = VectorStore::open_read_only_on(door, Path::new("/copy")).expect("opens");
    assert!(!fast || path(&copy) == SearchPath::Codes);
    assert!(copy.verify().expect("read").is_ok());
}
