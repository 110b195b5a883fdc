//! How the components of a row are stored: the one place that turns rows into bytes and back.
//!
//! Everywhere else a stored row is bytes, and its components are asked for here. f32 is stored as it lies in memory (a
//! big-endian machine is refused by the compiler), so that nothing is copied for it.

use crate::types::error::{Error, Result};
use std::borrow::Cow;

/// How one component of a row is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
#[non_exhaustive]
pub enum Element {
    /// 32-bit IEEE 754, little-endian.
    #[default]
    F32 = 1,
    // 2 f16, 3 bf16, 4 i8, 5 bits: reserved in the format, refused by this release.
}

/// The largest element number this release reads.
pub(crate) const ELEMENT_NEWEST: u64 = Element::F32 as u64;

impl Element {
    pub(crate) fn from_byte(byte: u8) -> Option<Element> {
        (byte == Element::F32 as u8).then_some(Element::F32)
    }

    /// Bytes of one component.
    pub fn bytes(self) -> u64 {
        match self {
            Element::F32 => 4,
        }
    }

    /// The name used in `info`: `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
        }
    }

    /// The type in the notation of NumPy and of Arrow's tensors: `<f4`.
    pub fn numpy(self) -> &'static str {
        match self {
            Element::F32 => "<f4",
        }
    }

    /// Bytes of a row of `dim` components.
    pub(crate) fn stride(self, dim: u32) -> u64 {
        u64::from(dim) * self.bytes()
    }

    /// Components as they are stored.
    pub(crate) fn encode(self, components: &[f32]) -> Cow<'_, [u8]> {
        match self {
            Element::F32 => Cow::Borrowed(bytemuck::cast_slice(components)),
        }
    }

    /// Stored rows as components. `bytes` begin where a row begins in a mapping.
    pub(crate) fn decode(self, bytes: &[u8]) -> Cow<'_, [f32]> {
        match self {
            Element::F32 => Cow::Borrowed(bytemuck::cast_slice(bytes)),
        }
    }

    /// Stored rows as components where they lie; `None` if they have to be converted.
    pub(crate) fn borrow(self, bytes: &[u8]) -> Option<&[f32]> {
        match self.decode(bytes) {
            Cow::Borrowed(components) => Some(components),
            Cow::Owned(_) => None,
        }
    }

    /// Has `read` give the bytes of as many components as `out` takes, and puts the components there.
    pub(crate) fn read<T>(self, out: &mut [f32], read: impl FnOnce(&mut [u8]) -> T) -> T {
        match self {
            Element::F32 => read(bytemuck::cast_slice_mut(out)),
        }
    }
}

/// Refuses NaN and infinity, naming the first by row and component.
pub(crate) fn check_finite(row: usize, vector: &[f32]) -> Result<()> {
    #[cfg(test)]
    if crate::sys::planted::is(crate::sys::planted::Bug::UncheckedInput) {
        return Ok(());
    }
    // The sum of x * 0 is 0 exactly if every x is finite; many lanes let the compiler keep several vector
    // registers busy.
    let mut lanes = [0f32; 32];
    let mut chunks = vector.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * 0.0;
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|x| x * 0.0).sum();
    if lanes.iter().sum::<f32>() + rest == 0.0 {
        return Ok(());
    }
    let component = vector.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(Error::NonFinite { row, component })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finite_check_names_row_and_component() {
        assert!(check_finite(0, &[f32::MAX, -f32::MAX, f32::MIN_POSITIVE, 0.0, -0.0]).is_ok());
        for dim in [1, 7, 31, 32, 33, 65] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..dim {
                    let mut vector = vec![1.5f32; dim];
                    vector[at] = bad;
                    let found = check_finite(3, &vector);
                    assert!(
                        matches!(found, Err(Error::NonFinite { row: 3, component }) if component == at),
                        "dim {dim}, {bad} at {at}: {found:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_go_to_bytes_and_back() {
        let row = [1.5f32, -0.0, f32::MIN_POSITIVE, f32::MAX];
        for element in (0..=u8::MAX).filter_map(Element::from_byte) {
            let bytes = element.encode(&row).into_owned();
            assert_eq!(bytes.len() as u64, element.stride(4));
            let mut out = [0.0; 4];
            element.read(&mut out, |to| to.copy_from_slice(&bytes));
            assert_eq!(out.map(f32::to_bits), row.map(f32::to_bits), "{}", element.numpy());
        }
        let mapped: Vec<f32> = row.to_vec();
        assert_eq!(Element::F32.borrow(bytemuck::cast_slice(&mapped)), Some(&row[..]));
        assert_eq!(
            bytemuck::cast_slice::<f32, u8>(&row),
            &*Element::F32.encode(&row),
            "little-endian, as in memory"
        );
    }
}
