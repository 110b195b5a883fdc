//! Breaking off a call that takes long: at points where nothing is half done the library asks whether the caller still
//! wants it.
//!
//! Who asks is known by the thread, so that no call needs a parameter for it. Threads that a call starts follow the one
//! that made it; those of the background never ask.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The answer may cost a lock, as Python's does.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 40 });

/// Steps of less than a microsecond or so, of which none is asked in between.
const STEPS: usize = if cfg!(test) { 1 } else { 512 };

/// Who asks on a thread.
enum Asking {
    Caller {
        is_unwanted: fn() -> bool,
        /// When it is asked next; `None` before the first look at the clock.
        next: Option<Instant>,
        /// What other threads look at, once there are any.
        stopped: Option<Arc<AtomicBool>>,
        was_unwanted: bool,
    },
    Follower(Arc<AtomicBool>),
}

thread_local! {
    static ASKING: RefCell<Option<Asking>> = const { RefCell::new(None) };
}

/// Puts back what was there before, after a panic too.
struct Restore(Option<Asking>);

impl Restore {
    fn after(asking: Asking) -> Restore {
        Restore(ASKING.with(|now| now.replace(Some(asking))))
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        ASKING.with(|now| now.replace(self.0.take()));
    }
}

/// Makes a call that is broken off where `is_unwanted` says so: it returns
/// [`Error::Interrupted`](crate::Error::Interrupted) then, and what it was to
/// change is not changed; of a write that is too large for one batch, or of a `delete_where`, batches before that stay.
/// `is_unwanted` is asked on this thread about 25 times a second while the call works: it has to be
/// quick, and must not use the store.
///
/// Searches, reads of many rows, large writes, `verify`, `backup`, `compact`, `optimize`, `repair`, opening and waits for a
/// lock or for room end within a fraction of a second. Waited for are a sync that was begun, closing, a side file that
/// `backup` copies, the first look of `repair` at the files, and another thread that compacts or optimizes.
///
/// ```
/// # let dir = tempfile::tempdir().expect("a place");
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use vecstone::{VectorStore, interruptible};
///
/// static STOP: AtomicBool = AtomicBool::new(false); // a signal's handler sets it
/// # let store = VectorStore::create(dir.path().join("store"), 2, vecstone::Metric::L2)?;
/// let report = interruptible(|| STOP.load(Ordering::Relaxed), || store.verify())?;
/// assert!(report.is_ok());
/// # Ok::<(), vecstone::Error>(())
/// ```
pub fn interruptible<T>(is_unwanted: fn() -> bool, call: impl FnOnce() -> T) -> T {
    let _restore =
        Restore::after(Asking::Caller { is_unwanted, next: None, stopped: None, was_unwanted: false });
    call()
}

/// Whether the call that this thread is in, made through [`interruptible`], is not wanted any more.
#[doc(hidden)]
pub fn is_interrupted() -> bool {
    check().is_err()
}

/// The call is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Asks, if it is time to. To be called where nothing is half done.
pub(crate) fn check() -> Result<(), Interrupted> {
    let unwanted = ASKING.with_borrow_mut(|asking| asking.as_mut().is_some_and(Asking::is_unwanted));
    if unwanted { Err(Interrupted) } else { Ok(()) }
}

/// As [`check`], in a loop of many short steps, of which this is number `step`.
pub(crate) fn check_at(step: usize) -> Result<(), Interrupted> {
    if step.is_multiple_of(STEPS) { check() } else { Ok(()) }
}

/// Ends a call that was accepted, and so is not to be broken off.
pub(crate) fn not_now<T>(call: impl FnOnce() -> T) -> T {
    let _restore = Restore(ASKING.take());
    call()
}

/// Longest wait without a look; `None` where no caller asks.
pub(crate) fn longest_wait() -> Option<Duration> {
    ASKING.with_borrow(|asking| asking.as_ref().map(|_| EVERY.max(Duration::from_millis(1))))
}

/// What threads that this one starts have to know.
pub(crate) fn following() -> Option<Arc<AtomicBool>> {
    ASKING.with_borrow_mut(|asking| match asking.as_mut()? {
        Asking::Caller { stopped, was_unwanted, .. } => {
            Some(stopped.get_or_insert_with(|| Arc::new(AtomicBool::new(*was_unwanted))).clone())
        }
        Asking::Follower(stopped) => Some(stopped.clone()),
    })
}

/// Does work for a call of another thread.
pub(crate) fn follow<T>(caller: Option<&Arc<AtomicBool>>, work: impl FnOnce() -> T) -> T {
    let Some(caller) = caller else { return work() };
    let _restore = Restore::after(Asking::Follower(caller.clone()));
    work()
}

impl Asking {
    fn is_unwanted(&mut self) -> bool {
        let (is_unwanted, next, stopped, was_unwanted) = match self {
            Asking::Follower(stopped) => return stopped.load(Ordering::Relaxed),
            Asking::Caller { is_unwanted, next, stopped, was_unwanted } => {
                (is_unwanted, next, stopped, was_unwanted)
            }
        };
        if *was_unwanted {
            return true;
        }
        let now = Instant::now();
        let due = *next.get_or_insert(now + EVERY);
        if now < due {
            return false;
        }
        *next = Some(now + EVERY);
        *was_unwanted = is_unwanted();
        if let Some(stopped) = stopped {
            stopped.store(*was_unwanted, Ordering::Relaxed);
        }
        *was_unwanted
    }
}
