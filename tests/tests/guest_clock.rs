//! The wall clock jumps, as on a node that hears of its time server late. Only a guest's may be set.
//!
//! one guest: all

use std::path::Path;

use healer_tests::{
    home::{Agent, Home, count, signal_to},
    policies::restarting,
    supervised::{Supervised, name},
};
use rustix::{
    process::Signal,
    time::{ClockId, Timespec, clock_gettime, clock_settime},
};

const DAY: i64 = 24 * 60 * 60;

fn jump(days: i64) {
    let is_guest = Path::new("/t/plan").exists();
    assert!(is_guest, "this test sets the clock: `cargo xtask test --vm 6.12-cloud` runs it in a guest");
    let now = clock_gettime(ClockId::Realtime);
    let then = Timespec { tv_sec: now.tv_sec + days * DAY, ..now };
    clock_settime(ClockId::Realtime, then).expect("root of a guest may set its clock");
}

/// Killed, and healed as often as that by then.
fn heals(agent: &mut Agent<'_>, service: &Supervised, times: usize) {
    signal_to(service.child(), Signal::KILL);
    let workload = service.workload();
    agent.wait("one more is healed", |agent| {
        let records = agent.home().of(&workload);
        (count(&records, "closed", "\"outcome\":\"healed\"") == times).then_some(())
    });
    let records = agent.home().of(&workload);
    assert_eq!(count(&records, "intent", "restart"), times, "{}", agent.log());
    assert_eq!(count(&records, "result", "\"outcome\":\"done\""), times);
}

#[test]
fn healing_goes_on_whatever_the_wall_clock_says() {
    let name = name();
    let home = Home::new(&restarting(&name));
    let mut agent = home.agent();
    let service = Supervised::start(&home, &name, &["sleep", "1000"]);
    heals(&mut agent, &service, 1);
    jump(400);
    heals(&mut agent, &service, 2);
    jump(-800);
    heals(&mut agent, &service, 3);

    // What the journal says of another time is of this boot all the same.
    agent.signal(Signal::KILL);
    agent.end();
    jump(400);
    let mut next = home.agent();
    heals(&mut next, &service, 4);
    let verified = home.healer(&["audit", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    let told = home.healer(&["incidents"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.matches("healed").count(), 4, "{told}");
}
