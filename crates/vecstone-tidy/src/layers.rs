//! Which module of the library may import which.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::Module;
use crate::rust::Rust;

/// The layers, lowest first: a name, and the modules or folders in it (`"repair"` has `repair::log` in it, too, unless
/// that has an entry of its own).
pub(crate) type Layers<'a> = &'a [(&'a str, &'a [&'a str])];
/// An import from a lower to a higher layer: importer and imported, as entries of the table.
type Upward<'a> = (&'a str, &'a str);

struct Table<'a> {
    /// From an entry to its layer.
    layer: BTreeMap<&'a str, usize>,
    /// From a name that the root of the library re-exports to its path.
    exported: BTreeMap<String, Vec<String>>,
    modules: BTreeSet<String>,
}

impl<'a> Table<'a> {
    fn new(layers: Layers<'a>, modules: &[&Module<'_>]) -> Self {
        let layer =
            layers.iter().enumerate().flat_map(|(at, (_, names))| names.iter().map(move |name| (*name, at)));
        let root = modules.iter().find(|module| module.path.is_empty());
        Self {
            layer: layer.collect(),
            exported: root.map(|root| exported(root.rust)).unwrap_or_default(),
            modules: modules.iter().map(|module| module.path.join("::")).collect(),
        }
    }

    /// The entry that a module or an item in it belongs to.
    fn entry(&self, path: &[String]) -> Option<&'a str> {
        let joined = |len: usize| path[..len].join("::");
        (1..=path.len())
            .rev()
            .find_map(|len| self.layer.get_key_value(joined(len).as_str()))
            .map(|(name, _)| *name)
    }

    /// What a path of a module leads to: a module, with the item.
    fn target(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let mut to = if supers > 0 { from[..from.len().saturating_sub(supers)].to_vec() } else { Vec::new() };
        to.extend_from_slice(&path[supers.max(1)..]);
        let first = to.first()?;
        if !self.modules.contains(first) {
            let path = self.exported.get(first)?;
            to.splice(..1, path.iter().cloned());
        }
        Some(to)
    }
}

/// From a name that the root of the library re-exports to its path.
fn exported(root: &Rust) -> BTreeMap<String, Vec<String>> {
    root.exports().into_iter().filter_map(|path| Some((path.last()?.clone(), path))).collect()
}

/// What is wrong with the imports of a library.
fn wrong(modules: &[&Module<'_>], layers: Layers<'_>, allowed: &[Upward<'_>]) -> Vec<String> {
    let table = Table::new(layers, modules);
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for module in modules.iter().filter(|module| !module.test && !module.path.is_empty()) {
        let Some(from) = table.entry(&module.path) else {
            wrong.push(
                module.source.at(1, "the module is in no layer: give it a place in LAYERS of rules.rs"),
            );
            continue;
        };
        met.insert((from, ""));
        let target = |(line, path): (usize, Vec<String>)| {
            Some((line, table.entry(&table.target(&module.path, &path)?)?))
        };
        for (line, to) in module.rust.paths().into_iter().filter_map(target).collect::<BTreeSet<_>>() {
            let (low, high) = (table.layer[from], table.layer[to]);
            if low < high {
                met.insert((from, to));
                if !allowed.contains(&(from, to)) {
                    let rule = format!(
                        "`{from}` of layer {} imports `{to}` of layer {} above it",
                        layers[low].0, layers[high].0
                    );
                    wrong.push(module.source.at(line, rule));
                }
            }
        }
    }
    let entries = table.layer.keys().filter(|entry| !met.contains(&(**entry, "")));
    wrong.extend(entries.map(|entry| format!("rules.rs: LAYERS has `{entry}`, which is no module")));
    let gone = allowed.iter().filter(|upward| !met.contains(*upward));
    wrong.extend(
        gone.map(|(from, to)| format!("rules.rs: `{from}` imports `{to}` no more: take it out of UPWARD")),
    );
    wrong
}

mod tests {
    use super::*;
    use crate::repository::{SOURCES, Source, modules};
    use crate::rules::{LAYERS, LIBRARY, UPWARD, passes};

    #[test]
    fn imports_go_downwards() {
        let (modules, _) = modules(&SOURCES);
        let library: Vec<_> =
            modules.iter().filter(|module| module.source.path.starts_with(LIBRARY)).collect();
        passes(wrong(&library, LAYERS, UPWARD));
    }

    #[test]
    fn the_rule_bites() {
        let sources = [
            Source::new("a/src/lib.rs", "mod low;\nmod high;\nmod new;\npub use high::{Top, Other};\n"),
            Source::new(
                "a/src/low.rs",
                "mod deep;\n#[cfg(test)]\nuse crate::high::A;\nuse crate::{high::B, low::C};\n",
            ),
            Source::new(
                "a/src/low/deep.rs",
                "use super::C;\nfn a() -> crate::Top { super::super::high::b() }\n",
            ),
            Source::new("a/src/high.rs", "use crate::low;\n"),
            Source::new("a/src/new.rs", ""),
        ];
        let (found, _) = modules(&sources);
        let found: Vec<_> = found.iter().collect();
        let layers: Layers<'_> = &[("first", &["low", "old"]), ("second", &["high"])];
        let mut told = wrong(&found, layers, &[]);
        told.sort();
        let up = "`low` of layer first imports `high` of layer second above it";
        assert_eq!(
            told,
            [
                format!("a/src/low.rs:4: {up}"),
                format!("a/src/low/deep.rs:2: {up}"),
                "a/src/new.rs:1: the module is in no layer: give it a place in LAYERS of rules.rs".to_owned(),
                "rules.rs: LAYERS has `old`, which is no module".to_owned(),
            ]
        );
        let layers: Layers<'_> = &[("first", &["low", "new"]), ("second", &["high"])];
        assert!(wrong(&found, layers, &[("low", "high")]).is_empty());
        let layers: Layers<'_> =
            &[("first", &["low::deep"]), ("second", &["high"]), ("third", &["low", "new"])];
        let told = wrong(
            &found,
            layers,
            &[("low", "high"), ("high", "low"), ("low::deep", "high"), ("low::deep", "low")],
        );
        assert_eq!(told, ["rules.rs: `low` imports `high` no more: take it out of UPWARD"]);
    }
}
