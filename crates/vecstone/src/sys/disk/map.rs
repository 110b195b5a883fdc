//! Read-only mappings: with [`fork`](super::fork) the only module with `unsafe` (and so also home of some calls of the
//! system that std does not have).
//!
//! A mapping is never written through, never moves, and lives as long as any view of it. It may be longer than its
//! file: callers touch only bytes below a committed end, which the file has and which never change (the format's
//! rule "a committed byte never changes"), so that a shared `&[u8]` is sound. Damage from outside (another program
//! truncating the file) is the one hazard left, and the README names it.
#![allow(unsafe_code, reason = "mapping a file and asking which of its pages are resident need it")]
#![expect(clippy::disallowed_types, reason = "a mapping is made from the operating system's file")]

use std::fs::File;
use std::io;
use std::ops::Range;

/// Mappings cover at least this much of the address space, so that a growing file is rarely mapped again.
const RESERVE: u64 = 64 << 20;

/// Bytes of a file, in the address space of this process.
#[derive(Debug)]
pub(crate) enum Mapping {
    /// The page cache's own pages.
    File(memmap2::Mmap),
    /// A copy, for the simulated disk; 8-byte words keep rows aligned.
    #[cfg(any(test, fuzzing))]
    Copy(Vec<u64>, usize),
}

impl Mapping {
    /// Maps `file` from its start for at least `len` bytes, with room to grow.
    pub(crate) fn of_file(file: &File, len: u64) -> io::Result<Mapping> {
        let roomy = if cfg!(unix) { len.saturating_mul(2).max(RESERVE) } else { len };
        // A limit on the address space (ulimit -v) may refuse the room but not the file.
        Self::try_map(file, roomy).or_else(|_| Self::try_map(file, len))
    }

    /// Maps `file` from its start for `len` bytes, with no room to grow.
    pub(crate) fn exactly(file: &File, len: u64) -> io::Result<Mapping> {
        Self::try_map(file, len)
    }

    fn try_map(file: &File, len: u64) -> io::Result<Mapping> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: the mapping is read-only and private to this module's callers, who touch only committed bytes:
        // those exist, are never written again and never truncated by us (see the module's comment).
        let map = unsafe { memmap2::MmapOptions::new().len(len.max(1)).map(file)? };
        Ok(Mapping::File(map))
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Mapping {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Mapping::Copy(words, bytes.len())
    }

    /// How many bytes may be asked for. The file may have fewer.
    pub(crate) fn len(&self) -> u64 {
        self.all().len() as u64
    }

    /// The bytes of `range`, which must lie below a committed end; `None` beyond the mapping.
    pub(crate) fn get(&self, range: Range<u64>) -> Option<&[u8]> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.all().get(range)
    }

    fn all(&self) -> &[u8] {
        match self {
            Mapping::File(map) => map,
            #[cfg(any(test, fuzzing))]
            Mapping::Copy(words, len) => &bytemuck::cast_slice(words)[..*len],
        }
    }

    /// How many of the first `len` bytes are in memory now, counted in pages. O(len / page size).
    pub(crate) fn resident(&self, len: u64) -> u64 {
        let bytes = self.get(0..len.min(self.len())).unwrap_or_default();
        match self {
            #[cfg(target_os = "linux")]
            Mapping::File(_) => resident_bytes(bytes).min(len),
            #[cfg(not(target_os = "linux"))]
            Mapping::File(_) => bytes.len() as u64,
            #[cfg(any(test, fuzzing))]
            Mapping::Copy(..) => bytes.len() as u64,
        }
    }
}

/// Asks the kernel to begin writing a part of a file to the disk. A hint: it reports no error and takes none away from
/// a later sync (which is why it is not a sync itself).
#[cfg(target_os = "linux")]
pub(crate) fn start_writeback(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    if let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) {
        // SAFETY: the call takes an open descriptor and numbers, and touches no memory of ours.
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    }
}

/// Has the system copy a range of bytes from one file to the same place in another; how far it came. Not to the end, or
/// nowhere, where it cannot.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn copy_within_system(from: &File, to: &File, range: Range<u64>) -> u64 {
    use std::os::fd::AsRawFd;
    let Range { start: mut done, end } = range;
    while done < end {
        let (Ok(mut here), Ok(mut there), Ok(left)) =
            (i64::try_from(done), i64::try_from(done), usize::try_from(end - done))
        else {
            break;
        };
        let (here, there): (*mut i64, *mut i64) = (&raw mut here, &raw mut there);
        // As below, the call itself.
        // SAFETY: open descriptors, numbers, and two places in this frame that the call may change.
        let copied = unsafe {
            libc::syscall(libc::SYS_copy_file_range, from.as_raw_fd(), here, to.as_raw_fd(), there, left, 0)
        };
        match u64::try_from(copied) {
            Ok(copied) if copied > 0 => done += copied,
            _ => break,
        }
    }
    done.min(end)
}

/// Elsewhere it is not asked.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn copy_within_system(_from: &File, _to: &File, range: Range<u64>) -> u64 {
    range.start
}

/// Reads what the page cache has; `None` if it has not all of it, or cannot tell.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(crate) fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
    use std::os::fd::AsRawFd;
    let Ok(offset) = i64::try_from(offset) else { return Ok(None) };
    let parts = [libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() }];
    // The call itself: only newer C libraries have a function for it, and with that a program would not even start
    // beside an older one. Its arguments are two halves of an offset, of which here the first is all.
    // SAFETY: one part, which is `buf`: borrowed for writing during the call, and as long as it says.
    let read = unsafe {
        libc::syscall(libc::SYS_preadv2, file.as_raw_fd(), parts.as_ptr(), 1, offset, 0, libc::RWF_NOWAIT)
    };
    Ok(usize::try_from(read).ok()) // after an error the ordinary call tells what it is
}

/// Elsewhere nobody can tell.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub(crate) fn read_cached(_file: &File, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
    Ok(None)
}

/// Elsewhere the sync does it all.
#[cfg(not(target_os = "linux"))]
pub(crate) fn start_writeback(_file: &File, _offset: u64, _len: u64) {}

#[cfg(target_os = "linux")]
fn resident_bytes(bytes: &[u8]) -> u64 {
    // SAFETY: sysconf reads a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(4096).max(1);
    const PAGES: usize = 64 << 10;
    let mut flags = vec![0u8; PAGES.min(bytes.len().div_ceil(page))];
    let mut resident = 0;
    for part in bytes.chunks(PAGES * page) {
        // SAFETY: `part` starts on a page (the mapping does, and PAGES * page is a multiple of one) and is mapped;
        // `flags` has one byte for each of its pages.
        let failed =
            unsafe { libc::mincore(part.as_ptr().cast_mut().cast(), part.len(), flags.as_mut_ptr()) };
        if failed == 0 {
            let pages = part.len().div_ceil(page);
            resident += flags[..pages].iter().filter(|&flag| flag & 1 == 1).count() * page;
        }
    }
    resident as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_mapping_sees_what_is_appended() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"12345678").expect("written");
        let map = Mapping::of_file(&file, 8).expect("mapped");
        file.write_all(b"abc").expect("appended");
        assert_eq!(map.get(0..11), Some(&b"12345678abc"[..]));
        assert_eq!(map.get(map.len()..map.len() + 1), None);
        assert!(map.resident(11) <= 11);
    }

    #[test]
    fn a_copy_is_aligned_for_rows() {
        let map = Mapping::of_bytes(&[1, 0, 0, 0, 2, 0, 0, 0, 3]);
        let words: &[u32] = bytemuck::cast_slice(map.get(0..8).expect("in range"));
        assert_eq!(words, [1, 2]);
        assert_eq!(map.get(8..9), Some(&[3u8][..]));
        assert_eq!(map.get(8..10), None);
    }
}
