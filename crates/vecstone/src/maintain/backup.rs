//! A copy of a store that is a store: taken from a live one, by the writer or by any reader.

use crate::engine::replace::check_room;
use crate::format::crc32c;
use crate::format::header::HEADER_BYTES;
use crate::format::manifest::{MAX_NUMBER, Manifest, SegmentEntry};
use crate::format::record::FILE_BYTES;
use crate::open::directory;
use crate::open::unfinished::{self, Call};
use crate::pair::files::{StoreFile, new_identity, sync_dir};
use crate::query::snapshot::Snapshot;
use crate::segment::side::{self, SideFile};
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::disk::{Dir, Stat};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

/// What a backup is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BackupReport {
    /// Files of the copy.
    pub files: u64,
    /// Bytes of the copy.
    pub bytes: u64,
    /// Bytes of files that both stores share as hard links: sealed segments, which never change.
    pub linked: u64,
}

/// A backup under way.
struct Backup<'a> {
    from: &'a Dir,
    to: &'a Dir,
    report: BackupReport,
    /// Files of which the copy has the head only.
    rest: Vec<Rest>,
}

/// A file, its copy, and how many bytes of it count.
struct Rest {
    from: StoreFile,
    copy: StoreFile,
    len: u64,
}

/// Copies what a snapshot shows to a new directory, durably. Everything it shows must be in the files and durable.
/// `manifest` is the one that it was made under; `from` is where the files are.
pub(crate) fn backup(
    from: &Dir,
    manifest: &Manifest,
    snapshot: &Snapshot,
    to: &Path,
) -> Result<BackupReport> {
    directory::check_outside(from.disk(), from, to)?;
    directory::check_writable(from, manifest)?;
    // Made and locked like a new store: what is there already is refused, or something unfinished to start over.
    let (to, _lock) = unfinished::begin(from.disk(), to, Call::Backup, manifest.uuid)?;
    let mut backup = Backup { from, to: &to, report: BackupReport::default(), rest: Vec::new() };
    let mut copied = backup.copy_all(manifest, snapshot);
    if copied.is_ok() {
        copied = unfinished::finish(&to).map(|()| backup.side_files(snapshot.files()));
    } else {
        // A full disk has room again. It stays marked.
        _ = unfinished::clear(&to, Some(manifest.uuid));
    }
    copied.map_err(Error::abandoned)
}

impl Backup<'_> {
    fn copy_all(&mut self, manifest: &Manifest, snapshot: &Snapshot) -> Result<BackupReport> {
        let parts = &snapshot.files().segments;
        let kind = snapshot.kind().map_or(0, |kind| kind as u8);
        check_room(manifest, parts.len() + 1)?;
        // Higher than any number that the copied logs name.
        let number = manifest.number + 1;
        let mut new = Manifest { number, kind, segments: Vec::new(), ..manifest.clone() };
        let (last, sealed) = parts.split_last().expect("a store has an active segment");
        // The log of the active one goes on in the store. In the copy it is sealed, and an empty one follows.
        let active = Some(last).filter(|last| last.rows > 0);
        sealed.iter().try_for_each(|part| self.pair(part, true))?;
        active.map_or(Ok(()), |part| self.pair(part, false))?;
        let next = self.begin_active(&mut new, last)?;
        if !planted::is(Bug::SkipHeadsSync) {
            sync_dir(self.to)?;
        }
        self.copy_rest()?;
        for (part, link) in sealed.iter().map(|part| (part, true)).chain(active.map(|part| (part, false))) {
            self.others(part, link)?;
            new.segments.push(self.entry(part, number)?);
        }
        new.segments.push(next);
        sync_dir(self.to)?;
        directory::replace_manifest(self.to, &new)?;
        self.count(new.len());
        Ok(self.report)
    }

    fn count(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
    }

    /// The heads of a segment's pair: what tells whose its files are. Shared files are whole at once.
    fn pair(&mut self, part: &SegmentVersion, link: bool) -> Result<()> {
        let (files, end) = (part.segment.files(), &part.end);
        let pair = [(files.dat, end.dat_len, HEADER_BYTES), (files.idx, end.idx_len, FILE_BYTES as u64)];
        for (from, len, head) in pair {
            if !self.shared(&from, len, link)? {
                let copy = StoreFile::create(self.to, self.place_of(&from))?;
                copy_synced(&from, &copy, if planted::is(Bug::SkipHeadsSync) { 0 } else { head.min(len) })?;
                self.rest.push(Rest { from, copy, len });
            }
        }
        Ok(())
    }

    fn copy_rest(&mut self) -> Result<()> {
        for Rest { from, copy, len } in std::mem::take(&mut self.rest) {
            copy_synced(&from, &copy, len)?;
            self.count(len);
        }
        Ok(())
    }

    /// The other files of a segment, up to the end that the snapshot shows.
    fn others(&mut self, part: &SegmentVersion, link: bool) -> Result<()> {
        let (files, end) = (part.segment.files(), &part.end);
        if let Some(jsonl) = files.jsonl.as_ref().filter(|_| end.jsonl_len > 0) {
            self.file(jsonl, end.jsonl_len, link)?;
        }
        // Those of all rows fit the copy; without them the copy makes its own.
        let of_all = |file: &&dyn SideFile| file.covers().iter().all(|rows| rows.point.rows == part.rows);
        part.segment.side_files().filter(of_all).try_for_each(|file| self.file(file.file(), file.len(), link))
    }

    /// The side files that are of no single segment, when the copy is a store already. It builds what cannot be copied.
    fn side_files(&mut self, version: &Version) -> BackupReport {
        for file in version.side_files() {
            if self.shared(file.file(), file.len(), true).is_ok_and(|shared| !shared)
                && side::copy(&**file, self.to).is_ok()
            {
                self.count(file.len());
            }
        }
        self.report
    }

    /// Shares a file that never changes, or copies its first `len` bytes from the open file: its name may be gone.
    fn file(&mut self, from: &StoreFile, len: u64, link: bool) -> Result<()> {
        if !self.shared(from, len, link)? {
            let copy = StoreFile::create(self.to, self.place_of(from))?;
            copy_synced(from, &copy, len)?;
            self.count(len);
        }
        Ok(())
    }

    fn place_of(&self, from: &StoreFile) -> PathBuf {
        self.to.join(from.path.file_name().unwrap_or_default())
    }

    /// Shares a file that never changes; false if it has to be copied.
    fn shared(&mut self, from: &StoreFile, len: u64, link: bool) -> Result<bool> {
        // A length that differs tells of a file that was not sealed.
        let shared = link && from.len()? == len && self.share(from, &self.place_of(from));
        if shared {
            self.report.linked += len;
            self.count(len);
        }
        Ok(shared)
    }

    /// Gives an open file another name; false if it cannot have one.
    fn share(&self, from: &StoreFile, to: &Path) -> bool {
        let Ok(open) = from.file.inode() else { return false };
        // The name may be a symbolic link, or since it was opened have been given to another file.
        let is_it = |found: io::Result<Stat>| {
            planted::is(Bug::ShareByName) || found.is_ok_and(|found| !found.symlink && found.identity == open)
        };
        if !is_it(self.from.stat(&from.path)) || self.from.link(&from.path, self.to, to).is_err() {
            return false;
        }
        let same = is_it(self.to.stat(to));
        if !same {
            // What cannot be taken away is in the way of the copy, which says so.
            _ = self.to.unlink(to);
        }
        same
    }

    /// What the copy's MANIFEST says of a segment; writes the list of its dead rows.
    fn entry(&mut self, part: &SegmentVersion, number: u64) -> Result<SegmentEntry> {
        let identity = part.segment.header().identity;
        let mut sealed = part.end.clone();
        sealed.del = (0, 0, 0);
        if part.deletions.dead() > 0 {
            let bytes = part.deletions.to_roaring();
            sealed.del = (number, bytes.len() as u64, crc32c(&bytes));
            let path = directory::del_path(self.to, identity.segment, number);
            StoreFile::create(self.to, path)?.write_synced(&bytes)?;
            self.count(bytes.len() as u64);
        }
        Ok(SegmentEntry::new(identity, Some(sealed)))
    }

    /// The empty segment that the copy goes on in.
    fn begin_active(&mut self, new: &mut Manifest, last: &SegmentVersion) -> Result<SegmentEntry> {
        let number = new.next_segment;
        if number >= MAX_NUMBER {
            return Err(Error::NumbersUsedUp { what: "segment numbers", max: MAX_NUMBER - 1 });
        }
        let identity = new_identity(new.uuid, number)?;
        let before = (last.end.last_seq, last.end.chain);
        let pair = directory::create_segment(self.to, &new.schema(), identity, before, new.number)?;
        self.count(pair.header().row_start(0));
        self.count(pair.written().idx_end);
        new.next_segment += 1;
        Ok(SegmentEntry::new(identity, None))
    }
}

/// How much is copied before the disk is asked to begin with it, so that the sync at the end has little left to do.
const COPY_BYTES: u64 = 16 << 20;

fn copy_synced(from: &StoreFile, copy: &StoreFile, len: u64) -> Result<()> {
    let mut at = 0;
    while at < len {
        interrupt::check()?;
        let end = len.min(at + COPY_BYTES);
        from.file.copy_to(copy.file.as_ref(), at..end).map_err(|e| Error::io(&copy.path, "copy", e))?;
        copy.file.start_writeback(at, end - at);
        at = end;
    }
    copy.sync()
}
