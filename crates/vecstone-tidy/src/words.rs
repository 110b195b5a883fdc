//! Words that are avoided in prose, and names that were retired.

use std::collections::BTreeMap;

use crate::repository::Source;
use crate::rules::{AVOIDED, CODE, Counted, RETIRED, ratchet};
use crate::rust::is_word;

/// Where a phrase stands in a text, as whole words, in either case.
fn lines_with(text: &str, phrase: &str) -> Vec<usize> {
    let stands = |line: &str| {
        let line = line.to_lowercase();
        line.match_indices(phrase)
            .filter(|(at, _)| {
                !line[..*at].ends_with(is_word) && !line[at + phrase.len()..].starts_with(is_word)
            })
            .count()
    };
    text.lines().enumerate().flat_map(|(at, line)| std::iter::repeat_n(at + 1, stands(line))).collect()
}

/// The names in the code of a file, each with its first line.
fn names(source: &Source) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for (at, line) in source.rust().code.lines().enumerate() {
        for word in line.split(|c| !is_word(c)).filter(|word| !word.is_empty()) {
            names.entry(word.to_owned()).or_insert(at + 1);
        }
    }
    names
}

fn retired(source: &Source, retired: &[(&str, &str)]) -> Vec<String> {
    let names = names(source);
    let found = retired.iter().filter_map(|(word, used)| Some((word, used, names.get(*word)?)));
    found.map(|(word, used, line)| source.at(*line, format!("`{word}` was retired: {used}"))).collect()
}

mod tests {
    use super::*;
    use crate::repository::SOURCES;
    use crate::rules::passes;

    #[test]
    fn avoided_words_get_fewer() {
        let found = AVOIDED.iter().filter_map(|(phrase, _)| {
            let lines: Vec<_> = SOURCES
                .iter()
                .filter(|source| !source.is("toml"))
                .flat_map(|source| {
                    lines_with(&source.text, phrase).into_iter().map(|line| source.at(line, phrase))
                })
                .collect();
            Some(Counted { name: (*phrase).to_owned(), at: lines.first()?.clone(), count: lines.len() })
        });
        passes(ratchet(found.collect(), AVOIDED, 10));
    }

    #[test]
    fn retired_names_do_not_come_back() {
        let code = SOURCES.iter().filter(|source| CODE.iter().any(|code| source.path.starts_with(code)));
        passes(code.flat_map(|source| retired(source, RETIRED)));
    }

    #[test]
    fn the_rules_bite() {
        assert_eq!(lines_with("Whoever\nnobody, nobody; anobody\nthat is\n", "nobody"), [2, 2]);
        assert_eq!(lines_with("Whoever\n", "whoever"), [1]);
        let source = Source::new("a.rs", "// a Tip\nlet tip = \"Tip\";\nlet at = Tip { a };\n");
        assert_eq!(retired(&source, &[("Tip", "LogPosition")]), ["a.rs:3: `Tip` was retired: LogPosition"]);
    }
}
