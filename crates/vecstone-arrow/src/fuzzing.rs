//! The door for the fuzz target `json_lines` in `fuzz/`.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use vecstone::{Id, MAX_DIM};

use crate::{Columns, DocumentColumns, JsonLines, Rows};

/// A byte that says which columns are read and how many rows a batch has, then any bytes as JSON lines: refused, or what
/// `serde_json` makes of one line after the other.
pub fn json_lines(input: &[u8]) {
    let Some((&mode, text)) = input.split_first() else { return };
    let named = DocumentColumns::Named(vec!["a".to_owned(), "b".to_owned()]);
    let documents = [DocumentColumns::IfThere, DocumentColumns::None, DocumentColumns::Others, named];
    let mut columns = Columns { documents: documents[usize::from(mode % 4)].clone(), ..Columns::default() };
    if mode & 4 != 0 {
        columns.text = Some("text".to_owned());
    }
    if mode & 8 != 0 {
        columns.dim = Some(2);
    }
    let reader = JsonLines::of(
        Path::new("fuzz"),
        Box::new(Cursor::new(text.to_vec())),
        &columns,
        1 + usize::from(mode >> 4),
    );
    let found: Result<Vec<Rows>, _> = reader.collect();
    let mut naive = Naive { columns: &columns, dim: columns.dim, rows: Vec::new() };
    let expected = naive.read(text);
    match (found, expected) {
        (Ok(batches), Ok(())) => naive.compare(&batches),
        (Ok(_), Err(Why::Refused)) => panic!("taken: {}", text.escape_ascii()),
        (Err(error), Ok(())) => panic!("{error}: {}", text.escape_ascii()),
        (_, Err(_)) => {}
    }
}

/// Why a naive reader has no rows.
enum Why {
    Refused,
    /// JSON that a tree of values cannot hold: 1e400, half of a surrogate pair, nesting without end.
    Unclear,
}

/// A row: its id, the numbers of its vector, its document and its text.
type Row = (Id, Vec<f32>, Option<Value>, Option<String>);

struct Naive<'a> {
    columns: &'a Columns,
    dim: Option<usize>,
    rows: Vec<Row>,
}

impl Naive<'_> {
    fn read(&mut self, text: &[u8]) -> Result<(), Why> {
        for (n, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = if n == 0 { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
            if !line.trim_ascii().is_empty() {
                let line = std::str::from_utf8(line).map_err(|_| Why::Refused)?;
                let is_json = serde_json::from_str::<IgnoredAny>(line).is_ok();
                let object = serde_json::from_str(line);
                let why =
                    if is_json && line.trim_start().starts_with('{') { Why::Unclear } else { Why::Refused };
                let row = self.row(line, &object.map_err(|_| why)?).ok_or(Why::Refused)?;
                self.rows.push(row);
            }
        }
        Ok(())
    }

    /// `None` if the line is not taken.
    fn row(&mut self, line: &str, object: &Map<String, Value>) -> Option<Row> {
        let id = match object.get("id")? {
            Value::String(text) => Id::String(text.clone()),
            Value::Number(number) => Id::U64(number.as_u64()?),
            _ => return None,
        };
        // A tree of values rounds numbers to f64: their text is needed.
        let texts: HashMap<String, Box<RawValue>> = serde_json::from_str(line).ok()?;
        let numbers: Vec<Box<RawValue>> = serde_json::from_str(texts.get("vector")?.get()).ok()?;
        let numbers = numbers.iter().map(|number| number.get().parse().ok());
        let vector: Vec<f32> = numbers.collect::<Option<_>>()?;
        let dim = *self.dim.get_or_insert(vector.len());
        if vector.len() != dim || dim == 0 || dim > MAX_DIM as usize {
            return None;
        }
        let text = match self.columns.text.as_ref().map(|column| object.get(column)) {
            None | Some(Some(Value::Null)) => None,
            Some(Some(Value::String(text))) => Some(text.clone()),
            Some(_) => return None,
        };
        Some((id, vector, self.document(object)?, text))
    }

    /// `Some(None)`: it has none.
    fn document(&self, object: &Map<String, Value>) -> Option<Option<Value>> {
        let members: Map<String, Value> = match &self.columns.documents {
            DocumentColumns::None => return Some(None),
            DocumentColumns::IfThere => {
                return Some(object.get("document").cloned().filter(|value| !value.is_null()));
            }
            DocumentColumns::Named(names) => {
                if self.rows.is_empty() && names.iter().any(|name| !object.contains_key(name)) {
                    return None;
                }
                object
                    .iter()
                    .filter(|(key, _)| names.contains(key))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect()
            }
            DocumentColumns::Others => {
                let others = object.iter().filter(|(key, _)| !["id", "vector"].contains(&key.as_str()));
                others.map(|(k, v)| (k.clone(), v.clone())).collect()
            }
        };
        if members.len() == 1 && members.contains_key("document") {
            return Some(members.into_iter().next().map(|(_, value)| value).filter(|value| !value.is_null()));
        }
        Some(Some(Value::Object(members)))
    }

    fn compare(&self, batches: &[Rows]) {
        let mut expected = self.rows.iter();
        let mut first = 0;
        for batch in batches {
            assert_eq!(batch.first, first, "the number of the first row");
            first += batch.ids.len() as u64;
            assert!(!batch.ids.is_empty(), "a batch without rows");
            for (n, id) in batch.ids.iter().enumerate() {
                let (expected_id, vector, document, text) = expected.next().expect("a row of the input");
                assert_eq!(id, expected_id);
                let found = &batch.vectors[n * batch.dim..][..batch.dim];
                let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(found), bits(vector), "the vector of {id}");
                let found = batch.documents.as_ref().and_then(|documents| documents[n].as_deref());
                assert!(found.is_none_or(|text| !text.contains(['\n', '\r'])), "more than a line");
                let found = found.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
                assert_eq!(found.as_ref(), document.as_ref(), "the document of {id}");
                let found = batch.texts.as_ref().and_then(|texts| texts[n].as_ref());
                assert_eq!(found, text.as_ref(), "the text of {id}");
            }
        }
        assert!(expected.next().is_none(), "a row is missing");
    }
}

#[cfg(test)]
mod tests {
    use vecstone_corpus::{corpus, mutations_pass};

    #[test]
    fn the_corpus_and_mutations_of_it_pass() {
        let inputs = corpus("json_lines", 8);
        inputs.iter().for_each(|input| super::json_lines(input));
        mutations_pass(inputs, 5000, super::json_lines);
    }
}
