//! A process in the audit.

use serde::Serialize;

use crate::{
    identity::process::{Parent, Process},
    store::row::Stamp,
};

#[derive(Serialize)]
pub(super) struct Target<'a> {
    pid: u32,
    start_boot_ns: u64,
    boot_id: &'a str,
    comm: &'a str,
    exe: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    args: &'a [String],
    uid: u32,
    cgroup: &'a str,
    cgroup_id: u64,
    workload: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supervise: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodView<'a>>,
}

pub(super) fn target<'a>(who: &'a Process, stamp: &'a Stamp) -> Target<'a> {
    Target {
        pid: who.pid,
        start_boot_ns: who.start.0,
        boot_id: &stamp.boot_id,
        comm: &who.comm,
        exe: who.exe.as_deref(),
        args: &who.args,
        uid: who.uid,
        cgroup: &who.cgroup,
        cgroup_id: who.cgroup_id,
        workload: &who.workload.0,
        parent: who.parent.as_ref().map(parent),
        supervise: who.place.supervise.as_deref(),
        unit: who.place.unit.as_deref(),
        container: who.place.container.as_ref().map(|it| ContainerView {
            runtime: &it.runtime,
            id: &it.id,
            name: &it.name,
            image: &it.image,
        }),
        pod: who.place.pod.as_ref().map(|it| PodView {
            namespace: &it.namespace,
            name: &it.name,
            uid: &it.uid,
            owner: it.owner(),
        }),
    }
}

#[derive(Serialize)]
struct ParentView<'a> {
    pid: u32,
    start_boot_ns: u64,
    comm: &'a str,
    exe: Option<&'a str>,
}

fn parent(it: &Parent) -> ParentView<'_> {
    ParentView { pid: it.pid, start_boot_ns: it.start.0, comm: &it.comm, exe: it.exe.as_deref() }
}

#[derive(Serialize)]
struct ContainerView<'a> {
    runtime: &'a str,
    id: &'a str,
    name: &'a str,
    image: &'a str,
}

#[derive(Serialize)]
struct PodView<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    /// `Deployment/web`
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}
