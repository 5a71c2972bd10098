//! Healthy processes that work hard, or fail in a way that is an answer.

use core::time::Duration;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
};

use super::{End, Fault};
use crate::clock;

pub(super) const BATCH: Fault =
    healthy("batch", "healthy: a job that computes all the time", End::Status(0), batch);
pub(super) const FORKS: Fault =
    healthy("short-children", "healthy: a build that starts many short children", End::Status(0), forks);
pub(super) const FAILING_TESTS: Fault = healthy(
    "failing-tests",
    "healthy: a test runner whose different children fail now and then",
    End::Status(0),
    failing_tests,
);
pub(super) const WAITS_FOR: Fault =
    healthy("waits-for", "healthy: a shell that asks until the answer is yes", End::Status(0), waits_for);
pub(super) const CLEANS: Fault =
    healthy("temp-files", "healthy: writes files and removes them", End::Status(0), cleans);
pub(super) const ANSWERS: Fault =
    healthy("slow-answers", "healthy: a server that takes its time, and its client", End::Status(0), answers);
pub(super) const CATCHES: Fault = healthy(
    "catches-faults",
    "healthy: handles its own SIGSEGV, as runtimes with guard pages do",
    End::Status(0),
    catches,
);
pub(super) const THREADS: Fault =
    healthy("short-threads", "healthy: starts and joins threads all the time", End::Status(0), threads);
pub(super) const TERMINATED: Fault = healthy(
    "terminated",
    "healthy: somebody asks it to stop by SIGTERM, and it does",
    End::Signal(libc::SIGTERM),
    terminated,
);

const WHILE: Duration = Duration::from_secs(4);

const fn healthy(name: &'static str, does: &'static str, end: End, child: fn() -> u8) -> Fault {
    Fault::healthy(name, does, end, child).lasting(15)
}

fn until_over(mut turn: impl FnMut()) {
    let began = clock::boot();
    while clock::boot().since(began) < WHILE {
        turn();
    }
}

fn batch() -> u8 {
    let mut sum = 0_u64;
    until_over(|| {
        for _step in 0..1 << 16 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
    });
    0
}

fn forks() -> u8 {
    until_over(|| {
        Command::new("/bin/true").status().ok();
        thread::sleep(Duration::from_millis(10));
    });
    0
}

fn failing_tests() -> u8 {
    for test in 0..20 {
        let words = format!("exit {}", test % 2);
        Command::new("/bin/sh").args(["-c", &words, &format!("test-{test}")]).status().ok();
        thread::sleep(Duration::from_millis(100));
    }
    0
}

fn waits_for() -> u8 {
    let script = "n=0; until [ $n -ge 12 ] && /bin/true; do n=$((n + 1)); /bin/false; sleep 0.2; done";
    let done = Command::new("/bin/sh").args(["-c", script]).status();
    u8::from(!done.is_ok_and(|status| status.success()))
}

fn cleans() -> u8 {
    let name = format!("/tmp/healer-fault-{}-file", std::process::id());
    until_over(|| {
        fs::write(&name, [7; 64 << 10]).ok();
        fs::remove_file(&name).ok();
        thread::sleep(Duration::from_millis(20));
    });
    0
}

/// Half a second for each of eight answers.
fn answers() -> u8 {
    const ANSWERS: usize = 8;
    let Ok(server) = TcpListener::bind("127.0.0.1:0") else { return 2 };
    let Ok(address) = server.local_addr() else { return 2 };
    let serve = move || {
        for mut stream in server.incoming().take(ANSWERS).flatten() {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok();
            thread::sleep(Duration::from_millis(500));
            stream.write_all(&byte).ok();
        }
    };
    let server = thread::spawn(serve);
    let asked = (0..ANSWERS).all(|_| {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])
        });
        answer.is_ok()
    });
    server.join().ok();
    u8::from(!asked)
}

fn catches() -> u8 {
    extern "C" fn skip(_signal: libc::c_int) {}
    // SAFETY: the handler does nothing, and the signal is sent by us: there is no faulting instruction to come back to.
    unsafe {
        libc::signal(libc::SIGSEGV, skip as *const () as libc::sighandler_t);
        for _time in 0..20 {
            libc::raise(libc::SIGSEGV);
            thread::sleep(Duration::from_millis(100));
        }
    }
    0
}

fn threads() -> u8 {
    until_over(|| {
        let many: Vec<_> =
            (0..8).map(|_| thread::spawn(|| thread::sleep(Duration::from_millis(5)))).collect();
        many.into_iter().for_each(|one| drop(one.join()));
    });
    0
}

/// By a child, so that it comes from another process.
fn terminated() -> u8 {
    let own = std::process::id();
    Command::new("/bin/sh").args(["-c", &format!("kill -TERM {own}")]).status().ok();
    thread::sleep(WHILE);
    1
}
