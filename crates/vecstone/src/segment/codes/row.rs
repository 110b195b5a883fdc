//! A row as it is stored: the code of each part of it, with bounds of what they leave out.

use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::frame::{Frame, distance, norm, outward};
use crate::segment::codes::part::RowCode;
use crate::sys::kernel::Kernels;
use crate::sys::kernel::codes::{self, Correction, Residual, Scratch};
use crate::types::config::Metric;
use std::ops::Range;

/// A partition in the making.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) centre: u32,
    /// Rows, and copies of rows of other partitions.
    pub(crate) parts: [NewCodes; 2],
    pub(crate) radii: [f32; 2],
    pub(crate) norm: f32,
}

/// Codes in the making.
#[derive(Debug, Default)]
pub(crate) struct NewCodes {
    /// Of the first part by signs, and by 4 bits a component.
    pub(crate) signs: Coded,
    pub(crate) first: Coded,
    /// What is beyond the first part; empty if that is all.
    pub(crate) beyond: Vec<f32>,
    /// Of each row the second part of its code with its numbers, if there is one, and its ordinal.
    pub(crate) back: Vec<u8>,
}

/// Codes of one form, one after the other, and the numbers beside them.
#[derive(Debug, Default)]
pub(crate) struct Coded {
    pub(crate) codes: Vec<u8>,
    pub(crate) a: Vec<f32>,
    pub(crate) h: Vec<f32>,
    pub(crate) e: Vec<f32>,
}

impl Coded {
    fn push(&mut self, of: Correction) {
        self.a.push(of.a);
        self.h.push(of.h);
        self.e.push(of.e);
    }

    /// The codes, then the array of each number.
    fn bytes(mut self) -> Vec<u8> {
        let numbers = [self.a, self.h, self.e].concat();
        self.codes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self.codes
    }

    fn take(&mut self, code: &[u8], of: Correction) {
        self.codes.extend_from_slice(code);
        self.push(of);
    }
}

impl NewBlock {
    pub(crate) fn new(centre: u32) -> NewBlock {
        NewBlock {
            centre,
            parts: [NewCodes::default(), NewCodes::default()],
            radii: [f32::INFINITY, 0.0],
            norm: 0.0,
        }
    }
}

impl NewCodes {
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.first.a.len()).unwrap_or(u32::MAX)
    }

    /// Takes a row of another file: its codes of the first part, what is beyond, its record, and its new ordinal.
    pub(crate) fn take(
        &mut self,
        ((signs, of_signs), first): ((Vec<u8>, Correction), RowCode<'_>),
        (beyond, record): (Option<&f32>, &[u8]),
        ordinal: u32,
    ) {
        self.signs.take(&signs, of_signs);
        self.first.take(first.code, first.correction);
        self.beyond.extend(beyond);
        self.back.extend_from_slice(&record[..record.len() - 4]);
        self.back.extend(ordinal.to_le_bytes());
    }
}

/// Codes rows.
pub(crate) struct Encoder<'a> {
    kernels: &'static Kernels,
    frame: &'a Frame,
    scratch: [Scratch; 2],
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(kernels: &'static Kernels, frame: &'a Frame) -> Encoder<'a> {
        let (first, width) = (frame.first(), Frame::padded(frame.dim));
        Encoder { kernels, frame, scratch: [Scratch::new(first), Scratch::new(width - first)] }
    }

    /// Adds a row, which is at `place` in the frame, to the partition of its centre. O(components).
    pub(crate) fn add(&mut self, block: &mut NewBlock, place: &[f32], centre: &[f32], ordinal: u32) {
        self.code(&mut block.parts[0], place, centre, ordinal);
        let (radius, norm) = (distance(place, centre), norm(place));
        let bounds = [outward(radius, false), outward(radius, true)];
        block.radii = [block.radii[0].min(bounds[0]), block.radii[1].max(bounds[1])];
        block.norm = block.norm.max(outward(norm, true));
    }

    /// Adds a row of another partition.
    pub(crate) fn add_copy(&mut self, block: &mut NewBlock, place: &[f32], centre: &[f32], ordinal: u32) {
        self.code(&mut block.parts[1], place, centre, ordinal);
    }

    fn code(&mut self, out: &mut NewCodes, place: &[f32], centre: &[f32], ordinal: u32) {
        let (first, inner) = (self.frame.first(), self.inner());
        let mut one = self.part(0, 0..first, (place, centre), &mut out.first.codes);
        let mut signs = self.signs((&place[..first], &centre[..first]), &mut out.signs.codes);
        if first < place.len() {
            let mut two = self.part(1, first..place.len(), (place, centre), &mut out.back);
            let beyond = distance(&place[first..], &centre[first..]);
            if !inner {
                // The first estimate counts the squares of all components.
                let half = beyond * beyond / 2.0;
                #[expect(clippy::cast_possible_truncation, reason = "stored as f32")]
                let moved = |h: f32, by: f64| (f64::from(h) + by) as f32;
                (signs.h, one.h, two.h) = (moved(signs.h, -half), moved(one.h, -half), moved(two.h, half));
            }
            two.e = outward(f64::from(one.e).hypot(f64::from(two.e)), true);
            let beyond = outward(beyond, true);
            if !(one.h.is_finite() && two.h.is_finite() && beyond.is_finite()) {
                [one.e, two.e] = [f32::INFINITY; 2];
            }
            if !(signs.h.is_finite() && beyond.is_finite()) {
                signs.e = f32::INFINITY;
            }
            out.beyond.push(beyond);
            [two.a, two.h, two.e].iter().for_each(|number| out.back.extend(number.to_le_bytes()));
        }
        out.first.push(one);
        out.signs.push(signs);
        out.back.extend(ordinal.to_le_bytes());
    }

    /// The code of a part of what is at `place`, less its centre, behind `out`.
    fn part(
        &mut self,
        n: usize,
        components: Range<usize>,
        (place, centre): (&[f32], &[f32]),
        out: &mut Vec<u8>,
    ) -> Correction {
        let start = out.len();
        out.resize(start + components.len() / 2, 0);
        let (vector, centre) = (&place[components.clone()], &centre[components]);
        let residual = Residual { vector, centre, inner: self.inner() };
        (self.kernels.encode)(&residual, &mut self.scratch[n], &mut out[start..])
    }

    /// The signs of the first part of a vector less its centre, behind `out`.
    fn signs(&mut self, (vector, centre): (&[f32], &[f32]), out: &mut Vec<u8>) -> Correction {
        let start = out.len();
        out.resize(start + vector.len() / 8, 0);
        let residual = Residual { vector, centre, inner: self.inner() };
        (self.kernels.encode_signs)(&residual, &mut self.scratch[0], &mut out[start..])
    }

    fn inner(&self) -> bool {
        self.frame.metric == Metric::Ip
    }
}

/// Some centres, coded as they are: by each part, for the second nothing if the frame has one part; so the first part by
/// signs. The codes come first, then the array of each number.
pub(crate) fn of_centres(
    kernels: &'static Kernels,
    frame: &Frame,
    centres: Matrix<'_>,
) -> ([Vec<u8>; 2], Vec<u8>) {
    let (mut encoder, origin) = (Encoder::new(kernels, frame), vec![0f32; centres.width]);
    let first = frame.first();
    let ends = [0..first, first..centres.width];
    let parts = [0, 1].map(|n| {
        let (mut coded, components) = (Coded::default(), ends[n].clone());
        for row in (0..centres.rows()).filter(|_| !components.is_empty()) {
            let place = (centres.row(row), &*origin);
            let of = encoder.part(n, components.clone(), place, &mut coded.codes);
            coded.push(of);
        }
        coded.bytes()
    });
    let mut signs = Coded::default();
    for row in 0..centres.rows() {
        let of = encoder.signs((&centres.row(row)[..first], &origin[..first]), &mut signs.codes);
        signs.push(of);
    }
    signs.codes = codes::pack_signs(&signs.codes, first / 8);
    (parts, signs.bytes())
}
