//! The door for lists of dead rows.

use crate::format::Fields;
use crate::format::deletions;
use crate::segment::deletion_vector::DeletionVector;
use std::collections::BTreeSet;

/// The rows of a segment (u32), then any bytes as its `.del`: refused, or the rows that the specification of portable
/// roaring bitmaps says.
pub fn del(input: &[u8]) {
    let Some((rows, bytes)) = input.split_first_chunk::<4>() else { return };
    let rows = u64::from(u32::from_le_bytes(*rows));
    let expected = naive(&mut Fields(bytes), bytes.len());
    let expected = expected.filter(|set| set.last().is_none_or(|&last| u64::from(last) < rows));
    let found = DeletionVector::from_roaring(bytes, rows);
    let Some(deletions) = found else {
        assert!(expected.is_none(), "a bitmap is refused");
        return;
    };
    let listed: Vec<u32> = deletions.dead_rows().collect();
    assert!(listed.iter().all(|&row| u64::from(row) < rows), "a row that is not there");
    assert!(listed.is_sorted() && listed.len() as u64 == deletions.dead());
    let expected = expected.expect("no bitmap, and taken for one");
    assert!(listed.iter().copied().eq(expected.iter().copied()), "{listed:?} {expected:?}");
    for row in listed.iter().flat_map(|&row| row.saturating_sub(1)..=row.saturating_add(1)) {
        assert_eq!(deletions.is_live(row), !expected.contains(&row), "row {row}");
    }
    let again = DeletionVector::from_roaring(&deletions.to_roaring(), rows).expect("its own bytes");
    assert!(again.dead_rows().eq(listed.iter().copied()));
    assert!(deletions.to_roaring().len() as u64 <= deletions::max_bytes(rows));
}

/// <https://github.com/RoaringBitmap/RoaringFormatSpec>, one field after the other.
fn naive(fields: &mut Fields<'_>, len: usize) -> Option<BTreeSet<u32>> {
    let cookie = fields.u32()?;
    let (containers, runs) = match cookie & 0xffff {
        12347 => {
            let containers = (cookie >> 16) as usize + 1;
            (containers, fields.bytes(containers.div_ceil(8))?)
        }
        12346 if cookie == 12346 => (fields.u32()? as usize, &[][..]),
        _ => return None,
    };
    if containers > len / 4 {
        return None;
    }
    let mut heads = Vec::new();
    for _ in 0..containers {
        heads.push((fields.u16()?, u32::from(fields.u16()?) + 1));
    }
    // Where each container begins, which they tell themselves.
    if runs.is_empty() || containers >= 4 {
        fields.bytes(4 * containers)?;
    }
    let ascend = heads.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let mut rows = BTreeSet::new();
    for (n, (key, count)) in heads.into_iter().enumerate() {
        let at = u32::from(key) << 16;
        let before = rows.len();
        let has_runs = runs.get(n / 8).is_some_and(|bits| bits >> (n % 8) & 1 == 1);
        if has_runs {
            let mut end = None;
            for _ in 0..fields.u16()? {
                let (start, more) = (u32::from(fields.u16()?), u32::from(fields.u16()?));
                if end.is_some_and(|end| start <= end) || start + more > 0xffff {
                    return None;
                }
                end = Some(start + more);
                rows.extend((start..=start + more).map(|low| at | low));
            }
        } else if count <= 4096 {
            let mut last = None;
            for _ in 0..count {
                let low = fields.u16()?;
                if last.is_some_and(|last| low <= last) {
                    return None;
                }
                last = Some(low);
                rows.insert(at | u32::from(low));
            }
        } else {
            let bits = fields.bytes(8192)?;
            rows.extend(
                (0..65_536u32)
                    .filter(|low| bits[(low / 8) as usize] >> (low % 8) & 1 == 1)
                    .map(|low| at | low),
            );
        }
        // Runs tell how many rows they have.
        if !has_runs && rows.len() - before != count as usize {
            return None;
        }
    }
    (ascend && fields.0.is_empty()).then_some(rows)
}
