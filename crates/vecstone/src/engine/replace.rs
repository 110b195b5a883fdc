//! Replacing MANIFEST: steps M1 to M6 of the format, which sealing, clearing, compaction and attributes share.

use crate::engine::{Drain, Engine, SyncPermit, Writer};
use crate::format::manifest::{MAX_SEGMENTS, Manifest, Sections, SegmentEntry};
use crate::format::{MAX_SEQ, crc32c};
use crate::open::directory;
use crate::pair::VectorStorage;
use crate::pair::files::{StoreFile, new_identity, sync_dir};
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A MANIFEST to be, and the files that go with it.
pub(crate) struct Replacement {
    pub(crate) manifest: Manifest,
    /// What readers see then.
    pub(crate) version: Version,
    /// Files that were made for it, and by nobody else: removed if it does not come to pass.
    pub(crate) made: Vec<PathBuf>,
    /// Files that it no longer names: removed once it is durable.
    pub(crate) obsolete: Vec<PathBuf>,
    /// The next active pair, if there is one.
    pub(crate) pair: Option<VectorStorage>,
    /// What leaves the buffer then.
    pub(crate) drain: Drain,
}

/// An empty segment that goes on where the active one ends, made and not yet named.
struct Next {
    pair: VectorStorage,
    entry: SegmentEntry,
    part: SegmentVersion,
}

impl Engine {
    /// Seals the active segment and begins the next one.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`] and others that leave the store as it was; [`Error::SyncFailed`] stops writing.
    pub(crate) fn seal(&self, permit: &SyncPermit<'_>, writer: &mut Writer) -> Result<()> {
        check_room(&writer.manifest, writer.manifest.segments.len() + 1)?;
        self.sync_log_end(permit, writer)?;
        self.confirm(permit, writer)?;
        self.hooks.here("seal");
        let sealed = writer.pair.written().sealed(writer.pair.header());
        let Next { pair, entry, part } = self.next_segment(writer)?;
        let mut version = self.published.draft();
        version.active_mut().end = sealed.clone();
        let mut manifest = writer.manifest.clone();
        manifest.next_segment = entry.number + 1;
        manifest.segments.last_mut().expect("an active segment").sealed = Some(sealed);
        manifest.segments.push(entry);
        version.segments.push(part);
        let (made, pair) = (pair.made(), Some(pair));
        let new = Replacement { manifest, version, made, obsolete: Vec::new(), pair, drain: Drain::Nothing };
        self.replace(permit, writer, new)
    }

    /// Empties the store: everything accepted until it is empty is gone, in O(segments).
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal).
    pub(crate) fn clear(&self) -> Result<()> {
        self.with_sync_permit(|permit, writer| {
            // What could not be written is to go: that is no reason to refuse.
            self.buffer.lock().check_open()?;
            check_room(&writer.manifest, 1)?;
            // M1 has nothing to sync: what is in the old log counts with it, or not at all.
            let Next { pair, entry, part } = self.next_segment(writer)?;
            let mut obsolete = Vec::new();
            for SegmentEntry { number, sealed, .. } in &writer.manifest.segments {
                obsolete.extend(directory::files_of(&self.dir, *number));
                if let Some(sealed) = sealed.as_ref().filter(|sealed| sealed.del.0 != 0) {
                    obsolete.push(directory::del_path(&self.dir, *number, sealed.del.0));
                }
            }
            let (next_segment, segments) = (entry.number + 1, vec![entry]);
            let manifest = Manifest { next_segment, segments, ..writer.manifest.clone() };
            let version = Version {
                seq: part.end.last_seq,
                segments: vec![part],
                ..Version::empty(self.schema, self.dir.clone())
            };
            let drain = match () {
                () if planted::is(Bug::ClearFilesOnly) => Drain::Nothing,
                () => Drain::Everything,
            };
            let (made, pair) = (pair.made(), Some(pair));
            self.replace(permit, writer, Replacement { manifest, version, made, obsolete, pair, drain })?;
            writer.claim = None;
            Ok(())
        })
    }

    /// Changes the sections of MANIFEST, durably, after everything accepted until now.
    ///
    /// # Errors
    ///
    /// As [`seal`](Self::seal), and those of `change`: then nothing was changed.
    pub(crate) fn change_sections(&self, change: impl FnOnce(&mut Sections) -> Result<()>) -> Result<()> {
        self.with_sync_permit(|permit, writer| {
            self.buffer.lock().check_open()?;
            let mut sections = writer.manifest.sections.clone();
            change(&mut sections)?;
            self.write_all(permit, writer)?;
            self.sync_log_end(permit, writer)?;
            self.confirm(permit, writer)?;
            check_room(&writer.manifest, 1)?;
            let manifest = Manifest { sections, ..writer.manifest.clone() };
            let (version, made, obsolete) = (self.published.draft(), Vec::new(), Vec::new());
            let drain = Drain::Nothing;
            self.replace(permit, writer, Replacement { manifest, version, made, obsolete, pair: None, drain })
        })
    }

    /// Makes the pair of the next active segment, synced. If that fails nothing of it is left.
    fn next_segment(&self, writer: &Writer) -> Result<Next> {
        let number = self.take_segment_number()?;
        let (identity, position) = (new_identity(self.schema.uuid, number)?, writer.pair.written());
        let (before, manifest) = ((position.seq, position.chain), writer.manifest.number + 1);
        let pair = directory::create_segment(&self.dir, &self.schema, identity, before, manifest);
        let pair = pair.map_err(Error::abandoned)?;
        let segment = Segment::active(&self.dir, pair.files().clone(), *pair.header(), None);
        let segment = Arc::new(segment.inspect_err(|_| self.remove(&pair.made()))?);
        let end = pair.written().sealed(pair.header());
        let part =
            SegmentVersion { segment, rows: 0, deletions: DeletionVector::default(), dat_map: None, end };
        let entry = SegmentEntry::new(identity, None);
        Ok(Next { pair, entry, part })
    }

    /// M1's files to M6: writes `.del` files for segments with cross-segment deletes that are in none yet, replaces
    /// MANIFEST, publishes, removes what is no longer named.
    pub(crate) fn replace(
        &self,
        permit: &SyncPermit<'_>,
        writer: &mut Writer,
        mut new: Replacement,
    ) -> Result<()> {
        if planted::is(Bug::ForgetSections) {
            new.manifest.sections.forget_unknown();
        }
        (new.version.sections, new.version.side) = (new.manifest.sections.clone(), Arc::default());
        new.manifest.number += 1;
        new.manifest.kind = new.version.kind.map_or(0, |kind| kind as u8);
        let prepared = self.write_dels(writer, &mut new).and_then(|in_del| {
            if !planted::is(Bug::SkipNamesSync) {
                sync_dir(&self.dir)?;
            }
            // Later only a store that has moved since is refused: what is replaced cannot be taken back.
            self.stop_if_moved(permit, writer).map(|()| in_del)
        });
        let in_del = match prepared {
            Ok(in_del) => in_del,
            Err(error @ (Error::StoreMoved { .. } | Error::LockRemoved { .. })) => return Err(error),
            Err(error) => {
                self.remove(&new.made);
                return Err(error.abandoned());
            }
        };
        if planted::is(Bug::UnlinkTooEarly) {
            self.remove(&new.obsolete);
        }
        match directory::replace_manifest(&self.dir, &new.manifest) {
            Ok(()) => {}
            // From the rename on nobody knows which MANIFEST a crash leaves.
            Err(error @ Error::SyncFailed { .. }) => {
                // In a directory that was removed a rename fails.
                let error = writer.pair.failed(self.moved().unwrap_or(error));
                return Err(self.failed(writer, error));
            }
            Err(error) => {
                self.remove(&new.made);
                return Err(error.abandoned());
            }
        }
        self.hooks.here("replace");
        if let Some(pair) = new.pair {
            (writer.pair, writer.deletes) = (pair, 0);
        }
        writer.pair.set_manifest(new.manifest.number);
        (writer.manifest, writer.in_del) = (new.manifest, in_del);
        self.publish(writer, new.version, new.drain);
        let ops = writer.ops();
        let version = self.published.get();
        // Whether or not it can be announced: MANIFEST is durable, and no error goes back behind it.
        writer.durable_version = version.clone();
        match self.became_durable(permit, writer, version, ops, Duration::ZERO) {
            Err(error) if error.stops_writing() => return Err(error),
            // What could not be announced is announced by whoever waits for it next.
            _ => {}
        }
        self.remove(&new.obsolete);
        if !new.obsolete.is_empty() {
            self.remove_obsolete_side_files(writer);
        }
        Ok(())
    }

    /// Writes a `.del` file for each sealed segment whose cross-segment deletes are not all in one; returns what each
    /// says now.
    fn write_dels(&self, writer: &Writer, new: &mut Replacement) -> Result<HashMap<u64, DeletionVector>> {
        let mut in_del = HashMap::new();
        for (entry, part) in new.manifest.segments.iter_mut().zip(&new.version.segments) {
            let Some(sealed) = &mut entry.sealed else { continue };
            in_del.insert(entry.number, part.deletions.clone());
            if writer.in_del.get(&entry.number).map_or(0, DeletionVector::dead) == part.deletions.dead() {
                continue;
            }
            if sealed.del.0 != 0 && !planted::is(Bug::KeepOldLists) {
                new.obsolete.push(directory::del_path(&self.dir, entry.number, sealed.del.0));
            }
            let path = directory::del_path(&self.dir, entry.number, new.manifest.number);
            let bytes = part.deletions.to_roaring();
            sealed.del = (new.manifest.number, bytes.len() as u64, crc32c(&bytes));
            // Its number is that of a MANIFEST that there is not yet, and none names a list with a higher one: what is
            // there was left by a replacement that did not come to pass.
            _ = self.dir.unlink(&path);
            let del = StoreFile::create(&self.dir, path.clone())?;
            new.made.push(path);
            del.write_synced(&bytes)?;
        }
        Ok(in_del)
    }
}

/// Refuses a MANIFEST of so many segments whose number nobody could read, before anything is made for it.
pub(crate) fn check_room(manifest: &Manifest, segments: usize) -> Result<()> {
    if segments as u64 > MAX_SEGMENTS {
        return Err(Error::TooManySegments { max: MAX_SEGMENTS });
    }
    if manifest.number >= MAX_SEQ {
        return Err(Error::NumbersUsedUp { what: "MANIFEST numbers", max: MAX_SEQ });
    }
    Ok(())
}
