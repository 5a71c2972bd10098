//! What the kernel's log says of OOM kills and of hung tasks becomes records.

use healer_common::event::{
    Event, EventKind, Header,
    oom_kill::OomKill,
    part::{CgroupRef, TaskRef},
    task_hung::TaskHung,
    wire::Wire as _,
};

use super::{User, emit, header, hung_report, oom_report::OomReport, people};
use crate::engine::time::BootTime;

impl User {
    pub(super) fn read_kernel_log(&mut self, now: BootTime, out: &mut impl FnMut(&[u8])) {
        let (mut kills, mut hung) = (Vec::new(), Vec::new());
        if let Some(log) = &mut self.log {
            while let Some(line) = log.next() {
                kills.extend(self.oom.line(line).filter(|_| self.reads_oom));
                hung.extend(hung_report::thread(line).filter(|_| self.reads_hung));
            }
        }
        for pid in hung {
            self.hung(header(now, EventKind::TaskHung, 0, 0, CgroupRef::ZERO), pid, out);
        }
        for kill in kills {
            let kill = self.oom_kill(&kill);
            let cgroup = CgroupRef::ZERO;
            let by = kill.trigger.tgid;
            emit(header(now, EventKind::OomKill, by, by, cgroup), &Event::OomKill(kill), out);
        }
    }

    /// A thread of which the number alone was told; of one that is gone by now nothing is said.
    pub(super) fn hung(&mut self, header: Header, pid: u32, out: &mut impl FnMut(&[u8])) {
        let Some(tgid) = self.people.group_of(pid) else {
            return;
        };
        let Some(person) = self.people.learn(tgid, None) else {
            return;
        };
        let flags = if people::is_of_kernel(person) { TaskHung::KERNEL_THREAD } else { 0 };
        let hung = TaskHung { task: person.task, cgroup: person.cgroup, pid, flags, ..TaskHung::ZERO };
        emit(header, &Event::TaskHung(hung), out);
    }

    fn oom_kill(&mut self, report: &OomReport) -> OomKill {
        let mut victim = TaskRef {
            tgid: report.victim,
            uid: report.uid,
            comm: people::name(&report.comm),
            ..TaskRef::ZERO
        };
        self.people.complete(&mut victim);
        let trigger = report.trigger.as_ref().map_or(TaskRef::ZERO, |(pid, comm)| {
            let tgid = self.people.group_of(*pid).unwrap_or(*pid);
            let mut task = TaskRef { tgid, comm: people::name(comm), ..TaskRef::ZERO };
            self.people.complete(&mut task);
            task
        });
        let mut id = |path: &Option<String>| path.as_deref().map_or(0, |path| self.people.memcg(path));
        let (oom_memcg, victim_memcg) = (id(&report.oom_memcg), id(&report.task_memcg));
        let tracked = if self.tracked.contains(&victim.tgid) { OomKill::TRACKED } else { 0 };
        OomKill {
            victim,
            trigger,
            victim_memcg,
            oom_memcg,
            usage_bytes: report.usage_bytes,
            limit_bytes: report.limit_bytes,
            rss_bytes: report.rss_bytes,
            scope: if report.is_memcg { OomKill::SCOPE_MEMCG } else { OomKill::SCOPE_GLOBAL },
            oom_score_adj: report.oom_score_adj,
            flags: OomKill::FROM_LOG | tracked,
            ..OomKill::ZERO
        }
    }
}
