//! Tests of the tests: each planted protocol bug is caught, by the test named here.

use super::crash::{BRIEF, CONTROL, Explorer, QUICK, SEGMENTS, WORKLOADS, Workload, workloads};
use super::fault::fail_each_call;
use super::side::SIDE;
use crate::sys::planted::{Bug, with};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether the crash enumeration of some workloads fails with this bug planted: a few states of each first, since most bugs
/// show there, then at quick effort.
fn caught_in(bug: Bug, workloads: impl Iterator<Item = Workload> + Clone) -> bool {
    let catches = |(workload, effort)| with(bug, || fails(|| Explorer::default().explore(workload, effort)));
    let all = [BRIEF, QUICK].into_iter().flat_map(|effort| workloads.clone().map(move |w| (w, effort)));
    all.into_iter().any(catches)
}

fn crashes_catch(bug: Bug) -> bool {
    caught_in(bug, WORKLOADS.into_iter())
}

/// Workloads of several segments.
fn segments_catch(bug: Bug) -> bool {
    caught_in(bug, SEGMENTS.into_iter())
}

/// Workloads with side files.
fn side_files_catch(bug: Bug) -> bool {
    caught_in(bug, SIDE.into_iter())
}

fn clears_catch(bug: Bug) -> bool {
    caught_in(bug, SEGMENTS.into_iter().filter(|(name, _)| name.contains("clear")))
}

/// Whether the crash enumeration of documents that puts keep, at quick effort, fails with this bug planted.
fn kept_documents_catch(bug: Bug) -> bool {
    caught_in(bug, SEGMENTS.into_iter().filter(|(name, _)| *name == "documents_kept_in_the_buffer"))
}

/// Whether the fault injection fails with this bug planted.
fn faults_catch(bug: Bug) -> bool {
    ["put", "two_batches_one_flush", "close", "batch_then_put"].into_iter().any(|name| {
        let workload = WORKLOADS.into_iter().find(|workload| workload.0 == name).expect("a workload");
        with(bug, || fails(|| fail_each_call(workload, &mut BTreeSet::new()).map(drop)))
    })
}

/// Whether killing the maker of a store fails with this bug planted.
fn killed_creators_catch(bug: Bug) -> bool {
    with(bug, || fails(|| super::crash::kill_each_step_of(WORKLOADS[0])))
}

/// Whether a reader beside a writer that clears its store sees too much with this bug planted.
fn readers_catch(bug: Bug) -> bool {
    let clear = SEGMENTS.into_iter().find(|(name, _)| *name == "clear").expect("a workload");
    with(bug, || fails(|| super::crash::look_at_each_step_of(clear)))
}

/// Whether a reader beside a writer that sets attributes sees too much with this bug planted.
fn attributes_catch(bug: Bug) -> bool {
    let set = SEGMENTS.into_iter().find(|(name, _)| *name == "attributes").expect("a workload");
    with(bug, || fails(|| super::crash::look_at_each_step_of(set)))
}

/// Whether a writer that acts between two steps of a reader's call makes it show what it must not with this bug planted.
fn steps_catch(bug: Bug) -> bool {
    with(bug, || fails(super::beside::act_before_opening_and_refreshing))
}

/// Whether a reader of a store that another one takes the place of shows what it must not with this bug planted.
fn replacing_catches(bug: Bug) -> bool {
    with(bug, || fails(super::refresh::replace_in_each_way))
}

/// Whether syncs that lie make a test fail with this bug planted.
fn lies_catch(bug: Bug) -> bool {
    with(bug, || fails(|| super::fault::lie_at_each_sync().map(drop)))
}

/// Whether a test of all entry points, or of compactions, fails with this bug planted.
fn caught_by(bug: Bug, test: fn() -> Result<(), String>) -> bool {
    with(bug, || fails(test))
}

fn deletes_catch(bug: Bug) -> bool {
    caught_by(bug, super::ask::what_is_there_is_deleted)
}

fn durable_deletes_catch(bug: Bug) -> bool {
    caught_by(bug, super::ask::nothing_found_is_waited_for)
}

fn moves_catch(bug: Bug) -> bool {
    caught_by(bug, super::ask::what_moves_meanwhile_is_found)
}

fn full_batches_catch(bug: Bug) -> bool {
    caught_by(bug, super::ask::a_filter_deletes_more_than_a_batch)
}

fn compactions_catch(bug: Bug) -> bool {
    caught_by(bug, super::compact::what_dies_meanwhile_stays_dead)
}

fn marks_catch(bug: Bug) -> bool {
    caught_by(bug, super::second::the_next_commit_counts)
}

fn ends_catch(bug: Bug) -> bool {
    caught_by(bug, super::second::the_mark_at_the_end_counts)
}

fn epochs_catch(bug: Bug) -> bool {
    caught_by(bug, super::second::epochs_rise)
}

fn points_catch(bug: Bug) -> bool {
    caught_by(bug, super::second::ids_prove_what_was_durable)
}

fn repairs_catch(bug: Bug) -> bool {
    caught_by(bug, super::second::repair_asks_ids_for_the_end)
}

fn cuts_catch(bug: Bug) -> bool {
    caught_by(bug, super::cut::cut_documents_are_told)
}

fn overlays_catch(bug: Bug) -> bool {
    caught_by(bug, super::held::the_look_at_the_buffer_is_let_go)
}

fn late_overlays_catch(bug: Bug) -> bool {
    caught_by(bug, super::held::a_late_look_is_let_go)
}

fn lists_catch(bug: Bug) -> bool {
    caught_by(bug, super::held::old_lists_go)
}

/// A test fails by its result or by a panic.
fn fails(test: impl FnOnce() -> Result<(), String>) -> bool {
    catch_unwind(AssertUnwindSafe(test)).map_or(true, |outcome| outcome.is_err())
}

macro_rules! caught {
    ($($name:ident: $bug:ident by $catcher:path;)*) => {
        $(#[test]
        fn $name() {
            assert!($catcher(Bug::$bug), "{:?} went unnoticed", Bug::$bug);
        })*
    };
}

caught! {
    an_unsynced_dat_is_caught: SkipDatSync by crashes_catch;
    an_unsynced_idx_is_caught: SkipIdxSync by crashes_catch;
    an_unsynced_directory_is_caught: SkipDirSync by crashes_catch;
    an_unsynced_parent_is_caught: SkipParentSync by crashes_catch;
    an_unsynced_manifest_is_caught: SkipManifestSync by crashes_catch;
    an_unsynced_pair_is_caught: SkipPairSync by crashes_catch;
    unsynced_names_of_new_segments_are_caught: SkipNamesSync by segments_catch;
    a_commit_that_claims_its_own_durability_is_caught: ClaimTooMuch by crashes_catch;
    a_batch_without_its_chain_is_caught: IgnoreChain by crashes_catch;
    unproven_rows_without_checksums_are_caught: IgnoreRowChecksums by crashes_catch;
    a_recovery_that_trusts_the_page_cache_is_caught: TrustPageCache by crashes_catch;
    files_removed_before_the_manifest_is_durable_are_caught: UnlinkTooEarly by segments_catch;
    an_append_before_the_manifest_is_durable_is_caught: AppendTooEarly by segments_catch;
    a_cross_delete_of_an_unsynced_batch_in_a_list_is_caught: UnsyncedCrossDeletes by segments_catch;
    a_clear_that_leaves_the_buffer_is_caught: ClearFilesOnly by clears_catch;
    a_clear_shown_before_it_is_durable_is_caught: ShowRename by readers_catch;
    a_kill_target_found_when_accepted_is_caught: KillAtPut by segments_catch;
    a_kept_document_found_when_accepted_is_caught: KeepAtPut by kept_documents_catch;
    a_document_that_comes_back_behind_a_delete_is_caught: KeepBehindDelete by kept_documents_catch;
    a_kept_document_without_its_checksum_is_caught: UncheckedKeep by super::kept::rot_is_kept;
    a_close_that_is_trusted_is_caught: TrustClose by lies_catch;
    unsynced_documents_are_caught: SkipJsonlSync by segments_catch;
    an_unsynced_name_of_documents_is_caught: SkipJsonlDirSync by segments_catch;
    an_unsettled_manifest_is_caught: TrustUnsyncedManifest by killed_creators_catch;
    a_recovery_that_forgets_proof_is_caught: ForgetProof by crashes_catch;
    a_failed_sync_taken_for_good_is_caught: IgnoreFailedSync by faults_catch;
    a_short_write_taken_for_whole_is_caught: IgnoreShortWrite by faults_catch;
    an_append_behind_a_failed_one_is_caught: AppendAfterFailure by faults_catch;
    a_log_that_knows_a_newer_manifest_is_caught: TakeNewerLog by steps_catch;
    a_writer_that_came_meanwhile_is_caught: OneLookForAWriter by steps_catch;
    a_directory_that_is_not_compared_is_caught: ForgetDirectory by replacing_catches;
    a_log_that_was_replaced_is_caught: TrustTheLog by replacing_catches;
    a_repair_that_is_not_marked_is_caught: SkipUnfinished by super::unfinished::repairs_catch;
    a_backup_that_is_not_marked_is_caught: SkipUnfinished by super::unfinished::backups_catch;
    a_mark_that_is_not_synced_is_caught: UnsyncedUnfinished by super::unfinished::repairs_catch;
    a_mark_that_goes_too_early_is_caught: FinishTooEarly by super::unfinished::repairs_catch;
    a_backup_whose_files_cannot_be_told_is_caught: SkipHeadsSync by super::unfinished::backups_catch;
    a_backup_that_goes_by_names_is_caught: ShareByName by super::unfinished::a_name_was_given_away;
    a_durable_delete_that_does_not_wait_is_caught: NothingIsDurable by durable_deletes_catch;
    a_read_behind_its_version_is_caught: TryBehindVersion by faults_catch;
    a_version_loaded_before_the_buffer_is_caught: ViewBeforeBuffer by moves_catch;
    a_delete_that_overtakes_the_buffer_is_caught: TurnWithoutBuffer by deletes_catch;
    a_delete_that_ends_with_a_full_batch_is_caught: OneBatchOnly by full_batches_catch;
    kills_of_the_first_output_only_are_caught: KillsOfFirstOutput by compactions_catch;
    a_commit_that_proves_nothing_is_caught: SilentCommit by marks_catch;
    a_log_that_ends_without_its_mark_is_caught: UnmarkedEnd by ends_catch;
    a_forgotten_epoch_is_caught: ForgetEpoch by epochs_catch;
    a_point_of_ids_that_proves_nothing_is_caught: ForgetPoint by points_catch;
    a_repair_that_does_not_ask_ids_is_caught: RepairWithoutPoint by repairs_catch;
    documents_that_end_too_early_are_caught: IgnoreDocsEnd by cuts_catch;
    an_overlay_that_holds_old_files_is_caught: KeepOverlay by overlays_catch;
    an_overlay_that_comes_too_late_is_caught: LateOverlay by late_overlays_catch;
    an_old_list_that_stays_is_caught: KeepOldLists by lists_catch;
    a_side_file_that_is_not_synced_is_caught: UnsyncedSideFile by side_files_catch;
    a_replacement_that_forgets_unknown_sections_is_caught: ForgetSections by super::later::sections_catch;
    attributes_shown_before_they_are_durable_are_caught: ShowRename by attributes_catch;
    a_read_without_its_checksum_is_caught: UncheckedRead by super::corrupt::rot_slips_through;
    a_log_cut_without_looking_for_proof_is_caught: CutWithoutProof by super::corrupt::lost_batches_slip_through;
    numbers_of_a_manifest_taken_as_they_are_are_caught: UncheckedManifest by super::hostile::contradictions_catch;
    an_index_that_is_trusted_is_caught: TrustIds by super::hostile::lying_ids_catch;
    what_an_index_says_in_a_copy_is_caught: TrustIds by super::lying::lies_catch;
    a_clean_up_of_others_files_is_caught: RemoveOthersFiles by super::hostile::files_of_others_catch;
    a_store_started_over_is_caught: StartOverWithCommits by super::corrupt::a_store_is_started_over;
}

#[test]
fn without_a_planted_bug_all_of_them_pass() {
    for workload in workloads() {
        Explorer::default().explore(workload, CONTROL).unwrap_or_else(|why| panic!("{why}"));
    }
}
