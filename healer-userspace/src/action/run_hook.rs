//! A program of the user's. At most once: the engine never repeats an intent of this action.

use super::{
    host::{Hook, HookEnd, Host},
    reach, timeout,
};
use crate::{
    engine::command::{Act, ActionOutcome},
    text::printable,
};

pub(super) async fn run(act: &Act, host: &dyn Host) -> ActionOutcome {
    let hook = Hook {
        argv: act.rung.command.clone(),
        stdin: act.incident_json.clone(),
        environment: vec![
            ("HEALER_ACTION_KEY", act.key.to_string()),
            ("HEALER_INCIDENT", act.incident.to_string()),
            ("HEALER_CLASS", act.class.to_string()),
            ("HEALER_WORKLOAD", act.workload.to_string()),
        ],
        limit: timeout(act),
    };
    match host.run_hook(hook).await {
        Ok(end) => judge(act, host, &end),
        Err(error) => reach::failed(&format!("cannot start {:?}", act.rung.command), &error),
    }
}

fn judge(act: &Act, host: &dyn Host, end: &HookEnd) -> ActionOutcome {
    let words = match end.exit {
        None => format!("killed after {} s", timeout(act).as_secs()),
        Some(exit) => match exit.signal {
            Some(signal) => format!("ended by {}", reach::name(signal)),
            None => format!("exit status {}", exit.code),
        },
    };
    let cut = if end.cut { " (cut)" } else { "" };
    let says = match end.output.trim_end() {
        "" => words,
        output => format!("{words}: {}{cut}", printable(output)),
    };
    if end.exit.is_some_and(|exit| !exit.is_abnormal()) {
        host.outcome(says)
    } else {
        let error = format!("hook {:?}: {says}", act.rung.command);
        ActionOutcome::Failed { error, errno: None }
    }
}
