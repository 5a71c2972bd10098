//! RFC 7386, and as much of server-side apply as lists with a key need.

use serde_json::Value;

pub(super) fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(serde_json::Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(object) = into.as_object_mut() {
                object.remove(key);
            }
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}

/// What the manager applied before and leaves out now goes; what it applies now is set.
pub(super) fn apply(into: &mut Value, before: Option<&Value>, now: &Value) {
    for (key, value) in now.as_object().into_iter().flatten() {
        let before = before.map(|before| &before[key.as_str()]);
        match value {
            Value::Array(items) => list(&mut into[key.as_str()], before, items),
            Value::Object(_) => apply(&mut into[key.as_str()], before, value),
            plain => into[key.as_str()] = plain.clone(),
        }
    }
}

fn list(into: &mut Value, before: Option<&Value>, items: &[Value]) {
    let mut kept = into.as_array().cloned().unwrap_or_default();
    let is = |one: &Value, other: &Value| name(one) == name(other);
    let had = before.and_then(Value::as_array).cloned().unwrap_or_default();
    kept.retain(|one| !had.iter().chain(items).any(|other| is(one, other)));
    kept.extend(items.iter().cloned());
    *into = Value::Array(kept);
}

/// `listMapKeys` of conditions and of a policy's status.
fn name(item: &Value) -> &Value {
    item.get("type").unwrap_or(&item["node"])
}
