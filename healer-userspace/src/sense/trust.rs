//! Runs the self-check and takes down who lies.

use healer_common::event::EventKind;

use super::{
    Sense, attach,
    poll::tasks::{self, TaskScan},
    rung::{Level, Rung, SENSORS},
    scancheck,
    selfcheck::{SelfCheck, Verdict},
    status::{Checked, Trouble},
};
use crate::{clock, engine::time::BootTime};

const REMEDY: &str = "report the kernel's version: healer reads its structs wrongly";

impl Sense {
    /// Begins the check, and ends it if that takes no longer than a moment.
    pub(super) fn check_now(&mut self) {
        let now = clock::boot();
        if self.works(EventKind::ProcessExit) || self.works(EventKind::SignalSent) {
            self.begin_check(now);
        }
        let mut backlog = Vec::new();
        while self.check.is_some() && clock::boot().since(now) < super::CHECK_FOR {
            self.read(&mut |record| backlog.push(record.to_vec()));
            self.judge(clock::boot());
            if self.check.is_some() {
                std::thread::sleep(super::CHECK_STEP);
            }
        }
        self.backlog.append(&mut backlog);
    }

    fn begin_check(&mut self, now: BootTime) {
        self.tries.begin(self.losses());
        self.check = SelfCheck::begin(now, self.own_tgid);
        self.refused.extend(self.check.as_ref().and_then(SelfCheck::refused_port));
    }

    fn losses(&self) -> u64 {
        let lost = self.lost();
        lost.urgent + lost.bulk
    }

    fn works(&self, kind: EventKind) -> bool {
        self.attached().any(|(index, _)| SENSORS[index].kind == kind)
    }

    /// The sensors that work, by their place in the table, and how.
    fn attached(&self) -> impl Iterator<Item = (usize, Rung)> {
        self.rungs.iter().enumerate().filter_map(|(index, rung)| Some((index, (*rung)?)))
    }

    /// Judges whoever has spoken.
    pub(super) fn judge(&mut self, now: BootTime) {
        let Some(mut check) = self.check.take() else {
            if self.tries.is_due(now) {
                self.begin_check(now);
            }
            return;
        };
        // A full ring loses the truth as well as lies.
        if self.tries.is_void(self.losses()) {
            if !self.tries.again(now, check.children()) {
                self.check_was_not_possible("records were lost");
            }
            return;
        }
        check.look(now);
        if check.is_hopeless(now) {
            self.tries.give_up(now, check.children());
            self.check_was_not_possible("its children got no CPU");
            return;
        }
        let attached: Vec<(usize, Rung)> = self.attached().collect();
        let mut is_open = false;
        for (index, rung) in attached {
            let kind = SENSORS[index].kind;
            if self.sensors[index].checked != Checked::No {
                continue;
            }
            match check.verdict(kind, rung, now) {
                None => {
                    is_open |= matches!(kind, EventKind::ProcessExit | EventKind::SignalSent)
                        || (tells_refusals(kind, rung) && check.awaits_refusal(now));
                    continue;
                }
                Some(Verdict::Truthful) => self.sensors[index].checked = Checked::Truthful,
                Some(Verdict::Wrong(says)) => {
                    self.distrust(index, &says);
                    if kind == EventKind::SocketState && rung.reads_structs() {
                        self.distrust_of(EventKind::TcpRetransmit, &says);
                    }
                }
                Some(Verdict::WrongIdentity(says)) => {
                    self.distrust(index, &says);
                    if rung.reads_structs() {
                        self.distrust_sharers(&says);
                    }
                }
            }
            self.has_news = true;
        }
        if is_open {
            self.check = Some(check);
        }
    }

    fn check_was_not_possible(&mut self, why: &str) {
        let unchecked: Vec<(usize, Rung)> = self.attached().collect();
        for (index, rung) in unchecked {
            let status = &mut self.sensors[index];
            let can_be = matches!(SENSORS[index].kind, EventKind::ProcessExit | EventKind::SignalSent)
                || tells_refusals(SENSORS[index].kind, rung);
            if can_be && status.checked == Checked::No {
                status
                    .say(&format!("self-check not possible: {why}"), "restart healer when less is going on");
                self.has_news = true;
            }
        }
    }

    /// Every program that reads kernel structs names processes by the same offsets.
    fn distrust_sharers(&mut self, says: &str) {
        let sharers: Vec<(usize, Rung)> = self.attached().filter(|(_, rung)| rung.reads_structs()).collect();
        for (index, _) in sharers {
            self.distrust(index, &format!("it reads the same fields as a sensor that lied: {says}"));
        }
        self.scan_by_proc(says);
    }

    /// It reads addresses by the same offsets.
    fn distrust_of(&mut self, kind: EventKind, says: &str) {
        let sharer =
            self.attached().find(|(index, rung)| SENSORS[*index].kind == kind && rung.reads_structs());
        if let Some((index, _)) = sharer {
            self.distrust(index, &format!("it reads the same fields as a sensor that lied: {says}"));
        }
    }

    /// Who has taken the scan already keeps it: lies come within the first moments.
    fn scan_by_proc(&mut self, says: &str) {
        let taken = self.kernel.as_mut().and_then(|kernel| kernel.task_scan.take());
        let status = self.sensors.iter_mut().find(|status| status.name == tasks::PROGRAM);
        if let (Some(_scan), Some(status)) = (taken, status) {
            let says = format!("it reads the same fields as a sensor that lied: {says}");
            *status = tasks::by_proc(Trouble::new(says, REMEDY));
        }
    }

    fn distrust(&mut self, index: usize, says: &str) {
        let status = &mut self.sensors[index];
        let via = status.via.unwrap_or_default();
        let trouble = Trouble::new(format!("it lied in the self-check ({via}): {says}"), REMEDY);
        status.lied(&trouble);
        let rung = self.rungs[index].take();
        self.distrusted.push(SENSORS[index].kind);
        self.governed.forget(SENSORS[index].kind);
        if let (Some(rung), Some(kernel)) = (rung, &mut self.kernel) {
            attach::take_down(&mut kernel.ebpf, SENSORS[index].kind, rung);
        }
    }
}

/// The scan is asked at once: whoever takes it keeps it. Whether it told the truth; of a liar what it said.
pub(super) fn of_scan(scan: &mut TaskScan) -> Result<Checked, Trouble> {
    match scancheck::verdict(scan) {
        None => Ok(Checked::No),
        Some(Verdict::Truthful) => Ok(Checked::Truthful),
        Some(Verdict::Wrong(says) | Verdict::WrongIdentity(says)) => {
            Err(Trouble::new(format!("it lied in the self-check (iter/task): {says}"), REMEDY))
        }
    }
}

/// By the table of sockets a refusal is over too soon.
fn tells_refusals(kind: EventKind, rung: Rung) -> bool {
    kind == EventKind::SocketState && rung.level() != Level::User
}
