//! The memory of an import is bounded by its batches, whatever the size of the file.
#![cfg(target_os = "linux")]

mod common;

use common::{Place, npy};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

const ROWS: u64 = 100_000;
const DIM: u64 = 768;
/// Half of the 307 MB of the file.
const LIMIT_KB: u64 = 160_000;

/// A file of zeros that takes no room on the disk.
fn sparse(place: &Place, name: &str, fortran: bool) {
    let header = npy("'<f4'", fortran, &format!("({ROWS}, {DIM})"), &[]);
    let path = place.write(name, &header);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(header.len() as u64 + ROWS * DIM * 4).unwrap();
}

/// The most memory the process had so far, in kB.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn import_of_300_mb() {
    for fortran in [false, true] {
        let place = Place::new();
        sparse(&place, "in.npy", fortran);
        let mut child = place.start(&["import", "s", "in.npy"]);
        let mut most = 0;
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            assert!(line.unwrap().starts_with("acknowledged "));
            most = most.max(high_water(child.id()).unwrap_or(0));
        }
        assert!(child.wait().unwrap().success());
        println!("fortran {fortran}: at most {most} kB");
        assert!(most < LIMIT_KB, "{most} kB");
    }
}

#[test]
fn import_under_a_limit_of_data() {
    // Counts what is allocated, touched or not, at every moment.
    let place = Place::new();
    sparse(&place, "in.npy", false);
    place.run_limited(&format!("ulimit -d {LIMIT_KB}"), &["import", "s", "in.npy"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], ROWS);
}
