//! The write buffer: changes that are accepted and not yet in the files, in order, in batches that are all or nothing.
//!
//! It lies behind its owner's mutex. What is handed out — views for searches, groups for the writer — shares the chunks:
//! a chunk is appended to only while nobody else holds it, so that what was handed out never changes.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes of rows in a full chunk; neither its ids, its documents nor its ops take more, but for a single larger one.
const FULL: usize = 1 << 20;
/// The same for the first chunk, and after one that was shared when nearly empty; the next ones double.
const SMALL: usize = 32 << 10;
/// With more chunks than these, a small one that is shared is copied rather than followed by another.
const FEW: usize = 16;
/// Bytes of chunks kept for reuse. Fresh memory costs a page fault every 4 KiB, more than the copy itself.
const POOL: u64 = 64 << 20;
const OP_BYTES: usize = size_of::<Op>();
const DELETE: u32 = u32::MAX;

/// A change to append; it is valid already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) hash: u64,
    pub(crate) id: &'a [u8],
    /// Row and document; `None`: a delete.
    pub(crate) put: Option<(&'a [f32], Option<&'a [u8]>)>,
}

/// One change in a chunk. The chunk tells its id, row and document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Op {
    pub(crate) hash: u64,
    id_at: u32,
    id_len: u32,
    /// Row within the chunk, or `DELETE`.
    row: u32,
    doc_at: u32,
    /// 0: no document.
    doc_len: u32,
}

impl Op {
    pub(crate) fn is_put(&self) -> bool {
        self.row != DELETE
    }

    /// Its row's number within the chunk.
    pub(crate) fn row(&self) -> Option<usize> {
        self.is_put().then_some(self.row as usize)
    }
}

/// Consecutive changes: at most about 1 MiB of rows. Unchanging while anyone but the buffer holds it.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    ops: Vec<Op>,
    ids: Vec<u8>,
    vectors: Vec<f32>,
    documents: Vec<u8>,
    /// Number of the first op, counted over the buffer's whole life.
    first: u64,
    dim: usize,
    /// Bytes that each of the arrays may take.
    limit: usize,
}

impl Chunk {
    fn new(dim: usize, limit: usize) -> Chunk {
        Chunk { dim, limit, ..Chunk::default() }
    }

    /// Its changes, in order.
    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn id(&self, op: &Op) -> &[u8] {
        &self.ids[range(op.id_at, op.id_len)]
    }

    /// The row of a put.
    pub(crate) fn vector(&self, op: &Op) -> Option<&[f32]> {
        let row = op.row()?;
        Some(&self.vectors[row * self.dim..(row + 1) * self.dim])
    }

    pub(crate) fn document(&self, op: &Op) -> Option<&[u8]> {
        (op.doc_len > 0).then(|| &self.documents[range(op.doc_at, op.doc_len)])
    }

    /// The rows of some of its ops, one after the other.
    pub(crate) fn vectors_of(&self, ops: Range<usize>) -> &[f32] {
        let mut rows = self.ops[ops].iter().filter_map(Op::row);
        let Some(first) = rows.next() else { return &[] };
        let last = rows.next_back().unwrap_or(first);
        &self.vectors[first * self.dim..(last + 1) * self.dim]
    }

    fn end(&self) -> u64 {
        self.first + self.ops.len() as u64
    }

    /// Whether a change fits, if its arrays may take `limit` bytes. An empty chunk has room for any.
    fn has_room(&self, change: &Change<'_>, limit: usize) -> bool {
        let (vector, document) = change.put.unwrap_or_default();
        let document = document.map_or(0, <[u8]>::len);
        self.ops.is_empty()
            || (self.ops.len() + 1) * OP_BYTES <= limit
                && self.vectors.len() + vector.len() <= rows(self.dim, limit) * self.dim
                && self.ids.len() + change.id.len() <= limit
                && (document == 0 || self.documents.len() + document <= limit)
    }

    /// Appends a change and returns its bytes, or `None` if it has no room for it.
    fn append(&mut self, change: &Change<'_>) -> Option<u64> {
        if !self.has_room(change, self.limit) {
            return None;
        }
        let (vector, document) = change.put.unwrap_or_default();
        let document = document.unwrap_or_default();
        if self.ops.is_empty() {
            self.ops.reserve(rows(self.dim, self.limit));
        }
        let mut row = DELETE;
        if change.put.is_some() {
            debug_assert_eq!(vector.len(), self.dim);
            if self.vectors.is_empty() {
                // At once: growing would copy rows again.
                self.vectors.reserve_exact(rows(self.dim, self.limit) * self.dim);
            }
            row = int(self.vectors.len() / self.dim);
            self.vectors.extend_from_slice(vector);
        }
        self.ops.push(Op {
            hash: change.hash,
            id_at: int(self.ids.len()),
            id_len: int(change.id.len()),
            row,
            doc_at: int(self.documents.len()),
            doc_len: int(document.len()),
        });
        self.ids.extend_from_slice(change.id);
        self.documents.extend_from_slice(document);
        Some((size_of_val(vector) + change.id.len() + document.len()) as u64)
    }

    /// A copy that may be appended to, up to `limit`.
    fn copy(&self, limit: usize) -> Chunk {
        let mut vectors = Vec::with_capacity(rows(self.dim, limit) * self.dim);
        vectors.extend_from_slice(&self.vectors);
        let (ops, ids, documents) = (self.ops.clone(), self.ids.clone(), self.documents.clone());
        Chunk { ops, ids, vectors, documents, limit, ..*self }
    }

    fn clear(&mut self) {
        self.ops.clear();
        self.ids.clear();
        self.vectors.clear();
        self.documents.clear();
    }

    /// Bytes of the fullest of its arrays.
    fn used(&self) -> usize {
        let (ops, floats) = (self.ops.len() * OP_BYTES, self.vectors.len() * 4);
        ops.max(floats).max(self.ids.len()).max(self.documents.len())
    }

    fn heap(&self) -> u64 {
        let floats = self.vectors.capacity() * 4;
        (self.ops.capacity() * OP_BYTES + self.ids.capacity() + floats + self.documents.capacity()) as u64
    }
}

/// A chunk in its place.
#[derive(Debug, Clone)]
struct Slot {
    chunk: Arc<Chunk>,
    /// One bit an op: a later op has the same id. Beside the chunk, because a shared chunk must not change; a copy of it
    /// for each chunk, because it is copied when it changes after a view was taken.
    superseded: Option<Arc<Vec<u64>>>,
}

impl Slot {
    fn is_superseded(&self, at: usize) -> bool {
        let word = self.superseded.as_ref().and_then(|bits| bits.get(at / 64));
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn supersede(&mut self, at: usize) {
        let bits = Arc::make_mut(self.superseded.get_or_insert_default());
        if bits.len() <= at / 64 {
            bits.resize(at / 64 + 1, 0);
        }
        bits[at / 64] |= 1 << (at % 64);
    }

    /// The places of its ops with a number in `numbers`.
    fn places(&self, numbers: &Range<u64>) -> Range<usize> {
        let (first, end) = (self.chunk.first, self.chunk.end());
        let place = |number: u64| index(number.clamp(first, end) - first);
        place(numbers.start)..place(numbers.end)
    }

    /// The newest changes of their ids, among `numbers`.
    fn latest(&self, numbers: Range<u64>) -> impl Iterator<Item = (u64, &Chunk, &Op)> {
        let chunk = &*self.chunk;
        let places = self.places(&numbers).filter(|&at| !self.is_superseded(at));
        places.map(move |at| (chunk.first + at as u64, chunk, &chunk.ops[at]))
    }
}

/// The newest change of an id: a put or a delete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
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
    /// Full-size chunks kept for reuse; views and groups may still hold some of them.
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
            self.link(change.hash, change.id, change.put.is_some());
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
            self.slots.push_back(Slot { chunk: Arc::clone(&chunk), superseded: None });
            for op in &chunk.ops {
                self.link(op.hash, chunk.id(op), op.is_put());
            }
        }
        self.end_batch(batch.bytes);
        batch.spare.0.into_iter().for_each(|chunk| self.keep(chunk));
    }

    /// Lends memory kept for reuse, at most as much as `rows` rows take, for [`Prepared::new`].
    pub(crate) fn lend(&mut self, rows: usize) -> Memory {
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

    /// All there is now, unchanging. O(chunks).
    pub(crate) fn view(&self) -> View {
        let Buffer { first, next, puts, .. } = *self;
        View { slots: self.slots.clone(), first, next, puts, table: Arc::default() }
    }

    /// The first batches: as many whole ones as `max_bytes` of rows, ids and documents and `max_ops` changes allow, but at
    /// least one. They stay until they are removed.
    pub(crate) fn group(&self, max_bytes: u64, max_ops: u64) -> Option<Group> {
        let mut batches = self.batches.iter();
        let Batch { mut next, mut bytes } = *batches.next()?;
        for batch in batches {
            if bytes + batch.bytes > max_bytes || batch.next - self.first > max_ops {
                break;
            }
            bytes += batch.bytes;
            next = batch.next;
        }
        let numbers = self.first..next;
        let slots = self.slots.iter().take_while(|slot| slot.chunk.first < next);
        let parts = slots.map(|slot| (Arc::clone(&slot.chunk), slot.places(&numbers))).collect();
        Some(Group { parts, next, bytes })
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
            self.slots.pop_front().into_iter().for_each(|slot| self.keep(slot.chunk));
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
        let many = self.slots.len() > FEW;
        if let Some(Slot { chunk, .. }) = self.slots.back_mut() {
            if many && chunk.has_room(change, SMALL) {
                // It is shared. Views taken after every put must not leave a chunk for every put.
                let mut copy = chunk.copy(SMALL);
                let bytes = copy.append(change).expect("there is room");
                let shared = std::mem::replace(chunk, Arc::new(copy));
                self.keep(shared);
                return bytes;
            }
            // Nor may views now and then make each chunk after them reserve 1 MiB.
            let filled = chunk.used().next_power_of_two();
            self.limit = if filled < chunk.limit { filled } else { chunk.limit * 2 }.clamp(SMALL, FULL);
        }
        let kept = if self.limit == FULL { self.reuse() } else { None };
        let mut shared = kept.unwrap_or_else(|| Arc::new(Chunk::new(self.dim, self.limit)));
        let bytes = begin(&mut shared, self.next, change);
        self.slots.push_back(Slot { chunk: shared, superseded: None });
        bytes
    }

    /// Gives the op that was appended its number and makes it the newest of its id.
    fn link(&mut self, hash: u64, id: &[u8], put: bool) {
        let slots = &self.slots;
        let same = |&number: &u64| is(slots, number, hash, id);
        let rehash = |&number: &u64| locate(slots, number).1.hash;
        match self.table.entry(hash, same, rehash) {
            Entry::Vacant(slot) => _ = slot.insert(self.next),
            Entry::Occupied(mut slot) => {
                let old = std::mem::replace(slot.get_mut(), self.next);
                let at = place(slots, old);
                let slot = &mut self.slots[at];
                let at = index(old - slot.chunk.first);
                self.puts -= u64::from(slot.chunk.ops[at].is_put());
                slot.supersede(at);
            }
        }
        self.puts += u64::from(put);
        self.next += 1;
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
    fn keep(&mut self, chunk: Arc<Chunk>) {
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
                let bytes = begin(&mut chunk, 0, &change);
                batch.chunks.push(chunk);
                bytes
            });
        }
        batch
    }
}

/// What was in the buffer at some time; it does not change. A clone shares everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    slots: VecDeque<Slot>,
    first: u64,
    next: u64,
    puts: u64,
    /// As in the buffer; made when it is first needed.
    table: Arc<OnceLock<HashTable<u64>>>,
}

impl View {
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
}

/// Rows of a chunk with arrays of `limit` bytes.
fn rows(dim: usize, limit: usize) -> usize {
    (limit / (dim.max(1) * 4)).clamp(1, limit / OP_BYTES)
}

/// Makes `change` the first of an empty chunk.
fn begin(chunk: &mut Arc<Chunk>, first: u64, change: &Change<'_>) -> u64 {
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

fn is(slots: &VecDeque<Slot>, number: u64, hash: u64, id: &[u8]) -> bool {
    let (chunk, op) = locate(slots, number);
    op.hash == hash && chunk.id(op) == id
}

fn find<'a>(table: &HashTable<u64>, slots: &'a VecDeque<Slot>, hash: u64, id: &[u8]) -> Option<Found<'a>> {
    let number = *table.find(hash, |&number| is(slots, number, hash, id))?;
    let (chunk, op) = locate(slots, number);
    Some(Found { chunk, op })
}

fn range(at: u32, len: u32) -> Range<usize> {
    at as usize..at as usize + len as usize
}

fn int(place: usize) -> u32 {
    u32::try_from(place).expect("a chunk's arrays and a batch are shorter than 4 GiB")
}

fn index(ops: u64) -> usize {
    usize::try_from(ops).expect("what lies in memory can be counted")
}
