//! Which tests run in guests: those that say so in the first lines of their file.
//!
//! `//! guest: all`, or `//! guest: NAME NAME …` for some of a file's tests. A guest has busybox,
//! healer and the test itself: no compiler, no Python, no network but its own loopback.
//! `//! one guest: …` is for what no kernel makes differ but pure cgroup v2 may: one of the small guests runs it;
//! `//! one other guest: …` and `//! one third guest: …` others, so that no guest lasts much longer than the rest.
//! `//! old guest: …` is for kernels that are asked for by name, which lack what the others have.
//! `//! systemd guest: …` is for guests whose first process is a systemd; they have no busybox. With `one` before it, for one of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::kernels::{Guest, Root};

/// Which guests a mark speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    EachKernel,
    OneKernel,
    OtherKernel,
    ThirdKernel,
    OldKernel,
    Systemd,
    OneSystemd,
}

const MARKS: [(For, &str); 7] = [
    (For::EachKernel, "//! guest:"),
    (For::OneKernel, "//! one guest:"),
    (For::OtherKernel, "//! one other guest:"),
    (For::ThirdKernel, "//! one third guest:"),
    (For::OldKernel, "//! old guest:"),
    (For::Systemd, "//! systemd guest:"),
    (For::OneSystemd, "//! one systemd guest:"),
];

/// A test file, and what of it runs in guests.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The guests that run it.
    pub(crate) by: For,
    /// The stem of the file's name.
    pub(crate) file: String,
    /// Tests by name; empty for all.
    pub(crate) tests: Vec<String>,
}

impl Chosen {
    pub(crate) fn runs_in(&self, guest: &Guest) -> bool {
        match self.by {
            For::EachKernel => guest.root == Root::Busybox && guest.release.is_none(),
            For::OneKernel => guest.root == Root::Busybox && guest.takes_more,
            For::OtherKernel => guest.root == Root::Busybox && guest.takes_others,
            For::ThirdKernel => guest.root == Root::Busybox && guest.takes_thirds,
            For::OldKernel => guest.release.is_some(),
            For::Systemd => guest.root == Root::Systemd,
            For::OneSystemd => guest.root == Root::Systemd && guest.takes_more,
        }
    }
}

/// What `files` (stems in `dir`) say of themselves.
pub(crate) fn choose(dir: &Path, files: &[String]) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for file in files {
        let alone = dir.join(format!("{file}.rs"));
        let path = if alone.exists() { alone } else { dir.join(file).join("main.rs") };
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (by, mark) in MARKS {
            chosen.extend(tests_of(&source, mark).map(|tests| Chosen { by, file: file.clone(), tests }));
        }
    }
    Ok(chosen)
}

/// The words after `mark` in the head of a file; empty for `all`.
pub(crate) fn tests_of(source: &str, mark: &str) -> Option<Vec<String>> {
    let head = source.lines().take_while(|line| line.starts_with("//!"));
    let marked = head.filter_map(|line| line.strip_prefix(mark));
    let mut words = marked.flat_map(str::split_whitespace).peekable();
    words.peek()?;
    Some(words.filter(|word| *word != "all").map(str::to_owned).collect())
}

/// The plan that the guest reads: a line per file.
pub(crate) fn plan(guest: &Guest, chosen: &[Chosen]) -> String {
    let ours = chosen.iter().filter(|chosen| chosen.runs_in(guest));
    ours.map(|chosen| format!("{} {}\n", chosen.file, chosen.tests.join(" "))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::kernels::GUESTS;
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
        let chosen = |by, file: &str, tests: &[&str]| Chosen {
            by,
            file: file.to_owned(),
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        };
        let all = [
            chosen(For::EachKernel, "live_a", &[]),
            chosen(For::Systemd, "guest_b", &[]),
            chosen(For::OneKernel, "live_c", &["x", "y"]),
            chosen(For::OtherKernel, "live_e", &["x"]),
            chosen(For::ThirdKernel, "guest_f", &[]),
            chosen(For::OneSystemd, "guest_d", &["z"]),
            chosen(For::OldKernel, "live_a", &["z"]),
        ];
        let plan_of = |name| plan(GUESTS.iter().find(|guest| guest.name == name).unwrap(), &all);
        assert_eq!(plan_of("6.1-rt"), "live_a \nlive_e x\n");
        assert_eq!(plan_of("6.12-cloud"), "live_a \nlive_c x y\n");
        assert_eq!(plan_of("6.1-cloud"), "live_a \nguest_f \n");
        assert_eq!(plan_of("6.1-systemd"), "guest_b \nguest_d z\n");
        assert_eq!(plan_of("6.12-systemd"), "guest_b \n");
        assert_eq!(plan_of("5.10-cloud"), "live_a z\n");
    }
}
