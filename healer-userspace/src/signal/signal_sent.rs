use healer_common::event::signal_sent::SignalSent as Record;

use super::{Aim, Fact, Meaning, Party, Raw, Seen, SignalSent, raw};
use crate::engine::time::BootTime;

/// `include/uapi/asm-generic/siginfo.h`: a POSIX timer ran out in the kernel.
const SI_TIMER: i32 = -2;

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
        }),
        at_limit: None,
        owner: None,
    })
}

fn aim(flags: u32) -> Aim {
    let aims = [
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
    let by_kernel = event.flags & Record::BY_KERNEL != 0;
    if by_kernel || event.si_code > 0 || event.si_code == SI_TIMER {
        return None;
    }
    raw::party(&event.sender)
}
