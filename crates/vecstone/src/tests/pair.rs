//! A pair alone: each call of the disk fails with each error; the handle shows whole batches, refuses what it cannot know,
//! and after a power cut every committed batch is there.

use crate::sys::disk::Disk;
use crate::sys::disk::fault::{Fault, FaultDisk, Plan};
use crate::sys::disk::sim::{Image, SimDisk};
use crate::tests::model::root;
use crate::types::error::{Error, Result};
use crate::{Document, LogEntry, Op, VectorStorage};
use std::path::Path;
use std::sync::Arc;

const PAIR: &str = "/pair";
const BATCHES: usize = 4;

/// Two puts, one of them with a document from the third batch on, and a delete.
fn append(pair: &mut VectorStorage, batch: usize) -> Result<u64> {
    let ids = [format!("a{batch}"), format!("b{batch}")];
    let vectors = [[batch as f32, 1.0], [batch as f32, 2.0]];
    let document = if batch < 2 { Document::None } else { Document::Json("{\"n\":1}") };
    let second = match Op::put(&ids[1], &vectors[1]) {
        Op::Put { id, vector, .. } => Op::Put { id, vector, document },
        delete => delete,
    };
    pair.append(&[Op::put(&ids[0], &vectors[0]), second, Op::delete("gone")])
}

/// How many whole batches a handle shows, everything that it says of them compared.
fn batches(pair: &VectorStorage) -> usize {
    let batches = usize::try_from(pair.rows()).expect("few") / 2;
    for row in 0..pair.rows() {
        let (batch, second) = (row / 2, row % 2 == 1);
        let vector = [batch as f32, if second { 2.0 } else { 1.0 }];
        assert_eq!(pair.row(row).expect("mapped"), vector);
        assert_eq!(pair.read_row(row).expect("checked"), vector);
        assert_eq!(pair.document(row).expect("checked").is_some(), second && batch >= 2);
        assert_eq!(
            pair.id(row).expect("known"),
            format!("{}{batch}", if second { "b" } else { "a" }).as_str()
        );
    }
    assert!(matches!(pair.row(pair.rows()), Err(Error::NoSuchRow { .. })));
    let log: Vec<_> = pair.log().map(|entry| entry.expect("readable")).collect();
    assert_eq!(log.len(), batches * 3);
    assert!(log.iter().skip(2).step_by(3).all(|entry| *entry == LogEntry::Delete { id: "gone".into() }));
    assert!(pair.verify().expect("readable").is_ok());
    batches
}

/// Commits every second batch; returns how many batches are committed, and the handle where there is one.
fn work(disk: &Arc<dyn Disk>, committed: &mut usize) -> (Option<VectorStorage>, Result<()>) {
    let mut pair = match VectorStorage::create_on(disk, Path::new(PAIR), 2) {
        Ok(pair) => pair,
        Err(error) => return (None, Err(error)),
    };
    for batch in 0..BATCHES {
        if let Err(error) = append(&mut pair, batch) {
            return (Some(pair), Err(error));
        }
        if batch % 2 == 1 {
            if let Err(error) = pair.commit() {
                return (Some(pair), Err(error));
            }
            *committed = batch + 1;
        }
    }
    (Some(pair), Ok(()))
}

fn opened(image: &Image, writable: bool) -> usize {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(image));
    batches(&VectorStorage::open_on(&disk, Path::new(PAIR), writable).expect("opens"))
}

#[test]
fn each_failing_call_leaves_whole_batches() {
    let sim = SimDisk::new(&root());
    let faulty = FaultDisk::new(Arc::new(sim.clone()), None);
    let door: Arc<dyn Disk> = Arc::new(faulty.clone());
    let (pair, outcome) = work(&door, &mut 0);
    outcome.expect("no fault");
    assert_eq!(batches(&pair.expect("made")), BATCHES);
    let calls = faulty.seen().len();
    for call in 0..calls {
        for fault in [Fault::Os(5), Fault::Os(28), Fault::Half, Fault::HalfThen(28), Fault::HalfThen(5)] {
            for for_ever in [false, true] {
                one_fault(Plan { call, fault, for_ever });
            }
        }
    }
}

fn one_fault(plan: Plan) {
    let sim = SimDisk::new(&root());
    let faulty = FaultDisk::new(Arc::new(sim.clone()), Some(plan));
    let door: Arc<dyn Disk> = Arc::new(faulty.clone());
    let mut committed = 0;
    let (pair, outcome) = work(&door, &mut committed);
    faulty.heal();
    let Some(mut pair) = pair else { return };
    let shown = batches(&pair);
    match outcome {
        Err(error) if error.stops_writing() => {
            assert_eq!(shown, committed, "{plan:?}: {error}");
            assert!(matches!(append(&mut pair, shown), Err(Error::Poisoned { .. })));
            assert!(matches!(pair.commit(), Err(Error::Poisoned { .. })));
        }
        // It goes on where it was.
        _ => {
            append(&mut pair, shown).expect("appended");
            pair.commit().expect("durable");
            committed = shown + 1;
            assert_eq!(batches(&pair), committed);
        }
    }
    drop(pair);
    let crash = sim.crash();
    let least = crash.image(&vec![0; crash.options().len()]);
    for image in [&sim.image(), &least] {
        assert!(opened(image, true) >= committed && opened(image, false) >= committed, "{plan:?}");
    }
}
