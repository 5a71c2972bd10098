//! A process that sleeps where no signal reaches it: it waits for an inode's lock, whose holder waits for a page
//! (userfaultfd(2)) that comes late or never.

use core::time::Duration;
use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    thread,
};

use super::{End, Fault, child::unmade};
use crate::engine::class::Class;

pub(super) const UNKILLABLE: Fault = Fault::failing(
    "unkillable",
    Class::Unkillable,
    "a process that waits for a lock in the kernel, and is killed in vain",
    End::Never,
    || waits(None),
)
.lasting(20);
pub(super) const SLOW_DISK: Fault = Fault::healthy(
    "slow-disk",
    "healthy: a write that the kernel finishes after three seconds; until then no signal ends who waits",
    End::Status(0),
    || waits(Some(Duration::from_secs(3))),
);

/// From include/uapi/linux/userfaultfd.h, of x86-64 and arm64 alike.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const UFFD_API: u64 = 0xaa;
const MISSING: u64 = 1;
const PAGE: usize = 4096;
const LIFE_SECONDS: u32 = 60;

const REMEDY: &str =
    "it needs CAP_SYS_PTRACE, a kernel with CONFIG_USERFAULTFD, and a /tmp that can be written";

fn waits(late: Option<Duration>) -> u8 {
    let name = format!("/tmp/healer-fault-{}-locked", std::process::id());
    let made = File::create_new(&name).and_then(|file| Ok((file, File::options().append(true).open(&name)?)));
    std::fs::remove_file(&name).ok();
    let ((holds, waits), (faults, page)) = match made.and_then(|files| Ok((files, page()?))) {
        Ok(made) => made,
        Err(error) => return unmade("a page that nobody fills (userfaultfd)", error, REMEDY),
    };
    let Ok(waiter) = child(waits, &[1], Duration::from_millis(300)) else { return 2 };
    if let Some(late) = late {
        thread::spawn(move || {
            thread::sleep(late);
            give(&faults, page).ok();
        });
    } else {
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(1));
            // SAFETY: our own child that nobody has waited for: its pid is not another's.
            unsafe { libc::kill(waiter, libc::SIGKILL) };
            drop(faults.try_clone().map(core::mem::forget));
            thread::park();
        });
    }
    // SAFETY: the page is mapped for ever; reading it waits in the kernel, which is what this is for.
    let written = unsafe { libc::write(holds.as_raw_fd(), page as *const libc::c_void, PAGE) };
    let mut status = 0;
    // SAFETY: `status` is a live local.
    unsafe { libc::waitpid(waiter, &raw mut status, 0) };
    u8::from(written < 0 || status != 0)
}

/// Forks; the child writes after a while and ends.
fn child(mut file: File, bytes: &[u8], after: Duration) -> io::Result<i32> {
    // SAFETY: the process has one thread here, so the child may go on in any way.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: takes a number.
            unsafe { libc::alarm(LIFE_SECONDS) };
            thread::sleep(after);
            std::process::exit(i32::from(file.write_all(bytes).is_err()))
        }
        pid => Ok(pid),
    }
}

/// One that nobody has touched, and whoever touches it waits for us.
fn page() -> io::Result<(OwnedFd, usize)> {
    // SAFETY: takes flags, gives a descriptor or -1.
    let raw = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let raw = i32::try_from(raw).ok().filter(|raw| 0 <= *raw).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given it to us.
    let faults = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: a new private mapping, anywhere.
    let page = unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        libc::mmap(core::ptr::null_mut(), PAGE, access, kind, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let page = page as usize;
    order(&faults, UFFDIO_API, &mut [UFFD_API, 0, 0, 0])?;
    order(&faults, UFFDIO_REGISTER, &mut [page as u64, PAGE as u64, MISSING, 0])?;
    Ok((faults, page))
}

fn give(faults: &OwnedFd, page: usize) -> io::Result<()> {
    order(faults, UFFDIO_ZEROPAGE, &mut [page as u64, PAGE as u64, 0, 0])
}

fn order(faults: &OwnedFd, request: libc::c_ulong, words: &mut [u64; 4]) -> io::Result<()> {
    // SAFETY: each of the three requests takes a struct of at most four words.
    let outcome = unsafe { libc::ioctl(faults.as_raw_fd(), request as _, words.as_mut_ptr()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
