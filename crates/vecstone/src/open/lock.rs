//! What makes a writer the only one, and tells it whether its store is still where its path says.
//!
//! Two locks are held: that of LOCK, and one of the directory itself, which no one can remove. Both stay open as long as
//! the writer lives, so that no other file gets their inodes.

use crate::pair::files::random;
use crate::segment::side;
use crate::sys::disk::{Dir, DiskFile, Open, is_no_file, write_all_at};
use crate::sys::interrupt;
use crate::sys::planted::{self, Bug};
use crate::types::error::{Error, Result};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) const LOCK: &str = "LOCK";

const LOCK_RETRY: Duration = Duration::from_millis(5);

/// The longest content of LOCK: a process id, a token, and a line's end behind each.
const CONTENT: usize = 10 + 1 + 32 + 1;

/// The locks of a store, held.
#[derive(Debug)]
pub(crate) struct Lock {
    dir: Dir,
    path: PathBuf,
    _file: Arc<dyn DiskFile>,
    /// Of LOCK: device and inode.
    identity: (u64, u64),
    /// `None` where the file system does not lock directories.
    _itself: Option<Arc<dyn DiskFile>>,
    /// What stands in LOCK, if it could be written.
    content: String,
    unsteady: AtomicBool,
}

impl Lock {
    /// Takes both locks, making LOCK if need be, and leaves this process's id in it as a hint, with a token of this
    /// handle.
    pub(crate) fn take(dir: &Dir, wait: Duration) -> Result<Lock> {
        let path = dir.join(LOCK);
        let itself = open_itself(dir)?;
        let deadline = Instant::now() + wait;
        let retry = || {
            let again = Instant::now() < deadline;
            if again {
                std::thread::sleep(LOCK_RETRY);
            }
            again
        };
        // First that of the directory: who cannot have it makes no LOCK.
        while !try_itself(dir, itself.as_ref(), true)? {
            interrupt::check()?;
            if !retry() {
                return Err(locked(dir));
            }
        }
        let file = dir.open_file(&path, Open::Create).map_err(|e| Error::open(dir, &path, e))?;
        while !file.try_lock(true).map_err(|e| Error::io(&path, "lock", e))? {
            interrupt::check()?;
            if !retry() {
                return Err(locked(dir));
            }
        }
        let identity = match file.inode() {
            Err(e) if e.kind() == ErrorKind::Unsupported => (0, 0),
            found => found.map_err(|e| Error::io(&path, "look at", e))?,
        };
        let token: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let content = format!("{}\n{token}\n", std::process::id());
        // Only hints: a full disk must not keep anyone from opening.
        _ = file.set_len(0).and_then(|()| write_all_at(file.as_ref(), content.as_bytes(), 0));
        let (dir, unsteady) = (dir.clone(), AtomicBool::new(false));
        Ok(Lock { dir, path, _file: file, identity, _itself: itself, content, unsteady })
    }

    /// The directory that is locked.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Whether the path still names the directory that is held, with the LOCK that is held in it: to be asked before
    /// anything is acknowledged.
    ///
    /// # Errors
    ///
    /// [`Error::StoreMoved`] and [`Error::LockRemoved`]: writing has to stop. [`Error::Io`]: nobody can tell now.
    pub(crate) fn check(&self) -> Result<()> {
        if planted::is(Bug::IgnoreMove) || !cfg!(unix) && !cfg!(test) {
            // A directory with open files keeps its path.
            return Ok(());
        }
        let same = |found: io::Result<(u64, u64)>, held| match found {
            Ok(found) => Ok(found == held),
            Err(e) if is_absence(&e) => Ok(false),
            Err(e) => Err(Error::io(&self.path, "look at", e)),
        };
        let here = same(self.dir.at_its_path(), self.dir.identity())?;
        if here && same(self.dir.stat(&self.path).map(|found| found.identity), self.identity)? {
            return Ok(());
        }
        // Some file systems give a file another inode now and then.
        if self.is_ours_at_the_path()? {
            self.unsteady.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(if here {
            Error::LockRemoved { path: self.path.clone() }
        } else {
            Error::StoreMoved { path: self.dir.path().to_owned() }
        })
    }

    /// Whether the LOCK that the path names is locked and has our token.
    fn is_ours_at_the_path(&self) -> Result<bool> {
        let open = || Dir::open(self.dir.disk(), self.dir.path())?.open_file(&self.path, Open::Read);
        let file = match open() {
            Ok(file) => file,
            Err(e) if is_absence(&e) => return Ok(false),
            Err(e) => return Err(Error::io(&self.path, "open", e)),
        };
        let free = file.try_lock(false).map_err(|e| Error::io(&self.path, "lock", e))?;
        Ok(!free && read_content(file.as_ref()).as_deref() == Some(&self.content))
    }

    /// Whether the directory has a name anywhere: what is in one that has none is lost with its last descriptor.
    pub(crate) fn has_a_name(&self) -> bool {
        self.dir.links().is_ok_and(|links| links > 0)
    }

    /// Whether the file system was seen to give LOCK another inode while it was held.
    pub(crate) fn is_unsteady(&self) -> bool {
        self.unsteady.load(Ordering::Relaxed)
    }
}

/// Whether an error says that there is no such file.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn read_content(file: &dyn DiskFile) -> Option<String> {
    let mut bytes = [0; CONTENT];
    let len = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..len]).ok().map(str::to_owned)
}

/// That another writer holds the store, and which, if LOCK says it.
fn locked(dir: &Dir) -> Error {
    let path = dir.join(LOCK);
    let content = dir.open_file(&path, Open::Read).ok().and_then(|file| read_content(file.as_ref()));
    let pid =
        content.as_deref().and_then(|text| text.lines().next()).and_then(|line| line.trim().parse().ok());
    Error::Locked { path, pid }
}

/// The directory, opened once more for its lock; `None` where directories have none.
fn open_itself(dir: &Dir) -> Result<Option<Arc<dyn DiskFile>>> {
    match dir.itself() {
        Ok(itself) => Ok(Some(itself)),
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(None),
        Err(e) => Err(Error::io(dir.path(), "open", e)),
    }
}

/// Takes the lock of the directory; true too where the file system refuses to lock one, as NFS does.
fn try_itself(dir: &Dir, itself: Option<&Arc<dyn DiskFile>>, exclusive: bool) -> Result<bool> {
    let Some(itself) = itself else { return Ok(true) };
    match itself.try_lock(exclusive) {
        Ok(taken) => Ok(taken),
        Err(e) if refuses_directories(&e) => Ok(true),
        Err(e) => Err(Error::io(dir.path(), "lock", e)),
    }
}

#[cfg(unix)]
fn refuses_directories(error: &io::Error) -> bool {
    let refusals = [libc::EBADF, libc::EINVAL, libc::EISDIR, libc::ENOLCK, libc::ENOSYS, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| refusals.contains(&code))
}

#[cfg(not(unix))]
fn refuses_directories(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
}

/// Whether a writer holds one of the locks now. A store without LOCK (a copy, say) may have none.
pub(crate) fn writer_lives(dir: &Dir) -> Result<bool> {
    let itself = open_itself(dir)?;
    if !try_itself(dir, itself.as_ref(), false)? {
        return Ok(true);
    }
    // Held no longer than it takes to know: a writer may be waiting for it.
    drop(itself);
    let path = dir.join(LOCK);
    match dir.open_file(&path, Open::Read) {
        Ok(file) => Ok(!file.try_lock(false).map_err(|e| Error::io(&path, "lock", e))?),
        // A copy has no LOCK; what is no file cannot be held.
        Err(e) if e.kind() == ErrorKind::NotFound || is_no_file(&e) => Ok(false),
        Err(e) => Err(Error::io(&path, "open", e)),
    }
}

/// Refuses a store whose files a writer would change under other names, too, or cut off from them: symbolic links, and
/// hard links of what is appended to.
pub(crate) fn refuse_links(dir: &Dir, active: Option<u64>) -> Result<()> {
    let names = dir.list().map_err(|e| Error::io(dir.path(), "list", e))?;
    for name in names.iter().filter(|name| crate::open::directory::kind_of_file(name).is_some()) {
        let path = dir.join(name);
        let found = match dir.stat(&path) {
            Ok(found) => found,
            // Another writer has just replaced it.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(&path, "look at", e)),
        };
        let of_active = || {
            let of_a_segment = name.to_str().and_then(side::numbered);
            of_a_segment.is_some_and(|(number, suffix)| active == Some(number) && !side::is_suffix(suffix))
        };
        let what = if found.symlink {
            "a symbolic link"
        } else if found.links > 1 && (name == LOCK || of_active()) {
            "shared with another name (a hard link)"
        } else {
            continue;
        };
        return Err(Error::Linked { path, what });
    }
    Ok(())
}
