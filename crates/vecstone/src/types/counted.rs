//! Numbers of things, in words.

/// A number and what is counted, in the singular where it is one: "1 row", "0 rows", "2 batches".
#[doc(hidden)]
pub fn counted(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    match one.strip_suffix('y') {
        _ if number == 1 => format!("1 {one}"),
        Some(stem) => format!("{number} {stem}ies"),
        None if one.ends_with("ch") => format!("{number} {one}es"),
        None => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_one() {
        assert_eq!([0_u64, 1, 2].map(|number| counted(number, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!(
            [1_usize, 2].map(|number| counted(number, "unproven batch")),
            ["1 unproven batch", "2 unproven batches"]
        );
        assert_eq!([1_u32, 9].map(|number| counted(number, "query")), ["1 query", "9 queries"]);
    }
}
