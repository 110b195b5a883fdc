//! Which row of an id is its newest: the in-memory table of an active segment. It copies no id.

use crate::pair::files::IdxMap;
use crate::pair::recover::Deleted;
use crate::pair::rows::{Row, RowTable};
use crate::sys::disk::Mapping;
use crate::types::id::{IdHasher, half};
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use std::hash::RandomState;
use std::sync::Arc;

/// The rows of a segment from some row on, found by id.
///
/// It only grows. A snapshot of fewer rows walks back along `previous` from the newest row of an id to the first that
/// it has, and asks its own deletion vector whether that one is live.
#[derive(Debug)]
pub(crate) struct HeapIndex {
    rows: RowTable,
    /// Newest rows, by hash.
    table: Table,
    /// Of a row that replaced another one here: that one.
    previous: HashMap<u32, u32, RandomState>,
    /// `.idx`, at least up to the last row's record.
    idx: IdxMap,
}

/// Parts of a table, each with the hashes that [`Table::part`] gives it.
const PARTS: usize = 64;

/// Rows by hash, in parts that grow one after the other: to grow, a part moves all that it holds, and who writes or
/// reads meanwhile waits for one part only.
#[derive(Debug, Default)]
struct Table {
    /// None before the first row, else [`PARTS`].
    parts: Vec<HashTable<u32>>,
}

impl Table {
    /// The part for a hash; its bits are neither those of a place in the part nor those of a tag.
    fn part(hash: u64) -> usize {
        (hash >> 40) as usize % PARTS
    }

    /// Makes room for so many rows, as much as adding them one by one would make.
    fn reserve(&mut self, rows: usize, hash: impl Fn(&u32) -> u64) {
        // Chance gives some parts a little more than others.
        let each = rows / PARTS;
        let each = each + each / 16;
        if each == 0 {
            return;
        }
        self.parts.resize_with(PARTS, HashTable::new);
        for (number, part) in self.parts.iter_mut().enumerate() {
            part.reserve(each * 4 * PARTS / (3 * PARTS + number), &hash);
        }
    }

    fn entry(
        &mut self,
        hash: u64,
        is: impl FnMut(&u32) -> bool,
        hash_of: impl Fn(&u32) -> u64,
    ) -> Entry<'_, u32> {
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS, HashTable::new);
        }
        let number = Self::part(hash);
        let part = &mut self.parts[number];
        // Between three quarters and all of what it can hold, so that not all parts are due at once.
        let capacity = part.capacity();
        if part.len() >= capacity * (3 * PARTS + number) / (4 * PARTS) {
            part.reserve(capacity + 1 - part.len(), &hash_of);
        }
        part.entry(hash, is, hash_of)
    }

    fn find(&self, hash: u64, is: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts.get(Self::part(hash))?.find(hash, is).copied()
    }

    fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.iter().flatten().copied()
    }

    fn heap(&self) -> usize {
        let tables: usize = self.parts.iter().map(HashTable::allocation_size).sum();
        tables + self.parts.capacity() * size_of::<HashTable<u32>>()
    }
}

/// Rows handed to a table at a time: readers get in between.
pub(crate) const ROWS_AT_ONCE: usize = 4096;

fn number(row: u64) -> u32 {
    u32::try_from(row).expect("row numbers are below MAX_ROWS")
}

/// From the half of a hash that is kept to all bits that the table looks at.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl HeapIndex {
    /// An empty index for the rows from `first` on.
    pub(crate) fn from_row(first: u64, idx: IdxMap) -> HeapIndex {
        HeapIndex {
            rows: RowTable::from_row(first),
            table: Table::default(),
            previous: HashMap::default(),
            idx,
        }
    }

    pub(crate) fn rows(&self) -> &RowTable {
        &self.rows
    }

    pub(crate) fn map(&self) -> &Arc<Mapping> {
        &self.idx.map
    }

    /// The mapped log, with the end of what counts here: 0 before the first row.
    pub(crate) fn idx(&self) -> &IdxMap {
        &self.idx
    }

    pub(crate) fn set_idx(&mut self, idx: IdxMap) {
        self.idx = idx;
    }

    /// Makes room at once: growing step by step would move each entry several times.
    fn expect(&mut self, rows: usize) {
        self.table.reserve(rows, |&row| spread(hash_of(&self.rows, row)));
    }

    /// Adds the next rows; tells of each that replaces another row here which one that is.
    pub(crate) fn add(&mut self, new: &[Row], replaced: impl FnMut(u32)) {
        let first = self.rows.end();
        new.iter().for_each(|row| self.rows.push(*row));
        self.index(number(first)..number(self.rows.end()), new.iter().map(|row| row.hash), replaced);
    }

    /// Takes over the rows of a table, lines included, which go on where these end; as [`add`](Self::add).
    pub(crate) fn take(&mut self, rows: RowTable, replaced: impl FnMut(u32)) {
        let first = self.rows.end();
        self.expect(rows.iter().count());
        if first == self.rows.first() {
            self.rows = rows;
        } else {
            self.rows.append(&rows);
        }
        let (rows, hashes) = self.by_part(first);
        self.index(rows, hashes, replaced);
    }

    /// The rows from `first` on with their hashes, part of the table by part: a part stays in the cache while it is filled.
    fn by_part(&self, first: u64) -> (Vec<u32>, Vec<u32>) {
        let hashes = || self.rows.iter_from(first).map(|row| row.hash);
        let mut starts = [0; PARTS + 1];
        hashes().for_each(|hash| starts[Table::part(spread(hash)) + 1] += 1);
        (1..=PARTS).for_each(|part| starts[part] += starts[part - 1]);
        let mut ordered = (vec![0; starts[PARTS]], vec![0; starts[PARTS]]);
        for (row, hash) in (first..).zip(hashes()) {
            let place = &mut starts[Table::part(spread(hash))];
            (ordered.0[*place], ordered.1[*place]) = (number(row), hash);
            *place += 1;
        }
        ordered
    }

    /// Makes rows the newest of their ids; those of one id ascend.
    fn index(
        &mut self,
        new: impl IntoIterator<Item = u32>,
        hashes: impl IntoIterator<Item = u32>,
        mut replaced: impl FnMut(u32),
    ) {
        let HeapIndex { rows, table, previous, idx } = self;
        let idx_at = |row: u32| rows.get(row.into()).expect("rows in the table are in the rows").idx_at;
        for (row, hash) in new.into_iter().zip(hashes) {
            let entry = table.entry(
                spread(hash),
                |&other| {
                    let other = rows.get(other.into()).expect("rows in the table are in the rows");
                    other.hash == hash && idx.id_at(other.idx_at) == idx.id_at(idx_at(row))
                },
                |&other| spread(hash_of(rows, other)),
            );
            match entry {
                Entry::Occupied(mut slot) => {
                    let old = std::mem::replace(slot.get_mut(), row);
                    previous.insert(row, old);
                    replaced(old);
                }
                Entry::Vacant(slot) => _ = slot.insert(row),
            }
        }
    }

    /// The newest row of each id, with the id's hash.
    pub(crate) fn newest(&self, hasher: IdHasher) -> Vec<(u64, u32)> {
        // In the order of rows, which is that of `.idx`.
        let mut rows: Vec<u32> = self.table.rows().collect();
        rows.sort_unstable();
        let hash = |row: u32| {
            let at = self.rows.get(row.into()).expect("rows in the table are in the rows").idx_at;
            hasher.hash(self.id_at(at))
        };
        rows.into_iter().map(|row| (hash(row), row)).collect()
    }

    /// Adds the lines of the rows that were added last.
    pub(crate) fn add_lines(&mut self, new: &RowTable) {
        self.rows.append_lines(new);
    }

    /// The newest row of an id below `below`. O(1) for the newest of all.
    pub(crate) fn find(&self, hash: u64, id: &[u8], below: u64) -> Option<u32> {
        let half = half(hash);
        let is = |&row: &u32| {
            let row = self.rows.get(row.into()).expect("rows in the table are in the rows");
            row.hash == half && self.idx.id_at(row.idx_at) == id
        };
        let mut row = self.table.find(spread(half), is)?;
        while u64::from(row) >= below {
            row = *self.previous.get(&row)?;
        }
        Some(row)
    }

    /// Looks at what [`find`](Self::find) will read for some hashes, for all at the same time.
    pub(crate) fn prefetch<const N: usize>(&self, hashes: impl Iterator<Item = u64>) {
        let mut found = [None; N];
        let first = |hash| self.table.find(spread(half(hash)), |_| true);
        found.iter_mut().zip(hashes).for_each(|(found, hash)| *found = first(hash));
        let rows = found.map(|row| self.rows.get(row?.into()));
        let sum = rows.iter().flatten().fold(0u8, |sum, row| sum.wrapping_add(self.idx.peek(row.idx_at)));
        std::hint::black_box(sum);
    }

    /// The row that a delete took away, if it is here.
    pub(crate) fn deleted(&self, delete: &Deleted) -> Option<u32> {
        self.find(delete.hash, self.idx.id_at(delete.idx_at), delete.rows)
    }

    /// The bytes of the id whose record starts there.
    pub(crate) fn id_at(&self, idx_at: u32) -> &[u8] {
        self.idx.id_at(idx_at)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> u64 {
        self.rows.heap() + (self.table.heap() + self.previous.allocation_size()) as u64
    }
}

fn hash_of(rows: &RowTable, row: u32) -> u32 {
    rows.get(row.into()).expect("rows in the table are in the rows").hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What design and documentation promise: 24 bytes for an active row, 12 of them in the table of rows.
    #[test]
    fn a_table_takes_twelve_bytes_a_row_while_it_grows() {
        let hash = |row: u32| spread(row.wrapping_mul(0x9E37_79B1) ^ 0x5bd1_e995);
        let mut table = Table::default();
        for row in 0..1_200_000u32 {
            let entry = table.entry(hash(row), |&other| other == row, |&other| hash(other));
            assert!(matches!(&entry, Entry::Vacant(_)));
            entry.insert(row);
            assert!(row < 50_000 || table.heap() as u64 <= 12 * u64::from(row), "{row}: {}", table.heap());
        }
        assert!((0..1_200_000).all(|row| table.find(hash(row), |&other| other == row) == Some(row)));
        assert_eq!(table.find(hash(7), |_| false), None);
        assert_eq!(table.rows().count(), 1_200_000);
    }

    #[test]
    fn room_made_at_once_is_not_much_more() {
        let hash = |row: u32| spread(row.wrapping_mul(0x9E37_79B1));
        let mut table = Table::default();
        table.reserve(1_000_000, |&row| hash(row));
        let reserved = table.heap();
        for row in 0..1_000_000u32 {
            table.entry(hash(row), |_| false, |&other| hash(other)).insert(row);
        }
        assert!(
            table.heap() <= 12_000_000 && table.heap() < reserved * 5 / 4,
            "{reserved}, {}",
            table.heap()
        );
    }
}
