//! Bytes that the kernel or somebody else's program wrote: types, formats, procfs and cgroup files.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink, path::PathBuf};

use healer_userspace::{
    clock,
    identity::{
        Identity,
        cgroup::Membership,
        procfs::{Stat, Status},
        roots::Roots,
    },
    sense::{
        btf,
        format::Format,
        poll::cpu::{CpuStat, SchedStat},
    },
};
use proptest::prelude::*;

const FORMATS: &str = include_str!("../../../tests/fixtures/tracefs-formats/6.18.txt");
const STAT: &str = "4711 (web (x)) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 123456 1 2 18446744073709551615 1 2 140 0 0 0 0\n";
const STATUS: &str = "Name:\tweb\nTgid:\t4711\nPid:\t4711\nUid:\t0\t0\t0\t0\nNSpid:\t4711\t1\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004002\n";
const CGROUP: &str = "12:memory:/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n1:name=systemd:/system.slice/web.service\n0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope\n";
const CMDLINE: &str = "/bin/sh\0-c\0while :; do /usr/bin/web --port 80; sleep 1; done\0";
const CPU_STAT: &str =
    "usage_usec 1\nnr_periods 20\nnr_throttled 3\nthrottled_usec 99\nthrottled_time 12345\n";
const SCHED_STAT: &str = "123 456 789\n";

/// A text with up to four pieces replaced by something else.
pub(crate) fn edited(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let put = prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..12),
        2 => "[0-9]{1,25}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["-1", ")", "(", ":", "\n", "\0", " ", "/..", "18446744073709551616", "[9]", ";"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..40, put);
    prop::collection::vec(edit, 1..=4).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, cut, put) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + cut).min(bytes.len());
            bytes.splice(at..end, put);
        }
        bytes
    })
}

/// The words of a small kernel: an int, a struct of it, an array, an enum, a typedef; then pieces set to anything.
pub(crate) fn types() -> impl Strategy<Value = Vec<u8>> {
    let pokes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12);
    (pokes, any::<prop::sample::Index>(), prop::bool::weighted(0.2)).prop_map(|(pokes, end, cut)| {
        let mut bytes = small_btf();
        for (index, value) in pokes {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

/// Documentation/bpf/btf.rst
fn small_btf() -> Vec<u8> {
    let strings = b"\0int\0task_struct\0pid\0comm\0kinds\0ONE\0task_t\0";
    let at = |name: &str| {
        let text = String::from_utf8_lossy(strings);
        text.find(&format!("\0{name}\0")).map_or(0, |found| found as u32 + 1)
    };
    let info = |kind: u32, count: u32| kind << 24 | count;
    let types: Vec<u32> = [
        vec![at("int"), info(1, 0), 4, 32],
        vec![at("task_struct"), info(4, 2), 24, at("pid"), 1, 0, at("comm"), 3, 64],
        vec![0, info(3, 0), 0, 1, 1, 16],
        vec![at("kinds"), info(6, 1), 4, at("ONE"), 1],
        vec![at("task_t"), info(8, 0), 2],
        vec![0, info(2, 0), 2],
    ]
    .concat();
    let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();
    let header = [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
    let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    bytes.extend(header.into_iter().flat_map(u32::to_ne_bytes));
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

pub(crate) fn read_types(bytes: &[u8]) {
    let wanted = BTreeSet::from(["task_struct", "kinds", "task_t"]);
    if let Ok(types) = btf::parse(bytes, &wanted) {
        for path in ["pid", "comm", "comm[3]", "comm[99999999]", "pid.comm"] {
            let _found = types.offset_of("task_struct", path);
            let _found = types.offset_of("task_t", path);
        }
        let _found = types.enum_value("kinds", "ONE");
    }
}

#[test]
fn the_small_kernel_is_one() {
    let bytes = small_btf();
    let types = btf::parse(&bytes, &BTreeSet::from(["task_struct", "kinds"])).expect("it is sound");
    assert_eq!(types.offset_of("task_struct", "comm"), Some(8));
    assert_eq!(types.enum_value("kinds", "ONE"), Some(1));
}

pub(crate) fn formats() -> impl Strategy<Value = Vec<u8>> {
    edited(FORMATS)
}

/// The file has the formats of many events, one after the other.
pub(crate) fn read_formats(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for one in text.split("name: ") {
        if let Ok(format) = Format::parse(one) {
            assert!(!format.fields().is_empty());
        }
    }
}

/// What procfs says of one process.
#[derive(Clone, Debug)]
pub(crate) struct Proc {
    stat: Vec<u8>,
    status: Vec<u8>,
    cgroup: Vec<u8>,
    cmdline: Vec<u8>,
}

pub(crate) fn procfs() -> impl Strategy<Value = Proc> {
    (edited(STAT), edited(STATUS), edited(CGROUP), edited(CMDLINE))
        .prop_map(|(stat, status, cgroup, cmdline)| Proc { stat, status, cgroup, cmdline })
}

pub(crate) fn cpu_files() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (edited(CPU_STAT), edited(SCHED_STAT))
}

pub(crate) fn read_cpu_files((stat, sched): &(Vec<u8>, Vec<u8>)) {
    let _read = CpuStat::parse(&String::from_utf8_lossy(stat));
    let _read = SchedStat::parse(&String::from_utf8_lossy(sched));
}

/// A made-up /proc with one process in it.
pub(crate) struct Tree(PathBuf);

impl Tree {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("healer-properties-{name}-{}", std::process::id()));
        fs::remove_dir_all(&dir).ok();
        fs::create_dir_all(dir.join("proc/4711/task/4711")).expect("the temporary directory can be written");
        fs::create_dir_all(dir.join("cgroup/system.slice/web.service"))
            .expect("the temporary directory can be written");
        symlink("/bin/sh", dir.join("proc/4711/exe")).expect("the temporary directory can be written");
        Self(dir)
    }

    /// The parsers, and identity as a whole.
    pub(crate) fn meet(&self, of: &Proc) {
        let _read = (Stat::parse(&of.stat), Status::parse(&of.status), Membership::parse(&of.cgroup));
        let files =
            [("stat", &of.stat), ("status", &of.status), ("cgroup", &of.cgroup), ("cmdline", &of.cmdline)];
        for (name, bytes) in files {
            fs::write(self.0.join("proc/4711").join(name), bytes)
                .expect("the temporary directory can be written");
        }
        let roots = Roots { proc: self.0.join("proc"), cgroup: self.0.join("cgroup") };
        let mut identity = Identity::new(roots);
        identity.scan(clock::boot());
        for process in identity.processes() {
            assert!(!process.workload.0.is_empty() && process.pid == 4711, "{process:?}");
        }
        let _met = identity.of_pid(4711);
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
