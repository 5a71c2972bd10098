//! Untrusted text, made harmless for terminals, logs and labels.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::Value;

/// Control characters (C0, DEL, C1) and invisible direction marks become `\n`, `\u{1b}` and the like.
///
/// A name could otherwise move the cursor, forge a second log line, or hide its own end.
pub fn printable(text: &str) -> String {
    escape(text).into_owned()
}

/// [`printable`] without a copy where there is nothing to escape.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hostile if is_hostile(hostile) => push_code_point(&mut out, hostile),
            harmless => out.push(harmless),
        }
    }
    Cow::Owned(out)
}

fn push_code_point(out: &mut String, char: char) {
    let written = write!(out, "\\u{{{:x}}}", u32::from(char));
    debug_assert!(written.is_ok(), "writing to a string does not fail");
}

fn is_hostile(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Escapes every string inside `value`, keys too.
pub fn escape_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(escaped) = escape(text) {
                *text = escaped;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(escape_json),
        Value::Object(fields) => {
            let all = std::mem::take(fields);
            fields.extend(all.into_iter().map(|(key, mut value)| {
                escape_json(&mut value);
                (escape(&key).into_owned(), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_reach_the_terminal() {
        assert_eq!(
            escape("\x1b[2Jx\ny\x7f\u{9b}"),
            "\\u{1b}[2Jx\\ny\\u{7f}\\u{9b}"
        );
        assert_eq!(escape("a\u{202e}b\u{200b}"), "a\\u{202e}b\\u{200b}");
    }

    #[test]
    fn a_plain_name_is_not_copied() {
        assert!(matches!(
            escape("nginx: worker \\ é 日本"),
            Cow::Borrowed(_)
        ));
    }

    #[test]
    fn json_is_escaped_throughout() {
        let mut value = serde_json::json!({"a\n": ["\x1b", 1, {"b": "\r"}]});
        escape_json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a\\n": ["\\u{1b}", 1, {"b": "\\r"}]})
        );
    }
}
