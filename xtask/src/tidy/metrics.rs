//! Every metric's name stands in the document that explains it.

use super::Finding;
use super::scrub::strings;
use super::tree::Tree;

const SOURCES: &[&str] = &["healer-userspace/src/report/metrics.rs", "healer-userspace/src/report/metrics/"];
const DOCUMENT: &str = "healer-userspace/METRICS.md";

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.get(DOCUMENT) else {
        return Vec::new();
    };
    let documented: Vec<_> = document.split(|c| !in_name(c)).collect();
    let sources = SOURCES.iter().flat_map(|folder| tree.rust_under(folder));
    sources
        .flat_map(|(path, source)| {
            let names = strings(source).into_iter().filter(|(_, s)| is_metric(s));
            names.map(move |(line, name)| (path, line, name))
        })
        .filter(|(_, _, name)| !documented.contains(name))
        .map(|(path, line, name)| Finding::line(path, line, format!("metric {name} is not in {DOCUMENT}")))
        .collect()
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// All of healer's metrics bear its name; nothing else in those files does.
fn is_metric(text: &str) -> bool {
    text.starts_with("healer_") && text.chars().all(in_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "healer-userspace/src/report/metrics/mod.rs";

    #[test]
    fn a_metric_that_the_document_leaves_out_is_found() {
        let code = "r(\"healer_acts_total\");\nr(\"healer_incidents\");";
        let tree = Tree::of(&[(SOURCE, code), (DOCUMENT, "| `healer_acts_total` | acts |")]);
        let message = "metric healer_incidents is not in healer-userspace/METRICS.md";
        assert_eq!(check(&tree), [Finding::line(SOURCE, 2, message)]);
    }

    #[test]
    fn a_longer_name_does_not_document_a_shorter_one() {
        let tree = Tree::of(&[(SOURCE, "r(\"healer_up\")"), (DOCUMENT, "healer_up_total")]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn no_document_no_findings() {
        assert_eq!(check(&Tree::of(&[(SOURCE, "r(\"healer_up\")")])), []);
    }
}
