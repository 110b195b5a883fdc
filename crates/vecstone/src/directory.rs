//! The directory of a store: LOCK and MANIFEST, how they are made, taken, replaced and read.

use crate::config::{Element, Metric};
use crate::disk::{Dir, Disk, DiskFile, Open, write_all_at};
use crate::error::{Error, Result, is_full};
use crate::files::{Files, Named};
use crate::format::header::{Bad, HEADER_BYTES};
use crate::format::manifest::{self, Manifest};
use crate::format::record::FILE_BYTES;
use crate::planted::{self, Bug};
use crate::recover::complain;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MANIFEST: &str = "MANIFEST";
const MANIFEST_NEW: &str = "MANIFEST.new";
const LOCK: &str = "LOCK";

/// How long a writer tries for LOCK by default: readers hold it for microseconds to see whether a writer lives.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(250);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// The path of a segment's pair, without `.dat` and `.idx`.
pub(crate) fn pair_path(dir: &Dir, segment: u64) -> PathBuf {
    dir.join(format!("{segment:08}"))
}

/// The path of the list of a segment's dead rows that came with that MANIFEST.
pub(crate) fn del_path(dir: &Dir, segment: u64, manifest: u64) -> PathBuf {
    dir.join(format!("{segment:08}.{manifest}.del"))
}

/// Number and suffix of a segment's file by its name, as in `00000001.dat` or `00000001.7.del`.
fn segment_file(name: &str) -> Option<(u64, &str)> {
    let (stem, suffix) = name.split_once('.')?;
    let number: u64 = stem.parse().ok()?;
    let ours = match suffix.split_once('.') {
        None => matches!(suffix, "dat" | "idx" | "jsonl" | "ids" | "codes"),
        Some((manifest, "del")) => manifest.parse::<u64>().is_ok_and(|number| number.to_string() == manifest),
        Some((suffix, "new")) => matches!(suffix, "ids" | "codes"),
        _ => false,
    };
    // As it is written here, and not otherwise: what has another name is not ours to remove.
    (ours && format!("{number:08}") == stem).then_some((number, suffix))
}

/// What kind of a store's files has this name: its suffix, or "side"; `None` if it is not ours.
pub(crate) fn kind_of_file(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    if [MANIFEST, MANIFEST_NEW, LOCK].contains(&name) {
        return Some("side");
    }
    let (_, suffix) = segment_file(name)?;
    Some(suffix.rsplit('.').next().unwrap_or(suffix))
}

/// Files of a store's names that MANIFEST does not name: what an interrupted replacement left, or could not remove.
///
/// # Errors
///
/// [`Error::Corrupt`] if one of them is a log that knows a newer MANIFEST: then MANIFEST is an old copy, and what it does
/// not name is not for us to remove.
pub(crate) fn unlisted(dir: &Dir, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        let keep = match segment_file(name) {
            None => name != MANIFEST_NEW,
            Some((number, suffix)) => {
                let listed = manifest.segments.iter().find(|segment| segment.number == number);
                listed.is_some_and(|segment| match suffix.split_once('.') {
                    None => true,
                    Some((digits, _)) => {
                        segment.sealed.as_ref().is_some_and(|sealed| digits.parse() == Ok(sealed.del.0))
                    }
                })
            }
        };
        if !keep {
            found.push(dir.join(name));
        }
    }
    for path in found.iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "idx")) {
        if newest_manifest(dir, path).unwrap_or(0) > manifest.number {
            let what = "this log knows a newer MANIFEST: MANIFEST is an old copy";
            return Err(Error::corrupt(path, 0, what));
        }
    }
    Ok(found)
}

/// The largest MANIFEST number in the log of a pair that no MANIFEST names; `None` if it was never part of a store. A log
/// in which something durable is damaged was: its number is not known, and taken for the largest. (A file of it that is
/// gone is no damage: removing was interrupted.)
fn newest_manifest(dir: &Dir, idx: &Path) -> Option<u64> {
    let files = Files::open(dir, &idx.with_extension(""), false).ok()?;
    let lens = (files.dat.len().ok()?, files.idx.len().ok()?);
    crate::recover::read_headers(&files.dat, &files.idx, lens.0, lens.1).ok()?;
    match crate::recover::recover(&files, None, 0) {
        Ok(found) => Some(found.manifest),
        Err(Error::Corrupt { path, .. }) if path == idx => Some(u64::MAX),
        Err(_) => None,
    }
}

/// Takes LOCK, making it if need be, and leaves this process's id in it as a hint.
pub(crate) fn lock(dir: &Dir, wait: Duration) -> Result<Arc<dyn DiskFile>> {
    let path = dir.join(LOCK);
    let file = dir.open_file(&path, Open::Create).map_err(|e| Error::io(&path, "open", e))?;
    let deadline = Instant::now() + wait;
    while !file.try_lock(true).map_err(|e| Error::io(&path, "lock", e))? {
        if Instant::now() >= deadline {
            let mut text = [0; 10];
            let len = file.read_at(&mut text, 0).unwrap_or(0);
            let pid = std::str::from_utf8(&text[..len]).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::Locked { path, pid });
        }
        std::thread::sleep(LOCK_RETRY);
    }
    // Only a hint for the message above: a full disk must not keep anyone from opening.
    let pid = std::process::id().to_string();
    _ = file.set_len(0).and_then(|()| write_all_at(file.as_ref(), pid.as_bytes(), 0));
    Ok(file)
}

/// Whether a writer holds LOCK now. A store without LOCK (a copy, say) has none.
pub(crate) fn writer_lives(dir: &Dir) -> Result<bool> {
    let path = dir.join(LOCK);
    match dir.open_file(&path, Open::Read) {
        Ok(file) => Ok(!file.try_lock(false).map_err(|e| Error::io(&path, "lock", e))?),
        // A copy has no LOCK.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io(&path, "open", e)),
    }
}

/// Reads MANIFEST; tells a store from a half-made one and from anything else.
pub(crate) fn read_manifest(dir: &Dir) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let file = match dir.open_file(&path, Open::Read) {
        Ok(file) => Named { path, file },
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(why_no_manifest(dir)),
        Err(e) => return Err(Error::io(&path, "open", e)),
    };
    let bytes = file.read_all(manifest::MAX_BYTES)?;
    Manifest::decode(&bytes).map_err(|bad| match bad {
        // Beside a pair of ours it was a MANIFEST once; alone, the directory may be anybody's.
        Bad::NotOurs(what) if holds_a_pair(dir) => Error::corrupt(&file.path, 0, what),
        bad => complain(&file.path, bad),
    })
}

fn holds_a_pair(dir: &Dir) -> bool {
    let names = dir.list().unwrap_or_default();
    names.iter().filter_map(|name| name.to_str()).any(|name| is_ours(name, ".dat") || is_ours(name, ".idx"))
}

fn why_no_manifest(dir: &Dir) -> Error {
    let path = dir.path().to_owned();
    match dir.list() {
        Err(e) if e.kind() == ErrorKind::NotFound => Error::NotFound { path },
        Err(e) => Error::io(dir.path(), "list", e),
        Ok(names) if names.is_empty() => Error::NotFound { path },
        Ok(_) => match leftovers(dir) {
            Ok(_) => Error::HalfMade { path },
            Err(error) => error,
        },
    }
}

/// The files that an interrupted creation left, if nothing else is there: LOCK, MANIFEST.new, and pairs that are
/// too short to hold a batch. Anything else is not ours to start over.
fn leftovers(dir: &Dir) -> Result<Vec<PathBuf>> {
    let not_ours = |why| Error::NotAStore { path: dir.path().to_owned(), why };
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    if names.iter().any(|name| name == MANIFEST) {
        return Err(Error::AlreadyExists { path: dir.path().to_owned() });
    }
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(&name);
        let limit = match name.to_str() {
            Some(LOCK) => continue,
            Some(MANIFEST_NEW) => u64::MAX,
            Some(name) if is_ours(name, ".dat") => HEADER_BYTES,
            Some(name) if is_ours(name, ".idx") => FILE_BYTES as u64,
            _ => return Err(not_ours("it holds files that are not ours; choose an empty or new directory")),
        };
        let file = dir.open_file(&path, Open::Read).map_err(|e| Error::io(&path, "open", e))?;
        let len = file.len().map_err(|e| Error::io(&path, "read the length", e))?;
        if len > limit && !planted::is(Bug::StartOverWithCommits) {
            return Err(not_ours("it holds vectors but no MANIFEST; restore MANIFEST from a copy"));
        }
        found.push(path);
    }
    Ok(found)
}

fn is_ours(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|stem| stem.len() == 8 && stem.bytes().all(|b| b.is_ascii_digit()))
}

/// Opens the directory of a store that is there.
pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Dir> {
    Dir::open(disk, path).map_err(|e| {
        let path = path.to_owned();
        match e.kind() {
            ErrorKind::NotFound => Error::NotFound { path },
            ErrorKind::NotADirectory => {
                Error::NotAStore { path, why: "it is a file, a store is a directory" }
            }
            _ => Error::io(&path, "open", e),
        }
    })
}

/// Makes the directory of a new store, or takes over a half-made one, and locks it. Everything that was in it is
/// gone then.
pub(crate) fn make_directory(disk: &Arc<dyn Disk>, path: &Path) -> Result<(Dir, Arc<dyn DiskFile>)> {
    let (parent, path) = Dir::of_file(disk, path).map_err(|e| Error::io(path, "create", e))?;
    let made = parent.create_dir(&path);
    let there = made.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists);
    made.or_else(|e| if there { Ok(()) } else { Err(Error::io(&path, "create", e)) })?;
    let dir = Dir::open(disk, &path).map_err(|e| match e.kind() {
        ErrorKind::NotADirectory => Error::AlreadyExists { path: path.clone() },
        _ => Error::io(&path, "open", e),
    })?;
    if there {
        // Before LOCK is made in it: is it ours to use?
        leftovers(&dir)?;
    }
    if !planted::is(Bug::SkipParentSync) {
        parent.sync().map_err(|e| Error::io(parent.path(), "sync", e))?;
    }
    let lock = lock(&dir, LOCK_WAIT)?;
    for path in leftovers(&dir)? {
        dir.unlink(&path).map_err(|e| Error::io(&path, "remove", e))?;
    }
    Ok((dir, lock))
}

/// Puts a MANIFEST in the place of the one before, atomically and durably (steps M2 to M4 of the format).
pub(crate) fn replace_manifest(dir: &Dir, manifest: &Manifest) -> Result<()> {
    let (new, path) = (dir.join(MANIFEST_NEW), dir.join(MANIFEST));
    let bytes = manifest.encode().map_err(|bad| complain(&new, bad))?;
    // A file in the making, of no meaning before it has its name: whoever holds LOCK may remove it.
    match dir.unlink(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&new, "remove", e)),
        _ => {}
    }
    let file = dir.open_file(&new, Open::CreateNew).map_err(|e| Error::io(&new, "create", e))?;
    write_all_at(file.as_ref(), &bytes, 0).map_err(|e| Error::write(&new, 0, e))?;
    if !planted::is(Bug::SkipManifestSync) {
        file.sync_data().map_err(|e| Error::io(&new, "sync", e))?;
    }
    let unknown = |e: io::Error| Error::SyncFailed { path: path.clone(), source: Arc::new(e) };
    dir.rename(&new, &path).map_err(|e| {
        // For want of space nothing was renamed, unless it was all the same.
        let refused = is_full(&e) && dir.open_file(&new, Open::Read).is_ok();
        if refused { Error::io(&path, "replace", e) } else { unknown(e) }
    })?;
    if planted::is(Bug::SkipDirSync) || (planted::is(Bug::AppendTooEarly) && manifest.number > 1) {
        return Ok(());
    }
    dir.sync().map_err(unknown)
}

/// What an rw open does before it acknowledges anything: the MANIFEST it read may be known to the page cache only.
pub(crate) fn settle_manifest(dir: &Dir) -> Result<()> {
    let path = dir.join(MANIFEST);
    let file = dir.open_file(&path, Open::ReadWrite).map_err(|e| Error::io(&path, "open", e))?;
    file.sync_data().map_err(|e| Error::io(&path, "sync", e))?;
    dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))?;
    let new = dir.join(MANIFEST_NEW);
    match dir.unlink(&new) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(&new, "remove", e)),
        _ => Ok(()),
    }
}

/// The first MANIFEST of a store that has no dimension yet.
pub(crate) fn first_manifest(uuid: [u8; 16], metric: Metric) -> Manifest {
    let segments = Vec::new();
    Manifest { number: 1, uuid, dim: 0, element: Element::F32, metric, kind: 0, next_segment: 1, segments }
}

/// Removes files, those that are there.
pub(crate) fn remove(dir: &Dir, paths: Vec<PathBuf>) -> Result<()> {
    for path in paths {
        match dir.unlink(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(&path, "remove", e)),
            _ => {}
        }
    }
    Ok(())
}

/// The path of MANIFEST.
pub(crate) fn manifest_path(dir: &Dir) -> PathBuf {
    dir.join(MANIFEST)
}
