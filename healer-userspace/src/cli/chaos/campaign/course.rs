//! The course of a campaign: who runs when, and how each ended.

use core::time::Duration;
use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use anyhow::Context as _;

use crate::{
    cli::own_agent::{Agent, until},
    clock,
    engine::time::BootTime,
    fault::{End, Fault, Service, When, victim::Victim},
};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two starts, at most.
const PAUSE_MAX_MS: u64 = 400;
const REGISTERED: Duration = Duration::from_secs(10);
/// A service fails when asked, and must be seen to be well afterwards.
const HEALED: Duration = Duration::from_secs(12);
const SETTLED: Duration = Duration::from_secs(20);

/// One of the campaign, when it is over.
pub(super) struct Instance {
    pub(super) fault: &'static Fault,
    pub(super) cgroup: String,
    pub(super) began: BootTime,
    pub(super) ended: BootTime,
    /// Words, and whether it is the end that the table names.
    pub(super) end: String,
    pub(super) as_meant: bool,
}

enum Patient {
    Program(Victim),
    Service { service: Service, asked: Option<BootTime> },
}

struct Running {
    patient: Patient,
    fault: &'static Fault,
    began: BootTime,
}

pub(super) async fn run(
    plan: &[&'static Fault],
    overlap: usize,
    agent: &Agent,
    seed: u64,
) -> anyhow::Result<Vec<Instance>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut waiting, mut running, mut over) = (plan.iter().copied().peekable(), Vec::new(), Vec::new());
    let mut next_start = clock::boot();
    while waiting.peek().is_some() || !running.is_empty() {
        if running.len() < overlap
            && next_start <= clock::boot()
            && let Some(fault) = waiting.next()
        {
            running.push(start(fault, agent, over.len() + running.len())?);
            next_start = clock::boot() + Duration::from_millis(random.u64(0..PAUSE_MAX_MS));
        }
        let mut still = Vec::new();
        for mut one in running {
            match one.look(agent)? {
                Some(instance) => over.push(instance),
                None => still.push(one),
            }
        }
        running = still;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(over)
}

fn start(fault: &'static Fault, agent: &Agent, number: usize) -> anyhow::Result<Running> {
    let made = if fault.supervised {
        let name = format!("chaos-{}-{number}", fault.name).parse()?;
        Service::start(name, fault, When::Asked, agent.state_dir())
            .map(|service| Patient::Service { service, asked: None })
    } else {
        Victim::start(fault, agent.state_dir()).map(Patient::Program)
    };
    let patient = made.with_context(|| format!("make the fault {}", fault.name))?;
    Ok(Running { patient, fault, began: clock::boot() })
}

/// Until nothing is open any more, or for a while.
pub(super) async fn settled(agent: &Agent) -> anyhow::Result<()> {
    until(SETTLED, || Ok(agent.incidents()?.iter().all(|incident| !incident.open))).await.map(drop)
}

impl Running {
    /// Its record, once it is over; it is cleaned up then.
    fn look(&mut self, agent: &Agent) -> anyhow::Result<Option<Instance>> {
        let lived = clock::boot().since(self.began);
        let fault = self.fault;
        let over = match &mut self.patient {
            Patient::Program(victim) => {
                let watched = match fault.end {
                    End::Never => fault.lasts.saturating_sub(Duration::from_secs(1)),
                    End::Signal(_) | End::Status(_) => fault.lasts,
                };
                let ended = victim.ended().context("wait for a victim")?;
                (ended.is_some() || watched < lived)
                    .then(|| (victim.cgroup.path().to_owned(), words(ended), fault.end.is_met_by(ended)))
            }
            Patient::Service { service, asked } => {
                ask(service, asked, agent, self.began)?;
                let watched = HEALED.max(fault.lasts);
                let is_over = asked.is_some_and(|at| watched < clock::boot().since(at));
                is_over.then(|| {
                    let well = service.child().is_some();
                    (service.cgroup.path().to_owned(), if well { "runs" } else { "is down" }.to_owned(), well)
                })
            }
        };
        Ok(over.map(|(cgroup, end, as_meant)| Instance {
            fault,
            cgroup,
            began: self.began,
            ended: clock::boot(),
            end,
            as_meant,
        }))
    }
}

/// It fails once the agent knows it.
fn ask(
    service: &Service,
    asked: &mut Option<BootTime>,
    agent: &Agent,
    began: BootTime,
) -> anyhow::Result<()> {
    if asked.is_some() {
        return Ok(());
    }
    let key = format!("supervise/{}", service.name);
    if service.child().is_some() && agent.workloads()?.contains(&key) {
        service.ask().with_context(|| format!("ask {} to fail", service.name))?;
        *asked = Some(clock::boot());
    }
    anyhow::ensure!(
        asked.is_some() || clock::boot().since(began) < REGISTERED,
        "{} did not register with the agent; its log: {}",
        service.name,
        agent.log()
    );
    Ok(())
}

fn words(ended: Option<ExitStatus>) -> String {
    match ended {
        None => "lives".to_owned(),
        Some(status) => match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("status {}", status.code().unwrap_or_default()),
        },
    }
}
