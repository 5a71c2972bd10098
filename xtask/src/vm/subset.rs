//! Which tests run in guests: those that say so in the first lines of their file.
//!
//! `//! guest: all`, or `//! guest: NAME NAME …` for some of a file's tests. A guest has busybox,
//! healer and the test itself: no compiler, no Python, no network but its own loopback.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const MARK: &str = "//! guest:";

/// A test file, and what of it runs in guests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The stem of the file's name.
    pub(crate) file: String,
    /// Tests by name; empty for all.
    pub(crate) tests: Vec<String>,
}

/// What `files` (stems in `dir`) say of themselves.
pub(crate) fn choose(dir: &Path, files: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for file in files {
        let path = dir.join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        chosen.extend(tests_of(&source).map(|tests| Chosen { file: file.clone(), tests }));
    }
    Ok(chosen)
}

fn tests_of(source: &str) -> Option<Vec<String>> {
    let head = source.lines().take_while(|line| line.starts_with("//!"));
    let marked = head.filter_map(|line| line.strip_prefix(MARK));
    let mut words = marked.flat_map(str::split_whitespace).peekable();
    words.peek()?;
    Some(words.filter(|word| *word != "all").map(str::to_owned).collect())
}

/// The plan that the guest reads: a line per file.
pub(crate) fn plan(chosen: &[Chosen]) -> String {
    chosen.iter().map(|chosen| format!("{} {}\n", chosen.file, chosen.tests.join(" "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_all_some_or_nothing() {
        assert_eq!(tests_of("//! About.\n//!\n//! guest: all\nuse x;"), Some(vec![]));
        let some = Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert_eq!(tests_of("//! guest: a b\n//! guest: c\n"), some);
        assert_eq!(tests_of("//! About.\nfn f() {}\n//! guest: all"), None);
    }

    #[test]
    fn the_plan_has_a_line_per_file() {
        let chosen = |file: &str, tests: &[&str]| Chosen {
            file: file.to_owned(),
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        };
        assert_eq!(plan(&[chosen("live_a", &[]), chosen("live_b", &["x", "y"])]), "live_a \nlive_b x y\n");
    }
}
