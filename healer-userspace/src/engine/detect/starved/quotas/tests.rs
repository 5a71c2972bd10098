use super::*;
use crate::{
    engine::{memory::Memory, policy::PolicySet, world::World},
    identity::process::{Parent, WorkloadKey},
    signal::{Fact, Signal, network::Listens},
};

struct Run {
    quotas: Quotas,
    world: World,
    second: u64,
    found: Vec<Finding>,
}

fn at(second: u64) -> BootTime {
    BootTime(second * 1_000_000_000)
}

fn process(pid: u32) -> Process {
    let workload = WorkloadKey("program//opt/srv@/web".to_owned());
    let exe = Some("/opt/srv".to_owned());
    Process { pid, start: at(pid.into()), comm: "srv".to_owned(), exe, workload, ..Process::default() }
}

fn worker(pid: u32, of: &Process) -> Process {
    let parent = Parent { pid: of.pid, start: of.start, exe: of.exe.clone(), ..Parent::default() };
    Process { parent: Some(parent), ..process(pid) }
}

fn quota(cgroup: &str, throttled: u64, user: &Process) -> Quota {
    let users = vec![CpuUser { process: user.clone(), pid: user.pid, ran_ms: 800 }];
    Quota {
        cgroup: cgroup.to_owned(),
        over_ms: 1000,
        quota_percent: 20,
        periods: 10,
        throttled,
        throttled_ms: throttled * 80,
        users,
    }
}

impl Run {
    fn new() -> Self {
        Self { quotas: Quotas::default(), world: World::default(), second: 100, found: Vec::new() }
    }

    fn listens(mut self, process: &Process) -> Self {
        let address = "10.0.0.1:80".parse().unwrap();
        let listens = Listens { address, netns: 4, cgroup: 1, cookie: 1, on: true };
        let signal = Signal { at: at(50), process: Some(process.clone()), fact: Fact::Listens(listens) };
        self.world.update(at(50), &signal, &PolicySet::default());
        self
    }

    /// The same look, second after second.
    fn seconds(&mut self, seconds: u64, quotas: &[Quota], is_known: bool) -> &mut Self {
        for _ in 0..seconds {
            self.second += 1;
            let (memory, policies, now) = (Memory::default(), PolicySet::default(), at(self.second));
            let (world, certificate) = (&self.world, None);
            let context = Context { now, world, memory: &memory, policies: &policies, certificate };
            self.quotas.looked(&context, now, quotas, &|_| is_known, &mut self.found);
        }
        self
    }

    fn sentences(&self) -> Vec<&str> {
        let said = self.found.iter().filter_map(|finding| match finding {
            Finding::Raised { diagnosis, .. } => Some(diagnosis.sentence.as_str()),
            Finding::Cleared { says, .. } => Some(says.as_str()),
            Finding::Restated { .. }
            | Finding::Level { .. }
            | Finding::Watch(_)
            | Finding::Unwatch(_)
            | Finding::Remark { .. } => None,
        });
        said.collect()
    }
}

#[test]
fn a_server_at_its_quota_is_told_once_and_so_is_its_end() {
    let mut run = Run::new().listens(&process(7));
    let held = [quota("/web", 9, &process(7))];
    assert_eq!(run.seconds(9, &held, false).sentences(), [""; 0], "not for long enough");
    run.seconds(20, &held, false).seconds(2, &[], false);
    let said = "srv[7] is held back by the CPU limit of /web (20% of a CPU): throttled in 90 of 100 periods (90%) \
                over 10.0s; the CPU has srv[7]";
    assert_eq!(run.sentences(), [said]);
    run.seconds(1, &[], false);
    assert_eq!(run.sentences(), [said, "srv[7] gets the CPU again"]);
}

#[test]
fn a_job_at_its_quota_has_what_it_was_given() {
    let held = [quota("/batch", 10, &process(8))];
    assert_eq!(Run::new().listens(&process(7)).seconds(60, &held, false).sentences(), [""; 0]);
}

#[test]
fn a_server_that_is_held_back_now_and_then_or_for_moments_is_well() {
    let mut run = Run::new().listens(&process(7));
    for _ in 0..6 {
        let (held, free) = (quota("/web", 9, &process(7)), quota("/web", 4, &process(7)));
        run.seconds(5, &[held], false).seconds(3, &[free], false);
    }
    assert_eq!(run.sentences(), [""; 0]);
    let moments = Quota { throttled_ms: 150, ..quota("/web", 9, &process(7)) };
    assert_eq!(run.seconds(30, &[moments], false).sentences(), [""; 0]);
}

#[test]
fn many_threads_that_wait_for_moments_are_well_and_those_that_wait_long_are_not() {
    let of = |throttled_ms| {
        let quota = Quota { quota_percent: 400, throttled_ms, ..quota("/jvm", 6, &process(7)) };
        let mut run = Run::new().listens(&process(7));
        run.seconds(30, &[quota], false).sentences().len()
    };
    assert_eq!(of(6 * 40 * 2), 0, "the last 2 ms of six periods, on 40 CPUs");
    assert_eq!(of(6 * 8 * 50), 1, "half of six periods, on eight");
}

#[test]
fn a_worker_is_its_masters_and_another_program_below_it_is_not() {
    let master = process(7);
    let held = [quota("/web", 9, &worker(9, &master))];
    let mut run = Run::new().listens(&master);
    assert_eq!(run.seconds(12, &held, false).sentences().len(), 1);
    let other = Process { exe: Some("/opt/report".to_owned()), ..worker(9, &master) };
    let held = [quota("/web", 9, &other)];
    assert_eq!(Run::new().listens(&master).seconds(12, &held, false).sentences(), [""; 0]);
}

#[test]
fn nobody_is_told_twice() {
    let held = [quota("/pod", 9, &process(7)), quota("/pod/web", 9, &process(7))];
    let mut run = Run::new().listens(&process(7));
    assert_eq!(run.seconds(12, &held, false).sentences().len(), 1, "of two limits above it");
    let mut tracked = Run::new().listens(&process(7));
    assert_eq!(tracked.seconds(12, &held, true).sentences(), [""; 0]);
}

#[test]
fn what_was_told_of_a_server_ends_with_it() {
    let held = [quota("/web", 9, &process(7))];
    let mut run = Run::new().listens(&process(7));
    run.seconds(12, &held, false);
    let Run { quotas, found, .. } = &mut run;
    quotas.ended(process(7).id(), found);
    assert_eq!(run.sentences().last(), Some(&"srv[7] has ended"));
}
