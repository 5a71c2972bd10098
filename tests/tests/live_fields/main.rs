//! What a rung shows as missing its records do not have, and what it does not show they have. Needs root, gcc and the
//! first two rungs: a kernel that has them.

mod scene;

use healer_common::event::{
    Header, oom_kill::OomKill, process_exec::ProcessExec, process_exit::ProcessExit, signal_sent::SignalSent,
};
use healer_tests::{
    eye::{Eye, as_exec, as_oom_kill, as_signal},
    ladder::{blind_by, kernel_with},
};
use healer_userspace::sense::{Level, SENSORS, Settings};

use scene::{LIMIT, Scene, inode};

/// `/proc` tells starts in these.
const TICK_NS: u64 = 10_000_000;
const SIGKILL: u32 = 9;
const SIGSEGV: u32 = 11;
const SIGSYS: u32 = 31;

/// A field as `healer sensors` shows it, and whether a record shows that its source told it.
type Row<T> = (&'static str, fn(&Scene, &T) -> bool);

const EXIT: &[Row<(Header, ProcessExit)>] = &[
    ("task_struct.exit_code", |_, (_, exit)| has_status(exit)),
    ("proc_event.exit_code", |_, (_, exit)| has_status(exit)),
    ("task_struct.start_boottime", |_, (header, exit)| {
        is_exact(exit.task.start_boot_ns) && exit.task.start_boot_ns < header.at_ns
    }),
    ("task_struct.real_parent", |scene, (_, exit)| exit.parent.tgid == scene.gone.by),
    ("task_struct.cgroups", |scene, (_, exit)| exit.cgroup.id == scene.group()),
    ("mm_struct.exe_file", |_, (_, exit)| exit.exe.ino == inode("/bin/sh".as_ref())),
];

const EXEC: &[Row<ProcessExec>] = &[
    ("task_struct.start_boottime", |_, exec| is_exact(exec.task.start_boot_ns)),
    ("task_struct.real_parent", |scene, exec| exec.parent.tgid == scene.changed.by),
    ("task_struct.cgroups", |scene, exec| exec.cgroup.id == scene.group()),
    ("mm_struct.exe_file", |scene, exec| exec.exe.ino == inode(&scene.first)),
    ("mm_struct.arg_start", |_, exec| exec.args.argv().last() == Some(b"exec sleep 1000")),
    ("linux_binprm.filename", |scene, exec| {
        exec.args.filename() == Some(scene.first.as_os_str().as_encoded_bytes())
    }),
];

struct Signals {
    fault: SignalSent,
    /// At a thread.
    aimed: SignalSent,
    kill: SignalSent,
    blow: SignalSent,
    forbidden: SignalSent,
    /// Faults of one that handles them.
    handled: usize,
}

const SIGNALS: &[Row<Signals>] = &[
    ("task_struct.tgid", |scene, told| told.aimed.target.tgid == scene.threaded),
    ("task_struct.start_boottime", |_, told| is_exact(told.fault.target.start_boot_ns)),
    ("task_struct.cgroups", |scene, told| told.fault.target_cgroup.id == scene.group()),
    // Of a blow by cgroup.kill there is no siginfo.
    ("kernel_siginfo.si_pid", |_, told| told.blow.flags & SignalSent::NO_INFO != 0),
    ("kernel_siginfo._sifields._sigfault._addr", |_, told| told.fault.fault_address == 0x1230),
    ("kernel_siginfo._sifields._sigsys._syscall", |_, told| {
        i64::from(told.forbidden.forbidden_call & !SignalSent::CALL_64) == libc::SYS_uname
    }),
    ("pt_regs.di", |_, told| told.kill.flags & SignalSent::TO_ONE != 0),
    ("signal_struct.pids", |_, told| told.kill.target_pgid == own_group()),
    ("sighand_struct.action", |_, told| told.handled == 0),
];

const OOM: &[Row<OomKill>] = &[
    ("task_struct.start_boottime", |_, kill| {
        is_exact(kill.victim.start_boot_ns) && is_exact(kill.trigger.start_boot_ns)
    }),
    ("css_set.subsys", |scene, kill| [kill.victim_memcg, kill.trigger_memcg] == [scene.memory(); 2]),
    ("mem_cgroup.memory.usage", |_, kill| 0 < kill.usage_bytes && kill.usage_bytes <= LIMIT),
    ("mem_cgroup.memory.max", |_, kill| kill.limit_bytes == LIMIT),
];

fn has_status(exit: &ProcessExit) -> bool {
    let is_known = exit.flags & (ProcessExit::NO_STATUS | ProcessExit::INFERRED) == 0;
    is_known && exit.exit_code() == Some(3)
}

fn is_exact(start: u64) -> bool {
    !start.is_multiple_of(TICK_NS)
}

fn own_group() -> u32 {
    rustix::process::getpgrp().as_raw_nonzero().get().cast_unsigned()
}

/// What speaks against one rung of one sensor.
struct Judge<'a> {
    scene: &'a Scene,
    level: Level,
    eye: &'a Eye,
    wrong: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn hears<T>(&mut self, sensor: &str, rows: &[Row<T>], record: &T) {
        let status = self.eye.sense.sensors().iter().find(|status| status.name == sensor);
        let missing = &status.expect("a row for each").missing;
        for (field, is_told) in rows {
            let is_shown = missing.iter().any(|missing| missing == field);
            if is_told(self.scene, record) == is_shown {
                let how =
                    if is_shown { "shown as missing and told" } else { "neither told nor shown as missing" };
                self.wrong.push(format!("{:?}: {sensor} {field} is {how}", self.level));
            }
        }
        for field in missing.iter().filter(|field| !rows.iter().any(|(known, _)| known == field)) {
            self.wrong.push(format!(
                "{:?}: {sensor} {field} is missing, of which this test knows nothing",
                self.level
            ));
        }
    }
}

fn signals(eye: &mut Eye, scene: &Scene) -> Signals {
    let fault = eye.wait_for("the fault", |_, event| {
        let is_it =
            |sent: &&SignalSent| sent.signal == SIGSEGV && sent.target.comm() == scene.fault_name.as_bytes();
        as_signal(event).filter(is_it).copied()
    });
    let kill = eye.signal_to(scene.killed.pid, SIGKILL);
    let blow = eye.signal_to(scene.struck, SIGKILL);
    let forbidden = eye.signal_to(scene.forbids, SIGSYS);
    let of_handler = |sent: &&SignalSent| sent.target.tgid == scene.handles && sent.signal == SIGSEGV;
    let handled = eye.seen.iter().filter_map(|(_, event)| as_signal(event)).filter(of_handler).count();
    let aimed = eye.wait_for("the blow at a thread", |_, event| {
        as_signal(event).filter(|sent| sent.target_pid == scene.thread).copied()
    });
    Signals { fault, aimed, kill, blow, forbidden, handled }
}

/// What no rung that has signals may lack: who sent it.
fn names_its_sender(level: Level, scene: &Scene, kill: &SignalSent) {
    assert_eq!((kill.sender.tgid, kill.sender.comm()), (scene.killed.by, &b"sh"[..]), "{level:?}: {kill:?}");
}

/// What no rung lacks: whose wish was too much, and that it was a cgroup's limit.
fn names_its_trigger(level: Level, scene: &Scene, kill: &OomKill) {
    assert_eq!((kill.trigger.tgid, kill.trigger.comm()), (scene.oom.by, &b"leak"[..]), "{level:?}: {kill:?}");
    assert_eq!((kill.victim.comm(), kill.scope), (&b"hog"[..], OomKill::SCOPE_MEMCG), "{level:?}: {kill:?}");
}

/// Nobody adds the status that the classic tracepoint lacks.
fn kernel_alone(level: Level) -> Settings {
    Settings { connector: level != Level::Tracepoint, ..kernel_with(level) }
}

#[test]
fn what_is_shown_as_missing_is_not_told_and_all_else_is() {
    let mut eyes = Level::ALL.map(|level| Eye::with(&kernel_alone(level), blind_by(level)));
    let scene = Scene::play(&mut eyes);
    let mut wrong = Vec::new();
    for (level, mut eye) in Level::ALL.into_iter().zip(eyes) {
        let exit = eye.exit_of(scene.gone.pid);
        let exec = eye.wait_for("the first program", |_, event| {
            as_exec(event).filter(|exec| exec.task.tgid == scene.changed.pid).copied()
        });
        let oom = eye.wait_for("the OOM kill", |_, event| {
            as_oom_kill(event).filter(|kill| kill.victim.tgid == scene.oom.pid).copied()
        });
        names_its_trigger(level, &scene, &oom);
        let signals = (level != Level::User).then(|| signals(&mut eye, &scene));
        let mut judge = Judge { scene: &scene, level, eye: &eye, wrong: &mut wrong };
        judge.hears("process_exit", EXIT, &exit);
        judge.hears("process_exec", EXEC, &exec);
        judge.hears("oom_kill", OOM, &oom);
        if let Some(signals) = signals {
            names_its_sender(level, &scene, &signals.kill);
            judge.hears("signal_sent", SIGNALS, &signals);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Also of what this kernel's first rungs have and others' lack.
#[test]
fn every_field_that_a_rung_may_lack_is_asked_about() {
    let known = |sensor: &str| -> Vec<&str> {
        match sensor {
            "process_exit" => EXIT.iter().map(|(field, _)| *field).collect(),
            "process_exec" => EXEC.iter().map(|(field, _)| *field).collect(),
            "signal_sent" => SIGNALS.iter().map(|(field, _)| *field).collect(),
            "oom_kill" => OOM.iter().map(|(field, _)| *field).collect(),
            _ => Vec::new(),
        }
    };
    for sensor in SENSORS {
        let asked = known(sensor.kind.name());
        let lacks = sensor.rungs.iter().flat_map(|rung| rung.lacks());
        for field in lacks.filter(|_| !asked.is_empty()) {
            assert!(asked.contains(field), "{}: {field}", sensor.kind.name());
        }
    }
}
