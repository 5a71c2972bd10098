//! What watching every system call costs, beside an empty program on the same hook; and how fast the governor gives up.

use std::{collections::BTreeMap, fs, process::Command, thread, time::Duration};

use anyhow::Context as _;
use healer_userspace::clock;

use super::{
    agent::Agent,
    args::Args,
    cost::Row,
    figure::Figure,
    floor::Floor,
    load::{self, LOADS},
    pairs, say,
};
use crate::{binary, scratch::Scratch};

/// Load, and what it may cost with every call watched and with a slice of each second.
const AIMS: [(&str, f64, f64); 5] = [
    ("getppid", 1.54, 1.05),
    ("openat", 1.11, 1.05),
    ("emfile", 1.45, 1.05),
    ("pipe", 1.09, 1.01),
    ("futex", 1.09, 1.01),
];
const SETTLE: Duration = Duration::from_millis(1500);
/// Of the shorter loads: the mean counts, and it must hold many slices.
const SAMPLED_FOR: u64 = 4;
const SHEDS_WITHIN: Duration = Duration::from_secs(20);

/// Means in ns of one load, one of each kind per pair: bare, floor, bare, full, bare, sampled, … bare. A median would
/// not see the slices.
#[derive(Default)]
struct Means {
    bare: Vec<f64>,
    floor: Vec<f64>,
    full: Vec<f64>,
    sampled: Vec<f64>,
}

impl Means {
    /// The bare runs on both sides of each of the `which`th kind.
    fn around(&self, which: usize) -> Vec<f64> {
        let starts = (which..self.bare.len().saturating_sub(1)).step_by(3);
        starts.flat_map(|at| [self.bare[at], self.bare[at + 1]]).collect()
    }

    fn row(&self, name: &str, kind: &str, (which, with): (usize, &[f64]), aim: f64) -> Option<Row> {
        let load = LOADS.iter().find(|load| load.name == name)?;
        Some(Row {
            load: format!("{name}, {kind}"),
            what: load.what.to_owned(),
            programs: "syscall_error".to_owned(),
            bare_ns: pairs::median(&pairs::sorted(self.bare.iter().copied()))?,
            healer: pairs::compared(&self.around(which), with)?,
            floor: pairs::compared(&self.around(0), &self.floor),
            control: pairs::control(&self.bare),
            aim,
        })
    }
}

/// # Errors
/// healer does not start, or a load fails.
pub fn rows(args: &Args) -> anyhow::Result<Vec<Row>> {
    let mut all: BTreeMap<&'static str, Means> = BTreeMap::new();
    let millis = args.micro_millis();
    for pair in 1..=args.pairs() {
        say(&format!("system calls: pair {pair} of {}", args.pairs()));
        each(&mut all, millis, |means| &mut means.bare)?;
        let hooked = Floor::attach_sys_exit()?;
        each(&mut all, millis, |means| &mut means.floor)?;
        drop(hooked);
        each(&mut all, millis, |means| &mut means.bare)?;
        let watched = agent("full")?;
        each(&mut all, millis, |means| &mut means.full)?;
        drop(watched);
        each(&mut all, millis, |means| &mut means.bare)?;
        let watched = agent("sampled")?;
        each(&mut all, millis * SAMPLED_FOR, |means| &mut means.sampled)?;
        drop(watched);
    }
    each(&mut all, millis, |means| &mut means.bare)?;
    let rows = AIMS.into_iter().flat_map(|(name, full, sampled)| {
        let means = &all[name];
        [
            means.row(name, "every call watched", (1, &means.full), full),
            means.row(name, "a slice of each second", (2, &means.sampled), sampled),
        ]
    });
    Ok(rows.flatten().collect())
}

/// Every load once.
fn each(
    all: &mut BTreeMap<&'static str, Means>,
    millis: u64,
    which: impl Fn(&mut Means) -> &mut Vec<f64>,
) -> anyhow::Result<()> {
    for (name, ..) in AIMS {
        let mean = load::mean_apart(name, millis)?;
        which(all.entry(name).or_default()).push(mean);
    }
    Ok(())
}

/// # Errors
/// healer does not start, or does not give up the sensor.
pub fn measure(_args: &Args) -> anyhow::Result<Vec<Figure>> {
    Ok(vec![sheds()?])
}

fn agent(mode: &str) -> anyhow::Result<(Agent, Scratch)> {
    let scratch = Scratch::new();
    let agent = agent_in(&scratch, mode)?;
    thread::sleep(SETTLE);
    Ok((agent, scratch))
}

fn agent_in(scratch: &Scratch, mode: &str) -> anyhow::Result<Agent> {
    let config = scratch.path().join("agent.yaml");
    let text =
        format!("apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nsensors: {{syscallErrors: {mode}}}\n");
    fs::write(&config, text)?;
    Agent::start_in(&scratch.path().join("state"), &["--config", &config.display().to_string()])
}

/// From the first of a million calls a second to the mode `sampled`.
fn sheds() -> anyhow::Result<Figure> {
    let scratch = Scratch::new();
    let _agent = agent_in(&scratch, "governed")?;
    let state = scratch.path().join("state");
    let is = |wanted: &str| mode(&state).is_ok_and(|mode| mode == wanted);
    // Whoever asks makes a thousand calls itself.
    wait(Duration::from_secs(1), || is("full")).context("the machine is too busy for the full sensor")?;
    let began = clock::boot();
    let storm = thread::spawn(move || {
        while clock::boot().since(began) < SHEDS_WITHIN {
            // A thousand calls in each millisecond.
            let turn = clock::boot();
            for _ in 0..1000 {
                core::hint::black_box(rustix::process::getppid());
            }
            while clock::boot().since(turn) < Duration::from_millis(1) {
                core::hint::spin_loop();
            }
        }
    });
    let shed = wait(Duration::from_millis(50), || is("sampled") || is("off"));
    let took = clock::boot().since(began);
    drop(storm);
    shed.context("the sensor was not given up")?;
    Ok(Figure::new("the governor samples at a million calls/s after", took.as_secs_f64(), "s").at_most(2.0))
}

fn wait(between: Duration, is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = clock::boot();
    while clock::boot().since(began) < SHEDS_WITHIN {
        if is_there() {
            return Ok(());
        }
        thread::sleep(between);
    }
    anyhow::bail!("not within {} s", SHEDS_WITHIN.as_secs())
}

fn mode(state: &std::path::Path) -> anyhow::Result<String> {
    let output =
        Command::new(binary::healer()).arg("--state-dir").arg(state).args(["sensors", "--json"]).output()?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let sensors = answer["sensors"].as_array().context("no sensors")?;
    let sensor = sensors.iter().find(|sensor| sensor["name"] == "syscall_error").context("no such sensor")?;
    Ok(sensor["mode"].as_str().unwrap_or_default().to_owned())
}
