//! Servers on this node that refuse: by what is known of them.

use super::*;
use crate::{
    engine::certificate::certify,
    signal::{Exit, Party, SignalSent, network::Listens},
};

const REFUSES: &str = "dependency_failure refuses probable";
const SERVER: u32 = 50;

impl Story {
    fn server(&mut self, ms: u64, fact: Fact) {
        self.pass(ms);
        let at = BootTime(ms * 1_000_000);
        let workload = WorkloadKey("db".to_owned());
        let server = Process { pid: SERVER, comm: "db".to_owned(), workload, ..Process::default() };
        let certificate = if let Fact::Exited(exit) = &fact {
            Some(certify(&self.memory, &server, *exit, at, 1))
        } else {
            None
        };
        let signal = Signal { at, process: Some(server), fact };
        self.world.update(at, &signal, &self.policies);
        self.memory.note(at, &signal);
        let mut found = Vec::new();
        let Self { world, memory, policies, .. } = self;
        let context = Context { now: at, world, memory, policies, certificate: certificate.as_ref() };
        self.detector.observe(&context, &signal, &mut found);
        self.note(ms, found);
    }

    fn listens(&mut self, ms: u64, cookie: u64, on: bool) {
        let listens = Listens { address: A.parse().unwrap(), netns: 9, cgroup: 6, cookie, on };
        self.server(ms, Fact::Listens(listens));
    }

    /// By whoever has that pid, if anybody; else the kernel, for what it did.
    fn dies(&mut self, ms: u64, signal: i32, by: Option<u32>) {
        let id = |pid| crate::identity::process::ProcessId { pid, start: BootTime(1) };
        let sender = by.map(|pid| Party { id: id(pid), ..Party::default() });
        let si_code = i32::from(sender.is_none());
        let sent = SignalSent { signal, si_code, sender, group: true, ..SignalSent::default() };
        self.server(ms, Fact::SignalSent(sent));
        self.server(ms + 1, Fact::Exited(Exit { signal: Some(signal), ..Exit::default() }));
        self.listens(ms + 2, 1, false);
    }

    /// Every 200 ms; B answers all the while.
    fn refused_until(&mut self, from_ms: u64, to_ms: u64) {
        for (streak, ms) in (from_ms..to_ms).step_by(200).enumerate() {
            self.ok(ms, B);
            self.refused(ms + 1, A, streak as u32 + 1);
        }
    }
}

/// A server that listens from 100 ms on, and answers until 900 ms.
fn served() -> Story {
    let mut story = Story::new();
    story.listens(100, 1, true);
    story.ok(900, A);
    story
}

#[test]
fn whose_server_has_ended_is_given_the_time_of_a_restart() {
    let ends = [(libc::SIGTERM, Some(77)), (libc::SIGKILL, Some(77)), (libc::SIGSEGV, None)];
    for (signal, by) in ends {
        let mut story = served();
        story.dies(950, signal, by);
        story.refused_until(1000, 2000);
        // The successor is there before it is asked.
        story.listens(2050, 2, true);
        story.ok(2100, A);
        story.pass(60_000);
        assert_eq!(story.words(), [""; 0], "{signal}");
    }
    let mut story = served();
    story.dies(950, libc::SIGTERM, Some(77));
    story.refused_until(1000, 5000);
    assert_eq!(story.words(), [REFUSES], "nobody has followed it");
}

#[test]
fn whoever_is_refused_beside_a_listener_is_refused_by_somebody_on_the_way() {
    let mut story = served();
    story.refused_until(1000, 3000);
    assert_eq!(story.words(), [REFUSES]);
    assert!(story.said[0].0 < 1700, "{:?}", story.said);
    let mut story = served();
    story.refused_until(1000, 1400);
    story.ok(1450, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0], "a moment");
}

/// Records are lost between the two lives.
#[test]
fn whose_listener_was_not_told_to_be_closed_has_closed_it_with_its_end() {
    let mut story = served();
    story.server(950, Fact::Exited(Exit { signal: Some(libc::SIGKILL), ..Exit::default() }));
    story.refused_until(1000, 2000);
    story.ok(2100, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}

#[test]
fn while_records_are_lost_nothing_is_known_of_servers() {
    let mut story = served();
    story.server(1100, Fact::Lost { ring: crate::signal::Ring::Bulk, count: 1 });
    story.refused_until(1050, 2000);
    story.ok(2100, A);
    story.pass(60_000);
    assert_eq!(story.words(), [""; 0]);
}
