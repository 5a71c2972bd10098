//! For the bench alone, never in healer: what the hooks cost by themselves, and a flood for the ring.
//!
//! `floor_NAME` is an empty program on the hook of the probe NAME. `flood` sends records of ends as
//! fast as one thread makes system calls, by the very code that healer's programs send with; `flood_long` sends them
//! with arguments.
#![no_std]
#![no_main]

#[path = "../ring.rs"]
#[allow(dead_code, reason = "healer's programs use all of it, the flood only the quiet lane")]
mod ring;

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::btf_tracepoint, programs::BtfTracePointContext};
use healer_common::event::{
    Kinded,
    part::CgroupRef,
    process_exit::{ProcessEnd, ProcessExit},
};

use ring::{Lane, Slot};

/// The thread whose system calls each send a record; the bench fills it in.
#[unsafe(no_mangle)]
static FLOOD_THREAD: u32 = 0;

macro_rules! floors {
    ($($name:ident on $tracepoint:literal;)*) => {
        $(
            #[btf_tracepoint(function = $tracepoint)]
            fn $name(_ctx: BtfTracePointContext) -> i32 {
                0
            }
        )*
    };
}

floors! {
    floor_process_exit on "sched_process_exit";
    floor_process_exec on "sched_process_exec";
    floor_signal_sent on "signal_generate";
    floor_oom_kill on "mark_victim";
    floor_socket_state on "inet_sock_set_state";
    floor_tcp_retransmit on "tcp_retransmit_skb";
    floor_reclaim_stall on "mm_vmscan_memcg_reclaim_end";
    floor_reclaim_stall_begin on "mm_vmscan_memcg_reclaim_begin";
    floor_reclaim_stall_direct_begin on "mm_vmscan_direct_reclaim_begin";
    floor_reclaim_stall_direct_end on "mm_vmscan_direct_reclaim_end";
    floor_task_hung on "sched_process_hang";
    floor_sys_exit on "sys_exit";
}

#[btf_tracepoint(function = "sys_enter")]
fn flood(_ctx: BtfTracePointContext) -> i32 {
    try_flood::<ProcessEnd>()
}

#[btf_tracepoint(function = "sys_enter")]
fn flood_long(_ctx: BtfTracePointContext) -> i32 {
    try_flood::<ProcessExit>()
}

#[inline(always)]
fn try_flood<T: Kinded + 'static>() -> i32 {
    // SAFETY: a reference is valid and aligned; to the compiler the value would be the one above.
    let thread = unsafe { core::ptr::read_volatile(&raw const FLOOD_THREAD) };
    if bpf_get_current_pid_tgid() as u32 == thread {
        send::<T>();
    }
    0
}

#[inline(always)]
fn send<T: Kinded + 'static>() {
    let cgroup = CgroupRef { id: 0, hierarchy: CgroupRef::UNKNOWN, pad: 0 };
    let Some(mut slot) = Slot::<T>::reserve(Lane::Quiet, cgroup) else {
        return;
    };
    let words = slot.payload().cast::<u64>();
    for at in 0..size_of::<T>() / 8 {
        // SAFETY: in bounds of the payload. Volatile, or it becomes a loop over bytes.
        unsafe { words.add(at).write_volatile(0) };
    }
    slot.submit();
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
