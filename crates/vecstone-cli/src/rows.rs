//! Reads the rows of a .npy file in bulk, as float32, a batch at a time.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::f16;

use crate::failure::{Failure, Result};
use crate::npy::{Dtype, Layout};

/// Bytes read by one call; small enough to stay in the processor's cache until converted.
const PIECE: usize = 1 << 20;

/// Rows of a .npy file, from the first to the last. Memory: one piece, or one column of a batch.
pub(crate) struct Rows {
    path: PathBuf,
    file: File,
    layout: Layout,
    next: u64,
    raw: Vec<u8>,
    column: Vec<f32>,
}

impl Rows {
    pub(crate) fn new(path: &Path, file: File, layout: Layout) -> Rows {
        Rows { path: path.to_owned(), file, layout, next: 0, raw: Vec::new(), column: Vec::new() }
    }

    pub(crate) fn left(&self) -> u64 {
        self.layout.rows - self.next
    }

    /// Replaces `vectors` by the next `count` rows, row-major.
    pub(crate) fn read(&mut self, count: usize, vectors: &mut Vec<f32>) -> Result<()> {
        debug_assert!(count as u64 <= self.left(), "checked by the caller");
        let components = count * self.layout.dim;
        let more = components.saturating_sub(vectors.len());
        if vectors.try_reserve_exact(more).is_err() {
            let need = components as u64 * 4;
            return Err(Failure::error(format!(
                "not enough memory for a batch of {need} bytes; use --batch-rows"
            )));
        }
        if self.layout.fortran {
            self.read_columns(count, vectors)?;
        } else if self.layout.dtype == Dtype::F32 && !self.layout.big_endian {
            self.read_as_they_lie(components, vectors)?;
        } else {
            self.read_rows(components, vectors)?;
        }
        self.next += count as u64;
        Ok(())
    }

    /// The common case: the file's bytes are the rows.
    fn read_as_they_lie(&mut self, components: usize, vectors: &mut Vec<f32>) -> Result<()> {
        self.seek(self.next * self.layout.dim as u64)?;
        vectors.resize(components, 0.0);
        let bytes = bytemuck::cast_slice_mut(vectors);
        self.file.read_exact(bytes).map_err(|e| cannot_read(&self.path, &e))
    }

    fn read_rows(&mut self, components: usize, vectors: &mut Vec<f32>) -> Result<()> {
        vectors.clear();
        let size = self.layout.dtype.bytes();
        self.seek(self.next * self.layout.dim as u64)?;
        let mut left = components * size;
        while left > 0 {
            let piece = left.min(PIECE);
            self.fill(piece)?;
            self.layout.convert(&self.raw[..piece], vectors);
            left -= piece;
        }
        Ok(())
    }

    /// One strip per column, scattered into the rows of the batch.
    fn read_columns(&mut self, count: usize, vectors: &mut Vec<f32>) -> Result<()> {
        let dim = self.layout.dim;
        vectors.resize(count * dim, 0.0);
        for column in 0..dim {
            self.seek(column as u64 * self.layout.rows + self.next)?;
            let strip = count * self.layout.dtype.bytes();
            self.fill(strip)?;
            self.column.clear();
            self.layout.convert(&self.raw[..strip], &mut self.column);
            for (row, x) in vectors.chunks_exact_mut(dim).zip(&self.column) {
                row[column] = *x;
            }
        }
        Ok(())
    }

    fn seek(&mut self, component: u64) -> Result<()> {
        let at = self.layout.start + component * self.layout.dtype.bytes() as u64;
        self.file.seek(SeekFrom::Start(at)).map(|_| ()).map_err(|e| Failure::io(&self.path, "read", &e))
    }

    fn fill(&mut self, bytes: usize) -> Result<()> {
        if self.raw.len() < bytes {
            self.raw.resize(bytes, 0);
        }
        self.file.read_exact(&mut self.raw[..bytes]).map_err(|e| cannot_read(&self.path, &e))
    }
}

fn cannot_read(path: &Path, e: &std::io::Error) -> Failure {
    match e.kind() {
        ErrorKind::UnexpectedEof => Failure::file(path, "became shorter while it was read; import it again"),
        _ => Failure::io(path, "read", e),
    }
}

impl Layout {
    /// Appends the components in `raw` to `to`; one tight loop per type.
    fn convert(&self, raw: &[u8], to: &mut Vec<f32>) {
        match (self.dtype, self.big_endian) {
            (Dtype::F32, false) => extend(to, raw, f32::from_le_bytes),
            (Dtype::F32, true) => extend(to, raw, |b| f32::from_bits(u32::from_le_bytes(b).swap_bytes())),
            (Dtype::F16, false) => extend(to, raw, |b| f16::from_le_bytes(b).to_f32()),
            (Dtype::F16, true) => {
                extend(to, raw, |b| f16::from_bits(u16::from_le_bytes(b).swap_bytes()).to_f32());
            }
            (Dtype::F64, false) => extend(to, raw, |b| narrow(f64::from_le_bytes(b))),
            (Dtype::F64, true) => {
                extend(to, raw, |b| narrow(f64::from_bits(u64::from_le_bytes(b).swap_bytes())));
            }
        }
    }
}

fn extend<const N: usize>(to: &mut Vec<f32>, raw: &[u8], from: impl Fn([u8; N]) -> f32) {
    to.extend(raw.as_chunks::<N>().0.iter().map(|bytes| from(*bytes)));
}

/// Beyond the range of f32 this is infinity, which the store refuses by row and column.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what was asked for")]
fn narrow(x: f64) -> f32 {
    x as f32
}
