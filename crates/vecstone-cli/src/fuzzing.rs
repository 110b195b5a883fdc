//! The door for the fuzz target `npy` in `fuzz/`.

use crate::npy::{Dtype, Layout, Shape, parse};

/// A byte that says whether one axis will do, how many bytes follow the header (u64), then any bytes as the start of a
/// `.npy` file: refused, or what a naive reader of the header says. What NumPy writes is taken.
pub fn npy(input: &[u8]) {
    let Some((&[mode], rest)) = input.split_first_chunk::<1>() else { return };
    let Some((data, head)) = rest.split_first_chunk::<8>() else { return };
    let shape = if mode & 1 == 0 { Shape::Matrix } else { Shape::MatrixOrVector };
    let file_len = u64::from_le_bytes(*data).saturating_add(head.len() as u64);
    let expected = naive(head, file_len, shape);
    match parse(head, file_len, shape) {
        Ok(found) => assert_eq!(Some(found), expected.map(|(layout, _)| layout), "{}", head.escape_ascii()),
        Err(why) => {
            let is_numpys = expected.is_some_and(|(_, is_numpys)| is_numpys);
            assert!(!is_numpys, "what NumPy writes is refused: {why}: {}", head.escape_ascii());
        }
    }
}

/// The layout, and whether the header is as NumPy writes it, letter for letter.
fn naive(head: &[u8], file_len: u64, shape: Shape) -> Option<(Layout, bool)> {
    let (magic, rest) = head.split_at_checked(6)?;
    let (&[version, 0], rest) = rest.split_first_chunk()? else { return None };
    let (len, text) = match version {
        1 => (usize::from(u16::from_le_bytes(*rest.first_chunk()?)), &rest[2..]),
        2 | 3 => (usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?, &rest[4..]),
        _ => return None,
    };
    let start = (head.len() - text.len() + len) as u64;
    let text = text.get(..len).filter(|_| magic == b"\x93NUMPY")?;
    let tokens = tokens(text)?;
    let (mut descr, mut fortran, mut axes) = (None, None, None);
    let mut items: &[Token] = &tokens;
    items = items.strip_prefix(&[Token::Sign('{')])?;
    while let [Token::Text(key), Token::Sign(':'), value @ ..] = items {
        let rest = match (key.as_str(), value) {
            ("descr", [Token::Text(text), rest @ ..]) => {
                descr = Some(text.clone());
                rest
            }
            ("fortran_order", [Token::Word(word), rest @ ..]) => {
                fortran = Some(word == "True");
                rest
            }
            ("shape", [Token::Sign('('), rest @ ..]) => {
                let end = rest.iter().position(|token| *token == Token::Sign(')'))?;
                let inner: Option<Vec<u64>> = rest[..end].iter().filter_map(Token::number).collect();
                axes = Some(inner?);
                &rest[end + 1..]
            }
            _ => return None,
        };
        items = rest.strip_prefix(&[Token::Sign(',')]).unwrap_or(rest);
    }
    let (descr, fortran, axes) = (descr?, fortran?, axes?);
    let (rows, dim) = match axes[..] {
        [rows, dim] => (rows, dim),
        [dim] if shape == Shape::MatrixOrVector => (1, dim),
        _ => return None,
    };
    let (big_endian, dtype) = match descr.as_str() {
        "<f2" | "=f2" => (false, Dtype::F16),
        "<f4" | "=f4" => (false, Dtype::F32),
        "<f8" | "=f8" => (false, Dtype::F64),
        ">f2" => (true, Dtype::F16),
        ">f4" => (true, Dtype::F32),
        ">f8" => (true, Dtype::F64),
        _ => return None,
    };
    let bytes = u128::from(rows) * u128::from(dim) * dtype.bytes() as u128;
    let fits = bytes + u128::from(start) == u128::from(file_len) && (1..=65_536).contains(&dim);
    let order = if fortran { "True" } else { "False" };
    let shape: Vec<String> = axes.iter().map(u64::to_string).collect();
    let shape = if let [one] = &shape[..] { format!("{one},") } else { shape.join(", ") };
    let numpys = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    let padded = text.strip_suffix(b"\n").and_then(|text| text.strip_prefix(numpys.as_bytes()));
    let is_numpys = padded.is_some_and(|padding| padding.iter().all(|&byte| byte == b' '));
    let is_numpys = is_numpys && !descr.starts_with('=') && rows < 1 << 32 && len < 256;
    let dim = usize::try_from(dim).ok()?;
    let layout = Layout { dtype, big_endian, fortran: fortran && rows > 1, rows, dim, start };
    fits.then_some((layout, is_numpys))
}

/// What a header is made of.
#[derive(Debug, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Sign(char),
}

impl Token {
    /// `Some(None)` for what is neither a number nor a comma.
    fn number(&self) -> Option<Option<u64>> {
        match self {
            Token::Sign(',') => None,
            // Python 2 wrote an L behind long ones.
            Token::Word(word) => Some(word.strip_suffix('L').unwrap_or(word).parse().ok()),
            _ => Some(None),
        }
    }
}

fn tokens(text: &[u8]) -> Option<Vec<Token>> {
    let text: String = text.iter().map(|&byte| char::from(byte)).collect();
    let (mut tokens, mut chars) = (Vec::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        tokens.push(match c {
            quote @ ('\'' | '"') => {
                let mut inner = String::new();
                loop {
                    match chars.next()? {
                        c if c == quote => break,
                        '\\' => inner.push(chars.next()?),
                        c => inner.push(c),
                    }
                }
                Token::Text(inner)
            }
            c if c.is_ascii_alphanumeric() => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(char::is_ascii_alphanumeric) {
                    word.push(c);
                }
                Token::Word(word)
            }
            c if c.is_ascii_whitespace() => continue,
            c => Token::Sign(c),
        });
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use vecstone_corpus::{corpus, mutations_pass};

    #[test]
    fn the_corpus_and_mutations_of_it_pass() {
        let inputs = corpus("npy", 8);
        inputs.iter().for_each(|input| super::npy(input));
        mutations_pass(inputs, 5000, super::npy);
    }
}
