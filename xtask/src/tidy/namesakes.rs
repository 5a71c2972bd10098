//! Same name in all three crates: payload, kernel program, meaning.

use super::Finding;
use super::tree::Tree;

const EVENTS: &str = "healer-common/src/event/";
/// Files there that are no event.
const MACHINERY: &[&str] = &["header", "part", "table", "tests", "wire"];
const PROGRAMS: &[&str] = &["healer-ebpf/src/probe/", "healer-ebpf/src/iter/"];
const SIGNALS: &[&str] = &["healer-userspace/src/signal/"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let events = tree.modules_in(EVENTS).into_iter();
    events
        .filter(|name| !MACHINERY.contains(name))
        .flat_map(|name| {
            let lacks = |folders: &[&str]| {
                let here = |folder: &str| tree.modules_in(folder).contains(&name);
                let message = format!("has no namesake in {}", folders.join(" or "));
                (!folders.iter().any(|folder| here(folder)))
                    .then(|| Finding::file(&format!("{EVENTS}{name}.rs"), message))
            };
            [lacks(PROGRAMS), lacks(SIGNALS)].into_iter().flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_needs_its_program_and_its_signal() {
        let tree = Tree::of(&[
            ("healer-common/src/event/mod.rs", ""),
            ("healer-common/src/event/table.rs", ""),
            ("healer-common/src/event/oom_kill.rs", ""),
            ("healer-common/src/event/task_hung.rs", ""),
            ("healer-ebpf/src/probe/oom_kill.rs", ""),
            ("healer-ebpf/src/iter/task_hung.rs", ""),
            ("healer-userspace/src/signal/oom_kill.rs", ""),
        ]);
        let path = "healer-common/src/event/task_hung.rs";
        let message = "has no namesake in healer-userspace/src/signal/";
        assert_eq!(check(&tree), [Finding::file(path, message)]);
    }

    #[test]
    fn no_events_no_findings() {
        assert_eq!(check(&Tree::of(&[("healer-common/src/lib.rs", "")])), []);
    }
}
