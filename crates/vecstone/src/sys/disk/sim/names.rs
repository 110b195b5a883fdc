//! Names and directories of the simulated disk. A directory has a number of its own, so that it can be moved, removed and
//! made anew under whoever holds it open.

use super::{Inode, SimDisk, SimFile, State};
use crate::sys::disk::{DiskDir, DiskFile, Open, Stat};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A name in a directory: the directory's number, for its path may change.
pub(super) type Place = (usize, OsString);

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(Place, usize),
    Unlink(Place),
    Rename(Place, Place),
    /// The number of the directory above, the new one's path and number.
    Mkdir(usize, PathBuf, usize),
}

impl NameChange {
    pub(super) fn dir(&self) -> usize {
        match self {
            NameChange::Link(place, _) | NameChange::Unlink(place) | NameChange::Rename(_, place) => place.0,
            NameChange::Mkdir(above, ..) => *above,
        }
    }

    pub(super) fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link(place, inode) => _ = names.files.insert(place.clone(), *inode),
            NameChange::Unlink(place) => _ = names.files.remove(place),
            NameChange::Mkdir(_, path, number) => _ = names.dirs.insert(path.clone(), *number),
            // Two names of the same file: as POSIX has it, both stay.
            NameChange::Rename(from, to) if names.files.get(from) == names.files.get(to) => {}
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.files.remove(from) {
                    names.files.insert(to.clone(), inode);
                }
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) files: BTreeMap<Place, usize>,
    /// But for the root.
    pub(super) dirs: BTreeMap<PathBuf, usize>,
}

/// The number of the root, which is always there.
pub(super) const ROOT: usize = 0;

impl Names {
    pub(super) fn dir(&self, path: &Path) -> Option<usize> {
        if path == Path::new("/") { Some(ROOT) } else { self.dirs.get(path).copied() }
    }

    /// Whether a directory has a name.
    pub(super) fn has(&self, dir: usize) -> bool {
        dir == ROOT || self.dirs.values().any(|&number| number == dir)
    }

    /// The files that can be reached from the root, by their paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = (PathBuf, usize)> {
        let root = (PathBuf::from("/"), ROOT);
        let mut by_number: BTreeMap<usize, PathBuf> = [(root.1, root.0)].into();
        by_number.extend(self.dirs.iter().map(|(path, number)| (*number, path.clone())));
        self.files
            .iter()
            .filter_map(move |((dir, name), inode)| Some((by_number.get(dir)?.join(name), *inode)))
    }
}

/// What other programs do.
#[cfg(test)]
impl SimDisk {
    /// Someone else gives a directory another path, durably at once.
    pub(crate) fn move_dir(&self, from: &Path, to: &Path) {
        let mut state = self.state();
        state.settle_dirs();
        let State { current, durable, .. } = &mut *state;
        for names in [current, durable] {
            let number = names.dirs.remove(from).expect("a directory");
            assert!(names.dirs.insert(to.to_owned(), number).is_none(), "there is one");
        }
    }

    /// Someone else removes a file, durably at once.
    pub(crate) fn remove_file(&self, path: &Path) {
        let mut state = self.state();
        let dir = path.parent().and_then(|dir| state.current.dir(dir)).expect("a directory");
        let place = (dir, path.file_name().expect("a name").to_owned());
        let State { current, durable, name_changes, .. } = &mut *state;
        for names in [current, durable] {
            names.files.remove(&place);
        }
        name_changes.retain(|change| !matches!(change, NameChange::Link(at, _) if *at == place));
    }

    /// Someone else gives a file's name to another one, durably at once.
    pub(crate) fn replace_file(&self, path: &Path, bytes: Vec<u8>) {
        self.remove_file(path);
        let mut state = self.state();
        let dir = path.parent().and_then(|dir| state.current.dir(dir)).expect("a directory");
        let number = state.inodes.len();
        state.inodes.push(Inode { durable: bytes.clone(), current: bytes, ..Inode::default() });
        let place = (dir, path.file_name().expect("a name").to_owned());
        let State { current, durable, .. } = &mut *state;
        for names in [current, durable] {
            names.files.insert(place.clone(), number);
        }
    }

    /// Someone else removes a directory with all that is in it, durably at once.
    pub(crate) fn remove_dir_all(&self, path: &Path) {
        let mut state = self.state();
        state.settle_dirs();
        let number = state.current.dir(path).expect("a directory");
        let State { current, durable, name_changes, .. } = &mut *state;
        for names in [current, durable] {
            names.dirs.remove(path);
            names.files.retain(|(dir, _), _| *dir != number);
        }
        name_changes.retain(|change| change.dir() != number);
    }
}

#[cfg(test)]
impl State {
    /// Makes the names of directories durable.
    fn settle_dirs(&mut self) {
        let State { durable, name_changes, .. } = self;
        name_changes.retain(|change| {
            let made = matches!(change, NameChange::Mkdir(..));
            if made {
                change.apply(durable);
            }
            !made
        });
    }
}

#[derive(Debug)]
pub(super) struct SimDir {
    pub(super) disk: SimDisk,
    pub(super) number: usize,
}

impl SimDir {
    fn place(&self, name: &OsStr) -> Place {
        (self.number, name.to_owned())
    }

    fn find(&self, name: &OsStr) -> io::Result<usize> {
        let found = self.disk.on()?.current.files.get(&self.place(name)).copied();
        found.ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn step(&self, change: NameChange) -> io::Result<()> {
        let mut state = self.disk.step()?;
        change.apply(&mut state.current);
        state.name_changes.push(change);
        Ok(())
    }

    /// A directory that was removed takes no new names.
    fn check_named(&self) -> io::Result<()> {
        if self.disk.on()?.current.has(self.number) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }
}

impl DiskDir for SimDir {
    fn open(&self, name: &OsStr, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let inode = match (self.find(name), how) {
            (Ok(_), Open::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Ok(inode), _) => inode,
            (Err(e), Open::CreateNew | Open::Create) if e.kind() == ErrorKind::NotFound => {
                self.check_named()?;
                let mut state = self.disk.step()?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                let change = NameChange::Link(self.place(name), inode);
                change.apply(&mut state.current);
                state.name_changes.push(change);
                inode
            }
            (Err(e), _) => return Err(e),
        };
        let (disk, writable) = (self.disk.clone(), how != Open::Read);
        Ok(Arc::new(SimFile { disk, inode, writable, locked: Mutex::default() }))
    }

    fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        let mut state = self.disk.on()?;
        let above = if self.number == ROOT {
            PathBuf::from("/")
        } else {
            let path = state.current.dirs.iter().find(|(_, number)| **number == self.number);
            path.ok_or(ErrorKind::NotFound)?.0.clone()
        };
        let path = above.join(name);
        if state.current.dirs.contains_key(&path) || state.current.files.contains_key(&self.place(name)) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.dirs += 1;
        let number = state.dirs;
        drop(state);
        self.step(NameChange::Mkdir(self.number, path, number))
    }

    fn list(&self) -> io::Result<Vec<OsString>> {
        self.check_named()?;
        let state = self.disk.on()?;
        let inside = state.current.files.keys().filter(|(dir, _)| *dir == self.number);
        Ok(inside.map(|(_, name)| name.clone()).collect())
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.find(from)?;
        self.step(NameChange::Rename(self.place(from), self.place(to)))
    }

    fn link(&self, from: &OsStr, to_dir: &dyn DiskDir, to: &OsStr) -> io::Result<()> {
        let inode = self.find(from)?;
        let to_dir = to_dir.as_any().downcast_ref::<SimDir>().ok_or(ErrorKind::CrossesDevices)?;
        to_dir.check_named()?;
        if to_dir.find(to).is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.step(NameChange::Link(to_dir.place(to), inode))
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        self.find(name)?;
        self.step(NameChange::Unlink(self.place(name)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.step()?;
        let changes = std::mem::take(&mut state.name_changes);
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.dir() == self.number);
        for change in here {
            change.apply(&mut state.durable);
        }
        state.name_changes = elsewhere;
        Ok(())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.disk.on().map(|_| (1, self.number as u64))
    }

    fn links(&self) -> io::Result<u64> {
        self.disk.on().map(|state| state.current.has(self.number).into())
    }

    fn stat(&self, name: &OsStr) -> io::Result<Stat> {
        let inode = self.find(name)?;
        let links = self.disk.on()?.current.files.values().filter(|&&other| other == inode).count();
        Ok(Stat { identity: (0, inode as u64), links: links as u64, symlink: false })
    }

    fn itself(&self) -> io::Result<Arc<dyn DiskFile>> {
        drop(self.disk.on()?);
        // Behind the numbers of all files; it is only locked.
        let (disk, inode) = (self.disk.clone(), usize::MAX - self.number);
        Ok(Arc::new(SimFile { disk, inode, writable: false, locked: Mutex::default() }))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Image, SimDisk};
    use crate::sys::disk::{Dir, Disk, Open, write_all_at};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    fn dir(disk: &SimDisk, path: &str) -> Dir {
        Dir::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(path)).expect("it is there")
    }

    /// A disk with a file "/d/f" that is durably "abcd".
    fn disk() -> SimDisk {
        let files = [(PathBuf::from("/d/f"), b"abcd".to_vec())].into();
        SimDisk::new(&Image { files, dirs: [PathBuf::from("/d")].into() })
    }

    #[test]
    fn a_link_is_a_change_of_names() {
        let disk = disk();
        let d = dir(&disk, "/d");
        let file = d.open_file(&d.join("f"), Open::ReadWrite).expect("it is there");
        d.link(&d.join("f"), &d, &d.join("g")).expect("linked");
        d.link(&d.join("f"), &d, &d.join("g")).expect_err("it exists");
        d.link(&d.join("x"), &d, &d.join("h")).expect_err("there is none");
        write_all_at(&*file, b"X", 0).expect("written");
        file.sync_data().expect("synced");
        assert_eq!(disk.image().files[Path::new("/d/g")], b"Xbcd");
        let names = |choice: usize| disk.crash().image(&[choice, 0]).files.len();
        assert_eq!((names(0), names(1)), (1, 2));
        d.rename(&d.join("f"), &d.join("g")).expect("nothing to do");
        assert_eq!(disk.image().files.len(), 2, "as POSIX has it");
        d.unlink(&d.join("f")).expect("removed");
        d.sync().expect("synced");
        let left = disk.crash().image(&[0]).files;
        assert_eq!(left, [(PathBuf::from("/d/g"), b"Xbcd".to_vec())].into());
    }

    #[test]
    fn a_directory_stays_the_same_one_wherever_it_is_moved() {
        let disk = disk();
        let (root, held) = (dir(&disk, "/"), dir(&disk, "/d"));
        disk.move_dir(Path::new("/d"), Path::new("/aside"));
        root.create_dir(Path::new("/d")).expect("made anew");
        root.sync().expect("synced");
        let anew = dir(&disk, "/d");
        assert_ne!(held.identity(), anew.identity());
        anew.open_file(&anew.join("f"), Open::CreateNew).expect("made");
        held.rename(&held.join("f"), &held.join("g")).expect("renamed");
        held.sync().expect("synced");
        let files: Vec<PathBuf> = disk.image().files.into_keys().collect();
        assert_eq!(files, [PathBuf::from("/aside/g"), PathBuf::from("/d/f")]);
        disk.remove_file(Path::new("/d/f"));
        disk.remove_dir_all(Path::new("/aside"));
        held.open_file(&held.join("g"), Open::Create).expect_err("a directory without a name");
        held.list().expect_err("a directory without a name");
        held.sync().expect("a directory without a name can be synced");
        let left = Image { files: Default::default(), dirs: [PathBuf::from("/d")].into() };
        assert_eq!((disk.image(), disk.crash().image(&[])), (left.clone(), left));
    }
}
