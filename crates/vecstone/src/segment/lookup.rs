//! What a look-up finds.

/// What came of a look-up that waits for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
    Found(T),
    Absent,
    /// It would have to wait for a lock or for the disk.
    WouldBlock,
}

impl<T> From<Option<T>> for Lookup<T> {
    fn from(found: Option<T>) -> Lookup<T> {
        found.map_or(Lookup::Absent, Lookup::Found)
    }
}

/// How many ids are looked up before the first of their rows is copied: memory gets them side by side.
pub(crate) const PREFETCH_WIDTH: usize = 32;
