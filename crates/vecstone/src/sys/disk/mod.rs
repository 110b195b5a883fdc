//! The one door to the disk. Nothing else in the library opens, writes, syncs or maps a file.
//!
//! [`OsDisk`] is the operating system; the tests put a simulated disk in its place that enumerates what a crash can
//! leave behind. Reads and writes name their offset, so that a failed one moves nothing.

mod dir;
#[cfg(test)]
pub(crate) mod fault;
pub(crate) mod fork;
mod map;
mod os;
#[cfg(any(test, fuzzing))]
#[cfg_attr(fuzzing, allow(dead_code, reason = "the fuzzer needs a part of it"))]
pub(crate) mod sim;

pub(crate) use dir::Dir;
#[cfg(any(test, fuzzing))]
pub(crate) use dir::open_file;
pub(crate) use map::Mapping;
pub(crate) use os::OsDisk;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// For reading; it must exist. Links are followed: who only reads may have a store put together from them. All others
    /// refuse them.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist.
    CreateNew,
    /// For reading and writing; made if absent.
    Create,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    /// Device and inode.
    pub(crate) identity: (u64, u64),
    /// How many names the file has.
    pub(crate) links: u64,
    pub(crate) symlink: bool,
}

/// A file system.
pub(crate) trait Disk: Send + Sync + fmt::Debug {
    /// Opens a directory; links in its path are followed.
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn DiskDir>>;
    /// What tells the directory that a path names now from every other: device and inode.
    fn look(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// The path from the root on, with the links that are in it.
    fn absolute(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// The path of what is there, without links and detours.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(path.to_owned())
    }
    /// Syncs several files at once; one result each, in their order.
    fn sync_data(&self, files: &[Arc<dyn DiskFile>]) -> Vec<io::Result<()>>;
    /// A hint that these bytes will be synced soon: the disk may begin with them. Promises nothing.
    fn start_writeback(&self, _file: &Arc<dyn DiskFile>, _offset: u64, _len: u64) {}
}

/// An open directory, by the names in it.
///
/// What a new, renamed or removed name needs to survive a power cut is `sync` of its directory; what bytes need is
/// `sync_data` of their file.
pub(crate) trait DiskDir: Send + Sync + fmt::Debug {
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    fn create_dir(&self, name: &OsStr) -> io::Result<()>;
    fn list(&self) -> io::Result<Vec<OsString>>;
    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;
    /// Gives a file another name, in a directory of the same disk, which must not exist there: a hard link.
    fn link(&self, from: &OsStr, to_dir: &dyn DiskDir, to: &OsStr) -> io::Result<()>;
    fn unlink(&self, name: &OsStr) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// What tells the directory from every other: device and inode.
    fn identity(&self) -> io::Result<(u64, u64)>;
    /// How many names the directory has; 0 once it was removed.
    fn links(&self) -> io::Result<u64>;
    /// What a name stands for; a link is not followed.
    fn stat(&self, name: &OsStr) -> io::Result<Stat>;
    /// The directory as a file that can be locked and nothing else; `Unsupported` where there is no such thing.
    fn itself(&self) -> io::Result<Arc<dyn DiskFile>>;
    /// The disk's own directory, for [`link`](Self::link).
    fn as_any(&self) -> &dyn std::any::Any;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync + fmt::Debug {
    /// Reads some bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As `read_at`, if the bytes are in memory; `None` if the disk would have to be waited for, or nobody knows.
    fn read_cached(&self, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }
    /// Writes some bytes at `offset`, making the file longer if need be.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    fn len(&self) -> io::Result<u64>;
    /// What tells the file from every other: device and inode.
    fn inode(&self) -> io::Result<(u64, u64)>;
    /// Bytes that the file occupies on the disk.
    fn allocated(&self) -> io::Result<u64>;
    /// When it was written last, where that is known.
    fn modified(&self) -> Option<SystemTime> {
        None
    }
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
    /// See [`Disk::start_writeback`].
    fn start_writeback(&self, _offset: u64, _len: u64) {}
    /// Writes a range of bytes, all of which this file must have, to the same place in another.
    fn copy_to(&self, to: &dyn DiskFile, range: Range<u64>) -> io::Result<()>;
    /// The operating system's file, where it is one.
    #[expect(clippy::disallowed_types, reason = "only to be handed on, to disk/map.rs")]
    fn os_file(&self) -> Option<&std::fs::File> {
        None
    }
    /// Takes the lock of this file, shared or exclusive, until the file is dropped; false if someone else has it.
    fn try_lock(&self, exclusive: bool) -> io::Result<bool>;
    /// A read-only mapping of at least `len` bytes, all of which the file must have.
    fn map(&self, len: u64) -> io::Result<Mapping>;

    /// As [`map`](Self::map), of a file that does not grow: no more of the address space than it has.
    fn map_exactly(&self, len: u64) -> io::Result<Mapping> {
        self.map(len)
    }
}

/// What stands in a file's place and is none: a directory, a pipe, a socket, a device.
fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// Whether opening failed because of that.
pub(crate) fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

/// How much is read, checked, copied or written at a time: it stays in the core's own cache.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Copies a range from one file to the same place in another, through memory.
fn copy_range(from: &dyn DiskFile, to: &dyn DiskFile, range: Range<u64>) -> io::Result<()> {
    let part = |at: u64| usize::try_from(range.end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
    let mut buffer = vec![0; if range.is_empty() { 0 } else { part(range.start) }];
    for at in range.clone().step_by(PIECE_BYTES) {
        let bytes = &mut buffer[..part(at)];
        read_exact_at(from, bytes, at)?;
        write_all_at(to, bytes, at)?;
    }
    Ok(())
}

/// Interruptions in a row after which a call is given up.
const MAX_RETRIES: usize = 1000;

/// Calls `step` with the bytes done so far until `total` are done. Short transfers go on where they stopped,
/// interruptions are repeated; a transfer of zero bytes is `at_zero`.
fn transfer(
    total: usize,
    at_zero: io::ErrorKind,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    use io::ErrorKind::{Interrupted, WouldBlock};
    let (mut done, mut retries) = (0, 0);
    while done < total {
        match step(done) {
            Ok(0) => return Err(at_zero.into()),
            Ok(n) => (done, retries) = (done + n, 0),
            Err(e) if matches!(e.kind(), Interrupted | WouldBlock) && retries < MAX_RETRIES => retries += 1,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads exactly `buf.len()` bytes at `offset`; `UnexpectedEof` if the file ends before.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    transfer(buf.len(), io::ErrorKind::UnexpectedEof, |done| {
        file.read_at(&mut buf[done..], offset + done as u64)
    })
}

/// Writes all of `buf` at `offset`.
pub(crate) fn write_all_at(file: &dyn DiskFile, buf: &[u8], offset: u64) -> io::Result<()> {
    transfer(buf.len(), io::ErrorKind::WriteZero, |done| {
        let n = file.write_at(&buf[done..], offset + done as u64)?;
        if crate::sys::planted::is(crate::sys::planted::Bug::IgnoreShortWrite) && n > 0 {
            return Ok(buf.len() - done);
        }
        Ok(n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_goes_on_after_short_and_interrupted_steps() {
        let mut script = vec![Ok(2), Err(io::ErrorKind::Interrupted.into()), Ok(1), Ok(3)].into_iter();
        let mut offsets = Vec::new();
        transfer(6, io::ErrorKind::WriteZero, |done| {
            offsets.push(done);
            script.next().expect("no step after the last byte")
        })
        .expect("all six bytes");
        assert_eq!(offsets, [0, 2, 2, 3]);
    }

    #[test]
    fn a_copy_has_the_bytes_asked_for() {
        let disk =
            sim::SimDisk::new(&sim::Image { dirs: [Path::new("/d").into()].into(), ..Default::default() });
        let dir = Dir::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new("/d")).expect("opened");
        let open = |name: &str| dir.open_file(&dir.join(name), Open::Create).expect("opened");
        let len = PIECE_BYTES + 77;
        let bytes: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3).to_le_bytes()[0]).collect();
        write_all_at(&*open("from"), &bytes, 0).expect("written");
        for part in [0, 1, PIECE_BYTES, len - 1, len] {
            let to = open(&part.to_string());
            open("from").copy_to(&*to, 0..part as u64).expect("copied");
            assert_eq!(disk.image().files[&Path::new("/d").join(part.to_string())], bytes[..part]);
        }
        let short = open("from").copy_to(&*open("short"), 0..len as u64 + 1).expect_err("not so many");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn transfer_never_hangs() {
        let zero = transfer(1, io::ErrorKind::WriteZero, |_| Ok(0)).expect_err("no progress");
        assert_eq!(zero.kind(), io::ErrorKind::WriteZero);
        let forever = transfer(1, io::ErrorKind::WriteZero, |_| Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(forever.expect_err("no progress").kind(), io::ErrorKind::Interrupted);
    }
}
