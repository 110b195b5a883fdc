//! A copy of a store that is a store: taken from a live one, by the writer or by any reader.

use crate::directory;
use crate::disk::{Dir, Open};
use crate::error::{Error, Result};
use crate::files::{Named, random};
use crate::format::header::Header;
use crate::format::manifest::{MAX_NUMBER, Manifest, SegmentEntry};
use crate::format::record::FileRecord;
use crate::format::{Identity, crc32c};
use crate::pair::Pair;
use crate::replace::check_room;
use crate::snapshot::Snapshot;
use crate::view::SegmentView;
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
    made: Vec<PathBuf>,
    report: BackupReport,
}

/// Copies what a snapshot shows to a new directory, durably. Everything it shows must be in the files and durable.
/// `manifest` is the one that it was made under; `from` is where the files are.
pub(crate) fn backup(
    from: &Dir,
    manifest: &Manifest,
    snapshot: &Snapshot,
    to: &Path,
) -> Result<BackupReport> {
    // Made and locked like a new store: what is there already is refused, or an interrupted creation to start over.
    let (to, _lock) = directory::make_directory(from.disk(), to)?;
    let mut backup = Backup { from, to: &to, made: Vec::new(), report: BackupReport::default() };
    let copied = backup.copy_all(manifest, snapshot);
    if copied.is_err() {
        // LOCK is held, and there was none before: this call made it.
        _ = to.unlink(&directory::manifest_path(&to));
        for path in &backup.made {
            _ = to.unlink(path);
        }
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
        // A store without a dimension has no segment.
        if let Some((last, sealed)) = parts.split_last() {
            for part in sealed {
                self.segment(part, true)?;
                new.segments.push(self.entry(part, number)?);
            }
            // The log of the active one goes on in the store. In the copy it is sealed, and an empty one follows.
            if last.rows > 0 {
                self.segment(last, false)?;
                new.segments.push(self.entry(last, number)?);
            }
            self.begin_active(&mut new, last)?;
        }
        self.to.sync().map_err(|e| Error::io(self.to.path(), "sync", e))?;
        directory::replace_manifest(self.to, &new)?;
        self.count(new.len());
        Ok(self.report)
    }

    fn count(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
    }

    /// The files of a segment, up to the end that the snapshot shows.
    fn segment(&mut self, part: &SegmentView, link: bool) -> Result<()> {
        let (files, end) = (part.segment.files(), &part.end);
        self.file(&files.dat, end.dat_len, link)?;
        self.file(&files.idx, end.idx_len, link)?;
        if let Some(jsonl) = files.jsonl.as_ref().filter(|_| end.jsonl_len > 0) {
            self.file(jsonl, end.jsonl_len, link)?;
        }
        // The index of an unchanging segment fits the copy; without it the copy makes its own.
        if let Some(ids) = part.segment.ids().filter(|ids| ids.point().rows == part.rows) {
            let (file, len) = (ids.file().clone(), ids.len());
            self.file(&file, len, link)?;
        }
        Ok(())
    }

    /// Shares a file that never changes, or copies its first `len` bytes from the open file: its name may be gone.
    fn file(&mut self, from: &Named, len: u64, link: bool) -> Result<()> {
        let to = self.to.join(from.path.file_name().unwrap_or_default());
        // A length that differs tells of a file that was not sealed.
        if link && from.len()? == len && self.share(from, &to) {
            self.report.linked += len;
            self.count(len);
            return Ok(());
        }
        let copy = self.create(to)?;
        from.file.copy_to(copy.file.as_ref(), len).map_err(|e| Error::io(&copy.path, "copy", e))?;
        copy.file.sync_data().map_err(|e| Error::io(&copy.path, "sync", e))?;
        self.count(len);
        Ok(())
    }

    /// Gives an open file another name; false if it cannot have one.
    fn share(&mut self, from: &Named, to: &Path) -> bool {
        if self.from.link(&from.path, self.to, to).is_err() {
            return false;
        }
        self.made.push(to.to_owned());
        // Since it was opened the name may have been given to another file.
        let found = self.to.open_file(to, Open::Read).and_then(|file| file.inode());
        let same = matches!((found, from.file.inode()), (Ok(found), Ok(open)) if found == open);
        if !same {
            // What cannot be taken away is in the way of the copy, which says so.
            _ = self.to.unlink(to);
        }
        same
    }

    fn create(&mut self, path: PathBuf) -> Result<Named> {
        let file = self.to.open_file(&path, Open::CreateNew).map_err(|e| Error::io(&path, "create", e))?;
        self.made.push(path.clone());
        Ok(Named { path, file })
    }

    /// What the copy's MANIFEST says of a segment; writes the list of its dead rows.
    fn entry(&mut self, part: &SegmentView, number: u64) -> Result<SegmentEntry> {
        let identity = part.segment.header().identity;
        let mut sealed = part.end.clone();
        sealed.del = (0, 0, 0);
        if part.mask.dead() > 0 {
            let bytes = part.mask.to_roaring();
            sealed.del = (number, bytes.len() as u64, crc32c(&bytes));
            let del = self.create(directory::del_path(self.to, identity.segment, number))?;
            del.write(&bytes, 0)?;
            del.file.sync_data().map_err(|e| Error::io(&del.path, "sync", e))?;
            self.count(bytes.len() as u64);
        }
        Ok(SegmentEntry { number: identity.segment, salt: identity.salt, sealed: Some(sealed) })
    }

    /// The empty segment that the copy goes on in.
    fn begin_active(&mut self, new: &mut Manifest, last: &SegmentView) -> Result<()> {
        let number = new.next_segment;
        if number >= MAX_NUMBER {
            return Err(Error::NumbersUsedUp { what: "segment numbers", max: MAX_NUMBER - 1 });
        }
        let identity = Identity { uuid: new.uuid, segment: number, salt: random()? };
        let header = Header { dim: new.dim, element: new.element, identity };
        let path = directory::pair_path(self.to, number);
        let file = FileRecord { header, seq: last.end.last_seq, chain: last.end.chain };
        let pair = Pair::create(self.to, &path, file, new.number)?;
        self.made.extend(pair.made());
        self.count(header.row_start(0));
        self.count(pair.written().idx_end);
        new.next_segment += 1;
        new.segments.push(SegmentEntry { number, salt: identity.salt, sealed: None });
        Ok(())
    }
}
