//! A repair or a backup that is cut off anywhere: what it leaves is no store, or a whole one, and repeated it succeeds.

use super::crash::{Effort, choices};
use super::model::{DIR, Random};
use super::repair::{Content, Made, file, rich};
use crate::maintain::repair::repair;
use crate::maintain::verify::verify_directory;
use crate::sys::disk::Disk;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::planted::{Bug, with};
use crate::types::error::{Error, Result};
use crate::{Metric, VectorStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const TO: &str = "/r";
const EFFORT: Effort = Effort { exhaustive: 16, samples: 6, nested_one_in: 400 };
/// In the call that is repeated.
const LESS: Effort = Effort { exhaustive: 4, samples: 3, nested_one_in: usize::MAX };

/// Makes a store at [`TO`] of the one at [`DIR`].
type Call = fn(&Arc<dyn Disk>) -> Result<()>;

fn by_repair(disk: &Arc<dyn Disk>) -> Result<()> {
    repair(disk, Path::new(DIR), Path::new(TO)).map(drop)
}

fn by_backup(disk: &Arc<dyn Disk>) -> Result<()> {
    VectorStore::open_read_only_on(disk.clone(), Path::new(DIR))?.backup(TO).map(drop)
}

fn door(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// A store, and the disk with it: the target is in the same directory, and the root is not part of an image.
fn start() -> (Made, Image) {
    let made = rich();
    let mut image = made.image.clone();
    image.dirs.insert(PathBuf::from(DIR));
    (made, image)
}

/// What is at the target: its content, or nothing that counts.
fn look(image: &Image) -> std::result::Result<Option<Content>, String> {
    let door: Arc<dyn Disk> = Arc::new(SimDisk::new(image));
    let store = match VectorStore::open_read_only_on(door.clone(), Path::new(TO)) {
        Ok(store) => store,
        Err(Error::Unfinished { .. }) => {
            return match verify_directory(&door, Path::new(TO)) {
                Err(Error::Unfinished { .. }) => Ok(None),
                other => Err(format!("verify of what is unfinished: {other:?}")),
            };
        }
        Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) => return Ok(None),
        Err(error) => return Err(format!("open: {error}")),
    };
    let report = store.verify().map_err(|e| e.to_string())?;
    if !report.is_ok() {
        return Err(format!("damaged: {:?}", report.damage));
    }
    let mut content = Content::new();
    for item in store.snapshot().map_err(|e| e.to_string())?.iter() {
        let (id, vector) = item.map_err(|e| e.to_string())?;
        let document = store.get_document(&id).map_err(|e| e.to_string())?;
        content.insert(id, (vector.iter().map(|x| x.to_bits()).collect(), document));
    }
    Ok(Some(content))
}

fn check(made: &Made, image: &Image, done: bool) -> std::result::Result<(), String> {
    match look(image)? {
        Some(content) if content == made.now => Ok(()),
        Some(content) => Err(format!("it opens, and holds {content:?}")),
        None if done => Err("it was done, and is gone".into()),
        None => Ok(()),
    }
}

/// The power goes before each step of the call. `depth`: how often it goes again in the call that is repeated then.
fn cut_off(
    made: &Made,
    image: &Image,
    call: Call,
    random: &mut Random,
    depth: usize,
    states: &mut usize,
) -> std::result::Result<(), String> {
    let whole = SimDisk::new(image);
    call(&door(&whole)).map_err(|e| format!("whole: {e}"))?;
    check(made, &whole.image(), true)?;
    for steps in 0..=whole.steps() {
        let disk = SimDisk::new(image);
        disk.power_off_at(steps);
        let done = call(&door(&disk)).is_ok();
        let crash = disk.crash();
        for choice in choices(crash.options(), if depth > 0 { EFFORT } else { LESS }, random) {
            let image = crash.image(&choice);
            *states += 1;
            let at = |why: String| format!("before step {steps}, {choice:?}: {why}");
            check(made, &image, done).map_err(at)?;
            if look(&image)?.is_some() {
                continue;
            }
            if depth > 0 && random.below(EFFORT.nested_one_in) == 0 {
                cut_off(made, &image, call, random, depth - 1, states).map_err(at)?;
            } else {
                let again = SimDisk::new(&image);
                call(&door(&again)).map_err(|e| at(format!("repeated: {e}")))?;
                check(made, &again.image(), true).map_err(at)?;
            }
        }
    }
    Ok(())
}

fn cut_off_everywhere(call: Call) -> std::result::Result<(), String> {
    let ((made, image), mut states) = (start(), 0);
    cut_off(&made, &image, call, &mut Random(5), 1, &mut states)?;
    println!("{states} states");
    if states < 2_000 { Err(format!("only {states} states")) } else { Ok(()) }
}

#[test]
fn a_repair_that_is_cut_off_leaves_no_store_or_a_whole_one() {
    cut_off_everywhere(by_repair).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_backup_that_is_cut_off_leaves_no_store_or_a_whole_one() {
    cut_off_everywhere(by_backup).unwrap_or_else(|why| panic!("{why}"));
}

/// Each call of the disk fails once, the sync after the last step included: repeated, the call starts over.
#[test]
fn what_failed_can_be_repeated() {
    let (made, image) = start();
    for call in [by_repair, by_backup] {
        for at in 0.. {
            let disk = SimDisk::new(&image);
            let plan = Plan { call: at, fault: Fault::Os(5), for_ever: false };
            let faulty = FaultDisk::new(door(&disk), Some(plan));
            let first = call(&(Arc::new(faulty.clone()) as Arc<dyn Disk>));
            if !faulty.was_hit() {
                assert!(at > 100, "only {at} calls");
                break;
            }
            // What a repair cannot read is damage.
            if first.is_err() {
                call(&door(&disk)).unwrap_or_else(|error| panic!("after {first:?} at call {at}: {error}"));
                check(&made, &disk.image(), true).unwrap_or_else(|why| panic!("call {at}: {why}"));
            }
        }
    }
}

pub(super) fn repairs_catch(bug: Bug) -> bool {
    with(bug, || cut_off_everywhere(by_repair)).is_err()
}

pub(super) fn backups_catch(bug: Bug) -> bool {
    with(bug, || cut_off_everywhere(by_backup)).is_err()
}

/// What a cut-off repair leaves.
fn unfinished() -> (Made, Image) {
    let made = rich();
    let whole = SimDisk::new(&made.image);
    by_repair(&door(&whole)).expect("repaired");
    let disk = SimDisk::new(&made.image);
    // The last two are the removal of the mark and its sync.
    disk.power_off_at(whole.steps() - 2);
    by_repair(&door(&disk)).expect_err("no power");
    let image = disk.image();
    assert!(image.files.contains_key(&target("UNFINISHED")) && image.files.contains_key(&target("MANIFEST")));
    (made, image)
}

fn target(name: &str) -> PathBuf {
    Path::new(TO).join(name)
}

#[test]
fn every_call_on_something_unfinished_names_the_call_to_repeat() {
    let (_, image) = unfinished();
    let disk = SimDisk::new(&image);
    let door = door(&disk);
    let to = Path::new(TO);
    let options = super::model::options();
    let errors = [
        VectorStore::open_on(door.clone(), to, &options).map(drop),
        VectorStore::open_read_only_on(door.clone(), to).map(drop),
        VectorStore::create_on(door.clone(), to, 4, Metric::L2, super::model::identity(), &options).map(drop),
        verify_directory(&door, to).map(drop),
        repair(&door, to, Path::new("/other")).map(drop),
    ];
    for error in errors {
        let error = error.expect_err("unfinished");
        assert!(matches!(error, Error::Unfinished { call: "repair", .. }), "{error}");
        assert!(error.to_string().contains("repeat it"), "{error}");
    }
    assert_eq!(disk.image().files, image.files, "something was changed");
}

#[test]
fn nothing_of_others_is_removed_from_an_unfinished_directory() {
    let (made, image) = unfinished();
    let foreign: [(&str, Vec<u8>); 6] = [
        ("notes.txt", b"mine".to_vec()),
        ("00000007.jsonl", b"null\n".to_vec()),
        ("00000001.dat", made.image.files[&file("00000004.dat")].clone()),
        ("00000009.dat", made.image.files[&file("00000004.dat")].clone()),
        ("00000009.idx", vec![7; 400]),
        ("MANIFEST", made.image.files[&file("MANIFEST")].clone()),
    ];
    for (name, bytes) in foreign {
        let mut image = image.clone();
        image.files.insert(target(name), bytes);
        for call in [by_repair, by_backup] {
            let disk = SimDisk::new(&image);
            let error = call(&door(&disk)).expect_err("not ours");
            assert!(matches!(error, Error::NotAStore { .. }), "{name}: {error}");
            let is_lock = |path: &Path| path.ends_with("LOCK");
            let after = disk.image();
            assert!(
                after.files.iter().all(|(path, bytes)| is_lock(path) || image.files[path] == *bytes),
                "{name}"
            );
            assert!(
                image.files.keys().all(|path| after.files.contains_key(path)),
                "{name}: something is gone"
            );
        }
    }
    // A backup may follow a repair, and the other way round.
    let disk = SimDisk::new(&image);
    by_backup(&door(&disk)).expect("starts over");
    assert_eq!(look(&disk.image()).expect("whole"), Some(made.now));
}

/// Since a reader opened it, its store was removed and another one made in its place.
pub(super) fn a_name_was_given_away(bug: Bug) -> bool {
    with(bug, shares_what_stands_there)
}

fn shares_what_stands_there() -> bool {
    let made = rich();
    let disk = SimDisk::new(&made.image);
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let reader = VectorStore::open_read_only_on(door, Path::new(DIR)).expect("opens");
    let sealed: Vec<PathBuf> = disk
        .image()
        .files
        .into_keys()
        .filter(|path| path.extension().is_some_and(|end| end == "dat"))
        .collect();
    for path in &sealed {
        disk.replace_file(path, vec![9; made.image.files[path].len()]);
    }
    reader.backup(TO).expect("copied");
    look(&disk.image()) != Ok(Some(made.now))
}

#[test]
fn a_backup_has_what_its_handle_shows_whatever_its_names_are_now() {
    assert!(!shares_what_stands_there());
}
