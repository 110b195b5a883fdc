//! Data goes to stdout, notes to stderr. A reader that went away is not an error.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;
use serde_json::value::RawValue;
use vecstone::counted;

use crate::failure::{Failure, Result};

/// Buffered stdout.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn stdout() -> Output {
        Output { out: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }

    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<()> {
        self.text(text)?;
        self.text("\n")
    }

    pub(crate) fn text(&mut self, text: impl AsRef<str>) -> Result<()> {
        self.out.write_all(text.as_ref().as_bytes()).map_err(broken_pipe)
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.json_part(value)?;
        self.text("\n")
    }

    /// A JSON value without a line end, for arrays that are written piece by piece.
    pub(crate) fn json_part(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.out, value).map_err(|e| broken_pipe(e.into()))
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(broken_pipe)
    }

    /// Writes what is buffered; the command's exit code stands if that works.
    pub(crate) fn finish(&mut self, code: u8) -> Result<u8> {
        self.flush().map(|()| code)
    }
}

fn broken_pipe(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(),
        _ => Failure::error(format!("cannot write to stdout: {error}")),
    }
}

/// A line on stderr; if that is closed there is nobody to tell.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// An id as shown to people: control characters escaped, so that an id stays on its line.
pub(crate) fn shown(id: &str) -> Cow<'_, str> {
    if id.contains(char::is_control) { Cow::Owned(id.escape_debug().to_string()) } else { Cow::Borrowed(id) }
}

/// A JSON document as shown to people: the same value, without characters that a terminal may obey.
pub(crate) fn shown_document(json: &str) -> Cow<'_, str> {
    if !json.contains(char::is_control) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            // JSON allows these between its tokens only, and others within strings only.
            '\t' | '\n' | '\r' => text.push(' '),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    Cow::Owned(text)
}

/// A JSON document as a part of JSON output, digit for digit.
pub(crate) fn as_json(document: &str) -> Result<Box<RawValue>> {
    RawValue::from_string(document.to_owned())
        .map_err(|e| Failure::error(format!("a stored document is not JSON: {e}; run vecstone verify")))
}

/// Up to 20 ids, separated by commas, and how many more there are.
pub(crate) fn shown_list(ids: &[impl Display]) -> String {
    const MOST: usize = 20;
    let mut text =
        ids.iter().take(MOST).map(|id| shown(&id.to_string()).into_owned()).collect::<Vec<_>>().join(", ");
    if ids.len() > MOST {
        text.push_str(&format!(" and {} more", ids.len() - MOST));
    }
    text
}

/// The form of a verb for so many: `one` as in "1 row is left", `many` as in "2 rows are left".
pub(crate) fn verb(number: impl TryInto<u64>, one: &'static str, many: &'static str) -> &'static str {
    if number.try_into().is_ok_and(|number| number == 1) { one } else { many }
}

/// Bytes in the largest unit that leaves a number of at least 1 (powers of 1000).
pub(crate) fn human_bytes(bytes: u64) -> String {
    let mut value = precise(bytes);
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "bytes" { counted(bytes, "byte") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A count as f64, for rates and shares.
#[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_document_is_the_same_value() {
        let json = "{\"a\":\t\"\u{7f}\u{9b}2J é\",\r\"b\": [1]}";
        let shown = shown_document(json);
        assert!(!shown.contains(char::is_control), "{shown:?}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(json));
        assert!(matches!(shown_document("{\"a\": 1}"), Cow::Borrowed(_)));
    }
}
