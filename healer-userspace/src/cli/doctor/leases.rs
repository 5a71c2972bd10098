//! What is lent, by the agent's word or, without one, by the journal's.

use std::path::Path;

use super::Check;
use crate::{
    control::{Request, client::ask},
    report::view::{Lent, Status},
    store::{dir::StateDir, journal::peek_leases},
};

const NAME: &str = "leases";
const COSTS: &str = "what an act has turned stays so";
const FIX: &str = "`healer undo`, or start healer: either gives it back";

pub(super) fn checks(state_dir: &Path) -> Vec<Check> {
    let asked = ask(state_dir, &Request::Status).ok().and_then(|answer| serde_json::from_value(answer).ok());
    vec![match asked {
        Some(status) => by_agent(&status),
        None => by_journal(state_dir),
    }]
}

fn by_agent(status: &Status) -> Check {
    Check::ok(NAME, if status.leases.is_empty() { "none".to_owned() } else { words(&status.leases) })
}

fn by_journal(state_dir: &Path) -> Check {
    let Ok(dir) = StateDir::open(state_dir) else {
        return Check::ok(NAME, "none: healer has not run here");
    };
    match peek_leases(&dir) {
        Ok(rows) if rows.is_empty() => Check::ok(NAME, "none"),
        Ok(rows) => {
            let lent: Vec<_> = rows.iter().map(|row| Lent::from(&row.lease)).collect();
            Check::degraded(NAME, format!("no healer runs, and in force: {}", words(&lent)), COSTS, FIX)
        }
        Err(error) => {
            let says = format!("no healer runs, and its journal cannot be read as it is: {error}");
            Check::degraded(NAME, says, COSTS, FIX)
        }
    }
}

fn words(lent: &[Lent]) -> String {
    let one = |lent: &Lent| format!("{} ({}: {})", lent.action, lent.incident, lent.turns.join(", "));
    lent.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn what_is_lent_is_named() {
        let lent = Lent {
            incident: "i2".into(),
            action: "freeze".into(),
            turns: vec!["pid 7: running → stopped".into()],
            ..Lent::default()
        };
        let status = Status { leases: vec![lent], ..Status::default() };
        assert_eq!(by_agent(&status).says, "freeze (i2: pid 7: running → stopped)");
        let nowhere = by_journal(Path::new("/no/such/directory"));
        assert_eq!((nowhere.state, nowhere.says.as_str()), (State::Ok, "none: healer has not run here"));
    }
}
