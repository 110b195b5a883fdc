//! What there is to repair from: the segments that can be found, in the order of writing.

use crate::format::Identity;
use crate::format::deletions;
use crate::format::header::Header;
use crate::format::manifest::{METRIC_AT, Manifest, Sections, SegmentEntry};
use crate::maintain::salvage;
use crate::maintain::salvage::segment::{SalvagedSegment, SegmentProbe, open, probe};
use crate::maintain::verify::is_of_content;
use crate::open::directory::{self, FOREIGN};
use crate::open::read_del;
use crate::open::unfinished;
use crate::pair::log::LogEvent;
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::in_log::DIFFERS;
use crate::sys::disk::Dir;
use crate::types::config::Metric;
use crate::types::counted::counted;
use crate::types::error::{Error, Result};
use crate::types::id::{IdHasher, IdKind};
use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What it means that something is lost which could say that a row is dead.
const MAY_BE_OLD: &str = "rows that are kept may have been deleted, or be older versions: they are listed";

/// All that can be read of a store.
pub(super) struct Source {
    /// 0 of a store that has none yet.
    pub(super) dim: u32,
    pub(super) metric: Metric,
    /// Those of MANIFEST, where that can be read.
    pub(super) sections: Sections,
    /// Kind of the ids, if any is known.
    pub(super) kind: Option<IdKind>,
    /// Oldest first.
    pub(super) parts: Vec<SalvagedSegment>,
    /// Some batches are lost, or which files belong to the store is a guess.
    pub(super) lost: bool,
    /// Damaged places in the logs.
    pub(super) damaged: u64,
    pub(super) notes: Vec<String>,
}

/// The segments that there are files of, with the numbers in the names of their lists of dead rows, largest first.
fn numbers(dir: &Dir) -> Result<BTreeMap<u64, Vec<u64>>> {
    let names = match dir.list() {
        Ok(names) => names,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound { path: dir.path().to_owned() });
        }
        Err(e) => return Err(Error::io(dir.path(), "list", e)),
    };
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for name in names.iter().filter_map(|name| name.to_str()) {
        let Some((stem, suffix)) = name.split_once('.') else { continue };
        let Some(number) = stem.parse().ok().filter(|number| format!("{number:08}") == stem) else {
            continue;
        };
        match suffix.strip_suffix(".del").map(str::parse) {
            Some(Ok(manifest)) => found.entry(number).or_default().push(manifest),
            None if matches!(suffix, "dat" | "idx") => _ = found.entry(number).or_default(),
            _ => {}
        }
    }
    found.values_mut().for_each(|dels| dels.sort_unstable_by(|a, b| b.cmp(a)));
    Ok(found)
}

/// Refuses what does not look like a store, before anything is made in it.
pub(super) fn is_a_store(dir: &Dir) -> Result<()> {
    unfinished::check(dir)?;
    match directory::read_manifest(dir) {
        Err(error) if numbers(dir)?.is_empty() && !error.is_corrupt() => Err(error),
        _ => Ok(()),
    }
}

/// Finds all that can be read of a store.
pub(super) fn find(dir: &Dir) -> Result<Source> {
    let mut notes = Vec::new();
    let manifest = match directory::read_manifest(dir) {
        Ok(manifest) => Some(manifest),
        Err(error @ Error::Unsupported { .. }) => return Err(error),
        Err(error @ Error::Io { operation, .. }) if operation != "read" => {
            return Err(error);
        }
        Err(error) => {
            notes.push(format!(
                "{error}; segments were found by the names of their files, attributes are lost if there were any"
            ));
            None
        }
    };
    let (manifest, foreign) = match manifest {
        Some(manifest) if is_foreign(&manifest, &candidates(dir)?) => {
            let path = directory::manifest_path(dir);
            notes.push(format!(
                "{}: {FOREIGN}; segments were found by the names of their files",
                path.display()
            ));
            (None, true)
        }
        manifest => (manifest, false),
    };
    if let Some(manifest) = &manifest {
        directory::check_writable(dir, manifest)?;
        let mut source = by_manifest(dir, manifest)?;
        let newest = source.survey()?;
        let unlisted = match directory::unlisted(dir, manifest) {
            // What the disk cannot read is damaged.
            Err(error) if !is_of_content(&error) => return Err(error),
            unlisted => unlisted.is_ok(),
        };
        if unlisted && newest <= manifest.number {
            source.doubt_what_the_active_log_lost();
            return Ok(source);
        }
        notes.push("MANIFEST is an old copy; segments were found by the names of their files".to_owned());
    }
    let metric = match &manifest {
        Some(manifest) => manifest.metric,
        None => guess_metric(dir, foreign, &mut notes)?,
    };
    let mut source = by_name(dir, manifest.as_ref(), metric, notes)?;
    source.leave_out_cleared();
    source.survey()?;
    source.sort();
    let what =
        "without a MANIFEST that fits nothing says whether a segment or a list of dead rows is missing";
    source.doubt(what);
    Ok(source)
}

/// The segments that MANIFEST names.
fn by_manifest(dir: &Dir, manifest: &Manifest) -> Result<Source> {
    let mut source = Source {
        dim: manifest.dim,
        metric: manifest.metric,
        sections: manifest.sections.clone(),
        kind: IdKind::from_byte(manifest.kind),
        parts: Vec::new(),
        lost: false,
        damaged: 0,
        notes: Vec::new(),
    };
    for (place, entry) in manifest.segments.iter().enumerate() {
        let identity = Identity { uuid: manifest.uuid, segment: entry.number, salt: entry.salt };
        let header = Header { dim: manifest.dim, element: manifest.element, identity };
        let probe = probe(dir, entry.number)?;
        source.note_damaged_headers(&probe, &header);
        let mut part = SalvagedSegment::of(dir, probe, header)?;
        part.may_follow(place.checked_sub(1).and_then(|before| manifest.segments[before].sealed.as_ref()));
        source.add_sealed(dir, entry, &mut part);
        source.add(part)?;
    }
    Ok(source)
}

/// A segment that there are files of.
pub(crate) struct Candidate {
    pub(crate) probe: SegmentProbe,
    /// What one file or the other says it is.
    pub(crate) header: Option<Header>,
    /// Numbers in the names of its lists of dead rows, largest first.
    pub(crate) dels: Vec<u64>,
}

/// The segments that there are files of, by their numbers.
pub(crate) fn candidates(dir: &Dir) -> Result<Vec<Candidate>> {
    let candidate = |(number, dels)| {
        let probe = probe(dir, number)?;
        let header = probe.in_idx.map(|file| file.header).or(probe.in_dat);
        Ok(Candidate { probe, header: header.filter(|header| header.identity.segment == number), dels })
    };
    numbers(dir)?.into_iter().map(candidate).collect()
}

/// Whether a MANIFEST is of another store: there are segments, and none is of the one that it names.
pub(crate) fn is_foreign(manifest: &Manifest, found: &[Candidate]) -> bool {
    let mut uuids = found.iter().filter_map(|candidate| Some(candidate.header?.identity.uuid)).peekable();
    uuids.peek().is_some() && uuids.all(|uuid| uuid != manifest.uuid)
}

/// The metric stands in MANIFEST only.
fn guess_metric(dir: &Dir, foreign: bool, notes: &mut Vec<String>) -> Result<Metric> {
    let mut metric = [0];
    let manifest = open(dir, directory::manifest_path(dir))?.filter(|_| !foreign);
    let read = manifest.is_some_and(|file| file.read(&mut metric, METRIC_AT).is_ok());
    let found = if read { Metric::from_byte(metric[0]) } else { None };
    let metric = found.unwrap_or_default();
    let why = if found.is_some() { "a damaged MANIFEST says so" } else { "nothing says what it was" };
    notes.push(format!("the metric is {} now, because {why}: check that", metric.name()));
    Ok(metric)
}

/// The segments that there are files of and that belong to the store that most of them belong to. `old`: a MANIFEST of
/// it that is not the last.
fn by_name(dir: &Dir, old: Option<&Manifest>, metric: Metric, notes: Vec<String>) -> Result<Source> {
    let found = candidates(dir)?;
    let mut votes: BTreeMap<[u8; 16], (usize, u32)> = BTreeMap::new();
    for header in found.iter().filter_map(|candidate| candidate.header) {
        votes.entry(header.identity.uuid).or_insert((0, header.dim)).0 += 1;
    }
    let most = votes.iter().max_by_key(|(_, (votes, _))| votes).map(|(uuid, (_, dim))| (*uuid, *dim));
    // An old copy may be of the time before the store had a dimension.
    let dim_of = |old: &Manifest| if old.dim > 0 { old.dim } else { votes.get(&old.uuid).map_or(0, |v| v.1) };
    let chosen = old.map(|old| (old.uuid, dim_of(old))).or(most);
    let Some((uuid, dim)) = chosen else {
        let what = "neither MANIFEST nor any segment says what the store is";
        return Err(Error::corrupt(&directory::manifest_path(dir), 0, what));
    };
    let (parts, sections) = (Vec::new(), old.map_or_else(Sections::default, |old| old.sections.clone()));
    let mut source = Source { dim, metric, sections, kind: None, parts, lost: true, damaged: 0, notes };
    for Candidate { probe, header, dels } in found {
        match header {
            Some(header) if header.identity.uuid == uuid && header.dim == dim => {
                source.note_damaged_headers(&probe, &header);
                let mut part = SalvagedSegment::of(dir, probe, header)?;
                source.read_dels(dir, &dels, &mut part)?;
                source.add(part)?;
            }
            Some(_) => {
                source.notes.push(format!("{}: it is of another store; left out", probe.stem.display()))
            }
            None => source.notes.push(format!("{}: nothing says what it is; left out", probe.stem.display())),
        }
    }
    Ok(source)
}

impl Source {
    /// Refuses a disk that gives errors now here, now there: an older version could seem to be the newest.
    pub(super) fn check_same(&self, damaged: u64) -> Result<()> {
        if damaged == self.damaged {
            return Ok(());
        }
        let path = self.parts.first().map_or_else(PathBuf::new, |part| part.path("idx"));
        Err(Error::corrupt(&path, 0, "the logs read differently each time; copy the files first"))
    }

    fn add(&mut self, mut part: SalvagedSegment) -> Result<()> {
        for (suffix, file) in [("dat", &part.dat), ("idx", &part.idx)] {
            if file.is_none() {
                self.lost = true;
                let path = part.path(suffix);
                self.notes.push(format!(
                    "{}: the file is missing; all rows of its segment are lost",
                    path.display()
                ));
            }
        }
        let len = part.idx_len;
        part.cut_to_what_counts()?;
        part.cut = len - part.idx_len;
        self.parts.push(part);
        Ok(())
    }

    fn note_damaged_headers(&mut self, probe: &SegmentProbe, header: &Header) {
        if probe.dat.is_some() && probe.in_dat.as_ref() != Some(header) {
            let path = probe.stem.with_extension("dat");
            self.notes.push(format!("{}: the header is not what it should be", path.display()));
        }
        if probe.idx.is_some() && probe.in_idx.as_ref().map(|file| &file.header) != Some(header) {
            let path = probe.stem.with_extension("idx");
            self.notes.push(format!("{}: the FILE record is not what it should be", path.display()));
        }
    }

    /// What MANIFEST says of a segment that no longer changes.
    fn add_sealed(&mut self, dir: &Dir, entry: &SegmentEntry, part: &mut SalvagedSegment) {
        let Some(sealed) = &entry.sealed else { return };
        part.end_at(sealed);
        part.sealed_rows = Some(sealed.rows);
        match read_del(dir, entry.number, sealed) {
            Ok(deletions) => deletions.dead_rows().for_each(|row| _ = part.dead.delete_row(row)),
            Err(error) => {
                part.doubtful = true;
                self.notes.push(format!("{error}; {MAY_BE_OLD}"));
            }
        }
    }

    /// The newest list of dead rows that can be read.
    fn read_dels(&mut self, dir: &Dir, dels: &[u64], part: &mut SalvagedSegment) -> Result<()> {
        for &manifest in dels {
            let path = directory::del_path(dir, part.header.identity.segment, manifest);
            let bytes = open(dir, path.clone())?
                .and_then(|file| file.read_all(deletions::max_bytes(part.most_rows())).ok());
            match bytes.and_then(|bytes| DeletionVector::from_roaring(&bytes, part.most_rows())) {
                Some(deletions) => {
                    deletions.dead_rows().for_each(|row| _ = part.dead.delete_row(row));
                    break;
                }
                None => {
                    part.doubtful = true;
                    let path = path.display();
                    self.notes.push(format!("{path}: the list of dead rows is damaged; {MAY_BE_OLD}"));
                }
            }
        }
        Ok(())
    }

    /// Only clearing a store frees the kind of its ids: what has another kind than the newest segment was cleared.
    fn leave_out_cleared(&mut self) {
        let kind_of = |part: &SalvagedSegment| {
            let mut kind = None;
            _ = salvage::scan(part, &mut |seen| {
                if let LogEvent::Commit(commit) = seen {
                    kind = kind.or(IdKind::from_byte(commit.kind));
                }
                Ok(())
            });
            kind
        };
        let kinds: Vec<_> = self.parts.iter().map(kind_of).collect();
        let newest = kinds.iter().rev().find_map(|kind| *kind);
        let mut kinds = kinds.into_iter();
        self.parts.retain(|part| {
            let keep = kinds.next().flatten().is_none_or(|kind| Some(kind) == newest);
            if !keep {
                let path = part.path("idx");
                self.notes
                    .push(format!("{}: it is from before the store was cleared; left out", path.display()));
            }
            keep
        });
    }

    /// Reads the logs for dead rows, damage and the kind of the ids; returns the largest number of a MANIFEST in them.
    fn survey(&mut self) -> Result<u64> {
        let mut dead: HashMap<u64, DeletionVector> = HashMap::new();
        let mut newest = 0;
        for part in &mut self.parts {
            let learned = learn(part, self.kind)?;
            for (segment, row) in learned.dead {
                dead.entry(segment).or_default().delete_row(row);
            }
            newest = newest.max(learned.newest);
            (self.kind, self.damaged) = (learned.kind, self.damaged + learned.damaged);
            self.notes.extend(learned.notes);
            part.lost_log = learned.lost_log;
            if learned.ids_differ {
                part.side.clear();
            }
        }
        for part in &mut self.parts {
            let (dead, rows) = (dead.remove(&part.header.identity.segment), part.most_rows());
            let known = dead.iter().flat_map(DeletionVector::dead_rows).filter(|row| u64::from(*row) < rows);
            known.for_each(|row| _ = part.dead.delete_row(row));
        }
        self.lost |= self.damaged > 0;
        Ok(newest)
    }

    /// What a sealed log did to rows before it stands in their lists, too. What the active log did stands nowhere else.
    fn doubt_what_the_active_log_lost(&mut self) {
        let active = self.parts.last().filter(|part| part.sealed_rows.is_none() && part.lost_log);
        if let Some(path) = active.map(|part| part.path("idx")) {
            self.doubt(&format!(
                "{}: some of the log is lost, or a crash cut its last write short",
                path.display()
            ));
        }
    }

    /// Nothing is left that could tell of each row that it was not deleted or replaced.
    fn doubt(&mut self, why: &str) {
        self.parts.iter_mut().for_each(|part| part.doubtful = true);
        self.notes.push(format!("{why}; {MAY_BE_OLD}"));
    }

    /// The order of writing without MANIFEST: that of the numbers, but what was made from others stands where they do.
    fn sort(&mut self) {
        let mut keys: HashMap<u64, u64> = HashMap::new();
        // What a segment is made from has smaller numbers.
        for part in &mut self.parts {
            let number = part.header.identity.segment;
            let mut inputs = Vec::new();
            _ = salvage::scan(part, &mut |seen| {
                if let LogEvent::Base(found) = seen {
                    inputs = found;
                }
                Ok(())
            });
            let there = inputs.iter().filter_map(|input| keys.get(input)).max().copied();
            part.ordered = inputs.is_empty() || there.is_some();
            let key = there.or(inputs.iter().min().copied()).unwrap_or(number).min(number);
            keys.insert(number, key);
        }
        self.parts.sort_by_key(|part| {
            let number = part.header.identity.segment;
            (keys.get(&number).copied().unwrap_or(number), number)
        });
    }
}

/// What the log of one part tells.
struct Learned {
    /// Segment and row of each row that is dead.
    dead: Vec<(u64, u32)>,
    /// The largest number of a MANIFEST.
    newest: u64,
    kind: Option<IdKind>,
    /// Damaged places.
    damaged: u64,
    lost_log: bool,
    /// `.ids` contradicts the log.
    ids_differ: bool,
    notes: Vec<String>,
}

/// Reads one log. What only `.ids` says of dead rows counts where the log is damaged, if it contradicts none of the rest.
fn learn(part: &SalvagedSegment, kind: Option<IdKind>) -> Result<Learned> {
    let (path, hasher) = (part.path("idx"), IdHasher::new(&part.header.identity.uuid));
    let (dead, notes, lost_log) = (Vec::new(), Vec::new(), part.idx.is_none());
    let mut learned = Learned { dead, newest: 0, kind, damaged: 0, lost_log, ids_differ: false, notes };
    salvage::scan(part, &mut |seen| {
        match seen {
            LogEvent::Put { id, row, crc, doc, .. } => {
                learned.ids_differ |= part.contradicts(hasher, id, row, crc, doc);
            }
            LogEvent::CrossSegmentDelete { segment, row } => learned.dead.push((segment.into(), row)),
            LogEvent::Commit(commit) => {
                learned.newest = learned.newest.max(commit.manifest);
                learned.kind = learned.kind.or(IdKind::from_byte(commit.kind));
            }
            LogEvent::Damage { bytes, rows } => {
                learned.damaged += 1;
                learned.lost_log = true;
                learned.notes.push(note_damage(&path, &bytes, &rows));
            }
            LogEvent::Torn { written: true, .. } | LogEvent::Unlogged(_) if part.sealed_rows.is_none() => {
                learned.lost_log = true;
            }
            LogEvent::Torn { bytes, .. } => {
                let what = format!("no whole batch at the end, {}", counted(bytes, "byte"));
                learned.notes.push(format!("{}: {what}", path.display()));
            }
            _ => {}
        }
        Ok(())
    })?;
    if learned.ids_differ {
        learned.notes.push(format!("{}: {DIFFERS}", part.path("ids").display()));
    } else if let Some(ids) = part.ids().filter(|_| learned.damaged > 0 || part.idx.is_none()) {
        let number = part.header.identity.segment;
        let own = ids.dead().ok().and_then(|dead| DeletionVector::from_roaring(&dead, part.most_rows()));
        learned.dead.extend(own.iter().flat_map(DeletionVector::dead_rows).map(|row| (number, row)));
        let others = ids.cross_deletes().unwrap_or_default();
        learned.dead.extend(others.into_iter().map(|(segment, row)| (segment.into(), row)));
    }
    Ok(learned)
}

fn note_damage(path: &Path, bytes: &Range<u64>, rows: &Range<u64>) -> String {
    let what = "do not hold: a row is kept if .ids confirms its id, a delete may be lost";
    let (path, rows) = (path.display(), format!("rows {} to {}", rows.start, rows.end));
    format!("{path}: bytes {} to {} ({rows}) {what}", bytes.start, bytes.end)
}
