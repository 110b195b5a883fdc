//! How much of a batch is decoded and handed on at a time.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, downcast_dictionary_array};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::ProjectionMask;
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use vecstone::counted;

use crate::error::{Error, Result};

/// What the values of the rows that are handed on together may take.
const VALUE_BYTES: u64 = 16 << 20;
/// What is decoded at a time.
const DECODED_BYTES: u64 = 64 << 20;
/// The most values that a row of a column has on average.
const MOST_VALUES: u64 = 16 << 20;

/// How many of the first `most` rows have at most [`VALUE_BYTES`] of values; one at least. Texts that are views, and those
/// of a dictionary, may be one and the same many times, and take memory only where they are copied.
pub(crate) fn rows_at_once(batch: &RecordBatch, most: usize) -> usize {
    let bytes = |row| batch.columns().iter().map(|column| value_bytes(column, row)).sum::<u64>();
    let sums = (0..batch.num_rows().min(most)).scan(0, |sum: &mut u64, row| {
        *sum = sum.saturating_add(bytes(row));
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= VALUE_BYTES).count().max(1)
}

/// About what the value of a row takes once it stands for itself.
fn value_bytes(array: &dyn Array, row: usize) -> u64 {
    if row >= array.len() || array.is_null(row) {
        return 4;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len() as u64,
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len() as u64,
        DataType::Utf8View => array.as_string_view().value(row).len() as u64,
        DataType::List(_) => all_bytes(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => all_bytes(&array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(..) => all_bytes(&array.as_fixed_size_list().value(row)),
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| value_bytes(column, row)).sum()
        }
        DataType::Map(..) => array.as_map().value(row).columns().iter().map(all_bytes).sum(),
        DataType::Dictionary(..) => downcast_dictionary_array! {
            array => array.key(row).map_or(0, |key| value_bytes(array.values(), key)),
            _ => 0,
        },
        of => of.primitive_width().unwrap_or(1) as u64,
    }
}

fn all_bytes(array: &ArrayRef) -> u64 {
    match array.data_type().primitive_width() {
        Some(width) => (array.len() * width) as u64,
        None => (0..array.len()).map(|row| value_bytes(array, row)).sum(),
    }
}

/// The same schema with texts as views, which a dictionary of few long ones does not blow up. `nested`: also those within
/// lists and structs.
pub(crate) fn with_views(schema: &Schema, nested: bool) -> Schema {
    Schema::new_with_metadata(viewed(schema.fields(), nested), schema.metadata().clone())
}

fn viewed(fields: &Fields, nested: bool) -> Fields {
    fields.iter().map(|field| view(field, nested)).collect()
}

fn view(field: &FieldRef, nested: bool) -> FieldRef {
    let within = |field: &FieldRef| view(field, nested);
    let of = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::List(item) if nested => DataType::List(within(item)),
        DataType::LargeList(item) if nested => DataType::LargeList(within(item)),
        DataType::Struct(fields) if nested => DataType::Struct(viewed(fields, nested)),
        DataType::Map(entries, sorted) if nested => DataType::Map(within(entries), *sorted),
        DataType::Dictionary(_, values) if matches!(**values, DataType::Utf8 | DataType::LargeUtf8) => {
            DataType::Utf8View
        }
        _ => return field.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(of))
}

/// How many rows of a Parquet file to decode at a time: at most `asked`, and fewer where the file says that they are long.
///
/// # Errors
///
/// [`Error::Unreadable`] if rows have more values than any vector or document needs.
pub(crate) fn rows_to_decode(file: &ParquetMetaData, mask: &ProjectionMask, asked: usize) -> Result<usize> {
    let mut longest = 1;
    for group in file.row_groups() {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        let mut bytes = 0_u64;
        for (_, column) in group.columns().iter().enumerate().filter(|(at, _)| mask.leaf_included(*at)) {
            let values = u64::try_from(column.num_values()).unwrap_or(0);
            if values / rows > MOST_VALUES {
                let (values, path) = (counted(values / rows, "value"), column.column_path());
                let why = format!("a row of column {path} has {values} on average; split it");
                return Err(Error::Unreadable { format: "Parquet", why });
            }
            bytes = bytes.saturating_add(values.saturating_mul(width(column)));
        }
        longest = longest.max(bytes / rows);
    }
    Ok(usize::try_from(DECODED_BYTES / longest).unwrap_or(asked).clamp(1, asked))
}

/// What a value takes in memory, with its levels and, of texts, the view.
fn width(column: &ColumnChunkMetaData) -> u64 {
    const LEVELS: u64 = 4;
    LEVELS
        + match column.column_type() {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::BYTE_ARRAY => 16,
            Type::FIXED_LEN_BYTE_ARRAY => {
                u64::try_from(column.column_descr().type_length()).unwrap_or(0).max(16)
            }
        }
}
