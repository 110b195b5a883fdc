//! Names of the values of small enums: what `Display` writes and `FromStr` reads.

use crate::types::error::{Error, Result};

/// The one of `all` that has this name, in capitals or not; `what` says what they are.
pub(crate) fn find<T: Copy>(
    what: &'static str,
    name: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T> {
    let found = all.iter().copied().find(|value| name_of(*value).eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<String> = all.iter().map(|value| format!("'{}'", name_of(*value))).collect();
        Error::UnknownName { what, name: name.into(), names: names.join(", ").into() }
    })
}

/// `Display` and `FromStr` by `name()` and `ALL`.
macro_rules! named {
    ($type:ty, $what:literal) => {
        /// Its name.
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        /// By its name.
        ///
        /// # Errors
        ///
        /// [`Error::UnknownName`](crate::Error::UnknownName) lists all names.
        impl std::str::FromStr for $type {
            type Err = crate::types::error::Error;

            fn from_str(name: &str) -> crate::types::error::Result<Self> {
                crate::types::name::find($what, name, &Self::ALL, Self::name)
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::{Durability, Error, ErrorKind, IdKind, Metric};
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    fn round_trip<T: FromStr<Err = Error> + Display + PartialEq + Debug>(all: &[T], message: &str) {
        for value in all {
            assert_eq!(value.to_string().parse::<T>().expect("its own name"), *value);
        }
        let error = "Kosinus".parse::<T>().expect_err("no name");
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    }

    #[test]
    fn names_of_other_stores_are_explained() {
        for (name, metric) in [("L2", Metric::L2), ("IP", Metric::Ip), ("Cosine", Metric::Cosine)] {
            assert_eq!(name.parse::<Metric>().expect("a name"), metric);
        }
        for (name, says) in [
            ("dot", "'ip' is 1 minus the inner product"),
            ("Inner_Product", "'ip' is 1 minus the inner product"),
            ("euclidean", "'l2' is the sum of the squared differences, without a root"),
            ("cos", "'cosine' is 1 minus the cosine"),
        ] {
            let error = name.parse::<Metric>().expect_err("no name").to_string();
            assert!(error.contains(says) && error.contains("is none of"), "{error}");
        }
    }

    #[test]
    fn names_are_read_and_written_alike() {
        round_trip(&Metric::ALL, "metric 'Kosinus' is none of 'l2', 'ip', 'cosine'");
        round_trip(&IdKind::ALL, "id kind 'Kosinus' is none of 'string', 'u64', 'uuid'");
        round_trip(&Durability::ALL, "durability 'Kosinus' is none of 'buffered', 'sync'");
        assert_eq!(format!("{:>8}|{:<4}|", Metric::Cosine, Metric::L2), "  cosine|l2  |");
    }
}
