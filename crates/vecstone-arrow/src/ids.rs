//! Ids and texts out of Arrow columns.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, types};
use arrow_schema::DataType;
use vecstone::{Id, MAX_ID_NUMBER, Uuid};

use crate::error::{Error, Result};

pub(crate) const WANTED: &str =
    "give strings, whole numbers from 0, or UUIDs as FixedSizeBinary(16) (in pyarrow: column.cast(...))";

/// Types of which ids are made.
pub(crate) fn is_taken(of: &DataType) -> bool {
    match of {
        DataType::FixedSizeBinary(16) => true,
        DataType::Dictionary(_, values) => is_taken(values),
        of => of.is_integer() || is_text(of),
    }
}

/// Types of which texts are made.
pub(crate) fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The ids of a column that is of a taken type; `first` is the number of its first row.
pub(crate) fn ids(array: &ArrayRef, column: &str, first: u64) -> Result<Vec<Id>> {
    let wrong =
        |row: usize, what: String| Error::Value { column: column.to_owned(), row: first + row as u64, what };
    let array = plain(array, column, first)?;
    if let Some(row) = (0..array.len()).find(|row| array.is_null(*row)) {
        return Err(wrong(row, "the id is null; give each row an id, or leave the row out".to_owned()));
    }
    match array.data_type() {
        DataType::FixedSizeBinary(_) => {
            let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).map(Id::from);
            let uuids = array.as_fixed_size_binary().iter().flatten().map(uuid);
            uuids.enumerate().map(|(row, uuid)| uuid.map_err(|e| wrong(row, e.to_string()))).collect()
        }
        of if of.is_integer() => numbers(&array).map_err(|(row, number)| {
            wrong(row, format!("id {number} is not between 0 and 2^64 - 2; give another number"))
        }),
        _ => Ok(strings(&array).map(|text| Id::from(text.unwrap_or_default())).collect()),
    }
}

/// The texts of a column of strings.
pub(crate) fn texts(array: &ArrayRef, column: &str, first: u64) -> Result<Vec<Option<String>>> {
    let array = plain(array, column, first)?;
    Ok(strings(&array).map(|text| text.map(str::to_owned)).collect())
}

/// The same values without a dictionary.
fn plain(array: &ArrayRef, column: &str, first: u64) -> Result<ArrayRef> {
    let Some(dictionary) = array.as_any_dictionary_opt() else { return Ok(array.clone()) };
    let taken = arrow_select::take::take(dictionary.values(), dictionary.keys(), None);
    let taken =
        taken.map_err(|e| Error::Value { column: column.to_owned(), row: first, what: e.to_string() })?;
    plain(&taken, column, first)
}

/// Strings of any layout; none of another type.
fn strings(array: &dyn Array) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
    match array.data_type() {
        DataType::Utf8 => Box::new(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => Box::new(array.as_string::<i64>().iter()),
        DataType::Utf8View => Box::new(array.as_string_view().iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// `Err`: the row and the value of the first number that is no id.
fn numbers(array: &dyn Array) -> Result<Vec<Id>, (usize, i128)> {
    fn of<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &dyn Array) -> Result<Vec<Id>, (usize, i128)> {
        let numbers = array.as_primitive::<T>().values().iter().map(|number| (*number).into());
        let id = |number| u64::try_from(number).ok().filter(|id| *id <= MAX_ID_NUMBER).map(Id::U64);
        numbers.enumerate().map(|(row, number)| id(number).ok_or((row, number))).collect()
    }
    match array.data_type() {
        DataType::Int8 => of::<types::Int8Type>(array),
        DataType::Int16 => of::<types::Int16Type>(array),
        DataType::Int32 => of::<types::Int32Type>(array),
        DataType::Int64 => of::<types::Int64Type>(array),
        DataType::UInt8 => of::<types::UInt8Type>(array),
        DataType::UInt16 => of::<types::UInt16Type>(array),
        DataType::UInt32 => of::<types::UInt32Type>(array),
        _ => of::<types::UInt64Type>(array),
    }
}
