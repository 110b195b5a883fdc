//! Threads for searches and other calls with much to do: so many in a process, shared by all that run at the same time.
//!
//! They live as long as the call that started them, so that a forked child finds none of its parent's to wait for. Of
//! those that are at work there is only a count, which belongs to one process: after a fork it starts anew.

use crate::sys::disk::fork;
use crate::sys::interrupt;
use crate::sys::sync::unpoisoned;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// How many threads beside its caller's a search has now, over all searches.
static ACTIVE: Count = Count(AtomicU64::new(0));

/// A count in the lower half, and in the upper half in which process, counted in forks.
#[derive(Debug)]
struct Count(AtomicU64);

const LOW: u64 = u32::MAX as u64;

impl Count {
    /// Adds to the count what leaves it at most at `limit`, and at most `most`; returns how many.
    fn take(&self, most: u64, limit: u64) -> ThreadPermit<'_> {
        let process = (fork::generation() & LOW) << 32;
        let (mut taken, limit) = (0, limit.min(LOW));
        let add = |now: u64| {
            let count = if now & !LOW == process { now & LOW } else { 0 };
            taken = most.min(limit.saturating_sub(count));
            Some(process | (count + taken))
        };
        _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        ThreadPermit { count: self, process, taken }
    }
}

/// What was added to a count, until it is dropped.
struct ThreadPermit<'a> {
    count: &'a Count,
    process: u64,
    taken: u64,
}

impl Drop for ThreadPermit<'_> {
    fn drop(&mut self) {
        let give_back = |now: u64| (now & !LOW == self.process).then(|| now - self.taken);
        _ = self.count.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }
}

/// How many threads a search may have where `asked` of them were asked for; 0: nobody asked.
pub(crate) fn limit(asked: usize) -> usize {
    // No lock: it would be held for ever in a child that is forked meanwhile.
    static DEFAULT: AtomicUsize = AtomicUsize::new(0);
    match (asked, DEFAULT.load(Ordering::Relaxed)) {
        (0, 0) => {}
        (0, known) => return known,
        (asked, _) => return asked,
    }
    let said = std::env::var("VECSTONE_THREADS").ok().and_then(|said| said.trim().parse().ok());
    let default = said.filter(|&said| said > 0).unwrap_or_else(|| {
        // Where that cannot be found out, nobody else is disturbed.
        thread::available_parallelism().map_or(1, |cores| cores.get())
    });
    DEFAULT.store(default, Ordering::Relaxed);
    default
}

/// Hands out pieces in their order, to the caller's thread and to up to `wanted - 1` more, as far as `limit` has room for
/// them. Each thread begins with a state of its own; returns the states. After an error no further piece is begun, and of
/// several errors that of the earliest piece counts.
pub(crate) fn for_each_piece<P, S: Send, E: Send>(
    pieces: impl Iterator<Item = P> + Send,
    wanted: u64,
    limit: usize,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, P) -> Result<(), E> + Sync,
) -> Result<Vec<S>, E> {
    let pieces = Mutex::new(Some(pieces.enumerate()));
    let next = || unpoisoned(pieces.lock()).as_mut().and_then(Iterator::next);
    let mut done = run(wanted, limit, || {
        let mut state = begin();
        while let Some((at, piece)) = next() {
            if let Err(error) = work(&mut state, piece) {
                *unpoisoned(pieces.lock()) = None;
                return Err((at, error));
            }
        }
        Ok(state)
    });
    done.sort_by_key(|done| done.as_ref().err().map_or(usize::MAX, |(at, _)| *at));
    done.into_iter().map(|done| done.map_err(|(_, error)| error)).collect()
}

/// Does `work` here and on the other threads at the same time. Returns what each returned.
pub(crate) fn run<T: Send>(wanted: u64, limit: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let extra = ACTIVE.take(wanted.saturating_sub(1), limit.saturating_sub(1) as u64);
    let caller = if extra.taken > 0 { interrupt::following() } else { None };
    let followed = || interrupt::follow(caller.as_ref(), &work);
    thread::scope(|scope| {
        let builder = || thread::Builder::new().name("vecstone-search".into());
        let start = |_| builder().spawn_scoped(scope, fork::between_forks(&followed)).ok();
        // If the system refuses one, the others do its work.
        let others: Vec<_> = (0..extra.taken).map_while(start).collect();
        let mut done = vec![work()];
        for other in others {
            done.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_all_together() {
        let count = Count(AtomicU64::new(0));
        let first = count.take(5, 7);
        let second = count.take(5, 7);
        let third = count.take(1, 7);
        assert_eq!([first.taken, second.taken, third.taken], [5, 2, 0]);
        assert_eq!(count.take(9, 8).taken, 1, "a larger limit has room");
        drop(first);
        assert_eq!(count.take(9, 7).taken, 5);
        drop((second, third));
        assert_eq!(count.take(u64::MAX, u64::MAX).taken, LOW);
        assert_eq!(count.0.load(Ordering::Relaxed) & LOW, 0, "all given back");
    }

    #[test]
    fn a_count_of_another_process_does_not_count() {
        let parents = 7 << 32 | 3;
        let count = Count(AtomicU64::new(parents));
        let ours = count.take(4, 4);
        assert_eq!(ours.taken, 4);
        let theirs = ThreadPermit { count: &count, process: 7 << 32, taken: 3 };
        drop(theirs);
        assert_eq!(count.take(4, 4).taken, 0, "what the parent took is not given back here");
        drop(ours);
        assert_eq!(count.take(4, 4).taken, 4);
    }

    /// On one core, too: each waits for the others before it goes on.
    #[test]
    fn all_that_there_is_room_for_work_at_the_same_time() {
        for wanted in 1..=5 {
            let all = usize::try_from(wanted).expect("small");
            let all_here = std::sync::Barrier::new(all);
            // No test of this crate has a limit as large as this one, so that there is room.
            let done = run(wanted, 1 << 20, || all_here.wait().is_leader());
            assert_eq!(done.len(), all);
            assert_eq!(done.into_iter().filter(|&leader| leader).count(), 1);
        }
    }

    #[test]
    fn each_piece_is_done_once() {
        let add = |sum: &mut u64, piece: u64| -> Result<(), ()> {
            *sum += piece;
            Ok(())
        };
        let sums = for_each_piece(0..1000, 3, 8, || 0, add).expect("no error");
        assert_eq!(sums.iter().sum::<u64>(), 499_500);
        assert_eq!(for_each_piece(0..0, 0, 0, || 1, add), Ok(vec![1]));
        assert_eq!(limit(3), 3);
        assert!(limit(0) > 0);
    }

    /// Both threads have a piece before either fails, and the later piece fails first.
    #[test]
    fn the_error_of_the_earliest_piece_counts_and_ends_it() {
        let both = std::sync::Barrier::new(2);
        let (failed, begun) = (AtomicU64::new(0), AtomicU64::new(0));
        let fail = |(): &mut (), piece: u64| {
            begun.fetch_add(1, Ordering::Relaxed);
            both.wait();
            while failed.load(Ordering::Relaxed) < 1 - piece {
                thread::yield_now();
            }
            failed.fetch_add(1, Ordering::Relaxed);
            Err(piece)
        };
        assert_eq!(for_each_piece(0..2, 2, 1 << 20, || (), fail), Err(0));
        let alone =
            for_each_piece(0..9, 0, 1, || (), |(), piece| if piece < 4 { Ok(()) } else { Err(piece) });
        assert_eq!((alone, begun.into_inner()), (Err(4), 2));
    }
}
