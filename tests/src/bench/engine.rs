//! Signals through the engine, in memory, on one core, by CPU time.

use healer_userspace::{
    config::{self, Sources},
    engine::{Engine, command::Recovered, detect, time::BootTime},
    identity::process::{Parent, Process, WorkloadKey},
    signal::{Exit, Fact, Party, Signal, SignalSent, network::PeerCounts},
};

use super::{args::Args, figure::Figure, meter, say};

const PROGRAMS: u32 = 200;
const CLIENTS: u32 = 1000;
const START: BootTime = BootTime(1_000_000_000_000);

/// # Errors
/// The default policies do not load.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    say("engine: signals");
    let count = if args.quick { 200_000 } else { 1_000_000 };
    let mut figures = Vec::new();
    for (name, make) in MIXES {
        let says = format!("{count} signals of as many processes, {PROGRAMS} programs, default policy");
        let figure = Figure::new(&format!("engine: {name}"), rate(count, *make, &[])?, "signals/s");
        figures.push(figure.at_least(1e6).remark(says));
    }
    let beside = rate(count, failed, &clients())?;
    figures.push(
        Figure::new("engine: failed ends beside clients of the network", beside, "signals/s")
            .at_least(1e6)
            .remark(format!("{CLIENTS} clients, each with a peer; who ends is none of them")),
    );
    figures.push(
        Figure::new("engine: every process dies of SIGSEGV", rate(count / 10, crashed, &[])?, "signals/s")
            .remark("each is a diagnosis with its certificate, an incident and its end".to_owned()),
    );
    Ok(figures)
}

type Make = fn(u32) -> Fact;

/// What arrives on a busy node: ends that are nobody's business, and the signals before them.
const MIXES: &[(&str, Make)] = &[
    ("failed ends of untracked processes", failed),
    ("SIGTERM to untracked processes", told),
    ("the same, one in 1,000 dies of SIGSEGV", sometimes_crashed),
    ("starts of programs that somebody waits for", started),
];

fn failed(_number: u32) -> Fact {
    Fact::Exited(Exit { code: 1, ..Exit::default() })
}

fn started(_number: u32) -> Fact {
    Fact::Execed
}

fn crashed(_number: u32) -> Fact {
    Fact::Exited(Exit { signal: Some(libc::SIGSEGV), ..Exit::default() })
}

fn sometimes_crashed(number: u32) -> Fact {
    match number % 1000 {
        0 => crashed(number),
        _ if number.is_multiple_of(2) => failed(number),
        _ => told(number),
    }
}

fn told(number: u32) -> Fact {
    let sender = Party { comm: "sh".to_owned(), ..Party::default() };
    Fact::SignalSent(SignalSent {
        signal: 15,
        si_code: 0,
        sender: Some(Party { uid: number % 3, ..sender }),
        group: true,
        ignored: false,
        ..SignalSent::default()
    })
}

/// Workloads of which each has made a connection.
fn clients() -> Vec<Signal> {
    let client = |number: u32| {
        let peer = PeerCounts {
            peer: ([10, 0, 0, 1], 80).into(),
            netns: number,
            cgroup: 5,
            ok: 1,
            refused: 0,
            unreachable: 0,
            timed_out: 0,
            reset: 0,
            abandoned: 0,
            syn_retransmits: 0,
            retransmits: 0,
            slowest_us: 100,
            last_ok: Some(START),
            last_bad: None,
        };
        let process = Process {
            pid: 5_000_000 + number,
            start: START,
            comm: format!("client-{number}"),
            workload: WorkloadKey(format!("unit/client-{number}.service")),
            ..Process::default()
        };
        Signal { at: START, process: Some(process), fact: Fact::Peers(vec![peer]) }
    };
    (0..CLIENTS).map(client).collect()
}

/// Per second of CPU time, once `before` is known.
fn rate(count: u32, make: Make, before: &[Signal]) -> anyhow::Result<f64> {
    let loaded = config::load(&Sources::default(), &detect::is_built)
        .map_err(|problems| anyhow::anyhow!("the default policies: {problems}"))?;
    let mut engine = Engine::new(START, loaded.policies, Recovered::default());
    let signals: Vec<Signal> = (0..count).map(|number| signal(number, make)).collect();
    before.iter().for_each(|signal| take(&mut engine, signal));
    let begun = meter::own_thread();
    signals.iter().for_each(|signal| take(&mut engine, signal));
    Ok(f64::from(count) / (meter::own_thread() - begun).as_secs_f64())
}

fn take(engine: &mut Engine, signal: &Signal) {
    engine.observe(signal.at, signal);
    while engine.poll_tracking().is_some() {}
    while engine.poll_journal().is_some() {}
    while engine.poll_command().is_some() {}
    while engine.poll_report().is_some() {}
    while engine.poll_death().is_some() {}
}

/// One every 10 µs, each of a process of its own.
fn signal(number: u32, make: Make) -> Signal {
    let at = BootTime(START.0 + u64::from(number) * 10_000);
    let program = format!("/usr/bin/program-{}", number % PROGRAMS);
    let process = Process {
        pid: 1000 + number,
        start: BootTime(at.0 - 20_000_000),
        comm: format!("program-{}", number % PROGRAMS),
        workload: WorkloadKey(format!("program/{program}@/user.slice<make")),
        exe: Some(program),
        args: vec!["-c".to_owned(), number.to_string()],
        cgroup: "/user.slice".to_owned(),
        parent: Some(Parent { pid: 7, start: START, comm: "make".to_owned(), ..Parent::default() }),
        ..Process::default()
    };
    Signal { at, process: Some(process), fact: make(number) }
}
