//! THE CAPABILITY TABLE: what healer may be allowed beyond other programs, what each is for, and which it needs no more
//! once the kernel programs are loaded.

use std::{fs, io};

/// One capability, as in linux/capability.h.
#[derive(Debug)]
pub struct Capability {
    pub name: &'static str,
    pub bit: u32,
    /// What does not work without it.
    pub costs: &'static str,
    /// A wider one that includes it.
    pub or_bit: Option<u32>,
    pub for_what: For,
    /// Sensors that go on and see less. Where a sensor finds that out itself, it says so itself.
    pub dims: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Without it nothing is sensed in the kernel. Given up once everything is loaded, where the kernel allows.
    Loading,
    /// Without it something is lesser.
    More,
    /// Not given in a DaemonSet or unit as shipped.
    Extra,
}

const DAC_OVERRIDE: u32 = 1;
pub const NET_ADMIN: u32 = 12;
pub const SYS_ADMIN: u32 = 21;
pub const SYS_RESOURCE: u32 = 24;

const fn more(name: &'static str, bit: u32, costs: &'static str) -> Capability {
    Capability { name, bit, costs, or_bit: None, for_what: For::More, dims: &[] }
}

pub const CAPABILITIES: &[Capability] = &[
    Capability {
        name: "CAP_BPF",
        bit: 39,
        costs: "kernel programs cannot be loaded: the lesser sensors of user space take over",
        or_bit: Some(SYS_ADMIN),
        for_what: For::Loading,
        dims: &[],
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        costs: "kernel programs cannot be attached: the lesser sensors of user space take over",
        or_bit: Some(SYS_ADMIN),
        for_what: For::Loading,
        dims: &[],
    },
    Capability {
        dims: &["task_scan", "levels"],
        ..more(
            "CAP_SYS_PTRACE",
            19,
            "programs and files of other users' processes stay unknown, and what their threads wait for",
        )
    },
    Capability {
        or_bit: Some(DAC_OVERRIDE),
        dims: &["task_scan", "levels"],
        ..more(
            "CAP_DAC_READ_SEARCH",
            2,
            "what other users' processes have open stays unknown, and programs in directories closed to others",
        )
    },
    more(
        "CAP_SYS_RESOURCE",
        SYS_RESOURCE,
        "memory pressure is watched in steps of 2 s only; limits of others cannot be raised, nobody protected",
    ),
    more(
        "CAP_SYSLOG",
        34,
        "of an OOM kill nobody tells whether a cgroup or the node ran out; the kernel's log may be closed",
    ),
    more("CAP_KILL", 5, "processes of other users cannot be stopped or killed"),
    more(
        "CAP_DAC_OVERRIDE",
        DAC_OVERRIDE,
        "control groups of other users cannot be written: no cgroup.kill and no lease there",
    ),
    Capability {
        for_what: For::Extra,
        ..more(
            "CAP_SYS_ADMIN",
            SYS_ADMIN,
            "network namespaces of containers cannot be entered: no http or tcp probe and no look at sockets there",
        )
    },
    Capability {
        for_what: For::Extra,
        ..more(
            "CAP_NET_ADMIN",
            NET_ADMIN,
            "reset_connections is refused; no process connector to fall back on",
        )
    },
];

impl Capability {
    /// What its absence means.
    pub fn words(&self) -> String {
        format!("no {}: {}", self.name, self.costs)
    }

    pub fn is_held(&self, effective: u64) -> bool {
        has(effective, self.bit) || self.or_bit.is_some_and(|bit| has(effective, bit))
    }
}

pub fn has(effective: u64, bit: u32) -> bool {
    effective & (1 << bit) != 0
}

/// `CapEff:` of /proc/PID/status, hexadecimal (proc(5)).
pub fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Of the calling thread. `None`: no procfs.
pub fn own() -> Option<u64> {
    effective(&fs::read_to_string("/proc/thread-self/status").ok()?)
}

/// What is missing of the table and should not be. Before loading: afterwards more may have been given up.
pub fn missing() -> Vec<&'static Capability> {
    let Some(effective) = own() else { return Vec::new() };
    let lacks = |one: &&Capability| one.for_what != For::Extra && !one.is_held(effective);
    CAPABILITIES.iter().filter(lacks).collect()
}

/// `struct __user_cap_header_struct`, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Half a set: `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up what only loading needs: of the calling thread, and of those that it starts from now on. There is no way
/// back but an exec by root.
///
/// # Errors
/// Of capget(2) and capset(2), which a seccomp filter may refuse.
pub fn give_up_loading() -> io::Result<()> {
    let loading = CAPABILITIES.iter().filter(|one| one.for_what == For::Loading);
    let gone = loading.fold(0_u64, |set, one| set | 1 << one.bit);
    let header = Header { version: 0x2008_0522, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 has two halves; both pointers are valid for the call.
    call(unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) })?;
    for (half, gone) in halves.iter_mut().zip([gone as u32, (gone >> 32) as u32]) {
        half.effective &= !gone;
        half.permitted &= !gone;
    }
    // SAFETY: as above.
    call(unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) })
}

fn call(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read_from_the_status_file() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000000c000000000\n"), Some(0xc0_0000_0000));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn what_is_given_up_is_gone_from_this_thread_alone() {
        let loading =
            |set: u64| CAPABILITIES.iter().any(|one| one.for_what == For::Loading && has(set, one.bit));
        let before = own().expect("procfs is mounted");
        let after = std::thread::spawn(|| {
            give_up_loading().expect("less may always be had");
            own()
        });
        let after = after.join().expect("no panic").expect("procfs is mounted");
        assert!(!loading(after), "{after:x}");
        assert_eq!(own(), Some(before));
        assert_eq!(before & !after, before & (1 << 39 | 1 << 38), "nothing else went");
    }
}
