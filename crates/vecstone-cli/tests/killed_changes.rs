//! Commands that replace, delete and compact are killed again and again, at any moment. Each row holds its id and its
//! version, so that any mixture shows; what a command had acknowledged is there, in whole batches.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]

mod common;

use common::{Place, kill_after, npy_f32};
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use vecstone::VectorStore;

const IDS: usize = 1200;
const DIM: usize = 24;
const BATCH: usize = 40;

fn name(id: usize) -> String {
    format!("id-{id:05}")
}

fn row(id: usize, version: usize) -> impl Iterator<Item = f32> {
    (0..DIM).map(move |i| match i {
        0 => id as f32,
        1 => version as f32,
        i => ((id * 31 + version * 131 + i * 17) % 4093) as f32,
    })
}

/// The version of each id that is there.
type Content = BTreeMap<usize, usize>;

fn content(place: &Place) -> Content {
    let store = VectorStore::open(place.path("s")).unwrap();
    assert!(store.verify().unwrap().is_ok());
    let mut found = Content::new();
    for item in store.snapshot().unwrap().iter() {
        let (id, vector) = item.unwrap();
        let (number, version) = (vector[0] as usize, vector[1] as usize);
        assert_eq!(id.to_string(), name(number));
        assert_eq!(vector, row(number, version).collect::<Vec<_>>(), "a mixture");
        assert_eq!(found.insert(number, version), None, "{id} is there twice");
    }
    found
}

/// Replaces all rows by a version; killed once `kill_at` rows are acknowledged.
fn import(place: &Place, before: &Content, version: usize, kill_at: usize) {
    let rows: Vec<f32> = (0..IDS).flat_map(|id| row(id, version)).collect();
    place.write("in.npy", npy_f32(&rows, DIM));
    let batch = BATCH.to_string();
    let child = place.start(&["import", "s", "in.npy", "--ids", "in.ids", "--batch-rows", &batch]);
    let acknowledged = kill_after(child, kill_at);
    let now = content(place);
    let new = (0..IDS).take_while(|id| now.get(id) == Some(&version)).count();
    assert!(new >= acknowledged && new % BATCH == 0, "{new} rows are new, {acknowledged} were acknowledged");
    let old =
        |content: &Content| content.range(new..).map(|(id, version)| (*id, *version)).collect::<Vec<_>>();
    assert_eq!(old(&now), old(before), "behind the last batch nothing changed");
}

/// Runs a command that is killed after a while.
fn killed(place: &Place, args: &[String], after: Duration) {
    let mut child = place.start(args);
    thread::sleep(after);
    _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn whatever_was_killed_the_store_holds_whole_batches() {
    let place = Place::new();
    place.write("in.ids", (0..IDS).map(|id| name(id) + "\n").collect::<String>());
    import(&place, &Content::new(), 1, IDS);
    let mut dice = 1usize;
    let mut below = |n: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % n
    };
    for version in 2..14 {
        let before = content(&place);
        import(&place, &before, version, 1 + below(IDS));

        let before = content(&place);
        let after = Duration::from_micros(below(30_000) as u64);
        killed(&place, &["compact", "s"].map(str::to_owned), after);
        assert_eq!(content(&place), before, "compaction changes nothing");

        let first = below(IDS - 100);
        let gone = first..first + 100;
        let args =
            ["delete", "s"].map(str::to_owned).into_iter().chain(gone.clone().map(name)).collect::<Vec<_>>();
        killed(&place, &args, Duration::from_micros(below(30_000) as u64));
        let now = content(&place);
        let mut without = before.clone();
        without.retain(|id, _| !gone.contains(id));
        assert!(now == before || now == without, "a delete counts wholly or not at all");
    }
    place.run(&["compact", "s"]).ok();
    place.run(&["verify", "s"]).ok();
}
