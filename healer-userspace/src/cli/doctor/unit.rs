//! What systemd keeps from the agent's unit, and so from whatever it starts.

use super::{Check, Root};

const UNIT: &str = "healer.service";
/// As systemd reads them (systemd.unit(5)), the stronger first.
const HOMES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Nothing where there is no such unit.
pub(super) fn checks(root: Root<'_>) -> Vec<Check> {
    let Some(unit) = HOMES.iter().find_map(|home| root.read(&format!("{home}/{UNIT}"))) else {
        return Vec::new();
    };
    let whole = drop_ins(root).into_iter().fold(unit, |whole, more| format!("{whole}\n{more}"));
    vec![network(&whole), children(&whole)]
}

fn drop_ins(root: Root<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for home in HOMES.iter().rev() {
        let dir = root.at(&format!("{home}/{UNIT}.d"));
        let mut files: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        found.extend(files.into_iter().filter_map(|file| std::fs::read_to_string(file.path()).ok()));
    }
    found
}

fn network(unit: &str) -> Check {
    const NAME: &str = "the unit's network";
    // An empty value takes back what was said before.
    let denied = values(unit, "IPAddressDeny").any(|value| value == "any");
    let allowed: Vec<_> = values(unit, "IPAddressAllow").filter(|value| *value != "localhost").collect();
    match (denied, allowed.is_empty()) {
        (false, _) => Check::ok(NAME, format!("{UNIT} may reach every address")),
        (true, false) => Check::ok(NAME, format!("{UNIT} may reach {} besides localhost", allowed.join(" "))),
        (true, true) => Check::absent(
            NAME,
            format!("{UNIT} may reach localhost alone (IPAddressDeny=any)"),
            "a server of a kubeconfig, a webhook elsewhere and a scrape from elsewhere need IPAddressAllow= in a drop-in",
        ),
    }
}

fn children(unit: &str) -> Check {
    const NAME: &str = "the unit's children";
    const KEYS: [&str; 4] =
        ["NoNewPrivileges", "ProtectSystem", "MemoryDenyWriteExecute", "CapabilityBoundingSet"];
    let set: Vec<_> = KEYS.into_iter().filter(|key| values(unit, key).any(|value| value != "no")).collect();
    if set.is_empty() {
        return Check::ok(NAME, format!("{UNIT} binds nobody whom it starts"));
    }
    Check::absent(
        NAME,
        format!("{UNIT} has {}", set.join(", ")),
        "`run_hook` and `restart` with `command` are bound by it too: have them call systemctl or systemd-run",
    )
}

/// Since the last empty one.
fn values<'a>(unit: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let mut kept = Vec::new();
    for line in unit.lines() {
        if let Some((name, value)) = line.split_once('=')
            && name.trim() == key
        {
            match value.trim() {
                "" => kept.clear(),
                value => kept.push(value),
            }
        }
    }
    kept.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../deploy/systemd/healer.service");

    #[test]
    fn the_shipped_unit_says_what_it_keeps_back() {
        assert!(network(SHIPPED).says.contains("localhost alone"));
        assert!(children(SHIPPED).says.contains("NoNewPrivileges, ProtectSystem, MemoryDenyWriteExecute"));
    }

    #[test]
    fn a_drop_in_takes_it_back() {
        let with = |drop_in: &str| format!("{SHIPPED}\n[Service]\n{drop_in}\n");
        assert!(network(&with("IPAddressDeny=")).says.contains("every address"));
        assert!(network(&with("IPAddressAllow=10.0.0.0/8")).says.contains("10.0.0.0/8 besides"));
        let open = "NoNewPrivileges=no\nProtectSystem=\nMemoryDenyWriteExecute=\nCapabilityBoundingSet=";
        assert!(!children(&with(open)).says.contains("ProtectSystem"));
    }
}
