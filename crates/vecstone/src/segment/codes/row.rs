//! A row as it is stored: the code of each part of it, with bounds of what they leave out.

use crate::segment::codes::file::Part;
use crate::segment::codes::frame::{Frame, distance, norm, outward};
use crate::sys::kernel::Kernels;
use crate::sys::kernel::codes::{Correction, Corrections, Residual, Scratch};
use crate::types::config::Metric;
use std::ops::Range;

/// Codes of some rows, of one part.
#[derive(Debug, Default)]
pub(crate) struct NewPart {
    pub(crate) codes: Vec<u8>,
    pub(crate) a: Vec<f32>,
    pub(crate) h: Vec<f32>,
    pub(crate) e: Vec<f32>,
}

impl NewPart {
    fn push(&mut self, of: Correction) {
        self.a.push(of.a);
        self.h.push(of.h);
        self.e.push(of.e);
    }

    /// Adds what another partition has of a row.
    pub(crate) fn copy(&mut self, from: &Part<'_>, row: usize) {
        self.codes.extend_from_slice(from.code(row));
        let Corrections { a, h, e, .. } = from.corrections;
        self.push(Correction { a: a[row], h: h[row], e: e[row] });
    }
}

/// A partition in the making.
#[derive(Debug, Default)]
pub(crate) struct NewBlock {
    pub(crate) centre: u32,
    pub(crate) first: NewPart,
    /// What is beyond the first part; empty if that is all.
    pub(crate) beyond: Vec<f32>,
    pub(crate) second: NewPart,
    pub(crate) ordinals: Vec<u32>,
    pub(crate) radii: [f32; 2],
    pub(crate) norm: f32,
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
        let mut one = self.part(0, 0..first, (place, centre), &mut block.first);
        if first < place.len() {
            let mut two = self.part(1, first..place.len(), (place, centre), &mut block.second);
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
            block.second.push(two);
        }
        block.first.push(one);
        block.ordinals.push(ordinal);
        let (radius, norm) = (distance(place, centre), norm(place));
        let bounds = [outward(radius, false), outward(radius, true)];
        block.radii = [block.radii[0].min(bounds[0]), block.radii[1].max(bounds[1])];
        block.norm = block.norm.max(outward(norm, true));
    }

    fn part(
        &mut self,
        n: usize,
        components: Range<usize>,
        (place, centre): (&[f32], &[f32]),
        out: &mut NewPart,
    ) -> Correction {
        let inner = self.frame.metric == Metric::Ip;
        let start = out.codes.len();
        out.codes.resize(start + components.len() / 2, 0);
        let residual = Residual { vector: &place[components.clone()], centre: &centre[components], inner };
        (self.kernels.encode)(&residual, &mut self.scratch[n], &mut out.codes[start..])
    }
}
