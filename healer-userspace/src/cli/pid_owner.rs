//! A pid is given to somebody else once its owner is gone: which of its owners is meant, and what is told of another.

use std::path::Path;

use serde_json::Value;

use super::story;
use crate::{
    clock,
    identity::{process::TICK_NS, procfs::ProcDir},
    report::{deaths::End, incidents::Incident, record::Record},
    text::printable,
};

/// When it began, of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// `None`: not told.
    boot_id: Option<String>,
    /// `/proc` shows whole ticks.
    start_ticks: u64,
}

impl Owner {
    /// `None`: its start was not told.
    fn new(boot_id: Option<&str>, start_boot_ns: u64) -> Option<Self> {
        let start_ticks = start_boot_ns / TICK_NS;
        (start_ticks != 0).then(|| Self { boot_id: boot_id.map(str::to_owned), start_ticks })
    }

    fn is_of(&self, boot_id: Option<&str>) -> bool {
        self.boot_id.as_deref().zip(boot_id).is_none_or(|(one, other)| one == other)
    }

    fn is(&self, other: &Self) -> bool {
        self.start_ticks == other.start_ticks && self.is_of(other.boot_id.as_deref())
    }

    /// What does not say which owner it is about is about any.
    pub(super) fn is_in(&self, incident: &Incident, pid: u32) -> bool {
        let owners = owners(incident, pid);
        owners.is_empty() || owners.iter().any(|owner| owner.is(self))
    }

    /// Ends are of this boot.
    pub(super) fn ended_so(&self, end: &End, boot_id: Option<&str>) -> bool {
        Self::new(boot_id, end.start_boot_ns).is_none_or(|owner| owner.is(self))
    }
}

/// Who has the pid now, and that in words.
pub(super) fn living(proc: &Path, pid: u32, boot_id: Option<&str>) -> Option<(Owner, String)> {
    let stat = ProcDir::open(proc, pid)?.stat().filter(|stat| !stat.is_over())?;
    let since = story::second(&clock::wall_of(stat.start).to_string());
    let says = format!("{}[{pid}] is running since {since}", printable(&stat.comm));
    Some((Owner::new(boot_id, stat.start.0)?, says))
}

/// The last who had the pid, as far as anybody told; both lists are newest first.
pub(super) fn last(incidents: &[Incident], ends: &[End], pid: u32, boot_id: Option<&str>) -> Option<Owner> {
    let of_end = ends.first().and_then(|end| Owner::new(boot_id, end.start_boot_ns));
    let latest = |one: &Incident| owners(one, pid).into_iter().max_by_key(|owner| owner.start_ticks);
    let of_incident = incidents.iter().find_map(latest);
    match (of_end, of_incident) {
        (Some(end), Some(incident)) => {
            let is_later = incident.is_of(boot_id) && end.start_ticks < incident.start_ticks;
            Some(if is_later { incident } else { end })
        }
        (end, incident) => end.or(incident),
    }
}

/// Those with this pid whom an incident names: who was hit, who came in its place, who had to do with it.
fn owners(incident: &Incident, pid: u32) -> Vec<Owner> {
    let named = incident.timeline.iter().flat_map(named);
    let with_pid = named.filter(|who| who["pid"].as_u64() == Some(pid.into()));
    let owner = |who: &Value| Owner::new(who["boot_id"].as_str(), who["start_boot_ns"].as_u64()?);
    with_pid.filter_map(owner).collect()
}

fn named(record: &Record) -> impl Iterator<Item = &Value> {
    let related = record.get("related").and_then(Value::as_array).into_iter().flatten();
    ["target", "successor"].into_iter().filter_map(move |key| record.get(key)).chain(related)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixture::{Fake, Tree};

    #[test]
    fn who_lives_is_known_by_its_start_and_the_dead_have_no_pid() {
        let tree = Tree::new();
        tree.process(&Fake::new(40, "web").started(700));
        tree.process(&Fake::new(41, "old").started(800).zombie(1));
        let living = |pid| living(&tree.root().join("proc"), pid, Some("this"));
        let (owner, says) = living(40).expect("it lives");
        assert!(says.starts_with("web[40] is running since "), "{says}");
        let end = |start_ticks: u64| End { start_boot_ns: start_ticks * TICK_NS + 5, ..End::default() };
        assert!(owner.ended_so(&end(700), Some("this")) && !owner.ended_so(&end(699), Some("this")));
        assert!(owner.ended_so(&End::default(), Some("this")), "its start is not known");
        assert!(!owner.ended_so(&end(700), Some("another")));
        assert!(living(41).is_none() && living(42).is_none());
    }
}
