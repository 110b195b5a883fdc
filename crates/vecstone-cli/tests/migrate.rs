//! `migrate` takes what is sound in a pair of the original Storage V2, and reports all that is not.

mod common;

use common::{Place, bits, le_bytes, vectors};
use serde_json::{Value, json};

const DIM: usize = 3;

fn dat(magic: &[u8; 4], version: u32, dim: u32, count: u64, rows: &[f32]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(dim.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.resize(256, 0);
    bytes.extend(le_bytes(rows));
    bytes
}

fn entry(id: &[u8], offset: u64) -> Vec<u8> {
    let len = u32::try_from(id.len()).unwrap();
    [&len.to_le_bytes(), id, &offset.to_le_bytes()].concat()
}

fn offset(row: u64) -> u64 {
    256 + row * DIM as u64 * 4
}

fn reasons(done: &Value) -> Vec<(String, u64)> {
    let all = done["reasons"].as_object().unwrap();
    all.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap())).filter(|(_, n)| *n > 0).collect()
}

#[test]
fn sound_pair_is_taken_whole() {
    let rows = vectors(500, DIM);
    for old in ["old", "old.dat"] {
        let place = Place::new();
        place.write("old.dat", dat(b"OMEN", 1, 3, 500, &rows));
        let idx: Vec<u8> =
            (0..500).flat_map(|row| entry(format!("v{row}").as_bytes(), offset(row))).collect();
        place.write("old.idx", idx);
        let done = place.run(&["migrate", old, "s", "--metric", "ip", "--json"]).ok().json();
        assert_eq!((&done["taken"], &done["not_taken"]), (&json!(500), &json!([])));
        let (ids, found) = place.exported("s");
        assert_eq!(bits(&found), bits(&rows));
        assert_eq!(ids[499], "v499");
        assert_eq!(place.run(&["info", "s", "--json"]).ok().json()["metric"], "ip");
        // Only into a store that is not there.
        let before = place.files("s");
        place.run(&["migrate", old, "s"]).fails(2, &["s"]);
        assert_eq!(place.files("s"), before);
    }
}

#[test]
fn unsound_entries_are_reported_and_the_rest_is_taken() {
    let place = Place::new();
    let mut rows = vectors(8, DIM);
    rows[DIM] = f32::NAN; // row 1
    place.write("old.dat", dat(b"OMEN", 1, 3, 8, &rows));
    let idx = [
        entry(b"good", offset(0)),
        entry(b"nan", offset(1)),
        entry(b"", offset(2)),
        entry(b"\xff\xfe", offset(3)),
        entry(&b"x".repeat(65_537), offset(4)),
        entry(b"low", 12),
        entry(b"high", offset(8)),
        entry(b"max", u64::MAX),
        entry(b"odd", offset(0) + 1),
        entry(b"twice", offset(5)),
        entry(b"twice", offset(6)),
        entry(b"cut", offset(7))[..9].to_vec(),
    ]
    .concat();
    place.write("old.idx", idx);
    let done = place.run(&["migrate", "old", "s", "--json"]).ok().json();
    assert_eq!(done["taken"], 2);
    let expected = [
        ("duplicate_id", 1),
        ("id_empty", 1),
        ("id_not_utf8", 1),
        ("id_too_long", 1),
        ("idx_cut_short", 1),
        ("no_id", 1),
        ("non_finite", 1),
        ("offset_misaligned", 1),
        ("offset_out_of_range", 3),
    ];
    assert_eq!(reasons(&done), expected.map(|(name, n)| (name.to_owned(), n)));
    let listed = done["not_taken"].as_array().unwrap();
    assert_eq!(listed.len(), 11);
    assert!(
        listed.contains(&json!({ "reason": "non_finite", "entry": 1, "row": 1, "offset": 268, "id": "nan" }))
    );
    assert!(listed.contains(&json!({ "reason": "no_id", "row": 7 })));
    let (ids, found) = place.exported("s");
    assert_eq!(ids, ["good", "twice"]);
    assert_eq!(bits(&found), bits(&[&rows[..3], &rows[18..21]].concat()));
}

#[test]
fn people_see_counts_and_the_first_twenty() {
    let place = Place::new();
    place.write("old.dat", dat(b"OMEN", 1, 3, 30, &vectors(30, DIM)));
    place.write("old.idx", entry(b"a", offset(29)));
    let text = place.run(&["migrate", "old", "s"]).ok().stdout;
    assert!(text.contains("migrated 1 row"), "{text}");
    assert!(text.contains("29 not taken: no entry names the row"), "{text}");
    assert!(text.contains("row 19\n") && !text.contains("row 20\n") && text.contains("and 9 more"), "{text}");
}

#[test]
fn wrong_headers_are_refused() {
    let place = Place::new();
    let rows = vectors(2, DIM);
    let cases = [
        (dat(b"OMEN", 1, 3, 2, &rows)[..255].to_vec(), "too few"),
        (dat(b"NEMO", 1, 3, 2, &rows), "OMEN"),
        (dat(b"OMEN", 2, 3, 2, &rows), "version 2"),
        (dat(b"OMEN", 1, 0, 2, &rows), "dimension 0"),
        (dat(b"OMEN", 1, 65_537, 2, &rows), "dimension 65537"),
    ];
    place.write("old.idx", entry(b"a", 256));
    for (bytes, message) in cases {
        place.write("old.dat", bytes);
        place.run(&["migrate", "old", "s", "--json"]).fails(2, &["old.dat", message]);
        assert!(!place.path("s").exists());
    }
    place.run(&["migrate", "missing", "s"]).fails(2, &["missing.dat"]);
    place.write("alone.dat", dat(b"OMEN", 1, 3, 2, &rows));
    place.run(&["migrate", "alone", "s"]).fails(2, &["alone.idx"]);
    assert!(!place.path("s").exists());
}

#[test]
fn any_bytes_end_in_an_answer() {
    let place = Place::new();
    place.write("old.dat", dat(b"OMEN", 1, 3, u64::MAX, &vectors(4, DIM)));
    let whole = [entry(b"a", offset(0)), entry(b"bb", offset(1)), entry(b"ccc", offset(2))].concat();
    for cut in 0..=whole.len() {
        std::fs::remove_dir_all(place.path("s")).ok();
        place.write("old.idx", &whole[..cut]);
        let done = place.run(&["migrate", "old", "s", "--json"]).ok().json();
        let entries = [13, 27, 42].iter().filter(|end| **end <= cut).count();
        assert_eq!(done["taken"], entries, "cut at {cut}");
        assert_eq!(done["reasons"]["no_id"], 4 - entries);
        assert_eq!(done["reasons"]["idx_cut_short"], u64::from(![0, 13, 27, 42].contains(&cut)));
    }
    place.write("old.idx", [0xff; 1000]);
    place.run(&["migrate", "old", "t"]).ok();
    place.write("old.idx", [0; 1000]);
    place.run(&["migrate", "old", "u"]).ok();
}
