//! Filters over documents, one operator after the other, and all together beside a plain evaluator.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value as Plain, json};

fn holds(filter: &str, document: Option<&str>) -> bool {
    let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    filter.takes_document(document).unwrap_or_else(|error| panic!("{document:?}: {error}"))
}

/// Of these documents a filter takes those whose letters are given.
const DOCUMENTS: [(char, &str); 20] = [
    ('a', r#"{"k": 1}"#),
    ('b', r#"{"k": 1.0}"#),
    ('c', r#"{"k": 2.5}"#),
    ('d', r#"{"k": -3}"#),
    ('e', r#"{"k": "1"}"#),
    ('f', r#"{"k": "Straße in ÉVORA"}"#),
    ('g', r#"{"k": ""}"#),
    ('h', r#"{"k": true}"#),
    ('i', r#"{"k": false}"#),
    ('j', r#"{"k": null}"#),
    ('k', r#"{"k": []}"#),
    ('l', r#"{"k": {}}"#),
    ('m', r#"{"k": ["x", 1, null]}"#),
    ('n', r#"{"k": {"x": {"y": 1}, "z": [2]}}"#),
    ('o', r#"{"other": 1}"#),
    ('p', r#"{"k.x": 1}"#),
    ('q', r#"[1, {"k": 1}]"#),
    ('r', r#""k""#),
    ('s', r#"{ "k" : 7, "\u006b" : 8 }"#),
    ('t', r#"{"k": ["x", "ÉVORA", ["x"]]}"#),
];

#[test]
fn each_operator() {
    let all: String = DOCUMENTS.iter().map(|(name, _)| name).collect();
    let but = |names: &str| all.chars().filter(|name| !names.contains(*name)).collect::<String>();
    let cases = [
        (r#"{}"#, all.clone()),
        (r#"{"k": 1}"#, "ab".into()),
        (r#"{"k": {"$eq": 1.0}}"#, "ab".into()),
        (r#"{"k": "1"}"#, "e".into()),
        (r#"{"k": true}"#, "h".into()),
        (r#"{"k": null}"#, "j".into()),
        (r#"{"k": {}}"#, "l".into()),
        (r#"{"k": []}"#, "k".into()),
        (r#"{"k": 7}"#, String::new()),
        (r#"{"k": 8}"#, "s".into()),
        (r#"{"k": ["x", 1, null]}"#, "m".into()),
        (r#"{"k": [1, "x", null]}"#, String::new()),
        (r#"{"k": {"z": [2.0], "x": {"y": 1}}}"#, "n".into()),
        (r#"{"k": {"z": [2.0], "x": {"y": 1}, "a": 0}}"#, String::new()),
        (r#"{"k": {"$ne": 1}}"#, but("ab")),
        (r#"{"k": {"$ne": null}}"#, but("j")),
        (r#"{"k": {"$gt": 1}}"#, "cs".into()),
        (r#"{"k": {"$gte": 1}}"#, "abcs".into()),
        (r#"{"k": {"$lt": 1}}"#, "d".into()),
        (r#"{"k": {"$lte": 1.0}}"#, "abd".into()),
        (r#"{"k": {"$gt": "1"}}"#, "f".into()),
        (r#"{"k": {"$gte": "1"}}"#, "ef".into()),
        (r#"{"k": {"$lt": "1"}}"#, "g".into()),
        (r#"{"k": {"$gt": 0, "$lt": 2}}"#, "ab".into()),
        (r#"{"k": {"$gt": 0, "$gt": 2}}"#, "cs".into()),
        (r#"{"k": {"$in": [1, "", null, {}]}}"#, "abgjl".into()),
        (r#"{"k": {"$in": []}}"#, String::new()),
        (r#"{"k": {"$in": ["x", ["x", 1, null]]}}"#, "m".into()),
        (r#"{"k": {"$nin": [1, ""]}}"#, but("abg")),
        (r#"{"k": {"$nin": []}}"#, all.clone()),
        (r#"{"k": {"$contains": "x"}}"#, "mt".into()),
        (r#"{"k": {"$contains": 1}}"#, "m".into()),
        (r#"{"k": {"$contains": null}}"#, "m".into()),
        (r#"{"k": {"$contains": ["x"]}}"#, "t".into()),
        (r#"{"k": {"$contains": "ÉVORA"}}"#, "ft".into()),
        (r#"{"k": {"$contains": ""}}"#, "efg".into()),
        (r#"{"k": {"$any": ["x", "1"]}}"#, "emt".into()),
        (r#"{"k": {"$any": []}}"#, String::new()),
        (r#"{"k": {"$all": ["x", 1.0]}}"#, "m".into()),
        (r#"{"k": {"$all": ["in", "ÉVORA"]}}"#, "f".into()),
        (r#"{"k": {"$all": []}}"#, but("jopqr")),
        (r#"{"k": {"$text": "ÉVORA"}}"#, "f".into()),
        (r#"{"k": {"$text": "évora"}}"#, String::new()),
        (r#"{"k": {"$text": ""}}"#, "efg".into()),
        (r#"{"k": {"$itext": "évora"}}"#, "f".into()),
        (r#"{"k": {"$itext": "STRAßE"}}"#, "f".into()),
        (r#"{"k": {"$itext": "1"}}"#, "e".into()),
        (r#"{"k": {"$exists": true}}"#, but("opqr")),
        (r#"{"k": {"$exists": false}}"#, "opqr".into()),
        (r#"{"k": {"$empty": true}}"#, "gjklopqr".into()),
        (r#"{"k": {"$empty": false}}"#, but("gjklopqr")),
        (r#"{"k.x.y": 1}"#, "n".into()),
        (r#"{"k\\.x": 1}"#, "p".into()),
        (r#"{"\\k": 1}"#, String::new()),
        (r#"{"k.x": {"y": 1}}"#, "n".into()),
        (r#"{"k.x.y": {"$exists": false}}"#, but("n")),
        (r#"{"k.x.y.z": {"$empty": true}}"#, all.clone()),
        (r#"{"k": {"$exists": true}, "other": 1}"#, String::new()),
        (r#"{"k": 1, "k": 1}"#, "ab".into()),
        (r#"{"k": 1, "k": 2.5}"#, String::new()),
        (r#"{"$or": [{"k": 1}, {"other": 1}]}"#, "abo".into()),
        (r#"{"$or": []}"#, String::new()),
        (r#"{"$and": []}"#, all.clone()),
        (r#"{"$and": [{"k": {"$gt": 0}}, {"k": {"$lt": 2}}]}"#, "ab".into()),
        (r#"{"$not": {"k": {"$exists": true}}}"#, "opqr".into()),
        (r#"{"$not": {"$or": [{"k": 1}, {"k": 2.5}]}}"#, but("abc")),
        (r#"{"other": 1, "$or": [{"k": 1}, {}]}"#, "o".into()),
    ];
    for (filter, expected) in cases {
        let taken: String =
            DOCUMENTS.iter().filter(|(_, text)| holds(filter, Some(text))).map(|(name, _)| name).collect();
        assert_eq!(taken, expected, "{filter}");
        // No document is like one that is no object.
        assert_eq!(holds(filter, None), expected.contains('r'), "{filter}");
    }
}

#[test]
fn numbers_are_compared_exactly() {
    // In order; those in one row are equal.
    let numbers: [&[&str]; 15] = [
        &["-1e400"],
        &["-170141183460469231731687303715884105729e0", "-170141183460469231731687303715884105728"],
        &["-9223372036854775809"],
        &["-9223372036854775808", "-9223372036854775808.0"],
        &["-1.5"],
        &["-1", "-1.0", "-10e-1"],
        &["-0.5"],
        &["0", "-0", "0.0", "-0.0", "0e5"],
        &["5e-324"],
        &["1", "1.0"],
        &["9007199254740992", "9007199254740992.0"],
        &["9007199254740993"],
        &["18446744073709551615"],
        &["18446744073709551616", "18446744073709551616.0"],
        &["1e400", "1e401"],
    ];
    for (a, stored) in numbers.iter().enumerate().flat_map(|(n, row)| row.iter().map(move |text| (n, text))) {
        for (b, named) in
            numbers.iter().enumerate().flat_map(|(n, row)| row.iter().map(move |text| (n, text)))
        {
            let document = format!(r#"{{"n": {stored}}}"#);
            let ask =
                |operator: &str| holds(&format!(r#"{{"n": {{"{operator}": {named}}}}}"#), Some(&document));
            let found = ["$eq", "$gt", "$gte", "$lt", "$lte"].map(ask);
            assert_eq!(found, [a == b, a > b, a >= b, a < b, a <= b], "{stored} and {named}");
        }
    }
}

/// What other parsers refuse is no reason to fail: it was accepted.
#[test]
fn strange_documents() {
    let deep = format!(r#"{{"deep": {}1{}, "k": 1}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(!holds(r#"{"k": 1, "deep": {"$exists": true, "$ne": [[1]], "$contains": 1}}"#, Some(&deep)));
    assert!(holds(r#"{"k": 1, "deep": {"$empty": false, "$ne": [[1]], "$nin": [[]]}}"#, Some(&deep)));
    let half = r#"{"\ud800": "a\udc00b", "k": "\ud83d\ude00"}"#;
    assert!(holds(r#"{"\ud800": "a\udc00b", "k": "😀"}"#, Some(half)));
    assert!(holds(r#"{"\ud800": {"$lt": "a\ue000", "$gt": "a\ud7ff", "$itext": "B"}}"#, Some(half)));
    assert!(!holds(r#"{"\ud801": "a\udc00b"}"#, Some(half)));
    assert!(holds(r#"{"": {"": 1}}"#, Some(r#"{"": {"": 1}}"#)));
    assert!(holds(r#"{".": 1}"#, Some(r#"{"": {"": 1}}"#)));
    let named = r#"{"$a": 1, "b\\": {"$c.d": 2}, "\\e": 3}"#;
    assert!(holds(r#"{"\\$a": 1, "b\\\\.$c\\.d": 2, "\\e": 3}"#, Some(named)));
}

#[test]
fn what_is_wrong_is_named() {
    let long = format!("{}{{}}{}", r#"{"$not": "#.repeat(100_000), "}".repeat(100_000));
    let cases: [(&str, &[&str]); 21] = [
        ("", &["not JSON", "{\"lang\": \"en\"}"]),
        ("{'a': 1}", &["not JSON"]),
        (r#"{"a": NaN}"#, &["not JSON"]),
        ("{} {}", &["not JSON"]),
        ("[]", &["an array", "object"]),
        ("7", &["a number"]),
        (r#"{"year": {"$gtt": 1}}"#, &["\"$gtt\"", "\"year\"", "$eq $ne $gt"]),
        (r#"{"year": {"$gt": 1, "lt": 2}}"#, &["\"lt\"", "\"year\""]),
        (r#"{"year": {"lt": 2, "$gt": 1}}"#, &["\"lt\"", "\"year\""]),
        (r#"{"$gt": 1}"#, &["\"$gt\"", "$and, $or and $not"]),
        (r#"{"$nor": []}"#, &["\"$nor\""]),
        (r#"{"$and": {}}"#, &["\"$and\"", "list", "an object"]),
        (r#"{"$or": [{}, 1]}"#, &["a number"]),
        (r#"{"$not": [{}]}"#, &["an array"]),
        (r#"{"a": {"$not": {"$gt": 1}}}"#, &["\"$not\"", "\"a\""]),
        (r#"{"a": {"$gt": true}}"#, &["\"$gt\"", "\"a\"", "a boolean"]),
        (r#"{"a": {"$in": "x"}}"#, &["\"$in\"", "list", "a string"]),
        (r#"{"a": {"$text": 1}}"#, &["\"$text\"", "string"]),
        (r#"{"a": {"$exists": 1}}"#, &["\"$exists\"", "true or false"]),
        (r#"{"a": {"$empty": null}}"#, &["\"$empty\"", "null"]),
        (&long, &["64 levels"]),
    ];
    for (filter, words) in cases {
        let error = Filter::parse(filter).expect_err(filter);
        assert!(matches!(error, Error::InvalidFilter { .. }), "{error:?}");
        let said = error.to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{filter:.99}: {said}");
    }
    for depth in [61, 62, 63, 1_000, 1_000_000] {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        let parsed = Filter::parse(&format!(r#"{{"a": {open}{close}}}"#));
        assert_eq!(parsed.is_ok(), depth < 64, "{depth}");
    }
}

#[test]
fn ids_and_what_both_select() {
    let named = |filter: &Filter| filter.named().map(<[Id]>::to_vec);
    let filter = Filter::ids(["b", "a", "b"].map(Id::from));
    assert_eq!(named(&filter), Some(["b", "a", "b"].map(Id::from).to_vec()));
    assert!(!filter.reads_documents() && filter.takes_document(None).expect("nothing to read"));
    let both = filter.and(Filter::ids([Id::from("c"), Id::from("a"), Id::from(7)]));
    assert_eq!(named(&both), Some(vec![Id::from("a")]));
    let parsed = |text| Filter::parse(text).expect("a filter");
    let both = parsed(r#"{"a": 1}"#).and(both).and(parsed(r#"{"b": 1}"#));
    assert_eq!(named(&both), Some(vec![Id::from("a")]));
    assert!(both.reads_documents());
    let takes = |text| both.takes_document(Some(text)).expect("JSON");
    assert!(takes(r#"{"a": 1, "b": 1}"#) && !takes(r#"{"a": 1}"#) && !takes(r#"{"b": 1}"#));
}

// ---- beside a plain evaluator ----

/// Numbers of the cases below are quarters: exact as whole ones of four times their size.
fn quarters(number: &serde_json::Number) -> i128 {
    let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    #[expect(clippy::cast_possible_truncation, reason = "quarters, and small")]
    whole.map_or_else(|| (number.as_f64().expect("a number") * 4.0) as i128, |whole| whole * 4)
}

fn equal(a: &Plain, b: &Plain) -> bool {
    match (a, b) {
        (Plain::Number(a), Plain::Number(b)) => quarters(a) == quarters(b),
        (Plain::Array(a), Plain::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Plain::Object(a), Plain::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

fn compared(a: &Plain, b: &Plain) -> Option<Ordering> {
    match (a, b) {
        (Plain::Number(a), Plain::Number(b)) => Some(quarters(a).cmp(&quarters(b))),
        (Plain::String(a), Plain::String(b)) => Some(a.chars().cmp(b.chars())),
        _ => None,
    }
}

fn contains(a: &Plain, part: &Plain) -> bool {
    match a {
        Plain::Array(a) => a.iter().any(|a| equal(a, part)),
        Plain::String(a) => part.as_str().is_some_and(|part| a.contains(part)),
        _ => false,
    }
}

fn operator(operator: &str, found: Option<&Plain>, operand: &Plain) -> bool {
    let list = || operand.as_array().expect("a list");
    match operator {
        "$ne" => return !self::operator("$eq", found, operand),
        "$nin" => return !self::operator("$in", found, operand),
        "$exists" => return found.is_some() == operand.as_bool().expect("a flag"),
        "$empty" => {
            let empty = found.is_none_or(|a| [json!(null), json!(""), json!([]), json!({})].contains(a));
            return empty == operand.as_bool().expect("a flag");
        }
        _ => {}
    }
    let Some(a) = found else { return false };
    match operator {
        "$eq" => equal(a, operand),
        "$gt" => compared(a, operand) == Some(Ordering::Greater),
        "$gte" => matches!(compared(a, operand), Some(Ordering::Greater | Ordering::Equal)),
        "$lt" => compared(a, operand) == Some(Ordering::Less),
        "$lte" => matches!(compared(a, operand), Some(Ordering::Less | Ordering::Equal)),
        "$in" => list().iter().any(|b| equal(a, b)),
        "$contains" => contains(a, operand),
        "$any" => list().iter().any(|b| contains(a, b)),
        "$all" => !a.is_null() && list().iter().all(|b| contains(a, b)),
        "$text" => a.as_str().is_some_and(|a| a.contains(operand.as_str().expect("a string"))),
        "$itext" => {
            let lower = |text: &Plain| text.as_str().map(str::to_lowercase);
            lower(a).is_some_and(|a| a.contains(&lower(operand).expect("a string")))
        }
        _ => panic!("{operator}"),
    }
}

fn plainly(filter: &Plain, document: &Plain) -> bool {
    let list = |value: &Plain| value.as_array().expect("a list").clone();
    filter.as_object().expect("an object").iter().all(|(key, value)| match key.as_str() {
        "$and" => list(value).iter().all(|filter| plainly(filter, document)),
        "$or" => list(value).iter().any(|filter| plainly(filter, document)),
        "$not" => !plainly(value, document),
        key => {
            let found = key.split('.').try_fold(document, |found, key| found.as_object()?.get(key));
            match value.as_object() {
                Some(asked) if asked.keys().any(|key| key.starts_with('$')) => {
                    asked.iter().all(|(name, operand)| operator(name, found, operand))
                }
                _ => operator("$eq", found, value),
            }
        }
    })
}

fn scalar() -> impl Strategy<Value = Plain> {
    let text = prop_oneof!["[ab]{0,2}", "[aÄäß😀\u{e000}]{0,2}"];
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Plain::from),
        (-3..4i64).prop_map(Plain::from),
        (-8..8i32).prop_map(|n| json!(f64::from(n) / 4.0)),
        prop_oneof![Just(1u64 << 53), Just((1 << 53) + 1), Just(u64::MAX)].prop_map(Plain::from),
        Just(json!(9_007_199_254_740_992.0)),
        text.prop_map(Plain::from),
    ]
}

fn any_value() -> impl Strategy<Value = Plain> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Plain::from),
            btree_map("[abc]", inner, 0..3).prop_map(|object| object.into_iter().collect()),
        ]
    })
}

fn condition() -> impl Strategy<Value = Plain> {
    let named = |names: &'static [&'static str], operand: BoxedStrategy<Plain>| {
        (prop::sample::select(names), operand).prop_map(|(name, operand)| json!({ name: operand }))
    };
    let ordered = scalar().prop_filter("number or string", |value| value.is_number() || value.is_string());
    let text = scalar().prop_filter("string", Plain::is_string);
    prop_oneof![
        2 => any_value(),
        3 => named(&["$eq", "$ne", "$contains"], any_value().boxed()),
        3 => named(&["$gt", "$gte", "$lt", "$lte"], ordered.boxed()),
        3 => named(&["$in", "$nin", "$any", "$all"], vec(any_value(), 0..4).prop_map(Plain::from).boxed()),
        1 => named(&["$text", "$itext"], text.boxed()),
        1 => named(&["$exists", "$empty"], any::<bool>().prop_map(Plain::from).boxed()),
    ]
}

fn any_filter() -> impl Strategy<Value = Plain> {
    let key = prop_oneof![3 => "[abc]", 1 => "[abc][.][abc]"];
    let fields = btree_map(key, condition(), 0..3).prop_map(|object| object.into_iter().collect::<Plain>());
    fields.prop_recursive(3, 12, 3, |inner| {
        let list = vec(inner.clone(), 0..3);
        prop_oneof![
            (inner.clone(), list.clone()).prop_map(|(mut filter, list)| {
                filter["$and"] = list.into();
                filter
            }),
            list.prop_map(|list| json!({ "$or": list })),
            inner.prop_map(|inner| json!({ "$not": inner })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_filter_does_what_a_plain_evaluator_does(
        filter in any_filter(),
        documents in vec(prop_oneof![4 => btree_map("[abc]", any_value(), 0..4).prop_map(|object| object.into_iter().collect::<Plain>()), 1 => any_value()], 1..6),
    ) {
        let parsed = Filter::parse(&filter.to_string()).expect("a filter");
        for document in documents {
            let taken = parsed.takes_document(Some(&document.to_string())).expect("JSON");
            prop_assert_eq!(taken, plainly(&filter, &document), "{} of {}", filter, document);
        }
        prop_assert_eq!(parsed.takes_document(None).expect("nothing"), plainly(&filter, &json!(null)), "{}", filter);
    }

    #[test]
    fn no_text_makes_it_panic(
        filter in prop_oneof![r#"[{}\[\]:,"$a-c.0-9 ntf\\u]{0,40}"#, any_filter().prop_map(|filter| filter.to_string())],
        document in prop_oneof![r#"[{}\[\]:,"$a-c.0-9 ntf\\ud]{0,40}"#, any_value().prop_map(|value| value.to_string())],
    ) {
        if let Ok(parsed) = Filter::parse(&filter) {
            let taken = parsed.takes_document(Some(&document));
            if crate::Document::Json(&*document).one_line(0).is_ok() {
                prop_assert!(taken.is_ok(), "{} of {}: {:?}", filter, document, taken);
            }
        }
    }
}

#[test]
fn an_operator_without_its_dollar_is_told_of() {
    for (word, says) in [("gt", "\"$gt\""), ("<=", "\"$lte\""), ("ne", "\"$ne\""), ("==", "\"$eq\"")] {
        for text in [format!("{{\"a\": {{{word:?}: 3}}}}"), format!("{{\"a\": {{{word:?}: 3, \"lt\": 9}}}}")]
        {
            let error = Filter::parse(&text).expect_err("a slip").to_string();
            assert!(error.contains(says) && error.contains("is a key of an object here"), "{error}");
        }
    }
    // Other objects, and those that are asked for, are values.
    for text in [
        r#"{"a": {}}"#,
        r#"{"a": {"gt": 3, "b": 1}}"#,
        r#"{"a": {"$eq": {"gt": 3}}}"#,
        r#"{"a": {"in": [1]}}"#,
    ] {
        Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

#[test]
fn a_word_without_its_dollar_is_a_key_unless_it_lists_objects() {
    for (word, says) in [("and", "\"$and\""), ("OR", "\"$or\""), ("not", "\"$not\""), ("nor", "\"$not\"")] {
        for text in
            [format!("{{{word:?}: [{{\"a\": 1}}, {{}}]}}"), format!("{{\"$not\": {{{word:?}: [{{}}]}}}}")]
        {
            let error = Filter::parse(&text).expect_err("a slip").to_string();
            assert!(error.contains(says) && error.contains("is a key here"), "{error}");
        }
    }
    let document = r#"{"and": [1, 2], "or": [], "not": {"a": 1}, "nor": "x"}"#;
    for text in [
        r#"{"and": [1, 2]}"#,
        r#"{"or": []}"#,
        r#"{"not.a": 1}"#,
        r#"{"nor": "x"}"#,
        r#"{"and": {"$nin": [[{"a": 1}]]}}"#,
        r#"{"and": {"$ne": [{"a": 1}]}}"#,
    ] {
        assert!(
            Filter::parse(text).expect("a filter").takes_document(Some(document)).expect("JSON"),
            "{text}"
        );
    }
}
