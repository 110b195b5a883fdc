//! Which rows of a segment are dead.
//!
//! In memory a bitmap in chunks that are copied on write: a published deletion vector shares with the next one all chunks in
//! which nobody died since. On the disk a portable roaring bitmap, which every language can read.

use crate::format::deletions;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

/// Rows whose bits share a word.
const WORD: u64 = 64;
const WORDS: usize = 1024;
/// Rows whose bits share a chunk; as in a container of a roaring bitmap.
const CHUNK: u64 = WORD * WORDS as u64;

type Chunk = [u64; WORDS];

/// The dead rows of a segment. A row that was never deleted is live, so appended rows need no write.
///
/// A clone costs one reference count; the first [`delete_row`](Self::delete_row) after it copies the list of chunks
/// and one chunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeletionVector {
    /// By `row / CHUNK`; nobody is dead in a chunk that is absent or beyond the end.
    chunks: Arc<Vec<Option<Arc<Chunk>>>>,
    dead: u64,
}

impl DeletionVector {
    /// Marks a row as dead; false if it was already. O(1), but for the first time in a chunk since a clone.
    pub(crate) fn delete_row(&mut self, row: u32) -> bool {
        if !self.is_live(row) {
            return false;
        }
        let (chunk, word, bit) = place(row);
        self.chunk_mut(chunk)[word] |= bit;
        self.dead += 1;
        true
    }

    pub(crate) fn is_live(&self, row: u32) -> bool {
        let (chunk, word, bit) = place(row);
        self.chunk(chunk).is_none_or(|words| words[word] & bit == 0)
    }

    /// Number of dead rows.
    pub(crate) fn dead(&self) -> u64 {
        self.dead
    }

    /// Live rows of a range, in order. Rows beyond the segment count as live: the range must end with it.
    pub(crate) fn live_in(&self, range: Range<u64>) -> impl Iterator<Item = u64> + '_ {
        let words = if range.is_empty() { 0..0 } else { range.start / WORD..range.end.div_ceil(WORD) };
        words.flat_map(move |number| {
            let first = number * WORD;
            let mut live = !self.word(number);
            if first < range.start {
                live &= !0 << (range.start - first);
            }
            if range.end - first < WORD {
                live &= (1 << (range.end - first)) - 1;
            }
            Ones { first, word: live }
        })
    }

    /// Dead rows, in order.
    pub(crate) fn dead_rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.dead_but_not_in(None)
    }

    /// Rows dead here but not in `before`, in order. Chunks that both share cost nothing.
    pub(crate) fn newly_dead<'a>(&'a self, before: &'a DeletionVector) -> impl Iterator<Item = u32> + 'a {
        self.dead_but_not_in(Some(before))
    }

    /// Bytes on the heap, those shared with clones included.
    pub(crate) fn heap(&self) -> u64 {
        // An Arc keeps two counts in front of its value.
        let counts = 2 * size_of::<usize>();
        let list =
            counts + size_of_val(&*self.chunks) + self.chunks.capacity() * size_of::<Option<Arc<Chunk>>>();
        let chunks = self.chunks.iter().flatten().count() * (counts + size_of::<Chunk>());
        (list + chunks) as u64
    }

    /// Portable roaring serialization, the disk form. Equal deletion vectors give equal bytes.
    pub(crate) fn to_roaring(&self) -> Vec<u8> {
        let mut bitmap = RoaringBitmap::new();
        bitmap.append(self.dead_rows()).expect("rows come in order");
        bitmap.optimize();
        let mut bytes = Vec::with_capacity(bitmap.serialized_size());
        bitmap.serialize_into(&mut bytes).expect("a Vec takes every write");
        bytes
    }

    /// `None` if the bytes are no bitmap, have something behind it, or name a row at or beyond `rows`.
    pub(crate) fn from_roaring(bytes: &[u8], rows: u64) -> Option<DeletionVector> {
        // The parser allocates for all containers that the header claims: those must fit in the bytes and the segment.
        let containers = deletions::claimed_containers(bytes)?;
        if containers > rows.div_ceil(CHUNK) || containers * deletions::MIN_CONTAINER > bytes.len() as u64 {
            return None;
        }
        let mut rest = bytes;
        let bitmap = RoaringBitmap::deserialize_from(&mut rest).ok()?;
        if !rest.is_empty() || bitmap.max().is_some_and(|last| u64::from(last) >= rows) {
            return None;
        }
        let mut deletions = DeletionVector { dead: bitmap.len(), ..DeletionVector::default() };
        let mut rows = bitmap.iter().peekable();
        while let Some(&first) = rows.peek() {
            let (chunk, ..) = place(first);
            let words = deletions.chunk_mut(chunk);
            while let Some(row) = rows.next_if(|&row| place(row).0 == chunk) {
                let (_, word, bit) = place(row);
                words[word] |= bit;
            }
        }
        Some(deletions)
    }

    /// The deletion vector in which of the rows below `rows` those live whose bit is set in `live`.
    pub(crate) fn of_live(live: &[u64], rows: u64) -> DeletionVector {
        let mut chunks = Vec::new();
        for (number, words) in (0u64..).zip(live.chunks(WORDS)) {
            let mut chunk = [0; WORDS];
            for (first, (dead, live)) in (number * CHUNK..).step_by(64).zip(chunk.iter_mut().zip(words)) {
                // Rows beyond the end are live.
                let here = rows.saturating_sub(first).min(WORD);
                *dead = !live & if here == WORD { !0 } else { (1 << here) - 1 };
            }
            chunks.push(Some(Arc::new(chunk)));
        }
        let dead =
            chunks.iter().flatten().flat_map(|chunk| chunk.iter()).map(|word| u64::from(word.count_ones()));
        DeletionVector { dead: dead.sum(), chunks: Arc::new(chunks) }
    }

    fn chunk(&self, chunk: usize) -> Option<&Arc<Chunk>> {
        self.chunks.get(chunk)?.as_ref()
    }

    /// A chunk that nobody else sees, made if need be.
    fn chunk_mut(&mut self, chunk: usize) -> &mut Chunk {
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.len() <= chunk {
            chunks.resize(chunk + 1, None);
        }
        Arc::make_mut(chunks[chunk].get_or_insert_with(|| Arc::new([0; WORDS])))
    }

    /// The dead rows among 64, from `number * 64` on.
    fn word(&self, number: u64) -> u64 {
        let Ok(number) = usize::try_from(number) else { return 0 };
        self.chunk(number / WORDS).map_or(0, |words| words[number % WORDS])
    }

    fn dead_but_not_in<'a>(&'a self, before: Option<&'a DeletionVector>) -> impl Iterator<Item = u32> + 'a {
        (0u64..)
            .zip(self.chunks.iter())
            .flat_map(move |(number, chunk)| {
                let old = usize::try_from(number).ok().and_then(|number| before?.chunk(number));
                let new = chunk.as_ref().filter(|new| old.is_none_or(|old| !Arc::ptr_eq(old, new)));
                let words = (0..WORDS).map(move |at| {
                    let was = old.map_or(0, |old| old[at]);
                    new.map_or(0, |new| new[at] & !was)
                });
                // Without a chunk there is nothing to walk through.
                let words = words.take(if new.is_some() { WORDS } else { 0 });
                (number * CHUNK..).step_by(64).zip(words).flat_map(|(first, word)| Ones { first, word })
            })
            .map(|row| u32::try_from(row).expect("only u32 rows are killed"))
    }
}

/// Chunk, word in it and bit of a row.
fn place(row: u32) -> (usize, usize, u64) {
    let word = (row >> 6) as usize;
    (word / WORDS, word % WORDS, 1 << (row % 64))
}

/// The set bits of a word, counted from `first`.
struct Ones {
    first: u64,
    word: u64,
}

impl Iterator for Ones {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        if self.word == 0 {
            return None;
        }
        let bit = self.word.trailing_zeros();
        self.word &= self.word - 1;
        Some(self.first + u64::from(bit))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let ones = self.word.count_ones() as usize;
        (ones, Some(ones))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Numbers below `end`, the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % end
        }

        fn row(&mut self, end: u32) -> u32 {
            u32::try_from(self.below(u64::from(end))).expect("below a u32")
        }
    }

    fn mask_of(rows: impl IntoIterator<Item = u32>) -> DeletionVector {
        let mut deletions = DeletionVector::default();
        rows.into_iter().for_each(|row| _ = deletions.delete_row(row));
        deletions
    }

    fn bytes_of(rows: impl IntoIterator<Item = u32>) -> Vec<u8> {
        mask_of(rows).to_roaring()
    }

    fn rows_of(deletions: &DeletionVector) -> BTreeSet<u32> {
        let rows: Vec<u32> = deletions.dead_rows().collect();
        assert!(rows.is_sorted());
        assert_eq!(rows.len() as u64, deletions.dead());
        rows.into_iter().collect()
    }

    #[test]
    fn it_does_what_a_set_does() {
        const ROWS: u32 = 5 * 65_536 + 77;
        let mut random = Random(1);
        let (mut deletions, mut model) = (DeletionVector::default(), BTreeSet::new());
        for round in 0..200 {
            for _ in 0..100 {
                // Dense in the first rows, sparse elsewhere; the second chunk stays empty.
                let row =
                    if round % 2 == 0 { random.row(3000) } else { 131_072 + random.row(ROWS - 131_072) };
                assert_eq!(deletions.delete_row(row), model.insert(row));
                assert!(!deletions.is_live(row));
            }
            let from = random.below(u64::from(ROWS));
            let end = from + random.below([5, 64, 70_000, 400_000][round % 4]);
            let live: Vec<u64> = deletions.live_in(from..end).collect();
            let expected =
                (from..end).filter(|&row| !u32::try_from(row).is_ok_and(|row| model.contains(&row)));
            assert!(live.into_iter().eq(expected), "{from}..{end}");
        }
        assert_eq!(rows_of(&deletions), model);
        assert!((0..ROWS).all(|row| deletions.is_live(row) != model.contains(&row)));
        let again =
            DeletionVector::from_roaring(&deletions.to_roaring(), u64::from(ROWS)).expect("its own bytes");
        assert_eq!(rows_of(&again), model);
        assert_eq!(again.to_roaring(), deletions.to_roaring());
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "it must not panic")]
    fn ranges_at_every_edge() {
        let deletions = mask_of([0, 63, 64, 65_535, 65_536, u32::MAX]);
        let live = |range| deletions.live_in(range).collect::<Vec<u64>>();
        assert_eq!(live(0..0), [0u64; 0]);
        assert_eq!(live(9..3), [0u64; 0]);
        assert_eq!(live(0..1), [0u64; 0]);
        assert_eq!(live(0..2), [1]);
        assert_eq!(live(62..66), [62, 65]);
        assert_eq!(live(65_534..65_538), [65_534, 65_537]);
        let last = u64::from(u32::MAX);
        assert_eq!(live(last - 1..last + 2), [last - 1, last + 1]);
        assert_eq!(live(64..128).len(), 63);
        assert_eq!(live(128..192).len(), 64);
    }

    #[test]
    fn a_clone_sees_no_later_death() {
        let mut deletions = mask_of([1, 70_000, 200_000]);
        let before = deletions.clone();
        assert_eq!(deletions.newly_dead(&before).count(), 0);
        assert!(!deletions.delete_row(1));
        assert!(Arc::ptr_eq(&deletions.chunks, &before.chunks), "nothing changed, nothing is copied");
        assert!(deletions.delete_row(2) && deletions.delete_row(69_999) && deletions.delete_row(400_000));
        assert_eq!(rows_of(&before), BTreeSet::from([1, 70_000, 200_000]));
        assert_eq!(deletions.newly_dead(&before).collect::<Vec<_>>(), [2, 69_999, 400_000]);
        assert_eq!(before.newly_dead(&deletions).count(), 0);
        let shared = |chunk: usize| {
            Arc::ptr_eq(
                deletions.chunk(chunk).expect("some are dead"),
                before.chunk(chunk).expect("some are dead"),
            )
        };
        assert_eq!([shared(0), shared(1), shared(3)], [false, false, true]);
    }

    #[test]
    fn only_chunks_with_dead_rows_take_memory() {
        assert!(DeletionVector::default().heap() < 100);
        let heap = mask_of([5 * 65_536]).heap();
        assert!((8192..8192 + 200).contains(&heap), "{heap}");
    }

    #[test]
    fn the_disk_form_is_that_of_the_specification() {
        assert_eq!(bytes_of([]), [58, 48, 0, 0, 0, 0, 0, 0]);
        // Cookie, one container: key 1, one row, at byte 16, which is 2.
        assert_eq!(bytes_of([65_538]), [58, 48, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 2, 0]);
        let all = bytes_of(0..1_000_000);
        assert!(all.len() < 300, "runs are stored as such: {}", all.len());
        assert_eq!(DeletionVector::from_roaring(&all, 1_000_000).expect("its own bytes").dead(), 1_000_000);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let good = bytes_of([3, 70_000]);
        assert!(DeletionVector::from_roaring(&good, 70_001).is_some());
        assert!(DeletionVector::from_roaring(&good, 70_000).is_none(), "a row the segment does not have");
        assert!(DeletionVector::from_roaring(&good, 0).is_none());
        assert!(
            DeletionVector::from_roaring(&[&good[..], &[0]].concat(), 70_001).is_none(),
            "something behind it"
        );
        for len in 0..good.len() {
            assert!(DeletionVector::from_roaring(&good[..len], 70_001).is_none(), "cut to {len}");
        }
        // Claims of 65,536, of 2^32 - 1 and of 65,536 run containers, in a few bytes.
        for claim in
            [[58, 48, 0, 0, 0, 0, 1, 0], [58, 48, 0, 0, 255, 255, 255, 255], [59, 48, 255, 255, 0, 0, 0, 0]]
        {
            assert!(DeletionVector::from_roaring(&claim, 1 << 32).is_none());
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        const ROWS: u32 = 300_000;
        let sparse = bytes_of((0..90).map(|i| i * 3_001));
        let dense = bytes_of((0..9_000).map(|i| i * 2));
        let runs = bytes_of((0..ROWS).filter(|row| row % 1000 < 900));
        let mut random = Random(7);
        for good in [sparse, dense, runs] {
            for _ in 0..2_000 {
                let mut bytes = good.clone();
                for _ in 0..=random.below(3) {
                    // Mostly in the header, where it matters.
                    let end = if random.below(2) == 0 { 48 } else { bytes.len() };
                    let at = usize::try_from(random.below(end as u64)).expect("small");
                    bytes[at] = random.below(256).to_le_bytes()[0];
                }
                if let Some(deletions) = DeletionVector::from_roaring(&bytes, u64::from(ROWS)) {
                    assert!(deletions.dead_rows().all(|row| row < ROWS));
                }
            }
        }
    }
}
