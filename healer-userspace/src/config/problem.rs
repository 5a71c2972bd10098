//! What is wrong in a file, where, and what was probably meant.

use core::fmt;
use std::{borrow::Cow, path::PathBuf};

use crate::text::printable;

/// Line and column, both from 1; line 0 means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A problem before it knows its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { place, message }
    }

    pub(super) fn in_file(self, file: impl Into<PathBuf>, text: &str) -> Problem {
        let line = (self.place.line as usize).checked_sub(1).and_then(|index| text.lines().nth(index));
        Problem {
            file: file.into(),
            place: self.place,
            message: self.message,
            source_line: line.unwrap_or_default().to_owned(),
        }
    }
}

/// One error or warning: `file.yaml:12:7: message`, then the source line with a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    pub place: Place,
    pub message: String,
    pub source_line: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = printable(&self.message);
        write!(out, "{}", printable(&self.file.to_string_lossy()))?;
        let Place { line, column } = self.place;
        if line == 0 {
            return write!(out, ": {message}");
        }
        write!(out, ":{line}:{column}: {message}")?;
        let (shown, caret) = excerpt(&self.source_line, column as usize);
        if shown.trim().is_empty() {
            return Ok(());
        }
        write!(out, "\n{line:>5} | {shown}\n      | {:caret$}^", "")
    }
}

/// All that is wrong with a set of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(out, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Problems {}

/// `; did you mean "stableFor"?`, or nothing where no name is near.
pub(super) fn suggestion<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(wrong, names).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default()
}

/// The name within a third of the word's length in edits (at least one), letter case aside.
fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64; // keeps the edit table small whatever the file holds
    let wrong: Vec<char> = wrong.to_lowercase().chars().take(LONGEST).collect();
    let limit = (wrong.len() / 3).max(1);
    names
        .into_iter()
        .map(|name| (edits(&wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Optimal string alignment distance: insert, delete, replace, swap neighbours.
fn edits(wrong: &[char], name: &str) -> usize {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=name.len()).collect();
    for (i, &ours) in wrong.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &theirs) in name.iter().enumerate() {
            let replaced = above[j] + usize::from(ours != theirs);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ours == name[j - 1] && wrong[i - 1] == theirs {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut above, row);
    }
    above[name.len()]
}

/// The part of a line around `column` (from 1), and how many characters stand before it.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    const WIDTH: usize = 120;
    let column = column.saturating_sub(1);
    let skip = column.saturating_sub(WIDTH * 2 / 3);
    let part = line.chars().skip(skip).take(WIDTH).map(visible).collect();
    (part, column - skip)
}

/// One visible character for each of the input's, so that the caret stays under its column.
fn visible(c: char) -> char {
    let mut bytes = [0; 4];
    match printable(c.encode_utf8(&mut bytes)) {
        Cow::Borrowed(_) => c,
        Cow::Owned(_) if c == '\t' => ' ',
        Cow::Owned(_) => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let names = ["stableFor", "within", "alive", "listen"];
        assert_eq!(suggestion("stabelFor", names), "; did you mean \"stableFor\"?");
        assert_eq!(suggestion("stable_for", names), "; did you mean \"stableFor\"?");
        assert_eq!(suggestion("lisen", names), "; did you mean \"listen\"?");
        assert_eq!(suggestion("replicas", names), "");
        assert_eq!(suggestion("", names), "");
    }

    #[test]
    fn a_problem_shows_its_line_and_a_caret() {
        let text = "a: 1\nverify: {stabelFor: 30s}\n";
        let place = Place { line: 2, column: 10 };
        let problem = Fault::new(place, "unknown key").in_file("p.yaml", text);
        let expected = "p.yaml:2:10: unknown key\n    2 | verify: {stabelFor: 30s}\n      |          ^";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let place = Place { line: 1, column: 1 };
        let shown = Fault::new(place, "bad").in_file("p\u{1b}.yaml", "\u{1b}[2J\u{202e}x").to_string();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault() {
        let place = Place { line: 1, column: 5000 };
        let shown = Fault::new(place, "bad").in_file("p", &"x".repeat(9000)).to_string();
        assert!(shown.lines().all(|line| line.len() < 140), "{shown}");
    }
}
