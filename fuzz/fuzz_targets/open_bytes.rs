//! Any bytes as `.dat`, `.idx` and MANIFEST: open, read, search, verify, write. No panic, and a reader and a writer agree.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::open_bytes(input));
