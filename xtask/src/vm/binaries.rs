//! What a guest runs: the agent as released, the tests, their victims, and the libraries that these load.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::apt::entries;
use super::subset::Chosen;
use crate::arch::Arch;
use crate::step::Step;
use crate::{dist, workspace};

/// The programs of a guest.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) healer: PathBuf,
    /// Test files by name, and what they were built to.
    pub(crate) tests: Vec<(String, PathBuf)>,
    /// The tests' victims by name: static programs.
    pub(crate) victims: Vec<(String, PathBuf)>,
    /// What healer and the tests load, at the same places in the guest.
    pub(crate) libraries: BTreeSet<PathBuf>,
}

/// Builds the tests for an emulator, which runs unoptimised code too slowly. Of this machine's
/// processor the agent is the one that the build stage has made, so most of what they share is built
/// already; for another, and if it is asked for, all programs are static, and the agent is the one that is shipped.
pub(crate) fn build(arch: Arch, is_static: bool, dir: &Path, chosen: &[Chosen]) -> Result<Binaries> {
    let is_here = arch.name() == std::env::consts::ARCH && !is_static;
    let healer = if is_here { workspace::healer_release() } else { dist::of(arch)? };
    let mut tests = workspace::cargo("test");
    tests.args(["--release", "--no-run", "--message-format=json-render-diagnostics"]);
    tests.args(["--package", "healer-tests"]);
    if !is_here {
        arch.of_static(&mut tests);
    }
    let files: BTreeSet<_> = chosen.iter().map(|chosen| chosen.file.as_str()).collect();
    for file in &files {
        tests.args(["--test", file]);
    }
    let built = executables(&step(tests).read()?);
    let find = |file: &str| {
        let path = built.iter().find(|path| stem(path) == file);
        Ok((file.to_owned(), path.with_context(|| format!("cargo built no {file}"))?.clone()))
    };
    let tests: Vec<_> = files.into_iter().map(find).collect::<Result<_>>()?;
    let mut libraries = BTreeSet::new();
    for program in tests.iter().map(|(_, path)| path).chain([&healer]).filter(|_| is_here) {
        libraries.extend(self::libraries(program)?);
    }
    Ok(Binaries { healer, tests, victims: victims(arch, &dir.join("victims"))?, libraries })
}

/// Every `tests/src/victims/guest/NAME.c`, compiled.
fn victims(arch: Arch, dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let sources = workspace::root().join("tests/src/victims/guest");
    let mut victims = Vec::new();
    for source in entries(&sources)? {
        let is_source = source.extension().is_some_and(|end| end == "c");
        let Some(name) = source.file_stem().and_then(OsStr::to_str).filter(|_| is_source) else {
            continue;
        };
        let program = dir.join(name);
        let mut gcc = Command::new(arch.gcc());
        gcc.args(["-static", "-O0", "-pthread", "-o"]).arg(&program).arg(&source);
        step(gcc).run()?;
        victims.push((name.to_owned(), program));
    }
    Ok(victims)
}

fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program);
    Ok(loaded(&step(ldd).read()?))
}

/// The files in what ldd(1) prints: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader.
fn loaded(ldd: &str) -> BTreeSet<PathBuf> {
    let words = ldd.split_whitespace();
    words.filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
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

    #[test]
    fn a_programs_libraries_are_files_with_their_loader() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = loaded(ldd).into_iter().collect();
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, expected.map(PathBuf::from));
        assert!(loaded("\tstatically linked\n").is_empty());
    }
}
