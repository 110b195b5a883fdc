//! A directory that a repair, a backup or a migration fills. Until that is done a file says so, and nobody takes what is
//! there for a store.
//!
//! It is made, durably, before anything else, and removed last. What it says tells the next call what it may remove: a
//! segment's files are known by the uuid in the header of `.dat` or in the FILE record of `.idx`. Whoever fills the
//! directory makes these durable, with their names, before any other file of that segment.

use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::{self, Manifest};
use crate::format::record::{FILE_BYTES, FileRecord};
use crate::open::directory::{self, MANIFEST, MANIFEST_NEW, UNFINISHED};
use crate::open::lock::{LOCK, Lock};
use crate::pair::files::{StoreFile, sync_dir};
use crate::sys::disk::{Dir, Disk, Open};
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What fills a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call {
    Repair,
    Backup,
    Migration,
}

impl Call {
    fn word(self) -> &'static str {
        match self {
            Call::Repair => "repair",
            Call::Backup => "backup",
            Call::Migration => "migration",
        }
    }
}

const CALLS: [Call; 3] = [Call::Repair, Call::Backup, Call::Migration];
const ANY_CALL: &str = "repair, backup or migration";
/// Longer than what any call writes.
const MOST_BYTES: u64 = 64;

type Uuid = [u8; 16];

/// Makes or takes over a directory for a new store, locks it, and marks it as unfinished.
pub(crate) fn begin(disk: &Arc<dyn Disk>, path: &Path, call: Call, uuid: Uuid) -> Result<(Dir, Lock)> {
    // Before LOCK is made in it: is it ours to use?
    let (dir, lock) = directory::make_locked(disk, path, &|dir| match read(dir)? {
        Some(mark) => removable(dir, mark.1).map(drop),
        None => directory::leftovers(dir).map(drop),
    })?;
    match read(&dir)? {
        Some((_, uuid)) => clear(&dir, uuid)?,
        None => directory::remove(&dir, directory::leftovers(&dir)?)?,
    }
    mark(&dir, call.word(), uuid)?;
    Ok((dir, lock))
}

fn mark(dir: &Dir, word: &str, uuid: Uuid) -> Result<()> {
    if planted::is(Bug::SkipUnfinished) {
        return Ok(());
    }
    let path = dir.join(UNFINISHED);
    let file = dir.open_file(&path, Open::Create).map_err(|e| Error::io(&path, "create", e))?;
    let text = format!("{word} {}\n", uuid::Uuid::from_bytes(uuid).simple());
    file.set_len(0).map_err(|e| Error::io(&path, "cut", e))?;
    let mark = StoreFile { path, file };
    mark.write(text.as_bytes(), 0).map_err(Error::abandoned)?;
    if planted::is(Bug::UnsyncedUnfinished) {
        return Ok(());
    }
    mark.sync()?;
    sync_dir(dir)
}

/// The last step: from here on it is a store. Where that cannot be made durable the mark comes back, as far as the disk
/// lets it: the next call starts over.
pub(crate) fn finish(dir: &Dir) -> Result<()> {
    let found = read(dir)?;
    directory::remove(dir, vec![dir.join(UNFINISHED)])?;
    sync_dir(dir).inspect_err(|_| {
        if let Some((word, Some(uuid))) = found {
            _ = mark(dir, word, uuid);
        }
    })
}

/// Refuses a directory that is not finished.
pub(crate) fn check(dir: &Dir) -> Result<()> {
    match read(dir)? {
        Some((call, _)) => Err(Error::Unfinished { path: dir.path().to_owned(), call }),
        None => Ok(()),
    }
}

/// Which call left a directory unfinished, and the uuid of its store, as far as the mark says so; `None` without a mark.
fn read(dir: &Dir) -> Result<Option<(&'static str, Option<Uuid>)>> {
    let Some(file) = StoreFile::open(dir, dir.join(UNFINISHED))? else { return Ok(None) };
    // A crash may have cut it short: then nothing else was made yet.
    let bytes = match file.read_all(MOST_BYTES) {
        Err(error) if error.is_corrupt() => Vec::new(),
        read => read?,
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    let (word, uuid) = text.strip_suffix('\n').and_then(|text| text.split_once(' ')).unwrap_or_default();
    let uuid = uuid::Uuid::try_parse(uuid).ok();
    let call = CALLS.map(Call::word).into_iter().find(|known| *known == word).unwrap_or(ANY_CALL);
    Ok(Some((call, uuid.map(uuid::Uuid::into_bytes))))
}

/// What the next call may remove.
struct Removable {
    /// In this order, for a crash may come in between: the pairs tell whose the other files are.
    others: Vec<PathBuf>,
    pairs: Vec<PathBuf>,
}

/// Everything in an unfinished directory.
///
/// # Errors
///
/// [`Error::NotAStore`] if something there is not of the store with that uuid: then nothing is to be removed.
fn removable(dir: &Dir, uuid: Option<Uuid>) -> Result<Removable> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    let mut found = Removable { others: Vec::new(), pairs: Vec::new() };
    for name in names {
        let (text, path) = (name.to_str().unwrap_or_default(), dir.join(&name));
        let ours = match text {
            LOCK | UNFINISHED => continue,
            MANIFEST_NEW => true,
            MANIFEST => uuid.is_some() && manifest_uuid(dir, &path)? == uuid,
            _ => match directory::segment_file(text) {
                Some((number, suffix)) => is_of(dir, number, suffix, &path, uuid)?,
                None => false,
            },
        };
        if !ours {
            let why = "it holds files that are not of the store that was to be made there; choose another directory";
            return Err(Error::NotAStore { path: dir.path().to_owned(), why });
        }
        let is_pair = text.ends_with(".dat") || text.ends_with(".idx");
        if is_pair { found.pairs.push(path) } else { found.others.push(path) }
    }
    Ok(found)
}

/// Removes what was made of a store; the mark stays.
pub(crate) fn clear(dir: &Dir, uuid: Option<Uuid>) -> Result<()> {
    let Removable { others, pairs } = removable(dir, uuid)?;
    directory::remove(dir, others)?;
    // Whose the others are is told by their pairs.
    sync_dir(dir)?;
    directory::remove(dir, pairs)?;
    sync_dir(dir)
}

/// The first bytes of a file, with its length; `None` if it is not there.
fn start(dir: &Dir, path: &Path, len: usize) -> Result<Option<(Vec<u8>, u64)>> {
    let Some(named) = StoreFile::open(dir, path.to_owned())? else { return Ok(None) };
    let found = named.len()?;
    let mut bytes = vec![0; usize::try_from(found).unwrap_or(len).min(len)];
    named.read(&mut bytes, 0)?;
    Ok(Some((bytes, found)))
}

fn manifest_uuid(dir: &Dir, path: &Path) -> Result<Option<Uuid>> {
    let most = usize::try_from(manifest::MAX_BYTES).unwrap_or(usize::MAX);
    let bytes = start(dir, path, most)?;
    Ok(bytes.and_then(|(bytes, _)| Manifest::decode(&bytes).ok()).map(|manifest| manifest.uuid))
}

/// Whether a segment's file belongs to the store with that uuid, or is of a pair too short to hold a batch.
fn is_of(dir: &Dir, number: u64, suffix: &str, path: &Path, uuid: Option<Uuid>) -> Result<bool> {
    let stem = directory::pair_path(dir, number);
    let dat = start(dir, &stem.with_extension("dat"), HEADER_LEN)?;
    let idx = start(dir, &stem.with_extension("idx"), FILE_BYTES)?;
    let in_dat = dat.as_ref().and_then(|(bytes, _)| Header::decode(bytes).ok());
    let in_idx = idx.as_ref().and_then(|(bytes, _)| FileRecord::decode(bytes).ok()).map(|file| file.header);
    let mut known = in_dat.iter().chain(&in_idx).map(|header| header.identity).peekable();
    if known.peek().is_some() {
        return Ok(known.all(|found| Some(found.uuid) == uuid && found.segment == number));
    }
    let short = match suffix {
        "dat" => dat.is_some_and(|(_, len)| len <= HEADER_LEN as u64),
        "idx" => idx.is_some_and(|(_, len)| len <= FILE_BYTES as u64),
        _ => false,
    };
    Ok(short && path.with_extension("") == stem)
}
