//! Parquet and Arrow IPC files as batches, in bounded memory.
//!
//! Arrow IPC files are read as the streams that they are but for a header and a footer: the reader of streams grows with
//! the bytes that it gets, where that of files believes the sizes in the footer.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::{Endianness, MessageHeader, RecordBatch as RecordBatchHeader, root_as_message};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use vecstone::{MAX_BATCH_BYTES, check_memory};

use crate::columns::Columns;
use crate::error::{Error, Result};
use crate::memory::{rows_at_once, rows_to_decode, with_views};

const ARROW_MAGIC: &[u8; 6] = b"ARROW1";
/// Stands before each message of a stream.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// What the buffers of one batch may unpack to.
const MAX_UNPACKED_BYTES: u64 = 4 * MAX_BATCH_BYTES;
/// A batch may unpack to so many times what is in the file, unless that is little.
const MOST_TIMES: u64 = 1000;
const LITTLE: u64 = 256 << 20;
/// What is wrong with a pipe, a socket or a device: files are read more than once.
const NOT_REGULAR: &str = "not a regular file; write it to one first";
/// How much of a file is looked at to tell its format.
const HEAD: u64 = 4096;

/// Formats of files, told apart by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file, which is also what Feather version 2 is.
    ArrowFile,
    /// An Arrow IPC stream.
    ArrowStream,
    /// One JSON object a line.
    JsonLines,
}

impl Format {
    /// Looks into a file.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`] says what else it may be; [`Error::Io`]. Both within [`Error::InFile`].
    pub fn of(path: impl AsRef<Path>) -> Result<Format> {
        open_file(path.as_ref()).map(|(_, format)| format).map_err(|e| e.in_file(path.as_ref()))
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Format::Parquet => "Parquet",
            Format::ArrowFile | Format::ArrowStream => "Arrow IPC",
            Format::JsonLines => "JSON lines",
        }
    }

    fn detect(head: &[u8]) -> Result<Format, &'static str> {
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        match (head, text) {
            ([], _) => Err("not a .npy file, nor any other: it is empty"),
            ([b'P', b'A', b'R', b'1', ..], _) => Ok(Format::Parquet),
            ([b'P', b'A', b'R', b'E', ..], _) => {
                Err("an encrypted Parquet file; write it without encryption")
            }
            ([0xff, 0xff, 0xff, 0xff, ..], _) => Ok(Format::ArrowStream),
            ([b'F', b'E', b'A', b'1', ..], _) => Err("Feather version 1; write it again as version 2"),
            ([b'P', b'K', 3, 4, ..] | [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..], _) => {
                Err("a compressed file; unpack it first")
            }
            (head, _) if head.starts_with(ARROW_MAGIC) => Ok(Format::ArrowFile),
            (head, _) if head.starts_with(b"\x93NUMPY") => {
                Err("a .npy file, which has no columns; read it with NumPy")
            }
            (_, [b'{', ..]) => Ok(Format::JsonLines),
            (_, [b'[', ..]) => Err(
                "a JSON array; write one object a line (in pandas: to_json(lines=True, orient='records'))",
            ),
            _ => Err("not a .npy file, nor Parquet, Arrow IPC or JSON lines; write it as one of them"),
        }
    }
}

/// Opens a file and tells its format; the file stands at its start.
pub(crate) fn open_file(path: &Path) -> Result<(File, Format)> {
    // Before it is opened: a pipe would wait there for who writes to it.
    let kind = std::fs::metadata(path).map_err(|e| Error::io("open", e))?.file_type();
    if !kind.is_file() {
        let why = if kind.is_dir() { "not a regular file but a directory; give a file" } else { NOT_REGULAR };
        return Err(Error::UnknownFormat { why });
    }
    let mut file = File::open(path).map_err(|e| Error::io("open", e))?;
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head).map_err(|e| Error::io("read", e))?;
    file.rewind().map_err(|e| Error::io("read", e))?;
    let format = Format::detect(&head).map_err(|why| Error::UnknownFormat { why })?;
    Ok((file, format))
}

/// Opens a Parquet or Arrow IPC file. Its batches have at most `batch_rows` rows and only the columns that are needed;
/// the columns and their types are checked here. Memory: `batch_rows` rows and a page of each column of Parquet, or one
/// batch as it stands in an Arrow file.
///
/// # Errors
///
/// All within [`Error::InFile`]: [`Error::UnknownFormat`], for JSON lines as well; [`Error::Unreadable`] if the file is
/// damaged; [`Error::Io`]; those of [`Columns`] as for [`rows_of`](crate::rows_of).
pub fn open(path: impl AsRef<Path>, columns: &Columns, batch_rows: usize) -> Result<BatchReader> {
    let path = path.as_ref();
    let opened =
        open_file(path).and_then(|(file, format)| BatchReader::new(path, file, format, columns, batch_rows));
    opened.map_err(|e| e.in_file(path))
}

/// Batches of a file. Made by [`open`]. Its errors as a [`RecordBatchReader`] are [`ArrowError::ExternalError`] with an
/// [`Error`] in it; after one it ends.
pub struct BatchReader {
    path: PathBuf,
    format: Format,
    schema: SchemaRef,
    rows: u64,
    unread: Vec<String>,
    batch_rows: usize,
    /// `None` after the end.
    inner: Option<Box<dyn RecordBatchReader + Send>>,
    /// What is left of the last batch of the file.
    rest: Option<RecordBatch>,
}

impl BatchReader {
    pub(crate) fn new(
        path: &Path,
        file: File,
        format: Format,
        columns: &Columns,
        batch_rows: usize,
    ) -> Result<BatchReader> {
        let batch_rows = batch_rows.max(1);
        let Opened { reader, rows, unread } = match format {
            Format::Parquet => parquet(file, columns, batch_rows)?,
            Format::ArrowFile | Format::ArrowStream => ipc(file, format, columns)?,
            Format::JsonLines => {
                return Err(Error::UnknownFormat { why: "JSON lines, which are no Arrow batches" });
            }
        };
        let (path, schema) = (path.to_owned(), reader.schema());
        Ok(BatchReader { path, format, schema, rows, unread, batch_rows, inner: Some(reader), rest: None })
    }

    /// Rows of the whole file, as it says itself.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The names of the columns that are not read.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    /// The next batch that has rows.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match self.rest.take() {
            Some(rest) => rest,
            None => match self.read()? {
                Some(batch) => batch,
                None => return Ok(None),
            },
        };
        let rows = rows_at_once(&batch, self.batch_rows);
        if batch.num_rows() <= rows {
            return Ok(Some(batch));
        }
        self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        Ok(Some(batch.slice(0, rows)))
    }

    fn read(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(mut inner) = self.inner.take() {
            let (next, inner) =
                guarded(self.format, move || (inner.next(), inner)).map_err(|e| e.in_file(&self.path))?;
            match next {
                Some(Ok(batch)) => {
                    self.inner = Some(inner);
                    if batch.num_rows() > 0 {
                        return Ok(Some(batch));
                    }
                }
                Some(Err(error)) => return Err(unreadable(self.format, error).in_file(&self.path)),
                None => break,
            }
        }
        Ok(None)
    }
}

impl Iterator for BatchReader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().map_err(ArrowError::from).transpose()
    }
}

impl RecordBatchReader for BatchReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// Runs a decoder. Those of Parquet and Arrow check what they read, but where a check is missing they panic: that is an
/// error here, and nothing is printed of it.
fn guarded<T>(format: Format, decode: impl FnOnce() -> T) -> Result<T> {
    static HOOK: Once = Once::new();
    thread_local!(static DECODES: Cell<bool> = const { Cell::new(false) });
    if !std::thread::panicking() {
        HOOK.call_once(|| {
            let others = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                if !DECODES.get() {
                    others(panic);
                }
            }));
        });
    }
    let before = DECODES.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    DECODES.set(before);
    decoded.map_err(|_| unreadable(format, "its decoder gave up"))
}

fn unreadable(format: Format, why: impl ToString) -> Error {
    Error::Unreadable { format: format.name(), why: why.to_string().replace('\n', " ") }
}

struct Opened {
    reader: Box<dyn RecordBatchReader + Send>,
    rows: u64,
    unread: Vec<String>,
}

fn parquet(file: File, columns: &Columns, batch_rows: usize) -> Result<Opened> {
    let damaged = |e| unreadable(Format::Parquet, e);
    let load = |options| guarded(Format::Parquet, || ArrowReaderMetadata::load(&file, options));
    let metadata = load(ArrowReaderOptions::new())?.map_err(damaged)?;
    let views = |nested| {
        let views = Arc::new(with_views(metadata.schema(), nested));
        load(ArrowReaderOptions::new().with_schema(views))
    };
    // Not each nesting can be had so.
    let metadata = match views(true)? {
        Ok(metadata) => metadata,
        Err(_) => views(false)?.map_err(damaged)?,
    };
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
    let chosen = columns.choose(builder.schema())?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let unread = chosen.unread(builder.schema());
    let mask = ProjectionMask::roots(builder.parquet_schema(), chosen.places());
    let batch_rows = rows_to_decode(builder.metadata(), &mask, batch_rows)?;
    let builder = builder.with_projection(mask).with_batch_size(batch_rows);
    let reader = guarded(Format::Parquet, || builder.build())?.map_err(damaged)?;
    Ok(Opened { reader: Box::new(reader), rows, unread })
}

fn ipc(mut file: File, format: Format, columns: &Columns) -> Result<Opened> {
    let found = Messages::find(&mut file, format)?;
    let chosen = columns.choose(&found.schema)?;
    file.seek(SeekFrom::Start(found.start)).map_err(|e| Error::io("read", e))?;
    let stream = BufReader::with_capacity(256 << 10, file);
    let reader = guarded(format, || StreamReader::try_new(stream, Some(chosen.places())))?;
    let reader = reader.map_err(|e| unreadable(format, e))?;
    let schema = reader.schema();
    // What follows the last batch of a file is its footer.
    let batches = arrow_array::RecordBatchIterator::new(reader.take(found.batches), schema);
    Ok(Opened { reader: Box::new(batches), rows: found.rows, unread: chosen.unread(&found.schema) })
}

/// What the messages of an Arrow file or stream say, without what is in them.
struct Messages {
    /// Where the first one begins.
    start: u64,
    schema: Schema,
    batches: usize,
    rows: u64,
}

impl Messages {
    /// Goes from message to message; the file has to hold all of each. O(batches).
    fn find(file: &mut File, format: Format) -> Result<Messages> {
        let damaged = |what: &str| unreadable(format, what);
        let len = file.metadata().map_err(|e| Error::io("read", e))?.len();
        let start = if format == Format::ArrowFile { after_magic(file, len)? } else { 0 };
        let (mut at, mut schema, mut batches, mut rows, mut largest) = (start, None, 0, 0_u64, 0);
        while let Some(metadata) = metadata(file, format, at, len)? {
            let message = root_as_message(&metadata).map_err(|e| unreadable(format, e))?;
            match (message.header_type(), &schema) {
                (MessageHeader::Schema, None) => {
                    let header = message.header_as_schema().ok_or_else(|| damaged("it has no schema"))?;
                    if header.endianness() != Endianness::Little {
                        return Err(damaged("it is big-endian"));
                    }
                    schema = Some(
                        guarded(format, || try_fb_to_schema(header))?.map_err(|e| unreadable(format, e))?,
                    );
                }
                (_, None) => return Err(damaged("it does not begin with a schema")),
                (MessageHeader::RecordBatch, _) => {
                    let batch = message.header_as_record_batch().map_or(-1, |batch| batch.length());
                    let batch = u64::try_from(batch).map_err(|_| damaged("a batch has less than no rows"))?;
                    (batches, rows) = (batches + 1, rows.saturating_add(batch));
                }
                _ => {}
            }
            let (body, len_of_body) = (at + 8 + metadata.len() as u64, message.bodyLength());
            let end = u64::try_from(len_of_body).ok().and_then(|len| body.checked_add(len));
            at = end.filter(|end| *end <= len).ok_or_else(|| damaged("it is cut short"))?;
            let in_dictionary = message.header_as_dictionary_batch().and_then(|batch| batch.data());
            if let Some(batch) = message.header_as_record_batch().or(in_dictionary) {
                largest = largest.max((at - body).saturating_add(check_lengths(file, format, &batch, body)?));
            }
        }
        let schema = schema.ok_or_else(|| damaged("it has no schema"))?;
        // The decoder would end the process.
        check_memory(largest).map_err(Error::Store)?;
        Ok(Messages { start, schema, batches, rows })
    }
}

/// Refuses a batch whose compressed buffers claim to hold more than can be: their decoder allocates what they claim, which
/// is returned. `body`: where the buffers begin.
fn check_lengths(file: &mut File, format: Format, batch: &RecordBatchHeader<'_>, body: u64) -> Result<u64> {
    if batch.compression().is_none() {
        return Ok(0);
    }
    let (mut sum, mut packed) = (0, 0_u64);
    for buffer in batch.buffers().iter().flatten().filter(|buffer| buffer.length() >= 8) {
        let mut claimed = [0; 8];
        let at = u64::try_from(buffer.offset()).ok().and_then(|offset| body.checked_add(offset));
        let read = file
            .seek(SeekFrom::Start(at.unwrap_or(u64::MAX >> 1)))
            .and_then(|_| file.read_exact(&mut claimed));
        let claimed = match i64::from_le_bytes(claimed) {
            // Not compressed after all.
            -1 => Some(0),
            claimed => u64::try_from(claimed).ok().filter(|claimed| *claimed <= MAX_BATCH_BYTES),
        };
        let claimed = claimed.filter(|_| read.is_ok());
        sum += claimed.ok_or_else(|| unreadable(format, "a compressed buffer has no length that can be"))?;
        packed = packed.saturating_add(u64::try_from(buffer.length()).unwrap_or(0));
        if sum > MAX_UNPACKED_BYTES {
            return Err(unreadable(format, "a batch unpacks to more than 4 GiB; write it in smaller ones"));
        }
    }
    if sum > LITTLE && sum > packed.saturating_mul(MOST_TIMES) {
        let why = "a batch unpacks to more than 1000 times its bytes; write it without compression";
        return Err(unreadable(format, why));
    }
    Ok(sum)
}

/// Where the messages of an Arrow file begin: behind its magic number and padding. It has to end in that number, too.
fn after_magic(file: &mut File, len: u64) -> Result<u64> {
    let read = |file: &mut File, at: u64, bytes: &mut [u8]| {
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(bytes)).map_err(|e| Error::io("read", e))
    };
    let mut magic = [0; 6];
    read(file, len.saturating_sub(6), &mut magic)?;
    if magic != *ARROW_MAGIC {
        return Err(unreadable(Format::ArrowFile, "it is cut short"));
    }
    // The format says 8 bytes, and writers pad to 64.
    let mut head = vec![0; usize::try_from(len.min(HEAD)).unwrap_or(0)];
    read(file, 0, &mut head)?;
    let padding =
        head.get(8..).unwrap_or_default().chunks(8).take_while(|bytes| bytes.iter().all(|b| *b == 0));
    Ok(8 + 8 * padding.count() as u64)
}

/// What stands before the body of the message at `at`; `None` at the end of the messages.
fn metadata(file: &mut File, format: Format, at: u64, len: u64) -> Result<Option<Vec<u8>>> {
    if len == at {
        return Ok(None);
    }
    let mut head = [0; 8];
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut head));
    read.map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => unreadable(format, "it is cut short"),
        _ => Error::io("read", e),
    })?;
    let [a, b, c, d, size @ ..] = head;
    match ([a, b, c, d] == CONTINUATION, format) {
        (true, _) if size == [0; 4] => return Ok(None),
        (true, _) => {}
        // Behind the messages of a file is its footer.
        (false, Format::ArrowFile) => return Ok(None),
        (false, _) => return Err(unreadable(format, "there is something else between its messages")),
    }
    let size = u64::try_from(i32::from_le_bytes(size)).ok().filter(|size| *size <= len - at - 8);
    let size = size.ok_or_else(|| unreadable(format, "it is cut short"))?;
    let mut metadata = Vec::new();
    file.take(size).read_to_end(&mut metadata).map_err(|e| Error::io("read", e))?;
    Ok(Some(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a process of its own: what is printed is looked at.
    #[test]
    fn a_decoder_that_panics_prints_nothing() {
        const INNER: &str = "VECSTONE_TEST_PANICS";
        if std::env::var_os(INNER).is_some() {
            let error = guarded::<()>(Format::Parquet, || panic!("of a decoder")).expect_err("an error");
            assert!(error.to_string().contains("its decoder gave up"), "{error}");
            _ = catch_unwind(|| panic!("of another"));
            return;
        }
        let test = "file::tests::a_decoder_that_panics_prints_nothing";
        let mut command = std::process::Command::new(std::env::current_exe().expect("known"));
        command.args(["--exact", test, "--nocapture"]).env(INNER, "1").env("RUST_BACKTRACE", "1");
        let done = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(!said.contains("of a decoder") && said.contains("of another"), "{said}");
    }

    #[test]
    fn formats_are_told_by_content() {
        let known: [(&[u8], Format); 7] = [
            (b"PAR1\x15\x04", Format::Parquet),
            (b"ARROW1\0\0", Format::ArrowFile),
            (b"\xff\xff\xff\xff\x10\0\0\0", Format::ArrowStream),
            (b"{}", Format::JsonLines),
            (b"{\"id\": 1}\n", Format::JsonLines),
            (b"\xef\xbb\xbf{\"id\": 1}\n", Format::JsonLines),
            (b"\n  \r\n{\"id\": 1}\n", Format::JsonLines),
        ];
        for (head, format) in known {
            assert_eq!(Format::detect(head), Ok(format));
        }
        let unknown: [(&[u8], &str); 9] = [
            (b"", "empty"),
            (b" \n", "nor Parquet"),
            (b"id,vector\n", "nor Parquet"),
            (b"PARE", "encrypted"),
            (b"FEA1", "version 1"),
            (b"PK\x03\x04", "compressed"),
            (b"\x1f\x8b\x08", "compressed"),
            (b"\x93NUMPY\x01\0", ".npy"),
            (b"[{}]", "one object a line"),
        ];
        for (head, why) in unknown {
            assert!(Format::detect(head).unwrap_err().contains(why), "{head:?}");
        }
    }
}
