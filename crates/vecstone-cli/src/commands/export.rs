//! `vecstone export`: the live rows as a .npy file and their ids as a text file, or as a table.

#[cfg(feature = "arrow")]
mod table;

use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::NamedTempFile;
use vecstone::{VectorStore, counted};

use crate::args::Export;
use crate::failure::{Failure, Result};
use crate::npy;
use crate::output::{Output, human_bytes, shown};

/// What a file is, by the end of its name.
const TABLES: [&str; 5] = ["parquet", "arrow", "feather", "jsonl", "ndjson"];
const ARRAY: &str = "npy";

pub(crate) fn run(args: &Export, output: &mut Output) -> Result<u8> {
    let store = VectorStore::open_read_only(&args.store)?;
    check_target(args, &args.out)?;
    let end = args.out.extension().and_then(|end| end.to_str()).unwrap_or_default().to_ascii_lowercase();
    let end = end.as_str();
    if end != ARRAY && !TABLES.contains(&end) {
        let what = "how it is to be written is told by the end of its name; give .npy, .parquet, .arrow, .feather, .jsonl \
                    or .ndjson";
        return Err(Failure::file(&args.out, what));
    }
    match (TABLES.contains(&end), &args.ids) {
        (false, Some(ids)) => export_npy(args, &store, ids, output),
        (false, None) => {
            let what =
                "a .npy file has no room for ids; add --ids OUT.txt, or export to .parquet, .arrow or .jsonl";
            Err(Failure::file(&args.out, what))
        }
        (true, Some(_)) => {
            Err(Failure::file(&args.out, "the ids are a column of this file; leave --ids out"))
        }
        (true, None) => export_table(args, &store, end, output),
    }
}

#[cfg(feature = "arrow")]
use table::export as export_table;

#[cfg(not(feature = "arrow"))]
fn export_table(args: &Export, _: &VectorStore, _: &str, _: &mut Output) -> Result<u8> {
    let what =
        "this vecstone was built without the feature \"arrow\", which writes such files; export to .npy";
    Err(Failure::file(&args.out, what))
}

fn export_npy(args: &Export, store: &VectorStore, ids: &Path, output: &mut Output) -> Result<u8> {
    let names = ids.display().to_string();
    if check_target(args, &args.out)? == check_target(args, ids)? {
        return Err(Failure::file(&args.out, "the vectors and the ids need two different files"));
    }
    let mut vectors = Target::new(&args.out)?;
    let mut ids = Target::new(ids)?;
    let rows = write_rows(store, &mut vectors, &mut ids)?;
    let bytes = npy::header(rows, store.dim()).len() as u64 + rows * store.dim() as u64 * 4;
    put_in_place(vectors, ids, args.force)?;
    let out = args.out.display().to_string();
    if args.json {
        output
            .json(&json!({ "rows": rows, "dim": store.dim(), "npy": out, "ids": names, "bytes": bytes }))?;
    } else {
        output.line(format!(
            "exported {} of dim {} to {out} ({})",
            counted(rows, "row"),
            store.dim(),
            human_bytes(bytes)
        ))?;
        output.line(format!("their ids, one a line, to {names}"))?;
    }
    Ok(0)
}

/// The full path of a file to write: not inside the store, and not anything but a plain file.
fn check_target(args: &Export, path: &Path) -> Result<PathBuf> {
    let path = full_path(path)?;
    let store = args.store.canonicalize().map_err(|e| Failure::io(&args.store, "resolve", &e))?;
    if path.starts_with(&store) {
        return Err(Failure::file(&path, "this is inside the store; export to another directory"));
    }
    match path.metadata() {
        Ok(meta) if !meta.is_file() => {
            Err(Failure::file(&path, "not a regular file; give the name of a file to write"))
        }
        Ok(_) if !args.force => {
            Err(Failure::file(&path, "already there; add --force to replace it, or give another name"))
        }
        _ => Ok(path),
    }
}

/// The absolute path of a file that need not exist yet.
fn full_path(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Failure::file(path, "not the name of a file; give one to write"));
    };
    let parent = parent(path);
    let parent = parent.canonicalize().map_err(|e| match e.kind() {
        ErrorKind::NotFound => Failure::file(parent, "no such directory; make it first"),
        _ => Failure::io(parent, "resolve", &e),
    })?;
    Ok(parent.join(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file that is written under another name, and gets its own when it is whole.
struct Target {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl Target {
    fn new(path: &Path) -> Result<Target> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".vecstone-export-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as for any file
        let file = builder.tempfile_in(parent(path)).map_err(|e| Failure::io(path, "create", &e))?;
        Ok(Target { path: path.to_owned(), out: BufWriter::with_capacity(1 << 20, file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| failed_write(&self.path, e))
    }

    /// Everything on the disk, still under the other name.
    fn synced(self) -> Result<(PathBuf, NamedTempFile)> {
        let Target { path, out } = self;
        let file = out.into_inner().map_err(|e| failed_write(&path, e.error()))?;
        file.as_file().sync_all().map_err(|e| Failure::io(&path, "sync", &e))?;
        Ok((path, file))
    }
}

fn failed_write(path: &Path, error: impl Display) -> Failure {
    Failure::file(path, format!("cannot write: {error}; nothing was left there, free some space and repeat"))
}

fn write_rows(store: &VectorStore, vectors: &mut Target, ids: &mut Target) -> Result<u64> {
    let snapshot = store.snapshot()?;
    let rows = snapshot.len() as u64;
    vectors.write(&npy::header(rows, store.dim()))?;
    let mut bytes = Vec::with_capacity(store.dim() * 4);
    let mut written = 0;
    for row in snapshot.iter() {
        let (id, vector) = row?;
        let id = id.to_string();
        if id.contains(['\n', '\r']) {
            let what = format!(
                "id {} has a line break, so it cannot be a line of a file; export to .parquet or .jsonl",
                shown(&id)
            );
            return Err(Failure::file(store.path(), what));
        }
        bytes.clear();
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        vectors.write(&bytes)?;
        ids.write(id.as_bytes())?;
        ids.write(b"\n")?;
        written += 1;
    }
    check_count(store, written, rows)?;
    Ok(rows)
}

fn check_count(store: &VectorStore, written: u64, rows: u64) -> Result<()> {
    if written == rows {
        return Ok(());
    }
    let what = format!("read {}, counted {rows}; run vecstone verify", counted(written, "row"));
    Err(Failure::file(store.path(), what))
}

/// Both files get their names only after both are whole and on the disk.
fn put_in_place(vectors: Target, ids: Target, force: bool) -> Result<()> {
    let (vectors_path, vectors) = vectors.synced()?;
    let (ids_path, ids) = ids.synced()?;
    let was_there = vectors_path.exists();
    rename(vectors, &vectors_path, force)?;
    rename(ids, &ids_path, force).inspect_err(|_| {
        if !was_there {
            let _ = std::fs::remove_file(&vectors_path);
        }
    })
}

/// `force`: replaces what may have come there meanwhile.
fn rename(file: NamedTempFile, path: &Path, force: bool) -> Result<()> {
    let renamed = if force { file.persist(path) } else { file.persist_noclobber(path) };
    let file: File = renamed.map_err(|e| Failure::io(path, "create", &e.error))?;
    drop(file);
    Ok(())
}
