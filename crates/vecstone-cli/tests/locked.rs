//! A second writer is refused and told who holds the store; readers are not.

mod common;

use common::Place;
use vecstone::VectorStore;

#[test]
fn second_writer_is_refused() {
    let place = Place::new();
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let store = VectorStore::open(place.path("s")).unwrap();
    let before = place.files("s");
    let holder = format!("locked by process {}", std::process::id());
    place.run(&["import", "s", "in.npy", "--overwrite"]).fails(2, &[&holder]);
    place.run(&["delete", "s", "in-000000000"]).fails(2, &[&holder]);
    assert_eq!(place.files("s"), before);
    for args in [
        &["get", "s", "in-000000001"][..],
        &["info", "s"],
        &["verify", "s"],
        &["search", "s", "--id", "in-000000001"],
    ] {
        place.run(args).ok();
    }
    store.close().unwrap();
    place.run(&["delete", "s", "in-000000000"]).ok();
}
