//! The file of codes, `.codes.side` in `format.md`.

use crate::format::{Fields, Identity};
use crate::pair::files::StoreFile;
use crate::segment::codes::centres::CentresFile;
use crate::segment::codes::frame::{Frame, is_first_part, parts};
use crate::segment::codes::pages::{ALIGNMENT, FileId, Magic, Paged, Writer};
use crate::segment::codes::part::{Back, Part, Signed, Signs};
use crate::segment::codes::row::{Coded, NewBlock, NewCodes};
use crate::segment::point::{Covered, Point};
use crate::sys::kernel::codes;
use crate::types::config::{MAX_ROWS, Metric, check_dim};
use crate::types::element::Element;
use crate::types::error::Result;
use crate::types::schema::Schema;
use std::ops::Range;
use std::sync::OnceLock;

const KIND: (Magic, u32) = (*b"VECSTCOD", 2);
/// Bytes of an entry of the table.
const ENTRY: usize = 56;
const ENTRY_BYTES: u64 = ENTRY as u64;

/// What there is of each partition, in this order in the file.
#[derive(Debug, Clone, Copy)]
enum Block {
    Signs,
    Front,
    /// The front of the copies: an exact search reads fronts one behind the other, and none of these.
    Copies,
    Back,
}
const BLOCKS: usize = 4;

/// Bytes of a range.
fn encode_range(range: &Covered, out: &mut Vec<u8>) {
    let point = &range.point;
    for field in [range.first, range.end, point.identity.segment] {
        out.extend(field.to_le_bytes());
    }
    out.extend(point.identity.salt);
    out.extend(point.seq.to_le_bytes());
    out.extend(point.chain);
    out.extend(point.epoch.to_le_bytes());
    out.extend([point.kind, 0, 0, 0]);
    for field in [point.commit_at, point.idx_end, point.rows, point.docs_end] {
        out.extend(field.to_le_bytes());
    }
}

fn decode_range(fields: &mut Fields<'_>, uuid: [u8; 16]) -> Option<Covered> {
    let (first, end) = (fields.u64()?, fields.u64()?);
    let identity = Identity { uuid, segment: fields.u64()?, salt: fields.array()? };
    let (seq, chain, epoch) = (fields.u64()?, fields.array()?, fields.u32()?);
    let [kind, zeros @ ..] = fields.array::<4>()?;
    let (commit_at, idx_end) = (fields.u64()?, fields.u64()?);
    let (rows, docs_end) = (fields.u64()?, fields.u64()?);
    let point = Point { identity, seq, chain, epoch, kind, commit_at, idx_end, rows, docs_end, manifest: 0 };
    let is_possible = zeros == [0; 3] && first < end && end <= rows && rows <= MAX_ROWS;
    (is_possible && commit_at <= idx_end).then_some(Covered { first, end, point })
}

/// What the fields of a file say.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) uuid: [u8; 16],
    pub(crate) id: FileId,
    /// Number and id of the file of centres.
    pub(crate) centres: (u64, FileId),
    pub(crate) metric: Metric,
    pub(crate) dim: u32,
    /// Partitions that have rows.
    pub(crate) partitions: u32,
    /// Rows without a code.
    pub(crate) plain: u32,
    /// Components of the first part of a code; 0 if there is one part.
    pub(crate) first: u32,
    /// Rows with a code.
    pub(crate) coded: u64,
    pub(crate) ranges: Vec<Covered>,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(self.uuid);
        out.extend(self.id);
        out.extend(self.centres.0.to_le_bytes());
        out.extend(self.centres.1);
        out.extend([self.metric as u8, 0, 0, 0]);
        let ranges = u32::try_from(self.ranges.len()).unwrap_or(u32::MAX);
        for field in [self.dim, self.partitions, self.plain, ranges, self.first] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.coded.to_le_bytes());
        self.ranges.iter().for_each(|range| encode_range(range, &mut out));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Head> {
        let mut fields = Fields(bytes);
        let (uuid, id) = (fields.array()?, fields.array()?);
        let centres = (fields.u64()?, fields.array()?);
        let [metric, zeros @ ..] = fields.array::<4>()?;
        let metric = Metric::from_byte(metric).filter(|_| zeros == [0; 3])?;
        let [dim, partitions, plain, count, first] =
            [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
        let coded = fields.u64()?;
        check_dim(dim).ok()?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push(decode_range(&mut fields, uuid)?);
        }
        let rows = ranges.iter().try_fold(0u64, |rows, range| rows.checked_add(range.len()))?;
        let is_possible = is_first_part(first as usize, dim as usize)
            && rows <= MAX_ROWS
            && coded.checked_add(plain.into()) == Some(rows);
        let head = Head { uuid, id, centres, metric, dim, partitions, plain, first, coded, ranges };
        (is_possible && u64::from(partitions) <= coded && fields.0.is_empty()).then_some(head)
    }

    /// Components of each part of a code.
    fn parts(&self) -> [usize; 2] {
        parts(self.first as usize, self.dim as usize)
    }

    /// Bytes of each block of a partition with so many rows and copies; of signs those of the rows, and of the copies.
    fn bytes(&self, codes: [u32; 2]) -> [[u64; 2]; BLOCKS] {
        let [first, second] = self.parts();
        let beyond = if second > 0 { 4 } else { 0 };
        let [rows, copies] = codes.map(u64::from);
        let of = |codes: u64, bytes: usize| (codes * bytes as u64).next_multiple_of(ALIGNMENT);
        let front = |codes: u64| [of(codes, first / 2 + 12 + beyond), 0];
        let signs = |codes: u32| {
            let packed = u64::from(codes).next_multiple_of(codes::SIGN_BLOCK as u64) * (first / 8) as u64;
            (packed + u64::from(codes) * 12).next_multiple_of(ALIGNMENT)
        };
        let back = of(rows + copies, Back::bytes(second));
        [codes.map(signs), front(rows), front(copies), [back, 0]]
    }

    /// The same, of each block together.
    fn sizes(&self, codes: [u32; 2]) -> [u64; BLOCKS] {
        self.bytes(codes).map(|of| of.iter().sum())
    }

    /// Bytes of the table, rounded up.
    fn table_bytes(&self) -> u64 {
        (u64::from(self.partitions) * ENTRY_BYTES).next_multiple_of(ALIGNMENT)
    }

    /// Bytes behind the blocks.
    fn tail_bytes(&self) -> u64 {
        self.table_bytes() + u64::from(self.plain) * 4
    }
}

/// A partition of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Partition {
    pub(crate) centre: u32,
    /// Rows of which this is the nearest centre. They come first.
    pub(crate) rows: u32,
    /// Rows of other partitions that have a copy here.
    pub(crate) copies: u32,
    /// Where its blocks start.
    pub(crate) starts: [u64; BLOCKS],
    /// Least and greatest distance of a row from the centre.
    pub(crate) radii: [f32; 2],
    /// Greatest norm of a row.
    pub(crate) norm: f32,
}

impl Partition {
    /// Rows and copies.
    pub(crate) fn codes(&self) -> usize {
        self.rows as usize + self.copies as usize
    }

    /// Places of the rows and of the copies.
    pub(crate) fn parts(&self) -> [Range<usize>; 2] {
        [0..self.rows as usize, self.rows as usize..self.codes()]
    }

    fn counts(&self) -> [u32; 2] {
        [self.rows, self.copies]
    }
}

/// Writes a file, its partitions in the order of their centres.
#[derive(Debug)]
pub(crate) struct CodesWriter<'a> {
    pages: Writer<'a>,
    table: Vec<u8>,
    start: u64,
    head: Head,
}

impl<'a> CodesWriter<'a> {
    /// `sizes`: rows and copies of each partition.
    pub(crate) fn new(
        file: &'a StoreFile,
        head: Head,
        sizes: impl Iterator<Item = [u32; 2]>,
    ) -> CodesWriter<'a> {
        let blocks: u64 = sizes.flat_map(|codes| head.sizes(codes)).sum();
        let pages = Writer::new(file, KIND, head.encode(), head.id, blocks + head.tail_bytes());
        CodesWriter { pages, table: Vec::new(), start: 0, head }
    }

    /// Adds some partitions: their signs, one behind the other, then their fronts, those of copies, and their backs.
    pub(crate) fn add(&mut self, blocks: &[NewBlock]) -> Result<()> {
        let counts = |block: &NewBlock| block.parts.each_ref().map(NewCodes::count);
        let sizes: Vec<[u64; BLOCKS]> = blocks.iter().map(|block| self.head.sizes(counts(block))).collect();
        let mut starts = [self.start; BLOCKS];
        for n in 1..BLOCKS {
            starts[n] = starts[n - 1] + sizes.iter().map(|sizes| sizes[n - 1]).sum::<u64>();
        }
        for (block, sizes) in blocks.iter().zip(&sizes) {
            let [rows, copies] = counts(block);
            [block.centre, rows].iter().for_each(|field| self.table.extend(field.to_le_bytes()));
            starts.iter().for_each(|start| self.table.extend(start.to_le_bytes()));
            let bounds = [block.radii[0], block.radii[1], block.norm];
            bounds.iter().for_each(|bound| self.table.extend(bound.to_le_bytes()));
            self.table.extend(copies.to_le_bytes());
            starts.iter_mut().zip(sizes).for_each(|(start, size)| *start += size);
        }
        self.start = starts[BLOCKS - 1];
        let parts = || blocks.iter().flat_map(|block| &block.parts);
        let of_signs = self.head.parts()[0] / 8;
        for Coded { codes, a, h, e } in parts().map(|part| &part.signs) {
            self.add_coded(&codes::pack_signs(codes, of_signs), [a, h, e, &[]])?;
        }
        for part in (0..2).flat_map(|part| blocks.iter().map(move |block| &block.parts[part])) {
            let Coded { codes, a, h, e } = &part.first;
            self.add_coded(codes, [a, h, e, &part.beyond])?;
        }
        for block in blocks {
            block.parts.iter().try_for_each(|part| self.pages.add(&part.back))?;
            self.pages.align()?;
        }
        Ok(())
    }

    fn add_coded(&mut self, codes: &[u8], numbers: [&[f32]; 4]) -> Result<()> {
        self.pages.add(codes)?;
        numbers.into_iter().try_for_each(|array| self.pages.add_floats(array))?;
        self.pages.align()
    }

    /// `plain`: the ordinals without a code.
    pub(crate) fn finish(mut self, plain: &[u32]) -> Result<()> {
        self.pages.add(&self.table)?;
        self.pages.align()?;
        self.pages.add(&plain.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<u8>>())?;
        self.pages.finish()
    }
}

/// An open file of codes.
#[derive(Debug)]
pub(crate) struct CodesFile {
    pub(crate) pages: Paged,
    pub(crate) head: Head,
    partitions: OnceLock<Option<Vec<Partition>>>,
    /// Which ranges hold for the logs that are there: see [`side`](crate::segment::side).
    pub(crate) valid: OnceLock<Vec<bool>>,
}

impl CodesFile {
    /// `None` if it is damaged, or of another store.
    pub(crate) fn open(file: StoreFile, uuid: [u8; 16]) -> Result<Option<CodesFile>> {
        let mut found = None;
        let pages = Paged::open(file, KIND, |fields| {
            let head = Head::decode(fields).filter(|head| head.uuid == uuid)?;
            let id = head.id;
            found = Some(head);
            Some(id)
        })?;
        let (Some(pages), Some(head)) = (pages, found) else { return Ok(None) };
        let is_whole = head.tail_bytes() <= pages.data_len();
        Ok(is_whole.then(|| CodesFile { pages, head, partitions: OnceLock::new(), valid: OnceLock::new() }))
    }

    /// Whether it is one of a store like this.
    pub(crate) fn is_of(&self, schema: &Schema) -> bool {
        (self.head.dim, self.head.metric) == (schema.dim, schema.metric) && schema.element == Element::F32
    }

    /// The partitions that have rows; `None` if the table is damaged, or no such table.
    pub(crate) fn partitions(&self) -> Option<&[Partition]> {
        let partitions = self.partitions.get_or_init(|| self.read_partitions());
        if partitions.is_none() {
            self.pages.note_damage();
        }
        partitions.as_deref()
    }

    /// The partitions, if they are such of these centres, and codes have the parts of their frame; else the file is damaged.
    pub(crate) fn partitions_of(&self, centres: &CentresFile) -> Option<&[Partition]> {
        let (partitions, frame) = (self.partitions()?, centres.frame()?);
        let is_right = self.is_in(frame) && partitions.iter().all(|of| of.centre < centres.count());
        if !is_right {
            self.pages.note_damage();
        }
        is_right.then_some(partitions)
    }

    /// Whether its codes have the parts of a frame.
    pub(crate) fn is_in(&self, frame: &Frame) -> bool {
        self.head.first as usize == frame.reflections.count()
    }

    fn blocks_len(&self) -> u64 {
        self.pages.data_len() - self.head.tail_bytes()
    }

    fn read_partitions(&self) -> Option<Vec<Partition>> {
        let blocks = self.blocks_len();
        let bytes = self.pages.get(blocks..blocks + u64::from(self.head.partitions) * ENTRY_BYTES)?;
        let (mut partitions, mut ends, mut all, mut coded) = (Vec::new(), [0; BLOCKS], 0, 0);
        let mut last = None;
        for entry in bytes.as_chunks::<ENTRY>().0 {
            let mut fields = Fields(entry);
            let (centre, rows) = (fields.u32()?, fields.u32()?);
            let starts = [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?];
            let [least, greatest, norm, copies] =
                [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
            let radii = [least, greatest].map(f32::from_bits);
            let in_order = last.is_none_or(|last| last < centre) && rows > 0;
            if !in_order || radii[0] < 0.0 || rows.checked_add(copies).is_none() {
                return None;
            }
            last = Some(centre);
            for ((start, end), bytes) in starts.iter().zip(&mut ends).zip(self.head.sizes([rows, copies])) {
                let is_there = start >= end && start.is_multiple_of(ALIGNMENT);
                *end = start.checked_add(bytes).filter(|&end| is_there && end <= blocks)?;
                all += bytes;
            }
            coded += u64::from(rows);
            partitions.push(Partition { centre, rows, copies, starts, radii, norm: f32::from_bits(norm) });
        }
        (all == blocks && coded == self.head.coded).then_some(partitions)
    }

    /// The first part of the codes of a partition's rows or, as the second part, of its copies, by 4 bits a component: what
    /// an exact search reads. `None` if a byte is damaged.
    pub(crate) fn front(&self, partition: &Partition, part: usize) -> Option<Part<'_>> {
        let [first, second] = self.head.parts();
        let (block, rows) = ([Block::Front, Block::Copies][part], partition.parts()[part].len());
        Part::of(self.of(partition, block, 0)?, rows, first / 2, second == 0)
    }

    /// The same with the signs of the rows, then of the copies: what an approximate search reads.
    pub(crate) fn signed(&self, partition: &Partition) -> Option<[Signed<'_>; 2]> {
        let code = self.head.parts()[0] / 8;
        let signed = |part: usize| {
            let (bytes, front) = (self.of(partition, Block::Signs, part)?, self.front(partition, part)?);
            let rows = partition.parts()[part].len();
            Some(Signed { signs: Signs::of(bytes, rows, code, front.corrections.beyond)?, front })
        };
        Some([signed(0)?, if partition.copies > 0 { signed(1)? } else { Signed::default() }])
    }

    /// What a search reads of the rows that are left; `None` if a byte is damaged.
    pub(crate) fn back(&self, partition: &Partition) -> Option<Back<'_>> {
        let [_, second] = self.head.parts();
        let records = self.of(partition, Block::Back, 0)?.get(..partition.codes() * Back::bytes(second))?;
        Some(Back { records, code: second / 2 })
    }

    /// What a block has of a partition's rows or, as the second part, of its copies.
    fn of(&self, partition: &Partition, block: Block, part: usize) -> Option<&[u8]> {
        let [rows, copies] = self.head.bytes(partition.counts())[block as usize];
        let start = partition.starts[block as usize] + [0, rows][part];
        self.pages.get(start..start + [rows, copies][part])
    }

    /// The ordinals of rows without a code; `None` if they are damaged.
    pub(crate) fn plain(&self) -> Option<impl Iterator<Item = u32>> {
        let start = self.blocks_len() + self.head.table_bytes();
        let bytes = self.pages.get(start..start + u64::from(self.head.plain) * 4)?;
        Some(bytes.as_chunks::<4>().0.iter().map(|&row| u32::from_le_bytes(row)))
    }

    /// The range that an ordinal is in, and the row of its segment.
    pub(crate) fn locate(&self, ordinal: u32) -> Option<(usize, u64)> {
        let mut rest = u64::from(ordinal);
        for (place, range) in self.head.ranges.iter().enumerate() {
            if rest < range.len() {
                return Some((place, range.first + rest));
            }
            rest -= range.len();
        }
        None
    }
}
