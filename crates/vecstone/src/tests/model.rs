//! A store beside a plain map of what it should hold.

use super::ask;
use crate::format::Identity;
use crate::query::coded::effort;
use crate::segment::side::Optimize;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::error::{Error, Result};
use crate::{CompactOptions, Document, Metric, OpenOptions, Snapshot, VectorStore, WriteBatch};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) const DIR: &str = "/s";
pub(super) const DIM: u32 = 4;

/// The bits of a vector, and its document.
pub(super) type Row = (Vec<u32>, Option<String>);

/// Ids and what they hold, the store's attributes, and what it keeps of its options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    rows: BTreeMap<String, Row>,
    pub(super) attributes: Option<String>,
    pub(super) auto_optimize_rows: Option<u64>,
    pub(super) embed_name: Option<String>,
}

impl Content {
    pub(super) fn new() -> Content {
        Content::default()
    }

    /// What a snapshot shows, row by row.
    pub(super) fn of(snapshot: &Snapshot) -> Result<Content> {
        let mut content = Content::new();
        content.attributes = snapshot.attributes().map(str::to_owned);
        content.auto_optimize_rows = snapshot.files().sections.auto_optimize_rows();
        content.embed_name = snapshot.files().sections.embed_name();
        for item in snapshot.iter_with_documents() {
            let (id, vector, document) = item?;
            content.insert(id.to_string(), (row(&vector).0, document));
        }
        Ok(content)
    }

    /// What is left when the store is cleared.
    pub(super) fn cleared(&self) -> Content {
        Content { rows: BTreeMap::new(), ..self.clone() }
    }
}

impl Deref for Content {
    type Target = BTreeMap<String, Row>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl DerefMut for Content {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.rows
    }
}

pub(super) fn row(vector: &[f32]) -> Row {
    (vector.iter().map(|x| x.to_bits()).collect(), None)
}

/// The document that a put leaves an id if it says nothing of one.
fn kept(content: &Content, id: &str) -> Option<String> {
    content.get(id).and_then(|(_, document)| document.clone())
}

/// Small, seeded random numbers (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % n as u64).expect("below n")
    }
}

/// What may be on the disk: the contents after each batch handed in, and how many of them are acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    /// `create` returned Ok.
    pub(super) created: bool,
    /// Contents after 0, 1, 2… batches.
    pub(super) states: Vec<Content>,
    /// Index of the last acknowledged one.
    pub(super) acked: usize,
}

impl Model {
    pub(super) fn new() -> Model {
        Model { states: vec![Content::new()], ..Model::default() }
    }

    /// The youngest state equal to `content` that is not older than the acknowledged one.
    pub(super) fn place(&self, content: &Content) -> Option<usize> {
        (self.acked..self.states.len()).rev().find(|&at| self.states[at] == *content)
    }
}

/// A store on a simulated disk and its model, driven together.
pub(super) struct Run {
    pub(super) disk: SimDisk,
    /// What the store sees; the simulated disk itself, or faults in front of it.
    pub(super) door: Arc<dyn Disk>,
    pub(super) model: Model,
    pub(super) store: Option<VectorStore>,
    /// How it is opened.
    pub(super) options: OpenOptions,
    version: u8,
    /// Deletes so far: each takes the next of the entry points.
    deletes: usize,
}

pub(super) fn identity() -> Identity {
    Identity { uuid: [7; 16], segment: 1, salt: [9; 16] }
}

pub(super) fn options() -> OpenOptions {
    OpenOptions::new().lock_wait(Duration::ZERO).without_background().buffer_bytes(0).ids_after(2)
}

pub(super) fn root() -> Image {
    Image { dirs: [Path::new("/").to_owned()].into(), ..Image::default() }
}

/// No two puts of a run store the same vector, so that any mix shows.
fn vector(id: &str, version: u8) -> Vec<f32> {
    let id = id.bytes().map(f32::from).sum::<f32>();
    vec![id, f32::from(version), id * 0.5 - f32::from(version), -1.0]
}

impl Run {
    pub(super) fn new(disk: SimDisk) -> Run {
        // The same run writes the same bytes.
        crate::pair::files::seed_random(1);
        let door = Arc::new(disk.clone());
        Run { door, disk, model: Model::new(), store: None, options: options(), version: 0, deletes: 0 }
    }

    pub(super) fn create(&mut self) -> Result<()> {
        let store = VectorStore::create_on(
            self.door.clone(),
            Path::new(DIR),
            DIM,
            Metric::L2,
            identity(),
            &self.options,
        )?;
        self.model.created = true;
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> &VectorStore {
        self.store.as_ref().expect("open")
    }

    /// Segments of so many records.
    pub(super) fn segments_of(&mut self, records: u64) -> &mut Run {
        self.options = self.options.clone().segment_records(records);
        self
    }

    /// Compactions make segments of so many rows at most; a batch that is larger has one of its own.
    pub(super) fn rows_of(&mut self, rows: u64) -> &mut Run {
        self.options.settings.limits.dat = 256 + rows * u64::from(DIM) * 4;
        self
    }

    /// The store is made with an option of its own.
    pub(super) fn auto_optimize_rows(&mut self, rows: u64) -> &mut Run {
        self.options = self.options.clone().auto_optimize_rows(rows);
        self.model.states[0].auto_optimize_rows = Some(rows);
        self
    }

    /// Writes wait in the buffer until a flush.
    pub(super) fn buffered(&mut self) -> &mut Run {
        self.options = self.options.clone().buffer_bytes(1 << 20);
        self
    }

    /// Puts one vector per id in one batch; documents stay.
    pub(super) fn put(&mut self, ids: &[&str]) -> Result<()> {
        self.put_rows(ids, false)
    }

    /// As [`put`](Self::put), with documents for all but the last id, which keeps the one that it has.
    pub(super) fn put_documents(&mut self, ids: &[&str]) -> Result<()> {
        self.put_rows(ids, true)
    }

    fn put_rows(&mut self, ids: &[&str], with_documents: bool) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        let (mut rows, mut documents) = (Vec::new(), Vec::new());
        for (n, id) in ids.iter().enumerate() {
            self.version += 1;
            let vector = vector(id, self.version);
            let document = (with_documents && (n + 1 < ids.len() || n == 0))
                .then(|| format!("{{\"v\":{}}}", self.version));
            let left = document.clone().or_else(|| kept(&content, id));
            content.insert((*id).to_owned(), (row(&vector).0, left));
            rows.extend(vector);
            documents.push(document);
        }
        self.model.states.push(content);
        let documents: Vec<_> = documents.iter().map(|text| Document::given(text.as_deref())).collect();
        let documents = if with_documents { &documents[..] } else { &[] };
        let put = self.store().write(WriteBatch::new().put_many_with_documents(ids, &rows, documents));
        self.finish_write(put)
    }

    /// Changes the documents of ids that are there, or removes them.
    pub(super) fn change_documents(&mut self, ids: &[&str], remove: bool) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        self.version += 1;
        let json = format!("{{\"v\":{}}}", self.version);
        for id in ids {
            content.get_mut(*id).expect("there").1 = (!remove).then(|| json.clone());
        }
        self.model.states.push(content);
        let document = if remove { Document::None } else { Document::Json(&*json) };
        let changed = self.store().put_documents(ids, &vec![document; ids.len()]);
        self.finish_write(changed)
    }

    pub(super) fn delete(&mut self, ids: &[&str]) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        content.retain(|id, _| !ids.contains(&id.as_str()));
        self.model.states.push(content);
        let deleted = ask::delete(self.store(), ids, self.deletes, None).map(drop);
        self.deletes += 1;
        self.finish_write(deleted)
    }

    /// A batch that was refused with the store going on never happened.
    fn finish_write(&mut self, outcome: Result<()>) -> Result<()> {
        if outcome.as_ref().is_err_and(|error| !error.stops_writing() && !ask::is_kept(error)) {
            self.model.states.pop();
        }
        outcome
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.store().flush()?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    /// Compacts, with a put and a delete between the copying of the rows and the moment they take their place.
    pub(super) fn compact_beside(&mut self, put: &[&str], delete: &[&str]) -> Result<()> {
        let store = self.store.take().expect("open");
        let (mut meanwhile, mut busy) = (Ok(()), false);
        let compacted = store.compact_with(&CompactOptions::new(), |_| {
            if !std::mem::replace(&mut busy, true) {
                meanwhile = self.write_beside(&store, put, delete);
            }
            std::ops::ControlFlow::Continue(())
        });
        self.store = Some(store);
        meanwhile?;
        compacted?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    fn write_beside(&mut self, store: &VectorStore, put: &[&str], delete: &[&str]) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        let mut rows = Vec::new();
        for id in put {
            self.version += 1;
            let vector = vector(id, self.version);
            let left = kept(&content, id);
            content.insert((*id).to_owned(), (row(&vector).0, left));
            rows.extend(vector);
        }
        self.model.states.push(content.clone());
        let written = store.put_many(put, &rows);
        self.finish_write(written)?;
        content.retain(|id, _| !delete.contains(&id.as_str()));
        self.model.states.push(content);
        self.deletes += 1;
        let deleted = ask::delete(store, delete, self.deletes, None).map(drop);
        self.finish_write(deleted)
    }

    /// Empties the store, and puts while a compaction has copied rows that go.
    pub(super) fn clear_beside_compaction(&mut self, put: &[&str]) -> Result<()> {
        let store = self.store.take().expect("open");
        let (mut meanwhile, mut busy) = (Ok(()), false);
        let compacted = store.compact_with(&CompactOptions::new(), |_| {
            if !std::mem::replace(&mut busy, true) {
                meanwhile = self.clear_in(&store).and_then(|()| self.write_beside(&store, put, &[]));
            }
            std::ops::ControlFlow::Continue(())
        });
        self.store = Some(store);
        meanwhile?;
        compacted.map(drop)
    }

    pub(super) fn clear(&mut self) -> Result<()> {
        let store = self.store.take().expect("open");
        let cleared = self.clear_in(&store);
        self.store = Some(store);
        cleared
    }

    fn clear_in(&mut self, store: &VectorStore) -> Result<()> {
        let cleared = self.model.states.last().expect("never empty").cleared();
        self.model.states.push(cleared);
        let cleared = store.clear();
        self.finish_write(cleared)?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    /// Sets the store's attributes to the number of the change, or removes them.
    pub(super) fn set_attributes(&mut self, remove: bool) -> Result<()> {
        let store = self.store.take().expect("open");
        let set = self.set_attributes_of(&store, remove);
        self.store = Some(store);
        set
    }

    fn set_attributes_of(&mut self, store: &VectorStore, remove: bool) -> Result<()> {
        self.version += 1;
        let attributes = (!remove).then(|| format!("{{\"v\":{}}}", self.version));
        let set = |content: &mut Content| content.attributes.clone_from(&attributes);
        self.in_manifest(set, || store.set_attributes(attributes.as_deref()))
    }

    /// Records the number of the change as the name of what makes vectors, or removes it.
    pub(super) fn set_embed_name(&mut self, remove: bool) -> Result<()> {
        let store = self.store.take().expect("open");
        self.version += 1;
        let name = (!remove).then(|| format!("model \"{}\"", self.version));
        let set = |content: &mut Content| content.embed_name.clone_from(&name);
        let set = self.in_manifest(set, || store.set_embed_name(name.as_deref()));
        self.store = Some(store);
        set
    }

    /// A change of what MANIFEST says of the store as a whole.
    fn in_manifest(
        &mut self,
        set: impl FnOnce(&mut Content),
        call: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        set(&mut content);
        self.model.states.push(content);
        let done = call();
        if done.as_ref().is_err_and(|error| !error.stops_writing()) {
            // What could not be written of earlier calls may be kept. This call is not.
            self.model.states.pop();
        }
        done?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    /// Compacts, and sets attributes between the copying of the rows and the moment they take their place.
    pub(super) fn compact_beside_attributes(&mut self) -> Result<()> {
        let store = self.store.take().expect("open");
        let (mut meanwhile, mut busy) = (Ok(()), false);
        let compacted = store.compact_with(&CompactOptions::new(), |_| {
            if !std::mem::replace(&mut busy, true) {
                meanwhile = self.set_attributes_of(&store, false);
            }
            std::ops::ControlFlow::Continue(())
        });
        self.store = Some(store);
        meanwhile?;
        compacted.map(drop)
    }

    pub(super) fn compact(&mut self) -> Result<()> {
        self.store().compact()?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    /// Builds the side files that are missing.
    pub(super) fn build_side_files(&mut self) -> Result<()> {
        self.store().engine()?.build_side_files(false);
        Ok(())
    }

    /// Gives every row a code; in one file or, if not asked to, beside those that are there.
    pub(super) fn encode(&mut self, merge: bool) -> Result<()> {
        let optimize = Optimize { merge, ..Optimize::now(1, effort::measure) };
        self.flush()?;
        self.store().engine()?.build_while(optimize, &mut |_| std::ops::ControlFlow::Continue(())).1
    }

    /// Measures effort with queries.
    pub(super) fn tune(&mut self) -> Result<()> {
        self.flush()?;
        self.store().tune(&vec![0.5; 32 * DIM as usize]).map(|_| ())
    }

    pub(super) fn close(&mut self) -> Result<()> {
        self.store.take().expect("open").close()?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
    }

    /// The process dies: nothing is flushed, what was written stays in the page cache, locks go.
    pub(super) fn kill(&mut self) {
        self.disk.kill(self.store.take());
        self.disk = self.disk.killed();
        self.door = Arc::new(self.disk.clone());
    }

    /// Opens for writing; what it finds is the only truth from then on, and durable.
    pub(super) fn open(&mut self) -> Result<()> {
        let store = VectorStore::open_on(self.door.clone(), Path::new(DIR), &self.options)?;
        let content = content(&store)?;
        let at = self.model.place(&content).unwrap_or_else(|| panic!("{content:?} was never a state"));
        self.model.states.truncate(at + 1);
        self.model.acked = at;
        assert_eq!(store.dim(), DIM as usize);
        self.store = Some(store);
        Ok(())
    }
}

/// Everything a store holds, read row by row with checks; `get`, `contains`, `len` and search have to agree.
pub(super) fn content(store: &VectorStore) -> Result<Content> {
    let mut content = Content::new();
    for item in store.snapshot()?.iter() {
        let (id, vector) = item?;
        assert_eq!(ask::get_by_some(store, &id)?.as_ref(), Some(&vector), "get and iter differ for {id}");
        let document = store.get_document(&id)?;
        content.insert(id.to_string(), (row(&vector).0, document));
    }
    assert_eq!(content.len(), store.len()?);
    content.attributes = store.attributes()?;
    content.auto_optimize_rows = store.snapshot()?.files().sections.auto_optimize_rows();
    content.embed_name = store.embed_name()?;
    Ok(content)
}

/// What an image shows: `None` if there is no store (yet).
pub(super) fn look(disk: &SimDisk, writable: bool) -> Result<Option<(VectorStore, Content)>> {
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = match writable {
        true => VectorStore::open_on(door, Path::new(DIR), &options()),
        false => VectorStore::open_read_only_on(door, Path::new(DIR)),
    };
    match opened {
        Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) => Ok(None),
        Err(error) => Err(error),
        Ok(store) => {
            let content = content(&store)?;
            Ok(Some((store, content)))
        }
    }
}
