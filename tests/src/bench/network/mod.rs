//! A full table of sockets, many flows, and the scenarios of the network by the clock.

pub mod crowd;
mod scenarios;

use std::{path::PathBuf, thread, time::Duration};

use healer_userspace::sense::poll::sockets::SockDiag;

use self::crowd::Crowd;
use super::{agent::Agent, args::Args, figure::Figure, meter, pairs, say};

const SOCKETS: u32 = 10_000;
const DUMPS: usize = 21;
const FLOWS: u32 = 50_000;
/// Until what was counted is fetched and told.
const SETTLES: Duration = Duration::from_secs(4);
const MIB: f64 = 1024.0 * 1024.0;

/// # Errors
/// No namespace can be made (root, iproute2), or healer does not start.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![dumps()?];
    figures.extend(flows()?);
    figures.extend(scenarios::times(args)?);
    Ok(figures)
}

/// One dump by `inet_diag`, as the agent's looks do it, by the CPU time of the thread.
fn dumps() -> anyhow::Result<Figure> {
    say(&format!("network: {SOCKETS} sockets"));
    let crowd = Crowd::start("sockets", SOCKETS)?;
    let namespace = PathBuf::from(format!("/proc/{}/ns/net", crowd.pid()));
    let mut diag = SockDiag::open_in(&namespace)?;
    let (mut seen, mut millis) = (0_u64, Vec::new());
    for _dump in 0..DUMPS {
        let before = meter::own_thread();
        seen = 0;
        diag.each(|_socket| seen += 1)?;
        millis.push((meter::own_thread() - before).as_secs_f64() * 1000.0);
    }
    let sorted = pairs::sorted(millis.into_iter());
    let median = pairs::median(&sorted).unwrap_or(f64::NAN);
    let most = sorted.last().copied().unwrap_or_default();
    Ok(Figure::new("10,000 sockets dumped", median, "ms")
        .at_most(30.0)
        .remark(format!("{seen} sockets, CPU time, median of {DUMPS}, at most {most:.1}")))
}

/// The agent, while somebody connects to one address after the other.
fn flows() -> anyhow::Result<[Figure; 2]> {
    say(&format!("network: twice {FLOWS} flows"));
    let agent = Agent::start()?;
    let mut sizes = vec![rss(&agent)?];
    for first in ["flows", "more-flows"] {
        drop(Crowd::start(first, FLOWS)?);
        thread::sleep(SETTLES);
        sizes.push(rss(&agent)?);
    }
    let maps = meter::memory(agent.pid())?.maps as f64 / MIB;
    let shown: Vec<String> = sizes.iter().map(|size| format!("{size:.1}")).collect();
    let remark =
        format!("before, after {FLOWS}, after as many others: {} MiB; maps {maps:.2} MiB", shown.join(", "));
    Ok([
        Figure::new("RSS after twice 50,000 flows", sizes[2], "MiB").at_most(20.0).remark(remark),
        Figure::new("RSS growth by the second 50,000 flows", sizes[2] - sizes[1], "MiB").at_most(1.0),
    ])
}

fn rss(agent: &Agent) -> anyhow::Result<f64> {
    Ok(meter::memory(agent.pid())?.rss as f64 / MIB)
}
