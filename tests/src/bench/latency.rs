//! From the fault to its diagnosis and to the successor, by the kernel's time stamps and the audit's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use healer_userspace::clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{agent::Agent, args::Args, figure::Figure, pairs, parts, say};
use crate::{binary, scratch::Scratch};

/// Until a service must be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Exits a second while diagnoses are timed.
const STORM: u64 = 1000;
/// The name that the failing program is known by, at most 15 bytes.
const FAILING: &str = "bench-failing";

/// # Errors
/// healer does not start, or does not restart what is killed.
pub fn measure(args: &Args) -> anyhow::Result<Vec<Figure>> {
    let mut figures = restarts(args.kills())?;
    let failures = if args.quick { 20 } else { 100 };
    let bare = bare_wakes(failures)?;
    figures.push(quantile("a bare wake-up on this machine, p50", &bare, 0.50).remark(
        "a thread that sleeps on an eventfd, from the write to its next line: the floor of the next row",
    ));
    let idle = diagnoses(failures, false)?;
    figures.push(
        quantile("fault to diagnosis, idle, p50", &idle.millis, 0.50).at_most(0.1).remark(idle.remark()),
    );
    figures.push(quantile("fault to diagnosis, idle, p99", &idle.millis, 0.99));
    let storm = diagnoses(failures, true)?;
    figures.push(quantile("fault to diagnosis, 1,000 exits/s, p50", &storm.millis, 0.50));
    figures.push(
        quantile("fault to diagnosis, 1,000 exits/s, p99", &storm.millis, 0.99)
            .at_most(5.0)
            .remark(storm.remark()),
    );
    Ok(figures)
}

fn quantile(name: &str, millis: &[f64], share: f64) -> Figure {
    Figure::new(name, pairs::quantile(millis, share).unwrap_or(f64::NAN), "ms")
}

/// `kill -9` of supervised services, each once.
fn restarts(kills: usize) -> anyhow::Result<Vec<Figure>> {
    say(&format!("latency: {kills} services are killed"));
    let home = Home::new()?;
    let agent = home.agent()?;
    // Who ended right after it was healed would trip the breaker of the node.
    let mut services = Vec::new();
    let mut millis = Vec::new();
    for number in 0..kills {
        let service = home.service(number)?;
        millis.push(service.time_restart()?);
        services.push(service);
    }
    drop(agent);
    drop(services);
    let own: anyhow::Result<Vec<f64>> = (0..kills).map(|number| home.own_start(number)).collect();
    let (millis, own) = (pairs::sorted(millis.into_iter()), pairs::sorted(own?.into_iter()));
    let own = pairs::median(&own).unwrap_or(f64::NAN);
    Ok(vec![
        quantile("kill -9 to restarted, p50", &millis, 0.50).at_most(15.0 + own).remark(format!(
            "{kills} services, each killed once; to the first line of the successor's main, whose own start takes \
             {own:.1} ms of it; aim 15 ms plus that"
        )),
        quantile("kill -9 to restarted, p99", &millis, 0.99),
    ])
}

struct Timed {
    /// In order.
    millis: Vec<f64>,
    asked: usize,
    agent_share: f64,
}

impl Timed {
    fn remark(&self) -> String {
        format!(
            "{} diagnoses of {} failures; the agent used {:.1} % of a core",
            self.millis.len(),
            self.asked,
            100.0 * self.agent_share
        )
    }
}

/// Processes that fail, one after the other; the kernel's time stamp against the moment of the diagnosis.
fn diagnoses(failures: usize, is_storm: bool) -> anyhow::Result<Timed> {
    say(&format!("latency: {failures} failures{}", if is_storm { " in a storm" } else { "" }));
    let home = Home::new()?;
    let agent = home.agent()?;
    let storm = is_storm.then(|| Storm::start(failures)).transpose()?;
    let (start, before) = (clock::boot(), super::meter::usage(agent.pid())?.cpu);
    for _failure in 0..failures {
        if !is_storm {
            // Until what it wrote of the one before lies on the disk: idle is nothing else to do.
            thread::sleep(Duration::from_millis(50));
        }
        let ended = Command::new(&home.failing).arg("fail").status().context("start a failing process")?;
        ensure!(ended.code() == Some(3), "the failing process ends otherwise: {ended}");
    }
    let used = super::meter::usage(agent.pid())?.cpu.saturating_sub(before);
    let agent_share = used.as_secs_f64() / clock::boot().since(start).as_secs_f64();
    drop(storm);
    thread::sleep(Duration::from_millis(200));
    let audit = agent.end()?;
    let millis = pairs::sorted(audit.iter().filter_map(to_diagnosis));
    ensure!(failures / 2 < millis.len(), "only {} of {failures} failures were diagnosed", millis.len());
    Ok(Timed { millis, asked: failures, agent_share })
}

/// What the machine needs to wake a sleeping thread by a descriptor, in order: an idle CPU has to come back first.
fn bare_wakes(count: usize) -> anyhow::Result<Vec<f64>> {
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    let waits = bell.try_clone()?;
    let (told, wakes) = std::sync::mpsc::channel();
    let sleeper = thread::spawn(move || -> rustix::io::Result<()> {
        let mut value = [0; 8];
        for _wake in 0..count {
            rustix::io::read(&waits, &mut value)?;
            told.send(clock::boot()).ok();
        }
        Ok(())
    });
    let mut millis = Vec::new();
    for _wake in 0..count {
        thread::sleep(Duration::from_millis(20));
        let rung = clock::boot();
        rustix::io::write(&bell, &1_u64.to_ne_bytes())?;
        millis.push(wakes.recv()?.since(rung).as_secs_f64() * 1e3);
    }
    sleeper.join().map_err(|_panic| anyhow::anyhow!("the sleeper panicked"))??;
    Ok(pairs::sorted(millis.into_iter()))
}

fn to_diagnosis(record: &Value) -> Option<f64> {
    let of_ours =
        record["record"] == "diagnosis" && record["class"] == "crash" && record["target"]["comm"] == FAILING;
    let time = |field| record[field].as_u64();
    let nanos = time("detected_boot_ns")?.saturating_sub(time("fault_boot_ns")?);
    of_ours.then_some(nanos as f64 / 1e6)
}

/// State, policy and program of one run.
struct Home {
    dir: Scratch,
    failing: PathBuf,
}

impl Home {
    fn new() -> anyhow::Result<Self> {
        let dir = Scratch::new();
        let failing = dir.path().join(FAILING);
        fs::copy(std::env::current_exe()?, &failing).context("copy this program")?;
        let policy = format!(
            "apiVersion: healer.dev/v1alpha1\n\
             kind: HealPolicy\n\
             metadata: {{name: bench-restart}}\n\
             spec:\n  \
               mode: enforce\n  \
               match: {{supervise: \"bench-*\"}}\n  \
               rules: [{{name: down, when: [{{class: down}}], escalate: [{{do: restart}}]}}]\n\
             ---\n\
             apiVersion: healer.dev/v1alpha1\n\
             kind: HealPolicy\n\
             metadata: {{name: bench-fail}}\n\
             spec:\n  \
               mode: observe\n  \
               match: {{exe: {}}}\n  \
               rules: [{{name: crash, when: [{{class: crash}}], escalate: [{{do: notify}}]}}]\n",
            failing.display()
        );
        fs::write(dir.path().join("policy.yaml"), policy)?;
        let config = "apiVersion: healer.dev/v1alpha1\nkind: AgentConfig\nbudget: {node: {max: 100000, per: 1h}}\nstorm: {targets: 10000}\n";
        fs::write(dir.path().join("agent.yaml"), config)?;
        Ok(Self { dir, failing })
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn agent(&self) -> anyhow::Result<Agent> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let agent = Agent::start_in(
            &self.state(),
            &["--policy", &file("policy.yaml"), "--config", &file("agent.yaml")],
        );
        thread::sleep(Duration::from_millis(500));
        agent
    }

    fn service(&self, number: usize) -> anyhow::Result<Service> {
        let file = self.dir.path().join(format!("starts-{number}"));
        let mut command = Command::new(binary::healer());
        command.arg("--state-dir").arg(self.state());
        command.args(["supervise", "--name", &format!("bench-{number}"), "--"]);
        command.arg(std::env::current_exe()?).arg("service").arg(&file);
        Service::start(&mut command, file)
    }

    /// Milliseconds from spawning the service, without healer, to its first line.
    fn own_start(&self, number: usize) -> anyhow::Result<f64> {
        let file = self.dir.path().join(format!("own-{number}"));
        let before = clock::boot();
        let mut command = Command::new(std::env::current_exe()?);
        let service = Service::start(command.arg("service").arg(&file), file)?;
        let (_, at) = service.nth_start(1)?;
        Ok(at.saturating_sub(before.0) as f64 / 1e6)
    }
}

/// A started service with its supervisor, if it has one; both killed on drop.
struct Service {
    process: Child,
    file: PathBuf,
}

impl Service {
    fn start(command: &mut Command, file: PathBuf) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("start the service")?;
        Ok(Self { process, file })
    }

    fn nth_start(&self, number: usize) -> anyhow::Result<(u32, u64)> {
        let begun = clock::boot();
        loop {
            if let Some(start) = parts::starts(&self.file).get(number - 1) {
                return Ok(*start);
            }
            ensure!(clock::boot().since(begun) < PATIENCE, "start {number} of a service does not come");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Milliseconds from `kill -9` to the successor's first line.
    fn time_restart(&self) -> anyhow::Result<f64> {
        let (pid, _) = self.nth_start(1)?;
        // The supervisor registers while the service starts.
        thread::sleep(Duration::from_millis(200));
        let pid = Pid::from_raw(pid.cast_signed()).context("the service's pid")?;
        let killed = clock::boot();
        kill_process(pid, Signal::KILL).context("kill the service")?;
        let (_, at) = self.nth_start(2)?;
        Ok(at.saturating_sub(killed.0) as f64 / 1e6)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // First the supervisor: it would tell the agent of an end.
        self.process.kill().ok();
        self.process.wait().ok();
        kill_last(&self.file);
    }
}

fn kill_last(file: &Path) {
    let last = parts::starts(file).last().and_then(|(pid, _)| Pid::from_raw(pid.cast_signed()));
    let is_ours = |pid: &Pid| {
        let path = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        fs::read_to_string(path).is_ok_and(|words| words.contains(&*file.to_string_lossy()))
    };
    if let Some(pid) = last.filter(is_ours) {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// A process that makes others end; killed on drop.
struct Storm(Child);

impl Storm {
    fn start(failures: usize) -> anyhow::Result<Self> {
        let millis = 1000 + 200 * failures;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["storm", &STORM.to_string(), &millis.to_string()]).stdout(Stdio::null());
        let storm = Self(command.spawn().context("start the storm")?);
        thread::sleep(Duration::from_millis(300));
        Ok(storm)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
