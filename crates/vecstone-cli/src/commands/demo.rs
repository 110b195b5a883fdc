//! `vecstone demo`: the promise, shown on real data. A writer is killed in the middle, and nothing it
//! acknowledged is missing.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use vecstone::{IdKind, VectorStore, counted};

use crate::args::Demo;
use crate::failure::{Failure, Result};
use crate::ids::IdLines;
use crate::npy::{self, Shape};
use crate::output::{Output, human_bytes, note};
use crate::rows::Rows;

/// Of `data/debian-4096x384.npy`, as float16: what is near to the queries, and others. `make demo` takes all.
const VECTORS: &[u8] = include_bytes!("../../demo/debian-256x384.npy");
const IDS: &str = include_str!("../../demo/debian-256.ids");
const QUERIES: [&str; 3] = ["firefox-esr", "vlc", "sqlite3"];
const NEIGHBORS: usize = 5;
/// Batches of an import: many acknowledgements, so that there is a middle to be killed in. The second is for the retry.
const BATCHES: [u64; 2] = [64, 512];

/// What the demo did, as printed by `--json`.
#[derive(Serialize)]
struct Summary {
    directory: String,
    rows: u64,
    dim: usize,
    killed: bool,
    acknowledged: u64,
    recovered: u64,
    recovery: String,
    resumed: Resumed,
    searches: Vec<Search>,
    verified_bytes: u64,
    bytes: u64,
    dat_bytes: u64,
    idx_bytes: u64,
    overhead: f64,
}

#[derive(Serialize)]
struct Resumed {
    written: u64,
    skipped: u64,
}

#[derive(Serialize)]
struct Search {
    id: String,
    neighbors: Vec<(String, f32)>,
}

/// Tells the steps: on stdout, or on stderr if that is for the JSON object.
struct Voice<'a> {
    json: bool,
    output: &'a mut Output,
}

impl Voice<'_> {
    fn say(&mut self, text: String) -> Result<()> {
        if self.json {
            note(text);
            return Ok(());
        }
        // At once: the steps take time, and a child writes to the same terminal.
        self.output.line(text)?;
        self.output.flush()
    }
}

/// The directory to work in, the input files and the store.
struct Place {
    /// What is started to import.
    program: PathBuf,
    root: PathBuf,
    npy: PathBuf,
    ids: PathBuf,
    store: PathBuf,
    /// Removed at the end, unless the directory was given.
    _temporary: Option<TempDir>,
}

/// What is in the files.
struct Input {
    ids: Vec<String>,
    vectors: Vec<f32>,
    dim: usize,
}

/// `program`: the name by which this one was called.
pub(crate) fn run(args: &Demo, program: Option<&OsString>, output: &mut Output) -> Result<u8> {
    let mut voice = Voice { json: args.json, output };
    // What is given is read before a directory is made.
    let given = args.vectors.as_deref().zip(args.ids.as_deref());
    let given = given.map(|(npy, ids)| read_input(npy, ids)).transpose()?;
    let place = prepare(args, program)?;
    let input = given.map_or_else(|| read_input(&place.npy, &place.ids), Ok)?;
    let rows = input.ids.len() as u64;
    let what = if args.vectors.is_none() { "Debian package descriptions as vectors" } else { "vectors" };
    voice.say(format!("1. {rows} {what} of dim {}: {}", input.dim, place.npy.display()))?;
    let (acknowledged, killed) = import_and_kill(&place, rows, &mut voice)?;
    let (recovered, recovery) = check_acknowledged(&place, &input, acknowledged, &mut voice)?;
    let resumed = resume(&place, &mut voice)?;
    let store = VectorStore::open_read_only(&place.store)?;
    check_rows(&store, &input, rows)?;
    voice.say(format!("   all is there, byte for byte: {}", counted(rows, "row")))?;
    let searches = search(&store, &input, &mut voice)?;
    let verified_bytes = verify(&store, &mut voice)?;
    let stats = store.stats()?;
    voice.say(format!(
        "7. {} on disk for {} of vectors: {:.4} times",
        human_bytes(stats.bytes.total),
        human_bytes(rows * input.dim as u64 * 4),
        stats.overhead
    ))?;
    if args.json {
        output.json(&Summary {
            directory: place.root.display().to_string(),
            rows,
            dim: input.dim,
            killed,
            acknowledged,
            recovered,
            recovery,
            resumed,
            searches,
            verified_bytes,
            bytes: stats.bytes.total,
            dat_bytes: stats.bytes.dat,
            idx_bytes: stats.bytes.idx,
            overhead: stats.overhead,
        })?;
    } else if args.dir.is_some() {
        output.line(format!("   the store is kept: vecstone info {}", place.store.display()))?;
    }
    Ok(0)
}

fn prepare(args: &Demo, program: Option<&OsString>) -> Result<Place> {
    // The command may be a script, run by a program of another name.
    let this =
        std::env::current_exe().map_err(|e| Failure::error(format!("cannot find this program: {e}")))?;
    let is_command = this.file_stem().is_some_and(|name| name == "vecstone");
    let program = program.filter(|_| !is_command).map_or(this, PathBuf::from);
    let (root, temporary) = match &args.dir {
        Some(dir) => {
            fs::create_dir(dir)
                .map_err(|e| Failure::io(dir, "create (name a directory that is not there yet)", &e))?;
            (dir.clone(), None)
        }
        None => {
            let temporary = TempDir::with_prefix("vecstone-demo-")
                .map_err(|e| Failure::io(&std::env::temp_dir(), "make a directory", &e))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let store = root.join("packages");
    if let (Some(npy), Some(ids)) = (args.vectors.clone(), args.ids.clone()) {
        return Ok(Place { program, root, npy, ids, store, _temporary: temporary });
    }
    let (npy, ids) = (root.join("debian.npy"), root.join("debian.ids"));
    fs::write(&npy, VECTORS).map_err(|e| Failure::io(&npy, "write", &e))?;
    fs::write(&ids, IDS).map_err(|e| Failure::io(&ids, "write", &e))?;
    Ok(Place { program, root, npy, ids, store, _temporary: temporary })
}

/// Rows that an import would replace cannot be told from lost ones: each id may come once.
fn read_input(npy: &Path, id_lines: &Path) -> Result<Input> {
    let (file, layout) = npy::open(npy, Shape::Matrix)?;
    let lines = IdLines::open(id_lines, IdKind::String)?;
    let ids = lines.all().map(|id| Ok(id?.to_string())).collect::<Result<Vec<String>>>()?;
    if ids.is_empty() || ids.len() as u64 != layout.rows {
        let what = format!("{} ids for the {} rows of {}", ids.len(), layout.rows, npy.display());
        return Err(Failure::file(id_lines, what));
    }
    let mut seen = HashSet::new();
    if let Some(id) = ids.iter().find(|id| !seen.insert(*id)) {
        return Err(Failure::file(id_lines, format!("the id {id} comes twice; the demo needs each once")));
    }
    let mut vectors = Vec::new();
    Rows::new(npy, file, layout).read(ids.len(), &mut vectors)?;
    Ok(Input { ids, vectors, dim: layout.dim })
}

/// Starts an import in another process and kills it after a third. Returns what it acknowledged.
fn import_and_kill(place: &Place, rows: u64, voice: &mut Voice<'_>) -> Result<(u64, bool)> {
    for (attempt, batches) in BATCHES.iter().enumerate() {
        let batch = (rows / batches).max(1).to_string();
        voice.say(format!("2. importing in another process, in batches of {batch} rows"))?;
        let mut child = importer(place, &["--batch-rows", &batch], Stdio::null(), Stdio::piped())?;
        let (acknowledged, killed) = kill_after(&mut child, rows / 3)?;
        let status = child.wait().map_err(|e| Failure::io(&place.store, "wait for the import into", &e))?;
        if !killed {
            return Err(Failure::file(&place.store, format!("the import ended early: {status}")));
        }
        if acknowledged < rows {
            voice.say(format!(
                "3. killed it (SIGKILL) when it had acknowledged {acknowledged} of {rows} rows"
            ))?;
            return Ok((acknowledged, true));
        }
        voice.say("   it was done before it could be killed".to_owned())?;
        if attempt + 1 < BATCHES.len() {
            fs::remove_dir_all(&place.store).map_err(|e| Failure::io(&place.store, "remove", &e))?;
        }
    }
    voice.say(format!("3. not killed: the import was too quick here; it acknowledged all {rows} rows"))?;
    Ok((rows, false))
}

fn importer(place: &Place, more: &[&str], stdout: Stdio, stderr: Stdio) -> Result<Child> {
    let mut command = Command::new(&place.program);
    command
        .arg("import")
        .arg(&place.store)
        .arg(&place.npy)
        .arg("--convert")
        .arg("--ids")
        .arg(&place.ids)
        .args(more);
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    command.spawn().map_err(|e| Failure::io(&place.program, "start", &e))
}

/// Reads acknowledgements as they come; those that were sent before the end of the child still count.
fn kill_after(child: &mut Child, rows: u64) -> Result<(u64, bool)> {
    let Some(lines) = child.stderr.take() else { return Ok((0, false)) };
    let mut acknowledged = 0;
    let mut killed = false;
    for line in BufReader::new(lines).lines() {
        let line = line.map_err(|e| Failure::error(format!("cannot read what the import reports: {e}")))?;
        match acknowledgement(&line) {
            Some(rows) => acknowledged = rows,
            None => note(line),
        }
        if acknowledged >= rows && !killed {
            child.kill().map_err(|e| Failure::error(format!("cannot kill the import: {e}")))?;
            killed = true;
        }
    }
    Ok((acknowledged, killed))
}

/// The number in "acknowledged 128 of 4096 rows (...)".
fn acknowledgement(line: &str) -> Option<u64> {
    line.strip_prefix("acknowledged ")?.split(' ').next()?.parse().ok()
}

/// Reopens the store as the next writer would: recovery runs, and every acknowledged row must be there.
fn check_acknowledged(
    place: &Place,
    input: &Input,
    acknowledged: u64,
    voice: &mut Voice<'_>,
) -> Result<(u64, String)> {
    let store = VectorStore::open(&place.store)?;
    let recovery = store.recovery().to_string();
    voice.say(format!("4. opened again: {recovery}"))?;
    check_rows(&store, input, acknowledged)?;
    let recovered = store.len()? as u64;
    voice.say(format!("   {recovered} rows are there; every acknowledged one is, byte for byte"))?;
    store.close()?;
    Ok((recovered, recovery))
}

/// The first `rows` rows of the input must be stored, bit for bit.
fn check_rows(store: &VectorStore, input: &Input, rows: u64) -> Result<()> {
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    for (id, vector) in input.ids.iter().zip(input.vectors.chunks_exact(input.dim)).take(rows) {
        let stored = store.get(id)?;
        let same =
            |stored: Vec<f32>| stored.iter().map(|x| x.to_bits()).eq(vector.iter().map(|x| x.to_bits()));
        if !stored.is_some_and(same) {
            let what = format!("the acknowledged row {id} is missing or different; please report this");
            return Err(Failure { code: 1, ..Failure::file(store.path(), what) });
        }
    }
    Ok(())
}

fn resume(place: &Place, voice: &mut Voice<'_>) -> Result<Resumed> {
    let child = importer(place, &["--resume", "--json"], Stdio::piped(), Stdio::null())?;
    let done =
        child.wait_with_output().map_err(|e| Failure::io(&place.store, "finish the import into", &e))?;
    if !done.status.success() {
        return Err(Failure::file(&place.store, format!("the resumed import failed: {}", done.status)));
    }
    let summary: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    let count = |name: &str| summary[name].as_u64().unwrap_or(0);
    let resumed = Resumed { written: count("written"), skipped: count("skipped") };
    voice.say(format!(
        "5. import --resume: {} rows written, {} were there",
        resumed.written, resumed.skipped
    ))?;
    Ok(resumed)
}

/// What is near to known packages, or else to the first rows.
fn search(store: &VectorStore, input: &Input, voice: &mut Voice<'_>) -> Result<Vec<Search>> {
    let mut ids: Vec<&str> =
        QUERIES.into_iter().filter(|query| input.ids.iter().any(|id| id == query)).collect();
    if ids.is_empty() {
        ids = input.ids.iter().map(String::as_str).take(QUERIES.len()).collect();
    }
    let mut searches = Vec::new();
    for id in ids {
        let Some(vector) = store.get(id)? else { continue };
        let mut neighbors = store.search(&vector, NEIGHBORS + 1)?.into_vec();
        neighbors.retain(|neighbor| neighbor.id != id);
        neighbors.truncate(NEIGHBORS);
        let names: Vec<String> = neighbors.iter().map(|n| format!("{} ({:.3})", n.id, n.distance)).collect();
        voice.say(format!("   nearest to {id}: {}", names.join(", ")))?;
        searches.push(Search {
            id: id.to_owned(),
            neighbors: neighbors.into_iter().map(|n| (n.id.to_string(), n.distance)).collect(),
        });
    }
    Ok(searches)
}

fn verify(store: &VectorStore, voice: &mut Voice<'_>) -> Result<u64> {
    let report = store.verify()?;
    if let Some(damage) = report.damage.first() {
        let what = format!("damaged at byte {}: {}; please report this", damage.offset, damage.what);
        return Err(Failure { code: 1, ..Failure::file(Path::new(&damage.path), what) });
    }
    voice.say(format!("6. verified {}: no damage", human_bytes(report.bytes)))?;
    Ok(report.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgement_lines_are_understood() {
        assert_eq!(acknowledgement("acknowledged 128 of 4096 rows (196.6 kB, 20.0 MB/s)"), Some(128));
        assert_eq!(acknowledgement("recovered x: kept 128 rows"), None);
    }

    #[test]
    fn bundled_ids_have_the_queries() {
        let ids: Vec<&str> = IDS.lines().collect();
        assert_eq!(ids.len(), 256);
        assert!(QUERIES.iter().all(|query| ids.contains(query)));
    }
}
