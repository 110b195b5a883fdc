//! For the tests of fuzz targets: the inputs that are kept in `fuzz/corpus`, and mutations of them, the same in each run.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The inputs that are kept for a target, in the order of their names.
///
/// # Panics
///
/// If there are fewer than `least`.
pub fn corpus(target: &str, least: usize) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(dir).expect("kept in the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    assert!(paths.len() >= least, "{target} has only {} inputs", paths.len());
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// What is done to an input: at a place, something with a byte.
type Edit = (usize, u8, u8);

fn edited(mut input: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for &(place, what, byte) in edits {
        let at = place % (input.len() + 1);
        match (what % 6, input.get_mut(at)) {
            (0, Some(there)) => *there = byte,
            (1, Some(there)) => *there ^= 1 << (byte % 8),
            (2, Some(there)) => *there = there.wrapping_add(byte % 5).wrapping_sub(2),
            (3, Some(_)) => _ = input.remove(at),
            (4, _) => input.insert(at, byte),
            (5, _) => input.truncate(at + usize::from(byte)),
            _ => {}
        }
    }
    input
}

/// Gives the target so many inputs with up to five changes each.
///
/// # Panics
///
/// If the target does; with the shortest changes that were found to make it.
pub fn mutations_pass(inputs: Vec<Vec<u8>>, cases: u32, target: fn(&[u8])) {
    let edits = vec((any::<usize>(), any::<u8>(), any::<u8>()), 0..6);
    let rng_seed = RngSeed::Fixed(1);
    let config = ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() };
    proptest!(config, |(input in prop::sample::select(inputs), edits in edits)| target(&edited(input, &edits)));
}
