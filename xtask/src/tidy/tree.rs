//! The repository's files, in memory: rules are tested on made-up trees.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::answer;

/// Paths from the root, with `/` between, and what is in the files. Binary files count as empty.
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// What git tracks or would track; all but target/ and .git/ where there is no git.
    pub(crate) fn load(root: &Path) -> Result<Self> {
        let paths = match git_files(root) {
            Some(paths) => paths,
            None => walk(root, "")?,
        };
        let files = paths
            .into_iter()
            // Deleted and not yet committed.
            .filter(|path| root.join(path).is_file())
            .map(|path| {
                let text = fs::read_to_string(root.join(&path)).unwrap_or_default();
                (path, text)
            })
            .collect();
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(owned).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// All files, in order of path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.under("")
    }

    /// The Rust files below `folder`, in order of path.
    pub(crate) fn rust_under(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        self.under(folder).filter(|(path, _)| path.ends_with(".rs"))
    }

    /// The names, without `.rs`, of the Rust files and modules that lie in `folder` itself.
    pub(crate) fn modules_in(&self, folder: &str) -> Vec<&str> {
        let mut names: Vec<_> = self
            .rust_under(folder)
            .filter_map(|(path, _)| path.strip_prefix(folder))
            .filter_map(|rest| match rest.split_once('/') {
                Some((module, "mod.rs")) => Some(module),
                Some(_) => None,
                None => rest.strip_suffix(".rs"),
            })
            .filter(|name| *name != "mod")
            .collect();
        names.dedup();
        names
    }

    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file lies somewhere below `folder`, which ends in `/`.
    pub(crate) fn has_folder(&self, folder: &str) -> bool {
        self.under(folder).next().is_some()
    }

    fn under(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .range(folder.to_owned()..)
            .take_while(move |(path, _)| path.starts_with(folder))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn git_files(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "-c",
        "core.quotePath=off",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    Some(answer(&mut git)?.lines().map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &str) -> Result<Vec<String>> {
    let dir = root.join(folder);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        let path = format!("{folder}{}", entry.file_name().to_string_lossy());
        if !entry.file_type()?.is_dir() {
            found.push(path);
        } else if !matches!(path.as_str(), ".git" | "target") {
            found.extend(walk(root, &format!("{path}/"))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_files_and_folders_with_a_mod_file() {
        let tree = Tree::of(&[
            ("a/mod.rs", ""),
            ("a/one.rs", ""),
            ("a/two/mod.rs", ""),
            ("a/two/deep.rs", ""),
            ("a/note.md", ""),
            ("ab/three.rs", ""),
        ]);
        assert_eq!(tree.modules_in("a/"), ["one", "two"]);
        assert!(tree.has_folder("a/two/"));
        assert!(!tree.has_folder("b/"));
    }

    #[test]
    fn a_tree_without_git_is_walked() {
        let root = std::env::temp_dir().join(format!("healer-tidy-{}", std::process::id()));
        for dir in ["src", "target", ".git"] {
            fs::create_dir_all(root.join(dir)).unwrap();
            fs::write(root.join(dir).join("x.rs"), "").unwrap();
        }
        let found = walk(&root, "");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.unwrap(), ["src/x.rs"]);
    }
}
