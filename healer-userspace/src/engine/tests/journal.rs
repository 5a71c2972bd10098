//! What becomes of intents that reach no disk.

use super::*;
use crate::engine::command::JournalEntry;

/// Every intent fails from the death at 8 s to 28 s: how many were wanted, and whether one is after that.
fn while_no_intent_is_written(action: ActionName, says_so: bool) -> (usize, bool) {
    let old = supervised(10, SECOND);
    let mut engine = Engine::new(BootTime(SECOND), policies(Mode::Enforce, &[action]), Recovered::default());
    engine.observe(BootTime(2 * SECOND), &registered(2 * SECOND, &old));
    if says_so {
        engine.journal_state(BootTime(7 * SECOND), Some("no space".to_owned()));
    }
    engine.observe(BootTime(8 * SECOND), &killed(8 * SECOND, &old));
    let mut wanted = 0;
    for second in 8..28 {
        while let Some(entry) = engine.poll_journal().filter(|_| wanted < 1000) {
            if let JournalEntry::Intent(intent) = entry {
                wanted += 1;
                engine.commit_failed(BootTime(second * SECOND), &intent.act.key);
            }
        }
        engine.advance(BootTime((second + 1) * SECOND));
    }
    if says_so {
        engine.journal_state(BootTime(29 * SECOND), None);
    }
    (29..36).for_each(|second| engine.advance(BootTime(second * SECOND)));
    let mut entries = core::iter::from_fn(|| engine.poll_journal());
    (wanted, entries.any(|entry| matches!(entry, JournalEntry::Intent(_))))
}

#[test]
fn an_intent_that_could_not_be_written_is_wanted_again_and_not_at_once() {
    for action in [ActionName::Restart, ActionName::Capture] {
        let (wanted, comes_back) = while_no_intent_is_written(action, false);
        assert!((2..6).contains(&wanted) && comes_back, "{action:?}: {wanted} {comes_back}");
        assert_eq!(while_no_intent_is_written(action, true), (0, true), "{action:?}");
    }
}
