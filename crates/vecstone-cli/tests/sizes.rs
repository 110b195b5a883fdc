//! The store is as large as its vectors and hardly more.

mod common;

use common::Place;
use std::fs;

fn check(rows: usize, dim: usize) -> (u64, u64) {
    let place = Place::new();
    place.rows("in", rows, dim);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids"]).ok();
    let dat = fs::metadata(place.path("s/00000001.dat")).unwrap();
    let idx = fs::metadata(place.path("s/00000001.idx")).unwrap();
    assert_eq!(dat.len(), 256 + (rows * dim * 4) as u64, "{rows} x {dim}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        assert!(dat.blocks() * 512 < dat.len() + dat.blksize(), "{rows} x {dim}: nothing is allocated ahead");
    }
    let info = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!(info["bytes"]["dat"], dat.len());
    assert_eq!(info["bytes"]["idx"], idx.len());
    (dat.len(), idx.len())
}

#[test]
fn dat_is_header_and_rows_exactly() {
    for rows in [0, 1, 100] {
        check(rows, 768);
    }
    check(100_000, 16);
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn pair_is_within_twelve_thousandths_of_the_vectors() {
    let (dat, idx) = check(10_000, 768);
    let overhead = (dat + idx) as f64 / (10_000.0 * 768.0 * 4.0);
    assert!(overhead <= 1.012, "{overhead}");
}
