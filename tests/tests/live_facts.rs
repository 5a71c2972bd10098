//! What each rung gives on the running kernel, and what its programs cost the verifier. Needs root.
//!
//! A file named by `HEALER_FACTS` gets it: `sensor NAME RUNG MISSING,…`, `program NAME INSTRUCTIONS` and
//! `otherwise NAME SENTENCE`, in words between tabs. healer-userspace/KERNELS.md is made of the guests' files.
//!
//! guest: all

use std::{collections::BTreeMap, fmt::Write as _, fs};

use healer_common::event::COMPANIONS;
use healer_tests::ladder::kernel_with;
use healer_userspace::sense::{BESIDE, Level, SENSORS, Sense, poll::tasks};

/// A tenth of what the kernel takes (`BPF_COMPLEXITY_LIMIT_INSNS`): room for kernels that prove less.
const INSTRUCTIONS_MAX: u32 = 100_000;

#[test]
fn every_program_is_taken_by_this_kernel_at_a_known_cost() {
    let mut facts = String::new();
    let mut costs = BTreeMap::new();
    for level in Level::ALL {
        let sense = Sense::start(&kernel_with(level));
        for (status, sensor) in sense.sensors().iter().zip(SENSORS) {
            let rung = sensor.rungs.iter().find(|rung| rung.level() == level);
            assert_eq!(status.via, rung.map(|rung| rung.via()), "{status:?}");
            if let Some(via) = status.via {
                writeln!(facts, "sensor\t{}\t{via}\t{}", status.name, status.missing.join(",")).unwrap();
            }
        }
        // The scan needs types, not typed arguments.
        if let (Some(scan), Level::TpBtf | Level::Tracepoint) = (sense.sensors().last(), level) {
            let via = scan.via.unwrap_or_default();
            assert_eq!(via, if level == Level::TpBtf { "iter/task" } else { "proc" }, "{scan:?}");
            writeln!(facts, "sensor\t{}\t{via}\t{}", scan.name, scan.missing.join(",")).unwrap();
        }
        for program in sense.programs() {
            costs.insert(program.name, program.verified.expect("kernel 5.16 counts them"));
        }
    }
    let programs = SENSORS.iter().flat_map(|sensor| sensor.rungs).filter_map(|rung| rung.program());
    let beside = BESIDE.iter().map(|beside| beside.program);
    let variants = ["", "_raw", "_tp"];
    let companions =
        COMPANIONS.iter().flat_map(|one| variants.map(|variant| format!("{}{variant}", one.program)));
    let fixed = programs.chain(beside).chain([tasks::PROGRAM]).map(str::to_owned);
    for program in fixed.chain(companions) {
        let cost =
            *costs.get(program.as_str()).unwrap_or_else(|| panic!("{program} was not loaded: {costs:?}"));
        assert!(0 < cost && cost < INSTRUCTIONS_MAX, "{program}: {cost}");
        writeln!(facts, "program\t{program}\t{cost}").unwrap();
    }
    for sensor in SENSORS {
        writeln!(facts, "otherwise\t{}\t{}", sensor.kind.name(), sensor.otherwise).unwrap();
    }
    if let Some(file) = std::env::var_os("HEALER_FACTS") {
        fs::write(file, facts).unwrap();
    }
}
