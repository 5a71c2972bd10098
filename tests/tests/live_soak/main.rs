//! A busy node under the agent's eye for a minute; `HEALER_FULL`: for half an hour. Nothing is said of anybody,
//! nothing is lost, and the agent needs no more at the end than at the beginning. Needs root.

mod load;

use std::{fs, path::Path, time::Duration};

use healer_tests::{
    bench::meter,
    home::{Agent, Home, pause},
    policies::policy,
    told::tell,
};
use healer_userspace::{clock, engine::class::Class};

/// What is read for the first time, and buffers that find their size.
const WARM_UP: Duration = Duration::from_secs(10);
const SHORT: u32 = 60;
const LONG: u32 = 1800;
/// Percent that the last third of the time may take more than the first; in a minute tables still find their size.
const GROWTH_MAX: f64 = 2.0;
const GROWTH_MAX_SHORT: f64 = 15.0;
/// A socket of a question, a file that is read just then.
const FDS_MORE: u64 = 3;

struct Sample {
    rss: u64,
    /// Of these, not of files: the program's own text comes back as it is needed.
    anonymous: u64,
    fds: u64,
}

impl Sample {
    fn of(pid: u32) -> Self {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("the agent lives");
        let pages: Vec<u64> = statm.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).expect("this test needs root").count();
        Self { rss: pages[1] * 4096, anonymous: (pages[1] - pages[2]) * 4096, fds: fds as u64 }
    }
}

/// One a minute, for whoever wants to know when it grew.
fn keep(samples: &[Sample]) {
    let line = |sample: &Sample| format!("{},{},{}\n", sample.rss >> 10, sample.anonymous >> 10, sample.fds);
    let rows: String = samples.iter().step_by(60).map(line).collect();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.csv");
    fs::write(file, format!("rss KiB,anonymous KiB,descriptors\n{rows}")).expect("cargo made the directory");
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut all: Vec<_> = samples.iter().map(of).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// All classes, whatever their certainty.
fn tells_everything() -> String {
    let each = Class::ALL.iter().filter(|class| healer_userspace::engine::detect::is_built(**class));
    let each: Vec<_> = each.map(|class| format!("{{class: {class}}}")).collect();
    let exes: Vec<_> = load::servers().iter().map(|exe| exe.display().to_string()).collect();
    let rules = format!(
        "\n  rules:\n    - {{name: tell, when: [{}], escalate: [{{do: notify}}]}}\n",
        each.join(", ")
    );
    policy("shadow", &format!("exe: [{}]", exes.join(", ")), &rules)
}

/// Records that the kernel could not hand over, of all rings; and what no disk will ever see.
fn lost(agent: &Agent<'_>) -> f64 {
    let metrics = agent.get("/metrics");
    let is_loss = |line: &&str| {
        line.starts_with("healer_ring_lost_total") || line.starts_with("healer_store_lost_total")
    };
    let lines: Vec<_> = metrics.lines().filter(is_loss).collect();
    assert!(!lines.is_empty(), "{metrics}");
    lines.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn under_mixed_load_nothing_is_said_lost_or_hoarded() {
    let home = Home::new(&tells_everything());
    let mut load = load::Load::start();
    let agent = home.agent();
    pause(WARM_UP);
    let is_full = std::env::var_os("HEALER_FULL").is_some();
    let (seconds, most) = if is_full { (LONG, GROWTH_MAX) } else { (SHORT, GROWTH_MAX_SHORT) };
    let (began, before) = (clock::boot(), meter::usage(agent.pid()).expect("the agent lives"));
    let mut samples = Vec::new();
    for _second in 0..seconds {
        pause(Duration::from_secs(1));
        samples.push(Sample::of(agent.pid()));
    }
    let (took, after) = (clock::boot().since(began), meter::usage(agent.pid()).expect("the agent lives"));
    keep(&samples);
    let third = samples.len() / 3;
    let (first, last) = (&samples[..third], &samples[samples.len() - third..]);
    let of_rss = |sample: &Sample| sample.rss;
    let grown = (median(last, of_rss) as f64 / median(first, of_rss) as f64 - 1.0) * 100.0;
    let fds = [first, last].map(|third| median(third, |sample| sample.fds));
    let cpu = (after.cpu - before.cpu).as_secs_f64() / took.as_secs_f64() * 100.0;
    tell(&format!(
        "{took:.0?}: CPU {cpu:.2} % of one, RSS {:.1} MiB ({grown:+.2} % from the first third to the last), {} \
         descriptors, then {}; {:.1} MiB are no file's, {:.1} at first",
        mib(median(last, of_rss)),
        fds[0],
        fds[1],
        mib(median(last, |sample| sample.anonymous)),
        mib(median(first, |sample| sample.anonymous)),
    ));
    let mut said = home.audit();
    // Who gets no CPU on a busy machine, or writes to a disk that others have filled, is told so, and that is true.
    said.retain(|found| found["record"] == "diagnosis");
    said.retain(|found| found["class"] != "starved" && found["class"] != "disk_full");
    said.retain(|found| {
        found["target"]["cgroup"].as_str().is_some_and(|path| path.starts_with(&load.cgroup()))
    });
    assert!(said.is_empty(), "{said:#?}");
    assert_eq!(load.ended(), Vec::<&str>::new(), "the load goes on to the end");
    assert!(lost(&agent) < 1.0, "{}", agent.log());
    assert!(grown <= most, "RSS grew by {grown:.2} %");
    assert!(fds[1] <= fds[0] + FDS_MORE, "{fds:?} descriptors");
}
