//! The door for MANIFEST.

use crate::format::crc32c;
use crate::format::header::DecodeError;
use crate::format::manifest::Manifest;

/// Where the length of the sections stands.
const SECTIONS_AT: usize = 56;
const HEAD_LEN: usize = 64;

/// Any bytes as MANIFEST without its checksum, which is made right: refused, or written again byte by byte. What a plain
/// walk through the sections finds must be unsupported is called so, whatever else is wrong.
pub fn manifest(input: &[u8]) {
    let bytes = [input, &crc32c(input).to_le_bytes()].concat();
    let decoded = Manifest::decode(&bytes);
    let is_ours = input.starts_with(b"VECMANIF\x01\0\0\0");
    if is_ours && is_of_a_later_release(input) {
        assert!(
            matches!(decoded, Err(DecodeError::Unsupported(..))),
            "flags that are not known: {decoded:?}"
        );
    }
    let Ok(manifest) = decoded else { return };
    assert!(is_ours, "another magic or version");
    assert_eq!(manifest.encode().as_deref(), Ok(&bytes[..]), "written again it is another");
    assert_eq!(manifest.len(), bytes.len() as u64);
    let mut with = manifest.clone();
    with.sections.set_attributes(Some("{}"));
    if manifest.sections.room_for_attributes() >= 2 {
        let again = with.encode().and_then(|bytes| Manifest::decode(&bytes));
        assert_eq!(again.as_ref().map(|again| again.sections.attributes()), Ok(Some("{}")));
    }
    with.sections.set_attributes(manifest.sections.attributes());
    let same = manifest.sections.attributes().is_none() || with.encode().map(|b| b.len()) == Ok(bytes.len());
    assert!(same, "the other sections changed");
}

/// Whether a section has a flag that is not known, or must be known to read and is not.
fn is_of_a_later_release(covered: &[u8]) -> bool {
    let number = |at: usize, width: usize| {
        let bytes = covered.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    };
    let start = number(SECTIONS_AT, 8).map(|both| both & 0xffff_ffff);
    let Some(mut at) = start.and_then(|len| covered.len().checked_sub(len)).filter(|at| *at >= HEAD_LEN)
    else {
        return false;
    };
    while let (Some(tag), Some(flags)) = (number(at, 2), number(at + 2, 2)) {
        if flags > 3 || (flags & 1 == 1 && ![1, 2].contains(&tag)) {
            return true;
        }
        let Some(len) = number(at + 4, 4) else { return false };
        at += 8 + len;
    }
    false
}
