//! What a record has no room for, or cannot know: who the others are, which cgroup ran out of memory, how much CPU time
//! was used.

use std::path::Path;

use super::{
    Identity,
    cgroup::{CgroupId, is_below},
    process::{Process, TICK_NS},
    procfs::{ProcDir, machine_memory},
};
use crate::{
    engine::time::BootTime,
    signal::{CpuUsed, Fact, OomKill, OomScope, SignalSent},
};

/// `SI_KERNEL` (include/uapi/asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;

/// Memory cgroups, as the kernel named them when memory ran out.
#[derive(Clone, Copy)]
pub(super) struct Full {
    /// A full one, as seen from the task that asked for more.
    pub(super) at_limit: Option<CgroupId>,
    pub(super) of_victim: Option<CgroupId>,
}

impl Identity {
    pub(super) fn explain(&mut self, fact: &mut Fact, whom: Option<&Process>, full: Full, at: BootTime) {
        match fact {
            Fact::SignalSent(sent) => {
                if let Some(sender) = &mut sent.sender {
                    self.complete(sender, at);
                } else if is_by_kernel(sent) {
                    sent.cpu = whom.and_then(|process| cpu_used(&self.roots.proc, process));
                }
            }
            Fact::OomKilled(kill) => {
                self.complete(&mut kill.trigger, at);
                self.find_full(kill, whom, full, at);
                if kill.scope == OomScope::Global && kill.limit == 0 {
                    kill.limit = machine_memory(&self.roots.proc).unwrap_or_default();
                }
            }
            Fact::Exited(_)
            | Fact::Execed
            | Fact::Registered(_)
            | Fact::Deregistered
            | Fact::StopAsked { .. }
            | Fact::MeantToEnd
            | Fact::Answered { .. }
            | Fact::Waits(_)
            | Fact::Work(_)
            | Fact::Probed(_)
            | Fact::ConnectionFailed(_)
            | Fact::Retransmitted(_)
            | Fact::SyscallError(_)
            | Fact::Levels(_)
            | Fact::Listens(_)
            | Fact::NoRoute(_)
            | Fact::Memory(_)
            | Fact::ReclaimStalled(_)
            | Fact::TaskHung(_)
            | Fact::Flows(_)
            | Fact::Peers(_)
            | Fact::Lost { .. } => {}
        }
    }

    /// The kernel takes victims of the cgroup that ran out, and of those below it, only. A task may ask for more in
    /// another one than its own (process_vm_writev(2), a loop device): then the full one that was seen from it is another,
    /// or there is none.
    fn find_full(&mut self, kill: &mut OomKill, whom: Option<&Process>, full: Full, at: BootTime) {
        let told = full.at_limit.and_then(|cgroup| self.cgroups.find(cgroup, at));
        let victims = self.memory_path(whom, full.of_victim, at);
        let is_refuted = matches!((&told, &victims), (Some(full), Some(path)) if !is_below(path, full));
        kill.memcg = told.unwrap_or_default();
        let is_told = full.at_limit.is_some() || kill.limit != 0;
        if kill.scope != OomScope::Memcg || (is_told && !is_refuted) {
            return;
        }
        (kill.memcg, kill.usage, kill.limit) = (String::new(), 0, 0);
        if kill.is_scope_guessed {
            // By that it was full.
            (kill.scope, kill.is_scope_guessed) = (OomScope::Unknown, false);
            return;
        }
        // Of several nobody told which.
        if let [(path, limit)] = &victims.map(|path| self.cgroups.limited(&path)).unwrap_or_default()[..] {
            kill.memcg.clone_from(path);
            kill.limit = *limit;
        }
    }

    /// Where its memory is counted.
    fn memory_path(
        &mut self,
        whom: Option<&Process>,
        told: Option<CgroupId>,
        at: BootTime,
    ) -> Option<String> {
        let by_id = told.and_then(|cgroup| self.cgroups.find(cgroup, at));
        let of_v2 = || whom.map(|process| process.cgroup.clone()).filter(|path| path.starts_with('/'));
        by_id.or_else(|| if self.cgroups.is_memory_in_v2() { of_v2() } else { None })
    }
}

fn is_by_kernel(sent: &SignalSent) -> bool {
    sent.signal == libc::SIGKILL && sent.si_code == SI_KERNEL
}

/// Until its parent has taken it away, as long as it is not another process by now.
fn cpu_used(proc: &Path, whom: &Process) -> Option<CpuUsed> {
    let dir = ProcDir::open(proc, whom.pid)?;
    let is_same = dir.stat()?.start.0 / TICK_NS == whom.start.0 / TICK_NS;
    let limit_s = dir.hard_limit("Max cpu time").filter(|_| is_same)?;
    Some(CpuUsed { used_ms: dir.cpu_ms()?, limit_s })
}
