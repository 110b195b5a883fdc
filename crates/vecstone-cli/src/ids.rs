//! Ids of an import: lines of a file, or names made of the row number. Never held all at once.

use std::path::{Path, PathBuf};

use vecstone::{Id, IdKind, MAX_ID_BYTES, MAX_ID_NUMBER, Uuid};

use crate::failure::{Failure, Result};
use crate::lines::{Form, Lines};

const ID: Form = Form { what: "id", one: "an id", most: MAX_ID_BYTES };

/// Where the ids of an import come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// One id a line.
    File(PathBuf, IdKind),
    /// `{prefix}-{row:09}`.
    Named(String),
    /// The number of the row.
    Counted,
}

impl Source {
    /// From `--ids`, `--id-prefix` or the stem of the imported file.
    pub(crate) fn choose(
        ids: Option<&Path>,
        prefix: Option<&str>,
        file: &Path,
        kind: IdKind,
    ) -> Result<Source> {
        match (ids, kind) {
            (Some(ids), _) => Ok(Source::File(ids.to_owned(), kind)),
            (None, IdKind::String) => Source::named(prefix, file),
            (None, IdKind::U64) if prefix.is_none() => Ok(Source::Counted),
            (None, IdKind::U64) => {
                let what =
                    "--id-prefix makes ids of text, and these are to be u64; leave it out, or give --ids";
                Err(Failure::error(what))
            }
            (None, IdKind::Uuid) => {
                Err(Failure::error("ids of kind uuid are not made up; give them with --ids"))
            }
        }
    }

    fn named(prefix: Option<&str>, file: &Path) -> Result<Source> {
        let stem = prefix.or_else(|| file.file_stem()?.to_str());
        let Some(stem) = stem else {
            return Err(Failure::file(file, "the file's name is not UTF-8; name the rows with --id-prefix"));
        };
        if named(stem, u64::MAX).len() > MAX_ID_BYTES {
            return Err(Failure::error(format!(
                "the id prefix is longer than {MAX_ID_BYTES} bytes; shorten it"
            )));
        }
        Ok(Source::Named(stem.to_owned()))
    }

    pub(crate) fn open(&self) -> Result<Ids> {
        let lines = match self {
            Source::File(path, kind) => Some(IdLines::open(path, *kind)?),
            Source::Named(_) | Source::Counted => None,
        };
        Ok(Ids { source: self.clone(), lines, row: 0 })
    }

    /// Reads every id once, before anything is stored: as many as `rows`, each of its kind.
    pub(crate) fn check(&self, rows: u64) -> Result<()> {
        let Source::File(path, kind) = self else { return Ok(()) };
        let mut lines = IdLines::open(path, *kind)?;
        while lines.next()?.is_some() {}
        lines.0.check_count(rows)
    }

    /// The id of a row that has none of its own.
    pub(crate) fn made(&self, row: u64) -> Option<Id> {
        match self {
            Source::File(..) => None,
            Source::Named(prefix) => Some(named(prefix, row).into()),
            Source::Counted => Some(row.into()),
        }
    }
}

fn named(prefix: &str, row: u64) -> String {
    format!("{prefix}-{row:09}")
}

/// The ids of an import in row order.
pub(crate) struct Ids {
    source: Source,
    lines: Option<IdLines>,
    row: u64,
}

impl Ids {
    pub(crate) fn next(&mut self) -> Result<Option<Id>> {
        self.row += 1;
        match &mut self.lines {
            Some(lines) => lines.next(),
            None => Ok(self.source.made(self.row - 1)),
        }
    }
}

/// The ids of a file, one a line.
pub(crate) struct IdLines(Lines, IdKind);

impl IdLines {
    pub(crate) fn open(path: &Path, kind: IdKind) -> Result<IdLines> {
        Ok(IdLines(Lines::open(path, &ID)?, kind))
    }

    pub(crate) fn next(&mut self) -> Result<Option<Id>> {
        if !self.0.advance()? {
            return Ok(None);
        }
        parse(self.1, self.0.text()?).map(Some).map_err(|what| self.0.failure(&what))
    }

    /// All that are left.
    pub(crate) fn all(mut self) -> impl Iterator<Item = Result<Id>> {
        std::iter::from_fn(move || self.next().transpose())
    }
}

/// Ids named on the command line, of the store's kind. In a store that was never written to, any text will do.
pub(crate) fn parse_all<'a>(
    kind: Option<IdKind>,
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<Id>> {
    let kind = kind.unwrap_or(IdKind::String);
    texts.into_iter().map(|text| parse(kind, text).map_err(Failure::error)).collect()
}

/// An id from its text; `Err` says what it should look like.
pub(crate) fn parse(kind: IdKind, text: &str) -> Result<Id, String> {
    let (id, like) = match kind {
        IdKind::String => return Ok(Id::from(text)),
        IdKind::U64 => (whole_number(text).map(Id::from), "a number from 0 to 18446744073709551614"),
        IdKind::Uuid => (
            Uuid::try_parse(text).ok().map(Id::from),
            "32 hexadecimal digits, as in 67e55044-10b1-426f-9247-bb680e5fe0c8",
        ),
    };
    id.ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        let more = if shown.len() < text.len() { "..." } else { "" };
        format!("{shown:?}{more} is not an id of kind {}; give {like}", kind.name())
    })
}

/// Digits only: no sign, and no more of them than the largest number has.
fn whole_number(text: &str) -> Option<u64> {
    let digits = text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|number| *number <= MAX_ID_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_numbers_have_at_least_nine_digits() {
        assert_eq!(named("movies", 7), "movies-000000007");
        assert_eq!(named("", 1_234_567_890), "-1234567890");
    }

    #[test]
    fn ids_are_read_by_their_kind() {
        let number = |text| parse(IdKind::U64, text).ok();
        assert_eq!(number("0"), Some(Id::U64(0)));
        assert_eq!(number("007"), Some(Id::U64(7)));
        assert_eq!(number("18446744073709551614"), Some(Id::U64(MAX_ID_NUMBER)));
        for text in [
            "",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "18446744073709551615",
            "18446744073709551616",
            "000000000000000000001",
            "١",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
        let uuid = |text| parse(IdKind::Uuid, text).map(|id| id.to_string()).ok();
        let hyphenated = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        for text in [hyphenated, "67E5504410B1426F9247BB680E5FE0C8", "{67e55044-10b1-426f-9247-bb680e5fe0c8}"]
        {
            assert_eq!(uuid(text).as_deref(), Some(hyphenated));
        }
        for text in ["", "67e55044", "67e55044-10b1-426f-9247-bb680e5fe0cg"] {
            assert_eq!(uuid(text), None, "{text:?}");
        }
        assert_eq!(parse(IdKind::String, "-1"), Ok(Id::from("-1")));
    }

    #[test]
    fn a_long_wrong_id_is_cut_in_the_message() {
        let message = parse(IdKind::U64, &"é".repeat(1000)).unwrap_err();
        assert!(message.len() < 250 && message.contains("\"... is not an id of kind u64"), "{message}");
    }
}
