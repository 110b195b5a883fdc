//! A writer that acts between two steps of one call of a reader: before each of its calls of the disk, in each way.

use super::model::{Content, DIM, DIR, Model, Run, content, look, options, root, row};
use crate::format::Identity;
use crate::query::filter::Filter;
use crate::sys::disk::fault::FaultDisk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Disk, Open, open_file, write_all_at};
use crate::sys::sync::unpoisoned;
use crate::types::error::Result;
use crate::{Metric, VectorStore};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Where another store waits to take the place of this one.
const OTHER: &str = "/other";

/// A store of several segments with documents and dead rows, its writer, and what may take its place.
pub(super) struct World {
    pub(super) run: Run,
    /// The files of an earlier state.
    earlier: (Image, Content),
    /// What stands at the path by now, if it is not the writer's store.
    pub(super) replaced_by: Option<Content>,
}

/// What a writer, or whoever replaces a store, does at once.
type Step = (&'static str, fn(&mut World) -> Result<()>);

const STEPS: [Step; 19] = [
    ("put", |world| world.run.put(&["f"]).and_then(|()| world.run.flush())),
    ("put, unflushed", |world| world.run.put(&["f"])),
    ("replace a row of each segment", |world| {
        world.run.put_documents(&["a", "c", "g", "x"])?;
        world.run.flush()
    }),
    ("delete", |world| world.run.delete(&["b", "d"]).and_then(|()| world.run.flush())),
    ("seal", |world| {
        for ids in [["h", "i"], ["j", "k"], ["l", "m"]] {
            world.run.put_documents(&ids)?;
        }
        world.run.flush()
    }),
    ("compact", |world| world.run.compact()),
    ("compact, then delete", |world| {
        world.run.compact()?;
        world.run.delete(&["b", "e"])?;
        world.run.flush()
    }),
    ("compact, then replace", |world| {
        world.run.compact()?;
        world.run.put(&["b", "g"])?;
        world.run.flush()
    }),
    ("compact, then seal", |world| {
        world.run.compact()?;
        world.run.put(&["b", "n", "o"])?;
        world.run.put(&["e"])?;
        world.run.flush()
    }),
    ("clear", |world| world.run.clear()),
    ("clear, then put", |world| {
        world.run.clear()?;
        world.run.put_documents(&["b"])?;
        world.run.flush()
    }),
    ("set attributes", |world| world.run.set_attributes(false)),
    ("set attributes, then replace", |world| {
        world.run.set_attributes(false)?;
        world.run.put(&["b", "g"])?;
        world.run.flush()
    }),
    ("close", |world| world.run.close()),
    ("reopen, then put", |world| {
        world.run.close()?;
        world.run.open()?;
        world.run.put(&["f"])
    }),
    ("killed, then opened", |world| {
        world.run.put(&["f"])?;
        world.run.disk.kill(world.run.store.take());
        world.run.open()
    }),
    ("an earlier state put back, file by file", |world| {
        world.run.close()?;
        let (image, content) = world.earlier.clone();
        put_back(&world.run.disk, &image);
        world.replaced_by = Some(content);
        Ok(())
    }),
    ("an earlier state put back and written on", |world| {
        world.run.close()?;
        put_back(&world.run.disk, &world.earlier.0.clone());
        let store = open(&world.run.disk)?;
        store.put_many(&["c", "e"], &[[9.0; DIM as usize], [8.0; DIM as usize]].concat())?;
        store.close()?;
        world.replaced_by = look(&world.run.disk, false)?.map(|(_, content)| content);
        Ok(())
    }),
    ("another store moved there", |world| {
        world.run.close()?;
        world.run.disk.move_dir(Path::new(DIR), Path::new("/aside"));
        world.run.disk.move_dir(Path::new(OTHER), Path::new(DIR));
        world.replaced_by = look(&world.run.disk, false)?.map(|(_, content)| content);
        Ok(())
    }),
];

/// What a reader that opens the store while its writer is away may meet.
const ALONE: [Step; 4] = [
    ("opened", |world| world.run.open()),
    ("opened, and put, unflushed", |world| world.run.open().and_then(|()| world.run.put(&["f"]))),
    ("opened, put, sealed and closed", |world| {
        world.run.open()?;
        for ids in [["h", "i"], ["j", "k"]] {
            world.run.put_documents(&ids)?;
        }
        world.run.close()
    }),
    ("opened, compacted, deleted from", |world| {
        world.run.open()?;
        world.run.compact()?;
        world.run.delete(&["b", "e"])?;
        world.run.flush()
    }),
];

fn open(disk: &SimDisk) -> Result<VectorStore> {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options())
}

/// Puts other files in the place of those of the store, under the same names, and all of them at once.
pub(super) fn put_back(disk: &SimDisk, image: &Image) {
    let is_ours = |path: &&PathBuf| path.starts_with(DIR);
    disk.image().files.keys().filter(is_ours).for_each(|path| disk.remove_file(path));
    for (path, bytes) in image.files.iter().filter(|(path, _)| is_ours(path)) {
        let file = open_file(disk.clone(), path, Open::CreateNew).expect("a new file");
        write_all_at(&*file, bytes, 0).expect("written");
    }
}

impl World {
    pub(super) fn new() -> Result<World> {
        let mut run = Run::new(SimDisk::new(&root()));
        other(&run.disk)?;
        run.segments_of(5).create()?;
        run.put_documents(&["a", "b"])?;
        run.put(&["c"])?;
        run.flush()?;
        run.close()?;
        let earlier = (run.disk.image(), run.model.states.last().expect("a state").clone());
        run.segments_of(5).open()?;
        run.put_documents(&["d", "e", "x"])?;
        run.delete(&["a"])?;
        run.put(&["g"])?;
        run.put_documents(&["c", "y"])?;
        run.flush()?;
        Ok(World { run, earlier, replaced_by: None })
    }

    /// What may be shown by a call that began when `first` was the last state that was acknowledged.
    fn allows(&self, first: usize, shown: &Content) -> bool {
        // Beside a writer that lives, nothing that is not durable.
        let model: &Model = &self.run.model;
        let last = if self.run.store.is_some() { model.acked + 1 } else { model.states.len() };
        let states = model.states.get(first..last).unwrap_or_default();
        states.contains(shown) || self.replaced_by.as_ref() == Some(shown)
    }
}

/// Another store: other ids, another dimension.
fn other(disk: &SimDisk) -> Result<()> {
    let identity = Identity { uuid: [3; 16], segment: 1, salt: [4; 16] };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = VectorStore::create_on(
        disk,
        Path::new(OTHER),
        2,
        Metric::Ip,
        identity,
        &options().segment_records(2),
    )?;
    for id in 1..=5u8 {
        store.put_with_document(u64::from(id), &[f32::from(id), 1.0], &format!("{{\"v\":{id}}}"))?;
    }
    store.close()
}

/// Everything that a store shows, asked in each way; they have to agree.
pub(super) fn everything(store: &VectorStore) -> Result<Content> {
    let shown = content(store)?;
    let snapshot = store.snapshot()?;
    assert_eq!(
        (store.dim(), store.metric(), store.kind()),
        (snapshot.dim(), snapshot.metric(), snapshot.kind())
    );
    let query = vec![0.5; store.dim()];
    let found: BTreeSet<String> = store.search(&query, 100)?.iter().map(|hit| hit.id.to_string()).collect();
    assert_eq!(found, shown.keys().cloned().collect());
    let with_documents = |shown: &Content| -> BTreeSet<String> {
        shown.iter().filter(|(_, row)| row.1.is_some()).map(|(id, _)| id.clone()).collect()
    };
    let filtered =
        store.snapshot().and_then(|snapshot| snapshot.ids_where(&Filter::parse(r#"{"v": {"$gte": 0}}"#)?))?;
    assert_eq!(filtered.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), with_documents(&shown));
    let ids: Vec<_> = snapshot.ids().collect::<Result<_>>()?;
    for (id, vector) in ids.iter().zip(store.snapshot().and_then(|snapshot| snapshot.get_many(&ids))?) {
        assert_eq!(vector.map(|vector| row(&vector).0).as_ref(), Some(&shown[&id.to_string()].0));
    }
    assert_eq!(store.stats()?.live, shown.len() as u64);
    Ok(shown)
}

/// What a call of a reader left to be looked at.
#[expect(clippy::large_enum_variant, reason = "a handful of them in a test")]
enum Shown {
    Nothing,
    Handle,
    Store(VectorStore),
}

/// A call of a reader.
type Entry = (&'static str, fn(&Arc<dyn Disk>, &VectorStore) -> Result<Shown>);

const ENTRIES: [Entry; 6] = [
    ("open", |door, _| Ok(Shown::Store(VectorStore::open_read_only_on(door.clone(), Path::new(DIR))?))),
    ("refresh", |_, reader| reader.refresh().map(|_| Shown::Handle)),
    ("get, search, filter, documents", |_, reader| {
        assert_eq!(everything(reader)?, everything(reader)?);
        Ok(Shown::Handle)
    }),
    ("verify", |_, reader| {
        let report = reader.verify()?;
        assert!(report.is_ok(), "{:?}", report.damage);
        Ok(Shown::Nothing)
    }),
    ("verify of a path", |door, _| {
        let report = crate::maintain::verify::verify_directory(door, Path::new(DIR))?;
        assert!(report.is_ok(), "{:?}", report.damage);
        Ok(Shown::Nothing)
    }),
    ("backup", |door, reader| {
        reader.backup("/copy")?;
        Ok(Shown::Store(VectorStore::open_read_only_on(door.clone(), Path::new("/copy"))?))
    }),
];

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    unpoisoned(world.lock())
}

/// Does a step before the `call`-th call of a reader; false if it makes fewer. `alone`: the writer is away at first.
fn act_before(call: usize, step: Step, entry: Entry, alone: bool) -> std::result::Result<bool, String> {
    let why = |what: String| format!("{} before call {call} of {}: {what}", step.0, entry.0);
    let failed = |error: crate::Error| why(error.to_string());
    let mut world = World::new().map_err(failed)?;
    if alone {
        world.run.close().map_err(failed)?;
    }
    let disk = FaultDisk::new(Arc::new(world.run.disk.clone()), None);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = VectorStore::open_read_only_on(door.clone(), Path::new(DIR)).map_err(failed)?;
    let (before, snapshot) = (everything(&reader).map_err(failed)?, reader.snapshot().map_err(failed)?);
    let first = world.run.model.acked;
    // What there is to move on to, and files that were looked at once.
    if !alone && entry.0 == "refresh" {
        world.run.put(&["p"]).and_then(|()| world.run.flush()).map_err(failed)?;
    }
    let world = Arc::new(Mutex::new(world));
    let acting = world.clone();
    disk.before(call, move || step.1(&mut lock(&acting)).expect("the writer goes on"));
    let shown = entry.1(&door, &reader).map_err(failed)?;
    let done = disk.was_done();
    let world = lock(&world);
    let right = match &shown {
        Shown::Nothing => true,
        Shown::Store(store) if entry.0 == "open" => world.allows(first, &everything(store).map_err(failed)?),
        Shown::Handle if entry.0 == "refresh" => world.allows(first, &everything(&reader).map_err(failed)?),
        Shown::Handle => everything(&reader).map_err(failed)? == before,
        Shown::Store(store) => everything(store).map_err(failed)? == before,
    };
    if !right {
        return Err(why("that was never the state".into()));
    }
    // Whatever happened in between, the next refresh shows what anyone would see who opens it now.
    reader.refresh().map_err(failed)?;
    let now = look(&world.run.disk, false).map_err(failed)?.map(|(_, content)| content);
    if Some(everything(&reader).map_err(failed)?) != now {
        return Err(why("refreshed, it does not show what is there".into()));
    }
    if Content::of(&snapshot).map_err(failed)? != before {
        return Err(why("a snapshot taken before has changed".into()));
    }
    Ok(done)
}

/// Acts before the calls of the entry points that were asked for; returns how often.
fn act_before_each_call(wanted: impl Fn(Step, Entry) -> bool) -> std::result::Result<usize, String> {
    let mut acted = 0;
    let beside = STEPS.into_iter().map(|step| (step, false));
    for (step, alone) in beside.chain(ALONE.into_iter().map(|step| (step, true))) {
        for entry in ENTRIES.into_iter().filter(|entry| wanted(step, *entry)) {
            let mut call = 0;
            while act_before(call, step, entry, alone)? {
                (call, acted) = (call + 1, acted + 1);
            }
        }
    }
    Ok(acted)
}

/// For planted bugs: the steps that they are about, before each call of opening and refreshing.
pub(super) fn act_before_opening_and_refreshing() -> std::result::Result<(), String> {
    let about =
        |step: Step| step.0.starts_with("compact, then replace") || step.0.starts_with("opened, and put");
    act_before_each_call(|step, entry| about(step) && ["open", "refresh"].contains(&entry.0)).map(drop)
}

#[test]
fn a_step_of_a_writer_before_each_call_of_a_reader_shows_a_promised_state() {
    let acted = act_before_each_call(|_, _| true).unwrap_or_else(|why| panic!("{why}"));
    println!("{acted} steps between the calls of a reader");
    assert!(acted > 1000, "{acted}");
}
