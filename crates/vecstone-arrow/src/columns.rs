//! Which columns are what.

use arrow_schema::{DataType, Field, Schema};

use crate::error::{Error, Result};
use crate::{ids, json, vectors};

/// The column that is a document by itself.
pub(crate) const DOCUMENT: &str = "document";

pub(crate) const IDS: &str = "the ids";
pub(crate) const VECTORS: &str = "the vectors";
pub(crate) const DOCUMENTS: &str = "the documents";
pub(crate) const TEXTS: &str = "the texts";

/// The columns that rows are made of. The default: ids in `id`, vectors in `vector`, documents in `document` if there
/// is such a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Ids: strings; whole numbers from 0; UUIDs as `FixedSizeBinary(16)`, which are text in JSON lines.
    pub id: String,
    /// Vectors: lists of numbers, all of one length. `None`: there are none yet, as for rows to be embedded.
    pub vector: Option<String>,
    /// Documents.
    pub documents: DocumentColumns,
    /// Texts to be embedded: strings.
    pub text: Option<String>,
    /// The length that vectors must have; `None`: that of the first row of a batch (in JSON lines, of the file).
    pub dim: Option<usize>,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            id: "id".to_owned(),
            vector: Some("vector".to_owned()),
            documents: DocumentColumns::default(),
            text: None,
            dim: None,
        }
    }
}

/// The columns that documents are made of.
///
/// A document is the object `{"column": value, ...}`. But if the only column is called `document`, its value is the
/// document: text in it is taken as JSON, which is what [`reader_of`](crate::reader_of) writes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DocumentColumns {
    /// `document` if there is such a column, else none.
    #[default]
    IfThere,
    /// No documents.
    None,
    /// These, in this order. In JSON lines the first line must have all of them; others may leave some out.
    Named(Vec<String>),
    /// All but those of ids and vectors, in their order. The text is one of them.
    Others,
}

/// The places of the columns in a schema.
pub(crate) struct Chosen {
    pub(crate) id: usize,
    pub(crate) vector: Option<usize>,
    pub(crate) text: Option<usize>,
    pub(crate) documents: Documents,
}

pub(crate) enum Documents {
    None,
    /// The value of this column is the document.
    Whole(usize),
    /// Members of the object.
    Members(Vec<usize>),
}

impl Columns {
    /// Whether a column of that name is read.
    pub(crate) fn has(&self, name: &str) -> bool {
        let columns = [Some(&self.id), self.vector.as_ref(), self.text.as_ref()];
        columns.into_iter().flatten().any(|column| column == name)
            || match &self.documents {
                DocumentColumns::None => false,
                DocumentColumns::IfThere => name == DOCUMENT,
                DocumentColumns::Named(names) => names.iter().any(|column| column == name),
                DocumentColumns::Others => true,
            }
    }

    /// Finds the columns, and checks that their types are taken.
    pub(crate) fn choose(&self, schema: &Schema) -> Result<Chosen> {
        let id = find(schema, &self.id, IDS)?;
        let vector = self.vector.as_deref().map(|name| find(schema, name, VECTORS)).transpose()?;
        let text = self.text.as_deref().map(|name| find(schema, name, TEXTS)).transpose()?;
        let documents = self.choose_documents(schema, id, vector)?;
        check(schema.field(id), IDS, ids::is_taken, ids::WANTED)?;
        if let Some(vector) = vector {
            check(schema.field(vector), VECTORS, vectors::is_taken, vectors::WANTED)?;
        }
        if let Some(text) = text {
            check(schema.field(text), TEXTS, ids::is_text, "give strings")?;
        }
        for at in documents.places() {
            let field = schema.field(*at);
            check(field, DOCUMENTS, json::is_taken, json::WANTED)?;
            // Its numbers count months, or what else, since 1970.
            if field.extension_type_name() == Some("pandas.period") {
                let (column, found) = (field.name().clone(), "pandas.period".to_owned());
                let wanted = "convert it to points in time or to text (in pandas: .dt.to_timestamp(), or .astype(str))";
                return Err(Error::ColumnType { role: DOCUMENTS, column, found, wanted });
            }
        }
        Ok(Chosen { id, vector, text, documents })
    }

    fn choose_documents(&self, schema: &Schema, id: usize, vector: Option<usize>) -> Result<Documents> {
        let members: Vec<usize> = match &self.documents {
            DocumentColumns::None => return Ok(Documents::None),
            DocumentColumns::IfThere if schema.fields().find(DOCUMENT).is_none() => {
                return Ok(Documents::None);
            }
            DocumentColumns::IfThere => vec![find(schema, DOCUMENT, DOCUMENTS)?],
            DocumentColumns::Named(names) => {
                names.iter().map(|name| find(schema, name, DOCUMENTS)).collect::<Result<_>>()?
            }
            DocumentColumns::Others => {
                let others = (0..schema.fields().len()).filter(|at| *at != id && Some(*at) != vector);
                others.map(|at| find(schema, schema.field(at).name(), DOCUMENTS)).collect::<Result<_>>()?
            }
        };
        Ok(match members.as_slice() {
            [] => Documents::None,
            [at] if schema.field(*at).name() == DOCUMENT => Documents::Whole(*at),
            _ => Documents::Members(members),
        })
    }
}

impl Documents {
    pub(crate) fn places(&self) -> &[usize] {
        match self {
            Documents::None => &[],
            Documents::Whole(at) => std::slice::from_ref(at),
            Documents::Members(members) => members,
        }
    }
}

impl Chosen {
    /// The names of the columns that are not read.
    pub(crate) fn unread(&self, schema: &Schema) -> Vec<String> {
        let places = self.places();
        let others = schema.fields().iter().enumerate().filter(|(at, _)| !places.contains(at));
        others.map(|(_, field)| field.name().clone()).collect()
    }

    /// All columns that are read, in the order of the schema.
    pub(crate) fn places(&self) -> Vec<usize> {
        let mut places = vec![self.id];
        places.extend(self.vector.iter().chain(&self.text).chain(self.documents.places()));
        places.sort_unstable();
        places.dedup();
        places
    }
}

fn find(schema: &Schema, name: &str, role: &'static str) -> Result<usize> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => Err(Error::AmbiguousColumn { column: name.to_owned() }),
        (None, _) => Err(Error::MissingColumn {
            role,
            column: name.to_owned(),
            there: schema.fields().iter().map(|field| field.name().clone()).collect(),
        }),
    }
}

fn check(
    field: &Field,
    role: &'static str,
    taken: fn(&DataType) -> bool,
    wanted: &'static str,
) -> Result<()> {
    if taken(field.data_type()) {
        return Ok(());
    }
    let (column, found) = (field.name().clone(), field.data_type().to_string());
    Err(Error::ColumnType { role, column, found, wanted })
}
