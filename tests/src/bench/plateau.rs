//! Memory under many distinct short-lived processes: it has to level off.

use std::{
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{agent::Agent, args::Args, figure::Figure, meter, say};

const STEPS: u32 = 5;
const MIB: f64 = 1024.0 * 1024.0;

/// # Errors
/// healer does not start, or ends by itself.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let all = if args.quick { 20_000 } else { 100_000 };
    say(&format!("plateau: {all} processes"));
    let agent = Agent::start()?;
    let mut sizes = vec![rss(&agent)?];
    for step in 0..STEPS {
        crowd(1 + step * all / STEPS, all / STEPS)?;
        // What was sent last is drained and told by then.
        thread::sleep(Duration::from_millis(1500));
        sizes.push(rss(&agent)?);
    }
    let seen = agent.signals()?;
    let shown: Vec<String> = sizes.iter().map(|size| format!("{size:.1}")).collect();
    let growth = sizes[STEPS as usize] - sizes[STEPS as usize - 2];
    Ok(vec![
        Figure::new("RSS growth over the last two fifths of many processes", growth, "MiB")
            .at_most(1.0)
            .remark(format!(
                "{all} distinct ones that fail; RSS {} MiB; {seen:.0} signals seen",
                shown.join(", ")
            )),
    ])
}

fn rss(agent: &Agent) -> anyhow::Result<f64> {
    Ok(meter::memory(agent.pid())?.rss as f64 / MIB)
}

fn crowd(first: u32, count: u32) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["crowd", &first.to_string(), &count.to_string()]).stdin(Stdio::null());
    let status = command.status().context("start the crowd")?;
    ensure!(status.success(), "the crowd failed: {status}");
    Ok(())
}
