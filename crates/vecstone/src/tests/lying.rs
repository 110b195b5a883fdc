//! `.ids` files whose checksums are right and which say something else than the log: the log decides, for good.

use super::hostile::{file, manifest_of, open, vector};
use super::model::{DIM, DIR, identity, options, root};
use crate::format::Identity;
use crate::maintain::repair;
use crate::maintain::verify::verify_directory;
use crate::pair::files::StoreFile;
use crate::pair::rows::{Doc, RowEntry};
use crate::segment::deletion_vector::DeletionVector;
use crate::segment::ids::{Content, Ids};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Dir, Disk, Open};
use crate::sys::planted::{Bug, with};
use crate::types::id::IdHasher;
use crate::{Document, Id, Metric, VectorStore, WriteBatch};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What an `.ids` says, to be changed.
struct Said {
    rows: Vec<RowEntry>,
    live: Vec<(u64, u32)>,
    dead: Vec<u32>,
    cross_deletes: Vec<(u32, u32)>,
}

/// A lie, by the number of the segment whose `.ids` tells it.
type Lie = (&'static str, u64, fn(&mut Said));

/// A sealed segment of six rows, two of them dead, with documents and an `.ids`; an active one of four rows, likewise.
fn store() -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options().segment_records(6);
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options);
    let store = store.expect("made");
    for id in ["a", "b", "c", "d", "b", "e", "f", "a", "g", "h", "g"] {
        let text = format!("{{\"is\":\"{id}\"}}");
        let put = store.write(WriteBatch::new().put_many_with_documents(
            &[id],
            &vector(id),
            &[Document::Json(&text)],
        ));
        put.and_then(|()| store.flush()).expect("stored");
    }
    store.engine().expect("a writer").build_side_files(false);
    store.close().expect("closed");
    disk.image()
}

/// The `.ids` of a segment says something else.
fn lie(image: &Image, segment: u64, change: fn(&mut Said)) -> Image {
    let disk = SimDisk::new(image);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let dir = Dir::open(&door, Path::new(DIR)).expect("there");
    let manifest = manifest_of(image);
    let entry = manifest.segments.iter().find(|entry| entry.number == segment).expect("there");
    let identity = Identity { segment, salt: entry.salt, ..identity() };
    let path = file(&format!("{segment:08}.ids"));
    let named = StoreFile { path: path.clone(), file: dir.open_file(&path, Open::Read).expect("written") };
    let honest = Ids::open(named, &identity).expect("readable").expect("whole");
    let rows: Vec<RowEntry> = (0..honest.point().rows)
        .map(|row| honest.row(u32::try_from(row).expect("few")).expect("whole"))
        .collect();
    let dead =
        DeletionVector::from_roaring(&honest.dead().expect("whole"), honest.point().rows).expect("whole");
    let hasher = IdHasher::new(&identity.uuid);
    let hashes = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|id| hasher.hash(id.as_bytes()));
    let row_of = |hash: u64| {
        let is = |row: u32| Ok(rows[row as usize].hash == crate::types::id::half(hash));
        Some((hash, honest.find(hash, is).expect("whole")?))
    };
    let live = hashes.into_iter().filter_map(row_of).collect();
    let mut said = Said {
        rows: rows.clone(),
        live,
        dead: dead.dead_rows().collect(),
        cross_deletes: honest.cross_deletes().expect("whole"),
    };
    change(&mut said);
    let mut deletions = DeletionVector::default();
    said.dead.iter().for_each(|&row| _ = deletions.delete_row(row));
    let (row, dead) = (|row: u32| said.rows[row as usize], deletions.to_roaring());
    let content = Content {
        point: *honest.point(),
        row: &row,
        live: said.live,
        dead: &dead,
        cross_deletes: &said.cross_deletes,
    };
    dir.unlink(&path).expect("removed");
    let named = StoreFile { path: path.clone(), file: dir.open_file(&path, Open::CreateNew).expect("made") };
    crate::segment::ids::write(&named, &content).expect("written");
    disk.image()
}

/// The active segment's number is 2: rows f is in the sealed one.
const LIES: [Lie; 12] = [
    ("nothing", 1, |_| ()),
    ("rows that have each other's ids", 1, |said| said.rows.swap(2, 3)),
    ("a row without its document", 1, |said| said.rows[2].doc = Doc::default()),
    ("a row with another's document", 1, |said| said.rows[2].doc = said.rows[3].doc),
    ("an id that is not there", 1, |said| said.live.retain(|&(_, row)| row != 2)),
    ("an id with its older row", 1, |said| said.live.iter_mut().for_each(|pair| pair.1 = pair.1.min(1))),
    ("a dead row", 2, |said| said.dead.push(3)),
    ("no dead row", 2, |said| said.dead.clear()),
    ("a row of another segment that is dead", 2, |said| said.cross_deletes.push((1, 2))),
    ("none of them", 2, |said| said.cross_deletes.clear()),
    ("a row of the active segment without its document", 2, |said| said.rows[3].doc = Doc::default()),
    ("ids of the active segment that are not there", 2, |said| said.live.clear()),
];

type Rows = BTreeMap<String, (Vec<f32>, Option<String>)>;

fn rows_of(store: &VectorStore) -> Result<Rows, String> {
    let mut rows = Rows::new();
    let snapshot = store.snapshot().map_err(|e| e.to_string())?;
    for row in snapshot.iter() {
        let (id, vector) = row.map_err(|e| e.to_string())?;
        let id = id.to_string();
        let document = store.get_document(id.as_str()).map_err(|e| e.to_string())?;
        if rows.insert(id.clone(), (vector, document)).is_some() {
            return Err(format!("{id} is there twice"));
        }
    }
    Ok(rows)
}

fn truth() -> Rows {
    let row = |id: &str| (id.to_owned(), (vector(id), Some(format!("{{\"is\":\"{id}\"}}"))));
    ["a", "b", "c", "d", "e", "f", "g", "h"].map(row).into()
}

/// What a compaction, a reader's backup and a repair make of a store with that lie.
fn outcomes(image: &Image) -> Result<[(&'static str, Rows); 3], String> {
    let disk = SimDisk::new(image);
    let store = open(&disk, &options().segment_records(6)).map_err(|e| e.to_string())?;
    store.delete_many(&["b"]).and_then(|_| store.compact()).map_err(|e| e.to_string())?;
    let put = store.write(WriteBatch::new().put_many_with_documents(
        &["b"],
        &vector("b"),
        &[Document::Json("{\"is\":\"b\"}")],
    ));
    put.and_then(|()| store.close()).map_err(|e| e.to_string())?;
    let read = |disk: &SimDisk, at: &str| {
        let reader = VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(at));
        rows_of(&reader.map_err(|e| e.to_string())?)
    };
    let compacted = read(&disk, DIR)?;
    let disk = SimDisk::new(image);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = VectorStore::open_read_only_on(door.clone(), Path::new(DIR)).map_err(|e| e.to_string())?;
    reader.backup("/backup").map_err(|e| e.to_string())?;
    drop(reader);
    disk.image().files.keys().filter(|path| path.extension().is_some_and(|end| end == "ids")).for_each(
        |path| {
            // What the lists of the copy say, not what lies were copied.
            if path.starts_with("/backup") {
                let dir = Dir::open(&door, Path::new("/backup")).expect("there");
                dir.unlink(path).expect("removed");
            }
        },
    );
    let backed_up = read(&disk, "/backup")?;
    repair::repair(&door, Path::new(DIR), Path::new("/repaired")).map_err(|e| e.to_string())?;
    Ok([("compaction", compacted), ("backup", backed_up), ("repair", read(&disk, "/repaired")?)])
}

fn lies_change_nothing_for_good() -> Result<(), String> {
    let image = store();
    for (what, segment, change) in LIES {
        let lying = lie(&image, segment, change);
        for (call, rows) in outcomes(&lying).map_err(|e| format!("{what}: {e}"))? {
            if rows != truth() {
                return Err(format!("{what}: after a {call}: {rows:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn what_only_ids_says_becomes_part_of_nothing() {
    lies_change_nothing_for_good().expect("the logs decide");
}

pub(super) fn lies_catch(bug: Bug) -> bool {
    with(bug, || lies_change_nothing_for_good().is_err())
}

#[test]
fn verify_says_that_ids_differ() {
    let image = store();
    for (what, segment, change) in LIES {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&lie(&image, segment, change)));
        let report = verify_directory(&disk, Path::new(DIR)).expect("damage is no error");
        let path = file(&format!("{segment:08}.ids"));
        let named = report.damage.iter().any(|damage| damage.path == path && damage.what.contains("log"));
        assert_eq!(named, what != "nothing", "{what}: {:?}", report.damage);
        assert_eq!(report.is_ok(), what == "nothing", "{what}");
    }
}

/// The list of dead rows forgets one: its id has two live rows.
#[test]
fn verify_names_an_id_with_two_live_rows() {
    let disk = SimDisk::new(&store());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut manifest = manifest_of(&disk.image());
    let sealed = manifest.segments[0].sealed.as_mut().expect("sealed");
    sealed.del = (0, 0, 0);
    // The cross-segment deletes of the active log bring back what they name: the row of `b` within the sealed segment
    // stays alive.
    let mut image = disk.image();
    image.files.insert(file("MANIFEST"), manifest.to_bytes());
    let ids: Vec<_> = image.files.keys().filter(|path| path.ends_with("00000001.ids")).cloned().collect();
    assert!(!ids.is_empty());
    drop(door);
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&image));
    let report = verify_directory(&disk, Path::new(DIR)).expect("damage is no error");
    let twice: Vec<_> = report.damage.iter().filter(|damage| damage.what.contains("both live")).collect();
    let [damage] = twice[..] else { panic!("{:?}", report.damage) };
    assert_eq!((damage.id.clone(), damage.offset), (Some(Id::from("b")), 256 + 16), "{damage:?}");
}
