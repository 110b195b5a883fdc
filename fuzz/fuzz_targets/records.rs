//! The record parser against a naive one written from the specification, and every decoder on any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// `[u32 length][id][u64 offset]`, read as the specification says it, one field after the other.
fn naive(bytes: &[u8]) -> (Vec<(Vec<u8>, Option<u64>)>, usize) {
    let mut found = Vec::new();
    let mut at = 0u64;
    loop {
        let field = |from: u64, len: u64| -> Option<&[u8]> {
            let (from, to) = (usize::try_from(from).ok()?, usize::try_from(from.checked_add(len)?).ok()?);
            if to > bytes.len() { None } else { Some(&bytes[from..to]) }
        };
        let number = |field: &[u8]| field.iter().rev().fold(0u64, |n, byte| (n << 8) | u64::from(*byte));
        let Some(len) = field(at, 4).map(number) else { break };
        let (Some(id), Some(offset)) = (field(at + 4, len), field(at + 4 + len, 8).map(number)) else { break };
        let control = offset == 0xFFFF_FFFF_FFFF_FFFE;
        let deleted = offset == 0xFFFF_FFFF_FFFF_FFFF;
        let too_long = if control { len > 92 + 20 * 4_194_304 } else { len > 65_536 };
        if len == 0 || too_long || (offset >= 1 << 63 && !control && !deleted) {
            break;
        }
        found.push((id.to_vec(), if deleted { None } else { Some(offset) }));
        at += 12 + len;
    }
    (found, usize::try_from(at).unwrap_or(usize::MAX))
}

fuzz_target!(|input: &[u8]| assert_eq!(vecstone::fuzzing::records(input), naive(input)));
