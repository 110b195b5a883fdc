//! The corpus of every door, and mutations of it.

use super::*;
use vecstone_corpus::{corpus, mutations_pass};

/// A door, its name in `fuzz/`, and how many inputs are kept for it at least.
type Door = (&'static str, usize, fn(&[u8]));

const DOORS: [Door; 8] = [
    ("open_bytes", 6, open_bytes),
    ("records", 3, |input| _ = records(input)),
    ("ids", 6, ids),
    ("del", 6, del),
    ("jsonl", 5, jsonl),
    ("filter", 8, filter),
    ("manifest", 8, manifest),
    ("codes", 6, codes),
];

fn kept((target, least, _): Door) -> Vec<Vec<u8>> {
    corpus(target, least)
}

/// Every input that is kept, found by the fuzzer or made as a seed, passes, at every door.
#[test]
fn every_input_of_the_corpus_passes() {
    for input in DOORS.into_iter().flat_map(kept) {
        DOORS.iter().for_each(|(_, _, door)| door(&input));
    }
}

fn mutations_of(door: Door, cases: u32) {
    mutations_pass(kept(door), cases, door.2);
}

#[test]
fn mutated_stores_pass() {
    mutations_of(DOORS[0], 1000);
    mutations_of(DOORS[1], 2000);
}

#[test]
fn mutated_ids_pass() {
    mutations_of(DOORS[2], 1000);
}

#[test]
fn mutated_lists_of_dead_rows_pass() {
    mutations_of(DOORS[3], 5000);
}

#[test]
fn mutated_documents_pass() {
    mutations_of(DOORS[4], 1000);
}

#[test]
fn mutated_filters_pass() {
    mutations_of(DOORS[5], 5000);
}

#[test]
fn mutated_manifests_pass() {
    mutations_of(DOORS[6], 5000);
}

#[test]
fn mutated_codes_pass() {
    mutations_of(DOORS[7], 300);
}
