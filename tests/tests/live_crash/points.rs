//! The agent dies at each state of its journal, for a hook and for a signal. (Restarts: live_reconcile.)

use std::os::unix::process::ExitStatusExt as _;

use healer_tests::{
    home::{Home, is, until},
    supervised::name,
};

use crate::{Ledger, assert_whole_and_a_cut_is_found, number, victims::Victims};

/// The fail point, and whether the act had happened by then.
const POINTS: [(&str, usize); 3] = [("after_intent", 0), ("after_act", 1), ("before_result", 1)];

#[test]
fn a_hook_runs_at_most_once() {
    for (point, before) in POINTS {
        let home = Home::new("");
        let victims = Victims::of(&home, &name());
        home.write_policy(&victims.policy());
        let mut agent = victims.agent(&home, point);
        let service = victims.fails(&home, 0);
        assert_eq!(agent.end().signal(), Some(libc::SIGKILL), "{point}");
        let ledger = Ledger::of(&home);
        let key = ledger.actions.iter().find(|(_, action)| *action == "run_hook").map(|(key, _)| key.clone());
        let key = key.expect("the first rung is the hook");
        assert_eq!(victims.hooks().get(&key).copied().unwrap_or(0), before, "{point}");

        let mut agent = victims.agent(&home, "");
        let result = agent.record(&service.workload(), "result", &key);
        assert_eq!(result["outcome"], "unknown", "{point}: {result}");
        until("the service to be started again", || (2 <= victims.lives(&service).len()).then_some(()));
        assert_eq!(
            victims.hooks().get(&key).copied().unwrap_or(0),
            before,
            "{point}: {key} is not repeated:\n{}",
            agent.log()
        );
        drop(agent);
        Ledger::of(&home).assert_sound();
        assert_whole_and_a_cut_is_found(&home);
    }
}

#[test]
fn a_signal_is_sent_at_most_once_by_one_intent() {
    for (point, before) in POINTS {
        let home = Home::new("");
        let victims = Victims::of(&home, &name());
        home.write_policy(&victims.policy());
        let mut agent = victims.agent(&home, point);
        let mut stuck = victims.stuck();
        let pid = stuck.tgid().to_string();
        assert_eq!(agent.end().signal(), Some(libc::SIGKILL), "{point}");
        assert_eq!(victims.heard().get(&pid).copied().unwrap_or(0), before, "{point}");
        let ledger = Ledger::of(&home);
        let (key, action) = ledger.actions.first_key_value().expect("an intent");
        assert_eq!(action, "stop");

        let mut agent = victims.agent(&home, "");
        let result = agent.wait("its result", |agent| {
            agent.home().audit().into_iter().find(|found| is(found, "result", key))
        });
        assert_eq!(result["outcome"], "unknown", "{point}: {result}");
        // The next rung, or for one that had ended nothing.
        until("its end", || stuck.try_wait());
        assert_eq!(victims.heard().get(&pid).copied().unwrap_or(0), before, "{point}: it is not repeated");
        drop(agent);
        let of_target = home
            .audit()
            .into_iter()
            .filter(|found| found["record"] == "intent" && number(&found["target"], "pid") == stuck.tgid());
        let stops = of_target.filter(|found| found["action"] == "stop").count();
        assert_eq!(stops, 1, "{point}");
        Ledger::of(&home).assert_sound();
        assert_whole_and_a_cut_is_found(&home);
    }
}
