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

/// A store without codes: they are made of mapped rows, whose pages count until the system takes them back.
fn create(place: &Place, name: &str) {
    place.run(&["create", name, "--dim", "768", "--auto-optimize-rows", "0"]).ok();
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
        create(&place, "s");
        let most = most_memory(place.start(&["import", "s", "in.npy"]));
        println!("fortran {fortran}: at most {most} kB");
        assert!(most < LIMIT_KB, "{most} kB");
    }
}

/// Runs to the end; the most memory it had when it told of something, in kB.
fn most_memory(mut child: std::process::Child) -> u64 {
    let mut most = 0;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        assert!(line.unwrap().starts_with("acknowledged "));
        most = most.max(high_water(child.id()).unwrap_or(0));
    }
    assert!(child.wait().unwrap().success());
    most
}

#[cfg(feature = "arrow")]
#[test]
fn tables_of_300_mb() {
    const DIM: usize = 768;
    const MB: u64 = 300;
    let place = Place::new();
    // Numbers that no codec makes smaller.
    let store = vecstone::VectorStore::create(place.path("s"), 768, vecstone::Metric::L2).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from_bits((state >> 32) as u32 & 0xbfff_ffff)
    };
    let rows = MB * 1_000_000 / (DIM as u64 * 4);
    for first in (0..rows).step_by(1000) {
        let ids: Vec<u64> = (first..rows.min(first + 1000)).collect();
        let vectors: Vec<f32> = (0..ids.len() * DIM).map(|_| next()).collect();
        store.put_many(&ids, &vectors).unwrap();
    }
    store.close().unwrap();
    for name in ["t.parquet", "t.arrow"] {
        place.run(&["export", "s", name]).ok();
        assert!(fs::metadata(place.path(name)).unwrap().len() > MB * 1_000_000 * 95 / 100);
        let _ = fs::remove_dir_all(place.path("t"));
        create(&place, "t");
        let most = most_memory(place.start(&["import", "t", name]));
        println!("{name}: at most {most} kB");
        assert!(most < 180_000, "{name}: {most} kB");
        assert_eq!(place.run(&["info", "t", "--json"]).ok().json()["live"], rows);
        fs::remove_file(place.path(name)).unwrap();
    }
}

#[test]
fn import_under_a_limit_of_data() {
    // Counts what is allocated, touched or not, at every moment.
    let place = Place::new();
    sparse(&place, "in.npy", false);
    create(&place, "s");
    place.run_limited(&format!("ulimit -d {LIMIT_KB}"), &["import", "s", "in.npy"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], ROWS);
}
