//! Bytes that somebody else chose (comm, arguments, container names) on their way to people.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

/// Kernel bytes as text: what is not UTF-8 becomes U+FFFD, control characters stay.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Text that is safe on a terminal, in a log line and in a metric's label: one line, no escape
/// sequences, nothing invisible, nothing that turns the direction of reading.
///
/// What is not printable becomes `\n`, `\r`, `\t`, `\x1b` (below U+0100) or `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            escape(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn escape(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Writing to a String cannot fail.
        '\0'..='\u{ff}' => drop(write!(out, "\\x{:02x}", u32::from(c))),
        _ => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
    }
}

/// Controls, line and paragraph separators, and the format characters that hide or reorder text
/// (Unicode TR36, 3.6 and TR9: bidirectional marks, embeddings, overrides and isolates).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Escapes every string inside `value`, keys too.
pub fn escape_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(escaped) = printable(text) {
                *text = escaped;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(escape_json),
        Value::Object(fields) => {
            let all = std::mem::take(fields);
            fields.extend(all.into_iter().map(|(key, mut value)| {
                escape_json(&mut value);
                (printable(&key).into_owned(), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_left_alone() {
        for text in ["nginx: worker", "größe", "日本", "a\\b", "C:\\x", "🦀"] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn what_moves_a_terminal_is_spelt_out() {
        let check = |text: &str, shown: &str| assert_eq!(printable(text), shown);
        check("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m");
        check("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00");
        check("\u{9b}31m\x7f", "\\x9b31m\\x7f");
    }

    #[test]
    fn what_turns_or_hides_text_is_spelt_out() {
        let check = |text: &str, shown: &str| assert_eq!(printable(text), shown);
        check("exe.\u{202e}gpj", "exe.\\u{202e}gpj");
        check("a\u{200b}b\u{2066}c\u{2028}", "a\\u{200b}b\\u{2066}c\\u{2028}");
        check("\u{e0041}", "\\u{e0041}");
    }

    #[test]
    fn broken_utf8_is_kept_as_far_as_it_goes() {
        assert_eq!(lossy(b"ab\xff\xfec"), "ab\u{fffd}\u{fffd}c");
    }

    proptest::proptest! {
        #[test]
        fn nothing_unprintable_is_left(text in ".*") {
            proptest::prop_assert!(!printable(&text).contains(is_unprintable));
        }
    }

    #[test]
    fn json_is_escaped_throughout() {
        let mut value = serde_json::json!({"a\n": ["\x1b", 1, {"b": "\r"}]});
        escape_json(&mut value);
        assert_eq!(value, serde_json::json!({"a\\n": ["\\x1b", 1, {"b": "\\r"}]}));
    }
}
