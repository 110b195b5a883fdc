//! The door for filters.

use super::plain::{Plain, takes};
use crate::{Document, Error, Filter};

/// How deep a filter may nest without question.
const SURELY: usize = 20;

/// Texts between bytes of zero: a filter, then documents. What the filter says of each is what a plain evaluator says, and
/// the filter printed and parsed again says the same.
pub fn filter(input: &[u8]) {
    let mut texts = input.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    let Some(text) = texts.next() else { return };
    let parsed = Filter::parse(text);
    if let Err(error) = &parsed {
        assert!(matches!(error, Error::InvalidFilter { .. }), "{error:?}");
    }
    let plain = Plain::of(text);
    if let Some(plain) = &plain {
        let is_one = takes(plain, &Plain::Null).is_some();
        let expected = if is_one { parsed.is_ok() || plain.depth() > SURELY } else { parsed.is_err() };
        assert!(expected, "{text}: {parsed:?}");
    }
    let Ok(parsed) = parsed else { return };
    let printed = plain.as_ref().map(|plain| {
        let printed = plain.to_string();
        let again = Filter::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        (printed, again)
    });
    let without = parsed.takes_document(None).expect("nothing to read");
    if let Some(plain) = &plain {
        assert_eq!(Some(without), takes(plain, &Plain::Null), "{text} of nothing");
    }
    for document in texts {
        // A store keeps documents like this.
        let Ok(line) = Document::Json(document).one_line(0) else {
            _ = parsed.takes_document(Some(document));
            continue;
        };
        let Some(line) = line.json() else { continue };
        let taken =
            parsed.takes_document(Some(&line)).unwrap_or_else(|error| panic!("{text} of {line}: {error}"));
        if let Some((printed, again)) = &printed {
            let after = again.takes_document(Some(&line)).expect("JSON");
            assert_eq!(taken, after, "{text} of {line}, printed as {printed}");
        }
        if let (Some(plain), Some(document)) = (&plain, Plain::of(&line)) {
            assert_eq!(Some(taken), takes(plain, &document), "{text} of {line}");
        }
    }
}
