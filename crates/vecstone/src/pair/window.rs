//! A file through a buffer: for whoever walks along one, and, where that is asked for, past what the disk cannot read.

use crate::format::record::{self, Next, Record};
use crate::pair::files::StoreFile;
use crate::sys::disk::PIECE_BYTES;
use crate::types::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// What is read at a time where the disk gives errors.
const SECTOR: u64 = 4096;

/// A file through a buffer that holds at least what is asked for.
pub(crate) struct Window<'a> {
    pub(crate) file: &'a StoreFile,
    pub(crate) len: u64,
    start: u64,
    bytes: Vec<u8>,
    /// What the disk cannot read is no error.
    goes_on: bool,
    /// Start and end of each place that the disk could not read.
    unreadable: BTreeMap<u64, u64>,
}

impl<'a> Window<'a> {
    /// What the disk cannot read is an error.
    pub(crate) fn new(file: &'a StoreFile, len: u64) -> Window<'a> {
        Window { file, len, start: 0, bytes: Vec::new(), goes_on: false, unreadable: BTreeMap::new() }
    }

    /// What the disk cannot read is zeros, and noted.
    pub(crate) fn past_errors(file: &'a StoreFile, len: u64) -> Window<'a> {
        Window { goes_on: true, ..Window::new(file, len) }
    }

    /// The bytes from `at` on: at least `need`, or all there are.
    pub(crate) fn at_least(&mut self, at: u64, need: usize) -> Result<&[u8]> {
        let available = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let need = need.min(available);
        let have = (self.start + self.bytes.len() as u64).saturating_sub(at);
        if at < self.start || have < need as u64 {
            // Reading ahead in proportion keeps long batches linear.
            let want = need.saturating_mul(2).max(PIECE_BYTES).min(available);
            self.bytes.clear();
            self.bytes.try_reserve_exact(want).map_err(|_| Error::OutOfMemory { bytes: want as u64 })?;
            self.bytes.resize(want, 0);
            self.start = at;
            match self.file.read(&mut self.bytes, at) {
                Err(_) if self.goes_on => self.read_sectors(),
                read => read?,
            }
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    /// Fills the buffer with what can be read.
    fn read_sectors(&mut self) {
        let (mut at, mut rest) = (self.start, &mut self.bytes[..]);
        while !rest.is_empty() {
            let room = usize::try_from(SECTOR - at % SECTOR).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at_mut(room.min(rest.len()));
            let end = at + piece.len() as u64;
            if self.file.read(piece, at).is_err() {
                piece.fill(0);
                note(&mut self.unreadable, at..end);
            }
            (at, rest) = (end, behind);
        }
    }

    /// Whether the disk could not read some of these bytes, which were asked for before.
    pub(crate) fn is_unreadable(&self, bytes: &Range<u64>) -> bool {
        self.unreadable.range(..bytes.end).next_back().is_some_and(|(_, &end)| end > bytes.start)
    }

    /// The places that the disk could not read, of all that was asked for.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = Range<u64>> {
        self.unreadable.iter().map(|(&start, &end)| start..end)
    }

    /// The record at `at`, if it ends at or before `end`; its length.
    pub(crate) fn record(&mut self, at: u64, end: u64) -> Result<Option<(Record<'_>, usize)>> {
        let mut need = record::FRAME_BYTES;
        if let Next::Need(more) = record::next(self.at_least(at, need)?) {
            need = more;
        }
        let bytes = self.at_least(at, need)?;
        let room = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        Ok(match record::next(&bytes[..bytes.len().min(room)]) {
            Next::Record(record, len) => Some((record, len)),
            _ => None,
        })
    }

    /// The bytes from `at` on, which were asked for last.
    pub(crate) fn held(&self, at: u64) -> &[u8] {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }

    /// Looks through a range, a piece after the other, until something is found. Each piece has the last `overlap` bytes of
    /// the one before.
    pub(crate) fn search<T>(
        &mut self,
        range: Range<u64>,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut at = range.start;
        while at < range.end {
            let bytes = self.at_least(at, PIECE_BYTES)?;
            let room = usize::try_from(range.end - at).unwrap_or(usize::MAX);
            let bytes = &bytes[..bytes.len().min(room)];
            if let Some(found) = look(at, bytes) {
                return Ok(Some(found));
            }
            if at + bytes.len() as u64 >= range.end || bytes.len() <= overlap {
                break;
            }
            at += (bytes.len() - overlap) as u64;
        }
        Ok(None)
    }

    /// Where these bytes stand next within a range.
    pub(crate) fn find(&mut self, pattern: [u8; 8], range: Range<u64>) -> Result<Option<u64>> {
        self.search(range, pattern.len() - 1, |at, bytes| {
            let found = bytes.windows(pattern.len()).position(|window| window == pattern)?;
            Some(at + found as u64)
        })
    }
}

/// Adds a place, joined with the one before where they meet.
fn note(places: &mut BTreeMap<u64, u64>, place: Range<u64>) {
    match places.range_mut(..=place.start).next_back() {
        Some((_, end)) if *end >= place.start => *end = place.end.max(*end),
        _ => _ = places.insert(place.start, place.end),
    }
}
