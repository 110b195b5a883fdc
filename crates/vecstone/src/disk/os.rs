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
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

/// What a helper thread does.
#[derive(Debug)]
enum Job {
    /// Sync a file; the result goes, with its place, to whoever waits.
    Sync(Arc<dyn DiskFile>, usize, Sender<(usize, io::Result<()>)>),
    /// Begin to write a part of a file.
    Writeback(Arc<dyn DiskFile>, u64, u64),
}

/// The real disk. Keeps one parked thread for each file beyond the first that is synced at once.
#[derive(Debug, Default)]
pub(crate) struct OsDisk {
    helpers: Mutex<Vec<Sender<Job>>>,
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

    fn sync_data(&self, files: &[Arc<dyn DiskFile>]) -> Vec<io::Result<()>> {
        let Some((first, others)) = files.split_first() else { return Vec::new() };
        let (answer, answers) = channel();
        for (helper, file) in others.iter().enumerate() {
            if let Err(job) = self.hand_over(helper, Job::Sync(file.clone(), helper + 1, answer.clone())) {
                // No thread could be started: the caller does it alone.
                job.run();
            }
        }
        drop(answer);
        let mut results: Vec<io::Result<()>> = vec![first.sync_data()];
        results.extend(others.iter().map(|_| Err(io::Error::other("the sync thread died"))));
        for (place, result) in answers {
            results[place] = result;
        }
        results
    }

    fn start_writeback(&self, file: &Arc<dyn DiskFile>, offset: u64, len: u64) {
        // Without a thread nothing is lost but time.
        _ = self.hand_over(0, Job::Writeback(file.clone(), offset, len));
    }
}

impl OsDisk {
    /// Gives a job to the helper of that number, starting it if need be.
    fn hand_over(&self, helper: usize, job: Job) -> Result<(), Job> {
        let mut helpers = self.helpers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if helpers.len() <= helper {
            let (jobs, inbox) = channel();
            let started = thread::Builder::new().name("vecstone-sync".into()).spawn(|| work(inbox));
            if started.is_err() {
                return Err(job);
            }
            helpers.push(jobs);
        }
        helpers[helper].send(job).map_err(|refused| refused.0)
    }
}

/// A helper's life: parked until there is a job; ends with its `OsDisk`.
fn work(inbox: Receiver<Job>) {
    inbox.into_iter().for_each(Job::run);
}

impl Job {
    fn run(self) {
        match self {
            Job::Sync(file, place, answer) => _ = answer.send((place, file.sync_data())),
            Job::Writeback(file, offset, len) => file.start_writeback(offset, len),
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
        assert_eq!(disk.helpers.lock().expect("not poisoned").len(), 2);
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
