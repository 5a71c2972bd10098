//! What the server does not keep of a node, as validateNodeTaints has it (pkg/apis/core/validation).

use std::collections::BTreeSet;

use serde_json::Value;

const LABEL_MAX: usize = 63;
const DOMAIN_MAX: usize = 253;

/// What is wrong with its taints.
pub(super) fn wrong_taints(node: &Value) -> Option<String> {
    let taints = node["spec"]["taints"].as_array()?;
    let mut seen = BTreeSet::new();
    taints.iter().enumerate().find_map(|(at, taint)| {
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        let wrong = if !is_qualified(key) {
            format!("key: Invalid value: {key:?}: must be a qualified name")
        } else if !(value.is_empty() || is_name(value)) {
            format!("value: Invalid value: {value:?}: a valid label must be no more than 63 characters")
        } else if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            format!("effect: Unsupported value: {effect:?}")
        } else if !seen.insert((key, effect)) {
            format!("Duplicate value: {key:?}: taints must be unique by key and effect pair")
        } else {
            return None;
        };
        Some(format!("metadata.taints[{at}].{wrong}"))
    })
}

fn text<'a>(taint: &'a Value, key: &str) -> &'a str {
    taint[key].as_str().unwrap_or_default()
}

/// IsQualifiedName
fn is_qualified(key: &str) -> bool {
    let (domain, name) = key.split_once('/').unwrap_or(("x", key));
    domain.len() <= DOMAIN_MAX && domain.split('.').all(is_label) && is_name(name)
}

/// A part of a DNS name (RFC 1123).
fn is_label(part: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    part.bytes().all(is_inside) && is_name(part)
}

fn is_name(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_MAX
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}
