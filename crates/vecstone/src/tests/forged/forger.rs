//! The forger: changes what a store's files say, then makes all checksums and chains right again.

use super::super::hostile::{file, manifest_of};
use super::super::model::Random;
use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::{Manifest, SegmentExtent};
use crate::format::record::{self, Next, Record};
use crate::format::{Chain, Identity, crc32c};
use crate::fuzzing::{FIRST_CHAIN, Fitted, fit_log};
use crate::segment::deletion_vector::DeletionVector;
use crate::sys::disk::sim::Image;
use std::path::PathBuf;

/// Offset and width of the fields of a control record's payload, by its type: FILE, COMMIT, DURABLE, CLOSE, BASE.
const FIELDS: [&[(usize, usize)]; 5] = [
    &[(20, 4), (24, 1), (48, 8), (56, 8), (264, 8), (272, 8)],
    &[
        (1, 1),
        (2, 2),
        (4, 4),
        (8, 8),
        (16, 8),
        (24, 4),
        (28, 4),
        (32, 4),
        (36, 4),
        (40, 8),
        (48, 8),
        (56, 8),
        (64, 8),
    ],
    &[(4, 4), (8, 8)],
    &[(4, 4), (8, 8), (16, 8), (24, 8)],
    &[(4, 4), (8, 8), (16, 8)],
];
/// Where the arrays of a COMMIT begin in its payload.
const ARRAYS_AT: usize = 92;
/// Fields of the first page of an `.ids`.
const IDS_FIELDS: [(usize, usize); 14] = [
    (56, 8),
    (64, 8),
    (80, 4),
    (84, 1),
    (88, 8),
    (96, 8),
    (104, 8),
    (112, 8),
    (120, 8),
    (128, 8),
    (136, 8),
    (144, 8),
    (152, 8),
    (160, 8),
];
/// Bytes of the head of MANIFEST, and of an entry.
const MANIFEST_HEAD: usize = 64;
const MANIFEST_ENTRY: usize = 120;
const PAGE: usize = 4096;
const IDS: &[u8] = b"abcdefghijz";

/// A store that is being forged.
pub(super) struct Forger {
    pub(super) image: Image,
    manifest: Manifest,
    /// Places in the bytes of MANIFEST, with what is written there at last.
    of_manifest: Vec<(usize, Vec<u8>)>,
    random: Random,
    /// What was done, for messages.
    pub(super) done: Vec<String>,
    /// The files of the segments, without suffix, and what their logs were before.
    segments: Vec<(PathBuf, Identity, Vec<Fitted>, usize)>,
}

/// A record of a log: where it begins, its length, its type (0 for puts and deletes).
type Place = (usize, usize, u8);

fn places(log: &[u8]) -> Vec<Place> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Next::Record(record, len) = record::next(&log[at..]) {
        found.push((at, len, if let Record::Control { payload } = record { payload[0] } else { 0 }));
        at += len;
    }
    found
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Forger {
    pub(super) fn new(image: &Image, seed: u64) -> Forger {
        let manifest = manifest_of(image);
        let mut segments = Vec::new();
        for entry in &manifest.segments {
            let path = file(&format!("{:08}", entry.number));
            let header = Header::decode(&image.files[&path.with_extension("dat")][..HEADER_LEN]);
            let identity = header.expect("a header").identity;
            let mut log = image.files[&path.with_extension("idx")].clone();
            let commits = fit_log(&mut log, &identity);
            assert_eq!(log, image.files[&path.with_extension("idx")], "what is right stays as it is");
            segments.push((path, identity, commits, log.len()));
        }
        let (image, of_manifest, done) = (image.clone(), Vec::new(), Vec::new());
        Forger { image, manifest, of_manifest, random: Random(seed), done, segments }
    }

    /// Changes one to three things, seals everything again.
    pub(super) fn forge(mut self) -> (Image, String) {
        for _ in 0..=self.random.below(3) {
            match self.random.below(16) {
                0..=3 => self.spoil_manifest(),
                4..=6 => self.spoil_field(),
                7 => self.spoil_array(),
                8 => self.change_id(),
                9 => self.insert_record(),
                10 => self.remove_record(),
                11 => self.insert_mark(),
                12 | 13 => self.spoil_ids(),
                14 => self.spoil_list(),
                _ => self.spoil_kill(),
            }
        }
        self.seal();
        (self.image, self.done.join(", "))
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.random.below(of.len())].clone())
    }

    /// Another number in the place of one.
    fn other(&mut self, was: u64, width: usize) -> u64 {
        let of_store = self.numbers();
        let of_store = self.pick(&of_store).unwrap_or(0);
        let most = u64::MAX >> (64 - 8 * width);
        let small = self.random.below(12) as u64;
        let choices = [
            0,
            1,
            was.wrapping_add(1),
            was.wrapping_sub(1),
            was.wrapping_add(4),
            was.wrapping_mul(2),
            most,
            most - 1,
            most >> 1,
            most / 2 + 1,
            1 << 31,
            1 << 32,
            small,
            of_store,
        ];
        choices[self.random.below(choices.len())] & most
    }

    /// Numbers that stand in the store.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers = vec![self.manifest.number, self.manifest.next_segment];
        for entry in &self.manifest.segments {
            numbers.push(entry.number);
            let SegmentExtent { rows, dat_len, idx_len, jsonl_len, last_seq, del, .. } =
                entry.sealed.clone().unwrap_or_default();
            numbers.extend([rows, dat_len, idx_len, jsonl_len, last_seq, del.0, del.1]);
        }
        numbers
    }

    fn spoil(&mut self, file: &PathBuf, at: usize, width: usize) {
        let was = number(&self.image.files[file][at..at + width]);
        let now = self.other(was, width);
        self.image.files.get_mut(file).expect("there")[at..at + width]
            .copy_from_slice(&now.to_le_bytes()[..width]);
        self.done.push(format!("{} at {at}: {was} becomes {now}", file.display()));
    }

    /// A log and its records.
    fn log(&mut self) -> (PathBuf, Vec<Place>) {
        let path = self.segments[self.random.below(self.segments.len())].0.with_extension("idx");
        let places = places(&self.image.files[&path]);
        (path, places)
    }

    fn spoil_manifest(&mut self) {
        let len = self.manifest.segments.len();
        let n = self.random.below(len);
        let was = self.manifest.clone();
        match self.random.below(17) {
            14.. => self.spoil_room(),
            0 => self.manifest.number = self.other(was.number, 8),
            1 => self.manifest.dim = u32::try_from(self.other(was.dim.into(), 4)).expect("four bytes"),
            2 => self.manifest.kind = self.other(was.kind.into(), 1).to_le_bytes()[0],
            3 => self.manifest.next_segment = self.other(was.next_segment, 8),
            4 => self.manifest.segments[n].number = self.other(was.segments[n].number, 8),
            5 => _ = self.manifest.segments.remove(n),
            6 => {
                let other = self.random.below(len);
                self.manifest.segments.swap(n, other);
            }
            field => {
                let pick = (0..8).map(|_| self.other(number(&[3]), 8)).collect::<Vec<_>>();
                let Some(sealed) = &mut self.manifest.segments[n].sealed else { return };
                let near = |was: u64| if pick[0] % 2 == 0 { was ^ (pick[1] % 8) } else { pick[2] };
                match field {
                    7 => sealed.rows = near(sealed.rows),
                    8 => sealed.dat_len = near(sealed.dat_len),
                    9 => sealed.idx_len = near(sealed.idx_len),
                    10 => sealed.jsonl_len = near(sealed.jsonl_len),
                    11 => sealed.last_seq = near(sealed.last_seq),
                    12 => sealed.chain[0] ^= 1,
                    _ => sealed.del.0 = near(sealed.del.0),
                }
            }
        }
        self.done.push(format!("MANIFEST {was:?} becomes {:?}", self.manifest));
    }

    /// Stored form and stride of an entry, and the sections: their length, their heads and what they hold.
    fn spoil_room(&mut self) {
        let bytes = self.manifest.to_bytes();
        let sections = bytes.len() - 4 - usize::try_from(self.manifest.sections.len()).expect("small");
        let entry = MANIFEST_HEAD + MANIFEST_ENTRY * self.random.below(self.manifest.segments.len().max(1));
        let fields = [(56, 4), (60, 4), (entry + 112, 4), (entry + 116, 4)];
        let of_sections = [(0, 2), (2, 2), (4, 4), (8, 1), (9, 4)].map(|(at, width)| (sections + at, width));
        let (at, width) = self.pick(&[&fields[..], &of_sections, &of_sections].concat()).expect("some");
        let Some(was) = bytes.get(at..at + width).map(number) else { return };
        let now = self.other(was, width);
        self.of_manifest.push((at, now.to_le_bytes()[..width].to_vec()));
        self.done.push(format!("MANIFEST at {at}: {was} becomes {now}"));
    }

    fn spoil_field(&mut self) {
        let (path, places) = self.log();
        let controls: Vec<Place> = places.into_iter().filter(|(_, _, kind)| *kind > 0).collect();
        let Some((at, _, kind)) = self.pick(&controls) else { return };
        let Some(&fields) = FIELDS.get(usize::from(kind).wrapping_sub(1)) else { return };
        let Some((field, width)) = self.pick(fields) else { return };
        if at + 4 + field + width > self.image.files[&path].len() {
            return;
        }
        self.spoil(&path, at + 4 + field, width);
        let dat = path.with_extension("dat");
        // The header stands in both files, and mostly says the same.
        if kind == 1 && field < 264 && self.random.below(4) > 0 {
            let same = self.image.files[&path][at + 12..][..HEADER_LEN - 4].to_vec();
            self.image.files.get_mut(&dat).expect("there")[..HEADER_LEN - 4].copy_from_slice(&same);
        }
    }

    fn commit(&mut self) -> Option<(PathBuf, usize, usize)> {
        let (path, places) = self.log();
        let commits: Vec<Place> = places.into_iter().filter(|(_, _, kind)| *kind == 2).collect();
        self.pick(&commits).map(|(at, len, _)| (path, at, len))
    }

    fn spoil_array(&mut self) {
        let Some((path, at, len)) = self.commit() else { return };
        let words = (len - 12).saturating_sub(ARRAYS_AT) / 4;
        if words > 0 {
            let word = self.random.below(words);
            self.spoil(&path, at + 4 + ARRAYS_AT + 4 * word, 4);
        }
    }

    fn change_id(&mut self) {
        let (path, places) = self.log();
        let puts: Vec<Place> = places.into_iter().filter(|(_, _, kind)| *kind == 0).collect();
        let (Some((at, ..)), Some(id)) = (self.pick(&puts), self.pick(IDS)) else { return };
        if self.random.below(4) == 0 {
            self.spoil(&path, at + 5, 8);
            return;
        }
        self.image.files.get_mut(&path).expect("there")[at + 4] = id;
        self.done.push(format!("{} at {at}: id {:?}", path.display(), char::from(id)));
    }

    /// Takes bytes from a log and puts others in their place.
    fn splice(&mut self, path: &PathBuf, at: usize, len: usize, with: &[u8]) {
        let log = self.image.files.get_mut(path).expect("there");
        log.splice(at..at + len, with.iter().copied());
        self.done.push(format!("{} at {at}: {len} bytes become {}", path.display(), with.escape_ascii()));
    }

    fn add(&mut self, path: &PathBuf, at: usize, width: usize, what: i64) {
        let bytes = &mut self.image.files.get_mut(path).expect("there")[at..at + width];
        let now = number(bytes).wrapping_add_signed(what);
        bytes.copy_from_slice(&now.to_le_bytes()[..width]);
    }

    /// A delete more in a batch, which says so.
    fn insert_record(&mut self) {
        let (Some((path, at, _)), Some(id)) = (self.commit(), self.pick(IDS)) else { return };
        let mut record = Vec::new();
        record::push_delete(&mut record, &[id]);
        self.splice(&path, at, 0, &record);
        let head = at + record.len() + 4;
        self.add(&path, head + 24, 4, 1);
        self.add(&path, head + 40, 8, 13);
    }

    /// A record less, mostly in a batch that says so.
    fn remove_record(&mut self) {
        let (path, places) = self.log();
        let n = self.random.below(places.len());
        let (at, len, kind) = places[n];
        self.splice(&path, at, len, &[]);
        let commit = places[n..].iter().find(|(_, _, kind)| *kind == 2).filter(|_| kind == 0);
        if let Some((commit, ..)) = commit {
            let head = commit - len + 4;
            self.add(&path, head + 24, 4, -1);
            self.add(&path, head + 40, 8, -(i64::try_from(len).expect("short")));
        }
    }

    fn insert_mark(&mut self) {
        let (path, places) = self.log();
        let ends: Vec<usize> =
            places.iter().filter(|(_, _, kind)| *kind > 0).map(|(at, len, _)| at + len).collect();
        let Some(at) = self.pick(&ends) else { return };
        let numbers: Vec<u64> = (0..4).map(|_| self.other(3, 8)).collect();
        let identity = Identity { uuid: [0; 16], segment: 0, salt: [0; 16] };
        let epoch = u32::try_from(numbers[0] & 0xffff_ffff).expect("four bytes");
        let mut mark = Vec::new();
        match self.random.below(3) {
            0 => record::push_durable(&mut mark, epoch, numbers[1], &identity),
            1 => record::push_close(&mut mark, epoch, numbers[1], numbers[2], numbers[3], &identity),
            _ => record::push_base(&mut mark, numbers[1], &numbers[2..], &identity),
        }
        self.splice(&path, at, 0, &mark);
    }

    fn with_suffix(&mut self, suffix: &str) -> Option<PathBuf> {
        let is = |path: &&PathBuf| path.extension().is_some_and(|found| found == suffix);
        let paths: Vec<PathBuf> = self.image.files.keys().filter(is).cloned().collect();
        self.pick(&paths)
    }

    fn spoil_ids(&mut self) {
        let Some(path) = self.with_suffix("ids") else { return };
        if self.random.below(2) == 0 {
            let (at, width) = self.pick(&IDS_FIELDS).expect("some");
            self.spoil(&path, at, width);
            return;
        }
        let pages = self.image.files[&path].len() / PAGE;
        let at = self.random.below(pages) * PAGE + 4 * self.random.below(32);
        self.spoil(&path, at, 4);
    }

    /// Rows of a list of dead ones are taken away and added.
    fn spoil_list(&mut self) {
        let Some(path) = self.with_suffix("del") else { return };
        let Some(deletions) = DeletionVector::from_roaring(&self.image.files[&path], 1 << 32) else { return };
        let (row, last) = (self.random.below(6), self.other(3, 4));
        let mut now = DeletionVector::default();
        let rows = deletions.dead_rows().filter(|&dead| dead as usize != row);
        let add = if deletions.is_live(u32::try_from(row).expect("small")) { row as u64 } else { last };
        let add = (self.random.below(3) > 0).then(|| u32::try_from(add).expect("four bytes"));
        rows.chain(add).for_each(|row| _ = now.delete_row(row));
        self.done.push(format!("{}: {:?}", path.display(), now.dead_rows().collect::<Vec<_>>()));
        self.image.files.insert(path, now.to_roaring());
    }

    /// A kill more or less in a COMMIT, which says so.
    fn spoil_kill(&mut self) {
        let Some((path, at, len)) = self.commit() else { return };
        let cross_deletes = number(&self.image.files[&path][at + 4 + 32..][..4]);
        let end = at + len - 8;
        if cross_deletes > 0 && self.random.below(2) == 0 {
            self.splice(&path, end - 8, 8, &[]);
            self.add(&path, at, 4, -8);
            self.add(&path, at + 4 + 32, 4, -1);
        } else {
            let (segment, row) = (self.random.below(6) as u64, self.other(2, 4) & 0xff);
            self.splice(&path, end, 0, &(segment | row << 32).to_le_bytes());
            self.add(&path, at, 4, 8);
            self.add(&path, at + 4 + 32, 4, 1);
        }
    }

    /// Makes every checksum and chain right, and carries chains and lengths to where they stand elsewhere.
    fn seal(&mut self) {
        let mut chains: Vec<(Chain, Chain)> = Vec::new();
        for (path, identity, before, old_len) in self.segments.clone() {
            let dat = self.image.files.get_mut(&path.with_extension("dat")).expect("there");
            let crc = crc32c(&dat[..HEADER_LEN - 4]);
            dat[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
            let identity = Header::decode(&dat[..HEADER_LEN]).map_or(identity, |header| header.identity);
            let log = self.image.files.get_mut(&path.with_extension("idx")).expect("there");
            for (was, now) in &chains {
                if log.get(FIRST_CHAIN) == Some(&was[..]) {
                    log[FIRST_CHAIN].copy_from_slice(now);
                }
            }
            let after = fit_log(log, &identity);
            let len = log.len();
            if let (Some(was), Some(now)) = (before.last(), after.last()) {
                chains.push((was.chain, now.chain));
            }
            self.fit_ids(&path, &identity, &before, &after);
            for sealed in self.manifest.segments.iter_mut().filter_map(|entry| entry.sealed.as_mut()) {
                for (was, now) in before.last().iter().zip(after.last()) {
                    if sealed.chain == was.chain {
                        sealed.chain = now.chain;
                        sealed.idx_len =
                            if sealed.idx_len == old_len as u64 { len as u64 } else { sealed.idx_len };
                    }
                }
            }
        }
        for entry in &mut self.manifest.segments {
            let Some(sealed) = &mut entry.sealed else { continue };
            let list = self.image.files.get(&file(&format!("{:08}.{}.del", entry.number, sealed.del.0)));
            if let Some(list) = list.filter(|_| sealed.del.0 > 0) {
                (sealed.del.1, sealed.del.2) = (list.len() as u64, crc32c(list));
            }
        }
        let mut bytes = self.manifest.to_bytes();
        bytes.truncate(bytes.len() - 4);
        for (at, now) in &self.of_manifest {
            if let Some(place) = bytes.get_mut(*at..at + now.len()) {
                place.copy_from_slice(now);
            }
        }
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.image.files.insert(file("MANIFEST"), bytes);
    }

    fn fit_ids(&mut self, path: &std::path::Path, identity: &Identity, before: &[Fitted], after: &[Fitted]) {
        let Some(ids) = self.image.files.get_mut(&path.with_extension("ids")) else { return };
        for (was, now) in before.iter().zip(after) {
            if ids[64..80] == was.chain {
                ids[64..80].copy_from_slice(&now.chain);
                for (at, was, now) in [(88, was.at, now.at), (96, was.end, now.end)] {
                    if number(&ids[at..at + 8]) == was as u64 {
                        ids[at..at + 8].copy_from_slice(&(now as u64).to_le_bytes());
                    }
                }
                break;
            }
        }
        crate::segment::ids::reseal(identity, ids);
    }
}

/// A store whose first list of dead rows says that the last of them lives.
pub(super) fn with_two_live_rows(image: &Image) -> Image {
    let mut forger = Forger::new(image, 0);
    let path = forger.with_suffix("del").expect("rows of the first segment are dead");
    let deletions = DeletionVector::from_roaring(&image.files[&path], 1 << 32).expect("intact");
    let mut less = DeletionVector::default();
    let last = deletions.dead_rows().last();
    deletions.dead_rows().filter(|row| Some(*row) != last).for_each(|row| _ = less.delete_row(row));
    forger.image.files.insert(path, less.to_roaring());
    forger.seal();
    forger.image
}
