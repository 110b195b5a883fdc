//! Any bytes as `.del`: refused, or the set of rows that the roaring crate decodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::del(input));
