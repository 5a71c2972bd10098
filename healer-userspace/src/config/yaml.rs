//! JSON as YAML that a person reads: block style, keys in order, quotes where they are needed.

use core::fmt::Write as _;

use serde_json::Value;

const STEP: usize = 2;
/// Words that YAML 1.1 or 1.2 take for something else.
const WORDS: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

pub fn text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                entry(&format!("{}:", scalar(key)), inner, indent, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let start = out.len();
                block(item, indent + STEP, out);
                out.replace_range(start + indent..start + indent + 1, "-");
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => line(indent, &inline(value), out),
    }
}

fn entry(key: &str, inner: &Value, indent: usize, out: &mut String) {
    if is_nested(inner) {
        line(indent, key, out);
        block(inner, indent + STEP, out);
    } else {
        line(indent, &format!("{key} {}", inline(inner)), out);
    }
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn inline(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), scalar)
}

/// A JSON string is a YAML string in double quotes.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        && !WORDS.contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

fn line(indent: usize, text: &str, out: &mut String) {
    let written = writeln!(out, "{:indent$}{text}", "");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "a": {"b": [1, {"c": "yes", "d": []}, ["x", "-"], "30s", "# no comment"], "e": {}},
            "annotation/with.dots": "two\nlines: \"quoted\" \u{1b}", "f": null, "g": -1.5, "n": true,
        });
        let text = text(&value);
        let back: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(back, value, "{text}");
    }

    #[test]
    fn it_reads_well() {
        let value = json!({"spec": {"rules": [{"name": "r", "when": [{"class": "down"}]}]}});
        let expected = "spec:\n  rules:\n    - name: r\n      when:\n        - class: down\n";
        assert_eq!(text(&value), expected);
    }
}
