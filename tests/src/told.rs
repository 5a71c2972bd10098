//! What a test has measured: said also when it passes.

use std::io::{self, Write as _};

/// To the terminal itself: the runner keeps back what a passing test prints.
///
/// # Panics
/// The test's stderr is closed.
pub fn tell(words: &str) {
    writeln!(io::stderr().lock(), "{}", words.trim_end()).expect("stderr is open");
}
