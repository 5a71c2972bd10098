//! The few calls of `org.freedesktop.systemd1` (org.freedesktop.systemd1(5)) that healer makes.

use core::time::Duration;
use std::path::Path;

use tokio::net::UnixStream;
use zbus::{
    Connection, MatchRule, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant, connection::Builder,
    message::Type, zvariant::DynamicType,
};

use super::super::{main_pid, settle::State};
use crate::{
    signal::{Exit, SeenBy},
    text::printable,
};

/// systemd answers within milliseconds unless it is stuck.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Words for a person.
pub(super) type Result<T> = core::result::Result<T, String>;

pub(super) struct Manager {
    bus: Connection,
}

/// A service as systemd has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) active: String,
    pub(super) sub: String,
    /// Here, not in systemd's own pid namespace.
    pub(super) main: Option<u32>,
    /// The same by systemd's own pid; 0: none.
    pub(super) own_pid: u32,
    /// Path below systemd's own root; empty if nothing of it runs.
    pub(super) group: String,
}

impl Service {
    /// `failed (failed)`
    pub(super) fn words(&self) -> String {
        format!("{} ({})", self.active, self.sub)
    }

    pub(super) fn state(&self) -> State {
        match self.active.as_str() {
            "active" => State::Running(self.main),
            "inactive" | "failed" => State::Over,
            _ => State::Busy(self.words()),
        }
    }
}

/// A start that finds that they do not hold is skipped, and its job is done all the same (`-ECOMM`, src/core/job.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conditions {
    /// As they were then; of a unit that was never started, they do not.
    pub(super) hold: bool,
    /// Microseconds of CLOCK_MONOTONIC; 0: never.
    pub(super) tested_at: u64,
}

/// Of a unit that does not end by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    All,
    Main,
}

/// `JobRemoved`: a job is over.
pub(super) struct JobRemoved {
    pub(super) job: OwnedObjectPath,
    pub(super) unit: String,
    /// `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, `assert`
    pub(super) result: String,
}

impl Manager {
    pub(super) async fn connect(socket: &Path) -> Result<Self> {
        let tried = || format!("no systemd at {}", socket.display());
        let connect = async {
            let stream = UnixStream::connect(socket).await?.into_std()?;
            let builder = Builder::unix_stream(stream).method_timeout(ANSWERS_WITHIN);
            builder.build().await
        };
        let bus = tokio::time::timeout(ANSWERS_WITHIN, connect).await;
        let bus = bus.map_err(|_elapsed| format!("{}: no answer within {ANSWERS_WITHIN:?}", tried()))?;
        Ok(Self { bus: bus.map_err(|error| words(&tried(), &error))? })
    }

    /// From now on the ends of jobs come through the stream.
    pub(super) async fn jobs(&self) -> Result<MessageStream> {
        let rule = MatchRule::builder().msg_type(Type::Signal).interface(MANAGER).member("JobRemoved");
        let rule = rule.build().map_err(|error| words("match JobRemoved", &error))?;
        let stream = MessageStream::for_match_rule(rule, &self.bus, None).await;
        let stream = stream.map_err(|error| words("listen to systemd", &error))?;
        self.call("Subscribe", &()).await?;
        Ok(stream)
    }

    /// The loaded services that match, each with its active and sub state: one call for all.
    pub(super) async fn matching(&self, patterns: &[String]) -> Result<Vec<(String, String)>> {
        type Row =
            (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let any_state: &[&str] = &[];
        let reply = self.call("ListUnitsByPatterns", &(any_state, patterns)).await?;
        let rows: Vec<Row> = reply.body().deserialize().map_err(|error| words("list units", &error))?;
        let rows = rows.into_iter().filter(|row| is_service(&row.0));
        Ok(rows.map(|row| (row.0, format!("{} ({})", row.3, row.4))).collect())
    }

    /// # Errors
    /// systemd does not answer, or knows no such service.
    pub(super) async fn service(&self, name: &str) -> Result<Service> {
        let path = self.path(name).await?;
        let active = self.get(&path, UNIT, "ActiveState").await?;
        let sub = self.get(&path, UNIT, "SubState").await?;
        let group: String = self.get(&path, SERVICE, "ControlGroup").await?;
        let pid: u32 = self.get(&path, SERVICE, "MainPID").await?;
        let main = main_pid::here(Path::new("/proc"), pid, &group);
        Ok(Service { active, sub, main, own_pid: pid, group })
    }

    /// The last main process, by systemd's own pid, and how it ended.
    pub(super) async fn last_exit(&self, name: &str) -> Result<(u32, Exit)> {
        let path = self.path(name).await?;
        let pid: u32 = self.get(&path, SERVICE, "ExecMainPID").await?;
        let code: i32 = self.get(&path, SERVICE, "ExecMainCode").await?;
        let status: i32 = self.get(&path, SERVICE, "ExecMainStatus").await?;
        let exit = Exit { seen_by: SeenBy::Poll, ..Exit::default() };
        let exit = match code {
            libc::CLD_KILLED => Exit { signal: Some(status), ..exit },
            libc::CLD_DUMPED => Exit { signal: Some(status), core: true, ..exit },
            _ => Exit { code: status, ..exit },
        };
        Ok((pid, exit))
    }

    /// `success`, `exit-code`, `signal`, `timeout`, `oom-kill`, …
    pub(super) async fn result(&self, name: &str) -> Result<String> {
        self.of(name, SERVICE, "Result").await
    }

    pub(super) async fn conditions(&self, name: &str) -> Result<Conditions> {
        let path = self.path(name).await?;
        // In this order: of a start in between, the time is news when its own job ends.
        let tested_at = self.get(&path, UNIT, "ConditionTimestampMonotonic").await?;
        let hold = self.get(&path, UNIT, "ConditionResult").await?;
        Ok(Conditions { hold, tested_at })
    }

    /// Queues a restart; gives the job.
    pub(super) async fn restart(&self, name: &str) -> Result<OwnedObjectPath> {
        let reply = self.call("RestartUnit", &(name, "replace")).await?;
        reply.body().deserialize().map_err(|error| words("read the restart's job", &error))
    }

    /// SIGKILL to everybody in it, or to its main process alone.
    pub(super) async fn kill(&self, name: &str, whom: Whom) -> Result<()> {
        let whom = match whom {
            Whom::All => "all",
            Whom::Main => "main",
        };
        self.call("KillUnit", &(name, whom, libc::SIGKILL)).await.map(drop)
    }

    /// Whom systemd itself would kill in the end (systemd.kill(5)); `None`: nobody.
    pub(super) async fn kills(&self, name: &str) -> Result<Option<Whom>> {
        let mode: String = self.of(name, SERVICE, "KillMode").await?;
        let goes_so_far: bool = self.of(name, SERVICE, "SendSIGKILL").await?;
        Ok(match mode.as_str() {
            "control-group" | "mixed" if goes_so_far => Some(Whom::All),
            "process" if goes_so_far => Some(Whom::Main),
            _other => None,
        })
    }

    /// `TimeoutStopSec=`, if the unit has its own: whoever gave it one knows how long its end may take.
    pub(super) async fn own_stop_timeout(&self, name: &str) -> Result<Option<Duration>> {
        let micros: u64 = self.of(name, SERVICE, "TimeoutStopUSec").await?;
        let path = ObjectPath::try_from(MANAGER_PATH).map_err(|error| format!("name systemd: {error}"))?;
        let common: u64 = self.get(&path, MANAGER, "DefaultTimeoutStopUSec").await?;
        Ok((micros != common).then(|| Duration::from_micros(micros)))
    }

    /// The unit's own name; others are its aliases.
    pub(super) async fn id(&self, name: &str) -> Result<String> {
        self.of(name, UNIT, "Id").await
    }

    pub(super) async fn is_loaded(&self, name: &str) -> Result<bool> {
        let state: String = self.of(name, UNIT, "LoadState").await?;
        Ok(state != "not-found")
    }

    /// A oneshot, a command that somebody has had run (systemd-run(1)), which systemd has forgotten once it is over, or
    /// a service that is over and counts as running (`RemainAfterExit=`).
    pub(super) async fn is_meant_to_end(&self, name: &str, now: &Service) -> Result<bool> {
        if now.sub == "exited" || !self.is_loaded(name).await? || self.of(name, UNIT, "Transient").await? {
            return Ok(true);
        }
        let kind: String = self.of(name, SERVICE, "Type").await?;
        Ok(kind == "oneshot")
    }

    pub(super) async fn can_freeze(&self, name: &str) -> Result<bool> {
        self.of(name, UNIT, "CanFreeze").await
    }

    /// `running`, `freezing`, `frozen`, `thawing`
    pub(super) async fn freezer_state(&self, name: &str) -> Result<String> {
        self.of(name, UNIT, "FreezerState").await
    }

    pub(super) async fn freeze(&self, name: &str, halt: bool) -> Result<()> {
        self.call(if halt { "FreezeUnit" } else { "ThawUnit" }, &name).await.map(drop)
    }

    pub(super) async fn amount(&self, name: &str, property: &str) -> Result<u64> {
        self.of(name, SERVICE, property).await
    }

    /// Until the next boot: nothing is written below /etc.
    pub(super) async fn set_amount(&self, name: &str, property: &str, amount: u64) -> Result<()> {
        let is_for_now = true;
        let properties = vec![(property, zbus::Variant::U64(amount))];
        self.call("SetUnitProperties", &(name, is_for_now, properties)).await.map(drop)
    }

    async fn path(&self, name: &str) -> Result<OwnedObjectPath> {
        let reply = self.call("LoadUnit", &name).await?;
        reply.body().deserialize().map_err(|error| words("read a unit's path", &error))
    }

    async fn of<T>(&self, name: &str, interface: &str, property: &str) -> Result<T>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: core::fmt::Display,
    {
        let path = self.path(name).await?;
        self.get(&path, interface, property).await
    }

    async fn get<T>(&self, path: &ObjectPath<'_>, interface: &str, property: &str) -> Result<T>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: core::fmt::Display,
    {
        let properties = Some("org.freedesktop.DBus.Properties");
        let which = (interface, property);
        let asked = self.bus.call_method(Some(SYSTEMD), path, properties, "Get", &which);
        let reply = asked.await.map_err(|error| words(&format!("ask systemd for {property}"), &error))?;
        let value: OwnedVariant =
            reply.body().deserialize().map_err(|error| words(&format!("read {property}"), &error))?;
        T::try_from(value).map_err(|error| format!("read {property}: {error}"))
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<zbus::Message>
    where
        B: serde::Serialize + DynamicType,
    {
        let asked = self.bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), method, body);
        asked.await.map_err(|error| words(&format!("systemd's {method}"), &error))
    }
}

impl JobRemoved {
    pub(super) fn of(message: &zbus::Message) -> Option<Self> {
        let (_id, job, unit, result) =
            message.body().deserialize::<(u32, OwnedObjectPath, String, String)>().ok()?;
        Some(Self { job, unit, result })
    }
}

/// As systemd takes names (systemd.unit(5)); a template without an instance cannot run.
pub(super) fn is_service(name: &str) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    name.ends_with(".service")
        && !name.ends_with("@.service")
        && name.len() < 256
        && name.bytes().all(is_taken)
}

/// What we tried, and the error, which may quote whatever is on the bus.
fn words(tried: &str, error: &impl core::fmt::Display) -> String {
    format!("{tried}: {}", printable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_refuses_is_not_asked_for() {
        for name in ["web.service", "web@1.service", r"dev-\x2dx.service"] {
            assert!(is_service(name), "{name}");
        }
        for name in ["web", "web.socket", "web@.service", "user@0.service/web.service", "a b.service"] {
            assert!(!is_service(name), "{name}");
        }
    }
}
