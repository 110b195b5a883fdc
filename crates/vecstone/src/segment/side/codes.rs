//! Codes as side files: which rows have one, which files are made of what, and what a compaction carries.

use super::centres::{self, CentresKind};
use super::files::number_of;
use super::{Covered, FilesOf, GoOn, Moved, Rows, Scope, SideFile, SideKind, Write, of_type};
use crate::format::Identity;
use crate::pair::files::StoreFile;
use crate::pair::recover;
use crate::segment::codes::build::{self, Content, Failure, Fresh, Kept, Work};
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::check;
use crate::segment::codes::file::CodesFile;
use crate::segment::point::Point;
use crate::segment::version::{SegmentVersion, Version};
use crate::types::error::{Error, Result};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

/// `N.codes.side`.
#[derive(Debug)]
pub(crate) struct CodesKind;

/// Files that a store has at most.
const MOST_FILES: usize = 4;
/// A file is merged with newer ones that have at least so many times fewer rows.
const MERGE_BELOW: u64 = 4;
/// Stretches of rows with codes that one segment keeps of a compaction.
const MOST_RANGES: usize = 64;

/// A file of codes that a version can use.
#[derive(Debug)]
pub(crate) struct CodedFile<'a> {
    pub(crate) codes: &'a CodesFile,
    pub(crate) centres: &'a CentresFile,
    /// Place of the segment of each range; `None` if the range is of no use.
    pub(crate) places: Vec<Option<usize>>,
}

impl CodedFile<'_> {
    /// The place of the segment and the row of an ordinal; `None` if it is of no use. An ordinal that the file does not have
    /// is damage.
    pub(crate) fn locate(&self, ordinal: u32) -> Option<(usize, u64)> {
        let Some((range, row)) = self.codes.locate(ordinal) else {
            self.codes.pages.note_damage();
            return None;
        };
        self.places[range].map(|place| (place, row))
    }

    /// The rows of a version that it has codes of, each stretch with the place of its segment.
    fn rows(&self, version: &Version) -> Vec<(usize, Range<u64>)> {
        let named = self.codes.head.ranges.iter().zip(&self.places);
        let rows = named.filter_map(|(range, place)| {
            let place = (*place)?;
            Some((place, range.first..range.end.min(version.segments[place].rows)))
        });
        rows.filter(|(_, rows)| !rows.is_empty()).collect()
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.codes.pages.is_damaged() || self.centres.pages.is_damaged()
    }
}

/// Which rows of a version have a code.
#[derive(Debug)]
pub(crate) struct Coverage<'a> {
    /// Of no row two.
    pub(crate) files: Vec<CodedFile<'a>>,
    /// Rows without one, by segment.
    pub(crate) hot: Vec<Vec<Range<u64>>>,
}

impl<'a> Coverage<'a> {
    /// O(files * ranges * segments), and one read for each range at the first call.
    pub(crate) fn of(version: &'a Version) -> Coverage<'a> {
        let whole = |part: &SegmentVersion| (part.rows > 0).then_some(0..part.rows);
        let mut coverage = Coverage {
            files: Vec::new(),
            hot: version.segments.iter().map(|part| whole(part).into_iter().collect()).collect(),
        };
        let all: Vec<&CodesFile> = of_type::<CodesFile>(version.side_files()).collect();
        // The newest first: what an older one has, too, is not asked for twice.
        for codes in all.into_iter().rev() {
            coverage.add(version, codes);
        }
        version.side.coded.store(version.rows() - coverage.hot_rows(), Relaxed);
        coverage
    }

    fn add(&mut self, version: &'a Version, codes: &'a CodesFile) {
        let of_id =
            |centres: &&CentresFile| centres.id() == codes.head.centres.1 && centres.is_of(&version.schema);
        let centres = of_type::<CentresFile>(version.side_files()).find(of_id);
        let Some(centres) = centres.filter(|centres| !centres.pages.is_damaged()) else { return };
        if codes.pages.is_damaged() || !codes.is_of(&version.schema) {
            return;
        }
        let file = CodedFile { codes, centres, places: places(version, codes) };
        let used = file.rows(version);
        let is_hot = |(place, rows): &(usize, Range<u64>)| {
            self.hot[*place].iter().any(|hot| hot.start <= rows.start && rows.end <= hot.end)
        };
        if used.is_empty() || !used.iter().all(is_hot) {
            return;
        }
        for (place, rows) in used {
            take(&mut self.hot[place], &rows);
        }
        self.files.push(file);
    }

    /// How many rows have none.
    pub(crate) fn hot_rows(&self) -> u64 {
        count(&self.hot)
    }
}

/// How many rows there are in all stretches.
fn count(stretches: &[Vec<Range<u64>>]) -> u64 {
    stretches.iter().flatten().map(|rows| rows.end - rows.start).sum()
}

/// Takes rows from stretches, one of which has all of them.
fn take(stretches: &mut Vec<Range<u64>>, rows: &Range<u64>) {
    let cut = |stretch: Range<u64>| {
        let has = stretch.start <= rows.start && rows.end <= stretch.end;
        if has { [stretch.start..rows.start, rows.end..stretch.end] } else { [stretch, 0..0] }
    };
    *stretches =
        std::mem::take(stretches).into_iter().flat_map(cut).filter(|part| !part.is_empty()).collect();
}

/// Where the segments of a file's ranges are in a version, of those whose log has the range's point.
fn places(version: &Version, codes: &CodesFile) -> Vec<Option<usize>> {
    let place = |range: &Covered| {
        let is_it = |part: &SegmentVersion| part.segment.header().identity == range.point.identity;
        version.segments.iter().position(is_it)
    };
    let holds = |range: &Covered| {
        let Some(segment) = place(range).map(|place| &version.segments[place].segment) else { return false };
        range.point.is_in(&segment.files(), segment.header()).unwrap_or(false)
    };
    let valid = codes.valid.get_or_init(|| codes.head.ranges.iter().map(holds).collect());
    codes.head.ranges.iter().zip(valid).map(|(range, &valid)| place(range).filter(|_| valid)).collect()
}

/// What is to be done for the codes of a version.
struct Plan<'a> {
    centres: (u64, &'a CentresFile),
    /// Files that go into the new one.
    merged: Vec<CodedFile<'a>>,
    /// Rows that get a code.
    fresh: Vec<build::Rows>,
}

impl<'a> Plan<'a> {
    /// `None` if there is nothing to do.
    fn of(rows: &Rows<'a>) -> Option<Plan<'a>> {
        let (version, from) = (rows.version, rows.optimize.from_hot?);
        let may = rows.is_active() && rows.closing.is_none() && centres::is_coded(&version.schema);
        let newest = Some(version).filter(|_| may).and_then(centres::newest)?;
        let number = number_of(&newest.pages.file.path)?;
        let Coverage { files, mut hot } = Coverage::of(version);
        let (mut merged, old): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.centres.id() == newest.id());
        // What is relative to other centres is coded anew.
        let is_outdated = !old.is_empty();
        for file in &old {
            file.rows(version).into_iter().for_each(|(place, rows)| hot[place].push(rows));
        }
        for stretches in &mut hot {
            join(stretches);
        }
        let fresh = count(&hot);
        let files = merged.len();
        let merge = rows.optimize.merge;
        let is_split = merge && files > 1;
        if !(is_outdated || is_split || fresh >= from.max(1)) {
            return None;
        }
        let (mut all, mut taken) = (fresh, 0);
        for file in &merged {
            let len: u64 = file.codes.head.ranges.iter().map(Covered::len).sum();
            if !merge && len >= all * MERGE_BELOW && files - taken < MOST_FILES {
                break;
            }
            (all, taken) = (all + len, taken + 1);
        }
        merged.truncate(taken);
        let stretch = |(place, stretches): (usize, Vec<Range<u64>>)| {
            stretches.into_iter().map(move |rows| build::Rows { place, rows })
        };
        let fresh = hot.into_iter().enumerate().flat_map(stretch).collect();
        Some(Plan { centres: (number, newest), merged, fresh })
    }
}

/// Puts stretches in order, and joins neighbours.
fn join(stretches: &mut Vec<Range<u64>>) {
    stretches.sort_by_key(|rows| rows.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for rows in stretches.drain(..) {
        match joined.last_mut() {
            Some(last) if last.end == rows.start => last.end = rows.end,
            _ => joined.push(rows),
        }
    }
    *stretches = joined;
}

/// Ranges of a new file: where the rows of each stretch go.
#[derive(Default)]
struct Numbering {
    ranges: Vec<Covered>,
    /// Ordinal of the first row of each range.
    starts: Vec<u32>,
}

impl Numbering {
    /// Numbers the rows of some ranges; neighbours of one segment become one range with the later point.
    fn of(mut ranges: Vec<Covered>) -> Numbering {
        ranges.sort_by_key(|range| (range.point.identity.segment, range.first));
        let mut joined: Vec<Covered> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.point.identity == range.point.identity && last.end == range.first => {
                    last.end = range.end;
                    if last.point.rows < range.point.rows {
                        last.point = range.point;
                    }
                }
                _ => joined.push(range),
            }
        }
        let mut next = 0u64;
        let start = |range: &Covered| {
            let start = u32::try_from(next).unwrap_or(u32::MAX);
            next += range.len();
            start
        };
        let starts = joined.iter().map(start).collect();
        Numbering { ranges: joined, starts }
    }

    /// The ordinal of a row.
    fn ordinal(&self, identity: &Identity, row: u64) -> Option<u32> {
        let of = |range: &Covered| (range.point.identity.segment, range.first);
        let behind = self.ranges.partition_point(|range| of(range) <= (identity.segment, row));
        let at = behind.checked_sub(1)?;
        let range = &self.ranges[at];
        let is_in = range.point.identity == *identity && (range.first..range.end).contains(&row);
        is_in.then(|| self.starts[at].saturating_add(u32::try_from(row - range.first).unwrap_or(u32::MAX)))
    }
}

/// Writes a file by a plan.
fn write_planned(
    plan: Plan<'_>,
    rows: &Rows<'_>,
    file: &StoreFile,
    work: &mut Work<'_>,
) -> std::result::Result<(), Failure> {
    let version = rows.version;
    let mut ranges = Vec::new();
    let mut points: Vec<Option<Point>> = vec![None; version.segments.len()];
    for run in &plan.fresh {
        let part = &version.segments[run.place];
        let point = match points[run.place] {
            Some(point) => point,
            None => {
                let found = recover::read_sealed(&part.segment.files(), &part.end)?;
                Point::of(part.segment.header(), &found.position, 0)
            }
        };
        points[run.place] = Some(point);
        ranges.push(Covered { first: run.rows.start, end: run.rows.end, point });
    }
    for file in &plan.merged {
        let used = file.codes.head.ranges.iter().zip(&file.places).filter(|(_, place)| place.is_some());
        ranges.extend(used.map(|(range, _)| *range));
    }
    let numbering = Numbering::of(ranges);
    let start = |run: &build::Rows| {
        numbering
            .ordinal(&version.segments[run.place].segment.header().identity, run.rows.start)
            .unwrap_or(u32::MAX)
    };
    let runs = plan.fresh.iter().map(|run| (run.clone(), start(run))).collect();
    let kept = plan.merged.iter().map(|file| {
        let numbering = &numbering;
        let to = move |ordinal| {
            let (range, row) = file.codes.locate(ordinal)?;
            file.places[range]?;
            numbering.ordinal(&file.codes.head.ranges[range].point.identity, row)
        };
        Kept { codes: file.codes, to: Box::new(to) }
    });
    let content = Content {
        version,
        centres: plan.centres,
        ranges: numbering.ranges.clone(),
        fresh: Fresh { version, runs },
        kept: kept.collect(),
    };
    build::write(file, &content, work)
}

impl SideKind for CodesKind {
    fn suffix(&self) -> &'static str {
        "codes.side"
    }

    fn is_foreign(&self) -> &'static str {
        "the codes are not those of this store"
    }

    fn differs(&self) -> &'static str {
        "a code says something else than its row"
    }

    fn scope(&self) -> Scope {
        Scope::Ranges
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        let opened = CodesFile::open(file, identity.uuid)?;
        Ok(opened.map(|file| Box::new(file) as Box<dyn SideFile>))
    }

    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        Plan::of(rows).is_some()
    }

    fn build(&self, rows: &Rows<'_>, file: &StoreFile, go_on: GoOn<'_>) -> Result<()> {
        let mut work = Work { threads: rows.optimize.threads, done: 0, go_on };
        // Whoever finds damage marks the file, so that the next plan is without it.
        while let Some(plan) = Plan::of(rows) {
            match write_planned(plan, rows, file, &mut work) {
                Ok(()) => return Ok(()),
                Err(Failure::Other(error)) => return Err(error),
                Err(Failure::Side) => {}
            }
        }
        Err(Error::Cancelled)
    }

    fn is_due(&self, durable: &Version) -> bool {
        let hot = durable.rows().saturating_sub(durable.side.coded.load(Relaxed));
        centres::is_coded(&durable.schema) && durable.optimize_from().is_some_and(|from| hot >= from)
    }

    fn carry<'a>(&'a self, moved: &'a Moved<'a>) -> Option<Write<'a>> {
        let carried = Carried::of(moved)?;
        Some(Box::new(move |file: &StoreFile, go_on: GoOn<'_>| carried.write(moved.version, file, go_on)))
    }
}

/// Codes of rows that a compaction moved.
struct Carried<'a> {
    centres: (u64, &'a CentresFile),
    files: Vec<CodedFile<'a>>,
    /// Of each segment of the version the place among the inputs.
    inputs: Vec<Option<usize>>,
    moved: &'a Moved<'a>,
    numbering: Numbering,
}

impl<'a> Carried<'a> {
    fn of(moved: &'a Moved<'a>) -> Option<Carried<'a>> {
        let version = moved.version;
        let newest = centres::newest(version)?;
        let files: Vec<_> =
            Coverage::of(version).files.into_iter().filter(|file| file.centres.id() == newest.id()).collect();
        let input = |number| moved.inputs.iter().position(|input| input.segment.number() == number);
        let inputs: Vec<Option<usize>> =
            version.segments.iter().map(|part| input(part.segment.number())).collect();
        let mut coded: Vec<Vec<bool>> = moved
            .outputs
            .iter()
            .map(|output| vec![false; usize::try_from(output.point.rows).unwrap_or(0)])
            .collect();
        for file in &files {
            for (range, place) in file.codes.head.ranges.iter().zip(&file.places) {
                let Some(input) = place.and_then(|place| inputs[place]) else { continue };
                for row in range.first..range.end {
                    let Some((output, row)) = target(moved, input, row) else { continue };
                    coded[output][row as usize] = true;
                }
            }
        }
        let mut ranges = Vec::new();
        for (output, coded) in moved.outputs.iter().zip(&coded) {
            let mut of_output: Vec<Covered> = Vec::new();
            for row in (0..).zip(coded).filter(|(_, coded)| **coded).map(|(row, _)| row) {
                match of_output.last_mut() {
                    Some(last) if last.end == row => last.end = row + 1,
                    _ => of_output.push(Covered { first: row, end: row + 1, point: output.point }),
                }
            }
            if of_output.len() <= MOST_RANGES {
                ranges.extend(of_output);
            }
        }
        let number = number_of(&newest.pages.file.path)?;
        let numbering = Numbering::of(ranges);
        let is_any = !numbering.ranges.is_empty();
        is_any.then_some(Carried { centres: (number, newest), files, inputs, moved, numbering })
    }

    /// The new ordinal of a code.
    fn to(&self, file: &CodedFile<'_>, ordinal: u32) -> Option<u32> {
        let (range, row) = file.codes.locate(ordinal)?;
        let input = file.places[range].and_then(|place| self.inputs[place])?;
        let (output, row) = target(self.moved, input, row)?;
        self.numbering.ordinal(&self.moved.outputs[output].point.identity, row.into())
    }

    fn write(&self, version: &Version, file: &StoreFile, go_on: GoOn<'_>) -> Result<()> {
        let content = Content {
            version,
            centres: self.centres,
            ranges: self.numbering.ranges.clone(),
            fresh: Fresh { version, runs: Vec::new() },
            kept: self
                .files
                .iter()
                .map(|from| Kept { codes: from.codes, to: Box::new(|row| self.to(from, row)) })
                .collect(),
        };
        let mut work = Work { threads: 1, done: 0, go_on };
        match build::write(file, &content, &mut work) {
            Ok(()) => Ok(()),
            Err(Failure::Other(error)) => Err(error),
            // They are built anew, later.
            Err(Failure::Side) => Err(Error::Cancelled),
        }
    }
}

/// Where a row of an input went; `None` for a row that was dead, or came later.
fn target(moved: &Moved<'_>, input: usize, row: u64) -> Option<(usize, u32)> {
    let &(output, row) = moved.to[input].get(usize::try_from(row).ok()?)?;
    (output != u32::MAX).then_some((output as usize, row))
}

impl SideFile for CodesFile {
    fn kind(&self) -> &'static dyn SideKind {
        &CodesKind
    }

    fn file(&self) -> &StoreFile {
        &self.pages.file
    }

    fn len(&self) -> u64 {
        self.pages.len()
    }

    fn covers(&self) -> Vec<Covered> {
        self.head.ranges.clone()
    }

    fn needs(&self) -> Vec<String> {
        vec![format!("{:08}.{}", self.head.centres.0, CentresKind.suffix())]
    }

    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
        self.pages.damaged_pages(see);
        Ok(())
    }

    fn is_right(&self, files_of: FilesOf<'_>, others: &[Box<dyn SideFile>]) -> Result<bool> {
        let of_id = |centres: &&CentresFile| centres.id() == self.head.centres.1;
        let Some(centres) = of_type::<CentresFile>(others).find(of_id) else { return Ok(true) };
        check::is_right(self, centres, files_of)
    }
}
