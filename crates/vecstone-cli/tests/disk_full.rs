//! A full disk in the middle of an import: what was acknowledged stays, and `--resume` goes on.
#![cfg(unix)]

mod common;

use common::{Place, bits};
use vecstone::VectorStore;

#[test]
fn acknowledged_rows_stay_and_resume_goes_on() {
    let place = Place::new();
    let (ids, vectors) = place.rows("in", 4000, 384);
    let import = ["import", "s", "in.npy", "--ids", "in.ids", "--batch-rows", "100"];
    // 2 or 4 MB of the 6 MB, as the shell counts blocks of 512 or 1024 bytes.
    let done = place
        .run_limited("ulimit -f 4000", &import)
        .fails(2, &["space", "acknowledged and stay", "--resume"]);
    let last = done.stderr.lines().rfind(|line| line.starts_with("acknowledged")).unwrap();
    let acknowledged: usize = last.split(' ').nth(1).unwrap().parse().unwrap();
    // At least 1,300 rows fit; the group of batches that did not may hold 500 of them.
    assert!(acknowledged >= 800, "{last}");
    assert!(done.stderr.contains(&format!("{acknowledged} of 4000 rows are acknowledged and stay")));
    {
        let store = VectorStore::open_read_only(place.path("s")).unwrap();
        let rows = store.len().unwrap();
        assert!(rows >= acknowledged && rows < 4000);
        for (id, vector) in ids.iter().zip(vectors.chunks_exact(384)).take(acknowledged) {
            assert_eq!(bits(&store.get(id).unwrap().unwrap()), bits(vector));
        }
    }
    place.run(&["verify", "s"]).ok();
    place.run(&[&import[..], &["--resume"]].concat()).ok();
    assert_eq!(bits(&place.exported("s").1), bits(&vectors));
}

#[test]
fn what_is_still_in_memory_at_the_end_is_not_called_stored() {
    let place = Place::new();
    let (_, vectors) = place.rows("in", 4000, 384);
    // One batch, which the store takes at once and cannot write.
    let import = ["import", "s", "in.npy", "--ids", "in.ids"];
    let done = place.run_limited("ulimit -f 4000", &import);
    let done = done.fails(2, &["space", "0 of 4000 rows are acknowledged and stay", "--resume"]);
    assert_eq!((done.stdout.as_str(), done.stderr.contains("acknowledged 4000")), ("", false));
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], 0);
    place.run(&[&import[..], &["--resume"]].concat()).ok();
    assert_eq!(bits(&place.exported("s").1), bits(&vectors));
}
