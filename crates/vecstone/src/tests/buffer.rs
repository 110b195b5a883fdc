//! The write buffer against a plain list of all changes.

use crate::buffer::{Buffer, BufferSnapshot, Change, Chunk, Group, Memory, Op, Prepared};
use crate::types::document::Document;
use crate::types::id::IdHasher;
use std::collections::BTreeMap;
use std::time::Instant;

/// 13 rows fill the smallest chunk.
const DIM: usize = 600;

/// A put of a row of that number with a document, or a delete.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    id: Vec<u8>,
    put: Option<(f32, Document<String>)>,
}

/// All changes ever made, in order, and where batches end.
#[derive(Debug, Default)]
struct Model {
    ops: Vec<Made>,
    ends: Vec<usize>,
    first: usize,
}

impl Model {
    fn latest(&self) -> BTreeMap<&[u8], usize> {
        (self.first..self.ops.len()).map(|n| (&*self.ops[n].id, n)).collect()
    }

    /// What a snapshot of now must show, always.
    fn snapshot(&self) -> Vec<(u64, Made)> {
        let mut numbers: Vec<usize> = self.latest().into_values().collect();
        numbers.sort_unstable();
        numbers.into_iter().map(|n| (n as u64, self.ops[n].clone())).collect()
    }

    fn data(&self, ops: std::ops::Range<usize>) -> u64 {
        let bytes = |made: &Made| {
            let put = made.put.as_ref();
            let document = put.and_then(|(_, document)| document.as_deref().json()).map_or(0, str::len);
            made.id.len() + document + put.map_or(0, |_| DIM * 4)
        };
        self.ops[ops].iter().map(bytes).sum::<usize>() as u64
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("small")
    }

    fn change(&mut self) -> Made {
        let mut id = format!("id{}", self.below(200)).into_bytes();
        if id.ends_with(b"9") {
            id.resize(2000, b'x'); // fills a small chunk before rows do
        }
        let document = match self.below(40) {
            0 => Document::Json("7".repeat(40_000)),
            n @ 1..20 => Document::Json("8".repeat(n)),
            20..24 => Document::None,
            _ => Document::Keep,
        };
        #[allow(clippy::cast_precision_loss)]
        let put = (self.below(4) > 0).then(|| (self.below(1000) as f32, document));
        Made { id, put }
    }
}

fn hash(id: &[u8]) -> u64 {
    IdHasher::new(&[3; 16]).hash(id) % 64 // collides
}

fn made(chunk: &Chunk, op: &Op) -> Made {
    let put = chunk.vector(op).map(|row| {
        assert!(row.len() == DIM && row.iter().all(|&x| x == row[0]));
        let at = op.row().expect("a put");
        assert_eq!(&chunk.vectors_of(0..chunk.ops().len())[at * DIM..][..DIM], row);
        let document = match chunk.document(op) {
            Document::Keep => Document::Keep,
            Document::None => Document::None,
            Document::Json(text) => Document::Json(text.to_owned()),
        };
        (row[0], document)
    });
    assert_eq!(put.is_some(), op.is_put());
    Made { id: chunk.id(op).to_vec(), put }
}

fn push(buffer: &mut Buffer, batch: &[Made], prepared: bool) {
    let rows: Vec<Vec<f32>> =
        batch.iter().map(|made| vec![made.put.as_ref().map_or(0.0, |put| put.0); DIM]).collect();
    let changes = batch.iter().zip(&rows).map(|(made, row)| Change {
        hash: hash(&made.id),
        id: &made.id,
        put: made.put.as_ref().map(|(_, document)| (&row[..], document.as_deref())),
    });
    if prepared {
        let memory = buffer.take_pool(batch.len());
        buffer.push_prepared(Prepared::new(DIM, changes, memory));
    } else {
        buffer.push(changes);
    }
}

fn check(buffer: &Buffer, model: &Model) {
    assert_eq!((buffer.first(), buffer.next()), (model.first as u64, model.ops.len() as u64));
    let count = buffer.next() - buffer.first();
    assert_eq!(buffer.is_empty(), count == 0);
    assert_eq!(buffer.bytes(), model.data(model.first..model.ops.len()) + 32 * count);
    let latest = model.latest();
    for made_before in &model.ops {
        let id = &made_before.id[..];
        let found = buffer.find(hash(id), id).map(|found| made(found.chunk, found.op));
        assert_eq!(found, latest.get(id).map(|&n| model.ops[n].clone()));
    }
    assert!(buffer.find(0, b"never").is_none());
}

fn check_snapshot(snapshot: &BufferSnapshot, want: &[(u64, Made)]) {
    let got: Vec<_> = snapshot.latest().map(|(number, chunk, op)| (number, made(chunk, op))).collect();
    assert_eq!(got, want);
    assert_eq!(snapshot.puts(), want.iter().filter(|(_, made)| made.put.is_some()).count() as u64);
    for (_, want) in want {
        let found = snapshot.find(hash(&want.id), &want.id).expect("it is there");
        assert_eq!(&made(found.chunk, found.op), want);
    }
    assert!(snapshot.find(0, b"never").is_none());
}

fn check_group(group: &Group, model: &Model, max: u64) {
    let end = usize::try_from(group.next).expect("small");
    let ops = group
        .parts
        .iter()
        .flat_map(|(chunk, range)| chunk.ops()[range.clone()].iter().map(|op| made(chunk, op)));
    assert_eq!(ops.collect::<Vec<_>>(), model.ops[model.first..end]);
    assert!(group.parts.iter().all(|(_, range)| !range.is_empty()));
    assert_eq!(group.bytes, model.data(model.first..end));
    let mut ends = model.ends.iter().copied().filter(|&end| end > model.first);
    let fits = |end: &usize| model.data(model.first..*end) <= max;
    let first = ends.next().expect("a batch");
    assert_eq!(end, ends.take_while(fits).last().unwrap_or(first));
}

#[test]
fn as_a_list_of_changes() {
    for seed in 1..40u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut buffer, mut model) = (Buffer::new(DIM), Model::default());
        let mut snapshots: Vec<(BufferSnapshot, Vec<(u64, Made)>)> = Vec::new();
        let mut groups: Vec<Group> = Vec::new();
        for _ in 0..150 {
            match random.below(12) {
                0..6 => {
                    let most = if random.below(4) == 0 { 60 } else { 3 };
                    let batch: Vec<Made> = (0..random.below(most)).map(|_| random.change()).collect();
                    push(&mut buffer, &batch, random.below(4) == 0);
                    model.ops.extend(batch);
                    model.ends.push(model.ops.len());
                    model.ends.dedup();
                }
                6..8 => snapshots.push((buffer.snapshot(), model.snapshot())),
                8..11 => {
                    let max = random.below(600_000) as u64;
                    let Some(group) = buffer.group(max, u64::MAX) else {
                        assert!(buffer.is_empty());
                        continue;
                    };
                    check_group(&group, &model, max);
                    if random.below(2) == 0 {
                        buffer.remove(group.next);
                        model.first = usize::try_from(group.next).expect("small");
                        groups.push(group);
                    }
                }
                _ => {
                    _ = (random.below(2) == 0).then(|| snapshots.clear());
                    groups.clear();
                    _ = (random.below(4) == 0).then(|| buffer.release());
                    if random.below(4) == 0 {
                        buffer.remove(buffer.next());
                        model.first = model.ops.len();
                    }
                }
            }
            check(&buffer, &model);
        }
        check_snapshot(&buffer.snapshot(), &model.snapshot());
        snapshots.iter().for_each(|(snapshot, want)| check_snapshot(&snapshot.clone(), want));
    }
}

#[test]
fn a_replaced_change_shows_in_earlier_views_only() {
    let mut buffer = Buffer::new(DIM);
    let put = |row: f32| Made { id: b"a".to_vec(), put: Some((row, Document::Keep)) };
    let delete = Made { id: b"a".to_vec(), put: None };
    push(&mut buffer, &[put(1.0)], false);
    let one = buffer.snapshot();
    push(&mut buffer, &[put(2.0)], false);
    let two = buffer.snapshot();
    push(&mut buffer, std::slice::from_ref(&delete), false);
    let three = buffer.snapshot();
    buffer.remove(2);
    let four = buffer.snapshot();
    buffer.remove(buffer.next());
    check_snapshot(&one, &[(0, put(1.0))]);
    check_snapshot(&two, &[(1, put(2.0))]);
    check_snapshot(&three, &[(2, delete.clone())]);
    check_snapshot(&four, &[(2, delete)]);
    check_snapshot(&buffer.snapshot(), &[]);
    check_snapshot(&BufferSnapshot::default(), &[]);
}

/// Rounds of puts, as a writer removes them while it still holds them, take no more memory than the first few.
#[test]
fn memory_is_used_again() {
    let mut buffer = Buffer::new(768);
    let row = vec![1.0f32; 768];
    let mut most = Vec::new();
    for round in 0..12u64 {
        let ids: Vec<[u8; 8]> = (0..3000).map(|n| (round * 3000 + n).to_le_bytes()).collect();
        let changes =
            || ids.iter().map(|id| Change { hash: hash64(id), id, put: Some((&row, Document::Keep)) });
        let mut heap = 0;
        if round % 2 == 0 {
            changes().for_each(|change| buffer.push(std::iter::once(change)));
        } else {
            let memory = buffer.take_pool(ids.len());
            buffer.push_prepared(Prepared::new(768, changes(), memory));
        }
        while let Some(group) = buffer.group(4 << 20, u64::MAX) {
            heap = heap.max(buffer.heap());
            buffer.remove(group.next);
        }
        most.push(heap);
    }
    assert!(most[4..].iter().all(|heap| *heap <= most[3]), "{most:?}");
    assert!(most[3] < 16 << 20, "{most:?}");
    buffer.release();
    assert!(buffer.heap() < 1024, "{}", buffer.heap());
}

/// A search after each put, whose snapshot is kept for a while, takes little memory.
#[test]
fn views_of_single_puts_are_small() {
    let mut buffer = Buffer::new(768);
    let row = vec![1.0f32; 768];
    let snapshots: Vec<BufferSnapshot> = (0..200u64)
        .map(|n| {
            let id = n.to_le_bytes();
            buffer.push(std::iter::once(Change {
                hash: hash64(&id),
                id: &id,
                put: Some((&row, Document::Keep)),
            }));
            buffer.snapshot()
        })
        .collect();
    assert_eq!(snapshots.last().map(BufferSnapshot::puts), Some(200));
    assert!(buffer.heap() < 200 * 8_000, "{}", buffer.heap());
}

/// As many snapshots as changes, all kept: small chunks are copied, and no snapshot changes by it.
#[test]
fn views_of_single_changes() {
    let (mut buffer, mut model, mut random) = (Buffer::new(DIM), Model::default(), Random(5));
    let mut snapshots = Vec::new();
    for n in 1..300u32 {
        let change = random.change();
        push(&mut buffer, std::slice::from_ref(&change), false);
        model.ops.push(change);
        model.ends.push(model.ops.len());
        snapshots.push((buffer.snapshot(), model.snapshot()));
        if n % 70 == 0 {
            let group = buffer.group(50_000, u64::MAX).expect("a batch");
            check_group(&group, &model, 50_000);
            buffer.remove(group.next);
            model.first = usize::try_from(group.next).expect("small");
        }
        check(&buffer, &model);
    }
    snapshots.iter().for_each(|(snapshot, want)| check_snapshot(snapshot, want));
}

/// More than a chunk's arrays take: ids of 65,536 bytes, rows and documents of more than 1 MiB.
#[test]
fn large_changes() {
    let dim = 300_000;
    let (row, document) = (vec![1.0f32; dim], "5".repeat(9 << 20));
    let ids: Vec<Vec<u8>> = (0..3u8).map(|n| vec![n; 65_536]).collect();
    let mut buffer = Buffer::new(dim);
    let changes =
        || ids.iter().map(|id| Change { hash: hash64(id), id, put: Some((&row, Document::Json(&document))) });
    buffer.push(changes());
    buffer.push_prepared(Prepared::new(dim, changes(), Memory::default()));
    let group = buffer.group(1, u64::MAX).expect("a batch");
    assert_eq!((group.next, group.bytes), (3, 3 * (1_200_000 + (9 << 20) + 65_536)));
    for id in &ids {
        let found = buffer.find(hash64(id), id).expect("it is there");
        assert_eq!(found.chunk.vector(found.op), Some(&row[..]));
        assert_eq!(found.chunk.document(found.op), Document::Json(&document[..]));
    }
    buffer.remove(buffer.next());
    assert!(buffer.heap() < 1 << 20, "a chunk with a large document is not kept");
}

fn hash64(id: &[u8]) -> u64 {
    IdHasher::new(&[3; 16]).hash(id)
}

#[test]
#[ignore = "prints times"]
#[allow(clippy::cast_precision_loss)]
fn time_of_a_put() {
    const PUTS: usize = 15_000;
    let rows: Vec<f32> = (0..PUTS * 768).map(|n| n as f32).collect();
    let ids: Vec<[u8; 16]> = (0..PUTS as u128).map(u128::to_le_bytes).collect();
    let hashes: Vec<u64> = ids.iter().map(|id| hash64(id)).collect();
    let each = |start: Instant| start.elapsed().as_nanos() as f64 / PUTS as f64;
    for warm in [false, true] {
        let mut buffer = Buffer::new(768);
        for round in 0..6 {
            let start = Instant::now();
            for (n, id) in ids.iter().enumerate() {
                let vector = if warm { &rows[..768] } else { &rows[n * 768..(n + 1) * 768] };
                buffer.push(std::iter::once(Change {
                    hash: hashes[n],
                    id,
                    put: Some((vector, Document::Keep)),
                }));
            }
            let put = each(start);
            let start = Instant::now();
            let found = (0..PUTS).filter(|n| {
                let n = n * 7919 % PUTS;
                buffer.find(hashes[n], &ids[n]).is_some()
            });
            assert_eq!(found.count(), PUTS);
            let find = each(start);
            let start = Instant::now();
            while let Some(group) = buffer.group(8 << 20, u64::MAX) {
                buffer.remove(group.next);
            }
            let removed = each(start);
            let start = Instant::now();
            let memory = buffer.take_pool(PUTS);
            let changes = ids.iter().zip(&hashes).zip(rows.chunks(768));
            let changes =
                changes.map(|((id, &hash), row)| Change { hash, id, put: Some((row, Document::Keep)) });
            let batch = Prepared::new(768, changes, memory);
            let prepared = each(start);
            let start = Instant::now();
            buffer.push_prepared(batch);
            let linked = each(start);
            let start = Instant::now();
            let snapshot = buffer.snapshot();
            let sum: f32 =
                snapshot.latest().filter_map(|(_, chunk, op)| chunk.vector(op)).map(|row| row[0]).sum();
            let scanned = each(start);
            buffer.remove(buffer.next());
            eprintln!(
                "warm {warm}, round {round}: put {put:.0} ns, find {find:.0}, remove {removed:.0}, \
                 prepare {prepared:.0}, link {linked:.0}, scan {scanned:.1} ({sum}), heap {} MiB",
                buffer.heap() >> 20
            );
        }
    }
}

/// A writer always holds a group while puts go on, and searches look now and then.
#[test]
#[ignore = "prints times"]
#[allow(clippy::cast_precision_loss)]
fn time_of_a_put_beside_a_writer() {
    let row = vec![1.0f32; 768];
    for (every, search) in
        [(2000u64, u64::MAX), (100, u64::MAX), (10, u64::MAX), (1, u64::MAX), (2000, 10), (2000, 1)]
    {
        let mut buffer = Buffer::new(768);
        let mut held: Option<Group> = None;
        let mut snapshot = BufferSnapshot::default();
        let (mut start, puts) = (Instant::now(), 100_000u64);
        for n in 0..2 * puts {
            if n == puts {
                start = Instant::now();
            }
            let id = n.to_le_bytes();
            let hash = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            buffer.push(std::iter::once(Change { hash, id: &id, put: Some((&row, Document::Keep)) }));
            if n % search == search - 1 {
                snapshot = buffer.snapshot();
            }
            if n % every == every - 1 {
                if let Some(next) = held.take().map(|group| group.next) {
                    buffer.remove(next);
                }
                held = buffer.group(8 << 20, u64::MAX);
            }
        }
        let each = start.elapsed().as_nanos() as f64 / puts as f64;
        eprintln!(
            "group every {every}, snapshot every {search}: {each:.0} ns, heap {} MiB ({})",
            buffer.heap() >> 20,
            snapshot.puts()
        );
    }
}
