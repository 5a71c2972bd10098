//! How long the way back takes from a storm's end, look by look as the thread does it.

use super::{
    shed::{Shedding, Use},
    *,
};

/// The longest gap that the thread makes between two slices.
const SAMPLES_EVERY: Duration = Duration::from_millis(1300);
const HOOK_NS: u64 = 100;

#[derive(Clone, Copy)]
struct Load {
    agent: Ppm,
    polls: Ppm,
    connections: Ppm,
    calls: u64,
}

const QUIET: Load = Load { agent: 3_000, polls: 600, connections: 0, calls: 5_000 };
/// What other programs do keeps the agent busy, and the calls are many.
const STORM: Load = Load { agent: 340_000, polls: 60_000, connections: 0, calls: 1_500_000 };
const STORM_OF_CONNECTIONS: Load = Load { connections: 300_000, ..STORM };

struct Node {
    shedding: Shedding,
    governor: Governor,
    agent: Ppm,
    now: BootTime,
}

impl Node {
    fn new() -> Self {
        let mut governor = Governor::new(BootTime(0), HOOK_NS);
        governor.set(Wish::Governed, Budget::default());
        Self { shedding: Shedding::default(), governor, agent: QUIET.agent, now: BootTime(0) }
    }

    fn looks(&mut self, looks: u32, load: Load) -> &mut Self {
        (0..looks).for_each(|_| self.look(load));
        self
    }

    fn look(&mut self, load: Load) {
        let (pause, counts) = match self.governor.state().mode {
            Mode::Full => (LOOK_EVERY, true),
            Mode::Sampled => (SAMPLES_EVERY, true),
            Mode::Off => self.governor.while_off(self.shedding.stage() != Stage::Nothing),
        };
        self.now = self.now + pause;
        self.agent = (3 * self.agent + load.agent) / 4;
        let is_blind = self.shedding.stage() == Stage::Connections;
        let used = Use {
            agent: self.agent,
            agent_now: load.agent,
            polls: load.polls,
            connections: if is_blind { 0 } else { load.connections },
            ..Use::default()
        };
        let is_full = self.governor.state().mode == Mode::Full;
        let syscalls = if is_full { load.calls * HOOK_NS / 1000 } else { 0 };
        self.shedding.look(Use { syscalls, ..used }, Budget::default().cpu);
        let is_shed = Stage::Syscalls <= self.shedding.stage();
        let calls = counts.then_some(load.calls);
        self.governor.look(self.now, &Reading { calls, armed: None, others: used.at_rest(), is_shed });
    }

    /// From here on it is quiet: how long until every call is seen.
    fn until_full(&mut self) -> Duration {
        let end = self.now;
        while self.governor.state().mode != Mode::Full {
            self.look(QUIET);
            assert!(self.now.since(end) < Duration::from_secs(600), "never");
        }
        self.now.since(end)
    }
}

fn after_a_storm(storm: Load) -> (Stage, Duration) {
    let mut node = Node::new();
    node.looks(5, QUIET).looks(30, storm);
    (node.shedding.stage(), node.until_full())
}

#[test]
fn after_one_storm_every_call_is_seen_within_a_quarter_of_a_minute() {
    let (stage, time) = after_a_storm(STORM);
    assert_eq!(stage, Stage::Polls);
    assert!(time < Duration::from_secs(15), "{time:?}");
    let (stage, time) = after_a_storm(STORM_OF_CONNECTIONS);
    assert_eq!(stage, Stage::Connections);
    assert!(time < Duration::from_secs(25), "{time:?}");
}

#[test]
fn calls_that_were_too_dear_to_look_at_are_counted_again_soon() {
    let mut node = Node::new();
    node.looks(5, QUIET).looks(10, Load { calls: 1_000_000_000, ..QUIET });
    assert_eq!((node.governor.state().mode, node.shedding.stage()), (Mode::Off, Stage::Nothing));
    let time = node.until_full();
    assert!(time < Duration::from_secs(9), "{time:?}");
}

#[test]
fn after_storm_upon_storm_it_takes_longer_but_not_for_ever() {
    let mut node = Node::new();
    for _ in 0..10 {
        node.looks(12, STORM).looks(6, QUIET);
    }
    let time = node.looks(12, STORM).until_full();
    assert!(Duration::from_secs(20) < time && time < Duration::from_secs(46), "{time:?}");
}

#[test]
fn one_look_at_a_full_cpu_takes_nothing_and_is_soon_forgotten() {
    let mut node = Node::new();
    node.looks(5, QUIET).look(Load { agent: 1_000_000, calls: 8_000, ..QUIET });
    let time = node.until_full();
    assert!(time < Duration::from_secs(5), "{time:?}");
    for _ in 0..30 {
        node.look(QUIET);
        assert_eq!((node.governor.state().mode, node.shedding.stage()), (Mode::Full, Stage::Nothing));
    }
}

#[test]
fn a_load_that_lasts_is_answered_in_two_looks_and_one_that_comes_and_goes_is_sat_out() {
    let mut node = Node::new();
    assert_eq!(node.looks(5, QUIET).looks(2, STORM).shedding.stage(), Stage::Polls);
    for looks in [1, 2] {
        let mut node = Node::new();
        node.looks(5, QUIET);
        let mut stages = vec![node.shedding.stage()];
        for load in [STORM, QUIET].repeat(50) {
            for _ in 0..looks {
                node.look(load);
                stages.push(node.shedding.stage());
            }
        }
        stages.dedup();
        assert_eq!(stages, [Stage::Nothing, Stage::Polls], "every {looks} looks");
    }
}

#[test]
fn a_quiet_node_gives_nothing_up() {
    let mut node = Node::new();
    node.looks(5, QUIET);
    for _ in 0..100 {
        node.look(QUIET);
        assert_eq!((node.governor.state().mode, node.shedding.stage()), (Mode::Full, Stage::Nothing));
    }
}
