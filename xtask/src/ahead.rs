//! Compiling what later stages need while the last crate of a build leaves processors idle.

use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use crate::step::shown;

/// Commands that run one after the other, in silence: the stage that needs what they make runs them
/// again, finds it made, or says what is wrong. They come after the build that they run beside (nice(1)).
pub(crate) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    pub(crate) fn of(commands: Vec<Command>) -> Self {
        Self(Some(thread::spawn(|| commands.into_iter().for_each(run))))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            if !thread.is_finished() {
                eprintln!("waiting for what is compiled beside it");
            }
            let _said_by_the_stage = thread.join();
        }
    }
}

fn run(command: Command) {
    eprintln!("$ {} &", shown(&command));
    let mut nice = Command::new("nice");
    nice.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        nice.current_dir(dir);
    }
    let silent = nice.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _said_by_the_stage = silent.status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_have_ended_when_it_is_dropped() {
        let dir = std::env::temp_dir().join(format!("healer-ahead-{}", std::process::id()));
        let mut made = Command::new("mkdir");
        made.arg(&dir);
        let mut missing = Command::new("healer-no-such-program");
        missing.arg("x");
        drop(Ahead::of(vec![missing, Command::new("false"), made]));
        assert!(dir.is_dir());
        std::fs::remove_dir(&dir).expect("it was made");
    }
}
