//! Each call of each workload fails with each error, once and for ever: the store says so, loses nothing that was
//! acknowledged, and goes on where the promise says that it does.

use super::ask;
use super::crash::{self, FIRST_ROWS, WORKLOADS, Workload, check_image};
use super::model::{Model, Run, look, root};
use super::side::with_kinds_of;
use crate::sys::disk::Disk;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Lie, SimDisk};
use crate::types::error::Error;
use std::collections::BTreeSet;
use std::sync::Arc;

/// EIO, ENOSPC, EDQUOT, EFBIG, EINTR, ESTALE, EACCES, and transfers cut short.
const FAULTS: [Fault; 13] = [
    Fault::Os(5),
    Fault::Os(28),
    Fault::Os(122),
    Fault::Os(27),
    Fault::Os(4),
    Fault::Os(116),
    Fault::Os(13),
    Fault::Short(0),
    Fault::Short(1),
    Fault::Half,
    Fault::AllButOne,
    Fault::HalfThen(28),
    Fault::HalfThen(5),
];

/// Workloads that do not kill (which would lose the faulty door) and so can run behind one.
pub(super) fn workloads() -> impl Iterator<Item = Workload> {
    crash::workloads().filter(|(name, _)| !name.contains("killed") && !name.contains("torn"))
}

fn run(workload: Workload, plan: Option<Plan>) -> (SimDisk, FaultDisk, Run, Result<(), Error>) {
    let sim = SimDisk::new(&root());
    let faulty = FaultDisk::new(Arc::new(sim.clone()), plan);
    let mut run = Run::new(sim.clone());
    run.door = Arc::new(faulty.clone());
    let outcome = (workload.1)(&mut run);
    (sim, faulty, run, outcome)
}

/// A batch whose fate is unknown stays in the model; everything else was settled by it.
pub(super) fn fail_each_call(workload: Workload, seen: &mut BTreeSet<&'static str>) -> Result<usize, String> {
    with_kinds_of(workload.0, || fail_each(workload, seen))
}

fn fail_each(workload: Workload, seen: &mut BTreeSet<&'static str>) -> Result<usize, String> {
    let (_, faulty, _, outcome) = run(workload, None);
    outcome.map_err(|e| format!("without a fault: {e}"))?;
    seen.extend(faulty.seen());
    let mut cases = 0;
    for (call, name) in faulty.seen().into_iter().enumerate() {
        // A call that moves no bytes cannot move fewer: these faults would be those of the next one that does.
        let moves = ["read_at", "read_cached", "write_at"].contains(&name);
        let of_bytes = |fault: &Fault| !matches!(fault, Fault::Os(_));
        for fault in FAULTS.into_iter().filter(|fault| moves || !of_bytes(fault)) {
            for for_ever in [false, true] {
                cases += 1;
                one_fault(workload, Plan { call, fault, for_ever }).map_err(|why| {
                    format!("{}, call {call}, {fault:?}, for ever {for_ever}: {why}", workload.0)
                })?;
            }
        }
    }
    Ok(cases)
}

fn one_fault(workload: Workload, plan: Plan) -> Result<(), String> {
    let (sim, faulty, mut run, outcome) = run(workload, Some(plan));
    let stopped = outcome.as_ref().is_err_and(Error::stops_writing);
    check_full(plan, faulty.seen().get(plan.call).copied().unwrap_or_default(), &outcome)?;
    if matches!(plan.fault, Fault::Short(1..) | Fault::Half | Fault::AllButOne) && !plan.for_ever {
        outcome.as_ref().map_err(|e| format!("a short transfer is no error: {e}"))?;
    }
    if plan.fault == Fault::Os(4) && !plan.for_ever && outcome.is_err() {
        // Interrupted reads and writes are repeated; a call that moves no bytes may fail.
        let moved = ["read_at", "write_at"].contains(&faulty.seen()[plan.call]);
        assert!(!moved, "an interrupted transfer was not repeated: {outcome:?}");
    }
    faulty.heal();
    if let Some(store) = &run.store {
        match store.put("later", &[9.0; 4]).and_then(|()| store.flush()) {
            Ok(()) if stopped => return Err("writing went on after a failure of unknown outcome".into()),
            Ok(()) => {
                let mut content = run.model.states.last().cloned().unwrap_or_default();
                content.insert("later".into(), super::model::row(&[9.0; 4]));
                run.model.states.push(content);
                run.model.acked = run.model.states.len() - 1;
            }
            Err(_) if stopped => {}
            Err(error) => return Err(format!("the store does not go on: {error}")),
        }
        let seen = super::model::content(store).map_err(|e| format!("reading after the fault: {e}"))?;
        // What was durable can be more than what was acknowledged: sealing syncs too.
        let expected =
            if stopped { run.model.place(&seen).is_some() } else { run.model.states.last() == Some(&seen) };
        if !expected {
            return Err(format!("shows {seen:?} after the fault"));
        }
        let ids: BTreeSet<&String> = run.model.states.iter().flat_map(|state| state.keys()).collect();
        for id in ids {
            let found = ask::get(store, id.as_str()).map_err(|e| format!("reading after the fault: {e}"))?;
            if found.is_some() != seen.contains_key(id) {
                return Err(format!("{id} is {found:?} after the fault"));
            }
        }
    }
    sim.kill(run.store.take());
    after_crash(&sim, &run.model)
}

/// A full disk, quota or file is one error, wherever it shows but in a sync, and its number is not lost.
fn check_full(plan: Plan, call: &str, outcome: &Result<(), Error>) -> Result<(), String> {
    let (Fault::Os(code @ (28 | 122 | 27)), Err(error)) = (plan.fault, outcome) else { return Ok(()) };
    if error.errno() != Some(code) {
        return Err(format!("the number of the system is lost: {error:?}"));
    }
    let writes = ["open", "create_dir", "rename", "unlink", "write_at", "set_len"].contains(&call);
    // What fails for ever may first matter in a sync.
    if writes && !plan.for_ever && !matches!(error, Error::NoSpace { .. }) {
        return Err(format!("no want of space: {error:?}"));
    }
    Ok(())
}

/// The process dies, and then the power goes, with everything unsynced lost or kept.
pub(super) fn after_crash(sim: &SimDisk, model: &Model) -> Result<(), String> {
    check_image(&sim.image(), model)?;
    let crash = sim.crash();
    let lost = vec![0; crash.options().len()];
    let kept: Vec<usize> = crash.options().iter().map(|n| n - 1).collect();
    check_image(&crash.image(&lost), model)?;
    check_image(&crash.image(&kept), model).map(drop)
}

#[test]
fn every_call_fails_once_and_for_ever() {
    let mut seen = BTreeSet::new();
    let mut cases = 0;
    for workload in workloads() {
        cases += fail_each_call(workload, &mut seen).unwrap_or_else(|why| panic!("{why}"));
    }
    println!("{cases} faults at {} kinds of call", seen.len());
    let all = [
        "look",
        "stat",
        "itself",
        "open_dir",
        "open",
        "create_dir",
        "list",
        "rename",
        "unlink",
        "sync_dir",
        "read_at",
        "write_at",
        "len",
        "set_len",
        "sync_data",
        "try_lock",
        "map",
    ];
    for call in all {
        assert!(seen.contains(call), "no workload calls {call}");
    }
    assert!(cases > 10_000, "only {cases} faults");
}

/// EMFILE, ENFILE and ENOMEM before anything is synced: nothing stops, and what is repeated succeeds.
#[test]
fn a_moment_without_descriptors_or_memory_stops_nothing() {
    let opening = ["open_dir", "open", "itself", "look", "stat", "list"];
    let mut cases = 0;
    for workload in workloads() {
        let (_, faulty, whole, _) = run(workload, None);
        let calls = faulty.seen();
        drop(whole);
        for (call, name) in calls.iter().enumerate().filter(|(_, name)| opening.contains(name)) {
            for code in [24, 23, 12] {
                let plan = Plan { call, fault: Fault::Os(code), for_ever: false };
                let (_, faulty, run, outcome) = run(workload, Some(plan));
                faulty.heal();
                // The walk that looks at the log after an opening runs beside: the call may be another one now.
                if !opening.contains(&faulty.seen().get(call).copied().unwrap_or_default()) {
                    continue;
                }
                if let Err(error) = outcome {
                    assert!(!error.stops_writing(), "{}, {name} {call}: {error}", workload.0);
                }
                if let Some(store) = &run.store {
                    store.flush().unwrap_or_else(|e| panic!("{}, {name} {call}: {e}", workload.0));
                }
                cases += 1;
            }
        }
    }
    assert!(cases > 500, "only {cases} faults");
}

/// Recovery's own calls fail; afterwards it works as if nothing had been.
#[test]
fn every_call_of_recovery_fails() {
    let mut cases = 0;
    for (name, workload) in WORKLOADS.into_iter().chain(FIRST_ROWS) {
        let mut run = Run::new(SimDisk::new(&root()));
        workload(&mut run).unwrap_or_else(|e| panic!("{name}: {e}"));
        run.disk.kill(run.store.take());
        let left = run.disk.killed();
        let whole = FaultDisk::new(Arc::new(left.killed()), None);
        drop(open(&whole));
        for call in 0..whole.seen().len() {
            for fault in FAULTS {
                for for_ever in [false, true] {
                    cases += 1;
                    let disk = left.killed();
                    let faulty = FaultDisk::new(Arc::new(disk.clone()), Some(Plan { call, fault, for_ever }));
                    disk.kill(open(&faulty));
                    after_crash(&disk.killed(), &run.model).unwrap_or_else(|why| {
                        panic!("{name}, call {call} of recovery, {fault:?}, {for_ever}: {why}")
                    });
                }
            }
        }
    }
    println!("{cases} faults inside recovery");
    assert!(cases > 5_000, "only {cases} faults inside recovery");
}

fn open(disk: &FaultDisk) -> Result<crate::VectorStore, Error> {
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    crate::VectorStore::open_on(door, std::path::Path::new(super::model::DIR), &super::model::options())
}

/// F5: a full disk refuses the batch, and only it; the next one goes to the same place.
#[test]
fn a_full_disk_leaves_the_store_usable() {
    for call_from_end in 0..3 {
        for code in [28, 122, 27] {
            let sim = SimDisk::new(&root());
            let counter = FaultDisk::new(Arc::new(sim.clone()), None);
            let mut run = Run::new(sim.clone());
            run.door = Arc::new(counter.clone());
            run.create().and_then(|()| run.put(&["a"])).and_then(|()| run.flush()).expect("a healthy disk");
            let call = counter.seen().len() + call_from_end;
            sim.kill(run.store.take());

            let sim = SimDisk::new(&root());
            let plan = Plan { call, fault: Fault::Os(code), for_ever: true };
            let faulty = FaultDisk::new(Arc::new(sim.clone()), Some(plan));
            let mut run = Run::new(sim.clone());
            run.door = Arc::new(faulty.clone());
            run.create().and_then(|()| run.put(&["a"])).and_then(|()| run.flush()).expect("not full yet");
            let refused = run.put(&["b", "c"]);
            if matches!(faulty.seen().get(call), Some(&"write_at")) {
                assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
            }
            faulty.heal();
            if refused.is_err_and(|error| !error.stops_writing()) {
                run.put(&["b"]).and_then(|()| run.flush()).expect("there is space again");
            }
            sim.kill(run.store.take());
            after_crash(&sim, &run.model).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

/// F4: whether a batch is there after a failed sync is unknown; that it is whole or absent is not.
#[test]
fn after_a_failed_sync_reads_show_the_durable_state_and_writes_say_why() {
    let sim = SimDisk::new(&root());
    let healthy = FaultDisk::new(Arc::new(sim.clone()), None);
    let mut run = Run::new(sim.clone());
    run.door = Arc::new(healthy.clone());
    run.create().and_then(|()| run.put(&["a"])).and_then(|()| run.flush()).expect("a healthy disk");
    let before = healthy.seen().len();
    sim.kill(run.store.take());
    for which in 0..2 {
        let mut calls = before;
        let sim = SimDisk::new(&root());
        // The next put makes two writes and two mappings; then come the two syncs.
        calls += 4 + which;
        let plan = Plan { call: calls, fault: Fault::Os(5), for_ever: false };
        let faulty = FaultDisk::new(Arc::new(sim.clone()), Some(plan));
        let mut run = Run::new(sim.clone());
        run.door = Arc::new(faulty.clone());
        run.create().and_then(|()| run.put(&["a"])).and_then(|()| run.flush()).expect("a healthy disk");
        run.put(&["b"]).expect("written");
        assert!(
            run.store.as_ref().is_some_and(|store| store.contains("b").expect("readable")),
            "visible before the flush"
        );
        assert!(matches!(run.flush(), Err(Error::SyncFailed { .. })), "{:?}", faulty.seen());
        let store = run.store.take().expect("open");
        assert!(
            ask::get(&store, "b").expect("readable").is_none()
                && ask::get(&store, "a").expect("readable").is_some(),
            "only what is durable"
        );
        assert!(matches!(store.put("c", &[0.0; 4]), Err(Error::Poisoned { .. })));
        assert!(matches!(store.flush(), Err(Error::Poisoned { .. })));
        for (way, (name, _)) in ask::DELETES.iter().enumerate() {
            for id in ["a", "b"] {
                let refused = ask::delete(&store, &[id], way, None);
                assert!(matches!(refused, Err(Error::Poisoned { .. })), "{name}: {refused:?}");
            }
        }
        let text = store.close().expect_err("close says it too").to_string();
        assert!(text.contains("sync failed"), "{text}");
        after_crash(&sim, &run.model).unwrap_or_else(|why| panic!("{why}"));
        let again = look(&sim.killed(), true).expect("opens").expect("there");
        assert!(again.0.contains("a").expect("readable"));
    }
}

/// Each sync of each workload fails in each way, the kernel taking the pages for clean all the same; a new process goes on
/// from what it sees, and then the power goes.
pub(super) fn lie_at_each_sync() -> Result<usize, String> {
    let mut cases = 0;
    for workload in workloads() {
        let (sim, _, _, outcome) = with_kinds_of(workload.0, || run(workload, None));
        outcome.map_err(|error| format!("{}: {error}", workload.0))?;
        for nth in 0..sim.syncs() {
            for lie in [Lie::Kept, Lie::Dropped, Lie::Reverted] {
                cases += 1;
                with_kinds_of(workload.0, || one_lie(workload, nth, lie))
                    .map_err(|why| format!("{}, sync {nth}, {lie:?}: {why}", workload.0))?;
            }
        }
    }
    Ok(cases)
}

fn one_lie(workload: Workload, nth: usize, lie: Lie) -> Result<(), String> {
    let sim = SimDisk::new(&root());
    sim.fail_sync_at(nth, lie);
    let mut run = Run::new(sim);
    _ = (workload.1)(&mut run);
    run.kill();
    // The sync may fail only now; then whoever opened it sees the error and opens it again.
    match run.open().or_else(|_| run.open()) {
        Ok(()) => {}
        // It was never made.
        Err(Error::NotFound { .. } | Error::IncompleteCreate { .. }) if !run.model.created => return Ok(()),
        Err(error) => return Err(error.to_string()),
    }
    run.model.created = true;
    if run.put(&["later"]).and_then(|()| run.flush()).is_err() {
        // It failed only now: once more, from what a new process sees.
        run.kill();
        run.open().map_err(|e| e.to_string())?;
        run.put(&["later"]).and_then(|()| run.flush()).map_err(|e| e.to_string())?;
    }
    run.disk.kill(run.store.take());
    let crash = run.disk.crash();
    check_image(&crash.image(&vec![0; crash.options().len()]), &run.model).map(drop)
}

/// T4: writing stops at the failed sync; what is acknowledged after a new opening survives the next power cut.
#[test]
fn after_a_sync_that_lied_what_is_acknowledged_is_on_the_disk() {
    let cases = lie_at_each_sync().unwrap_or_else(|why| panic!("{why}"));
    println!("{cases} syncs that lied");
    assert!(cases > 300, "only {cases}");
}
