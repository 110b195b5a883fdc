//! The Python reader in `format.md` works: it reads back, bit for bit, what this library wrote.
#![expect(clippy::disallowed_methods, reason = "the test damages files from outside of the library")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use vecstone::{Metric, VectorStore};

const FORMAT: &str = include_str!("../src/format/format.md");
const DIM: usize = 5;

/// Prints each live row as `id` and the hexadecimal bytes of its components.
const DRIVER: &str = r#"
import sys
for id, vector in live_rows(sys.argv[1]):
    assert vector.itemsize == 4
    print(id, vector.tobytes().hex(), sep="\t")
"#;

/// Compares the mapped array with the bytes behind the header.
const NUMPY: &str = r#"
import sys
import numpy
path, rows, dim = sys.argv[1] + ".dat", int(sys.argv[2]), int(sys.argv[3])
array = numpy.memmap(path, "<f4", "r", 256, (rows, dim))
assert array.tobytes() == open(path, "rb").read()[256:]
print(array.shape)
"#;

#[test]
fn the_python_reader_of_the_format_page_reads_a_store() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let (expected, rows) = write_store(&path);
    let pair = path.join("00000001");

    let Some(printed) = python(&(python_block(FORMAT) + DRIVER), &[&pair.display().to_string()]) else {
        return;
    };
    let found: BTreeMap<String, Vec<u32>> = printed.lines().map(parse).collect();
    assert_eq!(printed.lines().count(), found.len(), "an id came twice");
    assert_eq!(found, expected);

    let args = [pair.display().to_string(), rows.to_string(), DIM.to_string()];
    if python("import numpy", &[]).is_none() {
        eprintln!("skipped numpy.memmap: numpy is not installed");
        return;
    }
    let shape = python(NUMPY, &args.each_ref().map(String::as_str)).expect("numpy is there");
    assert_eq!(shape.trim(), format!("({rows}, {DIM})"));
}

#[test]
fn the_python_reader_leaves_out_what_was_not_committed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    let (expected, _) = write_store(&path);
    let pair = path.join("00000001");
    // A put without a COMMIT, as a crash in the middle of a write leaves it, and a record cut short.
    let idx = path.join("00000001.idx");
    let mut log = std::fs::read(&idx).expect("the log");
    log.extend_from_slice(
        &[&3u32.to_le_bytes()[..], b"new", &256u64.to_le_bytes(), &[9, 0, 0, 0, b'x']].concat(),
    );
    std::fs::write(&idx, log).expect("written");

    let Some(printed) = python(&(python_block(FORMAT) + DRIVER), &[&pair.display().to_string()]) else {
        return;
    };
    assert_eq!(printed.lines().map(parse).collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn the_python_reader_reads_a_golden_store() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1");
    let pair = home.join("strings/00000001");
    let Some(printed) = python(&(python_block(FORMAT) + DRIVER), &[&pair.display().to_string()]) else {
        return;
    };
    let text = std::fs::read_to_string(home.join("strings.txt")).expect("a text");
    let component = |bits: &[u8]| {
        let bits = std::str::from_utf8(bits).expect("ASCII");
        u32::from_str_radix(bits, 16).expect("hexadecimal")
    };
    let row = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        ["row", id, bits, _] => Some((id.to_owned(), bits.as_bytes().chunks(8).map(component).collect())),
        _ => None,
    };
    let expected: BTreeMap<String, Vec<u32>> = text.lines().filter_map(row).collect();
    assert_eq!(printed.lines().map(parse).collect::<BTreeMap<_, _>>(), expected);
}

/// Puts, replaces and deletes in several batches; returns the live rows and the number of all rows.
fn write_store(path: &Path) -> (BTreeMap<String, Vec<u32>>, usize) {
    let dim = u32::try_from(DIM).expect("small");
    let store = VectorStore::create(path, dim, Metric::L2).expect("created");
    let mut expected = BTreeMap::new();
    let mut rows = 0;
    let mut put = |ids: &[&str]| {
        let vectors: Vec<f32> = (0..ids.len() * DIM).map(|at| value(rows * DIM + at)).collect();
        store.put_many(ids, &vectors).expect("stored");
        for (id, vector) in ids.iter().zip(vectors.chunks_exact(DIM)) {
            expected.insert((*id).to_owned(), vector.iter().map(|x| x.to_bits()).collect::<Vec<u32>>());
        }
        rows += ids.len();
    };
    put(&["a", "b", "c", "ünïcödé 🗿"]);
    store.flush().expect("flushed");
    put(&["b", "d"]);
    put(&["twice", "e", "twice"]);
    store.flush().expect("flushed");
    put(&[&"long ".repeat(1000)]);
    for id in ["a", "d"] {
        assert!(store.delete(id).expect("deleted"));
        expected.remove(id);
    }
    // Deleted, then stored again.
    let last = [value(1_000_003), 0.0, -0.0, f32::MAX, f32::from_bits(1)];
    store.put("d", &last).expect("stored");
    expected.insert("d".to_owned(), last.iter().map(|x| x.to_bits()).collect());
    store.close().expect("closed");
    (expected, rows + 1)
}

/// Finite, different at each place, with all bits in use.
fn value(at: usize) -> f32 {
    let at = u32::try_from(at).expect("small");
    f32::from_bits(0x3F00_0000 | (at.wrapping_mul(2_654_435_761) & 0x00FF_FFFF))
}

/// The first ```python block of a page.
fn python_block(page: &str) -> String {
    let (_, rest) = page.split_once("```python\n").expect("a python block");
    let (block, _) = rest.split_once("\n```").expect("an end of the block");
    format!("{block}\n")
}

fn parse(line: &str) -> (String, Vec<u32>) {
    let (id, hex) = line.split_once('\t').expect("id and vector");
    assert_eq!(hex.len(), DIM * 8, "{id}");
    let component =
        |at: usize| u32::from_str_radix(&hex[at * 8..at * 8 + 8], 16).expect("hexadecimal").swap_bytes();
    (id.to_owned(), (0..DIM).map(component).collect())
}

/// What a script prints; `None`, with a message, if there is no Python or the module it imports is missing.
fn python(script: &str, args: &[&str]) -> Option<String> {
    let ran = Command::new("python3").env("PYTHONUTF8", "1").arg("-c").arg(script).args(args).output();
    let output = match ran {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: python3 is not installed");
            return None;
        }
        Err(error) => panic!("python3: {error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("ModuleNotFoundError") {
        return None;
    }
    assert!(output.status.success(), "python3 failed:\n{complaint}");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}
