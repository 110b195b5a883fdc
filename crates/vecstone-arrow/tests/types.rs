//! Every type that is taken as an id, a vector or a document, and those that are not.

mod common;

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeListBuilder, Float32Builder, Int32Builder, ListBuilder, MapBuilder, StringBuilder,
    StringDictionaryBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::*;
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Fields, Schema};
use common::{all_rows, batch, ids, refused, rows, vectors};
use half::f16;
use vecstone::{Id, Uuid};
use vecstone_arrow::{Columns, DocumentColumns, Error, rows_of};

#[track_caller]
fn check_ids(column: ArrayRef, expected: &[Id]) {
    let rows = rows(&batch(vec![("id", column.clone()), ("vector", vectors(column.len(), 2))])).unwrap();
    assert_eq!(rows.ids, expected, "{}", column.data_type());
    assert_eq!((rows.dim, &rows.vectors[..]), (2, &all_rows(column.len(), 2)[..]));
    assert_eq!((rows.documents, rows.texts), (None, None));
}

#[test]
fn ids_of_every_type() {
    let strings = [Id::from("a"), Id::from(""), Id::from("\u{1F980}\n")];
    let texts = vec!["a", "", "\u{1F980}\n"];
    check_ids(Arc::new(StringArray::from(texts.clone())), &strings);
    check_ids(Arc::new(LargeStringArray::from(texts.clone())), &strings);
    check_ids(Arc::new(StringViewArray::from(texts)), &strings);
    let keys = Int8Array::from(vec![1, 0, 1]);
    let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["x", "y"])));
    check_ids(Arc::new(dictionary), &[Id::from("y"), Id::from("x"), Id::from("y")]);
    let keys = UInt32Array::from(vec![1, 0]);
    check_ids(
        Arc::new(DictionaryArray::new(keys, Arc::new(UInt64Array::from(vec![7, 8])))),
        &[Id::U64(8), Id::U64(7)],
    );
    let numbers = [Id::U64(0), Id::U64(127)];
    check_ids(Arc::new(Int8Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(Int16Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(Int32Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(Int64Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(UInt8Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(UInt16Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(UInt32Array::from(vec![0, 127])), &numbers);
    check_ids(Arc::new(UInt64Array::from(vec![0, u64::MAX - 1])), &[Id::U64(0), Id::U64(u64::MAX - 1)]);
    let uuid = Uuid::from_bytes([7; 16]);
    let column = FixedSizeBinaryArray::try_from_iter([uuid.as_bytes()].into_iter()).unwrap();
    check_ids(Arc::new(column), &[Id::from(uuid)]);
}

#[test]
fn ids_that_are_refused() {
    let with = |column: ArrayRef| {
        let columns = vec![("id", column.clone()), ("vector", vectors(column.len(), 2))];
        rows_of(&batch(columns), &Columns::default(), 1000)
    };
    refused(with(Arc::new(StringArray::from(vec![Some("a"), None]))), &["\"id\"", "row 1001", "null"]);
    refused(with(Arc::new(Int64Array::from(vec![1, 2, -3]))), &["\"id\"", "row 1002", "-3", "not between"]);
    let values = Arc::new(StringArray::from(vec![Some("a"), None]));
    let dictionary = DictionaryArray::new(Int8Array::from(vec![0, 1]), values);
    refused(with(Arc::new(dictionary)), &["row 1001", "null"]);
    for column in [
        Arc::new(Float64Array::from(vec![1.0])) as ArrayRef,
        Arc::new(BooleanArray::from(vec![true])),
        Arc::new(NullArray::new(1)),
        Arc::new(BinaryArray::from(vec![&[7; 16][..]])),
        Arc::new(FixedSizeBinaryArray::try_from_iter([[7; 15]].into_iter()).unwrap()),
        vectors(1, 2),
    ] {
        let error = refused(with(column), &["\"id\"", "strings", "whole numbers"]);
        assert!(matches!(error, Error::ColumnType { role: "the ids", .. }));
    }
}

/// A list column of another type with the same numbers.
#[track_caller]
fn check_vectors(column: &dyn Array, expected: &[f32], dim: usize) {
    let column = column.slice(0, column.len());
    let rows = rows(&batch(vec![("id", ids(column.len())), ("vector", column.clone())])).unwrap();
    assert_eq!((rows.dim, &rows.vectors[..]), (dim, expected), "{}", column.data_type());
}

fn lists(values: ArrayRef, dim: i32) -> [ArrayRef; 3] {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let rows = values.len() / usize::try_from(dim).unwrap();
    let offsets32 = arrow_buffer::OffsetBuffer::from_repeated_length(usize::try_from(dim).unwrap(), rows);
    let offsets64 = arrow_buffer::OffsetBuffer::from_repeated_length(usize::try_from(dim).unwrap(), rows);
    [
        Arc::new(FixedSizeListArray::new(field.clone(), dim, values.clone(), None)),
        Arc::new(ListArray::new(field.clone(), offsets32, values.clone(), None)),
        Arc::new(LargeListArray::new(field, offsets64, values, None)),
    ]
}

#[test]
fn vectors_of_every_type() {
    let expected = [0.0, 1.0, 2.0, 100.0];
    let of: [ArrayRef; 11] = [
        Arc::new(Float16Array::from_iter_values(expected.iter().map(|x| f16::from_f32(*x)))),
        Arc::new(Float32Array::from(expected.to_vec())),
        Arc::new(Float64Array::from_iter_values(expected.iter().map(|x| f64::from(*x)))),
        Arc::new(Int8Array::from(vec![0, 1, 2, 100])),
        Arc::new(Int16Array::from(vec![0, 1, 2, 100])),
        Arc::new(Int32Array::from(vec![0, 1, 2, 100])),
        Arc::new(Int64Array::from(vec![0, 1, 2, 100])),
        Arc::new(UInt8Array::from(vec![0, 1, 2, 100])),
        Arc::new(UInt16Array::from(vec![0, 1, 2, 100])),
        Arc::new(UInt32Array::from(vec![0, 1, 2, 100])),
        Arc::new(UInt64Array::from(vec![0, 1, 2, 100])),
    ];
    for values in of {
        for list in lists(values, 2) {
            check_vectors(&list, &expected, 2);
            // Slices begin in the middle of the values.
            check_vectors(&list.slice(1, 1), &expected[2..], 2);
            check_vectors(&list.slice(0, 1), &expected[..2], 2);
        }
    }
    // Rounded once, and beyond float32 infinite: the store refuses that by row.
    for list in lists(Arc::new(Float64Array::from(vec![0.1, -1e300])), 2) {
        check_vectors(&list, &[0.1, f32::NEG_INFINITY], 2);
    }
}

#[test]
fn float32_is_not_copied() {
    for list in lists(Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0])), 2) {
        let batch = batch(vec![("id", ids(2)), ("vector", list.clone())]);
        let rows = rows(&batch).unwrap();
        let values = match list.data_type() {
            DataType::FixedSizeList(..) => list.as_fixed_size_list().values(),
            DataType::List(_) => list.as_list::<i32>().values(),
            _ => list.as_list::<i64>().values(),
        };
        assert_eq!(rows.vectors.as_ptr(), values.as_primitive::<Float32Type>().values().as_ptr());
    }
}

#[test]
fn vectors_that_are_refused() {
    let with = |column: ArrayRef, dim: Option<usize>| {
        let batch = batch(vec![("id", ids(column.len())), ("vector", column)]);
        rows_of(&batch, &Columns { dim, ..Columns::default() }, 100)
    };
    let ragged = |lists: &[&[Option<f32>]]| {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for list in lists {
            builder.append_value(list.iter().copied());
        }
        Arc::new(builder.finish()) as ArrayRef
    };
    let (one, two) = (&[Some(1.0)][..], &[Some(1.0), Some(2.0)][..]);
    refused(
        with(ragged(&[two, two, one]), None),
        &["\"vector\"", "row 102", "1 component", "2 are expected"],
    );
    refused(with(ragged(&[one, one]), Some(2)), &["\"vector\"", "row 100", "1 component", "2 are expected"]);
    refused(with(vectors(3, 4), Some(5)), &["row 100", "4 components", "5 are expected"]);
    refused(with(ragged(&[&[], &[]]), None), &["row 100", "0 components"]);
    refused(with(ragged(&[two, &[Some(1.0), None]]), None), &["row 101", "component 1 is null"]);
    let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    builder.values().append_slice(&[1.0, 2.0, 3.0, 4.0]);
    builder.append(true);
    builder.append(false);
    refused(with(Arc::new(builder.finish()), None), &["row 101", "the vector is null"]);
    let many = Arc::new(Float32Array::from(vec![0.0; 65_537])) as ArrayRef;
    for list in lists(many, 65_537) {
        refused(with(list, None), &["65537 components", "65536"]);
    }
    for column in [ids(1), Arc::new(Float32Array::from(vec![1.0])) as ArrayRef, Arc::new(NullArray::new(1))] {
        let error = refused(with(column, None), &["\"vector\"", "lists of numbers"]);
        assert!(matches!(error, Error::ColumnType { role: "the vectors", .. }));
    }
    for list in lists(Arc::new(StringArray::from(vec!["a", "b"])), 2) {
        refused(with(list, None), &["\"vector\"", "lists of numbers"]);
    }
}

#[test]
fn no_rows_and_no_columns() {
    let none = rows(&batch(vec![("id", ids(0)), ("vector", vectors(0, 3))])).unwrap();
    assert_eq!((none.ids.len(), none.vectors.len()), (0, 0));
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    refused(rows(&empty), &["\"id\"", "no columns at all"]);
}

#[test]
fn columns_that_are_not_there() {
    let batch = batch(vec![("key", ids(1)), ("emb", vectors(1, 2))]);
    refused(rows(&batch), &["no column \"id\" for the ids", "\"key\", \"emb\""]);
    let columns = Columns { id: "key".to_owned(), ..Columns::default() };
    refused(rows_of(&batch, &columns, 0), &["no column \"vector\" for the vectors", "\"key\", \"emb\""]);
    let columns = Columns { vector: Some("emb".to_owned()), text: Some("text".to_owned()), ..columns };
    refused(rows_of(&batch, &columns, 0), &["no column \"text\" for the texts"]);
    let documents = DocumentColumns::Named(vec!["title".to_owned()]);
    let columns = Columns { documents, text: None, ..columns };
    refused(rows_of(&batch, &columns, 0), &["no column \"title\" for the documents"]);
    let fields = ["id", "id", "vector"].map(|name| Field::new(name, DataType::Int8, true));
    let twice = RecordBatch::new_empty(Arc::new(Schema::new(Vec::from(fields))));
    assert!(matches!(rows(&twice), Err(Error::AmbiguousColumn { .. })));
}

#[test]
fn texts_without_vectors() {
    let texts = StringArray::from(vec![Some("one"), None]);
    let batch = batch(vec![
        ("id", ids(2)),
        ("text", Arc::new(texts)),
        ("year", Arc::new(Int8Array::from(vec![1, 2]))),
    ]);
    let columns = Columns {
        vector: None,
        text: Some("text".to_owned()),
        documents: DocumentColumns::Others,
        ..Columns::default()
    };
    let rows = rows_of(&batch, &columns, 0).unwrap();
    assert_eq!(rows.texts, Some(vec![Some("one".to_owned()), None]));
    assert_eq!((rows.dim, rows.vectors.len()), (0, 0));
    let documents = [r#"{"text":"one","year":1}"#, r#"{"text":null,"year":2}"#];
    assert_eq!(rows.document_refs(), documents.map(vecstone::Document::Json));
    let columns = Columns { text: Some("year".to_owned()), ..columns };
    refused(rows_of(&batch, &columns, 0), &["\"year\" for the texts", "Int8", "strings"]);
}

/// The documents of a batch of these columns beside ids and vectors.
fn documents(
    columns: Vec<(&str, ArrayRef)>,
    which: DocumentColumns,
) -> vecstone_arrow::Result<Vec<Option<String>>> {
    let rows = columns[0].1.len();
    let batch = batch([vec![("id", ids(rows)), ("vector", vectors(rows, 2))], columns].concat());
    Ok(rows_of(&batch, &Columns { documents: which, ..Columns::default() }, 10)?.documents.unwrap())
}

/// The second of two rows, the first of which is null, as JSON.
#[track_caller]
fn check_json(column: ArrayRef, expected: &str) {
    let found = documents(vec![("x", column.clone())], DocumentColumns::Others).unwrap();
    let found: Vec<&str> = found.iter().map(|document| document.as_deref().unwrap()).collect();
    assert_eq!(found, [r#"{"x":null}"#, &format!("{{\"x\":{expected}}}")], "{}", column.data_type());
    serde_json::from_str::<serde_json::Value>(found[1]).unwrap();
    // Alone and called "document" it is the document.
    if !matches!(
        column.data_type(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)
    ) {
        let found = documents(vec![("document", column)], DocumentColumns::IfThere).unwrap();
        assert_eq!(found, [None, Some(expected.to_owned()).filter(|text| text != "null")]);
    }
}

#[test]
fn values_of_every_type_as_json() {
    check_json(Arc::new(Int8Array::from(vec![None, Some(-8)])), "-8");
    check_json(Arc::new(Int16Array::from(vec![None, Some(-8)])), "-8");
    check_json(Arc::new(Int32Array::from(vec![None, Some(-8)])), "-8");
    check_json(Arc::new(Int64Array::from(vec![None, Some(i64::MIN)])), "-9223372036854775808");
    check_json(Arc::new(UInt8Array::from(vec![None, Some(8)])), "8");
    check_json(Arc::new(UInt16Array::from(vec![None, Some(8)])), "8");
    check_json(Arc::new(UInt32Array::from(vec![None, Some(8)])), "8");
    check_json(Arc::new(UInt64Array::from(vec![None, Some(u64::MAX)])), "18446744073709551615");
    check_json(Arc::new(Float16Array::from(vec![None, Some(f16::from_f32(0.5))])), "0.5");
    check_json(Arc::new(Float32Array::from(vec![None, Some(0.1)])), "0.1");
    check_json(Arc::new(Float64Array::from(vec![None, Some(0.1)])), "0.1");
    check_json(Arc::new(BooleanArray::from(vec![None, Some(true)])), "true");
    check_json(Arc::new(NullArray::new(2)), "null");
    let text = "\"\\\u{1}\n\u{1F980}";
    let quoted = r#""\"\\\u0001\n🦀""#;
    check_json(Arc::new(StringArray::from(vec![None, Some(text)])), quoted);
    check_json(Arc::new(LargeStringArray::from(vec![None, Some(text)])), quoted);
    check_json(Arc::new(StringViewArray::from(vec![None, Some(text)])), quoted);
    let decimal = Decimal128Array::from(vec![None, Some(-12345)]).with_precision_and_scale(10, 2).unwrap();
    check_json(Arc::new(decimal), "\"-123.45\"");
    let decimal = Decimal64Array::from(vec![None, Some(5)]).with_precision_and_scale(10, 3).unwrap();
    check_json(Arc::new(decimal), "\"0.005\"");
}

#[test]
fn no_number_becomes_null() {
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::NAN)]));
    let fields = Fields::from(vec![Field::new("inner", DataType::Float64, true)]);
    for column in [
        doubles.clone(),
        Arc::new(Float32Array::from(vec![None, Some(f32::NEG_INFINITY)])),
        Arc::new(Float16Array::from(vec![None, Some(f16::INFINITY)])),
        Arc::new(StructArray::new(fields, vec![doubles], None)),
    ] {
        refused(
            documents(vec![("x", column.clone())], DocumentColumns::Others),
            &["\"x\"", "row 11", "no JSON"],
        );
        refused(
            documents(vec![("document", column)], DocumentColumns::IfThere),
            &["\"document\"", "row 11", "no JSON"],
        );
    }
}

#[test]
fn times_as_json() {
    check_json(Arc::new(Date32Array::from(vec![None, Some(19_782)])), "\"2024-02-29\"");
    check_json(Arc::new(Date64Array::from(vec![None, Some(19_782 * 86_400_000)])), "\"2024-02-29\"");
    check_json(Arc::new(Time32SecondArray::from(vec![None, Some(3_661)])), "\"01:01:01\"");
    check_json(Arc::new(Time32MillisecondArray::from(vec![None, Some(3_661_005)])), "\"01:01:01.005\"");
    check_json(Arc::new(Time64MicrosecondArray::from(vec![None, Some(1)])), "\"00:00:00.000001\"");
    check_json(Arc::new(Time64NanosecondArray::from(vec![None, Some(1)])), "\"00:00:00.000000001\"");
    let seconds = 1_709_164_800;
    check_json(
        Arc::new(TimestampSecondArray::from(vec![None, Some(seconds)])),
        "\"2024-02-29T00:00:00.000000\"",
    );
    let millis = TimestampMillisecondArray::from(vec![None, Some(seconds * 1000 + 5)]);
    check_json(Arc::new(millis.clone()), "\"2024-02-29T00:00:00.005000\"");
    check_json(Arc::new(millis.with_timezone("Europe/Berlin")), "\"2024-02-29T00:00:00.005000+00:00\"");
    check_json(
        Arc::new(TimestampMicrosecondArray::from(vec![None, Some(-1)])),
        "\"1969-12-31T23:59:59.999999\"",
    );
    let nanos =
        TimestampNanosecondArray::from(vec![None, Some(seconds * 1_000_000_000)]).with_timezone("+02:00");
    check_json(Arc::new(nanos), "\"2024-02-29T00:00:00.000000+00:00\"");
    let nanos = TimestampNanosecondArray::from(vec![None, Some(1_500_000_010)]).with_timezone("UTC");
    check_json(Arc::new(nanos), "\"1970-01-01T00:00:01.500000010+00:00\"");
    let (first, end) = (-62_135_596_800, 253_402_300_800);
    let utc = |second| Arc::new(TimestampSecondArray::from(vec![None, Some(second)]).with_timezone("UTC"));
    check_json(utc(first), "\"0001-01-01T00:00:00.000000+00:00\"");
    check_json(utc(end - 1), "\"9999-12-31T23:59:59.000000+00:00\"");
    for column in [
        utc(first - 1) as ArrayRef,
        utc(end),
        Arc::new(Date64Array::from(vec![None, Some(end * 1000)])),
        Arc::new(TimestampSecondArray::from(vec![None, Some(i64::MAX)])),
        Arc::new(Date64Array::from(vec![None, Some(i64::MIN)])),
        Arc::new(Time32SecondArray::from(vec![None, Some(-1)])),
    ] {
        refused(documents(vec![("x", column)], DocumentColumns::Others), &["row 11", "out of range"]);
    }
}

#[test]
fn nested_values_as_json() {
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append(false);
    list.append_value([Some(1), None, Some(3)]);
    let list: ArrayRef = Arc::new(list.finish());
    check_json(list.clone(), "[1,null,3]");
    let mut large = builder::LargeListBuilder::new(Int32Builder::new());
    large.append(false);
    large.append_value([]);
    check_json(Arc::new(large.finish()), "[]");
    let mut fixed = FixedSizeListBuilder::new(Int32Builder::new(), 2);
    fixed.values().append_slice(&[0, 0, 7, 8]);
    fixed.append(false);
    fixed.append(true);
    check_json(Arc::new(fixed.finish()), "[7,8]");
    let fields = Fields::from(vec![
        Field::new("a \"b\"", list.data_type().clone(), true),
        Field::new("c", DataType::Utf8, true),
    ]);
    let text = Arc::new(StringArray::from(vec!["x", "y"]));
    let nulls = NullBuffer::from(vec![false, true]);
    check_json(
        Arc::new(StructArray::new(fields, vec![list, text], Some(nulls))),
        r#"{"a \"b\"":[1,null,3],"c":"y"}"#,
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.append(false).unwrap();
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("l");
    map.values().append_null();
    map.append(true).unwrap();
    check_json(Arc::new(map.finish()), r#"{"k":1,"l":null}"#);
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    dictionary.append_null();
    dictionary.append_value("word");
    check_json(Arc::new(dictionary.finish()), "\"word\"");
    // Null in the dictionary itself.
    let values = Arc::new(Int32Array::from(vec![None, Some(5)]));
    check_json(Arc::new(DictionaryArray::new(Int8Array::from(vec![0, 1]), values)), "5");
}

#[test]
fn values_that_json_cannot_have() {
    let duration = DurationSecondArray::from(vec![1]);
    let binary = BinaryArray::from(vec![&b"x"[..]]);
    let mut deep: ArrayRef = Arc::new(Int8Array::from(vec![1]));
    for _ in 0..150 {
        deep = Arc::new(StructArray::from(vec![(
            Arc::new(Field::new("x", deep.data_type().clone(), true)),
            deep,
        )]));
    }
    for column in [Arc::new(duration) as ArrayRef, Arc::new(binary), deep] {
        let error = refused(documents(vec![("x", column)], DocumentColumns::Others), &["\"x\"", "JSON"]);
        assert!(matches!(error, Error::ColumnType { role: "the documents", .. }));
    }
}

#[test]
fn json_text_is_the_document() {
    let texts =
        vec![Some(" {\"n\": 12345678901234567890123}\n"), None, Some("null"), Some("[1,\n2]"), Some("\"x\"")];
    let expected = [Some("{\"n\": 12345678901234567890123}"), None, None, Some("[1, 2]"), Some("\"x\"")]
        .map(|t| t.map(str::to_owned));
    for column in [
        Arc::new(StringArray::from(texts.clone())) as ArrayRef,
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts.clone())),
    ] {
        for which in [
            DocumentColumns::IfThere,
            DocumentColumns::Others,
            DocumentColumns::Named(vec!["document".to_owned()]),
        ] {
            assert_eq!(documents(vec![("document", column.clone())], which).unwrap(), expected);
        }
    }
    let plain: ArrayRef = Arc::new(StringArray::from(vec!["{}", "plain text"]));
    refused(
        documents(vec![("document", plain.clone())], DocumentColumns::IfThere),
        &["\"document\"", "row 11", "not one JSON value", "another name"],
    );
    // Beside others it is a member like any other.
    let found = documents(
        vec![("document", plain.clone()), ("n", Arc::new(Int8Array::from(vec![1, 2])))],
        DocumentColumns::Others,
    );
    assert_eq!(found.unwrap()[1].as_deref(), Some(r#"{"document":"plain text","n":2}"#));
    let named = DocumentColumns::Named(vec!["b".to_owned(), "a".to_owned()]);
    let found = documents(vec![("a", plain.clone()), ("b", plain)], named).unwrap();
    assert_eq!(found[0].as_deref(), Some(r#"{"b":"{}","a":"{}"}"#));
}

#[test]
fn decimals_are_numbers_of_a_vector() {
    let decimals = Decimal128Array::from(vec![12_345, -1, 0, 10]).with_precision_and_scale(10, 1).unwrap();
    let item = Arc::new(Field::new("item", decimals.data_type().clone(), true));
    let list = FixedSizeListArray::new(item, 2, Arc::new(decimals), None);
    let columns = vec![("id", ids(2)), ("vector", Arc::new(list) as ArrayRef)];
    assert_eq!(rows(&batch(columns)).unwrap().vectors[..], [1234.5, -0.1, 0.0, 1.0]);
}
