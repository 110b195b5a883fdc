//! Lines: how wide, and what never stands in one.

use crate::repository::{SOURCES, Source};
use crate::rules::{Counted, MARKS, MAX_CODE_WIDTH, MAX_TEXT_WIDTH, WIDE_CODE, WIDE_TEXT, ratchet};
use crate::rust::is_word;

/// Lines of code that are wider than rustfmt's `max_width`, which leaves alone what it cannot parse. Strings and comments
/// in them do not count.
fn wide_code(source: &Source) -> Vec<usize> {
    let width = |(line, code): (&str, &str)| {
        line.chars().zip(code.trim_end().chars()).filter(|(line, code)| line == code).count()
    };
    let widths = source.text.lines().zip(source.rust().code.lines()).map(width).enumerate();
    widths.filter(|(_, width)| *width > MAX_CODE_WIDTH).map(|(at, _)| at + 1).collect()
}

/// Lines of comments or of Markdown prose that are too wide. Tables, fenced code and links may be.
fn wide_text(source: &Source) -> Vec<usize> {
    let text = if source.is("md") { &source.text } else { &source.rust().comments };
    let mut fenced = false;
    let mut wide = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let prose = line.trim_start().trim_start_matches(['/', '!']).trim_start();
        fenced ^= prose.starts_with("```");
        let free = fenced || prose.starts_with('|') || prose.contains("https://");
        if !free && line.trim_end().chars().count() > MAX_TEXT_WIDTH {
            wide.push(at + 1);
        }
    }
    wide
}

/// Tabs, trailing blanks and marks of unfinished work.
fn marks(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        if line.contains('\t') && source.path != "Makefile" {
            found.push(source.at(at + 1, "a tab"));
        }
        if line.ends_with(|c: char| c.is_whitespace()) {
            found.push(source.at(at + 1, "blanks at the end of the line"));
        }
        for mark in line.split(|c| !is_word(c)).filter(|word| MARKS.contains(word)) {
            found.push(source.at(at + 1, format!("{mark}: do it, or file an issue")));
        }
    }
    found
}

/// What is too wide, file by file.
fn wide(which: impl Fn(&Source) -> bool, lines: impl Fn(&Source) -> Vec<usize>, rule: &str) -> Vec<Counted> {
    let count = |source: &Source| {
        let lines = lines(source);
        let at = source.at(*lines.first()?, format!("{rule}: lines {lines:?}"));
        Some(Counted { name: source.path.clone(), at, count: lines.len() })
    };
    SOURCES.iter().filter(|source| which(source)).filter_map(count).collect()
}

mod tests {
    use super::*;
    use crate::rules::passes;

    #[test]
    fn code_is_as_wide_as_rustfmt_says() {
        let config = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rustfmt.toml"));
        assert!(config.expect("rustfmt.toml").contains(&format!("max_width = {MAX_CODE_WIDTH}\n")));
        let rule = format!("code wider than {MAX_CODE_WIDTH}");
        passes(ratchet(wide(|source| source.is("rs"), wide_code, &rule), WIDE_CODE, 0));
    }

    #[test]
    fn comments_and_prose_are_not_too_wide() {
        let rule = format!("a comment or prose wider than {MAX_TEXT_WIDTH}");
        let found = wide(|source| source.is("rs") || source.is("md"), wide_text, &rule);
        passes(ratchet(found, WIDE_TEXT, 0));
    }

    #[test]
    fn no_tabs_no_trailing_blanks_nothing_unfinished() {
        passes(SOURCES.iter().flat_map(marks));
    }

    #[test]
    fn the_rules_bite() {
        let wide = "x".repeat(MAX_CODE_WIDTH + 1);
        assert_eq!(wide_code(&Source::new("a.rs", &format!("\n{wide}\n"))), [2]);
        assert!(wide_code(&Source::new("a.rs", &format!("f(\"{wide}\"); // {wide}\n"))).is_empty());
        let prose = "x".repeat(MAX_TEXT_WIDTH + 1);
        let text = format!(
            "/// {prose}\n/// | {prose}\n/// ```\n/// {prose}\n/// ```\nf(); // {prose}\nf(\"{prose}\");\n"
        );
        assert_eq!(wide_text(&Source::new("a.rs", &text)), [1, 6]);
        assert_eq!(wide_text(&Source::new("a.md", &format!("{prose}\n[a](https://{prose})\n"))), [1]);
        for (line, told) in [("a\tb", "a tab"), ("a ", "blanks"), ("# TODO: b", "TODO"), ("FIXME", "FIXME")] {
            let found = marks(&Source::new("a.py", line));
            assert!(
                found.len() == 1 && found[0].starts_with("a.py:1: ") && found[0].contains(told),
                "{found:?}"
            );
        }
        assert!(
            marks(&Source::new("a.py", "METODO")).is_empty()
                && marks(&Source::new("Makefile", "\ta")).is_empty()
        );
    }
}
