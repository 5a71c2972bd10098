//! `healer status`

use core::time::Duration;
use std::{path::Path, process::ExitCode};

use super::{
    incidents,
    output::{Cell, Mood, Paint, Table, emit, emit_json},
};
use crate::{
    control::{Request, client::ask},
    engine::time::Human,
    report::view::{Lent, Sensor, SensorState, Status, Workload},
};

#[derive(clap::Args)]
pub struct Args {
    /// For scripts
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let answer = ask(state_dir, &Request::Status)?;
    if args.json {
        emit_json(&answer)?;
    } else {
        emit(&render(&serde_json::from_value(answer)?, Paint::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(status: &Status, paint: Paint) -> String {
    let mut out = summary(status).render(paint);
    if !status.workloads.is_empty() {
        out.push('\n');
        out.push_str(&workloads(&status.workloads).render(paint));
    }
    if !status.leases.is_empty() {
        out.push('\n');
        out.push_str(&leases(&status.leases).render(paint));
    }
    if !status.open_incidents.is_empty() {
        out.push('\n');
        out.push_str(&incidents::list(&status.open_incidents, paint));
    }
    out
}

fn summary(status: &Status) -> Table {
    let mut table = Table::default();
    let mut line = |name: &str, mood: Mood, value: &str| {
        table.row([Cell::new(Mood::Faint, name), Cell::new(mood, value)]);
    };
    let up = Human(Duration::from_secs(status.uptime_seconds));
    let version = &status.version;
    line("healer", Mood::Strong, &format!("{version}, pid {}, up {up}", status.pid));
    match (&status.paused, &status.not_writable) {
        (Some(by), _) => line("acting", Mood::Held, &format!("no, paused: {by}")),
        (None, Some(why)) => line("acting", Mood::Bad, &format!("no, the journal cannot be written: {why}")),
        (None, None) => line("acting", Mood::Plain, &modes(status)),
    }
    match status.not_ready_because.as_slice() {
        [] => line("ready", Mood::Good, "yes"),
        reasons => line("ready", Mood::Bad, &format!("no: {}", reasons.join("; "))),
    }
    let (mood, sensors) = sensors(&status.sensors);
    line("sensors", mood, &sensors);
    let mood = if status.lost_records == 0 { Mood::Plain } else { Mood::Held };
    line("lost", mood, &format!("{} records", status.lost_records));
    line("policies", Mood::Plain, &policies(status));
    if let Some(refused) = &status.policies.refused {
        line("", Mood::Bad, &format!("the last reload was refused: {refused}"));
    }
    let open = status.open_incidents.len();
    let mood = if open == 0 { Mood::Plain } else { Mood::Bad };
    line("incidents", mood, &format!("{} known, {open} open", status.incidents));
    line("state", Mood::Plain, &status.state_dir);
    if let Some(head) = &status.audit_head {
        line("audit", Mood::Plain, &format!("head {head}"));
    }
    table
}

fn modes(status: &Status) -> String {
    let count = |mode| status.policies.policies.iter().filter(|of| of.mode == mode).count();
    let [enforce, shadow, observe] = ["enforce", "shadow", "observe"].map(count);
    match (enforce, shadow, observe) {
        (0, 0, _) => "no policy acts: diagnoses only".into(),
        (0, shadow, _) => format!("in shadow only ({}): nothing is touched", plural(shadow)),
        (enforce, 0, _) => format!("yes ({} in enforce)", plural(enforce)),
        (enforce, shadow, _) => {
            format!("yes ({} in enforce, {shadow} in shadow)", plural(enforce))
        }
    }
}

fn plural(policies: usize) -> String {
    match policies {
        1 => "1 policy".into(),
        many => format!("{many} policies"),
    }
}

fn sensors(sensors: &[Sensor]) -> (Mood, String) {
    let count = |state| sensors.iter().filter(|sensor| sensor.state == state).count();
    let degraded = count(SensorState::Degraded);
    let down = count(SensorState::Down);
    let up = count(SensorState::Attached);
    let text = format!("{up} attached, {degraded} degraded, {down} down");
    match (degraded, down) {
        (0, 0) => (Mood::Plain, text),
        (_, 0) => (Mood::Held, text + " (`healer sensors` says why)"),
        (_, _) => (Mood::Bad, text + " (`healer sensors` says why)"),
    }
}

fn policies(status: &Status) -> String {
    let policies = &status.policies;
    let names: Vec<_> =
        policies.policies.iter().map(|policy| format!("{} ({})", policy.name, policy.mode)).collect();
    let cap = policies.mode_cap.as_ref().map(|cap| format!(", capped at {cap}"));
    format!("{}, version {}{}", names.join(", "), policies.version, cap.unwrap_or_default())
}

fn workloads(workloads: &[Workload]) -> Table {
    let mut table = Table::with_head(&["WORKLOAD", "STATE", "PID", "ENDS", "PROGRAM"]);
    for workload in workloads {
        let (mood, state) = if workload.running { (Mood::Good, "running") } else { (Mood::Bad, "down") };
        table.row([
            Cell::from(&workload.key),
            Cell::new(mood, state),
            Cell::from(workload.pid.to_string()),
            Cell::from(workload.ends.to_string()),
            Cell::from(&workload.exe),
        ]);
    }
    table
}

fn leases(leases: &[Lent]) -> Table {
    let mut table = Table::with_head(&["LENT", "INCIDENT", "WORKLOAD", "WHAT (`healer undo` gives it back)"]);
    for lent in leases {
        table.row([
            Cell::new(Mood::Held, &lent.action),
            Cell::from(&lent.incident),
            Cell::from(&lent.workload),
            Cell::from(lent.turns.join(", ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{
        incidents::Incident,
        view::{Policies, PolicyLine},
    };

    #[test]
    fn the_page_says_first_what_matters() {
        let status = Status {
            version: "0.1.0".into(),
            pid: 77,
            state_dir: "/var/lib/healer".into(),
            uptime_seconds: 200,
            ready: false,
            not_ready_because: vec!["the self-probe was last seen 11.0s ago, limit 10.0s".into()],
            sensors: vec![
                Sensor { state: SensorState::Attached, ..Sensor::default() },
                Sensor { state: SensorState::Down, ..Sensor::default() },
            ],
            policies: Policies {
                version: "abc".into(),
                mode_cap: Some("shadow".into()),
                policies: vec![PolicyLine {
                    name: "default".into(),
                    mode: "shadow".into(),
                    rules: Vec::new(),
                }],
                refused: None,
            },
            workloads: vec![Workload {
                key: "supervise/web".into(),
                running: true,
                pid: 11,
                exe: "/usr/bin/web".into(),
                ends: 2,
            }],
            open_incidents: vec![Incident {
                id: "i3".into(),
                workload: "supervise/api".into(),
                class: "down".into(),
                sentence: "api is down".into(),
                fault_time: "2026-01-01T03:04:05.1Z".into(),
                open: true,
                ..Incident::default()
            }],
            incidents: 3,
            leases: vec![Lent {
                incident: "i2".into(),
                workload: "unit/web.service".into(),
                action: "throttle".into(),
                turns: vec!["cpu.max of /web: max 100000 → 20000 100000".into()],
            }],
            ..Status::default()
        };
        assert_eq!(
            render(&status, Paint(false)),
            "\
healer     0.1.0, pid 77, up 3m20s
acting     in shadow only (1 policy): nothing is touched
ready      no: the self-probe was last seen 11.0s ago, limit 10.0s
sensors    1 attached, 0 degraded, 1 down (`healer sensors` says why)
lost       0 records
policies   default (shadow), version abc, capped at shadow
incidents  3 known, 1 open
state      /var/lib/healer

WORKLOAD       STATE    PID  ENDS  PROGRAM
supervise/web  running  11   2     /usr/bin/web

LENT      INCIDENT  WORKLOAD          WHAT (`healer undo` gives it back)
throttle  i2        unit/web.service  cpu.max of /web: max 100000 → 20000 100000

ID  FAULT (UTC)          WORKLOAD  CLASS  MODE  OUTCOME  WHAT HAPPENED
i3  2026-01-01 03:04:05  api       down   -     open     api is down
"
        );
    }
}
