use std::time::Duration;

use healer_common::event::{Event, syscall_error::SyscallError};
use healer_tests::{
    eye::Eye,
    ladder::{blind_by, kernel_with},
    scratch::Scratch,
    victim::{Victim, built},
};
use healer_userspace::{
    clock,
    sense::{Level, Settings, govern::Wish},
};

fn as_error(event: &Event) -> Option<&SyscallError> {
    if let Event::SyscallError(error) = event { Some(error) } else { None }
}

fn errors_of(eye: &Eye, tgid: u32) -> Vec<SyscallError> {
    let errors = eye.seen.iter().filter_map(|(_, event)| as_error(event));
    errors.filter(|error| error.task.tgid == tgid).copied().collect()
}

fn eye_on(level: Level, wish: Wish) -> Eye {
    let settings = Settings { syscall_errors: wish, ..kernel_with(level) };
    let mut eye = Eye::with(&settings, blind_by(level));
    // The governor measures first what its hook costs.
    eye.pause(Duration::from_millis(300));
    eye
}

fn first_of(eye: &mut Eye, tgid: u32) -> SyscallError {
    eye.wait_for(&format!("an error of {tgid}"), |_, event| {
        as_error(event).filter(|error| error.task.tgid == tgid).copied()
    })
}

#[test]
fn every_rung_tells_the_first_at_once_and_then_a_running_count() {
    let dir = Scratch::new();
    let program = built(&dir, "exhausts");
    for level in [Level::TpBtf, Level::RawTp, Level::Tracepoint] {
        let mut eye = eye_on(level, Wish::Full);
        let twin = Victim::start(&program, &["healthy"]);
        let victim = Victim::start(&program, &["fds"]);
        let first = first_of(&mut eye, victim.tgid());
        assert_eq!((first.errno, first.count), (libc::EMFILE.cast_unsigned(), 1), "{level:?}");
        assert_eq!(i64::from(first.syscall), libc::SYS_openat, "{level:?}");
        assert_eq!(first.task.comm(), b"exhausts");
        assert_eq!(first.task.start_boot_ns != 0, level != Level::Tracepoint);
        let begun = clock::boot();
        let all = loop {
            eye.pause(Duration::from_millis(300));
            let all = errors_of(&eye, victim.tgid());
            let waited = clock::boot().since(begun);
            if 3 <= all.len() {
                let most = 3 + waited.as_millis() / 150;
                assert!(all.len() as u128 <= most, "{level:?}: {} records in {waited:?}", all.len());
                break all;
            }
            assert!(waited < Duration::from_secs(10), "{level:?}: {all:?}");
        };
        assert!(all.windows(2).all(|two| two[0].count < two[1].count), "{level:?}: {all:?}");
        assert_eq!(errors_of(&eye, twin.tgid()), [], "{level:?}: not found and would block are no errors");
    }
}

#[test]
fn a_slice_of_each_second_sees_what_goes_on() {
    let dir = Scratch::new();
    let mut eye = eye_on(Level::TpBtf, Wish::Sampled);
    let victim = Victim::start(built(&dir, "exhausts"), &["fds"]);
    first_of(&mut eye, victim.tgid());
}

#[test]
fn off_is_off() {
    let dir = Scratch::new();
    let mut eye = eye_on(Level::TpBtf, Wish::Off);
    let victim = Victim::start(built(&dir, "exhausts"), &["fds"]);
    eye.pause(Duration::from_millis(1500));
    assert_eq!(errors_of(&eye, victim.tgid()), []);
}
