//! What `vecstone info` says of a store's attributes.

mod common;

use common::Place;
use vecstone::VectorStore;

#[test]
fn attributes_are_shown() {
    let place = Place::new();
    place.rows("in", 20, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let info = || place.run(&["info", "s"]).ok().stdout;
    let json = || place.run(&["info", "s", "--json"]).ok();
    assert!(!info().contains("attributes") && json().json()["attributes"].is_null());
    let store = VectorStore::open(place.path("s")).unwrap();
    store.set_attributes(Some("{\"by\": \"\u{1F980}\u{9b}\",\n \"n\": 12345678901234567890123}")).unwrap();
    // Without what a terminal may obey, and digit for digit.
    let line = "attributes {\"by\": \"\u{1F980}\\u009b\",  \"n\": 12345678901234567890123}\n";
    assert!(info().contains(line), "{}", info());
    assert!(json().stdout.contains("\"n\": 12345678901234567890123}"), "{}", json().stdout);
    assert_eq!(json().json()["attributes"]["by"], "\u{1F980}\u{9b}");
    store.set_attributes(Some(&format!("{{\"a\":\"{}\"}}", "x".repeat(5000)))).unwrap();
    let long = info();
    let line = long.lines().find(|line| line.starts_with("attributes")).unwrap();
    assert!(line.len() < 300 && line.contains("5.0 kB in all, --json prints them"), "{line}");
    assert_eq!(json().json()["attributes"]["a"].as_str().unwrap().len(), 5000);
    store.set_attributes(None).unwrap();
    assert!(!info().contains("attributes"));
}

#[test]
fn a_writer_that_is_there_is_named() {
    let place = Place::new();
    place.rows("in", 20, 3);
    place.run(&["import", "s", "in.npy"]).ok();
    let clean = || {
        let text = place.run(&["info", "s"]).ok().stdout;
        text.lines().find(|line| line.starts_with("clean")).unwrap().to_owned()
    };
    assert!(clean().ends_with(" yes"), "{}", clean());
    let store = VectorStore::open(place.path("s")).unwrap();
    store.put("new", &[1.0, 2.0, 3.0]).unwrap();
    store.flush().unwrap();
    assert!(clean().ends_with(&format!(" no: process {} writes it", std::process::id())), "{}", clean());
    // As if the writer had died: what it left is another store.
    std::fs::create_dir(place.path("t")).unwrap();
    for file in place.files("s").keys() {
        std::fs::copy(file, place.path("t").join(file.file_name().unwrap())).unwrap();
    }
    let text = place.run(&["info", "t"]).ok().stdout;
    assert!(text.contains("no: the last writer did not close it"), "{text}");
    store.close().unwrap();
    assert!(clean().ends_with(" yes"), "{}", clean());
}

/// One object with the same keys, whatever the state of the store.
#[test]
fn json_is_whole_in_each_state() {
    let place = Place::new();
    place.rows("in", 20, 3);
    let keys = |store: &str| -> Vec<String> {
        let printed = place.run(&["info", store, "--json"]).ok().json();
        printed.as_object().unwrap().keys().cloned().collect()
    };
    place.run(&["create", "empty", "--dim", "3"]).ok();
    let expected = keys("empty");
    place.run(&["import", "s", "in.npy"]).ok();
    assert_eq!(keys("s"), expected, "closed");
    let store = VectorStore::open(place.path("s")).unwrap();
    store.put("new", &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(keys("s"), expected, "beside a writer");
    store.delete_where(&vecstone::Filter::parse("{}").unwrap()).unwrap();
    store.flush().unwrap();
    assert_eq!(keys("s"), expected, "all rows deleted");
    store.close().unwrap();
    // Damage of rows, of the index, and a torn end of the log.
    for name in ["00000001.dat", "00000001.ids", "00000001.idx"] {
        let path = place.path("s").join(name);
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        match name {
            "00000001.idx" => bytes.extend([7; 9]),
            _ => *bytes.last_mut().unwrap() ^= 1,
        }
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(keys("s"), expected, "{name}");
    }
    // What does not open prints no half of an object.
    std::fs::write(place.path("s/MANIFEST"), "VECS").unwrap();
    let done = place.run(&["info", "s", "--json"]).fails(2, &["MANIFEST"]);
    assert_eq!(done.stdout, "");
}
