//! What the kernel program tells of the sender's call: whom it named.

use healer_common::event::signal_sent::SignalSent;
use healer_tests::{
    eye::Eye,
    scratch::Scratch,
    victim::{Victim, compile},
};

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
const AIMS: u32 = SignalSent::TO_ONE
    | SignalSent::TO_PROCESS_GROUP
    | SignalSent::TO_EVERYBODY
    | SignalSent::NO_INFO
    | SignalSent::ENDING
    | SignalSent::THREAD_ENDING;

/// `argv[1]` says how the parent strikes its child, which waits for ever in a group of its own.
const STRIKES: &str = r#"
    #define _GNU_SOURCE
    #include <pthread.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <sys/wait.h>
    #include <unistd.h>
    static void strike(const char *how, pid_t child) {
        if (!strcmp(how, "kill")) kill(child, SIGKILL);
        if (!strcmp(how, "group")) kill(-child, SIGKILL);
        if (!strcmp(how, "thread")) syscall(SYS_tgkill, child, child, SIGKILL);
        if (!strcmp(how, "queue")) sigqueue(child, SIGKILL, (union sigval){0});
        if (!strcmp(how, "pidfd")) {
            int fd = syscall(SYS_pidfd_open, child, 0);
            syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0);
        }
        if (!strcmp(how, "everybody")) kill(-1, SIGKILL);
    }
    static void *starts(void *how) {
        int ready[2];
        char byte;
        pipe(ready);
        if (!fork()) {
            setpgid(0, 0);
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            write(ready[1], "", 1);
            alarm(20);
            for (;;) pause();
        }
        read(ready[0], &byte, 1);
        return how;
    }
    int main(int argc, char **argv) {
        const char *how = argv[1];
        if (!strcmp(how, "starter")) {
            pthread_t t;
            pthread_create(&t, 0, starts, 0);
            pthread_join(t, 0);
            wait(0);
            return 0;
        }
        if (!strcmp(how, "everybody")) {
            /* As PID 1 of a namespace: there, everybody is its children. */
            if (unshare(CLONE_NEWPID)) return 9;
            pid_t init = fork();
            if (init) { waitpid(init, 0, 0); return 0; }
        }
        pid_t child = fork();
        if (!child) {
            setpgid(0, 0);
            if (!strcmp(how, "parent")) prctl(PR_SET_PDEATHSIG, SIGTERM);
            alarm(20);
            for (;;) pause();
        }
        usleep(100000);
        strike(how, child);
        if (strcmp(how, "parent")) waitpid(child, 0, 0);
        return 0;
    }"#;

#[test]
fn every_way_to_strike_is_told_apart() {
    let mut eye = Eye::open();
    let dir = Scratch::new();
    let program = compile(&dir, "strikes", STRIKES);
    for (how, signal, aim, is_group) in [
        ("kill", SIGKILL, SignalSent::TO_ONE, true),
        ("group", SIGKILL, SignalSent::TO_PROCESS_GROUP, true),
        ("thread", SIGKILL, SignalSent::TO_ONE, false),
        ("queue", SIGKILL, SignalSent::TO_ONE, true),
        ("pidfd", SIGKILL, SignalSent::TO_ONE, true),
        ("everybody", SIGKILL, SignalSent::TO_EVERYBODY, true),
        ("parent", SIGTERM, SignalSent::NO_INFO | SignalSent::ENDING, true),
        ("starter", SIGTERM, SignalSent::NO_INFO | SignalSent::THREAD_ENDING, true),
    ] {
        let mut parent = Victim::start(&program, &[how]);
        let sender = parent.tgid();
        eye.watch_end(&mut parent);
        let sent = eye.wait_for(how, |_, event| {
            healer_tests::eye::as_signal(event)
                .filter(|sent| sent.target.comm() == b"strikes" && sent.signal == signal)
                .filter(|sent| sent.sender.tgid == sender || how == "everybody")
                .copied()
        });
        assert_eq!(sent.flags & AIMS, aim, "{how}: flags {:#x}", sent.flags);
        assert_eq!(sent.flags & SignalSent::GROUP != 0, is_group, "{how}");
        assert_eq!(sent.target_pgid, sent.target.tgid, "{how}: it leads its own group");
        eye.seen.clear();
    }
}
