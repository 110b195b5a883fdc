//! Rows as a store takes them.

use arrow_array::{Array, RecordBatch};
use arrow_buffer::ScalarBuffer;
use vecstone::{Document, Id};

use crate::columns::{Columns, Documents};
use crate::error::{Error, Result};
use crate::{ids, json, vectors};

/// Rows on their way to a store: what [`put_many_with_documents`](vecstone::WriteBatch::put_many_with_documents)
/// takes.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Number of the first row, counted from 0 over the whole input.
    pub first: u64,
    /// One id a row.
    pub ids: Vec<Id>,
    /// `ids.len() * dim` components, row after row; none if no vector column was asked for. Where the input has them as
    /// float32, this is its own memory, not a copy. Not checked for NaN and infinity: the store does that.
    pub vectors: ScalarBuffer<f32>,
    /// Components of a vector; 0 if there is no vector column, or no row to tell.
    pub dim: usize,
    /// The JSON document of each row, `None` for a row without one; `None` as a whole if there is no column of them.
    pub documents: Option<Vec<Option<String>>>,
    /// The text of each row, if that was asked for; `None` where it is null.
    pub texts: Option<Vec<Option<String>>>,
}

impl Rows {
    /// The documents as [`put_many_with_documents`](vecstone::WriteBatch::put_many_with_documents) takes them: one for
    /// each row, or none at all.
    pub fn document_refs(&self) -> Vec<Document<&str>> {
        self.documents.iter().flatten().map(|text| Document::given(text.as_deref())).collect()
    }
}

/// Makes rows of one batch. `first` is the number of its first row in the whole input, for messages. O(bytes); vectors
/// of float32 are not copied.
///
/// # Errors
///
/// [`Error::MissingColumn`], [`Error::AmbiguousColumn`] and [`Error::ColumnType`] if the columns are not there as asked
/// for; [`Error::Value`] for nulls among ids and vectors, negative ids, vectors of another length, and documents that
/// are not JSON.
pub fn rows_of(batch: &RecordBatch, columns: &Columns, first: u64) -> Result<Rows> {
    let schema = batch.schema();
    let chosen = columns.choose(&schema)?;
    let name = |at: usize| schema.field(at).name().as_str();
    let (dim, vectors) = match chosen.vector {
        Some(at) => vectors::vectors(batch.column(at), name(at), first, columns.dim)?,
        None => (0, Vec::new().into()),
    };
    let texts = chosen.text.map(|at| ids::texts(batch.column(at), name(at), first)).transpose()?;
    let documents = match &chosen.documents {
        Documents::None => None,
        Documents::Whole(at) if ids::is_text(batch.column(*at).data_type()) => {
            let texts = ids::texts(batch.column(*at), name(*at), first)?;
            Some(documents_of_text(texts, name(*at), first)?)
        }
        Documents::Whole(at) => Some(documents_of_values(batch, *at, first)?),
        Documents::Members(members) => Some(documents_of_members(batch, members, first)?),
    };
    Ok(Rows {
        first,
        ids: ids::ids(batch.column(chosen.id), name(chosen.id), first)?,
        vectors,
        dim,
        documents,
        texts,
    })
}

/// Text that is JSON, as the store keeps it; null is no document.
fn documents_of_text(texts: Vec<Option<String>>, column: &str, first: u64) -> Result<Vec<Option<String>>> {
    let documents = texts.into_iter().enumerate().map(|(row, text)| {
        let Some(text) = text else { return Ok(None) };
        json::document_of(&text).map_err(|why| Error::Value {
            column: column.to_owned(),
            row: first + row as u64,
            what: format!(
                "not one JSON value: {why}; correct it, or give the column another name if it is plain text"
            ),
        })
    });
    documents.collect()
}

/// The value itself, of any type; null is no document.
fn documents_of_values(batch: &RecordBatch, at: usize, first: u64) -> Result<Vec<Option<String>>> {
    let (schema, array) = (batch.schema(), batch.column(at));
    let name = schema.field(at).name().as_str();
    each_row(batch, first, |row, out| json::write(array, row, out).map_err(|what| (name, what)))
        .map(|document| document.map(|text| (text != "null").then_some(text)))
        .collect()
}

/// An object of the columns' values.
fn documents_of_members(batch: &RecordBatch, members: &[usize], first: u64) -> Result<Vec<Option<String>>> {
    let schema = batch.schema();
    let columns: Vec<(&str, &dyn Array)> =
        members.iter().map(|at| (schema.field(*at).name().as_str(), batch.column(*at).as_ref())).collect();
    each_row(batch, first, |row, out| json::write_object(columns.iter().copied(), row, out))
        .map(|document| document.map(Some))
        .collect()
}

/// What `write` makes of each row; it says which column is at fault.
fn each_row<'a>(
    batch: &RecordBatch,
    first: u64,
    write: impl Fn(usize, &mut Vec<u8>) -> Result<(), (&'a str, String)>,
) -> impl Iterator<Item = Result<String>> {
    (0..batch.num_rows()).map(move |row| {
        let mut out = Vec::new();
        let text = write(row, &mut out)
            .and_then(|()| String::from_utf8(out).map_err(|e| (crate::columns::DOCUMENT, e.to_string())));
        text.map_err(|(column, what)| Error::Value {
            column: column.to_owned(),
            row: first + row as u64,
            what,
        })
    })
}
