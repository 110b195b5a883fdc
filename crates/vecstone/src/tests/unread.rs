//! What cannot be read now is not removed: an error of reading says nothing about what is there.

use super::hostile::{file, vector};
use super::model::{DIM, DIR, Run, identity, options, root};
use super::side::KINDS;
use crate::segment::side;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::error::{Error, Result};
use crate::{Metric, VectorStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// EIO, EMFILE, EACCES, ENOMEM, EINTR.
const ERRORS: [i32; 5] = [5, 24, 13, 12, 4];

fn open(disk: &FaultDisk) -> Result<VectorStore> {
    VectorStore::open_on(Arc::new(disk.clone()), Path::new(DIR), &options())
}

/// Opens an image for writing, each call of that failing in turn; none of these files may go.
fn nothing_goes(image: &Image, kept: &[PathBuf]) {
    let whole = FaultDisk::new(Arc::new(SimDisk::new(image)), None);
    _ = open(&whole);
    let calls = whole.seen().len();
    for call in 0..calls {
        for (code, for_ever) in ERRORS.into_iter().flat_map(|code| [(code, false), (code, true)]) {
            let disk = SimDisk::new(image);
            let plan = Plan { call, fault: Fault::Os(code), for_ever };
            _ = open(&FaultDisk::new(Arc::new(disk.clone()), Some(plan)));
            let after = disk.image().files;
            for path in kept {
                let (name, what) = (path.display(), whole.seen()[call]);
                assert!(after.contains_key(path), "{name} is gone after error {code} at {what}, call {call}");
            }
        }
    }
    assert!(calls > 20, "only {calls} calls");
}

/// A store whose second segment holds what was written last, under a MANIFEST from before that segment was made.
fn with_an_old_manifest() -> Image {
    let disk = SimDisk::new(&root());
    let options = options().segment_records(3);
    let door = Arc::new(disk.clone());
    let store = VectorStore::create_on(door, Path::new(DIR), DIM, Metric::L2, identity(), &options);
    let store = store.expect("made");
    let put = |id: &str| store.put(id, &vector(id)).and_then(|()| store.flush()).expect("stored");
    ["a", "b", "c"].into_iter().for_each(put);
    let old = disk.image().files[&file("MANIFEST")].clone();
    ["d", "e"].into_iter().for_each(put);
    store.close().expect("closed");
    let mut image = disk.image();
    assert_ne!(image.files.insert(file("MANIFEST"), old).as_ref(), image.files.get(&file("MANIFEST")));
    image
}

#[test]
fn a_log_that_cannot_be_read_is_not_taken_for_a_leftover() {
    let image = with_an_old_manifest();
    let refused = open(&FaultDisk::new(Arc::new(SimDisk::new(&image)), None)).expect_err("MANIFEST is old");
    assert!(refused.is_corrupt(), "{refused}");
    nothing_goes(&image, &[file("00000002.dat"), file("00000002.idx")]);
    // A sector of it that can never be read.
    for bad in [0..256, 300..400] {
        let disk = SimDisk::new(&image);
        let faulty = FaultDisk::with_bad_bytes(Arc::new(disk.clone()), &file("00000002.idx"), bad);
        let error = open(&faulty).expect_err("it may be newer than MANIFEST");
        assert!(matches!(&error, Error::Io { path, .. } if *path == file("00000002.idx")), "{error}");
        assert!(disk.image().files.contains_key(&file("00000002.dat")));
    }
}

/// Which older side files are needed is told by those that need them.
#[test]
fn what_an_unread_side_file_needs_stays() {
    side::with(KINDS, || {
        let mut run = Run::new(SimDisk::new(&root()));
        run.segments_of(3).create().and_then(|()| run.put(&["a", "b", "c"])).expect("put");
        run.flush().and_then(|()| run.build_side_files()).and_then(|()| run.close()).expect("built");
        let mut image = run.disk.image();
        let tally = image.files[&file("00000001.tally.side")].clone();
        image.files.insert(file("00000002.tally.side"), tally);
        let needed = [file("00000001.tally.side"), file("00000001.marks.side")];
        assert!(needed.iter().all(|path| image.files.contains_key(path)), "{:?}", image.files.keys());
        nothing_goes(&image, &needed);
    });
}
