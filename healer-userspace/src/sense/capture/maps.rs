//! What of a process's memory is code (`/proc/PID/maps`, proc_pid_maps(5)).

use crate::sense::waits::Proc;

const LINES_MAX: usize = 8192;

#[derive(Default)]
pub(super) struct Maps(Vec<Code>);

pub(super) struct Code {
    from: u64,
    to: u64,
    offset: u64,
    pub(super) path: String,
}

impl Maps {
    pub(super) fn of(proc: &Proc, pid: u32) -> Self {
        Self::parse(&proc.patiently(pid, format!("{pid}/maps")).unwrap_or_default())
    }

    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().take(LINES_MAX).filter_map(code).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The code that an address lies in.
    pub(super) fn find(&self, address: u64) -> Option<&Code> {
        self.0.iter().find(|code| (code.from..code.to).contains(&address))
    }
}

impl Code {
    /// Name of the file, and where in it.
    pub(super) fn place(&self, address: u64) -> String {
        let file = self.path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("generated code");
        format!("{file}+{:#x}", address - self.from + self.offset)
    }

    /// The name by which the kernel shows this very file, also if it has been deleted.
    pub(super) fn link(&self, pid: u32) -> String {
        format!("/proc/{pid}/map_files/{:x}-{:x}", self.from, self.to)
    }
}

fn code(line: &str) -> Option<Code> {
    let mut words = line.split_ascii_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let is_code = words.next()?.as_bytes().get(2) == Some(&b'x');
    let offset = words.next()?;
    let path = words.nth(2).unwrap_or_default();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (from, to, offset) = (number(from)?, number(to)?, number(offset)?);
    is_code.then(|| Code { from, to, offset, path: path.to_owned() })
}
