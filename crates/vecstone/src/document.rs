//! Documents: one JSON value a row, one line a document.

use crate::error::{Error, Result};

/// The same JSON value on one line; `row` is its place in the batch: a newline can only stand between tokens, where a space means the same.
///
/// # Errors
///
/// [`Error::InvalidDocument`] if the text is not exactly one JSON value.
pub(crate) fn one_line(row: usize, text: &str) -> Result<String> {
    #[cfg(test)]
    if crate::planted::is(crate::planted::Bug::UncheckedInput) {
        return Ok(text.to_owned());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|e| Error::InvalidDocument { row, why: e.to_string().into() })?;
    Ok(text.trim().replace(['\n', '\r'], " "))
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
