//! What is imported comes out again, bit for bit, from every dtype and order that is taken.

mod common;

use common::{Place, bits, debian, f32_of, npy, vectors};
use half::f16;

const ROWS: usize = 1037;
const DIM: usize = 9;

/// The components in file order.
fn ordered(vectors: &[f32], fortran: bool) -> Vec<f32> {
    if !fortran {
        return vectors.to_vec();
    }
    (0..DIM).flat_map(|column| vectors.iter().skip(column).step_by(DIM)).copied().collect()
}

fn encoded(vectors: &[f32], dtype: &str) -> Vec<u8> {
    let little = |x: &f32| match &dtype[2..] {
        "2" => f16::from_f32(*x).to_le_bytes().to_vec(),
        "4" => x.to_le_bytes().to_vec(),
        _ => f64::from(*x).to_le_bytes().to_vec(),
    };
    let big = |x: &f32| little(x).into_iter().rev().collect();
    if dtype.starts_with('<') {
        vectors.iter().flat_map(little).collect()
    } else {
        vectors.iter().flat_map(|x| -> Vec<u8> { big(x) }).collect()
    }
}

#[test]
fn every_dtype_and_order() {
    let rows = vectors(ROWS, DIM);
    for dtype in ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"] {
        for fortran in [false, true] {
            let place = Place::new();
            let data = encoded(&ordered(&rows, fortran), dtype);
            place.write("in.npy", npy(&format!("'{dtype}'"), fortran, &format!("({ROWS}, {DIM})"), &data));
            place.run(&["import", "s", "in.npy", "--convert", "--batch-rows", "100", "--metric", "l2"]).ok();
            let (ids, found) = place.exported("s");
            assert_eq!(bits(&found), bits(&rows), "{dtype}, fortran {fortran}");
            assert_eq!(ids.len(), ROWS);
            assert_eq!(ids[1036], "in-000001036");
        }
    }
}

#[test]
fn float16_and_float64_only_on_request() {
    for dtype in ["<f2", "<f8"] {
        let place = Place::new();
        let data = encoded(&vectors(3, DIM), dtype);
        place.write("in.npy", npy(&format!("'{dtype}'"), false, &format!("(3, {DIM})"), &data));
        place.run(&["import", "s", "in.npy"]).fails(2, &["in.npy", "--convert"]);
        assert!(!place.path("s").exists());
    }
}

#[test]
fn versions_two_and_three_and_odd_ends() {
    let rows = vectors(2, DIM);
    for version in [2, 3] {
        let place = Place::new();
        let v1 = npy("'<f4'", false, &format!("(2, {DIM})"), &encoded(&rows, "<f4"));
        let mut file = b"\x93NUMPY".to_vec();
        file.extend([version, 0, v1[8], v1[9], 0, 0]);
        file.extend(&v1[10..]);
        place.write("in.npy", file);
        place.run(&["import", "s", "in.npy", "--id-prefix", "p"]).ok();
        let (ids, found) = place.exported("s");
        assert_eq!(bits(&found), bits(&rows));
        assert_eq!(ids, ["p-000000000", "p-000000001"]);
    }
}

#[test]
fn no_rows_make_an_empty_store() {
    let place = Place::new();
    place.write("in.npy", npy("'<f4'", false, "(0, 5)", &[]));
    place.run(&["import", "s", "in.npy"]).ok();
    assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["live"], 0);
    let (ids, found) = place.exported("s");
    assert!(ids.is_empty() && found.is_empty());
}

#[test]
fn only_line_ends_are_cut_from_ids() {
    let place = Place::new();
    place.rows("in", 5, 3);
    place.write("odd.ids", " a \nb\r\nc\t\n\u{1F980}\nlast");
    place.run(&["import", "s", "in.npy", "--ids", "odd.ids"]).ok();
    for id in [" a ", "b", "c\t", "\u{1F980}", "last"] {
        let row = place.run(&["get", "s", "--json", "--", id]).ok().json();
        assert_eq!(row["id"], id);
    }
}

#[test]
fn real_embeddings() {
    let (npy, ids) = debian();
    let place = Place::new();
    let args = ["import", "s", npy.to_str().unwrap(), "--ids", ids.to_str().unwrap()];
    place.run(&args).ok();
    let (found_ids, found) = place.exported("s");
    assert_eq!(bits(&found), bits(&f32_of(&std::fs::read(npy).unwrap())));
    assert_eq!(found_ids, std::fs::read_to_string(ids).unwrap().lines().collect::<Vec<_>>());
}
