//! Links of Markdown pages to files of the repository.

use std::collections::BTreeSet;
use std::path::Path;

use crate::repository::Source;
use crate::rules::REPOSITORY;

/// The targets of `[text](target)`, outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        // What stands between backticks is code; a target never is.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for (start, _) in line.match_indices("](").filter(|_| !fenced) {
            let target = line[start + 2..].split([')', ' ']).next().unwrap_or_default();
            links.push((at + 1, target.to_owned()));
        }
    }
    links
}

/// The part of a link behind `#` that leads to each heading.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let heading = |line: &str| {
        fenced ^= line.starts_with("```");
        let text =
            line.trim_start_matches('#').strip_prefix(' ').filter(|_| !fenced && line.starts_with('#'))?;
        let kept = text.trim().to_lowercase();
        Some(
            kept.chars()
                .filter(|c| c.is_alphanumeric() || "_- ".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect(),
        )
    };
    text.lines().filter_map(heading).collect()
}

/// Links that lead nowhere. `read` gives the text at a path of the repository ("" of a directory).
fn broken(source: &Source, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut broken = Vec::new();
    for (line, target) in links(&source.text) {
        let (target, ours) = match target.strip_prefix(REPOSITORY) {
            Some(path) => (path.to_owned(), true),
            None => (target, false),
        };
        // Pages that rustdoc reads link to items, too.
        let is_item = !target.contains(['/', '.', '#']) && source.path.starts_with("crates/");
        if target.contains("://") || target.starts_with("mailto:") || target.is_empty() || (is_item && !ours)
        {
            continue;
        }
        let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
        let path = match path {
            "" => source.path.clone(),
            path if ours => path.to_owned(),
            path => resolve(&source.path, path),
        };
        match read(&path) {
            None => broken.push(source.at(line, format!("{target}: there is no {path}"))),
            Some(text) if !anchor.is_empty() && !anchors(&text).contains(anchor) => {
                broken.push(source.at(line, format!("{target}: {path} has no such heading")));
            }
            Some(_) => {}
        }
    }
    broken
}

/// A path relative to that of the file which names it.
fn resolve(from: &str, to: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

mod tests {
    use super::*;
    use crate::repository::SOURCES;
    use crate::rules::passes;

    #[test]
    fn links_lead_to_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| {
            let path = root.join(path);
            if path.is_dir() {
                Some(String::new())
            } else {
                std::fs::read(path).ok().map(|text| String::from_utf8_lossy(&text).into_owned())
            }
        };
        assert!(SOURCES.iter().any(|source| source.is("md") && !links(&source.text).is_empty()));
        passes(SOURCES.iter().filter(|source| source.is("md")).flat_map(|source| broken(source, read)));
    }

    #[test]
    fn the_rule_bites() {
        let read =
            |path: &str| (path == "docs/b.md").then(|| "# One Two, three\n```\n# no\n```\n".to_owned());
        let broken = |text: &str| broken(&Source::new("docs/a.md", text), read);
        assert!(
            broken(
                "[b](b.md) [b](../docs/b.md#one-two-three) [c](https://c.d/e) `[f](g)`\n```\n[h](i)\n```\n"
            )
            .is_empty()
        );
        assert_eq!(broken("\n[c](c.md)"), ["docs/a.md:2: c.md: there is no docs/c.md"]);
        assert_eq!(broken("[b](b.md#no)"), ["docs/a.md:1: b.md#no: docs/b.md has no such heading"]);
        assert_eq!(
            broken(&format!("[b]({REPOSITORY}docs/b.md) [x]({REPOSITORY}x)")),
            ["docs/a.md:1: x: there is no x"]
        );
    }
}
