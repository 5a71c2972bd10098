//! Adds to the records of classic tracepoints what the kernel did not put into them.

use healer_common::event::{
    Event, Header, oom_kill::OomKill, process_exec::ProcessExec, process_exit::ProcessExit,
    signal_sent::SignalSent, task_hung::TaskHung,
};

use super::{Hint, User, emit};
use crate::engine::time::BootTime;

impl User {
    /// Whether `record` was partial. Then it is handed on completed, or later, or not at all.
    pub(crate) fn takes(&mut self, record: &[u8], out: &mut impl FnMut(&[u8])) -> bool {
        let Ok((header, event)) = Event::decode(record) else {
            return false;
        };
        match event {
            Event::ProcessExit(exit) if exit.flags & ProcessExit::PARTIAL != 0 => self.end(&header, &exit),
            Event::ProcessExec(exec) if exec.flags & ProcessExec::PARTIAL != 0 => {
                self.exec(&header, &exec, out);
            }
            Event::SignalSent(sent) if sent.flags & SignalSent::PARTIAL != 0 => {
                self.signal(&header, sent, out);
            }
            Event::OomKill(kill) if kill.flags & OomKill::PARTIAL != 0 => self.oom(&header, kill, out),
            Event::TaskHung(hung) if hung.flags & TaskHung::PARTIAL != 0 => self.hung(header, hung.pid, out),
            Event::ProcessExit(exit) => {
                // The program took it out of the kernel's map.
                self.tracked.remove(&exit.task.tgid);
                return false;
            }
            Event::SocketState(state) if self.is_completing_sockets() => self.socket(header, state, out),
            Event::TcpRetransmit(sent) if self.is_completing_sockets() => self.resent(header, sent, out),
            Event::ProcessExec(_)
            | Event::SignalSent(_)
            | Event::OomKill(_)
            | Event::SocketState(_)
            | Event::TcpRetransmit(_)
            | Event::SyscallError(_)
            | Event::ReclaimStall(_)
            | Event::TaskHung(_) => return false,
        }
        true
    }

    fn end(&mut self, header: &Header, exit: &ProcessExit) {
        let hint = Hint {
            at: BootTime(header.at_ns),
            tgid: exit.task.tgid,
            pid: exit.pid,
            is_last: exit.flags & ProcessExit::GROUP_DEAD != 0,
            status: None,
            task: Some(exit.task),
            cgroup: exit.cgroup,
            parent: None,
        };
        self.ends.hint(hint, &mut self.people);
    }

    fn exec(&mut self, header: &Header, exec: &ProcessExec, out: &mut impl FnMut(&[u8])) {
        let tgid = exec.task.tgid;
        self.ends.begins(tgid);
        if let Some(person) = self.people.learn(tgid, exec.args.filename())
            && exec.cgroup.id != 0
        {
            person.cgroup = exec.cgroup;
        }
        self.tell_exec(BootTime(header.at_ns), tgid, exec.old_pid, out);
    }

    fn signal(&mut self, header: &Header, mut sent: SignalSent, out: &mut impl FnMut(&[u8])) {
        if sent.target_pid != header.pid {
            // The number of a thread; one that is gone keeps it.
            sent.target.tgid = self.people.group_of(sent.target_pid).unwrap_or(sent.target.tgid);
        }
        let is_fault = sent.flags & SignalSent::BY_KERNEL != 0;
        if is_fault && is_synchronous(sent.signal) && self.people.catches(sent.target.tgid, sent.signal) {
            return;
        }
        self.people.complete(&mut sent.target);
        if sent.sender.tgid != 0 {
            self.people.complete(&mut sent.sender);
        }
        if let Some(person) = self.people.get(sent.target.tgid) {
            sent.target_cgroup = person.cgroup;
        }
        let ends_it = sent.signal == libc::SIGKILL as u32 || is_synchronous(sent.signal);
        if ends_it && sent.result != SignalSent::IGNORED {
            self.ends.fatal(sent.target.tgid, sent.signal, BootTime(header.at_ns));
        }
        sent.flags &= !SignalSent::PARTIAL;
        emit(*header, &Event::SignalSent(sent), out);
    }

    fn oom(&mut self, header: &Header, mut kill: OomKill, out: &mut impl FnMut(&[u8])) {
        self.people.complete(&mut kill.victim);
        self.people.complete(&mut kill.trigger);
        kill.victim_memcg = self.people.memcg_of(kill.victim.tgid);
        kill.trigger_memcg = self.people.memcg_of(kill.trigger.tgid);
        if kill.victim.start_boot_ns != 0 {
            kill.flags &= !OomKill::VICTIM_PID_ONLY;
        }
        kill.flags &= !OomKill::PARTIAL;
        emit(*header, &Event::OomKill(kill), out);
    }
}

/// Raised by what the task itself did: with a handler it may go on.
fn is_synchronous(signal: u32) -> bool {
    use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    [SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS, SIGTRAP].contains(&(signal as i32))
}
