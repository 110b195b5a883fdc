//! Protocol bugs that the tests plant, to show that a named test catches each. Always off outside of tests.

/// One way to get the protocol wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// `.dat` is not synced by a commit.
    SkipDatSync,
    /// `.idx` is not synced by a commit.
    SkipIdxSync,
    /// A failed sync is taken for a good one.
    IgnoreFailedSync,
    /// A short write counts as a whole one.
    IgnoreShortWrite,
    /// A failed append moves the end of the log.
    AppendAfterFailure,
    /// The directory is not synced after MANIFEST got its name.
    SkipDirSync,
    /// The directory that holds the store is not synced when the store is made.
    SkipParentSync,
    /// The directory is not synced before MANIFEST names new files.
    SkipNamesSync,
    /// MANIFEST is renamed before its bytes are synced.
    SkipManifestSync,
    /// An open for writing trusts a MANIFEST that may be in the page cache only.
    SkipSettling,
    /// The pair is not synced before MANIFEST names it.
    SkipPairSync,
    /// A COMMIT claims that its own batch is durable.
    ClaimTooMuch,
    /// A batch counts without its hash chain.
    IgnoreChain,
    /// An unproven batch counts without its row checksums.
    IgnoreRowChecksums,
    /// A broken log is cut without looking for proof that the rest was durable.
    CutWithoutProof,
    /// Recovery trusts the page cache: what it kept is not written again and synced.
    TrustPageCache,
    /// An existing store is taken for a half-made one.
    StartOverWithCommits,
    /// Recovery cuts off the proof that a batch is durable and writes no new one.
    ForgetProof,
    /// Files are removed before the MANIFEST that no longer names them is durable.
    UnlinkTooEarly,
    /// A MANIFEST that takes the place of another is not made durable before its segments are written to.
    AppendTooEarly,
    /// A list of dead rows has those of batches that are not durable.
    UnsyncedKills,
    /// Clearing a store leaves what is accepted and not yet written.
    ClearFilesOnly,
    /// A reader shows a cleared store before its MANIFEST is durable.
    ShowRename,
    #[cfg(test)]
    /// Which row a put replaces is found out when it is accepted.
    KillAtPut,
    /// What is written behind a CLOSE trusts that it is on the disk.
    TrustClose,
    /// The documents are not synced by a commit.
    SkipJsonlSync,
    /// The directory is not synced after a segment's documents got their file.
    SkipJsonlDirSync,
    /// A document that a put keeps is copied without a look at its checksum.
    UncheckedKeep,
    /// What a put keeps is that of the row that was there when it was accepted.
    #[cfg(test)]
    KeepAtPut,
    /// A put that keeps its document after a delete in the same batch gets it back.
    KeepBehindDelete,
    /// A read does not check its checksum.
    UncheckedRead,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this bug is planted in this thread.
#[cfg(test)]
pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// No bug is planted outside of tests.
#[cfg(not(test))]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Runs `test` with a bug planted.
#[cfg(test)]
pub(crate) fn with<T>(bug: Bug, test: impl FnOnce() -> T) -> T {
    struct Unplant;
    impl Drop for Unplant {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(bug));
    let _unplant = Unplant;
    test()
}
