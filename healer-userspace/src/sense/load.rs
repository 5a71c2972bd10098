//! From the embedded object to loaded maps and programs ready to attach.

use aya::{Btf, Ebpf, EbpfError, EbpfLoader, Endianness, programs::ProgramError};
use healer_common::network::{TOLD_MAX, TOLD_MAX_UNTYPED};

use super::{
    formats::{Formats, SLOTS},
    layout::{Layout, OFFSETS, TASK_ITERATOR},
    rights::REMEDY,
    room::{CROWDED, room},
    rung::Level,
    status::Trouble,
};
use crate::memlock;

include!(concat!(env!("OUT_DIR"), "/object.rs"));

/// Loads the maps and fills in what the programs must know of this kernel and of us.
///
/// # Errors
/// In words: an object that is none, or a kernel that refuses the maps.
pub(crate) fn load(
    object: &[u8],
    layout: &Layout,
    formats: &Formats,
    own_tgid: u32,
    best: Level,
) -> Result<Ebpf, Trouble> {
    let page_shift = rustix::param::page_size().trailing_zeros();
    let settings = [
        ("OWN_TGID", own_tgid),
        ("HAS_GROUP_DEAD", u32::from(layout.has_group_dead)),
        ("VICTIM_IS_TASK", u32::from(layout.victim_is_task)),
        ("HAS_RETRANSMIT_ERROR", u32::from(layout.has_retransmit_error)),
        ("MEMORY_CGRP_ID", layout.memory_cgrp_id),
        ("PIDTYPE_PGID", layout.pidtype_pgid),
        ("SYS_KILL", system_call(libc::SYS_kill)),
        ("SYS_PIDFD_SEND_SIGNAL", system_call(libc::SYS_pidfd_send_signal)),
        ("SYS_CLONE", system_call(libc::SYS_clone)),
        ("SYS_CLONE3", system_call(libc::SYS_clone3)),
        ("SYS_FORK", old_calls().0),
        ("SYS_VFORK", old_calls().1),
        ("SYS_CONNECT", system_call(libc::SYS_connect)),
        ("PRUNES_WELL", u32::from(layout.prunes_well)),
        ("SIGACTION_SIZE", layout.sigaction_size),
        ("RSS_STRIDE", layout.rss_stride),
        ("THREAD_COMPAT", THREAD_COMPAT),
        ("PAGE_SHIFT", page_shift),
    ];
    memlock::lift();
    let mut loader = EbpfLoader::new();
    // The programs have no relocations against kernel types: offsets come from `layout`.
    loader.btf(None);
    for (offset, value) in OFFSETS.iter().zip(&layout.offsets) {
        loader.override_global(offset.name, value, true);
    }
    let places = formats.offsets();
    for (slot, place) in SLOTS.iter().zip(&places) {
        loader.override_global(slot.name, place, true);
    }
    for (name, value) in &settings {
        loader.override_global(name, value, true);
    }
    loader.map_max_entries("SEEN", super::poll::tasks::room());
    for (name, entries) in CROWDED {
        loader.map_max_entries(name, room(entries));
    }
    let is_untyped = layout.tracepoints.is_empty() || Level::Tracepoint <= best;
    loader.map_max_entries("TOLD", room(if is_untyped { TOLD_MAX_UNTYPED } else { TOLD_MAX }));
    if is_untyped {
        loader.map_max_entries("CONNECTING", 1);
    }
    loader.override_global("MEMCG_OOM_START", &layout.memcg_oom.0, true);
    loader.override_global("MEMCG_OOM_END", &layout.memcg_oom.1, true);
    loader.load(object).map_err(|error| {
        if matches!(error, EbpfError::ParseError(_)) {
            let says =
                format!("healer and its kernel programs are of different builds: {}", in_words(&error));
            return Trouble::new(says, "build both with `cargo xtask build`");
        }
        Trouble::new(format!("the kernel did not take healer's maps: {}", in_words(&error)), REMEDY)
    })
}

fn system_call(number: libc::c_long) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// TS_COMPAT of arch/x86/include/asm/thread_info.h; elsewhere _TIF_32BIT of arm64's, in the lower half of the word.
const THREAD_COMPAT: u32 = if cfg!(target_arch = "x86_64") { 1 << 1 } else { 1 << 22 };

/// fork(2) and vfork(2), which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn old_calls() -> (u32, u32) {
    (system_call(libc::SYS_fork), system_call(libc::SYS_vfork))
}

#[cfg(not(target_arch = "x86_64"))]
fn old_calls() -> (u32, u32) {
    (u32::MAX, u32::MAX)
}

/// An error and its causes on one line; of a verifier's log only the end, where the reason is.
pub(crate) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(ProgramError::LoadError { io_error, verifier_log }) = error.downcast_ref() {
            let log = verifier_log.to_string();
            return format!("the verifier refused it: {io_error}: {}", reason_in(&log));
        }
        cause = error.source();
        let more = cause.map(ToString::to_string).filter(|more| !words.contains(more.as_str()));
        if let Some(more) = more {
            words = format!("{words}: {more}");
        }
    }
    words.lines().next().unwrap_or_default().to_owned()
}

/// The last words of a verifier's log but for its statistics: the instruction, and what is wrong with it.
fn reason_in(log: &str) -> String {
    let is_statistics = |line: &str| {
        let starts = ["processed ", "verification time ", "stack depth "];
        line.is_empty() || starts.iter().any(|start| line.starts_with(start))
    };
    let mut tail: Vec<&str> = log.lines().rev().filter(|line| !is_statistics(line)).take(2).collect();
    tail.reverse();
    tail.join("; ")
}

/// A type table for `aya` in which only the ids of our hooks mean something: the tracepoints'
/// typedefs and the iterator's function.
///
/// `aya` looks these ids up in a table of its own making, which for a whole kernel takes 47 MB.
pub(crate) fn hook_ids(layout: &Layout) -> Result<Btf, aya::BtfError> {
    const PTR_TO_VOID: [u32; 3] = [0, 2 << 24, 0];
    const TYPEDEF: u32 = 8 << 24;
    const FUNCTION: u32 = 12 << 24;
    let typedefs =
        layout.tracepoints.iter().map(|(tracepoint, id)| (TYPEDEF, format!("btf_trace_{tracepoint}"), *id));
    let iterator = layout.task_iterator.iter().map(|id| (FUNCTION, TASK_ITERATOR.to_owned(), *id));
    let hooks: Vec<(u32, String, u32)> = typedefs.chain(iterator).collect();
    let last = hooks.iter().map(|(_, _, id)| *id).max();
    let mut types = vec![PTR_TO_VOID; last.unwrap_or(0) as usize];
    let mut strings = vec![0_u8];
    for (kind, name, id) in hooks {
        // Type 0 is void and has no bytes.
        types[id as usize - 1] = [strings.len() as u32, kind, 0];
        strings.extend(name.as_bytes());
        strings.push(0);
    }
    let types: Vec<u8> = types.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect();
    let (types_len, strings_len) = (types.len() as u32, strings.len() as u32);
    let mut bytes = 0x1_eb9f_u32.to_ne_bytes().to_vec();
    for word in [24, 0, types_len, types_len, strings_len] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(types);
    bytes.extend(strings);
    Btf::parse(&bytes, Endianness::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_verifiers_log_the_reason_is_kept() {
        let log = "0: (b7) r1 = 0\n171: (85) call bpf_probe_read_user#112\nR2 min value is negative\n\
                   verification time 58 usec\nstack depth 80\nprocessed 1626 insns (limit 1000000)\n\n";
        let reason = "171: (85) call bpf_probe_read_user#112; R2 min value is negative";
        assert_eq!(reason_in(log), reason);
        assert_eq!(reason_in(""), "");
    }
}
