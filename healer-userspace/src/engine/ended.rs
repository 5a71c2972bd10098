//! Ends that were already seen: kernels without `group_dead` may tell one twice, and the supervisor tells it too.

use std::collections::VecDeque;

use super::keyed::Keyed;
use crate::identity::process::ProcessId;

const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Whether it was an abnormal end.
    known: Keyed<ProcessId, bool>,
    order: VecDeque<ProcessId>,
}

impl Ended {
    /// False if this end was told before.
    pub(super) fn is_news(&mut self, id: ProcessId, abnormal: bool) -> bool {
        if self.known.contains_key(&id) {
            return false;
        }
        self.known.insert(id, abnormal);
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// Did it end lately, and not of its own will?
    pub(super) fn was_cut_down(&self, id: ProcessId) -> bool {
        self.known.get(&id).copied().unwrap_or_default()
    }

    /// Was its end told lately?
    pub(super) fn knows(&self, id: ProcessId) -> bool {
        self.known.contains_key(&id)
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
        assert!(ended.is_news(id(1), true));
        assert!(!ended.is_news(id(1), false));
        assert!(ended.was_cut_down(id(1)));
        for pid in 2..10_000 {
            assert!(ended.is_news(id(pid), false));
        }
        assert_eq!(ended.known.len(), REMEMBERED);
    }
}
