//! The write buffer: changes that are accepted and not yet in the files, in order, in batches that are all or nothing.
//!
//! It lies behind its owner's mutex. What is handed out — versions for searches, groups for the writer — shares the chunks:
//! a chunk is appended to only while nobody else holds it, so that what was handed out never changes.

use crate::types::document::Document;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

pub(crate) mod batch;
mod chunk;

use chunk::Slot;
pub(crate) use chunk::{Change, Chunk, Op};

/// Bytes of rows in a full chunk; neither its ids, its documents nor its ops take more, but for a single larger one.
const FULL: usize = 1 << 20;
/// The same for the first chunk, and after one that was shared when nearly empty; the next ones double.
const SMALL: usize = 32 << 10;
/// With more chunks than these, a small one that is shared is copied rather than followed by another.
const BRIEF: usize = 16;
/// Bytes of chunks kept for reuse. Fresh memory costs a page fault every 4 KiB, more than the copy itself.
const POOL: u64 = 64 << 20;
const OP_BYTES: usize = size_of::<Op>();

/// The newest change of an id: a put or a delete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) number: u64,
    pub(crate) chunk: &'a Chunk,
    pub(crate) op: &'a Op,
}

/// Where a batch ends.
#[derive(Debug)]
struct Batch {
    /// Number of the op after it.
    next: u64,
    /// Its rows, ids and documents.
    bytes: u64,
}

/// Changes that are accepted and not yet in the files.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    dim: usize,
    /// In order of their first ops, without gaps. The first may hold removed ops, the last may have room.
    slots: VecDeque<Slot>,
    batches: VecDeque<Batch>,
    /// Number of the newest op of each id, found by the hash of the id.
    table: HashTable<u64>,
    first: u64,
    next: u64,
    /// Ids whose newest change is a put.
    puts: u64,
    /// Rows, ids and documents of all batches.
    bytes: u64,
    /// What the next chunk may hold.
    limit: usize,
    /// Full-size chunks kept for reuse; versions and groups may still hold some of them.
    pool: Vec<Arc<Chunk>>,
    pooled: u64,
}

impl Buffer {
    /// An empty buffer for rows of `dim` components.
    pub(crate) fn new(dim: usize) -> Buffer {
        Buffer { dim, limit: SMALL, ..Buffer::default() }
    }

    /// Appends a batch.
    pub(crate) fn push<'a>(&mut self, changes: impl Iterator<Item = Change<'a>>) {
        let mut bytes = 0;
        for change in changes {
            let open = self.slots.back_mut().and_then(|slot| Arc::get_mut(&mut slot.chunk));
            bytes += match open.and_then(|chunk| chunk.append(&change)) {
                Some(bytes) => bytes,
                None => self.append_to_new(&change),
            };
            self.link();
        }
        self.end_batch(bytes);
    }

    /// Appends a batch whose rows were copied outside of the lock. O(ops), whatever `dim` is.
    pub(crate) fn push_prepared(&mut self, batch: Prepared) {
        let ops = batch.chunks.iter().map(|chunk| chunk.ops.len()).sum();
        let slots = &self.slots;
        self.table.reserve(ops, |&number| locate(slots, number).1.hash);
        for mut chunk in batch.chunks {
            Arc::get_mut(&mut chunk).expect("a prepared chunk is not shared").first = self.next;
            let ops = chunk.ops.len();
            self.slots.push_back(Slot { chunk, superseded: None });
            (0..ops).for_each(|_| self.link());
        }
        self.end_batch(batch.bytes);
        batch.spare.0.into_iter().for_each(|chunk| self.recycle(chunk));
    }

    /// Lends memory kept for reuse, at most as much as `rows` rows take, for [`Prepared::new`].
    pub(crate) fn take_pool(&mut self, rows: usize) -> Memory {
        let chunks = rows.div_ceil(self::rows(self.dim, FULL));
        Memory(std::iter::from_fn(|| self.reuse()).take(chunks).collect())
    }

    /// Bytes accepted and not yet removed: rows, ids, documents, and 32 for each change.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + (self.next - self.first) * OP_BYTES as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Number of the next op.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Number of the first op still here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The newest change of an id, if one is here. O(1).
    pub(crate) fn find(&self, hash: u64, id: &[u8]) -> Option<Found<'_>> {
        find(&self.table, &self.slots, hash, id)
    }

    /// The document that a change here leaves its id; `Keep`: that of the files. O(1).
    pub(crate) fn document(&self, number: u64) -> Document<&str> {
        document(&self.slots, self.first, number)
    }

    /// All there is now, unchanging. O(chunks).
    pub(crate) fn snapshot(&self) -> BufferSnapshot {
        let Buffer { first, next, puts, .. } = *self;
        BufferSnapshot { slots: self.slots.clone(), first, next, puts, table: Arc::default() }
    }

    /// The first batches: as many whole ones as `max_bytes` of rows, ids and documents and `max_ops` changes allow, but at
    /// least one. They stay until they are removed.
    pub(crate) fn group(&self, max_bytes: u64, max_ops: u64) -> Option<Group> {
        let mut batches = self.batches.iter();
        let Batch { mut next, mut bytes } = *batches.next()?;
        let mut several = false;
        for batch in batches {
            if bytes + batch.bytes > max_bytes || batch.next - self.first > max_ops {
                break;
            }
            bytes += batch.bytes;
            next = batch.next;
            several = true;
        }
        let numbers = self.first..next;
        let slots = self.slots.iter().take_while(|slot| slot.chunk.first < next);
        let parts = slots.map(|slot| (Arc::clone(&slot.chunk), slot.places(&numbers))).collect();
        Some(Group { parts, next, bytes, several })
    }

    /// Removes the ops before `next`, the end of a group. Memory still held elsewhere is used again later.
    pub(crate) fn remove(&mut self, next: u64) {
        let mut end = self.first;
        while let Some(batch) = self.batches.front().filter(|batch| batch.next <= next) {
            end = batch.next;
            self.bytes -= batch.bytes;
            self.batches.pop_front();
        }
        assert_eq!(end, next, "a group ends at a batch's end");
        if next == self.next && index(next - self.first) >= self.table.capacity() / 8 {
            self.table.clear(); // O(capacity), but much cheaper for each id
            self.puts = 0;
        } else {
            self.unlink(self.first..next);
        }
        self.first = next;
        while self.slots.front().is_some_and(|slot| slot.chunk.end() <= next) {
            self.slots.pop_front().into_iter().for_each(|slot| self.recycle(slot.chunk));
        }
    }

    /// Forgets everything, whatever state a panic left it in.
    pub(crate) fn reset(&mut self) {
        let next = self.next;
        *self = Buffer { first: next, next, ..Buffer::new(self.dim) };
    }

    /// Gives the memory kept for reuse back to the system.
    pub(crate) fn release(&mut self) {
        (self.pool, self.pooled, self.limit) = (Vec::new(), 0, SMALL);
        self.batches.shrink_to_fit();
        self.slots.shrink_to_fit();
        let slots = &self.slots;
        self.table.shrink_to_fit(|&number| locate(slots, number).1.hash);
    }

    /// Bytes on the heap, kept ones included.
    pub(crate) fn heap(&self) -> u64 {
        let bits = |slot: &Slot| slot.superseded.as_ref().map_or(0, |bits| bits.capacity() * 8);
        let chunks: u64 = self.slots.iter().map(|slot| slot.chunk.heap() + bits(slot) as u64).sum();
        let lists = self.slots.capacity() * size_of::<Slot>() + self.batches.capacity() * size_of::<Batch>();
        chunks + self.pooled + (lists + self.table.allocation_size()) as u64
    }

    /// Appends to a new chunk: the last has no room, or someone looks at it.
    fn append_to_new(&mut self, change: &Change<'_>) -> u64 {
        let many = self.slots.len() > BRIEF;
        if let Some(Slot { chunk, .. }) = self.slots.back_mut() {
            if many && chunk.has_room(change, SMALL) {
                // It is shared. Views taken after every put must not leave a chunk for every put.
                let mut copy = chunk.copy(SMALL);
                let bytes = copy.append(change).expect("there is room");
                let shared = std::mem::replace(chunk, Arc::new(copy));
                self.recycle(shared);
                return bytes;
            }
            // Nor may versions now and then make each chunk after them reserve 1 MiB.
            let filled = chunk.used().next_power_of_two();
            self.limit = if filled < chunk.limit { filled } else { chunk.limit * 2 }.clamp(SMALL, FULL);
        }
        let kept = if self.limit == FULL { self.reuse() } else { None };
        let mut shared = kept.unwrap_or_else(|| Arc::new(Chunk::new(self.dim, self.limit)));
        let bytes = start_chunk(&mut shared, self.next, change);
        self.slots.push_back(Slot { chunk: shared, superseded: None });
        bytes
    }

    /// Gives the op behind the last one its number and makes it the newest of its id. Its chunk is the last one, and not
    /// shared yet.
    fn link(&mut self) {
        let number = self.next;
        let slots = &self.slots;
        let chunk = &slots.back().expect("an op was appended").chunk;
        let op = chunk.ops[index(number - chunk.first)];
        let same = |&number: &u64| is(slots, number, op.hash, chunk.id(&op));
        let rehash = |&number: &u64| locate(slots, number).1.hash;
        match self.table.entry(op.hash, same, rehash) {
            Entry::Vacant(slot) => _ = slot.insert(number),
            Entry::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), number);
                let at = place(slots, old);
                let slot = &mut self.slots[at];
                let at = index(old - slot.chunk.first);
                let earlier = slot.chunk.ops[at];
                self.puts -= u64::from(earlier.is_put());
                slot.supersede(at);
                if op.keeps_document() {
                    self.set_before(number, old, earlier);
                }
            }
        }
        self.puts += u64::from(op.is_put());
        self.next += 1;
    }

    /// Notes for the last put, which keeps its document, who says what that is: `old`, the change of its id before it, or
    /// if that keeps it, too, whoever says it for that one.
    fn set_before(&mut self, number: u64, old: u64, earlier: Op) {
        let source = match (earlier.keeps_document(), u64::from(earlier.before)) {
            (true, 0) => return,
            (true, before) => old - before,
            (false, _) => old,
        };
        // What has left the buffer is in the files.
        if source < self.first {
            return;
        }
        let chunk = &mut self.slots.back_mut().expect("an op was appended").chunk;
        let chunk = Arc::get_mut(chunk).expect("a chunk that was just appended to is not shared");
        let at = index(number - chunk.first);
        chunk.ops[at].before = u32::try_from(number - source).expect("a buffer has fewer ops");
    }

    fn unlink(&mut self, numbers: Range<u64>) {
        let slots = self.slots.iter().take_while(|slot| slot.chunk.first < numbers.end);
        for (number, _, op) in slots.flat_map(|slot| slot.latest(numbers.clone())) {
            let entry = self.table.find_entry(op.hash, |&other| other == number);
            entry.expect("the newest op of an id is in the table").remove();
            self.puts -= u64::from(op.is_put());
        }
    }

    fn end_batch(&mut self, bytes: u64) {
        let before = self.batches.back().map_or(self.first, |batch| batch.next);
        if self.next > before {
            self.batches.push_back(Batch { next: self.next, bytes });
            self.bytes += bytes;
        }
    }

    /// Keeps a chunk for reuse, but for small ones and for those of a very large document.
    fn recycle(&mut self, chunk: Arc<Chunk>) {
        let heap = chunk.heap();
        if chunk.limit == FULL && heap <= 8 * FULL as u64 && self.pooled + heap <= POOL {
            self.pooled += heap;
            self.pool.push(chunk);
        }
    }

    /// An empty full-size chunk from the pool that nobody holds any more.
    fn reuse(&mut self) -> Option<Arc<Chunk>> {
        let at = self.pool.iter_mut().rposition(|chunk| Arc::get_mut(chunk).is_some())?;
        let mut chunk = self.pool.swap_remove(at);
        self.pooled -= chunk.heap();
        Arc::get_mut(&mut chunk)?.clear();
        Some(chunk)
    }
}

/// Memory lent by a buffer; it comes back with [`Buffer::push_prepared`].
#[derive(Debug, Default)]
pub(crate) struct Memory(Vec<Arc<Chunk>>);

/// A batch copied outside of the lock.
#[derive(Debug)]
pub(crate) struct Prepared {
    chunks: Vec<Arc<Chunk>>,
    bytes: u64,
    spare: Memory,
}

impl Prepared {
    /// Copies a batch into `memory`, and into fresh memory where that is not enough.
    pub(crate) fn new<'a>(dim: usize, changes: impl Iterator<Item = Change<'a>>, memory: Memory) -> Prepared {
        let mut batch = Prepared { chunks: Vec::new(), bytes: 0, spare: memory };
        for change in changes {
            let open = batch.chunks.last_mut().and_then(Arc::get_mut);
            let appended = open.and_then(|chunk| chunk.append(&change));
            batch.bytes += appended.unwrap_or_else(|| {
                let kept = batch.spare.0.pop();
                let mut chunk = kept.unwrap_or_else(|| Arc::new(Chunk::new(dim, FULL)));
                let bytes = start_chunk(&mut chunk, 0, &change);
                batch.chunks.push(chunk);
                bytes
            });
        }
        batch
    }
}

/// What was in the buffer at some time; it does not change. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct BufferSnapshot {
    slots: VecDeque<Slot>,
    first: u64,
    next: u64,
    puts: u64,
    /// As in the buffer; made when it is first needed.
    table: Arc<OnceLock<HashTable<u64>>>,
}

impl BufferSnapshot {
    /// The newest change of each id with its number, in the order of writing.
    pub(crate) fn latest(&self) -> impl Iterator<Item = (u64, &Chunk, &Op)> {
        self.slots.iter().flat_map(|slot| slot.latest(self.first..self.next))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Number of ids whose newest change is a put.
    pub(crate) fn puts(&self) -> u64 {
        self.puts
    }

    /// Number of the op after its last.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The document that a change here leaves its id; `Keep`: that of the files. O(1).
    pub(crate) fn document(&self, number: u64) -> Document<&str> {
        document(&self.slots, self.first, number)
    }

    /// An op that [`latest`](Self::latest) named.
    pub(crate) fn op(&self, number: u64) -> (&Chunk, &Op) {
        locate(&self.slots, number)
    }

    /// The newest change of an id, if one is here. The first call is O(changes), the others are O(1).
    pub(crate) fn find(&self, hash: u64, id: &[u8]) -> Option<Found<'_>> {
        let table = self.table.get_or_init(|| {
            let mut table = HashTable::with_capacity(self.latest().count());
            for (number, _, op) in self.latest() {
                table.insert_unique(op.hash, number, |_| unreachable!("there is room for all"));
            }
            table
        });
        find(table, &self.slots, hash, id)
    }
}

/// Whole batches for the writer.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Chunks, and which of their ops belong to the group.
    pub(crate) parts: Vec<(Arc<Chunk>, Range<usize>)>,
    /// Number of the op after the last.
    pub(crate) next: u64,
    /// Rows, ids and documents.
    pub(crate) bytes: u64,
    /// More than one batch.
    pub(crate) several: bool,
}

/// Rows of a chunk with arrays of `limit` bytes.
fn rows(dim: usize, limit: usize) -> usize {
    (limit / (dim.max(1) * size_of::<f32>())).clamp(1, limit / OP_BYTES)
}

/// Makes `change` the first of an empty chunk.
fn start_chunk(chunk: &mut Arc<Chunk>, first: u64, change: &Change<'_>) -> u64 {
    let chunk = Arc::get_mut(chunk).expect("a new chunk is not shared");
    chunk.first = first;
    chunk.append(change).expect("an empty chunk has room for any change")
}

/// Which slot holds an op.
fn place(slots: &VecDeque<Slot>, number: u64) -> usize {
    slots.partition_point(|slot| slot.chunk.first <= number) - 1
}

fn locate(slots: &VecDeque<Slot>, number: u64) -> (&Chunk, &Op) {
    let chunk = &*slots[place(slots, number)].chunk;
    (chunk, &chunk.ops[index(number - chunk.first)])
}

/// `first`: the first op that is still there.
fn document(slots: &VecDeque<Slot>, first: u64, number: u64) -> Document<&str> {
    let (chunk, op) = locate(slots, number);
    let source = number - u64::from(op.before);
    if op.before > 0 && source >= first {
        let (chunk, op) = locate(slots, source);
        return chunk.document(op);
    }
    chunk.document(op)
}

fn is(slots: &VecDeque<Slot>, number: u64, hash: u64, id: &[u8]) -> bool {
    let (chunk, op) = locate(slots, number);
    op.hash == hash && chunk.id(op) == id
}

fn find<'a>(table: &HashTable<u64>, slots: &'a VecDeque<Slot>, hash: u64, id: &[u8]) -> Option<Found<'a>> {
    let number = *table.find(hash, |&number| is(slots, number, hash, id))?;
    let (chunk, op) = locate(slots, number);
    Some(Found { number, chunk, op })
}

fn range(at: u32, len: u32) -> Range<usize> {
    at as usize..at as usize + len as usize
}

fn to_u32(place: usize) -> u32 {
    u32::try_from(place).expect("a chunk's arrays and a batch are shorter than 4 GiB")
}

fn index(ops: u64) -> usize {
    usize::try_from(ops).expect("what lies in memory can be counted")
}
