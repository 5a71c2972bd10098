//! What the journal's rows hold, and how their times come to this boot.

use core::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        class::Class,
        command::{ActionKey, Intent, PastAct},
        lease::Lease,
        policy::Mode,
        report::Outcome,
        time::BootTime,
    },
    identity::process::WorkloadKey,
    report::audit::head::Head,
};

/// Acts older than this are forgotten: no window of a policy is longer.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`
    pub boot: BootTime,
    /// `CLOCK_REALTIME`
    pub wall: Timestamp,
}

impl Moment {
    /// The wall clock at another instant of this boot, as the wall clock is set now.
    pub fn wall_at(&self, at: BootTime) -> Timestamp {
        let earlier = i128::from(self.boot.0) - i128::from(at.0);
        Timestamp::from_nanosecond(self.wall.as_nanosecond() - earlier).unwrap_or(self.wall)
    }

    fn wall_ns(&self) -> i64 {
        i64::try_from(self.wall.as_nanosecond()).unwrap_or(i64::MAX)
    }
}

/// When and in which boot something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    pub moment: Moment,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// No incident of this number or a greater one was ever given out.
    pub next_incident: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<Head>,
}

/// An act that was meant, until its result, and until it is verified, are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntentRow {
    pub boot_id: String,
    pub wall_ns: i64,
    pub intent: Intent,
    /// The act is over; whether it helped is not known yet.
    #[serde(default)]
    pub verifying: bool,
}

impl IntentRow {
    pub fn new(intent: Intent, stamp: &Stamp) -> Self {
        Self { boot_id: stamp.boot_id.clone(), wall_ns: stamp.moment.wall_ns(), intent, verifying: false }
    }

    pub fn key(&self) -> &ActionKey {
        &self.intent.act.key
    }
}

/// What an act has borrowed and nobody has given back yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeaseRow {
    pub boot_id: String,
    pub lease: Lease,
}

/// An act whose effect is confirmed, or that may have had one: what budgets, backoff and breakers need of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActRow {
    pub boot_id: String,
    pub wall_ns: i64,
    pub boot_ns: u64,
    pub workload: WorkloadKey,
    pub class: Class,
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed: Option<bool>,
}

impl ActRow {
    pub fn new(intent: &Intent, stamp: &Stamp) -> Self {
        Self {
            boot_id: stamp.boot_id.clone(),
            wall_ns: stamp.moment.wall_ns(),
            boot_ns: stamp.moment.boot.0,
            workload: intent.act.workload.clone(),
            class: intent.act.class,
            mode: intent.act.mode,
            healed: None,
        }
    }

    pub fn is_recent(&self, now: &Stamp) -> bool {
        self.age(now) <= REMEMBERED_FOR
    }

    /// In this boot's time; zero if it was before this boot.
    pub fn past_act(&self, now: &Stamp) -> PastAct {
        PastAct {
            workload: self.workload.clone(),
            class: self.class,
            mode: self.mode,
            at: now.moment.boot - self.age(now),
            healed: self.healed,
        }
    }

    /// By boot time within one boot, which no clock change touches; else by the wall clock.
    /// A wall clock that was set back makes it zero: the act counts as fresh, which is the careful side.
    fn age(&self, now: &Stamp) -> Duration {
        if self.boot_id == now.boot_id {
            return now.moment.boot.since(BootTime(self.boot_ns));
        }
        let nanos = now.moment.wall_ns().saturating_sub(self.wall_ns);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

/// Whether the breaker counts an act as a success. In shadow nothing was done, so nothing failed.
pub fn is_success(mode: Mode, outcome: &str) -> bool {
    let well = [Outcome::Healed, Outcome::RecoveredAlone];
    mode == Mode::Shadow || well.iter().any(|known| known.name() == outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn stamp(boot_id: &str, boot_hours: u64, wall_hours: i64) -> Stamp {
        Stamp {
            boot_id: boot_id.into(),
            moment: Moment {
                boot: BootTime(boot_hours * HOUR),
                wall: Timestamp::from_second(wall_hours * 3600).unwrap(),
            },
        }
    }

    fn act(at: &Stamp) -> ActRow {
        ActRow {
            boot_id: at.boot_id.clone(),
            wall_ns: at.moment.wall_ns(),
            boot_ns: at.moment.boot.0,
            workload: WorkloadKey::supervise("web"),
            class: Class::Down,
            mode: Mode::Enforce,
            healed: None,
        }
    }

    #[test]
    fn one_boot_goes_by_boot_time_whatever_the_wall_clock_does() {
        let row = act(&stamp("a", 10, 1000));
        let now = stamp("a", 12, 5);
        assert_eq!(row.past_act(&now).at, BootTime(10 * HOUR));
        assert!(row.is_recent(&now));
        assert!(!row.is_recent(&stamp("a", 35, 1000)));
    }

    #[test]
    fn another_boot_goes_by_wall_clock() {
        let row = act(&stamp("a", 500, 1000));
        assert_eq!(row.past_act(&stamp("b", 5, 1002)).at, BootTime(3 * HOUR));
        assert_eq!(row.past_act(&stamp("b", 1, 1002)).at, BootTime(0));
        assert!(!row.is_recent(&stamp("b", 1, 1025)));
        // set back: the act counts as just done
        assert_eq!(row.past_act(&stamp("b", 5, 7)).at, BootTime(5 * HOUR));
    }

    #[test]
    fn wall_time_of_another_instant() {
        let moment = stamp("a", 10, 1000).moment;
        assert_eq!(moment.wall_at(BootTime(9 * HOUR)).as_second(), 999 * 3600);
        assert_eq!(moment.wall_at(BootTime(11 * HOUR)).as_second(), 1001 * 3600);
    }

    #[test]
    fn outcomes_count_for_the_breaker() {
        assert!(is_success(Mode::Enforce, "healed"));
        assert!(!is_success(Mode::Enforce, "worse"));
        assert!(!is_success(Mode::Enforce, "unknown"));
        assert!(is_success(Mode::Shadow, "stayed_sick"));
    }
}
