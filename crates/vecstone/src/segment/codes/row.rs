//! A row as it is stored: the code of each part of it, with bounds of what they leave out.

use crate::segment::codes::cluster::Matrix;
use crate::segment::codes::frame::{Frame, distance, norm, outward};
use crate::segment::codes::part::{Back, Part};
use crate::sys::kernel::Kernels;
use crate::sys::kernel::codes::{Correction, Residual, Scratch};
use crate::types::config::Metric;
use std::ops::Range;

/// A partition in the making.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) centre: u32,
    /// Of the first part of the rows.
    pub(crate) codes: Vec<u8>,
    pub(crate) a: Vec<f32>,
    pub(crate) h: Vec<f32>,
    pub(crate) e: Vec<f32>,
    /// What is beyond the first part; empty if that is all.
    pub(crate) beyond: Vec<f32>,
    /// Of each row the second part of its code with its numbers, if there is one, and its ordinal.
    pub(crate) back: Vec<u8>,
    pub(crate) radii: [f32; 2],
    pub(crate) norm: f32,
}

impl NewBlock {
    pub(crate) fn new(centre: u32) -> NewBlock {
        let [codes, back] = [const { Vec::new() }; 2];
        let [a, h, e, beyond] = [const { Vec::new() }; 4];
        NewBlock { centre, codes, a, h, e, beyond, back, radii: [f32::INFINITY, 0.0], norm: 0.0 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.a.len()
    }

    fn push(&mut self, of: Correction) {
        self.a.push(of.a);
        self.h.push(of.h);
        self.e.push(of.e);
    }

    /// Adds what another partition has of a row.
    pub(crate) fn copy(&mut self, (front, back): (&Part<'_>, &Back<'_>), row: usize, ordinal: u32) {
        let first = front.row(row);
        self.codes.extend_from_slice(first.code);
        self.push(first.correction);
        self.beyond.extend(front.corrections.beyond.get(row));
        let record = back.record(row);
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
        let (first, inner) = (self.frame.first(), self.frame.metric == Metric::Ip);
        let mut one = self.part(0, 0..first, (place, centre), &mut block.codes);
        if first < place.len() {
            let mut two = self.part(1, first..place.len(), (place, centre), &mut block.back);
            let beyond = distance(&place[first..], &centre[first..]);
            if !inner {
                // The first estimate counts the squares of all components.
                let half = beyond * beyond / 2.0;
                #[expect(clippy::cast_possible_truncation, reason = "stored as f32")]
                let moved = [(f64::from(one.h) - half) as f32, (f64::from(two.h) + half) as f32];
                [one.h, two.h] = moved;
            }
            two.e = outward(f64::from(one.e).hypot(f64::from(two.e)), true);
            let beyond = outward(beyond, true);
            if !(one.h.is_finite() && two.h.is_finite() && beyond.is_finite()) {
                [one.e, two.e] = [f32::INFINITY; 2];
            }
            block.beyond.push(beyond);
            [two.a, two.h, two.e].iter().for_each(|number| block.back.extend(number.to_le_bytes()));
        }
        block.push(one);
        block.back.extend(ordinal.to_le_bytes());
        let (radius, norm) = (distance(place, centre), norm(place));
        let bounds = [outward(radius, false), outward(radius, true)];
        block.radii = [block.radii[0].min(bounds[0]), block.radii[1].max(bounds[1])];
        block.norm = block.norm.max(outward(norm, true));
    }

    /// The code of a part of what is at `place`, less its centre, behind `out`.
    fn part(
        &mut self,
        n: usize,
        components: Range<usize>,
        (place, centre): (&[f32], &[f32]),
        out: &mut Vec<u8>,
    ) -> Correction {
        let inner = self.frame.metric == Metric::Ip;
        let start = out.len();
        out.resize(start + components.len() / 2, 0);
        let residual = Residual { vector: &place[components.clone()], centre: &centre[components], inner };
        (self.kernels.encode)(&residual, &mut self.scratch[n], &mut out[start..])
    }
}

/// Of each part of some centres, coded as they are: the codes, then the array of each number. For the second part nothing if
/// the frame has one part.
pub(crate) fn parts_of_centres(
    kernels: &'static Kernels,
    frame: &Frame,
    centres: Matrix<'_>,
) -> [Vec<u8>; 2] {
    let (mut encoder, origin) = (Encoder::new(kernels, frame), vec![0f32; centres.width]);
    let first = frame.first();
    let mut part = |n: usize, components: Range<usize>| {
        let (mut codes, mut numbers) = (Vec::new(), [const { Vec::new() }; 3]);
        if components.is_empty() {
            return codes;
        }
        for row in 0..centres.rows() {
            let of = encoder.part(n, components.clone(), (centres.row(row), &origin), &mut codes);
            numbers.iter_mut().zip([of.a, of.h, of.e]).for_each(|(out, number)| out.push(number));
        }
        numbers.iter().flatten().for_each(|number: &f32| codes.extend(number.to_le_bytes()));
        codes
    };
    [part(0, 0..first), part(1, first..centres.width)]
}
