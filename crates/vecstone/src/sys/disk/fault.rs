//! A disk whose n-th call fails, once or for ever: in front of any other disk.

use super::{Disk, DiskDir, DiskFile, Mapping, Open, Stat};
use crate::sys::sync::unpoisoned;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a failing call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Returns this error of the operating system.
    Os(i32),
    /// Panics, as no disk does: a bug at that point of whoever called it.
    Panic,
    /// A read or write transfers only so many bytes; other calls work.
    Short(usize),
    /// A read or write transfers half of its bytes; other calls work.
    Half,
    /// A read or write transfers all but one byte; other calls work.
    AllButOne,
    /// A read or write transfers half of its bytes, and the next call returns this error: a disk that fills up in
    /// the middle of a write.
    HalfThen(i32),
}

/// The calls to fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) call: usize,
    pub(crate) fault: Fault,
    pub(crate) for_ever: bool,
}

/// What others do before a call.
struct Deed(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deed")
    }
}

#[derive(Debug, Default)]
struct Counter {
    calls: AtomicUsize,
    plan: Mutex<Option<Plan>>,
    /// Each call of this name fails with this error.
    named: Mutex<Option<(&'static str, i32)>>,
    /// What inodes of directories that are looked at by path are off by.
    shifted: AtomicUsize,
    /// Done once, before the call of that number.
    deed: Mutex<Option<(usize, Deed)>>,
    /// Names of the calls so far.
    seen: Mutex<Vec<&'static str>>,
}

/// Calls that change nothing.
#[cfg(feature = "shuttle")]
const MAX_OPTIMISTIC_PASSES: [&str; 14] = [
    "look",
    "stat",
    "itself",
    "links",
    "open_dir",
    "open",
    "list",
    "identity",
    "read_at",
    "read_cached",
    "len",
    "allocated",
    "try_lock",
    "map",
];

/// A panic without the report that a bug would have: there are thousands.
fn planted_panic(call: &str) -> ! {
    std::panic::resume_unwind(Box::new(format!("planted: {call}")))
}

impl Counter {
    /// Counts a call; the fault that hits it.
    fn hit(&self, call: &'static str) -> Option<Fault> {
        // In the tests of interleavings others may go on before each change.
        #[cfg(feature = "shuttle")]
        if !MAX_OPTIMISTIC_PASSES.contains(&call) {
            crate::sys::sync::switch();
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let due = unpoisoned(self.deed.lock()).take_if(|(call, _)| *call == number);
        if let Some((_, Deed(deed))) = due {
            deed();
        }
        unpoisoned(self.seen.lock()).push(call);
        let plan = (*unpoisoned(self.plan.lock()))?;
        let (first, later) = match plan.fault {
            Fault::HalfThen(code) => (Fault::Half, Fault::Os(code)),
            fault => (fault, fault),
        };
        let repeated = plan.for_ever || matches!(plan.fault, Fault::HalfThen(_)) && number == plan.call + 1;
        match number.cmp(&plan.call) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some(first),
            std::cmp::Ordering::Greater => repeated.then_some(later),
        }
    }

    /// For a call that moves no bytes.
    fn check(&self, call: &'static str) -> io::Result<()> {
        let named = *unpoisoned(self.named.lock());
        if let Some((_, code)) = named.filter(|(name, _)| *name == call) {
            return Err(io::Error::from_raw_os_error(code));
        }
        match self.hit(call) {
            Some(Fault::Os(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Panic) => planted_panic(call),
            _ => Ok(()),
        }
    }

    /// For a call that moves bytes: how many it may.
    fn transfer(&self, call: &'static str, len: usize) -> io::Result<usize> {
        match self.hit(call) {
            None => Ok(len),
            Some(Fault::Panic) => planted_panic(call),
            Some(Fault::Os(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Short(most)) => Ok(len.min(most)),
            Some(Fault::Half | Fault::HalfThen(_)) => Ok(len / 2),
            Some(Fault::AllButOne) => Ok(len.saturating_sub(1)),
        }
    }
}

/// A disk that fails as planned.
#[derive(Debug, Clone)]
pub(crate) struct FaultDisk {
    inner: Arc<dyn Disk>,
    counter: Arc<Counter>,
    /// Bytes of a file that no read call gets.
    bad: Option<(PathBuf, Range<u64>)>,
}

impl FaultDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>, plan: Option<Plan>) -> FaultDisk {
        let counter = Counter { plan: Mutex::new(plan), ..Counter::default() };
        FaultDisk { inner, counter: Arc::new(counter), bad: None }
    }

    /// A disk that can never read these bytes of a file.
    pub(crate) fn with_bad_bytes(inner: Arc<dyn Disk>, path: &Path, bytes: Range<u64>) -> FaultDisk {
        FaultDisk { bad: Some((path.to_owned(), bytes)), ..FaultDisk::new(inner, None) }
    }

    /// The call to fail, counted from now on.
    pub(crate) fn plan(&self, plan: Plan) {
        let call = plan.call + self.counter.calls.load(Ordering::Relaxed);
        *unpoisoned(self.counter.plan.lock()) = Some(Plan { call, ..plan });
    }

    /// From now on each call of this name fails with this error.
    pub(crate) fn fail_calls_named(&self, call: &'static str, code: i32) {
        *unpoisoned(self.counter.named.lock()) = Some((call, code));
    }

    /// From now on directories seem to be others than those that are open.
    pub(crate) fn change_inodes(&self) {
        self.counter.shifted.store(1000, Ordering::Relaxed);
    }

    /// What others do before the `call`-th call from now on.
    pub(crate) fn before(&self, call: usize, deed: impl FnOnce() + Send + 'static) {
        let call = call + self.counter.calls.load(Ordering::Relaxed);
        let mut next = unpoisoned(self.counter.deed.lock());
        *next = Some((call, Deed(Box::new(deed))));
    }

    /// Whether that was done; it is not done any more.
    pub(crate) fn was_done(&self) -> bool {
        unpoisoned(self.counter.deed.lock()).take().is_none()
    }

    /// Whether the call to fail has come.
    pub(crate) fn was_hit(&self) -> bool {
        let plan = *unpoisoned(self.counter.plan.lock());
        plan.is_some_and(|plan| self.counter.calls.load(Ordering::Relaxed) > plan.call)
    }

    /// From now on everything works.
    pub(crate) fn heal(&self) {
        *unpoisoned(self.counter.named.lock()) = None;
        *unpoisoned(self.counter.plan.lock()) = None;
    }

    /// The calls so far, by name.
    pub(crate) fn seen(&self) -> Vec<&'static str> {
        unpoisoned(self.counter.seen.lock()).clone()
    }
}

impl Disk for FaultDisk {
    fn look(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.counter.check("look")?;
        let (device, inode) = self.inner.look(path)?;
        Ok((device, inode + self.counter.shifted.load(Ordering::Relaxed) as u64))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn DiskDir>> {
        self.counter.check("open_dir")?;
        let inner = self.inner.open_dir(path)?;
        Ok(Arc::new(FaultDir { inner, path: path.to_owned(), disk: self.clone() }))
    }

    fn sync_data(&self, files: &[Arc<dyn DiskFile>]) -> Vec<io::Result<()>> {
        // Each file of a joint sync counts as a call, so that each fails alone.
        files.iter().map(|file| file.sync_data()).collect()
    }
}

#[derive(Debug)]
struct FaultDir {
    inner: Arc<dyn DiskDir>,
    path: PathBuf,
    disk: FaultDisk,
}

impl FaultDir {
    fn check(&self, call: &'static str) -> io::Result<()> {
        self.disk.counter.check(call)
    }
}

impl DiskDir for FaultDir {
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.check("open")?;
        let inner = self.inner.open(name, how)?;
        let bad = self.disk.bad.as_ref().filter(|(of, _)| *of == self.path.join(name));
        let bad = bad.map(|(_, bytes)| bytes.clone());
        Ok(Arc::new(FaultFile { inner, counter: self.disk.counter.clone(), bad }))
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        self.check("create_dir")?;
        self.inner.create_dir(name)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.check("list")?;
        self.inner.list()
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.check("rename")?;
        self.inner.rename(from, to)
    }

    fn link(&self, from: &OsStr, to_dir: &dyn DiskDir, to: &OsStr) -> io::Result<()> {
        self.check("link")?;
        let to_dir = to_dir.as_any().downcast_ref::<FaultDir>().ok_or(io::ErrorKind::CrossesDevices)?;
        self.inner.link(from, &*to_dir.inner, to)
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.check("unlink")?;
        self.inner.unlink(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.check("sync_dir")?;
        self.inner.sync()
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.check("identity")?;
        self.inner.identity()
    }

    fn links(&self) -> io::Result<u64> {
        self.check("links")?;
        self.inner.links()
    }

    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        self.check("stat")?;
        self.inner.stat(name)
    }

    fn itself(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.check("itself")?;
        let inner = self.inner.itself()?;
        Ok(Arc::new(FaultFile { inner, counter: self.disk.counter.clone(), bad: None }))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn DiskFile>,
    counter: Arc<Counter>,
    bad: Option<Range<u64>>,
}

impl FaultFile {
    fn is_bad(&self, offset: u64, len: usize) -> bool {
        self.bad.as_ref().is_some_and(|bad| offset < bad.end && bad.start < offset + len as u64)
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.counter.transfer("read_at", buf.len())?;
        if self.is_bad(offset, buf.len()) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.inner.read_at(&mut buf[..len], offset)
    }

    /// The system's call does not tell why it has no answer.
    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let Ok(len) = self.counter.transfer("read_cached", buf.len()) else { return Ok(None) };
        if self.is_bad(offset, buf.len()) {
            Ok(None)
        } else {
            self.inner.read_cached(&mut buf[..len], offset)
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let len = self.counter.transfer("write_at", buf.len())?;
        if len == 0 { Ok(0) } else { self.inner.write_at(&buf[..len], offset) }
    }

    fn len(&self) -> io::Result<u64> {
        self.counter.check("len")?;
        self.inner.len()
    }

    fn inode(&self) -> io::Result<(u64, u64)> {
        self.counter.check("inode")?;
        self.inner.inode()
    }

    fn copy_to(&self, to: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
        super::copy_range(self, to, range)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.counter.check("allocated")?;
        self.inner.allocated()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.counter.check("set_len")?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counter.check("sync_data")?;
        self.inner.sync_data()
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.counter.check("try_lock")?;
        self.inner.try_lock(exclusive)
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.counter.check("map")?;
        self.inner.map(len)
    }
}
