//! Damage: every byte of a small store changed in many ways, every length cut, sectors zeroed, swapped and repeated.
//!
//! Allowed are the right answer, a typed error, or a whole earlier state where nothing that survives proves that more
//! was durable: then the report says so and `strict` refuses. Never a panic, never wrong bytes, nothing written.

use super::model::{Content, DIM, DIR, Model, Random, Run, content, identity, options, root};
use crate::sys::disk::fault::FaultDisk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::disk::{Disk, Open, OsDisk, open_file};
use crate::sys::planted::{Bug, with};
use crate::types::error::{Error, Result};
use crate::{Metric, VectorStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A small store that was closed cleanly: upserts, a delete, several batches, two sessions.
struct Golden {
    image: Image,
    model: Model,
}

const DAT: &str = "/s/00000001.dat";
const IDX: &str = "/s/00000001.idx";
const MANIFEST: &str = "/s/MANIFEST";

fn golden() -> Golden {
    let mut run = Run::new(SimDisk::new(&root()));
    let work = |run: &mut Run| -> Result<()> {
        run.create()?;
        run.put(&["a", "b", "c", "d"])?;
        run.flush()?;
        run.put(&["b"])?;
        run.delete(&["d"])?;
        run.flush()?;
        run.close()?;
        run.open()?;
        run.put(&["e", "f"])?;
        run.close()
    };
    work(&mut run).expect("a healthy disk");
    Golden { image: run.disk.image(), model: run.model }
}

/// The seeds of `fuzz/corpus/`: `VECSTONE_CORPUS=fuzz/corpus cargo test -p vecstone write_the_fuzz_corpus`.
#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus is for the fuzzer, not for the store")]
fn write_the_fuzz_corpus() {
    let Ok(dir) = std::env::var("VECSTONE_CORPUS") else { return };
    let image = golden().image;
    let [dat, idx, manifest] = [DAT, IDX, MANIFEST].map(|name| image.files[Path::new(name)].clone());
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).expect("small").to_le_bytes();
    for mode in [0, 1] {
        for cut in [idx.len(), idx.len() / 2] {
            let input =
                [&[mode][..], &length(&dat), &length(&idx[..cut]), &dat, &idx[..cut], &manifest].concat();
            std::fs::write(format!("{dir}/open_bytes/golden-{mode}-{cut}"), input).expect("written");
        }
    }
    for (name, bytes) in [("header", &dat), ("log", &idx), ("manifest", &manifest)] {
        std::fs::write(format!("{dir}/records/{name}"), bytes).expect("written");
    }
}

/// What a damaged store did.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything right, nothing noticed by reading; verify says whether it saw the damage.
    Whole { noticed: bool },
    /// An earlier whole state, named by the report.
    Earlier,
    /// A typed error at open, or at a read.
    Refused,
}

/// Opens, reads everything, searches and verifies; panics on a broken promise.
fn judge(golden: &Golden, image: &Image, what: &str) -> Outcome {
    let reader = match VectorStore::open_read_only_on(Arc::new(SimDisk::new(image)), Path::new(DIR)) {
        Err(error) => {
            let disk = SimDisk::new(image);
            let writer = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options());
            assert!(writer.is_err(), "{what}: a reader is refused ({error}), a writer not");
            untouched(&disk, image, what);
            return Outcome::Refused;
        }
        Ok(reader) => reader,
    };
    let report = reader.verify().unwrap_or_else(|e| panic!("{what}: verify: {e}"));
    let noticed = !report.is_ok() || report.tail_bytes > 0 || !reader.recovery().clean;
    _ = reader.search(&[1.0; DIM as usize], 3);
    let found = match read_all(&reader, golden, what) {
        Ok(found) => found,
        Err(_) => {
            assert!(!report.is_ok(), "{what}: get refuses, verify sees nothing");
            return Outcome::Refused;
        }
    };
    if found == *golden.model.states.last().expect("never empty") {
        return Outcome::Whole { noticed };
    }
    assert!(golden.model.states.contains(&found), "{what}: {found:?} was never a state");
    assert!(!reader.recovery().clean, "{what}: an earlier state, and the report says clean");
    let disk = SimDisk::new(image);
    let strict = VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options().strict(true));
    assert!(
        matches!(strict, Err(Error::UncleanShutdown { .. })),
        "{what}: strict takes an earlier state: {strict:?}"
    );
    untouched(&disk, image, what);
    Outcome::Earlier
}

/// A refused open for writing changed no file.
fn untouched(disk: &SimDisk, image: &Image, what: &str) {
    let after = disk.image();
    for name in [DAT, IDX, MANIFEST] {
        let name = Path::new(name);
        assert_eq!(after.files.get(name), image.files.get(name), "{what}: a refused open wrote to {name:?}");
    }
}

/// Reads each id by `get`; what comes back was stored for that id at some time, or is an error.
fn read_all(store: &VectorStore, golden: &Golden, what: &str) -> Result<Content> {
    for state in &golden.model.states {
        for id in state.keys() {
            if let Some(vector) = store.get(id)? {
                let bits: Vec<u32> = vector.iter().map(|x| x.to_bits()).collect();
                let stored =
                    golden.model.states.iter().any(|state| state.get(id).is_some_and(|row| row.0 == bits));
                assert!(stored, "{what}: get({id}) gives {vector:?}, which was never stored");
            }
        }
    }
    content(store)
}

fn changed(golden: &Golden, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = golden.image.clone();
    change(image.files.get_mut(Path::new(name)).expect("the golden store has it"));
    image
}

#[test]
fn every_changed_byte_is_refused_or_harmless_and_verify_finds_it() {
    let golden = golden();
    let mut cases = 0;
    for name in [DAT, IDX, MANIFEST] {
        let len = golden.image.files[Path::new(name)].len();
        for at in 0..len {
            let old = golden.image.files[Path::new(name)][at];
            let new = (0..8).map(|bit| old ^ 1 << bit).chain([0, 0xFF, !old]);
            for byte in new.filter(|&byte| byte != old) {
                let what = format!("{name} byte {at}: {old:#04x} -> {byte:#04x}");
                let image = changed(&golden, name, |bytes| bytes[at] = byte);
                match judge(&golden, &image, &what) {
                    Outcome::Refused => {}
                    Outcome::Whole { noticed } => assert!(noticed, "{what}: verify finds nothing"),
                    // One changed byte never hides a durable batch: CLOSE proves them all, or is what changed.
                    Outcome::Earlier => panic!("{what}: a durable batch is gone"),
                }
                cases += 1;
            }
        }
    }
    println!("{cases} changed bytes");
    assert!(cases > 15_000);
}

#[test]
fn every_cut_is_refused_or_an_earlier_state_that_the_report_names() {
    let golden = golden();
    let mut earlier = 0;
    for name in [DAT, IDX, MANIFEST] {
        for len in 0..golden.image.files[Path::new(name)].len() {
            let image = changed(&golden, name, |bytes| bytes.truncate(len));
            match judge(&golden, &image, &format!("{name} cut to {len}")) {
                Outcome::Refused => {}
                Outcome::Whole { noticed } => assert!(noticed, "{name} cut to {len}: verify finds nothing"),
                Outcome::Earlier => {
                    assert_eq!(name, IDX, "only a cut log can show an earlier state");
                    earlier += 1;
                }
            }
        }
        let mut image = golden.image.clone();
        image.files.remove(Path::new(name));
        let outcome = judge(&golden, &image, &format!("{name} missing"));
        assert_eq!(outcome, Outcome::Refused, "{name} missing");
    }
    println!("{earlier} cuts that show an earlier state");
    assert!(earlier > 100, "a log cut before the last batches is an earlier state");
}

#[test]
fn zeroed_swapped_and_repeated_blocks_are_refused_or_noticed() {
    let golden = golden();
    let mut cases = 0;
    for name in [DAT, IDX, MANIFEST] {
        let len = golden.image.files[Path::new(name)].len();
        for block in [16, 64, 512] {
            for a in (0..len).step_by(block).filter(|a| a + block <= len) {
                let zeroed = changed(&golden, name, |bytes| bytes[a..a + block].fill(0));
                check_block(&golden, &zeroed, &format!("{name}: {block} bytes at {a} zeroed"));
                for b in (0..len).step_by(block).filter(|b| b + block <= len) {
                    cases += 2;
                    let repeated = changed(&golden, name, |bytes| bytes.copy_within(a..a + block, b));
                    check_block(&golden, &repeated, &format!("{name}: {block} bytes at {a} again at {b}"));
                    let swapped = changed(&golden, name, |bytes| {
                        let first = bytes[a..a + block].to_vec();
                        bytes.copy_within(b..b + block, a);
                        bytes[b..b + block].copy_from_slice(&first);
                    });
                    check_block(&golden, &swapped, &format!("{name}: {block} bytes at {a} and {b} swapped"));
                }
            }
        }
    }
    println!("{cases} blocks swapped and repeated");
    assert!(cases > 5_000);
}

/// Damage of this size may take CLOSE and the last batch together; then, and only then, an earlier state shows.
fn check_block(golden: &Golden, image: &Image, what: &str) {
    if *image == golden.image {
        return;
    }
    if let Outcome::Whole { noticed } = judge(golden, image, what) {
        assert!(noticed, "{what}: verify finds nothing");
    }
}

#[test]
fn random_damage_in_several_places() {
    let golden = golden();
    let mut random = Random(7);
    for case in 0..20_000 {
        let mut image = golden.image.clone();
        for _ in 0..=random.below(4) {
            let name = [DAT, IDX, MANIFEST][random.below(3)];
            let bytes = image.files.get_mut(Path::new(name)).expect("the golden store has it");
            let at = random.below(bytes.len().max(1));
            match random.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..),
                2 => bytes.insert(at.min(bytes.len()), 0x5A),
                _ => bytes.iter_mut().skip(at).take(1 + random.below(9)).for_each(|b| *b ^= 0xA5),
            }
        }
        if image != golden.image {
            judge(&golden, &image, &format!("random case {case}"));
        }
    }
}

/// F11: a file of another store, or of an earlier time.
#[test]
fn files_that_do_not_belong_together_are_refused() {
    let golden = golden();
    let mut other = identity();
    other.salt = [1; 16];
    let disk = SimDisk::new(&root());
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let store =
        VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, other, &options()).expect("made");
    store.put_many(&["a", "b", "c", "d", "b", "e", "f"], &[1.0; 7 * DIM as usize]).expect("stored");
    store.close().expect("closed");
    let stranger = disk.image();
    for name in [DAT, IDX, MANIFEST] {
        let path = PathBuf::from(name);
        let image = changed(&golden, name, |bytes| bytes.clone_from(&stranger.files[&path]));
        assert_eq!(judge(&golden, &image, &format!("a stranger's {name}")), Outcome::Refused);
    }
}

#[test]
fn an_old_dat_beside_a_newer_log_is_refused() {
    let golden = golden();
    let image = changed(&golden, DAT, |bytes| bytes.truncate(256 + 4 * 16));
    let error =
        VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new(DIR)).expect_err("short");
    assert!(matches!(&error, Error::Corrupt { path, offset: 320, .. } if path == Path::new(DAT)), "{error}");
}

/// I14: damage never triggers deletion or re-creation.
#[test]
fn a_store_without_manifest_is_never_started_over() {
    assert!(!a_store_is_started_over_now());
}

#[test]
fn swapped_rows_are_found() {
    let golden = golden();
    let image = changed(&golden, DAT, |bytes| {
        let first = bytes[256..272].to_vec();
        bytes.copy_within(272..288, 256);
        bytes[272..288].copy_from_slice(&first);
    });
    let store =
        VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new(DIR)).expect("opens");
    assert!(store.get("a").is_err_and(|error| error.is_corrupt()));
    assert_eq!(store.verify().expect("readable").damage.len(), 2);
}

#[test]
fn rot_never_comes_out_of_get() {
    assert!(!rot_slips_through_now());
}

#[test]
fn a_broken_log_with_proof_behind_it_is_refused() {
    assert!(!lost_batches_slip_through_now());
}

fn rot_slips_through_now() -> bool {
    let golden = golden();
    let image = changed(&golden, DAT, |bytes| bytes[260] ^= 1);
    let store =
        VectorStore::open_read_only_on(Arc::new(SimDisk::new(&image)), Path::new(DIR)).expect("opens");
    store.get("a").is_ok() || store.search(&[0.0; DIM as usize], 9).is_ok()
}

fn lost_batches_slip_through_now() -> bool {
    let golden = golden();
    let mut image = changed(&golden, IDX, |bytes| bytes[340] ^= 1);
    // With it opening does not read the log; reading a row whose id is hurt does.
    image.files.remove(Path::new("/s/00000001.ids"));
    VectorStore::open_on(Arc::new(SimDisk::new(&image)), Path::new(DIR), &options()).is_ok()
}

fn a_store_is_started_over_now() -> bool {
    let mut image = golden().image;
    image.files.remove(Path::new(MANIFEST));
    image.files.remove(Path::new("/s/00000001.ids"));
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(&image));
    VectorStore::create_on(disk, Path::new(DIR), DIM, Metric::L2, identity(), &options()).is_ok()
}

// For the tests of the tests: is the bug noticed by the test above?

pub(super) fn rot_slips_through(bug: Bug) -> bool {
    with(bug, rot_slips_through_now)
}

pub(super) fn lost_batches_slip_through(bug: Bug) -> bool {
    with(bug, lost_batches_slip_through_now)
}

pub(super) fn a_store_is_started_over(bug: Bug) -> bool {
    with(bug, a_store_is_started_over_now)
}

/// A log that was made 64 GiB long, of nothing: what is behind the longest log that can be is not read, and is cut.
#[test]
fn a_log_longer_than_any_is_read_to_the_length_of_the_longest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let store = options().create(&path, DIM, Metric::L2).expect("made");
    store.put("a", &[1.0; DIM as usize]).expect("stored");
    store.close().expect("closed");
    let name = path.join("00000001.idx");
    let log = open_file(OsDisk::default(), &name, Open::ReadWrite).expect("there");
    if log.set_len(64 << 30).is_err() {
        // A file system that has no such files.
        return;
    }
    drop(log);
    let faulty = FaultDisk::new(Arc::new(OsDisk::default()), None);
    let store = VectorStore::open_on(Arc::new(faulty.clone()), &path, &options()).expect("opens");
    assert_eq!(store.get("a").expect("read"), Some(vec![1.0; DIM as usize]));
    store.close().expect("closed");
    let reads = faulty.seen().iter().filter(|call| **call == "read_at").count();
    // Of a file of 64 GiB there would be sixteen times as many.
    assert!((2_000..5_000).contains(&reads), "{reads} reads");
    let log = open_file(OsDisk::default(), &name, Open::Read).expect("there");
    assert!(log.len().expect("known") < 4096);
}
