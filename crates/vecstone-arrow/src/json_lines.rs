//! JSON lines: one object a line.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use vecstone::{Id, MAX_BATCH_BYTES, MAX_DIM, MAX_ID_NUMBER, check_memory, counted};

use crate::columns::{Columns, DOCUMENT, DOCUMENTS, DocumentColumns, IDS, TEXTS, VECTORS};
use crate::error::{Error, Result};
use crate::file::{Format, open_file};
use crate::json;
use crate::rows::Rows;

/// The longest line: it must fit in a batch beside others.
const LINE_BYTES: u64 = MAX_BATCH_BYTES / 2;
/// Bytes of lines after which a batch ends early, so that long ones do not fill the memory.
const BATCH_BYTES: u64 = 16 << 20;

/// Rows of a JSON lines file, batch by batch; after an error it ends. Ids are strings (which stay strings, UUIDs too) or
/// whole numbers, vectors are arrays of numbers, each rounded once to the nearest float32. Documents keep their members
/// digit for digit. Empty lines are passed over.
pub struct JsonLines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send + Sync>,
    columns: Columns,
    batch_rows: usize,
    line: Vec<u8>,
    /// Number, from 1, of the last line.
    number: u64,
    /// Rows so far.
    rows: u64,
    /// Keys of the first line that are not read.
    unread: Vec<String>,
    ended: bool,
}

impl JsonLines {
    /// Opens a file; batches have at most `batch_rows` rows, and fewer if they are long: about 16 MiB of text are read
    /// at a time.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`] and [`Error::Io`], within [`Error::InFile`].
    pub fn open(path: impl AsRef<Path>, columns: &Columns, batch_rows: usize) -> Result<JsonLines> {
        let path = path.as_ref();
        let file = open_file(path).and_then(|(file, format)| match format {
            Format::JsonLines => Ok(file),
            _ => Err(Error::UnknownFormat { why: "not JSON lines; open it as what it is" }),
        });
        Ok(JsonLines::new(path, file.map_err(|e| e.in_file(path))?, columns, batch_rows))
    }

    pub(crate) fn new(path: &Path, file: File, columns: &Columns, batch_rows: usize) -> JsonLines {
        Self::of(path, Box::new(BufReader::with_capacity(256 << 10, file)), columns, batch_rows)
    }

    pub(crate) fn of(
        path: &Path,
        reader: Box<dyn BufRead + Send + Sync>,
        columns: &Columns,
        batch_rows: usize,
    ) -> JsonLines {
        JsonLines {
            path: path.to_owned(),
            reader,
            columns: columns.clone(),
            batch_rows: batch_rows.max(1),
            line: Vec::new(),
            number: 0,
            rows: 0,
            unread: Vec::new(),
            ended: false,
        }
    }

    /// Keys of the first line that are not read; none before that line was read.
    pub(crate) fn unread(&self) -> &[String] {
        &self.unread
    }

    fn read(&mut self) -> Result<Option<Rows>> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        while batch.ids.len() < self.batch_rows && bytes < BATCH_BYTES && self.advance()? {
            bytes += self.line.len() as u64;
            let first = self.rows == 0 && batch.ids.is_empty();
            let taken = batch.take(&self.line, &mut self.columns, first);
            taken.map_err(|what| Error::Line { line: self.number, what })?;
            if first {
                self.unread = unread(&self.line, &self.columns);
            }
        }
        let Batch { ids, vectors, documents, texts, any_document } = batch;
        if ids.is_empty() {
            return Ok(None);
        }
        let documents = match self.columns.documents {
            DocumentColumns::None => None,
            DocumentColumns::IfThere => any_document.then_some(documents),
            _ => Some(documents),
        };
        let first = self.rows;
        self.rows += ids.len() as u64;
        let dim = self.columns.vector.as_ref().and(self.columns.dim).unwrap_or(0);
        let texts = self.columns.text.is_some().then_some(texts);
        Ok(Some(Rows { first, ids, vectors: vectors.into(), dim, documents, texts }))
    }

    /// Reads up to the end of a line; false at the end of the file.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        loop {
            let part = match self.reader.fill_buf() {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                part => part.map_err(|e| Error::io("read", e))?,
            };
            let end = part.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let len = end.unwrap_or(part.len());
            if len > 0 && self.line.is_empty() {
                self.number += 1;
            }
            if (self.line.len() + len) as u64 > LINE_BYTES {
                let what = format!("the line has more than {LINE_BYTES} bytes; split it");
                return Err(Error::Line { line: self.number, what });
            }
            reserve(&mut self.line, len)?;
            self.line.extend_from_slice(&part[..len]);
            self.reader.consume(len);
            if end.is_some() || len == 0 {
                return Ok(!self.line.is_empty());
            }
        }
    }

    /// Moves to the next line that is not empty; false at the end of the file.
    fn advance(&mut self) -> Result<bool> {
        loop {
            if !self.read_line()? {
                return Ok(false);
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Makes room for so many more bytes of a line.
fn reserve(line: &mut Vec<u8>, more: usize) -> Result<()> {
    if line.capacity() - line.len() < more {
        let bytes = line.len().saturating_mul(2).max(line.len() + more);
        let lacking = || Error::Store(vecstone::Error::out_of_memory(bytes as u64));
        check_memory(bytes as u64).map_err(Error::Store)?;
        line.try_reserve_exact(bytes - line.len()).map_err(|_| lacking())?;
    }
    Ok(())
}

/// The keys of a line that was taken and that are not among the columns.
fn unread(line: &[u8], columns: &Columns) -> Vec<String> {
    let object = serde_json::from_slice::<Object<'_>>(line);
    let others = object.iter().flat_map(|object| &object.0).filter(|(key, _)| !columns.has(key));
    others.map(|(key, _)| key.to_string()).collect()
}

impl Iterator for JsonLines {
    type Item = Result<Rows>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let rows = self.read().map_err(|e| e.in_file(&self.path)).transpose();
        self.ended = !matches!(rows, Some(Ok(_)));
        rows
    }
}

/// What was read of the lines of a batch.
#[derive(Default)]
struct Batch {
    ids: Vec<Id>,
    vectors: Vec<f32>,
    documents: Vec<Option<String>>,
    texts: Vec<Option<String>>,
    /// Whether a line has the member `document`.
    any_document: bool,
}

impl Batch {
    /// Adds a line. `Err`: what is wrong with it. The first line of the file says which dimension all have.
    fn take(&mut self, line: &[u8], columns: &mut Columns, first: bool) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8; save the file as UTF-8")?;
        let object: Object<'_> = serde_json::from_str(line).map_err(|error| {
            // Its own "line 1" would contradict ours.
            let error = error.to_string();
            let what = error.split(" at line ").next().unwrap_or_default();
            let column = error.rsplit(' ').next().unwrap_or_default();
            format!("not one JSON object: {what} at column {column}; correct it")
        })?;
        self.ids.push(id(object.need(&columns.id, IDS)?)?);
        if let Some(vector) = &columns.vector {
            let found = append_numbers(object.need(vector, VECTORS)?, &mut self.vectors)?;
            let dim = *columns.dim.get_or_insert(found);
            if found != dim {
                return Err(format!(
                    "the vector has {} where {dim} are expected",
                    counted(found as u64, "component")
                ));
            }
            if !(1..=MAX_DIM as usize).contains(&dim) {
                return Err(format!("the vector has {dim} components; give from 1 to {MAX_DIM}"));
            }
        }
        if let Some(column) = &columns.text {
            let text = serde_json::from_str(object.need(column, TEXTS)?);
            self.texts.push(text.map_err(|_| format!("{column:?} is not text; give a string or null"))?);
        }
        self.any_document |= object.get(DOCUMENT).is_some();
        self.documents.push(object.document(columns, first)?);
        Ok(())
    }
}

/// A JSON object whose members are not looked into.
struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// The last member of that name: the one that most readers of JSON take.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn need(&self, name: &str, role: &str) -> Result<&'a str, String> {
        self.get(name).ok_or_else(|| {
            let there: Vec<String> = self.0.iter().map(|(key, _)| format!("{key:?}")).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            format!("no {name:?} for {role}; the keys are {there}")
        })
    }

    fn document(&self, columns: &Columns, first: bool) -> Result<Option<String>, String> {
        let is_other =
            |key: &str| key != columns.id && columns.vector.as_deref().is_none_or(|vector| key != vector);
        let members: Vec<(&str, &str)> = match &columns.documents {
            DocumentColumns::None => return Ok(None),
            DocumentColumns::IfThere => {
                self.get(DOCUMENT).map(|value| (DOCUMENT, value)).into_iter().collect()
            }
            DocumentColumns::Named(names) => {
                if first {
                    names.iter().try_for_each(|name| self.need(name, DOCUMENTS).map(|_| ()))?;
                }
                if matches!(names.as_slice(), [name] if name == DOCUMENT) && self.get(DOCUMENT).is_none() {
                    return Ok(None);
                }
                names.iter().filter_map(|name| Some((name.as_str(), self.get(name)?))).collect()
            }
            DocumentColumns::Others => {
                let members = self.0.iter().map(|(key, value)| (key.as_ref(), *value));
                members.filter(|(key, _)| is_other(key)).collect()
            }
        };
        match members.as_slice() {
            [] if columns.documents == DocumentColumns::IfThere => Ok(None),
            // One that comes twice is one: the last counts.
            [.., (DOCUMENT, value)] if members.iter().all(|(key, _)| *key == DOCUMENT) => {
                json::document_of(value)
            }
            _ => json::document_of(&object_of(&members)?),
        }
    }
}

fn object_of(members: &[(&str, &str)]) -> Result<String, String> {
    let mut text = String::from("{");
    for (n, (key, value)) in members.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(key).map_err(|e| e.to_string())?);
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    Ok(text)
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<'de>, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, value.get()));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// An id from JSON text.
fn id(text: &str) -> Result<Id, String> {
    let id = if text.starts_with('"') {
        serde_json::from_str(text).ok().map(Id::String)
    } else {
        text.parse().ok().filter(|id| *id <= MAX_ID_NUMBER).map(Id::U64)
    };
    id.ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        format!("the id {shown} is not one; give a string or a whole number from 0 to 2^64 - 2")
    })
}

/// Appends the components of a vector from JSON text, and counts them.
fn append_numbers(text: &str, to: &mut Vec<f32>) -> Result<usize, String> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.ok_or("the vector is not an array of numbers")?.trim_ascii();
    if inner.is_empty() {
        return Ok(0);
    }
    let before = to.len();
    for number in inner.split(',').map(str::trim_ascii) {
        // The text is JSON, so that nothing but its numbers can be parsed here: no "inf", no "nan".
        let at = to.len() - before;
        to.push(number.parse().map_err(|_| format!("component {at} of the vector is not a number"))?);
    }
    Ok(to.len() - before)
}
