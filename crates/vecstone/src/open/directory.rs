//! The directory of a store: LOCK and MANIFEST, how they are made, taken, replaced and read.

use crate::format::header::{DecodeError, HEADER_BYTES, Header};
use crate::format::manifest::{self, Manifest};
use crate::format::record::{FILE_BYTES, FileRecord};
use crate::format::{Chain, Identity};
use crate::open::lock::{LOCK, Lock};
use crate::open::unfinished;
use crate::pair::VectorStorage;
use crate::pair::files::{Files, StoreFile, sync_dir};
use crate::pair::recover::{into_error, read_headers, recover};
use crate::segment::side;
use crate::sys::disk::{Dir, Disk, Open, is_no_file};
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result, is_full};
use crate::types::options::LOCK_WAIT;
use crate::types::schema::Schema;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const MANIFEST_NEW: &str = "MANIFEST.new";
pub(crate) const UNFINISHED: &str = "UNFINISHED";

/// The path of a segment's pair, without `.dat` and `.idx`.
pub(crate) fn pair_path(dir: &Dir, segment: u64) -> PathBuf {
    dir.join(format!("{segment:08}"))
}

/// The path of the list of a segment's dead rows that came with that MANIFEST.
pub(crate) fn del_path(dir: &Dir, segment: u64, manifest: u64) -> PathBuf {
    dir.join(format!("{segment:08}.{manifest}.del"))
}

/// All files that a segment can have but for the list of its dead rows and what a later release adds.
pub(crate) fn files_of(dir: &Dir, segment: u64) -> Vec<PathBuf> {
    let (pair, side) = (pair_path(dir, segment), side::of_segments());
    let paths = ["dat", "idx", "jsonl"].into_iter().map(|suffix| pair.with_extension(suffix));
    paths.chain(side.map(|kind| side::path(dir, segment, kind))).collect()
}

/// How many numbers are looked at for one that nothing is in the way of.
const MOST_TRIES: usize = 64;

/// The first of these segment numbers whose names are all free: a directory, say, may have one of them.
pub(crate) fn free_number(dir: &Dir, mut next: impl FnMut() -> Result<u64>) -> Result<u64> {
    let is_free =
        |path: &Path| dir.open_file(path, Open::Read).is_err_and(|e| e.kind() == ErrorKind::NotFound);
    let mut number = next()?;
    for _ in 1..MOST_TRIES {
        if files_of(dir, number).iter().all(|path| is_free(path)) {
            break;
        }
        number = next()?;
    }
    Ok(number)
}

/// Number and suffix of a file by its name, as in `00000001.dat` or `00000001.7.del`; `None` if it is none of a segment
/// and no side file. What has another name is not ours to remove.
pub(crate) fn segment_file(name: &str) -> Option<(u64, &str)> {
    side::numbered(name).filter(|(_, suffix)| match suffix.split_once('.') {
        Some((manifest, "del")) => manifest.parse::<u64>().is_ok_and(|number| number.to_string() == manifest),
        _ => matches!(*suffix, "dat" | "idx" | "jsonl") || side::is_suffix(suffix),
    })
}

/// What kind of a store's files has this name: its last suffix, or "" of a file of the whole store; `None` if it is not
/// ours.
pub(crate) fn kind_of_file(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    if [MANIFEST, MANIFEST_NEW, LOCK, UNFINISHED].contains(&name) {
        return Some("");
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
    let (mut found, obsolete) = (Vec::new(), side::obsolete(dir, &names, manifest));
    for name in names.iter().filter_map(|name| name.to_str()) {
        let path = dir.join(name);
        let keep = match segment_file(name) {
            None => name != MANIFEST_NEW,
            Some((_, suffix)) if side::is_suffix(suffix) => {
                !suffix.ends_with(".new") && !obsolete.contains(&path)
            }
            Some((number, suffix)) => {
                let listed = manifest.segments.iter().find(|segment| segment.number == number);
                listed.is_some_and(|segment| match (suffix.split_once('.'), &segment.sealed) {
                    (None, _) => true,
                    (Some((digits, _)), Some(sealed)) => digits.parse() == Ok(sealed.del.0),
                    (Some(_), None) => false,
                })
            }
        };
        if keep {
            continue;
        }
        match dir.open_file(&path, Open::Read) {
            Ok(_) => found.push(path),
            // A directory, say, was not made by us.
            Err(e) if e.kind() == ErrorKind::NotFound || is_no_file(&e) => {}
            Err(e) => return Err(Error::io(&path, "open", e)),
        }
    }
    for path in found.iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "idx")) {
        let Some((uuid, newest)) = newest_manifest(dir, path)? else { continue };
        if uuid != manifest.uuid {
            return Err(Error::corrupt(&manifest_path(dir), 0, FOREIGN));
        }
        if newest > manifest.number {
            let what = "this log knows a newer MANIFEST: MANIFEST is an old copy";
            return Err(Error::corrupt(path, 0, what));
        }
    }
    Ok(found)
}

/// What it means that no segment has MANIFEST's uuid.
pub(crate) const FOREIGN: &str = "MANIFEST is of another store than the segments beside it";

/// The uuid of a pair that no MANIFEST names, and the largest MANIFEST number in its log; `None` if it was never part of a
/// store. A log in which something durable is damaged was: its number is not known, and taken for the largest. (A file of
/// it that is gone is no damage: removing was interrupted.)
///
/// # Errors
///
/// Those of reading: what follows removes files, and what was not read says nothing.
fn newest_manifest(dir: &Dir, idx: &Path) -> Result<Option<([u8; 16], u64)>> {
    let Some(files) = if_it_is_one(Files::open(dir, &idx.with_extension(""), false))? else {
        return Ok(None);
    };
    let (dat, log) = (files.dat.len()?, files.idx.len()?);
    let Some((header, _)) = if_it_is_one(read_headers(&files.dat, &files.idx, dat, log))? else {
        return Ok(None);
    };
    let newest = match recover(&files, None, 0) {
        Ok(found) => found.manifest,
        Err(Error::Corrupt { path, .. }) if path == idx => u64::MAX,
        Err(Error::Corrupt { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((header.identity.uuid, newest)))
}

/// What was read of a pair; `None` if what was found says that it is none. One of a later release is one.
fn if_it_is_one<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Error::NotFound { .. } | Error::Corrupt { .. } | Error::NotAStore { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads MANIFEST; tells a store from a half-made one and from anything else.
pub(crate) fn read_manifest(dir: &Dir) -> Result<Manifest> {
    Ok(read_manifest_bytes(dir)?.0)
}

/// As [`read_manifest`], for a call that writes to the store.
pub(crate) fn read_manifest_to_write(dir: &Dir) -> Result<Manifest> {
    let manifest = read_manifest(dir)?;
    check_writable(dir, &manifest)?;
    Ok(manifest)
}

/// Refuses to write to a store, or to make a copy of it, where only a later release may.
pub(crate) fn check_writable(dir: &Dir, manifest: &Manifest) -> Result<()> {
    manifest.check_writable().map_err(|bad| into_error(&manifest_path(dir), bad))
}

/// Whether a path names another directory by now than this one, or one with another MANIFEST than that of these bytes.
/// Its number alone would not tell: a rebuilt store counts anew, and a restored one goes back.
pub(crate) fn is_replaced(disk: &Arc<dyn Disk>, path: &Path, dir: &Dir, bytes: &[u8]) -> bool {
    let same = || -> Result<bool> {
        let now = open(disk, path)?;
        Ok(is_same(&now, dir) && read_manifest_bytes(&now)?.1 == bytes)
    };
    !same().unwrap_or(false)
}

/// Whether two open directories are one.
pub(crate) fn is_same(one: &Dir, other: &Dir) -> bool {
    one.identity() == other.identity()
}

/// As [`read_manifest`], with the bytes that it was read from.
pub(crate) fn read_manifest_bytes(dir: &Dir) -> Result<(Manifest, Vec<u8>)> {
    let open = || StoreFile::open(dir, dir.join(MANIFEST));
    let file = match open()? {
        Some(file) => file,
        None => match why_no_manifest(dir) {
            // Another process has made it meanwhile.
            error @ Error::AlreadyExists { .. } => open()?.ok_or(error)?,
            error => return Err(error),
        },
    };
    let bytes = file.read_all(manifest::MAX_BYTES)?;
    let manifest = Manifest::decode(&bytes).map_err(|bad| match bad {
        // Beside a pair of ours it was a MANIFEST once; alone, the directory may be anybody's.
        DecodeError::NotOurs(what) if holds_a_pair(dir) => Error::corrupt(&file.path, 0, what),
        bad => into_error(&file.path, bad),
    })?;
    Ok((manifest, bytes))
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
            Ok(_) => Error::IncompleteCreate { path },
            Err(Error::NotAStore { .. }) => Error::NotAStore {
                path,
                why: "it holds files that are not ours; give the directory of a store",
            },
            Err(error) => error,
        },
    }
}

/// The files that an interrupted creation left, if nothing else is there: LOCK, MANIFEST.new, and pairs that are
/// too short to hold a batch. Anything else is not ours to start over.
pub(crate) fn leftovers(dir: &Dir) -> Result<Vec<PathBuf>> {
    unfinished::check(dir)?;
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    if names.iter().any(|name| name == MANIFEST) {
        return Err(Error::AlreadyExists { path: dir.path().to_owned() });
    }
    let (mut found, mut foreign) = (Vec::new(), false);
    for name in names {
        let path = dir.join(&name);
        let limit = match name.to_str() {
            Some(LOCK) => continue,
            Some(MANIFEST_NEW) => u64::MAX,
            Some(name) if is_ours(name, ".dat") => HEADER_BYTES,
            Some(name) if is_ours(name, ".idx") => FILE_BYTES as u64,
            Some(name) if segment_file(name).is_some() => return Err(without_manifest(dir)),
            _ => {
                foreign = true;
                continue;
            }
        };
        let file = match dir.open_file(&path, Open::Read) {
            Ok(file) => file,
            // Another process makes a store there: what is there now?
            Err(e) if e.kind() == ErrorKind::NotFound && !has(dir, &name)? => return leftovers(dir),
            Err(e) => return Err(Error::io(&path, "open", e)),
        };
        let len = file.len().map_err(|e| Error::io(&path, "read the length", e))?;
        if len > limit && !planted::is(Bug::StartOverWithCommits) {
            let is_made = has(dir, OsStr::new(MANIFEST))?;
            return if is_made { leftovers(dir) } else { Err(without_manifest(dir)) };
        }
        found.push(path);
    }
    if foreign {
        let why = "it holds files that are not ours; give a new or empty directory";
        return Err(Error::NotAStore { path: dir.path().to_owned(), why });
    }
    Ok(found)
}

/// Whether a directory has a name.
fn has(dir: &Dir, name: &OsStr) -> Result<bool> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    Ok(names.iter().any(|known| known == name))
}

fn without_manifest(dir: &Dir) -> Error {
    let what = "MANIFEST is missing beside files of a store; vecstone repair saves what checks out of them";
    Error::corrupt(&manifest_path(dir), 0, what)
}

fn is_ours(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|stem| stem.len() == 8 && stem.bytes().all(|b| b.is_ascii_digit()))
}

/// Opens the directory of a store that is there.
pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Dir> {
    check_path(path)?;
    Dir::open(disk, path).map_err(|e| {
        let path = path.to_owned();
        match e.kind() {
            ErrorKind::NotFound => missing(path),
            ErrorKind::NotADirectory => {
                Error::NotAStore { path, why: "it is a file, a store is a directory" }
            }
            _ => Error::io(&path, "open", e),
        }
    })
}

/// Refuses what stands for no path elsewhere, and would be made here.
fn check_path(path: &Path) -> Result<()> {
    let why = match path.to_str() {
        Some("") => "it is empty; give the directory of a store",
        Some(text) if text.starts_with(":memory:") => {
            "a store is a directory; for one that goes away give a temporary directory"
        }
        _ if path.as_os_str().as_encoded_bytes().contains(&0) => "it has a zero byte, which no path may have",
        _ => return Ok(()),
    };
    Err(Error::NotAPath { path: path.to_owned(), why })
}

/// That there is no store at a path, and why not, if the path says it.
fn missing(path: PathBuf) -> Error {
    let text = path.to_str().unwrap_or_default();
    let scheme = text.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let why = match scheme {
        Some(file) if file.eq_ignore_ascii_case("file") => "a store is a directory; leave file:// out",
        Some(_) => "a store is a directory of this machine; copy it there",
        None if text.starts_with('~') => "nothing but a shell makes the home directory of ~; write that out",
        None => return Error::NotFound { path },
    };
    Error::NotAPath { path, why }
}

/// What a path without a parent directory means where something is to be made.
fn no_parent(path: &Path, error: io::Error) -> Error {
    match missing(path.to_owned()) {
        error @ Error::NotAPath { .. } => error,
        _ => Error::io(path, "create it in a directory that is missing; make that first", error),
    }
}

/// Refuses a place for a copy of a store that lies in the store itself, however it is spelled.
pub(crate) fn check_outside(disk: &Arc<dyn Disk>, store: &Dir, to: &Path) -> Result<()> {
    let Ok(inside) = disk.canonical(store.path()) else { return Ok(()) };
    let to = disk.absolute(to).map_err(|e| Error::io(to, "find", e))?;
    // What is not there yet has a parent, or cannot be made.
    let place = disk.canonical(&to).or_else(|_| disk.canonical(to.parent().unwrap_or(&to)));
    match place {
        Ok(place) if place.starts_with(&inside) => {
            Err(Error::InItself { path: to, store: store.path().to_owned() })
        }
        _ => Ok(()),
    }
}

/// Makes the directory of a new store, or takes over a half-made one, and locks it. Everything that was in it is
/// gone then.
pub(crate) fn make_directory(disk: &Arc<dyn Disk>, path: &Path) -> Result<(Dir, Lock)> {
    let (dir, lock) = make_locked(disk, path, &|dir| leftovers(dir).map(drop))?;
    remove(&dir, leftovers(&dir)?)?;
    Ok((dir, lock))
}

/// Makes a directory, durably, or takes one that `may_use` allows, and locks it.
pub(crate) fn make_locked(
    disk: &Arc<dyn Disk>,
    path: &Path,
    may_use: &dyn Fn(&Dir) -> Result<()>,
) -> Result<(Dir, Lock)> {
    check_path(path)?;
    let (parent, path) = Dir::of_file(disk, path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => no_parent(path, e),
        _ => Error::io(path, "create", e),
    })?;
    let made = parent.create_dir(&path);
    let there = made.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists);
    made.or_else(|e| if there { Ok(()) } else { Err(Error::io(&path, "create", e)) })?;
    let dir = Dir::open(disk, &path).map_err(|e| match e.kind() {
        ErrorKind::NotADirectory => Error::AlreadyExists { path: path.clone() },
        _ => Error::io(&path, "open", e),
    })?;
    if there {
        // Before LOCK is made in it: is it ours to use?
        may_use(&dir)?;
    }
    if !planted::is(Bug::SkipParentSync) {
        sync_dir(&parent)?;
    }
    let lock = Lock::take(&dir, LOCK_WAIT)?;
    Ok((dir, lock))
}

/// Puts a MANIFEST in the place of the one before, atomically and durably (steps M2 to M4 of the format).
pub(crate) fn replace_manifest(dir: &Dir, manifest: &Manifest) -> Result<()> {
    let (new, path) = (dir.join(MANIFEST_NEW), dir.join(MANIFEST));
    let bytes = manifest.encode().map_err(|bad| into_error(&new, bad))?;
    // A file in the making, of no meaning before it has its name: whoever holds LOCK may remove it.
    remove(dir, vec![new.clone()])?;
    let file = StoreFile::create(dir, new.clone())?;
    file.write(&bytes, 0)?;
    if !planted::is(Bug::SkipManifestSync) {
        file.sync()?;
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
pub(crate) fn sync_manifest(dir: &Dir) -> Result<()> {
    let path = dir.join(MANIFEST);
    let file = dir.open_file(&path, Open::ReadWrite).map_err(|e| Error::io(&path, "open", e))?;
    StoreFile { path, file }.sync()?;
    sync_dir(dir)?;
    remove(dir, vec![dir.join(MANIFEST_NEW)])
}

/// Makes the pair of a segment, empty and synced, whose batches go on behind `before`: a sequence with its chain. The
/// directory is the caller's to sync. If it fails, nothing of it is left.
pub(crate) fn create_segment(
    dir: &Dir,
    schema: &Schema,
    identity: Identity,
    before: (u64, Chain),
    manifest: u64,
) -> Result<VectorStorage> {
    let header = Header { dim: schema.dim, element: schema.element, identity };
    let file = FileRecord { header, seq: before.0, chain: before.1 };
    VectorStorage::create_in(dir, &pair_path(dir, identity.segment), file, manifest)
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
