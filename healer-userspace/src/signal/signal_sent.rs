use healer_common::event::signal_sent::SignalSent as Record;

use super::{Aim, Fact, Meaning, Party, Raw, Seen, SignalSent, raw, syscalls};
use crate::engine::time::BootTime;

/// `include/uapi/asm-generic/siginfo.h`: a POSIX timer ran out in the kernel.
const SI_TIMER: i32 = -2;
/// The same, of SIGSYS.
pub const SYS_SECCOMP: i32 = 1;
const SIGSYS: u32 = libc::SIGSYS as u32;

pub(super) fn interpret(at: BootTime, event: &Record) -> Meaning {
    let seen = Seen {
        task: raw::party(&event.target).unwrap_or_default(),
        cgroup: raw::cgroup(&event.target_cgroup),
        ..Seen::default()
    };
    Meaning::Happened(Raw {
        at,
        seen: Some(seen),
        fact: Fact::SignalSent(SignalSent {
            // The decoder lets only 1 to 64 through.
            signal: event.signal.cast_signed(),
            si_code: event.si_code,
            sender: sender(event),
            group: event.flags & Record::GROUP != 0,
            ignored: event.result == Record::IGNORED,
            fault_address: event.fault_address,
            aim: aim(event.flags),
            process_group: event.target_pgid,
            forbidden_call: forbidden_call(event),
            cpu: None,
        }),
        at_limit: None,
        owner: None,
    })
}

fn forbidden_call(event: &Record) -> Option<String> {
    let number = event.forbidden_call & !Record::CALL_64;
    let is_by_seccomp = event.signal == SIGSYS && event.si_code == SYS_SECCOMP;
    // Of a rung that has no siginfo both are 0: the read(2) of an old table.
    (is_by_seccomp && event.forbidden_call != 0).then(|| match event.forbidden_call & Record::CALL_64 {
        0 => format!("32-bit system call {number}"),
        _ => format!("{} ({number})", syscalls::name(number)),
    })
}

fn aim(flags: u32) -> Aim {
    let aims = [
        (Record::NAMESPACE_ENDING, Aim::NamespaceEnding),
        (Record::ENDING, Aim::Ending),
        (Record::THREAD_ENDING, Aim::ThreadEnding),
        (Record::NO_INFO, Aim::NoCall),
        (Record::TO_EVERYBODY, Aim::Everybody),
        (Record::TO_PROCESS_GROUP, Aim::ProcessGroup),
        (Record::TO_ONE, Aim::One),
    ];
    aims.into_iter().find(|(flag, _)| flags & flag != 0).map_or(Aim::Untold, |(_, aim)| aim)
}

/// Codes above 0 are the kernel's: a fault (whose "sender" is the faulting task itself) or
/// `SI_KERNEL`. Nobody can send one to another process (`kernel/signal.c`, `do_rt_sigqueueinfo`).
fn sender(event: &Record) -> Option<Party> {
    if event.flags & Record::NAMESPACE_ENDING != 0 {
        return raw::party(&event.sender);
    }
    let by_kernel = event.flags & Record::BY_KERNEL != 0;
    if by_kernel || event.si_code > 0 || event.si_code == SI_TIMER {
        return None;
    }
    raw::party(&event.sender)
}
