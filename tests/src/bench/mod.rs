//! The bench: what healer costs, holds and takes, measured the same way on every machine.
//!
//! Pairs in turn, medians, the machine against itself beside them; servers by their CPU time per request.

pub mod agent;
pub mod args;
pub mod cost;
pub mod engine;
pub mod figure;
pub mod floor;
pub mod flood;
pub mod footprint;
pub mod latency;
pub mod load;
pub mod memory;
pub mod meter;
pub mod network;
pub mod pairs;
pub mod parts;
pub mod peers;
pub mod plateau;
pub mod stall;
pub mod syscalls;
pub mod table;
pub mod waits;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::Context as _;
use healer_userspace::clock;

use self::{
    args::{Args, Part},
    figure::Figure,
    table::Results,
};

/// Runs what the command line asks for.
///
/// # Errors
/// BPF statistics are on, an old result cannot be read, the new one cannot be written.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(part) = &args.part {
        return run_part(part).map(|()| ExitCode::SUCCESS);
    }
    floor::refuse_statistics()?;
    let old = args.compare.as_deref().map(read).transpose()?;
    let results = measure(&args);
    // Nobody may have switched them on meanwhile.
    floor::refuse_statistics()?;
    print(&table::page(&results));
    if let Some(old) = &old {
        print(&table::changes(old, &results));
    }
    let file = args.json.clone().unwrap_or_else(|| crate::binary::target_dir().join("bench/latest.json"));
    write(&file, &results)?;
    say(&format!("written to {}", file.display()));
    Ok(if results.not_measured.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_part(part: &Part) -> anyhow::Result<()> {
    match part {
        Part::Micro { load, millis } => {
            let [median, mean] = load::run_here(load, Duration::from_millis(*millis))?;
            print(&format!("{median} {mean}"));
            Ok(())
        }
        Part::Service { file } => parts::service(file),
        Part::Fail => parts::fail(),
        Part::Threads { idle, stuck } => parts::threads(*idle, *stuck),
        Part::Crowd { first, count } => parts::crowd(*first, *count),
        Part::Sockets { count } => network::crowd::sockets(*count),
        Part::Flows { count } => network::crowd::flows(0, *count),
        Part::MoreFlows { count } => network::crowd::flows(*count, *count),
        Part::Storm { per_second, millis } => {
            print(&parts::storm(*per_second, Duration::from_millis(*millis))?.to_string());
            Ok(())
        }
    }
}

fn measure(args: &Args) -> Results {
    let mut results = Results {
        time: clock::wall().to_string(),
        machine: machine(),
        healer: version(),
        is_quick: args.quick,
        ..Results::default()
    };
    if cost::is_wanted(args) {
        cost_table(args, &mut results);
    }
    if args.wants("syscalls") {
        match syscalls::rows(args) {
            Ok(rows) => results.cost.extend(rows),
            Err(error) => results.not_measured.push(format!("system calls: {error:#}")),
        }
    }
    // Two minutes, and programs that are not healer's: only when asked for.
    if args.only.iter().any(|name| name == "peers") {
        match peers::rows(args) {
            Ok(rows) => results.peers = rows,
            Err(error) => results.not_measured.push(format!("peers: {error:#}")),
        }
    }
    let sections: [(&str, Section); 9] = [
        ("syscalls", syscalls::measure),
        ("footprint", footprint::measure),
        ("plateau", plateau::measure),
        ("latency", latency::measure),
        ("ring", flood::measure),
        ("engine", engine::measure),
        ("memory", memory::measure),
        ("waits", waits::measure),
        ("network", network::measure),
    ];
    for (name, section) in sections.into_iter().filter(|(name, _)| args.wants(name)) {
        match section(args) {
            Ok(figures) => results.figures.extend(figures),
            Err(error) => results.not_measured.push(format!("{name}: {error:#}")),
        }
    }
    results
}

type Section = fn(&Args) -> anyhow::Result<Vec<Figure>>;

fn cost_table(args: &Args, results: &mut Results) {
    let table = match cost::measure(args) {
        Ok(table) => table,
        Err(error) => {
            results.not_measured.push(format!("cost: {error:#}"));
            return;
        }
    };
    results.cost = table.rows;
    results.not_measured.extend(table.not_measured);
    let shares = pairs::sorted(table.agent_share.into_iter());
    if let Some(share) = pairs::median(&shares) {
        results.figures.push(Figure::new("agent CPU under these loads", share * 100.0, "% of a core"));
    }
    if !table.without_twin.is_empty() {
        let words = format!("empty twins of {}", table.without_twin.join(", "));
        results.not_measured.push(words);
    }
}

/// Kernel, processors, and what else runs.
fn machine() -> String {
    let system = rustix::system::uname();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!(
        "{} {} {}, {cpus} CPUs, load average {} at the start",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
        load.join(" ")
    )
}

fn version() -> String {
    let output = Command::new(crate::binary::healer()).arg("--version").output();
    output.map_or_else(|error| error.to_string(), |it| String::from_utf8_lossy(&it.stdout).trim().to_owned())
}

fn read(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no result of the bench", path.display()))
}

fn write(path: &Path, results: &Results) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let text = serde_json::to_string_pretty(results)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "the results are for stdout")]
fn print(text: &str) {
    println!("{text}");
}

/// Progress.
#[expect(clippy::print_stderr, reason = "stdout is for the results")]
fn say(words: &str) {
    eprintln!("{words}");
}
