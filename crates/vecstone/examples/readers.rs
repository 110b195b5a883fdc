//! One process writes, two others read at the same time: `cargo run -p vecstone --example readers`.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use vecstone::{Durability, Metric, OpenOptions, VectorStore};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(path) = std::env::args_os().nth(1) {
        return read(Path::new(&path));
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("shared");
    // A reader sees what is durable; so each write is.
    let store = OpenOptions::new().durability(Durability::Sync).create(&path, 2, Metric::L2)?;

    let program = std::env::current_exe()?;
    let readers = [0, 1].map(|_| Command::new(&program).arg(&path).spawn());
    for n in 0..5u8 {
        store.put(format!("row {n}"), &[f32::from(n), 1.0])?;
        sleep(Duration::from_millis(20));
    }
    store.put("end", &[0.0, 0.0])?;
    for reader in readers {
        assert!(reader?.wait()?.success());
    }
    store.close()?;
    Ok(())
}

/// Reads on until it finds the last row.
fn read(path: &Path) -> Result<(), Box<dyn Error>> {
    let store = VectorStore::open_read_only(path)?;
    loop {
        // One moment: what it shows belongs together, whatever is written meanwhile.
        let snapshot = store.snapshot()?;
        println!("process {} sees {} rows", std::process::id(), snapshot.len());
        if snapshot.contains("end")? {
            return Ok(());
        }
        while !store.refresh()? {
            sleep(Duration::from_millis(1));
        }
    }
}
