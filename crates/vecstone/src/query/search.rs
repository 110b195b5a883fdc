//! What a search is asked for, what it looks through and what it finds.

use crate::buffer;
use crate::query::explain::{Explain, SearchPath};
use crate::query::filter::Filter;
use crate::segment::version::{At, Version};
use crate::types::config::check_recall;
use crate::types::error::{Error, Result};
use crate::types::id::Id;
use std::cmp::Ordering;
use std::ops::Index;
use std::sync::Arc;
use std::time::Duration;

/// Which rows a search is about, and what it gives back beside ids and distances.
///
/// ```
/// # let dir = tempfile::tempdir().expect("a place");
/// # let path = dir.path().join("store");
/// # let store = vecstone::VectorStore::create(&path, 1, vecstone::Metric::L2)?;
/// use vecstone::{Filter, SearchOptions};
///
/// store.put_with_document("old", &[1.0], r#"{"year": 1998}"#)?;
/// store.put_with_document("new", &[2.0], r#"{"year": 2020}"#)?;
/// let recent = Filter::parse(r#"{"year": {"$gte": 2000}}"#)?;
/// let options = SearchOptions::new().filter(recent).radius(9.0).with_documents();
/// let hits = store.snapshot()?.search_with(&[0.0], 5, &options)?;
/// assert_eq!(hits.len(), 1);
/// assert_eq!(hits[0].document.as_deref(), Some(r#"{"year": 2020}"#));
/// # Ok::<(), vecstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until a search is made with them"]
pub struct SearchOptions {
    pub(crate) vectors: bool,
    pub(crate) documents: bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) radius: Option<f32>,
    exact: Option<bool>,
    recall_target: Option<f32>,
}

/// The recall that a search has to reach which only says that it need not be exact.
const DEFAULT_RECALL: f32 = 0.95;

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

    /// Whether the answer has to be exact: surely the nearest. So it is by default, at every size, unless the handle was
    /// opened with a [`recall_target`](crate::OpenOptions::recall_target). False asks for the recall of the handle if
    /// that is below 1, else for 0.95. True with a [`recall_target`](Self::recall_target) below 1 is
    /// [`Error::ExactWithRecallTarget`].
    pub fn exact(mut self, exact: bool) -> SearchOptions {
        self.exact = Some(exact);
        self
    }

    /// The share of the `k` nearest rows that the answer is to have on average, above 0 and at most 1; 1 is exact. Any
    /// other number is [`Error::InvalidRecallTarget`]. [`Hits::is_exact`] says whether an answer turned out to be exact.
    ///
    /// How many rows have to be looked at for that was measured when codes were built, with rows of the store as queries: it
    /// holds for queries like them. As long as rows have no codes, with a radius, and above 0.99, the search is exact.
    pub fn recall_target(mut self, target: f32) -> SearchOptions {
        self.recall_target = Some(target);
        self
    }

    /// Refuses what every search would refuse: for a caller that has no store yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRadius`], [`Error::InvalidRecallTarget`], [`Error::ExactWithRecallTarget`].
    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        self.recall_or(1.0).map(drop)
    }

    /// The recall to reach; 1 is exact. `default`: that of the handle. Refuses a radius that is NaN, too.
    pub(crate) fn recall_or(&self, default: f32) -> Result<f32> {
        if self.radius.is_some_and(f32::is_nan) {
            return Err(Error::InvalidRadius);
        }
        self.recall_target.map_or(Ok(()), check_recall)?;
        match (self.exact, self.recall_target) {
            (Some(true), Some(target)) if target < 1.0 => Err(Error::ExactWithRecallTarget { target }),
            (Some(true), _) => Ok(1.0),
            (_, Some(target)) => Ok(target),
            (Some(false), None) if default == 1.0 => Ok(DEFAULT_RECALL),
            (_, None) => Ok(default),
        }
    }
}

/// What a search found: [`Neighbor`]s, nearest first; of two at the same distance the older first. By default it found
/// nothing, for certain.
///
/// ```
/// # let dir = tempfile::tempdir().expect("a place");
/// # let path = dir.path().join("store");
/// # let store = vecstone::VectorStore::create(&path, 2, vecstone::Metric::L2)?;
/// store.put_many(&["a", "b", "c"], &[0.0, 0.0, 3.0, 4.0, 1.0, 0.0])?;
/// let hits = store.search(&[0.0, 0.0], 2)?;
/// assert_eq!((hits.len(), hits.is_exact(), hits.rows_read()), (2, true, 3));
/// assert_eq!(hits[0].id, "a");
/// assert_eq!(hits.first().map(|hit| hit.distance), Some(0.0));
/// for hit in &hits {
///     println!("{} at {}", hit.id, hit.distance);
/// }
/// let ids: Vec<String> = hits.into_iter().map(|hit| hit.id.to_string()).collect();
/// assert_eq!(ids, ["a", "c"]);
/// # Ok::<(), vecstone::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Hits {
    hits: Vec<Neighbor>,
    is_approximate: bool,
    explain: Explain,
}

/// Two are equal if they have the same neighbours and are equally certain of them, however they were found.
impl PartialEq for Hits {
    fn eq(&self, other: &Hits) -> bool {
        (&self.hits, self.is_approximate) == (&other.hits, other.is_approximate)
    }
}

impl Hits {
    pub(crate) fn new(hits: Vec<Neighbor>, explain: Explain) -> Hits {
        Hits { hits, is_approximate: explain.path == SearchPath::Approximate, explain }
    }

    /// How long it took to fetch the results of the call that these are of.
    pub(crate) fn set_fetch(&mut self, fetch: Duration) {
        self.explain.fetch = fetch;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hits.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// The nearest one.
    pub fn first(&self) -> Option<&Neighbor> {
        self.hits.first()
    }

    /// All, nearest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Neighbor> {
        self.hits.iter()
    }

    /// All, nearest first.
    pub fn as_slice(&self) -> &[Neighbor] {
        &self.hits
    }

    /// All, nearest first.
    pub fn into_vec(self) -> Vec<Neighbor> {
        self.hits
    }

    /// Whether these are surely the nearest: not where an approximate search was asked for, and made.
    pub fn is_exact(&self) -> bool {
        !self.is_approximate
    }

    /// Rows whose vectors were read to measure their distance, buffered ones included.
    pub fn rows_read(&self) -> u64 {
        self.explain.rows_scanned + self.explain.rows_by_code
    }

    /// How they were found, and how long that took.
    pub fn explain(&self) -> &Explain {
        &self.explain
    }
}

/// By rank: 0 is the nearest.
impl Index<usize> for Hits {
    type Output = Neighbor;

    fn index(&self, rank: usize) -> &Neighbor {
        &self.hits[rank]
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
    /// The live rows of the files: of these, the ones that a filter selects.
    pub(crate) version: Arc<Version>,
    /// How many there are without a filter.
    pub(crate) live: u64,
    pub(crate) buffered: &'a buffer::BufferSnapshot,
    /// Puts of the buffer, by number.
    pub(crate) puts: Vec<u64>,
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> u64 {
        self.version.live() + self.puts.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recall_to_reach() {
        let new = SearchOptions::new;
        let handle = [1.0, 0.8];
        for (options, expected) in [
            (new(), handle),
            (new().exact(true), [1.0; 2]),
            (new().exact(true).recall_target(1.0), [1.0; 2]),
            (new().exact(false), [0.95, 0.8]),
            (new().exact(false).recall_target(0.5), [0.5; 2]),
            (new().exact(false).recall_target(1.0), [1.0; 2]),
            (new().recall_target(0.5), [0.5; 2]),
            (new().recall_target(f32::MIN_POSITIVE), [f32::MIN_POSITIVE; 2]),
        ] {
            let found = handle.map(|default| options.recall_or(default).expect("of use"));
            assert_eq!(found.map(f32::to_bits), expected.map(f32::to_bits), "{options:?}");
        }
        for target in [0.0, -0.0, -0.5, 1.0f32.next_up(), 95.0, f32::NAN, f32::INFINITY] {
            for options in [new(), new().exact(true), new().exact(false)] {
                let refused = options.recall_target(target).recall_or(1.0).expect_err("of no use");
                let Error::InvalidRecallTarget { target: found } = refused else { panic!("{refused:?}") };
                assert_eq!(found.to_bits(), target.to_bits());
            }
        }
        let refused = new().exact(true).recall_target(0.9).recall_or(1.0).expect_err("contradicts itself");
        assert!(matches!(refused, Error::ExactWithRecallTarget { target: 0.9 }));
    }
}
