//! A hog that does not listen: SIGKILL follows at once, because the kernel said that the signal is ignored.

use core::time::Duration;

use healer_tests::{
    home::{Home, pause, signal_to, until},
    policies::policy,
    victim::{Victim, compile},
};
use healer_userspace::{
    clock,
    supervise::child::{Disposition, disposition},
};
use rustix::process::Signal;

/// Two threads that wait for each other for ever; deaf to SIGTERM if `argv[1]` says so. Holds 32 MiB.
pub(crate) const STUCK: &str = r#"
    #include <pthread.h>
    #include <signal.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
    static void *cross(void *arg) {
        pthread_mutex_lock(&b); usleep(300000); pthread_mutex_lock(&a); return arg;
    }
    int main(int argc, char **argv) {
        if (argc > 1 && !strcmp(argv[1], "deaf")) signal(SIGTERM, SIG_IGN);
        memset(malloc(32 << 20), 1, 32 << 20);
        if (argc > 2) for (;;) pause();
        pthread_t t;
        pthread_create(&t, 0, cross, 0);
        pthread_mutex_lock(&a); usleep(300000); pthread_mutex_lock(&b);
    }"#;

/// Longer than any test waits.
const GRACE: &str = "
  rules:
    - name: stuck
      when: [{class: deadlock}]
      escalate: [{do: stop, grace: 5m, timeout: 10m}, {do: notify}]
";

#[test]
fn a_deaf_one_is_killed_without_the_grace() {
    let home = Home::new("");
    let program = compile(home.scratch(), "stuck", STUCK);
    let path = program.canonicalize().expect("it was just built").display().to_string();
    home.write_policy(&policy("enforce", &format!("exe: {path}"), GRACE));
    let mut agent = home.agent();
    // Twin: as deaf, as big, and at work.
    let mut twin = Victim::start(&path, &["deaf", "well"]);
    let mut deaf = Victim::start(&path, &["deaf"]);
    until("it is deaf", || {
        (disposition(deaf.tgid(), libc::SIGTERM) == Some(Disposition::Ignored)).then_some(())
    });
    signal_to(deaf.tgid(), Signal::TERM);
    let began = clock::boot();
    let part = format!("pid {} (stuck) ignores SIGTERM: SIGKILL at once", deaf.tgid());
    agent.wait("the result", |agent| {
        agent.home().audit().into_iter().find(|found| healer_tests::home::is(found, "result", &part))
    });
    assert!(clock::boot().since(began) < Duration::from_secs(60), "the grace was 5 minutes");
    assert_eq!(deaf.wait() & 0x7f, 9);
    pause(Duration::from_millis(500));
    assert!(twin.try_wait().is_none(), "{}", agent.log());
}
