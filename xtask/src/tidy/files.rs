//! Rules about any file: its length, what it leaves undone, whose machine it names.

use super::Finding;
use super::scrub::code_only;
use super::tree::Tree;

/// Past this something wants to be two files.
const MAX_LINES: usize = 400;
const PLACEHOLDERS: &[&str] = &["#[ignore", "todo!", "unimplemented!"];
/// Split, so that this file does not break its own rule.
const HOMES: &[&str] = &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];

pub(crate) fn length(tree: &Tree) -> Vec<Finding> {
    let code = |path: &str| [".rs", ".sh", ".py"].iter().any(|end| path.ends_with(end));
    tree.files()
        .filter(|(path, _)| code(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| Finding::file(path, format!("{lines} lines, at most {MAX_LINES}")))
        .collect()
}

pub(crate) fn placeholders(tree: &Tree) -> Vec<Finding> {
    tree.rust_under("")
        .flat_map(|(path, source)| {
            let code = code_only(source);
            occurrences(path, &code, PLACEHOLDERS, |_, word| {
                Some(format!("{word} leaves work undone in silence"))
            })
        })
        .collect()
}

pub(crate) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .flat_map(|(path, text)| {
            occurrences(path, text, HOMES, |before, home| {
                // In the middle of a longer path it is not a machine's own.
                let inside = before.ends_with(|c: char| c.is_alphanumeric() || "._-/}".contains(c));
                (!inside).then(|| format!("{home} is a path of one machine"))
            })
        })
        .collect()
}

/// A finding for each place in `text` where one of `words` stands and `judge`, given what stands
/// before it on the line, objects.
fn occurrences(
    path: &str,
    text: &str,
    words: &[&str],
    judge: impl Fn(&str, &str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words {
            for (at, _) in line.match_indices(word) {
                let message = judge(&line[..at], word);
                found.extend(message.map(|message| Finding::line(path, number + 1, message)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_have_the_most_lines_and_no_more() {
        let most = "x\n".repeat(MAX_LINES);
        let more = "x\n".repeat(MAX_LINES + 1);
        let tree = Tree::of(&[("a.rs", &most), ("b.rs", &more), ("c.md", &more)]);
        assert_eq!(length(&tree), [Finding::file("b.rs", "401 lines, at most 400")]);
    }

    #[test]
    fn placeholders_in_code_are_found_and_words_about_them_are_not() {
        let tree = Tree::of(&[
            ("a.rs", "\n#[ignore = \"slow\"]"),
            ("b.rs", "fn f() { todo!() }"),
            ("c.rs", "// todo!()\nlet x = \"unimplemented!\";"),
        ]);
        let found = placeholders(&tree);
        let places: Vec<_> = found.iter().map(|f| (f.path.as_str(), f.line)).collect();
        assert_eq!(places, [("a.rs", 2), ("b.rs", 1)]);
    }

    #[test]
    fn a_machines_own_paths_are_found_in_any_file() {
        let home = HOMES[1];
        let tree = Tree::of(&[
            ("a.md", &format!("see {home}me/x")),
            ("b.md", &format!("see /srv{home}me and https://x.org{home}")),
        ]);
        let found = machine_paths(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].path.as_str(), found[0].line), ("a.md", 1));
    }
}
