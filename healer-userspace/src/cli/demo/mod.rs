//! `healer demo`: real failures, healed before one's eyes.

mod judge;

use core::time::Duration;
use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};

use super::{
    incidents,
    output::{Mood, Paint, emit},
    own_agent::{Agent, until},
};
use crate::{
    clock,
    engine::class::Class,
    fault::{Fault, Service, When},
    identity::process::ProcessId,
    report::incidents::Incident,
    supervise::Name,
};

const ALTOGETHER: Duration = Duration::from_secs(60);
const STARTED: Duration = Duration::from_secs(10);
const HEALED: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub struct Args {}

struct Case {
    name: &'static str,
    fault: &'static str,
    /// What a good diagnosis may say: the death of the process, or of the workload.
    classes: &'static [Class],
    /// What its sentence must say.
    says: &'static str,
}

const CASES: &[Case] = &[
    Case { name: "demo-segv", fault: "segv", classes: &[Class::Crash, Class::Down], says: "SIGSEGV" },
    Case { name: "demo-killed", fault: "killed", classes: &[Class::Down], says: "SIGKILL" },
    Case {
        name: "demo-exits",
        fault: "exits",
        classes: &[Class::Crash, Class::Down],
        says: "status 1 after",
    },
];

/// Not in the policy, and healthy.
const NEIGHBOUR: (&str, &str) = ("demo-neighbour", "busy");

/// # Errors
/// Something could not be made, or it was made and not healed.
pub(super) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("make the event loop")?;
    runtime.block_on(async {
        // Guards clean up on the way out of this future, so ^C must end it, not the process.
        tokio::select! {
            shown = show() => shown,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
        }
    })
}

async fn show() -> anyhow::Result<ExitCode> {
    let began = clock::boot();
    let paint = Paint::of_stdout();
    let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
    let agent = Agent::start("demo", &policy_for(&names), None).await?;
    emit(&format!("{}\n", agent.ready()?))?;
    let services = CASES.iter().map(|case| start(case.name, case.fault, When::Asked, agent.state_dir()));
    let services = services.collect::<anyhow::Result<Vec<_>>>()?;
    let neighbour = start(NEIGHBOUR.0, NEIGHBOUR.1, When::Now, agent.state_dir())?;
    for service in services.iter().chain([&neighbour]) {
        registered(&agent, service).await?;
    }
    let before = neighbour.child().context("the neighbour did not start")?;
    let mut wrong = Vec::new();
    for (case, service) in CASES.iter().zip(&services) {
        wrong.extend(make(case, service, &agent, paint).await?);
    }
    wrong.extend(judge::neighbour(before, neighbour.child(), &agent.incidents()?));
    emit(&untouched(before, paint, &wrong))?;
    wrong.extend(agent.audit_is_whole());
    let took = clock::boot().since(began);
    if ALTOGETHER < took {
        wrong.push(format!("it took longer than {} s", ALTOGETHER.as_secs()));
    }
    emit(&verdict(&wrong, took.as_secs_f64(), paint))?;
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn start(name: &str, fault: &str, when: When, state_dir: &Path) -> anyhow::Result<Service> {
    let name: Name = name.parse()?;
    let fault = Fault::by_name(fault).with_context(|| format!("no fault {fault}"))?;
    let shown = name.clone();
    Service::start(name, fault, when, state_dir).with_context(|| format!("start the service {shown}"))
}

async fn registered(agent: &Agent, service: &Service) -> anyhow::Result<()> {
    let key = format!("supervise/{}", service.name);
    let known = || Ok(service.child().is_some() && agent.workloads()?.contains(&key));
    if until(STARTED, known).await? {
        return Ok(());
    }
    bail!("{} did not register with the agent; its log: {}", service.name, agent.log())
}

/// Makes the fault, waits for the end of its incident, shows it; returns what was not as it should be.
async fn make(case: &Case, service: &Service, agent: &Agent, paint: Paint) -> anyhow::Result<Vec<String>> {
    let fault = Fault::by_name(case.fault).with_context(|| format!("no fault {}", case.fault))?;
    let title = format!("{}: {}", case.name, fault.does);
    emit(&format!("\n{}\n", paint.paint(Mood::Strong, &title)))?;
    let victim = service.ask().with_context(|| format!("ask {} to fail", case.name))?;
    let workload = format!("supervise/{}", service.name);
    let of_case = |incident: &Incident| incident.workload == workload;
    let is_over = || {
        let incidents = agent.incidents()?;
        let mut own = incidents.iter().filter(|incident| of_case(incident)).peekable();
        Ok(own.peek().is_some() && own.all(|incident| !incident.open))
    };
    if !until(HEALED, is_over).await? {
        return Ok(vec![format!("{}: no incident was closed within {} s", case.name, HEALED.as_secs())]);
    }
    let own: Vec<_> = agent.incidents()?.into_iter().filter(of_case).collect();
    let own = own.iter().map(|incident| agent.incident(&incident.id)).collect::<anyhow::Result<Vec<_>>>()?;
    for incident in &own {
        emit(&incidents::page(incident, paint))?;
    }
    Ok(judge::case(case, &own, victim, service.child()))
}

fn untouched(neighbour: ProcessId, paint: Paint, wrong: &[String]) -> String {
    let words = format!("{}: pid {} ran through all of it", NEIGHBOUR.0, neighbour.pid);
    let fine = !wrong.iter().any(|one| one.starts_with(NEIGHBOUR.0));
    if fine { format!("\n{}\n", paint.paint(Mood::Good, &words)) } else { String::new() }
}

fn verdict(wrong: &[String], took: f64, paint: Paint) -> String {
    if wrong.is_empty() {
        let words =
            format!("{} real failures, {} healed and verified, in {took:.1} s", CASES.len(), CASES.len());
        return format!("{}\n", paint.paint(Mood::Good, &words));
    }
    let lines = wrong.iter().map(|one| format!("  {one}\n")).collect::<String>();
    format!("\n{}\n{lines}", paint.paint(Mood::Bad, "not as it should be:"))
}

fn policy_for(services: &[&str]) -> String {
    let names = services.join(", ");
    format!(
        "\
apiVersion: healer.dev/v1alpha1
kind: HealPolicy
metadata: {{name: demo}}
spec:
  mode: enforce
  match: {{supervise: [{names}]}}
  rules:
    - name: restart
      when: [{{class: down}}, {{class: crash}}]
      escalate:
        - {{do: restart, timeout: 10s}}
        - {{do: notify}}
  verify: {{within: 10s, stableFor: 2s}}
"
    )
}
