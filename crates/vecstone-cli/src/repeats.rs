//! Which rows of an ids file are superseded: a later row has the same id.
//!
//! A resumed import skips such rows if their id is stored, so that a rerun of a complete import writes nothing.
//! Held in memory: 8 bytes a row while looking, then an entry for each id that comes more than once.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use vecstone::{Id, IdKind};

use crate::failure::{Failure, Result};
use crate::ids::{IdLines, Source, parse};

/// The longest text of a number or a UUID.
const SHORT: usize = 64;

/// Finds superseded rows by hash, and confirms each by comparing ids.
pub(crate) struct Repeats {
    path: PathBuf,
    file: Option<File>,
    hasher: RandomState,
    /// For each hash that comes more than once: the last row that has it, and where its line begins.
    last: HashMap<u64, (u64, u64)>,
}

impl Repeats {
    /// Reads the ids twice; `rows` is their number, known from the check before.
    pub(crate) fn find(source: &Source, rows: u64) -> Result<Repeats> {
        let mut found =
            Repeats { path: PathBuf::new(), file: None, hasher: RandomState::new(), last: HashMap::new() };
        let Source::File(path, kind) = source else { return Ok(found) };
        let mut hashes = Vec::new();
        if usize::try_from(rows).map_or(true, |rows| hashes.try_reserve_exact(rows).is_err()) {
            return Err(Failure::error(format!("not enough memory to compare {rows} ids; split the file")));
        }
        found.each(path, *kind, |_, _, hash, _| hashes.push(hash))?;
        keep_repeated(&mut hashes);
        if hashes.is_empty() {
            return Ok(found);
        }
        found.each(path, *kind, |row, offset, hash, last| {
            if hashes.binary_search(&hash).is_ok() {
                last.insert(hash, (row, offset));
            }
        })?;
        found.path.clone_from(path);
        found.file = Some(File::open(path).map_err(|e| Failure::io(path, "open", &e))?);
        Ok(found)
    }

    fn each(
        &mut self,
        path: &Path,
        kind: IdKind,
        mut take: impl FnMut(u64, u64, u64, &mut HashMap<u64, (u64, u64)>),
    ) -> Result<()> {
        let mut lines = IdLines::open(path, kind)?;
        let mut row = 0;
        while let Some(id) = lines.next()? {
            let hash = self.hasher.hash_one(id);
            take(row, lines.offset(), hash, &mut self.last);
            row += 1;
        }
        Ok(())
    }

    /// True if a later row of the file has the same id.
    pub(crate) fn superseded(&mut self, row: u64, id: &Id) -> Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        match self.last.get(&self.hasher.hash_one(id)) {
            Some((last, offset)) if *last > row => line_is(file, *offset, id),
            _ => Ok(false),
        }
        .map_err(|e| Failure::io(&self.path, "read", &e))
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

/// True if the line that begins at `offset` is exactly `id`.
fn line_is(file: &mut File, offset: u64, id: &Id) -> std::io::Result<bool> {
    let mut line = Vec::new();
    let most = id.as_str().map_or(SHORT, str::len) as u64 + 2;
    file.seek(SeekFrom::Start(offset))?;
    file.take(most).read_to_end(&mut line)?;
    let text = match line.iter().position(|b| *b == b'\n') {
        Some(end) => line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]),
        None => &line,
    };
    let found = std::str::from_utf8(text).ok().and_then(|text| parse(id.kind(), text).ok());
    Ok(found.as_ref() == Some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut repeats = Repeats::find(&Source::File(path.clone(), kind), superseded.len() as u64).unwrap();
        let mut lines = IdLines::open(&path, kind).unwrap();
        let mut found = Vec::new();
        while let Some(id) = lines.next().unwrap() {
            found.push(repeats.superseded(found.len() as u64, &id).unwrap());
        }
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
