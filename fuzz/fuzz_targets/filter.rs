//! Any text as a filter, any text as a document: what a plain evaluator says.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::filter(input));
