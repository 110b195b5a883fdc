//! The tagged sections behind the entries of MANIFEST: the room that later releases have.

use super::{DecodeError, SECTIONS_AT};
use crate::format::Fields;
use crate::types::document::check_object;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest sections: all of them together, with their heads.
const MAX_SECTION_BYTES: u64 = 1 << 20;
/// Tag, flags and length of a section.
const HEAD_LEN: usize = 8;

/// Of the options of the store.
const OPTIONS: u16 = 1;
/// Of the attributes of the user.
const ATTRIBUTES: u16 = 2;

/// The options of this release: a whole number, and text.
const AUTO_OPTIMIZE_ROWS: &str = "auto_optimize_rows";
const EMBED_NAME: &str = "embed_name";

/// A release that does not know the tag must not open the store.
const NEEDED_TO_READ: u16 = 1;
/// A release that does not know the tag must not write to the store.
const NEEDED_TO_WRITE: u16 = 2;
const KNOWN_FLAGS: u16 = NEEDED_TO_READ | NEEDED_TO_WRITE;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    tag: u16,
    flags: u16,
    bytes: Arc<[u8]>,
}

/// The sections of a MANIFEST, those that this release does not know included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sections(Vec<Section>);

fn is_known(tag: u16) -> bool {
    matches!(tag, OPTIONS | ATTRIBUTES)
}

fn not_known(what: &'static str, tag: u16) -> DecodeError {
    DecodeError::Unsupported(what, tag.into(), ATTRIBUTES.into())
}

/// Refuses sections that this release must not read past. Nothing else of MANIFEST was looked at before, and lengths only
/// lead to the next section: whatever a later release has changed, it is called unsupported, not damaged.
pub(super) fn check_flags(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut fields = Fields(bytes);
    while let (Some(tag), Some(flags)) = (fields.u16(), fields.u16()) {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(DecodeError::Unsupported("section flags", flags.into(), KNOWN_FLAGS.into()));
        }
        if flags & NEEDED_TO_READ != 0 && !is_known(tag) {
            return Err(not_known("section tag", tag));
        }
        if fields.u32().and_then(|len| fields.bytes(len as usize)).is_none() {
            break;
        }
    }
    Ok(())
}

impl Sections {
    /// `at`: where they start in the file.
    pub(super) fn decode(bytes: &[u8], at: u64) -> Result<Sections, DecodeError> {
        let (mut fields, mut sections) = (Fields(bytes), Vec::new());
        while !fields.0.is_empty() {
            let start = at + (bytes.len() - fields.0.len()) as u64;
            let section = Section::decode(&mut fields);
            sections.push(
                section
                    .ok_or(DecodeError::Damaged(start, "a section goes beyond the end of the sections"))?,
            );
        }
        Ok(Sections(sections))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for Section { tag, flags, bytes } in &self.0 {
            let len = u32::try_from(bytes.len()).expect("at most 1 MiB");
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&flags.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(Section::len).sum()
    }

    /// What a MANIFEST must say; the same when it is read and before it is written. `at`: where they start in the file.
    pub(super) fn check(&self, at: u64) -> Result<(), DecodeError> {
        let (mut start, mut before) = (at, 0);
        for section in &self.0 {
            if section.tag <= before {
                return Err(DecodeError::Damaged(start, "the tags of the sections do not ascend from 1"));
            }
            if is_known(section.tag)
                && !std::str::from_utf8(&section.bytes).is_ok_and(|text| check_object(text).is_ok())
            {
                return Err(DecodeError::Damaged(start, "the section is not a JSON object"));
            }
            if section.tag == OPTIONS && section.option::<u64>(AUTO_OPTIMIZE_ROWS).is_err() {
                let what = "the option auto_optimize_rows is not a whole number below 2^64";
                return Err(DecodeError::Damaged(start, what));
            }
            if section.tag == OPTIONS && section.option::<String>(EMBED_NAME).is_err() {
                return Err(DecodeError::Damaged(start, "the option embed_name is not text"));
            }
            (start, before) = (start + section.len(), section.tag);
        }
        if start - at > MAX_SECTION_BYTES {
            return Err(DecodeError::Damaged(SECTIONS_AT as u64, "the sections are longer than they may be"));
        }
        Ok(())
    }

    /// Refuses to write to a store with sections that a writer must know.
    pub(super) fn check_writable(&self) -> Result<(), DecodeError> {
        let needed = |section: &&Section| section.flags & NEEDED_TO_WRITE != 0 && !is_known(section.tag);
        match self.0.iter().find(needed) {
            Some(section) => Err(not_known("to write: section tag", section.tag)),
            None => Ok(()),
        }
    }

    fn get(&self, tag: u16) -> Option<&Section> {
        self.0.iter().find(|section| section.tag == tag)
    }

    /// Those of a new store with this option.
    pub(crate) fn with_options(auto_optimize_rows: Option<u64>) -> Sections {
        let text = auto_optimize_rows.map(|rows| format!("{{\"{AUTO_OPTIMIZE_ROWS}\":{rows}}}"));
        let section = |text: String| Section { tag: OPTIONS, flags: 0, bytes: text.as_bytes().into() };
        Sections(text.map(section).into_iter().collect())
    }

    /// The option of that name, if the store has it.
    pub(crate) fn auto_optimize_rows(&self) -> Option<u64> {
        self.get(OPTIONS)?.option(AUTO_OPTIMIZE_ROWS).ok()?
    }

    /// The name of what made the vectors, if the store has one.
    pub(crate) fn embed_name(&self) -> Option<String> {
        self.get(OPTIONS)?.option(EMBED_NAME).ok()?
    }

    /// Puts a name in the place of the one that there is, or removes it; other options stay as they are. False, and
    /// nothing changed, if there is no room for it.
    pub(crate) fn set_embed_name(&mut self, name: Option<&str>) -> bool {
        let before = self.get(OPTIONS);
        let options = before.and_then(|section| serde_json::from_slice(&section.bytes).ok());
        let mut options: BTreeMap<String, Box<RawValue>> = options.unwrap_or_default();
        _ = options.remove(EMBED_NAME);
        let value = name.and_then(|name| serde_json::value::to_raw_value(name).ok());
        options.extend(value.map(|value| (EMBED_NAME.to_owned(), value)));
        let others = self.len() - before.map_or(0, Section::len);
        let section = (!options.is_empty()).then(|| Section {
            tag: OPTIONS,
            flags: before.map_or(0, |section| section.flags),
            bytes: serde_json::to_vec(&options).unwrap_or_default().into(),
        });
        if others + section.as_ref().map_or(0, Section::len) > MAX_SECTION_BYTES {
            return false;
        }
        self.put(OPTIONS, section);
        true
    }

    /// Puts a section in the place of the one of that tag.
    fn put(&mut self, tag: u16, section: Option<Section>) {
        self.0.retain(|section| section.tag != tag);
        let place = self.0.partition_point(|section| section.tag < tag);
        self.0.splice(place..place, section);
    }

    /// The attributes of the user: a JSON object.
    pub(crate) fn attributes(&self) -> Option<&str> {
        self.get(ATTRIBUTES).and_then(|section| std::str::from_utf8(&section.bytes).ok())
    }

    /// The most bytes that the attributes may have beside all other sections.
    pub(crate) fn room_for_attributes(&self) -> u64 {
        let others = self.len() - self.get(ATTRIBUTES).map_or(0, Section::len);
        (MAX_SECTION_BYTES - HEAD_LEN as u64).saturating_sub(others)
    }

    /// Puts attributes in the place of those that there are. They are a JSON object, and there is room for them.
    pub(crate) fn set_attributes(&mut self, attributes: Option<&str>) {
        let section = |text: &str| Section { tag: ATTRIBUTES, flags: 0, bytes: text.as_bytes().into() };
        self.put(ATTRIBUTES, attributes.map(section));
    }

    /// For a planted bug.
    pub(crate) fn forget_unknown(&mut self) {
        self.0.retain(|section| is_known(section.tag));
    }
}

impl Section {
    fn decode(fields: &mut Fields<'_>) -> Option<Section> {
        let (tag, flags, len) = (fields.u16()?, fields.u16()?, fields.u32()?);
        Some(Section { tag, flags, bytes: fields.bytes(len as usize)?.into() })
    }

    fn len(&self) -> u64 {
        (HEAD_LEN + self.bytes.len()) as u64
    }

    /// Of the options: the one of that name, if it is there. Others may be any JSON.
    ///
    /// # Errors
    ///
    /// If it is of another type.
    fn option<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ()> {
        let options: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&self.bytes).map_err(|_| ())?;
        options.get(name).map(|value| serde_json::from_str(value.get()).map_err(|_| ())).transpose()
    }
}
