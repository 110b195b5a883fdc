//! Data goes to stdout, notes to stderr. A reader that went away is not an error.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

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

/// Up to 20 ids, separated by commas, and how many more there are.
pub(crate) fn shown_list(ids: &[&str]) -> String {
    const MOST: usize = 20;
    let mut text = ids.iter().take(MOST).map(|id| shown(id)).collect::<Vec<_>>().join(", ");
    if ids.len() > MOST {
        text.push_str(&format!(" and {} more", ids.len() - MOST));
    }
    text
}

/// Bytes in the largest unit that leaves a number of at least 1 (powers of 1000).
pub(crate) fn human_bytes(bytes: u64) -> String {
    let mut value = precise(bytes);
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 999.95 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{value:.1} {unit}") };
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
