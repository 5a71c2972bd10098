//! What the records say about a task: who, where, and from which file.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_get_current_uid_gid,
        generated::{bpf_get_current_cgroup_id, bpf_get_current_task},
    },
    macros::map,
    maps::{Array, HashMap},
};
use healer_common::{
    event::{
        part::{CgroupRef, ExeRef, TaskRef},
        wire::Wire,
    },
    tuning::{TRACKED_MAX, TRACKED_SLOTS},
};

use crate::{
    memory::{Access, Object, Probed, Typed},
    tuning::{present, tuned},
};

/// Memory is taken as entries come: the limit is for a machine full of containers.
const BPF_F_NO_PREALLOC: u32 = 1;

/// Thread groups that user space asked for.
#[map]
static TRACKED: HashMap<u32, u32> = HashMap::with_max_entries(TRACKED_MAX, BPF_F_NO_PREALLOC);

/// Not zero: one of the thread groups whose numbers share this slot may be tracked. Most are told apart without a search.
/// User space writes it.
#[map]
static TRACKED_BY_SLOT: Array<u8> = Array::with_max_entries(TRACKED_SLOTS, 0);

/// Inode number of a hierarchy's root directory.
const ROOT_CGROUP: u64 = 1;

#[inline(always)]
pub(crate) fn is_tracked(tgid: u32) -> bool {
    may_be_tracked(tgid) && TRACKED.get_ptr(tgid).is_some()
}

/// Whether it was tracked.
#[inline(always)]
pub(crate) fn untrack(tgid: u32) -> bool {
    // Removing says whether it was there.
    may_be_tracked(tgid) && TRACKED.remove(tgid).is_ok()
}

#[inline(always)]
fn may_be_tracked(tgid: u32) -> bool {
    // SAFETY: an entry of the map.
    TRACKED_BY_SLOT
        .get_ptr(tgid & (TRACKED_SLOTS - 1))
        .is_some_and(|slot| unsafe { slot.read_volatile() } != 0)
}

/// Current, with its BTF type.
#[inline(always)]
pub(crate) fn current() -> Option<Object<Typed>> {
    // SAFETY: takes nothing, gives the running task.
    Object::new(unsafe { bpf_get_current_task_btf() }.cast_const().cast())
}

/// Current, for programs whose pointers the verifier does not type.
#[inline(always)]
pub(crate) fn current_probed() -> Option<Object<Probed>> {
    // SAFETY: takes nothing, gives the running task.
    Object::new(unsafe { bpf_get_current_task() } as *const u8)
}

/// Writes down current by what helpers say, without a kernel layout: no start, and the thread's
/// own name.
///
/// # Safety
/// `to` is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn name_current(to: *mut TaskRef) {
    let comm = bpf_get_current_comm().unwrap_or_default();
    let [first, second] = words(comm);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: the caller's promise.
    unsafe { write(to, 0, tgid, bpf_get_current_uid_gid() as u32, [first, second]) };
}

/// Writes down what a tracepoint's record says of somebody.
///
/// # Safety
/// `to` is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn name_told(tgid: u32, uid: u32, comm: [u64; 2], to: *mut TaskRef) {
    // SAFETY: the caller's promise.
    unsafe { write(to, 0, tgid, uid, comm) };
}

/// A name as two words: what the payload's alignment allows.
#[inline(always)]
pub(crate) fn words(comm: [u8; 16]) -> [u64; 2] {
    // SAFETY: both are sixteen bytes, and every pattern is a number.
    unsafe { core::mem::transmute::<[u8; 16], [u64; 2]>(comm) }
}

/// The v2 cgroup of current by a helper; unknown in the root, where only v1 may say more.
#[inline(always)]
pub(crate) fn current_cgroup() -> CgroupRef {
    // SAFETY: takes nothing.
    let id = unsafe { bpf_get_current_cgroup_id() };
    if id <= ROOT_CGROUP {
        return CgroupRef::ZERO;
    }
    CgroupRef { id, hierarchy: CgroupRef::V2, pad: 0 }
}

/// Writes down the thread group of `task`, named by its leader. Word by word: a copy of the whole
/// struct would become a loop over bytes.
///
/// # Safety
/// `to` is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn name<A: Access>(task: Option<Object<A>>, to: *mut TaskRef) {
    let Some(leader) = task.and_then(|task| task.follow(tuned!(TASK_LEADER))) else {
        // SAFETY: the caller's promise.
        unsafe { nobody(to) };
        return;
    };
    let comm = [leader.get(tuned!(TASK_COMM)), leader.get(tuned!(TASK_COMM) + 8)];
    let uid = match leader.follow(tuned!(TASK_CRED)) {
        Some(cred) => cred.get(tuned!(CRED_UID)),
        None => 0,
    };
    let start = leader.get(tuned!(TASK_START));
    let tgid = leader.get(tuned!(TASK_TGID));
    // SAFETY: the caller's promise.
    unsafe { write(to, start, tgid, uid, comm) };
}

/// Writes down that there is no such task.
///
/// # Safety
/// `to` is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn nobody(to: *mut TaskRef) {
    // SAFETY: the caller's promise.
    unsafe { write(to, 0, 0, 0, [0; 2]) };
}

/// Writes down the number alone.
///
/// # Safety
/// `to` is valid and aligned.
#[inline(always)]
pub(crate) unsafe fn number(tgid: u32, to: *mut TaskRef) {
    // SAFETY: the caller's promise.
    unsafe { write(to, 0, tgid, 0, [0; 2]) };
}

#[inline(always)]
unsafe fn write(to: *mut TaskRef, start: u64, tgid: u32, uid: u32, comm: [u64; 2]) {
    let [first, second] = comm;
    // SAFETY: the caller's promise; `comm` lies at a multiple of 8.
    unsafe {
        (&raw mut (*to).start_boot_ns).write_volatile(start);
        (&raw mut (*to).tgid).write_volatile(tgid);
        (&raw mut (*to).uid).write_volatile(uid);
        let to = (&raw mut (*to).comm).cast::<u64>();
        to.write_volatile(first);
        to.add(1).write_volatile(second);
    }
}

/// The parent of `task`'s thread group.
#[inline(always)]
pub(crate) fn parent<A: Access>(task: Object<A>) -> Option<Object<A>> {
    task.follow(tuned!(TASK_LEADER))?.follow(tuned!(TASK_PARENT))
}

/// When `task`'s thread group started.
#[inline(always)]
pub(crate) fn start_of<A: Access>(task: Object<A>) -> u64 {
    task.follow(tuned!(TASK_LEADER)).map_or(0, |leader| leader.get(tuned!(TASK_START)))
}

/// The cgroup of `task`: that of v2, or, if this is the root, the memory controller's.
#[inline(always)]
pub(crate) fn cgroup_ref<A: Access>(task: Object<A>) -> CgroupRef {
    cgroup_of(task).unwrap_or(CgroupRef::ZERO)
}

#[inline(always)]
fn cgroup_of<A: Access>(task: Object<A>) -> Option<CgroupRef> {
    if !present!(TASK_CGROUPS, CSS_SET_DFL_CGRP, CGROUP_KN, KERNFS_ID) {
        return None;
    }
    let set = task.follow(tuned!(TASK_CGROUPS))?;
    let id = cgroup_id(set.follow(tuned!(CSS_SET_DFL_CGRP))?)?;
    if id == ROOT_CGROUP && present!(CSS_SET_SUBSYS, CSS_CGROUP, MEMORY_CGRP_ID) {
        let memory = cgroup_id(memory_css(set)?.follow(tuned!(CSS_CGROUP))?)?;
        if memory != ROOT_CGROUP {
            return Some(CgroupRef { id: memory, hierarchy: CgroupRef::V1_MEMORY, pad: 0 });
        }
    }
    Some(CgroupRef { id, hierarchy: CgroupRef::V2, pad: 0 })
}

/// `css_set.subsys[memory_cgrp_id]`.
#[inline(always)]
pub(crate) fn memory_css<A: Access>(set: Object<A>) -> Option<Object<A>> {
    set.follow(tuned!(CSS_SET_SUBSYS) + 8 * tuned!(MEMORY_CGRP_ID))
}

/// `cgroup.kn->id`.
#[inline(always)]
pub(crate) fn cgroup_id<A: Access>(cgroup: Object<A>) -> Option<u64> {
    let node = cgroup.follow(tuned!(CGROUP_KN))?;
    Some(node.get(tuned!(KERNFS_ID)))
}

/// The file that `task` runs; zero once its memory is gone.
#[inline(always)]
pub(crate) fn exe_ref<A: Access>(task: Object<A>) -> ExeRef {
    exe_of(task).unwrap_or(ExeRef::ZERO)
}

#[inline(always)]
fn exe_of<A: Access>(task: Object<A>) -> Option<ExeRef> {
    if !present!(TASK_MM, MM_EXE_FILE, FILE_INODE, INODE_INO, INODE_SB, SB_DEV) {
        return None;
    }
    let mm = task.follow(tuned!(TASK_MM))?;
    let file = mm.follow(tuned!(MM_EXE_FILE))?;
    let inode = file.follow(tuned!(FILE_INODE))?;
    let block = inode.follow(tuned!(INODE_SB))?;
    Some(ExeRef { dev: user_dev(block.get(tuned!(SB_DEV))), ino: inode.get(tuned!(INODE_INO)) })
}

/// A device number as stat(2) shows it (`new_encode_dev`, include/linux/kdev_t.h).
#[inline(always)]
fn user_dev(dev: u32) -> u64 {
    let (major, minor) = (dev >> 20, dev & 0xf_ffff);
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
