//! `expect.listen` of who lives on: it never listened, or does not any more.

use super::*;
use crate::{
    engine::policy::{Port, Probe, ProbeAsk, Protocol},
    signal::work::{Asked, Probed},
};

fn wanted(mode: Mode) -> PolicySet {
    let mut set = policies(mode, &[ActionName::Restart]);
    set.policies[0].rules[0].when[0].class = Class::ProbeFailed;
    set.policies[0].expect.listen = vec![Port { number: 8080, protocol: Protocol::Tcp }];
    set
}

fn answer(second: u64, asked: Asked, ok: bool) -> Signal {
    let (what, says) = ("listens on 8080/tcp".to_owned(), "not on 8080/tcp".to_owned());
    let probed = Probed { ok, asked, what, says, ..Probed::default() };
    signal(second * SECOND, &supervised(10, SECOND), Fact::Probed(probed))
}

/// Second, and whether it listened then.
fn looks(set: PolicySet, looks: &[(u64, bool)]) -> Vec<String> {
    let looks = looks.iter().map(|(second, ok)| answer(*second, Asked::Listen, *ok));
    let signals: Vec<Signal> =
        [registered(2 * SECOND, &supervised(10, SECOND))].into_iter().chain(looks).collect();
    run(&signals, set)
}

#[test]
fn who_lives_and_does_not_listen_is_restarted() {
    let lines = looks(wanted(Mode::Enforce), &[(70, false), (80, false), (90, false)]);
    has(&lines, "diagnosis probe_failed proved: ");
    has(&lines, "did not listen 3 times in a row over 20.0s: listens on 8080/tcp: not on 8080/tcp");
    has(&lines, "result done");
    let lines = looks(wanted(Mode::Enforce), &[(70, false), (80, false), (90, true), (100, false)]);
    count(&lines, "diagnosis", 0);
}

#[test]
fn who_starts_has_time_until_it_has_listened_once() {
    let starts = looks(wanted(Mode::Enforce), &[(20, false), (30, false), (40, false), (50, true)]);
    count(&starts, "diagnosis", 0);
    let stops = looks(wanted(Mode::Enforce), &[(20, true), (30, false), (40, false), (50, false)]);
    has(&stops, "diagnosis probe_failed");
}

#[test]
fn without_ports_in_the_policy_nobody_listens_in_vain() {
    let mut set = wanted(Mode::Enforce);
    set.policies[0].expect.listen.clear();
    count(&looks(set, &[(70, false), (80, false), (90, false)]), "diagnosis", 0);
}

/// A probe of the policy's own that is answered all the time.
fn answered_meanwhile(listens_at_last: bool) -> Vec<String> {
    let mut set = wanted(Mode::Shadow);
    let probe = Probe::each_second(ProbeAsk::Tcp { port: 1 });
    set.policies[0].expect.probe = Some(Probe { period: Duration::from_secs(5), failures: 3, ..probe });
    let mut signals = vec![registered(2 * SECOND, &supervised(10, SECOND))];
    for second in [70, 80, 90] {
        signals.push(answer(second, Asked::Listen, false));
        signals.push(answer(second + 1, Asked::Probe, true));
    }
    signals.push(answer(100, Asked::Listen, listens_at_last));
    run(&signals, set)
}

#[test]
fn an_answered_probe_does_not_hide_a_lost_listener() {
    let lines = answered_meanwhile(false);
    count(&lines, "diagnosis probe_failed", 1);
    has(&lines, "score stayed_sick");
    has(&answered_meanwhile(true), "score recovered_alone");
}
