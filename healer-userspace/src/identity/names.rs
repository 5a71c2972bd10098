//! Names that do not stand in a cgroup path: from `healer supervise`, systemd and runtimes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    lru::Lru,
    place::place_of,
    process::{Container, Pod, ProcessId, WorkloadKey},
    process_table::Entry,
};

const CONTAINERS_KEPT: usize = 4096;

/// Who supervises whom, who is a main process, and what runtimes call their containers.
pub(crate) struct Names {
    supervised: BTreeMap<ProcessId, String>,
    mains: BTreeSet<ProcessId>,
    containers: Lru<String, (Container, Option<Pod>)>,
    /// By the pod's uid: who makes it again.
    controllers: Lru<String, String>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            supervised: BTreeMap::new(),
            mains: BTreeSet::new(),
            containers: Lru::new(CONTAINERS_KEPT),
            controllers: Lru::new(CONTAINERS_KEPT),
        }
    }

    /// A name has one process: the last one that it was given to.
    pub(crate) fn supervise(&mut self, id: ProcessId, name: &str) {
        self.supervised.retain(|_, other| other != name);
        self.supervised.insert(id, name.to_owned());
    }

    pub(crate) fn release(&mut self, id: ProcessId) {
        self.supervised.remove(&id);
    }

    pub(crate) fn set_main(&mut self, id: ProcessId) {
        self.mains.insert(id);
    }

    pub(crate) fn forget_main(&mut self, id: ProcessId) {
        self.mains.remove(&id);
    }

    /// An event tells less than a look, and Docker less of a pod than the kubelet's own runtime.
    pub(crate) fn describe(&mut self, mut container: Container, mut pod: Option<Pod>) {
        if let Some((known, its)) = self.container(&container.id) {
            container.log_file = container.log_file.take().or_else(|| known.log_file.clone());
            if tells_less(pod.as_ref(), its.as_ref()) {
                pod.clone_from(its);
            }
        }
        if let Some(pod) = &mut pod {
            pod.controller = self.controllers.get(&pod.uid).cloned();
        }
        self.containers.insert(container.id.clone(), (container, pod));
    }

    /// Whose pod no runtime has described yet has it once one does.
    pub(crate) fn control(&mut self, uid: &str, controller: &str) {
        let pods = self.containers.values_mut().filter_map(|(_, pod)| pod.as_mut());
        for pod in pods.filter(|pod| pod.uid == uid) {
            pod.controller = Some(controller.to_owned());
        }
        self.controllers.insert(uid.to_owned(), controller.to_owned());
    }

    pub(crate) fn container(&self, id: &str) -> Option<&(Container, Option<Pod>)> {
        self.containers.peek(&id.to_owned())
    }

    /// Works out place, main and workload from the cgroup path and all names known by now.
    pub(crate) fn assign(&self, entry: &mut Entry) {
        let id = entry.process.id();
        let own_name = self.supervised.get(&id);
        let mut place = place_of(&entry.process.cgroup);
        place.supervise = own_name.or(entry.inherited.as_ref()).cloned();
        if let Some(container) = &mut place.container
            && let Some((known, pod)) = self.containers.peek(&container.id)
        {
            let by_path = core::mem::take(&mut container.runtime);
            container.clone_from(known);
            if known.runtime == "docker" && by_path != "unknown" {
                // Its API has others' containers, too: podman's.
                container.runtime = by_path;
            }
            place.pod = pod.clone().or(place.pod);
        }
        let is_container_init = place.container.as_ref().is_some_and(|inside| entry.is_first_in(inside));
        let process = &mut entry.process;
        process.main = own_name.is_some() || self.mains.contains(&id) || is_container_init;
        let program = process.exe.as_deref().unwrap_or(&process.comm);
        process.workload = WorkloadKey::of(&place, program, &process.cgroup, &entry.parent_label);
        process.place = place;
    }
}

fn tells_less(pod: Option<&Pod>, known: Option<&Pod>) -> bool {
    match (pod, known) {
        (None, Some(_)) => true,
        (Some(pod), Some(known)) => {
            pod.uid == known.uid && pod.labels.is_empty() && pod.annotations.is_empty()
        }
        (Some(_) | None, None) => false,
    }
}
