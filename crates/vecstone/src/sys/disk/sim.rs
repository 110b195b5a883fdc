//! A disk in memory that knows what a power cut may take, and enumerates it.
//!
//! A file has its durable bytes and, on top, the writes and truncations since its last sync. A crash keeps, for each
//! 64-byte unit, any subset of the unsynced writes to it, or a part of one; where the file grew also zeros or garbage;
//! and any of the lengths the file has had since. A directory has its durable names and the changes since its last
//! sync, each of which a crash keeps or loses on its own. A byte that was durable and is written again is old or new,
//! never anything else (the assumption that README calls powersafe overwrite).

mod lie;
mod names;

use crate::sys::sync::unpoisoned;
pub(crate) use lie::Lie;
use lie::Lost;
use names::{NameChange, Names, ROOT, SimDir};

use super::{Disk, DiskDir, DiskFile, Mapping};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes that a crash keeps or loses together.
const UNIT: usize = 64;

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::SetLen(len) => bytes.resize(*len, 0),
            Change::Write(at, data) => {
                if bytes.len() < at + data.len() {
                    bytes.resize(at + data.len(), 0);
                }
                bytes[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    changes: Vec<Change>,
    lost: Lost,
}

#[derive(Debug, Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    /// Directories so far, but for the root; their numbers are not used twice.
    dirs: usize,
    durable: Names,
    current: Names,
    name_changes: Vec<NameChange>,
    /// Holders of locks: inode, shared holders, exclusive holder.
    locks: BTreeMap<usize, (usize, bool)>,
    /// Calls that change something, so far.
    steps: usize,
    /// After so many such calls, every call fails.
    power_off_at: Option<usize>,
    /// Sync the files of one call in reverse.
    reverse_sync: bool,
    /// Syncs of files, so far.
    syncs: usize,
    /// The syncs to fail, by the number of those before.
    lies: BTreeMap<usize, Lie>,
}

/// What is on the disk after a crash: every file by its name, and the directories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) dirs: BTreeSet<PathBuf>,
}

/// The simulated disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// A disk that holds `image`, durably.
    pub(crate) fn new(image: &Image) -> SimDisk {
        let mut state = State::default();
        state.current.dirs = image.dirs.iter().cloned().zip(ROOT + 1..).collect();
        state.dirs = state.current.dirs.len();
        for (path, bytes) in &image.files {
            let dir = path.parent().and_then(|dir| state.current.dir(dir)).expect("a directory of the image");
            let name = path.file_name().expect("a name");
            state.current.files.insert((dir, name.into()), state.inodes.len());
            let file = Inode { durable: bytes.clone(), current: bytes.clone(), ..Inode::default() };
            state.inodes.push(file);
        }
        state.durable = state.current.clone();
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// From the `steps`-th changing call on, everything fails, as if the power were off.
    pub(crate) fn power_off_at(&self, steps: usize) {
        self.state().power_off_at = Some(steps);
    }

    /// Drops what belongs to a process that is killed now: not one of its calls reaches the disk any more.
    pub(crate) fn kill<T>(&self, held: T) {
        let power_off_at = self.state().power_off_at.replace(0);
        drop(held);
        self.state().power_off_at = power_off_at;
    }

    /// The machine runs again, with everything that was written before.
    pub(crate) fn power_on(&self) {
        self.state().power_off_at = None;
    }

    pub(crate) fn reverse_sync(&self) {
        self.state().reverse_sync = true;
    }

    /// Changing calls so far.
    pub(crate) fn steps(&self) -> usize {
        self.state().steps
    }

    /// What a killed process leaves: everything written, for the page cache lives on (but for [`lie::Lie::Reverted`]).
    pub(crate) fn killed(&self) -> SimDisk {
        let mut state = self.state().clone();
        state.locks.clear();
        state.inodes.iter_mut().for_each(Inode::evict);
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// The disk as programs see it now.
    pub(crate) fn image(&self) -> Image {
        let state = self.state();
        let file = |(path, inode): (PathBuf, usize)| (path, state.inodes[inode].current.clone());
        let dirs = state.current.dirs.keys().cloned().collect();
        Image { files: state.current.paths().map(file).collect(), dirs }
    }

    /// All that a power cut now may leave.
    pub(crate) fn crash(&self) -> Crash {
        Crash::of(&self.state())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        unpoisoned(self.0.lock())
    }

    /// The state, if the power is on.
    fn on(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.power_off_at {
            Some(limit) if state.steps >= limit => Err(io::Error::other("power is off")),
            _ => Ok(state),
        }
    }

    /// As [`on`](Self::on), for a call that changes something.
    fn step(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.on()?;
        state.steps += 1;
        Ok(state)
    }
}

impl Disk for SimDisk {
    fn look(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.open_dir(path)?.identity()
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn DiskDir>> {
        let state = self.on()?;
        let Some(number) = state.current.dir(path) else {
            let file = state.current.paths().any(|(file, _)| file == path);
            return Err(if file { ErrorKind::NotADirectory } else { ErrorKind::NotFound }.into());
        };
        Ok(Arc::new(SimDir { disk: self.clone(), number }))
    }

    fn sync_data(&self, files: &[Arc<dyn DiskFile>]) -> Vec<io::Result<()>> {
        let reverse = self.state().reverse_sync;
        let mut results: Vec<io::Result<()>> = files.iter().map(|_| Ok(())).collect();
        let order = 0..files.len();
        let order: Vec<usize> = if reverse { order.rev().collect() } else { order.collect() };
        for at in order {
            results[at] = files[at].sync_data();
        }
        results
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: usize,
    writable: bool,
    /// The lock this descriptor holds: exclusive or shared.
    locked: Mutex<Option<bool>>,
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let mut state = self.disk.step()?;
        let inode = &mut state.inodes[self.inode];
        change.apply(&mut inode.current);
        inode.find_lost(&change);
        inode.changes.push(change);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.on()?;
        let bytes = &state.inodes[self.inode].current;
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    /// Everything is in memory.
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
        self.change(Change::Write(at, buf.to_vec())).map(|()| buf.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.on()?.inodes[self.inode].current.len() as u64)
    }

    fn inode(&self) -> io::Result<(u64, u64)> {
        self.disk.on().map(|_| (0, self.inode as u64))
    }

    fn copy_to(&self, to: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
        super::copy_range(self, to, range)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.step()?;
        let number = state.syncs;
        state.syncs += 1;
        let lie = state.lies.remove(&number);
        let inode = &mut state.inodes[self.inode];
        match lie {
            Some(lie) => Err(inode.fail_sync(lie)),
            None => {
                inode.sync();
                Ok(())
            }
        }
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        let mut state = self.disk.on()?;
        let (shared, held) = state.locks.entry(self.inode).or_default();
        if *held || (exclusive && *shared > 0) {
            return Ok(false);
        }
        if exclusive {
            *held = true
        } else {
            *shared += 1
        }
        *unpoisoned(self.locked.lock()) = Some(exclusive);
        Ok(true)
    }

    /// Exactly the bytes asked for: what is written behind them later must not be looked for here.
    fn map(&self, len: u64) -> io::Result<Mapping> {
        let state = self.disk.on()?;
        let bytes = &state.inodes[self.inode].current;
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        Ok(Mapping::of_bytes(bytes.get(..len).ok_or(ErrorKind::UnexpectedEof)?))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let locked = unpoisoned(self.locked.lock()).take();
        let mut state = self.disk.state();
        if let (Some(exclusive), Some((shared, held))) = (locked, state.locks.get_mut(&self.inode)) {
            if exclusive { *held = false } else { *shared -= 1 }
        }
    }
}

/// Everything one crash may leave, as independent choices.
#[derive(Debug)]
pub(crate) struct Crash {
    durable: Names,
    files: Vec<FileChoices>,
    names: Vec<NameChange>,
    /// How many options each choice has: names first, then per file its length and its units.
    options: Vec<usize>,
}

#[derive(Debug)]
struct FileChoices {
    lengths: Vec<usize>,
    /// Per unit: where it starts, and what may stand there.
    units: Vec<(usize, Vec<Vec<u8>>)>,
    /// What stands where no unit is in doubt.
    base: Vec<u8>,
}

impl Crash {
    fn of(state: &State) -> Crash {
        let files: Vec<FileChoices> = state.inodes.iter().map(FileChoices::of).collect();
        let mut options: Vec<usize> = state.name_changes.iter().map(|_| 2).collect();
        for file in &files {
            options.push(file.lengths.len());
            options.extend(file.units.iter().map(|(_, contents)| contents.len()));
        }
        Crash { durable: state.durable.clone(), files, names: state.name_changes.clone(), options }
    }

    /// How many options each choice has. Option 0 is always "as durable", the last one "as written".
    pub(crate) fn options(&self) -> &[usize] {
        &self.options
    }

    /// The disk that these choices leave.
    pub(crate) fn image(&self, choice: &[usize]) -> Image {
        let mut choice = choice.iter().copied();
        let mut next = || choice.next().unwrap_or(0);
        let mut names = self.durable.clone();
        for change in &self.names {
            if next() == 1 {
                change.apply(&mut names);
            }
        }
        let contents: Vec<Vec<u8>> = self.files.iter().map(|file| file.content(&mut next)).collect();
        let files = names.paths().map(|(path, inode)| (path, contents[inode].clone())).collect();
        Image { files, dirs: names.dirs.into_keys().collect() }
    }
}

impl FileChoices {
    fn of(inode: &Inode) -> FileChoices {
        // The length may be ahead of, or behind, any of the data: as durable first, as written last.
        let mut seen = vec![inode.durable.len()];
        let mut bytes = inode.durable.clone();
        for change in &inode.changes {
            change.apply(&mut bytes);
            seen.push(bytes.len());
        }
        let (durable, written) = (inode.durable.len(), bytes.len());
        let (shortest, longest) =
            seen.iter().fold((durable, durable), |(a, b), &len| (a.min(len), b.max(len)));
        seen.extend((shortest / UNIT + 1..longest.div_ceil(UNIT)).map(|unit| unit * UNIT));
        seen.sort_unstable();
        seen.dedup();
        seen.retain(|&len| len != durable && len != written);
        let mut lengths = vec![durable];
        lengths.append(&mut seen);
        if written != durable {
            lengths.push(written);
        }
        let mut base = inode.durable.clone();
        base.resize(longest, 0);
        let mut units = Vec::new();
        for start in (0..longest).step_by(UNIT) {
            let contents = unit_contents(inode, &base, start..(start + UNIT).min(longest));
            if contents.len() > 1 {
                units.push((start, contents));
            }
        }
        FileChoices { lengths, units, base }
    }

    fn content(&self, next: &mut impl FnMut() -> usize) -> Vec<u8> {
        let len = self.lengths[next()];
        let mut bytes = self.base.clone();
        for (start, contents) in &self.units {
            let content = &contents[next()];
            bytes[*start..start + content.len()].copy_from_slice(content);
        }
        bytes.truncate(len);
        bytes
    }
}

/// What may stand in one unit: as durable first, as written last.
fn unit_contents(inode: &Inode, base: &[u8], unit: Range<usize>) -> Vec<Vec<u8>> {
    let old = base[unit.clone()].to_vec();
    let writes: Vec<(usize, &[u8])> = inode
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Write(at, data) => {
                let (from, to) = ((*at).max(unit.start), (at + data.len()).min(unit.end));
                (from < to).then(|| (from - unit.start, &data[from - at..to - at]))
            }
            Change::SetLen(_) => None,
        })
        .collect();
    let fresh = inode.durable.len().clamp(unit.start, unit.end) - unit.start;
    let mut contents = vec![old.clone()];
    let mut add = |content: Vec<u8>| {
        contents.retain(|known| *known != content || *known == old);
        if !contents.contains(&content) {
            contents.push(content);
        }
    };
    // A file made shorter and then longer again has zeros in between.
    for change in &inode.changes {
        if let Change::SetLen(len) = change {
            let mut cut = old.clone();
            cut.iter_mut().skip(len.clamp(&unit.start, &unit.end) - unit.start).for_each(|byte| *byte = 0);
            add(cut);
        }
    }
    if !writes.is_empty() {
        // Bytes beyond the durable end may come as garbage.
        let mut garbage = old.clone();
        for (at, byte) in garbage.iter_mut().enumerate().skip(fresh) {
            *byte = (at * 167 + 43).to_le_bytes()[0];
        }
        add(garbage);
        for (at, data) in &writes {
            for cut in (1..data.len()).filter(|cut| cut % 8 == 0 || *cut == 1 || cut + 1 == data.len()) {
                let mut torn = old.clone();
                torn[*at..at + cut].copy_from_slice(&data[..cut]);
                add(torn);
            }
        }
    }
    // Every subset of the writes, in order; beyond a few writes only the prefixes.
    let few = writes.len() <= 4;
    let subsets = if few { (1 << writes.len()) - 1 } else { writes.len() };
    for subset in 1..=subsets {
        let mut content = old.clone();
        for (number, (at, data)) in writes.iter().enumerate() {
            let kept = if few { subset >> number & 1 == 1 } else { number < subset };
            if kept {
                content[*at..at + data.len()].copy_from_slice(data);
            }
        }
        add(content);
    }
    contents
}
