//! What one sees on opening the repository is fixed; tools keep their files behind a dot.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

const VISIBLE: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-GPL2",
    "LICENSE-MIT",
    "README.md",
    "healer-common",
    "healer-ebpf",
    "healer-userspace",
    "tests",
    "xtask",
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let top = |path: &'_ str| path.split('/').next().unwrap_or_default().to_owned();
    let seen: BTreeSet<String> = tree.files().map(|(path, _)| top(path)).collect();
    let hidden = |name: &&String| name.starts_with('.');
    let strangers = seen
        .iter()
        .filter(|name| !hidden(name) && !VISIBLE.contains(&name.as_str()))
        .map(|name| Finding::file(name, "does not belong at the top level"));
    let absent = VISIBLE
        .iter()
        .filter(|name| !seen.contains(**name))
        .map(|name| Finding::file(name, "is missing from the top level"));
    strangers.chain(absent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Vec<(&'static str, &'static str)> {
        let mut files = vec![(".gitignore", ""), (".github/CONTRIBUTING.md", "")];
        files.extend(VISIBLE.iter().map(|name| match *name {
            "healer-common" => ("healer-common/Cargo.toml", ""),
            name => (name, ""),
        }));
        files
    }

    #[test]
    fn the_fixed_list_passes_and_dotfiles_are_free() {
        assert_eq!(check(&Tree::of(&whole())), []);
    }

    #[test]
    fn a_stranger_and_a_gap_are_found() {
        let mut files = whole();
        files.retain(|(path, _)| *path != "LICENSE-MIT");
        files.push(("scripts/x.sh", ""));
        let found = check(&Tree::of(&files));
        let paths: Vec<_> = found.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["scripts", "LICENSE-MIT"]);
    }
}
