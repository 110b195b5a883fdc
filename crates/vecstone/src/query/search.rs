//! What a search is asked for, what it looks through and what it finds.

use crate::buffer;
use crate::query::filter::Filter;
use crate::segment::version::{At, Version};
use crate::types::id::Id;
use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

/// Which rows a search is about, and what it gives back beside ids and distances.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SearchOptions {
    /// The vectors.
    pub vectors: bool,
    /// The documents.
    pub documents: bool,
    /// Only rows that it selects.
    pub filter: Option<Filter>,
    /// Only rows at this distance or nearer.
    pub radius: Option<f32>,
}

impl SearchOptions {
    /// Ids and distances only, of all rows.
    pub fn new() -> SearchOptions {
        SearchOptions::default()
    }

    /// With the vector of each result.
    pub fn with_vectors(mut self) -> SearchOptions {
        self.vectors = true;
        self
    }

    /// With the document of each result.
    pub fn with_documents(mut self) -> SearchOptions {
        self.documents = true;
        self
    }

    /// Among the rows that the filter selects only: the `k` nearest of them, or all if they are fewer.
    pub fn filter(mut self, filter: Filter) -> SearchOptions {
        self.filter = Some(filter);
        self
    }

    /// Only rows whose [`distance`](Neighbor::distance), as it is given back, is at most `radius`: the `k` nearest of
    /// them, or all if they are fewer. In the units of the store's metric: `l2` is squared.
    pub fn radius(mut self, radius: f32) -> SearchOptions {
        self.radius = Some(radius);
        self
    }
}

/// What a search found. Used like a slice of [`Neighbor`]s, nearest first.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Hits {
    /// Nearest first; of two at the same distance the older first.
    pub hits: Vec<Neighbor>,
    /// Whether these are surely the nearest. Always true in this release.
    pub exact: bool,
    /// Rows whose vectors were read to measure their distance, buffered ones included.
    pub rows_read: u64,
}

impl Deref for Hits {
    type Target = [Neighbor];

    fn deref(&self) -> &[Neighbor] {
        &self.hits
    }
}

impl IntoIterator for Hits {
    type Item = Neighbor;
    type IntoIter = std::vec::IntoIter<Neighbor>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.into_iter()
    }
}

impl<'a> IntoIterator for &'a Hits {
    type Item = &'a Neighbor;
    type IntoIter = std::slice::Iter<'a, Neighbor>;

    fn into_iter(self) -> Self::IntoIter {
        self.hits.iter()
    }
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Neighbor {
    /// The id.
    pub id: Id,
    /// Its distance from the query in the store's metric; smaller is nearer. Never NaN.
    pub distance: f32,
    /// Its vector, if the search was to give it.
    pub vector: Option<Vec<f32>>,
    /// Its JSON document, if the search was to give it and there is one.
    pub document: Option<String>,
}

/// A row and its distance. Ordered by distance, then by age: rows of the files before those of the buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f64,
    /// Place of the segment in the version; `BUFFER` for the buffer.
    pub(crate) segment: usize,
    /// Row of the segment, or op of the buffer.
    pub(crate) row: u64,
}

/// The place of the buffer: behind all segments.
pub(crate) const BUFFER: usize = usize::MAX;

impl Candidate {
    /// The row, unless it is in the buffer.
    pub(crate) fn at(&self) -> Option<At> {
        let row = u32::try_from(self.row).ok()?;
        (self.segment != BUFFER).then_some(At { segment: self.segment, row })
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        // Only a damaged row has a distance that is NaN; it sorts last.
        let nan = self.distance.is_nan().cmp(&other.distance.is_nan());
        let distance = self.distance.partial_cmp(&other.distance).unwrap_or(nan);
        distance.then((self.segment, self.row).cmp(&(other.segment, other.row)))
    }
}

/// What a search looks through.
pub(crate) struct Rows<'a> {
    /// The live rows of the files.
    pub(crate) version: Arc<Version>,
    pub(crate) buffered: &'a buffer::BufferSnapshot,
    /// Puts of the buffer, by number.
    pub(crate) puts: Vec<u64>,
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> u64 {
        self.version.live() + self.puts.len() as u64
    }
}
