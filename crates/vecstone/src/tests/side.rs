//! Side files of two kinds that only tests have, so that what [`side`] asks of a kind is tried with more than `.ids`: one of
//! the store, and one of ranges of rows, which needs the first and is carried by compactions.

use super::crash::Workload;
use super::model::{DIM, DIR, Run, look, root};
use crate::VectorStore;
use crate::format::header::Header;
use crate::format::{Fields, Identity, crc32c};
use crate::pair::files::{Files, StoreFile};
use crate::pair::recover;
use crate::segment::codes;
use crate::segment::point::Point;
use crate::segment::side::{self, Covered, FilesOf, GoOn, Moved, Rows, Scope, SideFile, SideKind, Write};
use crate::segment::version::Version;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::error::{Error, Result};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Both kinds.
pub(super) const KINDS: &[&dyn SideKind] = &[&TallyKind, &MarksKind];

/// Workloads with them, for the enumerations of crashes, faults and syncs that lie.
pub(super) const SIDE: [Workload; 4] = [
    ("side_files_of_a_growing_segment", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.build_side_files()?;
        run.put(&["c"])?;
        run.put(&["a"])?;
        run.build_side_files()?;
        run.flush()?;
        run.build_side_files()?;
        run.put(&["d"])?;
        run.close()
    }),
    ("side_files_carried", |run| {
        run.segments_of(2).create()?;
        run.put_documents(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.flush()?;
        run.build_side_files()?;
        run.compact()?;
        run.put(&["d"])?;
        run.flush()
    }),
    ("side_files_carried_beside_writes", |run| {
        run.segments_of(3).create()?;
        run.put(&["a", "b", "c"])?;
        run.put(&["a", "d", "e"])?;
        run.flush()?;
        run.build_side_files()?;
        run.compact_beside(&["b", "f"], &["d", "c"])?;
        run.put(&["g"])?;
        run.close()
    }),
    ("side_files_cleared_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a"])?;
        run.build_side_files()?;
        run.clear()?;
        run.put(&["b", "c"])?;
        run.build_side_files()?;
        run.kill();
        run.open()?;
        run.build_side_files()?;
        run.put(&["d"])?;
        run.flush()
    }),
];

/// Workloads with codes.
pub(super) const CODES: [Workload; 5] = [
    ("codes_of_a_growing_segment", |run| {
        run.create()?;
        run.put(&["a", "b", "c"])?;
        run.encode(true)?;
        run.put(&["d", "a"])?;
        run.encode(false)?;
        run.delete(&["b"])?;
        run.put(&["e"])?;
        run.encode(true)?;
        run.close()
    }),
    ("codes_carried", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.encode(true)?;
        run.compact()?;
        run.put(&["d"])?;
        run.encode(false)
    }),
    ("codes_carried_beside_writes", |run| {
        run.segments_of(3).create()?;
        run.put(&["a", "b", "c"])?;
        run.put(&["a", "d", "e"])?;
        run.encode(true)?;
        run.compact_beside(&["b", "f"], &["d", "c"])?;
        run.put(&["g"])?;
        run.close()
    }),
    ("codes_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.encode(true)?;
        run.put(&["c"])?;
        run.kill();
        run.open()?;
        run.put(&["d"])?;
        run.encode(true)?;
        run.clear()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("codes_tuned", |run| {
        run.create()?;
        run.put(&["a", "b", "c"])?;
        run.encode(true)?;
        run.tune()?;
        run.put(&["d"])?;
        run.tune()?;
        run.close()?;
        run.open()?;
        run.encode(true)
    }),
];

/// Longer than any file here.
const MOST_BYTES: u64 = 1 << 20;

thread_local! {
    /// Rows of which marks were made from their vectors.
    static BUILT: Cell<u64> = const { Cell::new(0) };
}

/// Runs a test of a workload with the kinds, if its name says that it is about side files.
pub(super) fn with_kinds_of<T>(workload: &str, test: impl FnOnce() -> T) -> T {
    match workload {
        name if name.starts_with("side_") => side::with(KINDS, test),
        name if name.starts_with("codes_") => codes::for_all(test),
        _ => test(),
    }
}

/// Runs a test as a release that does not know the kinds would, where they are known.
pub(super) fn without_kinds<T>(
    test: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<(), String> {
    if side::all().count() > 1 { side::with(&[], test).map(drop) } else { Ok(()) }
}

fn sealed_with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

/// The bytes of a file without its checksum; `None` if that does not fit.
fn checked(file: &StoreFile) -> Result<Option<Vec<u8>>> {
    let mut bytes = file.read_all(MOST_BYTES)?;
    let Some((head, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    let intact = u32::from_le_bytes(*crc) == crc32c(head);
    bytes.truncate(bytes.len() - 4);
    Ok(Some(bytes).filter(|_| intact))
}

fn see_damage(file: &StoreFile, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
    match checked(file) {
        Ok(Some(_)) => {}
        Ok(None) => see(0, false),
        Err(Error::Io { .. }) => see(0, true),
        Err(error) => return Err(error),
    }
    Ok(())
}

// ---- of the store ----

/// `N.tally.side`: says of which store it is, and nothing else.
#[derive(Debug)]
struct TallyKind;

#[derive(Debug)]
struct Tally {
    file: StoreFile,
    len: u64,
}

impl SideKind for TallyKind {
    fn suffix(&self) -> &'static str {
        "tally.side"
    }

    fn is_foreign(&self) -> &'static str {
        "the tally is not one of this store"
    }

    fn differs(&self) -> &'static str {
        "the tally says something else than the logs"
    }

    fn scope(&self) -> Scope {
        Scope::Store
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        let (bytes, len) = (checked(&file)?, file.len()?);
        let ours = bytes.is_some_and(|bytes| bytes == [b"TALLY".as_slice(), &identity.uuid].concat());
        Ok(ours.then(|| Box::new(Tally { file, len }) as Box<dyn SideFile>))
    }

    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        let has_rows = rows.version.segments.iter().any(|part| part.rows > 0);
        rows.is_active() && has_rows && side::of_type::<Tally>(rows.version.side_files()).next().is_none()
    }

    fn build(&self, rows: &Rows<'_>, file: &StoreFile, _: GoOn<'_>) -> Result<()> {
        file.write(&sealed_with_crc([b"TALLY".as_slice(), &rows.version.schema.uuid].concat()), 0)
    }
}

impl SideFile for Tally {
    fn kind(&self) -> &'static dyn SideKind {
        &TallyKind
    }

    fn file(&self) -> &StoreFile {
        &self.file
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn covers(&self) -> Vec<Covered> {
        Vec::new()
    }

    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
        see_damage(&self.file, see)
    }

    fn is_right(&self, _: FilesOf<'_>, _: &[Box<dyn SideFile>]) -> Result<bool> {
        Ok(true)
    }
}

// ---- of ranges of rows ----

/// `N.marks.side`: a checksum of each vector. What is behind the rows of the files that are there gets a new file.
#[derive(Debug)]
struct MarksKind;

#[derive(Debug)]
struct Marks {
    file: StoreFile,
    len: u64,
    /// The name of the tally.
    tally: String,
    ranges: Vec<Range>,
}

#[derive(Debug, Clone)]
struct Range {
    rows: Covered,
    marks: Vec<u32>,
}

fn mark(vector: &[f32]) -> u32 {
    crc32c(bytemuck::cast_slice(vector))
}

impl Range {
    fn encode(&self, out: &mut Vec<u8>) {
        let Covered { first, point, .. } = self.rows;
        let Point { identity, seq, chain, epoch, kind, commit_at, idx_end, rows, docs_end, manifest } = point;
        out.extend(identity.salt);
        out.extend(chain);
        out.extend(epoch.to_le_bytes());
        out.push(kind);
        for field in [first, identity.segment, seq, commit_at, idx_end, rows, docs_end, manifest] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.marks.iter().flat_map(|mark| mark.to_le_bytes()));
    }

    fn decode(fields: &mut Fields<'_>, uuid: [u8; 16]) -> Option<Range> {
        let (salt, chain, epoch, kind) = (fields.array()?, fields.array()?, fields.u32()?, fields.u8()?);
        let (first, segment, seq, commit_at) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
        let (idx_end, rows, docs_end) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (manifest, identity) = (fields.u64()?, Identity { uuid, segment, salt });
        let point = Point { identity, seq, chain, epoch, kind, commit_at, idx_end, rows, docs_end, manifest };
        let marks: Option<Vec<u32>> = (first..rows).map(|_| fields.u32()).collect();
        Some(Range { rows: Covered { first, end: point.rows, point }, marks: marks? })
    }

    /// The marks with their rows.
    fn each(&self) -> impl Iterator<Item = (u64, u32)> {
        (self.rows.first..).zip(self.marks.iter().copied())
    }
}

fn write_marks(file: &StoreFile, uuid: [u8; 16], tally: &str, ranges: &[Range]) -> Result<()> {
    let mut bytes =
        [b"MARKS".as_slice(), &uuid, &[u8::try_from(tally.len()).expect("short")], tally.as_bytes()].concat();
    ranges.iter().for_each(|range| range.encode(&mut bytes));
    file.write(&sealed_with_crc(bytes), 0)
}

/// The name of the tally of a version.
fn tally_of(version: &Version) -> Option<String> {
    let tally = side::of_type::<Tally>(version.side_files()).next()?;
    Some(tally.file.path.file_name()?.to_str()?.to_owned())
}

/// What the marks of a version say of a segment, as far as its log says that they hold.
fn ranges_of<'a>(version: &'a Version, files: &Files, header: &Header) -> Vec<&'a Range> {
    let marks = side::of_type::<Marks>(version.side_files());
    let holds = |range: &&Range| range.rows.point.is_in(files, header).is_ok_and(|holds| holds);
    marks.flat_map(|marks| &marks.ranges).filter(holds).collect()
}

/// The first row of a segment that has no mark.
fn first_unmarked(rows: &Rows<'_>) -> u64 {
    let segment = &rows.part().segment;
    let mut ranges = ranges_of(rows.version, &segment.files(), segment.header());
    ranges.sort_by_key(|range| range.rows.first);
    let go_on =
        |end, range: &&Range| if range.rows.first <= end { range.rows.point.rows.max(end) } else { end };
    ranges.iter().fold(0, go_on)
}

impl SideKind for MarksKind {
    fn suffix(&self) -> &'static str {
        "marks.side"
    }

    fn is_foreign(&self) -> &'static str {
        "the marks are not of this store"
    }

    fn differs(&self) -> &'static str {
        "the marks say something else than the rows"
    }

    fn scope(&self) -> Scope {
        Scope::Ranges
    }

    fn open(&self, file: StoreFile, identity: &Identity) -> Result<Option<Box<dyn SideFile>>> {
        let (bytes, len) = (checked(&file)?, file.len()?);
        let decode = |bytes: &[u8]| {
            let (mut fields, mut ranges) = (Fields(bytes), Vec::new());
            let ours = fields.array()? == *b"MARKS" && fields.array()? == identity.uuid;
            let name = fields.u8()?;
            let tally = String::from_utf8(fields.bytes(name.into())?.to_vec()).ok()?;
            while !fields.0.is_empty() {
                ranges.push(Range::decode(&mut fields, identity.uuid)?);
            }
            ours.then_some((tally, ranges))
        };
        let decoded = bytes.and_then(|bytes| decode(&bytes));
        Ok(decoded.map(|(tally, ranges)| Box::new(Marks { file, len, tally, ranges }) as Box<dyn SideFile>))
    }

    fn is_wanted(&self, rows: &Rows<'_>) -> bool {
        tally_of(rows.version).is_some() && first_unmarked(rows) < rows.part().rows
    }

    fn build(&self, rows: &Rows<'_>, file: &StoreFile, go_on: GoOn<'_>) -> Result<()> {
        let (part, first) = (rows.part(), first_unmarked(rows));
        let (header, tally) = (part.segment.header(), tally_of(rows.version).unwrap_or_default());
        let found = recover::read_sealed(&part.segment.files(), &part.end)?;
        let (mut marks, mut vector) = (Vec::new(), vec![0f32; DIM as usize]);
        for row in first..part.rows {
            part.segment.read_row(row, &mut vector)?;
            marks.push(mark(&vector));
            if go_on((row + 1 - first) * header.stride()).is_break() {
                return Err(Error::Cancelled);
            }
        }
        BUILT.set(BUILT.get() + marks.len() as u64);
        let point = Point::of(header, &found.position, 0);
        let rows_covered = Covered { first, end: point.rows, point };
        write_marks(file, header.identity.uuid, &tally, &[Range { rows: rows_covered, marks }])
    }

    fn is_due(&self, durable: &Version) -> bool {
        durable.active().rows >= 2
    }

    /// Of outputs all of whose rows have a mark.
    fn carry<'a>(&'a self, moved: &'a Moved<'a>) -> Option<Write<'a>> {
        let mut known: Vec<BTreeMap<u64, u32>> = moved.outputs.iter().map(|_| BTreeMap::new()).collect();
        for (input, to) in moved.inputs.iter().zip(moved.to) {
            let (files, header) = (input.segment.files(), input.segment.header());
            for (row, mark) in ranges_of(moved.version, &files, header).into_iter().flat_map(Range::each) {
                let to = usize::try_from(row).ok().and_then(|row| to.get(row));
                let Some(&(output, row)) = to.filter(|(output, _)| *output != u32::MAX) else { continue };
                known[output as usize].insert(row.into(), mark);
            }
        }
        let whole =
            moved.outputs.iter().zip(known).filter(|(output, known)| output.point.rows == known.len() as u64);
        let range = |(output, known): (&side::Output<'_>, BTreeMap<u64, u32>)| {
            assert_eq!(output.segment.header().identity, output.point.identity);
            let point = output.point;
            Range { rows: Covered { first: 0, end: point.rows, point }, marks: known.into_values().collect() }
        };
        let (ranges, tally): (Vec<Range>, _) = (whole.map(range).collect(), tally_of(moved.version)?);
        let write = move |file: &StoreFile, go_on: GoOn<'_>| {
            if go_on(0).is_break() {
                return Err(Error::Cancelled);
            }
            write_marks(file, moved.version.schema.uuid, &tally, &ranges)
        };
        Some(Box::new(write))
    }
}

impl SideFile for Marks {
    fn kind(&self) -> &'static dyn SideKind {
        &MarksKind
    }

    fn file(&self) -> &StoreFile {
        &self.file
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn covers(&self) -> Vec<Covered> {
        self.ranges.iter().map(|range| range.rows).collect()
    }

    fn needs(&self) -> Vec<String> {
        vec![self.tally.clone()]
    }

    fn damaged_pages(&self, see: &mut dyn FnMut(u64, bool)) -> Result<()> {
        see_damage(&self.file, see)
    }

    fn is_right(&self, files_of: FilesOf<'_>, _: &[Box<dyn SideFile>]) -> Result<bool> {
        for range in &self.ranges {
            let Some((files, header)) = files_of(&range.rows.point.identity) else { continue };
            if !range.rows.point.is_in(&files, &header)? {
                return Ok(false);
            }
            let mut bytes = vec![0; DIM as usize * 4];
            for (row, mark) in range.each() {
                files.dat.read(&mut bytes, header.row_start(row))?;
                if crc32c(&bytes) != mark {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

// ---- what the tests ask ----

/// How many rows of a store have no mark. Each mark must be that of its row.
pub(super) fn unmarked(store: &VectorStore) -> std::result::Result<u64, String> {
    let snapshot = store.snapshot().map_err(|e| e.to_string())?;
    let (version, mut unmarked) = (snapshot.files(), 0);
    for part in &version.segments {
        let mut marked = BTreeSet::new();
        for (row, found) in
            ranges_of(version, &part.segment.files(), part.segment.header()).into_iter().flat_map(Range::each)
        {
            // Another handle may have written more than this one shows.
            if row >= part.rows {
                continue;
            }
            let mut vector = vec![0f32; DIM as usize];
            part.segment.read_row(row, &mut vector).map_err(|e| e.to_string())?;
            if found != mark(&vector) {
                return Err(format!("the mark of row {row} of segment {} is wrong", part.segment.number()));
            }
            marked.insert(row);
        }
        unmarked += part.rows - marked.len() as u64;
    }
    Ok(unmarked)
}

fn names(disk: &SimDisk, end: &str) -> Vec<String> {
    let image = disk.image();
    let names = image.files.keys().filter_map(|path| path.strip_prefix(DIR).ok()?.to_str());
    names.filter(|name| name.ends_with(end)).map(str::to_owned).collect()
}

/// Three segments, the last one active, with rows that died, and all side files.
fn marked_run() -> Run {
    let mut run = Run::new(SimDisk::new(&root()));
    run.segments_of(3).create().expect("made");
    for ids in [["a", "b", "c"], ["a", "d", "e"]] {
        run.put_documents(&ids).expect("put");
    }
    run.put(&["f"]).and_then(|()| run.flush()).and_then(|()| run.build_side_files()).expect("built");
    run
}

fn store(run: &Run) -> &VectorStore {
    run.store.as_ref().expect("open")
}

#[test]
fn side_files_are_built_carried_and_removed() {
    side::with(KINDS, || {
        let mut run = marked_run();
        assert_eq!(unmarked(store(&run)), Ok(0));
        assert_eq!(names(&run.disk, "tally.side"), ["00000001.tally.side"]);
        assert_eq!(names(&run.disk, "marks.side").len(), 3, "one for each range");
        run.put(&["d", "f"]).and_then(|()| run.flush()).expect("put");
        assert_eq!(unmarked(store(&run)), Ok(2), "behind those that were there");
        run.build_side_files().expect("built");
        assert_eq!((unmarked(store(&run)), names(&run.disk, "marks.side").len()), (Ok(0), 4));
        let (built, before) = (BUILT.get(), names(&run.disk, "marks.side"));
        run.compact().expect("compacted");
        assert_eq!((unmarked(store(&run)), BUILT.get()), (Ok(0), built), "carried, and not built");
        let now = names(&run.disk, "marks.side");
        assert!(!now.is_empty() && !now.iter().any(|name| before.contains(name)), "{before:?}, then {now:?}");
        let bytes = |end| {
            names(&run.disk, end)
                .iter()
                .map(|name| run.disk.image().files[&Path::new(DIR).join(name)].len())
                .sum::<usize>() as u64
        };
        assert_eq!(store(&run).stats().expect("counted").bytes.side, bytes(".side"));
        assert!(store(&run).verify().expect("read").is_ok());
        // A reader from before shows what it did. With the segments their ranges go, and the tally stays.
        let (reader, content) = look(&run.disk, false).expect("opens").expect("there");
        assert_eq!(unmarked(&reader), Ok(0), "opens the files");
        run.clear().expect("cleared");
        assert_eq!(unmarked(&reader), Ok(0), "has them open");
        assert_eq!(super::model::content(&reader).expect("readable"), content);
        assert_eq!((names(&run.disk, "marks.side").len(), names(&run.disk, "tally.side").len()), (0, 1));
    });
}

/// Builds, with a put between the start of the compaction and its end: the file that it carries holds for the outputs as
/// they are named.
#[test]
fn what_is_carried_beside_writes_holds() {
    side::with(KINDS, || {
        let mut run = marked_run();
        run.compact_beside(&["b", "h"], &["d", "c"]).expect("compacted");
        run.build_side_files().expect("built");
        assert_eq!(unmarked(store(&run)), Ok(0));
        assert!(store(&run).verify().expect("read").is_ok());
    });
}

fn changed(image: &Image, path: &Path) -> Vec<(String, Image)> {
    let bytes = &image.files[path];
    let with = |what: String, bytes: Option<Vec<u8>>| {
        let mut image = image.clone();
        match bytes {
            Some(bytes) => _ = image.files.insert(path.to_owned(), bytes),
            None => _ = image.files.remove(path),
        }
        (format!("{}: {what}", path.display()), image)
    };
    let mut all = vec![with("gone".into(), None), with("empty".into(), Some(Vec::new()))];
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        all.push(with(format!("byte {at}"), Some(flipped)));
    }
    all.push(with("cut".into(), Some(bytes[..bytes.len() / 2].to_vec())));
    // Its checksum is right, and it is of another store.
    let mut other = bytes[..bytes.len() - 4].to_vec();
    other[5] ^= 1;
    all.push(with("of another store".into(), Some(sealed_with_crc(other))));
    all
}

#[test]
fn damage_to_side_files_costs_time_and_no_data() {
    side::with(KINDS, || {
        let mut run = marked_run();
        run.close().expect("closed");
        let (image, content) = (run.disk.image(), run.model.states.last().cloned().expect("a state"));
        let paths: Vec<PathBuf> = image
            .files
            .keys()
            .filter(|path| path.extension().is_some_and(|end| end == "side"))
            .cloned()
            .collect();
        assert_eq!(paths.len(), 4);
        for (what, image) in paths.iter().flat_map(|path| changed(&image, path)) {
            let disk = SimDisk::new(&image);
            let (reader, seen) = look(&disk, false).expect("opens").unwrap_or_else(|| panic!("{what}"));
            assert_eq!(seen, content, "{what}");
            assert!(unmarked(&reader).expect(&what) > 0, "{what}: it is not used");
            let report = reader.verify().expect("read");
            assert!(what.ends_with("gone") == report.is_ok(), "{what}: {:?}", report.damage);
            let harmless = |damage: &crate::Damage| {
                damage.consequence.starts_with("nothing is lost") && paths.contains(&damage.path)
            };
            assert!(report.damage.iter().all(harmless), "{what}: {:?}", report.damage);
            let (writer, seen) = look(&disk, true).expect("opens").unwrap_or_else(|| panic!("{what}"));
            assert_eq!(seen, content, "{what}");
            writer.engine().expect("a writer").build_side_files(false);
            assert_eq!(unmarked(&writer), Ok(0), "{what}: built anew");
            assert!(writer.verify().expect("read").is_ok(), "{what}");
        }
    });
}

/// A file whose numbers are right and whose log is another, and one of a segment that was put back.
#[test]
fn a_file_of_another_state_of_the_log_is_not_used() {
    side::with(KINDS, || {
        let run = marked_run();
        let before = run.disk.image();
        let disk = SimDisk::new(&before);
        let (writer, _) = look(&disk, true).expect("opens").expect("there");
        writer.put("z", &[1.0; DIM as usize]).and_then(|()| writer.flush()).expect("put");
        writer.engine().expect("a writer").build_side_files(false);
        disk.kill(writer);
        // The side files of later, beside the log of before, which then goes on otherwise.
        let mut image = before;
        let later = disk
            .image()
            .files
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|end| end == "side"));
        image.files.extend(later);
        let disk = SimDisk::new(&image);
        let (reader, _) = look(&disk, false).expect("opens").expect("there");
        assert_eq!(unmarked(&reader), Ok(0), "what holds is used");
        assert!(!reader.verify().expect("read").is_ok(), "the other file is of no state of this log");
        drop(reader);
        let (writer, _) = look(&disk, true).expect("opens").expect("there");
        writer.put("y", &[2.0; DIM as usize]).and_then(|()| writer.flush()).expect("put");
        assert_eq!(unmarked(&writer), Ok(1));
        writer.engine().expect("a writer").build_side_files(false);
        assert_eq!(unmarked(&writer), Ok(0));
    });
}

#[test]
fn a_backup_takes_side_files_along() {
    side::with(KINDS, || {
        let run = marked_run();
        let files = store(&run).backup("/copy").expect("copied").files;
        let image = run.disk.image();
        let copied = image.files.keys().filter(|path| path.starts_with("/copy") && !path.ends_with("LOCK"));
        assert_eq!(copied.count() as u64, files);
        let door = std::sync::Arc::new(run.disk.clone());
        let copy = VectorStore::open_read_only_on(door, Path::new("/copy")).expect("opens");
        assert_eq!(unmarked(&copy), Ok(0));
        assert!(copy.verify().expect("read").is_ok());
        assert!(image.files.contains_key(Path::new("/copy/00000001.tally.side")));
    });
}

/// A release that does not know the kinds leaves what it may leave, and what it writes makes no file right that is not.
#[test]
fn a_release_without_the_kinds_does_no_harm() {
    let mut run = side::with(KINDS, marked_run);
    run.put(&["a", "g"]).and_then(|()| run.compact()).expect("written");
    run.put(&["b"]).and_then(|()| run.close()).expect("closed");
    let content = run.model.states.last().cloned().expect("a state");
    side::with(KINDS, || {
        let (reader, seen) = look(&run.disk, false).expect("opens").expect("there");
        assert_eq!(seen, content);
        assert!(unmarked(&reader).expect("right") > 0);
        let (writer, _) = look(&run.disk, true).expect("opens").expect("there");
        writer.engine().expect("a writer").build_side_files(false);
        assert_eq!(unmarked(&writer), Ok(0));
    });
}

/// The background hears of rows that are durable, where a kind wants them.
#[test]
fn a_flush_tells_the_background_what_is_due() {
    side::with(KINDS, || {
        let mut run = Run::new(SimDisk::new(&root()));
        run.create().and_then(|()| run.put(&["a"])).and_then(|()| run.flush()).expect("put");
        let engine = store(&run).engine().expect("a writer").clone();
        assert!(engine.maintenance.wait_until_due(|| false), "due from the start");
        run.put(&["b"]).and_then(|()| run.flush()).expect("put");
        assert!(engine.maintenance.wait_until_due(|| unreachable!("the background was not told")));
    });
}
