//! healer and the tests as static programs, which run on a guest without a C library.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::subset::Chosen;
use crate::step::Step;
use crate::workspace;

pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "guest";

/// The programs of a guest.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) healer: PathBuf,
    /// Test files by name, and what they were built to.
    pub(crate) tests: Vec<(String, PathBuf)>,
    /// The tests' victims by name.
    pub(crate) victims: Vec<(String, PathBuf)>,
}

/// Builds them with the kernel programs as last built. The target directory is their own: flags
/// differ from the host's build, and neither undoes the other.
pub(crate) fn build(dir: &Path, chosen: &[Chosen]) -> Result<Binaries> {
    let mut healer = static_cargo("build", dir);
    healer.args(["--package", "healer-userspace", "--bin", "healer"]);
    step(healer).run()?;
    let healer = dir.join(TARGET).join(PROFILE).join("healer");
    let mut tests = static_cargo("test", dir);
    tests.args(["--no-run", "--message-format=json-render-diagnostics", "--package", "healer-tests"]);
    for Chosen { file, .. } in chosen {
        tests.args(["--test", file]);
    }
    let built = executables(&step(tests).read()?);
    let find = |file: &String| {
        let path = built.iter().find(|path| stem(path) == file);
        Ok((file.clone(), path.with_context(|| format!("cargo built no {file}"))?.clone()))
    };
    let tests = chosen.iter().map(|chosen| find(&chosen.file)).collect::<Result<_>>()?;
    Ok(Binaries { healer, tests, victims: victims(&dir.join("victims"))? })
}

/// Every `tests/victims/NAME.c`, compiled.
fn victims(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let sources = workspace::root().join("tests/victims");
    let mut victims = Vec::new();
    for entry in sources.read_dir().with_context(|| sources.display().to_string())? {
        let source = entry?.path();
        let is_source = source.extension().is_some_and(|end| end == "c");
        let Some(name) = source.file_stem().and_then(OsStr::to_str).filter(|_| is_source) else {
            continue;
        };
        let program = dir.join(name);
        let mut gcc = Command::new("gcc");
        gcc.args(["-static", "-O0", "-pthread", "-o"]).arg(&program).arg(&source);
        step(gcc).run()?;
        victims.push((name.to_owned(), program));
    }
    Ok(victims)
}

fn static_cargo(command: &str, dir: &Path) -> Command {
    let mut cargo = workspace::cargo(command);
    cargo
        .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
        .arg(dir)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        // build.rs looks beside the target directory, which is another one here.
        .env("HEALER_EBPF_OBJECT", workspace::ebpf_object());
    cargo
}

const fn step(command: Command) -> Step {
    Step { name: "build the guests' programs", remedy: "read what the compiler says above", command }
}

/// What cargo's messages (one JSON object a line) call executables.
fn executables(messages: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    };
    messages.lines().filter_map(path).collect()
}

/// The file's name without the hash that cargo adds.
fn stem(path: &Path) -> &str {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_messages_name_what_was_built() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null,"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/t/deps/live_a-0f3","fresh":false}"#,
            "\n"
        );
        let found = executables(messages);
        assert_eq!(found, [PathBuf::from("/t/deps/live_a-0f3")]);
        assert_eq!(stem(&found[0]), "live_a");
    }
}
