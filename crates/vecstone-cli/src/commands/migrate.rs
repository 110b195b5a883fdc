//! `vecstone migrate`: a store made from the pair of files of the original Storage V2.
//!
//! `OLD.dat` is `OMEN`, u32 version 1, u32 dim, u64 count, then rows from byte 256; `OLD.idx` is
//! `[u32 length][id][u64 byte offset]` for each vector; all little-endian. Neither is trusted.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::json;
use vecstone::{VectorStore, counted};

use crate::args::Migrate;
use crate::failure::{Failure, Result};
use crate::old::{Dat, Entry, Idx, NotTaken, Reason};
use crate::output::{Output, shown};
use crate::progress::Progress;
use crate::writer::{Acknowledger, Stopped, acknowledge};

const BATCH_BYTES: usize = 16 << 20;
/// So many of the entries that were not taken are shown to people.
const SHOWN: usize = 20;

pub(crate) fn run(args: &Migrate, output: &mut Output) -> Result<u8> {
    let (dat, idx) = pair(&args.old);
    let dat = Dat::open(&dat)?;
    let idx = Idx::open(&idx)?;
    let named = Named::new(&dat)?;
    let dim = dat.dim;
    let store = VectorStore::create_unfinished(&args.store, dim, args.metric)?;
    let progress = Progress::new(Some(dat.counted()), dat.components());
    if args.json {
        output.text("{\"not_taken\":[")?;
    }
    let report =
        Report { json: args.json, output, counts: [0; Reason::ALL.len()], shown: Vec::new(), listed: 0 };
    let mut migration = Migration { store: &store, dat, named, report, batch: Batch::default(), done: 0 };
    let outcome = acknowledge(&store, &progress, |acknowledger| migration.take_all(idx, acknowledger));
    let Migration { report, dat, .. } = migration;
    let go_on = "migrate again".to_owned();
    outcome.map_err(|stopped| stopped.explain(&progress, &go_on))?;
    let taken = store.len()?;
    store.finish().map_err(|e| Stopped::Store(e).explain(&progress, &go_on))?;
    report.finish(args, &dat, taken)?;
    Ok(0)
}

/// `OLD.dat` and `OLD.idx`; OLD may itself end in `.dat`.
fn pair(old: &Path) -> (PathBuf, PathBuf) {
    let base =
        if old.extension().is_some_and(|end| end == "dat") { old.with_extension("") } else { old.to_owned() };
    let with = |end: &str| {
        let mut path = OsString::from(&base);
        path.push(end);
        PathBuf::from(path)
    };
    (with(".dat"), with(".idx"))
}

/// Rows that the next `put_many` takes.
#[derive(Default)]
struct Batch {
    ids: Vec<String>,
    vectors: Vec<f32>,
}

struct Migration<'s, 'o> {
    store: &'s VectorStore,
    dat: Dat,
    named: Named,
    report: Report<'o>,
    batch: Batch,
    /// Rows put so far.
    done: u64,
}

impl Migration<'_, '_> {
    fn take_all(&mut self, mut idx: Idx, acknowledger: &mut Acknowledger<'_>) -> Result<(), Stopped> {
        while let Some(entry) = idx.next()? {
            self.take(entry)?;
            if self.batch.vectors.len() * 4 >= BATCH_BYTES {
                self.put(acknowledger)?;
            }
        }
        self.put(acknowledger)?;
        for row in self.named.missing() {
            self.report.add(&NotTaken { row: Some(row), ..NotTaken::new(Reason::NoId) })?;
        }
        Ok(())
    }

    /// Adds the entry's row to the batch, or reports why not.
    fn take(&mut self, entry: Entry) -> Result<()> {
        let Entry { number, id, offset } = entry;
        let mut not_taken = NotTaken { entry: Some(number), offset, ..NotTaken::new(Reason::IdxCutShort) };
        // A row counts as named even if its id is no good: it is reported once.
        let row = offset.map(|offset| self.dat.row_at(offset));
        if let Some(Ok(row)) = row {
            self.named.mark(row);
            not_taken.row = Some(row);
        }
        let (id, row) = match (id, row) {
            (Err(reason), _) => return self.report.add(&NotTaken { reason, ..not_taken }),
            (Ok(id), Some(Ok(row))) => (id, row),
            (Ok(id), Some(Err(reason))) => {
                return self.report.add(&NotTaken { reason, id: Some(id), ..not_taken });
            }
            (Ok(id), None) => return self.report.add(&NotTaken { id: Some(id), ..not_taken }),
        };
        if self.dat.append_row(row, &mut self.batch.vectors)? {
            self.batch.ids.push(id);
            return Ok(());
        }
        self.report.add(&NotTaken { reason: Reason::NonFinite, id: Some(id), ..not_taken })
    }

    fn put(&mut self, acknowledger: &mut Acknowledger<'_>) -> Result<(), Stopped> {
        let Batch { ids, vectors } = &self.batch;
        if ids.is_empty() {
            return Ok(());
        }
        let snapshot = self.store.snapshot()?;
        let mut seen = HashSet::with_capacity(ids.len());
        for id in ids {
            if !seen.insert(id) || snapshot.contains(id)? {
                self.report.add(&NotTaken { id: Some(id.clone()), ..NotTaken::new(Reason::DuplicateId) })?;
            }
        }
        self.store.put_many(ids, vectors)?;
        self.done += ids.len() as u64;
        self.batch.ids.clear();
        self.batch.vectors.clear();
        acknowledger.put(self.done)
    }
}

/// One bit for each row that the `.dat` counts: does an entry name it?
struct Named {
    bits: Vec<u64>,
    rows: u64,
}

impl Named {
    fn new(dat: &Dat) -> Result<Named> {
        let rows = dat.counted();
        let words = usize::try_from(rows.div_ceil(64)).unwrap_or(usize::MAX);
        let mut bits = Vec::new();
        if bits.try_reserve_exact(words).is_err() {
            return Err(Failure::error(format!("not enough memory to track {}", counted(rows, "row"))));
        }
        bits.resize(words, 0);
        Ok(Named { bits, rows })
    }

    fn mark(&mut self, row: u64) {
        if let Some(word) = usize::try_from(row / 64).ok().and_then(|at| self.bits.get_mut(at)) {
            *word |= 1 << (row % 64);
        }
    }

    fn missing(&self) -> impl Iterator<Item = u64> {
        (0..self.rows).filter(|row| {
            let word = usize::try_from(row / 64).ok().and_then(|at| self.bits.get(at));
            word.is_some_and(|word| (word >> (row % 64)) & 1 == 0)
        })
    }
}

/// Counts what was not taken; the list goes out as it grows, so that it needs no memory.
struct Report<'a> {
    json: bool,
    output: &'a mut Output,
    counts: [u64; Reason::ALL.len()],
    shown: Vec<String>,
    listed: u64,
}

impl Report<'_> {
    fn add(&mut self, item: &NotTaken) -> Result<()> {
        if let Some(at) = Reason::ALL.iter().position(|reason| *reason == item.reason) {
            self.counts[at] += 1;
        }
        self.listed += 1;
        if self.json {
            if self.listed > 1 {
                self.output.text(",")?;
            }
            return self.output.json_part(item);
        }
        if self.shown.len() < SHOWN {
            self.shown.push(describe(item));
        }
        Ok(())
    }

    fn finish(self, args: &Migrate, dat: &Dat, taken: usize) -> Result<()> {
        let store = args.store.display().to_string();
        let counts = Reason::ALL.iter().zip(self.counts);
        if self.json {
            let reasons: serde_json::Map<_, _> =
                counts.map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
            let rest = json!({
                "store": store,
                "taken": taken,
                "reasons": reasons,
                "header_rows": dat.header_rows,
                "file_rows": dat.file_rows,
                "dim": dat.dim,
            })
            .to_string();
            // The object was begun with the list; here are its other members and its end.
            return self.output.line(format!("],{}", rest.trim_start_matches('{')));
        }
        self.output.line(format!("migrated {} of dim {} into {store}", counted(taken, "row"), dat.dim))?;
        if dat.header_rows != dat.file_rows {
            let (header, file) = (dat.header_rows, dat.file_rows);
            self.output.line(format!(
                "the old header counts {}, the old file has room for {file}",
                counted(header, "row")
            ))?;
        }
        for (reason, count) in counts.filter(|(_, count)| *count > 0) {
            self.output.line(format!("{count} not taken: {}", reason.text()))?;
        }
        for line in &self.shown {
            self.output.line(format!("  {line}"))?;
        }
        if self.listed > SHOWN as u64 {
            self.output.line(format!("  and {} more; --json lists them all", self.listed - SHOWN as u64))?;
        }
        Ok(())
    }
}

fn describe(item: &NotTaken) -> String {
    let mut text = item.reason.text().to_owned();
    let numbers = [("entry", item.entry), ("row", item.row), ("offset", item.offset)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        text.push_str(&format!(", {name} {number}"));
    }
    if let Some(id) = &item.id {
        text.push_str(&format!(", id {}", shown(id)));
    }
    text
}
