//! Containers whose image goes by the node's own id of it, until their status has been asked for a name. Each is asked
//! for in its turn: one whose status hangs keeps nobody else from a name.

use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Nameless(VecDeque<String>);

impl Nameless {
    pub(super) fn note(&mut self, id: String) {
        self.0.push_back(id);
    }

    /// Whose turn it is.
    pub(super) fn take_first(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// The rest has been removed.
    pub(super) fn keep(&mut self, is_listed: impl Fn(&str) -> bool) {
        self.0.retain(|id| is_listed(id));
    }

    /// Somebody else is asked, who lists anew.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_got_no_answer_is_asked_for_again_after_the_others() {
        let mut nameless = Nameless::default();
        for id in ["hangs", "b", "c"] {
            nameless.note(id.to_owned());
        }
        let hangs = nameless.take_first().unwrap();
        assert_eq!(hangs, "hangs");
        nameless.note(hangs);
        let turns: Vec<_> = core::iter::from_fn(|| nameless.take_first()).collect();
        assert_eq!(turns, ["b", "c", "hangs"]);
    }

    #[test]
    fn nobody_is_asked_for_who_is_not_listed() {
        let mut nameless = Nameless::default();
        for id in ["a", "removed", "c"] {
            nameless.note(id.to_owned());
        }
        nameless.keep(|id| id != "removed");
        assert_eq!(nameless.0, ["a", "c"]);
        nameless.clear();
        assert_eq!(nameless.take_first(), None);
    }
}
