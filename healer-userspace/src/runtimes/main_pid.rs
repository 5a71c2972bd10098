//! A pid in an owner's own pid namespace, and the process here that it means.

use std::path::Path;

use crate::identity::procfs::{self, ProcDir};

/// The process that is `pid` in its innermost pid namespace and runs in the cgroup `group` or below; `None` if it is
/// gone, or has not yet become the program it was forked for.
pub(super) fn here(proc: &Path, pid: u32, group: &str) -> Option<u32> {
    if pid == 0 || group.len() < 2 {
        return None;
    }
    let is_it = |candidate: u32| is_it(proc, candidate, pid, group).unwrap_or(false);
    if is_it(pid) {
        return Some(pid);
    }
    procfs::pids(proc).find(|candidate| is_it(*candidate))
}

fn is_it(proc: &Path, candidate: u32, pid: u32, group: &str) -> Option<bool> {
    let dir = ProcDir::open(proc, candidate)?;
    let status = dir.status()?;
    // A kernel without pid namespaces has no `NSpid:` (proc_pid_status(5)).
    if *status.ns_pids.last().unwrap_or(&status.tgid) != pid {
        return Some(false);
    }
    let stat = dir.stat()?;
    let membership = dir.cgroup()?;
    let paths = [&membership.v2, &membership.systemd];
    let is_there = paths.into_iter().flatten().any(|path| lies_in(path, group));
    // systemd names a child "(program)" between fork and exec (rename_process, src/basic/process-util.c).
    Some(is_there && !stat.is_over() && !stat.comm.starts_with('('))
}

/// Owners in a cgroup namespace see only the end of a path.
pub(super) fn lies_in(path: &str, group: &str) -> bool {
    path.ends_with(group) || path.contains(&format!("{group}/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::{Fake, Tree};

    #[test]
    fn a_pid_of_another_namespace_is_found_by_its_cgroup() {
        let tree = Tree::new();
        let group = "/system.slice/web.service";
        let payload = "/payload/system.slice/web.service";
        tree.process(&Fake::new(45, "sshd").in_cgroup("/system.slice/ssh.service"));
        tree.process(&Fake::new(900, "web").inside(" 45").in_cgroup(payload));
        tree.process(&Fake::new(901, "(web)").inside(" 46").in_cgroup(payload));
        tree.process(&Fake::new(902, "web").in_cgroup("/system.slice/web.service/worker"));
        let proc = tree.root().join("proc");
        assert_eq!(here(&proc, 45, group), Some(900));
        assert_eq!(here(&proc, 46, group), None, "it is still systemd");
        assert_eq!(here(&proc, 902, group), Some(902));
        assert_eq!(here(&proc, 0, group), None);
        assert_eq!(here(&proc, 45, ""), None);
    }
}
