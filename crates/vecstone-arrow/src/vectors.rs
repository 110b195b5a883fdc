//! Vectors out of Arrow lists.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::DecimalType;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, types};
use arrow_buffer::ScalarBuffer;
use arrow_schema::DataType;
use half::f16;
use vecstone::{MAX_DIM, counted};

use crate::error::{Error, Result};

pub(crate) const WANTED: &str = "give lists of numbers (FixedSizeList, List or LargeList)";

/// Types of which vectors are made.
pub(crate) fn is_taken(of: &DataType) -> bool {
    match of {
        DataType::FixedSizeList(field, _) | DataType::List(field) | DataType::LargeList(field) => {
            let of = field.data_type();
            of.is_integer() || of.is_floating() || of.is_decimal()
        }
        _ => false,
    }
}

/// The vectors of a column of a taken type, row after row, and their dimension: `expected`, or else that of the first
/// row (0 if nothing tells). float32 stays where it lies; everything else is rounded to float32.
pub(crate) fn vectors(
    array: &ArrayRef,
    column: &str,
    first: u64,
    expected: Option<usize>,
) -> Result<(usize, ScalarBuffer<f32>)> {
    let wrong =
        |row: usize, what: String| Error::Value { column: column.to_owned(), row: first + row as u64, what };
    if let Some(row) = (0..array.len()).find(|row| array.is_null(*row)) {
        return Err(wrong(
            row,
            "the vector is null; give each row a vector, or leave the row out".to_owned(),
        ));
    }
    let (values, ends) = lists(array);
    let dim = expected.or(ends.first().map(Range::len)).unwrap_or(0);
    if let Some((row, found)) = ends.iter().map(Range::len).enumerate().find(|(_, len)| *len != dim) {
        let like = if expected.is_some() { "" } else { ", as many as the first row has" };
        return Err(wrong(
            row,
            format!("the vector has {} where {dim} are expected{like}", counted(found as u64, "component")),
        ));
    }
    if !ends.is_empty() && !(1..=MAX_DIM as usize).contains(&dim) {
        return Err(wrong(0, format!("the vector has {dim} components; give from 1 to {MAX_DIM}")));
    }
    let (Some(start), Some(end)) = (ends.first(), ends.last()) else {
        return Ok((dim, ScalarBuffer::from(Vec::new())));
    };
    let values = values.slice(start.start, end.end - start.start);
    if values.null_count() > 0
        && let Some(at) = (0..values.len()).find(|at| values.is_null(*at))
    {
        return Err(wrong(at / dim, format!("component {} is null; give a number", at % dim)));
    }
    Ok((dim, floats(&values)))
}

/// The values of all rows and where those of each row are, one row behind the other.
fn lists(array: &ArrayRef) -> (&ArrayRef, Vec<Range<usize>>) {
    // Offsets are checked by whoever made the array.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "offsets into memory")]
    let at = |offset: i64| offset as usize;
    match array.data_type() {
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let len = at(list.value_length().into());
            (list.values(), (0..list.len()).map(|row| row * len..(row + 1) * len).collect())
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let range = |ends: &[i32]| at(ends[0].into())..at(ends[1].into());
            (list.values(), list.value_offsets().windows(2).map(range).collect())
        }
        _ => {
            let list = array.as_list::<i64>();
            let range = |ends: &[i64]| at(ends[0])..at(ends[1]);
            (list.values(), list.value_offsets().windows(2).map(range).collect())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "float32 is what a store holds")]
fn floats(values: &dyn Array) -> ScalarBuffer<f32> {
    fn of<T: ArrowPrimitiveType>(
        values: &dyn Array,
        convert: impl Fn(T::Native) -> f32,
    ) -> ScalarBuffer<f32> {
        let converted: Vec<f32> = values.as_primitive::<T>().values().iter().map(|x| convert(*x)).collect();
        converted.into()
    }
    match values.data_type() {
        DataType::Float32 => values.as_primitive::<types::Float32Type>().values().clone(),
        DataType::Float16 => of::<types::Float16Type>(values, f16::to_f32),
        DataType::Int8 => of::<types::Int8Type>(values, f32::from),
        DataType::Int16 => of::<types::Int16Type>(values, f32::from),
        DataType::Int32 => of::<types::Int32Type>(values, |x| x as f32),
        DataType::Int64 => of::<types::Int64Type>(values, |x| x as f32),
        DataType::UInt8 => of::<types::UInt8Type>(values, f32::from),
        DataType::UInt16 => of::<types::UInt16Type>(values, f32::from),
        DataType::UInt32 => of::<types::UInt32Type>(values, |x| x as f32),
        DataType::UInt64 => of::<types::UInt64Type>(values, |x| x as f32),
        DataType::Float64 => of::<types::Float64Type>(values, narrow),
        _ => decimals(values),
    }
}

/// By their text: each is rounded once.
fn decimals(values: &dyn Array) -> ScalarBuffer<f32> {
    fn of<T: DecimalType>(values: &dyn Array) -> ScalarBuffer<f32> {
        let array = values.as_primitive::<T>();
        let numbers = (0..array.len()).map(|at| array.value_as_string(at).parse().unwrap_or(f32::NAN));
        numbers.collect::<Vec<f32>>().into()
    }
    match values.data_type() {
        DataType::Decimal32(..) => of::<types::Decimal32Type>(values),
        DataType::Decimal64(..) => of::<types::Decimal64Type>(values),
        DataType::Decimal128(..) => of::<types::Decimal128Type>(values),
        _ => of::<types::Decimal256Type>(values),
    }
}

/// Beyond the range of f32 this is infinity, which the store refuses by row and component.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is wanted")]
fn narrow(x: f64) -> f32 {
    x as f32
}
