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
