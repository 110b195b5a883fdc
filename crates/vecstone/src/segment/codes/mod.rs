//! Codes: what a search reads instead of vectors. Rows are grouped by their nearest centre, and of each row the difference
//! from it is kept in 4 bits a component, with bounds on what that leaves out.

pub(crate) mod build;
pub(crate) mod centres;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod effort;
pub(crate) mod file;
pub(crate) mod frame;
pub(crate) mod pages;
pub(crate) mod part;
pub(crate) mod reflect;
pub(crate) mod row;

#[cfg(test)]
thread_local! {
    static FOR_ALL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether even few and short rows have codes and are searched by them: in a test that asks for it.
pub(crate) fn are_for_all() -> bool {
    #[cfg(test)]
    return FOR_ALL.get();
    #[cfg(not(test))]
    false
}

/// Runs a test with codes for few and short rows, in this thread.
#[cfg(test)]
pub(crate) fn for_all<T>(test: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            FOR_ALL.set(self.0);
        }
    }
    let _restore = Restore(FOR_ALL.replace(true));
    test()
}
