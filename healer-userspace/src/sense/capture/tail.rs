//! The last lines of a file that somebody goes on writing.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::text::printable;

/// Further back nothing is read.
const REACH: u64 = 64 * 1024;
const LINE_MAX: usize = 400;

/// Regular files only: what is read of anything else is taken from others.
pub(super) fn regular(path: &Path) -> Option<Metadata> {
    path.metadata().ok().filter(Metadata::is_file)
}

/// To open a FIFO waits for its writer, and whoever owns the directory may put one there just now.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let is_file = file.metadata()?.is_file();
    is_file.then_some(file).ok_or_else(|| io::Error::other("it is no regular file"))
}

/// Oldest first.
pub(super) fn last(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(REACH);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(REACH).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The first one may be the end of a longer one.
    let mut all: Vec<&str> = text.lines().skip(usize::from(0 < from)).collect();
    let shown = all.split_off(all.len().saturating_sub(lines));
    Ok(shown.into_iter().map(str::to_owned).collect())
}

/// As a person may see it, whatever stands in it.
pub(super) fn shown(line: &str) -> String {
    let cut: String = line.chars().take(LINE_MAX).collect();
    let more = if cut.len() < line.len() { "…" } else { "" };
    format!("    | {}{more}\n", printable(cut.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scratch::Scratch;

    #[test]
    fn the_end_of_a_long_file_is_whole_lines() {
        let scratch = Scratch::new("tail");
        let path = scratch.path().join("log");
        let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, text).unwrap();
        assert_eq!(last(&path, 2).unwrap(), ["line 19998", "line 19999"]);
        let all = last(&path, 100_000).unwrap();
        assert!(all.len() < 20_000 && all[0].starts_with("line 1"), "{}", all[0]);
    }

    #[test]
    fn whatever_is_no_file_is_not_waited_for() {
        let scratch = Scratch::new("tail-fifo");
        let path = scratch.path().join("0.log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(last(&path, 1).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn escapes_of_a_terminal_are_shown_and_long_lines_cut() {
        assert_eq!(shown("a\x1b[31mb"), "    | a\\x1b[31mb\n");
        assert!(shown(&"x".repeat(1000)).ends_with("x…\n"));
    }
}
