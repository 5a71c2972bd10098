use std::time::Duration;

use super::{
    fixture::{Fake, Tree},
    process::TICK_NS,
    *,
};
use crate::signal::{Exit, OomKill, OomScope, SignalSent};

mod explained;
mod named;

const NOW: BootTime = BootTime(900_000_000_000);
const CONTAINER: &str = "4f9a5c0e2b7d1836af004f9a5c0e2b7d1836af004f9a5c0e2b7d1836af00abcd";

fn id(pid: u32, ticks: u64) -> ProcessId {
    ProcessId { pid, start: BootTime(ticks * TICK_NS + 1234) }
}

fn party(pid: u32, comm: &str) -> Party {
    Party { id: id(pid, pid.into()), comm: comm.to_owned(), ..Party::default() }
}

fn seen(pid: u32, comm: &str) -> Seen {
    Seen { task: party(pid, comm), ..Seen::default() }
}

fn raw(seen: Seen, fact: Fact) -> Raw {
    Raw { at: NOW, seen: Some(seen), fact, at_limit: None, owner: None }
}

fn killed_by(sender: Option<Party>) -> Fact {
    Fact::SignalSent(SignalSent {
        signal: 9,
        si_code: 0,
        sender,
        group: true,
        ignored: false,
        ..SignalSent::default()
    })
}

fn exited() -> Fact {
    Fact::Exited(Exit { code: 1, ..Exit::default() })
}

fn whom(identity: &mut Identity, seen: Seen, fact: Fact) -> Process {
    identity.enrich(raw(seen, fact)).process.unwrap()
}

fn met(tree: &Tree) -> Identity {
    let mut identity = Identity::new(tree.roots());
    identity.scan(NOW);
    identity
}

#[test]
fn a_scan_names_everybody_by_place_and_parent() {
    let tree = Tree::new();
    let sh = tree.file("bin/sh", "");
    tree.process(&Fake::new(1, "init").in_cgroup("/init.scope").child_of(0));
    tree.process(&Fake::new(40, "web").in_cgroup("/system.slice/web.service").uid(33));
    tree.process(&Fake::new(50, "sh").exe(&sh).in_cgroup("/box"));
    tree.process(&Fake::new(51, "job").child_of(50).in_cgroup("/box").args(&["job", "-x"]));
    let mut identity = met(&tree);
    let web = identity.of_pid(40).unwrap();
    assert_eq!((web.workload.0.as_str(), web.uid, web.main), ("unit/web.service", 33, false));
    let job = identity.of_pid(51).unwrap();
    assert_eq!(job.workload.0, format!("program/job@/box<{sh}"));
    assert_eq!(job.args, ["job", "-x"]);
    let parent = job.parent.unwrap();
    assert_eq!((parent.pid, parent.exe), (50, Some(sh)));
    let init = identity.of_pid(1).unwrap();
    assert_eq!(init.workload.0, "program/init@/init.scope<");
}

#[test]
fn a_known_process_costs_no_reading_and_gets_its_exact_start() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web"));
    let mut identity = met(&tree);
    assert_eq!(identity.of_pid(40).unwrap().start, BootTime(40 * TICK_NS));
    let (_, before) = identity.counts();
    let process = whom(&mut identity, seen(40, "web"), killed_by(None));
    assert_eq!(process.start, id(40, 40).start);
    assert_eq!(identity.counts().1, before);
    assert_eq!(identity.of_pid(40).unwrap().start, id(40, 40).start);
}

#[test]
fn who_was_met_between_fork_and_exec_has_its_new_name_when_asked_for() {
    let tree = Tree::new();
    let (sh, web) = (tree.file("bin/sh", ""), tree.file("bin/web", ""));
    let roads: [fn(&mut Identity); 2] = [|identity| drop(identity.of_pid(40)), |identity| identity.scan(NOW)];
    for road in roads {
        tree.process(&Fake::new(40, "sh").exe(&sh));
        let mut identity = met(&tree);
        identity.track(id(40, 40));
        tree.process(&Fake::new(40, "web").exe(&web).args(&["web", "-x"]));
        road(&mut identity);
        let tracked = identity.tracked().next().unwrap();
        let process = identity.of_id(tracked).unwrap();
        assert_eq!((process.comm.as_str(), process.exe.as_ref()), ("web", Some(&web)));
        assert_eq!(process.args, ["web", "-x"]);
        let (_, before) = identity.counts();
        road(&mut identity);
        assert_eq!(identity.counts().1, before);
    }
}

#[test]
fn who_was_seen_to_end_is_not_living_while_its_parent_has_not_reaped_it() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web"));
    let mut identity = met(&tree);
    assert_eq!(identity.of_living_pid(40).unwrap().comm, "web");
    whom(&mut identity, seen(40, "web"), Fact::Exited(Exit { signal: Some(9), ..Exit::default() }));
    assert_eq!(identity.of_pid(40).unwrap().comm, "web");
    assert_eq!(identity.of_living_pid(40), None);
    tree.process(&Fake::new(40, "next").started(90));
    assert_eq!(identity.of_living_pid(40).unwrap().comm, "next");
}

#[test]
fn an_unknown_process_is_read_once_even_if_it_is_gone() {
    let tree = Tree::new();
    let mut identity = met(&tree);
    tree.process(&Fake::new(40, "web").in_cgroup("/a").child_of(0));
    for (pid, comm, cgroup) in [(40, "web", "/a"), (41, "gone", "")] {
        let (_, before) = identity.counts();
        for _ in 0..3 {
            let process = whom(&mut identity, seen(pid, comm), killed_by(None));
            assert_eq!((&*process.comm, &*process.cgroup), (comm, cgroup));
        }
        assert_eq!(identity.counts().1, before + 1);
    }
}

#[test]
fn the_dead_are_named_from_what_the_kernel_sent() {
    let tree = Tree::new();
    let cgroup = tree.cgroup("/system.slice/web.service");
    let exe = tree.file("bin/worker", "");
    tree.process(&Fake::new(39, "web").in_cgroup("/system.slice/web.service"));
    let mut identity = met(&tree);
    let (_, before) = identity.counts();
    let process = whom(
        &mut identity,
        Seen {
            parent: Some(party(39, "web")),
            cgroup: Some(CgroupId { hierarchy: Hierarchy::V2, id: cgroup }),
            exe: exe::ExeId::at(&exe),
            filename: Some(exe.clone()),
            args: vec!["worker".into(), "-1".into()],
            ..seen(40, "worker")
        },
        exited(),
    );
    assert_eq!(identity.counts().1, before, "/proc has nothing to add to a whole record");
    assert_eq!((process.id(), &*process.comm), (id(40, 40), "worker"));
    assert_eq!(process.exe, Some(exe));
    assert_eq!(process.args, ["worker", "-1"]);
    assert_eq!(process.cgroup, "/system.slice/web.service");
    assert_eq!(process.workload.0, "unit/web.service");
    assert_eq!(process.parent.unwrap().comm, "web");
}

#[test]
fn who_ran_the_same_file_lends_its_path_to_the_dead() {
    let tree = Tree::new();
    let exe = tree.file("bin/web", "");
    tree.process(&Fake::new(40, "web").exe(&exe));
    let mut identity = met(&tree);
    let seen = Seen { exe: exe::ExeId::at(&exe), ..seen(41, "web") };
    assert_eq!(whom(&mut identity, seen, exited()).exe, Some(exe));
}

#[test]
fn one_death_told_twice_is_of_one_process() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web").in_cgroup("/a"));
    let mut identity = met(&tree);
    let first = whom(&mut identity, seen(40, "web"), exited());
    tree.remove(40);
    let second = whom(&mut identity, seen(40, "web"), exited());
    assert_eq!(first, second);
    assert_eq!(identity.of_pid(40), None);
    assert_eq!(identity.of_id(id(40, 40)), Some(first));
}

#[test]
fn a_recycled_pid_is_somebody_else() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "old").in_cgroup("/old"));
    let mut identity = met(&tree);
    tree.process(&Fake::new(40, "new").in_cgroup("/new").started(500));
    let old = whom(&mut identity, seen(40, "old"), exited());
    assert_eq!(old.cgroup, "/old");
    let new = identity.of_pid(40).unwrap();
    assert_eq!((&*new.comm, &*new.cgroup), ("new", "/new"));
    assert_eq!(identity.of_id(id(40, 40)), Some(old));

    let mut late = Identity::new(tree.roots());
    let old = whom(&mut late, seen(40, "old"), exited());
    assert_eq!((&*old.comm, &*old.cgroup), ("old", ""));
}

#[test]
fn an_exec_makes_another_program_of_the_same_process() {
    let tree = Tree::new();
    let sh = tree.file("bin/sh", "");
    let web = tree.file("bin/web", "x");
    tree.process(&Fake::new(40, "sh").exe(&sh).in_cgroup("/a").child_of(0));
    let mut identity = met(&tree);
    tree.process(&Fake::new(40, "web").exe(&web).in_cgroup("/a").child_of(0));
    let execed = Seen { exe: exe::ExeId::at(&web), args: vec!["web".into()], ..seen(40, "web") };
    let process = whom(&mut identity, execed.clone(), Fact::Execed);
    assert_eq!((process.exe.as_deref(), &*process.comm), (Some(&*web), "web"));
    let again = whom(&mut identity, execed, exited());
    assert_eq!(again, process);
}

#[test]
fn an_exec_that_nobody_sent_is_noticed_later() {
    let tree = Tree::new();
    let sh = tree.file("bin/sh", "");
    let web = tree.file("bin/web", "x");
    tree.process(&Fake::new(40, "sh").exe(&sh));
    let mut identity = met(&tree);
    tree.process(&Fake::new(40, "web").exe(&web));
    let process = whom(&mut identity, seen(40, "web"), killed_by(None));
    assert_eq!(process.exe, Some(web));
    let (_, before) = identity.counts();
    whom(&mut identity, seen(40, "web"), killed_by(None));
    assert_eq!(identity.counts().1, before);
}

#[test]
fn a_process_that_moved_gets_its_new_place() {
    let tree = Tree::hybrid();
    tree.process(&Fake::new(40, "web"));
    let mut identity = met(&tree);
    let moved = tree.memory_cgroup("/box");
    let cgroup = Some(CgroupId { hierarchy: Hierarchy::V1Memory, id: moved });
    let late = NOW + Duration::from_secs(2);
    let mut raw = raw(Seen { cgroup, ..seen(40, "web") }, killed_by(None));
    raw.at = late;
    let process = identity.enrich(raw).process.unwrap();
    assert_eq!((&*process.cgroup, process.cgroup_id), ("/box", moved));
}

#[test]
fn the_tracked_survive_a_flood_of_others() {
    let tree = Tree::new();
    tree.process(&Fake::new(40, "web").in_cgroup("/a"));
    let mut identity = met(&tree);
    identity.track(id(40, 40));
    for pid in 1000..1000 + 2 * u32::try_from(UNTRACKED_MAX).unwrap() {
        whom(&mut identity, seen(pid, "job"), killed_by(None));
    }
    assert_eq!(identity.counts().0, UNTRACKED_MAX + 1);
    tree.remove(40);
    assert_eq!(whom(&mut identity, seen(40, "web"), exited()).cgroup, "/a");
}

#[test]
fn a_sender_gets_its_program_and_its_workload() {
    let tree = Tree::new();
    let sh = tree.file("bin/sh", "");
    tree.process(&Fake::new(40, "web"));
    tree.process(&Fake::new(50, "sh").exe(&sh).in_cgroup("/system.slice/cron.service"));
    let mut identity = Identity::new(tree.roots());
    for (pid, exe, workload) in [(50, Some(sh), "unit/cron.service"), (51, None, "program/kill@<")] {
        let comm = if pid == 50 { "sh" } else { "kill" };
        let fact = killed_by(Some(party(pid, comm)));
        let signal = identity.enrich(raw(seen(40, "web"), fact));
        let Fact::SignalSent(sent) = signal.fact else {
            panic!("{signal:?}");
        };
        let sender = sent.sender.unwrap();
        assert_eq!((sender.exe, sender.workload.as_deref()), (exe, Some(workload)));
    }
}

#[test]
fn an_oom_kill_names_cgroup_and_trigger_and_finds_a_victim_by_its_pid() {
    let tree = Tree::hybrid();
    let limit = tree.memory_cgroup("/box");
    tree.process(&Fake::new(40, "hog").in_cgroup("/docker/x"));
    tree.process(&Fake::new(41, "leak"));
    let mut identity = met(&tree);
    let hierarchy = Hierarchy::Memory;
    let at_limit = Some(CgroupId { hierarchy, id: limit });
    let mut victim = seen(40, "");
    victim.task.id.start = BootTime(0);
    victim.cgroup = at_limit;
    let signal = identity.enrich(Raw {
        at: NOW,
        seen: Some(victim),
        fact: Fact::OomKilled(OomKill {
            scope: OomScope::Memcg,
            is_scope_guessed: false,
            trigger: party(41, "leak"),
            memcg: String::new(),
            usage: 1,
            limit: 1,
        }),
        at_limit,
        owner: None,
    });
    let victim = signal.process.unwrap();
    assert_eq!((&*victim.comm, &*victim.cgroup), ("hog", "/docker/x"));
    let Fact::OomKilled(kill) = signal.fact else {
        panic!("{:?}", signal.fact);
    };
    assert_eq!(kill.memcg, "/box");
    assert!(kill.trigger.workload.is_some());
}

#[test]
fn we_know_ourselves_on_the_real_machine() {
    let mut identity = Identity::new(Roots::default());
    identity.scan(BootTime(0));
    let me = identity.of_pid(std::process::id()).unwrap();
    let exe = std::env::current_exe().unwrap();
    assert_eq!(me.exe.as_deref(), exe.to_str());
    assert!(me.parent.is_some() && !me.workload.0.is_empty());
    assert!(identity.main_of(&me.workload).is_none_or(|main| main.pid != 0));
}

#[test]
fn cost_of_naming_a_known_process() {
    const TIMES: u32 = 20_000;
    let tree = Tree::new();
    let path = format!("/kubepods/besteffort/poduid-1/{CONTAINER}");
    for pid in 1..200 {
        tree.process(&Fake::new(pid, "web").in_cgroup(&path));
    }
    let mut identity = met(&tree);
    let seen = seen(40, "web");
    let each = cpu_time(|| {
        for _ in 0..TIMES {
            whom(&mut identity, seen.clone(), killed_by(None));
        }
    }) / TIMES;
    println!("enrich of a known process: {each:?}");
    let mut identity = Identity::new(Roots::default());
    let spent = cpu_time(|| identity.scan(NOW));
    println!("scan of this machine: {spent:?} for {} processes", identity.counts().0);
}

fn cpu_time(work: impl FnOnce()) -> Duration {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let before = now();
    work();
    Duration::try_from(now() - before).unwrap()
}

proptest::proptest! {
    #[test]
    fn any_order_of_records_is_survived(steps in proptest::collection::vec((0..4u8, 1..6u32, 0..3u64), 1..60)) {
        let tree = Tree::new();
        for pid in 1..4 {
            tree.process(&Fake::new(pid, "web").child_of(pid - 1));
        }
        let mut identity = met(&tree);
        for (step, pid, start) in steps {
            let mut seen = seen(pid, "web");
            seen.task.id = id(pid, start);
            seen.parent = Some(party(pid % 3, "sh"));
            let fact = match step {
                0 => exited(),
                1 => Fact::Execed,
                2 => killed_by(Some(party(pid + 1, "kill"))),
                _ => {
                    identity.supervise(id(pid, start), "line");
                    continue;
                }
            };
            let process = whom(&mut identity, seen, fact);
            if start != 0 {
                proptest::prop_assert_eq!(process.id(), id(pid, start));
            }
        }
    }
}
