//! A storm of like diagnoses is said a few times and then counted: a log that nobody can read helps nobody.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::engine::{
    class::Class,
    time::{BootTime, Human},
};

const WINDOW: Duration = Duration::from_secs(10);
/// Diagnoses of one workload and class that are said within a window.
const SAID: u32 = 5;
/// Workloads and classes remembered at most.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Quiet {
    said: BTreeMap<(String, Class), Said>,
}

#[derive(Debug)]
struct Said {
    since: BootTime,
    count: u32,
}

impl Quiet {
    /// The sentence, with what goes before or after it; `None` if it is one too many.
    pub(super) fn hear(
        &mut self,
        at: BootTime,
        workload: &str,
        class: Class,
        sentence: &str,
    ) -> Option<String> {
        if self.said.len() >= KEPT {
            // Forgotten all at once, so that a storm of ever new names costs no search each time.
            self.said.clear();
        }
        let said = self.said.entry((workload.to_owned(), class)).or_insert(Said { since: at, count: 0 });
        let mut text = sentence.to_owned();
        if at.since(said.since) >= WINDOW {
            if said.count > SAID {
                let span = Human(at.since(said.since));
                text = format!("{sentence} ({} more like it in the {span} before)", said.count - SAID);
            }
            *said = Said { since: at, count: 0 };
        }
        said.count += 1;
        match said.count {
            count if count < SAID => Some(text),
            SAID => Some(format!("{text}; more like it: `healer incidents`")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_said_five_times_and_then_counted() {
        let mut quiet = Quiet::default();
        let mut hear =
            |seconds: u64| quiet.hear(BootTime(seconds * 1_000_000_000), "web", Class::Crash, "it fell");
        let heard: Vec<_> = (0..8).map(|_| hear(1)).collect();
        assert_eq!(heard.iter().flatten().count(), 5);
        assert_eq!(heard[4].as_deref(), Some("it fell; more like it: `healer incidents`"));
        assert_eq!(hear(21).as_deref(), Some("it fell (3 more like it in the 20.0s before)"));
        assert_eq!(hear(22).as_deref(), Some("it fell"));
    }

    #[test]
    fn others_are_heard_meanwhile() {
        let mut quiet = Quiet::default();
        for _ in 0..9 {
            quiet.hear(BootTime(1), "web", Class::Crash, "x");
        }
        assert!(quiet.hear(BootTime(2), "web", Class::Down, "x").is_some());
        assert!(quiet.hear(BootTime(2), "api", Class::Crash, "x").is_some());
    }
}
