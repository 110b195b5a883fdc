//! Stores whose checksums and chains are right, and whose numbers are anybody's: refused by name, or harmless.

mod forger;

use super::hostile::{open, store, vector};
use super::model::{DIM, DIR, identity, options, root};
use crate::format::manifest::Manifest;
use crate::format::record::{self, Next, Record};
use crate::open::directory;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::{Document, Durability, Error, Metric, OpenOptions, VectorStore, WriteBatch};
use forger::Forger;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Cases of each store that is forged.
const CASES: u64 = 1000;
/// Set in the process whose memory is limited.
#[cfg(target_os = "linux")]
const LIMITED: &str = "VECSTONE_FORGED_LIMITED";
/// More than a small store ever needs, less than any number in it may ask for.
#[cfg(target_os = "linux")]
const MEMORY: u64 = 256 << 20;

/// What may be forged: a closed store; one with documents, compacted; one whose writer was killed.
fn stores() -> [Image; 3] {
    crate::pair::files::seed_random(1);
    let images = [store(&options()), with_documents(true), with_documents(false)];
    crate::pair::files::seed_random(0);
    images
}

/// Forged stores, each with the number of the store and the seed.
pub(super) fn forged() -> impl Iterator<Item = (String, Image)> {
    stores().into_iter().enumerate().flat_map(|(n, image)| {
        let forge = move |seed| (format!("store {n}, seed {seed}"), Forger::new(&image, seed).forge().0);
        cases().into_iter().map(forge)
    })
}

fn with_documents(closed: bool) -> Image {
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options().segment_records(4);
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options);
    let store = store.expect("made");
    for batch in [&["a", "b", "c"][..], &["d", "e", "b"], &["f", "a"], &["g", "h"], &["c", "i"], &["j"]] {
        let vectors: Vec<f32> = batch.iter().flat_map(|id| vector(id)).collect();
        let texts: Vec<String> = batch.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
        let documents: Vec<_> = texts.iter().map(|text| Document::Json(text.as_str())).collect();
        store
            .write(
                WriteBatch::new()
                    .put_many_with_documents(batch, &vectors, &documents)
                    .durability(Durability::Sync),
            )
            .expect("stored");
        if closed && batch[0] == "g" {
            store.compact().expect("compacted");
        }
    }
    store.set_attributes(Some(r#"{"by":"me"}"#)).expect("set");
    store.delete_many(&["f"]).and_then(|_| store.flush()).expect("deleted");
    if closed {
        store.close().expect("closed");
    } else {
        disk.kill(store);
    }
    disk.image()
}

/// The bits of a vector and its document; `None` if there is no such row, an error if it is damaged.
type Shown = Result<Option<(Vec<u32>, Option<String>)>, ()>;

const IDS: [&str; 11] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "z"];
const NEW: [&str; 6] = ["p", "q", "r", "s", "t", "b"];

/// What a store shows, by id, and the ids that it lists.
fn shown(store: &VectorStore) -> Result<(BTreeMap<&'static str, Shown>, Vec<String>), Error> {
    let mut content = BTreeMap::new();
    for id in IDS {
        content.insert(id, row(store, id)?);
    }
    let mut listed = Vec::new();
    for item in store.snapshot()?.iter() {
        match item {
            Ok((id, _)) => listed.push(id.to_string()),
            Err(error) => named(&error).map(|()| listed.push("damaged".to_owned()))?,
        }
    }
    listed.sort();
    if let Ok(found) = store.search(&[1.0; DIM as usize], 5) {
        assert!(found.iter().all(|neighbor| !neighbor.distance.is_nan()));
    }
    Ok((content, listed))
}

fn row(store: &VectorStore, id: &str) -> Result<Shown, Error> {
    let both = store.get(id).and_then(|vector| Ok((vector, store.get_document(id)?)));
    match both {
        Ok((vector, document)) => {
            Ok(Ok(vector.map(|vector| (vector.iter().map(|x| x.to_bits()).collect(), document))))
        }
        Err(error) => named(&error).map(|()| Err(())),
    }
}

/// Passes errors that say which file, which number or which kind of ids is to blame.
fn named(error: &Error) -> Result<(), Error> {
    let known = match error {
        Error::OutOfMemory { .. } | Error::Panicked { .. } => false,
        Error::NumbersUsedUp { .. } | Error::IdKindMismatch { .. } => true,
        error => error.to_string().contains(DIR),
    };
    if known { Ok(()) } else { Err(error.clone()) }
}

fn open_reader(disk: &SimDisk) -> Result<VectorStore, Error> {
    VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR))
}

/// Whether MANIFEST names the segment of a file.
fn is_named(image: &Image, path: &Path) -> bool {
    let bytes = &image.files[&Path::new(DIR).join("MANIFEST")];
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((number, _)) = directory::segment_file(name) else { return true };
    Manifest::decode(bytes).is_ok_and(|manifest| manifest.segments.iter().any(|entry| entry.number == number))
}

/// The rule for one store.
fn keeps_its_promise(image: &Image) -> Result<bool, String> {
    let said = |what: &'static str| move |error: Error| format!("{what}: {error}");
    let disk = SimDisk::new(image);
    let options: OpenOptions = options().segment_records(4);
    let (reader, writer) = (open_reader(&disk), open(&disk, &options));
    let (reader, writer) = match (reader, writer) {
        (Ok(reader), Ok(writer)) => (reader, writer),
        (Err(a), Err(b)) => {
            named(&a).and_then(|()| named(&b)).map_err(said("the error"))?;
            let (mut before, mut after) = (image.files.clone(), disk.image().files);
            for files in [&mut before, &mut after] {
                files.retain(|path, _| !path.ends_with("LOCK"));
            }
            return if before == after { Ok(false) } else { Err("refused, and written to".to_owned()) };
        }
        // A writer looks at pairs that this MANIFEST does not name: one may know a newer MANIFEST.
        (Ok(_), Err(Error::Corrupt { path, .. })) if !is_named(image, &path) => return Ok(false),
        (Ok(_), Err(error)) => return Err(format!("only a reader opens: {error}")),
        (Err(error), Ok(_)) => return Err(format!("only a writer opens: {error}")),
    };
    let before = shown(&reader).map_err(said("reading"))?;
    let at_writer = shown(&writer).map_err(said("the writer, reading"))?;
    if before != at_writer {
        return Err(format!("the reader shows {before:?}, the writer {at_writer:?}"));
    }
    let attributes = reader.attributes().map_err(said("attributes"))?;
    if writer.attributes().map_err(said("attributes"))? != attributes {
        return Err("reader and writer show different attributes".to_owned());
    }
    // An `.ids` repeats the log; where they differ the log decides, from the first seal or compaction on.
    let truth = open_reader(&SimDisk::new(&without_ids(image)));
    let truth = truth.and_then(|store| Ok((verify(&store)?, shown(&store)?)));
    let (is_whole, truth) = match truth {
        Ok((report, (truth, _))) => (report && verify(&reader).map_err(said("verify"))?, truth),
        Err(error) => {
            named(&error).map_err(said("the error without .ids"))?;
            (false, before.0.clone())
        }
    };
    drop(reader);
    let (acknowledged, deleted) = use_it(&writer)?;
    let mut let_go = deletes_in_logs(image);
    let_go.extend(acknowledged.iter().map(|id| (*id).to_owned()).chain(["c".to_owned()]));
    // A row of it that `.ids` hid is not the one that was deleted.
    let deleted = deleted && is_whole && before.0["c"] == truth["c"];
    writer.close().or_else(|error| named(&error)).map_err(said("close"))?;
    for again in [open_reader(&disk), open(&disk, &options)] {
        let again = again.map_err(said("opening it again"))?;
        let after = shown(&again).map_err(said("reading again"))?;
        if again.attributes().map_err(said("attributes"))? != attributes {
            return Err(format!("the attributes were {attributes:?}, and are others"));
        }
        for id in &acknowledged {
            let found = again.get(*id).map_err(said("an acknowledged row"))?;
            if found.as_ref() != Some(&vector(&format!("{id}!"))) {
                return Err(format!("{id} was acknowledged, and is {found:?}"));
            }
        }
        if !is_whole {
            continue;
        }
        if !verify(&again).map_err(said("verify, again"))? {
            return Err(format!("nothing was damaged, and now: {:?}", again.verify()));
        }
        if deleted && matches!(after.0["c"], Ok(Some(_))) {
            return Err(format!("the delete of c was acknowledged, and it is {:?}", after.0["c"]));
        }
        compare(&after.0, &[&before.0, &truth], &let_go)?;
    }
    if is_whole {
        let log = open_reader(&SimDisk::new(&without_ids(&disk.image()))).map_err(said("without .ids"))?;
        compare(&shown(&log).map_err(said("without .ids"))?.0, &[&truth], &let_go)?;
    }
    Ok(true)
}

fn without_ids(image: &Image) -> Image {
    let mut image = image.clone();
    image.files.retain(|path, _| path.extension().is_none_or(|suffix| suffix != "ids"));
    image
}

/// Whether nothing is damaged.
fn verify(store: &VectorStore) -> Result<bool, Error> {
    match store.verify() {
        Ok(report) => Ok(report.is_ok()),
        Err(error) => named(&error).map(|()| false),
    }
}

/// Ids of which a log says that they are deleted. Where the cross-segment deletes of that are missing, either may come out.
fn deletes_in_logs(image: &Image) -> Vec<String> {
    let mut deleted = Vec::new();
    for (_, log) in
        image.files.iter().filter(|(path, _)| path.extension().is_some_and(|suffix| suffix == "idx"))
    {
        let mut at = 0;
        while let Next::Record(record, len) = record::next(&log[at..]) {
            if let Record::Delete { id } = record {
                deleted.push(String::from_utf8_lossy(id).into_owned());
            }
            at += len;
        }
    }
    deleted
}

/// Every row but those that may have changed is what one of these says.
fn compare(
    after: &BTreeMap<&'static str, Shown>,
    before: &[&BTreeMap<&'static str, Shown>],
    but: &[String],
) -> Result<(), String> {
    for id in IDS.iter().filter(|id| !but.iter().any(|but| but == *id)) {
        if before.iter().all(|before| before[id].is_ok() && after[id] != before[id]) {
            return Err(format!("{id} was {:?} and is {:?}", before[0][id], after[id]));
        }
    }
    Ok(())
}

/// Puts, replaces, deletes, seals and compacts; the ids that were acknowledged, and whether the delete was.
fn use_it(store: &VectorStore) -> Result<(Vec<&'static str>, bool), String> {
    let told = |error: Error| named(&error).map_err(|error| format!("writing: {error}"));
    let mut acknowledged = Vec::new();
    for id in NEW {
        match store.put(id, &vector(&format!("{id}!"))).and_then(|()| store.flush()) {
            Ok(()) => acknowledged.push(id),
            Err(error) => told(error)?,
        }
    }
    let deleted = store.delete_many_with(&["c"], Some(Durability::Sync));
    // One that finds nothing promises nothing of a row that only `.ids` hides.
    let was_deleted = deleted.as_ref().is_ok_and(|&rows| rows > 0);
    deleted.map(drop).or_else(told)?;
    store.compact().map(drop).or_else(told)?;
    let last = "t";
    if store.put(last, &vector("t!")).and_then(|()| store.flush()).is_ok() && !acknowledged.contains(&last) {
        acknowledged.push(last);
    }
    Ok((acknowledged, was_deleted))
}

fn all_keep_their_promise() {
    let (mut wrong, mut opened) = (Vec::new(), 0);
    for (n, image) in stores().iter().enumerate() {
        assert_eq!(keeps_its_promise(image), Ok(true), "store {n} as it is");
        for seed in cases() {
            let (forged, done) = Forger::new(image, seed).forge();
            println!("store {n}, seed {seed}");
            match catch_unwind(AssertUnwindSafe(|| keeps_its_promise(&forged))) {
                Ok(Ok(open)) => opened += u64::from(open),
                Ok(Err(why)) => wrong.push(format!("store {n}, seed {seed}: {why}\n    {done}")),
                Err(_) => wrong.push(format!("store {n}, seed {seed}: a panic\n    {done}")),
            }
        }
    }
    println!("{opened} opened");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases().len() < 100 || opened > 300, "only {opened} are opened at all");
}

/// The seeds; `VECSTONE_CASES=17..18` asks for others.
fn cases() -> Vec<u64> {
    let asked = std::env::var("VECSTONE_CASES").ok();
    let asked = asked.as_deref().and_then(|asked| asked.split_once(".."));
    match asked.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?))) {
        Some((from, to)) => (from..to).collect(),
        None => (0..CASES).collect(),
    }
}

/// In a process of its own: what a number asks for is refused there, and the process ends.
#[test]
#[cfg(target_os = "linux")]
fn forged_stores_are_refused_or_keep_their_promise() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if std::env::var_os(LIMITED).is_some() {
        let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
        setrlimit(Resource::Data, limit).expect("lower than before");
        return all_keep_their_promise();
    }
    let name = "tests::forged::forged_stores_are_refused_or_keep_their_promise";
    let program = std::env::current_exe().expect("this one");
    let done = std::process::Command::new(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(LIMITED, "1")
        .output()
        .expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let last = out.lines().rfind(|line| line.contains("seed")).unwrap_or("none");
    assert!(done.status.success(), "{}, last {last}\n{err}", done.status);
}

#[test]
#[cfg(not(target_os = "linux"))]
fn forged_stores_are_refused_or_keep_their_promise() {
    all_keep_their_promise();
}

/// An id of which two rows are live, in two sealed segments: a put or a delete of it deletes both, in a batch that counts.
#[test]
fn an_id_with_two_live_rows_can_be_replaced_and_deleted() {
    for delete in [false, true] {
        let disk = SimDisk::new(&forger::with_two_live_rows(&store(&options())));
        let writer = open(&disk, &options()).expect("opens");
        if delete {
            assert_eq!(writer.delete_many_with(&["b"], Some(Durability::Sync)).expect("deleted"), 1);
        } else {
            writer.put("b", &vector("b!")).and_then(|()| writer.flush()).expect("stored");
        }
        writer.close().expect("closed");
        for store in [open_reader(&disk), open(&disk, &options())] {
            let store = store.expect("opens again");
            assert_eq!(store.get("b").expect("read"), (!delete).then(|| vector("b!")));
            assert!(store.verify().expect("read").is_ok(), "nothing is twice there any more");
        }
    }
}
