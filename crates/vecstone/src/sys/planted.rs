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
    TrustUnsyncedManifest,
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
    UnsyncedCrossDeletes,
    /// Clearing a store leaves what is accepted and not yet written.
    ClearFilesOnly,
    /// A reader shows a cleared store, or other attributes, before their MANIFEST is durable.
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
    /// Nobody asks whether the store is still where its path says.
    IgnoreMove,
    /// A repair or backup does not say that what it makes is unfinished.
    SkipUnfinished,
    /// The mark of what is unfinished is not synced before anything else is made.
    UnsyncedUnfinished,
    /// The mark of what is unfinished goes before the store is whole.
    FinishTooEarly,
    /// A backup does not make the heads of its files durable before any other.
    SkipHeadsSync,
    /// A backup takes a file for a segment's because it has its name.
    ShareByName,
    /// What is put is not looked at: so tests make rows and documents that nobody can put.
    #[cfg(test)]
    UncheckedInput,
    /// A document that a put keeps is copied without a look at its checksum.
    UncheckedKeep,
    /// What a put keeps is that of the row that was there when it was accepted.
    #[cfg(test)]
    KeepAtPut,
    /// A put that keeps its document after a delete in the same batch gets it back.
    KeepBehindDelete,
    /// Making a pair fails, and what was there under its names is removed.
    RemoveOthersFiles,
    /// What `.ids` says of dead rows and cross-segment deletes is not compared with the log.
    TrustIds,
    /// Numbers in MANIFEST are not compared with each other.
    UncheckedManifest,
    /// A read does not check its checksum.
    UncheckedRead,
    /// A reader takes a log that knows a newer MANIFEST.
    TakeNewerLog,
    /// A reader looks for a writer before it reads a log, and not after it.
    OneLookForAWriter,
    /// A reader does not compare directories.
    ForgetDirectory,
    /// A reader goes on in a log that was replaced.
    TrustTheLog,
    /// A durable delete that finds nothing does not wait for what made it nothing.
    NothingIsDurable,
    /// A read that does not wait finds rows behind the version that it looks at.
    TryBehindVersion,
    /// A read loads the files' version before it looks at the buffer.
    ViewBeforeBuffer,
    /// A delete under the writer's lock does not write what was accepted before it.
    TurnWithoutBuffer,
    /// A delete of what a filter selects ends when its first batch is full.
    OneBatchOnly,
    /// A compaction drops only those rows that died meanwhile which went to its first output.
    KillsOfFirstOutput,
    /// A COMMIT does not say what is durable.
    SilentCommit,
    /// A log ends, or a list of dead rows is written, without the mark that its last batches are durable.
    UnmarkedEnd,
    /// Recovery forgets the epoch of what it drops.
    ForgetEpoch,
    /// A log that ends before what `.ids` proves durable is taken as it is.
    ForgetPoint,
    /// Repair does not ask `.ids` which batch was there.
    RepairWithoutPoint,
    /// An `.ids` is used though the documents end before its point.
    IgnoreDocsEnd,
    /// What the buffer hides in the files is kept when the files are others.
    KeepOverlay,
    /// The same, of a call that began before.
    LateOverlay,
    /// A list of dead rows stays when another takes its place.
    KeepOldLists,
    /// A MANIFEST that takes the place of another has no section that this release does not know.
    ForgetSections,
    /// A side file gets its name before its bytes are synced.
    UnsyncedSideFile,
}

/// Places of the engine at which a test has something happen, whatever thread comes there.
#[derive(Default)]
pub(crate) struct Hooks {
    #[cfg(test)]
    planted: std::sync::Mutex<Option<(&'static str, Happening)>>,
}

#[cfg(test)]
type Happening = Box<dyn FnOnce() + Send>;

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Hooks {
    /// What a test planted here happens, once.
    #[cfg(test)]
    pub(crate) fn here(&self, place: &str) {
        let planted = self.planted().take_if(|(planted, _)| *planted == place);
        if let Some((_, happen)) = planted {
            happen();
        }
    }

    /// Nothing happens outside of tests.
    #[cfg(not(test))]
    #[inline]
    pub(crate) const fn here(&self, _: &str) {}

    #[cfg(test)]
    pub(crate) fn plant(&self, place: &'static str, happen: impl FnOnce() + Send + 'static) {
        *self.planted() = Some((place, Box::new(happen)));
    }

    /// Whether it is still to come.
    #[cfg(test)]
    pub(crate) fn is_planted(&self) -> bool {
        self.planted().is_some()
    }

    #[cfg(test)]
    fn planted(&self) -> std::sync::MutexGuard<'_, Option<(&'static str, Happening)>> {
        crate::sys::sync::unpoisoned(self.planted.lock())
    }
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
