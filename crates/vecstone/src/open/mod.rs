//! Opening a store: MANIFEST, its segments, and what the log of the active one says.

use crate::format::header::Header;
use crate::format::manifest::{self, Manifest, SegmentEntry, SegmentExtent};
use crate::format::{Identity, crc32c};
use crate::pair::files::{Files, StoreFile};
use crate::pair::recover::{self, LogPosition, Recovered};
use crate::segment::Segment;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::version::{SegmentVersion, Version};
use crate::sys::disk::Dir;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use crate::types::id::IdKind;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) mod directory;
pub(crate) mod lock;
pub(crate) mod reader;
pub(crate) mod unfinished;

/// A store, read.
pub(crate) struct Opened {
    pub(crate) manifest: Manifest,
    pub(crate) version: Version,
    /// The files of the active segment and what its log says.
    pub(crate) files: Files,
    pub(crate) active: Recovered,
    /// What the `.del` file of each sealed segment says.
    pub(crate) in_del: HashMap<u64, DeletionVector>,
    /// The active segment, if only `.ids` has told of its first rows so far.
    pub(crate) claim: Option<Arc<Segment>>,
}

/// How a store is read.
#[derive(Clone, Copy)]
pub(crate) struct OpenMode<'a> {
    pub(crate) writable: bool,
    /// Show only what the log proves durable.
    pub(crate) proven_only: bool,
    /// Go by `.ids` where it fits the log.
    pub(crate) by_ids: bool,
    /// Segments that an earlier version has open already.
    pub(crate) known: Option<&'a Version>,
}

impl OpenMode<'_> {
    /// For a handle that writes.
    pub(crate) const WRITER: OpenMode<'static> =
        OpenMode { writable: true, proven_only: false, by_ids: true, known: None };
}

/// Reads everything that a MANIFEST names, and opens it; writes nothing.
pub(crate) fn open_segments(dir: &Dir, manifest: Manifest, mode: OpenMode<'_>) -> Result<Opened> {
    let (mut segments, mut in_del) = (Vec::new(), HashMap::new());
    let mut order = Order { manifest: directory::manifest_path(dir), last_seq: 0, place: 0 };
    let Some((last, before)) = manifest.segments.split_last() else {
        let what = "MANIFEST names no active segment";
        return Err(Error::corrupt(&order.manifest, 0, what));
    };
    for entry in before {
        // Nothing but the last one is active: decoding has compared that.
        let Some(sealed) = &entry.sealed else { continue };
        let deletions = read_del(dir, entry.number, sealed)?;
        in_del.insert(entry.number, deletions.clone());
        let known = mode.known.and_then(|version| known_segment(version, &manifest, entry, sealed));
        let segment = match known {
            Some(segment) => segment,
            None => Arc::new(open_sealed(dir, &manifest, entry, sealed)?),
        };
        order.check(&segment.files().idx, Some(sealed))?;
        segments.push(SegmentVersion {
            segment,
            rows: sealed.rows,
            deletions,
            dat_map: None,
            end: sealed.clone(),
        });
    }
    let (files, header) = open_pair(dir, &manifest, last, mode.writable)?;
    order.check(&files.idx, None)?;
    let (segment, mut deletions, mut active) = Segment::growing(dir, &files, header, &manifest, mode.by_ids)?;
    if active.manifest > manifest.number && !planted::is(Bug::TakeNewerLog) {
        let what = "the log knows a newer MANIFEST: this one is an old copy";
        return Err(Error::corrupt(&directory::manifest_path(dir), 0, what));
    }
    if mode.proven_only {
        active.keep_proven();
    }
    segment.replay(&mut active, &mut deletions)?;
    let dat_map = Some(Arc::new(files.dat.map(header.row_start(active.position.rows))?));
    let end = active.position.sealed(&header);
    let segment = Arc::new(segment);
    let claim = Some(segment.clone()).filter(|segment| segment.base().rows > 0);
    segments.push(SegmentVersion { segment, rows: active.position.rows, deletions, dat_map, end });
    let kind = kind_of(dir, &manifest, &active.position)?;
    let (schema, sections, seq) = (manifest.schema(), manifest.sections.clone(), active.position.seq);
    let mut version = Version { segments, kind, seq, sections, ..Version::empty(schema, dir.clone()) };
    apply_cross_deletes(&mut version, &active, &files)?;
    Ok(Opened { manifest, version, files, active, in_del, claim })
}

/// Whether segments stand in MANIFEST in the order of writing, as their sequences tell.
struct Order {
    manifest: PathBuf,
    /// The last sequence of the segments so far that no compaction made: those count for themselves.
    last_seq: u64,
    place: usize,
}

impl Order {
    /// Takes the next segment: its log, and where that ends if it is sealed.
    fn check(&mut self, idx: &StoreFile, sealed: Option<&SegmentExtent>) -> Result<()> {
        let place = self.place;
        self.place += 1;
        let (first, compacted) = recover::first_seq(idx)?;
        let last = sealed.map_or(first, |sealed| sealed.last_seq);
        if last < first || (!compacted && first < self.last_seq) {
            let what = "the sequences of the segments are not in the order of writing";
            return Err(Error::corrupt(&self.manifest, manifest::last_seq_at(place), what));
        }
        if !compacted {
            self.last_seq = last;
        }
        Ok(())
    }
}

/// Deletes the rows of sealed segments that the log names.
pub(crate) fn apply_cross_deletes(version: &mut Version, found: &Recovered, files: &Files) -> Result<()> {
    let last = version.segments.len() - 1;
    for delete in &found.cross_deletes {
        let part = version.place_of(delete.segment.into()).filter(|&place| place < last);
        match part.map(|place| &mut version.segments[place]) {
            Some(part) if u64::from(delete.row) < part.rows => _ = part.deletions.delete_row(delete.row),
            _ => {
                let what = "a batch replaces a row that MANIFEST does not know";
                return Err(Error::corrupt(&files.idx.path, found.position.idx_end, what));
            }
        }
    }
    Ok(())
}

/// The segment of an earlier version that is what MANIFEST says now. Its number tells nothing: a rebuilt store counts
/// from 1.
fn known_segment(
    version: &Version,
    manifest: &Manifest,
    entry: &SegmentEntry,
    sealed: &SegmentExtent,
) -> Option<Arc<Segment>> {
    let part = version.segments.iter().find(|part| part.segment.number() == entry.number)?;
    let (header, base) = (part.segment.header(), part.segment.base());
    let identity = Identity { uuid: manifest.uuid, segment: entry.number, salt: entry.salt };
    let list_aside = SegmentExtent { del: base.del, ..sealed.clone() };
    let same = header.identity == identity && *base == list_aside;
    same.then(|| part.segment.clone())
}

fn open_pair(
    dir: &Dir,
    manifest: &Manifest,
    entry: &SegmentEntry,
    writable: bool,
) -> Result<(Files, Header)> {
    let path = directory::pair_path(dir, entry.number);
    let files = Files::open(dir, &path, writable).map_err(|error| match error {
        Error::NotFound { path } => Error::corrupt(&path, 0, "the file that MANIFEST names is missing"),
        error => error,
    })?;
    let (dat_len, idx_len) = (files.dat.len()?, files.idx.len()?);
    let (header, _) =
        recover::read_headers(&files.dat, &files.idx, dat_len, idx_len).map_err(|e| match e {
            Error::NotAStore { path, why } => Error::corrupt(&path, 0, why),
            error => error,
        })?;
    let identity = Identity { uuid: manifest.uuid, segment: entry.number, salt: entry.salt };
    if header != (Header { dim: manifest.dim, element: manifest.element, identity }) {
        return Err(Error::corrupt(&files.dat.path, 0, "the file is not the one that MANIFEST names"));
    }
    Ok((files, header))
}

fn open_sealed(
    dir: &Dir,
    manifest: &Manifest,
    entry: &SegmentEntry,
    sealed: &SegmentExtent,
) -> Result<Segment> {
    let (mut files, header) = open_pair(dir, manifest, entry, false)?;
    if sealed.jsonl_len == 0 {
        files.jsonl = None;
    } else if files.jsonl.is_none() {
        let path = files.dat.path.with_extension("jsonl");
        return Err(Error::corrupt(&path, 0, "the file that MANIFEST names is missing"));
    }
    let lens = [(&files.dat, sealed.dat_len), (&files.idx, sealed.idx_len)];
    for (named, len) in lens.into_iter().chain(files.jsonl.iter().map(|jsonl| (jsonl, sealed.jsonl_len))) {
        let found = named.len()?;
        if found < len {
            return Err(Error::corrupt(&named.path, found, "the file is shorter than MANIFEST says"));
        }
    }
    Segment::sealed(dir, files, header, sealed.clone())
}

/// The dead rows of a sealed segment, as its `.del` file says.
pub(crate) fn read_del(dir: &Dir, number: u64, sealed: &SegmentExtent) -> Result<DeletionVector> {
    let (manifest, len, crc) = sealed.del;
    if manifest == 0 {
        return Ok(DeletionVector::default());
    }
    let path = directory::del_path(dir, number, manifest);
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file that MANIFEST names is missing"),
        _ => Error::io(&path, "open", e),
    };
    let file = dir.open_file(&path, crate::sys::disk::Open::Read).map_err(missing)?;
    let named = StoreFile { path: path.clone(), file };
    // MANIFEST's length was compared with the rows: nothing longer is read.
    let found = named.len()?;
    if found != len {
        return Err(Error::corrupt(
            &path,
            found.min(len),
            "the list of dead rows has another length than MANIFEST says",
        ));
    }
    let bytes = named.read_all(len)?;
    let deletions =
        if crc32c(&bytes) == crc { DeletionVector::from_roaring(&bytes, sealed.rows) } else { None };
    deletions
        .ok_or_else(|| Error::corrupt(&path, 0, "the list of dead rows is not the one that MANIFEST names"))
}

fn kind_of(dir: &Dir, manifest: &Manifest, position: &LogPosition) -> Result<Option<IdKind>> {
    let path = directory::manifest_path(dir);
    let known = match manifest.kind {
        0 => None,
        kind => Some(IdKind::from_byte(kind).ok_or(Error::Unsupported {
            path: path.clone(),
            what: "id kind",
            found: kind.into(),
            supported: IdKind::Uuid as u64,
        })?),
    };
    match (known, position.kind) {
        (Some(known), Some(found)) if known != found => {
            Err(Error::corrupt(&path, 0, "MANIFEST and the log have different kinds of ids"))
        }
        (known, found) => Ok(found.or(known)),
    }
}
