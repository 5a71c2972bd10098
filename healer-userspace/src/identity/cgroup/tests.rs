use std::time::Duration;

use super::*;
use crate::identity::fixture::Tree;

const NOW: BootTime = BootTime(5_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn path(lines: &str) -> (Option<Hierarchy>, String) {
    let membership = Membership::parse(lines.as_bytes());
    let (hierarchy, path) = membership.path();
    (hierarchy, path.to_owned())
}

#[test]
fn the_unified_line_comes_first() {
    let docker = format!("/docker/{}", "ab".repeat(32));
    let hybrid = format!("9:name=systemd:{docker}\n4:memory:/else\n0::{docker}\n");
    assert_eq!(path(&hybrid), (Some(Hierarchy::V2), docker));
    let nspawn = "4:memory:/caller\n0::/payload/init.scope\n";
    assert_eq!(path(nspawn), (Some(Hierarchy::V2), "/payload/init.scope".into()));
}

#[test]
fn from_the_unified_root_the_v1_lines_count() {
    let memory = "9:name=systemd:/\n4:memory:/process_api/31\n0::/\n";
    assert_eq!(path(memory), (Some(Hierarchy::V1Memory), "/process_api/31".into()));
    let systemd = "1:name=systemd:/system.slice/web.service\n4:memory:/\n0::/\n";
    assert_eq!(path(systemd), (None, "/system.slice/web.service".into()));
    assert_eq!(path("4:cpu,memory:/a\n"), (Some(Hierarchy::V1Memory), "/a".into()));
    assert_eq!(path("0::/\n"), (Some(Hierarchy::V2), "/".into()));
    assert_eq!(path(""), (Some(Hierarchy::V1Memory), "/".into()));
}

#[test]
fn marks_of_the_kernel_are_no_part_of_the_path() {
    assert_eq!(path("0::/a/b (deleted)\n").1, "/a/b");
    assert_eq!(path("0::/../../a\n").1, "/a");
    assert_eq!(path("0::/..\n").1, "/");
    assert_eq!(path("0::/..a\n").1, "/..a");
    assert_eq!(
        path("0::/kubepods-podx.slice:cri-containerd:id\n").1,
        "/kubepods-podx.slice:cri-containerd:id"
    );
}

#[test]
fn ids_of_each_layout_lead_to_paths() {
    for (layout, tree) in [("v2", Tree::new()), ("hybrid", Tree::hybrid())] {
        let mut cgroups = Cgroups::new(&tree.roots().cgroup);
        let id = tree.cgroup("/system.slice/web.service");
        let cgroup = CgroupId { hierarchy: Hierarchy::V2, id };
        assert_eq!(cgroups.known(cgroup), None);
        let path = cgroups.find(cgroup, NOW);
        assert_eq!(path.as_deref(), Some("/system.slice/web.service"), "{layout}");
    }
}

#[test]
fn memory_means_v1_where_it_is_mounted() {
    let tree = Tree::hybrid();
    let id = tree.memory_cgroup("/box/inner");
    let mut cgroups = Cgroups::new(&tree.roots().cgroup);
    for hierarchy in [Hierarchy::V1Memory, Hierarchy::Memory] {
        let path = cgroups.find(CgroupId { hierarchy, id }, NOW);
        assert_eq!(path.as_deref(), Some("/box/inner"));
    }
    let pure = Tree::new();
    let id = pure.cgroup("/box");
    let mut cgroups = Cgroups::new(&pure.roots().cgroup);
    assert_eq!(cgroups.id(Hierarchy::Memory, "/box"), id);
    assert_eq!(cgroups.id(Hierarchy::V1Memory, "/box"), 0);
}

#[test]
fn a_removed_cgroup_keeps_its_name() {
    let tree = Tree::new();
    let id = tree.cgroup("/short");
    let mut cgroups = Cgroups::new(&tree.roots().cgroup);
    cgroups.walk(NOW);
    std::fs::remove_dir(tree.roots().cgroup.join("short")).unwrap();
    cgroups.walk(NOW + SECOND);
    let cgroup = CgroupId { hierarchy: Hierarchy::V2, id };
    assert_eq!(cgroups.known(cgroup).as_deref(), Some("/short"));
}

#[test]
fn a_cgroup_that_is_younger_than_the_last_walk_is_found_at_once() {
    let tree = Tree::new();
    let mut cgroups = Cgroups::new(&tree.roots().cgroup);
    cgroups.walk(NOW);
    let late = CgroupId { hierarchy: Hierarchy::V2, id: tree.cgroup("/late") };
    assert_eq!(cgroups.find(late, NOW).as_deref(), Some("/late"));
}

#[test]
fn whom_a_walk_did_not_find_is_not_looked_for_again() {
    let tree = Tree::new();
    let mut cgroups = Cgroups::new(&tree.roots().cgroup);
    let removed = CgroupId { hierarchy: Hierarchy::V2, id: u64::MAX };
    assert_eq!(cgroups.find(removed, NOW), None);
    let late = CgroupId { hierarchy: Hierarchy::V2, id: tree.cgroup("/late") };
    assert_eq!(cgroups.find(removed, NOW + SECOND), None);
    assert_eq!(cgroups.known(late), None, "nothing was walked for it");
}

#[test]
fn of_more_than_are_kept_the_one_that_is_asked_for_is_found() {
    let tree = Tree::new();
    let mut cgroups = Cgroups::new(&tree.roots().cgroup);
    cgroups.known = Lru::new(2);
    let ids = [0, 1, 2, 3, 4].map(|at| tree.cgroup(&format!("/many{at}")));
    for (at, id) in ids.into_iter().enumerate() {
        let second = u32::try_from(at).unwrap();
        let path = cgroups.find(CgroupId { hierarchy: Hierarchy::V2, id }, NOW + SECOND * second);
        assert_eq!(path, Some(format!("/many{at}")));
    }
}

#[test]
fn our_own_cgroup_is_found_in_the_real_tree() {
    let bytes = std::fs::read("/proc/self/cgroup").unwrap();
    let membership = Membership::parse(&bytes);
    let (Some(hierarchy), path) = membership.path() else {
        return;
    };
    let mut cgroups = Cgroups::new(Path::new("/sys/fs/cgroup"));
    let id = cgroups.id(hierarchy, path);
    if id != 0 {
        assert_eq!(cgroups.known(CgroupId { hierarchy, id }).as_deref(), Some(path));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(0..=255u8, 0..300)) {
        let _path = Membership::parse(&bytes).path();
    }

    #[test]
    fn no_lines_make_the_parser_panic(text in "([0-9]:(memory|name=systemd|)?:?(/|\\.|[a-z]){0,9}\n){0,5}") {
        let _path = Membership::parse(text.as_bytes()).path();
    }
}

#[test]
fn a_cgroup_is_in_itself_and_not_in_one_that_begins_like_it() {
    assert!(is_below("/a", "/a") && is_below("/a/b", "/a") && is_below("/a", "/") && is_below("/", "/"));
    assert!(!is_below("/ab", "/a") && !is_below("/a", "/a/b") && !is_below("/", "/a"));
}

#[test]
fn whoever_has_a_limit_is_told_the_nearest_first() {
    let limits = |tree: &Tree| Cgroups::new(&tree.roots().cgroup).limited("/box/app");
    let tree = Tree::new();
    tree.file("cgroup/box/memory.max", "4096\n");
    tree.file("cgroup/box/app/memory.max", "max\n");
    assert_eq!(limits(&tree), [("/box".to_owned(), 4096)]);
    let hybrid = Tree::hybrid();
    hybrid.file("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    hybrid.file("cgroup/memory/box/memory.limit_in_bytes", "4096\n");
    hybrid.file("cgroup/memory/box/app/memory.limit_in_bytes", "2048\n");
    assert_eq!(limits(&hybrid), [("/box/app".to_owned(), 2048), ("/box".to_owned(), 4096)]);
}
