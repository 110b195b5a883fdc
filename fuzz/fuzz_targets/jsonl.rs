//! Any bytes as `.jsonl` and any lines in them: what lies there and matches its checksum, or damage.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::jsonl(input));
