//! What a forked child must not inherit: the locks of its parent. The second and last module with `unsafe`.
//!
//! A lock belongs to the open file description, which parent and child share after a fork: the child would hold the
//! parent's lock until it ends, even if the parent has died, and unlocking it would take it from the parent. So a
//! handler that runs in every new child puts /dev/null in the place of each registered descriptor. That drops the
//! child's reference without unlocking, and the number stays taken until its owner closes it: nothing is closed twice.
//!
//! A child made between the opening of a file and its registration, or past the handlers (a bare `clone`), keeps its
//! reference until it ends or executes another program. It matters only if the parent dies meanwhile: an orderly end
//! unlocks explicitly.
//!
//! Two locks of other libraries would be held in a child for ever, too: the one behind which the checksums find out what
//! the processor can do, and the one that the standard library takes at the end of each thread, and in a program of Rust
//! at its start (`std::sys::pal::unix::stack_overflow::thread_info`). Each thread of a child would wait for the second.
//! A handler that runs before each fork waits until no thread of ours holds either. Threads of others are not ours to
//! wait for.
#![cfg_attr(
    unix,
    allow(unsafe_code, reason = "registering a fork handler and replacing descriptors need it")
)]

#[cfg(unix)]
pub(crate) use unix::{Guard, between_forks, generation, install_handlers, register_fd};

#[cfg(not(unix))]
pub(crate) use elsewhere::{Guard, between_forks, generation, install_handlers, register_fd};

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::io;
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Descriptors that may be registered at once.
    pub(super) const MAX_GUARDS: usize = 8192;

    const FREE: RawFd = -1;

    /// How many forks are under way, and how many threads start or end. Never both.
    static FORKING: AtomicU64 = AtomicU64::new(0);
    static TRANSITIONS: AtomicU64 = AtomicU64::new(0);

    /// A fork waits for no more than this: one from a signal handler that interrupts the start of a thread would wait
    /// for itself.
    pub(super) const PATIENCE: Duration = Duration::from_secs(10);

    thread_local! {
        /// Dropped when the thread is over but for this.
        static END: Cell<Option<ThreadTransition>> = const { Cell::new(None) };
    }

    /// How many forks lie between this process and the first one that had the library.
    static GENERATION: AtomicU64 = AtomicU64::new(0);

    /// Not a lock: a child that is forked while another thread registers the handler would wait for it for ever. Where two
    /// threads register it, it does its work twice, which changes nothing.
    static REGISTERED: AtomicBool = AtomicBool::new(false);

    /// An array of atomics, for the handler may neither allocate nor wait.
    static SLOTS: [AtomicI32; MAX_GUARDS] = [const { AtomicI32::new(FREE) }; MAX_GUARDS];

    /// 0 in a process that is no forked child, and larger in each child than in its parent. A handle made in another
    /// generation belongs to another process. Starts to count with the first [`register_fd`].
    pub(crate) fn generation() -> u64 {
        GENERATION.load(Ordering::SeqCst)
    }

    /// A registered descriptor. To be dropped before the descriptor is closed.
    #[derive(Debug)]
    pub(crate) struct Guard {
        slot: usize,
        generation: u64,
        process: u32,
    }

    /// Looks after the children of this process from now on. To be called before anything here is done by a thread.
    pub(crate) fn install_handlers() -> io::Result<()> {
        if !REGISTERED.load(Ordering::SeqCst) {
            // SAFETY: they have the signature asked for and live as long as the program; `in_child` does only what is
            // allowed after a fork.
            let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
            REGISTERED.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Registers a descriptor: a forked child will have /dev/null in its place. To be called before the file is locked.
    pub(crate) fn register_fd(file: &impl AsRawFd) -> io::Result<Guard> {
        install_handlers()?;
        let fd = file.as_raw_fd();
        let taken =
            |slot: &AtomicI32| slot.compare_exchange(FREE, fd, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let slot = SLOTS.iter().position(taken).ok_or_else(|| {
            io::Error::other(format!("this process has {MAX_GUARDS} locked files, the most there may be"))
        })?;
        Ok(Guard { slot, generation: generation(), process: std::process::id() })
    }

    impl Guard {
        /// Whether this process made it; a forked child did not.
        pub(crate) fn is_ours(&self) -> bool {
            self.generation == generation() && self.process == std::process::id()
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            // In a child the slot may be another's by now.
            if self.generation == generation() {
                SLOTS[self.slot].store(FREE, Ordering::SeqCst);
            }
        }
    }

    /// What a thread is to do, for it to start and end only while no fork is under way. To be made where the thread is
    /// started.
    pub(crate) fn between_forks<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        let start = ThreadTransition::new();
        move || {
            drop(start);
            let _end = AtEnd;
            work()
        }
    }

    /// The start or the end of a thread; no fork happens while there is one.
    pub(super) struct ThreadTransition {
        generation: u64,
    }

    impl ThreadTransition {
        pub(super) fn new() -> ThreadTransition {
            loop {
                TRANSITIONS.fetch_add(1, Ordering::SeqCst);
                if FORKING.load(Ordering::SeqCst) == 0 {
                    return ThreadTransition { generation: generation() };
                }
                TRANSITIONS.fetch_sub(1, Ordering::SeqCst);
                wait_while(|| FORKING.load(Ordering::SeqCst) > 0);
            }
        }
    }

    impl Drop for ThreadTransition {
        fn drop(&mut self) {
            // A child starts to count anew.
            if self.generation == generation() {
                TRANSITIONS.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Begins the last passage of a thread, when it is dropped.
    struct AtEnd;

    impl Drop for AtEnd {
        fn drop(&mut self) {
            END.set(Some(ThreadTransition::new()));
        }
    }

    /// No lock to wait at: a child might find it held.
    fn wait_while(busy: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while busy() && Instant::now() < until {
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Runs before each fork.
    pub(super) extern "C" fn before() {
        FORKING.fetch_add(1, Ordering::SeqCst);
        wait_while(|| TRANSITIONS.load(Ordering::SeqCst) > 0);
        // The first of a process finds out what the processor can do: here it is waited for, or it is this one.
        std::hint::black_box(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &[0; 64]));
    }

    /// Runs after each fork, also after one that failed.
    pub(super) extern "C" fn in_parent() {
        // Registered meanwhile, it did not run before.
        _ = FORKING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |forks| forks.checked_sub(1));
    }

    /// Runs in each new child, before `fork` returns there. Other threads may have held any lock at that moment: only
    /// system calls and atomics here.
    extern "C" fn in_child() {
        GENERATION.fetch_add(1, Ordering::SeqCst);
        TRANSITIONS.store(0, Ordering::SeqCst);
        FORKING.store(0, Ordering::SeqCst);
        if SLOTS.iter().all(|slot| slot.load(Ordering::SeqCst) == FREE) {
            return;
        }
        // SAFETY: the path is a constant with a zero at its end.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        for slot in &SLOTS {
            let fd = slot.swap(FREE, Ordering::SeqCst);
            if fd != FREE {
                replace(fd, null);
            }
        }
        if null >= 0 {
            // SAFETY: opened above, and nobody else knows of it.
            unsafe { libc::close(null) };
        }
    }

    /// Puts another file in the place of `fd`: `null`, or, where that could not be opened (no descriptor left, no
    /// /dev), a standard stream. Never closes `fd`: its owner will, when the number might be another file's.
    fn replace(fd: RawFd, null: RawFd) {
        for source in [null, 0, 1, 2] {
            // SAFETY: `fd` is open, for it is registered, and its owner in this process uses it only as a lock, which
            // it refuses in another generation; a source that is not open is an error and changes nothing.
            let replaced = source >= 0 && unsafe { libc::dup2(source, fd) } >= 0;
            if replaced {
                // SAFETY: `fd` is open; the call takes numbers only.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
                return;
            }
        }
    }
}

/// Without fork there is nothing to do.
#[cfg(not(unix))]
mod elsewhere {
    #[derive(Debug)]
    pub(crate) struct Guard;

    pub(crate) fn generation() -> u64 {
        0
    }

    pub(crate) fn install_handlers() -> std::io::Result<()> {
        Ok(())
    }

    pub(crate) fn between_forks<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
        work
    }

    pub(crate) fn register_fd<T>(_file: &T) -> std::io::Result<Guard> {
        Ok(Guard)
    }

    impl Guard {
        pub(crate) fn is_ours(&self) -> bool {
            true
        }
    }
}

#[cfg(all(test, unix))]
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "files under the door")]
mod tests {
    use super::*;
    use crate::sys::disk::{DiskFile, Open, OsDisk, open_file};
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    /// A forked child, killed with its owner.
    struct Child(libc::pid_t);

    impl Child {
        /// Runs `life` in a child, which ends with it: status 0 if it returned.
        fn new(life: impl FnOnce()) -> Child {
            // SAFETY: the child never returns from here, and shares memory with nobody.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let status = i32::from(catch_unwind(AssertUnwindSafe(life)).is_err());
                // SAFETY: ends the process at once, without what the test harness would do.
                unsafe { libc::_exit(status) };
            }
            assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
            Child(pid)
        }

        fn wait(mut self) -> i32 {
            self.reap()
        }

        fn reap(&mut self) -> i32 {
            let mut status = -1;
            // SAFETY: a child of ours, waited for once; `status` is there for its status.
            unsafe { libc::waitpid(std::mem::replace(&mut self.0, 0), &mut status, 0) };
            status
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            if self.0 > 0 {
                // SAFETY: a child of ours that nobody has waited for, so the number is still its own.
                unsafe { libc::kill(self.0, libc::SIGKILL) };
                self.reap();
            }
        }
    }

    fn locks(path: &Path) -> bool {
        let file = open_file(OsDisk::default(), path, Open::Create).expect("opened");
        file.try_lock(true).expect("a lock that works")
    }

    /// A byte through a pipe: the end of the file never comes, as all children have both ends.
    fn hear(mut pipe: impl Read) {
        pipe.read_exact(&mut [0]).expect("a byte");
    }

    #[test]
    fn a_child_neither_holds_nor_breaks_its_parents_lock() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("LOCK");
        let file = open_file(OsDisk::default(), &path, Open::Create).expect("opened");
        assert!(file.try_lock(true).expect("a lock that works"));
        let mut file: Option<Arc<dyn DiskFile>> = Some(file);
        let parents = generation();
        let (from_child, mut to_parent) = std::io::pipe().expect("a pipe");
        let (from_parent, mut to_child) = std::io::pipe().expect("a pipe");
        let child = Child::new(|| {
            assert!(generation() > parents);
            assert!(!locks(&path), "the parent has it");
            let inherited = file.take().expect("from the parent");
            inherited.try_lock(true).expect_err("no longer a lock");
            drop(inherited);
            to_parent.write_all(&[1]).expect("the parent lives");
            hear(&from_parent);
            assert!(locks(&path), "the parent has let go");
        });
        hear(from_child);
        assert_eq!(generation(), parents);
        assert!(!locks(&path), "what the child drops changes nothing here");
        drop(file);
        assert!(locks(&path), "the child lives, and holds nothing");
        to_child.write_all(&[1]).expect("the child lives");
        assert_eq!(child.wait(), 0);
    }

    /// Locks a new file and closes it without unlocking, as the death of a process does, while a child lives.
    fn lock_outlives_its_owner(guarded: bool) -> bool {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("LOCK");
        let file = File::create(&path).expect("created");
        let registered = guarded.then(|| register_fd(&file).expect("a free slot"));
        file.try_lock().expect("nobody else has it");
        let (forever, _writer) = std::io::pipe().expect("a pipe");
        let _child = Child::new(|| hear(&forever));
        drop((registered, file));
        // A child holds the lock until its handler has run; that takes a moment.
        let deadline = Instant::now() + Duration::from_secs(if guarded { 20 } else { 1 });
        while !locks(&path) {
            if Instant::now() > deadline {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    #[test]
    fn a_lock_ends_with_its_owner_only_if_registered() {
        assert!(!lock_outlives_its_owner(true));
        assert!(lock_outlives_its_owner(false), "else the test above shows nothing");
    }

    #[test]
    fn a_descriptor_no_longer_registered_is_let_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("data");
        fs::write(&path, b"1").expect("written");
        let file = File::open(&path).expect("opened");
        drop(register_fd(&file).expect("a free slot"));
        let child = Child::new(|| hear(&file));
        assert_eq!(child.wait(), 0, "the child can read it");
    }

    #[test]
    fn a_child_of_a_child_has_locks_of_its_own() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("LOCK");
        let child = Child::new(|| {
            let first = generation();
            let file = open_file(OsDisk::default(), &path, Open::Create).expect("opened");
            assert!(file.try_lock(true).expect("a lock that works"));
            let grandchild = Child::new(|| {
                assert!(generation() > first && !locks(&path));
            });
            assert_eq!(grandchild.wait(), 0);
            drop(file);
            assert!(locks(&path));
        });
        assert_eq!(child.wait(), 0);
    }

    /// Whether `work` in another thread still waits after a moment, and ends once `release` is called.
    fn waits_for(release: impl FnOnce(), work: impl FnOnce() + Send) -> bool {
        let (ended, end) = channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                work();
                ended.send(()).expect("somebody listens");
            });
            let waits = end.recv_timeout(Duration::from_millis(50)).is_err();
            release();
            end.recv().expect("it ends");
            waits
        })
    }

    #[test]
    fn a_fork_waits_for_a_thread_that_starts_or_ends() {
        install_handlers().expect("registered");
        let passage = unix::ThreadTransition::new();
        let fork = || assert_eq!(Child::new(|| ()).wait(), 0);
        assert!(waits_for(|| drop(passage), fork));
        // A thread that is over, or was never started, is not waited for.
        drop(between_forks(|| ()));
        std::thread::spawn(between_forks(|| ())).join().expect("no panic");
        std::thread::spawn(between_forks(|| panic!("meant"))).join().expect_err("it panicked");
        let before = Instant::now();
        fork();
        assert!(before.elapsed() < unix::PATIENCE);
    }

    #[test]
    fn a_thread_starts_and_ends_when_no_fork_is_under_way() {
        install_handlers().expect("registered");
        unix::before();
        assert!(waits_for(|| unix::in_parent(), || drop(between_forks(|| ()))));
        let (ends, end) = channel::<()>();
        let thread = std::thread::spawn(between_forks(move || end.recv().is_err()));
        let join = || assert!(thread.join().expect("no panic"), "nobody speaks");
        unix::before();
        drop(ends);
        assert!(waits_for(|| unix::in_parent(), join));
    }

    #[test]
    fn there_is_an_end_to_the_slots() {
        let file = tempfile::tempfile().expect("a temporary file");
        // In a child, where no other test needs one.
        let child = Child::new(|| {
            let mut guards: Vec<Guard> =
                (0..unix::MAX_GUARDS).map(|_| register_fd(&file).expect("a free slot")).collect();
            let full = register_fd(&file).expect_err("all are taken").to_string();
            assert!(full.contains(&unix::MAX_GUARDS.to_string()), "{full}");
            guards.pop();
            drop(register_fd(&file).expect("a free slot"));
        });
        assert_eq!(child.wait(), 0);
    }
}
