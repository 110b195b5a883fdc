//! Something else in the place of a file: damage of that file, or ignored. Nothing hangs, nothing of others is removed.
#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "the tests stand outside of the library's door to the disk")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use vecstone::{Error, Metric, OpenOptions, VectorStorage, VectorStore};

const KINDS: [&str; 3] = ["directory", "pipe", "socket"];

fn put_in_the_way(path: &Path, kind: &str) {
    if path.exists() {
        fs::remove_file(path).expect("removed");
    }
    match kind {
        "directory" => {
            fs::create_dir(path).expect("made");
            fs::write(path.join("mine"), "kept").expect("written");
        }
        "pipe" => {
            let made = std::process::Command::new("mkfifo").arg(path).status().expect("started");
            assert!(made.success());
        }
        _ => drop(UnixListener::bind(path).expect("bound")),
    }
}

fn options() -> OpenOptions {
    OpenOptions::new().without_background().segment_records(4)
}

/// Three segments with documents, lists of dead rows and indexes.
fn make(path: &Path) {
    let store = options().create(path, 2, Metric::L2).expect("made");
    for n in 0..10u8 {
        let id = format!("id{}", n % 7);
        store.put_with_document(&id, &[f32::from(n), 1.0], "{\"n\": 1}").expect("stored");
        store.flush().expect("flushed");
    }
    store.delete("id6").expect("deleted");
    store.close().expect("closed");
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).expect("listed").map(|entry| entry.expect("read").file_name());
    names.map(|name| name.into_string().expect("text")).collect()
}

#[test]
fn in_the_place_of_a_file_it_is_damage_of_that_file() {
    let place = tempfile::tempdir().expect("made");
    let whole = place.path().join("whole");
    make(&whole);
    let all = names(&whole);
    assert!(["del", "ids", "jsonl"].iter().all(|end| all.iter().any(|name| name.ends_with(end))), "{all:?}");
    for name in all {
        for kind in KINDS {
            let dir = place.path().join(format!("{name}-{kind}"));
            fs::create_dir(&dir).expect("made");
            names(&whole)
                .iter()
                .for_each(|name| _ = fs::copy(whole.join(name), dir.join(name)).expect("copied"));
            let path = dir.join(&name);
            put_in_the_way(&path, kind);
            let what = path.display();
            let report = VectorStore::verify_path(&dir).unwrap_or_else(|error| panic!("{what}: {error}"));
            let named = report.damage.iter().any(|damage| damage.path == path);
            assert!(named || name == "LOCK", "{what}: {:?}", report.damage);
            let new = place.path().join(format!("{name}-{kind}-new"));
            let repaired = VectorStore::repair(&dir, &new).unwrap_or_else(|error| panic!("{what}: {error}"));
            let lost = if name.ends_with("ids") || name == "LOCK" { 0 } else { 4 };
            assert!(repaired.rows + lost >= 6, "{what}: {repaired:?}");
            let optional = name == "LOCK" || name.ends_with("ids");
            match VectorStore::open_read_only(&dir) {
                Ok(reader) => {
                    assert!(optional, "{what} is opened");
                    assert_eq!(reader.len().expect("counted"), 6);
                    reader.stats().expect("counted");
                    let copy = place.path().join(format!("{name}-{kind}-copy"));
                    reader.backup(copy).expect("copied");
                }
                Err(error) => assert!(!optional && error.to_string().contains(&name), "{what}: {error}"),
            }
            match options().open(&dir) {
                Ok(writer) => {
                    assert!(name.ends_with("ids"), "{what} is opened for writing");
                    writer.put("new", &[1.0, 2.0]).expect("stored");
                    writer.compact().expect("compacted");
                    writer.stats().expect("counted");
                    writer.clear().expect("cleared");
                    writer.close().expect("closed");
                }
                Err(error) => assert!(error.to_string().contains(&name), "{what}: {error}"),
            }
            assert!(
                kind != "directory" || name.ends_with("ids") || path.join("mine").exists(),
                "{what} is gone"
            );
        }
    }
}

#[test]
fn in_the_place_of_a_coming_file_it_is_passed_over() {
    let place = tempfile::tempdir().expect("made");
    for kind in KINDS {
        let dir = place.path().join(kind);
        make(&dir);
        let free = ["00000004.dat", "00000005.idx", "00000006.jsonl", "00000001.ids.new", "00000007.ids"];
        free.iter().for_each(|name| put_in_the_way(&dir.join(name), kind));
        let store = options().open(&dir).unwrap_or_else(|error| panic!("{kind}: {error}"));
        for n in 0..20u8 {
            store.put_with_document(format!("more{n}"), &[f32::from(n), 2.0], "1").expect("stored");
            store.flush().expect("flushed");
        }
        store.compact().expect("compacted");
        assert_eq!(store.len().expect("counted"), 26);
        store.stats().expect("counted");
        store.close().expect("closed");
        let report = VectorStore::verify_path(&dir).expect("verified");
        assert!(report.is_ok(), "{kind}: {:?}", report.damage);
        let kept = free.iter().filter(|name| !name.contains("ids")).all(|name| dir.join(name).exists());
        assert!(kept, "{kind}: something is gone");
    }
}

#[test]
fn in_the_place_of_the_next_manifest_it_is_named() {
    let place = tempfile::tempdir().expect("made");
    let dir = place.path().join("s");
    make(&dir);
    put_in_the_way(&dir.join("MANIFEST.new"), "directory");
    let store = options().open(&dir);
    let failed = store.and_then(|store| {
        (0..9u8).try_for_each(|n| store.put(n.to_string(), &[1.0, 1.0]).and_then(|()| store.flush()))?;
        store.clear()
    });
    let error = failed.expect_err("in the way").to_string();
    assert!(error.contains("MANIFEST.new"), "{error}");
    assert!(dir.join("MANIFEST.new/mine").exists());
    fs::remove_dir_all(dir.join("MANIFEST.new")).expect("removed");
    let store = options().open(&dir).expect("opens");
    assert!(store.len().expect("counted") >= 6);
}

#[test]
fn a_bare_pair_names_what_is_in_its_way() {
    let place = tempfile::tempdir().expect("made");
    for kind in KINDS {
        for suffix in ["dat", "idx", "jsonl"] {
            let pair = place.path().join(format!("{kind}-{suffix}"));
            let path = pair.with_extension(suffix);
            put_in_the_way(&path, kind);
            assert!(matches!(VectorStorage::create(&pair, 2), Err(Error::AlreadyExists { .. })));
            let other = place.path().join(format!("{kind}-{suffix}-there"));
            VectorStorage::create(&other, 2).and_then(VectorStorage::close).expect("made");
            let path = other.with_extension(suffix);
            put_in_the_way(&path, kind);
            for opened in [VectorStorage::open(&other), VectorStorage::open_read_only(&other)] {
                let name = path.file_name().expect("a name").to_str().expect("text");
                assert!(opened.is_err_and(|error| error.to_string().contains(name)), "{name}");
            }
        }
    }
}

/// However the place is spelled.
#[test]
fn a_store_is_not_copied_into_itself() {
    let place = tempfile::tempdir().expect("made");
    let (dir, link) = (place.path().join("s"), place.path().join("link"));
    make(&dir);
    std::os::unix::fs::symlink(&dir, &link).expect("linked");
    fs::create_dir(place.path().join("other")).expect("made");
    let before = names(&dir).len();
    let spellings = [
        dir.clone(),
        dir.join("sub"),
        dir.join("."),
        link.join("sub"),
        link.clone(),
        place.path().join("other/../s/b"),
    ];
    for to in spellings {
        let by_repair = VectorStore::repair(&dir, &to).map(drop);
        let by_link = VectorStore::repair(&link, &to).map(drop);
        let by_backup = VectorStore::open_read_only(&dir).expect("opens").backup(&to).map(drop);
        for refused in [by_repair, by_link, by_backup] {
            assert!(matches!(refused, Err(Error::InItself { .. })), "{}: {refused:?}", to.display());
        }
    }
    assert_eq!(names(&dir).len(), before);
    // Beside it, and with a name that begins alike.
    VectorStore::repair(&dir, place.path().join("s2")).expect("repaired");
}
