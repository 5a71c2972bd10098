//! Thread ids as locks hold them are those of the waiter's own pid namespace.

use core::cell::OnceCell;
use std::collections::BTreeMap;

use super::{procfs::Proc, shared};

/// Built anew for each scan: nobody is looked up who has gone in between.
pub(crate) struct Namespaces<'a> {
    proc: &'a Proc,
    own: OnceCell<Option<u64>>,
    of_process: BTreeMap<u32, Option<u64>>,
    /// Per namespace: its thread ids to ours, and to the process.
    threads: BTreeMap<u64, BTreeMap<u32, (u32, u32)>>,
    /// Per namespace and shared file: others have it mapped.
    reached: BTreeMap<(Option<u64>, shared::File), bool>,
}

/// Who a thread id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Thread {
        tid: u32,
        tgid: u32,
    },
    Gone,
    /// It cannot be said.
    Unknown,
}

impl<'a> Namespaces<'a> {
    pub(crate) fn new(proc: &'a Proc) -> Self {
        Self {
            proc,
            own: OnceCell::new(),
            of_process: BTreeMap::new(),
            threads: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    /// `tid` as threads of `tgid` see it.
    pub(crate) fn resolve(&mut self, tgid: u32, tid: u32) -> Who {
        let proc = self.proc;
        let namespace = *self.of_process.entry(tgid).or_insert_with(|| proc.pid_namespace(tgid));
        match namespace {
            None => Who::Unknown,
            Some(_) if namespace == *self.own.get_or_init(|| proc.own_pid_namespace()) => {
                self.resolve_here(tgid, tid)
            }
            Some(namespace) => {
                let found = self.threads_in(namespace).get(&tid);
                found.map_or(Who::Gone, |(tid, tgid)| Who::Thread { tid: *tid, tgid: *tgid })
            }
        }
    }

    /// Whether a process of another pid namespace than `tgid`'s has the memory of that address too: what a lock in it
    /// says of its holder is the number that the holder has in its own.
    pub(crate) fn share_memory(&mut self, tgid: u32, tid: u32, address: u64) -> bool {
        let proc = self.proc;
        let Some(file) = shared::file_at(proc, tid, address) else {
            return false;
        };
        let own = proc.pid_namespace(tgid);
        *self.reached.entry((own, file)).or_insert_with(|| {
            let mut others = proc.pids().into_iter().filter(|pid| proc.pid_namespace(*pid) != own);
            others.any(|pid| match proc.maps(pid) {
                Some((maps, is_whole)) => !is_whole || shared::mapped(&maps).any(|mapped| mapped == file),
                None => false,
            })
        })
    }

    fn resolve_here(&self, tgid: u32, tid: u32) -> Who {
        if self.proc.has_thread(tgid, tid) {
            return Who::Thread { tid, tgid };
        }
        // /proc/TID exists for every thread, though it is not listed.
        match self.proc.status(tid, tid) {
            Some(status) => Who::Thread { tid, tgid: status.tgid },
            None => Who::Gone,
        }
    }

    fn threads_in(&mut self, namespace: u64) -> &BTreeMap<u32, (u32, u32)> {
        let proc = self.proc;
        self.threads.entry(namespace).or_insert_with(|| {
            let members = proc.pids().into_iter().filter(|pid| proc.pid_namespace(*pid) == Some(namespace));
            let threads = members.flat_map(|tgid| proc.threads(tgid).into_iter().map(move |tid| (tgid, tid)));
            let inner = threads.filter_map(|(tgid, tid)| Some((proc.status(tgid, tid)?.ns_tid, (tid, tgid))));
            inner.collect()
        })
    }
}
