//! `backup` copies a store as it is, also beside a writer; the copy stands on its own.

mod common;

use common::{Place, bits};
use vecstone::VectorStore;

#[test]
fn the_copy_holds_what_the_store_held() {
    let place = Place::new();
    let (ids, rows) = place.rows("in", 500, 8);
    let documents: String = (0..500).map(|n| format!("{n}\n")).collect();
    place.write("in.jsonl", documents);
    place.run(&["import", "s", "in.npy", "--ids", "in.ids", "--documents", "in.jsonl"]).ok();
    place.run(&["delete", "s", &ids[0]]).ok();
    let before = place.files("s");
    let report = place.run(&["backup", "s", "copy", "--json"]).ok().json();
    assert_eq!(place.files("s"), before, "the store changed");
    let copied = place.files("copy");
    assert!(report["files"].as_u64() >= Some(4), "{report}");
    assert!(report["bytes"].as_u64() >= Some(500 * 32), "{report}");
    assert_eq!(report["linked"], 0, "its only segment is active");
    place.run(&["verify", "copy"]).ok();
    assert_eq!(bits(&place.exported("copy").1), bits(&rows[8..]));
    let document = place.run(&["get", "copy", &ids[77], "--document", "--json"]).ok().json();
    assert_eq!(document["document"], 77);
    // What is done to one does not show in the other.
    place.run(&["delete", "s", &ids[1]]).ok();
    place.run(&["compact", "s", "--min-dead", "0"]).ok();
    assert_eq!(place.files("copy"), copied);
    place.run(&["delete", "copy", &ids[2], &ids[3]]).ok();
    place.run(&["verify", "copy"]).ok();
    place.run(&["verify", "s"]).ok();
    let live = |store: &str| place.run(&["info", store, "--json"]).ok().json()["live"].clone();
    assert_eq!((live("s"), live("copy")), (498.into(), 497.into()));
    let text = place.run(&["backup", "s", "another"]).ok().stdout;
    assert!(text.starts_with("backed up s to another: ") && text.lines().count() == 2, "{text}");
    assert!(text.ends_with("of it are files that both share as hard links\n"), "{text}");
}

#[test]
fn a_writer_goes_on_meanwhile() {
    let place = Place::new();
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let store = VectorStore::open(place.path("s")).unwrap();
    store.put("durable", &[1.0, 2.0, 3.0]).unwrap();
    store.flush().unwrap();
    place.run(&["backup", "s", "copy"]).ok();
    store.put("later", &[1.0, 2.0, 3.0]).unwrap();
    store.close().unwrap();
    place.run(&["get", "copy", "durable"]).ok();
    place.run(&["get", "copy", "later"]).fails(1, &["later"]);
    place.run(&["get", "s", "later"]).ok();
}

#[test]
fn wrong_places_are_refused() {
    let place = Place::new();
    place.rows("in", 10, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    place.run(&["import", "t", "in.npy"]).ok();
    place.write("file", "mine");
    std::fs::create_dir(place.path("other")).unwrap();
    place.write("other/notes.txt", "mine");
    let before = [place.files("s"), place.files("t"), place.files("other")];
    for (from, to, message) in [
        ("missing", "copy", "no store there"),
        ("other", "copy", "not a vecstone store"),
        ("s", "t", "t"),
        ("s", "s", "s"),
        ("s", "file", "file"),
        ("s", "other", "other"),
        ("s", "no/such/copy", "no/such"),
    ] {
        place.run(&["backup", from, to]).fails(2, &[message]);
        assert!(!place.path("copy").exists());
    }
    place.run(&["backup", "s"]).fails(2, &["DIR"]);
    assert_eq!([place.files("s"), place.files("t"), place.files("other")], before);
    assert_eq!(std::fs::read(place.path("file")).unwrap(), b"mine");
}
