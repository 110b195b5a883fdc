//! The operating system's files.
#![expect(clippy::disallowed_types, reason = "this is the door: the only module that may touch std::fs")]
#![cfg_attr(any(not(unix), test), expect(clippy::disallowed_methods, reason = "as above"))]

use super::fork::{self, Guard};
use super::{Disk, DiskDir, DiskFile, Mapping, Open, Stat};
use crate::sys::sync::unpoisoned;
use std::ffi::{OsStr, OsString};
#[cfg(not(unix))]
use std::fs;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::SystemTime;

/// A part of a file that the disk may begin with.
#[derive(Debug)]
struct Writeback {
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
}

/// A length that says: to the end of the file.
const TO_THE_END: u64 = 0;

/// The real disk. Keeps one parked thread once something long was written.
#[derive(Debug)]
pub(crate) struct OsDisk {
    helper: Mutex<Option<Sender<Writeback>>>,
}

impl Default for OsDisk {
    fn default() -> OsDisk {
        // Without memory for that, a lock cannot be taken either: that will say so.
        _ = fork::install_handlers();
        OsDisk { helper: Mutex::default() }
    }
}

impl Disk for OsDisk {
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn DiskDir>> {
        OsDir::open(path).map(|dir| Arc::new(dir) as Arc<dyn DiskDir>)
    }

    #[cfg(unix)]
    fn look(&self, path: &Path) -> io::Result<(u64, u64)> {
        rustix::fs::stat(path).map(|of| identity(&of)).map_err(io::Error::from)
    }

    #[cfg(not(unix))]
    fn look(&self, path: &Path) -> io::Result<(u64, u64)> {
        OsDir::open(path)?.identity()
    }

    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        std::path::absolute(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    /// The disk begins with all files before the first one is waited for: one commit of the file system's journal then
    /// mostly covers them all. Measured against a thread for each file, which often needs two.
    fn sync_data(&self, files: &[Arc<dyn DiskFile>]) -> Vec<io::Result<()>> {
        if files.len() > 1 {
            files.iter().for_each(|file| file.start_writeback(0, TO_THE_END));
        }
        files.iter().map(|file| file.sync_data()).collect()
    }

    fn start_writeback(&self, file: &Arc<dyn DiskFile>, offset: u64, len: u64) {
        let mut helper = unpoisoned(self.helper.lock());
        if helper.is_none() {
            let (jobs, inbox) = channel::<Writeback>();
            let work = || inbox.into_iter().for_each(|job| job.file.start_writeback(job.offset, job.len));
            // Without a thread nothing is lost but time.
            let started =
                thread::Builder::new().name("vecstone-ahead".into()).spawn(fork::between_forks(work));
            *helper = started.ok().map(|_| jobs);
        }
        if let Some(helper) = helper.as_ref() {
            _ = helper.send(Writeback { file: file.clone(), offset, len });
        }
    }
}

/// Device and inode, whose types differ from system to system.
#[cfg(unix)]
#[allow(clippy::unnecessary_cast, clippy::cast_sign_loss, reason = "not on every system")]
fn identity(of: &rustix::fs::Stat) -> (u64, u64) {
    (of.st_dev as u64, of.st_ino as u64)
}

/// A directory that is held open: its descriptor is what names are looked up in, and what is synced.
#[cfg(unix)]
#[derive(Debug)]
struct OsDir {
    dir: File,
}

#[cfg(unix)]
impl OsDir {
    fn open(path: &Path) -> io::Result<OsDir> {
        use std::os::unix::fs::OpenOptionsExt;
        let dir = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NONBLOCK).open(path)?;
        Ok(OsDir { dir })
    }
}

#[cfg(unix)]
impl DiskDir for OsDir {
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        use rustix::fs::{Mode, OFlags};
        let how = match how {
            Open::Read => OFlags::RDONLY,
            Open::ReadWrite => OFlags::RDWR,
            Open::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Open::Create => OFlags::RDWR | OFlags::CREATE,
        };
        // A pipe would hang the open. What is written to never lies behind a link: it could lead out of the store.
        let follow = if how == OFlags::RDONLY { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = how | follow | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&self.dir, name, flags, Mode::from_raw_mode(0o666));
        match rustix::io::retry_on_intr(open) {
            Ok(file) => OsFile::of(File::from(file)),
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => Err(super::no_file()),
            Err(error) => Err(error.into()),
        }
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.dir, name, rustix::fs::Mode::from_raw_mode(0o777))?)
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn link(&self, from: &OsStr, to_dir: &dyn DiskDir, to: &OsStr) -> io::Result<()> {
        let to_dir = to_dir.as_any().downcast_ref::<OsDir>().ok_or(io::ErrorKind::CrossesDevices)?;
        Ok(rustix::fs::linkat(&self.dir, from, &to_dir.dir, to, rustix::fs::AtFlags::empty())?)
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, name, rustix::fs::AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        self.dir.sync_all()
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok(identity(&rustix::fs::fstat(&self.dir)?))
    }

    fn links(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::nlink(&self.dir.metadata()?))
    }

    #[allow(clippy::useless_conversion, reason = "not on every system")]
    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        use rustix::fs::{AtFlags, FileType, statat};
        let of = statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let symlink = FileType::from_raw_mode(of.st_mode) == FileType::Symlink;
        Ok(Stat { identity: identity(&of), links: of.st_nlink.into(), symlink })
    }

    /// A descriptor of its own: its lock ends with it, and no other call goes through it.
    fn itself(&self) -> io::Result<Arc<dyn DiskFile>> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, ".", flags, Mode::empty())?;
        Ok(Arc::new(OsFile { guard: OnceLock::new(), file: File::from(file) }))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Elsewhere a directory is its path: that of one in use can mostly not be given to another.
#[cfg(not(unix))]
#[derive(Debug)]
struct OsDir {
    path: PathBuf,
}

#[cfg(not(unix))]
impl OsDir {
    fn open(path: &Path) -> io::Result<OsDir> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(OsDir { path: path.to_owned() })
    }
}

#[cfg(not(unix))]
impl DiskDir for OsDir {
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => _ = options.write(true),
            Open::CreateNew => _ = options.write(true).create_new(true),
            Open::Create => _ = options.write(true).create(true),
        }
        OsFile::of(options.open(self.path.join(name))?)
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        fs::create_dir(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn link(&self, from: &OsStr, to_dir: &dyn DiskDir, to: &OsStr) -> io::Result<()> {
        let to_dir = to_dir.as_any().downcast_ref::<OsDir>().ok_or(io::ErrorKind::CrossesDevices)?;
        fs::hard_link(self.path.join(from), to_dir.path.join(to))
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    /// Windows cannot open a directory as a file; its file system journals names by itself.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// By its path there is only this one.
    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, 0))
    }

    fn links(&self) -> io::Result<u64> {
        Ok(1)
    }

    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        let symlink = fs::symlink_metadata(self.path.join(name))?.is_symlink();
        Ok(Stat { identity: (0, 0), links: 1, symlink })
    }

    fn itself(&self) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[derive(Debug)]
struct OsFile {
    /// Made when the file is locked. Before `file`, for it must be dropped before the descriptor is closed: its number
    /// may be another file's the next moment.
    guard: OnceLock<Guard>,
    file: File,
}

impl OsFile {
    fn of(file: File) -> io::Result<Arc<dyn DiskFile>> {
        if !file.metadata()?.is_file() {
            return Err(super::no_file());
        }
        Ok(Arc::new(OsFile { guard: OnceLock::new(), file }))
    }

    /// Keeps a lock from forked children.
    fn guard(&self) -> io::Result<&Guard> {
        match self.guard.get() {
            Some(guard) => Ok(guard),
            None => {
                let guard = fork::register_fd(&self.file)?;
                Ok(self.guard.get_or_init(|| guard))
            }
        }
    }
}

impl Drop for OsFile {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child forked before the guard was made, or after it is gone. In a
        // child it would take the lock from the parent.
        if self.guard.get().is_some_and(Guard::is_ours) {
            _ = self.file.unlock();
        }
    }
}

impl DiskFile for OsFile {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset)
    }

    fn read_cached(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        super::map::read_cached(&self.file, buf, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.file, buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    #[cfg(unix)]
    fn inode(&self) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let of = self.file.metadata()?;
        Ok((of.dev(), of.ino()))
    }

    #[cfg(not(unix))]
    fn inode(&self) -> io::Result<(u64, u64)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The file system may let both files share the bytes (reflinks) or copy them by itself; what it leaves goes through
    /// memory.
    fn copy_to(&self, to: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
        let copy = |to| super::map::copy_within_system(&self.file, to, range.clone());
        let done = to.os_file().map_or(range.start, copy);
        super::copy_range(self, to, done..range.end)
    }

    fn os_file(&self) -> Option<&File> {
        Some(&self.file)
    }

    #[cfg(unix)]
    fn allocated(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::blocks(&self.file.metadata()?) * 512)
    }

    #[cfg(not(unix))]
    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    fn modified(&self) -> Option<SystemTime> {
        self.file.metadata().and_then(|of| of.modified()).ok()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        super::map::start_writeback(&self.file, offset, len);
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        // First the guard: a child forked in between must not get the lock.
        if !self.guard()?.is_ours() {
            return Err(io::Error::other("the file was opened in another process, before a fork"));
        }
        let locked = if exclusive { self.file.try_lock() } else { self.file.try_lock_shared() };
        match locked {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        Mapping::of_file(&self.file, len)
    }

    fn map_exactly(&self, len: u64) -> io::Result<Mapping> {
        Mapping::exactly(&self.file, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::Dir;

    fn open_dir(path: &Path) -> Dir {
        Dir::open(&(Arc::new(OsDisk::default()) as Arc<dyn Disk>), path).expect("opened")
    }

    #[test]
    fn a_copy_has_the_bytes_asked_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = open_dir(dir.path());
        let open = |name: &str| held.open_file(&held.join(name), Open::Create).expect("opened");
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i >> 3).to_le_bytes()[0]).collect();
        super::super::write_all_at(&*open("from"), &bytes, 0).expect("written");
        for len in [0, 1, 4096, (1 << 20) + 77, bytes.len()] {
            let name = len.to_string();
            open("from").copy_to(&*open(&name), 0..len as u64).expect("copied");
            assert!(std::fs::read(dir.path().join(&name)).expect("readable") == bytes[..len], "{len}");
        }
        let short =
            open("from").copy_to(&*open("short"), 0..bytes.len() as u64 + 1).expect_err("not so many");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(open("from").inode().expect("known"), open("from").inode().expect("known"));
        assert_ne!(open("from").inode().expect("known"), open("short").inode().expect("known"));
    }

    #[test]
    fn several_files_are_synced_with_one_result_each() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (disk, held) = (OsDisk::default(), open_dir(dir.path()));
        let files: Vec<_> = (0..3)
            .map(|i| held.open_file(&held.join(i.to_string()), Open::CreateNew).expect("created"))
            .collect();
        for n in 0..=3 {
            let results = disk.sync_data(&files[..n]);
            assert_eq!(results.len(), n);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
    }

    #[test]
    fn a_link_is_another_name_of_the_same_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("other")).expect("made");
        let (held, other) = (open_dir(dir.path()), open_dir(&dir.path().join("other")));
        let (from, to) = (held.join("from"), other.join("to"));
        let file = held.open_file(&from, Open::CreateNew).expect("created");
        held.link(&from, &other, &to).expect("linked");
        crate::sys::disk::write_all_at(&*file, b"x", 0).expect("written");
        assert_eq!(other.open_file(&to, Open::Read).expect("opened").len().expect("a length"), 1);
        let again = held.link(&from, &other, &to).expect_err("it exists");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_directory_is_not_a_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("inner")).expect("made");
        let held = open_dir(dir.path());
        assert!(held.open_file(&held.join("inner"), Open::Read).is_err());
        assert_eq!(held.list().expect("listed"), ["inner"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_stays_the_same_one_wherever_it_is_moved() {
        let outer = tempfile::tempdir().expect("a temporary directory");
        let path = outer.path().join("store");
        std::fs::create_dir(&path).expect("made");
        let held = open_dir(&path);
        held.open_file(&held.join("a"), Open::CreateNew).expect("created");
        std::fs::rename(&path, outer.path().join("aside")).expect("moved");
        std::fs::create_dir(&path).expect("made anew");
        std::fs::write(path.join("a"), "theirs").expect("written");
        held.rename(&held.join("a"), &held.join("b")).expect("renamed");
        held.open_file(&held.join("a"), Open::CreateNew).expect("created");
        held.unlink(&held.join("a")).expect("removed");
        held.sync().expect("synced");
        assert_eq!(held.list().expect("listed"), ["b"]);
        assert_eq!(open_dir(&path).list().expect("listed"), ["a"]);
        std::fs::remove_dir_all(outer.path().join("aside")).expect("removed");
        assert!(held.open_file(&held.join("c"), Open::CreateNew).is_err());
        held.sync().expect("a directory without a name can be synced");
    }
}
