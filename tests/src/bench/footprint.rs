//! What the agent holds and uses while nothing is asked of it.

use std::{thread, time::Duration};

use healer_userspace::clock;

use super::{agent::Agent, args::Args, figure::Figure, meter, meter::Usage, pairs, say};

/// Starts of which the median counts.
const STARTS: usize = 7;
const MB: f64 = 1e6;
const SETTLES: Duration = Duration::from_secs(25);

/// # Errors
/// healer does not start, or ends by itself.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let mut starts = Vec::new();
    for _start in 1..STARTS {
        starts.push(Agent::start()?.to_ready.as_secs_f64() * 1000.0);
    }
    let agent = Agent::start()?;
    starts.push(agent.to_ready.as_secs_f64() * 1000.0);
    let mut figures = vec![to_ready(&starts)];
    figures.extend(idle(&agent, args.idle_seconds())?);
    Ok(figures)
}

fn to_ready(millis: &[f64]) -> Figure {
    let sorted = pairs::sorted(millis.iter().copied());
    let spread = format!(
        "median of {}, {:.0} to {:.0}; from exec to the line `ready`",
        sorted.len(),
        sorted.first().copied().unwrap_or_default(),
        sorted.last().copied().unwrap_or_default()
    );
    let median = pairs::median(&sorted).unwrap_or(f64::NAN);
    Figure::new("start to all sensors attached", median, "ms").at_most(300.0).remark(spread)
}

fn idle(agent: &Agent, seconds: u64) -> anyhow::Result<Vec<Figure>> {
    say(&format!("footprint: idle for {seconds} s"));
    // The first reading of everything is no idling; nor is what is done once in five minutes, and first after twenty
    // seconds: it would count five times in a minute.
    let pid = agent.pid();
    // Asked before: an answer costs the agent more than a second of idling.
    let signals = agent.signals()?;
    thread::sleep(SETTLES);
    let (start, before) = (clock::boot(), meter::usage(pid)?);
    thread::sleep(Duration::from_secs(seconds));
    let after = meter::usage(pid)?;
    let time = clock::boot().since(start).as_secs_f64();
    let memory = meter::memory(pid)?;
    let signals = agent.signals()? - signals;
    let percent =
        |of: fn(&Usage) -> Duration| of(&after).saturating_sub(of(&before)).as_secs_f64() / time * 100.0;
    let sleeps = after.sleeps.saturating_sub(before.sleeps) as f64 / time;
    let came = format!("over {time:.0} s, in which {signals:.0} signals came from others on this machine");
    Ok(vec![
        Figure::new("idle CPU, everything on", percent(|used| used.cpu), "% of a core")
            .at_most(0.1)
            .remark(came),
        Figure::new("of it the line", percent(line), "% of a core")
            .at_most(0.05)
            .remark("records, engine, journal, the overhead's governor"),
        Figure::new("of it the scan of all tasks", percent(|used| used.named("healer-waits")), "% of a core")
            .at_most(0.03),
        Figure::new("of it the looks", percent(|used| used.named("healer-looks")), "% of a core")
            .remark("memory, limits, sockets"),
        Figure::new("idle wake-ups", sleeps, "/s").at_most(5.0).remark("voluntary switches of all threads"),
        Figure::new("RSS", memory.rss as f64 / MB, "MB").at_most(15.0).remark(format!(
            "PSS {:.1}, peak {:.1} MB; {:.0} s after ready",
            memory.pss as f64 / MB,
            memory.peak as f64 / MB,
            time + SETTLES.as_secs_f64()
        )),
        Figure::new("BPF maps", memory.maps as f64 / MB, "MB")
            .at_most(4.0)
            .remark("memlock of fdinfo, each map once"),
        Figure::new("threads", after.threads as f64, ""),
    ])
}

/// All that is there without the scan and the looks.
fn line(used: &Usage) -> Duration {
    used.cpu.saturating_sub(used.named("healer-waits")).saturating_sub(used.named("healer-looks"))
}
