//! Who fills a cgroup with tasks. By program and process group, not by name: a name anybody can take, and then the
//! oldest of that name would answer for it.

use std::{collections::BTreeMap, path::Path};

use super::super::memory::members;
use crate::{
    engine::time::BootTime,
    identity::{exe::ExeId, procfs::ProcDir},
    signal::levels::User,
};

const USERS_MAX: usize = 3;
/// Members that are looked at to name the users.
const MEMBERS_MAX: usize = 512;
/// Who has so much of it below himself has made it; else his child has, or nobody alone.
const MOST_PERCENT: u64 = 80;

#[derive(Clone, Debug)]
struct Member {
    pid: u32,
    parent: u32,
    comm: String,
    start: BootTime,
    threads: u64,
    crowd: (Option<ExeId>, u32),
}

/// Most tasks first; the pid is that of whoever has made them.
pub(super) fn users(proc: &Path, dir: &Path) -> Vec<User> {
    // Of a pod or a slice the processes are in cgroups below it.
    let pids = members(dir).into_iter().take(MEMBERS_MAX);
    heaviest(pids.filter_map(|pid| member(proc, pid)).collect())
}

fn member(proc: &Path, pid: u32) -> Option<Member> {
    let dir = ProcDir::open(proc, pid)?;
    let stat = dir.stat()?;
    Some(Member {
        pid,
        parent: stat.parent,
        comm: stat.comm,
        start: stat.start,
        threads: stat.threads.into(),
        crowd: (dir.exe().and_then(|exe| exe.id), stat.group),
    })
}

fn heaviest(members: Vec<Member>) -> Vec<User> {
    let mut crowds: BTreeMap<_, Vec<Member>> = BTreeMap::new();
    for member in members {
        crowds.entry(member.crowd).or_default().push(member);
    }
    let mut users: Vec<User> = crowds.values().filter_map(|crowd| user(crowd)).collect();
    users.sort_by_key(|user| core::cmp::Reverse(user.used));
    users.truncate(USERS_MAX);
    users
}

fn user(crowd: &[Member]) -> Option<User> {
    let maker = maker(crowd)?;
    let used = crowd.iter().map(|member| member.threads).sum();
    Some(User { pid: maker.pid, comm: maker.comm.clone(), used })
}

/// Down from the heaviest of those without a parent here, for as long as one child has most of what is below. Of equal
/// ones the oldest.
fn maker(crowd: &[Member]) -> Option<&Member> {
    let weights = weights(crowd);
    let heaviest = |is_meant: &dyn Fn(&&Member) -> bool| {
        let weight = |member: &Member| weights.get(&member.pid).copied().unwrap_or(0);
        let weighed = crowd.iter().filter(is_meant).map(|member| (member, weight(member)));
        weighed.max_by_key(|(member, weight)| (*weight, core::cmp::Reverse(member.start)))
    };
    let (mut found, mut weight) = heaviest(&|member| !weights.contains_key(&member.parent))?;
    while let Some((child, below)) = heaviest(&|member| member.parent == found.pid)
        && weight * MOST_PERCENT <= below * 100
        && 1 < below
    {
        (found, weight) = (child, below);
    }
    Some(found)
}

/// The tasks of each and of all below.
fn weights(crowd: &[Member]) -> BTreeMap<u32, u64> {
    let parents: BTreeMap<u32, u32> = crowd.iter().map(|member| (member.pid, member.parent)).collect();
    let mut weights = BTreeMap::new();
    for member in crowd {
        let up = core::iter::successors(Some(member.pid), |pid| parents.get(pid).copied());
        // Further up than there are members: pids were used anew while they were read.
        for pid in up.take_while(|pid| parents.contains_key(pid)).take(crowd.len()) {
            *weights.entry(pid).or_default() += member.threads;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pid: u32, parent: u32, comm: &str, group: u32) -> Member {
        Member {
            pid,
            parent,
            comm: comm.to_owned(),
            start: BootTime(pid.into()),
            threads: 1,
            crowd: (None, group),
        }
    }

    fn blamed(members: Vec<Member>) -> (u32, u64) {
        let users = heaviest(members);
        (users[0].pid, users[0].used)
    }

    #[test]
    fn a_bomb_that_takes_an_old_servers_name_is_blamed_itself() {
        let server = one(10, 1, "server", 10);
        let bomb = one(50, 1, "server", 50);
        let children = (51..90).map(|pid| one(pid, 50, "server", 50));
        assert_eq!(blamed([server, bomb].into_iter().chain(children).collect()), (50, 40));
    }

    #[test]
    fn of_one_program_and_one_process_group_whoever_has_made_most_is_blamed() {
        let shell = one(10, 1, "sh", 10);
        let (idle, bomb) = (one(20, 10, "sh", 10), one(30, 10, "sh", 10));
        let children = (31..70).map(|pid| one(pid, 30, "sh", 10));
        assert_eq!(blamed([shell, idle, bomb].into_iter().chain(children).collect()).0, 30);
    }

    #[test]
    fn what_doubles_itself_is_blamed_where_it_began_and_orphans_at_the_oldest() {
        let doubles = (2..64).map(|pid| one(pid, pid / 2, "b", 7));
        assert_eq!(blamed([one(1, 0, "b", 7)].into_iter().chain(doubles).collect()), (1, 63));
        let orphans: Vec<_> = (100..140).map(|pid| one(pid, 1, "b", 7)).collect();
        assert_eq!(blamed(orphans), (100, 40));
    }

    #[test]
    fn pids_that_name_each_other_as_parents_end_the_count() {
        assert!(heaviest(vec![one(5, 6, "x", 5), one(6, 5, "x", 5)]).is_empty());
    }

    #[test]
    fn those_below_a_parent_cgroup_are_its_users() {
        let own = std::process::id();
        let root = std::env::temp_dir().join(format!("healer-crowd-{own}"));
        std::fs::create_dir_all(root.join("app")).unwrap();
        std::fs::write(root.join("app/cgroup.procs"), format!("{own}\n")).unwrap();
        let found = users(Path::new("/proc"), &root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.first().map(|user| user.pid), Some(own));
    }
}
