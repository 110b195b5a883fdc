//! The operating system's files.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the door: the only module that may touch std::fs"
)]

use super::fork::{self, Guard};
use super::{Disk, DiskFile, Mapping, Open};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

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
        _ = fork::watch();
        OsDisk { helper: Mutex::default() }
    }
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = File::options();
        options.read(true);
        match how {
            Open::Read => {}
            Open::ReadWrite => _ = options.write(true),
            Open::CreateNew => _ = options.write(true).create_new(true),
            Open::Create => _ = options.write(true).create(true),
        }
        // A link could lead out of the store, a pipe would hang the open.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(OsFile { guard: OnceLock::new(), file }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Windows cannot open a directory as a file; its file system journals names by itself.
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
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
        let mut helper = self.helper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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

#[derive(Debug)]
struct OsFile {
    /// Made when the file is locked. Before `file`, for it must be dropped before the descriptor is closed: its number
    /// may be another file's the next moment.
    guard: OnceLock<Guard>,
    file: File,
}

impl OsFile {
    /// Keeps a lock from forked children.
    fn guard(&self) -> io::Result<&Guard> {
        match self.guard.get() {
            Some(guard) => Ok(guard),
            None => {
                let guard = fork::guard(&self.file)?;
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
    fn copy_to(&self, to: &dyn DiskFile, len: u64) -> io::Result<()> {
        let done = to.os_file().map_or(0, |to| super::map::copy_within_system(&self.file, to, len));
        super::copy_range(self, to, done..len)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_bytes_asked_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = OsDisk::default();
        let open = |name: &str| disk.open(&dir.path().join(name), Open::Create).expect("opened");
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i >> 3).to_le_bytes()[0]).collect();
        super::super::write_all_at(&*open("from"), &bytes, 0).expect("written");
        for len in [0, 1, 4096, (1 << 20) + 77, bytes.len()] {
            let name = len.to_string();
            open("from").copy_to(&*open(&name), len as u64).expect("copied");
            assert!(fs::read(dir.path().join(&name)).expect("readable") == bytes[..len], "{len}");
        }
        let short = open("from").copy_to(&*open("short"), bytes.len() as u64 + 1).expect_err("not so many");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(open("from").inode().expect("known"), open("from").inode().expect("known"));
        assert_ne!(open("from").inode().expect("known"), open("short").inode().expect("known"));
    }

    #[test]
    fn several_files_are_synced_with_one_result_each() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = OsDisk::default();
        let files: Vec<_> = (0..3)
            .map(|i| disk.open(&dir.path().join(i.to_string()), Open::CreateNew).expect("created"))
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
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let disk = OsDisk::default();
        let file = disk.open(&from, Open::CreateNew).expect("created");
        disk.link(&from, &to).expect("linked");
        crate::disk::write_all_at(&*file, b"x", 0).expect("written");
        assert_eq!(disk.open(&to, Open::Read).expect("opened").len().expect("a length"), 1);
        let again = disk.link(&from, &to).expect_err("it exists");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_directory_is_not_a_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(OsDisk::default().open(dir.path(), Open::Read).is_err());
    }
}
