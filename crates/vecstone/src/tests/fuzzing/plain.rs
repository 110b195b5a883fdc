//! Filters and documents as a plain reader of the table in [`Filter`](crate::Filter) has them: values in a tree, looked at
//! one after the other.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cmp::Ordering;
use std::fmt;

/// A JSON value with all its members, those of one name twice included.
#[derive(Debug, Clone)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    Array(Vec<Plain>),
    Object(Vec<(String, Plain)>),
}

impl Plain {
    /// `None` for what is not JSON, and for what a plain reader refuses (deep nesting, half of a surrogate pair) or rounds
    /// as it likes (long numbers).
    pub(crate) fn of(text: &str) -> Option<Plain> {
        if !has_plain_numbers(text) {
            return None;
        }
        serde_json::from_str(text).ok()
    }

    fn members(&self) -> Option<&[(String, Plain)]> {
        if let Plain::Object(members) = self { Some(members) } else { None }
    }

    /// Of a name that comes twice the last counts.
    fn get(&self, name: &str) -> Option<&Plain> {
        self.members()?.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn is_empty(&self) -> bool {
        match self {
            Plain::Null => true,
            Plain::Text(text) => text.is_empty(),
            Plain::Array(values) => values.is_empty(),
            Plain::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    pub(super) fn depth(&self) -> usize {
        1 + match self {
            Plain::Array(values) => values.iter().map(Plain::depth).max().unwrap_or(0),
            Plain::Object(members) => members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// Whether every number has one f64 that is nearest by any way of reading: at most 15 digits, and a small exponent.
fn has_plain_numbers(text: &str) -> bool {
    let mut in_text = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => in_text = !in_text,
            '\\' => _ = chars.next(),
            '0'..='9' if !in_text => {
                let mut number = String::from(c);
                while let Some(c) = chars.next_if(|c| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-')) {
                    number.push(c);
                }
                let whole = number.bytes().all(|c| c.is_ascii_digit());
                let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((&number, "0"));
                let short = mantissa.len() <= 15 && exponent.parse().is_ok_and(|e: i32| e.abs() <= 7);
                if !(short || whole && number.len() <= 18) {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| serde_json::to_string(text).map_err(|_| fmt::Error);
        let list = |f: &mut fmt::Formatter<'_>, mut items: Vec<String>, ends: [&str; 2]| {
            items.iter_mut().skip(1).for_each(|item| item.insert(0, ','));
            write!(f, "{}{}{}", ends[0], items.concat(), ends[1])
        };
        match self {
            Plain::Null => f.write_str("null"),
            Plain::Bool(is) => write!(f, "{is}"),
            Plain::Whole(whole) => write!(f, "{whole}"),
            Plain::Float(float) => write!(f, "{float:?}"),
            Plain::Text(t) => f.write_str(&text(t)?),
            Plain::Array(values) => list(f, values.iter().map(ToString::to_string).collect(), ["[", "]"]),
            Plain::Object(members) => {
                let member = |(key, value): &(String, Plain)| Ok(format!("{}:{value}", text(key)?));
                list(f, members.iter().map(member).collect::<Result<_, fmt::Error>>()?, ["{", "}"])
            }
        }
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Plain, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Plain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Plain, E> {
                Ok(Plain::Null)
            }

            fn visit_bool<E>(self, is: bool) -> Result<Plain, E> {
                Ok(Plain::Bool(is))
            }

            fn visit_i64<E>(self, whole: i64) -> Result<Plain, E> {
                Ok(Plain::Whole(whole.into()))
            }

            fn visit_u64<E>(self, whole: u64) -> Result<Plain, E> {
                Ok(Plain::Whole(whole.into()))
            }

            fn visit_f64<E>(self, float: f64) -> Result<Plain, E> {
                Ok(Plain::Float(float))
            }

            fn visit_str<E>(self, text: &str) -> Result<Plain, E> {
                Ok(Plain::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element()? {
                    values.push(value);
                }
                Ok(Plain::Array(values))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Plain::Object(members))
            }
        }

        reader.deserialize_any(Any)
    }
}

/// Both as decimals without end, compared digit by digit.
fn order_of_numbers(a: &Plain, b: &Plain) -> Option<Ordering> {
    let digits = |value: &Plain| match *value {
        Plain::Whole(whole) => {
            Some((whole < 0, format!("{:0>400}.{}", whole.unsigned_abs(), "0".repeat(1100))))
        }
        // Without its sign, -0 is 0.
        Plain::Float(float) => Some((float < 0.0, format!("{:0>1501.1100}", float.abs()))),
        _ => None,
    };
    let ((a_below, a), (b_below, b)) = (digits(a)?, digits(b)?);
    Some(match (a_below, b_below) {
        (false, false) => a.cmp(&b),
        (true, true) => b.cmp(&a),
        (below, _) => {
            if below {
                Ordering::Less
            } else {
                Ordering::Greater
            }
        }
    })
}

fn order(a: &Plain, b: &Plain) -> Option<Ordering> {
    match (a, b) {
        (Plain::Text(a), Plain::Text(b)) => Some(a.chars().cmp(b.chars())),
        (Plain::Whole(a), Plain::Whole(b)) => Some(a.cmp(b)),
        (Plain::Float(a), Plain::Float(b)) => a.partial_cmp(b),
        (a, b) => order_of_numbers(a, b),
    }
}

fn equal(a: &Plain, b: &Plain) -> bool {
    match (a, b) {
        (Plain::Null, Plain::Null) => true,
        (Plain::Bool(a), Plain::Bool(b)) => a == b,
        (Plain::Array(a), Plain::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Plain::Object(members), Plain::Object(others)) => {
            let has_all = |members: &[(String, Plain)], of: &Plain| {
                members.iter().all(|(key, _)| of.get(key).is_some())
            };
            has_all(members, b)
                && has_all(others, a)
                && members.iter().all(|(key, _)| match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => equal(a, b),
                    _ => false,
                })
        }
        (a, b) => order(a, b) == Some(Ordering::Equal),
    }
}

fn contains(stored: &Plain, part: &Plain) -> bool {
    match (stored, part) {
        (Plain::Array(values), part) => values.iter().any(|value| equal(value, part)),
        (Plain::Text(text), Plain::Text(part)) => text.contains(part),
        _ => false,
    }
}

/// What an operator says of the value under a key; `None` if the operand is not for it, or there is no such operator.
fn operator(name: &str, stored: Option<&Plain>, operand: &Plain) -> Option<bool> {
    let list = || if let Plain::Array(values) = operand { Some(values) } else { None };
    let text = || if let Plain::Text(part) = operand { Some(part) } else { None };
    let flag = || if let Plain::Bool(flag) = operand { Some(*flag) } else { None };
    let stored_text = if let Some(Plain::Text(text)) = stored { Some(text) } else { None };
    let is = |wanted: &dyn Fn(&Plain) -> bool| stored.is_some_and(wanted);
    let ordered = |wanted: &[Ordering]| {
        let takes = matches!(operand, Plain::Whole(_) | Plain::Float(_) | Plain::Text(_));
        takes.then(|| is(&|a| order(a, operand).is_some_and(|order| wanted.contains(&order))))
    };
    Some(match name {
        "$eq" => is(&|a| equal(a, operand)),
        "$ne" => !is(&|a| equal(a, operand)),
        "$gt" => ordered(&[Ordering::Greater])?,
        "$gte" => ordered(&[Ordering::Greater, Ordering::Equal])?,
        "$lt" => ordered(&[Ordering::Less])?,
        "$lte" => ordered(&[Ordering::Less, Ordering::Equal])?,
        "$in" => list()?.iter().any(|b| is(&|a| equal(a, b))),
        "$nin" => !list()?.iter().any(|b| is(&|a| equal(a, b))),
        "$contains" => is(&|a| contains(a, operand)),
        "$any" => list()?.iter().any(|b| is(&|a| contains(a, b))),
        "$all" => {
            let list = list()?;
            is(&|a| !matches!(a, Plain::Null) && list.iter().all(|b| contains(a, b)))
        }
        "$text" => {
            let part = text()?;
            stored_text.is_some_and(|text| text.contains(part))
        }
        "$itext" => {
            let part = text()?.to_lowercase();
            stored_text.is_some_and(|text| text.to_lowercase().contains(&part))
        }
        "$exists" => stored.is_some() == flag()?,
        "$empty" => stored.is_none_or(Plain::is_empty) == flag()?,
        _ => return None,
    })
}

/// The value behind a dotted key.
fn behind<'a>(key: &str, document: &'a Plain) -> Option<&'a Plain> {
    let (mut names, mut chars) = (vec![String::new()], key.chars().peekable());
    while let Some(c) = chars.next() {
        let name = names.last_mut()?;
        match (c, chars.peek()) {
            ('.', _) => names.push(String::new()),
            ('\\', Some(&next @ ('.' | '$' | '\\'))) => {
                name.push(next);
                chars.next();
            }
            _ => name.push(c),
        }
    }
    names.iter().try_fold(document, |value, name| value.get(name))
}

/// Whether it is an operator but for its `$`: a list of filters under a word that joins them, or an object of comparisons.
fn is_mistaken(key: &str, value: &Plain) -> bool {
    const JOINS: [&str; 4] = ["and", "or", "not", "nor"];
    const COMPARES: [&str; 11] = ["gt", ">", "gte", ">=", "lt", "<", "lte", "<=", "ne", "!=", "nin"];
    match value {
        Plain::Array(list) => {
            let is_join = JOINS.contains(&&*key.to_ascii_lowercase());
            is_join && !list.is_empty() && list.iter().all(|one| one.members().is_some())
        }
        Plain::Object(asked) if !key.starts_with('$') => {
            let compares = |name: &str| name == "==" || COMPARES.contains(&name);
            !asked.is_empty() && asked.iter().all(|(name, _)| compares(name))
        }
        _ => false,
    }
}

/// Whether a filter takes a document; `None` if it is no filter. Looks at all of it, so that what is wrong is found.
pub(crate) fn takes(filter: &Plain, document: &Plain) -> Option<bool> {
    let mut all = true;
    for (key, value) in filter.members()? {
        if is_mistaken(key, value) {
            return None;
        }
        let list = || if let Plain::Array(filters) = value { Some(filters) } else { None };
        let each =
            |filters: &[Plain]| filters.iter().map(|f| takes(f, document)).collect::<Option<Vec<bool>>>();
        all &= match key.as_str() {
            "$and" => !each(list()?)?.contains(&false),
            "$or" => each(list()?)?.contains(&true),
            "$not" => !takes(value, document)?,
            key if key.starts_with('$') => return None,
            key => {
                let stored = behind(key, document);
                match value.members() {
                    Some(asked) if asked.iter().any(|(name, _)| name.starts_with('$')) => {
                        let said = asked.iter().map(|(name, operand)| operator(name, stored, operand));
                        !said.collect::<Option<Vec<bool>>>()?.contains(&false)
                    }
                    _ => stored.is_some_and(|stored| equal(stored, value)),
                }
            }
        };
    }
    Some(all)
}
