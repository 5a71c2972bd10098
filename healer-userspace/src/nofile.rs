//! `RLIMIT_NOFILE`: the soft limit is 1024 for the sake of select(2), which takes no greater descriptor; healer uses none.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Each looked after costs a few.
const ENOUGH: u64 = 65_536;

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// For the agent, as far as its hard limit lets it: that needs no right.
pub(crate) fn raise() {
    let before = *BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    if let Some(more) = more_than(before) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(more), ..before }).ok();
    }
}

/// For what the agent starts, between fork(2) and execve(2): async-signal-safe.
pub(crate) fn give_back() {
    if let Some(before) = BEFORE.get() {
        setrlimit(Resource::Nofile, *before).ok();
    }
}

/// From less than it may have, wherever the tests run; gives the soft limit before.
#[cfg(test)]
pub(crate) fn raise_from_less() -> u64 {
    static LOWERED: std::sync::Once = std::sync::Once::new();
    LOWERED.call_once(|| {
        let now = getrlimit(Resource::Nofile);
        let less = now.maximum.map_or(ENOUGH, |hard| hard.min(ENOUGH)) - 1;
        setrlimit(Resource::Nofile, Rlimit { current: Some(less), ..now }).expect("less needs no right");
    });
    raise();
    let before = BEFORE.get().and_then(|before| before.current).expect("it had a limit");
    assert!(getrlimit(Resource::Nofile).current.is_none_or(|soft| before < soft), "it was raised");
    before
}

/// `None`: it has enough, or all it may have.
fn more_than(before: Rlimit) -> Option<u64> {
    let most = before.maximum.map_or(ENOUGH, |hard| hard.min(ENOUGH));
    before.current.filter(|soft| *soft < most).map(|_| most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_become_more_and_enough_stay() {
        let more = |soft, hard| more_than(Rlimit { current: soft, maximum: hard });
        assert_eq!(more(Some(1024), Some(524_288)), Some(ENOUGH));
        assert_eq!(more(Some(1024), Some(4096)), Some(4096), "the hard limit stays");
        assert_eq!(more(Some(1024), None), Some(ENOUGH));
        assert_eq!(more(Some(4096), Some(4096)), None);
        assert_eq!(more(Some(1_048_576), Some(1_048_576)), None, "never fewer");
        assert_eq!(more(None, None), None);
    }
}
