//! An open directory: what stands in it is reached through it, whatever its path names by then.

use super::{Disk, DiskDir, DiskFile, Open, Stat};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a file by its path.
#[cfg(any(test, fuzzing))]
pub(crate) fn open_file(disk: impl Disk + 'static, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
    let (dir, path) = Dir::of_file(&(Arc::new(disk) as Arc<dyn Disk>), path)?;
    dir.open_file(&path, how)
}

/// A directory, held open: it may be moved, or another may stand under its path, and this is still the same one. Clones
/// share it.
///
/// Its calls take the path of a file, as messages name it, and hand on the last part of it only.
#[derive(Debug, Clone)]
pub(crate) struct Dir(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    door: Arc<dyn DiskDir>,
    path: PathBuf,
    identity: (u64, u64),
}

impl Dir {
    /// Opens what the path names now. The path is made absolute, for the process may change its working directory, and
    /// links in it stay.
    pub(crate) fn open(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<Dir> {
        let path = disk.absolute(path)?;
        let door = disk.open_dir(&path)?;
        let identity = door.identity()?;
        Ok(Dir(Arc::new(Inner { disk: disk.clone(), door, path, identity })))
    }

    /// The directory of a file, and the file's path in it.
    pub(crate) fn of_file(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<(Dir, PathBuf)> {
        let path = disk.absolute(path)?;
        let dir = Dir::open(disk, path.parent().unwrap_or(&path))?;
        Ok((dir, path))
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.0.disk
    }

    /// The path that it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path.join(name)
    }

    /// The name of a file of this directory.
    fn name<'a>(&self, path: &'a Path) -> io::Result<&'a OsStr> {
        debug_assert!(
            path.parent() == Some(self.path()),
            "{} is not in {}",
            path.display(),
            self.path().display()
        );
        path.file_name().ok_or_else(|| io::ErrorKind::InvalidFilename.into())
    }

    pub(crate) fn open_file(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.0.door.open(self.name(path)?, how)
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        // What has no name, as the root, is there.
        let name = path.file_name().ok_or(io::ErrorKind::AlreadyExists)?;
        self.0.door.create_dir(name)
    }

    pub(crate) fn list(&self) -> io::Result<Vec<OsString>> {
        self.0.door.list()
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.door.rename(self.name(from)?, self.name(to)?)
    }

    /// Gives a file another name, in another directory, which must not exist there: a hard link.
    pub(crate) fn link(&self, from: &Path, to_dir: &Dir, to: &Path) -> io::Result<()> {
        self.0.door.link(self.name(from)?, &*to_dir.0.door, to_dir.name(to)?)
    }

    pub(crate) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.door.unlink(self.name(path)?)
    }

    /// What tells it from every other.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.0.identity
    }

    /// The identity of the directory that its path names now.
    pub(crate) fn at_its_path(&self) -> io::Result<(u64, u64)> {
        self.0.disk.look(self.path())
    }

    /// How many names it has; 0 once it was removed.
    pub(crate) fn links(&self) -> io::Result<u64> {
        self.0.door.links()
    }

    /// What a name stands for; a link is not followed.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.0.door.stat(self.name(path)?)
    }

    /// Opens it once more, for its lock.
    pub(crate) fn itself(&self) -> io::Result<Arc<dyn DiskFile>> {
        self.0.door.itself()
    }

    /// Makes its names durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.door.sync()
    }
}
