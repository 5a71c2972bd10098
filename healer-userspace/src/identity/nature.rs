//! What kind of program a process runs, and what its command is apart from what changes from start to start. Pure.

use core::hash::{Hash, Hasher};

use super::process::Process;

pub(crate) const SHELLS: [&str; 9] = ["sh", "dash", "bash", "ash", "ksh", "mksh", "yash", "zsh", "busybox"];
/// Files of the system that run somebody else's program.
const INTERPRETERS: [&str; 13] = [
    "python", "pypy", "ruby", "node", "nodejs", "perl", "php", "java", "lua", "luajit", "deno", "bun",
    "dotnet",
];
/// Tools, as opposed to what an administrator or a user brought along; daemons are in sbin.
const OF_THE_SYSTEM: [&str; 2] = ["/bin/", "/usr/bin/"];
const TEMPORARY: [&str; 4] = ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    Shell,
    /// Of the system's own: more often asked something than left to serve.
    Tool,
    Own,
}

pub(crate) fn nature(process: &Process) -> Nature {
    let program = program(process);
    let name = base(program);
    if SHELLS.contains(&name) {
        return Nature::Shell;
    }
    // `grep`, found by PATH, whose file nobody could read in time, is as likely a tool.
    let is_of_system = !program.contains('/') || OF_THE_SYSTEM.iter().any(|dir| program.starts_with(dir));
    if is_of_system && !is_interpreter(name) { Nature::Tool } else { Nature::Own }
}

/// The file, or what it was called by.
pub(crate) fn program(process: &Process) -> &str {
    let called = process.args.first().map_or(process.comm.as_str(), String::as_str);
    process.exe.as_deref().unwrap_or(called)
}

/// The last part of a path.
pub(crate) fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where the script stands that an interpreter was called with: `-u job.py`, `-jar a.jar`, `-m job`. None for a text to
/// run: `-c`, `-e`.
fn script(args: &[String]) -> Option<usize> {
    let name = base(args.first()?);
    if !SHELLS.contains(&name) && !is_interpreter(name) {
        return None;
    }
    let is_option = |arg: &&String| arg.starts_with('-');
    let options = args[1..].iter().take_while(is_option).count();
    let is_text = |arg: &String| !arg.starts_with("--") && arg.ends_with(['c', 'e']);
    let is_file = !args[1..=options].iter().any(is_text) && options + 1 < args.len();
    is_file.then_some(options + 1)
}

/// Where a temporary name begins: a path begins with the argument, a word in it, or behind `-o`, `--option=` or `host:`.
fn temporary(arg: &str) -> Option<usize> {
    if !arg.contains('/') {
        return None;
    }
    let begins = |at: usize| {
        let before = arg[..at].chars().next_back();
        before.is_none_or(|before| matches!(before, '=' | ':' | ' ' | '"' | '\''))
            || (at == 2 && arg.starts_with('-'))
    };
    let found =
        |dir: &&str| arg.match_indices(dir).find(|(at, _)| begins(*at)).map(|(at, dir)| at + dir.len());
    TEMPORARY.iter().filter_map(found).min()
}

/// `python3.11` as well.
fn is_interpreter(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
    INTERPRETERS.contains(&name)
}

/// The same for two starts of a command that differ in ports, dates, counters and temporary files. What it is called
/// by, and the script that it runs, are never left out: `check1` and `check2` are two.
pub(crate) fn hash_shape(args: &[String], digest: &mut impl Hasher) {
    let script = script(args);
    for (at, arg) in args.iter().enumerate() {
        if at == 0 || Some(at) == script {
            arg.hash(digest);
            continue;
        }
        let fixed = &arg[..temporary(arg).unwrap_or(arg.len())];
        for run in fixed.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
            if run.bytes().any(|byte| byte.is_ascii_digit()) {
                let separator = run.chars().next_back().filter(|c| !c.is_ascii_alphanumeric());
                ('0', separator).hash(digest);
            } else {
                run.hash(digest);
            }
        }
        0xff_u8.hash(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn of(exe: Option<&str>, args: &[&str]) -> Nature {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        nature(&Process { exe: exe.map(str::to_owned), args, ..Process::default() })
    }

    #[test]
    fn tools_shells_and_what_somebody_brought_along() {
        assert_eq!(of(Some("/usr/bin/grep"), &["grep", "-q", "x", "/opt/log"]), Nature::Tool);
        assert_eq!(of(None, &["curl", "-sf", "http://x/"]), Nature::Tool);
        assert_eq!(of(Some("/usr/bin/dash"), &["./check.sh"]), Nature::Shell);
        assert_eq!(of(Some("/usr/bin/python3.11"), &["python3", "app.py"]), Nature::Own);
        assert_eq!(of(Some("/usr/sbin/nginx"), &["nginx"]), Nature::Own);
        assert_eq!(of(None, &["./srv"]), Nature::Own);
        assert_eq!(of(Some("/usr/local/bin/srv"), &["srv"]), Nature::Own);
    }

    fn shape(args: &[&str]) -> u64 {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut digest = DefaultHasher::new();
        hash_shape(&args, &mut digest);
        digest.finish()
    }

    #[test]
    fn what_changes_from_start_to_start_is_no_part_of_the_shape() {
        let same: &[(&[&str], &[&str])] = &[
            (&["./srv", "--port=8080"], &["./srv", "--port=41973"]),
            (&["./srv", "/tmp/tmp.aBcDeF/sock"], &["./srv", "/tmp/tmp.xYz9/sock"]),
            (&["./srv", "2026-11-29T06:03:15"], &["./srv", "2026-12-01T17:44:02"]),
            (&["./srv", "id-3fa9c0"], &["./srv", "id-77be21d4"]),
            (&["./srv", "--pid=/run/a.pid"], &["./srv", "--pid=/run/b.pid"]),
            (&["sh", "-c", "x 1"], &["sh", "-c", "x 2"]),
            (&["sh", "-c", "./srv /tmp/a.XyZ/s"], &["sh", "-c", "./srv /tmp/b.zYx/s"]),
            (&["./srv", "-o/tmp/x"], &["./srv", "-o/tmp/y"]),
            (&["python3", "-u", "job.py", "1"], &["python3", "-u", "job.py", "2"]),
        ];
        for (one, other) in same {
            assert_eq!(shape(one), shape(other), "{one:?} {other:?}");
        }
        let others: &[(&[&str], &[&str])] = &[
            (&["./srv", "alpha"], &["./srv", "beta"]),
            (&["./srv", "a b"], &["./srv", "a-b"]),
            (&["./srv", "x1-y"], &["./srv", "x1-z"]),
            (&["./srv", "-p"], &["./srv-p", ""]),
            (&["./sync1"], &["./check2"]),
            (&["/tmp/a/srv"], &["/tmp/b/srv"]),
            (&["python3", "job1.py"], &["python3", "job2.py"]),
            (&["sh", "/run/a.sh"], &["sh", "/run/b.sh"]),
            (&["bash", "-x", "check1.sh"], &["bash", "-x", "check2.sh"]),
            (&["java", "-jar", "a1.jar"], &["java", "-jar", "a2.jar"]),
            (&["./srv", "/opt/run/a"], &["./srv", "/opt/run/b"]),
        ];
        for (one, other) in others {
            assert_ne!(shape(one), shape(other), "{one:?} {other:?}");
        }
    }
}
