//! Commands where the machine lacks something: threads, memory, someone who writes to a pipe.
#![cfg(target_os = "linux")]

mod common;

use common::{BIN, Place, bits};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a command in a process of which no thread can be started: each would need a stack larger than all its memory.
fn without_threads(place: &Place, args: &[&str]) -> Output {
    let script = format!("ulimit -v 6000000; exec {BIN} \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "vecstone"]).args(args).current_dir(place.path("."));
    let done = command.env("RUST_MIN_STACK", "1000000000000").env("RUST_BACKTRACE", "1").output().unwrap();
    assert!(!String::from_utf8_lossy(&done.stderr).contains("panicked"), "{args:?}: {done:?}");
    done
}

#[test]
fn everything_works_where_no_thread_can_be_started() {
    let place = Place::new();
    let (ids, vectors) = place.rows("in", 3000, 96);
    let lines = "{\"id\": \"a\", \"vector\": [1, 2]}\n{\"id\": \"b\", \"vector\": [3, 4]}\n";
    std::fs::write(place.path("in.jsonl"), lines).unwrap();
    let commands: [&[&str]; 12] = [
        &["import", "s", "in.npy", "--ids", "in.ids", "--batch-rows", "100"],
        &["import", "s", "in.npy", "--ids", "in.ids", "--resume"],
        &["import", "t", "in.jsonl"],
        &["search", "s", "--id", &ids[0]],
        &["search", "s", "--query", "in.npy"],
        &["delete", "t", "b"],
        &["compact", "t"],
        &["optimize", "s"],
        &["backup", "s", "copy"],
        &["repair", "s", "repaired"],
        &["export", "s", "out.parquet"],
        &["verify", "s"],
    ];
    for args in commands {
        let done = without_threads(&place, args);
        assert!(done.status.success(), "{args:?}: {done:?}");
    }
    for store in ["s", "copy", "repaired"] {
        let (found_ids, found) = place.exported(store);
        assert_eq!((found_ids, bits(&found)), (ids.clone(), bits(&vectors)), "{store}");
    }
}

/// An error of a batch ends the import as it does with a thread.
#[test]
fn a_bad_row_without_threads_is_named() {
    let place = Place::new();
    let lines = "{\"id\": \"a\", \"vector\": [1, 2]}\n{\"id\": \"b\", \"vector\": [3]}\n";
    std::fs::write(place.path("in.jsonl"), lines).unwrap();
    let done = without_threads(&place, &["import", "s", "in.jsonl", "--batch-rows", "1"]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        done.status.code() == Some(2) && said.contains("in.jsonl: line 2: the vector has 1 component"),
        "{said}"
    );
}

/// What is no regular file is refused before it is opened: opening a pipe waits for who writes to it.
#[test]
fn a_pipe_is_refused_at_once() {
    let place = Place::new();
    place.rows("in", 2, 2);
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    place.run(&["import", "s", "in.npy"]).ok();
    let commands: [&[&str]; 5] = [
        &["import", "s", "pipe"],
        &["import", "t", "in.npy", "--ids", "pipe"],
        &["import", "t", "in.npy", "--documents", "pipe"],
        &["search", "s", "--query", "pipe"],
        &["info", "pipe"],
    ];
    for args in commands {
        let mut command = Command::new(BIN);
        command.args(args).current_dir(place.path(".")).stderr(Stdio::piped());
        let (mut child, start) = (command.spawn().unwrap(), Instant::now());
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains("pipe: not a"), "{args:?}: {said}");
    }
}
