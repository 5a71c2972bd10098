//! What several payloads are made of.

use super::wire::wire;

/// Bytes of [`Args`] that can be kept of one process.
pub const ARGS_MAX: usize = 256;

wire! {
    /// A thread group, named by its leader. All zero means "none" (no sender, no parent).
    pub struct TaskRef: 32 bytes {
        /// Leader's `task_struct.start_boottime`: `CLOCK_BOOTTIME`, ns.
        pub start_boot_ns: u64,
        /// Thread group id in the initial pid namespace.
        pub tgid: u32,
        /// Real user id in the initial user namespace.
        pub uid: u32,
        /// Leader's name, NUL-padded. Untrusted: a process writes it itself.
        pub comm: [u8; 16],
    }
}

impl TaskRef {
    /// The name without its padding, still untrusted.
    #[must_use]
    pub fn comm(&self) -> &[u8] {
        until_nul(&self.comm)
    }
}

wire! {
    /// A cgroup by its kernfs id, which is also the inode number of its directory.
    pub struct CgroupRef: 16 bytes {
        /// 0 when the kernel's layout did not say.
        pub id: u64,
        /// One of the constants below.
        pub hierarchy: u32,
        pub pad: u32,
    }
}

impl CgroupRef {
    /// The id could not be read.
    pub const UNKNOWN: u32 = 0;
    /// The id is one of the v1 memory hierarchy (the task sits in the root of v2).
    pub const V1_MEMORY: u32 = 1;
    /// The id is one of the unified hierarchy.
    pub const V2: u32 = 2;

    pub(crate) fn is_valid(&self) -> bool {
        self.hierarchy <= Self::V2
    }
}

wire! {
    /// An executable file as `stat(2)` names it; all zero when unknown.
    ///
    /// On overlayfs and btrfs `stat` may show another device number than the inode's own.
    pub struct ExeRef: 16 bytes {
        /// `st_dev`, in the encoding of `stat(2)`.
        pub dev: u64,
        /// `st_ino`.
        pub ino: u64,
    }
}

wire! {
    /// `filename NUL argv[0] NUL argv[1] NUL …`, cut where the room ends. Untrusted.
    pub struct Args: 264 bytes {
        pub bytes: [u8; 256],
        /// Bytes used; 0 when healer did not see the exec.
        pub len: u32,
        /// Bytes of `argv` that did not fit.
        pub cut: u32,
    }
}

impl Args {
    /// The file name given to `execve(2)`; `None` when the exec was not seen.
    #[must_use]
    pub fn filename(&self) -> Option<&[u8]> {
        (self.len != 0).then(|| until_nul(self.used()))
    }

    /// The arguments, `argv[0]` first; the last may be cut.
    pub fn argv(&self) -> impl Iterator<Item = &[u8]> {
        let used = self.used();
        let argv = used.get(until_nul(used).len() + 1..).unwrap_or_default();
        let argv = argv.strip_suffix(&[0]).unwrap_or(argv);
        let present = !argv.is_empty();
        argv.split(|byte| *byte == 0).filter(move |_| present)
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.len as usize <= ARGS_MAX
    }

    fn used(&self) -> &[u8] {
        let len = (self.len as usize).min(ARGS_MAX);
        &self.bytes[..len]
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::wire::Wire;

    fn args(text: &[u8]) -> Args {
        let mut args = Args::ZERO;
        args.bytes[..text.len()].copy_from_slice(text);
        args.len = text.len() as u32;
        args
    }

    #[test]
    fn filename_and_arguments_are_split_at_nul() {
        let args = args(b"/bin/sh\0sh\0-c\0\0exit 3\0");
        assert_eq!(args.filename(), Some(&b"/bin/sh"[..]));
        let argv: Vec<_> = args.argv().collect();
        assert_eq!(argv, [&b"sh"[..], b"-c", b"", b"exit 3"]);
    }

    #[test]
    fn an_exec_that_was_not_seen_has_neither() {
        assert_eq!(Args::ZERO.filename(), None);
        assert_eq!(Args::ZERO.argv().count(), 0);
    }

    #[test]
    fn a_cut_argument_is_still_given() {
        let args = args(b"/x\0/x\0half");
        assert_eq!(args.argv().last(), Some(&b"half"[..]));
    }

    #[test]
    fn a_lying_length_does_not_read_past_the_end() {
        let mut args = args(b"/x\0y");
        args.len = u32::MAX;
        assert_eq!(args.filename(), Some(&b"/x"[..]));
        assert!(!args.is_valid());
    }
}
