//! The texts of the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use crate::rust::Rust;

/// Names of directories that hold nothing written by hand.
const SKIPPED: &[&str] =
    &["target", "corpus", "artifacts", "coverage", "work", "venv", "golden", "__pycache__"];
const TEXTS: &[&str] = &["rs", "md", "py", "pyi", "toml", "sh"];

/// A text with its path from the root of the repository.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    rust: OnceLock<Rust>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), rust: OnceLock::new() }
    }

    pub(crate) fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    pub(crate) fn rust(&self) -> &Rust {
        self.rust.get_or_init(|| Rust::new(&self.text))
    }

    pub(crate) fn at(&self, line: usize, rule: impl std::fmt::Display) -> String {
        format!("{}:{line}: {rule}", self.path)
    }
}

/// Every text of the repository but this crate's own, which names what the others must not say.
pub(crate) static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    walk(&root, "", &mut sources);
    sources.retain(|source| !source.path.starts_with("crates/vecstone-tidy/"));
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 100, "the repository has been read: {} files", sources.len());
    sources
});

fn walk(directory: &Path, path: &str, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the repository") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
            if !hidden && !SKIPPED.contains(&name.as_str()) {
                walk(&entry.path(), &path, sources);
            }
        } else if kind.is_file() && is_text(&path) {
            let text =
                std::fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            sources.push(Source::new(&path, &text));
        }
    }
}

fn is_text(path: &str) -> bool {
    path == "Makefile"
        || path == ".ci/run"
        || path.rsplit_once('.').is_some_and(|(_, end)| TEXTS.contains(&end))
}

/// A Rust file that a crate has as a module.
pub(crate) struct Module<'a> {
    pub(crate) source: &'a Source,
    pub(crate) rust: &'a Rust,
    /// From the crate's root: `["engine", "commit"]`.
    pub(crate) path: Vec<String>,
    /// Compiled for tests, benchmarks or fuzzing only.
    pub(crate) test: bool,
}

/// The modules of all crates, and the Rust files that no `mod` leads to.
pub(crate) fn modules(sources: &[Source]) -> (Vec<Module<'_>>, Vec<&Source>) {
    let files: BTreeMap<&str, &Source> = sources
        .iter()
        .filter(|source| source.is("rs"))
        .map(|source| (source.path.as_str(), source))
        .collect();
    let mut modules = Vec::new();
    let mut reached = BTreeSet::new();
    // A file may be reached more than once (helpers of integration tests): the first time counts, and roots that are
    // not tests come first.
    let mut open: Vec<_> = files.keys().filter_map(|path| Some((*path, Vec::new(), root(path)?))).collect();
    open.sort_by_key(|(_, _, test)| !test);
    while let Some((path, module, test)) = open.pop() {
        if !reached.insert(path) {
            continue;
        }
        let rust = files[path].rust();
        let folder = folder(path, module.is_empty());
        for (name, of_tests) in rust.children() {
            // What is for tests may stand in `tests/`, where `#[path]` says so.
            for child in ["{}.rs", "{}/mod.rs", "tests/{}/mod.rs"].map(|child| child.replace("{}", &name)) {
                let child = format!("{folder}/{child}");
                if let Some((child, _)) = files.get_key_value(child.as_str()) {
                    let mut path = module.clone();
                    path.push(name.clone());
                    open.push((*child, path, test || of_tests));
                }
            }
        }
        modules.push(Module { source: files[path], test: test || rust.is_test, rust, path: module });
    }
    let dead =
        files.into_iter().filter(|(path, _)| !reached.contains(path)).map(|(_, source)| source).collect();
    (modules, dead)
}

/// Whether a file is the root of a crate, and whether that is a test.
fn root(path: &str) -> Option<bool> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop()?;
    match parts.pop()? {
        "src" => (name == "lib.rs" || name == "main.rs").then_some(false),
        "tests" | "benches" | "examples" | "fuzz_targets" => (!parts.contains(&"src")).then_some(true),
        _ => None,
    }
}

/// Where the children of a module stand.
fn folder(path: &str, is_root: bool) -> String {
    let (folder, name) = path.rsplit_once('/').expect("no Rust file stands at the root of the repository");
    match name.strip_suffix(".rs") {
        Some(stem) if !is_root && stem != "mod" => format!("{folder}/{stem}"),
        _ => folder.to_owned(),
    }
}
