//! A store that is made without `--dim`: every command works on it, and the first import fixes the dimension.

mod common;

use common::{Place, npy, npy_f32};
use serde_json::Value;

#[test]
fn every_command_works_on_it_and_an_import_fixes_the_dimension() {
    let place = Place::new();
    assert_eq!(
        place.run(&["create", "s", "--metric", "l2"]).ok().stdout,
        "created s: dim not fixed yet, metric l2\n"
    );
    assert_eq!(place.run(&["create", "t", "--json"]).ok().json()["dim"], Value::Null);
    let info = place.run(&["info", "s"]).ok().stdout;
    assert!(info.contains("dim        not fixed yet\n"), "{info}");
    let info = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&info["dim"], &info["rows"], &info["segments"]), (&Value::Null, &0.into(), &0.into()));

    // As in an empty store: a search finds nothing, an id is not there.
    place.write("two.npy", npy_f32(&[1.0, 0.0, 0.0, 1.0], 2));
    place.write("three.npy", npy("'<f4'", false, "(3,)", &[0; 12]));
    assert_eq!(place.run(&["search", "s", "--vector", "1,2,3,4"]).ok().stdout, "");
    assert_eq!(place.run(&["search", "s", "--query", "three.npy", "--json"]).ok().stdout, "");
    assert_eq!(place.run(&["search", "s", "--query", "two.npy"]).ok().stdout, "query 0:\nquery 1:\n");
    for args in [&["search", "s", "--id", "a"][..], &["get", "s", "a"], &["delete", "s", "a"]] {
        assert_eq!(place.run(args).code, Some(1), "{args:?}");
    }
    place.run(&["verify", "s"]).ok();
    place.run(&["compact", "s"]).ok();
    place.run(&["backup", "s", "copy"]).ok();
    place.run(&["repair", "s", "repaired"]).ok();
    assert_eq!(place.run(&["export", "s", "out.npy", "--ids", "out.ids", "--json"]).ok().json()["rows"], 0);

    for store in ["s", "t", "copy", "repaired"] {
        place.run(&["import", store, "two.npy"]).ok();
        let info = place.run(&["info", store, "--json"]).ok().json();
        assert_eq!((&info["dim"], &info["live"]), (&2.into(), &2.into()), "{store}");
        place.run(&["verify", store]).ok();
    }
    place.write("wide.npy", npy_f32(&[1.0, 2.0, 3.0], 3));
    assert_eq!(place.run(&["import", "s", "wide.npy"]).code, Some(2));
}
