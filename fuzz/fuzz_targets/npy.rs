//! Any bytes as a `.npy` header: what a naive reader of it says, or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vecstone_cli::fuzzing::npy(input));
