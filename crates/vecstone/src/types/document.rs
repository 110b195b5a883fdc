//! Documents: one JSON value a row, one line a document.

use crate::sys::interrupt;
use crate::types::error::{Error, Result};

mod merge;

pub(crate) use merge::{is_object, merge};

/// What a put says of the document of its id.
///
/// JSON text that is `null` says nothing, as [`Keep`](Document::Keep) does: all that looks like "none given" keeps what
/// is stored, and removing it has to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Document<T> {
    /// Nothing: the stored document stays. It is looked up where the put is written, in the order of writing.
    #[default]
    Keep,
    /// The id has no document from then on.
    None,
    /// It is this JSON value.
    Json(T),
}

impl<T> Document<T> {
    /// `Keep` for `None`.
    pub fn given(document: Option<T>) -> Document<T> {
        document.map_or(Document::Keep, Document::Json)
    }

    /// `None` for `None`: what an id has is all that another one is to have.
    pub fn whole(document: Option<T>) -> Document<T> {
        document.map_or(Document::None, Document::Json)
    }

    /// The JSON value, if it is one.
    pub fn json(self) -> Option<T> {
        if let Document::Json(json) = self { Some(json) } else { None }
    }
}

/// JSON text.
impl<'a> From<&'a str> for Document<&'a str> {
    fn from(json: &'a str) -> Document<&'a str> {
        Document::Json(json)
    }
}

/// JSON text.
impl<'a> From<&'a String> for Document<&'a str> {
    fn from(json: &'a String) -> Document<&'a str> {
        Document::Json(json)
    }
}

impl<T: AsRef<str>> Document<T> {
    /// The same, borrowed.
    pub fn as_deref(&self) -> Document<&str> {
        match self {
            Document::Keep => Document::Keep,
            Document::None => Document::None,
            Document::Json(json) => Document::Json(json.as_ref()),
        }
    }
}

impl Document<&str> {
    /// The same with its JSON value on one line; `row` is its place in the batch.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidDocument`] if the text is not exactly one JSON value.
    pub(crate) fn one_line(self, row: usize) -> Result<Document<String>> {
        Ok(match self {
            Document::Keep => Document::Keep,
            Document::None => Document::None,
            Document::Json(text) => match one_line(row, text)? {
                line if line == "null" => Document::Keep,
                line => Document::Json(line),
            },
        })
    }
}

/// Documents as the lines that they become.
pub(crate) fn one_line_each(documents: &[Document<&str>]) -> Result<Vec<Document<String>>> {
    let line = |(row, document): (usize, &Document<&str>)| {
        interrupt::check_at(row)?;
        document.one_line(row)
    };
    documents.iter().enumerate().map(line).collect()
}

/// The same JSON value on one line: a newline can only stand between tokens, where a space means the same.
pub(crate) fn one_line(row: usize, text: &str) -> Result<String> {
    #[cfg(test)]
    if crate::sys::planted::is(crate::sys::planted::Bug::UncheckedInput) {
        return Ok(text.to_owned());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|e| Error::InvalidDocument { row, why: e.to_string().into() })?;
    Ok(text.trim().replace(['\n', '\r'], " "))
}

/// Why a text is not exactly one JSON object.
pub(crate) fn check_object(text: &str) -> Result<(), Box<str>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|e| e.to_string())?;
    if is_object(text.trim_start()) { Ok(()) } else { Err("it is no object".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_means_the_same() {
        let text = " {\"a\":\r\n [1,\n2, \"x\\ny\"]}\n";
        let line = one_line(0, text).expect("valid");
        assert!(!line.contains('\n'));
        let (before, after): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(text).expect("valid"), serde_json::from_str(&line).expect("valid"));
        assert_eq!(before, after);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "nul", "\"\n\"", "NaN", &"[".repeat(1_000_000)] {
            assert!(
                matches!(one_line(0, text), Err(Error::InvalidDocument { .. })),
                "{}",
                &text[..text.len().min(9)]
            );
        }
    }
}
