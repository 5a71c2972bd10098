//! Whatever a file holds, it is read or refused in words; never a panic.

use std::path::Path;

use proptest::prelude::*;

use super::{
    super::load::{self, DEFAULT_POLICY},
    WHOLE, everything,
};

fn any_outcome(text: &str) {
    if let Err(problems) = load::check_text(Path::new("p.yaml"), text, &everything) {
        assert!(!problems.0.is_empty());
        let shown = problems.to_string();
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        any_outcome(&text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        any_outcome(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_policy_with_anything_put_into_it_is_read_or_refused(
        at in 0usize..WHOLE.len(),
        cut in 0usize..40,
        put in "[a-z0-9:{}\\[\\]&*!|>'\"%@`#,\\-? \n\t\\x00-\\x1f\u{202e}é]{0,12}",
    ) {
        let bytes = WHOLE.as_bytes();
        let rest = &bytes[(at + cut).min(bytes.len())..];
        let text = [&bytes[..at], put.as_bytes(), rest].concat();
        any_outcome(&String::from_utf8_lossy(&text));
    }

    #[test]
    fn the_default_with_lines_moved_is_read_or_refused(from in 0usize..100, to in 0usize..100) {
        let mut lines: Vec<&str> = DEFAULT_POLICY.lines().collect();
        let line = lines.remove(from);
        lines.insert(to, line);
        any_outcome(&lines.join("\n"));
    }
}
