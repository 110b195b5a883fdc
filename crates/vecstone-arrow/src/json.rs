//! Arrow values as JSON text.
//!
//! By hand: the writer of `arrow-json` refuses time zones by name, has decimals as numbers, which most readers round,
//! and writes nulls within dictionaries as if they were values; and it would bring six crates.

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions::{as_date, as_datetime, as_time};
use arrow_array::{Array, ArrowPrimitiveType, downcast_dictionary_array, types};
use arrow_schema::{DataType, TimeUnit};
use serde::Serialize;
use serde::de::IgnoredAny;

pub(crate) const WANTED: &str = "JSON has no such values; leave the column out, or convert it to strings, numbers, dates, lists or structs";

/// Types nested deeper than this are refused: JSON parsers do the same.
const DEEPEST: usize = 100;

/// Types that can be written as JSON.
pub(crate) fn is_taken(of: &DataType) -> bool {
    is_taken_at(of, DEEPEST)
}

fn is_taken_at(of: &DataType, deep: usize) -> bool {
    let Some(deep) = deep.checked_sub(1) else { return false };
    match of {
        DataType::Null | DataType::Boolean | DataType::Date32 | DataType::Date64 => true,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => true,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            is_taken_at(field.data_type(), deep)
        }
        DataType::Struct(fields) => fields.iter().all(|field| is_taken_at(field.data_type(), deep)),
        DataType::Dictionary(_, values) => is_taken_at(values, deep),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key = fields[0].data_type();
                let text = matches!(key, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
                text && is_taken_at(fields[1].data_type(), deep)
            }
            _ => false,
        },
        of => of.is_integer() || of.is_floating() || of.is_decimal(),
    }
}

/// Appends the value in row `at` of an array of a taken type. `Err`: what is wrong with the value.
pub(crate) fn write(array: &dyn Array, at: usize, out: &mut Vec<u8>) -> Result<(), String> {
    if array.is_null(at) {
        out.extend(b"null");
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => value(&(), out),
        DataType::Boolean => value(&array.as_boolean().value(at), out),
        DataType::Utf8 => value(array.as_string::<i32>().value(at), out),
        DataType::LargeUtf8 => value(array.as_string::<i64>().value(at), out),
        DataType::Utf8View => value(array.as_string_view().value(at), out),
        DataType::List(_) => write_list(&array.as_list::<i32>().value(at), out),
        DataType::LargeList(_) => write_list(&array.as_list::<i64>().value(at), out),
        DataType::FixedSizeList(..) => write_list(&array.as_fixed_size_list().value(at), out),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(AsRef::as_ref);
            write_object(fields.iter().map(|field| field.name().as_str()).zip(columns), at, out)
                .map_err(|(member, what)| format!("member {member:?}: {what}"))
        }
        DataType::Map(..) => write_map(&array.as_map().value(at), out),
        DataType::Dictionary(..) => downcast_dictionary_array! {
            array => match array.key(at) {
                Some(key) => write(array.values(), key, out),
                None => value(&(), out),
            },
            of => Err(format!("a dictionary of type {of} is not known")),
        },
        of if of.is_temporal() => write_time(array, at, out),
        _ => write_number(array, at, out),
    }
}

/// Appends `{"name": value, ...}`: row `at` of each of the arrays. `Err`: which of them is at fault, and why.
pub(crate) fn write_object<'a>(
    members: impl Iterator<Item = (&'a str, &'a dyn Array)>,
    at: usize,
    out: &mut Vec<u8>,
) -> Result<(), (&'a str, String)> {
    out.push(b'{');
    for (n, (name, array)) in members.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        value(name, out).map_err(|what| (name, what))?;
        out.push(b':');
        write(array, at, out).map_err(|what| (name, what))?;
    }
    out.push(b'}');
    Ok(())
}

fn write_list(items: &dyn Array, out: &mut Vec<u8>) -> Result<(), String> {
    out.push(b'[');
    for at in 0..items.len() {
        if at > 0 {
            out.push(b',');
        }
        write(items, at, out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_map(entries: &dyn Array, out: &mut Vec<u8>) -> Result<(), String> {
    let [keys, values] = entries.as_struct().columns() else {
        return Err("a map without keys and values".to_owned());
    };
    out.push(b'{');
    for at in 0..keys.len() {
        if at > 0 {
            out.push(b',');
        }
        if keys.is_null(at) {
            return Err("a key of the map is null; give it text".to_owned());
        }
        write(keys, at, out)?;
        out.push(b':');
        write(values, at, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_number(array: &dyn Array, at: usize, out: &mut Vec<u8>) -> Result<(), String> {
    fn of<T: ArrowPrimitiveType>(array: &dyn Array, at: usize) -> T::Native {
        array.as_primitive::<T>().value(at)
    }
    match array.data_type() {
        DataType::Int8 => value(&of::<types::Int8Type>(array, at), out),
        DataType::Int16 => value(&of::<types::Int16Type>(array, at), out),
        DataType::Int32 => value(&of::<types::Int32Type>(array, at), out),
        DataType::Int64 => value(&of::<types::Int64Type>(array, at), out),
        DataType::UInt8 => value(&of::<types::UInt8Type>(array, at), out),
        DataType::UInt16 => value(&of::<types::UInt16Type>(array, at), out),
        DataType::UInt32 => value(&of::<types::UInt32Type>(array, at), out),
        DataType::UInt64 => value(&of::<types::UInt64Type>(array, at), out),
        DataType::Float16 => float(of::<types::Float16Type>(array, at).to_f32(), out),
        DataType::Float32 => float(of::<types::Float32Type>(array, at), out),
        DataType::Float64 => float(of::<types::Float64Type>(array, at), out),
        // As text: as numbers, most readers of JSON would round them.
        DataType::Decimal32(..) => {
            value(&array.as_primitive::<types::Decimal32Type>().value_as_string(at), out)
        }
        DataType::Decimal64(..) => {
            value(&array.as_primitive::<types::Decimal64Type>().value_as_string(at), out)
        }
        DataType::Decimal128(..) => {
            value(&array.as_primitive::<types::Decimal128Type>().value_as_string(at), out)
        }
        DataType::Decimal256(..) => {
            value(&array.as_primitive::<types::Decimal256Type>().value_as_string(at), out)
        }
        of => Err(format!("type {of} cannot be JSON")),
    }
}

fn float(number: impl Serialize + Into<f64> + Copy, out: &mut Vec<u8>) -> Result<(), String> {
    let wide: f64 = number.into();
    if wide.is_finite() {
        return value(&number, out);
    }
    Err(format!("{wide} is no JSON number; make it null, or leave the column out"))
}

/// ISO 8601; a point in time as its one text.
fn write_time(array: &dyn Array, at: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let text = match array.data_type() {
        DataType::Date32 => date::<types::Date32Type>(array, at),
        DataType::Date64 => date::<types::Date64Type>(array, at),
        DataType::Time32(TimeUnit::Second) => time::<types::Time32SecondType>(array, at),
        DataType::Time32(_) => time::<types::Time32MillisecondType>(array, at),
        DataType::Time64(TimeUnit::Microsecond) => time::<types::Time64MicrosecondType>(array, at),
        DataType::Time64(_) => time::<types::Time64NanosecondType>(array, at),
        DataType::Timestamp(unit, zone) => {
            let moment = match unit {
                TimeUnit::Second => moment::<types::TimestampSecondType>(array, at),
                TimeUnit::Millisecond => moment::<types::TimestampMillisecondType>(array, at),
                TimeUnit::Microsecond => moment::<types::TimestampMicrosecondType>(array, at),
                TimeUnit::Nanosecond => moment::<types::TimestampNanosecondType>(array, at),
            };
            moment.map(|moment| if zone.is_some() { moment + "+00:00" } else { moment })
        }
        of => return Err(format!("type {of} cannot be JSON")),
    };
    value(&text.ok_or("the date or time is out of range; give one of the years 1 to 9999, or null")?, out)
}

fn date<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, at: usize) -> Option<String> {
    let date = as_date::<T>(array.as_primitive::<T>().value(at).into())?;
    of_four_digits(&date.format("%Y").to_string()).then(|| date.format("%Y-%m-%d").to_string())
}

fn time<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, at: usize) -> Option<String> {
    as_time::<T>(array.as_primitive::<T>().value(at).into()).map(|time| format!("{time:?}"))
}

/// Six digits of a second, nine where the last three are not zero: such texts sort as the points in time do, whatever the
/// unit of the column.
fn moment<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array, at: usize) -> Option<String> {
    let moment = as_datetime::<T>(array.as_primitive::<T>().value(at).into())?;
    let to_the_second = moment.format("%Y-%m-%dT%H:%M:%S").to_string();
    let nanoseconds = moment.and_utc().timestamp_subsec_nanos();
    let digits = match nanoseconds % 1000 {
        0 => format!("{:06}", nanoseconds / 1000),
        _ => format!("{nanoseconds:09}"),
    };
    of_four_digits(&moment.format("%Y").to_string()).then(|| format!("{to_the_second}.{digits}"))
}

/// Whether a year is one of 1 to 9999: others have a sign.
fn of_four_digits(year: &str) -> bool {
    year.len() == 4 && year != "0000"
}

fn value(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, value).map_err(|e| e.to_string())
}

/// The document that a JSON text is, as a store keeps it: on one line; `None` if it is null. `Err`: why it is not JSON.
pub(crate) fn document_of(text: &str) -> Result<Option<String>, String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|e| e.to_string())?;
    let text = text.trim();
    Ok((text != "null").then(|| text.replace(['\n', '\r'], " ")))
}
