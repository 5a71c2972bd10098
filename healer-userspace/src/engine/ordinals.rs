//! How often a command that nobody named has ended abnormally under its parent.

use std::collections::VecDeque;

use super::{detect::crash_loop::command_digest, keyed::Keyed};
use crate::identity::process::Process;

const MAX_COMMANDS: usize = 2048;

#[derive(Debug, Default)]
pub(super) struct Ordinals {
    counts: Keyed<u64, u32>,
    order: VecDeque<u64>,
}

impl Ordinals {
    /// Of the end that has just been told.
    pub(super) fn next(&mut self, process: &Process) -> u32 {
        let Some(command) = command_digest(process) else {
            return 1;
        };
        let count = self.counts.get_or_insert_with(command, || {
            self.order.push_back(command);
            0
        });
        *count += 1;
        let ordinal = *count;
        if MAX_COMMANDS < self.order.len()
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::time::BootTime, identity::process::Parent};

    fn process(parent: u32, arg: u32) -> Process {
        let parent = Parent { pid: parent, start: BootTime(1), ..Parent::default() };
        Process { parent: Some(parent), args: vec!["srv".into(), arg.to_string()], ..Process::default() }
    }

    #[test]
    fn each_command_of_each_parent_is_counted_for_itself() {
        let mut ordinals = Ordinals::default();
        let told = [(1, 1), (1, 1), (1, 2), (2, 1), (1, 1)]
            .map(|(parent, arg)| ordinals.next(&process(parent, arg)));
        assert_eq!(told, [1, 2, 1, 1, 3]);
        assert_eq!(ordinals.next(&Process::default()), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut ordinals = Ordinals::default();
        for arg in 0..9999 {
            ordinals.next(&process(1, arg));
        }
        assert_eq!((ordinals.counts.len(), ordinals.order.len()), (MAX_COMMANDS, MAX_COMMANDS));
    }
}
