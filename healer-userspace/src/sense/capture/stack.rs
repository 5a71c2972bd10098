//! Return addresses on the stack of a thread that sleeps.
//!
//! Without unwind tables a stack is read as the kernel's own oops does it: every word on it that points behind a
//! call instruction may be a return address. Such a frame is not sure: an older call may have left it there.

use super::maps::Maps;
use crate::sense::waits::{Proc, memory};

const REACH: usize = 16 * 1024;
const FRAMES_MAX: usize = 24;
/// Longest indirect call of x86-64.
const CALL_MAX: usize = 7;

/// What a sleeping thread shows of itself in `/proc/PID/task/TID/syscall` (proc_pid_syscall(5)).
pub(super) struct Call {
    pub(super) number: i64,
    sp: u64,
    pc: u64,
}

pub(super) struct Frame {
    pub(super) address: u64,
    pub(super) is_sure: bool,
}

impl Call {
    /// `None`: it runs, or is gone.
    pub(super) fn of(proc: &Proc, pid: u32, tid: u32) -> Option<Self> {
        Self::parse(&proc.text(&format!("{pid}/task/{tid}/syscall"))?)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let [.., sp, pc] = words.as_slice() else {
            return None;
        };
        Some(Self { number: words.first()?.parse().ok()?, sp: hex(sp)?, pc: hex(pc)? })
    }
}

/// Innermost first.
pub(super) fn frames(pid: u32, call: &Call, maps: &Maps) -> Vec<Frame> {
    let mut frames = vec![Frame { address: call.pc, is_sure: true }];
    if maps.is_empty() {
        return frames;
    }
    let mut buffer = vec![0; REACH];
    let got = memory::read_upward(pid, call.sp & !7, &mut buffer);
    for word in
        buffer[..got].chunks_exact(8).filter_map(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)))
    {
        if FRAMES_MAX <= frames.len() {
            break;
        }
        if maps.find(word).is_some() && is_behind_call(pid, word) {
            frames.push(Frame { address: word, is_sure: false });
        }
    }
    frames
}

fn is_behind_call(pid: u32, address: u64) -> bool {
    let mut before = [0; CALL_MAX];
    let from = address.wrapping_sub(CALL_MAX as u64);
    memory::read(pid, from, &mut before) == CALL_MAX && ends_in_call(&before)
}

/// `E8 rel32`, or `FF /2` of any length (Intel SDM, CALL).
pub(super) fn ends_in_call(before: &[u8; CALL_MAX]) -> bool {
    let is_indirect = |length: usize| {
        let at = CALL_MAX - length;
        before[at] == 0xff && before[at + 1] >> 3 & 7 == 2
    };
    before[CALL_MAX - 5] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(is_indirect)
}
