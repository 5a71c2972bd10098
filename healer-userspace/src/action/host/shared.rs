//! Who else lives in a group that is to be turned down because of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use super::{Domain, scope};
use crate::identity::process::{Place, Process};

/// Up from a process: nobody is started by longer chains, and a list that changes while it is read may hold a ring.
const ANCESTORS_MAX: usize = 64;

struct Member {
    parent: u32,
    exe: Option<PathBuf>,
}

/// Why less for that group would be less for others too.
pub(super) fn by_others(dir: &str, target: &Process) -> Option<String> {
    if is_named_for_it(dir, &target.place) {
        return None;
    }
    let domain = Domain::Cgroup { path: dir.to_owned(), dir: dir.into() };
    let pids = match scope::pids(&domain) {
        Ok(pids) => pids,
        Err(error) => return Some(format!("cannot tell who is in {domain}: {error}")),
    };
    let members = pids.into_iter().filter_map(|pid| Some((pid, member(pid)?))).collect();
    let stranger = stranger(&members, target.pid)?;
    Some(format!("in {domain} lives pid {stranger} too, which is none of it: it would be held back as well"))
}

/// All that lives in a unit's or a container's own group is that unit or container.
fn is_named_for_it(dir: &str, place: &Place) -> bool {
    let is_of_unit = |part: &str| place.unit.as_deref() == Some(part);
    let is_of_container = |part: &str| {
        place.container.as_ref().is_some_and(|one| !one.id.is_empty() && part.contains(one.id.as_str()))
    };
    dir.split('/').any(|part| is_of_unit(part) || is_of_container(part))
}

fn member(pid: u32) -> Option<Member> {
    let parent = scope::stat_of(pid)?.parent;
    Some(Member { parent, exe: fs::read_link(format!("/proc/{pid}/exe")).ok() })
}

/// Who is neither the target, nor started by it, nor a worker beside it, nor one that has started it.
fn stranger(members: &BTreeMap<u32, Member>, target: u32) -> Option<u32> {
    let above: BTreeSet<u32> = lineage(members, target).map(|(pid, _)| pid).collect();
    let Some(of_target) = members.get(&target) else {
        return members.keys().next().copied();
    };
    let is_like = |pid: u32, one: &Member| {
        // Daemons of one interpreter have init as their parent, and nothing else in common.
        let is_worker = one.parent == of_target.parent && one.parent != 1 && one.exe == of_target.exe;
        pid == target || (is_worker && one.exe.is_some())
    };
    let is_of_it =
        |pid: u32| above.contains(&pid) || lineage(members, pid).any(|(pid, one)| is_like(pid, one));
    members.keys().copied().find(|pid| !is_of_it(*pid))
}

/// Itself and whoever has started it, as far as they live in the group.
fn lineage(members: &BTreeMap<u32, Member>, pid: u32) -> impl Iterator<Item = (u32, &Member)> {
    let of = move |pid: u32| members.get(&pid).map(|one| (pid, one));
    core::iter::successors(of(pid), move |(_, one)| of(one.parent)).take(ANCESTORS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::process::Container;

    fn found(members: &[(u32, u32, &str)], target: u32) -> Option<u32> {
        let all = members.iter().map(|(pid, parent, exe)| {
            let exe = Some(PathBuf::from(exe));
            (*pid, Member { parent: *parent, exe })
        });
        stranger(&all.collect(), target)
    }

    #[test]
    fn a_program_with_its_workers_and_its_starter_is_alone() {
        assert_eq!(found(&[(7, 1, "/nginx")], 7), None);
        let family = [(5, 1, "/sh"), (7, 5, "/nginx"), (8, 7, "/nginx"), (9, 8, "/cgi")];
        assert_eq!((found(&family, 7), found(&family, 8)), (None, None));
        let workers = [(7, 70, "/worker"), (8, 70, "/worker"), (9, 8, "/cgi")];
        assert_eq!(found(&workers, 7), None, "their master lives elsewhere");
    }

    #[test]
    fn whoever_else_lives_there_is_a_stranger() {
        assert_eq!(found(&[(7, 1, "/nginx"), (8, 1, "/postgres")], 7), Some(8));
        let under_one_init = [(5, 1, "/runit"), (7, 5, "/nginx"), (8, 5, "/postgres")];
        assert_eq!(found(&under_one_init, 7), Some(8));
        assert_eq!(found(&[(7, 1, "/python3"), (8, 1, "/python3")], 7), Some(8), "two daemons");
        assert_eq!(found(&[(8, 1, "/postgres")], 7), Some(8), "the target is not even there");
        assert_eq!(found(&[(7, 8, "/a"), (8, 7, "/b"), (9, 9, "/c")], 7), Some(9), "a ring ends");
    }

    #[test]
    fn a_group_of_a_unit_or_container_is_its_own() {
        let id = "c0ffee".to_owned();
        let container = Some(Container { id, ..Container::default() });
        let place = Place { unit: Some("web.service".to_owned()), container, ..Place::default() };
        assert!(is_named_for_it("/sys/fs/cgroup/cpu/system.slice/web.service", &place));
        assert!(is_named_for_it("/sys/fs/cgroup/k.slice/cri-containerd-c0ffee.scope/init", &place));
        assert!(!is_named_for_it("/sys/fs/cgroup/cpu/system.slice", &place));
        assert!(!is_named_for_it("/sys/fs/cgroup/cpu/shared", &Place::default()));
    }
}
