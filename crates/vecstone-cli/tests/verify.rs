//! `verify` finds a flipped byte, names the file, and exits with 1, even if the store cannot be opened any more.

mod common;

use common::Place;

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
