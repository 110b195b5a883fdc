//! Codes as they are stored: of the first part of some vectors one after the other, of the second in records.

use crate::format::Fields;
use crate::sys::kernel;
use crate::sys::kernel::codes::{self, Correction, Corrections};
use crate::types::element::Element;
use std::ops::Range;

/// Bytes that are asked for ahead.
const AHEAD: usize = 256;

/// The first part of the codes of a partition.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part<'a> {
    pub(crate) codes: &'a [u8],
    /// Bytes of a code.
    pub(crate) code: usize,
    pub(crate) corrections: Corrections<'a>,
}

/// The first part of the codes of a partition, by signs and by 4 bits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signed<'a> {
    pub(crate) signs: Signs<'a>,
    pub(crate) front: Part<'a>,
}

impl Signed<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.front.corrections.a.len()
    }

    /// Asks memory for the first signs, and for what is beyond. The processor goes on by itself.
    pub(crate) fn prefetch(&self) {
        let (signs, beyond) = (self.signs.codes, self.signs.corrections.beyond);
        kernel::prefetch(&signs[..signs.len().min(AHEAD)]);
        kernel::prefetch(&beyond[..beyond.len().min(AHEAD / size_of::<f32>())]);
    }
}

/// The first part of the codes of a partition, by signs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs<'a> {
    /// Packed.
    codes: &'a [u8],
    /// Bytes of a code.
    code: usize,
    pub(crate) corrections: Corrections<'a>,
}

impl<'a> Signs<'a> {
    /// Of so many rows, of so many bytes each, with what is beyond.
    pub(crate) fn of(bytes: &'a [u8], rows: usize, code: usize, beyond: &'a [f32]) -> Option<Signs<'a>> {
        let (codes, rest) = bytes.split_at_checked(codes::sign_bytes(rows, code))?;
        let floats = |n: usize| Element::F32.borrow(rest.get(n * rows * 4..(n + 1) * rows * 4)?);
        Some(Signs {
            codes,
            code,
            corrections: Corrections { a: floats(0)?, h: floats(1)?, e: floats(2)?, beyond },
        })
    }

    /// The codes of some rows, from the start of a block on.
    pub(crate) fn codes(&self, rows: &Range<usize>) -> &'a [u8] {
        let end = rows.end.next_multiple_of(codes::SIGN_BLOCK);
        &self.codes[rows.start * self.code..end * self.code]
    }

    /// The code of a row, component by component, and what is beside it.
    pub(crate) fn row(&self, row: usize) -> (Vec<u8>, Correction) {
        let Corrections { a, h, e, .. } = self.corrections;
        let correction = Correction { a: a[row], h: h[row], e: e[row] };
        (codes::unpack_signs(self.codes, self.code, row), correction)
    }
}

/// One part of the code of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCode<'a> {
    pub(crate) code: &'a [u8],
    pub(crate) correction: Correction,
}

impl<'a> Part<'a> {
    /// The first part of some rows, of so many bytes each, with what is beyond it, or without.
    pub(crate) fn of(bytes: &'a [u8], rows: usize, code: usize, is_all: bool) -> Option<Part<'a>> {
        let (codes, rest) = bytes.split_at_checked(rows * code)?;
        let floats = |n: usize| Element::F32.borrow(rest.get(n * rows * 4..(n + 1) * rows * 4)?);
        let beyond = if is_all { &[][..] } else { floats(3)? };
        Some(Part {
            codes,
            code,
            corrections: Corrections { a: floats(0)?, h: floats(1)?, e: floats(2)?, beyond },
        })
    }

    /// Asks memory for what there is of a row.
    pub(crate) fn prefetch(&self, row: usize) {
        kernel::prefetch(self.row(row).code);
        let Corrections { a, h, e, beyond } = self.corrections;
        [a, h, e, beyond]
            .into_iter()
            .for_each(|array| kernel::prefetch(array.get(row..=row).unwrap_or_default()));
    }

    pub(crate) fn row(&self, row: usize) -> RowCode<'a> {
        let bytes = self.code;
        let Corrections { a, h, e, .. } = self.corrections;
        let correction = Correction { a: a[row], h: h[row], e: e[row] };
        RowCode { code: &self.codes[row * bytes..(row + 1) * bytes], correction }
    }
}

/// What is read of the rows of a partition that their first part does not exclude: one record for each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Back<'a> {
    pub(crate) records: &'a [u8],
    /// Bytes of the second part of a code.
    pub(crate) code: usize,
}

/// Bytes of the numbers beside the second part of a code, and of an ordinal.
const NUMBERS: usize = 12;
const ORDINAL: usize = 4;

impl<'a> Back<'a> {
    /// Bytes of a record, of a second part with so many components.
    pub(crate) fn bytes(components: usize) -> usize {
        if components > 0 { components / 2 + NUMBERS + ORDINAL } else { ORDINAL }
    }

    /// All of a row.
    pub(crate) fn record(&self, row: usize) -> &'a [u8] {
        let bytes = Back::bytes(self.code * 2);
        &self.records[row * bytes..(row + 1) * bytes]
    }

    pub(crate) fn ordinal(&self, row: usize) -> u32 {
        let record = self.record(row);
        Fields(&record[record.len() - ORDINAL..]).u32().unwrap_or(u32::MAX)
    }

    /// The second part of the code of a row, if there is one.
    pub(crate) fn second(&self, row: usize) -> Option<RowCode<'a>> {
        if self.code == 0 {
            return None;
        }
        let (code, numbers) = self.record(row).split_at(self.code);
        let mut fields = Fields(numbers);
        let mut number = || fields.u32().map(f32::from_bits);
        Some(RowCode { code, correction: Correction { a: number()?, h: number()?, e: number()? } })
    }
}
