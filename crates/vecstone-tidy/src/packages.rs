//! What is sent to a registry stands alone: licences, a page, and all that the registry shows.

use std::path::Path;

use crate::repository::Source;

/// What each package says of itself, here or for the whole workspace.
const TOLD: &[&str] = &[
    "description",
    "license",
    "repository",
    "homepage",
    "documentation",
    "readme",
    "keywords",
    "categories",
    "rust-version",
    "include",
];
const LICENCES: &[&str] = &["LICENSE-MIT", "LICENSE-APACHE"];
const PYTHON: &str = "python/pyproject.toml";

/// Whether a manifest is of a crate that goes to crates.io.
fn is_published(source: &Source) -> bool {
    source.path.starts_with("crates/")
        && source.path.ends_with("/Cargo.toml")
        && !source.text.contains("publish = false")
}

/// What a manifest does not say.
fn untold(source: &Source) -> Vec<String> {
    let says = |key: &str| {
        source.text.lines().any(|line| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(" = ") || rest.starts_with(".workspace"))
        })
    };
    TOLD.iter().filter(|key| !says(key)).map(|key| source.at(1, format!("no {key}"))).collect()
}

/// Licences that are not beside a manifest, letter for letter.
fn unlicensed(source: &Source, root: &Path) -> Vec<String> {
    let folder = root.join(&source.path).parent().expect("a manifest stands in a folder").to_owned();
    let same = |name: &str| {
        let ours = std::fs::read(root.join(name)).expect("the licence at the root");
        std::fs::read(folder.join(name)).is_ok_and(|copy| copy == ours)
    };
    LICENCES
        .iter()
        .filter(|name| !same(name))
        .map(|name| source.at(1, format!("copy {name} beside it")))
        .collect()
}

/// The fenced code of a page in one language, fences included.
fn code<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let end = |start: usize| page[start..].find("\n```\n").map_or(page.len(), |end| start + end + 5);
    page.match_indices(&fence).map(|(start, _)| &page[start..end(start)]).collect()
}

mod tests {
    use super::*;
    use crate::repository::SOURCES;
    use crate::rules::passes;

    fn text(path: &str) -> &'static str {
        &SOURCES.iter().find(|source| source.path == path).unwrap_or_else(|| panic!("no {path}")).text
    }

    #[test]
    fn each_package_tells_all_that_its_registry_shows() {
        let crates: Vec<_> = SOURCES.iter().filter(|source| is_published(source)).collect();
        assert_eq!(crates.len(), 3, "vecstone, vecstone-arrow, vecstone-cli");
        passes(crates.into_iter().flat_map(untold));
    }

    #[test]
    fn each_package_has_the_licences() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let packages = SOURCES.iter().filter(|source| is_published(source) || source.path == PYTHON);
        passes(packages.flat_map(|source| unlicensed(source, &root)));
    }

    /// A documentation test of the library runs the page of its crate, which stands in the package, too.
    #[test]
    fn rust_in_the_readme_is_that_of_the_crate() {
        let (readme, of_crate) = (text("README.md"), text("crates/vecstone/README.md"));
        let blocks = code(readme, "rust");
        assert!(!blocks.is_empty() && blocks == code(of_crate, "rust"), "the same blocks in both");
    }

    #[test]
    fn the_rules_bite() {
        let says = TOLD.iter().map(|key| format!("{key}.workspace = true\n")).collect::<String>()
            + "keywordss = 1\n";
        assert!(untold(&Source::new("crates/a/Cargo.toml", &says)).is_empty());
        let says = says.replace("keywords.", "#");
        assert_eq!(
            untold(&Source::new("crates/a/Cargo.toml", &says)),
            ["crates/a/Cargo.toml:1: no keywords"]
        );
        assert!(!is_published(&Source::new("crates/a/Cargo.toml", "publish = false\n")));
        let nowhere = unlicensed(
            &Source::new("crates/none/Cargo.toml", ""),
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."),
        );
        assert_eq!(nowhere.len(), LICENCES.len());
        assert_eq!(
            code("a\n```rust\nb\n```\nc\n```rust\nd\n```\n", "rust"),
            ["```rust\nb\n```\n", "```rust\nd\n```\n"]
        );
    }
}
