//! `healer sensors`

use std::{path::Path, process::ExitCode};

use super::output::{Cell, Mood, Paint, Table, emit, emit_json};
use crate::{
    control::{Request, client::ask},
    report::view::{SelfCheck, Sensor, SensorState},
};

#[derive(clap::Args)]
pub struct Args {
    /// For scripts
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, state_dir: &Path) -> anyhow::Result<ExitCode> {
    let answer = ask(state_dir, &Request::Sensors)?;
    if args.json {
        emit_json(&answer)?;
    } else {
        let sensors: Vec<Sensor> = serde_json::from_value(answer["sensors"].clone())?;
        emit(&render(&sensors, Paint::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(sensors: &[Sensor], paint: Paint) -> String {
    if sensors.is_empty() {
        return "no sensors\n".into();
    }
    let mut table = Table::with_head(&["SENSOR", "STATE", "VIA", "NOTE"]);
    for sensor in sensors {
        table.row([
            Cell::from(&sensor.name),
            Cell::new(mood(sensor.state), sensor.state.name()),
            Cell::from(sensor.via.as_deref().unwrap_or("-")),
            Cell::from(note(sensor)),
        ]);
    }
    table.render(paint)
}

pub fn mood(state: SensorState) -> Mood {
    match state {
        SensorState::Attached => Mood::Good,
        SensorState::Degraded => Mood::Held,
        SensorState::Down => Mood::Bad,
    }
}

fn note(sensor: &Sensor) -> String {
    let mut parts = Vec::new();
    if sensor.self_check == SelfCheck::Truthful {
        parts.push("self-check passed".to_owned());
    }
    if let Some(mode) = &sensor.mode {
        let since = sensor.mode_since_time.as_deref().unwrap_or_default();
        parts.push(format!("{mode} since {since}: {}", sensor.mode_why.as_deref().unwrap_or_default()));
    }
    parts.extend(sensor.reason.clone());
    if !sensor.missing.is_empty() {
        parts.push(format!("without {}", sensor.missing.join(", ")));
    }
    parts.extend(sensor.remedy.as_ref().map(|remedy| format!("remedy: {remedy}")));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_says_why_and_what_helps() {
        let sensor = |name: &str, state, via: Option<&str>| Sensor {
            name: name.into(),
            state,
            via: via.map(str::to_owned),
            ..Sensor::default()
        };
        let sensors = [
            Sensor {
                self_check: SelfCheck::Truthful,
                ..sensor("process_exit", SensorState::Attached, Some("tp_btf"))
            },
            Sensor {
                missing: vec!["oom_control.totalpages".into()],
                ..sensor("oom_kill", SensorState::Degraded, Some("tracepoint"))
            },
            Sensor {
                reason: Some("no permission to load programs".into()),
                remedy: Some("run as root".into()),
                ..sensor("signal_sent", SensorState::Down, None)
            },
        ];
        assert_eq!(
            render(&sensors, Paint(false)),
            "\
SENSOR        STATE     VIA         NOTE
process_exit  attached  tp_btf      self-check passed
oom_kill      degraded  tracepoint  without oom_control.totalpages
signal_sent   down      -           no permission to load programs; remedy: run as root
"
        );
    }
}
