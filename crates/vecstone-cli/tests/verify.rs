//! `verify` finds a flipped byte, names the file, and exits with 1, even if the store cannot be opened any more.

mod common;

use common::Place;
use serde_json::json;

#[test]
fn flipped_bytes_are_found() {
    let place = Place::new();
    place.rows("in", 100, 8);
    place.run(&["import", "s", "in.npy"]).ok();
    let clean = place.run(&["verify", "s", "--json"]).ok().json();
    assert_eq!(clean["ok"], true);
    for (path, bytes) in place.files("s") {
        for at in [0, bytes.len() / 3, bytes.len() / 2] {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let done = place.run(&["verify", "s", "--json"]);
            // A first byte may say that the file is not ours at all.
            if at > 0 || done.code == Some(1) {
                assert_eq!(done.code, Some(1), "{} byte {at}: {done:#?}", path.display());
                let report = done.json();
                assert_eq!(report["ok"], false);
                assert!(!report["damage"].as_array().unwrap().is_empty());
                let text = place.run(&["verify", "s"]);
                assert_eq!(text.code, Some(1));
                assert!(text.stdout.contains(path.file_name().unwrap().to_str().unwrap()), "{text:#?}");
            } else {
                done.fails(2, &[]);
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    place.run(&["verify", "s"]).ok();
}

#[test]
fn each_damage_has_its_id_and_consequence() {
    let place = Place::new();
    place.rows("in", 100, 8);
    place.write("in.ids", (0..100).map(|n| format!("{}\n", n * 10)).collect::<String>());
    place.write("in.jsonl", (0..100).map(|n| format!("\"{n:03}\"\n")).collect::<String>());
    let import = ["import", "s", "in.npy", "--ids", "in.ids", "--id-kind", "u64", "--documents", "in.jsonl"];
    place.run(&import).ok();
    place.run(&["delete", "s", "200"]).ok();
    for (name, at, bit) in [("dat", 256 + 20 * 32, 1), ("dat", 256 + 50 * 32, 1), ("jsonl", 70 * 6 + 2, 1)] {
        let path = place.path(&format!("s/00000001.{name}"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= bit;
        std::fs::write(&path, bytes).unwrap();
    }
    let done = place.run(&["verify", "s", "--json"]);
    assert_eq!(done.code, Some(1));
    let report = done.json();
    let found: Vec<_> =
        report["damage"].as_array().unwrap().iter().map(|d| (d["id"].clone(), d["offset"].clone())).collect();
    assert_eq!(found, [(json!("200"), json!(896)), (json!("500"), json!(1856)), (json!("700"), json!(420))]);
    let text = place.run(&["verify", "s"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    let parts = [
        ["00000001.dat", "byte 896", "id 200", "dead"],
        ["00000001.dat", "byte 1856", "id 500", "repair"],
        ["00000001.jsonl", "byte 420", "id 700", "repair"],
        ["damaged in 3 places", "copy", "vecstone repair", ""],
    ];
    assert_eq!(lines.len(), parts.len(), "{text}");
    for (line, parts) in lines.iter().zip(parts) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}: {parts:?}");
    }
    for damage in report["damage"].as_array().unwrap() {
        assert!(text.contains(damage["consequence"].as_str().unwrap()), "{damage}");
    }
}
