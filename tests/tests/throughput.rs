//! How fast the engine decides, and that its memory has an end. Prints numbers; `--release` for those that count.

use std::{fs, time::Duration};

use healer_userspace::{
    clock,
    config::{self, Sources},
    engine::{
        Engine,
        command::{ActionOutcome, ActionResult, Command, JournalEntry, Recovered},
        detect,
        policy::PolicySet,
        time::BootTime,
    },
    identity::process::{Parent, Place, Process, ProcessId, WorkloadKey},
    signal::{Exit, Fact, Party, Registration, Signal, SignalSent},
};

const SIGNALS: usize = 100_000;
const PASSES: usize = 5;
/// The aim is a million; a debug build on a busy machine has a tenth of that.
const FLOOR_PER_SECOND: f64 = 20_000.0;

fn policies() -> PolicySet {
    match config::load(&Sources::default(), &detect::is_built) {
        Ok(loaded) => loaded.policies,
        Err(problems) => panic!("{problems}"),
    }
}

fn at(step: usize) -> BootTime {
    // A thousand a second: what a machine under a heavy load of forks gives.
    BootTime(1_000_000_000 + step as u64 * 1_000_000)
}

fn untracked(step: usize, program: usize) -> Process {
    let exe = format!("/usr/bin/tool{program}");
    Process {
        pid: 10_000 + step as u32,
        start: BootTime(at(step).0 - 150_000_000),
        comm: format!("tool{program}"),
        exe: Some(exe.clone()),
        args: vec![exe.clone(), "--quiet".into(), format!("job-{}", step % 50)],
        cgroup: "/user.slice".into(),
        parent: Some(Parent { pid: 77, start: BootTime(5), comm: "sh".into(), exe: Some("/bin/sh".into()) }),
        workload: WorkloadKey(format!("program/{exe}@/user.slice</bin/sh")),
        ..Process::default()
    }
}

fn supervised(name: usize, life: usize) -> Process {
    Process {
        pid: 5_000_000 + (name * 10_000 + life) as u32,
        start: at(life),
        comm: "web".into(),
        workload: WorkloadKey::supervise(&format!("web{name}")),
        main: true,
        place: Place { supervise: Some(format!("web{name}")), ..Place::default() },
        ..Process::default()
    }
}

fn ended(process: Process, step: usize, code: i32) -> Signal {
    let exit = Exit { code, ..Exit::default() };
    Signal { at: at(step), process: Some(process), fact: Fact::Exited(exit) }
}

fn registered(process: Process, step: usize) -> Signal {
    let registration = Registration {
        name: "web".into(),
        supervisor: ProcessId { pid: 4_000_000 + process.pid % 100, start: BootTime(7) },
        last_key: None,
        waiting: None,
    };
    Signal { at: at(step), process: Some(process), fact: Fact::Registered(registration) }
}

fn killed(process: Process, step: usize) -> Signal {
    let sender =
        Party { id: ProcessId { pid: 88, start: BootTime(6) }, comm: "kill".into(), ..Party::default() };
    let sent = SignalSent {
        signal: libc::SIGKILL,
        si_code: 0,
        sender: Some(sender),
        group: true,
        ignored: false,
        fault_address: 0,
    };
    Signal { at: at(step), process: Some(process), fact: Fact::SignalSent(sent) }
}

/// Of a hundred signals: 2 ends of supervised services, 2 successors, 20 signals, 76 ends that nobody waits for.
fn load(count: usize) -> Vec<Signal> {
    (0..count)
        .map(|step| match step % 100 {
            phase @ (0 | 50) => registered(supervised(phase % 7 + step / 100 % 40, step), step),
            phase @ (49 | 99) => {
                let step = step - 49;
                ended(supervised((phase - 49) % 7 + step / 100 % 40, step), step + 49, 1)
            }
            phase if phase % 5 == 1 => killed(untracked(step + 1, step % 30), step),
            phase if phase % 5 == 2 => {
                let exit = Exit { signal: Some(libc::SIGKILL), ..Exit::default() };
                let process = untracked(step, (step - 1) % 30);
                Signal { at: at(step), process: Some(process), fact: Fact::Exited(exit) }
            }
            _ => ended(untracked(step, step % 30), step, 1),
        })
        .collect()
}

/// As the agent's loop does it, with a host that does everything at once. Gives the number of reports.
fn run(engine: &mut Engine, signals: &[Signal]) -> usize {
    let mut reports = 0;
    // What one wake-up brings under load.
    for batch in signals.chunks(32) {
        for signal in batch {
            engine.observe(signal.at, signal);
            reports += drain(engine, signal.at);
        }
        let now = batch.last().map_or(at(0), |signal| signal.at);
        while engine.next_deadline().is_some_and(|due| due <= now) {
            engine.advance(now);
            reports += drain(engine, now);
        }
    }
    reports
}

fn drain(engine: &mut Engine, now: BootTime) -> usize {
    let mut reports = 0;
    loop {
        let mut worked = false;
        while let Some(entry) = engine.poll_journal() {
            worked = true;
            if let JournalEntry::Intent(intent) = entry {
                engine.committed(now, &intent.act.key);
            }
        }
        while let Some(command) = engine.poll_command() {
            worked = true;
            if let Command::Act(act) = command {
                let outcome = ActionOutcome::WouldDo { says: String::new() };
                engine.action_finished(now, ActionResult { key: act.key, outcome });
            }
        }
        while engine.poll_tracking().is_some() {}
        while engine.poll_report().is_some() {
            reports += 1;
        }
        if !worked {
            return reports;
        }
    }
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm(5)");
    pages * rustix::param::page_size() as u64
}

#[test]
fn signals_per_second() {
    let signals = load(SIGNALS);
    let mut rates: Vec<f64> = (0..PASSES)
        .map(|_| {
            let mut engine = Engine::new(at(0), policies(), Recovered::default());
            let begin = clock::boot();
            let reports = run(&mut engine, &signals);
            let took = clock::boot().since(begin);
            assert!(reports > 0, "a load in which services die has something to report");
            SIGNALS as f64 / took.as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let median = rates[PASSES / 2];
    println!("engine: {:.2} M signals/s (median of {PASSES} passes over {SIGNALS} signals)", median / 1e6);
    assert!(median > FLOOR_PER_SECOND, "{median} signals/s");
}

#[test]
fn a_hundred_thousand_short_lives_leave_no_trace() {
    let mut engine = Engine::new(at(0), policies(), Recovered::default());
    let mut plateau = Vec::new();
    for round in 0..10 {
        let signals: Vec<Signal> = (0..10_000)
            .map(|step| {
                let step = round * 10_000 + step;
                // Every one a program, a parent and a workload of its own: the worst for every table.
                let mut process = untracked(step, step);
                process.parent.as_mut().expect("it has one").pid = step as u32;
                ended(process, step, 1)
            })
            .collect();
        run(&mut engine, &signals);
        drop(signals);
        plateau.push(resident_bytes() >> 10);
    }
    println!("engine: KiB resident after each 10,000 of 100,000 short lives: {plateau:?}");
    let (half, full) = (plateau[4], plateau[9]);
    assert!(full < half + half / 5 + 4096, "it still grows: {plateau:?}");
    assert!(Duration::from_secs(100) <= at(100_000).since(at(0)));
}
