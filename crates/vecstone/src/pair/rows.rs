//! What is kept in memory for each row of an active segment: 12 bytes, 24 where rows have documents.

/// What is known of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowEntry {
    /// Where its put starts in `.idx`.
    pub(crate) idx_at: u32,
    /// Its row CRC.
    pub(crate) crc: u32,
    /// The upper half of its id's hash: tells an id that rotted in `.idx` from another id.
    pub(crate) hash: u32,
    pub(crate) doc: Doc,
}

/// Position, length and line CRC of a row's line in `.jsonl`; length 0: it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Doc {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where its record starts in `.idx`.
    pub(crate) idx_at: u32,
    /// Checksum of its bytes.
    pub(crate) crc: u32,
    /// Half of its id's hash: most comparisons of ids end here, and growing a table reads no id.
    pub(crate) hash: u32,
}

/// The line of a row: where it ends in `.jsonl`, in two halves (no padding), and its checksum.
#[derive(Debug, Clone, Copy)]
struct Line {
    end: [u32; 2],
    crc: u32,
}

impl Line {
    fn end(self) -> u64 {
        u64::from(self.end[0]) | u64::from(self.end[1]) << 32
    }
}

/// Rows per piece: growing never copies more than the last piece.
const PIECE: usize = 8192;

/// The line of a row without a document.
pub(crate) const NULL_LINE: &[u8] = b"null\n";

/// The rows from some row number on.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowTable {
    first: u64,
    rows: Pieces<Row>,
    /// Lines of the rows from `lines_from` on; rows before have [`NULL_LINE`], or no `.jsonl` at all.
    lines: Pieces<Line>,
    lines_from: u64,
    /// Where the line of row `lines_from` starts.
    lines_start: u64,
}

impl RowTable {
    /// An empty table for the rows from `first` on.
    pub(crate) fn from_row(first: u64) -> RowTable {
        RowTable { first, ..RowTable::default() }
    }

    /// The number of the first row here.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// One more than the number of the last row.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Sets the checksum of a row that is here already.
    pub(crate) fn set_crc(&mut self, row: u64, crc: u32) {
        if let Some(row) = row.checked_sub(self.first).and_then(|place| self.rows.get_mut(place)) {
            row.crc = crc;
        }
    }

    /// Adds the line of the next row that has none yet. `start`: where the first line of all starts.
    pub(crate) fn push_line(&mut self, row: u64, start: u64, len: u32, crc: u32) {
        if self.lines.len() == 0 {
            (self.lines_from, self.lines_start) = (row, start);
        }
        let end = self.lines.last().map_or(self.lines_start, Line::end) + u64::from(len);
        #[expect(clippy::cast_possible_truncation, reason = "two halves")]
        self.lines.push(Line { end: [end as u32, (end >> 32) as u32], crc });
    }

    /// Adds all rows of another table, which goes on where this one ends.
    pub(crate) fn append(&mut self, other: &RowTable) {
        debug_assert_eq!(self.end(), other.first);
        other.rows.iter().for_each(|row| self.rows.push(row));
        self.append_lines(other);
    }

    /// Adds the lines of another table, whose rows are here already.
    pub(crate) fn append_lines(&mut self, other: &RowTable) {
        if other.lines.len() > 0 && self.lines.len() == 0 {
            (self.lines_from, self.lines_start) = (other.lines_from, other.lines_start);
        }
        other.lines.iter().for_each(|line| self.lines.push(line));
    }

    /// The rows in pieces of at most `len`, a power of two up to [`PIECE`].
    pub(crate) fn pieces(&self, len: usize) -> impl Iterator<Item = &[Row]> {
        self.rows.0.iter().flat_map(move |piece| piece.chunks(len))
    }

    pub(crate) fn get(&self, row: u64) -> Option<Row> {
        self.rows.get(row.checked_sub(self.first)?)
    }

    /// The line of a row; length 0 if it surely has no document.
    pub(crate) fn line(&self, row: u64) -> Doc {
        let Some(place) = row.checked_sub(self.lines_from) else { return Doc::default() };
        let Some(line) = self.lines.get(place) else { return Doc::default() };
        let at = place
            .checked_sub(1)
            .and_then(|before| self.lines.get(before))
            .map_or(self.lines_start, Line::end);
        let len = u32::try_from(line.end() - at).expect("pushed as 32 bits");
        Doc { at, len, crc: line.crc }
    }

    /// What `.ids` says of a row.
    pub(crate) fn entry(&self, row: u64) -> Option<RowEntry> {
        let Row { idx_at, crc, hash } = self.get(row)?;
        Some(RowEntry { idx_at, crc, hash, doc: self.line(row) })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Row> + '_ {
        self.rows.iter()
    }

    /// The rows from one on.
    pub(crate) fn iter_from(&self, row: u64) -> impl Iterator<Item = Row> + '_ {
        self.rows.iter_from(row.saturating_sub(self.first))
    }

    /// Keeps the rows below `end`.
    pub(crate) fn truncate(&mut self, end: u64) {
        self.rows.truncate(end.saturating_sub(self.first));
        self.lines.truncate(end.saturating_sub(self.lines_from));
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> u64 {
        self.rows.heap() + self.lines.heap()
    }
}

/// A long list in pieces of [`PIECE`].
#[derive(Debug, Clone)]
struct Pieces<T>(Vec<Vec<T>>);

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Pieces(Vec::new())
    }
}

impl<T: Copy> Pieces<T> {
    fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * PIECE + last.len())
    }

    fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < PIECE => last.push(item),
            // The first piece grows with a small store, the others are full soon.
            first => {
                let mut piece = Vec::with_capacity(if first.is_some() { PIECE } else { 16 });
                piece.push(item);
                self.0.push(piece);
            }
        }
    }

    fn get(&self, place: u64) -> Option<T> {
        let place = usize::try_from(place).ok()?;
        self.0.get(place / PIECE)?.get(place % PIECE).copied()
    }

    fn get_mut(&mut self, place: u64) -> Option<&mut T> {
        let place = usize::try_from(place).ok()?;
        self.0.get_mut(place / PIECE)?.get_mut(place % PIECE)
    }

    fn last(&self) -> Option<T> {
        self.0.last()?.last().copied()
    }

    fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.0.iter().flatten().copied()
    }

    fn iter_from(&self, place: u64) -> impl Iterator<Item = T> + '_ {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let (piece, skip) = (place / PIECE, place % PIECE);
        let first = self.0.get(piece).and_then(|piece| piece.get(skip..)).unwrap_or_default();
        let others = self.0.get(piece + 1..).unwrap_or_default();
        first.iter().chain(others.iter().flatten()).copied()
    }

    fn truncate(&mut self, len: u64) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.0.truncate(len.div_ceil(PIECE));
        if len % PIECE != 0
            && let Some(last) = self.0.get_mut(len / PIECE)
        {
            last.truncate(len % PIECE);
        }
        // No empty last piece: `len` counts on it.
        if len == 0 {
            self.0.clear();
        }
    }

    fn heap(&self) -> u64 {
        let pieces: usize = self.0.iter().map(|piece| piece.capacity() * size_of::<T>()).sum();
        (pieces + self.0.capacity() * size_of::<Vec<T>>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u32) -> Row {
        Row { idx_at: n, crc: n ^ 1, hash: n ^ 2 }
    }

    #[test]
    fn rows_and_lines_come_back_and_go() {
        let mut table = RowTable::from_row(5);
        for n in 0..20_000 {
            table.push(row(n));
            if n >= 100 {
                table.push_line(5 + u64::from(n), 525, n, n);
            }
        }
        assert_eq!((table.first(), table.end()), (5, 20_005));
        assert_eq!(table.get(4), None);
        assert_eq!(table.get(20_005), None);
        assert_eq!(table.line(104), Doc::default());
        assert_eq!(table.line(105), Doc { at: 525, len: 100, crc: 100 });
        assert_eq!(table.line(107), Doc { at: 525 + 201, len: 102, crc: 102 });
        for end in [20_004, 16_390, 16_389, 16_388, 8197, 200, 6, 5, 0] {
            table.truncate(end);
            assert_eq!(table.end(), end.max(5), "{end}");
            assert_eq!(table.get(end), None);
            assert_eq!(table.iter().count() as u64, end.max(5) - 5);
            assert_eq!(table.line(end), Doc::default());
        }
        let mut more = RowTable::from_row(5);
        more.push(row(7));
        more.push_line(5, 25, 3, 9);
        table.append(&more);
        assert_eq!(table.get(5), Some(row(7)));
        assert_eq!(table.line(5), Doc { at: 25, len: 3, crc: 9 });
    }

    #[test]
    fn twelve_bytes_a_row() {
        let mut table = RowTable::default();
        (0..1_000_000).for_each(|n| table.push(row(n)));
        assert!(table.heap() < 12_200_000, "{}", table.heap());
    }
}
