//! RFC 7386, and as much of server-side apply as lists with a key need.

use serde_json::Value;

use super::store::Store;

impl Store {
    /// An error in the server's words, if what others have applied is to be otherwise and nothing forces it.
    pub(super) fn apply(
        &mut self,
        path: &str,
        manager: &str,
        now: &Value,
        is_forced: bool,
    ) -> Result<Value, String> {
        let others = self.applied.iter_mut().filter(|((of, by), _)| of == path && by != manager);
        for ((_, other), theirs) in others {
            let both = contested(theirs, now, "");
            match both.as_slice() {
                [] => {}
                _fields if is_forced => give_up(theirs, now),
                fields => {
                    let (count, fields) = (fields.len(), fields.join(", "));
                    return Err(format!(
                        "Apply failed with {count} conflicts: conflicts with {other:?}: {fields}"
                    ));
                }
            }
        }
        let mut object = self.get(path).unwrap_or_default();
        let before = self.applied.insert((path.to_owned(), manager.to_owned()), now.clone());
        apply(&mut object, before.as_ref(), now);
        Ok(self.put(path, object, manager))
    }
}

/// The fields that both set, and not alike.
fn contested(theirs: &Value, now: &Value, at: &str) -> Vec<String> {
    match (theirs, now) {
        (Value::Object(theirs), Value::Object(now)) => {
            let both = now.iter().filter_map(|(key, value)| Some((key, theirs.get(key)?, value)));
            both.flat_map(|(key, theirs, value)| contested(theirs, value, &format!("{at}.{key}"))).collect()
        }
        (Value::Array(theirs), Value::Array(now)) => {
            let of = |item: &Value| theirs.iter().find(|other| name(other) == name(item));
            let both = now.iter().filter_map(|item| Some((of(item)?, item)));
            both.flat_map(|(theirs, item)| contested(theirs, item, &format!("{at}[{}]", name(item))))
                .collect()
        }
        (theirs, now) if theirs == now => Vec::new(),
        _differ => vec![at.to_owned()],
    }
}

/// Who is overruled owns it no more.
fn give_up(theirs: &mut Value, now: &Value) {
    match (theirs, now) {
        (Value::Object(theirs), Value::Object(now)) => {
            for (key, value) in now {
                if let Some(theirs) = theirs.get_mut(key) {
                    give_up(theirs, value);
                }
            }
        }
        (Value::Array(theirs), Value::Array(now)) => {
            theirs.retain(|one| !now.iter().any(|other| name(one) == name(other)));
        }
        _plain => {}
    }
}

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
fn apply(into: &mut Value, before: Option<&Value>, now: &Value) {
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
