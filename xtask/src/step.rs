//! One step of a chore: a command that is printed before it runs, and explains itself when it fails.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

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

    fn failed(&self, ended: &str, line: &str) -> anyhow::Error {
        anyhow!("step `{}` failed ({ended})\n  command: {line}\n  remedy:  {}", self.name, self.remedy)
    }
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
    fn no_answer_from_a_program_that_fails() {
        assert_eq!(answer(&mut Command::new("false")), None);
        assert_eq!(answer(Command::new("echo").arg("hi")), Some("hi".into()));
    }
}
