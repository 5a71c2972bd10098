//! Objects by path, with versions, managers of fields and a list of everything that was asked.

use std::collections::{BTreeMap, VecDeque};

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
}

pub(super) struct Store {
    pub(super) granted: Granted,
    pub(super) asked: Vec<Asked>,
    pub(super) refusals: VecDeque<Refusal>,
    pub(super) disturbances: u32,
    pub(super) hangs: bool,
    objects: BTreeMap<String, Value>,
    /// What each manager has applied, by path.
    pub(super) applied: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Store {
    pub(super) fn new(granted: Granted) -> Self {
        Self {
            granted,
            asked: Vec::new(),
            refusals: VecDeque::new(),
            disturbances: 0,
            hangs: false,
            objects: BTreeMap::new(),
            applied: BTreeMap::new(),
            version: 1,
        }
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.objects.get(path).cloned()
    }

    pub(super) fn below(&self, collection: &str) -> Vec<Value> {
        let inside = format!("{collection}/");
        self.objects
            .iter()
            .filter(|(path, _)| path.starts_with(&inside))
            .map(|(_, one)| one.clone())
            .collect()
    }

    /// Whoever changes `unschedulable` manages it.
    pub(super) fn put(&mut self, path: &str, mut object: Value, manager: &str) -> Value {
        self.version += 1;
        let before = self.objects.get(path).map(|before| before["spec"]["unschedulable"].clone());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if before.unwrap_or_default() != object["spec"]["unschedulable"] {
            let fields = json!({"f:spec": {"f:unschedulable": {}}});
            object["metadata"]["managedFields"] = json!([{"manager": manager, "fieldsV1": fields}]);
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}
