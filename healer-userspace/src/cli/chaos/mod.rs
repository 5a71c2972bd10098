//! `healer chaos list|CLASS|NAME` and `healer chaos --campaign`

mod campaign;

use core::time::Duration;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use anyhow::Context as _;

use super::{BAD_INPUT, output::emit};
use crate::{
    clock,
    engine::class::Class,
    fault::{End, FAULTS, Fault, victim::Victim},
};

/// Make a real failure, bounded, in a cgroup of its own: what does healer say?
#[derive(clap::Args)]
pub struct Args {
    /// `list`, a failure class, or the name of a fault
    #[arg(required_unless_present = "campaign")]
    what: Option<String>,
    /// Leave what still lives until ^C
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    campaign: campaign::Campaign,
}

/// # Errors
/// The cgroup or the process cannot be made.
pub(super) fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let what = args.what.as_deref().unwrap_or_default();
    if what == "list" {
        emit(&list())?;
        return Ok(ExitCode::SUCCESS);
    }
    let faults = chosen(what);
    if faults.is_empty() && !args.campaign.campaign {
        let words =
            format!("no fault and no class with a fault is called {what:?}; see `healer chaos list`\n");
        emit(&words)?;
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().context("make the event loop")?;
    let state_dir = state_dir.to_owned();
    runtime.block_on(async {
        // Guards clean up on the way out of this future, so ^C must end it, not the process.
        tokio::select! {
            made = campaign::run(&args.campaign), if args.campaign.campaign => made,
            made = make_all(&faults, args.keep, state_dir), if !args.campaign.campaign => made,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
        }
    })
}

fn list() -> String {
    let mut text = String::new();
    for fault in FAULTS {
        let class = fault.class.map_or("-", Class::name);
        // Writing to a String cannot fail.
        writeln!(text, "{:<14} {:<12} {}", fault.name, class, fault.does).ok();
    }
    text
}

fn chosen(what: &str) -> Vec<&'static Fault> {
    match (Fault::by_name(what), Class::by_name(what)) {
        (Some(fault), _) => vec![fault],
        (None, Some(class)) => Fault::of_class(class).collect(),
        (None, None) => Vec::new(),
    }
}

async fn make_all(faults: &[&'static Fault], keep: bool, state_dir: PathBuf) -> anyhow::Result<ExitCode> {
    let mut all_made = true;
    for fault in faults {
        all_made &= make(fault, keep, &state_dir).await?;
    }
    Ok(if all_made { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// True if the fault happened as the table says.
async fn make(fault: &'static Fault, keep: bool, state_dir: &Path) -> anyhow::Result<bool> {
    let mut victim =
        Victim::start(fault, state_dir).with_context(|| format!("make the fault {}", fault.name))?;
    let (pid, cgroup) = (victim.pid(), victim.cgroup.path());
    emit(&format!("{}: {}\n  pid {pid} in cgroup {cgroup}\n", fault.name, fault.does))?;
    let ended = wait(&mut victim).await?;
    let made = fault.end.is_met_by(ended);
    let how = ended.map_or_else(|| "still lives, as it should".to_owned(), |status| status.to_string());
    let expected = match fault.class {
        Some(class) => format!("an agent should call it {class}"),
        None => "an agent should say nothing".to_owned(),
    };
    let verdict =
        if made { expected } else { format!("NOT the fault that was meant: {}", fault.end.words()) };
    emit(&format!("  {how}; {verdict}\n"))?;
    if keep && ended.is_none() {
        emit("  kept until ^C\n")?;
        core::future::pending::<()>().await;
    }
    Ok(made)
}

/// Until it ends or its time is over. One that should not end at all is watched for a second less than that.
async fn wait(victim: &mut Victim) -> anyhow::Result<Option<ExitStatus>> {
    let began = clock::boot();
    let watched = match victim.fault.end {
        End::Never => victim.fault.lasts.saturating_sub(Duration::from_secs(1)),
        End::Signal(_) | End::Status(_) => victim.fault.lasts,
    };
    while clock::boot().since(began) < watched {
        if let Some(status) = victim.ended().context("wait for the victim")? {
            return Ok(Some(status));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}
