//! Filters: which rows count, told by ids or by what the JSON documents say.

mod json;
#[cfg(test)]
mod tests;

use crate::types::error::{Error, Result};
use crate::types::id::Id;
use json::{Json, Set, Value, elements, entries, kind, members};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// Filters and their values nest at most so deep: evaluating one never runs out of stack.
const MAX_DEPTH: usize = 64;

const OPERATORS: &str = "$eq $ne $gt $gte $lt $lte $in $nin $any $all $contains $text $itext $exists $empty";

/// Which rows count: those with certain ids, those whose document says certain things, or both
/// ([`and`](Self::and)). Cloning it is cheap.
///
/// # Over documents
///
/// [`parse`](Self::parse) takes a JSON object of keys and what their values must be:
///
/// ```
/// # use vecstone::Filter;
/// # fn main() -> vecstone::Result<()> {
/// Filter::parse(r#"{"lang": "en"}"#)?;
/// Filter::parse(r#"{"year": {"$gte": 2020, "$lt": 2024}, "lang": {"$in": ["en", "de"]}}"#)?;
/// Filter::parse(r#"{"$or": [{"author.name": "Ada"}, {"$not": {"tags": {"$contains": "draft"}}}]}"#)?;
/// # Ok(())
/// # }
/// ```
///
/// Several keys, and several operators behind one key, must all hold; `{}` selects every row. `$and` and `$or` join a
/// list of filters, `$not` turns one around. A dotted key walks through objects: `author.name` is `name` in the object
/// `author`. A backslash takes its meaning from a dot, from a `$` at the beginning, and from another backslash.
///
/// | operator | the value under the key |
/// |---|---|
/// | `$eq`, or a bare value | is that value |
/// | `$ne` | is not |
/// | `$gt` `$gte` `$lt` `$lte` | is a number (for a number) or a string (for a string) and greater, ... Strings are ordered by code points |
/// | `$in`, `$nin` | is one, none, of the list. An array is compared as a whole |
/// | `$contains` | is an array that has that element, or a string that has that part |
/// | `$any`, `$all` | contains one, each, of the list |
/// | `$text`, `$itext` | is a string that has that part; `$itext`: when both are in lower case (Unicode) |
/// | `$exists`: true or false | is there, `null` included; is not |
/// | `$empty`: true or false | is missing, `null`, `""`, `[]` or `{}`; is none of these |
///
/// Values of different kinds are never equal: 1 is not `"1"` and not `true`. Numbers are compared exactly, whether they
/// are written as whole or not: 1 is 1.0, 2^53 + 1 is not 2^53. (Whole numbers of more than 38 digits, and all others,
/// count as the nearest 64-bit float.) Objects are equal if they have the same keys and values in any order; of a key
/// that comes twice in an object the last counts. `{"key": null}` selects what holds `null`, not what has no such key.
///
/// Where the key is missing, or the row has no document, or one that is no object, only `$ne`, `$nin`,
/// `{"$exists": false}` and `{"$empty": true}` hold (and `$not` of what does not).
///
/// # Cost
///
/// A filter over documents reads all documents of live rows, on the threads that the search may use, and in each only
/// the keys that it names. Ids are looked up, O(ids). Nothing of it is kept.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Sorted.
    ids: Option<Arc<[Id]>>,
    /// All must hold.
    documents: Vec<Arc<Documents>>,
}

impl Filter {
    /// A filter over documents, from its JSON text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidFilter`] names the key or the operator that is wrong.
    pub fn parse(text: &str) -> Result<Filter> {
        let text = serde_json::from_str::<&RawValue>(text).map_err(not_json)?.get();
        let mut parser = Parser { keys: Vec::new() };
        let rule = parser.rule(text, MAX_DEPTH)?;
        let nothing = vec![None; parser.keys.len()];
        let without = rule.holds(&nothing).map_err(not_json)?;
        Ok(Filter { ids: None, documents: vec![Arc::new(Documents { rule, keys: parser.keys, without })] })
    }

    /// The rows with these ids, as far as they are there. Ids of another kind than the store's select nothing.
    pub fn ids(ids: impl IntoIterator<Item = Id>) -> Filter {
        Filter { ids: Some(ids.into_iter().collect()), documents: Vec::new() }
    }

    /// The rows that both select.
    pub fn and(mut self, other: Filter) -> Filter {
        self.documents.extend(other.documents);
        self.ids = match (self.ids, other.ids) {
            (Some(ids), Some(others)) => {
                let others: HashSet<&Id> = others.iter().collect();
                Some(ids.iter().filter(|id| others.contains(id)).cloned().collect())
            }
            (ids, others) => ids.or(others),
        };
        self
    }

    /// The ids that it is about, if it names any. One may come several times.
    pub(crate) fn named(&self) -> Option<&[Id]> {
        self.ids.as_deref()
    }

    /// Whether documents have to be looked at.
    pub(crate) fn reads_documents(&self) -> bool {
        !self.documents.is_empty()
    }

    /// What it says of a document, or of a row without one.
    ///
    /// # Errors
    ///
    /// The text is not JSON.
    pub(crate) fn takes_document(&self, document: Option<&str>) -> serde_json::Result<bool> {
        for documents in &self.documents {
            if !documents.hold(document)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A filter over documents.
#[derive(Debug)]
struct Documents {
    rule: Rule,
    /// The first parts of all keys that it names.
    keys: Vec<Vec<u8>>,
    /// What it says of a row without a document.
    without: bool,
}

impl Documents {
    fn hold(&self, document: Option<&str>) -> serde_json::Result<bool> {
        match document {
            Some(object) if object.starts_with('{') => self.rule.holds(&members(object, &self.keys)?),
            _ => Ok(self.without),
        }
    }
}

#[derive(Debug)]
enum Rule {
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
    Field(Field),
}

/// What the value under a key must be.
#[derive(Debug)]
struct Field {
    /// Which of the keys of the filter it begins with.
    key: usize,
    /// The keys behind the dots.
    path: Vec<Vec<u8>>,
    test: Test,
    negated: bool,
}

#[derive(Debug)]
enum Test {
    Among(Set),
    /// How it may stand to the value.
    Compares(&'static [Ordering], Value),
    HasAny(Set),
    HasAll(Set),
    Text(String),
    /// In lower case.
    TextOfAnyCase(String),
    Exists,
    Empty,
}

impl Rule {
    /// `found`: the values under the filter's keys.
    fn holds(&self, found: &[Option<&str>]) -> serde_json::Result<bool> {
        let any = |rules: &[Rule], wanted: bool| {
            for rule in rules {
                if rule.holds(found)? == wanted {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        match self {
            Rule::All(rules) => Ok(!any(rules, false)?),
            Rule::Any(rules) => any(rules, true),
            Rule::Not(rule) => Ok(!rule.holds(found)?),
            Rule::Field(field) => Ok(field.holds(found[field.key])? != field.negated),
        }
    }
}

impl Field {
    fn holds(&self, mut found: Option<&str>) -> serde_json::Result<bool> {
        for key in &self.path {
            found = match found {
                Some(object) if object.starts_with('{') => {
                    members(object, std::slice::from_ref(key))?.pop().flatten()
                }
                _ => None,
            };
        }
        match found {
            Some(text) => self.test.holds(&Json::of(text)?),
            None => Ok(matches!(self.test, Test::Empty)),
        }
    }
}

impl Test {
    fn holds(&self, stored: &Json<'_>) -> serde_json::Result<bool> {
        match self {
            Test::Among(set) => set.has(stored),
            Test::Compares(wanted, value) => {
                let order = value.order_of_kind(stored).map(Ordering::reverse);
                Ok(order.is_some_and(|order| wanted.contains(&order)))
            }
            Test::HasAny(set) => contains_any(stored, set),
            Test::HasAll(set) => contains_all(stored, set),
            Test::Text(part) => Ok(text(stored).is_some_and(|text| text.contains(part))),
            Test::TextOfAnyCase(part) => {
                Ok(text(stored).is_some_and(|text| text.to_lowercase().contains(part)))
            }
            Test::Exists => Ok(true),
            Test::Empty => Ok(match stored {
                Json::Null => true,
                Json::Text(text) => text.is_empty(),
                Json::Array(text) => elements(text)?.is_empty(),
                Json::Object(text) => entries(text)?.is_empty(),
                Json::Bool(_) | Json::Number(_) => false,
            }),
        }
    }
}

/// A stored string; what is no character counts as U+FFFD.
fn text<'a>(stored: &'a Json<'_>) -> Option<Cow<'a, str>> {
    if let Json::Text(text) = stored { Some(String::from_utf8_lossy(text)) } else { None }
}

/// Whether a value is a part of a stored string.
fn is_part(value: &Value, stored: &str) -> bool {
    matches!(value, Value::Text(part) if stored.contains(&*String::from_utf8_lossy(part)))
}

fn contains_any(stored: &Json<'_>, set: &Set) -> serde_json::Result<bool> {
    if let Some(text) = text(stored) {
        return Ok(set.values().iter().any(|value| is_part(value, &text)));
    }
    let Json::Array(array) = stored else { return Ok(false) };
    for element in elements(array)? {
        if set.has(&Json::of(element)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every value there is contains all of nothing, but `null` is no value.
fn contains_all(stored: &Json<'_>, set: &Set) -> serde_json::Result<bool> {
    if let Some(text) = text(stored) {
        return Ok(set.values().iter().all(|value| is_part(value, &text)));
    }
    let Json::Array(array) = stored else {
        return Ok(set.values().is_empty() && !matches!(stored, Json::Null));
    };
    let stored = elements(array)?.into_iter().map(Json::of).collect::<Result<Vec<_>, _>>()?;
    for value in set.values() {
        let mut found = false;
        for element in &stored {
            found = found || value.is(element)?;
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

// ---- parsing ----

fn invalid(why: impl Into<Arc<str>>) -> Error {
    Error::InvalidFilter { why: why.into() }
}

fn not_json(error: serde_json::Error) -> Error {
    invalid(format!(r#"not JSON: {error}; a filter is an object such as {{"lang": "en"}}"#))
}

fn too_deep() -> Error {
    invalid(format!("it nests deeper than {MAX_DEPTH} levels; make it flatter"))
}

/// A key or an operator, for messages.
fn shown(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

/// `depth`: how many levels there may be.
fn value(text: &str, depth: usize) -> Result<Value> {
    Value::of(text, depth).map_err(not_json)?.ok_or_else(too_deep)
}

/// Refuses a list of objects under a word that is an operator but for its `$`: no document is meant by that.
fn check_word(key: &[u8], text: &str) -> Result<()> {
    let word = String::from_utf8_lossy(key).to_ascii_lowercase();
    if !matches!(word.as_str(), "and" | "or" | "not" | "nor") || !text.starts_with('[') {
        return Ok(());
    }
    let parts = elements(text).map_err(not_json)?;
    if parts.is_empty() || !parts.iter().all(|part| part.starts_with('{')) {
        return Ok(());
    }
    let meant = match word.as_str() {
        "not" | "nor" => r#"{"$not": {"$or": [...]}}"#.to_owned(),
        _ => format!(r#"{{"${word}": [...]}}"#),
    };
    let equal = format!(r#"{{{}: {{"$eq": [...]}}}}"#, shown(key));
    Err(invalid(format!(
        "{} is a key here: give {meant} to join filters, or {equal} for that key",
        shown(key)
    )))
}

/// Refuses an object all of whose keys are operators but for their `$`: no document has such a value.
fn check_operators(key: &[u8], asked: &[(Cow<'_, [u8]>, &str)]) -> Result<()> {
    let meant = |word: &[u8]| match word {
        b"gt" | b">" => Some("$gt"),
        b"gte" | b">=" => Some("$gte"),
        b"lt" | b"<" => Some("$lt"),
        b"lte" | b"<=" => Some("$lte"),
        b"ne" | b"!=" => Some("$ne"),
        b"nin" => Some("$nin"),
        b"==" => Some("$eq"),
        _ => None,
    };
    let Some((first, _)) = asked.first().filter(|_| asked.iter().all(|(word, _)| meant(word).is_some()))
    else {
        return Ok(());
    };
    let (key, word, operator) = (shown(key), shown(first), meant(first).unwrap_or_default());
    Err(invalid(format!(
        r#"{word} of key {key} is a key of an object here: give {{{key}: {{"{operator}": ...}}}} to compare, or {{{key}: {{"$eq": {{...}}}}}} for that object"#
    )))
}

struct Parser {
    /// The first parts of the keys seen so far.
    keys: Vec<Vec<u8>>,
}

impl Parser {
    fn rule(&mut self, text: &str, depth: usize) -> Result<Rule> {
        if !text.starts_with('{') {
            return Err(invalid(format!(
                r#"it is {}; a filter is an object such as {{"lang": "en"}}"#,
                kind(text)
            )));
        }
        let inner = depth.checked_sub(1).ok_or_else(too_deep)?;
        let mut rules = Vec::new();
        for (key, text) in entries(text).map_err(not_json)? {
            check_word(&key, text)?;
            match &*key {
                b"$and" => rules.extend(self.list(&key, text, inner)?),
                b"$or" => rules.push(Rule::Any(self.list(&key, text, inner)?)),
                b"$not" => rules.push(Rule::Not(Box::new(self.rule(text, inner)?))),
                [b'$', ..] => {
                    let key = shown(&key);
                    return Err(invalid(format!(
                        "{key} stands where a key is expected; only $and, $or and $not may stand there, and behind a \
                         key {OPERATORS}"
                    )));
                }
                _ => self.field(&key, text, inner, &mut rules)?,
            }
        }
        Ok(Rule::All(rules))
    }

    fn list(&mut self, operator: &[u8], text: &str, depth: usize) -> Result<Vec<Rule>> {
        if !text.starts_with('[') {
            let (operator, kind) = (shown(operator), kind(text));
            return Err(invalid(format!("{operator} takes a list of filters, not {kind}")));
        }
        elements(text).map_err(not_json)?.into_iter().map(|text| self.rule(text, depth)).collect()
    }

    /// Adds what a key and its value ask for.
    fn field(&mut self, key: &[u8], text: &str, depth: usize, rules: &mut Vec<Rule>) -> Result<()> {
        let asked = if text.starts_with('{') { entries(text).map_err(not_json)? } else { Vec::new() };
        let operators = asked.iter().filter(|(operator, _)| operator.starts_with(b"$")).count();
        if operators == 0 {
            check_operators(key, &asked)?;
            let set = Set::new(vec![value(text, depth)?]);
            rules.push(self.rule_of(key, Test::Among(set), false));
            return Ok(());
        }
        for (operator, text) in asked {
            if !operator.starts_with(b"$") {
                return Err(invalid(format!(
                    "{} of key {} stands among operators; to compare with an object, use $eq",
                    shown(&operator),
                    shown(key)
                )));
            }
            let (test, negated) = test(key, &operator, text, depth)?;
            rules.push(self.rule_of(key, test, negated));
        }
        Ok(())
    }

    fn rule_of(&mut self, key: &[u8], test: Test, negated: bool) -> Rule {
        let mut path = path_of(key).into_iter();
        let first = path.next().unwrap_or_default();
        let known = self.keys.iter().position(|known| *known == first);
        let key = known.unwrap_or_else(|| {
            self.keys.push(first);
            self.keys.len() - 1
        });
        Rule::Field(Field { key, path: path.collect(), test, negated })
    }
}

/// The keys of a dotted key.
fn path_of(key: &[u8]) -> Vec<Vec<u8>> {
    let (mut path, mut bytes) = (vec![Vec::new()], key.iter().copied().peekable());
    while let Some(byte) = bytes.next() {
        let last = path.len() - 1;
        match byte {
            b'.' => path.push(Vec::new()),
            b'\\' => path[last].push(bytes.next_if(|next| b".$\\".contains(next)).unwrap_or(byte)),
            _ => path[last].push(byte),
        }
    }
    path
}

/// What an operator and its operand ask for, and whether that is turned around.
fn test(key: &[u8], operator: &[u8], text: &str, depth: usize) -> Result<(Test, bool)> {
    use Ordering::{Equal, Greater, Less};
    let wrong = |takes: &str| {
        let (operator, key, kind) = (shown(operator), shown(key), kind(text));
        invalid(format!("{operator} of key {key} takes {takes}, not {kind}"))
    };
    let list = || match value(text, depth)? {
        Value::Array(values) => Ok(Set::new(values)),
        _ => Err(wrong("a list")),
    };
    let one = || Ok::<_, Error>(Set::new(vec![value(text, depth)?]));
    let compares = |wanted: &'static [Ordering]| match value(text, depth)? {
        value @ (Value::Number(_) | Value::Text(_)) => Ok(Test::Compares(wanted, value)),
        _ => Err(wrong("a number or a string")),
    };
    let part = || match value(text, depth)? {
        Value::Text(part) => Ok(String::from_utf8_lossy(&part).into_owned()),
        _ => Err(wrong("a string")),
    };
    let flag = || match value(text, depth)? {
        Value::Bool(is) => Ok(!is),
        _ => Err(wrong("true or false")),
    };
    Ok(match operator {
        b"$eq" => (Test::Among(one()?), false),
        b"$ne" => (Test::Among(one()?), true),
        b"$gt" => (compares(&[Greater])?, false),
        b"$gte" => (compares(&[Greater, Equal])?, false),
        b"$lt" => (compares(&[Less])?, false),
        b"$lte" => (compares(&[Less, Equal])?, false),
        b"$in" => (Test::Among(list()?), false),
        b"$nin" => (Test::Among(list()?), true),
        b"$contains" => (Test::HasAny(one()?), false),
        b"$any" => (Test::HasAny(list()?), false),
        b"$all" => (Test::HasAll(list()?), false),
        b"$text" => (Test::Text(part()?), false),
        b"$itext" => (Test::TextOfAnyCase(part()?.to_lowercase()), false),
        b"$exists" => (Test::Exists, flag()?),
        b"$empty" => (Test::Empty, flag()?),
        b"$and" | b"$or" | b"$not" => {
            let (operator, key) = (shown(operator), shown(key));
            return Err(invalid(format!(
                r#"{operator} stands behind key {key}; it goes around whole filters, as in {{"$not": {{"year": {{"$gt": 2020}}}}}}"#
            )));
        }
        _ => {
            let (operator, key) = (shown(operator), shown(key));
            return Err(invalid(format!("{operator} of key {key} is no operator; there are {OPERATORS}")));
        }
    })
}
