//! The golden stores of each format version are read as the texts beside them say, whole and damaged. `docs/testing.md`
//! describes the texts.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test may copy and damage files")]

mod helpers;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use vecstone::{Error, Id, IdKind, OpenOptions, Result, Snapshot, Uuid, VectorStore};

const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Ids, the bits of their vectors, and their documents.
type Rows = BTreeMap<Id, (String, Option<String>)>;

/// The stores of all versions, by the text beside them.
fn golden() -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let mut texts: Vec<_> = entries(Path::new(HOME)).iter().flat_map(|version| entries(version)).collect();
    texts.retain(|path| path.extension() == Some(OsStr::new("txt")) && !path.ends_with("damaged.txt"));
    texts.sort();
    assert!(texts.len() >= 10, "{texts:?}");
    texts
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text")
}

/// A copy of a golden store.
fn copy(text: &Path) -> (tempfile::TempDir, PathBuf) {
    let (dir, to) = helpers::temp();
    std::fs::create_dir(&to).expect("made");
    for entry in std::fs::read_dir(text.with_extension("")).expect("a store") {
        let entry = entry.expect("an entry");
        let bytes = std::fs::read(entry.path()).expect("readable");
        std::fs::write(to.join(entry.file_name()), bytes).expect("written");
    }
    (dir, to)
}

fn bits(vector: &[f32]) -> String {
    vector.iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

fn vector(bits: &str) -> Vec<f32> {
    let component = |at: usize| u32::from_str_radix(&bits[at..at + 8], 16).expect("hexadecimal");
    (0..bits.len()).step_by(8).map(|at| f32::from_bits(component(at))).collect()
}

fn id(kind: Option<IdKind>, text: &str) -> Id {
    match kind {
        Some(IdKind::U64) => Id::from(text.parse::<u64>().expect("a number")),
        Some(IdKind::Uuid) => Id::from(text.parse::<Uuid>().expect("a uuid")),
        _ => Id::from(text),
    }
}

fn rows(snapshot: &Snapshot) -> Result<Rows> {
    let row =
        |row: Result<(Id, Vec<f32>, _)>| row.map(|(id, vector, document)| (id, (bits(&vector), document)));
    snapshot.iter_with_documents().map(row).collect()
}

/// What a store says, in the form of the text beside it, which asks the questions.
fn told(store: &VectorStore, asked: &str) -> Result<String> {
    let (snapshot, found) = (store.snapshot()?, store.recovery());
    let mut told = String::new();
    let mut line = |fields: &[&str]| writeln!(told, "{}", fields.join("\t")).expect("in memory");
    line(&["metric", snapshot.metric().name()]);
    line(&["dim", &snapshot.dim().to_string()]);
    line(&["kind", snapshot.kind().map_or("-", IdKind::name)]);
    let torn = format!(
        "unproven {} dropped .idx {} .dat {} .jsonl {}",
        found.unproven_batches, found.dropped_idx_bytes, found.dropped_dat_bytes, found.dropped_jsonl_bytes
    );
    line(&["recovery", if found.clean { "clean" } else { &torn }]);
    line(&["attributes", snapshot.attributes().unwrap_or("-")]);
    let rows = rows(&snapshot)?;
    assert_eq!(rows.len(), snapshot.len());
    for (id, (bits, document)) in &rows {
        line(&["row", &id.to_string(), bits, document.as_deref().unwrap_or("-")]);
        assert_eq!(snapshot.get(id)?.map(|vector| self::bits(&vector)).as_ref(), Some(bits), "{id}");
        assert_eq!(&snapshot.get_document(id)?, document, "{id}");
    }
    for asked in asked.lines().map(|line| line.split('\t').collect::<Vec<_>>()) {
        match asked[..] {
            ["gone", text] => {
                line(&["gone", text]);
                let id = id(snapshot.kind(), text);
                assert!(!snapshot.contains(&id)? && snapshot.get(&id)?.is_none(), "{text} is there");
            }
            ["search", query, k] => {
                line(&["search", query, k]);
                for hit in &snapshot.search(&vector(query), k.parse().expect("a number"))? {
                    line(&["hit", &hit.id.to_string(), &bits(&[hit.distance])]);
                }
            }
            _ => {}
        }
    }
    Ok(told)
}

fn reader(path: &Path) -> Result<VectorStore> {
    VectorStore::open_read_only(path)
}

/// Ends a text that differs at the line where it does.
#[track_caller]
fn assert_same(path: &Path, found: &str) {
    let expected = text(path);
    let differ = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let at = differ.unwrap_or(found.lines().count().min(expected.lines().count()));
    let lines = [found, &*expected].map(|text| text.lines().nth(at).unwrap_or("the end").to_owned());
    assert!(found == expected, "{}:{}: {lines:#?}\nall of it:\n{found}", path.display(), at + 1);
}

#[test]
fn a_golden_store_is_read_as_its_text_says() {
    for golden in golden() {
        let (_dir, path) = copy(&golden);
        let store = reader(&path).expect("opened");
        assert_same(&golden, &told(&store, &text(&golden)).expect("readable"));
        for report in [store.verify(), VectorStore::verify_path(&path)] {
            let report = report.expect("verified");
            assert!(report.is_ok(), "{}: {:?}", golden.display(), report.damage);
        }
        // All of this changes nothing.
        for file in std::fs::read_dir(&path).expect("a store").map(|entry| entry.expect("an entry")) {
            let kept = std::fs::read(golden.with_extension("").join(file.file_name())).expect("a file");
            assert!(std::fs::read(file.path()).expect("a file") == kept, "{:?} changed", file.path());
        }
    }
}

#[test]
fn a_golden_store_is_written_to() {
    for golden in golden() {
        let (dir, path) = copy(&golden);
        let clean = text(&golden).contains("recovery\tclean\n");
        let strict = OpenOptions::new().strict(true).open(&path);
        assert_eq!(strict.is_ok(), clean, "{}: {strict:?}", golden.display());
        drop(strict);

        let store = VectorStore::open(&path).expect("opened");
        let snapshot = store.snapshot().expect("a snapshot");
        let mut expected = rows(&snapshot).expect("readable");
        let new = match snapshot.kind() {
            Some(IdKind::U64) => Id::from(77),
            Some(IdKind::Uuid) => Id::from(Uuid::from_u128(77)),
            _ => Id::from("new"),
        };
        let row: Vec<f32> = (0..store.dim()).map(|at| if at % 2 == 0 { 0.5 } else { -3.0 }).collect();
        store.put_with_document(&new, &row, "{\"new\":[]}").expect("stored");
        if let Some((id, _)) = expected.pop_first() {
            assert!(store.delete(&id).expect("deleted"));
        }
        expected.insert(new, (bits(&row), Some("{\"new\":[]}".to_owned())));
        let whole = |store: &VectorStore, when: &str| {
            let snapshot = store.snapshot().expect("a snapshot");
            assert_eq!(rows(&snapshot).expect("readable"), expected, "{} {when}", golden.display());
            let report = store.verify().expect("verified");
            assert!(report.is_ok(), "{} {when}: {:?}", golden.display(), report.damage);
            snapshot.attributes().map(str::to_owned)
        };
        let attributes = whole(&store, "written to");
        store.compact().expect("compacted");
        assert_eq!(whole(&store, "compacted"), attributes);
        store.close().expect("closed");
        let store = VectorStore::open(&path).expect("opened again");
        assert!(store.recovery().clean);
        assert_eq!(whole(&store, "opened again"), attributes);
        let copy = dir.path().join("copy");
        store.backup(&copy).expect("copied");
        assert_eq!(whole(&reader(&copy).expect("opened"), "copied"), attributes);
    }
}

#[test]
fn a_backup_of_a_golden_store_is_equal() {
    for golden in golden() {
        let (dir, path) = copy(&golden);
        let copy = dir.path().join("copy");
        reader(&path).expect("opened").backup(&copy).expect("copied");
        // A backup is closed, whatever its original was.
        let clean = |text: String| {
            let line = |line| if str::starts_with(line, "recovery\t") { "recovery\tclean" } else { line };
            text.lines().map(line).collect::<Vec<_>>().join("\n")
        };
        let asked = text(&golden);
        let found = told(&reader(&copy).expect("opened"), &asked).expect("readable");
        assert_eq!(clean(found), clean(asked), "{}", golden.display());
    }
}

#[test]
fn every_kind_of_file_is_there() {
    let stores = golden().into_iter().map(|text| text.with_extension(""));
    let files = stores.flat_map(|path| std::fs::read_dir(path).expect("a store"));
    let names: Vec<_> =
        files.map(|file| file.expect("an entry").file_name().into_string().expect("a name")).collect();
    let kind = |name: &String| name.rsplit_once('.').map_or(name.clone(), |(_, kind)| kind.to_owned());
    let kinds: BTreeSet<_> = names.iter().map(kind).collect();
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["LOCK", "MANIFEST", "dat", "del", "ids", "idx", "jsonl", "new", "side"]
    );
}

// ---- damaged ones ----

/// An error in plain words: what, file, and offset or number.
fn plain(error: &Error) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    match error {
        Error::Corrupt { path, offset, .. } => format!("damaged\t{}\t{offset}", name(path)),
        Error::Unsupported { path, what, found, .. } => {
            format!("unsupported\t{}\t{what} {found}", name(path))
        }
        other => format!("other\t{other:?}"),
    }
}

/// Does what a line says to the store at `path`; false if the line says something else.
fn edit(path: &Path, line: &str) -> bool {
    let fields: Vec<_> = line.split('\t').collect();
    let change = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(path.join(file)).expect("a file");
        let before = bytes.clone();
        change(&mut bytes);
        assert!(bytes != before, "{line}: changes nothing");
        std::fs::write(path.join(file), bytes).expect("written");
    };
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match fields[..] {
        ["set", file, at, hex] => change(file, &|bytes| {
            for (n, byte) in (0..hex.len()).step_by(2).enumerate() {
                bytes[number(at) + n] = u8::from_str_radix(&hex[byte..byte + 2], 16).expect("hexadecimal");
            }
        }),
        ["cut", file, len] => change(file, &|bytes| bytes.truncate(number(len))),
        ["remove", file] => std::fs::remove_file(path.join(file)).expect("removed"),
        _ => return false,
    }
    true
}

/// What comes of a damaged store: for a reader, for `verify`, and for `repair`, which is compared with the `golden` one.
fn outcome(path: &Path, golden: &Rows) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("in memory");
    match reader(path) {
        Err(error) => line(format!("open\t{}", plain(&error))),
        Ok(store) => {
            line("open\tok".to_owned());
            let snapshot = store.snapshot().expect("a snapshot");
            for (id, (bits, document)) in golden {
                match snapshot.get(id) {
                    Err(error) => line(format!("get\t{id}\t{}", plain(&error))),
                    Ok(None) => line(format!("get\t{id}\tnothing")),
                    Ok(Some(vector)) if self::bits(&vector) != *bits => {
                        line(format!("get\t{id}\tanother row"))
                    }
                    Ok(Some(_)) => {}
                }
                match snapshot.get_document(id) {
                    Err(error) => line(format!("get_document\t{id}\t{}", plain(&error))),
                    Ok(found) if found != *document => line(format!("get_document\t{id}\tanother document")),
                    Ok(_) => {}
                }
            }
        }
    }
    match VectorStore::verify_path(path) {
        Err(error) => line(format!("verify\t{}", plain(&error))),
        Ok(report) => {
            for damage in &report.damage {
                let name = damage.path.file_name().unwrap_or_default().display();
                let id = damage.id.as_ref().map_or("-".to_owned(), Id::to_string);
                line(format!("verify\t{name}\t{}\t{id}", damage.offset));
            }
            if report.tail_bytes > 0 {
                line(format!("verify\t{} bytes behind what counts", report.tail_bytes));
            }
        }
    }
    let to = path.with_extension("repaired");
    match VectorStore::repair(path, &to) {
        Err(error) => line(format!("repair\t{}", plain(&error))),
        Ok(report) => {
            let saved =
                rows(&reader(&to).expect("opened").snapshot().expect("a snapshot")).expect("readable");
            let same = saved.iter().filter(|(id, row)| golden.get(*id) == Some(*row)).count();
            line(format!("repair\t{} rows of {}, {same} as they were", saved.len(), golden.len()));
            for dropped in report.dropped {
                let name = dropped.path.file_name().unwrap_or_default().display();
                let id = dropped.id.as_ref().map_or("-".to_owned(), Id::to_string);
                line(format!("repair drops\t{name}\t{}\t{id}", dropped.offset));
            }
        }
    }
    // Last, since it changes what it opens.
    if let Err(error) = VectorStore::open(path) {
        line(format!("open to write\t{}", plain(&error)));
    }
    out
}

/// Each entry of the list: a title, the store, the edits; then what must come of it.
#[test]
fn damaged_golden_stores_end_as_their_list_says() {
    let list = Path::new(HOME).join("v1/damaged.txt");
    let mut found = Vec::new();
    for entry in text(&list).split("\n\n").map(str::trim_end) {
        let mut lines = entry.lines().filter(|line| line.starts_with("store\t") || line.starts_with('#'));
        let Some(store) = lines.find_map(|line| line.strip_prefix("store\t")) else {
            found.push(entry.to_owned());
            continue;
        };
        let golden = list.with_file_name(format!("{store}.txt"));
        let (_dir, path) = copy(&golden);
        let whole = rows(&reader(&path).expect("opened").snapshot().expect("a snapshot")).expect("readable");
        let edits: Vec<_> = entry.lines().filter(|line| edit(&path, line)).collect();
        assert!(!edits.is_empty(), "{entry}");
        let title = entry.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n"));
        found.push(format!(
            "{}store\t{store}\n{}\n{}",
            title.collect::<String>(),
            edits.join("\n"),
            outcome(&path, &whole).trim_end()
        ));
    }
    assert_same(&list, &(found.join("\n\n") + "\n"));
}
