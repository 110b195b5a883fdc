//! Merging JSON objects as RFC 7396 says, on their texts: numbers, keys and values stay digit for digit.

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Objects of a patch nest at most so deep: merging never runs out of stack.
const MAX_DEPTH: usize = 128;

/// What a patch makes of a document. `target` is an object or missing.
///
/// # Errors
///
/// Either is not JSON, or the patch nests too deep.
pub(crate) fn merge(target: Option<&str>, patch: &str) -> serde_json::Result<String> {
    merge_at(target, patch, MAX_DEPTH)
}

fn merge_at(target: Option<&str>, patch: &str, depth: usize) -> serde_json::Result<String> {
    if !is_object(patch) {
        return Ok(patch.to_owned());
    }
    if depth == 0 {
        return Err(serde_json::Error::custom(format!("it nests more than {MAX_DEPTH} levels")));
    }
    let mut merged = Members::default();
    for (key, value) in
        target.filter(|target| is_object(target)).map(members).transpose()?.unwrap_or_default()
    {
        merged.set(key, Cow::Borrowed(value))?;
    }
    for (key, value) in members(patch)? {
        if value == "null" {
            merged.remove(key)?;
        } else {
            let value = merge_at(merged.get(key)?, value, depth - 1)?;
            merged.set(key, Cow::Owned(value))?;
        }
    }
    Ok(merged.text())
}

pub(crate) fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

/// The members of an object: a key that comes twice has its last value.
#[derive(Default)]
struct Members<'a> {
    places: HashMap<Vec<u8>, usize>,
    /// Keys as they are written; no value: removed.
    all: Vec<(&'a str, Option<Cow<'a, str>>)>,
}

impl<'a> Members<'a> {
    fn get(&self, key: &str) -> serde_json::Result<Option<&str>> {
        let place = self.places.get(&name_of(key)?);
        Ok(place.and_then(|&place| self.all[place].1.as_deref()))
    }

    fn set(&mut self, key: &'a str, value: Cow<'a, str>) -> serde_json::Result<()> {
        let next = self.all.len();
        match *self.places.entry(name_of(key)?).or_insert(next) {
            place if place == next => self.all.push((key, Some(value))),
            place => self.all[place].1 = Some(value),
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> serde_json::Result<()> {
        if let Some(place) = self.places.remove(&name_of(key)?) {
            self.all[place].1 = None;
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::from("{");
        for (key, value) in self.all.iter().filter_map(|(key, value)| Some((key, value.as_deref()?))) {
            if text.len() > 1 {
                text.push(',');
            }
            text.extend([key, ":", value]);
        }
        text.push('}');
        text
    }
}

/// What a key is called, however it is written. A key may hold half of a surrogate pair, so bytes.
fn name_of(key: &str) -> serde_json::Result<Vec<u8>> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a key")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_owned())
        }
    }
    serde_json::Deserializer::from_str(key).deserialize_bytes(Bytes)
}

/// Keys and values of an object as they are written.
fn members(object: &str) -> serde_json::Result<Vec<(&str, &str)>> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                entries.push((key.get(), value.get()));
            }
            Ok(entries)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of RFC 7396, appendix A.
    const TABLE: [(&str, &str, &str); 15] = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ];

    #[test]
    fn as_the_rfc_says() {
        for (target, patch, expected) in TABLE {
            assert_eq!(merge(Some(target), patch).expect("JSON"), expected, "{target} and {patch}");
        }
        assert_eq!(merge(None, r#"{"a":1,"b":null}"#).expect("JSON"), r#"{"a":1}"#);
    }

    #[test]
    fn what_is_not_touched_stays_digit_for_digit() {
        let target =
            r#"{"big": 12345678901234567890123, "f": 1.10e+400, "\u0061": "\ud800", "d": 1, "d": [ 2 ]}"#;
        let merged = merge(Some(target), r#"{"a": {"x": 1.0}, "new": null}"#).expect("JSON");
        let expected = r#"{"big":12345678901234567890123,"f":1.10e+400,"\u0061":{"x":1.0},"d":[ 2 ]}"#;
        assert_eq!(merged, expected);
        // Removed and set again by one patch: the last counts.
        assert_eq!(merge(Some(r#"{"a":1,"b":2}"#), r#"{"a":null,"a":3}"#).expect("JSON"), r#"{"b":2,"a":3}"#);
    }

    #[test]
    fn a_patch_without_end_is_an_error() {
        let deep = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert_eq!(merge(None, &deep(128)).expect("not too deep"), deep(128));
        let error = merge(Some("{}"), &deep(100_000)).expect_err("too deep");
        assert!(error.to_string().contains("128"), "{error}");
        // What is only carried along may be of any depth.
        let target = format!(r#"{{"t":{}}}"#, deep(10_000));
        assert_eq!(merge(Some(&target), "{}").expect("JSON"), target);
    }
}
