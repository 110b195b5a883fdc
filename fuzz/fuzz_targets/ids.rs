//! Any bytes as `.ids`: refused, or every look-up does what a map does that was decoded field by field.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::ids(input));
