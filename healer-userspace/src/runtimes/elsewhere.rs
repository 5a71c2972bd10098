//! Units of another manager than the system's: healer speaks to none of those, and says what does.

use crate::text::printable;

/// Why the system's own manager cannot restart the unit, and what can. `None`: it is the system's.
pub fn of_another_manager(unit: &str) -> Option<String> {
    let (manager, inner) = unit.split_once('/')?;
    let says = format!(
        "{} is a unit of the systemd that {} runs, and healer restarts the system's own alone",
        printable(inner),
        printable(manager)
    );
    Some(match way_to(manager).filter(|_| !inner.contains('/')) {
        Some(way) => format!(
            "{says}: {{do: run_hook, command: [systemctl, {}, restart, {}]}} restarts it",
            printable(&way),
            printable(inner)
        ),
        None => format!("{says}: a run_hook may ask the other one"),
    })
}

/// Arguments of systemctl(1), from systemd 248 on.
fn way_to(manager: &str) -> Option<String> {
    let instance_of = |template: &str| manager.strip_prefix(template)?.strip_suffix(".service");
    let user = instance_of("user@").map(|user| format!("--user, --machine={user}@.host"));
    user.or_else(|| instance_of("systemd-nspawn@").map(|machine| format!("--machine={machine}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_unit_names_its_manager_and_what_restarts_it() {
        let why = of_another_manager("user@1000.service/web.service").unwrap();
        assert_eq!(
            why,
            "web.service is a unit of the systemd that user@1000.service runs, and healer restarts the system's \
             own alone: {do: run_hook, command: [systemctl, --user, --machine=1000@.host, restart, web.service]} \
             restarts it"
        );
        let why = of_another_manager("systemd-nspawn@box.service/web.service").unwrap();
        assert!(why.contains("[systemctl, --machine=box, restart, web.service]"), "{why}");
        for far in ["machine-box.scope/web.service", "systemd-nspawn@box.service/user@0.service/web.service"]
        {
            let why = of_another_manager(far).unwrap();
            assert!(why.ends_with("a run_hook may ask the other one"), "{why}");
        }
    }

    #[test]
    fn a_unit_of_the_systems_own_manager_is_restarted_by_it() {
        for unit in ["web.service", "user@1000.service", "systemd-nspawn@box.service"] {
            assert_eq!(of_another_manager(unit), None, "{unit}");
        }
    }
}
