//! Objects by path, with versions, managers of fields and a list of everything that was asked.

use std::collections::{BTreeMap, VecDeque};

use axum::http::HeaderValue;
use healer_userspace::engine::time::BootTime;
use serde_json::{Value, json};

use super::{Granted, Refusal};

/// One question.
#[derive(Clone, Debug)]
pub struct Asked {
    pub verb: String,
    /// With its subresource.
    pub resource: String,
    pub path: String,
    pub code: u16,
    pub at: BootTime,
}

pub(super) struct Store {
    pub(super) granted: Granted,
    /// None: whoever comes this far has shown a certificate.
    pub(super) token: Option<String>,
    pub(super) asked: Vec<Asked>,
    pub(super) refusals: VecDeque<Refusal>,
    pub(super) disturbances: u32,
    /// By verb and resource: how many, and the seconds of a 429.
    pub(super) overloads: BTreeMap<(String, String), (u32, Option<u32>)>,
    pub(super) hangs: bool,
    /// How often all watches were ended.
    pub(super) ends: u32,
    objects: BTreeMap<String, Value>,
    /// What each manager has applied and owns, by path.
    pub(super) applied: BTreeMap<(String, String), Value>,
    version: u64,
    /// Version, path, and the event of a watch.
    history: Vec<(u64, String, Value)>,
    /// Older versions are forgotten.
    compacted: u64,
}

impl Store {
    pub(super) fn new(granted: Granted, token: Option<&str>) -> Self {
        Self {
            granted,
            token: token.map(str::to_owned),
            asked: Vec::new(),
            refusals: VecDeque::new(),
            disturbances: 0,
            overloads: BTreeMap::new(),
            hangs: false,
            ends: 0,
            objects: BTreeMap::new(),
            applied: BTreeMap::new(),
            version: 1,
            history: Vec::new(),
            compacted: 0,
        }
    }

    pub(super) fn knows(&self, shown: Option<&HeaderValue>) -> bool {
        let is_it = |token: &String| shown.is_some_and(|value| value == &format!("Bearer {token}"));
        self.token.as_ref().is_none_or(is_it)
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.objects.get(path).cloned()
    }

    pub(super) fn below(&self, collection: &str) -> Vec<Value> {
        let below = self.objects.iter().filter(|(path, _)| is_below(path, collection));
        below.map(|(_, one)| one.clone()).collect()
    }

    /// Whoever changes `unschedulable` manages it.
    pub(super) fn put(&mut self, path: &str, mut object: Value, manager: &str) -> Value {
        self.version += 1;
        let before = self.objects.get(path).map(|before| before["spec"]["unschedulable"].clone());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let old = self.objects.get(path);
        let is_news = old.is_none_or(|old| old["spec"] != object["spec"]);
        let generation = old.and_then(|old| old["metadata"]["generation"].as_u64()).unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + u64::from(is_news));
        let kind = if old.is_none() { "ADDED" } else { "MODIFIED" };
        if before.unwrap_or_default() != object["spec"]["unschedulable"] {
            let fields = json!({"f:spec": {"f:unschedulable": {}}});
            object["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": fields}]);
        }
        self.objects.insert(path.to_owned(), object.clone());
        self.history.push((self.version, path.to_owned(), json!({"type": kind, "object": object})));
        object
    }

    pub(super) fn remove(&mut self, path: &str) {
        if let Some(object) = self.objects.remove(path) {
            self.version += 1;
            self.history.push((self.version, path.to_owned(), json!({"type": "DELETED", "object": object})));
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
    }

    /// What a watch tells after `version`: None if that is forgotten.
    pub(super) fn since(&self, version: u64, collection: &str) -> Option<Vec<Value>> {
        if version < self.compacted {
            return None;
        }
        let later = self.history.iter().filter(|(at, path, _)| version < *at && is_below(path, collection));
        Some(later.map(|(_, _, event)| event.clone()).collect())
    }
}

/// `/api/v1/pods` has those of all namespaces.
fn is_below(path: &str, collection: &str) -> bool {
    let inside = format!("{collection}/");
    let of_all = path.split_once("/namespaces/").and_then(|(root, rest)| {
        let (_namespace, rest) = rest.split_once('/')?;
        Some(format!("{root}/{rest}"))
    });
    path.starts_with(&inside) || of_all.is_some_and(|path| path.starts_with(&inside))
}
