//! How a search came to its answer.

use std::fmt;
use std::time::Duration;

/// Which way a search took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SearchPath {
    /// Every live row that the filter selects was read in f32.
    #[default]
    Scan,
    /// Rows were ranked by their codes, and only those that may be among the nearest were read.
    Codes,
    /// Rows of the nearest partitions only were ranked by their codes: the answer is approximate.
    Approximate,
    /// Begun over codes; so many rows were left that all of them were read in f32.
    CodesThenScan,
}

impl SearchPath {
    /// Whether rows with a code need not be scanned any more.
    pub(crate) fn is_done_by_codes(self) -> bool {
        matches!(self, SearchPath::Codes | SearchPath::Approximate)
    }

    /// The name used in Python and in JSON: `scan`, `codes`, `approximate` or `codes_then_scan`.
    pub fn name(self) -> &'static str {
        match self {
            SearchPath::Scan => "scan",
            SearchPath::Codes => "codes",
            SearchPath::Approximate => "approximate",
            SearchPath::CodesThenScan => "codes_then_scan",
        }
    }
}

/// Why a search is exact that was asked for a recall below 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyExact {
    /// It has a radius.
    Radius,
    /// It was asked for more than is measured: above 0.99.
    Recall,
    /// No rows have codes, or so few, for so many neighbours, that a scan is as fast; or the query has none.
    NoCodes,
    /// How many rows it would have to look at was not measured yet: `optimize` or the background will.
    NotMeasured,
}

impl WhyExact {
    /// The name used in Python and in JSON: `radius`, `recall`, `no_codes` or `not_measured`.
    pub fn name(self) -> &'static str {
        match self {
            WhyExact::Radius => "radius",
            WhyExact::Recall => "recall",
            WhyExact::NoCodes => "no_codes",
            WhyExact::NotMeasured => "not_measured",
        }
    }
}

/// What a search did, and how long each stage took. Counts are of one query. Times are of the whole call: those of
/// [`search_many`](crate::Snapshot::search_many) are for all its queries together. Printed, it is a few lines to read.
///
/// ```
/// # let dir = tempfile::tempdir().expect("a place");
/// # let store = vecstone::VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
/// use vecstone::SearchPath;
///
/// store.put_many(&["a", "b", "c"], &[0.0, 0.0, 3.0, 4.0, 1.0, 0.0])?;
/// let hits = store.search(&[0.0, 0.0], 2)?;
/// let explain = hits.explain();
/// assert_eq!((explain.path, explain.rows_scanned), (SearchPath::Scan, 3));
/// println!("{explain}");
/// # Ok::<(), vecstone::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Explain {
    /// The way it took.
    pub path: SearchPath,
    /// Why that is exact, where the search was asked for a recall below 1; else `None`.
    pub why_exact: Option<WhyExact>,
    /// Queries of the call, which share its times; 0 where nothing was searched.
    pub queries: u64,
    /// Partitions in which some row was looked at.
    pub partitions_visited: u64,
    /// Partitions of which no row can be among the nearest.
    pub partitions_skipped: u64,
    /// Rows, and copies of rows, looked at by their code.
    pub codes_scanned: u64,
    /// Rows whose vectors were read one after the other and measured in f32, buffered ones included.
    pub rows_scanned: u64,
    /// Rows measured by [`reference_distance`](crate::reference_distance).
    pub rows_refined: u64,
    /// Of those the ones that their codes did not exclude.
    pub(crate) rows_by_code: u64,
    /// Evaluating the filter.
    pub select: Duration,
    /// Bringing the query into the space of the codes and, for an exact search, ranking partitions by their distance.
    pub rank: Duration,
    /// Looking at codes and rows; in an approximate search ranking partitions, too. Where rows are scanned in f32, refining
    /// is part of it.
    pub scan: Duration,
    /// Measuring the rows that their codes did not exclude.
    pub refine: Duration,
    /// Reading and checking ids, vectors and documents of the results.
    pub fetch: Duration,
}

impl Explain {
    /// Adds what another part of the same search did.
    pub(crate) fn add(&mut self, other: &Explain) {
        self.partitions_visited += other.partitions_visited;
        self.partitions_skipped += other.partitions_skipped;
        self.codes_scanned += other.codes_scanned;
        self.rows_scanned += other.rows_scanned;
        self.rows_refined += other.rows_refined;
        self.rows_by_code += other.rows_by_code;
        self.rank += other.rank;
        self.scan += other.scan;
        self.refine += other.refine;
    }

    /// Each stage by its name, in the order of a search, and how long it took.
    pub fn stages(&self) -> [(&'static str, Duration); 5] {
        [
            ("select", self.select),
            ("rank", self.rank),
            ("scan", self.scan),
            ("refine", self.refine),
            ("fetch", self.fetch),
        ]
    }

    /// Time of all stages.
    pub fn total(&self) -> Duration {
        self.stages().iter().map(|(_, time)| time).sum()
    }
}

impl fmt::Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.queries == 0 {
            return write!(f, "path   nothing was searched");
        }
        let path = match self.path {
            SearchPath::Scan => "scan of every row",
            SearchPath::Codes => "over codes",
            SearchPath::Approximate => "over codes of the nearest partitions, approximate",
            SearchPath::CodesThenScan => "over codes, then scan of every row, as too many were left",
        };
        let why = match self.why_exact {
            None => "",
            Some(WhyExact::Radius) => "; exact, as it has a radius",
            Some(WhyExact::Recall) => "; exact, as more than 0.99 is asked for",
            Some(WhyExact::NoCodes) => "; exact, as there are no codes to go by",
            Some(WhyExact::NotMeasured) => "; exact, as its effort was not measured yet",
        };
        writeln!(f, "path   {path}{why}")?;
        write!(f, "rows   ")?;
        if self.path != SearchPath::Scan {
            write!(f, "{} looked at by code, ", self.codes_scanned)?;
        }
        writeln!(f, "{} read, {} refined", self.rows_scanned, self.rows_refined)?;
        if self.path != SearchPath::Scan {
            let (visited, skipped) = (self.partitions_visited, self.partitions_skipped);
            writeln!(f, "parts  {visited} visited, {skipped} skipped")?;
        }
        let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        write!(f, "time   {}: ", ms(self.total()))?;
        let stages = self.stages().into_iter().filter(|(_, time)| !time.is_zero());
        let stages: Vec<String> = stages.map(|(name, time)| format!("{name} {}", ms(time))).collect();
        write!(f, "{}", stages.join(", "))?;
        if self.queries > 1 { write!(f, "; of {} queries together", self.queries) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_it_once() {
        let ms = Duration::from_millis;
        let scan = Explain { queries: 1, rows_scanned: 12, rows_refined: 3, ..Explain::default() };
        let scan = Explain { scan: ms(2), fetch: Duration::from_micros(10), ..scan };
        let text = "path   scan of every row\nrows   12 read, 3 refined\n\
                    time   2.010 ms: scan 2.000 ms, fetch 0.010 ms";
        assert_eq!(scan.to_string(), text);
        let codes =
            Explain { path: SearchPath::Codes, queries: 16, codes_scanned: 900, ..Explain::default() };
        let codes = Explain { partitions_visited: 7, partitions_skipped: 5, rows_scanned: 2, ..codes };
        let codes = Explain { rows_refined: 20, rank: ms(1), refine: ms(1), ..codes };
        let text = "path   over codes\nrows   900 looked at by code, 2 read, 20 refined\n\
                    parts  7 visited, 5 skipped\n\
                    time   2.000 ms: rank 1.000 ms, refine 1.000 ms; of 16 queries together";
        assert_eq!(codes.to_string(), text);
        let why = Explain { why_exact: Some(WhyExact::Radius), ..codes };
        assert!(why.to_string().starts_with("path   over codes; exact, as it has a radius\n"));
        let all = [WhyExact::Radius, WhyExact::Recall, WhyExact::NoCodes, WhyExact::NotMeasured];
        assert_eq!(all.map(WhyExact::name), ["radius", "recall", "no_codes", "not_measured"]);
        assert_eq!(Explain::default().to_string(), "path   nothing was searched");
        let paths = [SearchPath::Scan, SearchPath::Codes, SearchPath::Approximate, SearchPath::CodesThenScan];
        assert_eq!(paths.map(SearchPath::name), ["scan", "codes", "approximate", "codes_then_scan"]);
    }
}
