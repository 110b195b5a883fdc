//! Which row of an id is live: an in-memory table over the ids in the mapped `.idx`. It copies no id.

use crate::error::Result;
use crate::storage::{LogEntry, VectorStorage};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Ids to live rows, and the set of live rows.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Row numbers, found by the hash of the row's id.
    table: HashTable<u32>,
    /// Seeded per process: ids chosen by someone else cannot be made to collide.
    hasher: RandomState,
    /// One bit a row.
    live: Vec<u64>,
}

impl Index {
    /// Replays the whole log. O(length of `.idx`).
    pub(crate) fn build(storage: &VectorStorage) -> Result<Index> {
        let mut index = Index::default();
        index.live.reserve_exact(words(storage.rows()));
        for entry in storage.log() {
            match entry? {
                LogEntry::Put { id, row } => index.put(storage, id, row),
                LogEntry::Delete { id } => _ = index.remove(storage, id),
            }
        }
        Ok(index)
    }

    /// Makes room for a first large batch at once: growing step by step would hash each id several times.
    pub(crate) fn expect(&mut self, puts: usize) {
        if self.table.is_empty() {
            self.table.reserve(puts, |_| unreachable!("an empty table has nothing to hash again"));
        }
    }

    /// The live row of an id. O(1).
    pub(crate) fn find(&self, storage: &VectorStorage, id: &str) -> Option<u64> {
        let hash = self.hasher.hash_one(id.as_bytes());
        self.table.find(hash, |&row| is(storage, row, id)).map(|&row| u64::from(row))
    }

    /// Makes `row` the live row of `id`; the one before is dead.
    pub(crate) fn put(&mut self, storage: &VectorStorage, id: &str, row: u64) {
        let new = u32::try_from(row).expect("row numbers are below MAX_ROWS");
        let hash = self.hasher.hash_one(id.as_bytes());
        let rehash = |&row: &u32| self.hasher.hash_one(storage.id_bytes(row));
        let entry = self.table.entry(hash, |&row| is(storage, row, id), rehash);
        match entry {
            hashbrown::hash_table::Entry::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), new);
                self.set_live(old.into(), false);
            }
            hashbrown::hash_table::Entry::Vacant(slot) => _ = slot.insert(new),
        }
        self.set_live(row, true);
    }

    /// Forgets an id; returns whether it was there.
    pub(crate) fn remove(&mut self, storage: &VectorStorage, id: &str) -> bool {
        let hash = self.hasher.hash_one(id.as_bytes());
        let Ok(slot) = self.table.find_entry(hash, |&row| is(storage, row, id)) else { return false };
        let (row, _) = slot.remove();
        self.set_live(row.into(), false);
        true
    }

    fn set_live(&mut self, row: u64, live: bool) {
        let (word, bit) = (words(row + 1) - 1, 1 << (row % 64));
        if self.live.len() <= word {
            self.live.resize(word + 1, 0);
        }
        if live { self.live[word] |= bit } else { self.live[word] &= !bit }
    }

    /// Number of live rows.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The set of live rows: bit `row % 64` of word `row / 64`.
    pub(crate) fn live(&self) -> &[u64] {
        &self.live
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> u64 {
        (self.table.allocation_size() + self.live.capacity() * 8) as u64
    }
}

fn is(storage: &VectorStorage, row: u32, id: &str) -> bool {
    storage.id_bytes(row) == id.as_bytes()
}

fn words(rows: u64) -> usize {
    usize::try_from(rows.div_ceil(64)).expect("row numbers are below MAX_ROWS")
}

/// The rows of a set that lie in `range`, in order.
pub(crate) fn rows_in(live: &[u64], range: std::ops::Range<u64>) -> impl Iterator<Item = u64> + '_ {
    let mut row = range.start;
    std::iter::from_fn(move || {
        while row < range.end {
            let word = live.get(words(row + 1) - 1)? >> (row % 64);
            if word == 0 {
                row = (row / 64 + 1) * 64;
                continue;
            }
            row += u64::from(word.trailing_zeros()) + 1;
            return (row <= range.end).then_some(row - 1);
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_any_range() {
        let live = [0b1001, u64::MAX, 0, 1 << 63];
        let all: Vec<u64> = (0..256u64)
            .filter(|row| live[usize::try_from(row / 64).expect("small")] >> (row % 64) & 1 == 1)
            .collect();
        for start in 0..257 {
            for end in [start, start + 1, start + 70, 256, 400] {
                let want: Vec<u64> = all.iter().copied().filter(|row| (start..end).contains(row)).collect();
                assert_eq!(rows_in(&live, start..end).collect::<Vec<_>>(), want, "{start}..{end}");
            }
        }
    }
}
