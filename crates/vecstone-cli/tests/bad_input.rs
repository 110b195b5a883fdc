//! Bad input: exit code 2, one line on stderr that says what to do, and the store as it was, byte for byte.

mod common;

use common::{Place, le_bytes, npy, npy_f32, vectors};

const GOOD: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }";

/// A version 1.0 file with this header text and two rows of four.
fn with_header(text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(le_bytes(&vectors(2, 4)));
    bytes
}

fn arrays() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let data = le_bytes(&vectors(2, 4));
    let good = with_header(GOOD);
    let long = [&good[..], &[0]].concat();
    let mut claims = good.clone();
    claims[8..10].copy_from_slice(&[0xff, 0xff]);
    let mut huge = b"\x93NUMPY\x02\x00".to_vec();
    huge.extend([0xff; 4]);
    vec![
        ("empty", vec![], "not a .npy file"),
        ("text", b"hello, this is text".to_vec(), "not a .npy file"),
        ("npz", b"PK\x03\x04 and more".to_vec(), ".npz"),
        ("version", b"\x93NUMPY\x09\x00\x10\x00................".to_vec(), "version 9.0"),
        ("cut in the header", good[..40].to_vec(), "truncated"),
        ("header claims too much", claims, "truncated"),
        ("header of 4 GiB", huge, "header claims"),
        ("cut in the data", good[..good.len() - 1].to_vec(), "truncated"),
        ("bytes after the data", long, "the array ends 1 byte before the file"),
        ("pickled", npy("'|O'", false, "(2, 4)", &data), "pickled"),
        ("structured", npy("[('a', '<f4')]", false, "(2, 4)", &data), "structured"),
        ("integers", npy("'<i4'", false, "(2, 4)", &data), "astype('float32')"),
        ("long double", npy("'<f16'", false, "(2, 1)", &data), "astype('float32')"),
        ("one axis", npy("'<f4'", false, "(8,)", &data), "reshape"),
        ("three axes", npy("'<f4'", false, "(2, 2, 2)", &data), "3 axes"),
        ("no axis", npy("'<f4'", false, "()", &[0; 4]), "0 axes"),
        ("dim 0", npy("'<f4'", false, "(2, 0)", &[]), "dimension 0"),
        ("dim too large", npy("'<f4'", false, "(0, 65537)", &[]), "dimension 65537"),
        ("other dim", npy_f32(&vectors(2, 3), 3), "dimension 4"),
        ("shape beyond 64 bits", npy("'<f4'", false, "(9223372036854775808, 65536)", &data), "header"),
        ("shape beyond the file", npy("'<f4'", false, "(99999999999, 4)", &data), "truncated"),
        ("deep header", with_header(&"(".repeat(60_000)), "header"),
        ("not a dict", with_header("'hello'"), "header"),
        (
            "NaN",
            npy_f32(&[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, f32::NAN, 4.0], 4),
            "row 1, column 2 is not a finite number",
        ),
        (
            "infinity",
            npy_f32(&[1.0, f32::NEG_INFINITY, 3.0, 4.0], 4),
            "row 0, column 1 is not a finite number",
        ),
        ("float64", npy("'<f8'", false, "(1, 4)", &data), "--convert"),
    ]
}

#[test]
fn arrays_that_are_refused() {
    let place = Place::new();
    place.rows("old", 6, 4);
    place.run(&["import", "s", "old.npy"]).ok();
    let before = place.files("s");
    for (name, bytes, message) in arrays() {
        place.write("in.npy", bytes);
        println!("{name}");
        for more in [&[][..], &["--resume"], &["--overwrite"]] {
            place.run(&[&["import", "s", "in.npy"], more].concat()).fails(2, &["in.npy", message]);
            assert!(place.files("s") == before, "{name} changed the store");
        }
        if !matches!(name, "NaN" | "infinity" | "other dim") {
            place.run(&["import", "new", "in.npy"]).fails(2, &[message]);
            assert!(!place.path("new").exists(), "{name} left a new store");
        }
    }
}

#[test]
fn float64_beyond_float32_names_row_and_column() {
    let place = Place::new();
    let data: Vec<u8> = [1.0, 2.0, 3.0, 1e39].iter().flat_map(|x: &f64| x.to_le_bytes()).collect();
    place.write("in.npy", npy("'<f8'", false, "(2, 2)", &data));
    place.run(&["import", "s", "in.npy", "--convert"]).fails(2, &["row 1, column 1 is not a finite number"]);
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["rows"], 0);
}

#[test]
fn nan_stops_at_its_batch_and_names_the_row_of_the_file() {
    let place = Place::new();
    let (_, mut rows) = place.rows("in", 100, 4);
    place.run(&["create", "s", "--dim", "4"]).ok();
    rows[57 * 4 + 3] = f32::NAN;
    place.write("in.npy", npy_f32(&rows, 4));
    let done = place
        .run(&["import", "s", "in.npy", "--batch-rows", "10"])
        .fails(2, &["in.npy", "row 57, column 3", "before row 50"]);
    assert!(done.stderr.contains("acknowledged 50 of 100 rows"), "{done:#?}");
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], 50);
    // Skipped rows do not shift the numbers.
    for batch in ["60", "1000"] {
        place
            .run(&["import", "s", "in.npy", "--resume", "--batch-rows", batch])
            .fails(2, &["row 57, column 3"]);
    }
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], 50);
}

#[test]
fn ids_that_are_refused() {
    let place = Place::new();
    place.rows("in", 3, 4);
    place.run(&["import", "s", "in.npy"]).ok();
    let before = place.files("s");
    let long = format!("a\n{}\nc\n", "x".repeat(65_537));
    let endless = "x".repeat(1 << 20);
    let cases: [(&str, &[u8], &str); 10] = [
        ("none", b"", "0 ids for 3 rows"),
        ("too few", b"a\nb\n", "2 ids for 3 rows"),
        ("too many", b"a\nb\nc\nd", "4 ids for 3 rows"),
        ("empty line", b"a\n\nc\n", "line 2: the line is empty"),
        ("empty line at the end", b"a\nb\nc\n\n", "line 4: the line is empty"),
        ("empty line, other line end", b"a\nb\n\r\n", "line 3: the line is empty"),
        ("not UTF-8", b"a\nb\n\xff\xfe\n", "line 3: the id is not UTF-8"),
        ("too long", long.as_bytes(), "line 2: the id has more than 65536 bytes"),
        ("one endless line", endless.as_bytes(), "line 1: the id has more than 65536 bytes"),
        ("cut character", b"a\nb\n\xe2\x82", "line 3: the id is not UTF-8"),
    ];
    for (name, bytes, message) in cases {
        println!("{name}");
        place.write("bad.ids", bytes);
        for store in ["s", "new"] {
            place.run(&["import", store, "in.npy", "--ids", "bad.ids"]).fails(2, &["bad.ids", message]);
        }
        assert!(place.files("s") == before, "{name} changed the store");
        assert!(!place.path("new").exists(), "{name} left a new store");
    }
    let longest = format!("a\n{}\r\nc\n", "x".repeat(65_536));
    place.write("good.ids", longest);
    place.run(&["import", "s", "in.npy", "--ids", "good.ids"]).ok();
}

#[test]
fn commands_that_are_refused() {
    let place = Place::new();
    place.rows("in", 3, 4);
    place.run(&["import", "s", "in.npy"]).ok();
    place.write("file", "not a store");
    std::fs::create_dir(place.path("other")).unwrap();
    place.write("other/notes.txt", "not ours");
    place.rows("wide", 40, 5);
    let before = place.files("s");
    let cases: [(&[&str], &str); 28] = [
        (&["import", "s", "in.npy", "--overwrite", "--metric", "l2"], "cosine"),
        (&["import", "s", "missing.npy"], "missing.npy"),
        (&["import", "s", "."], "regular file"),
        (&["import", "s", "in.npy", "--ids", "missing.ids"], "missing.ids"),
        (&["import", "file", "in.npy"], "file"),
        (&["import", "other", "in.npy"], "other"),
        (&["create", "s", "--dim", "4"], "s"),
        (&["create", "new", "--dim", "0"], "dimension 0"),
        (&["create", "new", "--dim", "65537"], "65537"),
        (&["get", "missing", "a"], "no store there"),
        (&["info", "file"], "not a vecstone store"),
        (&["verify", "other"], "not a vecstone store"),
        (&["compact", "other"], "not a vecstone store"),
        (&["optimize", "other"], "not a vecstone store"),
        (&["tune", "other", "in.npy"], "not a vecstone store"),
        (&["tune", "s", "missing.npy"], "missing.npy"),
        (&["tune", "s", "wide.npy"], "dimension 4, this one has 5"),
        (&["tune", "s", "in.npy"], "in.npy: 3 queries say little of others; give 32 or more"),
        (&["search", "s", "--vector", "1,2,3,4", "--recall", "0"], "recall target"),
        (&["search", "s", "--vector", "1,2,3,4", "--recall", "-0.5"], "recall target"),
        (&["search", "s", "--vector", "1,2,3,4", "--recall", "nan"], "recall target"),
        (&["import", "s", "in.npy", "--id-prefix", "p", "--id-kind", "u64"], "of kind string"),
        (&["search", "s", "--vector", "1,2,3"], "dimension 4"),
        (&["search", "s", "--vector", "1,2,x,4"], "number 3"),
        (&["search", "s", "--vector", "1,2,nan,4"], "finite"),
        (&["search", "s", "--query", "missing.npy"], "missing.npy"),
        (&["export", "s", "s/00000001.dat", "--ids", "out.ids"], "inside the store"),
        (&["export", "s", "other", "--ids", "out.ids"], "not a regular file"),
    ];
    for (args, message) in cases {
        place.run(args).fails(2, &[message]);
        assert!(place.files("s") == before, "{args:?} changed the store");
    }
    assert!(!place.path("new").exists());
}

#[test]
fn metrics_are_named_in_capitals_too_and_those_of_other_stores_are_explained() {
    let place = Place::new();
    for (at, name) in ["L2", "Cosine", "IP", "ip"].into_iter().enumerate() {
        let store = format!("s{at}");
        place.run(&["create", &store, "--dim", "2", "--metric", name]).ok();
        assert_eq!(place.run(&["info", &store, "--json"]).ok().json()["metric"], name.to_lowercase());
    }
    let says = [
        ("dot", "'ip' is 1 minus the inner product: smaller is nearer"),
        ("euclidean", "'l2' is the sum of the squared differences, without a root"),
        ("manhattan", "is none of 'l2', 'ip', 'cosine'"),
    ];
    for (name, says) in says {
        place.run(&["create", "s", "--dim", "2", "--metric", name]).fails(2, &[says]);
    }
}

#[test]
fn wrong_usage_is_an_error_too() {
    let place = Place::new();
    let cases: [&[&str]; 8] = [
        &[],
        &["bogus"],
        &["create"],
        &["create", "s", "--dim", "3", "--metric", "manhattan"],
        &["search", "s"],
        &["search", "s", "--id", "a", "--vector", "1"],
        &["search", "s", "--id", "a", "-k", "0"],
        &["import", "s", "in.npy", "--ids", "a", "--id-prefix", "b"],
    ];
    for args in cases {
        let done = place.run(args);
        assert_eq!(done.code, Some(2), "{args:?}: {done:#?}");
        assert!(args.is_empty() || done.stderr.lines().count() == 1, "{args:?}: {done:#?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty());
    }
}
