//! What the process connector tells becomes records, or knowledge of who lives.

use healer_common::event::{
    Event, EventKind,
    part::{CgroupRef, TaskRef},
    process_exec::ProcessExec,
    process_exit::ProcessExit,
    wire::Wire as _,
};

use super::{
    Duty, Hint, User,
    connector::{self, ProcEvent, What},
    emit, header,
};
use crate::{clock, engine::time::BootTime};

/// Datagrams taken in one pass: records from the rings must not wait for a fork bomb.
const BATCH: usize = 4096;

impl User {
    pub(crate) fn hear(&mut self, out: &mut impl FnMut(&[u8])) {
        let mut room = [0; 4096];
        for _datagram in 0..BATCH {
            let Some(connector) = &self.connector else {
                return;
            };
            match connector.receive(&mut room) {
                Ok(Some(length)) => {
                    if let Some(event) = connector::parse(&room[..length]) {
                        self.happened(event, out);
                    }
                }
                Ok(None) => return,
                Err(_) => self.lost += 1,
            }
        }
    }

    fn happened(&mut self, event: ProcEvent, out: &mut impl FnMut(&[u8])) {
        let at = clock::boot_of_monotonic(event.at_ns);
        match event.what {
            What::Fork { parent_tgid, pid, tgid } if pid == tgid => {
                self.ends.begins(tgid);
                self.people.inherit(parent_tgid, tgid);
            }
            What::Exec { pid, tgid } => {
                // Whoever completes an exec's record learns there.
                if self.exec != Duty::Complete {
                    self.people.learn(tgid, None);
                }
                if self.exec == Duty::Source {
                    self.tell_exec(at, tgid, pid, out);
                }
            }
            What::Exit { pid, tgid, status, parent_tgid } => {
                if tgid == self.own_tgid && pid != tgid {
                    self.tell_probe(at, pid, out);
                } else if self.exit != Duty::Nothing {
                    let hint = Hint {
                        at,
                        tgid,
                        pid,
                        is_last: false,
                        status: Some(status),
                        task: None,
                        cgroup: CgroupRef::ZERO,
                        parent: parent_tgid,
                    };
                    self.ends.hint(hint, &mut self.people);
                }
            }
            What::Fork { .. } | What::Answer(_) => {}
        }
    }

    /// The end of a thread of ours: the self-probe.
    fn tell_probe(&mut self, at: BootTime, pid: u32, out: &mut impl FnMut(&[u8])) {
        if self.exit != Duty::Source {
            return;
        }
        let task = TaskRef { tgid: self.own_tgid, ..TaskRef::ZERO };
        let exit = ProcessExit { task, pid, flags: ProcessExit::SELF_PROBE, ..ProcessExit::ZERO };
        emit(header(at, EventKind::ProcessExit, task.tgid, pid, exit.cgroup), &Event::ProcessExit(exit), out);
    }

    /// Tells an exec of a process that is known by now, if anybody waits for it.
    pub(super) fn tell_exec(&mut self, at: BootTime, tgid: u32, old_pid: u32, out: &mut impl FnMut(&[u8])) {
        let Some(person) = self.people.get(tgid).cloned() else {
            return;
        };
        let mut flags = 0;
        if self.tracked.contains(&tgid) {
            flags |= ProcessExec::TRACKED;
        }
        if self.tracked.contains(&person.parent) {
            flags |= ProcessExec::PARENT_TRACKED;
        }
        if self.watched.contains(&person.exe.ino) {
            flags |= ProcessExec::WATCHED;
        }
        if flags == 0 {
            return;
        }
        let parent = self.people.get(person.parent).map_or(TaskRef::ZERO, |parent| parent.task);
        let (task, cgroup, exe, args) = (person.task, person.cgroup, person.exe, person.args);
        let exec = ProcessExec { task, parent, cgroup, exe, flags, old_pid, args, ..ProcessExec::ZERO };
        emit(header(at, EventKind::ProcessExec, tgid, tgid, cgroup), &Event::ProcessExec(exec), out);
    }
}
