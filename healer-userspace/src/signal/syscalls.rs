//! Names of the system calls that fail when something runs out, or that filters like to forbid.

macro_rules! calls {
    ($($constant:ident = $name:literal),* $(; $($old:ident = $old_name:literal),*)?) => {
        fn known(number: libc::c_long) -> Option<&'static str> {
            $(if number == libc::$constant { return Some($name); })*
            $(#[cfg(target_arch = "x86_64")] {
                $(if number == libc::$old { return Some($old_name); })*
            })?
            None
        }
    };
}

calls! {
    SYS_accept = "accept", SYS_accept4 = "accept4", SYS_add_key = "add_key", SYS_bind = "bind", SYS_bpf = "bpf",
    SYS_brk = "brk", SYS_chroot = "chroot", SYS_clock_settime = "clock_settime", SYS_clone = "clone",
    SYS_delete_module = "delete_module", SYS_execveat = "execveat", SYS_finit_module = "finit_module",
    SYS_init_module = "init_module", SYS_io_uring_enter = "io_uring_enter", SYS_io_uring_setup = "io_uring_setup",
    SYS_ioctl = "ioctl", SYS_kexec_load = "kexec_load", SYS_keyctl = "keyctl", SYS_kill = "kill",
    SYS_mount = "mount", SYS_perf_event_open = "perf_event_open", SYS_personality = "personality",
    SYS_pivot_root = "pivot_root", SYS_prctl = "prctl", SYS_process_vm_readv = "process_vm_readv",
    SYS_process_vm_writev = "process_vm_writev", SYS_ptrace = "ptrace", SYS_reboot = "reboot",
    SYS_request_key = "request_key", SYS_seccomp = "seccomp", SYS_sethostname = "sethostname", SYS_setns = "setns",
    SYS_setuid = "setuid", SYS_swapon = "swapon", SYS_tgkill = "tgkill", SYS_umount2 = "umount2",
    SYS_uname = "uname", SYS_unshare = "unshare",
    SYS_clone3 = "clone3", SYS_close = "close", SYS_connect = "connect", SYS_copy_file_range = "copy_file_range",
    SYS_dup = "dup", SYS_dup3 = "dup3", SYS_epoll_create1 = "epoll_create1", SYS_eventfd2 = "eventfd2",
    SYS_execve = "execve", SYS_fallocate = "fallocate", SYS_fcntl = "fcntl", SYS_fdatasync = "fdatasync",
    SYS_fsync = "fsync", SYS_ftruncate = "ftruncate", SYS_getdents64 = "getdents64",
    SYS_inotify_add_watch = "inotify_add_watch", SYS_inotify_init1 = "inotify_init1", SYS_linkat = "linkat",
    SYS_memfd_create = "memfd_create", SYS_mkdirat = "mkdirat", SYS_mknodat = "mknodat", SYS_mmap = "mmap",
    SYS_mprotect = "mprotect", SYS_mremap = "mremap", SYS_msync = "msync", SYS_openat = "openat",
    SYS_openat2 = "openat2", SYS_pidfd_open = "pidfd_open", SYS_pipe2 = "pipe2", SYS_pread64 = "pread64",
    SYS_preadv = "preadv", SYS_pwrite64 = "pwrite64", SYS_pwritev = "pwritev", SYS_pwritev2 = "pwritev2",
    SYS_read = "read", SYS_readv = "readv", SYS_recvmsg = "recvmsg", SYS_renameat2 = "renameat2",
    SYS_sendfile = "sendfile", SYS_sendmsg = "sendmsg", SYS_sendto = "sendto", SYS_setxattr = "setxattr",
    SYS_signalfd4 = "signalfd4", SYS_socket = "socket", SYS_socketpair = "socketpair", SYS_splice = "splice",
    SYS_symlinkat = "symlinkat", SYS_sync_file_range = "sync_file_range", SYS_syncfs = "syncfs",
    SYS_timerfd_create = "timerfd_create", SYS_truncate = "truncate", SYS_userfaultfd = "userfaultfd",
    SYS_write = "write", SYS_writev = "writev";
    SYS_creat = "creat", SYS_dup2 = "dup2", SYS_epoll_create = "epoll_create", SYS_eventfd = "eventfd",
    SYS_fork = "fork", SYS_link = "link", SYS_mkdir = "mkdir", SYS_mknod = "mknod", SYS_open = "open",
    SYS_pipe = "pipe", SYS_rename = "rename", SYS_renameat = "renameat", SYS_symlink = "symlink",
    SYS_vfork = "vfork"
}

/// `openat`, or `syscall 437`.
pub(super) fn name(number: u32) -> String {
    known(number.into()).map_or_else(|| format!("syscall {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_some_name() {
        assert_eq!(name(libc::SYS_openat as u32), "openat");
        assert_eq!(name(99_999), "syscall 99999");
    }
}
