//! The rows of a .npy file, with ids and documents of text files or without.

use vecstone::{IdKind, VectorStore};

use crate::args::Import;
use crate::documents::Documents;
use crate::failure::{Failure, Result};
use crate::ids::{IdLines, Ids, Source};
use crate::importer::{BATCH_TEXT_BYTES, Batch, Input, batch_rows};
use crate::npy::{self, Dtype, Layout, Shape};
use crate::output::shown;
use crate::repeats::Repeats;
use crate::rows::Rows;

/// The files of an import, read in step.
pub(crate) struct NpyInput<'a> {
    args: &'a Import,
    layout: Layout,
    rows: Rows,
    /// Without it there are no rows yet.
    checked: Option<Checked>,
    /// Rows read so far.
    read: u64,
}

/// Ids and documents, checked and opened again.
struct Checked {
    source: Source,
    ids: Ids,
    documents: Option<Documents>,
}

impl NpyInput<'_> {
    pub(crate) fn open(args: &Import) -> Result<NpyInput<'_>> {
        let (file, layout) = npy::open(&args.file, Shape::Matrix)?;
        if args.id_column.is_some() || args.vector_column.is_some() || args.document_columns.is_some() {
            let what = "a .npy file has no columns; give ids with --ids and documents with --documents";
            return Err(Failure::file(&args.file, what));
        }
        if layout.dtype != Dtype::F32 && !args.convert {
            let what = format!("the array is {}; add --convert to store it as float32", layout.dtype.name());
            return Err(Failure::file(&args.file, what));
        }
        let rows = Rows::new(&args.file, file, layout);
        Ok(NpyInput { args, layout, rows, checked: None, read: 0 })
    }
}

impl Input for NpyInput<'_> {
    fn dim(&self) -> Option<usize> {
        Some(self.layout.dim)
    }

    fn rows(&self) -> Option<u64> {
        Some(self.layout.rows)
    }

    /// Reads ids and documents once.
    fn check(&mut self, kind: Option<IdKind>) -> Result<()> {
        let args = self.args;
        let kind = kind.unwrap_or(IdKind::String);
        let source = Source::choose(args.ids.as_deref(), args.id_prefix.as_deref(), &args.file, kind)?;
        source.check(self.layout.rows)?;
        if let Some(documents) = &args.documents {
            Documents::check(documents, self.layout.rows)?;
        }
        let documents = args.documents.as_deref().map(Documents::open).transpose()?;
        self.checked = Some(Checked { ids: source.open()?, source, documents });
        Ok(())
    }

    /// Without ids of their own, rows must not replace others.
    fn refuse_stored(&self, store: &VectorStore) -> Result<()> {
        let snapshot = store.snapshot()?;
        let Some(checked) = self.checked.as_ref().filter(|_| !snapshot.is_empty()) else { return Ok(()) };
        for id in (0..self.layout.rows).map_while(|row| checked.source.made(row)) {
            if snapshot.contains(&id)? {
                return Err(Failure::error(format!(
                    "id {} is already stored; add --resume to write only what is missing, --overwrite to replace \
                     it, or name the rows with --id-prefix or --ids",
                    shown(&id.to_string())
                )));
            }
        }
        Ok(())
    }

    fn repeats(&self) -> Result<Repeats> {
        match self.checked.as_ref().map(|checked| &checked.source) {
            Some(Source::File(path, kind)) => Repeats::find(|| IdLines::open(path, *kind).map(IdLines::all)),
            _ => Ok(Repeats::default()),
        }
    }

    fn next(&mut self, mut vectors: Vec<f32>) -> Result<Option<Batch>> {
        let Some(checked) = self.checked.as_mut().filter(|_| self.rows.left() > 0) else { return Ok(None) };
        let most = batch_rows(self.args.batch_rows, self.layout.dim);
        let most = usize::try_from(self.rows.left()).map_or(most, |left| left.min(most));
        let mut ids = Vec::with_capacity(most.min(1 << 16));
        let mut documents = Vec::new();
        let mut bytes = 0;
        while ids.len() < most && bytes < BATCH_TEXT_BYTES {
            let id = checked.ids.next()?.ok_or_else(became_shorter)?;
            bytes += id.as_str().map_or(0, str::len);
            ids.push(id);
            if let Some(lines) = &mut checked.documents {
                let document = lines.next()?.ok_or_else(became_shorter)?;
                bytes += document.as_ref().map_or(0, String::len);
                documents.push(document);
            }
        }
        self.rows.read(ids.len(), &mut vectors)?;
        let first = self.read;
        self.read += ids.len() as u64;
        Ok(Some(Batch { first, ids, vectors, documents }))
    }
}

fn became_shorter() -> Failure {
    Failure::error("the ids or documents became fewer while they were read; import them again")
}
