//! Documents of an import: lines of a file, each one JSON value. Never held all at once.

use std::path::Path;

use serde::de::IgnoredAny;
use vecstone::MAX_BATCH_BYTES;

use crate::failure::Result;
use crate::lines::{Form, Lines};

/// A document beside many small ones must still fit in one batch.
const DOCUMENT: Form =
    Form { what: "JSON value", one: "a JSON value, or null for none,", most: (MAX_BATCH_BYTES / 2) as usize };

/// The documents of an import in row order.
pub(crate) struct Documents {
    lines: Lines,
}

impl Documents {
    pub(crate) fn open(path: &Path) -> Result<Documents> {
        Ok(Documents { lines: Lines::open(path, &DOCUMENT)? })
    }

    /// Reads every document once, before anything is stored: as many as `rows`, each one JSON value.
    pub(crate) fn check(path: &Path, rows: u64) -> Result<()> {
        let mut documents = Documents::open(path)?;
        while documents.lines.advance()? {
            let text = documents.lines.text()?;
            serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
                // Its own "line 1" would contradict ours.
                let error = error.to_string();
                let what = error.split(" at line ").next().unwrap_or_default();
                let column = error.rsplit(' ').next().unwrap_or_default();
                documents.lines.failure(&format!("not one JSON value: {what} at column {column}; correct it"))
            })?;
        }
        documents.lines.check_count(rows)
    }

    /// The document of the next row, `Some(None)` if it has none; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Option<String>>> {
        if !self.lines.advance()? {
            return Ok(None);
        }
        // As the store keeps it, for comparison.
        let text = self.lines.text()?.trim().replace('\r', " ");
        Ok(Some((text != "null").then_some(text)))
    }
}
