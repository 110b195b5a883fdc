//! Any bytes as JSON lines: what serde_json makes of each line, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone_arrow::fuzzing::json_lines(input));
