//! Between the decision and the blow the target dies and its pid goes to somebody else: nobody is struck.

use std::path::Path;

use healer_tests::{
    home::{Home, is, pause, signal_to},
    policies::policy,
    supervised::lives,
    victim::{Victim, compile},
};
use rustix::process::Signal;

use crate::stop::STUCK;

/// A process of `program` that has exactly this pid (clone3(2), `set_tid`); killed and reaped on drop.
struct Recycled(u32);

impl Recycled {
    /// # Panics
    /// If the kernel refuses: the test needs root (CAP_SYS_ADMIN) and a pid that is free.
    fn start(pid: u32, program: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::ffi::CString::new(program.as_os_str().as_bytes()).expect("a path has no NUL");
        let mut words = [path.as_ptr(), c"hears".as_ptr(), c"well".as_ptr(), core::ptr::null()];
        let wanted = [pid.cast_signed()];
        let mut clone = libc::clone_args {
            flags: 0,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: libc::SIGCHLD as u64,
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: wanted.as_ptr() as u64,
            set_tid_size: 1,
            cgroup: 0,
        };
        // SAFETY: as fork(2): without CLONE_VM the child has its own memory, and calls only execv and _exit.
        let child = unsafe {
            let child = libc::syscall(libc::SYS_clone3, &raw mut clone, size_of::<libc::clone_args>());
            if child == 0 {
                libc::execv(path.as_ptr(), words.as_mut_ptr());
                libc::_exit(127);
            }
            child
        };
        assert_eq!(child, i64::from(pid), "{}", std::io::Error::last_os_error());
        Self(pid)
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        if lives(self.0) {
            signal_to(self.0, Signal::KILL);
        }
        // SAFETY: waitpid(2) for our own child; no status is asked for.
        unsafe { libc::waitpid(self.0.cast_signed(), core::ptr::null_mut(), 0) };
    }
}

const RULES: &str = "
  rules:
    - name: stuck
      when: [{class: deadlock}]
      escalate: [{do: DO, timeout: 20s}, {do: notify}]
";

fn nobody_is_struck(action: &str) {
    let home = Home::new("");
    let program = compile(home.scratch(), "stuck", STUCK).canonicalize().expect("it was just built");
    let path = program.display().to_string();
    home.write_policy(&policy("enforce", &format!("exe: {path}"), &RULES.replace("DO", action)));
    let mut agent = home.agent_with_fail_point("after_intent:stop");
    let mut stuck = Victim::start(&program, &[]);
    let pid = stuck.tgid();
    agent.wait("the stop", |agent| agent.log().contains("AfterIntent").then_some(()));
    signal_to(pid, Signal::KILL);
    stuck.wait();
    let other = Recycled::start(pid, &program);
    agent.signal(Signal::CONT);
    let refusal = agent.wait("the refusal", |agent| {
        agent
            .home()
            .audit()
            .into_iter()
            .find(|found| is(found, "gate", "\"refuse\"") && found["gate"] == "second_look")
    });
    let reason = refusal["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(&format!("pid {pid}")), "{refusal}");
    pause(core::time::Duration::from_millis(500));
    assert!(lives(other.0), "{}", agent.log());
    let results: Vec<_> = home.audit().into_iter().filter(|found| is(found, "result", "done")).collect();
    assert_eq!(results, Vec::<serde_json::Value>::new());
}

#[test]
fn a_pid_that_was_given_away_is_not_stopped() {
    nobody_is_struck("stop");
}

#[test]
fn a_pid_that_was_given_away_is_not_killed() {
    nobody_is_struck("kill");
}
