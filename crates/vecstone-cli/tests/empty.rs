//! A store without rows: every command works on it. `create` asks for `--dim`; `import` needs no `create`.

mod common;

use common::{Place, npy, npy_f32};

#[test]
fn create_asks_for_the_dimension_and_import_takes_that_of_its_file() {
    let place = Place::new();
    let refused = place.run(&["create", "s"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--dim <N>"), "{}", refused.stderr);
    place.write("none.npy", npy("'<f4'", false, "(0, 2)", &[]));
    place.run(&["import", "s", "none.npy"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["dim"], 2, "the header tells it");
    place.write("two.npy", npy_f32(&[1.0, 0.0, 0.0, 1.0], 2));
    place.run(&["import", "t", "two.npy"]).ok();
    assert_eq!(place.run(&["info", "t", "--json"]).ok().json()["dim"], 2);
}

#[test]
fn every_command_works_on_it() {
    let place = Place::new();
    assert_eq!(
        place.run(&["create", "s", "--dim", "2", "--metric", "l2"]).ok().stdout,
        "created s: dim 2, metric l2\n"
    );
    assert_eq!(place.run(&["create", "t", "--dim", "2", "--json"]).ok().json()["dim"], 2);
    let info = place.run(&["info", "s"]).ok().stdout;
    assert!(info.contains("dim        2\n"), "{info}");
    let info = place.run(&["info", "s", "--json"]).ok().json();
    assert_eq!((&info["dim"], &info["rows"], &info["segments"]), (&2.into(), &0.into(), &1.into()));

    // A search finds nothing, an id is not there.
    place.write("two.npy", npy_f32(&[1.0, 0.0, 0.0, 1.0], 2));
    place.write("one.npy", npy("'<f4'", false, "(2,)", &[0; 8]));
    assert_eq!(place.run(&["search", "s", "--vector", "1,2"]).ok().stdout, "");
    assert_eq!(place.run(&["search", "s", "--query", "one.npy", "--json"]).ok().stdout, "");
    assert_eq!(place.run(&["search", "s", "--query", "two.npy"]).ok().stdout, "query 0:\nquery 1:\n");
    for args in [&["search", "s", "--id", "a"][..], &["get", "s", "a"], &["delete", "s", "a"]] {
        assert_eq!(place.run(args).code, Some(1), "{args:?}");
    }
    place.run(&["verify", "s"]).ok();
    place.run(&["compact", "s"]).ok();
    place.run(&["optimize", "s"]).ok();
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
