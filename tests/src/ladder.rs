//! Kernels that lack something.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use healer_userspace::sense::{Level, SENSORS, Settings};
use serde_json::Value;

use crate::{
    eye::Eye,
    home::{Agent, Home},
    types::with_wrong_hooks,
};

/// A kernel on which nothing above `level` works, by what it lacks.
#[must_use]
pub fn kernel_with(level: Level) -> Settings {
    let nowhere = PathBuf::from("/nonexistent");
    let running = Settings::default();
    match level {
        Level::TpBtf => running,
        // Typed programs are refused, by the kernel itself.
        Level::RawTp => Settings { wrong_hooks: true, ..running },
        // It does not describe its types.
        Level::Tracepoint => Settings { btf: nowhere, ..running },
        // Nor is there a tracefs.
        Level::User => Settings { btf: nowhere.clone(), tracefs: nowhere, best: Level::User, ..running },
    }
}

/// The eye on such a kernel.
#[must_use]
pub fn eye_on(level: Level) -> Eye {
    Eye::with(&kernel_with(level), blind_by(level))
}

/// Sensors that have no way there.
#[must_use]
pub fn blind_by(level: Level) -> &'static [&'static str] {
    match level {
        Level::TpBtf | Level::RawTp | Level::Tracepoint => &[],
        Level::User => &["signal_sent", "syscall_error", "reclaim_stall"],
    }
}

const NO_TYPES: &str = "mount -t tmpfs none /sys/kernel/btf && ";
/// Debugfs shows it, too.
const NO_TRACEFS: &str = "for dir in /sys/kernel/tracing /sys/kernel/debug; do umount $dir; mount -t tmpfs none $dir; \
    done 2>/dev/null; ";

/// An agent on such a kernel: what it lacks is hidden from the agent alone.
#[must_use]
pub fn agent_on(home: &Home, level: Level) -> Agent<'_> {
    let command = home.run_command();
    let hides = match level {
        Level::TpBtf => return home.agent_of(command),
        Level::RawTp => {
            let types = home.path().join("vmlinux");
            with_wrong_hooks(&types);
            format!("mount --bind {} /sys/kernel/btf/vmlinux && ", types.display())
        }
        Level::Tracepoint => NO_TYPES.to_owned(),
        Level::User => [NO_TYPES, NO_TRACEFS].concat(),
    };
    home.agent_of(after(&hides, &command))
}

/// `command` in a mount namespace of its own, in which these words ran before.
fn after(words: &str, command: &Command) -> Command {
    let mut apart = Command::new("unshare");
    apart.args(["-m", "sh", "-c", &format!("mount --make-rprivate / && {words}exec \"$@\""), "sh"]);
    apart.arg(command.get_program()).args(command.get_args());
    apart
}

/// What `healer sensors` shows: each sensor's row.
pub struct Shown(BTreeMap<String, Value>);

impl Shown {
    /// # Panics
    /// If it is not in JSON.
    #[must_use]
    pub fn by(home: &Home) -> Self {
        let output = home.healer(&["sensors", "--json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).expect("sensors speak JSON");
        let rows = shown["sensors"].as_array().expect("a list").iter();
        Self(rows.map(|row| (row["name"].as_str().unwrap_or_default().to_owned(), row.clone())).collect())
    }

    /// # Panics
    /// If there is no such sensor.
    #[must_use]
    pub fn row(&self, sensor: &str) -> &Value {
        &self.0[sensor]
    }

    /// That each sensor works by its way of this level and shows what that lacks, or is down and says what serves.
    ///
    /// # Panics
    /// With the row of one that does not.
    pub fn is_of(&self, level: Level) {
        for sensor in SENSORS {
            let row = self.row(sensor.kind.name());
            let Some(rung) = sensor.rungs.iter().find(|rung| rung.level() == level) else {
                let reason = row["reason"].as_str().unwrap_or_default();
                assert!(row["state"] == "down" && reason.ends_with(sensor.otherwise), "{level:?}: {row}");
                continue;
            };
            assert_eq!(row["via"], rung.via(), "{level:?}: {row}");
            let reason = row["reason"].as_str().unwrap_or_default();
            assert!(level != Level::RawTp || reason.contains("the verifier refused it"), "{row}");
            for field in rung.lacks() {
                assert!(missing(row).any(|missing| missing == *field), "{level:?}: {row} without {field}");
            }
        }
    }

    /// Whether this sensor works, and does not show that it lacks `field`.
    #[must_use]
    pub fn tells(&self, sensor: &str, field: &str) -> bool {
        let row = self.row(sensor);
        row["state"] != "down" && missing(row).all(|missing| missing != field)
    }
}

fn missing(row: &Value) -> impl Iterator<Item = &Value> {
    row["missing"].as_array().into_iter().flatten()
}
