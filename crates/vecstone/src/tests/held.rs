//! What is to be let go: segments that nobody shows any more, and files that MANIFEST does not name.

use super::hostile::{file, manifest_of, vector};
use super::model::{DIM, DIR, identity, options, root};
use super::repair::names;
use crate::engine::Engine;
use crate::segment::Segment;
use crate::sys::disk::Disk;
use crate::sys::disk::fault::FaultDisk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Metric, OpenOptions, VectorStore};
use std::path::Path;
use std::sync::{Arc, Weak};

type Outcome = Result<(), String>;
/// What lets segments go.
type Step = (&'static str, fn(&VectorStore));

struct Case {
    disk: SimDisk,
    faulty: FaultDisk,
    store: VectorStore,
}

fn buffered() -> OpenOptions {
    options().buffer_bytes(1 << 20).segment_records(3)
}

fn made() -> Case {
    let disk = SimDisk::new(&root());
    let faulty = FaultDisk::new(Arc::new(disk.clone()), None);
    let door = Arc::new(faulty.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &buffered());
    Case { disk, faulty, store: store.expect("made") }
}

impl Case {
    fn put(&self, ids: &[&str]) -> &Case {
        let rows: Vec<f32> = ids.iter().flat_map(|id| vector(id)).collect();
        self.store.put_many(ids, &rows).expect("stored");
        self
    }

    fn flush(&self) -> &Case {
        self.store.flush().expect("flushed");
        self
    }

    /// Closed and opened: then what is sealed is looked up in its files.
    fn reopened(self) -> Case {
        let Case { disk, faulty, store } = self;
        store.close().expect("closed");
        let store = VectorStore::open_on(Arc::new(faulty.clone()), Path::new(DIR), &buffered());
        Case { disk, faulty, store: store.expect("opens") }
    }

    fn engine(&self) -> Arc<Engine> {
        self.store.engine().expect("a writer").clone()
    }

    fn shown(&self) -> Vec<Weak<Segment>> {
        let version = self.engine().published.get();
        version.segments.iter().map(|part| Arc::downgrade(&part.segment)).collect()
    }
}

fn held(segments: &[Weak<Segment>]) -> Vec<u64> {
    segments.iter().filter_map(Weak::upgrade).map(|segment| segment.number()).collect()
}

/// Snapshots look at the buffer and keep what they found for the next one: not longer than the files are shown.
pub(super) fn the_look_at_the_buffer_is_let_go() -> Outcome {
    let steps: [Step; 2] = [
        ("a compaction", |store| _ = store.compact().expect("compacted")),
        ("clearing", |store| store.clear().expect("cleared")),
    ];
    for (what, act) in steps {
        let case = made();
        case.put(&["a", "b", "c"]).flush().put(&["a", "d"]);
        let before = case.shown();
        assert_eq!(case.store.snapshot().expect("there").len(), 4);
        act(&case.store);
        let held = held(&before);
        if !held.is_empty() {
            return Err(format!("after {what} segments {held:?} are held"));
        }
    }
    Ok(())
}

/// The same, where the files change while a snapshot is made.
pub(super) fn a_late_look_is_let_go() -> Outcome {
    for call in 0.. {
        let case = made();
        case.put(&["a", "b", "c"]).flush().put(&["d", "e"]);
        let case = case.reopened();
        case.put(&["a", "f"]);
        let (before, engine) = (case.shown(), Arc::downgrade(&case.engine()));
        case.faulty.before(call, move || engine.upgrade().expect("open").clear().expect("cleared"));
        let len = case.store.snapshot().expect("there").len();
        if !case.faulty.was_done() {
            assert!(call > 0, "a snapshot looks for what the buffer hides");
            return Ok(());
        }
        assert_eq!(len, 6, "what it began with");
        let held = held(&before);
        if !held.is_empty() {
            return Err(format!("cleared before call {call}: segments {held:?} are held"));
        }
    }
    Ok(())
}

/// The files that MANIFEST names, as far as they are there, and those of no segment.
fn named(image: &Image) -> Vec<String> {
    let mut named = vec!["LOCK".to_owned(), "MANIFEST".to_owned()];
    for entry in manifest_of(image).segments {
        let stem = format!("{:08}", entry.number);
        named.extend(["dat", "idx", "ids", "jsonl"].map(|suffix| format!("{stem}.{suffix}")));
        if let Some(sealed) = entry.sealed.filter(|sealed| sealed.del.0 > 0) {
            named.push(format!("{stem}.{}.del", sealed.del.0));
        }
    }
    named.retain(|name| image.files.contains_key(&file(name)));
    named.sort_unstable();
    named
}

/// Each list of dead rows goes when another takes its place, or its segment goes.
pub(super) fn old_lists_go() -> Outcome {
    let case = made();
    let delete = |id: &str| _ = case.store.delete(id).expect("deleted");
    let mut lists = Vec::new();
    let look = |when: &str, lists: &mut Vec<String>| {
        let image = case.disk.image();
        lists.extend(names(&image, ".del"));
        let there = names(&image, "");
        if there == named(&image) { Ok(()) } else { Err(format!("after {when}: {there:?}")) }
    };
    let rounds =
        [("a", ["a", "b", "c"]), ("b", ["d", "e", "f"]), ("d", ["g", "h", "i"]), ("e", ["j", "k", "l"])];
    for (dies, puts) in rounds {
        case.put(&puts).flush();
        look("a seal", &mut lists)?;
        delete(dies);
        case.flush();
    }
    case.put(&["m", "n"]).flush();
    look("the last seal", &mut lists)?;
    lists.sort_unstable();
    lists.dedup();
    assert!(lists.len() > 2, "{lists:?}");
    case.store.compact().expect("compacted");
    look("a compaction", &mut lists)?;
    delete("g");
    case.put(&["o", "p", "q"]).flush();
    look("one more seal", &mut lists)?;
    case.store.clear().expect("cleared");
    look("clearing", &mut lists)
}

/// What an interrupted replacement left goes when the store is opened to be written, and stays while it is read.
#[test]
fn what_manifest_does_not_name_goes_at_the_next_opening() {
    let case = made();
    case.put(&["a", "b", "c"]).put(&["a", "d", "e"]).flush().put(&["b", "d", "f"]).flush();
    let mut left = case.disk.image().files;
    assert!(!names(&case.disk.image(), ".del").is_empty());
    left.remove(&file("MANIFEST"));
    left.insert(file("MANIFEST.new"), vec![7; 100]);
    left.insert(file("00000009.ids.new"), vec![7; 100]);
    case.store.compact().expect("compacted");
    case.put(&["g"]);
    case.store.close().expect("closed");
    let mut image = case.disk.image();
    let clean = names(&image, "");
    left.retain(|path, _| !image.files.contains_key(path));
    assert!(left.len() > 5, "{left:?}");
    image.files.extend(left);
    let disk = SimDisk::new(&image);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = VectorStore::open_read_only_on(door.clone(), Path::new(DIR)).expect("opens");
    assert!(disk.image().files == image.files, "a reader removed something");
    let store = VectorStore::open_on(door, Path::new(DIR), &buffered()).expect("opens");
    let after = names(&disk.image(), "");
    assert_eq!(after, clean);
    assert_eq!((store.len().expect("known"), reader.len().expect("known")), (7, 7));
}

#[test]
fn what_the_buffer_hid_is_let_go_with_the_files() {
    the_look_at_the_buffer_is_let_go().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn what_a_late_snapshot_found_is_let_go() {
    a_late_look_is_let_go().unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn lists_of_dead_rows_go_with_what_they_were_of() {
    old_lists_go().unwrap_or_else(|why| panic!("{why}"));
}

/// What a handle had open of a segment goes with the last snapshot that shows it, in a reader and in a writer.
#[test]
fn the_last_snapshot_lets_go_of_a_segment() {
    let case = made();
    case.put(&["a", "b", "c"]).put(&["a", "d", "e"]).flush();
    // The other one is active, and stays.
    let before = &case.shown()[..1];
    let snapshots = [case.store.snapshot().expect("there"), case.store.snapshot().expect("there")];
    case.store.compact().expect("compacted");
    for snapshot in snapshots {
        assert!(!held(before).is_empty());
        assert_eq!(snapshot.get("b").expect("readable"), Some(vector("b")));
    }
    assert_eq!(held(before), [] as [u64; 0]);
}
