//! What the tests of threads, processes and forks share: rows that tell what they are, dice, a guard against hanging,
//! and other processes.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "seen from outside: a test may look at the files, and its numbers are small"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};
use vecstone::{AsId, Id, Snapshot};

/// The row of a version of an id: both are in it, and every component depends on both, so that any mixture shows.
/// Numbers below 2^24 only.
pub(crate) fn row(dim: usize, id: u64, version: u64) -> Vec<f32> {
    let mix = |i: u64| ((id * 31 + version * 131 + i * 17) % 4093) as f32;
    [id as f32, version as f32].into_iter().chain((2..dim as u64).map(mix)).collect()
}

/// The version of an id that a row holds, all of it.
pub(crate) fn version_in(vector: &[f32], id: u64) -> u64 {
    let version = vector[1] as u64;
    assert_eq!(vector, row(vector.len(), id, version), "not a row of id {id}");
    version
}

pub(crate) fn number(id: &Id) -> u64 {
    let Id::U64(number) = id else { panic!("not a number: {id:?}") };
    *number
}

/// All ids and versions of a snapshot in the order of writing; checks that each row is intact, each id is there once,
/// and the number of ids is what it says.
pub(crate) fn content(snapshot: &Snapshot) -> Vec<(u64, u64)> {
    let rows: Vec<(u64, u64)> = snapshot
        .iter()
        .map(|item| {
            let (id, vector) = item.expect("readable");
            (number(&id), version_in(&vector, number(&id)))
        })
        .collect();
    let mut ids: Vec<u64> = rows.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "an id comes twice");
    assert_eq!(snapshot.len(), rows.len());
    rows
}

pub(crate) fn version_of(snapshot: &Snapshot, id: impl AsId + Copy) -> Option<u64> {
    let vector = snapshot.get(id).expect("readable")?;
    Some(version_in(&vector, number(&id.as_id().to_id())))
}

/// Dice that fall the same way in each run (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Ends the process if it is still held after two minutes: a test that hangs is to fail.
pub(crate) struct Deadline {
    _alive: Sender<()>,
}

pub(crate) fn deadline(what: &'static str) -> Deadline {
    let (alive, ended) = channel::<()>();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{what}: hangs");
            std::process::abort();
        }
    });
    Deadline { _alive: alive }
}

pub(crate) fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("store");
    (dir, path)
}

/// Names, lengths, times of change and bytes of all files.
pub(crate) fn files(path: &Path) -> Vec<(PathBuf, SystemTime, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(path)
        .expect("a directory")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let modified = std::fs::metadata(&path).and_then(|of| of.modified()).expect("known");
            let bytes = std::fs::read(&path).expect("readable");
            (path, modified, bytes)
        })
        .collect();
    found.sort();
    found
}

const ROLE: &str = "VECSTONE_TEST_ROLE";
const STORE: &str = "VECSTONE_TEST_STORE";
const NUMBER: &str = "VECSTONE_TEST_NUMBER";

/// In a process that [`Other::start`] made: its role, store and number.
pub(crate) fn role() -> Option<(String, PathBuf, u64)> {
    let role = std::env::var(ROLE).ok()?;
    let number = std::env::var(NUMBER).expect("given").parse().expect("a number");
    Some((role, std::env::var_os(STORE).expect("given").into(), number))
}

/// Says a line to the process that started this one. One call of the system: a kill leaves all of it or nothing.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // In front of it may stand what the test harness prints.
    out.write_all(format!("\n@{line}\n").as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
}

/// Another process: this test binary, which runs the test `name` only. Killed when dropped.
pub(crate) struct Other {
    process: Child,
    pub(crate) to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Other {
    pub(crate) fn start(name: &str, role: &str, store: &Path, number: u64) -> Other {
        let mut process = Command::new(std::env::current_exe().expect("known"))
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(STORE, store)
            .env(NUMBER, number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let from = BufReader::new(process.stdout.take().expect("piped"));
        Other { to: process.stdin.take(), process, from }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line it says; `None` once nobody can say any more.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line).expect("readable") == 0 {
                return None;
            }
            if let Some(line) = line.strip_prefix('@') {
                return Some(line.trim_end().to_owned());
            }
        }
    }

    /// The next line must be this one.
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.hear().as_deref(), Some(line));
    }

    /// Sends a line, in one piece; false if nobody reads any more.
    pub(crate) fn tell(&mut self, line: &str) -> bool {
        self.to.as_mut().is_some_and(|to| to.write_all(format!("{line}\n").as_bytes()).is_ok())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("waited for");
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end(mut self) {
        drop(self.to.take());
        while let Some(line) = self.hear() {
            println!("{line}");
        }
        assert!(self.process.wait().expect("waited for").success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
