//! Every crash state of small workloads: the store opens, and shows what was promised.

use super::ask;
use super::later::IN_MANIFEST;
use super::model::{DIM, DIR, Model, Random, Run, identity, look, root};
use super::side::{CODES, SIDE, unmarked, with_kinds_of, without_kinds};
use crate::sys::disk::sim::{Crash, Image, SimDisk};
use crate::types::error::Result;
use crate::{Metric, VectorStore};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A named sequence of calls. It ends at its first error.
pub(super) type Workload = (&'static str, fn(&mut Run) -> Result<()>);

/// The workloads: each a few calls on a fresh disk, as bugs of this kind need no more (CrashMonkey, OSDI 2018).
pub(super) const WORKLOADS: [Workload; 18] = [
    ("create", |run| run.create()),
    ("put", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("batch_then_put", |run| {
        run.create()?;
        run.put(&["a", "b", "c"])?;
        run.flush()?;
        run.put(&["d"])?;
        run.flush()
    }),
    ("upsert", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("delete", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.delete(&["a"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("two_batches_one_flush", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.put(&["b", "a"])?;
        run.flush()
    }),
    ("close", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.close()
    }),
    ("close_reopen_put", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.close()?;
        run.open()?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("killed_after_flush", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()?;
        run.kill();
        run.open()?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("killed_before_flush", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.kill();
        run.open()?;
        run.delete(&["b"])?;
        run.flush()
    }),
    ("killed_then_closed", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()?;
        run.put(&["b"])?;
        run.kill();
        run.open()?;
        run.close()
    }),
    ("killed_twice", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.kill();
        run.open()?;
        run.put(&["b"])?;
        run.kill();
        run.open()?;
        run.close()
    }),
    ("unflushed_behind_flushed", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()?;
        run.put(&["b"])?;
        run.put(&["c"])?;
        run.delete(&["a"])
    }),
    ("many_batches_in_flight", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.put(&["c", "a", "d", "e"])?;
        run.delete(&["b"])?;
        run.put(&["b", "f"])?;
        run.flush()
    }),
    ("wide_batch", |run| {
        run.create()?;
        run.put(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"])?;
        run.flush()?;
        run.delete(&["a", "c", "l"])?;
        run.put(&["m", "a", "n", "o", "p", "q", "r", "s"])?;
        run.flush()
    }),
    ("written_over_a_torn_tail", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()?;
        run.put(&["b", "c", "d", "e", "f"])?;
        run.kill();
        run.open()?;
        run.put(&["g", "h", "a"])?;
        run.put(&["i"])?;
        run.flush()?;
        run.put(&["j", "k"])
    }),
    ("flush_each_of_many", |run| {
        run.create()?;
        for id in ["a", "b", "c", "a"] {
            run.put(&[id, "x"])?;
            run.flush()?;
        }
        run.close()
    }),
    ("long_ids_and_rows", |run| {
        run.create()?;
        let long = "x".repeat(150);
        run.put(&["a", "b", "c", "d", "e", &long])?;
        run.flush()?;
        run.put(&[&long])
    }),
];

/// Workloads of a store's first rows: what comes before them, and what a kill leaves of them.
pub(super) const FIRST_ROWS: [Workload; 6] = [
    ("first_rows", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.close()
    }),
    ("closed_empty_then_put", |run| {
        run.create()?;
        run.close()?;
        run.open()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("killed_twice_then_put", |run| {
        run.create()?;
        run.kill();
        run.open()?;
        run.kill();
        run.open()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("killed_after_first_put", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.kill();
        run.open()?;
        run.delete(&["a"])?;
        run.flush()
    }),
    ("deletes_and_compacts_before_them", |run| {
        run.create()?;
        run.delete(&["a"])?;
        run.compact()?;
        run.flush()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("seals_and_compacts_them", |run| {
        run.segments_of(1).create()?;
        run.put_documents(&["a"])?;
        run.put(&["a"])?;
        run.compact()?;
        run.put(&["b"])?;
        run.flush()
    }),
];

/// Workloads of several segments, documents and indexes: more files and more calls, so fewer of each one's combinations.
pub(super) const SEGMENTS: [Workload; 35] = [
    ("seal", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["c"])?;
        run.flush()
    }),
    ("seal_a_flushed_one", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.put(&["a", "c"])?;
        run.flush()
    }),
    ("replace_in_sealed_segments", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["b", "c"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.delete(&["b"])?;
        run.flush()?;
        run.put(&["d", "b"])?;
        run.flush()
    }),
    ("seal_again_and_again", |run| {
        run.segments_of(1).create()?;
        for ids in [["a"], ["b"], ["a"], ["b"]] {
            run.put(&ids)?;
        }
        run.flush()
    }),
    ("seal_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a"])?;
        run.kill();
        run.open()?;
        run.put(&["b", "c"])?;
        run.flush()
    }),
    ("seal_then_closed", |run| {
        run.segments_of(3).create()?;
        run.put(&["a", "b", "c"])?;
        run.put(&["a", "d", "e"])?;
        run.close()?;
        run.open()?;
        run.put(&["b", "d"])?;
        run.flush()
    }),
    ("compact", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.flush()?;
        run.compact()?;
        run.put(&["d"])?;
        run.flush()
    }),
    ("compact_to_nothing", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.delete(&["a", "b"])?;
        run.compact()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("compact_beside_writes", |run| {
        run.segments_of(3).create()?;
        run.put(&["a", "b", "c"])?;
        run.put(&["a", "d", "e"])?;
        run.flush()?;
        run.compact_beside(&["b", "f"], &["d", "c"])?;
        run.put(&["g"])?;
        run.flush()
    }),
    ("compact_to_several_outputs", |run| {
        run.rows_of(2).create()?;
        run.put_documents(&["a", "b", "c", "d", "e", "f", "g"])?;
        run.put(&["a"])?;
        run.flush()?;
        run.compact_beside(&["c", "f"], &["d", "g"])?;
        run.put(&["h"])?;
        run.flush()
    }),
    ("compact_twice", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a"])?;
        run.compact()?;
        run.put(&["b", "c"])?;
        run.compact()?;
        run.close()
    }),
    ("compact_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.delete(&["a"])?;
        run.compact()?;
        run.put(&["b"])?;
        run.kill();
        run.open()?;
        run.compact()
    }),
    ("documents", |run| {
        run.create()?;
        run.put_documents(&["a", "b"])?;
        run.flush()?;
        run.put_documents(&["c", "a"])?;
        run.put(&["d"])?;
        run.flush()
    }),
    ("documents_after_plain_rows", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.put_documents(&["c"])?;
        run.flush()?;
        run.put(&["c"])?;
        run.close()
    }),
    ("documents_torn_and_written_over", |run| {
        run.create()?;
        run.put(&["a"])?;
        run.flush()?;
        run.put_documents(&["b", "c"])?;
        run.kill();
        run.open()?;
        run.put_documents(&["d"])?;
        run.flush()
    }),
    ("documents_sealed_and_compacted", |run| {
        run.segments_of(2).create()?;
        run.put_documents(&["a", "b"])?;
        run.put(&["a"])?;
        run.flush()?;
        run.compact()?;
        run.put_documents(&["c"])?;
        run.flush()
    }),
    ("clear", |run| {
        run.create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.clear()?;
        run.put(&["a"])?;
        run.flush()
    }),
    ("clear_nothing", |run| {
        run.create()?;
        run.clear()?;
        run.clear()?;
        run.put(&["a"])?;
        run.close()
    }),
    ("clear_documents_of_several_segments", |run| {
        run.segments_of(2).create()?;
        run.put_documents(&["a", "b"])?;
        run.put_documents(&["a", "c"])?;
        run.delete(&["b"])?;
        run.put_documents(&["d"])?;
        run.flush()?;
        run.clear()?;
        run.put_documents(&["a"])?;
        run.close()
    }),
    ("clear_what_was_not_flushed", |run| {
        run.segments_of(3).create()?;
        run.put_documents(&["a", "b"])?;
        run.clear()?;
        run.put(&["b"])?;
        run.clear()?;
        run.put(&["c", "d"])?;
        run.put(&["c", "e"])?;
        run.flush()
    }),
    ("clear_what_is_buffered", |run| {
        run.segments_of(2).buffered().create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.put(&["a", "c"])?;
        run.delete(&["b"])?;
        run.clear()?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("clear_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.clear()?;
        run.kill();
        run.open()?;
        run.put(&["d"])?;
        run.kill();
        run.open()?;
        run.clear()?;
        run.close()
    }),
    ("clear_beside_a_compaction", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.flush()?;
        run.clear_beside_compaction(&["b", "d"])?;
        run.flush()
    }),
    ("clear_closed_and_compacted", |run| {
        run.segments_of(3).create()?;
        run.put(&["a", "b", "c"])?;
        run.put(&["a"])?;
        run.close()?;
        run.open()?;
        run.clear()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.compact()
    }),
    ("documents_kept", |run| {
        run.segments_of(2).create()?;
        run.put_documents(&["a", "b"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.flush()?;
        run.compact()?;
        run.put(&["a", "c"])?;
        run.flush()
    }),
    ("documents_kept_by_the_next_segment", |run| {
        run.segments_of(3).create()?;
        run.put_documents(&["a", "b", "c"])?;
        run.put(&["d"])?;
        run.put(&["b"])?;
        run.flush()?;
        run.put(&["b", "d", "a"])?;
        run.close()
    }),
    ("documents_kept_in_the_buffer", |run| {
        run.segments_of(4).buffered().create()?;
        run.put_documents(&["a", "b"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.delete(&["a"])?;
        run.put(&["a"])?;
        run.put_documents(&["b"])?;
        run.put(&["b"])?;
        run.put(&["b", "a"])?;
        run.flush()
    }),
    ("documents_kept_then_killed", |run| {
        run.segments_of(2).create()?;
        run.put_documents(&["a"])?;
        run.put(&["b"])?;
        run.put(&["a"])?;
        run.kill();
        run.open()?;
        run.put(&["a", "b"])?;
        run.flush()
    }),
    ("documents_kept_beside_a_compaction", |run| {
        run.segments_of(3).create()?;
        run.put_documents(&["a", "b", "c"])?;
        run.put_documents(&["a", "d", "e"])?;
        run.flush()?;
        run.compact_beside(&["b", "a"], &["d", "c"])?;
        run.put(&["d", "b"])?;
        run.flush()
    }),
    ("documents_change_alone", |run| {
        run.segments_of(3).buffered().create()?;
        run.put(&["a", "b"])?;
        run.change_documents(&["b"], false)?;
        run.put(&["b", "c"])?;
        run.flush()?;
        run.change_documents(&["c", "b"], false)?;
        run.change_documents(&["b"], true)?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("attributes", |run| {
        run.create()?;
        run.set_attributes(false)?;
        run.put(&["a", "b"])?;
        run.set_attributes(false)?;
        run.put(&["a"])?;
        run.flush()?;
        run.set_attributes(true)
    }),
    ("attributes_of_several_segments", |run| {
        run.segments_of(2).auto_optimize_rows(0).create()?;
        run.put_documents(&["a", "b"])?;
        run.set_attributes(false)?;
        run.put(&["a", "c"])?;
        run.delete(&["b"])?;
        run.set_attributes(false)?;
        run.put(&["d", "a"])?;
        run.flush()?;
        run.clear()?;
        run.set_attributes(false)
    }),
    ("attributes_buffered_then_killed", |run| {
        run.segments_of(2).auto_optimize_rows(7).buffered().create()?;
        run.put(&["a", "b"])?;
        run.put(&["a"])?;
        run.set_attributes(false)?;
        run.delete(&["b"])?;
        run.close()?;
        run.open()?;
        run.set_attributes(true)?;
        run.kill();
        run.open()?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("attributes_beside_a_compaction", |run| {
        run.segments_of(2).create()?;
        run.put(&["a", "b"])?;
        run.put(&["a", "c"])?;
        run.flush()?;
        run.compact_beside_attributes()?;
        run.put(&["b"])?;
        run.flush()
    }),
    ("buffered_over_a_seal", |run| {
        run.segments_of(2).buffered().create()?;
        run.put(&["a", "b"])?;
        run.flush()?;
        run.put(&["a"])?;
        run.delete(&["b"])?;
        run.put(&["c"])?;
        run.flush()?;
        run.put(&["c"])?;
        run.close()
    }),
];

pub(super) fn workloads() -> impl Iterator<Item = Workload> {
    WORKLOADS.into_iter().chain(FIRST_ROWS).chain(SEGMENTS).chain(SIDE).chain(CODES).chain(IN_MANIFEST)
}

/// How thoroughly to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// All combinations of a crash point if there are no more than this; else samples.
    pub(super) exhaustive: usize,
    /// Random samples of a crash point that has more.
    pub(super) samples: usize,
    /// One in so many states is also crashed in its recovery, at each call.
    pub(super) nested_one_in: usize,
}

pub(super) const QUICK: Effort = Effort { exhaustive: 400, samples: 120, nested_one_in: 40 };
/// The states of [`QUICK`]; of crashes inside recovery the enumeration at full effort has enough.
pub(super) const CONTROL: Effort = Effort { nested_one_in: 4_000, ..QUICK };
pub(super) const BRIEF: Effort = Effort { exhaustive: 24, samples: 12, nested_one_in: 400 };
const SOME: Effort = Effort { exhaustive: 256, samples: 100, nested_one_in: 300 };
const FULL: Effort = Effort { exhaustive: 1 << 15, samples: 20_000, nested_one_in: 800 };

/// A crash state that broke the promise, as a line that replays it.
pub(super) type Failure = String;

/// Counts and remembers.
#[derive(Debug, Default)]
pub(super) struct Explorer {
    checked: HashSet<[u8; 16]>,
    pub(super) states: HashSet<[u8; 16]>,
    pub(super) nested: usize,
}

/// Runs a workload until the power goes at `steps`, or to its end.
fn run_until(workload: Workload, reverse: bool, steps: usize) -> (SimDisk, Model) {
    let disk = SimDisk::new(&root());
    disk.power_off_at(steps);
    if reverse {
        disk.reverse_sync();
    }
    let mut run = Run::new(disk);
    _ = (workload.1)(&mut run);
    // No close: the process is gone.
    run.disk.kill(run.store.take());
    (run.disk, run.model)
}

impl Explorer {
    /// Crashes a workload before each of its changing calls, in every way.
    pub(super) fn explore(&mut self, workload: Workload, effort: Effort) -> std::result::Result<(), Failure> {
        with_kinds_of(workload.0, || self.each_step(workload, effort))
    }

    fn each_step(&mut self, workload: Workload, effort: Effort) -> std::result::Result<(), Failure> {
        for reverse in [false, true] {
            let (disk, _) = run_until(workload, reverse, usize::MAX);
            for steps in 0..=disk.steps() {
                let (disk, model) = run_until(workload, reverse, steps);
                let crash = disk.crash();
                let mut random = Random(steps as u64);
                for choice in choices(crash.options(), effort, &mut random) {
                    let image = crash.image(&choice);
                    self.check(&image, &model, effort, &mut random).map_err(|why| {
                        let choice: Vec<String> = choice.iter().map(usize::to_string).collect();
                        let state = format!("{}/{reverse}/{steps}/{}", workload.0, choice.join(","));
                        format!("{why}\nreplay: VECSTONE_CRASH={state} cargo test -p vecstone replay_a_crash")
                    })?;
                }
            }
        }
        Ok(())
    }

    /// One image: opens read-only and for writing to the same promised state, and goes on.
    fn check(
        &mut self,
        image: &Image,
        model: &Model,
        effort: Effort,
        random: &mut Random,
    ) -> std::result::Result<(), Failure> {
        let hash = fingerprint(image);
        self.states.insert(hash);
        if !self.checked.insert(with_model(hash, model)) {
            return Ok(());
        }
        let at = check_image(image, model)?;
        without_kinds(|| check_image(image, model))?;
        if random.below(effort.nested_one_in) == 0 {
            self.crash_in_recovery(image, model, at, random, 2)?;
        }
        Ok(())
    }

    /// Crashes recovery before each of its changing calls, and that recovery's recovery, `depth` deep.
    fn crash_in_recovery(
        &mut self,
        image: &Image,
        model: &Model,
        at: Option<usize>,
        random: &mut Random,
        depth: usize,
    ) -> std::result::Result<(), Failure> {
        let whole = SimDisk::new(image);
        whole.kill(look(&whole, true).map_err(|e| format!("recovery: {e}"))?);
        for steps in 0..=whole.steps() {
            let disk = SimDisk::new(image);
            disk.power_off_at(steps);
            let opened = look(&disk, true);
            let mut model = model.clone();
            if let (Ok(Some(_)), Some(at)) = (&opened, at) {
                // Somebody saw this state: it must not go again.
                model.acked = at;
            }
            disk.kill(opened);
            let crash = disk.crash();
            let effort = Effort { exhaustive: 8, samples: 6, nested_one_in: usize::MAX };
            for choice in choices(crash.options(), effort, random) {
                let image = crash.image(&choice);
                self.nested += 1;
                let at = check_image(&image, &model)
                    .map_err(|why| format!("crash before call {steps} of recovery, {choice:?}: {why}"))?;
                if depth > 1 && random.below(20) == 0 {
                    self.crash_in_recovery(&image, &model, at, random, depth - 1)?;
                }
            }
        }
        Ok(())
    }
}

/// Checks one image against the promise; returns which state it shows.
pub(super) fn check_image(image: &Image, model: &Model) -> std::result::Result<Option<usize>, Failure> {
    let fail = |what: &str, error: crate::Error| format!("{what}: {error}");
    let disk = SimDisk::new(image);
    let seen = look(&disk, false).map_err(|e| fail("open read-only", e))?;
    assert_eq!(disk.steps(), 0, "a reader wrote something");
    let Some((reader, content)) = seen else {
        if model.created {
            return Err("the store is gone".into());
        }
        return make_again(&disk).map(|()| None).map_err(|e| fail("create again", e));
    };
    let at =
        model.place(&content).ok_or_else(|| format!("a reader sees {content:?}, never a promised state"))?;
    unmarked(&reader)?;
    ask::search_by_codes(&reader)?;
    let report = reader.verify().map_err(|e| fail("verify", e))?;
    if !report.is_ok() {
        return Err(format!("verify after a mere crash: {:?}", report.damage));
    }
    let dim = reader.dim();
    if dim != DIM as usize {
        return Err(format!("the dimension is {dim}"));
    }
    drop(reader);
    let Some((store, recovered)) = look(&disk, true).map_err(|e| fail("open", e))? else {
        return Err("the store is gone for a writer".into());
    };
    if recovered != content || store.dim() != dim {
        return Err(format!("a reader sees {content:?}, {dim}, a writer {recovered:?}, {}", store.dim()));
    }
    ask::search_by_codes(&store)?;
    // What recovery kept is durable now, and a reader beside the writer may see it.
    match look(&disk, false).map_err(|e| fail("open read-only beside the writer", e))? {
        Some((_, beside)) if beside == recovered => {}
        beside => {
            return Err(format!("a writer sees {recovered:?}, a reader beside it {:?}", beside.map(|b| b.1)));
        }
    }
    go_on(&disk, store, recovered)?;
    Ok(Some(at))
}

/// After recovery a write is kept like any other, whatever the crash left behind it.
fn go_on(
    disk: &SimDisk,
    store: VectorStore,
    mut content: super::model::Content,
) -> std::result::Result<(), Failure> {
    let fail = |what: &str, error: crate::Error| format!("{what}: {error}");
    let next = [5.0f32, 6.0, 7.0, 8.0];
    store.put("next", &next).and_then(|()| store.flush()).map_err(|e| fail("put after recovery", e))?;
    content.insert("next".into(), super::model::row(&next));
    disk.kill(store);
    let crash = disk.crash();
    let after = SimDisk::new(&crash.image(&vec![0; crash.options().len()]));
    match look(&after, true).map_err(|e| fail("open after a second crash", e))? {
        Some((_, found)) if found == content => Ok(()),
        Some((_, found)) => Err(format!("after recovery, a put and a crash: {found:?}, not {content:?}")),
        None => Err("the store is gone after a second crash".into()),
    }
}

fn make_again(disk: &SimDisk) -> Result<()> {
    VectorStore::create_on(
        Arc::new(disk.clone()),
        Path::new(DIR),
        DIM,
        Metric::L2,
        identity(),
        &super::model::options(),
    )?
    .close()
}

fn fingerprint(image: &Image) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for dir in &image.dirs {
        hasher.update(dir.as_os_str().as_encoded_bytes()).update(&[0]);
    }
    for (path, bytes) in &image.files {
        // LOCK holds a process id: no part of the state.
        if !path.ends_with("LOCK") {
            hasher
                .update(path.as_os_str().as_encoded_bytes())
                .update(&bytes.len().to_le_bytes())
                .update(bytes);
        }
    }
    crate::format::chain_of(&hasher)
}

fn with_model(hash: [u8; 16], model: &Model) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&hash);
    hasher.update(format!("{:?}", (model.created, model.acked, &model.states)).as_bytes());
    crate::format::chain_of(&hasher)
}

/// All combinations, or: every choice alone against "all old" and "all new", prefixes, suffixes, and random ones.
pub(super) fn choices(options: &[usize], effort: Effort, random: &mut Random) -> Vec<Vec<usize>> {
    let all =
        options.iter().try_fold(1usize, |all, &n| all.checked_mul(n).filter(|&all| all <= effort.exhaustive));
    if let Some(all) = all {
        let nth = |mut rest: usize| {
            let digit = |&n: &usize| {
                let digit = rest % n;
                rest /= n;
                digit
            };
            options.iter().map(digit).collect()
        };
        return (0..all).map(nth).collect();
    }
    let old = vec![0; options.len()];
    let new: Vec<usize> = options.iter().map(|n| n - 1).collect();
    let mut found = vec![old.clone(), new.clone()];
    if effort.exhaustive > 8 {
        for (at, &n) in options.iter().enumerate() {
            for base in [&old, &new] {
                found.extend((0..n).map(|option| {
                    let mut choice = base.clone();
                    choice[at] = option;
                    choice
                }));
            }
            found.push([&new[..at], &old[at..]].concat());
            found.push([&old[..at], &new[at..]].concat());
        }
    }
    for _ in 0..effort.samples {
        // Mostly-old, mostly-new and even mixes: few changes among many are where the interesting states are.
        let lean = random.below(3);
        let mut pick = |&n: &usize| match (lean, random.below(4)) {
            (0, 1..) => 0,
            (1, 1..) => n - 1,
            _ => random.below(n),
        };
        found.push(options.iter().map(&mut pick).collect());
    }
    found
}

#[test]
fn every_crash_state_opens_to_a_promised_state() {
    // Two halves on two threads: the explorers share nothing.
    let halves: Vec<Explorer> = std::thread::scope(|scope| {
        let half = |n: usize| {
            move || {
                let mut explorer = Explorer::default();
                let all = WORKLOADS.map(|workload| (workload, FULL)).into_iter();
                let all = all.chain(workloads().skip(WORKLOADS.len()).map(|workload| (workload, SOME)));
                for (workload, effort) in all.skip(n).step_by(2) {
                    explorer.explore(workload, effort).unwrap_or_else(|failure| panic!("{failure}"));
                }
                explorer
            }
        };
        let threads: Vec<_> = (0..2).map(|n| scope.spawn(half(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    let states: HashSet<_> = halves.iter().flat_map(|half| &half.states).collect();
    let nested: usize = halves.iter().map(|half| half.nested).sum();
    println!("{} distinct crash states, {nested} crashes inside recovery", states.len());
    assert!(states.len() >= 250_000, "only {} distinct crash states", states.len());
    assert!(nested >= 25_000, "only {nested} crashes inside recovery");
}

/// The process dies anywhere in making a store; the next open works from the page cache, and then the power goes.
pub(super) fn kill_each_step_of(workload: Workload) -> std::result::Result<(), Failure> {
    let (whole, _) = run_until(workload, false, usize::MAX);
    let mut opened = 0;
    for steps in 0..=whole.steps() {
        let (disk, model) = run_until(workload, false, steps);
        disk.power_on();
        let mut run = Run::new(disk.killed());
        run.model = model;
        if run.open().is_err() {
            continue;
        }
        opened += 1;
        run.put(&["a"]).and_then(|()| run.flush()).map_err(|e| e.to_string())?;
        run.model.created = true;
        run.disk.kill(run.store.take());
        let crash = run.disk.crash();
        for choice in choices(crash.options(), QUICK, &mut Random(1)) {
            check_image(&crash.image(&choice), &run.model)
                .map_err(|why| format!("{steps}, {choice:?}: {why}"))?;
        }
    }
    if opened < 2 { Err(format!("only {opened} half-made stores opened")) } else { Ok(()) }
}

#[test]
fn a_store_whose_maker_was_killed_is_settled_by_the_next_open() {
    for workload in [WORKLOADS[0], FIRST_ROWS[0], FIRST_ROWS[1]] {
        kill_each_step_of(workload).unwrap_or_else(|why| panic!("{}: {why}", workload.0));
    }
}

/// A reader looks while a writer is anywhere in a workload, and then the power goes: it takes back nothing of what the
/// reader saw.
pub(super) fn look_at_each_step_of(workload: Workload) -> std::result::Result<(), Failure> {
    let (whole, _) = run_until(workload, false, usize::MAX);
    for steps in 0..=whole.steps() {
        let disk = SimDisk::new(&root());
        disk.power_off_at(steps);
        let mut run = Run::new(disk);
        _ = (workload.1)(&mut run);
        // The writer goes no further, and lives.
        run.disk.power_on();
        if run.store.is_none() {
            continue;
        }
        let fail = |why: String| format!("{}, {steps}: {why}", workload.0);
        let Some((reader, content)) = look(&run.disk, false).map_err(|e| fail(e.to_string()))? else {
            return Err(fail("there is no store beside its writer".into()));
        };
        // It may see less than what is acknowledged, where the mark that says so could not be written.
        let at = run.model.states.iter().rposition(|state| *state == content);
        let at = at.ok_or_else(|| fail(format!("a reader sees {content:?}")))?;
        run.model.acked = run.model.acked.max(at);
        drop(reader);
        run.disk.kill(run.store.take());
        let crash = run.disk.crash();
        for choice in choices(crash.options(), BRIEF, &mut Random(1)) {
            let checked = check_image(&crash.image(&choice), &run.model);
            checked.map_err(|why| fail(format!("{choice:?}: {why}")))?;
        }
    }
    Ok(())
}

#[test]
fn a_reader_shows_nothing_that_a_power_cut_takes_back() {
    // In others two states have the same content, and nothing tells which of them a reader saw.
    let names =
        ["upsert", "first_rows", "long_ids_and_rows", "seal_a_flushed_one", "compact", "clear", "attributes"];
    for workload in workloads().filter(|(name, _)| names.contains(name) || *name == "embed_name") {
        look_at_each_step_of(workload).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// I1, I2 and I3: what is durable and counts is never written with anything else.
#[test]
fn committed_bytes_never_change() {
    for workload in WORKLOADS {
        let (whole, _) = run_until(workload, false, usize::MAX);
        let mut committed: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for steps in 0..=whole.steps() {
            let (disk, _) = run_until(workload, false, steps);
            let now = disk.image();
            for (path, bytes) in &committed {
                let found = now.files.get(path).unwrap_or_else(|| panic!("{}: {path:?} is gone", workload.0));
                assert!(found.starts_with(bytes), "{}, call {steps}: {path:?} changed", workload.0);
            }
            let crash = disk.crash();
            let durable = crash.image(&vec![0; crash.options().len()]);
            let Ok(Some((reader, _))) = look(&SimDisk::new(&durable), false) else { continue };
            let report = reader.recovery();
            committed = durable.files.into_iter().filter(|(path, _)| path.extension().is_some()).collect();
            for (path, bytes) in &mut committed {
                let dropped = if path.ends_with("00000001.dat") {
                    report.dropped_dat_bytes
                } else {
                    report.dropped_idx_bytes
                };
                bytes.truncate(bytes.len() - usize::try_from(dropped).expect("small"));
            }
        }
        assert_eq!(committed.len(), 2, "{}: both files", workload.0);
    }
}

/// I4: each put has the next row, used by it alone.
#[test]
fn each_put_has_the_next_row() {
    use crate::format::record::{Next, Record, next};
    for workload in WORKLOADS {
        let (disk, _) = run_until(workload, false, usize::MAX);
        let image = disk.image();
        let (log, dat) =
            (&image.files[Path::new("/s/00000001.idx")], &image.files[Path::new("/s/00000001.dat")]);
        let (mut at, mut expected) = (0, 256);
        while let Next::Record(record, len) = next(&log[at..]) {
            if let Record::Put { offset, .. } = record {
                assert_eq!(offset, expected, "{}", workload.0);
                expected += u64::from(DIM) * 4;
            }
            at += len;
        }
        assert_eq!((at, dat.len() as u64), (log.len(), expected), "{}", workload.0);
    }
}

/// Replays the line that a failure printed.
#[test]
fn replay_a_crash() {
    let Ok(line) = std::env::var("VECSTONE_CRASH") else { return };
    let parts: Vec<&str> = line.split('/').collect();
    let [name, reverse, steps, choice] = parts[..] else { panic!("name/reverse/steps/choice") };
    let workload = workloads().find(|workload| workload.0 == name).expect("a workload");
    let steps = steps.parse().expect("a number of steps");
    with_kinds_of(name, || replay(workload, reverse == "true", steps, choice));
}

fn replay(workload: Workload, reverse: bool, steps: usize, choice: &str) {
    let (disk, model) = run_until(workload, reverse, steps);
    let crash: Crash = disk.crash();
    let choice: Vec<usize> = choice.split(',').filter_map(|n| n.parse().ok()).collect();
    let image = crash.image(&choice);
    image.files.iter().for_each(|(path, bytes)| println!("{}: {} bytes", path.display(), bytes.len()));
    println!("{:?}", check_image(&image, &model).expect("as promised"));
}

/// Each workload runs to its end, and what it leaves opens.
#[test]
fn workloads_run_to_their_end() {
    for workload in workloads() {
        with_kinds_of(workload.0, || {
            let mut run = Run::new(SimDisk::new(&root()));
            (workload.1)(&mut run).unwrap_or_else(|error| panic!("{}: {error}", workload.0));
            run.disk.kill(run.store.take());
            check_image(&run.disk.image(), &run.model).unwrap_or_else(|why| panic!("{}: {why}", workload.0));
        });
    }
}
