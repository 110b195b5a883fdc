//! A sync that fails, and what becomes of the bytes it should have made durable.
//!
//! After a failed `fsync` a kernel calls the pages clean: no later sync writes them, though it reports success. What
//! programs read there is up to the file system.

use super::{Change, Inode, SimDisk};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// What a failing sync does to the bytes not yet durable. None of them becomes durable, unless written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// They stay to be read.
    Kept,
    /// They are gone at once: what is durable is read, and the file is as long as that.
    Dropped,
    /// They stay to be read until [`SimDisk::evict`], or until the process is killed. The length stays.
    Reverted,
}

/// Bytes that can be read, and that no sync makes durable: each with how long they can be read.
pub(super) type Lost = BTreeMap<usize, Lie>;

impl SimDisk {
    /// Makes the sync of a file that is preceded by `nth` others fail. Several may be planned.
    pub(crate) fn fail_sync_at(&self, nth: usize, lie: Lie) {
        self.state().lies.insert(nth, lie);
    }

    /// Syncs of files so far, failed ones included.
    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// The cache lets go of what it may. Mappings made before keep their bytes.
    pub(crate) fn evict(&self) {
        self.state().inodes.iter_mut().for_each(Inode::evict);
    }
}

impl Inode {
    /// What a sync writes: everything but what is lost.
    pub(super) fn sync(&mut self) {
        let mut synced = self.current.clone();
        for &at in self.lost.keys() {
            synced[at] = self.durable_byte(at);
        }
        self.durable = synced;
        self.changes.clear();
    }

    pub(super) fn fail_sync(&mut self, lie: Lie) -> io::Error {
        match lie {
            Lie::Dropped => self.drop_unsynced(),
            Lie::Kept | Lie::Reverted => self.lose_unsynced(lie),
        }
        const EIO: i32 = 5;
        io::Error::from_raw_os_error(EIO)
    }

    /// A write makes bytes dirty again, a shorter file has fewer of them.
    pub(super) fn find_lost(&mut self, change: &Change) {
        let found: Range<usize> = match change {
            Change::Write(at, data) => *at..at + data.len(),
            Change::SetLen(len) => *len..usize::MAX,
        };
        self.lost.retain(|at, _| !found.contains(at));
    }

    pub(super) fn evict(&mut self) {
        let (gone, kept): (Lost, Lost) =
            std::mem::take(&mut self.lost).into_iter().partition(|(_, lie)| *lie == Lie::Reverted);
        for &at in gone.keys() {
            self.current[at] = self.durable_byte(at);
        }
        self.lost = kept;
    }

    /// Beyond its durable end a file that grew has zeros.
    fn durable_byte(&self, at: usize) -> u8 {
        self.durable.get(at).copied().unwrap_or(0)
    }

    fn lose_unsynced(&mut self, lie: Lie) {
        for (at, byte) in self.current.iter().enumerate() {
            if *byte != self.durable_byte(at) {
                self.lost.entry(at).or_insert(lie);
            }
        }
        // The length is no page: it may still come to the disk, or not.
        self.changes.clear();
        if self.current.len() != self.durable.len() {
            self.changes.push(Change::SetLen(self.current.len()));
        }
    }

    fn drop_unsynced(&mut self) {
        let mut left = self.durable.clone();
        self.lost.retain(|at, _| *at < left.len());
        for &at in self.lost.keys() {
            left[at] = self.current[at];
        }
        self.current = left;
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Image, SimDisk};
    use super::*;
    use crate::sys::disk::{Disk, DiskFile, Open, open_file, read_exact_at, write_all_at};
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::Arc;

    const EITHER: [Lie; 2] = [Lie::Kept, Lie::Reverted];

    /// A disk with a file that is durably "abcd".
    fn disk() -> (SimDisk, Arc<dyn DiskFile>) {
        let path = Path::new("d/f").to_owned();
        let image = Image {
            files: [(path.clone(), b"abcd".to_vec())].into(),
            dirs: [Path::new("d").to_owned()].into(),
        };
        let disk = SimDisk::new(&image);
        let file = open_file(disk.clone(), &path, Open::ReadWrite).expect("it is there");
        (disk, file)
    }

    fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], at: u64) {
        write_all_at(&**file, bytes, at).expect("written");
    }

    fn read(file: &Arc<dyn DiskFile>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("small")];
        read_exact_at(&**file, &mut bytes, 0).expect("read");
        bytes
    }

    /// What a crash may leave of the file.
    fn crashed(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
        let crash = disk.crash();
        let options = crash.options().to_vec();
        let total: usize = options.iter().product();
        let choices = (0..total).map(|mut number| {
            let choice: Vec<usize> = options
                .iter()
                .map(|options| {
                    let one = number % options;
                    number /= options;
                    one
                })
                .collect();
            crash.image(&choice).files[Path::new("d/f")].clone()
        });
        choices.collect()
    }

    fn only(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
        [bytes.to_vec()].into()
    }

    /// Makes the next sync fail.
    fn failing_sync(disk: &SimDisk, file: &Arc<dyn DiskFile>, lie: Lie) {
        let before = disk.syncs();
        disk.fail_sync_at(before, lie);
        let error = file.sync_data().expect_err("planned");
        assert_eq!(error.raw_os_error(), Some(5));
        assert_eq!(disk.syncs(), before + 1);
    }

    #[test]
    fn only_the_sync_asked_for_fails() {
        let (disk, file) = disk();
        disk.fail_sync_at(1, Lie::Kept);
        write(&file, b"A", 0);
        file.sync_data().expect("the first");
        assert_eq!(crashed(&disk), only(b"Abcd"));
        let both = disk.sync_data(&[file.clone(), file.clone()]);
        assert_eq!(both.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true]);
        assert_eq!(disk.syncs(), 3);
    }

    #[test]
    fn kept_bytes_are_read_and_never_durable() {
        for lie in EITHER {
            let (disk, file) = disk();
            write(&file, b"XY", 1);
            failing_sync(&disk, &file, lie);
            assert_eq!(read(&file), b"aXYd");
            assert_eq!(crashed(&disk), only(b"abcd"));
            file.sync_data().expect("it says so");
            assert_eq!(read(&file), b"aXYd");
            assert_eq!(crashed(&disk), only(b"abcd"), "a later sync finds clean pages");
            // One of the two is written again, with the same content.
            write(&file, b"Y", 2);
            assert_eq!(crashed(&disk), [b"abcd".to_vec(), b"abYd".to_vec()].into());
            file.sync_data().expect("synced");
            assert_eq!(crashed(&disk), only(b"abYd"));
            assert_eq!(read(&file), b"aXYd");
        }
    }

    #[test]
    fn the_length_of_kept_bytes_may_become_durable() {
        for lie in EITHER {
            let (disk, file) = disk();
            write(&file, b"XY", 4);
            failing_sync(&disk, &file, lie);
            assert_eq!(read(&file), b"abcdXY");
            assert_eq!(crashed(&disk), [b"abcd".to_vec(), b"abcd\0\0".to_vec()].into());
            write(&file, b"Z", 6);
            file.sync_data().expect("it says so");
            assert_eq!(crashed(&disk), only(b"abcd\0\0Z"));
            assert_eq!(read(&file), b"abcdXYZ");
        }
    }

    #[test]
    fn cut_off_bytes_are_no_longer_lost() {
        let (disk, file) = disk();
        write(&file, b"WXYZ", 0);
        failing_sync(&disk, &file, Lie::Kept);
        file.set_len(2).expect("cut");
        file.set_len(4).expect("longer");
        file.sync_data().expect("synced");
        assert_eq!(crashed(&disk), only(b"ab\0\0"));
        assert_eq!(read(&file), b"WX\0\0");
    }

    #[test]
    fn dropped_bytes_are_gone_at_once() {
        let (disk, file) = disk();
        write(&file, b"XYZUV", 1);
        failing_sync(&disk, &file, Lie::Dropped);
        assert_eq!(read(&file), b"abcd");
        assert_eq!(crashed(&disk), only(b"abcd"));
        file.sync_data().expect("nothing to do");
        assert_eq!(crashed(&disk), only(b"abcd"));
        write(&file, b"E", 4);
        file.sync_data().expect("synced");
        assert_eq!(crashed(&disk), only(b"abcdE"));
    }

    #[test]
    fn what_was_kept_before_is_not_dropped() {
        let (disk, file) = disk();
        write(&file, b"X", 0);
        failing_sync(&disk, &file, Lie::Kept);
        write(&file, b"Y", 1);
        failing_sync(&disk, &file, Lie::Dropped);
        assert_eq!(read(&file), b"Xbcd");
        assert_eq!(crashed(&disk), only(b"abcd"));
    }

    #[test]
    fn reverted_bytes_are_gone_later() {
        let (disk, file) = disk();
        write(&file, b"XYZU", 2);
        failing_sync(&disk, &file, Lie::Reverted);
        write(&file, b"y", 3);
        assert_eq!(read(&file), b"abXyZU");
        let killed = disk.killed();
        assert_eq!(killed.image().files[Path::new("d/f")], b"abcy\0\0", "what was written again stays");
        assert_eq!(read(&file), b"abXyZU", "only there");
        disk.evict();
        assert_eq!(read(&file), b"abcy\0\0");
        file.sync_data().expect("synced");
        assert_eq!(crashed(&disk), only(b"abcy\0\0"));
    }

    #[test]
    fn kept_bytes_outlive_an_eviction() {
        let (disk, file) = disk();
        write(&file, b"X", 0);
        failing_sync(&disk, &file, Lie::Kept);
        disk.evict();
        assert_eq!(read(&file), b"Xbcd");
        assert_eq!(disk.killed().image().files[Path::new("d/f")], b"Xbcd");
        file.sync_data().expect("it says so");
        assert_eq!(crashed(&disk), only(b"abcd"));
    }
}
