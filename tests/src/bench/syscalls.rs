//! What watching every system call costs, beside an empty program on the same hook; and how fast the governor gives up.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::Context as _;
use healer_userspace::clock;

use super::{
    agent::Agent,
    args::Args,
    figure::Figure,
    floor::Floor,
    load,
    pairs::{self, Ratio},
};
use crate::{binary, scratch::Scratch};

/// Load, and what it may cost with every call watched and with a slice of each second.
const AIMS: [(&str, f64, f64); 4] =
    [("getppid", 1.54, 1.05), ("openat", 1.11, 1.05), ("emfile", 1.45, 1.05), ("pipe", 1.09, 1.01)];
const SETTLE: Duration = Duration::from_millis(1500);
/// The mean counts, and it must hold many slices.
const SAMPLED_MILLIS: u64 = 3000;
const SHEDS_WITHIN: Duration = Duration::from_secs(20);

/// # Errors
/// healer does not start, or a load fails.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, full, sampled) in AIMS {
        let empty = compare(args, name, args.micro_millis(), Floor::attach_sys_exit)?;
        let watched = compare(args, name, args.micro_millis(), || agent("full"))?;
        let slices = compare(args, name, SAMPLED_MILLIS.min(4 * args.micro_millis()), || agent("sampled"))?;
        let shown = |it: Ratio| format!("[{:.3}..{:.3}]", it.lowest, it.highest);
        let remark =
            format!("{}; an empty program there {:.3} {}", shown(watched), empty.median, shown(empty));
        figures.push(
            Figure::new(&format!("{name}, every call watched"), watched.median, "× without")
                .at_most(full)
                .remark(remark),
        );
        figures.push(
            Figure::new(&format!("{name}, a slice of each second"), slices.median, "× without")
                .at_most(sampled)
                .remark(shown(slices)),
        );
    }
    figures.push(sheds()?);
    Ok(figures)
}

/// Runs in turn; of means, for a median would not see the slices.
fn compare<T>(
    args: &Args,
    load: &str,
    millis: u64,
    with: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<Ratio> {
    let run = || load::mean_apart(load, millis);
    let (mut around, mut between) = (Vec::new(), Vec::new());
    for _pair in 0..args.pairs() {
        around.push(run()?);
        let held = with()?;
        between.push(run()?);
        drop(held);
        around.push(run()?);
    }
    pairs::compared(&around, &between).context("nothing was measured")
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
    wait(|| is("full")).context("the machine is too busy for the full sensor")?;
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
    let shed = wait(|| is("sampled") || is("off"));
    let took = clock::boot().since(began);
    drop(storm);
    shed.context("the sensor was not given up")?;
    Ok(Figure::new("the governor samples at a million calls/s after", took.as_secs_f64(), "s").at_most(2.0))
}

fn wait(is_there: impl Fn() -> bool) -> anyhow::Result<()> {
    let began = clock::boot();
    while clock::boot().since(began) < SHEDS_WITHIN {
        if is_there() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
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
