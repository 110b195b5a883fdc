//! MANIFESTs of a later release, made by hand: what this release does not know is kept, or refused by name.

use super::crash::Workload;
use super::hostile::{LIVE, file, manifest_of, open, store, vector};
use super::model::{DIR, options, root};
use crate::format::crc32c;
use crate::maintain::repair::repair;
use crate::maintain::verify::verify_directory;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::sys::planted::{Bug, with};
use crate::{Error, MAX_ATTRIBUTES_BYTES, VectorStore};
use std::path::Path;
use std::sync::Arc;

/// Tag, flags and bytes.
type Raw = (u16, u16, Vec<u8>);

const HEAD: usize = 64;
const SECTIONS_AT: usize = 56;
const MOST: usize = 1 << 20;

fn raw(tag: u16, flags: u16, bytes: &[u8]) -> Raw {
    (tag, flags, bytes.to_vec())
}

fn bytes_of(sections: &[Raw]) -> Vec<u8> {
    let section = |(tag, flags, bytes): &Raw| {
        let len = u32::try_from(bytes.len()).expect("short").to_le_bytes();
        [&tag.to_le_bytes()[..], &flags.to_le_bytes(), &len, bytes].concat()
    };
    sections.iter().flat_map(section).collect()
}

/// Changes the bytes of MANIFEST but for its checksum, which is made right.
fn forged(image: &Image, change: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut image = image.clone();
    let bytes = image.files.get_mut(&file("MANIFEST")).expect("there");
    bytes.truncate(bytes.len() - 4);
    change(bytes);
    let crc = crc32c(bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    image
}

/// The store with these bytes behind the entries, which had no sections.
fn with_bytes(image: &Image, sections: &[u8]) -> Image {
    forged(image, |bytes| {
        assert_eq!(bytes[SECTIONS_AT..HEAD], [0; 8]);
        bytes[SECTIONS_AT..SECTIONS_AT + 4]
            .copy_from_slice(&u32::try_from(sections.len()).expect("short").to_le_bytes());
        bytes.extend_from_slice(sections);
    })
}

fn with_sections(image: &Image, sections: &[Raw]) -> Image {
    with_bytes(image, &bytes_of(sections))
}

/// The sections of the store in a directory, read by hand.
fn sections_in(disk: &SimDisk, dir: &str) -> Vec<Raw> {
    let bytes = &disk.image().files[&Path::new(dir).join("MANIFEST")];
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte));
    let end = bytes.len() - 4;
    let (mut at, mut found) = (end - number(&bytes[SECTIONS_AT..SECTIONS_AT + 4]), Vec::new());
    while at < end {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let len = number(&bytes[at + 4..at + 8]);
        found.push((word(at), word(at + 2), bytes[at + 8..at + 8 + len].to_vec()));
        at += 8 + len;
    }
    found
}

fn reader(disk: &SimDisk) -> crate::Result<VectorStore> {
    VectorStore::open_read_only_on(Arc::new(disk.clone()), Path::new(DIR))
}

fn door(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Each call that reads the store, or makes another one of it: its name, and how it ends.
fn readings(disk: &SimDisk) -> [(&'static str, crate::Result<()>); 3] {
    [
        ("open read-only", reader(disk).map(drop)),
        ("verify", verify_directory(&door(disk), Path::new(DIR)).map(drop)),
        ("repair", repair(&door(disk), Path::new(DIR), Path::new("/repaired")).map(drop)),
    ]
}

/// Nothing is there that was not there before, but for what LOCK says.
#[track_caller]
fn assert_untouched(disk: &SimDisk, image: &Image) {
    let [before, after] = [image.clone(), disk.image()].map(|mut image| {
        image.files.retain(|path, _| !path.ends_with("LOCK"));
        image
    });
    assert!(before == after, "something was written");
}

#[track_caller]
fn assert_unsupported(what: &str, outcome: crate::Result<()>, path: &Path, number: u64) {
    let right = matches!(&outcome, Err(Error::Unsupported { path: named, found, .. })
        if named == path && *found == number);
    assert!(right, "{what}: {outcome:?}");
}

/// Sections as a later release may have them, whom nobody needs to know; the two of this release among them.
fn optional() -> Vec<Raw> {
    vec![
        raw(1, 0, br#"{"an option": [1, 2]}"#),
        raw(2, 0, br#"{"by": "the user"}"#),
        raw(3, 0, b"\0\xff\xfe"),
        raw(7, 0, b""),
        raw(500, 0, &[9; 3000]),
        raw(u16::MAX, 0, b"the last"),
    ]
}

/// Seals, compacts, clears, sets attributes, backs up and repairs: all sections but the attributes stay byte by byte.
pub(super) fn what_is_not_known_is_kept() -> Result<(), String> {
    let disk = SimDisk::new(&with_sections(&store(&options()), &optional()));
    let told = |what: &'static str| move |error: Error| format!("{what}: {error}");
    let check = |what: &str, dir: &str, attributes: Option<&str>| {
        let mut expected = optional();
        match attributes {
            Some(text) => expected[1].2 = text.as_bytes().to_vec(),
            None => _ = expected.remove(1),
        }
        let found = sections_in(&disk, dir);
        if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}")) }
    };
    let first = Some(r#"{"by": "the user"}"#);
    let writer = open(&disk, &options().segment_records(4)).map_err(told("open"))?;
    let number = manifest_of(&disk.image()).number;
    for id in ["p", "q", "r", "s", "t"] {
        writer.put(id, &vector(id)).and_then(|()| writer.flush()).map_err(told("put"))?;
    }
    check("seal", DIR, first)?;
    writer.delete_many(&["a", "p"]).map_err(told("delete"))?;
    writer.compact().map_err(told("compact"))?;
    check("compact", DIR, first)?;
    writer.backup("/copy").map_err(told("backup"))?;
    check("backup", "/copy", first)?;
    repair(&door(&disk), Path::new("/copy"), Path::new("/repaired")).map_err(told("repair"))?;
    check("repair", "/repaired", first)?;
    writer.set_attributes(Some(r#" {"new": 1} "#)).map_err(told("set attributes"))?;
    check("set attributes", DIR, Some(r#"{"new": 1}"#))?;
    writer.set_attributes(None).map_err(told("remove attributes"))?;
    check("remove attributes", DIR, None)?;
    reader(&disk).and_then(|reader| reader.backup("/read")).map_err(told("a reader's backup"))?;
    check("a reader's backup", "/read", None)?;
    writer.clear().map_err(told("clear"))?;
    check("clear", DIR, None)?;
    writer.set_attributes(Some("{}")).map_err(told("set attributes again"))?;
    writer.close().map_err(told("close"))?;
    check("close", DIR, Some("{}"))?;
    let now = manifest_of(&disk.image()).number;
    if now < number + 6 {
        Err(format!("MANIFEST {number} became {now}: too few replacements"))
    } else {
        Ok(())
    }
}

pub(super) fn sections_catch(bug: Bug) -> bool {
    with(bug, || what_is_not_known_is_kept().is_err())
}

#[test]
fn a_section_that_is_not_known_stays_through_every_replacement() {
    what_is_not_known_is_kept().expect("kept");
}

#[test]
fn attributes_of_a_later_release_are_read() {
    let image = with_sections(&store(&options()), &optional());
    let disk = SimDisk::new(&image);
    let reader = reader(&disk).expect("opens");
    assert_eq!(reader.attributes().expect("read").as_deref(), Some(r#"{"by": "the user"}"#));
    assert!(LIVE.iter().all(|id| reader.get(*id).expect("read") == Some(vector(id))));
    assert_eq!(disk.image(), image, "a reader wrote something");
}

#[test]
fn what_must_be_known_to_read_is_refused_by_its_tag() {
    let known = store(&options());
    let of_tag = |tag| with_sections(&known, &[raw(2, 0, b"{}"), raw(tag, 1, b"later")]);
    let with_writers_too = with_sections(&known, &[raw(4, 2, b""), raw(9, 3, b"")]);
    for (image, tag) in [(of_tag(3), 3), (of_tag(u16::MAX), 65_535), (with_writers_too, 9)] {
        let disk = SimDisk::new(&image);
        for (what, outcome) in readings(&disk) {
            assert_unsupported(what, outcome, &file("MANIFEST"), tag);
        }
        assert_unsupported("open", open(&disk, &options()).map(drop), &file("MANIFEST"), tag);
        assert_untouched(&disk, &image);
    }
}

/// With such a section a later release may change all but magic, version, checksum, and where tags and flags stand.
#[test]
fn what_must_be_known_is_looked_at_before_all_else() {
    let known = store(&options());
    let needed = with_sections(&known, &[raw(3, 0, &[0; 100]), raw(8, 1, b"")]);
    let garble = |range: std::ops::Range<usize>, byte: u8| {
        forged(&needed, |bytes| bytes[range].iter_mut().for_each(|b| *b ^= byte))
    };
    let entries = HEAD..HEAD + 120 * manifest_of(&known).segments.len();
    let longer = forged(&needed, |bytes| _ = bytes.splice(HEAD..HEAD, vec![0x77; 5000 * 128]));
    let mut more_than_fits = vec![raw(3, 0, &[0; MOST]), raw(3, 0, &[1; 10]), raw(2, 0, b"no JSON")];
    more_than_fits.push(raw(8, 1, b"x"));
    let cut_behind = [bytes_of(&[raw(8, 1, b"")]), vec![9, 0, 0]].concat();
    let lies_itself = [&8u16.to_le_bytes()[..], &1u16.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
    let without_length = [&8u16.to_le_bytes()[..], &1u16.to_le_bytes()].concat();
    let cases = [
        ("numbers of the head", garble(12..SECTIONS_AT, 0x55)),
        ("zero bytes", garble(60..HEAD, 1)),
        ("entries", garble(entries, 0xAA)),
        ("entries of another length", longer),
        ("sections out of order, too long, and no JSON", with_sections(&known, &more_than_fits)),
        ("a piece of a section behind it", with_bytes(&known, &cut_behind)),
        ("its own length", with_bytes(&known, &lies_itself)),
        ("no length", with_bytes(&known, &without_length)),
    ];
    for (what, image) in cases {
        let disk = SimDisk::new(&image);
        assert_unsupported(what, reader(&disk).map(drop), &file("MANIFEST"), 8);
        assert_unsupported(what, open(&disk, &options()).map(drop), &file("MANIFEST"), 8);
    }
}

/// Readers open; whoever would write to the store, or make another one of it, refuses.
#[test]
fn what_must_be_known_to_write_is_refused_to_writers() {
    let image = with_sections(&store(&options()), &[raw(3, 0, b""), raw(6, 2, b"later")]);
    let disk = SimDisk::new(&image);
    let shown = reader(&disk).expect("opens");
    assert!(LIVE.iter().all(|id| shown.get(*id).expect("read") == Some(vector(id))));
    assert!(shown.verify().expect("read").is_ok() && !shown.refresh().expect("read"));
    let [_, (_, verified), (what, repaired)] = readings(&disk);
    verified.expect("verified");
    for (what, outcome) in [
        (what, repaired),
        ("open", open(&disk, &options()).map(drop)),
        ("backup", shown.backup("/copy").map(drop)),
    ] {
        let text = format!("{outcome:?}");
        assert!(text.contains("to write"), "{text}");
        assert_unsupported(what, outcome, &file("MANIFEST"), 6);
    }
    drop(shown);
    assert_untouched(&disk, &image);
}

#[test]
fn unknown_flags_are_refused_of_known_tags_too() {
    for (tag, flags) in [(3, 4), (2, 0x8000), (1, 6)] {
        let sections = [raw(1, 0, b"{}"), raw(2, 0, b"{}"), raw(3, 0, b"")];
        let sections =
            sections.map(|section| if section.0 == tag { (tag, flags, section.2) } else { section });
        let disk = SimDisk::new(&with_sections(&store(&options()), &sections));
        assert_unsupported("flags", reader(&disk).map(drop), &file("MANIFEST"), flags.into());
    }
    // What is known may have any flag that is.
    let disk = SimDisk::new(&with_sections(&store(&options()), &[raw(1, 3, b"{}"), raw(2, 3, b"{}")]));
    open(&disk, &options()).and_then(VectorStore::close).expect("known");
}

/// Rows in a form of a later release, whose lengths are not those of f32.
#[test]
fn an_unknown_stored_form_is_refused_by_its_segment() {
    let known = store(&options());
    let numbers: Vec<u64> = manifest_of(&known).segments.iter().map(|segment| segment.number).collect();
    for (place, number) in numbers.into_iter().enumerate() {
        let entry = HEAD + 120 * place;
        let dat = file(&format!("{number:08}.dat"));
        for (at, found) in [(112, 5u32), (112, u32::MAX), (116, 8)] {
            let image = forged(&known, |bytes| {
                bytes[entry + at..entry + at + 4].copy_from_slice(&found.to_le_bytes());
                bytes[entry + 40] ^= 1;
            });
            let disk = SimDisk::new(&image);
            for (what, outcome) in readings(&disk) {
                assert_unsupported(what, outcome, &dat, found.into());
            }
            assert_unsupported("open", open(&disk, &options()).map(drop), &dat, found.into());
            assert_untouched(&disk, &image);
        }
    }
}

#[track_caller]
fn assert_corrupt_at(image: &Image, at: usize) {
    let disk = SimDisk::new(image);
    for error in [reader(&disk).map(drop), open(&disk, &options()).map(drop)] {
        let right = matches!(&error, Err(Error::Corrupt { path, offset, .. })
            if *path == file("MANIFEST") && *offset == at as u64);
        assert!(right, "{at}: {error:?}");
    }
    assert_untouched(&disk, image);
}

#[test]
fn sections_that_contradict_themselves_are_damage() {
    let known = store(&options());
    let start = HEAD + 120 * manifest_of(&known).segments.len();
    let lying = |len: u32| {
        let head = [&3u16.to_le_bytes()[..], &0u16.to_le_bytes(), &len.to_le_bytes(), b"four"].concat();
        with_bytes(&known, &[bytes_of(&[raw(2, 0, b"{}")]), head].concat())
    };
    for len in [5, 1 << 20, u32::MAX - 8, u32::MAX] {
        assert_corrupt_at(&lying(len), start + 10);
    }
    for short in 1..8 {
        assert_corrupt_at(&with_bytes(&known, &vec![0; short]), start);
    }
    let whole = with_sections(&known, &[raw(3, 0, b"later")]);
    for len in [14u32 + 120 * 4096, u32::MAX] {
        let lies = forged(&whole, |bytes| {
            bytes[SECTIONS_AT..SECTIONS_AT + 4].copy_from_slice(&len.to_le_bytes());
        });
        assert_corrupt_at(&lies, SECTIONS_AT);
    }
    // One byte more or less is not the length of the entries.
    for len in [12u32, 14] {
        let lies = forged(&whole, |bytes| {
            bytes[SECTIONS_AT..SECTIONS_AT + 4].copy_from_slice(&len.to_le_bytes());
        });
        let disk = SimDisk::new(&lies);
        assert!(reader(&disk).is_err_and(|error| !matches!(error, Error::Panicked { .. })));
    }
    assert_corrupt_at(&with_sections(&known, &[raw(3, 0, b"a"), raw(3, 0, b"a")]), start + 9);
    assert_corrupt_at(&with_sections(&known, &[raw(4, 0, b""), raw(3, 0, b"")]), start + 8);
    assert_corrupt_at(&with_sections(&known, &[raw(0, 0, b"")]), start);
    for text in [&b""[..], b"[]", b"null", b"{", b"{} {}", b"\xff", b"{\"a\":\"\xff\"}"] {
        assert_corrupt_at(&with_sections(&known, &[raw(1, 0, text)]), start);
        assert_corrupt_at(&with_sections(&known, &[raw(1, 0, b"{}"), raw(2, 0, text)]), start + 10);
    }
}

/// An option that this release knows is what it has to be; others may be anything.
#[test]
fn an_option_that_makes_no_sense_is_damage() {
    let known = store(&options());
    let start = HEAD + 120 * manifest_of(&known).segments.len();
    let with = |value: &str| {
        let text = format!(r#"{{"other": [1], "auto_optimize_rows": {value}}}"#);
        with_sections(&known, &[raw(1, 0, text.as_bytes())])
    };
    for value in ["-1", "1.5", "2e4", "null", "\"7\"", "[7]", "18446744073709551616"] {
        assert_corrupt_at(&with(value), start);
    }
    for (value, rows) in [("0", 0), ("7", 7), ("18446744073709551615", u64::MAX)] {
        let stats = reader(&SimDisk::new(&with(value))).and_then(|reader| reader.stats());
        assert_eq!(stats.expect("opens").auto_optimize_rows, rows);
    }
}

#[test]
fn sections_have_a_mebibyte_together() {
    let known = store(&options());
    let of = |len: usize| with_sections(&known, &[raw(3, 0, &[7; 1000]), raw(4, 0, &vec![8; len - 1016])]);
    let disk = SimDisk::new(&of(MOST));
    let writer = open(&disk, &options().segment_records(2)).expect("it fits");
    for id in ["p", "q", "r"] {
        writer.put(id, &vector(id)).and_then(|()| writer.flush()).expect("sealed");
    }
    let refused = writer.set_attributes(Some("{}"));
    assert!(matches!(refused, Err(Error::AttributesTooLarge { found: 2, max: 0 })), "{refused:?}");
    writer.set_attributes(None).and_then(|()| writer.close()).expect("there is nothing to write");
    assert_eq!(sections_in(&disk, DIR).len(), 2);
    assert_corrupt_at(&of(MOST + 1), SECTIONS_AT);
}

/// An object whose text has so many bytes.
/// A change of the options among others of MANIFEST.
pub(super) const IN_MANIFEST: [Workload; 1] = [("embed_name", |run| {
    run.segments_of(2).auto_optimize_rows(3).create()?;
    run.put(&["a", "b"])?;
    run.set_embed_name(false)?;
    run.set_attributes(false)?;
    run.put(&["a"])?;
    run.set_embed_name(false)?;
    run.clear()?;
    run.put(&["c"])?;
    run.flush()?;
    run.set_embed_name(true)
})];

/// Options that a later release keeps beside this one stay digit for digit, and so do flags.
#[test]
fn the_name_of_what_makes_vectors_leaves_the_other_options_alone() {
    let known = store(&options());
    let other = r#"{"auto_optimize_rows":7,"later":1.50e400}"#;
    let image = with_sections(&known, &[raw(1, 2, other.as_bytes()), raw(3, 0, &[0; (1 << 20) - 700])]);
    let disk = SimDisk::new(&image);
    let writer = open(&disk, &options()).expect("opens");
    let recorded = || sections_in(&disk, DIR).first().map(|(_, flags, text)| (*flags, text.clone()));
    let with = |name: &str| format!(r#"{{"auto_optimize_rows":7,"embed_name":{name},"later":1.50e400}}"#);
    for (name, text) in [("a", r#""a""#), ("\"\n", r#""\"\n""#)] {
        writer.set_embed_name(Some(name)).expect("there is room");
        assert_eq!(writer.embed_name().expect("read").as_deref(), Some(name));
        assert_eq!(recorded(), Some((2, with(text).into_bytes())));
        assert_eq!(writer.stats().expect("counted").embed_name.as_deref(), Some(name));
    }
    let before = recorded();
    for name in ["".to_owned(), "x".repeat(1025), "x".repeat(1024)] {
        let refused = writer.set_embed_name(Some(&name));
        assert!(matches!(refused, Err(Error::InvalidEmbedName { .. })), "{refused:?}");
    }
    assert_eq!(recorded(), before);
    writer.set_embed_name(None).expect("removed");
    assert_eq!(
        (recorded(), writer.embed_name().expect("read")),
        (Some((2, other.as_bytes().to_vec())), None)
    );
    let start = HEAD + 120 * manifest_of(&known).segments.len();
    for value in ["7", "null", "[]"] {
        let text = format!(r#"{{"embed_name": {value}}}"#);
        assert_corrupt_at(&with_sections(&known, &[raw(1, 0, text.as_bytes())]), start);
    }
    let disk = SimDisk::new(&known);
    let writer = open(&disk, &options()).expect("opens");
    writer.set_embed_name(Some("a")).and_then(|()| writer.set_embed_name(None)).expect("removed");
    assert_eq!(sections_in(&disk, DIR), []);
}

fn object(len: u64) -> String {
    let len = usize::try_from(len).expect("small") - r#"{"a":""}"#.len();
    format!(r#"{{"a":"{}"}}"#, "x".repeat(len))
}

#[test]
fn attributes_are_one_object_that_there_is_room_for() {
    let image = store(&options());
    let disk = SimDisk::new(&image);
    let writer = open(&disk, &options()).expect("opens");
    let manifest = || disk.image().files[&file("MANIFEST")].clone();
    let before = manifest();
    for text in ["", " ", "{", "[1]", "null", "\"a\"", "{} {}", "{\"a\": NaN}", "{'a': 1}", &"[".repeat(1000)]
    {
        let refused = writer.set_attributes(Some(text));
        assert!(matches!(refused, Err(Error::InvalidAttributes { .. })), "{text}: {refused:?}");
    }
    let most = MAX_ATTRIBUTES_BYTES;
    let refused = writer.set_attributes(Some(&object(most + 1)));
    assert!(
        matches!(refused, Err(Error::AttributesTooLarge { found, max }) if (found, max) == (most + 1, most))
    );
    assert_eq!(manifest(), before, "something was written");
    assert_eq!(writer.attributes().expect("read"), None);
    // Without the spaces around it.
    let largest = object(most);
    writer.set_attributes(Some(&format!("\n {largest}\t"))).expect("there is room");
    let beside = reader(&disk).expect("opens");
    assert_eq!(beside.attributes().expect("read"), Some(largest.clone()));
    let snapshot = writer.snapshot().expect("taken");
    writer.set_attributes(None).expect("removed");
    assert_eq!((snapshot.attributes(), writer.attributes().expect("read")), (Some(&*largest), None));
    assert_eq!(beside.attributes().expect("read"), Some(largest), "not refreshed");
    assert!(beside.refresh().expect("read"));
    assert_eq!(beside.attributes().expect("read"), None);
    assert!(matches!(beside.set_attributes(None), Err(Error::ReadOnly)));
    assert_eq!(sections_in(&disk, DIR), []);
    // Beside sections of a later release there is less room.
    let disk = SimDisk::new(&with_sections(&image, &[raw(3, 0, &[0; 512 << 10])]));
    let writer = open(&disk, &options()).expect("opens");
    let room = (512 << 10) - 16;
    let refused = writer.set_attributes(Some(&object(room + 1)));
    assert!(matches!(refused, Err(Error::AttributesTooLarge { max, .. }) if max == room), "{refused:?}");
    writer.set_attributes(Some(&object(room))).expect("there is room");
    writer.set_attributes(Some(&object(room))).expect("in the place of those before");
}

/// What was accepted before attributes is durable with them, and a crash keeps nothing of what came after without them.
#[test]
fn attributes_make_durable_what_was_accepted_before() {
    let disk = SimDisk::new(&store(&options()));
    let writer = open(&disk, &options().buffer_bytes(1 << 20).segment_records(3)).expect("opens");
    for id in ["p", "q", "r", "s"] {
        writer.put(id, &vector(id)).expect("accepted");
    }
    writer.set_attributes(Some("{}")).expect("set");
    disk.kill(writer);
    let crash = disk.crash();
    let disk = SimDisk::new(&crash.image(&vec![0; crash.options().len()]));
    let after = open(&disk, &options()).expect("opens");
    assert_eq!(after.attributes().expect("read").as_deref(), Some("{}"));
    assert!(["p", "q", "r", "s"].iter().all(|id| after.get(*id).expect("read") == Some(vector(id))));
}

/// Files of a later release that end in `.side`: those of a segment stay with it, and are neither copied nor read.
#[test]
fn side_files_stay_as_long_as_their_segment() {
    let disk = SimDisk::new(&store(&options()));
    let make = |name: &str| {
        let file = crate::sys::disk::open_file(disk.clone(), &file(name), crate::sys::disk::Open::CreateNew);
        file.and_then(|file| file.write_at(b"later", 0)).expect("written");
    };
    let is_there = |name: &str| disk.image().files.contains_key(&file(name));
    let of_segments = ["00000001.words.side", "00000001.a-2.side", "00000002.words.side"];
    let obsolete = ["00000099.words.side", "00000001.words.side.new", "00000099.words.side.new"];
    let others = [
        "00000001.Words.side",
        "00000099.a.b.side",
        "00000099.side",
        "00000099..side",
        "99.words.side",
        "00000099.words",
        "words.side",
    ];
    of_segments.iter().chain(&obsolete).chain(&others).for_each(|name| make(name));
    let shown = reader(&disk).expect("opens");
    assert_eq!(
        shown.stats().expect("counted").bytes.side,
        5 * 4,
        "those that are in the making are no such files"
    );
    assert!(shown.verify().expect("read").is_ok());
    shown.backup("/copy").expect("copied");
    assert!(!disk.image().files.keys().any(|path| {
        path.starts_with("/copy") && path.extension().is_some_and(|suffix| suffix == "side")
    }));
    repair(&door(&disk), Path::new(DIR), Path::new("/repaired"))
        .expect("repaired")
        .is_whole()
        .then_some(())
        .expect("whole");
    drop(shown);
    let writer = open(&disk, &options()).expect("opens");
    assert!(of_segments.iter().all(|name| is_there(name)), "of segments that are there");
    assert!(!obsolete.iter().any(|name| is_there(name)), "of no segment, or in the making");
    make("00000098.words.side");
    writer.delete_many(&["c", "d"]).expect("deleted");
    writer.compact().expect("compacted");
    let numbers: Vec<u64> =
        manifest_of(&disk.image()).segments.iter().map(|segment| segment.number).collect();
    assert!(!numbers.contains(&1) && !numbers.contains(&2), "{numbers:?}");
    assert!(!of_segments.iter().any(|name| is_there(name)), "their segments are gone");
    assert!(!is_there("00000098.words.side"));
    assert!(others.iter().all(|name| is_there(name)), "not ours");
}

/// A store that is made anew where a later release left one half made.
#[test]
fn a_side_file_without_a_manifest_is_not_started_over() {
    let disk = SimDisk::new(&root());
    let mut image = disk.image();
    image.dirs.insert(DIR.into());
    image.files.insert(file("00000001.words.side"), b"later".to_vec());
    let opened = reader(&SimDisk::new(&image));
    assert!(opened.is_err_and(|error| error.is_corrupt()));
}
