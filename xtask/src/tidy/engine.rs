//! The engine runs on what it is given: no I/O, no clock, no runtime.

use super::Finding;
use super::scrub::code_only;
use super::tree::Tree;

const ENGINE: &str = "healer-userspace/src/engine/";
const STD_MODULES: &[&str] = &["fs", "net", "process", "thread", "time"];
const CRATES: &[&str] = &["aya", "libc", "rustix", "tokio", "tracing"];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust_under(ENGINE)
        .flat_map(|(path, source)| {
            let found = impurities(&code_only(source));
            found
                .into_iter()
                .map(move |(line, name)| Finding::line(path, line, format!("the engine must not use {name}")))
        })
        .collect()
}

/// The forbidden modules and crates that this code names, with their lines.
fn impurities(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let tokens = tokens(code);
    let word = |at: usize| tokens.get(at).map_or("", |(_, word)| *word);
    for (at, &(line, name)) in tokens.iter().enumerate() {
        // `std :: fs`, and `std :: { fs, … }` whatever stands before it in the braces.
        if name == "std" && word(at + 1) == "::" {
            for (line, module) in first_segments(&tokens[at + 2..]) {
                if STD_MODULES.contains(&module) {
                    found.push((line, format!("std::{module}")));
                }
            }
        }
        let begins_a_path = word(at + 1) == "::" || at > 0 && word(at - 1) == "use";
        let goes_on = at > 0 && word(at - 1) == "::" && at > 1 && is_name(word(at - 2));
        let named = first_segments(tokens.get(at + 2..).unwrap_or_default());
        let is_pure = name == "libc" && named.iter().all(|(_, name)| is_number(name));
        if CRATES.contains(&name) && begins_a_path && !goes_on && !is_pure {
            found.push((line, name.to_owned()));
        }
    }
    found
}

/// Of libc the engine may use what is only a number: constants, and the types of numbers.
fn is_number(name: &str) -> bool {
    name.starts_with(char::is_uppercase) || name.starts_with("c_") || name.ends_with("_t")
}

/// The names right after `::`: one, or those at the first level of a group.
fn first_segments<'a>(tokens: &[(usize, &'a str)]) -> Vec<(usize, &'a str)> {
    let Some(&(line, first)) = tokens.first() else {
        return Vec::new();
    };
    if first != "{" {
        return vec![(line, first)];
    }
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut before = "";
    for &(line, token) in tokens {
        match token {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && before != "::" && is_name(name) => found.push((line, name)),
            _other => {}
        }
        if depth == 0 {
            break;
        }
        before = token;
    }
    found
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single other characters, with their lines.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let in_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = if rest.starts_with("::") {
                2
            } else if in_name(first) {
                rest.find(|c| !in_name(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            found.push((number + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<(usize, String)> {
        let tree = Tree::of(&[("healer-userspace/src/engine/verify.rs", source)]);
        let found = check(&tree).into_iter();
        found.map(|f| (f.line, f.message.rsplit(' ').next().unwrap().to_owned())).collect()
    }

    #[test]
    fn io_clocks_and_runtimes_are_found_however_they_are_written() {
        assert_eq!(found("use std::fs;"), [(1, "std::fs".into())]);
        assert_eq!(found("\nstd::time::Instant::now()"), [(2, "std::time".into())]);
        let grouped = "use std::{\n  collections::{BTreeMap},\n  process::Command,\n};";
        assert_eq!(found(grouped), [(3, "std::process".into())]);
        assert_eq!(found("use tokio;"), [(1, "tokio".into())]);
        assert_eq!(found("::tracing::info!()"), [(1, "tracing".into())]);
        assert_eq!(found("use aya::Ebpf;"), [(1, "aya".into())]);
        assert_eq!(found("libc::kill(1, 9)"), [(1, "libc".into())]);
        assert_eq!(found("use libc::{SIGBUS, kill};"), [(1, "libc".into())]);
    }

    #[test]
    fn pure_code_words_and_other_paths_pass() {
        assert_eq!(found("use core::time::Duration; // std::fs"), []);
        assert_eq!(found("use std::collections::{BTreeMap, fs};"), []);
        assert_eq!(found("let time = \"std::time\"; self.tracing = 1;"), []);
        assert_eq!(found("crate::tracing::x();"), []);
        assert_eq!(found("libc::SIGSEGV as libc::c_int"), []);
        assert_eq!(found("use libc::{SIGABRT, SIGBUS};"), []);
    }

    #[test]
    fn the_rest_of_the_agent_may() {
        let tree = Tree::of(&[("healer-userspace/src/clock.rs", "use std::time::Instant;")]);
        assert_eq!(check(&tree), []);
    }
}
