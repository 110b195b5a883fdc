//! The file of effort, `.effort.side` in `format.md`: when an approximate search has looked at enough.

use crate::format::Fields;
use crate::pair::files::StoreFile;
use crate::segment::codes::pages::{FileId, Magic, Paged, Writer};
use crate::types::error::Result;

const KIND: (Magic, u32) = (*b"VECSTEFF", 3);
/// For so many neighbours it is measured, and for so great a share of them that is found.
pub(crate) const NEIGHBOURS: [usize; 3] = [1, 10, 100];
pub(crate) const RECALLS: [f32; 4] = [0.90, 0.95, 0.97, 0.99];
/// Where the rows are so many times more or fewer, effort grows by this power of it: measured of embeddings of text between
/// 48,000 and 100,000 rows.
const GROWTH: f64 = 0.65;
/// Where more than one of so many rows came since, rows like these may not have been measured, and effort is doubled.
const NEW: u64 = 4;

/// What was measured. What a search spends is the number of the rows and copies that it looked at, times the square of how
/// much less near the next partition seems than the one where it had as many as it seeks, by the square of
/// the query's length, or for ip by its length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Effort {
    /// Live rows when it was measured.
    pub(crate) rows: u64,
    /// With so many queries of the user's; 0 if with rows of the store.
    pub(crate) queries: u64,
    /// What is to be spent: by [`NEIGHBOURS`], then by [`RECALLS`].
    pub(crate) spent: [[f64; RECALLS.len()]; NEIGHBOURS.len()],
    /// Rows and copies that are looked at for that, on average.
    pub(crate) looked: [[u64; RECALLS.len()]; NEIGHBOURS.len()],
}

/// What an approximate search spends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Enough {
    /// For so many neighbours it was measured.
    pub(crate) k: u64,
    /// At least.
    pub(crate) spent: f64,
    /// Rows and copies that are looked at for that, about.
    pub(crate) looked: u64,
}

impl Effort {
    /// For `k` neighbours among so many live rows, of which that share is to be found; by what was measured for the next
    /// greater numbers. Where rows are to be looked at so many times as often, what is spent grows by the square of that,
    /// so for more than 100 neighbours. `None` where only an exact search finds as many.
    pub(crate) fn of(&self, k: usize, recall: f32, live: u64) -> Option<Enough> {
        let at = RECALLS.iter().position(|&measured| measured >= recall)?;
        let last = NEIGHBOURS.len() - 1;
        let row = NEIGHBOURS.iter().position(|&measured| measured >= k).unwrap_or(last);
        let beyond = k.div_ceil(NEIGHBOURS[last]).max(1) as f64;
        let is_grown = live.saturating_sub(self.rows) > live / NEW;
        let scale = (live as f64 / self.rows.max(1) as f64).powf(GROWTH) * if is_grown { 2.0 } else { 1.0 };
        let times = scale * beyond;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of rows")]
        let looked = (self.looked[row][at] as f64 * times).ceil() as u64;
        Some(Enough { k: NEIGHBOURS[row] as u64, spent: self.spent[row][at] * times * times, looked })
    }
}

/// Writes the file, which is new and empty. `centres`: the id of the file of centres for which it was measured.
pub(crate) fn write(
    file: &StoreFile,
    uuid: [u8; 16],
    (id, centres): (FileId, FileId),
    effort: &Effort,
) -> Result<()> {
    let mut fields = [uuid, id, centres].concat();
    [effort.rows, effort.queries].iter().for_each(|number| fields.extend(number.to_le_bytes()));
    effort.spent.as_flattened().iter().for_each(|spent| fields.extend(spent.to_le_bytes()));
    effort.looked.as_flattened().iter().for_each(|looked| fields.extend(looked.to_le_bytes()));
    Writer::new(file, KIND, fields, id, 0).finish()
}

/// An open file of effort.
#[derive(Debug)]
pub(crate) struct EffortFile {
    pub(crate) pages: Paged,
    /// The id of the file of centres for which it was measured.
    pub(crate) centres: FileId,
    pub(crate) effort: Effort,
}

impl EffortFile {
    /// `None` if it is damaged, or of another store.
    pub(crate) fn open(file: StoreFile, uuid: [u8; 16]) -> Result<Option<EffortFile>> {
        let mut found = None;
        let pages = Paged::open(file, KIND, |fields| {
            let (id, centres, effort) = decode(fields, uuid)?;
            found = Some((centres, effort));
            Some(id)
        })?;
        let (Some(pages), Some((centres, effort))) = (pages, found) else { return Ok(None) };
        Ok((pages.data_len() == 0).then_some(EffortFile { pages, centres, effort }))
    }
}

fn decode(bytes: &[u8], uuid: [u8; 16]) -> Option<(FileId, FileId, Effort)> {
    let mut fields = Fields(bytes);
    let is_ours = fields.array()? == uuid;
    let (id, centres) = (fields.array()?, fields.array()?);
    let (rows, queries) = (fields.u64()?, fields.u64()?);
    let (mut spent, mut looked) =
        ([[0.0; RECALLS.len()]; NEIGHBOURS.len()], [[0; RECALLS.len()]; NEIGHBOURS.len()]);
    for number in spent.as_flattened_mut() {
        *number = f64::from_bits(fields.u64()?);
    }
    for number in looked.as_flattened_mut() {
        *number = fields.u64()?;
    }
    let is_possible = rows > 0 && spent.as_flattened().iter().all(|&spent| spent >= 0.0);
    (is_ours && is_possible && fields.0.is_empty()).then_some((
        id,
        centres,
        Effort { rows, queries, spent, looked },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: Effort = Effort {
        rows: 1000,
        queries: 0,
        spent: [[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
        looked: [[1, 2, 3, 4], [10, 20, 30, 40], [50, 60, 70, 80]],
    };

    #[test]
    fn the_next_greater_numbers_are_used() {
        for (k, recall, expected) in [
            (0, 0.9, Some((1, 0.1, 1))),
            (1, 0.9, Some((1, 0.1, 1))),
            (1, 0.5, Some((1, 0.1, 1))),
            (1, 0.91, Some((1, 0.2, 2))),
            (2, 0.95, Some((10, 2.0, 20))),
            (10, 0.96, Some((10, 3.0, 30))),
            (11, 0.99, Some((100, 8.0, 80))),
            (100, 0.9, Some((100, 5.0, 50))),
            (101, 0.9, Some((100, 20.0, 100))),
            (1000, 0.9, Some((100, 500.0, 500))),
            (10, 0.991, None),
        ] {
            let expected = expected.map(|(k, spent, looked)| Enough { k, spent, looked });
            assert_eq!(MEASURED.of(k, recall, 1000), expected, "{k} {recall}");
        }
    }

    #[test]
    fn effort_grows_with_the_rows_and_more_with_many_new_ones() {
        let of = |live| MEASURED.of(100, 0.9, live).expect("below 0.99");
        // 50 times 1.3 to the power of 0.65, and times 10 to it, which is doubled.
        assert_eq!((of(1300).looked, of(10_000).looked), (60, 447));
        assert!((of(10_000).spent - 5.0 * 8.934 * 8.934).abs() < 0.1);
        assert!(of(100).looked < 20 && of(1).looked >= 1);
        assert!(MEASURED.of(usize::MAX, 0.9, u64::MAX).is_some());
    }
}
