//! How sure a death is depends on who told of it.

use super::*;
use crate::signal::{OomKill, OomScope, Party, SeenBy};

fn told(seen_by: SeenBy, exit: Exit) -> Vec<String> {
    let web = supervised(10, SECOND);
    let end = Fact::Exited(Exit { seen_by, ..exit });
    run(&[registered(2 * SECOND, &web), signal(8 * SECOND, &web, end)], PolicySet::default())
}

#[test]
fn a_status_that_was_only_concluded_makes_a_crash_probable() {
    let segv = Exit { signal: Some(libc::SIGSEGV), ..Exit::default() };
    let failed = Exit { code: 3, ..Exit::default() };
    for seen_by in [SeenBy::Kernel, SeenBy::Supervisor, SeenBy::Poll, SeenBy::Connector] {
        for exit in [segv, failed] {
            has(&told(seen_by, exit), "diagnosis crash proved: web[10]");
        }
    }
    has(&told(SeenBy::Inferred, segv), "diagnosis crash probable: web[10] of web crashed with SIGSEGV");
    count(&told(SeenBy::NoStatus, Exit::default()), "diagnosis crash", 0);
}

#[test]
fn a_guessed_scope_is_told_as_what_was_seen_and_not_as_the_cause() {
    let web = supervised(10, SECOND);
    let oom = |is_scope_guessed| {
        let kill = OomKill {
            scope: OomScope::Memcg,
            is_scope_guessed,
            trigger: Party { comm: "leak".into(), ..Party::default() },
            memcg: "/web".into(),
            usage: 64 << 20,
            limit: 64 << 20,
        };
        let oom = signal(8 * SECOND - 1, &web, Fact::OomKilled(kill));
        run(&[registered(2 * SECOND, &web), oom, killed(8 * SECOND, &web)], PolicySet::default())
    };
    has(&oom(false), "oom_kill proved: web[10] of web OOM-killed because its memory cgroup");
    let guessed = oom(true);
    has(
        &guessed,
        "oom_kill proved: web[10] of web OOM-killed (whether for its cgroup or for the node was not told)",
    );
    has(
        &guessed,
        "leak[0] (uid 0) asked for more and its memory cgroup was at its limit (64.0 MiB of 64.0 MiB used)",
    );
    count(&guessed, "because its memory cgroup", 0);
}

/// As Python, Ruby, node and timeout(1) do it.
#[test]
fn who_hands_a_signal_on_to_itself_was_ended_by_the_first() {
    let web = supervised(10, SECOND);
    let sent = |at, by: ProcessId, comm: &str| {
        let sender = Some(Party { id: by, comm: comm.into(), ..Party::default() });
        signal(
            at,
            &web,
            Fact::SignalSent(SignalSent { signal: libc::SIGTERM, sender, ..SignalSent::default() }),
        )
    };
    let stranger = ProcessId { pid: 77, start: BootTime(5) };
    let end = || {
        let exit = Exit { signal: Some(libc::SIGTERM), ..Exit::default() };
        [sent(60 * SECOND, web.id(), "web"), signal(60 * SECOND + 1, &web, Fact::Exited(exit))]
    };
    let after = |first: Vec<Signal>| {
        let signals: Vec<_> = [registered(2 * SECOND, &web)].into_iter().chain(first).chain(end()).collect();
        run(&signals, policies(Mode::Enforce, &[ActionName::Restart]))
    };
    has(&after(vec![sent(55 * SECOND, stranger, "bash")]), "web[10] killed by SIGTERM from bash[77]");
    for nobody in [vec![], vec![sent(5 * SECOND, stranger, "bash")]] {
        has(&after(nobody), "web[10] ended itself with SIGTERM");
    }
}
