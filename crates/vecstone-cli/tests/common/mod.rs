//! Runs the binary, and writes .npy files by hand.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BIN: &str = env!("CARGO_BIN_EXE_vecstone");

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The command worked.
    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The command failed with this code and one line that holds each of `parts`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, parts: &[&str]) -> Done {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let lines: Vec<&str> =
            self.stderr.lines().filter(|line| !line.starts_with("acknowledged ")).collect();
        assert_eq!(lines.len(), 1, "one line on stderr: {self:#?}");
        assert!(lines[0].starts_with("vecstone: "), "{self:#?}");
        for part in parts {
            assert!(lines[0].contains(part), "{part:?} is not in {:?}", lines[0]);
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// One JSON value a line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// A directory to work in.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `vecstone` with this directory as the working directory.
    pub(crate) fn run(&self, args: &[impl AsRef<OsStr>]) -> Done {
        finish(Command::new(BIN).args(args).current_dir(self.dir.path()))
    }

    /// Starts `vecstone` and leaves its output to be read.
    pub(crate) fn start(&self, args: &[impl AsRef<OsStr>]) -> Child {
        let mut command = Command::new(BIN);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs `vecstone` under a shell's limit, as in "ulimit -f 100".
    pub(crate) fn run_limited(&self, limit: &str, args: &[&str]) -> Done {
        let script = format!("{limit} && exec \"$0\" \"$@\"");
        finish(Command::new("sh").args(["-c", &script, BIN]).args(args).current_dir(self.dir.path()))
    }

    /// Writes `rows` rows of `dim` made-up components and their ids, and returns both.
    pub(crate) fn rows(&self, name: &str, rows: usize, dim: usize) -> (Vec<String>, Vec<f32>) {
        let ids: Vec<String> = (0..rows).map(|row| format!("id-{row:08}")).collect();
        let vectors = vectors(rows, dim);
        self.write(&format!("{name}.npy"), npy_f32(&vectors, dim));
        self.write(&format!("{name}.ids"), ids.iter().map(|id| id.clone() + "\n").collect::<String>());
        (ids, vectors)
    }

    /// Every file of a store but LOCK, whose content is only a hint.
    pub(crate) fn files(&self, store: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.path(store)) else { return BTreeMap::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| !path.ends_with("LOCK"))
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect()
    }

    /// Exports a store and returns its ids and vectors.
    pub(crate) fn exported(&self, store: &str) -> (Vec<String>, Vec<f32>) {
        self.run(&["export", store, "exported.npy", "--ids", "exported.ids", "--force"]).ok();
        let ids = fs::read_to_string(self.path("exported.ids")).unwrap().lines().map(str::to_owned).collect();
        (ids, f32_of(&fs::read(self.path("exported.npy")).unwrap()))
    }
}

fn finish(command: &mut Command) -> Done {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Kills a child once it has acknowledged `rows` rows; returns the last number it acknowledged.
pub(crate) fn kill_after(mut child: Child, rows: usize) -> usize {
    let mut acknowledged = 0;
    let mut killed = false;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(rest) = line.strip_prefix("acknowledged ") {
            acknowledged = rest.split(' ').next().unwrap().parse().unwrap();
        }
        if acknowledged >= rows && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    acknowledged
}

/// Different rows of moderate numbers, the same in every run.
pub(crate) fn vectors(rows: usize, dim: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Exact in float16 too: a whole number of 64ths, at most 8 in size.
        (f32::from(u16::try_from(state % 1024).unwrap()) - 512.0) / 64.0
    };
    (0..rows * dim).map(|_| next()).collect()
}

/// A .npy file, version 1.0.
pub(crate) fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn npy_f32(vectors: &[f32], dim: usize) -> Vec<u8> {
    npy("'<f4'", false, &format!("({}, {dim})", vectors.len() / dim), &le_bytes(vectors))
}

pub(crate) fn le_bytes(vectors: &[f32]) -> Vec<u8> {
    vectors.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// The components of a version 1.0 float32 C-order file.
pub(crate) fn f32_of(npy: &[u8]) -> Vec<f32> {
    let header = usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    npy[10 + header..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub(crate) fn bits(vectors: &[f32]) -> Vec<u32> {
    vectors.iter().map(|x| x.to_bits()).collect()
}

/// The bundled data: 4,096 rows of dim 384.
pub(crate) fn debian() -> (PathBuf, PathBuf) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    (data.join("debian-4096x384.npy"), data.join("debian-4096.ids"))
}
