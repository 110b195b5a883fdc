//! Any numbers in files of centres and codes, with right checksums: searches find rows that are there, with their distances.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::codes(input));
