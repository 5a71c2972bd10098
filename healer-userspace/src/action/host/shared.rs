//! Who else lives in a group that is to be turned down because of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use super::{Domain, scope};
use crate::identity::process::{Place, Process, WorkloadKey};

/// Up from a process: nobody is started by longer chains, and a list that changes while it is read may hold a ring.
const ANCESTORS_MAX: usize = 64;

struct Member {
    parent: u32,
    program: Program,
    starter: Option<Program>,
}

struct Program {
    exe: Option<PathBuf>,
    comm: String,
    args: Vec<u8>,
}

impl Member {
    /// Forked, and no other program since: a supervisor that is a program of the same interpreter has another name.
    fn is_fork(&self) -> bool {
        let is_it = |starter: &Program| starter.exe == self.program.exe && starter.comm == self.program.comm;
        self.starter.as_ref().is_some_and(is_it)
    }

    /// Daemons of one interpreter, or services of one supervisor, have their parent and nothing else in common.
    fn is_worker_beside(&self, target: &Self) -> bool {
        let (one, other) = (&self.program, &target.program);
        let is_same = one.comm == other.comm && one.args == other.args && !one.args.is_empty();
        self.parent == target.parent
            && self.parent != 1
            && one.exe.is_some()
            && one.exe == other.exe
            && (is_same || (self.is_fork() && target.is_fork()))
    }
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

/// All that lives in a unit's or a container's own group is that unit or container, if that is the workload: a service
/// may hold several supervised commands, and a login session is nobody's.
fn is_named_for_it(dir: &str, place: &Place) -> bool {
    if place.supervise.is_some() || WorkloadKey::named(place).is_none() {
        return false;
    }
    let is_its = |part: &str| match &place.container {
        Some(container) => !container.id.is_empty() && part.contains(container.id.as_str()),
        None => place.unit.as_deref() == Some(part),
    };
    dir.split('/').any(is_its)
}

fn member(pid: u32) -> Option<Member> {
    let parent = scope::stat_of(pid)?.parent;
    Some(Member { parent, program: program(pid)?, starter: program(parent) })
}

fn program(pid: u32) -> Option<Program> {
    let read = |name: &str| format!("/proc/{pid}/{name}");
    let comm = scope::stat_of(pid)?.comm;
    let args = fs::read(read("cmdline")).unwrap_or_default();
    Some(Program { exe: fs::read_link(read("exe")).ok(), comm, args })
}

/// Who is neither the target, nor started by it, nor a worker beside it, nor one that has started it.
fn stranger(members: &BTreeMap<u32, Member>, target: u32) -> Option<u32> {
    let above: BTreeSet<u32> = lineage(members, target).map(|(pid, _)| pid).collect();
    let Some(of_target) = members.get(&target) else {
        return members.keys().next().copied();
    };
    let is_like = |pid: u32, one: &Member| pid == target || one.is_worker_beside(of_target);
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
            let program = program_of(exe, exe, exe);
            (*pid, Member { parent: *parent, program, starter: None })
        });
        stranger(&all.collect(), target)
    }

    fn program_of(exe: &str, comm: &str, args: &str) -> Program {
        Program { exe: Some(PathBuf::from(exe)), comm: comm.to_owned(), args: args.as_bytes().to_vec() }
    }

    /// Of pid 7, beside one like it, both started by 5, which may live elsewhere.
    fn beside(starter: (&str, &str), comm: &str, args: [&str; 2]) -> Option<u32> {
        let one = |pid: u32, args: &str| {
            let (program, (exe, name)) = (program_of("/python3", comm, args), starter);
            (pid, Member { parent: 5, program, starter: Some(program_of(exe, name, "master")) })
        };
        stranger(&BTreeMap::from([one(7, args[0]), one(8, args[1])]), 7)
    }

    #[test]
    fn services_of_one_supervisor_are_no_workers_of_each_other() {
        let (web, mail) = ("python3 web.py", "python3 mail.py");
        assert_eq!(beside(("/python3", "supervisord"), "python3", [web, mail]), Some(8));
        assert_eq!(beside(("/runit", "runsv"), "python3", [web, mail]), Some(8));
        assert_eq!(beside(("/python3", "gunicorn"), "gunicorn", ["worker 1", "worker 2"]), None);
        assert_eq!(beside(("/runit", "pool"), "python3", [web, web]), None, "the same in every respect");
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
        assert!(
            !is_named_for_it("/sys/fs/cgroup/cpu/system.slice/web.service", &place),
            "it is one of many there"
        );
        assert!(is_named_for_it("/sys/fs/cgroup/k.slice/cri-containerd-c0ffee.scope/init", &place));
        assert!(!is_named_for_it("/sys/fs/cgroup/cpu/system.slice", &place));
        assert!(!is_named_for_it("/sys/fs/cgroup/cpu/shared", &Place::default()));
        let unit = |unit: &str, supervise: Option<&str>| {
            let supervise = supervise.map(str::to_owned);
            let place = Place { unit: Some(unit.to_owned()), supervise, ..Place::default() };
            is_named_for_it(&format!("/sys/fs/cgroup/x.slice/{unit}"), &place)
        };
        assert!(unit("web.service", None));
        assert!(!unit("jobs.service", Some("one")), "another supervised command may live there");
        assert!(!unit("session-3.scope", None) && !unit("init.scope", None));
    }
}
