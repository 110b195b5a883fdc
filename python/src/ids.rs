//! Ids as Python has them: `str`, `int` and numpy's integers, `uuid.UUID`.

use crate::convert::placed;
use crate::error::OrRaise;
use crate::given;
use crate::interrupt;
use crate::vectors::lies_plain;
use numpy::{PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyInt, PyList, PyString, PyType};
use vecstone::{AsId, Id, IdKind, IdRef, MAX_ID_NUMBER, Uuid, check_memory};

/// One id, its text where Python has it.
#[derive(Debug)]
pub(crate) enum OneId<'a> {
    Text(&'a str),
    Number(u64),
    Uuid(Uuid),
}

impl AsId for OneId<'_> {
    fn as_id(&self) -> IdRef<'_> {
        match self {
            OneId::Text(text) => text.as_id(),
            OneId::Number(number) => number.as_id(),
            OneId::Uuid(uuid) => uuid.as_id(),
        }
    }
}

/// The id that an object is.
pub(crate) fn one<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<OneId<'a>> {
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(OneId::Text(text.to_str()?));
    }
    if let Some(number) = number(object)? {
        return Ok(OneId::Number(number));
    }
    if object.is_instance(uuid_class(object.py())?)? {
        let number: u128 = object.getattr("int")?.extract()?;
        return Ok(OneId::Uuid(Uuid::from_u128(number)));
    }
    let class = object.get_type().name()?.to_string();
    let many = matches!(&*class, "list" | "tuple" | "set" | "ndarray" | "slice" | "Series");
    let advice = if many { "; several are for get_many, put_many and delete_many" } else { "" };
    Err(PyTypeError::new_err(format!("an id is a str, an int or a uuid.UUID, not {class}{advice}")))
}

fn number(object: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if object.is_instance_of::<PyBool>() {
        return Ok(None);
    }
    let whole = match object.cast::<PyInt>() {
        Ok(whole) => whole.clone().into_any(),
        // What numpy's integers have, and floats and bytes do not.
        Err(_) => match object.getattr_opt("__index__")? {
            Some(index) => match index.call0() {
                Ok(whole) => whole,
                Err(_) => return Ok(None),
            },
            None => return Ok(None),
        },
    };
    match whole.extract::<u64>() {
        Ok(number) if number <= MAX_ID_NUMBER => Ok(Some(number)),
        _ => Err(out_of_range(&whole.to_string())),
    }
}

fn out_of_range(number: &str) -> PyErr {
    PyValueError::new_err(format!("id {number} is not between 0 and 2^64 - 2"))
}

fn uuid_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(CLASS.import(py, "uuid", "UUID")?.as_any())
}

/// Many ids of one kind, in memory of their own: Python may change what they came from.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    kind: Option<IdKind>,
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
    numbers: Vec<u64>,
    uuids: Vec<Uuid>,
}

impl Ids {
    /// The ids of a list, an array of integers, or anything that can be gone through.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Ids> {
        Ids::of_column(object, false)
    }

    /// The ids of rows, which belong to what else is given of them: a set has no order.
    pub(crate) fn of_rows(object: &Bound<'_, PyAny>) -> PyResult<Ids> {
        Ids::of_column(object, true)
    }

    fn of_column(object: &Bound<'_, PyAny>, ordered: bool) -> PyResult<Ids> {
        let column = given::column("ids", object, ordered)?;
        if let Some(ids) = Ids::of_array(&column)? {
            return Ok(ids);
        }
        let mut ids = Ids::default();
        if let Ok(list) = column.cast::<PyList>() {
            // A list that changes meanwhile is gone through like any other.
            list.iter().try_for_each(|id| ids.push(&id))?;
            return Ok(ids);
        }
        for id in column.try_iter()? {
            ids.push(&id?)?;
        }
        Ok(ids)
    }

    /// The ids of a one-dimensional array of 64-bit integers; others are gone through.
    fn of_array(object: &Bound<'_, PyAny>) -> PyResult<Option<Ids>> {
        let Ok(array) = object.cast::<PyUntypedArray>() else { return Ok(None) };
        if array.ndim() != 1 {
            return Err(PyValueError::new_err(format!("ids have shape {:?}; give one axis", array.shape())));
        }
        check_memory((array.len() as u64).saturating_mul(size_of::<u64>() as u64)).or_raise()?;
        let array = if lies_plain(array) { array.clone().into_any() } else { array.call_method0("copy")? };
        let numbers: Vec<u64> = if let Ok(array) = array.extract::<PyReadonlyArray1<'_, u64>>() {
            array.as_array().to_vec()
        } else if let Ok(array) = array.extract::<PyReadonlyArray1<'_, i64>>() {
            let number = |number: &i64| u64::try_from(*number).map_err(|_| out_of_range(&number.to_string()));
            array.as_array().iter().map(number).collect::<PyResult<_>>()?
        } else {
            return Ok(None);
        };
        if let Some(number) = numbers.iter().find(|number| **number > MAX_ID_NUMBER) {
            return Err(out_of_range(&number.to_string()));
        }
        Ok(Some(Ids { kind: Some(IdKind::U64), numbers, ..Ids::default() }))
    }

    /// Puts one more behind the others.
    pub(crate) fn push(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        interrupt::check_at(object.py(), self.len() + 1)?;
        let id =
            one(object).map_err(|error| placed(object.py(), &format!("ids: row {}", self.len()), &error))?;
        let (kind, found) = (*self.kind.get_or_insert(id.as_id().kind()), id.as_id().kind());
        if kind != found {
            return Err(PyTypeError::new_err(format!(
                "the first id is of kind {}, number {} of kind {}; use one kind in a store",
                kind.name(),
                self.len(),
                found.name()
            )));
        }
        match id {
            OneId::Text(text) => {
                self.text.push_str(text);
                self.ends.push(self.text.len());
            }
            OneId::Number(number) => self.numbers.push(number),
            OneId::Uuid(uuid) => self.uuids.push(uuid),
        }
        Ok(())
    }

    /// Of what kind; `None` if there are none.
    pub(crate) fn kind(&self) -> Option<IdKind> {
        self.kind.filter(|_| self.len() > 0)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ends.len() + self.numbers.len() + self.uuids.len()
    }

    /// The ids as the library takes them.
    pub(crate) fn refs(&self) -> Vec<IdRef<'_>> {
        match self.kind {
            None => Vec::new(),
            Some(IdKind::U64) => self.numbers.iter().map(AsId::as_id).collect(),
            Some(IdKind::Uuid) => self.uuids.iter().map(AsId::as_id).collect(),
            Some(IdKind::String) => {
                let starts = std::iter::once(0).chain(self.ends.iter().copied());
                starts.zip(&self.ends).map(|(start, end)| self.text[start..*end].as_id()).collect()
            }
        }
    }
}

/// An id as Python has it.
pub(crate) fn to_python<'py>(py: Python<'py>, id: &Id) -> PyResult<Bound<'py, PyAny>> {
    match id {
        Id::String(text) => Ok(PyString::new(py, text).into_any()),
        Id::U64(number) => Ok(number.into_pyobject(py)?.into_any()),
        Id::Uuid(uuid) => {
            let of_int = pyo3::types::PyDict::new(py);
            of_int.set_item("int", uuid.as_u128())?;
            uuid_class(py)?.call((), Some(&of_int))
        }
    }
}
