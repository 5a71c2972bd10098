//! Ends that were already seen: kernels without `group_dead` may tell one twice, and the supervisor tells it too.

use std::collections::{BTreeSet, VecDeque};

use crate::identity::process::ProcessId;

const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Ended {
    known: BTreeSet<ProcessId>,
    order: VecDeque<ProcessId>,
}

impl Ended {
    /// False if this end was told before.
    pub(super) fn is_news(&mut self, id: ProcessId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Was its end told lately?
    pub(super) fn knows(&self, id: ProcessId) -> bool {
        self.known.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::BootTime;

    #[test]
    fn an_end_is_news_once_and_memory_is_bounded() {
        let mut ended = Ended::default();
        let id = |pid| ProcessId { pid, start: BootTime(1) };
        assert!(ended.is_news(id(1)));
        assert!(!ended.is_news(id(1)));
        for pid in 2..10_000 {
            assert!(ended.is_news(id(pid)));
        }
        assert_eq!(ended.known.len(), REMEMBERED);
    }
}
