//! Which tests run in guests: those that say so in the first lines of their file.
//!
//! `//! guest: all`, or `//! guest: NAME NAME …` for some of a file's tests. A guest has busybox,
//! healer and the test itself: no compiler, no Python, no network but its own loopback.
//! `//! systemd guest: …` is for guests whose first process is a systemd; they have no busybox.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernels::Root;

const MARKS: [(Root, &str); 2] = [(Root::Busybox, "//! guest:"), (Root::Systemd, "//! systemd guest:")];

/// A test file, and what of it runs in guests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The guests that run it.
    pub(crate) root: Root,
    /// The stem of the file's name.
    pub(crate) file: String,
    /// Tests by name; empty for all.
    pub(crate) tests: Vec<String>,
}

/// What `files` (stems in `dir`) say of themselves.
pub(crate) fn choose(dir: &Path, files: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for file in files {
        let alone = dir.join(format!("{file}.rs"));
        let path = if alone.exists() { alone } else { dir.join(file).join("main.rs") };
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (root, mark) in MARKS {
            chosen.extend(tests_of(&source, mark).map(|tests| Chosen { root, file: file.clone(), tests }));
        }
    }
    Ok(chosen)
}

fn tests_of(source: &str, mark: &str) -> Option<Vec<String>> {
    let head = source.lines().take_while(|line| line.starts_with("//!"));
    let marked = head.filter_map(|line| line.strip_prefix(mark));
    let mut words = marked.flat_map(str::split_whitespace).peekable();
    words.peek()?;
    Some(words.filter(|word| *word != "all").map(str::to_owned).collect())
}

/// The plan that such a guest reads: a line per file.
pub(crate) fn plan(root: Root, chosen: &[Chosen]) -> String {
    let ours = chosen.iter().filter(|chosen| chosen.root == root);
    ours.map(|chosen| format!("{} {}\n", chosen.file, chosen.tests.join(" "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_all_some_or_nothing() {
        let tests_of = |source| tests_of(source, "//! guest:");
        assert_eq!(tests_of("//! About.\n//!\n//! guest: all\nuse x;"), Some(vec![]));
        let some = Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert_eq!(tests_of("//! guest: a b\n//! guest: c\n"), some);
        assert_eq!(tests_of("//! About.\nfn f() {}\n//! guest: all"), None);
        assert_eq!(tests_of("//! systemd guest: all\n"), None);
    }

    #[test]
    fn the_plan_has_a_line_per_file() {
        let chosen = |root, file: &str, tests: &[&str]| Chosen {
            root,
            file: file.to_owned(),
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        };
        let all = [
            chosen(Root::Busybox, "live_a", &[]),
            chosen(Root::Systemd, "guest_b", &[]),
            chosen(Root::Busybox, "live_c", &["x", "y"]),
        ];
        assert_eq!(plan(Root::Busybox, &all), "live_a \nlive_c x y\n");
    }
}
