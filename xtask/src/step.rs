//! One step of a chore: a command that is printed before it runs, and explains itself when it fails.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Result, anyhow};

/// A command with the name and the remedy that its failure is reported with.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) remedy: &'static str,
    pub(crate) command: Command,
}

impl Step {
    /// Prints the command, then runs it; gives what it wrote to stdout.
    pub(crate) fn read(mut self) -> Result<String> {
        self.command.stdout(Stdio::piped());
        let line = shown(&self.command);
        eprintln!("$ {line}");
        let output = self.command.stderr(Stdio::inherit()).output();
        let ended = match output {
            Ok(output) if output.status.success() => {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Ok(output) => output.status.to_string(),
            Err(error) => format!("did not start: {error}"),
        };
        Err(self.failed(&ended, &line))
    }

    /// Prints the command, then runs it on this terminal.
    pub(crate) fn run(mut self) -> Result<()> {
        let line = shown(&self.command);
        eprintln!("$ {line}");
        let ended = match self.command.status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => format!("did not start: {error}"),
        };
        Err(self.failed(&ended, &line))
    }

    /// Prints the command, then runs it; what it writes is kept in `file`, and printed in one piece when it is over.
    pub(crate) fn run_kept(mut self, file: &Path) -> Result<()> {
        let line = shown(&self.command);
        eprintln!("$ {line} &");
        let ended = keep(&mut self.command, file);
        eprintln!("\n$ {line}\n{}", fs::read_to_string(file).unwrap_or_default());
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.failed(&status.to_string(), &line)),
            Err(error) => Err(self.failed(&format!("did not start: {error}"), &line)),
        }
    }

    fn failed(&self, ended: &str, line: &str) -> anyhow::Error {
        anyhow!("step `{}` failed ({ended})\n  command: {line}\n  remedy:  {}", self.name, self.remedy)
    }
}

/// A file and no pipe: whoever is left behind would keep a pipe open.
fn keep(command: &mut Command, file: &Path) -> io::Result<ExitStatus> {
    let file = File::create(file)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).status()
}

/// The command as one would type it, with the environment it sets.
pub(crate) fn shown(command: &Command) -> String {
    let mut line = String::new();
    if let Some(dir) = command.get_current_dir() {
        let _infallible = write!(line, "cd {} && ", quoted(&dir.to_string_lossy()));
    }
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            let (key, value) = (key.to_string_lossy(), value.to_string_lossy());
            let _infallible = write!(line, "{key}={} ", quoted(&value));
        }
    }
    line.push_str(&quoted(&command.get_program().to_string_lossy()));
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(&argument.to_string_lossy()));
    }
    line
}

/// What a quiet question to a program answers on stdout; `None` if it is missing or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("cargo");
        command.args(["build", "it's"]).env("RUSTFLAGS", "-L /a b");
        assert_eq!(shown(&command), r"RUSTFLAGS='-L /a b' cargo build 'it'\''s'");
    }

    #[test]
    fn a_failed_step_names_itself_the_command_and_the_remedy() {
        let step = Step { name: "fail", remedy: "none is needed", command: Command::new("false") };
        let words = step.run().expect_err("false fails").to_string();
        assert!(words.contains("step `fail` failed (exit status: 1)"));
        assert!(words.contains("command: false"));
        assert!(words.contains("remedy:  none is needed"));
    }

    #[test]
    fn a_missing_program_is_a_failed_step_too() {
        let step =
            Step { name: "absent", remedy: "install it", command: Command::new("healer-no-such-program") };
        let words = step.run().expect_err("no such program").to_string();
        assert!(words.contains("did not start"));
    }

    #[test]
    fn what_is_kept_has_both_streams_in_their_order() {
        let file = std::env::temp_dir().join(format!("healer-kept-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three; exit 3"]);
        let status = keep(&mut command, &file).expect("there is a shell");
        let words = fs::read_to_string(&file).expect("it was made");
        fs::remove_file(&file).expect("it is ours");
        assert_eq!((words.as_str(), status.code()), ("one\ntwo\nthree\n", Some(3)));
    }

    #[test]
    fn no_answer_from_a_program_that_fails() {
        assert_eq!(answer(&mut Command::new("false")), None);
        assert_eq!(answer(Command::new("echo").arg("hi")), Some("hi".into()));
    }
}
