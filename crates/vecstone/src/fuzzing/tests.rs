//! The corpus of every door, and mutations of it.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// A door, its name in `fuzz/`, and how many inputs are kept for it at least.
type Door = (&'static str, usize, fn(&[u8]));

const DOORS: [Door; 6] = [
    ("open_bytes", 6, open_bytes),
    ("records", 3, |input| _ = records(input)),
    ("ids", 6, ids),
    ("del", 6, del),
    ("jsonl", 5, jsonl),
    ("filter", 8, filter),
];

/// The inputs that are kept for a door: in the repository, not in what is published.
#[expect(clippy::disallowed_methods, reason = "the corpus is the fuzzer's, not a store")]
fn corpus((target, least, _): Door) -> Vec<Vec<u8>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    if !fuzz.exists() {
        return vec![Vec::new()];
    }
    let entries = std::fs::read_dir(fuzz.join("corpus").join(target)).expect("kept in the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    assert!(paths.len() >= least, "{target} has only {} inputs", paths.len());
    paths.iter().map(|path| std::fs::read(path).expect("readable")).collect()
}

/// Every input that is kept, found by the fuzzer or made as a seed, passes, at every door.
#[test]
fn every_input_of_the_corpus_passes() {
    for input in DOORS.into_iter().flat_map(corpus) {
        DOORS.iter().for_each(|(_, _, door)| door(&input));
    }
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

fn mutations_pass(door: Door, cases: u32) {
    let corpus = corpus(door);
    let edits = vec((any::<usize>(), any::<u8>(), any::<u8>()), 0..6);
    let rng_seed = RngSeed::Fixed(1);
    let config = ProptestConfig { cases, failure_persistence: None, rng_seed, ..ProptestConfig::default() };
    proptest!(config, |(input in prop::sample::select(corpus), edits in edits)| door.2(&edited(input, &edits)));
}

#[test]
fn mutated_stores_pass() {
    mutations_pass(DOORS[0], 1000);
    mutations_pass(DOORS[1], 2000);
}

#[test]
fn mutated_ids_pass() {
    mutations_pass(DOORS[2], 1000);
}

#[test]
fn mutated_lists_of_dead_rows_pass() {
    mutations_pass(DOORS[3], 5000);
}

#[test]
fn mutated_documents_pass() {
    mutations_pass(DOORS[4], 1000);
}

#[test]
fn mutated_filters_pass() {
    mutations_pass(DOORS[5], 5000);
}
