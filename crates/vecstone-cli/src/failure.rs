//! The one error type of the command line: an exit code and one line that says what to do.

use std::fmt::Display;
use std::io;
use std::path::Path;

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command ended early. An empty message prints nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    /// Exit code 2: wrong input, or something refused.
    pub(crate) fn error(message: impl Into<String>) -> Failure {
        Failure { code: 2, message: one_line(message.into()) }
    }

    /// Exit code 1: what was asked for is not stored.
    pub(crate) fn not_found(message: impl Into<String>) -> Failure {
        Failure { code: 1, message: one_line(message.into()) }
    }

    /// Nobody reads the output any more, which is no error.
    pub(crate) fn silent() -> Failure {
        Failure { code: 0, message: String::new() }
    }

    pub(crate) fn io(path: &Path, operation: &str, source: &io::Error) -> Failure {
        Failure::error(format!("{}: cannot {operation}: {source}", path.display()))
    }

    /// An error about a file: names the file first.
    pub(crate) fn file(path: &Path, what: impl Display) -> Failure {
        Failure::error(format!("{}: {what}", path.display()))
    }
}

impl From<vecstone::Error> for Failure {
    fn from(error: vecstone::Error) -> Failure {
        if matches!(error, vecstone::Error::Interrupted) {
            return Failure { code: 130, ..Failure::error(error.to_string()) };
        }
        let advice = match &error {
            vecstone::Error::NotAStore { path, .. } => store_nearby(path),
            _ => None,
        };
        Failure::error(format!("{error}{}", advice.unwrap_or_default()))
    }
}

/// What a path that is no store may have meant: the store that a file is of, or one in the directory.
fn store_nearby(path: &Path) -> Option<String> {
    let is_store = |dir: &Path| dir.join("MANIFEST").is_file() && dir.join("LOCK").is_file();
    if let Some(dir) = path.parent().filter(|dir| path.is_file() && is_store(dir)) {
        return Some(format!("; it is a file of the store {}", dir.display()));
    }
    let there = std::fs::read_dir(path).ok()?.take(1000).flatten().map(|entry| entry.path());
    let found = there.filter(|dir| is_store(dir)).min()?;
    Some(format!("; {} is one", found.display()))
}

/// Paths and ids may hold line breaks; the message must not.
fn one_line(message: String) -> String {
    if !message.contains(char::is_control) {
        return message;
    }
    message
        .chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
