//! `healer chaos --campaign`: every fault and every healthy twin, in random order and side by side, beside an agent
//! that enforces. Whom does it heal, and does it ever touch the innocent?

mod course;
mod judge;
mod policy;
mod table;
mod why;

use core::time::Duration;
use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use crate::{
    cli::{output::emit, own_agent::Agent},
    clock,
    fault::{FAULTS, Fault},
};

const SHORT: Duration = Duration::from_secs(25);

/// What the command line asks for.
#[derive(clap::Args)]
pub(super) struct Campaign {
    /// Make all of them, in random order and side by side, beside an agent of its own that enforces
    #[arg(long, conflicts_with_all = ["what", "keep"])]
    pub(super) campaign: bool,
    /// How many there are in all; each kind at least once
    #[arg(long, requires = "campaign", default_value_t = 200)]
    instances: usize,
    /// The order and the overlap follow from it
    #[arg(long, requires = "campaign", default_value_t = 1)]
    seed: u64,
    /// How many run side by side
    #[arg(long, requires = "campaign", default_value_t = 6)]
    overlap: usize,
    /// Leave out the kinds that take longer than 25 s
    #[arg(long, requires = "campaign")]
    short: bool,
    /// Keep every instance with what was said of it
    #[arg(long, requires = "campaign", value_name = "FILE")]
    json: Option<PathBuf>,
}

/// # Errors
/// Something could not be made, or the agent died.
pub(super) async fn run(args: &Campaign) -> anyhow::Result<ExitCode> {
    let began = clock::boot();
    let mut agent = Agent::start("campaign", &policy::policies(), Some(policy::CONFIG)).await?;
    emit(&format!("{}; seed {}\n", agent.ready()?, args.seed))?;
    let plan = plan(args.instances, args.short, &mut fastrand::Rng::with_seed(args.seed));
    let instances = course::run(&plan, args.overlap.max(1), &agent, args.seed).await?;
    course::settled(&agent).await?;
    let incidents = agent.incidents()?;
    let incidents =
        incidents.iter().map(|incident| agent.incident(&incident.id)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut verdict = judge::judge(&instances, &incidents);
    let ids: BTreeSet<String> =
        verdict.instances.iter().flat_map(|judged| judged.incidents.clone()).collect();
    verdict.wrong.extend(why::gaps(agent.state_dir(), &ids, "the agent"));
    agent.stop();
    verdict.wrong.extend(why::gaps(agent.state_dir(), &ids, "what it left"));
    verdict.wrong.extend(agent.audit_is_whole());
    let took = Duration::from_secs(clock::boot().since(began).as_secs());
    emit(&table::render(&verdict, took))?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&verdict)?;
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every kind as often as the others, in random order.
fn plan(instances: usize, short: bool, random: &mut fastrand::Rng) -> Vec<&'static Fault> {
    let kinds: Vec<_> = FAULTS.iter().filter(|fault| !short || fault.lasts <= SHORT).collect();
    let mut plan: Vec<_> = kinds.iter().copied().cycle().take(instances.max(kinds.len())).collect();
    random.shuffle(&mut plan);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_an_order_and_no_kind_is_left_out() {
        let names = |seed| -> Vec<_> {
            let plan = plan(10, false, &mut fastrand::Rng::with_seed(seed));
            plan.iter().map(|fault| fault.name).collect()
        };
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
        let mut all = names(7);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), FAULTS.len());
    }
}
