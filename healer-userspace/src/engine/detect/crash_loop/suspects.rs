//! Commands that failed, whose shell starts them again however they end: was there none that ended well in between?
//!
//! An end with status 0 of a program that nobody named is not told. Of a suspect's parent the kernel is asked to tell
//! every start of a child: who started and did not fail has ended well.

use std::collections::BTreeMap;

use super::{LoopKey, row::Row, row::Verdict};
use crate::{
    engine::{
        detect::{Context, Finding},
        time::BootTime,
    },
    identity::process::ProcessId,
};

/// Each costs a record for every program that it starts.
const MAX_PARENTS: usize = 64;

#[derive(Default)]
pub(super) struct Suspects {
    commands: BTreeMap<LoopKey, Suspect>,
    /// For the sake of how many commands.
    watched: BTreeMap<ProcessId, usize>,
}

struct Suspect {
    parent: ProcessId,
    row: Row,
    watched_since: Option<BootTime>,
}

impl Suspects {
    pub(super) fn is_watched(&self, parent: ProcessId) -> bool {
        self.watched.contains_key(&parent)
    }

    pub(super) fn started(&mut self, key: LoopKey, id: ProcessId) {
        if let Some(suspect) = self.commands.get_mut(&key).filter(|suspect| suspect.watched_since.is_some()) {
            suspect.row.started(id);
        }
    }

    /// One more failure of a command of this parent, of which so many in a row are needed. Was it the last?
    pub(super) fn failed(
        &mut self,
        context: &Context<'_>,
        (key, parent): (LoopKey, ProcessId),
        (id, needed): (ProcessId, usize),
        found: &mut Vec<Finding>,
    ) -> bool {
        let suspect = self.commands.entry(key).or_insert_with(|| Suspect::of(parent, needed));
        let Some(since) = suspect.watched_since else {
            if self.watched.len() < MAX_PARENTS || self.watched.contains_key(&parent) {
                suspect.watched_since = Some(context.now);
                self.watch(parent, found);
            }
            return false;
        };
        if context.memory.lost_since(since) > 0 {
            suspect.watched_since = Some(context.now);
            suspect.row.forget();
            return false;
        }
        let verdict = suspect.row.failed(id);
        if verdict != Verdict::Open {
            self.rest(key, found);
        }
        verdict == Verdict::Loop
    }

    /// Nobody waits for a word about this command any more.
    pub(super) fn forget(&mut self, key: LoopKey, found: &mut Vec<Finding>) {
        self.rest(key, found);
        self.commands.remove(&key);
    }

    /// The parent itself has ended, and the kernel has forgotten it.
    pub(super) fn ended(&mut self, parent: ProcessId) {
        if self.watched.remove(&parent).is_some() {
            self.commands.retain(|_, suspect| suspect.parent != parent);
        }
    }

    /// Until the command fails again.
    fn rest(&mut self, key: LoopKey, found: &mut Vec<Finding>) {
        let Some(suspect) = self.commands.get_mut(&key) else {
            return;
        };
        suspect.row.forget();
        if suspect.watched_since.take().is_some() {
            let parent = suspect.parent;
            self.unwatch(parent, found);
        }
    }

    fn watch(&mut self, parent: ProcessId, found: &mut Vec<Finding>) {
        let commands = self.watched.entry(parent).or_default();
        *commands += 1;
        if *commands == 1 {
            found.push(Finding::Watch(parent));
        }
    }

    fn unwatch(&mut self, parent: ProcessId, found: &mut Vec<Finding>) {
        if let Some(commands) = self.watched.get_mut(&parent) {
            *commands -= 1;
            if *commands == 0 {
                self.watched.remove(&parent);
                found.push(Finding::Unwatch(parent));
            }
        }
    }
}

impl Suspect {
    fn of(parent: ProcessId, needed: usize) -> Self {
        Self { parent, row: Row::of(needed), watched_since: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{memory::Memory, policy::PolicySet, world::World};

    /// What is found when these commands of these parents fail, one after the other.
    fn after(
        suspects: &mut Suspects,
        failures: impl IntoIterator<Item = (LoopKey, ProcessId)>,
    ) -> Vec<Finding> {
        let (world, memory, policies) = (World::default(), Memory::default(), PolicySet::default());
        let context = Context {
            now: BootTime(1),
            world: &world,
            memory: &memory,
            policies: &policies,
            certificate: None,
        };
        let mut found = Vec::new();
        for (key, parent) in failures {
            assert!(!suspects.failed(&context, (key, parent), (process(1), 5), &mut found));
        }
        found
    }

    fn process(pid: u32) -> ProcessId {
        ProcessId { pid, start: BootTime(1) }
    }

    #[test]
    fn a_parent_is_watched_once_and_until_its_last_command_is_settled() {
        let (mut suspects, parent) = (Suspects::default(), process(7));
        let mut found =
            after(&mut suspects, [(LoopKey(1), parent), (LoopKey(2), parent), (LoopKey(1), parent)]);
        assert_eq!(found, [Finding::Watch(parent)]);
        suspects.forget(LoopKey(1), &mut found);
        assert_eq!(found.len(), 1);
        suspects.forget(LoopKey(2), &mut found);
        assert_eq!(found[1..], [Finding::Unwatch(parent)]);
        assert!(!suspects.is_watched(parent));
    }

    #[test]
    fn there_is_an_end_to_watching() {
        let mut suspects = Suspects::default();
        let found = after(&mut suspects, (0..999).map(|pid| (LoopKey(pid), process(pid as u32))));
        assert_eq!(found.len(), MAX_PARENTS);
        suspects.ended(process(1));
        assert_eq!(after(&mut suspects, [(LoopKey(999), process(999))]), [Finding::Watch(process(999))]);
    }
}
