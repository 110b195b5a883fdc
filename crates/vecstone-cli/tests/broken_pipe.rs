//! A reader that goes away is not an error.

mod common;

use common::{Place, debian};
use std::io::{BufRead, BufReader, Read};

#[test]
fn closed_stdout_ends_quietly() {
    let (npy, ids) = debian();
    let place = Place::new();
    place.run(&["import", "s", npy.to_str().unwrap(), "--ids", ids.to_str().unwrap()]).ok();
    let ids = std::fs::read_to_string(ids).unwrap();
    for json in [&[][..], &["--json"]] {
        // Megabytes, far more than a pipe holds.
        let args = [&["get", "s"], json, &["--"], &ids.lines().collect::<Vec<_>>()].concat();
        let mut child = place.start(&args);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("0ad"));
        let status = child.wait().unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    }
}
