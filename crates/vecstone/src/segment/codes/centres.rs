//! The file of centres, `.centres.side` in `format.md`.

use crate::format::Fields;
use crate::pair::files::StoreFile;
use crate::segment::codes::cluster::{Centres, Matrix};
use crate::segment::codes::frame::{Frame, is_first_part, parts};
use crate::segment::codes::pages::{ALIGNMENT, FileId, Magic, Paged, Writer};
use crate::segment::codes::part::{Part, Signs};
use crate::segment::codes::reflect::Reflections;
use crate::segment::codes::row;
use crate::sys::kernel::{self, codes::sign_bytes};
use crate::types::config::{Metric, check_dim};
use crate::types::element::Element;
use crate::types::error::Result;
use crate::types::schema::Schema;
use std::ops::Range;
use std::sync::OnceLock;

const KIND: (Magic, u32) = (*b"VECSTCEN", 2);
/// More than a store of the largest size is to have.
const MAX_CENTRES: u32 = 1 << 24;

/// Numbers of four bytes that a code has room for, with the three beside it; none for a part without components.
fn part_numbers(components: u64) -> u64 {
    if components > 0 { components / 8 + 3 } else { 0 }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    uuid: [u8; 16],
    id: FileId,
    metric: Metric,
    dim: u32,
    groups: u32,
    centres: u32,
    /// Reflections of the frame.
    reflections: u32,
    rows: u64,
}

/// Where each array is in the pages.
#[derive(Debug, Clone)]
struct Layout {
    mean: Range<u64>,
    reflections: Range<u64>,
    groups: Range<u64>,
    starts: Range<u64>,
    centres: Range<u64>,
    /// The codes of each part of the centres.
    codes: [Range<u64>; 2],
    /// So the first part by signs.
    signs: Range<u64>,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(self.uuid);
        out.extend(self.id);
        out.extend([self.metric as u8, 0, 0, 0]);
        let fields = [self.dim, self.groups, self.centres, self.reflections];
        fields.iter().for_each(|field| out.extend(field.to_le_bytes()));
        out.extend(self.rows.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Head> {
        let mut fields = Fields(bytes);
        let (uuid, id) = (fields.array()?, fields.array()?);
        let [metric, zeros @ ..] = fields.array::<4>()?;
        let metric = Metric::from_byte(metric).filter(|_| zeros == [0; 3])?;
        let (dim, groups, centres) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (reflections, rows) = (fields.u32()?, fields.u64()?);
        let head = Head { uuid, id, metric, dim, groups, centres, reflections, rows };
        let is_possible = check_dim(dim).is_ok() && groups > 0 && groups <= centres && centres <= MAX_CENTRES;
        let is_part = is_first_part(reflections as usize, dim as usize);
        (is_possible && is_part && fields.0.is_empty()).then_some(head)
    }

    fn width(&self) -> u64 {
        Frame::padded(self.dim as usize) as u64
    }

    fn layout(&self) -> Layout {
        let mut end = 0u64;
        let mut array = |numbers: u64| {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + numbers * 4;
            start..end
        };
        Layout {
            mean: array(self.dim.into()),
            reflections: array(Reflections::numbers(self.width(), self.reflections.into())),
            groups: array(u64::from(self.groups) * self.width()),
            starts: array(u64::from(self.groups) + 1),
            centres: array(u64::from(self.centres) * self.width()),
            codes: self
                .parts()
                .map(|components| array(u64::from(self.centres) * part_numbers(components as u64))),
            signs: array(self.sign_numbers()),
        }
    }

    /// Components of each part of a code.
    fn parts(&self) -> [usize; 2] {
        parts(self.reflections as usize, self.dim as usize)
    }

    /// Numbers of four bytes that the signs of all centres have room for, with the three beside each.
    fn sign_numbers(&self) -> u64 {
        let bytes = sign_bytes(self.centres as usize, self.parts()[0] / 8);
        bytes as u64 / 4 + 3 * u64::from(self.centres)
    }

    /// Bytes of all pages.
    fn len(&self) -> u64 {
        self.layout().signs.end
    }
}

/// Writes the file, which is new and empty. `rows`: live ones.
pub(crate) fn write(
    file: &StoreFile,
    schema: &Schema,
    (id, frame): (FileId, &Frame),
    centres: &Centres,
    rows: u64,
) -> Result<()> {
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let head = Head {
        uuid: schema.uuid,
        id,
        metric: schema.metric,
        dim: schema.dim,
        groups: count(centres.starts.len() - 1),
        centres: count(centres.all().rows()),
        reflections: count(frame.reflections.count()),
        rows,
    };
    let mut pages = Writer::new(file, KIND, head.encode(), id, head.len());
    pages.add_floats(&frame.mean)?;
    pages.align()?;
    pages.add_floats(frame.reflections.stored())?;
    pages.align()?;
    pages.add_floats(&centres.groups)?;
    pages.align()?;
    pages.add(&centres.starts.iter().flat_map(|start| start.to_le_bytes()).collect::<Vec<u8>>())?;
    pages.align()?;
    pages.add_floats(&centres.centres)?;
    let (parts, signs) = row::of_centres(kernel::kernels(), frame, centres.all());
    for array in parts.iter().chain([&signs]) {
        pages.align()?;
        pages.add(array)?;
    }
    pages.finish()
}

/// An open file of centres.
#[derive(Debug)]
pub(crate) struct CentresFile {
    pub(crate) pages: Paged,
    head: Head,
    layout: Layout,
    frame: OnceLock<Option<Frame>>,
}

impl CentresFile {
    /// `None` if it is damaged, or of another store.
    pub(crate) fn open(file: StoreFile, uuid: [u8; 16]) -> Result<Option<CentresFile>> {
        let mut found = None;
        let pages = Paged::open(file, KIND, |fields| {
            let head = Head::decode(fields).filter(|head| head.uuid == uuid)?;
            found = Some(head);
            Some(head.id)
        })?;
        let (Some(pages), Some(head)) = (pages, found) else { return Ok(None) };
        let layout = head.layout();
        let is_whole = head.len() == pages.data_len();
        Ok(is_whole.then(|| CentresFile { pages, head, layout, frame: OnceLock::new() }))
    }

    pub(crate) fn id(&self) -> FileId {
        self.head.id
    }

    /// Live rows when they were found.
    pub(crate) fn rows(&self) -> u64 {
        self.head.rows
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.head.centres
    }

    /// Whether it is one of a store like this.
    pub(crate) fn is_of(&self, schema: &Schema) -> bool {
        (self.head.dim, self.head.metric) == (schema.dim, schema.metric) && schema.element == Element::F32
    }

    /// The frame; `None` if it is damaged.
    pub(crate) fn frame(&self) -> Option<&Frame> {
        let read = || {
            let mean = self.pages.floats(self.layout.mean.clone())?.to_vec();
            let values = self.pages.floats(self.layout.reflections.clone())?.to_vec();
            let width = usize::try_from(self.head.width()).ok()?;
            let reflections = Reflections::of_stored(width, self.head.reflections as usize, values);
            if reflections.is_none() {
                self.pages.note_damage();
            }
            Some(Frame::new(self.head.metric, mean, self.head.id, reflections?))
        };
        self.frame.get_or_init(read).as_ref()
    }

    /// All centres; `None` if one is damaged.
    pub(crate) fn centres(&self) -> Option<Matrix<'_>> {
        let values = self.pages.floats(self.layout.centres.clone())?;
        Some(Matrix { values, width: usize::try_from(self.head.width()).ok()? })
    }

    /// The codes of each part of all centres; `None` if one is damaged.
    pub(crate) fn codes(&self) -> Option<[Part<'_>; 2]> {
        let count = self.head.centres as usize;
        let of = |n: usize| {
            Part::of(self.pages.get(self.layout.codes[n].clone())?, count, self.head.parts()[n] / 2, true)
        };
        Some([of(0)?, if self.head.reflections > 0 { of(1)? } else { Part::default() }])
    }

    /// The signs of the first part of all centres; `None` if one is damaged.
    pub(crate) fn signs(&self) -> Option<Signs<'_>> {
        let bytes = self.pages.get(self.layout.signs.clone())?;
        Signs::of(bytes, self.head.centres as usize, self.head.parts()[0] / 8, &[])
    }

    /// A copy to find the nearest with; `None` if a byte is damaged, or starts of groups are no such.
    pub(crate) fn load(&self) -> Option<Centres> {
        let starts = self.pages.get(self.layout.starts.clone())?.as_chunks::<4>().0;
        let starts: Vec<u32> = starts.iter().map(|&start| u32::from_le_bytes(start)).collect();
        let in_order = starts.is_sorted() && starts.first() == Some(&0);
        if !in_order || starts.last() != Some(&self.head.centres) {
            self.pages.note_damage();
            return None;
        }
        let groups = self.pages.floats(self.layout.groups.clone())?.to_vec();
        let centres = self.centres()?;
        Some(Centres { width: centres.width, groups, starts, centres: centres.values.to_vec() })
    }
}
