//! What opens and what repairs goes by the same batches: of damaged and of forged logs, each batch that an opening counts
//! is salvaged with the same rows, deletes and cross-segment deletes, and where the opening stops, the salvage says why.

use super::forged;
use super::model::{DIR, Random};
use super::repair::{Content, changed, file, names, plain, repaired, rich, without_ids};
use crate::format::manifest::SegmentExtent;
use crate::maintain::salvage::scan;
use crate::maintain::salvage::segment::{SalvagedSegment, probe};
use crate::open::directory;
use crate::pair::log::LogEvent;
use crate::pair::recover::{self, Recovered, to_the_end};
use crate::pair::rows::RowEntry;
use crate::sys::disk::Disk;
use crate::sys::disk::sim::{Image, SimDisk};
use crate::types::id::{IdHasher, half};
use crate::{Error, VectorStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a log says up to the first place that does not hold.
#[derive(Debug, Default, PartialEq)]
struct Said {
    rows: Vec<RowEntry>,
    /// Places in `.idx`.
    deletes: Vec<u64>,
    /// Of the batches under one MANIFEST.
    cross_deletes: Vec<(u32, u32)>,
}

/// What a salvage says.
#[derive(Debug, Default)]
struct Salvaged {
    before: Said,
    /// Where the first damage begins.
    damage: Option<u64>,
    /// Where the torn end begins.
    torn: Option<u64>,
    /// A row or a document lies behind the end of its file.
    cut: bool,
    /// The numbers that COMMITs name.
    manifests: Vec<u64>,
}

fn salvage(part: &SalvagedSegment, cross_deletes_of: u64) -> Result<Salvaged, Error> {
    let mut found = Salvaged::default();
    let hasher = IdHasher::new(&part.header.identity.uuid);
    let mut under = 0;
    scan(part, &mut |event| {
        let Salvaged { before, damage, torn, .. } = &mut found;
        let holds = damage.is_none() && torn.is_none();
        match event {
            LogEvent::Put { id, at, row, crc, doc } if holds => {
                let entry = RowEntry {
                    idx_at: u32::try_from(at).expect("below"),
                    crc,
                    hash: half(hasher.hash(id)),
                    doc,
                };
                assert_eq!(u64::from(row), before.rows.len() as u64, "rows are told in their order");
                before.rows.push(entry);
                found.cut |= part.header.row_start(u64::from(row) + 1) > part.dat_len
                    || doc.at + u64::from(doc.len) > part.jsonl_len;
            }
            LogEvent::Delete { at, sure, .. } if holds => {
                assert!(sure, "before any damage");
                before.deletes.push(at);
            }
            LogEvent::CrossSegmentDelete { segment, row } if holds && under == cross_deletes_of => {
                before.cross_deletes.push((segment, row))
            }
            LogEvent::Commit(commit) if holds => {
                under = commit.manifest;
                found.manifests.push(under);
            }
            LogEvent::Damage { bytes, .. } => *damage = damage.or(Some(bytes.start)),
            LogEvent::Torn { at, .. } => *torn = torn.or(Some(at)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

fn said(found: &Recovered) -> Said {
    Said {
        rows: (0..found.position.rows).filter_map(|row| found.rows.entry(row)).collect(),
        deletes: found.deletes.iter().map(|delete| delete.idx_at.into()).collect(),
        cross_deletes: found.cross_deletes.iter().map(|kill| (kill.segment, kill.row)).collect(),
    }
}

/// How often what was seen.
#[derive(Debug, Default)]
struct Counts {
    whole: u32,
    torn: u32,
    damaged: u32,
    cut: u32,
    unsupported: u32,
}

/// The logs of an image: the walk to the end of the file, and what an opening makes of it.
fn compare(image: &Image, what: &str, counts: &mut Counts) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(image));
    let dir = directory::open(&disk, Path::new(DIR)).expect("there");
    for number in 1..10 {
        let Ok(found) = probe(&dir, number) else { continue };
        // Without either header no opening comes as far as the log.
        let Some(header) = found.in_dat.filter(|dat| found.in_idx.is_some_and(|idx| idx.header == *dat))
        else {
            continue;
        };
        let Ok(part) = SalvagedSegment::of(&dir, found, header) else { continue };
        if part.files().is_some() {
            let what = format!("{what}, segment {number}");
            compare_walks(&part, &what, counts);
            compare_verdicts(part, &what, counts);
        }
    }
}

/// Every batch counts that holds.
fn compare_walks(part: &SalvagedSegment, what: &str, counts: &mut Counts) {
    let files = part.files().expect("there");
    let all = SegmentExtent {
        dat_len: u64::MAX,
        idx_len: u64::MAX,
        jsonl_len: u64::MAX,
        ..SegmentExtent::default()
    };
    let salvaged = salvage(part, 0);
    let manifests = salvaged.as_ref().map_or(vec![0], |salvaged| [&[0], &salvaged.manifests[..]].concat());
    for manifest in manifests {
        let (found, broken) = match recover::read_up_to(&files, &all, manifest, &mut to_the_end) {
            Ok(found) => found,
            Err(Error::Unsupported { .. }) => {
                assert!(matches!(salvaged, Err(Error::Unsupported { .. })), "{what}: only opening refuses");
                counts.unsupported += 1;
                return;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        // Something newer may stand behind where the opening stops.
        let Ok(salvaged) = salvage(part, manifest) else {
            assert!(broken.is_some(), "{what}: only salvaging refuses");
            return;
        };
        assert_eq!(salvaged.before, said(&found), "{what}");
        let why = match broken {
            Some(Error::Corrupt { offset, .. }) => Some(offset),
            Some(error) => panic!("{what}: {error}"),
            None => (found.position.seq < part.last_seq).then_some(found.position.idx_end),
        };
        assert_eq!(salvaged.damage.or(salvaged.torn), why, "{what}: {salvaged:?}");
    }
}

/// An opening also says which of the batches that do not hold were durable.
fn compare_verdicts(mut part: SalvagedSegment, what: &str, counts: &mut Counts) {
    let files = part.files().expect("there");
    part.last_seq = 0;
    let opened = recover::recover(&files, None, 0);
    let all = part.idx_len;
    if part.cut_to_what_counts().is_err() {
        assert!(matches!(opened, Err(Error::Unsupported { .. })), "{what}");
        return;
    }
    part.cut = all - part.idx_len;
    match (opened, salvage(&part, 0)) {
        (Ok(found), Ok(salvaged)) => {
            assert_eq!(salvaged.before, said(&found), "{what}");
            let end = (found.report.dropped_idx_bytes > 0).then_some(found.position.idx_end);
            assert_eq!((salvaged.damage, salvaged.torn), (None, end), "{what}");
            counts.whole += u32::from(end.is_none());
            counts.torn += u32::from(end.is_some());
        }
        (Err(Error::Corrupt { path, offset, .. }), Ok(salvaged)) if path == files.idx.path => {
            assert_eq!(salvaged.damage, Some(offset), "{what}");
            counts.damaged += 1;
        }
        (Err(Error::Corrupt { .. }), Ok(salvaged)) => {
            assert!(salvaged.cut, "{what}: {salvaged:?}");
            counts.cut += 1;
        }
        (Err(Error::Corrupt { .. } | Error::Unsupported { .. }), Err(Error::Unsupported { .. })) => {}
        (opened, salvaged) => panic!("{what}: {:?} {:?}", opened.err(), salvaged.err()),
    }
}

/// Repaired, a store shows what it shows when it opens; what is not whole is told of.
fn compare_content(image: &Image, what: &str) -> bool {
    let store = VectorStore::open_read_only_on(Arc::new(SimDisk::new(image)), Path::new(DIR));
    let Ok(store) = store else { return false };
    if !store.verify().is_ok_and(|report| report.is_ok()) {
        return false;
    }
    let mut shown = Content::new();
    for item in store.snapshot().expect("opened").iter() {
        let (id, vector) = item.expect("verified");
        let document = store.get_document(&id).expect("verified");
        shown.insert(id, (vector.iter().map(|x| x.to_bits()).collect(), document));
    }
    let (report, content) = repaired(image).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(content, shown, "{what}: {report:?}");
    true
}

#[test]
fn of_damaged_logs_opening_and_salvage_count_the_same_batches() {
    let (mut counts, mut random) = (Counts::default(), Random(31));
    let mut shown = 0;
    for made in [plain(), rich()] {
        for image in [&made.image, &without_ids(&made.image)] {
            compare(image, "as it is", &mut counts);
            for name in names(image, ".idx") {
                for at in 304..image.files[&file(&name)].len() {
                    let flipped = changed(image, &name, |bytes| bytes[at] ^= 1 << random.below(8));
                    let cut = changed(image, &name, |bytes| bytes.truncate(at));
                    compare(&flipped, &format!("{name} byte {at}"), &mut counts);
                    compare(&cut, &format!("{name} cut to {at}"), &mut counts);
                }
            }
            let files: Vec<PathBuf> =
                image.files.keys().filter(|path| path.starts_with(DIR)).cloned().collect();
            for case in 0..1000 {
                let mut image = image.clone();
                for _ in 0..=random.below(3) {
                    let bytes = image.files.get_mut(&files[random.below(files.len())]).expect("there");
                    damage(bytes, &mut random);
                }
                let what = format!("case {case}");
                compare(&image, &what, &mut counts);
                shown += u32::from(case % 5 == 0 && compare_content(&image, &what));
            }
        }
    }
    println!("{counts:?}, {shown} opened");
    let Counts { whole, torn, damaged, cut, .. } = counts;
    assert!(whole > 1000 && torn > 1000 && damaged > 1000 && cut > 50 && shown > 10, "{counts:?}, {shown}");
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    let some = 1 + random.below(40);
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_within(at.min(bytes.len())..),
        2 => bytes.insert(at.min(bytes.len()), 0x5A),
        3 => _ = bytes.drain(at.min(bytes.len())..(at + some).min(bytes.len())),
        4 => bytes.iter_mut().skip(at).take(some).for_each(|byte| *byte = 0),
        _ => bytes.iter_mut().skip(at).take(some).for_each(|byte| *byte ^= 0xA5),
    }
}

#[test]
fn of_forged_logs_opening_and_salvage_count_the_same_batches() {
    let mut counts = Counts::default();
    for (what, image) in forged::forged() {
        compare(&image, &what, &mut counts);
        compare(&without_ids(&image), &what, &mut counts);
    }
    println!("{counts:?}");
    let Counts { whole, damaged, unsupported, .. } = counts;
    let few = std::env::var_os("VECSTONE_CASES").is_some();
    assert!(few || whole > 1000 && damaged > 300 && unsupported > 50, "{counts:?}");
}
