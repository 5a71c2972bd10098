//! A restart after a disk has become read-only: whether that helped, the mount tells.

use super::*;
use crate::signal::{Answer, syscall_error::File};

/// Fails to write to `device` at 8 s, is restarted, and the successor writes nothing. Answers come at these tenths of a
/// second.
fn restarted(errno: i32, device: &str, answers: &[(u64, Option<bool>)]) -> Vec<String> {
    restarted_by(&[(80, errno)], device, answers, |_| {})
}

/// The same with an errno at each of these tenths of a second.
fn restarted_by(
    errors: &[(u64, i32)],
    device: &str,
    answers: &[(u64, Option<bool>)],
    change: impl FnOnce(&mut Policy),
) -> Vec<String> {
    let (old, new) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let mut signals = vec![registered(2 * SECOND, &old)];
    let errors = errors.iter();
    signals.extend(errors.map(|(tenths, errno)| fails(*tenths, &old, *errno, ("/data", device))));
    cured(signals, (&old, &new), answers, change)
}

/// A write to a file on that mount and device fails.
fn fails(tenths: u64, who: &Process, errno: i32, (mount, device): (&str, &str)) -> Signal {
    let file = File {
        path: format!("{mount}/log"),
        mount: mount.into(),
        filesystem: "ext4".into(),
        device: device.into(),
        stored: true,
        ..File::default()
    };
    let (call, file) = ("write".into(), Some(file));
    let error = SyscallError { call, errno, count: 1, file, ..SyscallError::default() };
    signal(tenths * SECOND / 10, who, Fact::SyscallError(Box::new(error)))
}

fn cured(
    mut signals: Vec<Signal>,
    (old, new): (&Process, &Process),
    answers: &[(u64, Option<bool>)],
    change: impl FnOnce(&mut Policy),
) -> Vec<String> {
    signals.extend([killed(8 * SECOND + SECOND / 2, old), registered(9 * SECOND, new)]);
    signals.extend(answers.iter().map(|(tenths, told)| {
        let fact = Fact::Answered { question: 0, answer: Answer::ReadOnly(*told) };
        signal(tenths * SECOND / 10, new, fact)
    }));
    let mut set = policies(Mode::Enforce, &[ActionName::Restart, ActionName::Notify]);
    let policy = &mut set.policies[0];
    policy.rules[0].when[0].class = Class::IoError;
    policy.verify = Verify { within: Duration::from_secs(8), ..policy.verify.clone() };
    change(policy);
    run(&signals, set)
}

#[test]
fn a_successor_on_a_disk_that_is_still_read_only_is_no_cure() {
    let still = [(145, Some(true)), (158, Some(true)), (170, Some(true))];
    let lines = restarted(libc::EROFS, "8:17", &still);
    has(&lines, "verification unchanged: /data (8:17) is still read-only");
    count(&lines, "verification healed", 0);
    has(&lines, "closed unchanged: no rung of the ladder healed it: /data (8:17) is still read-only");
}

#[test]
fn one_that_can_be_written_again_is_a_cure_also_if_that_took_a_moment() {
    has(&restarted(libc::EROFS, "8:17", &[(145, Some(false))]), "verification healed: web[11] has lived");
    let repaired = [(145, Some(true)), (158, Some(false))];
    has(&restarted(libc::EROFS, "8:17", &repaired), "verification healed: web[11] has lived");
}

#[test]
fn where_nobody_can_tell_no_cure_is_claimed() {
    let says = "verification unknown: whether /data (8:17) can be written again is not known";
    has(&restarted(libc::EROFS, "8:17", &[]), says);
    has(&restarted(libc::EROFS, "8:17", &[(145, None)]), says);
}

#[test]
fn what_is_not_about_a_read_only_disk_is_verified_as_before() {
    has(&restarted(libc::EIO, "8:17", &[]), "verification healed: web[11] has lived");
    has(&restarted(libc::EROFS, "", &[]), "verification healed: web[11] has lived");
}

/// What ext4 does with `errors=remount-ro`.
#[test]
fn a_disk_that_fails_first_and_is_read_only_then_is_asked_about() {
    let errors = [(80, libc::EIO), (82, libc::EROFS)];
    let answers = [(145, Some(true)), (158, Some(true)), (170, Some(true))];
    let waits = |policy: &mut Policy| policy.rules[0].when[0].hold = Some(Duration::from_millis(300));
    for lines in
        [restarted_by(&errors, "8:17", &answers, |_| {}), restarted_by(&errors, "8:17", &answers, waits)]
    {
        has(&lines, "remounted read-only");
        has(&lines, "verification unchanged: /data (8:17) is still read-only");
        count(&lines, "verification healed", 0);
    }
    let repaired = restarted_by(&errors, "8:17", &[(145, Some(false))], |_| {});
    has(&repaired, "verification healed: web[11] has lived");
    let twice = restarted_by(&[(80, libc::EIO), (82, libc::EIO)], "8:17", &[], |_| {});
    has(&twice, "verification healed: web[11] has lived");
}

#[test]
fn a_question_that_was_lost_is_asked_again_and_where_nobody_ever_answers_no_cure_is_claimed() {
    let longer = |policy: &mut Policy| policy.verify.within = Duration::from_secs(12);
    let error = [(80, libc::EROFS)];
    let lines = restarted_by(&error, "8:17", &[(165, Some(false))], longer);
    has(&lines, "verification healed: web[11] has lived");
    let lines = restarted_by(&error, "8:17", &[(165, Some(true)), (175, Some(true))], longer);
    count(&lines, "verification healed", 0);
    let says = "verification unknown: whether /data (8:17) can be written again is not known";
    has(&restarted_by(&error, "8:17", &[], longer), says);
}

/// Of two disks of one process, of which the second fails 0.2 s after the first; both are told.
fn of_two_disks(answers: &[(u64, Option<bool>)]) -> Vec<String> {
    let (old, new) = (supervised(10, SECOND), supervised(11, 9 * SECOND));
    let signals = vec![
        registered(2 * SECOND, &old),
        fails(80, &old, libc::EROFS, ("/data", "8:17")),
        fails(82, &old, libc::EROFS, ("/spool", "8:33")),
    ];
    let lines = cured(signals, (&old, &new), answers, |_| {});
    count(&lines, "diagnosis io_error", 2);
    has(&lines, "; /data (ext4) is read-only as well");
    count(&lines, "intent restart", 1);
    lines
}

#[test]
fn of_two_disks_the_second_is_asked_about_as_well() {
    // Asked one after the other: the first one can be written each time.
    let first = (145, Some(false));
    let still = [first, (147, Some(true)), (158, Some(true)), (170, Some(true))];
    let lines = of_two_disks(&still);
    has(&lines, "verification unchanged: /spool (8:33) is still read-only");
    count(&lines, "verification healed", 0);
    has(&of_two_disks(&[first, (147, Some(false))]), "verification healed: web[11] has lived");
    let lines = of_two_disks(&[first]);
    has(&lines, "verification unknown: whether /spool (8:33) can be written again is not known");
    let lines = of_two_disks(&[(145, Some(true)), (158, Some(true)), (170, Some(true))]);
    has(&lines, "verification unchanged: /data (8:17) is still read-only");
}
