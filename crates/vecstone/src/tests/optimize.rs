//! `optimize`: what is wanted is built, and nothing else changes. Options that are the store's own.

use super::hostile::{file, manifest_of, open, vector};
use super::model::{DIM, DIR, identity, options, root};
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Error, Metric, OpenOptions, VectorStore};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

fn made(options: &OpenOptions) -> (SimDisk, VectorStore) {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), options);
    (disk, store.expect("made"))
}

/// Two sealed segments without a side file, an active one, and a row in the buffer.
fn filled() -> (SimDisk, VectorStore) {
    let (disk, store) = made(&options().segment_records(2).buffer_bytes(1 << 20));
    for id in ["a", "b", "c", "d", "e"] {
        store.put(id, &vector(id)).and_then(|()| store.flush()).expect("stored");
    }
    store.put("f", &vector("f")).expect("accepted");
    (disk, store)
}

fn has(image: &Image, name: &str) -> bool {
    image.files.contains_key(&file(name))
}

#[test]
fn what_is_wanted_is_built_and_the_segments_stay() {
    let (disk, store) = filled();
    let before = manifest_of(&disk.image());
    assert_eq!(before.segments.len(), 3);
    assert!(!has(&disk.image(), "00000001.ids") && !has(&disk.image(), "00000002.ids"));
    let mut told = Vec::new();
    let report = store.optimize_with(|step| {
        told.push((step.rows, step.total));
        ControlFlow::Continue(())
    });
    let report = report.expect("built");
    assert_eq!(told, [(0, 4), (2, 4), (4, 4)]);
    assert_eq!(manifest_of(&disk.image()), before, "neither sealed nor compacted");
    assert!(has(&disk.image(), "00000001.ids") && has(&disk.image(), "00000002.ids"));
    let stats = store.stats().expect("counted");
    assert_eq!((report.rows, report.rows_covered, report.bytes), (6, 0, stats.bytes.ids));
    let [ids, ..] = &stats.side[..] else { panic!("{:?}", stats.side) };
    assert_eq!((ids.kind, ids.files, ids.rows, ids.bytes), ("ids", 2, 4, stats.bytes.ids));
    // Once more there is nothing to do.
    told.clear();
    let again = store.optimize_with(|step| {
        told.push((step.rows, step.total));
        ControlFlow::Continue(())
    });
    assert_eq!((again.expect("nothing to do"), &told[..]), (report, &[(0, 0)][..]));
    // What was accepted before is durable.
    disk.kill(store);
    let crash = disk.crash();
    let after = open(&SimDisk::new(&crash.image(&vec![0; crash.options().len()])), &options());
    assert_eq!(after.and_then(|store| store.get("f")).expect("read"), Some(vector("f")));
}

#[test]
fn a_break_keeps_what_is_whole() {
    for breaks_at in 0..3 {
        let (disk, store) = filled();
        let mut calls = 0;
        let broken = store.optimize_with(|_| {
            calls += 1;
            if calls > breaks_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(broken, Err(Error::Cancelled)), "{broken:?}");
        assert_eq!(calls, breaks_at + 1);
        assert_eq!(has(&disk.image(), "00000001.ids"), breaks_at > 0);
        assert_eq!(has(&disk.image(), "00000002.ids"), breaks_at > 1);
        store.optimize().expect("goes on");
        assert!(has(&disk.image(), "00000002.ids"));
    }
}

#[test]
fn a_panic_of_the_caller_is_the_callers() {
    let (_, store) = filled();
    let panicked = catch_unwind(AssertUnwindSafe(|| store.optimize_with(|_| panic!("mine"))));
    assert_eq!(panicked.expect_err("goes on").downcast_ref(), Some(&"mine"));
    store.optimize().expect("writing goes on");
}

#[test]
fn only_a_writer_optimizes() {
    let (disk, store) = filled();
    let reader = VectorStore::open_read_only_on(Arc::new(disk), Path::new(DIR)).expect("opens");
    assert!(matches!(reader.optimize(), Err(Error::ReadOnly)));
    store.close().expect("closed");
}

/// The other segments get their files all the same.
#[test]
fn a_damaged_segment_is_named() {
    let (disk, store) = filled();
    store.close().expect("closed");
    let mut image = disk.image();
    let ids = |number: u64| file(&format!("{number:08}.ids"));
    (1..3).for_each(|number| _ = image.files.remove(&ids(number)));
    image.files.get_mut(&file("00000001.idx")).expect("there")[310] ^= 1;
    let disk = SimDisk::new(&image);
    let store = open(&disk, &options()).expect("sealed segments are read when they are asked");
    let error = store.optimize().expect_err("damaged");
    assert!(matches!(&error, Error::Corrupt { path, .. } if *path == file("00000001.idx")), "{error}");
    assert!(!has(&disk.image(), "00000001.ids") && has(&disk.image(), "00000002.ids"));
    assert_eq!(store.get("c").expect("read"), Some(vector("c")));
}

/// The section of options as format.md says, and none where there is no option.
#[test]
fn an_option_of_the_store_is_in_manifest() {
    let (disk, store) = made(&options());
    store.close().expect("closed");
    assert_eq!(disk.image().files[&file("MANIFEST")].len(), 188);
    for rows in [0, 5000, 20_000, u64::MAX] {
        let given = options().auto_optimize_rows(rows);
        let (disk, store) = made(&given);
        assert_eq!(store.stats().expect("counted").auto_optimize_rows, rows);
        store.close().expect("closed");
        let text = format!(r#"{{"auto_optimize_rows":{rows}}}"#);
        let len = u32::try_from(text.len()).expect("short");
        let section = [&[1, 0, 0, 0][..], &len.to_le_bytes(), text.as_bytes()].concat();
        let image = disk.image();
        let manifest = &image.files[&file("MANIFEST")];
        assert_eq!(manifest[184..manifest.len() - 4], section);
        for options in [given, options()] {
            let store = open(&disk, &options).expect("the same, or nothing said");
            assert_eq!(store.stats().expect("counted").auto_optimize_rows, rows);
        }
    }
}

#[test]
fn another_value_of_an_option_is_refused() {
    for (stored, given) in [(None, 5), (Some(5), 20_000), (Some(0), 1)] {
        let first = stored.map_or_else(options, |rows| options().auto_optimize_rows(rows));
        let (disk, store) = made(&first);
        store.close().expect("closed");
        let before = disk.image();
        let expected = stored.unwrap_or(20_000);
        let refused = open(&disk, &options().auto_optimize_rows(given)).expect_err("another");
        assert!(
            matches!(refused, Error::OptionMismatch { option: "auto_optimize_rows", expected: e, found }
                if (e, found) == (expected, given)),
            "{refused:?}"
        );
        let text = refused.to_string();
        assert!(text.contains("auto_optimize_rows") && text.contains(&expected.to_string()), "{text}");
        let mut after = disk.image();
        after.files.insert(file("LOCK"), before.files[&file("LOCK")].clone());
        assert!(after == before, "something was written");
        open(&disk, &options().auto_optimize_rows(expected)).expect("what is there");
    }
}
