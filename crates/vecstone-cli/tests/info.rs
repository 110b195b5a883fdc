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
