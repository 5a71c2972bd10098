//! One line and its hash.
//!
//! A line is `{"seq":N,…,"prev":"P","hash":"H"}` and a newline, with
//! `H = sha256(P ‖ the line's bytes without ,"hash":"H" and newline)`, P and H as 64 lower-case hexadecimal digits
//! and P also hashed as these digits. Nothing is parsed and written again: the bytes themselves are canonical, so
//! `sha256sum` and a text editor are enough to check one.

use sha2::{Digest as _, Sha256};

/// `prev` of the first record ever.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const HEX: usize = 64;

/// Finishes a line. `open` is the object without its closing brace, up to the last field before `prev`.
/// Returns the line with its newline, and its hash.
pub fn seal(open: &str, prev: &str) -> (String, String) {
    let body = format!("{open},\"prev\":\"{prev}\"");
    let hash = digest(prev.as_bytes(), body.as_bytes());
    (format!("{body},\"hash\":\"{hash}\"}}\n"), hash)
}

/// What a line says of its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub seq: u64,
    pub prev: String,
    pub hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("it is not a line that healer writes (`{{\"seq\":N,…,\"prev\":\"…\",\"hash\":\"…\"}}`)")]
    Form,
    #[error("its bytes do not give its hash: it was changed after it was written")]
    Hash,
}

/// Checks one line, without its newline, against its own hash.
///
/// # Errors
/// `BadLine`.
pub fn check(line: &[u8]) -> Result<Link, BadLine> {
    let (body, hash) = split_field(line, ",\"hash\":\"").ok_or(BadLine::Form)?;
    let link = link(line).ok_or(BadLine::Form)?;
    if digest(link.prev.as_bytes(), body) != hash {
        return Err(BadLine::Hash);
    }
    Ok(link)
}

/// What a line claims, its hash not checked.
pub fn link(line: &[u8]) -> Option<Link> {
    let (body, hash) = split_field(line, ",\"hash\":\"")?;
    let closed = [body, b"}"].concat();
    let (_, prev) = split_field(&closed, ",\"prev\":\"")?;
    Some(Link { seq: seq(line)?, prev: prev.to_owned(), hash: hash.to_owned() })
}

/// Takes the last field, `<key>XXXX…"}` with 64 digits, off a line.
fn split_field<'a>(line: &'a [u8], key: &str) -> Option<(&'a [u8], &'a str)> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(HEX)?)?;
    let body = rest.strip_suffix(key.as_bytes())?;
    let is_hex = digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f'));
    let digits = core::str::from_utf8(digits).ok().filter(|_| is_hex)?;
    Some((body, digits))
}

fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    core::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// `sha256(prev ‖ body ‖ "}")` in hexadecimal.
fn digest(prev: &[u8], body: &[u8]) -> String {
    let mut sha = Sha256::new();
    sha.update(prev);
    sha.update(body);
    sha.update(b"}");
    let mut hex = String::with_capacity(HEX);
    for byte in sha.finalize() {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    hex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_line() {
        let (line, hash) = seal("{\"seq\":1,\"record\":\"agent\"", GENESIS);
        // printf '%064d{"seq":1,"record":"agent","prev":"%064d"}' 0 0 | sha256sum
        assert_eq!(hash, KNOWN);
        let link = check(line.trim_end().as_bytes()).unwrap();
        assert_eq!((link.seq, link.prev.as_str()), (1, GENESIS));
        assert_eq!(link.hash, hash);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["hash"], KNOWN);
    }

    const KNOWN: &str = "93f018c2dd35637446ba1d9da18e340ac0d516faece667f95a5f2580e9bcda8f";

    proptest! {
        #[test]
        fn any_changed_byte_is_found(text in "\\PC{0,40}", at in 0usize..1000, by in 1u8..) {
            let open = format!("{{\"seq\":7,\"says\":{}", serde_json::Value::from(text));
            let (line, _) = seal(&open, GENESIS);
            let mut bytes = line.trim_end().as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = bytes[at].wrapping_add(by);
            prop_assert!(check(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(check(&bytes).is_err());
        }
    }
}
