//! How a file of codes is made: of rows that have none, and of files that are merged or carried.

use crate::pair::files::{StoreFile, random};
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::cluster::{Centres, Finder, Matrix, Two};
use crate::segment::codes::file::{CodesFile, CodesWriter, Head};
use crate::segment::codes::frame::{Frame, norm, offset, scale_of, split_mix};
use crate::segment::codes::part::Signed;
use crate::segment::codes::reflect;
use crate::segment::codes::row::{Encoder, NewBlock};
use crate::segment::point::Covered;
use crate::segment::version::{At, Version};
use crate::sys::kernel::{self, Kernels};
use crate::sys::parallel;
use crate::types::config::Metric;
use crate::types::error::{Error, Result};
use std::array;
use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::{ControlFlow, Range};

/// Rows that are placed and compared with centres by one thread at a time.
const TILE: usize = 1024;
/// Partitions that are in memory at once, by rows.
const ROWS_AT_ONCE: u64 = 16 << 10;
/// No centre: the row gets no code.
const NONE: u32 = u32::MAX;
/// Vectors in the sample for each centre.
const SAMPLE_PER_CENTRE: u64 = 40;
/// Where rows differ in few directions, of two parts of a code, no partition is left out, and a half of the centres serve as
/// well: ranking them and beginning with a partition take time, too.
const OF_DIVIDED: usize = 2;
/// A row has a copy in a second partition if less than so many times more is lost there than in its own: a query that is
/// near to it may be nearer to that one. Where rows are in clusters apart from each other, copies only cost.
const AMBIGUOUS: f32 = 2.0;
/// One of so many rows has a copy, at most.
const OF_COPIES: usize = 2;
/// Rows with a norm above so many times the middle one are not asked for the mean.
const OUTLIER: f64 = 16.0;

/// How much is to be done, and how much of it is.
pub(crate) struct Work<'a> {
    pub(crate) threads: usize,
    pub(crate) done: u64,
    /// Hears bytes of rows read; may break off.
    pub(crate) go_on: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
}

impl Work<'_> {
    fn add(&mut self, bytes: u64) -> Result<()> {
        self.done += bytes;
        if (self.go_on)(self.done).is_break() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Rows of one segment of a version.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) place: usize,
    pub(crate) rows: Range<u64>,
}

/// Rows without a code, each with its ordinal in the new file.
pub(crate) struct Fresh<'a> {
    pub(crate) version: &'a Version,
    /// With the ordinal of the first row.
    pub(crate) runs: Vec<(Rows, u32)>,
}

impl Fresh<'_> {
    fn len(&self) -> usize {
        self.runs.iter().map(|(run, _)| usize::try_from(run.rows.end - run.rows.start).unwrap_or(0)).sum()
    }

    /// The vector of a row, by its number among all fresh ones.
    fn vector(&self, number: usize) -> Result<Cow<'_, [f32]>> {
        let (place, row, _) = self.locate(number);
        self.version.segments[place].vector(row)
    }

    fn ordinal(&self, number: usize) -> u32 {
        self.locate(number).2
    }

    fn locate(&self, number: usize) -> (usize, u64, u32) {
        let mut rest = number as u64;
        for (run, ordinal) in &self.runs {
            let len = run.rows.end - run.rows.start;
            if rest < len {
                let behind = u32::try_from(rest).unwrap_or(u32::MAX);
                return (run.place, run.rows.start + rest, ordinal.saturating_add(behind));
            }
            rest -= len;
        }
        unreachable!("a number below the length")
    }
}

/// Codes that are copied, and the new ordinal of each of their rows; `None` for those that are left out.
pub(crate) struct Kept<'a> {
    pub(crate) codes: &'a CodesFile,
    pub(crate) to: Box<dyn Fn(u32) -> Option<u32> + Sync + 'a>,
}

/// What a new file is of.
pub(crate) struct Content<'a> {
    pub(crate) version: &'a Version,
    /// Number of the file of centres, and the file.
    pub(crate) centres: (u64, &'a CentresFile),
    pub(crate) ranges: Vec<Covered>,
    pub(crate) fresh: Fresh<'a>,
    pub(crate) kept: Vec<Kept<'a>>,
}

/// The rows of one partition and its copies, before they are written.
struct Members<'a> {
    centre: u32,
    /// Numbers of fresh rows, and of those with a copy here.
    fresh: [&'a [u32]; 2],
    /// Rows and copies of kept files.
    kept: [u64; 2],
}

impl Members<'_> {
    /// Rows and copies.
    fn counts(&self) -> [u32; 2] {
        array::from_fn(|part| {
            u32::try_from(self.fresh[part].len() as u64 + self.kept[part]).unwrap_or(u32::MAX)
        })
    }

    fn rows(&self) -> u64 {
        self.counts()[0].into()
    }
}

/// Why no file was made.
pub(crate) enum Failure {
    /// A file that was to be kept, or the centres, are damaged: without it all goes well.
    Side,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

/// Writes a file of codes, which is new and empty. Holds 20 bytes of memory for each fresh row, and some partitions.
pub(crate) fn write(
    file: &StoreFile,
    content: &Content<'_>,
    work: &mut Work<'_>,
) -> std::result::Result<(), Failure> {
    let centres = content.centres.1;
    let (Some(frame), Some(points)) = (centres.frame(), centres.centres()) else { return Err(Failure::Side) };
    let assigned = assign(&content.fresh, frame, centres.load().ok_or(Failure::Side)?, work)?;
    let sorted =
        [sort(&assigned, points.rows(), |two| two.nearest), sort(&assigned, points.rows(), |two| two.second)];
    let mut kept = vec![[0u64; 2]; points.rows()];
    let mut plain: Vec<u32> = Vec::new();
    for file in &content.kept {
        let partitions = file.codes.partitions_of(centres).ok_or(Failure::Side)?;
        for partition in partitions {
            let back = file.codes.back(partition).ok_or(Failure::Side)?;
            let is_kept = |row: &usize| (file.to)(back.ordinal(*row)).is_some();
            let kept = &mut kept[partition.centre as usize];
            for (kept, part) in kept.iter_mut().zip(partition.parts()) {
                *kept += part.filter(is_kept).count() as u64;
            }
        }
        plain.extend(file.codes.plain().ok_or(Failure::Side)?.filter_map(&file.to));
    }
    let without = (0..).zip(&assigned).filter(|(_, two)| two.nearest == NONE);
    plain.extend(without.map(|(number, _)| content.fresh.ordinal(number)));
    plain.sort_unstable();
    let members = |centre: usize| {
        let fresh = sorted.each_ref().map(|sorted| sorted.of(centre));
        Members { centre: u32::try_from(centre).unwrap_or(NONE), fresh, kept: kept[centre] }
    };
    // Copies go with the last row of their partition.
    let all: Vec<Members<'_>> = (0..kept.len()).map(members).filter(|of| of.rows() > 0).collect();
    let coded = all.iter().map(Members::rows).sum();
    let head = Head {
        uuid: content.version.schema.uuid,
        id: random()?,
        centres: (content.centres.0, centres.id()),
        metric: content.version.schema.metric,
        dim: content.version.schema.dim,
        partitions: u32::try_from(all.len()).unwrap_or(u32::MAX),
        plain: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        first: u32::try_from(frame.reflections.count()).unwrap_or(u32::MAX),
        coded,
        ranges: content.ranges.clone(),
    };
    let mut out = CodesWriter::new(file, head, all.iter().map(Members::counts));
    let blocks = Blocks { content, frame, centres: points };
    let mut start = 0;
    while start < all.len() {
        let mut rows = 0;
        let more = all[start..].iter().take_while(|of| {
            rows += of.counts().map(u64::from).iter().sum::<u64>();
            rows <= ROWS_AT_ONCE
        });
        let end = start + more.count().max(1);
        let read: u64 = all[start..end].iter().map(|of| of.fresh[0].len() as u64).sum();
        out.add(&blocks.of(&all[start..end], work.threads)?)?;
        work.add(read * content.version.schema.stride())?;
        start = end;
    }
    Ok(out.finish(&plain)?)
}

/// The centre of each fresh row, and that of its copy if it is to have one. Centres are turned back once, and no row is
/// turned.
fn assign(fresh: &Fresh<'_>, frame: &Frame, mut centres: Centres, work: &mut Work<'_>) -> Result<Vec<Two>> {
    if fresh.len() == 0 {
        return Ok(Vec::new());
    }
    let (kernels, width) = (kernel::kernels(), centres.width);
    centres.each().for_each(|centre| frame.turn_back(kernels, centre));
    let finder = Finder::new(&centres);
    let mut assigned = Vec::with_capacity(fresh.len());
    let at_once = TILE * work.threads.max(1) * 4;
    for start in (0..fresh.len()).step_by(at_once) {
        let end = fresh.len().min(start + at_once);
        let tiles = (start..end).step_by(TILE);
        let place = |done: &mut Vec<(usize, Vec<Two>)>, first: usize| -> Result<()> {
            let rows = first..end.min(first + TILE);
            let mut values = vec![0f32; rows.len() * width];
            let mut is_coded = Vec::with_capacity(rows.len());
            for (number, out) in rows.zip(values.chunks_exact_mut(width)) {
                is_coded.push(offset(frame.metric, &frame.mean, &fresh.vector(number)?, out));
            }
            let mut two = finder.two(kernels, Matrix { values: &values, width });
            let uncoded = two.iter_mut().zip(is_coded).filter(|(_, coded)| !coded);
            uncoded.for_each(|(two, _)| *two = Two { nearest: NONE, second: NONE, loss: f32::INFINITY });
            done.push((first, two));
            Ok(())
        };
        let done = parallel::for_each_piece(tiles, work.threads as u64, work.threads, Vec::new, place)?;
        let mut done = done.concat();
        done.sort_by_key(|(first, _)| *first);
        assigned.extend(done.into_iter().flat_map(|(_, two)| two));
        work.add((end - start) as u64 * fresh.version.schema.stride())?;
    }
    leave_most_ambiguous(&mut assigned);
    Ok(assigned)
}

/// Leaves a second centre to the rows that lose least by it.
fn leave_most_ambiguous(assigned: &mut [Two]) {
    let mut losses: Vec<f32> = assigned.iter().map(|two| two.loss).filter(|&loss| loss < AMBIGUOUS).collect();
    let most = assigned.len() / OF_COPIES;
    let limit =
        if losses.len() > most { *losses.select_nth_unstable_by(most, f32::total_cmp).1 } else { AMBIGUOUS };
    for two in assigned {
        let is_less = two.loss < limit;
        two.second = if is_less { two.second } else { NONE };
    }
}

/// Numbers of rows by their centre.
struct Sorted {
    numbers: Vec<u32>,
    /// Where those of each centre end.
    ends: Vec<u32>,
}

impl Sorted {
    fn of(&self, centre: usize) -> &[u32] {
        let start = if centre == 0 { 0 } else { self.ends[centre - 1] as usize };
        &self.numbers[start..self.ends[centre] as usize]
    }
}

fn sort(assigned: &[Two], centres: usize, centre: impl Fn(&Two) -> u32) -> Sorted {
    let numbered = || (0..).zip(assigned.iter().map(&centre)).filter(|(_, centre)| *centre != NONE);
    let mut ends = vec![0u32; centres];
    numbered().for_each(|(_, centre): (u32, u32)| ends[centre as usize] += 1);
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    let mut numbers = vec![0u32; start as usize];
    for (number, centre) in numbered() {
        let at = &mut ends[centre as usize];
        numbers[*at as usize] = number;
        *at += 1;
    }
    Sorted { numbers, ends }
}

/// Makes blocks.
struct Blocks<'a> {
    content: &'a Content<'a>,
    frame: &'a Frame,
    centres: Matrix<'a>,
}

impl Blocks<'_> {
    /// The blocks of some partitions, in order.
    fn of(&self, of: &[Members<'_>], threads: usize) -> std::result::Result<Vec<NewBlock>, Failure> {
        let begin = || (Vec::new(), Encoder::new(kernel::kernels(), self.frame));
        let encode = |(done, encoder): &mut (Vec<(usize, NewBlock)>, Encoder<'_>),
                      (n, members): (usize, &Members<'_>)| {
            done.push((n, self.block(members, encoder)?));
            Ok::<(), Failure>(())
        };
        let pieces = of.iter().enumerate();
        let done = parallel::for_each_piece(pieces, threads as u64, threads, begin, encode)?;
        let mut done: Vec<(usize, NewBlock)> = done.into_iter().flat_map(|(done, _)| done).collect();
        done.sort_by_key(|(n, _)| *n);
        Ok(done.into_iter().map(|(_, block)| block).collect())
    }

    fn block(
        &self,
        members: &Members<'_>,
        encoder: &mut Encoder<'_>,
    ) -> std::result::Result<NewBlock, Failure> {
        let mut block = NewBlock::new(members.centre);
        for (part, numbers) in members.fresh.into_iter().enumerate() {
            for kept in &self.content.kept {
                take(kept, part, &mut block)?;
            }
            self.encode(numbers, part, encoder, &mut block)?;
        }
        Ok(block)
    }

    /// Codes fresh rows or, as the second part, copies of some.
    fn encode(
        &self,
        numbers: &[u32],
        part: usize,
        encoder: &mut Encoder<'_>,
        block: &mut NewBlock,
    ) -> std::result::Result<(), Failure> {
        let centre = self.centres.row(block.centre as usize);
        let (width, fresh) = (self.centres.width, &self.content.fresh);
        let mut places = vec![0f32; width * numbers.len().min(TILE)];
        for numbers in numbers.chunks(TILE) {
            let places = &mut places[..width * numbers.len()];
            for (&number, place) in numbers.iter().zip(places.chunks_exact_mut(width)) {
                // It was assigned before, so that it can be placed.
                offset(self.frame.metric, &self.frame.mean, &fresh.vector(number as usize)?, place);
            }
            self.frame.turn(kernel::kernels(), places);
            let add = if part == 0 { Encoder::add } else { Encoder::add_copy };
            for (&number, place) in numbers.iter().zip(places.chunks_exact(width)) {
                add(encoder, block, place, centre, fresh.ordinal(number as usize));
            }
        }
        Ok(())
    }
}

/// Takes what a file has of a partition: rows or, as the second part, copies.
fn take(kept: &Kept<'_>, part: usize, block: &mut NewBlock) -> std::result::Result<(), Failure> {
    let partitions = kept.codes.partitions().ok_or(Failure::Side)?;
    let Ok(at) = partitions.binary_search_by_key(&block.centre, |partition| partition.centre) else {
        return Ok(());
    };
    let partition = &partitions[at];
    let Signed { signs, front } = kept.codes.signed(partition).ok_or(Failure::Side)?[part];
    let back = kept.codes.back(partition).ok_or(Failure::Side)?;
    let rows = partition.parts()[part].clone();
    let first = rows.start;
    for row in rows {
        let Some(ordinal) = (kept.to)(back.ordinal(row)) else { continue };
        let codes = (signs.row(row - first), front.row(row - first));
        let rest = (front.corrections.beyond.get(row - first), back.record(row));
        block.parts[part].take(codes, rest, ordinal);
    }
    block.radii = [block.radii[0].min(partition.radii[0]), block.radii[1].max(partition.radii[1])];
    block.norm = block.norm.max(partition.norm);
    Ok(())
}

// ---- centres ----

/// Finds a frame and centres for the live rows of a version, of a sample of about so many bytes.
pub(crate) fn train(
    version: &Version,
    id: [u8; 16],
    (count, bytes): (usize, u64),
    work: &mut Work<'_>,
) -> Result<(Frame, Centres)> {
    let (schema, kernels) = (&version.schema, kernel::kernels());
    let dim = schema.dim as usize;
    let width = Frame::padded(dim);
    let most = (count as u64 * SAMPLE_PER_CENTRE).min(bytes / (width as u64 * 4)).max(count as u64);
    let rows = sample(version, most);
    let mean = if schema.metric == Metric::Ip { vec![0.0; dim] } else { mean(version, &rows)? };
    work.add(rows.len() as u64 * schema.stride())?;
    let mut values = Vec::new();
    let len = rows.len() * width;
    values.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len as u64 * 4 })?;
    let mut place = vec![0f32; width];
    for at in &rows {
        if offset(schema.metric, &mean, &version.vector(*at)?, &mut place) {
            values.extend_from_slice(&place);
        }
    }
    work.add(rows.len() as u64 * schema.stride())?;
    if values.is_empty() {
        values.resize(width, 0.0);
    }
    let sample = Matrix { values: &values, width };
    let Work { threads, done, go_on } = work;
    let go_on = &mut || go_on(*done);
    let mut centres = Centres::train(sample, count.min(sample.rows()), *threads, go_on)?;
    let differences = differences(kernels, &centres, sample, *threads);
    let reflections = reflect::principal(kernels, Matrix { values: &differences, width }, *threads);
    if reflections.count() > 0 {
        centres = centres.fewer(sample, (count / OF_DIVIDED).max(1), *threads, go_on)?;
    }
    let frame = Frame::new(schema.metric, mean, id, reflections);
    frame.turn(kernels, &mut centres.groups);
    frame.turn(kernels, &mut centres.centres);
    Ok((frame, centres))
}

/// What some vectors of a sample, spread over all of it, are less their nearest centres.
fn differences(kernels: &Kernels, centres: &Centres, sample: Matrix<'_>, threads: usize) -> Vec<f32> {
    let (finder, width) = (Finder::new(centres), centres.width);
    let count = sample.rows().min(reflect::SAMPLE * width);
    let spread = (0..count).flat_map(|n| sample.row(n * sample.rows() / count));
    let mut values: Vec<f32> = spread.copied().collect();
    let subtract = |(): &mut (), tile: &mut [f32]| {
        let nearest = finder.nearest(kernels, Matrix { values: tile, width });
        for (vector, centre) in tile.chunks_exact_mut(width).zip(nearest) {
            let centre = centres.all().row(centre as usize);
            vector.iter_mut().zip(centre).for_each(|(x, centre)| *x -= centre);
        }
        Ok::<(), Infallible>(())
    };
    let tiles = values.chunks_mut(TILE * width);
    let Ok(_) = parallel::for_each_piece(tiles, threads as u64, threads, || (), subtract);
    values
}

/// So many live rows, or all, spread over all of them.
pub(crate) fn sample(version: &Version, most: u64) -> Vec<At> {
    let live = version.live();
    let mut random = 0;
    let mut left = live;
    let mut wanted = most.min(live);
    // Of those that are left, each is as likely as any other (D. Knuth, algorithm S).
    let take = |_: &At| {
        let taken = split_mix(&mut random) % left.max(1) < wanted;
        left = left.saturating_sub(1);
        wanted -= u64::from(taken);
        taken
    };
    version.live_rows().filter(take).collect()
}

/// The mean of some rows, as they are coded; those far larger than most are left out.
fn mean(version: &Version, rows: &[At]) -> Result<Vec<f32>> {
    let (dim, metric) = (version.schema.dim as usize, version.schema.metric);
    let mut norms = Vec::with_capacity(rows.len());
    for at in rows {
        norms.push(norm(&version.vector(*at)?));
    }
    let middle = norms.len() / 2;
    let limit = if norms.is_empty() {
        0.0
    } else {
        *norms.select_nth_unstable_by(middle, f64::total_cmp).1 * OUTLIER
    };
    let (mut sums, mut count) = (vec![0f64; dim], 0u64);
    for at in rows {
        let vector = version.vector(*at)?;
        let Some(scale) = scale_of(metric, &vector) else { continue };
        if metric == Metric::L2 && norm(&vector) > limit {
            continue;
        }
        count += 1;
        sums.iter_mut().zip(&*vector).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(scale));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the mean is f32")]
    let mean = sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect();
    Ok(mean)
}
