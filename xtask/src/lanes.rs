//! Live tests that wait more than they work run beside the others: those of files that say `//! mostly waits` in their
//! first lines. What measures the machine, or loads it, must not say so.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};

use crate::step::Step;

const MARK: &str = "//! mostly waits";

/// Those of `files` (stems in `dir`) that say so, and the others.
pub(crate) fn split(dir: &Path, files: Vec<String>) -> Result<(Vec<String>, Vec<String>)> {
    let mut lanes = (Vec::new(), Vec::new());
    for file in files {
        let alone = dir.join(format!("{file}.rs"));
        let path = if alone.exists() { alone } else { dir.join(&file).join("main.rs") };
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut head = source.lines().take_while(|line| line.starts_with("//!"));
        let lane = if head.any(|line| line == MARK) { &mut lanes.0 } else { &mut lanes.1 };
        lane.push(file);
    }
    Ok(lanes)
}

/// Both at once: `main` on this terminal; the words of `beside` are kept in a file, and shown when it is over. Both are
/// run, even if one fails.
pub(crate) fn run(beside: Step, kept: &Path, main: Step) -> Result<()> {
    let (main, beside) = thread::scope(|scope| {
        let beside = scope.spawn(|| beside.run_kept(kept));
        (main.run(), beside.join())
    });
    let beside = beside.unwrap_or_else(|_| Err(anyhow!("the step panicked")));
    match (main, beside) {
        (Err(main), Err(beside)) => bail!("{main:#}\n{beside:#}"),
        (main, beside) => main.and(beside),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_file_says_that_it_waits_in_its_head() {
        let dir = std::env::temp_dir().join(format!("healer-lanes-{}", std::process::id()));
        fs::create_dir_all(dir.join("live_b")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        write("live_a.rs", "//! About.\n//!\n//! mostly waits\nuse x;\n");
        write("live_b/main.rs", "//! About, and mostly waits\n");
        write("live_c.rs", "//! About.\nfn f() {}\n//! mostly waits\n");
        let all = ["live_a", "live_b", "live_c"].map(str::to_owned).to_vec();
        let (beside, others) = split(&dir, all).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((beside, others), (vec!["live_a".into()], vec!["live_b".into(), "live_c".into()]));
    }

    #[test]
    fn both_are_run_and_either_may_fail() {
        let step = |program: &str| Step { name: "lane", remedy: "none", command: Command::new(program) };
        let kept = std::env::temp_dir().join(format!("healer-lane-{}", std::process::id()));
        let outcomes = [("true", "true"), ("false", "true"), ("true", "false"), ("false", "false")]
            .map(|(beside, main)| run(step(beside), &kept, step(main)).is_ok());
        fs::remove_file(&kept).unwrap();
        assert_eq!(outcomes, [true, false, false, false]);
    }
}
