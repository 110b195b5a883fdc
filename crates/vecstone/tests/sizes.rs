//! The files are as long as promised, at every size, and nothing is allocated ahead.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

use std::fs;
use vecstone::{Metric, VectorStore};

const DIM: usize = 768;

#[test]
fn dat_is_header_and_rows_and_nothing_else() {
    let block = 4096;
    for rows in [0usize, 1, 100, 10_000, 100_000] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let path = dir.path().join("store");
        let store = VectorStore::create(&path, DIM as u32, Metric::Cosine).expect("made");
        for first in (0..rows).step_by(1000) {
            let batch = first..(first + 1000).min(rows);
            let ids: Vec<String> = batch.clone().map(|n| format!("vec_{n:07}")).collect();
            let vectors: Vec<f32> = batch.flat_map(|n| (0..DIM).map(move |i| (n * DIM + i) as f32)).collect();
            store.put_many(&ids, &vectors).expect("stored");
        }
        store.flush().expect("flushed");
        let raw = (rows * DIM * 4) as u64;
        let dat = fs::metadata(path.join("00000001.dat")).expect("there");
        assert_eq!(dat.len(), 256 + raw, "{rows} rows, store open");
        store.close().expect("closed");
        let dat = fs::metadata(path.join("00000001.dat")).expect("there");
        assert_eq!(dat.len(), 256 + raw, "{rows} rows, store closed");
        #[cfg(unix)]
        {
            let allocated = std::os::unix::fs::MetadataExt::blocks(&dat) * 512;
            // Rounded up to a block, and one block more where the file system needs it to list the file's extents.
            let most = dat.len().next_multiple_of(block) + block;
            assert!((dat.len()..=most).contains(&allocated), "{rows} rows: {allocated} for {}", dat.len());
        }
        if rows >= 1000 {
            let idx = fs::metadata(path.join("00000001.idx")).expect("there").len();
            let ratio = (dat.len() + idx) as f64 / raw as f64;
            assert!(ratio <= 1.012, "{rows} rows: {ratio}");
        }
    }
}
