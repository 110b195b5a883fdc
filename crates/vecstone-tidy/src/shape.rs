//! How long functions and files are, and files that belong to no crate.

use crate::repository::{Module, Source, modules};
use crate::rules::{Counted, MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_TEST_FILE_LINES};

/// Functions that are too long.
fn long_functions(module: &Module<'_>) -> Vec<Counted> {
    let functions = module.rust.functions().into_iter();
    let long = functions.filter(|(_, _, lines)| !module.test && *lines > MAX_FUNCTION_LINES);
    let counted = |(name, line, count): (String, usize, usize)| Counted {
        at: module.source.at(line, format!("fn {name} has {count} lines, more than {MAX_FUNCTION_LINES}")),
        name: format!("{} {name}", module.source.path),
        count,
    };
    long.map(counted).collect()
}

/// The file, if it is too long. Lines of tests inside do not count.
fn long_file(module: &Module<'_>) -> Option<Counted> {
    let (count, limit) = if module.test {
        (module.rust.code.lines().count(), MAX_TEST_FILE_LINES)
    } else {
        (module.rust.kept_lines(), MAX_FILE_LINES)
    };
    let at = module.source.at(count, format!("the file has {count} lines, more than {limit}"));
    (count > limit).then(|| Counted { name: module.source.path.clone(), at, count })
}

fn dead(sources: &[Source]) -> Vec<String> {
    modules(sources).1.into_iter().map(|source| source.at(1, "no `mod` leads to this file")).collect()
}

mod tests {
    use super::*;
    use crate::repository::SOURCES;
    use crate::rules::{LONG_FILES, LONG_FUNCTIONS, passes, ratchet};

    #[test]
    fn functions_fit_a_screen() {
        passes(ratchet(modules(&SOURCES).0.iter().flat_map(long_functions).collect(), LONG_FUNCTIONS, 0));
    }

    #[test]
    fn files_are_not_too_long() {
        passes(ratchet(modules(&SOURCES).0.iter().filter_map(long_file).collect(), LONG_FILES, 20));
    }

    #[test]
    fn every_file_is_a_module() {
        passes(dead(&SOURCES));
    }

    #[test]
    fn the_rules_bite() {
        let long = |lines: usize| format!("fn a() {{\n{}}}\n", "    b();\n".repeat(lines - 2));
        let sources = [
            Source::new(
                "crates/a/src/lib.rs",
                "mod b;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod c {\n    fn d() {}\n}\n",
            ),
            Source::new("crates/a/src/b.rs", &(long(70) + &long(71))),
            Source::new("crates/a/src/b/e.rs", ""),
            Source::new("crates/a/src/tests.rs", &long(71)),
            Source::new("crates/a/src/c.rs", &long(2)),
            Source::new("crates/a/tests/f.rs", &"//\n".repeat(MAX_FILE_LINES + 1)),
            Source::new("crates/a/src/main.rs", &"//\n".repeat(MAX_FILE_LINES + 1)),
        ];
        let (found, _) = modules(&sources);
        let functions: Vec<_> = found.iter().flat_map(long_functions).map(|found| found.at).collect();
        assert_eq!(functions, ["crates/a/src/b.rs:71: fn a has 71 lines, more than 70"]);
        let files: Vec<_> = found.iter().filter_map(long_file).map(|found| found.name).collect();
        assert_eq!(files, ["crates/a/src/main.rs"]);
        let dead = dead(&sources);
        assert_eq!(dead.len(), 2, "{dead:?}");
        assert!(
            dead[0].starts_with("crates/a/src/b/e.rs:1: ") && dead[1].starts_with("crates/a/src/c.rs:1: ")
        );
    }
}
