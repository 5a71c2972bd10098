//! Disks that are full, or broken; in a mount namespace of the child's own, which ends with it.

use core::{ffi::CStr, time::Duration};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::{End, Fault, child::unmade};
use crate::engine::class::Class;

pub(super) const DISK_FULL: Fault = Fault::failing(
    "disk-full",
    Class::DiskFull,
    "writes to a tmpfs of 2 MiB until it is full, and goes on",
    End::Never,
    full,
)
.lasting(6);
pub(super) const INODES_FULL: Fault = Fault::failing(
    "inodes-full",
    Class::DiskFull,
    "makes files on a tmpfs that may have 64 of them, and goes on",
    End::Never,
    inodes,
)
.lasting(6);
pub(super) const IO_ERROR: Fault = Fault::failing(
    "io-error",
    Class::IoError,
    "writes to a loop device whose backing file has no room: its disk reports errors",
    End::Never,
    broken,
)
.lasting(6);
pub(super) const TEMP_FILES: Fault = Fault::healthy(
    "temp-half",
    "healthy: fills half of a tmpfs with temporary files and removes them, again and again",
    End::Never,
    temporary,
)
.lasting(6);

const REMEDY: &str =
    "it needs CAP_SYS_ADMIN for a mount namespace, and io-error a free loop device (/dev/loop-control)";

/// The mount is seen by nobody else, and goes with the last process of its namespace.
fn small_disk(options: &CStr) -> io::Result<PathBuf> {
    // SAFETY: takes a number; the child has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let point = PathBuf::from("/tmp");
    mount("healer-fault", &point, "tmpfs", MountFlags::empty(), options)?;
    Ok(point)
}

fn on(options: &CStr, fault: fn(&Path) -> io::Result<()>) -> u8 {
    match small_disk(options).and_then(|disk| fault(&disk)) {
        Ok(()) => 0,
        Err(error) => unmade("a small disk of its own", error, REMEDY),
    }
}

fn full() -> u8 {
    on(c"size=2m", |disk| {
        let mut file = File::create(disk.join("grows"))?;
        loop {
            file.write_all(&[1; 16 << 10]).ok();
            thread::sleep(Duration::from_millis(10));
        }
    })
}

fn inodes() -> u8 {
    on(c"size=2m,nr_inodes=64", |disk| {
        for number in 0_u64.. {
            File::create(disk.join(number.to_string())).ok();
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })
}

fn temporary() -> u8 {
    on(c"size=2m", |disk| {
        loop {
            for number in 0..8 {
                fs::write(disk.join(number.to_string()), [1; 128 << 10])?;
                thread::sleep(Duration::from_millis(20));
            }
            for number in 0..8 {
                fs::remove_file(disk.join(number.to_string()))?;
            }
        }
    })
}

fn broken() -> u8 {
    on(c"size=1m", |disk| {
        let backing =
            OpenOptions::new().read(true).write(true).create_new(true).open(disk.join("backing"))?;
        backing.set_len(16 << 20)?;
        let mut device = loop_device(&backing)?;
        loop {
            // The first megabyte finds room.
            for _ in 0..64 {
                device.write_all(&[1; 64 << 10]).ok();
            }
            device.sync_all().ok();
            rustix::fs::seek(device.as_fd(), rustix::fs::SeekFrom::Start(0))?;
            thread::sleep(Duration::from_millis(100));
        }
    })
}

/// A loop device on `backing` that is let go of with its last file (loop(4)).
fn loop_device(backing: &File) -> io::Result<File> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
    const LOOP_SET_FD: libc::c_ulong = 0x4C00;
    const LOOP_SET_STATUS64: libc::c_ulong = 0x4C04;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// `struct loop_info64` of include/uapi/linux/loop.h, and where its flags are.
    const INFO_BYTES: usize = 232;
    const FLAGS_AT: usize = 52;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    let device = OpenOptions::new().read(true).write(true).open(format!("/dev/loop{number}"))?;
    let mut info = [0_u8; INFO_BYTES];
    info[FLAGS_AT..FLAGS_AT + 4].copy_from_slice(&LO_FLAGS_AUTOCLEAR.to_ne_bytes());
    // SAFETY: the first takes a descriptor, the second reads as many bytes as `info` has.
    let is_set = unsafe {
        libc::ioctl(device.as_raw_fd(), LOOP_SET_FD as _, backing.as_raw_fd()) == 0
            && libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64 as _, info.as_ptr()) == 0
    };
    if is_set { Ok(device) } else { Err(io::Error::last_os_error()) }
}
