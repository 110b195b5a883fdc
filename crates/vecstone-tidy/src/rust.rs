//! As much of Rust's grammar as the rules need, on text in the form that rustfmt gives.

use std::collections::BTreeSet;

/// A Rust file, in three versions of the same length in characters: what a version leaves out is blank.
pub(crate) struct Rust {
    /// Without comments, strings and characters.
    pub(crate) code: String,
    /// The comments alone.
    pub(crate) comments: String,
    /// `code` without what is compiled for tests only.
    pub(crate) kept: String,
    /// The file as a whole is for tests.
    pub(crate) is_test: bool,
}

impl Rust {
    pub(crate) fn new(text: &str) -> Self {
        let (code, comments) = split(text);
        let kept = without_tests(&code);
        let is_test = code.lines().any(|line| line.strip_prefix("#![cfg(").is_some_and(is_of_tests));
        Self { code, comments, kept, is_test }
    }

    /// The names of `mod name;`, each with whether it is for tests only.
    pub(crate) fn children(&self) -> Vec<(String, bool)> {
        let names = |code: &str| -> Vec<String> {
            let declared = |line: &str| {
                let (before, name) = line.trim().strip_suffix(';')?.rsplit_once("mod ")?;
                (before.is_empty() || before.starts_with("pub")).then(|| name.to_owned())
            };
            code.lines().filter_map(declared).collect()
        };
        let kept = names(&self.kept);
        names(&self.code).into_iter().map(|name| (name.clone(), !kept.contains(&name))).collect()
    }

    /// Functions that are not of tests: name, line and number of lines.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let chars: Vec<char> = self.kept.chars().collect();
        let lines = Lines::new(&chars);
        let function = |at: usize| {
            let name: String = chars[at + 2..].iter().skip(1).take_while(|c| is_word(**c)).collect();
            let end = end_of_item(&chars, at, "fn").filter(|_| !name.is_empty())?;
            Some((name, lines.of(at), lines.of(end) - lines.of(at) + 1))
        };
        words(&chars, "fn").filter_map(function).collect()
    }

    /// Lines that are left without those of tests.
    pub(crate) fn kept_lines(&self) -> usize {
        let of_tests = self.code.lines().zip(self.kept.lines()).filter(|(code, kept)| code != kept).count();
        self.code.lines().count() - of_tests
    }

    /// The paths of `pub use`.
    pub(crate) fn exports(&self) -> Vec<Vec<String>> {
        let chars: Vec<char> = self.kept.chars().collect();
        let mut paths = Vec::new();
        for mut at in words(&chars, "use").filter(|at| chars[..*at].ends_with(&['p', 'u', 'b', ' '])) {
            at += "use ".len();
            path(&chars, &mut at, &mut Vec::new(), &mut paths);
        }
        paths.into_iter().map(|(_, path)| path).collect()
    }

    /// Paths that begin with `crate` or `super`, with the lines that they stand in; a group gives one path for each name.
    pub(crate) fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let chars: Vec<char> = self.kept.chars().collect();
        let lines = Lines::new(&chars);
        let inline: Vec<_> =
            words(&chars, "mod").filter_map(|at| Some(at..end_of_item(&chars, at, "mod")?)).collect();
        let starts: BTreeSet<_> = words(&chars, "crate").chain(words(&chars, "super")).collect();
        let mut paths = Vec::new();
        let mut end = 0;
        for at in starts {
            if at < end || chars.get(at + 5) != Some(&':') {
                continue; // inside the path before, or `pub(crate)`
            }
            end = at;
            let mut found = Vec::new();
            path(&chars, &mut end, &mut Vec::new(), &mut found);
            for (at, mut path) in found {
                // The first of them lead from `mod name {` to the file, what is left of them out of it.
                let inside = inline.iter().filter(|range| range.contains(&at)).count();
                let supers = path.iter().take_while(|name| *name == "super").count();
                path.drain(..supers.min(inside));
                paths.push((lines.of(at), path));
            }
        }
        paths.retain(|(_, path)| path.first().is_some_and(|name| name == "crate" || name == "super"));
        paths
    }
}

/// Where lines end.
struct Lines(Vec<usize>);

impl Lines {
    fn new(chars: &[char]) -> Self {
        Self(chars.iter().enumerate().filter(|(_, c)| **c == '\n').map(|(at, _)| at).collect())
    }

    /// The number of the line that a place is in, from 1.
    fn of(&self, at: usize) -> usize {
        self.0.partition_point(|end| *end < at) + 1
    }
}

/// The path at `at`, which may end in a group, behind the names `before`.
fn path(chars: &[char], at: &mut usize, before: &mut Vec<String>, paths: &mut Vec<(usize, Vec<String>)>) {
    let (start, depth) = (*at, before.len());
    loop {
        let name: String = chars[*at..].iter().take_while(|c| is_word(**c)).collect();
        *at += name.chars().count();
        before.push(name);
        let next = chars.get(*at + 2).filter(|_| chars[*at..].starts_with(&[':', ':']));
        *at += if next.is_some_and(|c| is_word(*c) || *c == '{') { 2 } else { 0 };
        match next {
            Some('{') => group(chars, at, before, paths),
            Some(c) if is_word(*c) => continue,
            _ => paths.push((start, before.clone())),
        }
        break;
    }
    before.truncate(depth);
}

fn group(chars: &[char], at: &mut usize, before: &mut Vec<String>, paths: &mut Vec<(usize, Vec<String>)>) {
    *at += 1;
    while let Some(c) = chars.get(*at) {
        match c {
            '}' => {
                *at += 1;
                return;
            }
            c if is_word(*c) => {
                path(chars, at, before, paths);
                // `name as other`
                while chars.get(*at).is_some_and(|c| *c != ',' && *c != '}') {
                    *at += 1;
                }
            }
            _ => *at += 1,
        }
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands.
fn words<'a>(chars: &'a [char], word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let len = word.chars().count();
    (0..chars.len().saturating_sub(len - 1)).filter(move |&at| {
        word.chars().eq(chars[at..at + len].iter().copied())
            && (at == 0 || !is_word(chars[at - 1]))
            && !chars.get(at + len).is_some_and(|c| is_word(*c))
    })
}

/// Behind the item that begins at `at`, or `None` if it has no body (`fn` of a trait, `mod name;`).
fn end_of_item(chars: &[char], at: usize, kind: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (here, c) in chars.iter().enumerate().skip(at) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return (kind.is_empty()).then_some(here),
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth == 0 && kind != "use" {
                    return Some(here + 1);
                }
            }
            ';' if depth == 0 => return (kind.is_empty() || kind == "use").then_some(here + 1),
            ',' if depth == 0 && kind.is_empty() => return Some(here + 1),
            _ => {}
        }
    }
    None
}

/// Whether a condition holds in tests or fuzzing only.
fn is_of_tests(cfg: &str) -> bool {
    let cfg: Vec<char> = cfg.chars().take_while(|c| *c != ']').collect();
    let text: String = cfg.iter().collect();
    words(&cfg, "test").next().is_some() && !text.contains("not(")
}

/// Blanks each item, statement or field behind an attribute that is for tests.
fn without_tests(code: &str) -> String {
    let mut chars: Vec<char> = code.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let cfg: String = chars[at..].iter().take(if chars[at] == '#' { 80 } else { 0 }).collect();
        if !cfg.strip_prefix("#[cfg(").is_some_and(is_of_tests) {
            at += 1;
            continue;
        }
        let mut item = at;
        while chars.get(item) == Some(&'#') {
            item =
                end_of_item(&chars, item + 1, "").map_or(chars.len(), |_| behind_bracket(&chars, item + 1));
            item += chars[item..].iter().take_while(|c| c.is_whitespace()).count();
        }
        let end =
            end_of_item(&chars, item, kind(&chars[item..])).or_else(|| end_of_item(&chars, item, "use"));
        let end = end.unwrap_or(chars.len());
        chars[at..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        at = end;
    }
    chars.into_iter().collect()
}

fn behind_bracket(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    for (here, c) in chars.iter().enumerate().skip(at) {
        match c {
            '[' => depth += 1,
            ']' if depth == 1 => return here + 1,
            ']' => depth -= 1,
            _ => {}
        }
    }
    chars.len()
}

/// How an item ends: "use" with a semicolon, "fn" with its braces, "" with what comes first, a comma too.
fn kind(item: &[char]) -> &'static str {
    let first = item.split(|c| "{=;\n".contains(*c)).next().unwrap_or_default();
    let has = |word: &str| words(first, word).next().is_some();
    if ["use", "let", "const", "static", "type"].into_iter().any(has) && !has("fn") && !has("impl") {
        "use"
    } else if ["fn", "mod", "impl", "struct", "enum", "trait", "macro_rules"].into_iter().any(has) {
        "fn"
    } else {
        ""
    }
}

/// Code and comments.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let (len, is_code, is_comment) = match rest {
            ['/', '/', ..] => (rest.iter().take_while(|c| **c != '\n').count(), false, true),
            ['/', '*', ..] => (block_comment(rest), false, true),
            ['\'', '\\', _, ..] => (4 + rest[3..].iter().take_while(|c| **c != '\'').count(), false, false),
            ['\'', _, '\'', ..] => (3, false, false),
            ['"', ..] => (string(rest), false, false),
            ['r', '"' | '#', ..] if at == 0 || !is_word(chars[at - 1]) || is_prefix(&chars, at) => {
                let len = raw_string(rest);
                (len, len == 1, false)
            }
            _ => (1, true, false),
        };
        let end = (at + len).min(chars.len());
        for c in &chars[at..end] {
            code.push(if is_code || *c == '\n' { *c } else { ' ' });
            comments.push(if is_comment || *c == '\n' { *c } else { ' ' });
        }
        at = end;
    }
    (code, comments)
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// `br"` and `cr"`: the letter before belongs to the string.
fn is_prefix(chars: &[char], at: usize) -> bool {
    matches!(chars[at - 1], 'b' | 'c') && (at == 1 || !is_word(chars[at - 2]))
}

/// The length of a raw string; 1 if it is a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return 1;
    }
    let mut at = 2 + hashes;
    while at < rest.len() {
        if rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text =
            "let a = \"// {\"; // \"b\" }\nlet c = '{'; /* { /* } */ */ let d: &'static str = r#\"\"{\"#;\n";
        let rust = Rust::new(text);
        assert_eq!(rust.code.chars().count(), text.chars().count());
        assert_eq!(rust.comments.chars().count(), text.chars().count());
        assert_eq!(rust.comments.lines().next().expect("a line").trim(), "// \"b\" }");
        assert!(!rust.code.contains(['{', '}']) && rust.code.contains("let d: &'static str ="));
        assert!(Rust::new("let e = b'\\''; let f = \"\\\"\"; let g = br\"{\";").code.contains("let g = b"));
    }

    #[test]
    fn what_is_for_tests_is_left_out() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nfn b<A, B>() {\n    {}\n}\n#[cfg(any(test, fuzzing))]\nuse a::{b, c};\n\
                    struct S {\n    #[cfg(test)]\n    d: u8,\n    e: u8,\n}\n#[cfg(not(test))]\nfn f() {}\n#[cfg(test)]\nmod tests;\n\
                    mod g;\n#[cfg(test)]\nmod h {\n}\n";
        let rust = Rust::new(text);
        for (kept, word) in
            [(true, "a()"), (false, "fn b"), (false, "use"), (false, "d: u8"), (true, "e: u8"), (true, "f()")]
        {
            assert_eq!(rust.kept.contains(word), kept, "{word}");
        }
        assert_eq!(rust.children(), [("tests".to_owned(), true), ("g".to_owned(), false)]);
        assert!(!rust.kept.contains("mod h") && !rust.is_test && Rust::new("#![cfg(test)]\n").is_test);
        assert_eq!(rust.kept_lines(), text.lines().count() - 14);
    }

    #[test]
    fn functions_have_lines() {
        let text = "impl A {\n    fn one(&self) -> [u8; 2] {\n        let f: fn() = || {};\n        [1, 2]\n    }\n    fn none();\n}\n";
        assert_eq!(Rust::new(text).functions(), [("one".to_owned(), 2, 4)]);
    }

    #[test]
    fn exports_are_read() {
        let text = "pub use a::{B, c::D};\npub(crate) use e::F;\npub use g::h::I;\nuse j::K;\n";
        let exports: Vec<_> = Rust::new(text).exports().into_iter().map(|path| path.join("::")).collect();
        assert_eq!(exports, ["a::B", "a::c::D", "g::h::I"]);
    }

    #[test]
    fn paths_are_read() {
        let text = "use crate::a::{B, c::{self, D as E}};\npub(crate) use super::f;\nfn g() { crate::h::i::<u8>(); }\n\
                    mod unix {\n    use super::j;\n    use super::super::k;\n}\n#[cfg(test)]\nuse crate::l;\n";
        let paths: Vec<_> = Rust::new(text)
            .paths()
            .into_iter()
            .map(|(line, path)| format!("{line} {}", path.join("::")))
            .collect();
        assert_eq!(
            paths,
            [
                "1 crate::a::B",
                "1 crate::a::c::self",
                "1 crate::a::c::D",
                "2 super::f",
                "3 crate::h::i",
                "6 super::k"
            ]
        );
    }
}
