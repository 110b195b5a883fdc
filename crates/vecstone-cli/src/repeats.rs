//! Which rows of an import are superseded: a later row has the same id.
//!
//! A resumed import skips such rows if their id is stored, so that a rerun of a complete import writes nothing.
//! Held in memory: 8 bytes a row while looking, then an entry for each id that comes more than once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use vecstone::{Id, counted};

use crate::failure::{Failure, Result};

/// Finds superseded rows by 128 bits of hash under keys that nobody knows: two ids have the same by no chance that
/// matters.
#[derive(Default)]
pub(crate) struct Repeats {
    hashers: [RandomState; 2],
    /// For each id that comes more than once: the last row that has it.
    last: HashMap<[u64; 2], u64>,
}

impl Repeats {
    /// Reads the ids twice.
    pub(crate) fn find<I: Iterator<Item = Result<Id>>>(ids: impl Fn() -> Result<I>) -> Result<Repeats> {
        let mut found = Repeats::default();
        let mut hashes = Vec::new();
        for id in ids()? {
            let hash = found.hashers[0].hash_one(id?);
            if hashes.try_reserve(1).is_err() {
                let rows = hashes.len();
                return Err(Failure::error(format!(
                    "not enough memory to compare {}; split the file",
                    counted(rows, "id")
                )));
            }
            hashes.push(hash);
        }
        keep_repeated(&mut hashes);
        if hashes.is_empty() {
            return Ok(found);
        }
        for (row, id) in (0..).zip(ids()?) {
            let hash = found.hash(&id?);
            if hashes.binary_search(&hash[0]).is_ok() {
                found.last.insert(hash, row);
            }
        }
        Ok(found)
    }

    fn hash(&self, id: &Id) -> [u64; 2] {
        [self.hashers[0].hash_one(id), self.hashers[1].hash_one(id)]
    }

    /// True if a later row of the import has the same id.
    pub(crate) fn superseded(&self, row: u64, id: &Id) -> bool {
        !self.last.is_empty() && self.last.get(&self.hash(id)).is_some_and(|last| *last > row)
    }
}

/// Keeps one of each value that comes more than once, sorted.
fn keep_repeated(hashes: &mut Vec<u64>) {
    hashes.sort_unstable();
    let mut kept = 0;
    for at in 1..hashes.len() {
        let hash = hashes[at];
        if hash == hashes[at - 1] && (kept == 0 || hashes[kept - 1] != hash) {
            hashes[kept] = hash;
            kept += 1;
        }
    }
    hashes.truncate(kept);
    hashes.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::IdLines;
    use vecstone::IdKind;

    #[test]
    fn repeated_values_are_kept_once() {
        for (given, kept) in [
            (vec![], vec![]),
            (vec![1], vec![]),
            (vec![0, 0], vec![0]),
            (vec![3, 1, 3, 2, 1, 3, 9, 9], vec![1, 3, 9]),
            (vec![5, 5, 5, 5], vec![5]),
            (vec![1, 2, 3], vec![]),
        ] {
            let mut hashes = given;
            keep_repeated(&mut hashes);
            assert_eq!(hashes, kept);
        }
    }

    #[track_caller]
    fn check(kind: IdKind, text: &str, superseded: &[bool]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids");
        std::fs::write(&path, text).unwrap();
        let repeats = Repeats::find(|| IdLines::open(&path, kind).map(IdLines::all)).unwrap();
        let ids = (0..).zip(IdLines::open(&path, kind).unwrap().all());
        let found: Vec<bool> = ids.map(|(row, id)| repeats.superseded(row, &id.unwrap())).collect();
        assert_eq!(found, superseded);
    }

    #[test]
    fn superseded_rows_are_those_with_a_later_twin() {
        check(IdKind::String, "a\nb\r\na\nab\nb\na", &[true, true, true, false, false, false]);
        check(IdKind::String, "007\n7\n7\n007\r\n1", &[true, true, false, false, false]);
        check(IdKind::U64, "007\n7\r\n70\n0007", &[true, true, false, false]);
        let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let text = format!("{uuid}\r\n{}\nurn:uuid:{uuid}\n", uuid.to_uppercase());
        check(IdKind::Uuid, &text, &[true, true, false]);
    }
}
