//! Side files on the disk: their names, how one is made, which are there and which count.

use super::{Covered, GoOn, Moved, Rows, Scope, SideFile, SideKind, all};
use crate::format::Identity;
use crate::format::manifest::{Manifest, SegmentEntry};
use crate::pair::files::StoreFile;
use crate::sys::disk::{Dir, Open};
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

// ---- names ----

/// Number and suffix of a file name, as in `00000001.dat`. A name that is written otherwise is not ours.
pub(crate) fn numbered(name: &str) -> Option<(u64, &str)> {
    let (stem, suffix) = name.split_once('.')?;
    let number: u64 = stem.parse().ok()?;
    (format!("{number:08}") == stem).then_some((number, suffix))
}

/// Whether a file with this suffix is a side file of this release or a later one, or one in the making.
pub(crate) fn is_suffix(suffix: &str) -> bool {
    let suffix = suffix.strip_suffix(".new").unwrap_or(suffix);
    let is_word = |kind: &str| {
        !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    all().any(|kind| kind.suffix() == suffix) || suffix.strip_suffix(".side").is_some_and(is_word)
}

/// The number in the name of a file.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    numbered(path.file_name()?.to_str()?).map(|(number, _)| number)
}

/// The path of a side file.
pub(crate) fn path(dir: &Dir, number: u64, kind: &dyn SideKind) -> PathBuf {
    dir.join(format!("{number:08}.{}", kind.suffix()))
}

/// The kind of a file, if it has a number of its own.
fn of_own_number(suffix: &str) -> Option<&'static dyn SideKind> {
    all().find(|kind| kind.scope() != Scope::Segment && kind.suffix() == suffix)
}

/// A number that no file of this kind has.
fn next_number(dir: &Dir, kind: &dyn SideKind) -> Result<u64> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    let numbers = names.iter().filter_map(|name| {
        let (number, suffix) = numbered(name.to_str()?)?;
        (suffix.strip_suffix(".new").unwrap_or(suffix) == kind.suffix()).then_some(number)
    });
    Ok(numbers.max().unwrap_or(0).saturating_add(1))
}

// ---- building ----

/// A side file that is whole, and has the name of one in the making.
#[derive(Debug)]
pub(crate) struct Pending {
    file: StoreFile,
    target: PathBuf,
}

impl Pending {
    fn write(
        dir: &Dir,
        kind: &dyn SideKind,
        number: u64,
        write: impl FnOnce(&StoreFile) -> Result<()>,
    ) -> Result<Pending> {
        let target = path(dir, number, kind);
        let path = dir.join(format!("{number:08}.{}.new", kind.suffix()));
        if kind.scope() == Scope::Segment {
            // Left by a process that died: it never has a meaning.
            _ = dir.unlink(&path);
        }
        let file = dir.open_file(&path, Open::CreateNew).map_err(|e| Error::io(&path, "create", e))?;
        let file = StoreFile { path, file };
        // Synced before it has its name: damage to it is never a crash's work.
        let sync = || match () {
            () if planted::is(Bug::UnsyncedSideFile) => Ok(()),
            () => file.file.sync_data().map_err(|e| Error::io(&file.path, "sync", e)),
        };
        let written = write(&file).and_then(|()| sync()).inspect_err(|_| _ = dir.unlink(&file.path));
        // Nothing names it: writing to the store goes on.
        written.map(|()| Pending { file, target }).map_err(Error::abandoned)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Gives it its name. It takes the place of a file that has that; a reader that has the old one open keeps it.
    pub(crate) fn rename(self, dir: &Dir) -> Result<PathBuf> {
        let renamed = dir.rename(self.path(), &self.target);
        let renamed = renamed.map_err(|e| Error::io(&self.target, "replace", e));
        renamed.inspect_err(|_| _ = dir.unlink(self.path())).map(|()| self.target)
    }
}

/// Builds a file of rows; returns its path, and how many bytes were read and written.
pub(crate) fn build(
    kind: &dyn SideKind,
    dir: &Dir,
    rows: &Rows<'_>,
    go_on: GoOn<'_>,
) -> Result<(PathBuf, u64)> {
    let number = match kind.scope() {
        Scope::Segment => rows.part().segment.number(),
        Scope::Ranges | Scope::Store => next_number(dir, kind)?,
    };
    let pending = Pending::write(dir, kind, number, |file| kind.build(rows, file, go_on))?;
    let bytes = rows.part().end.idx_len + pending.file.len()?;
    Ok((pending.rename(dir)?, bytes))
}

/// Carries what is known of rows to where a compaction moved them. What fails is built anew, later.
pub(crate) fn carry(dir: &Dir, moved: &Moved<'_>, go_on: GoOn<'_>) -> Vec<Pending> {
    let mut carried = Vec::new();
    for (kind, write) in all().filter_map(|kind| Some((kind, kind.carry(moved)?))) {
        let pending = next_number(dir, kind)
            .and_then(|number| Pending::write(dir, kind, number, |file| write(file, go_on)));
        carried.extend(pending);
    }
    carried
}

/// Copies a file to another store, which is to have the name.
pub(crate) fn copy(file: &dyn SideFile, to: &Dir) -> Result<()> {
    let (from, len) = (file.file(), file.len());
    let name = from.path.file_name().and_then(|name| name.to_str());
    let Some((number, _)) = name.and_then(numbered) else { return Ok(()) };
    let copy = |copy: &StoreFile| {
        from.file.copy_to(copy.file.as_ref(), 0..len).map_err(|e| Error::io(&copy.path, "copy", e))
    };
    Pending::write(to, file.kind(), number, copy)?.rename(to).map(drop)
}

// ---- files with numbers of their own ----

/// One that was looked for in the directory.
pub(crate) struct Found {
    pub(crate) kind: &'static dyn SideKind,
    number: u64,
    pub(crate) path: PathBuf,
    /// `None` if it is of no use.
    pub(crate) opened: Result<Option<Box<dyn SideFile>>>,
}

/// Opens all files of a store that have numbers of their own, in the order of their names.
pub(crate) fn of_store(dir: &Dir, names: &[OsString], uuid: [u8; 16]) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, suffix) in names.iter().filter_map(|name| numbered(name.to_str()?)) {
        let Some(kind) = of_own_number(suffix) else { continue };
        let path = path(dir, number, kind);
        let identity = Identity { uuid, segment: number, salt: [0; 16] };
        let opened = match dir.open_file(&path, Open::Read) {
            Ok(file) => kind.open(StoreFile { path: path.clone(), file }, &identity),
            // Replaced since the directory was read.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => Err(Error::io(&path, "open", e)),
        };
        found.push(Found { kind, number, path, opened });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Those that count under a MANIFEST. One that cannot be read now may count.
pub(super) fn kept(found: Vec<Found>, is_named: &dyn Fn(&Identity) -> bool) -> Vec<Found> {
    let (of_ranges, mut of_store): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|found| found.kind.scope() == Scope::Ranges);
    of_store.retain(|found| !matches!(found.opened, Ok(None)));
    let name = |found: &Found| found.path.file_name().and_then(|name| Some(name.to_str()?.to_owned()));
    let there: HashSet<String> = of_store.iter().filter_map(name).collect();
    let counts = |found: &Found| match &found.opened {
        Ok(Some(file)) => {
            file.covers().iter().any(|rows| is_named(&rows.point.identity))
                && file.needs().iter().all(|name| there.contains(name))
        }
        opened => opened.is_err(),
    };
    let of_ranges = without_replaced(of_ranges.into_iter().filter(counts).collect(), is_named);
    // What one needs that cannot be read is not known: all stay.
    let needs_all = of_ranges.iter().any(|found| found.opened.is_err());
    let files = of_ranges.iter().filter_map(|found| found.opened.as_ref().ok()?.as_ref());
    let needed: HashSet<String> = files.flat_map(|file| file.needs()).collect();
    let mut newest: HashMap<&str, u64> = HashMap::new();
    for found in &of_store {
        let number = newest.entry(found.kind.suffix()).or_default();
        *number = found.number.max(*number);
    }
    of_store.retain(|found| {
        let is_needed = name(found).is_some_and(|name| needed.contains(&name));
        is_needed || needs_all || newest.get(found.kind.suffix()) == Some(&found.number)
    });
    of_store.into_iter().chain(of_ranges).collect()
}

/// Without those all of whose rows a newer file of the kind has, too.
fn without_replaced(mut found: Vec<Found>, is_named: &dyn Fn(&Identity) -> bool) -> Vec<Found> {
    let covers = |found: &Found| -> Vec<Covered> {
        let file = found.opened.as_ref().ok().and_then(Option::as_ref);
        let all = file.map(|file| file.covers()).unwrap_or_default();
        all.into_iter().filter(|rows| is_named(&rows.point.identity)).collect()
    };
    let all: Vec<_> = found.iter().map(|found| (found.kind.suffix(), found.number, covers(found))).collect();
    found.retain(|found| {
        let rows = covers(found);
        let newer: Vec<&Covered> = all
            .iter()
            .filter(|(suffix, number, _)| *suffix == found.kind.suffix() && *number > found.number)
            .flat_map(|(_, _, rows)| rows)
            .collect();
        rows.is_empty() || !rows.iter().all(|rows| newer.iter().any(|newer| rows.is_within(newer)))
    });
    found
}

/// Side files of a directory that count no more under a MANIFEST, but for those in the making.
pub(crate) fn obsolete(dir: &Dir, names: &[OsString], manifest: &Manifest) -> Vec<PathBuf> {
    let is_named = |identity: &Identity| {
        let is_it = |entry: &SegmentEntry| entry.number == identity.segment && entry.salt == identity.salt;
        manifest.segments.iter().any(is_it)
    };
    let kept = kept(of_store(dir, names, manifest.uuid), &is_named);
    let numbers: HashSet<u64> = manifest.segments.iter().map(|entry| entry.number).collect();
    let is_obsolete = |name: &str| {
        let Some((number, suffix)) = numbered(name).filter(|(_, suffix)| is_suffix(suffix)) else {
            return false;
        };
        if suffix.ends_with(".new") {
            return false;
        }
        match of_own_number(suffix) {
            Some(_) => !kept.iter().any(|kept| kept.path == dir.join(name)),
            None => !numbers.contains(&number),
        }
    };
    let names = names.iter().filter_map(|name| name.to_str());
    names.filter(|name| is_obsolete(name)).map(|name| dir.join(name)).collect()
}
