//! Whoever only passes connections on serves nobody: the other end of a published port is a container's.

use crate::identity::process::Process;

/// Of Docker, of rootless containers, of Kubernetes.
const FORWARDERS: [&str; 8] =
    ["docker-proxy", "rootlesskit", "rootlessport", "slirp4netns", "passt", "pasta", "gvproxy", "kube-proxy"];

pub(super) fn forwards(process: &Process) -> bool {
    let name = process.exe.as_deref().and_then(|path| path.rsplit('/').next());
    FORWARDERS.contains(&name.unwrap_or(&process.comm))
}
