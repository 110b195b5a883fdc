//! The header of a .npy file: parsed from hostile bytes, checked against the file's size, and written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};
use vecstone::counted;

use crate::failure::{Failure, Result};

/// Longest header that is read. NumPy's own are below 200 bytes for plain arrays.
const HEADER_MAX: usize = 64 << 10;

/// How one component is stored in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    F32,
    F64,
}

impl Dtype {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Dtype::F16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Dtype::F16 => "float16",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }
}

/// What the header says, after it was checked: the file is exactly as long as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) dtype: Dtype,
    pub(crate) big_endian: bool,
    pub(crate) fortran: bool,
    pub(crate) rows: u64,
    pub(crate) dim: usize,
    /// Byte offset of the first component.
    pub(crate) start: u64,
}

/// Whether an array of shape (dim,) counts as one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Matrix,
    MatrixOrVector,
}

/// Opens a .npy file and checks its header and its length before anything is allocated for its data.
pub(crate) fn open(path: &Path, shape: Shape) -> Result<(File, Layout)> {
    let file = open_regular(path, "give a .npy file")?;
    let meta = file.metadata().map_err(|e| Failure::io(path, "read", &e))?;
    let mut head = Vec::new();
    let most = 12 + HEADER_MAX as u64;
    (&file).take(most).read_to_end(&mut head).map_err(|e| Failure::io(path, "read", &e))?;
    let layout = parse(&head, meta.len(), shape).map_err(|what| Failure::file(path, what))?;
    Ok((file, layout))
}

/// Opens what is a regular file; a pipe would wait here for who writes to it.
pub(crate) fn open_regular(path: &Path, advice: &str) -> Result<File> {
    let meta = std::fs::metadata(path).map_err(|e| Failure::io(path, "open", &e))?;
    match meta.file_type() {
        kind if kind.is_file() => File::open(path).map_err(|e| Failure::io(path, "open", &e)),
        kind if kind.is_dir() => {
            Err(Failure::file(path, format!("not a regular file but a directory; {advice}")))
        }
        _ => Err(Failure::file(path, format!("not a regular file; {advice}"))),
    }
}

/// Checks the start of a .npy file of `file_len` bytes. Pure, so that tests need no files.
pub(crate) fn parse(head: &[u8], file_len: u64, shape: Shape) -> Result<Layout, String> {
    let end = header_end(head)?;
    check_text(&head[..end])?;
    let header = NpyHeader::from_reader(&head[..end])
        .map_err(|e| format!("the .npy header cannot be read ({e}); save the array again with numpy.save"))?;
    let (dtype, big_endian) = plain_float(&header.dtype())?;
    let (rows, dim) = rows_and_dim(header.shape(), shape)?;
    let start = end as u64;
    let bytes = rows.checked_mul(dim as u64).and_then(|n| n.checked_mul(dtype.bytes() as u64));
    let expected = bytes.and_then(|n| n.checked_add(start));
    match expected {
        Some(expected) if expected == file_len => {}
        Some(expected) if expected < file_len => {
            return Err(format!(
                "the array ends {} before the file; save it again with numpy.save",
                counted(file_len - expected, "byte")
            ));
        }
        _ => {
            return Err(format!(
                "truncated: shape ({rows}, {dim}) of {} needs more data than the {} there; copy it again",
                dtype.name(),
                counted(file_len.saturating_sub(start), "byte")
            ));
        }
    }
    // One row is the same in both orders, and C order is the faster one to read.
    let fortran = header.order() == Order::Fortran && rows > 1;
    Ok(Layout { dtype, big_endian, fortran, rows, dim, start })
}

/// Where the header ends, from the length it claims.
fn header_end(head: &[u8]) -> Result<usize, String> {
    const NOT: &str = "not a .npy file; give one written by numpy.save";
    if !head.starts_with(b"\x93NUMPY") {
        return Err(if head.starts_with(b"PK\x03\x04") {
            "this is a .npz archive; save the array alone with numpy.save".to_owned()
        } else {
            NOT.to_owned()
        });
    }
    let (version, len) = match *head {
        [_, _, _, _, _, _, 1, 0, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [_, _, _, _, _, _, 2 | 3, 0, a, b, c, d, ..] => (12, u32::from_le_bytes([a, b, c, d]) as usize),
        [_, _, _, _, _, _, major @ (0 | 4..), minor, ..] => {
            return Err(format!(".npy version {major}.{minor} is not known; save it as 1.0, 2.0 or 3.0"));
        }
        _ => return Err(NOT.to_owned()),
    };
    if len > HEADER_MAX {
        return Err(format!(
            "the .npy header claims {len} bytes, more than any plain array needs; save it again"
        ));
    }
    if version + len > head.len() {
        return Err("truncated inside the .npy header; copy the file again".to_owned());
    }
    Ok(version + len)
}

/// Refuses header texts that the parser would recurse into deeply or whose sizes overflow when multiplied.
fn check_text(header: &[u8]) -> Result<(), String> {
    let count = |wanted: fn(&u8) -> bool| header[10..].iter().filter(|b| wanted(b)).count();
    if count(|b| *b == b'[') > 0 {
        return Err("the array has a structured dtype; save a plain float32 array".to_owned());
    }
    // 19 digits in all keep every product of the shape below 2^64.
    if count(|b| matches!(b, b'(' | b'{')) > 8 || count(u8::is_ascii_digit) > 19 {
        return Err("the .npy header is not that of a plain 2-d array; save shape (rows, dim)".to_owned());
    }
    Ok(())
}

fn plain_float(dtype: &DType) -> Result<(Dtype, bool), String> {
    let DType::Plain(ty) = dtype else {
        return Err("the array has a structured dtype; save a plain float32 array".to_owned());
    };
    let big_endian = ty.endianness() == Endianness::Big;
    match (ty.type_char(), ty.size_field()) {
        (TypeChar::Float, 2) => Ok((Dtype::F16, big_endian)),
        (TypeChar::Float, 4) => Ok((Dtype::F32, big_endian)),
        (TypeChar::Float, 8) => Ok((Dtype::F64, big_endian)),
        (TypeChar::Object, _) => {
            Err("pickled Python objects are not read; save array.astype('float32')".to_owned())
        }
        _ => Err(format!("dtype {ty} is not a float; save array.astype('float32')")),
    }
}

fn rows_and_dim(shape: &[u64], allowed: Shape) -> Result<(u64, usize), String> {
    let (rows, dim) = match *shape {
        [rows, dim] => (rows, dim),
        [dim] if allowed == Shape::MatrixOrVector => (1, dim),
        [n] => {
            return Err(format!(
                "shape ({n},) has one axis; save shape (rows, dim), as by array.reshape(-1, dim)"
            ));
        }
        _ => return Err(format!("the array has {} axes; save shape (rows, dim)", shape.len())),
    };
    match usize::try_from(dim) {
        Ok(n) if (1..=u64::from(vecstone::MAX_DIM)).contains(&dim) => Ok((rows, n)),
        _ => {
            Err(format!("dimension {dim} is not between 1 and {}; save shape (rows, dim)", vecstone::MAX_DIM))
        }
    }
}

/// The bytes before the rows of a float32 C-order array, version 1.0, padded to a multiple of 64.
pub(crate) fn header(rows: u64, dim: usize) -> Vec<u8> {
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    // Two numbers of at most 20 digits: far below 65,536.
    bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn own_header_is_read_back() {
        for (rows, dim) in [(0, 1), (1, 384), (u64::from(u32::MAX), 65_536)] {
            let bytes = header(rows, dim);
            assert_eq!(bytes.len() % 64, 0);
            let len = bytes.len() as u64 + rows * dim as u64 * 4;
            let layout = parse(&bytes, len, Shape::Matrix).unwrap();
            assert_eq!((layout.rows, layout.dim, layout.dtype), (rows, dim, Dtype::F32));
            assert!(parse(&bytes, len + 1, Shape::Matrix).is_err());
            assert!(parse(&bytes, len - 1, Shape::Matrix).is_err());
        }
    }

    #[test]
    fn hostile_headers_are_errors_never_panics() {
        let deep = "(".repeat(60_000);
        let texts = [
            String::new(),
            deep.clone(),
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {deep} }}"),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 65536), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999, 65536), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': 3, 'shape': (1, 4), }".to_owned(),
            "{'descr': '<f4', 'shape': (1, 4), }".to_owned(),
            "{'descr': '<f3', 'fortran_order': False, 'shape': (1, 4), }".to_owned(),
            "{'descr': '<U999999999999', 'fortran_order': False, 'shape': (1, 4), }".to_owned(),
            "{'descr': '|O', 'fortran_order': False, 'shape': (1, 4), }".to_owned(),
            "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 4), }".to_owned(),
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 4), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0), }".to_owned(),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4".to_owned(),
            "\u{1F980}{{}}[[]".to_owned(),
        ];
        for text in &texts {
            let bytes = file(text);
            assert!(parse(&bytes, bytes.len() as u64 + 16, Shape::Matrix).is_err(), "{text:.80}");
        }
        let good = file("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 4), }");
        assert!(parse(&good, good.len() as u64 + 16, Shape::Matrix).is_ok());
        for cut in 0..good.len() {
            assert!(parse(&good[..cut], cut as u64, Shape::Matrix).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = parse(&bad, bad.len() as u64 + 16, Shape::MatrixOrVector);
            }
        }
    }
}
