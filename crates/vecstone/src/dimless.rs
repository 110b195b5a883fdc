//! A store without a dimension: a directory, LOCK and a MANIFEST that names no segment, until the first vector comes.

use crate::directory;
use crate::disk::{Dir, fork};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::random;
use crate::format::Identity;
use crate::format::header::Header;
use crate::format::manifest::{MAX_NUMBER, Manifest, SegmentEntry};
use crate::format::record::FileRecord;
use crate::lock::Lock;
use crate::open::{How, Opened, open_segments};
use crate::pair::VectorStorage;
use crate::planted::{self, Bug};
use crate::replace::check_room;
use crate::settings::{OpenOptions, Settings};
use crate::snapshot::Snapshot;
use crate::sync::{Mutex, MutexGuard, caught};
use crate::view::View;
use std::sync::{Arc, PoisonError};

/// What a handle that writes needs to fix the dimension.
#[derive(Debug)]
pub(crate) struct Dimless {
    /// Nothing.
    shown: Arc<View>,
    settings: Settings,
    lock: Arc<Lock>,
    /// Held while the dimension is being fixed.
    place: Mutex<Place>,
    /// The process that made this handle, counted in forks.
    generation: u64,
}

/// What is on the disk.
#[derive(Debug)]
pub(crate) struct Place {
    manifest: Manifest,
    /// The number of the next pair that is tried.
    next_segment: u64,
    /// Nobody knows which MANIFEST the disk has, or the store was moved: it has to be opened again.
    failure: Option<Arc<Error>>,
}

impl Dimless {
    pub(crate) fn new(dir: Dir, manifest: Manifest, lock: &Arc<Lock>, options: &OpenOptions) -> Dimless {
        let next_segment = manifest.next_segment;
        Dimless {
            shown: Arc::new(View::empty(manifest.schema(), dir)),
            settings: options.settings.clone(),
            lock: lock.clone(),
            place: Mutex::new(Place { manifest, next_segment, failure: None }),
            generation: fork::generation(),
        }
    }

    /// The store as it is until then.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::new(None, self.shown.clone())
    }

    /// The place of whoever fixes the dimension.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] in a child of the process that opened the store; [`Error::Poisoned`] after a failure of unknown
    /// outcome.
    pub(crate) fn place(&self) -> Result<MutexGuard<'_, Place>> {
        // First: in a child, the place may be held by a thread that it does not have.
        if fork::generation() != self.generation {
            return Err(Error::Forked);
        }
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        match &place.failure {
            Some(first) => Err(Error::Poisoned { first: first.clone() }),
            None => Ok(place),
        }
    }

    /// That this store is still where its path says, and may be written to: asked before every call that would
    /// acknowledge something.
    ///
    /// # Errors
    ///
    /// As [`place`](Self::place), and as [`Lock::check`]: a store that was moved stays refused.
    pub(crate) fn check(&self) -> Result<()> {
        let mut place = self.place()?;
        let checked = caught(|| self.lock.check()).unwrap_or_else(|panic| Err(Error::panicked(&*panic)));
        checked.inspect_err(|error| {
            if error.stops_writing() {
                place.failure = Some(Arc::new(error.clone()));
            }
        })
    }

    /// Makes the first pair, and replaces MANIFEST by one that names it: steps M1 to M4 of the format. Where that panics,
    /// nobody knows how far it came, as after a failed sync.
    pub(crate) fn fix(&self, place: &mut Place, dim: u32) -> Result<Arc<Engine>> {
        caught(|| self.make_first_pair(place, dim)).unwrap_or_else(|panic| {
            let error = Error::panicked(&*panic);
            place.failure = Some(Arc::new(error.clone()));
            Err(error)
        })
    }

    fn make_first_pair(&self, place: &mut Place, dim: u32) -> Result<Arc<Engine>> {
        let dir = &self.shown.dir;
        // A new number each time: what an earlier try could not remove is not in the way.
        check_room(&place.manifest, 1)?;
        let next = &mut place.next_segment;
        let segment = directory::free_number(dir, || {
            let number = *next;
            if number >= MAX_NUMBER {
                return Err(Error::NumbersUsedUp { what: "segment numbers", max: MAX_NUMBER - 1 });
            }
            *next += 1;
            Ok(number)
        })?;
        let (pair, opened) = first_pair(dir, &place.manifest, segment, dim).map_err(Error::abandoned)?;
        match directory::replace_manifest(dir, &opened.manifest) {
            // Nothing is acknowledged yet: what is written next asks whether the store was moved.
            Ok(()) => Ok(Engine::new(dir.clone(), &self.lock, self.settings.clone(), opened, pair)),
            // From the rename on nobody knows which MANIFEST a crash leaves.
            Err(error @ Error::SyncFailed { .. }) => {
                place.failure = Some(Arc::new(error.clone()));
                Err(error)
            }
            Err(error) => {
                pair.made().iter().for_each(|path| _ = dir.unlink(path));
                Err(error.abandoned())
            }
        }
    }
}

/// M1: the first pair of a store, durable and opened under the MANIFEST that is to name it. After the rename nothing may
/// fail but the rename itself.
fn first_pair(dir: &Dir, before: &Manifest, segment: u64, dim: u32) -> Result<(VectorStorage, Opened)> {
    let identity = Identity { uuid: before.uuid, segment, salt: random()? };
    let header = Header { dim, element: before.element, identity };
    let manifest = Manifest {
        number: before.number + 1,
        dim,
        next_segment: segment + 1,
        segments: vec![SegmentEntry { number: segment, salt: identity.salt, sealed: None }],
        ..before.clone()
    };
    let file = FileRecord { header, seq: 0, chain: [0; 16] };
    let pair = VectorStorage::create_in(dir, &directory::pair_path(dir, segment), file, manifest.number)?;
    let how = How { writable: true, proven_only: false, by_ids: true, known: None };
    let opened = open_segments(dir, manifest, how).and_then(|opened| {
        if !planted::is(Bug::SkipNamesSync) {
            dir.sync().map_err(|e| Error::io(dir.path(), "sync", e))?;
        }
        Ok(opened)
    });
    let opened = opened.inspect_err(|_| pair.made().iter().for_each(|path| _ = dir.unlink(path)))?;
    Ok((pair, opened))
}

impl Place {
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}
