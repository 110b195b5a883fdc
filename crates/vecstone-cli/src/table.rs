//! The rows of a Parquet, Arrow IPC or JSON lines file.

use std::path::Path;

use vecstone::{Id, IdKind, VectorStore};
use vecstone_arrow::{Columns, DocumentColumns, RowReader, Rows};

use crate::args::Import;
use crate::failure::{Failure, Result};
use crate::ids::parse;
use crate::importer::{BATCH_TEXT_BYTES, Batch, Input, batch_rows};
use crate::output::{note, shown_list};
use crate::repeats::Repeats;

/// Rows that are read at a time; a batch is put together of some.
const PIECE_ROWS: usize = 1000;

impl From<vecstone_arrow::Error> for Failure {
    fn from(error: vecstone_arrow::Error) -> Failure {
        Failure::error(error.to_string())
    }
}

pub(crate) struct Table<'a> {
    args: &'a Import,
    columns: Columns,
    reader: RowReader,
    rows: Option<u64>,
    /// What the ids are to be, if that is known.
    kind: Option<IdKind>,
    /// Read, and for the next batch.
    next: Option<Rows>,
}

impl Table<'_> {
    /// Reads the first rows, too.
    pub(crate) fn open(args: &Import) -> Result<Table<'_>> {
        let other = [("--ids", args.ids.is_some()), ("--id-prefix", args.id_prefix.is_some())];
        if let Some((option, _)) = other.into_iter().find(|(_, given)| *given) {
            let what = format!("{option} is for .npy files; name the column of the ids with --id-column");
            return Err(Failure::file(&args.file, what));
        }
        if args.documents.is_some() {
            let what = "--documents is for .npy files; name the columns with --document-columns";
            return Err(Failure::file(&args.file, what));
        }
        let columns = columns(args);
        let mut reader = RowReader::open(&args.file, &columns, piece_rows(args))?;
        let rows = reader.rows();
        let next = reader.next().transpose()?;
        if args.document_columns.is_none() {
            note_unread(&args.file, reader.unread());
        }
        Ok(Table { args, columns, reader, rows, kind: None, next })
    }
}

/// Says which columns are left out, where they are not named.
fn note_unread(file: &Path, columns: &[String]) {
    if columns.is_empty() {
        return;
    }
    note(format!(
        "{}: not read: {}; --document-columns takes names, or '*' for all, and makes documents of them",
        file.display(),
        shown_list(columns)
    ));
}

fn columns(args: &Import) -> Columns {
    let default = Columns::default();
    Columns {
        id: args.id_column.clone().unwrap_or(default.id),
        vector: args.vector_column.clone().or(default.vector),
        documents: match args.document_columns.as_deref() {
            None => DocumentColumns::IfThere,
            Some([all]) if all == "*" => DocumentColumns::Others,
            Some(names) => DocumentColumns::Named(names.to_vec()),
        },
        ..default
    }
}

fn piece_rows(args: &Import) -> usize {
    args.batch_rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(PIECE_ROWS).min(PIECE_ROWS)
}

impl Input for Table<'_> {
    fn dim(&self) -> Option<usize> {
        self.next.as_ref().map(|rows| rows.dim)
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// Of the first rows only: the others are read once.
    fn check(&mut self, kind: Option<IdKind>) -> Result<()> {
        self.kind = kind;
        let asked = self.args.id_kind.is_some();
        if let Some(rows) = &mut self.next {
            convert_ids(rows, kind, asked, &self.args.file)?;
        }
        Ok(())
    }

    /// Rows have ids of their own: replacing is meant.
    fn refuse_stored(&self, _: &VectorStore) -> Result<()> {
        Ok(())
    }

    fn repeats(&self) -> Result<Repeats> {
        let ids = Columns { vector: None, documents: DocumentColumns::None, ..self.columns.clone() };
        let (kind, asked) = (self.kind, self.args.id_kind.is_some());
        Repeats::find(|| {
            let pieces = RowReader::open(&self.args.file, &ids, PIECE_ROWS)?;
            let pieces = pieces.map(move |rows| {
                let mut rows = rows?;
                convert_ids(&mut rows, kind, asked, &self.args.file)?;
                Ok(rows.ids)
            });
            Ok(pieces.flat_map(|piece: Result<Vec<Id>>| match piece {
                Ok(ids) => ids.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }))
        })
    }

    fn next(&mut self, mut vectors: Vec<f32>) -> Result<Option<Batch>> {
        vectors.clear();
        let mut batch = Batch { vectors, ..Batch::default() };
        let mut bytes = 0;
        while bytes < BATCH_TEXT_BYTES {
            let rows = match self.next.take() {
                Some(rows) => rows,
                None => match self.reader.next().transpose()? {
                    Some(mut rows) => {
                        convert_ids(&mut rows, self.kind, self.args.id_kind.is_some(), &self.args.file)?;
                        rows
                    }
                    None => break,
                },
            };
            let most = batch_rows(self.args.batch_rows, rows.dim);
            if !batch.ids.is_empty() && batch.ids.len() + rows.ids.len() > most {
                self.next = Some(rows);
                break;
            }
            bytes += append(&mut batch, rows);
        }
        Ok(if batch.ids.is_empty() { None } else { Some(batch) })
    }
}

/// Adds rows to a batch, and counts the bytes of their ids and documents.
fn append(batch: &mut Batch, rows: Rows) -> usize {
    if batch.ids.is_empty() {
        batch.first = rows.first;
    }
    let text = |document: &Option<String>| document.as_ref().map_or(0, String::len);
    let ids: usize = rows.ids.iter().map(|id| id.as_str().map_or(0, str::len)).sum();
    let documents: usize = rows.documents.iter().flatten().map(text).sum();
    if rows.documents.is_some() || !batch.documents.is_empty() {
        // JSON lines may have had no document until now, or have none from here on.
        batch.documents.resize(batch.ids.len(), None);
        batch.documents.extend(rows.documents.unwrap_or_else(|| vec![None; rows.ids.len()]));
    }
    batch.ids.extend(rows.ids);
    batch.vectors.extend_from_slice(&rows.vectors);
    ids + documents
}

/// Ids of another kind than the store's: text is read as that kind, as if it came from a file of ids, and with
/// --id-kind everything is. What is left is for the store to refuse.
fn convert_ids(rows: &mut Rows, kind: Option<IdKind>, asked: bool, file: &Path) -> Result<()> {
    let Some(kind) = kind else { return Ok(()) };
    for (row, id) in (rows.first..).zip(&mut rows.ids) {
        if id.kind() != kind && (asked || id.kind() == IdKind::String) {
            *id = parse(kind, &id.to_string())
                .map_err(|what| Failure::file(file, format!("row {row}: {what}")))?;
        }
    }
    Ok(())
}
