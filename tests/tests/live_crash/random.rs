//! Fifty-two agents die of SIGKILL at random moments, in four homes at once.

use core::time::Duration;
use std::{collections::BTreeSet, thread};

use healer_tests::{
    home::{Home, pause, signal_to, until},
    supervised::{Supervised, lives, name},
};
use rustix::process::Signal;

use crate::{Ledger, assert_whole_and_a_cut_is_found, verify, victims::Victims};

const HOMES: u64 = 4;
const DEATHS: u64 = 13;
/// From `ready` to the blow: at most this long.
const LIFE: u64 = 600;

/// xorshift64*: the seed is printed, and HEALER_SEED sets it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("HEALER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| healer_userspace::clock::boot().0 | 1);
    println!("HEALER_SEED={seed}");
    seed
}

#[test]
fn nothing_happens_twice_whenever_the_agent_dies() {
    let seed = seed();
    let begin = |home: u64| Random(seed.wrapping_add(home).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let acts: u64 = thread::scope(|scope| {
        let homes: Vec<_> = (0..HOMES).map(|home| scope.spawn(move || one_home(begin(home)))).collect();
        homes.into_iter().map(|home| home.join().expect("the home's own words are above")).sum()
    });
    assert!(HOMES * DEATHS <= acts, "too little happened to show anything: {acts} acts");
}

/// Gives the number of acts.
fn one_home(mut random: Random) -> u64 {
    let home = Home::new("");
    let victims = Victims::of(&home, &name());
    home.write_policy(&victims.policy());
    let mut first = victims.agent(&home, "");
    let staying: Vec<_> = (0..3).map(|number| victims.stays(&home, number)).collect();
    let failing: Vec<_> = (0..2).map(|number| victims.fails(&home, number)).collect();
    let mut struck = BTreeSet::new();
    let mut stuck = Vec::new();
    // A supervisor that finds no agent at its start looks for none later.
    first.wait("the first hook", |_| (!victims.hooks().is_empty()).then_some(()));
    assert!(staying.iter().all(|service| lives(service.child())));
    first.signal(Signal::KILL);
    first.end();
    for death in 0..DEATHS {
        let mut agent = victims.agent(&home, "");
        if death % 3 == 0 {
            stuck.push(victims.stuck());
        }
        let end = random.below(LIFE);
        pause(Duration::from_millis(random.below(end + 1)));
        strike_some(&staying, &mut struck, &mut random);
        pause(Duration::from_millis(end / 4));
        agent.signal(Signal::KILL);
        agent.end();
        Ledger::of(&home).assert_sound();
    }
    settle(&home, &victims, &staying);
    judge(&home, &victims, &staying, &failing, &struck)
}

/// Of the services that stay, some are killed, each life at most once.
fn strike_some(staying: &[Supervised], struck: &mut BTreeSet<u32>, random: &mut Random) {
    for service in staying.iter().filter(|_| random.below(4) != 0) {
        if let Some(child) = service.child_now().filter(|child| struck.insert(*child)) {
            signal_to(child, Signal::KILL);
        }
    }
}

/// A last agent takes over what is left, and ends in good order.
fn settle(home: &Home, victims: &Victims, staying: &[Supervised]) {
    let mut agent = victims.agent(home, "");
    assert_eq!(verify(home).0, Some(0), "{}", verify(home).1);
    agent
        .wait("all that stay", |_| staying.iter().all(|service| service.child_now().is_some()).then_some(()));
    agent.wait("the end of what is stuck", |_| victims.hears.pids().is_empty().then_some(()));
    // What fails for ever is never settled: nothing new is started from here on.
    assert!(home.healer(&["pause"]).status.success());
    // What was intended just before is on its way to the file.
    pause(Duration::from_millis(500));
    agent.wait("every result", |agent| Ledger::of(agent.home()).open().is_empty().then_some(()));
    agent.signal(Signal::TERM);
    agent.end();
}

fn judge(
    home: &Home,
    victims: &Victims,
    staying: &[Supervised],
    failing: &[Supervised],
    struck: &BTreeSet<u32>,
) -> u64 {
    let ledger = Ledger::of(home);
    ledger.assert_sound();
    assert_whole_and_a_cut_is_found(home);
    for (key, runs) in victims.hooks() {
        assert_eq!(runs, 1, "hook {key}");
        assert_eq!(ledger.actions.get(&key).map(String::as_str), Some("run_hook"), "{key}");
    }
    assert_eq!(ledger.open(), Vec::<&String>::new());
    for (pid, times) in victims.heard() {
        assert_eq!(times, 1, "SIGTERM to {pid}");
    }
    let mut started = 0;
    for service in staying {
        let all = victims.lives(service);
        started += all.len() - 1;
        let (last, before) = all.split_last().expect("it was started");
        assert_eq!(until("the last life", || service.child_now()), *last);
        let ended_by_us: Vec<_> = before.iter().filter(|pid| !struck.contains(pid)).collect();
        assert_eq!(
            ended_by_us,
            Vec::<&u32>::new(),
            "a living service was restarted: {all:?}, struck {struck:?}"
        );
    }
    for service in failing {
        let all = victims.lives(service);
        started += all.len() - 1;
        let living = all.iter().filter(|pid| lives(**pid)).count();
        assert!(living <= 1, "{living} lives at once");
    }
    let ordered = ledger.of_action("restart");
    assert!(started <= ordered, "{started} restarts by {ordered} intents");
    println!("{started} restarts, {} hooks, {} signals", victims.hooks().len(), victims.heard().len());
    (started + victims.hooks().len()) as u64
}
