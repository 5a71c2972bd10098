use std::{path::Path, time::Duration};

use healer_tests::{
    binary::healer,
    home::{Agent, Home, pause},
    scratch::Scratch,
    small_disk::SmallDisk,
    victim::Victim,
};
use healer_userspace::fault::{FAULTS, Fault, victim::Victim as FaultVictim};
use serde_json::Value;

use crate::{NOTIFY, agent};

const CLASSES: [&str; 6] =
    ["fd_exhaustion", "pid_exhaustion", "disk_full", "port_exhaustion", "io_error", "zombie_children"];
const HEALTHY: [&str; 4] = ["fd-pool", "forty-children", "temp-half", "connections"];

fn start(fault: &'static Fault, home: &Home) -> Option<FaultVictim> {
    let is_wanted = fault.class.is_some_and(|class| CLASSES.contains(&class.name()));
    let is_twin = HEALTHY.contains(&fault.name);
    // Guests may have no loop devices.
    let can_be_made = fault.name != "io-error" || Path::new("/dev/loop-control").exists();
    ((is_wanted || is_twin) && can_be_made)
        .then(|| FaultVictim::of_binary(&healer(), fault, home.state()).expect("the fault can be made"))
}

/// Diagnoses of our classes.
fn diagnoses(agent: &Agent<'_>) -> Vec<Value> {
    let mut records = agent.home().audit();
    records.retain(|record| {
        record["record"] == "diagnosis" && CLASSES.iter().any(|class| record["class"] == *class)
    });
    records
}

fn is_about(record: &Value, victim: &FaultVictim) -> bool {
    let cgroup = record["target"]["cgroup"].as_str().unwrap_or_default();
    record["target"]["pid"] == victim.pid() || cgroup.contains(victim.cgroup.path().trim_start_matches('/'))
}

/// Other programs' daily bread, beside the faults.
fn neighbours(disk: &SmallDisk, dir: &Scratch) -> Vec<(&'static str, Victim)> {
    let rotates = format!(
        "cd {} && while :; do for i in 1 2 3 4 5 6 7; do head -c 131072 /dev/zero >> log; sleep 0.1; done; \
         mv log log.1; rm log.1; done",
        disk.path().display()
    );
    let compiles = format!(
        "cd {} && while :; do echo 'int main(void) {{ return 0; }}' > a.c; cc a.c -o a; ./a; done",
        dir.path().display()
    );
    let shell = |script: &str| Victim::start("sh", &["-c", script]);
    vec![
        ("log rotation", shell(&rotates)),
        ("a compile job", shell(&compiles)),
        ("find /", shell("while :; do find / -xdev -maxdepth 6 > /dev/null 2>&1; done")),
    ]
}

#[test]
fn every_exhaustion_is_called_by_its_name_and_no_twin_or_neighbour_is() {
    let home = Home::new(NOTIFY);
    // A debug build of the agent is beyond the budget by itself, and would look less often.
    let mut agent = agent(&home, "overhead: {cpuPercent: 60}\nsensors: {syscallErrors: full}");
    let (disk, dir) = (SmallDisk::new("1m"), Scratch::new());
    let neighbours = neighbours(&disk, &dir);
    let made: Vec<FaultVictim> = FAULTS.iter().filter_map(|fault| start(fault, &home)).collect();
    for victim in made.iter().filter(|victim| victim.fault.class.is_some()) {
        let class = victim.fault.class.map_or("", |class| class.name());
        let what = format!("{} as {class}", victim.fault.name);
        let found = agent.wait(&what, |agent| {
            let mut found = diagnoses(agent).into_iter();
            // What is foretold is only suspected; then it is proved.
            found
                .find(|one| one["class"] == class && is_about(one, victim) && one["certainty"] != "suspected")
        });
        let says = found["sentence"].as_str().unwrap_or_default();
        assert!(says.chars().any(|c| c.is_ascii_digit()), "{says}");
    }
    let drip = made.iter().find(|victim| victim.fault.name == "fd-drip").expect("it is in the table");
    let all = diagnoses(&agent);
    let of_drip: Vec<&Value> = all.iter().filter(|one| is_about(one, drip)).collect();
    assert_eq!(of_drip[0]["certainty"], "suspected", "it was told before: {of_drip:?}");
    let left = of_drip[0]["detail"]["time_to_limit_ms"].as_u64();
    assert!(left.is_some_and(|left| 0 < left && left < 60_000), "{left:?}");
    pause(Duration::from_secs(1));
    let all = diagnoses(&agent);
    for twin in made.iter().filter(|victim| victim.fault.class.is_none()) {
        let said: Vec<&Value> = all.iter().filter(|one| is_about(one, twin)).collect();
        assert!(said.is_empty(), "{}: {said:?}", twin.fault.name);
    }
    for (name, neighbour) in &neighbours {
        let is_theirs = |one: &&Value| {
            let pids = [&one["target"]["pid"], &one["target"]["parent"]["pid"]];
            pids.iter().any(|pid| **pid == neighbour.tgid())
                || one["sentence"].as_str().is_some_and(|says| says.contains(&*disk.path().to_string_lossy()))
        };
        let said: Vec<&Value> = all.iter().filter(is_theirs).collect();
        assert!(said.is_empty(), "{name}: {said:?}");
    }
}
