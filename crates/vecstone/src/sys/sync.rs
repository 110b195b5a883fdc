//! Locks, threads and time of the engine: the standard library's, or, in the tests of interleavings (feature `shuttle`),
//! those of a scheduler that decides at each of them who goes on.

#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) use {
    arc_swap::ArcSwap,
    std::sync::atomic::{AtomicBool, AtomicU64},
    std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    std::thread,
    std::time::Instant,
};

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use scheduled::*;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LockResult, PoisonError};

/// Runs `work`; a panic of it is returned instead of going on.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(work))
}

/// What a lock or a wait gives, also after a panic under the lock: that a panic stops writing is decided where the state
/// is, in `engine/guards.rs`.
pub(crate) fn unpoisoned<T>(taken: LockResult<T>) -> T {
    taken.unwrap_or_else(PoisonError::into_inner)
}

/// What the scheduler of the tests knows, and what it does not: time, and values swapped without a lock.
#[cfg(all(test, feature = "shuttle"))]
mod scheduled {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use shuttle::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

    use super::unpoisoned;
    use shuttle::rand::Rng;
    use std::cell::Cell;
    use std::ops::{Add, Deref, DerefMut};
    use std::sync::{Arc, LockResult, TryLockError};
    use std::time::Duration;

    /// A wait of so long does not end by itself: a wake-up that nobody sends is not hidden by a clock.
    const FOR_EVER: Duration = Duration::from_secs(1);

    /// Another thread may go on here.
    pub(crate) fn switch() {
        shuttle::thread::sleep(Duration::ZERO);
    }

    thread_local! {
        /// All threads of a schedule are run by one thread of the system. Only differences count.
        static CLOCK: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn pass(time: Duration) {
        CLOCK.set(CLOCK.get() + time);
    }

    pub(crate) mod thread {
        pub(crate) use shuttle::thread::{Builder, JoinHandle};

        /// Lets the others go on.
        pub(crate) fn sleep(time: std::time::Duration) {
            super::pass(time);
            shuttle::thread::yield_now();
        }
    }

    /// A clock that goes on by a little, or not, at each look.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) struct Instant(Duration);

    impl Instant {
        pub(crate) fn now() -> Instant {
            pass(Duration::from_millis(shuttle::rand::thread_rng().gen_range(0..3)));
            Instant(CLOCK.get())
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Instant::now().saturating_duration_since(*self)
        }

        pub(crate) fn saturating_duration_since(&self, earlier: Instant) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }

    impl Add<Duration> for Instant {
        type Output = Instant;

        fn add(self, time: Duration) -> Instant {
            Instant(self.0 + time)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        guard: shuttle::sync::MutexGuard<'a, T>,
        /// To lock again after a wait.
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            let guard = unpoisoned(self.0.lock());
            Ok(MutexGuard { guard, mutex: self })
        }

        pub(crate) fn try_lock(&self) -> Result<MutexGuard<'_, T>, TryLockError<()>> {
            let guard = self.0.try_lock().map_err(|_| TryLockError::WouldBlock)?;
            Ok(MutexGuard { guard, mutex: self })
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.guard
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.guard
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    pub(crate) struct WaitTimeoutResult(bool);

    impl WaitTimeoutResult {
        pub(crate) fn timed_out(&self) -> bool {
            self.0
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Condvar {
            Condvar::default()
        }

        pub(crate) fn wait<'a, T>(&self, held: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            let MutexGuard { guard, mutex } = held;
            let guard = unpoisoned(self.0.wait(guard));
            Ok(MutexGuard { guard, mutex })
        }

        /// A short wait ends early, as the contract allows, or at its time; a long one as [`wait`](Self::wait) does.
        pub(crate) fn wait_timeout<'a, T>(
            &self,
            held: MutexGuard<'a, T>,
            time: Duration,
        ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
            if time >= FOR_EVER {
                let woken = unpoisoned(self.wait(held));
                return Ok((woken, WaitTimeoutResult(false)));
            }
            let mutex = held.mutex;
            drop(held);
            shuttle::thread::yield_now();
            let timed_out = shuttle::rand::thread_rng().gen_bool(0.5);
            pass(if timed_out { time } else { time / 4 });
            let held = unpoisoned(mutex.lock());
            Ok((held, WaitTimeoutResult(timed_out)))
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// As the scheduler cannot see it, others may go on before each look and each change.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T>(arc_swap::ArcSwap<T>);

    impl<T> ArcSwap<T> {
        pub(crate) fn new(value: Arc<T>) -> ArcSwap<T> {
            ArcSwap(arc_swap::ArcSwap::new(value))
        }

        pub(crate) fn load(&self) -> arc_swap::Guard<Arc<T>> {
            switch();
            self.0.load()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            switch();
            self.0.load_full()
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            switch();
            self.0.store(value);
        }
    }
}
