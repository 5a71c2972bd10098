use super::*;
use crate::identity::{fixture::Tree, process::Process};

/// A process with one socket, as /proc shows it; its network namespace is a file that nobody can enter.
fn closed_namespace() -> Tree {
    let tree = Tree::new();
    tree.file("proc/7/ns/net", "");
    tree.file("proc/7/task/7/children", "");
    tree.file("proc/7/fd/none", "");
    std::os::unix::fs::symlink("socket:[5]", tree.root().join("proc/7/fd/3")).unwrap();
    tree
}

fn watched(pid: u32) -> Watched {
    Watched { process: Process { pid, ..Process::default() }, asked: false }
}

#[test]
fn a_namespace_that_cannot_be_seen_is_trouble_and_not_idleness() {
    let tree = closed_namespace();
    let mut namespaces = Namespaces::new(&tree.roots().proc);
    let sockets = namespaces.look(BootTime(1), &[watched(7)]);
    assert!(sockets.waiting.is_empty());
    assert!(sockets.trouble[&7].contains("os error"), "{:?}", sockets.trouble);
}

#[test]
fn a_failed_dump_is_told_and_the_next_begins_anew() {
    let mut namespaces = Namespaces::new(Path::new("/proc"));
    let pid = std::process::id();
    let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(namespaces.look(BootTime(1), &[watched(pid)]).trouble.is_empty());
    let second = BootTime(1) + PAUSE_MAX;
    namespaces.by_inode.values_mut().for_each(|namespace| namespace.diag = Some(SockDiag::broken()));
    assert!(namespaces.look(second, &[watched(pid)]).trouble.contains_key(&pid));
    let third = second + PAUSE_MAX;
    assert!(namespaces.look(third, &[watched(pid)]).trouble.is_empty());
}
