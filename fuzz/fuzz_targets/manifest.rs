//! Any bytes as MANIFEST, with a right checksum: refused, or written again byte by byte; what only a later release
//! may read is called so.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone::fuzzing::manifest(input));
