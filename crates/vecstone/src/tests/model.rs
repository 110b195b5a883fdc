//! A store beside a plain map of what it should hold.

use crate::disk::Disk;
use crate::disk::sim::{Image, SimDisk};
use crate::error::{Error, Result};
use crate::format::Identity;
use crate::{Metric, OpenOptions, VectorStore};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) const DIR: &str = "/s";
pub(super) const DIM: u32 = 4;

/// Ids and the bits of their vectors.
pub(super) type Content = BTreeMap<String, Vec<u32>>;

/// Small, seeded random numbers (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: usize) -> usize {
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
    version: u8,
}

pub(super) fn identity() -> Identity {
    Identity { uuid: [7; 16], segment: 1, salt: [9; 16] }
}

pub(super) fn options() -> OpenOptions {
    OpenOptions::new().lock_wait(Duration::ZERO)
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
        Run { door: Arc::new(disk.clone()), disk, model: Model::new(), store: None, version: 0 }
    }

    pub(super) fn create(&mut self) -> Result<()> {
        let store = VectorStore::create_on(self.door.clone(), Path::new(DIR), DIM, Metric::L2, identity())?;
        self.model.created = true;
        self.store = Some(store);
        Ok(())
    }

    fn store(&self) -> &VectorStore {
        self.store.as_ref().expect("open")
    }

    /// Puts one vector per id in one batch.
    pub(super) fn put(&mut self, ids: &[&str]) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        let mut rows = Vec::new();
        for id in ids {
            self.version += 1;
            let row = vector(id, self.version);
            content.insert((*id).to_owned(), row.iter().map(|x| x.to_bits()).collect());
            rows.extend(row);
        }
        self.model.states.push(content);
        let put = self.store().put_many(ids, &rows);
        self.settle(put)
    }

    pub(super) fn delete(&mut self, ids: &[&str]) -> Result<()> {
        let mut content = self.model.states.last().expect("never empty").clone();
        content.retain(|id, _| !ids.contains(&id.as_str()));
        self.model.states.push(content);
        let deleted = self.store().delete_many(ids).map(drop);
        self.settle(deleted)
    }

    /// A batch that was refused with the store going on never happened.
    fn settle(&mut self, outcome: Result<()>) -> Result<()> {
        if outcome.as_ref().is_err_and(|error| !error.stops_writing()) {
            self.model.states.pop();
        }
        outcome
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        self.store().flush()?;
        self.model.acked = self.model.states.len() - 1;
        Ok(())
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
        let store = VectorStore::open_on(self.door.clone(), Path::new(DIR), &options())?;
        let content = content(&store)?;
        let at = self.model.place(&content).unwrap_or_else(|| panic!("{content:?} was never a state"));
        self.model.states.truncate(at + 1);
        self.model.acked = at;
        self.store = Some(store);
        Ok(())
    }
}

/// Everything a store holds, read row by row with checks; `get`, `contains`, `len` and search have to agree.
pub(super) fn content(store: &VectorStore) -> Result<Content> {
    let mut content = Content::new();
    for item in store.iter() {
        let (id, vector) = item?;
        assert_eq!(store.get(&id)?.as_ref(), Some(&vector), "get and iter differ for {id}");
        assert!(store.contains(&id));
        content.insert(id, vector.iter().map(|x| x.to_bits()).collect());
    }
    assert_eq!(content.len(), store.len());
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
        Err(Error::NotFound { .. } | Error::HalfMade { .. }) => Ok(None),
        Err(error) => Err(error),
        Ok(store) => {
            let content = content(&store)?;
            Ok(Some((store, content)))
        }
    }
}
