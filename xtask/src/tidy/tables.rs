//! What lies in a table's folder stands in the table: a part that is not listed never runs.

use super::Finding;
use super::scrub::code_only;
use super::tree::Tree;

/// A folder whose files are the entries of one const table.
struct Table {
    folder: &'static str,
    name: &'static str,
    /// Files of the folder that are no entries.
    helpers: &'static [&'static str],
    /// Where each entry has a folder of its name besides.
    traces: Option<&'static str>,
}

/// Add a helper file's name here, or an entry's line to its table.
const TABLES: &[Table] = &[
    Table {
        folder: "healer-userspace/src/engine/detect/",
        name: "DETECTORS",
        // A folder of several detectors: the replay test demands their traces.
        helpers: &["evidence", "window", "exhaustion"],
        traces: Some("tests/traces/"),
    },
    Table {
        folder: "healer-userspace/src/engine/safety/",
        name: "GATES",
        helpers: &["ledger"],
        traces: None,
    },
    Table {
        folder: "healer-userspace/src/action/",
        name: "ACTIONS",
        helpers: &[
            "host",
            "lacks",
            "lease",
            "lease_tests",
            "look",
            "owned",
            "reach",
            "restart_tests",
            "tests",
            "systemd",
            "docker",
            "cri",
            "kube",
        ],
        traces: None,
    },
    Table {
        folder: "healer-userspace/src/fault/",
        name: "FAULTS",
        helpers: &["alone", "cgroup", "child", "service", "victim"],
        traces: None,
    },
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    TABLES.iter().flat_map(|t| check_table(tree, t)).collect()
}

fn check_table(tree: &Tree, table: &Table) -> Vec<Finding> {
    if !tree.has_folder(table.folder) {
        return Vec::new();
    }
    let Some(listed) = listed(tree, table) else {
        return vec![Finding::file(table.folder, format!("has no table {}", table.name))];
    };
    let mut found = Vec::new();
    for entry in tree.modules_in(table.folder) {
        if table.helpers.contains(&entry) {
            continue;
        }
        let path = format!("{}{entry}.rs", table.folder);
        if !listed.iter().any(|name| name == entry) {
            found.push(Finding::file(&path, format!("is not in {}", table.name)));
        }
        let traces = table.traces.map(|folder| format!("{folder}{entry}/"));
        if let Some(folder) = traces.filter(|folder| !tree.has_folder(folder)) {
            found.push(Finding::file(&path, format!("has no traces in {folder}")));
        }
    }
    found
}

/// All names in the table's initialiser; `None` if no file of the folder defines the table.
fn listed(tree: &Tree, table: &Table) -> Option<Vec<String>> {
    tree.rust_under(table.folder).find_map(|(_, source)| {
        let code = code_only(source);
        let defined =
            ["const", "static"].iter().find_map(|word| code.find(&format!("{word} {}:", table.name)))?;
        // The type may hold a `;` of its own: [Gate; 12].
        let value = code[defined..].split_once('=')?.1;
        let value = value.split_once(';').map_or(value, |(value, _)| value);
        let in_name = |c: char| c.is_alphanumeric() || c == '_';
        let names = value.split(|c| !in_name(c)).filter(|name| !name.is_empty());
        Some(names.map(str::to_owned).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATES: &str = "healer-userspace/src/engine/safety/mod.rs";
    const PAUSE: &str = "healer-userspace/src/engine/safety/pause.rs";
    const STORM: &str = "healer-userspace/src/engine/safety/storm.rs";

    #[test]
    fn a_file_that_its_table_forgot_is_found() {
        let table = "pub const GATES: [Gate; 1] = [\n Gate::new(\"storm\", pause::check),\n];";
        let tree = Tree::of(&[(GATES, table), (PAUSE, ""), (STORM, "")]);
        assert_eq!(check(&tree), [Finding::file(STORM, "is not in GATES")]);
    }

    #[test]
    fn a_folder_without_its_table_is_found() {
        let found = check(&Tree::of(&[(GATES, "// const GATES: x = y;"), (PAUSE, "")]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "has no table GATES");
    }

    #[test]
    fn a_detector_needs_traces_and_a_helper_needs_nothing() {
        let folder = "healer-userspace/src/engine/detect";
        let (table, crash) = (format!("{folder}/mod.rs"), format!("{folder}/crash.rs"));
        let (down, window) = (format!("{folder}/down.rs"), format!("{folder}/window.rs"));
        let tree = Tree::of(&[
            (&table, "pub static DETECTORS: &[Detector] = &[crash::DETECTOR, down::DETECTOR];"),
            (&crash, ""),
            (&down, ""),
            (&window, ""),
            ("tests/traces/crash/one.jsonl", ""),
        ]);
        let expected = Finding::file(&down, "has no traces in tests/traces/down/");
        assert_eq!(check(&tree), [expected]);
    }

    #[test]
    fn folders_that_are_not_there_yet_pass() {
        assert_eq!(check(&Tree::of(&[("healer-userspace/src/lib.rs", "")])), []);
    }
}
