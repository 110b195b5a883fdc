//! Every limit and every exception, in one place.
//!
//! Exceptions are left of the time before the rule. They only shrink: lower a number when the test says so, remove a line
//! when it says so, add none.

use crate::layers::Layers;

/// `max_width` of rustfmt.toml. Strings may be longer: rustfmt does not break them.
pub(crate) const MAX_CODE_WIDTH: usize = 110;
/// Comments and Markdown prose. Tables, fenced code and lines with a URL may be wider.
pub(crate) const MAX_TEXT_WIDTH: usize = 125;
/// Functions outside of tests.
pub(crate) const MAX_FUNCTION_LINES: usize = 70;
/// Files outside of tests; tests at the end of a file do not count.
pub(crate) const MAX_FILE_LINES: usize = 600;
/// Files of tests, benchmarks and fuzzing.
pub(crate) const MAX_TEST_FILE_LINES: usize = 1_000;
/// Marks of what is unfinished.
pub(crate) const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];
/// A link that begins so leads to a file of the repository.
pub(crate) const REPOSITORY: &str = "https://github.com/vecstone/vecstone/blob/main/";
/// The crate that has layers.
pub(crate) const LIBRARY: &str = "crates/vecstone/src/";

/// Files with lines of code that are too wide, and how many.
pub(crate) const WIDE_CODE: &[(&str, usize)] = &[
    ("crates/vecstone-corpus/src/lib.rs", 1),
    ("crates/vecstone/src/buffer/batch.rs", 1),
    ("crates/vecstone/src/query/filter/tests.rs", 2),
    ("crates/vecstone/src/tests/machine.rs", 1),
    ("crates/vecstone/src/tests/planted.rs", 2),
    ("crates/vecstone/tests/filter.rs", 1),
    ("fuzz/fuzz_targets/records.rs", 1),
];

/// Files with lines of text that are too wide, and how many.
pub(crate) const WIDE_TEXT: &[(&str, usize)] =
    &[("docs/python-migration.md", 3), ("docs/python.md", 3), ("python/src/store.rs", 3)];

/// Functions that are too long: file and name.
pub(crate) const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// Files that are too long.
pub(crate) const LONG_FILES: &[(&str, usize)] = &[];

/// Words in the place of a noun, in all comments, pages and messages: how often they stand there. Write who or what it is:
/// the writer, a reader, another process.
pub(crate) const AVOIDED: &[(&str, usize)] =
    &[("whoever", 37), ("nobody", 102), ("somebody", 21), ("anybody", 9), ("what it is", 9)];

/// The code whose names are kept to `RETIRED`.
pub(crate) const CODE: &[&str] = &["crates/vecstone/src/", "python/src/"];

/// Names that code had once, and what it says now.
pub(crate) const RETIRED: &[(&str, &str)] = &[
    ("Turn", "Morsel"),
    ("Wanted", "SearchRequest"),
    ("Measure", "DistanceComputer"),
    ("Goal", "DurabilityTarget"),
    ("crowd", "waiting_for_space"),
    ("setback", "background_error"),
    ("setbacks", "CompactionFailures"),
    ("Dimless", "nothing: a store has a dimension"),
    ("Seen", "LogEvent"),
    ("See", "Visitor"),
    ("in_turn", "with_writer"),
    ("is_over_with", "would_overflow"),
    ("EVERYTHING", "an enum of how far to drain"),
    ("SealFirst", "SegmentFull"),
    ("Mask", "DeletionVector"),
    ("Kill", "CrossSegmentDelete"),
    ("Tip", "LogPosition"),
    ("Sealed", "SegmentExtent"),
    ("settle", "finish_write"),
    ("crew", "parallel"),
    ("AT_WORK", "ACTIVE"),
    ("Taken", "ThreadPermit"),
    ("FEW", "PREFETCH_WIDTH"),
    ("Erased", "DeletedBatch"),
    ("LOOKS", "MAX_OPTIMISTIC_PASSES"),
    ("How", "OpenMode"),
    ("Looked", "Lookup"),
    ("Look", "SegmentProbe"),
    ("noted", "durable_in_log"),
    ("Bad", "DecodeError"),
    ("complain", "into_error"),
    ("blame", "corruption_at"),
    ("HalfMade", "IncompleteCreate"),
    ("Full", "TooManyRows"),
    ("NotClean", "UncleanShutdown"),
    ("lose_ids", "mark_index_damaged"),
    ("has_just_lost_ids", "take_damage_notice"),
    ("Passage", "ThreadTransition"),
    ("PASSING", "TRANSITIONS"),
    ("Wishes", "EngineOptions"),
    ("Chosen", "PyFilter"),
    ("Gives", "IterItem"),
    ("LEAST_WAIT", "MIN_LOCK_WAIT"),
    ("SegmentView", "SegmentVersion"),
    ("doing", "operation"),
];

/// The layers of the library, lowest first. An import goes to the same layer or to a lower one.
pub(crate) const LAYERS: Layers<'_> = &[
    ("sys", &["sys"]),
    ("types", &["types"]),
    ("format", &["format"]),
    ("buffer", &["buffer"]),
    ("pair", &["pair"]),
    ("segment", &["segment"]),
    ("query", &["query"]),
    ("open", &["open"]),
    ("engine", &["engine"]),
    ("maintain", &["maintain"]),
    ("store", &["store"]),
];

/// Imports that go upwards: from, to.
pub(crate) const UPWARD: &[(&str, &str)] = &[];

/// What has a name in a list of exceptions, where it begins and how much of it there is.
pub(crate) struct Counted {
    pub(crate) name: String,
    pub(crate) at: String,
    pub(crate) count: usize,
}

/// What goes beyond its exception, or has none; and exceptions that are larger than needed by more than `slack`.
pub(crate) fn ratchet(found: Vec<Counted>, allowed: &[(&str, usize)], slack: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for Counted { name, at, count } in &found {
        match allowed.iter().find(|(allowed, _)| allowed == name) {
            None => wrong.push(format!("{at} ({count})")),
            Some((_, most)) if count > most => {
                wrong.push(format!("{at} ({count}, and {most} are allowed for \"{name}\")"))
            }
            Some((_, most)) if count + slack < *most => {
                wrong.push(format!(
                    "rules.rs: only {count} of {most} are left for \"{name}\": lower the number"
                ));
            }
            Some(_) => {}
        }
    }
    let gone =
        allowed.iter().filter(|(name, most)| *most > 0 && !found.iter().any(|found| found.name == *name));
    wrong.extend(
        gone.map(|(name, _)| format!("rules.rs: no exception is needed for \"{name}\" any more: remove it")),
    );
    wrong
}

/// Fails with all that is wrong, a line each.
pub(crate) fn passes(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{} found:\n{}", wrong.len(), wrong.join("\n"));
}

mod tests {
    use super::*;

    #[test]
    fn exceptions_only_shrink() {
        let found =
            |name: &str, count| Counted { name: name.to_owned(), at: format!("{name}:1: long"), count };
        let allowed = [("a", 5), ("b", 5)];
        assert!(ratchet(vec![found("a", 5), found("b", 4)], &allowed, 1).is_empty());
        let wrong = ratchet(vec![found("a", 6), found("c", 1)], &allowed, 1);
        assert_eq!(wrong[0], "a:1: long (6, and 5 are allowed for \"a\")");
        assert_eq!(wrong[1], "c:1: long (1)");
        assert_eq!(wrong[2], "rules.rs: no exception is needed for \"b\" any more: remove it");
        assert!(ratchet(vec![found("a", 5), found("b", 3)], &allowed, 1)[0].contains("lower the number"));
    }
}
