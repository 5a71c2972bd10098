//! Who has served, and who has asked somebody in vain: what a command that nobody named does tells what it is.

use super::{LoopKey, command_key, parent_of};
use crate::{
    identity::{
        lru::Lru,
        process::{Process, ProcessId},
    },
    signal::{Fact, Signal},
};

const REMEMBERED: usize = 2048;

pub(super) struct Servers {
    listeners: Lru<ProcessId, ()>,
    commands: Lru<LoopKey, ()>,
    /// Of a command that was refused or left without an answer, the status is its word on somebody else.
    asking: Lru<LoopKey, ()>,
}

impl Default for Servers {
    fn default() -> Self {
        Self { listeners: Lru::new(REMEMBERED), commands: Lru::new(REMEMBERED), asking: Lru::new(REMEMBERED) }
    }
}

impl Servers {
    pub(super) fn observe(&mut self, signal: &Signal) {
        let Some(process) = &signal.process else {
            return;
        };
        let key = || parent_of(process).map(|parent| command_key(process, parent));
        if matches!(&signal.fact, Fact::Listens(listens) if listens.on) {
            self.listeners.insert(process.id(), ());
            key().into_iter().for_each(|key| self.commands.insert(key, ()));
        } else if matches!(&signal.fact, Fact::ConnectionFailed(failed) if failed.connecting) {
            key().into_iter().for_each(|key| self.asking.insert(key, ()));
        }
    }

    pub(super) fn has_served(&mut self, key: LoopKey) -> bool {
        self.commands.get(&key).is_some()
    }

    pub(super) fn has_asked(&mut self, key: LoopKey) -> bool {
        self.asking.get(&key).is_some()
    }

    /// A worker: the same program as its parent, and the parent listens.
    pub(super) fn is_worker(&mut self, process: &Process) -> bool {
        let same = |exe: &String| process.parent.as_ref().and_then(|parent| parent.exe.as_ref()) == Some(exe);
        process.exe.as_ref().is_some_and(same)
            && parent_of(process).is_some_and(|parent| self.listeners.get(&parent).is_some())
    }
}
