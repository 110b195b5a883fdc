//! What a vector is found by.

use crate::types::config::MAX_ID_BYTES;
use crate::types::error::{Error, Result};
use crate::types::name::named;
use siphasher::sip::SipHasher13;
use std::fmt;
use std::hash::Hasher;

pub use uuid::Uuid;

/// The kind of a store's ids. The first write fixes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IdKind {
    /// UTF-8 text of 1 to 65,536 bytes.
    String = 1,
    /// A number from 0 to [`MAX_ID_NUMBER`](crate::MAX_ID_NUMBER), stored as 8 little-endian bytes.
    U64 = 2,
    /// A UUID, stored as its 16 bytes.
    Uuid = 3,
}

named!(IdKind, "id kind");

impl IdKind {
    pub(crate) const ALL: [IdKind; 3] = [IdKind::String, IdKind::U64, IdKind::Uuid];

    /// The kind of that number in the files; `None` for 0 (no id yet) and for what this release does not know.
    pub(crate) fn from_byte(byte: u8) -> Option<IdKind> {
        IdKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Bytes of an id of this kind, where they are always as many.
    pub(crate) fn width(self) -> Option<usize> {
        match self {
            IdKind::String => None,
            IdKind::U64 => Some(8),
            IdKind::Uuid => Some(16),
        }
    }

    /// The name used in `info` and in messages: `string`, `u64` or `uuid`.
    pub fn name(self) -> &'static str {
        match self {
            IdKind::String => "string",
            IdKind::U64 => "u64",
            IdKind::Uuid => "uuid",
        }
    }
}

/// An id that owns its bytes: what a store gives back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// UTF-8 text.
    String(String),
    /// A number.
    U64(u64),
    /// A UUID.
    Uuid(Uuid),
}

impl Id {
    /// The id of that kind whose stored bytes these are; `None` if none can have them.
    pub(crate) fn from_bytes(kind: IdKind, bytes: &[u8]) -> Option<Id> {
        Some(match kind {
            IdKind::String => Id::String(std::str::from_utf8(bytes).ok()?.to_owned()),
            IdKind::U64 => Id::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            IdKind::Uuid => Id::Uuid(Uuid::from_bytes(bytes.try_into().ok()?)),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> IdKind {
        match self {
            Id::String(_) => IdKind::String,
            Id::U64(_) => IdKind::U64,
            Id::Uuid(_) => IdKind::Uuid,
        }
    }

    /// The text of a string id.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Id::String(text) => Some(text),
            _ => None,
        }
    }
}

/// As `as_str` for text, in decimal for a number, hyphenated for a UUID.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::String(text) => text.fmt(f),
            Id::U64(number) => number.fmt(f),
            Id::Uuid(uuid) => uuid.fmt(f),
        }
    }
}

impl PartialEq<str> for Id {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Id {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == Some(other)
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Id {
        Id::String(text.to_owned())
    }
}

impl From<String> for Id {
    fn from(text: String) -> Id {
        Id::String(text)
    }
}

impl From<u64> for Id {
    fn from(number: u64) -> Id {
        Id::U64(number)
    }
}

impl From<Uuid> for Id {
    fn from(uuid: Uuid) -> Id {
        Id::Uuid(uuid)
    }
}

/// A borrowed id: its kind and the bytes that are stored. Made by [`AsId`], or from a reference to what that takes, a `u64`
/// or a [`Uuid`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdRef<'a>(Bytes<'a>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bytes<'a> {
    Text(&'a str),
    Number([u8; 8]),
    Uuid([u8; 16]),
}

impl IdRef<'_> {
    /// Its kind.
    pub fn kind(&self) -> IdKind {
        match self.0 {
            Bytes::Text(_) => IdKind::String,
            Bytes::Number(_) => IdKind::U64,
            Bytes::Uuid(_) => IdKind::Uuid,
        }
    }

    /// The bytes that are stored.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Text(text) => text.as_bytes(),
            Bytes::Number(bytes) => bytes,
            Bytes::Uuid(bytes) => bytes,
        }
    }

    /// The same id with bytes of its own.
    pub fn to_id(&self) -> Id {
        match self.0 {
            Bytes::Text(text) => Id::String(text.to_owned()),
            Bytes::Number(bytes) => Id::U64(u64::from_le_bytes(bytes)),
            Bytes::Uuid(bytes) => Id::Uuid(Uuid::from_bytes(bytes)),
        }
    }

    /// Refuses an id that cannot be stored; `row` is its place in the batch.
    pub(crate) fn check(&self, row: usize) -> Result<()> {
        let len = self.as_bytes().len();
        if len == 0 || len > MAX_ID_BYTES { Err(Error::InvalidId { row, len }) } else { Ok(()) }
    }
}

impl IdRef<'_> {
    /// Refuses the one number that is no id, though a store may have it already.
    pub(crate) fn check_number(&self, row: usize) -> Result<()> {
        if self.0 == Bytes::Number(u64::MAX.to_le_bytes()) {
            Err(Error::IdOutOfRange { row })
        } else {
            Ok(())
        }
    }
}

/// What can stand for an id: text, a `u64`, a [`Uuid`], an [`Id`], or a reference to one of them.
pub trait AsId {
    /// The id.
    fn as_id(&self) -> IdRef<'_>;
}

impl AsId for str {
    fn as_id(&self) -> IdRef<'_> {
        IdRef(Bytes::Text(self))
    }
}

impl AsId for String {
    fn as_id(&self) -> IdRef<'_> {
        self.as_str().as_id()
    }
}

impl AsId for u64 {
    fn as_id(&self) -> IdRef<'_> {
        IdRef(Bytes::Number(self.to_le_bytes()))
    }
}

impl AsId for Uuid {
    fn as_id(&self) -> IdRef<'_> {
        IdRef(Bytes::Uuid(*self.as_bytes()))
    }
}

impl AsId for Id {
    fn as_id(&self) -> IdRef<'_> {
        match self {
            Id::String(text) => text.as_id(),
            Id::U64(number) => number.as_id(),
            Id::Uuid(uuid) => uuid.as_id(),
        }
    }
}

impl AsId for IdRef<'_> {
    fn as_id(&self) -> IdRef<'_> {
        *self
    }
}

impl<T: AsId + ?Sized> AsId for &T {
    fn as_id(&self) -> IdRef<'_> {
        (**self).as_id()
    }
}

impl<'a, T: AsId + ?Sized> From<&'a T> for IdRef<'a> {
    fn from(id: &'a T) -> IdRef<'a> {
        id.as_id()
    }
}

impl From<u64> for IdRef<'_> {
    fn from(number: u64) -> Self {
        IdRef(Bytes::Number(number.to_le_bytes()))
    }
}

impl From<Uuid> for IdRef<'_> {
    fn from(uuid: Uuid) -> Self {
        IdRef(Bytes::Uuid(*uuid.as_bytes()))
    }
}

/// The hash by which ids are found, in memory and in `.ids`: SipHash-1-3 (Aumasson and Bernstein 2012), keyed with the
/// store's random uuid, so that ids chosen by someone else cannot be made to collide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdHasher([u8; 16]);

impl IdHasher {
    pub(crate) fn new(store: &[u8; 16]) -> IdHasher {
        IdHasher(*store)
    }

    pub(crate) fn hash(self, id: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(id);
        hasher.finish()
    }
}

/// The half of a hash that is kept of each row.
pub(crate) fn half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_of_every_kind() {
        let uuid = Uuid::from_bytes(*b"0123456789abcdef");
        for id in [Id::from("é"), Id::from(0), Id::from(u64::MAX), Id::from(uuid)] {
            let bytes = id.as_id().as_bytes().to_vec();
            assert_eq!(Id::from_bytes(id.kind(), &bytes).as_ref(), Some(&id));
            assert_eq!(id.as_id().to_id(), id);
            assert_eq!(id.kind().width().unwrap_or(bytes.len()), bytes.len());
        }
        assert_eq!(Id::from_bytes(IdKind::U64, b"1234567"), None);
        assert_eq!(Id::from_bytes(IdKind::String, b"\xFF"), None);
        assert_eq!(Id::from(7).to_string(), "7");
        assert_eq!(Id::from(uuid).to_string(), "30313233-3435-3637-3839-616263646566");
    }

    /// SipHash-1-3 with key 00 01 … 0f over the empty input and over 00: the format depends on these bits.
    #[test]
    fn the_hash_is_siphash_1_3() {
        let key: [u8; 16] = std::array::from_fn(|n| u8::try_from(n).expect("small"));
        let hasher = IdHasher::new(&key);
        assert_eq!(hasher.hash(&[]), 0xABAC_0158_050F_C4DC);
        assert_eq!(hasher.hash(&[0]), 0xC9F4_9BF3_7D57_CA93);
    }
}
