use super::*;
use crate::identity::fixture;

const MIB: u64 = 1 << 20;

fn cgroup(tree: &fixture::Tree, path: &str, usage: u64, limit: u64, anon: u64) {
    let at = |name: &str| format!("cgroup/{path}/{name}");
    tree.file(&at("memory.current"), &format!("{usage}\n"));
    tree.file(&at("memory.max"), &if limit == 0 { "max\n".to_owned() } else { format!("{limit}\n") });
    tree.file(
        &at("memory.stat"),
        &format!("anon {anon}\nshmem 0\npgmajfault 5\nworkingset_refault_file 7\n"),
    );
    tree.file(&at("memory.events"), "low 0\nhigh 0\nmax 3\noom 0\n");
    tree.file(&at("memory.pressure"), "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull total=0\n");
    tree.file(&at("cgroup.procs"), "");
}

fn seconds(count: u64) -> BootTime {
    BootTime(count * 1_000_000_000)
}

#[test]
fn memory_that_is_taken_for_good_arms_the_sensor_of_errors() {
    let of = |anon| {
        let cgroup =
            CgroupMemory { cgroup: "/web".into(), anon, usage: 100, limit: 100, ..CgroupMemory::default() };
        armed_by(&MemorySnapshot { cgroups: vec![cgroup], node: None })
    };
    assert_eq!(of(86).as_deref(), Some("memory of /web used to 86 %"));
    assert_eq!(of(40), None, "the rest is page cache");
}

#[test]
fn only_cgroups_near_their_limit_are_told() {
    let tree = fixture::Tree::new();
    cgroup(&tree, "roomy", 10 * MIB, 100 * MIB, 10 * MIB);
    cgroup(&tree, "free", 900 * MIB, 0, 900 * MIB);
    cgroup(&tree, "pod/tight", 80 * MIB, 100 * MIB, 75 * MIB);
    let roots = tree.roots();
    let mut poller = MemoryPoller::new(&roots.proc, &roots.cgroup, None);
    assert!(poller.look(seconds(1)).cgroups.is_empty(), "nothing to compare with");
    assert_eq!(poller.counts(), (2, 0));
    cgroup(&tree, "pod/tight", 82 * MIB, 100 * MIB, 77 * MIB);
    let told = poller.look(seconds(2)).cgroups;
    let [tight] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((tight.cgroup.as_str(), tight.over_ms), ("/pod/tight", 1000));
    assert_eq!((tight.usage, tight.anon, tight.limit), (82 * MIB, 77 * MIB, 100 * MIB));
    assert_eq!((tight.pressed_ms, tight.major_faults, tight.hits), (Some(0), 0, 0));
    assert_eq!(poller.due(), seconds(2) + NEAR);
    cgroup(&tree, "pod/tight", 10 * MIB, 100 * MIB, 5 * MIB);
    let told: Vec<_> = (3..9).map(|second| poller.look(seconds(second)).cgroups.len()).collect();
    assert_eq!(told, [1, 1, 1, 1, 0, 0], "that there is room again is told, too");
}

#[test]
fn a_new_cgroup_and_a_new_limit_are_seen_without_a_walk() {
    let tree = fixture::Tree::new();
    cgroup(&tree, "first", 10 * MIB, 0, 0);
    let roots = tree.roots();
    let mut poller = MemoryPoller::new(&roots.proc, &roots.cgroup, None);
    poller.look(seconds(1));
    assert_eq!(poller.counts(), (0, 0));
    cgroup(&tree, "later/inner", 10 * MIB, 100 * MIB, 0);
    cgroup(&tree, "first", 10 * MIB, 50 * MIB, 0);
    poller.look(seconds(2));
    assert_eq!(poller.counts(), (2, 0));
    std::fs::remove_dir_all(roots.cgroup.join("later")).unwrap();
    poller.look(seconds(3));
    assert_eq!(poller.counts(), (1, 0));
}

#[test]
fn both_versions_of_memory_stat_are_read() {
    let v1 = "cache 9\nrss 1\nshmem 2\npgmajfault 1\ntotal_cache 9\ntotal_rss 10\ntotal_shmem 4\ntotal_pgmajfault 6\n\
              total_workingset_refault_file 8\n";
    let v2 = "anon 10\nfile 9\nshmem 4\npgmajfault 6\nworkingset_refault_file 8\n";
    let expected = group::MemoryStat { anon: 10, shmem: 4, major_faults: 6, refaults: 8 };
    assert_eq!(group::MemoryStat::parse(v1), expected);
    assert_eq!(group::MemoryStat::parse(v2), expected);
}
