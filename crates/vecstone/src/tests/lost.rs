//! Repair tells the truth: what is not as it was is counted, and what may be old is listed.

use super::model::Random;
use super::repair::{Content, Made, changed, check, deleted_in_del_only, file, names, plain, rich, without};
use crate::disk::sim::Image;
use crate::{Id, RepairReport};
use std::path::PathBuf;

/// Whatever differs from what was there is told of.
fn check_truth(made: &Made, image: &Image, what: &str) -> (RepairReport, Content) {
    let (report, content) = check(made, image);
    if report.is_whole() {
        assert_eq!(content, made.now, "{what}: {report:?}");
    }
    let vector = |content: &Content, id: &Id| content.get(id).map(|value| value.0.clone());
    for id in content.keys().filter(|id| vector(&content, id) != vector(&made.now, id)) {
        assert!(report.possibly_deleted.contains(id), "{what}: {id} is old and not listed: {report:?}");
    }
    let gone = made.now.iter().filter(|(id, value)| content.get(id) != Some(value)).count() as u64;
    assert!(report.dropped_total >= gone, "{what}: {gone} are gone: {report:?}");
    assert_eq!(report.dropped_total, report.dropped.len() as u64, "{what}");
    assert_eq!(report.possibly_deleted_total, report.possibly_deleted.len() as u64, "{what}");
    (report, content)
}

fn all(image: &Image) -> Vec<String> {
    let mut all = names(image, "");
    all.retain(|name| name != "LOCK");
    all
}

/// The files of the active segment.
fn active(image: &Image, suffix: &str) -> String {
    names(image, suffix).pop().unwrap_or_else(|| panic!("no {suffix}"))
}

#[test]
fn a_lost_log_of_the_active_segment_is_counted_and_older_rows_are_listed() {
    for made in [plain(), rich()] {
        let (idx, dat) = (active(&made.image, ".idx"), active(&made.image, ".dat"));
        let rows = (made.image.files[&file(&dat)].len() as u64 - 256) / 16;
        let zeros = |bytes: &mut Vec<u8>| bytes.fill(0);
        let noise = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x5A);
        let lost: [(&str, Image); 5] = [
            ("missing", without(&made, &[&idx])),
            ("empty", changed(&made.image, &idx, Vec::clear)),
            ("without a batch", changed(&made.image, &idx, |bytes| bytes.truncate(304))),
            ("zeros", changed(&made.image, &idx, zeros)),
            ("noise", changed(&made.image, &idx, noise)),
        ];
        for (what, image) in lost {
            let (report, content) = check_truth(&made, &image, what);
            assert!(report.dropped_total >= rows, "{what}: {report:?}");
            assert_eq!(report.possibly_deleted_total, content.len() as u64, "{what}: {report:?}");
        }
        let (report, content) = check_truth(&made, &without(&made, &[&idx, &dat]), "both missing");
        assert!(report.dropped_total > 0 && !report.is_whole());
        assert_eq!(report.possibly_deleted_total, content.len() as u64);
    }
}

#[test]
fn a_log_cut_anywhere_is_not_called_whole() {
    for made in [plain(), rich()] {
        for name in names(&made.image, ".idx") {
            let is_active = name == active(&made.image, ".idx");
            for cut in 0..made.image.files[&file(&name)].len() {
                let image = changed(&made.image, &name, |bytes| bytes.truncate(cut));
                let (report, content) = check_truth(&made, &image, &format!("{name} cut to {cut}"));
                let whole = content == made.now;
                assert!(whole || (!report.is_whole() && report.dropped_total > 0), "{name} cut to {cut}");
                let listed = report.possibly_deleted_total == content.len() as u64;
                assert!(whole || !is_active || listed, "{name} cut to {cut}: {report:?}");
            }
        }
    }
}

#[test]
fn every_missing_file_and_every_two_are_told_of() {
    for made in [plain(), rich()] {
        let all = all(&made.image);
        for (n, one) in all.iter().enumerate() {
            for other in &all[n..] {
                let mut image = made.image.clone();
                [one, other].iter().for_each(|name| _ = image.files.remove(&file(name)));
                if image.files.keys().any(|path| is_pair(path)) {
                    check_truth(&made, &image, &format!("without {one} and {other}"));
                }
            }
        }
    }
}

fn is_pair(path: &PathBuf) -> bool {
    path.extension().is_some_and(|suffix| suffix == "dat" || suffix == "idx")
}

#[test]
fn without_manifest_nothing_is_called_whole() {
    for made in [plain(), rich(), deleted_in_del_only()] {
        let (report, content) = check_truth(&made, &without(&made, &["MANIFEST"]), "no MANIFEST");
        assert_eq!((report.is_whole(), report.possibly_deleted_total), (false, content.len() as u64));
    }
}

/// More than one place only where that is not both files of a pair: then nothing that is left may tell.
#[test]
fn of_random_damage_the_truth_is_told() {
    let mut random = Random(23);
    for made in [plain(), rich()] {
        let all = all(&made.image);
        for case in 0..1000 {
            let (mut image, name) = (made.image.clone(), &all[random.below(all.len())]);
            for _ in 0..=random.below(2) {
                image = changed(&image, name, |bytes| damage(bytes, &mut random));
            }
            check_truth(&made, &image, &format!("case {case}: {name}"));
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_within(at.min(bytes.len())..),
        2 => bytes.iter_mut().skip(at).take(1 + random.below(400)).for_each(|byte| *byte = 0),
        3 => bytes.iter_mut().skip(at).for_each(|byte| *byte = 0x77),
        _ => bytes.iter_mut().skip(at).take(1 + random.below(9)).for_each(|byte| *byte ^= 0xA5),
    }
}
