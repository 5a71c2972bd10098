//! `healer undo [ID]`: gives back what acts have borrowed, with the agent or without one.

use std::{io, process::ExitCode};

use anyhow::Context as _;

use super::{
    Global,
    administrator::{Administrator, refuse},
    output::emit,
};
use crate::{
    action::{
        host::{Afar, Knobs, Later, knobs::Machine},
        lease,
    },
    clock,
    control::{Request, client::ask},
    engine::{
        command::JournalEntry,
        lease::{Knob, Lease, Undo, Undone, Why},
        report::{Report, ReportFact, Undoing},
    },
    kubernetes::Cluster,
    store::{ClockFacts, Store, StoreError, Work, dir::StateDir, row::Moment},
    text::printable,
};

#[derive(clap::Args)]
pub struct Args {
    /// An incident such as i42, or the key of an act; none = everything that is lent
    id: Option<String>,
    #[command(flatten)]
    administrator: Administrator,
}

/// A running agent is asked to do it. Without one the journal says what is still in force.
pub fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let agent = match args.administrator.read() {
        Ok(agent) => agent,
        Err(problems) => return refuse(&problems),
    };
    let state_dir = global.state_dir_of(&agent);
    // Not `create`: a mistyped path must not become a state directory.
    StateDir::open(state_dir)?;
    let facts = ClockFacts { boot_id: clock::boot_id()?, now_boot: clock::boot(), now_wall: clock::wall() };
    match Store::open(state_dir, facts) {
        Ok((store, recovered)) => {
            let alone = Alone(Cluster::new(&agent.kubernetes));
            without_agent(store, &recovered.leases, args.id.as_deref(), &alone)
        }
        Err(StoreError::Held { .. }) => {
            let answer = ask(state_dir, &Request::Undo { of: args.id })?;
            emit(&format!("{}\n", printable(answer["says"].as_str().unwrap_or("done"))))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.into()),
    }
}

fn without_agent(
    mut store: Store,
    leases: &[Lease],
    of: Option<&str>,
    alone: &Alone,
) -> anyhow::Result<ExitCode> {
    let meant = |lease: &&Lease| of.is_none_or(|of| lease.key.0 == of || lease.incident.to_string() == of);
    let meant: Vec<_> = leases.iter().filter(meant).collect();
    if meant.is_empty() {
        emit("nothing is lent\n")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("make the event loop")?;
    let mut all_well = true;
    let mut unwritten = None;
    for lease in meant {
        let undo = Undo { key: lease.key.clone(), turns: lease.turns.clone() };
        let undone = runtime.block_on(lease::undo_afar(&undo, alone));
        let words = format!("{} {}: {}\n", lease.incident, lease.action.name(), undone.says);
        all_well &= undone.complete;
        // The disk may be full: the others are given back all the same.
        if let Err(error) = store.write(&mut entries(lease, undone), &[], now()) {
            unwritten.get_or_insert(error);
        }
        emit(&words)?;
    }
    if let Some(error) = unwritten {
        return Err(
            anyhow::Error::from(error).context("undone, and not written down: it will be tried again")
        );
    }
    store.close(now())?;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// This machine, and the API server as the administrator names it, or as a pod reaches it.
struct Alone(Cluster);

impl Knobs for Alone {
    fn read(&self, knob: &Knob) -> io::Result<Option<String>> {
        Machine.read(knob)
    }

    fn set(&self, knob: &Knob, value: &str) -> io::Result<()> {
        Machine.set(knob, value)
    }

    fn is_settled(&self, knob: &Knob) -> bool {
        Machine.is_settled(knob)
    }
}

impl Afar for Alone {
    fn read_afar<'a>(&'a self, knob: &'a Knob) -> Later<'a, io::Result<Option<String>>> {
        self.0.read_afar(knob)
    }

    fn set_afar<'a>(&'a self, knob: &'a Knob, value: &'a str) -> Later<'a, io::Result<()>> {
        self.0.set_afar(knob, value)
    }
}

fn entries(lease: &Lease, undone: Undone) -> Vec<Work> {
    let complete = undone.complete;
    let fact = ReportFact::Undone(Undoing {
        key: lease.key.clone(),
        action: lease.action,
        why: Why::Asked.words().to_owned(),
        complete,
        says: undone.says,
    });
    let report = Report {
        at: clock::boot(),
        incident: Some(lease.incident),
        workload: Some(lease.workload.clone()),
        fact,
    };
    let over = complete.then(|| Work::from(JournalEntry::Undone { key: lease.key.clone() }));
    [Work::from(report)].into_iter().chain(over).collect()
}

fn now() -> Moment {
    Moment { boot: clock::boot(), wall: clock::wall() }
}
