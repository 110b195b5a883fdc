//! JSON as filters see it: compared where it lies, whatever it holds.
//!
//! A document may hold what most parsers refuse: nesting without end, half of a surrogate pair, 1e400. None of that is
//! damage. So only what a filter asks for is read, one level at a time, and nothing here recurses deeper than a filter.

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// A number; whole ones of up to 38 digits are exact, others are the nearest f64.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    /// Never NaN.
    Float(f64),
}

impl Number {
    fn of(text: &str) -> serde_json::Result<Number> {
        if let Ok(whole) = text.parse() {
            return Ok(Number::Whole(whole));
        }
        text.parse().map(Number::Float).map_err(serde_json::Error::custom)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (*self, *other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (Number::Whole(a), Number::Float(b)) => whole_to_float(a, b),
            (Number::Float(a), Number::Whole(b)) => whole_to_float(b, a).reverse(),
            // None only for NaN, which no JSON number is.
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        }
    }
}

/// Exact: 2^53 + 1 is not 2^53 as a float.
fn whole_to_float(a: i128, b: f64) -> Ordering {
    const END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0; // 2^127
    if b >= END {
        return Ordering::Less;
    }
    if b < -END {
        return Ordering::Greater;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within its range, and the fraction is looked at")]
    let whole = b.trunc() as i128;
    a.cmp(&whole).then(0.0.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

/// A stored value. Strings are UTF-8 in which a lone surrogate is three bytes, so that their order is that of the code
/// points.
#[derive(Debug)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, [u8]>),
    Array(&'a str),
    Object(&'a str),
}

impl<'a> Json<'a> {
    /// `text`: one JSON value, without spaces around it.
    pub(super) fn of(text: &'a str) -> serde_json::Result<Json<'a>> {
        Ok(match text.as_bytes().first() {
            Some(b'n') => Json::Null,
            Some(b't') => Json::Bool(true),
            Some(b'f') => Json::Bool(false),
            Some(b'"') => Json::Text(text_of(text)?),
            Some(b'[') => Json::Array(text),
            Some(b'{') => Json::Object(text),
            _ => Json::Number(Number::of(text)?),
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Json::Null => 0,
            Json::Bool(_) => 1,
            Json::Number(_) => 2,
            Json::Text(_) => 3,
            Json::Array(_) => 4,
            Json::Object(_) => 5,
        }
    }
}

/// A value that a filter names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Vec<u8>),
    Array(Vec<Value>),
    Object(BTreeMap<Vec<u8>, Value>),
}

impl Value {
    /// `None` if it nests deeper than `depth`.
    pub(super) fn of(text: &str, depth: usize) -> serde_json::Result<Option<Value>> {
        let Some(inner) = depth.checked_sub(1) else { return Ok(None) };
        Ok(Some(match Json::of(text)? {
            Json::Null => Value::Null,
            Json::Bool(is) => Value::Bool(is),
            Json::Number(number) => Value::Number(number),
            Json::Text(text) => Value::Text(text.into_owned()),
            Json::Array(text) => {
                let values: Option<_> = elements(text)?
                    .into_iter()
                    .map(|item| Value::of(item, inner))
                    .collect::<Result<_, _>>()?;
                let Some(values) = values else { return Ok(None) };
                Value::Array(values)
            }
            Json::Object(text) => {
                let mut object = BTreeMap::new();
                for (key, item) in entries(text)? {
                    let Some(value) = Value::of(item, inner)? else { return Ok(None) };
                    object.insert(key.into_owned(), value);
                }
                Value::Object(object)
            }
        }))
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::Text(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
        }
    }

    /// Whether a stored value is this one. Of a key that an object has twice the last counts.
    pub(super) fn is(&self, stored: &Json<'_>) -> serde_json::Result<bool> {
        match (self, stored) {
            (Value::Array(values), Json::Array(text)) => {
                let stored = elements(text)?;
                Ok(values.len() == stored.len() && all_are(values.iter().zip(stored))?)
            }
            (Value::Object(object), Json::Object(text)) => {
                let stored: BTreeMap<_, _> = entries(text)?.into_iter().collect();
                let same = object.len() == stored.len()
                    && object.keys().zip(stored.keys()).all(|(a, b)| a.as_slice() == b.as_ref());
                Ok(same && all_are(object.values().zip(stored.into_values()))?)
            }
            _ => Ok(self.order(stored).is_eq()),
        }
    }

    /// How this stands to a stored value that is no array and no object; by kind where the kinds differ.
    pub(super) fn order(&self, stored: &Json<'_>) -> Ordering {
        match (self, stored) {
            (Value::Bool(a), Json::Bool(b)) => a.cmp(b),
            (Value::Number(a), Json::Number(b)) => a.cmp(b),
            (Value::Text(a), Json::Text(b)) => a.as_slice().cmp(b),
            _ => self.rank().cmp(&stored.rank()),
        }
    }

    /// As [`order`](Self::order), `None` where the kinds differ.
    pub(super) fn order_of_kind(&self, stored: &Json<'_>) -> Option<Ordering> {
        (self.rank() == stored.rank()).then(|| self.order(stored))
    }
}

fn all_are<'a>(pairs: impl Iterator<Item = (&'a Value, &'a str)>) -> serde_json::Result<bool> {
    for (value, text) in pairs {
        if !value.is(&Json::of(text)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Values of which a stored one may be one. O(log n) to look into, O(n) for a stored array or object.
#[derive(Debug, Clone)]
pub(super) struct Set(Vec<Value>);

impl Set {
    pub(super) fn new(mut values: Vec<Value>) -> Set {
        values.sort_unstable();
        values.dedup();
        Set(values)
    }

    pub(super) fn has(&self, stored: &Json<'_>) -> serde_json::Result<bool> {
        if !matches!(stored, Json::Array(_) | Json::Object(_)) {
            return Ok(self.0.binary_search_by(|value| value.order(stored)).is_ok());
        }
        for value in &self.0 {
            if value.is(stored)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.0
    }
}

// ---- one level of a text ----

/// The values of some keys of an object, in the order of `keys`.
pub(super) fn members<'a>(object: &'a str, keys: &[Vec<u8>]) -> serde_json::Result<Vec<Option<&'a str>>> {
    let mut reader = serde_json::Deserializer::from_str(object);
    let members = reader.deserialize_map(Members(keys))?;
    reader.end()?;
    Ok(members)
}

/// A key of an object and its value.
type Entry<'a> = (Cow<'a, [u8]>, &'a str);

/// All keys and values of an object, in their order.
pub(super) fn entries(object: &str) -> serde_json::Result<Vec<Entry<'_>>> {
    serde_json::Deserializer::from_str(object).deserialize_map(Entries)
}

/// The values of an array.
pub(super) fn elements(array: &str) -> serde_json::Result<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(array)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

fn text_of(text: &str) -> serde_json::Result<Cow<'_, [u8]>> {
    Text(|text| text).deserialize(&mut serde_json::Deserializer::from_str(text))
}

/// The name of what a JSON text is, for messages.
pub(super) fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        _ => "a number",
    }
}

/// Reads a string and hands it to a function. Asked for as bytes, a string may hold lone surrogates.
struct Text<F>(F);

impl<'de, T, F: FnOnce(Cow<'de, [u8]>) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<T, D::Error> {
        reader.deserialize_bytes(self)
    }
}

impl<'de, T, F: FnOnce(Cow<'de, [u8]>) -> T> Visitor<'de> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E>(self, text: &'de [u8]) -> Result<T, E> {
        Ok((self.0)(Cow::Borrowed(text)))
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<T, E> {
        Ok((self.0)(Cow::Owned(text.to_owned())))
    }
}

struct Members<'k>(&'k [Vec<u8>]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<&'de str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        let place = |key: Cow<'_, [u8]>| self.0.iter().position(|wanted| *wanted == *key);
        while let Some(place) = map.next_key_seed(Text(place))? {
            match place {
                Some(place) => found[place] = Some(map.next_value::<&RawValue>()?.get()),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(found)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<Entry<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key_seed(Text(|key| key))? {
            found.push((key, map.next_value::<&RawValue>()?.get()));
        }
        Ok(found)
    }
}
