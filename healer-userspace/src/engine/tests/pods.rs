//! What ends in a pod: the kubelet knows what is to run again.

use super::*;
use crate::identity::process::Pod;

fn after_an_end_in_a_pod(exit: Exit, supervise: Option<&str>) -> Vec<String> {
    let mut set = policies(Mode::Enforce, &[ActionName::Restart]);
    set.policies[0].matches = Match { exes: vec!["/usr/sbin/nginx".into()], ..Match::default() };
    let mut migrate = served(10, SECOND, "pod/prod/web-0/migrate");
    migrate.main = true;
    migrate.place.pod = Some(Pod { namespace: "prod".into(), name: "web-0".into(), ..Pod::default() });
    migrate.place.supervise = supervise.map(str::to_owned);
    let mut signals = vec![signal(2 * SECOND, &migrate, Fact::Execed)];
    signals.push(signal(6 * SECOND, &migrate, Fact::Exited(exit)));
    let tick =
        Signal { at: BootTime(30 * SECOND), process: None, fact: Fact::Levels(LevelSnapshot::default()) };
    signals.push(tick);
    run(&signals, set)
}

#[test]
fn a_success_in_a_pod_is_the_kubelets_to_judge() {
    count(&after_an_end_in_a_pod(Exit::default(), None), "diagnosis down", 0);
    count(&after_an_end_in_a_pod(Exit { code: 1, ..Exit::default() }, None), "diagnosis down", 1);
    count(&after_an_end_in_a_pod(Exit::default(), Some("web")), "diagnosis down", 1);
}
