//! What is undone however a test run ends, by SIGKILL too.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A process that waits for the end of its pipe, which comes with the drop of this or with the end of whoever has it.
pub struct Guard(Child);

impl Guard {
    /// `script` has `path` as its `$1`.
    ///
    /// # Panics
    /// Without a shell.
    #[must_use]
    pub fn start(script: &str, path: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read end; {script}"), "sh"]).arg(path);
        // Whoever strikes the group of the tests is not to strike it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("there is a shell"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}
