//! The command line as a library: more than once in one process, without ending it.

mod common;

use std::ffi::OsString;

use common::Place;
use serde_json::Value;
use vecstone::VectorStore;
use vecstone_cli::{info_json, run};

fn vecstone(place: &Place, args: &[&str]) -> u8 {
    // Paths as they are: the process keeps its own working directory.
    let args = args.iter().map(|arg| match arg.strip_prefix('@') {
        Some(name) => place.path(name).into_os_string(),
        None => OsString::from(arg),
    });
    run([OsString::from("vecstone")].into_iter().chain(args))
}

#[test]
fn commands_run_one_after_the_other() {
    let place = Place::new();
    let (ids, _) = place.rows("in", 20, 3);
    for _ in 0..2 {
        assert_eq!(vecstone(&place, &["import", "@s", "@in.npy", "--ids", "@in.ids"]), 0);
        assert_eq!(vecstone(&place, &["get", "@s", &ids[7]]), 0);
        assert_eq!(vecstone(&place, &["get", "@s", "missing"]), 1);
        assert_eq!(vecstone(&place, &["get", "@missing", "a"]), 2);
        assert_eq!(vecstone(&place, &["bogus"]), 2);
        assert_eq!(vecstone(&place, &["--help"]), 0);
        assert_eq!(vecstone(&place, &["--version"]), 0);
        assert_eq!(vecstone(&place, &[]), 2);
        assert_eq!(run([]), 2);
        assert_eq!(vecstone(&place, &["verify", "@s"]), 0);
    }
}

#[test]
fn info_of_an_open_store_is_what_the_command_prints() {
    let place = Place::new();
    place.rows("in", 20, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let store = VectorStore::open_read_only(place.path("s")).unwrap();
    let mut open: Value = serde_json::from_str(&info_json(&store).unwrap()).unwrap();
    let mut printed = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!(open["live"], 20);
    // The path as it was given; what is in memory varies.
    for value in [&mut open, &mut printed] {
        value["path"].take();
        value["memory"].take();
    }
    assert_eq!(open, printed);
}

#[cfg(unix)]
#[test]
fn a_script_of_another_name_runs_the_demo() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let script = place.write("command", format!("#!/bin/sh\nexec '{}' \"$@\"\n", common::BIN));
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let args = [script.as_os_str(), "demo".as_ref(), place.path("demo").as_os_str()].map(OsString::from);
    assert_eq!(run(args), 0);
}

/// Ctrl-C is the program's: no handler is left, and an import ends where the program says.
#[cfg(target_os = "linux")]
#[test]
fn signals_are_left_to_the_program() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let handled = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap() & 2 != 0
    };
    let place = Place::new();
    place.rows("in", 3000, 3);
    assert!(!handled(), "of SIGINT");
    assert_eq!(vecstone(&place, &["import", "@s", "@in.npy"]), 0);
    assert!(!handled(), "of SIGINT");
    let is_unwanted = || ASKED.fetch_add(1, Ordering::Relaxed) > 0;
    let args = ["import", "@t", "@in.npy", "--batch-rows", "1"];
    assert_eq!(vecstone::interruptible(is_unwanted, || vecstone(&place, &args)), 130);
    assert!(ASKED.load(Ordering::Relaxed) > 1);
}
