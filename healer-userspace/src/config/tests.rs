//! The language as a whole: what is accepted and what it means, what is refused and in which words.

mod docs;
mod files;
mod fuzz;
mod language;
mod senseless;

use std::{fs, path::PathBuf};

use super::{Loaded, Problem, Problems, load};
use crate::engine::{class::Class, policy::Policy};

/// A directory of its own, removed on drop.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("healer-config-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn everything(_: Class) -> bool {
    true
}

fn check(name: &str, text: &str) -> Result<Loaded, Problems> {
    let directory = Directory::new(name);
    load::check(&[directory.file("p.yaml", text)], &everything)
}

fn accepted(name: &str, text: &str) -> Policy {
    match check(name, text) {
        Ok(loaded) => loaded.policies.policies.into_iter().next().unwrap(),
        Err(problems) => panic!("{problems}"),
    }
}

/// The faults as `line:column: message`.
fn refused(name: &str, text: &str) -> Vec<String> {
    let Err(problems) = check(name, text) else {
        panic!("accepted: {text}");
    };
    let short =
        |problem: &Problem| format!("{}:{}: {}", problem.place.line, problem.place.column, problem.message);
    problems.0.iter().map(short).collect()
}

/// A policy with this spec, one key a line from line 5 on.
fn with_spec(spec: &str) -> String {
    let lines: Vec<String> = spec.lines().map(|line| format!("  {line}\n")).collect();
    let lines = lines.concat();
    format!("apiVersion: healer.dev/v1alpha1\nkind: HealPolicy\nmetadata: {{name: p}}\nspec:\n{lines}")
}

fn rule(rule: &str) -> String {
    with_spec(&format!("rules:\n  - {rule}"))
}

const WHOLE: &str = include_str!("tests/whole.yaml");
