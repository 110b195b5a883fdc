//! Crash states of a few workloads, in seconds: for `make mutants`, which asks thousands of times.

use super::crash::{BRIEF, Explorer, workloads};

/// Recovery of recovery, what it cuts off, cross-segment deletes in sealed segments, compaction with writes beside
/// it, `.ids`, documents.
const CRASHES: [&str; 5] = [
    "killed_then_closed",
    "written_over_a_torn_tail",
    "replace_in_sealed_segments",
    "compact_beside_writes",
    "documents_after_plain_rows",
];

#[test]
fn a_few_workloads_keep_their_promises() {
    if std::env::var_os("VECSTONE_MUTANTS").is_none() {
        return;
    }
    let mut found = 0;
    for workload in workloads().filter(|(name, _)| CRASHES.contains(name)) {
        Explorer::default().explore(workload, BRIEF).unwrap_or_else(|failure| panic!("{failure}"));
        found += 1;
    }
    assert_eq!(found, CRASHES.len());
}
