//! Loads many rows and reads many back: `cargo run --release -p vecstone --example bulk_load`.

use std::error::Error;
use std::time::Instant;
use vecstone::{Metric, VectorStore};

const ROWS: u64 = 100_000;
const AT_ONCE: usize = 10_000;
const DIM: u32 = 64;

/// Numbers that stand for a vector.
fn vector(row: u64) -> impl Iterator<Item = f32> {
    (0..u64::from(DIM)).map(move |n| ((row * 31 + n * 17) % 1000) as f32 / 1000.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = VectorStore::create(dir.path().join("many"), DIM, Metric::L2)?;

    let start = Instant::now();
    for first in (0..ROWS).step_by(AT_ONCE) {
        let ids: Vec<u64> = (first..first + AT_ONCE as u64).collect();
        let rows: Vec<f32> = ids.iter().flat_map(|&id| vector(id)).collect();
        // One batch, in its place in the order of writing. Large ones go to the file from where they lie.
        store.put_many(&ids, &rows)?;
    }
    store.flush()?; // once, for all of them
    println!("{ROWS} rows of {DIM} components written and durable in {:?}", start.elapsed());

    // Many rows into memory of ours, as a matrix; on several cores, each row checked.
    let (snapshot, ids) = (store.snapshot()?, (0..ROWS).step_by(7).collect::<Vec<u64>>());
    let mut matrix = vec![0.0; ids.len() * snapshot.dim()];
    let start = Instant::now();
    snapshot.get_many_into(&ids, &mut matrix, |n| panic!("id {} is there", ids[n]))?;
    println!("{} rows read in {:?}", ids.len(), start.elapsed());
    assert!(matrix[snapshot.dim()..][..snapshot.dim()].iter().copied().eq(vector(7)));

    // All rows in the order of writing, one after the other.
    let mut count = 0;
    for item in snapshot.iter() {
        let (_id, vector) = item?;
        assert_eq!(vector.len(), snapshot.dim());
        count += 1;
    }
    assert_eq!(count, ROWS);

    store.close()?;
    Ok(())
}
